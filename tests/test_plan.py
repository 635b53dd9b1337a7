"""Which trials follow from a sweep, and in which order."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.plan import START_S, Plan, capacity_trial, expected_s, make_plan
from bench.record import StrategyInfo, Trial
from bench.slo import MAX_STEPS
from bench.sweep import Mix, Sweep, load_sweep
from bench.workloads import KINDS, Burst, Churn, Closed, Idle, Open, Slow, Stream, describe


def info(name: str, **facts: object) -> StrategyInfo:
    plain: dict[str, object] = {
        "name": name,
        "module": name,
        "summary": "",
        "model": "multiplexing",
        "transports": ["tcp", "unix", "pipe"],
        "concurrent": True,
        "available": True,
        "reason": "",
        "doc": "",
    }
    return msgspec.convert(plain | facts, StrategyInfo)


KNOWN = [info("epoll"), info("one_by_one", concurrent=False), info("sockets_only", transports=["tcp", "unix"])]
sweeps = st.builds(
    Sweep,
    name=st.just("any"),
    transports=st.sampled_from([("tcp",), ("unix", "tcp"), ("tcp", "unix", "pipe")]),
    connections=st.lists(st.integers(1, 500), min_size=1, max_size=4, unique=True).map(tuple),
    message_bytes=st.lists(st.integers(1, 5000), min_size=1, max_size=3, unique=True).map(tuple),
    workloads=st.lists(
        st.sampled_from([Closed(), Open(rate_hz=(9.0,)), Open(load=(0.5, 1.1)), Churn(), Idle(silent=(5,)), Burst()]),
        min_size=1,
        max_size=3,
        unique=True,
    ).map(tuple),
    threads=st.sampled_from([(1,), (1, 2)]),
    repeats=st.integers(1, 4),
    seed=st.integers(0, 2**62 - 1),
)


def reasons_to_leave_out(plan: Plan) -> str:
    return "; ".join(plan.notes)


def test_the_default_sweep_measures_every_strategy_at_every_number_of_connections() -> None:
    plan = make_plan(load_sweep("quick"), list_strategies()[0])
    trials = Counter(trial.strategy for trial in plan.round(1))
    assert trials["iterative"] == 1
    assert {number for strategy, number in trials.items() if strategy != "iterative"} == {3}
    assert len(trials) == 9
    assert {trial.connections for trial in plan.trials} == {1, 16, 128}


def test_the_nine_strategies_take_less_than_three_minutes() -> None:
    nine = [info(f"strategy_{number}") for number in range(8)] + [info("iterative", concurrent=False)]
    plan = make_plan(msgspec.structs.replace(load_sweep("quick"), strategies="all"), nine)
    assert len(plan.round(1)) == 25
    assert plan.budget_s + START_S < 180
    assert plan.budget_s > 10 * (expected_s(plan.round(1)) - START_S)


def test_one_strategy_of_each_model_is_measured_on_every_transport() -> None:
    known = {found.name: found for found in list_strategies()[0]}
    sweep = load_sweep("models")
    chosen = [known[name] for name in sweep.strategies]
    assert {found.model for found in chosen} == {found.model for found in known.values()}
    assert all(set(found.transports) == {"tcp", "unix", "pipe"} for found in chosen)
    assert sweep.transports == ("tcp", "unix", "pipe")


def test_everything_is_every_strategy_on_every_transport_that_it_serves_under_every_workload() -> None:
    known = [found for found in list_strategies()[0] if found.available]
    trials = make_plan(load_sweep("everything"), known).trials
    assert {(one.strategy, one.transport) for one in trials} == {
        (found.name, transport) for found in known for transport in found.transports
    }
    assert {one.workload for one in trials} == set(KINDS)


@settings(deadline=None)
@given(sweeps)
def test_the_same_seed_gives_the_same_trials_in_the_same_order(sweep: Sweep) -> None:
    assert make_plan(sweep, KNOWN) == make_plan(sweep, list(reversed(KNOWN)))


@settings(deadline=None)
@given(sweeps, st.integers(0, 2**62 - 1))
def test_another_seed_gives_the_same_points_in_another_order(sweep: Sweep, seed: int) -> None:
    def points(plan: Plan) -> Counter[tuple[object, ...]]:
        return Counter(msgspec.structs.replace(one, seed=0) for one in plan.trials)

    other = make_plan(msgspec.structs.replace(sweep, seed=seed), KNOWN)
    assert points(make_plan(sweep, KNOWN)) == points(other)


@settings(deadline=None)
@given(sweeps)
def test_each_repeat_is_a_block_that_holds_every_point_once(sweep: Sweep) -> None:
    trials = make_plan(sweep, KNOWN).trials
    size = len(trials) // sweep.repeats
    blocks = [trials[start : start + size] for start in range(0, len(trials), size)]
    assert [{trial.repeat for trial in block} for block in blocks] == [{number + 1} for number in range(sweep.repeats)]
    points = [[msgspec.structs.replace(one, repeat=0, seed=0) for one in block] for block in blocks]
    assert all(set(block) == set(points[0]) and len(set(block)) == len(block) for block in points)


@settings(deadline=None)
@given(sweeps)
def test_every_trial_has_an_id_of_its_own(sweep: Sweep) -> None:
    trials = make_plan(sweep, KNOWN).trials
    assert len({trial.id for trial in trials}) == len(trials)


def test_blocks_are_shuffled_differently() -> None:
    plan = make_plan(load_sweep("quick"), list_strategies()[0])
    orders = [[(one.strategy, one.connections) for one in plan.round(number)] for number in range(1, 6)]
    assert len({tuple(order) for order in orders}) == 5


def test_all_strategies_get_the_same_load_in_a_repeat_and_another_one_in_the_next() -> None:
    trials = make_plan(Sweep(name="any", repeats=3, seed=7), KNOWN).trials
    assert {(trial.repeat, trial.seed) for trial in trials} == {(1, 8), (2, 9), (3, 10)}


def test_what_the_largest_seed_plans_can_be_read_back_from_a_run() -> None:
    trials = make_plan(Sweep(name="any", repeats=3, seed=2**62 - 1), KNOWN).trials
    assert msgspec.json.decode(msgspec.json.encode(trials), type=list[Trial]) == list(trials)


@pytest.mark.parametrize("connections", [(1, 16), (16,)])
def test_a_strategy_that_serves_one_connection_at_a_time_is_planned_at_one_only(connections: tuple[int, ...]) -> None:
    plan = make_plan(Sweep(name="any", strategies=("one_by_one",), connections=connections, repeats=2), KNOWN)
    assert [trial.connections for trial in plan.trials] == [1, 1]
    assert "one_by_one serves one connection at a time: planned at 1 connection only" in reasons_to_leave_out(plan)


def test_a_transport_that_a_strategy_does_not_serve_is_left_out_and_that_is_said() -> None:
    plan = make_plan(Sweep(name="any", transports=("tcp", "pipe"), connections=(4,)), KNOWN)
    assert {trial.transport for trial in plan.trials if trial.strategy == "sockets_only"} == {"tcp"}
    assert {trial.transport for trial in plan.trials if trial.strategy == "epoll"} == {"tcp", "pipe"}
    assert "pipe left out: not served by sockets_only" in reasons_to_leave_out(plan)


def test_trials_of_an_unavailable_strategy_are_planned_but_not_runnable() -> None:
    plan = make_plan(
        Sweep(name="any", connections=(4,)), [info("there"), info("missing", available=False, reason="ENOSYS")]
    )
    assert len(plan.trials) == 10
    assert {trial.strategy for trial in plan.runnable} == {"there"}


def test_an_unknown_strategy_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        BadInputError, match=r"There is no strategy 'epol' \(did you mean 'epoll'\?\); there are: epoll, "
    ):
        make_plan(Sweep(name="any", strategies=("epol",)), KNOWN)


def test_a_sweep_with_no_available_strategy_is_refused_with_the_reasons() -> None:
    known = [info("uring", available=False, reason="ENOSYS: no io_uring")]
    with pytest.raises(BadInputError, match=r"none of its strategies can run here \(uring: ENOSYS: no io_uring\)"):
        make_plan(Sweep(name="any"), known)


def test_a_sweep_whose_strategies_serve_none_of_its_transports_is_refused() -> None:
    with pytest.raises(BadInputError, match="none of its strategies serves pipe"):
        make_plan(Sweep(name="any", strategies=("sockets_only",), transports=("pipe",)), KNOWN)


# --- workloads


def of(strategy: str, sweep: Sweep) -> list[Trial]:
    return [trial for trial in make_plan(sweep, KNOWN).trials if trial.strategy == strategy]


@settings(deadline=None)
@given(sweeps)
def test_a_closed_loop_comes_before_the_fractions_of_it_in_its_block(sweep: Sweep) -> None:
    trials = make_plan(sweep, KNOWN).trials
    place = {trial: number for number, trial in enumerate(trials)}
    for trial in trials:
        capacity = capacity_trial(trial)
        if capacity is not None:
            assert (capacity.workload, capacity.load_fraction, capacity.repeat) == ("closed", 0.0, trial.repeat)
            assert place[capacity] < place[trial]


def test_a_closed_loop_that_the_sweep_measures_anyway_is_not_measured_twice() -> None:
    sweep = Sweep(name="any", connections=(4,), repeats=1, workloads=(Closed(), Open(load=(0.5, 0.9))))
    assert Counter(trial.workload for trial in of("epoll", sweep)) == {"closed": 1, "open": 2}
    without = msgspec.structs.replace(sweep, workloads=(Open(load=(0.5, 0.9)),))
    assert set(of("epoll", without)) == set(of("epoll", sweep))


def test_a_rate_in_messages_a_second_needs_no_closed_loop() -> None:
    sweep = Sweep(name="any", connections=(4,), repeats=1, workloads=(Open(rate_hz=(1000.0,)),))
    (trial,) = of("epoll", sweep)
    assert (trial.workload, trial.planned_hz, capacity_trial(trial)) == ("open", 1000.0, None)


def test_one_at_a_time_is_planned_under_churn_at_any_number_of_connections() -> None:
    sweep = Sweep(name="any", connections=(4, 16), repeats=1, workloads=(Closed(), Churn(), Idle(silent=(9,))))
    assert {(trial.workload, trial.connections) for trial in of("one_by_one", sweep)} == {
        ("closed", 1),
        ("churn", 4),
        ("churn", 16),
    }
    said = reasons_to_leave_out(make_plan(sweep, KNOWN))
    assert "one_by_one serves one connection at a time: no idle workload, the silent ones would block it" in said


def test_idle_can_have_its_own_numbers_of_connections_in_total_whatever_those_of_the_sweep() -> None:
    idle = Idle(active=(1, 100), total=(100, 1000))
    sweep = Sweep(name="any", connections=(4, 16), repeats=1, workloads=(Closed(), idle))
    trials = of("epoll", sweep)
    assert sorted((trial.connections, trial.silent) for trial in trials if trial.workload == "idle") == [
        (1, 99),
        (1, 999),
        (100, 0),
        (100, 900),
    ]
    assert sorted(trial.connections for trial in trials if trial.workload == "closed") == [4, 16]


def test_more_load_threads_than_connections_are_left_out_and_that_is_said() -> None:
    plan = make_plan(Sweep(name="any", strategies=("epoll",), connections=(1, 4), threads=(1, 2), repeats=1), KNOWN)
    assert {(trial.connections, trial.threads) for trial in plan.trials} == {(1, 1), (4, 1), (4, 2)}
    assert "epoll: 2 load threads left out where there are fewer connections (1 points)" in reasons_to_leave_out(plan)


def test_nothing_left_to_run_is_refused_with_the_reason() -> None:
    sweep = Sweep(name="any", strategies=("one_by_one",), workloads=(Idle(silent=(9,)),))
    with pytest.raises(BadInputError, match="nothing is left of it: one_by_one serves one connection at a time"):
        make_plan(sweep, KNOWN)


def test_a_mix_of_sizes_is_recorded_with_its_mean() -> None:
    sweep = Sweep(name="any", connections=(4,), repeats=1, message_bytes=(Mix(sizes=(64, 4096), weights=(9, 1)),))
    (trial,) = of("epoll", sweep)
    assert (trial.message_bytes, trial.sizes) == (467, ((64, 9.0), (4096, 1.0)))


def test_a_search_is_planned_as_the_closed_loop_that_it_begins_with() -> None:
    plan = make_plan(Sweep(name="any", connections=(4,), repeats=1, slo="p99<5ms"), KNOWN)
    assert {(trial.workload, trial.connections) for trial in plan.trials} == {("closed", 1), ("closed", 4)}
    assert (plan.slo, plan.at_most) == ("p99<5ms", len(plan.trials) * (1 + MAX_STEPS))
    assert expected_s(plan.trials, plan.slo) > expected_s(plan.trials)


def test_connections_silent_ones_too_take_time_to_open_and_to_close() -> None:
    few, *many = (
        Trial(
            strategy="epoll_lt",
            transport="tcp",
            connections=connections,
            silent=silent,
            message_bytes=64,
            workload="closed",
            warmup_s=0.5,
            duration_s=1.0,
            repeat=0,
            seed=1,
        )
        for connections, silent in ((1, 0), (10_000, 0), (1, 9_999))
    )
    assert all(1 < expected_s([trial]) - expected_s([few]) < 10 for trial in many)


def test_the_sweep_of_load_curves_takes_a_few_minutes() -> None:
    plan = make_plan(load_sweep("load"), list_strategies()[0])
    fractions = sorted({trial.load_fraction for trial in plan.trials})
    assert fractions[0] == 0.0 and fractions[1] == 0.1 and fractions[-1] == 1.1
    assert {trial.arrivals for trial in plan.trials if trial.load_fraction} == {"poisson"}
    assert expected_s(plan.runnable) < 240


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        (Closed(), "closed"),
        (Closed(depth=(4,)), "closed depth 4"),
        (Open(rate_hz=(12500.0,), arrivals=("poisson",), cap=(8,)), "open 12,500/s poisson cap 8"),
        (Open(rate_hz=(0.5,)), "open 0.5/s"),
        (Open(load=(0.9,)), "open 0.9 of closed"),
        (Idle(silent=(1000,)), "idle beside 1,000 silent"),
        (Slow(trickle_hz=(50.0,), trickle_bytes=(2,)), "slow 2 B a time 50 times/s"),
        (Stream(depth=(4,)), "stream depth 4"),
    ],
)
def test_a_workload_is_told_in_a_few_words(workload: object, said: str) -> None:
    sweep = Sweep(name="any", connections=(4,), repeats=1, workloads=(workload,))  # type: ignore[arg-type]
    assert said in {describe(trial) for trial in of("epoll", sweep)}
