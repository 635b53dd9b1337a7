"""What the exporters of tables and of benchmarks start from: a row for each trial and metric, and the cases.

Nothing is written here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from bench.analyse import analyse
from bench.errors import BadInputError
from bench.metrics import CASE, METRICS, RATE, Metric
from bench.record import Record, Run, Trial
from bench.rows import dicts
from bench.words import USUAL, case_title, column_text

ABOUT = ("trial", "repeat", "seed", "order", "started", "bottleneck", "flags")
UNITLESS = "1"


def tidy(run: Run) -> pd.DataFrame:
    """Give a row for each good trial and metric that was measured, in order of execution.

    Columns: run, those of CASE, those of ABOUT, and metric, value, unit ("1" where it has none), better ("higher",
    "lower", or "" where it is neither). Raises BadInputError where no trial succeeded.
    """
    trials = analyse(run).trials
    good = trials[trials["status"] == "ok"].rename(columns={"id": "trial"})
    if good.empty:
        raise nothing(run)
    good = good.sort_values(["order", "trial"])
    good["sizes"] = [json.dumps(sizes) if sizes else "" for sizes in good["sizes"]]
    good["run"] = run.folder.resolve().name
    kept = ["run", *CASE, *ABOUT]
    names = [metric.name for metric in METRICS]
    good["row"] = range(len(good))
    table = good.melt([*kept, "row"], names, "metric", "value").dropna(subset=["value"])
    place = table["metric"].map({name: index for index, name in enumerate(names)})
    table = table.assign(place=place).sort_values(["row", "place"], ignore_index=True)
    table["unit"] = table["metric"].map({metric.name: metric.unit or UNITLESS for metric in METRICS})
    table["better"] = table["metric"].map({metric.name: metric.better for metric in METRICS})
    return table[[*kept, "metric", "value", "unit", "better"]]


class Case(NamedTuple):
    """One case of a run: all repeats of one definition. `name` is unlike that of any other case of the run."""

    name: str
    record: Record  # of its first good trial
    trials: list[dict[str, Any]]  # the good ones, in order of execution, as analyse has them
    estimates: dict[str, dict[str, Any]]  # by metric, as analyse has them

    def measured(self, metric: Metric) -> list[tuple[float, dict[str, Any]]]:
        """What each trial measured, above 0, and the trial, in order of execution."""
        return [(trial[metric.name], trial) for trial in self.trials if trial[metric.name] > 0]

    def note(self, metric: Metric) -> str:
        """Say what is to be borne in mind of an estimate; nothing where it is what it seems."""
        estimate = self.estimates[metric.name]
        if estimate["lower_bound"]:
            return "a lower bound: " + ("the client was the limit" if metric is RATE else "messages were unfinished")
        if estimate["client_bound"] and metric.quantile is not None:
            return "the client was the limit, and its own delay is part of this"
        return ""


def cases(run: Run) -> list[Case]:
    """Give the cases with a good trial, in order of their definitions.

    Steps of searches are left out: their rates are others in every run. Raises BadInputError where nothing is left.
    """
    analysis = analyse(run)
    records = {record.id: record for record in run.records}
    wanted = analysis.cases[(analysis.cases["ok"] > 0) & (analysis.cases["slo"] == "")]
    trials: dict[tuple[Any, ...], list[dict[str, Any]]] = {_key(row): [] for row in dicts(wanted)}
    estimates: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {key: {} for key in trials}
    good = analysis.trials[(analysis.trials["status"] == "ok") & (analysis.trials["slo"] == "")]
    for row in dicts(good.sort_values(["order", "id"])):
        trials[_key(row)].append({str(name): value for name, value in row.items()})
    for row in dicts(analysis.estimates[analysis.estimates["slo"] == ""]):
        estimates[_key(row)][row["metric"]] = {str(name): value for name, value in row.items()}
    firsts = [records[rows[0]["id"]] for rows in trials.values()]
    named = _names([record.trial for record in firsts])
    found = [
        Case(name, record, rows, estimates[key])
        for name, record, (key, rows) in zip(named, firsts, trials.items(), strict=True)
        if estimates[key]
    ]
    if not found:
        raise nothing(run)
    return found


def _key(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in CASE)


def summarised(case: Case) -> list[Metric]:
    """The metrics of a case that a single figure for it is given of: those that are better or worse, each once.

    Where sends were planned, the rate is the one that was asked for, and no merit.
    """
    return [
        metric
        for metric in METRICS
        if metric.name in case.estimates
        and metric.judged
        and metric.of in ("", "latency", "connect")
        and metric.name != "of_maximum"
        and not (metric is RATE and case.estimates[metric.name]["planned"])
    ]


def in_seconds(metric: Metric, value: float) -> float | None:
    """A time in seconds, a rate as the seconds that one message takes; None for what is neither."""
    if metric is RATE:
        return 1 / value
    return value / 1e6 if metric.unit == "us" else None


def time_title(metric: Metric) -> str:
    """What the seconds of `in_seconds` are of."""
    return "time per message" if metric is RATE else metric.title


def definition(trial: Trial) -> dict[str, str]:
    """What a case is, as text: the columns that a sweep always says, and those that are not as usual."""
    found = {name: getattr(trial, name) for name in CASE}
    return {name: _text(value) for name, value in found.items() if value != USUAL[name]}


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


def _names(trials: list[Trial]) -> list[str]:
    """A name each, on one line; where two would be called the same, with what they differ in."""
    titles = [" ".join(case_title(trial).split()) for trial in trials]
    times = Counter(titles)
    alike = {title: [one for one, other in zip(trials, titles, strict=True) if other == title] for title in times}
    found = []
    for trial, title in zip(trials, titles, strict=True):
        differing = [
            name for name in CASE if times[title] > 1 and len({getattr(one, name) for one in alike[title]}) > 1
        ]
        found.append(", ".join([title, *(column_text(name, getattr(trial, name)) for name in differing)]))
    return found


def nothing(run: Run) -> BadInputError:
    """What is said of a run that has nothing to export."""
    return BadInputError(
        f"No trial of {run.folder} succeeded that this format could hold.", f"iobench report {run.folder}"
    )


def server_of(case: Case) -> str:
    """What the servers of a case were written in."""
    server = case.record.server
    return f"{server.implementation} {server.version}".strip() if server else ""
