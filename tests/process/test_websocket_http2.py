"""
WebSockets in streams of HTTP/2 (RFC 8441) through a proxy process, to a backend that knows nothing of that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from tests.process.http2_client import Http2Client, WebSocket
from tests.process.rig import Lemmy
from tests.process.websocket import WebSocketCase, memory, until, vanish

#: WebSockets at one time in one connection, under the 128 streams that a client may have.
MANY = 100


class Http2Case(WebSocketCase):
    """Each scene has one connection from its client to the proxy."""

    def listener(self) -> dict[str, object]:
        """HTTP/2 is chosen in the handshake of TLS; without TLS the client begins with it."""
        return {**super().listener(), "http2": True}

    async def client(self, lemmy: Lemmy) -> Http2Client:
        """A connection."""
        tls = ssl.create_default_context(cafile=self.authority) if self.secure else None
        client = await Http2Client.connect(lemmy.port, tls)
        self.assertTrue(client.extended_connect)
        return client

    @asynccontextmanager
    async def connected(self, lemmy: Lemmy, *served: Any, **more: Any) -> AsyncIterator[Http2Client]:
        """A connection while there is a backend, served so; when it has been closed, nothing is left of anything."""
        async with self.backend(*served, **more):
            client = await self.client(lemmy)
            yield client
            await client.close()
        await self.settled(lemmy)

    async def opened(self, client: Http2Client, path: str = "/") -> WebSocket:
        """A WebSocket that has been used."""
        made = await client.websocket(path)
        self.assertEqual(200, await made.stream.answered(), made.stream.fields)
        await made.send("hello")
        self.assertEqual(b"hello", await made.receive())
        return made


class ClearTests(Http2Case):
    """Without TLS."""

    def test_used(self) -> None:
        """A WebSocket and requests share a connection that has begun with HTTP/2 by itself."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made = await self.opened(client)
                self.assertEqual(426, await (await client.get()).answered())
                self.assertEqual(1000, await made.close())
                self.assertEqual("closed", await made.stream.over())

        self.play(scene)


class SecureTests(Http2Case):
    """Over TLS."""

    secure = True

    def test_used(self) -> None:
        """A WebSocket opens with 200, without the fields of an upgrade, and carries messages and pings both ways."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made = await self.opened(client, "/chat?room=1")
                self.assertEqual("/chat?room=1", self.serving[0].request and self.serving[0].request.path)
                for name in ("connection", "upgrade", "sec-websocket-accept", "transfer-encoding", "content-length"):
                    self.assertNotIn(name, made.stream.fields)
                await made.ping(b"from the client")
                pong = await self.serving[0].ping(b"from the server")
                await made.frame()
                await pong
                self.assertEqual(4001, await made.close(4001, "enough"))
                await made.stream.finish()
                self.assertEqual("closed", await made.stream.over())

        self.play(scene)

    def test_name(self) -> None:
        """C{WebSocket} is C{websocket} (RFC 9110 §7.8), as proxies in front pass it on that were asked for that."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made = await client.websocket(protocol="WebSocket")
                self.assertEqual(200, await made.stream.answered())
                await made.ping(b"there")

        self.play(scene)

    def test_large(self) -> None:
        """8 MB each way go through the windows of flow control whole."""
        lemmy = self.lemmy()
        message = os.urandom(8 << 20)

        async def scene() -> None:
            async with self.connected(lemmy, max_size=None, compression=None) as client:
                made = await self.opened(client)
                sending = asyncio.create_task(made.send(message))
                self.assertTrue(message == await made.receive())
                await sending

        self.play(scene)

    def test_many(self) -> None:
        """100 WebSockets in one connection are 100 exchanges of one downstream, and requests go on between them."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                all_of_them = [await self.opened(client, f"/{number}") for number in range(MANY)]
                stats = await asyncio.to_thread(lemmy.stats)
                counted = stats["downstreams"], stats["exchanges"], stats["upstreams"]["active"]
                self.assertEqual((1, MANY, MANY), counted)
                # The backend speaks nothing but WebSocket: its 426 is an answer as good as any.
                self.assertEqual(426, await (await client.get()).answered())
                await asyncio.gather(*(made.send(str(number)) for number, made in enumerate(all_of_them)))
                said = [await made.receive() for made in all_of_them]
                self.assertEqual([str(number).encode() for number in range(MANY)], said)

        self.play(scene)

    def test_server_closes(self) -> None:
        """The server closes first: its code comes, then the end of the stream; the connection stays."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made, other = await self.opened(client), await self.opened(client)
                closing = asyncio.create_task(self.serving[0].close(4002, "no more"))
                self.assertEqual(4002, await made.closed())
                self.assertEqual("closed", await made.stream.over())
                await made.stream.finish()  # the server waits for the end of the other half
                await closing
                self.assertEqual(4002, self.serving[0].close_code)
                await other.ping(b"still there")

        self.play(scene)

    def test_client_resets(self) -> None:
        """A stream that the client resets ends its server's connection, and no other one."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made, other = await self.opened(client), await self.opened(client)
                await made.stream.reset()
                await self.serving[0].wait_closed()
                await other.ping(b"still there")

        self.play(scene)

    def test_server_vanishes(self) -> None:
        """A server that is gone without a word resets its stream, or ends it without a close frame; no other one."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made, other = await self.opened(client), await self.opened(client)
                vanish(self.serving[0])
                self.assertIn(await made.stream.over(), ("reset", "closed"))
                self.assertEqual(b"", made.stream.received)
                await other.ping(b"still there")

        self.play(scene)

    def test_client_vanishes(self) -> None:
        """A connection that is gone without a word ends the server's connections of all its streams."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.client(lemmy)
                for _ in range(10):
                    await self.opened(client)
                await client.vanish()
                await asyncio.gather(*(server.wait_closed() for server in self.serving))
                self.assertEqual({1006}, {server.close_code for server in self.serving})
            await self.settled(lemmy)

        self.play(scene)

    def test_both_vanish(self) -> None:
        """Both sides gone in the same moment leave nothing behind."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.backend():
                client = await self.client(lemmy)
                for _ in range(10):
                    await self.opened(client)
                for server in self.serving:
                    vanish(server)
                await client.vanish()
            await self.settled(lemmy)

        self.play(scene)

    def test_slow(self) -> None:
        """A WebSocket whose client reads nothing holds its own server up, and no other stream, and is not kept."""
        lemmy = self.lemmy()
        size = 32 << 20

        async def floods(connection: ServerConnection) -> None:
            try:
                async for message in connection:
                    await connection.send(message if message == "hello" else bytes(size))
            except ConnectionClosed:
                return

        async def scene() -> None:
            async with self.connected(lemmy, floods, compression=None) as client:
                slow, other = await self.opened(client), await self.opened(client)
                slow.stream.reading = False
                before = memory(lemmy, "VmRSS")
                await slow.send("flood")
                # The window of the stream runs out; what is confirmed on the other one is another matter.
                await client.until(lambda: len(slow.stream.received) >= 60_000)
                for _ in range(100):
                    await other.send("hello")
                    self.assertEqual(b"hello", await other.receive())
                self.assertLess(len(slow.stream.received), 1 << 20)
                self.assertLess(memory(lemmy, "VmRSS") - before, 16 << 20)
                slow.stream.reading = True
                slow.stream.confirm()
                await client.flush()
                self.assertEqual(size, len(await slow.receive()))

        self.play(scene)

    def test_half_close(self) -> None:
        """The end of the client's half reaches the server, whose last words still reach the client."""
        lemmy = self.lemmy()

        async def last_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = request.lower().index("sec-websocket-key: ") + len("sec-websocket-key: ")
            accept = accept_key(request[key : request.index("\r\n", key)])
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
            writer.write(f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
            writer.write(b"you said: " + await reader.read())
            writer.close()

        async def scene() -> None:
            async with await asyncio.start_server(last_words, sock=self.listening.dup()):
                client = await self.client(lemmy)
                stream = (await client.websocket()).stream
                self.assertEqual(200, await stream.answered())
                await stream.send(b"all")
                await stream.finish()
                self.assertEqual("closed", await stream.over())
                self.assertEqual(b"you said: all", stream.received)
                await client.close()
            await self.settled(lemmy)

        self.play(scene)

    def test_silent(self) -> None:
        """Nobody speaks: after C{timeouts.tunnel} the stream ends, and the server's connection; not the client's."""
        lemmy = self.lemmy(timeouts={"tunnel": "500ms"})

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made = await self.opened(client)
                await made.stream.over()
                await self.serving[0].wait_closed()
                self.assertEqual(426, await (await client.get()).answered())

        self.play(scene)

    def test_stop(self) -> None:
        """SIGTERM: every WebSocket gets 1001 on both sides, the client a GOAWAY, and the process ends at once."""
        lemmy = self.lemmy(timeouts={"drain": 600})

        async def scene() -> None:
            async with self.backend():
                client = await self.client(lemmy)
                all_of_them = [await self.opened(client) for _ in range(5)]
                lemmy.signal(signal.SIGTERM)
                self.assertEqual([1001] * 5, [await made.closed() for made in all_of_them])
                await asyncio.gather(*(server.wait_closed() for server in self.serving))
                self.assertEqual([1001] * 5, [server.close_code for server in self.serving])
                self.assertEqual({"closed"}, {await made.stream.over() for made in all_of_them})
                self.assertEqual(0, await asyncio.to_thread(lemmy.ended))
                self.assertEqual(0, client.terminated)
                await client.close()
            self.assertNotIn("Traceback", lemmy.output())

        self.play(scene)

    def test_capacity(self) -> None:
        """A WebSocket takes a place of the backend's capacity until its stream ends."""
        lemmy = self.lemmy(cluster={"backends": [{"url": self.url(), "capacity": 1}], "queue": {"limit": 0}})

        async def scene() -> None:
            async with self.connected(lemmy) as client:
                made = await self.opened(client)
                self.assertEqual(503, await (await client.websocket()).stream.answered())
                await made.stream.reset()
                await until(lambda: not lemmy.stats()["upstreams"]["active"])
                await self.opened(client)

        self.play(scene)

    def test_refused(self) -> None:
        """What the server says instead of an upgrade is the answer; another protocol, or none, is refused here."""
        lemmy = self.lemmy()

        async def scene() -> None:
            async with self.connected(lemmy, origins=["https://other.example"]) as client:
                wrong = await client.websocket(more=[("origin", "https://wrong.example")])
                self.assertEqual(403, await wrong.stream.answered())
                right = await client.websocket(more=[("origin", "https://other.example")])
                self.assertEqual(200, await right.stream.answered())
                count = len(self.serving)
                other = await client.websocket(protocol="other")
                self.assertIn(await other.stream.answered(), (0, 400, 501))
                tunnel = await client.request([(":method", "CONNECT"), (":authority", "a.example:443")], ended=False)
                self.assertIn(await tunnel.answered(), (0, 400, 405, 501))
                self.assertEqual(count, len(self.serving))

        self.play(scene)
