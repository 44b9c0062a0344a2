"""
Frames that steer a connection or a stream and bring no message: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, PRIORITY,
RST_STREAM. Each method is called with the frame's flags and stream, and the piece of the input that is its payload.
"""

from __future__ import annotations

from lemmytx.http2 import frames
from lemmytx.http2.errors import FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, Broken
from lemmytx.http2.events import GoneAway, Ponged, Reset, Room, Settings
from lemmytx.http2.frames import ACK, LARGEST_WINDOW
from lemmytx.http2.messages import Messages
from lemmytx.http2.streams import RESET_BY_PEER, RESET_BY_US, Stream


class Control(Messages):
    """What such frames do."""

    __slots__ = ()

    def _is_idle(self, number: int) -> bool:
        """Whether a stream has not been opened yet (§5.1). Even ones never are, as nothing is pushed."""
        if self._client:
            return number >= self._next or not number & 1
        return number > self._last or not number & 1

    def _give_back(self, stream: Stream, count: int) -> None:
        """Of what came on a stream, so much has been taken."""
        owed = stream.owed + count
        if owed * 2 >= self._window and not stream.remote_ended:
            self._out.append(frames.window_update(stream.number, owed))
            stream.inflow += owed
            owed = 0
        stream.owed = owed

    # PRIORITY (§6.3), RST_STREAM (§6.4)

    def _take_priority(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if not number:
            raise Broken(PROTOCOL_ERROR, "PRIORITY without a stream (section 6.3)")
        if end - at != 5:
            self._refuse_priority(number, FRAME_SIZE_ERROR)
        elif int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF == number:
            self._refuse_priority(number, PROTOCOL_ERROR)
        self._idle_talk()

    def _refuse_priority(self, number: int, code: int) -> None:
        """An error of the stream, if there is one: nobody can be told of an error on one that is idle or closed."""
        if number not in self._streams:
            raise Broken(code, "a malformed PRIORITY (section 6.3)")
        self._refuse(number, code)

    def _take_rst_stream(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if end - at != 4:
            raise Broken(FRAME_SIZE_ERROR, "RST_STREAM of a wrong size (section 6.4)")
        stream = self._streams.pop(number, None)
        if stream is None:
            if self._is_idle(number):
                raise Broken(PROTOCOL_ERROR, "RST_STREAM on an idle stream (section 6.4)")
            self._idle_talk()
            return
        self._past.add(number, RESET_BY_PEER)
        self._events.append(Reset(number, int.from_bytes(data[at:end], "big")))
        # Once it has been answered, at least in part, it has cost the peer a turn: no worse than a request.
        if not self._client and not stream.headed:
            self._in_vain()

    # SETTINGS (§6.5)

    def _take_settings(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        size = end - at
        if number:
            raise Broken(PROTOCOL_ERROR, "SETTINGS on a stream (section 6.5)")
        if flags & ACK:
            if size:
                raise Broken(FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with something in it (section 6.5)")
            self._settings_acknowledged()
            return
        if size % 6:
            raise Broken(FRAME_SIZE_ERROR, "SETTINGS of a wrong size (section 6.5)")
        self._idle_talk(1 + size // 6)
        window = None
        for name, value in frames.read_settings(data[at:end]):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise Broken(FLOW_CONTROL_ERROR, "an initial window that is too large (section 6.5.2)")
                window = value
            elif name == frames.HEADER_TABLE_SIZE:
                self._encoder.resize(value)
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self.peer_streams = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.SMALLEST_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                    raise Broken(PROTOCOL_ERROR, "a frame size that is none (section 6.5.2)")
                self._peer_frame_size = value
            elif name == frames.ENABLE_PUSH:
                if value > 1 or (value and self._client):
                    raise Broken(PROTOCOL_ERROR, "a wrong value of ENABLE_PUSH (section 6.5.2)")
            elif name == frames.ENABLE_CONNECT_PROTOCOL:
                if value > 1 or value < self.peer_extended_connect:
                    raise Broken(PROTOCOL_ERROR, "a wrong value of ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3)")
                self.peer_extended_connect = value == 1
        if window is not None and window != self._peer_window:
            self._resize_windows(window)
        self._reply(frames.SETTINGS_ACK)
        self._events.append(Settings())

    def _resize_windows(self, window: int) -> None:
        """The peer has changed what it will take on each stream, those that are open included (§6.9.2)."""
        change = window - self._peer_window
        self._peer_window = window
        opened = False
        for stream in self._streams.values():
            if stream.outflow <= 0 < stream.outflow + change:
                opened = True
            stream.outflow += change
            if stream.outflow > LARGEST_WINDOW:
                raise Broken(FLOW_CONTROL_ERROR, "SETTINGS that make a window too large (section 6.9.2)")
        if opened:
            self._events.append(Room(0))

    def _settings_acknowledged(self) -> None:
        """From here on the peer keeps to what we said; what it sent before, it sent by the defaults."""
        if self._acknowledged:
            self._idle_talk()
            return
        self._acknowledged = True
        self._window = self.bounds.window
        change = self._window - frames.DEFAULT_WINDOW
        if change:
            for stream in self._streams.values():
                stream.inflow += change
                self._give_back(stream, 0)  # what was too little to speak of may be all of a smaller window

    # PING (§6.7), GOAWAY (§6.8), WINDOW_UPDATE (§6.9)

    def _take_ping(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if number:
            raise Broken(PROTOCOL_ERROR, "PING on a stream (section 6.7)")
        if end - at != 8:
            raise Broken(FRAME_SIZE_ERROR, "PING of a wrong size (section 6.7)")
        if flags & ACK and self._pings:
            self._pings -= 1
            self._events.append(Ponged())
            return
        self._idle_talk()
        if not flags & ACK:
            self._reply(frames.ping(data[at:end], ACK))

    def _take_goaway(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if number:
            raise Broken(PROTOCOL_ERROR, "GOAWAY on a stream (section 6.8)")
        if end - at < 8:
            raise Broken(FRAME_SIZE_ERROR, "GOAWAY of a wrong size (section 6.8)")
        self._idle_talk()
        last = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
        if self._client:
            self.draining = True
            for gone in [opened for opened in self._streams if opened > last]:
                del self._streams[gone]
                self._past.add(gone, RESET_BY_US)
        self._events.append(GoneAway(last, int.from_bytes(data[at + 4 : at + 8], "big")))

    def _take_window_update(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        if end - at != 4:
            raise Broken(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size (section 6.9)")
        increment = int.from_bytes(data[at:end], "big") & LARGEST_WINDOW
        self._idle_talk(1 if increment >= 8 else 5)  # more than a small DATA is worth, which each could draw from us
        if not number:
            if not increment:
                raise Broken(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing (section 6.9)")
            before = self._outflow
            self._outflow = before + increment
            if self._outflow > LARGEST_WINDOW:
                raise Broken(FLOW_CONTROL_ERROR, "WINDOW_UPDATE that makes the window too large (section 6.9.1)")
            if not before:
                self._events.append(Room(0))
            return
        stream = self._streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise Broken(PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream (section 5.1)")
            if not increment:
                raise Broken(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing (section 6.9)")
            return
        if not increment:
            self._refuse(number, PROTOCOL_ERROR)
            return
        before = stream.outflow
        stream.outflow = before + increment
        if stream.outflow > LARGEST_WINDOW:
            self._refuse(number, FLOW_CONTROL_ERROR)
        elif before <= 0 < stream.outflow:
            self._events.append(Room(number))
