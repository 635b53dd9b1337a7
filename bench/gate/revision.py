"""The servers of a revision, in a folder of their own for as long as they are needed; and none left of one that died.

Nothing of it is registered with the repository. The folder goes when the gate ends, and with the guard when it is
killed (bench/guard.py). Where the guard was killed too, as with a whole container, the next gate removes it: whoever
lives holds the lock of its own folder, and the kernel lets go of the locks of the dead (flock(2)).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import git
from bench.errors import BadInputError
from bench.lock import NO_LOCKS
from bench.processes import Guard

PREFIX = "iobench-gate-tree-"
SERVERS = "servers"


@contextmanager
def written_out(tree: Path, revision: str) -> Iterator[tuple[Path, str]]:
    """A folder that holds `servers/` as a revision of the checkout has it, and the full id of that revision's commit.

    Raises BadInputError.
    """
    commit = git.commit_of(tree, revision)
    if not commit:
        raise BadInputError(
            f"There is no revision {revision} in {tree}, and no run of that name. A shallow clone has only the newest.",
            "git fetch --unshallow origin, or: git branch --all",
        )
    with _folder() as folder:
        try:
            git.write_out(tree, commit, SERVERS, folder)
        except OSError as error:
            raise BadInputError(f"{folder} can't be written: {error.strerror}.", f"df {folder.parent}") from None
        if not has_servers(folder):
            raise BadInputError(f"Revision {revision} has no servers/ to start.", "iobench gate --base HEAD~1")
        yield folder, commit


def has_servers(folder: Path) -> bool:
    """Whether there are servers that `python -m servers` could start."""
    return (folder / SERVERS / "__main__.py").is_file()


@contextmanager
def _folder() -> Iterator[Path]:
    remove_left()
    guard = Guard()
    try:
        folder, lock = _made(guard)
        try:
            yield folder
        finally:
            guard.remove_folder(folder)
            if lock is not None:
                os.close(lock)
    finally:
        guard.close()


def _made(guard: Guard) -> tuple[Path, int | None]:
    """A folder and its lock, None on a file system that has no locks. Raises BadInputError."""
    while True:
        try:
            folder = guard.make_folder(PREFIX)
        except OSError as error:
            what = f"No folder for temporary files can be made: {error.strerror}."
            raise BadInputError(what, "df /tmp, or set TMPDIR to a folder that can be written") from None
        try:
            return folder, _lock(folder, fcntl.LOCK_EX)
        except FileNotFoundError:  # a gate that removes what was left found it before the lock was taken
            guard.remove_folder(folder)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise BadInputError(f"{folder} can't be locked: {error.strerror}.", f"ls -ld {folder}") from None
            return folder, None


def remove_left() -> None:
    """Remove the folders of gates that have died, and of nobody else."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # who made it lives, or is another user, or has just removed it
            lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, how: int) -> int:
    """A descriptor that holds the lock of a folder. Raises OSError, FileNotFoundError where the folder has gone."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, how)
        folder.stat()
    except OSError:
        os.close(fd)
        raise
    return fd
