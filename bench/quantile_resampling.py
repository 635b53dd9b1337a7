"""Quantiles of merged histograms, and how much they vary where rounds are drawn anew: the bootstrap by rounds.

Rounds, not messages, are what varies, so rounds are what is drawn. Nothing here knows a trial, a metric or a server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.histograms import decode

Floats = NDArray[np.float64]

RESAMPLES = 1000
NEAR = 0.2  # about a fifth either way: enough samples, of which a quantile hangs
SEED = 1  # of the resampling: the same histograms give the same limits


class Recorded(NamedTuple):
    """What a histogram holds: the buckets that have a count, in order, counts, and values (ns) that they stand for."""

    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]
    values: Floats


class Counts(NamedTuple):
    """Counts of several histograms: a row each, and the value (ns) that each column stands for."""

    rows: Floats
    values: Floats


@lru_cache(maxsize=4096)  # a gate looks at the same histograms three times, a replay of one a thousand times
def recorded(text: str) -> Recorded | None:
    """Read a histogram; None where there is none, it is empty, or it isn't one."""
    hist = decode(text)
    if hist is None:
        return None
    counts = np.ctypeslib.as_array(hist.counts)
    buckets = np.flatnonzero(counts)
    values = [float(hist.get_highest_equivalent_value(hist.get_value_from_index(int(index)))) for index in buckets]
    return Recorded(buckets, counts[buckets].astype(np.int64), np.array(values))


def counts_of(texts: Sequence[str]) -> Counts:
    """Put histograms side by side. Raises ValueError where one of them can't be read, or there is none."""
    found = [one for one in map(recorded, texts) if one is not None]
    if len(found) < len(texts) or not found:
        raise ValueError("a histogram is missing or can't be read")
    buckets, first = np.unique(np.concatenate([one.buckets for one in found]), return_index=True)
    rows = np.zeros((len(found), len(buckets)))
    for row, one in zip(rows, found, strict=True):
        row[np.searchsorted(buckets, one.buckets)] = one.counts
    return Counts(rows, np.concatenate([one.values for one in found])[first])


def draws(rounds: int, seed: int = SEED) -> Floats:
    """Draw so many rounds with replacement, RESAMPLES times: how often each came, a row a drawing.

    Always the same ones (Efron, Tibshirani: An Introduction to the Bootstrap, chapter 6).
    """
    drawn = np.random.default_rng(seed).multinomial(rounds, [1 / rounds] * rounds, size=RESAMPLES)
    return drawn.astype(np.float64)  # for a product by BLAS


def merged_quantiles(counts: Counts, weights: Floats, quantile: float) -> Floats:
    """Give for each row of weights the quantile (ns, nearest rank) of the histograms merged with them.

    It lies between the smallest and the largest quantile of the single ones: what is below needs no more than a sum.
    """
    each = np.cumsum(counts.rows, axis=1)
    places = (each < _ranks(each[:, -1], quantile)[:, None]).sum(axis=1)
    first, last = int(places.min()), int(places.max())
    below = each[:, first - 1] if first else np.zeros(len(each))
    reached = (weights @ below)[:, None] + np.cumsum(weights @ counts.rows[:, first : last + 1], axis=1)
    ranks = _ranks(weights @ each[:, -1], quantile)
    found: Floats = counts.values[first + np.minimum((reached < ranks[:, None]).sum(axis=1), last - first)]
    return found


def _ranks(totals: Floats, quantile: float) -> Floats:
    return np.asarray(np.maximum(1, np.ceil(quantile * totals - 1e-6)), dtype=np.float64)


class Resampled(NamedTuple):
    """Logarithms of merged quantiles (ns), NaN where nothing was there to be merged.

    `logs` has a column for each row of histograms; its first row is what they are, the others are drawings. `present`
    says which histograms could be read: a row each, a column a round. `worth` is how many rounds of equal weight each
    row's own are worth.
    """

    logs: Floats
    present: NDArray[np.bool_]
    worth: Floats


def resampled(texts: Sequence[Sequence[str]], quantile: float, seed: int = SEED) -> Resampled:
    """Merge rows of histograms, one a round, as they are and as drawn anew; the same rounds are drawn for all rows.

    A cell without a histogram ("") is left out of its row.
    """
    present = np.array([[recorded(text) is not None for text in row] for row in texts], dtype=np.bool_)
    rounds = present.shape[1]
    weights = np.concatenate([np.ones((1, rounds)), draws(rounds, seed)])
    logs, worth = np.full((len(weights), len(texts)), math.nan), np.zeros(len(texts))
    for at, (row, there) in enumerate(zip(texts, present, strict=True)):
        own = weights[:, there]
        known = own.sum(axis=1) > 0
        if known.any():
            counts = counts_of([text for text, is_there in zip(row, there, strict=True) if is_there])
            logs[known, at] = _log(merged_quantiles(counts, own[known], quantile))
            worth[at] = _worth(counts, logs[0, at])
    return Resampled(logs, present, worth)


def _log(values: Floats) -> Floats:
    """The logarithms of times in ns, of which 0 is as good as 1."""
    return np.log(np.maximum(1.0, values))


def _worth(counts: Counts, quantile: float) -> float:
    """Give how many histograms of equal weight these are worth in their merged quantile, a logarithm.

    The square of the sum of weights by the sum of their squares (Kish: Survey Sampling, 1965). A quantile goes where
    the samples near it go, so a histogram has the weight of its own near it: of a machine that was slow for a while,
    the rounds of that while have nearly all.
    """
    near = np.abs(_log(counts.values) - quantile) <= NEAR
    weights = counts.rows[:, near].sum(axis=1)
    return float(weights.sum() ** 2 / (weights**2).sum())
