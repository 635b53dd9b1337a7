"""pytest-benchmark's JSON: a benchmark for each case and time, a round for each trial; grouped by metric.

It knows seconds only, and takes less for better. Throughput is therefore the time per message, its reciprocal.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from bench.export._rows import Case, cases, definition, in_seconds, nothing, server_of, summarised, time_title
from bench.metrics import Metric
from bench.record import Run

summary = "pytest-benchmark's JSON: seconds, a round a trial"
default = "pytest-benchmark.json"

VERSION = "5.0.0"  # of pytest-benchmark, whose form this is


def render(run: Run) -> bytes:
    """Give the file. Raises BadInputError."""
    possible = (_benchmark(case, metric) for case in cases(run) for metric in summarised(case))
    found = [benchmark for benchmark in possible if benchmark]
    if not found:
        raise nothing(run)
    content = {
        "machine_info": _machine(run),
        "commit_info": _commit(run),
        "benchmarks": found,
        "datetime": run.manifest.created,
        "version": VERSION,
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _benchmark(case: Case, metric: Metric) -> dict[str, Any]:
    """One benchmark; nothing where it is no time."""
    converted = [in_seconds(metric, value) for value, _ in case.measured(metric)]
    seconds = [value for value in converted if value is not None]
    if not seconds:
        return {}
    title = time_title(metric)
    about = definition(case.record.trial)
    ids = [trial["id"] for trial in case.trials]
    return {
        "group": title,
        "name": case.name,
        "fullname": f"iobench::{case.name}[{title}]",
        "params": about,
        "param": case.name,
        "extra_info": {
            "server": server_of(case),
            "note": case.note(metric),
            "trials": ids,
        },
        "options": {"warmup": False, "timer": "iobench", "disable_gc": False},
        "stats": stats(seconds),
    }


def stats(values: Sequence[float]) -> dict[str, Any]:
    """Sum up as pytest-benchmark does: quartiles, Tukey's fences, and the outliers of both kinds."""
    ordered = sorted(values)
    mean = statistics.fmean(ordered)
    spread = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
    q1, median, q3 = statistics.quantiles(ordered, method="inclusive") if len(ordered) > 1 else ordered * 3
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    within = [value for value in ordered if low <= value <= high] or ordered  # equal values, and rounding
    far = sum(abs(value - mean) > spread for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(ordered),
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(ordered) - len(within),
        "stddev_outliers": far,
        "outliers": f"{far};{len(ordered) - len(within)}",
        "ld15iqr": within[0],
        "hd15iqr": within[-1],
        "ops": 1 / mean,
        "total": sum(ordered),
        "data": list(values),
        "iterations": 1,
    }


def _machine(run: Run) -> dict[str, Any]:
    host, versions = run.manifest.host, run.manifest.versions
    return {
        "node": "",  # iobench takes down no name of a machine
        "processor": str(host.get("cpu_model", "")),
        "machine": str(host.get("machine", "")),
        "python_compiler": str(host.get("compiler", "")),
        "python_implementation": str(host.get("interpreter", "")).partition(" ")[0],
        "python_version": versions.get("python", ""),
        "release": str(host.get("kernel", "")),
        "system": str(host.get("system", "")),
        "cpu": {"brand_raw": str(host.get("cpu_model", "")), "count": host.get("cpus")},
    }


def _commit(run: Run) -> dict[str, Any]:
    found = run.manifest.host.get("git")
    git = found if isinstance(found, dict) else {}
    return {"id": str(git.get("commit", "unknown")), "dirty": git.get("dirty") is True, "project": "iobench"}
