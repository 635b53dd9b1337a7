"""Claim: it is known which side was the limit, and how far the load generator itself could go.

The null echo is a pipe that leads back to its writer: no server takes part, so the rate is the generator's own maximum.
On TCP and UNIX sockets there is no such echo; what is told there is the rate by the share of a CPU that it took.
"""

from __future__ import annotations

from statistics import median

from bench.calibrate.claim import Check, Claim, Outcome, around, at_most
from bench.calibrate.rig import Job, Rig
from bench.calibrate.stall import rate_of

SLOW_SERVICE_US = 200.0
SLOW_MESSAGE_BYTES = 32 * 1024  # each byte of it is generated twice and compared: the generator is slow, not the echo
TRIAL_S = 0.3


def measure(rig: Rig) -> Outcome:
    """Judge trials whose limit is known, and measure the maxima."""
    repeats = rig.choose(20, 5)
    server = _slow_server(rig, repeats)
    client = _slow_client(rig, repeats)
    checks = [
        judged("slow server", server, "server"),
        judged("slow load worker", client, "client"),
        _null_echo(rig),
    ]
    figures = _ceilings(rig) | {"maximum_pipe_hz": rig.maxima["pipe"]}
    notes = [f"{repeats} trials of each instead of 20"] if rig.quick else []
    doubled, note = _doubled(rig)
    return Outcome(checks + doubled, figures, notes + note)


def _slow_server(rig: Rig, repeats: int) -> list[str]:
    with rig.peer("fifo", mean_us=SLOW_SERVICE_US) as peer:
        job: Job = {"connections": 8, "duration_s": TRIAL_S, "warmup_s": 0.05}
        return [rig.drive(peer, **job).limit for _ in range(repeats)]


def _slow_client(rig: Rig, repeats: int) -> list[str]:
    with rig.peer("loop", "pipe") as peer:
        job: Job = {"connections": 8, "message_bytes": SLOW_MESSAGE_BYTES, "duration_s": TRIAL_S, "warmup_s": 0.05}
        return [rig.drive(peer, **job).limit for _ in range(repeats)]


def _null_echo(rig: Rig) -> Check:
    with rig.peer("loop", "pipe") as peer:
        seen = rig.drive(peer, connections=64, duration_s=1.0, warmup_s=0.1)
    rig.maxima["pipe"] = rate_of(seen.load)
    return judged("null echo", [seen.limit], "client")


def _ceilings(rig: Rig) -> dict[str, float]:
    """The rate that a whole CPU of the generator would come to on sockets: measured rate by share of a CPU."""
    found = {}
    for transport in ("tcp", "unix"):
        with rig.peer("echo", transport) as peer:
            load = rig.drive(peer, connections=64, duration_s=0.5, warmup_s=0.1).load
        rig.maxima[transport] = rate_of(load) / max(0.01, *load.worker_busy)
        found[f"maximum_{transport}_hz"] = rig.maxima[transport]
    return found


def judged(what: str, verdicts: list[str], right: str) -> Check:
    """How often the verdict was the right one: it must be always."""
    return around(f'{what}: judged "{right}"', verdicts.count(right), len(verdicts), 0, "times")


def _doubled(rig: Rig) -> tuple[list[Check], list[str]]:
    """Twice the load workers on a server that is the limit: the rate must stay. Needs a core for each of them."""
    spare = [cpu for cpu in rig.two_for_load if cpu not in rig.layout.server]
    if len(spare) < 2:
        return [], ["load workers were not doubled: that needs four cores, and there are fewer"]
    changes = []
    with rig.peer("fifo", mean_us=SLOW_SERVICE_US) as peer:
        for _ in range(3):
            job: Job = {"connections": 8, "duration_s": 1.0, "warmup_s": 0.1}
            one = rig.drive(peer, cpus=spare[:1], threads=1, **job)
            two = rig.drive(peer, cpus=spare[:2], threads=2, **job)
            changes.append(abs(rate_of(two.load) / rate_of(one.load) - 1))
    return [at_most("two load workers: change of rate", median(changes) * 100, 3, "%")], []


CLAIM = Claim(
    "head-room",
    "The side that was the limit is named rightly, and the generator's own maximum is known.",
    measure,
)
