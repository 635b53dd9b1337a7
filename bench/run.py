"""A run: its folder, the loop over its trials, and going on with one that was cut short.

How one trial is run is in trial.py, what the user sees meanwhile in progress.py.
"""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench import descriptors, host, interpreters, one_step
from bench.budget import LOOKS, Budget, Standing, spent_s
from bench.errors import BadInputError
from bench.events import Interrupted, signals_interrupt_waits
from bench.external_server import start_external
from bench.load import LoadFailedError
from bench.load_pool import LoadPool
from bench.lock import alone_on
from bench.plan import Plan, capacity_trial
from bench.processes import Guard, pinned
from bench.progress import Progress
from bench.record import (
    MANIFEST_FILE,
    TRIALS_FILE,
    Host,
    Kept,
    Manifest,
    Record,
    Run,
    Search,
    Trial,
    append,
    read_kept,
    read_manifest,
    write_manifest,
)
from bench.rounds import measure_setting
from bench.server import LOOPBACK, RunningServer, ServerFailedError, start_server
from bench.settings import Setting, missing
from bench.slo import answer, capacity_hz, next_step
from bench.sweep import Sweep
from bench.trial import not_run, run_trial, utc_now
from bench.why import files as counts
from bench.why.counts import WHY_FILE, Why
from clients.objective import read_objective

WARMING_UP = "Warming up the load generator. The first time, it is compiled: up to a minute."
# Facts that must not change between the parts of one run: figures from two machines do not belong into one chart.
SAME_HOST = ("cpu_model", "cpus", "kernel", "machine", "interpreter", "pinned")


@dataclass
class Outcome:
    """How a run went. `interrupted` is the signal that ended it early, 0 if none did. Times are seconds.

    The counts include trials of an earlier part of the run, the times don't.
    """

    ok: int = 0
    failed: list[Record] = field(default_factory=list)
    unavailable: list[Record] = field(default_factory=list)
    measuring_s: float = 0.0
    wall_s: float = 0.0  # of all trials, from the first one's start to the last one's end
    interrupted: int = 0
    searches: list[Search] = field(default_factory=list)

    @property
    def trials(self) -> int:
        """All that have a record."""
        return self.ok + len(self.failed) + len(self.unavailable)

    def add(self, record: Record) -> None:
        """Count one trial."""
        if record.status == "ok":
            self.ok += 1
        elif record.status == "failed":
            self.failed.append(record)
        else:
            self.unavailable.append(record)

    @property
    def overhead(self) -> float:
        """The share of the wall time that was neither warm-up nor window."""
        return 1 - self.measuring_s / self.wall_s if self.wall_s else 0.0


def make_folder(results: Path, what: str) -> Path:
    """Make results/WHAT-TIME, with a number behind it where that exists. Raises BadInputError."""
    name = f"{what}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    try:
        results.mkdir(exist_ok=True)
        for number in range(1, 1000):
            folder = results / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise BadInputError(
            f"No run folder can be made in {results}: {error.strerror}.",
            "--results DIR, with a DIR that you may write to",
        ) from None
    raise BadInputError(f"There are a thousand runs called {name} in {results}.", f"ls {results}")


def try_results(results: Path) -> None:
    """Find out whether `make_folder` would do, before anything is measured. Raises BadInputError."""
    there = results.exists()
    make_folder(results, "try").rmdir()
    if not there:
        results.rmdir()


def make_manifest(
    sweep: Sweep,
    plan: Plan,
    layout: host.CpuLayout,
    calibration: dict[str, Any] | None,
    lab: dict[str, Any] | None = None,
    *,
    anatomy: dict[str, Any] | None = None,
) -> Manifest:
    """Write down what is about to be run, and where."""
    return Manifest(
        sweep=msgspec.to_builtins(sweep) | ({"looks": LOOKS} if plan.budget_s else {"trials_planned": plan.at_most}),
        strategies=list(plan.strategies.values()),
        host=host.describe(layout),
        versions=host.versions(),
        created=utc_now(),
        command=host.command(),
        calibration=calibration,
        lab=lab,
        anatomy=anatomy,
        interpreters=list(plan.interpreters.values()),
    )


def newest_calibration(results: Path) -> dict[str, Any] | None:
    """What the last `iobench calibrate` with this folder of results found; None where there is nothing to read."""
    return _newest(results, "calibration.json")


def newest_lab(results: Path) -> dict[str, Any] | None:
    """What the last `iobench lab --all` with this folder of results observed; None where there is nothing to read."""
    return _newest(results, "lab.json")


def newest_anatomy(results: Path) -> dict[str, Any] | None:
    """What the last `iobench anatomy` with this folder of results found; None where there is nothing to read."""
    return _newest(results, "anatomy.json")


def _newest(results: Path, name: str) -> dict[str, Any] | None:
    found = [*results.glob(name), *results.glob(f"*/{name}")]
    for path in sorted(found, key=lambda one: (one.stat().st_mtime_ns, one), reverse=True):
        if (values := _unless_unreadable(path, dict[str, Any])) is not None:
            return values
    return None


def _unless_unreadable(path: Path, kind: type[Kept]) -> Kept | None:
    """What a file holds; None where there is none, and with a warning where it can't be read."""
    try:
        return read_kept(path, kind)
    except BadInputError as error:
        warnings.warn(f"{str(error).rstrip('.')}; the run goes without it", stacklevel=2)
        return None


def start_run(results: Path, sweep: Sweep, plan: Plan, layout: host.CpuLayout, hosts: Sequence[Host] = ()) -> Path:
    """Make the run's folder with its manifest in it. Raises BadInputError.

    On a cluster, `hosts` are those that take part, the server's first: the run's machine is that one. What was found
    out about this machine goes with the run only where they are alike.
    """
    calibration, lab, anatomy = newest_calibration(results), newest_lab(results), newest_anatomy(results)
    manifest = make_manifest(sweep, plan, layout, calibration, lab, anatomy=anatomy)
    if hosts:
        alike = not unlike(manifest.host, hosts[0].facts)
        manifest.hosts, manifest.host = list(hosts), hosts[0].facts
        if not alike:
            manifest.calibration = manifest.lab = manifest.anatomy = None
    counted = _unless_unreadable(results / WHY_FILE, Why)
    manifest.why = counts.of_strategies(counted, plan.strategies, manifest.host)
    folder = make_folder(results, sweep.name)
    try:
        write_manifest(folder, manifest)
    except OSError as error:
        raise BadInputError(f"{folder} can't be written to: {error.strerror}.", f"df {results}") from None
    return folder


def differences(run: Run, layout: host.CpuLayout) -> list[str]:
    """What about this machine is not as it was when the run was begun."""
    return unlike(run.manifest.host, msgspec.to_builtins(host.describe(layout)))


def unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In which facts that must not change two descriptions of a machine differ."""
    return [f"{fact} was {then.get(fact)}, is {now.get(fact)}" for fact in SAME_HOST if then.get(fact) != now.get(fact)]


class Stage(NamedTuple):
    """Where a run's trials are run: what comes before the first and after the last, and how a setting is measured.

    `measure` takes a setting and the rates to plan for, by the ids of its trials, and gives a record of each, whatever
    became of it, as soon as there is one. `begin` may raise BadInputError, both may raise Interrupted; `end` comes
    last, whatever happens.
    """

    begin: Callable[[], None]
    measure: Callable[[Setting, Mapping[str, float]], Iterable[Record]]
    end: Callable[[], None]


def run_trials(
    plan: Plan,
    folder: Path,
    done: Iterable[Record],
    layout: host.CpuLayout,
    progress: Progress,
    *,
    look: Callable[[], Standing] | None = None,
    server_command: Sequence[str] = (),
    worker_command: Sequence[str] = (),
) -> Outcome:
    """Run what the plan has and `done` hasn't on this machine; the rest is as in `run_on`.

    The commands stand in for `python -m servers` and `python -m clients`.
    """
    descriptors.raise_limit(plan.trials)
    guard, turn = Guard(), ExitStack()
    pool = LoadPool(guard, layout.load, worker_command)

    def start(trial: Trial) -> RunningServer:
        return start_for(trial, plan, layout.server, guard, server_command)

    def begin() -> None:
        turn.enter_context(alone_on([*layout.server, *layout.load], folder, progress.note))
        progress.note(WARMING_UP)
        warm_up(pool)

    def end() -> None:
        pool.end()
        guard.close()
        turn.close()

    def measure(setting: Setting, rates_hz: Mapping[str, float]) -> Iterable[Record]:
        return measure_at_home(setting, rates_hz, start, pool, shared_cpus=layout.shared, tick=progress.tick)

    with pinned(layout.harness):
        return run_on(Stage(begin, measure, end), plan, folder, done, progress, look=look)


def run_on(
    stage: Stage,
    plan: Plan,
    folder: Path,
    done: Iterable[Record],
    progress: Progress,
    *,
    look: Callable[[], Standing] | None = None,
) -> Outcome:
    """Run what the plan has and `done` hasn't, one setting after another; append each record as soon as there is one.

    `look` says what the records in the folder have decided so far, where the plan has a budget. The folder's lock
    (bench.lock) is held meanwhile. SIGINT and SIGTERM end the run: the setting under way is dropped, every process
    ended, the outcome so far returned. Raises BadInputError where the stage can't begin or a record can't be written.
    """
    outcome, rates = Outcome(), plan.builds_on_rates
    records = {record.id: outlined(record, rates) for record in done}
    budget: Budget | None = None
    order = max((record.order for record in records.values()), default=0)

    def note(record: Record) -> None:
        nonlocal order
        order += 1
        record.order = order
        keep(folder, record)
        records[record.id] = outlined(record, rates)
        if record.timing:
            outcome.measuring_s += record.timing.warmup_s + record.timing.window_s
        progress.trial_ended(record)

    try:
        refuse_where_nothing_can_be_kept(folder)
        one_step.clear(folder)
        with signals_interrupt_waits():
            stage.begin()
            budget = Budget(plan, folder, look, spent_s(done)) if plan.budget_s and look else None
            began = time.monotonic()
            try:
                for setting in budget.upcoming(records, progress) if budget else upcoming(plan, records):
                    progress.setting_starts(setting.trials)
                    runnable = []
                    for trial in setting.trials:
                        if (impossible := unrunnable(trial, plan, records)) is None:
                            runnable.append(trial)
                        elif trial.id not in records:
                            note(impossible)
                    rates_hz = {trial.id: planned_hz(trial, records) for trial in runnable}
                    for record in stage.measure(setting._replace(trials=runnable), rates_hz) if runnable else ():
                        note(record)
            finally:
                outcome.wall_s = time.monotonic() - began
    except Interrupted as interruption:
        outcome.interrupted = interruption.signum
    finally:
        progress.close()
        stage.end()
        for record in records.values():  # not before: a setting that is measured again counts once
            outcome.add(record)
    outcome.searches = note_answers(folder, plan, records)
    if budget and not outcome.interrupted:
        note_planned(folder, len(records))
    return outcome


def measure_at_home(
    setting: Setting,
    rates_hz: Mapping[str, float],
    start: Callable[[Trial], RunningServer],
    pool: LoadPool,
    *,
    shared_cpus: bool,
    tick: Callable[[], None],
) -> Iterator[Record]:
    """Measure a setting on this machine: in turns, or its trials one after another. Raises Interrupted."""
    why_whole = setting.whole or (descriptors.too_many(setting.trials) if setting.in_turns else "")
    if setting.in_turns and not why_whole:
        yield from measure_setting(setting.trials, start, pool, planned_hz=rates_hz, shared_cpus=shared_cpus, tick=tick)
        return
    for trial in setting.trials:
        record = attempt(trial, rates_hz[trial.id], start, pool, shared_cpus=shared_cpus, tick=tick)
        record.whole = why_whole
        yield record


def outlined(record: Record, rates: bool) -> Record:
    """What later trials and the summary need of a record: a run of days must not grow by what is on disk.

    `rates`: later trials need to know its throughput.
    """
    load = record.load if rates else None
    if load is not None:
        empty = dict.fromkeys(("service_hdr", "response_hdr", "lag_hdr", "connect_hdr"), "")
        load = msgspec.structs.replace(load, intervals=[], interval_hdrs=[], **empty)
    return msgspec.structs.replace(record, load=load, server=None, machine=None, network=None, timing=None)


def upcoming(plan: Plan, records: Mapping[str, Record]) -> Iterator[Setting]:
    """The settings that have trials without a record, in order; what a search asks for next follows from the records.

    What is measured in turns is measured again as a whole: its trials belong into one round.
    """
    for setting in plan.settings(plan.trials):
        yield from missing(setting, records)
        while plan.slo and (step := next_step(read_objective(plan.slo), setting.trials[0], records)):
            yield Setting([step])


def remaining(plan: Plan, done: Iterable[Record]) -> list[Trial]:
    """The planned trials that have no record yet; those that begin a search, as long as it has no end."""
    records = {record.id: record for record in done}
    if plan.slo:
        objective = read_objective(plan.slo)
        return [trial for trial in plan.trials if not answer(objective, trial, records).finished]
    return [trial for trial in plan.trials if trial.id not in records]


def warm_up(pool: LoadPool) -> None:
    """Start the load generator for the first time. Raises BadInputError, Interrupted."""
    try:
        pool.worker()
    except LoadFailedError as error:
        raise BadInputError(f"The load generator can't be started: {error}.", "iobench load --help") from None


def unrunnable(trial: Trial, plan: Plan, records: Mapping[str, Record]) -> Record | None:
    """The record of a trial that can't be run, with the reason; None where it can."""
    why_not = plan.why_not(trial)
    if why_not:
        return not_run(trial, "unavailable", why_not)
    capacity = capacity_trial(trial)
    if capacity and not capacity_hz(records[capacity.id]):
        why = records[capacity.id].reason
        return not_run(
            trial, "failed", f"its rate is a fraction of the closed loop's throughput, and there is none: {why}"
        )
    return None


def planned_hz(trial: Trial, records: Mapping[str, Record]) -> float:
    """The rate to plan for: from this run's record of the closed loop, where it is a fraction of that."""
    capacity = capacity_trial(trial)
    return trial.load_fraction * capacity_hz(records[capacity.id]) if capacity else trial.planned_hz


def start_for(
    trial: Trial, plan: Plan, cpus: Sequence[int], guard: Guard, command: Sequence[str] = (), *, host: str = LOOPBACK
) -> RunningServer:
    """The server of a trial: a strategy, on one interpreter or another, or one that is not ours.

    A strategy listens on an address of `host`. Raises ServerFailedError, Interrupted.
    """
    if trial.strategy in plan.externals:
        return start_external(plan.externals[trial.strategy], cpus, guard, trial.message_bytes)
    info = plan.strategies[trial.strategy]
    if not trial.python:
        return start_server(info, trial.transport, cpus, guard, command, host=host)
    try:
        command = interpreters.command(trial.python)
    except interpreters.BrokenError as error:
        raise ServerFailedError(str(error)) from None
    env = interpreters.environment_for(trial.python)
    return start_server(info, trial.transport, cpus, guard, command, env=env, host=host)


def attempt(
    trial: Trial,
    planned_hz: float,
    start: Callable[[Trial], RunningServer],
    pool: LoadPool,
    *,
    shared_cpus: bool,
    tick: Callable[[], None],
) -> Record:
    """The record of a trial that is measured as a whole, whatever became of it. Raises Interrupted."""
    try:
        worker = pool.worker()
    except LoadFailedError as error:
        return not_run(trial, "failed", f"the load generator could not be started again: {error}")
    return run_trial(trial, start, worker, planned_hz=planned_hz, shared_cpus=shared_cpus, tick=tick)


def note_planned(folder: Path, trials: int) -> None:
    """Write into the manifest how many trials the run has, once that is known. Raises BadInputError."""
    change_manifest(folder, lambda manifest: manifest.sweep.update(trials_planned=trials))


def change_manifest(folder: Path, change: Callable[[Manifest], None]) -> None:
    """Change what a run folder says of itself, in one step. Raises BadInputError."""
    try:
        manifest = read_manifest(folder)
        change(manifest)
        write_manifest(folder, manifest)
    except OSError as error:
        raise _unwritable(folder / MANIFEST_FILE, folder, error) from None


def note_answers(folder: Path, plan: Plan, records: Mapping[str, Record]) -> list[Search]:
    """Write what the searches have come to into the manifest, with the number of trials where that is known now."""
    found = [answer(read_objective(plan.slo), trial, records) for trial in plan.trials] if plan.slo else []
    if not found:
        return []
    trials = len(records) if all(one.finished for one in found) else plan.at_most

    def change(manifest: Manifest) -> None:
        manifest.searches, manifest.sweep["trials_planned"] = found, trials

    change_manifest(folder, change)
    return found


def keep(folder: Path, record: Record) -> None:
    """Append a record. Raises BadInputError where it can't be written."""
    try:
        append(folder / TRIALS_FILE, record)
    except OSError as error:
        raise _unwritable(folder / TRIALS_FILE, folder, error) from None


def refuse_where_nothing_can_be_kept(folder: Path) -> None:
    """Find out before anything is measured. Raises BadInputError."""
    try:
        (folder / TRIALS_FILE).open("ab").close()
    except OSError as error:
        raise _unwritable(folder / TRIALS_FILE, folder, error) from None


def _unwritable(file: Path, folder: Path, error: OSError) -> BadInputError:
    return BadInputError(
        f"{file} can't be written: {error.strerror}. What is in it stays.",
        one_step.remedy(error, folder, f"iobench sweep --resume {shlex.quote(str(folder))}"),
    )
