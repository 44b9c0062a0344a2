"""What CGI programs answer: how heads are understood, made into HTTP/1.1, and refused."""

from __future__ import annotations

from email.parser import BytesParser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.fastcgi import answers
from lemmytx.fastcgi.answers import AnswerHead
from lemmytx.http1 import codec, rules
from lemmytx.message import ProtocolError

OK = b"HTTP/1.1 200 OK\r\n"


def take(pieces: list[bytes], **bounds: int) -> tuple[Any, ...] | None:
    """What comes of these pieces: a refusal; status, lines, whether measured, and the body; None: not whole."""
    head = AnswerHead(**bounds)
    body = None
    try:
        for piece in pieces:
            body = head.feed(piece) if body is None else body + piece
        if body is None:
            return None
        codec.response(head.lines + b"\r\n")
    except ProtocolError as error:
        return error.status, error.reason
    return head.status, head.lines, head.measured, body


def single(data: bytes) -> list[bytes]:
    """One byte a piece."""
    return [data[at : at + 1] for at in range(len(data))]


#: A head; its status and lines.
TAKEN: list[tuple[str, bytes, int, bytes]] = [
    ("as PHP writes it", b"X-Powered-By: PHP/8\r\nContent-type: text/html; charset=UTF-8\r\n\r\n", 200,
     OK + b"X-Powered-By: PHP/8\r\nContent-type: text/html; charset=UTF-8\r\n"),
    ("LF alone", b"Content-Type: text/plain\nA: b\n\n", 200, OK + b"Content-Type: text/plain\r\nA: b\r\n"),
    ("LF and CRLF", b"A: b\nC: d\r\n\n", 200, OK + b"A: b\r\nC: d\r\n"),
    ("CRLF and LF", b"A: b\r\nC: d\n\r\n", 200, OK + b"A: b\r\nC: d\r\n"),
    ("a Status", b"Status: 404 Not Found\r\nA: b\r\n\r\n", 404, b"HTTP/1.1 404 Not Found\r\nA: b\r\n"),
    ("a Status last, in other case", b"A: b\nSTATUS:503\n\n", 503, b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n"),
    ("a Status alone", b"Status: 204\n\n", 204, b"HTTP/1.1 204 No Content\r\n"),
    ("a Status with its own reason", b"Status: 200  Fine, thanks\n\n", 200, b"HTTP/1.1 200 Fine, thanks\r\n"),
    ("an unknown Status", b"Status: 599\n\n", 599, b"HTTP/1.1 599 \r\n"),
    ("a Location", b"Location: http://b.example/x\n\n", 302,
     b"HTTP/1.1 302 Found\r\nLocation: http://b.example/x\r\n"),
    ("a Location that is a path", b"Location: /x?y\n\n", 302, b"HTTP/1.1 302 Found\r\nLocation: /x?y\r\n"),
    ("a Location with a Status", b"Location: /new\nStatus: 201 Created\n\n", 201,
     b"HTTP/1.1 201 Created\r\nLocation: /new\r\n"),
    ("cookies keep number and order", b"Set-Cookie: a=1\nX: y\nSet-Cookie: b=2\n\n", 200,
     OK + b"Set-Cookie: a=1\r\nX: y\r\nSet-Cookie: b=2\r\n"),
    ("what is about a connection goes",
     b"A: 1\nConnection: close, X-A\nX-A: 2\nKeep-Alive: 5\nTransfer-Encoding: chunked\nUpgrade: h2c\nTE: x\n"
     b"Trailer: y\nProxy-Connection: z\nProxy-Authenticate: q\n\n", 200, OK + b"A: 1\r\n"),
    ("Connection cannot remove what the body is",
     b"Connection: content-type, date, location\nContent-Type: a/b\nDate: d\nStatus: 200\nLocation: /\n\n", 200,
     OK + b"Content-Type: a/b\r\nDate: d\r\nLocation: /\r\n"),
    ("an empty value", b"A:\nB: \n\n", 200, OK + b"A: \r\nB: \r\n"),
    ("a value beyond ASCII", b"A: \xe4\xff\n\n", 200, OK + b"A: \xe4\xff\r\n"),
]  # fmt: skip

REFUSED: list[tuple[str, bytes, str]] = [
    ("no field, LF", b"\nbody", answers.EMPTY),
    ("no field, CRLF", b"\r\nbody", answers.EMPTY),
    ("HTTP", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", rules.NAME_BYTE),
    ("a body without a head", b"<html>\n\n</html>", rules.NAME_BYTE),
    ("no colon", b"A: b\nC\n\n", rules.NAME_BYTE),
    ("no name", b": b\n\n", rules.NAME_BYTE),
    ("a space before the colon", b"Status : 404\n\n", rules.NAME_BYTE),
    ("NUL in a name", b"A\0: b\n\n", rules.NAME_BYTE),
    ("a line that goes on", b"A: b\n c: d\n\n", rules.FOLDED),
    ("a first line that goes on", b"\tA: b\n\n", rules.FOLDED),
    ("two Status", b"Status: 200\nStatus: 200\n\n", answers.STATUS_TWICE),
    ("two Status, the first empty", b"Status:\nStatus: 200\n\n", answers.STATUS_TWICE),
    *((f"Status {bad!r}", b"Status: " + bad + b"\n\n", answers.STATUS_BAD)
      for bad in (b"", b"20", b"2000", b"099", b"600", b"+20", b"OK", b"200OK", b"HTTP/1.1 200", b"\xb2\xb2\xb2")),
    *((f"Status {bad!r}", b"Status: " + bad + b"\n\n", answers.STATUS_INTERIM) for bad in (b"100", b"101 S", b"199")),
    ("two Locations", b"Location: /a\nLocation: /b\n\n", answers.LOCATION_TWICE),
    ("two Locations, the first empty", b"Location:\nLocation: /b\n\n", answers.LOCATION_TWICE),
    ("a bare CR", b"A: b\rC: d\n\n", rules.BARE_CR),
    ("two CR", b"A: b\r\r\n\r\n", rules.BARE_CR),
    ("a bare CR in the reason", b"Status: 200 O\rK\n\n", rules.BARE_CR),
    ("NUL in a value", b"A: \0\n\n", rules.VALUE_BYTE),
    ("NUL in the reason", b"Status: 200 \0\n\n", rules.REASON_BYTE),
    ("two lengths", b"Content-Length: 3\nContent-Length: 3\n\n", rules.LENGTH_TWICE),
    *((f"a length of {bad!r}", b"Content-Length: " + bad + b"\n\n", rules.LENGTH_BAD)
      for bad in (b"", b"-1", b"+1", b"1,1", b"01", b"0x1", b"9223372036854775808")),
]  # fmt: skip


class AnswerHeadTests(SynchronousTestCase):
    """Heads of answers."""

    def test_taken(self) -> None:
        """A good head is understood as the table says: whole, byte by byte, with a body behind it."""
        for what, data, status, lines in TAKEN:
            for body in (b"", b"abc\n\ndef\r\n\r\n"):
                expected = (status, lines, False, body)
                self.assertEqual(take([data + body]), expected, what)
                self.assertEqual(take(single(data + body)), expected, what)
                self.assertEqual(take([data, body] if body else [data]), expected, what)

    def test_not_before_its_end(self) -> None:
        """No part of a good head is taken for the whole of it, or for a bad one."""
        for what, data, _, _ in TAKEN:
            for size in range(len(data)):
                self.assertIsNone(take([data[:size]]), (what, size))

    def test_refused(self) -> None:
        """A bad head is a 502 with its reason, whole, byte by byte, and with a body behind it."""
        for what, data, reason in REFUSED:
            self.assertEqual(take([data]), (502, reason), what)
            self.assertEqual(take(single(data)), (502, reason), what)
            self.assertEqual(take([data + b"A: b\n\nabc"]), (502, reason), what)

    def test_measured(self) -> None:
        """A Content-Length stays, and is said to be there."""
        self.assertEqual(take([b"content-LENGTH: 3\n\nabc"]), (200, OK + b"content-LENGTH: 3\r\n", True, b"abc"))

    def test_size(self) -> None:
        """A head may have so many bytes with its empty line, and not one more, however it comes."""
        data = b"A: " + b"b" * 50 + b"\r\n\r\n"
        refusal = (502, rules.HEAD_LONG)
        self.assertIsNotNone(take([data + b"x" * 100], size=len(data)))
        self.assertIsNotNone(take(single(data), size=len(data)))
        self.assertEqual(take([data], size=len(data) - 1), refusal)
        self.assertEqual(take(single(data), size=len(data) - 1), refusal)
        self.assertEqual(take([b"A: " + b"b" * 100], size=102), refusal)
        self.assertIsNone(take([b"A: " + b"b" * 99], size=102))

    def test_fields(self) -> None:
        """A head may have so many fields, Status included, and not one more."""
        data = b"Status: 200\n" + b"A: b\n" * 4 + b"\n"
        self.assertIsNotNone(take([data], fields=5))
        self.assertEqual(take([data], fields=4), (502, rules.FIELDS_MANY))

    @settings(deadline=None, derandomize=True, max_examples=400)
    @given(st.lists(st.sampled_from((b"Status", b"A", b":", b" ", b"200", b"\n", b"\r", b"\r\n", b"\0", b"Location"))))
    def test_rubbish(self, words: list[bytes]) -> None:
        """Nothing raises anything but ProtocolError, and a head means the same however it comes."""
        data = b"".join(words)
        self.assertEqual(take(single(data)), take([data]))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(
        st.lists(
            st.tuples(
                st.from_regex(rb"X-[A-Za-z0-9]{1,8}", fullmatch=True),
                st.from_regex(rb"(?:[!-~](?:[ -~]{0,20}[!-~])?)?", fullmatch=True),
            ),
            min_size=1,
            max_size=8,
        ),
        st.sampled_from((b"\n", b"\r\n")),
    )
    def test_as_others_read_it(self, fields: list[tuple[bytes, bytes]], line_end: bytes) -> None:
        """The standard library's reader of such heads finds the same fields in what goes in and what comes out."""
        data = b"".join(name + b": " + value + line_end for name, value in fields) + line_end
        found = take([data])
        assert found is not None and found[0] == 200, found
        for text in (data, found[1].partition(b"\r\n")[2] + b"\r\n"):
            self.assertEqual(
                [(name.encode(), value.encode()) for name, value in BytesParser().parsebytes(text).items()], fields
            )
