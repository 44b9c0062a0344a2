"""When requests are due, and what is read out of the times that they took. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Phase:
    """
    Some time with one rate.

    @ivar seconds: how long.
    @ivar rate: requests per second on average.
    """

    seconds: float
    rate: float


def length(phases: Iterable[Phase]) -> float:
    """Seconds in all."""
    return sum(phase.seconds for phase in phases)


def arrivals(phases: Iterable[Phase], seed: int) -> Iterator[float]:
    """
    When each request is due, in seconds from the beginning: as those of many clients who know nothing of each other
    (Poisson), and the same ones each time.
    """
    chance = random.Random(seed)
    begin = 0.0
    for phase in phases:
        end = begin + phase.seconds
        at = begin + chance.expovariate(phase.rate)
        while at < end:
            yield at
            at += chance.expovariate(phase.rate)
        begin = end


def percentile(ordered: Sequence[float], share: float) -> float:
    """
    The smallest of the values that at least this share of them does not exceed (nearest rank); 0 when there are none.

    @param ordered: in ascending order.
    @param share: 0 to 1.
    """
    if not ordered:
        return 0.0
    return ordered[max(0, ceil(share * len(ordered) - 1e-9) - 1)]


@dataclass(frozen=True)
class Answer:
    """
    What became of one request.

    @ivar due: when it should have been sent, in seconds from the beginning.
    @ivar seconds: from then until its answer was there, or it was given up.
    @ivar outcome: the status, or C{refused}, C{reset}, C{cut}, C{timeout}.
    @ivar backend: which one answered; empty: none.
    """

    due: float
    seconds: float
    outcome: str
    backend: str

    @property
    def good(self) -> bool:
        """Whether it is what the client wanted."""
        return self.outcome == "200"

    @property
    def waited(self) -> bool:
        """Whether its time counts: that of a failure that comes at once would make a proxy look fast."""
        return self.good or self.outcome == "timeout"
