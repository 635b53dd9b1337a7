"""One server, many load hosts, on workers of this machine: what is recorded, and what happens when a host is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from company import FAKES, Triggers, company, complete, killing, left_running, lingering
from spawn import eventually
from test_run import Silence, plan, trial

from bench import budget
from bench.budget import Standing
from bench.cluster import connect, one_server
from bench.cluster.connect import LOAD, Cluster
from bench.cluster.connect import one_server as offers
from bench.cluster.hosts import Commands, Failed, LoadHost, Targets
from bench.cluster.one_server import HOST_LOST, WHY_WHOLE, OneServer, WholeTrials
from bench.errors import BadInputError
from bench.plan import FEWEST_ROUNDS, Plan
from bench.progress import Progress
from bench.record import TRIALS_FILE, Manifest, Record, Trial, read_run, write_manifest
from bench.run import Outcome, run_on

LOADS = ["load-1", "load-2", "load-3"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with company(offers(4)) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """All four workers, on which nothing is left running afterwards."""
    complete(shared, 4)
    monkeypatch.setattr(one_server, "LEAST_OVERLAP", 0.0)  # of fakes, on a machine that may be busy otherwise
    yield shared
    monkeypatch.undo()  # a test may have changed which version this process takes itself for
    complete(shared, 4)
    assert eventually(lambda: not left_running(shared)), left_running(shared)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    return tmp_path


def carry_out(
    cluster: Cluster,
    planned: Plan,
    folder: Path,
    progress: Progress | None = None,
    commands: Commands = FAKES,
    *,
    look: Callable[[], Standing] | None = None,
) -> Outcome:
    whole = WholeTrials(*planned)
    stage = OneServer(cluster, whole, "", progress or Silence(), commands=commands).stage
    return run_on(stage, whole, folder, read_run(folder).records, progress or Silence(), look=look)


def budgeted(budget_s: float, *cases: Trial) -> Plan:
    return plan(*cases)._replace(cases=cases, budget_s=budget_s)


def rated(connections: int, rate_hz: float) -> Trial:
    return msgspec.structs.replace(trial("good", connections), workload="open", planned_hz=rate_hz, duration_s=1.0)


def test_a_trial_is_split_over_the_load_hosts_and_recorded_as_one(cluster: Cluster, folder: Path) -> None:
    outcome = carry_out(cluster, plan(trial("good", 7), rated(7, 700.0)), folder)
    closed, open_ = read_run(folder).records
    assert (outcome.ok, closed.status, closed.reason, closed.order) == (2, "ok", "", 1)
    assert closed.load is not None and closed.server is not None and closed.machine is not None
    assert (closed.load.connections, closed.load.completed) == (7, 3000)
    assert [(host.name, host.connections, host.completed) for host in closed.load_hosts] == [
        ("load-1", 3, 1000),
        ("load-2", 2, 1000),
        ("load-3", 2, 1000),
    ]
    assert min(host.start_ns for host in closed.load_hosts) == 0
    assert closed.overlap is not None and 0 < closed.overlap <= 1
    assert (closed.server_host, closed.server.implementation, closed.server.exit_code) == ("server", "Fake", 0)
    assert closed.server.metrics["threads"] == 1
    assert len(closed.machine.load_cpus) == 3
    assert open_.load is not None
    assert open_.load.offered_hz == pytest.approx(700)
    assert [host.offered_hz for host in open_.load_hosts] == pytest.approx([300, 200, 200])


def test_strategies_of_a_setting_are_measured_whole_one_after_another_and_each_record_says_why(
    cluster: Cluster, folder: Path
) -> None:
    carry_out(cluster, plan(trial("good", 6), trial("better", 6), trial("good", 9)), folder)
    records = read_run(folder).records
    assert [(one.trial.strategy, one.order, one.turns, one.whole) for one in records] == [
        ("good", 1, [], WHY_WHOLE),
        ("better", 2, [], WHY_WHOLE),
        ("good", 3, [], ""),
    ]


def test_of_a_setting_that_was_begun_only_what_is_missing_is_run(cluster: Cluster, folder: Path) -> None:
    first, second = trial("good", 6), trial("better", 6)
    carry_out(cluster, plan(first), folder)
    outcome = carry_out(cluster, plan(first, second), folder)
    assert (outcome.ok, outcome.trials) == (2, 2)
    assert [json.loads(line)["id"] for line in (folder / TRIALS_FILE).read_text().splitlines()] == [
        first.id,
        second.id,
    ]


def test_with_a_budget_there_are_rounds_and_looks_until_all_is_decided(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "LOOKS", 1_000_000)  # so that one is due as soon as there may be one
    looked_at: list[int] = []

    def look() -> Standing:
        looked_at.append(len(read_run(folder).records))
        return Standing(decided=1, comparisons=1, open=[])

    carry_out(cluster, budgeted(3600.0, trial("good", 6), trial("better", 6)), folder, look=look)
    run = read_run(folder)
    assert [one.trial.repeat for one in run.records] == [number for number in range(1, FEWEST_ROUNDS + 1) for _ in "ab"]
    assert {one.whole for one in run.records} == {WHY_WHOLE}
    assert looked_at == [2 * FEWEST_ROUNDS]
    assert [setting["connections"] for look in run.manifest.looks for setting in look.closed] == [6]


def test_where_there_are_fewer_connections_than_hosts_some_have_nothing_to_do(cluster: Cluster, folder: Path) -> None:
    carry_out(cluster, plan(trial("good", 2)), folder)
    (record,) = read_run(folder).records
    assert [host.name for host in record.load_hosts] == LOADS[:2]


def test_a_trial_in_which_the_load_did_not_overlap_for_long_enough_fails_and_says_who_was_late(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_server, "LEAST_OVERLAP", 1.01)
    carry_out(cluster, plan(trial("good", 6)), folder)
    (record,) = read_run(folder).records
    assert record.status == "failed"
    assert record.reason.startswith("all load hosts were at work for ") and "of the window only" in record.reason
    assert record.load is not None and record.overlap is not None


@pytest.mark.parametrize(
    ("strategy", "fault", "reason"),
    [
        ("dies_at_start", "", "the server ended at its start, exit code 1: fake server: no memory"),
        ("ends_badly", "", "the server ended badly, exit code 3: nothing on standard error"),
        ("good", "fail@2", "load host load-1: no connection could be opened"),
        ("good", "corrupt@2", "errors: 9 corrupt"),
        ("good", "refused@2", "6 of 6 connections refused (the server gave no reason)"),
        ("good", "die@2", "load host load-1: the load generator died, exit code 9: fake load: out of luck"),
    ],
)
def test_trouble_on_a_host_fails_the_trial_with_the_reason_and_the_run_goes_on(
    strategy: str, fault: str, reason: str, cluster: Cluster, folder: Path
) -> None:
    commands = FAKES._replace(load=[*FAKES.load, "--fault", fault]) if fault else FAKES
    outcome = carry_out(cluster, plan(trial(strategy, 6), trial("good", 9)), folder, commands=commands)
    bad, good = read_run(folder).records
    assert (bad.status, good.status, outcome.ok) == ("failed", "ok", 1)
    assert bad.reason.startswith(reason)


def test_a_load_host_that_is_lost_in_mid_trial_fails_that_trial_and_the_next_has_it_again(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_server, "LOAD_PATIENCE_S", 60.0)
    progress = Triggers({("load-2", "measures"): killing(cluster, "load-2")})
    carry_out(cluster, plan(trial("good", 6), trial("good", 9)), folder, progress, lingering(2))
    bad, good = read_run(folder).records
    assert (bad.status, good.status) == ("failed", "ok")
    assert bad.reason == "load host load-2 was lost"
    assert [host.name for host in good.load_hosts] == LOADS
    assert ("load-2", "is back") in progress.told


def test_a_run_goes_on_without_a_load_host_that_stays_away(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_server, "LOAD_PATIENCE_S", 0.0)
    progress = Triggers({("load-3", "measures"): killing(cluster, "load-3")})
    carry_out(cluster, plan(trial("good", 6), trial("good", 10)), folder, progress, lingering(2))
    bad, good = read_run(folder).records
    assert (bad.status, good.status) == ("failed", "ok")
    assert good.load is not None and good.load.connections == 10
    assert len(good.load_hosts) == 2
    assert ("load-3", "is gone; the run goes on without it") in progress.told


def test_a_trial_whose_servers_host_is_lost_waits_for_it_to_come_back(cluster: Cluster, folder: Path) -> None:
    progress = Triggers({("load-1", "measures"): killing(cluster, "server")})
    outcome = carry_out(cluster, plan(trial("good", 6), trial("good", 9)), folder, progress)
    assert [(record.status, record.order) for record in read_run(folder).records] == [("ok", 1), ("ok", 2)]
    assert outcome.ok == 2
    assert ("server", "is back") in progress.told


def test_trials_whose_servers_host_stays_away_are_unavailable_and_not_taken_for_done_by_a_resumed_run(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_server, "SERVER_PATIENCE_S", 0.0)
    progress = Triggers({("load-1", "measures"): killing(cluster, "server")})
    carry_out(cluster, plan(trial("good", 6)), folder, progress)
    (record,) = read_run(folder).records
    assert (record.status, record.flags) == ("unavailable", [HOST_LOST])
    assert record.reason == "the server's host server was gone, and did not come back in time"


def test_a_budget_is_not_spent_on_trials_that_the_servers_host_is_missing_for(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_server, "SERVER_PATIENCE_S", 0.0)
    progress = Triggers({("load-1", "measures"): killing(cluster, "server")})
    planned = budgeted(3600.0, trial("good", 6), trial("better", 6))
    with pytest.raises(BadInputError, match="server was gone, and did not come back in time") as caught:
        carry_out(cluster, planned, folder, progress, look=lambda: Standing(0, 1, []))
    assert "--resume" in caught.value.next_step
    assert read_run(folder).records == []


def test_a_trial_that_kills_its_servers_host_again_and_again_fails(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_server, "MOST_LOSSES", 1)
    progress = Triggers({("load-1", "measures"): killing(cluster, "server")})
    carry_out(cluster, plan(trial("good", 6)), folder, progress)
    (record,) = read_run(folder).records
    assert (record.status, record.reason) == ("failed", "the server's host was lost 1 times in this trial")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drops_the_trial_under_way_and_keeps_the_others(signum: int, cluster: Cluster, folder: Path) -> None:
    progress = Triggers({("load-1", "measures on 2"): lambda: os.kill(os.getpid(), signum)})
    outcome = carry_out(cluster, plan(trial("good", 9), trial("good", 6)), folder, progress, lingering(2))
    assert outcome.interrupted == signum
    assert [record.trial.connections for record in read_run(folder).records] == [9]


def test_the_progress_shows_what_each_host_does(cluster: Cluster, folder: Path) -> None:
    progress = Triggers({})
    carry_out(cluster, plan(rated(7, 700.0)), folder, progress)
    assert [doing for name, doing in progress.told if name == "load-2"] == [
        "warms up",
        "waits",
        "opens 2 connections",
        "measures on 2 connections at 200/s",
        "had 200 echoes",
    ]


@pytest.mark.parametrize(
    ("address", "targets", "good"),
    [
        ("tcp:127.0.0.1:9", Targets(hosts=("127.0.0.1",)), True),
        ("tcp:192.0.2.1:9", Targets(hosts=("127.0.0.1",)), False),
        ("tcp:127.0.0.1:9", Targets(addresses=("tcp:127.0.0.1:10",)), False),
        ("tcp:echo.example:7", Targets(addresses=("tcp:echo.example:7",)), True),
        ("unix:@there", Targets(hosts=("@there",)), False),
        ("unix:@there", Targets(local=True), True),
        ("nowhere", Targets(hosts=("nowhere",), local=True), False),
    ],
)
def test_a_sweeps_targets_are_the_hosts_of_its_servers_and_the_addresses_that_it_names(
    address: str, targets: Targets, good: bool
) -> None:
    assert targets.have(address) is good


def test_a_load_host_refuses_a_target_that_the_sweep_did_not_name(cluster: Cluster) -> None:
    member = cluster.members()["load-1"]
    targets = Targets(hosts=("127.0.0.1",))
    made = cluster.make({"load-1": member}, LOAD, LoadHost, targets, 1, FAKES)["load-1"]
    line: dict[str, Any] = {"job": "x", "address": "tcp:192.0.2.1:7"}
    said = cluster.ask([(made, "connect", (line,))], 30)["load-1"].value
    assert said == Failed("it refuses tcp:192.0.2.1:7: the sweep did not name that as a target")


def test_workers_with_another_version_are_refused_by_name(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "own_version", lambda: "9.9")
    with pytest.raises(BadInputError, match=r"9\.9 \(code .*\): load-1 has .*; load-2 has .*; server has "):
        cluster.check(list(cluster.members().values()))


def test_workers_with_other_code_of_the_same_version_are_refused_by_name(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "fingerprint", lambda: "0123456789ab")
    with pytest.raises(BadInputError, match=r"load-3 has .* "):
        cluster.check([cluster.members()["load-3"]])


def test_load_from_other_machines_needs_to_be_told_where_servers_listen(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = cluster.about["load-2"]._replace(place="another network")
    monkeypatch.setitem(cluster.about, "load-2", elsewhere)
    for bind in ("", "127.0.0.1"):
        with pytest.raises(
            BadInputError, match="loopback of server only, where load from load-2 can't reach"
        ) as caught:
            one_server.refuse_unreachable(cluster, ["server", *LOADS], bind)
        assert "--bind IP" in caught.value.next_step
    one_server.refuse_unreachable(cluster, ["server", *LOADS], "192.0.2.1")
    one_server.refuse_unreachable(cluster, ["server", "load-1"], "")


def test_transports_that_reach_no_other_machine_are_unavailable_there(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = cluster.about["load-2"]._replace(place="another network")
    monkeypatch.setitem(cluster.about, "load-2", elsewhere)
    unix: Trial = msgspec.structs.replace(trial("good", 3), transport="unix")
    carry_out(cluster, plan(unix), folder)
    (record,) = read_run(folder).records
    assert (record.status, record.reason) == ("unavailable", "unix does not reach load hosts on other machines")


def test_old_records_are_read_without_hosts() -> None:
    old = msgspec.to_builtins(Record(id="0", trial=trial("good"), status="ok"))
    for name in ("server_host", "load_hosts", "overlap"):
        del old[name]
    read = msgspec.convert(old, Record)
    assert (read.server_host, read.load_hosts, read.overlap) == ("", [], None)
