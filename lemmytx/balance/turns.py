"""
Whose turn it is: candidates in the order in which they were picked last, the longest ago first.

Schedulers that look for the least of something take the first of equal ones in this order, so ties go round and never
always to the first backend of the configuration. The order is remembered per backend, by name, and so outlives that a
subset is offered (a retry, a backend at capacity) and that members come and go.
"""

from __future__ import annotations

from operator import is_

from lemmytx.interfaces import ICandidate


def same(candidates: tuple[ICandidate, ...], seen: tuple[ICandidate, ...]) -> bool:
    """
    Whether two tuples have the same members in the same order. Where each request is offered a tuple of its own
    (capacities, a backend on trial) asking this is much cheaper than preparing for it anew.
    """
    return len(candidates) == len(seen) and all(map(is_, candidates, seen))


class Turns:
    """
    What the schedulers share that go by turns.

    @ivar order: candidates that may be picked with their weights, whose turn it is first. Those of weight 0 are not
        among them unless there is nothing else; then the weight is 1.
    @ivar seen: the tuple that C{order} was made for.
    """

    __slots__ = ("_picked", "_rank", "_tick", "order", "seen")

    def __init__(self) -> None:
        self.order: list[tuple[ICandidate, float]] = []
        self.seen: tuple[ICandidate, ...] = ()
        self._picked: dict[str, int] = {}
        #: Whose turn it is among those that were never picked: less than any tick, in the order of the configuration.
        self._rank: dict[str, int] = {}
        self._tick = 0

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        self.seen = ()
        names = {backend.name for backend in backends}
        self._picked = {name: tick for name, tick in self._picked.items() if name in names}
        self._rank = {backend.name: at - len(backends) for at, backend in enumerate(backends)}

    def turn(self, name: str) -> int:
        """When its turn is, compared to others."""
        return self._picked.get(name) or self._rank.get(name, 0)

    def offer(self, candidates: tuple[ICandidate, ...]) -> None:
        """Set C{order} for a tuple of candidates; called when it is not the one in C{seen}."""
        known = same(candidates, self.seen)
        self.seen = candidates
        if known:
            return
        order: list[tuple[ICandidate, float]] = [
            (candidate, candidate.weight) for candidate in candidates if candidate.weight > 0
        ]
        if not order:
            order = [(candidate, 1) for candidate in candidates]
        order.sort(key=lambda pair: self.turn(pair[0].name))
        self.order = order

    def take(self, at: int) -> ICandidate:
        """
        Pick one from C{order}: its turn is over.

        @param at: its index there.
        """
        order = self.order
        pair = order.pop(at)
        order.append(pair)
        self._tick += 1
        backend = pair[0]
        self._picked[backend.name] = self._tick
        return backend
