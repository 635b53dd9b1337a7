"""Structured concurrency: trio, a task for each connection.

    recv() = EAGAIN --> epoll_ctl(MOD) --> epoll_wait() --> recv() --> send() --> epoll_wait(0) --> recv() = EAGAIN ...

All tasks live in one nursery, a block that is not left before the last of them has ended; to cancel it is to stop the
server. Each call is tried at once and waits where it says EAGAIN: one echo on a socket is six system calls.

A wait is a registration for one event (EPOLLONESHOT): the kernel reports the descriptor once and disarms it, and the
next wait arms it again with an epoll_ctl(2). The task sleeps on epoll_wait with all the others, and is rescheduled by
what that returns.

Every call on a stream is a checkpoint: if it did not have to wait, the task lets all others have a turn before it goes
on. No flood can starve anybody, at the price of an epoll_wait(0) for each send that went through at once; that price is
shared by the messages that are under way together. A pipe pays it for the read as well: seven calls.

A SocketStream sets TCP_NOTSENT_LOWAT to 16 KiB: a socket with more than that still unsent counts as not writable.
"""

from __future__ import annotations

import signal
import socket
from types import ModuleType
from typing import Any, Tuple

from servers.contract import RECV_SIZE, Channel, Listener, Strategy, describe

ENDINGS = (signal.SIGTERM, signal.SIGINT)


def probe() -> None:
    """Raise, with the remedy, where trio is not installed."""
    try:
        import trio  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pip install 'iobench[loops]'") from None


def serve(listener: Listener) -> None:
    """Run trio's loop until SIGTERM."""
    import trio  # noqa: PLC0415 - no other server needs it

    listener.set_blocking(False, channels=True)  # trio sets O_NONBLOCK itself
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)  # until trio can handle them
    trio.run(echo_until_signal, trio, listener)


async def echo_until_signal(trio: ModuleType, listener: Listener) -> None:
    """Run a task that accepts, and all of its connections' tasks, until a signal cancels them."""
    stopped = trio.Event()
    # Stop would be raised in the middle of trio's own code, and come out wrapped in an ExceptionGroup. The handler may
    # interrupt anything as well: it may call run_sync_soon, and nothing else of trio.
    wake = trio.lowlevel.current_trio_token().run_sync_soon
    on_signal(lambda signum, frame: wake(stopped.set, idempotent=True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(welcome, trio, listener, nursery)
        await stopped.wait()
        on_signal(signal.SIG_IGN)  # once is enough, and run_sync_soon raises when the loop has ended
        nursery.cancel_scope.cancel()


def on_signal(handler: Any) -> None:
    """Have SIGTERM, and Ctrl-C, handled so from now on."""
    for number in ENDINGS:
        signal.signal(number, handler)


async def welcome(trio: ModuleType, listener: Listener, nursery: Any) -> None:
    """Accept; give every connection a task of its own."""
    while True:
        await trio.lowlevel.wait_readable(listener.fd)
        channel = listener.accept()
        if channel is not None:
            nursery.start_soon(echo, trio, listener, channel)


async def echo(trio: ModuleType, listener: Listener, channel: Channel) -> None:
    """Echo until the peer closes the channel or it breaks; then close it."""
    source, sink = streams(trio, channel)
    async with source, sink:
        try:
            while data := await source.receive_some(RECV_SIZE):
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass  # ECONNRESET, EPIPE: the peer has gone
        except OSError as error:  # ENOSPC, ENOMEM of epoll_ctl: to wait for a pipe, which a stream passes on as it is
            listener.count(describe(error))


def streams(trio: ModuleType, channel: Channel) -> Tuple[Any, Any]:
    """Wrap the channel: one stream to read from, one to write to, and the same one for a socket."""
    if channel.rfd == channel.wfd:
        sock = socket.socket(fileno=channel.rfd)
        both = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        return both, both
    return trio.lowlevel.FdStream(channel.rfd), trio.lowlevel.FdStream(channel.wfd)


STRATEGIES = (
    Strategy(
        name="trio",
        summary="trio: a task for each connection awaits receive_some and send_all",
        serve=serve,
        model="coroutine",
        probe=probe,
    ),
)
