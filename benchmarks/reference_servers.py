"""Echo servers as people write them, to hold our strategies against: the least that works, and nothing more.

    reference_servers.py NAME ... --listen-fd N --status-fd M

Takes the options of `python -m servers`, so that the same runner can start it. None of these treats backpressure,
half-close or a shortage of descriptors as ours do; that is the point of comparing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import sys
import threading


def bare_threads(listener: socket.socket) -> None:
    """A thread for each connection: recv and sendall, with the socket module's own methods."""

    def echo(conn: socket.socket) -> None:
        with conn:
            while data := conn.recv(65536):
                conn.sendall(data)

    while True:
        conn, _ = listener.accept()
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


def bare_asyncio_protocol(listener: socket.socket) -> None:
    """The protocol form of the servers that uvloop is measured with: write back what data_received brings."""

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, sock=listener)
        await server.serve_forever()

    asyncio.run(main())


def bare_asyncio_streams(listener: socket.socket) -> None:
    """The streams form of the same: no drain, one large read."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000_000):
            writer.write(data)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, sock=listener)
        await server.serve_forever()

    asyncio.run(main())


REFERENCES = (bare_threads, bare_asyncio_protocol, bare_asyncio_streams)


def main() -> None:
    """Say ready, and serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=[reference.__name__ for reference in REFERENCES])
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    options, _ = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(0))
    ready = {
        "event": "ready",
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
    }
    os.write(options.status_fd, json.dumps(ready).encode() + b"\n")
    reference = next(each for each in REFERENCES if each.__name__ == options.name)
    reference(socket.socket(fileno=options.listen_fd))


if __name__ == "__main__":
    main()
