"""After every test of a fault nothing of ours remains: no process, no socket, no pipe, no temporary file."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from spawn import eventually

TOKEN = "IOBENCH_TEST"  # in the environment of all that a test starts, and so of all that it starts, in any session


@pytest.fixture(autouse=True)
def nothing_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look for what the test has left, wherever it may have hidden."""
    token, temporary = secrets.token_hex(8), tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv(TOKEN, token)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = descriptors(), shared_memory()
    yield
    assert eventually(lambda: not started_with(token)), started_with(token)
    assert eventually(lambda: not our_sockets()), our_sockets()
    assert list(temporary.iterdir()) == []
    assert (descriptors(), shared_memory()) == before


def started_with(token: str) -> list[str]:
    """The processes that the test started, and theirs; a zombie has no environment."""
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


def shared_memory() -> list[str]:
    return sorted(path.name for path in Path("/dev/shm").glob("*iobench*"))


def descriptors() -> dict[str, str]:
    """Where each of our descriptors leads: pipes, sockets and files."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[path.name] = str(path.readlink())
        except FileNotFoundError:
            continue  # the one that the folder was read through
    return found
