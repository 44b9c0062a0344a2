"""What would become of a request, told without sending it: L{lemmytx.proxy.explain}."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.assemble import Plan
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.traffic import Traffic
from lemmytx.model import Limits
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.explain import Answer, BadQuestion, ask, explain
from tests.proxy.rig import ProxyCase

SHOP = """\
    vhosts:
      - hosts: [shop.example]
        routes:
          - {path: /admin/*, client: [10.0.0.0/8], cluster: web}
          - {path: /api/*, methods: [POST], headers: {X-Key: true}, cluster: web}
          - {path: /pin/*, cluster: web, pin: {header: X-Backend, allow: [192.0.2.0/24]}}
          - {path: /vip/*, cluster: shared, bucket: vip}
          - {path: /shared/*, cluster: shared}
          - {path: /weak/*, cluster: weak}
          - {path: /short/*, cluster: short}
          - {path: /shop/*, cluster: web}
      - {hosts: ["*.example"], cluster: spare}
    clusters:
      web:
        scheduler: round_robin
        retry: {attempts: 3}
        sticky: {cookie: sid, secret: 0123456789abcdef0123}
        backends: ["http://10.0.0.1", "http://10.0.0.2", "http://10.0.0.3", {url: "http://10.0.0.4", role: backup}]
        failover: spare
      spare: {scheduler: random, retry: {attempts: 2}, backends: ["http://10.0.1.1", "http://10.0.1.2"]}
      shared:
        scheduler: round_robin
        buckets: {vip: {rate: 50%, ceil: 50%}, main: {rate: 50%}}
        queue: {limit: 2, timeout: 9}
        backends: [{url: "http://10.0.2.1", capacity: 4}]
      weak:
        circuit_breaker: {errors: 50%, volume: 1, fallback: short}
        backends: ["http://10.0.3.1"]
      short:
        scheduler: round_robin
        circuit_breaker: {errors: 50%, volume: 1, reply: 429}
        retry: {attempts: 4, backoff: {first: 1, most: 3}}
        queue: {limit: 0}
        backends: [{url: "http://10.0.4.1", capacity: 1}, {url: "http://10.0.4.2", capacity: 1}]
"""


class ExplainTests(SynchronousTestCase):
    """A shop."""

    def setUp(self) -> None:
        network: Any = None
        self.clock = Clock()
        plan = Plan(config.read(dedent(SHOP).encode(), "x.yaml"), (), network, secret=b"s" * 32)
        self.resource = plan.resource(Ticker(self.clock, self.clock.seconds))
        plan.commit(self.resource, Traffic())
        for cluster in self.resource.clusters.values():
            for backend in cluster.backends:
                backend.moved((backend.location.host,))

    def cluster(self, name: str) -> Cluster:
        return self.resource.clusters[name]

    def down(self, *backends: Backend) -> None:
        for backend in backends:
            backend.state = "disabled"
            backend.changed()

    def explain(self, path: str, host: str = "shop.example", **more: Any) -> Answer:
        answer = explain(self.resource, ask(f"http://{host}{path}", **more))
        # Whatever it says, it can be sent.
        self.assertEqual(json.loads(json.dumps(answer.as_data())), answer.as_data())
        return answer

    def outcome(self, path: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.explain(path, **more).as_data()["outcome"]
        return found

    def open(self, name: str) -> None:
        """Open a cluster's circuit breaker."""
        cluster = self.cluster(name)
        breaker = cluster.breaker
        assert breaker is not None
        breaker.ended(breaker.enter(cluster.now()), cluster.now(), True, 0.1)
        self.assertEqual(breaker.state, "open")

    def test_whole(self) -> None:
        """Everything that there is to say of a plain one."""
        self.down(self.cluster("web").backends[0])
        answer = self.explain("/shop/../shop/%61?x=1", method="HEAD", client="2001:db8::1")
        self.assertEqual(
            answer.as_data(),
            {
                "request": {
                    "method": "HEAD",
                    "host": "shop.example",
                    "target": "/shop/../shop/%61?x=1",
                    "path": "/shop/a",
                    "client": "2001:db8::1",
                },
                "vhost": "shop.example",
                "route": "/shop/*",
                "routing": [
                    "a vhost names the host 'shop.example'",
                    "route /shop/* of vhost 'shop.example' takes it",
                ],
                "clusters": [
                    {
                        "cluster": "web",
                        "why": "the route leads there",
                        "scheduler": "RoundRobin",
                        "breaker": None,
                        "pin": None,
                        "sticky": None,
                        "bucket": None,
                        "waiting": 0,
                        "panicking": False,
                        "dropped_count": 2,
                        "dropped": [
                            {
                                "backend": "10.0.0.1:80",
                                "filter": "state",
                                "reason": "an operator set it to disabled",
                            },
                            {
                                "backend": "10.0.0.4:80",
                                "filter": "role",
                                "reason": "backup: an active one can take it",
                            },
                        ],
                        "candidates_count": 2,
                        "candidates": [
                            {
                                "name": f"10.0.0.{n}:80",
                                "weight": 1,
                                "active": 0,
                                "elsewhere": 0,
                                "capacity": 0,
                                "room": 0,
                            }
                            for n in (2, 3)
                        ],
                        "pick": "10.0.0.2:80",
                        "attempts": ["10.0.0.2:80", "10.0.0.3:80"],
                        "then": "cluster spare, the failover",
                    }
                ],
                "outcome": {
                    "kind": "backend",
                    "backend": "10.0.0.2:80",
                    "status": None,
                    "why": "the scheduler's choice",
                },
            },
        )

    def test_conditions(self) -> None:
        """Routes whose conditions do not hold are told with the condition."""
        self.assertEqual(
            self.explain("/admin/x").routing[1:],
            [
                "route /admin/* does not: the client is in none of 10.0.0.0/8",
                "vhost 'shop.example' has no other route for the path",
            ],
        )
        self.assertEqual(self.outcome("/admin/x")["status"], 404)
        self.assertEqual(self.explain("/admin/x", client="10.1.1.1").route, "/admin/*")
        self.assertIn("the method is none of POST", self.explain("/api/x").routing[1])
        self.assertIn("x-key", self.explain("/api/x", method="POST").routing[1].lower())
        self.assertEqual(self.explain("/api/x", method="POST", fields=[("X-Key", "1")]).route, "/api/*")

    def test_vhosts(self) -> None:
        """Wildcards, and hosts that there is no vhost for; a Host field counts more than the URL's."""
        self.assertEqual(self.explain("/", host="a.b.example:8080").vhost, "*.example")
        nobody = self.explain("/", host="else.test")
        self.assertEqual((nobody.vhost, nobody.kind, nobody.status, nobody.stages), ("", "reply", 404, []))
        self.assertEqual(self.explain("/shop/", host="else.test", fields=[("host", "shop.example")]).route, "/shop/*")

    def test_notForUs(self) -> None:
        """A request that has reached its last hop is answered by us."""
        hops = [("Max-Forwards", "0")]
        self.assertEqual(self.outcome("/shop/", method="TRACE", fields=hops)["status"], 405)
        self.assertEqual(self.outcome("/shop/", method="OPTIONS", fields=hops)["status"], 200)
        self.assertEqual(self.outcome("/shop/", method="OPTIONS")["kind"], "backend")

    def test_chance(self) -> None:
        """Where chance decides there is no pick, and as many unknown attempts as there can be."""
        answer = self.explain("/", host="x.example")
        (stage,) = answer.stages
        self.assertEqual((answer.kind, answer.backend, stage.attempts), ("chance", None, [None, None]))
        self.assertEqual(stage.then, "502 or 504")
        self.down(self.cluster("spare").backends[0])
        answer = self.explain("/", host="x.example")
        lone = self.cluster("spare").backends[1]
        self.assertEqual((answer.backend, answer.stages[0].attempts), (lone, [lone]))
        self.assertEqual(answer.why, "nobody else can take it")

    def test_failover(self) -> None:
        """When nobody is up the cluster that stands in is asked, and both are told."""
        self.down(*self.cluster("web").backends)
        answer = self.explain("/shop/")
        self.assertEqual([stage.cluster.name for stage in answer.stages], ["web", "spare"])
        self.assertEqual(answer.stages[1].why, "the failover of web, of which no backend is up")
        self.assertEqual(answer.stages[0].attempts, [])
        self.assertEqual(answer.kind, "chance")

    def test_breaker(self) -> None:
        """An open circuit breaker leads to the fallback, or to an answer of ours; a half-open one lets some in."""
        self.assertEqual(self.explain("/weak/").stages[0].breaker, ("closed", True))
        self.open("weak")
        answer = self.explain("/weak/")
        self.assertEqual([stage.cluster.name for stage in answer.stages], ["weak", "short"])
        self.assertEqual(answer.stages[0].breaker, ("open", False))
        self.assertEqual(answer.stages[1].why, "the fallback of weak, whose circuit breaker is open")
        self.assertEqual(answer.kind, "backend")
        self.open("short")
        self.assertEqual(
            self.outcome("/weak/"),
            {"kind": "reply", "backend": None, "status": 429, "why": "the circuit breaker of cluster short is open"},
        )
        breaker = self.cluster("weak").breaker
        assert breaker is not None
        refused = breaker.refused
        breaker.until = 0.0
        for _ in range(5):
            self.assertEqual(self.explain("/weak/").stages[0].breaker, ("open", True))
        self.assertEqual((breaker.state, breaker.refused), ("open", refused))
        for _ in range(3):
            self.assertTrue(breaker.enter(self.cluster("weak").now()))
        self.assertEqual(self.explain("/weak/").stages[0].breaker, ("half_open", False))

    def test_sticky(self) -> None:
        """A binding decides before the scheduler does; when it cannot, that is told."""
        web = self.cluster("web")
        sticky = web.rules.sticky
        assert sticky is not None
        sticky.know(web.backends)
        bound = web.backends[2]
        cookie = [("Cookie", f"a=b; sid={sticky._known.written[bound].decode()}")]
        answer = self.explain("/shop/", fields=cookie)
        self.assertEqual((answer.backend, answer.why), (bound, f"the client is bound to {bound.name}"))
        self.assertEqual(answer.stages[0].attempts, [bound, *web.backends[:2]])
        for state, why in (
            ("drain", ""),
            ("disabled", ", which an operator has taken out: whoever answers binds it anew"),
        ):
            bound.state = state
            bound.changed()
            answer = self.explain("/shop/", fields=cookie)
            told = answer.as_data()["clusters"][0]["sticky"]
            self.assertEqual((answer.backend is bound, told), (not why, f"the client is bound to {bound.name}{why}"))
        self.assertEqual(answer.why, "the scheduler's choice")
        self.assertIsNone(self.explain("/shop/").as_data()["clusters"][0]["sticky"])

    def test_pin(self) -> None:
        """Who may name a backend gets it or an answer; for others the name is not there."""
        name = "10.0.0.4:80"
        answer = self.explain("/pin/", fields=[("X-Backend", name)], client="192.0.2.7")
        stage = answer.stages[0]
        self.assertEqual((answer.backend, stage.attempts), (self.cluster("web").backends[3],) * 1 + ([answer.backend],))
        self.assertIn("the client has named 10.0.0.4:80", stage.pin)
        self.assertEqual(
            self.outcome("/pin/", fields=[("X-Backend", "nobody")], client="192.0.2.7"),
            {
                "kind": "reply",
                "backend": None,
                "status": 400,
                "why": "pinned to 'nobody', which is no backend of web",
            },
        )
        self.down(self.cluster("web").backends[3])
        self.assertEqual(self.outcome("/pin/", fields=[("X-Backend", name)], client="192.0.2.7")["status"], 503)
        foreign = self.explain("/pin/", fields=[("X-Backend", name)], client="203.0.113.7")
        self.assertEqual((foreign.kind, foreign.stages[0].pin), ("backend", ""))

    def test_buckets(self) -> None:
        """The bucket is told; one that has no token, or where others wait, has it wait, or be refused."""
        shared = self.cluster("shared")
        queue = shared.queue
        assert queue is not None
        self.assertEqual([self.explain(f"/{path}/").stages[0].bucket for path in ("vip", "shared")], ["vip", "main"])
        vip = queue.root.buckets["vip"]
        vip.take()
        vip.take()
        answer = self.explain("/vip/")
        self.assertEqual((answer.kind, answer.why), ("waits", "it waits for up to 9 s"))
        self.assertEqual(self.explain("/shared/").kind, "backend")
        vip.wait(1)
        self.assertEqual(self.explain("/vip/").why, "it waits for up to 9 s, and 1 before it")
        vip.wait(1)
        self.assertEqual(self.outcome("/vip/")["why"], "as many requests wait for a backend as may")
        self.assertEqual((vip.full, queue.waiting), (0, 0))

    def test_noQueue(self) -> None:
        """Where nobody waits the answer is ours, with the reason."""
        short = self.cluster("short")
        self.assertEqual(
            self.explain("/short/").stages[0].then, "after a pause of up to 3 s all of them anew, 2 times more"
        )
        for backend in short.backends:
            backend.acquire()
        self.assertEqual(self.outcome("/short/")["why"], "all backends are at capacity")
        self.down(*short.backends)
        self.assertEqual(self.outcome("/short/")["why"], "no backend is available")

    def test_budget(self) -> None:
        """While the budget of retries is used up there is one attempt; asking takes nothing from it."""
        web = self.cluster("web")
        self.assertEqual(len(self.explain("/shop/").stages[0].attempts), 3)
        web.retrying = 3
        (stage,) = self.explain("/shop/").stages
        self.assertEqual(len(stage.attempts), 1)
        self.assertTrue(stage.then.startswith("cluster spare, the failover, for there are as many retries"))
        self.assertEqual((web.retrying, web.retries_refused), (3, 0))

    def test_most(self) -> None:
        """No more backends are told one by one than are asked for; how many there are is."""
        self.down(*self.cluster("web").backends[:2])
        stage = self.explain("/shop/").as_data(1)["clusters"][0]
        self.assertEqual((len(stage["dropped"]), stage["dropped_count"]), (1, 3))
        stage = self.explain("/", host="x.example").as_data(1)["clusters"][0]
        self.assertEqual((len(stage["candidates"]), stage["candidates_count"]), (1, 2))


class QuestionTests(SynchronousTestCase):
    """L{ask}"""

    def test_url(self) -> None:
        """As a browser has it: international names, what must be escaped, ports, addresses, fragments."""
        for url, host, target in (
            ("http://Shop.Example", b"shop.example", b"/"),
            ("https://bücher.example/a b/ü?q=ö#x", b"xn--bcher-kva.example", b"/a%20b/%C3%BC?q=%C3%B6"),
            ("http://[::1]:8080/%20", b"[::1]", b"/%20"),
            ("http://shop.example./?", b"shop.example", b"/"),
        ):
            head = ask(url).head
            self.assertEqual((head.host, head.target), (host, target))

    def test_bad(self) -> None:
        """What no client could send, or what would be refused at once, is told."""
        for arguments, why in (
            ({"url": "shop.example/x"}, "url: found 'shop.example/x'; write http://HOST/PATH"),
            ({"url": "http:///x"}, "url: found 'http:///x'; write"),
            ({"url": "ftp://a/"}, "write http://HOST/PATH"),
            ({"url": "http://a:b@c/"}, "write http://HOST/PATH"),
            ({"url": "http://a:99999/"}, "url: found 'http://a:99999/'; "),
            ({"url": "http://[::1/"}, "url: found 'http://[::1/'; "),
            ({"url": "http://a..b/"}, "url: found 'a..b'; that is not a host name"),
            ({"url": "http://a/", "method": "get"}, "such a request would be answered 400: "),
            ({"url": "http://a/", "method": "CONNECT"}, "such a request would be answered 501: "),
            ({"url": "http://a/", "method": "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"}, "no control characters"),
            ({"url": "http://a/", "fields": [("A", "b\r\nHost: c")]}, "no control characters"),
            ({"url": "http://a/", "fields": [("A b", "c")]}, "such a request would be answered 400: "),
            ({"url": "http://a/", "fields": [("Host", "b"), ("Host", "c")]}, "such a request would be answered 400: "),
            ({"url": "http://a/" + "x" * 40000}, "such a request would be answered 414: "),
            ({"url": "http://a/%zz"}, "such a request would be answered 400: "),
            ({"url": "http://a/", "client": "localhost"}, "client: found 'localhost'; write an IP address"),
        ):
            with self.assertRaises(BadQuestion) as caught:
                ask(**arguments)  # type: ignore[arg-type]
            self.assertIn(why, str(caught.exception))

    def test_limits(self) -> None:
        """The limits are the proxy's."""
        with self.assertRaises(BadQuestion) as caught:
            ask("http://a/", fields=[("A", "b" * 300)], limits=Limits(header_size=256))
        self.assertIn("431", str(caught.exception))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.text(max_size=30), st.text(max_size=8), st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8))))
    def test_anything(self, rest: str, method: str, fields: list[tuple[str, str]]) -> None:
        """Whatever is asked, it is a request or a bad question."""
        for url in (rest, f"http://{rest}", f"http://a/{rest}"):
            for each in ("GET", method):
                try:
                    head = ask(url, each, fields).head
                except BadQuestion as error:
                    self.assertTrue(str(error))
                else:
                    self.assertTrue(head.target.startswith(b"/"))


class ForetellingTests(ProxyCase):
    """What is foretold is what happens then."""

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12), st.integers(1, 4), st.integers(2, 5))
    def test_attempts(self, steps: list[tuple[int, bool]], attempts: int, count: int) -> None:
        """Backends are tried in the order that was told, however often one asks."""
        roles = ("active", "active", "active", "standby", "backup")[:count]
        self.compose(count, Rules(attempts=attempts, budget_at_least=9), roles=roles)
        for number, refused in steps:
            if number < count:
                backend = self.backends[number]
                backend.state = "disabled" if backend.state == "ready" else "ready"
                backend.changed()
            told = [explain(self.resource, ask("http://shop.example/")) for _ in range(2)]
            self.assertEqual(told[0].as_data(), told[1].as_data())
            client = self.client()
            client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            tried = []
            while self.network.dialled:
                tried.append(self.network.dialled[0].address)
                if not refused:
                    self.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                else:
                    self.refuse()
            (stage,) = told[0].stages
            foretold = [backend.addresses[0] for backend in stage.attempts if backend is not None]
            self.assertEqual(tried, foretold if refused else foretold[:1])
            if not tried:
                self.assertEqual(self.log[-1].status, told[0].status)

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.lists(st.sampled_from("aaaaeefd0123"), max_size=30), st.integers(0, 2), st.booleans())
    def test_whatBecomesOfIt(self, steps: list[str], limit: int, anyway: bool) -> None:
        """It goes to the backend that was told, or waits, or is answered by us, as was told."""
        queue = QueueRules(limit=limit, on_unavailable=anyway) if limit else None
        self.compose(4, Rules(attempts=1, queue=queue), roles=("active", "active", "standby", "backup"), capacity=1)
        for step in steps:
            if step == "a":
                told = explain(self.resource, ask("http://shop.example/")).as_data()["outcome"]
                before = list(self.network.dialled), self.waiting
                self.client().send(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
                dialled = [each.address for each in self.network.dialled if each not in before[0]]
                found: dict[str, Any] = {"kind": "reply", "backend": None, "status": None, "why": told["why"]}
                if dialled:
                    (address,) = dialled
                    name = next(backend.name for backend in self.backends if backend.addresses == (address,))
                    found.update(kind="backend", backend=name)
                elif self.waiting > before[1]:
                    found.update(kind="waits")
                else:
                    found.update(status=self.log[-1].status, why=self.log[-1].why)
                self.assertEqual(told, found)
            elif step == "e" and self.network.dialled:
                self.answer()
            elif step == "f" and self.network.dialled:
                self.refuse()
            elif step.isdigit():
                backend = self.backends[int(step)]
                backend.state = "disabled" if backend.state == "ready" else "ready"
                backend.changed()
                self.loop.settle()
            elif step == "d":
                self.loop.wait(6)
        for backend in self.backends:
            backend.state = "ready"
            backend.changed()
        self.loop.wait(11)
        while self.network.dialled:
            self.answer()
        self.loop.wait(30)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return 0 if self.cluster.queue is None else self.cluster.queue.waiting

    def answer(self) -> None:
        """The oldest request is answered."""
        self.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
