"""
Who is offered, for schedulers that keep a table of all members and only have to know who of them counts now.

In a cluster of a few backends that is worked out from the candidates of a choice, when they are others than the last
time; in one of many it is told one by one (L{lemmytx.interfaces.IFollowingScheduler}).
"""

from __future__ import annotations

from lemmytx.balance.turns import same
from lemmytx.interfaces import ICandidate, IRequest


class Offered:
    """
    What they share.

    @ivar members: all there are, in the order of the configuration.
    @ivar usable: those that may be picked: the admitted ones that have a weight, or, if there is none of these, the
        others. Its order means nothing, but is the same in every run.
    """

    __slots__ = ("_heavy", "_seen", "_spare", "members", "usable")

    #: See L{lemmytx.interfaces.IFollowingScheduler}.
    counts = False

    def __init__(self) -> None:
        self.members: tuple[ICandidate, ...] = ()
        self._heavy: dict[ICandidate, None] = {}
        self._spare: dict[ICandidate, None] = {}
        self.usable = self._spare
        self._seen: tuple[ICandidate, ...] = ()

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        self.members = backends
        self._heavy = {}
        self._spare = {}
        self.usable = self._spare
        self._seen = ()

    def admit(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.admit}."""
        if backend.weight > 0:
            self._heavy[backend] = None
            self.usable = self._heavy
        else:
            self._spare[backend] = None

    def withdraw(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.withdraw}."""
        if self._spare.pop(backend, self) is self:
            del self._heavy[backend]
            if not self._heavy:
                self.usable = self._spare

    def moved(self, backend: ICandidate) -> None:
        """See L{lemmytx.interfaces.IFollowingScheduler.moved}."""

    def pick(self, request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IFollowingScheduler.pick}."""
        raise NotImplementedError

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        """See L{lemmytx.interfaces.IScheduler.choose}."""
        if len(candidates) == 1:
            return candidates[0]
        if candidates is not self._seen:
            self._offer(candidates)
        return self.pick(request)

    def _offer(self, candidates: tuple[ICandidate, ...]) -> None:
        known = same(candidates, self._seen)
        self._seen = candidates
        if known:
            return
        before = {**self._heavy, **self._spare}
        for backend in candidates:
            if backend not in before:
                self.admit(backend)
            else:
                del before[backend]
        for backend in before:
            self.withdraw(backend)
