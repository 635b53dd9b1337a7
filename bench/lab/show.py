"""The lab on the terminal, within 80 columns. Nothing is run or judged here."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from bench.lab.experiment import OUTCOMES, Chart, Experiment, Finding, Observation, with_unit
from bench.processes import HOME
from bench.say import WIDTH, say

COLOURS = {"ok": "green", "failed": "bold red", "unavailable": "yellow"}
NOT_SO = "not so"


def listing(found: Sequence[tuple[Experiment, str]]) -> None:
    """Print each experiment with its claim and whether it can run here; the text is the reason why not."""
    table = _table()
    table.add_column("experiment", no_wrap=True)
    table.add_column("claim", ratio=1)
    table.add_column("runs here")
    for experiment, why_not in found:
        table.add_row(experiment.name, escape(experiment.claim), "no" if why_not else "yes")
    _console().print(table)
    for experiment, why_not in found:
        if why_not:
            say(f"- {experiment.name} can't run here: {why_not}", indent="  ")


def finding(found: Finding, module: ModuleType, at_length: bool) -> None:
    """Print what came of one experiment; `at_length` with the text of its file."""
    console = _console()
    console.print(f"[bold]{escape(found.name)}[/]: {escape(found.claim)}", width=_width(console))
    if at_length:
        print()
        _text(inspect.getdoc(module) or "")
        print(f"\n{_shown_path(module)}\n")
    if found.observations:
        console.print(_observations(found.observations))
    for chart in found.charts:
        print(f"\n  {chart.title}, {chart.y}")
        console.print(Padding(_chart(chart), (0, 0, 0, 2), expand=False))
    if found.charts:
        print()
    reason = f": {escape(found.reason)}" if found.reason else ""
    console.print(f"[{COLOURS[found.status]}]{OUTCOMES[found.status]}[/]{reason}", width=_width(console))
    if not at_length:
        print()
    sys.stdout.flush()


def _observations(observations: Sequence[Observation]) -> Table:
    table = _table()
    table.add_column("  what was done", ratio=5)
    table.add_column("expected", ratio=2)
    table.add_column("observed", ratio=2)
    if any(one.holds is False for one in observations):
        table.add_column("", width=len(NOT_SO))
    for one in observations:
        observed = escape(one.observed)
        mark = [f"[bold red]{NOT_SO}[/]"] if one.holds is False else []
        table.add_row(Padding(escape(one.what), (0, 0, 0, 2)), escape(one.expected), observed, *mark)
    return table


def _chart(chart: Chart) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(chart.x, justify="right")
    for name in chart.lines:
        table.add_column(name, justify="right")
    lines = [dict(points) for points in chart.lines.values()]
    for x in sorted({x for line in lines for x in line}):
        table.add_row(with_unit(x), *(f"{line[x]:,.2f}" if x in line else "–" for line in lines))
    return table


def _text(doc: str) -> None:
    """Print paragraphs filled to the width; those that are indented stay as they are."""
    for number, paragraph in enumerate(doc.split("\n\n")):
        if number:
            print()
        if paragraph.startswith("    "):
            print(paragraph)
        else:
            say(" ".join(paragraph.split()))


def _shown_path(module: ModuleType) -> str:
    path = Path(module.__file__ or "")
    return str(path.relative_to(HOME)) if path.is_relative_to(HOME) else str(path)


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, width=min(WIDTH, Console().width))


def _console() -> Console:
    return Console(highlight=False)


def _width(console: Console) -> int:
    return min(WIDTH, console.width)
