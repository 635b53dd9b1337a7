"""A stored run as the baseline: the weaker comparison, for what the machine did in between looks like the server.

Base is a run of `iobench sweep`; head another one, or the same trials run again now. Values are those of the trials,
one a process; nothing is paired.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import host
from bench.commands.sweep import run_again
from bench.errors import BadInputError
from bench.gate import decide
from bench.gate.decide import Settings
from bench.gate.model import CPU, P50, P99, THROUGHPUT, Case, Gate, Pair, Result, Sample, Side
from bench.record import Run, read_run
from bench.rows import dicts
from bench.run import SAME_HOST
from bench.trial import utc_now
from bench.words import case_title

COMPARED = (THROUGHPUT, CPU, P50, P99)
WEAKER = (
    "Base is a stored run, so nothing was paired: this is the weaker comparison, and a change of the machine between "
    "the two runs would look like one of the server. With --base REVISION both are measured side by side."
)

Values = dict[str, dict[str, list[float]]]


def is_run(text: str, results: Path) -> Path | None:
    """The folder of a run of that name or path; None where there is none."""
    if not text:
        return None
    return next((folder for folder in (Path(text), results / text) if (folder / "manifest.json").is_file()), None)


def compare_runs(base: Path, head: str, results: Path, settings: Settings) -> Gate:
    """Compare a stored run with another, or with its own trials run again. Raises BadInputError."""
    before = read_run(base)
    folder = is_run(head, results)
    if head and folder is None:
        raise BadInputError(
            f"Base is a stored run, so head must be one, too, or be left out; {head} is none.",
            f"iobench gate --base {base}    runs the same trials again and compares",
        )
    after = read_run(folder) if folder else read_run(run_again(before, results))
    unlike = [
        f"{fact} is {before.manifest.host.get(fact)} and {after.manifest.host.get(fact)}"
        for fact in SAME_HOST
        if before.manifest.host.get(fact) != after.manifest.host.get(fact)
    ]
    if unlike:
        raise BadInputError(
            f"The two runs are of unlike machines, and are not compared: {'; '.join(unlike)}.",
            "iobench gate --base REVISION measures both sides on this one",
        )
    cases = _cases(before)
    _refuse_one_sided(cases, _cases(after), before, after)
    values = [_values(run, list(cases.values())) for run in (before, after)]
    failures = _failures(before, after, cases)
    judged = [*failures, *decide.judge_unpaired(values[0], values[1], settings)]
    return Gate(
        base=_side("base", before),
        head=_side("head", after),
        sweep=str(before.manifest.sweep.get("name", "")),
        paired=False,
        max_regression=settings.max_regression,
        alpha=settings.alpha,
        allowed=settings.allowed,
        budget_s=0.0,
        seed=0,
        host=after.manifest.host,
        versions=after.manifest.versions,
        created=utc_now(),
        command=host.command(),
        cases=list(cases.values()),
        results=judged,
        verdict=decide.overall(judged, list(cases.values())),
        notes=[WEAKER],
    )


def _side(role: str, run: Run) -> Side:
    found = run.manifest.host.get("git")
    git: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    return Side(
        role="base" if role == "base" else "head",
        label=run.folder.name,
        commit=str(git.get("commit", "")),
        dirty=git.get("dirty") is True,
    )


def _cases(run: Run) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for record in sorted(run.records, key=lambda one: (case_title(one.trial), one.trial.repeat)):
        if not record.trial.slo and record.status != "unavailable":
            found.setdefault(case_title(record.trial), Case(name=case_title(record.trial), trial=record.trial))
    return found


def _refuse_one_sided(base: Mapping[str, Case], head: Mapping[str, Case], before: Run, after: Run) -> None:
    if not base or base.keys() != head.keys():
        alone = [f"{name} ({before.folder.name} alone)" for name in sorted(base.keys() - head.keys())]
        alone += [f"{name} ({after.folder.name} alone)" for name in sorted(head.keys() - base.keys())]
        what = "; ".join(alone) or "neither has any"
        raise BadInputError(
            f"The runs don't have the same cases, and what has no counterpart is not passed: {what}.",
            f"iobench gate --base {before.folder}    runs the same trials again",
        )


def _values(run: Run, cases: list[Case]) -> Values:
    """By case and metric, one value a good trial; zeros and missing values stay, so that they can't pass."""
    from bench.analyse import analyse  # noqa: PLC0415 - pandas is slow to import

    rows: dict[str, dict[Any, Any]] = {str(row["id"]): row for row in dicts(analyse(run).trials)}
    values: Values = {case.name: {metric.name: [] for metric in COMPARED} for case in cases}
    for record in run.records:
        if record.status == "ok" and case_title(record.trial) in values:
            for metric in COMPARED:
                value = float(rows[record.id][metric.name])
                values[case_title(record.trial)][metric.name].append(0.0 if math.isnan(value) else value)
    return values


def _failures(before: Run, after: Run, cases: Mapping[str, Case]) -> list[Result]:
    """Failed trials of head where base had none are a regression, and of base no baseline."""
    fine = Sample(metrics={})
    pairs = []
    for role, run in (("base", before), ("head", after)):
        for record in run.records:
            if record.status == "failed":
                bad = Sample(metrics={}, failed=record.reason)
                base, head = (bad, fine) if role == "base" else (fine, bad)
                pairs.append(
                    Pair(case=case_title(record.trial), round=0, attempt=1, first="base", base=base, head=head)
                )
    return decide.judge_failures(list(cases.values()), pairs, 1)
