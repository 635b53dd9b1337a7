"""How the report writes names, numbers, units and settings.

Plain text, with names between backticks. The answer in sentences is in answer.py, what limits it in caveats.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from bench.metrics import GROUP, Metric
from bench.record import Trial

MOST_NAMED = 4  # strategies in a sentence; the others are counted

# --- names, numbers, units


def quoted(name: str) -> str:
    """Put a name between backticks, on one line."""
    return f"`{' '.join(name.split()).replace('`', chr(39))}`"


def joined(parts: Sequence[str], last: str = "and") -> str:
    """Write a list in a sentence: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}" if parts else ""


def named(names: Sequence[str], last: str = "and") -> str:
    """Quote and join names, and count those beyond MOST_NAMED."""
    if len(names) <= MOST_NAMED + 1:
        return joined([quoted(name) for name in names], last)
    return joined([*(quoted(name) for name in names[:MOST_NAMED]), f"{len(names) - MOST_NAMED} more"], last)


def counted(number: float, noun: str, nouns: str = "") -> str:
    """Write a whole number with its noun in the singular or the plural."""
    return f"1 {noun}" if number == 1 else f"{number:,.0f} {nouns or noun + 's'}"


def digits(value: float) -> str:
    """Write a number to three significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.2e}")
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def percent(share: float) -> str:
    """Write a share as whole percents."""
    return f"{share:.0%}".replace("%", " %")


def exact_percent(share: float) -> str:
    """Write a share as percents, with as many digits as it has: 5 %, 2.5 %."""
    return f"{100 * share:g} %"


def duration_text(us: float, number: Callable[[float], str] = digits) -> str:
    """Write microseconds in the unit that suits them."""
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1.0)):
        if us >= size:
            return f"{number(us / size)} {unit}"
    return f"{number(us * 1e3)} ns"


def value_text(metric: Metric, value: float) -> str:
    """Write a value of a metric with its unit."""
    if metric.unit == "us":
        return duration_text(value)
    if metric.unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    return f"{digits(value)} {metric.unit}".strip()


def values_text(metric: Metric, values: Sequence[float]) -> str:
    """Write several values of a metric, with the unit after each where it may differ, otherwise after the last."""
    if metric.unit in ("us", "bytes"):
        return joined([value_text(metric, value) for value in values])
    return f"{joined([digits(value) for value in values])} {metric.unit}".strip()


# --- settings: what of a trial's definition differs within the run

_COLUMN_TEXT: dict[str, Callable[[Any], str]] = {
    "connections": lambda value: counted(value, "connection"),
    "message_bytes": lambda value: counted(value, "byte"),
    "transport": str,
    "workload": lambda value: f"{value} {'loop' if value in ('closed', 'open') else 'workload'}",
    "warmup_s": lambda value: f"{value:g} s of warm-up",
    "duration_s": lambda value: f"{value:g} s measured",
    "depth": lambda value: f"depth {value:,}",
    "planned_hz": lambda value: f"{digits(value)} messages/s planned",
    "load_fraction": lambda value: f"{percent(value)} of its closed loop's rate",
    "arrivals": lambda value: f"{value} arrivals",
    "cap": lambda value: f"at most {value:,} outstanding",
    "silent": lambda value: counted(value, "silent connection"),
    "sizes": lambda value: f"sizes {', '.join(f'{size:,} B × {weight:g}' for size, weight in value)}",
    "ramp_s": lambda value: f"connections opened over {value:g} s",
    "threads": lambda value: counted(value, "load thread"),
    "trickle_bytes": lambda value: f"{counted(value, 'byte')} at a time",
    "trickle_hz": lambda value: f"{value:g} times a second",
    "python": lambda value: f"on {value or 'the Python that ran iobench'}",
    "slo": lambda value: f"search for {objective_text(value)}",
}


# What a column is where a sweep doesn't say; those that it has to say have none.
USUAL = {field.name: field.default for field in msgspec.structs.fields(Trial)}


def objective_text(slo: str) -> str:
    """Write an objective such as "p99<5ms" as p99 < 5 ms."""
    match = re.fullmatch(r"(p[\d.]+)<([\d.]+)([nuµm]?s)", slo)
    return f"{match[1]} < {match[2]} {match[3].replace('u', 'µ')}" if match else slo


def column_text(name: str, value: Any) -> str:
    """Say the value of one column of a definition."""
    return _COLUMN_TEXT.get(name, lambda value: f"{name} {value}")(value)


def varying(table: pd.DataFrame, columns: Iterable[str] = GROUP) -> list[str]:
    """Name the columns with more than one value."""
    return [name for name in columns if table[name].nunique() > 1]


def split(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Split a table by the values of some columns, in their order."""
    return [(dict(zip(columns, key, strict=True)), rows) for key, rows in table.groupby(list(columns), sort=True)]


def title(one: Mapping[str, Any], among: Iterable[Mapping[str, Any]], otherwise: Sequence[str] = ()) -> str:
    """Say how one setting differs from the others; where it doesn't, say the columns in `otherwise`.

    What is as usual goes without saying, although others differ from it; and how messages arrive, where all of the
    workload arrive alike.
    """
    others = list(among)
    rivals = {name: others if name != "arrivals" else _alike(one, others) for name in one}
    differing = [name for name in one if any(other[name] != one[name] for other in rivals[name])]
    told = [column_text(name, one[name]) for name in differing if one[name] != USUAL[name] or name == "python"]
    return ", ".join(told or [column_text(name, one[name]) for name in otherwise])


def _alike(one: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [other for other in others if other.get("workload") == one.get("workload")]


def case_title(trial: Trial) -> str:
    """A name for a point, unlike that of any other: all of the definition that isn't the usual."""
    parts = [trial.strategy, *([f"on {trial.python}"] if trial.python else []), trial.transport]
    parts.append(f"{trial.connections} x {trial.message_bytes} B")
    parts += ["mixed sizes"] if trial.sizes else []
    parts += [trial.workload] if trial.workload != "closed" else []
    parts += [f"{trial.depth} deep"] if trial.depth > 1 else []
    parts += [f"{trial.load_fraction:.0%} of its throughput".replace("%", " %")] if trial.load_fraction else []
    parts += [f"{trial.planned_hz:,.0f}/s"] if trial.planned_hz else []
    parts += [trial.arrivals] if trial.arrivals != "constant" else []
    parts += [f"at most {trial.cap}"] if trial.cap else []
    parts += [f"{trial.silent} silent"] if trial.silent else []
    parts += [f"{trial.threads} load threads"] if trial.threads > 1 else []
    parts += [f"{trial.trickle_bytes} B at {trial.trickle_hz:g} Hz"] if trial.workload == "slow" else []
    return ", ".join(parts)
