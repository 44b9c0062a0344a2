"""The sections of RFC 9113 and RFC 7541, row by row, on the codec alone."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http2 import codec, frames
from tests.http2.rig import Player, described, parsed, words
from tests.http2.spec_rows import ANSWERS, BAD_PREFACES, ROWS


class ServerTests(SynchronousTestCase):
    """What a server says to what a client does."""

    def test_rows(self) -> None:
        """Each row is answered as its section says, and with nothing else."""
        for section, what, script, expected in ROWS:
            player = Player()
            player.play(script)
            self.assertEqual(player.words(), expected, f"{section}: {what}")

    def test_in_one_piece(self) -> None:
        """It makes no difference whether frames come one by one or all at once."""
        for section, what, script, expected in ROWS:
            steps = list(script)
            pieces = [step for step in steps if isinstance(step, bytes)]
            if len(pieces) != len(steps):
                continue
            player = Player()
            player.feed(b"".join(pieces))
            self.assertEqual(player.words(), expected, f"{section}: {what}")

    def test_told(self) -> None:
        """A stream that was told of and is reset is told of again; one that was not, is not."""
        for section, what, script, expected in ROWS:
            player = Player()
            player.play(script)
            begun = {event.stream for event in player.events if isinstance(event, codec.Request)}
            if expected and expected[-1].startswith("RST_STREAM 1") and "CANCEL" not in expected[-1]:
                resets = [event for event in player.events if isinstance(event, codec.Reset)]
                self.assertEqual([event.stream for event in resets], [1] if 1 in begun else [], f"{section}: {what}")
            gone = [event for event in player.events if isinstance(event, codec.Terminated)]
            self.assertEqual(bool(gone), any("GOAWAY" in said for said in expected), f"{section}: {what}")
            self.assertEqual(player.connection.terminated, bool(gone), f"{section}: {what}")

    def test_bad_prefaces(self) -> None:
        """What does not begin as a client must is told so, and goes no further."""
        for what, begin, expected in BAD_PREFACES:
            connection = codec.Connection(False)
            connection.start()
            connection.take()
            piece = (
                begin
                if what in ("another protocol", "HTTP/1.1", "a preface with a wrong end")
                else (codec.PREFACE + begin)
            )
            events = connection.receive(piece)
            self.assertEqual([type(event) for event in events], [codec.Terminated], what)
            self.assertEqual(words(connection.take()), [expected], what)
            self.assertEqual(connection.receive(codec.PREFACE), [], what)

    def test_preface_waits(self) -> None:
        """A preface may come byte by byte, and is refused with the first byte that is wrong."""
        connection = codec.Connection(False)
        for place in range(len(codec.PREFACE)):
            self.assertEqual(connection.receive(codec.PREFACE[place : place + 1]), [])
        self.assertEqual(described(connection.receive(frames.settings({}))), [("Settings",)])
        other = codec.Connection(False)
        self.assertEqual(other.receive(b"PRI * HTTP/"), [])
        self.assertEqual(described(other.receive(b"1"))[0][:2], ("Terminated", codec.PROTOCOL_ERROR))

    def test_greeting(self) -> None:
        """A server begins with SETTINGS that say its bounds, and opens the window of the connection."""
        player = Player(
            bounds=codec.Bounds(streams=7, header_list=999, window=100_000, frame_size=20_000), extended=True
        )
        settings, update = parsed(player.greeting)
        self.assertEqual(settings[:3], (frames.SETTINGS, 0, 0))
        self.assertEqual(
            dict(frames.read_settings(settings[3])),
            {
                frames.MAX_CONCURRENT_STREAMS: 7,
                frames.MAX_HEADER_LIST_SIZE: 999,
                frames.INITIAL_WINDOW_SIZE: 100_000,
                frames.MAX_FRAME_SIZE: 20_000,
                frames.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )
        self.assertEqual(words(frames.header(4, *update[:3]) + update[3]), [f"WINDOW_UPDATE 0 {(1 << 20) - 65535}"])

    def test_plain_greeting(self) -> None:
        """What is as by default is not said, and extended CONNECT is not offered by itself."""
        server = codec.Connection(False, codec.Bounds(connection_window=65535))
        server.start()
        (settings,) = parsed(server.take())
        self.assertEqual(
            dict(frames.read_settings(settings[3])),
            {frames.MAX_CONCURRENT_STREAMS: 128, frames.MAX_HEADER_LIST_SIZE: 32768},
        )

    def test_settings_acknowledged(self) -> None:
        """SETTINGS are acknowledged once each, and of a setting that is there twice the last counts."""
        player = Player()
        twice = frames.header(12, frames.SETTINGS, 0, 0) + b"\0\4\0\0\0\1" + b"\0\4\0\0\0\5"
        player.feed(twice + frames.settings({}))
        self.assertEqual(player.out, frames.SETTINGS_ACK * 2)
        self.assertEqual(player.happened(), [("Settings",), ("Settings",)])


class ClientTests(SynchronousTestCase):
    """What a client says to what a server does."""

    def test_greeting(self) -> None:
        """A client begins with the preface and SETTINGS that want nothing pushed."""
        player = Player(client=True)
        self.assertTrue(player.greeting.startswith(codec.PREFACE))
        settings = parsed(player.greeting[len(codec.PREFACE) :])[0]
        self.assertEqual(
            dict(frames.read_settings(settings[3])), {frames.ENABLE_PUSH: 0, frames.MAX_HEADER_LIST_SIZE: 32768}
        )

    def test_rows(self) -> None:
        """Each answer is taken, or refused as the RFC says."""
        for what, pieces, expected in ANSWERS:
            player = Player(client=True)
            stream = player.connection.request(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", True)
            self.assertEqual(stream, 1)
            player.connection.take()
            for piece in pieces:
                player.feed(piece)
            self.assertEqual(player.words(), expected, what)
            refused = [event for event in player.events if isinstance(event, codec.Reset)]
            self.assertEqual(
                [event.ours for event in refused], [True] if "RST_STREAM" in "".join(expected) else [], what
            )
            if not expected:
                self.assertEqual(player.connection.streams, 0, what)
