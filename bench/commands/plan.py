"""`iobench plan`: what a sweep would do, and how long it would take. Nothing is run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import interpreters
from bench.commands.choice import Choice, choose_sweep, limit_notes, plan_of, unavailable_notes
from bench.plan import Plan, expected_s
from bench.progress import duration, name
from bench.say import say
from bench.slo import MAX_STEPS


def plan(choice: Choice, every_trial: bool, results: Path) -> None:
    """Print what a sweep would do, and what its budget would buy by the last run among `results`."""
    chosen = choose_sweep(choice)
    planned = plan_of(chosen)
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
    elif planned.budget_s:
        from bench.commands.prospects import prospects  # noqa: PLC0415 - pandas is slow to import

        say(
            f"Rounds of {len(planned.cases)} trials until all is decided, {duration(planned.budget_s)} at most "
            f"(seed {chosen.seed}); {each}. That is {prospects(planned, results)}"
        )
    else:
        say(f"{len(planned.trials)} trials, {time} or so: {times}; {each}.")
    for note in how_measured(planned):
        say(f"- {note}", indent="  ")
    for interpreter in planned.interpreters.values():
        if interpreter.available:
            say(f"- {interpreter.name or 'iobench itself'} is {interpreters.describe(interpreter)}", indent="  ")
    for note in [*planned.notes, *unavailable_notes(planned), *limit_notes(planned)]:
        say(f"- {note}", indent="  ")


def how_measured(planned: Plan) -> list[str]:
    """Say how many settings take turns, and why the others don't."""
    settings = planned.settings(planned.round(1) if planned.cases else planned.trials)
    together = [setting for setting in settings if setting.in_turns]
    blocks = sum(setting.trials[0].block > 0 for setting in together)
    notes = []
    if together:
        most = max(len(setting.trials) for setting in together)
        notes.append(f"{_settings(len(together) - blocks)} in turns, up to {most} servers up at once")
    if blocks:
        notes.append(f"of too many connections to be open at once, in {blocks} more blocks with one strategy in common")
    for why, number in Counter(setting.whole for setting in settings if setting.whole).items():
        notes.append(f"{_settings(number)} in whole trials: {why}")
    return notes


def _settings(number: int) -> str:
    return f"{number} setting{'s' * (number != 1)}"


def _plan_table(planned: Plan) -> Table:
    """How often each strategy is measured at which points."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    for column in ("transports", "connections", "bytes", "workloads"):
        table.add_column(column)
    trials_of = planned.round(1) if planned.budget_s else planned.trials
    table.add_column("a round" if planned.budget_s else "trials", justify="right")
    for strategy in planned.strategies:
        trials = [trial for trial in trials_of if trial.strategy == strategy]
        crowds = sorted({(trial.connections, trial.silent) for trial in trials})
        columns = [
            sorted({trial.transport for trial in trials}),
            [f"{active}+{silent} silent" if silent else str(active) for active, silent in crowds],
            map(str, sorted({trial.message_bytes for trial in trials})),
            sorted({trial.workload for trial in trials}),
        ]
        table.add_row(strategy, *(", ".join(column) for column in columns), str(len(trials)))
    return table
