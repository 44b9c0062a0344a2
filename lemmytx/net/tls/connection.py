"""
TLS on a connection: a protocol towards the raw transport, a transport towards what is inside.

It works through memory: what the raw transport brings goes into OpenSSL by L{ssl.MemoryBIO}, and what OpenSSL wants to
send comes out of another. So it sits on any transport (ours, Twisted's, one in a test), and our transports' way of
sending at once, their queue, their producers and their half close stay what they are; what is queued there is
ciphertext. Measured for 100 bytes in and 250 out over TLS 1.3, with the system calls, CPU per exchange in one run:
plain 21.3 µs; C{ssl.SSLSocket} on the descriptor 27.9, with OpenSSL's read-ahead 27.5; this way 25.1 to 27.7; the same
in Cython 23.5. The socket's own TLS reads twice for each record and raises an exception for each reading that finds
nothing; this one raises none on the usual way.

The states, by the attributes::

    _open    _over    what it is
    False    False    the handshake is under way
    True     False    C{protocol} gets what comes
    any      True     C{protocol} has been told the end, or C{inside} that the handshake failed; nothing more comes

and while it is open: C{_ended} is the peer's close_notify, C{_shut} our own, C{_closing} a C{loseConnection} that waits
for a producer to finish, as C{loseConnection} does everywhere in Twisted.

B{Ends.} A peer's close_notify is the end of its half: a protocol that knows half-closed connections hears of it, any
other connection is closed. The end of the connection without one could be anybody's doing (RFC 8446 §6.1): the protocol
is told L{ConnectionLost}, never C{ConnectionDone}.

B{Bounds.} Plaintext is not kept, except one reading of a connection that was paused in the middle. Whoever makes us
answer without reading the answers (RFC 8446 §4.6.3: each KeyUpdate may ask for one) is cut off after L{MOST_ANSWERS}.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    INegotiated,
    IProtocol,
    IPushProducer,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.net.tls.reasons import explain

#: The most that one record carries (RFC 8446 §5.1).
RECORD = 16 * 1024

#: How much goes into OpenSSL's memory at once: a record and what is around it. That memory is never given back while
#: the connection lives, so a long body does not go through it in one piece.
SLICE = RECORD + 512

#: How many answers of TLS itself may wait for a peer that reads nothing.
MOST_ANSWERS = 64


def _shake_quietly(connection: ssl.SSLObject) -> None:
    """
    C{do_handshake} of a server. A client may ask for a name that is not ASCII; C{ssl} refuses that, as it should, but
    prints a traceback to standard error for each, with which anybody could fill a log.
    """
    usual = sys.unraisablehook

    def hear(what: Any) -> None:
        if not (isinstance(what.exc_value, UnicodeDecodeError) and type(what.object) is bytes):
            usual(what)

    sys.unraisablehook = hear
    try:
        connection.do_handshake()
    finally:
        sys.unraisablehook = usual


class Inside(Protocol):
    """What a connection becomes when its handshake is over. One of the two is called, once."""

    def secured(self, tls: Tls) -> None:
        """
        The handshake is over. To be done here: C{tls.protocol = protocol; protocol.makeConnection(tls)}. What the peer
        has sent already comes after that.
        """

    def insecure(self, reason: str) -> None:
        """
        There will be no TLS: the handshake failed, or the connection ended before it was over, whoever ended it. The
        raw connection is being closed.

        @param reason: for the log; safe to print.
        """


@implementer(IHalfCloseableProtocol, INegotiated, IPushProducer, IConsumer)
class Tls:
    """
    Made for one connection; its raw transport's C{protocol}.

    @ivar protocol: what is inside: assigned in L{Inside.secured}.
    @ivar negotiated: what ALPN agreed on, as L{negotiatedProtocol} too; L{None} without.
    @ivar version: C{TLSv1.3} and the like; empty before the handshake is over; C{cipher} too.
    @ivar server_name: what the client asked for (SNI); on the server's side L{None} where it did not.
    @ivar resumed: whether this continues an earlier session.
    @ivar peer_der: the other side's certificate; L{None} where it has shown none. It was verified as the context says.
    @ivar error: what OpenSSL said of a handshake that failed, or of what came after it that cannot be trusted.
    """

    __slots__ = (
        "_answers", "_closing", "_ended", "_ends", "_incoming", "_inside", "_object", "_open", "_outgoing", "_over",
        "_paused", "_producing", "_raw", "_server_side", "_shut", "cipher", "error", "negotiated", "peer_der",
        "protocol", "resumed", "server_name", "version",
    )  # fmt: skip

    #: Bytes cannot go around us (L{lemmytx.net.splice}).
    plain = False

    _raw: Any

    def __init__(
        self,
        context: ssl.SSLContext,
        inside: Inside,
        server_side: bool,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """
        @param server_name: on the client's side: whom to ask for (SNI), and, with C{check_hostname}, whose certificate
            it has to be: a name or an address.
        @param session: on the client's side: one that L{session} gave, to be resumed.
        @raise ValueError: C{server_name} cannot be one.
        """
        self._raw = None
        self._inside: Inside | None = inside
        self._server_side = server_side
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_name, session)
        self._open = False
        self._over = False
        self._ended = False
        self._ends = False  # the peer's half has ended, but the protocol does not read just now
        self._shut = False
        self._closing = False
        self._paused = False
        self._producing = False
        self._answers = 0
        self.protocol: IProtocol | None = None
        self.negotiated: bytes | None = None
        self.version = ""
        self.cipher = ""
        self.server_name = server_name
        self.resumed = False
        self.peer_der: bytes | None = None
        self.error: ssl.SSLError | None = None

    # As the protocol of the raw transport

    def makeConnection(self, transport: Any) -> None:
        """The connection is there. A client begins."""
        self._raw = transport
        if not self._server_side:
            self._shake()

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self._open and not self._paused and not self._ended and len(data) <= SLICE:
            # The usual case: one record, or a few small ones.
            incoming = self._incoming
            incoming.write(data)
            try:
                plaintext = self._object.read(RECORD)
            except ssl.SSLError as error:
                self._deliver([], error, False)
                return
            if plaintext and not incoming.pending and not self._object.pending() and not self._outgoing.pending:
                assert self.protocol is not None
                self.protocol.dataReceived(plaintext)
            else:
                self._decrypt(b"", plaintext)
        elif self._over or self._ended:
            return
        elif self._open:
            if self._paused:
                # The raw transport has been paused; these bytes were on their way.
                self._incoming.write(data)
            else:
                self._decrypt(data)
        else:
            self._incoming.write(data)
            self._shake()

    def _decrypt(self, data: bytes, first: bytes | None = None) -> None:
        """
        All that can be had out of C{data} and of what came before it, in one piece for the protocol.

        @param first: what reading gave already: empty at the end.
        """
        parts: list[bytes] = []
        failure: ssl.SSLError | None = None
        ended = first == b""
        if first:
            parts.append(first)
        incoming, read, pending = self._incoming, self._object.read, self._object.pending
        rest = memoryview(data)
        look = first is None and not data  # there may be an end that OpenSSL has taken note of already
        while not ended and failure is None:
            if rest:
                incoming.write(rest[:SLICE])
                rest = rest[SLICE:]
            while look or incoming.pending or pending():
                look = False
                try:
                    plaintext = read(RECORD)
                except ssl.SSLWantReadError:
                    break
                except ssl.SSLError as error:
                    failure = error
                    break
                if not plaintext:
                    ended = True
                    break
                parts.append(plaintext)
            if not rest:
                break
        self._deliver(parts, failure, ended)

    def _deliver(self, parts: list[bytes], failure: ssl.SSLError | None, ended: bool) -> None:
        if self._outgoing.pending:
            self._answer()
            if self._over:
                return
        if parts:
            assert self.protocol is not None
            self.protocol.dataReceived(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._over or self._ended or self._closing or isinstance(failure, ssl.SSLWantReadError):
            return
        if isinstance(failure, ssl.SSLZeroReturnError):
            # The peer's close_notify, when ours is out already; C{ssl} gives an empty result only before that.
            failure, ended = None, True
        if failure is not None:
            self.error = failure
            self._break(explain(failure))
        elif ended:
            self._ended = True
            if self._paused:
                self._ends = True
            else:
                self._peer_ended()

    def _answer(self) -> None:
        """TLS itself has something to say: an alert, an answer to a KeyUpdate."""
        raw = self._raw
        if getattr(raw, "quiet", False):
            self._answers = 0
        self._answers += 1
        if self._answers > MOST_ANSWERS:
            self._break("asks for more and more, and reads nothing")
        else:
            raw.write(self._outgoing.read())

    def _peer_ended(self) -> None:
        """The peer says no more."""
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            half.readConnectionLost()
        else:
            self.loseConnection()

    def readConnectionLost(self) -> None:
        """The raw connection brings no more. Without a close_notify before it, that is no end but a loss."""
        if self._over or self._ended:
            return
        if not self._open:
            self._fail("the peer closed the connection during the handshake")
            return
        self._paused = False
        self._decrypt(b"")
        if not (self._over or self._ended):
            self._break("the peer closed the connection without close_notify")

    def writeConnectionLost(self) -> None:
        """Our half is closed."""
        half = IHalfCloseableProtocol(self.protocol, None)
        if half is not None:
            half.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """The raw connection is over."""
        if self._over:
            return
        if not self._open:
            self._fail("the connection was lost during the handshake")
            return
        if reason.check(ConnectionDone) and not (self._ended or self._shut or self._closing):
            reason = Failure(ConnectionLost("the peer closed the connection without close_notify"))
        self._end(reason)

    def broke_down(self) -> None:
        """See L{lemmytx.net.transports}: an error of our own came out of what is inside. In an C{except} clause."""
        broke_down = getattr(self.protocol, "broke_down", None)
        if broke_down is None:
            raise  # what is being handled
        broke_down()

    # The handshake

    def _shake(self) -> None:
        """As far as it gets with what has come."""
        if self._over:
            return
        try:
            if self._server_side:
                _shake_quietly(self._object)
            else:
                self._object.do_handshake()
        except ssl.SSLWantReadError:
            if self._outgoing.pending:
                self._raw.write(self._outgoing.read())
            return
        except ssl.SSLError as error:
            if self._outgoing.pending:
                self._raw.write(self._outgoing.read())  # the alert
            self.error = error.with_traceback(None)  # which would hold this object
            self._fail(explain(error))
            return
        self._opened()

    def _opened(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())
        secured = self._object
        chosen = secured.selected_alpn_protocol()
        self.negotiated = None if chosen is None else chosen.encode("latin-1")
        self.version = secured.version() or ""
        cipher = secured.cipher()
        self.cipher = "" if cipher is None else cipher[0]
        self.resumed = bool(secured.session_reused)
        self.peer_der = secured.getpeercert(True)
        if self._server_side:
            self.server_name = getattr(secured, "asked", None)
        self._open = True
        inside, self._inside = self._inside, None
        assert inside is not None
        inside.secured(self)
        if not (self._over or self._paused) and (self._incoming.pending or secured.pending()):
            self._decrypt(b"")

    def _fail(self, reason: str) -> None:
        """The handshake leads nowhere."""
        self._over = True
        self._close_raw()
        inside, self._inside = self._inside, None
        assert inside is not None
        inside.insecure(reason)

    # Ends

    def _break(self, why: str) -> None:
        """What the peer sends cannot be trusted any more."""
        raw = self._raw
        if self._outgoing.pending:
            raw.write(self._outgoing.read())
        if self._producing:
            producer = getattr(raw, "producer", None)
            self._producing = False
            raw.unregisterProducer()
            if producer is not None:
                producer.stopProducing()
        self._close_raw()
        self._end(Failure(ConnectionLost(why)))

    def _close_raw(self) -> None:
        if getattr(self._raw, "quiet", True):
            self._raw.loseConnection()
        else:
            # Nobody would wait any more for what is queued to be read.
            self._raw.abortConnection()

    def _end(self, reason: Failure) -> None:
        self._over = True
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)

    def _shut_down(self) -> None:
        """Send our close_notify, once."""
        if self._shut:
            return
        self._shut = True
        try:
            self._object.unwrap()
        except ssl.SSLError:
            # It wants to wait for the peer's, or finds data before it; or the handshake is not over. Ours is out.
            pass
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    # As the transport of what is inside

    def write(self, data: bytes) -> None:
        """See L{twisted.internet.interfaces.ITransport}. After our end nothing is sent any more."""
        if self._shut or not self._open or self._over or not data:
            return
        encrypt = self._object.write
        try:
            if len(data) <= RECORD:
                encrypt(data)
                self._raw.write(self._outgoing.read())
                return
            records = []
            rest = memoryview(data)
            while rest:
                encrypt(rest[:RECORD])
                records.append(self._outgoing.read())
                rest = rest[RECORD:]
        except ssl.SSLError:
            # After an error in reading, OpenSSL takes no more. The end is told from the reactor, not to a caller who is
            # in the middle of something.
            self.abortConnection()
            return
        self._raw.write(b"".join(records))

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See L{twisted.internet.interfaces.ITransport}."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Send what is queued, our close_notify, and close; when there is a producer: once it has finished."""
        if self._over:
            return
        if self._producing:
            self._closing = True
            self._raw.pauseProducing()
            return
        self._closing = True
        if self._open:
            self._shut_down()
        self._raw.loseConnection()

    def loseWriteConnection(self) -> None:
        """End our half, with close_notify. What the peer sends still comes."""
        if self._over or not self._open:
            return
        self._shut_down()
        self._raw.loseWriteConnection()

    def abortConnection(self) -> None:
        """End it at once, without a word."""
        self._shut = self._ended = True
        self._raw.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See L{twisted.internet.interfaces.IConsumer}. It is the raw transport that calls it."""
        if self._over:
            producer.stopProducing()
            return
        self._raw.registerProducer(producer, streaming)
        self._producing = True

    def unregisterProducer(self) -> None:
        """See L{twisted.internet.interfaces.IConsumer}."""
        if not self._producing:
            return
        self._producing = False
        self._raw.unregisterProducer()
        if self._closing and not self._over:
            self.loseConnection()

    def pauseProducing(self) -> None:
        """No more for the protocol until L{resumeProducing}."""
        if not self._over:
            self._paused = True
            self._raw.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on. What has been decrypted meanwhile comes first, from the reactor."""
        if self._over or self._closing:
            return
        self._raw.resumeProducing()
        if not self._paused:
            return
        self._paused = False
        if self._ends or self._incoming.pending or self._object.pending():
            reactor = getattr(self._raw, "reactor", None)
            if reactor is None:
                self._go_on()
            else:
                reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        """With what came while it was paused."""
        if self._over or self._paused:
            return
        try:
            if self._ends:
                self._ends = False
                self._peer_ended()
            elif not self._ended:
                self._decrypt(b"")
        except Exception:
            # As in reading from the socket: the error ends this connection, and those who wait for it hear of it.
            if getattr(self.protocol, "broke_down", None) is None:
                self._raw.abortConnection()
                raise
            self.broke_down()

    def stopProducing(self) -> None:
        """See L{twisted.internet.interfaces.IPushProducer}."""
        self.loseConnection()

    def getPeer(self) -> Any:
        """See L{twisted.internet.interfaces.ITransport}."""
        return self._raw.getPeer()

    def getHost(self) -> Any:
        """See L{twisted.internet.interfaces.ITransport}."""
        return self._raw.getHost()

    def getHandle(self) -> Any:
        """The socket. What can be peeked at there is ciphertext."""
        return self._raw.getHandle()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See L{twisted.internet.interfaces.ITCPTransport}."""
        self._raw.setTcpNoDelay(enabled)

    def getTcpNoDelay(self) -> bool:
        """See L{twisted.internet.interfaces.ITCPTransport}."""
        return bool(self._raw.getTcpNoDelay())

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """See L{twisted.internet.interfaces.ITCPTransport}."""
        self._raw.setTcpKeepAlive(enabled)

    def getTcpKeepAlive(self) -> bool:
        """See L{twisted.internet.interfaces.ITCPTransport}."""
        return bool(self._raw.getTcpKeepAlive())

    def getPeerCertificate(self) -> Any:
        """
        See L{twisted.internet.interfaces.ISSLTransport}.

        @return: a C{cryptography.x509.Certificate}, or L{None}.
        """
        if self.peer_der is None:
            return None
        from cryptography.x509 import load_der_x509_certificate  # slow to import, and hardly anybody asks

        return load_der_x509_certificate(self.peer_der)

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """What ALPN agreed on, under Twisted's name."""
        return self.negotiated

    @property
    def object(self) -> ssl.SSLObject:
        """OpenSSL's view of it, for who wants to know more of a handshake that failed."""
        return self._object

    @property
    def session(self) -> ssl.SSLSession | None:
        """On the client's side: what the server gave for the next connection; in TLS 1.3 after the handshake."""
        return self._object.session

    @property
    def reactor(self) -> Any:
        """The raw transport's."""
        return self._raw.reactor

    @property
    def connected(self) -> bool:
        """Whether anything can be sent and come."""
        return not self._over and bool(self._raw.connected)

    @property
    def disconnecting(self) -> bool:
        """Whether the connection is being closed."""
        return self._closing or bool(self._raw.disconnecting)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent."""
        return bool(getattr(self._raw, "quiet", True))

    @property
    def queued(self) -> int:
        """How many bytes wait to be sent: ciphertext."""
        return int(getattr(self._raw, "queued", 0))

    @property
    def bufferSize(self) -> int:
        """How many may wait before a producer is paused."""
        return int(getattr(self._raw, "bufferSize", 65536))

    @property
    def failed_write(self) -> bool:
        """See L{lemmytx.net.transports.SendsAtOnce}."""
        return bool(getattr(self._raw, "failed_write", False))

    @property
    def behind(self) -> bool:
        """See L{lemmytx.net.transports.SendsAtOnce}."""
        return bool(getattr(self._raw, "behind", False))

    @behind.setter
    def behind(self, behind: bool) -> None:
        self._raw.behind = behind

    def __repr__(self) -> str:
        state = "over" if self._over else f"{self.version} {self.cipher}" if self._open else "handshake"
        return f"<Tls {'server' if self._server_side else 'client'} {state} {self.protocol!r}>"
