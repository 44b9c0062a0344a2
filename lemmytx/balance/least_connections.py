"""
Least connections: whom the request would load least.

The measure is (active + 1) / weight, that is, how full a backend would be with this request on it. The +1 matters when
nothing is going on: of idle backends the heaviest comes first. Ties go in turn (L{lemmytx.balance.turns}).
"""

from __future__ import annotations

from math import inf

from zope.interface import implementer

from lemmytx.balance.least import Least
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler


@implementer(IFollowingScheduler, IPreviewingScheduler)
class LeastConnections(Least):
    """The scheduler of clusters that do not name one."""

    __slots__ = ()

    def score(self, backend: ICandidate, weight: float) -> float:
        """See L{Least.score}."""
        # Equal fractions divide to equal floats, so ties are seen as ties.
        load: float = (backend.active + 1) / weight
        return load

    def find(self) -> int:
        """See L{Least.find}."""
        found = at = 0
        least = inf
        for backend, weight in self.order:
            load = (backend.active + 1) / weight
            if load < least:
                least = load
                found = at
            at += 1  # noqa: SIM113 - enumerate would cost a tuple per candidate
        return found
