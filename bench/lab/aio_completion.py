"""POSIX asynchronous I/O: ask for a transfer, and be told when it is done (aio(7)).

aio_read(3) takes a descriptor and a buffer and returns at once. What is told later is not that a read would succeed,
but that it has been done: the bytes are in the buffer. That is completion; aio_return(3) has the result that read(2)
would have had.

On Linux the kernel knows nothing of it. The C library (glibc) has threads of its own that sleep in pread(2), or in
read(2) where there is no position to read from, and it is they who tell, in the way that was asked for (sigevent(7)):

    SIGEV_NONE      nobody does: ask with aio_error(3), or sleep in aio_suspend(3)
    SIGEV_SIGNAL    such a thread sends the process a signal, with a value that tells which request
    SIGEV_THREAD    a function is called in yet another thread

Requests to different descriptors end in any order, whenever their bytes come. Those to one descriptor are done by one
thread, one after the other, in the order in which they were submitted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.lab.experiment import Experiment, Observation, same
from bench.lab.processes import pipe, until

SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD = 0, 1, 2
SI_ASYNCIO = -4  # <bits/siginfo-consts.h>
Notify = ctypes.CFUNCTYPE(None, ctypes.c_size_t)


class Request(ctypes.Structure):
    """struct aiocb of 64-bit glibc, with the struct sigevent inside it."""

    _fields_ = (
        ("fd", ctypes.c_int),
        ("opcode", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("value", ctypes.c_size_t),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", Notify),
        ("attributes", ctypes.c_void_p),
        ("rest", ctypes.c_char * 112),
    )


class Read:
    """A read that has been asked for, and its buffer."""

    def __init__(self, fd: int, size: int = 100, **how_to_tell: object) -> None:
        self.buffer = ctypes.create_string_buffer(size)
        self.request = Request(fd=fd, buffer=ctypes.addressof(self.buffer), size=size, **how_to_tell)
        if library().aio_read(ctypes.byref(self.request)) != 0:
            raise OSError(ctypes.get_errno(), f"aio_read: {os.strerror(ctypes.get_errno())}")

    @property
    def state(self) -> str:
        """What aio_error says."""
        error = library().aio_error(ctypes.byref(self.request))
        return errno.errorcode[error] if error else "done"

    def bytes(self) -> bytes:
        """What was read, once it is done."""
        until(lambda: self.state == "done", "the completion")
        return self.buffer.raw[: library().aio_return(ctypes.byref(self.request))]


def run() -> Iterator[Observation]:
    """Ask for reads, write in another order, and look who tells, of what, on which thread."""
    process = psutil.Process()
    with pipe() as (reading_a, writing_a), pipe() as (reading_b, writing_b):
        threads = process.num_threads()
        a, b = Read(reading_a, notify=SIGEV_NONE), Read(reading_b, notify=SIGEV_NONE)
        yield same("aio_read of two empty pipes returns; state", "EINPROGRESS", a.state)
        yield same("threads that the C library has started", 2, process.num_threads() - threads)
        os.write(writing_b, b"to the second")
        yield same("write to the second: its buffer has", b"to the second", b.bytes())
        yield same("state of the first", "EINPROGRESS", a.state)
        os.write(writing_a, b"to the first")
        yield same("write to the first: its buffer has", b"to the first", a.bytes())

        first, second = (Read(reading_a, size=4, notify=SIGEV_NONE) for _ in range(2))
        os.write(writing_a, b"one two ")
        yield same("two reads of one pipe, one write: the first has", b"one ", first.bytes())
        yield same("and the second", b"two ", second.bytes())

    told_by_signal = signal.SIGRTMIN
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [told_by_signal])
    with pipe() as (reading, writing):
        read = Read(reading, notify=SIGEV_SIGNAL, signo=told_by_signal)
        yield same("SIGEV_SIGNAL: before the write there is", None, signal.sigtimedwait([told_by_signal], 0))
        os.write(writing, b"x")
        sent = signal.sigtimedwait([told_by_signal], 10)
        yield same("after it, a signal with the si_code", SI_ASYNCIO, sent.si_code if sent else None)
        ours = sent is not None and sent.si_pid == os.getpid()
        yield same("sent by", "this process", "this process" if ours else "the kernel")
        yield same("and the bytes are in the buffer", b"x", read.bytes())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)

    with pipe() as (reading, writing):
        called: list[tuple[int, int]] = []
        done = threading.Event()

        def notify(value: int) -> None:
            called.append((value, threading.get_native_id()))
            done.set()

        function = Notify(notify)
        read = Read(reading, notify=SIGEV_THREAD, function=function, value=7)
        os.write(writing, b"x")
        done.wait(10)
        value, thread = called[0]
        yield same("SIGEV_THREAD: called with the request's value", 7, value)
        same_one = thread == threading.get_native_id()
        yield same("in which thread", "another one", "the one that asked" if same_one else "another one")
        yield same("and the bytes are in the buffer", b"x", read.bytes())
        until(lambda: not Path(f"/proc/self/task/{thread}").exists(), "the end of the thread that called")


def library() -> ctypes.CDLL:
    """The C library, and what aio_return gives."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "aio_read"):
        libc = ctypes.CDLL("librt.so.1", use_errno=True)  # before glibc 2.34
    libc.aio_return.restype = ctypes.c_ssize_t
    return libc


def unavailable() -> str:
    """How a request is laid out is known for one C library."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc" or struct.calcsize("P") != 8:
        return "the layout of a request (struct aiocb) is known to this experiment for 64-bit glibc only"
    return ""


EXPERIMENT = Experiment(
    name="aio-completion",
    claim="POSIX aio tells that a read has been done, by threads of the C library that slept in it",
    run=run,
    unavailable=unavailable,
)
