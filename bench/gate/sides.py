"""Base and head: where each one's servers come from, and how one is started.

Three kinds: the strategies of a revision (`servers` needs no installation), a command that starts somebody's own
server, and the same strategies on another interpreter. The load generator is always ours, and the same for both.
Nothing is measured here.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench import git, interpreters
from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.external import BadExternalError, External, read_externals, why_unavailable
from bench.external_server import start_external
from bench.gate.model import Side
from bench.gate.revision import has_servers, written_out
from bench.processes import HOME, Guard
from bench.record import StrategyInfo, Trial
from bench.server import RunningServer, start_server

SERVER = "server"  # the name of a case that is somebody's own command


class Asked(NamedTuple):
    """What the user said of one side; "" is nothing."""

    revision: str = ""
    command: str = ""
    python: str = ""


@dataclass(frozen=True)
class Source:
    """One side's servers. `start` raises ServerFailedError, Interrupted; `strategies` is by name."""

    side: Side
    strategies: Mapping[str, StrategyInfo]
    start: Callable[[Trial, Sequence[int], Guard], RunningServer]
    notes: list[str] = field(default_factory=list)


class Home(NamedTuple):
    """A folder that holds `servers/`, the commit that they are of, "" for none, and whether they differ from it."""

    folder: Path
    commit: str
    dirty: bool


@contextmanager
def sources(base: Asked, head: Asked, tree: Path) -> Iterator[tuple[Source, Source]]:
    """Both sides, ready to be started; what was written out for them is gone when this ends. Raises BadInputError."""
    if bool(base.command) != bool(head.command):
        missing = "--head-command" if base.command else "--base-command"
        raise BadInputError(
            f"A command is compared with a command, and {missing} is not given.",
            "iobench gate --base-command 'node old.js {port}' --head-command 'node new.js {port}'",
        )
    if base.command:
        yield _of_command("base", base.command), _of_command("head", head.command)
        return
    with _home(base.revision, tree) as base_home, _home(head.revision, tree) as head_home:
        yield _of_tree("base", base, base_home), _of_tree("head", head, head_home)


def find_tree(start: Path, revision: str) -> Path:
    """The checkout whose servers are compared: the one around `start`; without a revision else those of iobench.

    Raises BadInputError where git refuses the checkout, and where there is none with servers that a revision could be
    of: another tree than the one that was asked for is never compared.
    """
    top = git.checkout(start)
    if top is not None and has_servers(top):
        return top
    if revision:
        where = f"{top} has no servers/ to start" if top else f"{start} is in no git checkout"
        raise BadInputError(
            f"{where}, so there is no revision {revision} to compare, and there is no run of that name.",
            "iobench gate --base-command 'OLD {port}' --head-command 'NEW {port}' compares any two servers",
        )
    return HOME


@contextmanager
def _home(revision: str, tree: Path) -> Iterator[Home]:
    """The servers of a revision; those of the tree as they are for ""."""
    if revision:
        with written_out(tree, revision) as (folder, commit):
            yield Home(folder, commit, dirty=False)
    elif git.is_checkout(tree):
        yield Home(tree, git.commit_of(tree), git.changed(tree, "--", "servers"))
    else:
        yield Home(tree, "", dirty=False)


def _of_tree(role: str, asked: Asked, home: Home) -> Source:
    """The strategies of a folder, on an interpreter. Raises BadInputError."""
    try:
        command = interpreters.launched(asked.python, home.folder)
    except interpreters.BrokenError as error:
        raise BadInputError(f"--{role}-python: {error}.", "iobench list --python python3.13") from None
    known = _known(asked.python, home.folder)
    env = interpreters.environment_for(asked.python)
    installed = home.folder == HOME and not home.commit
    label = asked.revision or ("the servers of iobench" if installed else "this checkout")
    side = Side(
        role="base" if role == "base" else "head",
        label=" on ".join(filter(None, [label, asked.python])),
        commit=home.commit,
        dirty=home.dirty,
        python=asked.python,
    )

    def start(trial: Trial, cpus: Sequence[int], guard: Guard) -> RunningServer:
        return start_server(known[trial.strategy], trial.transport, cpus, guard, command, env=env)

    notes = [f"{role.capitalize()} has changes in servers/ that are not committed."] if home.dirty else []
    return Source(side, known, start, notes)


def _known(python: str, home: Path) -> dict[str, StrategyInfo]:
    if not python:
        return {info.name: info for info in list_strategies(home)[0]}
    asked = interpreters.ask(python, home)
    if not asked.interpreter.available:
        raise BadInputError(f"{python} can't be used: {asked.interpreter.reason}.", f"iobench list --python {python}")
    return {info.name: info for info in asked.strategies}


def _of_command(role: str, command: str) -> Source:
    """Somebody's own server. Raises BadInputError."""
    example = f"iobench gate --{role}-command 'node echo.js {{port}}'"
    try:
        words = shlex.split(command)
        (external,) = read_externals([{"name": SERVER, "command": words}], Path.cwd())
    except (ValueError, BadExternalError) as error:
        raise BadInputError(f"--{role}-command {command!r}: {error}.", example) from None
    why_not = why_unavailable(external)
    if why_not:
        raise BadInputError(f"--{role}-command {command!r}: {why_not}.", example)
    info = StrategyInfo(
        name=SERVER,
        module="",
        summary=command,
        model="external",
        transports=[external.transport],
        concurrent=True,
        available=True,
        reason="",
        doc="",
    )
    side = Side(role="base" if role == "base" else "head", label=command, command=words)
    return Source(side, {SERVER: info}, _starter(external))


def _starter(external: External) -> Callable[[Trial, Sequence[int], Guard], RunningServer]:
    return lambda trial, cpus, guard: start_external(external, cpus, guard, trial.message_bytes)
