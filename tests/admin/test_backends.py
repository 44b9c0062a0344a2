"""Single backends, looked at and taken out: L{lemmytx.admin.backends}."""

from __future__ import annotations

import json

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.table import State, StoreUnavailable
from tests.admin.rig import Rig, token

WEB1 = "/api/v1/clusters/web/backends/web1"
JSON = ["Content-Type: application/json"]


class BackendCase(SynchronousTestCase):
    """An admin side of a cluster C{web} with the backends C{web1} and C{web2}."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._saw)
        self.addCleanup(globalLogPublisher.removeObserver, self._saw)

    def _saw(self, event: dict[str, object]) -> None:
        if event["log_namespace"] == "lemmytx.admin":
            self.lines.append(formatEvent(event))


class LookTests(BackendCase):
    """C{GET}"""

    def test_look(self) -> None:
        """It tells of a backend what C{/stats} does, and which it is."""
        self.rig.backends[0].active = 3
        found = self.rig.ask(WEB1).json
        self.assertEqual(("web", "web1", 3), (found.pop("cluster"), found.pop("name"), found["active"]))
        self.assertEqual(("http://web1.example", "ready", "unknown"), (found["url"], found["state"], found["health"]))
        self.assertEqual(self.rig.ask("/stats").json["clusters"]["web"]["backends"]["web1"], found)

    def test_state(self) -> None:
        """Of one that was taken out it tells since when, by whom and why; of others nothing of that."""
        self.assertNotIn("state_by", self.rig.ask(WEB1).json)
        backend = self.rig.backends[0]
        backend.state, backend.wanted = "disabled", State("disabled", "new disk", "ops", 86400.0)
        found = self.rig.ask(WEB1).json
        self.assertEqual(("disabled", "new disk", "ops"), (found["state"], found["state_reason"], found["state_by"]))
        self.assertEqual("1970-01-02T00:00:00+00:00", found["state_since"])
        backend.wanted = State("disabled", at=1e300)
        self.assertIsNone(self.rig.ask(WEB1).json["state_since"])

    def test_unknown(self) -> None:
        """One that there is not is 404, with what the instance says of it."""
        for path in ("/api/v1/clusters/web/backends/web3", "/api/v1/clusters/wep/backends/web1"):
            answer = self.rig.ask(path)
            self.assertEqual((404, "application/problem+json"), (answer.status, answer.fields["content-type"]))
            self.assertIn("there is no backend", answer.json["detail"])

    def test_strays(self) -> None:
        """C{/stats} shows what is wanted of backends that are not there."""
        self.assertNotIn("strays", self.rig.ask("/stats").json)
        self.rig.instance.stray = {("web", "old"): State("drain", "moved", "ops", 0.0)}
        (found,) = self.rig.ask("/stats").json["strays"]
        self.assertEqual(
            {"cluster": "web", "backend": "old", "state": "drain", "state_by": "ops", "state_reason": "moved"},
            {name: value for name, value in found.items() if name != "state_since"},
        )

    def test_role(self) -> None:
        """Looking takes a token, and no more than C{read}."""
        self.rig.site.access.tokens = (token("r"),)
        self.assertEqual(401, self.rig.ask(WEB1).status)
        self.assertEqual(200, self.rig.ask(WEB1, fields=["X-API-Key: r"]).status)


class WantTests(BackendCase):
    """C{POST …/enable}, C{/disable} and C{/drain}"""

    def test_states(self) -> None:
        """Each asks for its state, and is answered once that is durable."""
        for act, state in (("enable", "ready"), ("disable", "disabled"), ("drain", "drain")):
            self.assertIsNone(self.rig.ask_for(f"{WEB1}/{act}"))
            self.assertEqual(b"", self.rig.transport.value())
            what, asked = self.rig.instance.asked.pop()
            self.assertEqual(f"web web1 {state} '' someone on this machine", what)
            asked.callback(State(state, "", "someone on this machine", 0.0))
            answer = self.rig.told()
            self.assertEqual(
                {
                    "cluster": "web", "name": "web1", "state": state, "state_since": "1970-01-01T00:00:00+00:00",
                    "state_by": "someone on this machine", "state_reason": "",
                },
                answer.json,
            )  # fmt: skip
            self.assertEqual(200, answer.status)

    def test_reason(self) -> None:
        """A reason goes with it, as it was written."""
        self.assertIsNone(self.rig.ask_for(f"{WEB1}/disable", JSON, json.dumps({"reason": "Wartung läuft"})))
        self.assertEqual("web web1 disabled 'Wartung läuft' someone on this machine", self.rig.instance.asked[0][0])

    def test_bodies(self) -> None:
        """Nothing else than a reason of bounded length is taken, and what a form could send is not."""
        for fields, body, status in (
            (JSON, '{"reason": 3}', 422),
            (JSON, '{"reason": ["a"]}', 422),
            (JSON, '{"state": "ready"}', 422),
            (JSON, "[]", 422),
            (JSON, "{", 422),
            (JSON, "[" * 20000, 422),
            (JSON, '{"reason": "\\ud800"}', 422),
            (JSON, json.dumps({"reason": "a\nb"}), 422),
            (JSON, json.dumps({"reason": "x" * 201}), 422),
            (["Content-Type: text/plain"], '{"reason": "x"}', 415),
            (["Content-Type: application/x-www-form-urlencoded"], "", 415),
            ([], '{"reason": "x"}', 415),
        ):
            answer = self.rig.ask_for(f"{WEB1}/disable", fields, body)
            assert answer is not None, body
            self.assertEqual(status, answer.status, body)
        for fields, body in ((JSON, "{}"), ([], "{}"), ([], ""), (JSON, '{"reason": null}')):
            self.assertIsNone(self.rig.ask_for(f"{WEB1}/disable", fields, body), body)

    def test_unknown(self) -> None:
        """Of one that there is not nothing can be wanted."""
        answer = self.rig.ask_for("/api/v1/clusters/web/backends/web3/disable")
        assert answer is not None
        self.assertEqual((404, "there is no backend 'web3' of 'web'"), (answer.status, answer.json["detail"]))
        for act in ("Disable", "kill", "disable/"):
            answer = self.rig.ask_for(f"{WEB1}/{act}")
            assert answer is not None
            self.assertEqual(404, answer.status, act)

    def test_unavailable(self) -> None:
        """Where the store does not take it this is 503 with its reason."""
        self.rig.ask_for(f"{WEB1}/disable")
        self.rig.instance.asked[0][1].errback(StoreUnavailable("connection refused; nothing has changed"))
        answer = self.rig.told()
        self.assertEqual(
            (503, "the store: connection refused; nothing has changed"), (answer.status, answer.json["detail"])
        )
        self.assertIn("refused: connection refused; nothing has changed", self.lines[-1])

    def test_fault(self) -> None:
        """A fault of our own is 500 without a word of what it was."""
        self.rig.ask_for(f"{WEB1}/disable")
        self.rig.instance.asked[0][1].errback(RuntimeError("geheim"))
        self.assertEqual((500, "the log has more"), (self.rig.told().status, self.rig.told().json["detail"]))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_role(self) -> None:
        """It takes the role C{operate}, and the log names the token."""
        self.rig.site.access.tokens = (token("r"), token("o", "operate"))
        answer = self.rig.ask_for(f"{WEB1}/disable", ["X-API-Key: r"])
        assert answer is not None
        self.assertEqual(403, answer.status)
        self.assertIsNone(self.rig.ask_for(f"{WEB1}/disable", ["X-API-Key: o"]))
        what, asked = self.rig.instance.asked[0]
        self.assertEqual("web web1 disabled '' ops", what)
        asked.callback(State("disabled"))
        self.assertEqual("disable 'web1' of cluster 'web', asked for by ops: done", self.lines[-1])

    def test_methods(self) -> None:
        """Only POST does anything."""
        for method in ("GET", "PUT", "DELETE"):
            answer = self.rig.ask(f"{WEB1}/disable", method)
            self.assertEqual((405, True), (answer.status, "POST" in answer.fields["allow"]), method)
        self.assertEqual([], self.rig.instance.asked)
