"""`iobench list`, `serve` and `load`: which servers there are, and this process as one of them, or as the load."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from bench import interpreters
from bench.commands.choice import known_strategies, why_not
from bench.errors import BadInputError
from bench.plan import choose
from bench.processes import HOME, environment
from bench.say import say
from bench.sweep import Sweep
from servers.transport import AddressError, listen, parse


def list_(python: str | None) -> None:
    """Print the strategies, and whether an interpreter can run them: the one of iobench, or another."""
    if python is None:
        strategies = known_strategies()
    else:
        interpreter, strategies = interpreters.ask(python)
        if not interpreter.available:
            raise BadInputError(f"{interpreter.reason}.", "iobench list --python PYTHON takes a command or a path")
        say(f"{python}: {interpreters.describe(interpreter)}\n")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("strategy", "model", "transports", "runs here"):
        table.add_column(column, no_wrap=True)
    for info in strategies:
        table.add_row(info.name, info.model, " ".join(info.transports), "yes" if info.available else "no")
    Console(markup=False, highlight=False).print(table)
    for note in why_not({info.name: info.reason for info in strategies if not info.available}):
        say(f"- {note}", indent="  ")


def serve(strategy: str, address: str) -> NoReturn:
    """Become the server. The address is bound here, so that trouble with it is told in one voice."""
    info = choose(Sweep(name="serve", strategies=(strategy,)), known_strategies())[0]
    if not info.available:
        raise BadInputError(f"{info.name} can't run here: {info.reason}.", "iobench list shows those that can")
    example = f"iobench serve {info.name} tcp:127.0.0.1:9000"
    try:
        where = parse(address)
        if where.transport not in info.transports:
            raise BadInputError(f"{info.name} does not serve {where.transport}.", "iobench list shows what it serves")
        listener = listen(where)
    except AddressError as error:
        raise BadInputError(f"{error}.", example) from None
    except OSError as error:
        free = f"iobench serve {info.name} tcp:127.0.0.1:0 takes a free port" if where.transport == "tcp" else example
        raise BadInputError(f"Can't listen on {address}: {error.strerror or error}.", free) from None
    listener.set_inheritable(True)
    argv = [sys.executable, "-m", "servers", info.name, where.transport]
    argv += ["--module", info.module, "--listen-fd", str(listener.fileno())]
    os.execve(sys.executable, argv, environment())


def load(arguments: Sequence[str]) -> None:
    """Be the load generator, in this process: what goes wrong is told as with any command. Raises SystemExit."""
    sys.path.insert(0, str(HOME))  # ours comes before whatever else is called so
    sys.argv[1:] = arguments
    runpy.run_module("clients", run_name="__main__", alter_sys=True)
