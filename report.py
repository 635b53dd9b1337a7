"""Make the report of a run: `python report.py results/RUN`, the same as `iobench report results/RUN`.

It reads manifest.json and trials.jsonl and writes report.html, report.md and the figures beside them. Nothing is
measured and nothing is run here.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from bench import drawing, one_step
from bench.entry import BAD_INPUT, open_streams, refuse_odd_places, told
from bench.errors import BadInputError
from bench.gate.model import GATE_FILE
from bench.rows import plain_strings


def write(folder: Path, baseline: str = "", trials: Sequence[str] = (), *, helped: bool = False) -> Path:
    """Write the report of a run into its folder and return the path of report.html.

    Strategies are compared with `baseline`, and `trials` (ids, or how they begin) are drawn by themselves. `helped`: a
    second process draws too, where there is a second CPU, and is gone when this returns. Each file appears whole or
    not at all. A gate's folder has a report of its own kind. A line of trials.jsonl that can't be read is left out with
    a warning, and the report says so. Raises BadInputError where the folder is no run or can't be written to, or what
    is asked for is not in it.
    """
    if (folder / GATE_FILE).is_file():
        from bench.gate import show  # noqa: PLC0415 - needed by gates alone

        if baseline or trials:
            raise BadInputError(
                f"{folder} is a gate: it compares head with base, and has pairs in place of trials.",
                f"iobench report {folder}",
            )
        return show.write(folder, show.read(folder))[0]
    second = drawing.helper(folder, baseline, trials) if helped else nullcontext()
    with second as helper, plain_strings():
        files = _made(folder, baseline, trials, helper)
    for name, content in files.items():
        _write_whole(folder, name, content)
    return folder / "report.html"


def _made(folder: Path, baseline: str, trials: Sequence[str], helper: drawing.Helper | None) -> dict[str, bytes]:
    """Every file of the report, by its name in the folder; report.html comes last."""
    with drawing.collecting_seldom():
        # pandas and matplotlib are slow to import
        from bench import caveats, page, rows, strategy_page, summary  # noqa: PLC0415
        from bench.analyse import analyse  # noqa: PLC0415
        from bench.figures.chosen import choose  # noqa: PLC0415
        from bench.record import read_run  # noqa: PLC0415

    run = read_run(folder)
    unread = caveats.unread(run.manifest)
    for note in unread:
        warnings.warn(note, stacklevel=2)
    run.notes += unread
    analysis = analyse(run)
    chosen = choose(analysis, baseline, trials)
    content, shared = page.content(analysis), strategy_page.Shared(analysis)  # meanwhile the second process draws
    drawn = drawing.draw(analysis, chosen, helper)
    files: dict[str, bytes] = {}
    for one in drawn:
        files[f"{one.name}.svg"] = one.picture.svg.encode()
        files[f"{one.name}.png"] = one.picture.png
    files["report.md"] = summary.markdown(analysis, drawn).encode()
    for name, table in page.too_long(analysis).items():
        files[name] = rows.csv(table).encode()
    for name, html in strategy_page.pages(shared, drawn):
        files[name] = html.encode()
    files["report.html"] = page.html(content, drawn).encode()
    return files


def _write_whole(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    try:
        path.parent.mkdir(exist_ok=True)
        one_step.write(path, content)
    except OSError as error:
        raise BadInputError(
            f"{path} can't be written: {error.strerror}.",
            one_step.remedy(error, path.parent, f"iobench report {shlex.quote(str(folder))}"),
        ) from None


def main(argv: Sequence[str]) -> int:
    """Read the command line and obey it; the exit code is 2 for bad input, and for an error of iobench itself."""
    parser = argparse.ArgumentParser(prog="report.py", description="Make the report of a run.")
    parser.add_argument("folder", type=Path, help="the run: a folder in results/")
    parser.add_argument("--baseline", default="", metavar="NAME", help="the strategy that the others are compared with")
    parser.add_argument("--trial", action="append", default=[], metavar="ID", help="draw it by itself; repeatable")
    given = parser.parse_args(argv)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            refuse_odd_places(argv)
            written = write(given.folder, given.baseline, given.trial, helped=True)
        except BadInputError as error:
            print(f"{error}\n{error.next_step}", file=sys.stderr)
            return BAD_INPUT
        except Exception as error:
            return told(error)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    print(written)
    return 0


if __name__ == "__main__":
    open_streams()
    sys.exit(main(sys.argv[1:]))
