"""Base and head: where each one's servers come from, and how one is started.

Three kinds: the strategies of a revision (a git worktree; `servers` needs no installation), a command that starts
somebody's own server, and the same strategies on another interpreter. The load generator is always ours, and the same
for both. Nothing is measured here.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench import interpreters
from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.external import BadExternalError, External, read_externals, why_unavailable
from bench.external_server import start_external
from bench.gate.model import Side
from bench.processes import HOME, Guard
from bench.record import StrategyInfo, Trial
from bench.server import RunningServer, start_server

GIT_PATIENCE_S = 120.0
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


@contextmanager
def sources(base: Asked, head: Asked, tree: Path) -> Iterator[tuple[Source, Source]]:
    """Both sides, ready to be started; worktrees are gone when this ends. Raises BadInputError."""
    if bool(base.command) != bool(head.command):
        missing = "--head-command" if base.command else "--base-command"
        raise BadInputError(
            f"A command is compared with a command, and {missing} is not given.",
            "iobench gate --base-command 'node old.js {port}' --head-command 'node new.js {port}'",
        )
    if base.command:
        yield _of_command("base", base.command), _of_command("head", head.command)
        return
    with _worktree(base.revision, tree) as base_tree, _worktree(head.revision, tree) as head_tree:
        yield _of_tree("base", base, base_tree), _of_tree("head", head, head_tree)


def find_tree(start: Path) -> Path:
    """The checkout whose servers are compared: the one around `start` if it has any, else that of iobench itself."""
    top = git(start, "rev-parse", "--show-toplevel", check=False)
    if top and (Path(top) / "servers" / "__main__.py").is_file():
        return Path(top)
    return HOME


def git(tree: Path, *arguments: str, check: bool = True) -> str:
    """What git says, without the end of the line; "" for an error where that is none. Raises BadInputError."""
    try:
        asked = subprocess.run(
            ["git", "-C", str(tree), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GIT_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInputError(f"git can't be run: {error}.", "git --version") from None
    if asked.returncode != 0 and check:
        why = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        raise BadInputError(f"git {arguments[0]} in {tree}: {why}.", f"git -C {shlex.quote(str(tree))} status")
    return asked.stdout.strip() if asked.returncode == 0 else ""


def commit_of(tree: Path, revision: str) -> str:
    """The full id of a revision. Raises BadInputError where there is none."""
    if git(tree, "rev-parse", "--git-dir", check=False) == "":
        raise BadInputError(
            f"{tree} is no git checkout, so there is no revision {revision}.",
            "iobench gate --base-command 'OLD {port}' --head-command 'NEW {port}' compares any two servers",
        )
    found = git(tree, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", check=False)
    if not found:
        raise BadInputError(
            f"There is no revision {revision} in {tree}, and no run of that name. A shallow clone has only the newest.",
            "git fetch --unshallow origin, or: git branch --all",
        )
    return found


@contextmanager
def _worktree(revision: str, tree: Path) -> Iterator[Path]:
    """A folder with that revision checked out, for as long as the context lasts; the tree itself for ""."""
    if not revision:
        yield tree
        return
    commit = commit_of(tree, revision)
    with tempfile.TemporaryDirectory(prefix="iobench-gate-") as folder:
        place = Path(folder) / "tree"
        git(tree, "worktree", "add", "--detach", "--quiet", str(place), commit)
        try:
            if not (place / "servers" / "__main__.py").is_file():
                raise BadInputError(f"Revision {revision} has no servers/ to start.", "iobench gate --base HEAD~1")
            yield place
        finally:
            git(tree, "worktree", "remove", "--force", str(place), check=False)
            git(tree, "worktree", "prune", check=False)


def _of_tree(role: str, asked: Asked, home: Path) -> Source:
    """The strategies of a folder, on an interpreter. Raises BadInputError."""
    try:
        command = interpreters.launched(asked.python, home)
    except interpreters.BrokenError as error:
        raise BadInputError(f"--{role}-python: {error}.", "iobench list --python python3.13") from None
    known = _known(asked.python, home)
    env = interpreters.environment_for(asked.python)
    commit = git(home, "rev-parse", "HEAD", check=False)
    dirty = not asked.revision and bool(git(home, "status", "--porcelain", "--", "servers", check=False))
    side = Side(
        role="base" if role == "base" else "head",
        label=" on ".join(filter(None, [asked.revision or "this checkout", asked.python])),
        commit=commit,
        dirty=dirty,
        python=asked.python,
    )

    def start(trial: Trial, cpus: Sequence[int], guard: Guard) -> RunningServer:
        return start_server(known[trial.strategy], trial.transport, cpus, guard, command, env=env)

    notes = [f"{role.capitalize()} has changes in servers/ that are not committed."] if dirty else []
    return Source(side, known, start, notes)


def _known(python: str, home: Path) -> dict[str, StrategyInfo]:
    if not python:
        return {info.name: info for info in list_strategies(home)[0]}
    asked = interpreters.ask(python)
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
