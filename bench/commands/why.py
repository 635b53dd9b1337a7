"""`iobench why`: which strategies are to be counted, those named or those of a run, and the run's report afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import interpreters
from bench.commands.choice import known_strategies
from bench.commands.folders import open_run, write_report
from bench.errors import BadInputError
from bench.plan import choose
from bench.record import StrategyInfo
from bench.sweep import Sweep
from bench.why import command


def why(names: Sequence[str], transport: str, python: str, run: str | None, results: Path) -> int:
    """Count what strategies cost the kernel; those of a run, if none is named. Returns the exit code."""
    earlier = open_run(run, results) if run else None
    if earlier and not names:
        ran = {record.trial.strategy for record in earlier.records}
        names = [
            info.name
            for info in known_strategies()
            if info.name in ran and info.available and transport in info.transports
        ]
    if not names:
        raise BadInputError("Name a strategy, or several.", "iobench why epoll_lt thread_per_connection")
    infos = _countable(names, transport, python)
    code = command.why(infos, transport, python, results, earlier.folder if earlier else None)
    if earlier:
        print(write_report(earlier.folder))
    return code


def _countable(names: Sequence[str], transport: str, python: str) -> list[StrategyInfo]:
    """Strategies by name, of those that the interpreter can run. Raises BadInputError."""
    infos = choose(Sweep(name="why", strategies=tuple(dict.fromkeys(names))), known_strategies())
    interpreter, listed = interpreters.ask(python)
    if not interpreter.available:
        raise BadInputError(f"{interpreter.reason}.", "iobench list --python PYTHON takes a command or a path")
    there = {info.name: info for info in listed} if python else {}
    infos = [there.get(info.name, info) for info in infos]
    for info in infos:
        if transport not in info.transports:
            raise BadInputError(f"{info.name} does not serve {transport!r}.", "iobench list shows what it serves")
        if not info.available:
            raise BadInputError(f"{info.name} can't run here: {info.reason}.", "iobench list shows those that can")
    return infos
