"""What the markers of the figures mean: those that occur in a run, each with why and how often.

Pure functions of the tables that analyse.py makes, to plain text. Nothing is drawn or marked up.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from bench.analyse import Analysis
from bench.words import counted

FILLED, HOLLOW, ARROW = "filled", "hollow", "arrow up"
FAILED, UNAVAILABLE = "failed", "unavailable"  # as a trial's status says
WHY_HOLLOW = {
    "client_bound": "the client, not the server, was the limit, so that throughput is a lower bound",
    "lagging_schedule": "sends lagged behind their plan",
    "unsteady": "throughput or response times drifted within the window",
    "censored": "messages were unfinished when the window closed, so that percentiles are lower bounds",
    "standstill": "no echo came for a part of the window",
    "syn_drops": "the kernel dropped handshakes while connections were being opened",
    "disturbed": "others had the CPUs for too much of it",
    "throttled": "a CPU quota was used up",
    "shared_core": "server and load shared a core",
    "too_few": "too few messages came back to tell a p99",
}


class Marker(NamedTuple):
    """A kind of marker and what it means in this run."""

    kind: str
    meaning: str


def markers(analysis: Analysis) -> list[Marker]:
    """Explain every kind of marker that the figures of this run can have; nothing where all are alike."""
    good = analysis.trials[analysis.trials["status"] == "ok"]
    if good.empty:
        return []
    found = [Marker(FILLED, "Measured, and nothing is known against it.")]
    if why := _why_hollow(good):
        found.append(Marker(HOLLOW, f"Not to be taken as it stands. In this run: {'; '.join(why)}."))
    if bool(analysis.load_points["lower_bound"].any()):
        found.append(Marker(ARROW, "Only a lower bound is known: the true value is there or above."))
    for status in (FAILED, UNAVAILABLE):
        if number := int((analysis.trials["status"] == status).sum()):
            found.append(
                Marker(status, f"{counted(number, 'trial')}, of which there is no value; “Left out” says why.")
            )
    return found if len(found) > 1 else []


def _why_hollow(good: pd.DataFrame) -> list[str]:
    """Each flag that a good trial has, in words, with the number of trials; those that aren't known come last."""
    flags = good["flags"].str.split(", ").explode()
    numbers = flags[flags.astype(bool)].value_counts()
    ordered = [flag for flag in WHY_HOLLOW if flag in numbers] + sorted(set(numbers.index) - set(WHY_HOLLOW))
    return [
        f"{WHY_HOLLOW.get(flag, flag.replace('_', ' '))} ({counted(int(numbers[flag]), 'trial')})" for flag in ordered
    ]
