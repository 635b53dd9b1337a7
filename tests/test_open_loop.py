"""The open loop: what is planned does not depend on the server, what it waits for is in the response times."""

from __future__ import annotations

import os
import re
import select
import threading
import time
from typing import Any

import numpy as np
import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, count, drive, load_code, recorded
from peers import Peer, Talk, peer

from clients import histogram, load_thread, pacing, schedule, session, table
from clients.job import Load
from clients.wire import EVENT_WORDS

RATE_HZ = 500.0


def drive_open(server: Peer, **options: Any) -> Load:
    return drive(server, **{"workload": "open", "rate_hz": RATE_HZ, "duration_s": FOREVER_S, **options})


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[schedule.Plan]:
    """The plans of a run, one for each thread, as they stood at its beginning."""
    kept: list[schedule.Plan] = []
    load_code()  # which runs a plan too

    def start(plan: schedule.Plan, at_ns: int) -> None:
        begin(plan, at_ns)
        kept.append(plan.copy())

    begin = schedule.start
    monkeypatch.setattr(session.schedule, "start", start)
    return kept


def say_nothing(talk: Talk, message: bytes) -> None:
    """A fault: read on, never answer again, and leave open at the end whether an answer would have come."""
    while talk.receive(1):
        pass
    peers.reset(talk, message)


def due_by_close(plans: list[schedule.Plan], load: Load) -> int:
    return sum(schedule.due_by(plan, load.closed_ns) for plan in plans)


def longer_than(text: str, ns: float) -> int:
    """How many recorded times are above a limit, by the lower ends of their buckets."""
    hist = recorded(text)
    counts = histogram.decode(text)
    return sum(int(counts[i]) for i in np.flatnonzero(counts) if hist.get_value_from_index(int(i)) >= ns)


# --- the plan is kept


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_as_many_messages_are_planned_as_the_schedule_says(
    transport: str, arrivals: str, plans: list[schedule.Plan]
) -> None:
    with peer(transport, 100) as server:
        server.wrongs = 1  # count every echo
        load = drive_open(server, connections=3, arrivals=arrivals, ended=after(100, lambda: server.echoed))
    assert load.planned == due_by_close(plans, load)
    assert load.completed >= 99
    assert load.errors == {}


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_as_many_messages_are_planned_when_the_server_says_nothing(arrivals: str, plans: list[schedule.Plan]) -> None:
    with peer("tcp", 64, say_nothing, at=0) as server:
        load = drive_open(server, connections=2, arrivals=arrivals, duration_s=0.3)
    assert load.planned == due_by_close(plans, load)
    assert load.completed == 0
    assert load.errors == {}


def test_the_offered_rate_is_that_of_the_plan_in_the_window(plans: list[schedule.Plan]) -> None:
    with peer("tcp", 64) as server:
        load = drive_open(server, arrivals="poisson", warmup_s=0.1, duration_s=0.4)
    due = due_by_close(plans, load) - schedule.due_by(plans[0], load.opened_ns)
    assert load.offered_hz == pytest.approx(due / (load.closed_ns - load.opened_ns) * 1e9)


def test_a_closed_loop_has_no_plan() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, duration_s=0.05)
    assert (load.response_hdr, load.lag_hdr, load.offered_hz, load.pacing, load.unsent) == ("", "", 0, "", 0)


def test_messages_go_to_the_connections_in_turn() -> None:
    served: list[int] = []

    def note(talk: Talk, message: bytes) -> None:
        served.append(id(talk))
        peers.echo(talk, message)

    with peer("tcp", 64, note, at=0) as server:  # the first message of each connection
        drive_open(server, connections=5, ended=lambda: len(served) == 5)
    assert len(set(served)) == 5


# --- waiting is in the response time


class Stall:
    """A fault: the peer answers nothing for a while, and notes from when to when that was."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began_ns = self.ended_ns = 0

    def __call__(self, talk: Talk, message: bytes) -> None:
        self.began_ns = time.monotonic_ns()
        time.sleep(self.seconds)  # the fault itself, not a wait for something to be ready
        self.ended_ns = time.monotonic_ns()
        peers.echo(talk, message)


@pytest.mark.parametrize("cap", [0, 3])
@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_what_was_planned_during_a_stall_waited_until_its_end(
    cap: int, arrivals: str, plans: list[schedule.Plan]
) -> None:
    stall = Stall(0.5)
    with peer("tcp", 64, stall, at=20) as server:
        load = drive_open(server, arrivals=arrivals, cap=cap, ended=after(400, lambda: server.echoed))
    times_ns = schedule.due_times_ns(plans[0], load.planned)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        limit_ns = share * (stall.ended_ns - stall.began_ns)
        waited = (times_ns >= stall.began_ns) & (times_ns <= stall.ended_ns - limit_ns)
        assert longer_than(load.response_hdr, limit_ns * 0.999) >= np.count_nonzero(waited)


def test_under_a_cap_service_times_hide_a_stall_from_all_but_a_few() -> None:
    stall = Stall(1.0)
    with peer("tcp", 64, stall, at=20) as server:
        load = drive_open(server, cap=3, ended=after(1000, lambda: server.echoed))
    assert longer_than(load.service_hdr, 0.8e9) <= 3
    assert longer_than(load.response_hdr, 0.8e9) > 50


def test_without_a_cap_service_times_show_a_stall_too() -> None:
    stall = Stall(0.5)
    with peer("tcp", 64, stall, at=20) as server:
        load = drive_open(server, ended=after(400, lambda: server.echoed))
    assert longer_than(load.service_hdr, 0.25e9) > 50


def test_no_message_takes_less_from_its_plan_than_from_its_send() -> None:
    with peer("tcp", 64) as server:
        server.wrongs = 1
        load = drive_open(server, rate_hz=5000.0, connections=3, ended=after(2000, lambda: server.echoed))
    response, service = histogram.decode(load.response_hdr), histogram.decode(load.service_hdr)
    assert (np.cumsum(response) <= np.cumsum(service)).all()


def test_the_lag_of_every_message_sent_is_noted() -> None:
    with peer("tcp", 64) as server:
        server.wrongs = 1
        load = drive_open(server, connections=3, ended=after(100, lambda: server.echoed))
    assert count(load.lag_hdr) == load.planned - load.unsent


def test_a_load_thread_that_was_held_up_shows_it_as_lag() -> None:
    """A signal handler that takes its time stands for whatever keeps the thread from its work."""
    held_ns: list[int] = []

    def dawdle() -> bool:
        if server.echoed > 100 and not held_ns:
            before = time.monotonic_ns()
            time.sleep(0.3)
            held_ns.append(time.monotonic_ns() - before)
        return server.echoed > 300

    with peer("tcp", 64) as server:
        server.wrongs = 1
        load = drive_open(server, ended=dawdle)
    assert recorded(load.lag_hdr).max_value >= held_ns[0] - 1e9 / RATE_HZ
    assert longer_than(load.lag_hdr, held_ns[0] / 2) >= 50


# --- what can't be sent waits, and nothing is lost


def test_a_cap_bounds_what_is_outstanding_and_the_rest_is_unsent() -> None:
    with peer("tcp", 64, say_nothing, at=0) as server:
        load = drive_open(server, connections=4, cap=5, duration_s=0.3)
    assert load.in_flight == 5
    assert load.unsent == load.planned - 5 > 0
    assert count(load.lag_hdr) == 5


def test_without_a_cap_everything_due_is_sent() -> None:
    sent = threading.Event()

    def swallow(talk: Talk, message: bytes) -> None:
        for _ in range(150):
            talk.receive(64)
        sent.set()
        say_nothing(talk, message)

    with peer("tcp", 64, swallow, at=0) as server:
        load = drive_open(server, ended=sent.is_set)
    assert load.in_flight >= 151


def test_where_no_connection_can_note_another_message_the_plan_waits(
    monkeypatch: pytest.MonkeyPatch, plans: list[schedule.Plan]
) -> None:
    monkeypatch.setattr(table, "_slots", lambda job, connections: 8)
    with peer("tcp", 64, say_nothing, at=0) as server:
        load = drive_open(server, connections=2, duration_s=0.3)
    assert load.in_flight == 16
    assert load.unsent == load.planned - 16
    assert load.planned == due_by_close(plans, load)


def test_a_plan_that_waited_goes_on_with_its_times_standing(
    monkeypatch: pytest.MonkeyPatch, plans: list[schedule.Plan]
) -> None:
    monkeypatch.setattr(table, "_slots", lambda job, connections: 8)
    stall = Stall(0.5)
    with peer("tcp", 64, stall, at=20) as server:
        load = drive_open(server, ended=after(400, lambda: server.echoed))
    half_ns = (stall.ended_ns - stall.began_ns) / 2
    times_ns = schedule.due_times_ns(plans[0], load.planned)
    waited = (times_ns >= stall.began_ns) & (times_ns <= stall.ended_ns - half_ns)
    assert longer_than(load.response_hdr, half_ns * 0.999) >= np.count_nonzero(waited) > 8


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_long_messages_wait_for_the_one_before_them_and_come_back_whole(transport: str) -> None:
    with peer(transport, 1 << 20) as server:
        server.wrongs = 1
        load = drive_open(server, connections=2, rate_hz=2000.0, ended=after(50, lambda: server.echoed))
    assert load.errors == {}
    assert load.bytes_echoed == load.completed << 20
    assert load.unsent > 0


def test_the_plan_of_a_connection_that_failed_goes_to_the_others(plans: list[schedule.Plan]) -> None:
    with peer("tcp", 64, peers.flip_middle, on=(0, 2)) as server:
        load = drive_open(server, connections=4, ended=after(300, lambda: server.echoed))
    assert set(load.errors) == {"corrupt"}
    assert load.errors["corrupt"] >= 2
    assert load.completed > 250
    assert load.planned >= due_by_close(plans, load)


def test_when_every_connection_has_failed_the_window_ends() -> None:
    with peer("tcp", 64, peers.close) as server:
        load = drive_open(server, connections=3)
    assert sum(load.errors.values()) >= 3


def test_a_silent_connection_is_timed_out_with_all_that_was_outstanding() -> None:
    with peer("tcp", 64, say_nothing, at=0) as server:
        load = drive_open(server, connections=1, timeout_s=0.3)
    assert load.timed_out > 1
    assert load.completed == load.in_flight == 0


def test_the_plan_goes_on_after_the_window_until_the_load_is_told_to_stop() -> None:
    at_close: list[int] = []

    def say(event: str, at_ns: int) -> None:
        if event == "window_closed":
            at_close.append(server.echoed)

    with peer("tcp", 64) as server:
        server.wrongs = 1
        drive_open(
            server,
            duration_s=0.1,
            say=say,
            ended=lambda: bool(at_close) and server.echoed > at_close[0] + 50,
            hold_s=FOREVER_S,
        )
        assert server.echoed > at_close[0] + 50


# --- pacing


def test_the_record_says_how_planned_times_are_waited_for() -> None:
    with peer("tcp", 64) as server:
        load = drive_open(server, connections=3, threads=2, duration_s=0.05)
    assert re.fullmatch(r"epoll_(pwait2|wait), (spin under [1-9]\d* us|no spin)", load.pacing)


def test_without_epoll_pwait2_whole_milliseconds_are_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_try_fine", lambda *state: -1)
    with peer("tcp", 64) as server:
        server.wrongs = 1
        load = drive_open(server, ended=after(50, lambda: server.echoed))
    assert load.pacing in ("epoll_wait, spin under 1000 us", "epoll_wait, no spin")
    assert load.errors == {}


def test_nobody_spins_on_the_only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with peer("tcp", 64) as server:
        server.wrongs = 1
        load = drive_open(server, ended=after(50, lambda: server.echoed))
    assert load.pacing.endswith("no spin")


def wait(pace: pacing.Pace, left_ns: int) -> int:
    """Wait once on an epoll with nothing in it; returns how long that took."""
    events, timespec = np.empty((4, EVENT_WORDS), np.int32), np.zeros(2, np.int64)
    with select.epoll() as epoll:
        before = time.monotonic_ns()
        assert pacing.wait(pace[0], epoll.fileno(), events, before, before + left_ns, timespec) == 0
        return time.monotonic_ns() - before


def a_pace(spin_ns: float, least_ns: float = 1.0, most_ns: float = 1e12) -> pacing.Pace:
    pace: pacing.Pace = np.zeros(1, pacing.PACE)
    pace["fine"], pace["spin_ns"], pace["least_ns"], pace["most_ns"] = 1, spin_ns, least_ns, most_ns
    return pace


def test_a_wait_ends_before_the_moment_and_its_last_stretch_is_counted_as_spinning() -> None:
    pace = a_pace(50e6)
    assert wait(pace, 60_000_000) >= 9_000_000  # asleep until the last 50 ms begin
    assert pace["spun_ns"][0] == 0
    wait(pace, 40_000_000)  # within them: a look
    assert 0 < pace["spun_ns"][0] < 40_000_000


def test_a_sleep_that_was_too_late_lengthens_the_last_stretch_and_any_other_shortens_it() -> None:
    late, early = a_pace(1.0), a_pace(60e9)
    wait(late, 1_000_000)
    assert late["spin_ns"][0] == 1.25
    wait(early, 60_001_000_000)
    assert 0.99 * 60e9 < early["spin_ns"][0] < 60e9


def test_the_last_stretch_settles_where_1_sleep_in_100_is_later() -> None:
    late_ns = np.random.default_rng(4).exponential(10_000, 200_000)
    spin_ns, above = 200_000.0, 0
    for each in late_ns:
        above += each > spin_ns
        spin_ns *= pacing._LONGER if each > spin_ns else pacing._SHORTER
    assert above / len(late_ns) == pytest.approx(0.01, rel=0.1)


def test_the_last_stretch_has_bounds() -> None:
    longest, shortest = a_pace(1.0, most_ns=1.1), a_pace(60e9, least_ns=60e9)
    wait(longest, 1_000_000)
    wait(shortest, 60_001_000_000)
    assert (longest["spin_ns"][0], shortest["spin_ns"][0]) == (1.1, 60e9)


@pytest.mark.parametrize(
    ("mean_gap_ns", "spin_ns"), [(1e3, 200e3), (4e6, 200e3), (10e6, 500e3), (20e6, 1e6), (1e12, 1e6)]
)
def test_where_messages_are_rare_the_last_stretch_may_be_longer(mean_gap_ns: float, spin_ns: float) -> None:
    events, timespec = np.empty((4, EVENT_WORDS), np.int32), np.zeros(2, np.int64)
    with select.epoll() as epoll:
        pace = pacing.choose(epoll.fileno(), events, timespec, mean_gap_ns)
    if (os.cpu_count() or 1) > 1 and pace["fine"][0]:
        assert pace["spin_ns"][0] == pace["most_ns"][0] == pytest.approx(spin_ns)


def test_a_plan_leaves_the_connections_messages_enough_room_without_taking_memory_for_all() -> None:
    job = peers_job()
    assert table._slots(job, 1) == 1 << 16
    assert table._slots(job, 64) == 1 << 16
    assert table._slots(job, 10_000) * 10_000 * 16 < 128 << 20
    assert table._slots(job, 1_000_000) == 64


def peers_job() -> Any:
    return session.Job(
        address="tcp:127.0.0.1:1", connections=1, message_bytes=1, duration_s=1.0, workload="open", rate_hz=1.0
    )


def test_timers_of_a_load_thread_with_a_plan_have_no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(load_thread.pacing, "take_slack", lambda: asked.append(True))
    with peer("tcp", 64) as server:
        drive(server, duration_s=0.02)
        assert asked == []
        drive_open(server, duration_s=0.02)
    assert asked == [True]
