"""The gate as a page: the verdict in words, the forest plot, every comparison, every pair in time order."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pandas as pd

from bench import templating
from bench.figures import forest, pairs
from bench.figures.style import THEME, Picture, picture
from bench.gate.decide import BY_NAME, FAILED, Settings, log_ratios
from bench.gate.model import CALLS, CPU, UNBOUNDED, Gate
from bench.gate.show import words
from bench.page import facts


def render(gate: Gate) -> tuple[str, dict[str, bytes]]:
    """Give the page and its figures by name of the file."""
    drawn: dict[str, Picture] = {}
    effects = effect_rows(gate)
    if len(effects):
        drawn["forest"] = picture(partial(forest.draw, effects), "forest")
    strip = pair_rows(gate)
    if len(strip):
        drawn["pairs"] = picture(partial(pairs.draw, strip), "pairs")
    environment = templating.environment()
    html = environment.get_template("gate.html.j2").render(_content(gate, drawn)) + "\n"
    files = {f"{name}.svg": one.svg.encode() for name, one in drawn.items()}
    return html, files | {f"{name}.png": one.png for name, one in drawn.items()}


def _content(gate: Gate, drawn: dict[str, Picture]) -> dict[str, Any]:
    return {
        "theme": THEME,
        "gate": gate,
        "title": f"{words.side(gate.base)} → {words.side(gate.head)}",
        "headline": words.headline(gate),
        "summary": words.summary(gate),
        "rows": words.rows(gate),
        "dropped": words.dropped(gate),
        "found": words.could_have_found(gate),
        "drawn": drawn,
        "facts": [
            ("Machine", facts(gate.host)),
            ("Versions", facts(gate.versions)),
            (
                "Gate",
                facts(
                    {
                        "command": " ".join(gate.command),
                        "created": gate.created,
                        "sweep": gate.sweep,
                        "allowed": words.allowed(gate),
                        "level of significance": gate.alpha,
                        "budget of a case, s": gate.budget_s,
                        "seed": gate.seed,
                        "took, s": round(gate.wall_s, 1),
                    }
                ),
            ),
        ],
    }


def effect_rows(gate: Gate) -> pd.DataFrame:
    """What the forest plot takes: a row for each result that has a ratio with an interval."""
    settings = Settings(gate.max_regression, gate.alpha, gate.allowed)
    return pd.DataFrame(
        [
            {
                "group": result.case,
                "label": words.metric_title(result),
                "ratio": result.ratio,
                "low": result.low,
                "high": result.high,
                "noise": result.detectable,
                "limit": settings.limit(BY_NAME[result.metric]),
                "verdict": words.row(result).verdict,
            }
            for result in gate.results
            if result.metric not in (FAILED, CALLS.name) and result.low > 0 and result.high < UNBOUNDED
        ]
    )


def pair_rows(gate: Gate) -> pd.DataFrame:
    """What the strip of pairs takes: a row for each pair that was not a failure, in time order."""
    rows = []
    for order, pair in enumerate(gate.pairs, start=1):
        base, head = pair.base.metrics.get(CPU.name, 0.0), pair.head.metrics.get(CPU.name, 0.0)
        if pair.round and base > 0 and head > 0:
            ratio = math.exp(log_ratios(CPU, [base], [head])[0])
            rows.append({"order": order, "case": pair.case, "ratio": ratio, "dropped": bool(pair.disturbed)})
    return pd.DataFrame(rows)
