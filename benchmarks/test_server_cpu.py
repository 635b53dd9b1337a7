"""The CPU time that our servers spend on a message, beside that of other people's.

    python -m pytest benchmarks/test_server_cpu.py

64 connections, 64 bytes, TCP, server and client on different cores. A round runs one trial with our strategy and one
with the reference, in turn, each in a fresh process; the ratio is taken round by round.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import server
from bench.catalogue import list_strategies
from bench.host import CpuLayout, choose_cpus
from bench.load import LoadWorker, end_worker, start_worker
from bench.processes import Guard
from bench.record import Trial
from bench.server import start_server
from bench.trial import run_trial
from benchmarks.build import build
from benchmarks.conftest import ReportRatio

HERE = Path(__file__).parent
REFERENCES = HERE / "reference_servers.py"
ROUNDS = 15

PAIRS = {
    "epoll_lt": "epoll_server.c",
    "asyncio_protocol": "bare_asyncio_protocol",
    "asyncio_streams": "bare_asyncio_streams",
    "thread_per_connection": "bare_threads",
}


@dataclass
class Bench:
    """One warm load generator, and where things run."""

    guard: Guard
    worker: LoadWorker
    cpus: CpuLayout


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    guard = Guard()
    cpus = choose_cpus()
    worker = start_worker(cpus.load, guard)
    yield Bench(guard, worker, cpus)
    end_worker(worker)
    guard.close()


@pytest.mark.parametrize(("strategy", "reference"), PAIRS.items())
def test_server_cpu_per_message(
    strategy: str, reference: str, bench: Bench, benchmark: BenchmarkFixture, report_ratio: ReportRatio, tmp_path: Path
) -> None:
    command = reference_command(reference, tmp_path)
    ours: list[float] = []
    theirs: list[float] = []

    def one_round() -> None:
        ours.append(cpu_us_per_message(bench, strategy, ()))
        theirs.append(cpu_us_per_message(bench, strategy, command))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=0)
    report_ratio(f"server CPU us/message, {strategy}", reference, ours, theirs)


def test_what_it_is_worth_that_a_client_has_come_and_gone(
    bench: Bench, benchmark: BenchmarkFixture, report_ratio: ReportRatio, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[float] = []
    unvisited: list[float] = []

    def one_round() -> None:
        visited.append(cpu_us_per_message(bench, "asyncio_protocol", ()))
        with monkeypatch.context() as patch:
            patch.setattr(server, "_visit", lambda address: None)
            unvisited.append(cpu_us_per_message(bench, "asyncio_protocol", ()))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=0)
    report_ratio("server CPU us/message, asyncio_protocol", "the same with no client ever gone", visited, unvisited)


def reference_command(reference: str, folder: Path) -> list[str]:
    if not reference.endswith(".c"):
        return [sys.executable, str(REFERENCES), reference]
    program = build(HERE / reference, folder)
    if program is None:
        pytest.skip("no C compiler")
    return [str(program)]


def cpu_us_per_message(bench: Bench, strategy: str, command: Sequence[str]) -> float:
    """Run one trial with the strategy, or with the command in its place."""
    info = next(each for each in list_strategies()[0] if each.name == strategy)
    trial = Trial(
        strategy=strategy,
        transport="tcp",
        connections=64,
        message_bytes=64,
        workload="closed",
        warmup_s=0.3,
        duration_s=1.0,
        repeat=0,
        seed=1,
    )
    record = run_trial(
        trial, lambda _: start_server(info, "tcp", bench.cpus.server, bench.guard, command), bench.worker
    )
    assert record.status == "ok", record.reason
    assert record.load is not None
    assert record.server is not None
    cpu_share = record.server.metrics["cpu_ns"] / (record.server.closed_ns - record.server.opened_ns)
    rate_per_us = record.load.completed / (record.load.closed_ns - record.load.opened_ns) * 1000
    return cpu_share / rate_per_us
