"""The report's figures, one file each: a table goes in, a matplotlib Figure comes out.

PLATES is the order in which the page shows them. A new figure is a new file here and a line in PLATES. What a figure
looks like is decided in style.py; nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench.analyse import Analysis
from bench.figures import cpu, latency, throughput
from bench.figures.style import Look, Picture, looks, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plate:
    """A figure of the report. `rows` picks the rows it is drawn from: without any, it does not appear."""

    name: str  # of its files
    title: str
    how_to_read: str
    rows: Callable[[Analysis], pd.DataFrame]
    draw: Callable[[pd.DataFrame, Mapping[str, Look]], Figure]
    metric: str  # the contest that its message is taken from


def _of(*metrics: str) -> Callable[[Analysis], pd.DataFrame]:
    return lambda analysis: analysis.estimates[analysis.estimates["metric"].isin(metrics)]


PLATES = (
    Plate(
        "throughput",
        "Throughput over connections",
        "Higher is better. A point is the median of the repeats, its bar runs from the smallest to the largest. "
        "A hollow point is a lower bound: the client, not the server, was the limit.",
        _of("rate_hz"),
        throughput.draw,
        "rate_hz",
    ),
    Plate(
        "latency",
        "Service time by percentile",
        "Lower is better; both axes are logarithmic, and to the right each step is a tenfold rarer event. A line is "
        "the sum of the histograms of all repeats, its band the range of the single ones. A line ends where there are "
        "too few messages to tell a rarer percentile. Hollow markers: the client was the limit.",
        lambda analysis: analysis.curves,
        latency.draw,
        "p99_us",
    ),
    Plate(
        "cpu",
        "Server CPU per message",
        "Shorter is better. Time in the interpreter and its libraries (user) and in the kernel (system); the thin line "
        "runs from the smallest to the largest sum of the repeats.",
        _of("cpu_us", "cpu_user_us", "cpu_system_us"),
        cpu.draw,
        "cpu_us",
    ),
)


def pictures(analysis: Analysis) -> Iterator[tuple[Plate, Picture]]:
    """Draw every figure that the run has data for."""
    all_looks = looks(analysis.estimates["strategy"])
    for plate in PLATES:
        rows = plate.rows(analysis)
        if len(rows):
            yield plate, picture(partial(plate.draw, rows, all_looks), plate.name)
