"""A server is reached from this machine alone, unless its user says otherwise; and no command goes through a shell."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from spawn import ROOT, Case, cases
from test_cli import begun, iobench

from bench.external import External
from bench.external_server import start_external
from bench.processes import Guard
from bench.record import StrategyInfo
from bench.server import start_server, stop_server

ON_TCP = [case for case in cases() if case.transport == "tcp" and not case.unavailable]
# Keeps what it was given, and listens.
NOTING = """
import json, pathlib, socket, sys
pathlib.Path("given.json").write_text(json.dumps(sys.argv[1:]))
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    conn = sock.accept()[0]
    conn.sendall(conn.recv(100))
    conn.close()
"""
METACHARACTERS = (
    "; touch owned",
    "$(touch owned)",
    "`touch owned`",
    "&& touch owned",
    "| tee owned",
    "> owned",
    "*",
    "~",
    "$HOME",
)


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.close()


def listened_on(pid: int) -> set[str]:
    """The addresses that a process and its children listen on."""
    first = psutil.Process(pid)
    found: set[str] = set()
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a child that served somebody who has left
            connections = process.net_connections("inet")
            found |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.parametrize("strategy", ON_TCP, ids=str)
def test_in_a_sweep_every_strategy_listens_on_loopback_alone(strategy: Case, guard: Guard) -> None:
    info = StrategyInfo(
        name=strategy.strategy,
        module=strategy.module,
        summary="",
        model=strategy.model,
        transports=["tcp"],
        concurrent=strategy.concurrent,
        available=True,
        reason="",
        doc="",
    )
    server = start_server(info, "tcp", [], guard)
    try:
        addresses = listened_on(server.pid)
    finally:
        stop_server(server)
    assert addresses and all(ip_address(address).is_loopback for address in addresses)


def test_by_hand_a_server_listens_where_it_is_told_and_nowhere_else(tmp_path: Path) -> None:
    with begun("serve", "epoll_lt", "tcp:127.0.0.2:0", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoll_lt listens on tcp:127.0.0.2:")
        assert listened_on(process.pid) == {"127.0.0.2"}
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("address", ["tcp::9000", "tcp:9000", "tcp:*:9000", ":9000", "9000"])
def test_by_hand_an_address_without_a_host_is_refused(address: str, tmp_path: Path) -> None:
    refused = iobench("serve", "epoll_lt", address, cwd=tmp_path)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_a_command_of_a_sweep_is_run_as_it_stands_without_a_shell(tmp_path: Path, guard: Guard) -> None:
    command = (sys.executable, "-c", NOTING, "{port}", *METACHARACTERS)
    server = start_external(External(name="noting", command=command, cwd=str(tmp_path), transport="tcp"), [], guard)
    stop_server(server)
    port, *given = json.loads((tmp_path / "given.json").read_text())
    assert port.isdigit() and given == list(METACHARACTERS)
    assert [path.name for path in tmp_path.iterdir()] == ["given.json"]


def test_a_command_of_a_gate_is_split_and_not_given_to_a_shell(tmp_path: Path) -> None:
    spelled = f"{sys.executable} -c 'import sys; sys.exit(1)' {{port}} ; touch owned"
    result = iobench(
        *["gate", "--base-command", spelled, "--head-command", spelled, "--budget", "1s", "--no-calls"], cwd=tmp_path
    )
    assert result.returncode != 0
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("package", ["bench", "clients", "servers"])
def test_nothing_is_ever_given_to_a_shell(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert "shell" not in [keyword.arg for keyword in node.keywords], f"{path}:{node.lineno}"
                assert ast.unparse(node.func) not in ("os.system", "os.popen", "subprocess.getoutput"), path


def test_there_are_strategies_to_look_at() -> None:
    assert len(ON_TCP) > 10
