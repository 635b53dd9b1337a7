"""Claim: recording costs next to nothing, and no memory that grows with the length of a run."""

from __future__ import annotations

from statistics import median

from bench.calibrate.claim import Check, Claim, Outcome, at_most
from bench.calibrate.recorder import Memory, memory_of_all
from bench.calibrate.rig import Peer, Rig
from bench.calibrate.stall import rate_of

PAIR_S = 0.4
MIB = 1 << 20
HOUR_BYTES = 64 * MIB  # every interval has a histogram of its own; most of it is what malloc keeps in reserve
MORE_BYTES = 8 * MIB


def measure(rig: Rig) -> Outcome:
    """Alternate runs with recording on and off against the null echo."""
    pairs = rig.choose(10, 3)
    with rig.peer("loop", "pipe") as peer:
        _rate(rig, peer, False)  # warm
        ratios = []
        for pair in range(pairs):
            first = pair % 2 == 0  # ABBA: a drift of the machine's speed cancels out
            rates = {off: _rate(rig, peer, off) for off in ((not first), first)}
            ratios.append(rates[False] / rates[True])
    hour, day = memory_of_all([1, 24], rig.cpus)
    figures = {"pairs": float(pairs), "intervals_of_an_hour": float(hour.intervals)}
    return Outcome([cost_check(ratios), *memory_checks(hour, day)], figures, [])


def _rate(rig: Rig, peer: Peer, off: bool) -> float:
    return rate_of(rig.drive(peer, connections=64, duration_s=PAIR_S, warmup_s=0.05, record_off=off).load)


def cost_check(ratios: list[float]) -> Check:
    """The rate with recording, by that without it, in the middle pair."""
    return at_most("throughput lost to recording", (1 - median(ratios)) * 100, 5.0, "%")


def memory_checks(hour: Memory, day: Memory) -> list[Check]:
    """A window of an hour takes some megabytes, and one of a day no more than that."""
    figures = {
        "memory of an hour's window": (hour.grown_bytes, HOUR_BYTES),
        "what a day's takes more": (day.grown_bytes - hour.grown_bytes, MORE_BYTES),
    }
    return [at_most(what, value / MIB, limit / MIB, "MiB", timed=False) for what, (value, limit) in figures.items()]


CLAIM = Claim(
    "self-cost",
    "Recording costs at most 5 % of the throughput, and memory does not grow with the length of a run.",
    measure,
)
