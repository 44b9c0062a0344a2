"""
Schedulers that pick the candidate with the least of something; ties go in turn.

With a handful of candidates the quickest way is to look at each of them (C{find}, which every such scheduler writes
out, because a call per candidate would cost as much as all the rest). With hundreds it is a heap: what was computed for
a backend stands until C{active} of that backend changes, so between two picks one or two entries are made anew.

An entry of the heap is valid as long as it is the very one in C{_entries}. Others are what has been; they are dropped
when they come to the top, and all together when they are too many.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from lemmytx.balance.turns import Turns
from lemmytx.interfaces import ICandidate, IRequest

#: How many changes may wait until they are seen to, so that no choice pays for all that ended since the one before.
_MANY = 8

#: What is known of one backend: its score, when it was picked last, and itself.
_Entry = tuple[float, int, ICandidate]


class Least(Turns):
    """
    What they share. A subclass says what is to be little: in L{score} for one candidate, in L{find} for all of them.
    """

    __slots__ = ("_entries", "_heap", "_moved", "_spare")

    #: See L{lemmytx.interfaces.IFollowingScheduler}.
    counts = True

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[_Entry] = []
        #: The valid entry of each that is admitted and has a weight; L{None} while it is to be made.
        self._entries: dict[ICandidate, _Entry | None] = {}
        #: Those that are admitted and weigh nothing.
        self._spare: dict[ICandidate, None] = {}
        #: Those whose entry may be wrong.
        self._moved: set[ICandidate] = set()

    def score(self, backend: ICandidate, weight: float) -> float:
        """
        @param weight: above 0.
        @return: what the least of is wanted.
        """
        raise NotImplementedError

    def find(self) -> int:
        """
        @return: the index in C{order} of the first that has the least score.
        """
        raise NotImplementedError

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        self._heap = []
        self._entries = {}
        self._spare = {}
        self._moved = set()

    # A few candidates

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IScheduler.choose}."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates is not self.seen:
            self.offer(candidates)
        return self.take(self.find())

    def preview(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate | None:
        """See L{lemmytx.interfaces.IPreviewingScheduler.preview}."""
        return self.least(candidates)

    def least(self, candidates: Iterable[ICandidate]) -> ICandidate:
        """The one that has the least score and whose turn it is, without ending that turn. A look at each."""
        weights = [(backend, backend.weight) for backend in candidates if backend.weight > 0]
        if not weights:
            weights = [(backend, 1) for backend in candidates]
        return min(weights, key=lambda pair: (self.score(*pair), self.turn(pair[0].name)))[0]

    # Many

    def admit(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.admit}."""
        if backend.weight > 0:
            self._entries[backend] = None
            self.moved(backend)
        else:
            self._spare[backend] = None

    def withdraw(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.withdraw}."""
        if self._entries.pop(backend, self) is self:
            del self._spare[backend]

    def moved(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.moved}."""
        self._moved.add(backend)
        if len(self._moved) > _MANY:
            self._settle()

    def _settle(self) -> None:
        """Make the entries anew that may be wrong."""
        entries, heap, picked = self._entries, self._heap, self._picked
        for backend in self._moved:
            if backend in entries:
                name = backend.name
                tick = picked.get(name) or self._rank[name]
                entries[backend] = entry = (self.score(backend, backend.weight), tick, backend)
                heappush(heap, entry)
        self._moved.clear()
        if len(heap) > 4 * len(entries) + 64:
            heap[:] = filter(None, entries.values())
            heapify(heap)

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        entries = self._entries
        if not entries:
            return self.end_turn(self.least(self._spare))
        if self._moved:
            self._settle()
        heap = self._heap
        while True:
            entry = heap[0]
            backend = entry[2]
            if entries.get(backend) is entry:
                return self.end_turn(backend)
            heappop(heap)

    def end_turn(self, backend: ICandidate) -> ICandidate:
        """It was picked, out of many."""
        self._tick += 1
        self._picked[backend.name] = self._tick
        # It will have one request more as well, so its entry waits until that is known too.
        self._moved.add(backend)
        return backend
