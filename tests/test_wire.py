"""The payload in which any byte out of place shows, the system calls under the loop, and the cache of its code."""

from __future__ import annotations

import errno
import os
import platform
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clients
import servers
from clients import payload, wire
from clients.compiled import inlined

WHICH_CACHE = """
import sys
from clients import closed, session
from clients.compiled import why_not_kept
session.warm_up_code(*sys.argv[1:])
stats = closed.advance.stats
print(f"no cache: {why_not_kept()}" if stats.cache_path is None else "loaded" if stats.cache_hits else "compiled")
"""


@given(st.integers(1, 300), st.integers(0, 1 << 40), st.data())
@settings(deadline=None)
def test_any_part_of_a_message_is_the_same_however_it_is_cut(size: int, number: int, data: st.DataObject) -> None:
    whole = payload.message(7, number, 0, size)
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    assert payload.message(7, number, start, end - start) == whole[start:end]


def test_one_byte_messages_differ_between_any_256_in_a_row() -> None:
    for first in (0, 1000, 1 << 40):
        assert len({payload.message(99, first + k, 0, 1) for k in range(256)}) == 256


def test_no_two_connections_and_no_two_messages_send_the_same_eight_bytes() -> None:
    bases = payload.bases(1, 500).tolist()
    words = {payload.message(base, number, 8 * k, 8) for base in bases for number in range(10) for k in range(4)}
    assert len(words) == 500 * 10 * 4


def test_the_payload_follows_from_the_seed() -> None:
    once, again, more = (payload.bases(5, connections).tolist() for connections in (3, 3, 9))
    assert once == again == more[:3]
    assert payload.bases(6, 3).tolist() != once
    assert len(payload.bases(-1, 3)) == 3


def test_an_epoll_event_has_the_size_that_this_machine_gives_it() -> None:
    packed = platform.machine() == "x86_64"
    assert (12 if packed else 16) == wire.EVENT_WORDS * 4


@inlined
def watch_and_wait(epoll_fd, fd, token, event, events):  # type: ignore[no-untyped-def]
    wire.epoll_ctl(epoll_fd, wire.EPOLL_CTL_ADD, fd, wire.EPOLLIN, token, event)
    return wire.epoll_wait(epoll_fd, events, 0)


@inlined
def read_and_say_why(fd, into):  # type: ignore[no-untyped-def]
    count = wire.read(fd, wire.address(into), len(into))
    return count, wire.last_error()


@inlined
def write_and_say_why(fd, source):  # type: ignore[no-untyped-def]
    count = wire.write(fd, wire.address(source), len(source))
    return count, wire.last_error()


@inlined
def clock(timespec):  # type: ignore[no-untyped-def]
    return wire.monotonic_ns(timespec)


def test_epoll_gives_back_the_token_of_each_descriptor() -> None:
    pipes = [os.pipe() for _ in range(5)]
    events = np.full((8, wire.EVENT_WORDS), -1, np.int32)
    event = np.zeros(wire.EVENT_WORDS, np.int32)
    with select.epoll() as epoll:
        for token, (_, write_end) in enumerate(pipes):
            os.write(write_end, b"x")
            assert watch_and_wait(epoll.fileno(), pipes[token][0], token, event, events) == token + 1
    assert sorted(events[:5, wire.EVENT_DATA].tolist()) == [0, 1, 2, 3, 4]
    assert events[:5, 0].tolist() == [wire.EPOLLIN] * 5
    for fd in (fd for pipe in pipes for fd in pipe):
        os.close(fd)


def test_errors_of_the_kernel_are_told_by_errno() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    buffer = np.zeros(4, np.uint8)
    assert read_and_say_why(reader, buffer) == (-1, errno.EAGAIN)
    assert write_and_say_why(writer, buffer)[0] == 4
    assert read_and_say_why(reader, buffer)[0] == 4
    os.close(reader)
    assert write_and_say_why(writer, buffer) == (-1, errno.EPIPE)
    os.close(writer)
    assert read_and_say_why(writer, buffer) == (-1, errno.EBADF)


def test_the_clock_is_that_of_time_monotonic_ns() -> None:
    before = time.monotonic_ns()
    now = clock(np.zeros(2, np.int64))
    assert before <= now <= time.monotonic_ns()


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, with no compiled code in it."""
    folder = tmp_path_factory.mktemp("copied")
    for package in (clients, servers):
        source = Path(package.__path__[0])
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def cache_use(folder: Path, *workload: str, **environment: str) -> str:
    """Warm one workload up, or all of them; say where the code of the closed loop came from."""
    environ = {**os.environ, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, "-W", "error", "-c", WHICH_CACHE, *workload]
    return subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_code_compiled_once_is_used_by_the_next_process_until_a_file_of_it_changes(
    copied: Path, tmp_path: Path
) -> None:
    where = str(tmp_path)
    assert cache_use(copied, "closed", NUMBA_CACHE_DIR=where) == "compiled"
    assert cache_use(copied, "closed", NUMBA_CACHE_DIR=where) == "loaded"
    with (copied / "clients" / "wire.py").open("a") as file:
        file.write("\n# changed\n")
    assert cache_use(copied, "closed", NUMBA_CACHE_DIR=where) == "compiled"


def test_where_no_cache_can_be_written_it_is_told_and_the_code_is_compiled_and_works(
    copied: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file where a folder is wanted: not even root can write into it")
    no_folder = copied / "clients" / "__pycache__"
    shutil.rmtree(no_folder, ignore_errors=True)
    no_folder.write_text("the same")
    home = str(tmp_path / "home")
    environment = {"HOME": home, "XDG_CACHE_HOME": home, "NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    said = cache_use(copied, **environment)
    assert said.startswith("no cache: the load generator is compiled at every start")
    assert f"neither {no_folder} nor the cache folder of this user can be written to. NUMBA_CACHE_DIR=DIR" in said
