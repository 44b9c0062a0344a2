"""Another configuration beside the one at work: L{lemmytx.assemble}."""

from __future__ import annotations

import time
from textwrap import dedent
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config, model
from lemmytx.assemble import CannotStart, Plan
from lemmytx.cluster.breaker import BreakerRules
from lemmytx.cluster.explain import told
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.traffic import Traffic
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.figures import BackendFigures
from lemmytx.states import States
from lemmytx.table import State, Table


def read(text: str) -> model.Configuration:
    """A configuration out of a file's text."""
    return config.read(dedent(text).encode(), "x.yaml")


FIRST = """\
    vhosts: [{hosts: [a.example], cluster: web}, {hosts: [b.example], cluster: old}]
    clusters:
      web: {scheduler: round_robin, backends: ["http://10.0.0.1", {url: "http://10.0.0.2", weight: 2}]}
      old: {backends: ["http://10.0.0.9"]}
"""

SECOND = """\
    vhosts: [{hosts: [a.example], cluster: web}, {hosts: [c.example], cluster: new}]
    clusters:
      web: {scheduler: round_robin, backends: ["http://10.0.0.3", {url: "http://10.0.0.2", weight: 5}]}
      new: {backends: ["http://10.0.0.9"]}
    limits: {headers: 7}
"""


class PlanTests(SynchronousTestCase):
    """From one configuration to the next."""

    def setUp(self) -> None:
        self.network: Any = None
        self.first = read(FIRST)
        plan = Plan(self.first, (), self.network)
        self.resource = plan.resource(Ticker(Clock(), time.monotonic))
        self.removed = Traffic()
        plan.commit(self.resource, self.removed)

    def plan(self, text: str, **more: Any) -> Plan:
        """The next configuration."""
        return Plan(read(text), (), self.network, (self.first, self.resource), **more)

    def urls(self, name: str) -> list[str]:
        """The backends of a cluster."""
        return [backend.url for backend in self.resource.clusters[name].backends]

    def test_before_the_commit(self) -> None:
        """What is built changes nothing."""
        before = (self.resource.router, dict(self.resource.clusters), self.urls("web"))
        plan = self.plan(SECOND)
        self.assertEqual(before, (self.resource.router, self.resource.clusters, self.urls("web")))
        self.assertEqual(
            sorted((name, backend.url) for name, backend in plan.added),
            [("new", "http://10.0.0.9:80"), ("web", "http://10.0.0.3:80")],
        )
        self.assertEqual(sorted(b.url for b in plan.removed), ["http://10.0.0.1:80", "http://10.0.0.9:80"])

    def test_committed(self) -> None:
        """What both have is the same object with everything that is known of it, and new settings."""
        web = self.resource.clusters["web"]
        stays, scheduler = web.backends[1], web.scheduler
        stays.acquire()
        stays.traffic.ended(200, 1.0, 2, 3)
        self.plan(SECOND).commit(self.resource, self.removed)
        self.assertEqual(list(self.resource.clusters), ["web", "new"])
        self.assertIs(self.resource.clusters["web"], web)
        self.assertEqual(self.urls("web"), ["http://10.0.0.3:80", "http://10.0.0.2:80"])
        self.assertIs(web.backends[1], stays)
        self.assertIs(web.scheduler, scheduler)
        self.assertEqual((stays.weight, stays.active, stays.traffic.count), (5, 1, 1))
        self.assertEqual((self.resource.limits.headers, self.resource.response_fields), (7, 14))
        self.assertEqual([vhost.name for vhost in self.resource.vhosts], ["a.example", "c.example"])

    def test_counts(self) -> None:
        """A vhost that stays counts on; what one that goes has counted, and what ends on it later, is not lost."""
        stays, goes = self.resource.vhosts
        stays.traffic.ended(200, 1.0, 0, 0)
        goes.traffic.ended(404, 1.0, 0, 0)
        self.plan(SECOND).commit(self.resource, self.removed)
        self.assertEqual(self.resource.vhosts[0].traffic.count, 1)
        goes.traffic.ended(404, 1.0, 0, 0)
        self.assertEqual(self.removed.statuses, {404: 2})

    def test_scheduler(self) -> None:
        """Another scheduler, or other options, is a new one."""
        web = self.resource.clusters["web"]
        before = web.scheduler
        self.plan(FIRST.replace("round_robin", "lemmy")).commit(self.resource, self.removed)
        self.assertIsNot(web.scheduler, before)

    def test_usualScheduler(self) -> None:
        """Which one a cluster has that names none depends on how many backends it has; while it stays, so does it."""

        def text(count: int, more: str = "") -> str:
            backends = ", ".join(f'"http://10.0.{number // 250}.{number % 250}"' for number in range(count))
            return f"clusters: {{big: {{{more}backends: [{backends}]}}}}"

        big = None
        seen: list[tuple[str, bool]] = []
        for settings in (text(256), text(255), text(257), text(300), text(256), text(20, "scheduler: two_choices, ")):
            former = None if big is None else big.scheduler
            plan = self.plan(settings)
            plan.commit(self.resource, self.removed)
            self.first = plan.configuration
            big = self.resource.clusters["big"]
            seen.append((type(big.scheduler).__name__, big.scheduler is former))
        self.assertEqual(
            seen,
            [
                ("LeastConnections", False),
                ("LeastConnections", True),
                ("TwoChoices", False),
                ("TwoChoices", True),
                ("LeastConnections", False),
                ("TwoChoices", False),
            ],
        )

    def test_slowStart(self) -> None:
        """With a slow start a backend that a reload adds begins with a tenth of its weight; without, with all of it."""
        web = self.resource.clusters["web"]
        self.plan(SECOND).commit(self.resource, self.removed)
        self.assertEqual([backend.weight for backend in web.backends], [1, 5])
        third = SECOND.replace("10.0.0.3", "10.0.0.4").replace("round_robin,", "round_robin, slow_start: 1m,")
        self.plan(third).commit(self.resource, self.removed)
        self.assertEqual(web.rules.slow_start, 60.0)
        self.assertEqual([(backend.weight, backend.warmth) for backend in web.backends], [(0.1, 0.1), (5, 1.0)])

    def test_unchanged(self) -> None:
        """A cluster whose settings are the same is not touched at all."""
        web = self.resource.clusters["web"]
        backends, rules = web.backends, web.rules
        self.plan(FIRST).commit(self.resource, self.removed)
        self.assertIs(web.backends, backends)
        self.assertIs(web.rules, rules)

    def test_stand_ins(self) -> None:
        """Clusters know those that stand in for them, also when only these have changed; until the settings go."""
        text = """\
            clusters:
              web: {backends: ["http://10.0.0.1"], failover: spare, circuit_breaker: {fallback: old}}
              spare: {backends: ["http://10.0.0.2"]}
              old: {backends: ["http://10.0.0.9"]}
        """
        self.plan(text).commit(self.resource, self.removed)
        clusters = dict(self.resource.clusters)
        web = clusters["web"]
        self.assertEqual((web.failover, web.fallback), (clusters["spare"], clusters["old"]))
        self.first = read(text)
        renamed = text.replace("spare", "other")
        plan = self.plan(renamed)
        self.assertIs(web.failover, clusters["spare"])
        plan.commit(self.resource, self.removed)
        self.assertIs(web.failover, self.resource.clusters["other"])
        self.first = read(renamed)
        self.plan(FIRST).commit(self.resource, self.removed)
        self.assertEqual((web.failover, web.fallback, web.breaker), (None, None, None))

    def test_second_chances(self) -> None:
        """What the file says of retries, hedges and the circuit breaker are the cluster's rules."""
        self.plan(
            """\
            clusters:
              web:
                backends: ["http://10.0.0.1"]
                retry: {budget: 30%, budget_at_least: 7, try_timeout: 250ms, backoff: {}}
                hedge: {quantile: 0%, most: 2}
                circuit_breaker: {errors: 0%, latency: {quantile: 90%}, open_for: 7}
              old:
                backends: []
                hedge: {}
                circuit_breaker: {}
            """
        ).commit(self.resource, self.removed)
        web, old = (self.resource.clusters[name].rules for name in ("web", "old"))
        self.assertEqual((web.budget, web.budget_at_least, web.try_timeout), (0.3, 7, 0.25))
        self.assertEqual((web.backoff, web.hedge), ((0.025, 1.0), HedgeRules(None, 0.05, 2)))
        assert web.breaker is not None
        self.assertApproximates(web.breaker.slow, 0.1, 1e-9)
        self.assertEqual(web.breaker._replace(slow=0.1), BreakerRules(None, 0.1, 2.0, 20, 10.0, 7.0, 3, 503))
        self.assertEqual((old.budget, old.budget_at_least, old.try_timeout, old.backoff), (0.2, 3, 0.0, None))
        self.assertEqual((old.hedge, old.breaker), (HedgeRules(), BreakerRules()))

    def test_sticky_offline(self) -> None:
        """Whether a backend that goes down is disabled is the cluster's word, unless the backend has its own."""
        plan = self.plan("""\
            vhosts: [{hosts: [a.example], cluster: web}]
            clusters:
              web:
                sticky_offline: true
                health_check: {type: tcp}
                backends: ["http://a:1", {url: "http://b:1", sticky_offline: false}, "http://c:1"]
              old: {health_check: {type: tcp}, backends: ["http://a:1", {url: "http://b:1", sticky_offline: true}]}
        """)
        plan.commit(self.resource, self.removed)
        found = {
            name: [backend.checkup.sticky_offline for backend in cluster.backends if backend.checkup is not None]
            for name, cluster in self.resource.clusters.items()
        }
        self.assertEqual({"web": [True, False, True], "old": [False, True]}, found)
        first, _, third = self.resource.clusters["web"].backends
        self.assertIs(first.checkup, third.checkup)

    def test_state(self) -> None:
        """The file's state holds from the beginning and after a reload, unless the store has another one."""
        text = FIRST.replace("weight: 2", "state: disabled")
        self.plan(text).commit(self.resource, self.removed)
        web = self.resource.clusters["web"]
        first, second = web.backends
        for backend in web.backends:
            backend.moved((backend.location.host,))
        self.assertEqual((("ready", "disabled"), (first,)), ((first.state, second.state), web.candidates))
        self.assertEqual((0.0, "configuration", ""), tuple(BackendFigures.of(second, 1, 1.0).wanted))
        self.assertEqual("the configuration sets it to disabled", told(second))
        states = States(Clock())
        self.addCleanup(states.close)
        states.apply(Table(states={("web", second.name): State("ready", "new disk", "ops", 5.0)}), {"web": web})
        self.assertEqual(("ready", (first, second)), (second.state, web.candidates))
        self.first = read(text)
        self.plan(text.replace("disabled", "drain")).commit(self.resource, self.removed)
        self.assertEqual("ready", second.state, "what the store says goes before what the file says")
        states.apply(Table(), {"web": web})
        self.assertEqual(("drain", (first,)), (second.state, web.candidates))
        self.first = read(text.replace("disabled", "drain"))
        self.plan(FIRST).commit(self.resource, self.removed)
        self.assertEqual(("ready", (first, second)), (second.state, web.candidates))

    def test_labels(self) -> None:
        """Labels and subsets are those of the newest file, for backends that stay as well."""
        text = FIRST.replace("weight: 2", 'labels: {version: "2"}').replace(
            "cluster: web}", 'routes: [{cluster: web, subset: {version: "2"}}]}', 1
        )
        self.plan(text).commit(self.resource, self.removed)
        web = self.resource.clusters["web"]
        route = self.resource.router.vhosts[0].routes[0]
        self.assertEqual((True, web.backends[1].labels), (web.labelled, route.subset))
        self.first = read(text)
        self.plan(FIRST).commit(self.resource, self.removed)
        self.assertEqual((False, frozenset()), (web.labelled, self.resource.router.vhosts[0].routes[0].subset))

    def test_portion(self) -> None:
        """Where there are several processes, each has its part of a capacity."""
        text = FIRST.replace("weight: 2", "capacity: 9")
        plan = self.plan(text, portion=lambda capacity: capacity // 2)
        plan.commit(self.resource, self.removed)
        backend = self.resource.clusters["web"].backends[1]
        self.assertEqual((backend.capacity, backend.room), (9, 4))

    def test_wrong(self) -> None:
        """What cannot be built is told, and nothing has changed."""
        broken = read(FIRST).model_copy(
            update={"clusters": {"web": self.first.clusters["web"].model_copy(
                update={"scheduler": model.Scheduler(name="nonesuch")})}, "vhosts": ()}
        )  # fmt: skip
        self.assertRaises(CannotStart, Plan, broken, (), self.network, (self.first, self.resource))
        self.assertEqual(self.urls("web"), ["http://10.0.0.1:80", "http://10.0.0.2:80"])
