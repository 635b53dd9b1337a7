"""What a message costs the kernel: system calls by name, CPU time and context switches, stacked, a panel a burst."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench.analyse import Analysis
from bench.figures import points
from bench.figures.style import INK, QUIET, SERIES, SYSTEM, USER, Look, mark, name_panel, name_rows, panels
from bench.why.counts import SWITCHES_INVOLUNTARY, SWITCHES_VOLUNTARY, Counts, Point, calls, cpu_parts_ns, metric, total
from bench.why.files import understood
from bench.why.words import TOLD, number, who

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["strategy", "of", "burst", "part", "value"]  # strategy: with its transport; of: the strategy alone
REST = "other"
MOST_PARTS = 8
CUT_ABOVE = 10.0  # a bar so much longer than the next one is drawn shorter, in proportion

Parts = Callable[[Point], dict[str, float]]


def system_calls(point: Point) -> dict[str, float]:
    """By name."""
    return {name: value for name, value in calls(point).items() if value >= TOLD}


def cpu_time(point: Point) -> dict[str, float]:
    """User and system, in microseconds."""
    parts = cpu_parts_ns(point)
    return dict(zip(("user", "kernel"), (part / 1000 for part in parts), strict=True)) if parts else {}


def switches(point: Point) -> dict[str, float]:
    """Voluntary ones, which are sleeps, and involuntary ones."""
    found = {"voluntary": metric(point, SWITCHES_VOLUNTARY), "involuntary": metric(point, SWITCHES_INVOLUNTARY)}
    return {name: value for name, value in found.items() if value is not None}


def rows(parts: Parts) -> Callable[[Analysis], pd.DataFrame]:
    """Return what picks one kind of counts: a row for each part of a strategy's message, at each burst."""

    def pick(analysis: Analysis) -> pd.DataFrame:
        found = [
            (who(counts), counts.strategy, point.burst, part, value)
            for counts in understood(analysis.run.manifest.why)
            for point in counts.points
            for part, value in parts(point).items()
        ]
        return pd.DataFrame(found, columns=COLUMNS)

    return pick


def draw(
    found: pd.DataFrame,
    looks: Mapping[str, Look],
    *,
    unit: str,
    colors: Mapping[str, str] | None = None,
    to_scale: bool = False,
) -> Figure:
    """Draw stacked bars, the shortest at the largest burst on top. Takes what `rows` picks."""
    from matplotlib.patches import Patch  # noqa: PLC0415

    found = found.assign(part=_named(found))
    palette = colors or _palette(found)
    bursts = sorted(found["burst"].unique())
    sums = found.groupby(["strategy", "burst"])["value"].sum().unstack()
    names = list(sums.sort_values(bursts[-1:], na_position="last").index)
    of = dict(zip(found["strategy"], found["of"], strict=True))
    below_in = 0.3 + 0.2 * (len(palette) > 6)
    figure, axes = panels(len(bursts), 3, 0.26 * len(names) + 0.75, below_in, one_scale=False)
    for panel, burst in zip(axes, bursts, strict=True):
        own = found[found["burst"] == burst]
        lengths = own.groupby("strategy")["value"].sum()
        where = "1 message a wake-up" if burst == 1 else f"{burst:,} messages a wake-up"
        longest = float(lengths.max()) if to_scale else _widest(sorted(lengths))
        for y, name in enumerate(names):
            parts = own[own["strategy"] == name].groupby("part")["value"].sum()
            for artist in _bar(panel, y, parts, palette, max(longest, 1e-9)):
                mark(artist, of[name], [points.lines(points.place(name, where), _says(parts, unit))])
        name_rows(panel, names, of)
        panel.set_xlim(0, max(longest, 1e-9) * 1.24)
        name_panel(panel, where)
        panel.set_xlabel(unit)
    handles = [Patch(fc=color, lw=0, label=part) for part, color in palette.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    return figure


def _bar(axes: Axes, y: int, parts: pd.Series[float], palette: Mapping[str, str], widest: float) -> Iterator[Artist]:
    """Draw one strategy's parts and their sum; give what was drawn."""
    if parts.empty:
        yield axes.text(widest * 0.015, y, "not counted", va="center", fontsize=8.5, color=QUIET)
        return
    total = float(parts.sum())
    left, scale = 0.0, min(1.0, widest / max(total, 1e-9))
    for part, color in palette.items():
        width = parts.get(part, 0.0) * scale
        yield from axes.barh(y, width, 0.68, left=left, color=color)
        left += width
    text = f"{'… ' if scale < 1 else ''}{number(total)}"
    yield axes.text(left + widest * 0.025, y, text, va="center", fontsize=8.5, color=INK)


def _says(parts: pd.Series[float], unit: str) -> str:
    told = [f"{part} {number(value)}" for part, value in parts.sort_values(ascending=False).items()]
    return f"{number(float(parts.sum()))} {unit}: {', '.join(told)}" if told else "not counted"


def _widest(lengths: Sequence[float]) -> float:
    """The longest bar that is drawn to scale: one that would flatten all others is not."""
    kept = list(lengths)
    while len(kept) > 1 and kept[-1] > CUT_ABOVE * kept[-2]:
        kept.pop()
    return kept[-1] if len(kept) == len(lengths) else kept[-1] * 1.5


def _named(found: pd.DataFrame) -> pd.Series[str]:
    """The parts, with all but the largest ones as "other"."""
    largest = found.groupby("part")["value"].max().sort_values(ascending=False)
    kept = [part for part in largest.index if part != REST][:MOST_PARTS]
    return found["part"].where(found["part"].isin(kept), REST)


def _palette(found: pd.DataFrame) -> dict[str, str]:
    parts = found.groupby("part")["value"].max().sort_values(ascending=False)
    named = [str(part) for part in parts.index if part != REST]
    palette = dict(zip(named, SERIES, strict=False))
    return palette | ({REST: QUIET} if REST in parts.index else {})


draw_calls = partial(draw, unit="system calls per message")
draw_time = partial(draw, unit="µs per message", colors={"user": USER, "kernel": SYSTEM})
draw_switches = partial(
    draw,
    unit="switches per message",
    colors={"voluntary": SERIES[3], "involuntary": SERIES[4]},
    to_scale=True,
)


def calls_message(analysis: Analysis) -> str:
    """Name the fewest and the most system calls at the largest burst that all have."""
    return _range(understood(analysis.run.manifest.why), total, "system calls for a message")


def time_message(analysis: Analysis) -> str:
    """Name the least and the most CPU time."""
    return _range(
        understood(analysis.run.manifest.why),
        lambda point: sum(cpu_time(point).values()) or None,
        "µs of CPU for a message",
    )


def switches_message(analysis: Analysis) -> str:
    """Name the fewest and the most switches."""
    return _range(
        understood(analysis.run.manifest.why),
        lambda point: sum(switches(point).values()) if switches(point) else None,
        "context switches for a message",
    )


def _range(all_counts: Sequence[Counts], figure: Callable[[Point], float | None], what: str) -> str:
    burst = max((point.burst for counts in all_counts for point in counts.points if point.passes), default=1)
    found = [
        (value, who(counts))
        for counts in all_counts
        for point in counts.points
        if point.burst == burst and point.passes and (value := figure(point)) is not None
    ]
    if not found:
        return "It was not counted."
    (low, least), (high, most) = min(found), max(found)
    at = "at one message a wake-up" if burst == 1 else f"at {burst:,} messages a wake-up"
    if len(found) == 1:
        return f"`{least}`: {number(low)} {what} {at}."
    return f"From {number(low)} (`{least}`) to {number(high)} (`{most}`) {what} {at}."
