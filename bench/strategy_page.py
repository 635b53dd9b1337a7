"""A page for a single strategy, strategies/NAME.html beside the report: how it did, its figures, what it is, its calls.

The figures are those of the report, in which the other strategies are pale. Nothing is measured or drawn here, and no
file is written.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bench import answer, tables, templating, words
from bench.analyse import Analysis
from bench.anatomy import steps as echo
from bench.comparisons import Comparison, Standing
from bench.figures import Drawn
from bench.figures.marks import Pieces, cut, of_one
from bench.figures.style import THEME
from bench.record import StrategyInfo
from bench.rows import dicts
from bench.why import words as why_words
from bench.why.files import understood

FOLDER = "strategies"
LONGEST = 60  # of a file's name
MOST_LISTED = 500  # rows of a table
MOST_PLACES = 8  # that a sentence lists; more are counted


class Own(NamedTuple):
    """A figure of the page, and its SVG in which the other strategies are pale."""

    drawn: Drawn
    svg: str


def links(analysis: Analysis) -> dict[str, str]:
    """Give each strategy of the run the path of its page, from the report's folder."""
    return {name: f"{FOLDER}/{file_name(name)}" for name in sorted(analysis.trials["strategy"].unique())}


def file_name(strategy: str) -> str:
    """Make a file name of a strategy's: letters, digits and ._- alone; another strategy has another one.

    Where the name can't be taken as it is, some digits of its hash follow.
    """
    safe = re.sub(r"[^a-z0-9._-]+", "-", strategy.lower()).strip(".-")[:LONGEST]
    if safe == strategy:
        return f"{safe}.html"
    return f"{safe or 'strategy'}-{hashlib.sha256(strategy.encode()).hexdigest()[:8]}.html"


def pages(shared: Shared, figures: Sequence[Drawn]) -> Iterator[tuple[str, str]]:
    """Render a page for each strategy of the run: its path from the report's folder, and its text."""
    pieces = [
        (one, cut(one.picture.inline))
        for one in figures
        if one.name != "anatomy"  # the page has the steps themselves
    ]
    for name, path in links(shared.analysis).items():
        yield path, shared.template.render(_content(shared, name, pieces)) + "\n"


class Shared:
    """What all pages of a run share, besides figures."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.template = templating.environment().get_template("strategy.html.j2")
        self.infos = {info.name: info for info in analysis.run.manifest.strategies}
        self.columns = tables.case_columns(analysis)
        self.rows = tables.case_rows(analysis)
        self.trial_columns = tables.trial_columns(analysis)
        self.trial_rows = tables.trial_rows(analysis)
        self.anatomies = echo.read_anatomies(analysis.run.manifest.anatomy)
        self.why = understood(analysis.run.manifest.why)
        self.bad = dicts(analysis.trials[analysis.trials["status"] != "ok"])


def _content(shared: Shared, name: str, figures: Sequence[tuple[Drawn, Pieces]]) -> dict[str, Any]:
    analysis = shared.analysis
    info = shared.infos.get(name)
    counts = [one for one in shared.why if one.strategy == name]
    trial_rows = [row[1:] for row in shared.trial_rows if row[0].sort == name]
    return {
        "name": name,
        "title": str(analysis.run.manifest.sweep.get("name") or analysis.run.folder.resolve().name),
        "theme": THEME,
        "info": info,
        "doc": _doc(info),
        "places": places(analysis.comparisons, name),
        "bad": [
            (trial["id"], trial["status"], trial["reason"] or "no reason was recorded", trial["connections"])
            for trial in shared.bad
            if trial["strategy"] == name
        ],
        "columns": shared.columns[1:],
        "rows": [row[1:] for row in shared.rows if row[0].sort == name][:MOST_LISTED],
        "trial_columns": shared.trial_columns[1:],
        "trial_rows": trial_rows[:MOST_LISTED],
        "trials": len(trial_rows),
        "figures": [Own(drawn, of_one(pieces, name)) for drawn, pieces in figures if name in pieces.strategies],
        "why": [why_words.sentence(one) for one in counts],
        "remarks": [text for one in counts for text in why_words.remarks(one)],
        "anatomies": [one for one in shared.anatomies if one.strategy == name and one.status == "ok"],
        "not_taken": [one for one in shared.anatomies if one.strategy == name and one.status != "ok"],
        "lanes": echo.lanes,
        "order": echo.order,
        "meaning": echo.meaning,
        "summed_up": echo.summed_up,
        "under_strace": echo.UNDER_STRACE,
    }


def _doc(info: StrategyInfo | None) -> str:
    """What the strategy's file says of it: its docstring, as recorded in the run."""
    return info.doc.strip() if info else ""


def places(comparisons: Sequence[Comparison], name: str) -> list[str]:
    """Say by each metric what was measured of a strategy, and how it came out against the best; of many, how often."""
    told = []
    for metric in dict.fromkeys(comparison.metric for comparison in comparisons):
        of_metric = [it for it in comparisons if it.metric == metric]
        own = [(it, one) for it in of_metric for one in it.ranking if one.strategy == name]
        groups = [it.group for it in of_metric]
        if own:
            said = _counted(own) if len(own) > MOST_PLACES else "; ".join(_place(*one, groups) for one in own)
            told.append(f"{metric.title[0].upper()}{metric.title[1:]}: {said}.")
    return told


def _place(comparison: Comparison, one: Standing, groups: Sequence[dict[str, Any]]) -> str:
    where = words.title(comparison.group, groups, otherwise=("connections",))
    if one.python:
        where = f"{where}, on {one.python}"
    value = answer.value_of(comparison.metric, one)
    text = f"{value} at {where}" if where[0].isdigit() else f"{value}, {where}"
    return f"{text} – {answer.standing(comparison, one.name)}"


def _counted(own: Sequence[tuple[Comparison, Standing]]) -> str:
    """Count how a strategy came out against the best of each setting."""
    found = Counter(answer.outcome(comparison, one.name) for comparison, one in own)
    contested = found.total() - found["alone"]
    equal = answer.within_text(comparison for comparison, _ in own)
    told = {
        "best": "shown better than all others in",
        "equal": f"{equal} with the best in",
        "behind": "behind it in",
        "undecided": "not decided in",
    }
    parts = [f"{text} {found[how]:,}" for how, text in told.items() if found[how]]
    return (
        f"of {words.counted(contested, 'comparison')} {words.joined(parts)}" if contested else "the only one measured"
    )
