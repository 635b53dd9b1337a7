"""One sweep on many machines: who runs what, records that stream back, a driver that does not grow, lost machines."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import psutil
import pytest
from company import BOTH, FAKES, Triggers, company, complete, killing, left_running, lingering
from hypothesis import given, settings
from hypothesis import strategies as some
from spawn import eventually
from synthetic import record
from test_run import Silence, info, plan, trial

from bench.cluster import many
from bench.cluster.connect import Cluster
from bench.cluster.hosts import Commands, Known
from bench.cluster.many import ManyMachines, deal_rounds, patience_s
from bench.cluster.one_server import HOST_LOST
from bench.plan import Plan
from bench.progress import Progress
from bench.record import TRIALS_FILE, Manifest, Record, read_run, write_manifest
from bench.run import Outcome
from bench.settings import Setting
from bench.turn_length import turns_s

MACHINES = ["a", "b", "c"]
TRIALS = int(os.environ.get("IOBENCH_MANY_TRIALS", "600"))  # of no length at all; 10,000 take a minute or two
ROUNDS = [trial("good", connections, repeat) for repeat in (1, 2, 3) for connections in (2, 4)]
IN_TURNS = [trial(strategy, 2, repeat) for repeat in (1, 2, 3) for strategy in ("good", "better")]


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with company(dict.fromkeys(MACHINES, BOTH)) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    complete(shared, 3)
    yield shared
    complete(shared, 3)
    assert eventually(lambda: not left_running(shared)), left_running(shared)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    return tmp_path


def known(*unavailable: str) -> dict[str, Known]:
    """What each machine can run: the good strategy, but for these machines."""
    return {name: Known([info("good", name not in unavailable, "no such kernel")], []) for name in MACHINES}


def carry_out(
    cluster: Cluster,
    planned: Plan,
    folder: Path,
    progress: Progress | None = None,
    *,
    commands: Commands = FAKES,
    there: dict[str, Known] | None = None,
) -> Outcome:
    done = read_run(folder).records
    return ManyMachines(cluster, planned, there or known(), progress or Silence(), commands).run(folder, done)


# --- who runs what


@settings(deadline=None)
@given(repeats=some.integers(1, 30), cases=some.integers(1, 5), machines=some.integers(1, 10))
def test_every_round_is_whole_on_one_machine_and_machines_get_as_many_as_each_other(
    repeats: int, cases: int, machines: int
) -> None:
    planned = plan(*[trial(f"s{case}", 1, repeat) for repeat in range(repeats) for case in range(cases)])
    dealt = deal_rounds(planned, [f"m{number}" for number in range(machines)])
    assert sorted(one.id for trials in dealt.values() for one in trials) == sorted(one.id for one in planned.trials)
    for trials in dealt.values():
        assert {*Counter(one.repeat for one in trials).values()} <= {cases}
        assert trials == sorted(trials, key=lambda one: one.repeat)
    sizes = [len(trials) for trials in dealt.values()]
    assert max(sizes) - min(sizes) <= cases


def test_a_round_that_was_begun_stays_on_its_machine() -> None:
    done = [Record(id=ROUNDS[0].id, trial=ROUNDS[0], status="ok", server_host="c")]
    dealt = deal_rounds(plan(*ROUNDS), MACHINES, done)
    assert {machine: {one.repeat for one in trials} for machine, trials in dealt.items()} == {
        "a": {2},
        "b": {3},
        "c": {1},
    }


def test_a_round_whose_machine_is_not_there_any_more_goes_to_another_one() -> None:
    done = [Record(id=ROUNDS[0].id, trial=ROUNDS[0], status="ok", server_host="gone")]
    assert deal_rounds(plan(*ROUNDS), ["a"], done) == {"a": ROUNDS}


# --- settings


def test_every_strategy_is_measured_on_every_machine_and_each_record_tells_where(
    cluster: Cluster, folder: Path
) -> None:
    outcome = carry_out(cluster, plan(*ROUNDS), folder)
    records = read_run(folder).records
    assert (outcome.ok, outcome.trials) == (6, 6)
    assert sorted(record.order for record in records) == [1, 2, 3, 4, 5, 6]
    assert {(record.trial.repeat, record.server_host) for record in records} == {(1, "a"), (2, "b"), (3, "c")}
    by_machine = {name: [one.trial for one in records if one.server_host == name] for name in MACHINES}
    assert by_machine == {"a": ROUNDS[0:2], "b": ROUNDS[2:4], "c": ROUNDS[4:6]}


def test_the_strategies_of_a_setting_take_their_turns_on_one_machine(cluster: Cluster, folder: Path) -> None:
    progress = Triggers({})
    outcome = carry_out(cluster, plan(*IN_TURNS), folder, progress)
    records = read_run(folder).records
    assert (outcome.ok, outcome.trials) == (6, 6)
    assert {(one.server_host, one.trial.repeat, one.trial.strategy) for one in records} == {
        (machine, repeat, strategy)
        for machine, repeat in zip(MACHINES, (1, 2, 3), strict=True)
        for strategy in ("good", "better")
    }
    assert all(len(one.turns) == 1 and one.whole == "" for one in records)
    assert ("b", "2 strategies, tcp x2 64 B #2") in progress.told


def test_a_fault_is_one_strategy_s_and_the_others_of_its_setting_go_on(cluster: Cluster, folder: Path) -> None:
    planned = plan(trial("dies_at_start", 2), corrupt := trial("better", 2), trial("good", 2))
    commands = FAKES._replace(load=[*FAKES.load, "--fault", f"corrupt@{corrupt.id}"])
    outcome = carry_out(cluster, planned, folder, commands=commands)
    assert {one.trial.strategy: one.reason for one in outcome.failed} == {
        "dies_at_start": "the server ended at its start, exit code 1: fake server: no memory",
        "better": "errors: 3 corrupt",
    }
    assert outcome.ok == 1


def test_what_a_machine_can_not_run_takes_no_turn_there(cluster: Cluster, folder: Path) -> None:
    there = {"a": Known([info("good"), info("better", False, "no such kernel")], [])}
    carry_out(cluster, plan(*IN_TURNS[:2]), folder, there=there)
    better, good = sorted(read_run(folder).records, key=lambda one: one.trial.strategy)
    assert (better.status, better.reason, better.server_host) == ("unavailable", "no such kernel", "a")
    assert (good.status, good.turns, good.whole) == ("ok", [], "")


def test_a_strategy_that_one_machine_can_not_run_is_unavailable_there_alone(cluster: Cluster, folder: Path) -> None:
    carry_out(cluster, plan(*ROUNDS), folder, there=known("b"))
    statuses = {(record.server_host, record.status) for record in read_run(folder).records}
    assert statuses == {("a", "ok"), ("b", "unavailable"), ("c", "ok")}


def test_what_is_done_is_not_run_again(cluster: Cluster, folder: Path) -> None:
    carry_out(cluster, plan(*ROUNDS[:3]), folder)
    carry_out(cluster, plan(*ROUNDS), folder)
    lines = (folder / TRIALS_FILE).read_text().splitlines()
    assert len(lines) == 6
    records = read_run(folder).records
    assert sorted(record.order for record in records) == [1, 2, 3, 4, 5, 6]
    assert {(record.trial.repeat, record.server_host) for record in records} == {(1, "a"), (2, "b"), (3, "c")}


def test_rates_that_are_fractions_follow_from_the_closed_loop_on_the_same_machine(
    cluster: Cluster, folder: Path
) -> None:
    points = []
    for closed in (trial("good", 2, repeat) for repeat in (1, 2)):
        points += [closed, msgspec.structs.replace(closed, workload="open", load_fraction=0.5)]
    carry_out(cluster, plan(*points), folder)
    assert {(one.trial.workload, one.status, one.planned_hz) for one in read_run(folder).records} == {
        ("closed", "ok", 0.0),
        ("open", "ok", 500.0),
    }


def test_a_trial_whose_machine_is_lost_waits_for_it_while_the_others_go_on(cluster: Cluster, folder: Path) -> None:
    progress = Triggers({("b", "good tcp x2"): killing(cluster, "b")})
    carry_out(cluster, plan(*ROUNDS), folder, progress)
    records = read_run(folder).records
    assert {(record.server_host, record.trial.repeat) for record in records} == {("a", 1), ("b", 2), ("c", 3)}
    assert len(records) == len((folder / TRIALS_FILE).read_text().splitlines()) == 6
    assert ("b", "was lost; its setting waits") in progress.told
    assert ("b", "is back") in progress.told


def test_a_setting_whose_machine_is_lost_is_measured_again_as_a_whole(cluster: Cluster, folder: Path) -> None:
    progress = Triggers({("b", "2 strategies"): killing(cluster, "b")})
    outcome = carry_out(cluster, plan(*IN_TURNS), folder, progress)
    lines = (folder / TRIALS_FILE).read_text().splitlines()
    records = read_run(folder).records
    assert (outcome.ok, len(lines), len(records)) == (6, 6, 6)
    assert {(one.server_host, len(one.turns)) for one in records if one.trial.repeat == 2} == {("b", 1)}
    assert progress.told.count(("b", "2 strategies, tcp x2 64 B #2")) == 2


def test_a_setting_of_which_a_record_is_missing_is_measured_again_and_counted_once(
    cluster: Cluster, folder: Path
) -> None:
    there = {"a": known()["a"]}
    carry_out(cluster, plan(IN_TURNS[0]), folder, there=there)
    outcome = carry_out(cluster, plan(*IN_TURNS[:2]), folder, there=there)
    assert (outcome.ok, outcome.trials) == (2, 2)
    assert [len(one.turns) for one in read_run(folder).records] == [1, 1]


def test_a_setting_that_its_machine_is_lost_in_again_and_again_has_failed(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST_LOSSES", 1)
    progress = Triggers({("b", "2 strategies"): killing(cluster, "b")})
    outcome = carry_out(cluster, plan(*IN_TURNS), folder, progress)
    assert {(one.trial.strategy, one.reason) for one in outcome.failed} == {
        (strategy, "its machine b was lost 1 times in this setting") for strategy in ("good", "better")
    }
    assert outcome.ok == 4


def test_a_machine_that_does_not_answer_in_time_is_given_up_for_lost(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "patience_s", lambda setting: 0.0)
    monkeypatch.setattr(many, "MOST_LOSSES", 1)
    progress = Triggers({})
    outcome = carry_out(cluster, plan(trial("good", 2)), folder, progress, commands=lingering(2))
    assert [one.reason for one in outcome.failed] == ["its machine a was lost 1 times in this setting"]
    assert ("a", "does not answer; its setting waits") in progress.told


def test_the_time_for_an_answer_grows_with_the_turns_of_all_strategies() -> None:
    long = [msgspec.structs.replace(one, duration_s=1000.0) for one in IN_TURNS[:2]]
    assert patience_s(Setting(long)) - patience_s(Setting(IN_TURNS[:2])) > 1.5 * sum(map(turns_s, long))


def test_trials_of_a_machine_that_stays_away_are_unavailable(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "SERVER_PATIENCE_S", -1.0)
    progress = Triggers({("b", "good tcp x2"): killing(cluster, "b")})
    carry_out(cluster, plan(*ROUNDS[2:3]), folder, progress, there={"b": known()["b"]})
    (record,) = read_run(folder).records
    assert (record.status, record.server_host, record.flags) == ("unavailable", "b", [HOST_LOST])
    assert record.reason == "machine b was gone, and stayed away"


def test_a_signal_ends_the_run_and_keeps_what_there_is(cluster: Cluster, folder: Path) -> None:
    progress = Triggers({("a", "good tcp x4"): lambda: os.kill(os.getpid(), signal.SIGTERM)})
    outcome = carry_out(cluster, plan(*ROUNDS[:2]), folder, progress)
    assert outcome.interrupted == signal.SIGTERM
    assert [one.trial.connections for one in read_run(folder).records] == [2]


class Trivial:
    """A machine whose settings take no time and bring the records of real trials back."""

    def __init__(self, plan: Plan, threads: int, commands: Commands) -> None:
        self.found = record(rate_hz=1e5)
        assert self.found.load is not None
        self.found.load.interval_hdrs = [self.found.load.service_hdr] * 100

    def warm_up(self) -> None: ...

    def run(self, setting: Setting, rates_hz: Mapping[str, float]) -> list[Record]:
        return [msgspec.structs.replace(self.found, id=trial.id, trial=trial) for trial in setting.trials]


class Weighing(Silence):
    """Looks at the memory of this process as trials end."""

    def __init__(self) -> None:
        self.ended = 0
        self.rss_bytes: list[int] = []

    def trial_ended(self, record: Record) -> None:
        self.ended += 1
        if self.ended % 100 == 0:
            self.rss_bytes.append(psutil.Process().memory_info().rss)


def test_records_stream_back_by_the_thousand_and_the_driver_does_not_grow(cluster: Cluster, folder: Path) -> None:
    each = TRIALS // 3
    points = [trial("good", connections, repeat) for repeat in range(3) for connections in range(1, each + 1)]
    weighing = Weighing()
    planned = plan(*points)
    outcome = ManyMachines(cluster, planned, known(), weighing, FAKES, Trivial).run(folder, [])
    assert outcome.ok == len(points) == 3 * each
    written_bytes = (folder / TRIALS_FILE).stat().st_size
    assert written_bytes > 30_000 * len(points)
    growth_bytes = weighing.rss_bytes[-1] - weighing.rss_bytes[0]
    print(f"{len(points)} trials, {written_bytes / 1e6:.0f} MB, {growth_bytes / 1e6:.1f} MB more in the driver")
    assert growth_bytes < written_bytes / 4
