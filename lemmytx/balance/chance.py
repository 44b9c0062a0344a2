"""
By chance: C{random} and C{two_choices}.

Both draw from one table of all members, in proportion to their weights, and draw again when the lot falls on one that
is not offered. When that happens several times in a row almost nobody is offered, and a table of those few is made for
the occasion.

C{two_choices} draws two and takes the one with less active / weight. That is nearly as good as knowing the least loaded
of all, and, unlike that, several proxies that do it do not all rush to the same idle backend (M. Mitzenmacher, The
Power of Two Choices in Randomized Load Balancing, 2001). When both have equally little to do the first one drawn is
taken, so that weights hold while nothing is going on.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from zope.interface import implementer

from lemmytx.balance.offered import Offered
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler, IRequest

#: How often is drawn from the table of all.
_TRIES = 8


@implementer(IFollowingScheduler, IPreviewingScheduler)
class Random(Offered):
    """Weighted random."""

    __slots__ = ("_draw", "_sums", "_table")

    def __init__(self, seed: int | None = None) -> None:
        """
        @param seed: for a sequence that can be repeated.
        """
        super().__init__()
        self._draw = random.Random(seed).random
        self._table: Sequence[ICandidate] = ()
        self._sums: list[float] = []

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        self._table = [backend for backend in backends if backend.weight > 0]
        self._sums = list(accumulate(backend.weight for backend in self._table))

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        usable, sums = self.usable, self._sums
        if sums:
            for _ in range(_TRIES):
                # The product of a float below 1 may round up to the sum, so the index has to be kept in.
                backend = self._table[bisect_right(sums, self._draw() * sums[-1], 0, len(sums) - 1)]
                if backend in usable:
                    return backend
        few = list(usable)
        weights = list(accumulate(backend.weight or 1 for backend in few))
        return few[bisect_right(weights, self._draw() * weights[-1], 0, len(few) - 1)]

    def preview(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate | None:
        """See L{lemmytx.interfaces.IPreviewingScheduler.preview}."""
        weighty = [backend for backend in candidates if backend.weight > 0] or candidates
        return weighty[0] if len(weighty) == 1 else None


class TwoChoices(Random):
    """The better of two random ones."""

    __slots__ = ()

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        draw = super().pick
        one = draw(request)
        other = draw(request)
        if other is one:
            # Two different ones, if chance allows; else the one is likely enough by its weight.
            other = draw(request)
        if other.active * (one.weight or 1) < one.active * (other.weight or 1):
            return other
        return one
