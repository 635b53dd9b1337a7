"""An experiment, what is observed in it, and the file of results: plain data. Nothing is run or printed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from bench.record import Amount

SCHEMA = 1


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, what should come of it, and what did. `holds` is None where nothing is expected: it is told."""

    what: str
    observed: str
    expected: str = ""
    holds: bool | None = None


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of (x, y) points by name, drawn on logarithmic axes."""

    title: str
    x: str  # what x is
    y: str
    lines: dict[str, list[tuple[Amount, Amount]]]


class Experiment(NamedTuple):
    """One file of the lab; its docstring is the long form of the claim.

    `run` is called in a process of its own, whose signals, limits and descriptors it may use as it likes, but it leaves
    no descriptor, child or file behind. `unavailable` gives the reason why this system can't run it, or nothing.
    """

    name: str
    claim: str  # in a line
    run: Callable[[], Iterator[Observation | Chart]]
    unavailable: Callable[[], str] = str


OUTCOMES = {"ok": "as expected", "failed": "not as expected", "unavailable": "can't run here"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one experiment. It fails if an observation does not hold, or if it does not come to its end."""

    name: str
    claim: str
    status: Literal["ok", "failed", "unavailable"]
    reason: str = ""  # where it isn't "ok"
    observations: list[Observation] = []
    charts: list[Chart] = []
    took_s: Amount = 0.0


class Lab(msgspec.Struct, kw_only=True):
    """lab.json: results/README.md describes it."""

    created: str  # UTC, ISO 8601
    took_s: float
    findings: list[Finding]
    host: dict[str, Any]
    versions: dict[str, str]
    command: list[str]
    schema: int = SCHEMA


def read_findings(lab: Mapping[str, Any] | None) -> list[Finding]:
    """Give the findings of a lab.json that was read as plain values; none where it has another form."""
    try:
        return msgspec.convert((lab or {}).get("findings", []), list[Finding])
    except msgspec.ValidationError:
        return []


def summed_up(findings: Sequence[Finding]) -> str:
    """One sentence with the number of experiments by what came of them, and the names of those that failed."""
    by_status = {
        status: [one.name for one in findings if one.status == status] for status in ("ok", "failed", "unavailable")
    }
    judged = [one.holds for found in findings for one in found.observations if one.holds is not None]
    text = f"{len(findings)} experiments: {len(by_status['ok'])} went as expected, {len(by_status['failed'])} did not"
    if by_status["failed"]:
        text += f" ({', '.join(by_status['failed'])})"
    return f"{text}, {len(by_status['unavailable'])} can't run here; {sum(judged)} of {len(judged)} observations hold."


def same(what: str, expected: object, observed: object) -> Observation:
    """Expect exactly this."""
    return Observation(what=what, expected=str(expected), observed=str(observed), holds=expected == observed)


def at_least(what: str, value: float, low: float, unit: str = "") -> Observation:
    """Expect a figure from a limit on."""
    return Observation(
        what=what, expected=f"≥ {with_unit(low, unit)}", observed=with_unit(value, unit), holds=value >= low
    )


def at_most(what: str, value: float, high: float, unit: str = "") -> Observation:
    """Expect a figure up to a limit."""
    return Observation(
        what=what, expected=f"≤ {with_unit(high, unit)}", observed=with_unit(value, unit), holds=value <= high
    )


def told(what: str, observed: object, unit: str = "") -> Observation:
    """Expect nothing: times, and whatever else differs from one system to the next."""
    text = with_unit(observed, unit) if isinstance(observed, (int, float)) else str(observed)
    return Observation(what=what, observed=text)


def with_unit(value: float, unit: str = "") -> str:
    """Write a number, whole or to three significant digits, and its unit."""
    text = f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()
