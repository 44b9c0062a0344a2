"""
The connection that a check is made on: read by waiting, bounded, closed with the check.

It comes about like that of an exchange (L{lemmytx.proxy.dial}), without the haste: the addresses of a name are tried
one after another, each for its part of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.interfaces import ICheckConnection, Unhealthy
from lemmytx.net.tls.client import ClientTls, explained
from lemmytx.proxy.dial import OURS

if TYPE_CHECKING:
    from lemmytx.net.tls.connection import Tls

#: How much may lie here unread. More is left to the kernel, and so to the backend.
UNREAD = 64 * 1024


@implementer(IProtocol, ICheckConnection)
class Connection(ClientFactory):
    """
    See L{ICheckConnection}.

    @ivar opened: fires with this when it stands; fails with L{Unhealthy} for what the backend has to answer for, with
        L{OSError} for what we have.
    """

    noisy = False

    def __init__(self, header: bytes, tls: ClientTls | None, protocol: str, host: str, where: str) -> None:
        """
        @param header: what comes first, whatever is spoken then.
        @param tls: how TLS is spoken; L{None}: it is not.
        @param protocol: what ALPN agrees on, C{https} or C{h2}.
        @param host: whose certificate it has to be.
        @param where: under which name sessions are kept.
        """
        self.opened: Deferred[Connection] = Deferred()
        self._header = header
        self._tls = tls
        self._protocol = protocol
        self._host = host
        self._where = where
        self._transport: Any = None
        self._connector: Any = None
        self._handshake: Tls | None = None
        self._buffer: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._reader: Deferred[bytes] | None = None
        self._end: Unhealthy | None = None  # why nothing more comes
        self._ended = False
        self._over = False

    def connect(self, connect: Callable[[Connection], Any]) -> None:
        """
        Begin.

        @param connect: makes the connection, and returns its connector.
        """
        try:
            self._connector = connect(self)
        except OSError as error:
            # Making a TCP socket, Twisted reports this as a failed connection; a unix socket it lets fail.
            self.opened.errback(error)

    # What checks do

    def write(self, data: bytes) -> None:
        """See L{ICheckConnection}."""
        if not self._ended:
            self._transport.write(data)

    def receive(self) -> Deferred[bytes]:
        """See L{ICheckConnection}."""
        assert self._reader is None, "two wait for the same connection"
        if self._buffer:
            data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
            self._buffer.clear()
            self._unread = 0
            if self._paused:
                self._paused = False
                self._transport.resumeProducing()
            return succeed(data)
        if self._end is not None:
            return fail(self._end)
        if self._ended:
            return succeed(b"")
        reader: Deferred[bytes] = Deferred(self._given_up)
        self._reader = reader
        return reader

    def _given_up(self, reader: Deferred[bytes]) -> None:
        if self._reader is reader:
            self._reader = None

    def close(self, patient: bool = True) -> None:
        """
        The check is over.

        @param patient: whether the backend still gets what is queued, and an orderly end.
        """
        self._over = True
        transport = self._transport
        if transport is None:
            if self._connector is not None:
                self._connector.disconnect()
        elif patient and not self._paused and not getattr(transport, "queued", 0):
            transport.loseConnection()
        else:
            transport.abortConnection()

    # What Twisted calls

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The connection is about to stand."""
        return self

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """No connection."""
        if self._over or self.opened.called:
            return
        error = reason.value
        number = getattr(error, "osError", None)
        if number in OURS:
            self.opened.errback(OSError(number, reason.getErrorMessage()))
        else:
            self.opened.errback(Unhealthy(f"no connection: {reason.getErrorMessage().rstrip('.')}"))

    def makeConnection(self, transport: Any) -> None:
        """It stands."""
        self._transport = transport
        if self._over:
            transport.abortConnection()
            return
        transport.setTcpNoDelay(True)
        if self._header:
            transport.write(self._header)
        if self._tls is None:
            self.opened.callback(self)
        else:
            self._secure(self._tls, transport)

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def _secure(self, settings: ClientTls, transport: Any) -> None:
        from lemmytx.net.tls.connection import Tls

        tls = Tls(
            settings.context(self._protocol),
            self,
            False,
            settings.name(self._host),
            settings.session(self._protocol, self._where),
        )
        self._handshake = tls
        transport.protocol = tls
        tls.makeConnection(transport)

    def secured(self, tls: Tls) -> None:
        """See L{lemmytx.net.tls.connection.Inside}."""
        settings = self._tls
        assert settings is not None
        refusal = settings.refusal(tls, self._protocol)
        self._transport = tls
        tls.protocol = self
        if refusal is not None:
            tls.abortConnection()
            self.opened.errback(Unhealthy(f"TLS: {refusal}"))
            return
        settings.established(tls, self._protocol, self._where)
        self.opened.callback(self)

    def insecure(self, reason: str) -> None:
        """See L{lemmytx.net.tls.connection.Inside}."""
        settings, tls = self._tls, self._handshake
        assert settings is not None
        if not self._over:
            if tls is not None and tls.error is not None:
                reason = explained(tls.error, settings.name(self._host), tls.object)
            self.opened.errback(Unhealthy(f"TLS: {reason}"))

    def dataReceived(self, data: bytes) -> None:
        """Something has come."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(data)
            return
        if self._over:
            return
        self._buffer.append(data)
        self._unread += len(data)
        if self._unread > UNREAD and not self._paused:
            self._paused = True
            self._transport.pauseProducing()

    def connectionLost(self, reason: Failure) -> None:
        """It is over."""
        self._ended = True
        if reason.check(ConnectionDone) is None:
            self._end = Unhealthy(f"the connection is lost: {reason.getErrorMessage().rstrip('.')}")
        reader, self._reader = self._reader, None
        if reader is not None:
            if self._end is None:
                reader.callback(b"")
            else:
                reader.errback(self._end)
