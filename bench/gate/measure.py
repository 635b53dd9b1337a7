"""Measure one pair: a fresh server process of base and one of head, the same load on each, in turns.

From process to process throughput varies by far more than within one, so the process is the unit. And a shared machine
is faster at one moment than at the next: so both processes are there together and take many short turns, A B B A, of
which all that lasts longer than a turn or two meets both alike. The one whose turn it isn't is stopped: a server that
polls would take the other's CPU. What was disturbed even so is told by the kernel's own accounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from bench import validity
from bench.gate.model import CPU, MEMORY, P50, P99, THROUGHPUT, Case, Pair, Sample
from bench.gate.sides import Source
from bench.gate.turns import Contestant, Rig, drive, enter, leave, take_turns, total
from bench.histograms import decode, quantiles_us
from bench.probes.machine import TICK_NS
from bench.record import Load, Machine, Server, Trial
from bench.trial import NOTHING_COMPLETED

# A turn is as short as the opening of connections before it lets it be worth while; in all, either side has
# of a second at full load, enough for a thousand messages of the slowest strategies.
WARM_UP_S = 0.02
TURN_S = 0.015
FULL_LOAD_S = 0.18
FIXED_RATE_TURN_S = 0.05
FIXED_RATE_S = 0.2
CONNECTION_S = 0.00025  # a turn is longer by this for each connection: each must have its share of messages in it
# Of what base can do. A queue that a standstill of the machine leaves behind is gone the sooner the less is offered: at
# half load twice as many messages suffer as come meanwhile.
OFFERED_SHARE = 0.25
MOST_WAIT = 0.10
MOST_STEAL = 0.01
FEWEST_CONNECTIONS = 8  # for memory per connection: below, a page more or less is all that would be seen


def measure_pair(
    rig: Rig,
    case: Case,
    base: Source,
    head: Source,
    *,
    first: Literal["base", "head"],
    offered_hz: float,
    number: int,
    attempt: int,
) -> Pair:
    """Measure both sides at full load, then, with `offered_hz`, at that rate.

    Raises Interrupted; all else that goes wrong is in the pair.
    """
    sides: list[Contestant] = []
    try:
        for source in (base, head) if first == "base" else (head, base):
            sides.append(enter(rig, case.trial, source))
        _measure(rig, case.trial, sides, offered_hz)
    finally:
        for one in sides:
            leave(one)
    by_role = {one.source.side.role: _sample(case.trial, one) for one in sides}
    pair = Pair(
        case=case.name,
        round=number,
        attempt=attempt,
        first=first,
        offered_hz=offered_hz,
        base=by_role["base"],
        head=by_role["head"],
    )
    pair.disturbed = disturbance(pair)
    return pair


def disturbance(pair: Pair) -> str:
    """Why a pair doesn't count; "" where it does."""
    wait = max(pair.base.wait, pair.head.wait)
    steal = max(pair.base.steal, pair.head.steal)
    if wait > MOST_WAIT:
        return f"others had a CPU that was waited for during {100 * wait:.0f} % of a window"
    if steal > MOST_STEAL:
        return f"the hypervisor took {100 * steal:.0f} % of a window"
    return ""


def _measure(rig: Rig, trial: Trial, sides: Sequence[Contestant], offered_hz: float) -> None:
    """Let both sides have their turns at full load and, with `offered_hz`, at that rate. Raises Interrupted."""
    at_full_load = _turn(trial, TURN_S)
    at_rate = msgspec.structs.replace(_turn(trial, FIXED_RATE_TURN_S), workload="open", arrivals="constant", depth=1)

    def full(one: Contestant) -> None:
        one.full += drive(rig, one, at_full_load, 0.0)

    def fixed(one: Contestant) -> None:
        one.fixed += drive(rig, one, at_rate, offered_hz)

    take_turns(sides, turns(FULL_LOAD_S, at_full_load.duration_s), full)
    if offered_hz:
        take_turns(sides, turns(FIXED_RATE_S, at_rate.duration_s), fixed)


def _turn(trial: Trial, turn_s: float) -> Trial:
    """A turn at that point."""
    lasting_s = max(turn_s, CONNECTION_S * trial.connections)
    return msgspec.structs.replace(trial, warmup_s=WARM_UP_S, duration_s=lasting_s)


def turns(in_all_s: float, turn_s: float) -> int:
    """How many turns of a length each side has: an even number, so that neither is always the second."""
    return max(2, 2 * round(in_all_s / turn_s / 2))


def _sample(trial: Trial, one: Contestant) -> Sample:
    """What one side came to."""
    faults = list(dict.fromkeys(one.faults))
    if not faults and not sum(window.load.completed for window in one.full):
        faults.append(NOTHING_COMPLETED)
    if faults:
        return Sample(metrics={}, failed="; ".join(faults))
    full = total(one.full)
    fixed = total(one.fixed) if one.fixed else None
    load, server = full.load, full.server
    rate_hz = load.completed / ((load.closed_ns - load.opened_ns) / 1e9)
    probed_s = (server.closed_ns - server.opened_ns) / 1e9
    metrics = {
        THROUGHPUT.name: rate_hz,
        CPU.name: server.metrics["cpu_ns"] / probed_s / rate_hz / 1e3,
    }
    if trial.connections >= FEWEST_CONNECTIONS and one.at_start_bytes and "rss_bytes" in server.metrics:
        metrics[MEMORY.name] = (server.metrics["rss_bytes"] - one.at_start_bytes) / trial.connections
    hist = decode(fixed.load.response_hdr) if fixed else None
    if hist is not None:
        metrics[P50.name], metrics[P99.name] = quantiles_us(hist, (0.5, 0.99)).tolist()
    stages = [full, *([fixed] if fixed else [])]
    return Sample(
        metrics=metrics,
        response_hdr=fixed.load.response_hdr if fixed and hist is not None else "",
        wait=max(waited_for_others(stage.load, stage.server, stage.machine) for stage in stages),
        steal=max(stolen(stage.server, stage.machine) for stage in stages),
        client_bound=validity.bottleneck(load, server, full.machine) == "client",
    )


def waited_for_others(load: Load, server: Server, machine: Machine | None) -> float:
    """The share of the window for which server or load, whichever is worse, waited for a CPU that somebody else had.

    Threads of one server wait for each other, too, and that is the strategy's own affair: the wait for others is at
    most what the busiest thread ran or waited, less all that ran of the server; with one thread that is its wait. Nor
    can it be longer than others ran: than the CPUs were neither idle, nor stolen, nor ours. The load also waits while
    the harness reads its counters, on the CPU that they may have to share; either side waits for that in each turn.
    """
    if machine is None:
        return 0.0
    window_ns = max(1, server.closed_ns - server.opened_ns)
    server_ns, load_ns = server.metrics["cpu_ns"], float(load.cpu_user_ns + load.cpu_system_ns)
    both = bool({*server.cpus} & {*machine.load_cpus})

    def share(cpus: Sequence[int], idle_ns: float, steal_ns: float, own_ns: float, waited_ns: float) -> float:
        others_ns = max(1, len(cpus)) * window_ns - idle_ns - steal_ns - own_ns
        return max(0.0, min(others_ns, waited_ns)) / window_ns

    waited_ns = server.metrics.get("thread_demand_ns", 0.0) - server_ns
    ours, theirs = server_ns + both * load_ns, load_ns + both * server_ns + machine.harness_ns
    return max(
        share(server.cpus, machine.server_idle_ns, machine.server_steal_ns, ours, waited_ns),
        share(machine.load_cpus, machine.load_idle_ns, machine.load_steal_ns, theirs, machine.load_wait_ns or 0.0),
    )


def stolen(server: Server, machine: Machine | None) -> float:
    """The share of the window that the hypervisor took from the CPUs of either side, as far as the kernel knows.

    It tells that in whole ticks (proc_stat(5)), of 10 ms as a rule: one of them may have been nearly full long before.
    """
    if machine is None:
        return 0.0
    taken_ns = max(machine.server_steal_ns, machine.load_steal_ns) - TICK_NS
    return max(0.0, taken_ns) / max(1, server.closed_ns - server.opened_ns)
