"""From a sweep and the strategies there are to the trials, in order. Pure: nothing is run, read or written here."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import msgspec

from bench.errors import BadInputError, did_you_mean
from bench.external import External
from bench.record import Interpreter, StrategyInfo, Trial
from bench.settings import Setting, in_blocks, in_settings, key_of
from bench.slo import MAX_STEPS, USUAL_STEPS
from bench.sweep import Mix, Sweep
from bench.turn_length import turns_s
from bench.workloads import count_points, points

# What a trial takes beyond warm-up and window: an interpreter starts, connections open, all ends. Only an estimate.
OVERHEAD_S = 0.08
EACH_CONNECTION_S = 0.0005  # to open and to close it; a process for each takes ten times as long, most others a half
START_S = 3.0  # of the load generator, and the report at the end
MOST_TRIALS = 100_000  # a day at a second each
FEWEST_ROUNDS = 3  # where there is a budget: with fewer, no difference whatever can be told from noise


class Plan(NamedTuple):
    """Trials in order of execution; `notes` says what was left out of the sweep's axes, and why.

    With an objective in `slo`, each trial is the closed loop that a search for the highest rate begins with.
    `strategies` has servers that are not ours as well, and `externals` how to start them. With a `budget_s`, the trials
    are those of the fewest rounds that there will be, and `cases` are what each further round is made of.
    """

    trials: list[Trial]
    strategies: dict[str, StrategyInfo]
    notes: list[str]
    slo: str = ""
    externals: Mapping[str, External] = {}
    interpreters: Mapping[str, Interpreter] = {}
    cases: Sequence[Trial] = ()
    seed: int = 1
    budget_s: float = 0.0

    def round(self, number: int) -> list[Trial]:
        """The trials of a round, from 1, in order of execution."""
        return list(_round(self.cases, self.seed, number))

    def settings(self, trials: Sequence[Trial]) -> list[Setting]:
        """Trials of this plan, in order, put together as they are measured."""
        return in_settings(trials, self.externals, self.slo)

    @property
    def runnable(self) -> list[Trial]:
        """The trials that this machine can run."""
        return [trial for trial in self.trials if not self.why_not(trial)]

    def why_not(self, trial: Trial) -> str:
        """Why this machine can't run a trial; "" where it can."""
        if trial.python:
            interpreter = self.interpreters[trial.python]
            return interpreter.unavailable.get(trial.strategy, "") if interpreter.available else interpreter.reason
        info = self.strategies[trial.strategy]
        return "" if info.available else info.reason

    @property
    def unavailable(self) -> dict[str, str]:
        """Who can't run here, and why: a strategy, one on some interpreter, or an interpreter as a whole."""
        reasons = {}
        for trial in self.trials:
            why = self.why_not(trial)
            if why and trial.python:
                on = "" if not self.interpreters[trial.python].available else f"{trial.strategy} on "
                reasons[f"{on}{trial.python}"] = why
            elif why:
                reasons[trial.strategy] = why
        return dict(sorted(reasons.items()))

    @property
    def builds_on_rates(self) -> bool:
        """Whether what is sent in some trials follows from the throughput of others."""
        return bool(self.slo) or any(trial.load_fraction for trial in self.trials)

    @property
    def at_most(self) -> int:
        """How many trials there will be; with searches, at most."""
        return len(self.trials) + (MAX_STEPS * len(self.runnable) if self.slo else 0)


def make_plan(
    sweep: Sweep,
    known: Sequence[StrategyInfo],
    *,
    foreign: Sequence[StrategyInfo] = (),
    interpreters: Sequence[Interpreter] = (),
) -> Plan:
    """Plan every point of the axes `repeats` times, or FEWEST_ROUNDS times where there is a budget.

    Each repeat is a round of all settings, in an order drawn anew; the strategies of a setting are together. The seed
    decides the order, and nothing else does. The closed loops that others take their rate from come right before these.
    Trials of a strategy that can't run here are planned too: they become records that say why.

    `foreign` are the sweep's external servers, `interpreters` those of its axis `python`, where it has one. Raises
    BadInputError for a strategy that there isn't, and where nothing is left to run.
    """
    chosen = [*choose(sweep, known), *foreign]
    _refuse_two_of_a_name(sweep, known)
    _refuse_too_many(sweep, len(chosen))
    cases: list[Trial] = []
    notes: list[str] = []
    unserved: dict[str, list[str]] = {}
    for info in chosen:
        served = [transport for transport in sweep.transports if transport in info.transports]
        if len(served) < len(sweep.transports):
            left_out = ", ".join(sorted(set(sweep.transports) - set(served)))
            unserved.setdefault(left_out, []).append(info.name)
        possible, reasons = _cases(sweep, info, served)
        cases += possible
        notes += reasons
    notes = [f"{what} left out: not served by {', '.join(names)}" for what, names in unserved.items()] + notes
    _refuse_an_empty_plan(sweep, chosen, cases, notes)
    rounds = FEWEST_ROUNDS if sweep.budget_s else sweep.repeats
    plan = Plan(
        [trial for number in range(1, rounds + 1) for trial in _round(cases, sweep.seed, number)],
        {info.name: info for info in chosen},
        notes,
        sweep.slo,
        {external.name: external for external in sweep.external},
        {interpreter.name: interpreter for interpreter in interpreters},
        cases,
        sweep.seed,
        sweep.budget_s,
    )
    if not plan.runnable:
        why_none = "; ".join(f"{who}: {why}" for who, why in plan.unavailable.items())
        raise BadInputError(
            f"Sweep {sweep.name}: none of its strategies can run here ({why_none}).",
            "iobench list shows those that can" if len(foreign) < len(chosen) else f"iobench plan {sweep.name}",
        )
    return plan


def _cases(sweep: Sweep, info: StrategyInfo, transports: Sequence[str]) -> tuple[list[Trial], list[str]]:
    """All points of one strategy that make sense, and what was left out."""
    connections = list(sweep.connections)
    notes = []
    loads = [fields for workload in sweep.workloads for fields in points(workload, sweep.depth)]
    if not info.concurrent:
        if any(fields["workload"] == "idle" for fields in loads):
            notes.append(
                f"{info.name} serves one connection at a time: no idle workload, the silent ones would block it"
            )
        if connections != [1] and any(fields["workload"] not in ("idle", "churn") for fields in loads):
            notes.append(f"{info.name} serves one connection at a time: planned at 1 connection only")
    found: dict[Trial, None] = {}  # a set in order: two workloads may have a point in common
    too_few = Counter[int]()
    numbers = connections if info.concurrent else sorted({1, *connections})
    pythons = ("",) if info.name in {external.name for external in sweep.external} else sweep.python
    for python, transport, number, message, fields, threads in product(
        pythons, transports, numbers, sweep.message_bytes, loads, sweep.threads
    ):
        if not info.concurrent and not _one_at_a_time(fields, number, connections):
            continue
        if threads > fields.get("connections", number) or 0 < fields.get("cap", 0) < threads:
            too_few[threads] += 1
            continue
        server = {"strategy": info.name, "python": python, "transport": transport}
        found[_case(sweep, message, server | {"connections": number, "threads": threads} | fields)] = None
    for threads, times in sorted(too_few.items()):
        notes.append(f"{info.name}: {threads} load threads left out where there are fewer connections ({times} points)")
    return list(found), notes


def _one_at_a_time(fields: dict[str, Any], number: int, connections: Sequence[int]) -> bool:
    """Whether a strategy that serves one connection at a time is measured at this point.

    Under churn a connection is gone after one echo, and the next one's turn comes; elsewhere it stays.
    """
    if fields["workload"] == "churn":
        return number in connections
    return fields["workload"] != "idle" and number == 1


def _case(sweep: Sweep, message: int | Mix, fields: dict[str, Any]) -> Trial:
    return Trial(
        message_bytes=message.mean_bytes if isinstance(message, Mix) else message,
        sizes=tuple(zip(message.sizes, message.weights, strict=True)) if isinstance(message, Mix) else (),
        warmup_s=sweep.warmup_s,
        duration_s=sweep.duration_s,
        ramp_s=sweep.ramp_s,
        repeat=1,
        seed=sweep.seed,
        **fields,
    )


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


def expected_s(trials: Sequence[Trial], slo: str = "") -> float:
    """About how long the trials take, and the searches that begin with them."""
    return START_S + sum(takes_s(trial, slo) for trial in trials)


def takes_s(trial: Trial, slo: str = "") -> float:
    """About how long a trial takes, with its start, its connections and its end, and the search that begins with it."""
    around_s = OVERHEAD_S + EACH_CONNECTION_S * (trial.connections + trial.silent)
    return (lasting_s(trial) + around_s) * (1 + USUAL_STEPS * bool(slo))


def lasting_s(trial: Trial) -> float:
    """The part of a trial that takes as long as it was told to, in turns."""
    return trial.ramp_s + trial.warmup_s + turns_s(trial)


def capacity_trial(trial: Trial) -> Trial | None:
    """The closed loop whose throughput a trial's rate is a fraction of; None where it isn't."""
    if not trial.load_fraction:
        return None
    return msgspec.structs.replace(trial, workload="closed", load_fraction=0.0, arrivals="constant", cap=0)


def _round(cases: Sequence[Trial], seed: int, number: int) -> Iterator[Trial]:
    """One round of all cases: settings, and strategies within them, in an order drawn anew.

    A setting that others take their rates from comes before them, and with all that were asked for in it.
    """
    shuffler = random.Random(f"{seed} {number}")
    settings: dict[tuple[Any, ...], dict[Trial, None]] = {}  # sets in order
    needs: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for case in cases:
        # The same payloads for every strategy, others in each round.
        trial = msgspec.structs.replace(case, repeat=number, seed=seed + number)
        settings.setdefault(key_of(trial), {})[trial] = None
        if capacity := capacity_trial(trial):
            needs[key_of(trial)] = key_of(capacity)
            settings.setdefault(key_of(capacity), {})[capacity] = None
    who = sorted({(case.strategy, case.python) for case in cases})
    turn = {one: place for place, one in enumerate(shuffler.sample(who, len(who)))}
    keys = shuffler.sample(list(settings), len(settings))
    for key in dict.fromkeys(each for one in keys for each in (needs.get(one, one), one)):
        for block in in_blocks(list(settings[key]), turn):
            yield from sorted(block, key=lambda trial: turn[trial.strategy, trial.python])


def _refuse_an_empty_plan(
    sweep: Sweep, chosen: Sequence[StrategyInfo], cases: Sequence[Trial], notes: Sequence[str]
) -> None:
    if not any(transport in info.transports for info in chosen for transport in sweep.transports):
        raise BadInputError(
            f"Sweep {sweep.name}: none of its strategies serves {', '.join(sweep.transports)}.", "iobench list"
        )
    if not cases:
        raise BadInputError(f"Sweep {sweep.name}: nothing is left of it: {'; '.join(notes)}.", "iobench list")


def _refuse_too_many(sweep: Sweep, strategies: int) -> None:
    """Look before all of them are made: a few lines of a file may stand for more than there is room for."""
    axes = (sweep.python, sweep.transports, sweep.connections, sweep.message_bytes, sweep.threads)
    loads = sum(count_points(workload, sweep.depth) for workload in sweep.workloads)
    most = strategies * sweep.repeats * loads * math.prod(map(len, axes))
    if most > MOST_TRIALS:
        raise BadInputError(
            f"Sweep {sweep.name} comes to {most:,} trials; {MOST_TRIALS:,} are the most that a run may have.",
            "leave out some values of its axes, or repeats",
        )


def _refuse_two_of_a_name(sweep: Sweep, known: Sequence[StrategyInfo]) -> None:
    for external in sweep.external:
        if any(info.name == external.name for info in known):
            raise BadInputError(
                f"Sweep {sweep.name}: there is a strategy called {external.name!r}, so no external server can be.",
                "give the server another name",
            )
