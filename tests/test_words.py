"""Names, numbers and units as the report writes them."""

from __future__ import annotations

import pytest

from bench import words


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
    assert words.column_text("python", "pypy3") == "python pypy3"


def test_a_name_can_not_break_out_of_its_backticks_or_its_line() -> None:
    assert words.quoted("a`b\nc") == "`a'b c`"
