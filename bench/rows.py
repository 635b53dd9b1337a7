"""The rows of a table as dicts, in which figures and cells look their values up, and as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def dicts(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Give each row as a dict of Python's own values: what `to_dict("records")` gives, and sooner for few rows.

    It goes column by column; `pytest benchmarks/test_report_speed.py -k dicts` has the two side by side.
    """
    columns = [table.iloc[:, at].tolist() for at in range(table.shape[1])]
    names = list(table.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def csv(table: pd.DataFrame) -> str:
    """Give it as comma-separated values, a heading first, with no cell that a spreadsheet would calculate."""
    texts = [name for name in table.columns if table[name].dtype.kind == "O"]
    told = {name: [no_formula(value) if isinstance(value, str) else value for value in table[name]] for name in texts}
    return str(table.assign(**told).to_csv(index=False, lineterminator="\n"))


def no_formula(text: str) -> str:
    """Text that no spreadsheet calculates: each takes what begins so for a formula, quoted or not."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
