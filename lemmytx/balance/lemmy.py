"""
Least connections with a brake on floods.

A backend that has just come back has no connections, so least connections alone would send it everything until it is
level with the others, and nobody wants to be greeted by that. So: after C{round_robin_after} picks in a row of one
backend, the next C{round_robin_for} requests go round robin over the I{other} candidates, and then the rule starts
again. With A and B at 500 active each, a new C at 0 and C{round_robin_after} 100: 100 to C, 100 shared by A and B, 100
to C, and so on until the scores are level and no run of 100 occurs any more.

The score is active / weight, the lowest wins, ties go in turn (L{lemmytx.balance.turns}). Where only one candidate may
be picked there is nothing to skip to, and such a choice neither counts as part of a run nor ends one.
"""

from __future__ import annotations

from math import inf

from zope.interface import implementer

from lemmytx.balance.turns import Turns
from lemmytx.interfaces import ICandidate, IRequest, IScheduler


@implementer(IScheduler)
class Lemmy(Turns):
    """
    The scheduler of the proxy that this one is named after.
    """

    __slots__ = ("_after", "_for", "_last", "_left", "_run")

    def __init__(self, round_robin_after: int = 100, round_robin_for: int | None = None) -> None:
        """
        @param round_robin_after: picks in a row of one backend after which the others have their turn.
        @param round_robin_for: for how many requests they have it; L{None} = as many.
        @raise ValueError: when one of them is less than 1.
        """
        super().__init__()
        if round_robin_for is None:
            round_robin_for = round_robin_after
        for name, value in (("round_robin_after", round_robin_after), ("round_robin_for", round_robin_for)):
            if value < 1:
                raise ValueError(f"{name}: found {value!r}; write a whole number from 1 up")
        self._after = round_robin_after
        self._for = round_robin_for
        #: The backend that was picked last by score, and how often in a row; while C{_left} > 0 the one to skip.
        self._last: str | None = None
        self._run = 0
        #: How many requests still go round robin over the others.
        self._left = 0

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{IScheduler.update}."""
        super().update(backends)
        if self._last is not None and all(backend.name != self._last for backend in backends):
            self._last = None
            self._run = self._left = 0

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{IScheduler.choose}."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates is not self.seen:
            self.offer(candidates)
        order = self.order
        if len(order) == 1:
            return order[0][0]
        if self._left:
            return self._other()
        found = at = 0
        least = inf
        for backend, weight in order:
            score = backend.active / weight
            if score < least:
                least = score
                found = at
            at += 1  # noqa: SIM113 - enumerate would cost a tuple per candidate
        chosen = self.pick(found)
        if chosen.name != self._last:
            self._last = chosen.name
            self._run = 0
        self._run += 1
        if self._run == self._after:
            self._run = 0
            self._left = self._for
        return chosen

    def _other(self) -> ICandidate:
        """The one whose turn it is among those that are not to be skipped."""
        self._left -= 1
        return self.pick(1 if self.order[0][0].name == self._last else 0)
