"""The rows of a table as dicts, in which figures and cells look their values up, and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def plain_strings() -> Iterator[None]:
    """Let tables made meanwhile hold text as Python's own strings: of pyarrow's each cell takes longer to look at."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    with pd.option_context("mode.string_storage", "python"):
        yield


def dicts(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Give each row as a dict of Python's own values: what `to_dict("records")` gives, and sooner for few rows.

    The whole table goes into one array of objects; `pytest benchmarks/test_report_speed.py -k dicts` has both side by
    side.
    """
    names = list(table.columns)
    return [dict(zip(names, row, strict=True)) for row in table.to_numpy(dtype=object).tolist()]


def by_key(table: pd.DataFrame, keys: Sequence[str], column: str) -> dict[tuple[Any, ...], list[Any]]:
    """Give the values of a column by those of others, in the table's order: `groupby` is slow for many small groups."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for *key, value in zip(*(table[name].tolist() for name in (*keys, column)), strict=True):
        found.setdefault(tuple(key), []).append(value)
    return found


def csv(table: pd.DataFrame) -> str:
    """Give it as comma-separated values, a heading first, with no cell that a spreadsheet would calculate."""
    texts = [name for name in table.columns if table[name].dtype.kind == "O"]
    told = {name: [no_formula(value) if isinstance(value, str) else value for value in table[name]] for name in texts}
    return str(table.assign(**told).to_csv(index=False, lineterminator="\n"))


def no_formula(text: str) -> str:
    """Text that no spreadsheet calculates: each takes what begins so for a formula, quoted or not."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
