"""How long a retry counts against the cluster's budget."""

from __future__ import annotations

from tests.proxy.rig import ProxyCase

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class BudgetTests(ProxyCase):
    """A retry is one until it is answered."""

    def test_longDownload(self) -> None:
        """A retried request whose answer has begun takes nothing from the budget, however long the answer lasts."""
        self.compose(backends=2)
        client = self.client()
        client.send(GET)
        self.refuse()
        backend = self.accept()
        self.assertEqual(self.cluster.retrying, 1)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        self.assertEqual(self.cluster.retrying, 0)
        backend.send(b"cd")
        self.assertTrue(client.got.endswith(b"abcd"))
        self.assertEqual(self.ended, (200, "ok"))

    def test_tunnel(self) -> None:
        """Nor does a tunnel that was opened by a retry."""
        self.compose(backends=2)
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.refuse()
        backend = self.accept()
        self.assertEqual(self.cluster.retrying, 1)
        backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.assertEqual(self.cluster.retrying, 0)
        client.send(b"ping")
        self.assertTrue(backend.got.endswith(b"ping"))
        client.close()
        backend.close()
