"""A calibration from the first claim to the file: in order, each again where the machine was disturbed.

What a claim measures is in its own file, what is printed in report.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import host
from bench.calibrate import arrivals, books, cost, faults, headroom, histograms, lag, report, service, stall
from bench.calibrate.claim import Claim, Finding, Outcome, Verdict, judge
from bench.calibrate.report import Calibration
from bench.calibrate.rig import Rig
from bench.calibrate.watch import worst
from bench.events import Interrupted, signals_interrupt_waits
from bench.load import LoadFailedError
from bench.load_pool import LoadPool
from bench.lock import alone_on
from bench.processes import Guard, pinned
from bench.progress import duration
from bench.say import complain, say
from bench.server import ServerFailedError
from bench.trial import utc_now

CLAIMS = (
    stall.CLAIM,
    service.CLAIM,
    arrivals.CLAIM,
    lag.CLAIM,
    headroom.CLAIM,
    faults.CLAIM,
    books.CONSERVATION,
    books.CENSORING,
    histograms.HISTOGRAM,
    histograms.MERGING,
    histograms.INTERVALS,
    cost.CLAIM,
)
ATTEMPTS = 2
SHARED = "server and load generator share one core"


def calibrate(quick: bool, results: Path, claims: Sequence[Claim] = CLAIMS, worker_command: Sequence[str] = ()) -> int:
    """Measure the claims, write the file, print the table; returns the verdict's exit code. Raises BadInputError."""
    report.make_folder(results)
    layout = host.choose_cpus()
    guard = Guard()
    pool = LoadPool(guard, layout.load, worker_command)
    rig = Rig(guard, layout, pool, host.choose_cpus(load_threads=2).load, quick)
    created, began = utc_now(), time.monotonic()
    complain(f"{len(claims)} claims, {'under a minute' if quick else 'some minutes'} if nothing disturbs the machine.")
    try:
        with signals_interrupt_waits(), alone_on([*layout.server, *layout.load], results), pinned(layout.harness):
            findings = examine_all(claims, rig, complain)
    except Interrupted as interruption:
        complain("Interrupted; nothing is written.")
        return 128 + interruption.signum
    finally:
        pool.end()
        guard.close()
    calibration = Calibration(
        created=created,
        quick=quick,
        verdict=report.overall(findings),
        took_s=round(time.monotonic() - began, 1),
        maxima_hz=rig.maxima,
        findings=findings,
        host=host.describe(layout),
        versions=host.versions(),
        command=host.command(),
    )
    written = report.write(results, calibration)
    _tell(calibration)
    print(written, flush=True)
    return report.EXIT_CODES[calibration.verdict]


def _tell(calibration: Calibration) -> None:
    report.show(calibration.findings, Console(highlight=False))
    print()
    for remark in report.remarks(calibration.findings):
        say(f"- {remark}", indent="  ")
    say(f"{report.summary(calibration.findings)}. {duration(calibration.took_s)}.")
    say(report.conclusion(calibration.findings))


def examine_all(claims: Sequence[Claim], rig: Rig, tell: Callable[[str], None]) -> list[Finding]:
    """Measure every claim; the books are balanced last, so that those of all trials are. Raises Interrupted."""
    in_turn = sorted(claims, key=lambda claim: claim is books.CONSERVATION)
    found = {}
    for number, claim in enumerate(in_turn, 1):
        tell(f"[{number}/{len(claims)}] {claim.name}")
        found[claim.name] = finding = examine(claim, rig)
        if finding.verdict != "passed":
            tell(f"        {finding.verdict}: {finding.reason}")
    return [found[claim.name] for claim in claims]


def examine(claim: Claim, rig: Rig) -> Finding:
    """Measure one claim; again if nothing came of it or, in the full run, if the machine was disturbed.

    Raises Interrupted.
    """
    began = time.monotonic()
    attempts, again = 0, True
    while again and attempts < ATTEMPTS:
        attempts += 1
        rig.disturbances.clear()
        outcome, verdict, reason, disturbed = _attempt(claim, rig)
        again = not outcome.checks or (verdict == "inconclusive" and not rig.quick)
    return Finding(
        claim=claim.name,
        says=claim.says,
        verdict=verdict,
        reason=reason,
        checks=outcome.checks,
        figures=outcome.figures,
        notes=outcome.notes,
        disturbances=disturbed,
        attempts=attempts,
        took_s=round(time.monotonic() - began, 1),
    )


def _attempt(claim: Claim, rig: Rig) -> tuple[Outcome, Verdict, str, list[str]]:
    """One measurement and the verdict on it. A load generator that gives no result has failed the claim."""
    try:
        outcome = claim.measure(rig)
    except LoadFailedError as error:
        return Outcome([], {}, []), "failed", str(error), _disturbed(rig)
    except (ServerFailedError, OSError) as error:
        return Outcome([], {}, []), "inconclusive", f"it could not be measured: {error}", _disturbed(rig)
    disturbed = _disturbed(rig)
    return outcome, *judge(outcome.checks, disturbed), disturbed


def _disturbed(rig: Rig) -> list[str]:
    shared = [SHARED] if rig.layout.shared else []
    return shared + [str(each) for each in worst(rig.disturbances)]
