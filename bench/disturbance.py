"""Whether others disturbed a window: by the kernel's own accounts, of stolen time, of waiting, of a CPU quota.

One rule for sweep and gate: what was disturbed doesn't count, and is counted. Pure, but for the length of a tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.probes.machine import TICK_NS
from bench.record import Machine
from bench.validity import HYPERVISOR, OTHERS, QUOTA

MOST_WAIT = 0.10  # of a window
MOST_STEAL = 0.01
LONG_NS = 20 * TICK_NS


def disturbance(
    window_ns: int, server_cpus: Sequence[int], metrics: Mapping[str, float], load_cpu_ns: float, machine: Machine
) -> str:
    """Say why a window does not count: others had the CPUs for too much of it. "" where it does.

    `metrics` are those of the server, `load_cpu_ns` is the load generator's CPU time. What others had of the server's
    CPUs can't be told without its "cpu_ns".
    """
    if stopped := throttled(machine):
        return stopped
    if "cpu_ns" not in metrics:
        return ""
    wait = waited_for_others(window_ns, server_cpus, metrics, load_cpu_ns, machine)
    if wait > MOST_WAIT:
        return f"{OTHERS} during {100 * wait:.0f} % of a window"
    steal = stolen(window_ns, machine)
    if steal > MOST_STEAL:
        return f"{HYPERVISOR} {100 * steal:.0f} % of a window"
    return ""


def throttled(machine: Machine) -> str:
    """Say how often a CPU quota stood in the way; "" where it never did, or there is none.

    What it takes from one turn it takes from that alone, and how much is a matter of when the turn began: there is no
    share of it that would do no harm.
    """
    if not machine.throttled_periods and not machine.throttled_ns:
        return ""
    periods = max(1, round(machine.throttled_periods))
    return f"{QUOTA}: used up before its time in {periods} period{'s' * (periods > 1)}"


def waited_for_others(
    window_ns: int, server_cpus: Sequence[int], metrics: Mapping[str, float], load_cpu_ns: float, machine: Machine
) -> float:
    """The share of a window for which server or load, whichever is worse, waited for a CPU that somebody else had.

    Threads of one server wait for each other, too, and that is the strategy's own affair: the wait for others is at
    most what the busiest thread ran or waited, less all that ran of the server; with one thread that is its wait. Nor
    can it be longer than others ran: than the CPUs were neither idle, nor stolen, nor ours. The load also waits while
    the harness reads its counters, on the CPU that they may have to share; either side waits for that in each turn.
    """
    window_ns = max(1, window_ns)
    server_ns = metrics["cpu_ns"]
    both = bool({*server_cpus} & {*machine.load_cpus})

    def share(cpus: Sequence[int], idle_ns: float, steal_ns: float, own_ns: float, waited_ns: float) -> float:
        others_ns = max(1, len(cpus)) * window_ns - idle_ns - steal_ns - own_ns
        return max(0.0, min(others_ns, waited_ns)) / window_ns

    waited_ns = metrics.get("thread_demand_ns", 0.0) - server_ns
    ours, theirs = server_ns + both * load_cpu_ns, load_cpu_ns + both * server_ns + machine.harness_ns
    return max(
        share(server_cpus, machine.server_idle_ns, machine.server_steal_ns, ours, waited_ns),
        share(machine.load_cpus, machine.load_idle_ns, machine.load_steal_ns, theirs, machine.load_wait_ns or 0.0),
    )


def stolen(window_ns: int, machine: Machine) -> float:
    """The share of a window that the hypervisor took from the CPUs of either side, as far as the kernel knows.

    It tells that in whole ticks (proc_stat(5)), of 10 ms as a rule. One of them may have been nearly full long before,
    so a long window is given it. In one of a few ticks it is most of what there was: in turns of 10 ms with a stolen
    tick throughput was half of that in others, and leaving out those, 0 to 4 in a hundred, took away half of the noise.
    """
    taken_ns = max(machine.server_steal_ns, machine.load_steal_ns)
    if window_ns > LONG_NS:
        taken_ns -= TICK_NS
    return max(0.0, taken_ns) / max(1, window_ns)
