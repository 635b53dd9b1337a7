"""What Dask warns of by itself is no fault of ours: named here one by one, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
OF_DASK = (
    "ignore:.*unclosed.*:ResourceWarning",  # sockets that a closing client or nanny leaves to the garbage collection
    "ignore:Sending large graph:UserWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            for text in OF_DASK:
                item.add_marker(pytest.mark.filterwarnings(text))
