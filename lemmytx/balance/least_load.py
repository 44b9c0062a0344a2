"""
Least load: who is emptiest for what it can take.

The measure is active / capacity, by weight. Where a backend has no capacity configured, the weights alone say how
much it takes in comparison: such a candidate counts as if it had the greatest capacity of the cluster, or 1 when nobody
has one; then this is least connections. Ties go in turn (L{lemmytx.balance.turns}).
"""

from __future__ import annotations

from math import inf

from zope.interface import implementer

from lemmytx.balance.least import Least
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler


@implementer(IFollowingScheduler, IPreviewingScheduler)
class LeastLoad(Least):
    """For backends of different sizes, when their capacities are known."""

    __slots__ = ("_greatest",)

    def __init__(self) -> None:
        super().__init__()
        self._greatest = 1

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        self._greatest = max((backend.capacity for backend in backends), default=0) or 1

    def score(self, backend: ICandidate, weight: float) -> float:
        """See L{Least.score}."""
        load: float = backend.active / ((backend.capacity or self._greatest) * weight)
        return load

    def find(self) -> int:
        """See L{Least.find}."""
        found = at = 0
        least = inf
        greatest = self._greatest
        for backend, weight in self.order:
            load = backend.active / ((backend.capacity or greatest) * weight)
            if load < least:
                least = load
                found = at
            at += 1  # noqa: SIM113 - enumerate would cost a tuple per candidate
        return found
