"""Warm load generators, one for each set of CPUs; one that has died or hangs is replaced when it is next asked for."""

from __future__ import annotations

from collections.abc import Sequence

from bench.load import LoadWorker, end_worker, start_worker
from bench.processes import Guard
from bench.say import complain


class LoadPool:
    """The load generators of a run, a gate or a calibration. The command stands in for `python -m clients`."""

    def __init__(self, guard: Guard, cpus: Sequence[int], command: Sequence[str] = ()) -> None:
        self._guard, self._cpus, self._command = guard, tuple(cpus), command
        self._workers: dict[tuple[int, ...], LoadWorker] = {}
        self._told: list[str] = []

    def worker(self, cpus: Sequence[int] = ()) -> LoadWorker:
        """A load generator that is warm and fit for work, on its usual CPUs unless others are named.

        Raises LoadFailedError, Interrupted.
        """
        place = tuple(cpus) or self._cpus
        worker = self._workers.get(place)
        if worker is not None and not worker.usable:
            end_worker(self._workers.pop(place))
            worker = None
        if worker is None:
            worker = self._workers[place] = start_worker(place, self._guard, self._command)
            self._tell(worker.note)
        return worker

    def _tell(self, note: str) -> None:
        """Tell a note of a load generator once."""
        if note and note not in self._told:
            self._told.append(note)
            complain(f"note: {note}.")

    @property
    def running(self) -> LoadWorker | None:
        """The load generator on the usual CPUs as it is, fit for work or not; None where there is none."""
        return self._workers.get(self._cpus)

    def end(self) -> None:
        """End all that run."""
        while self._workers:
            end_worker(self._workers.popitem()[1])
