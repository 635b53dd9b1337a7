"""The figures of latency over load, of trials in time order, and of intervals: what they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from synthetic import analysed, load, load_sweep, open_record, record, sweep, unmeasured

from bench.figures import PLATES, bounded, intervals, latency, order
from bench.figures import load as load_figure
from bench.figures.style import INK, PAPER, looks
from bench.record import Record


def curves(axes: Axes, color: str) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_color() == color and len(line.get_xdata()) > 1]


def line_collections(axes: Axes) -> list[LineCollection]:
    return [drawn for drawn in axes.collections if isinstance(drawn, LineCollection)]


def markers(axes: Axes, color: str) -> dict[float, Any]:
    """x -> face, of single points of a colour."""
    return {
        float(line.get_xdata()[0]): line.get_markerfacecolor()
        for line in axes.get_lines()
        if line.get_color() == color and len(line.get_xdata()) == 1
    }


# --- latency over load


def test_a_line_follows_a_strategy_from_the_lowest_rate_to_the_highest() -> None:
    rates = (10_000, 50_000, 90_000, 120_000)
    points = analysed(*(open_record("poll", rate, 1e5) for rate in reversed(rates))).load_points
    (axes,) = load_figure.draw(points, looks(["poll"])).axes
    (line,) = curves(axes, looks(["poll"])["poll"].color)
    assert list(line.get_xdata()) == [10_000, 50_000, 90_000, 98_000]
    assert axes.get_yscale() == "log"


def test_points_that_are_not_to_be_trusted_are_hollow_and_off_the_front() -> None:
    flags = {50_000: ("unsteady",), 70_000: ("lagging_schedule",), 90_000: ("client_bound",)}
    records = [open_record("poll", rate, 1e5, flags=flags.get(rate, ())) for rate in (10_000, *flags, 120_000)]
    points = analysed(*records).load_points
    (axes,) = load_figure.draw(points, looks(["poll"])).axes
    faces = markers(axes, looks(["poll"])["poll"].color)
    assert {x for x, face in faces.items() if face == PAPER} == {50_000, 70_000, 90_000, 98_000}
    assert {x for x, face in faces.items() if face != PAPER} == {10_000}
    rings = [line for line in axes.get_lines() if line.get_markeredgecolor() == INK and line.get_markersize() == 12]
    assert [list(ring.get_xdata()) for ring in rings] == [[10_000]]


def test_a_lower_bound_has_an_arrow() -> None:
    records = [open_record("poll", rate, 1e5) for rate in (10_000, 50_000, 120_000)]
    (axes,) = load_figure.draw(analysed(*records).load_points, looks(["poll"])).axes
    assert [text.xy[0] for text in axes.texts if hasattr(text, "xy")] == [98_000]  # an annotation without text


def test_each_setting_has_a_panel() -> None:
    records = [open_record("poll", rate, 1e5, connections=count) for rate in (1e4, 2e4) for count in (1, 16)]
    figure = load_figure.draw(analysed(*records).load_points, looks(["poll"]))
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == ["1 connection", "16 connections"]


def test_a_curve_of_many_rates_is_drawn_whole() -> None:
    rates = [1000.0 * step for step in range(1, 21)]
    points = analysed(*(open_record("poll", rate, 1e5) for rate in rates)).load_points
    (plate,) = [plate for plate in PLATES if plate.name == "load"]
    kept, note = bounded(points, plate.settings)
    assert (len(kept), note) == (20, "")


# --- latency by percentile


def test_where_sends_were_planned_a_dotted_line_shows_the_service_time() -> None:
    color = looks(["poll"])["poll"].color
    planned, closed = analysed(open_record("poll", 80_000, 1e5)), analysed(record("poll"))
    (with_plan,) = latency.draw(latency.rows(planned), looks(["poll"])).axes
    (without,) = latency.draw(latency.rows(closed), looks(["poll"])).axes
    dotted = [line for line in curves(with_plan, color) if line.get_linestyle() not in ("-", "None")]
    assert len(dotted) == 1
    assert [line for line in curves(without, color) if line.get_linestyle() not in ("-", "None")] == []


def test_percentiles_that_are_lower_bounds_are_hollow() -> None:
    (axes,) = latency.draw(latency.rows(analysed(open_record("poll", 110_000, 1e5))), looks(["poll"])).axes
    hollow = [line for line in axes.get_lines() if line.get_markerfacecolor() == PAPER and len(line.get_xdata())]
    (line,) = hollow
    assert min(line.get_xdata()) == pytest.approx(10)  # p90 on; 89 % were answered


# --- every trial in time order


def test_a_trial_stands_at_its_order_as_far_off_as_it_is_from_its_cases_median() -> None:
    records = [record("poll", repeat=at, order=at + 7, rate_hz=rate) for at, rate in enumerate((1000, 1000, 1100))]
    rows = order.rows(analysed(*records))
    assert dict(zip(rows["order"], rows["ratio"], strict=True)) == pytest.approx({7: 1.0, 8: 1.0, 9: 1.1})


def test_trials_without_repeats_without_success_or_with_a_planned_rate_say_nothing_of_drift() -> None:
    planned = [open_record("poll", 1000, 2000, repeat) for repeat in range(3)]
    assert order.rows(analysed(*planned, record("select"), unmeasured("a", 1, 0, "failed", "it died"))).empty


def test_trials_with_a_flag_are_hollow_in_time_order() -> None:
    records = [record("poll", repeat=at, order=at, flags=["unsteady"] if at == 2 else []) for at in range(4)]
    (axes,) = order.draw(order.rows(analysed(*records)), looks(["poll"])).axes
    faces = [line.get_markerfacecolor() for line in axes.get_lines() if line.get_marker() == "o"]
    counts = {
        line.get_markerfacecolor(): len(line.get_xdata()) for line in axes.get_lines() if line.get_marker() == "o"
    }
    assert len(faces) == 2
    assert counts[PAPER] == 1


def test_a_whole_sweep_is_drawn_with_every_trial() -> None:
    rows = order.rows(analysed(*sweep(repeats=2)))
    (axes,) = order.draw(rows, looks(rows["strategy"])).axes
    drawn = sum(len(line.get_xdata()) for line in axes.get_lines() if line.get_marker() not in ("None", None))
    assert drawn == len(rows) == 50


# --- intervals


def with_intervals(*counts: int, **changes: Any) -> Record:
    return record(load=load(sum(counts), 16, intervals=list(counts)), **changes)


def test_an_interval_is_told_by_its_trials_mean() -> None:
    rows = intervals.rows(analysed(with_intervals(*([100] * 9), 200)))
    assert list(rows["ratio"]) == pytest.approx([100 / 110] * 9 + [200 / 110])
    assert list(rows["t_s"]) == pytest.approx(np.arange(0.05, 1, 0.1))


def test_the_last_interval_is_left_out_where_the_window_ended_within_it() -> None:
    cut = record(load=load(1100, 16, intervals=[100] * 11, closed_ns=6_040_000_000))
    assert len(intervals.rows(analysed(cut))) == 10


@pytest.mark.parametrize("counts", [(1000, 1000), (5,) * 10, (0,) * 10, ()])
def test_too_few_intervals_or_messages_say_nothing(counts: tuple[int, ...]) -> None:
    assert intervals.rows(analysed(record(load=load(2000, 16, intervals=list(counts))))).empty


def test_of_many_trials_the_most_uneven_are_shown() -> None:
    even = [with_intervals(*([100] * 10), repeat=at) for at in range(30)]
    uneven = with_intervals(*([100, 300] * 5), repeat=30)
    rows = intervals.rows(analysed(*even, uneven))
    assert rows["id"].nunique() == intervals.MOST_TRIALS
    assert uneven.id in set(rows["id"])


def test_unsteady_trials_are_dark() -> None:
    records = [with_intervals(*range(100, 200, 10), repeat=at, flags=["unsteady"] * at) for at in range(2)]
    rows = intervals.rows(analysed(*records))
    (axes,) = intervals.draw(rows, looks(["epoll_lt"])).axes
    lines = {to_hex(drawn.get_color()[0]): len(drawn.get_segments()) for drawn in line_collections(axes)}
    assert lines == {INK: 1, looks(["epoll_lt"])["epoll_lt"].color: 1}


def test_trials_that_drifted_are_counted_with_their_strategies() -> None:
    assert intervals.message(analysed(record())) == "No trial drifted within its window."
    assert intervals.message(analysed(*load_sweep(repeats=1))) == (
        "1 of 32 trials drifted within the window, in throughput or response time: `asyncio_streams`."
    )
