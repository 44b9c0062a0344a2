"""What comes before HTTP on a connection, in memory: L{lemmytx.proxy.entrance} and the listener's part of it."""

from __future__ import annotations

import json
import ssl
from functools import cache
from ipaddress import ip_network
from tempfile import TemporaryDirectory

from lemmytx import model
from lemmytx.net.tls.server import ServerTls
from lemmytx.proxy.entrance import PREFACE
from lemmytx.proxy.terms import Terms
from lemmytx.proxy_protocol import compose_v1, compose_v2
from tests.certificates import Authority
from tests.proxy.rig import GET, OK, End, ProxyCase, split

TRUSTED = (ip_network("192.0.2.0/24"),)


class EntranceCase(ProxyCase):
    """A proxy whose listener has terms."""

    def terms(self, terms: Terms) -> None:
        """From now on clients come in on these."""
        self.listener.configure(terms)

    def served(self, client: End) -> dict[bytes, bytes]:
        """The request that a client has sent is answered; what the backend got of it."""
        backend = self.network.ends[-1] if not self.network.dialled else self.accept()
        first, fields, _ = split(backend.take())
        self.assertEqual(first, b"GET / HTTP/1.1")
        backend.send(OK)
        return fields

    def nothing_left(self) -> None:
        """The connection is not counted anywhere."""
        self.assertEqual(self.listener.downstreams, set())
        self.assertEqual(self.connections.count, 0)


class ProxyProtocolTests(EntranceCase):
    """Headers of the PROXY protocol."""

    V1 = compose_v1("203.0.113.9", 4711, "198.51.100.1", 80)
    V2 = compose_v2("203.0.113.9", 4711, "198.51.100.1", 80, ())

    def setUp(self) -> None:
        super().setUp()
        self.terms(Terms(TRUSTED, proxy_protocol=True))

    def test_believed(self) -> None:
        """The address in the header is the client's, whatever the version and wherever the bytes are cut."""
        for header in (self.V1, self.V2):
            for cut in range(len(header) + 1):
                client = self.client()
                client.send(*[piece for piece in (header[:cut], header[cut:] + GET) if piece])
                fields = self.served(client)
                self.assertEqual(fields[b"x-forwarded-for"], b"203.0.113.9")
                self.assertEqual(client.take(), OK)
                client.reset()
        self.assertEqual({exchange.client for exchange in self.log}, {"203.0.113.9"})

    def test_byte_by_byte(self) -> None:
        """A header that dribbles is the same header."""
        client = self.client()
        client.send(*[bytes((byte,)) for byte in self.V2 + GET])
        self.assertEqual(self.served(client)[b"x-forwarded-for"], b"203.0.113.9")

    def test_local(self) -> None:
        """Where the proxy speaks for itself, its own address counts."""
        client = self.client()
        client.send(b"PROXY UNKNOWN\r\n" + GET)
        self.served(client)
        self.assertEqual([exchange.client for exchange in self.log], ["192.0.2.1"])

    def test_not_there(self) -> None:
        """Whoever should send one and does not, or sends rubbish, is closed at once and is nobody's client."""
        for sent in (
            GET,
            b"\x16\x03\x01\x02\x00",
            b"PROXY TCP4 a b c d\r\n",
            b"\r\n\r\n\0\r\nQUIT\nX",
            b"PROXY " + b"x" * 200,
        ):
            client = self.client()
            client.send(sent)
            self.assertEqual(client.fate, "reset", sent)
            self.assertEqual(client.take(), b"")
            self.nothing_left()
        self.assertEqual(self.listener.refusals, {"proxy_protocol": 5})
        self.assertEqual(self.network.dialled, [])

    def test_stranger(self) -> None:
        """Who is no trusted proxy is closed before it has said a word."""
        client = self.client("203.0.113.1")
        self.loop.settle()
        self.assertEqual(client.fate, "reset")
        self.nothing_left()
        self.assertEqual(self.listener.refusals, {"proxy_protocol": 1})

    def test_silent(self) -> None:
        """A header that does not come in time is none."""
        client = self.client()
        client.send(self.V1[:5])
        self.loop.advance(self.listener.timeouts.header + 1)
        self.loop.settle()
        self.assertEqual(client.fate, "reset")
        self.assertEqual(self.listener.refusals, {"timeout": 1})
        self.nothing_left()

    def test_vanished(self) -> None:
        """A peer that leaves in the middle of its header leaves nothing behind."""
        for cut in range(len(self.V1)):
            for leave in ("close", "reset"):
                client = self.client()
                client.send(self.V1[:cut] or b"P")
                getattr(client, leave)()
                self.nothing_left()

    def test_claims(self) -> None:
        """Fields about the client are believed if the header names a trusted proxy, and only then."""
        for source, expected in (("192.0.2.7", b"9.9.9.9, 192.0.2.7"), ("203.0.113.9", b"203.0.113.9")):
            client = self.client()
            request = b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
            client.send(compose_v1(source, 1, "198.51.100.1", 80) + request)
            self.assertEqual(self.served(client)[b"x-forwarded-for"], expected)
            client.reset()

    def test_told(self) -> None:
        """What the fields of version 2 say is kept for the log."""
        client = self.client()
        client.send(compose_v2("203.0.113.9", 1, "198.51.100.1", 80, ((0x05, b"abc"),)) + GET)
        self.served(client)
        told = json.loads(b"{%b}" % self.log[0].peer.told[1:])
        self.assertEqual(told, {"proxy_protocol": {"unique_id": "616263"}})


class PrefaceTests(EntranceCase):
    """HTTP/2 by prior knowledge."""

    def setUp(self) -> None:
        super().setUp()
        self.terms(Terms(http2=True))

    def test_chosen(self) -> None:
        """The first bytes decide, however they are cut."""
        settings = b"\0\0\0\4\0\0\0\0\0"
        for cut in range(1, len(PREFACE)):
            client = self.client()
            client.send(PREFACE[:cut], PREFACE[cut:] + settings)
            self.assertEqual(client.take()[3:4], b"\4", "SETTINGS come first")
            client.reset()
            self.nothing_left()

    def test_http1(self) -> None:
        """Whoever begins otherwise speaks HTTP/1.1, also with a method that begins alike."""
        for request in (GET, GET.replace(b"GET", b"PRINT"), GET.replace(b"GET", b"PRI")):
            client = self.client()
            client.send(request[:1], request[1:3], request[3:])
            backend = self.network.ends[-1] if self.network.ends else self.accept()
            self.assertTrue(backend.take().startswith(request.split(b"\r\n")[0]))
            backend.send(OK)
            self.assertEqual(client.take(), OK)
            client.reset()

    def test_neither(self) -> None:
        """What is neither a preface nor a request line ends with a GOAWAY, since nobody of HTTP/1.1 sends that."""
        client = self.client()
        client.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
        self.assertEqual(client.take()[-17:-13], b"\0\0\x08\x07")
        client.reset()
        self.nothing_left()

    def test_silent(self) -> None:
        """Half a preface is not waited for for ever."""
        client = self.client()
        client.send(PREFACE[:10])
        self.loop.advance(self.listener.timeouts.header + 1)
        self.loop.settle()
        self.assertEqual(client.fate, "reset")
        self.nothing_left()


class Secure:
    """A client of TLS at the test's end of a connection."""

    def __init__(self, end: End, context: ssl.SSLContext, name: str = "shop.example") -> None:
        self.end = end
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._in, self._out, server_hostname=name)

    def shake(self) -> bool:
        """The handshake; whether it is over."""
        for _ in range(4):
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                self._exchange()
            else:
                self._exchange()
                return True
        return False

    def _exchange(self) -> None:
        data = self._out.read()
        if data:
            self.end.send(data)
        self._in.write(self.end.take())

    def send(self, data: bytes) -> None:
        """Send."""
        self.object.write(data)
        self._exchange()

    def take(self) -> bytes:
        """What has come."""
        self._exchange()
        try:
            return self.object.read(1 << 20)
        except ssl.SSLWantReadError:
            return b""


@cache
def authority() -> Authority:
    """One for all tests: keys take time."""
    return Authority()


class TlsTests(EntranceCase):
    """TLS on a listener."""

    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.authority = authority()
        self.path = self.authority.issue(["shop.example"]).write(folder.name)
        self.context = ssl.create_default_context(cadata=self.authority.cert_pem.decode())
        self.terms(self.secure())

    def secure(
        self, http2: bool = False, proxy_protocol: bool = False, handshakes: int = 1000, hsts: bytes = b""
    ) -> Terms:
        """Terms with TLS."""
        tls = ServerTls(model.Tls(certificates=(self.path,)), ("h2", "http/1.1") if http2 else ("http/1.1",), b"s" * 32)
        return Terms(TRUSTED, tls, http2, proxy_protocol, hsts=hsts, handshakes=handshakes)

    def test_served(self) -> None:
        """A request goes through, and the backend hears that it came by HTTPS."""
        client = Secure(self.client("203.0.113.5"), self.context)
        self.assertTrue(client.shake())
        client.send(GET)
        fields = self.served(client.end)
        self.assertEqual(fields[b"x-forwarded-proto"], b"https")
        self.assertEqual(fields[b"x-forwarded-for"], b"203.0.113.5")
        self.assertEqual(client.take(), OK)
        told = json.loads(b"{%b}" % self.log[0].peer.told[1:])
        self.assertEqual((told["tls"], told["sni"]), ("TLSv1.3", "shop.example"))

    def test_after_proxy_protocol(self) -> None:
        """The header comes first, then TLS; also in one read."""
        self.terms(self.secure(proxy_protocol=True))
        end = self.client()
        client = Secure(end, self.context)
        end.socket.incoming.append(compose_v1("203.0.113.9", 4711, "198.51.100.1", 443))
        self.assertTrue(client.shake())
        client.send(GET)
        self.assertEqual(self.served(end)[b"x-forwarded-for"], b"203.0.113.9")
        self.assertEqual(client.take(), OK)

    def test_chosen(self) -> None:
        """HTTP/2 is spoken with whom it was agreed with, HTTP/1.1 with everybody else."""
        self.terms(self.secure(http2=True))
        for offered, first in ((["h2", "http/1.1"], b"\0\0"), (["http/1.1"], b""), ([], b"")):
            context = ssl.create_default_context(cadata=self.authority.cert_pem.decode())
            if offered:
                context.set_alpn_protocols(offered)
            client = Secure(self.client(), context)
            self.assertTrue(client.shake())
            self.assertEqual(client.take()[:2], first, offered)
            client.end.reset()
        self.nothing_left()

    def test_hsts(self) -> None:
        """Strict-Transport-Security is added to answers of backends and to our own, but not to a backend's own."""
        line = b"Strict-Transport-Security: max-age=60\r\n"
        self.terms(self.secure(hsts=line))
        client = Secure(self.client(), self.context)
        client.shake()
        client.send(GET)
        self.served(client.end)
        self.assertIn(line, client.take())
        client.send(GET)
        backend = self.network.ends[-1]
        backend.take()
        backend.send(OK.replace(b"Content-Length", b"strict-transport-security: max-age=1\r\nContent-Length"))
        answer = client.take()
        self.assertIn(b"strict-transport-security: max-age=1\r\n", answer)
        self.assertNotIn(line, answer)
        client.send(GET)
        backend.take()
        backend.send(b"rubbish\r\n\r\n")
        answer = client.take()
        self.assertIn(b" 502 ", answer)
        self.assertIn(line, answer)

    def test_rubbish(self) -> None:
        """Who speaks no TLS costs one connection."""
        for sent in (GET, b"\0" * 50, b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\x16\x03\x01\x00\x02\x01\x00"):
            client = self.client()
            client.send(sent)
            if client.fate == "open":
                client.reset()
            self.loop.settle()
            self.nothing_left()
        self.assertEqual(set(self.listener.refusals), {"handshake"})

    def test_stalled(self) -> None:
        """A handshake has its time."""
        client = self.client()
        client.send(b"\x16\x03\x01\x00\x05")
        self.loop.advance(self.listener.terms.handshake_timeout + 1)
        self.loop.settle()
        self.assertEqual(client.fate, "reset")
        self.assertEqual(self.listener.refusals, {"timeout": 1})
        self.nothing_left()

    def test_vanished(self) -> None:
        """Peers that leave in the middle of the handshake leave nothing behind."""
        hello = ssl.MemoryBIO()
        try:
            self.context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="shop.example").do_handshake()
        except ssl.SSLWantReadError:
            pass
        data = hello.read()
        for cut in (1, 5, 50, len(data) - 1, len(data)):
            for leave in ("close", "reset"):
                client = self.client()
                client.send(data[:cut])
                getattr(client, leave)()
                self.loop.settle()
                self.nothing_left()

    def test_crowded(self) -> None:
        """With too many handshakes under way nobody is let in until one is over."""
        self.terms(self.secure(handshakes=2))
        first, second = self.client(), self.client()
        self.assertFalse(self.door.open)
        second.reset()
        self.assertTrue(self.door.open)
        third = Secure(self.client(), self.context)
        self.assertFalse(self.door.open)
        self.assertTrue(third.shake())
        self.assertTrue(self.door.open)
        first.reset()

    def test_draining(self) -> None:
        """Who is still in its handshake when the listener drains is served once and then let go."""
        client = Secure(self.client(), self.context)
        self.listener.drain()
        self.assertTrue(client.shake())
        client.send(GET)
        self.served(client.end)
        self.assertIn(b"Connection: close", client.take())

    def test_aborted(self) -> None:
        """The end of the process ends handshakes too."""
        client = self.client()
        self.listener.abort()
        self.loop.settle()
        self.assertEqual(client.fate, "reset")
        self.nothing_left()


class RedirectTests(EntranceCase):
    """To HTTPS."""

    def location(self, request: bytes, redirect: int = 443) -> tuple[bytes, bytes | None]:
        """The first line of the answer, and where it leads."""
        self.terms(Terms(redirect=redirect))
        client = self.client()
        client.send(request)
        first, fields, _ = split(client.take())
        client.reset()
        self.assertEqual(self.network.dialled, [])
        return first, fields.get(b"location")

    def test_everything(self) -> None:
        """The same host and target; methods other than GET and HEAD keep theirs."""
        rows = (
            (
                b"GET /a/../b?c=d HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n",
                443,
                b"301",
                b"https://shop.example/a/../b?c=d",
            ),
            (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 8443, b"301", b"https://a:8443/"),
            (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 443, b"308", b"https://a/x"),
            (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 443, b"308", b"https://a/"),
            (b"GET http://b/y HTTP/1.1\r\nHost: b\r\n\r\n", 443, b"301", b"https://b/y"),
            (b"GET //evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n", 443, b"301", b"https://a//evil.example/"),
            (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 443, b"301", b"https://[::1]/"),
        )
        for request, port, status, location in rows:
            first, found = self.location(request, port)
            self.assertEqual((first.split()[1], found), (status, location))

    def test_nowhere(self) -> None:
        """Without a host there is nowhere to go."""
        first, found = self.location(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual((first.split()[1], found), (b"400", None))
