"""What a process costs: CPU time, waits for a CPU, switches, memory, threads, descriptors; with its children.

The CPU time is read from the process's own CPU clock, which counts nanoseconds; everything else comes from /proc or,
where there is none, from psutil. The clocks are read first and at one go: at the window's start and end they are what
must be timely, while a server with ten thousand threads takes a while to be read in full.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

PROC = Path("/proc")
MOST_BYTES = 65536  # of a file there, at one go
THREADS_ENDED = "threads ended within the window and took their counts with them"


class Times(NamedTuple):
    """CPU time that a process has used since it began, in whole clock ticks."""

    user_s: float
    system_s: float


class Switches(NamedTuple):
    """Context switches of one thread since it began."""

    voluntary: int
    involuntary: int


class Turns(NamedTuple):
    """What one thread has had of a CPU since it began: time on one, and time it was ready for one and had none."""

    ran_ns: int
    waited_ns: int


class CpuProbe:
    """CPU time, and waits for a CPU: what can be read often. Each reading begins what the next one ends."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self.at_ns = 0  # of the last reading
        self._cpu_ns: dict[int, int] = {}
        self._turns: dict[int, Turns] = {}

    def read(self, family: Sequence[int]) -> dict[str, float]:
        """What these processes have used, and how long they have waited, since the reading before."""
        self.missing = {}
        used_before, turns_before = self._cpu_ns, self._turns
        self._cpu_ns = self._read_clocks(family)
        self._turns = self._read_turns(family)
        if turns_before.keys() - self._turns.keys():
            self._miss_turns(THREADS_ENDED)
        grown = [_since(turns, turns_before.get(tid)) for tid, turns in self._turns.items()]
        metrics = {
            "cpu_ns": float(growth(used_before, self._cpu_ns)),
            "runqueue_wait_ns": float(sum(turns.waited_ns for turns in grown)),
            "thread_demand_ns": float(max((sum(turns) for turns in grown), default=0)),
        }
        return {name: value for name, value in metrics.items() if name not in self.missing}

    def _read_clocks(self, family: Sequence[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        before = time.monotonic_ns()
        for pid in family:
            try:
                found[pid] = process_cpu_ns(pid)
            except OSError as error:
                self.missing["cpu_ns"] = f"the CPU clock of process {pid} can't be read: {error.strerror}"
        self.at_ns = (before + time.monotonic_ns()) // 2
        return found

    def _read_turns(self, family: Sequence[int]) -> dict[int, Turns]:
        """By thread."""
        try:
            return {tid: found for pid in family for tid, found in thread_turns(pid).items()}
        except (OSError, ValueError) as error:
            self._miss_turns(str(error))
            return {}

    def _miss_turns(self, reason: str) -> None:
        self.missing["runqueue_wait_ns"] = self.missing["thread_demand_ns"] = reason


class ProcessProbe:
    """CPU, switches, memory, threads and descriptors of processes (see bench.record.Server for the metrics)."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self.opened_ns = 0
        self.closed_ns = 0
        self.family: list[int] = []  # as found at the last reading
        self._roots: list[int] = []
        self._cpu = CpuProbe()
        self._times: dict[int, Times] = {}
        self._switches: dict[int, Switches] = {}

    def unavailable(self) -> str | None:
        """It runs wherever psutil does."""
        return None

    def start(self, pids: Sequence[int]) -> None:
        """Take the first reading."""
        self.missing = {}
        self._roots = list(pids)
        family = self.family = with_children(pids)
        self._cpu.read(family)
        self.opened_ns = self._cpu.at_ns
        self.missing |= self._cpu.missing
        self._times = self._read_times(family)
        self._switches = self._read_switches(family)

    def stop(self) -> dict[str, float]:
        """Take the second reading; CPU and switches are the differences, the rest is as found now."""
        family = self.family = with_children(self._roots)
        metrics = self._cpu.read(family)
        self.closed_ns = self._cpu.at_ns
        self.missing |= self._cpu.missing
        self._count_times(family, metrics)
        self._count_switches(family, metrics)
        self._take_stock(family, metrics)
        return {name: value for name, value in metrics.items() if name not in self.missing}

    def _read_times(self, family: Sequence[int]) -> dict[int, Times]:
        found = {}
        for pid in family:
            try:
                read = psutil.Process(pid).cpu_times()
            except psutil.Error as error:
                self.missing["cpu_user_ns"] = self.missing["cpu_system_ns"] = str(error)
            else:
                found[pid] = Times(read.user, read.system)
        return found

    def _count_times(self, family: Sequence[int], metrics: dict[str, float]) -> None:
        now, started = self._read_times(family), self._times
        for at, name in enumerate(("cpu_user_ns", "cpu_system_ns")):
            grown_s = growth(
                {pid: read[at] for pid, read in started.items()}, {pid: read[at] for pid, read in now.items()}
            )
            metrics[name] = float(round(grown_s * 1e9))

    def _read_switches(self, family: Sequence[int]) -> dict[int, Switches]:
        """By thread; by process where there is no /proc."""
        try:
            if (PROC / "self").exists():
                return {tid: found for pid in family for tid, found in thread_switches(pid).items()}
            return {pid: Switches(*psutil.Process(pid).num_ctx_switches()) for pid in family}
        except (OSError, psutil.Error, ValueError) as error:
            self._miss_switches(str(error))
            return {}

    def _count_switches(self, family: Sequence[int], metrics: dict[str, float]) -> None:
        now = self._read_switches(family)
        if self._switches.keys() - now.keys():
            self._miss_switches(THREADS_ENDED)
        started = self._switches
        metrics["switches_voluntary"] = growth(
            {tid: read.voluntary for tid, read in started.items()}, {tid: read.voluntary for tid, read in now.items()}
        )
        metrics["switches_involuntary"] = growth(
            {tid: read.involuntary for tid, read in started.items()},
            {tid: read.involuntary for tid, read in now.items()},
        )

    def _miss_switches(self, reason: str) -> None:
        self.missing["switches_voluntary"] = self.missing["switches_involuntary"] = reason

    def _take_stock(self, family: Sequence[int], metrics: dict[str, float]) -> None:
        """Memory, threads and descriptors as they are now."""
        metrics["processes"] = float(len(family))
        readers: dict[str, Callable[[psutil.Process], int]] = {
            "rss_bytes": lambda process: process.memory_info().rss,
            "rss_peak_bytes": lambda process: peak_rss_bytes(process.pid),
            "threads": lambda process: process.num_threads(),
            "descriptors": lambda process: process.num_fds(),
        }
        for metric, read in readers.items():
            try:
                metrics[metric] = float(sum(read(psutil.Process(pid)) for pid in family))
            except (psutil.Error, OSError, ValueError) as error:
                self.missing[metric] = str(error)


def process_clock(pid: int) -> int:
    """The number (clockid_t) of the CPU clock of a process.

    It is made of the process id as clock_getcpuclockid(3) does it: bits inverted, shifted by three, the type (2:
    scheduler time, CPUCLOCK_SCHED) in the lowest two and the bit for a single thread left clear.
    """
    return (~pid << 3) | 2


def process_cpu_ns(pid: int) -> int:
    """The CPU time that all threads of a process have used, in nanoseconds. Raises OSError."""
    return time.clock_gettime_ns(process_clock(pid))


def thread_switches(pid: int) -> dict[int, Switches]:
    """Context switches of each thread of a process. Raises OSError.

    /proc/PID/status counts the main thread alone, hence the tour of /proc/PID/task.
    """
    return {
        tid: Switches(
            _status_field(status, b"voluntary_ctxt_switches"), _status_field(status, b"nonvoluntary_ctxt_switches")
        )
        for tid, status in _of_threads(pid, "status")
    }


def thread_turns(pid: int) -> dict[int, Turns]:
    """What each thread of a process has had of a CPU. Raises OSError, and ValueError where the kernel keeps no account.

    /proc/PID/task/TID/schedstat has the time on a CPU, the time waited for one, and how often the thread was given one
    (Documentation/scheduler/sched-stats.rst); a kernel that does not keep them says three times nought.
    """
    found = {}
    times_run = 0
    for tid, line in _of_threads(pid, "schedstat"):
        ran_ns, waited_ns, times = line.split()
        found[tid] = Turns(int(ran_ns), int(waited_ns))
        times_run += int(times)
    if times_run == 0:
        raise ValueError("the kernel keeps no run-queue wait (schedstat)")
    return found


def _of_threads(pid: int, name: str) -> Iterator[tuple[int, bytes]]:
    """A file of each thread's folder in /proc, by the thread's number. Raises OSError."""
    with os.scandir(PROC / str(pid) / "task") as tasks:
        for task in tasks:
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                yield int(task.name), _contents(f"{task.path}/{name}")


def _contents(path: str) -> bytes:
    """A file by bare system calls: a server may have ten thousand threads, and pathlib takes four times as long."""
    fd, found = os.open(path, os.O_RDONLY), b""
    try:
        while part := os.read(fd, MOST_BYTES):
            found += part
    finally:
        os.close(fd)
    return found


def _since(now: Turns, before: Turns | None) -> Turns:
    return Turns(now.ran_ns - before.ran_ns, now.waited_ns - before.waited_ns) if before else now


def thread_waits_ns(pid: int) -> dict[int, int]:
    """How long each thread of a process was ready for a CPU and had none; raises what `thread_turns` does."""
    return {tid: turns.waited_ns for tid, turns in thread_turns(pid).items()}


def peak_rss_bytes(pid: int) -> int:
    """The most memory that a process has had resident (VmHWM in /proc/PID/status, proc_pid_status(5)).

    Raises OSError, and ValueError where the line is missing, as it is for a process that has just ended."""
    return _status_field((PROC / str(pid) / "status").read_bytes(), b"VmHWM") * 1024


def with_children(pids: Iterable[int]) -> list[int]:
    """The processes and all that descend from them; those that have gone are left out."""
    family = [pid for pid in pids if psutil.pid_exists(pid)]
    for pid in family:  # grows as it is read
        family += children(pid)
    return family


def children(pid: int) -> list[int]:
    """The children of a process, none if it has gone.

    The kernel lists them by the thread that forked them, in /proc/PID/task/TID/children (proc_tid_children(5)), if it
    was built so. psutil looks at every process of the machine instead, which takes milliseconds.
    """
    found: list[int] = []
    try:
        with os.scandir(PROC / str(pid) / "task") as tasks:
            for task in tasks:
                found += map(int, _contents(f"{task.path}/children").split())
        return found
    except ProcessLookupError:
        return found
    except FileNotFoundError:
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []


def growth(before: dict[int, float] | dict[int, int], after: dict[int, float] | dict[int, int]) -> float:
    """How much the sum has grown; who is new began at nothing, who has gone is left out."""
    return sum(value - before.get(key, 0) for key, value in after.items())


def _status_field(status: bytes, name: bytes) -> int:
    """The number in a line such as "VmHWM:      1234 kB"."""
    start = status.index(b"\n" + name + b":") + len(name) + 2
    return int(status[start : status.index(b"\n", start)].split()[0])
