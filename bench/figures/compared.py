"""Of a comparison of runs: by how much each shared case is worse or better, as a forest plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analyse import Analysis
from bench.compare import BETTER, EQUAL, WORSE, Effect, case_titles, effects, labels_of, summaries
from bench.comparisons import WITHIN
from bench.figures import forest
from bench.figures.style import Look
from bench.stats import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 60  # effects; of more, those that differ most
COLUMNS = ["group", "label", "ratio", "low", "high", "noise", "limit", "verdict"]
JUDGED = {WORSE: "regressed", BETTER: "ok", EQUAL: "ok"}


def rows(analysis: Analysis) -> pd.DataFrame:
    """Give what the forest plot takes: a row for each effect with an interval, by how many times the other is worse.

    Empty where the run is no comparison.
    """
    if not analysis.run.manifest.compared:
        return pd.DataFrame(columns=COLUMNS)
    found = [(effect, ratio) for effect in effects(analysis) if (ratio := _worse(effect)) is not None]
    if len(found) > MOST:
        told = sorted(found, key=lambda it: -abs(math.log(it[1].estimate)))[:MOST]
        found = [one for one in found if any(one is other for other in told)]
    titles = case_titles([effect.case for effect, _ in found])
    several = len(labels_of(analysis)) > 2
    table: list[dict[str, Any]] = [
        {
            "group": title.replace("`", ""),
            "label": f"{effect.metric.title} ({effect.other})" if several else effect.metric.title,
            "ratio": ratio.estimate,
            "low": ratio.low,
            "high": ratio.high,
            "noise": 1 + WITHIN,
            "limit": math.nan,
            "verdict": JUDGED.get(effect.verdict, "inconclusive"),
        }
        for title, (effect, ratio) in zip(titles, found, strict=True)
    ]
    return pd.DataFrame(table, columns=COLUMNS)


def _worse(effect: Effect) -> Interval | None:
    """The ratio turned so that above 1 is worse; None where there is no interval, or only a bound."""
    ratio = effect.ratio
    if ratio is None or ratio.low == 0 or math.isinf(ratio.high):
        return None
    if not effect.metric.higher_is_better:
        return ratio
    return Interval(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low, ratio.level)


def draw(table: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Draw a forest plot. Takes what `rows` gives."""
    return forest.draw(table, "other run by first")


def message(analysis: Analysis) -> str:
    """Say in how many cases each run is better or worse."""
    return " ".join(summaries(effects(analysis)))
