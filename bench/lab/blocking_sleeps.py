"""A blocked read(2) costs nothing while it waits; one that is tried again and again costs a CPU.

A read of an empty pipe puts the process to sleep: the kernel takes it off the CPU (state S in /proc/PID/stat), notes it
on the pipe's wait queue (/proc/PID/wchan names the kernel's function that it sleeps in), and runs somebody else. That
is one voluntary context switch. The next one is when a write has woken it and it sleeps again.

With O_NONBLOCK the same read returns EAGAIN at once (read(2)). Whoever just tries again never sleeps: one system call
after the other with no result, and a CPU that is busy for as long as the wait lasts. This is why descriptors that do
not block come with something to wait on: select, poll, epoll.

Two children wait for the same byte, one of each kind. The parent lets them wait until the second has had EAGAIN ten
thousand times, looks at what both have used, and then writes the byte.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.lab.experiment import Experiment, Observation, at_least, same, told
from bench.lab.processes import asleep, child, pipe, until

TRIES = 10_000


def run() -> Iterator[Observation]:
    """Let one child block and another poll, for the same time."""
    with pipe() as (reading, writing), child(lambda: os.read(reading, 1)) as blocked:
        until(lambda: asleep(blocked.pid), "a sleeping reader")
        if psutil.LINUX:
            state = psutil.Process(blocked.pid).status()
            yield same("read of an empty pipe: state of the process", psutil.STATUS_SLEEPING, state)
        where = sleeps_in(blocked.pid)
        if where:
            yield told("asleep in the kernel's function", where)
        before = used(blocked.pid)

        with pipe() as (other_reading, other_writing), mmap.mmap(-1, 8) as tries:
            os.set_blocking(other_reading, False)
            with child(lambda: poll(other_reading, tries)) as polling:
                until(lambda: count(tries) > 0, "an EAGAIN")
                begun_s, _ = used(polling.pid)
                until(lambda: count(tries) >= TRIES, f"{TRIES:,} times EAGAIN")
                yield at_least("the non-blocking read, meanwhile: EAGAINs", count(tries), TRIES)
                yield told("state of the process that polls", psutil.Process(polling.pid).status())
                burnt_s = until(lambda: at_least_50_ms(used(polling.pid)[0] - begun_s), "50 ms of CPU time")
                yield at_least("CPU time that it has used", round(1000 * burnt_s), 50, "ms")
                cpu_s, switches = (now - then for now, then in zip(used(blocked.pid), before, strict=True))
                yield same("the blocked one: CPU time in clock ticks", 0, round(100 * cpu_s))
                yield same("and context switches", 0, int(switches))
                os.write(other_writing, b"x")
                yield same("write a byte: exit code of the polling one", 0, polling.wait())

        os.write(writing, b"x")
        yield same("and, woken by another byte, of the blocked one", 0, blocked.wait())


def poll(reading: int, tries: mmap.mmap) -> None:
    """Try until there is a byte, and count the EAGAINs where the parent sees them."""
    number = 0
    while True:
        try:
            os.read(reading, 1)
            return
        except BlockingIOError:
            number += 1
            tries[:8] = number.to_bytes(8, "little")


def count(tries: mmap.mmap) -> int:
    """The number that `poll` has come to."""
    return int.from_bytes(tries[:8], "little")


def used(pid: int) -> tuple[float, int]:
    """CPU time in seconds, and voluntary context switches."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    return times.user + times.system, process.num_ctx_switches().voluntary


def at_least_50_ms(seconds: float) -> float:
    """Nothing as long as it is less: clock ticks of 10 ms are as exact as most systems tell of another process."""
    return seconds if round(seconds, 2) >= 0.05 else 0.0


def sleeps_in(pid: int) -> str:
    """The kernel's function that a process waits in; nothing where that isn't told."""
    try:
        where = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return ""
    return "" if where == "0" else where


EXPERIMENT = Experiment(
    name="blocking-sleeps",
    claim="a blocked read uses no CPU, a non-blocking one that is repeated uses all there is",
    run=run,
)
