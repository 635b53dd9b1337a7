"""Claim: messages are sent when they are planned to be: Poisson arrivals are Poisson, constant ones constant.

The sends are timed from outside, by a peer that polls its socket without a pause on a CPU of its own: what the
generator says of itself is what is to be proved. The peer may lose its CPU: a disturbance excuses these checks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.calibrate.claim import Check, Claim, Outcome, around, at_most
from bench.calibrate.formulas import anderson_darling_exponential, dispersion, variation
from bench.calibrate.rig import Rig
from bench.calibrate.yardstick import gaps_vary, note_uneven

RATE_HZ = 1000.0
GAPS = 4096
SKIPPED = 20  # the first sends find cold caches
CRITICAL = 3.92  # of A^2, of a distribution without estimated parameters: reached by chance once in 105 times
WINDOW_GAPS = 20
STEADY_CV = 0.05  # half of the variance that it allows may be the machine's, measured before and after


def measure(rig: Rig) -> Outcome:
    """Have the peer time the sends of both kinds of arrivals."""
    poisson = _sends(rig, "poisson", GAPS)
    gaps = rig.choose(GAPS, 1500)
    before = gaps_vary(rig, gaps // 2)
    constant = _sends(rig, "constant", gaps)
    plain = max(before, gaps_vary(rig, gaps // 2))
    note_uneven(rig, f"a plain timer's gaps vary by {plain:.1%} (CV)", plain, STEADY_CV / math.sqrt(2))
    figures = {"gaps": float(len(poisson) - 1), "plain_cv": plain}
    return Outcome([*poisson_checks(poisson), *constant_checks(constant)], figures, [])


def _sends(rig: Rig, arrivals: str, gaps: int) -> NDArray[np.float64]:
    with rig.peer("record") as peer:
        rig.drive(
            peer,
            workload="open",
            arrivals=arrivals,
            rate_hz=RATE_HZ,
            connections=1,
            duration_s=(gaps + SKIPPED) / RATE_HZ * 1.1,  # the number of Poisson arrivals varies by 2 %
        )
    return send_times(peer.told, gaps)


def send_times(told: dict[str, Any], gaps: int) -> NDArray[np.float64]:
    """Seconds at which the peer saw messages: the first ones left out, and one more than gaps."""
    at_ns = np.asarray(told["at_ns"][SKIPPED : SKIPPED + gaps + 1], np.float64)
    return at_ns / 1e9


def poisson_checks(at_s: NDArray[np.float64]) -> list[Check]:
    """Gaps are exponential with the rate asked for, and counts vary as Poisson's do."""
    enough = len(at_s) > WINDOW_GAPS * 10
    fit = anderson_darling_exponential(np.diff(at_s), RATE_HZ) if enough else None
    clumping = dispersion(at_s, WINDOW_GAPS / RATE_HZ) if enough else None
    return [
        at_most("Poisson gaps, A^2", fit, CRITICAL),
        around("Poisson counts, variance/mean", clumping, 1.0, 0.3),
    ]


def constant_checks(at_s: NDArray[np.float64]) -> list[Check]:
    """Gaps are all alike, and as many as asked for in a second."""
    gaps = np.diff(at_s)
    enough = len(gaps) > WINDOW_GAPS
    rate = len(gaps) / (at_s[-1] - at_s[0]) if enough else None
    return [
        at_most("constant gaps, CV", variation(gaps) if enough else None, STEADY_CV),
        around("constant rate", rate, RATE_HZ, 0.001 * RATE_HZ, "/s"),
    ]


CLAIM = Claim(
    "arrivals",
    "Messages are sent when they are planned: a peer that times them sees the arrivals asked for.",
    measure,
)
