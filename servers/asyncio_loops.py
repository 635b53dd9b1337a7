"""Coroutines and callbacks on asyncio's event loop.

    epoll_wait() --> recv() --> [callback, or a coroutine resumed] --> send() --> epoll_wait() ...

Underneath is level-triggered epoll, as in readiness.py: one echo is recv + send + its share of an epoll_wait. What
is new is above it: the loop turns each ready descriptor into a call.

    asyncio_protocol   The transport calls data_received with the bytes: no task, no future, a few calls for a message.
    asyncio_streams    A coroutine for each connection reads like the blocking version. The bytes go through the buffer
                       of a StreamReader; `await` parks the coroutine on a future, and the loop resumes it in its next
                       iteration.

Backpressure is the transport's: when more than 64 KiB are unsent it says pause_writing (drain() then waits), and
the echo stops reading until it hears resume_writing.

The loop's transports read up to 256 KiB at once, where the other strategies read RECV_SIZE: the buffer is allocated
for every read, and from glibc's mmap threshold on that can mean mmap, mremap and munmap for every message.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Awaitable, Callable, Set, Tuple

from servers.contract import RECV_SIZE, Channel, Listener, Strategy


class Echo(asyncio.Protocol):
    """Callbacks. A socket is one transport, and input and output are the same; a pair of pipes is two."""

    input: Any
    output: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if hasattr(transport, "pause_reading"):
            self.input = transport
        if hasattr(transport, "write"):
            self.output = transport

    def data_received(self, data: bytes) -> None:
        self.output.write(data)

    def pause_writing(self) -> None:
        self.input.pause_reading()

    def resume_writing(self) -> None:
        self.input.resume_reading()

    def connection_lost(self, exc: object) -> None:
        self.input.close()
        self.output.close()  # once all that is still unsent has been written


async def echo_by_protocol(channel: Channel) -> None:
    """Attach an Echo to the channel; from then on the loop calls it."""
    echo = Echo()
    await attach(channel, echo, echo)


async def echo_by_streams(channel: Channel) -> None:
    """Read and write until the peer closes."""
    reader = asyncio.StreamReader(RECV_SIZE)
    incoming = asyncio.StreamReaderProtocol(reader)
    outgoing = incoming if is_socket(channel) else asyncio.StreamReaderProtocol(asyncio.StreamReader())
    source, sink = await attach(channel, incoming, outgoing)
    writer = asyncio.StreamWriter(sink, outgoing, reader, asyncio.get_running_loop())
    try:
        while data := await reader.read(RECV_SIZE):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # ECONNRESET, EPIPE: the peer has gone
    finally:
        writer.close()
        source.close()


def is_socket(channel: Channel) -> bool:
    """Whether one descriptor does for both directions."""
    return channel.rfd == channel.wfd


async def attach(channel: Channel, incoming: asyncio.Protocol, outgoing: asyncio.Protocol) -> Tuple[Any, Any]:
    """Give the channel to the loop; return its two transports, the one that reads and the one that writes."""
    loop = asyncio.get_running_loop()
    if is_socket(channel):
        sock = socket.socket(fileno=channel.rfd)
        both, _ = await loop.connect_accepted_socket(lambda: incoming, sock)
        return both, both
    read_end = os.fdopen(channel.rfd, "rb", 0)
    write_end = os.fdopen(channel.wfd, "wb", 0)
    sink, _ = await loop.connect_write_pipe(lambda: outgoing, write_end)
    source, _ = await loop.connect_read_pipe(lambda: incoming, read_end)
    return source, sink


def serve(listener: Listener, echo: Callable[[Channel], Awaitable[None]]) -> None:
    """Run the loop; `echo` becomes a task for each connection."""
    listener.set_blocking(False)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    tasks: Set[Any] = set()  # the loop itself keeps only weak references

    def welcome() -> None:
        channel = listener.accept()
        if channel is not None:
            task = asyncio.ensure_future(echo(channel), loop=loop)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    loop.add_reader(listener.fd, welcome)
    loop.run_forever()


STRATEGIES = (
    Strategy(
        name="asyncio_streams",
        summary="asyncio streams: a coroutine for each connection awaits read and drain",
        serve=lambda listener: serve(listener, echo_by_streams),
        model="coroutine",
    ),
    Strategy(
        name="asyncio_protocol",
        summary="asyncio protocol: the event loop calls data_received with the bytes",
        serve=lambda listener: serve(listener, echo_by_protocol),
        model="coroutine",
    ),
)
