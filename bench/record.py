"""Trials, what is recorded of them, and the files of a run: the schema that results/README.md describes.

Only the format lives here. Nothing is measured and no statistic is derived in this file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from bench import one_step
from bench.errors import BadInputError

SCHEMA = 1
TRIALS_FILE = "trials.jsonl"
MANIFEST_FILE = "manifest.json"


# What a file may hold, so that nothing computed from it is beyond what an integer or a float of 64 bits holds.
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Positive = Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]  # a sweep's, which is a Count, and the repeat
Amount = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Weight = Annotated[float, msgspec.Meta(gt=0, le=1e9)]

# What is wrong with a file of JSON that is none, or not of the type that it should be.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MOST_BYTES = 64 * 1024 * 1024  # of a line, or of a manifest
Kept = TypeVar("Kept")


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The definition of one measurement: one server process, one load, one window."""

    strategy: str
    transport: str
    connections: Positive
    message_bytes: Positive
    workload: str
    warmup_s: Seconds
    duration_s: Seconds
    repeat: Count
    seed: Seed
    depth: Positive = 1  # closed, stream: messages outstanding on each connection
    planned_hz: Rate = 0.0  # open, idle: messages planned in a second, over all connections; idle: 0 is a closed loop
    load_fraction: Rate = 0.0  # open: planned as this fraction of the closed loop's throughput, in place of planned_hz
    arrivals: str = "constant"  # constant, poisson
    cap: Count = 0  # open: messages outstanding at most, over all connections; 0 is no cap
    silent: Count = 0  # idle: connections that never send, beside the others
    sizes: tuple[tuple[Positive, Weight], ...] = ()  # (bytes, weight) of each size; message_bytes is then their mean
    ramp_s: Seconds = 0.0  # the connections are opened evenly over so long
    threads: Positive = 1  # of the load generator
    trickle_bytes: Positive = 1  # slow: each connection writes, and reads, at most so many bytes ...
    trickle_hz: Rate = 100.0  # ... so many times a second
    slo: str = ""  # a step of the search for the highest rate that holds this objective, such as "p99<5ms"
    python: str = ""  # the interpreter that runs the server, as the sweep names it; "" is the one that runs iobench
    block: Count = 0  # of a round whose setting is too large to be up as a whole: which part of it

    @property
    def id(self) -> str:
        """Sixteen hex digits derived from the definition: the same trial has the same id in every run.

        Fields that have a default count only where they differ from it, so that new ones leave old ids as they are.
        """
        usual = _defaults()
        told = {name: value for name, value in msgspec.structs.asdict(self).items() if value != usual[name]}
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()[:16]


@cache
def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in msgspec.structs.fields(Trial)}


class Load(msgspec.Struct, kw_only=True):
    """What the load generator saw in the measured window. Times are nanoseconds of CLOCK_MONOTONIC."""

    opened_ns: Count  # when the window opened and closed
    closed_ns: Count
    connections: Count  # connected and not yet failed when the window opened
    planned: Count  # messages = completed + sum(errors) + timed_out + unsent + in_flight
    completed: Count  # echoes verified within the window
    errors: dict[str, Count]  # by kind: refused, reset, closed, corrupt, short, ...
    timed_out: Count
    unsent: Count
    in_flight: Count  # outstanding when the window closed, and not known to have failed since
    bytes_echoed: Count
    interval_ns: Count
    intervals: list[Count]  # completions in each interval of the window
    service_hdr: str  # HdrHistogram V2, compressed, base64: ns from the actual send to the last byte of the echo
    cpu_user_ns: Count  # of the load generator's process, within the window
    cpu_system_ns: Count
    worker_busy: list[Amount]  # for each load thread, the share of the window that it was at work on a CPU
    response_hdr: str = ""  # ns from the planned time to the last byte of the echo; "" where there is no plan
    lag_hdr: str = ""  # ns from the planned time to the actual send
    connect_hdr: str = ""  # churn: ns that connecting took
    interval_hdrs: list[str] = []  # for each interval: response times where there is a plan, else service times
    offered_hz: Rate = 0.0  # messages planned within the window, by its length
    pacing: str = ""  # how planned times were waited for
    rounds: Count = 0  # burst
    connects: Count = 0  # churn
    threads: Positive = 1
    mute: Count = 0  # connections without an echo in the window, though one was due


class Server(msgspec.Struct, kw_only=True):
    """What the probes saw of the server's processes, from outside.

    A server that is not ours does not say what it is written in: then `implementation` is the name of its program, and
    `version`, `gil` and `jit` mean nothing. Of one that was already running, `pid` is 0, there are no metrics, and
    `missing` says so.

    `metrics` holds, summed over the process and its children,

    over the window: cpu_ns (exact, from the process CPU clock), cpu_user_ns and cpu_system_ns (in whole clock ticks, so
    their sum is not exactly cpu_ns: use them as a split), switches_voluntary, switches_involuntary, runqueue_wait_ns
    (that threads could have run and had no CPU, summed over them), thread_demand_ns (the most that any one thread was
    on a CPU or waited for one: less than the window by what it slept);

    at the end of the window: rss_bytes, rss_peak_bytes (since the process started), threads, descriptors, processes,
    anon_bytes (heap and stacks: anonymous memory, what processes share divided among them);

    before the first connection: anon_start_bytes (the same).
    """

    pid: Count
    implementation: str
    version: str
    gil: bool
    cpus: list[Count]  # that it was allowed to run on
    opened_ns: Count  # when the probes were read, at the window's start and at its end
    closed_ns: Count
    metrics: dict[str, Amount]
    missing: dict[str, str]  # metric -> why it could not be read
    refused: dict[str, Count]  # reason -> connections that the server refused
    exit_code: int | None = None
    stderr_tail: str = ""
    jit: bool = False  # code is compiled as it runs


class Machine(msgspec.Struct, kw_only=True):
    """What became of the CPUs of a trial, from about the window's start to its end.

    Idle and stolen time is summed over the CPUs that the server, or the load, was allowed on; where they share CPUs,
    it is the same time twice. Stolen is what the hypervisor gave to other guests while a CPU had work to do.
    """

    server_idle_ns: Amount
    server_steal_ns: Amount
    load_cpus: list[Count]
    load_idle_ns: Amount
    load_steal_ns: Amount
    load_wait_ns: Amount | None = None  # run-queue wait of the load's threads, summed; None where it can't be read
    harness_ns: Amount = 0.0  # CPU time of the process that took the readings, from the first on
    throttled_periods: Amount = (
        0  # in which a CPU quota (cgroups(7)) was used up, and all that runs under it stood still
    )
    throttled_ns: Amount = 0.0  # for how long, summed over CPUs


class Network(msgspec.Struct, kw_only=True):
    """What the kernel dropped while the connections were opened: TcpExt in /proc/net/netstat, of the whole namespace.

    `listen_drops` are all SYNs and last ACKs of a handshake that a listener dropped; `listen_overflows` those of them
    that found the queue of accept(2) full, `request_queue_drops` those that found the queue of handshakes full.
    """

    listen_overflows: int
    listen_drops: int
    request_queue_drops: int


class LoadHost(msgspec.Struct, kw_only=True):
    """One of several hosts that a trial's load came from. Its clock was compared with nobody's."""

    name: str
    connections: int  # as it had opened when its window opened
    completed: int
    offered_hz: float  # messages planned within its window, by its length; 0 where there was no plan
    start_ns: int  # when its window opened, after the earliest of all, by the clock of the machine that drove the trial
    uncertainty_ns: int  # of start_ns: half the time that the words to the host and back took
    window_ns: int  # the length of its window, by its own clock
    busy: float  # the share of the window that its busiest load thread was at work on a CPU


class Turn(msgspec.Struct, kw_only=True):
    """One turn of a trial that was measured in turns. Times are nanoseconds of CLOCK_MONOTONIC."""

    opened_ns: Count
    closed_ns: Count
    completed: Count
    disturbed: str = ""  # why it is not in the trial's figures; "" where it is


class Timing(msgspec.Struct, kw_only=True):
    """Where the wall time of a trial went, in seconds."""

    spawn_s: Seconds
    connect_s: Seconds
    warmup_s: Seconds
    window_s: Seconds
    teardown_s: Seconds


class Record(msgspec.Struct, kw_only=True):
    """One line of trials.jsonl. A failed or unavailable trial is a record with a reason, not a hole."""

    id: str
    trial: Trial
    status: Literal["ok", "failed", "unavailable"]
    reason: str = ""
    schema: int = SCHEMA
    order: Count = 0  # place in the order of execution
    started: str = ""  # UTC, ISO 8601
    bottleneck: Literal["", "server", "client", "latency"] = ""
    flags: list[str] = []
    planned_hz: Rate = 0.0  # the rate that was planned, also where the trial has it as a fraction; 0: there is no plan
    lower_bounds: list[str] = []  # percentiles, such as "p99.9", of which only a lower bound is known (flag "censored")
    stops_at: int = 0  # connections that the server took before it refused the others for want of something; 0: all
    held: bool | None = None  # whether the trial's objective (slo) held; None where it has none or was not measured
    source: str = ""  # of a comparison: its id in the run that it was taken from
    load: Load | None = None
    server: Server | None = None
    machine: Machine | None = None
    network: Network | None = None
    timing: Timing | None = None
    server_host: str = ""  # the worker that the server ran on; "" where the run was on this machine alone
    load_hosts: list[LoadHost] = []  # where the load came from other machines
    overlap: float | None = None  # the share of the window in which all load hosts were at work
    turns: list[Turn] = []  # where its setting was measured in turns; the window is then as long as those that count
    whole: str = ""  # why it was measured as a whole, where it could have been in turns


class StrategyInfo(msgspec.Struct, kw_only=True):
    """What a strategy says of itself (`python -m servers --list`)."""

    name: str
    module: str
    summary: str
    model: str
    transports: list[str]
    concurrent: bool
    available: bool
    reason: str
    doc: str


class Interpreter(msgspec.Struct, kw_only=True):
    """A Python that strategies run on, as it describes itself (`python -m servers --interpreter`)."""

    name: str  # as the sweep has it; "" is the one that runs iobench
    available: bool
    reason: str = ""  # why it can't be used
    implementation: str = ""
    version: str = ""
    gil: bool = True
    free_threaded: bool = False  # built so that it can run without the GIL
    jit: bool = False
    compiler: str = ""
    unavailable: dict[str, str] = {}  # strategy -> why this interpreter can't run it


class Search(msgspec.Struct, kw_only=True):
    """The highest Poisson rate at which a case holds an objective, as far as it was searched for."""

    slo: str
    start: Trial  # the closed loop that the search started from; all but the workload is as in the steps
    steps: list[str]  # ids of the trials, in order
    held_hz: Rate  # the highest rate that held; 0 where none did
    missed_hz: Rate  # the lowest rate above it that did not hold; 0 where all held
    finished: bool  # False where the run ended early: it goes on from here
    limit: Literal["", "server", "client", "latency"]  # the bottleneck at missed_hz
    reason: str = ""  # why there is no answer


class Host(msgspec.Struct, kw_only=True):
    """A worker of the cluster that a run was made on."""

    name: str
    roles: list[str]  # server, load, or both
    facts: dict[str, Any]  # as a manifest's `host`


class Compared(msgspec.Struct, kw_only=True):
    """One of the runs that `iobench compare` put together. The others are compared with the first."""

    label: str  # in brackets after the name of each of its strategies
    run: str  # the name of its folder
    created: str
    sweep: str
    host: dict[str, Any]
    versions: dict[str, str]
    interpreters: list[str]  # that its servers ran on
    python: str = ""  # that all of its trials named, left out of their definitions where that is what runs differ in
    trials: int = 0  # recorded
    trials_planned: int = 0  # 0 where that isn't known


class Look(msgspec.Struct, kw_only=True):
    """One look at the records of a run with a budget, while it went on."""

    round: Count  # after this one
    elapsed_s: Seconds  # of the budget
    decided: Count  # comparisons with the best, of so many
    comparisons: Count
    closed: list[dict[str, Any]] = []  # settings that were decided, and not measured any more from then on


class Manifest(msgspec.Struct, kw_only=True):
    """What was run, where, and on which machine: manifest.json."""

    sweep: dict[str, Any]  # the sweep as it was planned, defaults included, and "trials_planned"
    strategies: list[StrategyInfo]
    host: dict[str, Any]
    versions: dict[str, str]
    created: str  # UTC, ISO 8601
    command: list[str]
    schema: int = SCHEMA
    calibration: dict[str, Any] | None = None  # the newest one there was, as `iobench calibrate` wrote it
    lab: dict[str, Any] | None = None  # the newest one there was, as `iobench lab --all --results DIR` wrote it
    why: dict[str, Any] | None = None  # what `iobench why` counted of these strategies
    anatomy: dict[str, Any] | None = None  # the newest one there was, as `iobench anatomy --results DIR` wrote it
    searches: list[Search] = []  # answers to `--slo`
    interpreters: list[Interpreter] = []  # those of the axis `python`, where the sweep has one
    hosts: list[Host] = []  # those that took part, where the run was made on a cluster
    looks: list[Look] = []  # where the sweep has a budget
    compared: list[Compared] = []  # the runs that this is a comparison of; empty for a run


class Run(msgspec.Struct, kw_only=True):
    """A run folder as read back. `notes` says what had to be left out and why."""

    folder: Path
    manifest: Manifest
    records: list[Record]
    notes: list[str] = []


def append(path: Path, record: Record) -> None:
    """Add one line and flush it to the file system: whatever is killed afterwards, this record stays.

    A cut last line, left by a run that was killed, is ended first, so that it spoils no line but itself. Where there is
    no room for the whole line, the file is left as it was. Raises OSError.
    """
    line = msgspec.json.encode(record) + b"\n"
    with path.open("ab+", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        if before > 0:
            file.seek(before - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line
        try:
            left = memoryview(line)
            while left:
                left = left[file.write(left) :]  # write(2) takes what there is room for
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json in one step: a reader sees the whole of it or none."""
    one_step.write(folder / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises BadInputError where it is none.

    A line that is not a whole record is left out, with a warning and a note. Where a trial was run twice, the later
    record counts.
    """
    if not folder.is_dir():
        raise BadInputError(f"There is no run folder {folder}.", "ls results/ shows the runs that there are")
    manifest = read_manifest(folder)
    trials = folder / TRIALS_FILE
    decoder = msgspec.json.Decoder(Record)
    records: dict[str, Record] = {}
    notes: list[str] = []
    for number, line in _lines(trials):
        try:
            record = decoder.decode(line)
        except UNREADABLE as error:
            cut = not line.endswith(b"\n")  # the writer was killed
            notes.append(f"{trials}:{number} is left out: {'the line was cut off' if cut else error}")
            continue
        if record.schema > SCHEMA:
            notes.append(f"{trials}:{number} is left out: schema {record.schema} is newer than this iobench knows")
            continue
        records[record.id] = record
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Run(folder=folder, manifest=manifest, records=list(records.values()), notes=notes)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read a file line by line: its lines that are not blank, with their numbers, cut after MOST_BYTES."""
    try:
        with path.open("rb") as file:
            for number in count(1):
                line = rest = file.readline(MOST_BYTES)
                while len(rest) == MOST_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(MOST_BYTES)
                if not line:
                    return
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInputError(f"{path} can't be read: {error.strerror}.", f"ls -l {path}") from None


def read_manifest(folder: Path) -> Manifest:
    """Read what a run folder says of itself. Raises BadInputError where it is none."""
    path = folder / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(read_at_most(path, MOST_BYTES), type=Manifest)
        for values in (
            manifest.sweep,
            manifest.host,
            manifest.calibration,
            manifest.lab,
            manifest.why,
            manifest.anatomy,
        ):
            _refuse_beyond_64_bits(values)
        return manifest
    except FileNotFoundError:
        raise BadInputError(
            f"{folder} is not a run folder: it has no {MANIFEST_FILE}.", "iobench sweep makes a new run"
        ) from None
    except (OSError, *UNREADABLE) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInputError(f"{path} can't be read: {why}.", "iobench sweep makes a new run") from None


def read_kept(path: Path, kind: type[Kept]) -> Kept | None:
    """What a file holds that one command writes again and again; None where there is none.

    Raises BadInputError where it can't be read: what is in it may not be overwritten, nor passed over in silence.
    """
    try:
        return msgspec.json.decode(read_at_most(path, MOST_BYTES), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, *UNREADABLE) as error:
        why = getattr(error, "strerror", None) or error
        name = shlex.quote(str(path))
        raise BadInputError(f"{path} can't be read: {why}.", f"mv {name} {name}.aside, and once more") from None


def read_at_most(path: Path, most: int) -> bytes:
    """Read a file whole. Raises OSError, also where it is longer than that."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes")
    return content


def _refuse_beyond_64_bits(value: Any) -> None:
    """Raise msgspec.ValidationError where a value of any form has a number that can't be computed with."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _refuse_beyond_64_bits(inner)
    elif isinstance(value, (int, float)) and not -(1 << 63) <= value < 1 << 63:
        raise msgspec.ValidationError("there is a number in it beyond what 64 bits hold")
