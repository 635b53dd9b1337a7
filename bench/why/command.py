"""`iobench why`: count strategies, show them side by side, write down what was counted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from bench import host, one_step
from bench.errors import BadInputError
from bench.events import Interrupted, signals_interrupt_waits
from bench.load import LoadFailedError
from bench.processes import pinned
from bench.record import MANIFEST_FILE, StrategyInfo, read_manifest, write_manifest
from bench.say import complain, say
from bench.why import files, table, words
from bench.why.count import BURSTS, benched, count_strategy
from bench.why.counts import Counts, Why
from bench.words import counted, joined


def why(strategies: Sequence[StrategyInfo], transport: str, python: str, results: Path, run: Path | None) -> int:
    """Count, write why.json, and print the tables and a sentence for each strategy; returns the exit code.

    With a run, the counts go into its manifest too. Raises BadInputError.
    """
    files.prepare(results)
    if run is not None:
        _prepare(run)
    layout = host.choose_cpus()
    all_counts: list[Counts] = []
    complain(
        f"{counted(len(strategies), 'strategy', 'strategies')}, half a minute each: two server processes at each of "
        f"{joined([str(burst) for burst in BURSTS])} messages a wake-up."
    )
    try:
        with signals_interrupt_waits(), pinned(layout.harness), benched() as bench:
            for info in strategies:
                all_counts.append(count_strategy(bench, info, transport, python=python, tell=complain))
    except Interrupted as interruption:
        complain("Interrupted; nothing is written.")
        return 128 + interruption.signum
    except LoadFailedError as error:
        raise BadInputError(f"The load generator can't be started: {error}.", "iobench load --help") from None
    found = Why(counts=all_counts, host=host.describe(layout), versions=host.versions(), command=host.command())
    written = files.write(results, found)
    if run is not None:
        manifest = read_manifest(run)
        manifest.why = msgspec.to_builtins(found)
        write_manifest(run, manifest)
    tell(all_counts)
    print(written, flush=True)
    return 1 if any(point.reason and not point.passes for counts in all_counts for point in counts.points[:1]) else 0


def _prepare(run: Path) -> None:
    """Find out whether the run's manifest can be written again, before anything is counted. Raises BadInputError."""
    read_manifest(run)
    try:
        one_step.try_to_write(run / MANIFEST_FILE)
    except OSError as error:
        raise BadInputError(
            f"{run / MANIFEST_FILE} can't be written: {error.strerror}.",
            one_step.remedy(error, run, f"iobench why --run {shlex.quote(str(run))}"),
        ) from None


def tell(all_counts: Sequence[Counts]) -> None:
    """Print the tables and what they say."""
    table.show(all_counts, Console(highlight=False))
    for counts in all_counts:
        for text in [words.sentence(counts), *words.remarks(counts)]:
            say(f"- {text.replace('`', '')}", indent="  ")
    for text in [*words.sources(all_counts), words.agreement(all_counts)]:
        if text:
            say(text)
