"""
The circuit breaker of a cluster: when too much of what is asked of it fails, or takes too long, it is left alone for a
while, and whoever asks gets an answer at once.

Passive ejection (L{lemmytx.cluster.passive}) looks at single backends and always leaves some of them in. This looks at
what the cluster as a whole does for its requests, after all retries::

    state      a request        its outcome                                      after `open_for` seconds
    closed     goes             counts for `window` seconds; beyond a limit:     -
                                open
    open       is turned away   (it began before)                                half open
    half open  the first        bad: open again; `half_open` good ones in a      -
               `half_open` go,  row: closed
               others do not

The limits, looked at as soon as `volume` requests were counted within the window: the share of errors, and of those
that took longer than C{above}. The quantile q of all times is above C{above} just when more than 1 - q of them are, so
nothing but two numbers has to be kept for it.

Pure: no clock, no I/O. Times are seconds on a clock that does not go back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil, inf
from typing import NamedTuple

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"

#: Into how many parts the window is divided; it slides by one of them at a time.
PARTS = 10


class BreakerRules(NamedTuple):
    """
    When a breaker opens, and what then.

    @ivar errors: the share of requests that may fail, from 0 to 1: with so many it opens; L{None}: any.
    @ivar slow: the share that may take longer than C{above}, C{above}: seconds; L{inf}: for ever.
    @ivar volume: how many requests there must be in the window.
    @ivar window: seconds.
    @ivar open_for: seconds.
    @ivar half_open: how many requests try whether it is over.
    @ivar reply: the status for those that are turned away.
    """

    errors: float | None = 0.5
    slow: float = 0.0
    above: float = inf
    volume: int = 20
    window: float = 10.0
    open_for: float = 5.0
    half_open: int = 3
    reply: int = 503


class _Part:
    """A part of the window."""

    __slots__ = ("count", "errors", "number", "slow")

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.errors = 0
        self.slow = 0


class Breaker:
    """
    See the module.

    @ivar state: C{closed}, C{open} or C{half_open}. It becomes half open when somebody asks.
    @ivar opened: how often it opened, since the start; from half open too.
    @ivar refused: how many requests it has turned away.
    @ivar until: when it is open: until when.
    """

    __slots__ = ("_going", "_good", "_parts", "_period", "_told", "opened", "refused", "rules", "state", "until")

    def __init__(self, rules: BreakerRules, told: Callable[[str, str, str], None]) -> None:
        """
        @param told: called at each change of the state with the one before, the new one, and why.
        """
        self.rules = rules
        self.state = CLOSED
        self.opened = 0
        self.refused = 0
        self.until = 0.0
        self._told = told
        self._period = 1  # another number after each change
        self._going = 0  # half open: trials under way
        self._good = 0  # half open: trials that went well
        self._parts: deque[_Part] = deque()

    def configure(self, rules: BreakerRules) -> None:
        """Other rules from now on. One that is open stays so for as long as it was to."""
        if rules.window != self.rules.window:
            self._parts.clear()
        self.rules = rules
        if self.state == HALF_OPEN and self._good >= rules.half_open:
            self._become(CLOSED, "requests are answered again")  # no other trial would come that could say so

    def enter(self, now: float) -> int:
        """
        A request wants to go.

        @return: a number if it may, for L{ended} or L{left}, one of which must follow; 0: it may not.
        """
        if self.state == CLOSED:
            return self._period
        if self.state == OPEN and now >= self.until:
            self._become(HALF_OPEN, "to see whether it is over")
        if self.state == OPEN or self._going + self._good >= self.rules.half_open:
            self.refused += 1
            return 0
        self._going += 1
        return self._period

    def lets_in(self, now: float) -> bool:
        """Whether L{enter} would let a request go. Nothing changes by it."""
        if self.state == CLOSED or (self.state == OPEN and now >= self.until):
            return True
        return self.state != OPEN and self._going + self._good < self.rules.half_open

    def ended(self, number: int, now: float, failed: bool, seconds: float) -> None:
        """
        A request has come to its end.

        @param number: what L{enter} gave it.
        @param seconds: how long its answer took.
        """
        if number != self._period:
            return  # it began before the last change
        rules = self.rules
        slow = seconds > rules.above
        if self.state == HALF_OPEN:
            self._going -= 1
            if failed or slow:
                self._open(now, "a request failed again" if failed else "a request took too long again")
                return
            self._good += 1
            if self._good >= rules.half_open:
                self._become(CLOSED, "requests are answered again")
            return
        parts = self._parts
        at = int(now / rules.window * PARTS)
        if not parts or parts[-1].number < at:
            while parts and parts[0].number <= at - PARTS:
                parts.popleft()
            parts.append(_Part(at))
        part = parts[-1]
        part.count += 1
        part.errors += failed
        part.slow += slow
        if failed or slow:
            self._look(now)

    def left(self, number: int) -> None:
        """A request went away, and nothing can be said about how the cluster would have done."""
        if number == self._period and self.state == HALF_OPEN:
            self._going -= 1

    def retry_after(self, now: float) -> int:
        """In how many whole seconds it makes sense to come again; at least 1."""
        return max(1, ceil(self.until - now))

    def _look(self, now: float) -> None:
        """Whether it is too much."""
        rules = self.rules
        count = sum(part.count for part in self._parts)
        if count < rules.volume:
            return
        errors = sum(part.errors for part in self._parts)
        slow = sum(part.slow for part in self._parts)
        # The tolerance: 0.07 × 100 is 7.000000000000001, and nobody means 8.
        if rules.errors is not None and errors >= rules.errors * count - 1e-9:
            self._open(now, f"{errors} of {count} requests failed")
        elif slow > rules.slow * count + 1e-9:
            self._open(now, f"{slow} of {count} requests took more than {rules.above:g} s")

    def _open(self, now: float, why: str) -> None:
        self.until = now + self.rules.open_for
        self.opened += 1
        self._become(OPEN, why)

    def _become(self, state: str, why: str) -> None:
        before, self.state = self.state, state
        self._period += 1
        self._going = self._good = 0
        self._parts.clear()
        self._told(before, state, why)

    def __repr__(self) -> str:
        return f"<Breaker {self.state} opened={self.opened} refused={self.refused}>"


class Pass(NamedTuple):
    """
    What an exchange got from a breaker that let it through.

    @ivar number: see L{Breaker.enter}.
    """

    breaker: Breaker
    number: int
