"""`iobench gate`: what the user asked for, checked; the comparison; the files and the exit code."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench import host, one_step
from bench import sweep as sweeps
from bench.errors import BadInputError
from bench.events import Interrupted, signals_interrupt_waits
from bench.gate import decide, show
from bench.gate.decide import Settings
from bench.gate.measure import rigged
from bench.gate.model import CALLS, CPU, GATE_FILE, MEMORY, P50, P99, THROUGHPUT, Case, Gate
from bench.gate.run import Progress, Setting, compare, make_cases
from bench.gate.sides import SERVER, Asked, Source, find_tree, sources
from bench.gate.stored import compare_runs, is_run
from bench.load import LoadFailedError
from bench.processes import HOME
from bench.run import make_folder, try_results
from bench.say import complain
from bench.shares import read_share, spelled
from bench.sweep import Sweep
from bench.trial import utc_now
from bench.words import counted

EXIT_CODES = {"ok": 0, "regressed": 1, "inconclusive": 3}
METRIC_NAMES = {
    "throughput": THROUGHPUT.name,
    "cpu": CPU.name,
    "p50": P50.name,
    "p99": P99.name,
    "memory": MEMORY.name,
    "calls": CALLS.name,
}
MOST_SHARE = 10  # that head may be worse by
UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Options:
    """The command line; "" and None are what was not given."""

    sweep: str | None
    base: Asked
    head: Asked
    strategies: str | None
    max_regression: str
    budget: str
    seed: int
    results: Path
    count: bool


def gate(options: Options) -> int:
    """Compare, tell, and write gate.json and all that is made of it; returns the exit code. Raises BadInputError."""
    settings = read_settings(options.max_regression)
    budget_s = read_duration(options.budget)
    sweep = _choose(options)
    if not options.base.revision and not any((options.base.command, options.base.python, options.head.python)):
        raise BadInputError(
            "There is nothing to compare with: no --base, no commands, no interpreters.",
            "iobench gate --base main     compares this checkout with the branch main",
        )
    try_results(options.results)
    began = time.monotonic()
    stored = is_run(options.base.revision, options.results)
    if stored:
        found, signum = compare_runs(stored, options.head.revision, options.results, settings), 0
    else:
        found, signum = _paired(options, sweep, settings, budget_s)
    found.wall_s = time.monotonic() - began
    folder = make_folder(options.results, _named(sweep).name)
    try:
        one_step.write(folder / GATE_FILE, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    except OSError as error:
        raise BadInputError(f"{folder / GATE_FILE} can't be written: {error.strerror}.", f"df {folder}") from None
    written = show.write(folder, found)
    show.tell(found)
    print(written[0], flush=True)
    return 128 + signum if signum else EXIT_CODES[found.verdict]


def read_settings(text: str) -> Settings:
    """Read "5%", "0.05" or "5%,p99=30%". Raises BadInputError."""
    share, allowed, value = None, dict[str, float](), ""
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = part.rpartition("=")
        number = read_share(value)
        if number is None or number >= MOST_SHARE or (separator and name not in METRIC_NAMES):
            break
        if separator:
            allowed[METRIC_NAMES[name]] = number
        else:
            share = number
    else:
        if share is not None or allowed:
            usual = Settings()
            return Settings(max_regression=usual.max_regression if share is None else share, allowed=allowed)
    raise BadInputError(
        f"--max-regression {text!r} is not allowed; allowed are a share below 1000 %, written as {spelled(value)}, and "
        f"others by metric ({', '.join(METRIC_NAMES)}).",
        "iobench gate --base main --max-regression 5%,p99=30%",
    )


def read_duration(text: str) -> float:
    """Read "60s", "90" or "2min" as seconds. Raises BadInputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip())
    if match and match[2] in UNITS_S and 1 <= (seconds := float(match[1]) * UNITS_S[match[2]]) <= 86400:
        return seconds
    raise BadInputError(
        f"--budget {text!r} is not allowed; allowed: from 1 s to a day, such as 60s or 2min.",
        "iobench gate --base main --budget 60s",
    )


def _choose(options: Options) -> Sweep:
    chosen = sweeps.load_sweep(options.sweep or "gate")
    if options.strategies is not None:
        if options.base.command or options.head.command:
            raise BadInputError(
                "--strategies chooses among ours, and commands are somebody's own.", "leave --strategies out"
            )
        chosen = sweeps.with_strategies(chosen, options.strategies)
    if chosen.external or chosen.python != ("",) or chosen.slo:
        raise BadInputError(
            f"Sweep {chosen.name}: external servers, interpreters and objectives are not gated as axes.",
            "iobench gate --base-command ... --head-command ..., or --base-python and --head-python",
        )
    return chosen


def _paired(options: Options, sweep: Sweep, settings: Settings, budget_s: float) -> tuple[Gate, int]:
    layout = host.choose_cpus(max(sweep.threads))
    tree, told = tree_of(options)
    with signals_interrupt_waits(), sources(options.base, options.head, tree) as sides:
        base, head = sides
        cases, notes = _cases(sweep, base, head)
        found = Gate(
            base=base.side,
            head=head.side,
            sweep=sweep.name,
            paired=True,
            max_regression=settings.max_regression,
            alpha=settings.alpha,
            allowed=settings.allowed,
            budget_s=budget_s,
            seed=options.seed,
            host=host.describe(layout),
            versions=host.versions(),
            created=utc_now(),
            command=host.command(),
            cases=cases,
            notes=[*told, *base.notes, *head.notes, *notes],
        )
        if base.side.commit and base.side.commit == head.side.commit and not head.side.dirty:
            same = base.side.python == head.side.python
            found.notes += ["Base and head are the same commit: whatever is found is noise."] if same else []
        most_s = 2 * budget_s * len(cases)
        many = counted(len(cases), "case")
        complain(f"{many}, {budget_s:g} s each at most, twice that for what would fail: {most_s:,.0f} s.")
        progress = Progress()
        signum = 0
        try:
            with rigged(layout) as rig:
                setting = Setting(rig, sides, settings, budget_s, random.Random(options.seed), progress, complain)
                compare(setting, cases, count=options.count)
        except Interrupted as interruption:
            signum = interruption.signum
            found.notes.append("The gate was interrupted: there is no verdict.")
        except LoadFailedError as error:
            raise BadInputError(f"The load generator can't be started: {error}.", "iobench load --help") from None
    found.pairs, found.calls, found.results = progress.pairs, progress.calls, progress.results
    found.notes += progress.notes
    found.verdict = "inconclusive" if signum else decide.overall(found.results, cases)
    return found, signum


def tree_of(options: Options) -> tuple[Path, list[str]]:
    """The folder whose servers are compared, which commands need none of, and a note where it is not the user's own.

    Raises BadInputError.
    """
    if options.base.command or options.head.command:
        return HOME, []
    here = Path.cwd()
    tree = find_tree(here, options.base.revision or options.head.revision)
    if tree != HOME or HOME in (here, *here.parents):
        return tree, []
    return tree, ["Compared are the servers of iobench itself: there are none around the working directory."]


def _cases(sweep: Sweep, base: Source, head: Source) -> tuple[list[Case], list[str]]:
    """The cases to measure. Raises BadInputError where one of them has only one side: that is never passed."""
    if base.side.command:
        transports = {info.transports[0] for source in (base, head) for info in source.strategies.values()}
        if len(transports) > 1:
            raise BadInputError(
                "One command takes {port} and the other {path}: two transports can't be compared.",
                "use the same placeholder in both",
            )
        sweep = msgspec.structs.replace(sweep, strategies=(SERVER,), transports=tuple(transports))
    cases, notes = make_cases(sweep, base, head)
    missing = [case for case in cases if case.missing]
    if missing or not cases:
        gone = {case.trial.strategy for case in missing}
        left = ",".join(sorted({case.trial.strategy for case in cases} - gone)) or "epoll_lt"
        why = "; ".join(dict.fromkeys(case.missing for case in missing)) or "the sweep has no closed loop"
        raise BadInputError(
            f"Not everything can be compared, and what can't be is not passed: {why}.",
            f"iobench gate {sweep.name} --base ... --strategies {left}",
        )
    return cases, notes


def _named(sweep: Sweep) -> Sweep:
    """The sweep under the name that the folder gets."""
    return sweep if sweep.name == "gate" else msgspec.structs.replace(sweep, name=f"gate-{sweep.name}")
