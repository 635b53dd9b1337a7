"""The contract of every strategy, fourth part: descriptors are not leaked, not passed on, and run out without harm."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import psutil
import pytest
from echo_client import Client, noise, served
from spawn import WAIT_S, Case, Server, asleep, cpu_share, descriptors, eventually, processes, spawned, stop, threads

CLOSE_ON_EXEC = 0o2000000  # O_CLOEXEC, as /proc/PID/fdinfo shows it


def test_after_a_thousand_connections_no_descriptor_thread_or_process_is_left(server: Server, case: Case) -> None:
    greet_and_leave(server)
    await_sleep(server, case)
    before = inventory(server)
    for number in range(1000):
        client = Client(server.address)
        if number % 4 == 1:
            assert client.echo(b"echo") == b"echo"
        elif number % 4 == 2:
            client.send(b"never read")
        elif number % 4 == 3:
            client.half_close()
            assert client.receive_to_end() == b""
        client.reset() if number % 8 > 5 else client.close()
    settled = eventually(lambda: all(inventory(server)[what] <= before[what] for what in before))
    assert settled, f"{before} before, {inventory(server)} after"


def test_every_descriptor_of_a_server_is_close_on_exec(server: Server, case: Case) -> None:
    with ExitStack() as stack:
        for _ in range(5 if case.concurrent else 1):
            client = stack.enter_context(Client(server.address))
            assert client.echo(b"open") == b"open"
        for process in processes(server.process.pid):
            for info in Path(f"/proc/{process.pid}/fdinfo").iterdir():
                flags = int(info.read_text().split("flags:")[1].split()[0], 8)
                target = info.parent.parent / "fd" / info.name
                assert int(info.name) <= 2 or flags & CLOSE_ON_EXEC, f"{info.name} -> {target.readlink()}"


def test_a_server_holds_nothing_of_its_parent_but_the_status_pipe_and_the_listener(case: Case) -> None:
    inheritable, other = os.pipe()
    os.set_inheritable(inheritable, True)
    with spawned(case) as server:
        ours = open_files(os.getpid(), first=0)
        status = Path(f"/proc/self/fd/{server.status}").readlink()
        assert ours & open_files(server.process.pid, first=3) == {str(status)}
    os.close(inheritable)
    os.close(other)


@pytest.mark.usefixtures("several_at_once", "many_descriptors")
def test_connections_beyond_the_descriptor_limit_are_refused_and_the_others_served(case: Case) -> None:
    with spawned(case) as server, ExitStack() as stack:
        greet_and_leave(server)
        await_sleep(server, case)
        skip_if_descriptors_do_not_add_up(server)
        sharing = len(processes(server.process.pid))
        limit_descriptors(server, lambda pid: 40)
        held = connect(server, 60 * sharing, stack)
        assert 0 < len(held) < 60 * sharing
        refusal = server.next_status()
        assert refusal["event"] == "refused"
        assert refusal["reason"].startswith("EMFILE")
        assert all(client.echo(b"still") == b"still" for client in held)
        if case.model != "nonblocking":
            assert eventually(lambda: cpu_share(server) < 0.25), "it spins when descriptors run out"

        for client in held[: 5 * sharing]:
            client.close()
        assert eventually(lambda: connect(server, 1, stack)), "nobody new is served when some have left"
        assert stop(server.process) == 0
        assert server.complaints() == ""
        ending = server.next_status()
        while ending["event"] == "refused":  # each process tells of its first
            ending = server.next_status()
        assert ending["event"] == "stopped"
        assert ending["refused"][refusal["reason"]] >= 60 * sharing - len(held)


def test_a_server_without_a_free_descriptor_refuses_everybody_and_serves_again_when_it_has_one(case: Case) -> None:
    with spawned(case) as server, ExitStack() as stack:
        greet_and_leave(server)
        await_sleep(server, case)
        before = limit_descriptors(server, lowest_free_descriptor)
        pass_over_one_connection(server)
        assert connect(server, 10, stack) == []
        if case.model != "nonblocking":
            assert eventually(lambda: cpu_share(server) < 0.25), "it spins without a free descriptor"
        limit_descriptors(server, lambda pid: before)
        pass_over_one_connection(server)
        assert len(connect(server, 1, stack)) == 1
        assert stop(server.process) == 0
        assert server.complaints() == ""


@pytest.mark.usefixtures("several_at_once")
def test_a_limit_lowered_below_what_is_open_delays_new_connections_and_harms_no_other(case: Case) -> None:
    with spawned(case) as server, ExitStack() as stack, ThreadPoolExecutor(1) as other:
        held = connect(server, 2, stack)
        await_sleep(server, case)
        before = limit_descriptors(server, lambda pid: 3)  # enough for poll(2), which wants no more entries than that
        waiting = other.submit(connect, server, 1, stack)
        for _ in range(5):
            assert all(client.echo(b"still") == b"still" for client in held)
        if case.model != "nonblocking":
            assert eventually(lambda: cpu_share(server) < 0.25), "it spins while it can't accept"
        limit_descriptors(server, lambda pid: before)
        waiting.result(WAIT_S)  # served or, where its socket was accepted and only then something lacked, refused
        assert eventually(lambda: connect(server, 1, stack)), "nobody new is served when the limit is gone"
        assert server.complaints() == ""


@pytest.mark.usefixtures("several_at_once", "many_descriptors")
def test_descriptors_beyond_fd_setsize_are_served_or_refused_by_that_name(case: Case) -> None:
    with spawned(case) as server, ExitStack() as stack:
        await_sleep(server, case)
        skip_if_descriptors_do_not_add_up(server)
        held = connect(server, 1100, stack)
        for client in held:
            client.send(b"at once")
        assert all(client.receive(7) == b"at once" for client in held)
        if len(held) < 1100:
            assert "FD_SETSIZE" in server.next_status()["reason"]
            if case.model != "nonblocking":
                assert eventually(lambda: cpu_share(server) < 0.25), "it spins when descriptors run out"
            for client in held[:5]:
                client.close()
            assert eventually(lambda: connect(server, 1, stack)), "nobody new is served when some have left"
        assert server.complaints() == ""


def connect(server: Server, attempts: int, stack: ExitStack) -> list[Client]:
    """Try to connect so many times; return the clients that were served, which the stack will close."""
    outcomes = [served(server.address) for _ in range(attempts)]
    return [stack.enter_context(client) for client in outcomes if client]


def greet_and_leave(server: Server) -> None:
    """Have the server make whatever it makes at its first connection."""
    with Client(server.address) as client:
        assert client.echo(noise(64)) == noise(64)
        client.half_close()
        assert client.receive_to_end() == b""


def await_sleep(server: Server, case: Case) -> None:
    """Wait until it has started whatever it consists of: one process may serve while another opens what it needs."""
    if case.model != "nonblocking":
        assert eventually(lambda: asleep(server))


def inventory(server: Server) -> dict[str, int]:
    """Count what a connection may leave behind."""
    return {
        "descriptors": descriptors(server),
        "threads": threads(server),
        "processes": len(processes(server.process.pid)),
    }


def pass_over_one_connection(server: Server) -> None:
    """Let one come and go, served or not.

    accept(2) looks for a descriptor before it sleeps: a server that sleeps there has its descriptor, or its EMFILE,
    already, whatever the limit has become since.
    """
    with ExitStack() as stack:
        connect(server, 1, stack)


def skip_if_descriptors_do_not_add_up(server: Server) -> None:
    """Skip a server that gives each connection a process: however many there are, no process has more than a few.

    Their number is limited by that of processes (RLIMIT_NPROC, pids.max) and by memory.
    """
    before = len(processes(server.process.pid))
    with ExitStack() as stack:
        held = connect(server, 5, stack)
        if len(processes(server.process.pid)) >= before + len(held) > before:
            pytest.skip("it has a process for each connection, and in none do descriptors add up")


def lowest_free_descriptor(pid: int) -> int:
    """Return the number that a process's next descriptor will have."""
    taken = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in count() if number not in taken)


def open_files(pid: int, first: int) -> set[str]:
    """Return the sockets and pipes that a process has open, from a descriptor number on."""
    links: dict[int, str] = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # one that was closed in this moment
            links[int(fd.name)] = str(fd.readlink())
    return {link for number, link in links.items() if number >= first and link.startswith(("socket:", "pipe:"))}


def limit_descriptors(server: Server, soft: Callable[[int], int]) -> int:
    """Set the soft RLIMIT_NOFILE of each of the server's processes from outside; return what it was."""
    for process in processes(server.process.pid):
        with suppress(psutil.NoSuchProcess):
            before, hard = process.rlimit(psutil.RLIMIT_NOFILE)
            process.rlimit(psutil.RLIMIT_NOFILE, (soft(process.pid), hard))
    return int(before)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Have 4,096 descriptors, here and in the servers that are started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    except (ValueError, OSError) as error:
        pytest.skip(f"4,096 descriptors are not allowed here (ulimit -n): {error}")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
