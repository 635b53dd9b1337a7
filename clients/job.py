"""What a load generator is asked to do, and what it answers: plain data, checked. Nothing is run here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from servers.transport import AddressError, parse


class JobError(Exception):
    """The job can't be run, or came to nothing; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a workload. Raises JobError where a value is out of range."""

    address: str
    connections: int
    message_bytes: int
    duration_s: float
    workload: str = "closed"
    depth: int = 1  # messages outstanding on each connection
    warmup_s: float = 0.0
    timeout_s: float = 10.0
    seed: int = 1

    def __post_init__(self) -> None:
        try:
            parse(self.address)
        except AddressError as error:
            raise JobError(str(error)) from None
        _require(self.workload in ("closed",), f"workload {self.workload!r} is not known; there is: closed")
        _require(1 <= self.connections <= 1_000_000, "connections must be between 1 and 1,000,000")
        _require(1 <= self.message_bytes <= 1 << 30, "message_bytes must be between 1 and 1 GiB")
        _require(1 <= self.depth <= 1024, "depth must be between 1 and 1,024")
        _require(0 < self.duration_s <= 1e6, "duration_s must be above 0")
        _require(0 <= self.warmup_s <= 1e6, "warmup_s must not be below 0")
        _require(0 < self.timeout_s <= 1000, "timeout_s must be above 0 and at most 1,000")


def read_job(fields_given: dict[str, Any]) -> Job:
    """Make a Job of parsed JSON. Raises JobError for a key that is missing, unknown, or holds the wrong type."""
    types: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    known = {field.name: types[str(field.type)] for field in fields(Job)}
    for key, value in fields_given.items():
        _require(key in known, f"unknown key {key!r}; there are: {', '.join(known)}")
        kind = known[key]
        _require(isinstance(value, kind) and not isinstance(value, bool), f"{key} can't be {value!r}")
    try:
        return Job(**fields_given)
    except TypeError as error:  # "missing 1 required keyword-only argument: 'connections'"
        raise JobError(str(error).partition(" ")[2]) from None


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise JobError(otherwise)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What was seen in the measured window; the fields are those of a record's `load`. Times are ns of CLOCK_MONOTONIC.

    planned = completed + sum(errors) + timed_out + unsent + in_flight, exactly. Planned are the messages that were
    outstanding when the window opened or whose sending began before it closed, and one more for each connection that
    failed with none outstanding, or before the window opened: the message that it would have sent. A connection that
    failed with several outstanding counts as an error for each.
    """

    opened_ns: int
    closed_ns: int
    connections: int  # running when the window opened
    planned: int
    completed: int  # echoes verified within the window
    errors: dict[str, int]  # by the kinds of clients.faults
    timed_out: int  # no byte of an echo within timeout_s
    unsent: int  # due but never begun: none in a closed loop
    in_flight: int  # outstanding when the window closed
    bytes_echoed: int
    interval_ns: int
    intervals: list[int]  # completions in each interval of the window; the last may be a shorter one
    service_hdr: str  # ns from just before the write to the last byte of the echo: HdrHistogram V2, base64
    cpu_user_ns: int  # of this process, within the window
    cpu_system_ns: int
    worker_busy: list[float]  # for each load thread, the share of the window that it was on a CPU
