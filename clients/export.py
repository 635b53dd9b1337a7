"""Histograms as files that the standard tools read: HdrHistogram's interval log and its percentile table."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime

from clients import histogram
from clients.job import Load

NS_PER_MS = 1e6


def interval_log(load: Load, opened_s: float) -> str:
    """Return a .hlog (format 1.2): a histogram of ns for each interval; `opened_s` is when the window opened (epoch).

    Response times where there is a plan, else service times. The format is that of the Java HistogramLogWriter.
    """
    opened = datetime.fromtimestamp(opened_s, UTC).isoformat(" ", "milliseconds")
    lines = [
        "#[Histogram log format version 1.2]",
        f"#[StartTime: {opened_s:.3f} (seconds since epoch), {opened}]",
        f"#[BaseTime: {opened_s:.3f} (seconds since epoch)]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    window_ns = load.closed_ns - load.opened_ns
    for number, text in enumerate(load.interval_hdrs):
        start_ns = number * load.interval_ns
        length_ns = max(0, min(load.interval_ns, window_ns - start_ns))
        longest_ns = histogram.to_hdr(histogram.decode(text)).get_max_value()
        lines.append(f"{start_ns / 1e9:.3f},{length_ns / 1e9:.3f},{longest_ns / NS_PER_MS:.3f},{text}")
    return "\n".join(lines) + "\n"


def opened_s(load: Load) -> float:
    """Return when the window opened, in seconds since the epoch, as this machine's clocks stand now."""
    return time.time() - (time.monotonic_ns() - load.opened_ns) / 1e9


def percentile_table(load: Load) -> str:
    """Return a .hgrm: the percentile distribution of the whole window in ms, five steps for each halving of the rest.

    Of the response times where there is a plan, else of the service times.
    """
    recorded = histogram.to_hdr(histogram.decode(load.response_hdr or load.service_hdr))
    file = io.BytesIO()
    recorded.output_percentile_distribution(file, NS_PER_MS)
    # hdrh scales the mean, but not the standard deviation beside it.
    deviation_ns = recorded.get_stddev()
    label = "StdDeviation   = "
    return (
        file.getvalue().decode().replace(f"{label}{deviation_ns:12.3f}", f"{label}{deviation_ns / NS_PER_MS:12.3f}", 1)
    )
