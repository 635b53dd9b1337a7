"""JSON for github-action-benchmark's two custom tools: one file where bigger is better, one where smaller is."""

from __future__ import annotations

import json
import math
from typing import Any

from bench.export._rows import UNITLESS, Case, cases, nothing, summarised
from bench.metrics import Metric
from bench.record import Run

summary = "files for its two custom tools, one each direction"
default = "github-action-benchmark"

FILES = {"higher": "bigger-is-better.json", "lower": "smaller-is-better.json"}


def render(run: Run) -> dict[str, bytes]:
    """Give a file for each direction that there are metrics of. Raises BadInputError."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for case in cases(run):
        for metric in summarised(case):
            entries.setdefault(FILES[metric.better], []).append(_entry(case, metric))
    if not entries:
        raise nothing(run)
    return {name: json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n" for name, found in entries.items()}


def _entry(case: Case, metric: Metric) -> dict[str, Any]:
    estimate = case.estimates[metric.name]
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    lines = [f"{estimate['trials']} trials", f"interval: {low:g} to {high:g}", case.note(metric)]
    entry = {
        "name": f"{case.name}: {metric.title}",
        "unit": metric.unit or UNITLESS,
        "value": value,
        "extra": "\n".join(filter(None, lines)),
    }
    if math.isfinite(high):
        entry["range"] = f"± {max(high - value, value - low):g}"  # the action knows symmetric ones only
    return entry
