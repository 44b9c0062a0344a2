"""
What an exchange becomes when the backend agrees to another protocol (101, RFC 9110 §7.8): bytes, both ways, until both
sides have ended.

A half that ends is passed on as such: the other side may still have something to say. Back-pressure is that of any
body, in both directions; silence of both for C{timeouts.tunnel} ends it.

Of a WebSocket, the usual one, we know a little more: where its frames end. So when it has to go, because the process
stops or its backend was removed, it can be told (1001, "going away") in a way that both sides understand, and gets the
time to say farewell::

    L{WebSocket.leave}          a Close frame of ours goes out in each direction, at once between two frames, else
                                behind the one that is under way; nothing goes out in that direction after it
    a side is through           its own Close has come, or its end has
    both sides are through      the tunnel ends
    L{FAREWELL} later           the tunnel ends
    no end of a frame comes     whoever called L{WebSocket.leave} cuts when he runs out of patience

When one side has closed by itself already, there is nothing to be told: its Close, and the answer to it, pass.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lemmytx.websocket.frames import GOING_AWAY, Direction, close

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange

#: Seconds that both sides of a WebSocket have to answer the Close frames that we have sent them.
FAREWELL = 5.0


class Tunnel:
    """
    The bytes between a client and a backend.

    @ivar backend_ended: whether the backend has said all it has to say.
    @ivar client_ended: the same of the client.
    @ivar leaving: whether both have been told, or will be, that this ends.
    """

    __slots__ = ("_exchange", "backend_ended", "client_ended", "leaving")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.backend_ended = False
        self.client_ended = False
        self.leaving = False

    def from_backend(self, data: bytes) -> None:
        """Bytes for the client."""
        exchange = self._exchange
        exchange.sent += len(data)
        assert exchange.upstream is not None
        exchange.upstream.await_response(exchange.read_timeout)
        exchange.downstream.write(data)

    def from_client(self, data: bytes) -> None:
        """Bytes for the backend."""
        exchange = self._exchange
        exchange.received += len(data)
        upstream = exchange.upstream
        if upstream is not None:
            upstream.await_response(exchange.read_timeout)
            upstream.write(data)

    def backend_half_closed(self) -> None:
        """The backend will send no more."""
        self.backend_ended = True
        if self.client_ended:
            self._exchange.tunnel_ended()
        else:
            self._exchange.downstream.half_close()

    def client_half_closed(self) -> None:
        """The client will send no more."""
        self.client_ended = True
        if self.backend_ended:
            self._exchange.tunnel_ended()
        elif self._exchange.upstream is not None:
            self._exchange.upstream.half_close()

    def leave(self) -> None:
        """It should end soon. Nobody knows how to say that in its protocol, so it lives until it is cut."""

    def over(self) -> None:
        """It is accounted for: nothing more is to be waited for."""


class WebSocket(Tunnel):
    """
    The same, in frames.

    @ivar deadline: see L{lemmytx.net.ticker.Timed}; C{check_at} too.
    """

    __slots__ = ("_down", "_told", "_up", "check_at", "deadline")

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._up = Direction(True)
        self._down = Direction(False)
        self._told = False  # they did not close by themselves
        self.deadline = inf
        self.check_at = inf

    def from_backend(self, data: bytes) -> None:
        """See L{Tunnel}."""
        if self.leaving:
            data = self._down.passing(data)
            if data:
                Tunnel.from_backend(self, data)
            self._proceed()
        else:
            self._down.feed(data)
            Tunnel.from_backend(self, data)

    def from_client(self, data: bytes) -> None:
        """See L{Tunnel}."""
        if self.leaving:
            data = self._up.passing(data)
            if data:
                Tunnel.from_client(self, data)
            self._proceed()
        else:
            self._up.feed(data)
            Tunnel.from_client(self, data)

    def backend_half_closed(self) -> None:
        """See L{Tunnel}."""
        if not self.leaving:
            super().backend_half_closed()
            return
        self.backend_ended = True
        if self._down.ended:
            self._proceed()
        else:
            # In the middle of a frame: nothing can be said to the client any more.
            self._end()

    def client_half_closed(self) -> None:
        """See L{Tunnel}."""
        if not self.leaving:
            super().client_half_closed()
            return
        self.client_ended = True
        if self._up.ended:
            self._proceed()
        else:
            self._end()

    def leave(self) -> None:
        """
        It should end soon: tell both sides. Where frames can not be told any more, it lives until it is cut, as any
        tunnel.
        """
        up, down = self._up, self._down
        if self.leaving or up.lost or down.lost:
            return
        self.leaving = True
        self._told = not (up.closed or down.closed)
        if self._told:
            if not self.backend_ended and (data := down.end(close(GOING_AWAY, False))):
                Tunnel.from_backend(self, data)
            if not self.client_ended and (data := up.end(close(GOING_AWAY, True))):
                Tunnel.from_client(self, data)
        self._proceed()

    def _proceed(self) -> None:
        """End it when both sides are through; else see to it that they are before long."""
        up, down = self._up, self._down
        client, backend = self.client_ended, self.backend_ended
        if (up.closed or client) and (down.closed or backend):
            self._end()
        elif self.deadline == inf and (up.closed or down.closed or ((up.ended or client) and (down.ended or backend))):
            ticker = self._exchange.resource.ticker
            self.deadline = ticker.seconds() + FAREWELL
            ticker.watch(self)

    def expired(self) -> None:
        """L{FAREWELL} is over."""
        self._end()

    def _end(self) -> None:
        up, down = self._up, self._down
        if up.closed and down.closed and not self._told:
            self._exchange.tunnel_ended()
        else:
            self._exchange.tunnel_left()

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of L{expired}."""
        self._exchange.break_down()

    def over(self) -> None:
        """See L{Tunnel}."""
        self.deadline = inf
        self._exchange.resource.ticker.forget(self)
