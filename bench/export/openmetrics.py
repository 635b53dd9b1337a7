"""OpenMetrics text (1.0), for Prometheus and what reads its format: series of each trial, at the time that it began.

Units are base units: seconds and bytes. `promtool tsdb create-blocks-from openmetrics` reads such a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from bench.analyse import analyse
from bench.export._rows import definition, nothing
from bench.metrics import METRICS, QUANTILES, Metric
from bench.record import Record, Run
from bench.rows import dicts

summary = "OpenMetrics text: series of each trial, with its time"
default = "metrics.txt"


class Family(NamedTuple):
    """A metric family. `scale` converts to its unit."""

    name: str
    kind: str
    unit: str
    text: str
    scale: float = 1.0


GAUGES = {
    "rate_hz": Family("iobench_throughput_messages_per_second", "gauge", "", "Messages echoed and verified."),
    "offered_hz": Family("iobench_offered_messages_per_second", "gauge", "", "Messages planned."),
    "of_maximum": Family(
        "iobench_of_generator_maximum_ratio", "gauge", "ratio", "Throughput by what the load generator can do.", 0.01
    ),
    "mb_s": Family("iobench_echoed_bytes_per_second", "gauge", "", "Bytes echoed.", 1e6),
    "cpu_us": Family("iobench_server_cpu_per_message_seconds", "gauge", "seconds", "Server CPU per message.", 1e-6),
    "cpu_user_us": Family(
        "iobench_server_cpu_user_per_message_seconds", "gauge", "seconds", "Of it, in user mode.", 1e-6
    ),
    "cpu_system_us": Family(
        "iobench_server_cpu_system_per_message_seconds", "gauge", "seconds", "Of it, in the kernel.", 1e-6
    ),
    "switches": Family("iobench_server_switches_per_message", "gauge", "", "Context switches of the server."),
    "messages_per_cpu_s": Family("iobench_messages_per_server_cpu_second", "gauge", "", "Messages by server CPU time."),
    "rss_peak_bytes": Family("iobench_server_rss_peak_bytes", "gauge", "bytes", "Peak resident memory of the server."),
    "connection_kib": Family(
        "iobench_server_memory_per_connection_bytes", "gauge", "bytes", "Heap and stacks that it grew by.", 1024
    ),
}
SUMMARIES = {
    "latency": Family(
        "iobench_latency_seconds", "summary", "seconds", "From the planned send where there is a plan.", 1e-6
    ),
    "service": Family("iobench_service_seconds", "summary", "seconds", "From the actual send.", 1e-6),
    "response": Family("iobench_response_seconds", "summary", "seconds", "From the planned send.", 1e-6),
    "lag": Family("iobench_send_lag_seconds", "summary", "seconds", "From the planned to the actual send.", 1e-6),
    "connect": Family("iobench_connect_seconds", "summary", "seconds", "Connecting.", 1e-6),
}
SUCCESS = Family("iobench_trial_success", "gauge", "", "1 where the trial succeeded, 0 where it failed.")
ABOUT = Family("iobench_run", "info", "", "The run that all of this is of.")


def render(run: Run) -> bytes:
    """Give the file. Trials that could not be run here have no series. Raises BadInputError."""
    ran = [record for record in run.records if record.status != "unavailable"]
    if not ran:
        raise nothing(run)
    ran.sort(key=lambda record: (record.order, record.id))
    rows = {str(row["id"]): row for row in dicts(analyse(run).trials)}
    lines = [*_heading(ABOUT), f"{ABOUT.name}_info{{{_labels(_of_the_run(run))}}} 1"]
    lines += [*_heading(SUCCESS), *(_line(SUCCESS.name, record, {}, float(record.status == "ok")) for record in ran)]
    good = [(record, rows[record.id]) for record in ran if record.status == "ok"]
    for metric in METRICS:
        if metric.name in GAUGES:
            lines += _family(GAUGES[metric.name], good, [metric])
    for of, family in SUMMARIES.items():
        lines += _family(family, good, [metric for metric in QUANTILES if metric.of == of])
    return "\n".join([*lines, "# EOF"]).encode() + b"\n"


def _family(family: Family, good: Sequence[tuple[Record, Mapping[Any, Any]]], metrics: list[Metric]) -> Iterator[str]:
    """The lines of a family; none where no trial has a value."""
    samples = [
        _line(family.name, record, _quantile(metric), row[metric.name] * family.scale)
        for record, row in good
        for metric in metrics
        if row[metric.name] >= 0  # NaN is not
    ]
    if samples:
        yield from _heading(family)
        yield from samples


def _heading(family: Family) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {family.text}"


def _quantile(metric: Metric) -> dict[str, str]:
    return {} if metric.quantile is None else {"quantile": f"{metric.quantile:g}"}


def _line(name: str, record: Record, more: Mapping[str, str], value: float) -> str:
    labels = definition(record.trial) | {"repeat": str(record.trial.repeat), "trial": record.id, **more}
    return f"{name}{{{_labels(labels)}}} {value:.9g}{_time(record.started)}"


def _labels(values: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _time(started: str) -> str:
    try:
        return f" {datetime.fromisoformat(started).timestamp():.3f}"
    except ValueError:
        return ""


def _of_the_run(run: Run) -> dict[str, str]:
    host, manifest = run.manifest.host, run.manifest
    found = {
        "run": run.folder.resolve().name,
        "sweep": manifest.sweep.get("name"),
        "iobench": manifest.versions.get("iobench"),
        "cpu_model": host.get("cpu_model"),
        "kernel": host.get("kernel"),
    }
    return {name: str(value) for name, value in found.items() if value}
