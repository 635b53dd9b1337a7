"""Counts of a server's system calls, by name and by error: what a provider offers, and which provider to take.

A provider attaches to processes that run already, follows their new threads and children, and counts until it is
stopped. One file a provider; they are tried in the order of preference. Nothing is divided or compared here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

OTHER = "other"  # calls whose names a provider did not look for


class CountingError(Exception):
    """A provider could not count; the message says why."""


class Tally(NamedTuple):
    """What was counted: calls by name, and those that ended in an error by name and error, such as "read EAGAIN"."""

    calls: dict[str, int]
    errors: dict[str, int]


class CallCounter(Protocol):
    """What every provider offers."""

    name: str
    messages: int  # that are enough: the cost of counting one differs widely

    def look_again(self) -> None:
        """Forget which calls were met: the next count is of another strategy, and only there to meet its calls."""

    def look_further(self) -> Iterator[None]:
        """Look for more names besides those that were met, some at a time; a count comes after each step."""

    def unavailable(self) -> str | None:
        """Try it on a process of our own; the reason why it can't count here, or None."""

    def start(self, pids: Sequence[int]) -> None:
        """Count from now on; returns once it does. Raises CountingError."""

    def stop(self) -> Tally:
        """Count no longer. Raises CountingError."""

    def abandon(self) -> None:
        """Let go of the processes, whatever state it is in; nothing is returned."""


class Chosen(NamedTuple):
    """The first provider that works here, None if none does, and why those before it don't."""

    counter: CallCounter | None
    unavailable: dict[str, str]


def choose(counters: Sequence[CallCounter]) -> Chosen:
    """Try providers in their order."""
    unavailable: dict[str, str] = {}
    for counter in counters:
        reason = counter.unavailable()
        if reason is None:
            return Chosen(counter, unavailable)
        unavailable[counter.name] = reason
    return Chosen(None, unavailable)


@contextmanager
def guinea_pig() -> Iterator[int]:
    """A process of our own that sleeps in read(2) until the end of the context, to try a provider on."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.communicate()


def tried(counter: CallCounter) -> str | None:
    """Let a provider attach to a process and let go of it again; the reason where it can't."""
    try:
        with guinea_pig() as pid:
            try:
                counter.start([pid])
                counter.stop()
            finally:
                counter.abandon()
    except CountingError as error:
        return str(error)
    except OSError as error:
        return f"it can't be tried: {error.strerror}"
    return None
