"""Runs made up for the tests of the report: what the real runner and load generator would have recorded, without them.

Every figure follows from its arguments; nothing is drawn at random without a seed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram

from bench.analyse import Analysis, analyse
from bench.comparisons import Comparison, Pair, Standing
from bench.metrics import RATE, Metric
from bench.record import (
    TRIALS_FILE,
    Load,
    Manifest,
    Record,
    Run,
    Search,
    Server,
    StrategyInfo,
    Timing,
    Trial,
    write_manifest,
)
from bench.stats import Interval

SECOND_NS = 1_000_000_000
# name -> (I/O model, messages/s at 1, 16 and 128 connections, server CPU per message in us there, share of user)
STRATEGIES: dict[str, tuple[str, tuple[float, ...], tuple[float, ...], float]] = {
    "asyncio_protocol": ("coroutine", (21e3, 52e3, 61e3), (21.0, 18.4, 16.2), 0.62),
    "asyncio_streams": ("coroutine", (14e3, 27e3, 29e3), (41.0, 36.5, 34.4), 0.78),
    "epoll_et": ("multiplexing", (29e3, 118e3, 139e3), (15.1, 8.1, 7.0), 0.36),
    "epoll_lt": ("multiplexing", (30e3, 121e3, 141e3), (14.9, 7.9, 6.9), 0.33),
    "iterative": ("blocking", (41e3,), (9.4,), 0.21),
    "nonblocking_polling": ("nonblocking", (38e3, 63e3, 24e3), (26.2, 15.8, 41.5), 0.18),
    "poll": ("multiplexing", (28e3, 104e3, 88e3), (16.0, 9.2, 11.2), 0.38),
    "select": ("multiplexing", (27e3, 99e3, 79e3), (16.4, 9.9, 12.5), 0.41),
    "thread_per_connection": ("blocking", (39e3, 72e3, 66e3), (10.2, 14.5, 15.9), 0.30),
}


def histogram(median_ns: float, samples: int, spread: float = 0.35) -> str:
    """A lognormal service time of so many samples, as the load generator stores it."""
    hist = HdrHistogram(1, 10**12, 3)
    left = samples
    normal = NormalDist()
    edges = [i / 200 for i in range(1, 200)] + [1 - 0.005 * 0.7**i for i in range(1, 40)] + [1.0]
    for low, high in zip([0.0, *edges], edges, strict=False):
        count = min(left, round(high * samples) - round(low * samples))
        if count > 0:
            z = normal.inv_cdf(min(max((low + high) / 2, 1e-9), 1 - 1e-9))
            hist.record_value(int(median_ns * 2.718281828 ** (spread * z)), count)
            left -= count
    return str(hist.encode().decode())


def load(rate_hz: float, connections: int, median_ns: float | None = None, **changes: Any) -> Load:
    """A measured second at this rate. `changes` replaces fields of the Load."""
    completed = max(1, int(rate_hz))
    median_ns = median_ns or connections * SECOND_NS / rate_hz
    found = Load(
        opened_ns=5 * SECOND_NS,
        closed_ns=6 * SECOND_NS,
        connections=connections,
        planned=completed + connections,
        completed=completed,
        errors={},
        timed_out=0,
        unsent=0,
        in_flight=connections,
        bytes_echoed=64 * completed,
        interval_ns=SECOND_NS // 10,
        intervals=[max(0, completed // 10 + completed * step // 500) for step in (-2, 1, 0, 2, -1, -1, 2, 0, 1, -2)],
        service_hdr=histogram(median_ns, completed),
        cpu_user_ns=SECOND_NS // 5,
        cpu_system_ns=SECOND_NS // 2,
        worker_busy=[0.7],
    )
    return msgspec.structs.replace(found, **changes)


def server(rate_hz: float, cpu_us: float, user_share: float, threads: int = 1, **changes: Any) -> Server:
    """What the probes would read, over a window a tenth longer than the load's."""
    opened_ns, closed_ns = 5 * SECOND_NS - 60_000_000, 6 * SECOND_NS + 40_000_000
    cpu_ns = cpu_us * 1e3 * rate_hz * (closed_ns - opened_ns) / SECOND_NS
    found = Server(
        pid=4242,
        implementation="CPython",
        version="3.11.9",
        gil=True,
        cpus=[0],
        opened_ns=opened_ns,
        closed_ns=closed_ns,
        metrics={
            "cpu_ns": cpu_ns,
            "cpu_user_ns": cpu_ns * user_share,
            "cpu_system_ns": cpu_ns * (1 - user_share),
            "switches_voluntary": rate_hz * 0.3 * threads**0.5,
            "switches_involuntary": rate_hz * 0.01,
            "rss_peak_bytes": 14e6 + 9e4 * threads,
            "rss_bytes": 13e6 + 9e4 * threads,
            "anon_start_bytes": 6e6,
            "anon_bytes": 6e6 + 9e4 * threads,
            "threads": threads,
            "descriptors": 8,
        },
        missing={},
        refused={},
    )
    return msgspec.structs.replace(found, **changes)


def record(
    strategy: str = "epoll_lt",
    connections: int = 16,
    repeat: int = 0,
    rate_hz: float = 1e5,
    cpu_us: float = 8.0,
    user_share: float = 0.4,
    median_ns: float | None = None,
    **changes: Any,
) -> Record:
    """One good trial. `changes` replaces fields of the Record or, where it has no such field, of the Trial."""
    trial = Trial(
        strategy=strategy,
        transport="tcp",
        connections=connections,
        message_bytes=64,
        workload="closed",
        warmup_s=0.2,
        duration_s=1.0,
        repeat=repeat,
        seed=1,
    )
    of_trial = {name: changes.pop(name) for name in list(changes) if name in Trial.__struct_fields__}
    trial = msgspec.structs.replace(trial, **of_trial)
    threads = connections + 1 if strategy == "thread_per_connection" else 1
    found = Record(
        id=trial.id,
        trial=trial,
        status="ok",
        started="2025-01-02T03:04:05Z",
        bottleneck="server",
        load=load(rate_hz, connections, median_ns),
        server=server(rate_hz, cpu_us, user_share, threads),
        timing=Timing(spawn_s=0.06, connect_s=0.01, warmup_s=0.2, window_s=1.0, teardown_s=0.02),
    )
    return msgspec.structs.replace(found, **changes)


def unmeasured(strategy: str, connections: int, repeat: int, status: str, reason: str, **changes: Any) -> Record:
    """A trial that failed or was unavailable."""
    empty: dict[str, Any] = {"load": None, "server": None, "timing": None, "bottleneck": ""}
    return record(strategy, connections, repeat, status=status, reason=reason, **empty, **changes)


def manifest(names: list[str], **changes: Any) -> Manifest:
    """The manifest of a run over these strategies."""
    models = {name: model for name, (model, *_) in STRATEGIES.items()}
    found = Manifest(
        sweep={"name": "quick", "seed": 1, "connections": [1, 16, 128], "repeats": 5},
        strategies=[
            StrategyInfo(
                name=name,
                module=name,
                summary=f"What {name} does, in one line.",
                model=models.get(name, "multiplexing"),
                transports=["tcp"],
                concurrent=name != "iterative",
                available=True,
                reason="",
                doc=f"How {name} works.",
            )
            for name in names
        ],
        host={
            "kernel": "Linux 6.1.0",
            "cpu": "Example CPU at 3 GHz",
            "cores": 2,
            "clock_source": "tsc",
            "governor": None,
            "git_commit": "0123abc",
            "limits": {"nofile": 1024},
            "sysctls": {"net.core.somaxconn": 4096, "net.ipv4.tcp_rmem": "4096 131072 6291456"},
        },
        versions={"python": "3.11.9", "numpy": "2.4.0"},
        created="2025-01-02T03:04:00Z",
        command=["iobench", "sweep", "quick"],
    )
    return msgspec.structs.replace(found, **changes)


# --- other workloads: each gives a Load for a record of that workload


def open_load(planned_hz: float, capacity_hz: float, cap: int = 1000, **changes: Any) -> Load:
    """An open loop of a second against a server of this capacity: waiting as in an M/M/1 queue; overload piles up."""
    completed = int(min(planned_hz, capacity_hz * 0.98))
    left = int(planned_hz) - completed
    service_ns = SECOND_NS / capacity_hz
    waiting = service_ns / max(0.02, 1 - planned_hz / capacity_hz)
    if left:
        waiting = max(waiting, SECOND_NS * left / planned_hz / 2)
    response = histogram(waiting, completed, 0.6)
    found = msgspec.structs.replace(
        load(completed, 16, service_ns),
        planned=int(planned_hz),
        completed=completed,
        in_flight=min(left, cap),
        unsent=max(0, left - cap),
        response_hdr=response,
        lag_hdr=histogram(2_000, completed),
        interval_hdrs=[histogram(waiting, completed // 10, 0.6)] * 10,
        offered_hz=planned_hz,
        pacing="epoll_pwait2, spin under 50 us",
    )
    return msgspec.structs.replace(found, **changes)


def open_record(
    strategy: str, planned_hz: float, capacity_hz: float, repeat: int = 0, flags: tuple[str, ...] = (), **changes: Any
) -> Record:
    """An open-loop trial; it is censored where more is planned than the server can do."""
    measured = changes.pop("load", None) or open_load(planned_hz, capacity_hz)
    overloaded = ("censored",) if measured.in_flight + measured.unsent else ()
    busy = "server" if planned_hz > 0.95 * capacity_hz else "latency"
    about: dict[str, Any] = {"workload": "open", "planned_hz": planned_hz, "arrivals": "poisson", "bottleneck": busy}
    return record(
        strategy,
        changes.pop("connections", 16),
        repeat,
        measured.completed,
        flags=[*flags, *overloaded],
        load=measured,
        **about | changes,
    )


def load_sweep(repeats: int = 2) -> list[Record]:
    """Four strategies at 10 % to 110 % of what each can do; one client-bound, one lagging, one unsteady point."""
    spoilt = {
        ("epoll_lt", 1.0): "client_bound",
        ("poll", 0.7): "lagging_schedule",
        ("asyncio_streams", 0.5): "unsteady",
    }
    records = []
    for name in ("asyncio_streams", "epoll_lt", "poll", "thread_per_connection"):
        capacity_hz = STRATEGIES[name][1][1]
        for repeat in range(repeats):
            for fraction in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1):
                flags = (spoilt[name, fraction],) if (name, fraction) in spoilt else ()
                bound = {"bottleneck": "client"} if "client_bound" in flags else {}
                rate_hz = fraction * capacity_hz
                made = open_record(
                    name, rate_hz, capacity_hz, repeat, flags, load_fraction=fraction, order=len(records), **bound
                )
                trial = msgspec.structs.replace(made.trial, planned_hz=0.0)
                records.append(msgspec.structs.replace(made, id=trial.id, trial=trial, planned_hz=rate_hz))
    return records


def churn_load(rate_hz: float, connections: int = 16) -> Load:
    """Connect, one echo, close, again: connecting takes half of the time."""
    median_ns = connections * SECOND_NS / rate_hz
    made = load(rate_hz, connections, median_ns)
    return msgspec.structs.replace(made, connect_hdr=histogram(median_ns / 2, made.completed), connects=made.completed)


def burst_load(rate_hz: float, connections: int = 16) -> Load:
    """Rounds of a message on each connection."""
    return load(rate_hz, connections, rounds=int(rate_hz) // connections)


def stream_load(mb_s: float, message_bytes: int = 65536) -> Load:
    """Bulk: so many megabytes a second."""
    completed = int(mb_s * 1e6 / message_bytes)
    return load(completed, 16, bytes_echoed=completed * message_bytes)


def workloads() -> list[Record]:
    """Two strategies under every workload that has figures of its own."""
    made = []
    for name, speed in (("epoll_lt", 1.0), ("thread_per_connection", 0.7)):
        for repeat in range(3):
            pace = speed * (1 + 0.01 * repeat)
            loads = {
                "churn": (churn_load(9000 * pace), {}),
                "burst": (burst_load(80_000 * pace), {}),
                "stream": (stream_load(900 * pace), {"depth": 8, "message_bytes": 65536}),
                "open": (open_load(40_000, 90_000 * pace), {"planned_hz": 40_000.0}),
                "idle": (load(30_000 * pace, 16), {"silent": 2000}),
            }
            made += [
                record(name, 16, repeat, it.completed, load=it, workload=workload, order=len(made) + at, **more)
                for at, (workload, (it, more)) in enumerate(loads.items())
            ]
    return made


def search(strategy: str, held_hz: float, missed_hz: float, slo: str = "p99<5ms", **changes: Any) -> Search:
    """What a search for an objective found."""
    start = record(strategy).trial
    found = Search(slo=slo, start=start, steps=[], held_hz=held_hz, missed_hz=missed_hz, finished=True, limit="server")
    return msgspec.structs.replace(found, **changes)


def searched(slo: str = "p99<5ms") -> tuple[list[Record], list[Search]]:
    """The steps of a search for each of two strategies, and what they found."""
    records, searches = [], []
    for name, capacity_hz in (("epoll_lt", 120e3), ("poll", 104e3)):
        steps = []
        for fraction, held in ((0.5, True), (0.75, True), (0.9, False), (0.82, True)):
            made = open_record(name, fraction * capacity_hz, capacity_hz, slo=slo, held=held, order=len(records))
            steps.append(made.id)
            records.append(made)
        searches.append(search(name, 0.82 * capacity_hz, 0.9 * capacity_hz, slo, steps=steps))
    return records, searches


def sweep(repeats: int = 5, counts: tuple[int, ...] = (1, 16, 128), seed: int = 7) -> list[Record]:
    """A default sweep: nine strategies, with some noise; the two fastest are client-bound at the most connections."""
    random = Random(seed)
    records = []
    for repeat in range(repeats):
        for name, (_, rates, costs, user) in STRATEGIES.items():
            for connections, rate_hz, cpu_us in zip(counts, rates, costs, strict=False):
                noise = random.lognormvariate(0, 0.015)
                bound = connections == counts[-1] and rate_hz > 130e3
                records.append(
                    record(
                        name,
                        connections,
                        repeat,
                        rate_hz * noise,
                        cpu_us * random.lognormvariate(0, 0.01),
                        user,
                        bottleneck="client" if bound else "latency" if connections == 1 else "server",
                        flags=["client_bound"] if bound else [],
                        order=len(records),
                    )
                )
    return records


def analysed(*records: Record, **about: Any) -> Analysis:
    """Derive the tables of a run of these records. `about`: what its manifest says besides."""
    names = sorted({found.trial.strategy for found in records})
    return analyse(Run(folder=Path("run"), manifest=manifest(names, **about), records=list(records)))


def write_run(folder: Path, records: list[Record], about: Manifest | None = None) -> Path:
    """Write a run folder: the manifest and a line for each record."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({found.trial.strategy for found in records})
    write_manifest(folder, about or manifest(names))
    lines = [msgspec.json.encode(found) + b"\n" for found in records]
    (folder / TRIALS_FILE).write_bytes(b"".join(lines))
    return folder


def write_default(folder: Path) -> Path:
    """A default sweep in which one trial failed and one strategy was unavailable."""
    records = sweep()
    first = next(index for index, found in enumerate(records) if found.trial.strategy == "iterative")
    records[first] = unmeasured("iterative", 1, 0, "failed", "the server died with SIGSEGV", order=first)
    records.append(unmeasured("io_uring", 16, 0, "unavailable", "kernel.io_uring_disabled is 2", order=200))
    names = [*STRATEGIES, "io_uring"]
    return write_run(folder, records, manifest(names))


def why(*names: str) -> dict[str, Any]:
    """What `iobench why` would have counted of these strategies, as a manifest has it."""
    counts = [
        {
            "strategy": name,
            "transport": "tcp",
            "message_bytes": 64,
            "created": "2025-01-02T03:00:00Z",
            "providers": {"system calls": "perf stat"},
            "points": [{"burst": burst, "passes": [_pass(burst)] * 2} for burst in (1, 8, 64)],
        }
        for name in names
    ]
    return {"counts": counts, "host": {}, "versions": {}, "command": ["iobench", "why"]}


def _pass(burst: int) -> dict[str, Any]:
    wakeups = 6400 // burst
    return {
        "messages": 6400,
        "metrics": {"switches_voluntary": wakeups, "switches_involuntary": 10, "minor_faults": 0},
        "timed_messages": 19_200,
        "times": {"cpu_ns": 19_200 * 7e3, "cpu_user_ns": 4e7, "cpu_system_ns": 9e7, "runqueue_wait_ns": 6e7},
        "held": {"rss_bytes": 16e6 + 1e3 * burst, "threads": 1},
        "counted_messages": 6400,
        "calls": {"read": 6400, "write": 6400, "epoll_wait": wakeups},
    }


# --- comparisons with known outcomes, without a trial


def comparison(
    values: Mapping[str, float],
    metric: Metric = RATE,
    *,
    limits: float = 1.02,
    bounds: Collection[str] = (),
    unfinished: Collection[str] = (),
    more_rounds: int | None = 7,
    **group: Any,
) -> Comparison:
    """What a comparison of these values would be whose limits are a factor of `limits` from each ratio, either way.

    Better is a pair whose limits lie above 1, equal one whose limits lie within 5 %; all others are undecided. The
    client was the limit of those in `bounds`, messages were unfinished of those in `unfinished`.
    """
    better = {name: value if metric.higher_is_better else 1 / value for name, value in values.items()}
    names = sorted(better, key=lambda name: (-better[name], name))
    limited = set(bounds) if metric is RATE or metric.quantile is not None else set()
    pairs = []
    tiers = dict.fromkeys(names, 1)
    for ahead, behind in combinations(names, 2):
        ratio = better[ahead] / better[behind]
        low = 0.0 if behind in limited or ahead in unfinished else ratio / limits
        high = math.inf if ahead in limited or behind in unfinished else ratio * limits
        pair = Pair(ahead, behind, Interval(ratio, low, high, 0.95), "undecided", more_rounds)
        if low >= 1 / 1.05 and high <= 1.05:
            pair = pair._replace(outcome="equal", more_rounds=None)
        elif low > 1:
            pair = pair._replace(outcome="better", more_rounds=None)
            tiers[behind] = max(tiers[behind], tiers[ahead] + 1)
        pairs.append(pair)
    return Comparison(
        metric=metric,
        group={"transport": "tcp", "message_bytes": 64, "workload": "closed", "connections": 16} | group,
        ranking=tuple(
            Standing(name, name, "", values[name], 5, 5 * (name in bounds), name in unfinished, tiers[name])
            for name in names
        ),
        pairs=tuple(pairs),
        rounds=5,
        within=0.05,
        level=0.95,
        spread=0.03,
        pooled=True,
    )
