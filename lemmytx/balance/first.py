"""
The first in the order of the configuration that can take the request, also known as C{chance}.

With capacities this fills one backend after the other, so the last ones are rarely needed and may be switched off.
Without them everything goes to the first one as long as that is up.
"""

from __future__ import annotations

from heapq import heappop, heappush

from zope.interface import implementer

from lemmytx.balance.offered import Offered
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler, IRequest


@implementer(IFollowingScheduler, IPreviewingScheduler)
class First(Offered):
    """One after the other."""

    __slots__ = ("_place", "_queue", "_queued")

    def __init__(self) -> None:
        super().__init__()
        self._place: dict[ICandidate, int] = {}
        #: A heap of places: of all that are admitted and have a weight, and of some that were.
        self._queue: list[int] = []
        self._queued: set[int] = set()

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        self._place = {backend: at for at, backend in enumerate(backends)}
        self._queue = []
        self._queued = set()

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IScheduler.choose}."""
        for backend in candidates:
            if backend.weight > 0:
                return backend
        return candidates[0]

    def preview(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate | None:
        """See L{lemmytx.interfaces.IPreviewingScheduler.preview}."""
        return self.choose(candidates, request)

    def admit(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.admit}."""
        super().admit(backend)
        place = self._place[backend]
        if place not in self._queued and backend.weight > 0:
            self._queued.add(place)
            heappush(self._queue, place)

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        usable, queue, members = self.usable, self._queue, self.members
        while queue:
            backend = members[queue[0]]
            if backend in usable:
                return backend
            self._queued.remove(heappop(queue))
        return min(usable, key=self._place.__getitem__)
