"""One load from several hosts: a job is split, and what came of the parts put together again. Pure; no host is known.

Counts and histograms add up exactly. Clocks of different hosts are never compared: what of a host's times goes into the
sum is their differences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec

from bench.histograms import merged
from bench.record import Load, Machine

SEED_STEP = 1 << 32  # the hosts' payloads and arrivals differ, and from those of all other repeats too
LEAST_OVERLAP = 0.95  # of the window


def deal(total: int, parts: int) -> list[int]:
    """Split a number evenly, remainders to the first parts."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def split_job(line: dict[str, Any], hosts: int) -> list[dict[str, Any]]:
    """Split a job (bench.load.job) over so many hosts, or over fewer where there are not enough connections.

    Each host gets a line of its own, with its share of the connections, the silent ones and the cap, and with the part
    of the rate that its connections are of all. Every load thread has a connection, and room for a message where there
    is a cap.
    """
    threads = line["threads"]
    parts = min(hosts, line["connections"] // threads, line["cap"] // threads if line["cap"] else hosts)
    if parts <= 1:
        return [line]
    connections = deal(line["connections"], parts)
    rates = [line["rate_hz"] * own / line["connections"] for own in connections]
    rates[-1] = line["rate_hz"] - math.fsum(rates[:-1])
    return [
        line
        | {
            "connections": connections[part],
            "silent": deal(line["silent"], parts)[part],
            "cap": deal(line["cap"], parts)[part],
            "rate_hz": rates[part],
            "seed": line["seed"] + part * SEED_STEP,
        }
        for part in range(parts)
    ]


def merge_loads(loads: Sequence[Load]) -> Load:
    """Put the loads of one trial together. Raises ValueError for none.

    The window begins at 0 and is as long as the longest of them.
    """
    if not loads:
        raise ValueError("a sum needs a load")
    if len(loads) == 1:
        return loads[0]
    errors = sum((Counter(load.errors) for load in loads), Counter[str]())
    amounts = (
        *("connections", "planned", "completed", "timed_out", "unsent", "in_flight", "bytes_echoed"),
        *("cpu_user_ns", "cpu_system_ns", "offered_hz", "rounds", "connects", "threads", "mute"),
    )
    return Load(
        opened_ns=0,
        closed_ns=max(load.closed_ns - load.opened_ns for load in loads),
        errors=dict(errors),
        interval_ns=loads[0].interval_ns,
        intervals=[sum(each) for each in zip_longest(*(load.intervals for load in loads), fillvalue=0)],
        service_hdr=merge_hdrs(load.service_hdr for load in loads),
        response_hdr=merge_hdrs(load.response_hdr for load in loads),
        lag_hdr=merge_hdrs(load.lag_hdr for load in loads),
        connect_hdr=merge_hdrs(load.connect_hdr for load in loads),
        interval_hdrs=[merge_hdrs(each) for each in zip_longest(*(load.interval_hdrs for load in loads), fillvalue="")],
        worker_busy=[busy for load in loads for busy in load.worker_busy],
        pacing="; ".join(dict.fromkeys(load.pacing for load in loads if load.pacing)),
        **{name: sum(getattr(load, name) for load in loads) for name in amounts},
    )


def merge_hdrs(texts: Iterable[str]) -> str:
    """Add histograms, as text; where all of them are empty, the sum is an empty one, where there is none, ""."""
    given = [text for text in texts if text]
    return merged(given) or next(iter(given), "")


def merge_machines(machines: Sequence[Machine | None]) -> Machine | None:
    """Put together what became of the CPUs of all load hosts; None where it is not known of each."""
    known = [machine for machine in machines if machine is not None]
    if not known or len(known) < len(machines):
        return None
    waits = [machine.load_wait_ns for machine in known if machine.load_wait_ns is not None]
    return msgspec.structs.replace(
        known[0],
        load_cpus=[cpu for machine in known for cpu in machine.load_cpus],
        load_idle_ns=sum(machine.load_idle_ns for machine in known),
        load_steal_ns=sum(machine.load_steal_ns for machine in known),
        load_wait_ns=sum(waits) if len(waits) == len(known) else None,
        throttled_periods=sum(machine.throttled_periods for machine in known),
        throttled_ns=sum(machine.throttled_ns for machine in known),
    )


class Window(NamedTuple):
    """When a host's window was open, in ns of one clock that is the same for all, and how wrong that may be."""

    opened_ns: int
    closed_ns: int
    uncertainty_ns: int = 0


def window_of(sent_ns: int, heard_ns: int, until_open_ns: int, length_ns: int) -> Window:
    """Place a host's window on the clock of whoever told it to go.

    The go was sent at `sent_ns`, and the answer that the window was open came at `heard_ns`, by the teller's clock;
    between the two messages `until_open_ns` passed by the host's own. What is left is the way there and back, and half
    of it the way there (Cristian: Probabilistic clock synchronization, 1989); it is wrong by no more than that half.
    """
    way_ns = max(0, heard_ns - sent_ns - until_open_ns) // 2
    opened_ns = heard_ns - way_ns
    return Window(opened_ns, opened_ns + length_ns, way_ns)


def overlap(windows: Sequence[Window]) -> float:
    """The share of the longest window in which all were open."""
    longest_ns = max(one.closed_ns - one.opened_ns for one in windows)
    together_ns = min(one.closed_ns for one in windows) - max(one.opened_ns for one in windows)
    return max(0.0, together_ns / max(1, longest_ns))
