"""How much load each strategy carries, in sentences: what searches for an objective found, and what the curves of
latency over offered load show.

Every function takes results and returns plain text, with names between backticks. Nothing is measured or drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from bench.load_curve import CURVE, PANEL, Bend
from bench.metrics import GROUP
from bench.record import Search
from bench.rows import dicts
from bench.words import digits, duration_text, joined, objective_text, percent, quoted, split, title

_OF_START = tuple(name for name in GROUP if name not in ("workload", "warmup_s", "duration_s"))


def rate_text(rate_hz: float) -> str:
    """Write a rate with its unit."""
    return f"{digits(rate_hz)} messages/s"


def search_headlines(searches: Sequence[Search]) -> list[tuple[str, list[str]]]:
    """Answer for each objective: what was asked, and who holds it at the highest rate, in each setting."""
    found = []
    for slo, same in groupby(sorted(searches, key=lambda it: it.slo), key=lambda it: it.slo):
        of_slo = list(same)
        starts = [_start(search) for search in of_slo]
        by_place: dict[str, list[Search]] = {}
        for search, start in zip(of_slo, starts, strict=True):
            by_place.setdefault(title(start, starts, otherwise=("connections",)), []).append(search)
        clauses = [f"{place}: {_highest(rivals)}" for place, rivals in by_place.items()]
        found.append((f"Highest rate that holds {objective_text(slo)}", clauses))
    return found


def _highest(rivals: Sequence[Search]) -> str:
    """Name those that hold the objective at the highest rate; where their last two rates overlap they can't be told."""
    ranked = sorted(rivals, key=lambda it: (-it.held_hz, it.start.strategy))
    best = ranked[0]
    if best.held_hz == 0:
        return "none, at any rate that was tried"
    level = [it for it in ranked if it.missed_hz == 0 or it.missed_hz > best.held_hz]
    names = joined([f"{quoted(it.start.strategy)} with {rate_text(it.held_hz)}" for it in level])
    return names + (", which the search can't tell apart" if len(level) > 1 else "")


def _start(search: Search) -> dict[str, Any]:
    return {name: getattr(search.start, name) for name in _OF_START}


def search_sentence(search: Search) -> str:
    """Say what one search found."""
    name, slo = quoted(search.start.strategy), objective_text(search.slo)
    unfinished = "" if search.finished else " The search was cut short; `iobench sweep --resume` goes on with it."
    if search.reason:
        return f"{name}: no answer, {search.reason.rstrip('.')}.{unfinished}"
    if search.held_hz == 0:
        tried = f" It was missed at {rate_text(search.missed_hz)}, the lowest rate tried." if search.missed_hz else ""
        return f"{name} held {slo} at no rate that was tried.{tried}{unfinished}"
    text = f"{name} held {slo} up to {rate_text(search.held_hz)}"
    if search.missed_hz == 0:
        return f"{text}, the highest rate that was tried.{unfinished}"
    limits = {
        "server": ", where the server was saturated",
        "client": ", where the client was saturated: the server may hold it at more",
        "latency": ", where neither side was short of CPU",
    }
    return f"{text} and missed it at {rate_text(search.missed_hz)}{limits.get(search.limit, '')}.{unfinished}"


def curve_title(curve: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> str:
    """Say how the setting of one curve differs from the others', the strategy apart."""
    bare = [{name: value for name, value in other.items() if name != "strategy"} for other in among]
    return title({name: curve[name] for name in CURVE if name != "strategy"}, bare, otherwise=("connections",))


def bend_headlines(found: Sequence[Bend]) -> list[tuple[str, list[str]]]:
    """Answer who keeps up with the highest rate, in each setting; nothing where no curve says so."""
    curves = [bend.curve for bend in found]
    best: dict[str, Bend] = {}
    rates: dict[str, float] = {}
    for bend in found:
        place = curve_title(bend.curve, curves)
        if bend.most and bend.most["offered_hz"] > rates.get(place, 0):
            best[place], rates[place] = bend, bend.most["offered_hz"]
    clauses = [
        f"{place}: {quoted(bend.curve['strategy'])} with {rate_text(bend.most['offered_hz'])}, "
        f"p99 {duration_text(bend.most['p99_us'])}"
        for place, bend in best.items()
        if bend.most
    ]
    return [("Highest rate that was kept up with", clauses)] if clauses else []


def bend_sentence(bend: Bend) -> str:
    """Say what one curve shows."""
    name, most, behind, knee = quoted(bend.curve["strategy"]), bend.most, bend.behind, bend.knee
    if most is None:
        return f"{name} kept up with none of the rates that were offered, or none that can be trusted."
    text = f"{name} keeps up with {rate_text(most['offered_hz'])} (p99 {duration_text(most['p99_us'])})"
    if behind is None:
        return f"{text}, the highest rate offered that can be trusted."
    text += f" and falls behind at {rate_text(behind['offered_hz'])}, of which it serves {_share(behind)}"
    if knee is None or knee["offered_hz"] >= most["offered_hz"]:
        return f"{text}; up to there its p99 rises more slowly than its throughput."
    return (
        f"{text}; the knee, where throughput by p99 is greatest, lies at {rate_text(knee['offered_hz'])} "
        f"(p99 {duration_text(knee['p99_us'])})."
    )


def _share(point: Mapping[str, Any]) -> str:
    return percent(point["achieved_hz"] / point["offered_hz"])


def front_sentences(points: pd.DataFrame) -> list[str]:
    """Name the strategies on the Pareto front of each panel, from the lowest latency to the highest throughput."""
    panels = split(points, PANEL)
    settings = [setting for setting, _ in panels]
    sentences = []
    for setting, rows in panels:
        text = _front(dicts(rows[rows["front"]].sort_values("p99_us")))
        where = title(setting, settings)
        sentences.append(f"{where}: {text}" if where else text)
    return sentences


def _front(ordered: Sequence[Mapping[Any, Any]]) -> str:
    names = list(dict.fromkeys(it["strategy"] for it in ordered))
    if not names:
        return "No point can be trusted enough to compare."
    if len(names) == 1:
        return f"Whatever the load, nothing that serves as much has a lower p99 than {quoted(names[0])}."
    lowest, most = ordered[0], ordered[-1]
    return (
        f"The front runs from {_at(lowest)} to {_at(most)}, over {joined([quoted(name) for name in names])}: each "
        "serves more than those before it, at a higher p99."
    )


def _at(point: Mapping[Any, Any]) -> str:
    return f"{duration_text(point['p99_us'])} at {rate_text(point['achieved_hz'])} ({quoted(point['strategy'])})"
