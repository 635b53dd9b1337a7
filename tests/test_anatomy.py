"""The anatomy of an echo: strace's lines are read rightly, the known orders of calls are found, all of it is shown."""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import psutil
import pytest
from spawn import ROOT, eventually
from synthetic import manifest, record, write_run

import report
from bench import run as runs
from bench.anatomy import run, show, take, trace
from bench.anatomy.steps import Anatomy, Step, calls, lanes, meaning, order, read_anatomies, span, summed_up, user_us
from bench.anatomy.take import Moments, Tracer, dissect
from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.host import choose_cpus
from bench.processes import Guard, environment
from bench.record import StrategyInfo, read_manifest
from bench.say import WIDTH

S = 1_000_000_000
THREADS = """\
100  10.000000000 execve("/usr/bin/python3", ["python3"], 0x7ffd /* 9 vars */) = 0 <0.001000000>
100  10.100000000 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD, stack_size=0x7fff00},  <unfinished ...>
101  10.100200000 set_robust_list(0x7f05, 24 <unfinished ...>
100  10.100300000 <... clone3 resumed> => {parent_tid=[101]}, 88) = 101 <0.000300000>
101  10.100400000 <... set_robust_list resumed>) = 0 <0.000200000>
100  10.100500000 accept4(3<TCP:[127.0.0.1:43303]>,  <unfinished ...>
101  10.100600000 read(5<TCP:[127.0.0.1:43303->127.0.0.1:51934]>, "one echo"..., 65536) = 64 <0.899500000>
101  11.000200000 write(5<TCP:[127.0.0.1:43303->127.0.0.1:51934]>, "one echo"..., 64) = 64 <0.000050000>
101  11.000300000 read(5<TCP:[127.0.0.1:43303->127.0.0.1:51934]>,  <unfinished ...>
100  12.000000000 <... accept4 resumed>0x7fff56b278d0, [16], SOCK_CLOEXEC) = ? ERESTARTSYS (To be restarted) <1.8995>
100  12.000100000 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---
100  12.000200000 exit_group(0)     = ?
101  12.000300000 <... read resumed> <unfinished ...>) = ?
101  12.000400000 +++ exited with 0 +++
100  12.000500000 +++ exited with 0 +++
"""
ECHO = Moments(
    before_ns=10_700_000_000,
    sent_ns=11_000_000_000,
    written_ns=11_000_060_000,
    received_ns=11_000_260_000,
    end_ns=11_010_000_000,
    slept=True,
)
POLLS = """\
100  10.900000000 accept4(3<UNIX-STREAM:[7,"@iobench"]>, 0x7ff, [16], SOCK_CLOEXEC) = -1 EAGAIN (Try again) <0.00001>
100  10.900100000 read(5<UNIX-STREAM:[8->9,"@iobench"]>, 0x7ff, 65536) = -1 EAGAIN (Try again) <0.00001>
100  10.950000000 accept4(3<UNIX-STREAM:[7,"@iobench"]>, 0x7ff, [16], SOCK_CLOEXEC) = -1 EAGAIN (Try again) <0.00001>
100  10.950100000 read(5<UNIX-STREAM:[8->9,"@iobench"]>, 0x7ff, 65536) = -1 EAGAIN (Try again) <0.00001>
100  11.000100000 read(5<UNIX-STREAM:[8->9,"@iobench"]>, "one echo"..., 65536) = 64 <0.00001>
100  11.000200000 write(5<UNIX-STREAM:[8->9,"@iobench"]>, "one echo"..., 64) = 64 <0.00001>
100  11.000300000 read(5<UNIX-STREAM:[8->9,"@iobench"]>, 0x7ff, 65536) = -1 EAGAIN (Try again) <0.00001>
100  11.009000000 accept4(3<UNIX-STREAM:[7,"@iobench"]>,  <unfinished ...>
"""


def read(text: str) -> list[trace.Call]:
    return trace.read(text.splitlines())


# --- strace's lines


def test_a_call_that_another_thread_interrupted_is_put_together() -> None:
    (accept,) = [call for call in read(THREADS) if call.name == "accept4"]
    assert (accept.tid, accept.split) == (100, True)
    assert accept.start_ns == 10_100_500_000
    assert accept.end_ns == accept.start_ns + 1_899_500_000
    assert accept.arguments == "3<TCP listener>, 0x7fff56b278d0, [16], SOCK_CLOEXEC"
    assert accept.error == "ERESTARTSYS"


def test_calls_come_in_the_order_in_which_they_began_and_signals_and_exits_are_none() -> None:
    names = [call.name for call in read(THREADS)]
    assert names == [
        *("execve", "clone3", "set_robust_list", "accept4", "read", "write", "read", "exit_group"),
    ]


def test_a_call_that_never_returned_has_no_end() -> None:
    last = read(POLLS)[-1]
    assert (last.name, last.arguments, last.end_ns, last.split) == ("accept4", "3<UNIX listener>", None, True)


def test_a_call_that_was_killed_has_no_rest_of_strace_in_its_arguments() -> None:
    assert [call.arguments for call in read(THREADS) if call.name == "read"][-1] == "5<TCP>"


def test_microseconds_of_an_older_strace_and_its_other_column_of_pids_are_read() -> None:
    (call,) = read("[pid  4711] 1700000000.000042 getpid()     = 4711 <0.000007>\n")
    assert (call.tid, call.start_ns, call.end_ns) == (4711, 1_700_000_000_000_042_000, 1_700_000_000_000_049_000)
    assert (call.name, call.arguments, call.result) == ("getpid", "", "4711")


def test_whatever_is_no_call_is_passed_over() -> None:
    assert read("strace: Process 12 attached\n\n12  1.5 ????\n12 2.0 <... read resumed>) = 3 <0.1>\nnonsense") == []


@pytest.mark.parametrize(
    ("decorated", "kind"),
    [
        ("5<TCP:[127.0.0.1:80->127.0.0.1:90]>", "5<TCP>"),
        ("5<TCPv6:[[::1]:80->[::1]:90]>", "5<TCP>"),
        ("3<TCP:[127.0.0.1:80]>", "3<TCP listener>"),
        ('4<UNIX-STREAM:[123->456,"@iobench-1-0"]>', "4<UNIX>"),
        ("4<anon_inode:[eventpoll]>", "4<eventpoll>"),
        ("7<pipe:[19662232]>", "7<pipe>"),
        ("AT_FDCWD</tmp/x>", "AT_FDCWD<x>"),
        ("[{fd=6<TCP:[127.0.0.1:80]>, events=POLLIN}, {fd=5<anon_inode:[signalfd]>, events=POLLIN}], 2", ""),
    ],
)
def test_a_descriptor_is_shown_with_its_kind_alone(decorated: str, kind: str) -> None:
    poll = "[{fd=6<TCP listener>, events=POLLIN}, {fd=5<signalfd>, events=POLLIN}], 2"
    assert trace.plain(decorated) == (kind or poll)


def test_a_bracket_within_a_string_does_not_end_a_call() -> None:
    (call,) = read('1 1.0 write(5<pipe:[1]>, "a) = 3 <"..., 9) = 9 <0.000010>')
    assert (call.arguments, call.result) == ('5<pipe>, "a) = 3 <"..., 9', "9")


def test_threads_and_children_are_told_apart_by_how_they_were_cloned() -> None:
    found = read(
        "7 1.0 getpid() = 7 <0.1>\n"
        "7 2.0 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 8 <0.1>\n"
        "8 3.0 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 9 <0.1>\n"
        "7 4.0 vfork() = 10 <0.1>\n"
        "8 5.0 getpid() = 8 <0.1>\n9 5.0 getpid() = 8 <0.1>\n10 5.0 getpid() = 10 <0.1>\n"
    )
    assert trace.labels(found, [7, 8, 9, 10]) == {7: "parent", 8: "child 1", 9: "child 1, thread 1", 10: "child 2"}
    assert trace.labels(found, [7]) == {7: "main thread"}


# --- one echo of a trace


def test_the_echo_begins_with_the_call_that_the_server_slept_in_and_ends_with_its_next_sleep() -> None:
    found = dissect("thread_per_connection", "tcp", read(THREADS), ECHO)
    assert lanes(found) == ["thread 1"]
    assert order(found, "thread 1") == "read returns → write → read sleeps"
    assert found.asleep == {"main thread": "accept4"}
    assert found.woke_us == pytest.approx(100.0)
    assert (found.send_took_us, found.received_us) == (60.0, 260.0)
    assert [step.at_us for step in found.steps] == [-899_400.0, 200.0, 300.0]
    assert user_us(found.steps) == [None, pytest.approx(100.0), pytest.approx(50.0)]
    assert summed_up(found) == "2 system calls: read, write"


def test_what_a_call_was_given_after_the_echo_is_not_told() -> None:
    epoll = "epoll_wait(4<anon_inode:[eventpoll]>, [{events=EPOLLIN, data={u32=5}}], 3, -1) = 1 <5.0>"
    found = dissect("epoll_lt", "tcp", read(f"100 11.000300000 {epoll}"), ECHO)
    assert [(step.arguments, step.result, step.took_us) for step in found.steps] == [("4<eventpoll>, …", "", None)]


def test_a_server_that_never_sleeps_has_its_fruitless_calls_counted_in_one_step() -> None:
    found = dissect("nonblocking_polling", "unix", read(POLLS), ECHO._replace(slept=False))
    assert order(found, "main thread") == "accept4, read = EAGAIN, 4 times → read → write → read = EAGAIN"
    assert found.woke_us is None
    assert meaning(found.steps[0]) == "asks again and again: nothing there, no sleep"
    assert "never sleeps" in summed_up(found)
    low, high = span(found)
    assert -100 < low < 0 < found.received_us < high < 1000


def test_a_very_long_anatomy_is_cut_and_says_so() -> None:
    lines = [f"100 11.0001{number:05d} getpid() = 100 <0.000000001>" for number in range(take.MAX_STEPS + 7)]
    found = dissect("any", "tcp", read("\n".join(lines)), ECHO)
    assert (len(found.steps), found.left_out) == (take.MAX_STEPS, 7)


@pytest.mark.parametrize(
    ("name", "arguments", "result", "error", "slept", "said"),
    [
        ("read", "5<TCP>, ...", "64", "", True, "slept until bytes arrive, takes the bytes"),
        ("read", "5<TCP>, ...", "-1 EAGAIN", "EAGAIN", False, "EAGAIN: nothing more there"),
        ("read", "5<TCP>, ...", "0", "", False, "end of file: the client has closed"),
        ("read", "4<signalfd>, ...", "128", "", False, "takes the queued signals"),
        ("epoll_wait", "4<eventpoll>, ...", "1", "", True, "slept until something is ready"),
        ("epoll_wait", "4<eventpoll>, ...", "0", "", False, "looks: nothing is ready, and it does not wait"),
        ("read", "4<signalfd>, ...", "128", "", True, "slept until a signal comes, takes the queued signals"),
        ("io_uring_enter", "4, 2, 1, ...", "2", "", True, "submitted 2, slept until an operation has completed"),
        ("clone3", "{flags=CLONE_VM|CLONE_THREAD}, 88", "101", "", False, "starts a thread"),
        ("clone", "child_stack=NULL, flags=SIGCHLD", "101", "", False, "starts a process"),
        ("epoll_ctl", "4, EPOLL_CTL_MOD, 5, EPOLLIN|EPOLLONESHOT", "0", "", False, "arms the descriptor again"),
        ("futex", "0x7f, FUTEX_WAKE_PRIVATE, 1", "1", "", False, "wakes another thread"),
        ("futex", "0x7f, FUTEX_WAKE_PRIVATE, 1", "0", "", False, "had nobody to wake"),
        ("pread64", "7<TCP>, ...", "-1 ESPIPE", "ESPIPE", False, "ESPIPE: no place to seek to; tries it without one"),
        ("mremap", "0x7f, ...", "0x7f", "", False, "makes a piece of memory larger or smaller"),
        ("unheard_of", "", "0", "", False, ""),
    ],
)
def test_each_step_says_what_it_means(
    name: str, arguments: str, result: str, error: str, slept: bool, said: str
) -> None:
    step = Step(who="a", name=name, arguments=arguments, result=result, at_us=1, took_us=1, error=error, slept=slept)
    assert meaning(step) == said


# --- with the real strace


@pytest.fixture(scope="module")
def tracer() -> Tracer:
    try:
        return take.find_tracer()
    except BadInputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def known() -> dict[str, StrategyInfo]:
    return {info.name: info for info in list_strategies()[0]}


@pytest.fixture
def guard() -> Iterator[Guard]:
    watching = Guard()
    yield watching
    watching.close()


@pytest.mark.parametrize(
    ("strategy", "transport", "who", "calls_in_order"),
    [
        ("thread_per_connection", "tcp", "thread 1", "read returns → write → read sleeps"),
        ("epoll_lt", "tcp", "main thread", "epoll_wait returns → read → write → epoll_wait sleeps"),
        ("poll", "pipe", "main thread", "poll returns → read → write → poll sleeps"),
        ("process_per_connection", "unix", "child 1", "read returns → write → read sleeps"),
    ],
)
def test_an_echo_takes_the_calls_that_are_known_of_its_strategy(
    strategy: str,
    transport: str,
    who: str,
    calls_in_order: str,
    tracer: Tracer,
    known: dict[str, StrategyInfo],
    guard: Guard,
) -> None:
    before = descendants()
    found = take.take(known[strategy], transport, tracer, choose_cpus(), guard)
    assert (found.status, found.reason) == ("ok", "")
    assert order(found, who) == calls_in_order
    assert found.woke_us is not None and found.woke_us > 0
    assert found.received_us > found.send_took_us > 0
    assert eventually(lambda: descendants() <= before), "it left processes behind"


def test_a_server_that_polls_is_seen_to_ask_in_vain(
    tracer: Tracer, known: dict[str, StrategyInfo], guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "ASLEEP_WITHIN_S", 0.1)
    found = take.take(known["nonblocking_polling"], "tcp", tracer, choose_cpus(), guard)
    assert (found.status, found.woke_us) == ("ok", None)
    assert found.steps[0].times > 1
    assert [step.name for step in found.steps if not step.error and step.times == 1][:2] == ["read", "write"]


def test_a_server_that_does_not_start_is_a_failure_with_its_reason(tracer: Tracer, guard: Guard) -> None:
    broken = StrategyInfo(
        name="gone",
        module="gone",
        summary="",
        model="blocking",
        transports=["tcp"],
        concurrent=True,
        available=True,
        reason="",
        doc="",
    )
    found = take.take(broken, "tcp", tracer, choose_cpus(), guard)
    assert found.status == "failed"
    assert "the server ended at its start" in found.reason


def descendants() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


# --- the command


def iobench(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "anatomy", *arguments],
        cwd=ROOT,
        env={**environment(), "COLUMNS": "80", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_prints_draws_and_keeps_what_a_later_report_shows(tracer: Tracer, tmp_path: Path) -> None:
    svg, results = tmp_path / "echo.svg", tmp_path / "results"
    ended = iobench("epoll_lt", "iterative", "--svg", str(svg), "--results", str(results))
    assert (ended.returncode, ended.stderr) == (0, "[1/2] epoll_lt\n[2/2] iterative\n")
    lines = ended.stdout.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= WIDTH
    for said in ("client: sends the message", "server: wakes up", "client: has the whole echo", "gives the echo"):
        assert said in ended.stdout
    assert "far longer than without" in ended.stdout.replace("\n", " ")
    assert svg.read_text().startswith("<svg ")
    kept = json.loads((results / "anatomy.json").read_text())
    assert [one["strategy"] for one in kept["anatomies"]] == ["epoll_lt", "iterative"]
    assert kept["tracer"].startswith("strace")
    assert runs.newest_anatomy(results) == kept
    assert sorted(path.name for path in results.iterdir()) == ["anatomy.json"]


def test_ctrl_c_ends_it_and_what_it_started(tracer: Tracer, tmp_path: Path) -> None:
    arguments = ["epoll_lt", "nonblocking_polling", "poll", "select", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "bench", "anatomy", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        assert [process.stderr.readline() for _ in range(2)] == ["[1/4] epoll_lt\n", "[2/4] nonblocking_polling\n"]
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints.splitlines()[-1]) == (130, "Interrupted; nothing is written.")
    assert list(tmp_path.iterdir()) == []
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_an_unknown_strategy_is_answered_with_the_one_that_was_meant() -> None:
    ended = iobench("epol_lt")
    assert ended.returncode == 2
    assert "did you mean 'epoll_lt'?" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["epoll_lt", "ipx"], "--transport takes tcp, unix, pipe"),
        (["asyncio_sock", "pipe"], "it does not serve pipe"),
    ],
)
def test_bad_input_is_answered_with_what_to_do(arguments: list[str], said: str) -> None:
    strategy, transport = arguments
    with pytest.raises(BadInputError) as raised:
        run.anatomy([strategy], transport)
    assert said in f"{raised.value} {raised.value.next_step}"


def test_without_strace_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BadInputError, match="not available: strace is not installed") as raised:
        take.find_tracer()
    assert "apt install strace" in raised.value.next_step


def test_where_there_is_no_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(BadInputError, match="Linux's alone"):
        take.find_tracer()


def test_where_tracing_is_not_allowed_it_says_so_with_stracs_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing = tmp_path / "strace"
    refusing.write_text("#!/bin/sh\necho 'strace: ptrace(PTRACE_TRACEME): Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(refusing))
    with pytest.raises(BadInputError, match="Operation not permitted") as raised:
        take.find_tracer()
    assert "SYS_PTRACE" in raised.value.next_step


def test_an_older_strace_is_asked_for_microseconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "strace"
    old.write_text('#!/bin/sh\ncase "$*" in *--*) echo "unrecognized option" >&2; exit 1;; esac\n')
    old.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(old))
    assert take.find_tracer().command[-2:] == ["-ttt", "-T"]


# --- what is shown


def several() -> list[Anatomy]:
    wide = Step(
        who="child 1, thread 1", name="x" * 60, arguments="y" * 160, result="0x" + "f" * 40, at_us=5, took_us=2.5
    )
    return [
        dissect("thread_per_connection", "tcp", read(THREADS), ECHO),
        dissect("nonblocking_polling", "unix", read(POLLS), ECHO._replace(slept=False)),
        Anatomy(strategy="wide", transport="tcp", message_bytes=64, received_us=9e6, end_us=9e6, steps=[wide, wide]),
        Anatomy(strategy="no[/]where", transport="tcp", message_bytes=0, status="unavailable", reason="[b]not here"),
        Anatomy(strategy="broken", transport="tcp", message_bytes=64, status="failed", reason="no echo within 5 s"),
    ]


def test_the_terminal_shows_no_line_wider_than_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for one in several():
        show.anatomy(one)
    show.legend("strace 6.1")
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= WIDTH
    assert "read(5<TCP>" in shown
    assert "EAGAIN, 4 times" in shown
    assert "no[/]where" in shown and "[b]not here" in shown


def test_the_steps_are_numbered_and_the_client_stands_among_them(capsys: pytest.CaptureFixture[str]) -> None:
    show.anatomy(several()[0])
    shown = capsys.readouterr().out
    places = [
        shown.index(said)
        for said in ("until bytes arrive", "sends", "wakes up", "write(", "whole echo", "sleeps until")
    ]
    assert places == sorted(places)
    assert " 1  before" in shown


def in_report(folder: Path, anatomies: Sequence[Anatomy] | None, **changes: object) -> tuple[str, str]:
    values = None
    if anatomies is not None:
        values = {"anatomies": msgspec.to_builtins(anatomies), "tracer": "strace 6.1", **changes}
    records = [record("epoll_lt"), record("poll")]
    path = report.write(write_run(folder, records, manifest(["epoll_lt", "poll"], anatomy=values)))
    return path.read_text(), path.with_suffix(".md").read_text()


def test_the_report_shows_the_strategies_side_by_side(tmp_path: Path) -> None:
    html, markdown = in_report(
        tmp_path, several(), created="2026-01-02T03:04:05Z", host={"system": "Linux", "kernel": "6.18"}
    )
    section = html[html.index('<section id="anatomy"') : html.index('<section id="caveats"')]
    assert "read returns → write → read sleeps" in section
    assert "on Linux 6.18, 2026-01-02 03:04 UTC" in section
    assert "[b]not here" in section
    assert section.count("<svg ") == 1
    assert (tmp_path / "anatomy.svg").exists() and (tmp_path / "anatomy.png").exists()
    assert '<a href="#anatomy">' in html
    assert "- `thread_per_connection`: 2 system calls: read, write" in markdown


def test_a_report_without_anatomies_has_no_section_for_them(tmp_path: Path) -> None:
    html, markdown = in_report(tmp_path, None)
    assert "#anatomy" not in html
    assert "Anatomy" not in markdown


def test_a_run_takes_the_newest_anatomy_with_it(tmp_path: Path) -> None:
    assert runs.newest_anatomy(tmp_path) is None
    (tmp_path / "anatomy.json").write_text('{"anatomies": [], "schema": 1}')
    folder = write_run(tmp_path / "run", [], manifest([], anatomy=runs.newest_anatomy(tmp_path)))
    assert read_manifest(folder).anatomy == {"anatomies": [], "schema": 1}


def test_anatomies_read_back_are_what_was_written() -> None:
    found = several()
    assert read_anatomies({"anatomies": msgspec.to_builtins(found)}) == found
    assert [calls(one) for one in found[:2]] == [2, 3]
    assert run.drawn(found).startswith(b"<svg ")
    assert run.drawn([]).startswith(b"<svg ")
