"""The rows of a table as dicts, and values by their keys: what pandas gives, sooner."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from synthetic import analysed, load_sweep, sweep

from bench.metrics import CASE, RATE
from bench.record import Record
from bench.rows import by_key, dicts


@pytest.mark.parametrize("records", [sweep(repeats=2), load_sweep(repeats=1)], ids=["closed", "open"])
@pytest.mark.parametrize("table", ["trials", "cases", "estimates", "curves", "load_points"])
def test_rows_are_those_of_pandas_in_values_and_types(records: list[Record], table: str) -> None:
    rows = getattr(analysed(*records), table)
    ours, theirs = dicts(rows), rows.to_dict("records")
    assert [list(row) for row in ours] == [list(row) for row in theirs]
    assert repr(ours) == repr(theirs)
    assert [[type(value) for value in row.values()] for row in ours] == [
        [type(value) for value in row.values()] for row in theirs
    ]


def test_a_table_without_rows_or_columns_has_no_dicts() -> None:
    assert dicts(pd.DataFrame(columns=["a", "b"])) == []
    assert dicts(pd.DataFrame()) == []


def test_what_is_missing_stays_missing() -> None:
    (first, second) = dicts(pd.DataFrame({"a": [1.5, math.nan], "b": ["x", None], "c": [True, False]}))
    assert first == {"a": 1.5, "b": "x", "c": True}
    assert math.isnan(second["a"])
    assert second["b"] is None or math.isnan(second["b"])


def test_values_are_found_by_their_keys_in_the_order_of_the_table() -> None:
    table = pd.DataFrame({"name": ["b", "a", "b"], "at": [1, 1, 1], "value": [3.0, 1.0, 2.0]})
    assert by_key(table, ["name", "at"], "value") == {("b", 1): [3.0, 2.0], ("a", 1): [1.0]}
    assert by_key(table[:0], ["name", "at"], "value") == {}


def test_every_case_of_a_run_has_its_repeats() -> None:
    trials = analysed(*sweep(repeats=3)).trials
    grouped = {key: list(own) for key, own in trials.groupby(list(CASE))[RATE.name]}
    assert by_key(trials, CASE, RATE.name) == grouped
