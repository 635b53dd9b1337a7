"""The gate for a pull request: the verdict first, what regressed next, everything else folded."""

from __future__ import annotations

from collections.abc import Sequence

from bench.gate.model import Gate
from bench.gate.show import words
from bench.markdown import escaped

COLUMNS = ("", "case", "metric", "base", "head", "worse by", "95 % interval", "could have found", "pairs", "why")


def render(gate: Gate) -> str:
    """Give the text, with the end of its last line."""
    rows = words.rows(gate)
    bad = [row for row in rows if row.verdict in ("regressed", "inconclusive")]
    parts = [f"## {words.MARKS[gate.verdict]} {words.headline(gate)}", escaped(words.summary(gate))]
    if bad:
        parts.append(_table(bad))
    parts += [f"> {escaped(note)}" for note in gate.notes]
    parts.append(
        f"<details><summary>All {len(rows)} comparisons</summary>\n\n{_table(rows)}\n\n"
        "Above 0 % head is worse. A pair is a fresh server process of each side, measured one right after the other; "
        "pairs that others disturbed are dropped. “Could have found” is the change that as many pairs, as noisy as "
        "these, would have shown nine times in ten.\n\n</details>"
    )
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[words.Row]) -> str:
    lines = [_line(COLUMNS), _line(["---"] * 3 + ["---:"] * 6 + ["---"])]
    for row in rows:
        cells = (row.mark, row.case, row.metric, row.base, row.head, row.change, row.interval, row.found, row.pairs)
        lines.append(_line([escaped(cell) for cell in (*cells, row.why)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
