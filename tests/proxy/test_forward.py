"""What a backend is told of the client and the way of the request."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec
from lemmytx.message import RequestHead
from lemmytx.proxy.forward import Forwarding
from tests.proxy.rig import split

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def head(*lines: bytes, version: bytes = b"1.1", trusted: bool = False, host: bytes = b"shop.example") -> RequestHead:
    """A request's head with these fields."""
    fields = b"".join(line + b"\r\n" for line in ((b"Host: " + host, *lines) if host else lines))
    found = codec.request(b"GET /x?y HTTP/" + version + b"\r\n" + fields + b"\r\n", trusted)
    assert found is not None
    return found


class ComposeTests(SynchronousTestCase):
    """The head that goes out."""

    def told(
        self, forwarding: Forwarding, request: RequestHead, peer: str = "192.0.2.1", host: bytes = b"shop.example"
    ) -> tuple[bytes, dict[bytes, bytes]]:
        """First line and fields."""
        trusted = TRUSTED if request.claims is not None else ()
        wire = forwarding.compose(request, host, forwarding.peer(peer, b"http", trusted), b"id")
        first, fields, rest = split(wire)
        self.assertEqual(rest, b"")
        return first, fields

    def test_plain(self) -> None:
        """Request line, Host first, the client's fields in their order, then ours."""
        request = head(b"B: 1", b"A: 2", b"B: 3")
        peer = Forwarding(via=b"proxy").peer("192.0.2.1", b"http", ())
        self.assertEqual(
            Forwarding(via=b"proxy").compose(request, b"shop.example", peer, b"id"),
            b"GET /x?y HTTP/1.1\r\nHost: shop.example\r\nB: 1\r\nA: 2\r\nB: 3\r\nVia: 1.1 proxy\r\n"
            b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.example\r\n"
            b"X-Request-ID: id\r\n\r\n",
        )

    def test_nothing(self) -> None:
        """Everything that we write can be left out."""
        quiet = Forwarding(x_forwarded=False, forwarded=False, via=None, request_id=False)
        first, fields = self.told(quiet, head(b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=1.2.3.4", b"X-Real-IP: 1"))
        self.assertEqual((first, fields), (b"GET /x?y HTTP/1.1", {b"host": b"shop.example"}))

    def test_version(self) -> None:
        """Via says in which version the request came; it goes on in 1.1."""
        first, fields = self.told(Forwarding(), head(version=b"1.0"))
        self.assertEqual((first, fields[b"via"]), (b"GET /x?y HTTP/1.1", b"1.0 lemmytx"))
        second = head()
        second.minor = 2
        first, fields = self.told(Forwarding(), second)
        self.assertEqual((first, fields[b"via"]), (b"GET /x?y HTTP/1.1", b"2.0 lemmytx"))

    def test_noHost(self) -> None:
        """Without a Host there is no X-Forwarded-Host."""
        _, fields = self.told(Forwarding(), head(version=b"1.0", host=b""), host=b"10.0.0.1:80")
        self.assertNotIn(b"x-forwarded-host", fields)
        self.assertEqual(fields[b"host"], b"10.0.0.1:80")

    def test_trusted(self) -> None:
        """A trusted peer's claims are continued by its own address; a scheme and host it told are kept."""
        claims = (b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 2.2.2.2", b"X-Forwarded-Proto: https")
        _, fields = self.told(Forwarding(), head(*claims, b"X-Forwarded-Host: out.example", trusted=True), "10.1.1.1")
        self.assertEqual(fields[b"x-forwarded-for"], b"1.1.1.1, 2.2.2.2, 10.1.1.1")
        self.assertEqual((fields[b"x-forwarded-proto"], fields[b"x-forwarded-host"]), (b"https", b"out.example"))

    def test_forwarded(self) -> None:
        """Forwarded (RFC 7239) has our element behind a trusted peer's, an IPv6 address in quotes and brackets."""
        forwarding = Forwarding(x_forwarded=False, forwarded=True)
        _, fields = self.told(forwarding, head())
        self.assertEqual(fields[b"forwarded"], b'for=192.0.2.1;proto=http;host="shop.example"')
        _, fields = self.told(forwarding, head(b"Forwarded: for=1.1.1.1", trusted=True), "fd00::1")
        self.assertEqual(fields[b"forwarded"], b'for=1.1.1.1, for="[fd00::1]";proto=http;host="shop.example"')
        _, fields = self.told(forwarding, head(b"Forwarded: for=1.1.1.1"))
        self.assertNotIn(b"1.1.1.1", fields[b"forwarded"])
        _, fields = self.told(forwarding, head(), "")
        self.assertTrue(fields[b"forwarded"].startswith(b"for=unknown;"))

    def test_framing(self) -> None:
        """Chunks and upgrades are announced anew, a length stays."""
        _, fields = self.told(Forwarding(), head(b"Transfer-Encoding: chunked"))
        self.assertEqual(fields[b"transfer-encoding"], b"chunked")
        _, fields = self.told(Forwarding(), head(b"Content-Length: 5"))
        self.assertEqual(fields[b"content-length"], b"5")
        self.assertNotIn(b"transfer-encoding", fields)
        _, fields = self.told(Forwarding(), head(b"Connection: Upgrade, X-Hop", b"Upgrade: websocket", b"X-Hop: 1"))
        self.assertEqual((fields[b"connection"], fields[b"upgrade"]), (b"upgrade", b"websocket"))
        self.assertNotIn(b"x-hop", fields)


class ClientTests(SynchronousTestCase):
    """Who the client is."""

    def client(self, *way: bytes, peer: str = "10.0.0.1") -> str:
        forwarding = Forwarding()
        request = head(*(b"X-Forwarded-For: " + step for step in way), trusted=True)
        return forwarding.client(request, forwarding.peer(peer, b"http", TRUSTED), TRUSTED)

    def test_nearest(self) -> None:
        """The nearest address that is not a trusted proxy's; what stands before it could be anybody's invention."""
        self.assertEqual(self.client(b"203.0.113.9"), "203.0.113.9")
        self.assertEqual(self.client(b"6.6.6.6, 203.0.113.9, 10.0.0.7"), "203.0.113.9")
        self.assertEqual(self.client(b"6.6.6.6, 203.0.113.9", b"10.0.0.7"), "203.0.113.9")

    def test_allTrusted(self) -> None:
        """When all are trusted, the farthest one."""
        self.assertEqual(self.client(b"10.0.0.9, 10.0.0.8"), "10.0.0.9")

    def test_nobody(self) -> None:
        """Without a claim, the peer."""
        self.assertEqual(self.client(), "10.0.0.1")

    def test_forms(self) -> None:
        """Ports and brackets are understood, IPv6 is brought to one form, an IPv4 address in it counts as IPv4."""
        self.assertEqual(self.client(b"203.0.113.9:1234"), "203.0.113.9")
        self.assertEqual(self.client(b"[2001:DB8::0:1]:1234"), "2001:db8::1")
        self.assertEqual(self.client(b"2001:db8:0::1"), "2001:db8::1")
        self.assertEqual(self.client(b"203.0.113.9, ::ffff:10.0.0.2"), "203.0.113.9")

    def test_nonsense(self) -> None:
        """What is no address ends the search at the last one that was."""
        for nonsense in (b"unknown", b"_hidden", b"999.1.1.1", b"1.2.3", b"", b"::g", b"1:2"):
            self.assertEqual(self.client(b"203.0.113.9, " + nonsense + b", 10.0.0.7"), "10.0.0.7", nonsense)

    def test_longWay(self) -> None:
        """Of an endless list no more than the nearest are looked at."""
        way = b", ".join([b"203.0.113.9"] + [b"10.0.0.7"] * 1000)
        self.assertEqual(self.client(way), "10.0.0.7")

    def test_trust(self) -> None:
        """Believed is who is in the networks; nobody is where there are none."""
        forwarding = Forwarding()
        for address, believed in (
            ("10.1.2.3", True), ("11.1.2.3", False), ("fd00::1", True), ("fe80::1%eth0", False),
            ("::ffff:10.1.2.3", True), ("nonsense", False), ("", True),
        ):  # fmt: skip
            self.assertEqual(forwarding.peer(address, b"http", TRUSTED).trusted, believed, address)
            self.assertFalse(forwarding.peer(address, b"http", ()).trusted)


class RequestIDTests(SynchronousTestCase):
    """X-Request-ID."""

    def test_unique(self) -> None:
        """Ids are 28 hexadecimal digits, never twice the same, and others in another instance."""
        forwarding, other = Forwarding(), Forwarding()
        ids = {forwarding.request_id(head()) for _ in range(1000)} | {other.request_id(head())}
        self.assertEqual(len(ids), 1001)
        for one in ids:
            self.assertRegex(one, rb"\A[0-9a-f]{28}\Z")

    def test_given(self) -> None:
        """A trusted peer's is kept when it is sound; spaces, controls and kilobytes are not."""
        forwarding = Forwarding()
        self.assertEqual(forwarding.request_id(head(b"X-Request-ID: a-1", trusted=True)), b"a-1")
        for unsound in (b"a b", b"", b"x" * 129, b"\xe4"):
            self.assertNotEqual(forwarding.request_id(head(b"X-Request-ID: " + unsound, trusted=True)), unsound)
        self.assertNotEqual(forwarding.request_id(head(b"X-Request-ID: a-1")), b"a-1")
