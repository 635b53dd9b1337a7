"""The forest plot of a gate and of a comparison: what its axis says."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bench.figures import forest


def effects(*labels: str) -> pd.DataFrame:
    row = {"group": "epoll_lt", "ratio": 1.1, "low": 0.8, "high": 1.3, "noise": math.nan, "limit": math.nan}
    return pd.DataFrame([row | {"label": label, "verdict": "ok"} for label in labels])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("p99 latency", "throughput"), "head by base, throughput as its reciprocal: right of the line is worse"),
        (("p99 latency",), "head by base: right of the line is worse"),
    ],
)
def test_it_is_said_that_a_throughput_has_been_turned_round(labels: tuple[str, ...], said: str) -> None:
    (axes,) = forest.draw(effects(*labels)).axes
    assert axes.get_xlabel() == said


def test_ticks_say_by_how_many_percent_it_is_more_or_less() -> None:
    (axes,) = forest.draw(effects("throughput")).axes
    shown = [axes.xaxis.get_major_formatter()(tick) for tick in axes.get_xticks()]
    assert shown == ["−20 %", "−10 %", "−5 %", "0 %", "+5 %", "+10 %", "+25 %"]
