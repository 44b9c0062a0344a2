"""
A client of HTTP/2 on the tests' loop: the C{h2} package, which knows nothing of our codec, and frames by hand where a
well-behaved client would not do.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from tests.wire.sockets import LIMIT, Loop, Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: Kinds of frames (RFC 9113 §6), as far as they are made by hand.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4

#: A header block: GET, /, http, and the authority a.example, without any use of the dynamic table.
BLOCK = b"\x82\x84\x86\x01\x09a.example"
#: The same for a POST.
POST_BLOCK = b"\x83" + BLOCK[1:]

#: ENHANCE_YOUR_CALM (RFC 9113 §7).
CALM = 11


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113 §4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class _Patient(H2Connection):
    """C{h2} takes any GOAWAY for the end; streams that were begun before it go on (RFC 9113 §6.8)."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        state = self.state_machine.state
        answer = super()._receive_goaway_frame(frame)
        self.state_machine.state = state
        return answer


class Stream:
    """
    What came on a stream.

    @ivar ended: empty, C{closed} or C{reset}.
    @ivar code: of the reset.
    """

    def __init__(self) -> None:
        self.status = 0
        self.fields: dict[str, str] = {}
        self.informed: list[tuple[int, dict[str, str]]] = []
        self.body = bytearray()
        self.trailers: dict[str, str] = {}
        self.ended = ""
        self.code = -1
        self.owed = 0

    def __repr__(self) -> str:
        return f"<{self.status} {len(self.body)} bytes {self.ended} {self.code}>"


class Http2Peer(Peer):
    """
    @ivar streams: by number.
    @ivar reading: while False, no window is given back.
    @ivar gone_away: last stream and code of each GOAWAY.
    """

    def __init__(self, loop: Loop, port: int, window: int = 65535) -> None:
        self.h2 = _Patient(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.streams: dict[int, Stream] = {}
        self.reading = True
        self.gone_away: list[tuple[int, int]] = []
        self._raw = False
        super().__init__(loop, socket.create_connection(("127.0.0.1", port), LIMIT))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.increment_flow_control_window((1 << 30) - 65535)  # so that only the streams' own windows count
        self.flush()

    def flush(self) -> None:
        """Sends what the package has to say."""
        data = self.h2.data_to_send()
        if data:
            self.write(data)

    def raw(self, data: bytes) -> None:
        """Sends frames by hand; from here on, what comes is not for the package, but for L{frames}."""
        self._raw = True
        self.write(data)

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """What has come since the beginning, as kind, flags, stream and payload."""
        found = []
        at = 0
        data = bytes(self.received)
        while at + 9 <= len(data):
            size = int.from_bytes(data[at : at + 3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", data, at + 3)
            found.append((kind, flags, stream, data[at + 9 : at + 9 + size]))
            at += 9 + size
        return found

    def told(self) -> int | None:
        """The code of the GOAWAY that came, from L{frames}."""
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                return int.from_bytes(payload[4:8], "big")
        return None

    def came(self) -> None:
        if self._raw or self.ended:
            return
        data = bytes(self.received)
        self.received.clear()
        for event in self.h2.receive_data(data):
            self._happened(event)
        self.flush()

    def _happened(self, event: Any) -> None:
        if isinstance(event, ConnectionTerminated):
            self.gone_away.append((int(event.last_stream_id or 0), int(event.error_code or 0)))
            return
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, ResponseReceived):
            stream.fields = dict(event.headers)  # type: ignore[arg-type]  # text, as it was asked for
            stream.status = int(stream.fields[":status"])
        elif isinstance(event, InformationalResponseReceived):
            fields = dict(event.headers)
            stream.informed.append((int(fields.pop(":status")), fields))  # type: ignore[arg-type,call-overload]
        elif isinstance(event, DataReceived):
            assert event.data is not None
            stream.body += event.data
            stream.owed += event.flow_controlled_length or 0
            if self.reading:
                self.confirm(event.stream_id or 0)
        elif isinstance(event, TrailersReceived):
            stream.trailers = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, StreamEnded):
            stream.ended = "closed"
        elif isinstance(event, StreamReset):
            stream.ended, stream.code = stream.ended or "reset", int(event.error_code or 0)

    def confirm(self, number: int) -> None:
        """Gives back the window of what has come on a stream."""
        stream = self.streams[number]
        if stream.owed:
            self.h2.acknowledge_received_data(stream.owed, number)
            stream.owed = 0

    def ask(
        self, path: str = "/", method: str = "GET", fields: Sequence[tuple[str, str]] = (), ended: bool = True
    ) -> Stream:
        """Begins a request."""
        number = self.h2.get_next_available_stream_id()
        stream = self.streams[number] = Stream()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "a.example"), (":path", path)]
        self.h2.send_headers(number, [*pseudo, *fields], end_stream=ended)
        self.flush()
        return stream

    def number(self, stream: Stream) -> int:
        """The number of a stream."""
        return next(number for number, found in self.streams.items() if found is stream)

    def send(self, stream: Stream, data: bytes, ended: bool = False) -> int:
        """Sends as much as the windows allow now: how much. The end goes with the last byte."""
        number = self.number(stream)
        sent = 0
        while True:
            size = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(data) - sent)
            last = sent + size == len(data)
            if not size and not (last and ended):
                break
            self.h2.send_data(number, data[sent : sent + size], end_stream=last and ended)
            sent += size
            if last:
                break
        self.flush()
        return sent

    def reset_stream(self, stream: Stream) -> None:
        """Gives a stream up."""
        self.h2.reset_stream(self.number(stream), 8)
        self.flush()
