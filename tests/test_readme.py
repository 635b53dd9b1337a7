"""The README: what it promises is there, and what is there is in it."""

from __future__ import annotations

import re

import pytest
from spawn import ROOT, list_strategies

from bench.cli import app
from bench.sweep import names

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+\*?)` \| .* \| \[(\w+)\.py\]", README, re.MULTILINE)


def test_the_table_of_strategies_has_every_one_of_them_with_its_file_and_no_other() -> None:
    strategies = {found["name"]: found["module"] for found in list_strategies()}
    told = {
        name: module
        for pattern, module in ROWS
        for name in strategies
        if re.fullmatch(pattern.replace("*", r"\w+"), name)
    }
    assert told == strategies
    assert all(any(re.fullmatch(row.replace("*", r"\w+"), name) for name in strategies) for row, _ in ROWS)


def test_every_command_is_told_of() -> None:
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert [name for name in commands if f"`iobench {name}" not in README] == []


@pytest.mark.parametrize("name", names())
def test_every_sweep_is_told_of(name: str) -> None:
    assert f"iobench sweep {name}" in README or name == "quick"


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
