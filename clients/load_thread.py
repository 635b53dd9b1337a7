"""One load thread of a job: it keeps its connections under load, phase by phase, and notes what it saw in the window.

The load itself runs in compiled code that comes back at each boundary; nothing between two boundaries costs Python
anything. The first thread is the caller's own. It decides when the phases end, and the others go by that. What they saw
is put together elsewhere.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from clients import histogram, pacing, schedule
from clients.connections import DONE, IDLE, RESPONSE, SERVICE, WRONG, Words
from clients.table import Table

STEP_NS = 100_000_000  # between two looks at the course, at most
SHORT_STEP_NS = 5_000_000  # the same while several threads must agree, or somebody waits for the end
_GRACE_NS = 4 * SHORT_STEP_NS  # until when the other threads have seen that the end was moved
DRAIN_NS = 250_000_000  # at most so long outstanding echoes are awaited at the end
MUTE = 2  # a message that has waited so many times as long as any echo took won't be answered
_NEVER_NS = 1 << 62


class AbandonedError(Exception):
    """The first thread failed before the window opened."""


class Watch(NamedTuple):
    """What the first thread asks and tells: whether to end early, and the moments of opening and closing the window."""

    ended: Callable[[], bool]
    open: Callable[[int], None]
    close: Callable[[int], None]


@dataclass
class Course:
    """When the phases of a job end, on CLOCK_MONOTONIC. The first thread writes it, all go by it."""

    threads: int
    interval_ns: int
    opens_ns: int  # when the warm-up is to end
    begins_ns: int = 0  # when all threads begin
    opened_ns: int = 0  # when it did; 0 is not yet
    closes_ns: int = _NEVER_NS  # when the window closes
    releases_ns: int = _NEVER_NS  # until when the load stays on after that
    over: bool = False  # the phases were cut short
    abandoned: bool = False  # and nobody wants the outcome
    idle: set[int] = field(default_factory=set)  # threads with nothing left to do

    @property
    def step_ns(self) -> int:
        """How long a thread may go without looking at the course."""
        return STEP_NS if self.threads == 1 else SHORT_STEP_NS

    def close_window(self) -> None:
        """Let the window close now: all that was asked for has been done. What follows it keeps its length."""
        self.closes_ns = min(self.closes_ns, time.monotonic_ns())

    def cut_short(self) -> None:
        """Let every phase end, so late that all threads can do it together."""
        if not self.over:
            self.over = True
            end_ns = time.monotonic_ns() + (0 if self.threads == 1 else _GRACE_NS)
            self.opens_ns = min(self.opens_ns, end_ns)
            self.closes_ns = min(self.closes_ns, end_ns)
            self.releases_ns = min(self.releases_ns, end_ns)


class Snapshot(NamedTuple):
    """Everything that only grows, at one moment."""

    at_ns: int
    due: int  # according to the plan, once it was asked; where there is none, as many as have begun
    begun: int
    completed: int
    outstanding: int
    unbegun: int
    echoed_bytes: int
    rounds: int
    connects: int
    cpu_user_ns: int  # of the whole process
    cpu_system_ns: int
    thread_ns: int  # time on a CPU, but for that spent looking at the clock

    @classmethod
    def take(cls, table: Table) -> Snapshot:
        """Take one in the thread that the table belongs to."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        at_ns = time.monotonic_ns()
        spun_ns = int(table.pace["spun_ns"][0]) if table.planned else 0
        return cls(
            at_ns=at_ns,
            due=table.total("begun"),
            begun=table.total("begun"),
            completed=table.total("completed"),
            outstanding=table.total("outstanding"),
            unbegun=table.failed_unbegun,
            echoed_bytes=table.echoed_bytes(),
            rounds=table.total("rounds"),
            connects=table.total("connects"),
            cpu_user_ns=int(usage.ru_utime * 1e9),
            cpu_system_ns=int(usage.ru_stime * 1e9),
            thread_ns=time.thread_time_ns() - spun_ns,
        )


class Window(NamedTuple):
    """What one thread saw between two snapshots.

    `failed` are its messages that failed meanwhile, by kind, and those of the last window that failed after it;
    `intervals` are the completions in each interval, `interval_counts` their times; `counts` are those of the whole
    window, one for each of HISTOGRAMS; `heard` says for each connection whether a byte of an echo came.
    """

    opened: Snapshot
    closed: Snapshot
    connections: int
    failed: Counter[str]
    intervals: list[int]
    interval_counts: list[histogram.Sparse]
    counts: list[histogram.Sparse]
    heard: np.ndarray[Any, np.dtype[np.bool_]]


class LoadThread:
    """A table under a workload; `failed` are all messages up to now that got no right echo, by what became of them."""

    def __init__(self, table: Table, advance: Callable[[int], int], timeout_s: float) -> None:
        self.table = table
        self.failed: Counter[str] = Counter()
        self._advance = advance
        self._course = Course(1, STEP_NS, 0)
        self._timeout_ns = int(timeout_s * 1e9)
        self._first = table.share.thread == 0
        self._recorded = histogram.Changes(table.counts[RESPONSE if table.planned else SERVICE])
        self._progress = table.progress()  # when the last window closed
        self._waited_ns = table.waited_ns(0)  # at the end, where nothing had come since the last window closed
        self._last_times = histogram.sparse(table.counts[SERVICE])  # of the echoes from the last window on

    def drive(self, course: Course, watch: Watch, cpu: int | None = None) -> Window:
        """Go through the phases of a course, up to the end of the load; the connections stay as they are then.

        On one CPU if it is named. Raises AbandonedError if the first thread gave up.
        """
        self._course = course
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        if self.table.planned:
            pacing.take_slack()
        if (wait_ns := course.begins_ns - time.monotonic_ns()) > 0:
            time.sleep(wait_ns / 1e9)
        self._keep_on(lambda: course.opens_ns, watch, course.step_ns)
        while course.opened_ns == 0 and not self._first:
            if course.abandoned:
                raise AbandonedError
            soon_ns = time.monotonic_ns() + SHORT_STEP_NS // 10
            self._keep_on(lambda end_ns=soon_ns: end_ns, watch, SHORT_STEP_NS)  # type: ignore[misc]
        window = self._measure(watch)
        self._keep_on(lambda: course.releases_ns, watch, SHORT_STEP_NS)
        return window

    def note_waiting(self) -> None:
        """Note how long each connection has waited by now, if nothing has come since the last window closed."""
        silent = ~_moved(self._progress, self.table.progress())
        self._waited_ns = np.where(silent, self.table.waited_ns(time.monotonic_ns()), 0)
        self._last_times = histogram.sparse(self.table.counts[SERVICE])

    def settle(self, window: Window) -> Window:
        """Return the last window once all connections have been heard out (clients.lost).

        Whatever of its messages has failed since it closed, for whichever reason, is not in flight but failed.
        """
        self.failed.update(self.table.reap(time.monotonic_ns(), self._timeout_ns))
        late = self.table.late
        closed = window.closed._replace(outstanding=window.closed.outstanding - late.total())
        return window._replace(closed=closed, failed=window.failed + late)

    def mute(self, windows: Sequence[Window]) -> int:
        """How many connections were never answered in some windows, once the load has drained.

        Not a byte of an echo came on them in these, nor from the last one on, and at the end their oldest message had
        waited MUTE times as long as any echo took. A connection whose turn has not come yet is not mute: with many of
        them and a short window the others' echoes took as long as its own takes. Nor is one that had nothing to wait
        for. Under churn each message has a connection of its own, so that earlier echoes of its place prove nothing.
        """
        heard = np.any([window.heard for window in windows], axis=0) & (not self.table.single)
        times = histogram.added([*(window.counts[SERVICE] for window in windows), self._last_times])
        patience_ns = MUTE * histogram.to_hdr(times).get_max_value() + self.table.grace_ns
        return int(np.count_nonzero(~heard & (self._waited_ns > patience_ns)))

    def _keep_on(self, until: Callable[[], int], watch: Watch, step_ns: int) -> None:
        """Keep the load on until a moment, which may be brought forward meanwhile."""
        now_ns = time.monotonic_ns()
        while now_ns < (until_ns := until()):
            step_end_ns = min(until_ns, now_ns + step_ns)
            outcome = self.step(step_end_ns)
            if outcome == DONE:
                self._course.close_window()
                time.sleep(max(0, min(step_end_ns, until()) - time.monotonic_ns()) / 1e9)
            elif outcome == IDLE:
                self._course.idle.add(self.table.share.thread)
                if self._course.threads > 1:  # the others go on, and the books are closed together
                    time.sleep(max(0, min(step_end_ns, until()) - time.monotonic_ns()) / 1e9)
            if self._first and (len(self._course.idle) == self._course.threads or watch.ended()):
                self._course.cut_short()
            now_ns = time.monotonic_ns()

    def step(self, until_ns: int) -> int:
        """Run the workload until a moment, and end what is to be ended; returns why the workload came back."""
        while (outcome := self._advance(until_ns)) == WRONG:
            self.table.keep_wrong_bytes()
        self.failed.update(self.table.reap(time.monotonic_ns(), self._timeout_ns))
        return outcome

    def _measure(self, watch: Watch) -> Window:
        table, course = self.table, self._course
        connections = table.total("running")
        failed_before, progress = self.failed.copy(), table.progress()
        table.counts[:] = 0
        self._recorded.forget()
        opened, opened_plan = Snapshot.take(table), self._plan()
        if self._first:
            watch.open(opened.at_ns)
        intervals: list[int] = []
        interval_counts: list[histogram.Sparse] = []
        completed_before = opened.completed
        boundary_ns = course.opened_ns
        while boundary_ns < course.closes_ns:
            end_ns = boundary_ns = min(boundary_ns + course.interval_ns, course.closes_ns)
            self._keep_on(lambda end_ns=end_ns: min(end_ns, course.closes_ns), watch, course.step_ns)  # type: ignore[misc]
            completed = table.total("completed")
            intervals.append(completed - completed_before)
            interval_counts.append(self._recorded.take())
            completed_before = completed
        closed, closed_plan = Snapshot.take(table), self._plan()
        table.close_window()
        self._progress = table.progress()
        if self._first:
            watch.close(closed.at_ns)
        counts = [histogram.sparse(of_kind) for of_kind in table.counts]
        opened, closed = _with_due(opened, opened_plan), _with_due(closed, closed_plan)
        failed, heard = self.failed - failed_before, _moved(progress, self._progress)
        return Window(opened, closed, connections, failed, intervals, interval_counts, counts, heard)

    def _plan(self) -> schedule.Plan | None:
        """Return the plan as it stands. What is due by a moment takes long to tell when very much is overdue."""
        return self.table.plan.copy() if self.table.planned else None


def drain(threads: Sequence[LoadThread]) -> None:
    """Begin nothing more, and wait a little for the echoes that are still to come.

    The threads take turns at it: no echo is to lie unread, and seem slow, while another thread waits in vain.
    """
    for thread in threads:
        thread.table.stop_sending()
    waiting, step_ns = list(threads), SHORT_STEP_NS // len(threads)
    end_ns = time.monotonic_ns() + DRAIN_NS
    while waiting and time.monotonic_ns() < end_ns:
        waiting = [thread for thread in waiting if thread.step(time.monotonic_ns() + step_ns) != IDLE]
    for thread in threads:
        thread.note_waiting()


def _with_due(snapshot: Snapshot, plan: schedule.Plan | None) -> Snapshot:
    return snapshot if plan is None else snapshot._replace(due=schedule.due_by(plan, snapshot.at_ns))


def _moved(before: Words, now: Words) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each connection, whether its echoes have come any further."""
    return np.asarray((before != now).any(axis=0), np.bool_)
