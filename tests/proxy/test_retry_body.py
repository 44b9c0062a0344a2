"""A body that is still on its way when its request goes to another backend."""

from __future__ import annotations

from tests.proxy.rig import OK, ProxyCase, post, split


class OnItsWayTests(ProxyCase):
    """The first backend cannot be reached."""

    def test_toAnIdleConnection(self) -> None:
        """The body goes on when the second backend has a connection at hand, as it does when it has to be made."""
        self.compose(2)
        second = self.backends[1]
        self.backends[0].state = "disabled"
        self.cluster.changed()
        client = self.client()
        client.send(post(0))
        backend = self.accept()
        backend.send(OK)
        client.take()
        backend.take()
        self.backends[0].state = "ready"
        second.active = 1  # so that it is the second choice
        self.cluster.changed()
        client.send(post(10) + b"01234")
        self.assertEqual(len(self.network.dialled), 1)
        second.active = 0
        self.refuse()
        self.assertTrue(backend.got.endswith(b"\r\n\r\n01234"))
        client.send(b"56789")
        self.assertTrue(backend.got.endswith(b"\r\n\r\n0123456789"))
        backend.send(OK)
        self.assertEqual(split(client.got)[2], b"hello")

    def test_itsTime(self) -> None:
        """A client that sends nothing more is late then, as ever."""
        self.test_toAnIdleConnection()
        self.log.clear()
        self.backends[1].active = 1
        client = self.client()
        client.send(post(10) + b"01234")
        self.backends[1].active = 0
        self.refuse()
        self.loop.wait(31)
        self.assertEqual(self.ended, (408, "timeout_body"))
