"""
A connection to a backend that carries one exchange at a time: what HTTP/1.1 and FastCGI have in common.

One deadline serves it: until the backend answers, until it takes more of the request, until what is queued on a
connection without work has gone. A client that is slow pauses it, and a backend that is not listened to cannot be late.
"""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from lemmytx.cluster.backend import Backend
from lemmytx.net.ticker import Ticker

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange

log = Logger(namespace="lemmytx.proxy")

#: Seconds that a backend has to take what is queued on a connection that is not needed any more.
CLOSE_TIME = 10.0


class Single:
    """
    The part of a L{lemmytx.proxy.carrier.Carrier} that does not depend on what is spoken.

    @ivar exchange: what it carries; L{None} while it is idle.
    @ivar served: how many exchanges it has carried, the present one included.
    @ivar answered: whether any byte of a response to the present exchange has come.
    @ivar paused: whether the client does not keep up.
    @ivar refused: whether the backend is known to have taken nothing of the present request.
    """

    __slots__ = (
        "_queued", "answered", "backend", "check_at", "deadline", "exchange", "paused", "refused", "served", "ticker",
        "transport",
    )  # fmt: skip

    transport: Any

    def __init__(self, backend: Backend, ticker: Ticker) -> None:
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
        self._queued = 0  # when we last looked whether the backend takes any of the request

    # Requests

    def feed_from(self, source: Any | None) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        if source is None:
            self.transport.unregisterProducer()
        else:
            self.transport.registerProducer(source, True)

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

    def await_response(self, seconds: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.deadline = self.ticker.seconds() + seconds
        if self.deadline < self.check_at:
            self.ticker.watch(self)

    def await_room(self, seconds: float) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._queued = getattr(self.transport, "queued", 0)
        self.await_response(seconds)

    def has_room(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self._queued = 0
        self.deadline = inf

    def close(self) -> None:
        """See L{lemmytx.proxy.carrier.Carrier}."""
        self.exchange = None
        self.await_response(CLOSE_TIME)
        self.transport.loseConnection()

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        """The connection stands."""
        self.transport = transport
        transport.setTcpNoDelay(True)

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of what we do with the backend's bytes."""
        if self.exchange is not None:
            self.exchange.break_down()
        else:
            log.failure("{upstream!r} was ended by an error of our own", upstream=self)
            self.backend.lost(self)
            self.transport.abortConnection()

    # Time

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
        else:
            self.late(exchange)

    def late(self, exchange: Exchange) -> None:
        """The backend was silent, or took nothing, for too long."""
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
        state = "idle" if self.exchange is None else "busy"
        return f"<{type(self).__name__} {self.backend.name} served={self.served} {state}>"
