"""How a planned time is waited for: asleep until shortly before it, then looking at the clock for the last stretch.

A sleep ends late by the timer's slack and by what it takes to wake up, together tens of microseconds; the last stretch
makes up for that at the cost of CPU time, which is counted apart: a thread that looks at the clock has time to spare.
"""
# ruff: noqa: PLR0917 - compiled code takes its state as arguments

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np

from clients import wire
from clients.compiled import compiled, inlined

PACE = np.dtype(
    [
        ("fine", np.int64),  # 1: epoll_pwait2 is there, 0: whole milliseconds only
        ("spin_ns", np.int64),  # the last stretch
        ("spun_ns", np.int64),  # time spent in it so far
    ],
    align=True,
)

Pace = np.ndarray[Any, np.dtype[np.void]]

SPIN_NS = 50_000
_LOOK_NS = 5_000  # one look at what has come and at the clock takes less
_COARSE_SPIN_NS = 1_000_000  # what whole milliseconds leave
_PR_SET_TIMERSLACK = 29  # <linux/prctl.h>


@inlined
def wait(pace, epoll_fd, events, now_ns, until_ns, timespec):  # type: ignore[no-untyped-def]
    """Wait for events, at most until shortly before a moment; returns their number, -1 on error.

    To be called again until the moment has come: close to it, it returns at once.
    """
    left_ns = until_ns - now_ns - pace.spin_ns
    # The kernel allows itself a slack of 0.1 % of the timeout (fs/select.c, select_estimate_accuracy).
    left_ns -= left_ns >> 9
    if left_ns <= 0:
        ready = wire.epoll_wait(epoll_fd, events, 0)
        if ready == 0 and until_ns > now_ns:
            pace.spun_ns += min(wire.monotonic_ns(timespec) - now_ns, _LOOK_NS)  # longer: another had the CPU
        return np.int64(ready)
    if pace.fine == 1:
        return wire.epoll_wait_ns(epoll_fd, events, left_ns, timespec)
    return np.int64(wire.epoll_wait(epoll_fd, events, min(left_ns // 1_000_000, 1_000)))


@compiled
def _try_fine(epoll_fd, events, timespec):  # type: ignore[no-untyped-def]
    return wire.epoll_wait_ns(epoll_fd, events, 0, timespec)


def choose(epoll_fd: int, events: Any, timespec: Any) -> Pace:
    """Return what this machine allows: an array of one row."""
    pace: Pace = np.zeros(1, PACE)
    pace["fine"] = _try_fine(epoll_fd, events, timespec) >= 0  # ENOSYS, or EPERM where a filter does not know it
    alone = (os.cpu_count() or 1) == 1  # whoever spins on the only CPU keeps the server from it
    pace["spin_ns"] = 0 if alone else SPIN_NS if pace["fine"][0] else _COARSE_SPIN_NS
    return pace


def take_slack() -> None:
    """Let the timers of the calling thread end when they are due; by default it may be 50 us later, to save power."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def describe(pace: Pace) -> str:
    """Name the choice, for the record."""
    call = "epoll_pwait2" if pace["fine"][0] else "epoll_wait"
    spin_ns = int(pace["spin_ns"][0])
    return f"{call}, spin under {spin_ns // 1000} us" if spin_ns else f"{call}, no spin"
