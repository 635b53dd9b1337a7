"""One sweep on many like machines: each runs whole trials, one after another, and all of them at once.

The machines share the repeats. A repeat is a block of all points, and stays on one machine from its first trial to its
last: so every strategy is measured on every machine that takes part, and is compared with others on the same one
(bench/contests.py). A trial whose machine is lost waits for it to come back.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import one_step
from bench.cluster.connect import LOAD, LOOK_S, SERVER, TICK_S, Cluster, Heard, HostLostError, Member, Remote, answer_of
from bench.cluster.hosts import OURS, Commands, Failed, Known, WholeMachine
from bench.cluster.one_server import HOST_LOST, MOST_LOSSES, SERVER_PATIENCE_S, WORD_S
from bench.errors import BadInputError
from bench.events import Interrupted, raise_signals, signals_interrupt_waits
from bench.load import CONNECT_EACH_S, CONNECT_TIMEOUT_S, MARGIN_S, WARM_PATIENCE_S
from bench.plan import Plan, lasting_s
from bench.progress import Progress, name
from bench.record import Record, StrategyInfo, Trial
from bench.run import (
    WARMING_UP,
    Outcome,
    keep,
    not_run,
    note_answers,
    outlined,
    planned_hz,
    refuse_where_nothing_can_be_kept,
    unrunnable,
    upcoming,
)
from bench.server import READY_PATIENCE_S, stop_patience_s
from bench.trial import connections_of

AROUND_S = READY_PATIENCE_S + 30.0 + 4 * MARGIN_S + WORD_S  # of a trial, at most


def deal_blocks(plan: Plan, machines: Sequence[str], done: Iterable[Record] = ()) -> dict[str, list[Trial]]:
    """Deal the repeats to the machines: the trials of each, in order of execution.

    A repeat that was begun stays where its first record is from, if that machine is there; each of the others goes to
    the machine that has the fewest. With more machines than repeats, some get none.
    """
    first: dict[int, str] = {}
    for record in done:
        if record.server_host in machines:
            first.setdefault(record.trial.repeat, record.server_host)
    blocks: dict[int, list[Trial]] = {}
    for trial in plan.trials:
        blocks.setdefault(trial.repeat, []).append(trial)
    dealt: dict[str, list[int]] = {machine: [] for machine in machines}
    for repeat in blocks:
        if repeat in first:
            dealt[first[repeat]].append(repeat)
    for repeat in blocks:
        if repeat not in first:
            dealt[min(machines, key=lambda machine: len(dealt[machine]))].append(repeat)
    return {machine: [trial for repeat in sorted(own) for trial in blocks[repeat]] for machine, own in dealt.items()}


def _connecting_s(trial: Trial) -> float:
    """What the connections of a trial may take to open and to be ended."""
    connections = connections_of(trial)
    return CONNECT_TIMEOUT_S + CONNECT_EACH_S * connections + stop_patience_s(connections)


@dataclass
class _Machine:
    """A machine of the run: its trials to come, and the one under way."""

    name: str
    plan: Plan
    coming: Iterator[Trial]
    remote: Remote | None = None
    trial: Trial | None = None
    answer: concurrent.futures.Future[Heard] | None = None
    overdue_s: float = 0.0  # when the answer is
    gone_since: float | None = None
    given_up: bool = False
    losses: int = 0  # in the trial under way


@dataclass
class ManyMachines:
    """A run on many machines: `run` carries it out. `known` is what each machine can run, by name."""

    cluster: Cluster
    plan: Plan
    known: Mapping[str, Known]
    progress: Progress
    commands: Commands = OURS
    kind: type = WholeMachine
    _machines: list[_Machine] = field(default_factory=list)
    _records: dict[str, Record] = field(default_factory=dict)
    _outcome: Outcome = field(default_factory=Outcome)
    _made: list[Remote] = field(default_factory=list)
    _order: int = 0
    _rates: bool = False

    def run(self, folder: Path, done: Iterable[Record]) -> Outcome:
        """Run what the plan has and `done` hasn't; append each record as its trial ends, in order of their ends.

        The rest is as in bench.run.run_on.
        """
        self._rates = self.plan.builds_on_rates
        for record in done:
            self._order = max(self._order, record.order)
            self._records[record.id] = outlined(record, self._rates)
            self._outcome.add(self._records[record.id])
        try:
            refuse_where_nothing_can_be_kept(folder)
            one_step.clear(folder)
            with signals_interrupt_waits():
                self._begin()
                began = time.monotonic()
                try:
                    self._go_round(folder)
                finally:
                    self._outcome.wall_s = time.monotonic() - began
        except Interrupted as interruption:
            self._outcome.interrupted = interruption.signum
        finally:
            self.progress.close()
            self.cluster.leave(self._made)
        self._outcome.searches = note_answers(folder, self.plan, self._records)
        return self._outcome

    def _begin(self) -> None:
        """Make a machine of each worker that has trials to run, and warm it up. Raises BadInputError, Interrupted."""
        self.progress.note(WARMING_UP)
        for machine, trials in deal_blocks(self.plan, list(self.known), self._records.values()).items():
            own = self.plan._replace(trials=trials, strategies=self._strategies(machine))
            if trials:
                self._machines.append(_Machine(machine, own, upcoming(own, self._records)))
        members = self.cluster.members()
        try:
            self._make(self._machines, members)
        except (HostLostError, KeyError) as error:
            raise BadInputError(f"The cluster can't be made ready: {error}.", "docs/cluster.md") from None

    def _strategies(self, machine: str) -> dict[str, StrategyInfo]:
        """The strategies of the plan, available or not as they are on that machine."""
        there = {info.name: info for info in self.known[machine].strategies}
        return {name: there.get(name, info) for name, info in self.plan.strategies.items()}

    def _make(self, machines: Sequence[_Machine], members: Mapping[str, Member]) -> None:
        """Make the actors. Raises HostLostError, KeyError for a worker that is not there, BadInputError."""
        wanted = {machine.name: members[machine.name] for machine in machines}
        threads = max((trial.threads for trial in self.plan.trials), default=1)
        made: dict[str, Remote] = {}
        for machine in machines:
            own = machine.plan._replace(trials=[])
            only = {machine.name: wanted[machine.name]}
            made |= self.cluster.make(only, SERVER, self.kind, own, threads, self.commands)
            self._made.append(made[machine.name])
            self.progress.host(machine.name, "warms up")
        answers = self.cluster.ask([(one, "warm_up", ()) for one in made.values()], WARM_PATIENCE_S + WORD_S)
        for machine in machines:
            said = answers[machine.name].value
            if isinstance(said, Failed):
                raise BadInputError(f"Machine {machine.name}: {said.reason}.", "iobench load --help")
            machine.remote = made[machine.name]

    def _go_round(self, folder: Path) -> None:
        """Give every machine its next trial as soon as it has ended one, until none has any left."""
        next_tick = time.monotonic() + TICK_S
        while self._machines:
            for machine in list(self._machines):
                self._look_at(machine, folder)
            answers = [machine.answer for machine in self._machines if machine.answer is not None]
            concurrent.futures.wait(answers, timeout=LOOK_S, return_when=concurrent.futures.FIRST_COMPLETED)
            if not answers:
                time.sleep(LOOK_S)
            raise_signals()
            if time.monotonic() > next_tick:
                next_tick = time.monotonic() + TICK_S
                self.progress.tick()

    def _look_at(self, machine: _Machine, folder: Path) -> None:
        """Take a machine's answer, if it has one, and give it the next trial; one that has no more leaves."""
        if machine.answer is not None:
            self._take(machine, folder)
        while machine.answer is None:
            if machine.trial is None:
                machine.trial = next(machine.coming, None)
                if machine.trial is None:
                    self.progress.host(machine.name, "is done")
                    self._machines.remove(machine)
                    return
                self.progress.trial_starts(machine.trial)
                machine.losses = 0
            not_possible = unrunnable(machine.trial, machine.plan, self._records)
            if not_possible is not None:
                self._keep(machine, not_possible, folder)
            elif machine.losses >= MOST_LOSSES:
                why = f"its machine {machine.name} was lost {MOST_LOSSES} times in this trial"
                self._keep(machine, not_run(machine.trial, "failed", why), folder)
            elif not self._is_there(machine):
                if not machine.given_up:
                    return
                record = not_run(machine.trial, "unavailable", f"machine {machine.name} was gone, and stayed away")
                record.flags.append(HOST_LOST)
                self._keep(machine, record, folder)
            else:
                self._start(machine)

    def _start(self, machine: _Machine) -> None:
        assert machine.remote is not None and machine.trial is not None
        self.progress.host(machine.name, name(machine.trial))
        machine.overdue_s = time.monotonic() + lasting_s(machine.trial) + AROUND_S + _connecting_s(machine.trial)
        try:
            machine.answer = self.cluster.begin(
                machine.remote, "run", machine.trial, planned_hz(machine.trial, self._records)
            )
        except HostLostError:
            self._lose(machine, "was lost")

    def _take(self, machine: _Machine, folder: Path) -> None:
        """Take the record of the trial under way, or notice that the machine is lost."""
        assert machine.answer is not None and machine.remote is not None
        if machine.answer.done():
            answer, machine.answer = machine.answer, None
            try:
                record: Record = answer_of(machine.name, answer).value
            except HostLostError:
                self._lose(machine, "was lost")
            else:
                self._keep(machine, record, folder)
        elif machine.remote.lost:
            machine.answer.cancel()
            self._lose(machine, "was lost")
        elif time.monotonic() > machine.overdue_s:
            machine.answer.cancel()
            self._lose(machine, "does not answer")

    def _lose(self, machine: _Machine, how: str) -> None:
        """Have the trial under way wait for its machine."""
        if machine.remote is not None:
            self.cluster.leave([machine.remote])
        machine.remote, machine.answer = None, None
        machine.losses += 1
        self.progress.host(machine.name, f"{how}; its trials wait", trouble=True)

    def _is_there(self, machine: _Machine) -> bool:
        """Whether a machine can run a trial; one that was lost is made anew when its worker is back.

        Sets `given_up` where it has stayed away for too long.
        """
        if machine.remote is not None and not machine.remote.lost:
            return True
        machine.remote = None
        member = self.cluster.members().get(machine.name)
        if member is not None and {SERVER, LOAD} <= {*member.roles}:
            try:
                self.cluster.check([member])
                self._make([machine], {machine.name: member})
            except HostLostError:
                machine.remote = None
            else:
                self.progress.host(machine.name, "is back", trouble=True)
                machine.gone_since, machine.given_up = None, False
                return True
        if machine.gone_since is None:
            machine.gone_since = time.monotonic()
        machine.given_up = time.monotonic() - machine.gone_since > SERVER_PATIENCE_S
        return False

    def _keep(self, machine: _Machine, record: Record, folder: Path) -> None:
        self._order += 1
        record.order, record.server_host = self._order, machine.name
        keep(folder, record)
        self._records[record.id] = outlined(record, self._rates)
        self._outcome.add(self._records[record.id])
        if record.timing:
            self._outcome.measuring_s += record.timing.warmup_s + record.timing.window_s
        self.progress.trial_ended(record)
        machine.trial = None
