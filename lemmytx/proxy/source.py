"""Where the body of a request comes from, as the transport of its backend knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange


class Source:
    """
    A push producer for the backend's side: paused while the backend is slow. For askers that have one exchange at a
    time as C{exchange}.
    """

    __slots__ = ()

    exchange: Exchange | None

    def pause(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        raise AssertionError("each kind of asker says how")

    def resume(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        raise AssertionError("each kind of asker says how")

    def pauseProducing(self) -> None:
        """The backend does not keep up."""
        exchange = self.exchange
        if exchange is None:
            return
        self.pause()
        if not exchange.tunnel and exchange.upstream is not None:
            exchange.upstream.await_room(exchange.cluster.rules.write)

    def resumeProducing(self) -> None:
        """The backend has taken what there was."""
        exchange = self.exchange
        if exchange is None:
            return
        if not exchange.tunnel and exchange.upstream is not None:
            exchange.upstream.has_room()
        self.resume()

    def stopProducing(self) -> None:
        """The backend's connection is lost; its protocol is told the same and decides."""
