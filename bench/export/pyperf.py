"""pyperf's JSON (format 1.0): a benchmark for each case and metric, a run with one value for each trial.

pyperf knows seconds and bytes, and takes less for better. Throughput is therefore the time per message, its reciprocal;
what is neither a time nor an amount of memory is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bench.export._rows import Case, cases, definition, in_seconds, nothing, server_of, summarised, time_title
from bench.metrics import Metric
from bench.record import Run

summary = "pyperf's JSON: seconds and bytes, a value a trial"
default = "pyperf.json"

VERSION = "1.0"


def render(run: Run) -> bytes:
    """Give the file. Raises BadInputError."""
    possible = (_benchmark(case, metric) for case in cases(run) for metric in summarised(case))
    found = [benchmark for benchmark in possible if benchmark]
    if not found:
        raise nothing(run)
    content = {"version": VERSION, "metadata": _of_the_run(run), "benchmarks": found}
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _benchmark(case: Case, metric: Metric) -> dict[str, Any]:
    """One benchmark; nothing where it is of no kind that pyperf has."""
    measured = [(_value(metric, value), trial) for value, trial in case.measured(metric)]
    runs = [
        {"metadata": _told({"date": _date(trial["started"]), "trial": trial["id"]}), "values": [value]}
        for value, trial in measured
        if value is not None
    ]
    if not runs:
        return {}
    about = {"name": f"{case.name}: {time_title(metric)}", "unit": "byte" if metric.unit == "bytes" else "second"}
    about |= {"server": server_of(case), "note": case.note(metric)}
    return {"metadata": _told(about | definition(case.record.trial)), "runs": runs}


def _value(metric: Metric, value: float) -> float | None:
    return round(value) if metric.unit == "bytes" else in_seconds(metric, value)


def _date(started: str) -> str:
    """A time as pyperf writes it, in UTC; nothing where it can't be read."""
    try:
        return datetime.fromisoformat(started).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    except ValueError:
        return ""


def _of_the_run(run: Run) -> dict[str, Any]:
    host = run.manifest.host
    facts = {
        "cpu_model_name": host.get("cpu_model"),
        "cpu_count": host.get("cpus"),
        "platform": " ".join(str(host[name]) for name in ("system", "kernel", "machine") if host.get(name)),
        "iobench_version": run.manifest.versions.get("iobench"),
        "iobench_run": run.folder.resolve().name,
    }
    return _told(facts)


def _told(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as text on one line each, without those that there are none of: pyperf refuses empty ones."""
    texts = {name: " ".join(str(value).split()) for name, value in facts.items() if value is not None}
    return {name: text for name, text in texts.items() if text}
