"""
Least connections: whom the request would load least.

The measure is (active + 1) / weight, that is, how full a backend would be with this request on it. The +1 matters when
nothing is going on: of idle backends the heaviest comes first. Ties go in turn (L{lemmytx.balance.turns}).
"""

from __future__ import annotations

from math import inf

from zope.interface import implementer

from lemmytx.balance.turns import Turns
from lemmytx.interfaces import ICandidate, IRequest, IScheduler


@implementer(IScheduler)
class LeastConnections(Turns):
    """The scheduler of clusters that do not name one."""

    __slots__ = ()

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{IScheduler.choose}."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates is not self.seen:
            self.offer(candidates)
        found = at = 0
        least = inf
        for backend, weight in self.order:
            # Equal fractions divide to equal floats, so ties are seen as ties.
            load = (backend.active + 1) / weight
            if load < least:
                least = load
                found = at
            at += 1  # noqa: SIM113 - enumerate would cost a tuple per candidate
        return self.pick(found)
