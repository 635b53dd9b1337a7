"""The tables of the report: what is in each cell, as text, and what it sorts by.

Nothing is computed here but text, and nothing is marked up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench import words
from bench.analyse import Analysis
from bench.metrics import CASE, CONTESTED, GROUP, METRICS, PERCENTILES, RATE, SWITCHES, Metric
from bench.rows import dicts

# The table of all cases would grow too wide: these are in the table of percentiles.
ELSEWHERE = {"lag_p50_us", *(f"service_{name}_us" for name in ("p90", "p999", "p9999"))}
KINDS = ("latency", "response", "service", "lag", "connect")


class Cell(NamedTuple):
    """A table cell: its text, what it sorts by, and the spread shown with it."""

    text: str
    sort: str | float = ""
    spread: str = ""


def differing(analysis: Analysis) -> list[str]:
    """Name the columns of the definition that a table has to show: those that differ, and the connections."""
    return [name for name in GROUP if name == "connections" or analysis.cases[name].nunique() > 1]


def _definition(case: Mapping[Any, Any], names: Sequence[str]) -> list[Cell]:
    cells = [Cell(words.quoted(case["strategy"]), case["strategy"])]
    for name in names:
        value = case[name]
        cells.append(Cell(_plain(name, value), value if isinstance(value, (int, float, str)) else str(value)))
    return cells


def _plain(name: str, value: Any) -> str:
    if name == "load_fraction":
        return words.percent(value) if value else "–"
    if name == "sizes":
        return ", ".join(f"{size:,}" for size, _ in value) or "–"
    if isinstance(value, float):
        return f"{value:,g}" if value else "–"
    return f"{value:,}" if isinstance(value, int) else str(value) or "–"


def headings(names: Sequence[str]) -> list[tuple[str, str]]:
    """The headings of the definition's columns, and what they mean."""
    said = {"planned_hz": "planned/s", "load_fraction": "load", "slo": "objective"}
    return [("strategy", ""), *((said.get(name, name.replace("_", " ")), "") for name in names)]


# --- every case


def case_columns(analysis: Analysis, only: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The headings of the table of cases, and what they mean."""
    metrics = [(metric.heading, metric.title) for metric in _metrics(analysis, only)]
    return [*headings(differing(analysis)), *metrics, ("trials", "that succeeded"), ("notes", "")]


def case_rows(analysis: Analysis, only: Sequence[str] = ()) -> list[list[Cell]]:
    """A row a case, group by group, the fastest first."""
    estimates = _by_case(analysis)
    metrics, names = _metrics(analysis, only), differing(analysis)
    table = []
    for case in _ranked(analysis):
        found = estimates.get(tuple(case[name] for name in CASE), {})
        cells = [_cell(metric, found.get(metric.name)) for metric in metrics]
        table.append([*_definition(case, names), *cells, Cell(str(case["ok"]), case["ok"]), Cell(case_notes(case))])
    return table


def _by_case(analysis: Analysis) -> dict[tuple[Any, ...], dict[str, dict[Any, Any]]]:
    found: dict[tuple[Any, ...], dict[str, dict[Any, Any]]] = {}
    for row in dicts(analysis.estimates):
        found.setdefault(tuple(row[name] for name in CASE), {})[row["metric"]] = row
    return found


def _metrics(analysis: Analysis, only: Sequence[str]) -> list[Metric]:
    """Those measured. Response is the latency; service stands beside it where there is a response."""
    measured = set(analysis.estimates["metric"])
    planned = any(name.startswith("response_") for name in measured)
    return [
        metric
        for metric in METRICS
        if metric.name in measured
        and (not only or metric.name in only)
        and metric.of != "response"
        and (metric.of != "service" or planned)
        and metric.name not in ELSEWHERE
    ]


def _ranked(analysis: Analysis) -> list[dict[Any, Any]]:
    rates = analysis.estimates[analysis.estimates["metric"] == RATE.name][[*CASE, "value"]]
    ranked = analysis.cases.merge(rates, on=list(CASE), how="left")
    ascending = [*(True for _ in GROUP), False, True]
    return dicts(ranked.sort_values([*GROUP, "value", "strategy"], ascending=ascending))


def _cell(metric: Metric, estimate: Mapping[Any, Any] | None) -> Cell:
    """The value, and below it the range of its repeats; of a percentile measured once, its 95 % interval."""
    if estimate is None:
        return Cell("–")
    scale = 2**20 if metric.unit == "bytes" else 1
    text = f"{'≥ ' if estimate['lower_bound'] else ''}{words.digits(estimate['value'] / scale)}"
    if estimate["n"] >= 2 and not math.isnan(estimate["min"]):
        return Cell(text, estimate["value"], _range(estimate["min"] / scale, estimate["max"] / scale))
    if metric.quantile is not None and estimate["n"] == 1:
        return Cell(text, estimate["value"], _range(estimate["low"], estimate["high"]))
    return Cell(text, estimate["value"])


def _range(low: float, high: float) -> str:
    return f"{words.digits(low)}–{words.digits(high)}" if math.isfinite(high) else f"from {words.digits(low)}"


def case_notes(case: Mapping[Any, Any]) -> str:
    """Say what is to be borne in mind of a case."""
    notes = [f"{case[status]} {status}" for status in ("failed", "unavailable") if case[status]]
    if case["client_bound"]:
        notes.append(f"client-bound in {case['client_bound']} of {case['ok']}")
    if case["errors"]:
        notes.append(words.counted(case["errors"], "error"))
    notes += [flag.replace("_", " ") for flag in case["flags"].split(", ") if flag not in ("", "client_bound")]
    return "; ".join(notes)


# --- percentiles with their intervals


def percentile_columns(analysis: Analysis) -> list[tuple[str, str]]:
    """The headings of the table of percentiles, and what they mean."""
    return [*headings(differing(analysis)), ("time", ""), *((f"{name} µs", "") for _, name in PERCENTILES)]


def percentile_rows(analysis: Analysis) -> list[list[Cell]]:
    """A row for each case and kind of time, a cell for each percentile with its 95 % interval."""
    estimates, names = _by_case(analysis), differing(analysis)
    table = []
    for case in _ranked(analysis):
        found = estimates.get(tuple(case[name] for name in CASE), {})
        planned = any(name.startswith("response_") for name in found)
        for kind in ("response", "service", "lag", "connect") if planned else ("service", "connect"):
            prefix = f"{kind}_"
            cells = [_interval(found.get(f"{prefix}{name.replace('.', '')}_us")) for _, name in PERCENTILES]
            if any(cell.sort != "" for cell in cells):
                table.append([*_definition(case, names), Cell(kind, kind), *cells])
    return table


def _interval(estimate: Mapping[Any, Any] | None) -> Cell:
    if estimate is None:
        return Cell("–")
    text = f"{'≥ ' if estimate['lower_bound'] else ''}{words.digits(estimate['value'])}"
    return Cell(text, estimate["value"], _range(estimate["low"], estimate["high"]))


# --- every trial


def trial_columns(analysis: Analysis) -> list[tuple[str, str]]:
    """The headings of the table of trials, and what they mean."""
    metrics = [(metric.heading, metric.title) for metric in _of_a_trial(analysis)]
    return [
        *headings(differing(analysis)),
        ("repeat", ""),
        ("order", "place in the order of execution"),
        ("trial", "its id in trials.jsonl"),
        *metrics,
        ("limit", "what kept it from going faster"),
        ("notes", ""),
    ]


def trial_rows(analysis: Analysis) -> list[list[Cell]]:
    """A row for each good trial."""
    names, metrics = differing(analysis), _of_a_trial(analysis)
    table = []
    for trial in dicts(analysis.trials[analysis.trials["status"] == "ok"]):
        values = [trial[metric.name] for metric in metrics]
        table.append(
            [
                *_definition(trial, names),
                *(Cell(f"{trial[name]:,}", trial[name]) for name in ("repeat", "order")),
                Cell(trial["id"], trial["id"]),
                *(Cell("–") if math.isnan(value) else Cell(words.digits(value), value) for value in values),
                Cell(trial["bottleneck"] or "–", trial["bottleneck"]),
                Cell(trial["flags"].replace("_", " ")),
            ]
        )
    return table


def _of_a_trial(analysis: Analysis) -> list[Metric]:
    """Those measured, of the ones that strategies are compared by."""
    return [metric for metric in (*CONTESTED, SWITCHES) if analysis.trials[metric.name].notna().any()]


# --- latency over offered load


def load_columns(analysis: Analysis) -> list[tuple[str, str]]:
    """The headings of the table of load points, and what they mean."""
    names = [name for name in differing(analysis) if name != "planned_hz"]
    return [
        *headings(names),
        ("offered/s", "messages planned per second"),
        ("served/s", "messages completed per second"),
        ("p50 µs", "latency, from the planned send"),
        ("p99 µs", "latency, from the planned send; below it its 95 % interval"),
        ("service p99 µs", "from the actual send"),
        ("lag p99 µs", "from the planned to the actual send"),
        ("notes", ""),
    ]


def load_rows(analysis: Analysis) -> list[list[Cell]]:
    """A row for each point of the curves of latency over offered load."""
    names = [name for name in differing(analysis) if name != "planned_hz"]
    table = []
    for point in dicts(analysis.load_points):
        plain = ("offered_hz", "achieved_hz", "p50_us", "p99_us", "service_p99_us", "lag_p99_us")
        cells = [
            Cell("–") if math.isnan(point[name]) else Cell(words.digits(point[name]), point[name]) for name in plain
        ]
        spread = _range(point["p99_low_us"], point["p99_high_us"])
        cells[3] = Cell(f"{'≥ ' if point['lower_bound'] else ''}{cells[3].text}", point["p99_us"], spread)
        notes = ["on the front"] if point["front"] else []
        notes += [flag.replace("_", " ") for flag in point["doubts"].split(", ") if flag]
        table.append([*_definition(point, names), *cells, Cell("; ".join(notes))])
    return table
