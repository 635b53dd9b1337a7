"""Every pair of a gate in time order: drift of the machine cancels out, outliers and dropped pairs are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from bench.figures import points
from bench.figures.style import PAPER, QUIET, legend, legend_height_in, looks, mark, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(pairs: pd.DataFrame) -> Figure:
    """Draw a strip of points. Columns: order, case, ratio (of CPU per message), dropped (drawn hollow)."""
    names = sorted(pairs["case"].unique())
    all_looks = looks(names)
    figure, (axes,) = panels(1, 1, 2.6, legend_height_in(names))
    axes.axhline(0, color=QUIET, lw=1)
    for name, own in pairs.groupby("case"):
        look = all_looks[str(name)]
        for dropped, part in own.groupby("dropped"):
            (drawn,) = axes.plot(
                part["order"],
                100 * (part["ratio"] - 1),
                ls="",
                marker=look.marker,
                ms=5,
                color=look.color,
                mfc=PAPER if dropped else look.color,
                mew=1.1,
            )
            what = "pair {:,}{}: head by base {:+.2f} %"
            mark(
                drawn,
                says=[
                    points.lines(str(name), what.format(order, " (dropped)" if dropped else "", 100 * (ratio - 1)))
                    for order, ratio in zip(part["order"], part["ratio"], strict=True)
                ],
            )
    reach = max(2.0, min(100.0, 100 * float((pairs["ratio"] - 1).abs().max()) * 1.1))
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g} %" if value else "0 %")
    axes.set_ylabel("CPU per message,\nhead by base")
    axes.set_xlabel("pair, in the order of execution")
    legend(figure, names, all_looks, lines=False)
    return figure
