"""What is special to the event loops: missing packages, loops that can't serve, buffers that are reused, their end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from echo_client import Client, noise
from spawn import ROOT, STOP_S, WAIT_S, Case, asleep, cases, descriptors, eventually, spawned

from servers import gevent_loop, other_loops, trio_loop
from servers.__main__ import why_unavailable
from servers.contract import Strategy

REMEDY = "pip install 'iobench[loops]'"
MODULES = ("asyncio_loops", "other_loops", "trio_loop", "gevent_loop")
FOREIGN = (*other_loops.STRATEGIES, *trio_loop.STRATEGIES, *gevent_loop.STRATEGIES)

PIPE_BYTES = 64 * 1024  # what a pipe holds where nobody has asked for more (pipe(7))

ON_LOOPS = [case for case in cases() if case.module in MODULES]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test for each of these cases, skipping those that can't run here."""
    return pytest.mark.parametrize(
        "served",
        [
            pytest.param(case, id=str(case), marks=[pytest.mark.skip(reason=case.unavailable)] * bool(case.unavailable))
            for case in cases
        ],
    )


@pytest.mark.parametrize("strategy", FOREIGN, ids=lambda strategy: strategy.name)
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, strategy.name.partition("_")[0], None)
    assert why_unavailable(strategy) == REMEDY


def loops_that(monkeypatch: pytest.MonkeyPatch, loop_class: type[Any]) -> str:
    """Have a package with such loops; return its name."""
    package = loop_class.__name__.lower()
    monkeypatch.setitem(sys.modules, package, SimpleNamespace(new_event_loop=loop_class))
    monkeypatch.setattr(other_loops, "version", lambda package: "1.2.3")
    return package


class Sound(asyncio.SelectorEventLoop):
    """asyncio's own."""


class NeverCloses(asyncio.SelectorEventLoop):
    """Its transports echo, and then keep the descriptor, whatever the protocol says."""

    async def create_connection(self, new_protocol: Any, sock: Any = None, **_: Any) -> Any:
        sock.setblocking(False)
        fd = sock.detach()
        self.add_reader(fd, lambda: os.write(fd, os.read(fd, 1)))
        return None, None


def test_a_loop_that_never_closes_a_connection_is_found_by_trying_and_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = loops_that(monkeypatch, NeverCloses)
    reason = "nevercloses 1.2.3 does not close a connection whose client has ended its sending"
    for form in other_loops.FORMS:
        expected = None if form.name == "sock" else reason
        assert why_unavailable(other_loops.on_package(package, form)) == expected


def test_a_loop_whose_transports_close_a_connection_can_serve_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    package = loops_that(monkeypatch, Sound)
    assert [why_unavailable(other_loops.on_package(package, form)) for form in other_loops.FORMS] == [None] * 4


def test_a_loop_is_tried_once_and_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    package = loops_that(monkeypatch, NeverCloses)
    other_loops.transports_end.cache_clear()
    opened = time.monotonic()
    for form in other_loops.FORMS:
        why_unavailable(other_loops.on_package(package, form))
    assert other_loops.PATIENCE_S <= time.monotonic() - opened < 2 * other_loops.PATIENCE_S


@each([case for case in ON_LOOPS if case.transport == "tcp"])
def test_sigterms_that_keep_coming_while_a_loop_ends_are_as_quiet_as_one(served: Case) -> None:
    with spawned(served) as server, Client(server.address) as client:
        assert client.echo(b"hello") == b"hello"
        opened = time.monotonic()
        while server.process.poll() is None and time.monotonic() - opened < STOP_S:
            server.process.terminate()
            time.sleep(0.0005)  # at every stage of the ending
        assert server.process.wait(0) == 0
        assert server.complaints() == ""
        assert server.refused_in_all() == {}


SIGTERM_WHILE_IT_BEGINS = """
import os, signal, socket, sys
from servers.__main__ import main

make_pair = socket.socketpair

def interrupted(*options):
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)
    return make_pair(*options)

socket.socketpair = interrupted  # every loop makes one, to be woken by
sys.exit(main(sys.argv[1:]))
"""


@each([case for case in ON_LOOPS if case.transport == "tcp" and case.strategy != "gevent"])  # whose libev makes none
def test_a_sigterm_that_comes_while_a_loop_begins_stops_it_as_quietly(served: Case) -> None:
    command = [sys.executable, "-c", SIGTERM_WHILE_IT_BEGINS, served.strategy, "tcp:127.0.0.1:0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, complaints = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert complaints == b""


@each([case for case in ON_LOOPS if case.transport == "tcp"])
def test_ctrl_c_ends_a_loop_as_sigterm_does(served: Case) -> None:
    with spawned(served) as server, Client(server.address) as client:
        assert client.echo(b"hello") == b"hello"
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(STOP_S) == 0
        assert server.complaints() == ""


@each([case for case in ON_LOOPS if case.transport == "pipe"])
@pytest.mark.parametrize("order", ["leaves first", "writes first"])
def test_a_client_that_leaves_the_one_pipe_and_writes_to_the_other_at_once_is_closed_without_a_word(
    served: Case, order: str
) -> None:
    with spawned(served) as server:
        client = Client(server.address)
        assert client.echo(b"hello") == b"hello"
        client.send_until_stuck(noise(PIPE_BYTES + 10_000))  # more than the pipe holds: the rest lies in the server
        assert eventually(lambda: asleep(server))
        before = descriptors(server)
        server.process.send_signal(signal.SIGSTOP)  # the loop is to hear of both at once, in this order
        if order == "leaves first":
            os.close(client.rfd)
            client.send(b"more")
        else:
            client.send(b"more")
            os.close(client.rfd)
        client.rfd = -1
        server.process.send_signal(signal.SIGCONT)
        assert eventually(lambda: asleep(server))
        client.close()  # a coroutine that waits for bytes need not hear of the other pipe
        assert eventually(lambda: descriptors(server) == before - 2)
        assert server.complaints() == ""


@each([case for case in ON_LOOPS if case.transport == "pipe"])
def test_a_client_that_leaves_the_one_pipe_at_once_and_writes_to_the_other_is_closed_without_a_word(
    served: Case,
) -> None:
    with spawned(served) as server:
        with Client(server.address) as client:
            assert client.echo(b"hello") == b"hello"
        assert eventually(lambda: asleep(server))
        before = descriptors(server)
        for _ in range(100):
            client = Client(server.address)
            os.close(client.rfd)
            client.rfd = -1
            with suppress(BrokenPipeError):
                for _ in range(1000):  # somewhere between, the server has connected one pipe or both
                    client.send(b"more")
            client.close()
        assert eventually(lambda: descriptors(server) <= before)
        assert server.complaints() == ""


@each([case for case in ON_LOOPS if case.transport != "pipe"])
def test_twenty_clients_that_connect_while_a_loop_is_busy_are_all_accepted(served: Case) -> None:
    with spawned(served) as server:
        server.process.send_signal(signal.SIGSTOP)
        clients = [Client(server.address) for _ in range(20)]
        for client in clients:
            client.send(b"hello")
        server.process.send_signal(signal.SIGCONT)
        for client in clients:
            assert client.receive(5) == b"hello"
            client.close()


@each([case for case in ON_LOOPS if case.strategy.endswith("_buffered")])
def test_bytes_that_wait_for_room_are_not_overwritten_by_those_that_are_read_next(served: Case) -> None:
    data = noise(16 * 1024 * 1024)
    with spawned(served) as server, Client(server.address) as client:
        sent_bytes = client.send_until_stuck(data)  # what is unsent by now lies in the server
        assert client.receive(sent_bytes) == data[:sent_bytes]
