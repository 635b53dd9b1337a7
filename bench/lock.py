"""One writer to a run folder at a time, and one measurement on a CPU at a time.

Locks are the kernel's (flock(2)). So they end with the process that holds them, however that ends, and are not
inherited: descriptors of Python's are closed at exec (PEP 446). That of a run lies on its folder, and needs no file.

Who measures on this machine is known by a file each, which its process has locked, in a folder of the user's:
iobench-UID in XDG_RUNTIME_DIR (XDG Base Directory Specification) or, where there is none, in that for temporary files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import msgspec
import psutil

from bench import host
from bench.errors import BadInputError
from bench.events import raise_signals
from bench.record import UNREADABLE
from bench.say import complain

PATIENCE_S = 1.0  # a process that was killed a moment ago may still be ending
PAUSE_S = 0.01
LOCKS = Path("/proc/locks")
NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # as NFS says of a folder
LOOK_S = 0.2  # between two looks whether the others have finished

_numbers = count()


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder. Raises BadInputError where another process holds it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BadInputError(f"{folder} can't be opened: {error.strerror}.", f"ls -ld {folder}") from None
    try:
        _take(fd, folder)
        yield
    finally:
        os.close(fd)


def _take(fd: int, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _held(fd, folder) from None
            time.sleep(PAUSE_S)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise BadInputError(f"{folder} can't be locked: {error.strerror}.", f"ls -ld {folder}") from None
            warnings.warn(f"{folder} can't be locked here: let no other sweep write into it", stacklevel=2)
            return None


def _held(fd: int, folder: Path) -> BadInputError:
    pid = holder(fd)
    who = f"process {pid}" if pid else "another process"
    end = f"kill {pid}" if pid else "end it"
    return BadInputError(
        f"{folder} is being written to by another iobench, {who}.",
        f"wait for it, or {end}; then: iobench sweep --resume {shlex.quote(str(folder))}",
    )


def holder(fd: int) -> int:
    """The process that holds the lock on an open file; 0 where /proc/locks (proc(5)) does not tell."""
    inode = str(os.fstat(fd).st_ino)
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:  # 1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234567 0 EOF
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            return max(0, int(fields[4]))
    return 0


# --- one measurement on a CPU at a time


class Measuring(msgspec.Struct, frozen=True):
    """One of ours that measures on this machine: its process, its command line, where it writes, since when (UTC)."""

    pid: int
    what: str
    where: str
    since: str
    cpus: tuple[int, ...]

    def __str__(self) -> str:
        return f"process {self.pid} has been measuring since {self.since} ({self.what}, in {self.where})"


@contextmanager
def alone_on(cpus: Sequence[int], where: Path, tell: Callable[[str], None] = complain) -> Iterator[None]:
    """Measure on these CPUs, once no other of ours does: it is waited for. Raises Interrupted.

    Two measurements on one CPU take from each other, and either would take that for its servers' own slowness. `tell`
    is told who is waited for. Where there is no folder for it, nobody is waited for.
    """
    told: list[Measuring] = []
    with ExitStack() as stack:
        while True:
            with _registry() as folder:
                others = _rivals(folder, cpus)
                if not others:
                    stack.enter_context(_listed(folder, cpus, where))
                    break
            if others != told:
                told = others
                tell(f"Waiting, for two on the same CPUs would take from each other: {'; '.join(map(str, others))}.")
            raise_signals()
            time.sleep(LOOK_S)
        yield


@contextmanager
def beside_others(where: Path) -> Iterator[host.CpuLayout]:
    """Measure on CPUs on which no other of ours does or, where there are none left, on the usual ones."""
    with ExitStack() as stack:
        with _registry() as folder:
            taken = {cpu for other in _others(folder) for cpu in other.cpus}
            layout = host.choose_cpus(but=taken)
            stack.enter_context(_listed(folder, [*layout.server, *layout.load], where))
        yield layout


def rivals(cpus: Sequence[int]) -> list[Measuring]:
    """Those others of ours that measure on these CPUs now."""
    with _registry() as folder:
        return _rivals(folder, cpus)


@contextmanager
def _registry() -> Iterator[Path | None]:
    """The folder of those who measure, for this process alone meanwhile; None where there can be none."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"iobench-{os.getuid()}")
    with ExitStack() as stack:
        try:
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            ours = os.fstat(fd).st_uid == os.getuid()  # anybody may make a folder of that name in /tmp
        except OSError:
            ours = False
        yield folder if ours else None


def _rivals(folder: Path | None, cpus: Sequence[int]) -> list[Measuring]:
    return [other for other in _others(folder) if not {*other.cpus}.isdisjoint(cpus)]


def _others(folder: Path | None) -> list[Measuring]:
    """All others that measure. The files of those that have ended are removed."""
    found = []
    for path in sorted(folder.glob("*.json")) if folder else []:
        try:
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(msgspec.json.decode(file.read(), type=Measuring))
                else:
                    path.unlink()
        except (OSError, *UNREADABLE):
            continue
    # Who has started this process waits for it.
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [other for other in found if other.pid not in own]


@contextmanager
def _listed(folder: Path | None, cpus: Sequence[int], where: Path) -> Iterator[None]:
    """Be listed as measuring."""
    if folder is None:
        yield
        return
    path = folder / f"{os.getpid()}-{next(_numbers)}.json"
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    own = Measuring(os.getpid(), " ".join(host.command()), str(where), since, tuple(sorted({*cpus})))
    with ExitStack() as stack:
        with suppress(OSError):  # it measures all the same, and is not known
            file = stack.enter_context(path.open("wb"))
            stack.callback(path.unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(msgspec.json.encode(own))
            file.flush()
        yield
