"""Figures of many panels: measured once, laid out as if each had been measured anew, named at the left alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from synthetic import STRATEGIES, manifest, sweep

from bench.analyse import Analysis, analyse
from bench.figures import cpu, latency, panel, ratios, response
from bench.figures.style import RC, looks, panels
from bench.record import Run

PIXELS = 3.0
DRAWN: dict[str, Callable[[Analysis], Figure]] = {
    "latency": lambda analysis: latency.draw(latency.rows(analysis), looks(STRATEGIES)),
    "response": lambda analysis: response.draw(response.rows(analysis), looks(STRATEGIES)),
    "ratios": lambda analysis: ratios.draw(ratios.rows("")(analysis), looks(STRATEGIES)),
    "cpu": lambda analysis: cpu.draw(cpu.rows(analysis), looks(STRATEGIES)),
}


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(Run(folder=Path("run"), manifest=manifest(list(STRATEGIES)), records=sweep(repeats=5)))


def laid_out(figure: Figure) -> Figure:
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine(None)
    return figure


def edges(figure: Figure) -> list[float]:
    return [edge for axes in figure.axes for edge in axes.bbox.extents]


@pytest.mark.parametrize("name", DRAWN)
def test_panels_lie_where_plain_axes_would(name: str, analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    with mpl.rc_context(RC):
        ours = edges(laid_out(DRAWN[name](analysis)))
        monkeypatch.setattr(panel, "Panel", Axes)
        assert ours == pytest.approx(edges(laid_out(DRAWN[name](analysis))), abs=PIXELS)


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_that_a_panel_says_lies_over_another_panel_or_outside(name: str, analysis: Analysis) -> None:
    with mpl.rc_context(RC):
        figure = laid_out(DRAWN[name](analysis))
        boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert all(box is not None for box in boxes)
    for at, box in enumerate(boxes):
        assert box is not None
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[at + 1 :] if other is not None)


def test_a_label_keeps_its_distance_from_the_panel_at_any_size_and_resolution(analysis: Analysis) -> None:
    with mpl.rc_context(RC):
        figure = laid_out(DRAWN["latency"](analysis))
        first = figure.axes[0]
        for dpi in (72, 160):
            figure.set_dpi(dpi)
            renderer = FigureCanvasAgg(figure).get_renderer()
            for axis, ticks in ((first.xaxis, first.get_xticklabels()), (first.yaxis, first.get_yticklabels())):
                box = axis.label.get_window_extent(renderer)
                shown = [tick.get_window_extent(renderer) for tick in ticks if tick.get_text()]
                assert shown
                away = min(one.y0 - box.y1 if axis is first.xaxis else one.x0 - box.x1 for one in shown)
                assert 0 < away < 10 * dpi / 72


def test_a_panel_is_measured_once_however_often_it_is_laid_out(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Axes] = []
    whole = Axes.get_tightbbox

    def counted(self: Axes, *args: object, **named: object) -> object:
        measured.append(self)
        return whole(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "get_tightbbox", counted)
    with mpl.rc_context(RC):
        figure = laid_out(DRAWN["latency"](analysis))
    assert len(measured) == len(figure.axes) == 3


def test_rows_are_named_at_the_left_alone_and_are_the_same_in_all_panels(analysis: Analysis) -> None:
    figure = DRAWN["cpu"](analysis)
    for axes in figure.axes:
        spec = axes.get_subplotspec()
        assert spec is not None
        assert bool([text.get_text() for text in axes.get_yticklabels()]) == spec.is_first_col()
    assert all(one.get_ylim() == other.get_ylim() for one, other in pairwise(figure.axes))


def test_rows_of_a_panels_own_are_named_in_each_and_as_high_in_all(analysis: Analysis) -> None:
    figure = DRAWN["ratios"](analysis)
    assert all([text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes)
    assert all(one.get_ylim() == other.get_ylim() for one, other in pairwise(figure.axes))


def test_a_single_panel_is_plain_axes_for_its_texts_may_stand_anywhere() -> None:
    _, (alone,) = panels(1, 1, 3.0)
    _, several = panels(2, 2, 3.0)
    assert type(alone) is Axes
    assert all(type(axes) is panel.Panel for axes in several)
