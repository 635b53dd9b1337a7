"""Settings: what is compared with each other, and whether that is measured in turns. Pure but for the machine's limits.

A setting is a transport, a number of connections, a size, a workload and a load; all strategies of it, on all
interpreters, servers that are not ours among them, are up together in a round. Where they can't be, the round has
several blocks of it, with one strategy in common, or whole trials; which, and why, is said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from bench.external import External
from bench.metrics import COMPARED
from bench.record import Record, Trial

# Connections that one load generator holds at once: each takes a descriptor of its, and the kernel some KiB at each
# end. A setting that comes to more is measured in blocks.
MOST_OPEN = 16_000


class Setting(NamedTuple):
    """The trials of one setting in one round, or of a block of it. `whole`: why they are not measured in turns."""

    trials: list[Trial]
    whole: str = ""

    @property
    def in_turns(self) -> bool:
        """Whether they take turns; a trial with nobody beside it has nobody to take turns with."""
        return not self.whole and len(self.trials) > 1


def setting_of(trial: Trial) -> dict[str, Any]:
    """What a trial has in common with those that it is compared with, by the names of COMPARED."""
    return {name: getattr(trial, name) for name in COMPARED}


def key_of(trial: Trial) -> tuple[Any, ...]:
    """The same as a key; sizes are a tuple of tuples, and so it has a hash."""
    return tuple(setting_of(trial).values())


def in_settings(trials: Sequence[Trial], externals: Mapping[str, External], slo: str = "") -> list[Setting]:
    """Put planned trials together that follow each other and are measured together."""

    def together(trial: Trial) -> tuple[Any, ...]:
        return (trial.repeat, trial.block, *key_of(trial))

    found = []
    for _, same in groupby(trials, key=together):
        of_setting = list(same)
        if slo:
            found += [Setting([trial], "each search goes its own way") for trial in of_setting]
        else:
            found.append(Setting(of_setting, why_whole(of_setting, externals)))
    return found


def missing(setting: Setting, records: Mapping[str, Record]) -> Iterator[Setting]:
    """What is to be measured of a setting: all of it where it takes turns and lacks a record, else what lacks one."""
    left = [trial for trial in setting.trials if trial.id not in records]
    if left:
        yield setting if setting.in_turns else setting._replace(trials=left)


def why_whole(trials: Sequence[Trial], externals: Mapping[str, External]) -> str:
    """Say why the trials of a setting can't take turns; nothing where they can."""
    if len(trials) < 2:
        return ""
    running = sorted({one.strategy for one in trials if one.strategy in externals and externals[one.strategy].address})
    if running:
        return f"{', '.join(running)} was running before and can't be stopped while others have their turns"
    if trials[0].workload == "slow":
        return "a slow peer takes longer for a message than a turn lasts"
    if max(map(open_connections, trials)) * 2 > MOST_OPEN:
        return f"so many connections can't be open twice at once: {MOST_OPEN:,} are the most for a load generator"
    return ""


def open_connections(trial: Trial) -> int:
    """Connections that a trial holds, silent ones among them; those through pipes count twice, for two descriptors."""
    return (trial.connections + trial.silent) * (2 if trial.transport == "pipe" else 1)


def in_blocks(trials: Sequence[Trial], turn: Mapping[tuple[str, str], int]) -> list[list[Trial]]:
    """Deal the trials of a setting in a round to as few blocks as hold MOST_OPEN connections each.

    The first trial is in each of them, so that all can be compared within the round; the others go by their `turn`, of
    a strategy on an interpreter, which is drawn anew for each round. `block` tells the blocks apart.
    """
    room = MOST_OPEN // max(1, *map(open_connections, trials))
    if room < 2 or len(trials) <= room:
        return [list(trials)]
    common, *others = trials
    others.sort(key=lambda trial: turn[trial.strategy, trial.python])
    blocks = [others[first : first + room - 1] for first in range(0, len(others), room - 1)]
    return [
        [msgspec.structs.replace(trial, block=number) for trial in (common, *block)]
        for number, block in enumerate(blocks)
    ]
