"""Servers that are not ours, as a sweep names them: a command to start, or the address of one that is already running.

    [[external]]
    name = "node"
    command = ["node", "echo.js", "{port}"]      # without a shell; {host}, {port} or {path} is filled in
    cwd = "servers"                              # from the sweep's file, in whose folder it is run otherwise
    env = {NODE_ENV = "production"}              # beside iobench's own; filled in likewise

    [[external]]
    name = "mine"
    address = "tcp:127.0.0.1:9000"

What is said of them is read and checked here, and whether they can run is found out. None is started in this file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from bench.errors import did_you_mean, shown
from bench.record import StrategyInfo
from servers.transport import Address, AddressError, dial, parse

MODEL = "external"
TARGET = "target"  # the name of the one that `--target` gives
HERE = Path(__file__).resolve().parent
OWN = "{iobench}"  # our own folder, wherever it is installed
DIAL_S = 5.0

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\s,\x00-\x1f\x7f]+$")]
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")]
Word = Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\x00]*$")]


class External(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A server that is not ours: a command, or an address where one is already running.

    `concurrent` is false for one that serves one connection at a time.
    """

    name: Name
    command: tuple[Word, ...] = ()
    address: Text = ""
    transport: Literal["", "tcp", "unix", "pipe"] = ""
    cwd: Text = ""
    env: tuple[tuple[Word, Text], ...] = ()
    concurrent: bool = True


KEYS = {field.name: field.type for field in msgspec.structs.fields(External)}
ALLOWED = {
    "name": "a text without spaces or commas, which no strategy has",
    "command": 'a program and its arguments, such as ["node", "echo.js", "{port}"]',
    "address": "where a server is already running: tcp:HOST:PORT, unix:PATH or pipe:PATH",
    "transport": 'one of "tcp", "unix"',
    "cwd": "a folder, from that of the sweep's file",
    "env": 'texts by name, such as {NODE_ENV = "production"}',
    "concurrent": "true, or false for a server that serves one connection at a time",
}


class BadExternalError(Exception):
    """An external server is not as it may be; the message says what is and what is allowed."""


def read_externals(given: object, folder: Path | None) -> tuple[External, ...]:
    """Make external servers of what a sweep's file in `folder` holds, or what was recorded of one (None).

    Raises BadExternalError.
    """
    listed = given if isinstance(given, list) else [given]
    externals = tuple(_read(values, folder) for values in listed)
    names = [external.name for external in externals]
    for name in names:
        if names.count(name) > 1:
            raise BadExternalError(f"there are two servers called {name!r}")
    return externals


def target(address: str) -> External:
    """The server that `--target` names. Raises BadExternalError."""
    return _placed(External(name=TARGET, address=address))


def _read(values: object, folder: Path | None) -> External:
    if not isinstance(values, Mapping):
        raise BadExternalError("a server is a table, [[external]], with a name and a command")
    for key in values:
        if key not in KEYS:
            raise BadExternalError(f"there is no key {shown(key)}{did_you_mean(key, KEYS)}; it takes {', '.join(KEYS)}")
    if "name" not in values:
        raise BadExternalError("a server without a name")
    env = values.get("env")
    plain = dict(values) | ({"env": sorted(env.items())} if isinstance(env, Mapping) else {})
    for key, value in plain.items():
        try:
            msgspec.convert(value, KEYS[key])
        except msgspec.ValidationError:
            raise BadExternalError(f"{key} = {shown(values[key])} is not allowed; allowed: {ALLOWED[key]}") from None
    external = _placed(msgspec.convert(plain, External))
    if folder is None or external.address:
        return external
    return msgspec.structs.replace(external, cwd=_under(folder, external.cwd))


def _placed(external: External) -> External:
    """Complete it with the transport that follows from its command or address. Raises BadExternalError."""
    if bool(external.command) == bool(external.address):
        raise BadExternalError(f"{external.name} needs either a command or an address")
    if external.address:
        if external.cwd or external.env:
            raise BadExternalError(f"{external.name} is already running: cwd and env are for a command")
        try:
            follows = parse(external.address).transport
        except AddressError as error:
            raise BadExternalError(f"{external.name}: {error}") from None
    else:
        follows = _transport_of_command(external)
    if external.transport not in ("", follows):
        told = "{path} is for unix, {port} for tcp" if external.command else f"it is at {external.address}"
        raise BadExternalError(f'{external.name} can\'t be transport = "{external.transport}": {told}')
    return msgspec.structs.replace(external, transport=follows)


def _transport_of_command(external: External) -> Literal["tcp", "unix"]:
    texts = [*external.command, *(value for _, value in external.env)]
    port, path = (any(placeholder in text for text in texts) for placeholder in ("{port}", "{path}"))
    if port == path:
        raise BadExternalError(
            f"{external.name} must be told where to listen: by {{port}}, or {{path}} for a UNIX socket, in its command "
            "or env (where the address is fixed, start it yourself and give its address in place of a command)"
        )
    return "tcp" if port else "unix"


def _under(folder: Path, cwd: str) -> str:
    """`cwd` seen from the folder of the sweep's file; our own folder is not written out, for it differs by machine."""
    if folder.resolve().is_relative_to(HERE):
        return os.path.normpath(f"{OWN}/{folder.resolve().relative_to(HERE)}/{cwd}")
    return os.path.normpath(folder / Path(cwd).expanduser())


def as_strategy(external: External) -> StrategyInfo:
    """Describe a server as strategies are, and find out whether it can run here."""
    reason = why_unavailable(external)
    running = f"already running at {external.address}: only the client's side is measured"
    return StrategyInfo(
        name=external.name,
        module="",
        summary=" ".join(external.command) if external.command else running,
        model=MODEL,
        transports=[external.transport],
        concurrent=external.concurrent,
        available=not reason,
        reason=reason,
        doc="",
    )


def why_unavailable(external: External) -> str:
    """Why a server can't be used here; "" where it can."""
    if external.address:
        return why_silent(external)
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return "this kernel has no pidfd_open(2), by which the end of a server is noticed; Linux 5.3 has"
    folder, program = folder_of(external), external.command[0]
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if shutil.which(folder / program if "/" in program else program, path=environment_of(external).get("PATH")):
        return ""
    return f"{program} is not installed" if "/" not in program else f"{program} is no program that can be run"


def why_silent(external: External) -> str:
    """Why nobody answers at the address of a running server; "" where somebody does."""
    try:
        dial(parse(external.address), DIAL_S).close()
    except OSError as error:
        return f"no server accepts connections at {external.address}: {error.strerror or error}"
    return ""


def folder_of(external: External) -> Path:
    """The folder that a command is run in."""
    return Path(external.cwd.replace(OWN, str(HERE))).absolute()


def command_for(external: External, address: Address) -> list[str]:
    """The command that makes a server listen at an address."""
    return [_filled_in(word, address) for word in external.command]


def environment_of(external: External, address: Address = Address("tcp", "")) -> dict[str, str]:  # noqa: B008 - a tuple
    """The environment of a command that makes a server listen at an address."""
    return {**os.environ, **{name: _filled_in(value, address) for name, value in external.env}}


def _filled_in(text: str, address: Address) -> str:
    """Replace the placeholders, and leave all other braces as they are."""
    if address.transport == "tcp":
        return text.replace("{host}", address.place).replace("{port}", str(address.port))
    return text.replace("{path}", address.place)
