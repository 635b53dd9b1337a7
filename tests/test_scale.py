"""Very many connections at once: all are served, none is dropped on the way, and neither side holds too much.

Each test has a network namespace of its own (crowd.py): the kernel counts drops for a whole namespace.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from spawn import ROOT

CROWD = 10_000
MOST_DESCRIPTORS = 20_000  # of server and client, each


@pytest.fixture(scope="module", autouse=True)
def _own_network() -> None:
    """Skip where an unprivileged process may not have a network of its own."""
    try:
        subprocess.run(["unshare", "--map-root-user", "--net", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made here: {error}")


def in_a_network_of_its_own(what: str, number: int) -> dict[str, Any]:
    script = str(Path(__file__).with_name("crowd.py"))
    command = ["unshare", "--map-root-user", "--net", sys.executable, script, what, str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_ten_thousand_connections_are_served_without_a_dropped_handshake() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < CROWD + 100:
        pytest.skip(f"the hard limit of descriptors is {hard:,}, too low for {CROWD:,} connections")
    record = in_a_network_of_its_own("trial", CROWD)
    assert (record["status"], record["reason"], record["stops_at"]) == ("ok", "", 0)
    assert record["network"] == {"listen_overflows": 0, "listen_drops": 0, "request_queue_drops": 0}
    assert "syn_drops" not in record["flags"]
    assert record["load"]["connections"] == CROWD // 10
    assert record["load"]["completed"] > 0 and sum(record["load"]["errors"].values()) == 0
    assert CROWD <= record["server"]["metrics"]["descriptors"] < MOST_DESCRIPTORS


def test_handshakes_that_find_the_queue_full_are_counted() -> None:
    seen = in_a_network_of_its_own("overflow", 5)
    assert seen["connected"] == 2
    assert seen["network"]["listen_overflows"] == seen["network"]["listen_drops"] >= 3


def test_connections_come_from_as_many_addresses_as_their_ports_take() -> None:
    seen = in_a_network_of_its_own("ports", 200)
    assert seen["failed"] == {}
    assert sum(seen["sources"].values()) == 200
    assert set(seen["sources"]) == {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"}
    assert max(seen["sources"].values()) <= 64
