"""`iobench sweep --budget` and `iobench plan` of a sweep with one, as their user meets them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
from test_cli import begun, iobench, the_run

from bench.budget import LOOKS
from bench.record import read_manifest, read_run, write_manifest

SWEEP = """
strategies = ["epoll_lt", "thread_per_connection"]
connections = [2]
warmup_s = 0.0
duration_s = 0.1
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep of a few seconds, and where it was run."""
    folder = tmp_path_factory.mktemp("budget")
    (folder / "two.toml").write_text(SWEEP)
    return folder, iobench("sweep", "two.toml", "--budget", "6s", cwd=folder)


def test_a_sweep_with_a_budget_runs_rounds_and_ends_with_its_answer(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, result = finished
    assert result.returncode == 0, result.stderr
    run = read_run(the_run(folder / "results"))
    rounds = {record.trial.repeat for record in run.records}
    assert rounds == set(range(1, len(rounds) + 1))
    assert len(rounds) >= 3
    assert run.manifest.sweep["budget_s"] == 6.0
    assert run.manifest.sweep["looks"] == LOOKS
    assert run.manifest.sweep["trials_planned"] == len(run.records) == 2 * len(rounds)
    assert "Rounds into results/two-" in result.stderr
    assert "[round 1]" in result.stderr
    assert "throughput, messages/s" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("report.html")


def test_what_was_decided_on_the_way_is_told_and_kept(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, result = finished
    looks = read_run(the_run(folder / "results")).manifest.looks
    assert 1 <= len(looks) < LOOKS
    assert [look.comparisons for look in looks] == [3] * len(looks)
    assert f"After round {looks[0].round}, " in result.stderr
    assert f"{looks[0].decided} of 3 comparisons with the best are decided" in " ".join(result.stderr.split())
    assert f"{looks[0].decided} of 3 after " in result.stdout


def test_a_plan_tells_how_small_a_difference_the_budget_shows_by_the_noise_of_the_last_run(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = finished
    said = " ".join(iobench("plan", "two.toml", "--budget", "2m", cwd=folder).stdout.split())
    assert "Rounds of 2 trials until all is decided, 2 min 00 s at most" in said
    assert "nine times in ten, on a machine as noisy as in results/two-" in said
    assert "1 setting in turns, up to 2 servers up at once" in said


def test_where_no_run_tells_the_noise_the_plan_says_so(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(SWEEP)
    said = " ".join(iobench("plan", "two.toml", "--budget", "2m", cwd=tmp_path).stdout.split())
    assert "depends on the noise, and no run in results shows that" in said


def test_a_sweep_that_was_killed_goes_on_with_what_is_left_of_its_budget(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(SWEEP)
    with begun("sweep", "two.toml", "--budget", "1m", cwd=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("[round 3]"):
                break
        process.kill()
    folder = the_run(tmp_path / "results")
    before = {record.id for record in read_run(folder).records}
    manifest = read_manifest(folder)
    manifest.sweep["budget_s"] = 4.0  # a minute is long for a test
    write_manifest(folder, manifest)
    result = iobench("sweep", "--resume", str(folder), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"{len(before)} trials are done." in result.stderr
    records = read_run(folder).records
    assert before < {record.id for record in records} or len(before) >= 6
    assert len({record.id for record in records}) == len(records)
    assert msgspec.to_builtins(read_manifest(folder).sweep)["trials_planned"] == len(records)
