"""What kept a trial from going faster, and what its figures can't be trusted for. Pure rules over what was recorded.

The rules, with their thresholds, are told in results/README.md. Nothing is measured, and no trial is failed here.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from bench.histograms import decode, quantiles_us
from bench.metrics import PERCENTILES
from bench.record import Load, Machine, Network, Server, Trial
from bench.stats import samples_needed

SERVER_BOUND = 0.95  # of the CPU time that the server's threads were allowed
CLIENT_BOUND = 0.80  # of the CPU time that the busiest load thread was allowed
LAG_FLOOR_US = 100.0
LAG_SHARE = 0.10  # of the p99 of the response time
TREND_P = 0.01
RATE_DRIFT = 0.10  # between the first third of the window and the last
RESPONSE_DRIFT = 0.25
LIVELY = 10  # echoes on each connection, on average
STANDSTILL_NS = 500_000_000  # shorter ones may be the machine's
MOST_POINTS = 30  # that a trend is looked for in: more intervals are taken together

Bottleneck = Literal["", "server", "client", "latency"]


def bottleneck(load: Load, server: Server, machine: Machine | None = None) -> Bottleneck:
    """What kept the trial from going faster: server or client, by the CPU time each was allowed; otherwise latency."""
    if server_share(server, machine) >= SERVER_BOUND:
        return "server"
    if client_share(load, machine) >= CLIENT_BOUND:
        return "client"
    return "latency"


def server_share(server: Server, machine: Machine | None) -> float:
    """How much of the CPU time that the server's threads were allowed they used.

    What others had of its CPUs while it wanted them was not allowed to it. Two figures bound that from above: the time
    that the CPUs were neither idle nor the server's own, which is too much where it slept meanwhile; and the time that
    its busiest thread ran or waited, less all that ran of the server. The latter counts no wait of one thread for
    another, and of a thread that never slept it leaves nothing out. The moment that each wake-up takes with nobody else
    there is in the second figure only, and so it is not counted.
    """
    window_ns, cpus = server.closed_ns - server.opened_ns, max(1, len(server.cpus))
    used_ns = server.metrics["cpu_ns"]
    wanted_ns = server.metrics.get("thread_demand_ns", 0.0) - used_ns
    lost = 0.0
    if machine is not None:
        left_ns = cpus * window_ns - machine.server_idle_ns - used_ns
        lost = lost_ns(left_ns, wanted_ns, machine.server_steal_ns)
    # A thread is on one CPU at a time: fewer threads than CPUs can't use them all.
    allowed_ns = window_ns * min(cpus, max(1, server.metrics.get("threads", cpus))) - lost
    return used_ns / max(allowed_ns, used_ns, 1)


def client_share(load: Load, machine: Machine | None) -> float:
    """How much of the CPU time that the busiest load thread was allowed it used, or all of them where they share CPUs.

    Time spent looking at the clock is not in `worker_busy`: it could have been used.
    """
    busiest = max(load.worker_busy, default=0.0)
    if machine is None:
        return busiest
    window_ns, cpus = max(1, load.closed_ns - load.opened_ns), max(1, len(machine.load_cpus))
    left_ns = window_ns * cpus - machine.load_idle_ns - load.cpu_user_ns - load.cpu_system_ns
    lost = lost_ns(left_ns, machine.load_wait_ns or 0.0, machine.load_steal_ns)
    usable = min(cpus, load.threads) - lost / window_ns
    busiest = max(busiest, sum(load.worker_busy) / min(cpus, load.threads))
    return busiest / max(busiest, usable / min(cpus, load.threads), 1e-9)


def lost_ns(left_ns: float, wanted_ns: float, steal_ns: float) -> float:
    """The CPU time that a process wanted and others had: no more than it left to them, nor than it wanted.

    Stolen time can only fall when there was something to run. Some kernels count it as the process's own; then it is
    not in what was left, and so not taken off twice.
    """
    return max(0.0, min(left_ns, max(0.0, wanted_ns) + steal_ns))


def flags(trial: Trial, load: Load, limit: Bottleneck, network: Network | None = None) -> list[str]:
    """What to bear in mind about a measurement."""
    found = {
        "client_bound": limit == "client",
        "lagging_schedule": lagging(trial, load),
        "unsteady": unsteady(load),
        "censored": bool(lower_bounds(load)),
        "syn_drops": trial.transport == "tcp" and network is not None and network.listen_drops > 0,
    }
    return [name for name, holds in found.items() if holds]


def quiet_s(load: Load) -> float:
    """How long no echo had come when the window closed, where the server must have come to a standstill; else 0.

    That is so where every connection had had ten echoes, on average, and then for the greater part of the window none
    had one, though messages were on their way.
    """
    empty = 0
    for completed in reversed(load.intervals):
        if completed:
            break
        empty += 1
    window_ns = load.closed_ns - load.opened_ns
    silent_ns = window_ns - (len(load.intervals) - empty) * load.interval_ns
    served = load.completed >= LIVELY * max(1, load.connections)
    still = load.in_flight > 0 and served and silent_ns > max(STANDSTILL_NS, window_ns / 2)
    return silent_ns / 1e9 if still else 0.0


def unanswered(load: Load) -> str:
    """Say how many connections never had an echo while others had; "" where none did, or all of them.

    What the others got is not what all would have got: such a trial is no figure of so many connections.
    """
    if not load.mute or not load.completed:
        return ""
    return f"{load.mute} of {load.connections} connections had no echo in the window"


def lagging(trial: Trial, load: Load) -> bool:
    """Whether sends were so late that lateness is a good part of the response times.

    Lateness is part of the response time. One late send in a hundred may not make up more than a tenth of the slowest
    responses in a hundred, unless it is below what a sleep is late by anyway. With a cap, messages wait for those
    before them on purpose, and lateness tells nothing of the client.
    """
    lag, response = decode(load.lag_hdr), decode(load.response_hdr)
    if lag is None or response is None or trial.cap:
        return False
    late_us, response_us = float(quantiles_us(lag, [0.99])[0]), float(quantiles_us(response, [0.99])[0])
    return late_us > max(LAG_FLOOR_US, LAG_SHARE * response_us)


def lower_bounds(load: Load) -> list[str]:
    """Names of the percentiles of the response time that are only lower bounds, of those that can be told at all.

    What was in flight or unsent when the window closed would have come after all that was answered: of n + c messages,
    c of them such, no percentile above n/(n+c) is known. Without a plan, messages in flight are those that a closed
    loop always has, and their number says nothing.
    """
    if not load.response_hdr:
        return []
    known = load.completed / max(1, load.completed + load.in_flight + load.unsent)
    return [name for share, name in PERCENTILES if share > known and load.completed >= samples_needed(share)]


def unsteady(load: Load) -> bool:
    """Whether the trial drifted within its window: a trend that is not by chance, and large enough to matter.

    Where sends are planned, as many come back as were sent, and the medians of the response times tell; elsewhere the
    completions do. The last interval is left out where it is shorter than the others.
    """
    whole = int((load.closed_ns - load.opened_ns) // max(1, load.interval_ns))
    step = max(1, -(-whole // MOST_POINTS))
    if load.response_hdr:
        times = [decode(text) for text in load.interval_hdrs[:whole:step]]
        return drifts([float(quantiles_us(one, [0.5])[0]) for one in times if one is not None], RESPONSE_DRIFT)
    groups = [load.intervals[start : start + step] for start in range(0, whole - step + 1, step)]
    return drifts([sum(group) / step for group in groups], RATE_DRIFT)


def drifts(values: Sequence[float], least: float) -> bool:
    """Whether a series has a trend, and its last third differs from the first by more than the share `least`."""
    third = len(values) // 3
    if third == 0 or trend_p(values) >= TREND_P:
        return False
    first, last = statistics.mean(values[:third]), statistics.mean(values[-third:])
    return abs(last - first) > least * max(min(first, last), 1e-9)


def trend_p(values: Sequence[float]) -> float:
    """The two-sided p-value of the Mann-Kendall test: how often chance alone orders values as well as these.

    Exact where all values differ (Mann: Nonparametric tests against trend, 1945; Kendall: Rank Correlation Methods,
    chapter 5); equal ones count as half an inversion each, which makes the p-value too large rather than too small.
    """
    n = len(values)
    pairs = n * (n - 1) // 2
    inversions = sum(
        1.0 if values[i] > values[j] else 0.5 if values[i] == values[j] else 0.0
        for i in range(n)
        for j in range(i + 1, n)
    )
    fewer = int(min(inversions, pairs - inversions) + 0.5)  # rounded up: the cautious way
    return min(1.0, 2 * sum(_inversions_null(n)[: fewer + 1]))


@lru_cache(maxsize=64)
def _inversions_null(n: int) -> tuple[float, ...]:
    """The probability of each number of inversions in a random order of n values."""
    chances = [1.0]
    for size in range(2, n + 1):
        longer = [0.0] * (len(chances) + size - 1)
        for number, chance in enumerate(chances):
            for more in range(size):
                longer[number + more] += chance / size
        chances = longer
    return tuple(chances)
