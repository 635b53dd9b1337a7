"""Tab completion: what an argument may be, as far as the folders at hand and the list of strategies say.

A shell asks at every press of the key: nothing that is slow to import is imported here, and whatever goes wrong is no
suggestion. Each function takes what has been typed so far and returns suggestions, with a word on each where it helps.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

HOME = Path(__file__).resolve().parents[1]
SWEEPS = Path(__file__).with_name("sweeps")
PATIENCE_S = 5.0
LONGEST = 60  # characters of a word on a suggestion

# Strategies are imported by processes of their own; what can run here takes long to find out, and is not asked.
_LIST = """
from servers.__main__ import discover
for name, found in sorted(discover()[0].items()):
    print(name, " ".join(found.strategy.summary.split()), sep="\\t")
"""

Suggestions = list[tuple[str, str] | str]


def sweeps(incomplete: str) -> Suggestions:
    """The sweeps that come with iobench, by name, and TOML files."""
    ours: Suggestions = [(path.stem, _description(path)) for path in sorted(SWEEPS.glob("*.toml"))]
    return [*ours, *_files(incomplete, ".toml")]


def strategies(incomplete: str) -> Suggestions:
    """Strategies by name."""
    return [(name, summary[:LONGEST]) for name, summary in _known().items()]


def strategies_or_all(incomplete: str) -> Suggestions:
    """Strategies by name, or all of them."""
    return [("all", "every one"), *strategies(incomplete)]


def strategies_listed(incomplete: str) -> Suggestions:
    """The last name of a list with commas; none twice."""
    before, comma, _ = incomplete.rpartition(",")
    taken = set(before.split(","))
    return [(f"{before}{comma}{name}", text[:LONGEST]) for name, text in _known().items() if name not in taken]


def runs(ctx: typer.Context, incomplete: str) -> Suggestions:
    """Run folders: by name in the folder of results, the newest first, or by path."""
    if "/" in incomplete or incomplete.startswith("."):
        return list(_folders(incomplete))
    results = Path(ctx.params.get("results") or "results")
    found = [path.parent for path in _safely(results.glob("*/manifest.json"))]
    return [path.name for path in sorted(found, key=_age)]


def formats(incomplete: str) -> Suggestions:
    """What a run can be exported to."""
    from bench.export import names  # noqa: PLC0415 - used here alone

    return list(names())


def transports(incomplete: str) -> Suggestions:
    """What servers are spoken to over."""
    return ["tcp", "unix", "pipe"]


def addresses(incomplete: str) -> Suggestions:
    """The beginnings of addresses."""
    return ["tcp:127.0.0.1:", "unix:", "pipe:"]


def experiments(incomplete: str) -> Suggestions:
    """Experiments of the lab: each is a file there."""
    return [
        path.stem.replace("_", "-")
        for path in sorted((HOME / "bench" / "lab").glob("*.py"))
        if "\nEXPERIMENT = " in path.read_text(encoding="utf-8")
    ]


def _known() -> dict[str, str]:
    """Each strategy with its summary; none where they can't be listed."""
    try:
        argv = [sys.executable, "-c", _LIST]
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, cwd=HOME, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (line.partition("\t") for line in answer.stdout.splitlines())
    return {name: summary for name, _, summary in lines if name}


def _description(path: Path) -> str:
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("description", ""))[:LONGEST]
    except (OSError, ValueError):
        return ""


def _files(incomplete: str, ending: str) -> Iterator[str]:
    """Files with this ending, and folders on the way to some."""
    folder, _, beginning = incomplete.rpartition("/")
    for path in _inside(incomplete):
        if path.name.startswith(beginning) and (path.is_dir() or path.name.endswith(ending)):
            if path.name == "pyproject.toml" or (path.name.startswith(".") and not beginning):
                continue
            if path.is_dir() and not folder and not beginning:
                continue  # a folder is offered when it is begun
            yield f"{incomplete[: len(incomplete) - len(beginning)]}{path.name}{'/' if path.is_dir() else ''}"


def _folders(incomplete: str) -> Iterator[str]:
    """Run folders, and folders on the way to some."""
    beginning = incomplete.rpartition("/")[2]
    for path in _inside(incomplete):
        if path.is_dir() and path.name.startswith(beginning) and (beginning or not path.name.startswith(".")):
            ending = "" if (path / "manifest.json").is_file() else "/"
            yield f"{incomplete[: len(incomplete) - len(beginning)]}{path.name}{ending}"


def _inside(incomplete: str) -> list[Path]:
    folder, slash, _ = incomplete.rpartition("/")
    return sorted(_safely(Path(folder + slash or ".").iterdir()))


def _safely(paths: Iterable[Path]) -> list[Path]:
    try:
        return list(paths)
    except OSError:
        return []


def _age(folder: Path) -> float:
    try:
        return -(folder / "manifest.json").stat().st_mtime
    except OSError:
        return 0.0
