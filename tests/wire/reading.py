"""
Reads requests and responses as strictly as their grammar allows, for the two ends of the wire tests.

What a proxy writes must be readable in one way only. So nothing here is lenient: a line ends with CRLF, a field is a
token, a colon and a printable value, one length says how long the body is, and whatever does not fit is L{Malformed}.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
FIELD = re.compile(
    rb"(" + TOKEN + rb"):[ \t]?((?:[\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?)?)"
)
REQUEST = re.compile(TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01]")
RESPONSE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\x20-\x7e\x80-\xff\t]*)?")
SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")


class Malformed(Exception):
    """Bytes that are not one message and nothing else; the text says what is wrong with them."""


@dataclass(slots=True)
class Message:
    """
    One request or response, as read off the wire.

    @ivar start: the request line or status line.
    @ivar fields: names as written, values without outer space, in order.
    @ivar framing: C{none}, C{length}, C{chunked} or C{close}.
    @ivar body: without the chunk framing.
    @ivar trailers: like C{fields}.
    @ivar size: bytes of the input that it took.
    @ivar complete: whether its end was in the input.
    """

    start: bytes
    fields: list[tuple[bytes, bytes]]
    framing: str = "none"
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    size: int = 0
    complete: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field, in order; the name in lower case."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def status(self) -> int:
        """A response's status."""
        return int(self.start.split(b" ")[1])


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    found = []
    for line in lines:
        match = FIELD.fullmatch(line)
        if match is None:
            raise Malformed(f"not a field: {line[:80]!r}")
        found.append((match[1], match[2]))
    return found


def _head(data: bytes, start: re.Pattern[bytes]) -> Message | None:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *rest = data[:end].split(b"\r\n")
    if start.fullmatch(first) is None:
        raise Malformed(f"not a start line: {first[:80]!r}")
    return Message(first, _fields(rest), size=end + 4)


def _frame(message: Message) -> int:
    """What the fields say of the body: its length, -1 for chunked, -2 when they say nothing."""
    lengths = message.values(b"content-length")
    codings = message.values(b"transfer-encoding")
    if lengths and codings:
        raise Malformed("Content-Length and Transfer-Encoding together")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise Malformed(f"Content-Length {lengths!r}")
    if codings:
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise Malformed(f"Transfer-Encoding {codings!r}")
        return -1
    return int(lengths[0]) if lengths else -2


def _body(message: Message, data: bytes, length: int) -> Message:
    """Reads the body that follows the head; an incomplete one is kept as far as it came."""
    at = message.size
    if length >= 0:
        message.framing = "length"
        message.body = data[at : at + length]
        message.size = at + len(message.body)
        message.complete = len(message.body) == length
        return message
    message.framing = "chunked"
    parts: list[bytes] = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            break
        if SIZE.fullmatch(data[at:end]) is None:
            raise Malformed(f"not a chunk size: {data[at:end][:40]!r}")
        size = int(data[at:end], 16)
        if size == 0:
            close = data.find(b"\r\n\r\n", end)
            if close >= 0:
                lines = data[end + 2 : close].split(b"\r\n") if close > end else []
                message.trailers = _fields(lines)
                message.size = close + 4
                message.complete = True
            break
        after = end + 2 + size
        parts.append(data[end + 2 : after])
        if len(data) < after + 2:
            break
        if data[after : after + 2] != b"\r\n":
            raise Malformed("a chunk without CRLF at its end")
        at = after + 2
    message.body = b"".join(parts)
    return message


def read_request(data: bytes) -> Message | None:
    """
    The request that C{data} begins with, complete or not.

    @return: L{None} while its head is incomplete.
    @raise Malformed: when it can be no request.
    """
    message = _head(data, REQUEST)
    if message is None:
        return None
    if message.start.endswith(b"1.1") and len(message.values(b"host")) != 1:
        raise Malformed(f"Host {message.values(b'host')!r}")
    length = _frame(message)
    if length == -2:
        message.complete = True
        return message
    return _body(message, data, length)


def read_response(data: bytes, bodiless: bool, closed: bool) -> Message | None:
    """
    The response that C{data} begins with, complete or not.

    @param bodiless: it answers a HEAD request.
    @param closed: the connection ended, in order, behind C{data}.
    @return: L{None} while its head is incomplete.
    @raise Malformed: when it can be no response.
    """
    message = _head(data, RESPONSE)
    if message is None:
        return None
    length = _frame(message)
    if bodiless or message.status < 200 or message.status in (204, 304):
        message.complete = True
        return message
    if length == -2:
        message.framing = "close"
        message.body = data[message.size :]
        message.size = len(data)
        message.complete = closed
        return message
    return _body(message, data, length)
