"""Strategies of several processes: what fork copies is closed again, who ends is reaped, and nothing goes on half.

And of a pool of threads, for the last of these.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from echo_client import Client, served
from spawn import STOP_S, WAIT_S, Case, Server, asleep, eventually, nobody_left, processes, spawned, stop

from servers.transport import TRANSPORTS

every_transport = pytest.mark.parametrize("transport", TRANSPORTS)


def forking(transport: str) -> Case:
    return Case("process_per_connection", "processes", transport, model="blocking", concurrent=True, unavailable="")


def preforking(transport: str) -> Case:
    return Case("prefork_epoll", "prefork", transport, model="multiplexing", concurrent=True, unavailable="")


def pooled(transport: str) -> Case:
    return Case("epoll_oneshot_threads", "oneshot", transport, model="multiplexing", concurrent=True, unavailable="")


@every_transport
def test_a_child_that_has_ended_is_reaped_though_nobody_connects_any_more(transport: str) -> None:
    with spawned(forking(transport)) as server:
        clients = greeted(server, 20)
        assert len(children(server)) == 20
        for client in clients:
            client.close()
        assert eventually(lambda: not children(server)), "a zombie is left, or a child never saw its client leave"


@every_transport
def test_a_child_has_its_own_channel_and_nobody_else_a_copy_of_it(transport: str) -> None:
    with spawned(forking(transport)) as server, ExitStack() as stack:
        for client in greeted(server, 3):
            stack.enter_context(client)
        first, second, third = (open_files(child.pid) for child in children(server))
        assert len(first) == len(second) == len(third) == (2 if transport == "pipe" else 1)
        assert eventually(lambda: asleep(server))
        everybodys = [*open_files(server.process.pid), *first, *second, *third]
        assert len(everybodys) == len(set(everybodys)), "two processes share one"


@every_transport
def test_the_end_reaches_each_client_while_those_before_and_after_it_stay(transport: str) -> None:
    with spawned(forking(transport)) as server, ExitStack() as stack:
        clients = [stack.enter_context(client) for client in greeted(server, 5)]
        for client in (clients[2], clients[0], clients[4]):
            client.send(b"last words")
            client.half_close()
            assert client.receive_to_end() == b"last words"
        assert clients[1].echo(b"still") == clients[3].echo(b"still") == b"still"


@every_transport
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_child_that_is_ended_takes_its_own_connection_with_it_and_no_other(
    transport: str, signum: signal.Signals
) -> None:
    with spawned(forking(transport)) as server, ExitStack() as stack:
        client = stack.enter_context(Client(server.address))
        assert client.echo(b"mine") == b"mine"
        [child] = children(server)
        other = stack.enter_context(Client(server.address))
        assert other.echo(b"other") == b"other"
        child.send_signal(signum)
        assert client.receive_to_end() == b""
        assert other.echo(b"still") == b"still"
        assert eventually(lambda: len(children(server)) == 1)
        assert stop(server.process) == 0
        assert server.next_status()["event"] == "stopped"
        assert server.complaints() == ""


def test_a_stopped_child_does_not_keep_its_server_from_stopping() -> None:
    with spawned(forking("tcp")) as server, Client(server.address) as client:
        assert client.echo(b"hello") == b"hello"
        [child] = children(server)
        child.suspend()
        assert stop(server.process) == 0
        assert nobody_left(server.process)


@every_transport
def test_a_connection_that_no_child_can_be_forked_for_is_refused_with_the_reason(transport: str) -> None:
    no_more_processes = """
import errno, os, sys
from servers.__main__ import main
def fork():
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
os.fork = fork
sys.exit(main(sys.argv[1:]))
"""
    with spawned(forking(transport), program=["-c", no_more_processes]) as server:
        assert [served(server.address) for _ in range(3)] == [None] * 3
        refusal = server.next_status()
        assert refusal["event"] == "refused"
        assert "Resource temporarily unavailable" in refusal["reason"]
        assert eventually(lambda: asleep(server))  # a connection is closed first, and counted then
        assert stop(server.process) == 0
        assert server.refused_in_all() == {refusal["reason"]: 3}
        assert server.complaints() == ""


@every_transport
def test_a_worker_that_is_killed_ends_the_server_with_the_reason(transport: str) -> None:
    with spawned(preforking(transport)) as server, Client(server.address) as client:
        assert client.echo(b"hello") == b"hello"
        assert eventually(lambda: asleep(server))
        worker = children(server)[-1]
        worker.kill()
        assert server.process.wait(WAIT_S) == 1
        assert server.complaints() == f"worker {worker.pid} ended (SIGKILL): the server ends with it\n"
        assert nobody_left(server.process)
        assert client.receive_to_end() == b""
        with pytest.raises(EOFError):
            server.next_status()


NOTES_WHOM_IT_SIGNALS = """
import os, sys
from servers.__main__ import main
kill = os.kill
def noted(pid, number):
    print("signals", pid, file=sys.stderr, flush=True)
    kill(pid, number)
os.kill = noted
sys.exit(main(sys.argv[1:]))
"""


def test_a_worker_that_has_been_waited_for_is_sent_no_signal_whoever_has_its_number_now() -> None:
    with spawned(preforking("tcp"), program=["-c", NOTES_WHOM_IT_SIGNALS]) as server:
        assert eventually(lambda: asleep(server))
        dead, *others = [worker.pid for worker in children(server)]
        os.kill(dead, signal.SIGKILL)
        assert server.process.wait(WAIT_S) == 1
        signalled = {int(line.split()[1]) for line in server.complaints().splitlines() if line.startswith("signals")}
        assert signalled == set(others)


STOPPED_WHILE_IT_REAPS = """
import os, signal, sys
from servers.__main__ import main
kill, waitpid = os.kill, os.waitpid
def noted(pid, number):
    print("signals", pid, file=sys.stderr, flush=True)
    kill(pid, number)
def interrupted(pid, options):
    ended = waitpid(pid, options)
    if pid == -1 and ended[0]:
        kill(os.getpid(), signal.SIGTERM)
    return ended
os.kill, os.waitpid = noted, interrupted
sys.exit(main(sys.argv[1:]))
"""


def test_a_child_that_has_been_waited_for_is_sent_no_signal_though_sigterm_came_before_that_was_noted() -> None:
    with spawned(forking("tcp"), program=["-c", STOPPED_WHILE_IT_REAPS]) as server, ExitStack() as stack:
        clients = [stack.enter_context(client) for client in greeted(server, 2)]
        dead, other = (child.pid for child in children(server))
        os.kill(dead, signal.SIGKILL)
        assert server.process.wait(WAIT_S) == 0
        assert server.complaints() == f"signals {other}\n"
        assert nobody_left(server.process)
        assert all(client.receive_to_end() == b"" for client in clients)


def test_a_worker_that_fails_ends_the_server_with_the_reason() -> None:
    failing = """
import sys
from servers import readiness
from servers.__main__ import main
def serve(listener, interest):
    raise RuntimeError("no worker works")
readiness.serve = serve
sys.exit(main(sys.argv[1:]))
"""
    with spawned(preforking("tcp"), program=["-c", failing]) as server:
        assert server.process.wait(WAIT_S) == 1
        assert "no worker works" in server.complaints()
        assert "ended (exit code 1): the server ends with it" in server.complaints()
        assert nobody_left(server.process)


def test_workers_end_when_their_parent_is_killed() -> None:
    with spawned(preforking("tcp")) as server, Client(server.address) as client:
        assert client.echo(b"hello") == b"hello"
        assert eventually(lambda: asleep(server))
        workers = children(server)
        server.process.kill()
        assert eventually(lambda: not any(runs(worker) for worker in workers)), "they go on without it"
        assert client.receive_to_end() == b""


def test_a_worker_that_does_not_listen_to_sigterm_is_killed_in_time() -> None:
    with spawned(preforking("tcp")) as server:
        assert eventually(lambda: asleep(server))
        children(server)[0].suspend()
        server.process.terminate()
        assert server.process.wait(STOP_S) == 0
        assert nobody_left(server.process)
        assert server.refused_in_all() == {}
        assert server.complaints() == ""


@every_transport
def test_each_worker_waits_for_connections_exclusively(transport: str) -> None:
    with spawned(preforking(transport)) as server, Client(server.address) as client:
        assert client.echo(b"hello") == b"hello"
        assert eventually(lambda: asleep(server))
        assert len(children(server)) == max(2, len(os.sched_getaffinity(0)))
        for worker in children(server):
            assert sum(bool(events & select.EPOLLEXCLUSIVE) for events in watched(worker.pid)) == 1


@every_transport
def test_connections_that_come_one_by_one_are_spread_over_the_workers(transport: str) -> None:
    with spawned(preforking(transport)) as server, ExitStack() as stack:
        assert eventually(lambda: asleep(server))
        workers = children(server)
        before = [worker.num_fds() for worker in workers]
        for _ in range(20 * len(workers)):
            [client] = greeted(server, 1)
            stack.enter_context(client)
        gained = [worker.num_fds() - fewer for worker, fewer in zip(workers, before, strict=True)]
        assert min(gained) >= 5, f"descriptors that each worker has got: {gained}"


def test_a_thread_of_the_pool_that_fails_ends_the_server_with_the_reason() -> None:
    failing = """
import sys
from servers.__main__ import main
from servers.polling import Connection
def echo_some(self):
    raise RuntimeError("no thread works")
Connection.echo_some = echo_some
sys.exit(main(sys.argv[1:]))
"""
    with spawned(pooled("tcp"), program=["-c", failing]) as server, Client(server.address) as client:
        client.send(b"hello")
        assert server.process.wait(WAIT_S) == 1
        assert "no thread works" in server.complaints()


@every_transport
def test_a_connection_of_the_pool_waits_in_one_direction_at_a_time(transport: str) -> None:
    with spawned(pooled(transport)) as server, Client(server.address) as deaf:
        assert deaf.echo(b"hello") == b"hello"
        assert eventually(lambda: armed(server) == [select.EPOLLIN, select.EPOLLIN]), "the listener and the connection"
        sent_bytes = deaf.send_until_stuck(bytes(8 * 1024 * 1024))
        assert eventually(lambda: armed(server) == [select.EPOLLIN, select.EPOLLOUT]), "it reads on, unread"
        assert deaf.receive(sent_bytes) == bytes(sent_bytes)
        assert eventually(lambda: armed(server) == [select.EPOLLIN, select.EPOLLIN])


def greeted(server: Server, connections: int) -> list[Client]:
    """Connect and echo so many times."""
    clients = [Client(server.address) for _ in range(connections)]
    for client in clients:
        assert client.echo(b"hello") == b"hello"
    return clients


def children(server: Server) -> list[psutil.Process]:
    """Return the processes that the server has started, those that wait to be reaped among them."""
    return processes(server.process.pid)[1:]


def runs(process: psutil.Process) -> bool:
    """Tell whether a process has not ended yet; whoever inherits it may be slow to reap it."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def open_files(pid: int) -> list[str]:
    """Return what a process has open beyond standard input, output and error."""
    return [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if int(fd.name) > 2 and fd.is_symlink()]


def watched(pid: int) -> list[int]:
    """Return the events of each descriptor on a process's epoll interest list, in order (proc_pid_fdinfo(5))."""
    infos = [info.read_text() for info in Path(f"/proc/{pid}/fdinfo").iterdir()]
    lines = [line for info in infos for line in info.splitlines() if line.startswith("tfd:")]
    return sorted(int(line.split("events:")[1].split()[0], 16) for line in lines)


def armed(server: Server) -> list[int]:
    """Return what the pool waits for: the events of those descriptors that are not disarmed."""
    asked = select.EPOLLIN | select.EPOLLOUT
    return sorted(events & asked for events in watched(server.process.pid) if events & asked)
