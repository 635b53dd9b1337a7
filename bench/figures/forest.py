"""Effects with their intervals, one below the other: how much worse, how sure, and what could have been found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.figures import points
from bench.figures.style import INK, LINE, PAPER, QUIET, THEME, WIDTH_IN, mark, shorten
from bench.rows import dicts
from bench.words import digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FURTHEST = 4.0  # beyond this ratio an interval is cut off, with an arrow
MARKERS = {"regressed": "D", "ok": "o", "inconclusive": "s", "too noisy": "s", "": "o"}


def draw(effects: pd.DataFrame, what: str = "head by base") -> Figure:
    """Draw a forest plot of `what`.

    A row for each effect: `group` (a heading), `label`, `ratio` with `low` and `high` (95 %), `noise` (the ratio up to
    which it is shaded: what could have been found, or counts as equal; NaN for none), `limit` (the ratio allowed; NaN
    for none), `verdict` ("" where none is given). Above 1 is worse: a ratio of throughputs has been turned round.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    groups = list(dict.fromkeys(effects["group"]))
    lines = len(effects) + len(groups)
    figure = Figure(figsize=(WIDTH_IN, 0.8 + 0.26 * lines))
    axes = figure.subplots()
    reach = min(FURTHEST, max(1.1, 1.1 * float(effects[["high", "limit"]].max().max())))
    lowest = max(1 / FURTHEST, min(0.9, float(effects["low"].min()) / 1.1))
    axes.set_xscale("log")
    axes.set_xlim(lowest, reach)
    ticks: list[float] = []
    names: list[str] = []
    place = 0.0
    for group in groups:
        axes.text(0, place, shorten(group, 70), transform=axes.get_yaxis_transform(), va="center", weight="bold")
        place += 1
        for row in dicts(effects[effects["group"] == group]):
            _effect(axes, row, place, what)
            ticks.append(place)
            names.append(shorten(row["label"], 34))
            place += 1
    axes.axvline(1, color=INK, lw=1)
    axes.set_ylim(place - 0.4, -0.7)
    axes.set_yticks(ticks, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    _percent_axis(axes, lowest, reach)
    turned = ", throughput as its reciprocal" if effects["label"].str.startswith("throughput").any() else ""
    axes.set_xlabel(f"{what}{turned}: right of the line is worse")
    figure.set_layout_engine("constrained")
    return figure


def _effect(axes: Axes, row: Mapping[Any, Any], place: float, what: str) -> None:
    bad = row["verdict"] == "regressed"
    color = THEME["--failed"][0] if bad else INK
    left, right = axes.get_xlim()
    noise = min(row["noise"], right) if row["noise"] == row["noise"] else 1.0
    axes.fill_betweenx([place - 0.38, place + 0.38], max(left, 1 / noise), noise, color=LINE, lw=0)
    if row["limit"] == row["limit"]:
        axes.plot([row["limit"]] * 2, [place - 0.38, place + 0.38], color=QUIET, lw=1.2, ls=(0, (2, 1.2)))
    axes.plot([max(row["low"], left), min(row["high"], right)], [place] * 2, color=color, lw=1.6, solid_capstyle="butt")
    if row["high"] > right:
        axes.plot(right, place, marker=">", color=color, clip_on=False, ms=5)
    sure = row["verdict"] in ("ok", "regressed", "")
    (effect,) = axes.plot(
        min(max(row["ratio"], left), right),
        place,
        marker=MARKERS[row["verdict"]],
        color=color,
        mfc=color if sure else PAPER,
        ms=6,
        mew=1.2,
        clip_on=False,
    )
    mark(effect, says=[_says(row, what)])


def _says(row: Mapping[Any, Any], what: str) -> str:
    return points.lines(
        points.place(row["group"], row["label"]),
        f"{what} {digits(row['ratio'])} (95 % interval {digits(row['low'])} to {digits(row['high'])})",
        row["verdict"],
    )


def _percent_axis(axes: Axes, lowest: float, reach: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415 - slow to import

    steps = [0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 4]
    inside = [step for step in steps if lowest <= step <= reach]
    if reach / lowest > 2:
        inside = [step for step in inside if step not in (0.9, 0.95, 1.05, 1.1)]
    axes.xaxis.set_major_locator(FixedLocator(inside))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _percent(value))


def _percent(ratio: float) -> str:
    return "0 %" if ratio == 1 else f"{100 * (ratio - 1):+.0f} %".replace("-", "\N{MINUS SIGN}")
