"""How every figure looks: the colours of both themes, one look for each strategy, axes, panels, margin labels, and how
a figure becomes SVG and PNG.

Matplotlib draws with the light theme's colours. In the SVG these become CSS variables, so that a page can change theme.
No figure is drawn here, and no data is read.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.figures.marks import put_back, set_apart
from bench.words import duration_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# CSS variable -> (light, dark). No two light colours are equal: they are found again in the SVG by their value.
THEME = {
    "--ink": ("#1c2430", "#e6e9ef"),
    "--quiet": ("#5b6573", "#a3adba"),
    "--line": ("#d9dee5", "#343c48"),
    "--paper": ("#ffffff", "#14181f"),
    # Nine colours, 3:1 or more against the paper of their theme and as far apart as they go, to trichromats and (by
    # the model of Machado, Oliveira, Fernandes 2009) to protanopes and deuteranopes. Each keeps its hue in both themes.
    "--s0": ("#6b8ce9", "#abc1f9"),
    "--s1": ("#73266a", "#c348b4"),
    "--s2": ("#2b29ac", "#5a6cfc"),
    "--s3": ("#349fab", "#94f0fc"),
    "--s4": ("#ab4779", "#c487a2"),
    "--s5": ("#607320", "#c7ea52"),
    "--s6": ("#4b54df", "#8699f7"),
    "--s7": ("#aa895c", "#e3a13b"),
    "--s8": ("#6d3618", "#ce5e19"),
    "--user": ("#2f6fb3", "#6aa9e9"),
    "--system": ("#e2a04a", "#e6b06a"),
    "--failed": ("#b3261e", "#f2827b"),
}
INK, QUIET, LINE, PAPER, USER, SYSTEM = (
    THEME[name][0] for name in ("--ink", "--quiet", "--line", "--paper", "--user", "--system")
)
SERIES = tuple(light for name, (light, _) in THEME.items() if re.fullmatch(r"--s\d", name))
# Matplotlib's name of a marker -> its outline, as the path of an SVG.
OUTLINES = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "s": "M-3.7 -3.7h7.4v7.4h-7.4z",
    "^": "M0 -4.2L4.2 4H-4.2z",
    "D": "M0 -5L5 0L0 5L-5 0z",
    "v": "M0 4.2L4.2 -4H-4.2z",
    "P": "M-1.5 -4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
    "X": "M0 -2L2 -4L4 -2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0L-4 -2L-2 -4z",
    "<": "M-4.2 0L4 -4.2V4.2z",
    ">": "M4.2 0L-4 -4.2V4.2z",
}
MARKERS = tuple(OUTLINES)
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.5, 2.5)))

# Why a point is drawn hollow -> what the figure says of it.
HOLLOW = {
    "client_bound": "the client was the limit",
    "lagging_schedule": "sends lagged behind their plan",
    "unsteady": "drifted within the window",
    "censored": "messages were unfinished, a lower bound",
    "standstill": "no echo came for a while",
    "disturbed": "others had the CPUs",
    "throttled": "a CPU quota was used up",
    "shared_core": "server and load shared a core",
    "too_few": "too few messages for p99",
}
# What has no value, and is drawn where no value can be -> the sign in its hollow marker.
ABSENT = {"failed": "x", "unavailable": "_"}

RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # no axis above: no need to look for one at each drawing
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "figure.dpi": 160,  # of the PNG
    "axes.facecolor": "none",
    "text.hinting": "no_hinting",  # at 160 dots per inch not seen, and a text is drawn sooner
    "text.parse_math": False,  # a dollar in a name is a dollar
}
FONTS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
WIDTH_IN = 10.0
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # XML 1.0 has no way to write these (2.2, Char)


@dataclass(frozen=True)
class Look:
    """How one strategy is drawn in every figure."""

    color: str
    marker: str
    dashes: Any


UNMEASURED = Look(QUIET, "o", "solid")  # of a strategy without any figure: it has no colour


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Give each name a look of its own: colour, marker and dashes, which differ together for the first nine.

    Equal sets of names get equal looks. After nine the colours come again with another marker and other dashes.
    """
    found = {}
    for index, name in enumerate(sorted(set(names))):
        turn = index // len(SERIES)
        color = SERIES[index % len(SERIES)]
        marker = MARKERS[(index + 2 * turn) % len(MARKERS)]
        found[name] = Look(color, marker, DASHES[turn % len(DASHES)])
    return found


def panels(
    count: int, columns: int, height_in: float, below_in: float = 0.0, *, one_scale: bool = True
) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` equal panels, perhaps on one scale of y, so many side by side, with room below."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    from bench.figures.panel import Panel  # noqa: PLC0415

    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH_IN, height_in * rows + below_in))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.08, wspace=0.04, hspace=0.06))
    kind = {"axes_class": Panel} if count > 1 else {}
    grid = figure.subplots(rows, columns, squeeze=False, sharey=one_scale, subplot_kw=kind)
    axes = list(grid.ravel())
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def name_panel(axes: Axes, text: str, loc: Literal["right"] | None = None) -> None:
    """Write the panel's title, in as many lines as its width takes; at the right where it has names at its left."""
    from textwrap import fill  # noqa: PLC0415

    grid = axes.get_subplotspec()
    columns = grid.get_gridspec().ncols if grid else 1
    axes.set_title(fill(text, int(WIDTH_IN * 11.5 / columns) - 2), loc=loc)


def columns_for(counts: int) -> int:
    """Give how many panels to set side by side so that a row holds one setting at all numbers of connections."""
    return counts if counts in (2, 3, 4) else 3


def count_axis(axes: Axes, counts: Sequence[int], label: str) -> None:
    """Make x logarithmic, with a tick at each count there is and nowhere else."""
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(counts)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(counts) / 1.25, max(counts) * 1.25)
    axes.set_xlabel(label)


def plain_numbers(axes: Axes, axis: str) -> None:
    """Label an axis with whole numbers, thousands as k."""
    which = axes.xaxis if axis == "x" else axes.yaxis
    which.set_major_formatter(lambda value, _: f"{value / 1000:,.3g}k" if abs(value) >= 1000 else f"{value:.3g}")


def duration_axis(axes: Axes, values_us: Iterable[float]) -> None:
    """Make y logarithmic and label it with durations in the units that suit them, seldom enough to be read."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415

    found = [value for value in values_us if value > 0]
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(found) < 1000 * min(found) else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: duration_text(value, "{:g}".format))


def scatter(
    axes: Axes,
    strategy: str,
    look: Look,
    at: tuple[pd.Series[Any], pd.Series[Any]],
    *,
    hollow: pd.Series[bool],
    says: Sequence[str],
    **style: Any,
) -> None:
    """Draw a strategy's points (all x, all y), the full ones as one artist and the hollow ones as another."""
    for which, face in ((~hollow, look.color), (hollow, PAPER)):
        if which.any():
            shown = (values[which] for values in at)
            (drawn,) = axes.plot(*shown, ls="", marker=look.marker, color=look.color, mfc=face, **style)
            mark(drawn, strategy, [text for text, here in zip(says, which, strict=True) if here])


def rising(axes: Axes, at: tuple[float, float], look: Look, strategy: str) -> None:
    """Set an arrow up on a point (x, y) that is a lower bound."""
    arrow = axes.annotate(
        "",
        xy=at,
        xytext=(0, 15),
        textcoords="offset points",
        arrowprops={"arrowstyle": "<-", "color": look.color, "lw": 1.2, "shrinkA": 0, "shrinkB": 3},
    ).arrow_patch
    if arrow is not None:
        mark(arrow, strategy)


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], all_looks: Mapping[str, Look]) -> None:
    """Write each line's name beside its last point (x, y), in a column right of the axes, none over another."""
    low, high = axes.get_ylim()
    height_points = axes.get_figure().get_figheight() * 72 * 0.8  # type: ignore[union-attr]
    step = 13.5 / height_points
    right = axes.get_xlim()[1]
    wanted = sorted(ends, key=lambda name: (ends[name][1], name))
    places = spread_out([(ends[name][1] - low) / (high - low) for name in wanted], step)
    furthest = max(x for x, _ in ends.values())
    for name, place in zip(wanted, places, strict=True):
        x, y = ends[name]
        look = all_looks[name]
        style: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "color": look.color}
        drawn: list[Artist] = [
            *axes.plot([1.045, 1.075], [place] * 2, ls=look.dashes, **style),
            *axes.plot(1.06, place, marker=look.marker, ms=5.5, **style),
            axes.text(1.085, place, shorten(name), transform=axes.transAxes, va="center"),
        ]
        if x == furthest:
            arrow = axes.annotate(
                "",
                xy=(1.04, place),
                xycoords="axes fraction",
                xytext=(right, y),
                textcoords="data",
                arrowprops={"arrowstyle": "-", "color": LINE, "lw": 0.8, "shrinkA": 2, "shrinkB": 0},
                annotation_clip=False,
            )
            if arrow.arrow_patch is not None:
                mark(arrow.arrow_patch, name)
        for artist in drawn:
            label(artist, name)


def mark(artist: Artist, strategy: str = "", says: Sequence[str] = ()) -> None:
    """Say whose an artist is and what each of its points shows: a text each, in the order of drawing.

    A page can then switch a strategy off in all figures at once, and tell the numbers of the point under the pointer.
    """
    artist.set_gid(json.dumps([strategy, *says]))


def label(artist: Artist, strategy: str) -> None:
    """Say which strategy an artist names: a page that switches it off leaves its name, to switch it on again."""
    artist.set_gid(json.dumps({"names": strategy}))


def name_rows(axes: Axes, names: Sequence[str], whose: Mapping[str, str] | None = None, *, lines: bool = False) -> None:
    """Let y have a row for each name, the first on top; the names stand at the left of the first column's panels.

    `whose`: the strategy of each name, where that is not the name itself. `lines`: with a line through each row.
    """
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=lines, axis="y")
    axes.tick_params(axis="y", length=0)
    grid = axes.get_subplotspec()
    if grid is None or grid.is_first_col():
        axes.set_yticks(range(len(names)), [shorten(name) for name in names])
        for text, name in zip(axes.get_yticklabels(), names, strict=True):
            label(text, whose[name] if whose else name)
    else:
        unnamed = [""] * len(names) if lines else []
        axes.set_yticks(range(len(unnamed)), unnamed)


def name_each_row(axes: Axes, rows: Sequence[tuple[str, str]], most: int, longest: int) -> None:
    """Let y have rows of its own, the first on top, with their names beside them: (name, its strategy).

    `most`: how many the fullest panel of the figure has, so that rows are as high in all of them.
    """
    axes.set_ylim(most - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.set_yticks(range(len(rows)), [shorten(name, longest) for name, _ in rows])
    for text, (_, strategy) in zip(axes.get_yticklabels(), rows, strict=True):
        label(text, strategy)


def absent(axes: Axes, x: float, look: Look, *, strategy: str, why: str, says: str, place: int = 0) -> None:
    """Draw at the foot of the axes what has no value: a hollow marker with the sign of ABSENT in it.

    `place`: how many there are below it, at the same x.
    """
    style: dict[str, Any] = {"color": look.color, "mfc": PAPER, "ls": "", "clip_on": False, "zorder": 4}
    for marker, size, words in ((look.marker, 7.5, [says]), (ABSENT[why], 3.5, [])):
        at, transform = (x, 0.045 * place), axes.get_xaxis_transform()
        (drawn,) = axes.plot(*at, transform=transform, marker=marker, ms=size, mew=1.1, **style)
        mark(drawn, strategy, words)


def explain(
    figure: Figure, reasons: Iterable[str] = (), *, shape: str = "o", drawn: Mapping[str, Artist] | None = None
) -> None:
    """Say above the panels what is drawn in another way than the rest, and why; nothing where nothing is.

    `reasons`: keys of HOLLOW and ABSENT, or flags that have no words there; each is told once. `shape` is that of what
    is hollow. `drawn`: what else there is to explain, such as a band -> how it looks.
    """
    from textwrap import fill  # noqa: PLC0415

    from matplotlib.lines import Line2D  # noqa: PLC0415

    def hollow(marker: str, size: float = 6.5) -> Line2D:
        return Line2D([], [], color=QUIET, marker=marker, mfc=PAPER, ls="", ms=size, mew=1.2)

    there = set(reasons) - {""}
    handles: dict[str, Any] = dict(drawn or {})
    flags = [flag for flag in HOLLOW if flag in there] + sorted(there - {*HOLLOW, *ABSENT})
    if flags:
        told = " – or ".join(HOLLOW.get(flag, flag.replace("_", " ")) for flag in flags)
        handles[fill(f"hollow: {told}", 110)] = hollow(shape)
    for reason, sign in ABSENT.items():
        if reason in there:
            handles[reason] = (hollow(shape, 7.5), hollow(sign, 3.5))
    if not handles:
        return
    columns = _fitting([max(map(len, text.splitlines())) for text in handles], 4)
    lines = -(-len(handles) // columns) + sum(text.count("\n") for text in handles)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.08 + 0.2 * lines)
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=columns, frameon=False, fontsize=8.5
    )


def spread_out(wanted: Sequence[float], step: float) -> list[float]:
    """Move places, given in rising order, as little as need be to keep any two a step apart and none below 0."""
    groups: list[tuple[float, int]] = []  # (centre, members) of runs of places that touch
    for place in wanted:
        centre, size = place, 1
        while groups and groups[-1][0] + groups[-1][1] * step / 2 > centre - size * step / 2:
            other, count = groups.pop()
            centre = (other * count + centre * size) / (count + size)
            size += count
            centre = max(centre, size * step / 2)
        groups.append((centre, size))
    return [centre + (i - (size - 1) / 2) * step for centre, size in groups for i in range(size)]


def _legend_columns(names: Sequence[str]) -> int:
    return _fitting([len(shorten(name)) for name in names], 5)


def _fitting(lengths: Sequence[int], most: int) -> int:
    """As many columns of texts of these lengths as fit the figure's width; each is as wide as its longest text."""
    for columns in range(min(most, len(lengths)), 1, -1):
        rows = -(-len(lengths) // columns)
        longest = [max(lengths[at : at + rows]) for at in range(0, len(lengths), rows)]
        if sum(0.75 + 0.088 * length for length in longest) <= WIDTH_IN:
            return columns
    return 1


def legend_height_in(names: Sequence[str]) -> float:
    """Give the height of a legend of these names."""
    return 0.2 * -(-len(names) // _legend_columns(names))


def legend(figure: Figure, names: Sequence[str], all_looks: Mapping[str, Look], lines: bool = True) -> None:
    """Name the lines, or the markers alone, in columns under the panels."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    handles = [
        Line2D(
            [], [], color=look.color, marker=look.marker, ls=look.dashes if lines else "", ms=5.5, label=shorten(name)
        )
        for name, look in ((name, all_looks[name]) for name in names)
    ]
    shown = figure.legend(handles=handles, loc="outside lower center", ncols=_legend_columns(names), frameon=False)
    for name, handle, text in zip(names, shown.legend_handles, shown.get_texts(), strict=True):
        label(text, name)
        if handle is not None:
            label(handle, name)


def swatch(look: Look) -> str:
    """Draw a strategy's line and marker, small, as the SVG of a page that sets the theme's variables."""
    color = next(f"var({variable})" for variable, (light, _) in THEME.items() if light == look.color)
    dashes = "" if isinstance(look.dashes, str) else " ".join(f"{1.8 * length:g}" for length in look.dashes[1])
    line = f"fill: none; stroke: {color}; stroke-width: 1.8; stroke-dasharray: {dashes or 'none'}"
    return (
        '<svg viewBox="0 0 26 12" width="26" height="12" aria-hidden="true" focusable="false">'
        f'<path d="M0 6H26" style="{line}"/>'
        f'<path d="{OUTLINES[look.marker]}" transform="translate(13 6)" style="fill: {color}"/></svg>'
    )


def shorten(name: str, longest: int = 30) -> str:
    """Keep a long name's beginning and end, on one line."""
    text = " ".join(name.split())
    return text if len(text) <= longest else f"{text[: longest - 9]}…{text[-8:]}"


@dataclass(frozen=True)
class Picture:
    """A drawn figure: `inline` for a page that sets the theme's variables, `svg` and `png` to stand alone."""

    inline: str
    svg: str
    png: bytes


def picture(draw: Callable[[], Figure], name: str) -> Picture:
    """Draw in this style and render what was drawn. The same figure gives the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    rc: Any = RC | {"svg.fonttype": "none", "svg.hashsalt": name}
    with mpl.rc_context(rc), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # in the SVG the browser's fonts have it
        figure = draw()
        # Laid out once, not for each format, and as the PNG is drawn: a text that has been measured need not be again.
        canvas = FigureCanvasAgg(figure)
        if figure.axes and (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
        figure.set_layout_engine(None)  # with "none" each format is drawn twice
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_facecolor(PAPER)
        png = _png(canvas)
    text = NO_XML.sub("\N{REPLACEMENT CHARACTER}", svg.getvalue().decode())
    return Picture(_inline(text, name), _alone(text), png)


def _png(canvas: Any) -> bytes:
    """Draw the figure of a FigureCanvasAgg, as PNG."""
    from PIL import Image  # noqa: PLC0415

    canvas.draw()
    drawn = Image.frombytes("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    png = io.BytesIO()
    drawn.convert("RGB").save(png, format="png", compress_level=3)  # a tenth larger than by default, in half the time
    return png.getvalue()


def _body(svg: str) -> str:
    """The <svg> element itself, without metadata and without rules that would hold for a whole page."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", svg)
    svg = re.sub(r"\s*<g id=(\"[^\"]*\"|'[^']*')/>", "", svg)
    return re.sub(r"<g id=(\"[^\"]*\"|'[^']*')>", "<g>", svg)


def _inline(svg: str, name: str) -> str:
    def themed(tags: str) -> str:
        tags = re.sub(r"font-family:[^;\"]*;?", "", _shorter(tags))
        tags = re.sub(r'( id="|"#|url\(#)', rf"\1{name}-", tags)  # several figures share one page, and its ids
        for variable, (light, _) in THEME.items():
            tags = tags.replace(light, f"var({variable})")
        return tags

    svg, marks = set_apart(svg)  # what an artist says is no markup to be themed
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'aria-hidden="true" focusable="false"', _body(svg), count=1)
    return put_back(_in_tags(svg, themed), marks)


def _shorter(tags: str) -> str:
    """Cut coordinates after the hundredth of a point."""
    return re.sub(r"(\.\d\d)\d+", r"\1", tags)


def _in_tags(svg: str, change: Callable[[str], str]) -> str:
    """Change what is between < and >, and no text: a strategy may be called anything.

    All tags go through `change` together, with a NUL between them: no XML has one.
    """
    pieces = re.split(r"(<[^>]*>)", svg)
    pieces[1::2] = change("\0".join(pieces[1::2])).split("\0")
    return "".join(pieces)


def _alone(svg: str) -> str:
    svg = _in_tags(_body(svg), lambda tags: re.sub(r"font-family:[^;\"]*", f"font-family: {FONTS}", _shorter(tags)))
    paper = f'<rect width="100%" height="100%" style="fill: {PAPER}"/>'
    end = svg.index(">") + 1
    return f"{svg[:end]}\n<style>*{{stroke-linejoin: round}}</style>{paper}{svg[end:]}"
