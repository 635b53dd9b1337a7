"""What it costs to enter the kernel, to ask without entering it, and to let another process run.

A system call switches the CPU to kernel mode and back: registers saved, a few hundred cycles, and more where the
kernel guards against speculative leaks. It is not a context switch: the same process goes on.

The time can be had without that. The kernel keeps it in a page that it maps into every process, with the code to read
it: the vDSO (vdso(7)). clock_gettime(2) is then a function call. Proof: in a process that has no right to make any
system call but read, write and exit (seccomp(2), strict mode) it still works, and getppid(2) kills. (The coarse clock,
for this mode also takes away the instruction that reads the time stamp counter.)

A context switch puts one process to sleep and another one on the CPU: registers, the address space, what the caches
held. Two processes that pass a byte to and fro through two pipes on one CPU can do nothing without it.

The calls are timed as Python makes them; what its call of a function costs is measured with one that does nothing, and
subtracted.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.lab.experiment import Experiment, Observation, at_least, at_most, same, told
from bench.lab.processes import child, pipe

CALLS, ROUNDS = 5_000, 9
ROUND_TRIPS = 1_000
PR_SET_SECCOMP, SECCOMP_MODE_STRICT = 22, 1  # <linux/prctl.h>, <linux/seccomp.h>
CLOCK_MONOTONIC_COARSE = 6  # <linux/time.h>; the time module has none
IN_MEMORY = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")  # clocks that the vDSO can read


def run() -> Iterator[Observation]:
    """Time a system call, a clock read and a switch; then take away the right to make system calls."""
    nothing = quickest_ns(threading.get_ident)
    call, clock = quickest_ns(os.getppid) - nothing, quickest_ns(time.monotonic) - nothing
    yield told("a system call (getppid)", call, "ns")
    yield told("a clock read (CLOCK_MONOTONIC)", clock, "ns")
    source = clock_source()
    if source in IN_MEMORY:
        yield at_most(f"a clock read ({source}) / a system call", clock / call, 0.9, "x")
    elif source:
        yield told(f"a clock read ({source}) / a system call", clock / call, "x")
    if hasattr(os, "sched_setaffinity"):
        took_ns, switches = pass_a_byte()
        yield at_least(f"{ROUND_TRIPS:,} round trips on one CPU: switches", switches, ROUND_TRIPS)
        yield told("one way: a write, a switch, a read", took_ns / ROUND_TRIPS / 2, "ns")
        yield at_least("one way / a system call", took_ns / ROUND_TRIPS / 2 / call, 2, "x")
    if sys.platform == "linux":
        yield from without_system_calls()


def quickest_ns(call: Callable[[], object]) -> float:
    """Nanoseconds of one call, in the quickest of several rounds."""
    return 1e9 * min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS


def pass_a_byte() -> tuple[int, int]:
    """Send a byte to and fro between two processes on one CPU; return nanoseconds, and switches away from this one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with pipe() as (there_reading, there_writing), pipe() as (back_reading, back_writing):

            def answer() -> None:
                for _ in range(ROUND_TRIPS):
                    os.write(back_writing, os.read(there_reading, 1))

            with child(answer):
                switches, began = switches_so_far(), time.perf_counter_ns()
                for _ in range(ROUND_TRIPS):
                    os.write(there_writing, b"x")
                    os.read(back_reading, 1)
                return time.perf_counter_ns() - began, switches_so_far() - switches
    finally:
        os.sched_setaffinity(0, before)


def switches_so_far() -> int:
    """How often the kernel has taken this process off the CPU, asked for or not."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw + usage.ru_nivcsw


def without_system_calls() -> Iterator[Observation]:
    """Let a child give up its right to them, and then read the clock, say so, and ask for its parent."""
    with pipe() as (reading, writing):

        def work() -> None:
            prctl = ctypes.CDLL(None).prctl
            read, tell, ask = time.clock_gettime, os.write, os.getppid
            if prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) != 0:
                os._exit(9)
            read(CLOCK_MONOTONIC_COARSE)
            tell(writing, b"clock ")
            ask()
            tell(writing, b"getppid ")

        with child(work) as confined:
            status = confined.wait()
            if status == 9:
                yield told("seccomp's strict mode", "not to be had here")
                return
            os.set_blocking(reading, False)
            done = os.read(reading, 100).decode().split()
            works = {True: "works", False: "does not"}
            yield same("no right to system calls: a clock read", "works", works["clock" in done])
            ended = signal.Signals(-status).name if status < 0 else works["getppid" in done]
            yield same("and getppid", signal.SIGKILL.name, ended)


def clock_source() -> str:
    """What the kernel reads the time from; nothing where it doesn't say."""
    try:
        return Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text().strip()
    except OSError:
        return ""


EXPERIMENT = Experiment(
    name="mode-switch",
    claim="a clock read costs less than a system call, and that less than a context switch",
    run=run,
)
