"""Each claim passes for an ideal load generator: judged on times that are known, with no process and no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from ideal_load import capped, encode, every, load_of, serve

from bench.calibrate import arrivals, books, cost, faults, headroom, histograms, lag, service, stall
from bench.calibrate.claim import Check, judge
from bench.calibrate.formulas import Stall, simulate_queue
from bench.calibrate.recorder import Memory
from bench.calibrate.rig import Seen
from bench.record import Load, Server
from clients.recorder import record

RATE = 1000.0
STALL = Stall(1.0, 10.0, RATE, 20_000.0)
NULL = service.Null(mean=0.0001, p50=0.0001, spread=0.0)


def verdict(checks: Sequence[Check]) -> str:
    return judge(checks, [])[0]


def wrong(checks: Sequence[Check]) -> list[str]:
    return [check.what for check in checks if not check.holds]


def seen(load: Load, limit: str = "latency", flags: Sequence[str] = (), lower_bounds: Sequence[str] = ()) -> Seen:
    server = Server(
        pid=1,
        implementation="",
        version="",
        gil=True,
        cpus=[0],
        opened_ns=0,
        closed_ns=1,
        metrics={},
        missing={},
        refused={},
    )
    return Seen(load, server, limit, list(flags), list(lower_bounds))


def test_stall_with_and_without_a_cap() -> None:
    planned = every(RATE, 10.0)
    free = load_of(planned, planned, serve(planned, 5e-5, (4.0, 1.0)), 10.0)
    assert wrong(stall.checks_of(free, STALL, capped=False)) == []
    sent, done = capped(planned, 5e-5, (4.0, 1.0), stall.CAP)
    assert wrong(stall.checks_of(load_of(planned, sent, done, 10.0), STALL, capped=True)) == []


def queue(law: str, messages: int = 60_000, seed: int = 1) -> np.ndarray:
    """Response times in seconds at a queue at half load with Poisson arrivals."""

    def services(random: np.random.Generator, n: int) -> np.ndarray:
        return random.exponential(1.0, n) if law == "exponential" else np.ones(n)

    return simulate_queue(seed, messages, lambda random, n: random.exponential(2.0, n), services) / 1e3


def answered(response_s: np.ndarray) -> Load:
    """An open loop with these response times, the null round trip included."""
    planned = np.linspace(0.001, 1.0, len(response_s))
    return load_of(planned, planned, planned + response_s + 1e-7, 1e4)


@pytest.mark.parametrize("messages", [2_000, 60_000])
def test_known_service(messages: int) -> None:
    assert wrong(service.mm1_checks(answered(queue("exponential", messages)), NULL)) == []
    assert wrong(service.md1_checks(answered(queue("constant", messages)), NULL)) == []
    assert wrong(service.dd1_checks(answered(np.full(5_000, 0.001)), NULL)) == []


def test_known_service_takes_the_null_round_trip_off() -> None:
    slow_way = answered(np.full(5_000, 0.0013))
    assert wrong(service.dd1_checks(slow_way, service.Null(0.3, 0.3, 0.0))) == []
    assert wrong(service.dd1_checks(slow_way, NULL)) == ["D/D/1 p50"]


def test_the_spread_of_the_round_trip_shows_in_the_median_of_a_constant_service() -> None:
    jitter = np.random.default_rng(7).uniform(0, 0.0002, 60_000)
    response = answered(queue("constant") + jitter)
    assert wrong(service.md1_checks(response, service.Null(0.1, 0.1, 0.098))) == []
    assert wrong(service.md1_checks(response, service.Null(0.1, 0.1, 0.0))) == ["M/D/1 p50"]


def poisson_sends(seed: int = 1) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / RATE, arrivals.GAPS + 1))


def test_arrivals_as_they_were_asked_for() -> None:
    assert wrong(arrivals.poisson_checks(poisson_sends())) == []
    assert wrong(arrivals.constant_checks(every(RATE, 4.0))) == []


def test_the_first_sends_are_left_out_and_one_more_than_gaps_is_kept() -> None:
    times = arrivals.send_times({"at_ns": list(range(10**9, 10**9 + 5000))}, 4096)
    assert len(times) == 4097
    assert times[0] == pytest.approx(1 + 20e-9, abs=1e-12)


def test_arrivals_that_a_peer_did_not_see_are_no_pass() -> None:
    assert verdict(arrivals.poisson_checks(np.array([]))) == "failed"
    assert verdict(arrivals.constant_checks(np.array([]))) == "failed"


def test_schedule_lag_and_a_stopped_load_generator() -> None:
    planned = every(20_000.0, 2.0)
    on_time = load_of(planned, planned + 2e-5, planned + 1e-4, 3.0)
    assert wrong(lag.steady_checks(on_time)) == []
    late = np.where((planned > 0.5) & (planned < 1.0), 1.0, planned)
    stopped = seen(load_of(planned, late, late + 1e-4, 3.0), flags=["lagging_schedule"])
    assert wrong(lag.stopped_checks(stopped, 0.5)) == []


def test_head_room_counts_right_judgements() -> None:
    assert headroom.judged("slow server", ["server"] * 20, "server").holds
    assert not headroom.judged("slow server", ["server"] * 19 + ["latency"], "server").holds


def committed(times: int = 1000) -> list[faults.Committed]:
    return [faults.Committed(one, times, Counter({one.name: one.messages * times})) for one in faults.FAULTS]


def test_faults_that_are_all_named() -> None:
    assert wrong(faults.fault_checks(committed(), 1000)) == []


def test_alarms_are_errors_and_timeouts_and_nothing_that_did_not_happen() -> None:
    load = load_of(every(10, 1), every(10, 1), every(10, 1), 2, errors={"lost": 2, "reset": 0}, timed_out=3)
    assert faults.alarms(load) == {"lost": 2, "timed_out": 3}


def frozen(cap: int) -> Load:
    planned = every(RATE, 2.0)
    sent, done = capped(planned, 5e-5, (1.0, 1.3), cap or len(planned))
    return load_of(planned, sent, done, 2.0)


def test_books_that_balance() -> None:
    load = frozen(books.CAP)
    assert load.unsent > 900
    assert wrong(books.plan_checks(load, 1.0)) == []
    assert wrong(books.balance_checks([(load, True), (frozen(0), True)])) == []
    counted = load_of(every(RATE, 1), every(RATE, 1), every(RATE, 1), 1.0, bytes_echoed=books.MESSAGE_BYTES * 1000)
    assert wrong(books.counted_checks(counted, 1000)) == []


def test_a_trial_that_was_not_recorded_has_no_histogram_to_check() -> None:
    load = load_of(every(RATE, 1), every(RATE, 1), every(RATE, 1), 1.0, service_hdr=encode([]))
    assert wrong(books.balance_checks([(load, False)])) == []
    assert wrong(books.balance_checks([(load, True)])) == ["histograms that lack a message"]


def test_censored_messages_are_counted_and_told() -> None:
    load = frozen(0)
    assert wrong(books.censoring_checks(seen(load, flags=["censored"], lower_bounds=["p99"]), 1.0)) == []


def test_recorded_times_and_their_sum() -> None:
    times = np.random.default_rng(9).integers(1_000, 10**10, 50_000)
    assert wrong(histograms.error_checks(times, record(times))) == []
    parts = [record(np.full(9_000, 10**6)), record(np.full(1_000, 10**8))]
    assert wrong(histograms.merging_checks(parts)) == []


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99, 0.999])
def test_the_95_percent_interval_contains_the_true_percentile_93_to_98_times_in_100(q: float) -> None:
    samples = 2_000 if q < 0.999 else 10_000
    assert histograms.coverage_check(q, histograms.coverage(q, samples, 2_000)).holds


def test_recording_that_costs_little() -> None:
    assert cost.cost_check([0.96, 0.99, 1.2]).holds
    assert wrong(cost.memory_checks(Memory(360, 20 << 20), Memory(432, 21 << 20))) == []


def test_what_was_outstanding_when_the_window_opened_is_no_fault_of_the_plan() -> None:
    from synthetic import load  # noqa: PLC0415 - this test alone makes up a load

    from bench.calibrate.books import CAP, RATE_HZ, plan_checks  # noqa: PLC0415

    second = load(1000, 16, planned=RATE_HZ + 4, offered_hz=RATE_HZ, in_flight=CAP, unsent=RATE_HZ - CAP)
    assert [check for check in plan_checks(second, 1.0) if not check.holds] == []
    lost = load(1000, 16, planned=RATE_HZ - 5, offered_hz=RATE_HZ, in_flight=CAP, unsent=RATE_HZ - CAP)
    assert [check.what for check in plan_checks(lost, 1.0) if not check.holds] == [
        "open loop: due and not in the books"
    ]
