"""Turns for others, in the middle of something long: by the time that it has taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

#: Seconds that one turn takes, at the most but for the step in which they are over.
TURN = 0.002


class Slices:
    """
    Asked after each step, which should take no more than some tenths of a millisecond.
    """

    __slots__ = ("_clock", "_end", "_seconds")

    def __init__(self, clock: Any, seconds: Callable[[], float] = time.perf_counter) -> None:
        """
        @param clock: what lets others work.
        @param seconds: the clock by which a turn is measured.
        """
        self._clock = clock
        self._seconds = seconds
        self._end = seconds() + TURN

    def full(self) -> bool:
        """Whether it is time for L{turn}."""
        return self._seconds() >= self._end

    async def turn(self) -> None:
        """Let the reactor do what else there is."""
        await deferLater(self._clock, 0)
        self._end = self._seconds() + TURN

    async def rest(self) -> None:
        """After a step: others have their turn, if it is time for that."""
        if self.full():
            await self.turn()
