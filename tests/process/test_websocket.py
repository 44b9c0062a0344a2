"""
WebSockets as they are used, through a proxy process: large messages, many connections, pings, and every way to end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import ssl

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.certificates import Authority
from tests.process.rig import Lemmy, folder, read
from tests.process.test_tunnel import UPGRADE
from tests.process.websocket import WebSocketCase, code, forget_peak, half_closed, memory, until, vanish

#: A large message, and the pieces that it is sent in.
LARGE = 64 << 20
PIECE = 1 << 20

#: By how much the proxy's memory may grow while a large message goes through it.
GROWTH = 16 << 20

#: Connections at one time.
MANY = 1000


class WebSocketTests(WebSocketCase):
    """In the clear, and by inheritance over TLS."""

    async def logged(self, lemmy: Lemmy, *expected: tuple[int, str]) -> None:
        """Waits until the access log has these lines, of which status and end count; lines come in batches."""

        def lines() -> list[tuple[int, str]]:
            entries = [json.loads(line) for line in read(os.path.join(lemmy.folder, "access")).splitlines()]
            return [(entry["status"], entry["termination"]) for entry in entries]

        await until(lambda: len(lines()) >= len(expected))
        self.assertEqual(list(expected), lines())

    def test_large(self) -> None:
        """A message of 64 MB in fragments comes whole, there and back, and the proxy's memory hardly grows."""
        lemmy = self.lemmy()
        piece = os.urandom(PIECE)
        expected = hashlib.sha256(piece * (LARGE // PIECE)).hexdigest()

        async def scene() -> None:
            async with self.backend(max_size=None, compression=None):
                client = await self.connect(lemmy, max_size=None, compression=None)
                await client.send("first")
                self.assertEqual("first", await client.recv())
                forget_peak(lemmy)
                before = memory(lemmy, "VmRSS")
                await client.send([piece] * (LARGE // PIECE))
                digest = hashlib.sha256()
                async for part in client.recv_streaming():
                    assert isinstance(part, bytes)
                    digest.update(part)
                self.assertEqual(expected, digest.hexdigest())
                self.assertLess(memory(lemmy, "VmHWM") - before, GROWTH)
                await client.close()
            await self.settled(lemmy)

        self.play(scene)

    def test_slow_reader(self) -> None:
        """A client that reads nothing holds the server up; the proxy holds no more than a little of what it sends."""
        lemmy = self.lemmy()
        sent = []

        async def floods(connection: ServerConnection) -> None:
            for _ in range(LARGE // PIECE):
                await connection.send(bytes(PIECE))
                sent.append(PIECE)

        async def scene() -> None:
            async with self.backend(floods, compression=None):
                client = await self.connect(lemmy, max_size=None, compression=None, max_queue=1)
                await client.recv()
                before = memory(lemmy, "VmRSS")
                held = -1
                while held != len(sent):  # until the server has been standing still for a while
                    held = len(sent)
                    await asyncio.sleep(0.3)
                self.assertLess(held, LARGE // PIECE)
                self.assertLess(memory(lemmy, "VmRSS") - before, GROWTH)
                for _ in range(LARGE // PIECE - 1):
                    await client.recv()
                self.assertEqual(LARGE // PIECE, len(sent))
                await client.close()
            await self.settled(lemmy)

        self.play(scene)

    def test_many(self) -> None:
        """1,000 connections at one time are all counted, all answered, and all gone at the end."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                clients: list[ClientConnection] = []
                for start in range(0, MANY, 100):
                    clients += await asyncio.gather(
                        *(self.connect(lemmy, open_timeout=30) for _ in range(start, start + 100))
                    )
                stats = await asyncio.to_thread(lemmy.stats)
                counted = stats["downstreams"], stats["exchanges"], stats["upstreams"]["active"]
                self.assertEqual((MANY, MANY, MANY), counted)
                await asyncio.gather(*(client.send(str(number)) for number, client in enumerate(clients)))
                said = await asyncio.gather(*(client.recv() for client in clients))
                self.assertEqual([str(number) for number in range(MANY)], said)
                await asyncio.gather(*(client.close() for client in clients))
            await self.settled(lemmy)
            await self.logged(lemmy, *[(101, "ok")] * MANY)

        self.play(scene)

    def test_pings(self) -> None:
        """Pings and their pongs go through in both directions, with what is in them."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                server = self.serving[0]
                await (await client.ping(b"from the client"))
                await (await server.ping(b"from the server"))
                # Each is answered by the far end itself: a pong with other contents would answer none of these.
                await asyncio.gather(*[await client.ping(str(number)) for number in range(20)])
                await client.close()
            await self.settled(lemmy)

        self.play(scene)

    def test_client_closes(self) -> None:
        """The client closes first: the server gets its code and reason, and answers."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                await client.close(4001, "enough")
                await self.serving[0].wait_closed()
                self.assertEqual((4001, "enough"), (self.serving[0].close_code, self.serving[0].close_reason))
                self.assertEqual(4001, client.close_code)
            await self.settled(lemmy)
            await self.logged(lemmy, (101, "ok"))

        self.play(scene)

    def test_server_closes(self) -> None:
        """The server closes first: the client gets its code and reason, and answers."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                await self.serving[0].close(4002, "no more")
                self.assertEqual(4002, await code(client))
                self.assertEqual("no more", client.close_reason)
                self.assertEqual(4002, self.serving[0].close_code)
            await self.settled(lemmy)
            await self.logged(lemmy, (101, "ok"))

        self.play(scene)

    def test_client_vanishes(self) -> None:
        """The client is gone without a word: the server's connection ends, too."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                vanish(client)
                await self.serving[0].wait_closed()
                self.assertEqual(1006, self.serving[0].close_code)
            await self.settled(lemmy)

        self.play(scene)

    def test_server_vanishes(self) -> None:
        """The server is gone without a word: the client's connection ends, too, without a closing handshake."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                vanish(self.serving[0])
                self.assertIsNone(await code(client))
            await self.settled(lemmy)

        self.play(scene)

    def test_both_vanish(self) -> None:
        """Fifty pairs whose sides vanish in the same moment, in the middle of a message, leave nothing behind."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend(compression=None):
                clients = [await self.connect(lemmy, compression=None) for _ in range(50)]
                for client, server in zip(clients, list(self.serving), strict=True):
                    client.transport.write(b"\x82\xff\0\0\0\0\0\1\0\0mask" + bytes(30000))  # half of 64 kB
                    server.transport.write(b"\x82\x7f\0\0\0\0\0\1\0\0" + bytes(30000))
                    vanish(client)
                    vanish(server)
            await self.settled(lemmy)

        self.play(scene)

    def test_silent(self) -> None:
        """Nobody speaks: both sides' connections end after C{timeouts.tunnel}; a ping in time is speech."""
        lemmy = self.lemmy(timeouts={"tunnel": "1500ms"})

        async def scene() -> None:
            async with self.backend():
                client, other = await self.connect(lemmy), await self.connect(lemmy)

                async def pings() -> None:
                    while True:
                        await (await other.ping())
                        await asyncio.sleep(0.1)

                pinging = asyncio.create_task(pings())
                await code(client)
                await (await other.ping(b"still there"))
                pinging.cancel()
                await asyncio.wait([pinging])
                await other.close()
            await self.settled(lemmy)
            await self.logged(lemmy, (101, "timeout_tunnel"), (101, "ok"))

        self.play(scene)

    def test_stop(self) -> None:
        """SIGTERM: every WebSocket gets 1001 on both sides, answers, and the process ends long before its patience."""
        lemmy = self.lemmy(timeouts={"drain": 600})

        async def scene() -> None:
            async with self.backend():
                clients = [await self.connect(lemmy) for _ in range(5)]
                lemmy.signal(signal.SIGTERM)
                self.assertEqual([1001] * 5, [await code(client) for client in clients])
                await asyncio.gather(*(server.wait_closed() for server in self.serving))
                self.assertEqual([1001] * 5, [server.close_code for server in self.serving])
                self.assertEqual(0, await asyncio.to_thread(lemmy.ended))
            await self.logged(lemmy, *[(101, "shutdown")] * 5)
            self.assertNotIn("Traceback", lemmy.output())

        self.play(scene)

    def test_capacity(self) -> None:
        """A WebSocket takes a place of the backend's capacity until it ends; the next one is refused as long."""
        lemmy = self.lemmy(cluster={"backends": [{"url": self.url(), "capacity": 1}], "queue": {"limit": 0}})

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                with self.assertRaises(InvalidStatus) as refused:
                    await self.connect(lemmy)
                self.assertEqual(503, refused.exception.response.status_code)
                await client.send("the first is still there")
                await client.recv()
                await client.close()
                await until(lambda: not lemmy.stats()["upstreams"]["active"])
                await (await self.connect(lemmy)).close()
            await self.settled(lemmy)

        self.play(scene)

    def test_limit(self) -> None:
        """A WebSocket counts as one of C{limits.connections} until it ends; the next client waits as long."""
        lemmy = self.lemmy(limits={"connections": 1})

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                waiting = asyncio.create_task(self.connect(lemmy))
                for number in range(10):
                    await client.send(str(number))
                    self.assertEqual(str(number), await client.recv())
                self.assertFalse(waiting.done())
                self.assertEqual(1, (await asyncio.to_thread(lemmy.stats))["downstreams"])
                await client.close()
                await (await waiting).close()
            await self.settled(lemmy)

        self.play(scene)

    def test_refused(self) -> None:
        """What the server says instead of an upgrade reaches the client, and the connection is one for requests."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend(origins=["https://other.example"]):
                with self.assertRaises(InvalidStatus) as refused:
                    await self.connect(lemmy, origin="https://wrong.example")
                self.assertEqual(403, refused.exception.response.status_code)
            await self.settled(lemmy)

        self.play(scene)


class BackendTests(WebSocketCase):
    """Other servers than those of the scenes above."""

    def test_secure(self) -> None:
        """The server speaks TLS: a WebSocket goes there as any request does, and a large message comes whole."""
        where, authority = folder(self), Authority()
        certificate = authority.issue(["127.0.0.1"]).write(where)
        tls = {"ca": authority.write(where)}
        lemmy = self.lemmy(cluster={"backends": [self.url("https")], "tls": tls})
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        message = os.urandom(8 << 20)

        async def scene() -> None:
            async with self.backend(ssl=context, max_size=None, compression=None):
                client = await self.connect(lemmy, max_size=None, compression=None)
                sending = asyncio.create_task(client.send(message))
                self.assertTrue(message == await client.recv())
                await sending
                await self.serving[0].close(4002)
                self.assertEqual(4002, await code(client))
                client = await self.connect(lemmy)
                vanish(self.serving[1])
                self.assertIsNone(await code(client))
            await self.settled(lemmy)

        self.play(scene)

    def test_late(self) -> None:
        """A message that crosses the other side's close is no error of anybody."""
        lemmy = self.lemmy()

        async def closes(connection: ServerConnection) -> None:
            try:
                await connection.recv()
                await connection.close(1000)
            except ConnectionClosed:
                return

        async def scene() -> None:
            async with self.backend(closes):
                client = await self.connect(lemmy)
                for _ in range(3):
                    await client.send("x" * 100)
                self.assertEqual(1000, await code(client))
            await self.settled(lemmy)

        self.play(scene)


class SecureWebSocketTests(WebSocketTests):
    """All of it over TLS."""

    secure = True

    def test_half_close(self) -> None:
        """The end of the client's half of TLS reaches the server, whose last words still reach the client."""
        lemmy = self.lemmy()

        async def last_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            writer.write(b"you said: " + await reader.read())
            writer.close()

        async def scene() -> None:
            async with await asyncio.start_server(last_words, sock=self.listening.dup()):
                said = await asyncio.to_thread(half_closed, lemmy.port, self.authority, UPGRADE, b"all")
                self.assertTrue(said.endswith(b"\r\n\r\nyou said: all"), said)
            await self.settled(lemmy)

        self.play(scene)

    def test_rubbish(self) -> None:
        """A record that nobody can decrypt ends the tunnel on both sides."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.connect(lemmy)
                raw = client.transport.get_extra_info("socket")
                os.write(raw.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
                await self.serving[0].wait_closed()
                self.assertEqual(1006, self.serving[0].close_code)
                self.assertIsNone(await code(client))
            await self.settled(lemmy)

        self.play(scene)
