"""The proxy as a resource of a real twisted.web site, with a real backend, over real sockets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Literal
from urllib.request import urlopen

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data

from lemmytx.addresses import parse_url
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.cluster.sticky import Codec, Cookie, Sticky
from lemmytx.cluster.way import Way
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost

EXAMPLE = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "examples", "mounted_in_twisted_web.py")
LARGE = bytes(range(256)) * 16_000  # 4 MB


class Answers(Resource):
    """The backend: what it does is said by the path."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.asked: Deferred[Any] = Deferred()

    def render(self, request: Any) -> Any:
        """Answer, or wait for the test to do it."""
        self.requests.append(request)
        name = request.path.rsplit(b"/", 1)[-1]
        if name == b"echo":
            body = request.content.read()
            request.setHeader(b"x-method", request.method)
            request.setHeader(b"x-length", str(len(body)).encode())
            return body or b"nothing"
        if name == b"cookies":
            request.responseHeaders.setRawHeaders(b"server", [b"backend/1"])
            request.responseHeaders.setRawHeaders(b"date", [b"Sat, 21 Nov 2026 00:00:00 GMT"])
            request.defaultContentType = None
            request.responseHeaders.addRawHeader(b"set-cookie", b"a=1")
            request.responseHeaders.addRawHeader(b"set-cookie", b"b=2")
            return b"two"
        if name == b"large":
            request.write(LARGE)
            request.finish()
        elif name == b"missing":
            request.setResponseCode(404, b"Not Here")
            return b"not here"
        elif name == b"cut":
            request.setHeader(b"content-length", b"100")
            request.write(b"half")
            request.transport.loseConnection()
        elif name == b"wait":
            request.notifyFinish().addErrback(lambda _: None)
            self.asked.callback(request)
        return NOT_DONE_YET


class Asking(Protocol):
    """A client that keeps what comes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.over: Deferred[None] = Deferred()
        self._wanted: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for entry in list(self._wanted):
            if entry[0]():
                self._wanted.remove(entry)
                entry[1].callback(None)

    def when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when the condition holds."""
        wanted: Deferred[None] = Deferred()
        if condition():
            wanted.callback(None)
        else:
            self._wanted.append((condition, wanted))
        return wanted

    def connectionLost(self, reason: Any = None) -> None:
        self.over.callback(None)


def turn() -> Deferred[None]:
    """Fires in a later turn of the reactor."""
    turned: Deferred[None] = Deferred()
    reactor.callLater(0.001, turned.callback, None)  # type: ignore[attr-defined]  # the installed reactor
    return turned


class MountedTests(TestCase):
    """A site with the proxy below /app, and one with nothing of its own behind it."""

    timeout = 20

    def setUp(self) -> None:
        self.answers = Answers()
        self.doors: list[Any] = []
        self.back = self.listen(Site(self.answers))
        self.log: list[Exchange] = []
        location = parse_url(f"http://127.0.0.1:{self.back.getHost().port}")
        self.backend = Backend("app", location.url, location, Network(reactor), Passive(0), Pool())
        self.backend.addresses = (location.host,)
        self.cluster = Cluster("app", [self.backend], LeastConnections(), Rules(), time.monotonic)
        self.ticker = Ticker(reactor, time.monotonic)  # type: ignore[arg-type]  # the installed reactor
        self.resource = ReverseProxyResource(
            Router([Vhost("shop", ("*",), [Route("/app/*", self.cluster)])]), [self.cluster], self.ticker
        )
        self.resource.record = self.log.append
        root = Resource()
        root.putChild(b"", Data(b"our own", "text/plain"))
        root.putChild(b"app", self.resource)
        root.putChild(b"else", self.resource)
        self.front = self.listen(Site(root))
        self.clients: list[Asking] = []

    def listen(self, site: Site) -> Any:
        """A port on loopback, stopped after the test, that knows its connections."""
        door = WrappingFactory(site)
        self.doors.append(door)
        port = reactor.listenTCP(0, door, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return port

    async def connect(self) -> Asking:
        """A client of the front."""
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", self.front.getHost().port)
        client = await endpoint.connect(Factory.forProtocol(Asking))
        self.clients.append(client)
        return client  # type: ignore[no-any-return]  # Twisted's annotation

    async def ask(self, path: bytes, method: bytes = b"GET", fields: bytes = b"", body: bytes = b"") -> bytes:
        """The whole answer to one request."""
        client = await self.connect()
        if body:
            fields += b"Content-Length: %d\r\n" % len(body)
        client.transport.write(
            b"%b %b HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n%b\r\n%b" % (method, path, fields, body)
        )
        await client.over
        return bytes(client.data)

    async def tearDown(self) -> None:
        for client in self.clients:
            if not client.over.called:
                client.transport.abortConnection()  # type: ignore[union-attr]  # it is connected
                await client.over
        for _ in range(2000):
            if not self.resource.exchanges:
                break
            await turn()
        self.assertEqual((self.resource.exchanges, self.backend.active), (0, 0))
        self.backend.close_idle()
        while any(door.protocols for door in self.doors):
            await turn()
        for _ in range(2000):
            if not len(self.ticker):
                break
            await turn()
        self.assertEqual(len(self.ticker), 0)

    async def test_get(self) -> None:
        """A request below the mount goes to the backend with its whole path; the site's own pages stay."""
        head, _, body = (await self.ask(b"/app/x/echo?q=1&r=%2F")).partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual(body, b"nothing")
        request = self.answers.requests[0]
        self.assertEqual(request.uri, b"/app/x/echo?q=1&r=%2F")
        told = {name.lower(): value for name, value in request.requestHeaders.getAllRawHeaders()}
        self.assertEqual(told[b"host"], [b"shop.example"])
        self.assertEqual(told[b"x-forwarded-for"], [b"127.0.0.1"])
        self.assertTrue((await self.ask(b"/")).endswith(b"our own"))
        self.assertEqual([(e.status, e.termination) for e in self.log], [(200, "ok")])

    async def test_introduced(self) -> None:
        """A backend that wants a PROXY protocol header gets one with the client of the site; Twisted reads it."""
        site = Site(self.answers)
        back = await serverFromString(reactor, "haproxy:tcp:0:interface=127.0.0.1").listen(site)
        self.addCleanup(back.stopListening)
        self.backend.location = parse_url(f"http://127.0.0.1:{back.getHost().port}")
        self.backend.pool = Pool(0)
        versions: list[Literal["v1", "v2"]] = ["v1", "v2"]
        for version in versions:
            self.backend.way = Way(proxy=version)
            asking = await self.connect()
            source = asking.transport.getHost()  # type: ignore[union-attr]  # it is connected
            asking.transport.write(  # type: ignore[union-attr]
                b"GET /app/echo HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"
            )
            await asking.over
            request = self.answers.requests[-1]
            client, own = request.getClientAddress(), request.getHost()
            self.assertEqual((client.host, client.port), (source.host, source.port))
            self.assertEqual((own.host, own.port), ("127.0.0.1", self.front.getHost().port))
        while self.backend.active:
            await turn()

    async def test_fields(self) -> None:
        """Duplicate fields survive, and the site does not add its own Server and Date to the backend's."""
        head = (await self.ask(b"/app/cookies")).partition(b"\r\n\r\n")[0].lower()
        self.assertIn(b"\r\nset-cookie: a=1\r\n", head + b"\r\n")
        self.assertIn(b"\r\nset-cookie: b=2\r\n", head + b"\r\n")
        self.assertNotIn(b"\r\ncontent-type:", head)
        self.assertEqual(head.count(b"\r\ndate:"), 1)
        self.assertEqual(head.count(b"\r\nserver:"), 1)
        self.assertIn(b"server: backend/1", head)
        self.assertIn(b"21 nov 2026 00:00:00", head)

    async def test_sticky(self) -> None:
        """A client of the site is bound by a cookie that the backend does not see."""
        self.cluster.rules.sticky = Sticky(Codec([b"0123456789abcdef"], "app"), Cookie(b"lemmy"))
        head = (await self.ask(b"/app/echo")).partition(b"\r\n\r\n")[0]
        found = re.search(rb"(?i)\r\nset-cookie: (lemmy=[A-Za-z0-9_-]{36}); Path=/; HttpOnly; SameSite=Lax\r\n", head)
        assert found is not None, head
        again = await self.ask(b"/app/echo", fields=b"Cookie: a=1; %b\r\n" % found[1])
        self.assertNotIn(b"set-cookie", again.lower())
        self.assertEqual([b"a=1"], self.answers.requests[-1].requestHeaders.getRawHeaders(b"cookie"))

    async def test_post(self) -> None:
        """A body goes out whole, short and long (twisted.web keeps long ones in a file), with a length or in chunks."""
        for body in (b"short", LARGE):
            answer = await self.ask(b"/app/echo", b"POST", body=body)
            head, _, echoed = answer.partition(b"\r\n\r\n")
            self.assertIn(b"x-method: post", head.lower())
            self.assertTrue(echoed == body)
        answer = await self.ask(b"/app/echo", b"POST", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
        self.assertTrue(answer.endswith(b"hello"))
        self.assertEqual([e.received for e in self.log], [5, len(LARGE), 5])

    async def test_emptyPost(self) -> None:
        """A body of no bytes is one."""
        answer = await self.ask(b"/app/echo", b"POST", b"Content-Length: 0\r\n")
        self.assertIn(b"x-length: 0", answer.lower())
        self.assertEqual(self.answers.requests[0].requestHeaders.getRawHeaders(b"content-length"), [b"0"])

    async def test_head(self) -> None:
        """HEAD has the fields and no body, from the backend and from us."""
        head, _, body = (await self.ask(b"/app/echo", b"HEAD")).partition(b"\r\n\r\n")
        self.assertIn(b"x-method: head", head.lower())
        self.assertEqual(body, b"")
        head, _, body = (await self.ask(b"/else/echo", b"HEAD")).partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 404 "))
        self.assertEqual(body, b"")

    async def test_large(self) -> None:
        """A long answer streams, and a client that does not read stops the backend."""
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(b"GET /app/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while not self.answers.requests:
            await turn()
        seen = -1
        while not self.log and seen != (seen := sum(e.sent for e in self.running())):
            for _ in range(20):
                await turn()
        client.transport.resumeProducing()
        await client.over
        self.assertIn(LARGE[:1000], client.data)
        self.assertEqual([(e.status, e.termination, e.sent) for e in self.log], [(200, "ok", len(LARGE))])

    def running(self) -> list[Exchange]:
        """The exchanges under way, found where they must be."""
        import gc

        return [e for e in gc.get_objects() if isinstance(e, Exchange) and not e.termination]

    async def test_errors(self) -> None:
        """The backend's errors pass through; no route and no backend are errors of ours."""
        answer = await self.ask(b"/app/missing")
        self.assertTrue(answer.startswith(b"HTTP/1.1 404 Not Here\r\n"))
        self.assertTrue(answer.endswith(b"not here"))
        self.assertTrue((await self.ask(b"/else/echo")).startswith(b"HTTP/1.1 404 Not Found\r\n"))
        await self.back.stopListening()
        self.backend.close_idle()
        answer = await self.ask(b"/app/echo", fields=b"Accept: application/json\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n"))
        self.assertIn(b'"status": 502', answer)
        self.assertEqual([e.status for e in self.log], [404, 404, 502])

    async def test_cutShort(self) -> None:
        """An answer that breaks off is cut for the client too."""
        answer = await self.ask(b"/app/cut")
        # A reset may take away what had arrived; what is left is no whole answer.
        self.assertIn(answer.partition(b"\r\n\r\n")[2], (b"", b"half"))
        self.assertEqual([(e.status, e.termination) for e in self.log], [(200, "backend_gone")])

    async def test_clientLeaves(self) -> None:
        """A client that leaves takes the upstream along: 499."""
        client = await self.connect()
        client.transport.write(b"GET /app/wait HTTP/1.1\r\nHost: a\r\n\r\n")
        request = await self.answers.asked
        client.transport.abortConnection()
        await client.over
        while request.channel is not None:
            await turn()
        self.assertEqual([(e.status, e.termination) for e in self.log], [(499, "client_gone")])

    async def test_keepAlive(self) -> None:
        """The client's connection serves several requests, pipelined ones too."""
        client = await self.connect()
        client.transport.write(b"GET /app/echo HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        await client.when(lambda: client.data.count(b"nothing") == 3)
        self.assertEqual(client.data.count(b"HTTP/1.1 200 OK\r\n"), 3)


class ExampleTests(SynchronousTestCase):
    """The example in the documentation."""

    def test_asWritten(self) -> None:
        """It runs as it is written, and serves its own page and the backend's."""
        backend = subprocess.Popen(
            [sys.executable, "-c", BACKEND], stdout=subprocess.PIPE, text=True, cwd=os.path.dirname(EXAMPLE)
        )
        self.addCleanup(self.end, backend)
        assert backend.stdout is not None
        url = backend.stdout.readline().strip()
        environment = dict(os.environ, PYTHONPATH=os.path.join(os.path.dirname(__file__), "..", ".."))
        example = subprocess.Popen(
            [sys.executable, EXAMPLE, "0", url], stdout=subprocess.PIPE, text=True, env=environment
        )
        self.addCleanup(self.end, example)
        assert example.stdout is not None
        address = example.stdout.readline().strip()
        with urlopen(address, timeout=10) as answer:
            self.assertEqual(answer.read(), b"This page is our own.\n")
        with urlopen(address + "app/page", timeout=10) as answer:
            self.assertEqual(answer.read(), b"/app/page")

    def end(self, process: subprocess.Popen[str]) -> None:
        """End it and wait."""
        process.terminate()
        process.communicate(timeout=10)


BACKEND = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Paths(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())
    def log_message(self, *arguments):
        pass
server = HTTPServer(("127.0.0.1", 0), Paths)
print("http://127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
"""
