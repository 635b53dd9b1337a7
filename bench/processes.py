"""Start and end other processes: pinned to CPUs, each in a process group of its own, never left behind.

What they do, and what is read from them, is no concern of this file.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from bench.errors import BadInputError

# The folder that holds bench, servers and clients, in a checkout and where they are installed.
HOME = Path(__file__).resolve().parent.parent
GUARD = Path(__file__).with_name("guard.py")
MARK = "IOBENCH_GUARD"  # in the environment of all that we start, and so of all that it starts: see guard.py
GUARD_PATIENCE_S = 10.0
TAIL_BYTES = 2000


def environment(base: Mapping[str, str] = os.environ, home: Path = HOME) -> dict[str, str]:
    """An environment in which `python -m servers` is that of `home`, whatever folder it is started in.

    PYTHONSAFEPATH (Python 3.11) keeps a folder called `servers` in the working directory from coming first.
    """
    path = os.pathsep.join([str(home), *filter(None, [base.get("PYTHONPATH")])])
    return {**base, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


class Guard:
    """The process that ends ours, and removes their folders, when iobench itself is killed (see guard.py)."""

    def __init__(self) -> None:
        _refuse_without_temporary_folder()
        self.mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal goes to the whole foreground process group
        )

    def watch(self, group: int) -> None:
        """End this process group should iobench be killed."""
        self._say(f"+group {group}\n")

    def forget(self, group: int) -> None:
        """The group has ended; its number may be used again by a stranger."""
        self._say(f"-group {group}\n")

    def make_folder(self, prefix: str = "iobench-") -> Path:
        """A temporary folder that nobody else may read, and that goes with the guard if it was not removed before."""
        folder = Path(tempfile.gettempdir(), f"{prefix}{secrets.token_hex(8)}")
        self._say(f"+folder {folder}\n")  # first: a folder that was made and not told would stay
        folder.mkdir(mode=0o700)
        return folder

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder that it made, with all that is in it."""
        shutil.rmtree(folder, ignore_errors=True)
        self._say(f"-folder {folder}\n")

    def close(self) -> None:
        """End the guard, and with it whatever may be left of all that was started."""
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
        try:
            self._process.wait(GUARD_PATIENCE_S)
        except subprocess.TimeoutExpired:  # somebody stopped it
            self._process.kill()
            self._process.wait()

    def _say(self, line: str) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(BrokenPipeError):  # somebody killed the guard: runs go on, only less well guarded
            os.write(pipe.fileno(), line.encode())


def _refuse_without_temporary_folder() -> None:
    """Sockets and what servers say go into one: find out before anything is measured. Raises BadInputError."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise BadInputError(f"{error.strerror}.", "TMPDIR=DIR iobench ..., with a DIR that you may write to") from None


@dataclass
class Child:
    """A process we started, its standard error, and the pipes to it where there are any."""

    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    guard: Guard

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its process group."""
        return self.process.pid


def start(
    argv: Sequence[str],
    guard: Guard,
    cpus: Sequence[int] = (),
    pass_fds: Sequence[int] = (),
    piped: bool = False,
    *,
    cwd: Path = HOME,
    env: Mapping[str, str] | None = None,
) -> Child:
    """Start `argv` in a session of its own, allowed on `cpus` only. `piped`: with pipes to its stdin and stdout.

    `env` is in place of `environment()`; the mark of the guard is added to it. The affinity is inherited across fork
    and exec (sched_setaffinity(2)), so it holds from the first instruction on. Raises OSError.
    """
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
    stream = subprocess.PIPE if piped else subprocess.DEVNULL
    try:
        with pinned(cpus):
            process = subprocess.Popen(
                argv,
                stdin=stream,
                stdout=stream,
                stderr=stderr,
                bufsize=0,
                pass_fds=pass_fds,
                cwd=cwd,
                env={**(environment() if env is None else env), MARK: guard.mark},
                start_new_session=True,
            )
    except OSError:
        stderr.close()
        raise
    guard.watch(process.pid)
    return Child(process, stderr, guard)


AGAIN = (0.01, 0.04, 0.2)  # of the patience: when SIGTERM is sent again to one that hasn't ended yet


class Ending(NamedTuple):
    """How a process ended. `killed`: it did not end by itself in time. `stderr_tail`: the last that it wrote there.

    `unasked`: it had ended before it was to be terminated. `stopped`: it could not end, for a signal had stopped it.
    """

    exit_code: int
    killed: bool
    stderr_tail: str
    unasked: bool = False
    stopped: bool = False


def end(child: Child, terminate: bool, patience_s: float) -> Ending:
    """End the whole process group and close all that belongs to it.

    `terminate` sends SIGTERM first; with or without it the process has `patience_s` to end by itself.
    """
    unasked = terminate and _has_ended(child.pid, 0)
    if terminate:
        _signal_group(child, signal.SIGTERM)
        # One that comes just before a system call is entered doesn't interrupt it, and CPython's handler runs between
        # two byte codes: it would wait for as long as the call sleeps. Nor does the main thread hear of one that the
        # kernel gave to another, as it does where the main thread still has SIGCONT to deal with.
        waits_s = [patience_s * share for share in AGAIN]
        for wait_s in waits_s:
            if not _has_ended(child.pid, wait_s):
                _signal_group(child, signal.SIGTERM)
        patience_s -= sum(waits_s)
    killed = not _has_ended(child.pid, patience_s)
    stopped = killed and is_stopped(child.pid)
    # Until it is reaped, its number can't be given to another process; what is left of the group can be killed safely.
    _signal_group(child, signal.SIGKILL)
    exit_code = child.process.wait()
    child.guard.forget(child.pid)
    for pipe in (child.process.stdin, child.process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    with child.stderr as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return Ending(exit_code, killed, file.read().decode(errors="replace").strip(), unasked, stopped)


def is_stopped(pid: int) -> bool:
    """Whether a signal, such as SIGSTOP, has stopped the process: it does nothing until SIGCONT."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def pause(child: Child, strays: Sequence[int] = ()) -> None:
    """Stop the whole process group, and `strays`: no CPU time until `go_on`, whatever they would do with it (SIGSTOP).

    A stray is a process file descriptor (pidfd_open(2)): a number could be given to another process meanwhile.
    """
    _signal_group(child, signal.SIGSTOP)
    _signal_strays(strays, signal.SIGSTOP)


def go_on(child: Child, strays: Sequence[int] = ()) -> None:
    """Let a paused process group go on, and strays; a signal that came meanwhile is handled then."""
    _signal_group(child, signal.SIGCONT)
    _signal_strays(strays, signal.SIGCONT)


def open_strays(child: Child, family: Iterable[int]) -> list[int]:
    """Process file descriptors of those of a child's family that have left its process group (setsid(2))."""
    found = []
    for pid in family:
        with suppress(OSError):  # it has ended just now
            if os.getpgid(pid) != child.pid:
                found.append(os.pidfd_open(pid))
    return found


def _signal_strays(strays: Sequence[int], signum: int) -> None:
    for fd in strays:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signum)


def how_it_ended(ending: Ending) -> str:
    """Exit code or signal, and the last line of standard error, in words."""
    code = ending.exit_code
    how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    last_line = ending.stderr_tail.splitlines()[-1:] or ["nothing on standard error"]
    return f"{how}: {last_line[0].strip()}"


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Restrict the calling thread, and what it starts meanwhile, to `cpus`; no change where that is impossible."""
    if not cpus or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _signal_group(child: Child, signum: int) -> None:
    if child.process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
            os.killpg(child.pid, signum)


def _has_ended(pid: int, patience_s: float) -> bool:
    """Wait for the end of the process without reaping it."""
    deadline = time.monotonic() + patience_s
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True
