"""All checks of a process: begun, changed and ended with the configuration."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime

from lemmytx.checks.checker import AT_ONCE, Checker, Gate
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster

#: Seconds within which all backends of a new cluster have been looked at, where its interval is longer.
SOON = 5.0


class Rounds:
    """
    The checkers of all backends that are to be checked.
    """

    def __init__(self, clock: IReactorTime, place: tuple[int, int] = (0, 1), seed: int | None = None) -> None:
        """
        @param place: which of how many processes with the same configuration this is: each checks by itself, and they
            take turns with the beginning.
        @param seed: of chance, in tests.
        """
        self._clock = clock
        self._place = place
        self._chance = random.Random(seed).random
        self._checkers: dict[Backend, Checker] = {}
        self._gates: dict[str, Gate] = {}

    @property
    def checkers(self) -> Sequence[Checker]:
        """Those at work."""
        return list(self._checkers.values())

    def follow(self, clusters: Iterable[Cluster], place: tuple[int, int] | None = None) -> None:
        """
        This is the configuration now. Checks whose settings are as they were go on; what is known of a backend stays in
        any case.
        """
        if place is not None:
            self._place = place
        wanted: set[Backend] = set()
        gates: dict[str, Gate] = {}
        for cluster in clusters:
            checked = [backend for backend in cluster.backends if backend.checkup is not None]
            if not checked:
                continue
            gate = gates[cluster.name] = self._gates.get(cluster.name) or Gate()
            kinds = {backend.checkup.check for backend in checked if backend.checkup is not None}
            gate.limit = min(getattr(check, "at_once", AT_ONCE) for check in kinds)
            wanted.update(checked)
            for number, backend in enumerate(checked):
                self._look_after(cluster, backend, gate, number / len(checked))
        for backend in [backend for backend in self._checkers if backend not in wanted]:
            self._checkers.pop(backend).stop()
        self._gates = gates

    def _look_after(self, cluster: Cluster, backend: Backend, gate: Gate, part: float) -> None:
        checkup, checked = backend.checkup, backend.checked
        assert checkup is not None and checked is not None
        present = self._checkers.get(backend)
        if present is not None:
            if present.checkup is checkup:
                return
            present.stop()
        checker = self._checkers[backend] = Checker(cluster.name, backend, self._clock, gate, self._chance)
        # All at once would be a burst, at the start and then at every interval.
        interval = min(checkup.interval, SOON if checked.available else checkup.fast_interval, SOON)
        number, processes = self._place
        checker.start(interval * ((part + number / processes) % 1))

    def stop(self) -> None:
        """The end."""
        for checker in self._checkers.values():
            checker.stop()
        self._checkers.clear()
