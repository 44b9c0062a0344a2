"""What accepts clients: one per listening socket."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from lemmytx.net.ticker import Ticker
from lemmytx.proxy.downstream import Downstream
from lemmytx.proxy.forward import Networks, Peer

if TYPE_CHECKING:
    from lemmytx.proxy.resource import ReverseProxyResource

#: Seconds below the limit after which it is told again that it is reached.
TOLD_AGAIN = 60.0


class Connections:
    """
    How many clients are connected, over all listeners, and the doors that close when there are too many. Connections
    beyond the limit wait in the kernel's queue until one of the present ones ends (HAProxy's maxconn).
    """

    __slots__ = ("_listeners", "_log", "_quiet_until", "count", "full", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.full = False
        self._listeners: list[Listener] = []
        self._quiet_until = -inf
        self._log = Logger(namespace="lemmytx.listener")

    def add(self, listener: Listener) -> None:
        """One more door."""
        self._listeners.append(listener)

    def came(self) -> None:
        """A client has connected."""
        self.count += 1
        if self.count >= self.limit and not self.full:
            self.full = True
            now = monotonic()
            if now >= self._quiet_until:
                self._log.warn(
                    "{limit} clients are connected, which is the limit; more have to wait (told once a minute)",
                    limit=self.limit,
                )
            self._quiet_until = now + TOLD_AGAIN
            for listener in self._listeners:
                listener.pause()

    def left(self) -> None:
        """A client's connection is over."""
        self.count -= 1
        if self.full and self.count < self.limit:
            self.full = False
            for listener in self._listeners:
                listener.resume()


@implementer(IProtocolFactory)
class Listener:
    """
    The factory of downstreams.

    @ivar resource: where requests go.
    @ivar downstreams: the connections that there are.
    @ivar nobody: the peer of a connection that is not made yet.
    """

    def __init__(
        self,
        resource: ReverseProxyResource,
        ticker: Ticker,
        connections: Connections,
        trusted: Networks = (),
        scheme: bytes = b"http",
    ) -> None:
        """
        @param trusted: whose X-Forwarded-* are believed.
        """
        self.resource = resource
        self.ticker = ticker
        self.limits = resource.limits
        self.timeouts = resource.timeouts
        # What every request asks for, at hand.
        self.header_size = self.limits.header_size
        self.headers = self.limits.headers
        self.keepalive = self.timeouts.keepalive
        self.downstreams: set[Downstream] = set()
        self.nobody = Peer("")
        self._trusted = trusted
        self._scheme = scheme
        self._connections = connections
        self._port: Any = None
        connections.add(self)

    def doStart(self) -> None:
        """Twisted: a port is about to use this factory."""

    def doStop(self) -> None:
        """Twisted: a port has stopped using this factory."""

    def listening(self, port: IListeningPort) -> None:
        """The socket that brings the connections."""
        self._port = port

    def buildProtocol(self, addr: IAddress | None) -> Downstream:
        """Twisted: somebody connects."""
        return Downstream(self)

    def connected(self, downstream: Downstream, transport: Any) -> Peer:
        """A downstream's transport is there: who is it?"""
        self.downstreams.add(downstream)
        self._connections.came()
        address = getattr(transport.getPeer(), "host", None) or ""
        return self.resource.forwarding.peer(address, self._scheme, self._trusted)

    def disconnected(self, downstream: Downstream) -> None:
        """A downstream's connection is over."""
        if downstream in self.downstreams:
            self.downstreams.remove(downstream)
            self._connections.left()

    def pause(self) -> None:
        """Accept nobody for now."""
        if self._port is not None:
            self._port.stopReading()

    def resume(self) -> None:
        """Accept again."""
        if self._port is not None and self._port.connected:
            self._port.startReading()

    def drain(self) -> None:
        """No more requests: idle connections end now, busy ones after their exchange."""
        for downstream in list(self.downstreams):
            downstream.drain()

    def abort(self) -> None:
        """End all connections at once."""
        for downstream in list(self.downstreams):
            downstream.abort()
