"""
The body of a request as it goes to a backend.

It is framed anew, as it was understood when it came (L{lemmytx.proxy.intake}), so a backend cannot meet an ambiguity
of the client's framing.
"""

from __future__ import annotations

from lemmytx.http1 import codec


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
