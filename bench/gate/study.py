"""How far the gate can be believed on this machine: false alarms, detection, disturbance. Run by hand:

    python -m bench.gate.study record pairs.jsonl --minutes 40      pairs of equal servers, and of slowed ones
    python -m bench.gate.study tell pairs.jsonl                     replays them, prints the table
    python -m bench.gate.study calls                                system calls: equal servers, and one call more
    python -m bench.gate.study hog                                  gates with a CPU hog for half of the time

A slowdown is truly injected: a copy of servers/ with a loop of known length before each echo. Every recorded pair has
two server processes of its own. A fresh comparison is judged as the gate does it, looks and all, on the pairs that come
next, none of which is used twice; a replayed one on pairs drawn from all that were recorded of that kind.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import host
from bench.gate import decide
from bench.gate.decide import Settings
from bench.gate.measure import FULL_LOAD_S, WARM_UP_S, Rig, measure_pair, rigged
from bench.gate.model import CPU, THROUGHPUT, TIMED, CallCount, CallPair, Case, Pair, Result
from bench.gate.run import Progress, Setting, compare
from bench.gate.sides import Asked, Source, sources
from bench.processes import HOME
from bench.record import Trial
from bench.why.count import benched, count_calls
from bench.words import case_title

USUAL = Settings()
CALL_TRIES = 100
REPLAYS = 1000
TRIES = 300  # of a detection
SUITES, SUITE_CASES = 40, 50
TURN_US = 0.01  # about, of an empty loop
MUCH, SOME = 1.0, 15  # a slowdown to measure a turn by, and of how many pairs
SLOWED_EVERY = 3  # rounds: there must be many more pairs of equal servers, for a hundred comparisons of fresh ones


class Slowdown(NamedTuple):
    """An injected change: in which file of servers/, what stands before which line, and how long it takes."""

    strategy: str
    file: str
    line: str
    share: float  # of what a message costs in CPU time at full load


SLOWDOWNS = {
    "epoll_lt 5 %": Slowdown("epoll_lt", "readiness.py", "                connection.echo_some()\n", 0.05),
    "asyncio_protocol 8 %": Slowdown(
        "asyncio_protocol", "asyncio_loops.py", "            self.output.write(data)\n\n\nclass Buffered", 0.08
    ),
    "epoll_lt 20 %": Slowdown("epoll_lt", "readiness.py", "                connection.echo_some()\n", 0.20),
}
# Half of what is to be found is allowed: a change of just what is allowed is as likely to be called one as not.
DETECTION = (("epoll_lt 5 %", 30, 0.025), ("asyncio_protocol 8 %", 30, 0.04), ("epoll_lt 20 %", 10, 0.10))
EQUAL = ("epoll_lt", "asyncio_protocol")


class Recorded(msgspec.Struct):
    """A line of the file of pairs."""

    kind: str
    pair: Pair


def a_case(strategy: str) -> Case:
    """The point that everything is measured at."""
    trial = Trial(
        strategy=strategy,
        transport="tcp",
        connections=16,
        message_bytes=64,
        workload="closed",
        warmup_s=WARM_UP_S,
        duration_s=FULL_LOAD_S,
        repeat=1,
        seed=1,
    )
    return Case(name=case_title(trial), trial=trial)


# --- injection


@contextmanager
def with_line(file: str, line: str, added: str) -> Iterator[Path]:
    """A copy of servers/ in which `added` stands before a line of a file, with that line's indentation."""
    with tempfile.TemporaryDirectory(prefix="iobench-study-") as folder:
        shutil.copytree(HOME / "servers", Path(folder) / "servers", ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder) / "servers" / file
        text = path.read_text(encoding="utf-8")
        if text.count(line) != 1:
            raise SystemExit(f"{path} has not just one place that reads {line!r}: the injection needs another.")
        indent = line[: len(line) - len(line.lstrip())]
        path.write_text(text.replace(line, f"{indent}{added}\n{line}"), encoding="utf-8")
        yield Path(folder)


def spin(turns: int) -> str:
    """A loop of so many turns."""
    return f"for _ in range({turns}): pass"


def _turns(rig: Rig, case: Case, ours: Source, slow: Slowdown, cpu_us: float) -> int:
    """How many turns make a message cost its share more: measured in pairs, since a loop is slower in a busy server.

    What a turn costs is measured where the loop is long enough to stand out from the noise; what its start costs, which
    is as much as fifty turns, with as many turns as these alone would take.
    """
    long = max(1, round(MUCH * cpu_us / TURN_US))
    each = _slower(rig, case, ours, slow, long, count=SOME) / long
    turns = max(1, round(slow.share / each))
    beyond = _slower(rig, case, ours, slow, turns, count=3 * SOME) - slow.share
    return max(1, round(turns - beyond / each))


def _slower(rig: Rig, case: Case, ours: Source, slow: Slowdown, turns: int, *, count: int) -> float:
    """By what share a message costs more with so many turns before each echo."""
    with ExitStack() as stack:
        pairs = _some(rig, case, ours, _slowed(stack, slow, turns), count)
    return statistics.median(pair.head.metrics[CPU.name] / pair.base.metrics[CPU.name] for pair in pairs) - 1


def _slowed(stack: ExitStack, slow: Slowdown, turns: int) -> Source:
    tree = stack.enter_context(with_line(slow.file, slow.line, spin(turns)))
    return stack.enter_context(sources(Asked(), Asked(), tree))[1]


def _some(rig: Rig, case: Case, base: Source, head: Source, count: int = SOME) -> list[Pair]:
    """So many pairs, but for those of which a side failed or was left no CPU."""
    pairs = [
        measure_pair(rig, case, base, head, first="base" if number % 2 else "head", offered_hz=0.0, number=0, attempt=1)
        for number in range(count)
    ]
    return [pair for pair in pairs if pair.base.metrics and pair.head.metrics]


# --- recording


def record(path: Path, minutes: float, *, slowed: bool = True) -> None:
    """Append pairs, the kinds in turn and mixed, so that whatever the machine does meets all of them alike."""
    rng = random.Random()
    cases = {strategy: a_case(strategy) for strategy in EQUAL}
    with ExitStack() as stack:
        rig = stack.enter_context(rigged(host.choose_cpus()))
        ours, same = stack.enter_context(sources(Asked(), Asked(), HOME))
        pilots = {name: _cost(rig, case, ours, same) for name, case in cases.items()}
        equal: list[tuple[str, Case, Source]] = [(f"A/A {name}", case, same) for name, case in cases.items()]
        slower: list[tuple[str, Case, Source]] = []
        for name, slow in SLOWDOWNS.items() if slowed else ():
            turns = _turns(rig, cases[slow.strategy], ours, slow, pilots[slow.strategy][0])
            print(f"{name}: {spin(turns)} before each echo, {pilots[slow.strategy][0]:.2f} us without", flush=True)
            slower.append((name, cases[slow.strategy], _slowed(stack, slow, turns)))
        file = stack.enter_context(path.open("ab"))
        deadline = time.monotonic() + 60 * minutes
        number = 0
        while time.monotonic() < deadline:
            number += 1
            kinds = equal if number % SLOWED_EVERY else [*equal, *slower]
            for kind, case, head in rng.sample(kinds, len(kinds)):
                pair = measure_pair(
                    rig,
                    case,
                    ours,
                    head,
                    first=rng.choice(("base", "head")),
                    offered_hz=pilots[case.trial.strategy][1],
                    number=number,
                    attempt=1,
                )
                file.write(msgspec.json.encode(Recorded(kind, pair)) + b"\n")
            file.flush()


def _cost(rig: Rig, case: Case, base: Source, head: Source) -> tuple[float, float]:
    """What a message costs in CPU time (us), and the rate to measure response times at."""
    pairs = _some(rig, case, base, head)
    cpu_us = statistics.median(side.metrics[CPU.name] for pair in pairs for side in (pair.base, pair.head))
    rate_hz = statistics.median(pair.base.metrics[THROUGHPUT.name] for pair in pairs)
    return cpu_us, round(0.25 * rate_hz, -1)


# --- telling


def tell(path: Path) -> None:
    """Print the table."""
    by_kind: dict[str, list[Pair]] = {}
    with path.open("rb") as file:
        for line in file:
            one = msgspec.json.decode(line, type=Recorded)
            by_kind.setdefault(one.kind, []).append(one.pair)
    rng = random.Random(1)
    print(f"{sum(map(len, by_kind.values())):,} pairs recorded.")
    for kind, pairs in by_kind.items():
        clean = [pair for pair in pairs if pair.clean]
        print(f"\n{kind}: {len(pairs)} pairs, {len(clean)} clean, {sum(pair.failed for pair in pairs)} failed")
        for metric in TIMED:
            logs = decide.log_ratios(
                metric,
                [max(metric.least, pair.base.metrics[metric.name]) for pair in clean],
                [max(metric.least, pair.head.metrics[metric.name]) for pair in clean],
            )
            print(
                f"  {metric.title}: median ratio {2.71828 ** statistics.median(logs):.4f}, standard deviation of the "
                f"logarithm {statistics.stdev(logs):.4f}"
            )
    equal = {kind: [pair for pair in pairs if pair.clean] for kind, pairs in by_kind.items() if kind.startswith("A/A")}
    _tell_fresh(equal)
    _tell_replayed(equal, rng)
    _tell_detection(by_kind, rng)


def _tell_fresh(equal: dict[str, list[Pair]]) -> None:
    outcomes: list[str] = []
    used: list[int] = []
    inside = [0, 0]
    for pairs in equal.values():
        left = list(pairs)
        while len(left) >= 30:
            results, count = gated(left[:30], USUAL)
            outcomes.append(decide.overall(results, [_case_of(left)]))
            used.append(count)
            left = left[count:]
            for result in results:
                inside[0] += result.low <= 1 <= result.high
                inside[1] += 1
    print(
        f"\nfresh A/A comparisons, each of pairs of its own: {len(outcomes)}; "
        + ", ".join(f"{outcomes.count(verdict)} {verdict}" for verdict in ("ok", "regressed", "inconclusive"))
        + f"; {statistics.median(used):g} pairs (median)"
    )
    print(f"95 % intervals that contain 1: {inside[0]} of {inside[1]}")


def _tell_replayed(equal: dict[str, list[Pair]], rng: random.Random) -> None:
    for kind, pairs in equal.items():
        alarms, once, inside, intervals = 0, 0, {metric.name: 0 for metric in TIMED}, 0
        for _ in range(REPLAYS):
            drawn = _drawn(pairs, 30, rng)
            results, _ = gated(drawn, USUAL)
            first = any(result.verdict == "regressed" for result in results)
            once += first
            alarms += first and any(result.verdict == "regressed" for result in gated(_drawn(pairs, 30, rng), USUAL)[0])
            intervals += 1
            for result in _judged(drawn, USUAL, look=1, looks=1):
                inside[result.metric] += result.low <= 1 <= result.high
        print(f"replayed {kind}: {alarms} false alarms of {REPLAYS}, {once} before the second measurement")
        shares = ", ".join(f"{name} {100 * count / intervals:.1f} %" for name, count in inside.items())
        print(f"  95 % intervals that contain 1, by metric: {shares}")
    suites = 0
    everything = list(equal.values())
    for _ in range(SUITES):
        cases = [Case(name=str(number), trial=a_case("epoll_lt").trial) for number in range(SUITE_CASES)]
        drawn = [
            msgspec.structs.replace(pair, case=case.name)
            for case in cases
            for pair in _drawn(rng.choice(everything), 30, rng)
        ]
        results = decide.judge(cases, drawn, USUAL, look=1, looks=1, attempt=1)
        suites += any(result.verdict == "regressed" for result in results)
    print(f"replayed suites of {SUITE_CASES} cases: {suites} of {SUITES} with a false alarm before the second one")


def _tell_detection(by_kind: dict[str, list[Pair]], rng: random.Random) -> None:
    for kind, count, allowed in DETECTION:
        clean = [pair for pair in by_kind.get(kind, []) if pair.clean]
        if len(clean) < count:
            continue
        settings = Settings(max_regression=allowed)
        once = twice = 0
        for _ in range(TRIES):
            found = [
                any(
                    result.verdict == "regressed"
                    for result in gated(_drawn(clean, count, rng, swap=False), settings)[0]
                )
                for _ in range(2)
            ]
            once, twice = once + found[0], twice + all(found)
        blocks = [clean[at : at + count] for at in range(0, len(clean) - count + 1, count)]
        fresh = sum(any(result.verdict == "regressed" for result in gated(block, settings)[0]) for block in blocks)
        print(
            f"{kind}, {count} pairs, {100 * allowed:g} % allowed: found in {100 * once / TRIES:.1f} % of {TRIES} "
            f"replays ({100 * twice / TRIES:.1f} % also when measured again), in {fresh} of {len(blocks)} fresh tries"
        )


def gated(pairs: Sequence[Pair], settings: Settings) -> tuple[list[Result], int]:
    """Judge pairs of one case as the gate does, look by look; the results, and how many pairs were used."""
    schedule = decide.looks(len(pairs))
    results: list[Result] = []
    for look, count in enumerate(schedule, start=1):
        results = _judged(pairs[:count], settings, look=look, looks=len(schedule))
        if not decide.undecided(results):
            return results, count
    return results, len(pairs)


def _judged(pairs: Sequence[Pair], settings: Settings, *, look: int, looks: int) -> list[Result]:
    return decide.judge([_case_of(pairs)], pairs, settings, look=look, looks=looks, attempt=1)


def _case_of(pairs: Sequence[Pair]) -> Case:
    return Case(name=pairs[0].case, trial=a_case("epoll_lt").trial)


def _drawn(pairs: Sequence[Pair], count: int, rng: random.Random, *, swap: bool = True) -> list[Pair]:
    """Draw pairs without replacement; of equal servers, either may be called base."""
    return [
        msgspec.structs.replace(pair, base=pair.head, head=pair.base) if swap and rng.random() < 0.5 else pair
        for pair in rng.sample(list(pairs), count)
    ]


# --- system calls, and a hog


def calls() -> None:
    """Count equal servers, and ones with a call more, and say how often the gate tells them apart."""
    case = a_case("epoll_lt")
    slow = SLOWDOWNS["epoll_lt 5 %"]
    with ExitStack() as stack:
        tree = stack.enter_context(with_line(slow.file, slow.line, '__import__("os").sched_yield()'))
        ours, _ = stack.enter_context(sources(Asked(), Asked(), HOME))
        _, more = stack.enter_context(sources(Asked(), Asked(), tree))
        bench = stack.enter_context(benched())
        counts: dict[str, list[dict[str, float]]] = {"equal": [], "more": []}
        for number in range(CALL_TRIES):
            for name, source in (("equal", ours), ("more", more)):
                start = partial(source.start, case.trial, bench.cpus, bench.guard)
                found = count_calls(bench, start, 1, learn=number == 0)
                counts[name].append(found)
    totals = [sum(one.values()) for one in counts["equal"]]
    cv = statistics.pstdev(totals) / statistics.fmean(totals)
    mean = statistics.fmean(totals)
    print(f"system calls per message, {len(totals)} equal processes: mean {mean:.6f}, CV {100 * cv:.5f} %")
    for name in counts:
        verdicts = [
            _calls_verdict(case, counts["equal"][number - 1], counts[name][number]) for number in range(CALL_TRIES)
        ]
        print(f"  {name}: regressed in {verdicts.count('regressed')} of {len(verdicts)}")


def _calls_verdict(case: Case, base: dict[str, float], head: dict[str, float]) -> str:
    pair = CallPair(
        case=case.name, attempt=1, base=CallCount(burst=1, passes=[base]), head=CallCount(burst=1, passes=[head])
    )
    return decide.judge_calls([pair], USUAL)[0].verdict


def hog(tries: int) -> None:
    """Gate equal servers while one core is kept busy for half of the budget, and count the verdicts."""
    layout = host.choose_cpus()
    verdicts: list[str] = []
    for number in range(tries):
        core = (layout.server, layout.load)[number % 2][:1]
        progress = Progress()
        case = a_case(EQUAL[number // 2 % 2])
        busy = f"import os, time\nos.sched_setaffinity(0, {core!r})\nend = time.monotonic() + 10"
        busy += "\nwhile time.monotonic() < end: pass"
        process = subprocess.Popen([sys.executable, "-c", busy])
        try:
            with rigged(layout) as rig, sources(Asked(), Asked(), HOME) as sides:
                setting = Setting(rig, sides, USUAL, 20, random.Random(number), progress, lambda text: None)
                compare(setting, [case], count=False)
        finally:
            process.kill()
            process.wait()
        verdicts.append(decide.overall(progress.results, [case]))
        dropped = sum(bool(pair.disturbed) for pair in progress.pairs)
        print(
            f"{case.name}, hog on core {core}: {verdicts[-1]}, {dropped} of {len(progress.pairs)} pairs dropped",
            flush=True,
        )
    print(
        f"with a hog: {verdicts.count('regressed')} of {tries} regressed, {verdicts.count('inconclusive')} inconclusive"
    )


def main() -> None:
    """Read the command line and obey it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("record", "tell", "calls", "hog"))
    parser.add_argument("file", type=Path, nargs="?", default=Path("pairs.jsonl"))
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--tries", type=int, default=8)
    parser.add_argument("--equal", action="store_true", help="record equal servers only")
    options = parser.parse_args()
    if options.what == "record":
        record(options.file, options.minutes, slowed=not options.equal)
    elif options.what == "tell":
        tell(options.file)
    elif options.what == "calls":
        calls()
    else:
        hog(options.tries)


if __name__ == "__main__":
    main()
