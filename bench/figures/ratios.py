"""Every strategy by the best one, or by one that somebody chose: a panel for each metric and place, in tiers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from bench import answer
from bench.analyse import Analysis
from bench.comparisons import Comparison, Standing
from bench.figures import points
from bench.figures.style import (
    LINE,
    PAPER,
    QUIET,
    Look,
    explain,
    mark,
    name_each_row,
    name_panel,
    panels,
    shorten,
)
from bench.metrics import CONTESTED, CPU, Metric
from bench.rows import dicts
from bench.words import digits, exact_percent, joined, quoted, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PLACES = 6
MOST_ROWS = 80  # of one metric
FURTHEST = 20.0  # beyond it a ratio is drawn at the edge, with an arrow
LONGEST = 22  # of a name: each panel has its own
WRITTEN = 0.34  # of a panel's width, for what stands at its right end
# The most ticks that a panel has room for, by how many times the right end of x is the left one.
TICKS = (
    (3.0, (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)),
    (1.6, (0.5, 0.7, 1, 1.4, 2)),
    (0.0, (0.8, 0.9, 1, 1.1, 1.25)),
)
COLUMNS = [
    *("place", "where", "metric", "name", "strategy", "tier", "reference", "chosen", "outcome"),
    *("ratio", "low", "high", "within", "value", "bounds", "said", "ids"),
]

Key = tuple[Any, ...]


def rows(baseline: str) -> Callable[[Analysis], pd.DataFrame]:
    """Return what compares the strategies of each setting with the best one, or with this baseline, by each metric.

    A row for each strategy, setting and metric, in order of the tiers. `reference` is what it is compared with, whose
    own row has the outcome ""; `chosen` whether that is the baseline. `ratio` with `low` and `high` says by what factor
    the best is better than the strategy; of a baseline the other way round, by what factor the strategy is better. The
    outcome is "better" (the strategy is), "worse", "equal" or "undecided". `bounds` are the flags that make it a bound.
    At most MOST_PLACES settings, those of the most connections first, and those alone where the baseline was measured.
    """

    def pick(analysis: Analysis) -> pd.DataFrame:
        found = [
            (comparison, reference)
            for comparison in analysis.comparisons
            if len(comparison.ranking) > 1 and (reference := _reference(comparison, baseline)) is not None
        ]
        places = _places([comparison for comparison, _ in found])
        kept = _kept(places, max((len(comparison.ranking) for comparison, _ in found), default=1))
        groups = [comparison.group for comparison, _ in found]
        ids = _ids(analysis)
        table = [
            row
            for (comparison, reference), place in zip(found, places, strict=True)
            if place in kept
            for row in _rows(comparison, reference, kept.index(place), groups, ids, chosen=bool(baseline))
        ]
        return pd.DataFrame(table, columns=COLUMNS)

    return pick


def _reference(comparison: Comparison, baseline: str) -> Standing | None:
    """The best one, or that of the baseline's which has the best value; None where that was not measured."""
    if not baseline:
        return comparison.best
    return next((one for one in comparison.ranking if one.strategy == baseline), None)


class Place(NamedTuple):
    """Where panels stand: a setting without its connections, these, and the run where several were put together."""

    setting: Key
    connections: int
    run: int


def _places(comparisons: Sequence[Comparison]) -> list[Place]:
    """Give each comparison its place: by each metric a setting comes once, or once for each run."""
    seen: Counter[Key] = Counter()
    places = []
    for comparison in comparisons:
        setting = tuple(value for name, value in comparison.group.items() if name != "connections")
        key = (comparison.metric.name, setting, comparison.group["connections"])
        places.append(Place(setting, comparison.group["connections"], seen[key]))
        seen[key] += 1
    return places


def _kept(places: Sequence[Place], names: int) -> list[Place]:
    """The places that there is room for, in order; of each setting those of the most connections are kept first."""
    there = list(dict.fromkeys(places))
    room = max(1, min(MOST_PLACES, MOST_ROWS // names))
    crowded = {
        one: sum(other.setting == one.setting and other.connections > one.connections for other in there)
        for one in there
    }
    return sorted(sorted(there, key=crowded.__getitem__)[:room], key=there.index)  # stable


def _ids(analysis: Analysis) -> dict[Key, str]:
    """The ids of the good trials, by setting, strategy and interpreter."""
    names = next((list(one.group) for one in analysis.comparisons), [])
    return {
        (*(case[name] for name in names), case["strategy"], case["python"]): case["ids"]
        for case in dicts(analysis.cases)
    }


def _rows(
    comparison: Comparison,
    reference: Standing,
    place: int,
    groups: Sequence[Mapping[str, Any]],
    ids: Mapping[Key, str],
    *,
    chosen: bool,
) -> Iterator[dict[str, Any]]:
    where = title(comparison.group, groups, otherwise=("connections",))
    for one in (it for tier in comparison.tiers for it in tier):
        yield {
            "place": place,
            "where": where,
            "metric": comparison.metric.name,
            "name": one.name,
            "strategy": one.strategy,
            "tier": one.tier,
            "reference": reference.name,
            "chosen": chosen,
            "within": comparison.within,
            "value": answer.value_of(comparison.metric, one),
            "bounds": _bounds(comparison.metric, one),
            "ids": ids.get((*comparison.group.values(), one.strategy, one.python), ""),
            **_by(comparison, one, reference, chosen=chosen),
        }


def _by(comparison: Comparison, one: Standing, reference: Standing, *, chosen: bool) -> dict[str, Any]:
    """How one came out against the reference."""
    if one.name == reference.name:
        return {"outcome": "", "ratio": 1.0, "low": 1.0, "high": 1.0, "said": ""}
    pair = comparison.pair(one.name, reference.name)
    _, outcome = answer.seen_from(pair, one.name)
    better = one.name if chosen else reference.name
    ratio, _ = answer.seen_from(pair, better)
    other = reference.name if chosen else one.name
    said = f"{better} by {other}: {answer.in_words(comparison, pair, better)}"
    return {"outcome": outcome, "ratio": ratio.estimate, "low": ratio.low, "high": ratio.high, "said": said}


def _bounds(metric: Metric, one: Standing) -> str:
    flags = ["client_bound"] if one.client_bound and metric is not CPU else []
    return ", ".join([*flags, *(["censored"] if one.lower_bound else [])])


# --- in words


def message(found: pd.DataFrame) -> str:
    """Say by each metric how many comparisons came out how. Takes what `rows` picks."""
    found = found[found["outcome"] != ""]
    if found.empty:
        return "There is no strategy to compare the others with."
    reference = quoted(found["reference"].iloc[0]) if found["chosen"].iloc[0] else "the best of each panel"
    told = [f"{metric.title}: {_summed_up(found[found['metric'] == metric.name])}" for metric in _metrics(found)]
    return f"By {reference}, {'; '.join(told)}."


def _summed_up(own: pd.DataFrame) -> str:
    words = {
        "better": "better",
        "worse": "worse",
        "equal": f"equal within {exact_percent(own['within'].max())}",
        "undecided": "not decided",
    }
    numbers = {text: int((own["outcome"] == outcome).sum()) for outcome, text in words.items()}
    return joined([f"{number:,} {text}" for text, number in numbers.items() if number])


def _metrics(found: pd.DataFrame) -> list[Metric]:
    there = set(found["metric"])
    return [metric for metric in CONTESTED if metric.name in there]


# --- the figure


def draw(found: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a row of panels for each setting, a column for each metric. Takes what `rows` picks."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import
    from matplotlib.patches import Patch  # noqa: PLC0415

    metrics, places = _metrics(found), sorted(found["place"].unique())
    most = int(found.groupby(["place", "metric"]).size().max())
    figure, axes = panels(len(metrics) * len(places), len(metrics), 0.225 * most + 0.8, one_scale=False)
    reaches = {metric.name: _reach(found[found["metric"] == metric.name]) for metric in metrics}
    free = iter(axes)
    for place in places:
        for metric in metrics:
            panel, own = next(free), found[(found["place"] == place) & (found["metric"] == metric.name)]
            if own.empty:
                panel.set_axis_off()
                continue
            _panel(panel, own, looks, reaches[metric.name], most)
            name_panel(panel, f"{metric.title.removeprefix('server ')}, {own['where'].iloc[0]}", loc="right")
    chosen, reference = bool(found["chosen"].iloc[0]), shorten(str(found["reference"].iloc[0]), 24)
    for panel in axes[-len(metrics) :]:
        panel.set_xlabel(f"times as good as {reference}" if chosen else "times the best is better")
    within = exact_percent(float(found["within"].max()))
    flags = {flag for flags in found["bounds"] for flag in flags.split(", ")}
    sure = ((found["low"] > 0) & (found["outcome"] != "")).any()
    interval = {"limits that hold for a panel together (95 %)": Line2D([], [], color=QUIET, lw=1.6)} if sure else {}
    explain(figure, flags, drawn=interval | {f"equal: within {within}": Patch(fc=LINE, lw=0)})
    return figure


class Reach(NamedTuple):
    """How far x goes: from `left` to `cut` what is measured is drawn, from there to `right` stands what is written."""

    left: float
    cut: float
    right: float


def _reach(found: pd.DataFrame) -> Reach:
    """Go as far as all ratios, and as their limits as long as these are no more than twice as far, within FURTHEST."""
    within = 1 + float(found["within"].max())
    smallest, largest = float(found["ratio"].min()), float(found["ratio"].max())
    known = found[(found["low"] > 0) & (found["high"] < math.inf)]
    low = min(smallest, max(float(known["low"].min()), smallest / 2))
    high = max(largest, min(float(known["high"].max()), largest * 2))
    left = max(min(low, 1 / within) / 1.04, 1 / FURTHEST)
    cut = min(max(high, within**2) * 1.04, FURTHEST)
    return Reach(left, cut, cut * (cut / left) ** (WRITTEN / (1 - WRITTEN)))


def _panel(axes: Axes, found: pd.DataFrame, looks: Mapping[str, Look], reach: Reach, most: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(reach.left, reach.right)
    within = 1 + float(found["within"].max())
    axes.axvspan(1 / within, within, color=LINE, lw=0)
    axes.axvline(1, color=QUIET, lw=1)
    told = dicts(found)
    for y, row in enumerate(told):
        _drawn(axes, y, row, looks[row["strategy"]], reach)
        if y and row["tier"] != told[y - 1]["tier"]:
            axes.axhline(y - 0.5, color=QUIET, lw=0.8, ls=(0, (1, 2)))
    name_each_row(axes, [(row["name"], row["strategy"]) for row in told], most, LONGEST)
    _factors(axes, reach)


def _drawn(axes: Axes, y: int, row: Mapping[Any, Any], look: Look, reach: Reach) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    def drawn(x: list[float], **style: Any) -> Line2D:
        return axes.add_line(Line2D(x, [y] * len(x), color=look.color, **style))

    ends = [min(max(end, reach.left), reach.cut) for end in (row["low"], row["high"])]
    if row["outcome"] and (row["low"] > 0 or math.isfinite(row["high"])):
        mark(drawn(ends, lw=1.6, solid_capstyle="butt"), row["strategy"])
        for end, limit, arrow in zip(ends, (row["low"], row["high"]), "<>", strict=True):
            if end != limit:
                mark(drawn([end], marker=arrow, ms=4, lw=0), row["strategy"])
    at = min(max(row["ratio"], reach.left), reach.cut)
    marker = look.marker if at == row["ratio"] else "<" if at == reach.left else ">"
    point = drawn([at], marker=marker, mfc=PAPER if row["bounds"] else look.color, ms=5.5, mew=1.2, clip_on=False)
    mark(point, row["strategy"], [_says(row)])
    style: dict[str, Any] = {"ha": "right", "va": "center_baseline", "fontsize": 8}
    written = axes.text(0.99, y, _written(row), transform=axes.get_yaxis_transform(), **style)
    written.set_in_layout(False)  # it lies within the axes
    mark(written, row["strategy"])


def _written(row: Mapping[Any, Any]) -> str:
    """How many times one is better, "=" or "?"; the value of the one that the others are compared with."""
    if not row["outcome"]:
        return str(row["value"]).replace(" messages/s", "/s").replace("at least", "≥").replace("at most", "≤")
    return {"equal": "=", "undecided": "?"}.get(row["outcome"], f"{digits(row['ratio'])}×")


def _says(row: Mapping[Any, Any]) -> str:
    return points.lines(
        points.place(row["name"], row["where"]),
        f"{row['value']}, in tier {row['tier']}",
        row["said"],
        points.doubts({"doubts": row["bounds"], "reason": ""}),
        points.trials(row["ids"]),
    )


def _factors(axes: Axes, reach: Reach) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415

    ticks = next(ticks for least, ticks in TICKS if reach.cut / reach.left > least)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if reach.left <= tick <= reach.cut]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
