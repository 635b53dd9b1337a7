"""One run of the load generator in words: what `python -m clients ADDRESS` prints, within 80 columns."""

from __future__ import annotations

import textwrap
from typing import Any

from clients import histogram
from clients.job import Job, Load
from clients.objective import BUSY, client_bound, late_ns

# Fewer samples than these and a 95 % order-statistic interval has no upper end: the percentile is not known.
NEEDED = {50.0: 8, 90.0: 36, 99.0: 726, 99.9: 7_289, 99.99: 72_928}


def percentiles(text: str) -> dict[str, int | None]:
    """Times in ns of an encoded histogram: min, p50 ... p99.99, max; None where there are too few samples for it."""
    names = ["min", *(f"p{level:g}" for level in NEEDED), "max"]
    recorded = histogram.to_hdr(histogram.decode(text)) if text else None
    if recorded is None or not recorded.total_count:
        return dict.fromkeys(names)
    values: dict[str, int | None] = {"min": recorded.min_value}
    for level, needed in NEEDED.items():
        values[f"p{level:g}"] = recorded.get_value_at_percentile(level) if recorded.total_count >= needed else None
    values["max"] = recorded.max_value
    return values


def figures(load: Load) -> dict[str, Any]:
    """Return what is derived from a load, for --json."""
    window_s = (load.closed_ns - load.opened_ns) / 1e9
    return {
        "window_s": window_s,
        "messages_per_s": load.completed / window_s,
        "bytes_per_s": load.bytes_echoed / window_s,
        "service_ns": percentiles(load.service_hdr),
        **{
            name: percentiles(text)
            for name, text in (
                ("response_ns", load.response_hdr),
                ("lag_ns", load.lag_hdr),
                ("connect_ns", load.connect_hdr),
            )
            if text
        },
        "client_bound": client_bound(load),
        "failed": failed(load),
        "faults": faults(load),
    }


def failed(load: Load) -> int:
    """Messages that were planned and got no right echo, those still under way apart."""
    return sum(load.errors.values()) + load.timed_out


def faults(load: Load) -> list[str]:
    """Return what is wrong with a load that no message tells: each echo that came may have been right."""
    found = []
    if not load.completed:
        found.append("No message was completed.")
    if load.mute:
        found.append(f"{load.mute:,} of {load.connections:,} connections had no echo in the window.")
    return found


def describe(job: Job, load: Load) -> str:
    """Return the summary: some lines of text."""
    derived = figures(load)
    lines = [
        job.address,
        *_wrapped("  ", ", ".join(_what(job, load, derived["window_s"]))),
        "",
        *_entry("rate", _rate(load, derived)),
        *_entry("echoed", ", ".join(_echoed(load))),
        *_wrong(load),
        "",
    ]
    if load.response_hdr:
        lines += ["  response time, from the planned send to the last byte of the echo"]
        lines += [*_table(derived["response_ns"]), ""]
    if load.connect_hdr:
        lines += ["  connect time", *_table(derived["connect_ns"]), ""]
    since = "connect" if load.connect_hdr else "write"
    lines += [f"  service time, from the {since} to the last byte of the echo", *_table(derived["service_ns"]), ""]
    if load.lag_hdr:
        lines += ["  lag, from the planned send to the write", *_table(derived["lag_ns"]), ""]
    return "\n".join([*lines, *_client(job, load)])


def _what(job: Job, load: Load, window_s: float) -> list[str]:
    """Return the load in words, part by part."""
    parts = [_NAMES[job.workload]]
    if job.rate_hz:
        parts.append(f"{job.arrivals} arrivals")
    if job.cap:
        parts.append(f"at most {job.cap:,} outstanding")
    if job.depth > 1:
        parts.append(f"{job.depth:,} messages outstanding on each connection")
    parts.append(f"{load.connections:,} connections")
    if job.silent:
        parts.append(f"{job.silent:,} silent ones")
    parts.append(f"{len(job.sizes)} sizes of message" if job.sizes else f"{job.message_bytes:,} bytes a message")
    if job.workload == "slow":
        parts.append(f"{job.trickle_bytes:,} at once, {job.trickle_hz:,g} times a second")
    if job.ramp_s:
        parts.append(f"opened over {job.ramp_s:g} s")
    if load.threads > 1:
        parts.append(f"{load.threads} threads")
    return [*parts, f"{window_s:.2f} s"]


_NAMES = {
    "closed": "closed loop",
    "open": "open loop",
    "burst": "bursts",
    "churn": "churn",
    "idle": "idle connections",
    "stream": "stream",
    "slow": "slow peers",
}


def _rate(load: Load, derived: dict[str, Any]) -> str:
    rate = f"{derived['messages_per_s']:,.0f} messages/s"
    if load.offered_hz:
        rate += f" of {load.offered_hz:,.0f} planned"
    bytes_per_s = derived["bytes_per_s"]
    volume = f"{bytes_per_s / 1e6:,.1f} MB/s" if bytes_per_s >= 1e5 else f"{bytes_per_s:,.0f} bytes/s"
    return f"{rate}, {volume} each way"


def _echoed(load: Load) -> list[str]:
    parts = [f"{load.completed:,} of {load.planned:,} messages", f"{load.in_flight:,} under way at the end"]
    if load.unsent:
        parts.append(f"{load.unsent:,} due but not sent")
    if load.rounds:
        parts.append(f"in {load.rounds:,} rounds")
    if load.connects:
        parts.append(f"{load.connects:,} connections opened")
    return parts


def _client(job: Job, load: Load) -> list[str]:
    busy = max(load.worker_busy)
    cpu_ns = load.cpu_user_ns + load.cpu_system_ns
    parts = [f"{busy:.0%} of one CPU" + (" at most" if load.threads > 1 else "")]
    if load.completed:
        parts.append(f"{cpu_ns / load.completed:,.0f} ns a message")
    if load.pacing:
        parts.append(load.pacing)
    verdict = _entry("", _verdict(busy)) if load.completed else []
    return [*_entry("client", ", ".join(parts)), *verdict, *_lateness(job, load)]


def _lateness(job: Job, load: Load) -> list[str]:
    """Return a word of warning where messages were sent late, and no cap made them wait."""
    lag_ns = late_ns(load)
    if job.cap or lag_ns is None:
        return []
    return _entry("", f"It sent late, by {time_in_words(lag_ns)} at p99: the response times contain that.")


def _entry(name: str, text: str) -> list[str]:
    return _wrapped(f"  {name:<10}", text, " " * 12)


def _wrapped(first: str, text: str, rest: str = "  ") -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=first, subsequent_indent=rest)


def _wrong(load: Load) -> list[str]:
    first, *others = [*filter(None, [_errors(load)]), *faults(load)] or ["none"]
    return [*_entry("errors", first), *(line for other in others for line in _entry("", other))]


def _errors(load: Load) -> str:
    kinds = dict(load.errors)
    if load.timed_out:
        kinds["timed_out"] = load.timed_out
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))


def _table(values: dict[str, int | None]) -> list[str]:
    given = {name: value for name, value in values.items() if value is not None}
    left_out = [name for name, value in values.items() if value is None]
    lines = []
    if given:
        lines.append("  " + "".join(f"{name:>9}" for name in given).rstrip())
        lines.append("  " + "".join(f"{time_in_words(value):>9}" for value in given.values()).rstrip())
    if left_out:
        lines.append(f"  too few samples for {', '.join(left_out)}")
    return lines


def time_in_words(ns: int) -> str:
    """Return a time with three digits and a unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:,.0f} {unit}"
    return f"{ns} ns"


def _verdict(busy: float) -> str:
    if busy >= BUSY:
        return "The client was the bottleneck: the server may well be faster than this."
    return "The client had CPU time to spare."
