"""The lab: every experiment that can run here goes as expected, and what doesn't is told."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import psutil
import pytest
from spawn import ROOT, eventually
from synthetic import manifest, write_run

import bench.lab
import report
from bench import run as runs
from bench.errors import BadInputError
from bench.lab import io_uring_completion
from bench.lab import run as lab
from bench.lab.experiment import Chart, Finding, Lab, Observation, at_least, at_most, read_findings, same, told
from bench.processes import Guard, environment
from bench.say import WIDTH

ASKED_FOR = {
    "aio-completion",
    "blocking-sleeps",
    "close-on-exec",
    "epoll-pipe",
    "interest-and-ready-list",
    "io-uring-completion",
    "mode-switch",
    "pipe",
    "select-limit",
    "signal-driven",
}
HEADER = """
import os, subprocess, sys, threading, time
from bench.lab.experiment import Chart, Experiment, Observation, same, told
"""
HOLDS = 'yield same("what was done", 1, 1)'
TWO_LINES = "[(10, 1.5), (1000, 30.0)]"
CHART = f'yield Chart(title="A chart", x="descriptors", y="us", lines={{"one": {TWO_LINES}, "two": [(10, 2.5)]}})'


@pytest.fixture
def guard() -> Iterator[Guard]:
    watching = Guard()
    yield watching
    watching.close()


class Shelf:
    """A package of made-up experiments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "__init__.py").touch()

    def add(self, name: str, *lines: str, unavailable: str = "") -> None:
        """Write one file, as anybody would who adds an experiment."""
        body = "\n    ".join(lines)
        text = f'"""The text of {name}."""\n{HEADER}\ndef run():\n    {body}\n\n'
        text += f"EXPERIMENT = Experiment({name!r}, 'the claim of {name}', run, lambda: {unavailable!r})\n"
        (self.folder / f"{name}.py").write_text(text)

    @property
    def package(self) -> ModuleType:
        importlib.invalidate_caches()
        return importlib.import_module(self.folder.name)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    return Shelf(tmp_path / f"shelf_{re.sub(r'[^a-z0-9]', '_', tmp_path.name.lower())}")


def examined(shelf: Shelf, guard: Guard, limit_s: float = 60.0) -> Finding:
    (found,) = lab.discover(shelf.package)
    return lab.examine(found, guard, limit_s)


def iobench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "bench", *arguments],
        env=environment({**os.environ, "COLUMNS": str(WIDTH)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- the experiments


@pytest.mark.parametrize("found", [pytest.param(one, id=one.experiment.name) for one in lab.discover()])
def test_the_kernel_does_what_the_experiment_claims(found: lab.Found, guard: Guard) -> None:
    finding = lab.examine(found, guard)
    if finding.status == "unavailable":
        pytest.skip(finding.reason)
    assert [one for one in finding.observations if one.holds is False] == []
    assert (finding.status, finding.reason) == ("ok", "")  # nor was anything left behind
    assert any(one.holds for one in finding.observations)


def test_every_mechanism_that_was_asked_for_has_an_experiment_with_a_claim_and_a_text() -> None:
    found = lab.discover()
    names = [one.experiment.name for one in found]
    assert set(names) >= ASKED_FOR
    assert len(set(names)) == len(names)
    for one in found:
        assert one.module.__name__ == f"bench.lab.{one.experiment.name.replace('-', '_')}"
        assert 0 < len(one.experiment.claim) <= 100
        assert len(one.module.__doc__ or "") > 400
        assert re.search(r"\([2378]\)", one.module.__doc__ or ""), "no manual page is named"


def test_the_documentation_lists_every_experiment_and_its_example_is_one(shelf: Shelf, guard: Guard) -> None:
    text = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    for one in lab.discover():
        assert f"[`{one.experiment.name}`](../bench/lab/{Path(one.module.__file__ or '').name})" in text
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (shelf.folder / "example.py").write_text(example)
    assert examined(shelf, guard).status == "ok"


# On a system without Linux's own calls; `bench.lab` is imported after they have gone.
def test_a_package_that_kills_the_process_that_calls_it_makes_its_experiment_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "liburing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert io_uring_completion.unavailable() == "trying it ended the process by SIGILL"


ELSEWHERE = """
import fcntl, os, select, sys
for module, names in ((select, ["epoll"]), (fcntl, ["F_GETPIPE_SZ", "F_SETSIG"]), (os, ["pipe2", "sched_setaffinity"])):
    for name in names:
        delattr(module, name)
import platform
platform.system = lambda: "Elsewhere"
from bench.lab import io_uring_completion, run
from bench.lab.__main__ import main
if len(sys.argv) > 1:
    main(sys.argv[1])
else:
    for found in run.discover():
        print(found.experiment.name, found.experiment.unavailable(), sep=": ")
"""


def elsewhere(*arguments: str) -> str:
    script = [sys.executable, "-c", ELSEWHERE, *arguments]
    return subprocess.run(script, env=environment(), capture_output=True, text=True, timeout=60, check=True).stdout


def test_all_can_be_imported_and_say_why_not_where_linux_calls_are_missing() -> None:
    reasons = dict(line.split(": ", 1) for line in elsewhere().splitlines())
    assert set(reasons) >= ASKED_FOR
    for name in ("epoll-pipe", "interest-and-ready-list", "signal-driven", "aio-completion"):
        assert reasons[name]
    for name in ("pipe", "close-on-exec", "blocking-sleeps", "select-limit", "mode-switch"):
        assert reasons[name] == ""


@pytest.mark.parametrize("module", ["pipe", "close_on_exec", "blocking_sleeps", "select_limit"])
def test_the_portable_ones_run_where_linux_calls_are_missing(module: str) -> None:
    lines = [json.loads(line) for line in elsewhere(f"bench.lab.{module}").splitlines()]
    assert lines[-1] == {"left": []}
    assert [line for line in lines if "error" in line or line.get("observation", {}).get("holds") is False] == []


# --- what is done with what they observe


def test_a_new_experiment_is_one_new_file(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.add("mine", HOLDS, 'yield told("a time", 2.5, "ms")', CHART)
    assert lab.lab(package=shelf.package) == 0
    assert "the claim of mine" in capsys.readouterr().out
    assert lab.lab("mine", package=shelf.package) == 0
    shown = capsys.readouterr().out
    for part in ("The text of mine.", "mine.py", "what was done", "2.5 ms", "A chart, us", "as expected"):
        assert part in shown


def test_an_observation_that_does_not_hold_is_shown_and_makes_the_exit_code_1(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.add("wrong", HOLDS, 'yield same("something else", "this", "that")')
    assert lab.lab("wrong", package=shelf.package) == 1
    shown = capsys.readouterr().out
    assert re.search(r"something else +this +that +not so", shown)
    assert "not as expected: observations that do not hold: 1 of 2" in shown

    shelf.add("right", HOLDS)
    assert lab.lab(everything=True, package=shelf.package) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 experiments: 1 went as expected, 1 did not (wrong), 0 can't run here; 2 of 3 observations hold." in shown


def test_one_that_cannot_run_here_says_why_and_is_no_failure(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.add("absent", HOLDS, unavailable="this kernel has no such thing")
    for code in (lab.lab(package=shelf.package), lab.lab(everything=True, package=shelf.package)):
        assert code == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "absent can't run here: this kernel has no such thing" in shown or "can't run here" not in shown
    assert lab.lab("absent", package=shelf.package) == 0
    assert "can't run here: this kernel has no such thing" in capsys.readouterr().out


def test_one_that_breaks_off_has_failed_with_what_it_had_observed(shelf: Shelf, guard: Guard) -> None:
    shelf.add("broken", HOLDS, 'raise OSError(5, "gone")')
    finding = examined(shelf, guard)
    assert finding.status == "failed"
    assert "OSError" in finding.reason and "gone" in finding.reason
    assert [one.what for one in finding.observations] == ["what was done"]


def test_one_that_dies_has_failed(shelf: Shelf, guard: Guard) -> None:
    shelf.add("dying", HOLDS, "os.abort()")
    assert "killed by signal 6" in examined(shelf, guard).reason


def test_one_that_does_not_end_is_ended_with_its_children(shelf: Shelf, guard: Guard, tmp_path: Path) -> None:
    sleeper = f"pid = subprocess.Popen(['sleep', '600']).pid; open({str(tmp_path / 'pid')!r}, 'w').write(str(pid))"
    shelf.add("endless", sleeper, HOLDS, "time.sleep(600)")
    finding = examined(shelf, guard, limit_s=3.0)
    assert finding.reason == "it did not end within 3 s"
    assert len(finding.observations) == 1
    pid = int((tmp_path / "pid").read_text())
    assert eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_what_an_experiment_leaves_behind_is_a_failure(shelf: Shelf, guard: Guard) -> None:
    shelf.add(
        "untidy",
        HOLDS,
        "os.pipe()",
        "os.posix_spawnp('sleep', ['sleep', '1'], os.environ)",
        "threading.Thread(target=time.sleep, args=(1,), name='idler', daemon=True).start()",
    )
    reason = examined(shelf, guard).reason
    assert len(re.findall(r"it left descriptor \d+ behind", reason)) == 2
    assert "it left a child behind" in reason
    assert "it left thread idler behind" in reason


def test_nothing_of_an_experiment_is_left_in_the_process_that_asked_for_it(shelf: Shelf, guard: Guard) -> None:
    shelf.add("tidy", HOLDS)
    examined(shelf, guard)
    me = psutil.Process()
    before = me.num_fds(), len(me.children()), threading.active_count()
    examined(shelf, guard)
    assert (me.num_fds(), len(me.children()), threading.active_count()) == before


def test_a_file_that_cannot_be_imported_is_complained_of_and_the_others_run(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.add("mine", HOLDS)
    (shelf.folder / "odd.py").write_text("import no_such_package\n")
    assert lab.lab(everything=True, package=shelf.package) == 0
    assert "odd can't be imported: No module named 'no_such_package'" in " ".join(capsys.readouterr().err.split())


def test_ctrl_c_ends_the_experiment_and_the_command(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("endless", HOLDS, "time.sleep(600)")
    script = f"import {shelf.folder.name} as shelf; from bench.lab import run; exit(run.lab('endless', package=shelf))"
    with subprocess.Popen([sys.executable, "-c", script], env=environment(), stderr=subprocess.PIPE) as command:
        assert eventually(lambda: len(psutil.Process(command.pid).children()) == 2)  # the guard and the experiment
        started = psutil.Process(command.pid).children()
        command.send_signal(signal.SIGINT)
        assert command.wait(30) == 130
        assert command.stderr is not None
        assert command.stderr.read() == b"Interrupted.\n"
    assert eventually(lambda: not any(one.is_running() for one in started))


def test_expectations_are_judged_and_written_in_words() -> None:
    assert at_least("a", 5, 5, "x") == Observation(what="a", expected="≥ 5 x", observed="5 x", holds=True)
    assert at_most("a", 0.12345, 0.1) == Observation(what="a", expected="≤ 0.1", observed="0.123", holds=False)
    assert told("a", 12345.6, "ns") == Observation(what="a", observed="12,346 ns")
    assert same("a", [], ["x"]).holds is False


# --- the command


def test_the_list_names_each_with_its_claim_and_fits_80_columns() -> None:
    result = iobench("lab")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= WIDTH
    for one in lab.discover():
        assert [line for line in lines if line.startswith(one.experiment.name + " ")]


def test_one_experiment_is_shown_with_its_text_its_file_and_expected_against_observed() -> None:
    result = iobench("lab", "pipe")
    assert (result.returncode, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= WIDTH
    assert "bench/lab/pipe.py" in result.stdout
    assert re.search(r"what was done +expected +observed", result.stdout)
    assert result.stdout.rstrip().endswith("as expected")


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    result = iobench("lab", "epol-pipe")
    assert (result.returncode, result.stdout) == (2, "")
    assert "error: There is no experiment epol-pipe (did you mean 'epoll-pipe'?)." in result.stderr
    assert "next: iobench lab shows what there is" in result.stderr


@pytest.mark.parametrize(
    ("name", "everything", "results", "what", "next_step"),
    [
        ("pipe", True, None, "Either --all or pipe.", "iobench lab pipe"),
        (None, False, "there", "--results is for all experiments together.", "iobench lab --all --results there"),
        ("pipe", False, "there", "--results is for all experiments together.", "iobench lab --all --results there"),
        (None, True, "/dev/null/x", "Nothing can be written to /dev/null/x", "that you may write to"),
    ],
)
def test_bad_input_is_refused_with_the_next_command(
    name: str | None, everything: bool, results: str | None, what: str, next_step: str
) -> None:
    with pytest.raises(BadInputError) as error:
        lab.lab(name, everything, Path(results) if results else None)
    assert what in str(error.value)
    assert next_step in error.value.next_step


# --- lab.json and the report


@pytest.fixture
def results(shelf: Shelf, tmp_path: Path) -> Path:
    shelf.add("mine", HOLDS, 'yield told("a time", 2.5, "ms")', CHART)
    shelf.add("wrong", 'yield same("something else", "<this>", "that")')
    shelf.add("absent", HOLDS, unavailable="this kernel has no such thing")
    folder = tmp_path / "results"
    assert lab.lab(everything=True, results=folder, package=shelf.package) == 1
    return folder


def test_the_results_are_written_and_read_back_as_they_were(results: Path) -> None:
    assert [path.name for path in results.iterdir()] == ["lab.json"]
    written = (results / "lab.json").read_bytes()
    whole = msgspec.json.decode(written, type=Lab)
    assert msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n" == written
    assert [(one.name, one.status) for one in whole.findings] == [
        ("absent", "unavailable"),
        ("mine", "ok"),
        ("wrong", "failed"),
    ]
    chart = whole.findings[1].charts[0]
    assert chart.lines == {"one": [(10, 1.5), (1000, 30.0)], "two": [(10, 2.5)]}
    assert read_findings(json.loads(written)) == whole.findings


@pytest.mark.parametrize("odd", [None, {}, {"findings": 3}, {"findings": [{"name": "x"}]}])
def test_results_of_another_form_are_no_findings(odd: dict[str, object] | None) -> None:
    assert read_findings(odd) == []


def test_a_later_run_has_the_newest_results_in_its_manifest(results: Path) -> None:
    assert runs.newest_lab(results / "nothing") is None
    found = runs.newest_lab(results)
    assert found is not None
    assert read_findings(found)[1].name == "mine"


def test_the_report_shows_each_experiment_and_draws_its_chart(results: Path, tmp_path: Path) -> None:
    about = manifest(["epoll_lt"], lab=json.loads((results / "lab.json").read_text()))
    folder = write_run(tmp_path / "quick-20250102T030400Z", [], about)
    report.write(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="lab"') :].partition("</section>")[0]
    for part in (
        "the claim of mine",
        "what was done",
        "can&#39;t run here</span>: this kernel has no such thing",
        "not as expected",
        "&lt;this&gt;",
        "<h3>A chart</h3>",
        "<svg",
    ):
        assert part in section, part
    assert "A chart" not in page.replace(section, "")
    assert (folder / "lab-mine.svg").exists() and (folder / "lab-mine.png").exists()
    assert "3 experiments: 1 went as expected, 1 did not (wrong)" in (folder / "report.md").read_text(encoding="utf-8")


def test_without_the_lab_the_report_has_no_such_section(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "quick-20250102T030400Z", [], manifest(["epoll_lt"]))
    report.write(folder)
    assert 'id="lab"' not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("struct", [Lab, Finding, Observation, Chart])
def test_the_schema_in_words_names_every_field(struct: type[msgspec.Struct]) -> None:
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## lab.json") :]
    assert set(struct.__struct_fields__) <= set(re.findall(r"`([a-z_]+)`", section))


def test_the_lab_s_own_package_is_what_is_searched_by_default() -> None:
    assert {one.module.__package__ for one in lab.discover()} == {bench.lab.__name__}
