"""
A connection of asyncio's with HTTP/1.1 heads and WebSocket frames on it: as little of both as the two ends of the
drills need. The streams of asyncio would do, could they tell whether a connection ended before the first byte of an
answer or after it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

#: Opcodes of WebSocket frames (RFC 6455 §5.2).
TEXT = 0x1
CLOSE = 0x8

#: What a closing WebSocket says when its server goes away (RFC 6455 §7.4.1).
GOING_AWAY = 1001

#: Bytes that may lie unread before the other side has to wait.
_UNREAD = 1 << 20


class Malformed(Exception):
    """What came is no message; the text says what came."""


class Ended(Exception):
    """The connection ended while something was waited for; the text says how: C{closed} or C{reset}."""


@dataclass(frozen=True, slots=True)
class Head:
    """
    The head of a message.

    @ivar start: the request line or status line.
    @ivar fields: values by name in lower case; of several with one name the last.
    """

    start: str
    fields: dict[str, str]

    @property
    def length(self) -> int:
        """Content-Length; 0 when there is none."""
        return int(self.fields.get("content-length", "0"))

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.start.split(" ")[1])


def _parse(data: bytes) -> Head:
    start, *lines = data.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(f"not a field: {line[:80]!r}")
        fields[name.lower()] = value.strip()
    return Head(start, fields)


class Link(asyncio.Protocol):
    """
    One connection.

    @ivar buffer: what came and was not taken yet.
    @ivar began: whether anything came since the last L{ask}.
    @ivar ended: empty, C{closed} or C{reset}.
    """

    def __init__(self, serve: Callable[[Link], Awaitable[None]] | None = None) -> None:
        """
        @param serve: what a server does with it.
        """
        self.buffer = bytearray()
        self.began = False
        self.ended = ""
        self._serve = serve
        self._serving: asyncio.Future[None] | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._blocked: asyncio.Future[None] | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast(asyncio.Transport, transport)
        #: Our own port.
        self.port: int = transport.get_extra_info("sockname")[1]
        if self._serve is not None:
            self._serving = asyncio.ensure_future(self._serve(self))

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self.buffer += data
        self.began = True
        if len(self.buffer) > _UNREAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Called by asyncio, which then closes."""
        self.ended = self.ended or "closed"
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.ended = self.ended or ("closed" if exc is None else "reset")
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        """Called by asyncio: the other side does not take it as fast as we write."""
        self._blocked = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        blocked, self._blocked = self._blocked, None
        if blocked is not None and not blocked.done():
            blocked.set_result(None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def close(self) -> None:
        """End it."""
        self.transport.close()

    async def write(self, data: bytes) -> None:
        """Send, and wait while too much is unsent."""
        self.transport.write(data)
        if self._blocked is not None:
            await self._blocked

    async def more(self) -> None:
        """
        Wait until something comes.

        @raise Ended: it ended instead.
        """
        if self.ended:
            raise Ended(self.ended)
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._waiting = asyncio.get_running_loop().create_future()
        came = len(self.buffer)
        await self._waiting
        if len(self.buffer) == came and self.ended:
            raise Ended(self.ended)

    def take(self, size: int) -> bytes:
        """The first C{size} bytes of what is there, or all of it."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    async def exactly(self, size: int) -> bytes:
        """
        So many bytes.

        @raise Ended: before they were there.
        """
        while len(self.buffer) < size:
            await self.more()
        return self.take(size)

    async def head(self) -> Head:
        """
        The next message's head.

        @raise Ended: before it was there.
        @raise Malformed: it is no head.
        """
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            await self.more()
        return _parse(self.take(end + 4)[:-4])

    async def ask(self, request: bytes) -> Head:
        """
        Send a request.

        @return: the head of its response.
        @raise Ended: before it was there; L{began} says whether anything of it was.
        """
        self.began = False
        await self.write(request)
        return await self.head()

    async def frame(self) -> tuple[int, bytes]:
        """
        The next WebSocket frame: opcode and payload.

        @raise Ended: before its end.
        """
        first, second = await self.exactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.exactly(2 if size == 126 else 8), "big")
        mask = await self.exactly(4) if second & 0x80 else b""
        payload = await self.exactly(size)
        return first & 0x0F, _mask(payload, mask) if mask else payload


def frame(opcode: int, payload: bytes, masked: bool = False) -> bytes:
    """
    A whole WebSocket frame, payload below 64 kB.

    @param masked: as a client's must be.
    """
    size = len(payload)
    bit = 0x80 if masked else 0
    head = bytes((0x80 | opcode, bit | size)) if size < 126 else bytes((0x80 | opcode, bit | 126, *divmod(size, 256)))
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _mask(payload, mask)


def _mask(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()
