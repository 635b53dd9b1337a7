"""Names, numbers and units as the report writes them."""

from __future__ import annotations

import pytest
from synthetic import record

from bench import words
from bench.record import Trial


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (123456, "123,000"), (9.999, "10.0"), (1.005, "1.00"), (0.2817, "0.282"), (0.00012345, "0.000123")],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert words.digits(value) == text


@pytest.mark.parametrize(("us", "text"), [(0.25, "250 ns"), (56.19, "56.2 µs"), (2009, "2.01 ms"), (3.2e6, "3.20 s")])
def test_durations_are_in_the_unit_that_suits_them(us: float, text: str) -> None:
    assert words.duration_text(us) == text


def test_a_column_that_this_file_does_not_know_is_said_by_name() -> None:
    assert words.column_text("planet", "Mars") == "planet Mars"


def test_a_name_can_not_break_out_of_its_backticks_or_its_line() -> None:
    assert words.quoted("a`b\nc") == "`a'b c`"


SETTING = {"transport": "tcp", "workload": "closed", "depth": 1, "silent": 0, "python": "", "connections": 16}


def test_a_setting_is_told_by_what_differs_and_is_not_as_usual() -> None:
    idle = SETTING | {"workload": "idle", "silent": 2000}
    deep = SETTING | {"depth": 8}
    assert [words.title(one, [SETTING, idle, deep]) for one in (SETTING, idle, deep)] == [
        "closed loop",
        "idle workload, 2,000 silent connections",
        "closed loop, depth 8",
    ]


def test_how_messages_arrive_is_told_only_where_it_differs_within_the_workload() -> None:
    one, other = (SETTING | {"workload": "open", "arrivals": arrivals} for arrivals in ("poisson", "constant"))
    closed = SETTING | {"arrivals": "constant"}
    assert words.title(one, [closed, one]) == "open loop"
    assert words.title(one, [closed, one, other]) == "open loop, poisson arrivals"


def test_a_setting_that_differs_in_nothing_is_told_by_other_columns() -> None:
    assert words.title(SETTING, [SETTING], otherwise=("connections",)) == "16 connections"
    assert words.title(SETTING, [SETTING]) == ""


def test_where_interpreters_differ_every_one_is_named() -> None:
    other = SETTING | {"python": "pypy3"}
    assert words.title(SETTING, [SETTING, other]) == "on the Python that ran iobench"
    assert words.title(other, [SETTING, other]) == "on pypy3"


@pytest.mark.parametrize(
    ("slo", "text"),
    [("p99<5ms", "p99 < 5 ms"), ("p99.9<50us", "p99.9 < 50 µs"), ("fast enough", "fast enough")],
)
def test_an_objective_is_written_with_room(slo: str, text: str) -> None:
    assert words.objective_text(slo) == text


@pytest.mark.parametrize("name", sorted({*Trial.__struct_fields__} - {"strategy", "repeat", "seed", "block"}))
def test_every_column_of_a_definition_has_words_of_its_own(name: str) -> None:
    value = {"sizes": ((64, 9.0), (4096, 1.0)), "depth": 8000}.get(name, getattr(record().trial, name))
    assert words.column_text(name, value) != f"{name} {value}"
