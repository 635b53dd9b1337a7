"""How long a turn is, and how many of them a trial has in a round. Pure; what a turn is stands in bench/turns.py."""

from __future__ import annotations

from typing import NamedTuple

from bench.record import Trial

# How long a turn is. The speed of a shared machine's cores wanders within tenths of a second, by a tenth and more, and
# in no account of the kernel: the closer two turns are, the more of that they have in common. With turns of 10 ms a
# round's throughput varied by 2.4 to 2.8 %, of 20 ms by 2.8 to 4.4, of 50 ms by 5.6 to 6.5, in one run; turns of 5 ms
# gain nothing more. What a switch costs (1.5 ms of signals, words and readings) asks for longer ones.
TURN_S = 0.01
EACH_CONNECTION_S = 0.0001  # what is done for all connections at once, as by select, must happen many times in a turn
# A server that has just been let go on needs a moment until its caches are as they are under load: it comes before the
# window, unrecorded.
SETTLING = 0.2  # of the window
LEAST_SETTLING_S = 0.002
# Where so little is under way that the CPUs sleep between two messages, a wake-up is faster at first (11,000 messages/s
# on one connection) than later (9,000), as long as the machine remembers that it was busy. Between strategies that
# sleep and those that poll that makes a fifth.
FEW_IN_FLIGHT = 8
SLEEPING_TURN_S = 0.025
SLEEPING_SETTLING_S = 0.03
PLANNED_TURN_S = 0.1  # where sends are planned, so that what is under way at a turn's end is one message in a thousand
# Between two turns: signals, words with the load generator, readings of /proc.
SWITCH_S = 0.0018


class Length(NamedTuple):
    """How many turns one side has in a round, and how long each is: unrecorded at first, then its window."""

    turns: int
    warmup_s: float
    duration_s: float


def shortest_s(trial: Trial) -> float:
    """How long the window of one turn of this trial is to be (s) where there is time for several."""
    least_s = PLANNED_TURN_S if _planned(trial) else SLEEPING_TURN_S if _sleeps(trial) else TURN_S
    return max(least_s, EACH_CONNECTION_S * trial.connections)


def length(trial: Trial, in_all_s: float = 0.0, *, even: bool = False) -> Length:
    """The turns of a trial, which have `in_all_s` together, by default as long as the trial is to be measured.

    Their number is the nearest that makes each as long as it is to be, one at least; `even`: the nearest even one.
    """
    total_s, step = in_all_s or trial.duration_s, 2 if even else 1
    turns = step * max(1, round(total_s / shortest_s(trial) / step))
    least_s = SLEEPING_SETTLING_S if _planned(trial) or _sleeps(trial) else LEAST_SETTLING_S
    return Length(turns, max(least_s, SETTLING * total_s / turns), total_s / turns)


def turns_s(trial: Trial) -> float:
    """How long all turns of a trial take in a round, with what comes before their windows and between them."""
    turns, settling_s, window_s = length(trial)
    return turns * (settling_s + window_s + SWITCH_S)


def _planned(trial: Trial) -> bool:
    return bool(trial.planned_hz or trial.load_fraction)


def _sleeps(trial: Trial) -> bool:
    return trial.connections * trial.depth < FEW_IN_FLIGHT
