"""What accepts clients, and how many."""

from __future__ import annotations

from ipaddress import ip_network

from lemmytx.proxy.listener import Listener
from tests.proxy.rig import GET, OK, Door, ProxyCase, split


class ConnectionsTests(ProxyCase):
    """`limits.connections`."""

    def setUp(self) -> None:
        super().setUp()
        self.compose(connections=3)

    def test_closesTheDoor(self) -> None:
        """At the limit nobody more is accepted, until one has left; then again, and so on."""
        clients = [self.client() for _ in range(3)]
        self.assertFalse(self.door.open)
        for client in clients[:2]:
            client.reset()
            self.assertTrue(self.door.open)
            self.client()
            self.assertFalse(self.door.open)
        clients[2].close()
        self.assertTrue(self.door.open)

    def test_belowTheLimit(self) -> None:
        """Below it the door stays as it is."""
        for _ in range(2):
            self.client().reset()
            self.client()
        self.assertTrue(self.door.open)

    def test_allDoors(self) -> None:
        """The limit is one for all listeners; one that has no port yet, or none any more, is left alone."""
        other, closed, early = Door(), Door(), None
        closed.connected = False
        for door in (other, closed, early):
            listener = Listener(self.resource, self.ticker, self.connections)
            if door is not None:
                listener.listening(door)  # type: ignore[arg-type]  # a double
        clients = [self.client() for _ in range(3)]
        self.assertEqual((self.door.open, other.open), (False, False))
        clients[0].reset()
        self.assertEqual((self.door.open, other.open, closed.open), (True, True, False))

    def test_served(self) -> None:
        """Those who are in are served at the limit as ever."""
        clients = [self.client() for _ in range(3)]
        clients[2].send(GET)
        self.accept().send(OK)
        self.assertEqual(clients[2].got, OK)

    def test_overshoot(self) -> None:
        """A few that were accepted in the same turn are in, and all are counted down again."""
        clients = [self.client() for _ in range(5)]
        self.assertEqual(self.connections.count, 5)
        for client in clients[:2]:
            client.reset()
        self.assertFalse(self.door.open)
        clients[2].reset()
        self.assertTrue(self.door.open)


class TrustTests(ProxyCase):
    """Whom the listener believes, through real exchanges."""

    CLAIMS = (
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.7\r\nX-Forwarded-Proto: https\r\n"
        b"X-Request-ID: given\r\n\r\n"
    )

    def told(self, address: str) -> dict[bytes, bytes]:
        """What a backend hears of a client that claims things."""
        client = self.client(address)
        client.send(self.CLAIMS)
        backend = self.accept() if self.network.dialled else self.network.ends[-1]
        fields = split(backend.take())[1]
        backend.send(OK)
        return fields

    def test_trusted(self) -> None:
        """A trusted peer's claims are continued; the client is the nearest that is not trusted itself."""
        self.compose(trusted=(ip_network("192.0.2.0/24"), ip_network("198.51.100.7")))
        told = self.told("192.0.2.1")
        self.assertEqual(told[b"x-forwarded-for"], b"203.0.113.9, 198.51.100.7, 192.0.2.1")
        self.assertEqual((told[b"x-forwarded-proto"], told[b"x-request-id"]), (b"https", b"given"))
        self.assertEqual((self.log[0].client, self.log[0].request_id), ("203.0.113.9", b"given"))

    def test_notTrusted(self) -> None:
        """Anyone else's are dropped and written anew."""
        self.compose(trusted=(ip_network("192.0.2.0/24"),))
        told = self.told("203.0.113.50")
        self.assertEqual((told[b"x-forwarded-for"], told[b"x-forwarded-proto"]), (b"203.0.113.50", b"http"))
        self.assertNotEqual(told[b"x-request-id"], b"given")
        self.assertEqual(self.log[0].client, "203.0.113.50")

    def test_unixPeer(self) -> None:
        """A peer on a unix socket has no address; it is trusted where any is."""
        self.compose(trusted=(ip_network("192.0.2.0/24"),))
        told = self.told("")
        self.assertEqual(told[b"x-forwarded-for"], b"203.0.113.9, 198.51.100.7")
        self.compose()
        told = self.told("")
        self.assertNotIn(b"x-forwarded-for", told)
