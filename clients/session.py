"""One job on open connections, to the last close: warm up, measure a window, keep the load on, drain.

What a thread does is in clients.load_thread. How the outcome is printed, and who asked for it, is decided elsewhere.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from clients import pacing, schedule
from clients.burst import burst
from clients.churn import churn
from clients.closed import closed
from clients.idle import idle
from clients.job import Job, JobError, Load
from clients.load_thread import Course, LoadThread, Watch, Window, drain
from clients.lost import hear_out
from clients.open_loop import open_loop
from clients.opening import Connected
from clients.outcome import load_of
from clients.silent import Silent
from clients.slow import slow
from clients.stream import stream
from clients.table import Ends, Share, Table

WORKLOADS: dict[str, Callable[[Table], Callable[[int], int]]] = {
    "closed": closed,
    "open": open_loop,
    "burst": burst,
    "churn": churn,
    "idle": idle,
    "stream": stream,
    "slow": slow,
}
# Whose compiled code a workload is, where it has none of its own.
_CODE = {"idle": ("closed", "open"), "stream": ("closed",), "": ("closed", "open", "burst", "churn", "slow")}

INTERVAL_NS = 100_000_000
MOST_INTERVALS = 600
_START_NS = 2_000_000  # until several threads have all begun


def interval_ns(duration_s: float) -> int:
    """Return the length of an interval: 100 ms, or the first of 200 ms, 500 ms, 1 s, 2 s, 5 s, 10 s ... that makes 600.

    So what is kept for each interval has an end, however long the window.
    """
    length_ns, factors = INTERVAL_NS, (2.0, 2.5, 2.0)
    step = 0
    while duration_s * 1e9 > MOST_INTERVALS * length_ns:
        length_ns = round(length_ns * factors[step % 3])
        step += 1
    return length_ns


def run(
    job: Job,
    connected: Connected,
    *,
    say: Callable[[str, int], None] = lambda event, at_ns: None,
    ended: Callable[[], bool] = lambda: False,
    hold_s: float = 0.0,
    cpus: Sequence[int] = (),
) -> Load:
    """Run a job on open channels, which it takes over: they are all closed when it returns.

    `say` gets ("window_opened" | "window_closed", its moment). `ended` is asked at every boundary whether to end early;
    after the window the load stays on, unrecorded, until it says so or `hold_s` has passed. Several load threads get a
    CPU of `cpus` each, where those are enough. Raises JobError if no connection is left when the window would open.
    """
    with Session(job, connected) as session:
        session.turn(job.warmup_s, job.duration_s, say=say, ended=ended, hold_s=hold_s, cpus=cpus)
        return session.finish([0])


class Session:
    """A job on open channels, which it takes over until `close`; its load is put on in turns, or in a single one.

    Between two turns nothing moves: what was under way stays where it is, and the standstill is part of no message's
    time. The server is to stand still as well.
    """

    def __init__(self, job: Job, connected: Connected) -> None:
        self.job = job
        self._unopened = connected.failed
        self._tables = _tables(job, connected)
        advance = WORKLOADS[job.workload]
        try:
            self._threads = [LoadThread(table, advance(table), job.timeout_s) for table in self._tables]
        except BaseException:
            self.close()
            raise
        self._turns: list[list[Window]] = []
        self._interval_ns = 0
        self._stood_still_ns = 0  # since when

    @property
    def turns(self) -> int:
        """How many there were so far."""
        return len(self._turns)

    @property
    def completed(self) -> int:
        """Echoes so far, recorded or not."""
        return sum(table.total("completed") for table in self._tables)

    def turn(
        self,
        warmup_s: float,
        duration_s: float,
        *,
        say: Callable[[str, int], None] = lambda event, at_ns: None,
        ended: Callable[[], bool] = lambda: False,
        hold_s: float = 0.0,
        cpus: Sequence[int] = (),
    ) -> list[Window]:
        """Put the load on for a warm-up, a window and a while after it, as `run` does; returns a window a thread."""
        now_ns = time.monotonic_ns()
        begins_ns = now_ns if len(self._tables) == 1 else now_ns + _START_NS
        self._go_on(begins_ns)
        self._interval_ns = interval_ns(duration_s)
        course = Course(len(self._tables), self._interval_ns, begins_ns + _ns(warmup_s), begins_ns)
        watch = _watch(duration_s, course, self._threads, failed=self._unopened, say=say, ended=ended, hold_s=hold_s)
        try:
            windows = _attend(self._threads, course, watch, cpus)
        finally:
            self._stood_still_ns = time.monotonic_ns()
        self._turns.append(windows)
        return windows

    def finish(self, kept: Sequence[int]) -> Load:
        """End the load, hear all connections out, and return what the turns with these numbers came to."""
        self._go_on(time.monotonic_ns())
        drain(self._threads)
        hear_out(self._tables)
        self._turns[-1] = [thread.settle(window) for thread, window in zip(self._threads, self._turns[-1], strict=True)]
        turns = [self._turns[number] for number in kept]
        outside = sum((thread.failed for thread in self._threads), Counter[str]())
        outside -= sum((window.failed for turn in turns for window in turn), Counter[str]())
        mute = sum(thread.mute(own) for thread, own in zip(self._threads, zip(*turns, strict=True), strict=True))
        how = pacing.describe([table.pace for table in self._tables]) if self._tables[0].planned else ""
        return load_of(self.job, self._unopened, turns, outside, interval_ns=self._interval_ns, pacing=how, mute=mute)

    def _go_on(self, at_ns: int) -> None:
        for table in self._tables:
            if self._stood_still_ns:
                table.postpone(at_ns - self._stood_still_ns)
            elif table.planned:
                schedule.start(table.plan, at_ns)

    def close(self) -> None:
        """Close all connections. A second call does nothing."""
        for table in self._tables:
            table.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tables(job: Job, connected: Connected) -> list[Table]:
    """Deal the connections to the threads, evenly, remainders to the first ones; the first watches the silent ones."""
    tables: list[Table] = []
    try:
        for share, channels in _shares(connected.channels, job.threads):
            tables.append(Table(channels, job, share))
        tables[0].silent = Silent(connected.silent)
    except OSError as error:
        for table in tables:
            table.channels.clear()
            table.close()
        for channel in {*connected.channels, *connected.silent}:
            channel.close()
        raise JobError(f"the connections can't be watched: {error.strerror}") from None
    return tables


def _shares(channels: Sequence[Ends], threads: int) -> Iterator[tuple[Share, Sequence[Ends]]]:
    threads = max(1, min(threads, len(channels)))
    first = 0
    for thread in range(threads):
        share = Share(thread, threads, first)
        count = share.of(len(channels))
        yield share, channels[first : first + count]
        first += count


def _watch(
    duration_s: float,
    course: Course,
    threads: Sequence[LoadThread],
    *,
    failed: Counter[str],
    say: Callable[[str, int], None],
    ended: Callable[[], bool],
    hold_s: float,
) -> Watch:
    def open_window(at_ns: int) -> None:
        if not any(thread.table.total("running") for thread in threads):
            lost = sum((thread.failed for thread in threads), failed.copy())
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in lost.most_common())
            raise JobError(f"no connection was left when the window was to open ({kinds})")
        if not course.over:
            course.closes_ns = at_ns + _ns(duration_s)
        course.opened_ns = at_ns
        say("window_opened", at_ns)

    def close_window(at_ns: int) -> None:
        if not course.over:
            course.releases_ns = at_ns + _ns(hold_s)
        say("window_closed", at_ns)

    return Watch(ended, open_window, close_window)


def _attend(threads: Sequence[LoadThread], course: Course, watch: Watch, cpus: Sequence[int]) -> list[Window]:
    """Run all threads, the first of them in the caller's own."""
    first, *others = threads
    if not others:
        with _no_collection():
            return [first.drive(course, watch)]
    pinned: Sequence[int | None] = cpus[: len(threads)] if len(cpus) >= len(threads) else [None] * len(threads)
    before = os.sched_getaffinity(0)
    with _no_collection(), ThreadPoolExecutor(len(others)) as pool:
        started = [pool.submit(other.drive, course, watch, cpu) for other, cpu in zip(others, pinned[1:], strict=True)]
        try:
            windows = [first.drive(course, watch, pinned[0])]
        except BaseException:
            course.abandoned = True
            raise
        finally:
            course.cut_short()
            os.sched_setaffinity(0, before)
        return windows + [thread.result() for thread in started]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage, which would hold up the load for milliseconds."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def warm_up_code(workload: str = "") -> None:
    """Run a job against an echo inside this process: compiled code is loaded before anything is measured.

    That of one workload, or of all. The echo is a pipe that leads back to its writer: a thread to echo would leave libc
    in its multi-threaded ways.
    """
    for name in _CODE.get(workload, (workload,)):
        job = Job(
            address="pipe:itself",
            connections=1,
            message_bytes=64,
            duration_s=0.02,
            workload=name,
            rate_hz=1000.0 if name == "open" else 0.0,
        )
        itself = Ends(*os.pipe())
        if name in ("churn", "slow"):  # there is nothing to connect to, and nothing to wait for
            table = Table([itself], job)
            WORKLOADS[name](table)(0)
            table.close()
        else:
            run(job, Connected([itself], Counter(), "", 0))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
