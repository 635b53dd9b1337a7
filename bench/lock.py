"""One writer to a run folder at a time.

The lock is the kernel's (flock(2)) and lies on the folder itself. So it needs no file, ends with the process that holds
it, however that ends, and is not inherited: descriptors of Python's are closed at exec (PEP 446).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BadInputError

PATIENCE_S = 1.0  # a process that was killed a moment ago may still be ending
PAUSE_S = 0.01
LOCKS = Path("/proc/locks")
NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # as NFS says of a folder


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
