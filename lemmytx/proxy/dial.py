"""Connecting to a backend, for one exchange."""

from __future__ import annotations

import errno
import os
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


#: What the kernel says when it is we who have run out of something: descriptors, memory, ports of our own.
OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))


class Dial(ClientFactory):
    """
    One attempt to connect to a backend: its addresses in turn, within one time limit each.

    Exactly one of C{exchange.connected}, C{exchange.connect_failed} and C{exchange.cannot_connect} is called, unless
    L{cancel} comes first.
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
        try:
            self._connector = self._backend.connect(self, self._address, self._timeout)
        except OSError as error:
            # Making a TCP socket, Twisted reports this as a failed connection; a unix socket it lets fail.
            exchange, self._exchange = self._exchange, None
            assert exchange is not None
            exchange.cannot_connect(error.strerror or str(error))

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
        try:
            exchange.connected(upstream)
        except Exception:
            exchange.break_down()

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Twisted: no connection."""
        exchange = self._exchange
        if exchange is None:
            return
        number = getattr(reason.value, "osError", None)
        if number in OURS:
            self._exchange = None
            exchange.cannot_connect(os.strerror(number))
            return
        if self._left:
            self.start()
            return
        self._exchange = None
        try:
            exchange.connect_failed(reason.check(TimeoutError) is not None, reason.getErrorMessage())
        except Exception:
            exchange.break_down()


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
