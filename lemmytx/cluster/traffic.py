"""
What was served, as plain integers: one such set of counters per vhost and per backend, summed when somebody asks.

Rates and times of late are made beside the way of a request. There each exchange puts its time into a list, which costs
less than to find its place in a histogram; and the list goes into the histogram (L{Traffic.fold}) when it has
L{MANY} of them, when somebody asks, and once a second (L{lemmytx.proxy.statistics}). The rule that bounds the list
hangs on the count, so it holds in a program that does nothing of that once a second, too.
"""

from __future__ import annotations

from array import array

from lemmytx.cluster.histogram import Histogram, tally

#: After so many exchanges times are folded at the latest. A power of two.
MANY = 4096

#: For C{not traffic.count & FULL}: as many have come.
FULL = MANY - 1

#: Over so many seconds requests per second are told, each at most L{RING}.
PERIODS = (1, 10, 60)

#: How many seconds are counted one by one.
RING = 60

_ITEM = array("I").itemsize


class Rates:
    """
    How many exchanges ended in each of the last L{RING} seconds.
    """

    __slots__ = ("_counts", "_last")

    def __init__(self) -> None:
        self._counts = array("I", bytes(RING * _ITEM))
        self._last = 0

    def _advance(self, second: int) -> None:
        """Seconds that nobody noted had nothing."""
        for missed in range(max(self._last, second - RING) + 1, second + 1):
            self._counts[missed % RING] = 0
        self._last = max(self._last, second)

    def note(self, second: int, count: int) -> None:
        """
        @param second: the number of the second that is over; from 1, no less than any before.
        @param count: how many ended in it.
        """
        self._advance(second)
        self._counts[second % RING] += count

    def quiet(self, second: int) -> bool:
        """Whether nothing came in all the time."""
        self._advance(second)
        return not any(self._counts)

    def over(self, second: int) -> list[float]:
        """
        @param second: the one that is over.
        @return: requests per second over each of L{PERIODS}, or over as many seconds as there have been.
        """
        self._advance(second)
        newest = self._last % RING + 1
        counts = self._counts[newest:] + self._counts[:newest]
        return [sum(counts[-period:]) / max(1, min(period, second)) for period in PERIODS]


class Traffic:
    """
    Counters of ended exchanges since the start.

    @ivar count: how many.
    @ivar statuses: how many by status that the client saw; 499 for a client that left, 0 for a connection that was
        cut before any answer. Bounded, since a status has three digits.
    @ivar time: seconds from the first byte of the request to the last of the response, added up. A tunnel counts
        up to its 101: what follows is not a response time.
    @ivar received: bytes of request bodies.
    @ivar sent: bytes of response bodies.
    @ivar times: response times that are not in the histogram yet, in seconds: of a backend until it answered, of
        anything else until the end.
    @ivar recent: of the last five minutes; L{None} when nothing came in them.
    @ivar rates: of the last minute, where somebody counts that second by second; L{None} also when nothing came.
    """

    __slots__ = ("_noted", "count", "rates", "received", "recent", "sent", "statuses", "time", "times")

    def __init__(self) -> None:
        self.count = 0
        self.statuses: dict[int, int] = {}
        self.time = 0.0
        self.received = 0
        self.sent = 0
        self.times: list[float] = []
        self.recent: Histogram | None = None
        self.rates: Rates | None = None
        self._noted = 0

    def ended(self, status: int, time: float, received: int, sent: int) -> None:
        """
        Count one exchange. The way of a request has this written out (L{lemmytx.proxy.exchange}).

        @param time: 0: it took none worth telling, and stays out of the response times.
        """
        self.count += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.time += time
        self.received += received
        self.sent += sent
        if time:
            self.times.append(time)

    def fold(self, now: float) -> None:
        """
        Bring the histogram up to date.

        @param now: seconds on a clock that does not go back, the same at each call.
        """
        times, recent = self.times, self.recent
        if times:
            if recent is None:
                recent = self.recent = Histogram()
            recent.add(tally(times), now)
            times.clear()
        elif recent is not None:
            recent.advance(now)
            if not recent.counts:
                self.recent = None

    def note(self, second: int) -> None:
        """
        Somebody counts seconds, and one is over.

        @param second: its number, from 1.
        """
        count = self.count
        if count != self._noted:
            if self.rates is None:
                self.rates = Rates()
            self.rates.note(second, count - self._noted)
            self._noted = count
        elif self.rates is not None and self.rates.quiet(second):
            self.rates = None

    def add(self, other: Traffic) -> None:
        """Add another set's counts to these, but for what is of late."""
        self.count += other.count
        self.time += other.time
        self.received += other.received
        self.sent += other.sent
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
