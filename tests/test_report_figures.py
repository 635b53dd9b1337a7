"""The figures: what they show, and how they become files."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import STRATEGIES, analysed, load_sweep, open_record, record, sweep, unmeasured, why

from bench.figures import PLATES, Plate, cpu, latency, pictures, throughput
from bench.figures.style import PAPER, THEME, looks, shorten, spread_out

STEP = 0.05
OF_OTHER_RUNS = ("compared", "descriptors")  # of comparisons, and of sweeps like fds: they have tests of their own


def luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", [name for name in THEME if name not in ("--paper", "--line", "--system")])
def test_every_colour_stands_out_from_its_paper(name: str, theme: int) -> None:
    low, high = sorted([luminance(THEME[name][theme]), luminance(THEME["--paper"][theme])])
    wanted = 4.5 if name in ("--ink", "--quiet") else 3.0
    assert (high + 0.05) / (low + 0.05) >= wanted


def test_no_two_colours_of_the_light_theme_are_equal_or_the_svg_could_not_tell_them_apart() -> None:
    light = [pair[0] for pair in THEME.values()]
    assert len(set(light)) == len(light)


def test_twenty_five_strategies_look_different_and_nine_differ_in_colour_and_marker() -> None:
    found = looks(f"s{index:02d}" for index in range(45))
    assert len({(it.color, it.marker, str(it.dashes)) for it in found.values()}) == 45
    nine = looks(STRATEGIES)
    assert len({it.color for it in nine.values()}) == len({it.marker for it in nine.values()}) == 9


def test_a_look_depends_on_the_set_of_names_and_not_on_their_order() -> None:
    assert looks(["a", "b", "c"]) == looks(["c", "a", "b", "a"])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_labels_never_overlap_and_keep_their_order(wanted: list[float]) -> None:
    places = spread_out(sorted(wanted), STEP)
    assert len(places) == len(wanted)
    assert all(after - before >= STEP - 1e-9 for before, after in pairwise(places))
    assert places[0] >= -1e-9


def test_labels_that_have_room_stay_where_they_belong() -> None:
    assert spread_out([0.2, 0.5, 0.9], STEP) == pytest.approx([0.2, 0.5, 0.9])


def test_a_long_name_keeps_its_beginning_and_its_end_on_one_line() -> None:
    text = shorten("a_name_of_forty_characters\nand_of_two_lines")
    assert text == "a_name_of_forty_chara…wo_lines"
    assert len(text) == 30


def test_only_figures_that_the_run_has_data_for_appear() -> None:
    assert list(pictures(analysed(unmeasured("poll", 1, 0, "failed", "it died")))) == []
    blind = record()
    assert blind.server is not None
    blind.server.metrics.clear()
    assert blind.load is not None
    blind.load.intervals = []
    assert [one.name for one in pictures(analysed(blind))] == ["throughput", "latency"]


def test_the_throughput_figure_has_a_line_for_each_strategy_and_a_tick_for_each_number_of_connections() -> None:
    analysis = analysed(*sweep(repeats=2))
    figure = throughput.draw(throughput.rows(analysis), looks(STRATEGIES))
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "16", "128"]
    assert {text.get_text() for text in axes.texts} - {""} == set(STRATEGIES)
    assert axes.get_ylim()[0] == 0


def test_a_point_that_the_client_limited_is_hollow() -> None:
    analysis = analysed(record("a", 1), record("a", 16, bottleneck="client"))
    (axes,) = throughput.draw(throughput.rows(analysis), looks(["a"])).axes
    faces = {
        (float(line.get_xdata()[0]), line.get_markerfacecolor())
        for line in axes.get_lines()
        if line.get_marker() == "o" and len(line.get_xdata()) == 1 and line.get_transform() == axes.transData
    }
    assert {x for x, face in faces if face == PAPER} == {16}
    assert {x for x, face in faces if face != PAPER} == {1}


def test_a_single_number_of_connections_is_drawn_as_rows_the_fastest_on_top() -> None:
    analysis = analysed(record("slow", rate_hz=10), record("fast", rate_hz=20))
    (axes,) = throughput.draw(throughput.rows(analysis), looks(["slow", "fast"])).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["fast", "slow"]
    assert axes.yaxis_inverted()


def test_each_setting_gets_a_panel_that_says_which_it_is() -> None:
    records = [
        record("a", count, transport=transport, message_bytes=size)
        for count in (1, 16)
        for transport in ("tcp", "unix")
        for size in (64, 4096)
    ]
    analysis = analysed(*records)
    figure = throughput.draw(throughput.rows(analysis), looks(["a"]))
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == [
        "tcp, 64 bytes",
        "tcp, 4,096 bytes",
        "unix, 64 bytes",
        "unix, 4,096 bytes",
    ]
    assert len(latency.draw(latency.rows(analysis), looks(["a"])).axes) == 8


def test_the_latency_figure_has_a_panel_for_each_number_of_connections_in_order() -> None:
    analysis = analysed(*sweep(repeats=1))
    figure = latency.draw(latency.rows(analysis), looks(STRATEGIES))
    assert [axes.get_title() for axes in figure.axes] == ["1 connection", "16 connections", "128 connections"]


def test_a_strategy_without_a_measurement_has_its_row_and_says_so() -> None:
    analysis = analysed(*sweep(repeats=1))
    figure = cpu.draw(cpu.rows(analysis), looks(STRATEGIES))
    assert len(figure.axes[0].get_yticks()) == 9
    for axes, missing in zip(figure.axes, (0, 1, 1), strict=True):
        assert sorted(axes.get_ylim()) == [-0.6, 8.6]
        assert [text.get_text() for text in axes.texts].count("not run") == missing


def test_the_bars_of_a_strategy_add_up_to_its_cpu_time() -> None:
    analysis = analysed(record("a", cpu_us=10, user_share=0.3))
    (axes,) = cpu.draw(cpu.rows(analysis), looks(["a"])).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([3, 7])


def test_the_same_run_gives_the_same_bytes() -> None:
    records = sweep(repeats=2)
    first, second = (list(pictures(analysed(*records))) for _ in range(2))
    assert first == second


def test_an_svg_is_valid_states_no_time_and_stands_alone() -> None:
    for one in pictures(analysed(*sweep(repeats=1))):
        ElementTree.fromstring(one.picture.svg)
        assert "date" not in one.picture.svg.lower(), one.name
        assert "var(--" not in one.picture.svg
        assert one.picture.png.startswith(b"\x89PNG")


def test_inline_figures_take_their_colours_and_fonts_from_the_page_and_share_no_id() -> None:
    ids: list[str] = []
    for inline in (one.picture.inline for one in pictures(analysed(*sweep(repeats=1)))):
        assert not re.search(r"#[0-9a-f]{6}\b", inline), "a colour that no theme can change"
        assert "font-family" not in inline
        assert "<style" not in inline
        own = re.findall(r' id="([^"]+)"', inline)
        used = set(re.findall(r'(?:"#|url\(#)([^")]+)', inline))
        assert used <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_a_strategys_name_is_text_in_the_svg() -> None:
    analysis = analysed(*(record(name, count) for name in ("<script>x</script>", "$a_b$ &") for count in (1, 16)))
    for one in pictures(analysis):
        assert "<script>" not in one.picture.inline
        assert "&lt;script&gt;x&lt;/script&gt;" in one.picture.inline
        assert "$a_b$ &amp;" in one.picture.inline


def test_a_name_that_looks_like_markup_of_the_svg_is_left_as_it_is() -> None:
    name = f' id="x" "#y {THEME["--ink"][0]} font-family: z;'
    for one in pictures(analysed(record(name, 1), record(name, 16))):
        assert shorten(name) in one.picture.inline
        assert shorten(name) in one.picture.svg


@pytest.mark.parametrize("length", [3, 30, 100])
def test_a_legend_fits_the_figure_whatever_the_length_of_its_names(length: int) -> None:
    names = [f"{index:02d}{'n' * length}" for index in range(11)]
    analysis = analysed(*(record(name, count) for name in names for count in (1, 16)))
    figure = latency.draw(latency.rows(analysis), looks(names))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    "plate", [plate for plate in PLATES if plate.name not in OF_OTHER_RUNS], ids=lambda plate: plate.name
)
def test_every_figure_has_a_message_and_is_explained(plate: Plate) -> None:
    analysis = analysed(*sweep(repeats=2), *load_sweep(repeats=1))
    analysis.run.manifest.why = why("epoll_lt", "poll")
    found = plate.rows(analysis)
    assert len(found)
    assert plate.message(analysis, found).endswith(".")
    assert plate.explained(analysis).endswith(".")


def test_what_only_planned_sends_have_is_explained_only_where_there_are_some() -> None:
    (plate,) = [plate for plate in PLATES if plate.name == "latency"]
    assert "planned" in plate.explained(analysed(open_record("poll", 1000, 2000)))
    assert "planned" not in plate.explained(analysed(record()))
