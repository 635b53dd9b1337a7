"""What stops a trial of very many connections: it is said before the run where it can be, and afterwards in words."""

from __future__ import annotations

import errno
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from driving import drive
from peers import peer
from spawn import ROOT, Case, spawned, stop
from synthetic import record

from bench import descriptors
from bench.record import Trial
from bench.server import RunningServer
from bench.trial import stops_at
from clients import opening
from clients.job import Job, JobError
from clients.opening import connect
from servers import limits
from servers.contract import Channel
from servers.transport import Address, listen, parse


def job(connections: int) -> Job:
    return Job(address="tcp:127.0.0.1:1", connections=connections, message_bytes=1, duration_s=1.0)


def trial(connections: int, **fields: object) -> Trial:
    return msgspec.structs.replace(record(connections=connections).trial, **fields)


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A soft limit of 1,024 descriptors and a hard one of 4,096, and what they are set to."""
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: made[-1] if made else (1024, 4096))
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda _, both: made.append(both))
    return made


# --- descriptors


def test_a_trial_needs_a_descriptor_for_each_connection_and_two_where_it_is_made_of_pipes() -> None:
    tcp = descriptors.needed(trial(1000, workload="idle", silent=9000))
    assert tcp == 10_000 + descriptors.SPARE < 20_000
    assert descriptors.needed(trial(10_000, transport="pipe")) == 20_000 + descriptors.SPARE


def test_the_soft_limit_is_raised_as_far_as_the_trials_need(low_limit: list[tuple[int, int]]) -> None:
    descriptors.raise_limit([trial(16), trial(2000)])
    assert low_limit == [(2000 + descriptors.SPARE, 4096)]


def test_the_soft_limit_is_raised_to_the_hard_one_at_most(low_limit: list[tuple[int, int]]) -> None:
    descriptors.raise_limit([trial(10_000)])
    assert low_limit == [(4096, 4096)]


def test_the_soft_limit_is_left_alone_where_it_is_high_enough(low_limit: list[tuple[int, int]]) -> None:
    descriptors.raise_limit([trial(16)])
    assert low_limit == []


def test_a_sweep_goes_on_where_no_limit_may_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(descriptors.resource, "setrlimit", refuse)
    descriptors.raise_limit([trial(2000)])


def test_the_load_generator_leaves_a_limit_alone_that_is_high_enough(low_limit: list[tuple[int, int]]) -> None:
    assert opening._make_room(job(4)) == ""
    assert low_limit == []


def test_the_load_generator_raises_the_limit_where_its_connections_need_that(low_limit: list[tuple[int, int]]) -> None:
    assert opening._make_room(job(2000)) == ""
    assert len(low_limit) == 1
    assert 2000 < low_limit[0][0] < 4096
    assert opening._make_room(job(1_000_000)) == ""
    assert low_limit[1:] == [(4096, 4096)]


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not change its limits, and has no more than it has open now."""

    def refuse(kind: int, both: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(opening.resource, "getrlimit", lambda _: (1, 4096))
    monkeypatch.setattr(opening.resource, "setrlimit", refuse)


@pytest.mark.usefixtures("forbidden")
def test_where_the_limit_may_not_be_raised_the_connections_are_opened_all_the_same() -> None:
    with peer() as server:
        load = drive(server, connections=4, duration_s=0.05)
    assert load.connections == 4
    assert load.errors == {}


@pytest.mark.usefixtures("forbidden")
def test_where_there_is_no_room_for_them_the_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(address: Address, timeout: float) -> Channel:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(opening, "dial", dial)
    with pytest.raises(JobError, match="Too many open files") as caught:
        connect(job(2000))
    assert "raising the limit of 1 descriptors was refused: not allowed to raise maximum limit" in str(caught.value)


@pytest.mark.usefixtures("low_limit")
def test_a_hard_limit_that_is_too_low_is_told_with_the_command_that_raises_it() -> None:
    said = descriptors.shortage([trial(16), trial(2000), trial(10_000)])
    assert said == (
        "1 of 3 trials need more descriptors than the hard limit of 4,096 (ulimit -Hn) and will fail: up to 10,064; "
        "to raise it for this shell: sudo prlimit --pid $$ --nofile=10064:10064"
    )
    assert descriptors.shortage([trial(16), trial(2000)]) == ""


def test_the_plan_says_beforehand_that_the_hard_limit_is_too_low(tmp_path: Path) -> None:
    sweep = tmp_path / "many.toml"
    sweep.write_text('strategies = ["epoll_lt"]\nconnections = [16, 3000]\nrepeats = 1\n')
    low = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048))"
    code = f"{low}; import sys; sys.argv = ['iobench', 'plan', {str(sweep)!r}]; from bench.cli import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "1 of 2 trials need more descriptors than the hard limit of 2,048" in " ".join(shown.stdout.split())
    assert "sudo prlimit --pid $$ --nofile=3064:3064" in " ".join(shown.stdout.split())


# --- at what number a server stops


def refusing(total: int, refused: dict[str, int], whole: bool = True) -> int:
    running = RunningServer(None, "", [], None, 0.0, refused=refused, refused_are_all=whole)  # type: ignore[arg-type]
    return stops_at(trial(total), running)


def test_a_server_stops_at_the_connections_that_it_did_not_refuse() -> None:
    assert refusing(10_000, {"beyond FD_SETSIZE": 8984}) == 1016
    assert refusing(10_000, {"EMFILE": 10, "can't start new thread": 90}) == 9900


def test_it_is_not_known_where_a_server_stops_that_has_not_told_all_its_refusals() -> None:
    assert refusing(10_000, {"beyond FD_SETSIZE": 1}, whole=False) == 0
    assert refusing(10_000, {}) == 0


def test_under_churn_no_number_is_told_for_connections_come_and_go() -> None:
    running = RunningServer(None, "", [], None, 0.0, refused={"EMFILE": 3}, refused_are_all=True)  # type: ignore[arg-type]
    assert stops_at(trial(10, workload="churn"), running) == 0


# --- which limit a server has met


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    limits.why_no_more.cache_clear()
    yield
    limits.why_no_more.cache_clear()


def test_the_limits_that_have_been_reached_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [limits.Limit("RLIMIT_NPROC", 99, 100, 2), limits.Limit("pids.max", 5, 100, 2)]
    monkeypatch.setattr(limits, "limits", lambda: iter(found))
    assert limits.why_no_more("can't start new thread") == "can't start new thread: RLIMIT_NPROC"


def test_where_no_limit_seems_to_be_reached_the_error_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limits", lambda: iter([limits.Limit("pids.max", 5, 100, 2)]))
    assert limits.why_no_more("can't start new thread") == "can't start new thread"


def test_the_limits_of_this_system_are_found_and_none_is_reached() -> None:
    found = {limit.name: limit for limit in limits.limits()}
    assert {"kernel.threads-max", "kernel.pid_max", "memory", "vm.max_map_count"} <= found.keys()
    assert all(0 < limit.used < limit.most for limit in found.values())


def test_address_space_that_runs_out_is_named_by_a_server_of_threads() -> None:
    case = Case("thread_per_connection", "threads", "tcp", model="blocking", concurrent=True, unavailable="")
    with spawned(case) as server:
        room = 256 * limits.MIB
        used = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (used + room, used + room))
        clients = [socket.create_connection((server.address.place, server.address.port)) for _ in range(100)]
        refusal = server.next_status()
        for client in clients:
            client.close()
        assert refusal["event"] == "refused"
        assert "RLIMIT_AS (ulimit -v)" in refusal["reason"]
        assert stop(server.process) == 0


# --- the queue of a server


def test_connections_that_wait_to_be_accepted_are_counted_by_the_port() -> None:
    with listen(parse("tcp:127.0.0.1:0")) as sock:
        port = sock.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        assert opening.queued(port) == 3
        sock.accept()[0].close()
        assert opening.queued(port) == 2
        for client in clients:
            client.close()


def test_a_server_that_accepts_nothing_gets_no_more_than_its_queue_should_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "_QUEUED_MOST", 6)
    monkeypatch.setattr(opening, "_LOOK_EVERY", 4)
    with listen(parse("tcp:127.0.0.1:0")) as sock:
        address = f"tcp:127.0.0.1:{sock.getsockname()[1]}"
        connected = connect(Job(address=address, connections=50, message_bytes=1, duration_s=1.0, connect_s=0.2))
        opened = len(connected.channels)
        for channel in connected.channels:
            channel.close()
    assert opened == 8  # looked at after 4, and again after 8
    assert connected.failed == {"timed_out": 42}
    assert connected.reason == "not all connections were opened in time"
