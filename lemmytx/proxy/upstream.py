"""
One connection to a backend.

It carries one exchange after another. The states of a connection, by its attributes::

    exchange   head    what comes next from the backend
    None       None    nothing: it is idle in the pool. Bytes now are nobody's answer: the connection is closed.
    set        None    a response head (interim ones first)
    set        set     the body: `remaining` bytes, chunks, or all until the end of the connection; a tunnel's bytes

The end of the connection (EOF, reset, or a write that failed; the reactor tells them apart, we hardly need to)::

    exchange   head    body                        means
    None       -       -                           the idle upstream leaves the pool
    set        None    -                           no answer: the exchange may try again (L{Exchange.upstream_gone})
    set        set     until close, by EOF         the end of the response
    set        set     until close, by reset       a response cut short
    set        set     any other                   a response cut short
    set        set     tunnel                      the half or the end of the tunnel
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.cluster.backend import Backend
from lemmytx.http1 import codec
from lemmytx.message import CHUNKED, UNTIL_CLOSE, ProtocolError, ResponseHead
from lemmytx.net.splice import WORTH_IT, Splice, can_splice
from lemmytx.net.ticker import Ticker
from lemmytx.net.tls.client import explained
from lemmytx.proxy.body import OutgoingBody
from lemmytx.proxy.single import Single

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange

log = Logger(namespace="lemmytx.proxy")

#: Interim responses that one request may get. A backend that sends 1xx without end must not hold a client for ever.
INTERIM_LIMIT = 32


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Upstream(Single):
    """See the module, and L{Single}."""

    __slots__ = ("_buffer", "_chunks", "_in_chunks", "_interim", "_remaining", "_splice", "head")

    def __init__(self, backend: Backend, ticker: Ticker) -> None:
        super().__init__(backend, ticker)
        self.head: ResponseHead | None = None
        self._buffer: bytes | bytearray = b""
        self._remaining = 0
        self._chunks: codec.ChunkedBody | None = None
        self._in_chunks = False  # the request's body
        self._splice: Splice | None = None
        self._interim = 0

    # Requests

    def carry(self, exchange: Exchange, head: bytes, body: OutgoingBody | None, deadline: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.exchange = exchange
        self.served += 1
        self.answered = False
        self._interim = 0
        self.deadline = deadline
        if deadline < self.check_at:
            self.ticker.watch(self)
        if body is not None:
            self._in_chunks = body.chunked
            head += self._framed(body.so_far(), body.ended, body.trailers)
        transport = self.transport
        transport.write(head)
        self.refused = getattr(transport, "failed_write", False)

    def _framed(self, body: bytes, ended: bool, trailers: bytes) -> bytes:
        """A part of a request's body as it goes over the connection."""
        if not self._in_chunks:
            return body
        framed = codec.chunk(body) if body else b""
        return framed + codec.last_chunk(trailers) if ended else framed

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.transport.write(self._framed(body, ended, trailers))

    def write(self, data: bytes) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.transport.write(data)

    def half_close(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.transport.loseWriteConnection()

    def body_sink(self) -> Any | None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        return None if self._in_chunks else self.transport

    # The pool

    def abandon(self) -> None:
        """What it carries is over before its time: the connection is in the middle of something and cannot be kept."""
        self.exchange = None
        self.deadline = inf
        if self._splice is not None:
            self._splice.stop()
            self._splice = None
        self.transport.abortConnection()

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        """Bytes came from the backend."""
        exchange = self.exchange
        if exchange is None:
            # Nobody asked. Whoever is served next must not get this as an answer.
            self.backend.lost(self)
            self.transport.abortConnection()
            return
        self.answered = True
        if self.head is not None:
            self._body(exchange, data)
            return
        resource = exchange.resource
        size_limit = resource.response_size
        if self._buffer:
            self._buffer += data
            if not (b"\n" in data or b"\r" in data) and len(self._buffer) <= size_limit:
                return  # no line has ended: the codec would hardly get further than last time
            data = bytes(self._buffer)
        try:
            head = codec.response(data, exchange.head.method == b"HEAD", size_limit, resource.response_fields)
        except ProtocolError as error:
            exchange.upstream_broke(error)
            return
        if head is None:
            self._buffer = bytearray(data)
            return
        self._buffer = b""
        if head.status < 200:
            self._informed(exchange, head, data)
            return
        size = head.size
        length = head.length
        if length >= 0:
            have = len(data) - size
            if have == length:
                self.deadline = inf
                exchange.respond(head, data[size:] if have else b"", True, head.keep_alive)
                return
            if have > length:
                # More than was announced: the rest is nobody's, and the connection cannot be trusted any more.
                exchange.respond(head, data[size : size + length], True, False)
                return
            self.head = head
            self._remaining = length - have
            if exchange.respond(head, data[size:], False, False):
                self._flow(exchange)
        elif length == CHUNKED:
            self.head = head
            self._chunks = chunks = codec.ChunkedBody()
            try:
                payload = chunks.feed(data[size:])
            except ProtocolError as error:
                exchange.upstream_broke(error)
                return
            if chunks.done:
                self._ended()
                exchange.respond(head, payload, True, head.keep_alive and not chunks.rest, chunks.trailers)
            elif exchange.respond(head, payload, False, False):
                self._flow(exchange)
        else:
            assert length == UNTIL_CLOSE
            self.head = head
            if exchange.respond(head, data[size:], False, False):
                self._flow(exchange)

    def _informed(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        """An interim response, or the one that opens a tunnel."""
        rest = data[head.size :]
        if head.status == 101:
            if exchange.head.upgrade is None:
                exchange.upstream_broke(ProtocolError(502, "101 to a request that asked for no upgrade"))
                return
            self.head = head
            exchange.open_tunnel(head, rest)
            return
        self._interim += 1
        if self._interim > INTERIM_LIMIT:
            exchange.upstream_broke(ProtocolError(502, f"more than {INTERIM_LIMIT} interim responses"))
            return
        if self.deadline != inf:
            self.await_response(exchange.read_timeout)
        exchange.inform(head)
        if rest and self.exchange is exchange:
            self.dataReceived(rest)

    def _flow(self, exchange: Exchange) -> None:
        """The response goes on: keep its time, and let the kernel move the rest where that is worth it."""
        if not self.paused:
            self.await_response(exchange.read_timeout)
        if self._remaining >= WORTH_IT and not self.paused:
            sink = exchange.downstream.body_sink()
            if sink is not None and can_splice(self.transport, sink):
                try:
                    self._splice = Splice(self.transport, sink, self._remaining, self, self._spliced, self._splice_done)
                except OSError:
                    # No descriptors left for a pipe: copying works without.
                    self._splice = None

    def _spliced(self, count: int) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.sent += count
        self._remaining -= count
        if self.paused:
            # The client is slow, but it is there.
            exchange.downstream.stalled(True)
        else:
            self.deadline = self.ticker.seconds() + exchange.read_timeout

    def _splice_done(self) -> None:
        exchange, head = self.exchange, self.head
        assert exchange is not None
        assert head is not None
        self._splice = None
        self._ended()
        exchange.carry_on(b"", True, head.keep_alive)

    def _body(self, exchange: Exchange, data: bytes) -> None:
        head = self.head
        assert head is not None
        if exchange.tunnel:
            exchange.tunnel.from_backend(data)
            return
        if self._remaining:
            over = len(data) - self._remaining
            if over < 0:
                self._remaining = -over
                if exchange.carry_on(data, False, False):
                    self._flow(exchange)
                return
            if over:
                data = data[: self._remaining]
            self._ended()
            exchange.carry_on(data, True, head.keep_alive and not over)
        elif self._chunks is not None:
            chunks = self._chunks
            try:
                payload = chunks.feed(data)
            except ProtocolError as error:
                exchange.upstream_broke(error)
                return
            if chunks.done:
                self._ended()
                exchange.carry_on(payload, True, head.keep_alive and not chunks.rest, chunks.trailers)
            elif not payload or exchange.carry_on(payload, False, False):
                self._flow(exchange)
        elif exchange.carry_on(data, False, False):
            self._flow(exchange)

    def _ended(self) -> None:
        """The response is whole: as before its head."""
        self.head = None
        self._chunks = None
        self._remaining = 0
        self.deadline = inf

    def readConnectionLost(self) -> None:
        """The backend has closed its half."""
        exchange = self.exchange
        if exchange is not None and exchange.tunnel:
            exchange.tunnel.backend_half_closed()
            return
        self._gone(True)
        self.close()

    def writeConnectionLost(self) -> None:
        """Our half is closed; only a tunnel does that."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""
        self.ticker.forget(self)
        if self._splice is not None:
            self._splice.stop()
            self._splice = None
        self._gone(reason.check(ConnectionDone) is not None)

    def _gone(self, orderly: bool) -> None:
        exchange = self.exchange
        if exchange is None:
            self.backend.lost(self)
            return
        try:
            self._ended_by(exchange, orderly)
        except Exception:
            exchange.break_down()

    def _ended_by(self, exchange: Exchange, orderly: bool) -> None:
        """The connection is gone, and with it an exchange, or its last part."""
        if exchange.tunnel:
            exchange.tunnel_lost()
        elif orderly and self.head is not None and self.head.length == UNTIL_CLOSE:
            self._ended()
            exchange.carry_on(b"", True, False)
        else:
            error = getattr(self.transport, "error", None)
            exchange.upstream_gone(orderly, "" if error is None else explained(error))
