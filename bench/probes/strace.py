"""System calls counted by strace: it stops the server at every call and writes a line, which is counted afterwards.

That makes each call some ten times as slow, and what a single thread calls is no different for it. Several threads are
stopped while they hold locks, and wait for each other more often than they would otherwise: of their futex calls some
are strace's doing. It needs no privilege beyond ptrace(2) of one's own processes, which containers and
kernel.yama.ptrace_scope may forbid.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench import processes
from bench.probes.calls import CountingError, Tally, tried
from bench.probes.waiting import has_ended, stderr_of, until

PATIENCE_S = 20.0
# PID read(0x6, 0x560e, 0x10000) = 0x40; an error is "= -1 EAGAIN (Resource temporarily unavailable)". Where another
# thread's line comes between, a call is told in two: "read(0x6 <unfinished ...>" and "<... read resumed>) = 0x40".
ENTERED = re.compile(r"^\d+ +(\w+)\(")
RESUMED = re.compile(r"^\d+ +<\.\.\. (\w+) resumed>")
FAILED = re.compile(r"\) += -1 (E[A-Z0-9]+)\b")
# Only the attaching makes these: the call under way is interrupted and begun again.
ARTEFACTS = frozenset({"restart_syscall"})


class Strace:
    """Counts with `strace -f -p PID`."""

    name = "strace"
    messages = 640

    def __init__(self, guard: processes.Guard, cpus: Sequence[int] = (), program: str = "strace") -> None:
        self._guard, self._cpus, self._program = guard, cpus, program
        self._child: processes.Child | None = None
        self._folder: Path | None = None

    def look_again(self) -> None:
        """Nothing to do: every call is in the log."""

    def look_further(self) -> Iterator[None]:
        """There is no name that it doesn't look for."""
        return iter(())

    def unavailable(self) -> str | None:
        """Whether it is installed, and may attach to a process of ours."""
        if shutil.which(self._program) is None:
            return f"{self._program} is not installed"
        return tried(self)

    def start(self, pids: Sequence[int]) -> None:
        """Attach; returns once strace says so of every process."""
        self._folder = self._guard.make_folder()
        argv = [self._program, "-f", "-e", "raw=all", "-e", "signal=none", "-o", str(self._log())]
        argv += [word for pid in pids for word in ("-p", str(pid))]
        try:
            self._child = child = processes.start(argv, self._guard, self._cpus)
        except OSError as error:
            raise CountingError(f"{self._program} can't be started: {error.strerror}") from None
        attached = until(lambda: has_ended(child) or stderr_of(child).count(" attached") >= len(pids), PATIENCE_S)
        if has_ended(child) or not attached:
            said = stderr_of(child).strip().splitlines()
            self.abandon()
            raise CountingError(said[-1] if said else "strace did not attach and gave no reason")

    def stop(self) -> Tally:
        """Detach and count the lines."""
        child, self._child = self._child, None
        assert child is not None
        os.kill(child.pid, signal.SIGINT)
        ending = processes.end(child, terminate=False, patience_s=PATIENCE_S)
        if ending.killed:
            raise CountingError("strace did not detach and had to be killed")
        with self._log().open(errors="replace") as lines:
            return parse(lines)

    def abandon(self) -> None:
        """Detach, and remove the file."""
        child, self._child = self._child, None
        if child is not None:
            processes.end(child, terminate=True, patience_s=PATIENCE_S)
        folder, self._folder = self._folder, None
        if folder is not None:
            self._guard.remove_folder(folder)

    def _log(self) -> Path:
        assert self._folder is not None
        return self._folder / "calls"


def parse(lines: Iterable[str]) -> Tally:
    """Count strace's lines."""
    calls: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for line in lines:
        entered = ENTERED.match(line)
        if entered and entered[1] not in ARTEFACTS:
            calls[entered[1]] += 1
        named = entered or RESUMED.match(line)
        failed = FAILED.search(line)
        if named and failed:
            errors[f"{named[1]} {failed[1]}"] += 1
    return Tally(dict(calls), dict(errors))
