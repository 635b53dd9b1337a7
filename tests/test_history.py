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
from bench.history.change import ALPHA, FEWEST, changes, fewest_values, first_found
from bench.history.command import Options, history
from bench.history.store import Entry, Estimate
from bench.history.study import NOISE, failures, simulated
from bench.history.trend import machines, sentence, too_short, trends
from bench.record import Record, read_run


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
    for count in range(2 * FEWEST, fewest_values()):
        for at in range(FEWEST, count - FEWEST + 1):
            assert changes(noisy(1, at, count) + noisy(9, count - at, at)) == []
    assert changes([]) == []


def test_series_of_equal_values_have_no_change() -> None:
    assert changes([5.0] * 40) == []


def test_how_clear_a_change_is_does_not_hang_on_how_sums_are_rounded() -> None:
    """All of these are two levels far apart, and may be shuffled in the same ways."""
    found = [changes(noisy(1, 7, seed) + noisy(9, 7, seed + 100)) for seed in range(6)]
    assert len({change.p for (change,) in found}) == 1


def test_how_many_runs_a_change_takes_is_told_as_it_is() -> None:
    half = fewest_values() // 2
    assert [change.at for change in changes(noisy(1, half, 1) + noisy(9, half, 2))] == [half]
    assert "it takes 12 runs" in too_short(trends(a_history(noisy(1, 11, 1))))
    assert too_short(trends(a_history(noisy(1, 12, 1)))) == ""


def test_a_series_that_is_too_short_is_told_beside_one_that_is_not() -> None:
    found = trends([*a_history(noisy(1, 12, 1)), an_entry(12, machine="bbbb")])
    assert too_short(found).startswith("1 of 2 series here is too short")


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


# --- a change is new once


@pytest.mark.parametrize(
    ("seed", "places"),
    [
        (4, [None, None, None, None, None, 11, 11, 11, 11]),  # found late
        (7, [12, None, 12, 12, 12, None, 12, 12, 12]),  # lost, and found again
        (8, [7, 7, 12, 7, 7, 7, 7, 7, 7]),  # found in another place
    ],
)
def test_a_job_that_looks_after_each_run_fails_once_for_a_change(seed: int, places: list[int | None]) -> None:
    series = simulated(1.06, seed, before=12, after=12)
    found = [changes(series[:end]) for end in range(16, 25)]
    assert [one[0].at if one else None for one in found] == places
    assert len(failures(series, start=13)) == 1


def test_a_second_change_is_new_when_the_first_is_known() -> None:
    series = noisy(10, 15, 1) + noisy(13, 15, 2) + noisy(17, 6, 3)
    assert [change.at for change in changes(series)] == [15, 30]
    assert len(failures(series, start=31)) == 1


def test_a_run_of_an_older_commit_can_be_the_first_to_show_a_change() -> None:
    series = noisy(10, 15, 1) + noisy(13, 8, 2)
    (change,) = changes(series)
    at_the_end = [*range(5), *range(6, len(series)), 5]
    assert first_found([change], series, at_the_end) == []
    few = [*range(15), 15, 16, 17, 18]
    (change,) = changes([series[place] for place in few])
    assert first_found([change], [series[place] for place in few], [*range(15), 16, 17, 18, 15]) == [change]


def exit_codes(path: Path, entries: list[Entry], start: int) -> list[int]:
    """What `--fail-on-change` exits with after each run from one on."""
    codes = []
    for end in range(start, len(entries) + 1):
        write_history(path, entries[:end])
        codes.append(history(Options(path, None, (), (), None, None, fail_on_change=True)))
    return codes


def test_the_command_fails_with_the_run_that_a_change_is_found_first_with_and_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = a_history(noisy(10, 15, 1) + noisy(13, 8, 2))
    codes = exit_codes(tmp_path / "history.jsonl", entries, 16)
    assert sorted(codes) == [0] * 7 + [1]
    first = f"run-{15 + codes.index(1)}"
    assert capsys.readouterr().out.count(f"Found first with the run {first}: ") == 1


def test_a_change_for_the_better_fails_nothing(tmp_path: Path) -> None:
    entries = a_history(noisy(13, 15, 1) + noisy(10, 6, 2))
    assert exit_codes(tmp_path / "history.jsonl", entries, 18) == [0] * 4


def test_a_change_does_not_fail_again_with_runs_of_other_machines_or_cases(tmp_path: Path) -> None:
    entries = a_history(noisy(10, 15, 1) + noisy(13, 8, 2))
    path = tmp_path / "history.jsonl"
    found = 16 + exit_codes(path, entries, 16).index(1)
    other = an_entry(30, machine="bbbb")
    assert exit_codes(path, [*entries[:found], other], found) == [1, 0]


def test_a_run_is_added_and_looked_at_in_one_command(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    kept = store.entry_of(read_run(a_run(tmp_path / "first")))
    for number, factor in enumerate(noisy(1.3, 15, 1)):
        faster = [
            msgspec.structs.replace(one, value=one.value * factor) for one in kept.estimates if one.metric == "rate_hz"
        ]
        store.add(path, msgspec.structs.replace(kept, run=f"before-{number}", estimates=faster))
    codes = []
    for number in range(6):
        run = a_run(tmp_path / f"after-{number}", created=f"2026-02-0{number + 1}T00:00:00Z")
        codes.append(history(Options(path, run, ["rate_hz"], (), None, None, fail_on_change=True)))
    assert sum(codes) == 1


# --- which machines are alike


def patched_weekly(values: list[float]) -> list[Entry]:
    """A run a day on one kind of machine, with another kernel each week."""
    entries = []
    for number, value in enumerate(values):
        facts = {"cpu_model": "a CPU", "cpus": 4, "kernel": f"6.8.{number // 7}", "governor": "unknown"}
        entries.append(an_entry(number, value, machine=f"kernel{number // 7}", facts=facts))
    return entries


def test_a_kernel_that_is_patched_weekly_hides_no_change_where_machines_are_alike_by_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_history(tmp_path / "history.jsonl", patched_weekly(noisy(10, 21, 1) + noisy(13, 7, 2)))
    history(Options(path, None, (), (), None, None, fail_on_change=False))
    said = " ".join(capsys.readouterr().out.split())
    assert "(worse)" not in said
    assert "--like cpu,cpus" in said
    assert "kernel 6.8.3" in said
    history(Options(path, None, (), (), None, tmp_path / "page", fail_on_change=False, like=["cpu", "cpus"]))
    said = " ".join(capsys.readouterr().out.split())
    told = "Machines of the same cpu and cpus count as alike, whatever their machine, kernel, "
    assert "28 runs" in said
    assert "(worse)" in said
    assert told in said
    assert told in (tmp_path / "page" / "history.html").read_text()


def test_machines_are_unlike_where_a_chosen_fact_differs() -> None:
    entries = patched_weekly([10.0] * 8)
    assert len({entry.machine for entry in store.alike(entries, ["cpu"])}) == 1
    assert len({entry.machine for entry in store.alike(entries, ["cpu", "kernel"])}) == 2
    assert store.alike(entries, ["kernel", "cpu"]) == store.alike(entries, ["cpu", "kernel", "cpu"])
    assert store.alike(entries, []) == entries


def test_a_fact_that_a_run_has_not_is_one_of_its_own() -> None:
    entries = [an_entry(0), an_entry(1, facts={"cpu_model": "aaaa", "kernel": "6.8"})]
    assert len({entry.machine for entry in store.alike(entries, ["kernel"])}) == 2


def test_a_name_that_machines_have_not_is_refused_before_anything_is_added(tmp_path: Path) -> None:
    path = write_history(tmp_path / "history.jsonl", a_history([1.0]))
    before = path.read_bytes()
    run = a_run(tmp_path / "one")
    for like in (["cpu", "kernal"], [""]):
        with pytest.raises(BadInputError, match=", ".join(store.FACTS)) as refused:
            history(Options(path, run, (), (), None, None, fail_on_change=False, like=like))
        assert "--like cpu,cpus" in refused.value.next_step
    assert path.read_bytes() == before


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


def test_the_command_shows_a_table_a_page_and_the_files_of_otava(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_history(tmp_path / "history.jsonl", a_history(noisy(10, 20, 1) + noisy(12, 5, 2)))
    out, tests = tmp_path / "page", tmp_path / "otava"
    assert history(Options(path, None, (), (), tests, out, fail_on_change=False)) == 0
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
    said = iobench("history", "history.jsonl", "--like", "cpu, kernal", cwd=tmp_path)
    assert_is_bad_input(said, "did you mean 'kernel'", "--like cpu,cpus")
    said = iobench("history", "history.jsonl", "--strategies", "nobody", cwd=tmp_path)
    assert_is_bad_input(said, "none of these strategies", "iobench history")
