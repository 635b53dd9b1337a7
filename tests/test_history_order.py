"""Runs of a history in order of their commits, where git knows them, and of time where it doesn't."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_history import an_entry, noisy, write_history

from bench.history.command import Options, history
from bench.history.order import ancestry, in_order, unordered
from bench.history.store import Entry
from bench.history.trend import trends


def git(repository: Path, *arguments: str, stdin: str = "") -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, check=True).stdout


def a_repository(folder: Path, count: int) -> list[str]:
    """A repository of so many commits, one after the other, whose clocks go backwards; gives their ids."""
    folder.mkdir()
    git(folder, "init", "-q")
    commits = [
        f"commit refs/heads/line\ncommitter t <t@localhost> {1_700_000_000 - number} +0000\ndata 1\n{number % 10}\n"
        for number in range(count)
    ]
    git(folder, "fast-import", "--quiet", stdin="\n".join(commits))
    return git(folder, "rev-list", "--topo-order", "--reverse", "line").split()


def runs_of(commits: Sequence[str]) -> list[Entry]:
    return [an_entry(number, commit=commit) for number, commit in enumerate(commits)]


def test_a_run_of_an_older_commit_that_is_made_later_stands_where_its_commit_does(tmp_path: Path) -> None:
    first, second, third = a_repository(tmp_path / "repository", 3)
    runs = runs_of([third, first, second, first])
    ordered = in_order(runs, ancestry(runs, [tmp_path / "repository"]))
    assert [(run.commit, run.run) for run in ordered] == [
        (first, "run-1"),
        (first, "run-3"),
        (second, "run-2"),
        (third, "run-0"),
    ]


def test_runs_of_older_commits_that_are_added_later_are_no_change_for_the_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commits = a_repository(tmp_path / "repository", 30)
    rates = noisy(70, 12, 1) + noisy(100, 18, 2) + noisy(70, 8, 3)
    runs = [
        an_entry(number, rate, metric="rate_hz", commit=commit)
        for number, (rate, commit) in enumerate(zip(rates, commits + commits[:8], strict=True))
    ]
    path = write_history(tmp_path / "repository" / "history.jsonl", runs)
    by_time = trends(runs)[0].changes
    assert by_time[-1].ratio == pytest.approx(0.7, rel=0.05)
    assert history(Options(path, None, (), (), None, None, fail_on_change=True)) == 0
    said = capsys.readouterr().out
    assert "(better)" in said
    assert "(worse)" not in said


def test_changes_that_are_not_committed_come_after_their_commit(tmp_path: Path) -> None:
    first, second = a_repository(tmp_path / "repository", 2)
    runs = [
        an_entry(0, commit=first, dirty=True),
        an_entry(1, commit=second),
        an_entry(2, commit=first),
    ]
    ordered = in_order(runs, ancestry(runs, [tmp_path / "repository"]))
    assert [run.run for run in ordered] == ["run-2", "run-0", "run-1"]


def test_a_hook_of_another_repository_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = a_repository(tmp_path / "repository", 3)
    a_repository(tmp_path / "other", 1)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    runs = runs_of(commits[::-1])
    assert [run.commit for run in in_order(runs, ancestry(runs, [tmp_path / "repository"]))] == commits


def test_the_checkout_that_knows_the_commits_is_found(tmp_path: Path) -> None:
    commits = a_repository(tmp_path / "repository", 3)
    a_repository(tmp_path / "other", 2)
    places = [tmp_path / "nowhere", tmp_path, tmp_path / "other", tmp_path / "repository"]
    assert sorted(commits, key=ancestry(runs_of(commits), places).__getitem__) == commits


@pytest.mark.parametrize("wrong", ["no git", "no repository", "broken"])
def test_where_git_fails_runs_are_in_order_of_time_and_that_is_told(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    commits = a_repository(repository, 3)
    if wrong == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif wrong == "no repository":
        repository = tmp_path / "elsewhere"
    else:
        (repository / ".git" / "HEAD").write_text("nonsense")
    runs = runs_of(commits[::-1])
    ranks = ancestry(runs, [repository])
    assert ranks == {}
    assert in_order(runs, ranks) == runs
    assert "doesn't know 3 of 3 commits" in unordered(runs, ranks)


def test_a_commit_that_git_does_not_know_leaves_the_others_in_order(tmp_path: Path) -> None:
    first, second, third = a_repository(tmp_path / "repository", 3)
    runs = runs_of([third, "d" * 40, second, "unknown", first])
    ranks = ancestry(runs, [tmp_path / "repository"])
    assert [run.commit for run in in_order(runs, ranks)] == [first, "d" * 40, second, "unknown", third]
    assert "doesn't know 1 of 4 commits" in unordered(runs, ranks)


def test_nothing_is_remarked_where_git_knows_all_commits_or_none_is_recorded(tmp_path: Path) -> None:
    runs = runs_of(a_repository(tmp_path / "repository", 2))
    assert unordered(runs, ancestry(runs, [tmp_path / "repository"])) == ""
    assert unordered(runs_of(["unknown"] * 3), {}) == ""


def test_what_stands_in_a_file_is_no_option_of_git(tmp_path: Path) -> None:
    commits = a_repository(tmp_path / "repository", 2)
    runs = runs_of([*commits, "--max-count=0", "HEAD", "^line", f"{commits[0]}\n--max-count=0"])
    assert set(ancestry(runs, [tmp_path / "repository"])) == set(commits)


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.permutations("abcd"))
def test_runs_of_known_commits_are_in_order_and_the_others_keep_their_places(
    commits: list[str], known: list[str]
) -> None:
    runs = runs_of(commits)
    ranks = {commit: rank for rank, commit in enumerate(known)}
    ordered = in_order(runs, ranks)
    assert sorted(run.run for run in ordered) == sorted(run.run for run in runs)
    found = [ranks[run.commit] for run in ordered if run.commit in ranks]
    assert found == sorted(found)
    assert all(run.run == runs[place].run for place, run in enumerate(ordered) if run.commit not in ranks)


def test_otava_gets_the_runs_in_the_same_order(tmp_path: Path) -> None:
    commits = a_repository(tmp_path / "repository", 3)
    path = write_history(tmp_path / "repository" / "history.jsonl", runs_of(commits[::-1]))
    history(Options(path, None, (), (), tmp_path / "otava", None, fail_on_change=False))
    (table,) = (tmp_path / "otava").glob("*.csv")
    assert [line.split(",")[1] for line in table.read_text().splitlines()[1:]] == commits
