"""
A proxy in memory: the real downstreams, exchanges, upstreams and transports on sockets that are queues.

L{Loop} is a reactor in the small, driven by the test. The sockets keep what was sent to them until the test takes it,
take no more than they have room for, and can end in every way a real one can. The transports are Twisted's with
L{SendsAtOnce} before them, so producers, half closes and aborts behave as they do in earnest.

After each test L{ProxyCase} checks that nothing is left: no exchange, no count, no timeout, no open connection.
"""

from __future__ import annotations

import errno
import socket as real
import struct
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet import error, main, tcp
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.addresses import parse_url
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.model import Limits, Timeouts
from lemmytx.net.ticker import RESOLUTION, Ticker
from lemmytx.net.transports import SendsAtOnce
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.forward import Forwarding
from lemmytx.proxy.listener import Connections, Listener
from lemmytx.proxy.resource import Rejection, ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost
from lemmytx.proxy.terms import Terms

_numbers = count(1000)
_RESET = struct.pack("ii", 1, 0)
ENOUGH = 1 << 40


class Loop(Clock):
    """The part of a reactor that transports need."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, descriptor: Any) -> None:
        self.readers.add(descriptor)

    def removeReader(self, descriptor: Any) -> None:
        self.readers.discard(descriptor)

    def addWriter(self, descriptor: Any) -> None:
        self.writers.add(descriptor)

    def removeWriter(self, descriptor: Any) -> None:
        self.writers.discard(descriptor)

    def _disconnect(self, descriptor: Any, why: Any, reading: bool) -> None:
        """As C{PosixReactorBase._disconnectSelectable}."""
        self.removeReader(descriptor)
        if why.__class__ is error.ConnectionDone and reading:
            descriptor.readConnectionLost(Failure(main.CONNECTION_DONE))
        else:
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))

    def settle(self) -> None:
        """Serve what is readable and writable, and what is due now, until nothing moves any more."""
        for _ in range(10_000):
            moved = False
            for descriptor in sorted(self.readers, key=_number):
                if descriptor in self.readers and descriptor.socket.readable:
                    moved = True
                    why = descriptor.doRead()
                    if why is not None:
                        self._disconnect(descriptor, why, True)
            for descriptor in sorted(self.writers, key=_number):
                if descriptor in self.writers and descriptor.socket.writable:
                    moved = True
                    why = descriptor.doWrite()
                    if why is not None:
                        self._disconnect(descriptor, why, False)
            if any(call.getTime() <= self.seconds() for call in self.getDelayedCalls()):
                moved = True
                self.advance(0)
            if not moved:
                return
        raise AssertionError("the loop does not come to rest")

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps finer than a tick."""
        steps = int(seconds / RESOLUTION * 2) + 1
        for _ in range(steps):
            self.advance(seconds / steps)
            self.settle()


def _number(descriptor: Any) -> int:
    return int(descriptor.socket.number)


class Socket:
    """
    One end of a connection, as the proxy's transport sees it; the methods in the second half are for the test, which
    is the other end.

    @ivar sent: what was taken from the transport.
    @ivar room: how many bytes it takes from now on.
    @ivar shut: whether the transport has closed its sending half.
    @ivar closed: whether the transport has closed it; C{reset}: with a reset.
    """

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.incoming: deque[bytes | int] = deque()
        self.sent = b""
        self.room = ENOUGH
        self.shut = self.closed = self.reset = False
        self.broken = False

    # What the transport calls

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return self.number

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.incoming:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        first = self.incoming[0]
        if isinstance(first, int):
            raise ConnectionResetError(first, "reset")
        if not flags & real.MSG_PEEK and first:
            self.incoming.popleft()
            if len(first) > size:
                self.incoming.appendleft(first[size:])
        return first[:size]

    def send(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "gone")
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "full")
        taken = bytes(data[: self.room])
        self.sent += taken
        self.room -= len(taken)
        return len(taken)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if option == real.SO_LINGER and value == _RESET:
            self.reset = True

    def shutdown(self, how: int) -> None:
        self.shut = True

    def close(self) -> None:
        self.closed = True

    @property
    def readable(self) -> bool:
        return bool(self.incoming)

    @property
    def writable(self) -> bool:
        return self.room > 0 or self.broken


class Wire(SendsAtOnce, tcp.Connection):
    """A transport on a L{Socket}. Not plain: bytes in memory cannot be spliced."""

    plain = False
    _recv = staticmethod(Socket.recv)  # type: ignore[assignment]  # of a socket that is in memory
    _send = staticmethod(Socket.send)  # type: ignore[assignment]

    def __init__(self, loop: Loop, protocol: Any, address: str = "192.0.2.1") -> None:
        tcp.Connection.__init__(self, Socket(), protocol, loop)  # type: ignore[arg-type]  # as far as it is needed
        self.connected = True
        self._peer = IPv4Address("TCP", address, 40000)

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.254", 80)

    def connectionLost(self, reason: Failure) -> None:
        """As C{tcp.Server}: tell the protocol."""
        if self.disconnected:
            return
        tcp.Connection.connectionLost(self, reason)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class End:
    """The test's end of a connection: a client, or a backend that was connected to."""

    def __init__(self, loop: Loop, wire: Wire) -> None:
        self.loop = loop
        self.wire = wire
        self.socket: Socket = wire.socket  # type: ignore[assignment]  # see Wire

    @property
    def got(self) -> bytes:
        """What has come and was not taken yet."""
        return self.socket.sent

    def take(self) -> bytes:
        """What has come, once."""
        taken, self.socket.sent = self.socket.sent, b""
        return taken

    def send(self, *pieces: bytes) -> None:
        """Send; each piece is one read at the other end."""
        for piece in pieces:
            self.socket.incoming.append(piece)
            self.loop.settle()

    def close(self) -> None:
        """Close the sending half (a whole close looks the same at first)."""
        self.socket.incoming.append(b"")
        self.loop.settle()

    def reset(self) -> None:
        """Vanish."""
        self.socket.incoming.append(errno.ECONNRESET)
        self.socket.broken = True
        self.loop.settle()

    def full(self) -> None:
        """Take no more bytes."""
        self.socket.room = 0

    def drain(self, size: int = ENOUGH) -> None:
        """Take so many more bytes."""
        self.socket.room = size
        self.loop.settle()

    @property
    def fate(self) -> str:
        """What the proxy has done with the connection: C{open}, C{half} closed, C{closed}, C{reset}."""
        if self.socket.reset:
            return "reset"
        if self.socket.closed:
            return "closed"
        return "half" if self.socket.shut else "open"

    @property
    def queued(self) -> int:
        """Bytes that the proxy holds for this end."""
        return len(self.wire.dataBuffer) - self.wire.offset + self.wire._tempDataLen


class Dialled:
    """A connection that the proxy wants to make; C{twisted.internet.interfaces.IConnector} as far as it is used."""

    def __init__(self, network: Network, factory: Any, address: str, port: int, timeout: float) -> None:
        self._network = network
        self._factory = factory
        self.address = address
        self.port = port
        self.timeout = timeout
        self.over = False

    def accept(self) -> End:
        """It stands."""
        assert not self.over
        self.over = True
        self._network.dialled.remove(self)
        arrival = self._factory.buildProtocol(None)
        wire = Wire(self._network.loop, arrival)
        end = End(self._network.loop, wire)
        self._network.ends.append(end)
        wire.startReading()
        arrival.makeConnection(wire)
        self._network.loop.settle()
        return end

    def fail(self, why: Exception | None = None) -> None:
        """It does not."""
        self._end(why or error.ConnectionRefusedError())
        self._network.loop.settle()

    def _end(self, why: Exception) -> None:
        if not self.over:
            self.over = True
            self._network.dialled.remove(self)
            self._factory.clientConnectionFailed(self, Failure(why))

    def disconnect(self) -> None:
        """Twisted: not wanted any more. What else is due must not happen before this returns, as with a reactor."""
        self._end(error.UserError())


class Network:
    """Where backends are."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.dialled: list[Dialled] = []
        self.ends: list[End] = []

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30.0) -> Dialled:
        dialled = Dialled(self, factory, host, port, timeout)
        self.dialled.append(dialled)
        return dialled

    def connectUNIX(self, address: str, factory: Any, timeout: float = 30.0) -> Dialled:
        return self.connectTCP(address, 0, factory, timeout)


class Door:
    """A port that can be paused."""

    connected = True

    def __init__(self) -> None:
        self.open = True

    def stopReading(self) -> None:
        self.open = False

    def startReading(self) -> None:
        self.open = True


GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 00:34:07 GMT\r\nContent-Length: 5\r\n\r\nhello"


def post(size: int, fields: bytes = b"", method: bytes = b"POST") -> bytes:
    """The head of a request with a body of so many bytes."""
    return b"%b /in HTTP/1.1\r\nHost: shop.example\r\n%bContent-Length: %d\r\n\r\n" % (method, fields, size)


def split(message: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """First line, fields (lower-case names; of several the last) and what comes after the head."""
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = (line.split(b": ", 1) for line in lines)
    return first, {name.lower(): value for name, value in pairs}, body


class ProxyCase(SynchronousTestCase):
    """A test with a proxy in memory: one vhost for every host, one cluster."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.ticker = Ticker(self.loop, self.loop.seconds)
        self.ticker.start()
        self.network = Network(self.loop)
        self.clients: list[End] = []
        self.log: list[Exchange] = []
        self.rejections: list[Rejection] = []
        self.compose()

    def compose(
        self,
        backends: int = 1,
        rules: Rules | None = None,
        pool: Pool | None = None,
        scheduler: Any = None,
        max_fails: int = 3,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        forwarding: Forwarding | None = None,
        trusted: Any = (),
        roles: tuple[str, ...] = (),
        capacity: int = 0,
        connections: int = 10_000,
        hosts: tuple[str, ...] = ("*",),
    ) -> None:
        """Build the proxy, in the place of the one that was there, which must have left nothing behind."""
        if self.clients or self.network.ends:
            self.end()
            self.clients.clear()
            self.network.ends.clear()
            self.log.clear()
        pool = pool or Pool()
        self.backends: list[Backend] = []
        for number in range(backends):
            location = parse_url(f"http://10.0.0.{number + 1}:8000")
            backend = Backend(
                f"b{number + 1}",
                location.url,
                location,
                self.network,  # type: ignore[arg-type]  # a double
                Passive(max_fails),
                pool,
                capacity=capacity,
                role=roles[number] if roles else "active",
            )
            backend.addresses = (location.host,)
            self.backends.append(backend)
        self.backend = self.backends[0]
        self.cluster = Cluster("c", self.backends, scheduler or LeastConnections(), rules or Rules(), self.loop.seconds)
        self.vhost = Vhost("all", hosts, [Route("/*", self.cluster)])
        self.resource = ReverseProxyResource(
            Router([self.vhost]), [self.cluster], self.ticker, forwarding, limits, timeouts
        )
        self.resource.record = self.log.append
        self.resource.reject_record = self.rejections.append
        self.connections = Connections(connections)
        self.listener = Listener(self.resource, self.ticker, self.connections, Terms(trusted))
        self.door = Door()
        self.listener.listening(self.door)  # type: ignore[arg-type]  # a double

    def client(self, address: str = "192.0.2.1") -> End:
        """A client connects."""
        downstream = self.listener.buildProtocol(None)
        wire = Wire(self.loop, downstream, address)
        wire.startReading()
        downstream.makeConnection(wire)
        end = End(self.loop, wire)
        self.clients.append(end)
        return end

    def accept(self) -> End:
        """The oldest connection that the proxy wants to make stands."""
        self.assertTrue(self.network.dialled, "no connection is wanted")
        return self.network.dialled[0].accept()

    def refuse(self, why: Exception | None = None) -> None:
        """The oldest connection that the proxy wants to make fails."""
        self.assertTrue(self.network.dialled, "no connection is wanted")
        self.network.dialled[0].fail(why)

    def idle(self) -> tuple[End, End]:
        """A client, and an idle upstream that has served it once."""
        client = self.client()
        client.send(GET)
        backend = self.accept()
        backend.send(OK)
        client.take()
        backend.take()
        self.log.clear()
        return client, backend

    @property
    def ended(self) -> tuple[int, str]:
        """Status and termination of the one exchange that has ended."""
        self.assertEqual(len(self.log), 1, self.log)
        return self.log[0].status, self.log[0].termination

    def tearDown(self) -> None:
        self.end()

    def let_time_pass(self) -> None:
        """Minutes in which nobody says anything, and no backend accepts."""
        while self.network.dialled:
            self.refuse()
        for _ in range(6):
            self.loop.wait(35)
            while self.network.dialled:
                self.refuse()

    def end(self) -> None:
        """End all that is idle, and see that this was all there is."""
        self.loop.settle()
        self.assertEqual(self.resource.exchanges, 0, "exchanges are left")
        self.assertEqual([b.active for b in self.backends], [0] * len(self.backends), "a backend seems busy")
        self.assertEqual(self.cluster.retrying, 0, "retries are left")
        self.assertEqual(self.network.dialled, [], "connections are still wanted")
        pooled = {upstream.transport for backend in self.backends for upstream in backend.idle}
        for end in self.network.ends:
            if end.wire.connected:
                self.assertIn(end.wire, pooled, "an upstream is open and not in the pool")
                self.assertIn(end.wire, self.loop.readers, "an idle upstream is not listened to")
            self.assertIsNone(end.wire.producer)
        for client in self.clients:
            self.assertIsNone(client.wire.producer)
            if client.wire.connected:
                self.assertIn(client.wire, self.loop.readers, "an idle client is not listened to")
            client.reset()
        for backend in self.backends:
            backend.close_idle()
        self.loop.settle()
        self.assertEqual(len(self.ticker), 0, "timeouts of what is gone are left")
        self.assertEqual(self.listener.downstreams, set())
        self.assertEqual(self.connections.count, 0)
        self.assertFalse(any(end.wire.connected for end in [*self.network.ends, *self.clients]))
        self.assertFalse(self.loop.writers | self.loop.readers)


def until(condition: Callable[[], bool], step: Callable[[], None], limit: int = 10_000) -> None:
    """Repeat a step until a condition holds."""
    for _ in range(limit):
        if condition():
            return
        step()
    raise AssertionError("it never came to that")
