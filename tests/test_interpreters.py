"""Other interpreters: found, asked who they are, and given servers to run; those of this machine really are."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from test_cli import assert_is_bad_input, iobench
from test_run import FAKE_LOAD, LAYOUT, Silence, info

from bench import interpreters
from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.interpreters import LAUNCH, ask, ask_all, changes, command, describe, environment_for
from bench.plan import Plan, make_plan
from bench.processes import HOME
from bench.record import Interpreter, Manifest, Trial, read_run, write_manifest
from bench.run import run_trials
from bench.sweep import Sweep, from_values, load_sweep, with_python

OTHERS = ["python3.9", "python3.10", "python3.12", "python3.13", "python3.13t", "python3.14", "python3.14t", "pypy3"]
KNOWN = [info("epoll_lt"), info("uring")]


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def another(tmp_path: Path) -> str:
    """An interpreter with another name: a script that starts ours."""
    return program(tmp_path / "another-python", f'exec "{sys.executable}" "$@"')


def why_not(name: str) -> str:
    interpreter = ask(name).interpreter
    assert not interpreter.available
    return interpreter.reason


# --- who they are


def test_an_interpreter_says_who_it_is_and_what_it_can_run(another: str) -> None:
    asked = ask(another)
    version = ".".join(map(str, sys.version_info[:3]))
    assert (asked.interpreter.name, asked.interpreter.available) == (another, True)
    assert (asked.interpreter.implementation, asked.interpreter.version) == ("CPython", version)
    assert asked.interpreter.compiler
    assert [one.name for one in asked.strategies] == [one.name for one in list_strategies()[0]]


def test_the_one_that_runs_iobench_has_no_name() -> None:
    assert command("") == [sys.executable, "-m", "servers"]
    assert ask("").interpreter.available


@pytest.mark.parametrize("name", OTHERS)
def test_other_interpreters_of_this_machine_are_recognised(name: str) -> None:
    asked = ask(name)
    if not asked.interpreter.available:
        pytest.skip(asked.interpreter.reason)
    is_pypy, is_free_threaded = name.startswith("pypy"), name.endswith("t")
    assert asked.interpreter.implementation == ("PyPy" if is_pypy else "CPython")
    assert asked.interpreter.free_threaded == is_free_threaded
    assert asked.interpreter.gil or is_free_threaded
    assert asked.interpreter.jit or not is_pypy
    if not is_pypy:
        assert asked.interpreter.version.startswith(name.removeprefix("python").rstrip("t") + ".")
    assert "epoll_lt" in [one.name for one in asked.strategies if one.available]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"implementation": "CPython", "version": "3.12.1"}, "CPython 3.12.1"),
        ({"implementation": "PyPy", "version": "3.10.14", "jit": True}, "PyPy 3.10.14, with a JIT"),
        (
            {"implementation": "CPython", "version": "3.13.0", "free_threaded": True, "gil": False},
            "CPython 3.13.0, free-threaded, without the GIL",
        ),
        (
            {"implementation": "CPython", "version": "3.14.0", "free_threaded": True, "gil": True, "jit": True},
            "CPython 3.14.0, free-threaded, with the GIL on, with a JIT",
        ),
    ],
)
def test_free_threading_and_jit_are_said_where_there_are_any(facts: dict[str, object], said: str) -> None:
    assert describe(Interpreter(name="it", available=True, **facts)) == said  # type: ignore[arg-type]


# --- those that can't be used


def test_one_that_is_not_on_path_is_absent() -> None:
    assert why_not("python9.99") == "there is no python9.99 on PATH"


def test_a_path_without_a_program_is_absent(tmp_path: Path) -> None:
    assert why_not(f"{tmp_path}/python") == f"{tmp_path}/python is no program that can be run"


def test_a_shim_that_exists_but_does_not_run_is_absent_with_what_it_says(tmp_path: Path) -> None:
    says = r"printf 'pyenv: python3.13: command not found\n\nThe command exists in these versions:\n' >&2; exit 127"
    shim = program(tmp_path / "python3.13", says)
    assert why_not(shim) == f"{shim} does not run: pyenv: python3.13: command not found"


def test_of_a_traceback_the_last_line_is_the_reason(tmp_path: Path) -> None:
    says = r"printf 'Traceback (most recent call last):\n  File x\nImportError: no _posixsubprocess\n' >&2; exit 1"
    broken = program(tmp_path / "python", says)
    assert why_not(broken).endswith("does not run: ImportError: no _posixsubprocess")


def test_a_program_that_is_no_python_is_absent(tmp_path: Path) -> None:
    assert "does not answer as a Python does" in why_not(program(tmp_path / "python", "echo hello"))
    assert why_not(program(tmp_path / "false", "exit 3")).endswith("does not run: exit code 3")


def test_one_that_gives_no_answer_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "PATIENCE_S", 0.2)
    assert why_not(program(tmp_path / "python", "exec sleep 3600")).endswith("gives no answer within 0.2 s")


@pytest.mark.parametrize("name", ["python2", "python2.7", "python3.6", "python3.7", "python3.8"])
def test_one_that_is_too_old_says_so(name: str) -> None:
    reason = why_not(name)
    if "is older than 3.9" not in reason:
        pytest.skip(reason)
    assert reason.startswith(f"{name} does not run: Python ")


def test_a_strategy_that_an_interpreter_can_not_even_import_is_unavailable_on_it(another: str) -> None:
    (interpreter,) = ask_all([another], [*list_strategies()[0], info("of_tomorrow")])
    assert interpreter.unavailable["of_tomorrow"] == f"{another} can't import it"
    assert "epoll_lt" not in interpreter.unavailable


# --- what they see


def test_an_interpreter_sees_none_of_the_packages_that_iobench_is_installed_among(
    tmp_path: Path, another: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    shutil.copytree(HOME / "servers", site / "servers")
    (site / "bench").mkdir()
    shutil.copy(LAUNCH, site / "bench")
    (site / "compiled_for_another.py").write_text("raise SystemExit('it was imported')")
    (site / "bench" / "wait.py").write_text("raise SystemExit('it was imported')")
    tells = (
        "import importlib.util, os\n"
        "from servers.contract import Strategy\n"
        "def probe():\n"
        "    for name in ('compiled_for_another', 'wait'):\n"
        "        assert importlib.util.find_spec(name) is None, name + ' can be seen'\n"
        "STRATEGIES = (Strategy(name='tells', summary='x', serve=print, model='blocking', probe=probe),)\n"
    )
    (site / "servers" / "tells.py").write_text(tells)
    monkeypatch.setattr(interpreters, "HOME", site)
    monkeypatch.setattr(interpreters, "LAUNCH", site / "bench" / "launch.py")
    monkeypatch.setenv("PYTHONPATH", str(site))
    asked = ask(another)
    assert {one.name: one.reason for one in asked.strategies if one.name == "tells"} == {"tells": ""}


def test_settings_for_the_python_of_iobench_are_not_passed_on() -> None:
    ours = {"PATH": "/bin", "PYTHONPATH": "/ours", "PYTHONHOME": "/ours", "PYTHONSAFEPATH": "1", "PYTHON_GIL": "0"}
    assert environment_for("python3.13", ours) == {"PATH": "/bin", "PYTHON_GIL": "0"}


# --- in a sweep


def plan_on(*names: Interpreter, **more: object) -> Plan:
    values = {"strategies": ["epoll_lt", "uring"], "python": [one.name for one in names], "connections": [4]}
    sweep = from_values("any", {**values, "repeats": 1, **more}, "any.toml")
    return make_plan(sweep, KNOWN, interpreters=names)


OURS = Interpreter(name="", available=True)
PYPY = Interpreter(name="pypy3", available=True, unavailable={"uring": "No module named 'liburing'"})
MISSING = Interpreter(name="python9", available=False, reason="there is no python9 on PATH")


def test_each_strategy_is_planned_on_each_interpreter() -> None:
    plan = plan_on(OURS, PYPY)
    points = Counter((trial.strategy, trial.python) for trial in plan.trials)
    assert points == {(strategy, python): 1 for strategy in ("epoll_lt", "uring") for python in ("", "pypy3")}


def test_what_an_interpreter_can_not_run_is_planned_with_its_own_reason() -> None:
    plan = plan_on(OURS, PYPY)
    assert len(plan.runnable) == 3
    assert plan.unavailable == {"uring on pypy3": "No module named 'liburing'"}


def test_trials_of_a_missing_interpreter_are_planned_but_not_runnable() -> None:
    plan = plan_on(OURS, MISSING)
    assert {trial.python for trial in plan.runnable} == {""}
    assert plan.unavailable == {"python9": "there is no python9 on PATH"}


def test_a_sweep_all_of_whose_interpreters_are_missing_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"can run here \(python9: there is no python9 on PATH\)"):
        plan_on(MISSING)


def test_the_interpreter_of_iobench_leaves_ids_as_they_were() -> None:
    on_ours, on_another = (trial for trial in plan_on(OURS, PYPY, strategies=["epoll_lt"]).trials)
    assert on_ours.id != on_another.id
    plain = make_plan(Sweep(name="any", strategies=("epoll_lt",), connections=(4,), repeats=1), KNOWN).trials[0]
    assert plain.id in (on_ours.id, on_another.id)


def test_the_axis_is_a_list_of_names_each_once() -> None:
    assert from_values("any", {"python": "pypy3"}, "any.toml").python == ("pypy3",)
    for wrong in ([], ["pypy3", "pypy3"], [3.13]):
        with pytest.raises(BadInputError, match="commands or paths of Python interpreters"):
            from_values("any", {"python": wrong}, "any.toml")


def test_interpreters_named_on_the_command_line_take_the_place_of_the_sweeps() -> None:
    assert with_python(load_sweep("quick"), " pypy3, python3.13,pypy3").python == ("pypy3", "python3.13")
    with pytest.raises(BadInputError, match="--python names none"):
        with_python(load_sweep("quick"), " ,")


def trial_on(python: str) -> Trial:
    return Trial(
        strategy="epoll_lt",
        transport="tcp",
        connections=1,
        message_bytes=64,
        workload="closed",
        warmup_s=0.0,
        duration_s=0.01,
        repeat=1,
        seed=1,
        python=python,
    )


def test_a_server_runs_on_the_interpreter_of_its_trial_and_a_missing_one_is_recorded(
    another: str, tmp_path: Path
) -> None:
    found = ask(another).interpreter
    strategies = {one.name: one for one in list_strategies()[0] if one.name == "epoll_lt"}
    trials = [trial_on(""), trial_on(another), trial_on("python9")]
    plan = Plan(trials, strategies, [], interpreters={another: found, "python9": MISSING})
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    run_trials(plan, tmp_path, [], LAYOUT, Silence(), worker_command=FAKE_LOAD)
    by_python = {record.trial.python: record for record in read_run(tmp_path).records}
    ours, theirs, missing = by_python[""], by_python[another], by_python["python9"]
    assert (ours.status, theirs.status) == ("ok", "ok")
    assert ours.server is not None and theirs.server is not None
    assert (theirs.server.implementation, theirs.server.version) == (found.implementation, found.version)
    assert (theirs.server.gil, theirs.server.jit) == (found.gil, found.jit)
    assert (missing.status, missing.reason) == ("unavailable", "there is no python9 on PATH")


def test_an_interpreter_that_vanishes_between_plan_and_trial_fails_the_trial(tmp_path: Path, another: str) -> None:
    found = ask(another).interpreter
    Path(another).unlink()
    strategies = {one.name: one for one in list_strategies()[0] if one.name == "epoll_lt"}
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    plan = Plan([trial_on(another)], strategies, [], interpreters={another: found})
    run_trials(plan, tmp_path, [], LAYOUT, Silence(), worker_command=FAKE_LOAD)
    (record,) = read_run(tmp_path).records
    assert (record.status, record.reason) == ("failed", f"{another} is no program that can be run")


def test_a_run_is_not_gone_on_with_on_another_version() -> None:
    then = [Interpreter(name="py", available=True, implementation="CPython", version="3.13.0"), MISSING]
    now = [Interpreter(name="py", available=True, implementation="CPython", version="3.13.1"), MISSING]
    assert changes(then, then) == []
    assert changes(then, now) == ["py was CPython 3.13.0, is CPython 3.13.1"]
    assert changes(then, []) == ["py was CPython 3.13.0, is gone"]


# --- on the command line


def test_the_strategies_of_a_missing_interpreter_can_not_be_listed(tmp_path: Path) -> None:
    result = iobench("list", "--python", "python9.99", cwd=tmp_path)
    assert_is_bad_input(result, "there is no python9.99 on PATH", "iobench list --python")


def test_the_strategies_of_an_interpreter_are_listed_below_who_it_is(tmp_path: Path) -> None:
    result = iobench("list", "--python", sys.executable, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{sys.executable}: CPython 3.")
    assert "epoll_lt" in result.stdout
