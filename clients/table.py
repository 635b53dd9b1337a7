"""The connections as Python sees them: made from open channels, reaped when they end, closed at last.

Compiled code works on the arrays (clients.connections says what is in them); which messages it sends, and when, is a
workload's business.
"""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np

from clients import histogram, schedule
from clients.connections import (
    CHUNK_BYTES,
    CONNECTION,
    END_OF_FILE,
    EVENTS,
    HISTOGRAMS,
    RECORD_NOTHING,
    RECORD_PLAN,
    RECORD_SERVICE,
    RUNNING,
    SENT,
    SHARED,
    TIMED_OUT,
    WRONG_BYTES,
    Rows,
    Words,
    give_up_overdue,
    postpone,
    register,
)
from clients.faults import Mismatch, name_ending, name_wrong_bytes
from clients.job import Job
from clients.pacing import choose
from clients.payload import bases
from clients.silent import Silent
from clients.sizes import drawn, spread
from clients.wire import EVENT_WORDS

# Wrong bytes are named by what comes after them: so much is looked at, and so long waited for if nothing else is left
# to do.
_EVIDENCE_BYTES = 64 * 1024
_EVIDENCE_NS = 20_000_000


class Ends(NamedTuple):
    """This process's side of a connection: the same descriptor twice for a socket, -1 twice where there is none yet."""

    rfd: int
    wfd: int

    def close(self) -> None:
        """Close both directions."""
        for fd in set(self) - {-1}:
            os.close(fd)


class Share(NamedTuple):
    """Which part of a job a load thread has: thread `thread` of `threads`, with connections `first` and following."""

    thread: int
    threads: int
    first: int

    def of(self, total: int) -> int:
        """Return this thread's part of what is split evenly, remainders to the first threads."""
        return total // self.threads + (self.thread < total % self.threads)


ALL = Share(0, 1, 0)


def _slots(job: Job, connections: int) -> int:
    """How many messages of a connection have room for their times: a power of two.

    Where there is a plan no answer is waited for, so the room is generous: memory that is never touched is never there.
    """
    if job.rate_hz == 0:
        return 1 << (job.depth - 1).bit_length()
    return min(1 << 16, max(1 << 6, (1 << 22) >> (connections - 1).bit_length()))


class Table:
    """The state of one load thread. Takes the channels over: `close` ends them all.

    Raises OSError where the kernel won't watch them; they are then still the caller's.
    """

    def __init__(self, channels: Sequence[Ends], job: Job, share: Share = ALL) -> None:
        self.job = job
        self.share = share
        self.channels = dict(enumerate(channels))
        slots = _slots(job, len(channels))
        self.connections: Rows = np.zeros(len(channels), CONNECTION)
        self.connections["rfd"] = [channel.rfd for channel in channels]
        self.connections["wfd"] = [channel.wfd for channel in channels]
        self.connections["base"] = bases(job.seed, share.first + len(channels))[share.first :]
        self.connections["begun_bytes"] = self.connections["written"] = job.message_bytes  # nothing is half written
        self.times_ns = np.zeros((len(channels), slots, 2), np.int64)
        self.counts = np.zeros((HISTOGRAMS, histogram.BUCKETS), np.int64)
        self.counts[:] = 0  # touched once, so that no page is missing later
        self.inbound = np.empty(CHUNK_BYTES, np.uint8)
        self.words = np.empty(CHUNK_BYTES // 8 + 2, np.uint64)
        self.events = np.empty((EVENTS, EVENT_WORDS), np.int32)
        self.event = np.zeros(EVENT_WORDS, np.int32)
        self.timespec = np.zeros(2, np.int64)
        self.failed_unbegun = 0  # connections that failed with nothing outstanding
        self.late: Counter[str] = Counter()  # messages begun before the last window closed that failed after it
        self._begun_in_window = np.zeros(len(channels), np.int64)
        self._finishing = False
        self.silent = Silent(())
        self.in_parts = False  # bytes count as they come, not as messages are complete
        self.single = False  # a connection carries a single message, and another one takes its place
        self.grace_ns = 0  # how much longer than `timeout_ns` an echo may take, because it is meant to be slow
        self._patience_ns = 0  # until when a fault's aftermath is waited for
        self._wrong: dict[int, bytes] = {}
        self._epoll = select.epoll()
        self.shared: Rows = np.zeros(1, SHARED)
        self.shared["epoll_fd"] = self._epoll.fileno()
        self.shared["message_bytes"] = job.message_bytes
        self.shared["chunk_bytes"] = CHUNK_BYTES
        self.shared["depth"] = job.depth
        self.shared["slots"] = slots
        self.shared["recording"] = RECORD_NOTHING if job.record_off else RECORD_SERVICE
        self.shared["running"] = len(channels)
        self.shared["most_rounds"] = job.rounds
        self.planned = job.rate_hz > 0
        if self.planned:
            self._plan(job)
        self.connections["echo_bytes"] = job.message_bytes
        if job.sizes:
            spread(self.shared, job.sizes)
            self.connections["echo_bytes"] = [self.size_of(row, 0) for row in range(len(channels))]
        for fd in {fd for channel in channels for fd in channel} - {-1}:
            os.set_blocking(fd, False)
        error = register(self.shared, self.connections, self.event)
        if error:
            raise OSError(error, os.strerror(error))

    def _plan(self, job: Job) -> None:
        """Lay out when messages are due. The plan begins when it is told to."""
        self.plan = schedule.planned(job.rate_hz, job.arrivals, job.seed, self.share.thread, self.share.threads)
        self.pace = choose(self._epoll.fileno(), self.events, self.timespec, float(self.plan["mean_ns"][0]))
        self.shared["cap"] = self.share.of(job.cap)
        if not job.record_off:
            self.shared["recording"] = RECORD_PLAN

    def total(self, name: str) -> int:
        """Return one of the SHARED figures."""
        return int(self.shared[name][0])

    def size_of(self, row: int, number: int) -> int:
        """Return the size of a message of one connection."""
        if not self.total("size_count"):
            return self.total("message_bytes")
        size = np.zeros(1, np.int64)
        drawn(self.shared, self.connections[row]["base"], np.int64(number), size)
        return int(size[0])

    def echoed_bytes(self) -> int:
        """Bytes of the messages completed so far, and of those that came in part where the workload counts these."""
        parts = int(self.connections["echo"].sum()) if self.in_parts else 0
        if self.total("size_count"):
            return parts + self.total("echoed_bytes")
        return parts + self.total("completed") * self.total("message_bytes")

    def postpone(self, by_ns: int) -> None:
        """Go on after a standstill, of the server and of this: it is part of no message's time."""
        postpone(self.shared, self.connections, self.times_ns, np.int64(by_ns))
        if self.planned:
            schedule.postpone(self.plan, by_ns)

    def stop_sending(self) -> None:
        """Begin no further message; those begun are still written and their echoes awaited."""
        self.shared["stopping"] = 1

    def finish_sending(self) -> None:
        """From here on an end-of-file is what is due, and nothing is watched any more."""
        self._finishing = True
        self._epoll.close()
        self.shared["epoll_fd"] = -1

    def close_window(self) -> None:
        """Note what has begun by now: which of it fails later is in `late`."""
        self._begun_in_window = self.connections["begun"].copy()
        self.late.clear()

    def progress(self) -> Words:
        """How far the echoes of each connection have come, in two rows: whole messages, and bytes of the next."""
        return np.stack((self.connections["echoed"], self.connections["echo"]))

    def waited_ns(self, now_ns: int) -> Words:
        """How long each connection has waited for the echo of its oldest message; 0 where it waits for none."""
        rows = self.connections
        waits = (rows["ended"] == RUNNING) & (rows["begun"] > rows["echoed"])
        slots = rows["echoed"] & (self.total("slots") - 1)
        return np.where(waits, now_ns - self.times_ns[np.arange(len(rows)), slots, SENT], 0)

    def keep_wrong_bytes(self) -> None:
        """After WRONG: put the unverified bytes by, before the buffer is used again."""
        start, end = self.total("suspect_from"), self.total("suspect_to")
        self._wrong[self.total("suspect")] = self.inbound[start:end].tobytes()

    def reap(self, now_ns: int, timeout_ns: int) -> Counter[str]:
        """End what has been given up or waited `timeout_ns` for an echo; returns messages by what became of them.

        A connection that failed with nothing outstanding counts for one message, the next.
        """
        sent_before_ns = np.int64(now_ns - timeout_ns - self.grace_ns)
        give_up_overdue(self.shared, self.connections, self.times_ns, sent_before_ns, self.event)
        self._patience_ns = now_ns + (0 if self.total("running") else _EVIDENCE_NS)
        ended = self.silent.reap()
        self.failed_unbegun += ended.total()
        if self.total("running") == len(self.channels):
            return ended
        for row in np.flatnonzero(self.connections["ended"] != RUNNING).tolist():
            if row in self.channels:
                self._note_end(row, ended)
                self.channels.pop(row).close()
        return ended

    def _note_end(self, row: int, ended: Counter[str]) -> None:
        """Add to `ended` what became of the messages of a connection that has ended."""
        fates = self._fates(row)
        ended.update(fates)
        begun, echoed = (int(self.connections[row][name]) for name in ("begun", "echoed"))
        self.late.update(fates[: max(0, int(self._begun_in_window[row]) - echoed)])
        self.failed_unbegun += begun == echoed and len(fates)

    def _fates(self, row: int) -> list[str]:
        """Name what became of each message outstanding on a connection that has ended; of the next, where none was.

        Once the sending side is closed the end is what is due: there is no next message, and what has not come is lost.
        """
        connection = self.connections[row]
        outstanding, reason = int(connection["begun"] - connection["echoed"]), int(connection["ended"])
        if not self._finishing or reason in (WRONG_BYTES, TIMED_OUT):
            return [self._name(row)] * max(1, outstanding)
        if reason != END_OF_FILE:
            return []  # a reset tells nothing of what the server had echoed
        return ["short" if connection["echo"] and number == 0 else "lost" for number in range(outstanding)]

    def _name(self, row: int) -> str:
        connection = self.connections[row]
        due, offset = int(connection["echoed"]), int(connection["echo"])
        reason = int(connection["ended"])
        if reason != WRONG_BYTES:
            return name_ending(reason, offset if self.single else due, offset)
        arrived = self._wrong.pop(row) + self._what_follows(self.channels[row].rfd)
        return name_wrong_bytes(
            Mismatch(
                base=int(connection["base"]),
                size_of=partial(self.size_of, row),
                due=due,
                begun=int(connection["begun"]),
                offset=offset,
                arrived=arrived,
            )
        )

    def _what_follows(self, fd: int) -> bytes:
        """Read what else has come on a connection that is given up."""
        parts: list[bytes] = []
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        with suppress(OSError):
            while sum(map(len, parts)) < _EVIDENCE_BYTES:
                if not poll.poll(max(0, self._patience_ns - time.monotonic_ns()) // 1_000_000):
                    break
                part = os.read(fd, _EVIDENCE_BYTES)
                if not part:
                    break
                parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close every descriptor. A second call does nothing."""
        while self.channels:
            with suppress(OSError):
                self.channels.popitem()[1].close()
        self.silent.close()
        self._epoll.close()
