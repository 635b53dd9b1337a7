"""Message sizes drawn from a distribution: the size of message n of a connection follows from the seed, like its bytes.

So both sides of the verifier know it without a note being kept. Where all messages are of one size nothing here runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from clients.compiled import compiled, inlined
from clients.job import MOST_SIZES
from clients.payload import STEP, mix

_SALT = np.uint64(0xA0761D6478BD642F)  # keeps the draw apart from the payload, which follows from the same stamp

# What compiled code draws from, part of what connections share. A draw is a 64-bit number; it stands for the first size
# whose `size_upto` is not below it. A count of 0 means that all messages are of one size.
FIELDS: list[Any] = [
    ("size_count", np.int64),
    ("size_bytes", np.int64, (MOST_SIZES,)),
    ("size_upto", np.uint64, (MOST_SIZES,)),
]


@inlined
def size_of(shared, base, number):  # type: ignore[no-untyped-def]
    """Bytes of message `number` of the connection with this base. Not to be asked where `size_count` is 0."""
    draw = mix((base + np.uint64(number) * STEP) ^ _SALT)
    low, high = 0, shared.size_count - 1
    while low < high:
        middle = (low + high) >> 1
        if draw <= shared.size_upto[middle]:
            high = middle
        else:
            low = middle + 1
    return shared.size_bytes[low]


@compiled
def drawn(shared_row, base, first, sizes):  # type: ignore[no-untyped-def]
    """Fill `sizes` (int64) with those of messages first, first + 1, ... of a connection."""
    for k in range(len(sizes)):
        sizes[k] = size_of(shared_row[0], base, first + k)


def spread(shared: Any, sizes: Sequence[Sequence[float]]) -> None:
    """Put a distribution, pairs of bytes and weight, into the row that connections share."""
    total = sum(Fraction(weight) for _, weight in sizes)
    so_far = Fraction(0)
    for k, (size, weight) in enumerate(sizes):
        so_far += Fraction(weight)
        shared["size_bytes"][0, k] = int(size)
        shared["size_upto"][0, k] = max(0, int(so_far / total * 2**64) - 1)
    shared["size_count"] = len(sizes)


def mean_bytes(sizes: Sequence[Sequence[float]]) -> int:
    """Return the mean size of a distribution, rounded."""
    return round(sum(size * weight for size, weight in sizes) / sum(weight for _, weight in sizes))
