"""Every strategy by one of them, the baseline: a forest plot for each metric and place, with intervals and noise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import cases, points
from bench.figures.style import (
    INK,
    LINE,
    PAPER,
    QUIET,
    Look,
    explain,
    mark,
    name_panel,
    name_rows,
    panels,
    shorten,
)
from bench.metrics import CONTESTED, CPU, GROUP, RATE, SETTING, Metric
from bench.rows import by_key, dicts
from bench.stats import Interval, equal_within, hodges_lehmann_ratio
from bench.words import digits, percent, quoted, split, title, values_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What most people would write without a library; a run without it is told by the strategy measured in the most places.
USUAL_BASELINE = "thread_per_connection"
MOST_PLACES = 6
MOST_ROWS = 60  # of one metric
FURTHEST = 20.0  # beyond it an effect is drawn at the edge, with an arrow
# The most ticks that a panel has room for, by how many times the right end of x is the left one.
TICKS = (
    (5.0, (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)),
    (1.8, (0.33, 0.5, 0.7, 1, 1.5, 2, 3)),
    (0.0, (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3)),
)
COLUMNS = [
    *GROUP,
    *("metric", "strategy", "baseline", "ratio", "low", "high", "noise", "values", "base_values", "doubts"),
    *("reason", "ids"),
]

Key = tuple[Any, ...]


def usual_baseline(analysis: Analysis) -> str:
    """Give the baseline where none is chosen: USUAL_BASELINE where it was measured in as many places as any other.

    Otherwise the first by name of those measured in the most places. "" where nothing was measured.
    """
    places = Counter(key[-1] for metric in CONTESTED for key in _values(analysis, metric))
    most = [name for name in sorted(places) if places[name] == max(places.values())]
    return USUAL_BASELINE if USUAL_BASELINE in most else most[0] if most else ""


def rows(baseline: str) -> Callable[[Analysis], pd.DataFrame]:
    """Return what compares each strategy with this baseline ("": the usual one), in a row for each metric and place.

    `ratio` says by what factor the strategy is better (Hodges and Lehmann), `low` and `high` are its exact 95 %
    interval, `noise` the factor within which two that are equal would come out (equal_within), `values` and
    `base_values` the medians compared. A strategy without a value in a place has a row with NaN. At most MOST_PLACES
    places, those of the most connections first, and only those where the baseline was measured.
    """

    def pick(analysis: Analysis) -> pd.DataFrame:
        base = baseline or usual_baseline(analysis)
        found: list[dict[str, Any]] = []
        about = _about(analysis)
        strategies = sorted({key[-1] for key in about} - {base})
        for metric in CONTESTED:
            values = _values(analysis, metric)
            for place in sorted(key[:-1] for key in values if key[-1] == base):
                where = dict(zip(GROUP, place, strict=True)) | {"metric": metric.name, "baseline": base}
                for name in strategies:
                    told = about.get((*place, name), {"doubts": "", "reason": "", "ids": ""})
                    effect = _effect(metric, values.get((*place, name), []), values[*place, base])
                    found.append(where | {"strategy": name} | told | effect)
        table = pd.DataFrame(found, columns=COLUMNS)
        if table.empty:
            return table
        return _kept(table[table.groupby(list(GROUP))["ratio"].transform("count") > 0])

    return pick


def _values(analysis: Analysis, metric: Metric) -> dict[Key, list[float]]:
    """The trials' values by place and strategy: of no search, and at no rate that is each strategy's own."""
    trials = analysis.trials
    wanted = (trials[metric.name] > 0) & (trials["slo"] == "") & (trials["load_fraction"] == 0)
    if metric is RATE:
        wanted &= ~trials["planned"].astype(bool)
    return by_key(trials[wanted], [*GROUP, "strategy"], metric.name)


def _about(analysis: Analysis) -> dict[Key, dict[str, Any]]:
    """Doubts, reason and trials of each case, by place and strategy."""
    found = cases.measured(analysis, *(metric.name for metric in CONTESTED))
    return {
        (*(row[name] for name in GROUP), row["strategy"]): {name: row[name] for name in ("doubts", "reason", "ids")}
        for row in dicts(found[found["load_fraction"] == 0])
    }


def _effect(metric: Metric, own: list[float], base: list[float]) -> dict[str, Any]:
    if not own:
        return dict.fromkeys(("ratio", "low", "high", "noise", "values", "base_values"), math.nan)
    better = (own, base) if metric.higher_is_better else (base, own)
    effect = hodges_lehmann_ratio(*better)
    return {
        "ratio": effect.estimate,
        "low": effect.low,
        "high": effect.high,
        "noise": equal_within(own, base),
        "values": median(own),
        "base_values": median(base),
    }


def _kept(table: pd.DataFrame) -> pd.DataFrame:
    """The places that there is room for: of each setting that of the most connections, then that of the next fewer."""
    if table.empty:
        return table
    places = table[list(GROUP)].drop_duplicates()
    rank = places.groupby(list(SETTING))["connections"].rank(ascending=False)
    room = max(1, min(MOST_PLACES, MOST_ROWS // table["strategy"].nunique()))
    kept = places.loc[rank.sort_values(kind="stable").index[:room]]
    return table.merge(kept, on=list(GROUP))


def message(found: pd.DataFrame) -> str:
    """Say by each metric how many comparisons with the baseline came out how, and which is the best.

    Takes what `rows` picks.
    """
    found = found[found["ratio"].notna()]
    if found.empty:
        return "There is no strategy to compare the others with."
    base = quoted(found["baseline"].iloc[0])
    return f"By {base}, {'; '.join(_summed_up(found, metric) for metric in _metrics(found))}."


def _summed_up(found: pd.DataFrame, metric: Metric) -> str:
    own = found[found["metric"] == metric.name]
    better, worse = int((own["low"] > 1).sum()), int((own["high"] < 1).sum())
    few = int((own["low"] == 0).sum())
    numbers = {
        "better": better,
        "worse": worse,
        "not told apart": len(own) - better - worse - few,
        "with too few repeats to tell": few,
    }
    parts = [f"{number:,} {text}" for text, number in numbers.items() if number]
    best = own.sort_values("ratio", kind="stable").iloc[-1]
    by = f" (at best {quoted(best['strategy'])}, {digits(best['ratio'])} times as good)" if best["ratio"] > 1 else ""
    return f"{metric.title}: {', '.join(parts)}{by}"


def _metrics(found: pd.DataFrame) -> list[Metric]:
    there = set(found[found["ratio"].notna()]["metric"])
    return [metric for metric in CONTESTED if metric.name in there]


def draw(found: pd.DataFrame, _: Mapping[str, Look]) -> Figure:
    """Draw a row of panels for each place, a column for each metric. Takes what `rows` picks."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import
    from matplotlib.patches import Patch  # noqa: PLC0415

    metrics, places = _metrics(found), split(found, GROUP)
    first = found[found["metric"] == metrics[0].name].groupby("strategy")["ratio"].median()
    names = list(found.groupby("strategy")["ratio"].median().index)
    names.sort(key=lambda name: (-first.get(name, math.nan) if first.get(name) == first.get(name) else math.inf, name))
    figure, axes = panels(len(metrics) * len(places), len(metrics), 0.235 * len(names) + 0.85, one_scale=False)
    reaches = {metric.name: _reach(found[found["metric"] == metric.name]) for metric in metrics}
    told = set()
    for at, (place, own) in enumerate(places):
        where = title(place, [other for other, _ in places], otherwise=("connections",))
        for panel, metric in zip(axes[at * len(metrics) :], metrics, strict=False):
            shown = own[own["metric"] == metric.name]
            told |= _panel(panel, shown.assign(where=where), names, metric, reaches[metric.name])
            name_panel(panel, f"{metric.title.removeprefix('server ')}, {where}")
    base = shorten(str(found["baseline"].iloc[0]), 24)
    for panel in axes[-len(metrics) :]:
        panel.set_xlabel(f"times as good as {base}")
    drawn: dict[str, Artist] = {}
    if (found["low"] > 0).any():
        drawn["95 % interval of the factor"] = Line2D([], [], color=INK, lw=1.6)
    if found["noise"].notna().any():
        drawn["noise: two equal ones would come out within (95 %)"] = Patch(fc=LINE, lw=0)
    explain(figure, told, drawn=drawn)
    return figure


def _reach(found: pd.DataFrame) -> tuple[float, float]:
    """How far x goes: as far as the effects, and a little of their intervals, within FURTHEST."""
    low = min(0.95, float(found["ratio"].min()) / 1.15)
    high = max(1.05, float(found["ratio"].max()) * 1.15)
    return max(low, 1 / FURTHEST), min(high, FURTHEST)


def _panel(axes: Axes, found: pd.DataFrame, names: list[str], metric: Metric, reach: tuple[float, float]) -> set[str]:
    """Draw one forest; give the reasons for what is hollow in it."""
    axes.set_xscale("log")
    axes.set_xlim(*reach)
    axes.axvline(1, color=QUIET, lw=1)
    there = {row["strategy"]: row for row in dicts(found)}
    told: set[str] = set()
    for y, name in enumerate(names):
        row = there.get(name)
        if row is None or math.isnan(row["ratio"]):
            text = (row["doubts"] if row else "") or ("not measured" if there else "–")
            written = axes.text(0.02, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
            written.set_color(QUIET)
            mark(written, name)
        else:
            told |= _drawn(axes, y, row, metric)
    name_rows(axes, names)
    _factors(axes, reach)
    return told


def _drawn(axes: Axes, y: float, row: Mapping[Any, Any], metric: Metric) -> set[str]:
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    left, right = axes.get_xlim()
    sure = math.isfinite(row["high"]) and row["low"] > 0
    reasons = {flag for flag in row["doubts"].split(", ") if flag and metric is not CPU}
    reasons |= set() if sure else {"few_repeats"}
    if not math.isnan(row["noise"]):
        low, high = max(left, 1 / row["noise"]), min(right, row["noise"])
        noise = axes.add_patch(Rectangle((low, y - 0.39), high - low, 0.78, color=LINE, lw=0))
        mark(noise, row["strategy"])
    if sure:
        ends = [min(max(end, left), right) for end in (row["low"], row["high"])]
        interval = axes.add_line(Line2D(ends, [y, y], color=INK, lw=1.6, solid_capstyle="butt"))
        mark(interval, row["strategy"])
    at = min(max(row["ratio"], left), right)
    marker = "o" if at == row["ratio"] else "<" if at == left else ">"
    face = PAPER if reasons else INK
    effect = axes.add_line(Line2D([at], [y], marker=marker, color=INK, mfc=face, ms=5, mew=1.2, clip_on=False))
    mark(effect, row["strategy"], [_says(row, metric)])
    return reasons


def _says(row: Mapping[Any, Any], metric: Metric) -> str:
    effect = Interval(row["ratio"], row["low"], row["high"], 0.95)
    sure = f"(95 % interval {digits(effect.low)} to {digits(effect.high)})" if math.isfinite(effect.high) else ""
    medians = values_text(metric, [row["values"], row["base_values"]]).replace(" and ", ", the baseline ")
    return points.lines(
        points.place(row["strategy"], row["where"]),
        f"{metric.title}: {digits(effect.estimate)} times as good as {row['baseline']} {sure}".rstrip(),
        medians,
        "" if math.isnan(row["noise"]) else f"two equal ones would come out within {percent(row['noise'] - 1)}",
        "" if sure else "too few repeats for an interval",
        points.doubts(row),
        points.trials(row["ids"]),
    )


def _factors(axes: Axes, reach: tuple[float, float]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415

    ticks = next(ticks for least, ticks in TICKS if reach[1] / reach[0] > least)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if reach[0] <= tick <= reach[1]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
