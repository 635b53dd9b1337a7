"""Rates that a run works out itself, fractions of a closed loop and searches; servers and load are fakes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_run import FAKE_LOAD, FAKE_SERVER, LAYOUT, Interrupting, Silence, carry_out, plan, trial

from bench import run
from bench.host import CpuLayout
from bench.load import job
from bench.plan import Plan, make_plan
from bench.record import Manifest, Record, Trial, read_run, write_manifest
from bench.run import newest_calibration, remaining, run_trials, start_run
from bench.sweep import Sweep

LIMIT_HZ = 2345  # of the fake load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    return tmp_path


def fraction(of: float, connections: int = 1) -> Trial:
    return msgspec.structs.replace(trial("good", connections), workload="open", load_fraction=of)


def search(*starts: Trial) -> Plan:
    return plan(*starts)._replace(slo="p99<5ms")


def resumed(planned: Plan, folder: Path, done: list[Record]) -> list[Record]:
    run_trials(planned, folder, done, LAYOUT, Silence(), server_command=FAKE_SERVER, worker_command=FAKE_LOAD)
    return read_run(folder).records


def test_a_fraction_is_taken_of_the_rate_that_the_closed_loop_came_to(folder: Path) -> None:
    carry_out(plan(trial("good"), fraction(0.5), fraction(1.1)), folder)
    closed, half, more = read_run(folder).records
    assert [record.planned_hz for record in (closed, half, more)] == [0.0, 500.0, pytest.approx(1100.0)]
    assert half.load is not None and half.load.offered_hz == 500.0


def test_a_resumed_run_takes_the_rate_from_its_earlier_record(folder: Path) -> None:
    carry_out(plan(trial("good")), folder)
    done = read_run(folder).records
    records = resumed(plan(trial("good"), fraction(0.25)), folder, done)
    assert [record.planned_hz for record in records] == [0.0, 250.0]


def test_fractions_of_a_closed_loop_that_failed_fail_with_its_reason(folder: Path) -> None:
    outcome = carry_out(plan(trial("good", 5), fraction(0.5, 5)), folder, "fail@5")
    closed, half = read_run(folder).records
    assert (closed.status, half.status, len(outcome.failed)) == ("failed", "failed", 2)
    assert half.reason == (
        "its rate is a fraction of the closed loop's throughput, and there is none: no connection could be opened"
    )
    assert half.load is None


def test_every_field_of_a_trial_reaches_the_load_generator() -> None:
    full = msgspec.structs.replace(
        trial("good", 7),
        workload="open",
        depth=2,
        arrivals="poisson",
        cap=9,
        silent=3,
        sizes=((64, 0.9), (4096, 0.1)),
        ramp_s=0.5,
        threads=2,
        trickle_bytes=5,
        trickle_hz=50.0,
    )
    line: dict[str, Any] = json.loads(json.dumps(job(full, 123.0, "tcp:127.0.0.1:1")))
    assert line["rate_hz"] == 123.0 and line["sizes"] == [[64, 0.9], [4096, 0.1]]
    for name in ("connections", "workload", "depth", "arrivals", "cap", "silent", "ramp_s", "threads", "seed"):
        assert line[name] == getattr(full, name)
    assert (line["trickle_bytes"], line["trickle_hz"]) == (5, 50.0)


def test_a_search_finds_the_highest_rate_and_leaves_its_answer_in_the_manifest(folder: Path) -> None:
    outcome = carry_out(search(trial("good")), folder)
    found = read_run(folder)
    (answer,) = found.manifest.searches
    assert [answer] == outcome.searches
    assert answer.held_hz <= LIMIT_HZ < answer.missed_hz <= 1.05 * answer.held_hz
    assert answer.steps == [record.id for record in found.records[1:]]
    assert [record.held for record in found.records] == [
        None,
        *(record.planned_hz <= LIMIT_HZ for record in found.records[1:]),
    ]
    assert found.manifest.sweep["trials_planned"] == len(found.records)


def test_searches_come_one_after_the_other(folder: Path) -> None:
    carry_out(search(trial("good", 1), trial("good", 2)), folder)
    connections = [record.trial.connections for record in read_run(folder).records]
    assert connections == sorted(connections)
    assert {connections.count(1), connections.count(2)} == {len(connections) // 2}


@pytest.mark.parametrize("begun", [1, 2, 4])
def test_an_interrupted_search_goes_on_where_it_was(begun: int, folder: Path, tmp_path_factory: Any) -> None:
    planned = search(trial("good", 1), trial("good", 2))
    outcome = carry_out(planned, folder, progress=Interrupting(begun, signal.SIGINT))
    assert [one.finished for one in outcome.searches] == [False, False]
    done = read_run(folder).records
    assert len(done) == begun - 1
    assert len(remaining(planned, done)) == 2
    records = resumed(planned, folder, done)
    other = tmp_path_factory.mktemp("uninterrupted")
    write_manifest(other, read_run(folder).manifest)
    carry_out(planned, other)
    assert [record.trial for record in records] == [record.trial for record in read_run(other).records]
    assert remaining(planned, records) == []


def test_a_search_of_an_unavailable_strategy_has_no_answer_and_says_why(folder: Path) -> None:
    planned = plan(trial("missing"), unavailable="missing")._replace(slo="p99<5ms")
    (answer,) = carry_out(planned, folder).searches
    assert (answer.held_hz, answer.finished) == (0.0, True)
    assert answer.reason == "the closed loop that it starts from is unavailable: no such kernel"


def test_a_manifest_says_how_many_trials_were_planned(tmp_path: Path) -> None:
    sweep = Sweep(name="any", connections=(1, 4), repeats=3)
    planned = make_plan(sweep, list(plan(trial("good")).strategies.values()))
    written = read_run(start_run(tmp_path, sweep, planned, LAYOUT)).manifest
    assert written.sweep["trials_planned"] == len(planned.trials) == 6
    assert written.calibration is None


def test_the_newest_calibration_that_can_be_read_goes_into_the_manifest(tmp_path: Path) -> None:
    assert newest_calibration(tmp_path / "nothing") is None
    for age_s, name, text in ((30, "old", '{"n": 1}'), (20, "new", '{"n": 2}'), (10, "cut", '{"n"')):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "calibration.json"
        file.write_text(text)
        os.utime(file, (1e9 - age_s, 1e9 - age_s))
    with pytest.warns(UserWarning, match=r"cut/calibration\.json can't be read: .*; the run goes without it"):
        assert newest_calibration(tmp_path) == {"n": 2}
    (tmp_path / "calibration.json").write_text('{"n": 3}')
    sweep = Sweep(name="any", repeats=1)
    planned = make_plan(sweep, list(plan(trial("good")).strategies.values()))
    layout = CpuLayout([0], [0], [0], shared=True)
    assert read_run(run.start_run(tmp_path, sweep, planned, layout)).manifest.calibration == {"n": 3}
