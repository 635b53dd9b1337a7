"""What a point of a figure says: whose it is and where, its numbers with their spread, what is to be
borne in mind, and its trials.

Plain text, a line for each of these. Nothing is drawn or marked up here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from bench.figures.style import ABSENT, HOLLOW
from bench.metrics import Metric
from bench.words import counted, digits, duration_text, value_text

MOST_IDS = 5  # of more trials the first are named


def lines(*parts: str) -> str:
    """Put one below the other what is not empty."""
    return "\n".join(filter(None, parts))


def place(*parts: str) -> str:
    """Say in one line whose a point is, and where."""
    return ", ".join(part for part in (" ".join(part.split()) for part in parts) if part)


def estimated(metric: Metric, row: Mapping[Any, Any]) -> str:
    """Say a case's estimate, with the range of its repeats: of a row of the table of estimates."""
    bound = "at least " if row["lower_bound"] else ""
    text = f"{metric.title}: {bound}{value_text(metric, row['value'])}"
    return text + spread(metric, row["min"], row["max"], row["n"])


def spread(metric: Metric, low: float, high: float, trials: int) -> str:
    """Say the range of several repeats; nothing of one."""
    if trials < 2 or math.isnan(low):
        return ""
    written = value_text if metric.unit in ("us", "bytes") else lambda _, value: digits(value)
    return f" ({written(metric, low)} to {written(metric, high)} in {counted(trials, 'trial')})"


def doubts(row: Mapping[Any, Any], but: str = "") -> str:
    """Say why a case has no value, or why its value is not to be taken as it stands, `but` for what is told already."""
    if row["doubts"] in ABSENT:
        return f"{row['doubts']}: {row['reason'] or 'no reason was recorded'}"
    found = [HOLLOW.get(flag, flag.replace("_", " ")) for flag in row["doubts"].split(", ") if flag not in ("", but)]
    return "; ".join(found)


def latency(p: float, row: Mapping[Any, Any]) -> str:
    """Say a percentile, with the range of the single trials': of a row of the table of curves."""
    bound = "at least " if row["lower_bound"] else ""
    text = f"p{100 * p:.6g}: {bound}{duration_text(row['value_us'])}"
    if math.isnan(row["min_us"]) or row["min_us"] == row["max_us"]:
        return text
    return f"{text} (trials by themselves {duration_text(row['min_us'])} to {duration_text(row['max_us'])})"


def limit(client_bound: int, trials: int) -> str:
    """Say in how many of the trials the client was the limit; nothing where in none."""
    return f"the client was the limit in {client_bound} of {counted(trials, 'trial')}" if client_bound else ""


def flagged(flags: str) -> str:
    """Say the flags of a trial or of a case."""
    return flags.replace("_", " ")


def trials(ids: str | Iterable[str]) -> str:
    """Name the trials by their ids, or the first ones and how many more there are."""
    found = ids.split() if isinstance(ids, str) else list(ids)
    if len(found) > MOST_IDS + 1:
        return f"trials {' '.join(found[:MOST_IDS])} and {len(found) - MOST_IDS:,} more"
    return f"trial{'s' if len(found) > 1 else ''} {' '.join(found)}" if found else ""
