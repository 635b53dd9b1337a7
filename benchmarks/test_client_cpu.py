"""The CPU time that the load generator spends on a message, beside that of its C twin doing the same work.

    python -m pytest benchmarks/test_client_cpu.py

64 connections, 64 bytes, one message outstanding on each, every byte verified on both sides, on every transport. The
two take turns against one and the same echo server, on one core and the server on another where there are two.

By itself, on pipes that lead back to it, the load generator is set beside the bare cost of the system calls that can't
be left out, a write and a read. (With a server at the other end a write costs several times as much: it wakes it.)
And what a user waits for before anything is sent: the start of `python -m clients`, its code compiled before.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.build import build
from benchmarks.conftest import ReportRatio
from clients.job import Job
from clients.opening import Connected
from clients.session import run, warm_up_code
from clients.table import Ends

HERE = Path(__file__).parent
ROUNDS = 15
CONNECTIONS, MESSAGE_BYTES = 64, 64
WARMUP_S, WINDOW_S = 0.2, 0.8
TRANSPORTS = ("tcp", "unix", "pipe")

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = CPUS[0], CPUS[-1]
ON_CLIENT_CPU = ["taskset", "-c", str(CLIENT_CPU)]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = build(HERE / "epoll_client.c", tmp_path_factory.mktemp("twin"))
    if program is None:
        pytest.skip("there is no C compiler here")
    return program


@pytest.fixture(params=TRANSPORTS)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where an epoll_lt server listens."""
    place = "127.0.0.1:0" if request.param == "tcp" else f"@iobench-{secrets.token_hex(8)}"
    command = [sys.executable, "-m", "servers", "epoll_lt", f"{request.param}:{place}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as server:
        assert server.stdout is not None
        os.sched_setaffinity(server.pid, {SERVER_CPU})
        yield server.stdout.readline().split()[-1]
        server.terminate()


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[str]]:
    """A warm load generator."""
    command = [sys.executable, "-m", "clients", "--worker", "--cpus", str(CLIENT_CPU)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=HERE.parent
    ) as running:
        assert running.stdin is not None
        hear(running, "ready")
        yield running
        running.stdin.close()


def hear(worker: subprocess.Popen[str], kind: str) -> dict[str, Any]:
    assert worker.stdout is not None
    for line in worker.stdout:
        event: dict[str, Any] = json.loads(line)
        assert event["event"] != "failed", event
        if event["event"] == kind:
            return event
    raise AssertionError("the load generator has gone")


def ours_ns(worker: subprocess.Popen[str], address: str, number: int) -> float:
    """CPU time of the load generator for each message, in ns."""
    assert worker.stdin is not None
    job = {
        "job": str(number),
        "address": address,
        "connections": CONNECTIONS,
        "message_bytes": MESSAGE_BYTES,
        "warmup_s": WARMUP_S,
        "duration_s": WINDOW_S,
    }
    worker.stdin.write(json.dumps(job) + "\n")
    hear(worker, "window_closed")
    worker.stdin.write(json.dumps({"stop": str(number)}) + "\n")
    load = hear(worker, "result")["load"]
    assert load["errors"] == {}
    return float((load["cpu_user_ns"] + load["cpu_system_ns"]) / load["completed"])


def twin_ns(twin: Path, *arguments: object) -> float:
    """CPU time of the C program for each message, in ns."""
    command = [*ON_CLIENT_CPU, str(twin), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout)
    assert not seen.get("wrong")
    return float(seen["cpu_ns"] / seen["completed"])


def test_the_load_generator_beside_its_c_twin(
    benchmark: BenchmarkFixture, report_ratio: ReportRatio, worker: subprocess.Popen[str], twin: Path, address: str
) -> None:
    """To be within 1.10 of it."""
    ours: list[float] = []
    theirs: list[float] = []

    def one_round() -> None:
        for of_ours in (False, True) if len(ours) % 2 else (True, False):  # neither is always the first
            if of_ours:
                ours.append(ours_ns(worker, address, len(ours)))
            else:
                theirs.append(twin_ns(twin, address, CONNECTIONS, MESSAGE_BYTES, WARMUP_S, WINDOW_S))

    benchmark.pedantic(one_round, rounds=ROUNDS)
    report_ratio(f"clients, ns of CPU a message, {address.partition(':')[0]}", "epoll_client.c", ours, theirs)


@pytest.fixture
def on_client_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CLIENT_CPU})
    yield
    os.sched_setaffinity(0, before)


def alone_ns() -> float:
    """CPU time for each message with nobody at the other end: each connection is a pipe that leads back."""
    job = Job(
        address="pipe:itself",
        connections=CONNECTIONS,
        message_bytes=MESSAGE_BYTES,
        warmup_s=WARMUP_S / 2,
        duration_s=WINDOW_S / 2,
    )
    load = run(job, Connected([Ends(*os.pipe()) for _ in range(CONNECTIONS)], Counter(), "", 0))
    assert load.errors == {}
    return (load.cpu_user_ns + load.cpu_system_ns) / load.completed


@pytest.mark.usefixtures("on_client_cpu")
def test_the_load_generator_beside_bare_system_calls(
    benchmark: BenchmarkFixture, report_ratio: ReportRatio, twin: Path
) -> None:
    """To be below 3.0 of a write and a read."""
    ours: list[float] = []
    bare: list[float] = []

    def one_round() -> None:
        ours.append(alone_ns())
        bare.append(twin_ns(twin, "bare", MESSAGE_BYTES, WINDOW_S / 2))

    warm_up_code("closed")
    benchmark.pedantic(one_round, rounds=ROUNDS)
    report_ratio("clients, ns of CPU a message, pipes to itself", "bare write and read", ours, bare)


@pytest.mark.parametrize("address", ["tcp"], indirect=True)
def test_the_start_of_the_command(benchmark: BenchmarkFixture, report_ratio: ReportRatio, address: str) -> None:
    """To be below 1.5 s on a quiet machine; beside the same interpreter importing numpy alone."""
    window_s = 0.01
    command = [
        *ON_CLIENT_CPU,
        sys.executable,
        "-m",
        "clients",
        address,
        "-c",
        "1",
        "--warmup",
        "0",
        "-d",
        str(window_s),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=HERE.parent)
    ours: list[float] = []
    numpy: list[float] = []

    def one_round() -> None:
        ours.append(wall_ms(command) - window_s * 1e3)
        numpy.append(wall_ms([*ON_CLIENT_CPU, sys.executable, "-c", "import numpy"]))

    benchmark.pedantic(one_round, rounds=ROUNDS)
    report_ratio("python -m clients, ms to start and end", "python -c 'import numpy'", ours, numpy)


def wall_ms(command: list[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, cwd=HERE.parent)
    return (time.monotonic() - start) * 1e3
