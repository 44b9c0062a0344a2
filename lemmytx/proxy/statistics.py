"""
How much was served lately.

On the way of a request only totals are counted (L{lemmytx.cluster.traffic}). What came of late is found out beside it:
every L{STEP} seconds the totals of those vhosts that had traffic are written down, and the difference between now and
the oldest note is what came in the last minute, to L{STEP} seconds. Asking changes nothing, so any number of readers
can.

Once a second all counters are gone through, backends' too: for those that had traffic the second is noted, and their
times go into their histograms (L{lemmytx.cluster.traffic}). That is done L{AT_ONCE} at a time, with the reactor's other
work in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from lemmytx.cluster.traffic import Traffic

log = Logger(namespace="lemmytx.statistics")

#: The name under which L{Recent} keeps what no vhost was for. No vhost can be called that.
UNROUTED = ""

#: Seconds between two notes.
STEP = 10

#: Seconds between two looks at what came in one.
BEAT = 1

#: How many counters are looked at in one turn of the reactor: about a third of a millisecond when all had traffic.
AT_ONCE = 100

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

    @ivar second: the number of the second that was over last; 0: none yet.
    """

    __slots__ = (
        "_beats", "_clock", "_counters", "_later", "_notes", "_seconds", "_since", "_timer", "_traffics", "_walk",
        "second",
    )  # fmt: skip

    def __init__(
        self,
        counters: Callable[[], Iterable[tuple[str, Traffic]]],
        clock: IReactorTime,
        traffics: Callable[[], Iterator[Traffic]] | None = None,
        seconds: Callable[[], float] | None = None,
    ) -> None:
        """
        @param counters: gives names and counters, which may be others from time to time.
        @param traffics: gives all counters whose seconds are counted; L{None}: none are.
        @param seconds: the clock by which exchanges are timed, which does not go back; L{None}: that of C{clock}.
        """
        self.second = 0
        self._counters = counters
        self._traffics = traffics
        self._clock = clock
        self._seconds = seconds or clock.seconds
        self._since = self._seconds()
        self._notes: deque[dict[str, _Note]] = deque(maxlen=KEPT)
        self._walk: Iterator[Traffic] | None = None
        self._later: IDelayedCall | None = None
        self._timer = LoopingCall(self.note)
        self._timer.clock = clock
        self._beats = LoopingCall(self.beat)
        self._beats.clock = clock

    @property
    def uptime(self) -> float:
        """Seconds since it was made."""
        return self._seconds() - self._since

    def start(self) -> None:
        """Begin to take notes."""
        self._timer.start(STEP)
        if self._traffics is not None:
            self._beats.start(BEAT, now=False)

    def stop(self) -> None:
        """Take no more notes."""
        for timer in (self._timer, self._beats):
            if timer.running:
                timer.stop()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._walk = None

    def beat(self) -> None:
        """A second is over. When the last walk is not, its second lasts longer."""
        if self._walk is None and self._traffics is not None:
            # By the clock, since a process that stood still has missed some; rounded, since the timer is never on time.
            self.second = max(self.second + 1, round(self.uptime / BEAT))
            self._walk = self._traffics()
            self._go_on()

    def _go_on(self) -> None:
        """Some more of the walk."""
        self._later = None
        walk = self._walk
        assert walk is not None
        second, now = self.second, self._seconds()
        try:
            some = list(islice(walk, AT_ONCE))
            for traffic in some:
                traffic.note(second)
                if traffic.times or traffic.recent is not None:
                    traffic.fold(now)
        except Exception:
            # This second's figures are lost; a timer that fails would lose all that follow.
            log.failure("the requests of a second could not be counted")
            some = []
        if len(some) < AT_ONCE:
            self._walk = None
        else:
            self._later = self._clock.callLater(0, self._go_on)

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
