"""What a soak concludes (tests/soak/soak.py), from samples and trials made up for it."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import msgspec
import pandas as pd
import pytest
from synthetic import record

from bench.run import outlined

MIB = 1 << 20
MINUTES = 30


def load_soak() -> ModuleType:
    """The script, which lies in no package."""
    path = Path(__file__).parent / "soak" / "soak.py"
    spec = importlib.util.spec_from_file_location("soak", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # NamedTuple looks its annotations up there
    spec.loader.exec_module(module)
    return module


soak: Any = load_soak()


def samples(who: str = "client", grown: float = 0.0, leaked: float = 0.0, warmed: float = 30 * MIB) -> list[Any]:
    """A sample a second: memory settles in the first minute; descriptors go up and down with the connections."""
    random = Random(3)
    made = []
    for second in range(MINUTES * 60):
        part = second / (MINUTES * 60)
        rss = 150 * MIB - max(0, 60 - second) / 60 * warmed + grown * part + random.uniform(-1, 1) * MIB
        held = 12 + random.choice((1, 16, 128)) + int(leaked * part)
        made.append(soak.Sample(float(second), who, int(rss), held))
    return made


def trials(change: float = 0.0, noise: float = 0.03, seed: int = 5, wander: float = 0.0) -> pd.DataFrame:
    """160 repeats of six cases, of which the throughput changes by a share from the first to the last.

    `wander`: by so much it goes up and down besides, three times.
    """
    random, rows = Random(seed), []
    usual = msgspec.structs.asdict(record().trial)
    for repeat in range(160):
        speed = (1 + change * repeat / 160) * (1 + wander * math.cos(6 * math.pi * repeat / 160))
        for strategy in ("epoll_lt", "poll", "select"):
            for connections in (1, 16):
                rate_hz = 5e4 * connections**0.5 * speed * random.lognormvariate(0, noise)
                case = usual | {"strategy": strategy, "connections": connections, "repeat": repeat}
                rows.append(case | {"status": "ok", "order": len(rows), "rate_hz": rate_hz, "cpu_us": 1e6 / rate_hz})
    return pd.DataFrame(rows)


def test_memory_that_settles_and_then_stays_is_flat() -> None:
    assert soak.memory("client", samples()).holds


def test_memory_that_grows_is_found_with_the_amount() -> None:
    found = soak.memory("client", samples(grown=20 * MIB))
    assert not found.holds
    assert "+18.0" in found.told or "+17.9" in found.told or "+18.1" in found.told


def test_growth_of_less_than_is_noise_is_none() -> None:
    assert soak.memory("client", samples(grown=MIB)).holds


def test_descriptors_that_come_and_go_are_no_growth() -> None:
    assert soak.descriptors("client", samples()).holds


def test_nor_is_what_is_opened_once_at_the_beginning() -> None:
    begun = [sample._replace(descriptors=10) if sample.at_s < 60 else sample for sample in samples()]
    assert soak.descriptors("client", begun).holds


def test_a_descriptor_that_is_lost_now_and_then_is_found() -> None:
    assert not soak.descriptors("client", samples(leaked=6)).holds


def test_each_process_is_judged_by_its_own_samples() -> None:
    mixed = [*samples("harness"), *samples("client", grown=50 * MIB)]
    assert soak.memory("harness", mixed).holds
    assert not soak.memory("client", mixed).holds


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_drift(seed: int) -> None:
    assert soak.drift(trials(seed=seed), "rate_hz", "throughput").holds


@pytest.mark.parametrize("change", [-0.06, 0.0, 0.06])
def test_nor_is_what_goes_up_and_down_by_more_in_between(change: float) -> None:
    found = soak.drift(trials(change, wander=0.2), "rate_hz", "throughput")
    assert found.holds
    assert "those between from -1" in found.told or "those between from -2" in found.told


def test_a_drift_of_a_few_percent_is_found() -> None:
    found = soak.drift(trials(change=-0.06), "rate_hz", "throughput")
    assert not found.holds
    assert found.told.startswith("-")


def test_the_table_says_of_each_whether_it_stayed() -> None:
    findings = soak.conclude([*samples("harness"), *samples("client", leaked=6)], trials())
    text = soak.table(findings)
    assert "| descriptors of the client | CHANGED |" in text
    assert text.count("stayed") == len(findings) - 1


def test_a_run_keeps_of_a_record_no_more_than_later_trials_need() -> None:
    whole = record("poll", held=True)
    kept = outlined(whole, rates=True)
    assert whole.load is not None and kept.load is not None
    assert (kept.id, kept.status, kept.held, kept.load.completed) == (whole.id, "ok", True, whole.load.completed)
    assert (kept.load.service_hdr, kept.load.interval_hdrs, kept.server, kept.machine) == ("", [], None, None)
    assert whole.load.service_hdr and whole.server is not None
    assert outlined(whole, rates=False).load is None
