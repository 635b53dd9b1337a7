"""One setting of a round: all strategies are up, take turns, and get a record each; a fault is one strategy's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import peers
import psutil
import pytest
from peers import peer
from test_run import FAKE_LOAD, FAKE_SERVER, info

from bench import rounds, turns
from bench.catalogue import list_strategies
from bench.disturbance import disturbance
from bench.events import Interrupted, signals_interrupt_waits
from bench.external import read_externals
from bench.external_server import start_external
from bench.load_pool import LoadPool
from bench.probes.process import process_cpu_ns
from bench.probes.quota import ThrottleProbe
from bench.processes import Guard
from bench.record import Machine, Record, Trial
from bench.rounds import measure_setting
from bench.server import RunningServer, ServerFailedError, start_server
from bench.turn_length import length
from bench.turns import Side

CPUS = sorted(os.sched_getaffinity(0))[:1]


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    made = Guard()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pool(guard: Guard) -> Iterator[LoadPool]:
    """The real load generator, warm."""
    made = LoadPool(guard, sorted(os.sched_getaffinity(0))[-1:])
    yield made
    made.end()


@pytest.fixture(scope="module")
def start(guard: Guard) -> Callable[[Trial], RunningServer]:
    """The real servers."""
    known = {one.name: one for one in list_strategies()[0]}
    return lambda trial: start_server(known[trial.strategy], trial.transport, CPUS, guard)


@pytest.fixture(autouse=True)
def nothing_left_behind(pool: LoadPool) -> Iterator[None]:
    """After every test only the load generator is alive."""
    before = {process.pid for process in psutil.Process().children(recursive=True)} | {pool.worker().child.pid}
    yield
    after = {process.pid for process in psutil.Process().children(recursive=True)}
    assert after <= before


def trial(strategy: str = "epoll_lt", **changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "transport": "tcp",
        "connections": 3,
        "message_bytes": 64,
        "workload": "closed",
        "warmup_s": 0.0,
        "duration_s": 0.1,
        "repeat": 1,
        "seed": 2,
    }
    return Trial(strategy=strategy, **(fields | changes))


def of_strategies(*names: str, **changes: Any) -> list[Trial]:
    return [trial(name, **changes) for name in names]


def check(record: Record) -> None:
    """A record of turns reads like that of a whole trial."""
    assert (record.status, record.reason) == ("ok", "")
    assert record.load is not None and record.server is not None and record.timing is not None
    kept = [turn for turn in record.turns if not turn.disturbed] or record.turns
    assert record.load.completed == sum(turn.completed for turn in kept) > 0
    assert record.load.closed_ns - record.load.opened_ns == sum(turn.closed_ns - turn.opened_ns for turn in kept)
    assert record.load.planned == record.load.completed + record.load.in_flight + record.load.unsent
    assert sum(record.load.intervals) == record.load.completed
    assert record.server.metrics["cpu_ns"] > 0
    assert record.server.metrics["threads"] >= 1
    assert record.server.exit_code == 0


NAMES = ("epoll_lt", "thread_per_connection", "nonblocking_polling")


def test_every_strategy_has_its_record_and_all_its_turns(
    start: Callable[[Trial], RunningServer], pool: LoadPool
) -> None:
    trials = of_strategies(*NAMES)
    records = measure_setting(trials, start, pool, planned_hz={})
    assert [record.id for record in records] == [one.id for one in trials]
    for record in records:
        check(record)
        assert len(record.turns) == length(record.trial).turns == 4


def test_turns_of_all_lie_between_each_other(start: Callable[[Trial], RunningServer], pool: LoadPool) -> None:
    records = measure_setting(of_strategies(*NAMES), start, pool, planned_hz={})
    taken = sorted(
        (turn.opened_ns, turn.closed_ns, record.trial.strategy) for record in records for turn in record.turns
    )
    assert all(one[1] <= other[0] for one, other in pairwise(taken))
    cycles = [{name for _, _, name in taken[first : first + len(NAMES)]} for first in range(0, len(taken), len(NAMES))]
    assert cycles == [set(NAMES)] * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": "burst"},
        {"workload": "churn"},
        {"workload": "idle", "silent": 4},
        {"workload": "stream", "depth": 3, "message_bytes": 4096},
        {"transport": "unix"},
        {"transport": "pipe"},
        {"threads": 2},
        {"sizes": ((10, 1.0), (1000, 1.0))},
    ],
)
def test_every_load_can_be_put_on_in_turns(
    changes: dict[str, Any], start: Callable[[Trial], RunningServer], pool: LoadPool
) -> None:
    for record in measure_setting(of_strategies("epoll_lt", "epoll_et", **changes), start, pool, planned_hz={}):
        check(record)


def test_the_rate_of_an_open_loop_is_kept_over_all_turns(
    start: Callable[[Trial], RunningServer], pool: LoadPool
) -> None:
    trials = of_strategies("epoll_lt", "asyncio_streams", workload="open", planned_hz=2000.0, duration_s=0.4)
    for record in measure_setting(trials, start, pool, planned_hz={one.id: 2000.0 for one in trials}):
        check(record)
        assert record.load is not None
        assert record.load.offered_hz == pytest.approx(2000, rel=0.05)
        assert record.load.response_hdr


def test_who_is_not_on_gets_no_cpu_time(
    start: Callable[[Trial], RunningServer], pool: LoadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[Side] = []
    ran_ns: list[int] = []
    enter, take = turns.enter, turns.take_turn

    def entered(side: Side) -> None:
        enter(side)
        sides.append(side)

    def taken(side: Side, *arguments: Any) -> None:
        others = [one.server.pid for one in sides if one is not side and one.server is not None]
        before = sum(map(process_cpu_ns, others))
        take(side, *arguments)
        ran_ns.append(sum(map(process_cpu_ns, others)) - before)

    monkeypatch.setattr(rounds, "enter", entered)
    monkeypatch.setattr(rounds, "take_turn", taken)
    trials = of_strategies("epoll_lt", "nonblocking_polling", duration_s=0.2)
    measure_setting(trials, start, pool, planned_hz={})
    assert len(ran_ns) == 2 * length(trials[0]).turns
    assert sum(ran_ns) < 0.1 * 0.2e9  # one that polls would take all of the other's 0.2 s


# --- faults


def fault_of(records: Sequence[Record], bad: str = "bad") -> str:
    """The reason of the one that failed; all others are as they should be."""
    for record in records:
        if record.trial.strategy != bad:
            check(record)
    (record,) = (one for one in records if one.trial.strategy == bad)
    assert record.status == "failed"
    return record.reason


def test_a_server_that_can_not_be_started_fails_its_own_trial_alone(
    start: Callable[[Trial], RunningServer], pool: LoadPool
) -> None:
    def starting(one: Trial) -> RunningServer:
        if one.strategy == "bad":
            raise ServerFailedError("it has no legs")
        return start(one)

    records = measure_setting(of_strategies("epoll_lt", "bad", "epoll_et"), starting, pool, planned_hz={})
    assert fault_of(records) == "it has no legs"


def test_a_server_that_dies_in_its_turn_fails_its_own_trial_alone(
    start: Callable[[Trial], RunningServer], pool: LoadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = turns.take_turn

    def killing(side: Side, *arguments: Any) -> None:
        if side.trial.strategy == "epoll_et" and len(side.taken) == 2:
            assert side.server is not None
            os.kill(side.server.pid, signal.SIGKILL)
        take(side, *arguments)

    monkeypatch.setattr(rounds, "take_turn", killing)
    records = measure_setting(of_strategies("epoll_lt", "epoll_et", "poll"), start, pool, planned_hz={})
    assert "the server ended in mid-trial, killed by signal 9" in fault_of(records, "epoll_et")


@pytest.mark.parametrize(
    ("fault", "reason"), [(peers.flip_first, "no connection was left"), (peers.stall, "no message was completed")]
)
def test_a_server_that_echoes_badly_fails_its_own_trial_alone(
    fault: peers.Fault, reason: str, start: Callable[[Trial], RunningServer], pool: LoadPool, guard: Guard
) -> None:
    with peer(fault=fault, at=0, on=(2, 3, 4)) as server:  # those before only ask whether it is there, and ready
        (external,) = read_externals([{"name": "bad", "address": server.address}], None)

        def starting(one: Trial) -> RunningServer:
            return start_external(external, CPUS, guard) if one.strategy == "bad" else start(one)

        records = measure_setting(of_strategies("epoll_lt", "bad", "epoll_et"), starting, pool, planned_hz={})
    assert reason in fault_of(records)


def test_ctrl_c_ends_every_server_of_the_round(
    start: Callable[[Trial], RunningServer], pool: LoadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = turns.take_turn

    def interrupted(side: Side, *arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        take(side, *arguments)

    monkeypatch.setattr(rounds, "take_turn", interrupted)
    with signals_interrupt_waits(), pytest.raises(Interrupted):
        measure_setting(of_strategies(*NAMES), start, pool, planned_hz={})


def test_a_load_generator_that_dies_is_told_in_every_record_and_replaced_for_the_next_setting(guard: Guard) -> None:
    fake = LoadPool(guard, CPUS, [*FAKE_LOAD, "--fault", "die@3"])

    def starting(one: Trial) -> RunningServer:
        return start_server(info(one.strategy), "tcp", CPUS, guard, FAKE_SERVER)

    try:
        trials = of_strategies("good", "also_good")
        records = measure_setting(trials, starting, fake, planned_hz={})
        reasons = sorted(record.reason for record in records)
        assert "the load generator broke down in the turn of" in reasons[0]
        assert "the load generator died, exit code 9" in reasons[1]
        assert fake.running is not None and not fake.running.usable
        first = fake.running.child.pid
        assert fake.worker().child.pid != first
    finally:
        fake.end()


# --- disturbance


def machine(**figures: float) -> Machine:
    quiet: dict[str, Any] = {
        "server_idle_ns": 1e6,
        "server_steal_ns": 0.0,
        "load_cpus": [1],
        "load_idle_ns": 1e6,
        "load_steal_ns": 0.0,
        "load_wait_ns": 0.0,
    }
    return Machine(**(quiet | figures))


WINDOW_NS = 100_000_000
LONG_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("metrics", "figures", "reason"),
    [
        ({"cpu_ns": 9e7, "thread_demand_ns": 9.5e7}, {}, ""),
        ({"cpu_ns": 5e7, "thread_demand_ns": 9e7}, {}, "waited for during 40 %"),
        ({"cpu_ns": 5e7, "thread_demand_ns": 9e7}, {"server_idle_ns": 5e7}, ""),  # nobody else ran
        ({"cpu_ns": 9e7}, {"load_wait_ns": 2e7}, "waited for during 20 %"),
        ({"cpu_ns": 9e7}, {"load_wait_ns": 2e7, "harness_ns": 9e7}, ""),  # it waited for our own readings
        ({"cpu_ns": 9e7}, {"server_steal_ns": 1e7}, "the hypervisor took 10 %"),
        ({"cpu_ns": 9e7}, {"load_steal_ns": 3e7}, "the hypervisor took 30 %"),
        (
            {"cpu_ns": 9e7},
            {"throttled_periods": 1, "throttled_ns": 8e7},
            "a CPU quota stopped it: used up before its time",
        ),
    ],
)
def test_what_others_took_of_a_window_disturbs_it(
    metrics: dict[str, float], figures: dict[str, float], reason: str
) -> None:
    found = disturbance(WINDOW_NS, [0], metrics, 1e7, machine(**figures))
    assert reason in found
    assert bool(found) == bool(reason)


def test_of_a_long_window_one_stolen_tick_may_have_been_nearly_full_before() -> None:
    assert disturbance(LONG_NS, [0], {"cpu_ns": 9e8}, 1e7, machine(server_steal_ns=1e7)) == ""
    assert "took 2 %" in disturbance(LONG_NS, [0], {"cpu_ns": 9e8}, 1e7, machine(server_steal_ns=3e7))


def test_disturbed_turns_are_left_out_of_the_figures_and_told(
    start: Callable[[Trial], RunningServer], pool: LoadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter(["others ran"] * 2 + [""] * 6)
    monkeypatch.setattr(turns, "why_disturbed", lambda *_: next(verdicts))
    for record in measure_setting(of_strategies("epoll_lt", "poll"), start, pool, planned_hz={}):
        check(record)
        assert record.load is not None
        assert sum(turn.disturbed == "others ran" for turn in record.turns) >= 1
        assert record.load.completed < sum(turn.completed for turn in record.turns)
        assert "disturbed" not in record.flags


def test_a_trial_most_of_whose_turns_were_disturbed_is_flagged(
    start: Callable[[Trial], RunningServer], pool: LoadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "why_disturbed", lambda *_: "others ran")
    for record in measure_setting(of_strategies("epoll_lt", "poll"), start, pool, planned_hz={}):
        check(record)
        assert "disturbed" in record.flags


def test_a_trial_most_of_whose_turns_a_cpu_quota_stopped_is_flagged_with_that_cause(
    start: Callable[[Trial], RunningServer], pool: LoadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = ThrottleProbe.stop
    monkeypatch.setattr(ThrottleProbe, "stop", lambda probe: stopped(probe)._replace(periods=1))
    (record,) = measure_setting(of_strategies("epoll_lt"), start, pool, planned_hz={})
    assert all(turn.disturbed.startswith("a CPU quota stopped it") for turn in record.turns)
    assert {"disturbed", "throttled"} <= {*record.flags}
    assert record.machine is not None and record.machine.throttled_periods == len(record.turns)
