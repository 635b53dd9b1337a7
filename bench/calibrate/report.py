"""A calibration as a file, and as a table within 80 columns. Nothing is measured or judged here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench import one_step
from bench.calibrate.claim import Check, Finding, Verdict
from bench.errors import BadInputError
from bench.record import read_kept
from bench.say import WIDTH

SCHEMA = 1
NEWEST = "calibration.json"
COLOURS = {"passed": "green", "failed": "bold red", "inconclusive": "yellow"}
EXIT_CODES: dict[Verdict, int] = {"passed": 0, "failed": 1, "inconclusive": 3}  # as the gate has them


class Calibration(msgspec.Struct, kw_only=True):
    """calibration.json: docs/calibration.md describes it."""

    created: str  # UTC, ISO 8601
    quick: bool
    verdict: Verdict
    took_s: float
    maxima_hz: dict[str, float]  # transport -> messages of 64 bytes a second that the generator can do at most
    findings: list[Finding]
    host: dict[str, Any]
    versions: dict[str, str]
    command: list[str]
    schema: int = SCHEMA


def overall(findings: Sequence[Finding]) -> Verdict:
    """The verdict on all claims: failed if one failed, inconclusive if one was, and none failed."""
    verdicts = {finding.verdict for finding in findings}
    for verdict in ("failed", "inconclusive"):
        if verdict in verdicts:
            return verdict
    return "passed"


def make_folder(results: Path) -> None:
    """Make the results folder, before anything is measured. Raises BadInputError, for what can't be read there, too."""
    read_kept(results / NEWEST, dict[str, Any])
    try:
        one_step.try_to_write(results / NEWEST, make_folder=True)
    except OSError as error:
        raise BadInputError(
            f"Nothing can be written to {results}: {error.strerror}.",
            "iobench calibrate --results DIR, with a DIR that you may write to",
        ) from None


def write(results: Path, calibration: Calibration) -> Path:
    """Write the calibration under the time of its making, and as the newest, each in one step. Raises BadInputError."""
    encoded = msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n"
    time = calibration.created.replace("-", "").replace(":", "").partition(".")[0]
    path = results / f"calibration-{time}Z.json"
    try:
        for target in (path, results / NEWEST):
            one_step.write(target, encoded)
    except OSError as error:
        raise BadInputError(f"{path} can't be written: {error.strerror}.", f"df {results}") from None
    return path


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print the table: a row for each claim, and one for each of its figures."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, width=min(WIDTH, console.width))
    table.add_column("claim", ratio=1)
    table.add_column("expected", justify="right")
    table.add_column("measured", justify="right")
    table.add_column("verdict", width=len("inconclusive"))
    for finding in findings:
        colour = COLOURS[finding.verdict]
        table.add_row(f"[bold]{finding.claim}[/]", "", "", f"[{colour}]{finding.verdict}[/]")
        for check in finding.checks:
            mark = "" if check.holds else "out of range"
            table.add_row(f"  {check.what}", expected(check), measured(check), mark)
    console.print(table)


def remarks(findings: Sequence[Finding]) -> list[str]:
    """What there is to say beyond the table, a paragraph each."""
    told = []
    for finding in findings:
        if finding.verdict != "passed":
            twice = " (measured twice)" if finding.attempts > 1 else ""
            told.append(f"{finding.claim}: {finding.verdict}{twice}: {finding.reason}.")
        elif finding.disturbances:
            told.append(f"{finding.claim}: passed, although {'; '.join(finding.disturbances)}.")
        told += [f"{finding.claim}: {note}." for note in finding.notes]
    return told


def summary(findings: Sequence[Finding]) -> str:
    """One sentence with the number of claims by verdict."""
    number = Counter(finding.verdict for finding in findings)
    return f"{number['passed']} passed, {number['failed']} failed, {number['inconclusive']} inconclusive"


def conclusion(findings: Sequence[Finding]) -> str:
    """Say how much of what is claimed of the load generator is proved on this machine, and what is not."""
    named = {
        verdict: ", ".join(one.claim for one in findings if one.verdict == verdict)
        for verdict in ("failed", "inconclusive")
    }
    proved = sum(one.verdict == "passed" for one in findings)
    text = f"On this machine {proved} of {len(findings)} claims are proved"
    text += f"; not true: {named['failed']}" if named["failed"] else ""
    text += f"; neither proved nor refuted: {named['inconclusive']}" if named["inconclusive"] else ""
    return f"{text}."


def expected(check: Check) -> str:
    """The accepted range in words."""
    low, high, target = check.low, check.high, check.target
    if target is not None and low is not None and high is not None:
        off = max(high - target, target - low)
        if off == 0:
            return _with_unit(target, check.unit)
        if abs((high - target) - (target - low)) < 1e-9 * max(1.0, abs(target)):
            return f"{_number(target)} ± {_with_unit(off, check.unit, 2)}"
    if low is None and high is None:
        return ""
    if low is None:
        return f"≤ {_with_unit(high or 0.0, check.unit)}"
    if high is None:
        return f"≥ {_with_unit(low, check.unit)}"
    return f"{_number(low)} .. {_with_unit(high, check.unit)}"


def measured(check: Check) -> str:
    """The figure in words."""
    return "nothing" if check.value is None else _with_unit(check.value, check.unit)


def _with_unit(value: float, unit: str, digits: int = 4) -> str:
    space = "" if unit in ("%", "/s") else " "
    return f"{_number(value, digits)}{space}{unit}".rstrip()


def _number(value: float, digits: int = 4) -> str:
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
