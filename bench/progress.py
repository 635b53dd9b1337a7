"""What the user sees while trials run: a live display on a terminal, plain lines elsewhere.

Drawing costs CPU time next to a measurement. So a display is drawn between two windows, and within a window once a
second at most, which short windows never see. All of it goes to standard error.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bench.plan import takes_s
from bench.record import Look, Record, Trial
from bench.say import plain
from bench.workloads import describe

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 80
MAX_COLUMNS = 5
MAX_HOSTS = 8
NS_PER_S = 1e9


class Progress(Protocol):
    """What a run tells of itself."""

    def note(self, text: str) -> None:
        """Say something before the first trial."""

    def round_starts(self, number: int, elapsed_s: float) -> None:
        """Of a run with a budget: a round begins, when so much of the budget is gone."""

    def looked(self, look: Look, leaders: str) -> None:
        """What the records have decided so far, and a line that says who is ahead."""

    def setting_starts(self, trials: Sequence[Trial]) -> None:
        """These trials are about to be measured: in turns, or one after another."""

    def tick(self) -> None:
        """The window is still open; about once a second."""

    def trial_ended(self, record: Record) -> None:
        """A trial has its record."""

    def host(self, name: str, doing: str, trouble: bool = False) -> None:
        """A host of the cluster, where there is one, does something else now."""

    def close(self) -> None:
        """No more will come."""


@dataclass
class _Together:
    """Trials that run together: when they began, how long they were planned to take, and how many have not ended."""

    began: float
    planned_s: float
    left: int


class Clock:
    """How many trials there are, and how long the rest will take: as planned, and by so much longer as those so far.

    `planned_s` has the time of each trial that can be run, by id, with that of the search which begins with it; the
    others take none. The steps of a search are not counted: how many there will be isn't known. So many trials as
    there are `machines` run at once. With a budget, the rest takes what is left of it.
    """

    def __init__(
        self, trials: Sequence[Trial], planned_s: Mapping[str, float], machines: int = 1, budget_s: float = 0.0
    ) -> None:
        self.total = len(trials)
        self._machines = machines
        self.ended = 0
        self.round = 0
        self._budget_s = budget_s
        self._budget_ends = time.monotonic() + budget_s
        self._waiting_s = dict(planned_s)
        self._run = 0
        self._longer_s = 0.0  # than planned, all that have run together
        self._under_way: dict[str, _Together] = {}

    def start_round(self, number: int, elapsed_s: float) -> None:
        """A round of a run with a budget starts now."""
        self.round = number
        self._budget_ends = time.monotonic() + self._budget_s - elapsed_s

    def start(self, trials: Sequence[Trial]) -> None:
        """Trials start now: one of them, or several that take turns."""
        planned_s = sum(takes_s(trial) for trial in trials if trial.id in self._waiting_s)
        together = _Together(time.monotonic(), planned_s, len(trials))
        self._under_way |= {trial.id: together for trial in trials}

    def end_trial(self, trial: Trial) -> None:
        """One has ended."""
        self.ended += not trial.slo
        self._run += self._waiting_s.pop(trial.id, None) is not None
        if (together := self._under_way.pop(trial.id, None)) is not None:
            together.left -= 1
            if not together.left and together.planned_s:
                self._longer_s += time.monotonic() - together.began - together.planned_s

    @property
    def place(self) -> str:
        """How far the run is, in a few words."""
        if self._budget_s:
            return f"round {self.round}"
        width = len(str(self.total))
        return f"{self.ended:{width}}/{self.total}"

    @property
    def share(self) -> float:
        """How far it is, from 0 to 1."""
        if self._budget_s:
            return min(1.0, max(0.0, 1 - self.left_s / self._budget_s))
        return self.ended / max(1, self.total)

    @property
    def left_s(self) -> float:
        """The time that the trials which have not ended will take."""
        if self._budget_s:
            return max(0.0, self._budget_ends - time.monotonic())
        longer_s = len(self._waiting_s) * self._longer_s / max(1, self._run)
        return max(0.0, sum(self._waiting_s.values()) + longer_s) / self._machines


class Figure(NamedTuple):
    """The two figures of a trial that are shown at once."""

    messages_per_s: float
    server_us_per_message: float | None


def figure(record: Record) -> Figure | None:
    """Throughput and the server's CPU time per message, for a trial that has them."""
    load, server = record.load, record.server
    if record.status != "ok" or load is None or server is None or load.closed_ns <= load.opened_ns:
        return None
    rate = load.completed / (load.closed_ns - load.opened_ns) * NS_PER_S
    cpu_ns, window_ns = server.metrics.get("cpu_ns"), server.closed_ns - server.opened_ns
    if cpu_ns is None or window_ns <= 0 or not rate:
        return Figure(rate, None)
    return Figure(rate, cpu_ns / window_ns / rate * 1e6)


class Lines:
    """One line a trial: for logs, pipes and CI."""

    def __init__(
        self,
        console: Console,
        trials: Sequence[Trial],
        planned_s: Mapping[str, float],
        machines: int = 1,
        budget_s: float = 0.0,
    ) -> None:
        self._console = console
        self._clock = Clock(trials, planned_s, machines, budget_s)

    def note(self, text: str) -> None:
        """Print it."""
        self._print(text)

    def round_starts(self, number: int, elapsed_s: float) -> None:
        """Nothing to print: each line says in which round it is."""
        self._clock.start_round(number, elapsed_s)

    def looked(self, look: Look, leaders: str) -> None:
        """Print it."""
        self._print(look_text(look, leaders))

    def setting_starts(self, trials: Sequence[Trial]) -> None:
        """Nothing to print: a trial's line comes when it has ended."""
        self._clock.start(trials)

    def tick(self) -> None:
        """Nothing to print."""

    def trial_ended(self, record: Record) -> None:
        """Print its figures, or what was wrong."""
        self._clock.end_trial(record.trial)
        where = f"  on {record.server_host}" if record.server_host and not record.load_hosts else ""
        self._print(
            f"[{self._clock.place}] {name(record.trial)}  {outcome(record)}{where}  {duration(self._clock.left_s)} left"
        )

    def host(self, name: str, doing: str, trouble: bool = False) -> None:
        """Print it where it is a trouble: a line for every step would be too many."""
        if trouble:
            self._print(f"host {name}: {doing}")

    def close(self) -> None:
        """Nothing is open."""

    def _print(self, text: str) -> None:
        self._console.print(plain(text), markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A display that is redrawn in place: the trial under way, figures so far, the time left; hosts of a cluster."""

    def __init__(
        self,
        console: Console,
        trials: Sequence[Trial],
        planned_s: Mapping[str, float],
        machines: int = 1,
        budget_s: float = 0.0,
    ) -> None:
        from rich.live import Live  # noqa: PLC0415 - wanted on a terminal only

        self._clock = Clock(trials, planned_s, machines, budget_s)
        self._hosts: dict[str, str] = {}
        self._rates: dict[tuple[str, int, str], list[float]] = defaultdict(list)
        self._strategies = sorted({trial.strategy for trial in trials})
        self._connections = sorted({trial.connections for trial in trials})[:MAX_COLUMNS]
        self._trial: Trial | None = None
        self._together: list[Trial] = []
        self._note = self._look = ""
        self._over = False
        self._troubles: list[str] = []
        # No thread of its own, hence no drawing at a moment that is not ours to choose.
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def note(self, text: str) -> None:
        """Show it until the first trial starts."""
        self._note = text
        self._draw()

    def round_starts(self, number: int, elapsed_s: float) -> None:
        """Count it; it is drawn with the first of its settings."""
        self._clock.start_round(number, elapsed_s)

    def looked(self, look: Look, leaders: str) -> None:
        """Show it until the next look."""
        self._look = look_text(look, leaders)
        self._draw()

    def setting_starts(self, trials: Sequence[Trial]) -> None:
        """Show what is about to run."""
        self._clock.start(trials)
        self._together, self._trial, self._note = list(trials), trials[0], ""
        self._draw()

    def tick(self) -> None:
        """Let the time move."""
        self._draw()

    def trial_ended(self, record: Record) -> None:
        """Take its figures in; they are drawn together with the next trial's start."""
        self._clock.end_trial(record.trial)
        found = figure(record)
        if found:
            self._rates[_cell(record.trial)].append(found.messages_per_s)
        elif record.status == "failed":
            self._troubles.append(plain(f"{name(record.trial)}  {outcome(record)}"))

    def host(self, name: str, doing: str, trouble: bool = False) -> None:
        """Show it beside the other hosts, and a trouble for longer."""
        self._hosts[name] = doing
        if trouble:
            self._troubles.append(f"host {name}: {doing}")
        self._draw()

    def close(self) -> None:
        """Leave the table, take the rest away."""
        self._over = True
        self._draw()
        self._live.stop()
        self._live.console.print()

    def _draw(self) -> None:
        self._live.update(self.picture(), refresh=True)

    def picture(self) -> RenderableType:
        """All that is shown, at most 80 columns wide."""
        from rich.console import Group  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        parts: list[RenderableType] = []
        if not self._over:
            parts.append(self._status())  # first: a terminal that is too low cuts the end off
            parts += [Text(text, style="red", overflow="ellipsis", no_wrap=True) for text in self._troubles[-3:]]
            parts += [Text(text, style="dim", overflow="ellipsis", no_wrap=True) for text in self._host_lines()]
            parts += [Text(self._look)] if self._look else []
        if self._trial is not None:
            what = f"\nmessages/s over connections, medians so far ({_setting(self._trial)})\n"
            parts += [Text(what, overflow="ellipsis", no_wrap=True), self._table(self._trial)]
        return Group(*parts)

    def _host_lines(self) -> list[str]:
        """What each host does; those beyond MAX_HOSTS are counted."""
        width = max(map(len, self._hosts), default=0)
        shown = [f"{name:{width}}  {doing}" for name, doing in list(self._hosts.items())[:MAX_HOSTS]]
        return shown + ([f"and {len(self._hosts) - MAX_HOSTS} more hosts"] if len(self._hosts) > MAX_HOSTS else [])

    def _table(self, now: Trial) -> RenderableType:
        """Median throughput so far, of the transport, message size and workload that are being measured."""
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, padding=(0, 1), pad_edge=False)
        table.add_column("strategy", no_wrap=True, max_width=22)
        for connections in self._connections:
            table.add_column(f"{connections:,}", justify="right", no_wrap=True, min_width=9)
        for strategy in self._strategies:
            cells = []
            for connections in self._connections:
                rates = self._rates[strategy, connections, _setting(now)]
                here = (strategy, connections) in {(one.strategy, one.connections) for one in self._together}
                under_way = here and not self._over
                value = f"{statistics.median(rates):,.0f}" if rates else ("..." if under_way else "")
                cells.append(Text(value, style="reverse" if under_way else ""))
            table.add_row(Text(plain(strategy)), *cells)  # text: a name such as [bold] is no markup
        return table

    def _status(self) -> RenderableType:
        from rich.text import Text  # noqa: PLC0415

        if self._trial is None:
            return Text(self._note)
        bar = "━" * round(self._clock.share * 20)
        line = Text()
        line.append(bar, style="green")
        line.append("─" * (20 - len(bar)), style="dim")
        line.append(f" {self._clock.place.strip()}, {duration(self._clock.left_s)} left: ")
        line.append(name(self._trial) if len(self._together) == 1 else together(self._together))
        line.truncate(WIDTH, overflow="ellipsis")
        return line


def for_console(
    console: Console,
    trials: Sequence[Trial],
    planned_s: Mapping[str, float],
    machines: int = 1,
    budget_s: float = 0.0,
) -> Progress:
    """A live display where the console is a terminal that can be redrawn, lines where it isn't."""
    live = console.is_terminal and not console.is_dumb_terminal
    return (LiveDisplay if live else Lines)(console, trials, planned_s, machines, budget_s)


def look_text(look: Look, leaders: str) -> str:
    """What is decided so far, and who is ahead, in a line or two."""
    text = f"After round {look.round}, {duration(look.elapsed_s)}: "
    text += f"{look.decided} of {look.comparisons} comparisons with the best are decided"
    return f"{text}{f'; {leaders}' if leaders else ''}."


def together(trials: Sequence[Trial]) -> str:
    """Trials of a setting, in a few words: how many, and what they have in common."""
    what = name(trials[0]).removeprefix(f"{trials[0].strategy} ").removeprefix(f"on {trials[0].python} ")
    return f"{len(trials)} strategies, {what}"


def name(trial: Trial) -> str:
    """A trial in a few words; the workload is only said where it isn't the plain closed loop."""
    workload = describe(trial)
    words = [
        trial.strategy,
        *([f"on {trial.python}"] if trial.python else []),
        trial.transport,
        f"x{trial.connections}",
        size(trial),
    ]
    return plain(" ".join([*words, *([workload] if workload != "closed" else []), f"#{trial.repeat}"]))


def size(trial: Trial) -> str:
    """The size of its messages."""
    return f"{trial.message_bytes} B" + (" mixed" if trial.sizes else "")


def outcome(record: Record) -> str:
    """What came of a trial, in a few words."""
    found = figure(record)
    if found is None:
        return f"{record.status}: {record.reason}"
    cpu = f"{found.server_us_per_message:.2f} us CPU/msg" if found.server_us_per_message is not None else ""
    held = "" if record.held is None else f"{record.trial.slo} {'held' if record.held else 'missed'}"
    return "  ".join(filter(None, [f"{found.messages_per_s:,.0f} msg/s", cpu, held, *record.flags]))


def duration(seconds: float) -> str:
    """Seconds, minutes and hours as people say them."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _cell(trial: Trial) -> tuple[str, int, str]:
    return (trial.strategy, trial.connections, _setting(trial))


def _setting(trial: Trial) -> str:
    return f"{describe(trial)}, {trial.transport}, {size(trial)}"
