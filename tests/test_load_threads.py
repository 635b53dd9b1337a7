"""Several load threads: what they saw adds up exactly, and they keep time together."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Any

import numpy as np
import peers
import pytest
from driving import FOREVER_S, after, count, descriptors, drive, load_code, recorded
from peers import Peer, peer

from clients import histogram, load_thread, schedule, session
from clients.connections import HISTOGRAMS, RESPONSE, SERVICE
from clients.histogram import Sparse
from clients.job import Job, JobError, Load
from clients.load_thread import Snapshot, Window
from clients.outcome import load_of
from clients.table import Share


def drive_counted(server: Peer, echoes: int, **options: Any) -> Load:
    server.wrongs = 1  # count every echo
    return drive(server, duration_s=FOREVER_S, ended=after(echoes, lambda: server.echoed), **options)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_share_the_connections_and_lose_nothing(threads: int) -> None:
    with peer("tcp", 64) as server:
        load = drive_counted(server, 500, connections=7, threads=threads)
        assert load.connections == server.accepted == 7
    assert load.threads == len(load.worker_busy) == threads
    assert load.errors == {}
    assert load.in_flight <= 7
    assert load.completed <= server.echoed


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_together_the_threads_plan_what_the_schedules_say(
    threads: int, arrivals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[schedule.Plan] = []
    windows: list[Window] = []
    begin, put_together = schedule.start, session.load_of
    load_code()  # which runs a plan too

    def start(plan: schedule.Plan, at_ns: int) -> None:
        begin(plan, at_ns)
        plans.append(plan.copy())

    def note(*facts: Any, **others: Any) -> Load:
        windows.extend(facts[2][0])
        return put_together(*facts, **others)

    monkeypatch.setattr(schedule, "start", start)
    monkeypatch.setattr(session, "load_of", note)
    with peer("tcp", 64) as server:
        load = drive_counted(
            server, 200, connections=5, threads=threads, workload="open", rate_hz=900.0, arrivals=arrivals
        )
    assert len(plans) == len(windows) == threads
    assert len({int(plan["start_ns"][0]) for plan in plans}) == 1
    due = [schedule.due_by(plan, seen.closed.at_ns) for plan, seen in zip(plans, windows, strict=True)]
    assert load.planned == sum(due) - sum(seen.opened.completed for seen in windows)
    assert load.completed + load.in_flight + load.unsent == load.planned


def test_connections_are_split_evenly_remainders_to_the_first_threads() -> None:
    shares = [(share.first, len(part)) for share, part in session._shares([None] * 11, 4)]  # type: ignore[list-item]
    assert shares == [(0, 3), (3, 3), (6, 3), (9, 2)]


def test_there_are_no_more_threads_than_connections_that_could_be_opened() -> None:
    assert len(list(session._shares([None] * 2, 4))) == 2  # type: ignore[list-item]
    assert len(list(session._shares([], 4))) == 1


def test_a_cap_is_split_exactly() -> None:
    assert [Share(thread, 3, 0).of(100) for thread in range(3)] == [34, 33, 33]


def test_no_two_connections_of_any_threads_send_the_same_bytes() -> None:
    first: list[bytes] = []

    def note(talk: peers.Talk, message: bytes) -> None:
        first.append(message)
        peers.echo(talk, message)

    with peer("tcp", 64, note, at=0) as server:
        drive(server, connections=9, threads=3, duration_s=FOREVER_S, ended=lambda: len(first) == 9)
    assert len(set(first)) == 9


def test_faults_on_the_connections_of_any_thread_are_counted() -> None:
    with peer("tcp", 64, peers.flip_middle, on=(0, 3, 5)) as server:
        load = drive_counted(server, 300, connections=6, threads=3)
    assert load.errors == {"corrupt": 3}


def test_a_thread_whose_connections_have_all_failed_leaves_the_others_at_work() -> None:
    with peer("tcp", 64, peers.flip_middle, on=(0, 1)) as server:
        load = drive_counted(server, 300, connections=4, threads=2)
    assert load.errors == {"corrupt": 2}
    assert load.completed > 200


def test_the_window_ends_when_no_thread_has_anything_left_to_do() -> None:
    opened = threading.Event()

    def spoil(talk: peers.Talk, message: bytes) -> None:
        opened.wait(FOREVER_S)
        peers.flip_middle(talk, message)

    with peer("tcp", 64, spoil) as server:
        load = drive(server, connections=4, threads=2, duration_s=FOREVER_S, say=lambda event, at_ns: opened.set())
    assert load.errors == {"corrupt": 4}


def test_a_run_of_several_threads_whose_connections_all_fail_before_the_window_says_why() -> None:
    with peer("tcp", 64, peers.close, at=0) as server, pytest.raises(JobError, match="refused 4"):
        drive(server, connections=4, threads=2, warmup_s=FOREVER_S)


def test_intervals_of_several_threads_are_those_of_one() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, connections=4, threads=2, duration_s=0.25)
    assert load.interval_ns == 100_000_000
    assert len(load.intervals) == 3
    assert load.closed_ns - load.opened_ns >= 250_000_000


def test_the_window_is_told_of_once_and_the_load_stays_on_until_it_is_released() -> None:
    seen: list[tuple[str, int]] = []
    at_close: list[int] = []

    def say(event: str, at_ns: int) -> None:
        seen.append((event, at_ns))
        if event == "window_closed":
            at_close.append(server.echoed)

    with peer("tcp", 64) as server:
        server.wrongs = 1
        load = drive(
            server,
            connections=4,
            threads=2,
            duration_s=0.1,
            say=say,
            ended=lambda: bool(at_close) and server.echoed > at_close[0] + 50,
            hold_s=FOREVER_S,
        )
    assert seen == [("window_opened", load.opened_ns), ("window_closed", load.closed_ns)]


@pytest.mark.parametrize("phase", ["warm-up", "window"])
def test_everything_is_closed_when_a_run_of_several_threads_is_interrupted(phase: str) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    before = descriptors()
    with peer("tcp", 64) as server, pytest.raises(KeyboardInterrupt):
        drive(server, connections=10, threads=3, warmup_s=FOREVER_S * (phase == "warm-up"), ended=interrupt)
    assert descriptors() == before


def test_a_run_that_is_ended_in_the_warm_up_has_a_window_without_length() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, connections=4, threads=2, warmup_s=FOREVER_S, ended=lambda: True)
    assert load.errors == {}
    assert load.closed_ns - load.opened_ns < FOREVER_S * 1e9


def test_each_thread_gets_a_cpu_of_its_own_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[int]] = []
    before = os.sched_getaffinity(0)
    load_code()
    monkeypatch.setattr(load_thread.os, "sched_setaffinity", lambda pid, cpus: asked.append(set(cpus)))
    with peer("tcp", 64) as server:
        drive(server, connections=4, threads=2, duration_s=0.02, cpus=[3, 5, 9])
        assert sorted(map(list, asked[:-1])) == [[3], [5]]
        assert asked[-1] == before  # the caller's thread gets back what it had
        asked.clear()
        drive(server, connections=4, threads=3, duration_s=0.02, cpus=[3, 5])
        drive(server, connections=4, threads=1, duration_s=0.02, cpus=[3, 5])
        assert all(cpus == before for cpus in asked)


# --- putting together


def snapshot(at_ns: int, **figures: int) -> Snapshot:
    return Snapshot(**{**dict.fromkeys(Snapshot._fields, 0), "at_ns": at_ns, **figures})


def window(values_ns: list[int], **figures: int) -> Window:
    counts = np.zeros((HISTOGRAMS, histogram.BUCKETS), np.int64)
    histogram.count_all(counts[SERVICE], np.array(values_ns))
    histogram.count_all(counts[RESPONSE], np.array(values_ns))
    sparse = [histogram.sparse(of_kind) for of_kind in counts]
    done = {"completed": len(values_ns), "begun": len(values_ns), "due": len(values_ns)}
    closed = snapshot(2 * 10**9, **{**done, **figures})
    heard = np.ones(1, np.bool_)
    return Window(snapshot(10**9), closed, 1, Counter(), [len(values_ns)], [sparse[SERVICE]], sparse, heard)


JOB = Job(address="tcp:127.0.0.1:1", connections=2, message_bytes=1, duration_s=1.0, threads=2)


def test_9000_messages_of_1_ms_and_1000_of_100_ms_have_a_median_of_1_and_a_p99_of_100() -> None:
    load = load_of(
        JOB, Counter(), [[window([1_000_000] * 9000), window([100_000_000] * 1000)]], Counter(), interval_ns=10**9
    )
    together = recorded(load.service_hdr)
    assert load.completed == together.total_count == 10_000
    assert together.get_value_at_percentile(50) == pytest.approx(1_000_000, rel=1e-3)
    assert together.get_value_at_percentile(90) == pytest.approx(1_000_000, rel=1e-3)
    assert together.get_value_at_percentile(99) == pytest.approx(100_000_000, rel=1e-3)


def test_the_histogram_of_two_threads_is_that_of_one_which_saw_it_all() -> None:
    values = np.random.default_rng(5).lognormal(12, 2, 3000).astype(int).tolist()
    apart = load_of(JOB, Counter(), [[window(values[:1000]), window(values[1000:])]], Counter(), interval_ns=10**9)
    alone = load_of(JOB, Counter(), [[window(values)]], Counter(), interval_ns=10**9)
    assert apart.service_hdr == alone.service_hdr
    assert apart.interval_hdrs == alone.interval_hdrs
    assert apart.intervals == alone.intervals == [3000]


def test_a_thread_that_saw_fewer_intervals_adds_nothing_to_the_others_of_them() -> None:
    long = window([10, 20])._replace(intervals=[1, 1], interval_counts=[_one(10), _one(20)])
    load = load_of(JOB, Counter(), [[window([10]), long]], Counter(), interval_ns=10**9)
    assert load.intervals == [2, 1]
    assert [count(text) for text in load.interval_hdrs] == [2, 1]


def _one(value_ns: int) -> Sparse:
    counts = histogram.empty()
    histogram.count_all(counts, np.array([value_ns]))
    return histogram.sparse(counts)


def test_what_is_due_and_not_begun_is_unsent_in_whichever_thread() -> None:
    job = Job(**{**JOB.__dict__, "workload": "open", "rate_hz": 10.0})
    windows = [window([1] * 10, due=15, begun=12, outstanding=2), window([1] * 5, due=5, begun=5)]
    load = load_of(job, Counter(refused=1), [windows], Counter(), interval_ns=10**9, pacing="spin")
    assert (load.completed, load.unsent, load.in_flight, load.planned) == (15, 3, 2, 21)
    assert load.offered_hz == pytest.approx(20)
    assert load.pacing == "spin"


def test_time_spent_looking_at_the_clock_is_not_work() -> None:
    busy = window([1], thread_ns=400_000_000)
    assert load_of(JOB, Counter(), [[busy, window([1])]], Counter(), interval_ns=10**9).worker_busy == [0.4, 0.0]
