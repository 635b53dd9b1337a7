"""What a run is exported as, read back by the tools that the formats are of, or by what their documentation says."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
import pandas as pd
import pytest
from synthetic import manifest, open_record, record, searched, server, sweep, unmeasured

from bench.analyse import analyse
from bench.export import export
from bench.export.openmetrics import GAUGES, SUMMARIES
from bench.export.pytest_benchmark import stats
from bench.metrics import METRICS
from bench.record import Record, Run

SOME = [
    record(name, connections, repeat, rate * (1 + 0.01 * repeat), order=order)
    for order, (name, connections, rate, repeat) in enumerate(
        (name, connections, rate, repeat)
        for repeat in range(3)
        for name, rate in (("epoll_lt", 1e5), ("poll", 8e4))
        for connections in (1, 16)
    )
]
DEAD = unmeasured("poll", 128, 0, "failed", "the server died with SIGSEGV", order=90)
NOT_HERE = unmeasured("io_uring", 16, 0, "unavailable", "kernel.io_uring_disabled is 2", order=91)


def run_of(folder: Path, *records: Record) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(folder=folder, manifest=manifest(["epoll_lt", "poll"]), records=list(records))


def slower(records: list[Record], factor: float) -> list[Record]:
    """The same trials on servers that take so many times as long."""
    return [
        record(it.trial.strategy, it.trial.connections, it.trial.repeat, it.load.completed / factor, order=it.order)
        for it in records
        if it.load
    ]


def tool(folder: Path, *arguments: str | Path) -> str:
    """What a module of this interpreter's environment prints when it is run in a folder; it must succeed."""
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- csv and parquet


def test_pandas_reads_a_row_for_each_good_trial_and_metric_that_was_measured(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", *SOME, DEAD, NOT_HERE)
    (path,) = export(run, "csv")
    table = pd.read_csv(path)
    trials = analyse(run).trials
    good = trials[trials["status"] == "ok"]
    assert len(table) == good[[metric.name for metric in METRICS]].notna().sum().sum()
    assert set(table["trial"]) == {it.id for it in SOME}
    wide = table.pivot(index="trial", columns="metric", values="value")
    for name in ("rate_hz", "cpu_us", "p99_us", "rss_peak_bytes"):
        assert wide[name].to_dict() == pytest.approx(good.set_index("id")[name].to_dict())


def test_rows_lie_in_order_of_execution_and_have_the_whole_definition(tmp_path: Path) -> None:
    (path,) = export(run_of(tmp_path / "run", *reversed(SOME)), "csv")
    table = pd.read_csv(path, keep_default_na=False)
    assert list(dict.fromkeys(table["trial"])) == [it.id for it in SOME]
    first = table.iloc[0]
    assert (first["run"], first["strategy"], first["connections"], first["transport"]) == ("run", "epoll_lt", 1, "tcp")
    assert (first["duration_s"], first["sizes"], first["slo"]) == (1.0, "", "")


def test_every_row_has_the_unit_of_its_metric_and_says_which_way_is_better(tmp_path: Path) -> None:
    (path,) = export(run_of(tmp_path / "run", *SOME, open_record("poll", 5e4, 1e5)), "csv")
    table = pd.read_csv(path, keep_default_na=False)
    told = {name: (unit, better) for name, unit, better in table[["metric", "unit", "better"]].drop_duplicates().values}
    assert told["rate_hz"] == ("messages/s", "higher")
    assert told["p99_us"] == ("us", "lower")
    assert told["rss_peak_bytes"] == ("bytes", "lower")
    assert told["switches"] == ("1", "lower")
    assert told["offered_hz"] == ("messages/s", "")  # what was asked for is no merit


def test_sizes_are_json_in_their_cell(tmp_path: Path) -> None:
    mixed = record(sizes=((64, 0.9), (4096, 0.1)))
    (path,) = export(run_of(tmp_path / "run", mixed), "csv")
    assert json.loads(pd.read_csv(path)["sizes"][0]) == [[64, 0.9], [4096, 0.1]]


def test_pyarrow_reads_the_rows_of_the_csv_with_their_types(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    run = run_of(tmp_path / "run", *SOME)
    (path,), (csv,) = export(run, "parquet"), export(run, "csv")
    table = parquet.read_table(path)
    assert pyarrow.types.is_int64(table.schema.field("connections").type)
    assert pyarrow.types.is_float64(table.schema.field("value").type)
    assert pyarrow.types.is_string(table.schema.field("unit").type) or pyarrow.types.is_large_string(
        table.schema.field("unit").type
    )
    again = pd.read_csv(csv, keep_default_na=False)
    assert table.column_names == list(again.columns)
    for name in ("strategy", "metric", "trial"):
        assert table[name].to_pylist() == again[name].tolist()
    assert table["value"].to_pylist() == pytest.approx(again["value"].tolist())


# --- pyperf


def test_pyperf_reads_a_benchmark_for_each_case_and_time_with_a_value_for_each_trial(tmp_path: Path) -> None:
    pyperf = pytest.importorskip("pyperf")
    (path,) = export(run_of(tmp_path / "run", *SOME, DEAD), "pyperf")
    suite = pyperf.BenchmarkSuite.load(str(path))
    names = suite.get_benchmark_names()
    assert len(names) == len(set(names))
    assert sum(name.endswith(": time per message") for name in names) == 4
    found = suite.get_benchmark("epoll_lt, tcp, 16 x 64 B: time per message")
    assert found.get_nrun() == 3
    assert found.get_unit() == "second"
    assert found.get_values() == pytest.approx([1e-5, 1e-5 / 1.01, 1e-5 / 1.02], rel=1e-4)
    assert {run.get_metadata()["trial"] for run in found.get_runs()} == {
        it.id for it in SOME if (it.trial.strategy, it.trial.connections) == ("epoll_lt", 16)
    }


def test_pyperf_knows_memory_as_bytes_and_the_rest_as_seconds(tmp_path: Path) -> None:
    pyperf = pytest.importorskip("pyperf")
    (path,) = export(run_of(tmp_path / "run", *SOME), "pyperf")
    suite = pyperf.BenchmarkSuite.load(str(path))
    units = {name.rpartition(": ")[2]: suite.get_benchmark(name).get_unit() for name in suite.get_benchmark_names()}
    assert units.pop("peak resident memory of the server") == "byte"
    assert set(units.values()) == {"second"}
    cpu = suite.get_benchmark("poll, tcp, 1 x 64 B: server CPU per message")
    assert cpu.median() == pytest.approx(8e-6, rel=1e-6)


def test_pyperf_compares_two_runs_and_sees_which_is_slower(tmp_path: Path) -> None:
    pytest.importorskip("pyperf")
    (before,) = export(run_of(tmp_path / "before", *SOME), "pyperf")
    (after,) = export(run_of(tmp_path / "after", *slower(SOME, 1.5)), "pyperf")
    said = tool(tmp_path, "pyperf", "compare_to", before, after, "--table")
    assert re.search(r"epoll_lt, tcp, 16 x 64 B: time per message .*1\.50x slower", said), said


def test_pyperf_is_told_what_is_no_more_than_a_lower_bound(tmp_path: Path) -> None:
    pyperf = pytest.importorskip("pyperf")
    bound = [record(repeat=repeat, bottleneck="client", flags=["client_bound"]) for repeat in range(2)]
    (path,) = export(run_of(tmp_path / "run", *bound), "pyperf")
    found = pyperf.BenchmarkSuite.load(str(path)).get_benchmark("epoll_lt, tcp, 16 x 64 B: time per message")
    assert found.get_metadata()["note"] == "a lower bound: the client was the limit"


# --- pytest-benchmark


def test_pytest_benchmark_compares_two_runs_a_table_for_each_metric(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    (before,) = export(run_of(tmp_path / "before", *SOME, DEAD), "pytest-benchmark", tmp_path / "before.json")
    (after,) = export(run_of(tmp_path / "after", *slower(SOME, 2)), "pytest-benchmark", tmp_path / "after.json")
    said = tool(tmp_path, "pytest_benchmark", "compare", before, after)
    assert "benchmark 'time per message': 8 tests" in said
    assert "benchmark 'p99 latency': 8 tests" in said
    assert len(re.findall(r"^epoll_lt, tcp, 16 x 64 B \((?:\S*/)?(?:before|after)\)", said, re.MULTILINE)) >= 2, said


def test_the_statistics_are_those_of_pytest_benchmark(tmp_path: Path) -> None:
    theirs = pytest.importorskip("pytest_benchmark.stats").Stats()
    values = [1e-5, 1.1e-5, 1.05e-5, 1.2e-5, 9e-6, 3e-5]
    for value in values:
        theirs.update(value)
    ours = stats(values)
    assert set(ours) == {*theirs.fields, "data", "iterations"}
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "total", "ops", "stddev_outliers"):
        assert ours[name] == pytest.approx(getattr(theirs, name)), name


@pytest.mark.parametrize("values", [[2.0], [1.0, 2.0], [0.1] * 5, [1.0, 1.0, 1.0, 9.0]])
def test_statistics_hold_together_however_few_values_there_are(values: list[float]) -> None:
    found = stats(values)
    assert found["min"] <= found["ld15iqr"] <= found["hd15iqr"] <= found["max"]
    assert found["median"] == pytest.approx(median(values))
    assert found["data"] == values


# --- Bencher: https://bencher.dev/docs/reference/bencher-metric-format


class BmfMetric(msgspec.Struct, forbid_unknown_fields=True):
    """A value, and limits that it lies between."""

    value: float
    lower_value: float | None = None
    upper_value: float | None = None


BmfMeasure = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
BmfName = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Bmf = dict[BmfName, dict[BmfMeasure, BmfMetric]]


def read_bmf(path: Path) -> dict[str, dict[str, BmfMetric]]:
    return msgspec.json.decode(path.read_bytes(), type=Bmf)


def test_bmf_has_a_benchmark_for_each_case_and_a_measure_for_each_metric_within_its_limits(tmp_path: Path) -> None:
    (path,) = export(run_of(tmp_path / "run", *SOME, DEAD), "bmf")
    found = read_bmf(path)
    assert len(found) == 4
    measures = found["epoll_lt, tcp, 16 x 64 B"]
    assert {"throughput", "p50-latency", "p99-latency", "server-cpu-per-message"} <= set(measures)
    assert measures["throughput"].value == pytest.approx(1.01e5)
    for measure in measures.values():
        assert measure.lower_value is not None and measure.lower_value <= measure.value
        assert measure.upper_value is None or measure.upper_value >= measure.value


def test_bmf_leaves_out_what_is_no_more_than_a_lower_bound(tmp_path: Path) -> None:
    bound = [record(repeat=repeat, bottleneck="client", flags=["client_bound"]) for repeat in range(2)]
    (path,) = export(run_of(tmp_path / "run", *bound), "bmf")
    (measures,) = read_bmf(path).values()
    assert "throughput" not in measures and "server-cpu-per-message" in measures


# --- github-action-benchmark: its README, "Custom benchmarks"


class ActionEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of the list that a file is."""

    name: str
    unit: str
    value: float
    range: Annotated[str, msgspec.Meta(pattern=r"^± \d")] = "± 0"
    extra: str = ""


def test_github_action_benchmark_gets_a_file_for_each_direction(tmp_path: Path) -> None:
    paths = export(run_of(tmp_path / "run", *SOME, DEAD), "github-action-benchmark")
    assert {path.name for path in paths} == {"bigger-is-better.json", "smaller-is-better.json"}
    entries = {path.name: msgspec.json.decode(path.read_bytes(), type=list[ActionEntry]) for path in paths}
    units = {name: {entry.name.rpartition(": ")[2]: entry.unit for entry in found} for name, found in entries.items()}
    assert units["bigger-is-better.json"]["throughput"] == "messages/s"
    assert units["smaller-is-better.json"]["p99 latency"] == "us"
    assert not set(units["bigger-is-better.json"]) & set(units["smaller-is-better.json"])
    names = [entry.name for found in entries.values() for entry in found]
    assert len(names) == len(set(names))
    rate = next(entry for entry in entries["bigger-is-better.json"] if entry.name.startswith("poll, tcp, 16"))
    assert rate.value == pytest.approx(8.08e4)
    assert float(rate.range.removeprefix("± ")) == pytest.approx(800, rel=1e-3)
    assert "3 trials" in rate.extra


def test_the_rate_of_planned_sends_and_steps_of_searches_are_no_figures_to_track(tmp_path: Path) -> None:
    planned = [open_record("poll", 5e4, 1e5, repeat) for repeat in range(2)]
    paths = export(run_of(tmp_path / "run", *planned, *searched()[0]), "github-action-benchmark")
    found = [entry for path in paths for entry in msgspec.json.decode(path.read_bytes(), type=list[ActionEntry])]
    assert {entry.name.rpartition(": ")[0] for entry in found} == {"poll, tcp, 16 x 64 B, open, 50,000/s, poisson"}
    assert not [entry for entry in found if "throughput" in entry.name]


def test_cases_that_would_be_called_the_same_say_what_they_differ_in(tmp_path: Path) -> None:
    (path,) = export(run_of(tmp_path / "run", record(duration_s=1.0), record(duration_s=2.0)), "bmf")
    assert set(read_bmf(path)) == {
        "epoll_lt, tcp, 16 x 64 B, 1 s measured",
        "epoll_lt, tcp, 16 x 64 B, 2 s measured",
    }


# --- junit


def test_junitparser_reads_a_test_case_for_each_trial_with_its_figures(tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    dead = msgspec.structs.replace(DEAD, server=server(1000, 8.0, 0.4, stderr_tail="Traceback: <ZeroDivisionError>"))
    (path,) = export(run_of(tmp_path / "run", *SOME, dead, NOT_HERE), "junit")
    (suite,) = junitparser.JUnitXml.fromfile(str(path))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (len(SOME) + 2, 1, 0, 1)
    cases = list(suite)
    assert cases[0].classname == "epoll_lt, tcp, 1 x 64 B"
    assert SOME[0].id in cases[0].name
    assert cases[0].time == pytest.approx(1.29)
    figures = {one.name: one.value for one in cases[0].child(junitparser.Properties)}
    assert figures["rate_hz"] == "100000 messages/s" and figures["p99_us"].endswith(" us")
    failed = next(case for case in cases if case.is_failure)
    assert failed.result[0].message == "the server died with SIGSEGV"
    assert failed.system_err == "Traceback: <ZeroDivisionError>"
    assert failed.child(junitparser.Properties) is None
    skipped = next(case for case in cases if case.is_skipped)
    assert skipped.result[0].message == "kernel.io_uring_disabled is 2"


def test_junit_can_say_that_everything_failed(tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    (path,) = export(run_of(tmp_path / "run", DEAD), "junit")
    (suite,) = junitparser.JUnitXml.fromfile(str(path))
    assert (suite.tests, suite.failures) == (1, 1)


# --- OpenMetrics


def families(path: Path) -> dict[str, list[tuple[str, dict[str, str], float, float | None]]]:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    found = parser.text_fd_to_metric_families(io.StringIO(path.read_text(encoding="utf-8")))
    return {
        family.name: [
            (it.name, it.labels, it.value, None if it.timestamp is None else float(it.timestamp))
            for it in family.samples
        ]
        for family in found
    }


def test_prometheus_reads_series_of_each_trial_in_base_units_at_the_time_that_it_began(tmp_path: Path) -> None:
    started = [msgspec.structs.replace(it, started=f"2025-01-02T03:04:{it.order:02d}.500Z") for it in SOME]
    (path,) = export(run_of(tmp_path / "run", *started, DEAD), "openmetrics")
    found = families(path)
    rates = found["iobench_throughput_messages_per_second"]
    assert [value for _, _, value, _ in rates] == pytest.approx([it.load.completed for it in SOME if it.load])
    assert rates[3][1]["strategy"] == "poll" and rates[3][1]["connections"] == "16"
    assert rates[3][3] == pytest.approx(1735787043.5)
    cpu = found["iobench_server_cpu_per_message_seconds"]
    assert cpu[0][2] == pytest.approx(8e-6, rel=1e-6)
    latency = [it for it in found["iobench_latency_seconds"] if it[1]["trial"] == SOME[0].id]
    quantiles = [(float(labels["quantile"]), value) for _, labels, value, _ in latency]
    assert [at for at, _ in quantiles] == sorted(at for at, _ in quantiles)
    assert [value for _, value in quantiles] == sorted(value for _, value in quantiles)
    assert quantiles[0] == (0.5, pytest.approx(1e-5, rel=0.02))


def test_a_trial_that_failed_is_a_series_of_success_at_zero_and_none_else(tmp_path: Path) -> None:
    (path,) = export(run_of(tmp_path / "run", SOME[0], DEAD, NOT_HERE), "openmetrics")
    found = families(path)
    success = {labels["trial"]: value for _, labels, value, _ in found.pop("iobench_trial_success")}
    assert success == {SOME[0].id: 1, DEAD.id: 0}
    assert {labels.get("trial", "") for samples in found.values() for _, labels, _, _ in samples} == {"", SOME[0].id}


def test_prometheus_reads_what_names_may_be(tmp_path: Path) -> None:
    names = ['a "b" \\ c', "two\nlines", "{x=1} # EOF"]
    (path,) = export(run_of(tmp_path / "run", *(record(name) for name in names)), "openmetrics")
    read = families(path)["iobench_throughput_messages_per_second"]
    assert sorted(labels["strategy"] for _, labels, _, _ in read) == sorted(names)


def test_every_metric_has_a_family() -> None:
    assert {metric.name for metric in METRICS if metric.quantile is None} == set(GAUGES)
    assert {metric.of for metric in METRICS if metric.quantile is not None} == set(SUMMARIES)


# --- the figures of one format are those of the others


def test_all_formats_tell_one_median(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", *sweep(repeats=3))
    rows = pd.read_csv(export(run, "csv")[0])
    wanted = rows[(rows["strategy"] == "poll") & (rows["connections"] == 16) & (rows["metric"] == "cpu_us")]
    value = wanted["value"].median()
    name = "poll, tcp, 16 x 64 B"
    assert read_bmf(export(run, "bmf")[0])[name]["server-cpu-per-message"].value == pytest.approx(value)
    smaller = next(path for path in export(run, "github-action-benchmark") if path.name.startswith("smaller"))
    entries = msgspec.json.decode(smaller.read_bytes(), type=list[ActionEntry])
    assert next(it.value for it in entries if it.name == f"{name}: server CPU per message") == pytest.approx(value)
    of_pytest = json.loads(export(run, "pytest-benchmark")[0].read_text())["benchmarks"]
    found = next(it for it in of_pytest if it["name"] == name and it["group"] == "server CPU per message")
    assert found["stats"]["median"] * 1e6 == pytest.approx(value)
    assert not math.isnan(value)
