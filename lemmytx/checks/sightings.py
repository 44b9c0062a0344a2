"""
What the checks of one process see, for the others: a hint to look at once instead of at the next interval.

It is no more than that. Each process goes by its own checks, since only those say whether I{it} can reach a backend. So
nothing is lost when hints are, and there are bounds: L{AT_ONCE} backends in L{PAUSE} seconds are told, and no more than
L{MOST} are kept for later.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Cluster and backend, and whether it looks better than before.
Sighting = tuple[str, str, bool]

#: How many are told at a time, and how many seconds are between two times: 200 checks a second for each other process.
AT_ONCE = 20
PAUSE = 0.1

#: How many are kept. The others would come so late that they are found without.
MOST = 500


class Sightings:
    """
    @ivar tell: takes some of them; L{None}: nobody wants to know.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], bool] = {}
        self._call: IDelayedCall | None = None
        self.tell: Callable[[list[Sighting]], None] | None = None

    def saw(self, cluster: str, backend: str, better: bool) -> None:
        """A check has changed what is known of a backend. Of one it is the last that counts."""
        key = cluster, backend
        if self.tell is None or (len(self._kept) >= MOST and key not in self._kept):
            return
        self._kept[key] = better
        if self._call is None:
            # In another turn: those that change together are told together.
            self._call = self._clock.callLater(0, self._say)

    def _say(self) -> None:
        self._call = None
        told = list(self._kept)[:AT_ONCE]
        changes = [(*key, self._kept.pop(key)) for key in told]
        if changes and self.tell is not None:
            self._call = self._clock.callLater(PAUSE, self._say)
            self.tell(changes)

    def stop(self) -> None:
        """The end."""
        self._kept.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None
