"""
When a second request is sent beside one that takes long ("The Tail at Scale", Dean and Barroso, CACM 2013): after a
time that most of the cluster's requests do not need, so that few are sent twice.

That time follows what the cluster does: a quantile of the times until a response's head, over the last minutes. It is
worked out once a second at the most. What a request would have taken for which another one was quicker nobody knows; it
counts with the time that it had waited by then.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from lemmytx.cluster.histogram import Histogram, quantiles, tally

#: From so many times on the quantile means something.
ENOUGH = 20

#: Seconds for which a quantile is good.
GOOD_FOR = 1.0

#: So many times are kept before they are counted, at the most.
MOST = 4096


class HedgeRules(NamedTuple):
    """
    How requests are hedged.

    @ivar quantile: the one of the cluster's times after which a second request is sent, 0 to 1; L{None}: no matter.
    @ivar at_least: seconds that are waited at the least.
    @ivar most: how many more requests are sent for one.
    """

    quantile: float | None = 0.95
    at_least: float = 0.05
    most: int = 1


class Delay:
    """How long a request is waited for before another one is sent beside it."""

    __slots__ = ("_histogram", "_new", "_seconds", "_until", "rules")

    def __init__(self, rules: HedgeRules) -> None:
        self.rules = rules
        self._histogram = Histogram()
        self._new: list[float] = []
        self._seconds = inf if rules.quantile is not None else rules.at_least
        self._until = -inf

    def configure(self, rules: HedgeRules) -> None:
        """Other rules from now on; what is known of the cluster's times stays."""
        self.rules = rules
        self._until = -inf

    def note(self, seconds: float, now: float) -> None:
        """A response's head took so long."""
        self._new.append(seconds)
        if len(self._new) >= MOST:
            self._count(now)

    def seconds(self, now: float) -> float:
        """How long to wait; L{inf}: too little is known yet."""
        if now >= self._until:
            self._until = now + GOOD_FOR
            self._count(now)
            rules = self.rules
            self._seconds = rules.at_least
            if rules.quantile is not None:
                counts = self._histogram.counts
                found = quantiles(counts, [rules.quantile])[0] if sum(counts.values()) >= ENOUGH else None
                self._seconds = inf if found is None else max(found, rules.at_least)
        return self._seconds

    def _count(self, now: float) -> None:
        self._histogram.advance(now)
        if self._new:
            new, self._new = self._new, []
            self._histogram.add(tally(new), now)

    def __repr__(self) -> str:
        return f"<Delay {self._seconds:g} s>"
