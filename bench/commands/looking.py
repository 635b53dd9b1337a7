"""A look at the records of a run that goes on: what they have decided, as its report would say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.analyse import analyse
from bench.budget import Standing
from bench.comparisons import Comparison
from bench.metrics import RATE
from bench.record import read_run
from bench.words import counted

MOST_NAMED = 3


def look(folder: Path) -> Standing:
    """What the records in a run folder have decided so far. Raises BadInputError where it can't be read."""
    found = analyse(read_run(folder)).comparisons
    pairs = [pair for comparison in found for pair in comparison.with_best]
    still_open = {tuple(one.group.items()): one.group for one in found if not one.decided}
    return Standing(
        sum(pair.outcome != "undecided" for pair in pairs), len(pairs), list(still_open.values()), leaders(found)
    )


def leaders(comparisons: Sequence[Comparison]) -> str:
    """Say who has not been shown to be behind anybody by throughput, for each number of connections."""
    parts = []
    for one in comparisons:
        if one.metric is not RATE or len(one.ranking) < 2:
            continue
        names = [standing.name for standing in one.tiers[0]]
        named = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" * (len(names) > MOST_NAMED))
        parts.append(f"{counted(one.group['connections'], 'connection')}: {named}")
    return f"ahead by throughput at {'; '.join(parts)}" if parts else ""
