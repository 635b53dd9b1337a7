"""One run of the load generator in words: what `python -m clients ADDRESS` prints, within 80 columns."""

from __future__ import annotations

import textwrap
from typing import Any

from clients import histogram
from clients.job import Job, Load

# Fewer samples than these and a 95 % order-statistic interval has no upper end: the percentile is not known.
NEEDED = {50.0: 8, 90.0: 36, 99.0: 726, 99.9: 7_289, 99.99: 72_928}
BUSY = 0.8  # a load thread on a CPU for this share of the window or more is itself the limit


def percentiles(load: Load) -> dict[str, int | None]:
    """Service times in ns: min, p50 ... p99.99, max; None where there are too few samples for it."""
    recorded = histogram.to_hdr(histogram.decode(load.service_hdr))
    if not load.completed:
        return dict.fromkeys(["min", *(f"p{level:g}" for level in NEEDED), "max"])
    values: dict[str, int | None] = {"min": recorded.min_value}
    for level, needed in NEEDED.items():
        values[f"p{level:g}"] = recorded.get_value_at_percentile(level) if load.completed >= needed else None
    values["max"] = recorded.max_value
    return values


def client_bound(load: Load) -> bool:
    """Whether a load thread had no time left, so that the figures are the client's rather than the server's."""
    return max(load.worker_busy) >= BUSY


def figures(load: Load) -> dict[str, Any]:
    """Return what is derived from a load, for --json."""
    window_s = (load.closed_ns - load.opened_ns) / 1e9
    return {
        "window_s": window_s,
        "messages_per_s": load.completed / window_s,
        "bytes_per_s": load.bytes_echoed / window_s,
        "service_ns": percentiles(load),
        "client_bound": client_bound(load),
        "failed": failed(load),
    }


def failed(load: Load) -> int:
    """Messages that were planned and got no right echo, those still under way apart."""
    return sum(load.errors.values()) + load.timed_out


def describe(job: Job, load: Load) -> str:
    """Return the summary: some lines of text."""
    derived = figures(load)
    busy = max(load.worker_busy)
    cpu_ns = load.cpu_user_ns + load.cpu_system_ns
    lines = [
        job.address,
        f"  closed loop, {load.connections:,} connections, {job.message_bytes:,} bytes a message, "
        f"{derived['window_s']:.2f} s",
        "",
        f"  rate      {derived['messages_per_s']:,.0f} messages/s, {derived['bytes_per_s'] / 1e6:,.1f} MB/s each way",
        f"  echoed    {load.completed:,} of {load.planned:,} messages, {load.in_flight:,} under way at the end",
        textwrap.fill(_errors(load), 80, initial_indent="  errors    ", subsequent_indent=" " * 12),
        "",
        "  service time, from the write to the last byte of the echo",
        *_table(derived["service_ns"]),
        "",
        f"  client    {busy:.0%} of one CPU"
        + (f", {cpu_ns / load.completed:,.0f} ns a message" if load.completed else ""),
        f"            {_verdict(busy)}",
    ]
    return "\n".join(lines)


def _errors(load: Load) -> str:
    kinds = dict(load.errors)
    if load.timed_out:
        kinds["timed_out"] = load.timed_out
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items())) or "none"


def _table(values: dict[str, int | None]) -> list[str]:
    given = {name: value for name, value in values.items() if value is not None}
    left_out = [name for name, value in values.items() if value is None]
    lines = []
    if given:
        lines.append("  " + "".join(f"{name:>9}" for name in given).rstrip())
        lines.append("  " + "".join(f"{_time(value):>9}" for value in given.values()).rstrip())
    if left_out:
        lines.append(f"  too few samples for {', '.join(left_out)}")
    return lines


def _time(ns: int) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:,.0f} {unit}"
    return f"{ns} ns"


def _verdict(busy: float) -> str:
    if busy >= BUSY:
        return "The client was the bottleneck: the server may well be faster than this."
    return "The client had time to spare: the figures are the server's."
