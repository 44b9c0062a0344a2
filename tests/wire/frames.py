"""
HTTP/2 frame by frame, for a client that can send whatever it likes: frames as bytes, header blocks by hand, and a peer
that notes what comes back on each stream.

Nothing here is shared with the code under test: blocks that come are read by the package hpack.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import hpack

from tests.wire.sockets import LIMIT, Backend, Loop, Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

#: Flags. ACK is of SETTINGS and PING, and has the bit of END_STREAM.
END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 1, 4, 8, 32
ACK = 1

#: RFC 9113 §7, by code.
CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip

Fields = Iterable[tuple[bytes, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113 §4.1), whether it may be so or not."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(one.to_bytes(2, "big") + value.to_bytes(4, "big") for one, value in pairs))


def window(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: int) -> bytes:
    """An RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int) -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def priority(stream: int, on: int, weight: int = 15) -> bytes:
    """A PRIORITY frame."""
    return frame(PRIORITY, 0, stream, on.to_bytes(4, "big") + bytes((weight,)))


def integer(form: int, bits: int, value: int) -> bytes:
    """RFC 7541 §5.1."""
    mask = (1 << bits) - 1
    if value < mask:
        return bytes((form | value,))
    out = [form | mask]
    value -= mask
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


def string(data: bytes) -> bytes:
    """A string literal without Huffman code (RFC 7541 §5.2)."""
    return integer(0, 7, len(data)) + data


def literals(fields: Fields, form: int = 0) -> bytes:
    """
    A block of nothing but literals, names included.

    @param form: 0: without indexing; 0x10: never indexed; 0x40: with it.
    """
    return b"".join(bytes((form,)) + string(name) + string(value) for name, value in fields)


def headers(stream: int, block: bytes, ended: bool, flags: int = END_HEADERS) -> bytes:
    """A HEADERS frame."""
    return frame(HEADERS, flags | (END_STREAM if ended else 0), stream, block)


def split(stream: int, block: bytes, ended: bool, at: int) -> bytes:
    """A HEADERS frame with C{at} bytes of the block, and a CONTINUATION with the others."""
    return headers(stream, block[:at], ended, 0) + frame(CONTINUATION, END_HEADERS, stream, block[at:])


@dataclass(slots=True)
class Answer:
    """
    What came on one stream.

    @ivar heads: the lists of fields, interim ones and trailers too, in order.
    @ivar ended: whether the stream ended in order.
    @ivar reset: the code of an RST_STREAM.
    """

    heads: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def statuses(self) -> list[int]:
        """Those of all heads that have one."""
        return [int(value) for head in self.heads for name, value in head[:1] if name == b":status"]

    @property
    def over(self) -> bool:
        """Whether nothing more can come."""
        return self.ended or self.reset is not None


class Framed(Peer):
    """
    One end of a connection that speaks HTTP/2. It acknowledges settings and PINGs, and returns the credit that DATA
    took if told so; everything else is for the test to do.

    @ivar log: every frame that came: kind, flags, stream, payload.
    @ivar answers: what came on each stream.
    @ivar goaways: last stream and code of each GOAWAY.
    @ivar pongs: payloads of PINGs that were acknowledged.
    @ivar settled: how many of our SETTINGS were acknowledged.
    @ivar theirs: the settings that came.
    @ivar midway: the test is in the middle of a frame, so what is sent by itself has to wait.
    @ivar broken: why what came is no HTTP/2; empty while it is.
    """

    def __init__(self, loop: Loop, sock: socket.socket, *, windows: bool = True) -> None:
        """
        @param windows: whether to return credit.
        """
        super().__init__(loop, sock)
        self.log: list[tuple[int, int, int, bytes]] = []
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pongs: list[bytes] = []
        self.settled = 0
        self.theirs: dict[int, int] = {}
        self.midway = False
        self.broken = ""
        self._waiting = b""
        self._decoder = hpack.Decoder(1 << 20)
        self._windows = windows
        self._at = 0
        self._block = b""

    def answer(self, stream: int) -> Answer:
        """What came on a stream, perhaps nothing."""
        return self.answers.setdefault(stream, Answer())

    def until(self, *streams: int, seconds: float = LIMIT) -> bool:
        """Waits until all of the streams are over or the connection is."""
        return self.loop.until(lambda: bool(self.ended) or all(self.answer(stream).over for stream in streams), seconds)

    def ping(self, payload: bytes = b"are you?") -> bool:
        """
        Whether all that was sent before has been dealt with and the connection lives: a PING is answered in turn.
        """
        self.write(frame(PING, 0, 0, payload))
        self.loop.until(lambda: bool(self.ended) or payload in self.pongs)
        return payload in self.pongs and not self.ended

    def send(self, data: bytes, midway: bool = False) -> None:
        """
        Sends a part of something.

        @param midway: whether the rest of a frame is to come.
        """
        self.midway = midway
        if not midway:
            data += self._waiting
            self._waiting = b""
        self.write(data)

    def _reply(self, data: bytes) -> None:
        if self.midway:
            self._waiting += data
        else:
            self.write(data)

    def came(self) -> None:
        while len(self.received) - self._at >= 9 and not self.broken:
            head = self.received[self._at : self._at + 9]
            size = int.from_bytes(head[:3], "big")
            if len(self.received) - self._at < 9 + size:
                return
            payload = bytes(self.received[self._at + 9 : self._at + 9 + size])
            self._at += 9 + size
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
            if not self.log and kind != SETTINGS:
                self.broken = "the first frame is no SETTINGS"
            self.log.append((kind, flags, stream, payload))
            self._frame(kind, flags, stream, payload)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (HEADERS, CONTINUATION):
            self._block += payload
            if flags & END_HEADERS:
                found = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(self._block, raw=True)]
                self.answer(stream).heads.append(found)
                self._block = b""
        elif kind == DATA:
            self.answer(stream).body += payload
            if payload and self._windows:
                self._reply(window(0, len(payload)) + window(stream, len(payload)))
        elif kind == RST_STREAM:
            self.answer(stream).reset = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.goaways.append((int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")))
        elif kind == SETTINGS:
            if flags & ACK:
                self.settled += 1
            else:
                for at in range(0, len(payload), 6):
                    self.theirs[int.from_bytes(payload[at : at + 2], "big")] = int.from_bytes(
                        payload[at + 2 : at + 6], "big"
                    )
                self._reply(frame(SETTINGS, ACK, 0))
        elif kind == PING:
            if flags & ACK:
                self.pongs.append(payload)
            else:
                self._reply(frame(PING, ACK, 0, payload))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.answer(stream).ended = True


class Frames(Framed):
    """A client of the proxy, by prior knowledge."""

    def __init__(self, loop: Loop, port: int, *, greet: bool = True, windows: bool = True) -> None:
        """
        @param greet: whether to send the preface and empty settings.
        @param windows: whether to return credit.
        """
        super().__init__(loop, socket.create_connection(("127.0.0.1", port), LIMIT), windows=windows)
        if greet:
            self.write(PREFACE + settings())


class FramedSide(Framed):
    """A backend's end of one connection from the proxy."""

    def __init__(self, backend: FramedBackend, sock: socket.socket) -> None:
        super().__init__(backend.loop, sock)
        self.backend = backend
        self.write(settings())

    def came(self) -> None:
        if not self._at:
            if len(self.received) < len(PREFACE):
                return
            if not self.received.startswith(PREFACE):
                self.broken = "no preface"
                return
            self._at = len(PREFACE)
        super().came()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        super()._frame(kind, flags, stream, payload)
        if kind in (DATA, HEADERS, CONTINUATION) and self.answer(stream).ended and flags & (END_STREAM | END_HEADERS):
            self.backend.script(self, stream)


class FramedBackend(Backend):
    """
    An origin server that speaks HTTP/2 alone.

    @ivar framed: its connections that have not ended.
    """

    script: Callable[[FramedSide, int], None]  # type: ignore[assignment]  # of streams, as there may be several

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.framed: list[FramedSide] = []
        self.forget()

    def _accept(self, _events: int) -> None:
        try:
            while True:
                self.framed.append(FramedSide(self, self._listening.accept()[0]))
        except BlockingIOError:
            return

    def forget(self) -> None:
        """Drops the connections that have ended."""
        self.script = answer_ok
        for side in self.framed:
            if side.ended:
                side.close()
        self.framed = [side for side in self.framed if not side.gone]

    def close(self) -> None:
        """Stops listening and resets every connection."""
        super().close()
        for side in self.framed:
            side.reset()


def answer_ok(side: FramedSide, stream: int) -> None:
    """What the backend answers unless a test says otherwise."""
    side.write(
        headers(stream, literals([(b":status", b"200"), (b"content-length", b"2")]), False)
        + frame(DATA, END_STREAM, stream, b"OK")
    )
