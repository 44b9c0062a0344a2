"""
Connecting to a backend, for one exchange: everything that comes before the first byte of the request.

The stages, each within what is left of C{timeouts.connect}::

    TCP, or unix     the backend's addresses, as RFC 8305 has it ("happy eyeballs"): the families take turns, the next
                     address is tried as soon as one has failed, or after 250 ms beside those that are still tried; the
                     first that connects wins
    PROXY protocol   the header that names the client
    TLS              the handshake, and what is to be verified after it

What comes of that carries the exchange. A backend that fails in any stage has not been reached: nothing of the request
is out, so it may go to another one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, IProtocol
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx import proxy_protocol
from lemmytx.cluster.backend import Backend
from lemmytx.net.ticker import Ticker
from lemmytx.net.tls.client import explained
from lemmytx.proxy.upstream import Upstream

if TYPE_CHECKING:
    from lemmytx.net.tls.connection import Tls
    from lemmytx.proxy.exchange import Exchange


log = Logger(namespace="lemmytx.proxy")

#: What the kernel says when it is we who have run out of something: descriptors, memory, ports of our own.
OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))

#: Seconds that an address has before the next one is tried beside it (RFC 8305 §5, "Connection Attempt Delay").
HEAD_START = 0.25

#: How many addresses of a name are tried. A name with more is no reason to knock at all their doors for one request.
MOST_ADDRESSES = 8


def in_turn(addresses: Sequence[str]) -> list[str]:
    """
    The order in which addresses are tried: IPv6 and IPv4 in turn, the family of the first one first, otherwise as they
    stand (RFC 8305 §4). No more than L{MOST_ADDRESSES}.
    """
    first = [address for address in addresses if (":" in address) is (":" in addresses[0])]
    other = [address for address in addresses if (":" in address) is not (":" in addresses[0])]
    turns: list[str] = []
    while first or other:
        if first:
            turns.append(first.pop(0))
        if other:
            turns.append(other.pop(0))
    return turns[:MOST_ADDRESSES]


class Dial:
    """
    See the module. Exactly one of C{exchange.connected}, C{exchange.connect_failed} and C{exchange.cannot_connect} is
    called, unless L{cancel} comes first.

    @ivar deadline: of the handshake; see L{lemmytx.net.ticker.Timed}.
    """

    __slots__ = (
        "_attempts", "_backend", "_exchange", "_left", "_next", "_ticker", "_tls", "_until", "check_at", "deadline",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, backend: Backend) -> None:
        self._exchange: Exchange | None = exchange
        self._backend = backend
        self._ticker = exchange.resource.ticker
        self._until = 0.0
        self._left: list[str] = []
        self._attempts: list[_Attempt] = []
        self._next: IDelayedCall | None = None
        self._tls: Tls | None = None
        self.deadline = inf
        self.check_at = inf

    def start(self) -> None:
        """Begin."""
        exchange = self._exchange
        assert exchange is not None
        addresses = self._backend.addresses
        self._left = in_turn(addresses) if len(addresses) > 1 else [*addresses] or [""]
        timeout = exchange.cluster.rules.connect
        self._until = self._ticker.seconds() + timeout
        self._try(timeout)

    def cancel(self) -> None:
        """Nobody waits for the connection any more."""
        self._exchange = None
        self._stop_trying()
        self._stop_handshake()

    # TCP, or unix

    def _try(self, timeout: float) -> None:
        """Try the next address, beside those that are being tried."""
        attempt = _Attempt(self, self._left.pop(0))
        self._attempts.append(attempt)
        if self._left:
            self._next = self._ticker.later(HEAD_START, self._try_next)
        try:
            attempt.connector = self._backend.connect(attempt, attempt.address, timeout)
        except OSError as error:
            # Making a TCP socket, Twisted reports this as a failed connection; a unix socket it lets fail.
            self._starved(error.strerror or str(error))

    def _try_next(self) -> None:
        self._next = None
        left = self._until - self._ticker.seconds()
        if left > 0:
            self._try(left)
        else:
            self._left = []

    def _stop_trying(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            if attempt.connector is not None:
                attempt.connector.disconnect()

    def failed(self, attempt: _Attempt, reason: Failure) -> None:
        """One of the addresses could not be connected to."""
        if attempt not in self._attempts:
            return  # by our own wish
        self._attempts.remove(attempt)
        number = getattr(reason.value, "osError", None)
        others = bool(self._left or self._attempts)
        # The last one of these is also what a machine without IPv6 says of an IPv6 address.
        if number in OURS and not (others and number == errno.EADDRNOTAVAIL):
            self._starved(os.strerror(number))
            return
        if self._left:
            if self._next is not None:
                self._next.cancel()
            self._try_next()
        if not self._attempts:
            self._fail(reason.check(TimeoutError) is not None, reason.getErrorMessage())

    def _starved(self, why: str) -> None:
        self._stop_trying()
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        try:
            exchange.cannot_connect(why)
        except Exception:
            exchange.break_down()

    def _fail(self, timed_out: bool, why: str, kind: str = "refused") -> None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        try:
            exchange.connect_failed(timed_out, why, kind)
        except Exception:
            exchange.break_down()

    def arrived(self, attempt: _Attempt, transport: Any) -> None:
        """One of the addresses is connected to."""
        exchange, backend = self._exchange, self._backend
        if exchange is None or attempt not in self._attempts:
            transport.abortConnection()
            return
        self._attempts.remove(attempt)
        self._stop_trying()
        backend.prefer(attempt.address)
        way = backend.way
        try:
            if way.proxy is not None:
                transport.write(_introduction(exchange, way.proxy))
            if way.tls is None:
                self._connected(transport)
            else:
                self._secure(transport)
        except Exception:
            self._exchange = None
            transport.abortConnection()
            exchange.break_down()

    # TLS

    def _secure(self, transport: Any) -> None:
        from lemmytx.net.tls.connection import Tls

        backend = self._backend
        way, location = backend.way, backend.location
        self._tls = tls = Tls(
            way.tls.context(way.protocol),
            self,
            False,
            way.tls.name(location.host),
            way.tls.session(way.protocol, location.url),
        )
        self.deadline = self._until
        self._ticker.watch(self)
        transport.protocol = tls
        tls.makeConnection(transport)

    def secured(self, tls: Tls) -> None:
        """The handshake is over, and the backend is who it should be, as far as OpenSSL can tell."""
        self._ticker.forget(self)
        self._tls = None
        way = self._backend.way
        refusal = way.tls.refusal(tls, way.protocol)
        if refusal is not None:
            tls.abortConnection()
            self._refuse(refusal)
            return
        way.tls.established(tls, way.protocol, self._backend.location.url)
        self._connected(tls)

    def insecure(self, reason: str) -> None:
        """The handshake has failed, and with it the connection."""
        self._ticker.forget(self)
        tls, self._tls = self._tls, None
        if self._exchange is not None:
            if tls is not None and tls.error is not None:
                reason = explained(tls.error, self._backend.way.tls.name(self._backend.location.host), tls.object)
            self._refuse(reason)

    def _refuse(self, why: str) -> None:
        """The backend is not who it should be, or speaks no TLS. That has to be known, so it is told at once."""
        exchange, backend = self._exchange, self._backend
        assert exchange is not None
        if backend.way.tls.news(backend.location.url, why, self._ticker.seconds()):
            log.error(
                "cluster {cluster}: TLS with backend {backend} fails: {why} (told once)",
                cluster=exchange.cluster.name,
                backend=backend.name,
                why=why,
            )
        self._fail(False, f"TLS: {why}", "tls")

    def expired(self) -> None:
        """The handshake takes too long."""
        tls, self._tls = self._tls, None
        self._fail(True, "it did not finish the TLS handshake in time")
        assert tls is not None
        tls.abortConnection()

    def _stop_handshake(self) -> None:
        self._ticker.forget(self)
        tls, self._tls = self._tls, None
        if tls is not None:
            tls.abortConnection()

    # The end

    def _connected(self, transport: Any) -> None:
        """All is done that comes before HTTP."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        carrier: Any = _carrier(self._backend, self._ticker)
        transport.protocol = carrier
        carrier.makeConnection(transport)
        try:
            exchange.connected(carrier)
        except Exception:
            exchange.break_down()


def _carrier(backend: Any, ticker: Ticker) -> Any:
    """What speaks the backend's protocol."""
    protocol = backend.way.protocol
    if protocol in ("http", "https"):
        return Upstream(backend, ticker)
    if protocol == "fcgi":
        from lemmytx.proxy.fastcgi import FastCgi

        return FastCgi(backend, ticker, backend.way.fastcgi)
    from lemmytx.proxy.http2_upstream import Http2Upstream

    return Http2Upstream(backend, ticker)


def _introduction(exchange: Exchange, version: str) -> bytes:
    """The header that tells a backend for whom the connection is made."""
    source, source_port, destination, destination_port = exchange.downstream.ends()
    if exchange.client != exchange.peer.client:
        # A proxy that we trust speaks for somebody else, of whom it does not tell the port.
        source, source_port = exchange.client, 0
    compose = proxy_protocol.compose_v1 if version == "v1" else proxy_protocol.compose_v2
    return compose(source, source_port, destination, destination_port)


@implementer(IProtocol)
class _Attempt(ClientFactory):
    """
    One address that is being tried. Stands in as the protocol, too, until the transport is ready to be written to.
    """

    noisy = False

    def __init__(self, dial: Dial, address: str) -> None:
        self.address = address
        self.connector: IConnector | None = None
        self._dial: Dial | None = dial

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Twisted: the connection is about to stand."""
        return self

    def makeConnection(self, transport: Any) -> None:
        """Twisted: it stands."""
        dial, self._dial = self._dial, None
        assert dial is not None
        dial.arrived(self, transport)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Twisted: no connection."""
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.failed(self, reason)

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """Cannot come: another protocol has taken the place."""

    def connectionLost(self, reason: Failure) -> None:
        """Cannot come either, but for a connection that was cancelled on arrival."""
