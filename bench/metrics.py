"""What is estimated: the metrics, and the columns of a trial's definition by which trials are grouped.

Definitions only. No statistic is computed here, and no record is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.record import Trial

# The seed orders the execution and does not change what is measured.
CASE = tuple(name for name in Trial.__struct_fields__ if name not in ("repeat", "seed"))
SETTING = tuple(name for name in CASE if name not in ("strategy", "connections"))
# Where strategies are compared with each other.
GROUP = (*SETTING, "connections")


@dataclass(frozen=True)
class Metric:
    """A column of the trial table that is estimated for each case. `quantile` marks one of the service time."""

    name: str
    heading: str  # of a column; with the unit
    title: str
    unit: str
    higher_is_better: bool = False
    quantile: float | None = None


RATE = Metric("rate_hz", "messages/s", "throughput", "messages/s", higher_is_better=True)
CPU = Metric("cpu_us", "CPU µs", "server CPU per message", "us")
P99 = Metric("p99_us", "p99 µs", "p99 of the service time", "us", quantile=0.99)
METRICS = (
    RATE,
    CPU,
    Metric("cpu_user_us", "user µs", "user CPU of the server per message", "us"),
    Metric("cpu_system_us", "system µs", "system CPU of the server per message", "us"),
    Metric("p50_us", "p50 µs", "p50 of the service time", "us", quantile=0.5),
    Metric("p90_us", "p90 µs", "p90 of the service time", "us", quantile=0.9),
    P99,
    Metric("p999_us", "p99.9 µs", "p99.9 of the service time", "us", quantile=0.999),
    Metric("p9999_us", "p99.99 µs", "p99.99 of the service time", "us", quantile=0.9999),
    Metric("switches", "switches", "context switches of the server per message", ""),
    Metric("messages_per_cpu_s", "messages/CPU-s", "messages per server CPU-second", "", higher_is_better=True),
    Metric("rss_peak_bytes", "memory MiB", "peak resident memory of the server", "bytes"),
)
QUANTILES = tuple(metric for metric in METRICS if metric.quantile is not None)
CONTESTED = (RATE, CPU, P99)
