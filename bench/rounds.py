"""One setting of one round: all of its strategies are up, take turns under the same load, and get a record each.

Which trials make up a setting is in settings.py, what a turn is in turns.py, the order of settings in run.py. A fault
is one strategy's: it fails its own trial with the reason, and the others go on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from bench.load import TICK_S, LoadFailedError, LoadWorker
from bench.load_pool import LoadPool
from bench.processes import Ending
from bench.record import Record, Timing, Trial
from bench.server import RunningServer
from bench.trial import (
    connections_of,
    describe_server,
    judge,
    load_faults,
    not_run,
    server_faults,
    stops_at,
    utc_now,
)
from bench.turn_length import Length, length
from bench.turns import Side, close_load, enter, leave, open_load, recorded, take_turn
from bench.validity import QUOTA

FEWEST_CLEAN = 0.5  # of the turns: with fewer that were not disturbed, the trial is


def measure_setting(
    trials: Sequence[Trial],
    start: Callable[[Trial], RunningServer],
    pool: LoadPool,
    *,
    planned_hz: Mapping[str, float],
    shared_cpus: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> list[Record]:
    """Measure all trials of one setting of a round, in turns; returns a record of each, in the order of `trials`.

    `planned_hz` are the rates to plan for, by a trial's id. Every server has ended when this returns or raises.
    Raises Interrupted.
    """
    began = utc_now()
    try:
        worker = pool.worker()
    except LoadFailedError as error:
        return [not_run(trial, "failed", f"the load generator could not be started again: {error}") for trial in trials]
    sides = [Side(trial, lambda trial=trial: start(trial)) for trial in trials]  # type: ignore[misc]
    order = random.Random(f"{trials[0].seed} {trials[0].id}")
    try:
        for side in order.sample(sides, len(sides)):
            enter(side)
        for side in order.sample(sides, len(sides)):
            if side.fit:
                open_load(side, worker, planned_hz.get(side.trial.id, 0.0))
        _take_turns(sides, worker, order, tick)
        for side in order.sample(sides, len(sides)):
            close_load(side)
    finally:
        endings = [leave(side, connections_of(side.trial)) for side in sides]
    records = [_record(side, ending) for side, ending in zip(sides, endings, strict=True)]
    for record in records:
        record.started, record.planned_hz = began, planned_hz.get(record.id, 0.0)
        if shared_cpus and record.load:
            record.flags.append("shared_core")
    return records


def _take_turns(sides: Sequence[Side], worker: LoadWorker, order: random.Random, tick: Callable[[], None]) -> None:
    """Give every side its turns, in an order drawn anew for each cycle; the first has the warm-up of a new process."""
    lengths = {side.trial.id: length(side.trial) for side in sides}
    ticked = time.monotonic()
    for cycle in range(max(turns.turns for turns in lengths.values())):
        for side in order.sample(sides, len(sides)):
            turn = lengths[side.trial.id]
            if side.fit and side.job is not None and cycle < turn.turns:
                first = Length(1, max(turn.warmup_s, side.trial.warmup_s), turn.duration_s)
                take_turn(side, worker, turn if cycle else first, tick)
                if not worker.usable:
                    _end_all(sides, side)
                    return
        if time.monotonic() - ticked > TICK_S:
            ticked = time.monotonic()
            tick()


def _end_all(sides: Sequence[Side], culprit: Side) -> None:
    """No side has a load generator any more: what all the others have measured went with it."""
    for side in sides:
        if side.fit and side is not culprit:
            side.faults.append(f"the load generator broke down in the turn of {culprit.trial.strategy}")


def _record(side: Side, ending: Ending | None) -> Record:
    """The record of a side's trial, once its server has ended, if it was ever started."""
    trial, server = side.trial, side.server
    record = Record(id=trial.id, trial=trial, status="ok", turns=recorded(side), timing=_timing(side))
    reasons = side.faults
    if server is not None and ending is not None:
        record.server, record.network = describe_server(server, side.seen, ending), side.network
        record.stops_at = stops_at(trial, server)
        trouble = "" if side.died else "; ".join(side.faults)
        reasons = [
            *server_faults(server, ending, side.died, connections_of(trial)),
            *load_faults(trial, side.measured, server.refused, trouble, stopped_at=record.stops_at, turns=record.turns),
        ]
    if side.measured:
        record.load, record.machine = side.measured.load, side.measured.machine
    if reasons:
        record.status, record.reason = "failed", "; ".join(reasons)
    judge(record)
    disturbed = [turn.disturbed for turn in record.turns if turn.disturbed]
    if len(record.turns) - len(disturbed) < FEWEST_CLEAN * len(record.turns):
        record.flags += ["disturbed", *(["throttled"] if any(why.startswith(QUOTA) for why in disturbed) else [])]
    return record


def _timing(side: Side) -> Timing:
    return Timing(**{name: side.spent_s.get(name, 0.0) for name in Timing.__struct_fields__})
