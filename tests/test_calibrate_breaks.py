"""Every claim can fail: a load generator that is broken on purpose is found out.

First on times that are known, a way of being wrong each; then with real load generators that are wrong, broken_load.py.
Those are found out on a busy machine too, where a claim that depends on time may be inconclusive, but does not pass.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from ideal_load import capped, encode, every, load_of, serve
from test_calibrate_claims import NULL, RATE, STALL, answered, committed, frozen, poisson_sends, queue, seen, wrong

from bench import host
from bench.calibrate import arrivals, books, cost, faults, hdr, headroom, histograms, lag, run, service, stall
from bench.calibrate.claim import Claim
from bench.calibrate.recorder import Memory
from bench.calibrate.rig import Rig
from bench.load_pool import LoadPool
from bench.processes import Guard
from bench.record import Load
from clients.recorder import record

# --- stall


def test_stamps_taken_at_the_actual_send_are_found_by_the_stall() -> None:
    planned = every(RATE, 10.0)
    sent, done = capped(planned, 5e-5, (4.0, 1.0), stall.CAP)
    load = load_of(planned, sent, done, 10.0, response_hdr=encode(done - sent))
    assert {"capped response p95", "capped response p99", "capped response mean"} <= set(
        wrong(stall.checks_of(load, STALL, capped=True))
    )


def test_a_plan_that_is_put_off_by_the_stall_is_found() -> None:
    planned = every(RATE, 9.0)
    shifted = np.where(planned > 4.0, planned + 1.0, planned)  # nothing was planned for the second of the stall
    load = load_of(shifted, shifted, serve(shifted, 5e-5, (4.0, 1.0)), 10.0)
    assert "uncapped response p95" in wrong(stall.checks_of(load, STALL, capped=False))


def test_waiting_that_is_counted_as_service_is_found_by_the_stall() -> None:
    planned = every(RATE, 10.0)
    sent, done = capped(planned, 5e-5, (4.0, 1.0), stall.CAP)
    load = load_of(planned, sent, done, 10.0, service_hdr=encode(done - planned))
    assert wrong(stall.checks_of(load, STALL, capped=True)) == ["capped service p99"]


def test_the_slowest_samples_left_out_are_found_by_the_stall() -> None:
    planned = every(RATE, 10.0)
    response = np.sort(serve(planned, 5e-5, (4.0, 1.0)) - planned)[:-200]
    load = load_of(planned, planned, planned, 10.0, response_hdr=encode(response))
    assert "uncapped response p99" in wrong(stall.checks_of(load, STALL, capped=False))


# --- known service


def test_stamps_after_the_send_are_found_at_a_known_service() -> None:
    early = answered(np.full(5_000, 0.001) - 0.0001)
    assert wrong(service.dd1_checks(early, NULL)) == ["D/D/1 p50"]


def test_ticks_of_a_millisecond_are_found_at_a_known_service() -> None:
    tick = np.random.default_rng(1).uniform(0, 0.001, 60_000)
    assert "M/M/1 mean" in wrong(service.mm1_checks(answered(queue("exponential") + tick), NULL))
    assert "M/D/1 p50" in wrong(service.md1_checks(answered(queue("constant") + tick), NULL))
    assert "D/D/1 p99 - p50" in wrong(service.dd1_checks(answered(np.full(5_000, 0.001) + tick[:5_000]), NULL))


def test_queueing_that_is_left_out_is_found_at_a_known_service() -> None:
    alone = np.random.default_rng(1).exponential(0.001, 60_000)
    assert wrong(service.mm1_checks(answered(alone), NULL)) == ["M/M/1 mean", "M/M/1 p50", "M/M/1 p99"]
    assert {"M/D/1 mean", "M/D/1 p99"} <= set(wrong(service.md1_checks(answered(np.full(60_000, 0.001)), NULL)))


def test_constant_arrivals_in_place_of_poisson_are_found_at_a_known_service() -> None:
    services = np.random.default_rng(1).exponential(0.001, 60_000)
    walk = np.concatenate([[0.0], np.cumsum(services[:-1] - 0.002)])
    response = walk - np.minimum.accumulate(walk) + services
    assert "M/M/1 mean" in wrong(service.mm1_checks(answered(response), NULL))


def test_slow_messages_that_are_dropped_are_found_at_a_known_service() -> None:
    kept = np.sort(queue("exponential"))[:-1_200]
    assert "M/M/1 p99" in wrong(service.mm1_checks(answered(kept), NULL))


# --- arrivals


def test_ticks_of_a_millisecond_are_found_in_the_arrivals() -> None:
    assert wrong(arrivals.poisson_checks(np.ceil(poisson_sends() * 1e3) / 1e3)) == ["Poisson gaps, A^2"]


def test_constant_arrivals_are_not_taken_for_poisson() -> None:
    assert len(wrong(arrivals.poisson_checks(every(RATE, 4.0)))) == 2


def test_arrivals_in_clumps_are_found() -> None:
    clumps = np.repeat(np.cumsum(np.random.default_rng(1).exponential(4 / RATE, 1024)), 4)
    assert len(wrong(arrivals.poisson_checks(clumps))) == 2
    assert "constant gaps, CV" in wrong(arrivals.constant_checks(np.repeat(every(RATE / 4, 4.0), 4)))


def test_gaps_of_the_wrong_distribution_and_the_right_mean_are_found() -> None:
    gaps = np.random.default_rng(1).uniform(0, 2 / RATE, arrivals.GAPS)
    assert "Poisson gaps, A^2" in wrong(arrivals.poisson_checks(np.cumsum(gaps)))


def test_a_poisson_rate_that_is_a_tenth_too_low_is_found() -> None:
    assert "Poisson gaps, A^2" in wrong(arrivals.poisson_checks(poisson_sends() * 1.1))


def test_a_constant_rate_that_is_off_by_two_in_a_thousand_is_found() -> None:
    assert wrong(arrivals.constant_checks(every(RATE, 4.0) * 1.002)) == ["constant rate"]


# --- schedule lag


def test_a_schedule_that_is_kept_badly_is_found() -> None:
    planned = every(RATE, 10.0)
    ticked = np.ceil(planned * 700) / 700
    assert wrong(lag.steady_checks(load_of(planned, ticked, ticked + 1e-4, 11.0))) == ["schedule lag p99"]


def test_a_stopped_load_generator_that_does_not_notice_is_found() -> None:
    planned = every(RATE, 2.0)
    unaware = load_of(planned, planned, planned + 1e-4, 3.0)
    assert len(wrong(lag.stopped_checks(seen(unaware, flags=["lagging_schedule"]), 0.5))) == 2


def test_a_stopped_load_generator_that_is_not_flagged_or_blamed_on_the_server_is_found() -> None:
    planned = every(RATE, 2.0)
    held_up = np.where((planned > 0.5) & (planned < 1.0), 1.0, planned)
    load = load_of(planned, held_up, held_up + 1e-4, 3.0)
    assert wrong(lag.stopped_checks(seen(load), 0.5)) == ['stopped: flagged "lagging_schedule"']
    blamed = seen(load, limit="server", flags=["lagging_schedule"])
    assert wrong(lag.stopped_checks(blamed, 0.5)) == ['stopped: judged "server"']


# --- head-room


def test_a_judgement_that_is_always_the_same_is_found() -> None:
    verdicts = ["latency"] * 20
    assert not headroom.judged("slow server", verdicts, "server").holds
    assert not headroom.judged("slow load worker", verdicts, "client").holds


def test_a_single_wrong_judgement_is_found() -> None:
    assert not headroom.judged("slow load worker", ["client"] * 19 + ["server"], "client").holds


# --- echo faults


def test_one_fault_in_a_thousand_that_is_let_through_is_found() -> None:
    one_missed = committed()
    one_missed[0].called["corrupt"] -= 2
    assert wrong(faults.fault_checks(one_missed, 1000)) == ['flip: called "corrupt"']


def test_a_fault_that_is_called_by_another_name_is_found() -> None:
    misnamed = committed()
    misnamed[1].called["lost"] -= 2
    misnamed[1].called["corrupt"] += 2
    assert wrong(faults.fault_checks(misnamed, 1000)) == ['drop: called "lost"', "messages called anything else"]


def test_a_false_alarm_beside_the_faults_is_found() -> None:
    alarmed = committed()
    alarmed[2].called["reset"] += 1
    assert wrong(faults.fault_checks(alarmed, 1000)) == ["messages called anything else"]


def test_a_peer_that_commits_too_few_faults_proves_nothing() -> None:
    assert "faults committed" in wrong(faults.fault_checks(committed(999), 1000))


# --- conservation and censoring


def changed(load: Load, **changes: object) -> Load:
    return type(load)(**{name: getattr(load, name) for name in load.__struct_fields__} | changes)  # type: ignore[arg-type]


def test_unsent_messages_that_are_forgotten_are_found_by_the_plan() -> None:
    load = frozen(books.CAP)
    forgetful = changed(load, planned=load.planned - load.unsent, unsent=0)
    assert wrong(books.balance_checks([(forgetful, True)])) == []  # the books balance all the same
    assert wrong(books.plan_checks(forgetful, 1.0)) == ["open loop: due and not in the books", "cap: due and unsent"]


def test_a_cap_that_is_not_kept_is_found() -> None:
    load = frozen(books.CAP)
    assert "cap: messages in flight" in wrong(books.plan_checks(changed(load, in_flight=33), 1.0))


def test_one_message_out_of_balance_is_found() -> None:
    load = frozen(books.CAP)
    assert wrong(books.balance_checks([(changed(load, planned=load.planned + 1), True)])) == [
        "trials of 1 out of balance"
    ]


def test_dropped_samples_are_found() -> None:
    load = frozen(0)
    some = changed(load, service_hdr=encode(np.full(load.completed - 1, 0.001)))
    assert wrong(books.balance_checks([(some, True)])) == ["histograms that lack a message"]


def test_an_interval_that_is_lost_is_found() -> None:
    load = frozen(0)
    assert wrong(books.balance_checks([(changed(load, intervals=load.intervals[1:]), True)])) == [
        "intervals that lack a message"
    ]


def test_messages_that_were_sent_and_are_in_no_book_are_found_by_the_peers_count() -> None:
    load = load_of(every(RATE, 1), every(RATE, 1), every(RATE, 1), 1.0, bytes_echoed=books.MESSAGE_BYTES * 1000)
    assert wrong(books.counted_checks(load, 1001)) == ["planned, less received by peer"]
    assert wrong(books.counted_checks(changed(load, bytes_echoed=1), 1000)) == ["bytes, less those of completed"]


def test_outstanding_messages_that_are_forgotten_are_found() -> None:
    load = frozen(0)
    tidy = changed(load, planned=load.planned - load.in_flight, in_flight=0)
    found = wrong(books.censoring_checks(seen(tidy, flags=["censored"], lower_bounds=["p99"]), 1.0))
    assert found == ["outstanding at the end", "p99 marked as a lower bound"]


def test_a_censored_trial_that_is_not_marked_is_found() -> None:
    load = frozen(0)
    assert wrong(books.censoring_checks(seen(load), 1.0)) == ['flagged "censored"', "p99 marked as a lower bound"]


# --- histogram, merging, intervals


def test_a_histogram_of_two_digits_is_found() -> None:
    times = np.random.default_rng(9).integers(1_000, 10**9, 5_000)
    coarse = HdrHistogram(1, 10**12, 2)
    for time in times.tolist():
        coarse.record_value(time)
    assert "largest error of a percentile" in wrong(histograms.error_checks(times, coarse.encode().decode()))


def test_times_that_are_not_recorded_are_found() -> None:
    times = np.random.default_rng(9).integers(1_000, 10**9, 5_000)
    assert "values recorded" in wrong(histograms.error_checks(times, record(times[1:])))


def test_a_text_that_does_not_survive_being_read_is_found() -> None:
    times = np.random.default_rng(9).integers(1_000, 10**9, 5_000)
    assert wrong(histograms.error_checks(times, record(times) + "AAAA")) == ["round trips that change a byte"]
    assert len(wrong(histograms.error_checks(times, "nonsense"))) == 3


def test_a_merge_that_loses_a_worker_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [record(np.full(9_000, 10**6)), record(np.full(1_000, 10**8))]
    monkeypatch.setattr(hdr, "merge", lambda texts: hdr.decode(texts[0]))
    assert wrong(histograms.merging_checks(parts)) == ["two workers: p99"]


def test_percentiles_that_are_averaged_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [record(np.full(9_000, 10**6)), record(np.full(1_000, 10**8))]
    monkeypatch.setattr(hdr, "merge", lambda texts: hdr.decode(record(np.full(10_000, 50_500_000))))
    assert len(wrong(histograms.merging_checks(parts))) == 3


@pytest.mark.parametrize("shift", [-2, 2])
def test_intervals_that_are_too_narrow_or_too_wide_are_found(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    right = histograms.quantile_ranks
    monkeypatch.setattr(
        histograms,
        "quantile_ranks",
        lambda n, q: [ranks + add for ranks, add in zip(right(n, q), (-shift, shift), strict=True)],
    )
    assert not histograms.coverage_check(0.99, histograms.coverage(0.99, 2_000, 2_000)).holds


# --- self-cost


def test_recording_that_costs_a_tenth_is_found() -> None:
    assert not cost.cost_check([0.9, 0.9, 0.91]).holds


def test_memory_that_grows_with_the_window_is_found() -> None:
    assert wrong(cost.memory_checks(Memory(36_000, 300 << 20), Memory(864_000, 7 << 30))) == [
        "memory of an hour's window",
        "what a day's takes more",
    ]


# --- real load generators that are wrong

BROKEN = Path(__file__).with_name("broken_load.py")


@contextmanager
def rig_with(kind: str) -> Iterator[Rig]:
    layout, guard = host.choose_cpus(), Guard()
    pool = LoadPool(guard, layout.load, [sys.executable, str(BROKEN), kind])
    try:
        yield Rig(guard, layout, pool, [], True)
    finally:
        pool.end()
        guard.close()


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbed machine is no reason to measure again here."""
    monkeypatch.setattr(run, "ATTEMPTS", 1)


def out_of_range(kind: str, claim: Claim) -> list[str]:
    """Measure a claim of a broken load generator; it must not pass."""
    with rig_with(kind) as found:
        finding = run.examine(claim, found)
    assert finding.verdict != "passed", finding
    return wrong(finding.checks)


def test_a_worker_that_forgets_what_it_did_not_send() -> None:
    assert "open loop: due and not in the books" in out_of_range("forgets_unsent", books.CONSERVATION)


def test_a_worker_that_drops_samples() -> None:
    assert "histograms that lack a message" in out_of_range("drops_samples", books.CONSERVATION)


def test_a_worker_that_leaves_out_what_is_in_flight() -> None:
    assert {'flagged "censored"', "p99 marked as a lower bound"} <= set(out_of_range("tidies_up", books.CENSORING))


def test_a_worker_that_stamps_messages_when_it_sends_them() -> None:
    assert {"capped response p95", "capped response mean"} <= set(out_of_range("omits_waiting", stall.CLAIM))


def test_a_worker_that_sends_at_ticks_of_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "GAPS", 1_000)
    assert "Poisson gaps, A^2" in out_of_range("ticks", arrivals.CLAIM)


@pytest.mark.parametrize("kind", ["lets_faults_through", "calls_all_corrupt"])
def test_a_worker_that_misses_or_misnames_faults(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "AT_ONCE", 20)
    found = out_of_range(kind, faults.CLAIM)
    assert 'drop: called "lost"' in found
    assert ('flip: called "corrupt"' in found) == (kind == "lets_faults_through")


def test_a_worker_that_ends_in_mid_job_has_failed_the_claim() -> None:
    with rig_with("dies") as found:
        finding = run.examine(books.CENSORING, found)
    assert finding.verdict == "failed"
    assert "the load generator died" in finding.reason
