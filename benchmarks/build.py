"""Compiles the C twins that the benchmarks compare with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def build(source: Path, folder: Path) -> Path | None:
    """Compile one C file into a program in `folder`; None where there is no compiler.

    Raises subprocess.CalledProcessError, with the compiler's words in `stderr`, where the file does not compile.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = folder / source.stem
    command = [compiler, "-O2", "-pthread", "-o", str(program), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program
