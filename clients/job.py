"""What a load generator is asked to do, and what it answers: plain data, checked. Nothing is run here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from servers.transport import AddressError, parse


class JobError(Exception):
    """The job can't be run, or came to nothing; the message is the reason."""


WORKLOADS = ("closed", "open", "burst", "churn", "idle", "stream", "slow")
MOST_SIZES = 256
ARRIVALS = ("constant", "poisson")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a workload. Raises JobError where a value is out of range, or means nothing to the workload."""

    address: str
    connections: int
    message_bytes: int  # with `sizes`: ignored
    duration_s: float
    workload: str = "closed"
    depth: int = 1  # closed, stream: messages outstanding on each connection
    rate_hz: float = 0.0  # open, idle: messages planned in a second, over all connections; idle: 0 is a closed loop
    arrivals: str = "constant"  # open
    cap: int = 0  # open: messages outstanding at most, over all connections; 0 is no cap
    silent: int = 0  # idle: connections that never send, beside the others
    sizes: list[list[float]] = field(default_factory=list)  # [bytes, weight] of each size; [] is message_bytes alone
    ramp_s: float = 0.0  # the connections are opened evenly over so long ...
    connect_s: float = 0.0  # ... and all of them within so long beyond that; 0 is timeout_s
    hold_s: float = 1.0  # for a worker: the load stays on after the window until it is told to stop, at most so long
    threads: int = 1  # each with its own epoll and its share of the connections
    trickle_bytes: int = 1  # slow: each connection writes, and reads, at most so many bytes ...
    trickle_hz: float = 100.0  # ... so many times a second
    rounds: int = 0  # burst: the window closes after so many, at the latest after `duration_s`; 0 is any number
    record_off: bool = False  # no histogram is recorded: what recording costs is measured this way
    warmup_s: float = 0.0
    timeout_s: float = 10.0
    seed: int = 1

    def __post_init__(self) -> None:
        try:
            parse(self.address)
        except AddressError as error:
            raise JobError(str(error)) from None
        _require(self.workload in WORKLOADS, f"workload {self.workload!r} is not known; there are: {_list(WORKLOADS)}")
        _require(1 <= self.connections <= 1_000_000, "connections must be between 1 and 1,000,000")
        _require(1 <= self.message_bytes <= 1 << 30, "message_bytes must be between 1 and 1 GiB")
        _require(0 < self.duration_s <= 1e6, "duration_s must be above 0")
        _require(0 <= self.warmup_s <= 1e6, "warmup_s must not be below 0")
        _require(0 < self.timeout_s <= 1000, "timeout_s must be above 0 and at most 1,000")
        _require(0 <= self.ramp_s <= 1e6, "ramp_s must not be below 0")
        _require(0 <= self.connect_s <= 1e6, "connect_s must not be below 0")
        _require(0 <= self.hold_s <= 1e6, "hold_s must not be below 0")
        _require(1 <= self.threads <= 1024, "threads must be between 1 and 1,024")
        _require(self.threads <= self.connections, "there can't be more threads than connections")
        self._check_workload()
        _require(len(self.sizes) <= MOST_SIZES, f"there can't be more than {MOST_SIZES} sizes")
        for pair in self.sizes:
            _check_size(pair)

    def _check_workload(self) -> None:
        """Check what only some workloads know."""
        name = self.workload
        _require(1 <= self.depth <= 1024, "depth must be between 1 and 1,024")
        _require(self.depth == 1 or name in ("closed", "stream"), f"depth means nothing to workload {name!r}")
        _require(0 <= self.rate_hz <= 1e8, "rate_hz must be between 0 and 100 million")
        _require(self.rate_hz > 0 or name != "open", "workload 'open' needs a rate_hz above 0")
        _require(self.rate_hz == 0 or name in ("open", "idle"), f"rate_hz means nothing to workload {name!r}")
        _require(self.arrivals in ARRIVALS, f"arrivals {self.arrivals!r} are not known; there are: {_list(ARRIVALS)}")
        _require(0 <= self.cap <= 1_000_000_000, "cap must not be below 0")
        _require(self.cap == 0 or name == "open", f"cap means nothing to workload {name!r}")
        _require(self.cap == 0 or self.cap >= self.threads, "cap must be 0 or at least the number of threads")
        _require(0 <= self.silent <= 1_000_000, "silent must be between 0 and 1,000,000")
        _require(self.silent == 0 or name == "idle", f"silent means nothing to workload {name!r}")
        _require(1 <= self.trickle_bytes <= 1 << 20, "trickle_bytes must be between 1 and 1 MiB")
        _require(0 < self.trickle_hz <= 1e6, "trickle_hz must be above 0 and at most a million")
        _require(0 <= self.rounds <= 1_000_000_000, "rounds must be between 0 and a billion")
        _require(self.rounds == 0 or name == "burst", f"rounds mean nothing to workload {name!r}")
        _require(self.rounds == 0 or self.threads == 1, "rounds are counted by one thread only")
        _require(self.rounds == 0 or self.warmup_s == 0, "rounds are counted from the first message on: no warmup_s")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a job. Raises JobError where a value is out of range."""

    warmup_s: float  # unrecorded, at its beginning
    duration_s: float
    clocks: list[int] = field(default_factory=list)  # by their clockid_t: read at both ends of the window

    def __post_init__(self) -> None:
        _require(0 <= self.warmup_s <= 1e6, "warmup_s must not be below 0")
        _require(0 < self.duration_s <= 1e6, "duration_s must be above 0")
        _require(all(type(clock) is int for clock in self.clocks), "clocks must be whole numbers")


def _check_size(pair: list[float]) -> None:
    good = isinstance(pair, list) and len(pair) == 2 and all(type(value) in (int, float) for value in pair)
    _require(good, f"sizes must be pairs [bytes, weight], not {pair!r}")
    size, weight = pair
    _require(isinstance(size, int) and 1 <= size <= 1 << 30, "bytes in sizes must be whole, between 1 and 1 GiB")
    _require(0 < weight < math.inf, "a weight in sizes must be above 0")


def read_job(given: dict[str, Any]) -> Job:
    """Make a Job of parsed JSON. Raises JobError for a key that is missing, unknown, or holds the wrong type."""
    return _read(Job, given)


def read_turn(given: dict[str, Any]) -> Turn:
    """Make a Turn of parsed JSON; raises as `read_job` does."""
    return _read(Turn, given)


def read_kept(given: dict[str, Any], turns: int) -> list[int]:
    """The numbers of the turns that count, of so many, from {"kept": [...]}. Raises JobError."""
    kept: list[Any] = given["kept"] if isinstance(given.get("kept"), list) else []
    good = all(type(number) is int and 0 <= number < turns for number in kept)
    _require(bool(kept) and good and len(set(kept)) == len(kept), f"kept must be turns, of {turns}, each once")
    return sorted(kept)


T = TypeVar("T", Job, Turn)


def _read(of: type[T], given: dict[str, Any]) -> T:
    types: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
    known = {each.name: types.get(str(each.type), (list,)) for each in fields(of)}
    for key, value in given.items():
        _require(key in known, f"unknown key {key!r}; there are: {', '.join(known)}")
        _require(type(value) in known[key], f"{key} can't be {value!r}")
    try:
        return of(**given)
    except TypeError as error:  # "missing 1 required keyword-only argument: 'connections'"
        raise JobError(str(error).partition(" ")[2]) from None


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise JobError(otherwise)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What was seen in the measured window; the fields are those of a record's `load`. Times are ns of CLOCK_MONOTONIC.

    planned = completed + sum(errors) + timed_out + unsent + in_flight, exactly. Planned are the messages that were
    outstanding when the window opened or whose sending began before it closed, and what failed outside of it: a message
    for each that was outstanding on the connection, or the one that it would have sent. A connection that failed with
    several outstanding counts as an error for each. A message of the window that failed after it is an error, not in
    flight. Where there is a plan (open loop), planned are also those that were due before the window closed and had not
    been begun.
    """

    opened_ns: int
    closed_ns: int
    connections: int  # running when the window opened
    planned: int
    completed: int  # echoes verified within the window
    errors: dict[str, int]  # by the kinds of clients.faults
    timed_out: int  # no byte of an echo within timeout_s
    unsent: int  # due but not begun when the window closed: none where there is no plan
    in_flight: int  # outstanding when the window closed, and not known to have failed since
    bytes_echoed: int
    interval_ns: int
    intervals: list[int]  # completions in each interval of the window; the last may be a shorter one
    service_hdr: str  # ns from just before the write to the last byte of the echo: HdrHistogram V2, base64
    cpu_user_ns: int  # of this process, within the window
    cpu_system_ns: int
    worker_busy: list[float]  # for each load thread, the share of the window that it was at work on a CPU
    response_hdr: str = ""  # ns from the planned time to the last byte of the echo; "" where there is no plan
    lag_hdr: str = ""  # ns from the planned time to just before the write
    connect_hdr: str = ""  # churn: ns that connecting took
    interval_hdrs: list[str] = field(default_factory=list)  # for each interval: response where planned, else service
    offered_hz: float = 0.0  # planned within the window, by its length
    pacing: str = ""  # how planned times are waited for
    rounds: int = 0  # burst
    connects: int = 0  # churn
    threads: int = 1
    mute: int = 0  # connections without an echo in the window, though one was due (LoadThread.mute)
