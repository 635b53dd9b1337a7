"""The figure of what an event costs over watched descriptors: which points it has, and the slopes that it tells."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from matplotlib.axes import Axes
from synthetic import analysed, load, record

from bench.figures import PLATES, Plate, descriptors
from bench.figures.style import PAPER, looks, picture
from bench.metrics import CPU
from bench.record import Record

TOTALS = (100, 1000, 10_000)


def idle(strategy: str, active: int, total: int, cpu_us: float, repeat: int = 0, **changes: object) -> Record:
    rate_hz = 1e5 / cpu_us
    return record(
        strategy,
        active,
        repeat,
        cpu_us=cpu_us,
        workload="idle",
        silent=total - active,
        load=load(rate_hz, active),
        rate_hz=rate_hz,
        **changes,
    )


def crowd() -> Iterator[Record]:
    """poll pays for every descriptor, epoll for none; select takes no more than a thousand."""
    for active in (1, 100):
        for total in TOTALS:
            yield idle("poll", active, total, 0.05 * total)
            yield idle("epoll_lt", active, total, 9.0)
            if total <= 1000:
                yield idle("select", active, total, 0.1 * total)


def the_plate() -> Plate:
    return next(plate for plate in PLATES if plate.name == "descriptors")


def legend_of(axes: Axes) -> dict[str, str]:
    legend = axes.get_legend()
    assert legend is not None
    return dict(text.get_text().split("  ") for text in legend.get_texts())


def test_x_counts_the_silent_connections_and_the_active_ones() -> None:
    table = descriptors.rows(analysed(*crowd()))
    assert sorted(set(table["watched"])) == list(TOTALS)
    assert set(table["metric"]) == {"cpu_us", "p50_us"}


def test_the_slope_is_the_exponent_of_a_power_law() -> None:
    table = descriptors.rows(analysed(*crowd()))
    cpu = table[(table["metric"] == CPU.name) & (table["connections"] == 1)]
    assert descriptors.slope(cpu[cpu["strategy"] == "poll"]) == pytest.approx(1.0)
    assert descriptors.slope(cpu[cpu["strategy"] == "epoll_lt"]) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(descriptors.slope(cpu[(cpu["strategy"] == "poll") & (cpu["watched"] == 100)]))


def test_a_panel_for_each_metric_and_number_of_active_connections_has_the_slopes_in_its_legend() -> None:
    table = descriptors.rows(analysed(*crowd()))
    figure = descriptors.draw(table, looks(table["strategy"]))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    assert titles == [
        "CPU per message, active: 1 connection",
        "CPU per message, active: 100 connections",
        "Median latency, active: 1 connection",
        "Median latency, active: 100 connections",
    ]
    for axes in figure.axes[:2]:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert legend_of(axes) == {"epoll_lt": "slope +0.00", "poll": "slope +1.00", "select": "slope +1.00"}


def test_the_line_of_a_strategy_ends_where_it_takes_no_more() -> None:
    table = descriptors.rows(analysed(*crowd()))
    figure = descriptors.draw(table, looks(table["strategy"]))
    color = looks(table["strategy"])["select"].color
    ends = [max(line.get_xdata()) for line in figure.axes[0].get_lines() if line.get_color() == color]
    assert max(ends) == 1000


def test_a_point_at_which_the_client_was_the_limit_is_hollow() -> None:
    bound = [idle("poll", 1, total, 5.0, bottleneck="client", flags=["client_bound"]) for total in TOTALS]
    table = descriptors.rows(analysed(*bound))
    figure = descriptors.draw(table, looks(["poll"]))
    faces = {line.get_markerfacecolor() for line in figure.axes[0].get_lines() if line.get_linestyle() == "None"}
    assert faces == {PAPER}


def test_what_it_shows_is_said_in_words() -> None:
    said = descriptors.message(descriptors.rows(analysed(*crowd())))
    assert said.startswith(
        "Active: 1 connection. CPU per message at the most descriptors by that at the fewest: `epoll_lt` 1.00× (100 to "
        "10,000), `select` 10.0× (100 to 1,000) and `poll` 100× (100 to 10,000). Active: 100 connections."
    )


def test_without_several_numbers_of_descriptors_there_is_no_figure() -> None:
    one_number = analysed(idle("poll", 16, 272, 5.0), idle("epoll_lt", 16, 272, 5.0), record("select"))
    assert descriptors.rows(one_number).empty
    assert descriptors.rows(analysed(record("select"))).empty
    assert len(the_plate().rows(one_number)) == 0


def test_the_report_has_the_figure_with_the_names_marked_for_switching_off() -> None:
    table = the_plate().rows(analysed(*crowd()))
    drawn = picture(lambda: the_plate().draw(table, looks(table["strategy"])), "descriptors")
    assert drawn.png.startswith(b"\x89PNG")
    assert 'data-strategy="epoll_lt"' in drawn.inline
    assert "10,000 descriptors watched" in drawn.inline
