"""The compiled twin at the ends of its buffers: every answer is the pure one's, and nothing is lost or kept."""

from __future__ import annotations

import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.http1 import test_chunked, test_request, test_response, twins

BIG = 1 << 20


class BoundsTests(SynchronousTestCase):
    """Heads that fill what the compiled twin has made room for."""

    skip = twins.no_compiled

    def same(self, data: bytes, headers: int = 100000) -> None:
        """Both twins come to one outcome, which is a head."""
        assert twins.compiled is not None
        for name in ("request", "response"):
            start = b"GET / HTTP/1.1\r\nHost: a\r\n" if name == "request" else b"HTTP/1.0 200\r\n"
            found = twins.outcome(getattr(twins.compiled, name), start + data + b"\r\n", False, BIG, headers)
            assert isinstance(found, dict), found
            expected = twins.outcome(getattr(twins.pure, name), start + data + b"\r\n", False, BIG, headers)
            self.assertTrue(found == expected, (name, len(data)))

    def test_shortest_lines(self) -> None:
        """Lines that each grow by a byte when they are written out, up to tens of thousands of them."""
        for count in (0, 1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 20000):
            self.same(b"a:\r\n" * count)
            self.same(b"a:b\r\n" * count)
            self.same(b"a: b\r\n" * count + b"a:\r\n")

    def test_mixed_lines(self) -> None:
        """Lines that stay as they are between lines that do not, and lines that go."""
        for count in (1, 2, 3, 50, 500):
            self.same(b"a: b\r\nc:d\r\nKeep-Alive: e\r\n" * count)
            self.same(b"c:d\r\na: b\r\ne: f\r\nte: g\r\na: b\r\n" * count)
            self.same(b"te: g\r\n" * count + b"x:  \t\r\n" * count)

    def test_long_values(self) -> None:
        """Values of every length around powers of two, up to 64 KiB and beyond."""
        for size in (1, 255, 256, 257, 4095, 4096, 4097, 65535, 65536, 65537, 500000):
            self.same(b"A: " + b"\xff" * size + b"\r\n")
            self.same(b"A:" + b"v" * size + b" " * size + b"\r\n")
            self.same(b"n" * size + b":v\r\n")

    def test_every_length(self) -> None:
        """Heads of every length, cut at every byte, are not whole, or are whole, as the twin says."""
        assert twins.compiled is not None
        data = b"\r\nGET /a?b HTTP/1.1\r\nHost: a:80\r\nA:b\r\nB: c\r\nConnection: x, close\r\nX: 1\r\n\r\n"
        for size in range(len(data) + 1):
            for limit in range(len(data) + 2):
                self.assertEqual(
                    twins.outcome(twins.compiled.request, data[:size], False, limit),
                    twins.outcome(twins.pure.request, data[:size], False, limit),
                    (size, limit),
                )

    def test_nothing_else_than_bytes(self) -> None:
        """What is not bytes is a TypeError, not an access to memory."""
        assert twins.compiled is not None
        for wrong in (None, "GET", bytearray(b"GET"), memoryview(b"GET"), 3):
            self.assertRaises(TypeError, twins.compiled.request, wrong)
            self.assertRaises(TypeError, twins.compiled.response, wrong)
            self.assertRaises(TypeError, twins.compiled.ChunkedBody().feed, wrong)

    def test_no_leak(self) -> None:
        """Taking and refusing the tables a hundred times leaves no block of memory behind."""
        heads: list[Any] = [row[1] for row in (*test_request.TAKEN, *test_request.REFUSED)]
        heads += [row[1] for row in (*test_response.TAKEN, *test_response.REFUSED)]
        bodies: list[Any] = [row[1] for row in (*test_chunked.TAKEN, *test_chunked.REFUSED)]

        def once() -> None:
            assert twins.compiled is not None
            for data in heads:
                twins.outcome(twins.compiled.request, data, True)
                twins.outcome(twins.compiled.response, data)
            for data in bodies:
                twins.body(twins.compiled.ChunkedBody, [data])

        for _ in range(5):
            once()
        before = sys.getallocatedblocks()
        for _ in range(100):
            once()
        self.assertTrue(sys.getallocatedblocks() - before < 100, sys.getallocatedblocks() - before)
