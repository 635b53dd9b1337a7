"""Whatever a sweep file holds, it is a sweep with a plan, or it is refused in a sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from fuzzing import MIB, cut_up, examples, spoilt, taking_at_most, within_memory
from hypothesis import example, given
from hypothesis import strategies as st
from test_plan import info

from bench.errors import BadInputError
from bench.plan import MOST_TRIALS, Plan, make_plan
from bench.record import Interpreter
from bench.sweep import SWEEPS, Sweep, from_values, load_sweep
from bench.workloads import count_points, points

pytestmark = pytest.mark.timeout(600)

WHOLE = b"\n".join(path.read_bytes() for path in sorted(SWEEPS.glob("*.toml")))
KNOWN = [info(name) for name in ("epoll_lt", "iterative", "asyncio_protocol")]
EVERYTHING = {
    "description": "all there is",
    "strategies": ["epoll_lt", "iterative"],
    "external": [
        {"name": "node", "command": ["node", "{port}"], "cwd": "js", "env": {"A": "{host}"}, "concurrent": True}
    ],
    "python": ["", "pypy3"],
    "transports": ["tcp", "unix"],
    "connections": [1, 16],
    "message_bytes": [64, {"sizes": [64, 4096], "weights": [9, 1.5]}],
    "workloads": ["burst", {"kind": "open", "rate_hz": [1000], "arrivals": ["poisson"]}, {"kind": "idle", "silent": 5}],
    "depth": [1, 4],
    "threads": [1, 2],
    "ramp_s": 0.5,
    "repeats": 2,
    "seed": 7,
    "warmup_s": 0.1,
    "duration_s": 0.2,
}


def read(content: bytes) -> Sweep | None:
    """What a file with this content is read as; None where it is refused, in words that a terminal takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.toml")
        path.write_bytes(content)
        try:
            return load_sweep(str(path))
        except BadInputError as error:
            assert str(path) in str(error) and len(str(error)) < 3000
            return None


def planned(sweep: Sweep) -> Plan | None:
    """Its plan; None where it is refused."""
    foreign = [info(one.name, transports=[one.transport]) for one in sweep.external]
    others = [Interpreter(name=name, available=False, reason="it is not there") for name in sweep.python if name]
    try:
        return make_plan(sweep, KNOWN, foreign=foreign, interpreters=others)
    except BadInputError as error:
        assert len(str(error)) < 3000
        return None


@examples(150)
@given(cut_up(WHOLE[:4000]) | st.text(max_size=200).map(str.encode) | st.binary(max_size=100))
@example(b"connections = " + b"[" * 5000)
@example(b"connections = " + b"[" * 200 + b"1" + b"]" * 200)
@example(b"a" + b".a" * 3000 + b" = 1")
@example(b"description" + b".a" * 3000 + b" = 1")
@example(b"repeats = " + b"9" * 5000)
@example(b"repeats = 0x" + b"f" * 5000)
@example(b"workloads = [{kind = 0x" + b"f" * 5000 + b"}]")
@example(b"strategies = [" + b'"x",' * 50_000 + b"]")
@example(b"seed = 1979-05-27T07:32:00Z")
@example(b'"\\u0000\\u001b" = 1')
@example(b"x" * 2 * MIB)
def test_a_file_of_any_bytes_is_a_sweep_or_bad_input(content: bytes) -> None:
    with within_memory():
        sweep = read(content)
        if sweep is not None:
            planned(sweep)


@examples(150)
@given(spoilt(EVERYTHING))
def test_keys_and_values_of_any_kind_are_a_sweep_with_a_bounded_plan_or_bad_input(values: object) -> None:
    assert isinstance(values, dict)
    with within_memory():
        try:
            sweep = from_values("any", {str(key): value for key, value in values.items()}, "any.toml")
        except BadInputError as error:
            assert len(str(error)) < 3000
            return
        for workload in sweep.workloads:
            assert count_points(workload, sweep.depth) == sum(1 for _ in points(workload, sweep.depth))
        plan = planned(sweep)
        assert plan is None or len(plan.trials) <= 2 * MOST_TRIALS


@pytest.mark.parametrize(
    "more",
    [
        {"repeats": 10_000},
        {"connections": list(range(1, 50_000))},
        {"connections": list(range(1, 300)), "depth": list(range(1, 300)), "repeats": 10_000},
        {"workloads": [{"kind": "open", "rate_hz": list(range(1, 3000)), "cap": list(range(1, 3000))}]},
    ],
    ids=["repeats", "connections", "axes", "workloads"],
)
def test_a_few_lines_that_stand_for_millions_of_trials_are_refused_before_any_is_made(more: dict[str, object]) -> None:
    sweep = from_values("vast", EVERYTHING | {"external": []} | more, "vast.toml")
    with taking_at_most(64 * MIB), pytest.raises(BadInputError) as caught:
        make_plan(sweep, KNOWN)
    assert "100,000 are the most that a run may have" in str(caught.value)
    assert caught.value.next_step == "leave out some values of its axes, or repeats"


def test_a_file_that_is_far_too_long_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    with path.open("wb") as file:
        file.truncate(1 << 34)  # 16 GiB of nothing
    with (
        taking_at_most(16 * MIB),
        pytest.raises(BadInputError, match="can't be read: it has more than 1,048,576 bytes"),
    ):
        load_sweep(str(path))
