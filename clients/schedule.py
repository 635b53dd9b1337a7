"""The plan of an open loop: when each message is due, laid out in advance and whatever the server does.

Message k of a thread is due at a time that follows from k and the seed, so that a plan is never stored: a clock walks
along it, and a copy of the clock tells how many messages were due by any moment. Nothing is sent in this file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from clients.compiled import compiled, inlined
from clients.payload import GOLDEN, mix

PLAN = np.dtype(
    [
        ("start_ns", np.int64),  # CLOCK_MONOTONIC
        ("first_ns", np.float64),  # from the start to message 0, where the gaps are constant
        ("mean_ns", np.float64),  # of the gaps between the messages of this thread
        ("poisson", np.int64),  # 1: exponential gaps, 0: constant ones
        ("seed", np.uint64),
        ("number", np.int64),  # the next message: `number` is how many came before it
        ("elapsed_ns", np.float64),  # from the start to when it is due
        ("next_ns", np.int64),  # when it is due
    ],
    align=True,
)

Plan = np.ndarray[Any, np.dtype[np.void]]

_SALT = 0x9FB21C651E98DF25  # keeps the gaps apart from the payloads, which follow from the same seed
_MASK = 0xFFFF_FFFF_FFFF_FFFF


@inlined
def gap_ns(seed, number, mean_ns):  # type: ignore[no-untyped-def]
    """Return the exponential gap before a message, a pure function of seed and number: inversion of splitmix64."""
    word = mix(seed + np.uint64(number) * GOLDEN)
    uniform = (np.float64(word >> np.uint64(11)) + 1.0) * 2.0**-53  # above 0, at most 1
    return -math.log(uniform) * mean_ns


@inlined
def walk(plan):  # type: ignore[no-untyped-def]
    """Go on to the next message."""
    plan.number += 1
    if plan.poisson == 1:
        plan.elapsed_ns += gap_ns(plan.seed, plan.number, plan.mean_ns)
    else:
        plan.elapsed_ns = plan.first_ns + plan.number * plan.mean_ns  # a product: no error adds up
    plan.next_ns = plan.start_ns + np.int64(plan.elapsed_ns)


@compiled
def _walk_past(plan_row, at_ns):  # type: ignore[no-untyped-def]
    plan = plan_row[0]
    while plan.next_ns <= at_ns:
        walk(plan)


@compiled
def _walk_along(plan_row, times_ns):  # type: ignore[no-untyped-def]
    plan = plan_row[0]
    for k in range(len(times_ns)):
        times_ns[k] = plan.next_ns
        walk(plan)


def planned(rate_hz: float, arrivals: str, seed: int, thread: int = 0, threads: int = 1) -> Plan:
    """Return the plan of one of several threads, an array of one row, that starts at 0 ns.

    Together the threads' plans have the rate. Constant arrivals are dealt to the threads in turn; Poisson arrivals are
    independent processes, whose sum is again one.
    """
    plan: Plan = np.zeros(1, PLAN)
    plan["first_ns"] = thread * 1e9 / rate_hz
    plan["mean_ns"] = threads * 1e9 / rate_hz
    plan["poisson"] = arrivals == "poisson"
    scrambled = (seed * int(GOLDEN) ^ _SALT) + thread * 0xD6E8FEB86659FD93
    plan["seed"] = np.uint64(scrambled & _MASK)
    plan["number"] = -1
    _walk_along(plan, np.empty(1, np.int64))
    return plan


def start(plan: Plan, at_ns: int) -> None:
    """Let a plan that has not been walked along begin at a moment."""
    postpone(plan, at_ns)


def postpone(plan: Plan, by_ns: int) -> None:
    """Move all that is still to come: the clock of the plan stood still for so long."""
    plan["start_ns"] += by_ns
    plan["next_ns"] += by_ns


def due_by(plan: Plan, at_ns: int) -> int:
    """Return how many messages were due by a moment that the clock has not passed."""
    ahead = plan.copy()
    _walk_past(ahead, np.int64(at_ns))
    return int(ahead["number"][0])


def due_times_ns(plan: Plan, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return when the next `count` messages are due."""
    times_ns = np.empty(count, np.int64)
    _walk_along(plan.copy(), times_ns)
    return times_ns
