"""What accepts clients: one per listening socket."""

from __future__ import annotations

from collections.abc import Container, Iterable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from lemmytx.cluster.backend import Backend
from lemmytx.net.accepting import AcceptsWhileOpen
from lemmytx.net.ticker import Ticker
from lemmytx.net.turns import Turns
from lemmytx.proxy.downstream import Downstream
from lemmytx.proxy.entrance import Entrance
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.forward import Forwarding, Peer
from lemmytx.proxy.terms import Terms

if TYPE_CHECKING:
    from lemmytx.proxy.resource import ReverseProxyResource

#: Seconds below the limit after which it is told again that it is reached.
TOLD_AGAIN = 60.0

#: Seconds after which it is looked again whether there is room, when it is other processes' clients that fill it.
LOOK_AGAIN = 0.05


class Connections:
    """
    How many clients are connected, over all listeners, and the doors that close when there are too many. Connections
    beyond the limit wait in the kernel's queue until one of the present ones ends (HAProxy's maxconn).

    Where several processes serve, the limit is for all of them together. Each asks before it accepts, so that only as
    many as ask within the same microseconds get in beyond it: at most one for each process but one.

    @ivar limit: the most clients of the instance.
    @ivar own: the most clients of this process, for what it needs itself to serve them.
    @ivar count: the clients of this process.
    @ivar full: whether the doors are closed.
    @ivar turns: the other processes; L{None}: there are none.
    """

    __slots__ = ("_again", "_listeners", "_log", "_quiet_until", "count", "full", "limit", "own", "turns")

    def __init__(self, limit: int, turns: Turns | None = None) -> None:
        self.limit = limit
        self.own: float = inf
        self.count = 0
        self.full = False
        self.turns = turns
        self._again: Any = None
        self._listeners: list[Listener] = []
        self._quiet_until = -inf
        self._log = Logger(namespace="lemmytx.listener")
        if turns is not None:
            turns.room = self.room

    def add(self, listener: Listener) -> None:
        """One more door."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """A door that is closed for good. Its clients go on being counted."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def came(self) -> None:
        """A client has connected."""
        self.count += 1
        if self.turns is not None:
            self.turns.connected(self.count)
        self.room()

    def left(self) -> None:
        """A client's connection is over."""
        self.count -= 1
        if self.turns is not None:
            self.turns.connected(self.count)
        if self.full:
            self.look()

    def room(self) -> bool:
        """Whether one more may come. When not, the doors are closed."""
        if self.full:
            # Somebody has opened one all the same.
            self._shut()
        elif self._reached():
            self._close()
        return not self.full

    def bound(self, limit: int, own: float = inf) -> None:
        """
        From now on the limits are these.

        @param limit: for the whole instance.
        @param own: for this process.
        """
        self.limit = limit
        self.own = own
        self.look()

    def look(self) -> None:
        """Open or close the doors, as there is room or not."""
        if not self.full:
            self.room()
        elif not self._reached():
            self._open()
        elif self.count < self.own and self.turns is not None and self._again is None:
            # Those whose leaving makes room are not all ours, so nobody would tell.
            self._again = self.turns.reactor.callLater(LOOK_AGAIN, self._look_again)

    def _reached(self) -> str:
        """What is full, if anything: for people."""
        if self.count >= self.own:
            return "which is what this process has file descriptors for"
        everybody = self.count if self.turns is None else self.turns.board.connections()
        return "which is the limit" if everybody >= self.limit else ""

    def _close(self) -> None:
        self.full = True
        now = monotonic()
        if now >= self._quiet_until:
            self._log.warn(
                "{limit} clients are connected, {why}; more have to wait (told once a minute)",
                limit=self.own if self.count >= self.own else self.limit,
                why=self._reached(),
            )
        self._quiet_until = now + TOLD_AGAIN
        self._shut()
        self.look()

    def _shut(self) -> None:
        for listener in self._listeners:
            listener.pause()

    def _open(self) -> None:
        self.full = False
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for listener in self._listeners:
            listener.resume()

    def _look_again(self) -> None:
        self._again = None
        self.look()


def address_of(transport: Any) -> str:
    """Where a connection comes from; empty for a unix socket."""
    return getattr(transport.getPeer(), "host", None) or ""


class Client(Protocol):
    """
    A connection, as its listener knows it: a downstream of HTTP/1.1 or HTTP/2, or what is still an entrance.

    @ivar peer: who it is.
    @ivar entrance: what it came through, if it did.
    """

    peer: Peer

    def exchanges(self) -> Iterable[Exchange]:
        """What is under way on it."""

    def drain(self) -> None:
        """Take no more requests; end when there are none left."""

    def abort(self) -> None:
        """The process ends: whatever is under way is over."""


@implementer(IProtocolFactory)
class Listener:
    """
    The factory of downstreams.

    @ivar resource: where requests go.
    @ivar downstreams: the connections that there are.
    @ivar draining: whether they are all about to end; C{patient}: whether WebSockets among them are left alone.
    @ivar nobody: the peer of a connection that is not made yet.
    @ivar terms: on which clients come in.
    @ivar refusals: connections that did not become a downstream, by the reason.
    """

    def __init__(
        self, resource: ReverseProxyResource, ticker: Ticker, connections: Connections, terms: Terms | None = None
    ) -> None:
        self.resource = resource
        self.ticker = ticker
        self.downstreams: set[Client] = set()
        self.draining = self.patient = False
        self.nobody = Peer("")
        self.refusals: dict[str, int] = {}
        self.terms = Terms()
        self._forwarding: Forwarding | None = None
        self._connections = connections
        self._handshakes = 0
        self._port: Any = None
        self.configure(terms or self.terms)

    def configure(self, terms: Terms) -> None:
        """
        Called when the resource has other limits, timeouts or rules of forwarding, and whenever the terms are others.
        The connections live on; their next requests go by this.
        """
        resource = self.resource
        self.limits = resource.limits
        self.timeouts = resource.timeouts
        # What every request asks for, at hand.
        self.header_size = self.limits.header_size
        self.headers = self.limits.headers
        self.keepalive = self.timeouts.keepalive
        if terms is self.terms and resource.forwarding is self._forwarding:
            return
        self.terms = terms
        self._forwarding = resource.forwarding
        # Many clients can be behind few addresses.
        peers: dict[str, Peer] = {}
        for downstream in self.downstreams:
            entrance = getattr(downstream, "entrance", None)
            address = downstream.peer.client
            peer = peers.get(address) if entrance is None else self._peer(address, entrance)
            if peer is None:
                peer = peers[address] = self._peer(address)
            downstream.peer = peer

    def _peer(self, address: str, entrance: Entrance | None = None) -> Peer:
        terms = self.terms
        scheme = b"http" if entrance is None else entrance.scheme
        peer = self.resource.forwarding.peer(address, scheme, terms.trusted)
        peer.redirect = terms.redirect
        if entrance is not None:
            entrance.introduce(peer)
        return peer

    def doStart(self) -> None:
        """Twisted: a port is about to use this factory."""

    def doStop(self) -> None:
        """Twisted: a port has stopped using this factory."""
        self._port = None
        self._connections.remove(self)

    def listening(self, port: IListeningPort) -> None:
        """The socket that brings the connections."""
        self._port = port
        self._connections.add(self)
        if isinstance(port, AcceptsWhileOpen):
            port.share(self._connections.turns)
        if self._connections.full:
            self.pause()

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        """Twisted: somebody connects."""
        return Downstream(self) if self.terms.plain else Entrance(self)

    def connected(self, client: Client, transport: Any, entrance: Entrance | None = None) -> Peer:
        """
        A connection's transport is there: who is it?

        @param entrance: what it was until now.
        """
        self.downstreams.add(client)
        if entrance is not None:
            self.downstreams.discard(entrance)
            return self._peer(entrance.address, entrance)
        self._connections.came()
        return self._peer(address_of(transport))

    def entered(self, entrance: Entrance) -> None:
        """A connection has come that is not a downstream yet, and whose peer need not be known yet."""
        self.downstreams.add(entrance)
        self._connections.came()

    def disconnected(self, client: Client) -> None:
        """A connection is over."""
        if client in self.downstreams:
            self.downstreams.remove(client)
            self._connections.left()

    def refused(self, reason: str) -> None:
        """A connection ends before it has become a downstream."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def handshake_began(self, entrance: Entrance) -> None:
        """One more handshake is under way. When there are too many, the next ones wait in the kernel's queue."""
        entrance.handshaking = True
        self._handshakes += 1
        if self._handshakes >= self.terms.handshakes:
            self.pause()

    def handshake_ended(self, entrance: Entrance) -> None:
        """It is over, in one way or the other. Harmless when there was none."""
        if entrance.handshaking:
            entrance.handshaking = False
            full = self._handshakes >= self.terms.handshakes
            self._handshakes -= 1
            if full:
                self.resume()

    def pause(self) -> None:
        """Accept nobody for now."""
        if self._port is not None:
            self._port.stopReading()

    def resume(self) -> None:
        """Accept again; when there is no room, as soon as there is."""
        if self._handshakes >= self.terms.handshakes:
            return
        if self._port is not None and self._port.connected and not self._connections.full:
            self._port.startReading()

    def drain(self, patient: bool = False) -> None:
        """
        No more requests: idle connections end in a second, busy ones after their exchange, WebSockets when both sides
        have said farewell. It is over when there are no C{downstreams} any more; an exchange that has ended can still
        have a part of its answer on the way to a slow client.

        @param patient: WebSockets are not told to go yet: that is for another call.
        """
        self.draining = True
        self.patient = patient
        for downstream in list(self.downstreams):
            downstream.drain()

    def abort(self) -> None:
        """End all connections at once."""
        for downstream in list(self.downstreams):
            downstream.abort()

    def part_from(self, backends: Container[Backend]) -> None:
        """These backends are to be left: WebSockets on them are told to go, all else on them runs on."""
        for exchange in self._on(backends):
            if exchange.tunnel is not None:
                exchange.tunnel.leave()

    def cut(self, backends: Container[Backend]) -> None:
        """
        End what still runs on these backends: with 503 where nothing has been answered yet, and then the client's
        connection lives on; else with a reset.
        """
        for exchange in self._on(backends):
            exchange.request_broke(503, "shutdown", "still running timeouts.drain after its backend was removed")

    def _on(self, backends: Container[Backend]) -> list[Exchange]:
        return [
            exchange
            for downstream in self.downstreams
            for exchange in downstream.exchanges()
            if exchange.backend in backends
        ]
