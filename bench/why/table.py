"""The counts of strategies side by side, for a terminal of 80 columns: as many strategies in a table as fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from bench.why.counts import (
    FAULTS,
    SWITCHES_INVOLUNTARY,
    SWITCHES_VOLUNTARY,
    WAIT,
    Counts,
    Point,
    agrees,
    apart,
    calls,
    counted,
    cpu_parts_ns,
    errors,
    messages_a_wakeup,
    metric,
    per_connection,
    time_ns,
    total,
)
from bench.why.words import TOLD, number, where

WIDTH = 80
LABEL = 22
FIELD = 6
NONE = "–"

Figure = Callable[[Point], float | None]


def show(all_counts: Sequence[Counts], console: Console) -> None:
    """Print the tables."""
    for group in _groups(all_counts):
        bursts = sorted({point.burst for counts in group for point in counts.points})
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=True)
        table.add_column("", width=LABEL, no_wrap=True)
        for counts in group:
            heading = "\n".join(filter(None, [counts.strategy, where(counts)]))
            table.add_column(heading, width=_width(counts), no_wrap=True, justify="right", header_style="bold")
        for label, cells in _rows(group, bursts):
            table.add_row(label, *cells)
        console.print(table)
        console.print()


def _width(counts: Counts) -> int:
    wanted = max(FIELD * len(counts.points), len(counts.strategy), len(where(counts)))
    return min(wanted, WIDTH - LABEL - 2)


def _groups(all_counts: Sequence[Counts]) -> Iterator[list[Counts]]:
    group: list[Counts] = []
    for counts in all_counts:
        if group and LABEL + 1 + sum(_width(one) + 1 for one in [*group, counts]) > WIDTH:
            yield group
            group = []
        group.append(counts)
    if group:
        yield group


def _rows(group: Sequence[Counts], bursts: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    def row(label: str, figure: Figure) -> tuple[str, list[str]]:
        return label, [_cells(counts, bursts, lambda point: _text(figure(point))) for counts in group]

    points = [point for counts in group for point in counts.points]
    yield "messages a wake-up", [_cells(counts, bursts, lambda point: f"{point.burst}") for counts in group]
    yield "", []
    yield row("[bold]system calls[/]", total)
    for name in _names(points, calls):
        yield row(f"  {name}", lambda point, name=name: calls(point).get(name, 0.0) if counted(point) else None)  # type: ignore[misc]
    for name in _names(points, errors):
        yield row(f"  = {name}", lambda point, name=name: errors(point).get(name, 0.0) if counted(point) else None)  # type: ignore[misc]
    yield "  two passes agree", [_cells(counts, bursts, _agreement) for counts in group]
    yield row("messages a sleep", messages_a_wakeup)
    yield row("switches, voluntary", lambda point: metric(point, SWITCHES_VOLUNTARY))
    yield row("switches, involuntary", lambda point: metric(point, SWITCHES_INVOLUNTARY))
    yield row("CPU, user µs", lambda point: _part_us(point, 0))
    yield row("CPU, kernel µs", lambda point: _part_us(point, 1))
    yield row("run-queue wait µs", lambda point: _us(time_ns(point, WAIT)))
    yield row("minor faults", lambda point: metric(point, FAULTS))
    yield "threads a connection", [_text(per_connection(counts, "threads")) for counts in group]
    yield "kB RSS a connection", [_kilobytes(per_connection(counts, "rss_bytes")) for counts in group]


def _names(points: Sequence[Point], figures: Callable[[Point], dict[str, float]]) -> list[str]:
    """The names of some account, the most frequent anywhere first."""
    most: dict[str, float] = {}
    for point in points:
        for name, value in figures(point).items():
            most[name] = max(most.get(name, 0.0), value)
    return [name for name in sorted(most, key=lambda name: (-most[name], name)) if most[name] >= TOLD]


def _cells(counts: Counts, bursts: Sequence[int], text: Callable[[Point], str]) -> str:
    by_burst = {point.burst: point for point in counts.points}
    return "".join(f"{text(by_burst[burst]) if burst in by_burst else NONE:>{FIELD}}" for burst in bursts)


def _text(value: float | None) -> str:
    return NONE if value is None else number(value)


def _kilobytes(value: float | None) -> str:
    return NONE if value is None else number(max(0.0, value) / 1000)


def _us(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / 1000


def _part_us(point: Point, which: int) -> float | None:
    parts = cpu_parts_ns(point)
    return None if parts is None else parts[which] / 1000


def _agreement(point: Point) -> str:
    return NONE if apart(point) is None else "yes" if agrees(point) else "no"
