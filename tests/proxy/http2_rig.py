"""Clients of HTTP/2 for the proxy in memory: our own codec in the client's role."""

from __future__ import annotations

from typing import Any

from lemmytx.http2 import events
from lemmytx.http2.bounds import Bounds
from lemmytx.http2.codec import Connection
from lemmytx.proxy.http2 import Http2Downstream
from tests.proxy.rig import End, ProxyCase, Wire

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
CONNECT = (
    b"GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Answer:
    """
    What came on one stream.

    @ivar informed: status and fields of the interim responses.
    @ivar reset: the code of the RST_STREAM; L{None}: there was none.
    """

    def __init__(self) -> None:
        self.informed: list[tuple[int, dict[bytes, bytes]]] = []
        self.status = 0
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.trailers = b""
        self.ended = False
        self.reset: int | None = None
        self.owed = 0

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.fields} {self.body[:60]!r} ended={self.ended} reset={self.reset}>"


class Client:
    """
    @ivar end: the connection.
    @ivar answers: by stream.
    @ivar generous: whether it gives back the windows of what has come.
    @ivar gone_away: the GOAWAYs that came: last stream and code.
    @ivar order: the streams of the DATA frames that came, in order.
    @ivar terminated: the connection error that the proxy made in our eyes, if any.
    """

    def __init__(self, case: ProxyCase, address: str, bounds: Bounds | None, silent: bool) -> None:
        self.downstream = Http2Downstream(case.listener)
        wire = Wire(case.loop, self.downstream, address)
        wire.startReading()
        self.downstream.makeConnection(wire)
        self.end = End(case.loop, wire)
        case.clients.append(self.end)
        self.codec = Connection(True, bounds or Bounds())
        self.answers: dict[int, Answer] = {}
        self.generous = True
        self.gone_away: list[tuple[int, int]] = []
        self.order: list[int] = []
        self.terminated: Any = None
        if not silent:
            self.codec.start()
            self.go()

    def go(self) -> None:
        """Send and take what there is, until nothing moves."""
        self.end.loop.settle()
        while True:
            out = self.codec.take()
            if out:
                self.end.send(out)
            got = self.end.take()
            if not got and not out:
                return
            for event in self.codec.receive(got):
                self._happened(event)

    def _happened(self, event: Any) -> None:
        if isinstance(event, events.GoneAway):
            self.gone_away.append((event.last, event.code))
        elif isinstance(event, events.Terminated):
            self.terminated = event
        elif isinstance(event, events.Response):
            answer = self.answers[event.stream]
            first, *lines = event.head.split(b"\r\n")[:-2]
            fields = dict(line.lower().split(b": ", 1) for line in lines)
            status = int(first.split(b" ")[1])
            if status < 200:
                answer.informed.append((status, fields))
            else:
                answer.status, answer.fields, answer.ended = status, fields, event.ended
        elif isinstance(event, events.Data):
            answer = self.answers[event.stream]
            answer.body += event.data
            answer.ended = event.ended
            answer.owed += event.flow
            self.order.append(event.stream)
            if self.generous and not event.ended:
                self.give(event.stream)
        elif isinstance(event, events.Trailers):
            self.answers[event.stream].trailers = event.lines
            self.answers[event.stream].ended = True
        elif isinstance(event, events.Reset):
            self.answers[event.stream].reset = event.code

    def give(self, stream: int) -> None:
        """Give back the window of what has come on a stream."""
        answer = self.answers[stream]
        if answer.owed:
            self.codec.taken(stream, answer.owed)
            answer.owed = 0

    def ask(self, head: bytes = GET, ended: bool = True) -> int:
        """Put a request in what is to be sent: its stream."""
        stream = self.codec.request(head, ended)
        self.answers[stream] = Answer()
        return stream

    def request(self, head: bytes = GET, ended: bool = True) -> int:
        """Send a request: its stream."""
        stream = self.ask(head, ended)
        self.go()
        return stream

    def send(self, stream: int, data: bytes, ended: bool = False) -> None:
        """Send a part of a body."""
        self.codec.send(stream, data, ended)
        self.go()

    def reset(self, stream: int, code: int = 8) -> None:
        """Give a stream up."""
        self.codec.reset(stream, code)
        self.go()


class Http2Case(ProxyCase):
    """A test with a proxy in memory and clients of HTTP/2."""

    def second(self, address: str = "192.0.2.1", bounds: Bounds | None = None, silent: bool = False) -> Client:
        """
        A client of HTTP/2 connects.

        @param silent: and says nothing.
        """
        return Client(self, address, bounds, silent)

    def answer(self, client: Client, stream: int) -> Answer:
        """What a stream has got by now."""
        client.go()
        return client.answers[stream]
