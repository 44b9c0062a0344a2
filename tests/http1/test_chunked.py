"""The chunked transfer coding, on both twins: whole, byte by byte, in pieces of every size, with a tail."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec as chosen
from tests.http1 import twins

# What it is; the bytes; the payload; the trailers that go on.
TAKEN: list[tuple[str, bytes, bytes, bytes]] = [
    ("nothing", b"0\r\n\r\n", b"", b""),
    ("many zeros", b"0000000000000000\r\n\r\n", b"", b""),
    ("two chunks", b"5\r\nhello\r\n00A\r\n, my world\r\n0\r\n\r\n", b"hello, my world", b""),
    ("data that looks like the end", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", b""),
    ("both cases of digits", b"fF\r\n" + b"x" * 255 + b"\r\n0\r\n\r\n", b"x" * 255, b""),
    ("extensions", b'1;a\r\nx\r\n1;a=b;c\r\ny\r\n1 ; a = "q;\\"\t\xe9" ;b\r\nz\r\n0;end=1\r\n\r\n', b"xyz", b""),
    ("trailers", b"0\r\nX-Sum: 1\r\ny:\t2 \r\n\r\n", b"", b"X-Sum: 1\r\ny: 2\r\n"),
    (
        "trailers of which some must not go on",
        b"1\r\nx\r\n0\r\nContent-Length: 5\r\nhost: a\r\nA: 1\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\n"
        b"Authorization: b\r\nConnection: A\r\nContent-Type: c\r\nContent_Encoding: d\r\nX-Forwarded-For: e\r\n"
        b"X_Forwarded_For: f\r\nTrailer: g\r\nCache-Control: h\r\nB: 2\r\nA: 3\r\n\r\n",
        b"x",
        b"A: 1\r\nB: 2\r\nA: 3\r\n",
    ),
]

# What is wrong; the bytes; the status.
REFUSED: list[tuple[str, bytes, int]] = [
    *(
        (f"a size of {bad!r}", bad + b"\r\nhello\r\n0\r\n\r\n", 400)
        for bad in (b"", b"+5", b"-5", b"0x5", b" 5", b"\t5", b"5 ", b"5\t", b"1_0", b"5g", b"\xb5", b"5,", b"g",
                    b"5\0", b"8000000000000000", b"FFFFFFFFFFFFFFFF", b"00000000000000005", b"FFFFFFFFFFFFFFFF0",
                    b"5;", b"5; ", b"5;;a", b"5;=b", b"5;a=", b"5;a b", b"5;a ", b"5;a=b ", b"5;bad[=x", b'5;a="b',
                    b'5;a="b"c', b"5;\0", b"5;a=\x7f", b"5 a", b'5;"a"')
    ),
    ("a bare LF behind the size", b"5\nhello\r\n0\r\n\r\n", 400),
    ("a bare CR behind the size", b"5\rhello\r\n0\r\n\r\n", 400),
    ("a bare LF in an extension", b"5;a\nhello\r\n0\r\n\r\n", 400),
    ("a bare CR in an extension", b"5;a\rX\r\nhello\r\n0\r\n\r\n", 400),
    ("too much data", b"5\r\nhello!!\r\n0\r\n\r\n", 400),
    ("no CRLF behind the data", b"5\r\nhello0\r\n\r\n", 400),
    ("a bare LF behind the data", b"5\r\nhello\n0\r\n\r\n", 400),
    ("a bare CR behind the data", b"5\r\nhello\r0\r\n\r\n", 400),
    ("a size line of 257 bytes", b"1;" + b"a" * 254 + b"\r\nx\r\n0\r\n\r\n", 400),
    ("a bare LF at the end", b"0\r\n\n", 400),
    ("a bare CR at the end", b"0\r\n\rX", 400),
    ("a trailer without a colon", b"0\r\nAB\r\n\r\n", 400),
    ("a trailer without a name", b"0\r\n: b\r\n\r\n", 400),
    ("a trailer with a space before the colon", b"0\r\nA : b\r\n\r\n", 400),
    ("a folded trailer", b"0\r\nA: b\r\n c\r\n\r\n", 400),
    ("a folded first trailer", b"0\r\n A: b\r\n\r\n", 400),
    ("a bare LF in a trailer", b"0\r\nA: b\nC: d\r\n\r\n", 400),
    ("a bare LF in a trailer's name", b"0\r\nA\n: b\r\n\r\n", 400),
    ("a bare CR in a trailer", b"0\r\nA: b\rC: d\r\n\r\n", 400),
    ("NUL in a trailer", b"0\r\nA: \0\r\n\r\n", 400),
    ("a trailer section that is too long", b"0\r\nA: " + b"b" * 8192 + b"\r\n\r\n", 431),
]  # fmt: skip


class ChunkedTests:
    """Run on each twin by the classes below."""

    codec: ModuleType
    if True:  # trial's assertions, which the classes below bring
        assertEqual: Any
        assertTrue: Any
        assertIs: Any

    def body(self, pieces: list[bytes], limit: int = 8192) -> tuple[Any, ...]:
        """What this twin makes of C{pieces}."""
        return twins.body(self.codec.ChunkedBody, pieces, limit)

    def test_taken(self) -> None:
        """A body gives its payload and the trailers that may go on, however it is cut."""
        for what, data, payload, trailers in TAKEN:
            for size in (1, 2, 3, 7, len(data)):
                pieces = [data[place : place + size] for place in range(0, len(data), size)]
                self.assertEqual(self.body(pieces), (payload, True, b"", trailers), (what, size))

    def test_cut_once(self) -> None:
        """A body that is cut into two at any place is not done before the second, and the same then."""
        for what, data, payload, trailers in TAKEN:
            for place in range(len(data)):
                self.assertEqual(self.body([data[:place]])[1:], (False, b"", b""), (what, place))
                whole = self.body([data[:place], data[place:]])
                self.assertEqual(whole, (payload, True, b"", trailers), (what, place))

    def test_tail(self) -> None:
        """What follows a body is left in rest, and so is what is fed later."""
        for what, data, payload, trailers in TAKEN:
            found = self.body([data + b"GET /", b" HTTP/1.1\r\n"])
            self.assertEqual(found, (payload, True, b"GET / HTTP/1.1\r\n", trailers), what)

    def test_refused(self) -> None:
        """A malformed body is refused, whole or in pieces, for the same reason."""
        for what, data, status in REFUSED:
            found = self.body([data])
            self.assertEqual(found[0], status, (what, found))
            self.assertEqual(self.body(twins.single(data))[:2], found[:2], what)
            self.assertEqual(self.body([data[:5], data[5:]])[:2], found[:2], what)

    def test_refused_as_soon_as_seen(self) -> None:
        """A bad byte in a size is refused when it comes, not when the line ends."""
        self.assertEqual(self.body([b"+"])[0], 400)
        self.assertEqual(self.body([b"5;a\0"])[0], 400)

    def test_largest_size(self) -> None:
        """A chunk of 2^63 - 1 bytes is taken, as far as it has come."""
        self.assertEqual(self.body([b"7fffffffffffffff\r\nab", b"c"]), (b"abc", False, b"", b""))

    def test_size_line(self) -> None:
        """A size line of 256 bytes, without its LF, is taken."""
        self.assertEqual(self.body([b"1;" + b"a" * 253 + b"\r\nx\r\n0\r\n\r\n"])[0], b"x")

    def test_extensions_are_bounded(self) -> None:
        """Extensions may go with data, but a body that is nearly nothing else is refused."""
        line = b"1;" + b"a" * 200 + b"\r\nx\r\n"
        self.assertEqual(self.body([line] * 80)[0], b"x" * 80)
        self.assertEqual(self.body([line] * 200)[:2], (400, "more chunk extensions than the data is worth"))
        worth = b"1000;" + b"a" * 200 + b"\r\n" + b"x" * 4096 + b"\r\n"
        self.assertEqual(len(self.body([worth] * 200)[0]), 200 * 4096)

    def test_trailers_limit(self) -> None:
        """A trailer section may have as many bytes as allowed and not one more."""
        data = b"0\r\nA: bc\r\n\r\n"
        self.assertEqual(self.body([data], 7)[1], True)
        self.assertEqual(self.body([data], 6)[:2], (431, "a trailer section that is too long"))
        self.assertEqual(self.body([b"0\r\n\r\n"], 0)[1], True)

    def test_no_copy(self) -> None:
        """A piece that is all payload comes back as it is."""
        chunked = self.codec.ChunkedBody()
        chunked.feed(b"100\r\n")
        piece = bytes(100)
        self.assertIs(chunked.feed(piece), piece)

    def test_nothing(self) -> None:
        """An empty piece changes nothing."""
        self.assertEqual(self.body([b"", b"1\r\n", b"", b"x", b"", b"\r\n0\r\n\r", b"", b"\n"])[:2], (b"x", True))

    def test_large(self) -> None:
        """Sizes of pieces and chunks that have nothing to do with each other give the payload back."""
        payload = bytes(range(256)) * 1000
        data = b"".join(chosen.chunk(payload[place : place + 1777]) for place in range(0, len(payload), 1777))
        data += chosen.LAST_CHUNK
        pieces = [data[place : place + 4099] for place in range(0, len(data), 4099)]
        self.assertTrue(self.body(pieces) == (payload, True, b"", b""))


class PureChunkedTests(ChunkedTests, SynchronousTestCase):
    """The pure Python twin."""

    codec = twins.pure


class CompiledChunkedTests(ChunkedTests, SynchronousTestCase):
    """The compiled twin."""

    codec = twins.compiled  # type: ignore[assignment]  # skipped when it is None
    skip = twins.no_compiled
