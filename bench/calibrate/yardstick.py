"""How evenly this machine runs anything, without the load generator: plain Python, a clock, and blocking calls.

Where that alone varies by more than a claim allows, the claim can't be judged: the machine runs, or wakes, its
processes that unevenly. Virtual CPUs that stand still for some milliseconds are seen by no counter of the kernel's.
"""

from __future__ import annotations

import os
import time

import numpy as np

from bench.calibrate.formulas import variation
from bench.calibrate.rig import Rig
from bench.calibrate.watch import Disturbance
from bench.processes import pinned
from servers.transport import dial, parse

PINGS = 500
PAUSE_S = 0.002  # as between the messages of the claim: the CPUs go to sleep meanwhile
PATIENCE_S = 5.0
GAP_NS = 1_000_000
SPIN_NS = 150_000  # a sleep ends later than asked for by some tens of microseconds (timer slack, nanosleep(2))


def spread_us(rig: Rig) -> float:
    """p99 - p50 of the round trip of a message of 64 bytes, in us. Raises OSError, ServerFailedError."""
    took_ns = []
    with rig.peer("echo") as peer:
        channel = dial(parse(peer.server.address), PATIENCE_S)
        try:
            for _ in range(PINGS):
                time.sleep(PAUSE_S)
                began_ns = time.monotonic_ns()
                os.write(channel.wfd, bytes(64))
                os.read(channel.rfd, 64)
                took_ns.append(time.monotonic_ns() - began_ns)
        finally:
            channel.close()
    took_ns.sort()
    return (took_ns[PINGS * 99 // 100] - took_ns[PINGS // 2]) / 1e3


def gaps_vary(rig: Rig, gaps: int) -> float:
    """Coefficient of variation of gaps of a millisecond between readings of the clock, on the load generator's CPU.

    The process sleeps and spins for the last stretch, so what varies is when it gets the CPU.
    """
    at_ns = []
    with pinned(rig.layout.load):
        due_ns = time.monotonic_ns()
        for _ in range(gaps + 1):
            due_ns += GAP_NS
            time.sleep(max(0, due_ns - SPIN_NS - time.monotonic_ns()) / 1e9)
            while (now_ns := time.monotonic_ns()) < due_ns:
                pass
            at_ns.append(now_ns)
    return variation(np.diff(np.asarray(at_ns, np.float64)))


def note_uneven(rig: Rig, what: str, varies: float, allowed: float) -> None:
    """Note a disturbance where the yardstick varies more than is allowed."""
    if varies > allowed:
        rig.disturbances.append(Disturbance(what, varies))
