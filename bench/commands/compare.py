"""`iobench compare`: the report of several runs together, and what differs between them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table

from bench import host, one_step
from bench.commands.folders import find_run, write_report
from bench.compare_runs import merge
from bench.errors import BadInputError
from bench.metrics import CASE
from bench.record import MANIFEST_FILE, TRIALS_FILE, Record, Run, read_manifest, read_run, write_manifest
from bench.run import make_folder
from bench.say import WIDTH, complain, say
from bench.trial import utc_now

if TYPE_CHECKING:
    from bench.tables import Cell

MOST_ROWS = 20  # of each table on the terminal; the report has them all


def compare(names: Sequence[str], labels: Sequence[str], out: Path | None, results: Path) -> int:
    """Write the report of several runs together and say what differs. Returns the exit code. Raises BadInputError."""
    folders = [find_run(name, results) for name in names]
    _refuse_too_few_or_the_same(folders)
    runs = [_read(folder) for folder in folders]
    called = _labels(folders, labels)
    manifest, records = merge(runs, called)
    _refuse_nothing_in_common(runs)
    manifest.created, manifest.command = utc_now(), host.command()
    folder = _folder(out, folders, results)
    try:
        one_step.write(folder / TRIALS_FILE, b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        write_manifest(folder, manifest)
    except OSError as error:
        raise BadInputError(f"{folder} can't be written to: {error.strerror}.", f"df {folder.parent}") from None
    _tell(folder)
    print(write_report(folder))
    return 0


def _refuse_too_few_or_the_same(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        one = folders[0] if folders else "RUN"
        raise BadInputError("It takes two runs or more to compare.", f"iobench compare {one} ANOTHER_RUN")
    seen: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in seen:
            raise BadInputError(
                f"{seen[folder.resolve()]} and {folder} are one run: it would be compared with itself.",
                f"ls {shlex.quote(str(folder.resolve().parent))} shows the runs that there are",
            )
        seen[folder.resolve()] = folder


def _read(folder: Path) -> Run:
    run = read_run(folder)
    if run.manifest.compared:
        names = " ".join(shlex.quote(str(folder.parent / one.run)) for one in run.manifest.compared)
        raise BadInputError(
            f"{folder} is a comparison itself: compare the runs that it was made of.", f"iobench compare {names}"
        )
    if not run.records:
        raise BadInputError(f"{folder} has no trial yet.", f"iobench sweep --resume {shlex.quote(str(folder))}")
    return run


def _labels(folders: Sequence[Path], given: Sequence[str]) -> list[str]:
    """One for each run: those that the user gives, or the names of the folders. Raises BadInputError."""
    if given and len(given) != len(folders):
        raise BadInputError(
            f"There are {len(folders)} runs and {len(given)} labels.",
            "iobench compare RUN RUN --label before --label after",
        )
    found = [label.strip() for label in given] or default_labels(folders)
    for label in found:
        if not label or not label.isprintable() or set(label) & set("()`"):
            raise BadInputError(
                f"{label!r} can't be a label: it stands in brackets after a name.", "--label before --label after"
            )
    if len(set(found)) < len(found):
        raise BadInputError(f"Labels have to differ: {', '.join(found)}.", "--label before --label after")
    return found


def default_labels(folders: Sequence[Path]) -> list[str]:
    """The names of the folders, with as many of those above them as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    names = ["/".join(part[-depth:]) for part in parts]
    return ["".join("_" if char in "()`" or not char.isprintable() else char for char in name) for name in names]


def _refuse_nothing_in_common(runs: Sequence[Run]) -> None:
    """There has to be a case of the first run in another one."""
    several = all(len({record.trial.python for record in run.records}) == 1 for run in runs)
    first, *others = (_definitions(run.records, without_python=several) for run in runs)
    if any(first & other for other in others):
        return
    columns = [name for name in CASE if not (name == "python" and several)]
    values = [[{case[index] for case in cases} for index in range(len(CASE))] for cases in (first, *others)]
    apart = [
        f"{name} is {_listed(values[0][index])} in the first and {_listed(values[1][index])} in the second"
        for index, name in enumerate(CASE)
        if name in columns and not values[0][index] & values[1][index]
    ]
    why = f": {'; '.join(apart)}" if apart else ""
    sweep = runs[0].manifest.sweep.get("name") or "NAME"
    raise BadInputError(
        f"The runs have no case in common{why}. Only trials of one definition are compared.",
        f"iobench sweep {shlex.quote(str(sweep))} makes another run like {runs[0].folder}",
    )


def _definitions(records: Sequence[Record], without_python: bool) -> set[tuple[object, ...]]:
    return {
        tuple("" if name == "python" and without_python else getattr(record.trial, name) for name in CASE)
        for record in records
    }


def _listed(values: set[object]) -> str:
    texts = sorted(str(value) for value in values)
    return ", ".join(texts[:4]) + (", ..." if len(texts) > 4 else "")


def _folder(out: Path | None, sources: Sequence[Path], results: Path) -> Path:
    """Make the folder to write into. Raises BadInputError where there is something else."""
    if out is None:
        return make_folder(results, "compare")
    if out.resolve() in {source.resolve() for source in sources}:
        raise BadInputError(f"{out} is one of the runs, and they stay as they are.", "--out takes a folder of its own")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_comparison(out))):
        raise BadInputError(f"{out} is there already, and is no comparison.", "--out takes a new folder")
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        then = "iobench compare RUN RUN --out DIR"
        raise BadInputError(
            f"{out} can't be made: {error.strerror}.", one_step.remedy(error, out.parent, then)
        ) from None
    return out


def _is_comparison(folder: Path) -> bool:
    return (folder / MANIFEST_FILE).is_file() and bool(read_manifest(folder).compared)


# --- the terminal


def _tell(folder: Path) -> None:
    from bench import compare as comparison  # noqa: PLC0415 - pandas is slow to import
    from bench.analyse import analyse  # noqa: PLC0415

    analysis = analyse(read_run(folder))
    compared = analysis.run.manifest.compared
    found = comparison.effects(analysis)
    say(f"{comparison.headline(analysis).replace('`', '')}:")
    for sentence in comparison.warnings(compared):
        complain(f"{'note' if sentence == comparison.NOT_PAIRED else 'warning'}: {sentence.replace('`', '')}")
    _show_differences(comparison.differences(compared), [one.label for one in compared])
    for sentence in comparison.summaries(found):
        say(f"- {sentence.replace('`', '')}", indent="  ")
    told = [it for it in found if it.verdict in (comparison.BETTER, comparison.WORSE)]
    _show_effects(comparison.rows(told[:MOST_ROWS], analysis), len(told))
    for sentence in comparison.alone(analysis):
        say(f"- {sentence.replace('`', '')}", indent="  ")


def _show_differences(found: Sequence[tuple[str, Sequence[str]]], labels: Sequence[str]) -> None:
    if not found:
        return
    table = _table()
    table.add_column("differs", overflow="fold")
    for label in labels:
        table.add_column(label, overflow="fold")
    for name, values in found[:MOST_ROWS]:
        table.add_row(name, *values)
    Console(markup=False, highlight=False, width=WIDTH).print(table)
    if len(found) > MOST_ROWS:
        say(f"{len(found) - MOST_ROWS} more differences are in the report.")


def _show_effects(found: Sequence[Sequence[Cell]], all_of_them: int) -> None:
    if not found:
        return
    table = _table()
    table.add_column("case", overflow="fold", max_width=30)
    table.add_column("metric", overflow="fold", max_width=14)
    for heading in ("ratio", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for case, metric, _, _, ratio, interval, verdict in ([cell.text for cell in row] for row in found):
        table.add_row(case.replace("`", ""), metric, ratio, interval, verdict)
    Console(markup=False, highlight=False, width=WIDTH).print(table)
    if all_of_them > len(found):
        say(f"{all_of_them - len(found)} more are in the report.")


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
