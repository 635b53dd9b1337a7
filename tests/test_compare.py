"""`iobench compare`: runs put together by the definitions of their trials, what differs, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from synthetic import load_sweep, manifest, open_record, record, searched, unmeasured, why, write_run

import report
from bench.analyse import Analysis, analyse
from bench.commands import compare as command
from bench.commands.choice import Choice
from bench.commands.compare import compare, default_labels
from bench.commands.sweep import resume
from bench.compare import (
    BETTER,
    EQUAL,
    UNDECIDED,
    WORSE,
    alone,
    change,
    differences,
    effects,
    interval,
    summaries,
    warnings,
)
from bench.compare_runs import labelled, merge, unlabelled
from bench.errors import BadInputError
from bench.figures import compared
from bench.history.store import entry_of, read
from bench.page import content, html
from bench.record import Manifest, Record, Run, read_manifest, read_run
from bench.summary import markdown

ROOT = Path(__file__).resolve().parents[1]
SPEEDS = {"epoll_lt": 1e5, "poll": 8e4}


def some(repeats: int = 6, seed: int = 1, **factors: float) -> list[Record]:
    """Two strategies at two numbers of connections, with some noise; a factor makes one faster, at 16 connections."""
    random = Random(seed)
    records = []
    for repeat in range(repeats):
        for name, rate_hz in SPEEDS.items():
            for connections in (1, 16):
                factor = factors.get(name, 1.0) if connections == 16 else 1.0
                noisy = rate_hz * factor * random.lognormvariate(0, 0.01)
                cpu_us = 8.0 * random.lognormvariate(0, 0.01)
                records.append(record(name, connections, repeat, noisy, cpu_us, order=len(records)))
    return records


def of_host(**changes: Any) -> Manifest:
    about = manifest(sorted(SPEEDS))
    host = {"cpu_model": "Example CPU", "kernel": "6.1.0", "cpus": 2, **changes}
    return msgspec.structs.replace(about, host={**about.host, **host})


def run_of(folder: Path, records: list[Record], about: Manifest | None = None) -> Run:
    return read_run(write_run(folder, records, about or of_host()))


def together(folder: Path, *runs: Run, labels: tuple[str, ...] = ("before", "after", "later")) -> Analysis:
    about, records = merge(runs, labels[: len(runs)])
    return analyse(Run(folder=folder, manifest=about, records=records))


def verdicts(analysis: Analysis, metric: str = "rate_hz") -> dict[tuple[str, int], str]:
    return {
        (it.case["strategy"], it.case["connections"]): it.verdict
        for it in effects(analysis)
        if it.metric.name == metric
    }


# --- putting runs together


def test_a_strategy_of_one_run_is_told_from_that_of_another_by_its_label(tmp_path: Path) -> None:
    analysis = together(tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2)))
    assert set(analysis.trials["strategy"]) == {
        *("epoll_lt (before)", "poll (before)"),
        *("epoll_lt (after)", "poll (after)"),
    }
    assert analysis.trials["id"].is_unique
    assert len(analysis.trials) == 48


def test_every_trial_says_which_one_it_was_and_follows_those_of_the_run_before(tmp_path: Path) -> None:
    before, after = run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2))
    _, records = merge([before, after], ["before", "after"])
    assert [it.source for it in records] == [it.id for it in (*before.records, *after.records)]
    assert all(it.id == it.trial.id for it in records)
    assert [it.order for it in records] == list(range(len(records)))


@pytest.mark.parametrize(("strategy", "label"), [("epoll_lt", "before"), ("a (b)", "c"), ("x", "a, b"), ("", "-")])
def test_a_label_can_be_taken_off_again(strategy: str, label: str) -> None:
    assert unlabelled(labelled(strategy, label), ["another", label]) == (strategy, label)


def test_what_has_no_label_can_not_be_taken_apart() -> None:
    with pytest.raises(ValueError, match="epoll_lt"):
        unlabelled("epoll_lt", ["before"])


def test_searches_counts_and_calibrations_keep_their_runs(tmp_path: Path) -> None:
    records, searches = searched()
    calibration = {"findings": [{"claim": "rate", "says": "", "checks": [], "verdict": "passed", "reason": ""}]}
    about = msgspec.structs.replace(of_host(), searches=searches, why=why("epoll_lt"), calibration=calibration)
    other = msgspec.structs.replace(about, calibration=None)
    merged, new = merge(
        [run_of(tmp_path / "a", records, about), run_of(tmp_path / "b", records, other)], ["before", "after"]
    )
    assert {it.start.strategy for it in merged.searches} == {
        labelled(name, label) for name in ("epoll_lt", "poll") for label in ("before", "after")
    }
    assert {step for it in merged.searches for step in it.steps} == {it.id for it in new}
    assert merged.why is not None
    assert [it["strategy"] for it in merged.why["counts"]] == ["epoll_lt (before)", "epoll_lt (after)"]
    assert merged.calibration is not None
    assert [it["claim"] for it in merged.calibration["findings"]] == ["rate (before)"]


# --- ratios


def test_a_case_that_got_faster_is_better_and_one_that_stayed_is_equal_within_so_many_percent(tmp_path: Path) -> None:
    analysis = together(
        tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2, epoll_lt=1.2, poll=0.8))
    )
    assert verdicts(analysis) == {
        ("epoll_lt", 1): EQUAL,
        ("epoll_lt", 16): BETTER,
        ("poll", 1): EQUAL,
        ("poll", 16): WORSE,
    }
    ratio = next(it.ratio for it in effects(analysis) if it.case["connections"] == 16 and it.metric.name == "rate_hz")
    assert ratio is not None
    assert ratio.low < 1.2 < ratio.high
    assert ratio.estimate == pytest.approx(1.2, rel=0.02)


def test_less_is_better_of_a_time(tmp_path: Path) -> None:
    analysis = together(tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2, epoll_lt=1.5)))
    assert verdicts(analysis, "p99_us")["epoll_lt", 16] == BETTER
    effect = next(it for it in effects(analysis) if it.metric.name == "p99_us" and it.case["connections"] == 16)
    assert effect.ratio is not None and effect.ratio.estimate < 1


def test_runs_on_several_machines_are_compared_within_each(tmp_path: Path) -> None:
    def of_two(speeds: dict[str, float], seed: int) -> list[Record]:
        random = Random(seed)
        return [
            record("poll", 1, repeat, speeds[host] * random.lognormvariate(0, 0.01), server_host=host)
            for repeat in range(8)
            for host in [sorted(speeds)[repeat % 2]]
        ]

    before = run_of(tmp_path / "a", of_two({"one": 1e5, "two": 2e5}, 1))
    after = run_of(tmp_path / "b", of_two({"one": 1.2e5, "two": 2.4e5}, 2))
    (effect,) = (it for it in effects(together(tmp_path, before, after)) if it.metric.name == "rate_hz")
    assert effect.verdict == BETTER
    assert effect.ratio is not None and effect.ratio.low > 1.15
    elsewhere = run_of(tmp_path / "c", of_two({"three": 1e5, "four": 2e5}, 3))
    (effect,) = (it for it in effects(together(tmp_path, before, elsewhere)) if it.metric.name == "rate_hz")
    assert effect.verdict == UNDECIDED


def test_equal_runs_are_never_called_better_or_worse(tmp_path: Path) -> None:
    found = [
        verdict
        for seed in range(10)
        for verdict in verdicts(
            together(tmp_path, run_of(tmp_path / "a", some(seed=seed)), run_of(tmp_path / "b", some(seed=100 + seed)))
        ).values()
    ]
    assert len(found) == 40
    assert sum(verdict in (BETTER, WORSE) for verdict in found) <= 2
    assert found.count(EQUAL) >= 36


def test_a_difference_that_could_still_be_more_than_counts_as_equal_is_not_decided(tmp_path: Path) -> None:
    def noisy(seed: int) -> list[Record]:
        random = Random(seed)
        return [record("poll", 16, repeat, 1e5 * random.lognormvariate(0, 0.2)) for repeat in range(6)]

    analysis = together(tmp_path, run_of(tmp_path / "a", noisy(1)), run_of(tmp_path / "b", noisy(2)))
    assert verdicts(analysis) == {("poll", 16): UNDECIDED}
    (effect,) = (it for it in effects(analysis) if it.metric.name == "rate_hz")
    assert effect.why_undecided == ""  # more repeats would tell


def test_trials_are_matched_by_their_definition_whatever_their_seed_and_id(tmp_path: Path) -> None:
    others = []
    for it in some(seed=2):
        trial = msgspec.structs.replace(it.trial, seed=99, repeat=it.trial.repeat + 1)
        others.append(msgspec.structs.replace(it, trial=trial, id=trial.id))
    analysis = together(tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", others))
    assert len(verdicts(analysis)) == 4


def test_unlike_definitions_are_never_paired(tmp_path: Path) -> None:
    longer = [record("poll", 1, repeat, duration_s=2.0) for repeat in range(4)]
    shared = [record("epoll_lt", 1, repeat) for repeat in range(4)]
    analysis = together(
        tmp_path,
        run_of(tmp_path / "a", [*shared, *(record("poll", 1, repeat) for repeat in range(4))]),
        run_of(tmp_path / "b", [*shared, *longer]),
    )
    assert set(verdicts(analysis)) == {("epoll_lt", 1)}
    said = " ".join(alone(analysis))
    assert "Only `before` has `poll`, 1 s measured." in said
    assert "Only `after` has `poll`, 2 s measured." in said


def test_too_few_repeats_decide_nothing_and_are_called_so(tmp_path: Path) -> None:
    analysis = together(tmp_path, run_of(tmp_path / "a", some(3)), run_of(tmp_path / "b", some(3, epoll_lt=2.0)))
    assert set(verdicts(analysis).values()) == {UNDECIDED}
    assert {it.why_undecided for it in effects(analysis)} == {"too few repeats"}
    assert summaries(effects(analysis))[0] == "`after`, throughput: of 4 cases, not decided in 4 (too few repeats)."


def bound(records: list[Record]) -> list[Record]:
    return [msgspec.structs.replace(it, bottleneck="client", flags=["client_bound"]) for it in records]


def test_a_throughput_that_the_client_limited_can_be_shown_better_and_never_worse(tmp_path: Path) -> None:
    before = run_of(tmp_path / "a", some())
    faster = together(tmp_path, before, run_of(tmp_path / "b", bound(some(epoll_lt=2.0, poll=0.5))))
    assert verdicts(faster)["epoll_lt", 16] == BETTER
    assert verdicts(faster)["poll", 16] == UNDECIDED  # it may be faster than measured
    assert set(verdicts(faster, "cpu_us").values()) == {EQUAL}
    effect = next(it for it in effects(faster) if (it.case["strategy"], it.case["connections"]) == ("epoll_lt", 16))
    assert re.fullmatch(r"≥ 1\.\d+|≥ 2", interval(effect))


def test_of_a_first_run_that_the_client_limited_another_can_be_shown_worse_and_never_better(tmp_path: Path) -> None:
    after = run_of(tmp_path / "b", some(epoll_lt=2.0, poll=0.5))
    found = together(tmp_path, run_of(tmp_path / "a", bound(some())), after)
    assert verdicts(found)["epoll_lt", 16] == UNDECIDED
    assert verdicts(found)["poll", 16] == WORSE


def test_two_bounds_decide_nothing_and_the_reason_is_told(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", bound(some())), run_of(tmp_path / "b", bound(some(epoll_lt=2.0)))]
    found = together(tmp_path, *runs)
    assert set(verdicts(found).values()) == {UNDECIDED}
    assert summaries(effects(found))[0].endswith("not decided in 4 (the client was the limit).")


def test_planned_rates_are_no_merit_but_their_latency_is_compared(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path / name, [open_record("poll", 5e4, capacity_hz, repeat) for repeat in range(4)])
        for name, capacity_hz in (("a", 1e5), ("b", 2e5))
    ]
    found = {it.metric.name for it in effects(together(tmp_path, *runs))}
    assert "p99_us" in found and "rate_hz" not in found


def test_a_fraction_of_what_each_can_do_is_not_compared_and_that_is_said(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, load_sweep(repeats=1)) for name in ("a", "b")]
    analysis = together(tmp_path, *runs)
    assert effects(analysis) == []
    assert "the rates themselves differ" in " ".join(alone(analysis))


def test_of_three_runs_the_others_are_compared_with_the_first(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, some(seed=seed)) for seed, name in enumerate("abc")]
    found = effects(together(tmp_path, *runs))
    assert {it.other for it in found} == {"after", "later"}
    assert len(found) == 2 * 4 * 3


def test_a_case_that_failed_in_one_run_is_named(tmp_path: Path) -> None:
    dead = [unmeasured("poll", 16, repeat, "failed", "it died") for repeat in range(4)]
    alive = [it for it in some() if (it.trial.strategy, it.trial.connections) != ("poll", 16)]
    analysis = together(tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", [*alive, *dead]))
    assert alone(analysis) == ["No trial succeeded in `after` of `poll`, 16 connections."]


def test_the_figure_shows_by_how_much_each_case_is_worse(tmp_path: Path) -> None:
    analysis = together(
        tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2, epoll_lt=1.2, poll=0.5))
    )
    table = compared.rows(analysis)
    rates = table[table["label"] == "throughput"].set_index("group")
    assert rates["ratio"].to_dict() == pytest.approx(
        {
            "epoll_lt, 1 connection": 1.0,
            "poll, 1 connection": 1.0,
            "epoll_lt, 16 connections": 1 / 1.2,
            "poll, 16 connections": 2.0,
        },
        rel=0.05,
    )
    assert (rates["low"] < rates["ratio"]).all() and (rates["ratio"] < rates["high"]).all()
    assert rates.loc["poll, 16 connections", "verdict"] == "regressed"


def test_a_run_that_is_no_comparison_has_no_such_figure(tmp_path: Path) -> None:
    assert compared.rows(analyse(run_of(tmp_path / "a", some()))).empty


# --- interpreters and machines


def on(python: str, seed: int = 1) -> list[Record]:
    found = []
    for it in some(seed=seed):
        trial = msgspec.structs.replace(it.trial, python=python)
        found.append(msgspec.structs.replace(it, trial=trial, id=trial.id))
    return found


def test_two_interpreters_are_compared_although_they_are_part_of_the_definition(tmp_path: Path) -> None:
    analysis = together(
        tmp_path, run_of(tmp_path / "a", on("python3.12")), run_of(tmp_path / "b", on("python3.13", seed=2))
    )
    assert len(verdicts(analysis)) == 4
    assert ("python", ["python3.12", "python3.13"]) in differences(analysis.run.manifest.compared)


def test_several_interpreters_in_a_run_are_matched_one_by_one(tmp_path: Path) -> None:
    both = [*on("python3.12"), *on("python3.13")]
    analysis = together(tmp_path, run_of(tmp_path / "a", both), run_of(tmp_path / "b", on("python3.13", seed=2)))
    assert {it.case["python"] for it in effects(analysis)} == {"python3.13"}
    assert any("Only `before` has" in sentence and "python3.12" in sentence for sentence in alone(analysis))


def test_unlike_machines_are_warned_of_with_what_they_differ_in(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2), of_host(cpu_model="Other CPU"))]
    said = warnings(together(tmp_path, *runs).run.manifest.compared)
    assert said[0].startswith("The machines differ in cpu model (Example CPU and Other CPU)")


def test_like_machines_are_not_warned_of_but_that_nothing_was_paired_is_said(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2))]
    (only,) = warnings(together(tmp_path, *runs).run.manifest.compared)
    assert "not measured side by side" in only


def test_an_unfinished_run_is_warned_of(tmp_path: Path) -> None:
    about = msgspec.structs.replace(of_host(), sweep={"name": "quick", "trials_planned": 99})
    runs = [run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(), about)]
    said = warnings(together(tmp_path, *runs).run.manifest.compared)
    assert "`after` is unfinished: 24 of 99 trials are recorded." in said


def test_versions_facts_and_times_that_differ_are_listed_and_those_that_are_the_same_are_not(tmp_path: Path) -> None:
    newer = msgspec.structs.replace(
        of_host(git={"commit": "fff"}, load_average=[1.0]), versions={"python": "3.13.0", "numpy": "2.4.0"}
    )
    analysis = together(tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2), newer))
    found = dict(differences(analysis.run.manifest.compared))
    assert found["version of python"] == ["3.11.9", "3.13.0"]
    assert found["git.commit"] == ["–", "fff"]
    assert "version of numpy" not in found and "load_average" not in found


# --- in words


def test_the_summary_counts_what_became_better_and_worse_and_by_how_much(tmp_path: Path) -> None:
    analysis = together(
        tmp_path, run_of(tmp_path / "a", some()), run_of(tmp_path / "b", some(seed=2, epoll_lt=1.2, poll=0.5))
    )
    first = summaries(effects(analysis))[0]
    changes = r"better in 1 \(\+\d\d %\), worse in 1 \(−\d\d %\) and equal within 5 % in 2"
    assert re.fullmatch(rf"`after`, throughput: of 4 cases, {changes}\.", first), first


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.0, "+0.0 %"), (1.042, "+4.2 %"), (0.88, "−12 %"), (0.996, "−0.4 %"), (3.0, "× 3.00")]
)
def test_a_ratio_is_written_as_what_it_changes(ratio: float, text: str) -> None:
    assert change(ratio) == text


# --- the command


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with two runs in results/."""
    write_run(tmp_path / "results" / "quick-1", some(), of_host())
    write_run(tmp_path / "results" / "quick-2", some(seed=2, epoll_lt=1.2), of_host(cpu_model="Other CPU"))
    return tmp_path


def iobench(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.timeout(300)
def test_the_command_tells_the_ratios_writes_a_report_and_leaves_the_runs_alone(here: Path) -> None:
    before = contents(here / "results")
    done = iobench("compare", "quick-1", "results/quick-2", "--label", "before", "--label", "after", cwd=here)
    assert done.returncode == 0, done.stderr
    page = here / done.stdout.splitlines()[-1]
    assert page.name == "report.html" and page.parent.parent == here / "results"
    assert page.parent.name.startswith("compare-")
    assert {path: content for path, content in contents(here / "results").items() if path in before} == before
    html_text, text = page.read_text(encoding="utf-8"), (page.parent / "report.md").read_text(encoding="utf-8")
    assert "warning: The machines differ in cpu model" in done.stderr.replace("\n", " ")
    row = r"^epoll_lt, 16 connections +throughput +1\.(?:19|2\d) +1\.\d+–1\.\d+ +better"
    assert re.search(row, done.stdout, re.MULTILINE), done.stdout
    assert "Other CPU" in done.stdout
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    assert [line for line in lines if len(line) > 80] == []
    for said in (html_text, text):
        assert "epoll_lt (after)" in said or "<code>epoll_lt</code>" in said
        assert "The machines differ in cpu model" in said
    made = contents(page.parent)
    report.write(page.parent)
    assert contents(page.parent) == made
    assert "throughput" in (page.parent / "compared.svg").read_text(encoding="utf-8")
    assert "epoll_lt (before)" in (page.parent / "throughput.svg").read_text(encoding="utf-8")
    assert "epoll_lt (after)" in (page.parent / "throughput.svg").read_text(encoding="utf-8")


def test_runs_are_called_as_their_folders_and_a_comparison_can_be_made_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "write_report", lambda folder: folder / "report.html")
    runs, folder = [str(here / "results" / name) for name in ("quick-1", "quick-2")], here / "out"
    compare(runs, [], folder, here)
    assert [one.label for one in read_manifest(folder).compared] == ["quick-1", "quick-2"]
    compare(runs, ["c", "d"], folder, here)
    assert [one.label for one in read_manifest(folder).compared] == ["c", "d"]
    assert len(read_run(folder).records) == 48


def test_folders_of_one_name_are_told_apart_by_those_above_them() -> None:
    assert default_labels([Path("/x/old/quick"), Path("/x/new (2)/quick")]) == ["old/quick", "new _2_/quick"]
    assert default_labels([Path("/x/quick-1"), Path("/x/quick-2")]) == ["quick-1", "quick-2"]


def test_a_history_of_the_folder_of_runs_has_no_comparison(here: Path) -> None:
    about, records = merge([read_run(here / "results" / name) for name in ("quick-1", "quick-2")], ["x", "y"])
    folder = write_run(here / "results" / "compare-1", records, about)
    assert {entry.run for entry in read(here / "results")} == {"quick-1", "quick-2"}
    with pytest.raises(BadInputError, match="is a comparison"):
        entry_of(read_run(folder))


# --- bad input


@pytest.mark.parametrize(
    ("runs", "labels", "out", "what", "next_step"),
    [
        (["quick-1"], [], "", "two runs or more", "iobench compare results/quick-1 ANOTHER_RUN"),
        (["quick-1", "results/../results/quick-1"], [], "", "are one run", "ls "),
        (["quick-1", "quick-3"], [], "", "There is no run folder quick-3", "ls results"),
        (["quick-1", "."], [], "", "is not a run folder", "iobench sweep"),
        (["quick-1", "quick-2"], ["x"], "", "2 runs and 1 labels", "--label before --label after"),
        (["quick-1", "quick-2"], ["x", "x"], "", "Labels have to differ", "--label before"),
        (["quick-1", "quick-2"], ["x", "(y)"], "", "can't be a label", "--label before"),
        (["quick-1", "quick-2"], [], "results/quick-1", "is one of the runs", "--out"),
        (["quick-1", "quick-2"], [], "results", "is no comparison", "--out takes a new folder"),
        (["quick-1", "quick-2"], [], "results/quick-1/trials.jsonl", "is no comparison", "--out"),
        (["quick-1", "quick-2"], [], "results/quick-1/trials.jsonl/x", "can't be made", "ls -ld"),
        (["quick-1", "quick-2"], [], "new/folder", "folder can't be made: No such file or directory", "mkdir -p "),
        (["quick-1", "long-1"], [], "", "duration_s is 1.0 in the first and 5.0 in the second", "iobench sweep quick"),
        (["quick-1", "empty"], [], "", "has no trial", "sweep --resume results/empty"),
        (["both", "quick-1"], [], "", "is a comparison itself", "iobench compare results/quick-1 results/quick-2"),
    ],
)
def test_bad_input_is_refused_with_what_to_type_next_and_nothing_is_written(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    runs: list[str],
    labels: list[str],
    out: str,
    what: str,
    next_step: str,
) -> None:
    write_run(here / "results" / "long-1", [record("epoll_lt", 16, duration_s=5.0)], of_host())
    write_run(here / "results" / "empty", [], of_host())
    about, records = merge([read_run(here / "results" / name) for name in ("quick-1", "quick-2")], ["x", "y"])
    write_run(here / "results" / "both", records, about)
    monkeypatch.chdir(here)
    before = contents(here)
    with pytest.raises(BadInputError) as refused:
        compare(runs, labels, Path(out) if out else None, Path("results"))
    assert what in str(refused.value)
    assert next_step in refused.value.next_step
    assert contents(here) == before
    assert not list((here / "results").glob("compare-*"))


def test_the_command_refuses_bad_input_in_one_paragraph_with_exit_code_2(here: Path) -> None:
    done = iobench("compare", "quick-1", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: It takes two runs or more to compare.\nnext: iobench compare results/quick-1 ANOTHER_RUN\n"
    )


def test_a_comparison_is_not_resumed(here: Path) -> None:
    about, records = merge([read_run(here / "results" / name) for name in ("quick-1", "quick-2")], ["x", "y"])
    folder = write_run(here / "results" / "both", records, about)
    with pytest.raises(BadInputError, match="is a comparison of runs") as refused:
        resume(str(folder), Choice(None, None, None), here / "results")
    assert refused.value.next_step == "iobench sweep --resume quick-1"


def test_names_and_labels_are_text_whatever_they_contain(tmp_path: Path) -> None:
    odd = ["<script>alert(1)</script>", "a|b`c`", "x" * 100]
    runs = [
        run_of(tmp_path / name, [record(it, 16, repeat) for it in odd for repeat in range(4)], manifest(odd))
        for name in ("a", "b")
    ]
    analysis = together(tmp_path, *runs, labels=("<b>&", 'two "quotes"'))
    page, text = html(content(analysis), []), markdown(analysis, [])
    assert "<script>alert" not in page and "<b>&" not in page
    outside_code = re.sub(r"`[^`]*`", "", text)
    assert "<script>" not in outside_code and "<b>" not in outside_code
