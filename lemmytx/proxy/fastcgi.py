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
from lemmytx.proxy.single import CLOSE_TIME, Single

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange

log = Logger(namespace="lemmytx.proxy")


@implementer(IProtocol, IPushProducer)
class FastCgi(Single):
    """See the module, and L{lemmytx.proxy.carrier.Carrier}, which it is."""

    __slots__ = ("_application", "_held", "_keep", "_response", "_too_long", "_variables")

    def __init__(self, backend: Backend, ticker: Ticker, settings: Application) -> None:
        super().__init__(backend, ticker)
        self._application = settings
        self._keep = False
        self._variables: list[tuple[bytes, bytes]] | None = None  # of a request that waits for its length
        self._held = bytearray()  # its body
        self._too_long = False  # and that it is longer than what is held
        self._response: Response | None = None  # to a request that is out

    # Requests

    def carry(self, exchange: Exchange, head: bytes, body: OutgoingBody | None, deadline: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}. A request that names no script is refused here and goes nowhere."""
        self.exchange = exchange
        self.served += 1
        self.answered = self.refused = False
        self.deadline = deadline
        if deadline < self.check_at:
            self.ticker.watch(self)
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

    def write(self, data: bytes) -> None:
        """Cannot come: there are no tunnels."""

    def half_close(self) -> None:
        """Cannot come: there are no tunnels."""

    def body_sink(self) -> Any | None:
        """None: bodies are framed by records."""
        return None

    # The pool

    def close(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._ended()
        super().close()

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

    def late(self, exchange: Exchange) -> None:
        """See L{Single}."""
        if self._response is not None and self._response.delivered:
            self._let_be(exchange, self._response)
        else:
            super().late(exchange)


def _continue() -> ResponseHead:
    head = codec.response(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert head is not None
    return head
