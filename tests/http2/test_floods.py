"""
Floods: what costs a peer little and us more is bounded, with the code that says so; heavy but honest use is not.

Each flood is played twenty thousand times or until the connection ends, and must have ended it long before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http2 import codec, frames
from lemmytx.http2.frames import END_HEADERS, END_STREAM
from tests.http2.rig import GET, POST, Player, block, data, frame, get, headers, opening, rst, words

_OK = b"HTTP/1.1 200 OK\r\n\r\n"
_PING = frame(frames.PING, 0, 0, bytes(8))
_CALM = "GOAWAY ENHANCE_YOUR_CALM"


def _streams() -> Iterator[int]:
    return iter(range(1, 1 << 31, 2))


def _rapid_reset() -> Iterator[bytes]:
    for stream in _streams():
        yield get(stream) + rst(stream)


def _malformed() -> Iterator[bytes]:
    for stream in _streams():
        yield headers(stream, [(b"x", b"y")])


def _made_to_reset(how: Callable[[int], bytes]) -> Iterator[bytes]:
    for stream in _streams():
        yield opening(stream) + how(stream)


def _many(piece: bytes, front: bytes = b"") -> Iterator[bytes]:
    yield front
    while True:
        yield piece


# What it is; what is sent; after how many pieces the connection must be at its end.
FLOODS: list[tuple[str, Callable[[], Iterator[bytes]], int]] = [
    ("rapid reset", _rapid_reset, 101),
    ("malformed requests", _malformed, 101),
    ("made to reset: WINDOW_UPDATE by 0", lambda: _made_to_reset(lambda s: frames.window_update(s, 0)), 101),
    ("made to reset: WINDOW_UPDATE that overflows",
     lambda: _made_to_reset(lambda s: frames.window_update(s, (1 << 31) - 1)), 101),
    ("made to reset: PRIORITY of a wrong size", lambda: _made_to_reset(lambda s: frame(2, 0, s, b"")), 101),
    ("made to reset: HEADERS again", lambda: _made_to_reset(opening), 101),
    ("made to reset: DATA after the end", lambda: _made_to_reset(lambda s: data(s, b"", True) + data(s, b"")), 101),
    ("streams beyond the bound", lambda: (get(stream) for stream in _streams()), 300),
    ("PING", lambda: _many(_PING), 1001),
    ("PING acknowledgements", lambda: _many(frame(frames.PING, 1, 0, bytes(8))), 1001),
    ("SETTINGS", lambda: _many(frames.settings({})), 1001),
    ("SETTINGS acknowledgements", lambda: _many(frames.SETTINGS_ACK), 1001),
    ("SETTINGS in SETTINGS", lambda: _many(frame(frames.SETTINGS, 0, 0, b"\0\x04\0\0\0\1\0\x04\0\0\0\2" * 1000)), 1),
    ("PRIORITY", lambda: _many(frame(frames.PRIORITY, 0, 1, bytes(5))), 1001),
    ("WINDOW_UPDATE by 1", lambda: _many(frames.window_update(0, 1)), 400),
    ("WINDOW_UPDATE by 1 of a stream", lambda: _many(frames.window_update(1, 1), get(1)), 400),
    ("WINDOW_UPDATE of a stream that is gone", lambda: _many(frames.window_update(1, 9), get(1) + rst(1)), 1010),
    ("RST_STREAM of a stream that is gone", lambda: _many(rst(1), get(1)), 1010),
    ("empty DATA", lambda: _many(data(1, b""), opening(1)), 1010),
    ("nothing but padding", lambda: _many(frame(frames.DATA, 8, 1, b"\0"), opening(1)), 1010),
    ("unknown frames", lambda: _many(frame(0x42, 0, 0, b"")), 1001),
    ("GOAWAY", lambda: _many(frames.goaway(0, 0)), 1001),
    ("CONTINUATION", lambda: _many(frame(frames.CONTINUATION, 0, 1, block([(b"x", b"y")])),
                                   frame(frames.HEADERS, 0, 1, block(GET))), 33),
    ("empty CONTINUATION", lambda: _many(frame(frames.CONTINUATION, 0, 1), frame(frames.HEADERS, 0, 1)), 33),
    ("large CONTINUATION", lambda: _many(frame(frames.CONTINUATION, 0, 1, bytes(16384)), frame(frames.HEADERS, 0, 1)),
     5),
    ("CONNECT", lambda: (headers(stream, [(b":method", b"CONNECT"), GET[2]]) for stream in _streams()), 1010),
]  # fmt: skip


class FloodTests(SynchronousTestCase):
    """What is bounded."""

    def test_floods(self) -> None:
        """Each of them ends the connection with ENHANCE_YOUR_CALM, as soon as it should."""
        for what, flood, most in FLOODS:
            player = Player()
            for count, piece in enumerate(flood()):
                player.feed(piece)
                if player.connection.terminated or count > 20_000:
                    break
            self.assertTrue(player.connection.terminated, what)
            self.assertEqual(words(player.out[-17:]), [_CALM], what)
            self.assertLessEqual(count, most, what)

    def test_in_one_piece(self) -> None:
        """A flood that comes all at once is cut off where it would have been otherwise."""
        player = Player()
        player.feed(_PING * 20_000)
        self.assertEqual(player.words(), ["PING 0 ACK"] * 1000 + [_CALM])

    def test_longest_block(self) -> None:
        """A header block may have as many bytes and pieces as its bounds say, and not one more."""
        bounds = codec.Bounds(header_list=100, continuations=3)
        filler = block([*GET, (b"x", b"y" * 120)])
        for more, terminated in ((0, False), (1, True)):
            whole = (filler + block([(b"x", b"y" * 100)]))[: 196 + more] + b"\x82" * 4
            player = Player(bounds=bounds)
            player.feed(frame(frames.HEADERS, 1, 1, whole[:100]) + frame(frames.CONTINUATION, 4, 1, whole[100:]))
            self.assertEqual(len(whole), 200 + more)
            ends = [event.code for event in player.events if isinstance(event, codec.Terminated)]
            self.assertEqual(codec.ENHANCE_YOUR_CALM in ends, terminated)
        for count in (3, 4):
            player = Player(bounds=bounds)
            player.feed(frame(frames.HEADERS, 1, 1) + frame(frames.CONTINUATION, 0, 1) * (count - 1))
            player.feed(frame(frames.CONTINUATION, END_HEADERS, 1, b"\x82"))
            self.assertEqual(player.connection.terminated, count > 3)

    def test_ignored(self) -> None:
        """What comes on a stream that we have reset is not ignored for ever."""
        for piece in (data(1, b"x"), headers(1, [(b"x", b"y")])):
            player = Player()
            player.feed(opening(1))
            player.connection.reset(1, codec.CANCEL)
            for _ in range(1500):
                player.feed(piece)
            self.assertEqual(words(player.out[-17:]), [_CALM])

    def test_refused_before_acknowledgement(self) -> None:
        """A client that has not acknowledged our bound may overstep it for a while, not for ever."""
        connection = codec.Connection(False, codec.Bounds(streams=1))
        connection.start()
        connection.receive(codec.PREFACE + frames.settings({}))
        for stream in _streams():
            connection.receive(get(stream))
            connection.take()
            if connection.terminated:
                break
        self.assertEqual(stream, 2003)

    def test_resets_beyond_what_is_served(self) -> None:
        """Two requests reset for each that is answered are too many in the long run."""
        player = Player()
        for stream in range(1, 4001, 6):
            player.feed(get(stream) + rst(stream) + get(stream + 2) + rst(stream + 2) + get(stream + 4))
            if player.connection.terminated:
                break
            player.connection.respond(stream + 4, _OK, True)
        self.assertLess(stream, 310)

    def test_dribble(self) -> None:
        """Updates by one byte, each of which draws a frame with one byte from us."""
        player = Player(settings=frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        player.feed(get(1))
        player.connection.respond(1, _OK, False)
        for _ in range(1500):
            player.feed(frames.window_update(1, 1))
            if player.connection.terminated:
                break
            player.connection.send(1, b"x", False)
        self.assertEqual(words(player.out[-17:]), [_CALM])

    def test_informational(self) -> None:
        """A server that has nothing to say but informational responses."""
        player = Player(client=True)
        player.connection.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True)
        for _ in range(1500):
            player.feed(headers(1, [(b":status", b"103")], END_HEADERS))
        self.assertEqual(words(player.out[-17:]), [_CALM])

    def test_peer_does_not_read(self) -> None:
        """Who makes us answer and does not read the answers is cut off, however much it asks for meanwhile."""
        player = Player()
        connection = player.connection
        stream = 1
        while not connection.terminated:
            connection.receive(_PING * 8 + opening(stream) + data(stream, b"", True))
            if not connection.terminated:
                connection.respond(stream, _OK, True)
            stream += 2
            self.assertLess(stream, 2000)
        acknowledged = words(connection.take()).count("PING 0 ACK")
        self.assertEqual(acknowledged, codec.Bounds().replies)
        # And who reads is not.
        other = Player()
        for stream in range(1, 4001, 2):
            other.feed(_PING * 8 + opening(stream) + data(stream, b"", True))
            other.connection.respond(stream, _OK, True)
        self.assertFalse(other.connection.terminated)

    def test_relax(self) -> None:
        """With a clock beside it, the counts begin anew, so what is seldom can go on for ever."""
        player = Player()
        for stream in range(1, 2001, 2):
            player.feed(_PING + get(stream) + rst(stream))
            if stream % 99 == 0:
                player.connection.relax()
        self.assertFalse(player.connection.terminated)


class HonestTests(SynchronousTestCase):
    """What is not bounded."""

    def test_load(self) -> None:
        """A hundred streams at once, again and again, each with updates of its windows, and now and then a PING."""
        client = codec.Connection(True)
        player = Player()
        client.start()
        player.connection._preface = False
        client.receive(player.greeting)
        client.take()
        head = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: load\r\n\r\n"
        for turn in range(100):
            streams = [client.request(head, True) for _ in range(100)]
            if not turn % 10:
                client.ping()
            player.feed(client.take())
            for stream in streams:
                player.connection.respond(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n", False)
                player.connection.send(stream, bytes(600), True)
            for event in client.receive(player.connection.take()):
                if isinstance(event, codec.Data):
                    client.taken(event.stream, event.flow)
            player.feed(b"".join(frames.window_update(stream, 600) for stream in streams))
            player.feed(frames.window_update(0, 60_000))
        self.assertFalse(player.connection.terminated)
        self.assertFalse(client.terminated)
        self.assertEqual(client.streams, 0)

    def test_cancelled(self) -> None:
        """A browser that cancels half of what it asks for, and one that cancels what has begun to come."""
        player = Player()
        for stream in range(1, 4001, 4):
            player.feed(get(stream) + get(stream + 2) + rst(stream))
            player.connection.respond(stream + 2, _OK, True)
        self.assertFalse(player.connection.terminated)
        other = Player()
        for stream in range(1, 4001, 2):
            other.feed(get(stream))
            other.connection.respond(stream, _OK, False)
            other.feed(rst(stream))
        self.assertFalse(other.connection.terminated)

    def test_download(self) -> None:
        """A long download, with two updates and a PING for each frame."""
        player = Player()
        player.feed(get(1))
        player.connection.respond(1, _OK, False)
        for _ in range(5000):
            player.connection.send(1, bytes(1000), False)
            player.feed(frames.window_update(1, 1000) + frames.window_update(0, 1000) + _PING)
            player.out = b""
        self.assertFalse(player.connection.terminated)

    def test_small_messages(self) -> None:
        """A long stream of small messages, each followed by a PING, as gRPC clients measure their way."""
        player = Player()
        player.feed(get(1))
        player.connection.respond(1, _OK, False)
        for _ in range(5000):
            player.connection.send(1, bytes(10), False)
            player.feed(_PING + frames.window_update(0, 10))
        self.assertFalse(player.connection.terminated)

    def test_upload(self) -> None:
        """A long upload in small pieces."""
        player = Player()
        player.feed(headers(1, POST, END_HEADERS))
        for _ in range(20_000):
            player.feed(data(1, b"x"))
            player.connection.taken(1, 1)
        self.assertFalse(player.connection.terminated)
        player.feed(frame(frames.DATA, END_STREAM, 1))
        self.assertEqual(player.happened()[-1], ("Data", b"", True, 0, 1))
