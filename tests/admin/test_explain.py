"""What would become of a request: L{lemmytx.admin.explain}, and L{lemmytx.admin.telling} for people."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.admin.telling import lines
from tests.admin.rig import Answer, Rig, token

PATH = "/api/v1/explain"


class ExplainTests(SynchronousTestCase):
    """Asked and answered."""

    def setUp(self) -> None:
        self.rig = Rig()
        for backend in self.rig.backends:
            backend.moved(("10.0.0.1",))

    def ask(self, *parameters: tuple[str, str]) -> Answer:
        return self.rig.ask(f"{PATH}?{urlencode(parameters)}")

    def test_told(self) -> None:
        """A URL is enough; method, client and fields can be said as well."""
        answer = self.ask(("url", "http://shop.example/ü?a=b&c=%20d"))
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            answer.json["request"],
            {
                "method": "GET",
                "host": "shop.example",
                "target": "/%C3%BC?a=b&c=%20d",
                "path": "/ü",
                "client": "127.0.0.1",
            },
        )
        self.assertEqual(answer.json["outcome"]["backend"], "web1")
        answer = self.ask(
            ("url", "http://a/"),
            ("method", "PUT"),
            ("client", "::1"),
            ("header", "Host: shop.example"),
            ("header", "X: a: b"),
        )
        self.assertEqual(answer.json["request"]["method"], "PUT")
        self.assertEqual((answer.json["request"]["client"], answer.json["vhost"]), ("::1", "shop.example"))

    def test_nothingChanges(self) -> None:
        """Asking, however often, neither counts as a request nor takes a turn."""
        told = [self.ask(("url", "http://shop.example/")).json for _ in range(3)]
        self.assertEqual(told, [told[0]] * 3)
        self.assertEqual(self.rig.vhosts[0].traffic.count, 0)

    def test_bad(self) -> None:
        """What is no question is 400, with what would be one."""
        for parameters, why in (
            ((), "url: is missing; write one"),
            ((("url", "shop.example"),), "url: found 'shop.example'; write http://HOST/PATH"),
            ((("url", "http://a/"), ("url", "http://b/")), "url: is there more than once"),
            ((("url", "http://a/"), ("path", "/")), "no such parameter: 'path'; there are url, method, client, header"),
            ((("url", "http://a/"), ("header", "Cookie")), "header: found 'Cookie'; write name and value"),
            ((("url", "http://a/"), ("header", ": b")), "header: found ': b'; write name and value"),
            ((("url", "http://a/"), ("client", "me")), "client: found 'me'; write an IP address"),
            ((("url", "http://a/"), ("method", "get")), "such a request would be answered 400"),
        ):
            answer = self.ask(*parameters)
            self.assertEqual((answer.status, answer.fields["content-type"]), (400, "application/problem+json"))
            self.assertIn(why, answer.json["detail"])
        self.assertEqual(self.rig.ask(f"{PATH}?url=%ff").json["detail"], "the query is not UTF-8")

    def test_nobody(self) -> None:
        """While nobody serves it is 503."""
        self.rig.instance.reason = "no worker answers"
        answer = self.ask(("url", "http://a/"))
        self.assertEqual((answer.status, answer.json["detail"]), (503, "no worker answers"))

    def test_role(self) -> None:
        """Reading is enough; without a token nobody is told anything."""
        self.rig = Rig([token("secret")])
        path = f"{PATH}?url=http://shop.example/"
        self.assertEqual(self.rig.ask(path).status, 401)
        self.assertEqual(self.rig.ask(path, fields=["Authorization: Bearer secret"]).status, 200)
        self.assertEqual(self.rig.ask(path, "POST", fields=["X-API-Key: secret"]).status, 403)


def stage(**more: Any) -> dict[str, Any]:
    """What is told of a cluster where there is nothing to tell."""
    return {
        "cluster": "web", "why": "the route leads there", "scheduler": "Lemmy", "breaker": None, "pin": None,
        "sticky": None, "bucket": None, "waiting": 0, "panicking": False, "dropped_count": 0, "dropped": [],
        "candidates_count": 0, "candidates": [], "pick": None, "attempts": [], "then": None, **more,
    }  # fmt: skip


def backend(name: str, **more: Any) -> dict[str, Any]:
    """One that can take it."""
    return {"name": name, "weight": 1, "active": 2, "elsewhere": 0, "capacity": 0, "room": 0, **more}


class TellingTests(SynchronousTestCase):
    """L{lines}"""

    def told(self, outcome: dict[str, Any], *stages: dict[str, Any], **more: Any) -> list[str]:
        request = {"method": "GET", "host": "a", "target": "/x/../b?c", "path": "/b", "client": "::1"}
        facts = {"request": request, "routing": ["route /b takes it"], "clusters": stages, "outcome": outcome, **more}
        return list(lines(facts))

    def test_everything(self) -> None:
        """Each part of it that there is has its line, in the order in which it is decided."""
        first = stage(
            breaker={"state": "half_open", "lets_in": True},
            panicking=True,
            sticky="the client is bound to w3, which is full: this one request goes elsewhere",
            bucket="vip",
            waiting=2,
            dropped_count=1,
            dropped=[{"backend": "w3", "filter": "capacity", "reason": "5 of 5 requests are in flight"}],
            candidates_count=2,
            candidates=[backend("w1", capacity=9, room=5), backend("w2", elsewhere=7, weight=2.5)],
            pick="w1",
            attempts=["w1", None],
            then="502 or 504",
        )
        self.assertEqual(
            self.told({"kind": "backend", "backend": "w1", "status": None, "why": "the scheduler's choice"}, first),
            [
                "GET /x/../b?c of a, from ::1",
                "  its path is /b",
                "  route /b takes it",
                "cluster web (Lemmy): the route leads there",
                "  the circuit breaker is half_open and lets it in",
                "  so few backends are up that health is ignored",
                "  the client is bound to w3, which is full: this one request goes elsewhere",
                "  bucket vip",
                "  2 wait before it",
                "  - w3: capacity: 5 of 5 requests are in flight",
                "  * w1: 2 of 5 in flight",
                "  + w2: 2 in flight, 7 from other processes, weight 2.5",
                "  in this order, if they cannot be reached: w1, (left to chance)",
                "  and then: 502 or 504",
                "→ w1: the scheduler's choice",
            ],
        )

    def test_ends(self) -> None:
        """Every outcome; with workers, whose answer it is."""
        for kind, backend_name, status, why, line in (
            ("reply", None, 503, "all backends are at capacity", "→ we answer 503: all backends are at capacity"),
            ("waits", None, None, "it waits for up to 9 s", "→ it waits for up to 9 s"),
            ("chance", None, None, "one of 2", "→ (left to chance): one of 2"),
            ("backend", "w1", None, "", "→ w1"),
        ):
            told = self.told({"kind": kind, "backend": backend_name, "status": status, "why": why}, worker=2)
            self.assertEqual(told[-1], line)
            self.assertTrue(told[0].endswith("from ::1, says worker 2"))

    def test_many(self) -> None:
        """Of hundreds of backends some are told one by one, and how many more there are."""
        dropped = [{"backend": f"d{number}", "filter": "state", "reason": "no"} for number in range(100)]
        candidates = [backend(f"c{number}") for number in range(50)]
        many = stage(dropped=dropped, dropped_count=1200, candidates=candidates, candidates_count=50)
        told = self.told({"kind": "chance", "backend": None, "status": None, "why": ""}, many)
        self.assertEqual(len(told), 4 + 41 + 41 + 1)
        self.assertIn("  - and 1160 more that cannot take it", told)
        self.assertIn("  + and 10 more that can", told)
