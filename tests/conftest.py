"""The cases of the contract suite, the server that the tests of one case share, and a report that many tests read.

Which strategies there are is asked of `python -m servers --list`: a new file in servers/ is tested with no edit here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from echo_client import Client
from spawn import Case, Server, asleep, cases, eventually, nobody_left, spawned, stop


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever asks for a `case` once for every strategy on every transport."""
    if "case" in metafunc.fixturenames:
        # In scope "session" pytest orders the tests by case, so that no two shared servers run at once.
        metafunc.parametrize("case", [as_parameter(case) for case in cases()], scope="session")


def as_parameter(case: Case) -> object:
    marks = [pytest.mark.skip(reason=f"{case.strategy}: {case.unavailable}")] if case.unavailable else []
    return pytest.param(case, id=str(case), marks=marks)


@pytest.fixture(scope="session", autouse=True)
def known_to_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let no sweep of a test wait for one of another worker's, nor for one that goes on meanwhile (bench.lock)."""
    os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default sweep with its report: to be read, or to be made again."""
    from synthetic import write_default  # noqa: PLC0415 - pandas and matplotlib: the contract needs neither

    import report  # noqa: PLC0415

    folder = write_default(tmp_path_factory.mktemp("results") / "quick-20250102T030400Z")
    report.write(folder)
    return folder


@pytest.fixture(scope="session")
def shared_server(case: Case) -> Iterator[Server]:
    """One server for all the tests of a case; at their end it stops as the contract says."""
    with spawned(case) as server:
        yield server
        if case.model != "nonblocking":
            assert eventually(lambda: asleep(server)), f"{case} has no connections, and does not sleep"
        assert stop(server.process) == 0
        assert eventually(lambda: nobody_left(server.process)), "it left processes behind"
        assert server.complaints() == ""


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The shared server, which the test must leave alive and echoing."""
    if shared_server.process.poll() is not None:
        pytest.skip("the server died in an earlier test, which failed")
    yield shared_server
    assert shared_server.process.poll() is None, f"the test killed it: {shared_server.complaints()}"
    with Client(shared_server.address) as client:
        assert client.echo(b"still here") == b"still here"


@pytest.fixture
def several_at_once(case: Case) -> None:
    """Skip a strategy that serves one connection at a time."""
    if not case.concurrent:
        pytest.skip(f"{case.strategy} serves one connection at a time (concurrent=False)")
