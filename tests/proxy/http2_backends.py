"""
The proxy in memory (L{tests.proxy.rig}) with backends of HTTP/2, whose side the C{h2} package speaks: another
implementation than ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from lemmytx.addresses import parse_url
from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.cluster.way import Way
from tests.proxy.rig import GET, End, ProxyCase, split

H2C = Way("h2c")


class Asked:
    """A request as it came over a stream."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self.fields = list(fields)
        self.body = b""
        self.unacknowledged = 0
        self.trailers: list[tuple[bytes, bytes]] = []
        self.ended = False
        self.reset: int | None = None

    def field(self, name: bytes) -> bytes | None:
        """The value of a field, C{:path} and the like too."""
        return dict(self.fields).get(name)


class Peer:
    """
    The test as a backend of HTTP/2, at the end of one connection.

    @ivar streams: the requests, by stream.
    @ivar gone_away: the code of the proxy's GOAWAY.
    @ivar greedy: whether everything that comes is acknowledged at once.
    """

    def __init__(self, end: End, greet: bool = True, **settings: int) -> None:
        self.end = end
        self.greedy = True
        self.streams: dict[int, Asked] = {}
        self.gone_away: int | None = None
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        for name, value in settings.items():
            self.h2.local_settings[SettingCodes[name]] = value
        self.h2.local_settings.acknowledge()
        if greet:
            self.greet()

    def greet(self) -> None:
        """The backend's first words."""
        self.h2.initiate_connection()
        self.read()

    def send(self) -> None:
        """What C{h2} has to send."""
        data = self.h2.data_to_send()
        if data:
            self.end.send(data)

    def read(self) -> None:
        """What has come, until nothing moves any more."""
        while True:
            data = self.end.take()
            if data:
                for event in self.h2.receive_data(data):
                    self._take(event)
            answer = self.h2.data_to_send()
            if answer:
                self.end.send(answer)
            elif not data:
                return

    def _take(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.streams[event.stream_id] = Asked(event.headers)
        elif isinstance(event, DataReceived):
            asked = self.streams[event.stream_id]
            asked.body += event.data
            if self.greedy:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                asked.unacknowledged += event.flow_controlled_length
        elif isinstance(event, TrailersReceived):
            self.streams[event.stream_id].trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            self.streams[event.stream_id].ended = True
        elif isinstance(event, StreamReset):
            self.streams[event.stream_id].reset = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.gone_away = int(event.error_code)

    def acknowledge(self, stream: int) -> None:
        """Take what has come on a stream, where it is not greedy."""
        asked = self.streams[stream]
        size, asked.unacknowledged = asked.unacknowledged, 0
        self.h2.acknowledge_received_data(size, stream)
        self.send()
        self.read()

    @property
    def last(self) -> int:
        """The newest stream."""
        self.read()
        return max(self.streams)

    @property
    def asked(self) -> Asked:
        """The newest request."""
        return self.streams[self.last]

    def open(self) -> list[int]:
        """The streams that wait for an answer, or its end."""
        self.read()
        return [stream for stream in self.streams if stream in self.h2.streams and not self.h2.streams[stream].closed]

    def head(self, stream: int, status: int, *fields: tuple[str, str], ended: bool = False) -> None:
        """The beginning of a response."""
        self.h2.send_headers(stream, [(":status", str(status)), *fields], end_stream=ended)
        self.send()

    def data(self, stream: int, data: bytes, ended: bool = False) -> None:
        """A piece of it."""
        self.h2.send_data(stream, data, end_stream=ended)
        self.send()

    def trailers(self, stream: int, *fields: tuple[str, str]) -> None:
        """Its end, with fields."""
        self.h2.send_headers(stream, list(fields), end_stream=True)
        self.send()

    def ok(self, stream: int = 0, body: bytes = b"hello") -> None:
        """A whole answer, in one write."""
        stream = stream or self.last
        fields = [(":status", "200"), ("date", "Sat, 21 Nov 2026 00:34:07 GMT"), ("content-length", str(len(body)))]
        self.h2.send_headers(stream, fields)
        for at in range(0, len(body), 16384):
            self.h2.send_data(stream, body[at : at + 16384])
        self.h2.end_stream(stream)
        self.send()

    def reset(self, stream: int, code: int) -> None:
        """The end of a stream."""
        self.h2.reset_stream(stream, code)
        self.send()

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A frame that C{h2} would not send."""
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        self.end.send(head + payload)

    def go_away(self, last: int, code: int = 0) -> None:
        """No more streams; those above C{last} were never looked at. Written by hand: C{h2} ends with it."""
        self.frame(7, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


class Http2Case(ProxyCase):
    """A proxy in memory whose backends speak HTTP/2."""

    def multiplex(self, streams: int = 100, way: Way = H2C) -> None:
        """Called after each L{compose}: its backends become such."""
        made = []
        for backend in self.backends:
            location = parse_url(f"h2c://{backend.location.authority}")
            made.append(
                Multiplexed(
                    backend.name,
                    location.url,
                    location,
                    backend.network,
                    backend.passive,
                    backend.pool,
                    capacity=backend.capacity,
                    role=backend.role,
                    way=way,
                    streams=streams,
                )
            )
            made[-1].addresses = backend.addresses
        self.backends[:] = made
        self.backend: Multiplexed = made[0]
        self.cluster.configure(made, self.cluster.scheduler, self.cluster.rules)

    def setUp(self) -> None:
        super().setUp()
        self.multiplex()

    def peer(self, **settings: int) -> Peer:
        """The oldest connection that the proxy wants stands, and the backend has greeted."""
        return Peer(self.accept(), **settings)

    def two(self) -> tuple[list[End], Peer, Peer]:
        """Two clients that have not read their answers, and the connections, for one stream each, that served them."""
        self.multiplex(streams=1)
        clients = [self.client() for _ in range(2)]
        for client in clients:
            client.send(GET)
        first, second = self.peer(), self.peer()
        first.ok()
        second.ok()
        return clients, first, second

    def warm(self, **settings: int) -> tuple[End, Peer]:
        """A client, and a backend's connection that has served it once."""
        client = self.client()
        client.send(GET)
        peer = self.peer(**settings)
        peer.ok()
        self.assertEqual(split(client.take())[0], b"HTTP/1.1 200 OK")
        self.log.clear()
        return client, peer
