"""System calls counted by the kernel's tracepoints, through `perf stat`: exact, and the server is never stopped.

It needs perf, and the right to use tracepoints: root as a rule. Each name is a tracepoint of its own (syscalls:*), and
to let go of one takes the kernel about 30 ms: so a first count looks for all names of CANDIDATES, and the following
ones for those that it met and for those of ALWAYS. raw_syscalls:sys_enter counts every call whatever its name: what is
left over is told as "other", and may be asked for by all the names that there are (`look_further`).
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bench import processes
from bench.events import readable
from bench.probes.calls import OTHER, CountingError, Tally, tried
from bench.probes.waiting import stderr_of

PATIENCE_S = 30.0
ALWAYS = ("futex", "mmap", "mremap", "munmap", "brk")  # what one process of a strategy may do and another not
CANDIDATES = (
    *ALWAYS,
    *("read", "write", "madvise"),
    *("accept", "accept4", "clone", "clone3", "close", "shutdown"),
    *("recvfrom", "recvmsg", "sendto", "sendmsg", "readv", "writev", "pread64", "pwrite64", "splice", "sendfile64"),
    *("select", "pselect6", "poll", "ppoll", "epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl"),
    *("io_uring_enter", "io_submit", "io_getevents", "rt_sigtimedwait", "rt_sigreturn", "fcntl", "ioctl"),
    *("nanosleep", "clock_nanosleep", "sched_yield", "timerfd_settime", "restart_syscall"),
)
AT_ONCE = 60  # names besides: each takes a descriptor for each thread while it is counted
# Every other error of a call is counted as "other".
ERRNOS = (errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EINPROGRESS, errno.EPIPE, errno.ECONNRESET, errno.ETIME)
ENTER, EXIT = "raw_syscalls:sys_enter", "raw_syscalls:sys_exit"
ANY_ERROR = "ret < 0 && ret > -4096"

Event = tuple[str, str]  # a tracepoint, and a filter on its fields: "" takes all


class PerfStat:
    """Counts with `perf stat -p PID`, enabled and disabled through its control descriptors."""

    name = "perf stat"
    messages = 3_200

    def __init__(self, guard: processes.Guard, cpus: Sequence[int] = (), program: str = "perf") -> None:
        self._guard, self._cpus, self._program = guard, cpus, program
        self._child: processes.Child | None = None
        self._folder: Path | None = None
        self._control: list[int] = []
        self._events: list[Event] = []
        self._known: list[str] = []  # candidates that there is a tracepoint for
        self._all: list[str] = []  # likewise, candidates or not
        self.names: list[str] = []  # that are looked for
        self.errnos: list[int] = []  # that were met: these are told by name as well

    def unavailable(self) -> str | None:
        """Whether it is installed, and may use tracepoints on a process of ours."""
        if shutil.which(self._program) is None:
            return f"{self._program} is not installed"
        listed = self._list()
        self._known = [name for name in CANDIDATES if name in listed]
        self._all = sorted(listed)
        if not self._known:
            return "perf lists no tracepoints of system calls here: the kernel has none, or they may not be read"
        self.names = self._known[:1]
        reason = tried(self)
        self.look_again()
        return reason

    def look_again(self) -> None:
        """Look for all candidates."""
        self.names, self.errnos = self._known, []

    def look_further(self) -> Iterator[None]:
        """Look for all other names as well, some at a time."""
        others = [name for name in self._all if name not in self.names]
        for at in range(0, len(others), AT_ONCE):
            self.names, self.errnos = [*self.names, *others[at : at + AT_ONCE]], []
            yield

    def start(self, pids: Sequence[int]) -> None:
        """Open the counters and enable them; returns once they count."""
        self._events = events(self.names, self.errnos)
        self._folder = self._guard.make_folder()
        told, tell = os.pipe()
        heard, hear = os.pipe()
        self._control = [tell, heard]
        argv = [self._program, "stat", "-x", ",", "-o", str(self._log()), "-D", "-1"]
        argv += ["--control", f"fd:{told},{hear}", "-p", ",".join(map(str, pids))]
        for tracepoint, only in self._events:
            argv += ["-e", tracepoint, *(["--filter", only] if only else [])]
        try:
            self._child = processes.start(argv, self._guard, self._cpus, pass_fds=[told, hear])
        except OSError as error:
            raise CountingError(f"{self._program} can't be started: {error.strerror}") from None
        finally:
            os.close(told)
            os.close(hear)
        self._order("enable")

    def stop(self) -> Tally:
        """Disable the counters and read them."""
        assert self._child is not None
        self._order("disable")
        child, self._child = self._child, None
        os.kill(child.pid, signal.SIGINT)
        ending = processes.end(child, terminate=False, patience_s=PATIENCE_S)
        if ending.killed:
            raise CountingError("perf stat did not end and had to be killed")
        counts = parse(self._log().read_text(errors="replace"), len(self._events))
        self._close()
        tally = tally_of(self._events, counts)
        self._narrow(tally, dict(zip(self._events, counts, strict=True)))
        return tally

    def abandon(self) -> None:
        """Let go of the processes and remove the file."""
        child, self._child = self._child, None
        if child is not None:
            os.kill(child.pid, signal.SIGINT)
            processes.end(child, terminate=False, patience_s=PATIENCE_S)
        self._close()

    def _narrow(self, tally: Tally, counts: dict[Event, int]) -> None:
        self.names = [name for name in self.names if name in ALWAYS or tally.calls.get(name)]
        met = [number for number in ERRNOS if counts[EXIT, f"ret == -{number}"]]
        self.errnos = sorted({*self.errnos, *met})

    def _list(self) -> set[str]:
        """The names of system calls that perf has a tracepoint for."""
        try:
            listed = subprocess.run(
                [self._program, "list", "syscalls:sys_enter_*"],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return set()
        prefix = "syscalls:sys_enter_"
        return {word.removeprefix(prefix) for word in listed.split() if word.startswith(prefix)}

    def _order(self, command: str) -> None:
        """Say it on the control descriptor and wait for the answer. Raises CountingError."""
        child = self._child
        assert child is not None
        tell, heard = self._control
        with suppress(BrokenPipeError):
            os.write(tell, command.encode() + b"\n")
        if not readable(heard, PATIENCE_S) or not os.read(heard, 64).startswith(b"ack"):
            said = stderr_of(child)
            self.abandon()
            raise CountingError(_complaint(said))

    def _log(self) -> Path:
        assert self._folder is not None
        return self._folder / "counts"

    def _close(self) -> None:
        while self._control:
            os.close(self._control.pop())
        folder, self._folder = self._folder, None
        if folder is not None:
            self._guard.remove_folder(folder)


def events(names: Sequence[str], errnos: Sequence[int]) -> list[Event]:
    """Everything that one `perf stat` is to count: calls by name, errors by number, and errors met by name."""
    return [
        (ENTER, ""),
        *((f"syscalls:sys_enter_{name}", "") for name in names),
        (EXIT, ANY_ERROR),
        *((EXIT, f"ret == -{number}") for number in ERRNOS),
        *((f"syscalls:sys_exit_{name}", f"ret == -{number}") for number in errnos for name in names),
    ]


def parse(text: str, expected: int) -> list[int]:
    """Read what `perf stat -x,` wrote: a line an event, in the order of the events. Raises CountingError.

    An event that never came on a CPU is "<not counted>": that is none. See perf-stat(1), "CSV FORMAT".
    """
    rows = [line.split(",") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(rows) != expected:
        raise CountingError(f"perf stat told {len(rows)} counts of {expected}")
    counts = []
    for row in rows:
        if row[0] == "<not supported>":
            raise CountingError(f"perf stat does not support {row[2] if len(row) > 2 else 'an event'}")
        counts.append(0 if row[0] == "<not counted>" else int(float(row[0])))
    return counts


def tally_of(counted: Sequence[Event], counts: Sequence[int]) -> Tally:
    """Put counts by event together: by name, with what has no name as "other"; likewise the errors."""
    found = dict(zip(counted, counts, strict=True))
    calls = _by_name(found, "syscalls:sys_enter_")
    calls[OTHER] = max(0, found[ENTER, ""] - sum(calls.values()))
    errors: dict[str, int] = {}
    for number in ERRNOS:
        name = errno.errorcode[number]
        by_name = {
            f"{tracepoint.removeprefix('syscalls:sys_exit_')} {name}": count
            for (tracepoint, only), count in found.items()
            if only == f"ret == -{number}" and tracepoint != EXIT
        }
        errors |= by_name
        errors[f"{OTHER} {name}"] = max(0, found[EXIT, f"ret == -{number}"] - sum(by_name.values()))
    errors[f"{OTHER} error"] = max(0, found[EXIT, ANY_ERROR] - sum(errors.values()))
    return Tally(_some(calls), _some(errors))


def _by_name(found: dict[Event, int], prefix: str) -> dict[str, int]:
    return {event[0].removeprefix(prefix): count for event, count in found.items() if event[0].startswith(prefix)}


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _complaint(stderr: str) -> str:
    """The line of perf's that says what is wrong."""
    lines = [line.strip(" \\_\t") for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Error:", "can't", "unknown", "No permission"))]
    said = (telling or lines or ["perf stat did not start and gave no reason"])[0]
    return " ".join(said.removeprefix("Error:").split()).rstrip(".")
