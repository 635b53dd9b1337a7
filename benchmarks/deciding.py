"""How far a sweep's answer can be believed on this machine: noise, bias, false answers, detection. Run by hand:

    python -m benchmarks.deciding record FOLDER --field equal      nine names for one server, and two that are slowed
    python -m benchmarks.deciding record FOLDER --field default    the default sweep's strategies
    python -m benchmarks.deciding record FOLDER --field bias       in turns and as whole trials, in one run
    python -m benchmarks.deciding record FOLDER --field hog        equal ones; a core is hogged in every other round
    python -m benchmarks.deciding tell FOLDER                      tables of what was recorded, and of replays

It records for twenty minutes, or `--minutes`.

FOLDER is a run folder like any other. A slowdown is truly injected: a copy of servers/ with a loop of known length
before each echo. A fresh sweep is judged on the rounds that come next, none of which is used twice; a replayed one on
rounds drawn from all of them. The machine should have nothing else to do meanwhile.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench import host
from bench.analyse import analyse
from bench.budget import LOOKS
from bench.catalogue import list_strategies
from bench.comparisons import Comparison, Contender, Pair, Rules, from_histograms, from_values, latency_hdr
from bench.events import signals_interrupt_waits
from bench.gate.study import spin, with_line
from bench.load_pool import LoadPool
from bench.metrics import CPU, P99, RATE
from bench.plan import Plan, make_plan
from bench.processes import HOME, Guard, environment, pinned
from bench.record import Manifest, Record, Run, StrategyInfo, Trial, append, read_run, write_manifest
from bench.run import measure_at_home
from bench.server import RunningServer, start_server
from bench.settings import Setting
from bench.sweep import Sweep, load_sweep

ORIGINAL = "epoll_lt"
COPIES = tuple(f"{ORIGINAL}_{number}" for number in range(1, 10))
SLOWED = {"slower_5": 0.05, "slower_10": 0.10}
FILE, LINE = "readiness.py", "                connection.echo_some()\n"
SIX = ("thread_per_connection", "nonblocking_polling", "select", "epoll_lt", "epoll_et", "asyncio_protocol")
WHOLE = "in a whole trial"
CALIBRATION_ROUNDS = 12
# Of a sweep of a minute, of the default one, where a round takes thirteen seconds, and of one of eight minutes.
SWEEP_ROUNDS = (4, 12, 36)
REPLAYS = 1000
PERCENTILE_REPLAYS = 100  # each takes a second
METRICS = (RATE, CPU, P99)
Floats = NDArray[np.float64]


# --- recording


@dataclass
class Bench:
    """What is measured with."""

    guard: Guard = field(default_factory=Guard)
    layout: host.CpuLayout = field(default_factory=host.choose_cpus)
    trees: dict[str, Path] = field(default_factory=dict)  # by name of a strategy: where its servers/ is, if not here

    def __post_init__(self) -> None:
        self.pool = LoadPool(self.guard, self.layout.load)
        self.known = {info.name: info for info in list_strategies()[0]}

    def start(self, trial: Trial) -> RunningServer:
        """A server by a name of this study. Raises ServerFailedError, Interrupted."""
        tree = self.trees.get(trial.strategy, HOME)
        info = self.known.get(trial.strategy, self.known[ORIGINAL])
        return start_server(info, trial.transport, self.layout.server, self.guard, env=environment(home=tree))

    def measure(self, setting: Setting, rates_hz: Mapping[str, float]) -> list[Record]:
        """The records of a setting."""
        return list(
            measure_at_home(setting, rates_hz, self.start, self.pool, shared_cpus=self.layout.shared, tick=_nothing)
        )


def _nothing() -> None:
    pass


def named(bench: Bench, names: Sequence[str]) -> list[StrategyInfo]:
    """What is known of strategies by the names of this study."""
    return [msgspec.structs.replace(bench.known.get(name, bench.known[ORIGINAL]), name=name) for name in names]


def planned(bench: Bench, names: Sequence[str], **changes: object) -> tuple[Sweep, Plan]:
    """The default sweep with these strategies."""
    sweep = msgspec.structs.replace(load_sweep("quick"), strategies=tuple(names), external=(), **changes)
    return sweep, make_plan(sweep, named(bench, names))


@contextmanager
def slowed(bench: Bench, turns: Mapping[str, int]) -> Iterator[None]:
    """Copies of servers/ in which a loop of so many turns stands before each echo, by name."""
    with ExitStack() as stack:
        for name, number in turns.items():
            bench.trees[name] = stack.enter_context(with_line(FILE, LINE, spin(number)))
        yield


def calibrated(bench: Bench) -> dict[str, int]:
    """How many turns of the loop slow a server by the shares of SLOWED: CPU per message at 16 connections, in turns."""
    per_turn = _slower(bench, 200) / 200
    found = {}
    for name, share in SLOWED.items():
        turns = max(1, round(share / per_turn))
        turns = max(1, round(turns - (_slower(bench, turns) - share) / per_turn))
        found[name] = turns
        print(f"{name}: {turns} turns, {_slower(bench, turns):+.1%} CPU", flush=True)
    return found


def _slower(bench: Bench, turns: int) -> float:
    """By what share a message costs more CPU with a loop of so many turns."""
    ratios = []
    _, plan = planned(bench, [ORIGINAL, "slower"], connections=(16,))
    with slowed(bench, {"slower": turns}):
        for number in range(1, CALIBRATION_ROUNDS + 1):
            (setting,) = plan.settings(plan.round(number))
            costs = {record.trial.strategy: value_of(record, CPU.name) for record in bench.measure(setting, {})}
            ratios.append(costs["slower"] / costs[ORIGINAL])
    slower = float(np.nanmedian(ratios)) - 1
    if math.isnan(slower):
        raise SystemExit("Every round was disturbed: this machine has too much else to do.")
    return slower


def record(folder: Path, what: str, minutes: float) -> None:
    """Measure rounds of a field of servers for so long, and append their records."""
    bench = Bench()
    deadline = time.monotonic() + 60 * minutes
    try:
        with pinned(bench.layout.harness), signals_interrupt_waits(), ExitStack() as stack:
            bench.pool.worker()
            if what in ("equal", "hog"):
                stack.enter_context(slowed(bench, calibrated(bench)))
            names = {"equal": (*COPIES, *SLOWED), "hog": COPIES, "bias": SIX, "default": ()}[what]
            changes: dict[str, object] = {"strategies": names} if names else {}
            if what == "bias":
                changes["workloads"] = load_sweep("load").workloads[:1]
            sweep = msgspec.structs.replace(load_sweep("quick"), **changes)
            _record(bench, folder, sweep, what, deadline)
    finally:
        bench.pool.end()
        bench.guard.close()


def _record(bench: Bench, folder: Path, sweep: Sweep, what: str, deadline: float) -> None:
    infos = named(bench, sweep.strategies)
    plan = make_plan(msgspec.structs.replace(sweep, workloads=_loads(what)), infos)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        sweep=msgspec.to_builtins(sweep) | {"looks": LOOKS, "field": what},
        strategies=infos,
        host=host.describe(bench.layout),
        versions=host.versions(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        command=host.command(),
    )
    write_manifest(folder, manifest)
    capacity: dict[tuple[str, int], float] = {}
    number = 0
    while time.monotonic() < deadline:
        number += 1
        settings = plan.settings(plan.round(number))
        hogging = hog(bench.layout.server[-1]) if what == "hog" and number % 2 else nullcontext()
        with hogging:
            for setting in settings:
                for how in _ways(setting, what):
                    rates = {trial.id: _rate(trial, capacity) for trial in how.trials}
                    for one in bench.measure(how, rates):
                        _note(capacity, one)
                        append(folder / "trials.jsonl", one)
        print(f"round {number}, {max(0.0, deadline - time.monotonic()):.0f} s left", flush=True)


def _loads(what: str) -> tuple[object, ...]:
    from bench.workloads import Closed, Open  # noqa: PLC0415

    return (Closed(), Open(load=(0.5,))) if what == "bias" else (Closed(),)


def _ways(setting: Setting, what: str) -> list[Setting]:
    """How a setting is measured: in turns, and where that is what is studied, as whole trials as well."""
    if what != "bias":
        return [setting]
    if setting.trials[0].load_fraction and setting.trials[0].connections != 16:
        return []
    whole = [msgspec.structs.replace(trial, duration_s=0.8, warmup_s=0.2) for trial in setting.trials]
    return [setting, Setting(whole, WHOLE)]


def _rate(trial: Trial, capacity: Mapping[tuple[str, int], float]) -> float:
    if not trial.load_fraction:
        return 0.0
    return trial.load_fraction * capacity.get((trial.strategy, trial.connections), 0.0)


def _note(capacity: dict[tuple[str, int], float], one: Record) -> None:
    """The first measurement of the closed loop is what rates are fractions of: the same for both ways."""
    if math.isfinite(value_of(one, RATE.name)) and one.trial.workload == "closed":
        capacity.setdefault((one.trial.strategy, one.trial.connections), value_of(one, RATE.name))


@contextmanager
def hog(cpu: int) -> Iterator[None]:
    """A process that does nothing but take a CPU."""
    process = subprocess.Popen(["taskset", "-c", str(cpu), sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


# --- telling


def value_of(one: Record, metric: str) -> float:
    """Throughput in messages/s, or CPU per message in us, of a good record; else NaN."""
    load, server = one.load, one.server
    if one.status != "ok" or load is None or server is None or "disturbed" in one.flags or not load.completed:
        return math.nan
    rate_hz = load.completed / (load.closed_ns - load.opened_ns) * 1e9
    if metric == RATE.name:
        return rate_hz
    return server.metrics.get("cpu_ns", math.nan) / (server.closed_ns - server.opened_ns) / rate_hz * 1e6


@dataclass(frozen=True)
class Table:
    """A setting of a recording: by metric, a row a name and a column a round; histograms likewise."""

    title: str
    names: list[str]
    values: dict[str, Floats]
    hdr: list[list[str]]

    def columns(self, chosen: Sequence[int]) -> Table:
        """The same with these rounds only."""
        values = {name: rows[:, chosen] for name, rows in self.values.items()}
        return Table(self.title, self.names, values, [[row[number] for number in chosen] for row in self.hdr])

    def centred(self) -> Table:
        """The same with what differs between the names' averages over all rounds taken out of their values.

        What is drawn from these has no differences but for chance. Histograms stay as they are.
        """
        logs = {name: np.log(rows) for name, rows in self.values.items()}
        own = {name: np.nanmean(rows - np.nanmean(rows, axis=0), axis=1, keepdims=True) for name, rows in logs.items()}
        values = {name: np.exp(rows - own[name]) for name, rows in logs.items()}
        return Table(self.title, self.names, values, self.hdr)

    def rows(self, names: Sequence[str]) -> Table:
        """The same with these names only."""
        chosen = [self.names.index(name) for name in names]
        values = {name: rows[chosen] for name, rows in self.values.items()}
        return Table(self.title, list(names), values, [self.hdr[row] for row in chosen])


def tables_of(run: Run) -> dict[tuple[bool, str], Table]:
    """A recording's settings, those of whole trials apart."""
    by: dict[tuple[bool, str], dict[tuple[str, int], Record]] = {}
    for one in run.records:
        trial = one.trial
        title = f"{trial.connections} connections" + (
            f", open at {trial.load_fraction:g}" if trial.load_fraction else ""
        )
        by.setdefault((one.whole == WHOLE, title), {})[trial.strategy, trial.repeat] = one
    found = {}
    for (whole, title), cells in sorted(by.items()):
        names = sorted({name for name, _ in cells})
        rounds = sorted({number for _, number in cells})
        values = {
            metric: np.array(
                [
                    [
                        value_of(cells[name, number], metric) if (name, number) in cells else math.nan
                        for number in rounds
                    ]
                    for name in names
                ]
            )
            for metric in (RATE.name, CPU.name)
        }
        hdr = [[_hdr(cells.get((name, number))) for number in rounds] for name in names]
        found[whole, title] = Table(title, names, values, hdr)
    return found


def _hdr(one: Record | None) -> str:
    return latency_hdr(one, bool(one.load and one.load.response_hdr)) if one and one.status == "ok" else ""


def compared(table: Table, metric: str, rules: Rules) -> Comparison:
    """The comparison of a table by one metric."""
    contenders = [Contender(name) for name in table.names]
    if metric == P99.name:
        return from_histograms(P99, {}, contenders, table.hdr, rules=rules)
    of = RATE if metric == RATE.name else CPU
    return from_values(of, {}, contenders, table.values[metric], rules=rules)


def tell_noise(tables: Mapping[tuple[bool, str], Table]) -> None:
    """Standard deviation of one round's logarithm, within rounds and as if rounds had nothing in common."""
    print("\nNoise of one round (standard deviation of the logarithm)\n")
    print("| setting | metric | names | rounds | as if independent | within rounds |\n|---|---|---|---|---|---|")
    for (whole, title), table in tables.items():
        for metric in (RATE.name, CPU.name):
            values = table.values[metric]
            logs = np.log(values[np.isfinite(values).all(axis=1)] if np.isfinite(values).any() else values)
            logs = logs[:, np.isfinite(logs).all(axis=0)]
            rows, rounds = logs.shape
            if rows < 2 or rounds < 2:
                continue
            own = logs - logs.mean(axis=1, keepdims=True)
            rest = own - own.mean(axis=0, keepdims=True)
            alone = math.sqrt((own**2).sum() / (rows * (rounds - 1)))
            within = math.sqrt((rest**2).sum() / ((rows - 1) * (rounds - 1)))
            how = f"{title}{', whole trials' if whole else ''}"
            print(f"| {how} | {metric} | {rows} | {rounds} | {alone:.1%} | {within:.1%} |")


def tell_overhead(run: Run) -> None:
    """What a recording's wall time went into."""
    timings = [one.timing for one in run.records if one.timing and one.whole != WHOLE]
    spent = {name: sum(getattr(timing, name) for timing in timings) for name in type(timings[0]).__struct_fields__}
    total = sum(spent.values())
    print(
        "\nWhere the time of turns goes: "
        + ", ".join(f"{name} {seconds / total:.1%}" for name, seconds in spent.items())
    )


def tell_equal(tables: Mapping[tuple[bool, str], Table], rng: random.Random) -> None:
    """False answers, equalities and coverage among names for one server; how often a slowed one is told."""
    equal = {title: table.rows([n for n in table.names if n in COPIES]) for (_, title), table in tables.items()}
    rounds = min(table.values[RATE.name].shape[1] for table in equal.values())
    slowed_names = [name for name in next(iter(tables.values())).names if name in SLOWED]
    print(f"\nNine names for one server: {len(equal)} settings, {rounds} rounds\n")
    print("| sweep of | sweeps | any false better | pairs equal within 5 % | intervals hold: rate | CPU | p99 |")
    print("|---|---|---|---|---|---|---|")
    for size in SWEEP_ROUNDS:
        fresh = [list(range(first, first + size)) for first in range(0, rounds - size + 1, size)]
        drawn = [rng.choices(range(rounds), k=size) for _ in range(REPLAYS)]
        for what, sweeps, metrics in (
            ("fresh", fresh, METRICS),
            ("replayed", drawn[:PERCENTILE_REPLAYS], METRICS),
            ("replayed, without p99", drawn, (RATE, CPU)),
        ):
            of = equal if what == "fresh" else {title: table.centred() for title, table in equal.items()}
            _tell_sweeps(of, size, what, sweeps, [metric.name for metric in metrics])
    for name in slowed_names:
        _tell_detection(tables, name, rounds, rng)


def _tell_sweeps(
    equal: Mapping[str, Table], size: int, what: str, sweeps: Sequence[Sequence[int]], metrics: Sequence[str]
) -> None:
    rules = Rules(families=len(equal) * len(METRICS), looks=LOOKS)
    replayed = what.startswith("replayed")
    truths = {(title, metric): compared(table, metric, rules) for title, table in equal.items() for metric in metrics}
    false = 0
    equals, pairs = 0, 0
    holds = dict.fromkeys(metrics, 0)
    for chosen in sweeps:
        wrong = False
        for title, table in equal.items():
            for metric in metrics:
                for look in range(1, LOOKS + 1):
                    part = chosen[: max(2, round(size * look / LOOKS))]
                    comparison = compared(table.columns(part), metric, rules)
                    wrong |= any(pair.outcome == "better" for pair in comparison.pairs)
                if metric != P99.name:
                    equals += sum(pair.outcome == "equal" for pair in comparison.pairs)
                    pairs += len(comparison.pairs)
                holds[metric] += all(
                    pair.ratio.contains(_true(truths[title, metric], pair) if replayed else 1.0)
                    for pair in comparison.pairs
                )
        false += wrong
    if sweeps:
        number = len(sweeps) * len(equal)
        told = " | ".join(f"{holds[name] / number:.1%}" if name in holds else "" for name in (m.name for m in METRICS))
        print(f"| {size} rounds, {what} | {len(sweeps)} | {false / len(sweeps):.1%} | {equals / pairs:.1%} | {told} |")


def _true(everything: Comparison, pair: Pair) -> float:
    """By what factor the one that is ahead in a replay is better, in all rounds that it was drawn from."""
    found = everything.pair(pair.ahead, pair.behind)
    return found.ratio.estimate if found.ahead == pair.ahead else 1 / found.ratio.estimate


def _tell_detection(tables: Mapping[tuple[bool, str], Table], name: str, rounds: int, rng: random.Random) -> None:
    """How often a slowed server is told from its original, in a field of nine: by each comparison, and by any of them.

    A sweep tells it where it calls the original better in at least one comparison, and the slowed one in none.
    """
    rules = Rules(families=len(tables) * len(METRICS), looks=LOOKS)
    fields = {title: table.rows([*COPIES[:8], name]) for (_, title), table in tables.items()}
    by = [(title, metric) for title in fields for metric in (RATE.name, CPU.name)]
    truly = [compared(fields[title], metric, rules).pair(COPIES[0], name).ratio.estimate - 1 for title, metric in by]
    print(f"\n{name}: told from its original in so many sweeps (a field of nine)\n")
    print("| sweep of | sweeps | by any | " + " | ".join(f"{title}, {metric}" for title, metric in by) + " |")
    print("|---|---|---|" + "---|" * len(by))
    print("| truly slower by | | | " + " | ".join(f"{slower:+.1%}" for slower in truly) + " |")
    for size in SWEEP_ROUNDS:
        fresh = [list(range(first, first + size)) for first in range(0, rounds - size + 1, size)]
        drawn = [rng.choices(range(rounds), k=size) for _ in range(REPLAYS // 5)]
        for what, sweeps in (("fresh", fresh), ("replayed", drawn)):
            told = [
                [_told(fields[title].columns(chosen), metric, rules, name) for title, metric in by] for chosen in sweeps
            ]
            shares = [sum(found == 1 for found in column) / len(sweeps) for column in zip(*told, strict=True)]
            by_any = sum(max(found) == 1 and min(found) == 0 for found in told) / len(sweeps)
            each = " | ".join(f"{share:.0%}" for share in shares)
            print(f"| {size} rounds, {what} | {len(sweeps)} | {by_any:.0%} | {each} |")


def _told(table: Table, metric: str, rules: Rules, name: str) -> int:
    """1 where a slowed server is called worse than its original, -1 where it is called better, else 0."""
    pair = compared(table, metric, rules).pair(COPIES[0], name)
    return 0 if pair.outcome != "better" else 1 if pair.behind == name else -1


def tell_bias(tables: Mapping[tuple[bool, str], Table]) -> None:
    """Ratios to epoll_lt in turns and in whole trials, and whether they agree."""
    print("\nRatios to `epoll_lt` (how many times better it is), in turns and in whole trials of 0.8 s\n")
    print("| setting | metric | strategy | in turns | in whole trials | turns / whole | agree |")
    print("|---|---|---|---|---|---|---|")
    for (whole, title), table in tables.items():
        if whole or (True, title) not in tables:
            continue
        for metric in (RATE.name, CPU.name):
            if "open" in title and metric == RATE.name:
                continue
            ways = [compared(each, metric, Rules()) for each in (table, tables[True, title])]
            for name in table.names:
                if name == ORIGINAL:
                    continue
                turns, trials = (_by(way, name) for way in ways)
                ratio = turns[0] / trials[0]
                agree = abs(math.log(ratio)) < math.log(1.03) or (turns[1] <= trials[2] and trials[1] <= turns[2])
                print(
                    f"| {title} | {metric} | {name} | {turns[0]:.3f} ({turns[1]:.3f} to {turns[2]:.3f}) | "
                    f"{trials[0]:.3f} ({trials[1]:.3f} to {trials[2]:.3f}) | {ratio:.3f} | {'yes' if agree else 'NO'} |"
                )


def _by(comparison: Comparison, name: str) -> tuple[float, float, float]:
    """By what factor ORIGINAL is better than another, with the limits."""
    pair = comparison.pair(ORIGINAL, name)
    low, high = pair.ratio.low, pair.ratio.high
    if pair.ahead == ORIGINAL:
        return pair.ratio.estimate, low, high
    return 1 / pair.ratio.estimate, 1 / high, 1 / low if low else math.inf


def tell_hog(run: Run) -> None:
    """What a sweep says of equal servers where a core was hogged for half of the rounds."""
    found = analyse(run).comparisons
    outcomes = [pair.outcome for comparison in found for pair in comparison.pairs]
    turns = [turn for one in run.records for turn in one.turns]
    print(
        f"\nWith a hog: {sum(bool(turn.disturbed) for turn in turns)} of {len(turns)} turns disturbed; of "
        f"{len(outcomes)} pairs {outcomes.count('better')} better, {outcomes.count('equal')} equal, "
        f"{outcomes.count('undecided')} not decided"
    )


def tell(folder: Path) -> None:
    """Print the tables of a recording."""
    run = read_run(folder)
    what = run.manifest.sweep.get("field")
    tables = tables_of(run)
    facts = run.manifest.host
    print(f"{what}: recorded {run.manifest.created}, {facts.get('cpu_model')}, {facts.get('cpus')} CPUs")
    tell_noise(tables)
    tell_overhead(run)
    rng = random.Random(1)
    tellers: dict[str, Callable[[], None]] = {
        "equal": lambda: tell_equal(tables, rng),
        "bias": lambda: tell_bias(tables),
        "hog": lambda: tell_hog(run),
    }
    tellers.get(str(what), _nothing)()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deciding", description="Study the sweep's answers.")
    parser.add_argument("what", choices=("record", "tell"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--field", choices=("equal", "default", "bias", "hog"), default="equal")
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    if options.what == "record":
        record(options.folder, options.field, options.minutes)
    else:
        tell(options.folder)


if __name__ == "__main__":
    main()
