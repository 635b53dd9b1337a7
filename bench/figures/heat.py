"""The whole run at a glance: a row a strategy, a column for each number of connections and message size, cells coloured
by the ratio to the highest of their column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import cases, points
from bench.figures.style import HOLLOW, INK, QUIET, USER, WIDTH_IN, Look, explain, label, mark, shorten
from bench.metrics import GROUP, RATE, SETTING
from bench.rows import dicts
from bench.words import counted, percent, quoted, split, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS = 18  # side by side; more go below
LEAST_COLUMNS = 5  # that a row has room for, so that few do not become bars
GAP = 0.3  # between settings, in columns
WIDE = 9  # up to so many columns, words in cells are written out
ROW_IN = 0.235
STEPS = (1.0, 0.75, 0.5, 0.25, 0.1)  # of the key


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick throughputs, with `ratio`: to the highest of the same setting and connections. Nothing of one strategy."""
    found = cases.measured(analysis, RATE.name, planned=False)
    if found[found["value"].notna()]["strategy"].nunique() < 2:
        return found[:0].assign(ratio=[])
    return found.assign(ratio=found["value"] / found.groupby(list(GROUP))["value"].transform("max"))


def message(found: pd.DataFrame) -> str:
    """Say how far below the highest of its column any value is. Takes what `rows` picks."""
    known = found[found["value"].notna()]
    if known.empty:
        return "No two strategies were measured."
    least = known.sort_values(["ratio", "strategy"], kind="stable").iloc[0]
    where = counted(least["connections"], "connection")
    return (
        f"The furthest below the highest of its column is {quoted(least['strategy'])} with {where}: at "
        f"{percent(least['ratio'])} of it."
    )


@dataclass(frozen=True)
class Block:
    """The columns of one setting."""

    title: str
    counts: tuple[int, ...]  # of connections
    rows: pd.DataFrame


def draw(found: pd.DataFrame, _: Mapping[str, Look]) -> Figure:
    """Draw the cells, the best strategies on top. Takes what `rows` picks; the colours are those of ratios."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    names = _ranked(found)
    bands = _bands(_blocks(found))
    heights = [ROW_IN * len(names) + 0.55 + 0.16 * _header_lines(band) for band in bands]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.3))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.08, hspace=0.04))
    grid = figure.subplots(len(bands), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, band in zip(grid.ravel(), bands, strict=True):
        _band(axes, band, names)
    explain(figure, cases.reasons(found) & HOLLOW.keys(), shape="s")
    _key(figure)
    return figure


def _ranked(found: pd.DataFrame) -> list[str]:
    """By the mean of their ratios; those without any last."""
    means = found.groupby("strategy")["ratio"].mean()
    return [str(name) for name in means.sort_values(ascending=False, na_position="last", kind="stable").index]


def _blocks(found: pd.DataFrame) -> list[Block]:
    settings = split(found, SETTING)
    return [
        Block(
            title(setting, [other for other, _ in settings], otherwise=("message_bytes",)),
            tuple(sorted(rows["connections"].unique())),
            rows,
        )
        for setting, rows in settings
        if rows["value"].notna().any()
    ]


def _bands(blocks: Sequence[Block]) -> list[list[Block]]:
    """Set blocks side by side as long as there is room."""
    bands: list[list[Block]] = [[]]
    for block in blocks:
        if bands[-1] and sum(len(one.counts) for one in bands[-1]) + len(block.counts) > MOST_COLUMNS:
            bands.append([])
        bands[-1].append(block)
    return bands


def _header(block: Block, columns: int) -> str:
    """The block's title, in lines as long as its columns are wide."""
    return fill(block.title, max(7, int(len(block.counts) * 95 / max(columns, LEAST_COLUMNS)) - 1))


def _header_lines(band: Sequence[Block]) -> int:
    columns = sum(len(block.counts) for block in band)
    return max(_header(block, columns).count("\n") + 1 for block in band)


def _band(axes: Axes, band: Sequence[Block], names: Sequence[str]) -> None:
    columns = sum(len(block.counts) for block in band)
    ticks: list[tuple[float, int]] = []
    left = 0.0
    for block in band:
        places = {count: left + at for at, count in enumerate(block.counts)}
        _cells(axes, block, places, names, columns)
        axes.annotate(
            _header(block, columns),
            (left + (len(places) - 1) / 2, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 19),
            textcoords="offset points",
            ha="center",
            va="bottom",
        )
        ticks += [(place, count) for count, place in places.items()]
        left += len(places) + GAP
    axes.set_xlim(-0.5, max(left - GAP, LEAST_COLUMNS) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks([place for place, _ in ticks], [f"{count:,}" for _, count in ticks])
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    for text, name in zip(axes.get_yticklabels(), names, strict=True):
        label(text, name)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelsize=9.5 if columns <= MOST_COLUMNS else 7)
    axes.set_xlabel("messages/s, by connections", loc="left")
    axes.xaxis.set_label_position("bottom")
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _cells(axes: Axes, block: Block, places: Mapping[int, float], names: Sequence[str], columns: int) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    size = 9 if columns <= WIDE else 8 if columns <= 12 else 7 if columns <= MOST_COLUMNS else 5.5
    there = {(row["strategy"], row["connections"]): row for row in dicts(block.rows)}
    for y, name in enumerate(names):
        for count, x in places.items():
            row = there.get((name, count))
            text, style = _text(row, columns > WIDE)
            if row is not None:
                cell = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, **_filled(row))
                mark(cell, name, [_says(row, block.title)])
                axes.add_patch(cell).set_in_layout(False)
            written = axes.text(x, y, text, ha="center", va="center_baseline", fontsize=size, **style)
            written.set_in_layout(False)  # it lies within the axes: not asking makes the layout faster
            mark(written, name)


def _filled(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The look of a cell: pale where it has no value, a frame alone where its value is not to be taken as it stands."""
    if math.isnan(row["value"]):
        return {"color": QUIET, "alpha": 0.1, "linewidth": 0}
    if row["doubts"]:
        return {"fill": False, "edgecolor": USER, "linewidth": 1.3}
    return {"color": USER, "alpha": _alpha(row["ratio"]), "linewidth": 0}


def _alpha(ratio: float) -> float:
    """Never so dark that ink could not be read on it, in either theme."""
    return 0.04 + 0.51 * ratio


def _text(row: Mapping[Any, Any] | None, narrow: bool) -> tuple[str, dict[str, Any]]:
    if row is None:
        return "–" if narrow else "not run", {"color": QUIET}
    if math.isnan(row["value"]):
        return {"unavailable": "unavail."}.get(row["doubts"], row["doubts"]) if narrow else row["doubts"], {
            "color": QUIET,
            "style": "italic",
        }
    bound = "≥ " if row["lower_bound"] and not narrow else ""
    return bound + short(row["value"]), {"color": INK, "weight": "bold" if row["ratio"] == 1 else "normal"}


def short(value: float) -> str:
    """Write a number in five characters at most: 941, 9.41k, 94.1k, 941k, 1.23M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}" if value < 999.5 * size else f"{value / size:.0f}{unit}"
    return f"{value:.3g}"


def _says(row: Mapping[Any, Any], where: str) -> str:
    known = not math.isnan(row["value"])
    best = "the highest" if row["ratio"] == 1 else f"{percent(row['ratio'])} of the highest" if known else ""
    return points.lines(
        points.place(row["strategy"], counted(row["connections"], "connection"), where),
        *([points.estimated(RATE, row), f"{best} of its column"] if known else []),
        points.doubts(row),
        points.trials(row["ids"]),
    )


def _key(figure: Figure) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles = [
        Patch(fc=USER, alpha=_alpha(step), lw=0, label="the highest" if step == 1 else f"{percent(step)} of it")
        for step in STEPS
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
