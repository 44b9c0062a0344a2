"""
What a backend gets to see of a client: Via, X-Forwarded-*, Forwarded, X-Request-ID.

The codec has taken these fields out of what came from the client. Here they are written anew: from what we know
ourselves and, for a trusted peer alone, from what it claimed. So a backend can believe every one of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import count, repeat

from lemmytx.message import CHUNKED, RequestHead

Networks = Sequence[IPv4Network | IPv6Network]

#: What is kept of a trusted peer's request id: no room for log injection, or for a kilobyte.
_SOUND_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]+)?\Z")

#: Addresses that a peer may list: a longer X-Forwarded-For is not a path, it is an attack on the log.
_LONGEST_WAY = 50


#: Requests whose hops can be counted.
COUNTED = frozenset((b"OPTIONS", b"TRACE"))

_HOPS = re.compile(rb"(?im)^max-forwards:[^\r\n]*\r\n")


def is_last_hop(head: RequestHead) -> bool:
    """
    Max-Forwards (RFC 9110 §7.6.2). Called once per request whose method is in L{COUNTED}.

    @return: whether the request is for us. When not, the head now says one less.
    """
    hops = head.field(b"max-forwards")
    if hops is None or not hops.isdigit():
        return False
    left = int(hops.lstrip(b"0")[:10] or b"0")  # ten digits are beyond any way there is
    if left:
        head.block = _HOPS.sub(b"Max-Forwards: %d\r\n" % (min(left, 1 << 31) - 1), head.block)
    return not left


class Peer:
    """
    Who is at the other end of a downstream connection, and what that adds to each of its requests.

    @ivar client: its address as text; empty on a unix socket.
    @ivar trusted: whether what it says about clients is believed.
    @ivar networks: whom the listener believes; for the addresses further back on a request's way.
    @ivar fields: the lines that are the same for all its requests, when it is not trusted.
    @ivar certificate: those of them that tell of its TLS certificate; also for a trusted one.
    @ivar redirect: the port of HTTPS to which its requests are sent; 0: they are served.
    @ivar hsts: the line for its responses (RFC 6797); may be empty.
    @ivar told: what else is known of its connection, for the JSON log: members with their commas before them, in ASCII.
    """

    __slots__ = ("certificate", "client", "fields", "hsts", "networks", "redirect", "scheme", "told", "trusted")

    def __init__(
        self, client: str, scheme: bytes = b"http", trusted: bool = False, fields: bytes = b"", networks: Networks = ()
    ) -> None:
        self.client = client
        self.networks = networks
        self.scheme = scheme
        self.trusted = trusted
        self.fields = fields
        self.certificate = b""
        self.redirect = 0
        self.hsts = b""
        self.told = b""

    def certify(self, lines: bytes) -> None:
        """
        It has shown a certificate.

        @param lines: what backends are told about it, each with its CRLF.
        """
        self.certificate = lines
        self.fields += lines


class Forwarding:
    """
    The rules, and the ids of requests.

    @ivar ids: the ids of requests that come without one that is believed.
    """

    __slots__ = ("_forwarded", "_request_id", "_usual", "_via", "_x_forwarded", "ids")

    def __init__(
        self,
        x_forwarded: bool = True,
        forwarded: bool = False,
        via: bytes | None = b"lemmytx",
        request_id: bool = True,
    ) -> None:
        """
        @param x_forwarded: write X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.
        @param forwarded: write Forwarded (RFC 7239).
        @param via: the pseudonym in Via (RFC 9110 §7.6.3); L{None} for no Via.
        @param request_id: write X-Request-ID.
        """
        self._x_forwarded = x_forwarded
        self._forwarded = forwarded
        # By L{RequestHead.minor}.
        self._via = tuple(b"" if via is None else b"Via: %b %b\r\n" % (v, via) for v in (b"1.0", b"1.1", b"2.0"))
        self._request_id = request_id
        self._usual = x_forwarded and request_id and not forwarded
        # Unique over instances by 64 random bits, over requests by counting. Not a secret.
        self.ids: Iterator[bytes] = map(b"%b%012x".__mod__, zip(repeat(os.urandom(8).hex().encode()), count(1)))

    def peer(self, address: str, scheme: bytes, trusted: Networks) -> Peer:
        """
        Called once per connection.

        @param address: of the other end, an IP address; empty for a unix socket.
        @param trusted: the networks that the listener believes. Who can open its unix socket is already let in by
            the file's permissions, so such a peer is trusted where any is.
        """
        believed = bool(trusted) and (not address or _within(address, trusted))
        lines = []
        if self._x_forwarded:
            if address:
                lines.append(b"X-Forwarded-For: %b\r\n" % address.encode())
            lines.append(b"X-Forwarded-Proto: %b\r\n" % scheme)
        return Peer(address, scheme, believed, b"".join(lines), trusted)

    def request_id(self, head: RequestHead) -> bytes:
        """The request's id: the one that a trusted peer gave it, else a new one of 28 hexadecimal digits."""
        if head.claims is not None:
            given = head.claims.get(b"x-request-id")
            if given and _SOUND_ID.match(given[0]):
                return given[0]
        return next(self.ids)

    def client(self, head: RequestHead, peer: Peer, trusted: Networks) -> str:
        """
        Whom the request comes from: the nearest address on its way that is not a trusted proxy's.

        @return: an IP address as text; the peer's own where nothing better is claimed.
        """
        if head.claims is None:
            return peer.client
        way = b",".join(head.claims.get(b"x-forwarded-for", ())).decode("latin-1").split(",")
        client = peer.client
        for step in reversed(way[-_LONGEST_WAY:]):
            match = _WITH_PORT.match(step.strip()) or re.match(r"([0-9A-Fa-f:.]+)\Z", step.strip())
            if match is None:
                break
            address = next(group for group in match.groups() if group)
            try:
                client = str(ip_address(address))
            except ValueError:
                break
            if not _within(client, trusted):
                break
        return client

    def compose(self, head: RequestHead, host: bytes, peer: Peer, request_id: bytes) -> bytes:
        """
        The head that a backend gets. Called once per request.

        @param host: the value of Host.
        """
        authority = head.authority
        if self._usual and head.claims is None and authority and head.length >= 0 and head.upgrade is None:
            # What follows, for nearly all requests and with the settings as they come, in one go.
            return b"".join(
                (
                    head.method, b" ", head.target, b" HTTP/1.1\r\nHost: ", host, b"\r\n",
                    head.block, self._via[head.minor], peer.fields, b"X-Forwarded-Host: ", authority,
                    b"\r\nX-Request-ID: ", request_id, b"\r\n\r\n",
                )
            )  # fmt: skip
        if head.claims is not None:
            told = self._claimed(head, peer)
        elif self._x_forwarded:
            told = b"%bX-Forwarded-Host: %b\r\n" % (peer.fields, authority) if authority else peer.fields
        else:
            told = b""
        if self._forwarded:
            told += self._element(head, peer)
        if head.length == CHUNKED:
            told += b"Transfer-Encoding: chunked\r\n"
        if head.upgrade is not None:
            told += b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade
        if self._request_id:
            told += b"X-Request-ID: %b\r\n" % request_id
        return b"".join(
            (
                head.method, b" ", head.target, b" HTTP/1.1\r\nHost: ", host, b"\r\n",
                head.block, self._via[head.minor], told, b"\r\n",
            )
        )  # fmt: skip

    def _claimed(self, head: RequestHead, peer: Peer) -> bytes:
        """What a trusted peer said, continued by us."""
        assert head.claims is not None
        claims = dict(head.claims)
        claims.pop(b"x-request-id", None)
        if self._x_forwarded:
            way = claims.pop(b"x-forwarded-for", [])
            if peer.client:
                way = [*way, peer.client.encode()]
            if way:
                claims[b"x-forwarded-for"] = [b", ".join(way)]
            claims.setdefault(b"x-forwarded-proto", [peer.scheme])
            if head.authority:
                claims.setdefault(b"x-forwarded-host", [head.authority])
        if self._forwarded:
            # The whole list stands in the line that we write.
            claims.pop(b"forwarded", None)
        if peer.certificate:
            # Whose certificate that is, we know ourselves.
            for name in [name for name in claims if name.startswith(b"x-forwarded-tls-client-")]:
                del claims[name]
        return (
            b"".join(
                b"%b: %b\r\n" % (_SPELLED.get(name, name.title()), value)
                for name, values in claims.items()
                for value in values
            )
            + peer.certificate
        )

    def _element(self, head: RequestHead, peer: Peer) -> bytes:
        """The Forwarded line (RFC 7239 §4): what a trusted peer had, and our own element."""
        client = peer.client or "unknown"
        node = f'"[{client}]"' if ":" in client else client
        element = b"for=%b;proto=%b" % (node.encode(), peer.scheme)
        if head.authority:
            element += b';host="%b"' % head.authority
        before = head.claims.get(b"forwarded", []) if head.claims is not None else []
        return b"Forwarded: %b\r\n" % b", ".join([*before, element])


_SPELLED = {
    b"x-forwarded-for": b"X-Forwarded-For",
    b"x-forwarded-proto": b"X-Forwarded-Proto",
    b"x-forwarded-host": b"X-Forwarded-Host",
    b"x-real-ip": b"X-Real-IP",
    b"forwarded": b"Forwarded",
}


def _within(address: str, networks: Networks) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        parsed = mapped
    return any(parsed.version == network.version and parsed in network for network in networks)
