"""
The body of a request on its way: as it comes from a client, and as it goes to a backend.

Both sides frame it anew, so neither can take over an ambiguity of the other.
"""

from __future__ import annotations

from lemmytx.http1 import codec
from lemmytx.message import CHUNKED, ProtocolError


class IncomingBody:
    """
    A body as it arrives: counted or in chunks, up to a limit.

    @ivar remaining: bytes that are still to come, of a counted body; 0 for one in chunks.
    @ivar ended: whether all of it is here.
    @ivar rest: once it has ended, what came behind it: the beginning of the next request.
    @ivar trailers: once it has ended, the trailer fields that may be forwarded, each line with its CRLF.
    @ivar begun: whether any byte of it has come.
    """

    __slots__ = ("_chunks", "_limit", "_taken", "begun", "ended", "remaining", "rest", "trailers")

    def __init__(self, length: int, limit: int) -> None:
        """
        @param length: as in L{lemmytx.message.RequestHead}; not 0.
        @param limit: how many bytes it may have; 0 = any number.
        @raise ProtocolError: 413, it is longer.
        """
        if limit and length > limit:
            raise ProtocolError(413, f"a body of {length} bytes, and {limit} are allowed")
        self._limit = limit
        self._taken = 0
        self._chunks: codec.ChunkedBody | None = None
        self.remaining = length
        if length == CHUNKED:
            self._chunks = codec.ChunkedBody()
            self.remaining = 0
        self.begun = False
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
            self.begun = True
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

    def spliced(self, count: int) -> None:
        """So many bytes of a counted body went another way (L{lemmytx.net.splice})."""
        self.remaining -= count
        if not self.remaining:
            self.ended = True


class OutgoingBody:
    """
    A body as it leaves: framed, and held for as long as it may have to be sent again.

    @ivar ended: whether all of it has been handed over.
    @ivar replayable: whether everything handed over so far is still held.
    """

    __slots__ = ("_chunked", "_held", "_limit", "_size", "ended", "replayable")

    def __init__(self, chunked: bool, limit: int) -> None:
        """
        @param limit: how many bytes are held for another attempt. What waits for the first attempt is held in any
            case.
        """
        self._chunked = chunked
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0
        self.ended = False
        self.replayable = True

    def add(self, body: bytes, ended: bool, trailers: bytes) -> bytes:
        """
        One more piece.

        @return: the piece as it goes to a backend.
        """
        self.ended = ended
        if self._chunked:
            body = codec.chunk(body) if body else b""
            if ended:
                body += codec.last_chunk(trailers)
        if self.replayable:
            self._held.append(body)
            self._size += len(body)
        return body

    def so_far(self) -> bytes:
        """Everything, for a backend that has had nothing of it. Only while it is C{replayable}."""
        return b"".join(self._held)

    def sent(self) -> None:
        """A backend has what there is: hold it on if it is short, or let it go."""
        if self._size > self._limit:
            self.replayable = False
            self._held = []
            self._size = 0
