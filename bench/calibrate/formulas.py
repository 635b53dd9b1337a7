"""What queueing theory and the arithmetic of a stall say that a correct load generator must report.

Pure functions. Times are in whatever unit they are given in, rates in its inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Stall(NamedTuple):
    """A server that is stopped once for `stalled` in a run of `run`, at `rate`; it drains its queue at `capacity`."""

    stalled: float
    run: float
    rate: float
    capacity: float

    @property
    def relief(self) -> float:
        """k = 1 - rate/capacity: by how much the wait of each later message is shorter."""
        return 1 - self.rate / self.capacity

    def quantile(self, q: float) -> float:
        """Q(q) = S - (1 - q) T k, for a q so high that it lies within the stall.

        A message planned t after the stall began finds rate * t others before it and returns S + rate * t / capacity
        after the stall began, so its response time is S - t k; the share (S - x) / (k T) of all have more than x.
        """
        return self.stalled - (1 - q) * self.run * self.relief

    def mean(self) -> float:
        """S^2 / (2 T k): the integral of S - t k over the messages hit, spread over all."""
        return self.stalled**2 / (2 * self.run * self.relief)


def mm1_mean(rate: float, service: float) -> float:
    """Mean response time of M/M/1, 1 / (mu - lambda) (Kleinrock, Queueing Systems, volume 1, section 3.2)."""
    return 1 / (1 / service - rate)


def mm1_quantile(q: float, rate: float, service: float) -> float:
    """Quantile of the response time of M/M/1, which is exponential (Kleinrock, volume 1, section 5.7)."""
    return -math.log(1 - q) * mm1_mean(rate, service)


def md1_mean(rate: float, service: float) -> float:
    """Mean response time of M/D/1, by Pollaczek and Khinchine (Kleinrock, volume 1, section 5.6)."""
    load = rate * service
    return service * (1 + load / (2 * (1 - load)))


def md1_waits_at_most(wait: float, rate: float, service: float) -> float:
    """Probability that a message of M/D/1 waits no longer (Erlang 1909; Iversen and Staalhagen 1999, equation 1).

    (1 - load) * sum over k = 0 ... floor(wait / service) of (-x)^k / k! * e^x with x = rate * (wait - k * service). The
    terms alternate: exact to some twelve digits for the waits below ten service times that are asked for here.
    """
    if wait < 0:
        return 0.0
    terms = range(int(wait / service) + 1)
    later = [rate * (wait - k * service) for k in terms]
    return (1 - rate * service) * math.fsum(
        (-x) ** k / math.factorial(k) * math.exp(x) for k, x in zip(terms, later, strict=True)
    )


def md1_quantile(q: float, rate: float, service: float) -> float:
    """Quantile of the response time of M/D/1: the service time for a q up to 1 - load, found by bisection above."""
    low, high = 0.0, 10 * service
    if md1_waits_at_most(0.0, rate, service) >= q:
        return service
    for _ in range(60):
        middle = (low + high) / 2
        if md1_waits_at_most(middle, rate, service) < q:
            low = middle
        else:
            high = middle
    return service + high


# Relative standard deviations of the estimates from one run of 60,000 messages at half load. Neighbouring messages wait
# for the same ones, so they are larger than those of independent samples. By `simulate_queue`; a test repeats that.
SD_MESSAGES = 60_000
MM1_SD = {"mean": 0.0125, "p50": 0.0113, "p99": 0.0262}
# Half of all messages of M/D/1 do not wait at all: the median is the service time itself, and its estimates all lie
# above, as the positive half of a normal distribution of this spread does.
MD1_SD = {"mean": 0.0052, "p50": 0.0132, "p99": 0.0174}


def three_sd(sd: float, messages: float) -> float:
    """Three relative standard deviations, scaled from SD_MESSAGES to so many messages."""
    return 3 * sd * math.sqrt(SD_MESSAGES / max(1.0, messages))


Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def simulate_queue(seed: int, messages: int, gaps: Draw, services: Draw, warm: int = 5_000) -> NDArray[np.float64]:
    """Response times of a single-server queue in order of arrival, after `warm` messages of warm-up.

    The wait of each follows from the one before (Lindley 1952): W' = max(0, W + service - gap), which is how far a
    random walk is above its lowest point so far.
    """
    random = np.random.default_rng(seed)
    between = gaps(random, messages + warm)
    service = services(random, messages + warm)
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - between[1:])])
    waits = walk - np.minimum.accumulate(walk)
    return np.asarray((waits + service)[warm:], np.float64)


def anderson_darling_exponential(gaps: NDArray[np.float64], rate: float) -> float:
    """A^2 of Anderson and Darling (1954) against the exponential of a known rate.

    Nothing is estimated, so the limits are those of a fully specified distribution (D'Agostino and Stephens,
    Goodness-of-Fit Techniques, table 4.2): 2.492 at 5 %, 3.857 at 1 %; by the distribution of Marsaglia and Marsaglia
    (2004), 3.92 is reached by chance 0.95 times in 100. scipy.stats.anderson estimates the rate from the sample, for
    which 3.92 would be far too lenient (its limit at 1 % is 1.957); where both rates agree, so do both statistics.
    """
    n = len(gaps)
    scaled = np.sort(np.maximum(gaps, 1e-12 / rate)) * rate  # two sends within one tick of the clock: not log(0)
    rank = np.arange(1, n + 1)
    below, above = np.log(-np.expm1(-scaled)), -scaled[::-1]
    return float(-n - np.sum((2 * rank - 1) * (below + above)) / n)


def dispersion(at: NDArray[np.float64], window: float) -> float:
    """Index of dispersion of counts: their variance by their mean, over windows from the first event on. Poisson: 1."""
    counts = np.histogram(at, np.arange(at[0], at[-1] + window, window))[0][:-1]  # the last one is cut
    return float(counts.var(ddof=1) / counts.mean())


def variation(gaps: NDArray[np.float64]) -> float:
    """Coefficient of variation: standard deviation by mean."""
    return float(gaps.std() / gaps.mean())
