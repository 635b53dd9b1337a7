"""The gate's loop: pairs in rounds, looked at a few times, and measured once more before anything fails.

In each round there is one pair of each case that is not decided, in an order drawn anew, so that a drift of the machine
meets all alike. What pairs mean is decided in decide.py; what is shown of it, in show/.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import msgspec

from bench import words
from bench.gate import decide
from bench.gate.decide import Settings
from bench.gate.measure import FULL_LOAD_S, OFFERED_SHARE, WARM_UP_S, Rig, at_rate_s, measure_pair
from bench.gate.model import THROUGHPUT, TIMED, CallCount, CallPair, Case, Pair, Result
from bench.gate.sides import Source
from bench.load import LoadFailedError
from bench.plan import make_plan
from bench.probes.calls import CountingError
from bench.record import Trial
from bench.server import RunningServer, ServerFailedError
from bench.sweep import Sweep
from bench.why.count import Bench, benched, count_calls

BURSTS = (1, 8)
PASSES = 2
FAILED_OFTEN = 2  # failed pairs after which a case is not gone on with


@dataclass
class Progress:
    """What was measured so far, kept where an interruption can't lose it."""

    pairs: list[Pair] = field(default_factory=list)
    calls: list[CallPair] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Tell = Callable[[str], None]


def make_cases(sweep: Sweep, base: Source, head: Source) -> tuple[list[Case], list[str]]:
    """The points of a sweep's closed loops, and what was left out. Raises BadInputError."""
    kinds = {type(workload).__name__.lower() for workload in sweep.workloads}
    notes = [f"Sweep {sweep.name}: only its closed loops are gated."] if kinds != {"closed"} else []
    infos = {**head.strategies, **base.strategies}
    planned = make_plan(msgspec.structs.replace(sweep, repeats=1, python=("",)), list(infos.values()))
    trials = dict.fromkeys(
        msgspec.structs.replace(trial, warmup_s=WARM_UP_S, duration_s=FULL_LOAD_S, repeat=1, seed=sweep.seed)
        for trial in planned.trials
        if trial.workload == "closed"
    )
    ordered = sorted(trials, key=lambda trial: (trial.strategy, trial.transport, trial.connections))
    notes += [f"{note}." for note in planned.notes]
    cases = [Case(name=words.case_title(it), trial=it, missing=_missing(it, base, head)) for it in ordered]
    return cases, notes


def _missing(trial: Trial, *sides: Source) -> str:
    for source in sides:
        info = source.strategies.get(trial.strategy)
        if info is None:
            return f"{source.side.role} has no strategy {trial.strategy}"
        if not info.available:
            return f"{source.side.role} can't run {trial.strategy} here: {info.reason}"
        if trial.transport not in info.transports:
            return f"{source.side.role}'s {trial.strategy} does not serve {trial.transport}"
    return ""


@dataclass(frozen=True)
class Setting:
    """What a whole gate is measured with. `budget_s` is for each case and attempt."""

    rig: Rig
    sides: tuple[Source, Source]
    settings: Settings
    budget_s: float
    rng: random.Random
    progress: Progress
    tell: Tell


def compare(setting: Setting, cases: Sequence[Case], *, count: bool) -> None:
    """Measure and judge all cases; what would fail is measured once more, afresh. Its progress is filled on the way.

    Raises Interrupted, and LoadFailedError where the load generator can't be started.
    """
    setting.rig.pool.worker()
    first = _count(setting, cases, attempt=1) if count else []
    try:
        first += _attempt(setting, cases, attempt=1)
    finally:
        setting.progress.results = first
    counted = {result.case for result in first if result.verdict == "regressed" and result.burst}
    timed = {result.case for result in first if result.verdict == "regressed" and not result.burst}
    if not counted | timed:
        return
    setting.tell(f"{len(counted | timed)} of {len(cases)} cases would fail: measured once more, afresh.")
    again: list[Result] = []
    if counted:
        again += _count(setting, [case for case in cases if case.name in counted], attempt=2)
    if timed:
        again += _attempt(setting, [case for case in cases if case.name in timed], attempt=2)
    setting.progress.results = decide.confirm(first, again)


def _attempt(setting: Setting, cases: Sequence[Case], attempt: int) -> list[Result]:
    """Measure rounds until every case is decided or its time is up, and judge them."""
    pairs = setting.progress.pairs
    began = time.monotonic()
    offered = {case.name: _pilot(setting, case, attempt) for case in cases}
    if attempt == 1:
        _tell_if_too_short(setting, cases, (time.monotonic() - began) / len(cases))
    began = time.monotonic()
    deadline = began + setting.budget_s * len(cases)
    open_cases, closed = list(cases), list[Result]()
    rounds, number = 0, 0
    schedule: tuple[int, ...] = ()
    while open_cases:
        number += 1
        for case in setting.rng.sample(open_cases, len(open_cases)):
            pairs.append(_one(setting, case, offered[case.name], number, attempt))
        if number == 1:
            rounds = decide.planned_rounds(setting.budget_s, (time.monotonic() - began) / len(cases))
            schedule = decide.looks(rounds)
            most, after = words.counted(rounds, "pair"), ", ".join(map(str, schedule))
            setting.tell(f"{most} of each case at most, looked at after {after}.")
        last = number >= rounds or time.monotonic() >= deadline
        broken = _broken(open_cases, pairs, attempt)
        if not last and number not in schedule and len(broken) < len(open_cases):
            continue
        results = decide.judge(
            open_cases,
            pairs,
            setting.settings,
            look=len(schedule) if last else max(1, sum(number >= at for at in schedule)),
            looks=len(schedule),
            attempt=attempt,
            closed=closed,
        )
        going_on = set() if last else set(decide.undecided(results)) - broken
        closed += [result for result in results if result.case not in going_on]
        setting.tell(f"After {words.counted(number, 'pair')}: {_standing(closed, going_on)}.")
        open_cases = [case for case in open_cases if case.name in going_on]
    return [*decide.judge_failures(cases, pairs, attempt), *closed]


def _pilot(setting: Setting, case: Case, attempt: int) -> float:
    """The rate that response times are measured at: a share of what base can do, the same for both sides."""
    pair = _one(setting, case, 0.0, 0, attempt)
    return round(OFFERED_SHARE * pair.base.metrics.get(THROUGHPUT.name, 0.0), -1)


def _tell_if_too_short(setting: Setting, cases: Sequence[Case], pilot_s: float) -> None:
    """Say so, and which budget would do, where fewer pairs fit into the budget than it takes to find a regression.

    A pair is a pilot, and the time at the fixed rate besides.
    """
    pair_s = pilot_s + fmean(at_rate_s(case.trial) for case in cases)
    planned = decide.planned_rounds(setting.budget_s, pair_s)
    needed = decide.pairs_needed(len(TIMED) * len(cases), setting.settings.alpha)
    if planned < needed:
        said = (
            f"--budget {setting.budget_s:g}s is too short to decide: there is time for about "
            f"{words.counted(planned, 'pair')} of each case, and {needed} are needed; "
            f"--budget {decide.enough_s(needed, pair_s):g}s would do."
        )
        setting.tell(said)
        setting.progress.notes.append(said)


def _one(setting: Setting, case: Case, offered_hz: float, number: int, attempt: int) -> Pair:
    return measure_pair(
        setting.rig,
        case,
        *setting.sides,
        first=setting.rng.choice(("base", "head")),
        offered_hz=offered_hz,
        number=number,
        attempt=attempt,
    )


def _broken(cases: Sequence[Case], pairs: Sequence[Pair], attempt: int) -> set[str]:
    """Cases that fail again and again: each failure may take its full patience, and more of them tell nothing."""
    failures = Counter(pair.case for pair in pairs if pair.failed and pair.attempt == attempt)
    return {case.name for case in cases if failures[case.name] >= FAILED_OFTEN}


def _standing(closed: Sequence[Result], going_on: set[str]) -> str:
    regressed = {result.case for result in closed if result.verdict == "regressed"}
    ok = {result.case for result in closed} - regressed
    parts = [(len(regressed), "worse"), (len(ok), "done"), (len(going_on), "not decided")]
    return ", ".join(f"{number} {what}" for number, what in parts if number) or "nothing"


# --- system calls


def _count(setting: Setting, cases: Sequence[Case], attempt: int) -> list[Result]:
    """Count the calls of each strategy and transport once, whatever the number of its cases, and judge them."""
    sides, progress = setting.sides, setting.progress
    setting.tell("Counting system calls.")
    before = len(progress.calls)
    try:
        with benched() as bench:
            if bench.counter is None:
                reasons = "; ".join(f"{name}: {why}" for name, why in bench.unavailable.items())
                progress.notes.append(f"System calls were not counted: {reasons}.")
                return []
            for case in _one_of_each(cases):
                bursts = BURSTS if sides[0].strategies[case.trial.strategy].concurrent else BURSTS[:1]
                base, head = (_count_side(bench, case.trial, source, bursts) for source in sides)
                progress.calls += [
                    CallPair(case=case.name, attempt=attempt, base=one, head=other)
                    for one, other in zip(base, head, strict=True)
                ]
    except LoadFailedError as error:
        progress.notes.append(f"System calls were not counted: {error}.")
    counted = progress.calls[before:]
    for one in counted:
        if not one.base.passes and not one.head.passes:
            progress.notes.append(f"System calls of {one.case} were not counted: {one.base.reason}.")
    return decide.judge_calls(counted, setting.settings, attempt)


def _one_of_each(cases: Sequence[Case]) -> Iterator[Case]:
    seen = set()
    for case in cases:
        what = (case.trial.strategy, case.trial.transport)
        if what not in seen:
            seen.add(what)
            yield case


def _count_side(bench: Bench, trial: Trial, source: Source, bursts: Sequence[int]) -> list[CallCount]:
    """Count one side at each burst; the first of its processes shows which calls there are to look for."""

    def start() -> RunningServer:
        return source.start(trial, bench.cpus, bench.guard)

    found = [CallCount(burst=burst, passes=[]) for burst in bursts]
    for count in found:
        try:
            for number in range(PASSES):
                count.passes.append(count_calls(bench, start, count.burst, learn=count is found[0] and number == 0))
        except (CountingError, LoadFailedError, ServerFailedError) as error:
            count.passes, count.reason = [], str(error)
    return found
