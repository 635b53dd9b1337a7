"""The forest plot by a baseline: its effects, intervals and noise, and the statistics that it needs."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import theilslopes
from synthetic import STRATEGIES, analysed, open_record, record, sweep, unmeasured

from bench.figures import ratios
from bench.figures.style import HOLLOW, INK, PAPER, looks
from bench.record import Record
from bench.stats import equal_within, theil_sen


def effects(figure: Figure) -> list[tuple[float, bool]]:
    """Each point of the first panel: where it lies, and whether it is hollow."""
    return [
        (float(line.get_xdata()[0]), line.get_markerfacecolor() == PAPER)
        for line in figure.axes[0].get_lines()
        if len(line.get_xdata()) == 1
    ]


def repeated(name: str, *rates: float, **changes: object) -> list[Record]:
    return [record(name, repeat=at, rate_hz=rate, cpu_us=1e6 / rate, **changes) for at, rate in enumerate(rates)]


# --- statistics


def test_two_equal_samples_come_out_within_the_noise_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        a, b = random.lognormal(0, 0.1, (2, 5))
        ratio = math.exp(np.median(np.subtract.outer(np.log(a), np.log(b))))
        inside += 1 / equal_within(a.tolist(), b.tolist()) <= ratio <= equal_within(a.tolist(), b.tolist())
    assert 0.92 <= inside / 400 <= 0.98


def test_noise_is_a_factor_that_grows_with_the_spread_and_needs_a_repeat() -> None:
    assert equal_within([1, 1], [2, 2]) == 1
    assert 1 < equal_within([1, 1.01], [2, 2.02]) < equal_within([1, 1.1], [2, 2.2])
    assert math.isnan(equal_within([1], [2]))
    assert math.isnan(equal_within([], [2, 3]))
    with pytest.raises(ValueError, match="positive"):
        equal_within([1, 0], [1, 2])


@pytest.mark.parametrize("seed", range(5))
def test_the_slope_and_its_interval_are_those_of_scipy(seed: int) -> None:
    random = Random(seed)
    x = [float(count) for count in (1, 16, 128) for _ in range(5)]
    y = [3 * count + random.gauss(0, 20) for count in x]
    slope, _, low, high = theilslopes(y, x, alpha=0.95)
    assert theil_sen(x, y)[:3] == pytest.approx((slope, low, high))


def test_an_outlier_moves_no_slope_and_one_x_has_none() -> None:
    assert theil_sen([1, 2, 3, 4, 5], [2, 4, 6, 8, 1000]).estimate == 2
    with pytest.raises(ValueError, match="two different"):
        theil_sen([1, 1], [2, 3])


# --- the effects


def test_a_factor_says_how_many_times_better_whatever_the_metric() -> None:
    analysis = analysed(*repeated("base", 100e3, 101e3, 99e3, 100e3), *repeated("fast", 200e3, 202e3, 198e3, 200e3))
    rows = ratios.rows("base")(analysis)
    found = dict(zip(rows["metric"], rows["ratio"], strict=True))
    assert found["rate_hz"] == pytest.approx(2, rel=0.01)
    assert found["cpu_us"] == pytest.approx(2, rel=0.01)  # half of the CPU time
    assert set(rows["strategy"]) == {"fast"}
    assert (rows["low"] > 1).all()


def test_the_noise_is_that_of_the_repeats_of_the_two() -> None:
    base, other = (100.0, 102.0, 98.0), (50.0, 51.0, 49.0)
    rows = ratios.rows("base")(analysed(*repeated("base", *base), *repeated("other", *other)))
    (noise,) = rows[rows["metric"] == "rate_hz"]["noise"]
    assert noise == pytest.approx(equal_within(base, other))


def test_the_usual_baseline_is_a_thread_per_connection_where_it_was_measured_everywhere() -> None:
    assert ratios.usual_baseline(analysed(*sweep(repeats=1))) == "thread_per_connection"


def test_otherwise_it_is_the_first_by_name_of_those_measured_in_the_most_places() -> None:
    records = [record("b", count) for count in (1, 16)] + [record("c", count) for count in (1, 16)]
    assert ratios.usual_baseline(analysed(*records, record("a", 1), record("thread_per_connection", 1))) == "b"
    assert ratios.usual_baseline(analysed(unmeasured("a", 1, 0, "failed", "it died"))) == ""


def test_only_places_where_the_baseline_was_measured_are_compared() -> None:
    rows = ratios.rows("iterative")(analysed(*sweep(repeats=1)))
    assert set(rows["connections"]) == {1}


def test_offered_rates_are_not_compared_by_throughput() -> None:
    records = [open_record(name, 1e4, 1e5, at) for name in "ab" for at in range(2)]
    assert "rate_hz" not in set(ratios.rows("a")(analysed(*records))["metric"])


def test_of_many_places_those_of_the_most_connections_are_kept() -> None:
    records = [
        record(name, count, transport=transport)
        for name in "ab"
        for count in (1, 4, 16, 64)
        for transport in ("tcp", "unix", "pipe")
    ]
    rows = ratios.rows("a")(analysed(*records))
    assert set(zip(rows["transport"], rows["connections"], strict=True)) == {
        (transport, count) for transport in ("tcp", "unix", "pipe") for count in (16, 64)
    }


def test_one_strategy_alone_is_compared_with_nothing() -> None:
    assert ratios.rows("")(analysed(record("a", 1), record("a", 16))).empty


# --- the figure


def test_a_place_has_a_panel_for_each_metric() -> None:
    analysis = analysed(*sweep(repeats=4))
    figure = ratios.draw(ratios.rows("")(analysis), looks(STRATEGIES))
    assert len(figure.axes) == 9
    assert figure.axes[0].get_title() == "throughput, 1 connection"
    assert figure.axes[8].get_title() == "p99 latency, 128 connections"
    assert {axes.get_xlabel() for axes in figure.axes[-3:]} == {"times as good as thread_per_connection"}


def test_interval_and_noise_are_drawn_where_they_are() -> None:
    analysis = analysed(*repeated("base", *(100e3 + at for at in range(5))), *repeated("x", *[150e3, 151e3] * 3))
    rows = ratios.rows("base")(analysis)
    figure = ratios.draw(rows, looks(["base", "x"]))
    axes = figure.axes[0]
    row = rows[rows["metric"] == "rate_hz"].iloc[0]
    ((at, hollow),) = effects(figure)
    assert at == pytest.approx(row["ratio"]) and not hollow
    (interval,) = [line for line in axes.get_lines() if line.get_color() == INK and len(line.get_xdata()) == 2]
    assert list(interval.get_xdata()) == pytest.approx([row["low"], row["high"]])
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((1 / row["noise"], row["noise"]))
    assert axes.get_xscale() == "log"


def test_too_few_repeats_for_an_interval_are_hollow_and_explained() -> None:
    figure = ratios.draw(ratios.rows("a")(analysed(record("a"), record("b", rate_hz=2e5))), looks("ab"))
    ((at, hollow),) = effects(figure)
    assert hollow and at == pytest.approx(2)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [f"hollow: {HOLLOW['few_repeats']}"]


def test_a_throughput_that_the_client_limited_is_hollow_and_its_cpu_time_is_not() -> None:
    base, bound = repeated("a", *[1e5] * 4), repeated("b", *[1.2e5] * 4, bottleneck="client")
    figure = ratios.draw(ratios.rows("a")(analysed(*base, *bound)), looks("ab"))
    faces = [
        line.get_markerfacecolor() == PAPER
        for axes in figure.axes
        for line in axes.get_lines()
        if len(line.get_xdata()) == 1
    ]
    assert faces == [True, False, True]


def test_what_failed_is_named_in_its_row() -> None:
    records = [*repeated("a", 1e5, 1e5), *repeated("b", 2e5, 2e5), unmeasured("c", 16, 0, "failed", "it died")]
    figure = ratios.draw(ratios.rows("a")(analysed(*records)), looks("ab"))
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["b", "c"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["failed"]


def test_an_effect_beyond_the_axis_stands_at_its_edge_with_an_arrow() -> None:
    figure = ratios.draw(ratios.rows("a")(analysed(*repeated("a", 1e3, 1e3), *repeated("b", 1e5, 1e5))), looks("ab"))
    (point,) = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    assert (float(point.get_xdata()[0]), point.get_marker()) == (ratios.FURTHEST, ">")


def test_its_message_counts_how_the_comparisons_came_out() -> None:
    records = [
        *repeated("a", *[1e5, 1.01e5] * 3),
        *repeated("b", *[2e5, 2.02e5] * 3),
        *repeated("c", *[5e4, 5.1e4] * 3),
    ]
    said = ratios.message(ratios.rows("a")(analysed(*records)))
    assert said.startswith("By `a`, throughput: 1 better, 1 worse (at best `b`, 2.00 times as good); "), said
