"""Machines of a run that was made on several: which of them are not like the others. Pure; nothing is run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.record import Host

# What like machines have in common.
DIFFER = ("kernel", "cpu_model", "governor", "cpus", "cpu_quota", "memory_bytes", "interpreter")


def differences(hosts: Sequence[Host]) -> list[str]:
    """Name the machines that are not like most of the others, with what differs; of two, the second."""
    found = []
    for fact in DIFFER:
        values = [str(host.facts.get(fact, "")) for host in hosts]
        usual = Counter(values).most_common(1)[0][0]
        found += [
            f"{host.name} has {fact.replace('_', ' ')} {value}, others {usual}"
            for host, value in zip(hosts, values, strict=True)
            if value != usual
        ]
    return found
