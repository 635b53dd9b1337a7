"""JSON lines from other processes, waited for with a bound, and the two signals that end a run.

Every wait of a run goes through `wait`, so that nothing hangs and Ctrl-C is heard at once; who waits for something else
looks at `raise_signals` now and then. What the lines mean is not
known here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

MAX_LINE_BYTES = 64 * 1024 * 1024


class Interrupted(BaseException):
    """SIGINT or SIGTERM (`signum`) came while waiting: a request to stop, not an error."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class ProtocolError(Exception):
    """The other process wrote something that is not a line of JSON."""


class Event(NamedTuple):
    """One line: who sent it and what it said; None when the sender has closed its end."""

    sender: Stream
    fields: dict[str, Any] | None


class Stream:
    """The reading end of a pipe that JSON objects come through, one a line; `writer` is named in complaints."""

    def __init__(self, fd: int, writer: str) -> None:
        self.fd = fd
        self.writer = writer
        self.ended = False
        self._partial = bytearray()  # of the last line, whose end has not come yet
        self._lines: deque[bytes] = deque()

    def receive(self) -> None:
        """Read once; blocks unless poll says that there is something."""
        data = os.read(self.fd, 65536)
        self.ended = not data
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = bytes(self._partial + whole[0])
            self._partial.clear()
        self._partial += rest
        self._lines.extend(line for line in whole if line.strip())
        if len(self._partial) > MAX_LINE_BYTES:
            raise ProtocolError(f"{self.writer} wrote a line of more than {MAX_LINE_BYTES} bytes")

    def next(self) -> Event | None:
        """The next event that has been received, if any; the end of the stream once, after all lines."""
        if self._lines:
            line = self._lines.popleft()
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                raise ProtocolError(f"{self.writer} wrote {line[:80]!r}, which is not JSON") from None
            if not isinstance(fields, dict):
                raise ProtocolError(f"{self.writer} wrote {line[:80]!r}, which is not a JSON object")
            return Event(self, fields)
        return Event(self, None) if self.ended else None

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def wait(streams: Sequence[Stream], seconds: float) -> Event:
    """The next event of any of the streams.

    Raises TimeoutError after `seconds`, Interrupted on SIGINT or SIGTERM (inside `signals_interrupt_waits`), and
    ProtocolError.
    """
    deadline = time.monotonic() + seconds
    while True:
        raise_signals()
        for stream in streams:
            event = stream.next()
            if event:
                return event
        left = deadline - time.monotonic()
        if left < 0:
            raise TimeoutError(f"no answer within {seconds:g} s")
        poll = select.poll()  # select(2) knows no descriptor beyond 1,023
        for fd in (*(stream.fd for stream in streams), *_signals.wakeups):
            poll.register(fd, select.POLLIN)
        readable = dict(poll.poll(left * 1000))
        for stream in streams:
            if stream.fd in readable:
                stream.receive()


def readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor has something to read, or its end. By poll(2): select(2) knows none beyond 1,023."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def raise_signals() -> None:
    """Raise Interrupted where SIGINT or SIGTERM has come (inside `signals_interrupt_waits`)."""
    if _signals.arrived:
        raise Interrupted(_signals.arrived.popleft())


class _Signals:
    """Signals that have come but have not been raised, and the descriptor that poll wakes up on when one comes."""

    def __init__(self) -> None:
        self.arrived: deque[int] = deque()
        self.wakeups: list[int] = []

    def note(self, signum: int, _: FrameType | None) -> None:
        self.arrived.append(signum)


_signals = _Signals()  # a process has one disposition for each signal, so this state is the process's too


@contextmanager
def signals_interrupt_waits() -> Iterator[None]:
    """Have SIGINT and SIGTERM end the wait under way, or the next one, and nothing else.

    A handler that raised at once could do so between the fork of a server and the note of its pid.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    old_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    old = {number: signal.signal(number, _signals.note) for number in (signal.SIGINT, signal.SIGTERM)}
    _signals.wakeups.append(reading)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup)
        _signals.wakeups.remove(reading)
        _signals.arrived.clear()
        os.close(reading)
        os.close(writing)
