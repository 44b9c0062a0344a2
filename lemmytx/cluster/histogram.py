"""
How long things took of late: a histogram over the last five minutes that slides in steps of ten seconds.

B{Buckets.} The bounds are a geometric series, so a bucket is as wide as its place asks for: each time is known to
L{ERROR} of itself, whether it is a millisecond or a minute (that is DDSketch's rule: Masson, Rim, Lee, VLDB 2019). From
L{LOWEST} to L{HIGHEST} that takes some four hundred buckets, of which one backend uses a few dozen; so counts are
kept by bucket in a dictionary, with those alone that have any. Such dictionaries add up: over slots, over the backends
of a cluster, and over the processes of an instance.

B{Time.} Counts go into the slot of now. A slot that is full is packed into an array, and looked at again only when it
is L{SLOTS} slots old, to be taken away from the whole. So a quantile reads one dictionary, however many slots there
are. Time is what the caller says, on a clock that does not go back; should it, the counts go into the newest slot.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import takewhile
from math import ceil

#: How far a quantile is from a time that was really measured, as a part of it.
ERROR = 0.025

#: Seconds. Shorter times count as this one.
LOWEST = 0.00001

#: Seconds. Longer times count as this one, or a little more.
HIGHEST = 3600.0

#: Seconds that a slot takes.
SLOT = 10

#: How many slots there are: five minutes.
SLOTS = 30

#: What a bucket's upper bound is to its lower one.
_RATIO = (1 + ERROR) / (1 - ERROR)

#: The upper bound of each bucket but the last, which has none; a bound belongs to its bucket.
BOUNDS = tuple(takewhile(lambda bound: bound < HIGHEST * _RATIO, (LOWEST * _RATIO**number for number in range(1000))))

#: What stands for the times in each bucket: for a bucket from a to b that is 2ab / (a + b), from which a and b are
#: equally far, each in parts of itself.
VALUES = (LOWEST, *(bound * 2 / (1 + _RATIO) for bound in BOUNDS[1:]), BOUNDS[-1])

#: From so many times on, sorting them is quicker than to look for the bucket of each.
_MANY = 128


def tally(times: list[float]) -> dict[int, int]:
    """
    @param times: in seconds; perhaps in another order when this is over.
    @return: how many there are, by bucket.
    """
    counts: dict[int, int] = {}
    if len(times) < _MANY:
        for time in times:
            bucket = bisect_left(BOUNDS, time)
            counts[bucket] = counts.get(bucket, 0) + 1
        return counts
    # 60 to 90 ns per time in place of 165: the C of sort(), and two searches per bucket.
    times.sort()
    position, end, last = 0, len(times), len(BOUNDS)
    while position < end:
        bucket = bisect_left(BOUNDS, times[position])
        following = end if bucket == last else bisect_right(times, BOUNDS[bucket], position)
        counts[bucket] = following - position
        position = following
    return counts


def add_counts(counts: dict[int, int], others: Mapping[int, int]) -> None:
    """Add the others to these, bucket by bucket."""
    for bucket, count in others.items():
        counts[bucket] = counts.get(bucket, 0) + count


def quantiles(counts: Mapping[int, int], wanted: Iterable[float]) -> list[float | None]:
    """
    @param wanted: parts from 0 to 1, in ascending order.
    @return: for each the shortest time, in seconds, that at least so many did not exceed; to L{ERROR}. L{None} where
        nothing was counted.
    """
    total = sum(counts.values())
    found: list[float | None] = []
    buckets = iter(sorted(counts.items()))
    bucket = passed = 0
    for part in wanted:
        if not total:
            found.append(None)
            continue
        # 0.95 × 100 may be 95.00000000000001, and nobody means the 96th.
        rank = min(max(1, ceil(part * total - 1e-9)), total)
        while passed < rank:
            bucket, count = next(buckets)
            passed += count
        found.append(VALUES[bucket])
    return found


class Histogram:
    """
    The one that slides. See the module.

    @ivar counts: of the last five minutes, by bucket; after L{advance}. Not to be changed by others.
    """

    __slots__ = ("_current", "_full", "_slot", "counts")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self._slot = 0
        self._current: dict[int, int] = {}
        #: Slots that are full, oldest first: the number, buckets, and as many counts.
        self._full: deque[array[int]] = deque()

    def add(self, counts: Mapping[int, int], now: float) -> None:
        """
        @param counts: what L{tally} made.
        @param now: seconds.
        """
        self.advance(now)
        add_counts(self._current, counts)
        add_counts(self.counts, counts)

    def advance(self, now: float) -> None:
        """Forget what is too old."""
        slot = int(now // SLOT)
        if slot <= self._slot:
            return
        current, full = self._current, self._full
        if current:
            full.append(array("I", (self._slot, *current, *current.values())))
            self._current = {}
        self._slot = slot
        while full and full[0][0] <= slot - SLOTS:
            self._forget(full.popleft())

    def _forget(self, packed: array[int]) -> None:
        counts, half = self.counts, len(packed) // 2 + 1
        for bucket, count in zip(packed[1:half], packed[half:], strict=True):
            left = counts[bucket] - count
            if left:
                counts[bucket] = left
            else:
                del counts[bucket]

    def __repr__(self) -> str:
        return f"<Histogram count={sum(self.counts.values())} slots={len(self._full) + bool(self._current)}>"
