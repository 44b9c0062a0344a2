"""
How it ends: what runs may end, what is new is refused, and whoever insists gets his way.
"""

from __future__ import annotations

import json
import os
import signal

from tests.process.case import GET, ScriptedCase
from tests.process.rig import Lemmy, answers, read, unix
from tests.wire.sockets import PLAIN


class StopTests(ScriptedCase):
    """SIGTERM and SIGINT."""

    def running(self, drain: object) -> Lemmy:
        """A proxy with one request under way and one idle connection."""
        lemmy = self.starts(timeouts={"drain": drain}, access_log={"path": "access", "format": "json"})
        self.idle = self.client(lemmy, GET)
        self.answered(self.idle, 200)
        self.hold()
        self.busy = self.client(lemmy, GET)
        self.until(lambda: len(self.held) == 1)
        return lemmy

    def log(self, lemmy: Lemmy) -> list[dict[str, object]]:
        """The access log."""
        return [json.loads(line) for line in read(os.path.join(lemmy.folder, "access")).splitlines()]

    def test_drains(self) -> None:
        """A running request is answered, idle connections end, new ones are refused, and the exit status is 0."""
        lemmy = self.running(600)
        port = lemmy.port
        lemmy.signal(signal.SIGTERM)
        self.until(lambda: self.idle.ended == "closed")
        self.assertFalse(answers(port))
        status, why = lemmy.ask("/ready")
        self.assertEqual(503, status)
        self.assertIn(b"draining", why)
        lemmy.says("stopping: 1 exchange")
        self.held[0].write(PLAIN)
        self.answered(self.busy, 200)
        self.until(lambda: self.busy.ended == "closed")
        self.assertEqual(0, lemmy.ended())
        self.assertEqual(["ok", "ok"], [line["termination"] for line in self.log(lemmy)])
        self.assertNotIn("Traceback", lemmy.output())

    def test_patience_ends(self) -> None:
        """What still runs when timeouts.drain is over is 503, or cut in its answer, which the access log says."""
        lemmy = self.running("300ms")
        half = self.client(lemmy, GET)
        self.until(lambda: len(self.held) == 2)
        self.held[1].write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        self.until(lambda: half.received.endswith(b"half"))
        self.busy.answers.clear()
        lemmy.signal(signal.SIGTERM)
        self.answered(self.busy, 503)
        self.assertEqual(0, lemmy.ended())
        self.until(lambda: bool(half.ended and self.busy.ended))
        self.assertEqual([], half.answers)
        self.assertEqual(["ok", "shutdown", "shutdown"], [line["termination"] for line in self.log(lemmy)])
        self.assertNotIn("Traceback", lemmy.output())

    def test_twice(self) -> None:
        """A second signal cuts at once what the first one waits for."""
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)):
            self.held.clear()
            self.backend.forget()
            lemmy = self.running(600)
            lemmy.signal(first)
            lemmy.says("stopping: 1 exchange")
            lemmy.signal(second)
            self.assertEqual(0, lemmy.ended())
            self.until(lambda: bool(self.busy.ended))
            self.assertNotIn("Traceback", lemmy.output())
            self.assertNotIn("Unhandled", lemmy.output())

    def test_upload(self) -> None:
        """An upload that is under way gets its time, too."""
        lemmy = self.starts(timeouts={"drain": 600})
        client = self.client(lemmy, b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\n\r\nabc")
        self.until(lambda: bool(self.backend.sides and self.backend.sides[0].rest.endswith(b"abc")))
        lemmy.signal(signal.SIGTERM)
        lemmy.says("stopping: 1 exchange")
        client.write(b"def")
        self.answered(client, 200)
        self.assertEqual([b"abcdef"], [request.body for request in self.backend.requests])
        self.assertEqual(0, lemmy.ended())

    def test_nothing_runs(self) -> None:
        """Without requests under way it ends at once, whatever timeouts.drain, and its sockets are gone."""
        lemmy = self.starts(timeouts={"drain": 600})
        self.assertEqual(0, lemmy.stop())
        self.assertRaises(OSError, unix, lemmy.admin)
