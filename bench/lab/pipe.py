"""A pipe is one-way, holds bytes in the kernel until they are read, and knows how many hold its ends (pipe(7)).

One-way: pipe(2) gives an end to read from and one to write to, and each refuses the other thing.

Buffered: what is written stays in the kernel, up to the pipe's capacity (F_GETPIPE_SZ; 64 KiB on Linux as a rule). Then
a write sleeps, or fails with EAGAIN: this is the flow control of pipes.

Atomic up to PIPE_BUF (4,096 bytes on Linux, 512 by POSIX): such a write is done whole or not at all, and its bytes are
not mixed with another writer's. A longer one may be done in part, and what others write may come in between.

The ends are counted, over all processes and duplicates. A read returns end-of-file only when the last writing end has
closed; a write fails with EPIPE when the last reading end has, and sends SIGPIPE, which kills whoever does not ignore
it. Python ignores it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import groupby

from bench.lab.experiment import Experiment, Observation, same, told
from bench.lab.processes import child, pipe

PIPE_BUF = select.PIPE_BUF
PAGE = max(PIPE_BUF, mmap.PAGESIZE)  # what Linux gives back when it has been read
WRITERS, RECORDS = 4, 100


def run() -> Iterator[Observation]:
    """Use the wrong end, fill it, write from many sides, close its ends."""
    with pipe() as (reading, writing):
        yield same("write to the reading end", "EBADF", outcome(lambda: os.write(reading, b"x")))
        yield same("read from the writing end", "EBADF", outcome(lambda: os.read(writing, 1)))
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        yield same("read while it is empty", "EAGAIN", outcome(lambda: os.read(reading, 1)))
        yield from capacity(writing)

        os.read(reading, PAGE)  # room for so much
        yield same("room for one page: bytes of two that are written", PAGE, os.write(writing, bytes(2 * PAGE)))
        while outcome(lambda: os.read(reading, 65536)) == "done":
            pass
        fill(writing, PIPE_BUF - 1)
        yield same(
            "less room than PIPE_BUF: write PIPE_BUF", "EAGAIN", outcome(lambda: os.write(writing, b"x" * PIPE_BUF))
        )

    torn, runs = concurrent_records()
    yield same(f"{WRITERS} writers, records of PIPE_BUF: mixed records", 0, torn)
    yield told("they came in turns, of one writer each", runs)

    with pipe() as (reading, writing):
        os.set_blocking(reading, False)
        duplicate = os.dup(writing)
        os.close(writing)
        yield same("close one of two writing ends, read", "EAGAIN", outcome(lambda: os.read(reading, 1)))
        os.write(duplicate, b"last words")
        os.close(duplicate)
        yield same("close the last one, read: first what is there", b"last words", os.read(reading, 100))
        yield same("then end-of-file", b"", os.read(reading, 100))

    with pipe() as (reading, writing):
        os.close(reading)
        yield same("close the reading end, write", "EPIPE", outcome(lambda: os.write(writing, b"x")))
        with child(lambda: die_of_sigpipe(writing)) as careless:
            yield same("the same without ignoring SIGPIPE: killed by", signal.SIGPIPE.name, killed_by(careless.wait()))


def capacity(writing: int) -> Iterator[Observation]:
    """Fill the pipe, and see whether that is what it says it holds."""
    held = fill(writing, PIPE_BUF)
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        yield same("write until EAGAIN: bytes = F_GETPIPE_SZ", fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ), held)
    else:
        yield told("write until EAGAIN: bytes", held)


def fill(writing: int, size: int) -> int:
    """Write pieces of this size until there is no room for one; return how many bytes went in."""
    held = 0
    while True:
        try:
            held += os.write(writing, bytes(size))
        except BlockingIOError:
            return held


def concurrent_records() -> tuple[int, int]:
    """Let several processes write at once; return records with bytes of more than one, and the number of turns."""
    with pipe() as (reading, writing), ExitStack() as stack:
        for letter in b"ABCDEFGH"[:WRITERS]:
            record = bytes([letter]) * PIPE_BUF

            def write(record: bytes = record) -> None:
                for _ in range(RECORDS):
                    os.write(writing, record)

            stack.enter_context(child(write))
        os.close(writing)  # so that there is an end of file when the last of them has ended
        read = b"".join(iter(lambda: os.read(reading, 65536), b""))
    records = [read[start : start + PIPE_BUF] for start in range(0, len(read), PIPE_BUF)]
    return sum(len(set(record)) > 1 for record in records), sum(1 for _ in groupby(record[0] for record in records))


def die_of_sigpipe(writing: int) -> None:
    """Write with the signal's default action."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.write(writing, b"x")


def killed_by(exit_code: int) -> str:
    """The signal's name."""
    return signal.Signals(-exit_code).name if exit_code < 0 else f"nothing: exit code {exit_code}"


def outcome(call: Callable[[], object]) -> str:
    """The error's name, as errno(3) has it."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


EXPERIMENT = Experiment(
    name="pipe",
    claim="one-way, buffered in the kernel, whole up to PIPE_BUF; it ends when the last end closes",
    run=run,
)
