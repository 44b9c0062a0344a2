"""
What a row of the request tables is, what the backend must get for it, and short ways to write both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.wire.reading import Message

#: The authority of most requests in the tables.
HOST = b"a.example"

#: Fields that the proxy writes itself: they are held against what they must be, not against the row.
OWN = frozenset(
    (
        b"connection",
        b"content-length",
        b"forwarded",
        b"host",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-request-id",
    )
)

_REQUEST_ID = re.compile(rb"[!-~]{8,128}")
_VIA = re.compile(rb"(?:1\.[01]|2\.0) [!-~]+")


@dataclass(frozen=True, slots=True)
class Sent:
    """
    A request as the backend must get it.

    @ivar line: the request line.
    @ivar fields: the lines that are not the proxy's own (L{OWN}), in order, as they must be written.
    @ivar host: the value of Host; L{None} = any, but exactly one.
    @ivar framing: C{none} (also an empty body of declared length), C{length} or C{chunked}.
    @ivar via: what Via holds before the proxy's own element.
    @ivar upgrade: the value of Upgrade, which Connection then names; L{None} = neither is there.
    """

    line: bytes
    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    framing: str = "none"
    trailers: tuple[bytes, ...] = ()
    host: bytes | None = HOST
    via: tuple[bytes, ...] = ()
    upgrade: bytes | None = None

    def differences(self, got: Message) -> list[str]:
        """What is not as it must be in a request that the backend got; empty when all is."""
        found: list[str] = []

        def compare(what: str, is_: object, must: object) -> None:
            if is_ != must:
                found.append(f"{what} is {is_!r}, must be {must!r}")

        compare("request line", got.start, self.line)
        lines = tuple(name + b": " + value for name, value in got.fields if name.lower() not in OWN)
        compare("fields", lines, self.fields)
        compare("body", got.body, self.body)
        framing = "none" if got.framing == "length" and not got.body else got.framing
        compare("framing", framing, self.framing)
        compare("trailers", tuple(name + b": " + value for name, value in got.trailers), self.trailers)
        if self.host is None:
            compare("number of Host fields", len(got.values(b"host")), 1)
        else:
            compare("Host", got.values(b"host"), [self.host])
            compare("X-Forwarded-Host", got.values(b"x-forwarded-host"), [self.host])
        compare("X-Forwarded-For", got.values(b"x-forwarded-for"), [b"127.0.0.1"])
        compare("X-Forwarded-Proto", got.values(b"x-forwarded-proto"), [b"http"])
        compare("Forwarded", got.values(b"forwarded"), [])
        identifiers = got.values(b"x-request-id")
        if len(identifiers) != 1 or _REQUEST_ID.fullmatch(identifiers[0]) is None or b"spoofed" in identifiers[0]:
            found.append(f"X-Request-ID is {identifiers!r}, must be one made by the proxy")
        via = [part.strip() for value in got.values(b"via") for part in value.split(b",")]
        compare("Via before the proxy", tuple(via[:-1]), self.via)
        if not via or _VIA.fullmatch(via[-1]) is None:
            found.append(f"Via {via!r} does not end with the proxy")
        tokens = {part.strip().lower() for value in got.values(b"connection") for part in value.split(b",")}
        compare("Connection", tokens - {b"keep-alive", b"close"}, {b"upgrade"} if self.upgrade else set())
        compare("Upgrade", got.values(b"upgrade"), [self.upgrade] if self.upgrade else [])
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """
    A raw request, or several on one connection, and what must come of it.

    @ivar name: unique; makes the names of its tests.
    @ivar rfc: the section that says so.
    @ivar data: what the client sends.
    @ivar outcomes: as in L{tests.wire.talk.Seen}, any of them.
    @ivar sent: what the backend must get when the outcome begins with one of C{forwarded}; nothing otherwise.
    @ivar then: what the client sends next, one by one, each when an answer has come.
    @ivar finish: whether the client closes its sending direction behind it all.
    @ivar started: whether the backend may see the beginning of a request (never all of one) that is refused later.
    @ivar varies: whether another allowed outcome than that of the whole may come when the data is cut.
    @ivar heads: which of the requests are HEAD requests, counted from 0.
    """

    name: str
    rfc: str
    data: bytes
    outcomes: frozenset[str]
    sent: tuple[Sent, ...] = ()
    then: tuple[bytes, ...] = ()
    finish: bool = False
    started: bool = False
    varies: bool = False
    heads: tuple[int, ...] = ()

    @property
    def finals(self) -> int:
        """How many responses (not counting interim ones) are to come at most."""
        counts = []
        for outcome in self.outcomes:
            statuses = outcome.partition("/")[0].split("+")
            counts.append(sum(status != "none" and (status == "101" or status[0] != "1") for status in statuses))
        return max(1, *counts)

    def expects(self, outcome: str) -> tuple[Sent, ...]:
        """What the backend must get complete, given what the client saw."""
        return self.sent if outcome.split("+")[0][:3] in ("100", "101", "200") else ()


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = HOST, body: bytes = b"") -> bytes:
    """The bytes of a request: its line, Host (unless L{None}), further lines without their CRLF, and what follows."""
    hosts = () if host is None else (b"Host: " + host,)
    return b"\r\n".join((start, *hosts, *lines, b"", b"")) + body


def post(*lines: bytes, body: bytes = b"hello") -> bytes:
    """The bytes of a POST request with fields that say how its body is framed."""
    return request(*lines, start=b"POST / HTTP/1.1", body=body)


def chunked(body: bytes, *lines: bytes) -> bytes:
    """The bytes of a POST request with a chunked body, written as C{body} has it."""
    return post(*lines, b"Transfer-Encoding: chunked", body=body)


def refused(name: str, rfc: str, data: bytes, *statuses: int, started: bool = False) -> Row:
    """A row whose request must be answered with one of C{statuses} (400) and a closed connection."""
    outcomes = frozenset(f"{status}/closed" for status in statuses or (400,))
    return Row(name, rfc, data, outcomes, started=started)


def passed(
    name: str,
    rfc: str,
    data: bytes,
    *sent: Sent,
    refusals: Iterable[int] = (),
    also: Iterable[str] = (),
    end: str = "open",
    heads: tuple[int, ...] = (),
) -> Row:
    """
    A row whose requests must all reach the backend and be answered.

    @param refusals: statuses with which it may be refused instead.
    @param also: further outcomes that are allowed.
    """
    good = "+".join(["200"] * len(sent)) + "/" + end
    return Row(
        name, rfc, data, frozenset((good, *(f"{status}/closed" for status in refusals), *also)), sent, heads=heads
    )


def plain(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = HOST) -> Sent:
    """A request without a body, as the backend gets it."""
    return Sent(line, fields, host=host)


def posted(*fields: bytes, body: bytes = b"hello", framing: str = "length") -> Sent:
    """A POST request with a body, as the backend gets it."""
    return Sent(b"POST / HTTP/1.1", fields, body, framing)
