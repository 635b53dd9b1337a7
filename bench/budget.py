"""Rounds until the answer is known, or the time is up: which settings go on, and when the records are looked at.

The records are looked at a few times. The chance of a false "better" is spent in equal parts over the looks, whatever
they have in common (Lan and DeMets: Discrete sequential boundaries for clinical trials, 1983, with linear spending and
Bonferroni's inequality), as in the gate. A setting all of whose comparisons with the best are decided stops, and its
time goes to the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from bench.plan import FEWEST_ROUNDS, Plan, capacity_trial, takes_s
from bench.record import Look, Record, Trial, read_manifest
from bench.settings import Setting, missing, setting_of

if TYPE_CHECKING:
    from bench.progress import Progress

LOOKS = 3


class Standing(NamedTuple):
    """What the records of a run have decided: so many of all comparisons with the best, and the settings left open.

    `leaders` is a line that says who is ahead.
    """

    decided: int
    comparisons: int
    open: list[dict[str, Any]]
    leaders: str = ""


def spent_s(records: Iterable[Record]) -> float:
    """How long an earlier part of a run has taken, by its records."""
    return sum(
        timing.spawn_s + timing.connect_s + timing.warmup_s + timing.window_s + timing.teardown_s
        for timing in (record.timing for record in records)
        if timing is not None
    )


class Budget:
    """The time that a run has. `look` says what its records have decided, `spent_s` is what is gone of it."""

    def __init__(self, plan: Plan, folder: Path, look: Callable[[], Standing], spent_s: float) -> None:
        self._plan, self._folder, self._look = plan, folder, look
        self._began_s = time.monotonic() - spent_s
        self.looks = read_manifest(folder).looks

    @property
    def elapsed_s(self) -> float:
        """How much of the budget is gone."""
        return time.monotonic() - self._began_s

    def upcoming(self, records: Mapping[str, Record], progress: Progress) -> Iterator[Setting]:
        """The settings to measure, round by round, for as long as there is time and something is not decided."""
        longer_s = 0.0  # than planned, by as much as the last round was
        for number in count(1):
            trials = self._of_round(number)
            if not trials:
                return
            planned_s = sum(map(takes_s, trials))
            late = number > FEWEST_ROUNDS and self.elapsed_s + planned_s + longer_s > self._plan.budget_s
            if late and any(trial.id not in records for trial in trials):
                return
            began_s = self.elapsed_s
            progress.round_starts(number, self.elapsed_s)
            measured = False
            for setting in self._plan.settings(trials):
                for left in missing(setting, records):
                    measured = True
                    yield left
            if number >= FEWEST_ROUNDS and not any(records[trial.id].status == "ok" for trial in trials):
                return  # nothing is left that can be measured, and rounds of that would take no time
            if measured:
                longer_s = self.elapsed_s - began_s - planned_s
                if number < FEWEST_ROUNDS or self.elapsed_s + planned_s + longer_s <= self._plan.budget_s:
                    self._look_at(number, progress)  # with no time for another round, the next look is the report's

    def _of_round(self, number: int) -> list[Trial]:
        """The trials of a round but for settings that were decided before it; rates that others go by are measured."""
        closed = {_name(setting) for look in self.looks if look.round < number for setting in look.closed}
        trials = self._plan.round(number)
        wanted = [trial for trial in trials if _name(setting_of(trial)) not in closed]
        needed = {trial.id for one in wanted if (trial := capacity_trial(one))}
        return [trial for trial in trials if trial in wanted or trial.id in needed]

    def _look_at(self, number: int, progress: Progress) -> None:
        """Look at the records where it is time to, but for the last look, which is the report's."""
        due = self._plan.budget_s * (len(self.looks) + 1) / LOOKS
        if number < FEWEST_ROUNDS or self.elapsed_s < due or len(self.looks) >= LOOKS - 1:
            return
        standing = self._look()
        still_open = {_name(setting) for setting in standing.open}
        before = {_name(setting) for look in self.looks for setting in look.closed}
        settings = {_name(setting_of(trial)): setting_of(trial) for trial in self._plan.cases}
        look = Look(
            round=number,
            elapsed_s=self.elapsed_s,
            decided=standing.decided,
            comparisons=standing.comparisons,
            closed=[setting for name, setting in settings.items() if name not in still_open | before],
        )
        self.looks.append(look)
        note_look(self._folder, look)
        progress.looked(look, standing.leaders)


def note_look(folder: Path, look: Look) -> None:
    """Write a look into the manifest of a run. Raises BadInputError."""
    from bench.run import change_manifest  # noqa: PLC0415 - which imports this

    change_manifest(folder, lambda manifest: manifest.looks.append(look))


def _name(setting: Mapping[str, Any]) -> bytes:
    """A setting as a key, whether it comes from a trial or from a file."""
    return msgspec.json.encode(dict(setting), order="sorted")
