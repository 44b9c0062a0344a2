"""
What a row of the table of responses is, and what the client must get for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.wire.reading import Message
from tests.wire.rows import request

#: Fields that the proxy may add to a response, or that belong to one connection alone.
OWN = frozenset((b"connection", b"content-length", b"keep-alive", b"transfer-encoding", b"via", b"x-request-id"))

GET = request(start=b"GET /row HTTP/1.1")
GET_TRAILERS = request(b"Connection: TE", b"TE: trailers", start=b"GET /row HTTP/1.1")
GET_OLD = request(start=b"GET /row HTTP/1.0")
GET_OLD_KEPT = request(b"Connection: keep-alive", start=b"GET /row HTTP/1.0")
GET_UPGRADE = request(b"Connection: upgrade", b"Upgrade: websocket", start=b"GET /row HTTP/1.1")
HEAD = request(start=b"HEAD /row HTTP/1.1")
POST_EARLY = request(b"Content-Length: 5", start=b"POST /row HTTP/1.1")


@dataclass(frozen=True, slots=True)
class Got:
    """
    A response as the client must get it.

    @ivar status: with the reason.
    @ivar fields: the lines that are not the proxy's own (L{OWN}), in order, as they must be written.
    @ivar framing: which ones will do.
    @ivar length: the value of Content-Length where there is no body for it to frame; L{None} = must not be there.
    @ivar trailers: which ones will do.
    """

    status: bytes = b"200 OK"
    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    framing: frozenset[str] = frozenset(("length",))
    length: bytes | None = None
    trailers: tuple[tuple[bytes, ...], ...] = ((),)

    def differences(self, got: Message) -> list[str]:
        """What is not as it must be; empty when all is."""
        found: list[str] = []

        def compare(what: str, is_: object, must: object) -> None:
            if is_ != must:
                found.append(f"{what} is {is_!r}, must be {must!r}")

        compare("status line", got.start.rstrip(), b"HTTP/1.1 " + self.status)
        own = OWN
        if not any(line.lower().startswith(b"date:") for line in self.fields):
            own |= {b"date"}  # RFC 9110 §6.6.1: one who forwards adds it where it is missing
        lines = tuple(name + b": " + value for name, value in got.fields if name.lower() not in own)
        compare("fields", lines, self.fields)
        compare("body", got.body, self.body)
        if got.framing not in self.framing:
            found.append(f"framing is {got.framing}, must be one of {sorted(self.framing)}")
        if got.framing != "length":
            compare("Content-Length", got.values(b"content-length"), [] if self.length is None else [self.length])
        trailers = tuple(name + b": " + value for name, value in got.trailers)
        if trailers not in self.trailers:
            found.append(f"trailers are {trailers!r}, must be one of {self.trailers!r}")
        if got.values(b"keep-alive"):
            found.append("Keep-Alive was passed on")
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A raw response and what must come of it.

    @ivar data: what the backend sends to the request for C{/row}.
    @ivar outcomes: as in L{tests.wire.talk.Seen}, any of them.
    @ivar got: the complete responses that the client must get when the outcome is the first of C{good}.
    @ivar ask: what the client sends.
    @ivar then: what it sends when an answer has come.
    @ivar ending: what the backend does behind it: nothing, C{close} or C{reset}.
    @ivar upstream: C{kept} (used for the next request), C{closed} (by either end, and never used again), C{any}.
    @ivar varies: whether another allowed outcome than that of the whole may come when the data is cut.
    """

    name: str
    rfc: str
    data: bytes
    outcomes: frozenset[str]
    got: tuple[Got, ...] = ()
    ask: bytes = GET
    then: tuple[bytes, ...] = ()
    ending: str = ""
    upstream: str = "kept"
    varies: bool = False


def answer(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    """The bytes of a response: status line, further lines without their CRLF, and what follows."""
    return b"\r\n".join((start, *lines, b"", b"")) + body


#: Ways to say in a head that C{hello} follows, and C{hello} in chunks.
LENGTH = b"Content-Length: 5"
TE = b"Transfer-Encoding: chunked"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
NONE = frozenset(("none",))
CHUNKED = frozenset(("chunked",))
UNTIL_CLOSE = frozenset(("close",))
EITHER = frozenset(("chunked", "close"))
#: Another complete response, which nobody asked for.
HIDDEN = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden"


def passed(
    name: str,
    rfc: str,
    data: bytes,
    *got: Got,
    ask: bytes = GET,
    end: str = "open",
    ending: str = "",
    upstream: str = "kept",
    also: tuple[str, ...] = (),
) -> Answer:
    """A row whose response must reach the client whole."""
    statuses = "+".join(one.status[:3].decode("ascii") for one in got)
    return Answer(name, rfc, data, frozenset((f"{statuses}/{end}", *also)), got, ask, (), ending, upstream)


def hello(*fields: bytes, status: bytes = b"200 OK", framing: frozenset[str] = frozenset(("length",))) -> Got:
    """A response whose body is C{hello}, as the client must get it."""
    return Got(status, fields, b"hello", framing)
