"""C{http} and C{tcp} checks of servers on real sockets: good, bad, slow, half, huge, and wrong."""

from __future__ import annotations

import errno
import json
import os
import ssl
import tempfile
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.checks.expectation import LONGEST, Expectation
from lemmytx.checks.http import HttpCheck
from lemmytx.checks.target import Target
from lemmytx.checks.tcp import TcpCheck
from lemmytx.cluster.health import Checkup
from lemmytx.cluster.way import Way
from lemmytx.interfaces import Unhealthy
from lemmytx.model import BackendTls
from lemmytx.net.tls.client import ClientTls
from tests.certificates import Authority
from tests.checks.rig import CheckCase, Peer, Server, reactor
from tests.wire.rig import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


def answer(body: bytes, status: int = 200, more: bytes = b"") -> bytes:
    """A whole answer."""
    return b"HTTP/1.1 %d Said\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(body), body)


class HttpTests(CheckCase):
    """L{HttpCheck}"""

    def server(self, data: bytes, close: bool = True) -> Server:
        """One that says this to every request."""
        return Server(self, lambda peer: peer.answers(data, close))

    async def judged(self, data: bytes, close: bool = True, timeout: float = 5.0, **options: Any) -> str:
        """What a check with these options says of a server that says this."""
        return await self.outcome(HttpCheck(**options), self.server(data, close).port, timeout=timeout)

    async def test_request(self) -> None:
        """What is asked for is what the options say, for the backend's own name, on a connection of its own."""
        server = self.server(OK)
        self.assertEqual("passed: it answered 200", await self.outcome(HttpCheck("/health?deep=1"), server.port))
        head = server.peers[0].received
        self.assertTrue(head.startswith(b"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1"), head)
        self.assertIn(b"\r\nConnection: close\r\n", head)
        self.assertIn(b"(health check)\r\n", head)
        check = HttpCheck("/x", "POST", "shop.example", {"user-agent": "me", "X-Probe": "1 2"})
        await self.outcome(check, server.port)
        head = server.peers[1].received
        self.assertTrue(head.startswith(b"POST /x HTTP/1.1\r\nHost: shop.example\r\n"), head)
        self.assertIn(b"\r\nuser-agent: me\r\nX-Probe: 1 2\r\n\r\n", head)
        self.assertIn(b"\r\nContent-Length: 0\r\n", head)
        self.assertNotIn(b"lemmytx", head)

    async def test_statuses(self) -> None:
        """2xx and 3xx are well unless something else is expected."""
        for status, expect, passes in (
            (200, "200-399", True), (302, "200-399", True), (404, "200-399", False), (500, "200-399", False),
            (404, 404, True), (200, 404, False), (204, [204, "300-302"], True), (301, [204, "300-302"], True),
        ):  # fmt: skip
            said = await self.judged(answer(b"" if status == 204 else b"x", status), expect=expect)
            self.assertEqual("passed" if passes else "failed", said.partition(":")[0], (status, expect))
            self.assertIn(str(status), said)

    async def test_head(self) -> None:
        """An answer to HEAD has no body, whatever length it tells."""
        self.assertEqual("passed: it answered 200", await self.judged(OK[:-2], close=False, method="HEAD"))

    async def test_body(self) -> None:
        """An expression has to be found in the body, over lines and in chunks."""
        self.assertTrue((await self.judged(answer(b"status: OK\n"), expect={"body": "OK$"})).startswith("passed"))
        self.assertEqual(
            "failed: '^fine$' is not found in its answer 'status: bad \ufffd??'",
            await self.judged(answer(b"status:\nbad \xff\x00\x1b"), expect={"body": "^fine$"}),
        )
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfin\r\n1\r\ne\r\n0\r\n\r\n"
        self.assertTrue((await self.judged(chunked, expect={"body": "^fine$"})).startswith("passed"))
        until_close = b"HTTP/1.0 200 OK\r\n\r\nfine"
        self.assertTrue((await self.judged(until_close, expect={"body": "^fine$"})).startswith("passed"))

    async def test_json(self) -> None:
        """The members that are expected have to be there with their values; others may be."""
        wanted = {"json": {"Result": True, "db": {"lag": 0}}}
        for body, said in (
            (b'{"Result": true, "db": {"lag": 0, "host": "x"}, "more": []}', "passed: it answered 200"),
            (b'{"Result": false, "db": {"lag": 0}}', "failed: Result of its answer is 'false', not true"),
            (b'{"Result": 1, "db": {"lag": 0}}', "failed: Result of its answer is '1', not true"),
            (b'{"Result": true, "db": {"lag": 7}}', "failed: db.lag of its answer is '7', not 0"),
            (b'{"Result": true}', "failed: db is not in its answer"),
            (b'{"Result": true, "db": 3}', "failed: db of its answer is no object"),
            (b"[1]", "failed: the JSON of its answer is no object"),
            (b"<html>", "failed: its answer is no JSON: '<html>'"),
            (b"[" * 50_000, None),
        ):
            found = await self.judged(answer(body), expect=wanted)
            if said is None:
                self.assertTrue(found.startswith("failed: its answer is no JSON"), found)
            else:
                self.assertEqual(said, found)

    async def test_halves(self) -> None:
        """An answer that ends before its end has failed, wherever it ends."""
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfin"
        for data, said in (
            (b"", "it closed the connection before it answered"),
            (b"HTTP/1.1 200 OK\r\nConte", "it closed the connection in the head of its answer"),
            (OK[:-1], "it closed the connection 1 bytes before the end of its answer"),
            (chunked, "it closed the connection in the middle of its answer"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "it closed the connection before it answered"),
        ):
            self.assertEqual(f"failed: {said}", await self.judged(data))

    async def test_hangs(self) -> None:
        """A server that says nothing, a part of a head, or a part of a body has failed at the timeout."""
        for data in (b"", b"HTTP/1.1 200", OK[:-1]):
            said = await self.judged(data, close=False, timeout=0.1)
            self.assertEqual("failed: no outcome within 0.1 s", said)

    async def test_malformed(self) -> None:
        """What is no HTTP has failed."""
        for data in (b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n", b"\0" * 1000,
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"):  # fmt: skip
            said = await self.judged(data)
            self.assertTrue(said.startswith("failed: its answer is malformed: "), said)

    async def test_longHead(self) -> None:
        """A head without an end is refused long before it is a burden."""
        said = await self.judged(b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 100_000)
        self.assertTrue(said.startswith("failed: its answer is malformed: "), said)

    async def test_interims(self) -> None:
        """Interim answers are passed over, and a server that sends nothing else has failed."""
        self.assertTrue((await self.judged(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + OK)).startswith("passed"))
        said = await self.judged(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        self.assertEqual("failed: it sends interim answers and no final one", said)
        self.assertIn("no final one", await self.judged(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))

    async def test_huge(self) -> None:
        """Of a huge body, or one without end, no more is read than is looked at."""
        begun = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nfine" + b"x" * LONGEST
        self.assertEqual("passed: it answered 200", await self.judged(begun, close=False))
        self.assertEqual("passed: it answered 200", await self.judged(begun, close=False, expect={"body": "^fine"}))
        self.assertIn("too long to be looked at", await self.judged(begun, close=False, expect={"json": {}}))
        endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"y" * 4096 + b"\r\n"
        endless += (b"1000\r\n" + b"z" * 4096 + b"\r\n") * 20
        self.assertEqual("passed: it answered 200", await self.judged(endless, close=False))

    async def test_flood(self) -> None:
        """A server that sends and sends is left alone by the end of the check."""
        server: Server

        def flood(peer: Any) -> None:
            if peer.received:
                peer.transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000)

        server = Server(self, flood)
        self.assertEqual("passed: it answered 200", await self.outcome(HttpCheck(), server.port))

    async def test_refused(self) -> None:
        """Nobody listens there."""
        said = await self.outcome(HttpCheck(), free_port())
        self.assertEqual("failed: no connection: Connection was refused by other side: 111: Connection refused", said)
        said = await self.outcome(HttpCheck(), "http+unix:///nonexistent/socket")
        self.assertTrue(said.startswith("failed: no connection: "), said)

    async def test_reset(self) -> None:
        """The connection is reset in the middle of things."""

        def script(peer: Any) -> None:
            if peer.received:
                peer.transport.abortConnection()

        said = await self.outcome(HttpCheck(), Server(self, script).port)
        self.assertTrue(said.startswith("failed: the connection is lost"), said)

    async def test_otherPort(self) -> None:
        """With a port of its own it is that one that is asked, by its name."""
        server = self.server(OK)
        self.assertTrue((await self.outcome(HttpCheck(), free_port(), port=server.port)).startswith("passed"))
        self.assertIn(b"Host: 127.0.0.1:%d\r\n" % server.port, server.peers[0].received)

    async def test_secondAddress(self) -> None:
        """A name with several addresses is well when one of them is, as it is for requests."""
        server = self.server(OK)
        backend = self.backend(f"http://127.0.0.1:{server.port}")
        backend.addresses = ("127.0.0.2", "127.0.0.1")
        target = Target("c", backend, Checkup(None), reactor.seconds)
        self.assertEqual("it answered 200", await HttpCheck().check(target))
        target.close(True)

    async def test_noSuchFamily(self) -> None:
        """An address that this machine cannot use is passed over; when there is no other, that is our own affair."""
        server = self.server(OK)
        backend = self.backend(f"http://127.0.0.1:{server.port}")
        network: Any = backend.network

        class NoIPv6:
            reactor = network.reactor

            def connectTCP(self, host: str, port: int, factory: Any, timeout: float) -> Any:
                if ":" in host:
                    raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
                return network.connectTCP(host, port, factory, timeout)

        backend.network = NoIPv6()  # type: ignore[assignment]  # as much of one as is needed
        backend.addresses = ("::1", "127.0.0.1")
        target = Target("c", backend, Checkup(None), reactor.seconds)
        self.assertEqual("it answered 200", await HttpCheck().check(target))
        target.close(True)
        backend.addresses = ("::1",)
        target = Target("c", backend, Checkup(None), reactor.seconds)
        with self.assertRaises(OSError):
            await HttpCheck().check(target)
        target.close(True)

    async def test_proxyHeader(self) -> None:
        """A backend that wants PROXY headers gets one that speaks of nobody; another port of it gets none."""
        for version, begins in (("v1", b"PROXY UNKNOWN\r\nGET "), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET ")):
            server = self.server(OK)
            way = Way(proxy=version)  # type: ignore[arg-type]  # they are the two
            await self.outcome(HttpCheck(), server.port, way)
            self.assertTrue(server.peers[0].received.startswith(begins), server.peers[0].received)
            await self.outcome(HttpCheck(), free_port(), way, port=server.port)
            self.assertTrue(server.peers[1].received.startswith(b"GET "), server.peers[1].received)

    async def test_unixSocket(self) -> None:
        """A backend on a unix socket is asked there."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            inner = self.server(OK)
            from twisted.internet.protocol import ServerFactory

            factory: Any = ServerFactory()
            factory.buildProtocol = lambda addr: Peer(inner)
            port = reactor.listenUNIX(path, factory)
            self.assertEqual("passed: it answered 200", await self.outcome(HttpCheck(), f"http+unix://{path}"))
            self.assertIn(b"Host: localhost\r\n", inner.peers[0].received)
            await port.stopListening()

    async def test_manyHang(self) -> None:
        """Backends that hang keep nobody else from being checked."""
        silent = Server(self, lambda peer: None)
        server = self.server(OK)
        waiting = [self.outcome(HttpCheck(), silent.port, timeout=0.5) for _ in range(50)]
        self.assertEqual("passed: it answered 200", await self.outcome(HttpCheck(), server.port, timeout=0.5))
        self.assertEqual([], [each for each in waiting if each.called])
        said = await gatherResults(waiting)
        self.assertEqual({"failed: no outcome within 0.5 s"}, set(said))


class TlsTests(CheckCase):
    """Checks of https backends."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.authority = Authority()
        issued = self.authority.issue(["localhost", "127.0.0.1"])
        certificate, key = issued.write_pair(self.folder)
        options = DefaultOpenSSLContextFactory(key, certificate)
        self.server = Server(self, lambda peer: peer.answers(OK), options)
        self.ca = self.authority.write(self.folder)

    def way(self, **settings: Any) -> Way:
        """TLS with these settings."""
        return Way("https", ClientTls(BackendTls(**settings), {"https"}))

    async def asked(self, way: Way, tls: Any = None) -> str:
        """What comes of a check."""
        return await self.outcome(
            HttpCheck(), f"https://127.0.0.1:{self.server.port}", way, tls=way.tls if tls is None else tls
        )

    async def test_good(self) -> None:
        """TLS is spoken as it is for requests."""
        self.assertEqual("passed: it answered 200", await self.asked(self.way(ca=self.ca)))

    async def test_untrusted(self) -> None:
        """A certificate that requests would not accept is a failure, with its reason."""
        other = Authority("Another").write(self.folder, "other.pem")
        said = await self.asked(self.way(ca=other))
        self.assertTrue(said.startswith("failed: TLS: its certificate"), said)

    async def test_pinned(self) -> None:
        """A key that is not the pinned one is a failure."""
        said = await self.asked(self.way(verify=False, pin=["A" * 43 + "="]))
        self.assertTrue(said.startswith("failed: TLS: its key is none of those that are pinned"), said)

    async def test_noTls(self) -> None:
        """A server that speaks none has failed."""
        plain = Server(self, lambda peer: peer.transport.write(b"HTTP/1.1 400 No\r\n\r\n"))
        way = self.way(ca=self.ca)
        said = await self.outcome(HttpCheck(), f"https://127.0.0.1:{plain.port}", way, tls=way.tls)
        self.assertTrue(said.startswith("failed: TLS: "), said)

    async def test_hangingHandshake(self) -> None:
        """A handshake that does not go on ends with the check."""
        silent = Server(self, lambda peer: None)
        way = self.way(ca=self.ca)
        said = await self.outcome(HttpCheck(), f"https://127.0.0.1:{silent.port}", way, timeout=0.1, tls=way.tls)
        self.assertEqual("failed: no outcome within 0.1 s", said)

    async def test_sessions(self) -> None:
        """The second check resumes the session of the first."""
        way = self.way(ca=self.ca)
        resumed = []
        established = way.tls.established

        def watch(tls: Any, *rest: Any) -> None:
            resumed.append(tls.resumed)
            established(tls, *rest)

        way.tls.established = watch
        for _ in range(2):
            await self.asked(way)
        self.assertEqual([False, True], resumed)
        self.assertTrue(ssl.HAS_TLSv1_3)


class TcpTests(CheckCase):
    """L{TcpCheck}"""

    async def test_connects(self) -> None:
        """A port that takes connections is well; what is said on them is nobody's business."""
        server = Server(self, lambda peer: None)
        self.assertEqual("passed: it takes connections", await self.outcome(TcpCheck(), server.port))
        self.assertTrue((await self.outcome(TcpCheck(), free_port())).startswith("failed: no connection"))

    async def test_sendAndExpect(self) -> None:
        """It says something and waits for what has to come, in however many pieces that does."""

        def script(peer: Any) -> None:
            if peer.received == b"PING\r\n":
                peer.transport.write(b"+PO")
                reactor.callLater(0.01, peer.transport.write, b"NG\r\n")

        server = Server(self, script)
        check = TcpCheck("PING\r\n", "+PONG")
        self.assertEqual("passed: it says what it should", await self.outcome(check, server.port))

    async def test_saysSomethingElse(self) -> None:
        """Anything else is a failure when it ends, and when it becomes too much."""

        def script(peer: Any) -> None:
            peer.transport.write(b"-ERR\x1b")
            peer.transport.loseConnection()

        said = await self.outcome(TcpCheck("", "+PONG"), Server(self, script).port)
        self.assertEqual("failed: it said '-ERR?' and closed the connection; '+PONG' is expected", said)
        babble = Server(self, lambda peer: peer.transport.write(b"x" * 100_000))
        said = await self.outcome(TcpCheck("", "+PONG"), babble.port)
        self.assertEqual("failed: '+PONG' is not in the 4096 bytes that it says first", said)

    async def test_silent(self) -> None:
        """A server that says nothing has failed at the timeout."""
        said = await self.outcome(TcpCheck("", "220 "), Server(self, lambda peer: None).port, timeout=0.1)
        self.assertEqual("failed: no outcome within 0.1 s", said)


class OptionTests(SynchronousTestCase):
    """Options that do not fit."""

    def test_http(self) -> None:
        """Each is refused with what was found and what to write."""
        for options, text in (
            ({"path": "health"}, "path: found 'health'; write a path as it is sent"),
            ({"path": "/a b"}, "path: found '/a b'"),
            ({"path": "/\r\nX: y"}, "path: found"),
            ({"method": "G T"}, "method: found 'G T'"),
            ({"method": "CONNECT"}, "method: found 'CONNECT'"),
            ({"host": "a\r\nb"}, "host: found"),
            ({"headers": {"Host": "a"}}, "headers: found 'Host'; write it as 'host'"),
            ({"headers": {"Content-Length": "1"}}, "headers: found 'Content-Length'; it cannot be sent"),
            ({"headers": {"X": "a\nb"}}, "headers.X: found"),
            ({"expect": 99}, "expect: found 99"),
            ({"expect": True}, "expect: found True"),
            ({"expect": "300-200"}, "expect: found '300-200'"),
            ({"expect": []}, "expect: found no status"),
            ({"expect": {"bdy": "x"}}, "expect: found 'bdy'; there are status, body and json"),
            ({"expect": {"body": 3}}, "expect.body: found 3"),
            ({"expect": {"body": "("}}, "expect.body: '(' is not a regular expression"),
            ({"method": "HEAD", "expect": {"body": "x"}}, "expect: an answer to HEAD has no body"),
        ):
            error = self.assertRaises(ValueError, HttpCheck, **options)
            self.assertTrue(str(error).startswith(text), (str(error), text))

    def test_jsonValues(self) -> None:
        """Values are compared as JSON has them: lists by all of their members, null as null."""
        for wanted, found, fits in (
            ([1, {"a": 1}], [1, {"a": 1, "b": 2}], True), ([1], [1, 2], False), ([1], [2], False),
            (None, None, True), (None, 0, False), (0, False, False), (1.0, 1, True),
            ("a", "a", True), ("a", "b", False),
            ({}, {"a": 1}, True),
        ):  # fmt: skip
            expectation = Expectation({"json": wanted})
            try:
                expectation.judge_body(json.dumps(found).encode(), True)
            except Unhealthy:
                self.assertFalse(fits, (wanted, found))
            else:
                self.assertTrue(fits, (wanted, found))
