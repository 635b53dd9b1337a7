"""What kept a trial from going faster, and what its figures can't be trusted for. Pure rules over what was recorded.

The rules, with their thresholds, are told in results/README.md. Nothing is measured, and no trial is failed here.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

from bench.histograms import decode, quantiles_us
from bench.metrics import PERCENTILES
from bench.record import Load, Machine, Network, Server, Trial, Turn
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
OUT_OF_STEP = 0.10  # of the window
# The load stays on for a second after its window, and a millisecond more for each connection (bench.load.HOLD_S): what
# is read that much late is still of a server under load.
LATE_NS = 250_000_000
LATE_EACH_NS = 100_000  # for each connection: there may be a process for it, to be read
NOT_COMPARED = ("disturbed", "throttled")  # flags of trials that are in no comparison while there are others
# What disturbed a turn: how the reason of one that does not count begins.
OTHERS = "others had a CPU that was waited for"
HYPERVISOR = "the hypervisor took"
QUOTA = "a CPU quota stopped it"
HARNESS = "the harness stood still"
MOST_POINTS = 30  # that a trend is looked for in: more intervals are taken together

Bottleneck = Literal["", "server", "client", "latency"]


def bottleneck(load: Load, server: Server, machine: Machine | None = None) -> Bottleneck:
    """What kept the trial from going faster: server or client, by the CPU time each was allowed; otherwise latency.

    "" where the server's CPU time is not known.
    """
    if "cpu_ns" not in server.metrics:
        return ""
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


def flags(
    trial: Trial, load: Load, limit: Bottleneck, network: Network | None = None, turns: Sequence[Turn] = ()
) -> list[str]:
    """What to bear in mind about a measurement, as a whole or in turns."""
    found = {
        "client_bound": limit == "client",
        "lagging_schedule": lagging(trial, load),
        "unsteady": unsteady(load),
        "censored": bool(lower_bounds(load)),
        "standstill": standstill(load, turns) is not None,
        "syn_drops": trial.transport == "tcp" and network is not None and network.listen_drops > 0,
    }
    return [name for name, holds in found.items() if holds]


class Span(NamedTuple):
    """A part of a window: an interval of it, or a turn. Times are ns."""

    opened_ns: float
    closed_ns: float
    completed: int


class Silence(NamedTuple):
    """Parts of a window, one after the other, in which no echo came.

    `lasted_ns` is the length of all of them, `elapsed_ns` the time from the first one's start to the last one's end, in
    which others may have had their turns.
    """

    lasted_ns: float
    elapsed_ns: float
    at_end: bool


def spans_of(load: Load, turns: Sequence[Turn] = ()) -> list[Span]:
    """The parts of a trial's windows: its turns that count, where it was measured in turns, else its intervals."""
    kept = [turn for turn in turns if not turn.disturbed] or turns
    if kept:
        return [Span(turn.opened_ns, turn.closed_ns, turn.completed) for turn in kept]
    length_ns = (load.closed_ns - load.opened_ns) / max(1, len(load.intervals))
    starts = [load.opened_ns + number * length_ns for number in range(len(load.intervals))]
    return [Span(at, at + length_ns, completed) for at, completed in zip(starts, load.intervals, strict=True)]


def standstill(load: Load, turns: Sequence[Turn] = ()) -> Silence | None:
    """The longest silence of a window, where the server must have stood still; None where there is none.

    That is so where each connection would have had ten echoes in it, on average, at the rate of the rest of the window.
    At the end of a window, messages must have been on their way.
    """
    spans = spans_of(load, turns)
    longest = max(_silences(spans), key=lambda silence: silence.lasted_ns, default=None)
    if longest is None or (longest.at_end and not load.in_flight):
        return None
    rest_ns = sum(span.closed_ns - span.opened_ns for span in spans) - longest.lasted_ns
    missed = load.completed * longest.lasted_ns / max(1.0, rest_ns)
    return longest if missed >= LIVELY * max(1, load.connections) else None


def _silences(spans: Sequence[Span]) -> list[Silence]:
    found = []
    for echoed, group in groupby(spans, key=lambda span: span.completed > 0):
        parts = list(group)
        if not echoed:
            lasted_ns = sum(part.closed_ns - part.opened_ns for part in parts)
            found.append(Silence(lasted_ns, parts[-1].closed_ns - parts[0].opened_ns, parts[-1] is spans[-1]))
    return found


def quiet(load: Load, turns: Sequence[Turn] = ()) -> str:
    """Say where a server stood still for so much of its window that the trial has failed; "" where it did not.

    That is for more than half of it, and for longer than a machine may stand still.
    """
    found = standstill(load, turns)
    window_ns = load.closed_ns - load.opened_ns
    if found is None or found.lasted_ns <= window_ns / 2 or found.elapsed_ns <= STANDSTILL_NS:
        return ""
    return f"no echo came {'in the last' if found.at_end else 'for'} {found.lasted_ns / 1e9:.1f} s of the window"


def out_of_step(load: Load, opened_ns: int, closed_ns: int) -> str:
    """Say where a server was read at other times than those of the load's window; "" where it was read in time.

    Whoever reads does so when he is told of a window's start and end. Where he stands still meanwhile (a suspended
    machine, SIGSTOP, a terminal that takes no more output), what he reads is of another time: of the load before or
    after, or of none at all. Times are ns of the same CLOCK_MONOTONIC as the load's.
    """
    apart_ns = abs(opened_ns - load.opened_ns) + abs(closed_ns - load.closed_ns)
    allowed_ns = max(OUT_OF_STEP * (load.closed_ns - load.opened_ns), LATE_NS + LATE_EACH_NS * load.connections)
    if apart_ns <= allowed_ns:
        return ""
    return f"{HARNESS}: its readings of the server are {apart_ns / 1e9:.1f} s beside the load's window"


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
