"""A file is written in one step: whoever reads it, whenever we are killed, finds the old one or the new one."""

from __future__ import annotations

import errno
import shlex
from contextlib import suppress
from pathlib import Path

PART = ".part"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def try_to_write(path: Path, *, make_folder: bool = False) -> None:
    """Find out whether the file could be written, before anything is measured. Raises OSError.

    `make_folder` makes the folder that it is to be in, where the user named that one; those above it nobody asked for.
    """
    if make_folder:
        path.parent.mkdir(exist_ok=True)
    part = _part(path)
    part.write_bytes(b"")
    part.unlink()


def write(path: Path, content: bytes) -> None:
    """Write it beside the file, and put it in that one's place. Raises OSError."""
    part = _part(path)
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


def clear(folder: Path) -> None:
    """Remove what one that was killed had half written. Nobody else may be writing into the folder."""
    for part in folder.glob(f"*{PART}"):
        with suppress(OSError):
            part.unlink()


def remedy(error: OSError, folder: Path, then: str) -> str:
    """What to type after a file in a folder could not be written, and `then` the command to go on with."""
    if error.errno in NO_ROOM:
        return f"make room, then: {then}"
    if error.errno == errno.ENOENT:
        return f"mkdir -p {shlex.quote(str(folder))}, then: {then}"
    return f"ls -ld {shlex.quote(str(folder))} shows who may write there; then: {then}"


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)
