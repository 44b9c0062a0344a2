"""
How late the event loop is: once a second something is to be called, and how much later that happens is counted.

It is a histogram that only grows, so any number of scrapers can read it and none takes the peaks from the others. It is
measured while somebody wants it: from the first time that it is asked for until L{ENOUGH} seconds after the last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from twisted.internet.interfaces import IReactorTime

#: Seconds between two measurements.
BEAT = 1.0

#: Seconds after which nobody seems to want it any more.
ENOUGH = 600.0

#: Upper bounds, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Lag:
    """
    The measurements of one process.

    @ivar total: all of them added up, in seconds.
    """

    __slots__ = ("_asked", "_clock", "_counts", "_running", "_seconds", "_wanted", "total")

    def __init__(self, clock: IReactorTime, seconds: Callable[[], float]) -> None:
        """
        @param clock: the event loop.
        @param seconds: what measures it; does not go back.
        """
        self.total = 0.0
        self._clock = clock
        self._seconds = seconds
        self._counts = [0] * (len(BOUNDS) + 1)
        self._running = False
        self._asked = self._wanted = 0.0

    def want(self) -> None:
        """Somebody asks: go on measuring."""
        self._asked = self._seconds()
        if not self._running:
            self._running = True
            self._again()

    def _again(self) -> None:
        self._wanted = self._seconds() + BEAT
        self._clock.callLater(BEAT, self._measured)

    def _measured(self) -> None:
        now = self._seconds()
        # A clock of the loop that is a little faster than ours has it called too early.
        late = max(0.0, now - self._wanted)
        self._counts[bisect_left(BOUNDS, late)] += 1
        self.total += late
        if now - self._asked < ENOUGH:
            self._again()
        else:
            self._running = False

    def reached(self) -> Iterator[tuple[str, int]]:
        """For each bound, and for infinity, how many were no later."""
        return zip((*map(str, BOUNDS), "+Inf"), accumulate(self._counts), strict=True)
