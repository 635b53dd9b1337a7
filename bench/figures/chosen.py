"""Single trials that somebody asked for: throughput in each interval of the window, a panel a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.errors import BadInputError, did_you_mean
from bench.figures import points
from bench.figures.style import INK, PAPER, QUIET, Look, explain, mark, name_panel, panels, plain_numbers, shorten
from bench.histograms import decode, quantiles_us
from bench.record import Record
from bench.rows import dicts
from bench.words import case_title, counted, digits, duration_text, joined, quoted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NEAR = 3
COLUMNS = ["id", "strategy", "title", "flags", "from_s", "to_s", "rate_hz", "p50_us", "p99_us"]


@dataclass(frozen=True)
class Chosen:
    """What somebody asked of the figures: the strategy that the others are compared with, and trials by their ids."""

    baseline: str = ""  # the usual one
    trials: tuple[str, ...] = ()


def choose(analysis: Analysis, baseline: str = "", trials: Sequence[str] = ()) -> Chosen:
    """Find what was asked for in a run; of an id its beginning will do. Raises BadInputError."""
    measured = sorted(analysis.estimates["strategy"].unique())
    if baseline and baseline not in measured:
        run = baseline in set(analysis.trials["strategy"])
        what = "has no good trial in this run" if run else f"is not in this run{did_you_mean(baseline, measured)}"
        raise BadInputError(f"The strategy {baseline!r} {what}.", _one_of(measured))
    by_id = {record.id: record for record in analysis.run.records}
    return Chosen(baseline, tuple(dict.fromkeys(_found(id_, by_id).id for id_ in trials)))


def _one_of(measured: Sequence[str]) -> str:
    return f"--baseline with one of: {', '.join(measured)}" if measured else "iobench sweep makes a run with results"


def _found(wanted: str, by_id: Mapping[str, Record]) -> Record:
    matching = [id_ for id_ in by_id if wanted and id_.startswith(wanted.lower())]
    if len(matching) != 1:
        near = sorted(matching)[:MOST_NEAR] or get_close_matches(wanted, by_id, n=MOST_NEAR, cutoff=0.5)
        what = f"The trial id {wanted!r} is that of {len(matching):,} trials" if matching else f"No trial is {wanted!r}"
        told = "; ".join(f"{id_} is {case_title(by_id[id_].trial)}, repeat {by_id[id_].trial.repeat}" for id_ in near)
        raise BadInputError(
            f"{what}{f'. Near: {told}' if near else ''}.",
            "take an id from the table of every trial in report.html, or from trials.jsonl",
        )
    record = by_id[matching[0]]
    if record.status != "ok" or record.load is None:
        raise BadInputError(
            f"Trial {record.id} has no intervals: it is {record.status}"
            f"{f', {record.reason}' if record.reason else ''}.",
            "choose a good trial: the table of every trial in report.html has them",
        )
    if not record.load.intervals or record.load.interval_ns <= 0:
        raise BadInputError(f"Trial {record.id} was recorded without intervals.", "choose a trial of another run")
    return record


def rows(ids: Sequence[str]) -> Callable[[Analysis], pd.DataFrame]:
    """Return what picks the intervals of these trials, in this order.

    The last one may be shorter; percentiles (of response times where sends were planned) are NaN where they are not
    recorded by interval.
    """

    def pick(analysis: Analysis) -> pd.DataFrame:
        by_id = {record.id: record for record in analysis.run.records}
        flags = dict(zip(analysis.trials["id"], analysis.trials["flags"], strict=True))
        found = [row for id_ in ids for row in _intervals(by_id[id_], flags[id_])]
        return pd.DataFrame(found, columns=COLUMNS)

    return pick


def _intervals(record: Record, flags: str) -> list[tuple[Any, ...]]:
    load, trial = record.load, record.trial
    if load is None:
        return []
    name = f"{case_title(trial)}, repeat {trial.repeat}"
    window_ns = load.closed_ns - load.opened_ns
    found = []
    for at, count in enumerate(load.intervals):
        start, end = at * load.interval_ns, min((at + 1) * load.interval_ns, window_ns)
        if end > start:
            hist = decode(load.interval_hdrs[at]) if at < len(load.interval_hdrs) else None
            times = quantiles_us(hist, (0.5, 0.99)).tolist() if hist is not None else [float("nan")] * 2
            rate = count / (end - start) * 1e9
            found.append((record.id, trial.strategy, name, flags, start / 1e9, end / 1e9, rate, *times))
    return found


def draw(intervals: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw steps, each as long as its interval, and the mean of the window. Takes what `rows` picks."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    ids = list(dict.fromkeys(intervals["id"]))
    figure, axes = panels(len(ids), 1 if len(ids) == 1 else 2, 2.6, one_scale=False)
    for panel, id_ in zip(axes, ids, strict=True):
        own = intervals[intervals["id"] == id_]
        _trial(panel, own, looks[own["strategy"].iloc[0]])
    flags = {flag for found in intervals["flags"].unique() for flag in found.split(", ")}
    explain(figure, flags, drawn={"mean of the window": Line2D([], [], color=QUIET, lw=1, ls=(0, (4, 2)))})
    return figure


def _trial(axes: Axes, own: pd.DataFrame, look: Look) -> None:
    first = own.iloc[0]
    lengths = own["to_s"] - own["from_s"]
    mean = float((own["rate_hz"] * lengths).sum() / lengths.sum())
    edges = [*own["from_s"], own["to_s"].iloc[-1]]
    heights = [*own["rate_hz"], own["rate_hz"].iloc[-1]]
    (steps,) = axes.plot(edges, heights, drawstyle="steps-post", color=look.color, lw=1.5)
    mark(steps, first["strategy"])
    axes.axhline(mean, color=QUIET, lw=1, ls=(0, (4, 2)))
    face = PAPER if first["flags"] else look.color
    middles = (own["from_s"] + own["to_s"]) / 2
    (drawn,) = axes.plot(middles, own["rate_hz"], ls="", marker=look.marker, ms=4.5, color=look.color, mfc=face)
    mark(drawn, first["strategy"], [_says(row, mean) for row in dicts(own)])
    axes.set_ylim(0, max(1.0, float(own["rate_hz"].max())) * 1.15)
    axes.set_xlim(0, float(own["to_s"].max()))
    axes.set_ylabel("messages/s", color=INK)
    axes.set_xlabel("seconds into the window")
    plain_numbers(axes, "y")
    name_panel(axes, f"{shorten(first['title'], 60)}: {first['id']}")


def _says(row: Mapping[Any, Any], mean: float) -> str:
    by_mean = f", {100 * (row['rate_hz'] / mean - 1):+.1f} % from the mean" if mean else ""
    known = row["p50_us"] == row["p50_us"]
    return points.lines(
        points.place(row["title"]),
        f"{row['from_s']:.3g} to {row['to_s']:.3g} s: {digits(row['rate_hz'])} messages/s{by_mean}",
        f"p50 {duration_text(row['p50_us'])}, p99 {duration_text(row['p99_us'])}" if known else "",
        points.flagged(row["flags"]),
        points.trials(row["id"]),
    )


def message(found: pd.DataFrame) -> str:
    """Say how far the intervals of these trials lie apart. Takes what `rows` picks."""
    parts = []
    for id_, own in found.groupby("id", sort=False):
        low, high = digits(float(own["rate_hz"].min())), digits(float(own["rate_hz"].max()))
        name = quoted(own["strategy"].iloc[0])
        parts.append(f"{name} ({id_}) from {low} to {high} messages/s over {counted(len(own), 'interval')}")
    return f"{joined(parts)}." if parts else "No trial was chosen."
