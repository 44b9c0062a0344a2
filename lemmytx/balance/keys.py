"""
What of a request is hashed.

Each of these gives a function from a request to bytes; empty: the request has nothing of the kind. They run on the way
of every request, so they look for one thing in the raw head and take nothing else apart.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET6, inet_pton

from lemmytx.interfaces import IRequest

#: What stands before a cookie: the last one's end, or nothing.
_BETWEEN = (b";", b"")

Key = Callable[[IRequest], bytes]

#: How an IPv4 address begins that is written as one of IPv6 (RFC 4291 §2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


def client(request: IRequest) -> bytes:
    """
    The client's address; of one of IPv6 the first 64 bits, since a host has all the rest to itself and may change it
    for each connection (RFC 8981).
    """
    address: str = request.client
    if ":" in address:
        try:
            packed = inet_pton(AF_INET6, address.partition("%")[0])
        except OSError:
            # A trusted proxy told us something else that has a colon.
            return address.encode("utf-8", "surrogateescape")
        if packed[:12] != _MAPPED:
            return packed[:8]
        address = ".".join(map(str, packed[12:]))
    return address.encode() if address.isascii() else address.encode("utf-8", "surrogateescape")


def path(request: IRequest) -> bytes:
    """The path, decoded and normalised, without the query."""
    found: bytes = request.head.path
    return found


def header(name: str) -> Key:
    """
    A field's value, the first where there are several.

    @param name: in any case.
    """
    start = f"\r\n{name.lower()}:".encode("latin-1")
    skipped = len(start)

    def field(request: IRequest) -> bytes:
        raw: bytes = b"\r\n" + request.head.raw
        at = raw.lower().find(start)
        return b"" if at < 0 else raw[at + skipped : raw.index(b"\r\n", at + skipped)].strip(b" \t")

    return field


def cookie(name: str) -> Key:
    """A cookie's value. HTTP/2 may send a field for each cookie (RFC 9113 §8.2.3)."""
    wanted = name.encode("latin-1") + b"="
    start = b"\r\ncookie:"
    skipped, named = len(start), len(wanted)

    def value(request: IRequest) -> bytes:
        raw: bytes = b"\r\n" + request.head.raw
        lowered = raw.lower()
        at = lowered.find(start)
        while at >= 0:
            end = raw.index(b"\r\n", at + skipped)
            line = raw[at + skipped : end]
            found = line.find(wanted)
            while found >= 0:
                # Else it is a part of another one's name or value.
                if line[:found].rstrip(b" \t")[-1:] in _BETWEEN:
                    return line[found + named :].partition(b";")[0].strip(b" \t")
                found = line.find(wanted, found + 1)
            at = lowered.find(start, end)
        return b""

    return value


def query(name: str) -> Key:
    """A parameter's value, as it stands in the query: percent escapes are not decoded."""
    wanted = name.encode("utf-8")

    def value(request: IRequest) -> bytes:
        target: bytes = request.head.target
        for pair in target.partition(b"?")[2].split(b"&"):
            key, _, found = pair.partition(b"=")
            if key == wanted:
                return found
        return b""

    return value
