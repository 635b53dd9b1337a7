"""Addresses, and the two ends of every transport: what is written at one is read at the other."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.contract import Channel
from servers.transport import Address, AddressError, bound_address, dial, listen, listener, parse

WAIT_S = 15.0

hosts = st.one_of(
    st.ip_addresses().map(str),  # both kinds
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True),
)
addresses = st.one_of(
    st.builds(Address, st.just("tcp"), hosts, st.integers(0, 65535)),
    st.builds(Address, st.sampled_from(["unix", "pipe"]), st.text(min_size=1), st.just(0)),
)


@given(addresses)
def test_an_address_is_read_back_from_how_it_is_written(address: Address) -> None:
    assert parse(str(address)) == address


@given(st.one_of(st.text(), st.from_regex(r"(tcp|unix|pipe):[][:@/a-f0-9]*", fullmatch=True)))
def test_any_text_is_an_address_that_can_be_written_or_is_refused(text: str) -> None:
    try:
        address = parse(text)
    except AddressError:
        return
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp",
        "tcp:",
        "tcp:localhost",
        "tcp:localhost:",
        "tcp:localhost:http",
        "tcp:localhost:-1",
        "tcp:localhost:65536",
        "tcp:localhost:٨٠",
        "tcp::80",
        "tcp:[]:80",
        "tcp:a..b:80",
        f"tcp:{'a' * 64}:80",
        "udp:localhost:80",
        "TCP:localhost:80",
        "unix:",
        "pipe:",
        "/tmp/echo",
        "localhost:80",
    ],
)
def test_text_that_is_no_address_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(AddressError, match="expected tcp:HOST:PORT, unix:PATH or pipe:PATH") as refusal:
        parse(text)
    assert repr(text) in str(refusal.value)


def test_an_ipv6_host_stands_in_brackets() -> None:
    assert parse("tcp:[::1]:9000") == Address("tcp", "::1", 9000)
    assert str(Address("tcp", "::1", 9000)) == "tcp:[::1]:9000"


@pytest.fixture(params=["tcp", "tcp over IPv6", "unix", "unix, abstract", "pipe", "pipe, abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """A place to listen on, of every kind."""
    transport = request.param[:4].strip()
    if transport == "tcp":
        place = "::1" if "IPv6" in request.param else "127.0.0.1"
        try:
            listen(Address("tcp", place)).close()
        except OSError as error:
            pytest.skip(f"there is no {place} here: {error}")
        return Address("tcp", place)
    name = f"iobench-test-{os.getpid()}"
    return Address(transport, f"@{name}" if "abstract" in request.param else str(tmp_path / name))


@contextmanager
def connected(address: Address) -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a connection, the client's and the server's; the test closes them."""
    with listen(address) as sock, ThreadPoolExecutor(1) as other:
        source = listener(sock, address.transport)
        accepting = other.submit(source.accept)
        client = dial(bound_address(sock, address.transport), WAIT_S)
        server = accepting.result(WAIT_S)
        assert server is not None
        yield client, server


def test_bytes_go_both_ways(address: Address) -> None:
    with connected(address) as (client, server):
        os.write(client.wfd, b"to the server")
        assert os.read(server.rfd, 100) == b"to the server"
        os.write(server.wfd, b"to the client")
        assert os.read(client.rfd, 100) == b"to the client"
        client.close()
        server.close()


def test_what_a_listener_calls_its_address_can_be_dialled(address: Address) -> None:
    with listen(address) as sock, ThreadPoolExecutor(1) as other:
        source = listener(sock, address.transport)
        accepting = other.submit(source.accept)
        dial(parse(source.address), WAIT_S).close()
        server = accepting.result(WAIT_S)
        assert server is not None
        server.close()


def test_a_channel_that_one_end_closes_ends_at_the_other(address: Address) -> None:
    with connected(address) as (client, server):
        client.close()
        assert os.read(server.rfd, 100) == b""
        server.close()
    with connected(address) as (client, server):
        server.close()
        assert os.read(client.rfd, 100) == b""
        client.close()


def test_channels_are_blocking_and_close_on_exec_at_both_ends(address: Address) -> None:
    with connected(address) as (client, server):
        for fd in {*client, *server}:
            assert os.get_blocking(fd)
            assert not os.get_inheritable(fd)
        client.close()
        server.close()


def test_closing_a_channel_closes_each_descriptor_once(address: Address) -> None:
    with connected(address) as (client, server):
        before = open_descriptors()
        client.close()
        server.close()  # an error if it were closed twice: EBADF
        assert before - open_descriptors() == {*client, *server}


def test_nothing_is_delayed_by_nagles_algorithm_at_either_end() -> None:
    with connected(Address("tcp", "127.0.0.1")) as ends:
        for channel in ends:
            with socket.socket(fileno=channel.rfd) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_pipe_channel_is_two_pipes_of_which_neither_end_keeps_the_other_ones_half(tmp_path: Path) -> None:
    with connected(Address("pipe", str(tmp_path / "echo"))) as (client, server):
        os.close(client.wfd)
        assert os.read(server.rfd, 1) == b""  # or the server would hold a copy of the end to write to
        os.close(client.rfd)
        with pytest.raises(BrokenPipeError):
            os.write(server.wfd, b"x")
        server.close()


def test_a_port_that_is_taken_raises_and_leaves_nothing_open() -> None:
    with listen(Address("tcp", "127.0.0.1")) as sock:
        before = open_descriptors()
        with pytest.raises(OSError, match="in use"):
            listen(bound_address(sock, "tcp"))
        assert open_descriptors() == before


@pytest.mark.parametrize("transport", ["unix", "pipe"])
def test_a_socket_file_that_nobody_listens_on_is_replaced(transport: str, tmp_path: Path) -> None:
    address = Address(transport, str(tmp_path / "echo"))
    listen(address).close()
    assert Path(address.place).is_socket()
    with connected(address) as (client, server):
        client.close()
        server.close()


@pytest.mark.parametrize("transport", ["unix", "pipe"])
def test_a_socket_file_that_somebody_listens_on_is_left_alone(transport: str, tmp_path: Path) -> None:
    address = Address(transport, str(tmp_path / "echo"))
    with listen(address):
        before = open_descriptors()
        with pytest.raises(OSError, match="in use"):
            listen(address)
        assert Path(address.place).is_socket()
        assert open_descriptors() == before


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_text("to be kept")
    with pytest.raises(OSError, match="in use"):
        listen(Address("unix", str(path)))
    assert path.read_text() == "to be kept"


@pytest.mark.parametrize("place", ["/nowhere/at/all/echo", "x" * 200])
def test_a_path_that_can_not_be_bound_raises_and_leaves_nothing_open(place: str) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match=r"No such file|too long"):
        listen(Address("unix", place))
    assert open_descriptors() == before


def test_nobody_to_dial_raises_and_leaves_nothing_open(tmp_path: Path) -> None:
    with listen(Address("tcp", "127.0.0.1")) as sock:
        gone = bound_address(sock, "tcp")
    before = open_descriptors()
    with pytest.raises(ConnectionRefusedError):
        dial(gone, WAIT_S)
    for transport in ("unix", "pipe"):
        with pytest.raises(FileNotFoundError):
            dial(Address(transport, str(tmp_path / "echo")), WAIT_S)
    assert open_descriptors() == before


def test_dialling_waits_no_longer_than_its_timeout_for_a_connection() -> None:
    with listen(Address("tcp", "127.0.0.1")) as sock:
        sock.listen(0)  # one connection fits the queue; the kernel ignores who comes after it
        before = open_descriptors()
        connected = []
        with pytest.raises(TimeoutError):
            for _ in range(10):
                connected.append(dial(bound_address(sock, "tcp"), 0.05))
        for channel in connected:
            channel.close()
        assert open_descriptors() == before


def test_dialling_waits_no_longer_than_its_timeout_for_pipes(tmp_path: Path) -> None:
    address = Address("pipe", str(tmp_path / "echo"))
    with listen(address):
        before = open_descriptors()
        with pytest.raises(TimeoutError):
            dial(address, 0.05)  # connected, but nobody accepts and hands the pipes over
        assert open_descriptors() == before


def test_a_server_that_closes_instead_of_handing_pipes_over_has_refused(tmp_path: Path) -> None:
    address = Address("pipe", str(tmp_path / "echo"))
    with listen(address) as sock, ThreadPoolExecutor(1) as other:
        before = open_descriptors()
        closing = other.submit(accept_and_close, sock)
        with pytest.raises(ConnectionRefusedError):
            dial(address, WAIT_S)
        closing.result(WAIT_S)
        assert open_descriptors() == before


def accept_and_close(sock: socket.socket) -> None:
    conn, _ = sock.accept()
    conn.close()


def test_a_client_without_descriptors_for_its_pipes_is_told_so_and_not_that_it_was_refused(tmp_path: Path) -> None:
    address = Address("pipe", str(tmp_path / "echo"))
    with listen(address) as sock, ThreadPoolExecutor(1) as other, descriptors_left(2):  # one for each end's socket
        accepting = other.submit(accept_and_hand_over, sock)
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            dial(address, WAIT_S)
        accepting.result(WAIT_S).close()


def accept_and_hand_over(sock: socket.socket) -> socket.socket:
    conn, _ = sock.accept()
    socket.send_fds(conn, [b"p"], [0, 1])
    return conn


@contextmanager
def descriptors_left(free: int) -> Iterator[None]:
    """Lower RLIMIT_NOFILE so far that this process can open only so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = open_descriptors()
    numbers = (number for number in count() if number not in taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(numbers, free, None)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> set[int]:
    """Return the numbers of this process's open descriptors."""
    listed = list(Path("/proc/self/fd").iterdir())  # with the descriptor of the listing itself, closed by now
    return {int(link.name) for link in listed if link.is_symlink()}
