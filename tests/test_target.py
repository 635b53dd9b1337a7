"""A server that is already running is measured from the client's side alone, and that is said wherever it matters."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from spawn import Case, spawned
from test_cli import assert_is_bad_input, iobench, the_run

from bench.record import Run, read_run

SWEEP = 'strategies = ["poll"]\nconnections = [1, 4]\nrepeats = 1\nwarmup_s = 0.02\nduration_s = 0.2\n'
EPOLL_ON_UNIX = Case("epoll_lt", "readiness", "unix", "multiplexing", True, "")


class Finished(NamedTuple):
    """A sweep of a running server, which still runs."""

    folder: Path
    address: str
    said: subprocess.CompletedProcess[str]
    run: Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("target")
    (folder / "tiny.toml").write_text(SWEEP)
    with spawned(EPOLL_ON_UNIX) as server:
        address = str(server.address)
        said = iobench("sweep", "tiny.toml", "--target", address, cwd=folder)
        assert server.process.poll() is None, "it must go on"
        yield Finished(folder, address, said, read_run(the_run(folder / "results")))


def test_a_running_server_is_swept_in_place_of_the_strategies(finished: Finished) -> None:
    assert finished.said.returncode == 0, finished.said.stderr
    assert {(one.trial.strategy, one.trial.transport, one.trial.connections) for one in finished.run.records} == {
        ("target", "unix", 1),
        ("target", "unix", 4),
    }
    for record in finished.run.records:
        assert (record.status, record.reason) == ("ok", "")
        assert record.load is not None and record.load.completed > 0


def test_its_records_have_no_metrics_of_the_server_and_say_why(finished: Finished) -> None:
    for record in finished.run.records:
        assert record.server is not None
        assert (record.server.pid, record.server.metrics) == (0, {})
        assert "only the client's side is measured" in record.server.missing["cpu_ns"]


def test_the_manifest_says_what_it_is(finished: Finished) -> None:
    (info,) = finished.run.manifest.strategies
    assert (info.name, info.model) == ("target", "external")
    assert info.summary == f"already running at {finished.address}: only the client's side is measured"


def test_the_report_is_made_and_says_that_only_the_clients_side_was_measured(finished: Finished) -> None:
    page = (finished.run.folder / "report.html").read_text()
    assert "only the client&#39;s side is measured" in page or "only the client's side is measured" in page


def test_it_can_be_gone_on_with_while_the_server_runs(finished: Finished) -> None:
    again = iobench("sweep", "--resume", finished.run.folder, cwd=finished.folder)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 trials are done, 0 missing" in " ".join(again.stderr.split())


def test_a_plan_of_it_shows_the_target(finished: Finished) -> None:
    shown = iobench("plan", "tiny.toml", "--target", finished.address, cwd=finished.folder)
    assert shown.returncode == 0
    assert "target" in shown.stdout and "poll" not in shown.stdout


def test_a_target_where_nobody_listens_is_bad_input(tmp_path: Path) -> None:
    result = iobench("sweep", "--target", "unix:@iobench-test-nobody", cwd=tmp_path)
    assert_is_bad_input(result, "no server accepts connections at unix:@iobench-test-nobody", "iobench")
    assert not (tmp_path / "results").exists()


def test_a_target_goes_with_no_strategies_and_no_interpreters(tmp_path: Path) -> None:
    for option in ("--strategies", "--python"):
        result = iobench("sweep", "--target", "tcp:127.0.0.1:1", option, "x", cwd=tmp_path)
        assert_is_bad_input(result, "--target measures one server alone", "--target tcp:127.0.0.1:1")
