"""
Heads, as the codecs make them and everything above reads them.

A codec checks a head, understands it and rewrites it in one pass. What comes out is one of the two classes here:
the facts that routing, framing and forwarding need as attributes, and the remaining field lines as one block of
bytes that can be sent on as it is. Looking at single fields is possible (L{fields}, L{RequestHead.field}) but costs
a split, so nothing on the way of a plain request does it.

Lengths that are not numbers of bytes are the negative constants below, so that one integer says how a body ends.
"""

from __future__ import annotations

#: The body comes in chunks (RFC 9112 §7.1).
CHUNKED = -1

#: The body ends where the connection ends (RFC 9112 §6.3, responses only).
UNTIL_CLOSE = -2

#: Methods for which a second identical request means no more than the first (RFC 9110 §9.2.2).
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class ProtocolError(Exception):
    """
    A message that is not HTTP as RFC 9110 and RFC 9112 define it, or one that two readers could read differently.

    @ivar status: what to answer a client that sent it (400, 413, 414, 417, 431, 501, 505). For a response the
        client gets 502 whatever stands here.
    @ivar reason: one short sentence for the log, without any byte of the message in it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def fields(raw: bytes) -> list[tuple[bytes, bytes]]:
    """
    The fields of a head that a codec has accepted, in order, names in lower case, values without outer space.

    @param raw: field lines, each with its CRLF, without the empty line.
    """
    found = []
    for line in raw.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        found.append((name.lower(), value.strip(b" \t")))
    return found


class _Head:
    """What requests and responses share: looking at fields."""

    __slots__ = ()

    raw: bytes

    def fields(self) -> list[tuple[bytes, bytes]]:
        """All fields as received, names in lower case, in order. Splits anew at each call."""
        return fields(self.raw)

    def field(self, name: bytes) -> bytes | None:
        """
        The value of a field; values of a field that came more than once are joined with a comma (RFC 9110 §5.3).

        @param name: in lower case.
        """
        values = [value for key, value in fields(self.raw) if key == name]
        return b", ".join(values) if values else None


class RequestHead(_Head):
    """
    A request's head, checked and ready to be forwarded. Made by L{lemmytx.http1.codec}, once per request.

    @ivar method: as received, a token.
    @ivar target: what goes into the request line towards the backend: origin-form (the client's bytes, an
        absolute-form target reduced to its path and query) or C{*}.
    @ivar path: decoded and normalised, without the query, for routing: no dot segments, no empty segments, no
        percent escapes. C{*} for C{OPTIONS *}.
    @ivar authority: whom the request is for, as the client wrote it: from an absolute-form target, else from
        Host; empty when an HTTP/1.0 client sent none.
    @ivar host: C{authority} for the vhost table: lower case, without port and trailing dot.
    @ivar minor: 0 for HTTP/1.0, 1 for HTTP/1.1; 2 for what came over HTTP/2 (no codec says so: whoever asked it does).
    @ivar length: of the body, in bytes; 0 when there is none; L{CHUNKED}.
    @ivar keep_alive: whether the client wants the connection kept after this exchange (RFC 9112 §9.3).
    @ivar expects_continue: whether C{Expect: 100-continue} stands in it (HTTP/1.1 only). The field is in the block.
    @ivar upgrade: the value of Upgrade where Connection names it and the request is HTTP/1.1, else L{None}.
    @ivar block: the field lines to forward, each with its CRLF, in their order: without Host, the hop-by-hop
        fields and those that Connection names, Transfer-Encoding, and the fields in which proxies tell of clients
        (X-Forwarded-*, Forwarded, X-Real-IP, X-Request-ID). Content-Length stays. No empty line.
    @ivar claims: for a trusted peer, those fields in which proxies tell of clients: lower-case name to list of
        values; L{None} for any other peer, or when there were none.
    @ivar raw: the field lines as received, each with its CRLF. No empty line.
    @ivar size: how many bytes of the input the head took, with leading and closing empty lines.
    """

    __slots__ = (
        "authority", "block", "claims", "expects_continue", "host", "keep_alive", "length", "method", "minor",
        "path", "raw", "size", "target", "upgrade",
    )  # fmt: skip

    method: bytes
    target: bytes
    path: bytes
    authority: bytes
    host: bytes
    minor: int
    length: int
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes | None
    block: bytes
    claims: dict[bytes, list[bytes]] | None
    raw: bytes
    size: int

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.authority!r} {self.target!r}>"


class ResponseHead(_Head):
    """
    A response's head, checked and ready to be forwarded. Made by L{lemmytx.http1.codec}, once per response.

    @ivar status: 100 to 599.
    @ivar minor: 0 for HTTP/1.0, 1 for HTTP/1.1.
    @ivar length: of the body that follows on this connection, in bytes; 0 where none can follow (1xx, 204, 304,
        answers to HEAD); L{CHUNKED}; L{UNTIL_CLOSE}.
    @ivar keep_alive: whether the backend keeps the connection for another request.
    @ivar dated: whether a Date stands in it.
    @ivar upgrade: the value of Upgrade for a 101, else L{None}.
    @ivar block: status line (as HTTP/1.1, the backend's code and reason) and the field lines to forward, each with
        its CRLF: without the hop-by-hop fields, those that Connection names, and Transfer-Encoding. Content-Length
        stays. No empty line.
    @ivar raw: the field lines as received, each with its CRLF. No empty line.
    @ivar size: how many bytes of the input the head took.
    """

    __slots__ = ("block", "dated", "keep_alive", "length", "minor", "raw", "size", "status", "upgrade")

    status: int
    dated: bool
    minor: int
    length: int
    keep_alive: bool
    upgrade: bytes | None
    block: bytes
    raw: bytes
    size: int

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length}>"
