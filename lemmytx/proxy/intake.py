"""
The body of a request as it comes from a client.

One that is here as a whole with its head has had its intake when the exchange begins. Else the intake lives until the
last byte, or the end of the connection, and by its attributes is one of these::

    expecting   spliced   the body
    yes         -         is held back by the client until it hears 100, from the backend or, after
                          L{CONTINUE_AFTER}, from us; no byte of it has come
    no          no        comes through us: counted, or in chunks
    no          yes       goes past us inside the kernel (L{lemmytx.net.splice}): counted alone, and only when nobody
                          needs to hold it for another attempt any more
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer

from lemmytx.http1 import codec
from lemmytx.message import CHUNKED, ProtocolError, RequestHead
from lemmytx.net.splice import WORTH_IT, Splice, can_splice

#: How long a backend may be silent on `Expect: 100-continue` before we ourselves ask for the body (RFC 9110 §10.1.1
#: lets a proxy do that): a backend that does not know the expectation waits for a body that a patient client would
#: never send. curl waits 1 s before it sends unasked.
CONTINUE_AFTER = 1.0


class Intake:
    """
    A body as it arrives: counted or in chunks, up to a limit.

    @ivar remaining: bytes that are still to come, of a counted body; 0 for one in chunks.
    @ivar ended: whether all of it is here.
    @ivar rest: once it has ended, what came behind it: the beginning of the next request.
    @ivar trailers: once it has ended, the trailer fields that may be forwarded, each line with its CRLF.
    @ivar expecting: whether the client waits for 100 before it sends any of it. Whoever tells it 100 ends that.
    """

    __slots__ = ("_chunks", "_limit", "_splice", "_taken", "ended", "expecting", "remaining", "rest", "trailers")

    def __init__(self, head: RequestHead, limit: int) -> None:
        """
        @param head: the request's; its length is not 0.
        @param limit: how many bytes the body may have; 0 = any number.
        @raise ProtocolError: 413, it is longer.
        """
        length = head.length
        if limit and length > limit:
            raise ProtocolError(413, f"a body of {length} bytes, and {limit} are allowed")
        self._limit = limit
        self._taken = 0
        self._chunks: codec.ChunkedBody | None = None
        self._splice: Splice | None = None
        self.remaining = length
        if length == CHUNKED:
            self._chunks = codec.ChunkedBody()
            self.remaining = 0
        self.expecting = head.expects_continue
        self.ended = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """
        @param data: what has come; more than the body is fine.
        @return: what of it is payload.
        @raise ProtocolError: 400, what came is no body; 413, it is too long; 431, its trailers are.
        """
        if data:
            self.expecting = False
        chunks = self._chunks
        if chunks is None:
            over = len(data) - self.remaining
            if over < 0:
                self.remaining = -over
                return data
            self.remaining = 0
            self.ended = True
            if over:
                self.rest = data[len(data) - over :]
                return data[: len(data) - over]
            return data
        payload = chunks.feed(data)
        self._taken += len(payload)
        if self._limit and self._taken > self._limit:
            raise ProtocolError(413, f"a body of more than {self._limit} bytes")
        if chunks.done:
            self.ended = True
            self.rest, self.trailers = chunks.rest, chunks.trailers
        return payload

    def patience(self, timeout: float) -> float:
        """
        Seconds that the client may be silent from now on.

        @param timeout: what it has between two pieces of a body.
        """
        return CONTINUE_AFTER if self.expecting else timeout

    def splice(
        self, source: Any, sink: Any, producer: IPushProducer, moved: Callable[[int], None], done: Callable[[], None]
    ) -> None:
        """
        Let the kernel move what is still to come, if that is worth it and can be done. The parameters are those of
        L{Splice}; C{moved} calls L{spliced}.
        """
        if self.remaining < WORTH_IT or not can_splice(source, sink):
            return
        try:
            self._splice = Splice(source, sink, self.remaining, producer, moved, done)
        except OSError:
            # No descriptors left for a pipe: copying works without.
            self._splice = None

    def spliced(self, count: int) -> None:
        """So many bytes have gone past us."""
        self.remaining -= count
        if not self.remaining:
            self.ended = True

    def stop(self) -> None:
        """No more of it is wanted, or will come."""
        if self._splice is not None:
            self._splice.stop()
            self._splice = None
