"""
A backend's capacity, divided among processes that each count only their own requests.

Each may have so many in flight, and all shares together are never more than the capacity, so a backend never gets more
than it takes. What a process has in flight stays its own; what is free goes to all alike, and what does not divide, to
those who are busiest. Where the capacity is below the number of processes some have no share for a while: their
requests find the backend full although it may have room for another process's.
"""

from __future__ import annotations

from collections.abc import Sequence


def portion(capacity: int, number: int, count: int) -> int:
    """
    @param number: which process, from 0.
    @param count: how many there are.
    @return: its share while nobody knows who is busy.
    """
    return capacity // count + (number < capacity % count)


def divide(capacity: int, active: Sequence[int]) -> list[int]:
    """
    @param active: how many requests each process has in flight.
    @return: how many each may have, in the same order. The sum is the capacity, unless more are in flight already
        (because it was lowered): then each has what it has, and gets less as those end.
    """
    shares = list(active)
    free = capacity - sum(active)
    if free <= 0:
        return shares
    each, rest = divmod(free, len(shares))
    busiest = sorted(range(len(shares)), key=lambda number: -active[number])[:rest]
    return [share + each + (number in busiest) for number, share in enumerate(shares)]
