"""Flow control (RFC 9113 §5.2, §6.9): windows in both directions, and what SETTINGS do to them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http2 import codec, frames
from tests.http2.rig import Player, data, described, get, headers, opening, parsed, words

_OK = b"HTTP/1.1 200 OK\r\n\r\n"


def answering(player: Player, stream: int = 1) -> codec.Connection:
    """A server that has begun to answer a GET."""
    player.feed(get(stream))
    player.connection.respond(stream, _OK, False)
    player.connection.take()
    player.out = b""
    player.events = []
    return player.connection


class SendingTests(SynchronousTestCase):
    """What may be sent."""

    def test_room(self) -> None:
        """What is sent takes from the window of the stream and of the connection; updates give to either."""
        player = Player()
        connection = answering(player)
        self.assertEqual(connection.room(1), 65535)
        connection.send(1, bytes(65535), False)
        self.assertEqual(connection.room(1), 0)
        self.assertEqual([len(payload) for _, _, _, payload in parsed(connection.take())], [16384] * 3 + [16383])
        player.feed(frames.window_update(1, 10))
        self.assertEqual(connection.room(1), 0)  # the connection has none
        self.assertEqual(player.happened(), [("Room", 1)])
        player.feed(frames.window_update(0, 5))
        self.assertEqual(connection.room(1), 5)
        self.assertEqual(player.happened()[1:], [("Room", 0)])
        player.feed(frames.window_update(0, 100))
        self.assertEqual(connection.room(1), 10)
        self.assertEqual(len(player.events), 2)  # nobody waited

    def test_peer_window(self) -> None:
        """A new stream begins with the window that the peer's SETTINGS name."""
        player = Player(settings=frames.settings({frames.INITIAL_WINDOW_SIZE: 1}))
        connection = answering(player)
        self.assertEqual(connection.room(1), 1)
        connection.send(1, b"x", False)
        self.assertEqual(connection.take(), data(1, b"x"))

    def test_settings_change_windows(self) -> None:
        """SETTINGS that change the initial window change that of open streams, also below zero."""
        player = Player(settings=frames.settings({frames.INITIAL_WINDOW_SIZE: 3}))
        connection = answering(player)
        connection.send(1, b"abc", False)
        player.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 2}))
        self.assertEqual(connection.room(1), 0)
        player.feed(frames.window_update(1, 1))
        self.assertEqual(connection.room(1), 0)
        player.feed(frames.window_update(1, 1))
        self.assertEqual(connection.room(1), 1)
        self.assertEqual(player.happened(), [("Settings",), ("Room", 1)])

    def test_settings_open_windows(self) -> None:
        """SETTINGS that open a window say so; the connection's is not theirs to change."""
        player = Player(settings=frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        connection = answering(player)
        self.assertEqual(connection.room(1), 0)
        player.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 1}))
        self.assertEqual(connection.room(1), 1)
        self.assertEqual(player.happened(), [("Room", 0), ("Settings",)])
        player.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20}))
        self.assertEqual(connection.room(1), 65535)

    def test_frame_size(self) -> None:
        """Frames are as large as the peer takes them."""
        player = Player(settings=frames.settings({frames.MAX_FRAME_SIZE: 20000}))
        connection = answering(player)
        connection.send(1, bytes(50000), True)
        self.assertEqual(
            [(flags, len(payload)) for _, flags, _, payload in parsed(connection.take())],
            [(0, 20000), (0, 20000), (1, 10000)],
        )

    def test_split(self) -> None:
        """A body of several frames is whole, and the last of them ends it."""
        player = Player()
        for size in (0, 1, 16383, 16384, 16385, 32768, 32769):
            stream = 1 + 2 * size
            player.feed(frames.window_update(0, 40000))
            connection = answering(player, stream)
            body = bytes(range(256)) * 129
            connection.send(stream, body[:size], True)
            sent = parsed(connection.take())
            self.assertEqual(b"".join(payload for _, _, _, payload in sent), body[:size])
            self.assertEqual([flags for _, flags, _, _ in sent], [0] * (len(sent) - 1) + [1])
            self.assertEqual(len(sent), max(1, -(-size // 16384)))

    def test_nothing(self) -> None:
        """An empty piece that is not the last is no frame."""
        connection = answering(Player())
        connection.send(1, b"", False)
        self.assertEqual(connection.take(), b"")

    def test_too_much(self) -> None:
        """To send more than there is room for is the caller's mistake."""
        connection = answering(Player())
        self.assertRaises(AssertionError, connection.send, 1, bytes(65536), False)
        player = Player(settings=frames.settings({frames.INITIAL_WINDOW_SIZE: 100_000}))
        self.assertRaises(AssertionError, answering(player).send, 1, bytes(65536), False)

    def test_ended(self) -> None:
        """A stream that has been ended has no room, whatever its window."""
        player = Player()
        player.feed(opening(1))
        player.connection.respond(1, _OK, True)
        self.assertEqual(player.connection.room(1), 0)
        self.assertEqual(player.connection.room(3), 0)


class ReceivingTests(SynchronousTestCase):
    """What may come."""

    def test_stream_window(self) -> None:
        """A stream that sends beyond its window is reset; the others go on."""
        player = Player()
        player.feed(opening(1) + opening(3) + data(1, bytes(16384)) * 4)
        self.assertEqual(player.words(), ["RST_STREAM 1 FLOW_CONTROL_ERROR"])
        self.assertEqual(player.happened()[-1], ("Reset", codec.FLOW_CONTROL_ERROR, True, 1))
        player.feed(data(3, b"x", True))
        self.assertEqual(player.happened()[-1], ("Data", b"x", True, 1, 3))

    def test_exact_window(self) -> None:
        """A stream may send its window to the last byte."""
        player = Player()
        player.feed(opening(1) + data(1, bytes(16384)) * 3 + data(1, bytes(16383)))
        self.assertEqual(player.words(), [])

    def test_connection_window(self) -> None:
        """The connection's window is given back as bytes come; who sends beyond it before that is cut off."""
        player = Player(bounds=codec.Bounds(connection_window=100_000, window=60_000))
        player.feed(opening(1) + opening(3) + data(1, bytes(16384)) * 3)
        self.assertEqual(player.words(), [])
        player.feed(data(3, bytes(1000)))
        self.assertEqual(player.words(), ["WINDOW_UPDATE 0 50152"])
        player.connection.taken(1, 16384 * 3)
        player.feed(data(1, bytes(16384)) * 3 + data(3, bytes(1000)))
        self.assertEqual(player.words()[1:], ["WINDOW_UPDATE 1 49152", "WINDOW_UPDATE 0 50152"])
        # All in one frame before anything could have been given back.
        other = Player(bounds=codec.Bounds(connection_window=65535, frame_size=100_000))
        other.feed(opening(1) + data(1, bytes(65536)))
        self.assertEqual(other.words(), ["GOAWAY FLOW_CONTROL_ERROR"])
        third = Player(bounds=codec.Bounds(connection_window=65535, frame_size=100_000))
        third.feed(opening(1) + data(1, bytes(20_000)) + opening(3) + data(3, bytes(45_536)))
        self.assertEqual(third.words(), ["GOAWAY FLOW_CONTROL_ERROR"])

    def test_exact_connection_window(self) -> None:
        """All streams together may send the connection's window to the last byte."""
        player = Player(bounds=codec.Bounds(connection_window=65535, frame_size=65535))
        player.feed(opening(1) + data(1, bytes(65535)))
        self.assertEqual(player.words(), ["WINDOW_UPDATE 0 65535"])

    def test_half(self) -> None:
        """A stream's window is given back when exactly half of it has been taken."""
        player = Player(bounds=codec.Bounds(window=100))
        player.feed(opening(1) + data(1, bytes(100)))
        player.connection.taken(1, 49)
        self.assertEqual(player.connection.take(), b"")
        player.connection.taken(1, 1)
        self.assertEqual(words(player.connection.take()), ["WINDOW_UPDATE 1 50"])
        player.connection.taken(1, 50)
        self.assertEqual(words(player.connection.take()), ["WINDOW_UPDATE 1 50"])

    def test_taken(self) -> None:
        """What has been taken is given back to the stream, at half of the window, and not once it has ended."""
        player = Player()
        player.feed(opening(1) + data(1, bytes(16384)) * 3)
        player.connection.taken(1, 16384)
        self.assertEqual(player.connection.take(), b"")
        player.connection.taken(1, 16384)
        self.assertEqual(words(player.connection.take()), ["WINDOW_UPDATE 1 32768"])
        player.feed(data(1, bytes(16384)) * 2)
        player.connection.taken(1, 16384)
        player.feed(data(1, b"", True))
        player.connection.taken(1, 32768)
        player.connection.taken(3, 32768)
        self.assertEqual(player.connection.take(), b"")

    def test_not_taken(self) -> None:
        """One stream whose data nobody takes does not stop the others: they can send any amount."""
        player = Player()
        player.feed(opening(1) + data(1, bytes(16384)) * 3 + opening(3))
        for _ in range(200):
            events = player.feed(data(3, bytes(16384)))
            self.assertEqual([type(event) for event in events], [codec.Data])
            player.connection.taken(3, 16384)
            player.out += player.connection.take()
        self.assertEqual(player.connection.streams, 2)

    def test_padding(self) -> None:
        """Padding counts: it is in the flow, and of a frame with nothing else it is given back at once."""
        player = Player()
        player.feed(opening(1) + frames.header(8, frames.DATA, 8, 1) + b"\4abc" + bytes(4))
        self.assertEqual(player.happened()[-1], ("Data", b"abc", False, 8, 1))
        count = len(player.events)
        for _ in range(200):
            player.feed(frames.header(256, frames.DATA, 8, 1) + b"\xff" + bytes(255))
        self.assertEqual(len(player.events), count)
        self.assertEqual(player.words(), ["WINDOW_UPDATE 1 32768"])

    def test_before_acknowledgement(self) -> None:
        """Until the peer has acknowledged our SETTINGS it may use the default window; then it keeps to ours."""
        connection = codec.Connection(False, codec.Bounds(window=100))
        connection.start()
        connection.receive(codec.PREFACE + frames.settings({}) + opening(1) + opening(3) + data(1, bytes(5000)))
        connection.take()
        connection.receive(frames.SETTINGS_ACK)
        self.assertEqual(described(connection.receive(data(3, bytes(100)))), [("Data", bytes(100), False, 100, 3)])
        self.assertEqual(described(connection.receive(data(3, b"x"))), [("Reset", 3, True, 3)])
        self.assertEqual(described(connection.receive(data(1, b"x"))), [("Reset", 3, True, 1)])
        connection.receive(opening(5) + data(5, bytes(100)))
        self.assertEqual(described(connection.receive(data(5, b"x"))), [("Reset", 3, True, 5)])

    def test_taken_before_acknowledgement(self) -> None:
        """What was taken before the peer made the window smaller is given back when it has: it may be all of it."""
        connection = codec.Connection(False, codec.Bounds(window=100))
        connection.start()
        connection.receive(codec.PREFACE + frames.settings({}) + opening(1) + data(1, bytes(5000)))
        connection.take()
        connection.taken(1, 5000)
        self.assertEqual(connection.take(), b"")
        connection.receive(frames.SETTINGS_ACK)
        self.assertEqual(words(connection.take()), ["WINDOW_UPDATE 1 5000"])
        self.assertEqual(described(connection.receive(data(1, bytes(100)))), [("Data", bytes(100), False, 100, 1)])

    def test_reset_streams(self) -> None:
        """What comes for a stream that we have reset takes from the connection's window, which is given back."""
        player = Player()
        player.feed(opening(1))
        player.connection.reset(1, codec.CANCEL)
        for _ in range(40):
            player.feed(data(1, bytes(16384)))
        self.assertEqual([said for said in player.words() if "RST" not in said], ["WINDOW_UPDATE 0 524288"])


class ClientTests(SynchronousTestCase):
    """The same, for responses."""

    def test_response_window(self) -> None:
        """A server that sends beyond a stream's window is told, and only that stream is lost."""
        player = Player(client=True)
        stream = player.connection.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True)
        other = player.connection.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True)
        player.connection.take()
        player.feed(headers(stream, [(b":status", b"200")], 4) + data(stream, bytes(16384)) * 4)
        self.assertEqual(player.words(), [f"RST_STREAM {stream} FLOW_CONTROL_ERROR"])
        player.feed(headers(other, [(b":status", b"200")]))
        self.assertEqual(player.happened()[-1][0], "Response")
