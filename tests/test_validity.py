"""What kept a trial from going faster, and which flags it gets: rules with known answers, on records made up for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.load import Measured
from bench.record import Load, Machine, Network, Server, Trial, Turn
from bench.trial import NOTHING_COMPLETED, load_faults
from bench.validity import (
    bottleneck,
    client_share,
    drifts,
    flags,
    lagging,
    lost_ns,
    lower_bounds,
    out_of_step,
    quiet,
    standstill,
    trend_p,
    unsteady,
)

WINDOW_NS = 1_000_000_000
MS = 1_000_000


def histogram(*times_us: float) -> str:
    """The text of a histogram of some times."""
    made = HdrHistogram(1, 100_000_000_000, 3)
    for time_us in times_us:
        made.record_value(int(time_us * 1000))
    return str(made.encode().decode())


def load(**facts: Any) -> Load:
    usual: dict[str, Any] = {
        "opened_ns": 0,
        "closed_ns": WINDOW_NS,
        "connections": 16,
        "planned": 1000,
        "completed": 1000,
        "errors": {},
        "timed_out": 0,
        "unsent": 0,
        "in_flight": 0,
        "bytes_echoed": 0,
        "interval_ns": WINDOW_NS // 10,
        "intervals": [100] * 10,
        "service_hdr": "",
        "cpu_user_ns": 0,
        "cpu_system_ns": 0,
        "worker_busy": [0.3],
    }
    return Load(**usual | facts)


def server(cpu: float, *, cpus: Sequence[int] = (1,), demand: float = 0.0, **metrics: float) -> Server:
    """A server that used so much CPU time, and whose busiest thread ran or waited so long, as shares of the window."""
    return Server(
        pid=1,
        implementation="",
        version="",
        gil=True,
        cpus=list(cpus),
        opened_ns=0,
        closed_ns=WINDOW_NS,
        metrics={"cpu_ns": cpu * WINDOW_NS, "thread_demand_ns": demand * WINDOW_NS, **metrics},
        missing={},
        refused={},
    )


def machine(idle: float, steal: float = 0.0, load_idle: float = 1.0, load_wait: float | None = 0.0) -> Machine:
    """The same of the CPUs."""
    return Machine(
        server_idle_ns=idle * WINDOW_NS,
        server_steal_ns=steal * WINDOW_NS,
        load_cpus=[0],
        load_idle_ns=load_idle * WINDOW_NS,
        load_steal_ns=0.0,
        load_wait_ns=None if load_wait is None else load_wait * WINDOW_NS,
    )


def trial(**facts: Any) -> Trial:
    usual: dict[str, Any] = {
        "strategy": "epoll",
        "transport": "tcp",
        "connections": 16,
        "message_bytes": 64,
        "workload": "closed",
        "warmup_s": 0.2,
        "duration_s": 1.0,
        "repeat": 1,
        "seed": 1,
    }
    return Trial(**usual | facts)


# --- the bottleneck


@pytest.mark.parametrize(
    ("cpu", "cpus", "busy", "expected"),
    [
        (0.95, [0], [0.99], "server"),
        (0.949, [0], [0.80], "client"),
        (0.949, [0], [0.2, 0.81], "client"),
        (0.949, [0], [0.79], "latency"),
        (1.899, [0, 1], [0.1], "latency"),
        (1.9, [0, 1], [0.1], "server"),
        (1.0, [], [], "server"),
        (0.0, [0], [0.1], "latency"),
    ],
)
def test_the_bottleneck_is_the_server_then_the_client_then_latency(
    cpu: float, cpus: list[int], busy: list[float], expected: str
) -> None:
    assert bottleneck(load(worker_busy=busy), server(cpu, cpus=cpus)) == expected


def test_without_the_server_s_cpu_time_the_limit_is_not_known() -> None:
    unknown = server(0.5)
    unknown.metrics = {}
    assert bottleneck(load(worker_busy=[0.99]), unknown) == ""


def test_a_server_that_another_process_kept_from_its_cpu_is_the_limit_all_the_same() -> None:
    # It ran for 60 % of the window and waited for the CPU in the other 40 %: it never slept.
    assert bottleneck(load(), server(0.6, demand=1.0), machine(idle=0.0)) == "server"


def test_a_server_that_slept_is_not_the_limit_whoever_had_its_cpu_meanwhile() -> None:
    # Somebody else ran while it slept: it waited for 5 % only.
    assert bottleneck(load(), server(0.5, demand=0.55), machine(idle=0.0)) == "latency"


def test_the_wait_after_each_wake_up_with_nobody_else_there_is_not_lost_time() -> None:
    # Ten thousand wake-ups of 20 us each on a CPU that is idle otherwise.
    assert bottleneck(load(), server(0.77, demand=0.97), machine(idle=0.23)) == "latency"


@pytest.mark.parametrize(
    ("cpu", "demand", "idle", "expected"),
    [
        (0.97, 0.6, 0.03, "server"),  # they fill the CPU, none of them alone
        (0.66, 0.4, 0.34, "latency"),  # the CPU was idle for a third of the window
        (0.05, 0.08, 0.0, "latency"),  # others ran while all of them slept
        (0.60, 0.99, 0.0, "server"),  # one of them never slept, and others had 40 %
        (0.60, 0.70, 0.0, "latency"),  # how long they wanted the CPU between them isn't known, only that it was 70 %
    ],
)
def test_threads_that_wait_for_one_another_lose_no_time_to_others(
    cpu: float, demand: float, idle: float, expected: str
) -> None:
    assert bottleneck(load(), server(cpu, demand=demand, threads=129), machine(idle=idle)) == expected


def test_one_thread_can_use_one_cpu_only_however_many_it_is_allowed_on() -> None:
    assert bottleneck(load(), server(0.96, cpus=[1, 2], threads=1), machine(idle=1.04)) == "server"
    assert bottleneck(load(), server(0.96, cpus=[1, 2], threads=2), machine(idle=1.04)) == "latency"


def test_stolen_time_is_not_the_servers_idleness() -> None:
    assert bottleneck(load(), server(0.8), machine(idle=0.0, steal=0.2)) == "server"


def test_stolen_time_that_the_kernel_counts_as_the_servers_own_is_not_taken_off_twice() -> None:
    # It seems to have run for 70 %, of which 20 % were stolen; it slept for the other 30 %.
    assert bottleneck(load(), server(0.7), machine(idle=0.3, steal=0.2)) == "latency"


@settings(deadline=None)
@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 10))
def test_lost_time_is_never_negative_and_never_more_than_was_left_by_the_process(
    left: float, wanted: float, steal: float
) -> None:
    assert 0 <= lost_ns(left, wanted, steal) <= max(0, left)


def test_a_load_thread_that_was_kept_from_its_cpu_is_judged_by_what_it_was_left() -> None:
    starved = load(worker_busy=[0.5], cpu_user_ns=300 * MS, cpu_system_ns=200 * MS)
    assert client_share(starved, None) == 0.5
    assert client_share(starved, machine(idle=0.5, load_idle=0.0, load_wait=0.4)) == pytest.approx(0.5 / 0.6)
    assert bottleneck(starved, server(0.5), machine(idle=0.5, load_idle=0.0, load_wait=0.4)) == "client"
    assert client_share(starved, machine(idle=0.5, load_idle=0.0, load_wait=None)) == 0.5


def test_load_threads_that_have_a_core_each_are_judged_by_the_busiest() -> None:
    two = load(worker_busy=[0.1, 0.85], threads=2)
    assert bottleneck(two, server(0.5), machine(idle=0.5)) == "client"


def test_load_threads_that_share_a_core_are_judged_together() -> None:
    two = load(worker_busy=[0.45, 0.45], threads=2, cpu_user_ns=900 * MS)
    assert bottleneck(two, server(0.5), machine(idle=0.5, load_idle=0.1)) == "client"


# --- faults


def test_connections_that_were_never_answered_are_a_fault_of_the_trial() -> None:
    assert load_faults(trial(), Measured(load(mute=3), 0), {}, "") == ["3 of 16 connections had no echo in the window"]
    assert load_faults(trial(), Measured(load(), 0), {}, "") == []


def test_where_nothing_was_completed_that_is_the_whole_of_it() -> None:
    assert load_faults(trial(), Measured(load(completed=0, mute=16), 0), {}, "") == [NOTHING_COMPLETED]


# --- flags


def test_a_client_that_was_the_limit_is_flagged() -> None:
    assert flags(trial(), load(), "client") == ["client_bound"]
    assert flags(trial(), load(), "server") == []


def test_handshakes_that_were_dropped_while_connections_were_opened_are_flagged_on_tcp() -> None:
    dropped = Network(listen_overflows=3, listen_drops=3, request_queue_drops=0)
    assert flags(trial(), load(), "server", dropped) == ["syn_drops"]
    assert flags(trial(transport="unix"), load(), "server", dropped) == []
    assert flags(trial(), load(), "server", Network(listen_overflows=0, listen_drops=0, request_queue_drops=0)) == []


def planned(lag_us: Sequence[float], response_us: Sequence[float], **facts: Any) -> Load:
    return load(lag_hdr=histogram(*lag_us), response_hdr=histogram(*response_us), **facts)


@pytest.mark.parametrize(
    ("lag_us", "response_us", "expected"),
    [
        ([20] * 1000, [200] * 1000, False),
        ([20] * 985 + [99] * 15, [200] * 1000, False),  # below what a timer is late by anyway
        ([20] * 985 + [150] * 15, [200] * 1000, True),
        ([20] * 995 + [50_000] * 5, [200] * 995 + [50_200] * 5, False),  # a stall beyond the p99
        ([20] * 985 + [500] * 15, [10_000] * 1000, False),  # late, but a twentieth of the response
        ([20] * 985 + [500] * 15, [100] * 900 + [4000] * 100, True),
    ],
)
def test_a_schedule_lags_where_lateness_is_a_tenth_of_the_slowest_responses(
    lag_us: list[float], response_us: list[float], expected: bool
) -> None:
    assert lagging(trial(workload="open"), planned(lag_us, response_us)) is expected


def test_under_a_cap_messages_wait_on_purpose_and_no_schedule_lags() -> None:
    late = planned([5000] * 100, [6000] * 100)
    assert lagging(trial(workload="open", cap=8), late) is False
    assert lagging(trial(workload="open"), late) is True


def test_without_a_plan_no_schedule_lags() -> None:
    assert lagging(trial(), load(service_hdr=histogram(5.0))) is False


@pytest.mark.parametrize(
    ("completed", "in_flight", "unsent", "expected"),
    [
        (100_000, 0, 0, []),
        (100_000, 9, 0, []),  # 99.991 % are known
        (100_000, 11, 0, ["p99.99"]),
        (100_000, 50, 60, ["p99.9", "p99.99"]),
        (9000, 1000, 0, ["p99", "p99.9"]),  # p99.99 can't be told anyway
        (9000, 0, 1001, ["p90", "p99", "p99.9"]),
        (900, 1000, 0, ["p50", "p90", "p99"]),
    ],
)
def test_percentiles_above_what_was_answered_are_lower_bounds(
    completed: int, in_flight: int, unsent: int, expected: list[str]
) -> None:
    cut = load(completed=completed, in_flight=in_flight, unsent=unsent, response_hdr=histogram(1.0))
    assert lower_bounds(cut) == expected
    assert ("censored" in flags(trial(workload="open"), cut, "latency")) is bool(expected)


def test_what_a_closed_loop_has_in_flight_at_the_end_censors_nothing() -> None:
    assert lower_bounds(load(completed=900, in_flight=100)) == []


# --- drift


def test_the_chance_of_an_order_is_that_of_all_orders_with_as_strong_a_trend() -> None:
    for values in ([1, 2, 3, 4, 5], [2, 1, 3, 5, 4], [5, 1, 2, 4, 3]):
        strength = abs(agreement(values))
        as_strong = [abs(agreement(other)) >= strength for other in permutations(values)]
        assert trend_p(values) == pytest.approx(sum(as_strong) / len(as_strong))


def agreement(values: Sequence[float]) -> int:
    return sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])


def test_equal_values_have_no_trend() -> None:
    assert trend_p([3.0] * 8) == 1.0
    assert trend_p([]) == trend_p([1.0]) == 1.0


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12))
def test_a_chance_is_between_nothing_and_one_and_the_same_from_either_end(values: list[int]) -> None:
    assert 0 < trend_p(values) <= 1.0
    assert trend_p(values) == pytest.approx(trend_p(values[::-1]))


def test_chance_alone_is_taken_for_a_trend_in_one_series_of_a_hundred_at_most() -> None:
    source = random.Random(1)
    found = sum(trend_p([source.random() for _ in range(8)]) < 0.01 for _ in range(5000))
    assert found <= 50 + 3 * 50**0.5


def test_a_steady_rise_of_more_than_a_tenth_is_a_drift_a_smaller_one_and_noise_are_not() -> None:
    assert unsteady(load(intervals=[100, 102, 104, 106, 108, 110, 112, 114, 116, 118]))
    assert unsteady(load(intervals=[100, 97, 95, 92, 90, 88, 86, 84, 82, 80]))
    assert not unsteady(load(intervals=[100, 101, 102, 103, 104, 105, 106, 107, 108, 109]))
    assert not unsteady(load(intervals=[100, 60, 140, 80, 120, 95, 105, 70, 130, 100]))
    assert not unsteady(load(intervals=[0] * 10))


def test_a_shorter_last_interval_is_left_out() -> None:
    assert not unsteady(load(intervals=[100] * 9 + [1], closed_ns=int(0.91 * WINDOW_NS)))


def test_a_window_too_short_to_tell_is_not_called_unsteady() -> None:
    assert not unsteady(load(intervals=[1, 2, 3, 4], closed_ns=4 * WINDOW_NS // 10))


def test_where_sends_are_planned_the_response_times_tell() -> None:
    rising = [histogram(*[100 + 20 * step] * 50) for step in range(10)]
    level = [histogram(*[100 + step % 3] * 50) for step in range(10)]
    falling_count = list(range(100, 50, -5))
    assert unsteady(planned([1], [1], interval_hdrs=rising))
    assert not unsteady(planned([1], [1], interval_hdrs=level, intervals=falling_count))
    assert not unsteady(planned([1], [1], interval_hdrs=[]))


def test_intervals_without_an_answer_are_passed_over() -> None:
    rising = [histogram(*[100 + 20 * step] * 50) for step in range(9)] + [""]
    assert unsteady(planned([1], [1], interval_hdrs=rising))


def test_an_hour_of_intervals_is_taken_together() -> None:
    hour = load(closed_ns=3600 * WINDOW_NS, intervals=[100 + step // 100 for step in range(36_000)])
    assert unsteady(hour)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e9), max_size=20))
def test_no_series_drifts_more_than_it_may_when_any_change_is_allowed(values: list[float]) -> None:
    assert not drifts(values, float("inf"))


# --- standstills


def interrupted(*completed: int, connections: int = 4, **facts: Any) -> Load:
    """A window of intervals of 100 ms."""
    length_ns = len(completed) * WINDOW_NS // 10
    facts = {"in_flight": connections, "closed_ns": length_ns, **facts}
    return load(intervals=list(completed), completed=sum(completed), connections=connections, **facts)


@pytest.mark.parametrize(
    ("completed", "said"),
    [
        ([0] * 12 + [100] * 8, "no echo came for 1.2 s of the window"),
        ([100] * 4 + [0] * 12 + [100] * 4, "no echo came for 1.2 s of the window"),
        ([100] * 8 + [0] * 12, "no echo came in the last 1.2 s of the window"),
        ([0] * 6 + [100] * 8 + [0] * 6, ""),  # neither is half of it
    ],
)
def test_a_silence_of_more_than_half_of_a_window_is_a_fault_wherever_it_lies(completed: list[int], said: str) -> None:
    assert quiet(interrupted(*completed)) == said


def test_a_short_silence_is_flagged_and_no_fault() -> None:
    hiccup = interrupted(100, 100, 0, 100, 100)
    assert quiet(hiccup) == ""
    assert flags(trial(), hiccup, "latency") == ["standstill"]
    assert flags(trial(), interrupted(100, 100, 1, 100, 100), "latency") == []


def test_where_a_connection_has_an_echo_now_and_then_an_interval_without_one_is_no_standstill() -> None:
    assert standstill(interrupted(5, 0, 5, 0, 5, 0, connections=10)) is None
    assert standstill(interrupted(*[0, 40] * 5, connections=10)) is None


def test_at_its_end_a_window_is_silent_where_nothing_is_on_its_way_any_more() -> None:
    assert standstill(interrupted(*[100] * 4, *[0] * 6, in_flight=0)) is None
    assert standstill(interrupted(*[0] * 6, *[100] * 4, in_flight=0)) is not None


def test_a_window_without_any_echo_has_another_fault() -> None:
    assert standstill(interrupted(0, 0, 0)) is None
    assert standstill(load(intervals=[])) is None


def turn(number: int, completed: int, disturbed: str = "") -> Turn:
    """One of 10 ms, every 200 ms: others have theirs in between."""
    at_ns = number * 200 * MS
    return Turn(opened_ns=at_ns, closed_ns=at_ns + 10 * MS, completed=completed, disturbed=disturbed)


def test_turns_without_an_echo_are_a_standstill_too() -> None:
    turns = [turn(number, 0 if 2 <= number < 8 else 100) for number in range(10)]
    found = load(closed_ns=100 * MS, completed=400, intervals=[one.completed for one in turns], connections=4)
    assert quiet(found, turns) == "no echo came for 0.1 s of the window"
    assert flags(trial(), found, "latency", turns=turns) == ["standstill"]


def test_turns_that_do_not_count_are_no_silence() -> None:
    turns = [turn(number, 0 if 2 <= number < 8 else 100, "others" * (2 <= number < 8)) for number in range(10)]
    found = load(closed_ns=40 * MS, completed=400, intervals=[100] * 4, connections=4)
    assert standstill(found, turns) is None


# --- a harness that stands still


@pytest.mark.parametrize(
    ("late_ms", "said"),
    [
        ((0, 0), ""),
        ((10, 60), ""),
        ((0, 3000), "the harness stood still: its readings of the server are 3.0 s beside the load's window"),
        ((700, 200), "the harness stood still: its readings of the server are 0.9 s beside the load's window"),
    ],
)
def test_a_server_that_was_read_at_other_times_than_the_load_s_was_not_measured(
    late_ms: tuple[int, int], said: str
) -> None:
    opened, closed = (late * MS for late in late_ms)
    assert out_of_step(load(), opened, WINDOW_NS + closed) == said


def test_in_a_long_window_and_with_many_processes_to_read_a_reading_may_be_later() -> None:
    assert out_of_step(load(), 0, WINDOW_NS + 800 * MS)
    assert not out_of_step(load(closed_ns=10 * WINDOW_NS), 0, 10 * WINDOW_NS + 800 * MS)
    assert not out_of_step(load(connections=10_000), 0, WINDOW_NS + 800 * MS)
