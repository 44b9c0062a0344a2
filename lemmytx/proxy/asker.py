"""The asking side of an exchange, as the exchange knows it."""

from __future__ import annotations

from typing import Any, Protocol

from lemmytx.message import ResponseHead
from lemmytx.proxy.carrier import Carrier
from lemmytx.proxy.ends import Ends


class Asker(Protocol):
    """
    What an exchange needs of the side that asks. A downstream of HTTP/1.1 is one, a request of C{twisted.web} another.
    """

    def ends(self) -> Ends:
        """
        The two ends of the client's connection: its address and port, and those it has connected to; as a PROXY
        protocol header has told them where one has. Empty and 0 where there is none, as on a unix socket.
        """

    def inform(self, head: ResponseHead) -> None:
        """An interim response."""

    def respond(self, head: ResponseHead, body: bytes, ended: bool, trailers: bytes) -> None:
        """The final response begins, and is whole if C{ended}."""

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """More of the response."""

    def reply(self, status: int, fields: bytes = b"") -> None:
        """An answer of our own, whole."""

    def cut(self) -> None:
        """The response cannot be finished: end the connection so that nobody takes the part for the whole."""

    def open_tunnel(self, head: ResponseHead) -> None:
        """From here on bytes, no messages."""

    def write(self, data: bytes) -> None:
        """Bytes of a tunnel to the client."""

    def half_close(self) -> None:
        """The backend's side of a tunnel has ended."""

    def finished(self, now: float | None = None) -> None:
        """
        The exchange is over and accounted for.

        @param now: the time on the ticker's clock, where the exchange has just looked at it.
        """

    def listen_to(self, upstream: Carrier | None) -> None:
        """Pause this upstream whenever the client does not keep up; L{None}: there is nothing more to pause."""

    def stalled(self, stalled: bool) -> None:
        """The client has begun, or ceased, to be slower than the backend."""

    def body_sink(self) -> Any | None:
        """The transport that takes body bytes as they are; L{None} where they are framed or encrypted."""

    def body_source(self, upstream: Carrier) -> Any | None:
        """The producer of the request's body, to be paused by the backend's transport; L{None} when all is here."""

    def pause(self) -> None:
        """Send no more of the request for now."""

    def resume(self) -> None:
        """Send on."""
