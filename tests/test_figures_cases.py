"""What figures are drawn from, and how they say what is hollow, what failed and what an interval is of."""

from __future__ import annotations

import math
from typing import Any

import pytest
from matplotlib.figure import Figure
from synthetic import STRATEGIES, analysed, load_sweep, open_record, record, sweep, unmeasured

from bench.analyse import medians
from bench.figures import cases, heat, latency, load, order, response, throughput
from bench.figures.style import ABSENT, HOLLOW, PAPER, QUIET, USER, explain, looks
from bench.metrics import CASE


def explained(figure: Figure) -> list[str]:
    """What stands above the panels."""
    return [text.get_text() for found in figure.legends if found._outside_loc == "upper" for text in found.get_texts()]


def hollow(figure: Figure) -> list[float]:
    """Where the hollow points lie along x."""
    return [
        round(float(x))
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_linestyle() == "None"
        and line.get_markerfacecolor() == PAPER
        and line.get_marker() not in ABSENT.values()
        for x in line.get_xdata()
    ]


# --- the rows


def test_a_case_is_in_doubt_where_half_of_its_trials_are() -> None:
    one_of_three = [record("a", repeat=at, flags=["unsteady"] * (at == 0)) for at in range(3)]
    two_of_three = [record("b", repeat=at, flags=["unsteady"] * (at > 0)) for at in range(3)]
    rows = cases.measured(analysed(*one_of_three, *two_of_three), "rate_hz")
    assert dict(zip(rows["strategy"], rows["doubts"], strict=True)) == {"a": "", "b": "unsteady"}


def test_one_trial_that_the_client_limited_makes_a_throughput_a_lower_bound() -> None:
    records = [record("a", repeat=at, bottleneck="client" if at == 0 else "server") for at in range(5)]
    rows = cases.measured(analysed(*records), "rate_hz")
    assert list(rows["doubts"]) == ["client_bound"]


def test_flags_that_say_nothing_against_a_median_are_no_doubt() -> None:
    assert list(cases.measured(analysed(record(flags=["shared_core"])), "rate_hz")["doubts"]) == [""]


def test_a_case_without_a_good_trial_is_a_row_without_a_value_that_says_why() -> None:
    bad = [unmeasured("a", 16, at, "failed", "it died") for at in range(2)]
    rows = cases.measured(analysed(record("a", 1), *bad), "rate_hz")
    (row,) = rows[rows["value"].isna()].to_dict("records")
    assert (row["strategy"], row["connections"], row["doubts"], row["reason"]) == ("a", 16, "failed", "it died")
    assert set(row["ids"].split()) == {trial.id for trial in bad}


def test_a_case_of_which_some_trials_failed_has_its_value() -> None:
    rows = cases.measured(analysed(record(repeat=0), unmeasured("epoll_lt", 16, 1, "failed", "it died")), "rate_hz")
    assert list(rows["value"].notna()) == [True]


def test_where_nothing_was_measured_there_is_no_row_at_all() -> None:
    assert cases.measured(analysed(unmeasured("a", 1, 0, "failed", "it died")), "rate_hz").empty


def test_rates_that_were_planned_are_left_out_where_they_say_nothing() -> None:
    analysis = analysed(open_record("poll", 1000, 2000), record("poll"))
    assert list(cases.measured(analysis, "rate_hz", planned=False)["workload"]) == ["closed"]
    assert len(cases.measured(analysis, "rate_hz")) == 2


def test_the_median_of_a_column_is_of_good_trials_by_case() -> None:
    trials = analysed(*(record(repeat=at, rate_hz=rate) for at, rate in enumerate((1000, 2000, 9000)))).trials
    (found,) = medians(trials, "rate_hz").items()
    assert found == (tuple(trials[name].iloc[0] for name in CASE), 2000)


# --- what is said above the panels


def test_every_reason_is_told_once_in_the_same_order_and_unknown_flags_by_their_name() -> None:
    figure = Figure()
    explain(figure, ["failed", "unsteady", "a_new_flag", "client_bound", "unsteady", ""])
    told = f"hollow: {HOLLOW['client_bound']} – or {HOLLOW['unsteady']} – or a new flag"
    assert explained(figure) == [told, "failed"]


def test_where_nothing_is_drawn_in_another_way_nothing_is_said() -> None:
    figure = Figure()
    height = figure.get_figheight()
    explain(figure, [""])
    assert not figure.legends and figure.get_figheight() == height


def test_what_is_said_has_room_of_its_own() -> None:
    figure = Figure()
    height = figure.get_figheight()
    explain(figure, ["client_bound"])
    assert figure.get_figheight() > height


@pytest.mark.parametrize("draw", ["throughput", "heat", "response", "latency"])
def test_each_figure_explains_its_hollow_points(draw: str) -> None:
    analysis = analysed(*(record(name, count, bottleneck="client") for name in "ab" for count in (1, 16)))
    rows, module = {
        "throughput": (throughput.rows(analysis), throughput),
        "heat": (heat.rows(analysis), heat),
        "response": (response.rows(analysis), response),
        "latency": (latency.rows(analysis), latency),
    }[draw]
    assert f"hollow: {HOLLOW['client_bound']}" in explained(module.draw(rows, looks("ab")))  # type: ignore[attr-defined]


def test_the_figure_of_load_explains_its_hollow_points_and_its_rings() -> None:
    said = explained(load.draw(analysed(*load_sweep(repeats=1)).load_points, looks(STRATEGIES)))
    rings, hollow_ones = said
    assert "the front" in rings
    there = {flag for one in load_sweep(repeats=1) for flag in one.flags} & {*cases.DOUBTS}
    assert len(there) == 4
    assert all(HOLLOW[flag] in " ".join(hollow_ones.split()) for flag in there)


def test_a_sound_run_has_nothing_hollow_and_says_nothing_of_it() -> None:
    analysis = analysed(*(record("a", count) for count in (1, 16)))
    figure = throughput.draw(throughput.rows(analysis), looks("a"))
    assert (hollow(figure), explained(figure)) == ([], [])


# --- throughput


def test_a_line_goes_through_the_medians_and_no_raw_range_is_drawn_over_it() -> None:
    rates = (900, 1000, 1000, 1000, 1100, 1200, 5000)
    records = [record("a", count, at, rate) for count in (1, 16) for at, rate in enumerate(rates)]
    (axes,) = throughput.draw(throughput.rows(analysed(*records)), looks("a")).axes
    in_the_panel = [line for line in axes.get_lines() if line.get_transform() == axes.transData]
    assert {float(y) for line in in_the_panel for y in line.get_ydata()} == {1000}
    assert not axes.collections


@pytest.mark.parametrize("module", [throughput, response, latency])
def test_no_figure_has_bands_of_what_single_repeats_came_to(module: Any) -> None:
    analysis = analysed(
        *(record(name, count, at, 1e4 * (at + 1)) for name in "ab" for count in (1, 16) for at in range(3))
    )
    figure = module.draw(module.rows(analysis), looks("ab"))
    assert [len(axes.collections) for axes in figure.axes] == [0] * len(figure.axes)


def test_what_failed_stands_at_the_foot_of_the_axes_where_it_would_have_been() -> None:
    records = [record("a", 1), record("a", 16), unmeasured("a", 128, 0, "failed", "it died")]
    figure = throughput.draw(throughput.rows(analysed(*records, record("b", 128))), looks("ab"))
    (axes,) = figure.axes
    signs = [line for line in axes.get_lines() if line.get_marker() == ABSENT["failed"]]
    ((x, y),) = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in signs]
    assert (round(x / 128, 1), y) == (1, 0)
    assert signs[0].get_transform() == axes.get_xaxis_transform()
    assert explained(figure) == ["failed"]


@pytest.mark.parametrize("module", [throughput, response])
def test_a_line_has_a_gap_where_a_case_failed(module: Any) -> None:
    records = [record("a", count, at) for count in (1, 128) for at in range(2)]
    analysis = analysed(*records, unmeasured("a", 16, 0, "failed", "it died"))
    figure = module.draw(module.rows(analysis), looks("a"))
    for axes in figure.axes:
        (line,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 3]
        assert [math.isnan(y) for y in line.get_ydata()] == [False, True, False]


def test_what_failed_at_the_same_place_stands_one_above_the_other() -> None:
    records = [record("a", 1), record("a", 16), *(unmeasured(name, 16, 0, "failed", "it died") for name in "bc")]
    rows = throughput.rows(analysed(*records))
    signs = [
        line for line in throughput.draw(rows, looks("a")).axes[0].get_lines() if line.get_marker() == ABSENT["failed"]
    ]
    assert len({float(sign.get_ydata()[0]) for sign in signs}) == 2


def test_a_strategy_without_any_measurement_has_no_colour_and_is_no_line() -> None:
    records = [record("a", 1), record("a", 16), unmeasured("b", 16, 0, "unavailable", "not here")]
    figure = throughput.draw(throughput.rows(analysed(*records)), looks("a"))
    (sign,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == ABSENT["unavailable"]]
    assert sign.get_color() == QUIET
    assert explained(figure) == ["unavailable"]
    assert {text.get_text() for text in figure.axes[0].texts} - {""} == {"a"}


def test_in_rows_what_failed_is_named() -> None:
    records = [record("a"), unmeasured("b", 16, 0, "failed", "it died")]
    (axes,) = throughput.draw(throughput.rows(analysed(*records)), looks("a")).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["failed"]


# --- response time over connections


def test_response_times_have_a_panel_of_the_median_and_one_of_p99_on_one_scale() -> None:
    analysis = analysed(*sweep(repeats=2))
    figure = response.draw(response.rows(analysis), looks(STRATEGIES))
    assert [axes.get_title() for axes in figure.axes] == ["p50 latency", "p99 latency"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[0].get_yscale() == "log"


def test_the_points_are_the_percentiles_of_the_merged_histograms() -> None:
    analysis = analysed(*(record("a", count, at) for count in (1, 16) for at in range(2)))
    figure = response.draw(response.rows(analysis), looks("a"))
    estimates = analysis.estimates
    for axes, metric in zip(figure.axes, ("p50_us", "p99_us"), strict=True):
        line, markers = axes.get_lines()
        for drawn in (line, markers):
            assert list(drawn.get_xdata()) == [1, 16]
            assert list(drawn.get_ydata()) == list(estimates[estimates["metric"] == metric]["value"])


def test_at_one_number_of_connections_there_is_nothing_to_draw_over_them() -> None:
    assert response.rows(analysed(record("a"), record("b"))).empty


def test_offered_rates_are_left_to_the_figure_of_load() -> None:
    records = [open_record("poll", rate, 1e5, connections=count) for rate in (1e4, 2e4) for count in (1, 16)]
    assert response.rows(analysed(*records)).empty


def test_a_percentile_that_is_a_lower_bound_is_hollow_and_has_an_arrow() -> None:
    records = [open_record("poll", 1.2e5, 1e5, connections=count) for count in (1, 16)]
    figure = response.draw(response.rows(analysed(*records)), looks(["poll"]))
    assert set(hollow(figure)) == {1, 16}
    assert explained(figure) == [f"hollow: {HOLLOW['censored']}"]
    assert [text.xy[0] for text in figure.axes[1].texts if hasattr(text, "xy")] == [1, 16]


def test_its_message_says_from_where_to_where_p99_runs() -> None:
    said = response.message(response.rows(analysed(*sweep(repeats=1))))
    assert said.startswith("At 128 connections p99 latency runs from ")
    assert said.endswith("(`nonblocking_polling`).")


# --- the heat map


def cells(figure: Figure) -> dict[str, list[str]]:
    """The texts in the cells, by strategy."""
    (axes,) = figure.axes
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    found: dict[str, list[str]] = {name: [] for name in names}
    for text in axes.texts:
        if text.get_transform() == axes.transData and not hasattr(text, "xy"):
            found[names[round(text.get_position()[1])]].append(text.get_text())
    return found


def test_a_cell_has_its_value_and_the_best_of_a_column_is_bold() -> None:
    records = [record("a", 1, rate_hz=1000), record("a", 16, rate_hz=50_000), record("b", 1, rate_hz=941)]
    figure = heat.draw(heat.rows(analysed(*records, record("b", 16, rate_hz=123_456))), looks("ab"))
    assert cells(figure) == {"b": ["941", "123k"], "a": ["1k", "50k"]}
    bold = [text.get_text() for text in figure.axes[0].texts if text.get_weight() == "bold"]
    assert sorted(bold) == ["123k", "1k"]


def test_the_darker_a_cell_the_nearer_to_the_best_of_its_column() -> None:
    records = [record(name, rate_hz=rate) for name, rate in (("a", 100), ("b", 50), ("c", 10))]
    (axes,) = heat.draw(heat.rows(analysed(*records)), looks("abc")).axes
    assert [patch.get_alpha() for patch in axes.patches] == pytest.approx([0.04 + 0.51 * it for it in (1, 0.5, 0.1)])


def test_cells_without_a_value_say_why() -> None:
    records = [record("a", 1), record("a", 16), record("b", 1), unmeasured("c", 1, 0, "unavailable", "not here")]
    found = cells(heat.draw(heat.rows(analysed(*records, unmeasured("b", 16, 0, "failed", "it died"))), looks("ab")))
    assert found["b"][1] == "failed"
    assert found["c"] == ["unavailable", "not run"]


def test_a_cell_that_the_client_limited_is_a_frame_and_a_lower_bound() -> None:
    records = [record("a", rate_hz=1000, bottleneck="client"), record("b", rate_hz=500)]
    figure = heat.draw(heat.rows(analysed(*records)), looks("ab"))
    assert cells(figure)["a"] == ["≥ 1k"]
    frames = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert len(frames) == 1
    assert explained(figure) == [f"hollow: {HOLLOW['client_bound']}"]


def test_settings_stand_side_by_side_as_far_as_there_is_room_and_then_below() -> None:
    def figure(sizes: tuple[int, ...]) -> Figure:
        records = [
            record(name, count, message_bytes=size) for name in "ab" for count in (1, 4, 16, 64) for size in sizes
        ]
        return heat.draw(heat.rows(analysed(*records)), looks("ab"))

    (axes,) = figure((1, 64, 4096)).axes
    assert [text.get_text() for text in axes.texts if hasattr(text, "xy")] == ["1 byte", "64 bytes", "4,096 bytes"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "16", "64"] * 3
    assert len(figure((1, 8, 64, 512, 4096)).axes) == 2


def test_forty_strategies_have_rows_of_the_same_height_as_nine_and_none_is_left_out() -> None:
    heights = {}
    for count in (9, 40):
        names = [f"strategy_{at:02d}" for at in range(count)]
        analysis = analysed(*(record(name, conns) for name in names for conns in (1, 16)))
        figure = heat.draw(heat.rows(analysis), looks(names))
        assert len(cells(figure)) == count
        heights[count] = figure.get_figheight()
    assert heights[40] - heights[9] == pytest.approx(31 * heat.ROW_IN)


def test_no_cell_is_so_dark_that_its_value_can_not_be_read() -> None:
    assert heat._alpha(1.0) <= 0.55
    assert heat._filled({"value": 1.0, "doubts": "", "ratio": 1.0})["color"] == USER


@pytest.mark.parametrize(
    ("value", "said"), [(3, "3"), (941, "941"), (999.7, "1k"), (9_412, "9.41k"), (999_600, "1M"), (1.234e6, "1.23M")]
)
def test_values_are_short(value: float, said: str) -> None:
    assert heat.short(value) == said


def test_the_message_of_the_heat_map_says_how_far_values_lie_below_the_highest_and_names_no_winner() -> None:
    records = [record("a", 1, rate_hz=100), record("b", 1, rate_hz=90), record("a", 16, rate_hz=40)]
    said = heat.message(heat.rows(analysed(*records, record("b", 16, rate_hz=80))))
    assert said == "The furthest below the highest of its column is `a` with 16 connections: at 50 % of it."


def test_a_single_strategy_has_no_heat_map() -> None:
    assert heat.rows(analysed(record("a", 1), record("a", 16))).empty


# --- every trial in time order


def test_trials_that_failed_stand_at_their_place_at_the_foot() -> None:
    records = [record("a", repeat=at, order=at) for at in range(3)]
    bad = unmeasured("a", 16, 3, "failed", "it died", order=7)
    figure = order.draw(order.rows(analysed(*records, bad)), looks("a"))
    (sign,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == ABSENT["failed"]]
    assert list(sign.get_xdata()) == [7]
    assert "failed" in explained(figure)


def test_the_time_order_explains_its_hollow_points() -> None:
    flags: list[list[str]] = [[], ["unsteady"], ["shared_core"]]
    records: list[Any] = [record("a", repeat=at, order=at, flags=found) for at, found in enumerate(flags)]
    said = explained(order.draw(order.rows(analysed(*records)), looks("a")))
    assert f"hollow: {HOLLOW['unsteady']} – or {HOLLOW['shared_core']}" in said
