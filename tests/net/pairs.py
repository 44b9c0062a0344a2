"""Real connections on loopback: the transports of L{lemmytx.net} on one side, what the test needs on the other."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from lemmytx.net.network import Network

KINDS = ("tcp", "unix")


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """
    Keeps what comes.

    @ivar lost: fires when the connection is over; C{reason} says why.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost: Deferred[None] = Deferred()
        self.reason: Failure | None = None
        self.connected_: Deferred[None] = Deferred()
        self.read_closed = self.write_closed = False
        self.pauses = self.resumes = 0
        self._wanted: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def connectionMade(self) -> None:
        self.connected_.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._look()

    def when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when the condition holds, looked at whenever something happens here."""
        wanted: Deferred[None] = Deferred()
        self._wanted.append((condition, wanted))
        self._look()
        return wanted

    def _look(self) -> None:
        for entry in list(self._wanted):
            if entry[0]():
                self._wanted.remove(entry)
                entry[1].callback(None)

    def readConnectionLost(self) -> None:
        self.read_closed = True
        self._look()

    def writeConnectionLost(self) -> None:
        self.write_closed = True
        self._look()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008  # Twisted's signature
        self.read_closed = True
        self.reason = reason
        self._look()
        self.lost.callback(None)

    # As a producer

    def pauseProducing(self) -> None:
        self.pauses += 1
        assert self.transport is not None
        self.transport.pauseProducing()
        self._look()

    def resumeProducing(self) -> None:
        self.resumes += 1
        assert self.transport is not None
        self.transport.resumeProducing()
        self._look()

    def stopProducing(self) -> None:
        pass


class NetCase(TestCase):
    """A test with real sockets."""

    timeout = 20

    def setUp(self) -> None:
        self.network = Network(reactor)
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def listen(self, kind: str, factory: Any) -> Any:
        """A port of ours."""
        if kind == "tcp":
            port = self.network.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = self.network.listenUNIX(os.path.join(self.folder, f"s{len(os.listdir(self.folder))}"), factory)
        self.addCleanup(lambda: port.stopListening())
        return port

    def connect(self, port: Any, factory: ClientFactory[Any]) -> Any:
        """A connection of ours to it."""
        host = port.getHost()
        if hasattr(host, "port"):
            return self.network.connectTCP("127.0.0.1", host.port, factory, 5.0)
        return self.network.connectUNIX(host.name, factory, 5.0)

    async def pair(self, kind: str) -> tuple[Recorder, Recorder]:
        """A connection with one of our transports at either end: who accepted and who connected."""
        accepted: list[Recorder] = []
        here: Deferred[Recorder] = Deferred()

        class Accepting(Factory[Recorder]):
            noisy = False

            def buildProtocol(self, addr: object) -> Recorder:
                accepted.append(Recorder())
                return accepted[-1]

        class Connecting(ClientFactory[Recorder]):
            noisy = False

            def buildProtocol(self, addr: object) -> Recorder:
                client = Recorder()
                client.connected_.addCallback(lambda _: here.callback(client))
                return client

            def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
                here.errback(reason)

        port = self.listen(kind, Accepting())
        self.connect(port, Connecting())
        client = await here
        while not accepted:
            await tick()
        await accepted[0].connected_
        self.addCleanup(self.gone, accepted[0], client)
        return accepted[0], client

    def gone(self, *ends: Recorder) -> Deferred[Any]:
        """End what is open still, and wait for it."""
        waiting = []
        for end in ends:
            if not end.lost.called:
                end.transport.abortConnection()  # type: ignore[union-attr]  # it is connected
                waiting.append(end.lost)
        return DeferredList(waiting)

    async def raw(self, kind: str) -> tuple[Recorder, socket.socket]:
        """A connection that we accepted, and the plain blocking socket at its other end."""
        accepted: list[Recorder] = []

        class Accepting(Factory[Recorder]):
            noisy = False

            def buildProtocol(self, addr: object) -> Recorder:
                accepted.append(Recorder())
                return accepted[-1]

        port = self.listen(kind, Accepting())
        host = port.getHost()
        if kind == "tcp":
            other = socket.create_connection(("127.0.0.1", host.port))
        else:
            other = socket.socket(socket.AF_UNIX)
            other.connect(host.name)
        self.addCleanup(other.close)
        while not accepted:
            await tick()
        await accepted[0].connected_
        self.addCleanup(self.gone, accepted[0])
        return accepted[0], other


def tick() -> Deferred[None]:
    """Fires in a later turn of the reactor."""
    turned: Deferred[None] = Deferred()
    reactor.callLater(0.001, turned.callback, None)  # type: ignore[attr-defined]  # the installed reactor
    return turned
