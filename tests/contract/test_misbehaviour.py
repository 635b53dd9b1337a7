"""The contract of every strategy, second part: one client's misbehaviour is no other client's trouble."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import pytest
from echo_client import Client, flood, noise
from spawn import Case, Server, cpu_share, eventually, resident_bytes

MEGABYTE = 1024 * 1024


def test_a_reset_in_the_middle_of_a_message_harms_nobody_else(server: Server, case: Case) -> None:
    with ExitStack() as stack:
        if case.concurrent:
            bystander = stack.enter_context(Client(server.address))
            assert bystander.echo(b"before") == b"before"
        for number in range(20):
            rude = Client(server.address)
            rude.send_until_stuck(noise(MEGABYTE), patience_s=0.0)
            rude.receive(number * 100)
            rude.reset()
        if case.concurrent:
            assert bystander.echo(b"after") == b"after"


@pytest.mark.usefixtures("several_at_once")
def test_a_reset_of_a_client_that_never_read_harms_nobody_else(server: Server, case: Case) -> None:
    with Client(server.address) as bystander:
        rude = Client(server.address)
        rude.send_until_stuck(noise(8 * MEGABYTE))
        rude.reset()
        assert bystander.echo(b"after") == b"after"
        if case.model != "nonblocking":
            assert eventually(lambda: cpu_share(server) < 0.25), "it spins on a connection that was reset"


@pytest.mark.usefixtures("several_at_once")
def test_a_client_that_never_reads_costs_bounded_memory_and_nobody_else_service(server: Server, case: Case) -> None:
    with Client(server.address) as deaf, Client(server.address) as other:
        assert deaf.echo(b"both are open") == other.echo(b"both are open")
        before_bytes = resident_bytes(server)
        sent_bytes = deaf.send_until_stuck(bytes(64 * MEGABYTE))
        for number in range(1, 50):
            assert other.echo(noise(number)) == noise(number)
        assert resident_bytes(server) - before_bytes < 16 * MEGABYTE
        if case.model != "nonblocking":
            assert eventually(lambda: cpu_share(server) < 0.25), "it spins while it waits for the client to read"
        assert deaf.receive(sent_bytes) == bytes(sent_bytes)


@pytest.mark.usefixtures("several_at_once")
def test_clients_that_send_nothing_keep_nobody_else_from_being_served(server: Server, case: Case) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(Client(server.address)) for _ in range(20)]
        with Client(server.address) as client:
            assert client.echo(noise(5000)) == noise(5000)
        if case.model != "nonblocking":
            assert eventually(lambda: cpu_share(server) < 0.25), "it spins while nobody sends"
        for client in silent:
            assert client.echo(b"at last") == b"at last"


def test_clients_that_connect_and_leave_harm_nobody(server: Server) -> None:
    for _ in range(100):
        Client(server.address).close()


def test_clients_that_send_and_leave_without_reading_harm_nobody(server: Server) -> None:
    for number in range(1, 100):
        with Client(server.address) as client:
            client.send(noise(number))


@pytest.mark.usefixtures("several_at_once")
@pytest.mark.parametrize("flooding", [1, 4])
def test_flooding_clients_do_not_starve_a_quiet_one(server: Server, flooding: int) -> None:
    with Client(server.address) as quiet, flood(server.address, flooding) as echoed_bytes:
        assert_prompt(quiet.echo, echoed_bytes)


@pytest.mark.usefixtures("several_at_once")
def test_flooding_clients_do_not_keep_a_new_one_from_being_accepted(server: Server) -> None:
    def echo_on_a_new_connection(message: bytes) -> bytes:
        with Client(server.address) as client:
            return client.echo(message)

    with flood(server.address, 4) as echoed_bytes:
        assert_prompt(echo_on_a_new_connection, echoed_bytes)


def assert_prompt(echo: Callable[[bytes], bytes], flooded_bytes: Callable[[], int]) -> None:
    """Measure how long an echo takes by the bytes that the server echoes to the flooding clients meanwhile.

    A busy machine slows down both alike. The median, because either may lose the CPU for a moment.
    """
    waits_bytes = []
    for number in range(1, 20):
        assert goes_on(flooded_bytes), "the flood has dried up"
        before_bytes = flooded_bytes()
        assert echo(noise(number)) == noise(number)
        waits_bytes.append(flooded_bytes() - before_bytes)
    assert median(waits_bytes) < 32 * MEGABYTE


def goes_on(flooded_bytes: Callable[[], int]) -> bool:
    """Wait until the flood has moved some megabytes more, so that it is under way."""
    due_bytes = flooded_bytes() + 4 * MEGABYTE
    return eventually(lambda: flooded_bytes() > due_bytes)
