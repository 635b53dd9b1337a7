"""docs/export.md: each format has a line, and each command that reads one works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from spawn import ROOT
from synthetic import sweep, write_run

from bench.export import names
from bench.metrics import METRICS

TEXT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
EXAMPLES = TEXT.partition("<!-- examples -->\n```sh\n")[2].partition("```")[0].splitlines()
TAKES = {"parquet": "pyarrow", "pyperf": "pyperf", "pytest-benchmark": "pytest_benchmark", "junit": "junitparser"}
TAKES |= {"openmetrics": "prometheus_client"}


def format_of(example: str) -> str:
    found = re.search(r"--to (\S+)", example)
    assert found
    return found[1]


def test_every_format_has_a_row_and_an_example() -> None:
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|.*\|.*\|$", TEXT.partition("## ")[0], re.MULTILINE)) == names()
    assert sorted(map(format_of, EXAMPLES)) == names()


def test_every_metric_has_its_unit_and_its_direction() -> None:
    rows = re.findall(r"^\| (`.*) \| (\S+).* \| (higher|lower|–).*\|$", TEXT.partition("## Units")[2], re.MULTILINE)
    told = {name: (unit, better) for names, unit, better in rows for name in re.findall(r"`([a-z0-9_]+)`", names)}
    for metric in METRICS:
        name = metric.name if metric.quantile is None else "p50_us"
        assert told[name] == (metric.unit or "1", metric.better or "–")


@pytest.mark.parametrize("example", EXAMPLES, ids=map(format_of, EXAMPLES))
def test_the_examples_work_as_they_stand(tmp_path: Path, example: str) -> None:
    if format_of(example) in TAKES:
        pytest.importorskip(TAKES[format_of(example)])
    write_run(tmp_path / "RUN", sweep(repeats=2, counts=(1, 16)))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("iobench", "-m bench"), ("pytest-benchmark", "-m pytest_benchmark"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
