"""
The capacities of a cluster's backends, divided among processes that each count only their own requests. Pure.

Each process may have so many requests in flight on a backend, its I{room}, and all rooms together are never more than
the capacity, so a backend never gets more than it takes.

B{Nobody waits.} What a process has in flight stays its own; what is free goes to all alike, and what does not divide,
to those who are busiest (L{divide}).

B{Somebody waits.} Then the whole cluster is divided by demand (L{parts}): by what each has in flight and in line. Half
of an even part is everybody's who has a use for it, however long the lines of others are: a process with a short line
may have the better requests in it. The other half goes by the length of the lines, so that waiting takes as long
everywhere. A process without a line keeps one place more than it uses, where that is next to nothing, for the next
request that comes there. What a process gets of one backend is as much as of the others, rounded so that it comes out
even over the backends and over time: where there are more processes than places, they take turns.

A share may be below what a process has in flight: it gets nothing new then until enough has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import NamedTuple

#: A process that has no line keeps a place free where a cluster has so many times more of them than there are
#: processes: beyond that it is less than a sixteenth of the whole, all processes together.
PLENTY = 16


class Room(NamedTuple):
    """
    A backend in one process.

    @ivar active: how many requests are in flight.
    @ivar room: how many may be.
    @ivar capacity: how many it takes from all processes, as this one knows it.
    @ivar usable: whether requests go to it there, were it not for its capacity.
    """

    active: int
    room: int
    capacity: int
    usable: bool

    @property
    def held(self) -> int:
        """How many may be in flight from this process, now or by and by."""
        return max(self.active, self.room)


class Load(NamedTuple):
    """
    A cluster in one process.

    @ivar waiting: how many requests are in its queue.
    @ivar rooms: by the names of the backends that have a capacity.
    """

    waiting: int
    rooms: Mapping[str, Room]

    @property
    def waits(self) -> int:
        """How many wait for room; where no backend is usable it is not room that they wait for."""
        return self.waiting if any(room.usable for room in self.rooms.values()) else 0

    @property
    def demand(self) -> int:
        """How many it has in flight or in line."""
        return self.waits + sum(room.active for room in self.rooms.values() if room.usable)


def portion(capacity: int, number: int, count: int) -> int:
    """
    @param number: which process, from 0.
    @param count: how many there are; who is beyond that has none.
    @return: its share while nobody knows who is busy.
    """
    return capacity // count + (number < capacity % count) if number < count else 0


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


def parts(whole: int, loads: Sequence[Load]) -> list[float]:
    """
    @param whole: what all usable backends take.
    @param loads: of each process; somebody waits.
    @return: the part of the whole that each should have; none is negative, and together they are the whole.
    """
    count = len(loads)
    spare = 1 if whole >= PLENTY * count else 0
    mine = [min(load.demand + (0 if load.waits else spare), whole / (2 * count)) for load in loads]
    more = [max(0.0, load.demand - own) for load, own in zip(loads, mine, strict=True)]
    left, wanted = whole - sum(mine), sum(more)
    if not wanted:
        return [own + left / count for own in mine]
    return [own + left * each / wanted for own, each in zip(mine, more, strict=True)]


def shares(capacities: Mapping[str, int], loads: Sequence[Load], owed: list[float]) -> dict[str, list[int]]:
    """
    Divide a cluster.

    @param capacities: by backend, of those that all know: what there is to be divided.
    @param loads: of each process.
    @param owed: what each had too little the last time, negative: too much; it is changed to what it is now. To begin
        with: zeros.
    @return: by backend, what each process may have. They add up to the capacity, or are what is in flight (L{divide}).
    """
    if not any(load.waits for load in loads):
        owed[:] = [0.0] * len(loads)
        return {name: divide(capacity, _active(name, loads)) for name, capacity in capacities.items()}
    usable = {name: [load.rooms[name].usable for load in loads] for name in capacities}
    whole = sum(capacity for name, capacity in capacities.items() if any(usable[name]))
    wanted = parts(whole, loads)
    found = {}
    for name, capacity in capacities.items():
        able = [part if can else 0.0 for part, can in zip(wanted, usable[name], strict=True)]
        if sum(able) > 0:
            found[name] = _rounded(capacity, able, [load.rooms[name].room for load in loads], owed)
        else:
            found[name] = divide(capacity, _active(name, loads))
    return found


def _active(backend: str, loads: Sequence[Load]) -> list[int]:
    return [load.rooms[backend].active for load in loads]


def _rounded(capacity: int, weights: Sequence[float], present: Sequence[int], owed: list[float]) -> list[int]:
    """
    Whole shares by weight. Those who have one more than what is certainly theirs keep it rather than others get it,
    until that is too much in C{owed}.
    """
    total = sum(weights)
    able = [number for number, weight in enumerate(weights) if weight > 0]
    exact = [capacity * weight / total for weight in weights]
    due = [quota + debt for quota, debt in zip(exact, owed, strict=True)]
    given = [max(0, floor(quota + 1e-9)) if number in able else 0 for number, quota in enumerate(due)]
    # Half a place in favour of who has it already: that is owed to the others afterwards.
    able.sort(
        key=lambda number: given[number] - due[number] - (0.5 if present[number] > given[number] else 0.0),
    )
    each, rest = divmod(max(0, capacity - sum(given)), len(able))
    for place, number in enumerate(able):
        given[number] += each + (place < rest)
    over = sum(given) - capacity
    for number in reversed(able):
        # Others are owed what some have had too much of, and together that is more than there is.
        less = min(over, given[number])
        given[number] -= less
        over -= less
    for number in able:
        owed[number] += exact[number] - given[number]
    return given
