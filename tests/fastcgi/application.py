"""
The application's side of FastCGI 1.0, written from the specification and on its own: it reads what the proxy sends
strictly and composes whatever an application can answer, and some of what it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

END, PARAMS, STDIN, STDOUT, STDERR = 3, 4, 5, 6, 7


def record(kind: int, content: bytes = b"", request: int = 1, padding: int = 0, version: int = 1) -> bytes:
    """A record (§3.3)."""
    sizes = request.to_bytes(2, "big") + len(content).to_bytes(2, "big")
    return bytes((version, kind)) + sizes + bytes((padding, 0)) + content + b"\xaa" * padding


def end(application: int = 0, protocol: int = 0, padding: int = 0) -> bytes:
    """The end of a request (§5.5)."""
    return record(END, application.to_bytes(4, "big") + bytes((protocol, 0, 0, 0)), padding=padding)


def output(*pieces: bytes) -> bytes:
    """Output, a record for each piece, without the end of the stream."""
    return b"".join(record(STDOUT, piece) for piece in pieces)


def answer(text: bytes) -> bytes:
    """A whole answer as php-fpm writes it: padded to eight bytes, no end of the stream."""
    return record(STDOUT, text, padding=-len(text) % 8) + end()


def pairs(content: bytes) -> list[tuple[bytes, bytes]]:
    """Name-value pairs (§3.4)."""
    found = []
    at = 0
    while at < len(content):
        sizes = []
        for _ in range(2):
            if content[at] & 0x80:
                sizes.append(int.from_bytes(content[at : at + 4], "big") & 0x7FFFFFFF)
                at += 4
            else:
                sizes.append(content[at])
                at += 1
        name, value = content[at : at + sizes[0]], content[at + sizes[0] : at + sum(sizes)]
        assert len(name) + len(value) == sum(sizes), "a pair that is cut"
        found.append((name, value))
        at += sum(sizes)
    return found


@dataclass
class Asked:
    """
    A request as it arrives.

    @ivar keep: whether the connection is to be kept.
    @ivar variables: once all are here.
    @ivar body: what has come of it; C{ended}: it is whole.
    @ivar aborted: whether ABORT_REQUEST has come.
    """

    keep: bool = False
    variables: dict[bytes, bytes] | None = None
    body: bytes = b""
    ended: bool = False
    aborted: bool = False
    _params: bytes = b""
    _kinds: list[int] = field(default_factory=list)


def asked(wire: bytes) -> tuple[Asked, bytes]:
    """
    The first request in C{wire}, as far as it is there.

    @return: it, and what follows its STDIN.
    """
    request = Asked()
    begun = False
    while len(wire) >= 8 and not (request.ended and wire[1] == 1):
        version, kind = wire[0], wire[1]
        number = int.from_bytes(wire[2:4], "big")
        size = int.from_bytes(wire[4:6], "big")
        whole = 8 + size + wire[6]
        assert (version, number, wire[7]) == (1, 1, 0), wire[:8]
        if len(wire) < whole:
            break
        content, wire = wire[8 : 8 + size], wire[whole:]
        if kind == 1:
            assert not begun and size == 8 and content[:2] == b"\0\1" and not any(content[3:]), content
            begun, request.keep = True, bool(content[2] & 1)
        elif kind == PARAMS:
            assert begun and request.variables is None
            request._params += content
            if not content:
                found = pairs(request._params)
                request.variables = dict(found)
                assert len(found) == len(request.variables), "a variable that is there twice"
        elif kind == STDIN:
            assert request.variables is not None and not request.ended
            request.body += content
            request.ended = not content
        else:
            assert kind == 2 and not size, kind
            request.aborted = True
    return request, wire
