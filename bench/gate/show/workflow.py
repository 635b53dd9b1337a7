"""The gate as annotations of a GitHub workflow: lines on standard output that begin with `::`."""

from __future__ import annotations

from bench.gate.model import Gate
from bench.gate.show import words

MOST = 9  # a step shows ten of a level; the rest is in the summary


def render(gate: Gate) -> list[str]:
    """Give the lines: one of the verdict, and one of each result that is not ok."""
    level = {"ok": "notice", "regressed": "error", "inconclusive": "warning"}
    lines = [_line(level[gate.verdict], "iobench gate", f"{words.headline(gate)} {words.summary(gate)}")]
    for result in words.trouble(gate.results)[:MOST]:
        row = words.row(result)
        text = f"{row.metric}: {row.base} -> {row.head}, worse by {row.change}. {row.why}"
        lines.append(_line(level[result.verdict], row.case, text))
    return lines


def _line(level: str, title: str, message: str) -> str:
    return f"::{level} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
