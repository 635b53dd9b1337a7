"""A claim, what was measured of it, and the verdict: plain data and pure functions.

Nothing is measured or printed here. A check compares one figure with the range that is accepted; a claim passes if all
of its checks hold. A disturbed machine excuses a figure that depends on time, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from bench.calibrate.rig import Rig

Verdict = Literal["passed", "failed", "inconclusive"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: accepted is `low` <= `value` <= `high`, where None is no limit; `target` is the value by theory.

    A `value` of None could not be measured and does not hold. `timed`: the figure depends on how this machine's time
    is shared out, so that a disturbance excuses it.
    """

    what: str
    value: float | None
    unit: str = ""
    target: float | None = None
    low: float | None = None
    high: float | None = None
    timed: bool = True

    @property
    def holds(self) -> bool:
        """Whether the figure is in the accepted range. NaN is not."""
        if self.value is None or self.value != self.value:
            return False
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


class Outcome(NamedTuple):
    """What the measurement of a claim came to: its checks, other figures by name, and notes on what was left out."""

    checks: list[Check]
    figures: dict[str, float]
    notes: list[str]


class Claim(NamedTuple):
    """One of the claims. `measure` raises what the rig raises."""

    name: str
    says: str
    measure: Callable[[Rig], Outcome]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of calibration.json. `disturbances`: what else this machine did meanwhile, in words."""

    claim: str
    says: str
    verdict: Verdict
    reason: str
    checks: list[Check]
    figures: dict[str, float]
    notes: list[str]
    disturbances: list[str]
    attempts: int
    took_s: float


def around(what: str, value: float | None, target: float, tolerance: float, unit: str = "") -> Check:
    """Accept the target, give or take the tolerance."""
    return check(what, value, unit, target=target, low=target - tolerance, high=target + tolerance)


def at_most(what: str, value: float | None, high: float, unit: str = "", timed: bool = True) -> Check:
    """Accept everything up to a limit."""
    return check(what, value, unit, high=high, timed=timed)


def at_least(what: str, value: float | None, low: float, unit: str = "", timed: bool = True) -> Check:
    """Accept everything from a limit on."""
    return check(what, value, unit, low=low, timed=timed)


def exactly(what: str, value: float | None, target: float, unit: str = "") -> Check:
    """Accept one value only, whatever else the machine did."""
    return check(what, value, unit, target=target, low=target, high=target, timed=False)


def check(what: str, value: float | None, unit: str = "", *, timed: bool = True, **limits: float) -> Check:
    """Make a check of figures of any type, numpy's too; `limits` are its target, low and high."""
    plain = {name: float(limit) for name, limit in limits.items()}
    return Check(what=what, value=None if value is None else float(value), unit=unit, timed=timed, **plain)


def judge(checks: Sequence[Check], disturbances: Sequence[str]) -> tuple[Verdict, str]:
    """Return the verdict on all checks together, and the reason where it isn't "passed".

    A figure within its range passes on a disturbed machine as well: disturbances make a good generator look bad, and
    the ranges are narrow enough that none makes a bad one look good by chance.
    """
    wrong = [check for check in checks if not check.holds]
    if not wrong:
        return ("passed", "") if checks else ("failed", "nothing was measured")
    what = "; ".join(check.what for check in wrong)
    if disturbances and all(check.timed for check in wrong):
        return "inconclusive", f"{what} out of range, and {'; '.join(disturbances)}"
    return "failed", f"{what} out of range"
