"""How a response is framed for its client: each row of the table in L{lemmytx.proxy.framing}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec
from lemmytx.message import RequestHead, ResponseHead
from lemmytx.proxy import framing

DATE = b"Date: Sat, 21 Nov 2026 00:34:07 GMT\r\n"
KNOWN = b"Content-Length: 5\r\n"


def response(fields: bytes) -> ResponseHead:
    """The head of a backend's answer with these fields."""
    head = codec.response(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", False, 1000, 10)
    assert head is not None
    return head


def request(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1\r\n") -> RequestHead:
    """The head of a request with these fields."""
    head = codec.request(line + b"Host: a\r\n" + fields + b"\r\n", False, 1000, 10)
    assert head is not None
    return head


class ResponseTests(SynchronousTestCase):
    """A backend's response."""

    def framed(self, length: bytes, minor: int, close: bool) -> tuple[list[bytes], bytes]:
        """The fields that C{Hello} gets besides the backend's, and its body."""
        head = response(DATE + length)
        wire = framing.response(head, minor, close, b"Hello", True, b"")
        self.assertTrue(wire.startswith(head.block), wire)
        # With the CRLF of the last of the backend's fields, so that the empty line is found when nothing is added.
        fields, _, body = wire[len(head.block) - 2 :].partition(b"\r\n\r\n")
        return fields.split(b"\r\n")[1:], body

    def test_known(self) -> None:
        """With a known length only the connection's end is said, and to HTTP/1.0 that it goes on."""
        self.assertEqual(self.framed(KNOWN, 1, False), ([], b"Hello"))
        self.assertEqual(self.framed(KNOWN, 1, True), ([b"Connection: close"], b"Hello"))
        self.assertEqual(self.framed(KNOWN, 0, False), ([b"Connection: keep-alive"], b"Hello"))
        self.assertEqual(self.framed(KNOWN, 0, True), ([b"Connection: close"], b"Hello"))

    def test_unknown(self) -> None:
        """Without a length the body goes in chunks, and to HTTP/1.0 up to the end of the connection."""
        chunks = b"5\r\nHello\r\n0\r\n\r\n"
        self.assertEqual(self.framed(b"", 1, False), ([b"Transfer-Encoding: chunked"], chunks))
        self.assertEqual(self.framed(b"", 1, True), ([b"Transfer-Encoding: chunked", b"Connection: close"], chunks))
        self.assertEqual(self.framed(b"", 0, True), ([b"Connection: close"], b"Hello"))

    def test_begins(self) -> None:
        """A body that goes on has no last chunk, and none at all as long as nothing of it is there."""
        head = response(DATE)
        self.assertTrue(framing.response(head, 1, False, b"Hello", False, b"").endswith(b"\r\n\r\n5\r\nHello\r\n"))
        self.assertTrue(framing.response(head, 1, False, b"", False, b"").endswith(b"chunked\r\n\r\n"))

    def test_trailers(self) -> None:
        """Trailers go behind the last chunk, and are lost where there are no chunks."""
        head = response(DATE)
        self.assertTrue(framing.response(head, 1, False, b"", True, b"A: b\r\n").endswith(b"\r\n0\r\nA: b\r\n\r\n"))
        self.assertTrue(framing.response(head, 0, True, b"", True, b"A: b\r\n").endswith(b"close\r\n\r\n"))

    def test_dated(self) -> None:
        """Date is added where the backend left it out, and there alone."""
        self.assertEqual(framing.response(response(KNOWN), 1, False, b"Hello", True, b"").count(b"\r\nDate: "), 1)
        self.assertEqual(framing.response(response(DATE + KNOWN), 1, True, b"Hello", True, b"").count(b"\r\nDate: "), 1)
        self.assertEqual(framing.response(response(b""), 0, True, b"Hello", True, b"").count(b"\r\nDate: "), 1)


class OwnTests(SynchronousTestCase):
    """Answers of our own."""

    def test_connection(self) -> None:
        """They say the same of the connection as a backend's would."""
        old = request(line=b"GET / HTTP/1.0\r\n")
        self.assertNotIn(b"Connection:", framing.reply(404, request(), False, b"", b""))
        self.assertIn(b"\r\nConnection: close\r\n", framing.reply(404, request(), True, b"", b""))
        self.assertIn(b"\r\nConnection: keep-alive\r\n", framing.reply(404, old, False, b"", b""))
        self.assertIn(b"\r\nConnection: close\r\n", framing.reply(404, old, True, b"", b""))

    def test_rejection(self) -> None:
        """What is not let in gets an answer in its kind as far as that is known, and the connection's end is said."""
        head = request(b"Accept: application/json\r\n", b"HEAD / HTTP/1.1\r\n")
        unknown, known = framing.rejection(413, None), framing.rejection(413, head)
        self.assertIn(b"\r\nContent-Type: text/plain", unknown)
        self.assertIn(b"\r\nContent-Type: application/json\r\n", known)
        self.assertFalse(unknown.endswith(b"\r\n\r\n"))
        self.assertTrue(known.endswith(b"\r\n\r\n"))
        for wire in (unknown, known):
            self.assertIn(b"\r\nConnection: close\r\n", wire)

    def test_switching(self) -> None:
        """A tunnel is opened with the protocol that the backend names, else with the one that was asked for."""
        named = codec.response(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: new\r\n\r\n", False, 1000, 10)
        silent = codec.response(b"HTTP/1.1 101 Go\r\n\r\n", False, 1000, 10)
        assert named is not None
        assert silent is not None
        self.assertTrue(framing.switching(named, b"old").endswith(b"Connection: upgrade\r\nUpgrade: new\r\n\r\n"))
        self.assertTrue(framing.switching(silent, b"old").endswith(b"Connection: upgrade\r\nUpgrade: old\r\n\r\n"))
