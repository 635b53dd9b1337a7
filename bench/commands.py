"""What the commands do: tie the parts together and tell the user.

Results go to standard output, progress and complaints to standard error. Nothing is measured, planned or derived here.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec
from rich.console import Console
from rich.table import Table

from bench import interpreters
from bench import run as runs
from bench import sweep as sweeps
from bench.catalogue import list_strategies
from bench.errors import BadInputError, did_you_mean
from bench.external import MODEL, as_strategy
from bench.host import CpuLayout, choose_cpus
from bench.lock import sole_writer
from bench.plan import Plan, choose, expected_s, lasting_s, make_plan
from bench.processes import environment
from bench.progress import duration, for_console, name
from bench.record import Record, Run, Search, StrategyInfo, read_run
from bench.say import complain, say
from bench.slo import MAX_STEPS, USUAL_STEPS
from bench.sweep import Sweep
from servers.transport import AddressError, listen, parse

MAX_GROUPS = 12


class Choice(NamedTuple):
    """What the user asks for; None is nothing."""

    name_or_file: str | None
    strategies: str | None
    slo: str | None
    python: str | None = None
    target: str | None = None


def sweep(choice: Choice, results: Path) -> int:
    """Run a sweep from its beginning; returns the exit code."""
    chosen = _choose_sweep(choice)
    layout = choose_cpus(max(chosen.threads))
    planned = _make_plan(chosen)
    folder = runs.start_run(results, chosen, planned, layout)
    with sole_writer(folder):
        return _run(planned, folder, [], layout)


def resume(run: str, choice: Choice, results: Path) -> int:
    """Run what is missing of an earlier run; returns the exit code. A failed trial counts as done."""
    folder = _find_run(run, results)
    with sole_writer(folder):
        return _resume(read_run(folder), choice)


def _resume(earlier: Run, choice: Choice) -> int:
    chosen = _sweep_of(earlier)
    if any(choice):
        name_or_file = choice.name_or_file or chosen.name
        _refuse_another_sweep(earlier, chosen, _choose_sweep(choice._replace(name_or_file=name_or_file)))
    layout = choose_cpus(max(chosen.threads))
    changed = runs.differences(earlier, layout)
    if changed:
        raise _not_the_same(earlier, changed)
    planned = _make_plan(chosen, earlier.manifest.strategies)
    changed = interpreters.changes(earlier.manifest.interpreters, list(planned.interpreters.values()))
    if changed:
        raise _not_the_same(earlier, changed)
    return _run(planned, earlier.folder, earlier.records, layout)


def run_again(earlier: Run, results: Path) -> Path:
    """Run the trials of an earlier run once more, into a folder of their own, which is returned."""
    chosen = _sweep_of(earlier)
    layout = choose_cpus(max(chosen.threads))
    changed = runs.differences(earlier, layout)
    if changed:
        raise _not_the_same(earlier, changed)
    planned = _make_plan(chosen, earlier.manifest.strategies)
    folder = runs.start_run(results, chosen, planned, layout)
    with sole_writer(folder):
        code = _run(planned, folder, [], layout)
    if code >= 128:
        raise BadInputError("The run was interrupted: there is nothing to compare.", f"iobench report {folder}")
    return folder


def plan(choice: Choice, every_trial: bool) -> None:
    """Print what a sweep would do."""
    chosen = _choose_sweep(choice)
    planned = _make_plan(chosen)
    if every_trial:
        for trial in planned.trials:
            print(f"{trial.id}  {name(trial)}")
        return
    if chosen.description:
        say(f"{chosen.name}: {chosen.description}")
    Console().print(_plan_table(planned))
    each = f"{chosen.warmup_s:g} s of warm-up and {chosen.duration_s:g} s measured in each trial"
    time = duration(expected_s(planned.runnable, planned.slo))
    repeats = f"{chosen.repeats} repeats in blocks, each" if chosen.repeats > 1 else "one repeat,"
    times = f"{repeats} shuffled (seed {chosen.seed})"
    if planned.slo:
        say(
            f"{len(planned.trials)} searches for the highest Poisson rate that holds {planned.slo}, {time} or so: "
            f"{times}; each begins with a closed loop and takes {MAX_STEPS} steps at most; {each}, or more where the "
            "percentile takes more messages."
        )
    else:
        say(f"{len(planned.trials)} trials, {time} or so: {times}; {each}.")
    for interpreter in planned.interpreters.values():
        if interpreter.available:
            say(f"- {interpreter.name or 'iobench itself'} is {interpreters.describe(interpreter)}", indent="  ")
    for note in [*planned.notes, *_unavailable_notes(planned)]:
        say(f"- {note}", indent="  ")


def list_(python: str | None) -> None:
    """Print the strategies, and whether an interpreter can run them: the one of iobench, or another."""
    if python is None:
        strategies = _known()
    else:
        interpreter, strategies = interpreters.ask(python)
        if not interpreter.available:
            raise BadInputError(f"{interpreter.reason}.", "iobench list --python PYTHON takes a command or a path")
        say(f"{python}: {interpreters.describe(interpreter)}\n")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("strategy", "model", "transports", "runs here"):
        table.add_column(column, no_wrap=True)
    for info in strategies:
        table.add_row(info.name, info.model, " ".join(info.transports), "yes" if info.available else "no")
    Console(markup=False, highlight=False).print(table)
    for note in _why_not({info.name: info.reason for info in strategies if not info.available}):
        say(f"- {note}", indent="  ")


def serve(strategy: str, address: str) -> NoReturn:
    """Become the server. The address is bound here, so that trouble with it is told in one voice."""
    info = choose(Sweep(name="serve", strategies=(strategy,)), _known())[0]
    if not info.available:
        raise BadInputError(f"{info.name} can't run here: {info.reason}.", "iobench list shows those that can")
    example = f"iobench serve {info.name} tcp:127.0.0.1:9000"
    try:
        where = parse(address)
        if where.transport not in info.transports:
            raise BadInputError(f"{info.name} does not serve {where.transport}.", "iobench list shows what it serves")
        listener = listen(where)
    except AddressError as error:
        raise BadInputError(f"{error}.", example) from None
    except OSError as error:
        free = f"iobench serve {info.name} tcp:127.0.0.1:0 takes a free port" if where.transport == "tcp" else example
        raise BadInputError(f"Can't listen on {address}: {error.strerror or error}.", free) from None
    listener.set_inheritable(True)
    argv = [sys.executable, "-m", "servers", info.name, where.transport]
    argv += ["--module", info.module, "--listen-fd", str(listener.fileno())]
    os.execve(sys.executable, argv, environment())


def load(arguments: Sequence[str]) -> NoReturn:
    """Become the load generator."""
    os.execve(sys.executable, [sys.executable, "-m", "clients", *arguments], environment())


def calibrate(quick: bool, results: Path) -> int:
    """Measure what the load generator claims of itself; returns the exit code."""
    from bench.calibrate import run as calibration  # noqa: PLC0415 - needed by no other command

    return calibration.calibrate(quick, results)


def lab(name: str | None, everything: bool, results: Path | None) -> int:
    """List or run the experiments of the lab; returns the exit code."""
    from bench.lab import run as experiments  # noqa: PLC0415 - needed by no other command

    return experiments.lab(name, everything, results)


def why(names: Sequence[str], transport: str, python: str, run: str | None, results: Path) -> int:
    """Count what strategies cost the kernel; those of a run, if none is named. Returns the exit code."""
    from bench.why import command  # noqa: PLC0415 - needed by no other command

    earlier = _open_run(run, results) if run else None
    if earlier and not names:
        ran = {record.trial.strategy for record in earlier.records}
        names = [info.name for info in _known() if info.name in ran and info.available and transport in info.transports]
    if not names:
        raise BadInputError("Name a strategy, or several.", "iobench why epoll_lt thread_per_connection")
    infos = _countable(names, transport, python)
    code = command.why(infos, transport, python, results, earlier.folder if earlier else None)
    if earlier:
        print(_write_report(earlier.folder))
    return code


def _countable(names: Sequence[str], transport: str, python: str) -> list[StrategyInfo]:
    """Strategies by name, of those that the interpreter can run. Raises BadInputError."""
    infos = choose(Sweep(name="why", strategies=tuple(dict.fromkeys(names))), _known())
    interpreter, listed = interpreters.ask(python)
    if not interpreter.available:
        raise BadInputError(f"{interpreter.reason}.", "iobench list --python PYTHON takes a command or a path")
    there = {info.name: info for info in listed} if python else {}
    infos = [there.get(info.name, info) for info in infos]
    for info in infos:
        if transport not in info.transports:
            raise BadInputError(f"{info.name} does not serve {transport!r}.", "iobench list shows what it serves")
        if not info.available:
            raise BadInputError(f"{info.name} can't run here: {info.reason}.", "iobench list shows those that can")
    return infos


def anatomy(strategies: Sequence[str], transport: str, svg: Path | None, results: Path | None) -> int:
    """Take one echo of each strategy apart; returns the exit code."""
    from bench.anatomy import run as anatomies  # noqa: PLC0415 - needed by no other command

    return anatomies.anatomy(strategies, transport, svg, results)


def report(run: str, results: Path) -> None:
    """Write a run's report and print its path."""
    print(_write_report(_find_run(run, results)))


def export(run: str, to: str, out: Path | None, results: Path) -> None:
    """Write a run's data in another format and print what was written."""
    from bench import export as exports  # noqa: PLC0415 - numpy is slow to import

    for path in exports.export(_open_run(run, results), to, out):
        print(path)


def _run(planned: Plan, folder: Path, done: list[Record], layout: CpuLayout) -> int:
    """Run what is left, sum up, write the report; returns the exit code."""
    left = runs.remaining(planned, done)
    runnable = [trial for trial in left if not planned.why_not(trial)]
    for note in [*planned.notes, *_unavailable_notes(planned)]:
        complain(f"note: {note}")
    threads = max((trial.threads for trial in planned.trials), default=1)
    if threads > len(layout.load):
        complain(f"note: up to {threads} load threads share {len(layout.load)} of this machine's cores")
    if layout.shared:
        complain("note: server and load share one core here; every trial is flagged shared_core")
    what, total = "searches" if planned.slo else "trials", len(planned.trials)
    already = f"{total - len(left)} of {total} {what} are done, {len(left)} missing. " if done else ""
    complain(f"{already}{len(left)} {what} into {folder}, {duration(expected_s(runnable, planned.slo))} or so.")
    steps = USUAL_STEPS if planned.slo else 0
    planned_s = {trial.id: lasting_s(trial) * (1 + steps) for trial in runnable}
    progress = for_console(Console(stderr=True, highlight=False), left, planned_s)
    outcome = runs.run_trials(planned, folder, done, layout, progress)
    _sum_up(outcome, outcome.trials if planned.slo else len(planned.trials))
    _tell_answers(outcome.searches)
    if outcome.interrupted:
        complain(f"Interrupted; what there is, is in {folder}. To go on:")
        print(f"  iobench sweep --resume {shlex.quote(str(folder))}", file=sys.stderr)
    if outcome.trials:
        complain("Writing the report.")
        print(_write_report(folder), flush=True)
    if outcome.interrupted:
        return 128 + outcome.interrupted
    return 1 if outcome.failed else 0


def _sum_up(outcome: runs.Outcome, planned: int) -> None:
    if outcome.wall_s:
        say(
            f"{outcome.trials} of {planned} trials: {outcome.ok} ok, {len(outcome.failed)} failed, "
            f"{len(outcome.unavailable)} unavailable. {duration(outcome.wall_s)}, of which {outcome.overhead:.1%} "
            "went into starting servers, connecting and ending."
        )
    for status, records in (("failed", outcome.failed), ("unavailable", outcome.unavailable)):
        groups = Counter((_without_repeat(record), record.reason) for record in records)
        for (what, reason), times in list(groups.items())[:MAX_GROUPS]:
            say(f"{status} {times}x: {what}: {reason}", indent="    ")
        if len(groups) > MAX_GROUPS:
            say(f"{status}: {len(groups) - MAX_GROUPS} more kinds, all in the report")


def _tell_answers(searches: Sequence[Search]) -> None:
    """The highest rate of each case, with what is known to be too much."""
    for search in sorted(searches, key=lambda one: (name(one.start), -one.held_hz)):
        if search.held_hz:
            beyond = f"missed at {search.missed_hz:,.0f}/s" if search.missed_hz else "not missed at any rate tried"
            answer = f"holds {search.slo} up to {search.held_hz:,.0f} messages/s, {beyond}"
        else:
            answer = f"has no rate that is known to hold {search.slo}"
        unfinished = "" if search.finished else " (the search is unfinished)"
        say(f"{name(search.start)}: {answer}{f': {search.reason}' if search.reason else ''}{unfinished}", indent="    ")


def _without_repeat(record: Record) -> str:
    return name(record.trial).rpartition(" #")[0]


def _write_report(folder: Path) -> Path:
    import report as reports  # noqa: PLC0415 - pandas and matplotlib take longer to import than most commands to run

    try:
        return Path(reports.write(folder))
    except OSError as error:
        raise BadInputError(
            f"The report of {folder} can't be written: {error.strerror}. Its trials are safe.",
            f"iobench report {folder}",
        ) from None


def _known() -> list[StrategyInfo]:
    known, complaints = list_strategies()
    for complaint in complaints:
        complain(f"warning: {complaint}")
    return known


def _make_plan(chosen: Sweep, before: Sequence[StrategyInfo] | None = None) -> Plan:
    """Plan a sweep; `before` are the strategies that an earlier part of the run was planned with."""
    known = _known()
    if before is not None:
        known = _as_planned([info for info in before if info.model != MODEL], known)
    foreign = [as_strategy(external) for external in chosen.external]
    asked = interpreters.ask_all(chosen.python, known) if chosen.python != ("",) else []
    return make_plan(chosen, known, foreign=foreign, interpreters=asked)


def _choose_sweep(choice: Choice) -> Sweep:
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
    return sweeps.with_slo(chosen, choice.slo) if choice.slo is not None else chosen


def _find_run(run: str, results: Path) -> Path:
    """A run folder by path, or by its name in the results folder. Raises BadInputError."""
    for folder in (Path(run), results / run):
        if folder.is_dir():
            return folder
    there = sorted(path.parent.name for path in results.glob("*/manifest.json")) if results.is_dir() else []
    latest = f"; the latest is {results / there[-1]}" if there else ""
    raise BadInputError(f"There is no run folder {run}{did_you_mean(Path(run).name, there)}{latest}.", f"ls {results}")


def _open_run(run: str, results: Path) -> Run:
    return read_run(_find_run(run, results))


def _not_the_same(run: Run, changed: Sequence[str]) -> BadInputError:
    return BadInputError(
        f"{run.folder} can't be continued here, for its figures would not compare: {'; '.join(changed)}.",
        f"iobench sweep {run.manifest.sweep.get('name', '')} makes a new run",
    )


def _sweep_of(run: Run) -> Sweep:
    values = {key: value for key, value in run.manifest.sweep.items() if key not in ("name", "trials_planned")}
    try:
        return sweeps.from_values(str(run.manifest.sweep.get("name", "")), values, str(run.folder))
    except BadInputError as error:
        raise BadInputError(
            f"{run.folder} was made by a sweep that this iobench does not know: {error}",
            "iobench sweep makes a new run",
        ) from None


def _refuse_another_sweep(run: Run, made_with: Sweep, asked_for: Sweep) -> None:
    then, now = msgspec.to_builtins(made_with), msgspec.to_builtins(asked_for)
    changed = [f"{key} was {then[key]!r}, is {now[key]!r}" for key in then if then[key] != now[key]]
    if changed:
        raise BadInputError(
            f"{run.folder} was made with another sweep: {'; '.join(changed)}.", f"iobench sweep --resume {run.folder}"
        )


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


def _unavailable_notes(planned: Plan) -> list[str]:
    return [f"{note}; recorded as unavailable" for note in _why_not(planned.unavailable)]


def _why_not(reasons: Mapping[str, str]) -> list[str]:
    """Why those named can't run, with those together that have one reason."""
    names: dict[str, list[str]] = {}
    for who, why in reasons.items():
        names.setdefault(why, []).append(who)
    return [f"{', '.join(who)} can't run here: {why}" for why, who in names.items()]


def _plan_table(planned: Plan) -> Table:
    """How often each strategy is measured at which points."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    for column in ("transports", "connections", "bytes", "workloads"):
        table.add_column(column)
    table.add_column("trials", justify="right")
    for strategy in planned.strategies:
        trials = [trial for trial in planned.trials if trial.strategy == strategy]
        axes: list[set[str] | set[int]] = [
            {trial.transport for trial in trials},
            {trial.connections for trial in trials},
            {trial.message_bytes for trial in trials},
            {trial.workload for trial in trials},
        ]
        table.add_row(strategy, *(", ".join(map(str, sorted(axis))) for axis in axes), str(len(trials)))
    return table
