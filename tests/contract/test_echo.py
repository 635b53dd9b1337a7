"""The contract of every strategy, first part: what is sent comes back, all of it, to everybody."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from echo_client import Client, noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spawn import Case, Server, asleep, cpu_share, eventually

from servers.contract import RECV_SIZE

MEGABYTE = 1024 * 1024
SIZES = [1, 2, 1000, RECV_SIZE - 1, RECV_SIZE, RECV_SIZE + 1, MEGABYTE, 8 * MEGABYTE]

chunks = st.lists(st.one_of(st.binary(min_size=1, max_size=300), st.integers(1, 150_000).map(noise)), min_size=1)


@given(chunks=chunks)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_any_chunks_come_back_unchanged_and_once(server: Server, chunks: list[bytes]) -> None:
    with Client(server.address) as client:
        assert client.echo(*chunks) == b"".join(chunks)
        client.half_close()
        assert client.receive_to_end() == b""


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_message_of_any_size_comes_back_to_a_client_that_reads_while_it_writes(
    server: Server, size_bytes: int
) -> None:
    with Client(server.address) as client:
        assert client.echo(noise(size_bytes)) == noise(size_bytes)


@pytest.mark.usefixtures("several_at_once")
def test_three_hundred_connections_are_served_at_once(server: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.address)) for _ in range(300)]
        for turn in range(3):
            messages = [noise(100 + number + turn) for number in range(300)]
            for client, message in zip(clients, messages, strict=True):
                client.send(message)
            for client, message in zip(clients, messages, strict=True):
                assert client.receive(len(message)) == message


def test_one_connection_after_the_other_is_served(server: Server) -> None:
    for number in range(1, 50):
        with Client(server.address) as client:
            assert client.echo(noise(number)) == noise(number)


def test_a_client_that_ends_its_sending_still_gets_every_byte_and_then_the_end(server: Server) -> None:
    with Client(server.address) as client:
        client.send(noise(5000))
        client.half_close()
        assert client.receive_to_end() == noise(5000)


def test_a_client_that_ends_its_sending_with_megabytes_pending_still_gets_every_byte(
    server: Server, case: Case
) -> None:
    data = noise(8 * MEGABYTE)
    with Client(server.address) as client:
        sent_bytes = client.send_until_stuck(data)
        client.half_close()
        if case.model != "nonblocking":  # that one never sleeps
            assert eventually(lambda: cpu_share(server) < 0.25), "it spins while it waits for the client to read"
        assert client.receive_to_end() == data[:sent_bytes]


def test_the_end_of_the_sending_cuts_off_nothing_that_is_pending_however_much_it_is(server: Server, case: Case) -> None:
    # Beyond what the kernel holds, a server has to keep bytes itself; up to some amount it still reads on and sees the
    # end of the sending. Steps below RECV_SIZE do not miss that range.
    for size_bytes in range(50_000, 600_000, 50_000):
        with Client(server.address) as client:
            sent_bytes = client.send_until_stuck(noise(size_bytes))
            client.half_close()
            if case.model != "nonblocking":
                assert eventually(lambda: asleep(server))
            assert client.receive_to_end() == noise(size_bytes)[:sent_bytes]
        if sent_bytes < size_bytes:
            break


def test_a_client_that_ends_its_sending_without_a_word_gets_the_end(server: Server) -> None:
    with Client(server.address) as client:
        client.half_close()
        assert client.receive_to_end() == b""
