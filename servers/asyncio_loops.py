"""Coroutines and callbacks on asyncio's event loop.

    epoll_wait() --> recv() --> [callback, or a coroutine resumed] --> send() --> epoll_wait() ...

Underneath is level-triggered epoll, as in readiness.py. What is new is above it: the loop turns each ready descriptor
into a call. Four forms of the same server, and the system calls of one echo that comes alone:

    asyncio_protocol   epoll_wait, recv, send. The transport calls data_received with the bytes: no task, no future, a
                       few calls for a message.
    asyncio_buffered   The same three. The transport reads into a buffer that the protocol lends it (recv_into), and
                       allocates none.
    asyncio_streams    epoll_wait, recv, epoll_wait(0), send. A coroutine for each connection reads like the blocking
                       version. The bytes go through the buffer of a StreamReader; `await` parks the coroutine on a
                       future, and the loop resumes it in its next iteration, which asks epoll first.
    asyncio_sock       epoll_wait, recv, epoll_wait(0), epoll_ctl(DEL), send, recv = EAGAIN, epoll_ctl(ADD). A coroutine
                       for each connection, and no transport: sock_recv tries recv, and where that says EAGAIN it puts
                       the socket on the interest list (add_reader) and takes it off when bytes have come.

The last needs sockets, since recv is no call for a pipe, and the transport of a pipe lends no buffer: asyncio_sock and
asyncio_buffered do not serve pipes.

Many ready connections share an epoll_wait, as in readiness.py, and here the share of epoll_wait(0) as well; each of the
other calls is made for every message. The server sleeps in epoll_wait alone, and a task that waits costs memory only.

Backpressure is the transport's: when more than 64 KiB are unsent it says pause_writing (drain() then waits), and
the echo stops reading until it hears resume_writing. sock_sendall just waits, and nothing reads meanwhile.

A transport without a lent buffer reads up to 256 KiB at once, where the other strategies read RECV_SIZE. That buffer is
allocated for every read, above glibc's mmap threshold of 128 KiB: mmap, mremap to the size of the message and munmap
for every message, until one is freed as large as it was and makes glibc raise the threshold (mallopt(3)). The empty
read at the end of the first connection does that. So the first clients of an asyncio server pay three times what those
pay that come when one has left; iobench connects and leaves once before it measures any server.

SIGTERM reaches the loop as a byte on a socket pair of its own (signal.set_wakeup_fd), which wakes it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from typing import Any, Awaitable, Callable, NamedTuple, Optional, Set, Tuple

from servers.contract import RECV_SIZE, Channel, Listener, Strategy

# Messages that asyncio_sock echoes before it lets others run, whether it had to wait for any of them or not.
TURN = 16


ENDINGS = (signal.SIGTERM, signal.SIGINT)


class Flow:
    """What the protocols have in common: backpressure, and the end of both transports.

    A socket is one transport, and input and output are the same; a pair of pipes is two.
    """

    input: Any
    output: Any = None

    def connection_made(self, transport: Any) -> None:
        self.output = self.output or transport  # of two transports, the one that writes is connected first
        self.input = transport

    def pause_writing(self) -> None:
        self.input.pause_reading()

    def resume_writing(self) -> None:
        self.input.resume_reading()

    def connection_lost(self, exc: object) -> None:
        self.input.close()
        self.output.close()  # once all that is still unsent has been written


class Echo(Flow, asyncio.Protocol):
    """Bytes come as an object of their own for every read."""

    def data_received(self, data: bytes) -> None:
        if self.output.is_closing():
            self.input.close()  # the client left its other pipe before both ends were connected to the loop
        else:
            self.output.write(data)


class BufferedEcho(Flow, asyncio.BufferedProtocol):
    """Bytes come in one buffer, which is lent to the transport for every read."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(RECV_SIZE))

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # What could not be sent at once still lies in the buffer: uvloop, and asyncio from Python 3.12 on, do not copy
        # it. With this limit the first unsent byte pauses reading, and only the last one resumes it.
        transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.output.write(self.buffer[:nbytes])


async def echo_by_protocol(new_protocol: Callable[[], Flow], channel: Channel) -> None:
    """Attach a protocol to the channel; from then on the loop calls it."""
    protocol = new_protocol()
    await attach(channel, protocol, protocol)


async def echo_by_streams(channel: Channel) -> None:
    """Read and write until the peer closes."""
    reader = asyncio.StreamReader(RECV_SIZE)
    incoming = asyncio.StreamReaderProtocol(reader)
    outgoing = incoming if is_socket(channel) else asyncio.StreamReaderProtocol(asyncio.StreamReader())
    source, sink = await attach(channel, incoming, outgoing)
    writer = asyncio.StreamWriter(sink, outgoing, reader, asyncio.get_running_loop())
    try:
        # The peer may have gone while bytes of it were left: to write then is logged by asyncio, and raises on uvloop.
        while (data := await reader.read(RECV_SIZE)) and not sink.is_closing():
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # ECONNRESET, EPIPE: the peer has gone
    finally:
        writer.close()
        source.close()


async def echo_by_sock(channel: Channel) -> None:
    """Receive and send on the socket itself until the peer closes."""
    loop = asyncio.get_running_loop()
    with socket.socket(fileno=channel.rfd) as sock, suppress(OSError):
        sock.setblocking(False)
        while True:
            for _ in range(TURN):
                data = await loop.sock_recv(sock, RECV_SIZE)
                if not data:
                    return
                await loop.sock_sendall(sock, data)
            # To await what need not wait does not suspend: a flood would be echoed here for ever.
            await asyncio.sleep(0)


def is_socket(channel: Channel) -> bool:
    """Whether one descriptor does for both directions."""
    return channel.rfd == channel.wfd


async def attach(channel: Channel, incoming: Any, outgoing: Any) -> Tuple[Any, Any]:
    """Give the channel to the loop; return its two transports, the one that reads and the one that writes."""
    loop = asyncio.get_running_loop()
    if is_socket(channel):
        sock = socket.socket(fileno=channel.rfd)
        both, _ = await loop.create_connection(lambda: incoming, sock=sock)  # connected it is already
        return both, both
    read_end = os.fdopen(channel.rfd, "rb", 0)
    write_end = os.fdopen(channel.wfd, "wb", 0)
    sink, _ = await loop.connect_write_pipe(lambda: outgoing, write_end)
    source, _ = await loop.connect_read_pipe(lambda: incoming, read_end)
    return source, sink


def serve(listener: Listener, echo: Callable[[Channel], Awaitable[None]], new_loop: Callable[[], Any]) -> None:
    """Run the loop until SIGTERM; `echo` becomes a task for each connection."""
    listener.set_blocking(False, channels=True)  # every transport sets O_NONBLOCK itself
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)  # half a loop can't be left in order
    loop = new_loop()
    asyncio.set_event_loop(loop)  # keeps it, and all that waits in it, alive after its end: nothing is left to log
    tasks: Set[Any] = set()  # the loop itself keeps only weak references

    def welcome() -> None:
        channel = listener.accept()
        if channel is not None:
            task = asyncio.ensure_future(echo(channel), loop=loop)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    loop.add_reader(listener.fd, welcome)
    loop.call_soon(stop_on_signal, loop)
    loop.run_forever()


def stop_on_signal(loop: Any) -> None:
    """Let the loop turn SIGTERM and SIGINT into a callback that stops it.

    Stop would be raised in the middle of the loop's own code, some of which is no Python: not every loop lets it
    through. To be called in the loop, since not every loop notices signals before it runs; until then they are blocked.
    """
    for number in ENDINGS:
        loop.add_signal_handler(number, loop.stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


class Form(NamedTuple):
    """A way to write the same server on any loop that has asyncio's interface."""

    name: str
    summary: str
    echo: Callable[[Channel], Awaitable[None]]
    transports: Tuple[str, ...] = ("tcp", "unix", "pipe")


FORMS = (
    Form("streams", "streams: a coroutine for each connection awaits read and drain", echo_by_streams),
    Form("protocol", "protocol: the event loop calls data_received with the bytes", partial(echo_by_protocol, Echo)),
    Form(
        "sock",
        "sockets: a coroutine for each connection awaits sock_recv and sock_sendall",
        echo_by_sock,
        ("tcp", "unix"),
    ),
    Form(
        "buffered",
        "buffered protocol: the event loop reads into a buffer of ours",
        partial(echo_by_protocol, BufferedEcho),
        ("tcp", "unix"),
    ),
)


def on_loop(name: str, new_loop: Callable[[], Any], form: Form, probe: Optional[Callable[[], None]] = None) -> Strategy:
    """Describe one form on one loop."""
    return Strategy(
        name=f"{name}_{form.name}",
        summary=f"{name} {form.summary}",
        serve=partial(serve, echo=form.echo, new_loop=new_loop),
        model="coroutine",
        transports=form.transports,
        probe=probe,
    )


STRATEGIES = tuple(on_loop("asyncio", asyncio.new_event_loop, form) for form in FORMS)
