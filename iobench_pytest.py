"""The pytest plugin's entry point: the fixtures `echo_server` and `load` by name, for anybody's suite.

pytest imports it in every run in whose environment iobench is installed, also where a suite has a package `bench` of
its own. So nothing of iobench's is imported here before a fixture is used; what the fixtures do is in
bench/pytest_plugin.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

    from bench.host import CpuLayout
    from bench.load_pool import LoadPool
    from bench.processes import Guard
    from bench.pytest_plugin import PutsLoad, StartsServers
    from bench.record import StrategyInfo

HERE = Path(__file__).resolve().parent
NEEDED = ("bench", "servers")  # packages of iobench's that are imported into the process that runs the tests


def _plugin() -> ModuleType:
    """The module with what the fixtures do; fails the test where another package takes the place of iobench's."""
    for name in NEEDED:
        spec = None if name in sys.modules else find_spec(name)
        origin = spec.origin if spec else getattr(sys.modules.get(name), "__file__", None)
        found = Path(origin).resolve().parent if origin else None
        if found != HERE / name:
            pytest.fail(
                f"iobench's fixtures need its package {name}, and {found or 'another'} comes before it: call that "
                "folder otherwise, or run pytest from elsewhere",
                pytrace=False,
            )
    from bench import pytest_plugin  # noqa: PLC0415

    return pytest_plugin


@pytest.fixture(scope="session")
def _iobench_guard() -> Iterator[Guard]:
    yield from _plugin().guard()


@pytest.fixture(scope="session")
def _iobench_strategies() -> dict[str, StrategyInfo]:
    found: dict[str, StrategyInfo] = _plugin().strategies()
    return found


@pytest.fixture(scope="session")
def _iobench_cpus(pytestconfig: pytest.Config) -> Iterator[CpuLayout]:
    yield from _plugin().cpus(pytestconfig.rootpath)


@pytest.fixture(scope="session")
def _iobench_pool(_iobench_guard: Guard, _iobench_cpus: CpuLayout) -> Iterator[LoadPool]:
    """The load generator, started by the first test that uses it and warm for all others."""
    yield from _plugin().pool(_iobench_guard, _iobench_cpus)


@pytest.fixture
def echo_server(
    _iobench_guard: Guard, _iobench_strategies: dict[str, StrategyInfo], _iobench_cpus: CpuLayout
) -> Iterator[StartsServers]:
    """Start echo servers of iobench: `echo_server("epoll_lt", "unix")`. They end with the test.

    A strategy that can't run here skips the test, with the reason; one that there isn't fails it.
    """
    yield from _plugin().echo_server(_iobench_guard, _iobench_strategies, _iobench_cpus)


@pytest.fixture
def load(request: pytest.FixtureRequest) -> PutsLoad:
    """Put verified load on any echo server: `load("tcp:127.0.0.1:9000", connections=16)`."""
    puts: PutsLoad = _plugin().load(request)
    return puts
