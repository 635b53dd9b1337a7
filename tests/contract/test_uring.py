"""What is special to io_uring: how few system calls an echo takes, buffers that run out, and kernels that refuse."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from echo_client import Client, noise
from spawn import Case, asleep, cases, cpu_share, eventually, spawned, stop, system_calls

from servers import uring, uring_multishot
from servers.transport import Address, listen, listener

ECHOES = 50
CALLS = {"io_uring": 1, "io_uring_multishot": 2}  # for one echo, when they come one by one

MEMORY = {"brk", "mmap", "munmap", "mremap", "madvise"}  # which malloc may make at any time

EITHER = [
    pytest.param(case, id=str(case), marks=[pytest.mark.skip(reason=case.unavailable)] if case.unavailable else [])
    for case in cases()
    if case.strategy in CALLS
]
MULTISHOT = [parameter for parameter in EITHER if str(parameter.id).startswith("io_uring_multishot")]
PROBES = [uring.probe, uring_multishot.probe]


@pytest.mark.parametrize("which", EITHER)
def test_an_echo_is_io_uring_enter_and_no_other_system_call(which: Case) -> None:
    with spawned(which) as server, Client(server.address) as client:
        assert client.echo(b"open") == b"open"
        assert eventually(lambda: asleep(server))
        calls = system_calls(server.process.pid, lambda: [client.echo(noise(64)) for _ in range(ECHOES)])
        assert set(calls) - MEMORY == {"io_uring_enter"}
        # The one that it sleeps in is seen too, and attaching may interrupt it.
        assert calls.count("io_uring_enter") <= CALLS[which.strategy] * ECHOES + 3


@pytest.mark.parametrize("which", EITHER)
def test_echoes_of_many_connections_share_system_calls(which: Case) -> None:
    with spawned(which) as server, ExitStack() as stack:
        clients = [stack.enter_context(Client(server.address)) for _ in range(ECHOES)]
        for client in clients:
            assert client.echo(b"open") == b"open"

        def echo_all_at_once() -> None:
            server.process.send_signal(signal.SIGSTOP)
            for client in clients:
                client.send(b"at once")
            server.process.send_signal(signal.SIGCONT)
            assert all(client.receive(7) == b"at once" for client in clients)

        calls = system_calls(server.process.pid, echo_all_at_once)
        assert calls.count("io_uring_enter") < ECHOES / 2


@pytest.mark.parametrize("which", MULTISHOT)
def test_when_more_connections_speak_than_there_are_buffers_all_are_answered(which: Case) -> None:
    with spawned(which) as server, ExitStack() as stack:
        clients = [stack.enter_context(Client(server.address)) for _ in range(3 * uring_multishot.BUFFERS)]
        for turn in range(3):
            server.process.send_signal(signal.SIGSTOP)  # so that it finds them all at once
            for number, client in enumerate(clients):
                client.send(noise(number + turn + 1))
            server.process.send_signal(signal.SIGCONT)
            for number, client in enumerate(clients):
                assert client.receive(number + turn + 1) == noise(number + turn + 1)
        assert eventually(lambda: cpu_share(server) < 0.25), "it spins"
        assert stop(server.process) == 0
        assert server.complaints() == ""


@pytest.mark.parametrize("which", MULTISHOT)
def test_when_more_clients_never_read_than_there_are_buffers_others_are_answered(which: Case) -> None:
    with spawned(which) as server, ExitStack() as stack:
        other = stack.enter_context(Client(server.address))
        sent_bytes = []
        deaf = [stack.enter_context(Client(server.address)) for _ in range(uring_multishot.BUFFERS + 10)]
        for client in deaf:
            sent_bytes.append(client.send_until_stuck(bytes(2 * 1024 * 1024), patience_s=0.005))
            assert other.echo(b"and you?") == b"and you?"
        assert eventually(lambda: cpu_share(server) < 0.25), "it spins while it waits for the clients to read"
        for client, size_bytes in zip(deaf, sent_bytes, strict=True):
            assert client.receive(size_bytes) == bytes(size_bytes)


def test_a_full_submission_queue_and_a_full_completion_queue_lose_nothing() -> None:
    ring = open_ring(entries=2)
    for number in range(50):
        ring.put(nop(number))
    done: list[int] = []
    while len(done) < 50:
        done += [user_data for user_data, _, _ in ring.wait()]
    ring.close()
    assert sorted(done) == list(range(50))


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN, errno.EBUSY], ids=errno.errorcode.get)
def test_a_call_that_the_kernel_puts_off_is_made_again_after_a_pause_and_nothing_is_lost(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, pauses_s = open_ring(entries=4), paused(monkeypatch)
    put_off_once(monkeypatch, "io_uring_submit_and_wait", number)
    ring.put(nop(7))
    assert ring.wait() == []
    assert ring.wait() == [(7, 0, 0)]
    ring.close()
    assert len(pauses_s) == (number != errno.EINTR), "after a signal there is no reason to wait"


def test_completions_that_have_come_are_taken_when_there_is_no_room_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ring, pauses_s = open_ring(entries=4), paused(monkeypatch)
    ring.put(nop(7))
    package().io_uring_submit(ring._ring)
    put_off_once(monkeypatch, "io_uring_submit_and_wait", errno.EBUSY)
    assert ring.wait() == [(7, 0, 0)]
    ring.close()
    assert pauses_s == []


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN, errno.EBUSY], ids=errno.errorcode.get)
def test_a_full_submission_queue_that_the_kernel_does_not_take_at_first_loses_nothing(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = open_ring(entries=2)
    paused(monkeypatch)
    put_off_once(monkeypatch, "io_uring_submit", number)
    for user_data in range(3):
        ring.put(nop(user_data))
    done: list[int] = []
    while len(done) < 3:
        done += [user_data for user_data, _, _ in ring.wait()]
    ring.close()
    assert sorted(done) == [0, 1, 2]


def test_an_error_that_no_other_call_will_mend_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = open_ring(entries=2)
    put_off_once(monkeypatch, "io_uring_submit_and_wait", errno.EBADF)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        ring.wait()
    ring.close()


PUT_OFF_EVERY_OTHER_CALL = """
import errno, os, sys
import liburing
from itertools import cycle
from servers.__main__ import main
submit_and_wait = liburing.io_uring_submit_and_wait
outcomes = cycle([errno.EAGAIN, 0, errno.EBUSY, 0])
def put_off(*arguments):
    number = next(outcomes)
    if number:
        raise OSError(number, os.strerror(number))
    return submit_and_wait(*arguments)
liburing.io_uring_submit_and_wait = put_off
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("which", EITHER)
def test_a_server_that_the_kernel_puts_off_serves_on(which: Case) -> None:
    with spawned(which, program=["-c", PUT_OFF_EVERY_OTHER_CALL]) as server, Client(server.address) as client:
        for number in range(1, 10):
            assert client.echo(noise(number * 1000)) == noise(number * 1000)
        assert stop(server.process) == 0
        assert server.complaints() == ""


def test_an_accept_that_fails_for_one_connection_is_counted_and_any_other_failure_is_not_swallowed(
    tmp_path: Path,
) -> None:
    ring = open_ring(entries=4)
    with listen(Address("unix", str(tmp_path / "echo"))) as sock:
        source = listener(sock, "unix")
        acceptor = uring.Acceptor(ring, source, package().io_uring_prep_accept)
        for number in (errno.EPROTO, errno.ECONNABORTED, errno.EPERM):
            assert acceptor.take(uring.ACCEPT, -number, 0) is None
        assert [reason.partition(":")[0] for reason in source.refused] == ["EPROTO", "EPERM"]
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            acceptor.take(uring.ACCEPT, -errno.EBADF, 0)
    ring.close()


def test_a_failed_operation_is_reported_by_its_errno() -> None:
    liburing = package()
    ring = open_ring(entries=2)
    entry = liburing.Sqe()
    liburing.io_uring_prep_write(entry, -1, b"nowhere")
    entry.user_data = 7
    ring.put(entry)
    assert ring.wait() == [(7, -errno.EBADF, 0)]
    ring.close()


@pytest.mark.parametrize("probe", PROBES)
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    probe: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "liburing", None)
    with pytest.raises(RuntimeError) as raised:
        probe()
    assert str(raised.value) == "pip install 'iobench[uring]'"


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EPERM, "kernel.io_uring_disabled"),
        (errno.ENOSYS, "Linux 6.1"),
        (errno.EINVAL, "Linux 6.1"),
        (errno.ENOMEM, "ulimit -l"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_a_kernel_that_refuses_is_reported_with_its_errno_and_a_remedy(
    probe: Callable[[], None], number: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(package(), "io_uring_queue_init", refuse)
    with pytest.raises(RuntimeError, match=remedy) as raised:
        probe()
    assert errno.errorcode[number] in str(raised.value)


def test_a_kernel_without_multishot_read_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    liburing = package()
    open_ring(entries=2).close()

    def prepare_what_does_not_exist(entry: Any, fd: int, *_: object) -> None:
        liburing.io_uring_prep_fsync(entry, fd, 0xFF)  # no such flags: EINVAL, as for an operation that is not known

    monkeypatch.setattr(liburing, "io_uring_prep_read_multishot", prepare_what_does_not_exist)
    before = open_descriptors()
    with pytest.raises(RuntimeError, match=r"EINVAL.*Linux 6\.7"):
        uring_multishot.probe()
    assert open_descriptors() == before


def package() -> Any:
    """Return liburing, or skip the test where there is none, or one that kills the process that calls it."""
    fatal = next(
        (case.unavailable for case in cases() if case.strategy in CALLS and "ended the process" in case.unavailable), ""
    )
    if fatal:
        pytest.skip(fatal)
    return pytest.importorskip("liburing")


def nop(user_data: int) -> Any:
    """Prepare an operation that does nothing, and is complete as soon as it is submitted."""
    entry = package().Sqe()
    package().io_uring_prep_nop(entry)
    entry.user_data = user_data
    return entry


def put_off_once(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Have a call of the wheel fail with an errno the first time."""
    made, failures = getattr(package(), call), [number]

    def fail_first(*arguments: object) -> object:
        if failures:
            failures.clear()
            raise OSError(number, os.strerror(number))
        return made(*arguments)

    monkeypatch.setattr(package(), call, fail_first)


def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of the pauses that are asked for from now on, none of which is made."""
    pauses_s: list[float] = []
    monkeypatch.setattr("servers.uring.time.sleep", pauses_s.append)
    return pauses_s


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def open_ring(entries: int) -> uring.Ring:
    """Open a ring, or skip the test with the reason."""
    package()
    try:
        return uring.Ring(entries)
    except RuntimeError as error:
        pytest.skip(str(error))
