"""The ratios to the best or to a baseline: what is drawn of outcomes, tiers and bounds; the interval of a slope."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import theilslopes
from synthetic import STRATEGIES, analysed, comparison, open_record, record, sweep, unmeasured

from bench.analyse import Analysis
from bench.comparisons import Comparison
from bench.figures import ratios
from bench.figures.style import HOLLOW, PAPER, looks
from bench.metrics import CPU, P99, RATE
from bench.stats import theil_sen

VALUES = {"a": 120.0, "b": 119.0, "c": 116.0, "d": 60.0}  # of a: equal, not decided, half as good


def of(*comparisons: Comparison) -> Analysis:
    """An analysis in which these comparisons were found."""
    return replace(analysed(record()), comparisons=tuple(comparisons))


def drawn(*comparisons: Comparison, baseline: str = "") -> Figure:
    rows = ratios.rows(baseline)(of(*comparisons))
    return ratios.draw(rows, looks(rows["strategy"]))


def points(axes: Axes) -> dict[int, tuple[float, bool, str]]:
    """By row where each point lies, whether it is hollow, and its marker."""
    return {
        int(line.get_ydata()[0]): (float(line.get_xdata()[0]), line.get_markerfacecolor() == PAPER, line.get_marker())
        for line in axes.get_lines()
        if len(line.get_xdata()) == 1 and line.get_markersize() > 5
    }


def intervals(axes: Axes) -> dict[int, list[float]]:
    return {
        int(line.get_ydata()[0]): [float(x) for x in line.get_xdata()]
        for line in axes.get_lines()
        if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.6
    }


def names(axes: Axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def written(axes: Axes) -> list[str]:
    """What stands at the right end of each row."""
    return [text.get_text() for text in axes.texts]


def explained(figure: Figure) -> list[str]:
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


# --- statistics


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


# --- what is compared


def test_without_a_baseline_a_ratio_says_how_many_times_the_best_is_better() -> None:
    rows = ratios.rows("")(of(comparison(VALUES, limits=1.04)))
    found = rows.set_index("name")
    assert found["ratio"].to_dict() == pytest.approx({"a": 1, "b": 120 / 119, "c": 120 / 116, "d": 2})
    assert found["outcome"].to_dict() == {"a": "", "b": "equal", "c": "undecided", "d": "worse"}
    assert (found["low"]["d"], found["high"]["d"]) == pytest.approx((2 / 1.04, 2 * 1.04))


@pytest.mark.parametrize("metric", [RATE, CPU, P99], ids=lambda metric: metric.name)
def test_of_a_baseline_it_says_how_many_times_as_good_each_one_is_whatever_the_metric(metric: Any) -> None:
    values = VALUES if metric is RATE else {name: 1000 / value for name, value in VALUES.items()}
    found = ratios.rows("c")(of(comparison(values, metric, limits=1.04))).set_index("name")
    assert found["ratio"].to_dict() == pytest.approx({"a": 120 / 116, "b": 119 / 116, "c": 1, "d": 60 / 116})
    assert found["outcome"].to_dict() == {"a": "undecided", "b": "undecided", "c": "", "d": "worse"}
    assert found["low"]["d"] < found["ratio"]["d"] < found["high"]["d"] < 1


def test_only_settings_in_which_the_baseline_was_measured_are_shown() -> None:
    rows = ratios.rows("iterative")(analysed(*sweep(repeats=3)))
    assert set(rows["where"]) == {"1 connection"}


def test_a_baseline_on_several_interpreters_is_its_best_one() -> None:
    found = comparison({"a": 100.0, "a on pypy3": 200.0, "b": 150.0})
    ranking = tuple(one._replace(strategy=one.name[:1], python=one.name[5:]) for one in found.ranking)
    rows = ratios.rows("a")(of(replace(found, ranking=ranking)))
    assert set(rows["reference"]) == {"a on pypy3"}
    assert list(rows["name"]) == ["a on pypy3", "b", "a"]


def test_offered_rates_are_not_compared_by_throughput() -> None:
    records = [open_record(name, 1e4, 1e5, at) for name in "ab" for at in range(3)]
    assert set(ratios.rows("")(analysed(*records))["metric"]) == {"cpu_us", "p99_us"}


def test_of_many_settings_those_of_the_most_connections_are_kept() -> None:
    comparisons = [
        comparison({"a": 2.0, "b": 1.0}, connections=count, transport=transport)
        for transport in ("pipe", "tcp", "unix")
        for count in (1, 4, 16, 64)
    ]
    rows = ratios.rows("")(of(*comparisons))
    assert list(dict.fromkeys(rows["where"])) == [
        f"{transport}, {count} connections" for transport in ("pipe", "tcp", "unix") for count in (16, 64)
    ]


def test_of_several_runs_put_together_each_has_panels_of_its_own() -> None:
    before, after = comparison({"a (before)": 2.0, "b (before)": 1.0}), comparison({"a (after)": 3.0, "b (after)": 1.0})
    figure = drawn(before, after)
    assert [names(axes) for axes in figure.axes] == [["a (before)", "b (before)"], ["a (after)", "b (after)"]]


def test_one_strategy_alone_is_compared_with_nothing() -> None:
    assert ratios.rows("")(analysed(record("a", 1), record("a", 16))).empty
    assert ratios.rows("")(analysed(unmeasured("a", 1, 0, "failed", "it died"))).empty


def test_a_point_names_its_trials() -> None:
    records = [record(name, repeat=at, rate_hz=rate) for name, rate in (("a", 1e5), ("b", 5e4)) for at in range(3)]
    rows = ratios.rows("")(analysed(*records))
    own = rows[(rows["name"] == "b") & (rows["metric"] == "rate_hz")].iloc[0]
    assert set(own["ids"].split()) == {it.id for it in records if it.trial.strategy == "b"}
    assert ratios._says(own.to_dict()).splitlines()[:3] == [
        "b, 16 connections",
        "50,000 messages/s, in tier 2",
        "a by b: 2.00 times (2.00 to 2.00)",
    ]


# --- the figure


def test_a_setting_has_a_panel_for_each_metric_and_each_panel_its_own_ranking() -> None:
    figure = drawn(comparison(VALUES, connections=1), comparison(VALUES), comparison({"a": 9.0, "b": 7.0}, CPU))
    titles = [axes.get_title("right") for axes in figure.axes]
    assert titles == ["throughput, 1 connection", "", "throughput, 16 connections", "CPU per message, 16 connections"]
    shown = [names(axes) for axes in figure.axes if axes.axison]  # without a comparison there is no panel
    assert shown == [["a", "b", "c", "d"], ["a", "b", "c", "d"], ["b", "a"]]


def test_interval_and_zone_are_drawn_where_they_are() -> None:
    (axes,) = drawn(comparison(VALUES, limits=1.04)).axes
    assert axes.get_xscale() == "log"
    assert intervals(axes)[3] == pytest.approx([2 / 1.04, 2 * 1.04])
    assert 0 not in intervals(axes)  # the best itself
    (zone,) = [patch for patch in axes.patches if patch.get_facecolor()[:3] != (1, 1, 1)]
    assert (zone.get_x(), zone.get_x() + zone.get_width()) == pytest.approx((1 / 1.05, 1.05))
    assert "equal: within 5 %" in explained(axes.get_figure())  # type: ignore[arg-type]


def test_each_outcome_is_written_at_the_right_end_beside_the_value_of_the_best() -> None:
    (axes,) = drawn(comparison(VALUES | {"a": 120_000.0, "b": 119_000.0, "c": 116_000.0, "d": 6e4}, limits=1.04)).axes
    assert written(axes) == ["120,000/s", "=", "?", "2.00×"]


def test_a_line_lies_between_tiers_and_none_within_one() -> None:
    (axes,) = drawn(comparison(VALUES, limits=1.04)).axes
    between = [float(line.get_ydata()[0]) for line in axes.get_lines() if float(line.get_ydata()[0]) % 1 == 0.5]
    assert between == [2.5]


@pytest.mark.parametrize(
    ("metric", "about", "flags"),
    [
        (RATE, {"bounds": "d"}, ["client_bound"]),
        (P99, {"bounds": "d"}, ["client_bound"]),
        (P99, {"unfinished": "d"}, ["censored"]),
        (CPU, {"bounds": "d"}, []),
    ],
)
def test_a_bound_is_hollow_and_explained(metric: Any, about: dict[str, Collection[str]], flags: list[str]) -> None:
    values = VALUES if metric is RATE else {name: 1000 / value for name, value in VALUES.items()}
    figure = drawn(comparison(values, metric, **about))
    (axes,) = figure.axes
    hollow = {names(axes)[y] for y, (_, is_hollow, _) in points(axes).items() if is_hollow}
    assert hollow == ({"d"} if flags else set())
    assert [text for text in explained(figure) if "hollow" in text] == [f"hollow: {HOLLOW[flag]}" for flag in flags]


def test_a_limit_that_is_open_ends_in_an_arrow_at_the_edge() -> None:
    (axes,) = drawn(comparison({"a": 120.0, "b": 60.0}, bounds="a")).axes
    (arrow,) = [line for line in axes.get_lines() if line.get_marker() == ">"]
    low, high = intervals(axes)[1]
    assert low == pytest.approx(2 / 1.02)
    assert float(arrow.get_xdata()[0]) == high < axes.get_xlim()[1]


def test_a_ratio_beyond_the_axis_stands_at_its_edge_with_an_arrow() -> None:
    (axes,) = drawn(comparison({"a": 1e5, "b": 1e3})).axes
    assert points(axes)[1][0] == ratios.FURTHEST
    assert points(axes)[1][2] == ">"
    assert written(axes)[1] == "100×"


def test_without_any_limit_there_is_a_point_alone() -> None:
    figure = drawn(comparison({"a": 2.0, "b": 1.0}, limits=math.inf))
    assert points(figure.axes[0])[1][0] == 2
    assert intervals(figure.axes[0]) == {}
    assert not any("limits" in text for text in explained(figure))


def test_what_is_written_lies_right_of_all_that_is_drawn() -> None:
    figure = drawn(comparison({"a": 100.0, "b": 99.0, "c": 20.0}, limits=1.5), baseline="b")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    ends = [axes.transData.transform((max(x), 0))[0] for x in intervals(axes).values()]
    assert max(ends) < min(text.get_window_extent().x0 for text in axes.texts)


def test_the_axis_says_what_is_better_than_what() -> None:
    best, chosen = drawn(comparison(VALUES)), drawn(comparison(VALUES), baseline="c")
    assert best.axes[-1].get_xlabel() == "times the best is better"
    assert chosen.axes[-1].get_xlabel() == "times as good as c"


def test_a_default_sweep_has_nine_panels_and_every_strategy_in_those_that_it_was_measured_in() -> None:
    analysis = analysed(*sweep(repeats=5))
    figure = ratios.draw(ratios.rows("")(analysis), looks(STRATEGIES))
    assert [len(names(axes)) for axes in figure.axes] == [9, 9, 9, 8, 8, 8, 8, 8, 8]


# --- in words


def test_its_message_counts_how_the_comparisons_came_out() -> None:
    rows = ratios.rows("")(of(comparison(VALUES, limits=1.04), comparison({"a": 7.0, "b": 9.0}, CPU)))
    assert ratios.message(rows) == (
        "By the best of each panel, throughput: 1 worse, 1 equal within 5 % and 1 not decided; server CPU per message: "
        "1 worse."
    )


def test_with_a_baseline_its_message_names_it() -> None:
    rows = ratios.rows("c")(of(comparison(VALUES)))
    assert ratios.message(rows) == "By `c`, throughput: 1 better, 1 worse and 1 equal within 5 %."
