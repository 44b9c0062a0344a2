"""
Round robin among many: earliest due first.

Everyone is due again one turn after it was picked, and a turn is 1 / weight long; whoever is due first is picked, and
then that is the time. (Nothing happens between picks, so time is what is counted in picks.) A heap finds it in a few
steps where nginx's rule (L{lemmytx.balance.round_robin}) looks at everyone. In a whole round each is picked as often as
its weight says, its picks equally far apart. Those that begin at the same time are spread over their first turn by
their places in the configuration: not everyone's first pick, by weight, comes before anyone's second.

Who is away does not save up: it is due when it comes back, unless it was only due later.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace

from lemmytx.interfaces import ICandidate

#: When it is due, its place in the configuration, itself.
_Entry = tuple[float, int, ICandidate]


class Due:
    """Whose turn it is among many that come and go."""

    __slots__ = ("_due", "_entries", "_heap", "_now", "_places", "_spare")

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        #: The valid entry of each that is admitted and has a weight; others in the heap are what has been.
        self._entries: dict[ICandidate, _Entry] = {}
        #: Those that are admitted and weigh nothing, the next one first.
        self._spare: dict[ICandidate, None] = {}
        #: When members are due, and with which weight that was worked out.
        self._due: dict[str, tuple[float, float]] = {}
        self._places: dict[ICandidate, int] = {}
        self._now = 0.0

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """The members, or their weights, are others. What a known one still had to wait, it waits in its new turns."""
        for entry in self._entries.values():
            self._remember(entry)
        before, now = self._due, self._now
        self._due = {}
        for at, backend in enumerate(backends):
            weight = backend.weight
            if weight > 0:
                due, former = before.get(backend.name, (now + (at + 0.5) / len(backends), 1.0))
                self._due[backend.name] = (max(due - now, 0.0) * former / weight, weight)
        self._places = {backend: at for at, backend in enumerate(backends)}
        self._heap = []
        self._entries = {}
        self._spare = {}
        # As the time grows, a float has less and less room for fractions of a turn.
        self._now = 0.0

    def admit(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.admit}."""
        if backend.weight > 0:
            due = max(self._due[backend.name][0], self._now)
            self._entries[backend] = entry = (due, self._places[backend], backend)
            heappush(self._heap, entry)
            if len(self._heap) > 4 * len(self._entries) + 64:
                self._heap = list(self._entries.values())
                heapify(self._heap)
        else:
            self._spare[backend] = None

    def withdraw(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.withdraw}."""
        entry = self._entries.pop(backend, None)
        if entry is None:
            del self._spare[backend]
        else:
            self._remember(entry)

    def _remember(self, entry: _Entry) -> None:
        backend = entry[2]
        self._due[backend.name] = (entry[0], self._due[backend.name][1])

    def pick(self) -> ICandidate:
        """
        @return: one of those that are admitted; there is at least one.
        """
        heap, entries = self._heap, self._entries
        if not entries:
            backend = next(iter(self._spare))
            self._spare[backend] = self._spare.pop(backend)
            return backend
        while True:
            entry = heap[0]
            due, place, backend = entry
            if entries.get(backend) is entry:
                break
            heappop(heap)
        self._now = due
        entries[backend] = entry = (due + 1 / backend.weight, place, backend)
        heapreplace(heap, entry)
        return backend

    @property
    def admitted(self) -> bool:
        """Whether there is anyone."""
        return bool(self._entries or self._spare)

    def first(self, backends: Iterable[ICandidate]) -> ICandidate | None:
        """
        @return: who of these is picked next, of those that are admitted.
        """
        entries = [self._entries[backend] for backend in backends if backend in self._entries]
        return min(entries)[2] if entries else next(iter(self._spare), None)
