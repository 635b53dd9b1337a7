"""What is done with a run's folder: find it, read it, make its report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BadInputError, did_you_mean
from bench.record import Run, read_run
from bench.say import lines


def report(run: str, results: Path, baseline: str = "", trials: Sequence[str] = ()) -> None:
    """Write a run's report, with this baseline and these trials by themselves; print the answer, then the path."""
    folder = find_run(run, results)
    written = write_report(folder, baseline, trials)
    for line in the_answer(folder):
        print(line)
    print(written)


def the_answer(folder: Path) -> list[str]:
    """Give what a run decides, in lines for a terminal; none of a gate or of several runs put together."""
    from bench import answer, trust  # noqa: PLC0415 - pandas is slow to import
    from bench.analyse import analyse  # noqa: PLC0415
    from bench.gate.model import GATE_FILE  # noqa: PLC0415 - needed here alone

    if (folder / GATE_FILE).is_file():
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report told them
        run = read_run(folder)
    if run.manifest.compared:
        return []
    return [*answer.terminal(analyse(run).comparisons), *lines(trust.without_lock(run.records).replace("`", ""))]


def write_report(folder: Path, baseline: str = "", trials: Sequence[str] = ()) -> Path:
    """Write a run's report and return its path. Raises BadInputError."""
    import report as reports  # noqa: PLC0415 - pandas and matplotlib take longer to import than most commands to run

    try:
        return Path(reports.write(folder, baseline, trials, helped=True))
    except OSError as error:
        raise BadInputError(
            f"The report of {folder} can't be written: {error.strerror}. Its trials are safe.",
            f"iobench report {folder}",
        ) from None


def find_run(run: str, results: Path) -> Path:
    """A run folder by path, or by its name in the results folder. Raises BadInputError."""
    for folder in (Path(run), results / run):
        if folder.is_dir():
            return folder
    there = sorted(path.parent.name for path in results.glob("*/manifest.json")) if results.is_dir() else []
    latest = f"; the latest is {results / there[-1]}" if there else ""
    raise BadInputError(f"There is no run folder {run}{did_you_mean(Path(run).name, there)}{latest}.", f"ls {results}")


def open_run(run: str, results: Path) -> Run:
    """Read a run, by the path or the name of its folder. Raises BadInputError."""
    return read_run(find_run(run, results))
