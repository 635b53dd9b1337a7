"""The end of a load: who fell silent is told of, whenever that was, and the last byte that comes is compared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, check_books, drive, kinds, load_code, strategy
from peers import Fault, Peer, Talk, peer

from clients import load_thread, lost
from clients.job import Job
from clients.opening import connect
from clients.session import Session

TIMEOUT_S = 0.7
LONG_NS = 3_000_000_000  # beyond any timeout


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for echoes a little longer, since machines may be busy, and hardly for the end of those that never end."""
    load_code()
    monkeypatch.setattr(load_thread, "DRAIN_NS", 500_000_000)
    monkeypatch.setattr(lost, "PATIENCE_NS", 50_000_000)


@contextmanager
def session(server: Peer, **options: Any) -> Iterator[Session]:
    job = Job(address=server.address, message_bytes=64, duration_s=1.0, **options)
    with Session(job, connect(job)) as opened:
        yield opened


# --- falling silent


class Silence:
    """A fault: from some moment on, messages are not answered; `fallen` has the connections where that happened."""

    def __init__(self, instead: Fault, quiet: Callable[[], bool]) -> None:
        self._instead, self._quiet = instead, quiet
        self.fallen: set[int] = set()

    def __call__(self, talk: Talk, message: bytes) -> None:
        if not self._quiet():
            peers.echo(talk, message)
            return
        self.fallen.add(talk.channel.rfd)
        self._instead(talk, message)


def after(seconds: float) -> Callable[[], bool]:
    end_s = time.monotonic() + seconds
    return lambda: time.monotonic() >= end_s


MOMENTS_S = [0.0, 0.11, 0.2, 0.3, 0.38, 0.45, 0.55]  # in the warm-up, in the window, and while the load stays on
PHASES: dict[str, Any] = {"connections": 4, "warmup_s": 0.1, "duration_s": 0.3, "hold_s": 0.2}


@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_a_timeout_is_told_of_whenever_the_connection_fell_silent(
    moment_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_thread, "DRAIN_NS", LONG_NS)
    silence = Silence(peers.stall, after(moment_s))
    with peer(fault=silence, at=0, on=(0, 1), from_there_on=True) as server:
        load = drive(server, timeout_s=TIMEOUT_S, **PHASES)
    assert load.timed_out == len(silence.fallen)
    assert load.errors == {}


@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_a_loss_is_told_of_whenever_the_connection_fell_silent(
    moment_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_thread, "DRAIN_NS", 50_000_000)
    monkeypatch.setattr(lost, "PATIENCE_NS", LONG_NS * 10)  # over as soon as all connections have ended
    silence = Silence(peers.drop, after(moment_s))
    with peer(fault=silence, at=0, on=(0, 1), from_there_on=True) as server:
        load = drive(server, timeout_s=FOREVER_S, **PHASES)
    assert load.errors == ({"lost": len(silence.fallen)} if silence.fallen else {})
    assert load.timed_out == 0


@pytest.mark.parametrize(("workload", "threads"), [("open", 1), ("burst", 2), ("stream", 1)])
def test_under_other_workloads_too(workload: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_thread, "DRAIN_NS", LONG_NS)
    silence = Silence(peers.stall, after(0.3))
    options = PHASES | ({"rate_hz": 500.0} if workload == "open" else {})
    with peer(fault=silence, at=0, on=(0, 1), from_there_on=True) as server:
        load = drive(server, workload, timeout_s=TIMEOUT_S, threads=threads, **options)
    assert load.timed_out >= len(silence.fallen) > 0


@pytest.mark.parametrize("quiet_in", [0, 1, 2])
@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 1], [2]])
def test_in_turns_a_timeout_is_told_of_whichever_turn_it_fell_into(
    quiet_in: int, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_thread, "DRAIN_NS", LONG_NS)
    quiet = threading.Event()
    silence = Silence(peers.stall, quiet.is_set)
    with (
        peer(fault=silence, at=0, on=(0,), from_there_on=True) as server,
        session(server, connections=2, timeout_s=TIMEOUT_S) as opened,
    ):
        for number in range(3):
            if number == quiet_in:
                quiet.set()
            opened.turn(0.01, 0.05)
        load = opened.finish(kept)
    check_books(load)
    assert kinds(load) == {"timed_out": 1}


def test_a_message_that_has_not_waited_for_the_timeout_is_in_flight() -> None:
    opened: list[float] = []

    def say(event: str, at_ns: int) -> None:
        opened.append(at_ns / 1e9)

    silence = Silence(peers.stall, lambda: bool(opened) and time.monotonic() > opened[0] + 0.15)
    with peer(fault=silence, at=0, on=(0, 1), from_there_on=True) as server:
        load = drive(server, timeout_s=FOREVER_S, say=say, **PHASES)
    assert kinds(load) == {}
    assert 2 <= load.in_flight <= 4
    assert load.mute == 0  # each had an echo in the window


# --- the last byte


def at_the_end(send: Callable[[Talk, bytes], None]) -> Fault:
    """Echo all messages but the last, and `send` something for it when the client has half-closed."""

    def fault(talk: Talk, message: bytes) -> None:
        while following := talk.receive(len(message)):
            talk.send(message)
            message = following
        send(talk, message)
        talk.end()

    return fault


LAST_WORDS: list[tuple[Callable[[Talk, bytes], None], dict[str, int]]] = [
    (lambda talk, message: talk.send(message), {}),
    (lambda talk, message: None, {"lost": 1}),
    (lambda talk, message: talk.send(message[:-1]), {"short": 1}),
    (lambda talk, message: talk.send(message + message), {"duplicated": 1}),
    (lambda talk, message: talk.send(message + b"!?"), {"extra": 1}),
    (lambda talk, message: talk.send(message[:-1] + bytes([message[-1] ^ 1])), {"corrupt": 1}),
    (lambda talk, message: talk.send(b"x" * len(message)), {"corrupt": 1}),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("send", "expected"), LAST_WORDS)
def test_what_comes_after_the_half_close_is_compared_to_its_last_byte(
    transport: str,
    send: Callable[[Talk, bytes], None],
    expected: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load_thread, "DRAIN_NS", 20_000_000)
    monkeypatch.setattr(lost, "PATIENCE_NS", LONG_NS * 10)
    with peer(transport, fault=at_the_end(send), at=0) as server:
        load = drive(server, "open", rate_hz=200.0, timeout_s=FOREVER_S)
    assert kinds(load) == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_server_that_repeats_its_last_echo_when_all_has_been_answered_is_found_out(
    transport: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "PATIENCE_NS", LONG_NS * 10)

    def repeat(talk: Talk, message: bytes) -> None:
        last = b""
        while message:
            talk.send(message)
            message, last = talk.receive(len(message)), message
        talk.send(last)
        talk.end()

    with peer(transport, fault=repeat, at=0) as server:
        load = drive(server, connections=3, threads=threads)
    assert load.errors == {"duplicated": 3}


def test_a_reset_after_the_half_close_tells_nothing_where_all_has_been_answered() -> None:
    def echo_and_reset(talk: Talk, message: bytes) -> None:
        while message:
            talk.send(message)
            message = talk.receive(len(message))
        peers.reset(talk, b"")

    with peer(fault=echo_and_reset, at=0) as server:
        load = drive(server, connections=3)
    assert kinds(load) == {}


# --- mute connections


@pytest.mark.parametrize(("workload", "threads"), [("closed", 1), ("closed", 3), ("open", 1), ("idle", 1), ("slow", 1)])
def test_connections_without_a_single_echo_are_mute(workload: str, threads: int) -> None:
    options = {"rate_hz": 1000.0} if workload == "open" else {"trickle_bytes": 64} if workload == "slow" else {}
    with peer(fault=peers.stall, at=0, on=(1, 2, 5)) as server:
        load = drive(server, workload, connections=6, threads=threads, duration_s=0.4, **options)
    assert load.mute == 3
    assert kinds(load) == {}


def test_a_connection_that_is_mute_from_the_warm_up_on_is_mute_in_the_window() -> None:
    silence = Silence(peers.stall, after(0.1))
    with peer(fault=silence, at=0, on=(0,), from_there_on=True) as server:
        load = drive(server, connections=3, warmup_s=0.3, duration_s=0.3)
    assert load.mute == 1


def test_a_connection_that_nobody_serves_under_churn_is_mute() -> None:
    with peer(fault=peers.stall, at=0, on=(9,)) as server:
        load = drive(server, "churn", connections=2, duration_s=0.4)
    assert load.mute == 1


def test_of_a_server_that_serves_one_connection_at_a_time_all_others_are_mute() -> None:
    with strategy("iterative", "tcp") as server:
        load = drive(server, connections=9, duration_s=0.4)
    assert load.mute == 8
    assert load.in_flight >= 8


def test_where_nothing_was_echoed_every_connection_is_mute() -> None:
    with peer(fault=peers.stall, at=0) as server:
        load = drive(server, connections=3)
    assert (load.completed, load.mute) == (0, 3)


@pytest.mark.parametrize("workload", ["closed", "burst", "stream"])
def test_of_a_server_that_answers_everybody_no_connection_is_mute(workload: str) -> None:
    with peer() as server:
        load = drive(server, workload, connections=20)
    assert (load.mute, kinds(load)) == (0, {})


def test_in_a_window_too_short_for_all_those_whose_turn_has_not_come_yet_are_not_mute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that takes 5 ms for each message, one after the other, of more connections than it gets through."""
    monkeypatch.setattr(load_thread, "DRAIN_NS", 100_000_000)
    waiting: SimpleQueue[tuple[Talk, bytes, threading.Event] | None] = SimpleQueue()

    def serve() -> None:
        while came := waiting.get():
            talk, message, served = came
            time.sleep(0.005)  # the service itself
            with suppress(OSError):  # the client has gone
                talk.send(message)
            served.set()

    def queue(talk: Talk, message: bytes) -> None:
        served = threading.Event()
        waiting.put((talk, message, served))
        served.wait()

    serving = threading.Thread(target=serve)
    serving.start()
    with peer(fault=queue, at=0, from_there_on=True) as server:
        load = drive(server, connections=150)
    waiting.put(None)
    serving.join()
    assert load.completed < 150
    assert load.mute == 0


def test_a_long_message_of_which_bytes_come_is_not_mute() -> None:
    with strategy("epoll_lt", "tcp") as server:
        load = drive(server, "slow", message_bytes=1 << 20, trickle_bytes=10, trickle_hz=1000.0)
    assert (load.completed, load.mute) == (0, 0)


@pytest.mark.parametrize(("kept", "mute"), [([0, 1], 0), ([1], 1)])
def test_in_turns_all_those_that_count_are_looked_at_together(kept: list[int], mute: int) -> None:
    quiet = threading.Event()
    silence = Silence(peers.stall, quiet.is_set)
    with (
        peer(fault=silence, at=0, on=(0,), from_there_on=True) as server,
        session(server, connections=2) as opened,
    ):
        opened.turn(0.0, 0.1)
        quiet.set()
        opened.turn(0.1, 0.1)
        load = opened.finish(kept)
    check_books(load)
    assert load.mute == mute
