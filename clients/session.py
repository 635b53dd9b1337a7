"""One job on open connections, to the last close: warm up, measure a window, keep the load on, drain.

The load itself runs in compiled code that comes back at each boundary (an interval's end, at most); nothing between two
boundaries costs Python anything. How the outcome is printed, and who asked for it, is decided elsewhere.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from clients import histogram
from clients.closed import closed
from clients.connections import IDLE, SERVICE, WRONG
from clients.job import Job, JobError, Load
from clients.opening import Connected
from clients.table import Ends, Table

INTERVAL_NS = 100_000_000
STEP_NS = 5_000_000  # between two looks at `ended` once the window is closed
DRAIN_NS = 250_000_000  # at most so long outstanding echoes are awaited at the end
WORKLOADS = {"closed": closed}


def run(
    job: Job,
    connected: Connected,
    *,
    say: Callable[[str, int], None] = lambda event, at_ns: None,
    ended: Callable[[], bool] = lambda: False,
    hold_s: float = 0.0,
) -> Load:
    """Run a job on open channels, which it takes over: they are all closed when it returns.

    `say` gets ("window_opened" | "window_closed", its moment). `ended` is asked at every boundary whether to end early;
    after the window the load stays on, unrecorded, until it says so or `hold_s` has passed. Raises JobError if no
    connection is left when the window would open.
    """
    try:
        session = _Session(job, connected)
    except OSError as error:
        for channel in connected.channels:
            channel.close()
        raise JobError(f"the connections can't be watched: {error.strerror}") from None
    try:
        session.advance_to(time.monotonic_ns() + _ns(job.warmup_s), INTERVAL_NS, ended)
        window = session.measure(say, ended)
        session.advance_to(time.monotonic_ns() + _ns(hold_s), STEP_NS, ended)
        session.table.stop_sending()
        session.advance_to(time.monotonic_ns() + DRAIN_NS, STEP_NS, lambda: False)
        return _load(job, window)
    finally:
        session.table.close()


class _Session:
    """A table under a workload, and what became of the messages that got no echo."""

    def __init__(self, job: Job, connected: Connected) -> None:
        self.job = job
        self.failed = connected.failed.copy()  # messages by kind; a connection that never opened would have sent one
        self.table = Table(connected.channels, job)
        self._advance = WORKLOADS[job.workload](self.table)

    def advance_to(self, until_ns: int, step_ns: int, ended: Callable[[], bool]) -> bool:
        """Keep the load on until a moment, in steps; False if it ended earlier, told so or with nothing left to do."""
        now_ns = time.monotonic_ns()
        while now_ns < until_ns:
            if ended() or self._step(min(until_ns, now_ns + step_ns)) == IDLE:
                return False
            now_ns = time.monotonic_ns()
        return True

    def _step(self, until_ns: int) -> int:
        while (outcome := self._advance(until_ns)) == WRONG:
            self.table.keep_wrong_bytes()
        self.failed.update(self.table.reap(time.monotonic_ns(), _ns(self.job.timeout_s)))
        return outcome

    def measure(self, say: Callable[[str, int], None], ended: Callable[[], bool]) -> _Window:
        """Run the window: from one snapshot to another, a boundary every INTERVAL_NS."""
        table = self.table
        if table.total("running") == 0:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.failed.most_common())
            raise JobError(f"no connection was left when the window was to open ({kinds})")
        connections = table.total("running")
        failed_before = self.failed.total()
        table.counts[:] = 0
        opened = _Snapshot.take(table)
        say("window_opened", opened.at_ns)
        intervals: list[int] = []
        deadline_ns = opened.at_ns + _ns(self.job.duration_s)
        boundary_ns, before, on = opened.at_ns, opened.completed, True
        while on and boundary_ns < deadline_ns:
            boundary_ns = min(boundary_ns + INTERVAL_NS, deadline_ns)
            on = self.advance_to(boundary_ns, INTERVAL_NS, ended)
            completed = table.total("completed")
            intervals.append(completed - before)
            before = completed
        closed = _Snapshot.take(table)
        say("window_closed", closed.at_ns)
        return _Window(
            opened, closed, connections, failed_before, self.failed.copy(), intervals, table.counts[SERVICE].copy()
        )


class _Snapshot(NamedTuple):
    """Everything that only grows, at one moment."""

    at_ns: int
    begun: int
    completed: int
    outstanding: int
    unbegun: int
    cpu_user_ns: int
    cpu_system_ns: int
    thread_ns: int

    @classmethod
    def take(cls, table: Table) -> _Snapshot:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            at_ns=time.monotonic_ns(),
            begun=table.total("begun"),
            completed=table.total("completed"),
            outstanding=table.total("outstanding"),
            unbegun=table.failed_unbegun,
            cpu_user_ns=_ns(usage.ru_utime),
            cpu_system_ns=_ns(usage.ru_stime),
            thread_ns=time.thread_time_ns(),
        )


class _Window(NamedTuple):
    """What was seen between two snapshots; `failed` are all messages that failed, `failed_before` those before it."""

    opened: _Snapshot
    closed: _Snapshot
    connections: int
    failed_before: int
    failed: Counter[str]
    intervals: list[int]
    counts: histogram.Counts


def _load(job: Job, window: _Window) -> Load:
    opened, closed = window.opened, window.closed
    errors = dict(window.failed)
    completed = closed.completed - opened.completed
    begun = closed.begun - opened.begun + closed.unbegun - opened.unbegun
    busy = (closed.thread_ns - opened.thread_ns) / max(1, closed.at_ns - opened.at_ns)
    return Load(
        opened_ns=opened.at_ns,
        closed_ns=closed.at_ns,
        connections=window.connections,
        planned=window.failed_before + opened.outstanding + begun,
        completed=completed,
        timed_out=errors.pop("timed_out", 0),
        errors=errors,
        unsent=0,
        in_flight=closed.outstanding,
        bytes_echoed=completed * job.message_bytes,
        interval_ns=INTERVAL_NS,
        intervals=window.intervals,
        service_hdr=histogram.encode(window.counts),
        cpu_user_ns=closed.cpu_user_ns - opened.cpu_user_ns,
        cpu_system_ns=closed.cpu_system_ns - opened.cpu_system_ns,
        worker_busy=[min(1.0, busy)],
    )


def warm_up_code() -> None:
    """Run a job against an echo inside this process: all compiled code is loaded before anything is measured.

    The echo is a pipe that leads back to its writer: a thread to echo would leave libc in its multi-threaded ways.
    """
    job = Job(address="pipe:itself", connections=1, message_bytes=64, duration_s=0.02)
    run(job, Connected([Ends(*os.pipe())], Counter(), "", 0))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
