"""`python -m servers`: what it lists, how it serves alone, and what it says to bad input."""

from __future__ import annotations

import errno
import importlib
import json
import os
import pkgutil
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from echo_client import Client
from spawn import ROOT, WAIT_S, Case, cases, list_strategies, spawned, stop

import servers
from bench.events import Event, readable
from bench.server import RunningServer
from servers.__main__ import main
from servers.transport import TRANSPORTS, Address, bound_address, listen, parse

MODELS = {"blocking", "nonblocking", "multiplexing", "signal", "completion", "coroutine"}
INTERPRETERS = ["python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14", "pypy3"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "servers", *arguments]
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


def test_every_strategy_is_listed_with_all_that_a_report_says_of_it() -> None:
    listed = list_strategies()
    assert len(listed) >= 9
    for line in listed:
        assert {name: type(value) for name, value in line.items()} == {
            "name": str,
            "module": str,
            "summary": str,
            "model": str,
            "transports": list,
            "concurrent": bool,
            "available": bool,
            "reason": str,
            "doc": str,
        }
        assert line["model"] in MODELS
        assert line["transports"], line["name"]
        assert set(line["transports"]) <= set(TRANSPORTS)
        assert line["summary"].strip()
        assert "\n" not in line["summary"]
        assert line["available"] == (line["reason"] == "")
        assert (ROOT / "servers" / f"{line['module']}.py").is_file()


def test_the_file_of_every_strategy_tells_its_mechanism() -> None:
    for line in list_strategies():
        assert len(line["doc"].split()) > 50, f"servers/{line['module']}.py has no docstring to learn from"


def test_the_list_is_in_order_of_name_and_nothing_is_broken() -> None:
    shown = run("--list")
    assert shown.returncode == 0
    assert shown.stderr == ""
    names = [line["name"] for line in list_strategies()]
    assert names == sorted(names)


def test_no_two_strategies_have_the_same_name() -> None:
    modules = [importlib.import_module(f"servers.{info.name}") for info in pkgutil.iter_modules(servers.__path__)]
    names = Counter(strategy.name for module in modules for strategy in getattr(module, "STRATEGIES", ()))
    assert [name for name, times in names.items() if times > 1] == []
    assert sorted(names) == [line["name"] for line in list_strategies()]


@pytest.mark.parametrize("transport", ["tcp", "unix", "pipe"])
def test_a_server_that_stands_alone_says_where_it_listens_and_leaves_nothing_behind(
    transport: str, tmp_path: Path
) -> None:
    asked = "tcp:127.0.0.1:0" if transport == "tcp" else f"{transport}:{tmp_path}/echo"
    with standing_alone("epoll_lt", asked) as (process, address):
        assert address.transport == transport
        with Client(address) as client:
            assert client.echo(b"alone") == b"alone"
        assert stop(process) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_server_can_listen_on_an_abstract_name_which_needs_no_removing() -> None:
    with standing_alone("epoll_lt", f"unix:@iobench-test-{os.getpid()}") as (process, address):
        with Client(address) as client:
            assert client.echo(b"alone") == b"alone"
        assert stop(process) == 0


@contextmanager
def standing_alone(strategy: str, address: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """Run a server that binds for itself; yields where it says that it listens."""
    command = [sys.executable, "-m", "servers", strategy, address]
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert readable(process.stdout.fileno(), WAIT_S), "it does not say where it listens"
            words = process.stdout.readline().split()
            assert words[:-1] == [strategy, "listens", "on"]
            yield process, parse(words[-1])
        finally:
            process.kill()
        stderr.seek(0)
        assert stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a strategy and an address, or use --list"),
        (["epoll_lt"], "name a strategy and an address, or use --list"),
        (["epol", "tcp:127.0.0.1:0"], "there is no strategy 'epol'; there are: "),
        (["epoll_lt", "127.0.0.1:0"], "'127.0.0.1:0' is not an address: expected tcp:HOST:PORT"),
        (["epoll_lt", "tcp:127.0.0.1:http"], "'tcp:127.0.0.1:http' is not an address: expected tcp:HOST:PORT"),
        (["epoll_lt", f"tcp:{'a' * 64}:80"], f"'tcp:{'a' * 64}:80' is not an address"),
        (["epoll_lt", "tcp:192.0.2.1:80"], "can't listen on tcp:192.0.2.1:80: Cannot assign requested address"),
        (["epoll_lt", "unix:/nowhere/at/all"], "can't listen on unix:/nowhere/at/all: No such file or directory"),
        (["epoll_lt", f"unix:/{'x' * 200}"], f"can't listen on unix:/{'x' * 200}: AF_UNIX path too long"),
        (["epoll_lt", "udp", "--listen-fd", "0"], "'udp' is no transport; there are: tcp, unix, pipe"),
        (["epoll_lt", "tcp", "--listen-fd", "99"], "can't listen on descriptor 99: Bad file descriptor"),
        (["epoll_lt", "tcp", "--listen-fd", "0"], "can't listen on descriptor 0: Socket operation on non-socket"),
        (["epoll_lt", "tcp:127.0.0.1:0", "--status-fd", "99"], "can't write to descriptor 99: Bad file descriptor"),
        (["epoll_lt", "tcp:127.0.0.1:0", "--module", "nowhere"], "servers/nowhere.py can't be imported"),
        (["epoll_lt", "tcp:127.0.0.1:0", "--port", "1"], "unrecognized arguments: --port"),
    ],
)
def test_bad_input_gets_one_clear_message_and_exit_code_2(arguments: list[str], complaint: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("error: ") == 1
    assert refused.stdout == ""


def test_a_port_that_is_taken_gets_one_clear_message_and_exit_code_2() -> None:
    with listen(Address("tcp", "127.0.0.1")) as sock:
        taken = str(bound_address(sock, "tcp"))
        refused = run("epoll_lt", taken)
    assert refused.returncode == 2
    assert f"can't listen on {taken}: Address already in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_that_is_no_socket_is_not_overwritten_by_a_server(tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    letters.write_text("to be kept")
    refused = run("epoll_lt", f"unix:{letters}")
    assert refused.returncode == 2
    assert "Address already in use" in refused.stderr
    assert letters.read_text() == "to be kept"


@pytest.fixture
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for one more file of servers/: nothing but the file itself makes its strategies known."""
    monkeypatch.setattr(servers, "__path__", [*servers.__path__, str(tmp_path)])
    yield tmp_path / "made_up.py"
    sys.modules.pop("servers.made_up", None)
    vars(servers).pop("made_up", None)


MADE_UP = '''
"""A made-up strategy."""
from servers.contract import Strategy

def probe():
    raise OSError("no such thing in this kernel")

STRATEGIES = (
    Strategy("made_up", "serves tcp alone", print, "blocking", transports=("tcp",)),
    Strategy("impossible", "can't run anywhere", print, "blocking", probe=probe),
)
'''


def test_one_new_file_is_all_that_a_new_strategy_takes(new_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_file.write_text(MADE_UP)
    assert main(["--list"]) == 0
    assert '"name": "made_up"' in capsys.readouterr().out


def test_a_transport_that_a_strategy_does_not_serve_is_refused_and_nothing_is_bound(
    new_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_file.write_text(MADE_UP)
    with pytest.raises(SystemExit) as ending:
        main(["made_up", f"unix:{new_file.parent}/echo"])
    assert ending.value.code == 2
    assert "made_up does not serve unix; it serves: tcp" in capsys.readouterr().err
    assert not (new_file.parent / "echo").exists()


def test_a_strategy_that_can_not_run_here_is_listed_with_the_reason_and_refused(
    new_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_file.write_text(MADE_UP)
    main(["--list"])
    line = next(line for line in capsys.readouterr().out.splitlines() if '"impossible"' in line)
    assert '"available": false, "reason": "no such thing in this kernel"' in line
    with pytest.raises(SystemExit) as ending:
        main(["impossible", "tcp:127.0.0.1:0"])
    assert ending.value.code == 2
    assert "impossible can't run here: no such thing in this kernel" in capsys.readouterr().err


def without(*modules: str) -> str:
    """A program that is `python -m servers` on an interpreter that was built without these modules."""
    return f"""
import sys
sys.modules.update(dict.fromkeys({modules!r}))
from servers.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


# Extension modules that a build may lack, and the files of servers/ that take the last two, or whose packages do.
OPTIONAL = ("resource", "faulthandler", "ctypes", "fcntl")
IN_NEED = ("sigio", "posix_aio", "trio_loop", "gevent_loop")


@pytest.mark.parametrize(
    "which", [case for case in cases() if case.transport == "tcp" and not case.unavailable], ids=str
)
def test_a_server_does_without_modules_that_no_echo_needs(which: Case) -> None:
    lacking = OPTIONAL[:2] if which.module in IN_NEED else OPTIONAL
    with spawned(which, program=["-c", without(*lacking)]) as server:
        with Client(server.address) as client:
            assert client.echo(b"served") == b"served"
        assert stop(server.process) == 0
        assert server.complaints() == ""


def test_every_strategy_is_tried_by_an_interpreter_without_modules_that_no_echo_needs() -> None:
    command = [sys.executable, "-c", without(*OPTIONAL[:2]), "--list"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert [json.loads(line) for line in shown.stdout.splitlines()] == list_strategies()
    assert shown.stderr == ""


def test_a_limit_that_may_not_be_changed_makes_no_strategy_unavailable(
    new_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    new_file.write_text(MADE_UP)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    main(["--list"])
    reasons = {line["name"]: line["reason"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert reasons["made_up"] == ""


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=str)
def test_a_descriptor_that_does_not_listen_gets_one_clear_message(
    kind: socket.SocketKind, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX, kind) as sock, pytest.raises(SystemExit) as ending:
        main(["epoll_lt", "unix", "--listen-fd", str(os.dup(sock.fileno()))])
    assert ending.value.code == 2
    assert "is a socket that does not listen: call listen(2) first" in capsys.readouterr().err


SWITCHES_THE_LOCK_ON = """
import sys
from servers import iterative
from servers.__main__ import main
enabled = []
sys._is_gil_enabled = lambda: bool(enabled)
echo = iterative.echo
def importing(channel):
    enabled.append("an extension module that is not safe without it")
    echo(channel)
iterative.echo = importing
sys.exit(main(sys.argv[1:]))
"""


def test_a_server_tells_at_its_end_of_an_interpreter_lock_that_was_switched_on_while_it_served() -> None:
    which = next(case for case in cases() if str(case) == "iterative-tcp")
    with spawned(which, program=["-c", SWITCHES_THE_LOCK_ON]) as server:
        with Client(server.address) as client:
            assert client.echo(b"served") == b"served"
        assert stop(server.process) == 0
        ending = server.next_status()
        assert (ending["event"], ending["gil"]) == ("stopped", True)


@pytest.mark.parametrize(("told", "recorded"), [({"gil": True}, True), ({"gil": False}, False), ({}, False)])
def test_what_is_recorded_of_the_interpreter_lock_is_what_held_at_the_end(
    told: dict[str, bool], recorded: bool
) -> None:
    running = RunningServer(None, "", [], None, 0.0)  # type: ignore[arg-type]
    for fields in (
        {"event": "ready", "implementation": "CPython", "version": "3.14.0", "gil": False},
        {"event": "stopped", "refused": {}, **told},
    ):
        running.hear(Event(running.status, fields))
    assert running.gil is recorded


DEADLY = '''
"""Made-up strategies, some of whose packages are broken."""
import os, signal
from servers.contract import Strategy

def strategy(name, probe):
    return Strategy(name, "is made up", print, "blocking", probe=probe)

STRATEGIES = (
    strategy("for_another_cpu", lambda: os.kill(os.getpid(), signal.SIGILL)),
    strategy("between", lambda: None),
    strategy("broken", lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    strategy("leaves", lambda: os._exit(3)),
    strategy("hangs", lambda: signal.pause()),
)
'''


def test_a_strategy_whose_package_kills_the_process_that_tries_it_is_unavailable_and_hides_no_other(
    new_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.__main__.PROBE_PATIENCE_S", 1)
    new_file.write_text(DEADLY)
    assert main(["--list"]) == 0
    lines = {line["name"]: line["reason"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["for_another_cpu"] == (
        "trying it ended the process by SIGILL: a package that it needs was compiled for another CPU"
    )
    assert lines["between"] == ""
    assert lines["broken"] == "trying it ended the process by SIGSEGV"
    assert lines["leaves"] == "trying it ended the process"
    assert lines["hangs"] == "trying it took more than 1 s"
    assert lines["epoll_lt"] == ""


def test_a_file_that_can_not_be_imported_is_named_and_hides_no_other(
    new_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_file.write_text("import no_such_module_anywhere")
    assert main(["--list"]) == 0
    shown = capsys.readouterr()
    assert '"name": "epoll_lt"' in shown.out
    assert "servers/made_up.py can't be imported: No module named 'no_such_module_anywhere'" in shown.err


@pytest.mark.parametrize("name", INTERPRETERS)
def test_every_strategy_runs_on_every_interpreter_there_is(name: str) -> None:
    python = shutil.which(name)
    # A name may be there and not run: version managers put stand-ins on the path.
    if python is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"there is no {name} on the path")
    here = cases(python)
    assert {case.strategy for case in here} == {line["name"] for line in list_strategies()}
    for case in here:
        if not case.unavailable:
            with spawned(case, python) as server:
                with Client(server.address) as client:
                    assert client.echo(bytes(100_000)) == bytes(100_000)
                    client.half_close()
                    assert client.receive_to_end() == b""
                assert stop(server.process) == 0
                assert server.complaints() == ""
