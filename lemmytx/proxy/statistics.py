"""
How much was served lately.

On the way of a request only totals are counted (L{lemmytx.cluster.traffic}). What came of late is found out beside it:
every L{STEP} seconds the totals of those vhosts that had traffic are written down, and the difference between now and
the oldest note is what came in the last minute, to L{STEP} seconds. Asking changes nothing, so any number of readers
can.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from lemmytx.cluster.traffic import Traffic

#: The name under which L{Recent} keeps what no vhost was for. No vhost can be called that.
UNROUTED = ""

#: Seconds between two notes.
STEP = 10

#: How many are kept: the oldest is between 50 and 60 seconds old.
KEPT = 6


class _Note:
    """The totals at one time, of one set of counters."""

    __slots__ = ("count", "statuses")

    def __init__(self, traffic: Traffic) -> None:
        self.count = traffic.count
        self.statuses = dict(traffic.statuses)


class Recent:
    """
    The requests of the last minute, for each of any number of named counters.

    Costs a comparison per counter and step; and a note, shared by all the steps in which nothing came. It belongs to
    whoever serves, who starts it and stops it.
    """

    __slots__ = ("_clock", "_counters", "_notes", "_since", "_timer")

    def __init__(self, counters: Callable[[], Iterable[tuple[str, Traffic]]], clock: IReactorTime) -> None:
        """
        @param counters: gives names and counters, which may be others from time to time.
        """
        self._counters = counters
        self._clock = clock
        self._since = clock.seconds()
        self._notes: deque[dict[str, _Note]] = deque(maxlen=KEPT)
        self._timer = LoopingCall(self.note)
        self._timer.clock = clock

    @property
    def uptime(self) -> float:
        """Seconds since it was made."""
        return self._clock.seconds() - self._since

    def start(self) -> None:
        """Begin to take notes."""
        self._timer.start(STEP)

    def stop(self) -> None:
        """Take no more notes."""
        if self._timer.running:
            self._timer.stop()

    def note(self) -> None:
        """Write down where the counters are."""
        last = self._notes[-1] if self._notes else {}
        notes = {}
        for name, traffic in self._counters():
            known = last.get(name)
            if known is not None and known.count == traffic.count:
                notes[name] = known
            elif traffic.count:
                notes[name] = _Note(traffic)
        self._notes.append(notes)

    def of(self, name: str, traffic: Traffic) -> tuple[int, dict[int, int]]:
        """
        @param traffic: the present counters of that name.
        @return: how many exchanges ended in the last minute, and how many by status.
        """
        note = self._notes[0].get(name) if self._notes else None
        if note is None or note.count > traffic.count:
            # It had no traffic then, or these are other counters of the same name.
            return traffic.count, dict(traffic.statuses)
        if note.count == traffic.count:
            return 0, {}
        before = note.statuses
        statuses = {status: count - before.get(status, 0) for status, count in traffic.statuses.items()}
        return traffic.count - note.count, {status: count for status, count in statuses.items() if count}
