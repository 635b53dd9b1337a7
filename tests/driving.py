"""Run one job against a peer or a real server, and check that its books balance: for the tests of the workloads.

What a workload must do is asserted in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram
from peers import Peer
from spawn import Case, Server, cases, spawned

from clients import histogram
from clients.job import Job, Load
from clients.opening import connect
from clients.session import run, warm_up_code

TRANSPORTS = ("tcp", "unix", "pipe")
FOREVER_S = 60.0  # a run that ends earlier on its own


def drive(server: Peer | Server, workload: str = "closed", **options: Any) -> Load:
    """Run a job; every message is accounted for, whatever happens."""
    hooks = {name: options.pop(name) for name in ("say", "ended", "hold_s", "cpus") if name in options}
    message_bytes = getattr(server, "message_bytes", 64)
    settings = {"connections": 1, "message_bytes": message_bytes, "duration_s": 0.2, **options}
    load_code()
    job = Job(address=str(server.address), workload=workload, **settings)
    load = run(job, connect(job), **hooks)
    check_books(load)
    return load


@cache
def load_code() -> None:
    """Compile all workloads, so that no window is spent on that."""
    warm_up_code()


def check_books(load: Load) -> None:
    """Nothing that was planned is missing, and whatever was completed was recorded."""
    lost = sum(load.errors.values()) + load.timed_out
    assert load.planned == load.completed + lost + load.unsent + load.in_flight
    assert load.completed == sum(load.intervals) == count(load.service_hdr)
    assert load.intervals == [count(text) for text in load.interval_hdrs]
    if load.response_hdr:
        assert load.completed == count(load.response_hdr)


def count(text: str) -> int:
    """How many values an encoded histogram holds."""
    return int(histogram.decode(text).sum())


def recorded(text: str) -> HdrHistogram:
    """An encoded histogram, to be asked for its percentiles."""
    return histogram.to_hdr(histogram.decode(text))


def kinds(load: Load) -> dict[str, int]:
    """What went wrong, timeouts among it."""
    return {**load.errors, **({"timed_out": load.timed_out} if load.timed_out else {})}


def after(number: int, what: Callable[[], int]) -> Callable[[], bool]:
    """End a run once something has happened so often: no test waits for a time to pass."""
    return lambda: what() >= number


def descriptors() -> list[str]:
    """The open descriptors of this process."""
    return sorted(fd.name for fd in Path("/proc/self/fd").iterdir())


@cache
def _cases() -> dict[tuple[str, str], Case]:
    return {(case.strategy, case.transport): case for case in cases()}


@contextmanager
def strategy(name: str, transport: str) -> Iterator[Server]:
    """Run one of our own servers."""
    with spawned(_cases()[name, transport]) as server:
        yield server
