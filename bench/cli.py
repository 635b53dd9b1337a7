"""The command line: what each command takes. What it does is in commands/, or with the part that it belongs to.

Exit codes: 0 fine, 1 failed trials, a failed claim or a regression, 2 bad input or an error of iobench itself, 3 an
inconclusive gate or calibration, 130 and 143 ended by SIGINT and SIGTERM. Heavy imports stay inside the commands:
`iobench --help` must be quick.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from bench import complete
from bench.entry import DEBUG, open_streams, refuse_odd_places, told
from bench.say import WIDTH, complain


class _Commands(TyperGroup):
    """All commands: whatever one of them raises ends here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for. Raises what Typer does, and nothing else."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            if hasattr(error, "signum"):  # bench.events.Interrupted: SIGINT or SIGTERM, where nobody saw to it
                raise typer.Exit(128 + error.signum) from None
            if hasattr(error, "exit_code") or not isinstance(error, Exception):  # Typer's own, and SystemExit
                raise
            raise typer.Exit(told(error)) from None


app = typer.Typer(
    name="iobench",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
PASSED_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

SweepArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME|FILE]", help='A sweep by name ("quick"), or a file.', autocompletion=complete.sweeps),
]
StrategiesOption = Annotated[
    str | None,
    typer.Option(
        "--strategies", metavar="A,B", help="These strategies only.", autocompletion=complete.strategies_listed
    ),
]
SloOption = Annotated[
    str | None,
    typer.Option("--slo", metavar="pN<TIME", help="Search for the highest rate that holds this, such as 'p99<5ms'."),
]
PythonOption = Annotated[
    str | None, typer.Option("--python", metavar="A,B", help="Run the strategies on these interpreters.")
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="ADDRESS",
        help="Only put the load on a server that is running.",
        autocompletion=complete.addresses,
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", metavar="TIME", help="Go on until all is decided, for so long at most, such as 3m."),
]
WithinOption = Annotated[
    str | None, typer.Option("--within", metavar="SHARE", help="What counts as equal, such as 5% (the default).")
]
TransportOption = Annotated[
    str, typer.Option("--transport", metavar="NAME", help="tcp, unix or pipe.", autocompletion=complete.transports)
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder.", show_default=False, autocompletion=complete.runs)
]
ResultsOption = Annotated[Path, typer.Option("--results", metavar="DIR", help="The folder for run folders.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error of iobench itself.")] = False,
) -> None:
    """Show which I/O strategy a Python server should use, prove the figure, and explain it."""
    if debug:
        os.environ[DEBUG] = "1"
    if version:
        from bench.host import own_version  # noqa: PLC0415

        typer.echo(f"iobench {own_version()}")
        raise typer.Exit
    refuse_odd_places(sys.argv[1:])


@app.command()
def sweep(
    name: SweepArgument = None,
    *,
    results: ResultsOption = Path("results"),
    strategies: StrategiesOption = None,
    slo: SloOption = None,
    python: PythonOption = None,
    target: TargetOption = None,
    budget: BudgetOption = None,
    within: WithinOption = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN", help="Go on with this run.", autocompletion=complete.runs),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="On a Dask cluster: tcp://HOST:8786 or local:3."),
    ] = None,
    bind: Annotated[
        str | None, typer.Option("--bind", metavar="IP", help="Where a cluster's servers listen; else loopback only.")
    ] = None,
) -> None:
    """Run a sweep and write its report."""
    from bench.commands import sweep as command  # noqa: PLC0415
    from bench.commands.choice import Choice  # noqa: PLC0415

    choice = Choice(name, strategies, slo, python, target, budget, within)
    if scheduler is not None or bind is not None:
        from bench.commands.cluster import on_cluster  # noqa: PLC0415

        raise typer.Exit(on_cluster(choice, results, scheduler, bind, resume))
    raise typer.Exit(command.sweep(choice, results) if resume is None else command.resume(resume, choice, results))


@app.command()
def plan(
    name: SweepArgument = None,
    *,
    strategies: StrategiesOption = None,
    slo: SloOption = None,
    python: PythonOption = None,
    target: TargetOption = None,
    budget: BudgetOption = None,
    within: WithinOption = None,
    results: ResultsOption = Path("results"),
    trials: Annotated[bool, typer.Option("--trials", help="List every trial, in order of execution.")] = False,
) -> None:
    """Show a sweep's trials and how long they take; run nothing."""
    from bench.commands import plan as command  # noqa: PLC0415
    from bench.commands.choice import Choice  # noqa: PLC0415

    command.plan(Choice(name, strategies, slo, python, target, budget, within), trials, results)


@app.command(name="list")
def list_(
    python: Annotated[str | None, typer.Option("--python", metavar="PYTHON", help="On this interpreter.")] = None,
) -> None:
    """List the strategies and whether they can run here."""
    from bench.commands import servers as command  # noqa: PLC0415

    command.list_(python)


@app.command()
def serve(
    strategy: Annotated[
        str,
        typer.Argument(help="As iobench list shows it.", show_default=False, autocompletion=complete.strategies),
    ],
    address: Annotated[
        str,
        typer.Argument(
            help="tcp:HOST:PORT, unix:PATH or pipe:PATH.", show_default=False, autocompletion=complete.addresses
        ),
    ],
) -> None:
    """Run one echo server until SIGTERM or Ctrl-C."""
    from bench.commands import servers as command  # noqa: PLC0415

    command.serve(strategy, address)


@app.command(context_settings=PASSED_THROUGH, add_help_option=False)
def load(context: typer.Context) -> None:
    """Put load on an echo server, ours or not (iobench load --help)."""
    from bench.commands import servers as command  # noqa: PLC0415

    command.load(context.args)


@app.command()
def calibrate(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer messages: under a minute.")] = False,
    results: Annotated[Path, typer.Option("--results", metavar="DIR", help="The folder for calibration.json.")] = Path(
        "results"
    ),
) -> None:
    """Prove the load generator on this machine: twelve claims, measured."""
    from bench.calibrate import run as command  # noqa: PLC0415

    raise typer.Exit(command.calibrate(quick, results))


@app.command()
def lab(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Run this one; without, list them.", autocompletion=complete.experiments),
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Run all of them.")] = False,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="DIR", help="Write lab.json there, for later reports.")
    ] = None,
) -> None:
    """Show single mechanisms of the kernel: what is claimed, and what it does."""
    from bench.lab import run as command  # noqa: PLC0415

    raise typer.Exit(command.lab(name, everything, results))


@app.command()
def why(
    strategies: Annotated[
        list[str] | None,
        typer.Argument(metavar="STRATEGY", help="As iobench list shows them.", autocompletion=complete.strategies),
    ] = None,
    transport: TransportOption = "tcp",
    python: Annotated[str, typer.Option("--python", metavar="PYTHON", help="Run them on this interpreter.")] = "",
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="Show the counts in this run's report.", autocompletion=complete.runs
        ),
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Count what a message costs: system calls, switches, CPU time."""
    from bench.commands import why as command  # noqa: PLC0415

    raise typer.Exit(command.why(strategies or [], transport, python, run, results))


@app.command()
def anatomy(
    strategies: Annotated[
        list[str],
        typer.Argument(
            metavar="STRATEGY", help="Or all.", show_default=False, autocompletion=complete.strategies_or_all
        ),
    ],
    *,
    transport: TransportOption = "tcp",
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw it there, too.")] = None,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="DIR", help="Write anatomy.json there, for later reports.")
    ] = None,
) -> None:
    """Show every system call that one echo takes, in order."""
    from bench.anatomy import run as command  # noqa: PLC0415

    raise typer.Exit(command.anatomy(strategies, transport, svg, results))


@app.command()
def gate(
    sweep_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[SWEEP]",
            help="Its closed loops are compared; else the sweep gate.",
            autocompletion=complete.sweeps,
        ),
    ] = None,
    *,
    base: Annotated[
        str,
        typer.Option("--base", metavar="REV|RUN", help="A revision, or a stored run.", autocompletion=complete.runs),
    ] = "",
    head: Annotated[
        str, typer.Option("--head", metavar="REV|RUN", help="Else the checkout as it is.", autocompletion=complete.runs)
    ] = "",
    strategies: StrategiesOption = None,
    base_command: Annotated[str, typer.Option("--base-command", metavar="'CMD {port}'", help="Your own server.")] = "",
    head_command: Annotated[str, typer.Option("--head-command", metavar="'CMD {port}'", help="Its new form.")] = "",
    base_python: Annotated[str, typer.Option("--base-python", metavar="PYTHON", help="Base runs on this.")] = "",
    head_python: Annotated[str, typer.Option("--head-python", metavar="PYTHON", help="Head runs on this.")] = "",
    max_regression: Annotated[
        str, typer.Option("--max-regression", metavar="5%", help="What is allowed; '5%,p99=30%' by metric.")
    ] = "5%",
    budget: Annotated[str, typer.Option("--budget", metavar="60s", help="Time for each case.")] = "60s",
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the order of base and head.")] = 1,
    calls: Annotated[bool, typer.Option("--calls/--no-calls", help="Count system calls, too.")] = True,
    results: ResultsOption = Path("results"),
) -> None:
    """Compare two versions in pairs: exit 0 fine, 1 regressed, 3 inconclusive."""
    from bench.gate import command  # noqa: PLC0415
    from bench.gate.sides import Asked  # noqa: PLC0415

    raise typer.Exit(
        command.gate(
            command.Options(
                sweep=sweep_name,
                base=Asked(base, base_command, base_python),
                head=Asked(head, head_command, head_python),
                strategies=strategies,
                max_regression=max_regression,
                budget=budget,
                seed=seed,
                results=results,
                count=calls,
            )
        )
    )


@app.command()
def history(
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="history.jsonl, or a folder of runs.", show_default=False)
    ] = Path("results"),
    *,
    add: Annotated[
        Path | None,
        typer.Option("--add", metavar="RUN", help="Append this run to history.jsonl.", autocompletion=complete.runs),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", metavar="NAME", help="Only this; repeatable.")] = None,
    strategies: StrategiesOption = None,
    otava: Annotated[
        Path | None, typer.Option("--otava", metavar="DIR", help="Write CSV files for Apache Otava there.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write history.html and charts there.")
    ] = None,
    fail_on_change: Annotated[
        bool, typer.Option("--fail-on-change", help="Exit with 1 for a change for the worse, once: when found.")
    ] = False,
    like: Annotated[
        str | None, typer.Option("--like", metavar="cpu,cpus", help="What like machines have in common; else all.")
    ] = None,
) -> None:
    """Show runs over time: trends by commit, and where a case has changed."""
    from bench.history import command  # noqa: PLC0415

    names = [name.strip() for name in strategies.split(",")] if strategies else []
    facts = [name.strip() for name in like.split(",")] if like is not None else []
    options = command.Options(path, add, metric or [], names, otava, out, fail_on_change, facts)
    raise typer.Exit(command.history(options))


@app.command()
def report(
    run: RunArgument,
    *,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="NAME", help="The strategy that the others are compared with.")
    ] = "",
    trial: Annotated[
        list[str] | None,
        typer.Option("--trial", metavar="ID", help="Draw this trial's intervals, too; repeatable."),
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Make a run's report again from its raw data."""
    from bench.commands import folders as command  # noqa: PLC0415

    command.report(run, results, baseline, [one for ids in trial or [] for one in ids.split(",")])


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN...", help="Run folders.", show_default=False, autocompletion=complete.runs),
    ],
    *,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME", help="What to call a run; once for each, in order.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The folder to write; else a new one.")
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Make one report of several runs, and show what differs."""
    from bench.commands import compare as command  # noqa: PLC0415

    raise typer.Exit(command.compare(runs, label or [], out, results))


@app.command()
def export(
    run: RunArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FORMAT", help="csv, hlog, ...; without, list them.", autocompletion=complete.formats
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE|-", help="Where to; else in the run folder; - is stdout.")
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Write a run's data in the format of another tool."""
    from bench.commands import export as command  # noqa: PLC0415

    command.export(run, to, out, results)


def main() -> None:
    """Run the command line and exit."""
    open_streams()
    warnings.simplefilter("default", UserWarning)  # whatever PYTHONWARNINGS says: what was left out is told, plainly
    warnings.showwarning = _show_warning
    app()


def _show_warning(  # noqa: PLR0917 - the signature of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    complain(f"warning: {message}")
