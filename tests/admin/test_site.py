"""The admin side as a site, and its plain routes: L{lemmytx.admin.site}, L{lemmytx.admin.health}."""

from __future__ import annotations

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.admin.site import BODY, TIMEOUT
from tests.admin.rig import Answer, Rig


class SiteTests(SynchronousTestCase):
    """What holds for every request."""

    def setUp(self) -> None:
        self.rig = Rig()

    def test_common_fields(self) -> None:
        """Every answer, errors too, is JSON that nobody keeps, embeds or takes for something else."""
        for answer in (
            self.rig.ask("/health"),
            self.rig.ask("/stats"),
            self.rig.ask("/nowhere"),
            self.rig.ask("/stats", "POST"),
            self.rig.ask("/stats", host="evil.example"),
        ):
            self.assertEqual(answer.fields["content-type"], "application/json", answer.status)
            self.assertEqual(answer.fields["cache-control"], "no-store")
            self.assertEqual(answer.fields["x-content-type-options"], "nosniff")
            self.assertEqual(answer.fields["cross-origin-resource-policy"], "same-origin")
            self.assertEqual(answer.fields["server"], "lemmytx")
            self.assertEqual(answer.fields["content-length"], str(len(answer.body)))
            self.assertIsInstance(answer.json, dict)

    def test_nothing_there(self) -> None:
        """A path that there is not is 404 in JSON, whatever it is made of."""
        for path in (
            "/", "/nowhere", "/stats/", "//stats", "/x//stats", "/stats/../health", "/%ff", "/%00", "/..",
            "/%2fstats", "/stats%2f", "/stats%00", "/stats;x", "http://localhost/stats",
        ):  # fmt: skip
            answer = self.rig.ask(path)
            self.assertEqual(answer.status, 404, path)
            self.assertEqual(
                answer.json, {"status": 404, "error": "Not Found", "detail": "there is nothing at this path"}
            )
            self.assertNotIn("location", answer.fields)

    def test_methods(self) -> None:
        """What is not GET or HEAD is 405, and says what would be right."""
        for path in ("/health", "/ready", "/stats"):
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"):
                answer = self.rig.ask(path, method)
                self.assertEqual(answer.status, 405, (path, method))
                self.assertIn("GET", answer.fields["allow"])
                self.assertIn("HEAD", answer.fields["allow"])
                self.assertEqual(answer.json["status"], 405)

    def test_malformed_method(self) -> None:
        """A method that is none is 400."""
        for method in ("get", "X" * 33, "G;T", "GET1"):
            self.assertEqual(self.rig.ask("/stats", method).status, 400, method)

    def test_head(self) -> None:
        """HEAD gives the head of GET and no body."""
        for path in ("/health", "/stats", "/nowhere"):
            answer, whole = self.rig.ask(path, "HEAD"), self.rig.ask(path)
            self.assertEqual(answer.status, whole.status)
            self.assertEqual(answer.fields["content-length"], whole.fields["content-length"])
            self.assertEqual(answer.body, b"")

    def test_failure(self) -> None:
        """A fault of our own is 500 without a word of what it was; the log has it."""

        def ready() -> str | None:
            raise RuntimeError("geheim")

        rig = Rig(ready=ready)
        answer = rig.ask("/ready")
        self.assertEqual(answer.status, 500)
        self.assertEqual(answer.json["error"], "Internal Server Error")
        self.assertNotIn(b"geheim", answer.body)
        self.assertNotIn(b"Traceback", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_pipelined(self) -> None:
        """Several requests on one connection are answered in turn."""
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.assertEqual(self.rig.send(request * 3).count(b'{"status": "OK"}'), 3)

    def test_long_body(self) -> None:
        """A body beyond the bound is refused when its length is announced, and the connection ends."""
        head = b"POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (BODY + 1)
        for sent in (head, head + b"x" * (BODY + 1)):
            answer = self.rig.send(sent)
            self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
            self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
            self.assertTrue(self.rig.transport.disconnecting)

    def test_long_chunked_body(self) -> None:
        """A body in chunks is refused when it has become too long."""
        head = b"POST /stats HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        answer = self.rig.send(head + chunk * 17 + b"0\r\n\r\n")
        self.assertEqual([answer.startswith(b"HTTP/1.1 413 "), answer.count(b"HTTP/1.1 ")], [True, 1])
        self.assertTrue(self.rig.transport.disconnecting)
        self.assertEqual(Answer(self.rig.send(head + chunk * 16 + b"0\r\n\r\n")).status, 405)

    def test_long_head(self) -> None:
        """A head beyond the bound is refused."""
        answer = self.rig.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + (b"X: " + b"x" * 500 + b"\r\n") * 40)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertTrue(self.rig.transport.disconnecting)

    def test_silence(self) -> None:
        """A connection on which nothing comes is closed."""
        self.rig.send(b"GET /health HT")
        self.rig.clock.advance(TIMEOUT - 1)
        self.assertFalse(self.rig.transport.disconnecting)
        self.rig.clock.advance(2)
        self.assertTrue(self.rig.transport.disconnecting)

    def test_no_timers(self) -> None:
        """Listening takes no timers, so that it can end and begin elsewhere at any time."""
        for _ in range(2):
            self.rig.site.doStart()
            self.assertEqual(self.rig.clock.getDelayedCalls(), [])
            self.rig.site.doStop()
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])

    def test_no_access_log(self) -> None:
        """A request to the admin side is not worth a line in the log."""
        self.rig.site.doStart()
        self.addCleanup(self.rig.site.doStop)
        events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.assertEqual(self.rig.ask("/health").status, 200)
        self.assertEqual(events, [])


class HealthTests(SynchronousTestCase):
    """Alive, and ready."""

    def test_health(self) -> None:
        """The process lives, ready or not."""
        rig = Rig()
        rig.instance.reason = "draining"
        answer = rig.ask("/health")
        self.assertEqual((answer.status, answer.body), (200, b'{"status": "OK"}\n'))

    def test_ready(self) -> None:
        """It is ready as soon as there is no reason against it, and no longer."""
        rig = Rig()
        rig.instance.reason = 'starting: "a" é'
        answer = rig.ask("/ready")
        self.assertEqual((answer.status, answer.json), (503, {"status": "not ready", "reason": 'starting: "a" é'}))
        rig.instance.reason = None
        answer = rig.ask("/ready")
        self.assertEqual((answer.status, answer.json), (200, {"status": "OK"}))
        rig.instance.reason = "draining"
        self.assertEqual(rig.ask("/ready").status, 503)
