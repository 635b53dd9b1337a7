"""What the pytest plugin's fixtures do: echo servers and verified load, for anybody's suite.

    def test_my_server(load):
        found = load("tcp:127.0.0.1:9000", connections=16)
        assert found.rate_hz > 1000

    def test_round_trip(echo_server, benchmark):
        with echo_server("epoll_lt").dial() as connection:
            benchmark(connection.round_trip, b"x" * 64)

The fixtures themselves are in iobench_pytest.py, which pytest loads with every run, and which imports this file when
one of them is used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from bench.events import readable

if TYPE_CHECKING:
    from pathlib import Path

    from bench.host import CpuLayout
    from bench.load import Measured
    from bench.load_pool import LoadPool
    from bench.processes import Guard
    from bench.record import StrategyInfo
    from bench.server import RunningServer

PATIENCE_S = 10.0


class Connection:
    """A connection to an echo server. Use it as a context manager, or close it."""

    def __init__(self, rfd: int, wfd: int) -> None:
        self.rfd, self.wfd = rfd, wfd

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def round_trip(self, payload: bytes) -> bytes:
        """Send bytes and return as many that come back.

        Raises ConnectionError where the server closes before, TimeoutError where nothing comes for ten seconds.
        """
        sent = os.write(self.wfd, payload)
        while sent < len(payload):
            sent += os.write(self.wfd, payload[sent:])
        back = os.read(self.rfd, len(payload))
        if len(back) == len(payload):
            return back
        parts = [back]
        missing = len(payload) - len(back)
        while missing:
            if not parts[-1]:
                raise ConnectionError(f"the server closed the connection with {missing} bytes still to come")
            if not readable(self.rfd, PATIENCE_S):
                raise TimeoutError(f"{missing} bytes did not come back within {PATIENCE_S:g} s")
            parts.append(os.read(self.rfd, missing))
            missing -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close it; once."""
        fds, self.rfd, self.wfd = {self.rfd, self.wfd}, -1, -1
        for fd in fds - {-1}:
            os.close(fd)


@dataclass(frozen=True)
class EchoServer:
    """A running echo server: `address` as iobench writes it (tcp:127.0.0.1:4000), its process id, its strategy."""

    strategy: str
    model: str
    transport: str
    address: str
    pid: int
    implementation: str
    version: str

    def dial(self) -> Connection:
        """Connect. Raises OSError."""
        from servers.transport import dial, parse  # noqa: PLC0415

        channel = dial(parse(self.address), PATIENCE_S)
        return Connection(channel.rfd, channel.wfd)


@dataclass(frozen=True)
class Measurement:
    """What a load came to. Every echoed byte was compared.

    `completed` messages within `window_s` seconds; times in us, of the response where sends were planned (`rate_hz` was
    given), else from the actual send; NaN where there were too few messages to tell. `faults` is empty where all went
    well. `disturbed` says what others took from the load generator, such as a CPU that it waited for during a good part
    of the window: the rate is then theirs too. Where another load of this kind had to be on the same CPUs (there are
    more pytest-xdist workers than CPUs), and took from it, that is a fault.
    """

    completed: int
    window_s: float
    p50_us: float
    p99_us: float
    errors: dict[str, int]
    faults: list[str] = field(default_factory=list)
    disturbed: str = ""

    @property
    def rate_hz(self) -> float:
        """Messages a second."""
        return self.completed / self.window_s

    def check(self) -> Measurement:
        """Fail the test, with the reasons, where anything went wrong; else return the measurement itself."""
        if self.faults:
            pytest.fail("; ".join(self.faults))
        return self


class StartsServers(Protocol):
    """The fixture `echo_server`."""

    def __call__(self, strategy: str, transport: str = "tcp", *, python: str = "") -> EchoServer:
        """Start a strategy on loopback and return it; it ends with the test."""


class PutsLoad(Protocol):
    """The fixture `load`."""

    def __call__(
        self,
        address: str | EchoServer,
        *,
        connections: int = 1,
        message_bytes: int = 64,
        duration_s: float = 0.5,
        warmup_s: float = 0.1,
        rate_hz: float = 0.0,
    ) -> Measurement:
        """Put load on a server and return what came of it: a closed loop, or an open one at `rate_hz`."""


def guard() -> Iterator[Guard]:
    """The process that ends ours when pytest is killed."""
    from bench.processes import Guard  # noqa: PLC0415

    made = Guard()
    yield made
    made.close()


def strategies() -> dict[str, StrategyInfo]:
    """All strategies by name."""
    from bench.catalogue import list_strategies  # noqa: PLC0415

    return {info.name: info for info in list_strategies()[0]}


def cpus(folder: Path) -> Iterator[CpuLayout]:
    """CPUs that no other worker of pytest-xdist has, nor a sweep that goes on meanwhile, as far as there are any."""
    from bench.lock import beside_others  # noqa: PLC0415

    with beside_others(folder) as layout:
        yield layout


def pool(guard: Guard, cpus: CpuLayout) -> Iterator[LoadPool]:
    """The load generator, started by the first test that uses it and warm for all others."""
    from bench.load_pool import LoadPool  # noqa: PLC0415

    made = LoadPool(guard, cpus.load)
    yield made
    made.end()


def echo_server(guard: Guard, known: dict[str, StrategyInfo], cpus: CpuLayout) -> Iterator[StartsServers]:
    """Start echo servers of iobench: `echo_server("epoll_lt", "unix")`. They end with the test.

    A strategy that can't run here skips the test, with the reason; one that there isn't fails it.
    """
    from bench import interpreters  # noqa: PLC0415
    from bench.errors import did_you_mean  # noqa: PLC0415
    from bench.server import ServerFailedError, start_server, stop_server  # noqa: PLC0415

    def start(strategy: str, transport: str = "tcp", *, python: str = "") -> EchoServer:
        info = known.get(strategy)
        if info is None:
            pytest.fail(f"there is no strategy {strategy!r}{did_you_mean(strategy, known)}")
        if transport not in info.transports:
            pytest.fail(f"{strategy} does not serve {transport!r}, but {', '.join(info.transports)}")
        if not info.available and not python:
            pytest.skip(f"{strategy} can't run here: {info.reason}")
        try:
            command = interpreters.command(python)
            env = interpreters.environment_for(python)
            server = start_server(info, transport, cpus.server, guard, command, env=env)
        except interpreters.BrokenError as error:
            pytest.skip(f"{error}")
        except ServerFailedError as error:
            pytest.fail(f"{strategy}: {error}")
        running.callback(stop_server, server)
        return EchoServer(
            strategy, info.model, transport, server.address, server.pid, server.implementation, server.version
        )

    with ExitStack() as running:
        yield start


def load(request: pytest.FixtureRequest) -> PutsLoad:
    """Put verified load on any echo server: `load("tcp:127.0.0.1:9000", connections=16)`."""

    def put(
        address: str | EchoServer,
        *,
        connections: int = 1,
        message_bytes: int = 64,
        duration_s: float = 0.5,
        warmup_s: float = 0.1,
        rate_hz: float = 0.0,
    ) -> Measurement:
        place = address.address if isinstance(address, EchoServer) else address
        fields = {
            "job": f"pytest-{time.monotonic_ns()}",
            "address": place,
            "workload": "open" if rate_hz else "closed",
            "connections": connections,
            "message_bytes": message_bytes,
            "rate_hz": rate_hz,
            "warmup_s": warmup_s,
            "duration_s": duration_s,
            "timeout_s": PATIENCE_S,
            "seed": 1,
        }
        return _measure(request.getfixturevalue("_iobench_pool"), place, fields)

    return put


def _measure(pool: LoadPool, address: str, job: dict[str, Any]) -> Measurement:
    from bench.external import BadExternalError, target  # noqa: PLC0415
    from bench.external_server import start_external  # noqa: PLC0415
    from bench.load import LoadFailedError  # noqa: PLC0415
    from bench.observation import observe  # noqa: PLC0415
    from bench.server import ServerFailedError, stop_server  # noqa: PLC0415

    server: RunningServer | None = None
    try:
        worker = pool.worker()
        server = start_external(target(address), [], worker.child.guard, job["message_bytes"])
        measured, _ = observe(worker, job, server)
    except BadExternalError as error:
        pytest.fail(f"{address!r} is no address: {error}")
    except (ServerFailedError, LoadFailedError) as error:
        return Measurement(0, job["duration_s"], float("nan"), float("nan"), {}, [str(error)])
    finally:
        if server:
            stop_server(server)
    return _told(measured, worker.cpus)


def _told(measured: Measured, cpus: Sequence[int]) -> Measurement:
    from bench.disturbance import disturbance  # noqa: PLC0415
    from bench.histograms import decode, percentiles_us  # noqa: PLC0415 - numpy is slow to import
    from bench.lock import rivals  # noqa: PLC0415
    from bench.validity import unanswered  # noqa: PLC0415

    found, refused = measured.load, measured.refused
    window_ns, load_ns = found.closed_ns - found.opened_ns, found.cpu_user_ns + found.cpu_system_ns
    disturbed = disturbance(window_ns, [], {"cpu_ns": 0.0}, load_ns, measured.machine) if measured.machine else ""
    hist = decode(found.response_hdr or found.service_hdr)
    p50, p99 = percentiles_us(hist, (0.5, 0.99)).value.tolist() if hist else (float("nan"), float("nan"))
    errors = {kind: number for kind, number in found.errors.items() if number}
    faults = [f"{number} messages: {kind}" for kind, number in sorted(errors.items())]
    faults += [f"{refused} connections refused"] if refused else []
    faults += [f"{found.timed_out} messages timed out"] if found.timed_out else []
    faults += ["no message was completed"] if not found.completed else []
    faults += filter(None, [unanswered(found)])
    faults += [f"{disturbed}: {other}" for other in rivals(cpus)] if disturbed else []
    return Measurement(found.completed, window_ns / 1e9, p50, p99, errors, faults, disturbed)
