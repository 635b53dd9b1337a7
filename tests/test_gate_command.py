"""The gate as its user has it: real servers, a real repository, exit codes, files, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from repositories import git, hook, with_servers
from spawn import ROOT, eventually
from synthetic import manifest, record, write_run
from test_cli import assert_is_bad_input, begun, iobench

from bench.errors import BadInputError
from bench.gate import command, revision, show, stored
from bench.gate.decide import Settings
from bench.gate.model import Gate
from bench.gate.sides import Asked, find_tree, sources
from bench.processes import environment
from bench.run import make_folder
from bench.sweep import load_sweep

FOREIGN = ROOT / "tests" / "foreign_server.py"
BEFORE_EACH_ECHO = "                connection.echo_some()\n"


def commit(repository: Path, added: str) -> None:
    """Commit a readiness.py that does something more before each echo."""
    path = repository / "servers" / "readiness.py"
    original = (ROOT / "servers" / "readiness.py").read_text()
    assert original.count(BEFORE_EACH_ECHO) == 1
    path.write_text(original.replace(BEFORE_EACH_ECHO, f"                {added}\n{BEFORE_EACH_ECHO}"))
    git(repository, "commit", "-qam", added)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return with_servers(tmp_path / "repository")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
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
    commit(repository, '__import__("os").getpid()')
    said = iobench("gate", "--base", "first", "--strategies", "epoll_lt", "--budget", "2s", cwd=repository)
    _, gate = the_gate(repository)
    counted = [result for result in gate.results if result.metric == "calls"]
    if not counted:
        pytest.skip(f"nothing can count system calls here: {gate.notes}")
    assert said.returncode == 1, said.stdout + said.stderr
    assert all(result.verdict == "regressed" for result in counted)
    assert "getpid +1.00" in " ".join(said.stdout.split())


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
        (["--base", "first", "--max-regression", "5"], "written as 5% or 0.05", "5%"),
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


def test_a_revision_is_not_registered_with_the_repository_and_gone_though_the_comparison_failed(
    repository: Path, elsewhere: Path
) -> None:
    with pytest.raises(RuntimeError), sources(Asked("first"), Asked(), repository):
        assert len(git(repository, "worktree", "list").splitlines()) == 1
        assert [path.name for path in elsewhere.glob("*/*")] == ["servers"]
        raise RuntimeError
    assert list(elsewhere.iterdir()) == []


HELD = """
import sys, time
from pathlib import Path
from bench.gate.sides import Asked, sources
with sources(Asked("first"), Asked("first"), Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_gate_nothing_of_it_is_left(signum: int, repository: Path, elsewhere: Path) -> None:
    command = [sys.executable, "-c", HELD, str(repository)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert len(list(elsewhere.iterdir())) == 2
        process.send_signal(signum)
    assert eventually(lambda: not list(elsewhere.iterdir()))
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_what_a_dead_gate_left_is_removed_by_the_next_one_and_nothing_else_is(
    repository: Path, elsewhere: Path
) -> None:
    dead, alive = (elsewhere / f"{revision.PREFIX}{name}" for name in ("dead", "alive"))
    others = elsewhere / "iobench-gate-tree"
    for folder in (dead, alive, others):
        (folder / "servers").mkdir(parents=True)
    lock = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with sources(Asked("first"), Asked(), repository):
            assert not dead.exists()
    finally:
        os.close(lock)
    assert sorted(elsewhere.iterdir()) == [others, alive]


def test_a_hook_that_fails_after_a_checkout_does_not_matter(repository: Path) -> None:
    hook(repository, "post-checkout", "exit 1")
    with sources(Asked("first"), Asked(), repository) as (base, _):
        assert base.strategies


def test_the_strategies_on_an_interpreter_are_those_of_the_revision_and_not_of_iobench(repository: Path) -> None:
    (repository / "servers" / "readiness.py").unlink()
    git(repository, "commit", "-qam", "fewer")
    with sources(Asked("HEAD", python=sys.executable), Asked("first", python=sys.executable), repository) as sides:
        fewer, all_of_them = (side.strategies for side in sides)
    assert "epoll_lt" in all_of_them
    assert "epoll_lt" not in fewer


def test_the_tree_is_the_checkout_around_the_user_and_without_a_revision_else_that_of_iobench(
    repository: Path, tmp_path: Path
) -> None:
    assert find_tree(repository / "servers", "first") == repository.resolve()
    assert find_tree(repository / "servers", "") == repository.resolve()
    assert find_tree(tmp_path, "") == ROOT


def options(**sides: Asked) -> command.Options:
    given = {"base": Asked(), "head": Asked()} | sides
    return command.Options(
        **given, sweep=None, strategies=None, max_regression="5%", budget="60s", seed=1, results=Path("r"), count=False
    )


def test_that_interpreters_are_compared_on_the_servers_of_iobench_is_told_where_there_are_no_others(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreters = options(base=Asked(python="python3.12"), head=Asked(python="python3.13"))
    monkeypatch.chdir(tmp_path)
    tree, notes = command.tree_of(interpreters)
    assert tree == ROOT
    assert "the servers of iobench itself" in notes[0]
    monkeypatch.chdir(repository)
    assert command.tree_of(interpreters) == (repository.resolve(), [])


def test_commands_are_compared_without_asking_git_anything(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BadInputError, match="no git on PATH"):
        command.tree_of(options(base=Asked("first")))
    assert command.tree_of(options(base=Asked(command="a {port}"), head=Asked(command="b {port}")))[1] == []


def test_a_revision_of_no_checkout_is_never_looked_for_in_that_of_iobench(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is in no git checkout"):
        find_tree(tmp_path, "HEAD")
    git(repository, "rm", "-rq", "servers")
    with pytest.raises(BadInputError, match="has no servers/ to start"):
        find_tree(repository, "HEAD")


def test_a_checkout_that_git_refuses_is_told_and_no_other_tree_is_measured(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for settings in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):  # where the folder may be called safe
        monkeypatch.setenv(settings, "/dev/null")
    for arguments in (("--base", "first"), ("--base-python", sys.executable)):
        said = iobench("gate", *arguments, "--no-calls", cwd=repository)
        assert_is_bad_input(said, "dubious ownership", "git config --global --add safe.directory")
    assert not (repository / "results").exists()


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
