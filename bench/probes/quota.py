"""The CPU quota of a container or a unit: how much of the CPUs it leaves, and when it stopped all that ran under it.

A group of processes that has used up its quota stands still until the next period, of 100 ms as a rule: for every
process in it, harness, load and server alike, there is no CPU, though CPUs are idle. cgroup v2: cpu.max and cpu.stat
(Documentation/admin-guide/cgroup-v2.rst); v1: cpu.cfs_quota_us, cpu.cfs_period_us and cpu.stat
(Documentation/scheduler/sched-bwc.rst). The quotas of all groups round this process hold, as far as they are seen from
here: a container sees its own group, and not those that its host has put round it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")


class Throttled(NamedTuple):
    """How often a quota was used up before its period was over, and how long the CPUs then stood still, in sum."""

    periods: int
    stopped_ns: int


class ThrottleProbe:
    """Watches the quotas that this process is under, over one window after another."""

    def __init__(self, root: Path = ROOT) -> None:
        self._stats = [folder / "cpu.stat" for folder in groups(root) if _cpus_of(folder) is not None]
        self._before = Throttled(0, 0)

    def start(self) -> None:
        """Take the first reading."""
        self._before = self._read()

    def stop(self) -> Throttled:
        """Take the second reading: what came in between."""
        grown = [max(0, after - before) for before, after in zip(self._before, self._read(), strict=True)]
        return Throttled(*grown)

    def _read(self) -> Throttled:
        found = [_throttled(stat) for stat in self._stats]
        return Throttled(sum(one.periods for one in found), sum(one.stopped_ns for one in found))


def cpus(root: Path = ROOT) -> float | None:
    """How many CPUs the tightest of the quotas leaves to this process; None where there is none."""
    return min((found for folder in groups(root) if (found := _cpus_of(folder)) is not None), default=None)


def groups(root: Path = ROOT) -> list[Path]:
    """The folders of the groups that this process is in, for CPUs, and of all round them; none where that isn't told.

    Where a hierarchy is mounted, and which part of it, stands in /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    try:
        own = dict(_own(root))
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    except (OSError, ValueError):
        return []
    found: dict[Path, None] = {}
    for fields in mounts:
        kind, _, options = fields[fields.index("-") + 1 :][:3]
        version = {"cgroup2": 2, "cgroup": 1}.get(kind, 0)
        if version in own and (version == 2 or "cpu" in options.split(",")):
            top = root / fields[4].lstrip("/")
            inside = os.path.relpath(own[version], fields[3])
            at = top if inside.startswith("..") else top / inside
            found |= dict.fromkeys(folder for folder in (at, *at.parents) if folder.is_relative_to(top))
    return list(found)


def _own(root: Path) -> Iterator[tuple[int, str]]:
    """The paths of this process's groups, by the version of the hierarchy (proc_pid_cgroup(5), cgroups(7))."""
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield 2, path
        elif "cpu" in controllers.split(","):
            yield 1, path


def _cpus_of(folder: Path) -> float | None:
    """The quota of one group by its period; None where it has none. A quota of v1 that is below zero is none."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        return quota_us / int((folder / "cpu.cfs_period_us").read_text()) if quota_us >= 0 else None
    return None


def _throttled(stat: Path) -> Throttled:
    """The counters of one group, which only grow; nothing where they can't be read."""
    fields: dict[str, int] = {}
    with suppress(OSError, ValueError):
        words = stat.read_text().split()
        fields = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    stopped_ns = fields.get("throttled_usec", 0) * 1000 + fields.get("throttled_time", 0)
    return Throttled(fields.get("nr_throttled", 0), stopped_ns)
