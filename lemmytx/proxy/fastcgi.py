"""
One connection to a FastCGI backend, such as php-fpm.

It carries one exchange after another. By its attributes it is one of these::

    exchange   variables   response   what comes next
    None       -           None       nothing: it is idle in the pool, or on its way out. Bytes now are nobody's answer.
    set        set         None       from the client: the rest of a body whose length is not known before, and
                                      CONTENT_LENGTH stands before the body. Nothing is sent yet; bytes now are nobody's
                                      answer, too
    set        None        set        the answer (L{lemmytx.fastcgi.response})

An answer is whole when its END_REQUEST has come. One that has a length can be whole for the client before that, while
the program is still at work: the exchange waits for it, but whatever becomes of it then is no fault of the answer.
Without a length the end of the connection is never the end of an answer.

STDERR goes to the log: one line for an exchange, and so many a second for a cluster.
"""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.cluster.backend import Backend
from lemmytx.fastcgi import records
from lemmytx.fastcgi.complaints import readable
from lemmytx.fastcgi.parameters import Application, variables
from lemmytx.fastcgi.response import EARLY, Response
from lemmytx.http1 import codec
from lemmytx.message import ProtocolError, ResponseHead
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.body import OutgoingBody

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange

log = Logger(namespace="lemmytx.proxy")

#: Seconds that a backend has to take what is queued on a connection that is not needed any more.
CLOSE_TIME = 10.0


@implementer(IProtocol, IPushProducer)
class FastCgi:
    """See the module, and L{lemmytx.proxy.carrier.Carrier}, which it is."""

    __slots__ = (
        "_application", "_held", "_keep", "_queued", "_response", "_too_long", "_variables", "answered", "backend",
        "check_at", "deadline", "exchange", "paused", "refused", "served", "ticker", "transport",
    )  # fmt: skip

    transport: Any

    def __init__(self, backend: Backend, ticker: Ticker, settings: Application) -> None:
        self.backend = backend
        self.ticker = ticker
        self.transport = None
        self.exchange: Exchange | None = None
        self.served = 0
        self.answered = False
        self.refused = False
        self.paused = False
        self.deadline = inf
        self.check_at = inf
        self._application = settings
        self._keep = False
        self._variables: list[tuple[bytes, bytes]] | None = None  # of a request that waits for its length
        self._held = bytearray()  # its body
        self._too_long = False  # and that it is longer than what is held
        self._response: Response | None = None  # to a request that is out
        self._queued = 0  # when we last looked whether the backend takes any of the request

    # Requests

    def carry(self, exchange: Exchange, head: bytes, body: OutgoingBody | None, deadline: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}. A request that names no script is refused here and goes nowhere."""
        self.exchange = exchange
        self.served += 1
        self.answered = self.refused = False
        self._set_deadline(deadline)
        request = exchange.head
        unmeasured = body is not None and body.chunked
        peer = exchange.peer
        address, port, server, _ = exchange.downstream.ends()
        secure = peer.scheme == b"https"
        if request.claims is not None:
            told = request.claims.get(b"x-forwarded-proto")
            if told:
                secure = told[0].partition(b",")[0].strip().lower() == b"https"
        try:
            told_script = variables(
                self._application,
                request,
                head,
                0 if unmeasured else request.length,
                exchange.client,
                secure,
                port if address == exchange.client else 0,
                server,
            )
        except ProtocolError as error:
            exchange.request_broke(error.status, "refused", error.reason)
            return
        if body is None:
            self._begin(exchange, told_script, b"", True)
            return
        payload = body.so_far()
        if not unmeasured:
            self._begin(exchange, told_script, payload, body.ended)
        else:
            self._variables = told_script
            self._held = bytearray()
            if not self._hold(payload, body.ended):
                self._refuse_length(exchange)
                return
        if not body.ended and not payload and request.expects_continue and self.exchange is exchange:
            # No program says that, so nobody else would.
            exchange.inform(_continue())

    def _begin(self, exchange: Exchange, told: list[tuple[bytes, bytes]], body: bytes, ended: bool) -> None:
        """The request goes out, as far as it is here."""
        resource, pool = exchange.resource, self.backend.pool
        self._response = Response(exchange.head.method == b"HEAD", resource.response_size, resource.response_fields)
        self._keep = pool.limit > 0 and (not pool.requests or self.served < pool.requests)
        transport = self.transport
        transport.write(records.begin(self._keep) + records.params(told) + records.stdin(body, ended))
        self.refused = getattr(transport, "failed_write", False)

    def _hold(self, body: bytes, ended: bool) -> bool:
        """
        Keep a piece of a body until its length is known, and send all of it then.

        @return: whether it is short enough.
        """
        held, told = self._held, self._variables
        assert told is not None
        held += body
        if len(held) > self._application.buffer:
            self._held = bytearray()
            self._too_long = True
            return False
        if ended:
            self._variables = None
            self._held = bytearray()
            told.append((b"CONTENT_LENGTH", b"%d" % len(held)))
            assert self.exchange is not None
            self._begin(self.exchange, told, bytes(held), True)
        return True

    def _refuse_length(self, exchange: Exchange) -> None:
        limit = self._application.buffer
        exchange.request_broke(411, "refused", f"a body of unknown length that is longer than {limit} bytes")

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}. Trailers have no place in FastCGI."""
        if self._variables is None:
            self.transport.write(records.stdin(body, ended))
        elif not self._too_long and not self._hold(body, ended):
            exchange = self.exchange
            # Whoever hands the body over is in the middle of something, and does not expect the end just now.
            self.ticker.soon(lambda: self._refuse_later(exchange))

    def _refuse_later(self, exchange: Exchange | None) -> None:
        if exchange is not None and self.exchange is exchange:
            try:
                self._refuse_length(exchange)
            except Exception:
                exchange.break_down()

    def feed_from(self, source: Any | None) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        if source is None:
            self.transport.unregisterProducer()
        else:
            self.transport.registerProducer(source, True)

    def write(self, data: bytes) -> None:
        """Cannot come: there are no tunnels."""

    def half_close(self) -> None:
        """Cannot come: there are no tunnels."""

    def body_sink(self) -> Any | None:
        """None: bodies are framed by records."""
        return None

    def fresh(self) -> bool:
        """Whether the backend has neither closed it nor sent anything, as far as the kernel knows by now."""
        handle = self.transport.getHandle()
        try:
            handle.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _set_deadline(self, deadline: float) -> None:
        self.deadline = deadline
        if deadline < self.check_at:
            self.ticker.watch(self)

    def await_response(self, seconds: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._set_deadline(self.ticker.seconds() + seconds)

    def await_room(self, seconds: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._queued = getattr(self.transport, "queued", 0)
        self.await_response(seconds)

    def has_room(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._queued = 0
        self.deadline = inf

    # The pool

    def close(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.exchange = None
        self._ended()
        self.await_response(CLOSE_TIME)
        self.transport.loseConnection()

    def abandon(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}. The program is told, where it can still be."""
        response, exchange = self._response, self.exchange
        if response is not None and exchange is not None:
            self._tell_errors(exchange, response)
        self.exchange = None
        self._ended()
        transport = self.transport
        if getattr(transport, "queued", 0):
            transport.abortConnection()
            return
        if response is not None and not response.done:
            transport.write(records.abort())
        self.await_response(CLOSE_TIME)
        transport.loseConnection()

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        """The connection stands."""
        self.transport = transport
        transport.setTcpNoDelay(True)

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came from the backend."""
        exchange, response = self.exchange, self._response
        if exchange is None:
            # Nobody asked, or nobody wants it any more.
            self.backend.lost(self)
            self.transport.abortConnection()
            return
        self.answered = True
        if response is None:
            exchange.upstream_broke(ProtocolError(502, EARLY))
            return
        begun = response.head is not None
        try:
            body = response.feed(data)
        except ProtocolError as error:
            exchange.upstream_broke(error)
            return
        head = response.head
        if head is None:
            if response.turned_away:
                self._turned_away(exchange)
        elif response.done:
            self._tell_errors(exchange, response)
            reusable = self._keep and response.clean
            self._ended()
            if begun:
                exchange.carry_on(body, True, reusable)
            else:
                exchange.respond(head, body, True, reusable)
        elif not begun:
            if exchange.respond(head, body, False, False) and not self.paused:
                self.await_response(exchange.read_timeout)
        elif body and exchange.carry_on(body, False, False) and not self.paused:
            self.await_response(exchange.read_timeout)

    def _turned_away(self, exchange: Exchange) -> None:
        """The application has done nothing of what it was asked."""
        self.answered = False
        self.refused = True
        self._ended()
        exchange.upstream_gone(True)
        self.close()

    def _ended(self) -> None:
        """Nothing is under way any more."""
        self._response = self._variables = None
        self._held = bytearray()
        self._too_long = False
        self._queued = 0
        self.deadline = inf

    def _tell_errors(self, exchange: Exchange, response: Response) -> None:
        """Log what the program has written to STDERR, and its exit status, if there is anything to say."""
        answer = response.records
        errors, size = answer.errors, answer.errors_size
        status = answer.application_status if answer.done else 0
        answer.errors, answer.errors_size = b"", 0
        if not size and not status:
            return
        allowance = self._application.allowance
        if not allowance.take(self.ticker.seconds()):
            return
        dropped, allowance.dropped = allowance.dropped, 0
        log.warn(
            "{backend}, request {request_id} for {target}: {text}{ended}{more}",
            backend=self.backend.name,
            request_id=exchange.request_id.decode("latin-1"),
            target=exchange.head.target.partition(b"?")[0].decode("latin-1"),
            text=readable(errors, size) if size else "nothing on STDERR",
            ended=f"; ended with status {status}" if status else "",
            more=f" (and {dropped} other requests' lines were left out)" if dropped else "",
        )

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""
        exchange, response = self.exchange, self._response
        if exchange is None:
            self.backend.lost(self)
        else:
            try:
                if response is not None and response.delivered:
                    self._let_be(exchange, response)
                else:
                    if response is not None:
                        self._tell_errors(exchange, response)
                    self._ended()
                    exchange.upstream_gone(reason.check(ConnectionDone) is not None)
            except Exception:
                exchange.break_down()
        # Not before: whoever is told of an end closes what is closed already, and that takes its time.
        self.ticker.forget(self)

    def _let_be(self, exchange: Exchange, response: Response) -> None:
        """The program comes to no good end, but the client has everything."""
        self._tell_errors(exchange, response)
        self._ended()
        exchange.carry_on(b"", True, False)

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of what we do with the backend's bytes."""
        if self.exchange is not None:
            self.exchange.break_down()
        else:
            log.failure("{upstream!r} was ended by an error of our own", upstream=self)
            self.backend.lost(self)
            self.transport.abortConnection()

    def expired(self) -> None:
        """The deadline has passed."""
        exchange = self.exchange
        if exchange is None:
            self.backend.lost(self)
            if self.transport.disconnecting:
                self.transport.abortConnection()
            else:
                self.close()
        elif getattr(self.transport, "queued", 0) < self._queued:
            self.await_room(exchange.cluster.rules.write)
        elif self._response is not None and self._response.delivered:
            self._let_be(exchange, self._response)
        else:
            exchange.upstream_timed_out()

    # As the producer of a downstream: what the client's transport calls when the client is slow, and fast again

    def pauseProducing(self) -> None:
        """The client does not keep up."""
        # A backend that is not listened to cannot be late.
        self.paused = True
        self.deadline = inf
        self.transport.pauseProducing()
        if self.exchange is not None:
            self.exchange.downstream.stalled(True)

    def resumeProducing(self) -> None:
        """The client has taken what there was."""
        self.paused = False
        exchange = self.exchange
        if exchange is None:
            self.transport.resumeProducing()
            return
        exchange.downstream.stalled(False)
        self.await_response(exchange.read_timeout)
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The client's connection is lost; its protocol is told the same and ends the exchange."""

    def __repr__(self) -> str:
        return f"<FastCgi {self.backend.name} served={self.served} {'idle' if self.exchange is None else 'busy'}>"


def _continue() -> ResponseHead:
    head = codec.response(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert head is not None
    return head
