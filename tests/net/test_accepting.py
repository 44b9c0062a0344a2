"""
L{lemmytx.net.accepting}: ports that wait when there is nothing to accept with.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net import accepting, transports


class Watching(Clock):
    """A reactor that only notes who wants to be called."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        """See L{IReactorFDSet}."""
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        """See L{IReactorFDSet}."""
        self.readers.discard(reader)

    def removeWriter(self, writer: Any) -> None:
        """See L{IReactorFDSet}."""


class Failing:
    """A listening socket whose accept fails with these errors, one after the other, and then has nobody."""

    def __init__(self, real: socket.socket, *numbers: int) -> None:
        self._real = real
        self.numbers = list(numbers)

    def accept(self) -> Any:
        """See L{socket.socket}."""
        if self.numbers:
            number = self.numbers.pop(0)
            raise OSError(number, os.strerror(number))
        raise BlockingIOError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class AcceptingTests(SynchronousTestCase):
    """L{accepting.AcceptsWhileOpen}, on a port that the test calls as the reactor would."""

    def setUp(self) -> None:
        self.reactor = Watching()
        self.built: list[Protocol] = []
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self.build  # type: ignore[method-assign]  # instead of a subclass
        self.port = transports.Port(0, factory, 50, "127.0.0.1", self.reactor)
        self.port.startListening()
        self.addCleanup(self.close)
        self.port.socket.setblocking(False)

    def close(self) -> None:
        self.port.socket.close()
        for protocol in self.built:
            transport: Any = protocol.transport
            transport.socket.close()

    def build(self, address: Any) -> Protocol | None:
        protocol = Protocol()
        self.built.append(protocol)
        return protocol

    def clients(self, count: int) -> None:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self.port.getHost().port))
            self.addCleanup(client.close)

    def test_stops_at_once(self) -> None:
        """Whoever comes after the one with whom it was told to stop stays in the kernel's queue until it goes on."""
        self.clients(3)
        build = self.build

        def stop(address: Any) -> Protocol | None:
            self.port.stopReading()
            return build(address)

        self.port.factory.buildProtocol = stop
        self.port.doRead()
        self.assertEqual((1, False), (len(self.built), self.port in self.reactor.readers))
        self.port.factory.buildProtocol = build
        self.port.startReading()
        self.port.doRead()
        self.assertEqual((3, True), (len(self.built), self.port in self.reactor.readers))

    def test_no_descriptors(self) -> None:
        """Without descriptors it waits a moment, and says so once however often that happens."""
        real = self.port.socket
        self.port.socket = Failing(real, *[errno.EMFILE] * 10)
        logged = []
        self.patch(accepting.log, "error", lambda *_, **event: logged.append(event["why"]))
        for _ in range(10):
            self.port.doRead()
            self.assertEqual(set(), self.reactor.readers)
            self.reactor.advance(accepting.ACCEPT_AGAIN)
            self.assertEqual({self.port}, self.reactor.readers)
        self.assertEqual(["Too many open files"], logged)
        self.port.socket = real
        self.clients(1)
        self.port.doRead()
        self.assertEqual(1, len(self.built))

    def test_held_while_it_waits(self) -> None:
        """When somebody else wants it to accept nobody, the end of the wait does not open it."""
        real = self.port.socket
        self.port.socket = Failing(real, errno.ENFILE)
        self.port.doRead()
        self.port.stopReading()
        self.reactor.advance(accepting.ACCEPT_AGAIN)
        self.assertEqual(set(), self.reactor.readers)
        self.port.socket = real

    def test_one_that_is_gone(self) -> None:
        """A connection that was over before it was accepted does not keep the next one waiting."""
        real = self.port.socket
        self.port.socket = failing = Failing(real, errno.ECONNABORTED, errno.EPERM)
        self.port.doRead()
        self.assertEqual(([], {self.port}), (failing.numbers, self.reactor.readers))
        self.port.socket = real

    def test_trouble_of_one(self) -> None:
        """An error in beginning a connection ends that one and is logged; the next is accepted."""
        self.clients(2)
        build = self.build

        def fail(address: Any) -> Protocol | None:
            self.port.factory.buildProtocol = build
            raise RuntimeError("not this one")

        self.port.factory.buildProtocol = fail
        self.port.doRead()
        self.assertEqual(1, len(self.built))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_refused(self) -> None:
        """A connection that the factory does not want is closed."""
        client = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(client.close)
        self.port.factory.buildProtocol = lambda address: None
        self.port.doRead()
        self.assertEqual(b"", client.recv(1))
