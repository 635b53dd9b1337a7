"""Servers that are not ours, as a sweep names them: what may be said of one, and how it is planned."""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.errors import BadInputError
from bench.external import ALLOWED, KEYS, External, as_strategy, command_for, environment_of, folder_of
from bench.plan import make_plan
from bench.record import Interpreter, StrategyInfo
from bench.sweep import Sweep, from_values, load_sweep, with_strategies, with_target
from servers.transport import Address

NODE = {"name": "node", "command": ["node", "echo.js", "{port}"]}


def sweep_of(*external: dict[str, Any], folder: Path | None = None, **more: Any) -> Sweep:
    return from_values("mine", {"external": list(external), **more}, "mine.toml", folder)


def the_external(given: dict[str, Any], folder: Path | None = None) -> External:
    (external,) = sweep_of(given, folder=folder).external
    return external


def strategy(name: str) -> StrategyInfo:
    return StrategyInfo(
        name=name,
        module=name,
        summary="",
        model="multiplexing",
        transports=["tcp", "unix", "pipe"],
        concurrent=True,
        available=True,
        reason="",
        doc="",
    )


def complaint(*external: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        from_values("mine", {"external": list(external)}, "mine.toml")
    return str(caught.value)


def test_a_server_is_a_name_and_a_command_with_a_place_for_its_port() -> None:
    external = the_external(NODE)
    assert (external.name, external.transport) == ("node", "tcp")
    assert command_for(external, Address("tcp", "127.0.0.1", 4321)) == ["node", "echo.js", "4321"]


def test_a_place_for_a_path_makes_it_a_unix_server() -> None:
    external = the_external({"name": "socat", "command": ["socat", "UNIX-LISTEN:{path},fork", "PIPE"]})
    assert external.transport == "unix"
    assert command_for(external, Address("unix", "/tmp/x")) == ["socat", "UNIX-LISTEN:/tmp/x,fork", "PIPE"]


def test_host_and_port_are_filled_in_wherever_they_stand_and_other_braces_stay() -> None:
    given = {"name": "js", "command": ["node", "-e", "if (1) {} listen({port}, '{host}')"], "env": {"AT": "{host}"}}
    external = the_external(given)
    address = Address("tcp", "127.0.0.1", 99)
    assert command_for(external, address)[2] == "if (1) {} listen(99, '127.0.0.1')"
    assert environment_of(external, address)["AT"] == "127.0.0.1"


def test_the_port_may_be_told_by_the_environment_alone() -> None:
    external = the_external({"name": "app", "command": ["app"], "env": {"PORT": "{port}"}})
    assert environment_of(external, Address("tcp", "127.0.0.1", 99)) == {**os.environ, "PORT": "99"}


def test_a_command_is_run_in_the_folder_of_the_sweeps_file_and_cwd_begins_there(tmp_path: Path) -> None:
    assert folder_of(the_external(NODE, tmp_path)) == tmp_path
    assert folder_of(the_external(NODE | {"cwd": "js"}, tmp_path)) == tmp_path / "js"
    assert folder_of(the_external(NODE | {"cwd": "/"}, tmp_path)) == Path("/")


def test_what_comes_with_iobench_is_found_wherever_that_is_and_recorded_without_its_place() -> None:
    external = next(one for one in load_sweep("foreign").external if one.name == "node")
    assert (folder_of(external) / "echo.js").is_file()
    assert external.cwd == "{iobench}/foreign"


def test_the_sweep_of_foreign_servers_is_complete() -> None:
    sweep = load_sweep("foreign")
    assert [external.name for external in sweep.external] == ["socat", "ncat", "node"]
    assert sweep.strategies == ("epoll_lt", "asyncio_protocol")


def test_a_recorded_sweep_is_read_back_as_it_was(tmp_path: Path) -> None:
    sweep = sweep_of(
        NODE | {"cwd": "js", "env": {"B": "2", "A": "1"}, "concurrent": False},
        {"name": "mine", "address": "unix:@mine"},
        folder=tmp_path,
    )
    recorded = msgspec.json.decode(msgspec.json.encode(sweep))
    recorded.pop("name")
    assert from_values("mine", recorded, "results/mine") == sweep


def test_there_is_a_text_about_what_is_allowed_for_every_key() -> None:
    assert ALLOWED.keys() == KEYS.keys()


@pytest.mark.parametrize(
    ("external", "said"),
    [
        (7, "a server is a table, [[external]], with a name and a command"),
        ({"command": ["node", "{port}"]}, "a server without a name"),
        ({"name": "node"}, "node needs either a command or an address"),
        (NODE | {"address": "tcp:127.0.0.1:1"}, "node needs either a command or an address"),
        (NODE | {"comand": 1}, "there is no key 'comand' (did you mean 'command'?); it takes name, command, "),
        (NODE | {"command": "node {port}"}, "command = 'node {port}' is not allowed; allowed: a program and its arg"),
        (NODE | {"command": ["node", "x\0{port}"]}, "is not allowed; allowed: a program and its arguments"),
        (NODE | {"env": {"A": 1}}, "env = {'A': 1} is not allowed; allowed: texts by name"),
        (NODE | {"name": "two words"}, "name = 'two words' is not allowed"),
        (NODE | {"command": ["node", "9000"]}, "node must be told where to listen: by {port}, or {path}"),
        (NODE | {"command": ["node", "{port}{path}"]}, "node must be told where to listen: by {port}, or {path}"),
        (NODE | {"transport": "unix"}, 'node can\'t be transport = "unix": {path} is for unix, {port} for tcp'),
        ({"name": "mine", "address": "9000"}, "mine: '9000' is not an address"),
        ({"name": "mine", "address": "tcp:127.0.0.1:1", "cwd": "x"}, "mine is already running: cwd and env are for a"),
        ({"name": "mine", "address": "tcp:127.0.0.1:1", "transport": "unix"}, "it is at tcp:127.0.0.1:1"),
    ],
)
def test_a_server_that_is_not_as_it_may_be_is_refused_with_the_reason(external: Any, said: str) -> None:
    assert said in complaint(external)


def test_two_servers_of_a_name_are_refused() -> None:
    assert "there are two servers called 'node'" in complaint(NODE, NODE)


def test_a_server_with_the_name_of_a_strategy_is_refused() -> None:
    sweep = sweep_of(NODE | {"name": "epoll_lt"})
    with pytest.raises(BadInputError, match="there is a strategy called 'epoll_lt'"):
        make_plan(sweep, [strategy("epoll_lt")], foreign=[as_strategy(one) for one in sweep.external])


def test_a_sweep_may_have_no_strategies_where_it_has_other_servers() -> None:
    assert sweep_of(NODE, strategies=[]).strategies == ()
    with pytest.raises(BadInputError, match=r"strategies = \[\] is not allowed"):
        from_values("mine", {"strategies": []}, "mine.toml")


def test_a_server_is_planned_like_a_strategy_once_whatever_the_interpreters() -> None:
    sweep = sweep_of(
        {"name": "echo", "command": [sys.executable, "{port}"]},
        {"name": "unixecho", "command": [sys.executable, "{path}"]},
        strategies=["epoll_lt"],
        python=["", "pypy3"],
        connections=[1, 4],
        repeats=1,
    )
    plan = make_plan(
        sweep,
        [strategy("epoll_lt")],
        foreign=[as_strategy(one) for one in sweep.external],
        interpreters=[Interpreter(name=name, available=True) for name in ("", "pypy3")],
    )
    points = Counter((trial.strategy, trial.python) for trial in plan.trials)
    assert points == {("echo", ""): 2, ("epoll_lt", ""): 2, ("epoll_lt", "pypy3"): 2}
    assert "tcp left out: not served by unixecho" in plan.notes
    assert plan.strategies["echo"].model == "external"
    assert plan.strategies["echo"].summary == f"{sys.executable} {{port}}"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"command": ["no-such-program", "{port}"]}, "no-such-program is not installed"),
        ({"command": ["./no-such-program", "{port}"]}, "./no-such-program is no program that can be run"),
        ({"command": [sys.executable, "{port}"], "cwd": "nowhere"}, "there is no folder "),
        ({"command": ["sh", "{port}"], "env": {"PATH": "/nowhere"}}, "sh is not installed"),
    ],
)
def test_a_server_whose_program_is_not_there_is_unavailable_with_the_reason(
    given: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    info = as_strategy(the_external({"name": "missing", **given}, tmp_path))
    assert not info.available
    assert info.reason.startswith(reason)


def test_a_program_beside_the_sweeps_file_can_run(tmp_path: Path) -> None:
    program = tmp_path / "echo"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert as_strategy(the_external({"name": "echo", "command": ["./echo", "{port}"]}, tmp_path)).available


def test_a_running_server_is_available_where_it_accepts_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        info = as_strategy(the_external({"name": "mine", "address": address}))
        assert (info.available, info.transports) == (True, ["tcp"])
        assert info.summary == f"already running at {address}: only the client's side is measured"
    gone = as_strategy(the_external({"name": "mine", "address": "unix:@iobench-test-nobody"}))
    assert gone.reason == "no server accepts connections at unix:@iobench-test-nobody: Connection refused"


def test_a_sweep_of_servers_none_of_which_can_run_is_refused_with_the_reasons() -> None:
    sweep = sweep_of(NODE | {"command": ["no-such-program", "{port}"]}, strategies=[])
    with pytest.raises(BadInputError, match=r"can run here \(node: no-such-program is not installed\)"):
        make_plan(sweep, [strategy("epoll_lt")], foreign=[as_strategy(one) for one in sweep.external])


def test_strategies_chosen_on_the_command_line_may_be_other_servers() -> None:
    sweep = sweep_of(NODE, NODE | {"name": "other"}, strategies=["epoll_lt", "poll"])
    chosen = with_strategies(sweep, "node,poll")
    assert (chosen.strategies, [one.name for one in chosen.external]) == (("poll",), ["node"])


def test_a_target_takes_the_place_of_all_that_a_sweep_would_start() -> None:
    sweep = with_target(sweep_of(NODE, python=["python3.13"], connections=[7]), "unix:/tmp/echo.sock")
    assert (sweep.strategies, sweep.python, sweep.transports, sweep.connections) == ((), ("",), ("unix",), (7,))
    assert sweep.external == (External(name="target", address="unix:/tmp/echo.sock", transport="unix"),)


def test_a_target_that_is_no_address_is_refused() -> None:
    with pytest.raises(BadInputError, match="'nonsense' is not an address") as caught:
        with_target(Sweep(name="any"), "nonsense")
    assert caught.value.next_step == "iobench sweep --target tcp:127.0.0.1:9000"
