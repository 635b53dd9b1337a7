"""The gate as its user has it: real servers, a real repository, exit codes, files, and nothing left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from spawn import ROOT, eventually
from synthetic import manifest, record, write_run
from test_cli import assert_is_bad_input, begun, iobench

from bench.errors import BadInputError
from bench.gate import show, stored
from bench.gate.decide import Settings
from bench.gate.model import Gate
from bench.gate.sides import Asked, find_tree, sources
from bench.run import make_folder
from bench.sweep import load_sweep

FOREIGN = ROOT / "tests" / "foreign_server.py"
BEFORE_EACH_ECHO = "                connection.echo_some()\n"


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(repository), *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def commit(repository: Path, added: str) -> None:
    """Commit a readiness.py that does something more before each echo."""
    path = repository / "servers" / "readiness.py"
    original = (ROOT / "servers" / "readiness.py").read_text()
    assert original.count(BEFORE_EACH_ECHO) == 1
    path.write_text(original.replace(BEFORE_EACH_ECHO, f"                {added}\n{BEFORE_EACH_ECHO}"))
    git(repository, "commit", "-qam", added)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout with our servers in it, on a branch of its own, its first commit tagged."""
    place = tmp_path / "repository"
    shutil.copytree(ROOT / "servers", place / "servers", ignore=shutil.ignore_patterns("__pycache__"))
    (place / ".gitignore").write_text("results/\n__pycache__/\n")
    git(place, "init", "-q", "-b", "work")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "servers")
    git(place, "tag", "first")
    return place


def the_gate(folder: Path) -> tuple[Path, Gate]:
    (found,) = (folder / "results").iterdir()
    return found, show.read(found)


def test_a_gate_of_one_commit_with_itself_writes_every_output_and_finds_no_regression(repository: Path) -> None:
    said = iobench(
        *("gate", "--base", "first", "--strategies", "epoll_lt", "--budget", "16s", "--no-calls"), cwd=repository
    )
    assert said.returncode in (0, 3), said.stderr
    folder, gate = the_gate(repository)
    assert {path.name for path in folder.iterdir()} >= {"gate.json", "gate.md", "junit.xml", "report.html"}
    assert said.stdout.strip().splitlines()[-1].endswith("report.html")
    assert "same commit" in said.stdout.replace("\n", " ")
    assert all(not pair.failed for pair in gate.pairs)
    assert len(gate.pairs) >= 3
    assert max(map(len, said.stdout.splitlines()[:-1])) <= 80
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_one_more_system_call_is_found_and_named(repository: Path) -> None:
    commit(repository, '__import__("os").sched_yield()')
    said = iobench("gate", "--base", "first", "--strategies", "epoll_lt", "--budget", "2s", cwd=repository)
    _, gate = the_gate(repository)
    counted = [result for result in gate.results if result.metric == "calls"]
    if not counted:
        pytest.skip(f"nothing can count system calls here: {gate.notes}")
    assert said.returncode == 1, said.stdout + said.stderr
    assert all(result.verdict == "regressed" for result in counted)
    assert "sched_yield +1.00" in " ".join(said.stdout.split())


def test_a_head_that_crashes_is_a_regression(repository: Path) -> None:
    commit(repository, "raise SystemExit(7)")
    said = iobench(
        *("gate", "--base", "first", "--strategies", "epoll_lt", "--budget", "5s", "--no-calls"), cwd=repository
    )
    assert said.returncode == 1, said.stdout + said.stderr
    assert "exit code 7" in said.stdout.replace("\n    ", " ")


def test_an_interrupted_gate_says_so_and_leaves_nothing_behind(repository: Path) -> None:
    arguments = ("gate", "--base", "first", "--strategies", "epoll_lt", "--no-calls")
    with begun(*arguments, cwd=repository) as process:
        assert process.stderr is not None
        while "pairs of each case" not in (line := process.stderr.readline()):
            assert line, "it ended before it began"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert out.startswith("Inconclusive")
    assert "interrupted" in out
    _, gate = the_gate(repository)
    assert gate.pairs
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_two_commands_are_compared_and_one_that_echoes_wrongly_has_regressed(tmp_path: Path) -> None:
    base, head = (f"{sys.executable} {FOREIGN} {kind} {{port}}" for kind in ("good", "flips"))
    said = iobench(
        *("gate", "--base-command", base, "--head-command", head, "--budget", "5s", "--no-calls"), cwd=tmp_path
    )
    assert said.returncode == 1, said.stdout + said.stderr
    assert "corrupt" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "what", "next_step"),
    [
        ([], "nothing to compare with", "--base main"),
        (["--base", "nowhere"], "no revision nowhere", "git fetch"),
        (["--base", "first", "--max-regression", "lots"], "--max-regression 'lots'", "5%"),
        (["--base", "first", "--budget", "soon"], "--budget 'soon'", "60s"),
        (["--base", "first", "--strategies", "epol_lt"], "did you mean 'epoll_lt'", "iobench list"),
        (["--base-command", "cat {port}"], "--head-command is not given", "--head-command"),
        (["--base-command", "cat {port}", "--head-command", "nothing-of-this-name {port}"], "not installed", "node"),
        (["--base-command", "cat", "--head-command", "cat {port}"], "where to listen", "--base-command"),
        (["--base", "first", "--base-python", "python0.1"], "python0.1", "iobench list"),
        (["--base", "first", "nonsense"], "no sweep 'nonsense'", "iobench plan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_told_in_one_paragraph_with_the_next_command(
    repository: Path, arguments: list[str], what: str, next_step: str
) -> None:
    assert_is_bad_input(iobench("gate", *arguments, cwd=repository), what, next_step)


def test_a_strategy_that_head_has_renamed_is_not_passed(repository: Path) -> None:
    path = repository / "servers" / "readiness.py"
    path.write_text(path.read_text().replace('name="epoll_lt"', 'name="epoll_level"'))
    git(repository, "commit", "-qam", "rename")
    said = iobench("gate", "--base", "first", "--no-calls", cwd=repository)
    assert_is_bad_input(said, "head has no strategy epoll_lt", "--strategies asyncio_protocol,thread_per_connection")


# --- sides


def test_each_side_runs_the_servers_of_its_own_tree(repository: Path) -> None:
    commit(repository, "pass")
    with sources(Asked("first"), Asked(), repository) as (base, head):
        assert base.side.commit == git(repository, "rev-parse", "first")
        assert head.side.commit == git(repository, "rev-parse", "HEAD")
        assert not head.side.dirty
        with (repository / "servers" / "readiness.py").open("a") as file:
            file.write("# changed\n")
    with sources(Asked("first"), Asked(), repository) as (_, head):
        assert head.side.dirty
        assert "not committed" in " ".join(head.notes)


def test_a_worktree_is_gone_though_the_comparison_failed(repository: Path) -> None:
    with pytest.raises(RuntimeError), sources(Asked("first"), Asked(), repository):
        assert len(git(repository, "worktree", "list").splitlines()) == 2
        raise RuntimeError
    assert eventually(lambda: len(git(repository, "worktree", "list").splitlines()) == 1)


def test_the_tree_is_the_checkout_around_the_user_or_that_of_iobench(repository: Path, tmp_path: Path) -> None:
    assert find_tree(repository / "servers") == repository.resolve()
    assert find_tree(tmp_path) == ROOT


def test_an_option_in_place_of_a_revision_is_a_revision_that_there_is_not(repository: Path) -> None:
    with (
        pytest.raises(BadInputError, match="no revision --upload-pack"),
        sources(Asked("--upload-pack=x"), Asked(), repository),
    ):
        pass


# --- a stored run


def a_run(folder: Path, factor: float = 1.0, repeats: int = 12, strategies: tuple[str, ...] = ("epoll_lt",)) -> Path:
    folder.mkdir(parents=True)
    records = [
        record(name, 16, repeat, 1e5 / factor * (1 + repeat / 500), 8.0 * factor * (1 + repeat / 500))
        for name in strategies
        for repeat in range(1, repeats + 1)
    ]
    return write_run(folder, records, manifest(list(strategies)))


def test_two_stored_runs_are_compared_the_weaker_way_and_that_is_said(tmp_path: Path) -> None:
    base, head = a_run(tmp_path / "base"), a_run(tmp_path / "head", factor=1.3)
    gate = stored.compare_runs(base, str(head), tmp_path, Settings())
    assert not gate.paired
    assert gate.verdict == "regressed"
    assert "weaker" in gate.notes[0]


def test_a_stored_run_with_itself_has_no_regression(tmp_path: Path) -> None:
    base = a_run(tmp_path / "base")
    assert stored.compare_runs(base, str(base), tmp_path, Settings()).verdict == "ok"


def test_too_few_repeats_in_a_stored_run_pass_nothing(tmp_path: Path) -> None:
    base, head = a_run(tmp_path / "base"), a_run(tmp_path / "head", repeats=2)
    assert stored.compare_runs(base, str(head), tmp_path, Settings()).verdict == "inconclusive"


def test_a_case_that_one_run_alone_has_is_refused_by_name(tmp_path: Path) -> None:
    base, head = a_run(tmp_path / "base", strategies=("epoll_lt", "poll")), a_run(tmp_path / "head")
    with pytest.raises(BadInputError, match="poll"):
        stored.compare_runs(base, str(head), tmp_path, Settings())


def test_runs_of_unlike_machines_are_not_compared(tmp_path: Path) -> None:
    base, head = a_run(tmp_path / "base"), a_run(tmp_path / "head")
    path = head / "manifest.json"
    values = msgspec.json.decode(path.read_bytes())
    values["host"]["cpu_model"] = "another"
    path.write_bytes(msgspec.json.encode(values))
    with pytest.raises(BadInputError, match="another"):
        stored.compare_runs(base, str(head), tmp_path, Settings())


def test_a_run_as_base_and_a_revision_as_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="stored run"):
        stored.compare_runs(a_run(tmp_path / "base"), "HEAD", tmp_path, Settings())


def test_folders_of_gates_have_a_name_of_their_own(tmp_path: Path) -> None:
    sweep = msgspec.structs.replace(load_sweep("gate"), name="gate")
    assert make_folder(tmp_path, sweep.name).name.startswith("gate-2")
