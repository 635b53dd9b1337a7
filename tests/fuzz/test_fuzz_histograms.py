"""Whatever is said to be a histogram, it is one that can be computed with, or none; and it takes no more memory."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
from fuzzing import MIB, cut_up, examples, nothing_but_notes, taking_at_most
from hypothesis import example, given
from hypothesis import strategies as st

from bench.histograms import CURVE, decode, decode_any, merged, percentiles_us, quantiles_us, told_us
from clients import histogram

pytestmark = pytest.mark.timeout(600)

COOKIE, COMPRESSED = 0x1C849313, 0x1C849314  # of HdrHistogram's format V2, plain and compressed


def whole() -> str:
    counts = histogram.empty()
    counts[[3, 900, 5000, 12_000]] = (1, 400, 70_000, 2)
    return histogram.encode(counts)


def packed(
    body: bytes, digits: int = 3, lowest: int = 1, highest: int = 10**12, *, cookie: int = COOKIE, ratio: float = 1.0
) -> str:
    """Bytes as a histogram whose header says what it likes."""
    plain = struct.pack(">IIIIQQd", cookie, len(body) & 0xFFFFFFFF, 0, digits, lowest, highest, ratio) + body
    squeezed = zlib.compress(plain)
    return base64.b64encode(struct.pack(">II", COMPRESSED, len(squeezed)) + squeezed).decode()


def used(text: str) -> None:
    """Do with it what is done with any."""
    with nothing_but_notes():
        decode_any(text)
        hist = decode(text)
        if hist is None:
            return
        assert 0 < hist.total_count < 2**48
        assert np.all(np.isfinite(quantiles_us(hist, [0.5, 0.99, 1.0])))
        told_us(hist, CURVE)
        percentiles_us(hist, [0.5, 0.999], unfinished=3)


numbers = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2, 10**12, 2**62, 2**63, 2**64 - 1])


@examples(200)
@given(st.binary(max_size=60), st.integers(0, 7) | st.integers(0, 2**32 - 1), numbers, numbers, st.floats())
@example(b"\xfe" + b"\xff" * 8, 3, 1, 10**12, 1.0)
@example(b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f" * 3, 3, 1, 10**12, 1.0)
@example(b"\x02" * 60, 5, 1, 2**63, 1.0)
def test_counters_and_headers_of_any_value_are_a_histogram_or_none(
    body: bytes, digits: int, lowest: int, highest: int, ratio: float
) -> None:
    used(packed(body, digits, lowest, highest, ratio=ratio))


@examples(200)
@given(cut_up(whole().encode()) | st.text(max_size=80).map(str.encode))
@example(b"")
@example("é".encode() * 8)
@example(whole().encode()[:-9])
def test_any_text_is_a_histogram_or_none(content: bytes) -> None:
    used(content.decode(errors="replace"))


@examples(60)
@given(st.binary(max_size=200))
def test_any_bytes_behind_a_right_cookie_are_a_histogram_or_none(body: bytes) -> None:
    used(base64.b64encode(struct.pack(">II", COMPRESSED, len(body)) + body).decode())


@examples(60)
@given(st.lists(st.tuples(st.binary(max_size=20), st.integers(1, 4), numbers, numbers), max_size=4))
@example([(b"\x02" * 19, 3, 1, 1000), (b"\x02" * 19, 1, 1, 10**12)])
@example([(b"\x02" * 19, 1, 1, 10**12), (b"\x02" * 19, 3, 2**20, 2**61)])
def test_histograms_of_different_buckets_can_be_added(parts: list[tuple[bytes, int, int, int]]) -> None:
    texts = [packed(*part) for part in parts]
    readable = [hist for text in texts if (hist := decode(text)) is not None]
    total = decode(merged(texts))
    assert (total is None) is (not readable)
    assert total is None or total.total_count <= sum(hist.total_count for hist in readable)


@pytest.mark.parametrize(
    "text",
    [
        packed(b"\x00" * 256 * MIB),
        packed(b"\x02" * 8 * MIB),
        packed(b"\x02", digits=5, highest=2**62),
        packed(b"\x02", digits=4, highest=2**62),
    ],
    ids=["zeros", "counters", "five digits", "four digits"],
)
def test_a_small_text_that_stands_for_much_memory_is_no_histogram(text: str) -> None:
    assert len(text) < MIB
    with taking_at_most(4 * MIB):
        assert decode(text) is None


def test_counts_that_can_not_be_added_up_are_no_histogram() -> None:
    counts = histogram.empty()
    counts[[10, 20]] = 2**62
    assert decode(histogram.encode(counts)) is None
    counts[[10, 20]] = 2**40
    found = decode(histogram.encode(counts))
    assert found is not None and found.total_count == 2**41
