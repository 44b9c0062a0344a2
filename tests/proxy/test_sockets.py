"""Whole exchanges over real sockets, TCP and unix: long bodies both ways, slow and vanishing ends."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from lemmytx.addresses import parse_url
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.net import splice
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.listener import Connections, Listener
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost
from tests.net.pairs import KINDS, NetCase, Recorder, tick
from tests.proxy.rig import GET, OK, post, split

LENGTH = 5_000_000
BODY = (bytes(range(251)) * (LENGTH // 251 + 1))[:LENGTH]


class SocketCase(NetCase):
    """A proxy whose clients and backends the test plays, over sockets of either kind."""

    def setUp(self) -> None:
        super().setUp()
        self.uses: list[int] = []
        self.patch(splice, "_open_pipe", self.counted(splice._open_pipe))

    def build(self, kind: str) -> None:
        """A backend that records, the proxy before it."""
        self.uses.clear()
        self.arrived: list[Recorder] = []
        arrived = self.arrived

        class Arriving(Factory[Recorder]):
            noisy = False

            def buildProtocol(self, addr: object) -> Recorder:
                arrived.append(Recorder())
                return arrived[-1]

        back = self.listen(kind, Arriving()).getHost()
        url = f"http://127.0.0.1:{back.port}" if kind == "tcp" else f"http+unix://{os.fsdecode(back.name)}"
        location = parse_url(url)
        self.backend = Backend("b", location.url, location, self.network, Passive(0), Pool())
        self.backend.addresses = (location.host,) if location.host else ()
        self.cluster = Cluster("c", [self.backend], LeastConnections(), Rules(), time.monotonic)
        self.ticker = Ticker(reactor, time.monotonic)  # type: ignore[arg-type]  # the installed reactor
        self.resource = ReverseProxyResource(
            Router([Vhost("all", ("*",), [Route("/*", self.cluster)])]), [self.cluster], self.ticker
        )
        self.log: list[Exchange] = []
        self.resource.record = self.log.append
        self.listener = Listener(self.resource, self.ticker, Connections(100))
        self.front = self.listen(kind, self.listener).getHost()
        self.kind = kind
        self.clients: list[socket.socket] = []

    def counted(self, opened: Any) -> Any:
        """Note each splice."""

        def counting() -> Any:
            self.uses.append(1)
            return opened()

        return counting

    def client(self) -> socket.socket:
        """A client connects."""
        if self.kind == "tcp":
            made = socket.create_connection(("127.0.0.1", self.front.port))
        else:
            made = socket.socket(socket.AF_UNIX)
            made.connect(self.front.name)
        made.setblocking(False)
        self.clients.append(made)
        return made

    async def send(self, to: socket.socket, data: bytes) -> None:
        """Send as fast as it is taken; stop when nobody takes it any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[to.send(view) :]
            except BlockingIOError:
                await tick()
            except OSError:
                return

    async def read(self, of: socket.socket, length: int, piece: int = 1 << 20) -> bytes:
        """So many bytes, or all until the end."""
        got = bytearray()
        while len(got) < length:
            try:
                data = of.recv(min(piece, length - len(got)))
            except BlockingIOError:
                await tick()
                continue
            except ConnectionResetError:
                break
            if not data:
                break
            got += data
            if piece < 1 << 20:
                await tick()
        return bytes(got)

    async def upstream(self) -> Recorder:
        """The newest connection to the backend."""
        while not self.arrived:
            await tick()
        await self.arrived[-1].connected_
        return self.arrived[-1]

    async def finish(self) -> None:
        """Everything goes, and nothing is left."""
        for client in self.clients:
            client.close()
        while self.listener.downstreams or self.resource.exchanges:
            await tick()
        self.backend.close_idle()
        for arrived in self.arrived:
            await arrived.when(lambda arrived=arrived: arrived.read_closed)  # type: ignore[misc]
        await self.gone(*self.arrived)
        while len(self.ticker):
            await tick()
        self.assertEqual((self.resource.exchanges, self.backend.active), (0, 0))


class BodyTests(SocketCase):
    """Long bodies."""

    async def test_down(self) -> None:
        """5 MB down to a slow reader arrive as they were, past us in the kernel, and the connections go on."""
        for kind in KINDS:
            self.build(kind)
            client = self.client()
            client.send(GET)
            backend = await self.upstream()
            await backend.when(lambda backend=backend: b"\r\n\r\n" in backend.data)  # type: ignore[misc]
            head = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % LENGTH
            backend.transport.write(head + BODY)  # type: ignore[union-attr]  # it is connected
            self.assertTrue(await self.read(client, len(head) + LENGTH, 300_000) == head + BODY)
            self.assertEqual(len(self.uses), 1, kind)
            while not self.log:
                await tick()
            self.assertEqual((self.log[0].sent, self.log[0].termination), (LENGTH, "ok"))
            client.send(GET)
            await backend.when(lambda backend=backend: backend.data.count(b"\r\n\r\n") == 2)  # type: ignore[misc]
            backend.transport.write(OK)  # type: ignore[union-attr]
            self.assertEqual(await self.read(client, len(OK)), OK)
            await self.finish()

    async def test_up(self) -> None:
        """5 MB up to a slow backend arrive as they were, past us in the kernel, and the connections go on."""
        for kind in KINDS:
            self.build(kind)
            client = self.client()
            sending = Deferred.fromCoroutine(self.send(client, post(LENGTH) + BODY + GET))
            backend = await self.upstream()
            backend.transport.pauseProducing()  # type: ignore[union-attr]  # it is connected
            for _ in range(30):
                await tick()
            backend.transport.resumeProducing()  # type: ignore[union-attr]

            def whole(backend: Recorder = backend) -> bool:
                return len(backend.data) - backend.data.find(b"\r\n\r\n") - 4 >= LENGTH

            await backend.when(whole)
            self.assertTrue(split(bytes(backend.data))[2] == BODY)
            self.assertEqual(len(self.uses), 1, kind)
            backend.data.clear()
            backend.transport.write(OK)  # type: ignore[union-attr]
            await backend.when(lambda backend=backend: b"\r\n\r\n" in backend.data)  # type: ignore[misc]
            backend.transport.write(OK)  # type: ignore[union-attr]
            self.assertEqual(await self.read(client, 2 * len(OK)), OK * 2)
            await sending
            self.assertEqual([(e.received, e.termination) for e in self.log], [(LENGTH, "ok"), (0, "ok")])
            await self.finish()

    async def test_clientVanishes(self) -> None:
        """A client that vanishes in the middle takes the upstream along, in either direction."""
        for request, response in (
            (GET, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LENGTH + BODY),
            (post(LENGTH) + BODY[: LENGTH // 2], b""),
        ):
            self.build("tcp")
            client = self.client()
            sending = Deferred.fromCoroutine(self.send(client, request))
            backend = await self.upstream()
            await backend.when(lambda backend=backend: b"\r\n\r\n" in backend.data)  # type: ignore[misc]
            backend.transport.write(response)  # type: ignore[union-attr]  # it is connected
            if response:
                await self.read(client, 1_000_000)
            await sending
            while not self.uses:
                await tick()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            await backend.lost
            self.assertEqual([(e.termination) for e in self.log], ["client_gone"])
            self.assertEqual(self.backend.failures, {})
            await self.finish()

    async def test_backendVanishes(self) -> None:
        """A backend that vanishes in the middle cuts the client, or is answered for with 502."""
        for request, response in (
            (GET, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LENGTH + BODY[: LENGTH // 2]),
            (post(LENGTH) + BODY[: LENGTH // 2], b""),
        ):
            self.build("tcp")
            client = self.client()
            sending = Deferred.fromCoroutine(self.send(client, request))
            backend = await self.upstream()
            await backend.when(lambda backend=backend: b"\r\n\r\n" in backend.data)  # type: ignore[misc]
            backend.transport.write(response)  # type: ignore[union-attr]  # it is connected
            await sending
            while not self.uses:
                await tick()
            if response:
                backend.transport.loseConnection()  # type: ignore[union-attr]
                got = await self.read(client, 2 * LENGTH)
                self.assertLess(len(split(got)[2]), LENGTH)
            else:
                backend.transport.abortConnection()  # type: ignore[union-attr]
                got = await self.read(client, 1 << 16)
                self.assertEqual(split(got)[0], b"HTTP/1.1 502 Bad Gateway")
            self.assertEqual([(e.termination) for e in self.log], ["backend_gone"])
            self.assertEqual(self.backend.failures, {"gone": 1})
            await self.finish()

    async def test_earlyAnswer(self) -> None:
        """An answer in the middle of a long upload is read by a client that goes on sending."""
        self.build("tcp")
        client = self.client()
        sending = Deferred.fromCoroutine(self.send(client, post(LENGTH) + BODY))
        backend = await self.upstream()
        await backend.when(lambda: len(backend.data) > 1000)
        backend.transport.write(OK.replace(b"200 OK", b"413 Content Too Large"))  # type: ignore[union-attr]
        got = await self.read(client, 1 << 16)
        self.assertEqual(split(got)[0], b"HTTP/1.1 413 Content Too Large")
        await sending
        await self.finish()

    async def test_tunnel(self) -> None:
        """A tunnel carries megabytes both ways at once, and ends by halves."""
        for kind in KINDS:
            self.build(kind)
            client = self.client()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            backend = await self.upstream()
            await backend.when(lambda backend=backend: b"\r\n\r\n" in backend.data)  # type: ignore[misc]
            backend.data.clear()
            head = b"HTTP/1.1 101 Switching Protocols\r\nDate: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
            sending = Deferred.fromCoroutine(self.send(client, BODY[:2_000_000]))
            backend.transport.write(head + BODY[:1_000_000])  # type: ignore[union-attr]  # it is connected
            got = await self.read(client, len(head) + 1_000_000)
            self.assertTrue(split(got)[2] == BODY[:1_000_000])
            await sending
            client.shutdown(socket.SHUT_WR)
            await backend.when(lambda backend=backend: backend.read_closed)  # type: ignore[misc]
            self.assertTrue(backend.data == BODY[:2_000_000])
            backend.transport.write(b"last")  # type: ignore[union-attr]
            backend.transport.loseConnection()  # type: ignore[union-attr]
            self.assertEqual(await self.read(client, 100), b"last")
            while not self.log:
                await tick()
            self.assertEqual((self.log[0].status, self.log[0].termination), (101, "ok"))
            await self.finish()

    async def test_failedWrite(self) -> None:
        """A POST that meets a reused connection whose end has been reset goes to a new one."""
        self.build("tcp")
        client = self.client()
        client.send(GET)
        first = await self.upstream()
        await first.when(lambda: b"\r\n\r\n" in first.data)
        first.transport.write(OK)  # type: ignore[union-attr]  # it is connected
        await self.read(client, len(OK))
        while not self.backend.idle:
            await tick()
        # The reset arrives while the proxy does not look: it is told by the write, or by the look before it.
        self.backend.idle[0].transport.pauseProducing()
        first.transport.abortConnection()  # type: ignore[union-attr]
        await first.lost
        client.send(post(4) + b"body")
        while len(self.arrived) < 2:
            await tick()
        second = await self.upstream()
        await second.when(lambda: second.data.endswith(b"body"))
        second.transport.write(OK)  # type: ignore[union-attr]
        self.assertEqual(await self.read(client, len(OK)), OK)
        self.assertEqual(self.backend.failures, {})
        await self.finish()
