"""From what the user typed to a sweep and its plan: what `iobench sweep` and `iobench plan` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bench import descriptors, interpreters
from bench import sweep as sweeps
from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.external import MODEL, as_strategy
from bench.plan import Plan, make_plan
from bench.record import Interpreter, StrategyInfo
from bench.say import complain
from bench.sweep import Sweep


class Choice(NamedTuple):
    """What the user asks for; None is nothing."""

    name_or_file: str | None
    strategies: str | None
    slo: str | None
    python: str | None = None
    target: str | None = None
    budget: str | None = None
    within: str | None = None


def choose_sweep(choice: Choice) -> Sweep:
    """Read the sweep, with what the command line changes of it. Raises BadInputError."""
    chosen = sweeps.load_sweep(choice.name_or_file or sweeps.DEFAULT)
    if choice.target is not None:
        if choice.strategies is not None or choice.python is not None:
            raise BadInputError(
                "--target measures one server alone, which is already running: leave --strategies and --python out.",
                f"iobench sweep {chosen.name} --target {choice.target}",
            )
        chosen = sweeps.with_target(chosen, choice.target)
    if choice.python is not None:
        chosen = sweeps.with_python(chosen, choice.python)
    if choice.strategies is not None:
        chosen = sweeps.with_strategies(chosen, choice.strategies)
    if choice.budget is not None:
        chosen = sweeps.with_budget(chosen, choice.budget)
    if choice.within is not None:
        chosen = sweeps.with_within(chosen, choice.within)
    return sweeps.with_slo(chosen, choice.slo) if choice.slo is not None else chosen


def plan_of(
    chosen: Sweep,
    before: Sequence[StrategyInfo] | None = None,
    *,
    known: Sequence[StrategyInfo] | None = None,
    asked: Sequence[Interpreter] | None = None,
) -> Plan:
    """Plan a sweep; `before` are the strategies that an earlier part of the run was planned with.

    `known` and `asked` are what another machine said of its strategies and interpreters, where the servers run there.
    """
    known = known_strategies() if known is None else known
    if before is not None:
        known = _as_planned([info for info in before if info.model != MODEL], known)
    foreign = [as_strategy(external) for external in chosen.external]
    if asked is None:
        asked = interpreters.ask_all(chosen.python, known) if chosen.python != ("",) else []
    return make_plan(chosen, known, foreign=foreign, interpreters=asked)


def known_strategies() -> list[StrategyInfo]:
    """All strategies of servers/; files there that can't be imported are told."""
    known, complaints = list_strategies()
    for complaint in complaints:
        complain(f"warning: {complaint}")
    return known


def _as_planned(then: Iterable[StrategyInfo], now: Iterable[StrategyInfo]) -> list[StrategyInfo]:
    """The strategies of a run as they were planned, but available or not as they are now."""
    current = {info.name: info for info in now}
    gone = "it is not there any more"
    return [
        msgspec.structs.replace(
            info,
            module=current[info.name].module if info.name in current else info.module,
            available=info.name in current and current[info.name].available,
            reason=current[info.name].reason if info.name in current else gone,
        )
        for info in then
    ]


def unavailable_notes(planned: Plan) -> list[str]:
    """Say which strategies of a plan can't run here."""
    return [f"{note}; recorded as unavailable" for note in why_not(planned.unavailable)]


def limit_notes(planned: Plan) -> list[str]:
    """Say which limits of this machine some trials of a plan will meet."""
    return list(filter(None, [descriptors.shortage(planned.runnable)]))


def why_not(reasons: Mapping[str, str]) -> list[str]:
    """Why those named can't run, with those together that have one reason."""
    names: dict[str, list[str]] = {}
    for who, why in reasons.items():
        names.setdefault(why, []).append(who)
    return [f"{', '.join(who)} can't run here: {why}" for why, who in names.items()]
