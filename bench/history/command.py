"""`iobench history`: runs over time, told on the terminal, on a page, and to Apache Otava."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench import one_step, templating
from bench.errors import BadInputError, did_you_mean
from bench.history import order, otava, store
from bench.history.trend import BY_NAME, Trend, commit, is_worse, machines, newly_worse, sentence, too_short, trends
from bench.metrics import Metric
from bench.processes import HOME
from bench.record import read_run
from bench.say import plain, say
from bench.words import digits

MOST_PANELS = 40  # of a figure: above, it is drawn without the last ones, and that is said
CHANGED_TEXT = "A change is one of level: it stays. A single run far off is none."


class Options(NamedTuple):
    """The command line; None and "" are what was not given."""

    path: Path
    add: Path | None
    metrics: Sequence[str]
    strategies: Sequence[str]
    otava: Path | None
    out: Path | None
    fail_on_change: bool
    like: Sequence[str] = ()


def history(options: Options) -> int:
    """Add a run, show them all, or both; 1 where the user asked to fail on a change, and the newest run shows one.

    A run that is added is the newest, whenever it was made. Raises BadInputError.
    """
    _check(options)
    newest = _added(options.path, options.add) if options.add else None
    if newest and not (options.fail_on_change or options.otava or options.out):
        return 0
    entries = store.alike(store.read(options.path), options.like)
    ranks = order.ancestry(entries, _checkouts(options.path))
    entries = order.in_order(entries, ranks)
    found = trends(entries, options.metrics, options.strategies)
    if not found:
        raise BadInputError("The history has none of these strategies.", f"iobench history {options.path}")
    about = [*machines(entries, options.like), *filter(None, [order.unordered(entries, ranks)])]
    _tell(about, found)
    if options.otava:
        for path in otava.write(options.otava, found)[:1]:
            print(path)
    if options.out:
        print(_write_page(options.out, entries, found, about))
    return _verdict(found, newest or max(map(store.made, entries))) if options.fail_on_change else 0


def _check(options: Options) -> None:
    """Raises BadInputError for a name that there is not, before anything is added."""
    for what, asked, known, example in (
        ("No history is kept of", options.metrics, store.KEPT, f"--metric {store.KEPT[0]}"),
        ("Machines can't be alike by", options.like, store.FACTS, f"--like {store.EXAMPLE}"),
    ):
        for name in asked:
            if name not in known:
                raise BadInputError(
                    f"{what} {name!r}{did_you_mean(name, known)}; of: {', '.join(known)}.", f"iobench history {example}"
                )


def _added(path: Path, run: Path) -> tuple[str, str]:
    """Add a run; gives when it was made. Raises BadInputError."""
    path = path / store.HISTORY_FILE if path.suffix != ".jsonl" else path
    entry = store.entry_of(read_run(run if run.is_dir() else path.parent / run))
    store.add(path, entry)
    print(f"{entry.run} is in {path}: {len(entry.estimates)} estimates at {commit(entry)}")
    return store.made(entry)


def _checkouts(path: Path) -> list[Path]:
    """Where to ask git for the order of commits: beside the history, here, and where iobench itself lies."""
    return [path if path.is_dir() else path.parent, Path(), HOME]


def _verdict(found: Sequence[Trend], newest: tuple[str, str]) -> int:
    """Name the changes that a run is the first to show; 1 where there is one."""
    news = [sentence(trend, change) for trend in found for change in newly_worse(trend, newest)]
    for text in news:
        say(f"Found first with the run {newest[1]}: {text}.", indent="  ")
    return int(bool(news))


def _tell(about: Sequence[str], found: Sequence[Trend]) -> None:
    console = Console(highlight=False, markup=False, width=80)
    for text in about:
        say(text)
    several = len({trend.machine for trend in found}) > 1
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("case", overflow="fold", max_width=38)
    for heading in ("metric", "runs", "newest", "changes"):
        table.add_column(heading, justify="left" if heading == "metric" else "right", no_wrap=True)
    for trend in found:
        marks = "".join("▲" if is_worse(trend, change) else "▽" for change in trend.changes)
        case = f"{trend.machine} {trend.case}" if several else trend.case
        newest = trend.points[-1].estimate.value
        table.add_row(
            plain(case), trend.metric.heading, str(len(trend.points)), shown(trend.metric, newest), marks or "–"
        )
    console.print(table)
    for trend in found:
        for change in trend.changes:
            say(f"{'▲' if is_worse(trend, change) else '▽'} {sentence(trend, change)}", indent="  ")
    for text in [too_short(found), CHANGED_TEXT if any(trend.changes for trend in found) else ""]:
        if text:
            say(text)


def shown(metric: Metric, value: float) -> str:
    """A value in the unit of its metric's heading."""
    return digits(value / 2**20 if metric.unit == "bytes" else value)


def _write_page(folder: Path, entries: Sequence[store.Entry], found: Sequence[Trend], about: Sequence[str]) -> Path:
    from bench.figures import history as figure  # noqa: PLC0415 - matplotlib is slow to import
    from bench.figures.style import THEME, picture  # noqa: PLC0415

    plates = []
    files: dict[str, bytes] = {}
    for metric in dict.fromkeys(trend.metric.name for trend in found):
        own = [trend for trend in found if trend.metric.name == metric]
        drawn = picture(partial(figure.draw, own[:MOST_PANELS]), f"history-{metric}")
        files[f"history-{metric}.svg"], files[f"history-{metric}.png"] = drawn.svg.encode(), drawn.png
        said = [sentence(trend, change) for trend in own for change in trend.changes]
        plates.append((f"history-{metric}", BY_NAME[metric], drawn, said, max(0, len(own) - MOST_PANELS)))
    environment = templating.environment()
    html = environment.get_template("history.html.j2").render(
        theme=THEME,
        plates=plates,
        about=about,
        runs=[(entry, commit(entry)) for entry in entries],
        changes=[(is_worse(trend, change), sentence(trend, change)) for trend in found for change in trend.changes],
        short=too_short(found),
    )
    files["history.html"] = html.encode()
    for name, content in files.items():
        try:
            folder.mkdir(exist_ok=True)
            one_step.write(folder / name, content)
        except OSError as error:
            raise BadInputError(f"{folder / name} can't be written: {error.strerror}.", f"ls -ld {folder}") from None
    return folder / "history.html"
