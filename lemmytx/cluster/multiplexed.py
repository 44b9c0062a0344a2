"""
A backend whose connections carry many exchanges at a time (HTTP/2).

What L{Backend} counts and promises is the same; only where an exchange finds its place differs. A connection that
stands is in one of these::

    C{connections}   C{idle}   it
    yes              no        has streams, and may take more
    yes              yes       has none; it closes itself after C{pool.idle_time}
    no               no        takes no more, and ends with its last stream: the backend has said that it will go
                               away, it has carried as many as the pool allows, or its backend is to be left

New streams go to the oldest connection with room, so the ones that a burst has left over run out in peace.

A connection that is being made gathers the exchanges that come in the meantime (L{lemmytx.proxy.http2_dial}): a burst
on a cold backend makes as many connections as it needs, not one for each exchange.
"""

from __future__ import annotations

from typing import Any, Protocol

from lemmytx.addresses import Location
from lemmytx.cluster.backend import Backend, Pool, Pooled
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.way import PLAIN, Way
from lemmytx.net.network import Network

#: Streams on one connection at the most, whatever more the backend would take (RFC 9113 §6.5.2 recommends that it
#: takes 100 or more).
STREAMS = 100


class Shared(Pooled, Protocol):
    """A connection that carries many exchanges, as far as its backend knows it."""

    def has_room(self) -> bool:
        """Whether one more exchange may begin on it."""

    def carrier(self) -> Any:
        """What carries one more exchange, which begins at once."""

    def leave(self) -> None:
        """It takes no more exchanges and ends with its last one; at once if it has none."""


class Multiplexed(Backend):
    """
    See the module. C{idle} holds connections without streams, for the statistics and the tests.

    @ivar connections: those that stand and take exchanges, oldest first.
    @ivar gatherings: those that are being made; kept by who makes them.
    @ivar streams: how many exchanges one may carry at a time, at the most.
    @ivar expected: how many of them the backend has allowed when it was last asked; a guess for the next connection.
    """

    __slots__ = ("connections", "expected", "gatherings", "streams")

    def __init__(
        self,
        name: str,
        url: str,
        location: Location,
        network: Network,
        passive: Passive,
        pool: Pool,
        weight: int = 1,
        capacity: int = 0,
        role: str = "active",
        way: Way = PLAIN,
        streams: int = STREAMS,
        state: str = "ready",
    ) -> None:
        super().__init__(name, url, location, network, passive, pool, weight, capacity, role, way, state)
        self.streams = self.expected = streams
        self.connections: list[Shared] = []
        self.gatherings: list[Any] = []

    @property
    def shares(self) -> bool:
        """Whether a connection may carry more than the one exchange that it was made for."""
        # A PROXY header says of a connection whose it is.
        return self.pool.limit > 0 and self.way.proxy is None

    def acquire(self) -> Any | None:
        """See L{Backend.acquire}: what carries the exchange, on a connection that stands."""
        self.active += 1
        if self.watch is not None:
            self.watch(self)
        carrier = self.find()
        if carrier is not None:
            self.reused += 1
        return carrier

    def find(self) -> Any | None:
        """Room on a connection that stands, for an exchange that is counted already; L{None}: there is none."""
        for connection in self.connections:
            if connection.has_room():
                return connection.carrier()
        return None

    def release(self, upstream: Any, now: float) -> None:
        """An exchange ended in order. Its connection knows that by itself."""
        self.active -= 1
        if self.watch is not None:
            self.watch(self)
        if self.freed is not None:
            self.freed()

    def stands(self, connection: Shared, streams: int) -> None:
        """
        A connection was made.

        @param streams: how many the backend allows on it.
        """
        self.connections.append(connection)
        self.expected = min(streams, self.streams)

    def at_rest(self, connection: Shared, now: float) -> None:
        """
        The last exchange on a connection has ended.

        @param now: the time on its ticker.
        """
        pool = self.pool
        if len(self.idle) >= pool.limit:
            connection.leave()
            return
        self.idle.append(connection)
        connection.deadline = deadline = now + pool.idle_time
        if deadline < connection.check_at:
            connection.ticker.watch(connection)

    def at_work(self, connection: Shared) -> None:
        """An exchange begins on a connection that had none."""
        self.idle.remove(connection)

    def dismiss(self, connection: Shared) -> None:
        """A connection takes no more exchanges, or is gone."""
        if connection in self.connections:
            self.connections.remove(connection)
        self.lost(connection)

    def close_idle(self) -> None:
        """
        Close every idle connection, and each other one when its last exchange has ended: one that is always busy would
        never be left otherwise.
        """
        for connection in list(self.connections):
            connection.leave()

    def configure(self, other: Backend) -> None:
        """See L{Backend.configure}."""
        super().configure(other)
        if isinstance(other, Multiplexed):
            self.streams = other.streams
            self.expected = min(self.expected, other.streams)
