"""One measurement on a CPU at a time: the next one waits, says for whom, and takes other CPUs where it may choose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from spawn import ROOT

from bench import lock
from bench.events import Interrupted, signals_interrupt_waits
from bench.host import CpuLayout, choose_cpus
from bench.lock import alone_on, beside_others, rivals

HOLD = "import sys; from pathlib import Path; from bench.lock import alone_on\n"
HOLD += "with alone_on(list(map(int, sys.argv[2:])), Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
CPU = min(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of those who measure that nobody else has; nobody is waited for long."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(lock, "LOOK_S", 0.01)
    return tmp_path / f"iobench-{os.getuid()}"


@contextmanager
def measuring(cpus: Sequence[int], where: str = "elsewhere") -> Iterator[subprocess.Popen[bytes]]:
    """Another process of ours measures on these CPUs."""
    argv = [sys.executable, "-c", HOLD, where, *map(str, cpus)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process
        process.kill()


def test_a_second_measurement_on_a_cpu_waits_for_the_first_and_says_who_that_is_where_and_since_when() -> None:
    said: list[str] = []
    with measuring([CPU, 7777], "results/quick-1") as first:

        def tell(text: str) -> None:
            said.append(text)
            first.kill()

        with alone_on([CPU], Path("results/quick-2"), tell):
            assert rivals([CPU]) == []
    (text,) = said
    assert text.startswith("Waiting, for two on the same CPUs would take from each other: ")
    assert f"process {first.pid} has been measuring since 2" in text
    assert "in results/quick-1)" in text


def test_a_measurement_on_other_cpus_is_not_waited_for() -> None:
    with measuring([7777]), alone_on([CPU], Path("here"), pytest.fail):
        pass


def test_who_waits_gives_up_at_ctrl_c() -> None:
    def interrupt(text: str) -> None:
        os.kill(os.getpid(), 2)

    with (
        measuring([CPU]),
        signals_interrupt_waits(),
        pytest.raises(Interrupted),
        alone_on([CPU], Path("here"), interrupt),
    ):
        pytest.fail("it must not measure")


def test_what_a_killed_one_left_hinders_nobody_and_is_removed(registry: Path) -> None:
    with measuring([CPU]) as first:
        assert len(list(registry.iterdir())) == 1
        first.kill()
        first.wait()
        with alone_on([CPU], Path("here"), pytest.fail):
            (own,) = registry.iterdir()
            assert own.name.startswith(f"{os.getpid()}-")
    assert list(registry.iterdir()) == []


def test_a_process_does_not_wait_for_itself() -> None:
    with alone_on([CPU], Path("here"), pytest.fail), alone_on([CPU], Path("here"), pytest.fail):
        assert rivals([CPU]) == []


def test_a_process_does_not_wait_for_who_has_started_it_and_waits_for_its_end() -> None:
    with alone_on([CPU], Path("here"), pytest.fail), measuring([CPU]):
        pass


def test_who_may_choose_takes_cores_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = choose_cpus()
    chosen: list[set[int]] = []

    def choose(but: set[int]) -> CpuLayout:
        chosen.append({*but})
        return CpuLayout([7001], [7002], [7003], shared=False)

    monkeypatch.setattr(lock.host, "choose_cpus", choose)
    with measuring([*taken.server, *taken.load]), beside_others(Path("here")) as layout:
        assert chosen == [{*taken.server, *taken.load}]
        assert layout.load == [7002]
        assert [other.cpus for other in rivals(taken.load)] == [tuple(sorted({*taken.server, *taken.load}))]
        assert rivals([7002]) == []


@pytest.mark.parametrize("broken", ["a file", "unwritable", "somebody else's"])
def test_where_there_can_be_no_list_of_them_nobody_is_waited_for(
    broken: str, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "a file":
        registry.write_text("")
    elif broken == "unwritable":
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/self")
    else:
        registry.mkdir()
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        (registry.parent / "iobench-4711").mkdir()
    with alone_on([CPU], Path("here"), pytest.fail):
        assert rivals([CPU]) == []


def test_what_is_no_entry_in_the_list_is_passed_over(registry: Path) -> None:
    with measuring([CPU]) as first:
        (registry / "odd.json").write_text("no JSON")
        assert [other.pid for other in rivals([CPU])] == [first.pid]
