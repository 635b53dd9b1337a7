"""One sweep on many machines: who runs what, records that stream back, a driver that does not grow, lost machines."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from company import BOTH, FAKES, Triggers, company, complete, killing, left_running
from hypothesis import given, settings
from hypothesis import strategies as some
from spawn import eventually
from synthetic import record
from test_run import Silence, info, plan, trial

from bench.cluster import many
from bench.cluster.connect import Cluster
from bench.cluster.hosts import Commands, Known
from bench.cluster.many import ManyMachines, deal_blocks
from bench.cluster.one_server import HOST_LOST
from bench.plan import Plan
from bench.progress import Progress
from bench.record import TRIALS_FILE, Manifest, Record, Trial, read_run, write_manifest
from bench.run import Outcome

MACHINES = ["a", "b", "c"]
TRIALS = int(os.environ.get("IOBENCH_MANY_TRIALS", "600"))  # of no length at all; 10,000 take a minute or two
BLOCKS = [trial("good", connections, repeat) for repeat in (1, 2, 3) for connections in (2, 4)]


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
def test_every_repeat_is_whole_on_one_machine_and_machines_get_as_many_as_each_other(
    repeats: int, cases: int, machines: int
) -> None:
    planned = plan(*[trial(f"s{case}", 1, repeat) for repeat in range(repeats) for case in range(cases)])
    dealt = deal_blocks(planned, [f"m{number}" for number in range(machines)])
    assert sorted(one.id for trials in dealt.values() for one in trials) == sorted(one.id for one in planned.trials)
    for trials in dealt.values():
        assert {*Counter(one.repeat for one in trials).values()} <= {cases}
        assert trials == sorted(trials, key=lambda one: one.repeat)
    sizes = [len(trials) for trials in dealt.values()]
    assert max(sizes) - min(sizes) <= cases


def test_a_repeat_that_was_begun_stays_on_its_machine() -> None:
    done = [Record(id=BLOCKS[0].id, trial=BLOCKS[0], status="ok", server_host="c")]
    dealt = deal_blocks(plan(*BLOCKS), MACHINES, done)
    assert {machine: {one.repeat for one in trials} for machine, trials in dealt.items()} == {
        "a": {2},
        "b": {3},
        "c": {1},
    }


def test_a_repeat_whose_machine_is_not_there_any_more_goes_to_another_one() -> None:
    done = [Record(id=BLOCKS[0].id, trial=BLOCKS[0], status="ok", server_host="gone")]
    assert deal_blocks(plan(*BLOCKS), ["a"], done) == {"a": BLOCKS}


# --- trials


def test_every_strategy_is_measured_on_every_machine_and_each_record_tells_where(
    cluster: Cluster, folder: Path
) -> None:
    outcome = carry_out(cluster, plan(*BLOCKS), folder)
    records = read_run(folder).records
    assert (outcome.ok, outcome.trials) == (6, 6)
    assert sorted(record.order for record in records) == [1, 2, 3, 4, 5, 6]
    assert {(record.trial.repeat, record.server_host) for record in records} == {(1, "a"), (2, "b"), (3, "c")}
    by_machine = {name: [one.trial for one in records if one.server_host == name] for name in MACHINES}
    assert by_machine == {"a": BLOCKS[0:2], "b": BLOCKS[2:4], "c": BLOCKS[4:6]}


def test_a_strategy_that_one_machine_can_not_run_is_unavailable_there_alone(cluster: Cluster, folder: Path) -> None:
    carry_out(cluster, plan(*BLOCKS), folder, there=known("b"))
    statuses = {(record.server_host, record.status) for record in read_run(folder).records}
    assert statuses == {("a", "ok"), ("b", "unavailable"), ("c", "ok")}


def test_what_is_done_is_not_run_again(cluster: Cluster, folder: Path) -> None:
    carry_out(cluster, plan(*BLOCKS[:3]), folder)
    carry_out(cluster, plan(*BLOCKS), folder)
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
    carry_out(cluster, plan(*BLOCKS), folder, progress)
    records = read_run(folder).records
    assert {(record.server_host, record.trial.repeat) for record in records} == {("a", 1), ("b", 2), ("c", 3)}
    assert len(records) == len((folder / TRIALS_FILE).read_text().splitlines()) == 6
    assert ("b", "was lost; its trials wait") in progress.told
    assert ("b", "is back") in progress.told


def test_trials_of_a_machine_that_stays_away_are_unavailable(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "SERVER_PATIENCE_S", -1.0)
    progress = Triggers({("b", "good tcp x2"): killing(cluster, "b")})
    carry_out(cluster, plan(*BLOCKS[2:3]), folder, progress, there={"b": known()["b"]})
    (record,) = read_run(folder).records
    assert (record.status, record.server_host, record.flags) == ("unavailable", "b", [HOST_LOST])
    assert record.reason == "machine b was gone, and stayed away"


def test_a_signal_ends_the_run_and_keeps_what_there_is(cluster: Cluster, folder: Path) -> None:
    progress = Triggers({("a", "good tcp x4"): lambda: os.kill(os.getpid(), signal.SIGTERM)})
    outcome = carry_out(cluster, plan(*BLOCKS[:2]), folder, progress)
    assert outcome.interrupted == signal.SIGTERM
    assert [one.trial.connections for one in read_run(folder).records] == [2]


class Trivial:
    """A machine whose trials take no time and bring the records of real ones back."""

    def __init__(self, plan: Plan, threads: int, commands: Commands) -> None:
        self.found = record(rate_hz=1e5)
        assert self.found.load is not None
        self.found.load.interval_hdrs = [self.found.load.service_hdr] * 100

    def warm_up(self) -> None: ...

    def run(self, trial: Trial, planned_hz: float) -> Record:
        return msgspec.structs.replace(self.found, id=trial.id, trial=trial)


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
