"""Servers that are not ours are started, waited for, measured and ended, whatever they do. They are real ones."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from spawn import WAIT_S, eventually

from bench import external_server, load, server
from bench.events import Interrupted, Stream, signals_interrupt_waits
from bench.external import External, target
from bench.external_server import MARK, attempt, free_port, start_external
from bench.load import LoadWorker, end_worker, start_worker
from bench.probes.unwatched import METRICS
from bench.processes import Guard
from bench.record import Record, Trial
from bench.server import RunningServer, ServerFailedError, stop_server
from bench.trial import run_trial
from bench.turn_length import Length
from bench.turns import Side, close_load, enter, leave, open_load, take_turn
from servers.contract import Channel
from servers.transport import Address, bound_address, dial, listen, parse

SCRIPT = str(Path(__file__).with_name("foreign_server.py"))
CPU = min(os.sched_getaffinity(0))
SILENT = os.pipe()  # on which nothing ever comes


def external(kind: str, transport: str = "tcp", *more: str, **env: str) -> External:
    place = "{port}" if transport == "tcp" else "{path}"
    command = (sys.executable, SCRIPT, kind, place, *more)
    return msgspec.convert(
        {"name": kind, "command": command, "transport": transport, "env": list(env.items())}, External
    )


def marked() -> list[psutil.Process]:
    """The processes that foreign servers of ours have left behind."""
    found = []
    for process in psutil.process_iter():
        try:
            environ, status = process.environ(), process.status()
        except psutil.Error:
            continue
        if environ.get(MARK, "").startswith(f"{os.getpid()}-") and status != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard; after the test, nothing that a server started is alive, and no descriptor of ours is open."""
    before = sorted(Path("/proc/self/fd").iterdir())
    one = Guard()
    yield one
    one.close()
    assert eventually(lambda: not marked())
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on what hangs after a moment."""
    monkeypatch.setattr(external_server, "READY_PATIENCE_S", 0.3)
    monkeypatch.setattr(server, "STOP_PATIENCE_S", 0.2)


def echo(running: RunningServer) -> bytes:
    channel = dial(parse(running.address), 10)
    try:
        os.write(channel.wfd, b"x" * 64)
        return os.read(channel.rfd, 64)
    finally:
        channel.close()


def why_it_failed(one: External, guard: Guard) -> str:
    with pytest.raises(ServerFailedError) as caught:
        start_external(one, [], guard)
    return str(caught.value)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("kind", ["good", "slow_to_start", "forks", "turns_away"])
def test_a_server_is_ready_as_soon_as_it_echoes(kind: str, transport: str, guard: Guard) -> None:
    running = start_external(external(kind, transport), [CPU], guard)
    assert echo(running) == b"x" * 64
    assert os.sched_getaffinity(running.pid) == {CPU}
    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    stop_server(running)
    assert eventually(lambda: not any(one.is_running() for one in family))


def test_a_server_that_accepts_connections_before_it_can_serve_any_is_not_ready_yet(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a proxy whose backend is still starting: those who come early are kept waiting for good."""
    monkeypatch.setattr(external_server, "ECHO_S", 0.05)
    running = start_external(external("keeps_waiting"), [CPU], guard)
    assert echo(running) == b"x" * 64
    stop_server(running)


def test_a_server_that_reads_whole_messages_is_sent_one_of_the_trial_s_size(guard: Guard) -> None:
    large = external("good", BYTES="3000000")  # more than a socket holds
    stop_server(start_external(large, [CPU], guard, message_bytes=3_000_000))


def test_the_path_of_a_unix_server_is_removed_with_its_folder(guard: Guard) -> None:
    running = start_external(external("good", "unix"), [], guard)
    path = Path(parse(running.address).place)
    assert path.is_socket()
    stop_server(running)
    assert not path.parent.exists()


def test_what_a_server_started_in_a_session_of_its_own_ends_with_it(guard: Guard) -> None:
    running = start_external(external("starts_a_session"), [], guard)
    assert eventually(lambda: len(marked()) == 2)
    stop_server(running)
    assert eventually(lambda: not marked())


def test_a_server_that_ends_at_its_start_is_reported_with_exit_code_and_stderr(guard: Guard) -> None:
    reason = "the server ended at its start, exit code 1: foreign server: no such option"
    assert why_it_failed(external("dies_at_start"), guard) == reason


def test_a_program_that_went_missing_is_reported(guard: Guard) -> None:
    gone = msgspec.structs.replace(external("good"), command=("no-such-program", "{port}"))
    assert why_it_failed(gone, guard) == "no-such-program can't be started: No such file or directory"


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_echoes_is_ended_and_reported(guard: Guard) -> None:
    why = why_it_failed(external("never_echoes"), guard)
    assert "the server accepts connections and echoes nothing at tcp:127.0.0.1:" in why


@pytest.mark.usefixtures("impatient")
def test_a_running_server_that_echoes_nothing_is_not_measured(guard: Guard) -> None:
    with listen(Address("tcp", "127.0.0.1", 0)) as sock:
        address = str(bound_address(sock, "tcp"))
        assert "accepts connections and echoes nothing at" in why_it_failed(target(address), guard)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_listens_is_ended_and_reported(guard: Guard) -> None:
    assert "accepts no connection at tcp:127.0.0.1:" in why_it_failed(external("never_listens"), guard)


def test_the_wait_for_a_server_ends_at_a_signal(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        os.kill(os.getpid(), 2)
        return "refused"

    monkeypatch.setattr(external_server, "attempt", interrupted)
    with signals_interrupt_waits(), pytest.raises(Interrupted):
        start_external(external("never_listens"), [], guard)


def test_a_server_whose_port_was_taken_meanwhile_gets_another_one(guard: Guard, tmp_path: Path) -> None:
    ports = tmp_path / "ports"
    running = start_external(external("address_in_use", "tcp", str(ports), TIMES="1"), [], guard)
    stop_server(running)
    first, second = ports.read_text().split()
    assert first != second
    assert parse(running.address).port == int(second)


def test_a_server_whose_port_is_taken_twice_is_reported(guard: Guard, tmp_path: Path) -> None:
    ports = tmp_path / "ports"
    reason = why_it_failed(external("address_in_use", "tcp", str(ports), TIMES="9"), guard)
    assert reason.endswith("Address already in use")
    assert len(ports.read_text().split()) == 2


def at(address: Address) -> RunningServer:
    """As a server that is to be there, and has told nothing yet."""
    return RunningServer(None, str(address), [], Stream(SILENT[0], "the server"), 0.0, foreign=True)


def test_a_connection_to_itself_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP's simultaneous open: a socket that is bound to the very port that it connects to."""

    def itself(address: Address, timeout: float) -> Channel:
        sock = socket.socket()
        sock.bind((address.place, address.port))
        sock.connect((address.place, address.port))
        fd = sock.detach()
        return Channel(fd, fd)

    monkeypatch.setattr(external_server, "dial", itself)
    there = at(Address("tcp", "127.0.0.1", free_port()))
    assert attempt(there, 64, time.monotonic() + WAIT_S) == "refused"


def test_a_free_port_is_one_that_nobody_listens_on() -> None:
    there = at(Address("tcp", "127.0.0.1", free_port()))
    assert attempt(there, 64, time.monotonic() + WAIT_S) == "refused"


# --- whole trials, with the real load


@pytest.fixture(scope="module")
def crew() -> Iterator[tuple[LoadWorker, Guard]]:
    """A warm load generator."""
    guard = Guard()
    worker = start_worker([CPU], guard)
    yield worker, guard
    end_worker(worker)
    guard.close()


def trial_of(one: External, **fields: object) -> Trial:
    facts = {
        "strategy": one.name,
        "transport": one.transport,
        "connections": 2,
        "message_bytes": 64,
        "workload": "closed",
        "warmup_s": 0.0,
        "duration_s": 0.6,
        "repeat": 1,
        "seed": 1,
    }
    return msgspec.convert(facts | fields, Trial)


def the_record(one: External, crew: tuple[LoadWorker, Guard], **fields: object) -> Record:
    worker, guard = crew
    return run_trial(trial_of(one, **fields), lambda _: start_external(one, [CPU], guard), worker)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_good_server_is_measured_from_both_sides(transport: str, crew: tuple[LoadWorker, Guard]) -> None:
    record = the_record(external("good", transport), crew)
    assert (record.status, record.reason) == ("ok", "")
    assert record.load is not None and record.load.completed > 0
    assert record.server is not None
    assert record.server.metrics["cpu_ns"] > 0
    assert (record.server.implementation, record.server.version) == (Path(sys.executable).name, "")


def test_the_whole_tree_of_processes_is_measured(crew: tuple[LoadWorker, Guard]) -> None:
    record = the_record(external("forks"), crew, connections=3)
    assert record.status == "ok"
    assert record.server is not None
    assert record.server.metrics["processes"] == 4
    parent_alone = the_record(external("forks"), crew, connections=1)
    assert parent_alone.server is not None
    assert record.server.metrics["rss_bytes"] > parent_alone.server.metrics["rss_bytes"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("drops", "errors: 2 lost"),
        ("truncates", "errors: 2 short"),
        ("duplicates", "errors: 2 duplicated"),
        ("pads", "errors: 2 extra"),
        ("flips", "errors: 2 corrupt"),
    ],
)
def test_a_server_that_does_not_echo_correctly_is_caught_and_its_fault_named(
    kind: str, reason: str, crew: tuple[LoadWorker, Guard]
) -> None:
    record = the_record(external(kind), crew)
    assert (record.status, record.reason) == ("failed", reason)


def test_a_server_that_dies_in_mid_trial_is_a_failed_record_with_exit_code_and_stderr(
    crew: tuple[LoadWorker, Guard],
) -> None:
    record = the_record(external("dies"), crew, duration_s=5.0)
    assert record.status == "failed"
    reason = "the server ended in mid-trial, exit code 7: foreign server: out of luck"
    assert record.reason.partition("; errors: ")[0] == reason  # those who were connected have errors, if they are told
    assert record.server is not None
    assert (record.server.exit_code, record.server.stderr_tail) == (7, "foreign server: out of luck")


@pytest.mark.parametrize("kind", ["exits_with_3", "ignores_sigterm"])
def test_how_a_server_that_is_not_ours_ends_at_sigterm_is_its_own_affair(
    kind: str, crew: tuple[LoadWorker, Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STOP_PATIENCE_S", 0.2 if kind == "ignores_sigterm" else 10.0)
    record = the_record(external(kind), crew)
    assert (record.status, record.reason) == ("ok", "")
    assert record.server is not None
    assert record.server.exit_code == (3 if kind == "exits_with_3" else -9)


def test_of_a_server_that_was_already_running_only_the_clients_side_is_measured(
    crew: tuple[LoadWorker, Guard],
) -> None:
    running = start_external(external("good"), [CPU], crew[1])
    record = the_record(target(running.address), crew)
    assert (record.status, record.reason) == ("ok", "")
    assert record.load is not None and record.load.completed > 0
    assert record.bottleneck in ("", "client")
    assert record.server is not None
    assert (record.server.pid, record.server.metrics, record.server.exit_code) == (0, {}, None)
    whys = set(record.server.missing.values())
    assert whys == {"the server was already running, so only the client's side is measured"}
    assert {"cpu_ns", "rss_peak_bytes", "threads"} <= record.server.missing.keys()
    assert echo(running) == b"x" * 64, "it must go on"
    stop_server(running)


def test_a_running_server_that_has_gone_fails_its_trial(crew: tuple[LoadWorker, Guard]) -> None:
    record = the_record(target("unix:@iobench-test-nobody"), crew)
    assert record.status == "failed"
    assert record.reason == "no server accepts connections at unix:@iobench-test-nobody: Connection refused"


# --- figures that would be wrong and look right


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("goes_elsewhere", "none of the processes that were started"),
        ("works_elsewhere", "the processes that were started used no CPU time while messages were echoed"),
    ],
)
def test_a_server_outside_of_its_process_tree_has_no_figures_and_the_reason_instead(
    kind: str, why: str, crew: tuple[LoadWorker, Guard]
) -> None:
    record = the_record(external(kind), crew)
    assert (record.status, record.reason) == ("ok", "")
    assert record.load is not None and record.load.completed > 0
    assert record.server is not None
    assert (record.server.metrics, record.bottleneck) == ({}, "")
    assert record.server.missing.keys() == set(METRICS)
    assert all(why in told for told in record.server.missing.values())
    assert eventually(lambda: not marked())


@pytest.mark.parametrize("kind", ["goes_elsewhere", "works_elsewhere"])
def test_nor_has_it_any_in_turns(kind: str, crew: tuple[LoadWorker, Guard]) -> None:
    worker, guard = crew
    one = external(kind)
    side = Side(trial_of(one), lambda: start_external(one, [CPU], guard))
    enter(side)
    open_load(side, worker, 0.0)
    take_turn(side, worker, Length(1, 0.005, 0.1))
    close_load(side)
    leave(side, 2)
    assert side.faults == []
    assert side.measured is not None and side.measured.load.completed > 0
    assert (side.seen.metrics, side.seen.missing.keys()) == ({}, set(METRICS))


def test_a_trial_in_which_the_harness_stood_still_is_invalid(
    crew: tuple[LoadWorker, Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its progress is written to a terminal that takes no more (Ctrl-S): the window closes meanwhile."""
    monkeypatch.setattr(load, "TICK_S", 0.1)
    worker, guard = crew
    one = external("good")
    record = run_trial(trial_of(one), lambda _: start_external(one, [CPU], guard), worker, tick=lambda: time.sleep(1.0))
    assert record.status == "failed"
    assert record.reason.startswith("the harness stood still: its readings of the server are ")
