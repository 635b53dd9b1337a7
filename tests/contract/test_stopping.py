"""The contract of every strategy, third part: SIGTERM ends it within a second, with exit code 0 and without a word."""

from __future__ import annotations

import pytest
from echo_client import Client, flood, noise
from spawn import STOP_S, Case, Server, asleep, eventually, nobody_left, spawned

MEGABYTE = 1024 * 1024


def assert_stops(server: Server, signals: int = 1) -> None:
    for _ in range(signals):
        server.process.terminate()
    assert server.process.wait(STOP_S) == 0
    assert eventually(lambda: nobody_left(server.process)), "it left processes behind"
    assert server.complaints() == ""
    assert server.refused_in_all() == {}


def test_sigterm_stops_a_server_that_is_idle(case: Case) -> None:
    with spawned(case) as server, Client(server.address) as client:
        assert client.echo(b"hello") == b"hello"
        if case.model != "nonblocking":
            assert eventually(lambda: asleep(server))
        assert_stops(server)


def test_sigterm_stops_a_server_under_load(case: Case) -> None:
    with spawned(case) as server, flood(server.address, 20 if case.concurrent else 1):
        assert_stops(server)


def test_sigterm_stops_a_server_whose_client_never_reads(case: Case) -> None:
    with spawned(case) as server, Client(server.address) as deaf:
        assert deaf.echo(b"hello") == b"hello"
        deaf.send_until_stuck(noise(8 * MEGABYTE))
        assert_stops(server)


@pytest.mark.parametrize("signals", [2, 10])
def test_more_than_one_sigterm_stops_a_server_just_as_quietly(case: Case, signals: int) -> None:
    with spawned(case) as server, flood(server.address, 1):
        assert_stops(server, signals)
