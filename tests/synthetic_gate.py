"""Gates that were never measured, for what is shown of them."""

from __future__ import annotations

from typing import Any

from bench.gate.model import Case, Gate, Pair, Result, Sample, Side
from bench.record import Trial

TRIAL = Trial(
    strategy="epoll_lt",
    transport="tcp",
    connections=16,
    message_bytes=64,
    workload="closed",
    warmup_s=0.1,
    duration_s=0.25,
    repeat=1,
    seed=1,
)


def a_case(name: str = "epoll_lt, tcp, 16 x 64 B") -> Case:
    return Case(name=name, trial=TRIAL)


def a_result(case: str = "epoll_lt, tcp, 16 x 64 B", **fields: Any) -> Result:
    usual: dict[str, Any] = {
        "metric": "cpu_us",
        "verdict": "ok",
        "why": "surely worse by less than 5 %, if at all",
        "base": 4.0,
        "head": 4.04,
        "ratio": 1.01,
        "low": 0.99,
        "high": 1.03,
        "upper": 1.03,
        "p": 0.2,
        "p_holm": 0.8,
        "detectable": 1.04,
        "pairs": 30,
        "clean": 28,
    }
    return Result(case=case, **(usual | fields))


def a_regression(case: str = "epoll_lt, tcp, 16 x 64 B", **fields: Any) -> Result:
    usual = {
        "verdict": "regressed",
        "why": "worse by more than 5 %, twice",
        "head": 4.8,
        "ratio": 1.2,
        "low": 1.15,
        "high": 1.25,
        "attempts": 2,
    }
    return a_result(case, **(usual | fields))


def more_calls(case: str = "epoll_lt, tcp, 16 x 64 B") -> Result:
    return a_regression(
        case,
        metric="calls",
        burst=1,
        base=3.0,
        head=4.0,
        ratio=4 / 3,
        why="read +1.00, twice",
        changed={"read": (1.0, 2.0)},
    )


def too_noisy(case: str = "epoll_lt, tcp, 16 x 64 B", **fields: Any) -> Result:
    usual = {"verdict": "inconclusive", "why": "too noisy: only 30 % or more would have been found", "detectable": 1.3}
    return a_result(case, **(usual | fields))


def a_pair(number: int, case: str = "epoll_lt, tcp, 16 x 64 B", disturbed: str = "") -> Pair:
    return Pair(
        case=case,
        round=number,
        attempt=1,
        first="base",
        base=Sample(metrics={"cpu_us": 4.0}),
        head=Sample(metrics={"cpu_us": 4.0 + number / 100}),
        disturbed=disturbed,
    )


def a_gate(*results: Result, verdict: str = "ok", **fields: Any) -> Gate:
    names = dict.fromkeys(result.case for result in results)
    usual: dict[str, Any] = {
        "base": Side(role="base", label="main", commit="a" * 40, interpreter="CPython 3.13.0"),
        "head": Side(role="head", label="this checkout", commit="b" * 40, dirty=True),
        "sweep": "gate",
        "paired": True,
        "max_regression": 0.05,
        "alpha": 0.005,
        "allowed": {},
        "budget_s": 60.0,
        "seed": 1,
        "host": {"kernel": "6.1"},
        "versions": {"iobench": "0.1.0"},
        "created": "2026-01-01T00:00:00.000+00:00",
        "command": ["iobench", "gate", "--base", "main"],
        "cases": [a_case(name) for name in names],
        "pairs": [a_pair(number) for number in range(1, 12)] + [a_pair(12, disturbed="run-queue wait")],
        "results": list(results),
        "verdict": verdict,
        "wall_s": 61.5,
    }
    return Gate(**(usual | fields))
