"""
WebSockets to backends of HTTP/2 (RFC 8441).
"""

from __future__ import annotations

from tests.proxy.http2_backends import Http2Case, Peer
from tests.proxy.rig import GET, End, split

CANCEL = 8

WEBSOCKET = (
    b"GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: chat\r\n\r\n"
)

#: Text frames of a WebSocket: a client's, masked with zeros, and a server's.
ASKED = b"\x81\x82\0\0\0\0hi"
TOLD = b"\x81\x02yo"


class TunnelTests(Http2Case):
    """Tunnels through a stream."""

    def opened(self) -> tuple[End, Peer, int]:
        """A client and a backend with a WebSocket between them."""
        client, peer = self.warm(ENABLE_CONNECT_PROTOCOL=1)
        client.send(WEBSOCKET)
        stream = peer.last
        peer.head(stream, 200, ("sec-websocket-protocol", "chat"))
        self.assertTrue(client.take().startswith(b"HTTP/1.1 101 "))
        return client, peer, stream

    def test_handshake(self) -> None:
        """An upgrade becomes an extended CONNECT, and its 200 the 101 that the client's key asks for."""
        client, peer = self.warm(ENABLE_CONNECT_PROTOCOL=1)
        client.send(WEBSOCKET)
        asked = peer.asked
        self.assertEqual(
            [asked.field(name) for name in (b":method", b":protocol", b":path", b":scheme", b":authority")],
            [b"CONNECT", b"websocket", b"/chat", b"http", b"shop.example"],
        )
        self.assertEqual(
            [asked.field(b"sec-websocket-" + name) for name in (b"version", b"protocol", b"key")],
            [b"13", b"chat", None],
        )
        self.assertFalse(asked.ended)
        peer.head(peer.last, 200, ("sec-websocket-protocol", "chat"), ("x-served", "yes"))
        first, fields, _ = split(client.got)
        self.assertEqual(first, b"HTTP/1.1 101 Switching Protocols")
        # RFC 6455 §1.3 has this very example.
        self.assertEqual(fields[b"sec-websocket-accept"], b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        self.assertEqual((fields[b"upgrade"].lower(), fields[b"connection"].lower()), (b"websocket", b"upgrade"))
        self.assertEqual((fields[b"sec-websocket-protocol"], fields[b"x-served"]), (b"chat", b"yes"))
        self.assertNotIn(b"transfer-encoding", fields)
        client.reset()

    def test_bothWays(self) -> None:
        """Bytes go both ways, until both sides have ended."""
        client, peer, stream = self.opened()
        client.send(ASKED)
        self.assertEqual(peer.asked.body, ASKED)
        peer.data(stream, TOLD)
        self.assertEqual(client.take(), TOLD)
        peer.data(stream, b"", ended=True)
        self.assertEqual((client.fate, peer.asked.ended), ("half", False))
        client.send(ASKED)
        client.close()
        self.assertEqual((peer.asked.body, peer.asked.ended), (ASKED * 2, True))
        self.assertEqual((self.ended, client.fate), ((101, "ok"), "closed"))
        self.assertEqual((peer.end.fate, len(self.backend.idle)), ("open", 1))

    def test_clientEndsFirst(self) -> None:
        """A client that has said all may still listen."""
        client, peer, stream = self.opened()
        client.close()
        self.assertTrue(peer.asked.ended)
        peer.data(stream, TOLD)
        self.assertEqual(client.take(), TOLD)
        peer.data(stream, TOLD, ended=True)
        self.assertEqual((client.take(), self.ended), (TOLD, (101, "ok")))

    def test_clientGone(self) -> None:
        """A client that vanishes: the stream is cancelled, the connection goes on."""
        client, peer, stream = self.opened()
        client.reset()
        peer.read()
        self.assertEqual((peer.streams[stream].reset, self.ended), (CANCEL, (101, "client_gone")))
        self.assertEqual(peer.end.fate, "open")

    def test_backendResets(self) -> None:
        """A stream that is reset ends the tunnel."""
        _, peer, stream = self.opened()
        peer.reset(stream, CANCEL)
        self.assertEqual(self.ended, (101, "backend_gone"))

    def test_connectionLost(self) -> None:
        """The same when the connection is lost."""
        _, peer, _ = self.opened()
        peer.end.reset()
        self.assertEqual(self.ended, (101, "backend_gone"))

    def test_connectionError(self) -> None:
        """… or broken."""
        _, peer, _ = self.opened()
        peer.frame(6, 0, 0, b"short")
        self.assertEqual(self.ended, (101, "backend_gone"))

    def test_bytesWithTheAnswer(self) -> None:
        """What the backend says at once, and even its end, comes behind the 101."""
        client, peer = self.warm(ENABLE_CONNECT_PROTOCOL=1)
        client.send(WEBSOCKET)
        stream = peer.last
        peer.h2.send_headers(stream, [(":status", "200")])
        peer.h2.send_data(stream, TOLD, end_stream=True)
        peer.send()
        self.assertTrue(client.got.endswith(b"\r\n\r\n" + TOLD))
        self.assertEqual(client.fate, "half")
        client.close()
        self.assertEqual(self.ended, (101, "ok"))

    def test_overAtOnce(self) -> None:
        """A tunnel whose backend has nothing to say is one all the same."""
        client, peer = self.warm(ENABLE_CONNECT_PROTOCOL=1)
        client.send(WEBSOCKET)
        peer.head(peer.last, 200, ended=True)
        self.assertTrue(client.got.startswith(b"HTTP/1.1 101 "))
        self.assertEqual(client.fate, "half")
        client.send(ASKED)
        client.close()
        self.assertEqual((peer.asked.body, self.ended), (ASKED, (101, "ok")))

    def test_refused(self) -> None:
        """A backend may answer with something else, which is an answer like any other."""
        for ended in (True, False):
            client, peer = self.warm(ENABLE_CONNECT_PROTOCOL=1)
            client.send(WEBSOCKET)
            stream = peer.last
            peer.head(stream, 403, ("content-length", "0" if ended else "2"), ended=ended)
            if not ended:
                peer.data(stream, b"no", ended=True)
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 403 Forbidden")
            self.assertEqual(self.ended, (403, "ok"))
            peer.end.reset()
            self.log.clear()

    def test_notOffered(self) -> None:
        """A backend that has not offered it is not asked: 502, and nobody's failure."""
        client, peer = self.warm()
        client.send(WEBSOCKET)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual((self.ended, self.backend.failures), ((502, "no_upgrade"), {}))
        self.assertIn("RFC 8441", self.log[0].why)
        peer.read()
        self.assertEqual(len(peer.streams), 1)
        other = self.client()
        other.send(GET)
        peer.ok()
        self.assertEqual(split(other.got)[2], b"hello")

    def test_notOfferedOnANewConnection(self) -> None:
        """The same when the connection was made for it: it is kept."""
        client = self.client()
        client.send(WEBSOCKET)
        self.peer()
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(len(self.backend.idle), 1)

    def test_slowClient(self) -> None:
        """A client that does not read has the backend wait; and the other way round."""
        client, peer, stream = self.opened()
        peer.greedy = False
        client.full()
        data = b"\x82\x7e\xff\xff" + b"x" * 65535
        sent = 0
        while (room := min(peer.h2.local_flow_control_window(stream), 16384)) and sent < 1 << 20:
            piece = (data * 2)[sent % len(data) :][:room]
            peer.data(stream, piece)
            peer.read()
            sent += len(piece)
        self.assertLess(sent, 400_000)
        client.drain()
        self.assertEqual(len(client.got), sent)
        peer.read()
        self.assertTrue(peer.h2.local_flow_control_window(stream))
        client.take()
        for _ in range(20):
            client.socket.incoming.append(b"\x82\xfe\xff\xff\0\0\0\0" + b"y" * 65535)
        self.loop.settle()
        peer.read()
        self.assertEqual(len(peer.streams[stream].body), 65535)
        self.assertGreater(len(client.socket.incoming), 10)
        peer.acknowledge(stream)
        self.assertGreater(len(peer.streams[stream].body), 65535)
        peer.end.reset()
        self.assertEqual(self.ended, (101, "backend_gone"))

    def test_silence(self) -> None:
        """A tunnel without a byte for C{timeouts.tunnel} ends."""
        _, peer, stream = self.opened()
        self.loop.advance(3000)
        peer.data(stream, TOLD)
        self.loop.advance(3000)
        self.loop.settle()
        self.assertEqual(self.log, [])
        self.loop.advance(1000)
        self.loop.settle()
        self.loop.wait(1)
        self.assertEqual(self.ended, (101, "timeout_tunnel"))

    def test_told(self) -> None:
        """When the process stops both sides are told (1001), and what they answer ends the stream."""
        client, peer, stream = self.opened()
        self.listener.drain()
        self.loop.settle()
        self.assertEqual(client.take(), b"\x88\x02\x03\xe9")
        peer.read()
        self.assertEqual(peer.streams[stream].body[:2], b"\x88\x82")
        client.send(b"\x88\x82\0\0\0\0\x03\xe9")
        peer.data(stream, b"\x88\x02\x03\xe9", ended=True)
        peer.read()
        self.assertEqual(self.ended, (101, "shutdown"))
        self.assertEqual((peer.streams[stream].ended, peer.end.fate), (True, "open"))

    def test_hungUpAndTalking(self) -> None:
        """What a backend says in a tunnel that we have ended is for nobody, and flows; its end is the stream's end."""
        client, peer, stream = self.opened()
        self.listener.drain()
        client.send(b"\x88\x82\0\0\0\0\x03\xe9")
        self.loop.wait(6)
        self.assertEqual(self.ended, (101, "shutdown"))
        for _ in range(20):
            peer.data(stream, b"x" * 16_000)
            peer.read()
        peer.data(stream, b"", ended=True)
        self.loop.wait(11)
        peer.read()
        self.assertEqual((peer.streams[stream].reset, len(self.backend.idle)), (None, 1))

    def test_hungUpAndSilent(self) -> None:
        """A backend that does not end a tunnel that we have ended has its stream cancelled after a while."""
        client, peer, stream = self.opened()
        self.listener.drain()
        client.send(b"\x88\x82\0\0\0\0\x03\xe9")
        self.loop.wait(6)
        self.assertEqual(self.ended, (101, "shutdown"))
        self.loop.wait(11)
        peer.read()
        self.assertEqual((peer.streams[stream].reset, peer.end.fate), (CANCEL, "open"))
