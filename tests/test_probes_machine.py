"""What is read of the CPUs of a trial, from a /proc that is made up and from the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.probes import machine
from bench.probes.machine import TICK_NS, MachineProbe, cpu_time

STAT = b"""cpu  100 0 50 1000 8 0 5 7 0 0
cpu0 60 0 20 400 3 0 5 2 0 0
cpu1 40 0 30 600 5 0 0 5 0 0
cpu10 1 1 1 1 1 1 1 1 1 1
intr 1 2 3
"""


def test_idle_and_stolen_time_are_summed_over_the_cpus_asked_for() -> None:
    lines = STAT.splitlines()
    assert cpu_time(lines, [1]) == (605 * TICK_NS, 5 * TICK_NS)
    assert cpu_time(lines, [0, 1]) == (1008 * TICK_NS, 7 * TICK_NS)
    assert cpu_time(lines, [7]) == (0, 0)


def test_both_sides_are_told_apart_and_only_the_growth_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_bytes(STAT)
    monkeypatch.setattr(machine, "PROC_STAT", stat)
    probe = MachineProbe([1], [0], os.getpid())
    probe.start()
    stat.write_bytes(STAT.replace(b"400 3", b"410 4").replace(b"0 0 5 0 0", b"0 0 9 0 0"))
    found = probe.stop()
    assert found is not None
    assert (found.server_idle_ns, found.server_steal_ns) == (0, 4 * TICK_NS)
    assert (found.load_idle_ns, found.load_steal_ns, found.load_cpus) == (11 * TICK_NS, 0, [0])
    assert found.load_wait_ns is not None and found.load_wait_ns >= 0
    assert found.harness_ns > 0  # our own reading


def test_without_proc_there_is_nothing_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROC_STAT", tmp_path / "none")
    probe = MachineProbe([1], [0], os.getpid())
    probe.start()
    assert probe.stop() is None


def test_the_wait_of_a_load_that_has_gone_is_not_known() -> None:
    probe = MachineProbe([0], [0], 2**30)
    probe.start()
    found = probe.stop()
    assert found is not None and found.load_wait_ns is None
