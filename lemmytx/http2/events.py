"""
What has happened on a connection, as L{Connection.receive<lemmytx.http2.connection.Connection.receive>} tells it, in
order.

Heads are HTTP/1.1 in bytes, for L{lemmytx.http1.codec}: checked as RFC 9113 §8 wants them, so that what is left for
that codec to refuse is what it would refuse from anybody.
"""

from __future__ import annotations


class Request:
    """
    A request has begun. Servers only.

    @ivar head: request line, field lines, empty line; C{content-length} as the client sent it, else
        C{transfer-encoding: chunked} where a body may follow. For an extended CONNECT (RFC 8441) it is the GET with
        C{upgrade: websocket} that means the same, without a body.
    @ivar ended: there is no body.
    @ivar protocol: C{b"websocket"} for an extended CONNECT: what comes as L{Data} is the tunnel's; else L{None}.
    """

    __slots__ = ("ended", "head", "protocol", "stream")

    def __init__(self, stream: int, head: bytes, ended: bool, protocol: bytes | None) -> None:
        self.stream = stream
        self.head = head
        self.ended = ended
        self.protocol = protocol


class Response:
    """
    A response has begun, or an informational one has come. Clients only.

    @ivar head: status line, field lines, empty line; C{content-length} as the server sent it, else
        C{transfer-encoding: chunked} where a body may follow, or C{content-length: 0} where none does.
    @ivar ended: there is no body. Never so for an informational one.
    """

    __slots__ = ("ended", "head", "stream")

    def __init__(self, stream: int, head: bytes, ended: bool) -> None:
        self.stream = stream
        self.head = head
        self.ended = ended


class Oversized:
    """
    A request whose fields are more than our bounds allow; it can be answered like any other (431). Servers only.

    @ivar ended: there is no body.
    """

    __slots__ = ("ended", "stream")

    def __init__(self, stream: int, ended: bool) -> None:
        self.stream = stream
        self.ended = ended


class Data:
    """
    A piece of a body, or of what goes through a tunnel.

    @ivar data: empty only where C{ended}.
    @ivar flow: what it took of the window, with padding: hand it to
        L{Connection.taken<lemmytx.http2.connection.Connection.taken>} when the data has been taken.
    @ivar ended: it is the last, and there are no trailers.
    """

    __slots__ = ("data", "ended", "flow", "stream")

    def __init__(self, stream: int, data: bytes, flow: int, ended: bool) -> None:
        self.stream = stream
        self.data = data
        self.flow = flow
        self.ended = ended


class Trailers:
    """
    A body has ended, with trailers.

    @ivar lines: those that may be forwarded (RFC 9110 §6.5.1), each with its CRLF; may be empty.
    """

    __slots__ = ("lines", "stream")

    def __init__(self, stream: int, lines: bytes) -> None:
        self.stream = stream
        self.lines = lines


class Reset:
    """
    A stream is gone: the peer reset it, or we did for what it sent. Not for one that
    L{Connection.reset<lemmytx.http2.connection.Connection.reset>} was called for.

    @ivar code: REFUSED_STREAM: nothing has been done with the request yet (RFC 9113 §8.7).
    @ivar ours: it was us.
    """

    __slots__ = ("code", "ours", "stream")

    def __init__(self, stream: int, code: int, ours: bool = False) -> None:
        self.stream = stream
        self.code = code
        self.ours = ours


class Room:
    """
    More can be sent, where nothing could before.

    @ivar stream: on this one; 0: on any that waits.
    """

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


class GoneAway:
    """
    The peer has sent GOAWAY.

    @ivar last: of our streams, those above it never were and never will be looked at; they are gone without a further
        event, and their requests can be sent elsewhere.
    @ivar code: NO_ERROR: the peer only wants no more of them.
    """

    __slots__ = ("code", "last")

    def __init__(self, last: int, code: int) -> None:
        self.last = last
        self.code = code


class Settings:
    """The peer's SETTINGS have come, or changed: C{peer_streams}, C{peer_extended_connect}."""

    __slots__ = ()


class Ponged:
    """The answer to a PING of ours."""

    __slots__ = ()


class Terminated:
    """
    The connection has come to its end: a connection error. What L{Connection.take
    <lemmytx.http2.connection.Connection.take>} has is the last to be sent. All streams are gone. No event follows.

    @ivar code: of the error (RFC 9113 §7).
    @ivar reason: one short sentence for the log.
    """

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


Event = Request | Response | Oversized | Data | Trailers | Reset | Room | GoneAway | Settings | Ponged | Terminated
