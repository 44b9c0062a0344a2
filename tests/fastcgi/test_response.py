"""Whole answers: records, heads and bodies, and whether they agree."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.fastcgi import response
from lemmytx.fastcgi.response import Response
from lemmytx.message import CHUNKED, ProtocolError
from tests.fastcgi.application import STDERR, STDOUT, answer, end, output, record

Outcome = tuple[object, ...]


def take(pieces: list[bytes], headless: bool = False) -> Outcome:
    """
    What comes of these reads: status and reason of a refusal; or status, length by the head, body, and whether it is
    delivered, done, clean and turned away.
    """
    found = Response(headless, 65536, 200)
    body = b""
    try:
        for piece in pieces:
            body += found.feed(piece)
    except ProtocolError as error:
        return error.status, error.reason
    head = found.head
    seen = (None, None) if head is None else (head.status, head.length)
    return *seen, body, found.delivered, found.done, found.done and found.clean, found.turned_away


def single(data: bytes) -> list[bytes]:
    """One byte a read."""
    return [data[at : at + 1] for at in range(len(data))]


MEASURED = b"Content-Length: 3\n\n"

#: What comes; whether it answers a HEAD; what becomes of it in one read, and, where that differs, byte by byte.
TAKEN: list[tuple[str, bytes, bool, Outcome, int | None]] = [
    ("nothing", b"", False, (None, None, b"", False, False, False, False), None),
    ("a part of a head", output(b"A: b\n"), False, (None, None, b"", False, False, False, False), None),
    ("a head", output(b"A: b\n\n"), False, (200, CHUNKED, b"", False, False, False, False), None),
    ("all at once", answer(b"A: b\n\nabc"), False, (200, 3, b"abc", True, True, True, False), CHUNKED),
    ("all at once, empty", answer(b"A: b\n\n"), False, (200, 0, b"", True, True, True, False), CHUNKED),
    ("a part of a body", output(b"A: b\n\nab"), False, (200, CHUNKED, b"ab", False, False, False, False), None),
    ("measured", answer(MEASURED + b"abc"), False, (200, 3, b"abc", True, True, True, False), None),
    ("measured, a part", output(MEASURED + b"ab"), False, (200, 3, b"ab", False, False, False, False), None),
    ("measured, all and no end", output(MEASURED + b"abc"), False, (200, 3, b"abc", True, False, False, False), None),
    ("measured, and more", answer(MEASURED + b"abcd"), False, (200, 3, b"abc", True, True, False, False), None),
    ("to HEAD", answer(MEASURED + b"abc"), True, (200, 0, b"", True, True, True, False), None),
    ("to HEAD, no end", output(b"A: b\n\n"), True, (200, 0, b"", True, False, False, False), None),
    ("204", answer(b"Status: 204\n\nabc"), False, (204, 0, b"", True, True, True, False), None),
    ("304", answer(b"Status: 304\nContent-Length: 9\n\n"), False, (304, 0, b"", True, True, True, False), None),
    ("errors before", record(STDERR, b"e") + answer(b"A: b\n\n"), True, (200, 0, b"", True, True, True, False), None),
    ("turned away", end(0, 2), False, (None, None, b"", False, True, True, True), None),
]

REFUSED: list[tuple[str, bytes, str]] = [
    ("no answer at all", end(3), "the program ended (status 3) without a head"),
    ("a part of a head", answer(b"A: b\n"), "the program ended (status 0) without a head"),
    ("errors alone", record(STDERR, b"e") + end(), "the program ended (status 0) without a head"),
    ("less than announced", answer(MEASURED + b"a"), "the program ended 2 bytes before its Content-Length"),
    ("turned away after output", output(b"A") + end(0, 2), response.TURNED),
    ("turned away after a head", output(b"A: b\n\n") + end(0, 1), response.TURNED),
    ("turned away after a body", output(MEASURED + b"abc") + end(0, 3), response.TURNED),
    ("turned away after errors", record(STDERR, b"e") + end(0, 2), response.TURNED),
]


class ResponseTests(SynchronousTestCase):
    """Answers."""

    def test_taken(self) -> None:
        """An answer is what the table says, in one read and byte by byte."""
        for what, data, headless, expected, bytewise in TAKEN:
            self.assertEqual(take([data], headless), expected, what)
            if bytewise is not None:
                expected = (expected[0], bytewise, expected[2], False, *expected[4:])
            self.assertEqual(take(single(data), headless), expected, what)

    def test_refused(self) -> None:
        """An answer that breaks its own word is a 502 with its reason, in one read and byte by byte."""
        for what, data, reason in REFUSED:
            self.assertEqual(take([data]), (502, reason), what)
            self.assertEqual(take(single(data)), (502, reason), what)

    def test_as_large_as_allowed(self) -> None:
        """A head may have all the bytes and fields that it is allowed, whatever has to be added to it for HTTP."""
        text = b"A: b\n" * 7 + b"\n"
        for data in (answer(text + b"abc"), output(text)):
            found = Response(False, len(text), 7)
            found.feed(data)
            assert found.head is not None
            self.assertEqual(found.head.status, 200)
            for size, fields in ((len(text) - 1, 7), (len(text), 6)):
                with self.assertRaises(ProtocolError):
                    Response(False, size, fields).feed(data)

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(
        st.binary(max_size=60),
        st.integers(-1, 70),
        st.lists(st.integers(0, 200), max_size=8),
        st.lists(st.integers(1, 40), max_size=8),
        st.booleans(),
    )
    def test_any_pieces(self, body: bytes, length: int, cuts: list[int], sizes: list[int], headless: bool) -> None:
        """However a program writes its answer, and however that is cut into reads: it is the same answer."""
        text = b"A: b\n%b\n" % (b"Content-Length: %d\n" % length if length >= 0 else b"") + body
        data = b""
        for size in (*sizes, len(text) or 1):
            data += record(STDOUT, text[:size], padding=size % 7) if text else b""
            text = text[size:]
        data += end()
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        found = take([data[one:other] for one, other in pairwise(places)], headless)
        if headless:
            self.assertEqual(found, (200, 0, b"", True, True, True, False))
        elif length > len(body):
            self.assertEqual(found, (502, f"the program ended {length - len(body)} bytes before its Content-Length"))
        elif length >= 0:
            self.assertEqual(found, (200, length, body[:length], True, True, length == len(body), False))
        else:
            self.assertIn(found[1], (CHUNKED, len(body)))
            self.assertEqual((found[0], found[2], found[4:]), (200, body, (True, True, False)))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(
        st.lists(
            st.sampled_from((
                output(b"A: b\n"), output(b"\n"), output(b"Content-Length: 2\n"), output(b"x"), record(STDERR, b"e"),
                record(STDOUT), record(STDERR), end(), end(1), end(0, 2), output(b"Status: 204\n"), b"\1", b"\6",
            )),
            max_size=8,
        ),
    )  # fmt: skip
    def test_rubbish(self, pieces: list[bytes]) -> None:
        """Nothing raises anything but ProtocolError, and what has come is never more than was announced."""
        found = Response(False, 65536, 200)
        body = b""
        try:
            for piece in pieces:
                if not found.done:
                    body += found.feed(piece)
        except ProtocolError as error:
            self.assertEqual(error.status, 502)
            return
        if found.head is not None and found.head.length >= 0:
            self.assertLessEqual(len(body), found.head.length)
            self.assertEqual(found.delivered, len(body) == found.head.length)
