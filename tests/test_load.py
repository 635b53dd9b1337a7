"""The closed loop against honest and faulty peers: what it counts, how it names faults, and that its books balance."""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import fields
from typing import Any

import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, descriptors, drive
from peers import Fault, peer

from bench.record import Load as RecordedLoad
from clients import histogram, opening, table
from clients.job import Job, JobError, Load, read_job
from clients.opening import Connected, connect
from clients.session import run
from servers import transport
from servers.contract import Channel
from servers.transport import Address


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("message_bytes", [1, 2, 7, 8, 9, 64, 4096, 65_537, 1_000_003, 8 << 20])
def test_every_byte_of_any_message_comes_back_verified(transport: str, message_bytes: int) -> None:
    with peer(transport, message_bytes) as server:
        server.wrongs = 1  # count every echo
        load = drive(server, connections=3, duration_s=FOREVER_S, ended=after(12, lambda: server.echoed))
    assert load.errors == {}
    assert load.timed_out == 0
    assert load.completed > 0
    assert load.bytes_echoed == load.completed * message_bytes


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("message_bytes", [1, 3, 64, 5000])
def test_an_echo_in_one_byte_fragments_is_no_fault(transport: str, message_bytes: int) -> None:
    with peer(transport, message_bytes, peers.fragments, at=2) as server:
        load = drive(server, duration_s=FOREVER_S, ended=after(5, lambda: server.echoed))
    assert load.errors == {}


FAULTS: list[tuple[Fault, str]] = [
    (peers.flip_first, "corrupt"),
    (peers.flip_middle, "corrupt"),
    (peers.flip_last, "corrupt"),
    (peers.duplicate, "duplicated"),
    (peers.duplicate_late, "duplicated"),
    (peers.drop, "timed_out"),
    (peers.truncate, "short"),
    (peers.cut_middle, "short"),
    (peers.pad, "extra"),
    (peers.pad_front, "extra"),
    (peers.insert, "extra"),
    (peers.close, "closed"),
    (peers.close_half_way, "closed"),
]

WAITED_FOR = (peers.drop, peers.truncate)  # nothing more comes, so that only time tells


def kinds(load: Load) -> dict[str, int]:
    return {**load.errors, **({"timed_out": load.timed_out} if load.timed_out else {})}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("message_bytes", [64, 300_000])
@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_found_and_named(transport: str, message_bytes: int, fault: Fault, kind: str) -> None:
    with peer(transport, message_bytes, fault) as server:
        load = drive(server, duration_s=FOREVER_S, timeout_s=1.0 if fault in WAITED_FOR else FOREVER_S)
    assert kinds(load) == {kind: 1}
    assert load.completed in (5, 6)  # a fault that follows a whole echo befalls the message after it


@pytest.mark.parametrize(("fault", "kind"), [(peers.flip_first, "corrupt"), (peers.duplicate, "duplicated")])
def test_a_fault_in_one_byte_messages_is_found_and_named(fault: Fault, kind: str) -> None:
    with peer("tcp", 1, fault) as server:
        load = drive(server, duration_s=FOREVER_S, timeout_s=FOREVER_S)
    assert kinds(load) == {kind: 1}


def test_a_reset_is_named() -> None:
    with peer("tcp", 64, peers.reset) as server:
        load = drive(server, duration_s=FOREVER_S)
    assert load.errors == {"reset": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_connection_that_is_closed_before_its_first_echo_was_refused(transport: str) -> None:
    with peer(transport, 64, peers.close, at=0, on=(1,)) as server:
        load = drive(server, connections=3, duration_s=FOREVER_S, ended=after(20, lambda: server.echoed))
    assert load.errors == {"refused": 1}


@pytest.mark.parametrize(
    ("fault", "kind"), [(peers.drop, "lost"), (peers.reorder, "reordered"), (peers.truncate, "short")]
)
def test_with_several_messages_outstanding_a_missing_one_is_noticed_by_the_next(fault: Fault, kind: str) -> None:
    with peer("tcp", 64, fault) as server:
        load = drive(server, depth=4, duration_s=FOREVER_S)
    assert set(load.errors) == {kind}
    assert 1 <= load.errors[kind] <= 4  # every message that was outstanding
    assert load.timed_out == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_several_messages_outstanding_come_back_verified(transport: str) -> None:
    with peer(transport, 100) as server:
        server.wrongs = 1
        load = drive(server, connections=2, depth=5, duration_s=FOREVER_S, ended=after(200, lambda: server.echoed))
    assert load.errors == {}
    assert load.in_flight <= 10


def test_a_fault_ends_its_connection_and_no_other() -> None:
    with peer("tcp", 64, peers.flip_middle, on=(0, 2)) as server:
        load = drive(server, connections=4, duration_s=FOREVER_S, ended=after(300, lambda: server.echoed))
    assert load.errors == {"corrupt": 2}
    assert load.completed > 200


def test_the_bytes_of_another_connection_are_corrupt() -> None:
    both = threading.Barrier(2)
    messages: dict[int, bytes] = {}

    def swap(talk: peers.Talk, message: bytes) -> None:
        messages[id(talk)] = message
        both.wait(FOREVER_S)
        talk.send(next(other for key, other in messages.items() if key != id(talk)))

    with peer("tcp", 64, swap) as server:
        load = drive(server, connections=2, duration_s=FOREVER_S)
    assert load.errors == {"corrupt": 2}


def test_a_silent_server_is_timed_out_and_the_run_ends_early() -> None:
    with peer("tcp", 64, peers.drop, at=0) as server:
        load = drive(server, connections=5, duration_s=FOREVER_S, timeout_s=0.05)
    assert load.timed_out == 5
    assert load.completed == 0


def test_messages_still_under_way_when_the_window_closes_are_in_flight() -> None:
    with peer("tcp", 64, peers.stall, at=3) as server:
        load = drive(server, connections=5, duration_s=0.3)
    assert (load.completed, load.in_flight, load.errors) == (15, 5, {})


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("fault", "kind"), [(peers.drop, "lost"), (peers.truncate, "short")])
def test_what_never_comes_back_is_named_at_the_end_though_nothing_came_after_it(
    transport: str, fault: Fault, kind: str
) -> None:
    with peer(transport, 64, fault, at=0, on=(0, 2)) as server:
        load = drive(server, connections=5, warmup_s=0.3, duration_s=0.1)
    assert (load.errors, load.in_flight, load.timed_out) == ({kind: 2}, 3, 0)


def test_what_happens_in_the_warm_up_is_not_recorded() -> None:
    with peer("tcp", 64, peers.stall, at=3) as server:
        load = drive(server, connections=5, warmup_s=0.3, duration_s=0.1)
    assert (load.completed, load.in_flight, load.planned) == (0, 5, 5)


def test_a_connection_that_failed_in_the_warm_up_is_counted_and_not_hidden() -> None:
    with peer("tcp", 64, peers.flip_first, on=(0,)) as server:
        load = drive(server, connections=3, warmup_s=0.3, duration_s=0.1)
    assert load.connections == 2
    assert load.errors == {"corrupt": 1}


def test_a_run_whose_connections_all_fail_before_the_window_says_why() -> None:
    with peer("tcp", 64, peers.close, at=0) as server, pytest.raises(JobError, match="refused 3"):
        drive(server, connections=3, warmup_s=FOREVER_S)


def test_the_window_has_the_length_asked_for_in_intervals_of_100_ms() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, connections=2, duration_s=0.25)
    assert load.interval_ns == 100_000_000
    assert len(load.intervals) == 3
    assert load.closed_ns - load.opened_ns >= 250_000_000


def test_the_load_stays_on_after_the_window_until_it_is_told_to_stop() -> None:
    seen: list[tuple[str, int]] = []
    at_close: list[int] = []

    def say(event: str, at_ns: int) -> None:
        seen.append((event, at_ns))
        if event == "window_closed":
            at_close.append(server.echoed)

    def ended() -> bool:
        return bool(at_close) and server.echoed > at_close[0] + 50

    with peer("tcp", 64) as server:
        server.wrongs = 1
        load = drive(server, duration_s=0.1, say=say, ended=ended, hold_s=FOREVER_S)
        assert server.echoed > at_close[0] + 50
    assert seen == [("window_opened", load.opened_ns), ("window_closed", load.closed_ns)]
    assert load.completed <= at_close[0] + 1


def test_service_times_are_positive_and_no_longer_than_the_run() -> None:
    with peer("tcp", 64) as server:
        load = drive(server)
    recorded = histogram.to_hdr(histogram.decode(load.service_hdr))
    assert 0 < recorded.min_value <= recorded.max_value <= load.closed_ns - load.opened_ns


def test_wrong_bytes_on_very_many_connections_at_once_are_named_without_delay() -> None:
    with peer("tcp", 64, peers.flip_last) as server:
        load = drive(server, connections=400, duration_s=FOREVER_S)
    assert load.errors == {"corrupt": 400}


def test_a_slow_echo_is_as_slow_in_the_histogram() -> None:
    took_ns: list[int] = []

    def dawdle(talk: peers.Talk, message: bytes) -> None:
        start = time.monotonic_ns()
        time.sleep(0.05)  # the fault itself, not a wait for something to be ready
        took_ns.append(time.monotonic_ns() - start)
        talk.send(message)

    with peer("tcp", 64, dawdle) as server:
        load = drive(server, duration_s=FOREVER_S, ended=after(10, lambda: server.echoed))
    longest = histogram.to_hdr(histogram.decode(load.service_hdr)).max_value
    assert longest >= took_ns[0]


def test_the_cpu_time_of_the_load_thread_is_a_share_of_the_window() -> None:
    with peer("tcp", 64) as server:
        load = drive(server, connections=4)
    assert len(load.worker_busy) == 1
    assert 0 < load.worker_busy[0] <= 1
    assert load.cpu_user_ns >= 0
    assert load.cpu_system_ns >= 0


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", [peers.echo, peers.flip_first, peers.close, peers.drop])
def test_every_descriptor_is_closed_after_a_run(transport: str, fault: Fault) -> None:
    before = descriptors()
    with peer(transport, 64, fault) as server:
        drive(server, connections=10, duration_s=0.15, timeout_s=0.05)
    assert descriptors() == before


def test_every_descriptor_is_closed_when_a_run_is_interrupted() -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    before = descriptors()
    with peer("tcp", 64) as server, pytest.raises(KeyboardInterrupt):
        drive(server, connections=10, ended=interrupt)
    assert descriptors() == before


def test_three_hundred_connections_are_all_served() -> None:
    with peer("tcp", 16) as server:
        server.wrongs = 1
        load = drive(
            server,
            connections=300,
            duration_s=FOREVER_S,
            ended=lambda: server.accepted == 300 and server.echoed >= 3000,
        )
    assert load.connections == server.accepted == 300
    assert load.errors == {}


def test_connections_that_cannot_be_opened_are_refused_and_the_reason_is_kept() -> None:
    with peers.nobody() as address:
        job = Job(address=address, connections=7, message_bytes=64, duration_s=1.0)
        channels, failed, reason, *_ = connect(job)
    assert (channels, failed, reason) == ([], {"refused": 7}, "Connection refused")
    with pytest.raises(JobError, match="refused 7"):
        run(job, Connected([], failed, reason, 0))


def test_a_full_backlog_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    full = [True, True, True]  # connect(2) on a UNIX socket says EAGAIN where there is no room for another

    def dial(address: Address, timeout: float) -> Channel:
        if full:
            full.pop()
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return transport.dial(address, timeout)

    monkeypatch.setattr(opening, "dial", dial)
    with peer("unix", 64) as server:
        load = drive(server, connections=3)
    assert load.connections == 3
    assert load.errors == {}


def test_connections_are_not_waited_for_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(address: Address, timeout: float) -> Channel:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(opening, "dial", dial)
    job = Job(address="unix:@nowhere", connections=3, message_bytes=1, duration_s=1.0, timeout_s=0.02)
    assert connect(job).failed == {"timed_out": 3}


def test_a_lack_of_descriptors_is_this_machine_s_and_nobody_is_called_refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(address: Address, timeout: float) -> Channel:
        if server.accepted > 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return transport.dial(address, timeout)

    monkeypatch.setattr(opening, "dial", dial)
    before = descriptors()
    with peer("tcp", 64) as server, pytest.raises(JobError, match="Too many open files"):
        drive(server, connections=10_000)
    assert descriptors() == before


def test_connections_that_the_kernel_will_not_watch_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "register", lambda *state: errno.ENOSPC)
    before = descriptors()
    with peer("tcp", 64) as server, pytest.raises(JobError, match="can't be watched: No space left"):
        drive(server, connections=3)
    assert descriptors() == before


def test_a_load_has_the_fields_of_a_record_s_load() -> None:
    assert [field.name for field in fields(Load)] == list(RecordedLoad.__struct_fields__)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"address": "http://x"}, "is not an address"),
        ({"workload": "sideways"}, "workload 'sideways'"),
        ({"connections": 0}, "connections"),
        ({"connections": "8"}, "connections can't be '8'"),
        ({"connections": True}, "connections can't be True"),
        ({"message_bytes": 0}, "message_bytes"),
        ({"duration_s": 0}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"warmup_s": -1}, "warmup_s"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_job_with_a_bad_value_is_refused_by_name(change: dict[str, Any], complaint: str) -> None:
    good = {"address": "tcp:127.0.0.1:1", "connections": 1, "message_bytes": 1, "duration_s": 1}
    assert read_job(good).duration_s == 1
    with pytest.raises(JobError, match=complaint):
        read_job({**good, **change})


def test_a_job_without_a_value_that_it_needs_is_refused() -> None:
    with pytest.raises(JobError, match="connections"):
        read_job({"address": "tcp:127.0.0.1:1", "message_bytes": 1, "duration_s": 1})
