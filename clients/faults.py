"""Names what went wrong on a connection. It runs once for each connection that failed, never in the loop.

- `corrupt`     a byte came back changed, and nothing below explains it
- `duplicated`  the previous message came again
- `lost`        a later message came in place of the one that was due
- `reordered`   the same, and the one that was due came after it
- `short`       bytes are missing from an echo, or it stopped half-way for `timeout_s`
- `extra`       bytes came that were never sent
- `closed`      the server ended the connection in an orderly way (end-of-file, EPIPE)
- `reset`       it was reset (ECONNRESET)
- `refused`     it was closed or reset before it had echoed a single message, or could not be opened
- any other error of the kernel by its name in small letters: `etimedout`, `ehostunreach`
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from clients.connections import END_OF_FILE, TIMED_OUT
from clients.payload import message

# A stretch of bytes is recognised by so many of them.
_ENOUGH = 4
_PLENTY = 16
_PEEK = 1 << 20


def name_ending(reason: int, echoed: int, echo_bytes: int) -> str:
    """Name why a connection ended, wrong bytes apart: a negative reason of clients.connections or an errno."""
    if reason == TIMED_OUT:
        return "short" if echo_bytes else "timed_out"
    if reason in (errno.ECONNREFUSED, errno.ENOENT):
        return "refused"
    if echoed == 0 and reason in (END_OF_FILE, errno.EPIPE, errno.ECONNRESET):
        return "refused"
    # EPIPE is how a write learns of an orderly end. A TCP socket that had got a FIN before the RST says so too.
    if reason in (END_OF_FILE, errno.EPIPE):
        return "closed"
    if reason == errno.ECONNRESET:
        return "reset"
    return errno.errorcode.get(reason, f"errno_{reason}").lower()


@dataclass(frozen=True)
class Mismatch:
    """Bytes that came where byte `offset` of message `due` was expected; `size_of` tells the size of a message.

    `begun` is how many messages the connection began to send: if `due` is not one of them, nothing at all was expected.
    """

    base: int
    size_of: Callable[[int], int]
    due: int
    begun: int
    offset: int
    arrived: bytes

    @property
    def size(self) -> int:
        """Bytes of the message that was due."""
        return self.size_of(self.due)


def name_wrong_bytes(seen: Mismatch) -> str:
    """Name the fault by what came instead, and after it."""
    if seen.due >= seen.begun:
        enough = len(seen.arrived) >= min(seen.size, _ENOUGH)
        again = seen.due > 0 and enough and _agree(seen.arrived, _text(seen, seen.due - 1))
        return "duplicated" if again else "extra"
    expected = message(seen.base, seen.due, seen.offset, min(seen.size - seen.offset, len(seen.arrived)))
    pairs = zip(seen.arrived, expected, strict=False)
    good = next((i for i, (byte, right) in enumerate(pairs) if byte != right), len(expected))
    at, wrong = seen.offset + good, seen.arrived[good:]  # the first wrong byte, and all that came from there on
    if at == seen.size:
        return "extra"  # right as far as the message went, and then more
    if _agree(wrong[1 : 1 + _PLENTY], _from(seen, at)[1:]):
        return "corrupt"  # one byte is wrong and those after it are right again
    return _name_other_message(seen, at, wrong) or _name_shift(seen, at, wrong) or "corrupt"


def _name_other_message(seen: Mismatch, at: int, wrong: bytes) -> str:
    """Recognise another message in place of the one that was due, or "". Its first bytes may well be the same."""
    if at >= 8:
        return ""
    due = _text(seen, seen.due)
    whole = due[:at] + wrong
    if seen.due > 0 and _agree(whole, _text(seen, seen.due - 1)):
        return "duplicated"
    for number in range(seen.due + 1, seen.begun):
        if _agree(whole, _text(seen, number)):
            return "reordered" if due[:_ENOUGH] in whole[seen.size_of(number) :] else "lost"
    return ""


def _name_shift(seen: Mismatch, at: int, wrong: bytes) -> str:
    """Recognise the right bytes at another place, or "": too early, so that some are missing, or too late."""
    ahead = _from(seen, at)
    cut = any(_agree(wrong, _text(seen, number)) for number in range(seen.due + 1, seen.begun))
    hole = len(wrong) >= _ENOUGH and wrong[:_ENOUGH] in ahead[1:]
    missing = seen.size - at - len(wrong)
    early_end = missing > 0 and message(seen.base, seen.due, at + missing, len(wrong)) == wrong
    if cut or hole or early_end:
        return "short"
    if len(ahead) < _ENOUGH:  # all that is to come, so it comes last
        return "extra" if wrong[1:].endswith(ahead) else ""
    return "extra" if ahead[:_ENOUGH] in wrong[1:] else ""


def _from(seen: Mismatch, at: int) -> bytes:
    """What should have come from byte `at` of the message on, with the messages after it, as far as _PEEK goes."""
    ahead = bytearray(_text(seen, seen.due, at))
    number = seen.due + 1
    while number < seen.begun and len(ahead) < _PEEK:
        ahead += _text(seen, number)
        number += 1
    return bytes(ahead)


def _text(seen: Mismatch, number: int, start: int = 0) -> bytes:
    return message(seen.base, number, start, min(seen.size_of(number) - start, _PEEK))


def _agree(left: bytes, right: bytes) -> bool:
    """Whether they are equal as far as both go, and that isn't nowhere."""
    common = min(len(left), len(right))
    return common > 0 and left[:common] == right[:common]
