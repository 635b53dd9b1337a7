"""How much a round trip varies on this machine without the load generator: blocking calls in plain Python.

Where that alone varies by more than a claim allows, the claim can't be judged: the machine wakes its processes that
unevenly.
"""

from __future__ import annotations

import os
import time

from bench.calibrate.rig import Rig
from bench.calibrate.watch import Disturbance
from servers.transport import dial, parse

PINGS = 500
PAUSE_S = 0.002  # as between the messages of the claim: the CPUs go to sleep meanwhile
PATIENCE_S = 5.0


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


def note_uneven(rig: Rig, spread: float, allowed_us: float) -> None:
    """Note a disturbance where the yardstick varies more than is allowed."""
    if spread > allowed_us:
        rig.disturbances.append(Disturbance(f"a plain round trip varies by {spread:.0f} us (p99 - p50)", spread))
