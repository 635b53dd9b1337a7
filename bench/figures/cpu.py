"""CPU time of the server per message, user and system, a panel a number of connections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.figures import bars, cases
from bench.figures.style import SYSTEM, USER, Look
from bench.metrics import CASE, CPU
from bench.rows import dicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = bars.Kind(
    CPU,
    (
        bars.Part("cpu_user_us", "user: the interpreter", USER),
        bars.Part("cpu_system_us", "system: the kernel", SYSTEM),
    ),
    "µs per message",
)


def rows(analysis: Analysis) -> pd.DataFrame:
    """Pick the CPU time per message of each case, with a column for each of its parts.

    It stays comparable where the client was the limit: that is no doubt here.
    """
    names = [part.column for part in KIND.parts]
    found = cases.measured(analysis, CPU.name, *names)
    split = {(_key(row), row["metric"]): row["value"] for row in dicts(found)}
    totals = found[found["metric"] == CPU.name]
    if totals["value"].isna().all():
        return totals[:0]
    keys = [_key(row) for row in dicts(totals)]
    parts = {name: [split.get((key, name), math.nan) for key in keys] for name in names}
    return totals.assign(doubts=cases.without(totals["doubts"], "client_bound"), **parts)


def _key(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in CASE)


def draw(totals: pd.DataFrame, _: Mapping[str, Look]) -> Figure:
    """Draw stacked bars. Takes what `rows` picks."""
    return bars.draw(totals, KIND)
