"""The clock on the wall is set while trials run: nothing that is measured goes by it."""

from __future__ import annotations

import ast
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from test_run import FAKE_LOAD, FAKE_SERVER, LAYOUT, Silence, plan, trial

from bench import run
from bench import trial as trials
from bench.record import Manifest, read_run, write_manifest
from bench.run import run_trials

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 86_400.0
# Where the date is noted down, and where moments are compared with those that strace and the kernel print.
MAY_ASK = {
    "bench/lock.py",
    "bench/run.py",
    "bench/trial.py",
    "bench/anatomy/take.py",
    "bench/cluster/capacity_measure.py",
    "clients/export.py",
}


class SteppedDate(datetime):
    """Goes back a day each time that it is asked."""

    asked = count()

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=next(cls.asked))


def test_durations_come_from_the_monotonic_clock_whatever_is_done_to_the_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = count()
    monkeypatch.setattr(time, "time", lambda: 1.8e9 - DAY_S * next(steps))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * (1.8e9 - DAY_S * next(steps))))
    monkeypatch.setattr(run, "datetime", SteppedDate)
    monkeypatch.setattr(trials, "datetime", SteppedDate)
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    began = time.monotonic()
    planned = plan(*(trial("good", connections) for connections in (1, 2, 3)))
    outcome = run_trials(planned, tmp_path, [], LAYOUT, Silence(), server_command=FAKE_SERVER, worker_command=FAKE_LOAD)
    took_s = time.monotonic() - began
    assert 0 < outcome.wall_s < took_s
    records = read_run(tmp_path).records
    assert [record.status for record in records] == ["ok"] * 3
    dates = [record.started for record in records]
    assert dates == sorted(dates, reverse=True) and len(set(dates)) == 3  # the clock was really set back
    for record in records:
        assert record.timing is not None and record.server is not None
        laps = record.timing
        assert min(laps.spawn_s, laps.connect_s, laps.warmup_s, laps.window_s, laps.teardown_s) >= 0
        assert laps.spawn_s + laps.connect_s + laps.warmup_s + laps.window_s + laps.teardown_s < took_s
        assert 0 < record.server.closed_ns - record.server.opened_ns < took_s * 1e9


@pytest.mark.parametrize("package", ["bench", "clients", "servers"])
def test_the_time_of_day_is_asked_for_where_it_is_noted_down_alone(package: str) -> None:
    asking = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py") if asks_for_the_time_of_day(path)}
    assert asking <= MAY_ASK


def asks_for_the_time_of_day(path: Path) -> bool:
    names = {(node.value.id, node.attr) for node in ast.walk(ast.parse(path.read_text())) if is_plain(node)}
    return bool(names & {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")})


def is_plain(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
