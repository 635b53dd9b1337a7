"""After every test of a fault nothing of ours remains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from leftovers import leaving_nothing


@pytest.fixture(autouse=True)
def nothing_remains(tmp_path: Path) -> Iterator[str]:
    """Look for what the test has left, wherever it may have hidden; the token that all it started has."""
    with leaving_nothing(tmp_path) as token:
        yield token
