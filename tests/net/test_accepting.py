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
from lemmytx.net.turns import IN_VAIN, WAIT, Board, Turns


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


class PortCase(SynchronousTestCase):
    """A test with a port that it calls as the reactor would."""

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
        if self.port.connected:
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


class AcceptingTests(PortCase):
    """L{accepting.AcceptsWhileOpen}, where nobody else accepts from the socket."""

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


class SharedTests(PortCase):
    """A port whose socket others accept from, too."""

    def setUp(self) -> None:
        super().setUp()
        self.board = Board(4)
        self.addCleanup(self.board.close)
        self.turns = Turns(self.board, 0, self.reactor)
        self.other = Turns(self.board, 1, self.reactor)
        self.other.opened(self)
        self.port.share(self.turns)

    def ahead(self) -> None:
        """The other one should go first."""
        self.turns.connected(10)

    def reading(self) -> bool:
        """Whether it looks at the socket."""
        return self.port in self.reactor.readers

    def accepted(self) -> int:
        """How many this process has accepted, as the board has it."""
        return self.board.rows()[0].accepted

    def test_never_waits_in_accept(self) -> None:
        """Somebody else can have taken what the reactor saw: then nothing happens, whatever the socket was like."""
        self.port.socket.setblocking(True)
        self.port.share(self.turns)
        self.port.doRead()
        self.assertEqual(([], True), (self.built, self.reading()))

    def test_accepts(self) -> None:
        """When it is not ahead it accepts at once, and the board says so."""
        self.clients(2)
        self.port.doRead()
        self.assertEqual((2, 2), (len(self.built), self.accepted()))

    def test_others_first(self) -> None:
        """When it is ahead it leaves the socket alone for a moment; what is left then, one of it is taken."""
        self.clients(3)
        self.ahead()
        self.port.doRead()
        self.assertEqual((0, False), (len(self.built), self.reading()))
        client, _ = self.port.socket.accept()
        client.close()
        self.other.accepted()
        self.reactor.advance(WAIT)
        self.assertEqual(1, len(self.built))
        # The other one has come, so it is its turn once more.
        self.assertFalse(self.reading())
        self.reactor.advance(WAIT)
        self.assertEqual((True, 2), (self.reading(), len(self.built)))

    def test_taken(self) -> None:
        """When the other one has taken it there is nothing to do, and the next one is for the other again."""
        self.clients(1)
        self.ahead()
        self.port.doRead()
        client, _ = self.port.socket.accept()
        client.close()
        self.other.accepted()
        self.reactor.advance(WAIT)
        self.assertEqual((0, True), (len(self.built), self.reading()))
        self.clients(1)
        self.port.doRead()
        self.assertEqual((0, False), (len(self.built), self.reading()))

    def test_nobody_comes(self) -> None:
        """When the other one does not come, this one goes on without it for a few, and for more after the next wait."""
        self.clients(IN_VAIN + 1 + IN_VAIN * 2 + 1)
        self.ahead()
        self.port.doRead()
        self.reactor.advance(WAIT)
        self.assertEqual((1 + IN_VAIN, False), (len(self.built), self.reading()))
        self.reactor.advance(WAIT)
        self.assertEqual((1 + IN_VAIN + 1 + IN_VAIN * 2, False), (len(self.built), self.reading()))
        self.reactor.advance(WAIT)
        self.assertEqual((1 + IN_VAIN + 1 + IN_VAIN * 2, True), (len(self.built), self.reading()))
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_held_while_others_go_first(self) -> None:
        """When it is told to stop meanwhile, it stays so; nobody waits for it then."""
        self.clients(1)
        self.ahead()
        self.port.doRead()
        self.port.stopReading()
        self.assertFalse(self.board.rows()[0].accepting)
        self.reactor.advance(WAIT)
        self.assertEqual((0, False), (len(self.built), self.reading()))
        self.port.startReading()
        self.assertTrue(self.board.rows()[0].accepting)
        self.assertTrue(self.reading())

    def test_closed_while_others_go_first(self) -> None:
        """A port that is closed meanwhile leaves nothing behind, and nobody waits for it."""
        self.clients(1)
        self.ahead()
        self.port.doRead()
        self.port.stopListening()
        self.reactor.advance(WAIT)
        self.assertEqual(([], False), (self.reactor.getDelayedCalls(), self.reading()))
        self.assertFalse(self.board.rows()[0].accepting)

    def test_a_few(self) -> None:
        """In one turn of the reactor a few are accepted; as many as ever where nobody else accepts."""
        self.clients(accepting.SHARED_ACCEPTS_A_TURN + 3)
        self.other.connected(100)
        self.port.doRead()
        self.assertEqual(accepting.SHARED_ACCEPTS_A_TURN, len(self.built))
        self.port.doRead()
        self.assertEqual(accepting.SHARED_ACCEPTS_A_TURN + 3, len(self.built))
        self.other.closed(self)
        self.clients(accepting.SHARED_ACCEPTS_A_TURN + 3)
        self.port.doRead()
        self.assertEqual(2 * accepting.SHARED_ACCEPTS_A_TURN + 6, len(self.built))

    def test_no_room(self) -> None:
        """Before each one it is asked whether there is room."""
        self.clients(3)
        self.turns.room = lambda: len(self.built) < 2
        self.port.doRead()
        self.assertEqual(2, len(self.built))

    def test_not_shared_any_more(self) -> None:
        """A port that is taken away from the board accepts as one that is alone, and nobody waits for it."""
        self.ahead()
        self.port.share(None)
        self.assertFalse(self.board.rows()[0].accepting)
        self.clients(1)
        self.port.doRead()
        self.assertEqual(1, len(self.built))
