"""What is kept of each run, a line in history.jsonl, and how it is read back; results/README.md has the schema.

A line holds what a comparison over time needs: the commit, the machine, and the estimates. It is appended in one write.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bench.errors import BadInputError
from bench.record import UNREADABLE, Amount, Count, Run, Trial, read_manifest, read_run
from bench.rows import dicts
from bench.words import case_title

SCHEMA = 1
HISTORY_FILE = "history.jsonl"
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e18)]  # a change is a ratio
# Runs whose machines differ in any of these are of unlike machines, and are not compared.
LIKE = ("cpu_model", "cpus", "machine", "kernel", "virtualization", "governor", "cpus_allowed")
FACTS = {fact.removesuffix("_model"): fact for fact in LIKE}  # by what `--like` calls them
EXAMPLE = "cpu,cpus"  # of names for `--like`: what a hosted runner keeps when its kernel is patched
KEPT = ("rate_hz", "cpu_us", "p50_us", "p99_us", "rss_peak_bytes")


class Estimate(msgspec.Struct, kw_only=True):
    """One case and metric of a run: the estimate with its interval, from `n` processes."""

    case: str
    strategy: str
    metric: str
    value: Positive
    low: Amount
    high: Amount
    n: Count


class Entry(msgspec.Struct, kw_only=True):
    """One run."""

    run: str  # the name of its folder
    created: str  # UTC, ISO 8601
    sweep: str
    commit: str
    dirty: bool
    machine: str  # a fingerprint: equal for like machines
    facts: dict[str, Any]  # that the fingerprint is of
    versions: dict[str, str]
    estimates: list[Estimate]
    schema: int = SCHEMA


def entry_of(run: Run) -> Entry:
    """What is kept of a run. Cases in which a trial failed have no estimates: they would not compare.

    Raises BadInputError where it is no run, but a comparison of several.
    """
    from bench.analyse import analyse  # noqa: PLC0415 - pandas is slow to import
    from bench.metrics import CASE  # noqa: PLC0415

    if run.manifest.compared:
        raise BadInputError(
            f"{run.folder} is a comparison of runs, and no run.",
            f"iobench history --add {run.manifest.compared[0].run}",
        )
    analysis = analyse(run)
    failed = analysis.cases[(analysis.cases["failed"] > 0) | (analysis.cases["ok"] == 0)]
    bad = {tuple(row[name] for name in CASE) for row in dicts(failed)}
    estimates = []
    for row in dicts(analysis.estimates[analysis.estimates["metric"].isin(KEPT)]):
        case = {str(name): row[name] for name in CASE}
        if tuple(case.values()) in bad or case["slo"] or not row["value"] > 0:
            continue
        estimates.append(
            Estimate(
                case=case_title(Trial(**case, repeat=1, seed=1)),
                strategy=case["strategy"],
                metric=row["metric"],
                value=float(row["value"]),
                low=float(row["low"]),
                high=min(float(row["high"]), 1e18),
                n=int(row["n"]),
            )
        )
    manifest = run.manifest
    git = manifest.host.get("git")
    git = git if isinstance(git, dict) else {}
    facts = {fact: manifest.host.get(fact, "unknown") for fact in LIKE}
    return Entry(
        run=run.folder.resolve().name.encode(errors="backslashreplace").decode(),  # a name need not be UTF-8, a file is
        created=manifest.created,
        sweep=str(manifest.sweep.get("name", "")),
        commit=str(git.get("commit", "unknown")),
        dirty=git.get("dirty") is True,
        machine=_fingerprint(facts),
        facts=facts,
        versions={str(name): str(version) for name, version in manifest.versions.items()},
        estimates=estimates,
    )


def _fingerprint(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:8]


def alike(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The same runs, with machines that are alike where these of FACTS are; all of them where none is named."""
    if not names:
        return list(entries)
    found = []
    for entry in entries:
        facts = {FACTS[name]: entry.facts.get(FACTS[name], "unknown") for name in names}
        found.append(msgspec.structs.replace(entry, machine=_fingerprint(facts), facts=facts))
    return found


def made(entry: Entry) -> tuple[str, str]:
    """When a run was made, and its name: no two runs have both, and they sort by time."""
    return entry.created, entry.run


def add(path: Path, entry: Entry) -> None:
    """Append a run. Raises BadInputError where it is there already, has no estimates, or the file can't be written."""
    known = read_file(path) if path.exists() else []
    if any(made(one) == made(entry) for one in known):
        raise BadInputError(f"{path} has the run {entry.run} already.", f"iobench history {path}")
    if not entry.estimates:
        raise BadInputError(f"The run {entry.run} has no estimate to keep.", f"iobench report {entry.run}")
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"  # who wrote the last line was killed; it stays, and is named when read
            else:
                torn = False
            file.write(b"\n" * torn + msgspec.json.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadInputError(f"{path} can't be written: {error.strerror}.", f"ls -ld {path.parent}") from None


def read_file(path: Path) -> list[Entry]:
    """Read the lines of a history; one that can't be read is left out with a warning. Raises BadInputError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadInputError(f"{path} can't be read: {error.strerror}.", f"ls -l {path}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except UNREADABLE as error:
            warnings.warn(f"{path}, line {number} is left out: {error}", stacklevel=2)
            continue
        if entry.schema != SCHEMA:
            warnings.warn(f"{path}, line {number} is left out: schema {entry.schema}, not {SCHEMA}", stacklevel=2)
            continue
        found.append(entry)
    return found


def read(path: Path) -> list[Entry]:
    """Read a history: a file, or a folder of runs with the history that lies in it, if any. In order of time.

    Raises BadInputError where there is none.
    """
    if path.is_file():
        return sorted(read_file(path), key=made)
    if not path.is_dir():
        raise BadInputError(
            f"There is no history {path}.", "iobench history --add RUN appends a run to results/history.jsonl"
        )
    entries = read_file(path / HISTORY_FILE) if (path / HISTORY_FILE).exists() else []
    known = {made(entry) for entry in entries}
    for manifest in sorted(path.glob("*/manifest.json")):
        try:
            if read_manifest(manifest.parent).compared:
                continue  # its runs are there by themselves
            entry = entry_of(read_run(manifest.parent))
        except BadInputError as error:
            warnings.warn(f"{manifest.parent} is left out: {error}", stacklevel=2)
            continue
        if made(entry) not in known:
            entries.append(entry)
    if not any(entry.estimates for entry in entries):
        raise BadInputError(f"There is no run in {path} to show.", "iobench sweep, and later again")
    return sorted(entries, key=made)
