"""Answers that the proxy makes itself."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec
from lemmytx.proxy.replies import TEXTS, date, reply
from tests.proxy.rig import split


class ReplyTests(SynchronousTestCase):
    """What they look like."""

    def test_valid(self) -> None:
        """Every one of them is a response by our own codec, of the length that it says."""
        for status in TEXTS:
            for accept in (None, b"application/json"):
                wire = reply(status, accept, b"id", b"Retry-After: 5\r\n")
                head = codec.response(wire, False)
                assert head is not None
                self.assertEqual((head.status, head.length), (status, len(wire) - head.size))
                self.assertEqual(head.field(b"retry-after"), b"5")
                self.assertEqual(head.field(b"cache-control"), b"no-store")

    def test_plain(self) -> None:
        """Plain text names status, reason and request."""
        first, fields, body = split(reply(502, None, b"abc"))
        self.assertEqual(first, b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(fields[b"content-type"], b"text/plain; charset=utf-8")
        self.assertTrue(body.startswith(b"502 Bad Gateway\n\n"))
        self.assertTrue(body.endswith(b"\nRequest: abc\n"))
        self.assertNotIn(b"Request:", reply(502))

    def test_json(self) -> None:
        """JSON has the same facts."""
        facts = json.loads(split(reply(404, b"application/json", b"abc"))[2])
        self.assertEqual((facts["status"], facts["error"], facts["request_id"]), (404, "Not Found", "abc"))
        self.assertNotIn("request_id", json.loads(split(reply(404, b"application/json"))[2]))

    def test_preference(self) -> None:
        """JSON is for those who name it before any text."""
        for accept, kind in (
            (b"application/json", b"application/json"),
            (b"application/problem+json, */*", b"application/json"),
            (b"Application/JSON;q=0.9", b"application/json"),
            (b"image/png, application/json", b"application/json"),
            (b"text/html, application/json", b"text/plain; charset=utf-8"),
            (b"*/*", b"text/plain; charset=utf-8"),
            (b"image/png", b"text/plain; charset=utf-8"),
            (b"", b"text/plain; charset=utf-8"),
        ):
            self.assertEqual(split(reply(404, accept))[1][b"content-type"], kind, accept)

    def test_head(self) -> None:
        """The answer to HEAD is the same head alone."""
        whole, bare = reply(404), reply(404, without_body=True)
        self.assertTrue(bare.endswith(b"\r\n\r\n"))
        self.assertEqual(split(bare)[:2], split(whole)[:2])

    def test_date(self) -> None:
        """The date is now's, in the form of RFC 9110 §5.6.7."""
        value = date().decode()
        self.assertTrue(value.endswith(" GMT"))
        self.assertIsNotNone(parsedate_to_datetime(value).tzinfo)
