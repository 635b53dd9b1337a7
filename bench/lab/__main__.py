"""Run one experiment in this process: `python -m bench.lab MODULE`, a JSON line for each thing that is observed.

{"observation": {...}}    {"chart": {...}}    {"error": TEXT}    and at the end {"left": [what is left behind]}
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any

import msgspec

from bench.lab.experiment import Experiment, Observation


def main(module: str) -> None:
    """Run it and write down what comes of it."""
    experiment: Experiment = importlib.import_module(module).EXPERIMENT
    before = descriptors()
    try:
        for found in experiment.run():
            tell(**{"observation" if isinstance(found, Observation) else "chart": found})
    except Exception as error:  # an experiment may do anything; what it did until then is told
        tell(error=f"{type(error).__name__}: {error}")
    tell(left=left_behind(before))


def tell(**line: Any) -> None:
    """Write one line."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(line) + b"\n")


def descriptors() -> set[int]:
    """Those that are open, by trying them: the first thousand, and there is no other way on every system."""
    found = set()
    for fd in range(1024):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.add(fd)
    return found


def left_behind(before: set[int]) -> list[str]:
    """Say what the experiment did not clean up."""
    left = [f"descriptor {fd}" for fd in sorted(descriptors() - before)]
    try:
        os.waitpid(-1, os.WNOHANG)
        left.append("a child")
    except ChildProcessError:
        pass
    return left + [f"thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()]


if __name__ == "__main__":
    main(sys.argv[1])
