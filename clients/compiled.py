"""How functions of this package are compiled: without the GIL, and cached on disk so that only the first run ever pays.

What is compiled lives in the other files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit

# The "numpy" error model drops the test for division by zero, which costs a branch wherever there is a modulo. Without
# Numba's runtime (NRT) no array is reference-counted, which would be an atomic operation wherever one is handed on, and
# none can be made: code that allocates does not compile.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}

inlined = njit(**_OPTIONS)
_unkept: list[str] = []  # functions that are compiled anew in every process


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls; what it calls in turn is `inlined` and part of the same machine code.

    Numba stores the machine code in the package's __pycache__, in the user's cache folder where that is read-only, or
    in NUMBA_CACHE_DIR. Where none can be written the function is compiled anew in every process.
    """
    try:
        dispatcher = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # "no locator available": nowhere to keep a cache
        _unkept.append(function.__name__)
        return inlined(function)
    # Numba takes a cached function for fresh as long as its own file is unchanged; a change in a file it calls into
    # would be missed. So the stamp is taken over all of them.
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = _stamp()
    return dispatcher


def why_not_kept() -> str:
    """Say that compiling costs time at every start, and what helps; nothing where machine code is kept."""
    if not _unkept:
        return ""
    return (
        "the load generator is compiled at every start, some seconds long, for its machine code can be kept nowhere: "
        f"neither {Path(__file__).parent / '__pycache__'} nor the cache folder of this user can be written to. "
        "NUMBA_CACHE_DIR=DIR names another"
    )


@cache
def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"clients.compiled" in source or path.name == Path(__file__).name:
            digest.update(source)
    return digest.hexdigest()
