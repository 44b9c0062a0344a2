"""
The heads of what CGI programs answer (RFC 3875 §6), made into heads of HTTP/1.1.

A program writes fields, an empty line, and a body. Three fields mean something to us: Status becomes the status line,
Location without Status makes a 302, and Content-Length is the body's. Everything else is for the client, but for what
belongs to a connection: ours are no business of the program's.

A Location that is a path alone would have us serve that path in its place (RFC 3875 §6.2.2, "local redirect"). As in
nginx it goes to the client like any other: a 302 that it can see, and nothing that walks around the routes.

Programs end lines with LF or CRLF as they like. What comes out has CRLF, and L{lemmytx.http1.codec.response} judges
every byte of it, as of any backend's head.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from lemmytx.http1.rules import DROP, FIELDS_MANY, FOLDED, HEAD_LONG, KINDS, NAME_BYTE
from lemmytx.message import ProtocolError

EMPTY = "an answer of a CGI program without any field (RFC 3875 section 6.2)"
STATUS_TWICE = "more than one Status in the answer of a CGI program"
STATUS_BAD = "a malformed Status in the answer of a CGI program (RFC 3875 section 6.3.3)"
STATUS_INTERIM = "a Status below 200 in the answer of a CGI program, which is always a final one"
LOCATION_TWICE = "more than one Location in the answer of a CGI program"

_END = re.compile(rb"\n\r?\n")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS = re.compile(rb"([1-5][0-9]{2})(?:[ \t]+(.*))?", re.DOTALL)

#: What is about a connection. Trailer as well: there are none here.
_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)

#: What Connection cannot remove: our own business, and what the body is.
_KEPT = frozenset((b"status", b"location", b"date"))

_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class AnswerHead:
    """
    A head as it comes.

    @ivar status: once it is whole: 200 to 599.
    @ivar lines: once it is whole: the status line and the fields as HTTP/1.1 has them, without the empty line.
    @ivar measured: whether a Content-Length is among them.
    """

    __slots__ = ("_buffer", "_fields", "_size", "lines", "measured", "status")

    def __init__(self, size: int = 65536, fields: int = 200) -> None:
        """
        @param size: bytes that it may have, with its empty line.
        @param fields: how many fields it may have.
        """
        self._size = size
        self._fields = fields
        self._buffer: bytes | bytearray = b""
        self.status = 0
        self.lines = b""
        self.measured = False

    def feed(self, output: bytes) -> bytes | None:
        """
        @param output: what the program has written; not to be called again once the head is whole.
        @return: what of it is body; L{None} while the head is not whole.
        @raise ProtocolError: 502, it is no head.
        """
        if self._buffer:
            before = max(len(self._buffer) - 2, 0)
            self._buffer += output
            data: bytes | bytearray = self._buffer
        else:
            before = 0
            data = output
        found = _END.search(data, before)
        if data[:1] == b"\n" or data[:2] == b"\r\n":
            raise ProtocolError(502, EMPTY)
        if (len(data) if found is None else found.end()) > self._size:
            raise ProtocolError(502, HEAD_LONG)
        if found is None:
            if not self._buffer:
                self._buffer = bytearray(data)
            return None
        self._rewrite(bytes(data[: found.start()]))
        body = bytes(data[found.end() :])
        self._buffer = b""
        return body

    def _rewrite(self, head: bytes) -> None:
        status: bytes | None = None
        location = False
        named: set[bytes] = set()
        kept: list[tuple[bytes, bytes]] = []
        lines = head.split(b"\n")
        if len(lines) > self._fields:
            raise ProtocolError(502, FIELDS_MANY)
        for line in lines:
            name, colon, value = line.removesuffix(b"\r").partition(b":")
            if line[:1] in (b" ", b"\t"):
                raise ProtocolError(502, FOLDED)
            if not colon or not _NAME.fullmatch(name):
                raise ProtocolError(502, NAME_BYTE)
            value = value.strip(b" \t")
            lower = name.lower()
            if lower == b"status":
                if status is not None:
                    raise ProtocolError(502, STATUS_TWICE)
                status = value
                continue
            if lower == b"connection":
                named.update(option.strip(b" \t") for option in value.lower().split(b","))
            if lower in _CONNECTION or KINDS.get(lower) == DROP:
                continue
            if lower == b"location":
                if location:
                    raise ProtocolError(502, LOCATION_TWICE)
                location = True
            elif lower == b"content-length":
                self.measured = True
            kept.append((name, value))
        if status is None:
            status = b"302" if location else b"200"
        first = self._status_line(status)
        named = {option for option in named if option not in _KEPT and not option.startswith(b"content-")}
        self.lines = first + b"".join(
            [name + b": " + value + b"\r\n" for name, value in kept if not named or name.lower() not in named]
        )

    def _status_line(self, value: bytes) -> bytes:
        found = _STATUS.fullmatch(value)
        if found is None:
            raise ProtocolError(502, STATUS_BAD)
        self.status = status = int(found[1])
        if status < 200:
            raise ProtocolError(502, STATUS_INTERIM)
        reason = found[2]
        if not reason:
            reason = _REASONS.get(status, b"")
        return b"HTTP/1.1 %d %b\r\n" % (status, reason)
