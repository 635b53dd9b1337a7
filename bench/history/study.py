"""How often a change is found where there is none, how soon where there is one, and how often a job fails for it.

    python -m bench.history.study                   of simulated points
    python -m bench.history.study pairs.jsonl       of measured ones: the file that `python -m bench.gate.study record`
                                                    writes

A point is the median of five server processes of the same code, as a run of five repeats has it. The points are
simulated with the spread that was measured for them, or those that were measured, shuffled, so that no drift of the
machine is in them; a step is put in by multiplication.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median, pstdev, quantiles

import msgspec
import numpy as np

from bench.gate.model import CPU
from bench.gate.study import Recorded
from bench.history.change import changes, fewest_values, first_found

SERIES, LENGTH = 100, 50
REPEATS = 5
STEP, AFTER = 1.10, 5

NOISE = 0.025  # between medians of five repeats on a shared machine, as the measured points have it
SIMULATED = 30  # series for each step
BEFORE, RUNS_AFTER = 20, 20
STEPS = (1.0, 1.05, 1.07, 1.10, 1.30)  # the first is none


def points(path: Path, kind: str, rng: random.Random) -> list[float]:
    """Medians of five processes, in random order."""
    values = []
    with path.open("rb") as file:
        for line in file:
            one = msgspec.json.decode(line, type=Recorded)
            if one.kind == kind and one.pair.clean:
                values += [side.metrics[CPU.name] for side in (one.pair.base, one.pair.head)]
    rng.shuffle(values)
    return [median(values[at : at + REPEATS]) for at in range(0, len(values) - REPEATS + 1, REPEATS)]


def simulated(step: float, seed: int, before: int = BEFORE, after: int = RUNS_AFTER) -> list[float]:
    """A series with a step after so many values; `step` is the factor."""
    noise = np.exp(np.random.default_rng(seed).normal(0, NOISE, before + after))
    return [float(value * (step if place >= before else 1)) for place, value in enumerate(noise)]


def failures(series: Sequence[float], start: int) -> list[int]:
    """After how many values a job that looks at a series after each value, from `start` on, fails for a rise of it."""
    failed = []
    for end in range(start, len(series) + 1):
        known = series[:end]
        rises = [change for change in changes(known) if change.ratio > 1]
        failed += [end] * len(first_found(rises, known, range(end)))
    return failed


def main() -> None:
    """Print a line for each step, or for each strategy of a file."""
    if len(sys.argv) > 1:
        _of_measured(Path(sys.argv[1]))
    else:
        _of_simulated()


def _of_simulated() -> None:
    print(f"A change can be found in {fewest_values()} values; {BEFORE} before each step, {RUNS_AFTER} after it")
    for step in STEPS:
        failed = [failures(simulated(step, seed), BEFORE + 1) for seed in range(SIMULATED)]
        waits = [ends[0] - BEFORE for ends in failed if ends]
        often = [sum(len(ends) == times for ends in failed) for times in (0, 1)]
        soon, late = (median(waits), quantiles(waits, n=10)[-1]) if len(waits) > 1 else (0, 0)
        print(
            f"a step of {100 * (step - 1):.0f} %: of {SIMULATED} series, {often[1]} failed once, {often[0]} never, "
            f"{SIMULATED - sum(often)} more often; after {soon:.0f} runs in the median, {late:.0f} in nine of ten",
            flush=True,
        )


def _of_measured(path: Path) -> None:
    for strategy in ("epoll_lt", "asyncio_protocol"):
        rng = random.Random(1)
        false = found = 0
        spread = 0.0
        for _ in range(SERIES):
            series = rng.choices(points(path, f"A/A {strategy}", rng), k=LENGTH)
            spread += pstdev(series) / median(series) / SERIES
            false += len(changes(series))
            stepped = [value * (STEP if place >= LENGTH - AFTER else 1) for place, value in enumerate(series)]
            found += bool(changes(stepped))
        print(
            f"{strategy}: points differ by {100 * spread:.1f} % (standard deviation); {false} false changes in "
            f"{SERIES * LENGTH:,} points; a step of {100 * (STEP - 1):.0f} % is found after {AFTER} runs in {found} of "
            f"{SERIES} series"
        )


if __name__ == "__main__":
    main()
