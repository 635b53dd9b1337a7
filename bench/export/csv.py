"""Comma-separated values: a row for each trial and metric, for pandas, R, a spreadsheet or a database."""

from __future__ import annotations

from bench import rows
from bench.export._rows import tidy
from bench.record import Run

summary = "a row a trial and metric, with unit and direction"
default = "tidy.csv"


def render(run: Run) -> bytes:
    """Give the file: UTF-8, a heading, lines that end with a newline. Raises BadInputError."""
    return rows.csv(tidy(run)).encode()
