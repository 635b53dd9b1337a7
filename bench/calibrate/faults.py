"""Claim: every byte is verified. Each fault of an echo is found and named, and good messages raise no alarm."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from bench.calibrate.claim import Check, Claim, Outcome, at_least, exactly
from bench.calibrate.rig import Job, Rig
from bench.record import Load

AT_ONCE = 250  # connections
DEPTH = 2
SPELL_S = 1.0  # of good messages in fragments
GIVE_UP_S = 20.0


class Fault(NamedTuple):
    """What the load generator must call a fault of the peer, and the messages that it costs.

    Both outstanding messages of a connection are lost with it; where the fault shows only after the first of them has
    come back whole, that one is good.
    """

    peer: str
    name: str
    messages: int


FAULTS = (
    Fault("flip", "corrupt", 2),
    Fault("drop", "lost", 2),
    Fault("duplicate", "duplicated", 1),
    Fault("reorder", "reordered", 2),
    Fault("truncate", "short", 2),
    Fault("pad", "extra", 1),
)


class Committed(NamedTuple):
    """How often a peer committed a fault, and what the load generator called the messages, by kind."""

    fault: Fault
    times: int
    called: Counter[str]


def measure(rig: Rig) -> Outcome:
    """Commit each fault on many connections; fragment messages, which is no fault; then echo a great many."""
    rounds = rig.choose(4, 1)
    seen = [_commit(rig, fault, rounds) for fault in FAULTS]
    checks = [*fault_checks(seen, AT_ONCE * rounds), *_fragments(rig), *_good(rig)]
    notes = [f"{AT_ONCE} of each fault instead of 1,000, and a million good messages instead of ten"]
    return Outcome(checks, {}, notes if rig.quick else [])


def _commit(rig: Rig, fault: Fault, rounds: int) -> Committed:
    called = Counter[str]()
    with rig.peer("faulty", fault=fault.peer) as peer:
        for seed in range(1, rounds + 1):
            job: Job = {"connections": AT_ONCE, "depth": DEPTH, "duration_s": GIVE_UP_S, "seed": seed}
            called.update(alarms(rig.drive(peer, **job).load))
    return Committed(fault, peer.told["faults"], called)


def alarms(load: Load) -> Counter[str]:
    """Messages that were not echoed, in the eyes of the generator, by what it calls that."""
    return +Counter({**load.errors, "timed_out": load.timed_out})


def fault_checks(seen: list[Committed], wanted: int) -> list[Check]:
    """Every fault was committed, found, and called by its name, and nothing was called anything else."""
    checks = [
        exactly(f'{one.fault.peer}: called "{one.fault.name}"', one.called[one.fault.name] / one.fault.messages, wanted)
        for one in seen
    ]
    strange = sum(one.called.total() - one.called[one.fault.name] for one in seen)
    return [
        *checks,
        exactly("faults committed", sum(one.times for one in seen), wanted * len(seen)),
        exactly("messages called anything else", strange, 0),
    ]


def _fragments(rig: Rig) -> list[Check]:
    """Two messages of each connection come back a byte at a time."""
    with rig.peer("faulty", fault="fragment") as peer:
        load = rig.drive(peer, connections=AT_ONCE, depth=DEPTH, duration_s=SPELL_S).load
    return [
        exactly("1-byte fragments: alarms", alarms(load).total(), 0),
        exactly("1-byte fragments: connections", peer.told["faults"], AT_ONCE),
    ]


def _good(rig: Rig) -> list[Check]:
    """Echo through the kernel alone, the fastest there is, until there are enough."""
    wanted = rig.choose(10_000_000, 1_000_000)
    good, false = 0, 0
    with rig.peer("loop", "pipe") as peer:
        while good < wanted and not false:
            load = rig.drive(peer, connections=64, duration_s=1.0, seed=good + 1).load
            false += alarms(load).total()
            good += load.completed
            if not load.completed:
                break
    return [
        exactly("good messages: false alarms", false, 0),
        at_least("good messages", good, wanted, timed=False),
    ]


CLAIM = Claim(
    "echo faults",
    "Every fault of an echo is found and named, and no good message is taken for one.",
    measure,
)
