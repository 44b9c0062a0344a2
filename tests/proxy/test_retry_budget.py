"""How long a retry counts against the cluster's budget."""

from __future__ import annotations

from lemmytx.balance.first import First
from lemmytx.cluster.rules import Rules
from tests.proxy.rig import OK, ProxyCase

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

    def burst(self, rules: Rules) -> list[bytes]:
        """The statuses of ten requests at a time, of two backends one of which refuses all connections."""
        self.compose(backends=2, rules=rules, scheduler=First())
        clients = [self.client() for _ in range(10)]
        for client in clients:
            client.send(GET)
        while any(dialled.address == "10.0.0.1" for dialled in self.network.dialled):
            next(dialled for dialled in self.network.dialled if dialled.address == "10.0.0.1").fail()
        while self.network.dialled:
            self.accept().send(OK)
        return [client.take()[9:12] for client in clients]

    def test_burst(self) -> None:
        """A burst of refused connections gets to the other backend as far as the budget goes; which can be told."""
        self.assertEqual(self.burst(Rules()), [b"200"] * 3 + [b"502"] * 7)
        self.assertEqual((self.cluster.retries, self.cluster.retries_refused), (3, 7))
        self.assertEqual(self.burst(Rules(budget_at_least=10)), [b"200"] * 10)
        self.assertEqual(self.burst(Rules(budget=1.0, budget_at_least=0)), [b"200"] * 9 + [b"502"])
        self.assertEqual(self.burst(Rules(budget=0.0, budget_at_least=0)), [b"502"] * 10)

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
