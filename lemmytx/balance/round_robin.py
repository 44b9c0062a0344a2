"""
Round robin, weighted and smooth.

nginx's rule: at each choice every candidate earns its weight, the richest is chosen and pays what all have earned. With
weights 5, 1, 1 that gives a a b a c a a, never five times the same in a row.

What a candidate has is remembered in units of its weight. That alone would be wrong once members or weights change:
what was little among weights of 1000 is a fortune among weights of 1, and whoever has it would be chosen hundreds of
times in a row. So it is kept as it was earned, together with the sum of weights at that time, and converted when
another set of candidates is offered: a third of a choice stays a third of a choice.

Everyone's purse is looked at for each choice. Where there are many L{lemmytx.balance.due} does the same by other means.
"""

from __future__ import annotations

from zope.interface import implementer

from lemmytx.balance.due import Due
from lemmytx.balance.turns import same
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler, IRequest

#: Weights are counted in this fraction, so that converting rounds off less than a millionth of a choice. Between two
#: changes all is exact.
UNIT = 1 << 20


class _Purse:
    """What one backend has."""

    __slots__ = ("amount", "backend", "sum", "weight")

    def __init__(self, backend: ICandidate) -> None:
        self.backend = backend
        self.weight = 0
        self.amount = 0
        #: The sum of weights among which C{amount} was earned.
        self.sum = 1

    def among(self, total: int) -> int:
        """What it has, in the money of another sum of weights."""
        return self.amount if self.sum == total else self.amount * total // self.sum


@implementer(IFollowingScheduler, IPreviewingScheduler)
class RoundRobin:
    """Every backend in its turn, as often as its weight says."""

    __slots__ = ("_all", "_many", "_now", "_seen", "_sum")

    #: See L{lemmytx.interfaces.IFollowingScheduler}.
    counts = False

    def __init__(self) -> None:
        self._many = Due()
        self._all: dict[str, _Purse] = {}
        self._now: list[_Purse] = []
        self._seen: tuple[ICandidate, ...] = ()
        self._sum = 0

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        self._seen = ()
        names = {backend.name for backend in backends}
        self._all = {name: purse for name, purse in self._all.items() if name in names}
        self._many.update(backends)

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IScheduler.choose}."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates is not self._seen:
            self._offer(candidates)
        purses = self._now
        richest = purses[0]
        most = richest.amount = richest.amount + richest.weight
        for purse in purses[1:]:
            purse.amount = amount = purse.amount + purse.weight
            if amount > most:
                richest = purse
                most = amount
        richest.amount = most - self._sum
        return richest.backend

    def _offer(self, candidates: tuple[ICandidate, ...]) -> None:
        """Make C{_now} the purses of those that may be chosen, in the money of their sum of weights."""
        known = same(candidates, self._seen)
        self._seen = candidates
        if known:
            return
        weights = self._weights(candidates)
        self._sum = total = sum(weight for _, weight in weights)
        self._now = []
        for candidate, weight in weights:
            purse = self._all.get(candidate.name)
            if purse is None:
                purse = self._all[candidate.name] = _Purse(candidate)
            purse.backend = candidate
            purse.weight = weight
            purse.amount = purse.among(total)
            purse.sum = total
            self._now.append(purse)

    @staticmethod
    def _weights(candidates: tuple[ICandidate, ...]) -> list[tuple[ICandidate, int]]:
        """Those that may be chosen, with what they earn."""
        weights = [(candidate, round(candidate.weight * UNIT)) for candidate in candidates if candidate.weight > 0]
        return weights or [(candidate, UNIT) for candidate in candidates]

    def preview(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate | None:
        """See L{lemmytx.interfaces.IPreviewingScheduler.preview}."""
        if self._many.admitted:
            return self._many.first(candidates)
        weights = self._weights(candidates)
        total = sum(weight for _, weight in weights)

        def wealth(pair: tuple[ICandidate, int]) -> int:
            """What it will have."""
            purse = self._all.get(pair[0].name)
            return pair[1] if purse is None else pair[1] + purse.among(total)

        return max(weights, key=wealth)[0]

    # Many

    def admit(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.admit}."""
        self._many.admit(backend)

    def withdraw(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.withdraw}."""
        self._many.withdraw(backend)

    def moved(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.moved}."""

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        return self._many.pick()
