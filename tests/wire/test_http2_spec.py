"""
RFC 9113 section by section, frame by frame, against a running proxy: the rows of L{tests.http2.spec_rows} with a real
backend to answer them, what they leave out, which is about what the public suite h2spec looks at, too (C{make h2spec}).
"""

from __future__ import annotations

from typing import ClassVar

from tests.http2 import rig as by_hand
from tests.http2.rig import RESET
from tests.http2.spec_rows import BAD_PREFACES, ROWS
from tests.wire import frames
from tests.wire.blocks import get, post
from tests.wire.frames import DATA, END_STREAM, PREFACE, SETTINGS, Frames, frame, headers, literals, settings, window
from tests.wire.rig import WireCase
from tests.wire.sockets import PLAIN, Side

#: What the backend answers where a row's script says so.
_NOTHING = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

#: Rows about what a codec can be told not to offer, and the proxy always does.
_OFFERED = frozenset(("8441-4",))

_END = b"the end."
_GET = literals(get())
_POST = literals(post())
_LARGEST = (1 << 31) - 1


def said(client: Frames) -> list[str]:
    """What came, in words, without what comes in any case: SETTINGS, credit, and the answer to the last PING."""
    found = []
    for kind, flags, stream, payload in client.log:
        if kind == SETTINGS or kind == frames.WINDOW_UPDATE or payload == _END:
            continue
        found += by_hand.words(frame(kind, flags, stream, payload))
    return found


class SpecTests(WireCase):
    """Each is answered as its section says, and the proxy is as before."""

    settings: ClassVar[dict[str, object]] = {"listener": {"http2": True}}

    def setUp(self) -> None:
        super().setUp()
        self.waiting: list[Side] = []
        self.backend.script = lambda side, _request: self.waiting.append(side)

    def _connect(self, greeting: bytes = b"", windows: bool = True) -> Frames:
        client = Frames(self.loop, self.proxy.port, greet=False, windows=windows)
        client.write(PREFACE + (greeting or settings()))
        self.assertTrue(self.loop.until(lambda: client.settled == 1))
        return client

    def _answer(self, client: Frames, count: int, answer: bytes = _NOTHING) -> None:
        """
        Answers all requests when so many are there, and waits until that has come back. One of a row before may come as
        late as now; it is answered, too, and nobody hears of it.
        """
        self.assertTrue(self.loop.until(lambda: len(self.waiting) >= count), f"{len(self.waiting)} of {count}")
        before = sum(entry.ended for entry in client.answers.values())

        def answered() -> bool:
            for side in self.waiting:
                side.write(answer)
            self.waiting.clear()
            return sum(entry.ended for entry in client.answers.values()) == before + count

        self.assertTrue(self.loop.until(answered))

    def _play(self, script: list[bytes | str], expected: list[str]) -> list[str]:
        """What is said to a script."""
        client = self._connect()
        for step in script:
            if isinstance(step, bytes):
                client.write(step)
            else:
                self._answer(client, sum(word.startswith("HEADERS") for word in expected))
        lives = client.ping(_END)
        leaves = any(isinstance(step, bytes) and step[3] == frames.GOAWAY for step in script)
        if any(word.startswith("GOAWAY") for word in expected):
            self.assertTrue(self.loop.until(lambda: bool(client.ended)), "the connection was not closed")
        elif not leaves:  # who leaves is let go
            self.assertTrue(lives, said(client))
        self.assertEqual(client.broken, "")
        found = said(client)
        client.close()
        for side in self.waiting:
            side.reset()
        self.waiting.clear()
        return found

    def test_rows(self) -> None:
        """Each row of the sections is answered as its section says, and with nothing else."""
        for section, what, script, expected in ROWS:
            steps = list(script)
            if section in _OFFERED or RESET in steps:
                continue
            self.assertEqual(self._play(steps, expected), expected, f"{section}: {what}")
        self.assert_nothing_left()

    def test_bad_prefaces(self) -> None:
        """Who begins as a client of HTTP/2 and goes on as none is told so, and the connection is closed."""
        for what, begin, expected in BAD_PREFACES:
            if what in ("another protocol", "HTTP/1.1", "a preface with a wrong end"):
                continue  # not HTTP/2, and the listener has HTTP/1.1 too
            client = Frames(self.loop, self.proxy.port, greet=False)
            client.write(PREFACE + begin)
            self.assertTrue(self.loop.until(lambda client=client: bool(client.ended)), what)  # type: ignore[misc]
            self.assertEqual(said(client), [expected], what)
            client.close()
        self.assert_nothing_left()

    def test_another_protocol(self) -> None:
        """Who speaks neither HTTP/2 nor HTTP/1.1 is not listened to for long."""
        for begin in (
            b"INVALID CONNECTION PREFACE\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
            b"\x16\x03\x01\r\n\r\n",
        ):
            client = Frames(self.loop, self.proxy.port, greet=False)
            client.write(begin)
            self.assertTrue(self.loop.until(lambda client=client: bool(client.ended)), begin)  # type: ignore[misc]
            client.close()
        self.assert_nothing_left()

    def test_settings(self) -> None:
        """The bounds are told first: streams, lists of fields; and extended CONNECT is offered."""
        client = self._connect()
        self.assertEqual(client.log[0][0], SETTINGS)
        self.assertIn(3, client.theirs)
        self.assertEqual(client.theirs[6], 32768)
        self.assertEqual(client.theirs[8], 1)
        client.close()
        self.assert_nothing_left()

    def test_too_many_streams(self) -> None:
        """A stream above what was allowed is refused, and can be tried again when another one has ended (5.1.2)."""
        client = self._connect()
        many = client.theirs[3]
        client.write(b"".join(headers(1 + 2 * number, _GET, True) for number in range(many + 1)))
        self.assertTrue(self.loop.until(lambda: client.answer(1 + 2 * many).over))
        self.assertEqual(client.answer(1 + 2 * many).reset, frames.CODES.index("REFUSED_STREAM"))
        self._answer(client, many)
        client.write(headers(3 + 2 * many, _GET, True))
        self._answer(client, 1)
        self.assertEqual(client.answer(3 + 2 * many).statuses, [200])
        client.close()
        self.assert_nothing_left()

    def test_window_of_one(self) -> None:
        """With a window of one byte an answer comes byte by byte, as it is given back (6.9.1)."""
        client = self._connect(settings((4, 1)), windows=False)
        client.write(headers(1, _GET, True))
        self.assertTrue(self.loop.until(lambda: len(self.waiting) == 1))
        self.waiting.pop().write(PLAIN)
        self.assertTrue(self.loop.until(lambda: client.answer(1).body == b"O"))
        self.assertTrue(client.ping())
        self.assertEqual(client.answer(1).body, b"O")
        client.write(window(1, 1))
        self.assertTrue(client.until(1))
        self.assertEqual((client.answer(1).body, client.answer(1).ended), (b"OK", True))
        client.close()
        self.assert_nothing_left()

    def test_window_below_zero(self) -> None:
        """A window that a setting has brought below zero must be given back as much first (6.9.2)."""
        client = self._connect(settings((4, 4)), windows=False)
        client.write(headers(1, _GET, True))
        self.assertTrue(self.loop.until(lambda: len(self.waiting) == 1))
        self.waiting.pop().write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678")
        self.assertTrue(self.loop.until(lambda: client.answer(1).body == b"1234"))
        client.write(settings((4, 2)) + window(1, 2))  # 4 - 2 - 4 + 2: none
        self.assertTrue(client.ping(b"is none?"))
        self.assertEqual(client.answer(1).body, b"1234")
        client.write(window(1, 1))
        self.assertTrue(self.loop.until(lambda: client.answer(1).body == b"12345"))
        client.write(settings((4, 100)))
        self.assertTrue(client.until(1))
        self.assertEqual((client.answer(1).body, client.answer(1).ended), (b"12345678", True))
        client.close()
        self.assert_nothing_left()

    def test_window_of_the_connection(self) -> None:
        """What the connection's window does not allow waits, whatever those of the streams do (6.9.1)."""
        client = self._connect(settings((4, 1 << 20)), windows=False)
        client.write(headers(1, _GET, True) + headers(3, _GET, True))
        self.assertTrue(self.loop.until(lambda: len(self.waiting) == 2))
        for side in self.waiting:
            side.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50000))

        def come() -> int:
            return len(client.answer(1).body) + len(client.answer(3).body)

        self.assertTrue(self.loop.until(lambda: come() == 65535), come())
        self.assertTrue(client.ping())
        self.assertEqual(come(), 65535)
        client.write(window(0, 1 << 20))
        self.assertTrue(client.until(1, 3))
        self.assertEqual(come(), 100000)
        client.close()
        self.assert_nothing_left()

    def test_streams_take_turns(self) -> None:
        """A stream whose window is shut does not stop another one (5.2)."""
        client = self._connect(settings((4, 0)), windows=False)
        client.write(headers(1, _GET, True) + headers(3, _GET, True) + window(3, 100))
        self._answer_all(2)
        self.assertTrue(client.until(3))
        self.assertEqual(client.answer(3).body, b"OK")
        self.assertEqual((client.answer(1).statuses, client.answer(1).body), ([200], b""))
        client.write(window(1, 100))
        self.assertTrue(client.until(1))
        client.close()
        self.assert_nothing_left()

    def _answer_all(self, count: int) -> None:
        self.assertTrue(self.loop.until(lambda: len(self.waiting) == count))
        for side in self.waiting:
            side.write(PLAIN)
        self.waiting.clear()

    def test_frame_size(self) -> None:
        """No frame is larger than the client takes, and larger ones come where it takes them (4.2)."""
        body = bytes(40000)
        for size in (16384, 32768):
            client = self._connect(settings((5, size), (4, 1 << 20)))
            client.write(headers(1, _GET, True))
            self.assertTrue(self.loop.until(lambda: len(self.waiting) == 1))
            self.waiting.pop().write(b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + body)
            self.assertTrue(client.until(1))
            self.assertEqual(client.answer(1).body, body)
            sizes = [len(payload) for kind, _, _, payload in client.log if kind == DATA]
            self.assertTrue(max(sizes) <= size, sizes)
            client.close()
        self.assert_nothing_left()

    def test_table_size(self) -> None:
        """A client that keeps no table gets blocks without one, and is told so (RFC 7541 4.2)."""
        client = self._connect(settings((1, 0)))
        for stream in (1, 3):
            client.write(headers(stream, _GET, True))
            self._answer(client, 1)
        blocks = [payload for kind, _, _, payload in client.log if kind == frames.HEADERS]
        self.assertEqual(blocks[0][:1], b"\x20")
        self.assertEqual(client.answer(1).heads[0][0], client.answer(3).heads[0][0])
        self.assertFalse([block for block in blocks if max(block[:1]) >= 0xBE])
        client.close()
        self.assert_nothing_left()

    def test_credit(self) -> None:
        """A body larger than all windows goes through, as credit for it comes (6.9)."""
        client = self._connect()
        client.write(headers(1, _POST, False))
        credit = {0: 65535, 1: 65535}
        seen = 0
        left = 300_000
        while left:
            size = min(left, 16384)

            def granted(size: int = size) -> bool:
                nonlocal seen
                for kind, _, stream, payload in client.log[seen:]:
                    if kind == frames.WINDOW_UPDATE:
                        credit[stream] += int.from_bytes(payload, "big")
                seen = len(client.log)
                return min(credit.values()) >= size

            self.assertTrue(self.loop.until(granted), credit)
            left -= size
            credit[0] -= size
            credit[1] -= size
            client.write(frame(DATA, 0 if left else END_STREAM, 1, b"x" * size))
        self._answer(client, 1)
        self.assertEqual(len(self.backend.requests[-1].body), 300_000)
        client.close()
        self.assert_nothing_left()

    def test_more_than_the_window(self) -> None:
        """Who sends more than the windows allow is told so, and what nobody takes is not held (6.9.1)."""
        client = self._connect()
        self.backend.began = lambda _side, _message: None  # nobody says that the body is wanted
        begin = headers(1, literals(post((b"expect", b"100-continue"))), False)
        client.write(begin + frame(DATA, 0, 1, bytes(16384)) * 500)
        self.assertTrue(self.loop.until(lambda: bool(client.ended) or client.answer(1).over), "it was taken")
        codes = [code for _, code in client.goaways] + [client.answer(1).reset]
        self.assertIn(frames.CODES.index("FLOW_CONTROL_ERROR"), codes)
        client.close()
        self.assert_nothing_left()

    def test_goaway_of_the_client(self) -> None:
        """After a client's GOAWAY what it has begun is answered, and the connection is closed (6.8)."""
        client = self._connect()
        client.write(headers(1, _GET, True))
        self.assertTrue(self.loop.until(lambda: len(self.waiting) == 1))
        client.write(frames.goaway(0, 0))
        self._answer(client, 1)
        self.assertTrue(self.loop.until(lambda: client.ended == "closed"))
        self.assertEqual([code for _, code in client.goaways if code], [])
        client.close()
        self.assert_nothing_left()

    def test_backend_that_breaks(self) -> None:
        """A backend that breaks off in the middle of an answer costs its stream alone (5.4.2)."""
        client = self._connect()
        client.write(headers(1, _GET, True) + headers(3, _GET, True))
        self.assertTrue(self.loop.until(lambda: len(self.waiting) == 2))
        broken, other = self.waiting
        self.waiting.clear()
        broken.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        self.assertTrue(self.loop.until(lambda: any(client.answer(stream).body == b"hello" for stream in (1, 3))))
        broken.reset()
        cut = 1 if client.answer(1).body else 3
        self.assertTrue(client.until(cut))
        self.assertEqual(client.answer(cut).ended, False)
        self.assertEqual(client.answer(cut).reset, frames.CODES.index("INTERNAL_ERROR"))
        other.write(PLAIN)
        self.assertTrue(client.until(4 - cut))
        self.assertEqual(client.answer(4 - cut).body, b"OK")
        client.close()
        self.assert_nothing_left()
