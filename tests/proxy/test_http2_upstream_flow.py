"""
Flow control between clients and backends of HTTP/2: who is slow holds up itself, nobody else, and nothing grows.
"""

from __future__ import annotations

from lemmytx.cluster.rules import Rules
from lemmytx.proxy.http2_upstream import WINDOW
from tests.proxy.http2_backends import Http2Case, Peer
from tests.proxy.rig import GET, post, split

CANCEL = 8
LARGE = bytes(range(256)) * 2048  # 512 kB


class ResponseTests(Http2Case):
    """Clients that do not keep up."""

    def pour(self, peer: Peer, stream: int, data: bytes) -> int:
        """Sends as much as there is a window for; says how much that was."""
        done = 0
        while done < len(data):
            room = min(peer.h2.local_flow_control_window(stream), 16384, len(data) - done)
            if not room:
                break
            peer.data(stream, data[done : done + room])
            peer.read()
            done += room
        return done

    def test_large(self) -> None:
        """A client that reads gets all of a long response."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        peer.head(stream, 200, ("content-length", str(len(LARGE))))
        self.assertEqual(self.pour(peer, stream, LARGE), len(LARGE))
        peer.data(stream, b"", ended=True)
        self.assertEqual(split(client.got)[2], LARGE)
        self.assertEqual(self.ended, (200, "ok"))

    def test_slowClient(self) -> None:
        """A client that does not read stops its stream within a window; when it reads again, so does the rest flow."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        peer.head(stream, 200, ("content-length", str(len(LARGE))))
        client.full()
        done = self.pour(peer, stream, LARGE)
        self.assertLess(done, 2 * WINDOW)
        self.assertEqual(self.pour(peer, stream, LARGE[done:]), 0)
        self.assertLessEqual(client.queued, 2 * WINDOW)
        other = self.client()
        other.send(GET)
        peer.ok(body=b"x" * 50_000)
        self.assertEqual(len(split(other.got)[2]), 50_000)
        while done < len(LARGE):
            client.drain()
            peer.read()
            more = self.pour(peer, stream, LARGE[done:])
            self.assertTrue(more)
            done += more
        peer.data(stream, b"", ended=True)
        self.assertEqual(split(client.got)[2], LARGE)

    def test_slowClientIsNoSlowBackend(self) -> None:
        """A backend that may not send because of its client is not late; the client is."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        peer.head(stream, 200, ("content-length", str(len(LARGE))))
        client.full()
        self.pour(peer, stream, LARGE)
        self.loop.wait(31)
        self.assertEqual((client.fate, self.ended), ("reset", (200, "client_gone")))
        peer.read()
        self.assertEqual((peer.streams[stream].reset, self.backend.failures), (CANCEL, {}))

    def test_endWhileSlow(self) -> None:
        """A response that is whole before its client has read it leaves the stream, and the client reads on."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        client.full()
        body = LARGE[:100_000]
        peer.head(stream, 200, ("content-length", str(len(body))))
        self.assertEqual(self.pour(peer, stream, body), len(body))
        peer.data(stream, b"", ended=True)
        self.assertEqual(self.backend.active, 0)
        client.drain()
        self.assertEqual(split(client.got)[2], body)

    def test_padding(self) -> None:
        """Padding counts against the window, and is given back with the rest."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        peer.head(stream, 200)
        for _ in range(2000):
            peer.h2.send_data(stream, b"x" * 100, pad_length=200)
            peer.send()
            peer.read()
        peer.data(stream, b"", ended=True)
        self.assertEqual(client.got.count(b"x" * 100), 2000)


class RequestTests(Http2Case):
    """Backends that do not keep up."""

    def test_large(self) -> None:
        """A long body goes through as the backend's windows allow, and arrives as it was."""
        client, peer = self.warm()
        client.send(post(len(LARGE)), *(LARGE[at : at + 50_000] for at in range(0, len(LARGE), 50_000)))
        peer.read()
        self.assertTrue(peer.asked.body == LARGE)
        self.assertTrue(peer.asked.ended)
        peer.ok()
        self.assertEqual((split(client.got)[2], self.log[0].received), (b"hello", len(LARGE)))

    def test_largeWithTrailers(self) -> None:
        """Trailers come behind the last byte, however long that waits for room."""
        client, peer = self.warm()
        client.send(b"POST /in HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"%x\r\n%b\r\n0\r\nX-Sum: 7\r\n\r\n" % (len(LARGE), LARGE))
        peer.read()
        self.assertTrue(peer.asked.body == LARGE)
        self.assertEqual((peer.asked.trailers, peer.asked.ended), ([(b"x-sum", b"7")], True))
        peer.ok()

    def test_slowBackend(self) -> None:
        """A backend that gives no window has the client wait; other streams go on; what is held is bounded."""
        client, peer = self.warm()
        # The connection's window is shared: a backend that would not have one stream stop the others gives it back.
        peer.h2.increment_flow_control_window(1 << 24)
        peer.send()
        peer.greedy = False
        client.send(post(len(LARGE)))
        stream = peer.last
        sent = 0
        for at in range(0, len(LARGE), 50_000):
            client.socket.incoming.append(LARGE[at : at + 50_000])
        self.loop.settle()
        peer.read()
        self.assertEqual(len(peer.streams[stream].body), 65535)
        self.assertNotIn(client.wire, self.loop.readers)
        self.assertGreater(sum(map(len, client.socket.incoming)), len(LARGE) - 200_000)
        other = self.client()
        other.send(post(1000) + b"x" * 1000)
        self.assertTrue(peer.asked.ended)
        peer.ok()
        self.assertEqual(split(other.got)[2], b"hello")
        while not peer.streams[stream].ended:
            peer.acknowledge(stream)
            sent += 1
            self.assertLess(sent, 100)
        self.assertTrue(peer.streams[stream].body == LARGE)
        peer.ok(stream)
        self.assertEqual(split(client.got)[2], b"hello")

    def test_sharedWindow(self) -> None:
        """When the connection's window opens, all that wait have a part of it."""
        _, peer = self.warm()
        peer.h2.update_settings({4: 1 << 20})
        peer.send()
        peer.read()
        peer.greedy = False
        clients = [self.client() for _ in range(4)]
        for client in clients:
            client.send(post(100_000) + b"x" * 100_000)
        peer.read()
        streams = sorted(peer.streams)[-4:]
        self.assertEqual(sum(len(peer.streams[stream].body) for stream in streams), 65535)
        peer.h2.increment_flow_control_window(100_000)
        peer.send()
        peer.read()
        before = [len(peer.streams[stream].body) for stream in streams]
        self.assertEqual(sum(before), 165_535)
        self.assertTrue(all(before), before)
        peer.h2.increment_flow_control_window(1 << 24)
        peer.send()
        peer.read()
        for stream in streams:
            self.assertTrue(peer.streams[stream].ended)
            peer.ok(stream)

    def test_smallerWindow(self) -> None:
        """A backend may make windows smaller in the middle, below zero even."""
        client, peer = self.warm()
        peer.greedy = False
        client.send(post(100_000) + b"x" * 50_000)
        stream = peer.last
        peer.h2.update_settings({4: 1000})
        peer.send()
        peer.read()
        client.send(b"x" * 50_000)
        peer.read()
        self.assertEqual(len(peer.streams[stream].body), 50_000)
        peer.h2.update_settings({4: 1 << 20})
        peer.h2.increment_flow_control_window(1 << 20)
        peer.send()
        peer.read()
        self.assertTrue(peer.streams[stream].ended)
        peer.ok()

    def test_fullSocket(self) -> None:
        """A socket that takes nothing has clients wait like a window does; what is held is bounded."""
        client, peer = self.warm()
        peer.h2.increment_flow_control_window(1 << 24)
        peer.h2.update_settings({4: 1 << 24})
        peer.send()
        peer.read()
        peer.end.full()
        client.send(post(len(LARGE)))
        for at in range(0, len(LARGE), 50_000):
            client.socket.incoming.append(LARGE[at : at + 50_000])
        self.loop.settle()
        self.assertLess(peer.end.queued, 200_000)
        self.assertNotIn(client.wire, self.loop.readers)
        peer.end.drain()
        peer.read()
        self.loop.settle()
        peer.read()
        self.assertTrue(peer.asked.body == LARGE)
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")

    def test_takesNothing(self) -> None:
        """A backend that takes nothing of a body for the time to write: 504, for that stream alone."""
        self.compose(rules=Rules(write=5))
        self.multiplex()
        client, peer = self.warm()
        peer.greedy = False
        client.send(post(200_000) + b"x" * 100_000)
        stream = peer.last
        self.loop.wait(4)
        self.assertEqual(client.got, b"")
        self.loop.wait(2)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 504 Gateway Timeout")
        peer.read()
        self.assertEqual((peer.streams[stream].reset, self.ended), (CANCEL, (504, "timeout_read")))
        peer.h2.increment_flow_control_window(100_000)
        peer.greedy = True
        other = self.client()
        other.send(post(10) + b"x" * 10)
        peer.ok()
        self.assertEqual(split(other.got)[2], b"hello")

    def test_takesLittle(self) -> None:
        """A backend that takes a little now and then is slow, and has the time it needs."""
        self.compose(rules=Rules(write=5, read=10))
        self.multiplex()
        client, peer = self.warm()
        peer.h2.increment_flow_control_window(1 << 24)
        peer.greedy = False
        client.send(post(200_000) + b"x" * 100_000, b"x" * 100_000)
        stream = peer.last
        for _ in range(20):
            self.loop.wait(4)
            peer.h2.increment_flow_control_window(5000, stream)
            peer.send()
            peer.read()
        self.assertEqual(client.got, b"")
        peer.h2.increment_flow_control_window(200_000, stream)
        peer.send()
        self.assertTrue(peer.streams[peer.last].ended)
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")

    def test_answerWhileWaiting(self) -> None:
        """An answer while the body waits for room: the stream is cancelled and nothing more of it is sent."""
        client, peer = self.warm()
        peer.greedy = False
        client.send(post(100_000) + b"x" * 100_000)
        stream = peer.last
        peer.ok(stream)
        peer.read()
        self.assertEqual((split(client.got)[2], self.ended), (b"hello", (200, "ok")))
        self.assertEqual((peer.streams[stream].reset, peer.streams[stream].ended), (CANCEL, False))

    def test_bidirectional(self) -> None:
        """Both directions of one exchange flow at the same time, as gRPC's streams do."""
        client, peer = self.warm()
        client.send(b"POST /in HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        stream = peer.last
        peer.head(stream, 200)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 200 OK"))
        for number in range(5):
            client.send(b"2\r\nq%d\r\n" % number)
            peer.read()
            self.assertEqual(peer.asked.body[-2:], b"q%d" % number)
            peer.data(stream, b"a%d" % number)
            self.assertEqual(client.take(), b"2\r\na%d\r\n" % number)
        client.send(b"0\r\n\r\n")
        peer.read()
        self.assertTrue(peer.asked.ended)
        peer.trailers(stream, ("grpc-status", "0"))
        self.assertEqual(client.take(), b"0\r\ngrpc-status: 0\r\n\r\n")

    def test_talkative(self) -> None:
        """A backend that asks for a sign of life now and then may do so for hours, on a connection that is in use."""
        self.compose(rules=Rules(read=1e6))
        self.multiplex()
        client, peer = self.warm()
        client.send(GET)
        for _ in range(1500):
            self.loop.advance(10)
            peer.h2.ping(b"01234567")
            peer.send()
            peer.read()
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")
