"""What the tables say of runs whose figures are known."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import (
    analysed,
    churn_load,
    histogram,
    load,
    manifest,
    open_record,
    record,
    server,
    stream_load,
    sweep,
    unmeasured,
)
from synthetic_calibration import calibration

from bench.analyse import Analysis, analyse
from bench.histograms import quantiles_us
from bench.metrics import CASE, METRICS
from bench.record import Record, Run, Trial

SPECIAL = {"churn": churn_load(1e5), "stream": stream_load(900)}


def estimate(analysis: Analysis, metric: str, **case: Any) -> dict[Any, Any]:
    rows = analysis.estimates[analysis.estimates["metric"] == metric]
    for name, value in case.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1, rows
    return rows.to_dict("records")[0]


def repeats(strategy: str, rates: list[float], **more: Any) -> list[Record]:
    return [record(strategy, repeat=index, rate_hz=rate, **more) for index, rate in enumerate(rates)]


def test_a_case_is_all_of_the_definition_but_the_seed_and_the_round_that_it_is_of() -> None:
    assert set(Trial.__struct_fields__) - set(CASE) == {"repeat", "block", "seed"}


def test_the_trial_table_has_a_row_for_each_record_even_where_nothing_was_measured() -> None:
    analysis = analysed(record(), unmeasured("select", 16, 0, "failed", "it died"))
    assert list(analysis.trials["status"]) == ["ok", "failed"]
    assert math.isnan(analysis.trials["rate_hz"][1])
    assert list(analysis.cases["failed"]) == [0, 1]


def test_throughput_is_the_messages_completed_by_the_length_of_the_window() -> None:
    measured = msgspec.structs.replace(load(1000, 16), opened_ns=0, closed_ns=250_000_000, completed=1000)
    assert estimate(analysed(record(load=measured)), "rate_hz")["value"] == 4000


def test_cost_per_message_divides_rates_because_the_two_windows_differ() -> None:
    # 2 s of probes with 0.5 s of CPU: a quarter of a CPU. 1 s of load with 1000 messages.
    seen = server(1, 1, 0.5)
    seen = msgspec.structs.replace(
        seen,
        opened_ns=0,
        closed_ns=2_000_000_000,
        metrics={
            "cpu_ns": 500e6,
            "cpu_user_ns": 100e6,
            "cpu_system_ns": 300e6,
            "switches_voluntary": 3000,
            "switches_involuntary": 1000,
        },
    )
    analysis = analysed(record(load=load(1000, 16), server=seen))
    assert estimate(analysis, "cpu_us")["value"] == pytest.approx(250)
    assert estimate(analysis, "messages_per_cpu_s")["value"] == pytest.approx(4000)
    assert estimate(analysis, "switches")["value"] == pytest.approx(2)


def test_clock_ticks_split_the_exact_cpu_time_and_do_not_replace_it() -> None:
    seen = server(1000, 10, 0.5)
    seen.metrics |= {"cpu_user_ns": 30e6, "cpu_system_ns": 10e6}
    analysis = analysed(record(load=load(1000, 16), server=seen))
    assert estimate(analysis, "cpu_user_us")["value"] == pytest.approx(7.5)
    assert estimate(analysis, "cpu_system_us")["value"] == pytest.approx(2.5)


def test_a_figure_that_the_probes_could_not_read_is_left_out_and_the_others_stay() -> None:
    seen = server(1000, 10, 0.5)
    del seen.metrics["switches_voluntary"], seen.metrics["cpu_user_ns"]
    metrics = set(analysed(record(server=seen)).estimates["metric"])
    assert not metrics & {"switches", "cpu_user_us", "cpu_system_us"}
    assert {"rate_hz", "cpu_us", "p99_us"} <= metrics


@pytest.mark.parametrize("broken", ["", "not a histogram", "AAAA", "HISTFAAAAA=="])
def test_a_damaged_histogram_costs_the_percentiles_and_nothing_else(broken: str) -> None:
    measured = msgspec.structs.replace(load(1000, 16), service_hdr=broken)
    analysis = analysed(record(load=measured))
    assert analysis.curves.empty
    assert estimate(analysis, "rate_hz")["value"] == 1000


@pytest.mark.parametrize("changes", [{"completed": 0}, {"closed_ns": 0}])
def test_a_window_without_length_or_messages_gives_no_cost_per_message(changes: dict[str, int]) -> None:
    measured = msgspec.structs.replace(load(1000, 16), service_hdr="", **changes)
    assert not {"cpu_us", "messages_per_cpu_s", "switches"} & set(analysed(record(load=measured)).estimates["metric"])


def test_a_percentile_has_no_range_where_some_repeats_alone_can_not_tell_it() -> None:
    found = estimate(analysed(*repeats("poll", [700, 900])), "p99_us")
    assert math.isnan(found["min"])
    assert found["value"] > 0


def test_a_case_is_estimated_by_the_median_of_its_repeats_with_their_range() -> None:
    found = estimate(analysed(*repeats("poll", [900, 1000, 1100, 800, 2000])), "rate_hz")
    assert (found["value"], found["min"], found["max"], found["n"]) == (1000, 800, 2000, 5)
    assert (found["low"], found["high"], found["confidence"]) == (800, 2000, 0.9375)


def test_a_failed_repeat_does_not_count_in_the_estimate() -> None:
    good = repeats("poll", [900, 1000])
    bad = record("poll", repeat=2, rate_hz=5, status="failed", reason="reset")
    found = estimate(analysed(*good, bad), "rate_hz")
    assert (found["n"], found["min"]) == (2, 900)


def test_percentiles_come_from_the_sum_of_the_histograms_not_from_their_mean() -> None:
    fast = msgspec.structs.replace(load(10_000, 16), service_hdr=histogram(10_000, 10_000, 0.01))
    slow = msgspec.structs.replace(load(100, 16), service_hdr=histogram(1_000_000, 100, 0.01), completed=100)
    found = estimate(analysed(record(repeat=0, load=fast), record(repeat=1, load=slow)), "p50_us")
    assert found["value"] == pytest.approx(10, rel=0.02)
    assert (found["min"], found["max"]) == pytest.approx((10, 1000), rel=0.02)


def test_a_percentile_is_withheld_where_too_few_messages_can_tell_it() -> None:
    few, enough = record("poll", rate_hz=725), record("select", rate_hz=726)
    analysis = analysed(few, enough)
    assert list(analysis.estimates.query("metric == 'p99_us'")["strategy"]) == ["select"]
    assert analysis.estimates.query("metric == 'p999_us'").empty


def test_repeats_that_can_not_tell_a_percentile_alone_can_together() -> None:
    found = estimate(analysed(*repeats("poll", [400, 400])), "p99_us")
    assert found["value"] > 0
    assert found["n"] == 0


def test_the_curve_rises_lies_within_the_range_of_its_repeats_and_ends_where_it_can_not_be_told() -> None:
    curve = analysed(*repeats("poll", [9000, 10_000, 11_000])).curves
    assert curve["value_us"].is_monotonic_increasing
    assert curve["p"].is_monotonic_increasing
    assert (curve["min_us"].dropna() <= curve["value_us"][curve["min_us"].notna()]).all()
    assert (curve["max_us"].dropna() >= curve["value_us"][curve["max_us"].notna()]).all()
    assert 0.999 < curve["p"].max() < 0.9999


@given(
    st.lists(st.integers(1, 10**10), min_size=1, max_size=60),
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5),
)
@settings(deadline=None)
def test_a_quantile_is_the_nearest_rank_within_the_histograms_precision(values: list[int], at: list[float]) -> None:
    hist = HdrHistogram(1, 10**12, 3)
    for value in values:
        hist.record_value(value)
    exact = np.quantile(values, at, method="inverted_cdf") / 1e3
    assert quantiles_us(hist, at) == pytest.approx(exact, rel=1.001e-3)


def test_analysing_the_same_records_in_another_order_gives_the_same_tables() -> None:
    records = sweep(repeats=2)
    shuffled = Random(1).sample(records, len(records))
    first, second = analysed(*records), analysed(*shuffled)
    for table in ("trials", "cases", "estimates", "curves"):
        pd.testing.assert_frame_equal(getattr(first, table), getattr(second, table))
    assert first.comparisons == second.comparisons


def test_every_metric_of_a_whole_record_is_estimated() -> None:
    about = manifest(["poll"], calibration=calibration())
    found: set[str] = set()
    planned = open_record("poll", 80_000, 1e5)
    for one in (
        planned,
        record(load=churn_load(1e5), workload="churn"),
        record(load=stream_load(900), workload="stream"),
        record(connections=1000),
    ):
        found |= set(analyse(Run(folder=Path("run"), manifest=about, records=[one])).estimates["metric"])
    assert found == {metric.name for metric in METRICS}


def test_a_run_without_records_gives_empty_tables_with_their_columns() -> None:
    analysis = analysed()
    assert analysis.trials.empty
    assert {"strategy", "metric", "value"} <= set(analysis.estimates.columns)
    assert analysis.comparisons == ()
