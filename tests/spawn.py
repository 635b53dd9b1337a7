"""Start servers as the runner does, and watch them from outside.

The test listens first and hands the listening descriptor down, so a server is ready when it says so on its status
pipe: no free port is guessed and no connect is retried. What a server must do is asserted in the tests, not here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil
import pytest

from bench.events import readable
from servers.transport import Address, bound_address, listen

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 15.0  # the bound of every wait: far more than a busy machine needs, less than pytest's own timeout
STOP_S = 1.0  # the contract: a server has ended this soon after SIGTERM


class Case(NamedTuple):
    """One strategy on one transport, as `python -m servers --list` describes it."""

    strategy: str
    module: str
    transport: str
    model: str
    concurrent: bool
    unavailable: str  # why this machine can't run it; empty where it can

    def __str__(self) -> str:
        return f"{self.strategy}-{self.transport}"


@dataclass
class Server:
    """A running server: `status` is the end of its status pipe to read from, `stderr` the file that it complains to."""

    address: Address
    process: subprocess.Popen[bytes]
    status: int
    stderr: IO[bytes]

    def complaints(self) -> str:
        """Return everything that it has written to stderr."""
        self.stderr.seek(0)
        return self.stderr.read().decode()

    def next_status(self) -> dict[str, Any]:
        """Return the next status line. Raises TimeoutError, or EOFError where the server ended instead."""
        line = b""
        while not line.endswith(b"\n"):
            if not readable(self.status, WAIT_S):
                raise TimeoutError(f"no status line within {WAIT_S:g} s; stderr: {self.complaints()!r}")
            byte = os.read(self.status, 1)  # byte by byte: what follows the line stays in the pipe
            if not byte:
                raise EOFError(f"the server closed its status pipe; stderr: {self.complaints()!r}")
            line += byte
        return dict(json.loads(line))

    def refused_in_all(self) -> dict[str, int]:
        """Return how many connections it says, at its end, that it refused, by reason."""
        ending = self.next_status()
        assert ending["event"] == "stopped", ending
        return dict(ending["refused"])


def list_strategies(python: str = sys.executable) -> list[dict[str, Any]]:
    """Ask `python -m servers --list` what there is."""
    command = [python, "-m", "servers", "--list"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=WAIT_S)
    return [json.loads(line) for line in shown.stdout.splitlines()]


@cache
def cases(python: str = sys.executable) -> list[Case]:
    """Return every strategy with every transport that it serves."""
    return [
        Case(
            strategy=found["name"],
            module=found["module"],
            transport=transport,
            model=found["model"],
            concurrent=found["concurrent"],
            unavailable=found["reason"],
        )
        for found in list_strategies(python)
        for transport in found["transports"]
    ]


@contextmanager
def spawned(case: Case, python: str = sys.executable, program: Sequence[str] = ("-m", "servers")) -> Iterator[Server]:
    """Run a server that is ready; whatever the test did to it, nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="iobench-") as folder, tempfile.TemporaryFile() as stderr:
        place = Address("tcp", "127.0.0.1") if case.transport == "tcp" else Address(case.transport, f"{folder}/echo")
        status, its_status = os.pipe()
        with listen(place) as sock:  # closed here once the server has its copy, so that the address dies with it
            address = bound_address(sock, case.transport)
            process = start([python, *program], case, sock.fileno(), its_status, stderr)
        os.close(its_status)
        server = Server(address, process, status, stderr)
        try:
            ready = server.next_status()
            assert ready["event"] == "ready", ready
            yield server
        finally:
            kill(process)
            os.close(status)


def start(
    program: Sequence[str], case: Case, listen_fd: int, status_fd: int, stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start `python -m servers`, or what stands in for it, on an inherited listener."""
    what = [case.strategy, case.transport, "--module", case.module]
    fds = ["--listen-fd", str(listen_fd), "--status-fd", str(status_fd)]
    return subprocess.Popen(
        [*program, *what, *fds],
        cwd=ROOT,
        pass_fds=[listen_fd, status_fd],
        stdin=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,  # a process group of its own: what it forks can be found when it has ended itself
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a server that has not ended, and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def nobody_left(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a server that has ended took all that it started with it."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def stop(process: subprocess.Popen[Any]) -> int:
    """Send SIGTERM and return the exit code. Raises subprocess.TimeoutExpired where it takes longer than STOP_S.

    CPython runs a signal's handler between byte codes. A signal that comes between its last look and the system call in
    which it then sleeps is noticed when that call ends, so a server that may be about to sleep is told again.
    """
    process.terminate()
    try:
        return process.wait(STOP_S / 4)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait(STOP_S * 3 / 4)


def processes(pid: int) -> list[psutil.Process]:
    """Return the server's process and its descendants."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []  # it has ended


def total(server: Server, measure: Callable[[psutil.Process], float]) -> float:
    """Add up a measure over the processes of the server."""
    amount = 0.0
    for process in processes(server.process.pid):
        with suppress(psutil.NoSuchProcess):
            amount += measure(process)
    return amount


def descriptors(server: Server) -> int:
    """Count the open descriptors of the server's processes."""
    return int(total(server, lambda process: process.num_fds()))


def threads(server: Server) -> int:
    """Count the threads of the server's processes."""
    return int(total(server, lambda process: process.num_threads()))


def resident_bytes(server: Server) -> int:
    """Add up the resident memory of the server's processes."""
    return int(total(server, lambda process: process.memory_info().rss))


def cpu_s(server: Server) -> float:
    """Add up the CPU time that the server's processes have used."""
    return total(server, lambda process: process.cpu_times().user + process.cpu_times().system)


def cpu_share(server: Server, window_s: float = 0.15) -> float:
    """Return the share of a CPU that the server uses while the test does nothing."""
    before_s, opened = cpu_s(server), time.monotonic()
    time.sleep(window_s)
    return (cpu_s(server) - before_s) / (time.monotonic() - opened)


def asleep(server: Server) -> bool:
    """Tell whether all threads of the server's processes sleep in the kernel."""
    tasks = [task for process in processes(server.process.pid) for task in Path(f"/proc/{process.pid}").glob("task/*")]
    try:
        # The state follows the command's name, which is in brackets and may hold anything (proc(5)).
        return all((task / "stat").read_text().rpartition(") ")[2].startswith("S") for task in tasks)
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread was about to end


def system_calls(pid: int, action: Callable[[], object]) -> list[str]:
    """Return the names of the system calls that a process makes meanwhile."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        tracer = subprocess.Popen([strace, "-f", "-o", trace, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            tracer.wait(WAIT_S)
            tracer.stderr.close()
            pytest.skip(f"strace can't attach: {first.strip()}")
        try:
            action()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(WAIT_S)
            tracer.stderr.close()
        lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    return [line.partition("(")[0] for line in lines if "(" in line and line[0].isalpha()]


def eventually(condition: Callable[[], object]) -> bool:
    """Look until the condition holds; False where it does not within WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
