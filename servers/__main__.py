"""Run one server, or list them all.

    python -m servers --list                                    JSON lines: what there is and what can run here
    python -m servers --interpreter                             a JSON line: which interpreter this is
    python -m servers epoll_lt tcp:127.0.0.1:9000               bind and serve
    python -m servers epoll_lt tcp --listen-fd 3 --status-fd 4  serve on an inherited listener (socket activation)

The status descriptor, where given, gets JSON lines: {"event": "ready"} once SIGTERM is handled and the server is
about to accept, {"event": "refused"} at the first connection refused for a reason, {"event": "stopped"} at the end.
The last tells once more whether there is an interpreter lock: what a strategy imports to serve may have switched it on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import servers
from servers.contract import Stop, Strategy, stop_on_sigterm
from servers.transport import TRANSPORTS, Address, listen, listener, parse

PROBE_PATIENCE_S = 10  # for each: importing a large package from a cold disk takes a while


class Found(NamedTuple):
    """A strategy, the module it was found in, and that module's docstring."""

    strategy: Strategy
    module: str
    doc: str


def discover(only: Optional[str] = None) -> Tuple[Dict[str, Found], Dict[str, str]]:
    """Find every strategy: each module of this package that has STRATEGIES, or the `only` one named.

    Returns ({name: what was found}, {module that can't be imported: reason}).
    """
    found: Dict[str, Found] = {}
    broken: Dict[str, str] = {}
    for name in [only] if only else all_modules():
        try:
            module = importlib.import_module(f"servers.{name}")
        except ImportError as error:
            broken[name] = str(error)
            continue
        for strategy in getattr(module, "STRATEGIES", ()):
            found[strategy.name] = Found(strategy, name, module.__doc__ or "")
    return found, broken


def all_modules() -> List[str]:
    """Every module of this package that may hold strategies."""
    import pkgutil  # noqa: PLC0415 - a server that is told its module starts without it

    return [info.name for info in pkgutil.iter_modules(servers.__path__) if not info.name.startswith("_")]


def why_unavailable(strategy: Strategy) -> Optional[str]:
    """The reason why this interpreter on this machine can't run the strategy, or None."""
    if strategy.probe is None:
        return None
    try:
        strategy.probe()
    except Exception as error:  # found by trying: whatever it raises is the reason
        return str(error) or type(error).__name__
    return None


def try_all(strategies: Sequence[Strategy]) -> Dict[str, Optional[str]]:
    """By name, the reason why each can't run here, or None.

    They are tried in a child process, one after the other, and in another one from where that ended: a package that was
    compiled for another CPU kills whoever calls it (SIGILL), and one that hangs is ended by an alarm.
    """
    found: Dict[str, Optional[str]] = {}
    while len(found) < len(strategies):
        found.update(_tried_in_a_child(strategies[len(found) :]))
    return found


def _tried_in_a_child(strategies: Sequence[Strategy]) -> Dict[str, Optional[str]]:
    """The answers of one child: all of them, or those up to the one that ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            leave_no_traces()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            for strategy in strategies:
                signal.alarm(PROBE_PATIENCE_S)
                os.write(writing, json.dumps([strategy.name, why_unavailable(strategy)]).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answers:
        found: Dict[str, Optional[str]] = dict(json.loads(line) for line in answers)
    _, status = os.waitpid(child, 0)
    if len(found) < len(strategies):
        found[strategies[len(found)].name] = _fatal(status)
    return found


def leave_no_traces() -> None:
    """Have a crash of this process write neither a traceback nor a core file: the parent tells of it.

    Not every build of an interpreter has these modules, and not everybody may change a limit.
    """
    with suppress(ImportError):
        import faulthandler  # noqa: PLC0415

        faulthandler.disable()
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _fatal(status: int) -> str:
    """What a probe that ended its process has shown, in words."""
    if not os.WIFSIGNALED(status):
        return "trying it ended the process"
    number = os.WTERMSIG(status)
    if number == signal.SIGALRM:
        return f"trying it took more than {PROBE_PATIENCE_S} s"
    of_another_cpu = ": a package that it needs was compiled for another CPU" if number == signal.SIGILL else ""
    return f"trying it ended the process by {signal.Signals(number).name}{of_another_cpu}"


def describe_interpreter() -> Dict[str, object]:
    """Which interpreter runs this server, and whether it has a lock and a compiler now."""
    return {
        "implementation": implementation(),
        "version": sys.version.split()[0],
        "gil": has_gil(),
        "jit": has_jit(),
    }


def implementation() -> str:
    """The interpreter's name as platform.python_implementation() has it, a module that takes 2 ms to import."""
    return {"cpython": "CPython", "pypy": "PyPy"}.get(sys.implementation.name, sys.implementation.name)


def describe_build() -> Dict[str, object]:
    """How the interpreter was built; a server does not need to know."""
    import platform  # noqa: PLC0415 - slow to import
    import sysconfig  # noqa: PLC0415 - reads a file of its own

    return {
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "compiler": platform.python_compiler(),
    }


def has_gil() -> bool:
    """Whether the interpreter lock is on; to be without takes a free-threaded build.

    There it is off at first, and is switched on for good by the import of an extension module that does not declare
    that it can do without.
    """
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def has_jit() -> bool:
    """Whether code is compiled as it runs: PyPy built so, or CPython 3.14 and later built so and not told otherwise."""
    if implementation() == "PyPy":
        return "pypyjit" in sys.builtin_module_names
    jit = getattr(sys, "_jit", None)
    return jit is not None and bool(jit.is_enabled())


def list_strategies() -> None:
    """Print a JSON line for each strategy, in order of name."""
    found, broken = discover()
    reasons = try_all([strategy for strategy, _, _ in found.values()])
    for name, (strategy, module, doc) in sorted(found.items()):
        reason = reasons[name]
        line = {
            "name": name,
            "module": module,
            "summary": strategy.summary,
            "model": strategy.model,
            "transports": strategy.transports,
            "concurrent": strategy.concurrent,
            "available": reason is None,
            "reason": reason or "",
            "doc": doc,
        }
        print(json.dumps(line))
    for module, trouble in sorted(broken.items()):
        print(f"servers/{module}.py can't be imported: {trouble}", file=sys.stderr)


def serve(strategy: Strategy, sock: socket.socket, transport: str, status_fd: Optional[int]) -> None:
    """Serve until SIGTERM.

    Most strategies are ended by Stop, wherever they are; an event loop that must be left in order returns instead.
    """

    def say(event: str, **facts: object) -> None:
        if status_fd is not None:
            os.write(status_fd, json.dumps({"event": event, **facts}).encode() + b"\n")

    source = listener(sock, transport, lambda reason: say("refused", reason=reason))
    stop_on_sigterm()
    try:
        if status_fd is None:
            print(f"{strategy.name} listens on {source.address}", flush=True)
        say("ready", pid=os.getpid(), address=source.address, **describe_interpreter())
        strategy.serve(source)
    except Stop:
        pass
    say("stopped", refused=source.refused, gil=has_gil())
    place = source.address.partition(":")[2]
    if transport != "tcp" and status_fd is None and not place.startswith("@"):
        os.unlink(place)


def socket_for(strategy: Strategy, text: str, listen_fd: Optional[int]) -> Tuple[socket.socket, str]:
    """Open what the strategy is to listen on; `text` is an address, or just a transport where a socket is inherited.

    Returns the socket and its transport. Raises ValueError with the reason where there is none to listen on.
    """
    if listen_fd is None:
        address = parse(text)
    elif text in TRANSPORTS:
        address = Address(text, "")
    else:
        raise ValueError(f"{text!r} is no transport; there are: {', '.join(TRANSPORTS)}")
    transport = address.transport
    if transport not in strategy.transports:
        raise ValueError(f"{strategy.name} does not serve {transport}; it serves: {', '.join(strategy.transports)}")
    try:
        if listen_fd is None:
            return listen(address), transport
        os.set_inheritable(listen_fd, False)
        sock = socket.socket(fileno=listen_fd)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        where = text if listen_fd is None else f"descriptor {listen_fd}"
        raise ValueError(f"can't listen on {where}: {error.strerror or error}") from None
    if not listens:  # accept(2) would say EINVAL or, of a datagram socket, EOPNOTSUPP
        sock.close()
        raise ValueError(f"descriptor {listen_fd} is a socket that does not listen: call listen(2) first")
    return sock, transport


def main(argv: List[str]) -> int:
    """Read the command line and obey it; the exit code is 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m servers", description="Echo servers, one for each I/O strategy.")
    parser.add_argument("strategy", nargs="?", help="which one to run")
    parser.add_argument(
        "address", nargs="?", help="tcp:HOST:PORT, unix:PATH or pipe:PATH; with --listen-fd just tcp, ..."
    )
    parser.add_argument("--list", action="store_true", help="list the strategies as JSON lines")
    parser.add_argument("--interpreter", action="store_true", help="say as a JSON line which interpreter this is")
    parser.add_argument("--module", help="look in this file of servers/ alone, so that no other is in memory")
    parser.add_argument("--listen-fd", type=int, metavar="FD", help="an inherited descriptor that already listens")
    parser.add_argument("--status-fd", type=int, metavar="FD", help="an inherited pipe for status lines")
    options = parser.parse_args(argv)
    if options.list:
        list_strategies()
        return 0
    if options.interpreter:
        print(json.dumps({**describe_interpreter(), **describe_build()}))
        return 0
    if not options.strategy or not options.address:
        parser.error("name a strategy and an address, or use --list")

    found, broken = discover(options.module)
    if options.strategy not in found:
        trouble = "".join(f"\n  servers/{module}.py can't be imported: {reason}" for module, reason in broken.items())
        parser.error(f"there is no strategy {options.strategy!r}; there are: {', '.join(sorted(found))}{trouble}")
    strategy = found[options.strategy].strategy
    # Whoever hands down a listener has asked --list before: what a probe costs would count as the server's start.
    reason = try_all([strategy])[strategy.name] if options.listen_fd is None else None
    if reason is not None:
        parser.error(f"{strategy.name} can't run here: {reason}")
    try:
        sock, transport = socket_for(strategy, options.address, options.listen_fd)
    except ValueError as error:
        parser.error(str(error))
    if options.status_fd is not None:
        try:
            os.set_inheritable(options.status_fd, False)  # a child of this server must not hold it open
        except OSError as error:
            parser.error(f"can't write to descriptor {options.status_fd}: {error.strerror}")
    serve(strategy, sock, transport, options.status_fd)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Threads that sleep in a system call would be woken by nothing: leave without waiting for them.
    os._exit(code)
