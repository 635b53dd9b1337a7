"""What a budget will buy: how small a difference it would tell, on a machine as noisy as in the last run here."""

from __future__ import annotations

import math
import statistics
import warnings
from pathlib import Path

from bench.budget import LOOKS
from bench.errors import BadInputError
from bench.metrics import CONTESTED, CPU, RATE
from bench.plan import Plan, takes_s
from bench.record import MANIFEST_FILE, read_run
from bench.settings import key_of

POWER_Z = 1.282  # a difference counts as one that would be told where it is in nine cases of ten
TITLES = {RATE.name: "throughput", CPU.name: "CPU per message"}


def rounds_of(plan: Plan) -> int:
    """How many rounds fit into a plan's budget, about."""
    return max(1, int(plan.budget_s / sum(map(takes_s, plan.round(1)))))


def newest_run(results: Path) -> Path | None:
    """The run folder that was begun last, by the time of its manifest; None where there is none."""
    found = sorted(results.glob(f"*/{MANIFEST_FILE}"), key=lambda path: (path.stat().st_mtime_ns, path))
    return found[-1].parent if found else None


def prospects(plan: Plan, results: Path) -> str:
    """Say what the plan's budget will buy; how many rounds alone where no run here tells how noisy one is."""
    rounds = rounds_of(plan)
    text = f"{rounds} rounds or so"
    folder = newest_run(results)
    try:
        noise = noise_of(folder) if folder else {}
    except BadInputError as error:
        warnings.warn(f"{folder} does not tell how noisy it is here: {error}", stacklevel=2)
        noise = {}
    if not noise or rounds < 2:
        return f"{text}; how small a difference they tell depends on the noise, and no run in {results} shows that."
    rivals = max(len({(one.strategy, one.python) for one in plan.cases}), 2)
    told = [f"{tellable(spread, rivals, rounds, plan):.0%} in {TITLES[name]}" for name, spread in noise.items()]
    noises = [f"{spread:.1%} in {TITLES[name]}" for name, spread in noise.items()]
    return (
        f"{text}, which tell a difference of {' and '.join(told)} nine times in ten, on a machine as noisy as in "
        f"{folder} (one round: {' and '.join(noises)})."
    ).replace("%", " %")


def noise_of(folder: Path) -> dict[str, float]:
    """The standard deviation of one round's logarithm, by metric: the median over the settings of a run.

    Raises BadInputError.
    """
    from bench.analyse import analyse  # noqa: PLC0415 - pandas is slow to import

    comparisons, found = analyse(read_run(folder)).comparisons, {}
    for metric in (RATE, CPU):
        spreads = [one.spread for one in comparisons if one.metric is metric and math.isfinite(one.spread)]
        if spreads:
            found[metric.name] = statistics.median(spreads)
    return found


def tellable(spread: float, rivals: int, rounds: int, plan: Plan) -> float:
    """The share by which one must be better so that it is shown nine times in ten, where a round has that spread."""
    from bench.comparisons import Rules  # noqa: PLC0415 - numpy and pandas are slow to import
    from bench.within_rounds import critical  # noqa: PLC0415

    settings = len({key_of(one) for one in plan.cases})
    level = Rules(families=len(CONTESTED) * settings, looks=LOOKS).claim_level
    freedom = max(1, (rivals - 1) * (rounds - 1))
    error = spread * math.sqrt(2 / rounds)
    return math.exp((critical(rivals, freedom, level) + POWER_Z) * error) - 1
