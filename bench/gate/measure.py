"""Measure one pair: a fresh server process of base and one of head, the same load on each, in turns.

From process to process throughput varies by far more than within one, so the process is the unit. And a shared machine
is faster at one moment than at the next: so both processes are there together and take turns, A B B A, of which all
that lasts longer than a turn or two meets both alike. What a turn is, how long, and which of them count, is decided in
bench/turns.py, as for a sweep; what follows from pairs, in decide.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from bench import validity
from bench.disturbance import stolen, waited_for_others
from bench.gate.model import CPU, MEMORY, P50, P99, THROUGHPUT, Case, Pair, Sample
from bench.gate.sides import Source
from bench.histograms import decode, quantiles_us
from bench.host import CpuLayout
from bench.load import LoadFailedError, LoadWorker
from bench.load_pool import LoadPool
from bench.lock import alone_on
from bench.observation import Seen
from bench.processes import Ending, Guard, pinned
from bench.record import Load, Trial
from bench.rounds import FEWEST_CLEAN
from bench.trial import NOTHING_COMPLETED, connections_of, describe_server, load_faults, server_faults
from bench.turn_length import SWITCH_S, Length, length, shortest_s
from bench.turns import Side, close_load, enter, leave, open_load, take_turn

WARM_UP_S = 0.05  # before the first window of a load: a new process is slower at first
FULL_LOAD_S = 0.4  # in all, of either side: a thousand messages of the slowest strategies
FIXED_RATE_S = 0.4
# Of what base can do. A queue that a standstill of the machine leaves behind is gone the sooner the less is offered: at
# half load twice as many messages suffer as come meanwhile.
OFFERED_SHARE = 0.25
# Two system calls and a copy take longer on any machine. A shell that has only asked a daemon to serve is stopped and
# let go on with each turn, and had some 5 ns a message by that.
LEAST_ECHO_NS = 100.0  # of CPU time; of as many messages as may come at one go, for all of them
ELSEWHERE = (
    "messages came back that it had no CPU time for: the work was done outside of the processes that were started"
)
FEWEST_CONNECTIONS = 8  # for memory per connection: below, a page more or less is all that would be seen


class Rig(NamedTuple):
    """What pairs are measured with."""

    guard: Guard
    layout: CpuLayout
    pool: LoadPool


@contextmanager
def rigged(layout: CpuLayout) -> Iterator[Rig]:
    """A rig on these CPUs, once no other of ours measures there; nothing that it started is left at its end.

    Raises Interrupted.
    """
    guard = Guard()
    pool = LoadPool(guard, layout.load)
    try:
        with alone_on([*layout.server, *layout.load], Path.cwd()), pinned(layout.harness):
            yield Rig(guard, layout, pool)
    finally:
        pool.end()
        guard.close()


class Stage(NamedTuple):
    """What one side saw of one load: those of its turns that count, together. `disturbed`: why they are too few."""

    load: Load
    seen: Seen
    disturbed: str


@dataclass
class Contestant:
    """One side of a pair, and its stages so far: at full load, then perhaps at a fixed rate."""

    source: Source
    side: Side
    stages: list[Stage] = field(default_factory=list)


def measure_pair(
    rig: Rig,
    case: Case,
    base: Source,
    head: Source,
    *,
    first: Literal["base", "head"],
    offered_hz: float,
    number: int,
    attempt: int,
) -> Pair:
    """Measure both sides at full load, then, with `offered_hz`, at that rate.

    Raises Interrupted; all else that goes wrong is in the pair.
    """
    both = [_contestant(rig, case.trial, source) for source in ((base, head) if first == "base" else (head, base))]
    try:
        _measure(rig, case.trial, both, offered_hz)
    finally:
        endings = [leave(one.side, connections_of(case.trial)) for one in both]
    samples = {
        one.source.side.role: _sample(case.trial, one, ending) for one, ending in zip(both, endings, strict=True)
    }
    return Pair(
        case=case.name,
        round=number,
        attempt=attempt,
        first=first,
        offered_hz=offered_hz,
        base=samples["base"],
        head=samples["head"],
        disturbed=next((stage.disturbed for one in both for stage in one.stages if stage.disturbed), ""),
    )


def _contestant(rig: Rig, trial: Trial, source: Source) -> Contestant:
    return Contestant(source, Side(trial, lambda: source.start(trial, rig.layout.server, rig.guard)))


def _measure(rig: Rig, trial: Trial, both: Sequence[Contestant], offered_hz: float) -> None:
    """Let both sides have their turns at full load and, with `offered_hz`, at that rate. Raises Interrupted."""
    try:
        worker = rig.pool.worker()
    except LoadFailedError as error:
        for one in both:
            one.side.faults.append(f"the load generator could not be started again: {error}")
        return
    for one in both:
        enter(one.side)
        if one.side.server is not None:
            server = one.side.server
            one.source.side.interpreter = f"{server.implementation} {server.version}".strip()
    _put_on(both, worker, trial, FULL_LOAD_S)
    if offered_hz:
        _put_on(both, worker, _at_rate(trial, offered_hz), FIXED_RATE_S)


def at_rate_s(trial: Trial) -> float:
    """How long a pair is at the fixed rate (s), both sides together."""
    turn = _turns(_at_rate(trial, 1.0), FIXED_RATE_S)
    return 2 * turn.turns * (turn.warmup_s + turn.duration_s + SWITCH_S)


def _at_rate(trial: Trial, offered_hz: float) -> Trial:
    return msgspec.structs.replace(
        trial, workload="open", arrivals="constant", depth=1, planned_hz=offered_hz, duration_s=FIXED_RATE_S
    )


def _turns(trial: Trial, in_all_s: float) -> Length:
    return length(trial, max(in_all_s, 2 * shortest_s(trial)), even=True)


def _put_on(both: Sequence[Contestant], worker: LoadWorker, trial: Trial, in_all_s: float) -> None:
    """Put one load on both sides, in turns, A B B A; each then has a stage more, or a fault. Raises Interrupted."""
    on = [one for one in both if one.side.fit]
    for one in on:
        open_load(one.side, worker, trial.planned_hz, trial)
    turn = _turns(trial, in_all_s)
    first = turn._replace(warmup_s=max(turn.warmup_s, trial.warmup_s))
    for number in range(turn.turns):
        for one in on if number % 2 == 0 else reversed(on):
            if one.side.fit:
                take_turn(one.side, worker, turn if number else first)
    for one in on:
        close_load(one.side)
        _note(one, trial)


def _note(one: Contestant, trial: Trial) -> None:
    """Add what came of a load to a side's stages, and what was wrong with it to its faults."""
    side = one.side
    if side.measured is None or side.server is None:
        return
    stage = Stage(side.measured.load, side.seen, _disturbed(one))
    faults = load_faults(trial, side.measured, side.server.refused, "")
    if one.stages or stage.disturbed:  # at a fixed rate a turn may have no message, and a server may be left no CPU
        faults = [fault for fault in faults if fault != NOTHING_COMPLETED]
    if "cpu_ns" not in side.seen.metrics:
        faults.append(side.seen.missing.get("cpu_ns", "the server's CPU time can't be read"))
    elif side.seen.metrics["cpu_ns"] < LEAST_ECHO_NS * stage.load.completed / trial.depth:
        faults.append(ELSEWHERE)
    side.faults += faults
    one.stages.append(stage)


def _disturbed(one: Contestant) -> str:
    """Why too few of a side's turns count; "" where at least half of them do."""
    reasons = [turn.disturbed for turn in one.side.taken if turn.disturbed]
    turns = len(one.side.taken)
    if turns - len(reasons) >= FEWEST_CLEAN * turns:
        return ""
    return f"{len(reasons)} of {turns} turns of {one.source.side.role}: {reasons[0]}"


def _sample(trial: Trial, one: Contestant, ending: Ending | None) -> Sample:
    """What one side came to, now that its server has ended, if it was ever started."""
    side, server = one.side, one.side.server
    if server is None or ending is None:
        return Sample(metrics={}, failed="; ".join(side.faults))
    faults = server_faults(server, ending, side.died, connections_of(trial)) + ([] if side.died else side.faults)
    if faults:
        return Sample(metrics={}, failed="; ".join(dict.fromkeys(faults)))
    full, *fixed = one.stages
    limit = validity.bottleneck(full.load, describe_server(server, full.seen, ending), full.seen.machine)
    sample = Sample(
        metrics=_at_full_load(trial, full, side.at_start_bytes),
        wait=max(_wait(stage, server.cpus) for stage in one.stages),
        steal=max(_steal(stage) for stage in one.stages),
        client_bound=limit == "client",
    )
    for stage in fixed:
        _add_response_times(sample, stage.load)
    return sample


def _at_full_load(trial: Trial, stage: Stage, at_start_bytes: float) -> dict[str, float]:
    """Throughput, CPU time and memory; nothing where there was no message, or none of memory that tells anything."""
    load, seen = stage.load, stage.seen
    if not load.completed:
        return {}
    rate_hz = load.completed / ((load.closed_ns - load.opened_ns) / 1e9)
    probed_s = (seen.closed_ns - seen.opened_ns) / 1e9
    metrics = {THROUGHPUT.name: rate_hz, CPU.name: seen.metrics["cpu_ns"] / probed_s / rate_hz / 1e3}
    if trial.connections >= FEWEST_CONNECTIONS and at_start_bytes and "rss_bytes" in seen.metrics:
        metrics[MEMORY.name] = (seen.metrics["rss_bytes"] - at_start_bytes) / trial.connections
    return metrics


def _add_response_times(sample: Sample, load: Load) -> None:
    hist = decode(load.response_hdr)
    if hist is not None:
        sample.metrics[P50.name], sample.metrics[P99.name] = quantiles_us(hist, (0.5, 0.99)).tolist()
        sample.response_hdr = load.response_hdr


def _wait(stage: Stage, server_cpus: Sequence[int]) -> float:
    load, seen = stage.load, stage.seen
    if seen.machine is None:
        return 0.0
    load_ns = load.cpu_user_ns + load.cpu_system_ns
    return waited_for_others(seen.closed_ns - seen.opened_ns, server_cpus, seen.metrics, load_ns, seen.machine)


def _steal(stage: Stage) -> float:
    seen = stage.seen
    return stolen(seen.closed_ns - seen.opened_ns, seen.machine) if seen.machine else 0.0
