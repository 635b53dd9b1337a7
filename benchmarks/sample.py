"""Record results/sample anew, and the README's paragraph with it: `python -m benchmarks.sample`, some four minutes.

The machine should have nothing else to do meanwhile. `python -m benchmarks.sample --again` measures nothing: it makes
the report and the paragraph again from the data that is there, for when a figure or a sentence has changed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import report
from bench import answer
from bench.analyse import analyse
from bench.record import read_run

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SAMPLE = ROOT / "results" / "sample"
SWEEP = "sample"
BLOCK = re.compile(r"(?<=<!-- the answer of results/sample -->\n)(.*?)(?=\n<!-- end of the answer -->)", re.DOTALL)
WIDTH = 120


def paragraph(folder: Path) -> str:
    """What the report of a run opens with, in one paragraph of Markdown."""
    return " ".join(answer.opening(analyse(read_run(folder)).comparisons))


def told(readme: str) -> str:
    """The paragraph as the README has it, on one line. Raises ValueError where it has none."""
    found = BLOCK.search(readme)
    if found is None:
        raise ValueError("README.md has no block for the answer of results/sample")
    return " ".join(found[0].split())


def with_paragraph(readme: str, text: str) -> str:
    """The README with this paragraph in place of the one that it has."""
    wrapped = textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return BLOCK.sub(lambda _: wrapped, readme, count=1)


def record() -> None:
    """Calibrate, measure, count; then put the run in the place of the earlier one. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="iobench-") as folder:
        iobench = [sys.executable, "-P", "-m", "bench"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [*iobench, "calibrate", "--quick"], cwd=folder, env=env, check=False
        )  # the report says how it went
        subprocess.run([*iobench, "sweep", SWEEP], cwd=folder, env=env, check=True)
        (made,) = Path(folder, "results").glob(f"{SWEEP}-*")
        subprocess.run([*iobench, "why", "--run", made.name], cwd=folder, env=env, check=True)
        shutil.rmtree(SAMPLE, ignore_errors=True)
        shutil.copytree(made, SAMPLE, ignore=shutil.ignore_patterns(".*"))


def show() -> None:
    """Make the report, and the README's paragraph, from the data that is there."""
    for path in SAMPLE.iterdir():
        if path.suffix in (".svg", ".png"):
            path.unlink()  # one that is not made any more would stay
    report.write(SAMPLE)
    README.write_text(with_paragraph(README.read_text(encoding="utf-8"), paragraph(SAMPLE)), encoding="utf-8")
    size = sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file())
    print(f"{SAMPLE.relative_to(ROOT)}: {size / 1e6:.1f} MB. README.md has its answer.")


def main() -> int:
    """Read the command line and obey it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sample", description="Record results/sample anew.")
    parser.add_argument("--again", action="store_true", help="measure nothing: make report and paragraph again")
    if not parser.parse_args().again:
        try:
            record()
        except subprocess.CalledProcessError as error:
            print(f"The sample is as it was: {error}", file=sys.stderr)
            return 1
    elif not SAMPLE.is_dir():
        print(f"There is no {SAMPLE}: python -m benchmarks.sample records one.", file=sys.stderr)
        return 2
    show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
