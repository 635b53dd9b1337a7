"""A pair: who has a turn when, which pairs count, what a side comes to; and one of real servers."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psutil
import pytest
from spawn import ROOT, eventually
from synthetic import histogram, load
from synthetic_gate import TRIAL, a_case

from bench import host
from bench.gate import measure
from bench.gate.measure import Rig, measure_pair, rigged
from bench.gate.model import Case, Pair, Side
from bench.gate.sides import Asked, Source, sources
from bench.load import LoadFailedError, Measured, Turned
from bench.observation import Seen
from bench.processes import Ending
from bench.record import Load, Machine, Trial
from bench.server import RunningServer, ServerFailedError
from bench.turn_length import length
from bench.turns import Length, Taken
from bench.turns import Side as Turns

FOREIGN = ROOT / "tests" / "foreign_server.py"
SECOND_NS = 10**9
CPU_NS = 6 * 10**8
AT_START_BYTES, RSS_BYTES = 10_000_000.0, 10_160_000.0


def seen(**machine: float) -> Seen:
    """What the probes have of a second: 0.6 s of CPU time on an otherwise idle machine."""
    metrics = {"cpu_ns": CPU_NS, "thread_demand_ns": CPU_NS, "threads": 1, "rss_bytes": RSS_BYTES}
    idle: dict[str, Any] = {
        "server_idle_ns": SECOND_NS - CPU_NS,
        "server_steal_ns": 0.0,
        "load_cpus": [0],
        "load_idle_ns": SECOND_NS / 4,
        "load_steal_ns": 0.0,
        "load_wait_ns": 0.0,
    }
    return Seen(0, SECOND_NS, metrics, {}, Machine(**(idle | machine)))


TURNS = length(TRIAL, measure.FULL_LOAD_S, even=True).turns
TURNS_AT_A_RATE = length(
    msgspec.structs.replace(TRIAL, workload="open", planned_hz=1000.0), measure.FIXED_RATE_S, even=True
).turns


@dataclass
class World:
    """Stands in for bench.turns, with sides called by their initials. What is set differs from what goes well."""

    completed: dict[str, int] = field(default_factory=dict)
    errors: dict[str, dict[str, int]] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    disturbed: dict[str, list[str]] = field(default_factory=dict)  # turn by turn, over all loads
    busy: dict[str, float] = field(default_factory=dict)  # the load generator
    breaks: str = ""  # in its first turn
    log: list[str] = field(default_factory=list)  # a capital: its connections were opened
    lengths: list[Length] = field(default_factory=list)
    loads: list[Trial] = field(default_factory=list)

    def enter(self, side: Turns) -> None:
        try:
            side.server = side.start()
        except ServerFailedError as error:
            side.faults.append(str(error))
        side.at_start_bytes = AT_START_BYTES

    def open_load(self, side: Turns, worker: object, planned_hz: float, trial: Trial) -> None:
        assert planned_hz == trial.planned_hz
        self.log.append(who(side).upper())
        self.loads.append(trial)
        side.taken, side.measured = [], None

    def take_turn(self, side: Turns, worker: object, turn: Length) -> None:
        name = who(side)
        self.log.append(name)
        self.lengths.append(turn)
        if name == self.breaks:
            side.faults.append("it broke")
            return
        reasons = self.disturbed.get(name, [])
        side.taken.append(Taken(Turned(0, 1, 1, 1, 1), seen(), reasons.pop(0) if reasons else ""))

    def close_load(self, side: Turns) -> None:
        if not side.faults:
            side.seen = self.seen.get(who(side), seen())
            side.measured = Measured(self._load(who(side), self.loads[-1]), 0)

    def leave(self, side: Turns, connections: int) -> Ending | None:
        return Ending(0, killed=False, stderr_tail="") if side.server else None

    def _load(self, name: str, trial: Trial) -> Load:
        completed = self.completed.get(name, 100_000)
        times = histogram(50_000, 1000) if trial.planned_hz and completed else ""
        errors, busy = self.errors.get(name, {}), [self.busy.get(name, 0.3)]
        return load(100_000, 16, completed=completed, response_hdr=times, errors=errors, worker_busy=busy)

    @property
    def order(self) -> str:
        return "".join(self.log)


def who(side: Turns) -> str:
    assert side.server is not None
    return side.server.implementation


def source(role: Any, why_not: str = "") -> Source:
    def start(*_: object) -> RunningServer:
        if why_not:
            raise ServerFailedError(why_not)
        return RunningServer(None, "tcp:127.0.0.1:1", [1], None, 0.0, implementation=role[0])  # type: ignore[arg-type]

    return Source(Side(role=role, label=role), {}, start)


class Pool:
    """Has a load generator, unless there is a reason why not."""

    def __init__(self, why_not: str = "") -> None:
        self.why_not = why_not

    def worker(self) -> None:
        if self.why_not:
            raise LoadFailedError(self.why_not, fatal=True)


Pairing = Callable[..., Pair]


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pairing:
    """Measures a pair in a world that is made up."""

    def measured(
        world: World,
        *,
        first: Any = "base",
        offered_hz: float = 0.0,
        connections: int = 16,
        head: Source | None = None,
        pool: Pool | None = None,
    ) -> Pair:
        for name in ("enter", "open_load", "take_turn", "close_load", "leave"):
            monkeypatch.setattr(measure, name, getattr(world, name))
        rig = Rig(None, host.CpuLayout([1], [0], [0], shared=False), pool or Pool())  # type: ignore[arg-type]
        case = Case(name="a", trial=msgspec.structs.replace(TRIAL, connections=connections))
        about = {"first": first, "offered_hz": offered_hz, "number": 1, "attempt": 1}
        return measure_pair(rig, case, source("base"), head or source("head"), **about)

    return measured


# --- turns


def test_each_side_is_first_as_often_as_second_so_that_a_drift_meets_both_alike(pair: Pairing) -> None:
    world = World()
    pair(world)
    assert world.order == "BH" + "bhhb" * (TURNS // 2)
    world = World()
    pair(world, first="head")
    assert world.order == "HB" + "hbbh" * (TURNS // 2)


def test_connections_are_opened_once_for_each_load_and_not_for_each_turn(pair: Pairing) -> None:
    world = World()
    pair(world, offered_hz=1000.0)
    assert world.order == "BH" + "bhhb" * (TURNS // 2) + "BH" + "bhhb" * (TURNS_AT_A_RATE // 2)
    assert [(trial.workload, trial.planned_hz) for trial in world.loads] == [("closed", 0.0)] * 2 + [
        ("open", 1000.0)
    ] * 2


def test_a_side_that_is_broken_has_no_more_turns_and_the_other_goes_on(pair: Pairing) -> None:
    world = World(breaks="h")
    found = pair(world)
    assert world.order == "BH" + "bh" + "b" * (TURNS - 1)
    assert (found.base.failed, found.head.failed) == ("", "it broke")
    assert found.base.metrics["rate_hz"] == 100_000


def test_a_side_that_failed_at_full_load_has_no_fixed_rate(pair: Pairing) -> None:
    world = World(errors={"h": {"corrupt": 3}})
    found = pair(world, offered_hz=1000.0)
    assert world.order.endswith("B" + "b" * TURNS_AT_A_RATE)
    assert found.head.failed == "errors: 3 corrupt"


@pytest.mark.parametrize("connections", [1, 16, 500, 10_000])
def test_there_is_an_even_number_of_turns_and_none_is_too_short_for_its_connections(
    pair: Pairing, connections: int
) -> None:
    world = World()
    pair(world, connections=connections, offered_hz=1000.0)
    assert len(world.lengths) % 4 == 0
    for turn in world.lengths:
        assert turn.duration_s >= measure.shortest_s(msgspec.structs.replace(TRIAL, connections=connections))


def test_only_the_first_window_of_a_load_comes_after_the_warm_up_of_a_new_process(pair: Pairing) -> None:
    world = World()
    pair(world, offered_hz=1000.0)
    warmups_s = [turn.warmup_s for turn in world.lengths]
    of_full_load, at_a_rate = warmups_s[: 2 * TURNS], warmups_s[2 * TURNS :]
    for first, *others in (of_full_load[::2], of_full_load[1::2], at_a_rate[::2], at_a_rate[1::2]):
        assert first == TRIAL.warmup_s
        assert all(warmup_s < first for warmup_s in others)


# --- which pairs count

STOLEN = "the hypervisor took 40 % of a window"
HALF = TURNS // 2


@pytest.mark.parametrize(
    ("base", "head", "why"),
    [
        (0, 0, ""),
        (HALF, 0, ""),
        (HALF, HALF, ""),
        (0, HALF + 1, f"{HALF + 1} of {TURNS} turns of head: {STOLEN}"),
        (TURNS, 0, f"{TURNS} of {TURNS} turns of base: {STOLEN}"),
    ],
)
def test_a_pair_counts_where_at_least_half_of_the_turns_of_either_side_do(
    base: int, head: int, why: str, pair: Pairing
) -> None:
    world = World(disturbed={"b": [STOLEN] * base, "h": [STOLEN] * head})
    assert pair(world).disturbed == why


def test_turns_at_a_fixed_rate_are_enough_or_not_by_themselves(pair: Pairing) -> None:
    world = World(disturbed={"b": [""] * TURNS + [STOLEN] * 3})
    assert pair(world, offered_hz=1000.0).disturbed == f"3 of {TURNS_AT_A_RATE} turns of base: {STOLEN}"


def test_a_server_that_was_left_no_cpu_was_disturbed_and_has_not_failed(pair: Pairing) -> None:
    found = pair(World(completed={"h": 0}, disturbed={"h": [STOLEN] * TURNS}))
    assert (found.failed, found.clean, found.head.metrics) == (False, False, {})


def test_a_server_that_echoes_nothing_undisturbed_has_failed(pair: Pairing) -> None:
    assert pair(World(completed={"h": 0})).head.failed == "no message was completed"


# --- what a side comes to


def test_metrics_are_those_of_the_turns_that_count(pair: Pairing) -> None:
    found = pair(World(completed={"h": 80_000}), offered_hz=1000.0)
    assert (found.base.metrics["rate_hz"], found.head.metrics["rate_hz"]) == (100_000, 80_000)
    assert found.base.metrics["cpu_us"] == pytest.approx(6.0)
    assert found.head.metrics["cpu_us"] == pytest.approx(7.5)
    assert found.base.metrics["bytes_per_connection"] == (RSS_BYTES - AT_START_BYTES) / 16
    assert found.base.metrics["p50_us"] == pytest.approx(50, rel=0.02)
    assert found.base.metrics["p99_us"] > found.base.metrics["p50_us"]
    assert found.base.response_hdr


def test_below_a_few_connections_memory_is_not_told(pair: Pairing) -> None:
    assert "bytes_per_connection" not in pair(World(), connections=measure.FEWEST_CONNECTIONS - 1).base.metrics
    assert "bytes_per_connection" in pair(World(), connections=measure.FEWEST_CONNECTIONS).base.metrics


def test_without_a_rate_there_are_no_response_times(pair: Pairing) -> None:
    assert set(pair(World()).base.metrics) == {"rate_hz", "cpu_us", "bytes_per_connection"}


def test_what_others_took_is_told_as_a_share_of_the_turns(pair: Pairing) -> None:
    taken = seen(load_wait_ns=0.05 * SECOND_NS, load_idle_ns=0.0, server_steal_ns=0.06 * SECOND_NS)
    found = pair(World(seen={"h": taken}))
    assert found.head.wait == pytest.approx(0.05)
    assert found.head.steal == pytest.approx(0.05), "one tick may be an old one"
    assert (found.base.wait, found.base.steal) == (0, 0)


def test_a_server_of_which_the_cpu_time_is_not_known_has_failed(pair: Pairing) -> None:
    blind = seen()._replace(metrics={"threads": 1.0}, missing={"cpu_ns": "the CPU clock can't be read"})
    assert pair(World(seen={"b": blind})).base.failed == "the CPU clock can't be read"


@pytest.mark.parametrize("cpu_us", [0.0, 0.01])  # the latter a stopped shell has, by being let go on
def test_a_server_without_cpu_time_for_its_echoes_has_failed_and_is_not_free(pair: Pairing, cpu_us: float) -> None:
    elsewhere = seen()._replace(metrics={**seen().metrics, "cpu_ns": 100_000 * 1000 * cpu_us})
    found = pair(World(seen={"h": elsewhere}), offered_hz=1000.0)
    assert found.head.failed == measure.ELSEWHERE
    assert found.head.metrics == {}
    assert found.base.metrics["cpu_us"] > 0


def test_a_server_without_cpu_time_and_without_echoes_was_only_left_none(pair: Pairing) -> None:
    idle = seen()._replace(metrics={**seen().metrics, "cpu_ns": 0.0})
    found = pair(World(seen={"h": idle}, completed={"h": 0}, disturbed={"h": [STOLEN] * TURNS}))
    assert not found.failed


def test_a_load_generator_that_was_the_limit_of_a_side_is_told(pair: Pairing) -> None:
    found = pair(World(busy={"h": 0.9}))
    assert (found.base.client_bound, found.head.client_bound) == (False, True)


def test_a_server_that_does_not_start_fails_its_side_alone(pair: Pairing) -> None:
    world = World()
    found = pair(world, head=source("head", why_not="it has no legs"))
    assert (found.base.failed, found.head.failed) == ("", "it has no legs")
    assert world.order == "B" + "b" * TURNS


def test_without_a_load_generator_both_sides_have_failed(pair: Pairing) -> None:
    found = pair(World(), pool=Pool(why_not="no memory"))
    assert found.base.failed == found.head.failed == "the load generator could not be started again: no memory"


# --- real ones


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    before = children()
    with rigged(host.choose_cpus()) as made:
        yield made
    assert eventually(lambda: children() <= before), "it left processes behind"


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def real(rig: Rig, case: Case, base: Source, head: Source, offered_hz: float = 2000.0) -> Pair:
    return measure_pair(rig, case, base, head, first="head", offered_hz=offered_hz, number=1, attempt=1)


def test_both_sides_of_a_real_pair_have_every_metric(rig: Rig) -> None:
    with sources(Asked(), Asked(), ROOT) as (base, head):
        found = real(rig, a_case(), base, head)
    assert not found.failed
    for sample in (found.base, found.head):
        assert set(sample.metrics) == {"rate_hz", "cpu_us", "bytes_per_connection", "p50_us", "p99_us"}
        assert sample.metrics["rate_hz"] > 0
        assert 0 < sample.metrics["cpu_us"] < 10_000
    assert re.fullmatch(r"\w+ 3\.\d+\.\S+", base.side.interpreter)


def test_a_command_that_has_a_daemon_serve_is_not_free(rig: Rig) -> None:
    daemon = shlex.join(["setsid", sys.executable, str(FOREIGN), "good"])
    asked = Asked(command=shlex.join(["sh", "-c", f"({daemon} {{port}} &); exec sleep 600"]))
    with sources(asked, asked, ROOT) as (base, head):
        found = real(rig, a_case(), base, head, offered_hz=0.0)
    for sample in (found.base, found.head):
        assert sample.failed or sample.metrics["cpu_us"] > measure.LEAST_ECHO_NS / 1000


def test_a_real_server_that_can_not_be_started_leaves_the_other_its_figures(rig: Rig) -> None:
    with sources(Asked(), Asked(), ROOT) as (base, head):
        broken = Source(head.side, head.strategies, source("head", why_not="it has no legs").start)
        found = real(rig, a_case(), base, broken, offered_hz=0.0)
    assert (found.base.failed, found.head.failed) == ("", "it has no legs")
    assert found.base.metrics["rate_hz"] > 0
