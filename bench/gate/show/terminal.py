"""The gate on a terminal, 80 columns wide."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.table import Table

from bench.gate.model import Gate
from bench.gate.show import words
from bench.say import WIDTH, plain, say

STYLES = {"ok": "green", "regressed": "bold red", "inconclusive": "yellow", "too noisy": "dim"}


def show(gate: Gate, console: Console | None = None) -> None:
    """Print the verdict, a table for each case, and what to know besides."""
    console = console or Console(highlight=False, markup=False, width=WIDTH)
    console.print(words.headline(gate), style=STYLES[gate.verdict])
    say(words.summary(gate))
    for case, own in groupby(words.rows(gate), key=lambda row: row.case):
        console.print(f"\n{plain(case)}", style="bold")
        shown = list(own)
        console.print(_table(shown))
        for why, alike in groupby(filter(_worth_a_word, shown), key=lambda row: row.why):
            told = list(alike)
            say(f"  {told[0].mark} {', '.join(row.metric for row in told)}: {why}", indent="    ")
    print()
    found = words.could_have_found(gate)
    if found:
        say(f"This run could have found: {found}.")
    reasons = words.dropped(gate)
    if reasons:
        say(f"Pairs that were disturbed and dropped: {', '.join(reasons)}.")
    for note in gate.notes:
        say(note)


def _worth_a_word(row: words.Row) -> bool:
    return row.verdict in ("regressed", "inconclusive") or "once" in row.why


def _table(rows: list[words.Row]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("metric", no_wrap=True, overflow="ellipsis")
    for heading in ("base", "head", "worse by"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        style = STYLES[row.verdict]
        table.add_row(f"  {row.mark}", plain(row.metric), row.base, row.head, row.change, style=style)
    return table
