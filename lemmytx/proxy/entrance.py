"""
What comes before HTTP on a connection, where its listener's L{Terms} ask for it.

The stages, in this order; each is passed or the connection ends::

    PROXY protocol    the header, whole within C{timeouts.header}, from a trusted peer
    TLS               the handshake, within the listener's time for it
    choice            HTTP/2 or HTTP/1.1: over TLS as agreed in the handshake (ALPN), else by the first bytes, which
                      for HTTP/2 are its preface (RFC 9113 §3.3, prior knowledge)

After that the connection belongs to a downstream. A peer that sends something else, or nothing, costs this one
connection, and no line in the log: it is counted (L{Listener.refused}).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx import proxy_protocol
from lemmytx.message import ProtocolError
from lemmytx.net.tls.connection import Tls
from lemmytx.net.tls.peer import client_fields
from lemmytx.proxy.downstream import Downstream
from lemmytx.proxy.forward import Peer
from lemmytx.proxy.http2 import Http2Downstream

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange
    from lemmytx.proxy.listener import Listener

log = Logger(namespace="lemmytx.proxy")

#: What a client of HTTP/2 begins with (RFC 9113 §3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@implementer(IProtocol)
class Entrance:
    """
    A connection that is not a downstream yet.

    @ivar address: whom it comes from: the peer's, or what a PROXY protocol header says; empty for a unix socket.
    @ivar header: the PROXY protocol header, if there was one.
    @ivar tls: the connection's TLS, if it has one.
    @ivar secure: whether the client speaks TLS.
    @ivar handshaking: whether it is counted among the handshakes.
    """

    __slots__ = (
        "_buffer", "_header_awaited", "address", "check_at", "deadline", "handshaking", "header", "listener", "peer",
        "secure", "tls", "transport",
    )  # fmt: skip

    transport: Any

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport = None
        self.peer: Peer = listener.nobody
        self.address = ""
        self.header: proxy_protocol.Header | None = None
        self.tls: Tls | None = None
        self.secure = False
        self.handshaking = False
        self.deadline = inf
        self.check_at = inf
        self._buffer = b""
        self._header_awaited = listener.terms.proxy_protocol

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        """A client has connected."""
        self.transport = transport
        listener = self.listener
        terms = listener.terms
        listener.entered(self)
        self.address = getattr(transport.getPeer(), "host", None) or ""
        if self._header_awaited:
            if not listener.resource.forwarding.peer(self.address, b"", terms.trusted).trusted:
                self._refuse("proxy_protocol")
                return
            self._set_deadline(listener.timeouts.header)
        elif terms.tls is not None:
            self._secure()
        elif ISSLTransport.providedBy(transport):
            # The endpoint has seen to it. Where it is not ours, the handshake may still be under way.
            self.secure = True
            if isinstance(transport, Tls):
                self.secured(transport)
            else:
                self._set_deadline(listener.timeouts.header)
        else:
            self._set_deadline(listener.timeouts.header)

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came from the client, before there is TLS."""
        if self._buffer:
            data = self._buffer + data
        if self._header_awaited:
            try:
                header = proxy_protocol.parse(data)
            except ProtocolError:
                self._refuse("proxy_protocol")
                return
            if header is None:
                self._buffer = data
                return
            self._header_awaited = False
            self.header = header
            if header.source:
                self.address = header.source
            data = data[header.size :]
            self._buffer = b""
            if self.listener.terms.tls is not None:
                self._secure()
                if data:
                    assert self.tls is not None
                    self.tls.dataReceived(data)
                return
        if getattr(self.transport, "negotiatedProtocol", None) == b"h2":
            self._hand_over(Http2Downstream(self.listener, self), self.transport, data)
        elif not self.listener.terms.http2:
            self._hand_over(Downstream(self.listener, self), self.transport, data)
        elif data[: len(PREFACE)] == PREFACE[: len(data)]:
            if len(data) < len(PREFACE):
                self._buffer = data
            else:
                self._hand_over(Http2Downstream(self.listener, self), self.transport, data)
        elif b"\r\n" in data and b" HTTP/1." not in data.partition(b"\r\n")[0]:
            # No request line of HTTP/1.1, so rather a bad preface: who speaks HTTP/2 understands a GOAWAY alone.
            self._hand_over(Http2Downstream(self.listener, self), self.transport, data)
        else:
            self._hand_over(Downstream(self.listener, self), self.transport, data)

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""
        self._gone()

    # TLS

    def _secure(self) -> None:
        listener = self.listener
        self._set_deadline(listener.terms.handshake_timeout)
        listener.handshake_began(self)
        self.tls = tls = listener.terms.tls.connection(self)
        self.transport.protocol = tls
        tls.makeConnection(self.transport)

    def secured(self, tls: Tls) -> None:
        """The handshake is over."""
        self.tls = tls
        self.secure = True
        self.listener.handshake_ended(self)
        if tls.negotiated == b"h2":
            self._hand_over(Http2Downstream(self.listener, self), tls, b"")
        else:
            self._hand_over(Downstream(self.listener, self), tls, b"")

    def insecure(self, reason: str) -> None:
        """The handshake has failed, and the connection is over, or about to be."""
        if self.deadline != inf:  # else it is we who ended it
            self.listener.refused("handshake")
        self._gone()

    @property
    def scheme(self) -> bytes:
        """What the client has used."""
        return b"https" if self.secure else b"http"

    def introduce(self, peer: Peer) -> None:
        """Add to what is known of the client what the stages have told."""
        tls = self.tls
        told = b""
        if self.secure:
            peer.hsts = self.listener.terms.hsts
        if tls is not None:
            name = tls.server_name
            sni = b"null" if name is None else json.dumps(name).encode("ascii")
            # Versions and ciphers have OpenSSL's names, which need no quoting.
            told = b',"tls":"%b","cipher":"%b","sni":%b' % (tls.version.encode(), tls.cipher.encode(), sni)
            if tls.peer_der is not None:
                peer.certify(client_fields(tls))
        if self.header is not None and self.header.tlvs:
            fields = json.dumps(proxy_protocol.described(self.header.tlvs), separators=(",", ":"))
            told += b',"proxy_protocol":%b' % fields.encode("ascii")
        if told:
            peer.told = told

    # The end of this

    def _hand_over(self, downstream: Any, transport: Any, data: bytes) -> None:
        self.deadline = inf
        self.listener.ticker.forget(self)
        transport.protocol = downstream
        downstream.makeConnection(transport)
        if data:
            downstream.dataReceived(data)

    def _refuse(self, what: str) -> None:
        self.listener.refused(what)
        self.deadline = inf
        self.transport.abortConnection()

    def _gone(self) -> None:
        self.deadline = inf
        self.listener.handshake_ended(self)
        self.listener.disconnected(self)
        self.listener.ticker.forget(self)

    def _set_deadline(self, seconds: float) -> None:
        ticker = self.listener.ticker
        self.deadline = ticker.seconds() + seconds
        if self.deadline < self.check_at:
            ticker.watch(self)

    def expired(self) -> None:
        """It took too long."""
        self._refuse("timeout")

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of what we do with the client's bytes."""
        log.failure("a connection was ended by an error of our own before its first request")
        self.transport.abortConnection()

    # What the listener calls, as of any downstream

    def exchanges(self) -> Iterable[Exchange]:
        """There are none yet."""
        return ()

    def drain(self) -> None:
        """It may still become a downstream, which is told then."""

    def abort(self) -> None:
        """The process ends."""
        self.transport.abortConnection()
