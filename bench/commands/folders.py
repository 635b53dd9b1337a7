"""What is done with a run's folder: find it, read it, make its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.errors import BadInputError, did_you_mean
from bench.record import Run, read_run


def report(run: str, results: Path, baseline: str = "", trials: Sequence[str] = ()) -> None:
    """Write a run's report, with this baseline and these trials by themselves, and print its path."""
    print(write_report(find_run(run, results), baseline, trials))


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
