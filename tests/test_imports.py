"""Which part of the project may import which: the table of docs/architecture.md, read off the source with `ast`."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from spawn import ROOT

STANDARD = frozenset(sys.stdlib_module_names)
IMPORT_NAMES = {"hdrhistogram": "hdrh", "pillow": "PIL"}  # of distributions that are not imported by their own name
RUN_SIDE = ("bench.run", "bench.trial", "bench.server", "bench.load", "bench.processes", "bench.probes")


def declared() -> frozenset[str]:
    """Return the import names of the dependencies that pyproject.toml declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]]
    return frozenset(IMPORT_NAMES.get(name, name) for name in names)


class Rule(NamedTuple):
    """What the files of a part may import; `in_functions` forbids instead, where a function may import all else."""

    allowed: frozenset[str]
    in_functions: frozenset[str] | None = None


RULES = {
    # An event loop that is not in the standard library is imported by the one function that runs it.
    "servers": Rule(STANDARD | {"servers"}, in_functions=frozenset({"bench", "clients", "report"})),
    "clients": Rule(STANDARD | {"numpy", "numba", "hdrh", "clients", "servers.transport"}),
    # Load and sweep judge a window by the same rules.
    "bench": Rule(STANDARD | declared() | {"bench", "report", "servers.transport", "clients.objective"}),
    # The extra `cluster`; the others of its package know nothing of Dask.
    "bench/cluster/connect.py": Rule(STANDARD | declared() | {"dask", "bench"}),
    # Loaded by pytest, and by nobody else.
    "bench/pytest_plugin.py": Rule(STANDARD | {"pytest", "bench", "servers.transport"}),
    "iobench_pytest.py": Rule(STANDARD | {"pytest", "bench"}),
    "report.py": Rule(STANDARD | declared() | {"bench"}),
}


class Import(NamedTuple):
    """One imported name, in full: `from a import b` is a.b."""

    name: str
    line: int
    in_function: bool


def imports(source: str, package: str) -> Iterator[Import]:
    """Find every import of a file of `package`, wherever it stands."""

    def visit(node: ast.AST, in_function: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, in_function)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: -node.level + 1 or None] if node.level else []
            origin = ".".join([*up, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(f"{origin}.{alias.name}", node.lineno, in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return visit(ast.parse(source), False)


def falls_under(name: str, parts: frozenset[str] | tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)


def offences(source: str, package: str, rule: Rule) -> list[str]:
    """Name the imports that the rule does not allow."""
    found = []
    for name, line, in_function in imports(source, package):
        if in_function and rule.in_functions is not None:
            allowed = not falls_under(name, rule.in_functions)
        else:
            allowed = falls_under(name, rule.allowed)
        if not allowed:
            found.append(f"{line}: {name}")
    return found


def sources(part: str) -> list[Path]:
    """Return the files of a package, or the one file."""
    path = ROOT / part
    of_their_own = {ROOT / other for other in RULES if other.endswith(".py")} - {path}
    return [path] if path.is_file() else sorted({*path.rglob("*.py")} - of_their_own)


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


@pytest.mark.parametrize("part", RULES)
def test_every_file_imports_only_what_its_part_may(part: str) -> None:
    paths = sources(part)
    assert paths
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in paths
        if (wrong := offences(path.read_text(), package_of(path), RULES[part]))
    }
    assert found == {}


def reachable(start: str) -> dict[str, list[Import]]:
    """Follow the imports of our own from a module on; return each module that is reached with what it imports."""
    found: dict[str, list[Import]] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module in found or not path.is_file():  # a name that is imported from a module is not a module
            continue
        found[module] = list(imports(path.read_text(), package_of(path)))
        for name, _, _ in found[module]:
            waiting += [name, name.rpartition(".")[0]]
    return found


def test_a_report_is_made_without_anything_that_runs_a_trial() -> None:
    reached = reachable("report")
    assert "bench.record" in reached
    assert "bench.analyse" in reached
    assert [module for module in reached if falls_under(module, RUN_SIDE)] == []
    starters = {"subprocess", "multiprocessing", "psutil", "servers", "clients"}
    started = {name for name, _, _ in reached["bench.drawing"] if falls_under(name, frozenset(starters))}
    assert started == {"subprocess"}  # a second process that draws
    assert [
        f"{module}.{line}: {name}"
        for module, found in reached.items()
        for name, line, _ in found
        if module != "bench.drawing" and falls_under(name, frozenset(starters))
    ] == []


def test_the_modules_that_run_trials_are_where_this_test_believes() -> None:
    reached = reachable("bench.run")
    for module in RUN_SIDE:
        assert any(falls_under(name, (module,)) for name in reached), module


BAD_FILES = [
    ("servers", "import numpy", ["1: numpy"]),
    ("servers", "try:\n    import uvloop\nexcept ImportError:\n    uvloop = None", ["2: uvloop"]),
    ("servers", "class Loop:\n    from gevent import socket", ["2: gevent.socket"]),
    ("servers", "def serve(listener):\n    import clients", ["2: clients"]),
    ("servers", "from bench.record import Trial", ["1: bench.record.Trial"]),
    ("clients", "import servers", ["1: servers"]),
    (
        "clients",
        "from servers.transport import dial\nfrom servers.epoll_edge import serve",
        ["2: servers.epoll_edge.serve"],
    ),
    ("clients", "from servers import contract", ["1: servers.contract"]),
    ("clients", "def f():\n    import pandas", ["2: pandas"]),
    ("clients", "import bench.record", ["1: bench.record"]),
    ("bench", "import requests", ["1: requests"]),
    ("bench", "from servers import readiness", ["1: servers.readiness"]),
    ("bench", "async def f():\n    from clients.worker import main", ["2: clients.worker.main"]),
    ("bench", "from clients import slo", ["1: clients.slo"]),
    ("bench", "import numpyro", ["1: numpyro"]),
    ("report.py", "import servers.transport", ["1: servers.transport"]),
]


@pytest.mark.parametrize(("part", "source", "wrong"), BAD_FILES)
def test_a_bad_import_is_found_wherever_it_stands(part: str, source: str, wrong: list[str]) -> None:
    assert offences(source, part, RULES[part]) == wrong


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("servers", "import asyncio.events\nfrom servers.contract import Channel\nfrom .transport import dial"),
        ("servers", "def serve(listener):\n    import uvloop"),
        ("clients", "from servers.transport import dial\nfrom servers import transport\nimport numpy.typing"),
        (
            "bench",
            "import hdrh.histogram\nfrom .record import Trial\nfrom servers.transport import listen\n"
            "from clients.objective import judge",
        ),
    ],
)
def test_a_good_import_is_not_complained_about(part: str, source: str) -> None:
    assert offences(source, part, RULES[part]) == []


def test_relative_imports_are_read_in_full() -> None:
    source = "from . import a\nfrom .b import c\nfrom ..d import e\nfrom .. import f"
    names = [name for name, _, _ in imports(source, "bench.probes")]
    assert names == ["bench.probes.a", "bench.probes.b.c", "bench.d.e", "bench.f"]
