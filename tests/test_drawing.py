"""A report's figures, drawn by two processes: the same report, whatever becomes of the second one."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest
from synthetic import manifest, sweep, unmeasured, write_run

import report
from bench import drawing
from bench.analyse import analyse
from bench.figures import Drawn, pictures
from bench.figures.chosen import choose
from bench.record import read_run

STRATEGIES = ("epoll_lt", "poll", "select", "kqueue", "iocp", "devpoll")


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which several strategies have no figure: their order must not be that of a set."""
    records = [record for record in sweep(repeats=2, counts=(16,)) if record.trial.strategy in STRATEGIES]
    records += [unmeasured(name, 16, 1, "unavailable", "elsewhere") for name in STRATEGIES[3:]]
    return write_run(tmp_path_factory.mktemp("results") / "run", records, manifest([*STRATEGIES]))


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@cache
def alone(run: Path) -> dict[str, Drawn]:
    analysis = analyse(read_run(run))
    return {one.name: one for one in pictures(analysis, choose(analysis, "", ()))}


def test_with_a_second_process_the_report_is_the_same_to_the_byte(run: Path) -> None:
    report.write(run)
    before = files(run)
    report.write(run, helped=True)
    assert files(run) == before


def test_the_second_process_draws_what_the_first_has_not_claimed(run: Path, tmp_path: Path) -> None:
    expected = alone(run)
    for name in list(expected)[1:]:
        assert drawing.claim(tmp_path, name)
    subprocess.run([sys.executable, "-m", "bench.drawing", tmp_path, run, ""], check=True, timeout=120)
    (drawn,) = msgspec.msgpack.decode((tmp_path / drawing.DRAWN_FILE).read_bytes(), type=list[Drawn])
    assert drawn == next(iter(expected.values()))


def test_a_figure_is_claimed_once(tmp_path: Path) -> None:
    assert [drawing.claim(tmp_path, name) for name in ("cpu", "heat", "cpu")] == [True, True, False]


def test_what_a_second_process_leaves_undrawn_the_first_one_draws(run: Path) -> None:
    analysis = analyse(read_run(run))
    with drawing.helper(run) as helper:
        assert helper is not None
        helper.process.kill()
        drawn = drawing.draw(analysis, choose(analysis, "", ()), helper)
    assert {one.name: one for one in drawn} == alone(run)


def test_figures_come_in_the_order_of_the_page_whoever_drew_them(run: Path) -> None:
    analysis = analyse(read_run(run))
    with drawing.helper(run) as helper:
        assert helper is not None
        drawn = drawing.draw(analysis, choose(analysis, "", ()), helper)
    assert [one.name for one in drawn] == list(alone(run))


def test_nothing_of_a_second_process_is_left_when_the_first_one_fails(run: Path) -> None:
    with pytest.raises(ZeroDivisionError), drawing.helper(run) as helper:
        assert helper is not None
        kept = helper
        raise ZeroDivisionError
    assert kept.process.poll() is not None
    assert not kept.claims.exists()


def test_where_there_is_one_cpu_there_is_no_second_process(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    with drawing.helper(run) as helper:
        assert helper is None
