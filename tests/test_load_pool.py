"""Warm load generators: what one of them has to say is told once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load_pool import LoadPool
from bench.processes import Guard

NOTE = "it is compiled at every start"
A_LOAD_GENERATOR = f"""
import json, sys
print(json.dumps({{"event": "ready", "pid": 0, "note": {NOTE!r}}}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def guard() -> Iterator[Guard]:
    made = Guard()
    yield made
    made.close()


def test_what_a_load_generator_has_to_say_is_told_once(
    guard: Guard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "load.py").write_text(A_LOAD_GENERATOR)
    pool = LoadPool(guard, [], [sys.executable, str(tmp_path / "load.py")])
    try:
        first = pool.worker()
        first.usable = False
        assert pool.worker() is not first
    finally:
        pool.end()
    assert capsys.readouterr().err == f"note: {NOTE}.\n"
