"""The pytest plugin in suites of other people: fixtures, verdicts, and what it costs those who don't use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
import synthetic
from spawn import ROOT

from bench import lock
from bench.load import Measured
from bench.lock import Measuring
from bench.processes import environment
from bench.pytest_plugin import _told
from bench.record import Machine

SERVER = """
import asyncio, threading
import pytest

class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write({answer})

@pytest.fixture
def my_server():
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield "tcp:127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
"""


def of_ours() -> dict[str, str]:
    """An environment without what pytest tells its own workers: pytest-benchmark does nothing under xdist."""
    return {name: value for name, value in environment().items() if not name.startswith("PYTEST_")}


def suite(folder: Path, text: str, *options: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a suite of one file in a folder of its own."""
    (folder / "test_theirs.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    loaded = ["-p", "no:iobench", "-p", "iobench_pytest"] if plugin and not installed() else []
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *loaded, *options],
        cwd=folder,
        env=of_ours(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def installed() -> bool:
    """Whether pytest finds the plugin by itself."""
    from importlib.metadata import entry_points  # noqa: PLC0415

    return any(point.value == "iobench_pytest" for point in entry_points(group="pytest11"))


def test_a_suite_puts_verified_load_on_a_server_of_its_own(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        SERVER.format(answer="data")
        + """
def test_it(my_server, load):
    found = load(my_server, connections=4, duration_s=0.3).check()
    assert found.rate_hz > 100
    assert found.p99_us >= found.p50_us > 0
    planned = load(my_server, rate_hz=500, duration_s=0.3).check()
    assert 100 <= planned.completed <= 200
""",
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_server_that_changes_a_byte_fails_the_check_with_the_reason(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        SERVER.format(answer="bytes([data[0] ^ 1]) + data[1:]")
        + "\ndef test_it(my_server, load):\n    load(my_server, duration_s=0.2).check()\n",
    )
    assert said.returncode == 1
    assert "corrupt" in said.stdout


def test_a_load_generator_that_broke_down_in_one_test_is_replaced_in_the_next(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        SERVER.format(answer="data")
        + """
import os, signal

def test_it_dies(my_server, load, _iobench_pool):
    os.kill(_iobench_pool.worker().child.pid, signal.SIGKILL)
    assert "the load generator died" in load(my_server, duration_s=0.2).faults[0]

def test_there_is_another_one(my_server, load):
    assert load(my_server, duration_s=0.2).check().completed > 10
""",
    )
    assert "2 passed" in said.stdout, said.stdout + said.stderr


def test_nobody_at_an_address_is_a_fault_and_no_address_a_failure(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        """
def test_nobody(load):
    assert "no server accepts connections" in load("tcp:127.0.0.1:1").faults[0]
def test_nonsense(load):
    load("nonsense")
""",
    )
    assert said.returncode == 1
    assert "1 failed, 1 passed" in said.stdout
    assert "'nonsense' is no address" in said.stdout


def test_echo_servers_are_started_for_a_test_and_end_with_it(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        """
import os, pytest
pids = []

@pytest.mark.parametrize("transport", ["tcp", "unix", "pipe"])
def test_it(echo_server, load, transport):
    server = echo_server("epoll_lt", transport)
    pids.append(server.pid)
    with server.dial() as connection:
        assert connection.round_trip(b"x" * 100_000) == b"x" * 100_000
    assert load(server, duration_s=0.2).check().completed > 10

def test_they_are_gone():
    assert len(pids) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

def test_unknown(echo_server):
    echo_server("epol_lt")
""",
    )
    assert "4 passed" in said.stdout, said.stdout
    assert "did you mean 'epoll_lt'" in said.stdout


def test_a_server_that_closes_early_is_told_and_does_not_hang(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        """
import os, pytest
from bench.pytest_plugin import Connection

def test_it():
    there, here = os.pipe()
    back, their_back = os.pipe()
    os.write(their_back, b"ab")
    os.close(their_back)
    with Connection(back, here) as connection, pytest.raises(ConnectionError, match="2 bytes"):
        connection.round_trip(b"abcd")
    connection.close()
    os.close(there)
""",
    )
    assert said.returncode == 0, said.stdout


def test_who_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        """
import sys
def test_nothing_heavy_is_imported():
    heavy = {"numpy", "numba", "pandas", "matplotlib", "scipy", "msgspec", "psutil"}
    assert not (heavy | {"bench", "clients", "servers"}) & set(sys.modules)
""",
        "-W",
        "error",
        "-p",
        "no:hypothesispytest",
    )
    assert said.returncode == 0, said.stdout


THEIRS = "raise RuntimeError('somebody imports a package of mine that is none of his business')"


def with_theirs(folder: Path, text: str, package: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a suite that has a package of its own of a name of ours, with the plugin found as pip would install it."""
    for name in (package, "site/iobench-0.0.0.dist-info"):
        (folder / name).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(THEIRS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["pytest11"].items())
    about = folder / "site" / "iobench-0.0.0.dist-info"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: iobench\nVersion: 0.0.0\n")
    (about / "entry_points.txt").write_text(f"[pytest11]\n{entry}")
    (folder / "test_theirs.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    env = of_ours() | {"PYTHONPATH": os.pathsep.join([str(folder), str(folder / "site"), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_a_suite_with_a_package_bench_of_its_own_runs_as_if_iobench_were_not_installed(tmp_path: Path) -> None:
    text = "def test_it(pytestconfig):\n    assert pytestconfig.pluginmanager.has_plugin('iobench')\n"
    said = with_theirs(tmp_path, text, "bench")
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("package", ["bench", "servers"])
def test_a_fixture_of_a_suite_with_a_package_of_our_name_says_that_it_stands_in_the_way(
    tmp_path: Path, package: str
) -> None:
    said = with_theirs(tmp_path, "def test_it(load):\n    load('tcp:127.0.0.1:1')\n", package)
    assert said.returncode == 1, said.stdout + said.stderr
    assert f"iobench's fixtures need its package {package}, and {tmp_path / package} comes before it" in said.stdout
    assert "Traceback" not in said.stdout + said.stderr


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    said = suite(
        tmp_path,
        "import pytest\ndef test_it(request):\n    with pytest.raises(pytest.FixtureLookupError):\n"
        "        request.getfixturevalue('echo_server')\n",
        *("-p", "no:iobench"),
        plugin=False,
    )
    assert said.returncode == 0, said.stdout


def round_trips(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The benchmark module that comes with iobench, one case of it, a few rounds."""
    few = ["--benchmark-min-rounds=5", "--benchmark-max-time=0.05", "--benchmark-disable-gc"]
    loaded = [] if installed() else ["-p", "no:iobench", "-p", "iobench_pytest"]
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "benchmarks/test_round_trips.py", "-k", "epoll_lt-tcp"),
            *("-p", "no:cacheprovider", f"--benchmark-storage={tmp_path / 'storage'}"),
            *few,
            *loaded,
            *options,
        ],
        cwd=ROOT,
        env=of_ours(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_benchmarks_are_saved_compared_and_failed_by_pytest_benchmark(tmp_path: Path) -> None:
    said = round_trips(tmp_path, "--benchmark-autosave")
    assert said.returncode == 0, said.stdout + said.stderr
    (saved,) = (tmp_path / "storage").rglob("*.json")
    (benchmark,) = json.loads(saved.read_text())["benchmarks"]
    assert benchmark["name"] == "test_round_trip[epoll_lt-tcp]"
    assert (benchmark["group"], benchmark["extra_info"]["model"]) == ("tcp", "multiplexing")
    assert round_trips(tmp_path, "--benchmark-compare", "--benchmark-compare-fail=median:100000%").returncode == 0
    values = json.loads(saved.read_text())
    values["benchmarks"][0]["stats"]["median"] /= 1000
    saved.write_text(json.dumps(values))
    said = round_trips(tmp_path, "--benchmark-compare", "--benchmark-compare-fail=median:100%")
    assert said.returncode != 0
    assert "Performance has regressed" in said.stdout + said.stderr


@pytest.mark.parametrize("part", ["echo_server", "load"])
def test_the_documentation_shows_each_fixture(part: str) -> None:
    assert f"def test_{'round_trip' if part == 'echo_server' else 'my_server'}({part}" in (
        ROOT / "docs" / "pytest.md"
    ).read_text(encoding="utf-8")


# --- others of its kind


def test_what_another_load_on_the_same_cpu_took_is_a_fault_and_what_somebody_else_took_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As under pytest-xdist with more workers than CPUs."""
    other = Measuring(4711, "pytest", "there", "2026-01-02 03:04:05 UTC", (0,))
    waited = synthetic.load(1000, 1, cpu_user_ns=1, cpu_system_ns=1)
    seen = Machine(
        server_idle_ns=0, server_steal_ns=0, load_cpus=[0], load_idle_ns=0, load_steal_ns=0, load_wait_ns=0.4e9
    )
    found = _told(Measured(waited, 0, machine=seen), [0])
    assert found.disturbed == "others had a CPU that was waited for during 40 % of a window"
    assert found.faults == []
    monkeypatch.setattr(lock, "rivals", lambda cpus: [other] if 0 in cpus else [])
    assert _told(Measured(waited, 0, machine=seen), [0]).faults == [f"{found.disturbed}: {other}"]
    calm = msgspec.structs.replace(seen, load_wait_ns=0.0)
    assert _told(Measured(waited, 0, machine=calm), [0]).faults == []


def test_workers_of_pytest_xdist_know_each_other_and_share_no_cpu_while_there_are_others(tmp_path: Path) -> None:
    """Each of two waits until both have their CPUs; the second one's choice leaves out those of the first."""
    said = suite(
        tmp_path,
        """
import pathlib, time
import pytest
from bench import host

@pytest.fixture(scope="session", autouse=True)
def eight_cores(request):
    patch = pytest.MonkeyPatch()
    patch.setattr(host, "physical_cores", lambda cpus: [[cpu] for cpu in range(8)])
    patch.setattr(host, "on_one_node", lambda cores: (list(cores), []))
    yield
    patch.undo()

@pytest.mark.parametrize("number", [0, 1])
def test_it(number, _iobench_cpus):
    mine = sorted({*_iobench_cpus.server, *_iobench_cpus.load})
    here = pathlib.Path(__file__).parent
    (here / f"{number}.cpus").write_text(" ".join(map(str, mine)))
    deadline = time.monotonic() + 60
    while len(list(here.glob("*.cpus"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    one, other = ({*path.read_text().split()} for path in here.glob("*.cpus"))
    assert len(one) == len(other) == 2
    assert one.isdisjoint(other)
""",
        *("-n", "2"),
    )
    assert "2 passed" in said.stdout, said.stdout + said.stderr
