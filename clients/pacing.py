"""How a planned time is waited for: asleep until shortly before it, then looking at the clock for the last stretch.

A sleep ends late by the timer's slack and by what it takes to wake up: a few microseconds or a hundred, depending on
the machine and on what else it does. The last stretch makes up for that: it is as long as 99 sleeps in 100 are late at
most. It costs CPU time, which is counted apart: a thread that looks at the clock has time to spare.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from clients import wire
from clients.compiled import compiled, inlined

PACE = np.dtype(
    [
        ("fine", np.int64),  # 1: epoll_pwait2 is there, 0: whole milliseconds only
        ("spin_ns", np.float64),  # the last stretch, which follows what sleeps are late, in these bounds:
        ("least_ns", np.float64),
        ("most_ns", np.float64),
        ("spun_ns", np.int64),  # time spent in it so far
    ],
    align=True,
)

Pace = np.ndarray[Any, np.dtype[np.void]]

LEAST_NS = 10_000.0
MOST_NS = 200_000.0
_SHARE = 0.05  # where messages are rare the last stretch may be longer, up to this share of the mean gap ...
_LONGEST_NS = 1_000_000.0  # ... but no longer than this
# A sleep that was later than the stretch lengthens it, any other shortens it, so that 1 balances 99.
_LONGER = 1.25
_SHORTER = 0.99775
_LOOK_NS = 5_000  # one look at what has come and at the clock takes less
_COARSE_SPIN_NS = 1_000_000  # what whole milliseconds leave
_PR_SET_TIMERSLACK = 29  # <linux/prctl.h>


@inlined
def wait(pace, epoll_fd, events, now_ns, until_ns, timespec):  # type: ignore[no-untyped-def]
    """Wait for events, at most until shortly before a moment; returns their number, -1 on error.

    To be called again until the moment has come: close to it, it returns at once.
    """
    spin_ns = np.int64(pace.spin_ns)
    left_ns = until_ns - now_ns - spin_ns
    # The kernel allows itself a slack of 0.1 % of the timeout (fs/select.c, select_estimate_accuracy).
    left_ns -= left_ns >> 9
    if left_ns <= 0:
        ready = wire.epoll_wait(epoll_fd, events, 0)
        if ready == 0 and until_ns > now_ns:
            pace.spun_ns += min(wire.monotonic_ns(timespec) - now_ns, _LOOK_NS)  # longer: another had the CPU
        return np.int64(ready)
    if pace.fine == 0:
        return np.int64(wire.epoll_wait(epoll_fd, events, min(left_ns // 1_000_000, 1_000)))
    ready = wire.epoll_wait_ns(epoll_fd, events, left_ns, timespec)
    if ready == 0:
        late_ns = wire.monotonic_ns(timespec) - (until_ns - spin_ns)
        if late_ns > 0:
            factor = _LONGER if late_ns > spin_ns else _SHORTER
            pace.spin_ns = min(max(pace.spin_ns * factor, pace.least_ns), pace.most_ns)
    return ready


@compiled
def _try_fine(epoll_fd, events, timespec):  # type: ignore[no-untyped-def]
    return wire.epoll_wait_ns(epoll_fd, events, 0, timespec)


def choose(epoll_fd: int, events: Any, timespec: Any, mean_gap_ns: float) -> Pace:
    """Return what this machine and a rate allow: an array of one row."""
    pace: Pace = np.zeros(1, PACE)
    pace["fine"] = _try_fine(epoll_fd, events, timespec) >= 0  # ENOSYS, or EPERM where a filter does not know it
    if (os.cpu_count() or 1) == 1:
        return pace  # whoever spins on the only CPU keeps the server from it
    if pace["fine"][0]:
        pace["least_ns"] = LEAST_NS
        pace["spin_ns"] = pace["most_ns"] = max(MOST_NS, min(mean_gap_ns * _SHARE, _LONGEST_NS))
    else:
        pace["spin_ns"] = _COARSE_SPIN_NS
    return pace


def take_slack() -> None:
    """Let the timers of the calling thread end when they are due; by default it may be 50 us later, to save power."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def describe(paces: Sequence[Pace]) -> str:
    """Name the choice as it stands, for the record; of several threads, the longest stretch."""
    call = "epoll_pwait2" if paces[0]["fine"][0] else "epoll_wait"
    spin_ns = max(float(pace["spin_ns"][0]) for pace in paces)
    return f"{call}, spin under {spin_ns / 1000:.0f} us" if spin_ns else f"{call}, no spin"
