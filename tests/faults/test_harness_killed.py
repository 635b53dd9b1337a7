"""`iobench` is killed (SIGKILL) at random moments and its run resumed: it ends as one that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from leftovers import started_with
from spawn import eventually
from test_cli import environment

from bench.record import MANIFEST_FILE, TRIALS_FILE, Manifest, Record, Run, Search, read_run, write_manifest
from bench.sweep import Sweep

HERE = Path(__file__).parent
KILLS = int(os.environ.get("IOBENCH_TEST_KILLS", "200"))
SEED = "IOBENCH_TEST_SEED"  # to kill after the same times again
FOREVER_S = 60.0  # in which any of these runs ends by itself
MOST_IN_VAIN = 8  # kills in a row before the first record, after which a run may get that far in peace
# What the same trial has otherwise the next time.
MEASURED = ("load", "server", "machine", "timing", "started", "bottleneck", "flags")


class Forks:
    """The process that runs and kills (forking.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go_on(self, run: Path, plan: str, seconds: float) -> bool:
        """Resume a run, and kill it after a while; False where it had ended before that."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        print(json.dumps({"run": str(run), "plan": plan, "seconds": seconds}), file=stdin, flush=True)
        told = json.loads(stdout.readline())
        assert told["killed"] or told["code"] in (0, 1), run.with_suffix(".said").read_text()
        return bool(told["killed"])


@contextmanager
def forks() -> Iterator[Forks]:
    env = environment(OPENBLAS_NUM_THREADS="1")  # only what has one thread may be forked
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(HERE.parent)])
    argv = [sys.executable, str(HERE / "forking.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def new_run(folder: Path, plan: str) -> Path:
    """A run folder with nothing but a manifest."""
    folder.mkdir()
    sweep = Sweep(name="tiny", strategies=("good",), slo="p99<5ms" if plan == "search" else "")
    about = msgspec.to_builtins(sweep)
    write_manifest(folder, Manifest(sweep=about, strategies=[], host={}, versions={}, created="", command=[]))
    return folder


def content(run: Path) -> bytes:
    path = run / TRIALS_FILE
    return path.read_bytes() if path.exists() else b""


def planned_part(record: Record) -> dict[str, Any]:
    """A record without what was measured."""
    return {name: value for name, value in msgspec.to_builtins(record).items() if name not in MEASURED}


def planned_answers(run: Run) -> list[Search]:
    """What searches found, but for the limit, which follows from what was measured."""
    return [msgspec.structs.replace(search, limit="") for search in run.manifest.searches]


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::UserWarning")  # a line that was cut off is told of
def test_a_sweep_that_is_killed_at_random_moments_and_resumed_ends_as_an_undisturbed_one(
    tmp_path: Path, nothing_remains: str
) -> None:
    seed = int(os.environ.get(SEED, secrets.randbits(32)))
    print(f"{SEED}={seed}")
    rng = random.Random(seed)
    kills, moments = 0, Counter[tuple[str, int]]()
    with forks() as fork:
        undisturbed, lasted_s = {}, FOREVER_S
        for plan in ("search", "trials", "trials"):
            run = new_run(tmp_path / f"undisturbed-{plan}-{lasted_s:g}", plan)
            began = time.monotonic()
            assert not fork.go_on(run, plan, FOREVER_S)
            undisturbed[plan] = read_run(run)
            lasted_s = min(lasted_s, time.monotonic() - began)
        for number, plan in enumerate(cycle(("trials", "search"))):
            if kills >= KILLS:
                break
            run, in_vain = new_run(tmp_path / str(number), plan), 0
            while True:
                before, began = content(run), time.monotonic()
                killed = fork.go_on(run, plan, FOREVER_S if in_vain > MOST_IN_VAIN else rng.uniform(0, 0.7 * lasted_s))
                after = content(run)
                if not before and not killed:  # the first runs may have been slow ones, and all others would end first
                    lasted_s = min(lasted_s, time.monotonic() - began)
                assert after.startswith(before), "what had been written is gone"
                in_vain = in_vain + 1 if after == before else 0
                lines = [msgspec.json.decode(line, type=Record) for line in after.splitlines() if whole(line)]
                assert len({record.id for record in lines}) == len(lines), "a trial is there twice"
                kills += killed
                moments[plan, len(lines)] += killed
                if not killed:
                    break
            ended, right = read_run(run), undisturbed[plan]
            assert [planned_part(record) for record in ended.records] == [planned_part(one) for one in right.records]
            assert planned_answers(ended) == planned_answers(right)
            assert {path.name for path in run.iterdir()} == {MANIFEST_FILE, TRIALS_FILE}
            assert eventually(lambda: len(started_with(nothing_remains)) == 1), started_with(nothing_remains)
    assert len(undisturbed["trials"].records) == 5 and len(undisturbed["search"].records) > 5
    assert len(moments) > 6, moments  # kills came before the first record, after the last, and between


def whole(line: bytes) -> bool:
    """Whether a line was written to its end; its writer may have been killed on the way."""
    return line.startswith(b"{") and line.endswith(b"}") and is_json(line)


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
