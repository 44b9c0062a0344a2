"""
Slow start: a backend that comes back, or is added while others serve, begins with a tenth of its weight and has all of
it after C{slow_start} seconds. Its caches are empty and its code is cold, and a scheduler would greet it with a flood.

It comes back when an operator makes it ready again, when checks find it up, or when a trial after an ejection has
succeeded. Whatever there is
when the process starts begins with its full weight: all of them are equally cold then, and nothing would be spared.

Weights grow in steps of 5 % of the whole, for all that are warming at the same moments. So a scheduler is told of new
weights eighteen times per slow start, however many backends warm up, and a choice pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from lemmytx.cluster.backend import Backend

#: How much of its weight a cold backend has, and by how much that grows in a step.
COLD = 0.1
STEP = 0.05


class Warming:
    """
    The backends of one cluster that are not warm yet.

    @ivar next: when weights are to be looked at again, in seconds; never, if nobody is warming.
    """

    __slots__ = ("_away", "_since", "next")

    def __init__(self) -> None:
        self.next = inf
        self._since: dict[Backend, float] = {}
        #: Those that have been seen out of service.
        self._away: set[Backend] = set()

    def added(self, backend: Backend) -> None:
        """A backend that was not there before came into a cluster that serves."""
        self._away.add(backend)

    def look(self, backends: Iterable[Backend], slow_start: float, now: float) -> bool:
        """
        Called when the state of a backend has changed, and at C{next}.

        @param backends: all members.
        @param slow_start: seconds; 0 = there is none.
        @param now: seconds.
        @return: whether weights are others now.
        """
        away = self._away
        begun = []
        for backend in backends:
            checked = backend.checked
            if backend.state != "ready" or backend.passive.ejected:
                away.add(backend)
            elif checked is not None and not checked.available:
                # One that waits for its first check has not been away, it has never been there.
                if "down" in checked.changes:
                    away.add(backend)
            elif backend in away:
                begun.append(backend)
        if not begun and now < self.next and slow_start:
            return False
        away.difference_update(begun)
        since = self._since
        if not slow_start:
            cold = list(since)
            since.clear()
            self.next = inf
            for backend in cold:
                backend.warm(1.0)
            return bool(cold)
        for backend in begun:
            since[backend] = now
        for backend, start in list(since.items()):
            # Three steps of 0.1 are not quite 0.3 to a float.
            steps = int((now - start) / slow_start * (1 - COLD) / STEP + 1e-6)
            warmth = COLD + STEP * steps
            if warmth > 1 - STEP / 2:
                warmth = 1.0
                del since[backend]
            backend.warm(warmth)
        self.next = now + slow_start * STEP / (1 - COLD) if since else inf
        return True

    def keep(self, backends: Iterable[Backend]) -> None:
        """These are the members now; others are forgotten."""
        members = set(backends)
        self._away &= members
        for backend in self._since.keys() - members:
            del self._since[backend]
