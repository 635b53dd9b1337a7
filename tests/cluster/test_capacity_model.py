"""The capacity model: known answers, how near it is to what was measured, and that docs/scale.md says what it says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bench.cluster import capacity_measure
from bench.cluster.capacity_measure import DOC, SIZES, take_all, tell
from bench.cluster.capacity_model import (
    HOST,
    WITHIN,
    Constants,
    Demand,
    Line,
    PerDecade,
    Taken,
    compare,
    fill,
    fit,
    least_disturbed,
    needs,
    read,
)

ROUND = Constants(
    server_bytes=Line(10e6, 100),
    load_bytes=Line(200e6, 1000),
    kernel_bytes=Line(0, 8000),
    server_descriptors=Line(10, 1),
    load_descriptors=Line(20, 1),
    server_us=PerDecade(8, 1),
    load_us=PerDecade(4, 0.5),
)


def exactly(connections: int, of: Constants = ROUND) -> Taken:
    """What would be measured if the model were right."""
    return Taken(
        connections=connections,
        **{name: getattr(of, name).at(connections) for name in Constants.__struct_fields__},
    )


@settings(deadline=None)
@given(
    bases=some.lists(some.floats(1, 1e8), min_size=7, max_size=7),
    growth=some.lists(some.floats(0.01, 10), min_size=7, max_size=7),
)
def test_constants_are_found_again_in_what_follows_from_them(bases: list[float], growth: list[float]) -> None:
    kinds = [Line] * 5 + [PerDecade] * 2
    made = [kind(base, base * each / 10) for kind, base, each in zip(kinds, bases, growth, strict=True)]
    own = Constants(**dict(zip(Constants.__struct_fields__, made, strict=True)))
    found = fit([exactly(size, own) for size in SIZES])
    for name in Constants.__struct_fields__:
        for size in SIZES:
            assert getattr(found, name).at(size) == pytest.approx(getattr(own, name).at(size), rel=1e-3)


def test_of_several_measurements_the_least_cpu_time_and_the_median_of_the_rest_counts() -> None:
    dear = Constants(
        **{
            name: getattr(ROUND, name)
            for name in Constants.__struct_fields__
            if name not in ("load_us", "kernel_bytes")
        },
        load_us=PerDecade(40, 0),
        kernel_bytes=Line(1e9, 0),
    )
    assert least_disturbed([exactly(100), exactly(100, dear), exactly(100)]) == exactly(100)


def test_a_million_connections_are_limited_by_the_ports_of_the_load_hosts() -> None:
    found = needs(ROUND, Demand(10**6, 10**5), HOST)
    assert (found.load_hosts, found.load_first) == (math.ceil(10**6 / 28_232), "ports") == (36, "ports")
    assert found.server_descriptors == 10**6 + 10
    assert found.server_bytes == pytest.approx(10e6 + 10**6 * (100 + 4000))
    assert found.load_bytes == pytest.approx(200e6 + 10**6 / 36 * 5000)


def test_a_million_messages_are_limited_by_the_one_cpu_of_the_server_and_those_of_the_load() -> None:
    found = needs(ROUND, Demand(10**4, 10**6), HOST)
    assert found.server_cpus == pytest.approx(10)  # of 8 + 2 us each
    assert (found.server_first, found.server_share) == ("CPU", pytest.approx(10 / 0.95))
    assert (found.load_hosts, found.load_first) == (1, "CPU")  # 5 CPUs' worth, on 7 of which 80 % are used
    assert found.network_bits_s == pytest.approx(10**6 * (64 + 90) * 8)
    assert needs(ROUND, Demand(10**4, 4 * 10**6), HOST).load_hosts == 4


@pytest.mark.parametrize(
    ("host", "first"),
    [
        (HOST._replace(descriptors=20_000), "descriptors"),
        (HOST._replace(memory_bytes=2**26), "memory"),
        (HOST._replace(network_bits_s=1e6), "network"),
        (HOST, "CPU"),
    ],
)
def test_what_a_server_has_least_of_is_used_up_first(host: object, first: str) -> None:
    assert needs(ROUND, Demand(19_000, 50_000), host).server_first == first  # type: ignore[arg-type]


@settings(deadline=None)
@given(connections=some.integers(1, 10**7), messages_s=some.floats(1, 1e8))
def test_load_hosts_are_enough_for_the_ports_and_at_least_one(connections: int, messages_s: float) -> None:
    hosts = needs(ROUND, Demand(connections, messages_s), HOST).load_hosts
    assert hosts >= 1
    assert hosts * HOST.ports >= connections


def test_a_model_that_is_too_far_off_is_told_and_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(ROUND, [exactly(100)])
    dear = ROUND.__class__(
        **{name: getattr(ROUND, name) for name in Constants.__struct_fields__ if name != "load_us"},
        load_us=PerDecade(4.7, 0),
    )
    assert not tell(dear, [exactly(100)])
    assert capsys.readouterr().out.splitlines()[-1].split()[-3:] == ["+17.5%", "too", "far"]


def test_the_stored_model_is_within_15_percent_of_later_measurements() -> None:
    stored = read()
    assert [one.connections for one in stored.checked] == list(SIZES) == [100, 1000, 10_000]
    found = compare(stored.constants, stored.checked)
    assert {one.what for one in found} == {"memory", "server_descriptors", "load_descriptors", "server_us", "load_us"}
    assert [one for one in found if abs(one.share) > WITHIN] == []


def test_the_tables_of_the_document_are_those_of_the_model() -> None:
    text = DOC.read_text()
    assert fill(text, read()) == text
    assert "| load hosts |" in text and "| CPU of a message, server |" in text


def test_the_script_measures_what_the_model_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """With windows that are too short for its figures to be good, but long enough to see that they are there."""
    monkeypatch.setattr(capacity_measure, "WARMUP_S", 0.0)
    monkeypatch.setattr(capacity_measure, "WINDOW_S", 0.1)
    few, many = take_all([10, 200], rounds=1)
    assert many.server_descriptors - few.server_descriptors == 190 == many.load_descriptors - few.load_descriptors
    assert 0 < few.server_bytes <= many.server_bytes * 1.1
    assert min(few.server_us, few.load_us, many.server_us, many.load_us) > 0.1
    assert many.load_bytes > 10e6
