"""What goes out on a stream of HTTP/2 to a backend, and waits where there is no room for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemmytx.proxy.http2_upstream import Http2Upstream


class Outflow:
    """
    A request's body on its way, or the client's side of a tunnel. Requests without a body have none.

    There is room when the stream's window, the connection's window, and the socket have some. While something waits,
    the source of more is paused; so what waits is no more than one read from the client has brought.

    @ivar size: how many bytes wait.
    @ivar waits: whether any do.
    @ivar ending: whether what waits is the last.
    @ivar ended: whether the end is out (END_STREAM).
    """

    __slots__ = (
        "_connection", "_paused", "_queue", "_source", "_stream", "_trailers", "ended", "ending", "size", "waits",
    )  # fmt: skip

    def __init__(self, connection: Http2Upstream, stream: int) -> None:
        self._connection = connection
        self._stream = stream
        self._queue: deque[bytes] = deque()
        self._trailers = b""
        self._source: Any | None = None
        self._paused = False
        self.size = 0
        self.waits = False
        self.ending = False
        self.ended = False

    def add(self, data: bytes, last: bool, trailers: bytes) -> None:
        """
        More; L{send} sends it.

        @param trailers: lines with their CRLF; only with the last.
        """
        if data:
            self._queue.append(data)
            self.size += len(data)
        if last:
            self.ending, self._trailers = True, trailers

    def send(self, most: int) -> bool:
        """
        Give the codec what there is room for; sending that out is the caller's.

        @param most: bytes.
        @return: whether more could be sent now.
        """
        connection, stream, queue = self._connection, self._stream, self._queue
        http2 = connection.codec
        room = 0 if connection.behind else min(http2.room(stream), most)
        while queue and room > 0:
            piece = queue.popleft()
            if len(piece) > room:
                queue.appendleft(piece[room:])
                piece = piece[:room]
            size = len(piece)
            room -= size
            self.size -= size
            self.ended = self.ending and not queue and not self._trailers
            http2.send(stream, piece, self.ended)
        if self.ending and not queue and not self.ended:
            self.ended = True
            http2.trailers(stream, self._trailers)
        self.waits = bool(queue)
        self._hold_source()
        return self.waits and room <= 0 and not connection.behind and http2.room(stream) > 0

    def feed_from(self, source: Any | None) -> None:
        """
        Who brings more of it.

        @param source: a push producer; L{None}: nobody any more.
        """
        self._source = source
        self._paused = False
        self._hold_source()

    def _hold_source(self) -> None:
        source = self._source
        if source is not None and self.waits is not self._paused:
            self._paused = self.waits
            if self.waits:
                source.pauseProducing()
            else:
                source.resumeProducing()

    def drop(self) -> None:
        """The stream is gone: nothing of what waits is sent any more."""
        self._queue.clear()
        self.size = 0
        self.waits = False
        self._source = None
