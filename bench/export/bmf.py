"""Bencher Metric Format: a benchmark for each case, a measure for each metric, with its interval.

A value of which only a lower bound is known is left out: the format has no way to say so, and an alert would be false.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from bench.export._rows import Case, cases, nothing, summarised
from bench.metrics import Metric
from bench.record import Run

summary = "Bencher Metric Format: a benchmark for each case"
default = "bmf.json"

LONGEST_NAME, LONGEST_MEASURE = 1024, 64  # characters


def render(run: Run) -> bytes:
    """Give the file. Raises BadInputError."""
    found = {case.name[:LONGEST_NAME]: _measures(case) for case in cases(run)}
    found = {name: measures for name, measures in found.items() if measures}
    if not found:
        raise nothing(run)
    return json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n"


def _measures(case: Case) -> dict[str, dict[str, float]]:
    sure = [metric for metric in summarised(case) if not case.estimates[metric.name]["lower_bound"]]
    return {measure(metric): _metric(case.estimates[metric.name]) for metric in sure}


def measure(metric: Metric) -> str:
    """The slug of a measure, such as p99-latency or server-cpu-per-message."""
    return re.sub(r"[^a-z0-9]+", "-", metric.title.lower())[:LONGEST_MEASURE].strip("-")


def _metric(estimate: dict[str, Any]) -> dict[str, float]:
    limits = {"lower_value": estimate["low"], "upper_value": estimate["high"]}
    return {"value": estimate["value"]} | {name: limit for name, limit in limits.items() if math.isfinite(limit)}
