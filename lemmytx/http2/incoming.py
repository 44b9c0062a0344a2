"""
Frames as they come: one pass over what was received, one method for each type.

Which methods those are is a table, and there are three: at the beginning nothing but SETTINGS may come (RFC 9113 §3.4);
within a header block nothing but its CONTINUATION (§6.10), else everything. So none of the methods asks which it is.

What is wrong with a frame is either the connection's end (L{Broken}) or the stream's (L{State._refuse}); which of them,
and with which code, the RFC says for each, and the comments where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lemmytx.http2 import frames
from lemmytx.http2.bounds import Bounds
from lemmytx.http2.control import Control
from lemmytx.http2.errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    Broken,
)
from lemmytx.http2.events import Data, Event, Terminated
from lemmytx.http2.frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    SETTINGS,
    WITH_PRIORITY,
)
from lemmytx.http2.state import SMALL, SMALL_WORTH, WORTH
from lemmytx.http2.streams import ENDED, RESET_BY_US, Stream

#: Between two calls nothing holds on to what has come: an idle connection should cost no more than it must.
_NO_EVENTS: list[Event] = []

_Take = Callable[[Any, int, int, bytes, int, int], None]


class Incoming(Control):
    """The receiving half of a connection."""

    __slots__ = ("_preface", "_take")

    _take: tuple[_Take, ...]

    def __init__(self, client: bool, bounds: Bounds, extended_connect: bool) -> None:
        super().__init__(client, bounds, extended_connect)
        self._preface = not client
        self._take = _AT_FIRST

    def receive(self, data: bytes) -> list[Event]:
        """
        What the peer has sent, in pieces of any size.

        @return: what has happened. What is to be sent now is to be had from C{take}.
        """
        events: list[Event] = []
        if self.terminated:
            return events
        self._events = events
        if self._rest:
            data = self._rest + data
        at = 0
        size = len(data)
        largest = self.bounds.frame_size
        try:
            if self._preface:
                at = self._begin(data)
                if at < 0:
                    self._rest = data
                    self._events = _NO_EVENTS
                    return events
            while size - at >= 9:
                high, low, kind, flags, number = frames.read_header(data, at)
                length = high << 8 | low
                if length > largest:
                    raise Broken(FRAME_SIZE_ERROR, "a frame larger than we take (section 4.2)")
                start = at + 9
                end = start + length
                if end > size:
                    break
                if kind > CONTINUATION:
                    self._unknown()
                else:
                    self._take[kind](self, flags, number & 0x7FFFFFFF, data, start, end)
                at = end
            self._rest = data[at:] if at < size else b""
        except Broken as error:
            self._break(error)
        self._events = _NO_EVENTS
        return events

    def _break(self, error: Broken) -> None:
        """A connection error: the last that is said, and the last that is heard."""
        self._out.append(frames.goaway(self._last, error.code))
        self._streams.clear()
        self._rest = b""
        self._block_parts = []
        self.terminated = True
        self._events.append(Terminated(error.code, error.reason))

    def _begin(self, data: bytes) -> int:
        """
        The preface of a client.

        @return: where frames begin; -1: more is needed.
        """
        if data.startswith(PREFACE):
            self._preface = False
            return len(PREFACE)
        if not PREFACE.startswith(data):
            raise Broken(PROTOCOL_ERROR, "not the preface of HTTP/2 (section 3.4)")
        return -1

    def _not_first(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        raise Broken(PROTOCOL_ERROR, "a preface without SETTINGS (section 3.4)")

    def _first_settings(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if flags & ACK:
            raise Broken(PROTOCOL_ERROR, "a preface without SETTINGS (section 3.4)")
        self._take = _ANY
        self.peer_streams = frames.LARGEST_WINDOW  # unless it says: as many as there can be (§6.5.2)
        self._take_settings(flags, number, data, at, end)
        self._chatter = 0

    def _unknown(self) -> None:
        """A frame of a type that we do not know, to be ignored (§5.5)."""
        if self._take is not _ANY:
            raise Broken(PROTOCOL_ERROR, "an extension frame at the beginning or within a header block (section 5.5)")
        self._idle_talk()

    def _not_within(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        raise Broken(PROTOCOL_ERROR, "another frame within a header block (section 6.10)")

    # DATA (§6.1)

    def _take_data(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        flow = end - at
        if flow:
            # The window of the connection is given back at once: what is held is bounded by those of the streams.
            inflow = self._inflow - flow
            if inflow < 0:
                raise Broken(FLOW_CONTROL_ERROR, "DATA beyond the window of the connection (section 6.9.1)")
            owed = self._owed + flow
            if owed * 2 >= self.bounds.connection_window:
                self._reply(frames.window_update(0, owed))
                inflow += owed
                owed = 0
            self._inflow = inflow
            self._owed = owed
        if flags & PADDED:
            if not flow:
                raise Broken(FRAME_SIZE_ERROR, "DATA without the length of its padding (section 6.1)")
            end -= data[at]
            at += 1
            if end < at:
                raise Broken(PROTOCOL_ERROR, "DATA of nothing but padding, and too much of that (section 6.1)")
        stream = self._streams.get(number)
        if stream is None or stream.remote_ended:
            self._stray_data(number, stream)
            return
        stream.inflow -= flow
        if stream.inflow < 0:
            self._refuse(number, FLOW_CONTROL_ERROR)
            return
        size = end - at
        ended = flags & END_STREAM
        if (size and stream.bodiless) or (self._client and not stream.headed):
            self._refuse(number, PROTOCOL_ERROR)
            return
        left = stream.left
        if left >= 0:
            left -= size
            if left < 0 or (ended and left):  # §8.1.1
                self._refuse(number, PROTOCOL_ERROR)
                return
            stream.left = left
        if ended:
            stream.remote_ended = True
            if stream.local_ended:
                self._finish(stream)
            self._work += WORTH
        elif size:
            self._work += WORTH if size >= SMALL else SMALL_WORTH
        else:
            self._idle_talk()
            if flow:
                self._give_back(stream, flow)
            return
        self._events.append(Data(number, data[at:end], flow, ended != 0))

    def _stray_data(self, number: int, stream: Stream | None) -> None:
        """DATA for a stream that is not open."""
        if stream is not None:
            self._refuse(number, STREAM_CLOSED)  # half-closed (remote)
            return
        if self._is_idle(number):  # the connection itself as well
            raise Broken(PROTOCOL_ERROR, "DATA on an idle stream (section 5.1)")
        how = self._past.how(number)
        if how == ENDED:
            raise Broken(STREAM_CLOSED, "DATA on a stream that has ended (section 5.1)")
        if how == RESET_BY_US:
            self._idle_talk()
        else:
            self._refuse(number, STREAM_CLOSED)

    # HEADERS (§6.2), CONTINUATION (§6.10)

    def _take_headers(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if not number:
            raise Broken(PROTOCOL_ERROR, "HEADERS without a stream (section 6.2)")
        self_dependent = False
        if flags & (PADDED | WITH_PRIORITY):
            least = (1 if flags & PADDED else 0) + (5 if flags & WITH_PRIORITY else 0)
            if end - at < least:
                raise Broken(FRAME_SIZE_ERROR, "HEADERS too short for its flags (section 6.2)")
            if flags & PADDED:
                end -= data[at]
                at += 1
            if flags & WITH_PRIORITY:
                self_dependent = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF == number
                at += 5
            if end < at:
                raise Broken(PROTOCOL_ERROR, "HEADERS with more padding than there is (section 6.2)")
        if flags & END_HEADERS:
            self._take_block(number, flags & END_STREAM != 0, data[at:end], self_dependent)
            return
        self._take = _IN_BLOCK
        self._block_stream = number
        self._block_flags = flags
        self._block_size = end - at
        self._block_parts = [data[at:end]]
        self._self_dependent = self_dependent

    def _take_continuation(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if number != self._block_stream:
            raise Broken(PROTOCOL_ERROR, "CONTINUATION of another stream (section 6.10)")
        parts = self._block_parts
        parts.append(data[at:end])
        self._block_size += end - at
        # Nobody needs more bytes for a list than it has by §6.5.2's count; beyond twice that it is no mistake any more.
        if self._block_size > self.bounds.header_list * 2 or len(parts) > self.bounds.continuations + 1:
            raise Broken(ENHANCE_YOUR_CALM, "a header block without an end")
        if flags & END_HEADERS:
            self._take = _ANY
            self._block_parts = []
            self._take_block(number, self._block_flags & END_STREAM != 0, b"".join(parts), self._self_dependent)

    def _stray_continuation(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        raise Broken(PROTOCOL_ERROR, "CONTINUATION of nothing (section 6.10)")

    # PUSH_PROMISE (§6.6)

    def _take_push_promise(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        raise Broken(PROTOCOL_ERROR, "PUSH_PROMISE, which a client never sends and we do not want (section 6.6)")


_ANY: tuple[_Take, ...] = (
    Incoming._take_data,
    Incoming._take_headers,
    Incoming._take_priority,
    Incoming._take_rst_stream,
    Incoming._take_settings,
    Incoming._take_push_promise,
    Incoming._take_ping,
    Incoming._take_goaway,
    Incoming._take_window_update,
    Incoming._stray_continuation,
)
_AT_FIRST = tuple(Incoming._first_settings if kind == SETTINGS else Incoming._not_first for kind in range(10))
_IN_BLOCK = tuple(Incoming._take_continuation if kind == CONTINUATION else Incoming._not_within for kind in range(10))
