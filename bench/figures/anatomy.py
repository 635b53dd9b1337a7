"""The anatomy of one echo: a panel a strategy, in it a lane for the client and one for each thread of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.anatomy.steps import Anatomy, Step, calls, lanes, meaning, read_anatomies, span, user_us
from bench.figures import points
from bench.figures.style import INK, LINE, QUIET, SYSTEM, USER, WIDTH_IN, Look, label, mark, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

LANE_IN, AROUND_IN, LINE_IN = 0.27, 0.85, 0.15
THICK = 0.56
NO_BREAK = "\u00a0"
HOW_TO_READ = (
    "From left to right, one echo: the client sends at 0, the server wakes up, and sleeps again at the end. Orange is "
    "time in a system call, blue between two, hatched asleep; numbers are those of the list above each timeline. All "
    "was run under strace, which stops every call twice: the number and the order of the calls count, not the times."
)


def rows(values: Mapping[str, Any] | None) -> pd.DataFrame:
    """Give a row for each anatomy of an anatomy.json that can be drawn."""
    return pd.DataFrame({"anatomy": [one for one in read_anatomies(values) if one.status == "ok" and one.steps]})


def message(table: pd.DataFrame) -> str:
    """Say which strategy takes the fewest calls for an echo, and which the most. Takes what `rows` gives."""
    found = [(calls(one), one.strategy) for one in table["anatomy"] if one.woke_us is not None]
    if not found:
        return "No server slept."
    ends = [f"`{name}` {word}, {count}" for (count, name), word in ((min(found), "fewest"), (max(found), "most"))]
    return f"System calls of one echo: {'; '.join(ends)}."


def draw(table: pd.DataFrame, _: Mapping[str, Look]) -> Figure:
    """Draw what `rows` gives."""
    return draw_all(list(table["anatomy"]))


def draw_all(anatomies: Sequence[Anatomy]) -> Figure:
    """Draw small multiples, two side by side; each on its own scale, as the lengths under strace say little."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    drawable = [one for one in anatomies if one.status == "ok" and one.steps]
    columns = min(2, len(drawable)) or 1
    listed = [fill(_listed(one), 150 // columns) for one in drawable]
    needed = [
        AROUND_IN + LANE_IN * (1 + len(lanes(one))) + LINE_IN * text.count("\n")
        for one, text in zip(drawable, listed, strict=True)
    ]
    heights = [max(needed[at : at + columns]) for at in range(0, len(needed), columns)] or [1.0]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.4))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.08, wspace=0.04, hspace=0.03))
    grid = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    panels = list(grid.ravel())
    for unused in panels[len(drawable) :]:
        unused.remove()
    for axes, one, text in zip(panels, drawable, listed, strict=False):
        _panel(axes, one, text, columns)
    for axes in panels[max(0, len(drawable) - columns) : len(drawable)]:
        axes.set_xlabel("µs after the client began to send, under strace")
    handles = [
        Patch(fc=SYSTEM, lw=0, label="in a system call"),
        Patch(fc=USER, lw=0, label="between calls"),
        Patch(fc="none", ec=QUIET, hatch="////", lw=0.5, label="asleep in a call"),
        Patch(fc=INK, lw=0, label="client"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _listed(one: Anatomy) -> str:
    counted = [f"{step.name} {step.times:,}×" if step.times > 1 else step.name for step in one.steps]
    return " · ".join(f"{number} {text}".replace(" ", NO_BREAK) for number, text in enumerate(counted, 1))


def _panel(axes: Axes, one: Anatomy, listed: str, columns: int) -> None:
    left, right = span(one)
    who = {name: place for place, name in enumerate(lanes(one), 1)}
    axes.barh(0, one.send_took_us, THICK, color=INK)
    axes.plot(one.received_us, 0, marker="D", ms=5, color=INK)
    axes.axvline(0, color=LINE, lw=0.8, zorder=0)
    ended: dict[str, float] = {}
    numbered = dict.fromkeys(who, left)  # where the last number of a lane ends
    digit = (right - left) * 0.011 * columns
    for number, (step, user) in enumerate(zip(one.steps, user_us(one.steps), strict=True), 1):
        y = who[step.who]
        start, end = max(left, step.at_us), min(right, right if step.end_us is None else step.end_us)
        if user is not None and step.who in ended:
            between = axes.barh(y, start - ended[step.who], THICK * 0.35, left=ended[step.who], color=USER)
            mark(between[0], one.strategy, [f"{one.strategy}\nbetween two calls: {user:,.0f} µs"])
        ended[step.who] = end
        mark(_bar(axes, y, start, end, step), one.strategy, [_says(one, number, step)])
        middle, half = (start + end) / 2, digit * len(str(number)) / 2
        if middle - half >= numbered[step.who]:
            style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": INK}
            mark(axes.text(middle, y - THICK / 2 - 0.02, str(number), **style), one.strategy)
            numbered[step.who] = middle + half
    if one.woke_us is not None:
        axes.axvline(one.woke_us, color=QUIET, lw=0.8, ls=(0, (2, 2)), zorder=0)
    axes.set_yticks(range(len(who) + 1), ["client", *who])
    axes.set_ylim(len(who) + 0.5, -0.6)
    axes.set_xlim(left, right)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.annotate(
        listed, (0, 1), xytext=(0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=7, color=QUIET
    )
    label(
        axes.set_title(f"{shorten(one.strategy)}, {one.transport}", pad=6 + 10.5 * (1 + listed.count("\n"))),
        one.strategy,
    )


def _bar(axes: Axes, y: float, start: float, end: float, step: Step) -> Rectangle:
    style: dict[str, Any] = {"color": SYSTEM}
    if step.slept:
        style = {"color": "none", "edgecolor": QUIET, "hatch": "////", "linewidth": 0.5}
    bar: Rectangle = axes.barh(y, end - start, THICK, left=start, **style)[0]
    return bar


def _says(one: Anatomy, number: int, step: Step) -> str:
    times = f" {step.times:,} times" if step.times > 1 else ""
    took = "" if step.took_us is None else f", {step.took_us:,.0f} µs in the call"
    return points.lines(
        points.place(one.strategy, f"step {number}"),
        f"{step.who}: {step.name}{times}{took}",
        meaning(step),
    )
