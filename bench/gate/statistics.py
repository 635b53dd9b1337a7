"""The statistics of pairs: exact tests and intervals over logarithms of ratios. Pure functions over plain numbers.

A ratio is "worse": above 1 head is worse than base. Nothing here knows a case, a metric or a server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.quantile_resampling import Counts, counts_of, draws, merged_quantiles

Floats = NDArray[np.float64]

INTERVAL = 0.95
POWER = 0.9  # with which an effect counts as detectable
EFFICIENCY = 3 / math.pi  # of the signed-rank test beside the t-test where noise is normal (Hollander et al., 3.11)


class Effect(NamedTuple):
    """By what ratio head is worse, and how sure that is.

    `low` and `high` are the 95 % interval, `upper` the one-sided limit at the confidence asked for, `p` that of the
    one-sided test that head is no worse. `error` is the standard error of the ratio's logarithm.
    """

    ratio: float
    low: float
    high: float
    upper: float
    p: float
    error: float


@lru_cache(maxsize=512)
def signed_rank_null(doubled_ranks: tuple[int, ...]) -> Floats:
    """Give the probability of each sum of positive ranks, 0 to the sum of all, when signs are tosses of a coin.

    Ranks come doubled, so that those of ties are whole. Each rank is in the sum or not: the distribution is the product
    of (1 + x^rank) / 2 (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, section 3.1). Exact with ties.
    """
    chances = np.zeros(sum(doubled_ranks) + 1)
    chances[0] = 1.0
    for rank in doubled_ranks:
        moved = np.zeros_like(chances)
        moved[rank:] = chances[: len(chances) - rank]
        chances = (chances + moved) / 2
    return chances


def signed_rank_p(differences: Sequence[float]) -> float:
    """Give the one-sided p-value of Wilcoxon's signed-rank test that differences are not above 0; exact.

    Zeros are ranked and then left out (Pratt: Remarks on zeros and ties in the Wilcoxon signed rank procedures, 1959).
    1 where there is nothing but zeros, or nothing.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

    values = np.asarray(differences, dtype=np.float64)
    ranks = np.rint(2 * rankdata(np.abs(values))).astype(int) if len(values) else np.zeros(0, dtype=int)
    used = values != 0
    if not used.any():
        return 1.0
    null = signed_rank_null(tuple(sorted(int(rank) for rank in ranks[used])))
    reached = int(ranks[values > 0].sum())
    return float(min(1.0, null[reached:].sum()))


def paired_effect(log_ratios: Sequence[float], confidence: float) -> Effect:
    """Estimate the effect from one log ratio a pair: Hodges and Lehmann's estimate and Tukey's exact interval.

    The estimate is the median of all means of two (Walsh averages); the limits are those that the signed-rank test does
    not reject (Hollander, Wolfe, Chicken, sections 3.2 and 3.3). Too few pairs for a limit leave it infinite.
    Raises ValueError where there is no pair.
    """
    if not log_ratios:
        raise ValueError("an effect needs a pair")
    values = np.sort(np.asarray(log_ratios, dtype=np.float64))
    n = len(values)
    walsh = np.sort(np.add.outer(values, values)[np.triu_indices(n)] / 2)
    below = np.cumsum(signed_rank_null(tuple(2 * rank for rank in range(1, n + 1)))[::2])

    def outside(chance: float) -> int:
        return int(np.searchsorted(below, chance + 1e-12, side="right"))

    cut = outside((1 - INTERVAL) / 2)
    low, high = (math.exp(walsh[cut - 1]), math.exp(walsh[-cut])) if cut else (0.0, math.inf)
    one_sided = outside(1 - confidence)
    upper = math.exp(walsh[-one_sided]) if one_sided else math.inf
    return Effect(
        math.exp(float(np.median(walsh))), low, high, upper, signed_rank_p(log_ratios), _error_of(low, high, values)
    )


def _error_of(low: float, high: float, values: Floats) -> float:
    """The standard error that the interval amounts to; by the deviations where there are too few pairs for one."""
    if low > 0 and high < math.inf:
        return math.log(high / low) / 2 / 1.96
    if len(values) < 2:
        return math.inf
    return float(values.std(ddof=1)) / math.sqrt(len(values) * EFFICIENCY)


def quantile_effect(
    quantile: float, base: Sequence[str], head: Sequence[str], log_ratios: Sequence[float], confidence: float
) -> Effect:
    """Estimate the effect on a quantile from histograms, one a process and side, base and head in pairs.

    The ratio is that of the quantiles of the merged histograms. Processes, not messages, are what varies, so pairs are
    drawn with replacement for the error (Efron, Tibshirani: An Introduction to the Bootstrap, chapter 8), and the
    limits are Student's with one degree of freedom less than pairs. `p` is that of the signed-rank test on each
    pair's own `log_ratios`. Raises ValueError where a histogram can't be read.
    """
    from scipy.stats import t  # noqa: PLC0415 - slow to import

    sides = [counts_of(texts) for texts in (base, head)]
    n = len(base)
    ratio = _log_ratio(sides, np.ones((1, n)), quantile)[0]
    error = float(_log_ratio(sides, draws(n), quantile).std(ddof=1)) * math.sqrt(n / max(1, n - 1))
    reach, one_sided = (float(t.ppf(level, max(1, n - 1))) * error for level in ((1 + INTERVAL) / 2, confidence))
    limits = (math.exp(ratio - reach), math.exp(ratio + reach), math.exp(ratio + one_sided))
    return Effect(math.exp(ratio), *limits, signed_rank_p(log_ratios), error)


def _log_ratio(sides: Sequence[Counts], weights: Floats, quantile: float) -> Floats:
    """Give for each row of weights the logarithm of head's merged quantile by base's."""
    logs = [np.log(merged_quantiles(counts, weights, quantile)) for counts in sides]
    return np.asarray(logs[1] - logs[0], dtype=np.float64)


def unpaired_effect(base: Sequence[float], head: Sequence[float], confidence: float) -> Effect:
    """Estimate by what factor head's values are above base's, from samples that have nothing to do with each other.

    Mann and Whitney's exact test, and the interval that belongs to it (bench.stats.hodges_lehmann_ratio). Raises
    ValueError where a value isn't positive or a sample is empty.
    """
    from scipy.stats import mannwhitneyu  # noqa: PLC0415 - slow to import

    from bench.stats import hodges_lehmann_ratio  # noqa: PLC0415

    two_sided = hodges_lehmann_ratio(head, base, INTERVAL)
    one_sided = hodges_lehmann_ratio(head, base, 2 * confidence - 1)
    p = float(mannwhitneyu(head, base, alternative="greater").pvalue)
    known = two_sided.low > 0 and two_sided.high < math.inf
    error = math.log(two_sided.high / two_sided.low) / 2 / 1.96 if known else math.inf
    return Effect(two_sided.estimate, two_sided.low, two_sided.high, one_sided.high, p, error)


def detectable(error: float, alpha: float) -> float:
    """Give the ratio that is told from no change at `alpha`, one-sided, nine times in ten, with this standard error."""
    from scipy.special import ndtri  # noqa: PLC0415 - slow to import

    if not math.isfinite(error):
        return math.inf
    return math.exp(min(700.0, float(ndtri(1 - alpha) + ndtri(POWER)) * error))
