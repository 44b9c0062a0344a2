"""
All rows of HTTP/2 requests, and what a row is.

The outcome of a row is what the client sees on its stream, and what then became of the connection::

    200/open                    answered, and so was a further request on the same connection
    100+200/open                with an interim response before
    PROTOCOL_ERROR/open         the stream was reset with that code; the connection is of use
    413+NO_ERROR/open           answered, and reset because the rest of the request is not wanted
    COMPRESSION_ERROR/closed    GOAWAY with that code, and the end
    tunnel/open                 answered with 200, and what was sent came back
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.wire.frames import Fields, literals
from tests.wire.rows import HOST, Sent

#: What a stream is ended with for a request that is no HTTP.
MALFORMED = "PROTOCOL_ERROR/open"


@dataclass(frozen=True, slots=True)
class Block:
    """
    A request as a header block, with what follows on its stream, and what must come of it.

    @ivar name: unique; makes the names of its tests.
    @ivar rfc: the section that says so.
    @ivar fields: the list of fields; empty where C{raw} is the block itself.
    @ivar raw: a block in raw HPACK.
    @ivar outcome: see above.
    @ivar sent: what the backend must get if that is 200 or a tunnel. If it is something else: what it may have got
        before the client did wrong; L{None}: nothing complete.
    @ivar data: payloads of DATA frames behind it.
    @ivar trailers: a list of fields behind those; L{None}: there is none.
    @ivar ended: whether the last frame ends the stream.
    @ivar started: whether the backend may see the beginning of a request (never all of one) that is refused later.
    @ivar also: another outcome that is right, if the answer was there before the client did wrong.
    @ivar waits: whether the DATA are sent when an interim response has come.
    """

    name: str
    rfc: str
    fields: tuple[tuple[bytes, bytes], ...]
    raw: bytes
    outcome: str
    sent: Sent | None = None
    data: tuple[bytes, ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] | None = None
    ended: bool = True
    started: bool = False
    waits: bool = False
    also: str = ""


Pairs = tuple[tuple[bytes, bytes], ...]


def get(
    *more: tuple[bytes, bytes],
    method: bytes | None = b"GET",
    scheme: bytes | None = b"http",
    path: bytes | None = b"/",
    authority: bytes | None = HOST,
) -> Pairs:
    """A request's list of fields; what is L{None} is left out."""
    front = ((b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path))
    return (*((name, value) for name, value in front if value is not None), *more)


def post(*more: tuple[bytes, bytes]) -> Pairs:
    """That of a POST."""
    return get(*more, method=b"POST")


def malformed(
    name: str,
    rfc: str,
    fields: Pairs,
    outcome: str = MALFORMED,
    data: tuple[bytes, ...] = (),
    trailers: Pairs | None = None,
    ended: bool = True,
    started: bool = False,
    sent: Sent | None = None,
) -> Block:
    """A row of which nothing may be forwarded as a whole, but C{sent}, which may be answered."""
    also = "" if sent is None else "200+NO_ERROR/open"
    return Block(name, rfc, fields, b"", outcome, sent, data, trailers, ended, started, also=also)


def forwarded(
    name: str,
    rfc: str,
    fields: Pairs,
    *lines: bytes,
    line: bytes = b"GET / HTTP/1.1",
    host: bytes | None = HOST,
    via: tuple[bytes, ...] = (),
    outcome: str = "200/open",
) -> Block:
    """
    A row without a body that the backend must get.

    @param lines: the fields as the backend gets them.
    """
    return Block(name, rfc, fields, b"", outcome, Sent(line, lines, host=host, via=via))


def with_body(
    name: str,
    rfc: str,
    fields: Pairs,
    data: tuple[bytes, ...],
    sent: Sent,
    trailers: Pairs | None = None,
    outcome: str = "200/open",
    waits: bool = False,
) -> Block:
    """A row with a body that the backend must get."""
    return Block(name, rfc, fields, b"", outcome, sent, data, trailers, waits=waits)


def raw(name: str, rfc: str, block: bytes, outcome: str, sent: Sent | None = None) -> Block:
    """A row whose block is more than a list of fields."""
    return Block(name, rfc, (), block, outcome, sent)


def block_of(row: Block, form: int = 0) -> bytes:
    """
    A row's block.

    @param form: how literals are written, as L{literals} takes it.
    """
    return row.raw or literals(row.fields, form)


def unique(rows: Iterable[Block]) -> tuple[Block, ...]:
    """The rows, whose names are all different ones."""
    found = tuple(rows)
    names = [row.name for row in found]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return found


def joined(fields: Fields) -> bytes:
    """Fields as HTTP/1.1 would have them: what an attacker hides in a value."""
    return b"".join(b"%b: %b\r\n" % field for field in fields)
