"""
A stream of HTTP/2 that carries one exchange to a backend.

Its states, by its attributes::

    stream   exchange   open    what it is
    0        None       no      made, and not used yet
    set      set        yes     at work
    set      None       yes     a tunnel that was hung up: what is queued gets out, then the stream ends
    set      any        no      over: the stream is gone, or was reset

The request's end and the response's are independent of each other. A response that is whole before the request is ends
both: the backend wants no more of it, so the stream is reset (RFC 9113 §8.1).

An upgrade to WebSocket becomes an extended CONNECT (RFC 8441), where the backend has said that it takes one, and the
2xx that it answers becomes the 101 that an exchange knows. Without that it is refused, by us. A wish for any other
protocol is not passed on: a server may ignore it, and HTTP/2 has no way to ask (RFC 9110 §7.8).
"""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING, Any

from lemmytx.cluster.backend import Backend
from lemmytx.http1 import codec
from lemmytx.http2.codec import CANCEL
from lemmytx.message import ProtocolError, ResponseHead
from lemmytx.net.ticker import Ticker
from lemmytx.proxy import http2_websocket
from lemmytx.proxy.body import OutgoingBody
from lemmytx.proxy.http2_outflow import Outflow
from lemmytx.proxy.single import CLOSE_TIME
from lemmytx.proxy.upstream import INTERIM_LIMIT

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange
    from lemmytx.proxy.http2_upstream import Http2Upstream


class Http2Carrier:
    """
    See the module, and L{lemmytx.proxy.carrier.Carrier}.

    @ivar open: whether its stream is one that the backend may still send on, or we.
    """

    __slots__ = (
        "_codec", "_got_end", "_interim", "_mark", "_outflow", "_owed", "_switching", "answered", "backend", "check_at",
        "connection", "deadline", "exchange", "open", "paused", "refused", "served", "stream", "ticker",
    )  # fmt: skip

    def __init__(self, connection: Http2Upstream) -> None:
        self.connection = connection
        self.backend: Backend = connection.backend
        self.ticker: Ticker = connection.ticker
        self.exchange: Exchange | None = None
        self.stream = 0
        self.served = connection.served
        self.open = False
        self.answered = False
        self.refused = False
        self.paused = False
        self.deadline = inf
        self.check_at = inf
        self._codec = connection.codec
        self._outflow: Outflow | None = None  # none: the request has ended with its head
        self._mark = 0  # of what waits there, when we last looked whether the backend takes any of it
        self._owed = 0  # bytes that the client has to take before the backend may send as many more
        self._interim = 0
        self._switching = False  # an extended CONNECT is out
        self._got_end = False  # of a tunnel: the backend's side has ended

    # The request

    def fresh(self) -> bool:
        """See L{lemmytx.proxy.carrier.Carrier}. Bytes that have come are a matter of other streams."""
        try:
            return bool(self.connection.transport.getHandle().recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def carry(self, exchange: Exchange, head: bytes, body: OutgoingBody | None, deadline: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.exchange = exchange
        connection = self.connection
        self.served = connection.served + 1
        http2 = self._codec
        upgrade = exchange.head.upgrade
        if upgrade is not None and upgrade.lower() == b"websocket":
            if not http2.peer_extended_connect:
                exchange.request_broke(
                    502, "no_upgrade", f"{self.backend.name} takes no WebSocket over HTTP/2 (RFC 8441)"
                )
                return
            self._switching = True
            self.stream = stream = http2.request(http2_websocket.connecting(head), False, b"websocket")
            self._outflow = Outflow(connection, stream)
        elif body is None:
            self.stream = stream = http2.request(head, True)
        else:
            payload = body.so_far()
            whole = body.ended and not payload and not body.trailers
            self.stream = stream = http2.request(head, whole)
            if not whole:
                self._outflow = Outflow(connection, stream)
                self._outflow.add(payload, body.ended, body.trailers)
        self.open = True
        connection.begins(stream, self)
        self.deadline = deadline
        if deadline < self.check_at:
            self.ticker.watch(self)
        if self._outflow is not None:
            self.take_turn()
        connection.flush()
        self.refused = getattr(connection.transport, "failed_write", False)

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        outflow = self._outflow
        if self.open and outflow is not None:
            outflow.add(body, ended, trailers)
            self.take_turn()
            self.connection.flush()

    def write(self, data: bytes) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.send(data, False, b"")

    def half_close(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.send(b"", True, b"")

    def waits(self) -> bool:
        """Whether something of the request waits for room."""
        return self._outflow is not None and self._outflow.waits

    def _waiting(self) -> int:
        """How many bytes that is."""
        return 0 if self._outflow is None else self._outflow.size

    def take_turn(self, most: int = 1 << 62) -> bool:
        """
        Send of what waits as much as there is room for; sending it out is the caller's.

        @param most: bytes.
        @return: whether more could be sent now.
        """
        outflow = self._outflow
        if outflow is None or outflow.ended or not self.open:
            return False
        before = outflow.size
        more = outflow.send(most)
        if outflow.ended and self._got_end:
            self.over()
        elif outflow.ending and outflow.size < before and self.exchange is not None and self.deadline != inf:
            # The whole request was handed over to us, but the backend's time begins when it has it.
            self.await_response(self.exchange.read_timeout)
        return more

    def feed_from(self, source: Any | None) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        if self._outflow is not None:
            self._outflow.feed_from(source)

    def body_sink(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}: there are frames around it."""
        return None

    # Time

    def await_response(self, seconds: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        if self.open:
            self.deadline = self.ticker.seconds() + seconds
            if self.deadline < self.check_at:
                self.ticker.watch(self)

    def await_room(self, seconds: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._mark = self._waiting()
        self.await_response(seconds)

    def has_room(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._mark = 0
        self.deadline = inf

    def expired(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        exchange = self.exchange
        if exchange is None:
            self.abandon()
        elif self._waiting() < self._mark:
            self.await_room(exchange.cluster.rules.write)
        else:
            tunnel = exchange.tunnel
            exchange.upstream_timed_out()
            if tunnel is None:
                self.connection.doubt()

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of L{expired}."""
        if self.exchange is not None:
            self.exchange.break_down()

    # The response, as the connection hears of it

    def came(self, raw: bytes, body: bytes, flow: int, ended: bool) -> None:
        """
        A response's head, and what came with it.

        @param flow: bytes that count against the stream's window.
        """
        self.answered = True
        exchange = self.exchange
        if exchange is None:
            return
        try:
            self._came(exchange, raw, body, flow, ended)
        except Exception:
            exchange.break_down()

    def _came(self, exchange: Exchange, raw: bytes, body: bytes, flow: int, ended: bool) -> None:
        resource = exchange.resource
        switched = self._switching and raw[9:10] == b"2"
        if switched:
            raw = http2_websocket.switching(raw, exchange.head.field(b"sec-websocket-key") or b"")
        try:
            head = codec.response(
                raw, exchange.head.method == b"HEAD", resource.response_size, resource.response_fields
            )
        except ProtocolError as error:
            exchange.upstream_broke(error)
            return
        assert head is not None, raw
        if switched:
            exchange.open_tunnel(head, b"")
            if body or flow or ended:
                self._tunnelled(exchange, body, flow, ended)
        elif head.status < 200:
            self._informed(exchange, head)
        elif ended:
            self._done()
            exchange.respond(head, body, True, True)
        else:
            if exchange.respond(head, body, False, False):
                self._flow(exchange, flow)

    def _informed(self, exchange: Exchange, head: ResponseHead) -> None:
        self._interim += 1
        if self._interim > INTERIM_LIMIT:
            exchange.upstream_broke(ProtocolError(502, f"more than {INTERIM_LIMIT} interim responses"))
            return
        if self.deadline != inf:
            self.await_response(exchange.read_timeout)
        exchange.inform(head)

    def more(self, data: bytes, flow: int, ended: bool) -> None:
        """More of the response's body, or of a tunnel. Parameters as for L{came}."""
        exchange = self.exchange
        if exchange is None:
            # A tunnel that was hung up: what still comes is for nobody, and its end is awaited.
            if ended:
                self._finish()
            else:
                self._codec.taken(self.stream, flow)
            return
        try:
            if exchange.tunnel is not None:
                self._tunnelled(exchange, data, flow, ended)
            elif ended:
                self._done()
                exchange.carry_on(data, True, True)
            elif not data or exchange.carry_on(data, False, False):
                self._flow(exchange, flow)
        except Exception:
            exchange.break_down()

    def trailers(self, lines: bytes) -> None:
        """The response ends, with these lines. A tunnel has none (RFC 9113 §8.5)."""
        exchange = self.exchange
        if exchange is None:
            return
        try:
            self._done()
            exchange.carry_on(b"", True, True, lines)
        except Exception:
            exchange.break_down()

    def _tunnelled(self, exchange: Exchange, data: bytes, flow: int, ended: bool) -> None:
        tunnel = exchange.tunnel
        assert tunnel is not None
        if data:
            tunnel.from_backend(data)
        if not ended:
            self._take(flow)
            return
        self._got_end = True
        if self._outflow is not None and self._outflow.ended:
            self.over()
        if self.exchange is exchange:
            tunnel.backend_half_closed()

    def _flow(self, exchange: Exchange, flow: int) -> None:
        """The response goes on: keep its time, and let the backend send as much again as the client has taken."""
        self._take(flow)
        if not self.paused and (self._outflow is None or self._outflow.ended):
            self.await_response(exchange.read_timeout)

    def _take(self, flow: int) -> None:
        if self.paused:
            self._owed += flow
        elif flow:
            self._codec.taken(self.stream, flow)

    # Its end

    def _done(self) -> None:
        """The response is whole. If the request is not, the backend does not want the rest."""
        self._finish()

    def _finish(self) -> None:
        if self._outflow is not None and not self._outflow.ended:
            self._codec.reset(self.stream, CANCEL)
        self.over()

    def over(self) -> None:
        """The stream is gone, or is not ours any more."""
        if self.open:
            self.open = False
            self.deadline = inf
            if self._outflow is not None:
                self._outflow.drop()
            self.ticker.forget(self)
            self.connection.ended(self.stream)

    def lost(self, orderly: bool, refused: bool) -> None:
        """
        The stream was ended from outside; called after L{over}.

        @param refused: the backend has not looked at the request.
        """
        exchange = self.exchange
        if exchange is None:
            return
        self.refused = refused
        try:
            if exchange.tunnel is not None:
                exchange.tunnel_lost()
            else:
                exchange.upstream_gone(orderly)
        except Exception:
            exchange.break_down()

    def broke(self, error: ProtocolError) -> None:
        """The stream is gone since what came on it, or on the connection, makes no sense."""
        self.over()
        exchange = self.exchange
        if exchange is None:
            return
        try:
            if exchange.tunnel is not None:
                exchange.tunnel_lost()
            else:
                exchange.upstream_broke(error)
        except Exception:
            exchange.break_down()

    def close(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.exchange = None
        if not self.stream:
            # It was found to be gone before it was used.
            self.connection.leave()
        elif self.open:
            self.await_response(CLOSE_TIME)
            self.half_close()

    def abandon(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.exchange = None
        if self.open:
            self._codec.reset(self.stream, CANCEL)
            self.over()
            self.connection.flush()

    # As the producer of the client's connection

    def pauseProducing(self) -> None:
        """The client does not keep up: the backend may fill its window and has to wait then."""
        # A backend that is not listened to cannot be late.
        self.paused = True
        self.deadline = inf
        if self.exchange is not None:
            self.exchange.downstream.stalled(True)

    def resumeProducing(self) -> None:
        """The client has taken what there was."""
        self.paused = False
        exchange = self.exchange
        if not self.open:
            return
        if self._owed:
            self._codec.taken(self.stream, self._owed)
            self._owed = 0
        if exchange is not None:
            exchange.downstream.stalled(False)
            if self._outflow is None or self._outflow.ended or exchange.tunnel is not None:
                self.await_response(exchange.read_timeout)
        self.connection.flush()

    def stopProducing(self) -> None:
        """The client's connection is lost; its protocol is told the same and ends the exchange."""

    def __repr__(self) -> str:
        return f"<Http2Carrier {self.backend.name} stream={self.stream} {'open' if self.open else 'over'}>"
