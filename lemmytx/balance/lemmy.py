"""
Least connections with a brake on floods.

A backend that has just come back has no connections, so least connections alone would send it everything until it is
level with the others, and nobody wants to be greeted by that. So: after C{round_robin_after} picks in a row of one
backend, the next C{round_robin_for} requests go round robin over the I{other} candidates, and then the rule starts
again. With A and B at 500 active each, a new C at 0 and C{round_robin_after} 100: 100 to C, 100 shared by A and B, 100
to C, and so on until the scores are level and no run of 100 occurs any more.

The score is active / weight, the lowest wins, ties go in turn (L{lemmytx.balance.turns}). Active are the requests of
all processes that share the table, so that two of them do not both flood C: what one has sent there counts for the
other as soon as it has heard of it. Where only one candidate may be picked there is nothing to skip to, and such a
choice neither counts as part of a run nor ends one.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from zope.interface import implementer

from lemmytx.balance.least import Least
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IPreviewingScheduler, IRequest


@implementer(IFollowingScheduler, IPreviewingScheduler)
class Lemmy(Least):
    """
    The scheduler of the proxy that this one is named after.
    """

    __slots__ = ("_after", "_for", "_last", "_left", "_round", "_run")

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
        #: Out of many: those that are admitted and have a weight, who was picked longest ago first.
        self._round: OrderedDict[ICandidate, None] = OrderedDict()

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        if self._last is not None and all(backend.name != self._last for backend in backends):
            self._last = None
            self._run = self._left = 0
        self._round = OrderedDict()

    def score(self, backend: ICandidate, weight: float) -> float:
        """See L{Least.score}."""
        score: float = (backend.active + backend.elsewhere) / weight
        return score

    def find(self) -> int:
        """See L{Least.find}."""
        found = at = 0
        least = inf
        for backend, weight in self.order:
            score = (backend.active + backend.elsewhere) / weight
            if score < least:
                least = score
                found = at
            at += 1  # noqa: SIM113 - enumerate would cost a tuple per candidate
        return found

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IScheduler.choose}."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates is not self.seen:
            self.offer(candidates)
        order = self.order
        if len(order) == 1:
            return order[0][0]
        if self._left:
            self._left -= 1
            return self.take(1 if order[0][0].name == self._last else 0)
        return self._by_score(self.take(self.find()))

    def _by_score(self, chosen: ICandidate) -> ICandidate:
        """Count the runs."""
        if chosen.name != self._last:
            self._last = chosen.name
            self._run = 0
        self._run += 1
        if self._run == self._after:
            self._run = 0
            self._left = self._for
        return chosen

    def preview(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate | None:
        """See L{lemmytx.interfaces.IPreviewingScheduler.preview}."""
        weighty = [backend for backend in candidates if backend.weight > 0] or list(candidates)
        if not self._left or len(weighty) == 1:
            return self.least(weighty)
        others = [backend for backend in weighty if backend.name != self._last]
        if self._round:
            return next((backend for backend in self._round if backend in others), None)
        return min(others, key=lambda backend: self.turn(backend.name))

    # Many

    def admit(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.admit}."""
        super().admit(backend)
        if backend.weight > 0:
            self._round[backend] = None

    def withdraw(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.withdraw}."""
        super().withdraw(backend)
        self._round.pop(backend, None)

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        if len(self._round) < 2:
            return super().pick(request)
        if not self._left:
            return self._by_score(super().pick(request))
        self._left -= 1
        turns = iter(self._round)
        chosen = next(turns)
        if chosen.name == self._last:
            chosen = next(turns)
        return self.end_turn(chosen)

    def end_turn(self, backend: ICandidate) -> ICandidate:
        """See L{Least.end_turn}."""
        if backend in self._round:
            self._round.move_to_end(backend)
        return super().end_turn(backend)
