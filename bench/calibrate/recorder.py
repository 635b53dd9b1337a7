"""The recording side of the load generator, asked in a process of its own (`python -m clients.recorder`).

bench imports nothing of clients: what is checked is what the load generator writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.load import LoadFailedError
from bench.processes import HOME, environment, pinned

PATIENCE_S = 120.0  # the very first time, code is compiled


class Memory(NamedTuple):
    """What a window takes: its intervals, and the bytes by which the process has grown at its end."""

    intervals: int
    grown_bytes: int


def record_all(times_ns: Sequence[NDArray[np.int64]], cpus: Sequence[int]) -> list[str]:
    """Have each recorded by a process of its own, side by side: no clock is involved. Raises LoadFailedError."""
    with pinned(cpus), ThreadPoolExecutor(len(times_ns)) as pool:
        return list(pool.map(record, times_ns))


def memory_of_all(hours: Sequence[float], cpus: Sequence[int]) -> list[Memory]:
    """Have a window of each of these lengths simulated, side by side. Raises LoadFailedError."""
    with pinned(cpus), ThreadPoolExecutor(len(hours)) as pool:
        return list(pool.map(memory, hours))


def record(times_ns: NDArray[np.int64]) -> str:
    """Have these times recorded; returns the histogram as the load generator writes it. Raises LoadFailedError."""
    return _ask([], times_ns.astype(np.int64).tobytes())


def memory(hours: float) -> Memory:
    """Have a window of so many hours simulated. Raises LoadFailedError."""
    return Memory(**json.loads(_ask(["--hours", str(hours)])))


def _ask(arguments: list[str], given: bytes = b"") -> str:
    argv = [sys.executable, "-m", "clients.recorder", *arguments]
    try:
        done = subprocess.run(
            argv, input=given, capture_output=True, cwd=HOME, env=environment(), timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise LoadFailedError(f"the recorder did not answer within {PATIENCE_S:g} s", fatal=False) from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing on standard error"]
        raise LoadFailedError(f"the recorder ended with exit code {done.returncode}: {last[0]}", fatal=False)
    return done.stdout.decode().strip()
