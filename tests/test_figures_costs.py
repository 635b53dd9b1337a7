"""The figures of what a message and a connection cost: switches, memory, and what the bars of CPU time have new."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex
from synthetic import STRATEGIES, analysed, record, server, sweep, unmeasured

from bench.figures import cpu, memory, switches
from bench.figures.style import HOLLOW, PAPER, looks
from bench.record import Record


def holding(name: str, connections: int, mib: float, repeat: int = 0) -> Record:
    """A trial whose server has so much memory at its end."""
    made = record(name, connections, repeat)
    assert made.server is not None
    made.server.metrics["rss_bytes"] = mib * 2**20
    return made


# --- switches


def test_voluntary_and_involuntary_switches_add_up_to_the_estimate() -> None:
    analysis = analysed(record("a", rate_hz=1000, server=server(1000, 10, 0.5)))
    (axes,) = switches.draw(switches.rows(analysis), looks("a")).axes
    estimate = analysis.estimates[analysis.estimates["metric"] == "switches"]["value"].iloc[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(widths) == pytest.approx(estimate)
    assert widths[0] / widths[1] == pytest.approx(30)  # 0.3 and 0.01 a message


def test_without_the_probe_there_is_no_figure_of_switches() -> None:
    blind = record()
    assert blind.server is not None
    del blind.server.metrics["switches_voluntary"]
    assert switches.rows(analysed(blind)).empty


def test_the_message_names_the_fewest_and_the_most_switches() -> None:
    said = switches.message(switches.rows(analysed(*sweep(repeats=1))))
    assert said.endswith("context switches for a message at 128 connections.")
    assert "(`thread_per_connection`)" in said
    one = switches.message(switches.rows(analysed(record("a"))))
    assert one.startswith("`a`: ")


# --- bars


def test_bars_of_a_case_that_drifted_are_hollow_and_explained_and_a_saturated_client_is_no_doubt_of_cpu() -> None:
    records = [record("a", flags=["unsteady"]), record("b", bottleneck="client")]
    figure = cpu.draw(cpu.rows(analysed(*records)), looks("ab"))
    (axes,) = figure.axes
    faces = {round(bar.get_y() + bar.get_height() / 2): to_hex(bar.get_facecolor()) for bar in axes.patches}
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert faces[names.index("a")] == PAPER
    assert faces[names.index("b")] != PAPER
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert f"hollow: {HOLLOW['unsteady']}" in texts
    assert f"hollow: {HOLLOW['client_bound']}" not in texts


def test_a_bar_is_the_median_and_no_raw_range_of_the_repeats_lies_over_it() -> None:
    records = [record("a", repeat=at, cpu_us=cost) for at, cost in enumerate((5.0, 8.0, 30.0))]
    (axes,) = cpu.draw(cpu.rows(analysed(*records)), looks("a")).axes
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(8)
    assert len(axes.get_lines()) == 0


def test_a_row_without_a_bar_says_whether_it_failed_or_was_not_run() -> None:
    records = [record("a", 1), record("a", 16), record("b", 1), unmeasured("b", 16, 0, "failed", "it died")]
    figure = cpu.draw(cpu.rows(analysed(*records, record("c", 1))), looks("abc"))
    assert {text.get_text() for text in figure.axes[1].texts} >= {"failed", "not run"}


# --- memory


def test_the_cost_of_a_connection_is_the_slope_over_connections() -> None:
    records = [holding("a", count, 10 + count / 16, repeat) for count in (1, 16, 128) for repeat in range(3)]
    (row,) = memory.rows(analysed(*records)).to_dict("records")
    assert (row["kib"], row["low"], row["high"]) == pytest.approx((64, 64, 64))
    assert (row["fewest"], row["most"]) == (1, 128)


def test_one_number_of_connections_tells_nothing_of_memory() -> None:
    assert memory.rows(analysed(record("a"), record("b"))).empty


def test_strategies_are_rows_the_smallest_on_top_and_their_values_are_written() -> None:
    records = [holding(name, count, 10 + count * each) for name, each in (("a", 1.0), ("b", 0.1)) for count in (1, 16)]
    figure = memory.draw(memory.rows(analysed(*records)), looks("ab"))
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a"]
    assert [text.get_text() for text in axes.texts] == ["102 KiB", "1,020 KiB"]
    assert axes.get_xscale() == "log"


def test_less_memory_at_more_connections_is_hollow_at_the_edge_and_says_that_nothing_was_seen() -> None:
    records = [holding("a", 1, 20), holding("a", 16, 19), holding("b", 1, 20), holding("b", 16, 30)]
    figure = memory.draw(memory.rows(analysed(*records)), looks("ab"))
    (axes,) = figure.axes
    points = {float(line.get_xdata()[0]): line for line in axes.get_lines() if len(line.get_xdata()) == 1}
    assert points[memory.LEAST_KIB].get_markerfacecolor() == PAPER
    assert axes.texts[0].get_text() == "none seen"
    assert any("less than" in text.get_text() for text in figure.legends[0].get_texts())


def test_each_setting_has_its_panel() -> None:
    records = [record("a", count, transport=transport) for count in (1, 16) for transport in ("tcp", "unix")]
    figure = memory.draw(memory.rows(analysed(*records)), looks("a"))
    assert [axes.get_title() for axes in figure.axes] == ["tcp", "unix"]


def test_the_message_names_the_ends() -> None:
    records = [holding(name, count, 10 + count * each) for name, each in (("a", 1.0), ("b", 0.0)) for count in (1, 16)]
    said = memory.message(memory.rows(analysed(*records)))
    assert said.startswith("A connection takes nothing that can be seen (`b`) to ")
    assert said.endswith("(`a`) of memory.")


def test_a_default_sweep_has_every_strategy_with_two_numbers_of_connections() -> None:
    assert set(memory.rows(analysed(*sweep(repeats=2)))["strategy"]) == set(STRATEGIES) - {"iterative"}
