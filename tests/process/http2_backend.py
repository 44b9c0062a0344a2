"""
A server of HTTP/2 that does what a test says, by the C{h2} package: another implementation than ours. It hangs on the
test's own loop (L{tests.wire.sockets}), so nothing happens at either end unless the test waits for something.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes

from tests.wire.sockets import Loop, Peer


class Stream:
    """
    One request, and the answer to it.

    @ivar reset: the code with which the proxy has ended it.
    """

    def __init__(self, side: Side, number: int, fields: list[tuple[bytes, bytes]]) -> None:
        self.side = side
        self.number = number
        self.fields = dict(fields)
        self.body = bytearray()
        self.ended = False
        self.reset: int | None = None
        self._left = b""
        self._last = False

    def respond(self, status: int, body: bytes | None = b"", *fields: tuple[str, str]) -> None:
        """
        Answers; what there is no window for is sent when there is.

        @param body: L{None}: it comes by L{write}.
        """
        length = [] if body is None else [("content-length", str(len(body)))]
        self.side.h2.send_headers(self.number, [(":status", str(status)), *length, *fields])
        if body is not None:
            self.write(body, True)
        else:
            self.side.push()

    def write(self, data: bytes, ended: bool = False) -> None:
        """More of the answer's body."""
        self._left += data
        self._last = ended
        self.proceed()

    def proceed(self) -> None:
        """Sends what there is a window for."""
        h2 = self.side.h2
        if self.reset is not None or self.number not in h2.streams or h2.streams[self.number].closed:
            return
        at = 0
        while at < len(self._left):
            room = min(h2.local_flow_control_window(self.number), 16384, len(self._left) - at)
            if not room:
                break
            h2.send_data(self.number, self._left[at : at + room])
            at += room
        self._left = self._left[at:]
        if self._last and not self._left:
            self._last = False
            h2.end_stream(self.number)
        self.side.push()


class Side(Peer):
    """
    One connection from the proxy.

    @ivar gone_away: the code of the proxy's GOAWAY.
    """

    def __init__(self, backend: Http2Backend, sock: socket.socket) -> None:
        super().__init__(backend.loop, sock)
        self.backend = backend
        self.streams: dict[int, Stream] = {}
        self.gone_away: int | None = None
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        for name, value in backend.settings.items():
            self.h2.local_settings[SettingCodes[name]] = value
        self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.push()

    def push(self) -> None:
        """What C{h2} has to send."""
        data = self.h2.data_to_send()
        if data:
            self.write(data)

    def came(self) -> None:
        data, self.received = bytes(self.received), bytearray()
        for event in self.h2.receive_data(data) if data else ():
            self._take(event)
        self.push()

    def _take(self, event: Any) -> None:
        if isinstance(event, ConnectionTerminated):
            self.gone_away = int(event.error_code)
            return
        if isinstance(event, RequestReceived):
            stream = self.streams[event.stream_id] = Stream(self, event.stream_id, event.headers)
            self.backend.requests.append(stream)
            self.backend.began(stream)
            return
        if isinstance(event, WindowUpdated | SettingsAcknowledged):
            for stream in list(self.streams.values()):
                stream.proceed()
            return
        number = getattr(event, "stream_id", None)
        if number not in self.streams:
            return
        stream = self.streams[number]
        if isinstance(event, DataReceived):
            stream.body += event.data
            if self.backend.greedy:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, StreamReset):
            stream.reset = int(event.error_code)
        elif isinstance(event, StreamEnded):
            stream.ended = True
            self.backend.script(stream)


def ok(stream: Stream) -> None:
    """What the backend does with a whole request unless a test says otherwise: tells its path, and what it got."""
    stream.respond(200, b"%b %d" % (stream.fields[b":path"], len(stream.body)))


class Http2Backend:
    """
    A server of HTTP/2 with prior knowledge.

    @ivar sides: its connections, the ended ones too.
    @ivar requests: all requests, in the order in which they began.
    @ivar began: what it does with a request's head.
    @ivar script: what it does with a whole request.
    @ivar greedy: whether it takes what comes.
    @ivar settings: names of settings, and their values, for connections to come.
    """

    def __init__(self, loop: Loop, port: int = 0, **settings: int) -> None:
        self.loop = loop
        self.settings = settings
        self.sides: list[Side] = []
        self.requests: list[Stream] = []
        self.began: Callable[[Stream], None] = lambda stream: None
        self.script: Callable[[Stream], None] = ok
        self.greedy = True
        self._listening = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._open = True
        loop.selector.register(self._listening, 1, self._accept)

    @property
    def url(self) -> str:
        """For a configuration."""
        return f"h2c://127.0.0.1:{self.port}"

    def _accept(self, _events: int) -> None:
        try:
            while True:
                self.sides.append(Side(self, self._listening.accept()[0]))
        except BlockingIOError:
            return

    def close(self) -> None:
        """Stops listening and resets every connection."""
        if self._open:
            self._open = False
            self.loop.selector.unregister(self._listening)
            self._listening.close()
            for side in self.sides:
                side.reset()
