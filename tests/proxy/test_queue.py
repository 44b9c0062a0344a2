"""Waiting for a backend, with real exchanges: what clients and backends see of it."""

from __future__ import annotations

from typing import Any

from lemmytx.balance.buckets import Share
from lemmytx.cluster.queue import Queue
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.model import Timeouts
from lemmytx.proxy.router import Route, Router, Vhost
from tests.proxy.rig import GET, OK, End, ProxyCase, post, split

SHOP = (Share("vip", 0.2, 0.4), Share("main", 0.8, 1.0))

#: Bytes of a body that are held while nobody takes it.
REPLAY = 1000


class WaitingCase(ProxyCase):
    """A cluster with a queue and one backend that takes one request at a time, unless said otherwise."""

    def setUp(self) -> None:
        super().setUp()
        self.queued()

    def queued(self, capacity: int = 1, backends: int = 1, timeouts: Timeouts | None = None, **rules: object) -> None:
        """Build the proxy."""
        queue = QueueRules(**rules)  # type: ignore[arg-type]
        self.compose(backends, Rules(queue=queue, replay=REPLAY), capacity=capacity, timeouts=timeouts)
        assert self.cluster.queue is not None
        self.queue: Queue = self.cluster.queue

    def asks(self, request: bytes = GET) -> End:
        """A client asks."""
        client = self.client()
        client.send(request)
        return client

    def tearDown(self) -> None:
        super().tearDown()
        self.assertEqual(self.queue.waiting, 0)
        self.assertEqual((self.queue.root.used, self.queue.root.queued), (0, 0))


class WaitTests(WaitingCase):
    """One after the other."""

    def test_waits(self) -> None:
        """A request that finds the backend busy gets its answer over the same connection as the one before."""
        first, second = self.asks(), self.asks()
        backend = self.accept()
        self.assertEqual(second.got, b"")
        backend.take()
        self.loop.wait(2.0)
        backend.send(OK)
        self.loop.settle()
        self.assertEqual(first.take(), OK)
        self.assertTrue(backend.take().startswith(b"GET "))
        backend.send(OK)
        self.assertEqual(second.take(), OK)
        self.assertEqual([exchange.queue_time for exchange in self.log], [-1.0, 2.0])

    def test_readTimeout(self) -> None:
        """The time in the queue does not count as the backend's, which has all of its own for the answer."""
        self.queued(timeout=100.0)
        self.asks()
        second = self.asks()
        backend = self.accept()
        self.loop.wait(29.0)
        backend.send(OK)
        self.loop.settle()
        self.loop.wait(20.0)
        backend.send(OK)
        self.assertEqual(second.take(), OK)
        self.assertEqual(self.backend.failures, {})

    def test_newConnection(self) -> None:
        """Where the connection is not kept, another is made."""
        first, second = self.asks(), self.asks()
        backend = self.accept()
        backend.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        backend.close()
        self.loop.settle()
        self.assertTrue(first.take().endswith(OK[-2:]))
        self.accept().send(OK)
        self.assertEqual(second.take(), OK)

    def test_body(self) -> None:
        """A body that comes while the request waits is held, and sent whole; a short one does not stop the reading."""
        self.asks()
        client = self.asks(post(600))
        client.send(b"a" * 300)
        self.assertIn(client.wire, self.loop.readers)
        backend = self.accept()
        backend.send(OK)
        self.loop.settle()
        client.send(b"b" * 300)
        self.assertTrue(backend.got.endswith(b"a" * 300 + b"b" * 300))
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_longBody(self) -> None:
        """Of a long one no more is read than is held for another attempt anyway, and a little; then it goes on."""
        self.asks()
        client = self.asks(post(5000))
        client.send(b"a" * 1500)
        self.assertNotIn(client.wire, self.loop.readers)
        backend = self.accept()
        backend.take()
        backend.send(OK)
        self.loop.settle()
        self.assertIn(client.wire, self.loop.readers)
        client.send(b"b" * 3500)
        self.assertTrue(backend.got.endswith(b"a" * 1500 + b"b" * 3500))
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_longBodyConnects(self) -> None:
        """The same by a new connection."""
        self.asks()
        client = self.asks(post(5000))
        client.send(b"a" * 1500)
        backend = self.accept()
        backend.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        backend.close()
        self.loop.settle()
        other = self.accept()
        client.send(b"b" * 3500)
        self.assertTrue(other.got.endswith(b"a" * 1500 + b"b" * 3500))
        other.send(OK)
        self.assertEqual(client.take(), OK)

    def test_gone(self) -> None:
        """A client that goes away leaves the queue at once and is 499 in the log, before its body is whole too."""
        self.asks()
        for request in (GET, post(600), post(600) + b"a" * 300):
            client = self.asks(request)
            self.assertEqual(self.queue.waiting, 1)
            client.close()
            self.assertEqual(self.queue.waiting, 0)
            self.assertEqual(self.ended, (499, "client_gone"))
            self.log.clear()
        self.accept().send(OK)

    def test_bodyLate(self) -> None:
        """A client that stops in the middle of its body is told so while it waits."""
        self.queued(timeout=1000.0, timeouts=Timeouts(body=5.0))
        self.asks()
        client = self.asks(post(600))
        self.loop.wait(6.0)
        self.assertEqual(split(client.take())[0].split()[1], b"408")
        self.assertEqual(self.ended, (408, "timeout_body"))
        self.accept().send(OK)

    def test_timeout(self) -> None:
        """Who has waited for too long gets 504, and the log says how long that was."""
        self.queued(timeout=5.0)
        self.asks()
        client = self.asks()
        self.loop.wait(6.0)
        status, _, _ = split(client.take())
        self.assertEqual(status.split()[1], b"504")
        self.assertEqual(self.ended, (504, "timeout_queue"))
        self.assertGreaterEqual(self.log[0].queue_time, 5.0)
        self.assertIsNone(self.log[0].backend)
        self.log.clear()
        self.accept().send(OK)

    def test_full(self) -> None:
        """Beyond the limit it is 503 at once, with Retry-After as configured."""
        self.queued(limit=1, retry_after=7)
        self.asks()
        self.asks()
        client = self.asks()
        status, fields, _ = split(client.take())
        self.assertEqual((status.split()[1], fields[b"retry-after"]), (b"503", b"7"))
        self.assertEqual(self.ended, (503, "queue_full"))
        self.log.clear()
        backend = self.accept()
        backend.send(OK)
        self.loop.settle()
        backend.send(OK)

    def test_pipelined(self) -> None:
        """The next request of a connection does not begin before the one that waits is answered."""
        self.asks()
        client = self.asks(GET + GET)
        self.assertEqual(self.queue.waiting, 1)
        backend = self.accept()
        for _ in range(3):
            backend.send(OK)
            self.loop.settle()
        self.assertEqual(client.take(), OK + OK)

    def test_unavailable(self) -> None:
        """With nobody up a request waits and is served the moment somebody is."""
        self.backend.state = "disabled"
        self.backend.changed()
        client = self.asks()
        self.loop.wait(10.0)
        self.assertEqual(client.got, b"")
        self.backend.state = "ready"
        self.backend.changed()
        self.loop.settle()
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)

    def test_trial(self) -> None:
        """While all are ejected requests wait; the trial that goes well serves them all."""
        self.queued(capacity=0, timeout=60.0)
        self.cluster.rules.max_ejected = 1.0
        for _ in range(3):
            client = self.asks()
            self.refuse()
            self.assertEqual(split(client.take())[0].split()[1], b"502")
        waiting = [self.asks() for _ in range(3)]
        self.assertEqual(self.queue.waiting, 3)
        self.loop.wait(10.5)
        self.assertEqual((len(self.network.dialled), self.queue.waiting), (1, 2))
        self.accept().send(OK)
        self.loop.settle()
        self.assertEqual(self.queue.waiting, 0)
        while self.network.dialled:
            self.accept().send(OK)
        for end in self.network.ends:
            if end.wire.connected and end.got.count(b"GET ") == 2:
                end.send(OK)
        self.assertEqual([client.take() for client in waiting], [OK] * 3)

    def test_refused(self) -> None:
        """A request that has waited and finds its backend gone has another attempt like any other."""
        self.queued(backends=2)
        self.asks()
        self.asks()
        client = self.asks()
        backend = self.accept()
        backend.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        backend.close()
        self.loop.settle()
        other = self.network.dialled[0].accept()
        other.send(OK)
        self.loop.settle()
        self.refuse()
        self.loop.settle()
        other.send(OK)
        self.assertEqual(client.take(), OK)

    def test_breaksDown(self) -> None:
        """An exchange with which something goes wrong when its turn comes ends alone; the next one is served."""
        self.asks()
        second, third = self.asks(), self.asks()
        downstream: Any = second.wire.protocol
        del downstream.exchange.read_timeout
        backend = self.accept()
        backend.send(OK)
        self.loop.settle()
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertEqual(split(second.take())[0].split()[1], b"500")
        self.accept().send(OK)
        self.assertEqual(third.take(), OK)


class ClassTests(WaitingCase):
    """Classes of requests."""

    def setUp(self) -> None:
        super().setUp()
        self.classes()

    def classes(self, capacity: int = 5) -> None:
        """The path says which class a request is in."""
        self.queued(capacity, buckets=SHOP)
        self.vhost = Vhost("all", ("*",), [Route("/vip", self.cluster, bucket="vip"), Route("/*", self.cluster)])
        self.resource.configure(
            Router([self.vhost]), [self.cluster], self.resource.forwarding, self.resource.limits, self.resource.timeouts
        )

    VIP = GET.replace(b"GET / ", b"GET /vip ")

    def used(self, name: str) -> int:
        """Tokens that a class has."""
        return self.queue.buckets[name].used

    def test_shares(self) -> None:
        """A class that is below its share is served before those that came earlier."""
        self.assertIn(b"/vip", self.VIP)
        for _ in range(5):
            self.asks()
        main, vip = self.asks(), self.asks(self.VIP)
        backend = self.accept()
        backend.send(OK)
        self.loop.settle()
        self.assertEqual((self.used("vip"), self.used("main")), (1, 4))
        backend.send(OK)
        self.assertEqual(vip.take(), OK)
        self.loop.settle()
        while self.network.dialled:
            self.accept().send(OK)
        self.loop.settle()
        backend.send(OK)
        self.assertEqual(main.take(), OK)

    def test_ends(self) -> None:
        """However a request ends, its token is given back once."""
        self.asks(self.VIP)
        self.assertEqual(self.used("vip"), 1)
        self.refuse()
        self.assertEqual(self.used("vip"), 0)
        client = self.asks(self.VIP)
        self.accept()
        client.close()
        self.assertEqual(self.used("vip"), 0)
        self.asks(self.VIP)
        self.accept().close()
        self.assertEqual(self.used("vip"), 0)
        self.asks(self.VIP)
        self.accept().send(b"nonsense\r\n\r\n")
        self.assertEqual(self.used("vip"), 0)
        self.asks(self.VIP)
        self.accept()
        self.loop.wait(31.0)
        self.assertEqual(self.used("vip"), 0)
        self.assertEqual(self.queue.buckets["vip"].total, 5)

    def test_tunnel(self) -> None:
        """A tunnel keeps its token for as long as it stands."""
        client = self.asks(b"GET /vip HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        backend = self.accept()
        backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.loop.wait(60.0)
        self.assertEqual(self.used("vip"), 1)
        client.close()
        backend.close()
        self.assertEqual(self.used("vip"), 0)

    def test_retry(self) -> None:
        """A retry keeps the token of the first attempt."""
        self.queued(5, backends=2, buckets=SHOP)
        client = self.asks()
        self.refuse()
        self.assertEqual((self.used("main"), self.queue.root.total), (1, 1))
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.used("main"), 0)

    def test_noRoute(self) -> None:
        """A request that is for no cluster has nothing to do with any of this."""
        self.vhost = Vhost("all", ("*",), [Route("/vip", self.cluster, bucket="vip")])
        self.resource.configure(
            Router([self.vhost]), [self.cluster], self.resource.forwarding, self.resource.limits, self.resource.timeouts
        )
        client = self.asks()
        self.assertEqual(split(client.take())[0].split()[1], b"404")
        self.assertEqual(self.queue.root.total, 0)
