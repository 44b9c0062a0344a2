"""Response heads: what is taken and how it is understood, and what is refused; on both twins."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.message import CHUNKED, UNTIL_CLOSE
from tests.http1 import twins


def answer(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A response with these lines."""
    return b"\r\n".join((line, *lines, b"", b""))


OK = b"HTTP/1.1 200 OK\r\n"

TAKEN: list[tuple[str, bytes, dict[str, Any]]] = [
    ("a small response", answer(b"Server: x", b"Content-Length: 3"), {
        "status": 200, "minor": 1, "length": 3, "keep_alive": True, "upgrade": None,
        "block": OK + b"Server: x\r\nContent-Length: 3\r\n", "raw": b"Server: x\r\nContent-Length: 3\r\n", "size": 49}),
    ("chunks", answer(b"Transfer-Encoding: chunked", b"A: b"), {"length": CHUNKED, "block": OK + b"A: b\r\n"}),
    ("a body until the connection ends", answer(b"A: b"), {"length": UNTIL_CLOSE, "keep_alive": False}),
    ("HTTP/1.0 closes", answer(b"Content-Length: 0", line=b"HTTP/1.0 200 OK"),
     {"minor": 0, "keep_alive": False, "block": OK + b"Content-Length: 0\r\n"}),
    ("HTTP/1.0 may keep", answer(b"Content-Length: 0", b"Connection: keep-alive", line=b"HTTP/1.0 200 OK"),
     {"keep_alive": True}),
    ("a later minor version", answer(b"Content-Length: 0", line=b"HTTP/1.7 200 OK"),
     {"minor": 1, "block": OK + b"Content-Length: 0\r\n"}),
    ("close", answer(b"Content-Length: 0", b"Connection: close"), {"keep_alive": False}),
    ("no reason", answer(b"A: b", line=b"HTTP/1.1 404 "), {"status": 404, "block": b"HTTP/1.1 404 \r\nA: b\r\n"}),
    ("not even a space", answer(b"A: b", line=b"HTTP/1.1 404"), {"block": b"HTTP/1.1 404 \r\nA: b\r\n"}),
    ("a reason beyond ASCII", answer(line=b"HTTP/1.1 599 \xe9\t a"), {"block": b"HTTP/1.1 599 \xe9\t a\r\n"}),
    ("100", answer(line=b"HTTP/1.1 100 Continue"), {"status": 100, "length": 0, "keep_alive": True}),
    ("101", answer(b"Connection: upgrade", b"Upgrade: websocket", b"A: b", line=b"HTTP/1.1 101 S"),
     {"upgrade": b"websocket", "block": b"HTTP/1.1 101 S\r\nA: b\r\n", "length": 0}),
    ("101 with no upgrade", answer(b"Upgrade: websocket", line=b"HTTP/1.1 101 S"), {"upgrade": None}),
    ("Upgrade in a 200", answer(b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 0"),
     {"upgrade": None, "block": OK + b"Content-Length: 0\r\n"}),
    ("204", answer(b"Content-Length: 0", b"A: b", line=b"HTTP/1.1 204 No"),
     {"length": 0, "keep_alive": True, "block": b"HTTP/1.1 204 No\r\nA: b\r\n"}),
    ("204 that says that a body follows", answer(b"Content-Length: 4", line=b"HTTP/1.1 204 No"),
     {"length": 0, "keep_alive": False, "block": b"HTTP/1.1 204 No\r\n"}),
    ("304", answer(b"Content-Length: 4", line=b"HTTP/1.1 304 Not"),
     {"length": 0, "keep_alive": True, "block": b"HTTP/1.1 304 Not\r\nContent-Length: 4\r\n"}),
    ("304 with chunks", answer(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 304 Not"), {"length": 0}),
    ("cookies keep their number and order", answer(b"Set-Cookie: a=1", b"X: y", b"Set-Cookie: b=2"),
     {"block": OK + b"Set-Cookie: a=1\r\nX: y\r\nSet-Cookie: b=2\r\n"}),
    ("lines are written as we write them", answer(b"A:b", b"C:  d ", line=b"HTTP/1.0 200 OK"),
     {"block": OK + b"A: b\r\nC: d\r\n"}),
    ("hop-by-hop fields go", answer(b"A: 1", b"Keep-Alive: 5", b"Connection: X-A", b"x-a: 2", b"Proxy-Authenticate: q",
                                    b"Trailer: t"), {"block": OK + b"A: 1\r\nTrailer: t\r\n"}),
    ("a status line is no field", answer(b"Connection: HTTP/1.1 200 OK", b"A: 1"), {"block": OK + b"A: 1\r\n"}),
    ("what means something in requests only stays",
     answer(b"X-Request-ID: 1", b"Host: a", b"Expect: b", b"Content_Length: 4", b"X-Forwarded-For: 5"),
     {"block": OK + b"X-Request-ID: 1\r\nHost: a\r\nExpect: b\r\nContent_Length: 4\r\nX-Forwarded-For: 5\r\n"}),
]  # fmt: skip

REFUSED: list[tuple[str, bytes]] = [
    ("an empty line first", b"\r\n" + answer()),
    ("HTTP/0.9", b"<html>"),
    ("ICY", answer(line=b"ICY 200 OK")),
    ("HTTP/2", answer(line=b"HTTP/2.0 200 OK")),
    ("lower case", answer(line=b"http/1.1 200 OK")),
    ("two spaces", answer(line=b"HTTP/1.1  200 OK")),
    ("two digits", answer(line=b"HTTP/1.1 20 OK")),
    ("four digits", answer(line=b"HTTP/1.1 2000 OK")),
    ("a sign", answer(line=b"HTTP/1.1 +20 OK")),
    ("a tab for the space", answer(line=b"HTTP/1.1 200\tOK")),
    ("status 099", answer(line=b"HTTP/1.1 099 OK")),
    ("status 600", answer(line=b"HTTP/1.1 600 OK")),
    ("NUL in the reason", answer(line=b"HTTP/1.1 200 O\0K")),
    ("a bare CR in the reason", answer(line=b"HTTP/1.1 200 O\rK")),
    ("a bare LF behind the status", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("a bare LF in a field", answer(b"A: b\nC: d")),
    ("a bare CR in a field", answer(b"A: b\rC: d")),
    ("a folded line", answer(b"A: b", b" c")),
    ("a space before the colon", answer(b"Content-Length : 3")),
    ("no colon", answer(b"AB")),
    ("Connection fields of 1025 bytes", answer(b"Connection: " + b"a," * 400, b"Connection: " + b"b" * 225)),
    ("an empty name", answer(b": b")),
    ("a control in a value", answer(b"A: \x01")),
    ("Content-Length twice, alike", answer(b"Content-Length: 3", b"content-length: 3")),
    ("Content-Length twice, differing", answer(b"Content-Length: 3", b"Content-Length: 4")),
    *((f"a Content-Length of {bad!r}", answer(b"Content-Length: " + bad))
      for bad in (b"", b"3, 3", b"+3", b"-3", b"03", b"0x3", b"3a", b"9223372036854775808")),
    ("Content-Length with Transfer-Encoding", answer(b"Content-Length: 3", b"Transfer-Encoding: chunked")),
    ("Transfer-Encoding with Content-Length", answer(b"Transfer-Encoding: chunked", b"Content-Length: 3")),
    ("Transfer-Encoding twice", answer(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    ("Transfer-Encoding in HTTP/1.0", answer(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK")),
    ("Transfer-Encoding in a 204", answer(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 204 No")),
    ("Transfer-Encoding in a 103", answer(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 103 Early")),
    *((f"a Transfer-Encoding of {bad!r}", answer(b"Transfer-Encoding: " + bad))
      for bad in (b"", b"gzip", b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked")),
]  # fmt: skip


class ResponseTests:
    """Run on each twin by the classes below."""

    codec: ModuleType
    if True:  # trial's assertions, which the classes below bring
        assertEqual: Any
        assertIsNone: Any

    def test_taken(self) -> None:
        """A good head is understood as the table says, and is not taken before its last byte is there."""
        for what, data, expected in TAKEN:
            found, size = twins.growing(self.codec.response, data)
            assert isinstance(found, dict), (what, found)
            self.assertEqual({name: found[name] for name in expected}, expected, what)
            self.assertEqual((size, found["size"]), (len(data), len(data)), what)

    def test_tail(self) -> None:
        """What follows a head changes nothing in how it is understood."""
        for what, data, _ in TAKEN:
            alone = twins.outcome(self.codec.response, data)
            self.assertEqual(twins.outcome(self.codec.response, data + b"HTTP/1.1 200 OK\r\n\r\n"), alone, what)
            self.assertEqual(twins.outcome(self.codec.response, data + b"\0\n\r"), alone, what)

    def test_refused(self) -> None:
        """A bad head is a 502, whole, byte by byte, and with something behind it, for one and the same reason."""
        for what, data in REFUSED:
            found = twins.outcome(self.codec.response, data)
            assert isinstance(found, tuple), (what, found)
            self.assertEqual(found[0], 502, what)
            self.assertEqual(twins.growing(self.codec.response, data)[0], found, what)
            self.assertEqual(twins.outcome(self.codec.response, data + b"\r\n\r\nabc"), found, what)

    def test_answer_to_head(self) -> None:
        """No body follows an answer to HEAD, whatever its fields say, and they go on to the client."""
        for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"A: b"):
            found = self.codec.response(answer(line), True)
            self.assertEqual((found.length, found.keep_alive), (0, True), line)
        self.assertEqual(self.codec.response(answer(b"Content-Length: 5"), True).block, OK + b"Content-Length: 5\r\n")

    def test_header_size(self) -> None:
        """A head may have header_size bytes and not one more; beyond it nobody waits any longer."""
        data = answer(b"A: " + b"b" * 100)
        refusal = (502, "a head that is too long")
        self.assertEqual(self.codec.response(data, False, len(data)).size, len(data))
        self.assertEqual(twins.outcome(self.codec.response, data, False, len(data) - 1), refusal)
        self.assertIsNone(self.codec.response(data[:-1], False, len(data) - 1))
        for limit in (0, 5, 12, 13, 15, 16, 40):
            self.assertEqual(twins.growing(self.codec.response, data, False, limit), (refusal, limit + 1))

    def test_fields_number(self) -> None:
        """A head may have as many fields as allowed and not one more."""
        data = answer(*[b"A: b"] * 4)
        self.assertEqual(self.codec.response(data, False, 65536, 4).size, len(data))
        self.assertEqual(twins.outcome(self.codec.response, data, False, 65536, 3), (502, "too many fields"))


class PureResponseTests(ResponseTests, SynchronousTestCase):
    """The pure Python twin."""

    codec = twins.pure


class CompiledResponseTests(ResponseTests, SynchronousTestCase):
    """The compiled twin."""

    codec = twins.compiled  # type: ignore[assignment]  # skipped when it is None
    skip = twins.no_compiled
