"""The vhosts of a store in a process that serves: L{lemmytx.live.live}, with what it is made of."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.assemble import Plan
from lemmytx.checks.rounds import Rounds
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.traffic import Traffic
from lemmytx.live import live as lives
from lemmytx.live.live import Live
from lemmytx.live.mold import Parts
from lemmytx.live.telling import Summary, Telling
from lemmytx.message import RequestHead
from lemmytx.net import slices
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
from lemmytx.proxy import snapshot as snapshots
from lemmytx.proxy.figures import Figures
from lemmytx.proxy.listener import Connections
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.statistics import Recent
from lemmytx.states import States
from lemmytx.table import MOST_SETTINGS, Entry, Member, State, Table
from tests.profiling import calls
from tests.proxy.test_router import request
from tests.test_assemble import read

FILE = """\
    vhosts: [{hosts: [file.example, "*.file.example"], cluster: web}]
    clusters: {web: {backends: ["http://10.9.9.9"]}}
    defaults: {max_fails: 7}
"""


def entry(name: str, *members: str | Member, **settings: Any) -> Entry:
    """A vhost with these members, and settings of its own where there are any."""
    found = tuple(Member(member) if isinstance(member, str) else member for member in members)
    return Entry(name, found, json.dumps(settings) if settings else "")


def table(*entries: Entry, **more: Any) -> Table:
    """A table with these vhosts."""
    return Table({each.name: each for each in entries}, **more)


class Names:
    """
    A resolver that the test has answer.

    @ivar asked: who waits for the addresses of a name.
    """

    def __init__(self) -> None:
        self.asked: dict[str, list[IResolutionReceiver]] = {}

    def resolveHostName(self, receiver: IResolutionReceiver, name: str, port: int = 0, *_: Any, **__: Any) -> Any:
        """Twisted's."""
        self.asked.setdefault(name, []).append(receiver)
        return IHostResolution(receiver, None)

    def answer(self, name: str, *addresses: str) -> None:
        """They hear these."""
        from twisted.internet.address import IPv4Address

        for receiver in self.asked.pop(name):
            for address in addresses:
                receiver.addressResolved(IPv4Address("TCP", address, 0))
            receiver.resolutionComplete()


class LiveCase(SynchronousTestCase):
    """A process that serves by a file and a store."""

    def setUp(self) -> None:
        self.clock: Any = MemoryReactorClock()
        self.clock.nameResolver = self.names = Names()
        self.left: list[Backend] = []
        self.ejected: list[tuple[str, str]] = []
        self.states = States(self.clock)
        self.rounds = Rounds(self.clock)
        self.addCleanup(self.rounds.stop)
        self.live = Live(self.clock, self.states, self.rounds, self.leave, self.eject)
        self.removed = Traffic()
        self.resource: ReverseProxyResource | None = None
        self.configuration = read("clusters: {}")
        self.network = Network(self.clock)
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        """What the log of the store says."""
        if event.get("log_namespace") == "lemmytx.store":
            self.said.append(event["log_format"].format(**event))

    def leave(self, backends: Iterable[Backend]) -> None:
        """Backends that are in no cluster any more."""
        self.left.extend(backends)

    def eject(self, cluster: str, backend: Backend) -> None:
        """Failures have put one out."""
        self.ejected.append((cluster, backend.name))

    def done(self, waited: Any) -> Any:
        """The outcome of what takes turns."""
        deferred = Deferred.fromCoroutine(waited)
        for _ in range(1000):
            if deferred.called:
                break
            self.clock.advance(0)
        return self.successResultOf(deferred)

    def serve(self, found: Table, text: str = FILE, **more: Any) -> None:
        """A configuration, together with a table, is put to work."""
        new = read(text)
        before = None if self.resource is None else (self.configuration, self.resource)
        plan = Plan(new, (), self.network, before)
        parts = Parts(new, (), self.network, plan.clusters, **more)
        difference = self.done(self.live.prepare(parts, plan.router, found))
        if self.resource is None:
            self.resource = plan.resource(Ticker(Clock(), time.monotonic))
        plan.commit(self.resource, self.removed)
        self.live.commit(difference, found, self.resource, self.removed)
        self.configuration = new
        self.clock.pump([0] * 20)

    def take(self, found: Table) -> None:
        """Another table has come."""
        self.states.apply(found, {} if self.resource is None else self.resource.clusters)
        self.done(self.live.take(found))
        self.clock.pump([0] * 20)

    def cluster(self, host: str) -> Cluster | None:
        """Where a request goes."""
        assert self.resource is not None
        found: Cluster | None = self.resource.router.find(self.head(host), "192.0.2.1").cluster
        return found

    def head(self, host: str) -> RequestHead:
        """A request's."""
        return request(host)

    def urls(self, host: str) -> list[str] | None:
        """Of the backends there; L{None}: nobody serves it."""
        cluster = self.cluster(host)
        return None if cluster is None else [backend.url for backend in cluster.backends]


class ServingTests(LiveCase):
    """What requests find."""

    def test_first(self) -> None:
        """A vhost of the store is served by a cluster of its name with the defaults, from the first request on."""
        self.serve(table(entry("a", "10.0.0.1", "10.0.0.2:8080", Member("http://10.0.0.3", "x", 3, 9, "backup"))))
        self.assertEqual({}, self.live.built)
        cluster = self.cluster("a")
        assert cluster is not None
        self.assertEqual(
            [("10.0.0.1:80", 1, 0, "active"), ("10.0.0.2:8080", 1, 0, "active"), ("x", 3, 9, "backup")],
            [(b.name, b.weight, b.capacity, b.role) for b in cluster.backends],
        )
        self.assertEqual(("a", 7), (cluster.name, cluster.backends[0].passive.max_fails))
        self.assertEqual(
            [("10.0.0.1",), "10.0.0.1"], [cluster.backends[0].addresses, cluster.backends[0].location.host]
        )
        self.assertIs(cluster, self.cluster("a"))
        assert self.resource is not None
        self.assertEqual(["file.example", "a"], [vhost.name for vhost in self.resource.vhosts])
        self.assertEqual({"web", "a"}, self.resource.clusters.keys())
        self.assertIsNone(self.cluster("b"))

    def test_changes(self) -> None:
        """Backends come and go; those that stay are the same, with all that is known of them."""
        self.serve(table(entry("a", "10.0.0.1", "10.0.0.2"), entry("b", "10.0.0.9")))
        cluster = self.cluster("a")
        assert cluster is not None
        first, second = cluster.backends
        first.connects = 5
        second.acquire()
        self.take(table(entry("a", Member("10.0.0.1", "", 4), "10.0.0.3"), entry("c", "10.0.0.8")))
        self.assertIs(cluster, self.cluster("a"))
        self.assertEqual(["http://10.0.0.1:80", "http://10.0.0.3:80"], self.urls("a"))
        self.assertEqual((5, 4), (first.connects, first.weight))
        self.assertIs(first, cluster.backends[0])
        self.assertEqual([second], self.left)
        self.assertEqual([None, ["http://10.0.0.8:80"]], [self.urls("b"), self.urls("c")])

    def test_at_once(self) -> None:
        """All that has changed holds from one moment on, also for vhosts that are not built anew yet."""
        self.serve(table(entry("a", "10.0.0.1"), entry("b", "10.0.0.2"), entry("c", "10.0.0.3")))
        for host in "abc":
            self.cluster(host)
        difference = self.done(
            self.live.prepare(self.live.view.parts, self.resource.router,  # type: ignore[union-attr]  # it is served
                              table(entry("a", "10.0.1.1"), entry("b", "10.0.1.2")))
        )  # fmt: skip
        self.assertEqual(["http://10.0.0.1:80"], self.urls("a"))
        self.patch(slices, "TURN", -1)  # one vhost at a time
        self.live._put(difference)
        self.assertGreater(self.live.settling, 0)
        self.assertEqual([["http://10.0.1.2:80"], None], [self.urls("b"), self.urls("c")])
        self.clock.pump([0] * 20)
        self.assertEqual((0, {"a", "b"}), (self.live.settling, self.live.built.keys()))

    def test_unchanged(self) -> None:
        """A table that says the same in other words changes nothing."""
        self.serve(table(entry("a", "10.0.0.1")))
        cluster = self.cluster("a")
        assert cluster is not None
        scheduler = cluster.scheduler
        self.take(table(entry("a", "10.0.0.1")))
        self.assertEqual(0, self.live.settling)
        self.assertIs(cluster, self.cluster("a"))
        self.assertIs(scheduler, cluster.scheduler)

    def test_gone(self) -> None:
        """What is gone is shown no more, its counts stay in the whole, and what runs there has its time to end."""
        self.serve(table(entry("a", "10.0.0.1")))
        cluster = self.cluster("a")
        assert cluster is not None and self.resource is not None
        cluster.backends[0].acquire()
        vhost = self.resource.vhosts[1]
        vhost.traffic.ended(200, 0.1, 0, 5)
        self.take(Table())
        self.assertEqual(["file.example"], [each.name for each in self.resource.vhosts])
        self.assertEqual(({"web"}, 1), (self.resource.clusters.keys(), self.removed.count))
        self.assertEqual(list(cluster.backends), self.left)
        vhost.traffic.ended(200, 0.1, 0, 5)
        self.assertEqual(2, self.removed.count)
        self.assertIsNone(self.cluster("a"))

    def test_wildcards(self) -> None:
        """The longest wildcard wins, be it of the file or the store."""
        self.serve(
            table(entry("*.b.example", "10.0.0.1"), entry("*.x.file.example", "10.0.0.2"), entry("*", "10.0.0.3"))
        )
        self.assertEqual(["http://10.0.0.1:80"], self.urls("a.b.example"))
        self.assertEqual(["http://10.9.9.9:80"], self.urls("y.file.example"))
        self.assertEqual(["http://10.0.0.2:80"], self.urls("z.x.file.example"))
        self.assertEqual(["http://10.0.0.3:80"], self.urls("other"))
        self.assertEqual(["http://10.0.0.3:80"], self.urls("*"))
        self.take(table(entry("*.b.example", "10.0.0.1")))
        self.assertEqual([None, ["http://10.0.0.1:80"]], [self.urls("other"), self.urls("a.b.example")])

    def test_states(self) -> None:
        """A backend that is to be out is out before its cluster first chooses."""
        states = {("a", "10.0.0.1:80"): State("disabled")}
        found = table(entry("a", "10.0.0.1", "10.0.0.2"), states=states)
        self.states.apply(found, {})
        self.serve(found)
        cluster = self.cluster("a")
        assert cluster is not None
        self.assertEqual(["disabled", "ready"], [backend.state for backend in cluster.backends])
        self.assertEqual(1, len(cluster.candidates))

    def test_calls(self) -> None:
        """To find a vhost of the store costs no more calls than to find one of the file."""
        self.serve(table(entry("a", "10.0.0.1")))
        self.cluster("a")
        assert self.resource is not None
        find, counts = self.resource.router.find, []
        for wanted in (self.head("file.example"), self.head("a")):
            counts.append(calls(lambda wanted=wanted: find(wanted, "192.0.2.1")))  # type: ignore[misc]  # its default
        self.assertEqual([1, 1], counts)

    def test_ejected(self) -> None:
        """Failures that put a backend out are told."""
        self.serve(table(entry("a", "10.0.0.1", "10.0.0.2", max_fails=1)))
        cluster = self.cluster("a")
        assert cluster is not None
        cluster.failed(cluster.backends[0], "refused", "refused")
        self.assertEqual([("a", "10.0.0.1:80")], self.ejected)


class SettingsTests(LiveCase):
    """Settings of the store."""

    def test_over_defaults(self) -> None:
        """What is written replaces the key of the defaults; the rest is theirs."""
        self.serve(table(entry("a", "10.0.0.1", timeouts={"connect": "250ms"}, scheduler="round_robin")))
        cluster = self.cluster("a")
        assert cluster is not None
        self.assertEqual((0.25, 7), (cluster.rules.connect, cluster.backends[0].passive.max_fails))
        self.assertEqual("RoundRobin", type(cluster.scheduler).__name__)

    def test_shared(self) -> None:
        """Clusters with the same settings share what is made of them."""
        self.serve(table(entry("a", "10.0.0.1"), entry("b", "10.0.0.2"), entry("c", "10.0.0.3", max_fails=1)))
        a, b, c = (self.cluster(host) for host in "abc")
        assert a is not None and b is not None and c is not None
        self.assertIs(a.rules, b.rules)
        self.assertIs(a.backends[0].pool, b.backends[0].pool)
        self.assertIsNot(a.rules, c.rules)

    def test_own_sticky(self) -> None:
        """What is made with the cluster's name is each one's own: a cookie of one is none of another."""
        self.serve(
            table(entry("a", "10.0.0.1"), entry("b", "10.0.0.2")), FILE.replace("max_fails: 7", "sticky: {cookie: l}")
        )
        a, b = (self.cluster(host) for host in "ab")
        assert a is not None and b is not None
        self.assertIsNot(a.rules.sticky, b.rules.sticky)

    def test_broken(self) -> None:
        """Settings that cannot be used are told once, and the ones before them stay, or the defaults."""
        self.serve(table(entry("a", "10.0.0.1", max_fails=2)))
        cluster = self.cluster("a")
        assert cluster is not None
        self.take(table(entry("a", "10.0.0.1", "10.0.0.2", max_fails="many"), Entry("b", (Member("10.0.0.3"),), "{")))
        self.assertEqual(["http://10.0.0.1:80", "http://10.0.0.2:80"], self.urls("a"))
        self.assertEqual([2, 2], [backend.passive.max_fails for backend in cluster.backends])
        other = self.cluster("b")
        assert other is not None
        self.assertEqual(7, other.backends[0].passive.max_fails)
        self.assertEqual(["a", "b"], [fault.vhost for fault in self.live.faults()])
        self.assertEqual(2, len(self.said), self.said)
        self.assertIn("max_fails", self.said[0])
        self.take(table(entry("a", "10.0.0.1", max_fails="many"), Entry("b", (Member("10.0.0.3"),), "{")))
        self.assertEqual(2, len(self.said), self.said)

    def test_longSettings(self) -> None:
        """Settings that are too long are not even looked at; those from before go on."""
        self.serve(table(entry("a.example", "10.0.0.1")))
        before = self.cluster("a.example")
        self.take(table(Entry("a.example", (Member("10.0.0.1"),), "[" * (MOST_SETTINGS + 1))))
        self.assertIs(before, self.cluster("a.example"))
        self.assertEqual(["settings: longer than 131,072 characters"], [fault.why for fault in self.live.faults()])

    def test_garbage(self) -> None:
        """What is taken away goes: nothing is kept from Python's collector before it has seen it."""
        self.patch(lives, "MANY", 3)
        self.addCleanup(gc.unfreeze)
        frozen: list[str] = []
        collections = [5]
        self.patch(lives, "_collections", lambda: collections[0])
        self.patch(lives.gc, "freeze", lambda: frozen.append("frozen"))
        self.patch(lives.gc, "unfreeze", lambda: frozen.append("free"))
        names = [f"{letter}.example" for letter in "abcdef"]

        def come(*names: str) -> None:
            self.take(table(*(entry(name, "10.0.0.1") for name in names)))
            for name in names:
                self.assertIsNotNone(self.cluster(name))

        self.serve(Table())
        come(*names[:3])
        self.assertEqual(["frozen"], frozen)
        come()
        self.assertEqual(["frozen", "free"], frozen)
        come(*names[3:])
        self.assertEqual(["frozen", "free"], frozen)
        collections[0] += 1
        come(*names)
        self.assertEqual(["frozen", "free", "frozen"], frozen)

    def test_refused(self) -> None:
        """What a store must not ask for, and what there is not: each is named."""
        self.serve(
            table(
                entry("a", "10.0.0.1", health_check={"type": "command", "command": ["/bin/true"]}),
                entry("b", "10.0.0.1", failover="nowhere"),
                entry("c", "10.0.0.1", scheduler="none"),
                entry("d", "10.0.0.1", wieght=3),
                Entry("e", (), "[]"),
            )
        )
        whys = [fault.why for fault in self.live.faults()]
        for why, part in zip(
            whys, ("configuration's file alone", "'nowhere'", "'none'", "wieght", "object"), strict=True
        ):
            self.assertIn(part, why)

    def test_members(self) -> None:
        """Members that do not go with the settings are left out, and hurt nobody else."""
        self.serve(
            table(
                entry("a", "10.0.0.1", "fcgi://10.0.0.2", Member("http://10.0.0.1:80", "twice")),
                entry("b", "10.0.0.1", Member("10.0.0.2", capacity=5), buckets={"vip": {"rate": "20%"}}),
            )
        )
        self.assertEqual(["http://10.0.0.1:80"], self.urls("a"))
        self.assertEqual(["http://10.0.0.2:80"], self.urls("b"))
        self.assertEqual(
            [("a", "fcgi://10.0.0.2"), ("a", "http://10.0.0.1:80"), ("b", "10.0.0.1")],
            sorted(fault[:2] for fault in self.live.faults()),
        )
        self.assertEqual(3, len(self.said), self.said)
        facts = self.live.facts()
        self.assertEqual((2, 5, 3, 2), tuple(facts[name] for name in ("vhosts", "backends", "faults", "built")))

    def test_unfit_check(self) -> None:
        """Members that cannot be checked as the settings say are left out."""
        self.serve(table(entry("a", "10.0.0.1", "h2c://10.0.0.2", health_check={"type": "grpc"})))
        self.assertEqual(["h2c://10.0.0.2:80"], self.urls("a"))
        self.assertEqual(["10.0.0.1"], [fault.member for fault in self.live.faults()])

    def test_failover(self) -> None:
        """Clusters of the file may stand in."""
        self.serve(table(entry("a", "10.0.0.1", failover="web")))
        cluster = self.cluster("a")
        assert cluster is not None and self.resource is not None
        self.assertIs(self.resource.clusters["web"], cluster.failover)


class FileTests(LiveCase):
    """The file beside the store."""

    def test_wins(self) -> None:
        """Hosts and clusters that the file names are the file's; that is told once."""
        found = table(entry("file.example", "10.0.0.1"), entry("web", "10.0.0.1"), entry("a", "10.0.0.1"))
        self.serve(found)
        self.assertEqual(["http://10.9.9.9:80"], self.urls("file.example"))
        self.assertEqual([None, ["http://10.0.0.1:80"]], [self.urls("web"), self.urls("a")])
        self.assertEqual(2, len(self.said), self.said)
        self.take(table(*found.vhosts.values(), entry("b", "10.0.0.1")))
        self.assertEqual((2, 2), (len(self.said), len(self.live.faults())))

    def test_reload(self) -> None:
        """A reload that takes a name over, or gives it back, does so at once; what is built is the same after it."""
        found = table(entry("a", "10.0.0.1"), entry("b", "10.0.0.2"))
        self.serve(found)
        kept, lost = self.cluster("a"), self.cluster("b")
        assert kept is not None and lost is not None
        self.serve(found, FILE.replace("[file.example,", "[file.example, b,"))
        self.assertEqual(["http://10.9.9.9:80"], self.urls("b"))
        assert self.resource is not None
        self.assertEqual({"web", "a"}, self.resource.clusters.keys())
        self.assertIs(kept, self.cluster("a"))
        self.serve(found)
        self.assertEqual(["http://10.0.0.2:80"], self.urls("b"))
        self.assertIsNot(lost, self.cluster("b"))
        self.assertEqual([], self.live.faults())

    def test_defaults(self) -> None:
        """Other defaults hold for all, with what is known of the backends."""
        found = table(entry("a", "10.0.0.1"), entry("b", "10.0.0.2", max_fails=1))
        self.serve(found)
        cluster, other = self.cluster("a"), self.cluster("b")
        assert cluster is not None and other is not None
        backend = cluster.backends[0]
        self.serve(found, FILE.replace("max_fails: 7", "{max_fails: 8, fail_window: 5}".strip("{}")))
        self.assertEqual((8, 5), (backend.passive.max_fails, backend.passive.fail_window))
        self.assertIs(backend, cluster.backends[0])
        self.assertEqual((1, 5), (other.backends[0].passive.max_fails, other.backends[0].passive.fail_window))

    def test_meanwhile(self) -> None:
        """A table that comes between preparing a reload and putting it to work is not lost."""
        self.serve(table(entry("a", "10.0.0.1")))
        new = read(FILE.replace("7", "9"))
        assert self.resource is not None
        plan = Plan(new, (), self.network, (self.configuration, self.resource))
        old = self.live.view
        assert old is not None
        pending = self.done(self.live.prepare(Parts(new, (), self.network, plan.clusters), plan.router, old.table))
        newest = table(entry("a", "10.0.0.1"), entry("b", "10.0.0.2"))
        self.take(newest)
        plan.commit(self.resource, self.removed)
        self.live.commit(pending, newest, self.resource, self.removed)
        cluster = self.cluster("b")
        assert cluster is not None
        self.assertEqual(9, cluster.backends[0].passive.max_fails)

    def test_shares(self) -> None:
        """A worker has its share of a capacity."""
        self.serve(table(entry("a", Member("10.0.0.1", capacity=5))), place=(0, 2))
        cluster = self.cluster("a")
        assert cluster is not None
        self.assertEqual((5, 3), (cluster.backends[0].capacity, cluster.backends[0].room))


class NamesTests(LiveCase):
    """Members with host names."""

    def test_names(self) -> None:
        """A name is looked up once for all who are there, and no more when nobody is."""
        self.serve(table(entry("a", "app.internal:1"), entry("b", "app.internal:2", "10.0.0.1")))
        self.assertEqual({}, self.names.asked)
        a, b = self.cluster("a"), self.cluster("b")
        assert a is not None and b is not None
        self.assertEqual(1, len(self.names.asked["app.internal"]))
        self.assertEqual(((), False), (a.candidates, a.backends[0].located))
        self.names.answer("app.internal", "10.1.1.1")
        self.assertEqual((("10.1.1.1",), 1), (a.backends[0].addresses, len(a.candidates)))
        self.assertEqual(2, len(b.candidates))
        self.take(Table())
        self.clock.advance(100)
        self.assertEqual({}, self.names.asked)


class CheckTests(LiveCase):
    """Clusters whose backends are checked."""

    CHECKED = FILE.replace("max_fails: 7", "health_check: {type: tcp, interval: 2}")

    def test_down_until_checked(self) -> None:
        """They are built without any request, and down until the first check; so are those that come later."""
        self.serve(table(entry("a", "10.0.0.1"), entry("b", "10.0.0.2")), self.CHECKED)
        self.assertEqual({"a", "b"}, self.live.built.keys())
        self.assertEqual(2, len(self.rounds.checkers))
        cluster = self.cluster("a")
        assert cluster is not None
        first = cluster.backends[0]
        self.assertEqual("down", first.health)
        assert first.checked is not None
        first.checked.passed()
        first.changed()
        self.take(table(entry("a", "10.0.0.1", "10.0.0.3")))
        self.assertEqual(["up", "down"], [backend.health for backend in cluster.backends])
        self.assertEqual(2, len(self.rounds.checkers))

    def test_switched_off(self) -> None:
        """Checks that begin find a backend up that was at work; those that end leave it so."""
        self.serve(table(entry("a", "10.0.0.1")))
        cluster = self.cluster("a")
        assert cluster is not None
        found = table(*([] if self.live.view is None else self.live.view.table.vhosts.values()))
        self.serve(found, self.CHECKED)
        self.assertEqual(("up", 1), (cluster.backends[0].health, len(self.rounds.checkers)))
        self.serve(found)
        self.assertEqual(("up", 0), (cluster.backends[0].health, len(self.rounds.checkers)))

    def test_sooner(self) -> None:
        """A hint has a backend looked at at once."""
        self.serve(table(entry("a", "10.0.0.1")), self.CHECKED)
        looked: list[bool] = []
        checker = self.rounds.checkers[0]
        self.patch(type(checker), "look", lambda self, better: looked.append(better))
        self.rounds.look("a", "10.0.0.1:80", True)
        self.rounds.look("a", "10.0.0.2:80", True)
        self.assertEqual([True], looked)


class ShownTests(LiveCase):
    """In the statistics."""

    def test_bounded(self) -> None:
        """So many are shown one by one; the others are one sum, so that nothing is missing in the whole."""
        self.serve(table(*(entry(host, "10.0.0.1") for host in "abc")))
        assert self.resource is not None
        for host in "abc":
            self.cluster(host)
            self.live.built[host].vhost.traffic.ended(200, 0.1, 0, 0)
        self.patch(snapshots, "MOST_STORED", 1)
        recent = Recent(list, self.clock)
        taken = self.done(snapshots.take(self.resource, Connections(10), recent, self.clock))
        self.assertEqual(
            {"file.example": 0, "a": 1, "*others": 2}, {n: f.traffic.count for n, f in taken.vhosts.items()}
        )
        self.assertEqual({"web", "a"}, taken.clusters.keys())


class TellingTests(LiveCase):
    """What others are told, and tell."""

    def test_requests(self) -> None:
        """What is in flight is told by vhost and member; asked is for those with requests."""
        self.serve(table(entry("a", "10.0.0.1", "10.0.0.2"), entry("b", "10.0.0.3"), entry("c", "10.0.0.4")))
        a, b = self.cluster("a"), self.cluster("b")
        assert a is not None and b is not None
        telling = Telling(self.live, self.clock)
        a.backends[1].acquire()
        self.live.built["b"].vhost.traffic.ended(200, 0.1, 0, 0)
        report = self.done(telling.requests())
        self.assertEqual({("a", "10.0.0.2"): 1}, report.active)
        self.assertEqual({"a", "b"}, report.asked)
        watched: list[str] = []
        a.backends[0].watch = lambda backend: watched.append(backend.name)
        telling.heard({("a", "10.0.0.1"): 3, ("b", "10.0.0.3"): 2, ("z", "10.0.0.1"): 9})
        self.assertEqual([3, 0, 2], [backend.elsewhere for backend in (*a.backends, *b.backends)])
        self.assertEqual(["10.0.0.1:80"], watched)
        report = self.done(telling.requests())
        self.assertEqual({"a"}, report.asked)
        self.assertEqual([3, 0], [a.backends[0].elsewhere, b.backends[0].elsewhere])
        telling.heard({})
        self.assertEqual(0, a.backends[0].elsewhere)

    def test_summary(self) -> None:
        """Statistics are flat; vhosts are told of when they have changed, and once more when a minute is over."""
        summary = Summary(self.clock)
        traffic, rest = Traffic(), Traffic()
        traffic.ended(200, 0.5, 0, 10)
        rest.ended(404, 0.1, 0, 0)
        count = 1

        def figures(name: str, counted: Traffic) -> Figures:
            found = Figures()
            found.traffic.add(counted)
            found.count = count
            return found

        whole, vhosts = self.done(summary.make([("a", traffic), ("b", Traffic())], figures, [rest]))
        self.assertEqual((2, '{"200": 1, "404": 1}'), (whole["total_count"], whole["total_status_code_count"]))
        self.assertEqual(({"a"}, 1), (vhosts.keys(), vhosts["a"]["total_count"]))
        self.assertEqual({}, self.done(summary.make([("a", traffic)], figures, []))[1])
        count = 0
        self.assertEqual({"a"}, self.done(summary.make([("a", traffic)], figures, []))[1].keys())
        self.assertEqual({}, self.done(summary.make([("a", traffic)], figures, []))[1])
