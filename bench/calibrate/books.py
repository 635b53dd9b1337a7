"""Claims about messages that got no echo: the books balance to the message, and what is cut off is said to be.

Not only the generator's own sums are checked. A peer counts what it receives, and the plan says how many were due.
"""

from __future__ import annotations

from bench.calibrate import hdr
from bench.calibrate.claim import Check, Claim, Outcome, around, at_most, check, exactly
from bench.calibrate.freeze import freezing
from bench.calibrate.rig import Job, Rig, Seen
from bench.histograms import decode, percentiles_us
from bench.record import Load

RATE_HZ = 1000.0
CAP = 32
FROZEN_S = 1.0
BEYOND_S = 0.3  # the server stays frozen until after the window has closed
MESSAGE_BYTES = 48


def measure_conservation(rig: Rig) -> Outcome:
    """Count at the peer; freeze a server under a cap; then balance the books of every trial of this calibration."""
    job: Job = {"connections": 8, "message_bytes": MESSAGE_BYTES}
    with rig.peer("echo", message_bytes=MESSAGE_BYTES) as peer:
        load = rig.drive(peer, cut_short=True, duration_s=60.0, **job).load
    checks = counted_checks(load, peer.told["received"])
    with rig.peer("echo", message_bytes=MESSAGE_BYTES) as peer:
        rig.drive(peer, threads=2, duration_s=0.5, **job)  # for the sums: its threads don't begin at one moment
    frozen, frozen_s = _freeze_at_the_end(rig, CAP)
    checks += plan_checks(frozen.load, frozen_s)
    checks += balance_checks(rig.loads)
    return Outcome(checks, {"trials": float(len(rig.loads))}, [])


def _freeze_at_the_end(rig: Rig, cap: int) -> tuple[Seen, float]:
    """Stop the peer in the last second of a window; returns the result, and for how long it was stopped by then."""
    run_s = FROZEN_S + rig.choose(2, 1)
    with rig.peer("echo") as peer, freezing(peer.server.pid, run_s - FROZEN_S, FROZEN_S + BEYOND_S) as freeze:
        seen = rig.drive(
            peer, opened=freeze.begin, workload="open", rate_hz=RATE_HZ, cap=cap, connections=16, duration_s=run_s
        )
    return seen, (seen.load.closed_ns - freeze.stopped_ns) / 1e9


def imbalance(load: Load) -> int:
    """How many messages are missing from the sum, or too many in it."""
    accounted = load.completed + sum(load.errors.values()) + load.timed_out + load.unsent + load.in_flight
    return load.planned - accounted


def counted_checks(load: Load, received: int) -> list[Check]:
    """What the generator says it began is what the peer received, and it verified the bytes of what it completed."""
    return [
        exactly("planned, less received by peer", load.planned - received, 0),
        exactly("bytes, less those of completed", load.bytes_echoed - load.completed * MESSAGE_BYTES, 0),
    ]


def plan_checks(load: Load, frozen_s: float) -> list[Check]:
    """All that were due are in the books, whether they were sent or not; the cap holds.

    Beside those due within the window, what was outstanding when it opened is in the books: more than a message or two
    where the machine stood still just then.
    """
    window_s = (load.closed_ns - load.opened_ns) / 1e9
    due = RATE_HZ * window_s
    within = round(load.offered_hz * window_s)
    return [
        check("open loop: due within the window", within, timed=False, target=due, low=due - 1.5, high=due + 1.5),
        exactly("open loop: due and not in the books", max(0, within - load.planned), 0),
        at_most("cap: messages in flight", load.in_flight, CAP, timed=False),
        around("cap: due and unsent", load.unsent, RATE_HZ * frozen_s - CAP, 0.01 * RATE_HZ * frozen_s + 3),
    ]


def balance_checks(seen: list[tuple[Load, bool]]) -> list[Check]:
    """In every trial the messages add up, and the histogram and the intervals hold each completed one."""
    loads = [load for load, _ in seen]
    recorded = [load for load, on in seen if on]
    return [
        exactly(f"trials of {len(loads)} out of balance", sum(imbalance(load) != 0 for load in loads), 0),
        exactly(
            "histograms that lack a message",
            sum(hdr.recorded(load.service_hdr) != load.completed for load in recorded),
            0,
        ),
        exactly("intervals that lack a message", sum(sum(load.intervals) != load.completed for load in loads), 0),
    ]


def measure_censoring(rig: Rig) -> Outcome:
    """Freeze the last second of a window, without a cap: a second's messages are outstanding."""
    seen, frozen_s = _freeze_at_the_end(rig, 0)
    return Outcome(censoring_checks(seen, frozen_s), {"frozen_s": frozen_s}, [])


def censoring_checks(seen: Seen, frozen_s: float) -> list[Check]:
    """As many are outstanding as were due meanwhile; trial and percentiles that they would change are marked."""
    load = seen.load
    outstanding = load.in_flight + load.unsent
    histogram = decode(load.response_hdr)
    bound = [False, True] if histogram is None else percentiles_us(histogram, (0.25, 0.99), outstanding).bound
    return [
        around("outstanding at the end", outstanding, RATE_HZ * frozen_s, 0.01 * RATE_HZ * frozen_s + 3),
        exactly('flagged "censored"', int("censored" in seen.flags), 1),
        exactly("p99 marked as a lower bound", int("p99" in seen.lower_bounds and bound[1]), 1),
        exactly("p25 marked as a lower bound", int(bound[0]), 0),
    ]


CONSERVATION = Claim(
    "conservation",
    "planned = completed + errors + timed out + unsent + in flight, exactly, and as a peer counts them.",
    measure_conservation,
)
CENSORING = Claim(
    "censoring",
    "Messages still outstanding when the window closes are counted, and percentiles marked as lower bounds.",
    measure_censoring,
)
