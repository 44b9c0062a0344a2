"""
The body of a request as it goes to a backend.

What the client's framing meant was understood when it came (L{lemmytx.proxy.intake}); here it is the bare content. The
carrier frames it anew (L{lemmytx.proxy.carrier}), so a backend cannot meet an ambiguity of the client's framing.
"""

from __future__ import annotations


class OutgoingBody:
    """
    A body on its way, held for as long as it may have to be sent again.

    @ivar chunked: whether its length is not known beforehand.
    @ivar ended: whether all of it has been handed over.
    @ivar trailers: once it has ended: lines with their CRLF.
    @ivar replayable: whether everything handed over so far is still held.
    """

    __slots__ = ("_held", "_limit", "_size", "chunked", "ended", "replayable", "trailers")

    def __init__(self, chunked: bool, limit: int) -> None:
        """
        @param limit: how many bytes are held for another attempt. What waits for the first attempt is held in any
            case.
        """
        self.chunked = chunked
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0
        self.ended = False
        self.trailers = b""
        self.replayable = True

    def add(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """One more piece."""
        self.ended = ended
        self.trailers = trailers
        if self.replayable:
            self._held.append(body)
            self._size += len(body)

    @property
    def full(self) -> bool:
        """Whether so much is held that no more should be while nobody takes it."""
        return self._size > self._limit

    def so_far(self) -> bytes:
        """Everything, for a backend that has had nothing of it. Only while it is C{replayable}."""
        return b"".join(self._held)

    def sent(self) -> None:
        """A backend has what there is: hold it on if it is short, or let it go."""
        if self._size > self._limit:
            self.replayable = False
            self._held = []
            self._size = 0
