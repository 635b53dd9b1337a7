"""Which CPUs server and load get, and what is taken down of the machine."""

from __future__ import annotations

import os
import platform
import select
from pathlib import Path

import msgspec
import pytest

from bench import host


@pytest.mark.parametrize(
    ("cores", "layout"),
    [
        ([[0], [1]], host.CpuLayout([1], [0], [0], shared=False)),
        ([[0, 4], [1, 5]], host.CpuLayout([1], [0], [0], shared=False)),
        ([[2], [3], [6], [7]], host.CpuLayout([3], [6], [2], shared=False)),
        ([[0, 1]], host.CpuLayout([0], [1], [1], shared=True)),
        ([[5]], host.CpuLayout([5], [5], [5], shared=True)),
    ],
)
def test_server_and_load_get_different_physical_cores_where_there_are_two(
    cores: list[list[int]], layout: host.CpuLayout
) -> None:
    assert host.lay_out(cores) == layout


@pytest.mark.parametrize(
    ("number", "threads", "load"), [(8, 1, [2]), (8, 2, [2, 3]), (8, 9, [2, 3, 4, 5, 6, 7]), (3, 2, [2]), (2, 2, [0])]
)
def test_each_load_thread_gets_a_core_as_far_as_they_go(number: int, threads: int, load: list[int]) -> None:
    layout = host.lay_out([[core] for core in range(number)], threads)
    assert layout == host.CpuLayout([1], load, [0], shared=False)


def test_logical_cpus_are_grouped_by_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu, siblings in {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}.items():
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(host, "SYS_CPU", tmp_path)
    assert host.physical_cores([0, 1, 2, 3]) == [[0, 2], [1, 3]]
    assert host.physical_cores([1, 2]) == [[1], [2]]


def test_where_the_kernel_does_not_tell_each_cpu_counts_as_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "SYS_CPU", tmp_path)
    assert host.physical_cores([0, 1]) == [[0], [1]]


def test_only_cpus_that_we_may_use_are_chosen() -> None:
    layout = host.choose_cpus()
    assert {*layout.server, *layout.load, *layout.harness} <= set(host.describe(layout)["cpus_allowed"])


def test_the_facts_that_a_reader_of_figures_needs_are_there() -> None:
    facts = host.describe(host.choose_cpus())
    assert facts["kernel"] == platform.release()
    assert facts["limits"]["RLIMIT_NOFILE"]
    assert facts["memory_bytes"] > 0
    assert "net.core.somaxconn" in facts["sysctls"] and "net.ipv4.ip_local_port_range" in facts["sysctls"]
    for name in ("cpu_model", "cpus", "physical_cores", "smt", "governor", "clock_source", "virtualization", "git"):
        assert facts[name] not in ("", None), name


def test_facts_can_be_written_as_json_and_name_no_folder_of_the_machine() -> None:
    text = msgspec.json.encode([host.describe(host.choose_cpus()), host.versions()]).decode()
    assert str(host.HOME) not in text
    assert '"/' not in text


def test_a_fact_that_the_machine_does_not_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SYS_CPU", tmp_path)
    monkeypatch.setattr(host, "PROC_SYS", tmp_path)
    facts = host.describe(host.CpuLayout([0], [0], [0], shared=True))
    assert facts["governor"] == facts["smt"] == host.UNKNOWN
    assert set(facts["sysctls"].values()) == {host.UNKNOWN}


def test_the_commit_of_another_repository_round_ours_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "HOME", host.HOME / "bench")
    assert host.git()["commit"] == host.UNKNOWN
    monkeypatch.setattr(host, "HOME", tmp_path)
    assert host.git()["commit"] == host.UNKNOWN


def test_a_checkout_that_git_refuses_has_an_unknown_commit_with_the_reason_and_is_not_called_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    monkeypatch.setattr(host, "HOME", tmp_path)
    facts = host.git()
    assert (facts["commit"], facts["dirty"]) == (host.UNKNOWN, host.UNKNOWN)
    assert facts["reason"] == "fatal: not a git repository: ..."


def test_versions_are_given_for_iobench_and_what_it_stands_on() -> None:
    versions = host.versions()
    assert versions["iobench"] == host.own_version() != host.UNKNOWN
    assert host.UNKNOWN not in (versions["numba"], versions["numpy"], versions["psutil"])


def test_what_a_pipe_holds_is_taken_down() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        taken = os.write(writing, bytes(16 << 20))
    finally:
        os.close(reading)
        os.close(writing)
    assert host.describe(host.choose_cpus())["pipe"] == {"capacity_bytes": taken, "atomic_bytes": select.PIPE_BUF}


@pytest.mark.parametrize(
    "theirs",
    [
        '[project]\nname = "theirs"\nversion = "9.9.9"\n',
        '[project]\nname = "iobench"\nversion = "9.9.9"\n',
        "[tool.theirs]\n",
        "project = 3\n",
        "no TOML at all",
        "",
    ],
)
def test_installed_what_lies_beside_the_packages_is_not_taken_for_a_checkout(theirs: str, tmp_path: Path) -> None:
    (tmp_path / "iobench-0.0.7.dist-info").mkdir()
    (tmp_path / "pyproject.toml").write_text(theirs)
    assert host.own_version(tmp_path) == host.version("iobench")
    assert host.of_checkout(tmp_path) == {}


@pytest.mark.parametrize("theirs", ['[project]\nname = "theirs"\nversion = "9.9.9"\n', "[tool.theirs]\n", "no TOML"])
def test_a_project_of_another_name_is_no_checkout_of_iobench(theirs: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(theirs)
    assert host.own_version(tmp_path) == host.version("iobench")
    assert host.of_checkout(tmp_path / "none") == {}


def test_a_checkout_tells_its_own_version(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "iobench"\nversion = "0.0.8"\n')
    assert host.own_version(tmp_path) == "0.0.8"
