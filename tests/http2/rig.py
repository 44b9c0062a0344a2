"""What the tests of HTTP/2 share: frames made by hand, what came out in words, a server and a client to play with."""

from __future__ import annotations

from collections.abc import Iterable

from lemmytx.http2 import codec, errors, frames
from lemmytx.http2.frames import END_HEADERS, END_STREAM

Fields = list[tuple[bytes, bytes]]

CODES = {
    value: name for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)
}  # fmt: skip
KINDS = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
    "CONTINUATION",
)  # fmt: skip

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]

#: Steps of a script that are no bytes: answer all requests that have come with a head and no body; reset them.
ANSWER = "ANSWER"
RESET = "RESET"
Script = Iterable[bytes | str]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return frames.header(len(payload), kind, flags, stream) + payload


def block(fields: Fields) -> bytes:
    """A header block of literals that are not indexed, and not compressed."""
    out = b""
    for name, value in fields:
        assert len(name) < 127 and len(value) < 127
        out += b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return out


def headers(stream: int, fields: Fields, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """A HEADERS frame."""
    return frame(frames.HEADERS, flags, stream, block(fields))


def opening(stream: int, *more: tuple[bytes, bytes]) -> bytes:
    """A POST whose body is to come."""
    return headers(stream, [*POST, *more], END_HEADERS)


def get(stream: int, *more: tuple[bytes, bytes]) -> bytes:
    """A GET."""
    return headers(stream, [*GET, *more])


def data(stream: int, payload: bytes, ended: bool = False) -> bytes:
    """A DATA frame."""
    return frame(frames.DATA, END_STREAM if ended else 0, stream, payload)


def rst(stream: int, code: int = errors.CANCEL) -> bytes:
    """A RST_STREAM frame."""
    return frames.rst_stream(stream, code)


def parsed(out: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream, payload of all frames."""
    found = []
    while out:
        high, low, kind, flags, stream = frames.read_header(out)
        end = 9 + (high << 8 | low)
        assert end <= len(out), "a frame that is cut off"
        found.append((kind, flags, stream, out[9:end]))
        out = out[end:]
    return found


def words(out: bytes) -> list[str]:
    """What was sent, without acknowledgements of SETTINGS: C{"RST_STREAM 1 CANCEL"}, C{"PING 0 ACK"} …"""
    found = []
    for kind, flags, stream, payload in parsed(out):
        if kind == frames.SETTINGS and flags:
            continue
        said = f"{KINDS[kind]} {stream}"
        if kind == frames.RST_STREAM:
            said += " " + CODES[int.from_bytes(payload, "big")]
        elif kind == frames.GOAWAY:
            said = "GOAWAY " + CODES[int.from_bytes(payload[4:8], "big")]
        elif kind == frames.PING and flags:
            said += " ACK"
        elif kind == frames.WINDOW_UPDATE:
            said += f" {int.from_bytes(payload, 'big')}"
        elif kind in (frames.DATA, frames.HEADERS) and flags & END_STREAM:
            said += " END"
        found.append(said)
    return found


def described(events: Iterable[codec.Event]) -> list[tuple[object, ...]]:
    """Events as tuples that can be compared: the name, and what is in it."""
    return [
        (type(event).__name__, *(getattr(event, name) for name in sorted(type(event).__slots__))) for event in events
    ]


class Player:
    """
    One side, of which the other is played by hand.

    @ivar connection: it.
    @ivar events: all that has happened since the handshake.
    @ivar out: all that it has sent since.
    """

    def __init__(
        self, client: bool = False, bounds: codec.Bounds | None = None, extended: bool = False, settings: bytes = b""
    ) -> None:
        """
        @param settings: a SETTINGS frame to be greeted with.
        """
        self.connection = codec.Connection(client, bounds or codec.Bounds(), extended)
        self.connection.start()
        self.greeting = self.connection.take()
        self.events: list[codec.Event] = []
        self.out = b""
        self._done: set[int] = set()
        preface = b"" if client else codec.PREFACE
        self.feed(preface + (settings or frames.settings({})) + frames.SETTINGS_ACK)
        self.events = []
        self.out = b""

    def feed(self, piece: bytes) -> list[codec.Event]:
        """The other side sends this."""
        events = self.connection.receive(piece)
        self.events += events
        self.out += self.connection.take()
        return events

    def play(self, script: Script) -> None:
        """Do these steps."""
        for step in script:
            if isinstance(step, bytes):
                self.feed(step)
                continue
            for event in self.events:
                if isinstance(event, codec.Request) and event.stream not in self._done:
                    self._done.add(event.stream)
                    if step == ANSWER:
                        self.connection.respond(event.stream, b"HTTP/1.1 200 OK\r\n\r\n", True)
                    else:
                        self.connection.reset(event.stream, codec.CANCEL)
            self.out += self.connection.take()

    def words(self) -> list[str]:
        """What it has sent."""
        return words(self.out)

    def happened(self) -> list[tuple[object, ...]]:
        """What it has told."""
        return described(self.events)
