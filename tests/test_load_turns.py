"""A job in turns: its connections stay open, what was under way stays where it is, and the turns add up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peers
import pytest
from driving import check_books, load_code, recorded
from peers import Peer, peer
from test_load_worker import Worker, job, worker

from bench.probes.process import process_clock
from clients.job import Job, JobError, read_kept, read_turn
from clients.opening import connect
from clients.session import Session

STANDSTILL_S = 0.5


@contextmanager
def session(server: Peer, workload: str = "closed", **options: Any) -> Iterator[Session]:
    load_code()
    settings = {"connections": 4, "message_bytes": server.message_bytes, "duration_s": 1.0, **options}
    asked = Job(address=server.address, workload=workload, **settings)
    with Session(asked, connect(asked)) as opened:
        yield opened


WORKLOADS: dict[str, dict[str, Any]] = {
    "closed": {"depth": 2},
    "open": {"rate_hz": 2000.0},
    "burst": {},
    "idle": {"silent": 3},
    "stream": {"depth": 2},
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_turns_use_the_same_connections_and_add_up_to_one_load(workload: str, threads: int) -> None:
    with peer() as server, session(server, workload, threads=threads, **WORKLOADS[workload]) as opened:
        turns = [opened.turn(0.01, 0.03) for _ in range(4)]
        load = opened.finish([0, 1, 3])
        assert server.accepted == 4 + WORKLOADS[workload].get("silent", 0)
    kept = [window for number in (0, 1, 3) for window in turns[number]]
    check_books(load)
    assert load.errors == {}
    assert load.completed == sum(window.closed.completed - window.opened.completed for window in kept) > 0
    lengths_ns = [turns[number][0].closed.at_ns - turns[number][0].opened.at_ns for number in (0, 1, 3)]
    assert load.closed_ns - load.opened_ns == sum(lengths_ns)
    assert len(load.intervals) == 3
    assert load.threads == len(load.worker_busy) == threads


def test_under_churn_every_turn_goes_on_connecting() -> None:
    with peer() as server, session(server, "churn", connections=2) as opened:
        connects = [opened.turn(0.0, 0.03)[0] for _ in range(2)]
        load = opened.finish([0, 1])
    check_books(load)
    assert all(window.closed.connects > window.opened.connects for window in connects)


@pytest.mark.parametrize(("workload", "options"), [("closed", {}), ("burst", {}), ("open", {"rate_hz": 500.0})])
def test_a_standstill_is_part_of_no_message_s_time(workload: str, options: dict[str, Any]) -> None:
    with peer() as server, session(server, workload, **options) as opened:
        opened.turn(0.0, 0.02)
        time.sleep(STANDSTILL_S)
        opened.turn(0.0, 0.02)
        load = opened.finish([0, 1])
    check_books(load)
    times = load.response_hdr or load.service_hdr
    assert recorded(times).get_max_value() < STANDSTILL_S * 0.8 * 1e9


def test_no_message_times_out_in_a_standstill() -> None:
    with peer() as server, session(server, timeout_s=STANDSTILL_S / 2) as opened:
        opened.turn(0.0, 0.02)
        time.sleep(STANDSTILL_S)
        opened.turn(0.0, 0.02)
        load = opened.finish([0, 1])
    assert (load.timed_out, load.errors) == (0, {})


def test_the_plan_of_an_open_loop_stands_still_too() -> None:
    with peer() as server, session(server, "open", rate_hz=1000.0) as opened:
        opened.turn(0.0, 0.1)
        time.sleep(STANDSTILL_S)
        (window,) = opened.turn(0.0, 0.1)
        load = opened.finish([0, 1])
    assert window.closed.due - window.opened.due == pytest.approx(100, abs=5)
    assert load.offered_hz == pytest.approx(1000, rel=0.05)


def test_what_failed_in_a_turn_that_does_not_count_is_in_the_books_all_the_same() -> None:
    with peer(fault=peers.flip_first, at=3, on=(0,)) as server, session(server, connections=2) as opened:
        opened.turn(0.0, 0.05)
        opened.turn(0.0, 0.05)
        load = opened.finish([1])
    check_books(load)
    assert load.errors.get("corrupt") == 1


def test_a_lost_echo_is_found_at_the_end_of_all_turns() -> None:
    with peer(fault=peers.drop, at=3, on=(0,)) as server, session(server, connections=2) as opened:
        for _ in range(3):
            opened.turn(0.0, 0.03)
        load = opened.finish([0, 1, 2])
    check_books(load)
    assert load.errors == {"lost": 1}


# --- the worker


@pytest.fixture(scope="module")
def warm() -> Iterator[Worker]:
    with worker() as running:
        yield running
        assert running.end() == 0
        assert running.complaints() == ""


def take_turn(running: Worker, name: str, **asked: Any) -> dict[str, Any]:
    running.tell({"turn": name, "warmup_s": 0.005, "duration_s": 0.02, **asked})
    turned = running.hear()
    assert (turned["event"], turned["job"]) == ("turned", name)
    return turned


def end(running: Worker, name: str, kept: list[int]) -> dict[str, Any]:
    running.tell({"end": name, "kept": kept})
    return running.hear()


def test_jobs_that_are_open_at_once_take_turns_and_each_has_its_own_result(warm: Worker) -> None:
    with peer() as one, peer() as other:
        for name, server in (("one", one), ("other", other)):
            warm.tell(job(name, server, turns=True))
            assert warm.hear()["event"] == "connected"
        turned = [(name, take_turn(warm, name)) for name in ("one", "other", "other", "one")]
        results = {name: end(warm, name, [0, 1])["load"] for name in ("one", "other")}
        assert (one.accepted, other.accepted) == (4, 4)
    for name, load in results.items():
        assert load["completed"] == sum(turn["completed"] for of, turn in turned if of == name) > 0
        assert load["errors"] == {}


def test_a_turn_tells_its_window_and_what_it_took_of_the_cpu(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("told", server, turns=True))
        assert warm.hear()["event"] == "connected"
        turned = take_turn(warm, "told")
        end(warm, "told", [0])
    assert turned["closed_ns"] - turned["opened_ns"] == pytest.approx(20e6, rel=0.5)
    assert 0 < turned["cpu_ns"] <= 2 * (turned["closed_ns"] - turned["opened_ns"])


def test_clocks_are_read_at_the_two_ends_of_a_turn_s_window_and_added_up(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("timed", server, turns=True))
        assert warm.hear()["event"] == "connected"
        turned = take_turn(warm, "timed", clocks=[time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC])
        end(warm, "timed", [0])
    assert turned["clocks_ns"] == pytest.approx([2 * turned["opened_ns"], 2 * turned["closed_ns"]], abs=4e6)


def test_the_clock_of_a_process_that_has_ended_shows_nothing(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("gone", server, turns=True))
        assert warm.hear()["event"] == "connected"
        turned = take_turn(warm, "gone", clocks=[process_clock(2**22)])
        end(warm, "gone", [0])
    assert turned["clocks_ns"] == [0, 0]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"turn": "nobody", "warmup_s": 0, "duration_s": 1}, "no such job in turns"),
        ({"end": "nobody", "kept": [0]}, "no such job in turns"),
    ],
)
def test_a_job_that_is_not_open_has_no_turn_and_no_end(warm: Worker, line: dict[str, Any], complaint: str) -> None:
    warm.tell(line)
    answer = warm.hear()
    assert (answer["event"], answer["job"]) == ("failed", "nobody")
    assert complaint in answer["reason"]


def test_a_job_that_fails_in_its_turn_is_over_and_the_others_go_on(warm: Worker) -> None:
    with peer() as good, peer(fault=peers.close, at=0) as bad:
        for name, server in (("bad", bad), ("good", good)):
            warm.tell(job(name, server, turns=True))
            assert warm.hear()["event"] == "connected"
        warm.tell({"turn": "bad", "warmup_s": 0.01, "duration_s": 0.02})
        assert warm.hear()["event"] == "failed"
        assert end(warm, "bad", [0])["event"] == "failed"
        take_turn(warm, "good")
        assert end(warm, "good", [0])["load"]["errors"] == {}


@pytest.mark.parametrize("kept", [[], [2], [-1], [0, 0], ["0"], None, [True]])
def test_turns_that_there_were_not_can_not_count(kept: Any) -> None:
    with pytest.raises(JobError, match="kept must be turns, of 2"):
        read_kept({"kept": kept}, 2)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"duration_s": 0.0, "warmup_s": 0.0},
        {"duration_s": 1.0, "warmup_s": -1.0},
        {"duration_s": 1.0, "warmup_s": 0.0, "clocks": ["1"]},
    ],
)
def test_a_turn_without_a_length_or_with_clocks_that_have_no_number_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(JobError):
        read_turn(fields)
