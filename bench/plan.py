"""From a sweep and the strategies there are to the trials, in order. Pure: nothing is run, read or written here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from bench.errors import BadInputError
from bench.record import StrategyInfo, Trial
from bench.sweep import Sweep, did_you_mean

# What a trial takes beyond warm-up and window: an interpreter starts, connections open, all ends. Only an estimate.
OVERHEAD_S = 0.12
START_S = 3.0  # of the load generator, and the report at the end


class Plan(NamedTuple):
    """Trials in order of execution; `notes` says what was left out of the sweep's axes, and why."""

    trials: list[Trial]
    strategies: dict[str, StrategyInfo]
    notes: list[str]

    @property
    def runnable(self) -> list[Trial]:
        """The trials that this machine can run."""
        return [trial for trial in self.trials if self.strategies[trial.strategy].available]


def make_plan(sweep: Sweep, known: Sequence[StrategyInfo]) -> Plan:
    """Plan every point of the axes `repeats` times.

    Each repeat is a block of all points, shuffled within itself, so that a drift of the machine meets all strategies
    alike (a randomised complete block design). The seed decides the order, and nothing else does. Trials of a strategy
    that can't run here are planned too: they become records that say why.

    Raises BadInputError for a strategy that there isn't, and where nothing is left to run.
    """
    chosen = choose(sweep, known)
    points: list[tuple[StrategyInfo, str, int, int, str]] = []
    notes: list[str] = []
    for info in chosen:
        served = [transport for transport in sweep.transports if transport in info.transports]
        if len(served) < len(sweep.transports):
            left_out = ", ".join(sorted(set(sweep.transports) - set(served)))
            notes.append(f"{info.name} does not serve {left_out}: left out")
        connections = list(sweep.connections)
        if not info.concurrent and connections != [1]:
            connections = [1]
            notes.append(f"{info.name} serves one connection at a time: planned at 1 connection only")
        points += product([info], served, connections, sweep.message_bytes, sweep.workload)
    _refuse_an_empty_plan(sweep, chosen, points)
    return Plan(list(_in_blocks(sweep, points)), {info.name: info for info in chosen}, notes)


def choose(sweep: Sweep, known: Sequence[StrategyInfo]) -> list[StrategyInfo]:
    """The strategies that a sweep names. Raises BadInputError for one that there isn't."""
    if sweep.strategies == "all":
        return sorted(known, key=lambda info: info.name)
    by_name = {info.name: info for info in known}
    for name in sweep.strategies:
        if name not in by_name:
            raise BadInputError(
                f"There is no strategy {name!r}{did_you_mean(name, by_name)}; there are: {', '.join(sorted(by_name))}.",
                "iobench list shows what each of them is",
            )
    return [by_name[name] for name in sweep.strategies]


def expected_s(trials: Sequence[Trial]) -> float:
    """About how long the trials take."""
    return START_S + sum(trial.warmup_s + trial.duration_s + OVERHEAD_S for trial in trials)


def _in_blocks(sweep: Sweep, points: list[tuple[StrategyInfo, str, int, int, str]]) -> Iterator[Trial]:
    shuffler = random.Random(sweep.seed)
    for repeat in range(1, sweep.repeats + 1):
        block = shuffler.sample(points, len(points))
        for info, transport, connections, message_bytes, workload in block:
            yield Trial(
                strategy=info.name,
                transport=transport,
                connections=connections,
                message_bytes=message_bytes,
                workload=workload,
                warmup_s=sweep.warmup_s,
                duration_s=sweep.duration_s,
                repeat=repeat,
                seed=sweep.seed + repeat,  # the same payloads for every strategy, others in each repeat
            )


def _refuse_an_empty_plan(sweep: Sweep, chosen: Sequence[StrategyInfo], points: Sequence[object]) -> None:
    if not points:
        raise BadInputError(
            f"Sweep {sweep.name}: none of its strategies serves {', '.join(sweep.transports)}.", "iobench list"
        )
    if not any(info.available for info in chosen):
        reasons = "; ".join(f"{info.name}: {info.reason}" for info in chosen)
        raise BadInputError(
            f"Sweep {sweep.name}: none of its strategies can run here ({reasons}).",
            "iobench list shows those that can",
        )
