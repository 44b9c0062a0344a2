"""
What a request costs on a backend: what C{response_time} and C{reported_load} have in common.

The score is cost x (active + 1) / weight; the least is picked, ties go in turn. A cost is what was last learnt, and it
fades: after C{decay} seconds without news it counts for 1/e of what it was (0.37), so that a backend that was bad once
is asked again some day.

That everything fades at each moment would mean to compute everything anew for each request. But all costs fade alike,
so which one is the least does not change by it. What is kept is therefore what a cost would have been at one common
moment, the beginning of C{_time}: cost x e^(when it was learnt / decay). News are written in that money, and now and
then, before the numbers get too large for a float, the time begins anew.

That time goes by as news come. While there are none it all but stands still: after a night without requests what is
known is old, but no less true of one backend than of another, and the first answer must not make all others look free.
"""

from __future__ import annotations

from math import exp, inf

from lemmytx.balance.least import Least
from lemmytx.interfaces import ICandidate

#: When the time begins anew, in multiples of C{decay}. e^300 is far from the largest float, 1.8e308.
_ANEW = 300.0

#: How much goes by from one answer to the next at the most, likewise.
_STEP = 0.1

#: What has faded to this is forgotten when the time begins anew.
_NOTHING = 1e-12


class Cost:
    """
    What is known of one backend.

    @ivar cost: as it was learnt, in whatever unit.
    @ivar at: when that was, in seconds on the clock of the answers.
    @ivar value: the cost at the common moment.
    """

    __slots__ = ("at", "cost", "value")

    def __init__(self, cost: float, at: float, value: float) -> None:
        self.cost = cost
        self.at = at
        self.value = value

    def __repr__(self) -> str:
        return f"<Cost {self.cost:.6g} at={self.at:.3f}>"


class Costs(Least):
    """
    The least cost. A subclass learns it from answers.
    """

    __slots__ = ("_decay", "_last", "_time", "_unknown", "known")

    def __init__(self, decay: float = 10.0) -> None:
        """
        @param decay: seconds after which what was learnt counts for a third.
        @raise ValueError: when it is not above 0.
        """
        super().__init__()
        if not 0 < decay < inf:
            raise ValueError(f"decay: found {decay!r}; write a number of seconds above 0")
        self._decay = decay
        #: When the last answer was, and how much of the time above has gone by until then.
        self._last = inf
        self._time = 0.0
        #: By name: what is known; nothing of those that have not answered yet.
        self.known: dict[str, Cost] = {}
        #: The value of those. When nobody is known everyone costs the same, which is least connections.
        self._unknown = 1.0

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        names = {backend.name for backend in backends}
        self.known = {name: cost for name, cost in self.known.items() if name in names}

    def score(self, backend: ICandidate, weight: float) -> float:
        """See L{Least.score}."""
        cost = self.known.get(backend.name)
        value = self._unknown if cost is None else cost.value
        score: float = value * (backend.active + 1) / weight
        return score

    def find(self) -> int:
        """See L{Least.find}."""
        found = at = 0
        least = inf
        known, unknown = self.known, self._unknown
        for backend, weight in self.order:
            cost = known.get(backend.name)
            score = (unknown if cost is None else cost.value) * (backend.active + 1) / weight
            if score < least:
                least = score
                found = at
            at += 1  # noqa: SIM113 - enumerate would cost a tuple per candidate
        return found

    def learn(self, backend: ICandidate, cost: float, now: float) -> None:
        """
        That is what a request costs there from now on.

        @param cost: above 0.
        @param now: on the clock of the answers. Should that go back, nothing fades meanwhile.
        """
        self._time += min(max(now - self._last, 0.0), _STEP * self._decay)
        self._last = now
        past = self._time / self._decay
        if past > _ANEW:
            self._begin_anew(exp(-past))
            past = 0.0
        self.known[backend.name] = Cost(cost, now, cost * exp(past))
        if backend in self._entries:
            self.moved(backend)

    def forget(self, backend: ICandidate) -> None:
        """Nothing is known of it any more."""
        if self.known.pop(backend.name, None) is not None and backend in self._entries:
            self.moved(backend)

    def typical(self, value: float) -> None:
        """The unknown ones count as if they had this C{value} from now on."""
        self._unknown = value
        known = self.known
        self._moved.update(backend for backend in self._entries if backend.name not in known)

    def middle(self) -> Cost | None:
        """The median of what is known; L{None} when nothing is."""
        costs = sorted(self.known.values(), key=lambda cost: cost.value)
        return costs[(len(costs) - 1) // 2] if costs else None

    def _begin_anew(self, factor: float) -> None:
        """
        The common moment is now.

        @param factor: how much everything has faded since it was before.
        """
        self._time = 0.0
        self._unknown *= factor
        for name, cost in list(self.known.items()):
            cost.value *= factor
            if cost.value < cost.cost * _NOTHING:
                del self.known[name]
        self._moved.update(self._entries)
