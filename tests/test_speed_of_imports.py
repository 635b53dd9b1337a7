"""What a quick command imports: never what takes longer to import than the command to run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from spawn import ROOT
from synthetic import record, write_run

HEAVY = {"numpy", "pandas", "matplotlib", "scipy", "numba", "pyarrow", "hdrh", "jinja2", "dask", "playwright"}
NEEDLESS = {"msgspec", "psutil", "rich", "clients", "servers"}  # to say what commands there are
IMPORTED = """
import runpy, sys
sys.argv[0] = "iobench"
from bench.cli import main
try:
    main()
except SystemExit as ended:
    print("exit", ended.code, file=sys.stderr)
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported(*arguments: str, cwd: Path, **more: str) -> set[str]:
    """The packages that a command imports; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
    )
    *_, code, names = done.stderr.splitlines()
    assert code in ("exit 0", "exit None"), done.stderr
    return set(names.split())


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"], ["gate", "--help"], ["export", "--help"]])
def test_help_imports_hardly_anything(tmp_path: Path, arguments: list[str]) -> None:
    found = imported(*arguments, cwd=tmp_path)
    assert "typer" in found
    assert found & (HEAVY | NEEDLESS) == set()


@pytest.mark.parametrize("arguments", [["--version"], ["plan", "quick"], ["plan", "everything", "--trials"], ["list"]])
def test_what_measures_nothing_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    assert imported(*arguments, cwd=tmp_path) & HEAVY == set()


@pytest.mark.parametrize(
    "line",
    ["iobench ", "iobench sweep ", "iobench report ", "iobench export x --to ", "iobench serve e", "iobench lab "],
)
def test_completion_imports_nothing_heavy(tmp_path: Path, line: str) -> None:
    write_run(tmp_path / "results" / "quick-1", [record()])
    found = imported(
        cwd=tmp_path,
        _IOBENCH_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split(" ")) - 1),
    )
    assert found & (HEAVY | {"psutil", "servers", "clients"}) == set()
