"""Sweep files: what may be in one, and what is said about one that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BadInputError
from bench.sweep import ALLOWED, Sweep, find, from_values, load_sweep, names, with_strategies


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_default_sweep_is_what_the_readme_promises() -> None:
    assert load_sweep("quick") == Sweep(
        name="quick",
        description=load_sweep("quick").description,
        strategies="all",
        transports=("tcp",),
        connections=(1, 16, 128),
        message_bytes=(64,),
        workload=("closed",),
        repeats=5,
        seed=1,
        warmup_s=0.2,
        duration_s=0.8,
    )


@pytest.mark.parametrize("name", names())
def test_every_sweep_that_comes_with_iobench_can_be_read_and_says_what_it_is_for(name: str) -> None:
    assert load_sweep(name).description


def test_every_key_can_be_left_out(tmp_path: Path) -> None:
    assert load_sweep(written(tmp_path, "")) == Sweep(name="mine")


def test_the_name_of_a_sweep_is_that_of_its_file(tmp_path: Path) -> None:
    assert load_sweep(written(tmp_path, "repeats = 2")).name == "mine"


def test_a_single_value_stands_for_an_axis_of_one(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, 'connections = 8\nworkload = "closed"\nstrategies = "poll"'))
    assert (sweep.connections, sweep.workload, sweep.strategies) == ((8,), ("closed",), ("poll",))


def test_there_is_a_text_about_what_is_allowed_for_every_key() -> None:
    assert set(ALLOWED) == set(Sweep.__struct_fields__) - {"name"}


def test_an_unknown_key_is_refused_with_file_key_and_what_is_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, "conections = [1]")
    with pytest.raises(BadInputError) as caught:
        load_sweep(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: there is no key 'conections' (did you mean 'connections'?); allowed are: ")
    assert all(key in said for key in ALLOWED)
    assert path in caught.value.next_step


@pytest.mark.parametrize(
    "line",
    [
        "connections = [0]",
        "connections = [1.5]",
        "connections = [true]",
        'connections = "many"',
        "connections = []",
        "connections = [8, 8]",
        "connections = 99999999999999999999999",
        "message_bytes = [-1]",
        'transports = ["udp"]',
        'transports = "all"',
        'workload = "open"',
        "strategies = [1]",
        'strategies = [""]',
        "strategies = []",
        "repeats = 0",
        "repeats = [1]",
        "seed = -1",
        "seed = 1.0",
        "warmup_s = -0.1",
        "warmup_s = nan",
        "duration_s = 0",
        "duration_s = inf",
        "duration_s = 1979-05-27",
        "description = 1",
    ],
)
def test_a_bad_value_is_refused_with_file_key_and_what_is_allowed(line: str, tmp_path: Path) -> None:
    path, key = written(tmp_path, line), line.partition(" ")[0]
    with pytest.raises(BadInputError, match=f"^{re.escape(path)}: {key} = .* is not allowed; allowed: ") as caught:
        load_sweep(path)
    assert ALLOWED[key] in str(caught.value)


def test_a_file_that_is_not_toml_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"mine\.toml is not TOML: .*at line 2, column"):
        load_sweep(written(tmp_path, "repeats = 1\nconnections == 1"))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"description = '\xff\xfe'")
    with pytest.raises(BadInputError, match="is not TOML"):
        load_sweep(str(tmp_path / "mine.toml"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="There is no sweep file"):
        load_sweep(str(tmp_path / "nothing.toml"))


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(BadInputError, match=r"There is no sweep 'quik' \(did you mean 'quick'\?\)") as caught:
        find("quik")
    assert caught.value.next_step == "iobench plan quick"


def test_chosen_strategies_replace_those_of_the_sweep() -> None:
    assert with_strategies(load_sweep("quick"), " poll,epoll_lt, poll,").strategies == ("poll", "epoll_lt")


def test_an_empty_choice_of_strategies_is_refused() -> None:
    with pytest.raises(BadInputError, match="--strategies names none"):
        with_strategies(load_sweep("quick"), " , ")


def test_a_sweep_survives_the_manifest() -> None:
    sweep = load_sweep("quick")
    through_json: Any = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(sweep)))
    assert msgspec.convert(through_json, Sweep) == sweep


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.sampled_from(["all", "tcp"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(ALLOWED)) | st.text(), values))
def test_whatever_a_file_holds_it_is_a_sweep_or_bad_input(given_values: dict[str, Any]) -> None:
    try:
        sweep = from_values("mine", given_values, "mine.toml")
    except BadInputError:
        return
    assert all(len(getattr(sweep, axis)) > 0 for axis in ("connections", "message_bytes", "transports", "workload"))
    assert sweep.duration_s > 0
