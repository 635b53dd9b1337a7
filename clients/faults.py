"""Names what went wrong on a connection. Slow and careful: it runs once for each connection that failed, never in the loop.

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
from functools import partial

from clients.connections import END_OF_FILE, TIMED_OUT
from clients.payload import message

# A stretch of bytes is recognised by so many of them.
_ENOUGH = 4
_PEEK = 4096


def name_ending(reason: int, echoed: int, echo_bytes: int) -> str:
    """Name why a connection ended, wrong bytes apart: a negative reason of clients.connections or an errno."""
    if reason == TIMED_OUT:
        return "short" if echo_bytes else "timed_out"
    if echoed == 0 and reason in (END_OF_FILE, errno.EPIPE, errno.ECONNRESET):
        return "refused"
    # EPIPE is how a write learns of an orderly end. A TCP socket that had got a FIN before the RST says so too.
    if reason in (END_OF_FILE, errno.EPIPE):
        return "closed"
    if reason == errno.ECONNRESET:
        return "reset"
    return errno.errorcode.get(reason, f"errno_{reason}").lower()


def name_wrong_bytes(base: int, size: int, due: int, begun: int, offset: int, arrived: bytes) -> str:
    """Name the fault in `arrived`, bytes that came where byte `offset` of message `due` was expected.

    `size` is that of every message of the connection, `begun` how many it began to send: if message `due` is not one of
    them, nothing at all was expected.
    """
    text = partial(_text, base, size)
    if due >= begun:
        return "duplicated" if due > 0 and _agree(arrived, text(due - 1)) else "extra"
    expected = message(base, due, offset, min(size - offset, len(arrived)))
    good = next((i for i, (a, b) in enumerate(zip(arrived, expected, strict=False)) if a != b), len(expected))
    at, wrong = offset + good, arrived[good:]  # the first wrong byte, and all that came from there on
    if at == size:
        return "extra"  # right as far as the message went, and then more
    if at + 1 < size and _agree(wrong[1:], text(due, at + 1)):
        return "corrupt"  # one byte is wrong and the next is right again
    later = range(due + 1, begun)
    if at < 8:  # another message may well share the first bytes
        whole = text(due)[:at] + wrong
        if due > 0 and _agree(whole, text(due - 1)):
            return "duplicated"
        if any(_agree(whole, text(number)) for number in later):
            return "reordered" if text(due)[:_ENOUGH] in whole[size:] else "lost"
    rest = text(due, at + 1)
    if any(_agree(wrong, text(number)) for number in later) or wrong[:_ENOUGH] in rest and len(wrong) >= _ENOUGH:
        return "short"
    if len(wrong) < size - at and message(base, due, size - len(wrong), len(wrong)) == wrong:
        return "short"  # its end, too early
    if text(due, at)[:_ENOUGH] in wrong[1:]:
        return "extra"
    return "corrupt"


def _text(base: int, size: int, number: int, start: int = 0) -> bytes:
    return message(base, number, start, min(size - start, _PEEK))


def _agree(left: bytes, right: bytes) -> bool:
    """Whether they are equal as far as both go, and that isn't nowhere."""
    common = min(len(left), len(right))
    return common > 0 and left[:common] == right[:common]
