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
from bench.history import otava, store
from bench.history.trend import BY_NAME, Trend, commit, is_worse, machines, newly_worse, sentence, too_short, trends
from bench.metrics import Metric
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


def history(options: Options) -> int:
    """Add a run or show them all; 1 where the newest change is for the worse and the user asked to fail on that."""
    if options.add:
        path = options.path / store.HISTORY_FILE if options.path.suffix != ".jsonl" else options.path
        run = options.add if options.add.is_dir() else path.parent / options.add
        entry = store.entry_of(read_run(run))
        store.add(path, entry)
        print(f"{entry.run} is in {path}: {len(entry.estimates)} estimates at {commit(entry)}")
        return 0
    for name in options.metrics:
        if name not in store.KEPT:
            raise BadInputError(
                f"No history is kept of {name!r}{did_you_mean(name, store.KEPT)}; of: {', '.join(store.KEPT)}.",
                f"iobench history --metric {store.KEPT[0]}",
            )
    entries = store.read(options.path)
    found = trends(entries, options.metrics, options.strategies)
    if not found:
        raise BadInputError("The history has none of these strategies.", f"iobench history {options.path}")
    _tell(entries, found)
    if options.otava:
        for path in otava.write(options.otava, found)[:1]:
            print(path)
    if options.out:
        print(_write_page(options.out, entries, found))
    return int(options.fail_on_change and any(map(newly_worse, found)))


def _tell(entries: Sequence[store.Entry], found: Sequence[Trend]) -> None:
    console = Console(highlight=False, markup=False, width=80)
    for text in machines(entries):
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


def _write_page(folder: Path, entries: Sequence[store.Entry], found: Sequence[Trend]) -> Path:
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
        machines=machines(entries),
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
