"""Exporters: the data of a run in the formats of other tools. One file a format.

A format is a module of this package with `summary` (a line), `default` (the name of what is written, in the run's
folder) and `render(run)`, which returns the bytes of the file, or of each file of a folder by its name. It is found by
being there, under its module's name with hyphens; modules that begin with "_" are what several of them share. Only what
was recorded is exported, and what follows from it; of a trial that failed, nothing but its failure.
"""

from __future__ import annotations

import pkgutil
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from bench import one_step
from bench.errors import BadInputError, did_you_mean
from bench.record import Record, Run

STDOUT = Path("-")


@dataclass(frozen=True)
class Format:
    """One exporter. `render` raises BadInputError where the run has nothing for it."""

    name: str
    summary: str
    default: str
    render: Callable[[Run], bytes | Mapping[str, bytes]]


def names() -> list[str]:
    """The formats there are; none is imported for it."""
    found = [info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")]
    return sorted(name.replace("_", "-") for name in found)


def find(name: str) -> Format:
    """One format. Raises BadInputError where there is none of that name."""
    known = names()
    if name not in known:
        raise BadInputError(
            f"There is no format {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}.",
            f"iobench export RUN --to {known[0]}",
        )
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return Format(name, module.summary, module.default, module.render)


def export(run: Run, to: str, path: Path | None = None) -> list[Path]:
    """Write a run in a format and return what was written: by default into the run's folder, by "-" to standard output.

    Raises BadInputError where there is nothing to write, or it can't be.
    """
    wanted = find(to)
    if path == STDOUT:
        _print(wanted, wanted.render(run))
        return []
    path = path or run.folder / wanted.default
    _refuse_without_folder(path)
    content = wanted.render(run)
    files = {path: content} if isinstance(content, bytes) else {path / name: part for name, part in content.items()}
    with told_in_one_sentence(path):
        if not isinstance(content, bytes):
            path.mkdir(exist_ok=True)
        for file, part in files.items():
            _write(file, part)
    return list(files)


def _refuse_without_folder(path: Path) -> None:
    """Refuse a path in a folder that there is not: a slip of the pen would make one. Raises BadInputError."""
    if not path.parent.exists():
        raise BadInputError(f"There is no folder {path.parent}.", f"mkdir -p {shlex.quote(str(path.parent))}")


def _write(path: Path, content: bytes) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)  # a pipe or a device is written to; a file is replaced
    else:
        one_step.write(path, content)


def _print(wanted: Format, content: bytes | Mapping[str, bytes]) -> None:
    if not isinstance(content, bytes):
        raise BadInputError(
            f"The format {wanted.name} is a folder of files, which standard output can't take.",
            f"iobench export RUN --to {wanted.name} --out {wanted.default}",
        )
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


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
