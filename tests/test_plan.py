"""Which trials follow from a sweep, and in which order."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.plan import Plan, expected_s, make_plan
from bench.record import StrategyInfo
from bench.sweep import Sweep, load_sweep


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
    repeats=st.integers(1, 4),
    seed=st.integers(0, 2**62 - 1),
)


def reasons_to_leave_out(plan: Plan) -> str:
    return "; ".join(plan.notes)


def test_the_default_sweep_measures_every_strategy_at_every_number_of_connections() -> None:
    plan = make_plan(load_sweep("quick"), list_strategies()[0])
    trials = Counter(trial.strategy for trial in plan.trials)
    assert trials["iterative"] == 5
    assert {number for strategy, number in trials.items() if strategy != "iterative"} == {15}
    assert len(trials) >= 9
    assert {trial.connections for trial in plan.trials} == {1, 16, 128}


def test_the_nine_strategies_take_less_than_three_minutes() -> None:
    nine = [info(f"strategy_{number}") for number in range(8)] + [info("iterative", concurrent=False)]
    plan = make_plan(load_sweep("quick"), nine)
    assert len(plan.trials) == 125
    assert expected_s(plan.runnable) < 180


@given(sweeps)
def test_the_same_seed_gives_the_same_trials_in_the_same_order(sweep: Sweep) -> None:
    assert make_plan(sweep, KNOWN) == make_plan(sweep, list(reversed(KNOWN)))


@given(sweeps, st.integers(0, 2**62 - 1))
def test_another_seed_gives_the_same_points_in_another_order(sweep: Sweep, seed: int) -> None:
    def points(plan: Plan) -> Counter[tuple[object, ...]]:
        return Counter(
            (one.strategy, one.transport, one.connections, one.message_bytes, one.repeat) for one in plan.trials
        )

    other = make_plan(msgspec.structs.replace(sweep, seed=seed), KNOWN)
    assert points(make_plan(sweep, KNOWN)) == points(other)


@given(sweeps)
def test_each_repeat_is_a_block_that_holds_every_point_once(sweep: Sweep) -> None:
    trials = make_plan(sweep, KNOWN).trials
    size = len(trials) // sweep.repeats
    blocks = [trials[start : start + size] for start in range(0, len(trials), size)]
    assert [{trial.repeat for trial in block} for block in blocks] == [{number + 1} for number in range(sweep.repeats)]
    points = [sorted((one.strategy, one.transport, one.connections, one.message_bytes) for one in b) for b in blocks]
    assert all(block == points[0] and len(set(block)) == len(block) for block in points)


@given(sweeps)
def test_every_trial_has_an_id_of_its_own(sweep: Sweep) -> None:
    trials = make_plan(sweep, KNOWN).trials
    assert len({trial.id for trial in trials}) == len(trials)


def test_blocks_are_shuffled_differently() -> None:
    trials = make_plan(load_sweep("quick"), [info(f"strategy_{number}") for number in range(9)]).trials
    orders = [[(one.strategy, one.connections) for one in trials if one.repeat == repeat] for repeat in range(1, 6)]
    assert len({tuple(order) for order in orders}) == 5


def test_all_strategies_get_the_same_load_in_a_repeat_and_another_one_in_the_next() -> None:
    trials = make_plan(Sweep(name="any", repeats=3, seed=7), KNOWN).trials
    assert {(trial.repeat, trial.seed) for trial in trials} == {(1, 8), (2, 9), (3, 10)}


@pytest.mark.parametrize("connections", [(1, 16), (16,)])
def test_a_strategy_that_serves_one_connection_at_a_time_is_planned_at_one_only(connections: tuple[int, ...]) -> None:
    plan = make_plan(Sweep(name="any", strategies=("one_by_one",), connections=connections, repeats=2), KNOWN)
    assert [trial.connections for trial in plan.trials] == [1, 1]
    assert "one_by_one serves one connection at a time: planned at 1 connection only" in reasons_to_leave_out(plan)


def test_a_transport_that_a_strategy_does_not_serve_is_left_out_and_that_is_said() -> None:
    plan = make_plan(Sweep(name="any", transports=("tcp", "pipe"), connections=(4,)), KNOWN)
    assert {trial.transport for trial in plan.trials if trial.strategy == "sockets_only"} == {"tcp"}
    assert {trial.transport for trial in plan.trials if trial.strategy == "epoll"} == {"tcp", "pipe"}
    assert "sockets_only does not serve pipe: left out" in reasons_to_leave_out(plan)


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
