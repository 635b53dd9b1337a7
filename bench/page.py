"""The report as a page: report.html, self-contained. What a pull request shows is in summary.py.

What is said comes from answer.py and caveats.py, what is drawn from figures; here it is put in order. Nothing is
computed but the text of table cells, and no file is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench import answer, capacity, caveats, compare, strategy_page, tables, templating, trust, words
from bench.analyse import Analysis
from bench.anatomy import steps as echo
from bench.figures import Drawn
from bench.figures.style import OUTLINES, THEME, looks, shorten, swatch
from bench.lab.experiment import OUTCOMES, read_findings, summed_up
from bench.load_curve import Bend, bends
from bench.markers import ARROW, FAILED, FILLED, HOLLOW, UNAVAILABLE, markers
from bench.rows import dicts
from bench.why import words as why_words
from bench.why.files import understood

if TYPE_CHECKING:
    from jinja2 import Template

OF_THEIR_OWN = ("lab-", "anatomy")  # figures that other sections show
MOST_LISTED = 2_000  # rows of a table; more would make the page slow, and are in a CSV beside it
MOST_RANKED = 12  # columns of the table of the ranking
MOST_PRINTED = 300  # trials; more are folded on paper too
METHOD = (
    "In figures and tables a value is the median of the repeats; a percentile is that of the sum of their histograms, "
    "and is left out where there are too few messages to tell it. Latency counts from the planned send where sends "
    "are planned, and from the actual one where each message waits for the last. Strategies are compared within "
    "rounds, on logarithms: each value is the effect of its strategy, that of its round and an error, estimated so "
    "that a round that went wrong counts for little (Huber); percentiles, by drawing rounds anew. The limits hold for "
    "all pairs of one comparison together at 95 % (Tukey and Kramer). Better is what is shown at 95 % for the run as "
    "a whole: limits may lie beyond 1 where that is not decided."
)


def html(content: Mapping[str, Any], figures: Sequence[Drawn]) -> str:
    """Render the page from its `content` and its figures; it needs no other file and no network."""
    shown = {
        "figures": [one for one in figures if not one.name.startswith(OF_THEIR_OWN)],
        "anatomy_figures": [one for one in figures if one.name == "anatomy"],
        "lab_figures": [one for one in figures if one.name.startswith("lab-")],
    }
    return _template().render({**content, **shown}) + "\n"


@cache
def _template() -> Template:
    environment = templating.environment()
    environment.filters["kept_together"] = _kept_together
    environment.filters["shorten"] = shorten
    return environment.get_template("report.html.j2")


def _kept_together(text: str) -> str:
    """Let no line end between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(?:%|µs|ms|s|ns|MiB|messages/s)(?!\w))", "\u00a0", text)


def content(analysis: Analysis) -> dict[str, Any]:
    """Put together all that the page says besides its figures, and compile its template, which takes as long."""
    _template()
    manifest, folder = analysis.run.manifest, analysis.run.folder.resolve()
    found = bends(analysis.load_points[analysis.load_points["slo"] == ""])
    return {
        "title": str(manifest.sweep.get("name") or folder.name),
        "folder": folder.name,
        "theme": THEME,
        "summary": _summary(analysis, folder.name),
        "comparison": compare.shown(analysis, MOST_LISTED),
        "unfinished": caveats.unfinished(manifest, len(analysis.trials), folder.name),
        "notes": [note.replace(f"{analysis.run.folder}/", "") for note in analysis.run.notes],
        # Of runs that were put together each is compared by itself: the section on the comparison says what differs.
        "opening": [] if manifest.compared else answer.opening(analysis.comparisons),
        "advice": [
            *capacity.search_headlines(manifest.searches),
            *capacity.bend_headlines(found),
            *answer.advice(analysis.comparisons),
        ],
        "ranking": _ranking(analysis),
        "within": answer.within_text(analysis.comparisons),
        "rankings": answer.rankings(analysis.comparisons),
        "shown": [
            {"name": name, "short": shorten(name), "swatch": swatch(look)}
            for name, look in looks(analysis.estimates["strategy"]).items()
        ],
        "nothing": caveats.nothing_to_compare(analysis.trials),
        "conditions": caveats.conditions(analysis.trials),
        "stops": [
            *caveats.why_lines_stop(manifest.strategies, analysis.cases),
            *caveats.stops(analysis.run.records),
            *caveats.throttled(analysis.trials, manifest.host),
        ],
        "method": METHOD,
        "markers": [one._asdict() | {"drawn": _drawn(one.kind)} for one in markers(analysis)],
        "anatomy": _anatomy(manifest.anatomy),
        "lab": _lab(manifest.lab),
        "why": _why(analysis),
        "columns": tables.case_columns(analysis),
        "rows": tables.case_rows(analysis)[:MOST_LISTED],
        "too_long": too_long(analysis),
        "cases": len(analysis.cases),
        "percentile_columns": tables.percentile_columns(analysis),
        "percentile_rows": tables.percentile_rows(analysis)[:MOST_LISTED],
        "searches": [capacity.search_sentence(search) for search in manifest.searches],
        "bends": _by_place(found),
        "load_columns": tables.load_columns(analysis),
        "load_rows": tables.load_rows(analysis),
        "trials": len(analysis.trials[analysis.trials["status"] == "ok"]),
        "trial_columns": tables.trial_columns(analysis),
        "most_printed": MOST_PRINTED,
        "trial_rows": tables.trial_rows(analysis) if len(analysis.trials) <= MOST_LISTED else [],
        "trust": _trust(analysis),
        "strategies": _strategies(analysis),
        "strategy_pages": strategy_page.links(analysis),
        "left_out": caveats.left_out(analysis.trials),
        "left_out_trials": _left_out_trials(analysis),
        "client_bound": caveats.client_bound(analysis.cases),
        "bimodal": caveats.bimodal(analysis.trials),
        "missing": caveats.missing(analysis.run.records),
        "overhead": caveats.overhead(analysis.trials),
        "facts": [
            ("Machine", facts(manifest.host)),
            ("Versions", facts(manifest.versions)),
            ("Sweep", facts(manifest.sweep)),
            ("Run", facts(_about_run(analysis, folder.name))),
        ],
    }


def _ranking(analysis: Analysis) -> answer.Table | None:
    """The table of all comparisons; None where there is none, or it would be too wide for a page."""
    found = answer.table(analysis.comparisons)
    return found if 0 < len(found.columns) <= MOST_RANKED else None


def too_long(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """The tables that the page has no room for, by name of the file that has the whole of each."""
    found = {"cases.csv": (analysis.cases, analysis.estimates), "trials.csv": (analysis.trials, analysis.trials)}
    return {name: table for name, (rows, table) in found.items() if len(rows) > MOST_LISTED}


# A kind of marker -> its outline, and how it is filled.
_DRAWN = {
    FILLED: (OUTLINES["o"], "var(--ink)"),
    HOLLOW: (OUTLINES["o"], "var(--paper)"),
    ARROW: ("M0 5V-4M-3 -1L0 -4.5L3 -1", "none"),
    FAILED: (f"{OUTLINES['o']}M-1.8 -1.8L1.8 1.8M-1.8 1.8L1.8 -1.8", "var(--paper)"),
    UNAVAILABLE: (f"{OUTLINES['o']}M-2.2 0H2.2", "var(--paper)"),
}


def _drawn(kind: str) -> str:
    """Draw a kind of marker, as the SVG of a page that sets the theme's variables."""
    outline, fill = _DRAWN[kind]
    return (
        '<svg viewBox="-6 -6 12 12" width="12" height="12" aria-hidden="true" focusable="false">'
        f'<path d="{outline}" style="fill: {fill}; stroke: var(--ink); stroke-width: 1.4"/></svg>'
    )


def _summary(analysis: Analysis, folder: str) -> str:
    good = int((analysis.trials["status"] == "ok").sum())
    strategies = words.counted(analysis.trials["strategy"].nunique(), "strategy", "strategies")
    trials = words.counted(len(analysis.trials), "trial")
    return f"{folder} · {strategies} · {trials}, {good:,} of them good · {_minute(analysis.run.manifest.created)}"


def _minute(iso: str) -> str:
    """An ISO 8601 time to the minute, as it is where it is none."""
    try:
        return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):  # in another zone the year may be beyond the last or the first
        return iso


def _by_place(found: Sequence[Bend]) -> list[tuple[str, list[str]]]:
    """For each setting, what it is called and a sentence for each strategy's curve."""
    curves = [bend.curve for bend in found]
    by_place: dict[str, list[str]] = {}
    for bend in found:
        by_place.setdefault(capacity.curve_title(bend.curve, curves), []).append(capacity.bend_sentence(bend))
    return list(by_place.items())


def _why(analysis: Analysis) -> dict[str, Any]:
    """What the section on the counts of `iobench why` says; nothing where there are none."""
    all_counts = understood(analysis.run.manifest.why)
    remarks = [text for counts in all_counts for text in why_words.remarks(counts)]
    return {
        "sentences": [why_words.sentence(counts) for counts in all_counts],
        "remarks": remarks,
        "sources": " ".join([*why_words.sources(all_counts), why_words.agreement(all_counts)]).strip(),
        "when": _minute(max((counts.created for counts in all_counts), default="")),
    }


def _trust(analysis: Analysis) -> dict[str, Any]:
    """What the section on trust shows."""
    manifest = analysis.run.manifest
    claims = trust.calibrated(manifest.calibration)
    sentences = [
        trust.bottlenecks(analysis.trials),
        trust.noise(analysis.trials),
        trust.within_rounds(analysis.comparisons),
        trust.withheld(analysis.cases, analysis.estimates),
        trust.taken(analysis.run.records),
        trust.steal(analysis.run.records) if len(analysis.trials) else "",
        *trust.machine(manifest.host),
        *trust.company(manifest.hosts),
        why_words.agreement(understood(manifest.why)),
    ]
    return {
        "in_short": trust.in_short(analysis.trials, analysis.run.records, claims, manifest.host, analysis.comparisons),
        "calibration": trust.calibration_summary(claims),
        "claims": claims,
        "flags": trust.flagged(analysis.trials),
        "sentences": [sentence for sentence in sentences if sentence],
    }


def _lab(lab: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the section on the lab shows; no findings where it was not run."""
    findings = read_findings(lab)
    return {
        "findings": findings,
        "outcomes": OUTCOMES,
        "summary": summed_up(findings),
        "when": _minute(str((lab or {}).get("created", ""))),
        "where": _system(lab),
    }


def _anatomy(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the section on the anatomy of an echo shows; nothing where none was taken."""
    found = echo.read_anatomies(values)
    return {
        "all": [one for one in found if one.status == "ok"],
        "not": [one for one in found if one.status != "ok"],
        "lanes": echo.lanes,
        "order": echo.order,
        "meaning": echo.meaning,
        "summed_up": echo.summed_up,
        "under_strace": echo.UNDER_STRACE,
        "tracer": str((values or {}).get("tracer", "strace")),
        "when": _minute(str((values or {}).get("created", ""))),
        "where": _system(values),
    }


def _system(values: Mapping[str, Any] | None) -> str:
    """The system that a lab or an anatomy was made on."""
    host = (values or {}).get("host")
    known = [str(host.get(fact, "")) for fact in ("system", "kernel")] if isinstance(host, Mapping) else []
    return " ".join(filter(None, known)) or "a system that was not noted down"


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
    bad = dicts(analysis.trials[analysis.trials["status"] != "ok"])
    return [
        {
            **row,
            "where": ", ".join(words.column_text(name, row[name]) for name in ("connections", *_others(analysis))),
            "stderr": stderr.get(row["id"], ""),
        }
        for row in bad
    ]


def _others(analysis: Analysis) -> list[str]:
    return [name for name in tables.differing(analysis) if name != "connections"]


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
