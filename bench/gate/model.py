"""What a gate measures and concludes, as it is written into gate.json.

A case is a strategy (or a foreign server) at one point: transport, connections, message size. A pair is one fresh
server process of base and one of head, which take turns under the same load generator. All ratios are
"worse": above 1 head is worse than base, whatever the metric. Nothing is measured or computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bench.record import Amount, Count, Trial

SCHEMA = 1
GATE_FILE = "gate.json"
UNBOUNDED = 1e9  # of a ratio: JSON has no infinity

Verdict = Literal["ok", "regressed", "inconclusive"]
Kind = Literal["timed", "counted"]


@dataclass(frozen=True)
class Metric:
    """What base and head are compared by.

    `kind` "timed" is compared by statistics over pairs, "counted" exactly. `least` is the smallest difference of the
    two medians, in the metric's unit, that counts at all. `slack` times the regression allowed is allowed of it.
    `optional`: where it is too noisy to judge, the gate is not held up; a regression of it counts all the same.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool = False
    kind: Kind = "timed"
    least: float = 0.0
    slack: float = 1.0
    optional: bool = False


THROUGHPUT = Metric("rate_hz", "throughput at full load", "messages/s", higher_is_better=True)
CPU = Metric("cpu_us", "server CPU per message", "us")
P50 = Metric("p50_us", "p50 response time", "us", slack=2, optional=True)
# A standstill of a virtual CPU for a millisecond or two, a few times a second, is just about one message in a hundred:
# on such a machine p99 jumps by factors from process to process, and no number of pairs that fits a budget helps.
P99 = Metric("p99_us", "p99 response time", "us", slack=4, optional=True)
# A resident set grows by whole pages: differences below one page for sixteen connections are where the heap ended.
MEMORY = Metric("bytes_per_connection", "memory per connection", "bytes", least=256)
CALLS = Metric("calls", "system calls per message", "calls", kind="counted", least=0.01)
TIMED = (THROUGHPUT, CPU, P50, P99, MEMORY)
METRICS = (*TIMED, CALLS)


class Sample(msgspec.Struct, kw_only=True):
    """One server process of one side.

    `metrics` is by name of Metric; of the timed ones those that could be measured. `response_hdr` is the histogram of
    response times at the fixed rate (HdrHistogram V2, compressed, base64; ns). The shares are of the wall time of the
    turns that count: `wait` is run-queue wait that others caused, of server or load, whichever waited longer; `steal`
    what the hypervisor took.
    """

    metrics: dict[str, Amount]
    response_hdr: str = ""
    wait: Amount = 0.0
    steal: Amount = 0.0
    failed: str = ""  # why this server or its load failed; then there are no metrics
    client_bound: bool = False  # the load generator, not the server, was the limit at full load


class Pair(msgspec.Struct, kw_only=True):
    """Base and head, in turns. A pair that was disturbed or failed is kept and not counted."""

    case: str
    round: Count  # from 1, in each attempt
    attempt: Count  # 1, or 2 where what would have failed was measured again
    first: Literal["base", "head"]
    base: Sample
    head: Sample
    offered_hz: Amount = 0.0  # the fixed rate of the response times
    disturbed: str = ""  # why the pair was dropped, such as "5 of 8 turns of head: ..."; "" where it is clean

    @property
    def failed(self) -> bool:
        """Whether either side failed."""
        return bool(self.base.failed or self.head.failed)

    @property
    def clean(self) -> bool:
        """Whether the pair counts."""
        return not (self.disturbed or self.failed)


class CallCount(msgspec.Struct, kw_only=True):
    """System calls per message of one side, by name, at so many messages at one go. `passes`: one dict a process."""

    burst: Count
    passes: list[dict[str, Amount]]
    reason: str = ""  # why there are none


class CallPair(msgspec.Struct, kw_only=True):
    """The counted calls of a case, of both sides."""

    case: str
    attempt: Count
    base: CallCount
    head: CallCount


class Case(msgspec.Struct, kw_only=True):
    """What is compared: the definition of its trials but for the repeat. `name` is unique, as "epoll_lt, 16 conn."."""

    name: str
    trial: Trial
    missing: str = ""  # why it can't be compared, such as "base has no strategy epoll_new"


class Side(msgspec.Struct, kw_only=True):
    """Base or head, in words and as found."""

    role: Literal["base", "head"]
    label: str  # as the user named it: a revision, a command, a run
    commit: str = ""  # where there is one
    dirty: bool = False
    command: list[str] = []
    python: str = ""
    interpreter: str = ""  # implementation and version, where a server told


class Result(msgspec.Struct, kw_only=True):
    """One case and metric, judged. Of a counted metric `name` tells the burst, and `p` and the like have no meaning.

    `ratio` (Hodges and Lehmann) is above 1 where head is worse; `low` and `high` are its 95 % interval; `upper` the
    one-sided limit that "ok" goes by. `detectable`: the ratio that this many pairs, as noisy as they were, would have
    shown as a regression nine times in ten. What has no limit is UNBOUNDED.
    """

    case: str
    metric: str
    verdict: Verdict
    why: str = ""  # a clause for the verdict
    base: Amount = 0.0  # medians
    head: Amount = 0.0
    ratio: Amount = 1.0
    low: Amount = 1.0
    high: Amount = 1.0
    upper: Amount = 1.0
    p: Amount = 1.0
    p_holm: Amount = 1.0
    detectable: Amount = 0.0
    pairs: Count = 0  # measured in the attempt that decided
    clean: Count = 0
    attempts: Count = 1
    burst: Count = 0  # counted: messages at one go
    optional: bool = False  # an inconclusive verdict does not hold up the gate
    changed: dict[str, tuple[Amount, Amount]] = {}  # counted: by name of the call, per message, base and head


class Gate(msgspec.Struct, kw_only=True):
    """Everything: what was asked, what was measured, what follows."""

    base: Side
    head: Side
    sweep: str
    paired: bool  # False: compared with a stored run, the weaker way
    max_regression: Amount  # 0.05 is 5 %
    alpha: Amount
    allowed: dict[str, Amount]  # by metric, where it is not max_regression times the metric's slack
    budget_s: Amount  # for each case
    seed: Count
    host: dict[str, Any]
    versions: dict[str, Any]
    created: str
    command: list[str]
    cases: list[Case]
    pairs: list[Pair] = []
    calls: list[CallPair] = []
    results: list[Result] = []
    verdict: Verdict = "inconclusive"
    notes: list[str] = []  # what the user should know besides, each a sentence
    wall_s: Amount = 0.0
    schema: int = SCHEMA
