"""Connecting to a backend, for one exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IAddress, IConnector, IProtocol
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.cluster.backend import Backend
from lemmytx.proxy.upstream import Upstream

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange


class Dial(ClientFactory):
    """
    One attempt to connect to a backend: its addresses in turn, within one time limit each.

    Exactly one of C{exchange.connected} and C{exchange.connect_failed} is called, unless L{cancel} comes first.
    """

    noisy = False

    def __init__(self, exchange: Exchange, backend: Backend) -> None:
        self._exchange: Exchange | None = exchange
        self._backend = backend
        self._timeout = exchange.cluster.rules.connect
        self._left = list(backend.addresses) or [""]
        self._address = ""
        self._connector: IConnector | None = None

    def start(self) -> None:
        """Try the next address."""
        self._address = self._left.pop(0)
        self._connector = self._backend.connect(self, self._address, self._timeout)

    def cancel(self) -> None:
        """Nobody waits for the connection any more."""
        self._exchange = None
        if self._connector is not None:
            self._connector.disconnect()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Twisted: the connection is about to stand."""
        return _Arrival(self)

    def arrived(self, transport: Any) -> None:
        """The connection stands."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            transport.abortConnection()
            return
        self._backend.prefer(self._address)
        upstream = Upstream(self._backend, exchange.resource.ticker)
        transport.protocol = upstream
        upstream.makeConnection(transport)
        exchange.connected(upstream)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Twisted: no connection."""
        exchange = self._exchange
        if exchange is None:
            return
        if self._left:
            self.start()
            return
        self._exchange = None
        exchange.connect_failed(reason.check(TimeoutError) is not None, reason.getErrorMessage())


@implementer(IProtocol)
class _Arrival:
    """Stands in as the protocol until the transport is ready to be written to."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    def makeConnection(self, transport: Any) -> None:
        self._dial.arrived(transport)

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """Cannot come: the upstream has taken the place."""

    def connectionLost(self, reason: Failure) -> None:
        """Cannot come either, but for a connection that was cancelled on arrival."""
