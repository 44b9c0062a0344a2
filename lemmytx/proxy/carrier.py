"""The answering side of an exchange, as the exchange knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lemmytx.cluster.backend import Backend
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.body import OutgoingBody

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange


class Carrier(Protocol):
    """
    What carries an exchange to a backend. A connection of HTTP/1.1 is one (L{lemmytx.proxy.upstream.Upstream}), others
    are a stream of HTTP/2 and a FastCGI connection.

    A carrier gives heads to the exchange as L{lemmytx.http1.codec} makes them, and bodies without any framing. It
    calls, for each exchange that it has got by L{carry} and as long as C{exchange} is set: C{inform} for interim
    responses; C{respond} once, then C{carry_on}, until one of them was told that the response has ended; or
    C{open_tunnel}; or else, once, C{upstream_gone}, C{upstream_broke} or C{upstream_timed_out}. It stands in as a push
    producer for what the client gets.

    @ivar exchange: what it carries; L{None} while it carries nothing. Set by C{carry}; the exchange takes itself off.
    @ivar served: how many exchanges it has carried, the present one included.
    @ivar answered: whether any byte of a response to the present exchange has come.
    @ivar paused: whether the client does not keep up.
    @ivar refused: whether the backend is known to have taken nothing of the present request.
    @ivar deadline: see L{lemmytx.net.ticker.Timed}; C{check_at} too.
    """

    backend: Backend
    ticker: Ticker
    exchange: Exchange | None
    served: int
    answered: bool
    paused: bool
    refused: bool
    deadline: float
    check_at: float

    def fresh(self) -> bool:
        """Whether the backend has neither closed it nor sent anything, as far as can be known by now."""

    def carry(self, exchange: Any, head: bytes, body: OutgoingBody | None, deadline: float) -> None:
        """
        Send the beginning of a request.

        @param exchange: an exchange, or what stands in for one.
        @param head: as HTTP/1.1, with the empty line.
        @param body: where the request has one: what there is of it. What comes later goes through L{send}.
        @param deadline: when that is the whole request: until when the backend has to begin its answer, on the ticker's
            clock; else L{math.inf}.
        """

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """
        More of the request's body.

        @param trailers: lines with their CRLF; only with the end.
        """

    def feed_from(self, source: Any | None) -> None:
        """
        Where the rest of the request comes from.

        @param source: a push producer, to be paused while the backend is slow; L{None}: no more comes.
        """

    def write(self, data: bytes) -> None:
        """Bytes of a tunnel."""

    def half_close(self) -> None:
        """The client's side of a tunnel has ended."""

    def body_sink(self) -> Any | None:
        """The transport that takes the request's body as it is; L{None} where it is framed or encrypted."""

    def await_response(self, seconds: float) -> None:
        """The request is out as a whole: the backend has so long for its next bytes."""

    def await_room(self, seconds: float) -> None:
        """The backend does not keep up with the request: it has so long to take some of what is queued for it."""

    def has_room(self) -> None:
        """The backend has taken all of that."""

    def close(self) -> None:
        """No more work for it. What is queued still gets out, but not for ever."""

    def abandon(self) -> None:
        """What it carries is over before its time."""

    def expired(self) -> None:
        """The deadline has passed."""

    def pauseProducing(self) -> None:
        """The client does not keep up."""

    def resumeProducing(self) -> None:
        """The client has taken what there was."""

    def stopProducing(self) -> None:
        """The client's connection is lost; its protocol is told the same and ends the exchange."""
