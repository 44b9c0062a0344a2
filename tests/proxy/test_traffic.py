"""What an exchange leaves in the statistics: whose time is whose."""

from __future__ import annotations

from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.traffic import MANY
from tests.proxy.rig import GET, OK, ProxyCase, post

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


class TimesTests(ProxyCase):
    """The response times of vhosts and backends."""

    def near(self, times: list[float], *expected: float) -> None:
        """These are the times, as exactly as the clock of the test is moved."""
        self.assertEqual(len(times), len(expected), times)
        for time, wanted in zip(times, expected, strict=True):
            self.assertLess(abs(time - wanted), 0.001, (time, wanted))

    def test_one(self) -> None:
        """A vhost's is until the end of the response, a backend's until its head."""
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.loop.wait(0.5)
        backend.send(HEAD)
        self.loop.wait(2.0)
        backend.send(b"hello")
        self.near(self.vhost.traffic.times, 2.5)
        self.near(self.backend.traffic.times, 0.5)

    def test_redirected(self) -> None:
        """What no backend has had is in the vhost's alone."""
        self.backend.state = "disabled"
        self.cluster.changed()
        self.client().send(GET)
        self.assertEqual((len(self.vhost.traffic.times), len(self.backend.traffic.times)), (1, 0))
        self.assertEqual(self.cluster.turned_away, {"no_backend": 1})

    def test_silent(self) -> None:
        """A backend that did not answer in time has taken that time."""
        self.client().send(GET)
        self.accept()
        self.loop.wait(31.0)
        self.assertEqual(self.ended, (504, "timeout_read"))
        (time,) = self.backend.traffic.times
        self.assertGreaterEqual(time, 30.0)

    def test_another(self) -> None:
        """What the first backend wasted is not the second one's."""
        self.compose(backends=2)
        self.client().send(GET)
        self.loop.wait(3.0)
        self.refuse()
        backend = self.accept()
        self.loop.wait(0.5)
        backend.send(OK)
        self.near(self.vhost.traffic.times, 3.5)
        self.assertEqual(self.backends[0].traffic.times, [])
        self.near(self.backends[1].traffic.times, 0.5)

    def test_queue(self) -> None:
        """Waiting for a backend to have room is not that backend's time."""
        self.compose(capacity=1, rules=Rules(queue=QueueRules()))
        first, second = self.client(), self.client()
        first.send(GET)
        second.send(GET)
        backend = self.accept()
        self.loop.wait(2.0)
        backend.send(OK)
        self.loop.wait(0.5)
        backend.send(OK)
        self.near(self.vhost.traffic.times, 2.0, 2.5)
        self.near(self.backend.traffic.times, 2.0, 0.5)

    def test_upload(self) -> None:
        """What the client needed to send its body is not the backend's time."""
        client = self.client()
        client.send(post(4))
        backend = self.accept()
        self.loop.wait(3.0)
        client.send(b"body")
        self.loop.wait(0.25)
        backend.send(OK)
        self.near(self.vhost.traffic.times, 3.25)
        self.near(self.backend.traffic.times, 0.25)

    def test_tunnel(self) -> None:
        """A tunnel counts until it stands."""
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        backend = self.accept()
        self.loop.wait(0.5)
        backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        self.loop.wait(100.0)
        backend.close()
        client.close()
        self.near(self.vhost.traffic.times, 0.5)
        self.near(self.backend.traffic.times, 0.5)

    def test_bounded(self) -> None:
        """However many exchanges end, without anybody who looks, no more than so many times are kept one by one."""
        for traffic in (self.vhost.traffic, self.backend.traffic):
            traffic.count = MANY - 2
            traffic.times.extend([0.25] * (MANY - 2))
        client, _ = self.idle()
        self.assertEqual(len(self.backend.traffic.times), MANY - 1)
        client.send(GET)
        self.network.ends[-1].send(OK)
        for traffic in (self.vhost.traffic, self.backend.traffic):
            self.assertEqual((traffic.count, traffic.times), (MANY, []))
            assert traffic.recent is not None
            self.assertEqual(sum(traffic.recent.counts.values()), MANY)

    def test_ejections(self) -> None:
        """Each time that failures put a backend out is counted."""
        self.compose(backends=2)
        for failures, ejections in ((2, 0), (3, 1), (4, 1)):
            while self.backend.failures.get("refused", 0) < failures:
                self.cluster.failed(self.backend, "refused", "x")
            self.assertEqual(self.backend.ejections, ejections)
