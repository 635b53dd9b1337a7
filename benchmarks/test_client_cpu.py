"""The CPU time that the load generator spends on a message, beside that of its C twin doing the same work.

    python -m pytest benchmarks/test_client_cpu.py

64 connections, 64 bytes, TCP, one message outstanding on each, every byte verified on both sides. The two take turns
against one and the same echo server, on one core and the server on another where there are two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.build import build
from benchmarks.conftest import ReportRatio

HERE = Path(__file__).parent
ROUNDS = 15
CONNECTIONS, MESSAGE_BYTES = 64, 64
WARMUP_S, WINDOW_S = 0.2, 0.8

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = CPUS[0], CPUS[-1]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = build(HERE / "epoll_client.c", tmp_path_factory.mktemp("twin"))
    if program is None:
        pytest.skip("there is no C compiler here")
    return program


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where an epoll_lt server listens."""
    command = [sys.executable, "-m", "servers", "epoll_lt", "tcp:127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as server:
        assert server.stdout is not None
        os.sched_setaffinity(server.pid, {SERVER_CPU})
        yield int(server.stdout.readline().rpartition(":")[2])
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


def ours_ns(worker: subprocess.Popen[str], port: int, number: int) -> float:
    """CPU time of the load generator for each message, in ns."""
    assert worker.stdin is not None
    job = {
        "job": str(number),
        "address": f"tcp:127.0.0.1:{port}",
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


def twin_ns(twin: Path, port: int) -> float:
    """CPU time of the C program for each message, in ns."""
    figures = [str(figure) for figure in (port, CONNECTIONS, MESSAGE_BYTES, WARMUP_S, WINDOW_S)]
    command = ["taskset", "-c", str(CLIENT_CPU), str(twin), "127.0.0.1", *figures]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout)
    assert seen["wrong"] == 0
    return float(seen["cpu_ns"] / seen["completed"])


def test_the_load_generator_beside_its_c_twin(
    benchmark: BenchmarkFixture, report_ratio: ReportRatio, worker: subprocess.Popen[str], twin: Path, port: int
) -> None:
    ours: list[float] = []
    theirs: list[float] = []

    def one_round() -> None:
        if len(ours) % 2:  # neither is always the first
            theirs.append(twin_ns(twin, port))
            ours.append(ours_ns(worker, port, len(ours)))
        else:
            ours.append(ours_ns(worker, port, len(ours)))
            theirs.append(twin_ns(twin, port))

    benchmark.pedantic(one_round, rounds=ROUNDS)
    report_ratio("clients, ns of CPU a message", "epoll_client.c", ours, theirs)
