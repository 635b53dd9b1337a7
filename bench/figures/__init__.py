"""The report's figures, one file each: a table goes in, a matplotlib Figure comes out.

PLATES is the order in which the page shows them. A new figure is a new file here and a line in PLATES. What a figure
looks like is decided in style.py; nothing here reads or writes a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench import capacity
from bench.analyse import Analysis
from bench.figures import anatomy, cpu, descriptors, intervals, lab, latency, load, order, throughput, why
from bench.figures.style import Look, Picture, looks, picture
from bench.lab.experiment import Chart, read_findings
from bench.trust import noise
from bench.verdicts import headlines

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
    message: Callable[[Analysis], str]  # what it shows, in words
    where_planned: str = ""  # how to read, besides, what only runs with planned sends have

    def explained(self, analysis: Analysis) -> str:
        """How to read it in this run."""
        planned = bool(analysis.trials["planned"].any())
        return f"{self.how_to_read} {self.where_planned}" if planned and self.where_planned else self.how_to_read


def _of(*metrics: str, planned: bool = True) -> Callable[[Analysis], pd.DataFrame]:
    """Pick estimates of these metrics; without the steps of searches, and perhaps without planned rates."""

    def rows(analysis: Analysis) -> pd.DataFrame:
        found = analysis.estimates[analysis.estimates["metric"].isin(metrics) & (analysis.estimates["slo"] == "")]
        return found if planned else found[~found["planned"].astype(bool)]

    return rows


def _leaders(metric: str) -> Callable[[Analysis], str]:
    def message(analysis: Analysis) -> str:
        contests = [contest for contest in analysis.contests if contest.metric.name == metric]
        said = " ".join(f"{asked} – {'; '.join(clauses)}." for asked, clauses in headlines(contests))
        return said or "No two strategies were measured under the same load."

    return message


def _drift(analysis: Analysis) -> str:
    return noise(analysis.trials) or "Nothing was repeated."


PLATES = (
    Plate(
        "throughput",
        "Throughput over connections",
        "Higher is better. A point is the median of the repeats, its bar runs from the smallest to the largest. "
        "A hollow point is a lower bound: the client, not the server, was the limit.",
        _of("rate_hz", planned=False),
        throughput.draw,
        _leaders("rate_hz"),
    ),
    Plate(
        "load",
        "Latency as the offered load rises",
        "Down and to the right is better. A line follows one strategy from the lowest rate offered to the highest; it "
        "turns up where messages begin to queue, and back where more is offered than can be served. Latency counts "
        "from the planned send. Ringed points are the front: nothing serves as much with a lower p99. Hollow points "
        "are not to be trusted as they stand: the client was the limit, sends lagged behind their plan, it drifted "
        "within the window, or messages were unfinished; an arrow up marks a lower bound.",
        lambda analysis: analysis.load_points,
        load.draw,
        lambda analysis: " ".join(capacity.front_sentences(analysis.load_points)),
    ),
    Plate(
        "latency",
        "Latency by percentile",
        "Lower is better; both axes are logarithmic, and to the right each step is a tenfold rarer event. A line is "
        "the sum of the histograms of all repeats, its band the range of the single ones. A line ends where there are "
        "too few messages to tell a rarer percentile. Hollow markers: the client was the limit, or only a lower bound "
        "is known.",
        lambda analysis: analysis.curves[analysis.curves["slo"] == ""],
        latency.draw,
        _leaders("p99_us"),
        where_planned="Where sends were planned, a line counts from the planned send, and the dotted one of its colour "
        "from the actual send: what lies between them, a measurement that forgets the plan leaves out.",
    ),
    Plate(
        "cpu",
        "Server CPU per message",
        "Shorter is better. Time in the interpreter and its libraries (user) and in the kernel (system); the thin line "
        "runs from the smallest to the largest sum of the repeats.",
        _of("cpu_us", "cpu_user_us", "cpu_system_us"),
        cpu.draw,
        _leaders("cpu_us"),
    ),
    Plate(
        "descriptors",
        "Cost of an event over watched descriptors",
        "Lower is better; both axes are logarithmic. A level line (slope 0) does not depend on how many descriptors "
        "are watched; one of slope 1 rises in proportion to them. The slopes in the legends are fitted by least "
        "squares. A line ends where a strategy takes no more. Hollow: the client, not the server, was the limit.",
        descriptors.rows,
        descriptors.draw,
        descriptors.message,
    ),
    Plate(
        "order",
        "Every trial in time order",
        "A point is a trial, in the order in which they were run; its height says how far its throughput is "
        "from the median of its case. A machine that stays the same gives a level band: a slope of the dark line, the "
        "running median, is drift, a point far off an outlier. Hollow points have a flag.",
        order.rows,
        order.draw,
        _drift,
    ),
    Plate(
        "intervals",
        "Throughput within the window",
        "A line is one trial, interval by interval, above or below its own mean: level is a steady trial, a dip is a "
        "stall. Trials flagged unsteady are dark. Of a strategy with more than 20 trials the most uneven 20 are shown.",
        intervals.rows,
        intervals.draw,
        intervals.message,
    ),
    Plate(
        "why-calls",
        "System calls per message",
        "Shorter is better. Counted by the kernel, not timed: server and load share a CPU, so that a wake-up finds all "
        "messages that were sent at one go. A bar that would flatten the others is drawn shorter (…).",
        why.rows(why.system_calls),
        why.draw_calls,
        why.calls_message,
    ),
    Plate(
        "why-time",
        "User and kernel time per message",
        "Shorter is better. Time in the interpreter and its libraries (user) and in the kernel, while no calls were "
        "counted. The sum is exact; its parts are shared out by clock ticks.",
        why.rows(why.cpu_time),
        why.draw_time,
        why.time_message,
    ),
    Plate(
        "why-switches",
        "Context switches per message",
        "Shorter is better. A voluntary switch is a sleep, which a wake-up ends; an involuntary one is the CPU taken "
        "away while there was work to do.",
        why.rows(why.switches),
        why.draw_switches,
        why.switches_message,
    ),
)

ANATOMY = Plate(
    "anatomy",
    "System calls of one echo",
    anatomy.HOW_TO_READ,
    lambda analysis: anatomy.rows(analysis.run.manifest.anatomy),
    anatomy.draw,
    lambda analysis: anatomy.message(analysis.run.manifest.anatomy),
)


def _of_the_lab(analysis: Analysis) -> Iterator[Plate]:
    """One for each chart of the lab's experiments; their names begin with "lab-"."""
    for finding in read_findings(analysis.run.manifest.lab):
        slug = re.sub(r"[^a-z0-9-]", "-", finding.name)
        for number, chart in enumerate(finding.charts):
            yield _of_a_chart(f"lab-{slug}{f'-{number}' if number else ''}", chart)


def _of_a_chart(name: str, chart: Chart) -> Plate:
    return Plate(
        name,
        chart.title,
        "Lower is better. Both axes are logarithmic: a level line does not depend on what is along x.",
        lambda _: lab.rows(chart),
        lab.draw,
        lambda _: lab.message(chart),
    )


def pictures(analysis: Analysis) -> Iterator[tuple[Plate, Picture]]:
    """Draw every figure that the run has data for."""
    all_looks = looks(analysis.estimates["strategy"])
    for plate in [*PLATES, ANATOMY, *_of_the_lab(analysis)]:
        rows = plate.rows(analysis)
        if len(rows):
            yield plate, picture(partial(plate.draw, rows, all_looks), plate.name)
