"""What all fuzz tests have in common: how long they go on, how much memory they may take, and how a file is spoilt.

python -m pytest tests/fuzz                                        as CI runs it: the same examples each time
IOBENCH_FUZZ=long python -m pytest tests/fuzz --timeout=0          a hundred times as many, new ones each time
"""

from __future__ import annotations

import copy
import os
import resource
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

LONG = os.environ.get("IOBENCH_FUZZ") == "long"
MIB = 1 << 20


def examples(number: int) -> settings:
    """So many examples; a hundred times as many where the run is to be long."""
    return settings(
        max_examples=100 * number if LONG else number,
        derandomize=not LONG,
        database=None,
        deadline=None,
        phases=tuple(Phase) if LONG else (Phase.explicit, Phase.generate),  # a long run looks for the smallest example
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def within_memory(more_bytes: int = 512 * MIB) -> Iterator[None]:
    """Let this process grow by so much at most: what asks for more gets MemoryError (RLIMIT_AS)."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def taking_at_most(most_bytes: int) -> Iterator[None]:
    """Hold what is done inside to so much memory at any moment, also where it gets over a MemoryError."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= most_bytes, f"{peak / MIB:.1f} MiB"


@contextmanager
def nothing_but_notes() -> Iterator[None]:
    """A user may be warned of what is left out; a warning of a library's is a mistake that was not seen to."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=UserWarning, message=".* is left out: ")
        yield


# --- files, spoilt

# Numbers at the edges of what computers hold, texts that mean something somewhere, and forms that nobody expects.
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**53, 2**62, 2**63, 2**64, 10**400, 0.0, -0.5, 1e-300, 1e18, 1e308])
ODD = ("", " ", "\x00", "\x1b[31m", "\ufffe", "\n", "<script>", "{{ 7*7 }}", "%s", "$x^2$", "../..", "=1+1", "é", "😀")
KNOWN = ("ok", "failed", "tcp", "closed", "open", "nan", "inf", "1e999", "0001-01-01T00:00:00+14:00", "x" * 3000)
TEXTS = st.sampled_from(ODD + KNOWN)
LEAVES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.integers(), st.floats(allow_nan=False), TEXTS, st.text(max_size=20)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything within plain values, itself included."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for key, one in inner for found in places(one, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn, whole: Any, most: int = 3) -> Any:
    """Plain values with some of them replaced, removed, or given twice."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat"]))
        if how == "replace":
            parent[path[-1]] = draw(VALUES)
        elif how == "remove":
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent += [copy.deepcopy(parent[path[-1]])] * draw(st.integers(1, 40))
        else:
            parent[draw(TEXTS)] = parent[path[-1]]
    return value


@st.composite
def cut_up(draw: st.DrawFn, whole: bytes, most: int = 4) -> bytes:
    """Bytes with pieces of them removed, repeated, overwritten or put elsewhere."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 64)))
        how = draw(st.sampled_from(["remove", "repeat", "overwrite", "insert", "cut"]))
        if how == "remove":
            del data[start:end]
        elif how == "repeat":
            data[start:start] = data[start:end] * draw(st.integers(1, 30))
        elif how == "overwrite":
            data[start:end] = draw(st.binary(max_size=8))
        elif how == "insert":
            data[start:start] = draw(st.sampled_from([b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b'"', b"\n", b"\xff"]))
        else:
            del data[start:]
    return bytes(data)
