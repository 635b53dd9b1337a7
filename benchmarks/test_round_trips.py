"""Round trips by strategy and transport, with pytest-benchmark:

    pytest benchmarks/test_round_trips.py --benchmark-autosave
    pytest benchmarks/test_round_trips.py --benchmark-compare --benchmark-compare-fail=median:25%

One connection and one message at a time: what is timed is a message's way there and back, client and all. It is not
what a server can take; `iobench sweep` measures that. On a shared machine the times of two runs differ by a fifth for
no reason: `iobench gate` compares two versions in pairs.
"""

from __future__ import annotations

import platform

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.catalogue import list_strategies
from bench.pytest_plugin import StartsServers

PAYLOAD = bytes(range(64))
CASES = [
    pytest.param(info.name, transport, id=f"{info.name}-{transport}")
    for info in list_strategies()[0]
    for transport in info.transports
]


@pytest.mark.parametrize(("strategy", "transport"), CASES)
def test_round_trip(strategy: str, transport: str, echo_server: StartsServers, benchmark: BenchmarkFixture) -> None:
    server = echo_server(strategy, transport)
    benchmark.group = transport
    benchmark.extra_info.update(
        strategy=strategy,
        model=server.model,
        transport=transport,
        server=f"{server.implementation} {server.version}",
        client=f"{platform.python_implementation()} {platform.python_version()}",
    )
    with server.dial() as connection:
        assert benchmark(connection.round_trip, PAYLOAD) == PAYLOAD
