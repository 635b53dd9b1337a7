"""Wrong bytes are named by what came instead, whatever the payload, the size and the place of the fault."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clients.faults import Mismatch, name_wrong_bytes
from clients.payload import bases, message

SEEDS = st.integers(0, 1 << 60)
SIZES = st.integers(16, 400)
DUE, BEGUN = 7, 10  # three messages are outstanding


def name(base: int, size: int, arrived: bytes, due: int = DUE) -> str:
    seen = Mismatch(base=base, size_of=lambda number: size, due=due, begun=BEGUN, offset=0, arrived=arrived)
    return name_wrong_bytes(seen)


def stream(base: int, size: int, *numbers: int) -> bytes:
    return b"".join(message(base, number, 0, size) for number in numbers)


@given(SEEDS, SIZES, st.data())
@settings(deadline=None)
def test_a_single_wrong_byte_is_corrupt(seed: int, size: int, data: st.DataObject) -> None:
    base = int(bases(seed, 1)[0])
    arrived = bytearray(stream(base, size, 7, 8, 9))
    arrived[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    assert name(base, size, bytes(arrived)) == "corrupt"


@given(SEEDS, SIZES, st.data())
@settings(deadline=None)
def test_missing_bytes_are_short_wherever_they_are_missing(seed: int, size: int, data: st.DataObject) -> None:
    base = int(bases(seed, 1)[0])
    arrived = stream(base, size, 7)
    start = data.draw(st.integers(8, size - 1))
    end = data.draw(st.integers(start + 1, size))
    came = arrived[:start] + arrived[end:] + stream(base, size, 8, 9)
    assume(came[:size] != arrived)  # else the message is whole by chance, and the next one is short
    assert name(base, size, came) == "short"


@given(SEEDS, SIZES, st.data())
@settings(deadline=None)
def test_bytes_that_were_never_sent_are_extra(seed: int, size: int, data: st.DataObject) -> None:
    base = int(bases(seed, 1)[0])
    arrived = stream(base, size, 7, 8, 9)
    at = data.draw(st.integers(0, size - 1))
    more = bytes([arrived[at] ^ 0xFF]) + data.draw(st.binary(min_size=1, max_size=30))
    assert name(base, size, arrived[:at] + more + arrived[at:]) == "extra"


@given(SEEDS, SIZES)
@settings(deadline=None)
def test_whole_messages_out_of_place_are_duplicated_lost_or_reordered(seed: int, size: int) -> None:
    base = int(bases(seed, 1)[0])
    assert name(base, size, stream(base, size, 6, 7, 8)) == "duplicated"
    assert name(base, size, stream(base, size, 8, 9)) == "lost"
    assert name(base, size, stream(base, size, 9)) == "lost"
    assert name(base, size, stream(base, size, 8, 7, 9)) == "reordered"


@given(SEEDS, SIZES)
@settings(deadline=None)
def test_with_nothing_outstanding_whatever_comes_is_duplicated_or_extra(seed: int, size: int) -> None:
    base = int(bases(seed, 1)[0])
    assert name(base, size, stream(base, size, 9), due=BEGUN) == "duplicated"
    assert name(base, size, stream(base, size, 9)[:10], due=BEGUN) == "duplicated"
    assert name(base, size, b"!", due=BEGUN) == "extra"
    assert name(base, size, stream(base, size, 4), due=BEGUN) == "extra"


def test_bytes_of_another_connection_are_corrupt() -> None:
    one, other = bases(1, 2).tolist()
    assert name(one, 64, stream(other, 64, 7, 8)) == "corrupt"
