"""Paragraphs: no line wider than 80 columns, but for a word that is longer."""

from __future__ import annotations

import pytest

from bench.say import NO_BREAK, complain, say


def test_a_paragraph_is_wrapped_and_indented(capsys: pytest.CaptureFixture[str]) -> None:
    say("word " * 40, indent="  ")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.startswith("  ") for line in lines] == [False, True, True]


def test_a_word_longer_than_a_line_stays_whole_and_with_what_it_is_bound_to(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/long" * 20
    complain(f"error:{NO_BREAK}{path} is not there.")
    assert capsys.readouterr().err == f"error: {path}\nis not there.\n"
