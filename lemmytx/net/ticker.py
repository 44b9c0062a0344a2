"""
Timeouts for many objects on one clock.

A C{callLater} per request costs more than parsing its head. Here an object has an attribute, C{deadline}, that is
simply set; setting it is all that a request pays. A wheel of slots, one per tick, holds each object once, in the slot
where it is to be looked at next. When that tick comes and the deadline has moved on meanwhile, the object moves to
the slot of its new deadline; otherwise it has expired. Only a deadline I{earlier} than the object's slot needs a call,
L{Ticker.watch}.

A slot holds the deadlines of one tick's length and is looked at when that time is over. So a timeout comes at most two
ticks late and never early, a connection costs one entry however many requests it carries, and a tick costs what is due
in it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger(namespace="lemmytx.ticker")

#: Seconds between two ticks.
RESOLUTION = 0.25


class Timed(Protocol):
    """
    What has a deadline.

    @ivar deadline: when C{expired} is to be called, on the ticker's clock, in seconds; L{math.inf} for never.
    @ivar check_at: where the slot begins that it is in; L{math.inf} when it is in none. Starts as that, belongs to the
        ticker. A deadline not before it needs no C{watch}.
    """

    deadline: float
    check_at: float

    def expired(self) -> None:
        """The deadline has passed. Called once; the object may set a new deadline, and calls C{watch} if it does."""


class Ticker:
    """
    The wheel.

    @ivar seconds: the clock: a function without arguments; seconds from an arbitrary start that never go back.
    """

    __slots__ = ("_clock", "_loop", "_next", "_slots", "seconds")

    def __init__(self, clock: IReactorTime, seconds: Callable[[], float]) -> None:
        """
        @param clock: what calls us every L{RESOLUTION} seconds.
        @param seconds: C{time.monotonic}, or the clock's own in tests.
        """
        self._clock = clock
        self.seconds = seconds
        self._slots: dict[int, set[Timed]] = {}
        #: Slots below this number have been looked at.
        self._next = int(seconds() / RESOLUTION)
        self._loop: LoopingCall | None = None

    def start(self) -> None:
        """Begin to tick."""
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self._clock
        self._loop.start(RESOLUTION, now=False)

    def stop(self) -> None:
        """Tick no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._loop = None

    def soon(self, call: Callable[[], None]) -> None:
        """Call something in the next turn of the reactor: for work that is better not done in one go."""
        self._clock.callLater(0, call)

    def later(self, seconds: float, call: Callable[[], None]) -> IDelayedCall:
        """Call something once, and on time: for what is rare, and wanted more precisely than by the tick."""
        return self._clock.callLater(seconds, call)

    def watch(self, timed: Timed) -> None:
        """
        Make sure that the object is looked at no later than its deadline. Needed only when
        C{timed.deadline < timed.check_at}; harmless otherwise.
        """
        deadline = timed.deadline
        if deadline >= timed.check_at:
            return
        self.forget(timed)
        slot = max(int(deadline / RESOLUTION), self._next)
        timed.check_at = slot * RESOLUTION
        self._slots.setdefault(slot, set()).add(timed)

    def forget(self, timed: Timed) -> None:
        """The object is gone: drop the reference to it now, not when its slot comes."""
        if timed.check_at != inf:
            slot = self._slots.get(round(timed.check_at / RESOLUTION))
            if slot is not None:
                slot.discard(timed)
            timed.check_at = inf

    def tick(self) -> None:
        """Look at everything that is due."""
        now = self.seconds()
        current = int(now / RESOLUTION)
        # A process that was stopped for an hour has many empty slots behind it: take the ones that exist.
        due = sorted(slot for slot in self._slots if slot < current)
        self._next = current
        for slot in due:
            at = slot * RESOLUTION
            for timed in self._slots.pop(slot):
                if timed.check_at != at:
                    continue  # forgotten or moved by one that expired before it
                timed.check_at = inf
                if timed.deadline <= now:
                    try:
                        timed.expired()
                    except Exception:
                        # One of them fails; the others' timeouts go on.
                        log.failure("{timed!r} failed at its timeout", timed=timed)
                        broke_down = getattr(timed, "broke_down", None)
                        if broke_down is not None:
                            broke_down()
                elif timed.deadline != inf:
                    self.watch(timed)

    def __len__(self) -> int:
        """How many objects are on the wheel."""
        return sum(map(len, self._slots.values()))
