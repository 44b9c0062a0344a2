"""All checks of a process: begun, changed and ended with the configuration."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from twisted.internet.interfaces import IReactorTime

from lemmytx.checks.checker import AT_ONCE, Checker, Gate, Told
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster

#: Seconds within which all backends of a new cluster have been looked at, where its interval is longer.
SOON = 5.0


class Rounds:
    """
    The checkers of all backends that are to be checked.
    """

    def __init__(
        self,
        clock: IReactorTime,
        place: tuple[int, int] = (0, 1),
        seed: int | None = None,
        told: Told | None = None,
    ) -> None:
        """
        @param place: which of how many processes with the same configuration this is: each checks by itself, and they
            take turns with the beginning.
        @param seed: of chance, in tests.
        @param told: called when the health of a backend has changed by a check, before its cluster is told.
        """
        self._clock = clock
        self._told = told
        self._place = place
        self._chance = random.Random(seed).random
        self._checkers: dict[Backend, Checker] = {}
        self._gates: dict[str, Gate] = {}
        #: By the names of cluster and backend; made when it is needed.
        self._names: dict[tuple[str, str], Checker] | None = None

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
        self._names = None
        wanted: set[Backend] = set()
        gates: dict[str, Gate] = {}
        for cluster in clusters:
            checked = self._follow(cluster, gates)
            wanted.update(checked)
        self._stop([backend for backend in self._checkers if backend not in wanted])
        self._gates = gates

    def _follow(self, cluster: Cluster, gates: dict[str, Gate]) -> list[Backend]:
        """Look after one cluster, and return those of its backends that are to be checked."""
        checked = [backend for backend in cluster.backends if backend.checkup is not None]
        if checked:
            gate = gates[cluster.name] = self._gates.get(cluster.name) or Gate()
            kinds = {backend.checkup.check for backend in checked if backend.checkup is not None}
            gate.limit = min(getattr(check, "at_once", AT_ONCE) for check in kinds)
            for number, backend in enumerate(checked):
                self._look_after(cluster, backend, gate, number / len(checked))
        return checked

    def take(self, cluster: Cluster, removed: Iterable[Backend] = ()) -> None:
        """
        One cluster is there, or has changed; the others are as they were.

        @param removed: those that it has no more.
        """
        self._names = None
        checked = self._follow(cluster, self._gates)
        if not checked:
            self._gates.pop(cluster.name, None)
        self._stop([*removed, *(backend for backend in cluster.backends if backend.checkup is None)])

    def drop(self, cluster: Cluster, backends: Iterable[Backend]) -> None:
        """
        One cluster is not there any more.

        @param backends: all that it had.
        """
        self._names = None
        self._gates.pop(cluster.name, None)
        self._stop(backends)

    def _stop(self, backends: Iterable[Backend]) -> None:
        for backend in backends:
            checker = self._checkers.pop(backend, None)
            if checker is not None:
                checker.stop()

    def place(self, place: tuple[int, int]) -> None:
        """Another one of so many processes; see L{__init__}."""
        self._place = place

    def _look_after(self, cluster: Cluster, backend: Backend, gate: Gate, part: float) -> None:
        checkup, checked = backend.checkup, backend.checked
        assert checkup is not None and checked is not None
        present = self._checkers.get(backend)
        if present is not None:
            if present.checkup is checkup:
                return
            present.stop()
        checker = self._checkers[backend] = Checker(
            cluster.name, backend, self._clock, gate, self._chance, told=self._told
        )
        # All at once would be a burst, at the start and then at every interval.
        interval = min(checkup.interval, SOON if checked.available else checkup.fast_interval, SOON)
        number, processes = self._place
        checker.start(interval * ((part + number / processes) % 1))

    def look(self, cluster: str, backend: str, better: bool) -> None:
        """
        Somebody else sees a backend in another state than before. It is checked at once if it looks otherwise to us; if
        it is one of ours at all.

        @param better: than before.
        """
        if self._names is None:
            self._names = {(each.cluster, each.backend.name): each for each in self._checkers.values()}
        checker = self._names.get((cluster, backend))
        if checker is not None:
            checker.look(better)

    def stop(self) -> None:
        """The end."""
        self._names = None
        for checker in self._checkers.values():
            checker.stop()
        self._checkers.clear()
