"""The report as text: report.html, self-contained, and report.md for a pull request.

What is said comes from verdicts.py and caveats.py, what is drawn from figures; here it is put in order. Nothing is
computed but the text of table cells, and no file is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench import caveats, verdicts, words
from bench.analyse import Analysis
from bench.figures import Plate
from bench.figures.style import THEME, Picture
from bench.metrics import CASE, GROUP, METRICS, RATE, Metric

TEMPLATES = Path(__file__).parent / "templates"
IN_MARKDOWN = ("rate_hz", "cpu_us", "switches", "p50_us", "p99_us", "p999_us")
METHOD = (
    "A value is the median of the repeats; a percentile is that of the sum of their histograms, and is left out where "
    "there are too few messages to tell it. Two strategies are told apart where the exact 95 % interval of their ratio "
    "(Hodges and Lehmann) excludes 1 and Welch's test on the logarithms, corrected for the number of comparisons "
    "(Holm), is significant at 5 %; otherwise the difference is within the noise."
)


class Cell(NamedTuple):
    """A table cell: its text, what it sorts by, and the spread shown with it."""

    text: str
    sort: str | float = ""
    spread: str = ""


class Shown(NamedTuple):
    """A figure on the page."""

    plate: Plate
    picture: Picture
    message: str


def html(analysis: Analysis, pictures: Sequence[tuple[Plate, Picture]]) -> str:
    """Render the page; it needs no other file and no network."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_content(analysis, pictures)) + "\n"


def markdown(analysis: Analysis, pictures: Sequence[tuple[Plate, Picture]]) -> str:
    """Render the summary for a pull request; it refers to the pictures beside it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = lambda text: text.replace("|", "\\|")
    text = environment.get_template("report.md.j2").render(_content(analysis, pictures, IN_MARKDOWN))
    return re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def _content(
    analysis: Analysis, pictures: Sequence[tuple[Plate, Picture]], metrics: Sequence[str] = ()
) -> dict[str, Any]:
    manifest, folder = analysis.run.manifest, analysis.run.folder.resolve()
    return {
        "title": str(manifest.sweep.get("name") or folder.name),
        "folder": folder.name,
        "theme": THEME,
        "summary": _summary(analysis, folder.name),
        "unfinished": caveats.unfinished(manifest, len(analysis.trials), folder.name),
        "notes": [note.replace(f"{analysis.run.folder}/", "") for note in analysis.run.notes],
        "headlines": verdicts.headlines(analysis.contests),
        "nothing": caveats.nothing_to_compare(analysis.trials),
        "verdicts": verdicts.verdicts(analysis.contests),
        "conditions": caveats.conditions(analysis.trials),
        "stops": caveats.why_lines_stop(manifest.strategies, analysis.cases),
        "method": METHOD,
        "figures": [Shown(plate, drawn, _message(analysis, plate)) for plate, drawn in pictures],
        "columns": _columns(analysis, metrics),
        "rows": _rows(analysis, metrics),
        "strategies": _strategies(analysis),
        "left_out": caveats.left_out(analysis.trials),
        "left_out_trials": _left_out_trials(analysis),
        "client_bound": caveats.client_bound(analysis.cases),
        "missing": caveats.missing(analysis.run.records),
        "overhead": caveats.overhead(analysis.trials),
        "facts": [
            ("Machine", facts(manifest.host)),
            ("Versions", facts(manifest.versions)),
            ("Sweep", facts(manifest.sweep)),
            ("Run", facts(_about_run(analysis, folder.name))),
        ],
    }


def _summary(analysis: Analysis, folder: str) -> str:
    good = int((analysis.trials["status"] == "ok").sum())
    strategies = words.counted(analysis.trials["strategy"].nunique(), "strategy", "strategies")
    trials = words.counted(len(analysis.trials), "trial")
    return f"{folder} · {strategies} · {trials}, {good:,} of them good · {_minute(analysis.run.manifest.created)}"


def _minute(iso: str) -> str:
    """An ISO 8601 time to the minute, as it is where it is none."""
    try:
        return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return iso


def _message(analysis: Analysis, plate: Plate) -> str:
    of_metric = [contest for contest in analysis.contests if contest.metric.name == plate.metric]
    return " ".join(f"{asked} – {'; '.join(clauses)}." for asked, clauses in verdicts.headlines(of_metric))


# --- the table: a row a case


def _metrics(analysis: Analysis, only: Sequence[str]) -> list[Metric]:
    measured = set(analysis.estimates["metric"])
    return [metric for metric in METRICS if metric.name in measured and (not only or metric.name in only)]


def _differing(analysis: Analysis) -> list[str]:
    return [name for name in GROUP if name == "connections" or analysis.cases[name].nunique() > 1]


def _columns(analysis: Analysis, only: Sequence[str]) -> list[tuple[str, str]]:
    """The headings and what they mean."""
    definition = [("strategy", "")] + [(name.replace("_", " "), "") for name in _differing(analysis)]
    metrics = [(metric.heading, metric.title) for metric in _metrics(analysis, only)]
    return [*definition, *metrics, ("trials", "that succeeded"), ("notes", "")]


def _rows(analysis: Analysis, only: Sequence[str]) -> list[list[Cell]]:
    estimates = {(*(row[name] for name in CASE), row["metric"]): row for row in analysis.estimates.to_dict("records")}
    metrics, differing = _metrics(analysis, only), _differing(analysis)
    table = []
    for case in _ranked(analysis):
        key = tuple(case[name] for name in CASE)
        cells = [Cell(words.quoted(case["strategy"]), case["strategy"])]
        for name in differing:
            value = case[name]
            cells.append(Cell(f"{value:,}" if isinstance(value, int) else str(value), value))
        cells += [_cell(metric, estimates.get((*key, metric.name))) for metric in metrics]
        table.append([*cells, Cell(str(case["ok"]), case["ok"]), Cell(_case_notes(case))])
    return table


def _ranked(analysis: Analysis) -> list[dict[Any, Any]]:
    """The cases, group by group, the fastest first."""
    rates = analysis.estimates[analysis.estimates["metric"] == "rate_hz"][[*CASE, "value"]]
    ranked = analysis.cases.merge(rates, on=list(CASE), how="left")
    ascending = [*(True for _ in GROUP), False, True]
    return ranked.sort_values([*GROUP, "value", "strategy"], ascending=ascending).to_dict("records")


def _cell(metric: Metric, estimate: Mapping[Any, Any] | None) -> Cell:
    if estimate is None:
        return Cell("–")
    scale = 2**20 if metric.unit == "bytes" else 1
    lower_bound = metric.name == RATE.name and estimate["client_bound"]
    text = f"{'≥ ' if lower_bound else ''}{words.digits(estimate['value'] / scale)}"
    if estimate["n"] < 2 or math.isnan(estimate["min"]):
        return Cell(text, estimate["value"])
    low, high = (words.digits(estimate[end] / scale) for end in ("min", "max"))
    return Cell(text, estimate["value"], f"{low}–{high}")


def _case_notes(case: Mapping[Any, Any]) -> str:
    notes = [f"{case[status]} {status}" for status in ("failed", "unavailable") if case[status]]
    if case["client_bound"]:
        notes.append(f"client-bound in {case['client_bound']} of {case['ok']}")
    if case["errors"]:
        notes.append(words.counted(case["errors"], "error"))
    notes += [flag.replace("_", " ") for flag in case["flags"].split(", ") if flag not in ("", "client_bound")]
    return "; ".join(notes)


# --- what was run where


def _strategies(analysis: Analysis) -> list[Any]:
    """Those of the run, and those that can't run here."""
    run = set(analysis.trials["strategy"])
    return [info for info in analysis.run.manifest.strategies if info.name in run or not info.available]


def _about_run(analysis: Analysis, folder: str) -> dict[str, Any]:
    manifest = analysis.run.manifest
    servers = [record.server for record in analysis.run.records if record.server is not None]
    interpreters = {f"{it.implementation} {it.version}{'' if it.gil else ' without the GIL'}" for it in servers}
    return {
        "folder": folder,
        "created": manifest.created,
        "command": " ".join(manifest.command),
        "servers ran on": sorted(interpreters),
        "CPUs of the servers": sorted({cpu for it in servers for cpu in it.cpus}),
    }


def _left_out_trials(analysis: Analysis) -> list[dict[Any, Any]]:
    stderr = {record.id: record.server.stderr_tail for record in analysis.run.records if record.server}
    bad = analysis.trials[analysis.trials["status"] != "ok"].to_dict("records")
    return [
        {
            **row,
            "where": ", ".join(words.column_text(name, row[name]) for name in ("connections", *_others(analysis))),
            "stderr": stderr.get(row["id"], ""),
        }
        for row in bad
    ]


def _others(analysis: Analysis) -> list[str]:
    return [name for name in _differing(analysis) if name != "connections"]


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flatten a dict of plain values, nested ones as name.inner, to text."""
    rows: list[tuple[str, str]] = []
    for name, value in found.items():
        if isinstance(value, Mapping) and value:
            rows += [(f"{name}.{inner}", text) for inner, text in facts(value)]
        else:
            rows.append((str(name), _plain(value)))
    return rows


def _plain(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(one) for one in value)
    return str(value)
