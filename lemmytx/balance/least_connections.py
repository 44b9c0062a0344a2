"""
Least connections: whom the request would load least.

The measure is (active + 1) / weight, that is, how full a backend would be with this request on it. The +1 matters when
nothing is going on: of idle backends the heaviest comes first. Ties go in turn (L{lemmytx.balance.turns}).

Active are the requests of all processes that share the table: one that sees its own alone takes a backend for idle that
the others are flooding already.
"""

from __future__ import annotations

from math import inf

from zope.interface import implementer

from lemmytx.balance.least import Least
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler


@implementer(IFollowingScheduler, IPreviewingScheduler)
class LeastConnections(Least):
    """The scheduler of clusters that do not name one and are not large."""

    __slots__ = ("_shared",)

    def __init__(self, shared: bool = True) -> None:
        """
        @param shared: whether the requests of others count that share the table.
        """
        super().__init__()
        self._shared = shared

    def score(self, backend: ICandidate, weight: float) -> float:
        """See L{Least.score}."""
        # Equal fractions divide to equal floats, so ties are seen as ties.
        active = backend.active + backend.elsewhere if self._shared else backend.active
        load: float = (active + 1) / weight
        return load

    def find(self) -> int:
        """See L{Least.find}."""
        found = at = 0
        least = inf
        if self._shared:
            for backend, weight in self.order:
                load = (backend.active + backend.elsewhere + 1) / weight
                if load < least:
                    least = load
                    found = at
                at += 1  # enumerate would cost a tuple per candidate
            return found
        for backend, weight in self.order:
            load = (backend.active + 1) / weight
            if load < least:
                least = load
                found = at
            at += 1
        return found
