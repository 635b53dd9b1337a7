"""CPU quotas of the groups round a process, and how often they were used up: from files that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from bench.probes import quota
from bench.probes.quota import Throttled, ThrottleProbe

V1 = "31 23 0:28 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V2 = "41 31 0:38 {top} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"


class Hierarchy(NamedTuple):
    """One version of control groups: how it is mounted, a process's own line, where groups are."""

    mount: str
    own: str
    folder: str


HIERARCHIES = {
    "v1": Hierarchy(V1, "4:cpu,cpuacct:{path}", "sys/fs/cgroup/cpu,cpuacct"),
    "v2": Hierarchy(V2, "0::{path}", "sys/fs/cgroup"),
}


class Machine(NamedTuple):
    """A root folder of a machine with one version of control groups."""

    root: Path
    version: str

    def place(self, path: str, top: str = "/") -> None:
        """Put the process into a group; `top` is the part of the hierarchy that is mounted."""
        hierarchy, proc = HIERARCHIES[self.version], self.root / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(f"3:memory:/elsewhere\n{hierarchy.own.format(path=path)}\n")
        others = (
            "36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        )
        (proc / "mountinfo").write_text(others + hierarchy.mount.format(top=top) + "\n")

    def limit(self, path: str, cpus: float | None) -> None:
        """Give a group a quota, or say that it has none."""
        quota_us = -1 if cpus is None else round(cpus * 100_000)
        if self.version == "v1":
            self._write(path, "cpu.cfs_quota_us", str(quota_us))
            self._write(path, "cpu.cfs_period_us", "100000")
        else:
            self._write(path, "cpu.max", f"{'max' if cpus is None else quota_us} 100000")
        self.throttle(path, 0, 0)

    def throttle(self, path: str, periods: int, stopped_us: int) -> None:
        """Let the counters of a group be so."""
        time = f"throttled_time {stopped_us * 1000}" if self.version == "v1" else f"throttled_usec {stopped_us}"
        self._write(path, "cpu.stat", f"nr_periods 900\nnr_throttled {periods}\n{time}\n")

    def _write(self, path: str, name: str, text: str) -> None:
        folder = self.root / HIERARCHIES[self.version].folder / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


@pytest.fixture(params=["v1", "v2"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


def test_the_quota_is_that_of_the_tightest_group_round_the_process(machine: Machine) -> None:
    machine.place("/user/shell")
    machine.limit("/", None)
    machine.limit("/user", 0.5)
    machine.limit("/user/shell", 2)
    machine.limit("/somebody", 0.1)
    assert quota.cpus(machine.root) == 0.5


def test_a_group_without_a_quota_is_no_limit(machine: Machine) -> None:
    machine.place("/user")
    machine.limit("/user", None)
    assert quota.cpus(machine.root) is None
    assert quota.cpus(machine.root / "nowhere") is None


@pytest.mark.parametrize(("path", "top"), [("/docker/abc", "/docker/abc"), ("/", "/docker/abc"), ("/docker/abc", "/")])
def test_in_a_container_the_group_is_found_whichever_part_of_the_hierarchy_is_mounted(
    path: str, top: str, machine: Machine
) -> None:
    machine.place(path, top)
    machine.limit("/" if top != "/" else path, 1.5)
    assert quota.cpus(machine.root) == 1.5


def test_what_counts_is_how_often_a_quota_was_used_up_in_the_window(machine: Machine) -> None:
    machine.place("/user/shell")
    machine.limit("/user", 0.5)
    machine.limit("/user/shell", 0.7)
    machine.throttle("/user", 321, 7_000_000)
    probe = ThrottleProbe(machine.root)
    probe.start()
    assert probe.stop() == Throttled(0, 0)
    machine.throttle("/user", 324, 7_250_000)
    machine.throttle("/user/shell", 1, 30_000)
    assert probe.stop() == Throttled(4, 280_000_000)


def test_a_group_without_a_quota_is_not_read_at_all(machine: Machine) -> None:
    machine.place("/user")
    machine.limit("/user", None)
    probe = ThrottleProbe(machine.root)
    probe.start()
    machine.throttle("/user", 3, 300)
    assert probe.stop() == Throttled(0, 0)


def test_counters_that_have_gone_are_nothing(machine: Machine) -> None:
    machine.place("/user")
    machine.limit("/user", 1)
    machine.throttle("/user", 3, 300)
    probe = ThrottleProbe(machine.root)
    probe.start()
    (machine.root / HIERARCHIES[machine.version].folder / "user" / "cpu.stat").unlink()
    assert probe.stop() == Throttled(0, 0)
