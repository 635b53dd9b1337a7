"""What nothing of ours may leave behind, whatever happened to it: a check for any test, and what it looks at.

Everything that a test starts gets a token in its environment, and so does whatever that starts, in any session and in
any process group: a process that has escaped the guard (bench/guard.py) is found as well.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from spawn import eventually

TOKEN = "IOBENCH_TEST"


@contextmanager
def leaving_nothing(folder: Path) -> Iterator[str]:
    """Whatever is done inside leaves no process, listener, socket, pipe or temporary file; yields the token.

    Temporary files are made in a folder of their own within `folder`, in which no socket, pipe or half-written file may
    be left either.
    """
    token, temporary = secrets.token_hex(8), folder / "temporary"
    temporary.mkdir(parents=True)
    before = descriptors(folder), listeners()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN, token)
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        yield token
    assert eventually(lambda: not started_with(token)), started_with(token)
    assert eventually(lambda: not our_sockets()), our_sockets()
    assert list(temporary.iterdir()) == []
    assert half_written(folder) == []
    assert (descriptors(folder), listeners()) == before


def started_with(token: str) -> list[str]:
    """The processes that have the token; a zombie has no environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (psutil.Error, OSError):
            continue
    return found


def our_sockets() -> list[str]:
    """Addresses in the abstract namespace that bear our number; those of others that run at the same time don't."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return [line for line in lines if f"@iobench-{os.getpid()}-" in line]


def half_written(folder: Path) -> list[str]:
    """Sockets and pipes with a name, and files that were to be put in the place of others (bench/one_step.py)."""
    return sorted(
        str(path) for path in folder.rglob("*") if path.is_socket() or path.is_fifo() or path.name.endswith(".part")
    )


def listeners() -> set[tuple[str, int]]:
    """The ports that this process listens on. Those of the ones it started went with them."""
    found = psutil.Process().net_connections(kind="inet")
    return {tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN}


def descriptors(folder: Path) -> dict[str, str]:
    """Where each of our descriptors leads: pipes, sockets, and files in a folder.

    Other files may stay open: matplotlib keeps its fonts so.
    """
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            target = str(path.readlink())
        except FileNotFoundError:
            continue  # the one that the folder was read through
        if not target.startswith("/") or target.startswith(str(folder)):
            found[path.name] = target
    return found
