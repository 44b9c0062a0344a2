"""
One connection from a client, HTTP/1.1.

It reads one request at a time: the next head is looked at when the exchange before it has ended (pipelined requests
wait in the buffer, and the socket waits while there is something in the buffer). States, by the attributes::

    exchange   buffer     intake          reading
    None       empty      -               idle, waiting for a head
    None       begun      -               a head is arriving
    set        -          set             the body of the request is arriving (L{Intake})
    set        -          None            the request is whole; the response is awaited or on its way; or a tunnel
    None       -          any, lingering  an answer was sent before the request had ended: what still comes is
                                          thrown away until the client has read it (RFC 9112 §9.6)

One deadline serves them all; L{Downstream.expired} tells by the state what it means.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPullProducer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.http1 import codec
from lemmytx.message import ProtocolError, RequestHead, ResponseHead
from lemmytx.net.splice import WORTH_IT
from lemmytx.proxy import framing
from lemmytx.proxy.carrier import Carrier
from lemmytx.proxy.ends import Ends, ends_of
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.forward import Peer
from lemmytx.proxy.intake import Intake
from lemmytx.proxy.source import Source

if TYPE_CHECKING:
    from lemmytx.proxy.entrance import Entrance
    from lemmytx.proxy.listener import Listener

log = Logger(namespace="lemmytx.proxy")

#: After an answer that came before the end of the request: how long, and how many bytes, we still listen so that the
#: client can read it before a reset takes it away. nginx: 5 s between two reads.
LINGER_TIME = 5.0
LINGER_BYTES = 16 * 1024 * 1024

#: How long an idle connection lives on when the listener drains. A client that asks just then, or has just connected,
#: would take the end of the connection for a failure, and may not repeat what is no GET. So it is answered, and told
#: that this was the last one; who does not ask within this time hardly does so just when it ends.
LAST_REQUEST = 1.0

#: How much a client may send of its next requests while the present one is being answered, bytes.
READ_AHEAD = 64 * 1024

#: How many pipelined requests are answered by ourselves (404 and the like) in one turn of the reactor: a client can
#: send thousands of them in one packet train, and the others want their turn.
ANSWERS_A_TURN = 50


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Downstream(Source):
    """
    @ivar exchange: the one under way.
    @ivar entrance: what the connection came through, if it did.
    @ivar peer: who the client is, for its next request.
    @ivar served: how many there were.
    """

    __slots__ = (
        "_behind", "_buffer", "_close", "_closing", "_draining", "_intake", "_lingering", "_looping", "_paused",
        "_queued", "_stalled", "_taken", "_watched", "check_at", "deadline", "entrance", "exchange", "listener", "peer",
        "served", "transport",
    )  # fmt: skip

    transport: Any

    def __init__(self, listener: Listener, entrance: Entrance | None = None) -> None:
        """
        @param entrance: what the connection came through, if it did.
        """
        self.listener = listener
        self.entrance = entrance
        self.transport = None
        self.peer: Peer = listener.nobody
        self.exchange: Exchange | None = None
        self.served = 0
        self.deadline = inf
        self.check_at = inf
        self._buffer: bytes | bytearray = b""
        self._intake: Intake | None = None
        self._taken = 0  # bytes that came while lingering
        self._close = False  # after this exchange
        self._draining = False  # after any exchange
        self._closing = False  # the last byte has been written
        self._lingering = False
        self._paused = False
        self._stalled = False
        self._looping = False
        self._behind = False  # with reading what it was answered: nothing new until it has
        self._queued = 0  # when we last looked whether it reads
        self._watched: Carrier | None = None

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        """A client has connected."""
        self.transport = transport
        self.peer = self.listener.connected(self, transport, self.entrance)
        self._set_deadline(self.listener.timeouts.header)
        if self.listener.draining:
            self.drain()

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes came from the client, or were left in the buffer (L{_next}): the beginning of a request, mostly all of
        it.
        """
        if self.exchange is not None or self._lingering or self._closing or self._behind:
            self._during(data)
            return
        listener = self.listener
        if self._buffer:
            self._buffer += data
            if not (b"\n" in data or b"\r" in data) and len(self._buffer) <= listener.header_size:
                return  # no line has ended: the codec would hardly get further than last time
            data = bytes(self._buffer)
        try:
            head = codec.request(data, self.peer.trusted, listener.header_size, listener.headers)
        except ProtocolError as error:
            self._reject(error.status, str(error))
            return
        if head is None:
            if not self._buffer and (self.served or self._draining):
                # Until now it was idle. From the first byte of a head there is another time for the rest.
                self._set_deadline(listener.timeouts.header)
            self._buffer = bytearray(data)
            return
        self.served += 1
        self.deadline = inf
        self._close = self._draining or not head.keep_alive
        size = head.size
        exchange = Exchange(listener.resource, self, head, self.peer)
        if head.length == 0:
            self._buffer = data[size:] if size < len(data) else b""
            self.exchange = exchange
            exchange.start(b"", True)
            if self._buffer and self.exchange is exchange:
                self._sent_ahead()
        else:
            self._read_body(exchange, head, data[size:])

    def _read_body(self, exchange: Exchange, head: RequestHead, rest: bytes) -> None:
        """The part of a body that came with the head."""
        try:
            intake = Intake(head, self.listener.limits.body_size)
            body = intake.feed(rest)
        except ProtocolError as error:
            self._reject(error.status, str(error), head)
            return
        ended = intake.ended
        self._buffer = intake.rest
        self.exchange = exchange
        if not ended:
            self._intake = intake
            self._set_deadline(intake.patience(self.listener.timeouts.body))
        exchange.start(body, ended, intake.trailers)
        if self._buffer and self.exchange is exchange:
            self._sent_ahead()
        elif not ended and self.exchange is exchange:
            self._try_splice()

    def _sent_ahead(self) -> None:
        """
        The client has sent the beginning of its next request already. We go on reading for a while, since that is how
        we hear that it has left; a client that sends much ahead has to wait.
        """
        if len(self._buffer) >= READ_AHEAD:
            self._hold_back()

    def _hold_back(self) -> None:
        """What the client sends next stays in the kernel until it is its turn."""
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def _during(self, data: bytes) -> None:
        """Bytes while an exchange is under way, or after its end."""
        exchange = self.exchange
        if self._behind:
            self._buffer = bytes(self._buffer) + data
        elif exchange is None:
            self._taken += len(data)
            if self._taken > LINGER_BYTES:
                self.transport.abortConnection()
        elif exchange.tunnel:
            exchange.tunnel.from_client(data)
        elif self._intake is not None:
            self._more_body(exchange, self._intake, data)
        else:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
            self._sent_ahead()

    def _more_body(self, exchange: Exchange, intake: Intake, data: bytes) -> None:
        try:
            body = intake.feed(data)
        except ProtocolError as error:
            self._close = True
            exchange.request_broke(error.status, "refused", str(error))
            return
        if intake.ended:
            self._intake = None
            self.deadline = inf
            if intake.rest:
                self._buffer = intake.rest
                self._sent_ahead()
            exchange.request_body(body, True, intake.trailers)
            return
        self._set_deadline(self.listener.timeouts.body)
        if body:
            exchange.request_body(body, False)
        if self.exchange is exchange:
            self._try_splice()

    def _try_splice(self) -> None:
        """Let the kernel move the rest of a long body."""
        exchange, intake = self.exchange, self._intake
        if intake is None or intake.remaining < WORTH_IT or exchange is None or self._paused:
            return
        upstream = exchange.may_splice()
        sink = None if upstream is None else upstream.body_sink()
        if sink is not None:
            intake.splice(self.transport, sink, self, self._spliced, self._splice_done)

    def _spliced(self, count: int) -> None:
        assert self.exchange is not None
        assert self._intake is not None
        self._intake.spliced(count)
        self.exchange.body_spliced(count)
        if not self._paused:
            self._set_deadline(self.listener.timeouts.body)
        elif self.exchange.upstream is not None:
            # The backend is slow, but it takes it.
            self.exchange.upstream.await_room(self.exchange.cluster.rules.write)

    def _splice_done(self) -> None:
        assert self.exchange is not None
        self._intake = None
        self.deadline = inf
        self.exchange.body_ended()

    def readConnectionLost(self) -> None:
        """
        The client has closed its half. With a request under way that counts as gone: a client that left looks the
        same, and keeping backends busy for nobody is the worse mistake (nginx and Go's proxy decide alike).
        """
        if self.exchange is not None and self.exchange.tunnel:
            self.exchange.tunnel.client_half_closed()
            return
        self._lost()
        if self.transport.connected:
            self._end_connection()

    def writeConnectionLost(self) -> None:
        """Our half is closed: L{_linger} or a tunnel did that."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""
        self.listener.disconnected(self)
        self._lost()
        self.listener.ticker.forget(self)
        self.deadline = inf

    def _lost(self) -> None:
        exchange, self.exchange = self.exchange, None
        if self._intake is not None:
            self._intake.stop()
        self._buffer = b""
        if exchange is not None and not exchange.termination:
            exchange.client_gone()

    # Time

    def _set_deadline(self, seconds: float) -> None:
        ticker = self.listener.ticker
        self.deadline = ticker.seconds() + seconds
        if self.deadline < self.check_at:
            ticker.watch(self)

    def expired(self) -> None:
        """The deadline has passed."""
        exchange = self.exchange
        if self._closing or self._lingering or self._behind:
            if self._progressed():
                self._set_deadline(self.listener.timeouts.body)
            else:
                # The client had its time to read what was left.
                self.transport.abortConnection()
        elif exchange is None:
            if self._buffer:
                self._reject(408, "the head did not arrive in time")
            elif self._asked():
                # It is we who are late.
                self._set_deadline(self.listener.timeouts.header)
            else:
                # Idle, or never said a word: nothing was asked, so nothing is answered.
                self._end_connection()
        elif self._intake is not None and self._intake.expecting:
            self._intake.expecting = False
            self._set_deadline(self.listener.timeouts.body)
            self.transport.write(framing.CONTINUE)
        elif self._stalled:
            if self._progressed():
                self._set_deadline(self.listener.timeouts.body)
                return
            exchange.client_gone("the client did not read the response in time")
            self.cut()
        else:
            self._close = True
            exchange.request_broke(408, "timeout_body", "the body did not arrive in time")

    # What the exchange calls (lemmytx.proxy.asker.Asker)

    def ends(self) -> Ends:
        """See L{lemmytx.proxy.asker.Asker}."""
        return ends_of(self.transport, self.entrance)

    def inform(self, head: ResponseHead) -> None:
        """See L{lemmytx.proxy.asker.Asker}. HTTP/1.0 has no interim responses (RFC 9110 §15.2)."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.head.minor == 0:
            return
        if head.status == 100:
            intake = self._intake
            if intake is None or not intake.expecting:
                return  # nobody waits for it: we have asked ourselves, or the body is on its way
            intake.expecting = False
            self._set_deadline(self.listener.timeouts.body)
        self.transport.write(head.block + b"\r\n")

    def respond(self, head: ResponseHead, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self.exchange
        assert exchange is not None
        if self._intake is not None:
            # Answered before the request was whole. Whether the rest of it will come is the client's to know, so
            # what follows on this connection could be anything.
            self._close = True
        minor = exchange.head.minor
        if head.length < 0 and not minor:
            # HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
            self._close = True
        if minor and head.length >= 0 and head.dated and not self._close:
            self.transport.write(head.block + b"\r\n" + body)
        else:
            self.transport.write(framing.response(head, minor, self._close, body, ended, trailers))

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.framed_by_chunks:
            if body:
                body = codec.chunk(body)
            if ended:
                body += codec.last_chunk(trailers)
        if body:
            self.transport.write(body)

    def reply(self, status: int, fields: bytes = b"") -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self.exchange
        assert exchange is not None
        if self._intake is not None:
            self._close = True
        self.transport.write(framing.reply(status, exchange.head, self._close, exchange.request_id, fields))

    def cut(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.exchange = None
        if self._intake is not None:
            self._intake.stop()
        # With a reset, since an orderly end would end a response without a length as if it were whole.
        self.transport.abortConnection()

    def open_tunnel(self, head: ResponseHead) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self.exchange
        assert exchange is not None
        self._close = True
        self.transport.write(framing.switching(head, exchange.head.upgrade))
        early, self._buffer = bytes(self._buffer), b""
        if early:
            assert exchange.tunnel is not None
            exchange.tunnel.from_client(early)
        if self._draining and not self.listener.patient:
            assert exchange.tunnel is not None
            exchange.tunnel.leave()
        self.resume()

    def write(self, data: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.transport.write(data)

    def half_close(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.transport.loseWriteConnection()

    def finished(self, now: float | None = None) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.exchange = None
        if self._close:
            if self._intake is not None:
                self._intake.stop()
                self._linger()
            elif self._buffer:
                self._linger()
            else:
                self._end_connection()
            return
        listener = self.listener
        patience = LAST_REQUEST if self._draining else listener.keepalive
        self.deadline = deadline = (listener.ticker.seconds() if now is None else now) + patience
        if deadline < self.check_at:
            listener.ticker.watch(self)
        if getattr(self.transport, "behind", False) and self._await_reader():
            return
        if self._buffer and not self._looping:
            self._next()

    def _next(self) -> None:
        """Pipelined requests: the next head is in the buffer, in part or whole."""
        self._looping = True
        answers = 0
        later = False
        while self._buffer and self.exchange is None and not (self._lingering or self._closing or self._behind):
            if answers == ANSWERS_A_TURN:
                later = True
                self._hold_back()
                self.listener.ticker.soon(self._go_on)
                break
            answers += 1
            data, self._buffer = bytes(self._buffer), b""
            self.dataReceived(data)
            if self.exchange is None and len(self._buffer) == len(data):
                break  # only a part of a head
        self._looping = False
        if (self.exchange is None or len(self._buffer) < READ_AHEAD) and not (
            self._lingering or self._closing or self._behind or later
        ):
            self.resume()

    def _await_reader(self) -> bool:
        """
        Whether so much is queued for the client that it has to read some of it before it may ask again. Otherwise one
        that asks and never reads would have us hold all its answers.
        """
        transport = self.transport
        self._queued = transport.queued
        if self._queued <= transport.bufferSize:
            transport.behind = self._queued > 0
            return False
        self._behind = True
        self._hold_back()
        self._set_deadline(self.listener.timeouts.body)
        transport.registerProducer(_Queue(self), False)
        return True

    def caught_up(self) -> None:
        """The client has taken everything that was queued for it."""
        transport = self.transport
        self._behind = transport.behind = False
        transport.unregisterProducer()
        if not self._closing:
            self._set_deadline(LAST_REQUEST if self._draining else self.listener.keepalive)
            self._next()

    def _progressed(self) -> bool:
        """Whether the client has read anything since we last looked."""
        before, self._queued = self._queued, getattr(self.transport, "queued", 0)
        return self._queued < before

    def _go_on(self) -> None:
        """With the requests that are waiting in the buffer."""
        if self.exchange is None and not self._looping and self.transport.connected:
            self._next()

    def listen_to(self, upstream: Carrier | None) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        if self._watched is not None:
            self._watched = None
            self.transport.unregisterProducer()
        self._stalled = False
        if upstream is not None and self.transport.connected:
            self._watched = upstream
            self.transport.registerProducer(upstream, True)

    def stalled(self, stalled: bool) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self._stalled = stalled
        exchange = self.exchange
        if stalled:
            self._queued = getattr(self.transport, "queued", 0)
            tunnel = exchange is not None and exchange.tunnel
            self._set_deadline(self.listener.timeouts.tunnel if tunnel else self.listener.timeouts.body)
        elif self._intake is not None:
            self._set_deadline(self.listener.timeouts.body)
        else:
            self.deadline = inf

    def body_sink(self) -> Any | None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self.exchange
        return None if exchange is None or exchange.framed_by_chunks else self.transport

    def body_source(self, upstream: Carrier) -> Any:
        """See L{lemmytx.proxy.asker.Asker}."""
        return self

    def pause(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self._hold_back()
        # While we do not listen, the client cannot be late.
        self.deadline = inf

    def resume(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self.exchange
        if exchange is not None and not exchange.tunnel and len(self._buffer) >= READ_AHEAD:
            return  # it has sent too much ahead
        if self._intake is not None:
            self._set_deadline(self._intake.patience(self.listener.timeouts.body))
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    # Ends

    def _reject(self, status: int, why: str, head: RequestHead | None = None) -> None:
        """There will be no exchange, and what follows on the connection cannot be trusted."""
        self.deadline = inf
        self._buffer = b""
        self._intake = None
        self.listener.resource.rejected(status, why, self.peer.client, head)
        self.transport.write(framing.rejection(status, head))
        self._linger()

    def exchanges(self) -> Iterable[Exchange]:
        """What is under way."""
        return () if self.exchange is None else (self.exchange,)

    def drain(self) -> None:
        """
        Take no more requests after the present one, or after the next one if it comes soon. A WebSocket is told to go,
        unless the listener is patient.
        """
        self._draining = True
        exchange = self.exchange
        if exchange is not None:
            if not exchange.responded:
                self._close = True
            elif exchange.tunnel is not None and not self.listener.patient:
                exchange.tunnel.leave()
            # Else the client has been told that the connection goes on, so after this it is idle like others.
        elif self._closing or self._lingering:
            return
        elif self._behind:
            self._end_connection()
        elif not self._buffer:
            deadline = self.listener.ticker.seconds() + LAST_REQUEST
            if deadline < self.deadline:
                self._set_deadline(LAST_REQUEST)

    def _asked(self) -> bool:
        """Whether the client has sent something that only waits for us to read it."""
        try:
            return bool(self.transport.getHandle().recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of what we do with the client's bytes."""
        if self.exchange is not None:
            self._close = True
            self.exchange.break_down()
        else:
            log.failure("{downstream!r} was ended by an error of our own", downstream=self)
            self.transport.abortConnection()

    def abort(self) -> None:
        """The process ends: whatever is under way is over."""
        exchange = self.exchange
        if exchange is not None and not exchange.responded:
            # The end of the process sends this and closes; a reset could take it away.
            self._close = True
            exchange.request_broke(503, "shutdown", "still running when timeouts.drain was over")
            return
        if exchange is not None:
            exchange.request_broke(0, "shutdown", "still running when timeouts.drain was over")
        self.transport.abortConnection()

    def _linger(self) -> None:
        """Close our half, and the rest when the client has done the same or has had its time."""
        self._lingering = True
        self._taken = 0
        self._buffer = b""
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        self._queued = getattr(self.transport, "queued", 0)
        self._set_deadline(LINGER_TIME)
        self.transport.loseWriteConnection()

    def _end_connection(self) -> None:
        """Everything is said. What is still queued gets out, but not for ever."""
        self._closing = True
        self._queued = getattr(self.transport, "queued", 0)
        self._set_deadline(self.listener.timeouts.body)
        self.transport.loseConnection()

    def __repr__(self) -> str:
        return f"<Downstream {self.peer.client or 'unix'} served={self.served} exchange={self.exchange!r}>"


@implementer(IPullProducer)
class _Queue:
    """Hears when a transport has sent everything."""

    __slots__ = ("_downstream", "_registered")

    def __init__(self, downstream: Downstream) -> None:
        self._downstream = downstream
        self._registered = False

    def resumeProducing(self) -> None:
        """Twisted: there is room; first on registering, whether there is or not."""
        if self._registered:
            self._downstream.caught_up()
        self._registered = True

    def stopProducing(self) -> None:
        """The connection is lost; the downstream is told the same."""
