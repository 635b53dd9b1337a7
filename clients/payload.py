"""What each message holds, so that any byte out of place is noticed: generated when sent, and again when it returns.

Message `number` of a connection is a sequence of 8-byte words that follow from the connection's `base` and the number.
Word 0 is the stamp: it moves by an odd step from message to message, so that even its lowest byte, which is all of a
1-byte message, differs between any 256 messages in a row. Word k is a mix of stamp + k * GOLDEN (splitmix64: Steele,
Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). No message is kept in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clients import wire
from clients.compiled import compiled, inlined

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
STEP = np.uint64(0xD1B54A32D192ED03)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@inlined
def mix(word):  # type: ignore[no-untyped-def]
    """Scatter the bits of a word: the finaliser of splitmix64."""
    word = (word ^ (word >> _30)) * _MIX_1
    word = (word ^ (word >> _27)) * _MIX_2
    return word ^ (word >> _31)


@inlined
def generate(words, base, number, first, count):  # type: ignore[no-untyped-def]
    """Write words first ... first + count - 1 of a message into `words` (uint64)."""
    stamp = base + np.uint64(number) * STEP
    for k in range(count):
        words[k] = mix(stamp + np.uint64(first + k) * GOLDEN)
    if first == 0:
        words[0] = stamp


@inlined
def prepare(words, base, number, offset, size):  # type: ignore[no-untyped-def]
    """Generate `size` bytes of a message from byte `offset` on; returns the address of the first of them.

    `words` must hold size / 8 + 2 words.
    """
    skipped = offset & 7
    generate(words, base, number, offset >> 3, (skipped + size + 7) >> 3)
    return wire.address(words) + skipped


@compiled
def _fill(words, base, number, first, count):  # type: ignore[no-untyped-def]
    generate(words, base, number, first, count)


def bases(seed: int, connections: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """One base for each connection, derived from the seed: no two connections send the same bytes."""
    words = np.empty(connections + 1, np.uint64)
    _fill(words, np.uint64(seed & 0xFFFF_FFFF_FFFF_FFFF), np.int64(0), np.int64(0), np.int64(connections + 1))
    return words[1:]


def message(base: int, number: int, offset: int, size: int) -> bytes:
    """Bytes offset ... offset + size - 1 of a message."""
    if size <= 0:
        return b""
    first, skipped = divmod(offset, 8)
    words = np.empty((skipped + size + 7) // 8, np.uint64)
    _fill(words, np.uint64(base), np.int64(number), np.int64(first), np.int64(len(words)))
    return words.tobytes()[skipped : skipped + size]
