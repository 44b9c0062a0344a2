"""
Connecting to a backend whose connections carry many exchanges (L{lemmytx.cluster.multiplexed}).

An exchange that finds no room waits for a connection that is being made, if there is one that will have room for it;
else one is made for it, and others may join. The connection stands when the backend's SETTINGS have come: its first
words, which it sends without being asked (RFC 9113 §3.4). So it is known how many exchanges it takes, and a server that
does not speak HTTP/2 has failed to be connected to, before any request has gone out::

    the connection      those that wait
    stands              get a stream each, in their order; for whom there is none, starts anew
    could not be made   are told so, each; what to do then is each exchange's own to decide

Nobody waits longer than if it had dialled itself: the connection has been under way for a while when others join.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lemmytx.cluster.multiplexed import Multiplexed

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange
    from lemmytx.proxy.http2_upstream import Http2Upstream


class Http2Dial:
    """
    One exchange that wants to go to a backend.

    Exactly one of C{exchange.connected}, C{exchange.connect_failed} and C{exchange.cannot_connect} is called, unless
    L{cancel} comes first.

    @ivar exchange: who waits.
    """

    __slots__ = ("_backend", "_dialler", "_gathering", "exchange")

    def __init__(self, exchange: Exchange, backend: Multiplexed, dialler: Any) -> None:
        """
        @param dialler: makes a connection for a L{Gathering} that stands in for an exchange:
            L{lemmytx.proxy.dial.Dial}.
        """
        self.exchange = exchange
        self._backend = backend
        self._dialler = dialler
        self._gathering: Gathering | None = None

    def start(self) -> None:
        """Find a place."""
        backend = self._backend
        carrier = backend.find()
        if carrier is not None:
            # An exchange whose connection was lost finds another one that stands.
            self.exchange.connected(carrier)
            return
        for gathering in backend.gatherings:
            if gathering.join(self):
                self._gathering = gathering
                return
        self._gathering = gathering = Gathering(self, backend)
        gathering.start(self._dialler)

    def cancel(self) -> None:
        """Nobody waits for the connection any more."""
        if self._gathering is not None:
            self._gathering.leave(self)


class Gathering:
    """
    A connection that is being made, and who waits for it.

    To what makes it, it is the exchange that wants to be connected. To the addresses of clients it is the first one
    that waits: where a client's address matters to a connection, nobody else joins.
    """

    __slots__ = (
        "_backend", "_connection", "_dial", "_until", "_waiting", "client", "cluster", "downstream", "peer", "resource",
    )  # fmt: skip

    def __init__(self, first: Http2Dial, backend: Multiplexed) -> None:
        exchange = first.exchange
        self.cluster = exchange.cluster
        self.resource = exchange.resource
        self.client = exchange.client
        self.peer = exchange.peer
        self.downstream = exchange.downstream
        self._backend = backend
        self._dial: Any = None
        self._connection: Http2Upstream | None = None
        self._until = self.resource.ticker.seconds() + self.cluster.rules.connect
        self._waiting: dict[Http2Dial, None] = {first: None}

    def start(self, dialler: Any) -> None:
        """Have the connection made."""
        self._backend.gatherings.append(self)
        self._dial = dialler(self, self._backend)
        self._dial.start()

    def join(self, dial: Http2Dial) -> bool:
        """Wait for it too, if it is going to have room. The return value says so."""
        backend = self._backend
        room = min(backend.expected, backend.pool.requests or backend.expected)
        if not backend.shares or len(self._waiting) >= room:
            return False
        self._waiting[dial] = None
        return True

    def leave(self, dial: Http2Dial) -> None:
        """One of them waits no more."""
        self._waiting.pop(dial, None)
        if self._waiting or self not in self._backend.gatherings:
            return
        self._over()
        if self._connection is not None:
            self._connection.drop()
        elif self._dial is not None:
            self._dial.cancel()

    def _over(self) -> None:
        if self in self._backend.gatherings:
            self._backend.gatherings.remove(self)

    # What the dial calls, as if this were an exchange

    def connected(self, connection: Http2Upstream) -> None:
        """The transport stands; now the backend's SETTINGS have to come."""
        self._connection = connection
        connection.open_for(self, max(0.0, self._until - self.resource.ticker.seconds()))

    def connect_failed(self, timed_out: bool, why: str, kind: str = "refused") -> None:
        """There is no connection. The one that was being made, if it got so far, is of no use."""
        self._over()
        for dial in list(self._waiting):
            # One that is told may end others that wait.
            if dial in self._waiting:
                del self._waiting[dial]
                try:
                    dial.exchange.connect_failed(timed_out, why, kind)
                except Exception:
                    dial.exchange.break_down()

    def cannot_connect(self, why: str) -> None:
        """We have nothing left to make a connection with."""
        self._over()
        for dial in list(self._waiting):
            if dial in self._waiting:
                del self._waiting[dial]
                try:
                    dial.exchange.cannot_connect(why)
                except Exception:
                    dial.exchange.break_down()

    def break_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own. Each that waits is ended by it."""
        self._over()
        for dial in list(self._waiting):
            if dial in self._waiting:
                del self._waiting[dial]
                dial.exchange.break_down()

    # What the connection calls

    def stands(self, connection: Http2Upstream) -> None:
        """The connection is ready for exchanges. Called once, when it has room for one at least."""
        self._over()
        first = True
        while self._waiting and (first or connection.has_room()):
            first = False
            self._one(connection)
        for dial in list(self._waiting):
            if dial in self._waiting:
                del self._waiting[dial]
                try:
                    dial.start()
                except Exception:
                    dial.exchange.break_down()

    def _one(self, connection: Http2Upstream) -> None:
        dial = next(iter(self._waiting))
        del self._waiting[dial]
        try:
            dial.exchange.connected(connection.carrier())
        except Exception:
            dial.exchange.break_down()
