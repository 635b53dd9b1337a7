"""What many descriptors and many trials cost.

    python -m pytest benchmarks/test_scale.py

epoll's list stays in the kernel: an event must cost no more among 10,000 descriptors than among 100. A round runs one
trial with each, in turn, each in a fresh process; the ratio is taken round by round. A folder of 10,000 trials must be
planned and resumed at once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import descriptors
from bench.catalogue import list_strategies
from bench.host import choose_cpus
from bench.load import end_worker, start_worker
from bench.plan import Plan, make_plan
from bench.processes import Guard
from bench.record import (
    TRIALS_FILE,
    Load,
    Manifest,
    Record,
    StrategyInfo,
    Trial,
    append,
    read_run,
    write_manifest,
)
from bench.run import remaining
from bench.server import start_server
from bench.sweep import Sweep
from bench.trial import run_trial
from benchmarks.conftest import ReportRatio
from benchmarks.test_server_cpu import Bench

ROUNDS = 15
FEW, MANY = 100, 10_000
MOST = 1.15  # what an event may cost among MANY descriptors, by what it costs among FEW
TRIALS = 10_000
AT_ONCE_S = 5.0


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    descriptors.raise_limit([watched(1, MANY)])
    guard = Guard()
    cpus = choose_cpus()
    worker = start_worker(cpus.load, guard)
    yield Bench(guard, worker, cpus)
    end_worker(worker)
    guard.close()


def watched(active: int, total: int) -> Trial:
    return Trial(
        strategy="epoll_lt",
        transport="tcp",
        connections=active,
        silent=total - active,
        message_bytes=64,
        workload="idle",
        warmup_s=0.3,
        duration_s=1.0,
        repeat=0,
        seed=1,
    )


@pytest.mark.parametrize("active", [1, 100])
def test_an_event_costs_epoll_as_much_among_ten_thousand_descriptors_as_among_a_hundred(
    active: int, bench: Bench, benchmark: BenchmarkFixture, report_ratio: ReportRatio
) -> None:
    info = next(one for one in list_strategies()[0] if one.name == "epoll_lt")
    costs: dict[int, list[float]] = {FEW: [], MANY: []}

    def cpu_us(total: int) -> float:
        record = run_trial(
            watched(active, total), lambda _: start_server(info, "tcp", bench.cpus.server, bench.guard), bench.worker
        )
        assert record.status == "ok", record.reason
        assert record.load is not None and record.server is not None
        share = record.server.metrics["cpu_ns"] / (record.server.closed_ns - record.server.opened_ns)
        return share / (record.load.completed / (record.load.closed_ns - record.load.opened_ns) * 1000)

    def one_round() -> None:
        order = (FEW, MANY) if len(costs[FEW]) % 2 else (MANY, FEW)
        for total in order:
            costs[total].append(cpu_us(total))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=0)
    report_ratio(f"server CPU us/message, epoll_lt, {active} active of {MANY:,}", f"of {FEW}", costs[MANY], costs[FEW])
    ratio = statistics.median(many / few for many, few in zip(costs[MANY], costs[FEW], strict=True))
    assert ratio <= MOST


def a_plan_of_ten_thousand() -> Plan:
    sweep = Sweep(name="many", strategies=("epoll_lt", "poll"), connections=tuple(range(1, 51)), repeats=TRIALS // 100)
    infos = [
        StrategyInfo(
            name=name,
            module="readiness",
            summary="",
            model="multiplexing",
            transports=["tcp"],
            concurrent=True,
            available=True,
            reason="",
            doc="",
        )
        for name in ("epoll_lt", "poll")
    ]
    return make_plan(sweep, infos)


def a_record(trial: Trial, times: str) -> Record:
    load = Load(
        opened_ns=0,
        closed_ns=10**9,
        connections=trial.connections,
        planned=50_000,
        completed=50_000,
        errors={},
        timed_out=0,
        unsent=0,
        in_flight=0,
        bytes_echoed=0,
        interval_ns=10**8,
        intervals=[5000] * 10,
        service_hdr=times,
        cpu_user_ns=0,
        cpu_system_ns=0,
        worker_busy=[0.5],
        interval_hdrs=[times] * 10,
    )
    return Record(id=trial.id, trial=trial, status="ok", load=load)


def test_ten_thousand_trials_are_planned_at_once(benchmark: BenchmarkFixture) -> None:
    plan = benchmark(a_plan_of_ten_thousand)
    assert len(plan.trials) == len(plan.runnable) == TRIALS
    assert benchmark.stats["median"] < AT_ONCE_S


def test_a_run_of_ten_thousand_trials_is_resumed_at_once(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """Read all records but those of the last hundred trials, and find out which these are."""
    plan = a_plan_of_ten_thousand()
    times = "A" * 900  # as long as a histogram of a second is when it is encoded
    about = Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[])
    write_manifest(tmp_path, about)
    with (tmp_path / TRIALS_FILE).open("wb") as file:
        for trial in plan.trials[:-100]:
            file.write(msgspec.json.encode(a_record(trial, times)) + b"\n")

    def resume() -> list[Trial]:
        return remaining(plan, read_run(tmp_path).records)

    left = benchmark.pedantic(resume, rounds=3, warmup_rounds=1)
    assert left == plan.trials[-100:]
    assert benchmark.stats["median"] < AT_ONCE_S
    began = time.monotonic()
    append(tmp_path / TRIALS_FILE, a_record(left[0], times))
    benchmark.extra_info.update(append_s=time.monotonic() - began, bytes=(tmp_path / TRIALS_FILE).stat().st_size)
