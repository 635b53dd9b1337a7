"""The report's figures, one file each: a table goes in, a matplotlib Figure comes out.

PLATES is the order in which the page shows them. A new figure is a new file here and a line in PLATES. What a figure
looks like is decided in style.py; nothing here reads or writes a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench import answer, capacity
from bench.analyse import Analysis
from bench.figures import (
    anatomy,
    compared,
    cpu,
    descriptors,
    heat,
    intervals,
    lab,
    latency,
    load,
    memory,
    order,
    ratios,
    response,
    switches,
    throughput,
    why,
)
from bench.figures import chosen as chosen_trials
from bench.figures.chosen import Chosen
from bench.figures.style import Look, Picture, looks, picture
from bench.lab.experiment import Chart, read_findings
from bench.load_curve import PANEL
from bench.metrics import SETTING
from bench.trust import noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of a figure: more panels, and more points, are neither looked at nor soon drawn.
MOST_SETTINGS, MOST_PANELS, MOST_ROWS = 12, 24, 8_000


@dataclass(frozen=True)
class Plate:
    """A figure of the report. `rows` picks the rows it is drawn from: without any, it does not appear."""

    name: str  # of its files
    title: str
    how_to_read: str
    rows: Callable[[Analysis], pd.DataFrame]
    draw: Callable[[pd.DataFrame, Mapping[str, Look]], Figure]
    message: Callable[[Analysis, pd.DataFrame], str]  # what all of these rows show, in words
    settings: tuple[str, ...] = SETTING  # so many of these as there is room for are drawn
    each: tuple[str, ...] = ()  # of a setting there is a panel for each of these columns' values
    where_planned: str = ""  # how to read, besides, what only runs with planned sends have

    def explained(self, analysis: Analysis) -> str:
        """How to read it in this run."""
        planned = bool(analysis.trials["planned"].any())
        return f"{self.how_to_read} {self.where_planned}" if planned and self.where_planned else self.how_to_read


@dataclass(frozen=True)
class Drawn:
    """A finished figure, and what is said of it in this run."""

    name: str  # of its files
    title: str
    message: str
    how_to_read: str
    picture: Picture


def _leaders(metric: str) -> Callable[[Analysis, pd.DataFrame], str]:
    def message(analysis: Analysis, _: pd.DataFrame) -> str:
        found = [one for one in analysis.comparisons if one.metric.name == metric]
        said = " ".join(f"{asked} – {'; '.join(clauses)}." for asked, clauses in answer.headlines(found))
        return said or "No two strategies were measured under the same load."

    return message


def _drift(analysis: Analysis, _: pd.DataFrame) -> str:
    return noise(analysis.trials) or "Nothing was repeated."


PLATES = (
    Plate(
        "compared",
        "What became better and worse",
        "Left of the line is better, right of it worse. A bar is the exact 95 % interval of the ratio (Hodges and "
        "Lehmann), the grey zone what counts as equal; red diamonds are worse beyond chance, hollow squares are not "
        "decided. Cases with fewer than four repeats have no interval and no row, nor have those of a bound.",
        compared.rows,
        compared.draw,
        lambda analysis, _: compared.message(analysis),
    ),
    Plate(
        "ratios",
        "Every strategy by the best",
        "A row is a strategy, in tiers: a line lies between those that were shown to be worse than one above and the "
        "tier above. A point says how many times the best is better, its bar the limits, within rounds, that hold for "
        "all pairs of a panel together (95 %). = is equal, within the grey zone; ? is not decided. A hollow point is a "
        "bound. Of many places those of the most connections are shown; `iobench report RUN --baseline NAME` compares "
        "with one that you choose.",
        ratios.rows(""),
        ratios.draw,
        lambda _, found: ratios.message(found),
    ),
    Plate(
        "throughput",
        "Throughput over connections",
        "Higher is better. A point is the median of the repeats. How far strategies lie apart, and how surely, is in "
        "the figure above: a machine drifts, and they are compared within rounds. Hollow points are not to be taken as "
        "they stand: where the client was the limit, a throughput is a lower bound.",
        throughput.rows,
        throughput.draw,
        _leaders("rate_hz"),
    ),
    Plate(
        "heat",
        "Throughput at a glance",
        "A row is a strategy, a column a number of connections of one setting, a value the median of the repeats. The "
        "darker a cell, the nearer to the highest of its column, which is bold. A frame without colour is a value that "
        "is not to be taken as it stands.",
        heat.rows,
        heat.draw,
        lambda _, found: heat.message(found),
    ),
    Plate(
        "response",
        "Response time over connections",
        "Lower is better; both axes are logarithmic. A point is the percentile of the merged histogram of all "
        "repeats. An arrow up marks a lower bound.",
        response.rows,
        response.draw,
        lambda _, found: response.message(found),
        each=("metric",),
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
        lambda _, found: " ".join(capacity.front_sentences(found)),
        settings=PANEL,
    ),
    Plate(
        "latency",
        "Latency by percentile",
        "Lower is better; both axes are logarithmic, and to the right each step is a tenfold rarer event. A line is "
        "the sum of the histograms of all repeats. It ends where there are too few messages to tell a rarer "
        "percentile. Hollow markers are not to be taken as they stand: the figure says why.",
        latency.rows,
        latency.draw,
        _leaders("p99_us"),
        each=("connections",),
        where_planned="Where sends were planned, a line counts from the planned send, and the dotted one of its colour "
        "from the actual send: what lies between them, a measurement that forgets the plan leaves out.",
    ),
    Plate(
        "cpu",
        "Server CPU per message",
        "Shorter is better. Time in the interpreter and its libraries (user) and in the kernel (system), medians of "
        "the repeats. Hollow bars: it drifted within the window.",
        cpu.rows,
        cpu.draw,
        _leaders("cpu_us"),
        each=("connections",),
    ),
    Plate(
        "switches",
        "Context switches per message, in the sweep",
        "Shorter is better. Counted by the kernel over the measured windows. A voluntary switch is a sleep, which a "
        "wake-up ends: one wake-up may find many messages. An involuntary one is the CPU taken away while there was "
        "work to do. Medians of the repeats.",
        switches.rows,
        switches.draw,
        lambda _, found: switches.message(found),
        each=("connections",),
    ),
    Plate(
        "memory",
        "Memory per connection",
        "Further left is better; the axis is logarithmic. By how much the resident memory of the server’s processes "
        "grows with each connection: the median of the slopes between all pairs of trials (Theil and Sen). A page "
        "that several processes share counts in each. Hollow points: less than can be seen.",
        memory.rows,
        memory.draw,
        lambda _, found: memory.message(found),
    ),
    Plate(
        "descriptors",
        "Cost of an event over watched descriptors",
        "Lower is better; both axes are logarithmic. A level line (slope 0) does not depend on how many descriptors "
        "are watched; one of slope 1 rises in proportion to them. The slopes in the legends are fitted by least "
        "squares. A line ends where a strategy takes no more. Hollow: the client, not the server, was the limit.",
        descriptors.rows,
        descriptors.draw,
        lambda _, found: descriptors.message(found),
    ),
    Plate(
        "order",
        "Every trial in time order",
        "A point is a trial, in the order in which they were run; its height says how far its throughput is "
        "from the median of its case. A machine that stays the same gives a level band: a slope of the dark line, the "
        "running median, is drift, a point far off an outlier. Hollow points have a flag; "
        "trials without a figure stand at the foot.",
        order.rows,
        order.draw,
        _drift,
    ),
    Plate(
        "intervals",
        "Throughput within the window",
        "A line is one trial, interval by interval, above or below its own mean: level is a steady trial, a dip is a "
        "stall. Trials flagged unsteady are dark. Of a strategy with more than 20 trials the most uneven 20 are shown; "
        "`iobench report RUN --trial ID` draws one by itself.",
        intervals.rows,
        intervals.draw,
        lambda analysis, _: intervals.message(analysis),
    ),
    Plate(
        "why-calls",
        "System calls per message",
        "Shorter is better. Counted by the kernel, not timed: server and load share a CPU, so that a wake-up finds all "
        "messages that were sent at one go. A bar that would flatten the others is drawn shorter (…).",
        why.rows(why.system_calls),
        why.draw_calls,
        lambda analysis, _: why.calls_message(analysis),
    ),
    Plate(
        "why-time",
        "User and kernel time per message",
        "Shorter is better. Time in the interpreter and its libraries (user) and in the kernel, while no calls were "
        "counted. The sum is exact; its parts are shared out by clock ticks.",
        why.rows(why.cpu_time),
        why.draw_time,
        lambda analysis, _: why.time_message(analysis),
    ),
    Plate(
        "why-switches",
        "Context switches per message",
        "Shorter is better. A voluntary switch is a sleep, which a wake-up ends; an involuntary one is the CPU taken "
        "away while there was work to do.",
        why.rows(why.switches),
        why.draw_switches,
        lambda analysis, _: why.switches_message(analysis),
    ),
)


BY_BASELINE = (
    "Right of the line is better. A row is a strategy, in tiers: a line lies between those that were shown to be worse "
    "than one above and the tier above. A point says how many times as good as the baseline it is (in CPU and latency: "
    "how many times less), its bar the limits, within rounds, that hold for all pairs of a panel together (95 %). = is "
    "equal, within the grey zone; ? is not decided. A hollow point is a bound."
)
ANATOMY = Plate(
    "anatomy",
    "System calls of one echo",
    anatomy.HOW_TO_READ,
    lambda analysis: anatomy.rows(analysis.run.manifest.anatomy),
    anatomy.draw,
    lambda _, found: anatomy.message(found),
)


def _as_wanted(chosen: Chosen) -> Iterator[Plate]:
    """The plates with another baseline, and after those of all trials that of the chosen ones."""
    for plate in PLATES:
        if plate.name == "ratios" and chosen.baseline:
            yield replace(
                plate,
                title=f"Every strategy by {chosen.baseline}",
                how_to_read=BY_BASELINE,
                rows=ratios.rows(chosen.baseline),
            )
        else:
            yield plate
        if plate.name == "intervals":
            yield Plate(
                "chosen",
                "Throughput of chosen trials",
                "Each step is an interval of the window, the broken line the mean of the whole. Hollow points: the "
                "trial has a flag.",
                chosen_trials.rows(chosen.trials),
                chosen_trials.draw,
                lambda _, found: chosen_trials.message(found),
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
        lambda *_: lab.message(chart),
    )


def plates(analysis: Analysis, chosen: Chosen) -> list[Plate]:
    """Every figure that there could be of this run, in the order of the page."""
    return [*_as_wanted(chosen), ANATOMY, *_of_the_lab(analysis)]


def pictures(
    analysis: Analysis,
    chosen: Chosen | None = None,
    mine: Callable[[str], bool] = lambda name: True,
    first: Sequence[str] = (),
) -> Iterator[Drawn]:
    """Draw every figure that the run has data for, with the baseline and the trials that were chosen.

    `mine`: asked once for each name whether to draw it. They come in the order of the page, but for those named in
    `first`.
    """
    all_looks = looks(analysis.estimates["strategy"])
    for plate in sorted(plates(analysis, chosen or Chosen()), key=lambda plate: plate.name not in first):
        if not mine(plate.name):
            continue
        found = plate.rows(analysis)
        if found.empty:
            continue
        shown, note = bounded(found, plate.settings, plate.each)
        yield Drawn(
            plate.name,
            plate.title,
            plate.message(analysis, found),
            " ".join(filter(None, (plate.explained(analysis), note))),
            picture(partial(plate.draw, shown, all_looks), plate.name),
        )


def bounded(
    rows: pd.DataFrame, settings: Sequence[str] = SETTING, each: Sequence[str] = ()
) -> tuple[pd.DataFrame, str]:
    """Give the rows of as many settings as there is room for, and what is to be said where there are more."""
    if not {*settings, *each} <= set(rows.columns):
        return rows, ""
    sizes = rows.groupby(list(settings)).size()
    numbers = rows[[*settings, *each]].drop_duplicates().groupby(list(settings)).size()
    fitting = [(numbers.cumsum() <= MOST_PANELS).sum(), (sizes.cumsum() <= MOST_ROWS).sum()]
    room = max(1, min(MOST_SETTINGS, *map(int, fitting)))
    if len(sizes) <= room:
        return rows, ""
    kept = sizes.index[:room].to_frame(index=False)
    drawn = f"first {room} of {len(sizes):,} settings are" if room > 1 else f"first of {len(sizes):,} settings is"
    return rows.merge(kept, on=list(settings)), f"The {drawn} drawn; the tables have all of them."
