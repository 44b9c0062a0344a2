"""
A proxy process in front of servers that speak HTTP/2.
"""

from __future__ import annotations

import os
import signal
import threading

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.process.http2_backend import Http2Backend, Stream
from tests.process.rig import ANY, Lemmy, configuration, until
from tests.process.test_websocket import forget_peak, memory
from tests.wire.sockets import Backend as Http1Backend
from tests.wire.sockets import Client, Loop

GET = b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n"
MEGABYTE = 1 << 20


class BackendTests(SynchronousTestCase):
    """Clients of HTTP/1.1, and a backend that does what the test says."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.backend = Http2Backend(self.loop)
        self.addCleanup(lambda: self.backend.close())

    def starts(self, **settings: object) -> Lemmy:
        """A proxy in front of the backend."""
        return Lemmy(self, configuration(self.backend.url, **settings)).ready()

    def client(self, lemmy: Lemmy, data: bytes) -> Client:
        """A client that has sent something."""
        made = Client(self.loop, lemmy.port)
        self.addCleanup(made.close)
        made.write(data)
        return made

    def until(self, condition: object, seconds: float = 20.0) -> None:
        """Waits for what must happen."""
        self.assertTrue(self.loop.until(condition, seconds, 0.02))  # type: ignore[arg-type]  # called, as any other

    def answered(self, client: Client, status: int = 200) -> bytes:
        """Waits for the client's next answer: its body."""
        self.until(lambda: client.answers or client.ended)
        self.assertEqual([status], [answer.status for answer in client.answers], client.received[:1000])
        return bytes(client.answers.pop().body)

    def test_many(self) -> None:
        """A hundred clients at once share one connection, and each gets its own answer."""
        lemmy = self.starts()
        clients = [self.client(lemmy, GET % number) for number in range(100)]
        for number, client in enumerate(clients):
            self.assertEqual(self.answered(client), b"/%d 0" % number)
        self.assertEqual(len(self.backend.sides), 1)
        stats = lemmy.stats()
        self.assertEqual(stats["upstreams"], {"active": 0, "idle": 1})

    def test_upload(self) -> None:
        """A long upload arrives as it was, in bounded memory, however slowly the backend takes it."""
        lemmy = self.starts()
        self.answered(self.client(lemmy, GET % 1))
        forget_peak(lemmy)
        before = memory(lemmy, "VmRSS")
        body = os.urandom(MEGABYTE) * 20
        head = b"POST /in HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(body)
        client = self.client(lemmy, head + body)
        self.assertEqual(self.answered(client), b"/in %d" % len(body))
        self.assertTrue(self.backend.requests[-1].body == body)
        self.assertLess(memory(lemmy, "VmHWM") - before, 8 * MEGABYTE)

    def test_download(self) -> None:
        """A long answer arrives as it was, in bounded memory, and its slow reader stops nobody else."""
        body = os.urandom(MEGABYTE) * 20

        def script(stream: Stream) -> None:
            stream.respond(200, body if stream.fields[b":path"] == b"/0" else b"small")

        self.backend.script = script
        lemmy = self.starts()
        self.answered(self.client(lemmy, GET % 1))
        forget_peak(lemmy)
        before = memory(lemmy, "VmRSS")
        slow = self.client(lemmy, GET % 0)
        self.until(lambda: len(self.backend.requests) == 2)
        # It reads nothing while others are served.
        self.loop.selector.unregister(slow.sock)
        for _ in range(20):
            self.assertEqual(self.answered(self.client(lemmy, GET % 1)), b"small")
        self.loop.selector.register(slow.sock, 1, slow._ready)
        self.assertTrue(self.answered(slow) == body)
        self.assertEqual(len(self.backend.sides), 1)
        self.assertLess(memory(lemmy, "VmHWM") - before, 8 * MEGABYTE)

    def test_restart(self) -> None:
        """A backend that is gone and comes back: requests in between get 502, those after it are served."""
        lemmy = self.starts()
        self.assertEqual(self.answered(self.client(lemmy, GET % 1)), b"/1 0")
        port = self.backend.port
        self.backend.close()
        self.answered(self.client(lemmy, GET % 2), 502)
        self.backend = Http2Backend(self.loop, port)
        self.assertEqual(self.answered(self.client(lemmy, GET % 3)), b"/3 0")

    def test_clientLeaves(self) -> None:
        """A client that leaves has its stream cancelled, and nothing else."""
        self.backend.script = lambda stream: None
        lemmy = self.starts()
        client = self.client(lemmy, GET % 1)
        self.until(lambda: self.backend.requests)
        client.reset()
        self.until(lambda: self.backend.requests[0].reset == 8)
        self.backend.script = lambda stream: stream.respond(200, b"fine")
        self.assertEqual(self.answered(self.client(lemmy, GET % 2)), b"fine")
        self.assertEqual(len(self.backend.sides), 1)

    def test_stop(self) -> None:
        """SIGTERM: what is under way comes to its end, and the backend hears that the connection ends."""
        self.backend.script = lambda stream: None
        lemmy = self.starts()
        client = self.client(lemmy, GET % 1)
        self.until(lambda: self.backend.requests)
        lemmy.signal(signal.SIGTERM)
        lemmy.says("under way")
        self.backend.requests[0].respond(200, b"late")
        self.assertEqual(self.answered(client), b"late")
        self.until(lambda: self.backend.sides[0].ended and lemmy.process.poll() is not None)
        self.assertEqual((self.backend.sides[0].gone_away, lemmy.ended()), (0, 0))
        self.assertNotIn("Traceback", lemmy.output())

    def test_reload(self) -> None:
        """A backend that a reload removes: what is under way comes to its end, then the connection does."""
        self.backend.script = lambda stream: None
        lemmy = self.starts()
        client = self.client(lemmy, GET % 1)
        self.until(lambda: self.backend.requests)
        other = Http2Backend(self.loop)
        self.addCleanup(other.close)
        lemmy.reload(configuration(other.url))
        self.assertEqual(self.answered(self.client(lemmy, GET % 2)), b"/2 0")
        self.assertEqual((len(other.requests), self.backend.sides[0].ended), (1, ""))
        self.backend.requests[0].respond(200, b"late")
        self.assertEqual(self.answered(client), b"late")
        self.until(lambda: self.backend.sides[0].ended)

    def test_anotherProtocol(self) -> None:
        """A server of HTTP/1.1 behind an h2c URL: 502, and the log says what is wrong."""
        wrong = Http1Backend(self.loop)
        self.addCleanup(wrong.close)
        lemmy = Lemmy(
            self,
            configuration(f"h2c://127.0.0.1:{wrong.port}", access_log={"path": "access", "format": "json"}),
        ).ready()
        self.answered(self.client(lemmy, GET % 1), 502)
        self.assertEqual(wrong.requests, [])
        path = os.path.join(lemmy.folder, "access")
        self.until(lambda: os.path.exists(path) and os.path.getsize(path))
        with open(path) as file:
            self.assertIn("HTTP/2", file.read())


class WebSocketTests(SynchronousTestCase):
    """WebSockets over HTTP/2 between two proxies (RFC 8441), from and to what others use."""

    def test_chain(self) -> None:
        """Messages of all sizes come back as they were, and so does the code of the end."""

        def echo(connection: ServerConnection) -> None:
            try:
                for message in connection:
                    connection.send(message)
            except ConnectionClosed as closed:
                codes.append(closed.rcvd and closed.rcvd.code)

        codes: list[int | None] = []
        server = serve(echo, "127.0.0.1", 0, max_size=None)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        inner = configuration(f"http://127.0.0.1:{server.socket.getsockname()[1]}")
        inner["listeners"] = [{"endpoint": ANY, "http2": True}]
        back = Lemmy(self, inner).ready()
        front = Lemmy(self, configuration(f"h2c://127.0.0.1:{back.port}")).ready()
        client = connect(f"ws://127.0.0.1:{front.port}/", proxy=None, max_size=None)
        self.addCleanup(client.close)
        for message in ("hello", b"x" * 100_000, os.urandom(4_000_000)):
            client.send(message)
            self.assertTrue(client.recv(20) == message)
        client.close(4001, "enough")
        self.assertEqual(client.close_code, 4001)
        self.assertTrue(until(lambda: codes == [4001]), codes)
        for lemmy in (front, back):
            self.assertEqual(lemmy.stats()["exchanges"], 0)
            self.assertEqual(lemmy.stop(), 0)
            self.assertNotIn("Traceback", lemmy.output())
