"""What operators have the instance do: L{lemmytx.admin.acts}."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.config import ConfigurationError
from lemmytx.interfaces import Busy, Refused
from tests.admin.rig import Rig, token

RELOAD = "/api/v1/config/reload"
UPGRADE = "/api/v1/upgrade"


class ActTests(SynchronousTestCase):
    """Asked for, waited for, answered."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._saw)
        self.addCleanup(globalLogPublisher.removeObserver, self._saw)

    def _saw(self, event: dict[str, object]) -> None:
        if event["log_namespace"] == "lemmytx.admin":
            self.lines.append(str(event["log_format"]).format(**event))

    def wrong(self) -> ConfigurationError:
        """What a file with two errors leads to."""
        with self.assertRaises(ConfigurationError) as caught:
            config.read(b"workers: x\nlisteners: 3\n", "lemmy.yaml")
        return caught.exception

    def test_reload(self) -> None:
        """A reload is answered when it is done, with what changed."""
        self.assertIsNone(self.rig.ask_for(RELOAD))
        self.assertEqual(self.rig.transport.value(), b"")
        ((what, asked),) = self.rig.instance.asked
        self.assertEqual(what, "reload")
        asked.callback(["vhost shop.example: added", "cluster web: 2 backends removed"])
        answer = self.rig.told()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json, {"changed": ["vhost shop.example: added", "cluster web: 2 backends removed"]})

    def test_upgrade(self) -> None:
        """An upgrade is accepted with the successor's pid."""
        self.assertIsNone(self.rig.ask_for(UPGRADE, ["Content-Type: application/json"], "{}"))
        ((what, asked),) = self.rig.instance.asked
        self.assertEqual(what, "upgrade")
        asked.callback(4711)
        self.assertEqual((self.rig.told().status, self.rig.told().json), (202, {"pid": 4711}))

    def test_wrong_configuration(self) -> None:
        """A file that cannot be used is 422, with each of its errors as 'lemmy check' shows them."""
        wrong = self.wrong()
        self.rig.ask_for(RELOAD)
        self.rig.instance.asked[0][1].errback(wrong)
        answer = self.rig.told()
        self.assertEqual((answer.status, answer.fields["content-type"]), (422, "application/problem+json"))
        self.assertEqual(set(answer.json), {"type", "title", "status", "detail", "errors"})
        self.assertEqual(answer.json["errors"], str(wrong).split("\n"))
        self.assertEqual(len(answer.json["errors"]), 2)
        self.assertEqual((answer.json["status"], answer.json["type"]), (422, "about:blank"))

    def test_refused(self) -> None:
        """What cannot be had is 422 for a reload and 500 for an upgrade; what is under way already is 409."""
        for path, error, status in (
            (RELOAD, Refused("cannot listen on 'tcp:80': in use", "cluster web: no plugin"), 422),
            (RELOAD, Busy("a reload is under way"), 409),
            (UPGRADE, Refused("the new program ended with status 1", "No module named 'x'"), 500),
            (UPGRADE, Busy("an upgrade is under way"), 409),
        ):
            self.rig.ask_for(path)
            self.rig.instance.asked.pop()[1].errback(error)
            answer = self.rig.told()
            self.assertEqual((answer.status, answer.fields["content-type"]), (status, "application/problem+json"))
            self.assertEqual(answer.json["errors"], list(error.reasons))
            self.assertEqual(answer.json["detail"], str(error))

    def test_at_once(self) -> None:
        """What ends before it is waited for is answered like anything else."""

        async def reload() -> list[str]:
            return []

        self.rig.instance.reload = reload  # type: ignore[assignment,method-assign]  # this test's own
        answer = self.rig.ask_for(RELOAD)
        assert answer is not None
        self.assertEqual((answer.status, answer.json), (200, {"changed": []}))

    def test_fault(self) -> None:
        """A fault of our own is 500 without a word of what it was; the log has it, once."""
        self.rig.ask_for(RELOAD)
        self.rig.instance.asked[0][1].errback(RuntimeError("geheim"))
        answer = self.rig.told()
        self.assertEqual((answer.status, answer.json["detail"]), (500, "the log has more"))
        self.assertNotIn(b"geheim", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_client_leaves(self) -> None:
        """What was asked for goes on when whoever asked has left, and the log tells how it ended."""
        for outcome, line in (
            (["a"], "reload, asked for by someone on this machine: done"),
            (Refused("no"), "reload, asked for by someone on this machine: refused: no"),
            (Refused("a", "b", "c"), "reload, asked for by someone on this machine: refused: a (and 2 more)"),
        ):
            channel = self.rig.site.buildProtocol(None)
            transport = StringTransport()
            channel.makeConnection(transport)
            channel.dataReceived(f"POST {RELOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            asked = self.rig.instance.asked.pop()[1]
            channel.connectionLost(Failure(ConnectionDone()))
            self.assertFalse(asked.called)
            asked.callback(outcome) if isinstance(outcome, list) else asked.errback(outcome)
            self.assertEqual(self.lines.pop(), line)
            self.assertEqual(transport.value(), b"")

    def test_logged(self) -> None:
        """Each is in the log with the token's name: that it was asked for, and how it ended, or that it may not be."""
        self.rig.site.access.tokens = (token("o", "operate"),)
        self.rig.ask_for(RELOAD, ["X-API-Key: o"])
        self.rig.instance.asked[0][1].callback([])
        self.rig.ask_for(UPGRADE, ["X-API-Key: o"])
        self.assertEqual(
            self.lines,
            ["reload: ops asks for it", "reload, asked for by ops: done", "upgrade: ops may not ask for it"],
        )

    def test_methods(self) -> None:
        """Only POST does anything."""
        for path in (RELOAD, UPGRADE):
            for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
                answer = self.rig.ask(path, method)
                self.assertEqual((answer.status, "POST" in answer.fields["allow"]), (405, True), method)
        self.assertEqual(self.rig.instance.asked, [])

    def test_body(self) -> None:
        """A configuration in the body would not be looked at, and so is refused."""
        for body in ('{"workers": 2}', "workers: 2", "[]", "null"):
            answer = self.rig.ask_for(RELOAD, ["Content-Type: application/json"], body)
            assert answer is not None, body
            self.assertEqual(answer.status, 415)
        self.assertIsNone(self.rig.ask_for(RELOAD, [], " {}\n"))

    def test_problems(self) -> None:
        """Below /api/ every error is problem details, also what the guard refuses."""
        for answer, status in (
            (self.rig.ask("/api/v1/nowhere"), 404),
            (self.rig.ask(RELOAD), 405),
            (self.rig.ask(RELOAD, host="evil.example"), 421),
            (self.rig.ask(RELOAD, "POST", fields=["Origin: null"]), 403),
        ):
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.fields["content-type"], "application/problem+json")
            self.assertEqual(set(answer.json), {"type", "title", "status", "detail"})
