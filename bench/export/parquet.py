"""Apache Parquet: the rows of the CSV with their types, for pandas, Polars, DuckDB and the like. Takes pyarrow."""

from __future__ import annotations

import io

from bench.errors import BadInputError
from bench.export._rows import tidy
from bench.record import Run

summary = "the rows of csv, with types (needs pyarrow)"
default = "tidy.parquet"


def render(run: Run) -> bytes:
    """Give the file. Raises BadInputError."""
    table = tidy(run)
    written = io.BytesIO()
    try:
        table.to_parquet(written, engine="pyarrow", index=False)
    except ImportError:
        raise BadInputError(
            "The format parquet needs pyarrow, which is not installed.", "pip install pyarrow"
        ) from None
    return written.getvalue()
