"""What accepts clients, and how many."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net.turns import Board, Turns
from lemmytx.proxy import listener as module
from lemmytx.proxy.listener import LOOK_AGAIN, Connections, Listener
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

    def test_openedWhenFull(self) -> None:
        """A door that comes when the others are closed is closed like them."""
        clients = [self.client() for _ in range(3)]
        door = Door()
        Listener(self.resource, self.ticker, self.connections).listening(door)  # type: ignore[arg-type]  # a double
        self.assertFalse(door.open)
        clients[0].reset()
        self.assertTrue(door.open)

    def test_resumedWhenFull(self) -> None:
        """A listener that is to accept again does so when there is room."""
        clients = [self.client() for _ in range(3)]
        self.listener.pause()
        self.listener.resume()
        self.assertFalse(self.door.open)
        clients[0].reset()
        self.assertTrue(self.door.open)

    def test_gone(self) -> None:
        """A listener whose port is closed is forgotten; its clients count until they have gone."""
        other = Door()
        listener = Listener(self.resource, self.ticker, self.connections)
        listener.listening(other)  # type: ignore[arg-type]  # a double
        listener.doStop()
        clients = [self.client() for _ in range(3)]
        self.assertEqual((False, True), (self.door.open, other.open))
        self.listener.doStop()
        clients[0].reset()
        self.assertEqual((2, False), (self.connections.count, self.door.open))

    def test_bound(self) -> None:
        """Another limit holds at once, for the doors as for those who come."""
        self.client()
        self.client()
        self.connections.bound(2)
        self.assertFalse(self.door.open)
        self.connections.bound(9, own=3)
        self.assertTrue(self.door.open)
        self.client()
        self.assertFalse(self.door.open)


class Doors:
    """Stands where a listener does; C{open}: whether it lets clients in."""

    open = True

    def pause(self) -> None:
        self.open = False

    def resume(self) -> None:
        self.open = True


class InstanceTests(SynchronousTestCase):
    """`limits.connections`, where several processes serve."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.board = Board(4)
        self.addCleanup(self.board.close)
        self.told: list[str] = []
        self.one, self.door = self.process(0)
        self.two, self.other_door = self.process(1)

    def process(self, row: int) -> tuple[Connections, Doors]:
        """One more process and its door."""
        connections, door = Connections(5, Turns(self.board, row, self.clock)), Doors()
        connections.add(door)  # type: ignore[arg-type]  # a double
        log: Any = connections._log
        self.patch(log, "warn", lambda text, **event: self.told.append(text.format(**event)))
        return connections, door

    def times(self, count: int, call: Callable[[], None]) -> None:
        for _ in range(count):
            call()

    def test_together(self) -> None:
        """The clients of all are counted: the process with whose client the limit is reached closes its door."""
        self.times(3, self.one.came)
        self.times(2, self.two.came)
        self.assertEqual((True, False), (self.door.open, self.other_door.open))
        self.assertEqual(
            ["5 clients are connected, which is the limit; more have to wait (told once a minute)"], self.told
        )

    def test_asked(self) -> None:
        """The other process finds that out before it accepts the next one, and closes its door, too."""
        self.times(5, self.one.came)
        self.assertTrue(self.other_door.open)
        assert self.two.turns is not None
        self.assertFalse(self.two.turns.room())
        self.assertEqual((False, 0), (self.other_door.open, self.two.count))

    def test_shut_again(self) -> None:
        """A door that was opened by somebody else while it is full is closed with the next question."""
        self.times(5, self.one.came)
        self.door.open = True
        self.assertFalse(self.one.room())
        self.assertFalse(self.door.open)

    def test_own_client_leaves(self) -> None:
        """Where a client leaves there is room at once."""
        self.times(2, self.two.came)
        self.times(3, self.one.came)
        self.one.left()
        self.assertTrue(self.door.open)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_another_client_leaves(self) -> None:
        """When another process's client leaves, the others find it out soon after."""
        self.times(3, self.two.came)
        self.times(2, self.one.came)
        for _ in range(20):
            self.clock.advance(LOOK_AGAIN)
            self.assertFalse(self.door.open)
        self.two.left()
        self.clock.advance(LOOK_AGAIN - 0.001)
        self.assertFalse(self.door.open)
        self.clock.advance(0.002)
        self.assertTrue(self.door.open)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_another_process_is_gone(self) -> None:
        """The clients of a process that has died make room as soon as its row is cleared."""
        self.times(4, self.two.came)
        self.one.came()
        self.board.clear(1)
        self.clock.advance(LOOK_AGAIN)
        self.assertTrue(self.door.open)

    def test_own_limit(self) -> None:
        """What one process has descriptors for is its own affair: only its own clients make room, nobody looks."""
        self.one.bound(5, own=2)
        self.times(2, self.one.came)
        self.assertEqual((False, True), (self.door.open, self.other_door.open))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertIn("2 clients are connected, which is what this process has file descriptors for", self.told[0])
        self.one.left()
        self.assertTrue(self.door.open)

    def test_told_once(self) -> None:
        """That it is full is told once, however often the last place changes hands."""
        self.patch(module, "monotonic", self.clock.seconds)
        self.times(5, self.one.came)
        for _ in range(10):
            self.one.left()
            self.one.came()
        self.assertEqual(1, len(self.told))
        self.one.left()
        self.clock.advance(module.TOLD_AGAIN)
        self.one.came()
        self.assertEqual(2, len(self.told))


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
