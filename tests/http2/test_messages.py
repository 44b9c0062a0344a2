"""Messages: requests, responses, trailers, informational ones, tunnels; streams and the end of a connection."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http2 import codec, frames
from lemmytx.http2.frames import END_HEADERS
from lemmytx.http2.hpack import Decoder
from lemmytx.http2.streams import ENDED, RESET_BY_PEER, RESET_BY_US, Past
from tests.http2.rig import Player, data, described, frame, get, headers, opening, parsed, rst, words

_GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: a.example\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\n\r\n"
_HEAD = b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n"


def pair(bounds: codec.Bounds | None = None, extended: bool = False) -> tuple[codec.Connection, codec.Connection]:
    """A client and a server that have greeted each other."""
    client = codec.Connection(True)
    server = codec.Connection(False, bounds or codec.Bounds(), extended)
    client.start()
    server.start()
    for _ in range(2):
        server.receive(client.take())
        client.receive(server.take())
    return client, server


class ServerTests(SynchronousTestCase):
    """Requests in, responses out."""

    def test_exchange(self) -> None:
        """A small exchange is one event, and one HEADERS and one DATA."""
        player = Player()
        player.feed(get(1))
        self.assertEqual(player.happened(), [("Request", True, _HEAD, None, 1)])
        self.assertEqual(player.connection._events, [])  # nothing is held while the connection is idle
        self.assertEqual(player.connection.streams, 1)
        player.connection.respond(1, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", False)
        player.connection.send(1, b"hello", True)
        self.assertEqual(words(player.connection.take()), ["HEADERS 1", "DATA 1 END"])
        self.assertEqual(player.connection.streams, 0)
        self.assertEqual(player.connection.take(), b"")

    def test_body(self) -> None:
        """A body comes as it is sent, and ends with its last DATA or with its trailers."""
        player = Player()
        player.feed(opening(1) + data(1, b"ab") + data(1, b"c") + headers(1, [(b"x", b"y"), (b"host", b"b")]))
        player.feed(opening(3) + data(3, b"d") + data(3, b"", True))
        self.assertEqual(
            player.happened()[1:4],
            [("Data", b"ab", False, 2, 1), ("Data", b"c", False, 1, 1), ("Trailers", b"x: y\r\n", 1)],
        )
        self.assertEqual(player.happened()[5:], [("Data", b"d", False, 1, 3), ("Data", b"", True, 0, 3)])

    def test_informational(self) -> None:
        """Informational responses may come before the final one, and end nothing, whatever is asked for."""
        player = Player()
        player.feed(get(1))
        player.connection.respond(1, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", True)
        player.connection.respond(1, b"HTTP/1.1 103 Early Hints\r\n\r\n", False)
        player.connection.respond(1, _OK, True)
        self.assertEqual(words(player.connection.take()), ["HEADERS 1", "HEADERS 1", "HEADERS 1 END"])

    def test_trailers(self) -> None:
        """Trailers end a response; none are an empty DATA."""
        player = Player()
        player.feed(get(1) + get(3))
        for stream, lines in ((1, b"grpc-status: 0\r\n"), (3, b"")):
            player.connection.respond(stream, _OK, False)
            player.connection.trailers(stream, lines)
        self.assertEqual(words(player.connection.take()), ["HEADERS 1", "HEADERS 1 END", "HEADERS 3", "DATA 3 END"])
        self.assertEqual(player.connection.streams, 0)

    def test_stream_gone(self) -> None:
        """Nothing can be sent on a stream that is not there, has been reset, or has been ended by us."""
        player = Player()
        player.feed(opening(1) + opening(3) + rst(3))
        player.connection.respond(1, _OK, True)
        player.connection.take()
        for stream in (1, 3, 5):
            self.assertRaises(codec.StreamGone, player.connection.respond, stream, _OK, True)
            self.assertRaises(codec.StreamGone, player.connection.send, stream, b"", True)
            self.assertRaises(codec.StreamGone, player.connection.trailers, stream, b"x: y\r\n")
        self.assertEqual(player.connection.take(), b"")

    def test_early_answer(self) -> None:
        """After an answer the request's body still comes, until the stream is reset."""
        player = Player()
        player.feed(opening(1))
        player.connection.respond(1, _OK, True)
        player.feed(data(1, b"x"))
        self.assertEqual(player.happened()[-1], ("Data", b"x", False, 1, 1))
        player.connection.reset(1, codec.NO_ERROR)
        player.feed(data(1, b"y", True))
        self.assertEqual(len(player.events), 2)
        self.assertEqual(player.words(), ["HEADERS 1 END", "RST_STREAM 1 NO_ERROR"])

    def test_reset_by_client(self) -> None:
        """A stream that the client resets is gone, with its code."""
        player = Player()
        player.feed(get(1) + rst(1, codec.CANCEL))
        self.assertEqual(player.happened()[-1], ("Reset", codec.CANCEL, False, 1))
        self.assertEqual(player.connection.streams, 0)
        player.connection.reset(1, codec.CANCEL)
        self.assertEqual(player.connection.take(), b"")

    def test_large_head(self) -> None:
        """A head that is larger than a frame goes out in several, and comes in from several."""
        client, server = pair()
        # Characters that Huffman makes no smaller.
        lines = b"".join(b"x-%d: %b\r\n" % (number, b"~{}\\^" * 900) for number in range(6))
        client.request(_GET[:-2] + lines + b"\r\n", True)
        sent = client.take()
        kinds = [kind for kind, _, _, _ in parsed(sent)]
        self.assertEqual(kinds, [frames.HEADERS] + [frames.CONTINUATION] * (len(kinds) - 1))
        self.assertGreater(len(kinds), 1)
        flags = [flags for _, flags, _, _ in parsed(sent)]
        self.assertEqual(flags, [frames.END_STREAM] + [0] * (len(kinds) - 2) + [END_HEADERS])
        events = server.receive(sent)
        self.assertEqual(described(events)[0][2], _HEAD[:-2] + lines + b"te: trailers\r\n\r\n")

    def test_whole_frames(self) -> None:
        """A header block that fills its frames to the last byte ends with the last of them."""
        player = Player()
        player.connection._put_block(1, bytes(32768), False)
        self.assertEqual([(kind, flags) for kind, flags, _, _ in parsed(player.connection.take())],
                         [(frames.HEADERS, 0), (frames.CONTINUATION, END_HEADERS)])  # fmt: skip

    def test_medium_head(self) -> None:
        """A head that is larger than a byte can count, and not larger than a frame, goes out in one."""
        for size in (500, 1000, 5000):
            client, server = pair()
            client.request(_GET, True)
            server.receive(client.take())
            lines = b"x: %b\r\n" % (b"~{}\\^" * (size // 5))
            server.respond(1, b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n", True)
            sent = server.take()
            self.assertEqual(len(parsed(sent)), 1)
            head = b"HTTP/1.1 200 OK\r\n" + lines + b"content-length: 0\r\n\r\n"
            self.assertEqual(described(client.receive(sent)), [("Response", True, head, 1)])

    def test_compression_without_table(self) -> None:
        """A peer that has no room for a table of ours gets heads that need none."""
        player = Player(settings=frames.settings({frames.HEADER_TABLE_SIZE: 0}))
        player.feed(get(1) + get(3))
        decoder = Decoder(table_size=0)
        for stream in (1, 3):
            player.connection.respond(stream, b"HTTP/1.1 200 OK\r\nserver: origin\r\n\r\n", True)
            block = parsed(player.connection.take())[0][3]
            self.assertEqual(decoder.decode(block), [(b":status", b"200"), (b"server", b"origin")])

    def test_oversized(self) -> None:
        """A list beyond the bounds can be answered, and the next one is understood."""
        for bounds in (codec.Bounds(header_list=200), codec.Bounds(fields=5)):
            player = Player(bounds=bounds)
            player.feed(get(1, *[(b"x", b"yyyyyyyyy")] * 3) + get(3))
            self.assertEqual(player.happened(), [("Oversized", True, 1), ("Request", True, _HEAD, None, 3)])
            player.connection.respond(1, b"HTTP/1.1 431 x\r\n\r\n", True)
            player.feed(opening(5, *[(b"x", b"yyyyyyyyy")] * 3))
            player.connection.respond(5, b"HTTP/1.1 431 x\r\n\r\n", True)
            player.connection.reset(5, codec.NO_ERROR)
            self.assertEqual(
                words(player.out + player.connection.take()),
                ["HEADERS 1 END", "HEADERS 5 END", "RST_STREAM 5 NO_ERROR"],
            )

    def test_oversized_trailers(self) -> None:
        """Trailers beyond the bounds reset the stream."""
        player = Player(bounds=codec.Bounds(fields=5))
        player.feed(opening(1) + headers(1, [(b"x", b"y")] * 6))
        self.assertEqual(player.words(), ["RST_STREAM 1 ENHANCE_YOUR_CALM"])

    def test_bound_of_streams(self) -> None:
        """Streams beyond the bound are refused and can be sent again; the others do not notice."""
        player = Player(bounds=codec.Bounds(streams=2))
        player.feed(get(1) + get(3) + get(5))
        self.assertEqual(player.words(), ["RST_STREAM 5 REFUSED_STREAM"])
        self.assertEqual([event.stream for event in player.events if isinstance(event, codec.Request)], [1, 3])
        # What was under way for it is ignored.
        player.out = b""
        player.feed(data(5, b"x", True) + headers(5, [(b"x", b"y")]) + rst(5))
        self.assertEqual(player.words(), [])
        player.connection.respond(1, _OK, True)
        player.feed(get(7))
        self.assertEqual(player.happened()[-1], ("Request", True, _HEAD, None, 7))

    def test_refused_keeps_compression(self) -> None:
        """A refused request's head still counts for header compression."""
        client, server = pair(codec.Bounds(streams=1))
        client.peer_streams = 10  # as if it had not heard
        for number in range(3):
            client.request(_GET[:-2] + b"x-number: %d\r\n\r\n" % number, True)
        events = server.receive(client.take())
        self.assertEqual([type(event) for event in events], [codec.Request])
        server.respond(1, _OK, True)
        client.receive(server.take())
        client.request(_GET[:-2] + b"x-number: 2\r\n\r\n", True)
        self.assertIn(b"x-number: 2\r\n", described(server.receive(client.take()))[0][2])

    def test_websocket(self) -> None:
        """An extended CONNECT is a tunnel: DATA both ways, either side may end its own, and trailers are an error."""
        self.assertFalse(pair()[0].peer_extended_connect)
        client, server = pair(extended=True)
        self.assertTrue(client.peer_extended_connect)
        head = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        stream = client.request(head, False, b"websocket")
        event = server.receive(client.take())[0]
        assert isinstance(event, codec.Request)
        self.assertEqual((event.ended, event.protocol), (False, b"websocket"))
        server.respond(stream, _OK, False)
        server.send(stream, b"down", False)
        self.assertEqual(
            described(client.receive(server.take())),
            [("Response", False, _OK, stream), ("Data", b"down", False, 4, stream)],
        )
        client.send(stream, b"up", True)
        self.assertEqual(described(server.receive(client.take())), [("Data", b"up", True, 2, stream)])
        server.send(stream, b"more", True)
        self.assertEqual(described(client.receive(server.take())), [("Data", b"more", True, 4, stream)])
        self.assertEqual((client.streams, server.streams), (0, 0))
        refused = client.request(head, False, b"websocket")
        server.receive(client.take())
        server.respond(refused, b"HTTP/1.1 300 x\r\ncontent-length: 1\r\n\r\n", False)
        server.send(refused, b"x", False)
        server.trailers(refused, b"x: y\r\n")
        names = [type(event) for event in client.receive(server.take())]
        self.assertEqual(names, [codec.Response, codec.Data, codec.Trailers])
        client.reset(refused, codec.CANCEL)
        tunnel = client.request(head, False, b"websocket")
        server.receive(client.take())
        server.respond(tunnel, _OK, False)
        server.trailers(tunnel, b"x: y\r\n")
        self.assertEqual(described(client.receive(server.take()))[-1], ("Reset", codec.PROTOCOL_ERROR, True, tunnel))
        other = client.request(head, False, b"websocket")
        client.trailers(other, b"x: y\r\n")
        self.assertEqual(described(server.receive(client.take()))[-1], ("Reset", codec.PROTOCOL_ERROR, True, other))

    def test_other_protocol(self) -> None:
        """An extended CONNECT for a protocol that is not WebSocket is answered 501 without anybody being asked."""
        client, server = pair(extended=True)
        stream = client.request(_GET, False, b"connect-udp")
        self.assertEqual(server.receive(client.take()), [])
        events = client.receive(server.take())
        self.assertEqual(described(events)[0][2], b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\n\r\n")
        self.assertEqual(described(events)[1], ("Reset", codec.NO_ERROR, False, stream))

    def test_repr(self) -> None:
        """A connection tells its state."""
        player = Player()
        player.feed(get(1))
        self.assertEqual(repr(player.connection), "<server Connection open, 1 streams>")
        player.connection.drain()
        self.assertEqual(repr(player.connection), "<server Connection draining, 1 streams>")
        player.feed(rst(0))
        self.assertEqual(repr(player.connection), "<server Connection terminated, 0 streams>")


class EndTests(SynchronousTestCase):
    """How a connection ends."""

    def test_drain(self) -> None:
        """A server that drains says the last stream that it takes, finishes those, and refuses later ones."""
        player = Player()
        player.feed(get(1) + get(3))
        player.connection.goaway(last=(1 << 31) - 1)
        player.feed(get(5))
        player.connection.drain()
        player.connection.drain()
        sent = parsed(player.out + player.connection.take())
        self.assertEqual([(kind, payload) for kind, _, _, payload in sent], [
            (frames.GOAWAY, b"\x7f\xff\xff\xff\0\0\0\0"), (frames.GOAWAY, b"\0\0\0\5\0\0\0\0"),
        ])  # fmt: skip
        player.out = b""
        player.feed(get(7))
        self.assertEqual(player.words(), ["RST_STREAM 7 REFUSED_STREAM"])
        for stream in (1, 3, 5):
            player.connection.respond(stream, _OK, True)
        self.assertEqual(player.connection.streams, 0)

    def test_drained_burst(self) -> None:
        """A client that had many requests under way when the server began to drain has done nothing wrong."""
        player = Player()
        player.connection.drain()
        player.feed(b"".join(get(stream) for stream in range(1, 401, 2)))
        self.assertFalse(player.connection.terminated)

    def test_goaway_from_server(self) -> None:
        """A client learns which of its requests were never looked at, and begins no other."""
        client, server = pair()
        for _ in range(3):
            client.request(_GET, True)
        server.receive(client.take())
        server.goaway(codec.ENHANCE_YOUR_CALM, 3)
        self.assertEqual(described(client.receive(server.take())), [("GoneAway", codec.ENHANCE_YOUR_CALM, 3)])
        self.assertTrue(client.draining)
        self.assertEqual(client.streams, 2)
        self.assertEqual(client.room(5), 0)
        self.assertRaises(codec.StreamGone, client.request, _GET, True)
        server.respond(1, _OK, True)
        server.respond(5, _OK, False)
        server.send(5, b"x", True)
        self.assertEqual([event.stream for event in client.receive(server.take())], [1])
        self.assertEqual(client.take(), b"")

    def test_goaway_with_more(self) -> None:
        """What a GOAWAY has beyond its code is of no interest."""
        player = Player()
        player.feed(frame(frames.GOAWAY, 0, 0, b"\0\0\0\7\x81\0\0\1because"))
        self.assertEqual(player.happened(), [("GoneAway", 0x81000001, 7)])

    def test_terminated(self) -> None:
        """After a connection error all streams are gone, GOAWAY says how far we came, and nothing is heard."""
        player = Player()
        player.feed(get(1) + get(7) + rst(0) + get(9))
        kind, reason = player.happened()[-1][1:]
        self.assertEqual(kind, codec.PROTOCOL_ERROR)
        self.assertIn("section 6.4", str(reason))
        self.assertEqual(player.out[-8:-4], (7).to_bytes(4, "big"))
        self.assertEqual(player.feed(get(9)), [])
        self.assertRaises(codec.StreamGone, player.connection.respond, 1, _OK, True)
        self.assertEqual(player.connection.take(), b"")

    def test_past(self) -> None:
        """Of the streams before, the last 256 of each kind are remembered, and never more than twice as many."""
        for how in (ENDED, RESET_BY_PEER, RESET_BY_US):
            past = Past()
            for number in range(1, 4001, 2):
                past.add(number, how)
            self.assertEqual({past.how(number) for number in range(3489, 4001, 2)}, {how})
            known = [number for number in range(4001) if past.how(number)]
            self.assertLessEqual(len(known), 512)
            self.assertLessEqual(sum(len(getattr(past, name)) for name in past.__slots__), 512)

    def test_many_forgotten(self) -> None:
        """What came to its end long ago is forgotten, but still not open."""
        player = Player()
        for stream in range(1, 2001, 2):
            player.feed(get(stream))
            player.connection.respond(stream, _OK, True)
            player.connection.take()
        player.feed(frames.window_update(1, 1) + rst(1))
        self.assertFalse(player.connection.terminated)
        player.feed(get(1))
        self.assertTrue(player.connection.terminated)


class ClientTests(SynchronousTestCase):
    """Requests out, responses in."""

    def test_exchange(self) -> None:
        """A small exchange, with trailers both ways and something informational."""
        client, server = pair()
        stream = client.request(_POST, False)
        client.send(stream, b"question", False)
        client.trailers(stream, b"x: y\r\n")
        self.assertEqual(
            described(server.receive(client.take())),
            [
                ("Request", False, _HEAD.replace(b"GET", b"POST")[:-2] + b"te: trailers\r\n"
                 b"transfer-encoding: chunked\r\n\r\n", None, 1),
                ("Data", b"question", False, 8, 1),
                ("Trailers", b"x: y\r\n", 1),
            ],
        )  # fmt: skip
        server.respond(stream, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", False)
        server.respond(stream, _OK, False)
        server.send(stream, b"answer", False)
        server.trailers(stream, b"grpc-status: 0\r\n")
        self.assertEqual(
            described(client.receive(server.take())),
            [
                ("Response", False, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", 1),
                ("Response", False, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 1),
                ("Data", b"answer", False, 6, 1),
                ("Trailers", b"grpc-status: 0\r\n", 1),
            ],
        )
        self.assertEqual((client.streams, server.streams), (0, 0))
        self.assertEqual(client.request(_GET, True), 3)

    def test_head(self) -> None:
        """An answer to HEAD has no body, whatever its length says, and one that has is refused."""
        client, server = pair()
        head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
        for data_too in (b"", b"x"):
            stream = client.request(head, True)
            server.receive(client.take())
            server.respond(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", False)
            server.send(stream, data_too, True)
            events = described(client.receive(server.take()))
            self.assertEqual(events[0], ("Response", False, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", stream))
            expected = ("Reset", codec.PROTOCOL_ERROR, True, stream) if data_too else ("Data", b"", True, 0, stream)
            self.assertEqual(events[1:], [expected])

    def test_bound_of_streams(self) -> None:
        """A client opens as many streams as the server takes: a hundred before it has said, any number if it says
        nothing."""
        self.assertEqual(codec.Connection(True).peer_streams, 100)
        self.assertGreater(Player(client=True).connection.peer_streams, 1 << 30)
        client, server = pair(codec.Bounds(streams=2))
        self.assertEqual(client.peer_streams, 2)
        client.request(_GET, True)
        client.request(_GET, True)
        self.assertRaises(codec.StreamGone, client.request, _GET, True)
        server.receive(client.take())
        server.respond(1, _OK, True)
        client.receive(server.take())
        self.assertEqual(client.request(_GET, True), 5)

    def test_last_stream(self) -> None:
        """When all stream identifiers have been used no other stream can be opened."""
        client = Player(client=True).connection
        client._next = (1 << 31) - 1
        self.assertEqual(client.request(_GET, True), (1 << 31) - 1)
        self.assertRaises(codec.StreamGone, client.request, _GET, True)

    def test_refused(self) -> None:
        """A stream that the server refuses is told with its code."""
        client = Player(client=True)
        client.connection.request(_GET, True)
        client.feed(rst(1, codec.REFUSED_STREAM))
        self.assertEqual(client.happened(), [("Reset", codec.REFUSED_STREAM, False, 1)])

    def test_oversized_response(self) -> None:
        """A response whose fields are beyond our bounds resets its stream, and the next is understood."""
        player = Player(client=True, bounds=codec.Bounds(fields=4))
        player.connection.request(_GET, True)
        player.connection.request(_GET, True)
        player.connection.take()
        player.feed(headers(1, [(b":status", b"200"), *[(b"x", b"y")] * 4]) + headers(3, [(b":status", b"204")]))
        self.assertEqual(
            player.happened(),
            [("Reset", codec.ENHANCE_YOUR_CALM, True, 1), ("Response", True, b"HTTP/1.1 204 No Content\r\n\r\n", 3)],
        )

    def test_many_resets(self) -> None:
        """A server that answers wrongly again and again loses those streams, not the connection."""
        player = Player(client=True)
        for _ in range(300):
            stream = player.connection.request(_GET, True)
            player.connection.take()
            player.feed(headers(stream, [(b"x", b"y")]))
        self.assertEqual(len(player.events), 300)
        self.assertFalse(player.connection.terminated)

    def test_late_answers(self) -> None:
        """What comes for streams that the client gave up is ignored, however long ago that was."""
        player = Player(client=True)
        player.connection.request(_GET, True)
        player.connection.reset(1, codec.CANCEL)
        for stream in range(3, 2003, 2):
            player.connection.request(_GET, True)
            player.feed(headers(stream, [(b":status", b"204")]))
        player.feed(headers(1, [(b":status", b"200")], END_HEADERS) + data(1, b"x", True))
        for _ in range(600):
            player.connection.reset(player.connection.request(_GET, True), codec.CANCEL)
        player.feed(headers(1, [(b":status", b"200")], END_HEADERS))
        self.assertFalse(player.connection.terminated)
        self.assertEqual(len(player.events), 1000)

    def test_ping(self) -> None:
        """A PING of ours is told when it is answered."""
        client, server = pair()
        client.ping()
        self.assertEqual(server.receive(client.take()), [])
        answer = server.take()
        self.assertEqual(described(client.receive(answer)), [("Ponged",)])
        self.assertEqual(client.receive(answer), [])

    def test_scheme(self) -> None:
        """All requests of a connection have its scheme."""
        for scheme in (b"http", b"https"):
            client = codec.Connection(True, scheme=scheme)
            client.request(_GET, True)
            block = parsed(client.take())[0][3]
            self.assertIn((b":scheme", scheme), Decoder().decode(block))

    def test_continuations(self) -> None:
        """A server's head may come in several frames, like a client's."""
        player = Player(client=True)
        player.connection.request(_GET, True)
        whole = headers(1, [(b":status", b"204")])[9:]
        player.feed(frame(frames.HEADERS, 1, 1, whole[:3]) + frame(frames.CONTINUATION, END_HEADERS, 1, whole[3:]))
        self.assertEqual(player.happened(), [("Response", True, b"HTTP/1.1 204 No Content\r\n\r\n", 1)])
