"""Exporters: the data of a run in the formats of other tools. One file a format.

A format is a module of this package with `name`, `summary` (a line), `default` (the name of what is written, in the
run's folder) and `write(run, path)`, which returns the paths written. It is found by being there. Only what was
recorded is exported: nothing is estimated here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BadInputError
from bench.record import Record, Run

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Format:
    """One exporter. `write` raises BadInputError where the run has nothing for it or the path can't be written."""

    name: str
    summary: str
    default: str
    write: Callable[[Run, Path], list[Path]]


def formats() -> dict[str, Format]:
    """All exporters by name."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        found[module.name] = Format(module.name, module.summary, module.default, module.write)
    return found


def export(run: Run, to: str, path: Path | None = None) -> list[Path]:
    """Write a run in a format and return what was written: by default into the run's folder. Raises BadInputError."""
    known = formats()
    if to not in known:
        there_are = ", ".join(known)
        raise BadInputError(
            f"There is no format {to!r}; there are: {there_are}.", f"iobench export {run.folder} --to {min(known)}"
        )
    return known[to].write(run, path or run.folder / known[to].default)


def with_times(run: Run) -> list[Record]:
    """The good trials that have histograms, in order of execution. Raises BadInputError where there is none."""
    found = [record for record in run.records if record.status == "ok" and record.load and record.load.service_hdr]
    if not found:
        raise BadInputError(f"No trial of {run.folder} has a histogram to export.", f"iobench report {run.folder}")
    return sorted(found, key=lambda record: (record.order, record.id))


@contextmanager
def told_in_one_sentence(path: Path) -> Iterator[None]:
    """Turn what the system has against writing a file into bad input."""
    try:
        yield
    except OSError as error:
        raise BadInputError(
            f"{path} can't be written: {error.strerror}.", f"ls -ld {path.parent} shows who may write there"
        ) from None
