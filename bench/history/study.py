"""How often a change is found where there is none, and how soon where there is one. Run by hand:

    python -m bench.history.study pairs.jsonl       the file that `python -m bench.gate.study record` writes

A point is the median of five server processes of the same code, as a run of five repeats has it. The points are those
that were measured, shuffled, so that no drift of the machine is in them; a step is put in by multiplication.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from statistics import median, pstdev

import msgspec

from bench.gate.model import CPU
from bench.gate.study import Recorded
from bench.history.change import changes

SERIES, LENGTH = 100, 50
REPEATS = 5
STEP, AFTER = 1.10, 5


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


def main() -> None:
    """Print a line for each strategy."""
    path = Path(sys.argv[1])
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
