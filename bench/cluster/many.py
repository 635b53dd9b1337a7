"""One sweep on many like machines: each measures settings, one after another, and all of them at once.

The machines share the rounds. A round stays on one machine from its first setting to its last, and the strategies of a
setting take their turns there as they do at home (bench/rounds.py): so each is measured on every machine that takes
part, and is compared with others on the same one. A setting whose machine is lost waits for it to come back, and is
measured again.
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
from bench.progress import Progress, name, together
from bench.record import Record, StrategyInfo, Trial
from bench.run import (
    WARMING_UP,
    Outcome,
    keep,
    note_answers,
    outlined,
    planned_hz,
    refuse_where_nothing_can_be_kept,
    unrunnable,
    upcoming,
)
from bench.server import READY_PATIENCE_S, stop_patience_s
from bench.settings import Setting
from bench.trial import connections_of, not_run

AROUND_S = READY_PATIENCE_S + 30.0 + 4 * MARGIN_S + WORD_S  # of a trial, at most
# The probes' readings of a process for each connection take as long as a turn.
IN_TURNS = 2.0


def deal_rounds(plan: Plan, machines: Sequence[str], done: Iterable[Record] = ()) -> dict[str, list[Trial]]:
    """Deal the rounds to the machines: the trials of each, in order of execution.

    A round that was begun stays where its first record is from, if that machine is there; each of the others goes to
    the machine that has the fewest. With more machines than rounds, some get none.
    """
    first: dict[int, str] = {}
    for record in done:
        if record.server_host in machines:
            first.setdefault(record.trial.repeat, record.server_host)
    rounds: dict[int, list[Trial]] = {}
    for trial in plan.trials:
        rounds.setdefault(trial.repeat, []).append(trial)
    dealt: dict[str, list[int]] = {machine: [] for machine in machines}
    for number in rounds:
        if number in first:
            dealt[first[number]].append(number)
    for number in rounds:
        if number not in first:
            dealt[min(machines, key=lambda machine: len(dealt[machine]))].append(number)
    return {machine: [trial for number in sorted(own) for trial in rounds[number]] for machine, own in dealt.items()}


def patience_s(setting: Setting) -> float:
    """How long a machine may take for a setting before it is given up for lost."""
    return sum(AROUND_S + _connecting_s(trial) + IN_TURNS * lasting_s(trial) for trial in setting.trials)


def _connecting_s(trial: Trial) -> float:
    """What the connections of a trial may take to open and to be ended."""
    connections = connections_of(trial)
    return CONNECT_TIMEOUT_S + CONNECT_EACH_S * connections + stop_patience_s(connections)


@dataclass
class _Machine:
    """A machine of the run: its settings to come, and what can be run of the one under way."""

    name: str
    plan: Plan
    coming: Iterator[Setting]
    remote: Remote | None = None
    setting: Setting | None = None
    answer: concurrent.futures.Future[Heard] | None = None
    overdue_s: float = 0.0  # when the answer is
    gone_since: float | None = None
    given_up: bool = False
    losses: int = 0  # in the setting under way


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
        """Run what the plan has and `done` hasn't; append the records of each setting as it ends, in order of the ends.

        The rest is as in bench.run.run_on.
        """
        self._rates = self.plan.builds_on_rates
        for record in done:
            self._order = max(self._order, record.order)
            self._records[record.id] = outlined(record, self._rates)
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
        for record in self._records.values():
            self._outcome.add(record)
        self._outcome.searches = note_answers(folder, self.plan, self._records)
        return self._outcome

    def _begin(self) -> None:
        """Make a machine of each worker that has trials to run, and warm it up. Raises BadInputError, Interrupted."""
        self.progress.note(WARMING_UP)
        for machine, trials in deal_rounds(self.plan, list(self.known), self._records.values()).items():
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
        """Give every machine its next setting as soon as it has ended one, until none has any left."""
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
        """Take a machine's answer, if it has one, and give it the next setting; one that has no more leaves."""
        if machine.answer is not None:
            self._take(machine, folder)
        while machine.answer is None:
            if machine.setting is None:
                machine.setting, machine.losses = self._next(machine, folder), 0
            if machine.setting is None:
                self.progress.host(machine.name, "is done")
                self._machines.remove(machine)
                return
            if machine.losses >= MOST_LOSSES:
                why = f"its machine {machine.name} was lost {MOST_LOSSES} times in this setting"
                self._close(machine, [not_run(trial, "failed", why) for trial in machine.setting.trials], folder)
            elif self._is_there(machine):
                self._start(machine, machine.setting)
            elif machine.given_up:
                self._close(machine, [_missed(machine.name, trial) for trial in machine.setting.trials], folder)
            else:
                return

    def _next(self, machine: _Machine, folder: Path) -> Setting | None:
        """The next setting of a machine, of which the trials that can't be run have their records; None at the end."""
        for setting in machine.coming:
            self.progress.setting_starts(setting.trials)
            runnable = []
            for trial in setting.trials:
                impossible = unrunnable(trial, machine.plan, self._records)
                if impossible is None:
                    runnable.append(trial)
                else:
                    self._keep(machine, impossible, folder)
            if runnable:
                return setting._replace(trials=runnable)
        return None

    def _start(self, machine: _Machine, setting: Setting) -> None:
        assert machine.remote is not None
        self.progress.host(machine.name, _what(setting))
        machine.overdue_s = time.monotonic() + patience_s(setting)
        rates_hz = {trial.id: planned_hz(trial, self._records) for trial in setting.trials}
        try:
            machine.answer = self.cluster.begin(machine.remote, "run", setting, rates_hz)
        except HostLostError:
            self._lose(machine, "was lost")

    def _take(self, machine: _Machine, folder: Path) -> None:
        """Take the records of the setting under way, or notice that the machine is lost."""
        assert machine.answer is not None and machine.remote is not None
        if machine.answer.done():
            answer, machine.answer = machine.answer, None
            try:
                records: list[Record] = answer_of(machine.name, answer).value
            except HostLostError:
                self._lose(machine, "was lost")
            else:
                self._close(machine, records, folder)
        elif machine.remote.lost:
            machine.answer.cancel()
            self._lose(machine, "was lost")
        elif time.monotonic() > machine.overdue_s:
            machine.answer.cancel()
            self._lose(machine, "does not answer")

    def _lose(self, machine: _Machine, how: str) -> None:
        """Have the setting under way wait for its machine."""
        if machine.remote is not None:
            self.cluster.leave([machine.remote])
        machine.remote, machine.answer = None, None
        machine.losses += 1
        self.progress.host(machine.name, f"{how}; its setting waits", trouble=True)

    def _is_there(self, machine: _Machine) -> bool:
        """Whether a machine can measure; one that was lost is made anew when its worker is back.

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

    def _close(self, machine: _Machine, records: Sequence[Record], folder: Path) -> None:
        """Keep the records of the setting under way."""
        for record in records:
            self._keep(machine, record, folder)
        machine.setting = None

    def _keep(self, machine: _Machine, record: Record, folder: Path) -> None:
        self._order += 1
        record.order, record.server_host = self._order, machine.name
        keep(folder, record)
        self._records[record.id] = outlined(record, self._rates)
        if record.timing:
            self._outcome.measuring_s += record.timing.warmup_s + record.timing.window_s
        self.progress.trial_ended(record)


def _missed(machine: str, trial: Trial) -> Record:
    """The record of a trial that waited for its machine in vain."""
    record = not_run(trial, "unavailable", f"machine {machine} was gone, and stayed away")
    record.flags.append(HOST_LOST)
    return record


def _what(setting: Setting) -> str:
    """A setting in a few words."""
    if setting.in_turns:
        return together(setting.trials)
    others = len(setting.trials) - 1
    return name(setting.trials[0]) + (f", and {others} more after it" if others else "")
