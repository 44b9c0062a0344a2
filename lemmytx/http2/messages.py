"""Header blocks as they come: what they begin, end or interrupt (RFC 9113 §8.1)."""

from __future__ import annotations

from lemmytx.http2 import frames, heads
from lemmytx.http2.errors import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Broken,
    Declined,
    Malformed,
)
from lemmytx.http2.events import Oversized, Request, Response, Trailers
from lemmytx.http2.heads import Field
from lemmytx.http2.hpack import HpackError, TooLarge
from lemmytx.http2.state import WORTH, State
from lemmytx.http2.streams import ENDED, RESET_BY_PEER, RESET_BY_US, Stream


class Messages(State):
    """What header blocks mean to a connection."""

    __slots__ = ()

    def _take_block(self, number: int, ended: bool, block: bytes, self_dependent: bool) -> None:
        """
        A whole header block. It is decompressed whatever it is for: the next one builds on it (§4.3).

        @param ended: its HEADERS has END_STREAM.
        @param self_dependent: and makes its stream depend on itself (§5.3.1 of RFC 7540).
        """
        fields: list[Field] | None
        try:
            fields = self._decoder.decode(block)
        except TooLarge:
            fields = None
        except HpackError:
            raise Broken(COMPRESSION_ERROR, "a header block that cannot be decompressed (section 4.3)") from None
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last and number & 1 and not self._client:
                self._last = number
                self._take_request(number, ended, fields, self_dependent)
            else:
                self._stray_block(number)
        elif stream.remote_ended:
            self._refuse(number, STREAM_CLOSED)  # half-closed (remote), §5.1
        elif self_dependent:
            self._refuse(number, PROTOCOL_ERROR)
        elif self._client and not stream.headed:
            self._take_response(stream, ended, fields)
        else:
            self._take_trailers(stream, ended, fields)

    def _stray_block(self, number: int) -> None:
        """A header block on a stream that is not open and cannot be opened by it."""
        how = self._past.how(number)
        if how == ENDED:
            raise Broken(STREAM_CLOSED, "HEADERS on a stream that has ended (section 5.1)")
        if how == RESET_BY_PEER:
            self._refuse(number, STREAM_CLOSED)
        elif how == RESET_BY_US or (self._client and number & 1 and number < self._next):
            self._idle_talk()  # a client knows that it was there, even where the rest is forgotten
        else:
            raise Broken(PROTOCOL_ERROR, "HEADERS with a stream identifier that is not the next (section 5.1.1)")

    def _take_request(self, number: int, ended: bool, fields: list[Field] | None, self_dependent: bool) -> None:
        """A header block on an idle stream: a request."""
        if self.draining or len(self._streams) >= self.bounds.streams:
            # A client that has not heard of our bound yet, or not of our end, does nothing wrong.
            self._past.add(number, RESET_BY_US)
            self._reply(frames.rst_stream(number, REFUSED_STREAM))
            self._idle_talk()
            if self._acknowledged and not self.draining:
                self._in_vain()
            return
        if self_dependent:
            self._refuse(number, PROTOCOL_ERROR)
            return
        stream = Stream(number, self._peer_window, self._window)
        stream.remote_ended = ended
        if fields is None:
            self._streams[number] = stream
            self._events.append(Oversized(number, ended))
            return
        try:
            head, stream.left, protocol = heads.request(fields, ended, self._extended_connect)
        except Malformed:
            self._refuse(number, PROTOCOL_ERROR)
            return
        except Declined as answer:
            self._decline(number, ended, answer.status)
            return
        stream.tunnel = protocol is not None
        self._streams[number] = stream
        self._work += WORTH
        self._events.append(Request(number, head, ended, protocol))

    def _decline(self, number: int, ended: bool, status: bytes) -> None:
        """A request that nobody needs to hear of."""
        block = self._encoder.encode([(b":status", status), (b"content-length", b"0")])
        flags = frames.END_HEADERS | frames.END_STREAM
        self._reply(frames.header(len(block), frames.HEADERS, flags, number) + block)
        if ended:
            self._past.add(number, ENDED)
        else:
            self._past.add(number, RESET_BY_US)
            self._reply(frames.rst_stream(number, NO_ERROR))
        self._idle_talk()

    def _take_response(self, stream: Stream, ended: bool, fields: list[Field] | None) -> None:
        """A header block on a stream of ours that has not been answered."""
        number = stream.number
        if fields is None:
            self._refuse(number, ENHANCE_YOUR_CALM)
            return
        try:
            head, status, left = heads.response(fields, ended, stream.method)
        except Malformed:
            self._refuse(number, PROTOCOL_ERROR)
            return
        if status < 200:
            self._idle_talk()
            self._events.append(Response(number, head, False))
            return
        self._work += WORTH
        stream.headed = True
        stream.left = left
        if status == 204 or status == 304 or stream.method == b"HEAD":
            stream.bodiless = True
        elif stream.method == b"CONNECT" and status >= 300:
            stream.tunnel = False
        if ended:
            self._end_remote(stream)
        self._events.append(Response(number, head, ended))

    def _take_trailers(self, stream: Stream, ended: bool, fields: list[Field] | None) -> None:
        """A header block on a stream that has had its head."""
        number = stream.number
        if not ended or stream.tunnel or stream.left > 0:  # §8.1, §8.5, §8.1.1
            self._refuse(number, PROTOCOL_ERROR)
            return
        if fields is None:
            self._refuse(number, ENHANCE_YOUR_CALM)
            return
        try:
            lines = heads.trailers(fields)
        except Malformed:
            self._refuse(number, PROTOCOL_ERROR)
            return
        self._end_remote(stream)
        self._events.append(Trailers(number, lines))

    def _end_remote(self, stream: Stream) -> None:
        """The peer's last frame on a stream."""
        stream.remote_ended = True
        if stream.local_ended:
            self._finish(stream)
