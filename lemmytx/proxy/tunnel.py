"""
What an exchange becomes when the backend agrees to another protocol (101, RFC 9110 §7.8): bytes, both ways, until both
sides have ended. WebSocket is the usual one.

A half that ends is passed on as such: the other side may still have something to say. Back-pressure is that of any
body, in both directions; silence of both for C{timeouts.tunnel} ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange


class Tunnel:
    """
    The bytes between a client and a backend.

    @ivar backend_ended: whether the backend has said all it has to say.
    @ivar client_ended: the same of the client.
    """

    __slots__ = ("_exchange", "backend_ended", "client_ended")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.backend_ended = False
        self.client_ended = False

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
            upstream.transport.write(data)

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
            self._exchange.upstream.transport.loseWriteConnection()
