"""Transports that send at once."""

from __future__ import annotations

import socket

from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net import transports
from tests.net.pairs import KINDS, NetCase, tick
from tests.proxy.rig import End, Loop, Wire


class WriteTests(SynchronousTestCase):
    """Writing, with a socket that does as it is told."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.wire = Wire(self.loop, Protocol())
        self.end = End(self.loop, self.wire)

    def test_atOnce(self) -> None:
        """What the socket takes is gone when write returns."""
        self.wire.write(b"hello")
        self.assertEqual((self.end.got, self.wire.quiet, self.wire.queued), (b"hello", True, 0))
        self.assertEqual((self.loop.writers, self.wire.behind), (set(), False))

    def test_inPart(self) -> None:
        """The rest waits, and everything after it waits behind it, in order."""
        self.end.socket.room = 3
        self.wire.write(b"hello")
        self.assertEqual((self.end.got, self.wire.quiet, self.wire.queued), (b"hel", False, 2))
        self.end.socket.room = 100
        self.wire.write(b" world")
        self.assertEqual((self.end.got, self.wire.queued, self.wire.behind), (b"hel", 8, True))
        self.loop.settle()
        self.assertEqual((self.end.got, self.wire.quiet, self.wire.queued), (b"hello world", True, 0))
        self.wire.write(b"!")
        self.assertEqual(self.end.got, b"hello world!")

    def test_nothingTaken(self) -> None:
        """A full socket takes nothing and loses nothing."""
        self.end.full()
        self.wire.write(b"hello")
        self.assertFalse(self.wire.failed_write)
        self.end.drain()
        self.assertEqual(self.end.got, b"hello")

    def test_empty(self) -> None:
        """Nothing is nothing."""
        self.wire.write(b"")
        self.assertEqual((self.end.got, self.loop.writers), (b"", set()))

    def test_failed(self) -> None:
        """A write to a connection that is gone does not raise; the loss is told by the reactor, once."""
        reasons = []

        class Ending(Protocol):
            def connectionLost(self, reason: object = None) -> None:
                reasons.append(reason)

        self.wire.protocol = Ending()
        self.end.socket.broken = True
        self.wire.write(b"hello")
        self.assertEqual((self.wire.failed_write, reasons), (True, []))
        self.loop.settle()
        self.assertEqual(len(reasons), 1)
        self.wire.write(b"more")
        self.loop.settle()
        self.assertEqual((len(reasons), self.end.got), (1, b""))

    def test_closing(self) -> None:
        """What is queued gets out before the connection closes."""
        self.end.socket.room = 2
        self.wire.write(b"hello")
        self.wire.loseConnection()
        self.loop.settle()
        self.assertEqual(self.end.fate, "open")
        self.end.drain()
        self.assertEqual((self.end.got, self.end.fate), (b"hello", "closed"))

    def test_sequence(self) -> None:
        """A sequence waits behind what is queued, and what is written after it behind the sequence."""
        self.end.socket.room = 3
        self.wire.write(b"hello")
        self.end.socket.room = 100
        self.wire.writeSequence([b" ", b"wor"])
        self.wire.write(b"ld")
        self.loop.settle()
        self.assertEqual(self.end.got, b"hello world")

    def test_aborted(self) -> None:
        """After an abort nothing is sent that would follow on a gap."""
        self.end.socket.room = 3
        self.wire.write(b"hello")
        self.wire.abortConnection()
        self.end.socket.room = 100
        self.wire.write(b"late")
        self.assertEqual(self.end.got, b"hel")
        self.loop.settle()
        self.assertEqual(self.end.got, b"hel")

    def test_halfClosed(self) -> None:
        """After the half close nothing more is sent."""
        self.wire.write(b"hello")
        self.wire.loseWriteConnection()
        self.loop.settle()
        self.wire.write(b"late")
        self.loop.settle()
        self.assertEqual((self.end.got, self.end.fate), (b"hello", "half"))


class ReadTests(SynchronousTestCase):
    """Reading."""

    def test_readsGrow(self) -> None:
        """A read that fills its buffer is followed by larger ones; small messages do not cost that."""
        sizes = []

        class Receiving(Protocol):
            def dataReceived(self, data: bytes) -> None:
                sizes.append(len(data))

        loop = Loop()
        wire = Wire(loop, Receiving())
        end = End(loop, wire)
        wire.startReading()
        end.send(b"x" * 1000)
        self.assertEqual(wire.read_size, transports.SMALL_READ)
        end.send(b"x" * 400_000)
        self.assertEqual(sizes, [1000, 65536, 262144, 72320])


class SocketTests(NetCase):
    """The same on real sockets, TCP and unix."""

    async def test_exactBytes(self) -> None:
        """Megabytes in both directions at once arrive as they were sent."""
        for kind in KINDS:
            server, client = await self.pair(kind)
            there = bytes(range(256)) * 8000
            back = bytes(reversed(range(256))) * 7000
            for at in range(0, len(there), 50_000):
                client.transport.write(there[at : at + 50_000])  # type: ignore[union-attr]  # it is connected
                server.transport.write(back[at : at + 50_000])  # type: ignore[union-attr]
            await server.when(lambda server=server, there=there: len(server.data) >= len(there))  # type: ignore[misc]
            await client.when(lambda client=client, back=back: len(client.data) >= len(back))  # type: ignore[misc]
            self.assertTrue(server.data == there and client.data == back, kind)

    async def test_kinds(self) -> None:
        """Both ends are ours, and their options can be set as on any other."""
        for kind, accepted, made in (
            ("tcp", transports.Server, transports.Client),
            ("unix", transports.UnixServer, transports.UnixClient),
        ):
            server, client = await self.pair(kind)
            self.assertIsInstance(server.transport, accepted)
            self.assertIsInstance(client.transport, made)
            client.transport.setTcpNoDelay(True)  # type: ignore[union-attr]  # it is connected

    async def test_noDelay(self) -> None:
        """Accepted connections have Nagle's delay off."""
        server, _ = await self.pair("tcp")
        handle = server.transport.getHandle()  # type: ignore[union-attr]  # it is connected
        self.assertTrue(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def test_backPressure(self) -> None:
        """A peer that does not read pauses the producer; when it has read everything, it is resumed."""
        for kind in KINDS:
            server, other = await self.raw(kind)
            server.transport.registerProducer(server, True)  # type: ignore[union-attr]  # it is connected
            total = 0
            while not server.pauses:
                server.transport.write(b"x" * 100_000)  # type: ignore[union-attr]
                total += 100_000
            self.assertEqual(server.resumes, 0)
            other.setblocking(False)
            while total:
                try:
                    total -= len(other.recv(1 << 20))
                except BlockingIOError:
                    await tick()
            await server.when(lambda server=server: server.resumes == 1)  # type: ignore[misc]
            server.transport.unregisterProducer()  # type: ignore[union-attr]

    async def test_peerVanishes(self) -> None:
        """A write to a peer that has reset the connection ends in a loss, never in an exception."""
        for kind in KINDS:
            server, other = await self.raw(kind)
            server.transport.pauseProducing()  # type: ignore[union-attr]  # so that only the write can tell
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            other.close()
            while not server.lost.called:
                server.transport.write(b"x" * 1000)  # type: ignore[union-attr]
                await tick()
            self.assertTrue(server.reason is not None and server.reason.check(ConnectionLost), kind)

    async def test_halfClose(self) -> None:
        """One direction ends, the other goes on."""
        for kind in KINDS:
            server, client = await self.pair(kind)
            client.transport.write(b"x" * 1_000_000)  # type: ignore[union-attr]  # it is connected
            client.transport.loseWriteConnection()  # type: ignore[union-attr]
            await server.when(lambda server=server: server.read_closed)  # type: ignore[misc]
            self.assertEqual(len(server.data), 1_000_000)
            server.transport.write(b"answer")  # type: ignore[union-attr]
            await client.when(lambda client=client: client.data == b"answer")  # type: ignore[misc]


class CallsTests(SynchronousTestCase):
    """L{lemmytx.net._calls}: what the standard library's calls do, on real sockets."""

    if transports.recv is socket.socket.recv:
        skip = "no extension was compiled here; the standard library's calls are used"

    def setUp(self) -> None:
        self.one, self.other = socket.socketpair()
        for end in (self.one, self.other):
            end.setblocking(False)
            self.addCleanup(end.close)

    def test_through(self) -> None:
        """What is sent comes, short or long, whatever kind of bytes it is."""
        for size in (1, 1000, 16 * 1024, 16 * 1024 + 1, 65536):
            for kind in (bytes, bytearray, memoryview):
                data = kind(b"%d" % (size % 10) * size)
                self.assertEqual(transports.send(self.one, data), size)
                got = b""
                while len(got) < size:
                    got += transports.recv(self.other, 200_000 if len(got) else 65536)
                self.assertEqual(got, bytes(data))

    def test_part(self) -> None:
        """No more is read than was asked for, and the end is no bytes."""
        transports.send(self.one, b"hello")
        self.assertEqual([transports.recv(self.other, 3), transports.recv(self.other, 3)], [b"hel", b"lo"])
        self.one.close()
        self.assertEqual(transports.recv(self.other, 3), b"")

    def test_errors(self) -> None:
        """Errors are those of the standard library; a closed socket's number is not used again."""
        self.assertRaises(BlockingIOError, transports.recv, self.other, 10)
        with self.assertRaises(BlockingIOError):
            while True:
                transports.send(self.one, b"x" * 10_000)
        self.other.close()
        self.assertRaises(BrokenPipeError, transports.send, self.one, b"x")
        self.one.close()
        for call, argument in ((transports.send, b"x"), (transports.recv, 10)):
            self.assertRaises((OSError, ValueError), call, self.one, argument)  # type: ignore[operator]
