"""Listening and connecting on whatever reactor there is."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorSocket, IReactorTCP, IReactorUNIX
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from lemmytx.net import transports
from lemmytx.net.network import BACKLOG, Network
from tests.net.pairs import NetCase


class NoDescriptors:
    """A reactor that does not watch descriptors; it notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def asked(*arguments: Any) -> str:
            self.asked.append((name, arguments))
            return name

        return asked


class OtherReactorTests(SynchronousTestCase):
    """Reactors without descriptors."""

    def test_itsOwn(self) -> None:
        """All is left to such a reactor, with the arguments as they were."""
        reactor = NoDescriptors()
        network = Network(reactor)
        factory: Any = object()
        self.assertEqual(network.listenTCP(80, factory, 5, "::1"), "listenTCP")
        self.assertEqual(network.connectTCP("h", 80, factory, 3, ("b", 0)), "connectTCP")
        self.assertEqual(network.listenUNIX("/s", factory, 5, 0o600, True), "listenUNIX")
        self.assertEqual(network.connectUNIX("/s", factory, 3, True), "connectUNIX")
        self.assertEqual(network.adoptStreamPort(3, socket.AF_INET, factory), "adoptStreamPort")
        self.assertEqual(network.adoptStreamConnection(3, socket.AF_INET, factory), "adoptStreamConnection")
        self.assertEqual(network.adoptDatagramPort(3, socket.AF_INET, factory, 9), "adoptDatagramPort")
        self.assertEqual(
            reactor.asked,
            [
                ("listenTCP", (80, factory, 5, "::1")),
                ("connectTCP", ("h", 80, factory, 3, ("b", 0))),
                ("listenUNIX", ("/s", factory, 5, 0o600, True)),
                ("connectUNIX", ("/s", factory, 3, True)),
                ("adoptStreamPort", (3, socket.AF_INET, factory)),
                ("adoptStreamConnection", (3, socket.AF_INET, factory)),
                ("adoptDatagramPort", (3, socket.AF_INET, factory, 9)),
            ],
        )

    def test_interfaces(self) -> None:
        """It is what endpoints expect of a reactor."""
        network = Network(MemoryReactorClock())
        for interface in (IReactorTCP, IReactorUNIX, IReactorSocket):
            self.assertTrue(verifyObject(interface, network))

    def test_noEndpoint(self) -> None:
        """A description that is none is refused with a text that repeats it."""
        network = Network(MemoryReactorClock())
        for description in ("", "tcp", "tcp:eighty", "tcp:80:interfaces=::1", "nonsense:1", "unix"):
            error = self.assertRaises(ValueError, network.listen, description)
            self.assertIn(repr(description), str(error))


class OwnTransportTests(NetCase):
    """Reactors with descriptors."""

    async def test_endpoints(self) -> None:
        """Endpoint descriptions lead to ports of ours, TCP (both versions) and unix, with a long queue."""
        self.assertGreaterEqual(BACKLOG, 1024)
        for description, kind in (
            ("tcp:0:interface=127.0.0.1", transports.Port),
            ("tcp:0:backlog=9000", transports.Port),
            (f"unix:{self.folder}/socket", transports.UnixPort),
        ):
            port = await self.network.listen(description).listen(Factory())
            self.assertIsInstance(port, kind)
            self.assertGreaterEqual(port.backlog, BACKLOG)
            await port.stopListening()

    async def test_adopted(self) -> None:
        """A socket that is open already, as one handed over by systemd, becomes a port of ours."""
        for family, address, kind in (
            (socket.AF_INET, ("127.0.0.1", 0), transports.Port),
            (socket.AF_UNIX, os.path.join(self.folder, "adopted"), transports.UnixPort),
        ):
            with socket.socket(family) as given:
                given.bind(address)
                given.listen()
                given.setblocking(False)
                port = self.network.adoptStreamPort(given.fileno(), family, Factory())
            self.assertIsInstance(port, kind)
            await port.stopListening()

    async def test_refused(self) -> None:
        """A connection that cannot be made is told to its factory."""
        for kind in ("tcp", "unix"):
            failed: Deferred[Any] = Deferred()

            class Failing(ClientFactory[Any]):
                noisy = False
                failed_ = failed

                def clientConnectionFailed(self, connector: object, reason: Any) -> None:
                    self.failed_.callback([reason])

            port = self.listen(kind, Factory())
            host = port.getHost()
            await port.stopListening()
            if kind == "tcp":
                self.network.connectTCP("127.0.0.1", host.port, Failing(), 5.0)
            else:
                self.network.connectUNIX(host.name, Failing(), 5.0)
            self.assertTrue((await failed)[0].check(ConnectError), kind)
