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
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "iobench"\nversion = "0.0.8"\n')
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


# --- NUMA nodes


@pytest.fixture
def two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight CPUs, of which each core has two (0 and 4, 1 and 5 ...), and whose cores lie by turns on two nodes."""
    for cpu in range(8):
        topology = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    for node, cpus in {0: "0,2,4,6", 1: "1,3,5,7", 2: ""}.items():  # the last one has memory alone
        (tmp_path / "node" / f"node{node}").mkdir(parents=True)
        (tmp_path / "node" / f"node{node}" / "cpulist").write_text(cpus + "\n")
    monkeypatch.setattr(host, "SYS_CPU", tmp_path / "cpu")
    monkeypatch.setattr(host, "SYS_NODE", tmp_path / "node")


@pytest.mark.usefixtures("two_nodes")
@pytest.mark.parametrize(
    ("allowed", "layout"),
    [
        (range(8), host.CpuLayout([2], [0], [1], shared=False)),
        ([1, 3, 4, 5, 7], host.CpuLayout([3], [1], [4], shared=False)),
        ([0, 1, 4, 5], host.CpuLayout([1], [0], [0], shared=False)),  # a core of each node, and no node with two
        ([2, 6], host.CpuLayout([2], [6], [6], shared=True)),
    ],
)
def test_server_and_load_are_on_cores_of_one_node_where_it_has_two(
    allowed: list[int], layout: host.CpuLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowed))
    assert host.choose_cpus(load_threads=2) == layout


@pytest.mark.usefixtures("two_nodes")
def test_cpus_that_others_have_are_left_to_them_unless_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)})
    first = host.choose_cpus()
    second = host.choose_cpus(but=[*first.server, *first.load])
    assert {*second.server, *second.load}.isdisjoint([*first.server, *first.load])
    assert host.choose_cpus(but=range(8)) == first


@pytest.mark.usefixtures("two_nodes")
def test_nodes_and_siblings_are_among_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)})
    facts = host.describe(host.CpuLayout([2], [0], [1], shared=False))
    assert facts["numa_nodes"] == {"node0": "0,2,4,6", "node1": "1,3,5,7"}
    assert facts["smt_siblings"] == ["0,4", "1,5", "2,6", "3,7"]


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", set()), ("unknown", set()), ("0-x,7", {7})]
)
def test_a_list_of_cpus_is_read_as_the_kernel_writes_it(text: str, cpus: set[int]) -> None:
    assert host.cpus_in(text) == cpus


def test_the_quota_of_cpus_is_among_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.quota, "cpus", lambda: 0.5)
    assert host.describe(host.choose_cpus())["cpu_quota"] == 0.5
    monkeypatch.setattr(host.quota, "cpus", lambda: None)
    assert host.describe(host.choose_cpus())["cpu_quota"] == "none"
