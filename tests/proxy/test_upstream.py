"""The backend's side of the data path: responses good and bad, tunnels, the pool."""

from __future__ import annotations

from lemmytx.cluster.backend import Pool
from lemmytx.model import Timeouts
from tests.proxy.rig import GET, OK, End, ProxyCase, post, split

BAD = OK.replace(b"200 OK", b"503 Service Unavailable")


class ResponseTests(ProxyCase):
    """Responses that go wrong."""

    def test_malformed(self) -> None:
        """What is no response is 502; that upstream is closed."""
        for junk in (b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            backend.send(junk)
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
            self.assertEqual((backend.fate, self.ended), ("reset", (502, "backend_malformed")))
            self.log.clear()
        self.assertEqual(self.backend.failures, {"malformed": 2})

    def test_malformedBody(self) -> None:
        """Chunks that break after the response has begun: the client is cut; in the first read: 502."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        client, backend = self.idle()
        client.send(GET)
        backend.send(head + b"3\r\nabc\r\n", b"zz\r\n")
        self.assertEqual((client.fate, backend.fate), ("reset", "reset"))
        self.assertEqual(self.ended, (200, "backend_malformed"))
        client = self.client()
        client.send(GET)
        self.accept().send(head + b"zz\r\n")
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")

    def test_cutShort(self) -> None:
        """A response that ends before its end: the client is cut so that it cannot take the part for the whole."""
        for head in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            for how in ("close", "reset"):
                client = self.client()
                client.send(GET)
                backend = self.accept()
                backend.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + b"2\r\nab\r\n"[:8])
                getattr(backend, how)()
                self.assertEqual((client.fate, self.ended), ("reset", (200, "backend_gone")))
                self.log.clear()
        self.assertEqual(self.backend.failures, {"gone": 4})

    def test_untilClose(self) -> None:
        """A response without a length ends with an orderly close, and only with that."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
        backend.close()
        self.assertEqual(split(client.got)[2], b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")
        self.assertEqual((client.fate, backend.fate, self.ended), ("open", "closed", (200, "ok")))
        client.send(GET)
        backend = self.accept()
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nab")
        backend.reset()
        self.assertEqual((client.fate, self.log[1].termination), ("reset", "backend_gone"))

    def test_untilCloseAtOnce(self) -> None:
        """The same when the close comes before the request has ended."""
        client, backend = self.idle()
        client.send(post(10) + b"x")
        backend.send(b"HTTP/1.0 200 OK\r\n\r\nab")
        backend.close()
        self.assertEqual(split(client.got)[2], b"2\r\nab\r\n0\r\n\r\n")
        self.assertEqual((client.fate, self.ended), ("half", (200, "ok")))

    def test_extraBytes(self) -> None:
        """Bytes behind a response are nobody's: the client does not see them, the upstream is not used again."""
        chunked = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        for pieces in ([OK + b"x"], [OK[:-2], b"lox"], [chunked + b"0\r\n\r\nx"], [chunked, b"0\r\n\r\nx"]):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            backend.send(*pieces)
            self.assertNotIn(b"x", split(client.got)[2])
            self.assertEqual((backend.fate, client.fate), ("closed", "open"))
            self.assertEqual(len(self.backend.idle), 0)

    def test_unsolicited(self) -> None:
        """Bytes on an idle upstream are never an answer: it is closed, the next request gets a new one."""
        client, backend = self.idle()
        backend.send(OK.replace(b"hello", b"trick"))
        self.assertEqual((backend.fate, len(self.backend.idle)), ("reset", 0))
        client.send(GET)
        self.accept().send(OK)
        self.assertEqual(client.got, OK)

    def test_splitEverywhere(self) -> None:
        """A response may be cut at any place."""
        message = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        client, backend = self.idle()
        for at in range(1, len(message)):
            client.send(GET)
            backend.send(message[:at], message[at:])
            head, _, body = client.take().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertIn(body, (b"5\r\nhello\r\n0\r\n\r\n", *_cuts(b"hello")))

    def test_silent(self) -> None:
        """A backend that is silent for the time to read: 504, and it is blamed."""
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.loop.wait(29.9)
        self.assertEqual(client.got, b"")
        self.loop.wait(0.7)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 504 Gateway Timeout")
        self.assertEqual((backend.fate, self.ended), ("reset", (504, "timeout_read")))
        self.assertEqual(self.backend.failures, {"timeout": 1})

    def test_silentInTheMiddle(self) -> None:
        """The same between two parts of a response, which counts anew after each: the client is cut."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(5):
            self.loop.wait(29)
            backend.send(b"x")
        self.loop.wait(31)
        self.assertEqual((client.fate, backend.fate, self.ended), ("reset", "reset", (200, "timeout_read")))

    def test_processing(self) -> None:
        """A backend that says that it is still at work (102) is not silent."""
        client, backend = self.idle()
        client.send(GET)
        for _ in range(3):
            self.loop.wait(20)
            backend.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        backend.send(OK)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 102 Processing")
        self.assertEqual(self.ended, (200, "ok"))

    def test_interimWithoutEnd(self) -> None:
        """Interim responses without end are an error of the backend."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 33)
        self.assertEqual(client.got.count(b"HTTP/1.1 102"), 32)
        self.assertIn(b"HTTP/1.1 502 Bad Gateway", client.got)
        self.assertEqual(self.ended, (502, "backend_malformed"))

    def test_longHead(self) -> None:
        """A response head beyond the limit is 502, without any line end too."""
        for piece in (b"x" * 1000, b"X-A: b\r\n" * 100):
            client = self.client()
            client.send(GET)
            self.accept().send(b"HTTP/1.1 200 OK\r\n", *([piece] * 100))
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")

    def test_lateAndPaused(self) -> None:
        """An upstream that ends its response while it is paused is not kept: nobody would listen to it."""
        client, backend = self.idle()
        client.send(GET)
        client.full()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 80001\r\n\r\n" + b"x" * 40_000, b"x" * 40_000)
        self.assertNotIn(backend.wire, self.loop.readers)
        upstream = backend.wire.protocol
        upstream.dataReceived(b"y")  # a reactor may deliver what it had seen before the pause
        client.drain()
        self.assertTrue(client.got.endswith(b"xy"))
        self.assertEqual((backend.fate, self.ended), ("closed", (200, "ok")))


def _cuts(body: bytes) -> list[bytes]:
    """The ways in which two reads can bring a short body."""
    return [
        b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (at, body[:at], len(body) - at, body[at:]) for at in range(1, len(body))
    ]


class TunnelTests(ProxyCase):
    """Upgrades."""

    ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    YES = b"HTTP/1.1 101 Switching Protocols\r\nDate: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    def tunnel(self) -> tuple[End, End]:
        """A tunnel that stands."""
        client, backend = self.idle()
        client.send(self.ASK)
        backend.take()
        backend.send(self.YES)
        client.take()
        return client, backend

    def test_opens(self) -> None:
        """Upgrade is asked for and granted through us, and then bytes go both ways, whatever they look like."""
        client, backend = self.idle()
        client.send(self.ASK)
        _, fields, _ = split(backend.take())
        self.assertEqual((fields[b"connection"], fields[b"upgrade"]), (b"upgrade", b"websocket"))
        backend.send(self.YES)
        first, fields, _ = split(client.take())
        self.assertEqual((first, fields[b"upgrade"]), (b"HTTP/1.1 101 Switching Protocols", b"websocket"))
        client.send(GET)
        self.assertEqual(backend.take(), GET)
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual((self.resource.exchanges, self.backend.active), (1, 1))
        backend.close()
        client.close()
        self.assertEqual((self.ended, self.log[0].sent, self.log[0].received), ((101, "ok"), len(OK), len(GET)))
        self.assertEqual((client.fate, backend.fate), ("closed", "closed"))

    def test_earlyBytes(self) -> None:
        """Bytes right behind the 101, and bytes that the client sent before it, are not lost."""
        client, backend = self.idle()
        client.send(self.ASK + b"early")
        backend.take()
        client.send(b"more")
        backend.send(self.YES + b"hello")
        self.assertEqual(client.take().partition(b"\r\n\r\n")[2], b"hello")
        self.assertEqual(backend.take(), b"earlymore")
        client.reset()

    def test_declined(self) -> None:
        """A backend that does not want to answers in the ordinary way, and the connection goes on."""
        client, backend = self.idle()
        client.send(self.ASK + GET)
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_notAsked(self) -> None:
        """A 101 that nobody asked for is no response."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(self.YES)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(self.ended, (502, "backend_malformed"))

    def test_beforeTheBody(self) -> None:
        """Nor is one that comes before the request has ended."""
        client, backend = self.idle()
        client.send(self.ASK.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"1")
        backend.send(self.YES)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(self.ended, (502, "backend_malformed"))

    def test_halfClosedByTheClient(self) -> None:
        """The client's half ends and the other goes on."""
        client, backend = self.tunnel()
        client.send(b"last")
        client.close()
        self.assertEqual((backend.got, backend.fate), (b"last", "half"))
        backend.send(b"answer")
        self.assertEqual((client.got, self.log), (b"answer", []))
        backend.close()
        self.assertEqual((client.fate, backend.fate, self.ended), ("closed", "closed", (101, "ok")))

    def test_halfClosedByTheBackend(self) -> None:
        """The backend's half ends and the other goes on."""
        client, backend = self.tunnel()
        backend.send(b"last")
        backend.close()
        self.assertEqual((client.got, client.fate), (b"last", "half"))
        client.send(b"answer")
        self.assertEqual((backend.got, self.log), (b"answer", []))
        client.close()
        self.assertEqual((client.fate, backend.fate, self.ended), ("closed", "closed", (101, "ok")))

    def test_halfClosedWhileSlow(self) -> None:
        """What was queued for the slow side gets out before its half is closed."""
        client, backend = self.tunnel()
        client.full()
        backend.send(b"x" * 50_000)
        backend.close()
        client.close()
        self.assertEqual(client.fate, "open")
        client.drain()
        self.assertEqual((len(client.got), client.fate), (50_000, "closed"))

    def test_clientVanishes(self) -> None:
        """A client that vanishes takes the upstream along; the backend is not blamed."""
        client, backend = self.tunnel()
        client.reset()
        self.assertEqual((backend.fate, self.ended, self.backend.failures), ("reset", (101, "client_gone"), {}))

    def test_backendVanishes(self) -> None:
        """A backend that vanishes ends the client's connection."""
        client, backend = self.tunnel()
        backend.send(b"part")
        backend.reset()
        self.assertEqual((client.got, client.fate, self.ended), (b"part", "closed", (101, "backend_gone")))

    def test_silence(self) -> None:
        """A tunnel that is silent both ways for its time is cut; any byte counts anew."""
        self.compose(timeouts=Timeouts(tunnel=100))
        for speaker in (0, 1):
            ends = self.tunnel()
            self.loop.wait(90)
            ends[speaker].send(b"ping")
            self.loop.wait(90)
            self.assertEqual(self.log, [])
            self.loop.wait(11)
            self.assertEqual((ends[0].fate, ends[1].fate, self.ended), ("reset", "reset", (101, "timeout_tunnel")))

    def test_silenceAfterASlowTime(self) -> None:
        """The same after a time in which one side was slow."""
        self.compose(timeouts=Timeouts(tunnel=100))
        client, backend = self.tunnel()
        client.full()
        backend.send(b"x" * 100_000)
        self.loop.wait(50)
        client.drain()
        self.loop.wait(101)
        self.assertEqual((client.fate, self.ended), ("reset", (101, "timeout_tunnel")))

    def test_pressure(self) -> None:
        """A slow side stops the other one, in both directions."""
        for slow, fast in ((0, 1), (1, 0)):
            ends = self.tunnel()
            ends[slow].full()
            ends[fast].send(*([b"x" * 65536] * 20))
            self.assertGreater(len(ends[fast].socket.incoming), 10)
            self.assertLess(ends[slow].queued, 300_000)
            ends[slow].drain()
            self.assertEqual(len(ends[slow].got), 20 * 65536)
            ends[fast].reset()
            ends[slow].close()


class PoolTests(ProxyCase):
    """Upstreams between two exchanges."""

    def several(self, number: int) -> list[End]:
        """So many idle upstreams, oldest first."""
        clients = [self.client() for _ in range(number)]
        for client in clients:
            client.send(GET)
        backends = [self.accept() for _ in range(number)]
        for backend in backends:
            backend.send(OK)
            backend.take()
        return backends

    def test_newestFirst(self) -> None:
        """The one that was used last is used next."""
        backends = self.several(3)
        self.client().send(GET)
        self.assertEqual([bool(backend.got) for backend in backends], [False, False, True])
        backends[2].send(OK)

    def test_limit(self) -> None:
        """No more idle ones are kept than the pool's limit."""
        self.compose(pool=Pool(limit=2))
        self.assertEqual([backend.fate for backend in self.several(3)], ["open", "open", "closed"])

    def test_none(self) -> None:
        """With a limit of 0 each connection carries one request."""
        self.compose(pool=Pool(limit=0))
        self.assertEqual([backend.fate for backend in self.several(2)], ["closed", "closed"])

    def test_closedWithSomethingQueued(self) -> None:
        """One that is not kept although its backend has not read the whole request is not open for ever either."""
        for ending in (b"Connection: close\r\n", b""):
            client = self.client()
            client.send(post(100_000))
            backend = self.accept()
            backend.full()
            client.send(b"x" * 50_000, b"x" * 50_000)
            backend.send(b"HTTP/1.1 200 OK\r\n" + ending + b"Content-Length: 0\r\n\r\n")
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 200 OK")
            if not ending:
                self.loop.wait(31)
            self.assertEqual((backend.fate, len(self.backend.idle)), ("open", 0))
            self.loop.wait(11)
            self.assertEqual(backend.fate, "reset")

    def test_halfClosedWithSomethingQueued(self) -> None:
        """The same for one whose backend closes its half and reads no more."""
        client = self.client()
        client.send(post(100_000))
        backend = self.accept()
        backend.full()
        client.send(b"x" * 50_000, b"x" * 50_000)
        backend.close()
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.loop.wait(11)
        self.assertEqual(backend.fate, "reset")

    def test_requests(self) -> None:
        """An upstream is closed after the requests it may carry."""
        self.compose(pool=Pool(requests=2))
        client, backend = self.idle()
        self.assertEqual(backend.fate, "open")
        client.send(GET)
        backend.send(OK)
        self.assertEqual(backend.fate, "closed")

    def test_idleTime(self) -> None:
        """An idle one is closed after its time; use counts anew."""
        client, backend = self.idle()
        self.loop.wait(20)
        client.send(GET)
        self.loop.wait(20)
        backend.send(OK)
        self.loop.wait(29)
        self.assertEqual(backend.fate, "open")
        self.loop.wait(2)
        self.assertEqual((backend.fate, len(self.backend.idle)), ("closed", 0))

    def test_closedByTheBackend(self) -> None:
        """One that the backend closes leaves the pool."""
        for how in ("close", "reset"):
            _, backend = self.idle()
            getattr(backend, how)()
            self.assertEqual((backend.fate, len(self.backend.idle)), ("closed", 0))

    def test_notKeptAlive(self) -> None:
        """One whose backend says close, or speaks HTTP/1.0, is not kept."""
        for head in (b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            backend.send(head + b"\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual((backend.fate, client.fate), ("closed", "open"))
            self.assertNotIn(b"Connection", client.got)
