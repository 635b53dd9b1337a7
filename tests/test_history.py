"""Runs over time: what is kept of one, where a case has changed, and what is shown of it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import manifest, record, unmeasured, write_run
from test_cli import assert_is_bad_input, iobench

from bench.errors import BadInputError
from bench.history import store
from bench.history.change import ALPHA, FEWEST, changes
from bench.history.command import Options, history
from bench.history.store import Entry, Estimate
from bench.history.trend import machines, newly_worse, sentence, trends
from bench.record import Record, read_run

NOISE = 0.025  # between medians of five repeats on a shared machine


def noisy(level: float, count: int, seed: int) -> list[float]:
    return (level * np.exp(np.random.default_rng(seed).normal(0, NOISE, count))).tolist()


def an_entry(
    number: int, value: float = 10.0, machine: str = "aaaa", metric: str = "cpu_us", **fields: object
) -> Entry:
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
    usual = {
        "run": f"run-{number}",
        "created": created.isoformat(),
        "sweep": "quick",
        "commit": f"{number:040x}",
        "dirty": False,
        "machine": machine,
        "facts": {"cpu_model": machine},
        "versions": {},
        "estimates": [
            Estimate(
                case="epoll_lt, tcp, 16 x 64 B",
                strategy="epoll_lt",
                metric=metric,
                value=value,
                low=0.98 * value,
                high=1.02 * value,
                n=5,
            )
        ],
    }
    return msgspec.convert(usual | fields, Entry)


def a_history(values: list[float], metric: str = "cpu_us") -> list[Entry]:
    return [an_entry(number, value, metric=metric) for number, value in enumerate(values)]


def write_history(path: Path, entries: list[Entry]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    return path


# --- changes


@pytest.mark.parametrize("step", [0.9, 1.1])
def test_a_step_of_10_percent_is_found_within_five_runs(step: float) -> None:
    found = 0
    for seed in range(8):
        places = [change.at for change in changes(noisy(10, 30, seed) + noisy(10 * step, 5, seed + 100))]
        found += any(abs(at - 30) <= 3 for at in places)
    assert found >= 7


def test_noise_is_no_change() -> None:
    assert sum(len(changes(noisy(10, 50, seed))) for seed in range(40)) <= 2


def test_several_changes_are_told_apart() -> None:
    found = changes(noisy(10, 20, 1) + noisy(13, 20, 2) + noisy(10, 20, 3))
    assert [change.at for change in found] == [20, 40]
    assert found[0].ratio == pytest.approx(1.3, rel=0.05)
    assert found[1].ratio == pytest.approx(1 / 1.3, rel=0.05)
    assert all(change.p <= ALPHA for change in found)


def test_one_run_far_off_is_no_change_of_level() -> None:
    values = noisy(10, 40, 4)
    values[20] *= 2
    assert changes(values) == []


def test_too_few_runs_have_no_change() -> None:
    assert changes([1.0, 1.0, 9.0, 9.0]) == []
    assert changes([]) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=0, max_size=30), st.floats(1e-3, 1e3))
def test_the_unit_of_a_metric_changes_nothing_but_the_unit(values: list[float], unit: float) -> None:
    scaled = [value * unit for value in values]
    assert [change.at for change in changes(scaled)] == [change.at for change in changes(values)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=0, max_size=30))
def test_changes_leave_enough_values_on_either_side(values: list[float]) -> None:
    bounds = [0, *(change.at for change in changes(values)), len(values)]
    assert len(bounds) == 2 or min(b - a for a, b in pairwise(bounds)) >= FEWEST


def test_a_value_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        changes([1.0, 0.0])


# --- what is kept


def a_run(folder: Path, *more: Record, created: str = "2026-01-01T00:00:00Z", **host: object) -> Path:
    folder.mkdir(parents=True)
    about = manifest(["epoll_lt"], created=created)
    about.host.update({"cpu_model": "a CPU", "git": {"commit": "c" * 40, "dirty": False}, **host})
    return write_run(folder, [*(record("epoll_lt", 16, repeat) for repeat in range(5)), *more], about)


def test_a_run_whose_name_is_not_utf_8_is_kept_under_a_name_that_is(tmp_path: Path) -> None:
    a_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")))
    (entry,) = store.read(tmp_path)
    assert entry.run == "caf\\udce9"
    store.add(tmp_path / store.HISTORY_FILE, entry)
    assert [one.run for one in store.read_file(tmp_path / store.HISTORY_FILE)] == [entry.run]


def test_a_run_becomes_a_line_with_commit_machine_and_estimates(tmp_path: Path) -> None:
    entry = store.entry_of(read_run(a_run(tmp_path / "one")))
    assert (entry.run, entry.commit) == ("one", "c" * 40)
    by_metric = {estimate.metric: estimate for estimate in entry.estimates}
    assert by_metric["rate_hz"].value == pytest.approx(1e5)
    assert by_metric["rate_hz"].n == 5
    assert {"rate_hz", "cpu_us", "p50_us", "p99_us"} <= set(by_metric)


def test_a_case_in_which_a_trial_failed_is_not_kept(tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", unmeasured("epoll_lt", 16, 9, "failed", "it died"))
    assert store.entry_of(read_run(run)).estimates == []


def test_a_run_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    entry = an_entry(1)
    store.add(path, entry)
    store.add(path, an_entry(2))
    with pytest.raises(BadInputError, match="already"):
        store.add(path, entry)
    assert [one.run for one in store.read(path)] == ["run-1", "run-2"]


def test_a_torn_line_is_named_and_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = write_history(tmp_path / "history.jsonl", [an_entry(1)])
    with path.open("ab") as file:
        file.write(b'{"run": "torn')
    with pytest.warns(UserWarning, match="line 2"):
        store.add(path, an_entry(3))
    with pytest.warns(UserWarning, match="line 2 is left out"):
        assert [one.run for one in store.read(path)] == ["run-1", "run-3"]


def test_a_folder_of_runs_is_a_history_too(tmp_path: Path) -> None:
    a_run(tmp_path / "b", created="2026-01-02T00:00:00Z")
    a_run(tmp_path / "a", created="2026-01-03T00:00:00Z")
    store.add(tmp_path / "history.jsonl", store.entry_of(read_run(tmp_path / "b")))
    assert [entry.run for entry in store.read(tmp_path)] == ["b", "a"]


def test_unlike_machines_are_not_compared_and_told_apart(tmp_path: Path) -> None:
    a_run(tmp_path / "a")
    a_run(tmp_path / "b", cpu_model="another CPU")
    entries = store.read(tmp_path)
    assert len({entry.machine for entry in entries}) == 2
    assert all(len(trend.points) == 1 for trend in trends(entries))
    assert any("another CPU" in text for text in machines(entries))


# --- what is shown


def test_a_change_is_told_with_its_commits_and_its_way() -> None:
    (trend,) = trends(a_history(noisy(10, 20, 1) + noisy(12, 10, 2)))
    (change,) = trend.changes
    text = sentence(trend, change)
    assert "(worse)" in text
    assert f"{19:040x}"[:10] in text
    assert f"{20:040x}"[:10] in text
    (trend,) = trends(a_history(noisy(10, 20, 1) + noisy(12, 10, 2), metric="rate_hz"))
    assert "(better)" in sentence(trend, trend.changes[0])


@pytest.mark.parametrize(("after", "new"), [(5, True), (9, False)])
def test_only_a_new_change_for_the_worse_fails(after: int, new: bool) -> None:
    (trend,) = trends(a_history(noisy(10, 25, 1) + noisy(13, after, 2)))
    assert trend.changes
    assert newly_worse(trend) is new


def test_the_command_shows_a_table_a_page_and_the_files_of_otava(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_history(tmp_path / "history.jsonl", a_history(noisy(10, 20, 1) + noisy(12, 5, 2)))
    out, tests = tmp_path / "page", tmp_path / "otava"
    assert history(Options(path, None, (), (), tests, out, fail_on_change=True)) == 1
    said = capsys.readouterr().out
    assert "worse" in said
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80
    assert {path.name for path in out.iterdir()} == {"history.html", "history-cpu_us.svg", "history-cpu_us.png"}
    page = (out / "history.html").read_text()
    assert "▲ worse" in page
    assert "<script" not in page


@pytest.mark.parametrize("option", ["out", "otava"])
def test_no_folder_is_made_above_the_one_that_was_named(option: str, tmp_path: Path) -> None:
    path = write_history(tmp_path / "history.jsonl", a_history(noisy(10, 6, 1)))
    options = Options(path, None, ["cpu_us"], (), None, None, fail_on_change=False)
    with pytest.raises(BadInputError, match="can't be written: No such file or directory"):
        history(options._replace(**{option: tmp_path / "new" / "folder"}))
    assert not (tmp_path / "new").exists()


def test_the_files_of_otava_have_a_number_in_every_column_and_times_with_a_zone(tmp_path: Path) -> None:
    entries = a_history(noisy(10, 12, 1))
    extra = msgspec.structs.replace(entries[3].estimates[0], metric="rate_hz", value=5.0)
    entries[3].estimates.append(extra)
    path = write_history(tmp_path / "history.jsonl", entries)
    history(Options(path, None, ["cpu_us"], (), tmp_path / "otava", None, fail_on_change=False))
    tests = json.loads((tmp_path / "otava" / "otava.yaml").read_text())["tests"]
    (test,) = tests.values()
    with Path(test["file"]).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=test["csv_options"]["delimiter"]))
    assert len(rows) == 12
    assert all(float(row[name]) > 0 for row in rows for name in test["metrics"])
    assert all(datetime.fromisoformat(row[test["time_column"]]).tzinfo for row in rows)
    assert set(test["attributes"]) <= set(rows[0])
    assert test["metrics"]["cpu_us"]["direction"] == -1


@pytest.mark.skipif(shutil.which("otava") is None, reason="otava is not installed; it pins versions that ours are not")
def test_otava_itself_finds_the_change(tmp_path: Path) -> None:
    path = write_history(tmp_path / "history.jsonl", a_history(noisy(10, 20, 1) + noisy(12, 10, 2)))
    history(Options(path, None, (), (), tmp_path / "otava", None, fail_on_change=False))
    (name,) = json.loads((tmp_path / "otava" / "otava.yaml").read_text())["tests"]
    config = tmp_path / "otava" / "otava.yaml"
    said = subprocess.run(
        ["otava", "analyze", name, "--since", "2025-12-01"],
        env={**os.environ, "OTAVA_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "+1" in said.stdout, said.stdout + said.stderr


def test_every_case_is_drawn_on_a_scale_that_it_is_seen_on() -> None:
    from bench.figures import history as figure  # noqa: PLC0415 - slow to import

    small, large = a_history(noisy(10, 5, 1)), a_history(noisy(1000, 5, 2))
    for entry in large:
        entry.estimates[0].case = "asyncio_streams, tcp, 16 x 64 B"
    drawn = figure.draw(trends(small + large))
    for axes, level in zip(drawn.axes, (1000, 10), strict=True):
        assert level < axes.get_ylim()[1] < 2 * level


def test_names_from_a_file_are_text_on_the_page(tmp_path: Path) -> None:
    entries = a_history(noisy(10, 3, 1))
    entries[0] = msgspec.structs.replace(entries[0], run="<script>alert(1)</script>")
    path = write_history(tmp_path / "history.jsonl", entries)
    history(Options(path, None, (), (), None, tmp_path / "page", fail_on_change=False))
    assert "<script>" not in (tmp_path / "page" / "history.html").read_text()


def test_bad_input_is_told_with_the_next_command(tmp_path: Path) -> None:
    assert_is_bad_input(iobench("history", cwd=tmp_path), "no history results", "--add RUN")
    assert_is_bad_input(iobench("history", "--add", "gone", cwd=tmp_path), "gone", "ls results")
    write_history(tmp_path / "history.jsonl", a_history([1.0]))
    said = iobench("history", "history.jsonl", "--metric", "cpu", cwd=tmp_path)
    assert_is_bad_input(said, "did you mean 'cpu_us'", "--metric rate_hz")
    said = iobench("history", "history.jsonl", "--strategies", "nobody", cwd=tmp_path)
    assert_is_bad_input(said, "none of these strategies", "iobench history")
