"""
One request and its answer, on the connection of a check: in HTTP/1.1 and in HTTP/2.

Both read no more than they are told to. An answer that ends before its announced length is none.
"""

from __future__ import annotations

from typing import Any

from lemmytx.http1 import codec
from lemmytx.http2 import codec as http2
from lemmytx.interfaces import Unhealthy
from lemmytx.message import CHUNKED, UNTIL_CLOSE, ProtocolError, ResponseHead

#: The longest head of an answer.
HEAD = 32 * 1024

#: Interim answers that come before the final one.
INTERIM = 8

#: Of an answer over HTTP/2 so much comes before we have to say that we took it; more than is ever read.
_BOUNDS = http2.Bounds(window=1 << 20, header_list=HEAD)


class Answer:
    """
    @ivar body: the body, or its beginning.
    @ivar whole: whether that is all.
    @ivar trailers: lines with their CRLF.
    """

    __slots__ = ("body", "head", "trailers", "whole")

    def __init__(self, head: ResponseHead, body: bytes = b"", whole: bool = True, trailers: bytes = b"") -> None:
        self.head = head
        self.body = body
        self.whole = whole
        self.trailers = trailers


def _head(data: bytes, headless: bool) -> ResponseHead | None:
    """
    @raise Unhealthy: it is none.
    """
    try:
        return codec.response(data, headless, HEAD, 200)
    except ProtocolError as error:
        raise Unhealthy(f"its answer is malformed: {error}") from None


async def ask_http1(connection: Any, head: bytes, headless: bool, most: int) -> Answer:
    """
    @param head: of the request, which has no body.
    @param headless: whether its method is HEAD.
    @param most: bytes of a body that are wanted.
    @raise Unhealthy: what comes is no answer.
    """
    connection.write(head)
    data = await _received(connection, "before it answered")
    for _ in range(INTERIM):
        while (found := _head(data, headless)) is None:
            data += await _received(connection, "in the head of its answer")
        rest = data[found.size :]
        if found.status >= 200:
            return await _body(connection, found, rest, most)
        if found.status == 101:
            break
        data = rest or await _received(connection, "before it answered")
    raise Unhealthy("it sends interim answers and no final one")


async def _received(connection: Any, where: str) -> bytes:
    data: bytes = await connection.receive()
    if not data:
        raise Unhealthy(f"it closed the connection {where}")
    return data


async def _body(connection: Any, head: ResponseHead, data: bytes, most: int) -> Answer:
    length = head.length
    if length == CHUNKED:
        return await _chunks(connection, head, data, most)
    parts, have = [data], len(data)
    while have < length or length == UNTIL_CLOSE:
        if have > most:
            break
        more = await connection.receive()
        if not more:
            if length != UNTIL_CLOSE:
                raise Unhealthy(f"it closed the connection {length - have} bytes before the end of its answer")
            return Answer(head, b"".join(parts))
        parts.append(more)
        have += len(more)
    body = b"".join(parts)
    return Answer(head, body[:length] if 0 <= length <= most else body[:most], 0 <= length <= most)


async def _chunks(connection: Any, head: ResponseHead, data: bytes, most: int) -> Answer:
    chunks = codec.ChunkedBody()
    body = b""
    while True:
        try:
            body += chunks.feed(data)
        except ProtocolError as error:
            raise Unhealthy(f"its answer is malformed: {error}") from None
        if chunks.done or len(body) > most:
            return Answer(head, body[:most], chunks.done and len(body) <= most, chunks.trailers if chunks.done else b"")
        data = await _received(connection, "in the middle of its answer")


async def ask_http2(
    connection: Any, head: bytes, headless: bool, most: int, body: bytes = b"", secure: bool = False
) -> Answer:
    """
    The same in HTTP/2.

    @param head: as HTTP/1.1.
    @param body: of the request.
    """
    wire = http2.Connection(True, _BOUNDS, scheme=b"https" if secure else b"http")
    wire.start()
    stream = wire.request(head, not body)
    if body:
        wire.send(stream, body, True)
    answer: Answer | None = None
    while True:
        connection.write(wire.take())
        for event in wire.receive(await _received(connection, "before the end of its answer")):
            if isinstance(event, http2.Terminated):
                raise Unhealthy(f"its answer is malformed: {event.reason}")
            if isinstance(event, http2.GoneAway) and event.last < stream:
                raise Unhealthy(f"it takes no requests (GOAWAY, code {event.code})")
            if isinstance(event, http2.Reset) and event.stream == stream:
                raise Unhealthy(f"it refuses to answer (RST_STREAM, code {event.code})")
            if isinstance(event, http2.Response) and event.stream == stream:
                found = _head(event.head, headless)
                if found is None:
                    raise Unhealthy("the head of its answer is too long")
                if found.status < 200:
                    continue
                answer = Answer(found)
                if event.ended:
                    return _said(connection, wire, answer)
            elif isinstance(event, http2.Data) and answer is not None:
                answer.body += event.data
                if len(answer.body) > most:
                    answer.body, answer.whole = answer.body[:most], False
                    return _said(connection, wire, answer)
                if event.ended:
                    return _said(connection, wire, answer)
            elif isinstance(event, http2.Trailers) and answer is not None:
                answer.trailers = event.lines
                return _said(connection, wire, answer)


def _said(connection: Any, wire: http2.Connection, answer: Answer) -> Answer:
    """It is over: say so, as others may look at their connections' ends."""
    wire.goaway()
    connection.write(wire.take())
    return answer
