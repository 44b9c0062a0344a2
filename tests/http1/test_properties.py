"""What holds for every input, and the twins against each other and against h11 and llhttp."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import h11
import httptools
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import rules
from lemmytx.message import CHUNKED, ProtocolError, fields
from tests.http1 import messages, twins

bounded = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
requests = st.one_of(messages.request_heads(), messages.damaged(messages.request_heads()), st.binary(max_size=60))
responses = st.one_of(messages.response_heads(), messages.damaged(messages.response_heads()), st.binary(max_size=60))
bodies = st.binary(max_size=40).flatmap(lambda payload: messages.damaged(messages.chunks(payload)))
LINE = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: (?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
)


class TwinTests(SynchronousTestCase):
    """The same outcome from both twins: attributes, statuses, reasons."""

    skip = twins.no_compiled

    @bounded
    @given(requests, st.booleans(), st.sampled_from([32768, 200, 60, 20]), st.sampled_from([100, 3, 1]))
    @example(b"\r", False, 1, 1)
    @example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False, 0, 0)
    def test_request(self, data: bytes, trusted: bool, header_size: int, headers: int) -> None:
        """Any bytes are the same request, or the same error, to both."""
        assert twins.compiled is not None
        self.assertEqual(
            twins.outcome(twins.compiled.request, data, trusted, header_size, headers),
            twins.outcome(twins.pure.request, data, trusted, header_size, headers),
        )

    @bounded
    @given(responses, st.booleans(), st.sampled_from([65536, 200, 60, 20]), st.sampled_from([200, 3, 1]))
    def test_response(self, data: bytes, head_request: bool, header_size: int, headers: int) -> None:
        """Any bytes are the same response, or the same error, to both."""
        assert twins.compiled is not None
        self.assertEqual(
            twins.outcome(twins.compiled.response, data, head_request, header_size, headers),
            twins.outcome(twins.pure.response, data, head_request, header_size, headers),
        )

    @bounded
    @given(bodies, st.integers(1, 30), st.sampled_from([8192, 5]))
    def test_chunked(self, data: bytes, size: int, limit: int) -> None:
        """Any bytes, in any pieces, are the same body, or the same error, to both."""
        assert twins.compiled is not None
        pieces = [data[place : place + size] for place in range(0, len(data), size)]
        self.assertEqual(
            twins.body(twins.compiled.ChunkedBody, pieces, limit), twins.body(twins.pure.ChunkedBody, pieces, limit)
        )


class PropertyTests:
    """Run on each twin by the classes below."""

    codec: ModuleType
    if True:  # trial's assertions, which the classes below bring
        assertEqual: Any
        assertIsNone: Any
        assertNotIn: Any
        assertTrue: Any

    @bounded
    @given(requests)
    def test_size(self, data: bytes) -> None:
        """What a head says that it took is enough for it, and not a byte too much."""
        head = self.parsed(data)
        if head is not None:
            alone = data[: head.size]
            self.assertEqual(twins.outcome(self.codec.request, alone), twins.outcome(self.codec.request, data))
            self.assertIsNone(self.codec.request(alone[:-1]))
            self.assertTrue(alone.endswith(b"\r\n" + head.raw + b"\r\n"))

    @bounded
    @given(requests)
    def test_errors_stay(self, data: bytes) -> None:
        """An error in a part of a head is the error of the whole, whatever comes behind it."""
        found, size = twins.growing(self.codec.request, data)
        self.assertEqual(twins.outcome(self.codec.request, data), found, size)

    @bounded
    @given(requests, st.booleans())
    def test_block(self, data: bytes, trusted: bool) -> None:
        """A block is nothing but clean lines, none of them one that must go; the next proxy has nothing to change."""
        head = self.parsed(data, trusted)
        if head is None:
            return
        for line in head.block.split(b"\r\n")[:-1]:
            assert LINE.fullmatch(line), line
            self.assertNotIn(
                rules.kind(line.partition(b":")[0]),
                (rules.DROP, rules.HOST, rules.CODING, rules.CONNECTION, rules.UPGRADE, rules.CLAIM),
            )
        self.assertTrue(head.block == b"" or head.block.endswith(b"\r\n"))
        again = self.codec.request(b"GET / HTTP/1.1\r\nHost: a\r\n" + head.block + b"\r\n")
        self.assertEqual(again.block, head.block)

    @bounded
    @given(responses)
    def test_response_block(self, data: bytes) -> None:
        """A response's block is a status line and clean lines, none of them of this connection only."""
        try:
            head = self.codec.response(data)
        except ProtocolError:
            return
        if head is None:
            return
        first, *rest = head.block.split(b"\r\n")[:-1]
        self.assertTrue(first.startswith(b"HTTP/1.1 %d " % head.status))
        for line in rest:
            assert LINE.fullmatch(line), line
            self.assertNotIn(
                rules.KINDS.get(line.partition(b":")[0].lower()),
                (rules.DROP, rules.CODING, rules.CONNECTION, rules.UPGRADE),
            )

    @bounded
    @given(messages.good_requests())
    def test_read_back(self, good: tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]) -> None:
        """What was written is what is read: method, target, fields and body."""
        method, target, written, body, data = good
        head = self.codec.request(data)
        self.assertEqual((head.method, head.target), (method, target))
        kept = [pair for pair in fields(head.block) if pair[0] != b"content-length"]
        self.assertEqual(kept, [(name.lower(), value) for name, value in written])
        self.assertEqual(self.payload(head, data), body)

    @bounded
    @given(bodies, st.integers(1, 30))
    def test_pieces(self, data: bytes, size: int) -> None:
        """A chunked body is the same however it is cut."""
        pieces = [data[place : place + size] for place in range(0, len(data), size)]
        whole, cut = twins.body(self.codec.ChunkedBody, [data]), twins.body(self.codec.ChunkedBody, pieces)
        if isinstance(whole[0], int):  # of a refused one the payload before the error depends on the pieces
            whole, cut = whole[:2], cut[:2]
        self.assertEqual(cut, whole)

    @bounded
    @given(st.one_of(messages.good_requests().map(lambda good: good[4]), messages.damaged(messages.request_heads())))
    def test_h11(self, data: bytes) -> None:
        """What we take and h11 takes is the same to both."""
        head = self.parsed(data)
        if head is None:
            return
        other = h11.Connection(h11.SERVER)
        other.receive_data(data[2:] if data.startswith(b"\r\n") else data)
        try:
            event = other.next_event()
            assert isinstance(event, h11.Request), event
            found = b""
            while type(piece := other.next_event()) is h11.Data:
                found += bytes(piece.data)
        except h11.RemoteProtocolError:
            return
        self.assertEqual(event.method, head.method)
        if event.target.startswith((b"/", b"*")):
            self.assertEqual(event.target, head.target)
        self.assertEqual([(bytes(name), bytes(value)) for name, value in event.headers], self.normal(head.fields()))
        if type(piece) is h11.EndOfMessage:
            self.assertEqual(found, self.payload(head, data))

    @bounded
    @given(messages.good_requests())
    def test_h11_takes_good(self, good: tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes, bytes]) -> None:
        """h11 takes the good requests too, so that the comparison compares."""
        other = h11.Connection(h11.SERVER)
        other.receive_data(good[4])
        self.assertEqual(type(other.next_event()), h11.Request)

    @bounded
    @given(st.one_of(messages.good_requests().map(lambda good: good[4]), messages.damaged(messages.request_heads())))
    def test_llhttp(self, data: bytes) -> None:
        """What we take and llhttp takes is the same to both."""
        head = self.parsed(data)
        if head is None:
            return
        seen = Seen()
        parser = httptools.HttpRequestParser(seen)
        try:
            parser.feed_data(data[: head.size] if head.length == 0 else data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return
        self.assertEqual(parser.get_method(), head.method)
        if seen.url.startswith((b"/", b"*")):
            self.assertEqual(seen.url, head.target)
        self.assertEqual(seen.headers[: len(head.fields())], head.fields())
        if seen.complete:
            self.assertEqual(seen.body, self.payload(head, data))
        if head.upgrade is None:
            self.assertEqual(parser.should_keep_alive(), head.keep_alive)

    @bounded
    @given(messages.response_heads())
    def test_llhttp_response(self, data: bytes) -> None:
        """A response that we take and llhttp takes is the same to both."""
        try:
            head = self.codec.response(data)
        except ProtocolError:
            return
        seen = Seen()
        parser = httptools.HttpResponseParser(seen)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return
        self.assertEqual(parser.get_status_code(), head.status)
        self.assertEqual(seen.headers, head.fields())
        if head.status >= 200:
            self.assertEqual(seen.complete, head.length == 0)

    def parsed(self, data: bytes, trusted: bool = False) -> Any:
        """The head, or None for what is refused or not whole."""
        try:
            return self.codec.request(data, trusted)
        except ProtocolError:
            return None

    def payload(self, head: Any, data: bytes) -> bytes | None:
        """The body that belongs to C{head}; None when it is malformed."""
        rest = data[head.size :]
        if head.length != CHUNKED:
            return rest[: head.length]
        try:
            return bytes(self.codec.ChunkedBody().feed(rest))
        except ProtocolError:
            return None

    def normal(self, found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Fields as h11 gives them: it writes the coding in lower case."""
        return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in found]


class Seen:
    """What llhttp reports."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field, maybe a trailer."""
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """The end."""
        self.complete = True


class PureTests(PropertyTests, SynchronousTestCase):
    """The pure Python twin."""

    codec = twins.pure


class CompiledTests(PropertyTests, SynchronousTestCase):
    """The compiled twin."""

    codec = twins.compiled  # type: ignore[assignment]  # skipped when it is None
    skip = twins.no_compiled
