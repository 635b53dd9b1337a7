"""Other Python interpreters: found, asked who they are and what they can run, and told how to run it.

An interpreter is named as in a sweep: a command on PATH ("python3.13", "pypy3") or a path; "" is the one that runs
iobench. No server is started here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.processes import HOME, environment
from bench.record import UNREADABLE, Interpreter, StrategyInfo

LAUNCH = Path(__file__).with_name("launch.py")
PATIENCE_S = 60.0
# Settings that are meant for the Python that runs iobench: another one would look for its own library there.
OURS_ALONE = ("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")


class BrokenError(Exception):
    """The interpreter can't be used; the message says why."""


class Asked(NamedTuple):
    """An interpreter, and the strategies as it lists them; none where it can't be used."""

    interpreter: Interpreter
    strategies: list[StrategyInfo]


def command(name: str) -> list[str]:
    """What runs `servers` on an interpreter. Raises BrokenError where there is no such program."""
    return [sys.executable, "-m", "servers"] if not name else launched(name, HOME)


def launched(name: str, home: Path) -> list[str]:
    """What runs the `servers` of a folder on an interpreter, and no others. Raises BrokenError as `command` does."""
    if not name:
        return [sys.executable, str(LAUNCH), str(home / "servers")]
    place = Path(name).expanduser()
    program = shutil.which(place.absolute() if "/" in name else name)
    if program is None:
        raise BrokenError(f"{name} is no program that can be run" if "/" in name else f"there is no {name} on PATH")
    return [os.path.abspath(program), str(LAUNCH), str(home / "servers")]  # noqa: PTH100 - a link stays one: a venv's is


def environment_for(name: str, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment that `command` is to be run in."""
    if not name:
        return environment(base)
    return {key: value for key, value in base.items() if key not in OURS_ALONE}


def ask(name: str, home: Path | None = None) -> Asked:
    """Find out who an interpreter is and what of a folder's `servers`, else of ours, it can run, or why it can't."""
    home = home or HOME
    try:
        about = msgspec.json.decode(_output(name, "--interpreter", home), type=dict[str, Any])
        listed = [msgspec.json.decode(line, type=StrategyInfo) for line in _output(name, "--list", home).splitlines()]
        unavailable = {info.name: info.reason for info in listed if not info.available}
        facts = {"name": name, "available": True, "unavailable": unavailable, **about}
        return Asked(msgspec.convert(facts, Interpreter), listed)
    except BrokenError as error:
        return Asked(Interpreter(name=name, available=False, reason=str(error)), [])
    except UNREADABLE as error:
        reason = f"{name} does not answer as a Python does: {error}"
        return Asked(Interpreter(name=name, available=False, reason=reason), [])


def ask_all(names: Iterable[str], known: Sequence[StrategyInfo]) -> list[Interpreter]:
    """The interpreters of a sweep; each has a reason for every one of the known strategies that it does not list."""
    interpreters = []
    for name in names:
        asked = ask(name)
        if asked.interpreter.available:
            listed = {info.name for info in asked.strategies}
            missing = {info.name: f"{name or 'Python'} can't import it" for info in known if info.name not in listed}
            asked.interpreter.unavailable.update(missing)
        interpreters.append(asked.interpreter)
    return interpreters


def describe(interpreter: Interpreter) -> str:
    """Say who it is in a line, such as "CPython 3.13.0, free-threaded, without the GIL"."""
    if not interpreter.available:
        return interpreter.reason
    facts = [f"{interpreter.implementation} {interpreter.version}"]
    if interpreter.free_threaded:
        facts += ["free-threaded", "with the GIL on" if interpreter.gil else "without the GIL"]
    if interpreter.jit:
        facts.append("with a JIT")
    return ", ".join(facts)


def changes(then: Iterable[Interpreter], now: Iterable[Interpreter]) -> list[str]:
    """Which interpreters are not what they were when a run was begun."""
    current = {interpreter.name: describe(interpreter) for interpreter in now}
    return [
        f"{before.name or 'the Python of iobench'} was {describe(before)}, is {current.get(before.name, 'gone')}"
        for before in then
        if before.available and describe(before) != current.get(before.name, "")
    ]


def _output(name: str, option: str, home: Path) -> str:
    """What `servers` says to an option. Raises BrokenError, with the reason that the program itself gives."""
    argv = [*(launched(name, home) if name else command(name)), option]
    try:
        answer = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            cwd=home,
            env=environment_for(name),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokenError(f"{name} gives no answer within {PATIENCE_S:g} s") from None
    except OSError as error:
        raise BrokenError(f"{name} can't be started: {error.strerror}") from None
    if answer.returncode != 0:
        raise BrokenError(f"{name} does not run: {_reason(answer.stderr.decode(errors='replace'), answer.returncode)}")
    return answer.stdout.decode()


def _reason(stderr: str, exit_code: int) -> str:
    """The line that says what is wrong: the last of a traceback, else the first, such as a shim of pyenv's begins with.

    A shim exists for every version that was ever installed, and runs only those that are switched on.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if not lines:
        return f"exit code {exit_code}"
    return lines[-1] if any(line.startswith("Traceback ") for line in lines) else lines[0]
