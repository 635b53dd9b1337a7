"""Draw the figures of a report, with a second process where there is a second CPU: most of a report's time goes there.

The second process reads and analyses the run by itself while the first one does, so that nothing large has to be handed
over but finished pictures. Both go through the figures in the same order. Which of them draws one is decided by the
file system: whoever first makes a file of that name in a temporary folder (O_EXCL) has it, so that the quicker one
draws more. What the second one can't do the first one does: without it the report is the same, and later.

    python -m bench.drawing CLAIMS RUN BASELINE [TRIAL ...]      what the second process runs
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.errors import BadInputError
from bench.rows import plain_strings

if TYPE_CHECKING:
    from bench.analyse import Analysis
    from bench.figures import Drawn
    from bench.figures.chosen import Chosen

HOME = Path(__file__).resolve().parents[1]  # from which bench can be imported, installed or not
DRAWN_FILE = "drawn.msgpack"
LARGE = ("ratios", "response", "latency", "load")  # of many panels: drawn first, so that both processes end together


@dataclass(frozen=True)
class Helper:
    """The second process, and the folder in which figures are claimed."""

    claims: Path
    process: subprocess.Popen[bytes]

    def drawn(self) -> list[Drawn] | None:
        """Wait for what it has drawn; None where it ended without."""
        if self.process.wait() != 0:
            return None
        from bench.figures import Drawn  # noqa: PLC0415 - matplotlib is slow to import

        return msgspec.msgpack.decode((self.claims / DRAWN_FILE).read_bytes(), type=list[Drawn])


@contextmanager
def helper(folder: Path, baseline: str = "", trials: Sequence[str] = ()) -> Iterator[Helper | None]:
    """Start the second process for a run; it is gone afterwards, whatever happens. None where there is one CPU only."""
    if len(os.sched_getaffinity(0)) < 2:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="iobench-report-") as claims:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.drawing", claims, str(folder.resolve()), baseline, *trials],
            cwd=HOME,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # whatever is wrong, the first process comes upon it too, and tells it
        )
        try:
            yield Helper(Path(claims), process)
        finally:
            process.kill()
            process.wait()


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let the garbage collector look at what is made from now on alone, and seldom: it would take a tenth of the time.

    What is there before stays. Imports leave nothing to collect, and a figure is many small objects that go all at
    once. An analysis is not for this: each histogram that it reads is large.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@collecting_seldom()
def draw(analysis: Analysis, chosen: Chosen, second: Helper | None = None) -> list[Drawn]:
    """Draw every figure that the run has data for, in the order of the page."""
    from bench.figures import pictures, plates  # noqa: PLC0415 - matplotlib is slow to import

    if second is None:
        return list(pictures(analysis, chosen))
    found = {one.name: one for one in pictures(analysis, chosen, partial(claim, second.claims), LARGE)}
    others = second.drawn()
    if others is None:
        claimed = set(found)
        others = list(pictures(analysis, chosen, lambda name: name not in claimed))
    found |= {one.name: one for one in others}
    return [found[plate.name] for plate in plates(analysis, chosen) if plate.name in found]


def claim(claims: Path, name: str) -> bool:
    """Say whether this figure is the caller's to draw: once for each name, to whoever asks first."""
    try:
        (claims / f"{name}.claimed").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _help(claims: Path, folder: Path, baseline: str, trials: Sequence[str]) -> None:
    """Draw what the first process has not claimed, and leave it in the folder of claims."""
    with collecting_seldom():
        from bench.analyse import analyse  # noqa: PLC0415
        from bench.figures import pictures  # noqa: PLC0415
        from bench.figures.chosen import choose  # noqa: PLC0415
        from bench.record import read_run  # noqa: PLC0415

    mine: Callable[[str], bool] = partial(claim, claims)
    with plain_strings():
        analysis = analyse(read_run(folder))
        with collecting_seldom():
            drawn = list(pictures(analysis, choose(analysis, baseline, trials), mine, LARGE))
    (claims / DRAWN_FILE).write_bytes(msgspec.msgpack.encode(drawn))


def main(argv: Sequence[str]) -> int:
    """Read what `helper` writes on the command line; the exit code is 0 where everything claimed is drawn."""
    claims, folder, baseline, *trials = argv
    warnings.simplefilter("ignore")  # the first process tells them
    try:
        _help(Path(claims), Path(folder), baseline, trials)
    except BadInputError:
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
