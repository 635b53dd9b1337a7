"""`iobench export`: a run's data in the format of another tool."""

from __future__ import annotations

from pathlib import Path

from bench import export as exports
from bench.commands.folders import open_run
from bench.errors import BadInputError


def export(run: str, to: str | None, out: Path | None, results: Path) -> None:
    """Write a run's data in another format and print what was written; without a format, say which there are."""
    if to is None:
        known = [exports.find(name) for name in exports.names()]
        width = max(len(one.name) for one in known)
        print("\n".join(f"{one.name:{width}}  {one.summary}" for one in known))
        raise BadInputError("Say which format.", f"iobench export {run} --to csv")
    exports.find(to)  # before the run is read
    for path in exports.export(open_run(run, results), to, out):
        print(path)
