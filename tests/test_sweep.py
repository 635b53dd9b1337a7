"""Sweep files: what may be in one, and what is said about one that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadInputError
from bench.sweep import (
    ALLOWED,
    AXES,
    Mix,
    Sweep,
    find,
    from_values,
    load_sweep,
    names,
    with_budget,
    with_slo,
    with_strategies,
    with_within,
)
from bench.workloads import KINDS, Burst, Churn, Closed, Idle, Open, Slow, Stream, points
from clients.objective import read_objective


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


NINE = (
    "iterative",
    "thread_per_connection",
    "nonblocking_polling",
    "select",
    "poll",
    "epoll_lt",
    "epoll_et",
    "asyncio_streams",
    "asyncio_protocol",
)


def test_the_default_sweep_is_what_the_readme_promises() -> None:
    assert load_sweep("quick") == Sweep(
        name="quick",
        description=load_sweep("quick").description,
        strategies=NINE,
        transports=("tcp",),
        connections=(1, 16, 128),
        message_bytes=(64,),
        workloads=(Closed(),),
        depth=(1,),
        threads=(1,),
        ramp_s=0.0,
        seed=1,
        budget_s=160,
        warmup_s=0.05,
        duration_s=0.25,
        slo="",
    )


@pytest.mark.parametrize("name", names())
def test_every_sweep_that_comes_with_iobench_can_be_read_and_says_what_it_is_for(name: str) -> None:
    assert load_sweep(name).description


def test_every_key_can_be_left_out(tmp_path: Path) -> None:
    assert load_sweep(written(tmp_path, "")) == Sweep(name="mine")


def test_the_name_of_a_sweep_is_that_of_its_file(tmp_path: Path) -> None:
    assert load_sweep(written(tmp_path, "repeats = 2")).name == "mine"


def test_a_single_value_stands_for_an_axis_of_one(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, 'connections = 8\nworkloads = "churn"\nstrategies = "poll"'))
    assert (sweep.connections, sweep.workloads, sweep.strategies) == ((8,), (Churn(),), ("poll",))


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
        "message_bytes = [{sizes = [64, 4096], weights = [1]}]",
        "message_bytes = [{sizes = [64, 64], weights = [1, 2]}]",
        "message_bytes = [{sizes = [64], weights = [0]}]",
        "message_bytes = [{sizes = [64]}]",
        "message_bytes = [{size = 64}]",
        "depth = [0]",
        "threads = [2, 2]",
        "ramp_s = -1",
        'slo = "p99<5"',
        'slo = "p100<5ms"',
        'slo = "p99>5ms"',
        "slo = 5",
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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('workload = "opn"', "workload: 'opn' is not allowed (did you mean 'open'?); allowed: \"closed\", \"open\", "),
        ('workloads = ["closed", 5]', "workloads: 5 is not allowed; allowed: "),
        ("workloads = [{rate_hz = 5}]", "workloads: {'rate_hz': 5} has no kind; there are: \"closed\", "),
        ('workloads = "open"', "workloads: open needs a rate_hz, such as [1000, 5000], or a load, such as "),
        (
            'workloads = {kind = "open", rate = 5}',
            "there is no key 'rate' in open (did you mean 'rate_hz'?); it takes ",
        ),
        (
            'workloads = {kind = "open", rate_hz = [0]}',
            "rate_hz = [0] of open is not allowed; allowed: messages a second",
        ),
        ('workloads = {kind = "open", rate_hz = []}', "rate_hz = [] of open is not allowed"),
        ('workloads = {kind = "open", load = [0.5, 0.5]}', "load = [0.5, 0.5] of open is not allowed"),
        ('workloads = {kind = "open", load = [90]}', "such as [0.5, 0.9] for 50 % and 90 %"),
        (
            'workloads = {kind = "open", load = 0.5, arrivals = "random"}',
            'allowed: one or both of "constant", "poisson"',
        ),
        ('workloads = {kind = "burst", depth = 2}', "there is no key 'depth' in burst; it takes nothing but its kind"),
        ('workloads = "idle"', "idle needs silent, the number of connections that never send, such as "),
        ('workloads = {kind = "idle", silent = 9, arrivals = "poisson"}', "idle without a rate_hz is a closed loop"),
        ('workloads = {kind = "idle", total = 9}', "idle needs silent"),
        ('workloads = {kind = "idle", silent = 9, active = 1, total = 9}', "silent, or active and total, not both"),
        ('workloads = {kind = "idle", active = [1, 10], total = [9, 99]}', "more connections active than in total"),
        ('workloads = {kind = "slow", trickle_bytes = 0}', "trickle_bytes = 0 of slow is not allowed"),
        ('workloads = ["closed", "closed"]', "is not allowed; allowed: "),
        ("workloads = []", "is not allowed; allowed: "),
        ('workload = "closed"\nworkloads = "churn"', "workload and workloads are two names of one key"),
        ('slo = "p99<5ms"\nworkloads = "churn"', "a sweep with slo searches with a Poisson load of its own"),
    ],
)
def test_a_workload_that_makes_no_sense_is_refused_with_what_is_allowed(line: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, line)
    with pytest.raises(BadInputError) as caught:
        load_sweep(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)
    assert caught.value.next_step == f"correct {path}, then: iobench plan {path}"


EVERY_WORKLOAD = """
workloads = [
    "closed",
    {kind = "open", rate_hz = [1000, 5000], arrivals = "poisson", cap = [0, 32]},
    {kind = "open", load = [0.1, 1.1]},
    {kind = "burst"},
    {kind = "idle", silent = [100, 1000]},
    "churn",
    {kind = "stream", depth = 4},
    {kind = "slow", trickle_hz = 50},
]
depth = [1, 8]
message_bytes = [64, {sizes = [64, 4096], weights = [0.9, 0.1]}]
threads = [1, 2]
ramp_s = 0.5
"""


def test_every_workload_can_be_named_and_its_lists_are_axes(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, EVERY_WORKLOAD))
    assert sweep.workloads == (
        Closed(),
        Open(rate_hz=(1000.0, 5000.0), arrivals=("poisson",), cap=(0, 32)),
        Open(load=(0.1, 1.1)),
        Burst(),
        Idle(silent=(100, 1000)),
        Churn(),
        Stream(depth=(4,)),
        Slow(trickle_hz=(50.0,)),
    )
    assert {type(workload) for workload in sweep.workloads} == set(KINDS.values())
    assert sweep.message_bytes == (64, Mix(sizes=(64, 4096), weights=(0.9, 0.1)))


def test_a_workload_is_measured_at_every_point_of_its_axes() -> None:
    assert list(points(Open(rate_hz=(1.0, 2.0), load=(0.5,), cap=(0, 9)), depth=[7])) == [
        {"workload": "open", "arrivals": "constant", "cap": cap, **rate}
        for rate in ({"planned_hz": 1.0}, {"planned_hz": 2.0}, {"load_fraction": 0.5})
        for cap in (0, 9)
    ]
    assert list(points(Burst(), depth=[7])) == [{"workload": "burst"}]


def test_closed_loops_and_streams_have_the_depth_of_the_sweep_unless_they_name_their_own() -> None:
    assert [one["depth"] for one in points(Closed(), depth=[1, 8])] == [1, 8]
    assert [one["depth"] for one in points(Stream(depth=(4,)), depth=[1, 8])] == [4]


def test_the_mean_of_a_mix_counts_each_size_by_its_weight() -> None:
    assert Mix(sizes=(64, 4096), weights=(9, 1)).mean_bytes == 467
    assert Mix(sizes=(1,), weights=(0.5,)).mean_bytes == 1


def test_an_objective_searches_each_point_once_in_place_of_the_workloads(tmp_path: Path) -> None:
    sweep = with_slo(load_sweep(written(tmp_path, EVERY_WORKLOAD)), "p99 < 5 ms")
    assert (sweep.slo, sweep.workloads, sweep.depth, sweep.repeats) == ("p99<5ms", (Closed(),), (1,), 1)
    assert (sweep.threads, sweep.ramp_s) == ((1, 2), 0.5)


def test_a_sweep_that_is_a_search_keeps_its_repeats(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, 'slo = "p99.9<=500us"\nrepeats = 3'))
    assert (sweep.slo, sweep.repeats) == ("p99.9<500us", 3)
    assert with_slo(sweep, "p50<1s").repeats == 3


def test_a_bad_objective_is_refused_with_an_example() -> None:
    with pytest.raises(BadInputError, match="--slo 'fast': an objective is a percentile and its limit") as caught:
        with_slo(load_sweep("quick"), "fast")
    assert caught.value.next_step == "iobench sweep --slo 'p99<5ms'"


@pytest.mark.parametrize(
    ("text", "quantile", "limit_ns"),
    [("p99<5ms", 0.99, 5e6), ("P99.9 <= 250 µs", 0.999, 250e3), ("p50<1s", 0.5, 1e9), ("p90<1500ns", 0.9, 1500)],
)
def test_an_objective_is_a_percentile_and_a_limit(text: str, quantile: float, limit_ns: float) -> None:
    objective = read_objective(text)
    assert (objective.quantile, objective.limit_ns) == pytest.approx((quantile, limit_ns))
    assert read_objective(objective.text) == objective


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


@pytest.mark.parametrize("text", ["", EVERY_WORKLOAD, 'slo = "p99<5ms"'])
def test_a_sweep_survives_the_manifest(text: str, tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, text))
    through_json: Any = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(sweep)))
    assert from_values(through_json.pop("name"), through_json, "manifest.json") == sweep


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.sampled_from(["all", "tcp", "open"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["kind", "rate_hz", "sizes"]) | st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(list(ALLOWED)) | st.text(), values))
def test_whatever_a_file_holds_it_is_a_sweep_or_bad_input(given_values: dict[str, Any]) -> None:
    try:
        sweep = from_values("mine", given_values, "mine.toml")
    except BadInputError:
        return
    assert all(len(getattr(sweep, axis)) > 0 for axis in AXES)
    assert sweep.duration_s > 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("3m", 180), ("90s", 90), ("90", 90), ("1.5h", 5400), ("2 min", 120), ("0", 0)]
)
def test_a_budget_is_a_time_with_or_without_its_unit(text: str, seconds: float) -> None:
    assert with_budget(load_sweep("quick"), text).budget_s == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "3 weeks", "1e3", "99999999h"])
def test_what_is_no_time_is_no_budget(text: str) -> None:
    with pytest.raises(BadInputError, match="no time"):
        with_budget(load_sweep("quick"), text)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.1", 0.1), (" 2.5 % ", 0.025)])
def test_what_counts_as_equal_is_a_share_or_a_percentage(text: str, share: float) -> None:
    assert with_within(load_sweep("quick"), text).within == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "0", "1", "5", "100%", "200%", "-5%", "nan", "1_0%", "x"])
def test_what_is_no_share_can_not_count_as_equal(text: str) -> None:
    with pytest.raises(BadInputError, match="not a share"):
        with_within(load_sweep("quick"), text)


def test_a_number_that_may_be_a_percentage_is_refused_with_both_spellings() -> None:
    with pytest.raises(BadInputError, match=r"such as 3% or 0\.03"):
        with_within(load_sweep("quick"), "3")


def test_a_search_for_an_objective_has_no_budget() -> None:
    assert with_slo(load_sweep("quick"), "p99<5ms").budget_s == 0
