"""What is estimated: the metrics, and the columns of a trial's definition by which trials are grouped.

Definitions only. No statistic is computed here, and no record is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.record import Trial

# The seed orders the execution and does not change what is measured.
CASE = tuple(name for name in Trial.__struct_fields__ if name not in ("repeat", "seed", "block"))
SETTING = tuple(name for name in CASE if name not in ("strategy", "connections"))
# Where strategies are compared with each other.
GROUP = (*SETTING, "connections")
# What all that is measured in turns, and compared, has in common: interpreters are compared too.
COMPARED = tuple(name for name in GROUP if name != "python")


@dataclass(frozen=True)
class Metric:
    """A column of the trial table that is estimated for each case.

    `quantile` marks a percentile, of the times named by `of`: "service" (from the actual send), "response" (from the
    planned one), "latency" (the response time where there is a plan, else the service time: what a user waits), "lag"
    (from the planned to the actual send), "connect". A metric that is not `judged` is a condition of the trial, and
    neither better nor worse.
    """

    name: str
    heading: str  # of a column; with the unit
    title: str
    unit: str
    higher_is_better: bool = False
    quantile: float | None = None
    of: str = ""
    judged: bool = True

    @property
    def better(self) -> str:
        """Which values are better: "higher", "lower", or "" for a condition."""
        return "" if not self.judged else "higher" if self.higher_is_better else "lower"


PERCENTILES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"))


def _percentiles(of: str, title: str, *names: str) -> tuple[Metric, ...]:
    """A metric for each of the named percentiles, or for all of them."""
    prefix = "" if of == "latency" else f"{of}_"
    return tuple(
        Metric(
            name=f"{prefix}{name.replace('.', '')}_us",
            heading=f"{prefix.replace('_', ' ')}{name} µs",
            title=f"{name} {title}",
            unit="us",
            quantile=quantile,
            of=of,
        )
        for quantile, name in PERCENTILES
        if not names or name in names
    )


RATE = Metric("rate_hz", "messages/s", "throughput", "messages/s", higher_is_better=True)
CPU = Metric("cpu_us", "CPU µs", "server CPU per message", "us")
SWITCHES = Metric("switches", "switches", "context switches of the server per message", "")
OFFERED = Metric("offered_hz", "offered/s", "messages planned per second", "messages/s", judged=False)
LATENCY = _percentiles("latency", "latency")
P99 = next(metric for metric in LATENCY if metric.quantile == 0.99)
METRICS = (
    RATE,
    OFFERED,
    Metric(
        "of_maximum",
        "of max %",
        "throughput by what the generator can do at most with a null echo here",
        "%",
        higher_is_better=True,
    ),
    Metric("mb_s", "MB/s", "megabytes echoed per second", "MB/s", higher_is_better=True),
    CPU,
    Metric("cpu_user_us", "user µs", "user CPU of the server per message", "us"),
    Metric("cpu_system_us", "system µs", "system CPU of the server per message", "us"),
    *LATENCY,
    *_percentiles("service", "service time, from the actual send"),
    *_percentiles("response", "response time, from the planned send"),
    *_percentiles("lag", "schedule lag, from the planned to the actual send", "p50", "p99"),
    *_percentiles("connect", "time to connect", "p50", "p99"),
    SWITCHES,
    Metric("messages_per_cpu_s", "messages/CPU-s", "messages per server CPU-second", "", higher_is_better=True),
    Metric("rss_peak_bytes", "memory MiB", "peak resident memory of the server", "bytes"),
    Metric(
        "connection_kib",
        "KiB/connection",
        "heap and stacks that the server grew by from its start to the end of the window, by the number of "
        "connections, from 100 on; what the kernel holds (socket buffers, page tables) is not in it",
        "KiB",
    ),
)
QUANTILES = tuple(metric for metric in METRICS if metric.quantile is not None)
CONTESTED = (RATE, CPU, P99)
