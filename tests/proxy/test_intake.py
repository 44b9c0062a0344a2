"""A request's body as it comes: what the client may be waiting for. Its framing is tested through the downstream."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec
from lemmytx.proxy.intake import CONTINUE_AFTER, Intake


class ExpectingTests(SynchronousTestCase):
    """C{Expect: 100-continue}."""

    def intake(self, fields: bytes) -> Intake:
        """That of a request with these fields."""
        head = codec.request(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields, False, 1000, 10)
        assert head is not None
        return Intake(head, 0)

    def test_expecting(self) -> None:
        """A client that waits for 100 has a short time, and one whose body has begun to come waits no more."""
        for framing, piece in ((b"Content-Length: 5\r\n", b"He"), (b"Transfer-Encoding: chunked\r\n", b"5\r\nHe")):
            intake = self.intake(b"Expect: 100-continue\r\n" + framing)
            self.assertEqual(intake.feed(b""), b"")
            self.assertTrue(intake.expecting)
            self.assertEqual(intake.patience(60.0), CONTINUE_AFTER)
            self.assertEqual(intake.feed(piece), b"He")
            self.assertFalse(intake.expecting)
            self.assertEqual(intake.patience(60.0), 60.0)

    def test_notExpecting(self) -> None:
        """One that said nothing of the kind sends on."""
        intake = self.intake(b"Content-Length: 5\r\n")
        self.assertFalse(intake.expecting)
        self.assertEqual(intake.patience(60.0), 60.0)
