"""
One request over HTTP/2 and its answer: a stream of a L{lemmytx.proxy.http2.Http2Downstream}.

It is the asking side of one exchange, and by its attributes::

    exchange   ending   the stream
    set        no       the response is awaited or on its way; or a tunnel
    set        yes      the last call of the exchange but one: L{Stream.finished} follows
    None       yes      the exchange is over; what the client's windows or its socket did not take yet is in the queue
    None       -        (over) not in C{streams} any more

What a client sends and nobody has taken is bounded by the window: credit is given back only for what the exchange has
got, and not while that asks for a pause. What the backend sends and the client does not take is bounded by the queue.

The stream's own time::

    the client does not take the response      timeouts.body between two looks (timeouts.tunnel in a tunnel)
    it waits for "100 Continue"                CONTINUE_AFTER, and then we say it
    its body is arriving, and is listened to   timeouts.body
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from lemmytx.http1 import codec
from lemmytx.http2.errors import INTERNAL_ERROR, NO_ERROR
from lemmytx.message import ProtocolError, RequestHead, ResponseHead
from lemmytx.proxy import framing, replies
from lemmytx.proxy.carrier import Carrier
from lemmytx.proxy.ends import Ends, ends_of
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.http2_sending import Outgoing
from lemmytx.proxy.intake import CONTINUE_AFTER
from lemmytx.proxy.source import Source

if TYPE_CHECKING:
    from lemmytx.proxy.http2 import Http2Downstream

log = Logger(namespace="lemmytx.proxy")

#: What the head of a request may be longer as HTTP/1.1 than the list of its fields, whose bound the codec has kept:
#: the words of the request line and what stands for HTTP/2's own ways.
_MORE_BYTES = 1024
_MORE_FIELDS = 8


@implementer(IPushProducer)
class Stream(Outgoing, Source):
    """
    @ivar exchange: L{None} when it is over, or there never was one.
    """

    __slots__ = (
        "_arriving", "_connection", "_early", "_expecting", "_open", "_over", "_owed", "_paused", "_protocol", "_seen",
        "_stalled", "_taken", "check_at", "deadline", "exchange",
    )  # fmt: skip

    def __init__(self, connection: Http2Downstream, number: int, ended: bool) -> None:
        """
        @param ended: whether the request is whole with its head.
        """
        super().__init__(connection.out, number)
        self.exchange: Exchange | None = None
        self.deadline = inf
        self.check_at = inf
        self._connection = connection
        # The request
        self._open = not ended  # the client has not ended its side
        self._arriving = False  # the exchange is still to get some of the body
        self._expecting = False  # the client waits for 100
        self._taken = 0  # bytes of the body
        self._owed = 0  # credit that is held back
        self._paused = False  # the exchange wants no more for now
        self._protocol: bytes | None = None  # of an extended CONNECT
        self._early: list[bytes] = []  # bytes for a tunnel that is not open yet
        # The response
        self._over = False  # not in C{streams} any more
        self._stalled = False  # the client is slower than the backend
        self._seen = 0  # what all streams had sent when we last looked whether this one moves

    # The request

    def start(self, raw: bytes, protocol: bytes | None) -> None:
        """
        Called once, when the head has arrived.

        @param raw: the head as HTTP/1.1.
        @param protocol: of an extended CONNECT (RFC 8441).
        """
        connection = self._connection
        listener = connection.listener
        try:
            head = codec.request(
                raw, connection.peer.trusted, listener.header_size + _MORE_BYTES, listener.headers + _MORE_FIELDS
            )
        except ProtocolError as error:
            self.reject(error.status, str(error))
            return
        assert head is not None
        head.minor = 2
        length = head.length
        self._protocol = protocol
        if length and self._open:
            limit = listener.limits.body_size
            if limit and length > limit:
                self.reject(413, f"a body of {length} bytes, and {limit} are allowed", head)
                return
            self._arriving = True
            self._expecting = head.expects_continue
            self._await_body()
        self.exchange = exchange = Exchange(listener.resource, self, head, connection.peer)
        exchange.start(b"", not self._arriving)

    def body(self, data: bytes, flow: int, ended: bool) -> None:
        """
        More of the request, or bytes of a tunnel.

        @param flow: what counts against the window.
        @param ended: whether that is all.
        """
        exchange = self.exchange
        if ended:
            self._open = False
        else:
            self._owed += flow
        if self._arriving:
            assert exchange is not None
            self._more_body(exchange, data, ended)
        elif exchange is not None and exchange.tunnel is not None:
            if data:
                exchange.tunnel.from_client(data)
            if ended and self.exchange is exchange:
                exchange.tunnel.client_half_closed()
        elif self._protocol is not None:
            # The tunnel is not open yet. There is no credit before it is, so this is bounded.
            self._early.append(data)
            return
        if not self._paused:
            self._give_credit()

    def trailers(self, lines: bytes) -> None:
        """The end of the request."""
        self._open = False
        exchange = self.exchange
        if self._arriving:
            assert exchange is not None
            self._more_body(exchange, b"", True, lines)

    def _more_body(self, exchange: Exchange, data: bytes, ended: bool, trailers: bytes = b"") -> None:
        limit = self._connection.listener.limits.body_size
        self._taken += len(data)
        if limit and self._taken > limit:
            self._arriving = False
            exchange.request_broke(413, "refused", f"a body of more than {limit} bytes")
            return
        self._expecting = False
        if ended:
            self._arriving = False
            if not self._stalled:
                self.deadline = inf
            exchange.request_body(data, True, trailers)
            return
        if not self._paused:
            self._await_body()
        if data:
            exchange.request_body(data, False)

    def _give_credit(self) -> None:
        """The client may send as much again as was taken."""
        owed, self._owed = self._owed, 0
        if owed and self._open and not self._over:
            self.out.codec.taken(self.number, owed)

    def reject(self, status: int, why: str, head: RequestHead | None = None) -> None:
        """
        There will be no exchange.

        @param head: the request's, if it got so far as to have one.
        """
        connection = self._connection
        connection.listener.resource.rejected(status, why, connection.peer.client, head)
        if head is None:
            self._say(replies.reply(status))
        else:
            self._say(replies.reply(status, head.field(b"accept"), without_body=head.method == b"HEAD"))
        self._leave()

    def gone(self, why: str, ours: bool = False) -> None:
        """
        The client has reset the stream, or is gone altogether.

        @param ours: it was the codec that reset it, for what the client sent.
        """
        exchange = self.exchange
        self._close()
        if exchange is not None and not exchange.termination:
            if ours:
                exchange.request_broke(400, "refused", "the rest of the request broke the rules of HTTP/2")
            else:
                exchange.client_gone(why)
        self.exchange = None

    # What the exchange calls (lemmytx.proxy.asker.Asker)

    def ends(self) -> Ends:
        """See L{lemmytx.proxy.asker.Asker}."""
        return ends_of(self._connection.transport, self._connection.entrance)

    def inform(self, head: ResponseHead) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        if head.status == 100:
            if not self._expecting:
                return  # nobody waits for it: we have asked ourselves, or the body is on its way
            self._expecting = False
            self._await_body()
        self.head(head.block + b"\r\n", False)
        self.out.flush()

    def respond(self, head: ResponseHead, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        if self._protocol is not None and head.status < 300:
            # It would mean to the client that the tunnel is open (RFC 8441 §4, RFC 9110 §9.3.6).
            self._mistaken()
            return
        self.head(
            head.block + (b"\r\n" if head.dated else b"Date: %b\r\n\r\n" % replies.date()),
            ended and not body and not trailers,
        )
        self.add(body, ended, trailers)

    def _mistaken(self) -> None:
        """The backend has answered a request for a WebSocket as if it were any other."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.termination:
            self.cut()
        else:
            exchange.request_broke(0, "backend_malformed", "a request for a WebSocket was answered with success")

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.add(body, ended, trailers)

    def reply(self, status: int, fields: bytes = b"") -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self.exchange
        assert exchange is not None
        head = exchange.head
        self._say(replies.reply(status, head.field(b"accept"), exchange.request_id, fields, head.method == b"HEAD"))

    def cut(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}. The other streams of the connection live on."""
        self.exchange = None
        if not self._over:
            self.out.codec.reset(self.number, INTERNAL_ERROR)
            self._close()
            self.out.flush()

    def open_tunnel(self, head: ResponseHead) -> None:
        """See L{lemmytx.proxy.asker.Asker}. Over HTTP/2, that is a success (RFC 8441 §5)."""
        exchange = self.exchange
        assert exchange is not None
        tunnel = exchange.tunnel
        assert tunnel is not None
        lines = head.block.split(b"\r\n")[1:-1]
        kept = [line for line in lines if not line.lower().startswith(b"sec-websocket-accept:")]
        if not head.dated:
            kept.append(b"Date: %b" % replies.date())
        self.head(b"\r\n".join((b"HTTP/1.1 200 OK", *kept, b"", b"")), False)
        early, self._early = self._early, []
        for data in early:
            if data and self.exchange is exchange:
                tunnel.from_client(data)
        if not self._open and self.exchange is exchange:
            tunnel.client_half_closed()
        if self._connection.draining and not self._connection.listener.patient and self.exchange is exchange:
            tunnel.leave()
        if self.exchange is exchange:
            self.resume()
        self.out.flush()

    def write(self, data: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.add(data, False, b"")

    def half_close(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.add(b"", True, b"")

    def finished(self, now: float | None = None) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.exchange = None
        if self._over:
            return
        if not self.ending:
            # A tunnel has no other end.
            self.add(b"", True, b"")
        self._leave()

    def listen_to(self, carrier: Carrier | None) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self.watch(carrier)
        self._stalled = False

    def stalled(self, stalled: bool) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self._stalled = stalled
        if stalled:
            self._await_reader()
        elif self._arriving and not self._paused:
            self._await_body()
        else:
            self.deadline = inf

    def body_sink(self) -> Any | None:
        """See L{lemmytx.proxy.asker.Asker}. There are frames around it."""
        return None

    def body_source(self, carrier: Carrier) -> Any:
        """See L{lemmytx.proxy.asker.Asker}."""
        return self

    def pause(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}. The client may still use up its window."""
        self._paused = True
        if not self._stalled:
            # While we do not listen, the client cannot be late.
            self.deadline = inf

    def resume(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        if self._arriving and not self._stalled:
            self._await_body()
        if self._paused or self._owed:
            self._paused = False
            self._give_credit()
            self.out.flush()

    # What goes out

    def _say(self, response: bytes) -> None:
        """A whole response of our own, as HTTP/1.1."""
        head, _, body = response.partition(b"\r\n\r\n")
        self.head(head + b"\r\n\r\n", not body)
        self.add(body, True, b"")

    def sent(self) -> None:
        """See L{Outgoing}."""
        if self.exchange is None:
            self._leave()

    # Ends

    def _leave(self) -> None:
        """The exchange is over: so is the stream, when the client has got everything."""
        if self._over:
            return
        self._arriving = False
        if not self.done:
            self._await_reader()
        else:
            if self._open:
                # The answer did not need the rest of the request (RFC 9113 §8.1).
                self.out.codec.reset(self.number, NO_ERROR)
                self.out.flush()
            self._close()

    def _close(self) -> None:
        """Off the connection."""
        if self._over:
            return
        self._over = self.done = True
        self._arriving = False
        self.deadline = inf
        if self.check_at != inf:
            self._connection.listener.ticker.forget(self)
        self.drop()
        self._connection.remove(self)

    # Time

    def _set_deadline(self, seconds: float) -> None:
        ticker = self._connection.listener.ticker
        self.deadline = ticker.seconds() + seconds
        if self.deadline < self.check_at:
            ticker.watch(self)

    def _await_body(self) -> None:
        self._set_deadline(CONTINUE_AFTER if self._expecting else self._connection.listener.timeouts.body)

    def _await_reader(self) -> None:
        """The client has so long to take some of what is queued for it."""
        self.moved = False
        self._seen = self.out.sent
        timeouts = self._connection.listener.timeouts
        exchange = self.exchange
        tunnel = exchange is not None and exchange.tunnel
        self._set_deadline(timeouts.tunnel if tunnel else timeouts.body)

    def expired(self) -> None:
        """The deadline has passed: see the table at the top."""
        exchange = self.exchange
        if exchange is None or self._stalled:
            connection = self._connection
            if self.moved or self.waiting or (self.out.sent != self._seen and not connection.has_room()):
                # While it waits for its turn it is the connection that is slow, and that has a deadline of its own.
                self._await_reader()
                return
            if exchange is not None:
                exchange.client_gone("the client did not read the response in time")
            self.cut()
        elif self._expecting:
            self._expecting = False
            self._await_body()
            self.head(framing.CONTINUE, False)
            self.out.flush()
        else:
            self._arriving = False
            exchange.request_broke(408, "timeout_body", "the body did not arrive in time")

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of what we do with the client's bytes."""
        if self.exchange is not None:
            self.exchange.break_down()
        else:
            log.failure("{stream!r} was ended by an error of our own", stream=self)
            self.cut()

    def __repr__(self) -> str:
        return f"<Stream {self.number} queued={self.size} exchange={self.exchange!r}>"
