"""Which strategies there are, as `python -m servers --list` tells. None is imported here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from bench.errors import BadInputError
from bench.processes import HOME, environment
from bench.record import UNREADABLE, StrategyInfo

PATIENCE_S = 60.0


def list_strategies(home: Path = HOME) -> tuple[list[StrategyInfo], list[str]]:
    """All strategies, in order of name, and complaints about files of servers/ that can't be imported.

    `home` is the folder that holds servers/.
    Raises BadInputError where the list can't be had.
    """
    argv = [sys.executable, "-m", "servers", "--list"]
    try:
        answer = subprocess.run(
            argv, capture_output=True, text=True, timeout=PATIENCE_S, cwd=home, env=environment(home=home), check=False
        )
        lines = answer.stdout.splitlines()
        strategies = [msgspec.json.decode(line, type=StrategyInfo) for line in lines]
    except (OSError, subprocess.TimeoutExpired, *UNREADABLE) as error:
        raise BadInputError(f"The list of strategies can't be read: {error}.", "python -m servers --list") from None
    complaints = answer.stderr.strip().splitlines()
    if answer.returncode != 0 or not strategies:
        why = complaints[-1] if complaints else f"exit code {answer.returncode}"
        raise BadInputError(f"There is no strategy to be found: {why}.", "python -m servers --list")
    return sorted(strategies, key=lambda info: info.name), complaints
