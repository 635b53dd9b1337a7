"""What the tables say of response, service, lag and connect times, of rates, and of what was unfinished."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from synthetic import analysed, churn_load, histogram, load, open_load, open_record, record, stream_load
from synthetic_calibration import calibration

from bench.analyse import Analysis


def estimate(analysis: Analysis, metric: str) -> dict[Any, Any]:
    (found,) = analysis.estimates[analysis.estimates["metric"] == metric].to_dict("records")
    return found


def value(analysis: Analysis, metric: str) -> float:
    return float(estimate(analysis, metric)["value"])


def test_where_sends_were_planned_latency_is_the_response_time_with_the_service_time_beside_it() -> None:
    analysis = analysed(open_record("poll", 80_000, 1e5))
    assert value(analysis, "p99_us") == value(analysis, "response_p99_us") > 2 * value(analysis, "service_p99_us")
    row = analysis.trials.iloc[0]
    assert row["p99_us"] == row["response_p99_us"] != row["service_p99_us"]


def test_where_nothing_was_planned_latency_is_the_service_time_and_there_is_no_response_time() -> None:
    analysis = analysed(record(rate_hz=1e5))
    assert value(analysis, "p99_us") == value(analysis, "service_p99_us")
    assert not analysis.estimates["metric"].str.startswith(("response", "lag", "connect", "offered")).any()


def test_a_damaged_response_histogram_does_not_let_the_service_time_pass_for_latency() -> None:
    broken = open_load(80_000, 1e5, response_hdr="HISTFbroken")
    metrics = set(analysed(open_record("poll", 80_000, 1e5, load=broken)).estimates["metric"])
    assert "p99_us" not in metrics
    assert "service_p99_us" in metrics


def test_lag_and_connect_times_have_percentiles_of_their_own() -> None:
    late = open_load(50_000, 1e5, lag_hdr=histogram(40_000, 50_000, 0.01))
    assert value(analysed(open_record("poll", 50_000, 1e5, load=late)), "lag_p99_us") == pytest.approx(40, rel=0.05)
    churn = analysed(record(load=churn_load(10_000, 16), workload="churn"))
    assert value(churn, "connect_p50_us") == pytest.approx(value(churn, "p50_us") / 2, rel=0.02)


def test_offered_and_achieved_rates_stand_side_by_side() -> None:
    analysis = analysed(open_record("poll", 120_000, 1e5))
    assert value(analysis, "offered_hz") == 120_000
    assert value(analysis, "rate_hz") == pytest.approx(98_000)


def test_only_a_stream_is_told_in_megabytes() -> None:
    assert value(analysed(record(load=stream_load(900), workload="stream")), "mb_s") == pytest.approx(900, rel=0.001)
    assert "mb_s" not in set(analysed(record()).estimates["metric"])


def test_throughput_is_told_by_the_generators_own_maximum_where_that_was_measured_with_such_messages() -> None:
    assert value(analysed(record(rate_hz=50_000), calibration=calibration()), "of_maximum") == pytest.approx(20)
    for other in (record(transport="unix"), record(message_bytes=4096)):
        assert "of_maximum" not in set(analysed(other, calibration=calibration()).estimates["metric"])


@pytest.mark.parametrize("broken", [{}, {"maxima_hz": 3}, {"maxima_hz": {"tcp": "much"}}, {"maxima_hz": {"tcp": 0}}])
def test_a_calibration_without_a_maximum_costs_that_column_only(broken: dict[str, Any]) -> None:
    analysis = analysed(record(), calibration=broken)
    assert not {"of_maximum"} & set(analysis.estimates["metric"])
    assert len(analysis.estimates)


def test_messages_by_server_cpu_second_are_told_whoever_was_the_limit() -> None:
    for bottleneck in ("server", "client", "latency"):
        assert value(analysed(record(cpu_us=8, bottleneck=bottleneck)), "messages_per_cpu_s") == pytest.approx(125_000)


def test_a_percentile_has_its_interval_and_the_range_of_its_repeats() -> None:
    repeats = [open_record("poll", 80_000, capacity, repeat) for repeat, capacity in enumerate((1e5, 1.1e5, 1.2e5))]
    found = estimate(analysed(*repeats), "p99_us")
    assert found["min"] <= found["low"] <= found["value"] <= found["high"] <= found["max"]
    assert (found["n"], found["confidence"]) == (3, 0.95)


def test_percentiles_of_a_censored_trial_are_lower_bounds_from_the_first_that_unfinished_messages_reach() -> None:
    overloaded = open_record("poll", 120_000, 1e5)  # 98,000 of 120,000 were answered: nothing above 81.7 % is known
    analysis = analysed(overloaded)
    bounds = {name: estimate(analysis, name)["lower_bound"] for name in ("p50_us", "p90_us", "p99_us")}
    assert bounds == {"p50_us": False, "p90_us": True, "p99_us": True}
    curve = analysis.curves[analysis.curves["of"] == "latency"]
    assert curve[curve["lower_bound"]]["p"].min() == pytest.approx(98 / 120, abs=0.05)


def test_messages_that_were_never_sent_reach_into_the_response_time_and_not_into_the_service_time() -> None:
    stuck = open_load(100_000, 1e5, in_flight=0, unsent=20_000)
    analysis = analysed(open_record("poll", 100_000, 1e5, load=stuck))
    assert estimate(analysis, "response_p99_us")["lower_bound"]
    assert not estimate(analysis, "service_p99_us")["lower_bound"]


def test_what_is_under_way_in_a_closed_loop_makes_nothing_a_lower_bound() -> None:
    busy = msgspec.structs.replace(load(10_000, 128), in_flight=128)
    analysis = analysed(record(connections=128, load=busy))
    assert not analysis.estimates["lower_bound"].any()


def test_a_trial_with_too_few_messages_for_p99_is_flagged() -> None:
    flags = [analysed(record(rate_hz=rate)).trials["flags"][0] for rate in (725, 726)]
    assert flags == ["too_few", ""]


def test_where_sends_were_planned_the_curve_of_the_service_time_is_beside_that_of_the_latency() -> None:
    both = analysed(open_record("poll", 80_000, 1e5)).curves
    assert set(both["of"]) == {"latency", "service"}
    at_p99 = both[both["p"] == 0.99].set_index("of")["value_us"]
    assert at_p99["latency"] > at_p99["service"]
    assert set(analysed(record()).curves["of"]) == {"latency"}


def test_a_planned_rate_is_not_compared_as_throughput() -> None:
    planned = [open_record(name, 50_000, 1e5) for name in ("poll", "select")]
    metrics = {found.metric.name for found in analysed(*planned).comparisons}
    assert metrics == {"cpu_us", "p99_us"}


def test_the_steps_of_a_search_are_not_compared_at_all() -> None:
    steps = [open_record("poll", rate, 1e5, slo="p99<5ms") for rate in (50_000, 70_000)]
    assert analysed(*steps).comparisons == ()


def test_fractions_of_what_each_strategy_can_do_are_not_compared_for_their_rates_differ() -> None:
    halves = [open_record(name, 0.5 * most, most, load_fraction=0.5) for name, most in (("poll", 1e5), ("select", 2e4))]
    assert analysed(*halves).comparisons == ()


def test_sizes_drawn_from_a_distribution_are_a_setting_like_any_other() -> None:
    mixed = record(sizes=((64, 9.0), (4096, 1.0)), message_bytes=467)
    analysis = analysed(mixed, record())
    assert len(analysis.cases) == 2
    assert not math.isnan(value(analysed(mixed), "rate_hz"))
