"""The axes of a figure with many panels: measured once for the layout, and a label that stays where that found it.

Matplotlib's constrained layout measures all axes twice, and each drawing measures the tick labels again to find room
for the axis labels. Of what stands around a panel here nothing depends on its size.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.transforms import Bbox, ScaledTranslation


class Panel(Axes):
    """Axes whose texts stand at the same distances from them, however large they become."""

    around: tuple[float, float, float, float] | None = None  # what stands out left, below, right and above, in pixels

    def get_tightbbox(self, renderer: RendererBase | None = None, *args: Any, **named: Any) -> Bbox | None:
        """Give what the panel takes with all around it, in pixels: measured the first time, added up after that."""
        if not named.get("for_layout_only"):
            return super().get_tightbbox(renderer, *args, **named)
        if self.around is None:
            whole = super().get_tightbbox(renderer, *args, **named)
            if whole is None:
                return None
            self._hold_labels()
            inner = self.bbox
            self.around = (inner.x0 - whole.x0, inner.y0 - whole.y0, whole.x1 - inner.x1, whole.y1 - inner.y1)
        self.apply_aspect()  # takes up the place that the layout has given it
        left, below, right, above = self.around
        inner = self.bbox
        return Bbox.from_extents(inner.x0 - left, inner.y0 - below, inner.x1 + right, inner.y1 + above)

    def _hold_labels(self) -> None:
        """Keep the axis labels at the distances from the axes at which they are now."""
        x, y = self.xaxis.label.get_position()
        self._hold(self.xaxis, x, 0, below=self.bbox.y0 - y)
        x, y = self.yaxis.label.get_position()
        self._hold(self.yaxis, 0, y, left=self.bbox.x0 - x)

    def _hold(self, axis: Axis, x: float, y: float, *, left: float = 0, below: float = 0) -> None:
        """Set a label to a point of the axes, and so many pixels left of it or below."""
        figure = self.get_figure(root=True)
        if figure is not None and axis.label.get_text():
            away = ScaledTranslation(-left / figure.dpi, -below / figure.dpi, figure.dpi_scale_trans)
            axis.set_label_coords(x, y, transform=self.transAxes + away)
