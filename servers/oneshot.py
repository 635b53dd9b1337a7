"""I/O multiplexing shared by a pool of threads: epoll with EPOLLONESHOT.

    thread 1:    epoll_wait() = {5} --> read(5) --> write(5) --> epoll_ctl(MOD 5) --> epoll_wait() ...
    thread 2:    epoll_wait() = {9} --> read(9) --> write(9) --> epoll_ctl(MOD 9) --> epoll_wait() ...

All threads sleep in epoll_wait(2) on one epoll instance, and the kernel wakes one of them for each descriptor that
becomes ready. With EPOLLONESHOT that report disarms the descriptor: however much arrives, nobody else hears of it until
the thread that has it arms it again. So a connection is with one thread at a time, and needs no lock.

One echo is four system calls: epoll_wait + read + write + the epoll_ctl(2) that arms the descriptor again, the price of
the sharing. A wait takes one report only: what a thread took beyond that, it would keep from those that sleep.

What it costs as connections grow: no more for each, as with any epoll, and no more threads. In CPython a thread that
returns from a system call must first get the interpreter lock, so one thread at a time echoes, and the lock is handed
over on top. Without that lock the threads use all CPUs.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from typing import Dict

from servers.contract import Channel, Listener, Strategy, describe
from servers.polling import Connection
from servers.processes import cpus

STOPPING = (signal.SIGTERM, signal.SIGINT)


def serve(listener: Listener) -> None:
    """Start a thread for each CPU that we may run on, and wait for SIGTERM."""
    listener.set_blocking(False)
    pool = Pool(listener)
    # A thread inherits the mask: the signals stay pending for the process until this thread takes one, by sigwait(3).
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    for _ in range(max(2, cpus())):
        threading.Thread(target=pool.work, daemon=True).start()
    signal.sigwait(STOPPING)


class Pool:
    """What the threads share: the epoll instance, the listener, and the connections by each of their descriptors.

    Whoever is told of a descriptor has it alone until it is armed again, so arming comes last in every turn.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.connections: Dict[int, Connection] = {}
        self.epoll = select.epoll()
        self.epoll.register(listener.fd, select.EPOLLIN | select.EPOLLONESHOT)

    def work(self) -> None:
        """Be one thread of the pool. An error that no turn expects ends the server, which must not go on half."""
        try:
            while True:
                for fd, _ in self.epoll.poll(maxevents=1):
                    if fd == self.listener.fd:
                        self.welcome()
                    else:
                        self.take_turn(self.connections[fd])
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    def welcome(self) -> None:
        """Accept one connection. If more are waiting, the armed listener is reported at once, to any thread."""
        channel = self.listener.accept()
        if channel is not None:
            self.admit(channel)
        self.epoll.modify(self.listener.fd, select.EPOLLIN | select.EPOLLONESHOT)

    def admit(self, channel: Channel) -> None:
        """Arm a new connection; once it is, another thread may have it."""
        connection = Connection(channel)
        self.connections[channel.rfd] = self.connections[channel.wfd] = connection
        try:
            self.epoll.register(channel.rfd, select.EPOLLIN | select.EPOLLONESHOT)
        except OSError as error:
            self.refuse(channel, error)

    def take_turn(self, connection: Connection) -> None:
        """Echo once, then arm or close the connection."""
        try:
            connection.echo_some()
        except BlockingIOError:
            pass  # readiness is a hint: what was there may be gone by now
        except (OSError, EOFError):
            # The numbers are free for another thread's accept from the close on, so they are forgotten before it. No
            # report of the old connection can be taken for one of the new: its descriptors are disarmed as long as we
            # have it, and the close takes them off the interest list, there being no other copy of them.
            self.forget(connection.channel)
            connection.channel.close()
            return
        try:
            self.arm(connection)
        except OSError as error:  # ENOSPC, ENOMEM: a pipe's write end is one more descriptor on the interest list
            self.refuse(connection.channel, error)

    def arm(self, connection: Connection) -> None:
        """Wait for room while anything is unsent, else for bytes: the other end of a pair of pipes stays disarmed."""
        if connection.unsent:
            fd, events = connection.wfd, select.EPOLLOUT | select.EPOLLONESHOT
        else:
            fd, events = connection.rfd, select.EPOLLIN | select.EPOLLONESHOT
        try:
            self.epoll.modify(fd, events)
        except FileNotFoundError:  # ENOENT: a pipe's write end, at its first wait for room
            self.epoll.register(fd, events)

    def refuse(self, channel: Channel, error: OSError) -> None:
        """Close a connection that can't be watched."""
        self.forget(channel)
        self.listener.refuse(channel, describe(error))

    def forget(self, channel: Channel) -> None:
        """Take a connection out of the table, before it is closed."""
        self.connections.pop(channel.rfd)
        self.connections.pop(channel.wfd, None)


STRATEGIES = (
    Strategy(
        name="epoll_oneshot_threads",
        summary="epoll(7) shared by threads, EPOLLONESHOT: a descriptor is reported to one, which arms it again",
        serve=serve,
        model="multiplexing",
    ),
)
