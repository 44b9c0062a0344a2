"""
A client of HTTP/2 for WebSockets in its streams (RFC 8441): frames and flow control by the C{h2} package, messages by
the C{websockets} package, and nothing that either would not do by itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

_READ = 1 << 16

#: What C{SO_LINGER} has to be for a close that is a reset.
_RESET = struct.pack("ii", 1, 0)

Fields = Sequence[tuple[str, str]]


class _Patient(H2Connection):
    """C{h2} takes any GOAWAY for the end; streams that were begun before it go on (RFC 9113 §6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        state = self.state_machine.state
        answer: tuple[list[Frame], list[Event]] = super()._receive_goaway_frame(frame)
        self.state_machine.state = state
        return answer


class Stream:
    """
    One exchange.

    @ivar status: of the answer; 0 before it comes.
    @ivar fields: of the answer.
    @ivar received: what has come of its body and nobody has taken.
    @ivar ended: empty, C{closed} or C{reset}.
    @ivar code: that of the reset.
    @ivar reading: while False, what comes is not confirmed: the flow-control window runs out.
    """

    def __init__(self, connection: Http2Client, number: int) -> None:
        self.connection = connection
        self.number = number
        self.status = 0
        self.fields: dict[str, str] = {}
        self.received = bytearray()
        self.ended = ""
        self.code: int | None = None
        self.reading = True
        self._unconfirmed = 0

    def came(self, event: Event) -> None:
        """What the connection got for this stream."""
        if isinstance(event, ResponseReceived):
            self.fields = {name.decode(): value.decode() for name, value in event.headers or ()}
            self.status = int(self.fields[":status"])
        elif isinstance(event, DataReceived):
            assert event.data is not None
            self.received += event.data
            self._unconfirmed += event.flow_controlled_length or 0
            self.confirm()
        elif isinstance(event, StreamReset):
            # After the end of the body a reset says that ours is not wanted any more: no other end.
            self.ended, self.code = self.ended or "reset", int(event.error_code or 0)
        elif isinstance(event, StreamEnded):
            self.ended = "closed"

    def confirm(self) -> None:
        """Gives back the window of what has come, where L{reading}."""
        if self.reading and self._unconfirmed and not self.ended:
            self.connection.h2.acknowledge_received_data(self._unconfirmed, self.number)
            self._unconfirmed = 0

    async def answered(self) -> int:
        """Waits for the head of the answer: its status; 0 when the stream ends instead."""
        await self.connection.until(lambda: bool(self.status or self.ended))
        return self.status

    async def send(self, data: bytes) -> None:
        """
        Sends as the windows allow, to the last byte.

        @raise ConnectionError: the stream ended before.
        """
        view = memoryview(data)
        while view:
            await self.connection.until(lambda: bool(self.ended or self._room()))
            if self.ended:
                raise ConnectionError(self.ended)
            size = min(self._room(), len(view), self.connection.h2.max_outbound_frame_size)
            self.connection.h2.send_data(self.number, view[:size].tobytes())
            view = view[size:]
            await self.connection.flush()

    def _room(self) -> int:
        return self.connection.h2.local_flow_control_window(self.number)

    async def finish(self) -> None:
        """Says that nothing more will be sent."""
        self.connection.h2.end_stream(self.number)
        await self.connection.flush()

    async def reset(self, code: int = 8) -> None:
        """Ends it at once; 8 is CANCEL."""
        self.connection.h2.reset_stream(self.number, code)
        self.ended = "reset"
        await self.connection.flush()

    async def over(self) -> str:
        """Waits for the other side's end: how."""
        await self.connection.until(lambda: bool(self.ended))
        return self.ended


class Http2Client:
    """
    One connection.

    @ivar streams: by number.
    @ivar terminated: the code of the GOAWAY; None without one.
    @ivar last: the number of the last stream that the server takes, as the latest GOAWAY says.
    @ivar ended: whether the connection is over.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = _Patient(H2Configuration(client_side=True, header_encoding=None))
        self.streams: dict[int, Stream] = {}
        self.terminated: int | None = None
        self.last = (1 << 31) - 1
        self.ended = False
        self._settled = False
        self._reader = reader
        self._writer = writer
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> Http2Client:
        """A connection on which both sides' settings have been exchanged."""
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        if tls is not None:
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        self = cls(reader, writer)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)  # so that only the streams' own windows count
        await self.flush()
        await self.until(lambda: self._settled)
        return self

    @property
    def extended_connect(self) -> bool:
        """Whether the server has said that it understands RFC 8441."""
        return self.h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(_READ):
                for event in self.h2.receive_data(data):
                    self._came(event)
                await self.flush()
                self._changed.set()
        except OSError:
            pass  # a reset is an end like another, and so is what comes after our own end of TLS
        finally:
            self.ended = True
            for stream in self.streams.values():
                stream.ended = stream.ended or "reset"
            self._changed.set()

    def _came(self, event: Event) -> None:
        if isinstance(event, RemoteSettingsChanged):
            self._settled = True
        elif isinstance(event, ConnectionTerminated):
            self.terminated = int(event.error_code or 0)
            self.last = int(event.last_stream_id or 0)
        elif isinstance(event, WindowUpdated):
            return  # whoever waits for room looks again
        elif (number := getattr(event, "stream_id", None)) in self.streams:
            self.streams[number].came(event)

    async def until(self, condition: object, seconds: float = 20.0) -> None:
        """
        Waits until something that comes makes C{condition}, a callable, hold.

        @raise AssertionError: when it does not.
        """
        assert callable(condition)
        async with asyncio.timeout(seconds):
            while not condition():
                assert not self.ended or condition(), "the connection has ended"
                self._changed.clear()
                await self._changed.wait()

    async def flush(self) -> None:
        """Sends what the codec has to say."""
        self._writer.write(self.h2.data_to_send())
        await self._writer.drain()

    async def request(self, fields: Fields, ended: bool = True) -> Stream:
        """Begins a stream."""
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream(self, number)
        self.h2.send_headers(number, fields, end_stream=ended)
        await self.flush()
        return self.streams[number]

    async def get(self, path: str = "/") -> Stream:
        """An ordinary request."""
        return await self.request(
            [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", path)]
        )

    async def websocket(self, path: str = "/", protocol: str = "websocket", more: Fields = ()) -> WebSocket:
        """The request for a WebSocket (RFC 8441 §4); whether there will be one says its stream."""
        fields = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "https"),
            (":authority", "a.example"),
            (":path", path),
            ("sec-websocket-version", "13"),
        ]
        return WebSocket(await self.request([*fields, *more], ended=False))

    async def close(self) -> None:
        """Ends in order."""
        if not self.ended:
            self.h2.close_connection()
            await self.flush()
        self._writer.close()
        await asyncio.wait([self._reading])

    async def vanish(self) -> None:
        """Ends with a reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()
        await asyncio.wait([self._reading])


class WebSocket:
    """Messages in a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        self._frames: list[WebSocketFrame] = []

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # an empty one stands for the end of a TCP connection, which is not ours to end
                await self.stream.send(data)

    async def send(self, message: str | bytes) -> None:
        """A message in one frame."""
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        await self._flush()

    async def ping(self, data: bytes) -> None:
        """Waits for the pong, too."""
        self._protocol.send_ping(data)
        await self._flush()
        frame = await self.frame()
        assert (frame.opcode, bytes(frame.data)) == (Opcode.PONG, data), frame

    async def frame(self) -> WebSocketFrame:
        """
        The next frame; a ping or a close has been answered when it is returned.

        @raise ConnectionError: the stream ended instead.
        """
        while not self._frames:
            await self.stream.connection.until(lambda: bool(self.stream.received or self.stream.ended))
            if not self.stream.received:
                raise ConnectionError(self.stream.ended)
            data = bytes(self.stream.received)
            self.stream.received.clear()
            self._protocol.receive_data(data)
            self._frames += [event for event in self._protocol.events_received() if isinstance(event, WebSocketFrame)]
            if not self.stream.ended:
                await self._flush()
        return self._frames.pop(0)

    async def receive(self) -> bytes:
        """The next message, however many frames it has."""
        message = bytearray()
        while True:
            frame = await self.frame()
            assert frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT), frame
            message += frame.data
            if frame.fin:
                return bytes(message)

    async def close(self, code: int = 1000, reason: str = "") -> int | None:
        """Says that it closes, and waits for the answer: its code."""
        self._protocol.send_close(code, reason)
        await self._flush()
        return await self.closed()

    async def closed(self) -> int | None:
        """Waits for the other side's close frame, and has answered it: its code."""
        frame = await self.frame()
        assert frame.opcode is Opcode.CLOSE, frame
        return None if self._protocol.close_rcvd is None else self._protocol.close_rcvd.code
