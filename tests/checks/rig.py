"""Servers on loopback that do what the test says, and one check of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import provider

from lemmytx.addresses import parse_url
from lemmytx.checks.checker import Checker, Gate
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.health import Checkup, Health
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.way import PLAIN, Way
from lemmytx.net.network import Network

reactor: Any = _reactor


class Peer(Protocol):
    """One connection to a L{Server}."""

    def __init__(self, server: Server) -> None:
        self.received = b""
        self._server = server

    def connectionMade(self) -> None:
        """It stands."""
        self._server.peers.append(self)
        self._server.script(self)

    def dataReceived(self, data: bytes) -> None:
        """Something came."""
        self.received += data
        self._server.script(self)

    def connectionLost(self, reason: Any = None) -> None:
        """It is over."""
        self._server.lost.append(self)

    def answers(self, data: bytes, close: bool = True) -> None:
        """Says something, once the whole head of a request is there."""
        assert self.transport is not None
        if b"\r\n\r\n" in self.received:
            self.transport.write(data)
            if close:
                self.transport.loseConnection()


class Server:
    """
    A server whose script is called when a connection stands, and whenever something comes.

    @ivar peers: its connections, C{lost}: those that are over.
    """

    def __init__(self, case: TestCase, script: Callable[[Any], None], tls: Any = None) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.lost: list[Peer] = []
        factory: Any = ServerFactory()
        factory.buildProtocol = lambda addr: Peer(self)
        if tls is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        case.addCleanup(port.stopListening)
        case.addCleanup(lambda: Deferred.fromCoroutine(self._end()))
        self.port: int = port.getHost().port

    async def _end(self) -> None:
        """Both ends of every connection have to be gone when the test is."""
        for peer in [peer for peer in self.peers if peer not in self.lost]:
            peer.transport.abortConnection()  # type: ignore[union-attr]  # TCP has it
        while len(self.lost) < len(self.peers):
            await deferLater(reactor, 0.001)
        await deferLater(reactor, 0.001)


@provider(ILogObserver)
def _ignore(event: Any) -> None:
    """Nobody wants to know."""


class Told(Health):
    """Tells what came of a check."""

    __slots__ = ("heard",)

    heard: Deferred[str]

    def passed(self, reason: str = "") -> bool:
        """It was well."""
        changed = super().passed(reason)
        self.heard.callback(f"passed: {reason}")
        return changed

    def failed(self, reason: str) -> bool:
        """It was not."""
        changed = super().failed(reason)
        self.heard.callback(f"failed: {self.last}")
        return changed


class CheckCase(TestCase):
    """
    One check with real connections.
    """

    timeout = 20

    def backend(self, url: str, way: Way = PLAIN) -> Backend:
        """A backend at a URL."""
        location = parse_url(url)
        backend = Backend("b", location.url, location, Network(reactor), Passive(), Pool(), way=way)
        if not location.path:
            backend.addresses = (location.host,)
        return backend

    def outcome(
        self, check: Any, where: int | str, way: Way = PLAIN, timeout: float = 5.0, **settings: Any
    ) -> Deferred[str]:
        """
        Does one check.

        @param where: the port on loopback, or a URL.
        @return: C{passed: } or C{failed: } and the reason.
        """
        backend = self.backend(f"http://127.0.0.1:{where}" if isinstance(where, int) else where, way)
        backend.check_by(Checkup(check, interval=1000.0, timeout=timeout, **settings))
        told = Told()
        told.heard = Deferred()
        backend.checked = told
        checker = Checker("c", backend, reactor, Gate(), lambda: 0.5, Logger(observer=_ignore))
        self.addCleanup(checker.stop)
        checker.start(0)
        return told.heard


class Scripted:
    """A check without any connection: each one waits for the test to say what comes of it."""

    def __init__(self) -> None:
        self.targets: list[Any] = []
        self.going: list[Deferred[Any]] = []

    def check(self, target: Any) -> Deferred[Any]:
        """See L{lemmytx.interfaces.IHealthCheck}."""
        deferred: Deferred[Any] = Deferred()
        self.targets.append(target)
        self.going.append(deferred)
        return deferred


class ClockCase(SynchronousTestCase):
    """
    Checkers by the clock.

    @ivar check: what is done.
    @ivar told: what was logged.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.check = Scripted()
        self.told: list[str] = []
        self.gate = Gate()
        self.changes = 0

    def backend(self, capacity: int = 0, **settings: Any) -> Backend:
        """A backend that is checked with these settings, without jitter unless they say so."""
        location = parse_url("http://10.0.0.1:8000")
        network = Network(self.clock)
        backend = Backend("b", location.url, location, network, Passive(), Pool(), capacity=capacity)
        backend.addresses = ("10.0.0.1",)
        backend.check_by(Checkup(settings.pop("check", self.check), **{"jitter": 0.0, **settings}))

        def changed() -> None:
            self.changes += 1

        backend.changed = changed
        return backend

    def checker(self, backend: Backend, delay: float = 0.0, chance: float = 0.5) -> Checker:
        """At work, the first check after a delay."""
        log: Any = Logger(namespace="tests")
        log.observer = lambda event: self.told.append(event["log_format"].format(**event))
        checker = Checker("c", backend, self.clock, self.gate, lambda: chance, log)
        checker.start(delay)
        self.addCleanup(checker.stop)
        return checker
