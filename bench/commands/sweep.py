"""`iobench sweep`: run one from its beginning, or go on with one, sum up and write the report."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from bench import interpreters
from bench import run as runs
from bench import sweep as sweeps
from bench.budget import Standing, spent_s
from bench.commands.choice import Choice, choose_sweep, limit_notes, plan_of, unavailable_notes
from bench.commands.folders import find_run, the_answer, write_report
from bench.errors import BadInputError
from bench.host import CpuLayout, choose_cpus
from bench.lock import sole_writer
from bench.plan import START_S, Plan, expected_s, takes_s
from bench.progress import Progress, duration, for_console, name
from bench.record import Record, Run, Search, read_manifest, read_run
from bench.say import WIDTH, complain, say
from bench.sweep import Sweep

MAX_GROUPS = 12


def sweep(choice: Choice, results: Path) -> int:
    """Run a sweep from its beginning on this machine; returns the exit code."""
    chosen = choose_sweep(choice)
    layout = choose_cpus(max(chosen.threads))
    planned = plan_of(chosen)
    folder = runs.start_run(results, chosen, planned, layout)
    with sole_writer(folder):
        return _run(planned, folder, [], layout)


def resume(run: str, choice: Choice, results: Path) -> int:
    """Run what is missing of an earlier run on this machine; returns the exit code. A failed trial counts as done."""
    folder = find_run(run, results)
    with sole_writer(folder):
        return _resume(read_run(folder), choice)


def _resume(earlier: Run, choice: Choice) -> int:
    _refuse_a_cluster(earlier, "--resume")
    chosen = sweep_resumed(earlier, choice)
    layout = choose_cpus(max(chosen.threads))
    changed = runs.differences(earlier, layout)
    if changed:
        raise not_the_same(earlier, changed)
    planned = plan_of(chosen, earlier.manifest.strategies)
    changed = interpreters.changes(earlier.manifest.interpreters, list(planned.interpreters.values()))
    if changed:
        raise not_the_same(earlier, changed)
    return _run(planned, earlier.folder, earlier.records, layout)


def sweep_resumed(earlier: Run, choice: Choice) -> Sweep:
    """The sweep of an earlier run. Raises BadInputError where the command line asks for another one."""
    chosen = _sweep_of(earlier)
    if any(choice):
        name_or_file = choice.name_or_file or chosen.name
        _refuse_another_sweep(earlier, chosen, choose_sweep(choice._replace(name_or_file=name_or_file)))
    return chosen


def _refuse_a_cluster(earlier: Run, option: str) -> None:
    if earlier.manifest.hosts:
        raise BadInputError(
            f"{earlier.folder} was made on a cluster.", f"iobench sweep {option} {earlier.folder} --scheduler ADDRESS"
        )


def run_again(earlier: Run, results: Path) -> Path:
    """Run the trials of an earlier run once more, into a folder of their own, which is returned."""
    if earlier.manifest.hosts:
        raise BadInputError(f"{earlier.folder} was made on a cluster and can't be run again here.", "iobench sweep")
    chosen = _sweep_of(earlier)
    layout = choose_cpus(max(chosen.threads))
    changed = runs.differences(earlier, layout)
    if changed:
        raise not_the_same(earlier, changed)
    planned = plan_of(chosen, earlier.manifest.strategies)
    folder = runs.start_run(results, chosen, planned, layout)
    with sole_writer(folder):
        code = _run(planned, folder, [], layout)
    if code >= 128:
        raise BadInputError("The run was interrupted: there is nothing to compare.", f"iobench report {folder}")
    return folder


def _sweep_of(run: Run) -> Sweep:
    if run.manifest.compared:
        one = run.manifest.compared[0].run
        raise BadInputError(f"{run.folder} is a comparison of runs, and no run.", f"iobench sweep --resume {one}")
    values = {key: value for key, value in run.manifest.sweep.items() if key not in ("name", "trials_planned", "looks")}
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


def not_the_same(run: Run, changed: Sequence[str]) -> BadInputError:
    """Say why a run can't be continued where facts have changed."""
    return BadInputError(
        f"{run.folder} can't be continued here, for its figures would not compare: {'; '.join(changed)}.",
        f"iobench sweep {run.manifest.sweep.get('name', '')} makes a new run",
    )


def _run(planned: Plan, folder: Path, done: list[Record], layout: CpuLayout) -> int:
    """Run what is left on this machine, sum up, write the report; returns the exit code."""
    notes = limit_notes(planned)
    threads = max((trial.threads for trial in planned.trials), default=1)
    if threads > len(layout.load):
        notes.append(f"up to {threads} load threads share {len(layout.load)} of this machine's cores")
    if layout.shared:
        notes.append("server and load share one core here; every trial is flagged shared_core")

    def run(progress: Progress) -> runs.Outcome:
        return runs.run_trials(planned, folder, done, layout, progress, look=lambda: look_at(folder))

    return run_and_tell(planned, folder, done, notes, run)


def look_at(folder: Path) -> Standing:
    """What the records of a run have decided so far. Raises BadInputError."""
    from bench.commands.looking import look  # noqa: PLC0415 - pandas is slow to import, and not wanted before

    return look(folder)


def run_and_tell(
    planned: Plan,
    folder: Path,
    done: list[Record],
    notes: Sequence[str],
    run: Callable[[Progress], runs.Outcome],
    *,
    machines: int = 1,
    go_on: str = "",
) -> int:
    """Run what is left by `run`, sum up, write the report; returns the exit code.

    So many trials as `machines` run at once. `go_on` are the options that a resumed run has to be given again.
    """
    left = runs.remaining(planned, done)
    runnable = [trial for trial in left if not planned.why_not(trial)]
    for note in [*planned.notes, *unavailable_notes(planned), *notes]:
        complain(f"note: {note}")
    what, total = "searches" if planned.slo else "trials", len(planned.trials)
    if planned.budget_s:
        already = f"{len(done)} trials are done. " if done else ""
        lasts = duration(max(0.0, planned.budget_s - spent_s(done)) + START_S)
        complain(f"{already}Rounds into {folder} until all is decided, {lasts} at most.")
    else:
        already = f"{total - len(left)} of {total} {what} are done, {len(left)} missing. " if done else ""
        lasts = duration(expected_s(runnable, planned.slo) / machines)
        complain(f"{already}{len(left)} {what} into {folder}, {lasts} or so.")
    planned_s = {trial.id: takes_s(trial, planned.slo) for trial in runnable}
    console = Console(stderr=True, highlight=False)
    outcome = run(for_console(console, left, planned_s, machines, planned.budget_s))
    _sum_up(outcome, outcome.trials if planned.slo or planned.budget_s else len(planned.trials))
    _tell_answers(outcome.searches)
    if outcome.interrupted:
        complain(f"Interrupted; what there is, is in {folder}. To go on:")
        print(f"  iobench sweep --resume {shlex.quote(str(folder))}{go_on}", file=sys.stderr)
    if outcome.trials:
        complain("Writing the report.")
        written = write_report(folder)
        for line in [*the_answer(folder), *when_decided(folder)]:
            print(line)
        print(written, flush=True)
    if outcome.interrupted:
        return 128 + outcome.interrupted
    return 1 if outcome.failed else 0


def when_decided(folder: Path) -> list[str]:
    """Say what of a run with a budget was decided when; nothing where it had none."""
    manifest = read_manifest(folder)
    looks = [f"{one.decided} of {one.comparisons} after {duration(one.elapsed_s)}" for one in manifest.looks]
    closed = sum(len(look.closed) for look in manifest.looks)
    if not looks:
        return []
    text = f"Comparisons with the best that were decided on the way: {', '.join(looks)}"
    return textwrap.wrap(text + (f"; {closed} setting{'s' * (closed != 1)} stopped early." if closed else "."), WIDTH)


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
