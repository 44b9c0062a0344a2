"""The client's side of the data path: slow, late and leaving clients."""

from __future__ import annotations

from lemmytx.model import Timeouts
from lemmytx.proxy.downstream import LAST_REQUEST
from tests.proxy.rig import GET, OK, ProxyCase, post, split


class TimeoutTests(ProxyCase):
    """The client's time."""

    def test_head(self) -> None:
        """A head that is begun and not ended in time: 408 and the end."""
        client = self.client()
        client.send(GET[:10])
        self.loop.wait(9.9)
        self.assertEqual(client.got, b"")
        self.loop.wait(0.7)
        first, fields, _ = split(client.got)
        self.assertEqual((first, fields[b"connection"]), (b"HTTP/1.1 408 Request Timeout", b"close"))
        self.assertEqual([r.status for r in self.rejections], [408])

    def test_lateOurselves(self) -> None:
        """When we have been busy for so long that the time is over, a request that came in time is served."""
        client, _ = self.idle()
        for first in (False, True):
            end = self.client() if first else client
            end.socket.incoming.append(GET)
            self.loop.advance(100)
            self.assertEqual(end.fate, "open")
            self.loop.settle()
            self.accept().send(OK)
            self.assertEqual(end.take(), OK)

    def test_headInDrops(self) -> None:
        """Single bytes do not prolong the time of a head."""
        client = self.client()
        for at in range(11):
            self.loop.wait(1)
            client.send(GET[at : at + 1])
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 408 Request Timeout")

    def test_neverSpoke(self) -> None:
        """A client that never says a word is closed without an answer."""
        client = self.client()
        self.loop.wait(11)
        self.assertEqual((client.got, client.fate), (b"", "closed"))

    def test_idle(self) -> None:
        """An idle connection is closed without an answer when its time is over, not before."""
        client, _ = self.idle()
        self.loop.wait(59)
        self.assertEqual(client.fate, "open")
        self.loop.wait(2)
        self.assertEqual((client.got, client.fate), (b"", "closed"))

    def test_secondHead(self) -> None:
        """The second head has the time of a head, not that of an idle connection."""
        client, _ = self.idle()
        self.loop.wait(30)
        client.send(GET[:5])
        self.loop.wait(9)
        self.assertEqual(client.got, b"")
        self.loop.wait(2)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 408 Request Timeout")

    def test_body(self) -> None:
        """A body that stops: 408, the backend let go of and not blamed."""
        client, backend = self.idle()
        client.send(post(100) + b"x")
        self.loop.wait(29)
        client.send(b"x")
        self.loop.wait(29)
        self.assertEqual(client.got, b"")
        self.loop.wait(2)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 408 Request Timeout")
        self.assertEqual((self.ended, backend.fate), ((408, "timeout_body"), "reset"))
        self.assertEqual(self.backend.failures, {})

    def test_bodyWhileConnecting(self) -> None:
        """While we do not read, the client cannot be late."""
        self.compose(timeouts=Timeouts(body=1))
        client = self.client()
        client.send(post(100))
        self.loop.wait(3)
        self.assertEqual(client.got, b"")
        backend = self.accept()
        client.send(b"x" * 100)
        backend.send(OK)
        self.assertEqual(client.got, OK)

    def test_stalledReader(self) -> None:
        """A client that takes nothing of a response for the time of a body is gone; nobody is blamed."""
        client, backend = self.idle()
        client.send(GET)
        client.full()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
        self.loop.wait(29)
        self.assertEqual(client.fate, "open")
        self.loop.wait(2)
        self.assertEqual((client.fate, backend.fate), ("reset", "reset"))
        self.assertEqual((self.ended, self.backend.failures), ((200, "client_gone"), {}))

    def test_slowReader(self) -> None:
        """A client that takes little, but takes it, is given the time it needs."""
        client, backend = self.idle()
        client.send(GET)
        client.full()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 90_000)
        for _ in range(8):
            self.loop.wait(20)
            client.drain(10_000)
        client.drain()
        backend.send(b"x" * 10_000)
        self.assertEqual(len(split(client.got)[2]), 100_000)
        self.assertEqual((self.ended, client.fate), ((200, "ok"), "open"))

    def test_slowReaderAtTheEnd(self) -> None:
        """The same after the last byte has been queued, on a connection that ends and on one that stays."""
        for field in (b"Connection: close\r\n", b""):
            client = self.client()
            client.send(GET[:-2] + field + b"\r\n")
            backend = self.accept() if self.network.dialled else self.network.ends[-1]
            client.full()
            backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
            for _ in range(6):
                self.loop.wait(25)
                client.drain(5_000)
            client.drain()
            self.assertEqual(len(split(client.got)[2]), 60_000, field)


class EndTests(ProxyCase):
    """Clients that go."""

    def test_idle(self) -> None:
        """An idle connection that the client closes is closed."""
        client, _ = self.idle()
        client.close()
        self.assertEqual((client.fate, self.log), ("closed", []))

    def test_inTheHead(self) -> None:
        """A client that closes in the middle of a head gets nothing."""
        client = self.client()
        client.send(GET[:10])
        client.close()
        self.assertEqual((client.got, client.fate, self.log), (b"", "closed", []))

    def test_whileConnecting(self) -> None:
        """A client that goes while its backend is dialled ends the attempt."""
        for leave in ("close", "reset"):
            client = self.client()
            client.send(GET)
            getattr(client, leave)()
            self.assertEqual(self.network.dialled, [])
            self.assertEqual(self.ended, (499, "client_gone"))
            self.log.clear()

    def test_whileWaiting(self) -> None:
        """A client that goes while it waits: the upstream is closed, 499, and nobody is blamed."""
        for leave in ("close", "reset"):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            getattr(client, leave)()
            self.assertEqual((backend.fate, self.ended), ("reset", (499, "client_gone")))
            self.assertEqual(self.backend.failures, {})
            self.log.clear()

    def test_inItsBody(self) -> None:
        """A client that goes in the middle of its body: a backend must not take the part for the whole."""
        client, backend = self.idle()
        client.send(post(100) + b"part")
        client.close()
        self.assertEqual((backend.fate, self.ended), ("reset", (499, "client_gone")))

    def test_inTheResponse(self) -> None:
        """A client that goes in the middle of the response keeps its status in the log; the upstream is closed."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        client.reset()
        self.assertEqual((backend.fate, self.ended), ("reset", (200, "client_gone")))
        self.assertEqual(self.backend.failures, {})

    def test_whileStalled(self) -> None:
        """A client that goes while its upstream is paused for it leaves nothing behind."""
        client, backend = self.idle()
        client.send(GET)
        client.full()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000, b"x" * 100_000)
        self.assertTrue(backend.socket.readable)
        client.reset()
        self.assertEqual((backend.fate, self.ended), ("reset", (200, "client_gone")))

    def test_whileLingering(self) -> None:
        """A client that vanishes while we linger is forgotten."""
        client = self.client()
        client.send(b"nonsense\r\n\r\n")
        client.reset()
        self.assertEqual(self.connections.count, 0)


class BackPressureTests(ProxyCase):
    """Slow clients."""

    def test_pausesTheBackend(self) -> None:
        """While the client takes nothing the backend is not read, and what is held for it is bounded."""
        for head in (b"Content-Length: 6553600", b"Transfer-Encoding: chunked", b"Connection: close"):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            piece = b"x" * 65536
            if b"chunked" in head:
                piece = b"10000\r\n" + piece + b"\r\n"
            client.full()
            backend.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", *([piece] * 20))
            self.assertGreater(len(backend.socket.incoming), 10, head)
            self.assertLess(client.queued, 300_000)
            client.drain()
            self.assertFalse(backend.socket.incoming)
            self.assertEqual(client.got.count(b"x"), 20 * 65536)
            client.reset()

    def test_resumes(self) -> None:
        """A backend that was paused and then listened to again serves the next request."""
        client, backend = self.idle()
        for _ in range(2):
            client.send(GET)
            client.full()
            backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 100_000, b"x" * 200_000)
            self.loop.wait(10)
            client.drain()
            self.assertEqual(len(split(client.take())[2]), 300_000)
        self.assertEqual(len(self.network.ends), 1)

    def test_pausedBackendIsNotLate(self) -> None:
        """A backend that is not listened to cannot be late."""
        self.compose(timeouts=Timeouts(body=100))
        client, backend = self.idle()
        client.send(GET)
        client.full()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + b"x" * 100_000)
        self.loop.wait(90)
        client.drain()
        backend.send(b"x")
        self.assertEqual(self.ended, (200, "ok"))

    def test_pipelinedWithoutReading(self) -> None:
        """A client that asks and asks and reads nothing does not make us hold its answers without a bound."""
        client, backend = self.idle()
        client.full()
        response = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000
        asked = 0
        for number in range(40):
            client.send(GET * 2 if number % 2 else GET)
            while backend.got:
                asked += backend.take().count(b"\r\n\r\n")
                backend.send(response)
        self.assertLess(client.queued, 400_000)
        self.assertLess(asked, 10)
        client.drain()
        while backend.got:
            asked += backend.take().count(b"\r\n\r\n")
            backend.send(response)
        self.assertEqual(asked, 60)
        self.assertEqual(client.got, response * 60)

    def test_pipelinedWithoutReadingForTooLong(self) -> None:
        """Such a client is cut when it takes nothing for the time of a body."""
        client, backend = self.idle()
        client.full()
        response = b"HTTP/1.1 200 OK\r\nContent-Length: 80000\r\n\r\n" + b"x" * 80_000
        client.send(GET * 3)
        backend.send(response)
        self.loop.wait(100)
        self.assertEqual(client.fate, "reset")


class DrainTests(ProxyCase):
    """Listeners that stop."""

    def test_idleEnds(self) -> None:
        """Idle connections are closed, a moment later."""
        client, _ = self.idle()
        self.listener.drain()
        self.loop.wait(LAST_REQUEST - 0.5)
        self.assertEqual(client.fate, "open")
        self.loop.wait(1.2)
        self.assertEqual((client.fate, client.got), ("closed", b""))

    def test_busyEndsAfterwards(self) -> None:
        """A running exchange ends, says that the connection does too, and what was sent ahead is not served."""
        client, backend = self.idle()
        client.send(GET + GET)
        backend.take()
        self.listener.drain()
        backend.send(OK)
        _, fields, body = split(client.got)
        self.assertEqual((fields[b"connection"], body, backend.got), (b"close", b"hello", b""))
        client.close()
        self.assertEqual(client.fate, "closed")

    def test_inTheResponse(self) -> None:
        """A response that has begun goes on to its end; its client was not told of ours, and may ask once more."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        self.listener.drain()
        backend.send(b"56789")
        self.assertEqual((split(client.take())[2], client.fate), (b"0123456789", "open"))
        client.send(GET)
        backend.send(OK)
        self.assertEqual((split(client.got)[1][b"connection"], client.fate), (b"close", "closed"))

    def test_inTheResponseAndSilent(self) -> None:
        """If it does not ask, that was all."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        self.listener.drain()
        self.loop.wait(10)
        backend.send(b"56789")
        self.loop.wait(LAST_REQUEST + 0.6)
        self.assertEqual((split(client.got)[2], client.fate), (b"0123456789", "closed"))

    def test_abort(self) -> None:
        """In the end what waits is answered with 503, what has begun is cut, what is idle is closed."""
        idle, begun = self.client(), self.client()
        begun.send(GET)
        first = self.accept()
        first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        waiting = self.client()
        waiting.send(GET)
        second = self.accept()
        self.listener.abort()
        self.loop.settle()
        self.assertEqual((idle.got, idle.fate), (b"", "reset"))
        self.assertEqual((begun.fate, first.fate), ("reset", "reset"))
        self.assertEqual(split(waiting.got)[0], b"HTTP/1.1 503 Service Unavailable")
        self.assertEqual((waiting.fate, second.fate), ("closed", "reset"))
        self.assertEqual(sorted((e.status, e.termination) for e in self.log), [(200, "shutdown"), (503, "shutdown")])
        self.assertEqual(self.backend.failures, {})
