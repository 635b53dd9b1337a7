"""The load generator against peers that send what they like, as much as they like: its books balance, it comes to its
end, and it takes no more memory. So does the run that listens to a load generator, or a server, gone mad.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from driving import drive, load_code
from fuzzing import MIB, examples, within_memory
from hypothesis import example, given
from hypothesis import strategies as st
from peers import Talk, peer

from bench.events import MAX_LINE_BYTES, ProtocolError, Stream
from clients.job import JobError

pytestmark = pytest.mark.timeout(600)

WORKLOADS: dict[str, dict[str, Any]] = {
    "closed": {"depth": 3},
    "open": {"rate_hz": 2000.0},
    "burst": {},
    "churn": {},
    "stream": {"depth": 4},
    "slow": {"trickle_bytes": 20, "trickle_hz": 500.0},
    "idle": {"silent": 2},
}
Act = Callable[[Talk, bytes], None]


def say(data: bytes) -> Act:
    """Send bytes that nobody asked for."""
    return lambda talk, message: talk.send(data)


def echo(talk: Talk, message: bytes) -> None:
    talk.send(message)


def echo_a_part(talk: Talk, message: bytes) -> None:
    talk.send(message[: len(message) // 3])


def flood(talk: Talk, message: bytes) -> None:
    """Send, without end, until the other side has gone."""
    while not talk.over.is_set():
        talk.send(b"\x55" * 65536)


def repeat_for_ever(talk: Talk, message: bytes) -> None:
    """Send the right answer, and go on sending it."""
    while not talk.over.is_set():
        talk.send(message)


def end(talk: Talk, message: bytes) -> None:
    talk.end()


def reset(talk: Talk, message: bytes) -> None:
    with socket.socket(fileno=os.dup(talk.channel.rfd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    talk.end()


def finish_sending(talk: Talk, message: bytes) -> None:
    with socket.socket(fileno=os.dup(talk.channel.rfd)) as sock:
        sock.shutdown(socket.SHUT_WR)


def stall(talk: Talk, message: bytes) -> None:
    talk.over.wait()


acts = st.sampled_from(
    [echo, echo, echo_a_part, flood, repeat_for_ever, end, reset, finish_sending, stall]
) | st.binary(min_size=1, max_size=300).map(say)


class Script:
    """A fault that does one thing after the other, a message at a time, and then the last one again and again."""

    def __init__(self, listed: list[Act]) -> None:
        self._acts = listed
        self._at: dict[int, int] = {}

    def __call__(self, talk: Talk, message: bytes) -> None:
        at = self._at[id(talk)] = self._at.get(id(talk), -1) + 1
        self._acts[min(at, len(self._acts) - 1)](talk, message)


@examples(20)
@given(
    st.lists(acts, min_size=1, max_size=4),
    st.sampled_from(sorted(WORKLOADS)),
    st.sampled_from([16, 64, 5000]),
    st.sampled_from([b"", b"", b"", b"\x00", b"220 ready\r\n" * 10_000]),
)
@example([flood], "closed", 64, b"")
@example([repeat_for_ever], "open", 64, b"")
@example([echo], "idle", 64, b"220 ready\r\n")
@example([flood], "churn", 64, b"")
@example([flood], "stream", 5000, b"")
def test_whatever_a_peer_does_the_books_balance_and_the_run_ends(
    listed: list[Act], workload: str, message_bytes: int, greeting: bytes
) -> None:
    load_code()
    options: dict[str, Any] = {"at": 2, "from_there_on": True, "greeting": greeting}
    with (
        within_memory(),
        peer(message_bytes=message_bytes, fault=Script(listed), **options) as running,
        suppress(JobError),  # no connection was left when the window was to open
    ):
        drive(running, workload, connections=3, duration_s=0.1, timeout_s=0.3, **WORKLOADS[workload])


@examples(150)
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"[" * 3000, b"{}\n", b'{"event": 1}\n', b"9" * 5000, b"\n"]))
)
@example([b"[" * 5000 + b"\n"])
@example([b'{"a": ' * 5000 + b"\n"])
@example([b"9" * 5000 + b"\n"])
@example([b"\xff\n"])
def test_any_bytes_of_another_process_are_events_or_a_complaint(parts: list[bytes]) -> None:
    reading, writing = os.pipe()
    stream = Stream(reading, "the load generator")
    try:
        for part in parts:
            if part:
                os.write(writing, part)
                stream.receive()
            while event := stream.next():
                assert isinstance(event.fields, dict)
    except ProtocolError as error:
        assert str(error).startswith("the load generator wrote ") and len(str(error)) < 400
    finally:
        os.close(writing)
        stream.close()


def test_a_line_without_end_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.events.MAX_LINE_BYTES", MIB)
    assert MAX_LINE_BYTES > MIB
    reading, writing = os.pipe()
    stream = Stream(reading, "the load generator")
    try:
        with within_memory(64 * MIB), pytest.raises(ProtocolError, match="a line of more than 1048576 bytes"):
            for _ in range(100):
                os.write(writing, b"x" * 65536)
                stream.receive()
    finally:
        os.close(writing)
        stream.close()
