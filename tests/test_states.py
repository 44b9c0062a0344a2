"""What is wanted of backends, in one process and in the store: L{lemmytx.states}."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.addresses import parse_url
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import Checkup
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.directory import figures_of, find, strays
from lemmytx.interfaces import Unknown
from lemmytx.net.network import Network
from lemmytx.proxy.snapshot import Snapshot
from lemmytx.states import AGAIN, AGAIN_MOST, MOST_TOLD, STICKY, States
from lemmytx.store.memory import MemoryStore
from lemmytx.store.place import Place
from lemmytx.table import Change, DropState, Entry, Member, PutState, State, StoreUnavailable, Table


class Store(MemoryStore):
    """
    One that can be away.

    @ivar why: it is, and that is why; C{changes}: all that it was asked to change.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(Place(clock, "/nowhere"))
        self.why = ""
        self.changes: list[tuple[float, Sequence[Change]]] = []
        self._clock = clock

    async def change(self, changes: Sequence[Change]) -> None:
        """See L{lemmytx.interfaces.IBackendStore}."""
        self.changes.append((self._clock.seconds(), list(changes)))
        if self.why:
            raise StoreUnavailable(self.why)
        await super().change(changes)


class Stopped:
    """A request that goes anywhere."""

    tried: tuple[Backend, ...] = ()


class StatesCase(SynchronousTestCase):
    """
    Two clusters, C{web} and C{api}, of the backends C{a} and C{b}; and the states of a process that has both.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.addCleanup(lambda: self.assertEqual([], self.clock.getDelayedCalls()))
        self.lines: list[str] = []
        self.store = Store(self.clock)
        self.clusters = {name: self.cluster(name) for name in ("web", "api")}
        self.states = self.make()
        self.successResultOf(Deferred.fromCoroutine(self.store.open(lambda: None, lambda hint: None)))
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(self.store.close())))

    def make(self, quiet: bool = False) -> States:
        """Of another process."""
        log = Logger(namespace="test", observer=lambda event: self.lines.append(formatEvent(event)))  # type: ignore[arg-type]  # any callable will do
        states = States(self.clock, quiet, self.clock.seconds, log)
        self.addCleanup(states.close)
        return states

    def backend(self, name: str, sticky_offline: bool = True) -> Backend:
        """One that is checked."""
        location = parse_url("http://10.0.0.1")
        backend = Backend(name, location.url, location, Network(self.clock), Passive(), Pool())
        backend.addresses = ("10.0.0.1",)
        backend.check_by(Checkup(None, fall=2, sticky_offline=sticky_offline))
        return backend

    def cluster(self, name: str, sticky_offline: bool = True) -> Cluster:
        """Of two backends."""
        backends = [self.backend(each, sticky_offline) for each in "ab"]
        return Cluster(name, backends, RoundRobin(), Rules(), self.clock.seconds)

    def load(self, *states: States) -> Table:
        """What the store has is applied."""
        table = Table()
        for each in states or (self.states,):
            table = self.successResultOf(Deferred.fromCoroutine(self.store.load(each.table)))
            each.apply(table, self.clusters)
        return table

    def put(self, *changes: Change) -> None:
        """Somebody else changes the store."""
        self.successResultOf(Deferred.fromCoroutine(MemoryStore.change(self.store, changes)))
        self.clock.advance(0.1)

    def state(self, cluster: str = "web") -> str:
        """That of C{a}."""
        return self.clusters[cluster].backends[0].state

    def chosen(self, cluster: str = "web") -> set[str]:
        """Who gets requests."""
        found = [self.clusters[cluster].choose(Stopped()) for _ in range(6)]
        return {backend.name for backend in found if backend is not None}

    def check(self, outcomes: str, cluster: str = "web", states: States | None = None) -> None:
        """Checks of C{a} that pass (C{+}) or fail (C{-}), as they are told."""
        backend = self.clusters[cluster].backends[0]
        assert backend.checked is not None
        for outcome in outcomes:
            health = backend.checked
            if health.passed() if outcome == "+" else health.failed("no connection"):
                (states or self.states).checked(cluster, backend)
                backend.changed()

    def want(self, state: str, why: str = "", by: str = "ops") -> Deferred[State]:
        """An operator wants it of C{a}."""
        return Deferred.fromCoroutine(self.states.want("web", "a", state, why, by, self.clusters))


class ApplyTests(StatesCase):
    """What stands in the store holds for the backends."""

    def test_applied(self) -> None:
        """A backend does what its state says, from the next request on, and no other one does."""
        self.put(PutState("web", "a", State("disabled", "new disk", "ops", 5.0)))
        self.load()
        self.assertEqual(("disabled", "ready"), (self.state(), self.state("api")))
        self.assertEqual(({"b"}, {"a", "b"}), (self.chosen(), self.chosen("api")))
        self.assertEqual(State("disabled", "new disk", "ops", 5.0), self.clusters["web"].backends[0].wanted)
        self.assertEqual(["cluster web: backend a is set to disabled by ops: new disk"], self.lines)
        self.put(PutState("web", "a", State("drain")))
        self.load()
        self.assertEqual(("drain", {"b"}), (self.state(), self.chosen()))

    def test_enabled(self) -> None:
        """One that is enabled, or of which nothing is wanted any more, serves again."""
        for back in (PutState("web", "a", State("ready")), DropState("web", "a")):
            self.put(PutState("web", "a", State("disabled")))
            self.load()
            self.assertEqual({"b"}, self.chosen())
            self.put(back)
            self.load()
            self.assertEqual({"a", "b"}, self.chosen())

    def test_explained(self) -> None:
        """Who took it out, and why, is what explains where requests go."""
        web = self.clusters["web"]
        self.put(PutState("web", "a", State("disabled", "new disk", "ops", 5.0)))
        self.load()
        (dropped,) = web.explain(Stopped()).dropped
        self.assertEqual(("state", "ops set it to disabled: new disk"), (dropped.filter, dropped.reason))

    def test_reload(self) -> None:
        """A backend that a reload brings, or brings back, begins with the state that is wanted of it."""
        self.put(PutState("web", "new", State("disabled")), PutState("other", "a", State("drain")))
        self.load()
        new = self.backend("new")
        self.assertTrue(self.states.mark("web", new))
        self.assertEqual("disabled", new.state)
        web = self.clusters["web"]
        web.configure([*web.backends, new], web.scheduler, web.rules)
        other = self.clusters["other"] = self.cluster("other")
        self.states.admit(self.clusters)
        self.assertEqual(({"a", "b"}, {"b"}), (self.chosen(), self.chosen("other")))
        del self.clusters["other"]
        self.states.admit(self.clusters)
        self.clusters["other"] = again = self.cluster("other")
        self.states.admit(self.clusters)
        self.assertEqual(("drain", "drain"), (again.backends[0].state, other.backends[0].state))

    def test_renamed(self) -> None:
        """States go by names: a backend that a reload calls otherwise is not the one of which it is wanted."""
        self.put(PutState("web", "a", State("disabled")))
        self.load()
        web = self.clusters["web"]
        web.backends[0].name = "c"
        web.configure(list(web.backends), web.scheduler, web.rules)
        self.states.admit(self.clusters)
        self.assertEqual({"b", "c"}, self.chosen())

    def test_untouched(self) -> None:
        """A table in which no state has changed does nothing to any cluster, whatever else has."""
        self.put(PutState("web", "a", State("drain")))
        self.load()
        told = []
        for cluster in self.clusters.values():
            for backend in cluster.backends:
                backend.changed = lambda: told.append(1)
        before = self.clusters["web"].candidates
        self.put(*(PutState(f"far{number}", "a", State("drain")) for number in range(3)))
        self.load()
        self.assertIs(before, self.clusters["web"].candidates)
        self.assertEqual([], told)

    def test_told(self) -> None:
        """Each change is a line, up to a number; a quiet process leaves that to another one."""
        clusters = {f"c{number:02}": self.cluster(f"c{number:02}") for number in range(MOST_TOLD + 2)}
        self.clusters.update(clusters)
        self.put(*(PutState(name, "a", State("drain", by="o\np")) for name in clusters))
        quiet = self.make(quiet=True)
        self.load(quiet)
        self.assertEqual([], self.lines)
        for cluster in clusters.values():
            cluster.backends[0].state = "ready"
        self.load()
        self.assertEqual("cluster c00: backend a is set to drain by o p", self.lines[0])
        self.assertEqual("and 2 backends more are set to another state", self.lines[MOST_TOLD])
        self.load()
        self.assertEqual(MOST_TOLD + 1, len(self.lines))


class WantTests(StatesCase):
    """What operators have done."""

    def test_durable(self) -> None:
        """It holds here as soon as it is stored, and is not told in the log a second time."""
        self.states.use(self.store)
        state = self.successResultOf(self.want("disabled", "new disk"))
        self.assertEqual(State("disabled", "new disk", "ops", 1000.0), state)
        self.assertEqual({"b"}, self.chosen())
        self.clock.advance(0.1)
        table = self.load()
        self.assertEqual({("web", "a"): state}, dict(table.states))
        self.assertEqual(({"b"}, []), (self.chosen(), self.lines))

    def test_unavailable(self) -> None:
        """What the store does not take does not hold, and is not tried again by itself."""
        self.assertEqual(
            "the store has not been opened yet; nothing has changed",
            str(self.failureResultOf(self.want("disabled"), StoreUnavailable).value),
        )
        self.states.use(self.store)
        self.store.why = "connection refused; nothing has changed"
        failure = self.failureResultOf(self.want("disabled"), StoreUnavailable)
        self.assertEqual(self.store.why, str(failure.value))
        self.store.why = ""
        self.clock.advance(100)
        self.assertEqual((1, {"a", "b"}), (len(self.store.changes), self.chosen()))

    def test_late_table(self) -> None:
        """A table that was asked for before it was stored, and comes after, does not undo it; the second one does, when
        somebody has said otherwise."""
        self.states.use(self.store)
        early = Table()
        self.successResultOf(self.want("disabled"))
        self.clock.advance(0.1)
        self.states.apply(early, self.clusters)
        self.assertEqual("disabled", self.state())
        self.put(DropState("web", "a"))
        self.load()
        self.assertEqual("ready", self.state())

    def test_others(self) -> None:
        """What another process has done since holds, though it may be the opposite."""
        self.states.use(self.store)
        self.successResultOf(self.want("disabled"))
        self.put(PutState("web", "a", State("ready", "", "eve", 1001.0)))
        self.load()
        self.assertEqual("ready", self.state())


class StickyTests(StatesCase):
    """C{sticky_offline}: one that goes down is also disabled."""

    def setUp(self) -> None:
        super().setUp()
        self.states.use(self.store)
        self.load()

    def test_disabled(self) -> None:
        """One that was up and goes down stays out when it is well again, until somebody enables it."""
        self.check("+--")
        self.assertEqual("disabled", self.state())
        self.check("++")
        self.assertEqual({"b"}, self.chosen())
        self.clock.advance(0.1)
        table = self.load()
        self.assertEqual(
            {("web", "a"): State("disabled", "no connection", STICKY, 1000.0)}, dict(table.states), self.store.changes
        )
        self.assertEqual(
            [
                "cluster web: backend a went down and is disabled until somebody enables it (sticky_offline): no"
                " connection"
            ],
            self.lines,
        )
        (dropped,) = self.clusters["web"].explain(Stopped()).dropped
        self.assertEqual("sticky_offline set it to disabled: no connection", dropped.reason)
        self.successResultOf(self.want("ready"))
        self.assertEqual({"a", "b"}, self.chosen())

    def test_one_failure(self) -> None:
        """One that is only going down is not out."""
        self.check("+-")
        self.assertEqual("ready", self.state())

    def test_start(self) -> None:
        """One that nobody has found up yet may be down without being disabled; once it was up it is."""
        self.check("---+")
        self.assertEqual("ready", self.state())
        self.check("-+-")
        self.assertEqual("ready", self.state())
        self.check("++--")
        self.assertEqual("disabled", self.state())

    def test_enabled_while_down(self) -> None:
        """One that is enabled while it is down serves when it is up; failing once on its way up is no new fall."""
        self.check("+--")
        self.successResultOf(self.want("ready"))
        self.check("+-")
        self.assertEqual(("ready", {"b"}), (self.state(), self.chosen()))
        self.check("++")
        self.assertEqual({"a", "b"}, self.chosen())
        self.clock.advance(1)
        self.check("--")
        self.assertEqual("disabled", self.state())

    def test_operators_word(self) -> None:
        """Where an operator has disabled it already his reason stays; one that drains is disabled."""
        self.successResultOf(self.want("disabled", "new disk"))
        self.check("+--")
        self.assertEqual("new disk", self.states.all()["web", "a"].why)
        self.check("++")
        self.clock.advance(1)
        self.successResultOf(self.want("drain"))
        self.check("--")
        self.assertEqual("disabled", self.state())

    def test_not_wanted(self) -> None:
        """Without C{sticky_offline} it is as well as its checks say."""
        self.clusters["web"] = self.cluster("web", sticky_offline=False)
        self.check("+--++")
        self.assertEqual({"a", "b"}, self.chosen())

    def test_outage(self) -> None:
        """It holds at once, and goes to the store as soon as that takes it: tried less and less often, and not before a
        table has come."""
        self.store.why = "away"
        self.check("+--")
        self.assertEqual("disabled", self.state())
        for _ in range(600):
            self.clock.advance(0.5)
        self.assertEqual(1, len(self.store.changes), "no table has come")
        for _ in range(600):
            self.clock.advance(0.5)
            self.load()
        times = [when for when, _ in self.store.changes[1:]]
        gaps = [after - before for before, after in pairwise(times)]
        self.assertEqual(sorted(gaps), gaps)
        self.assertGreaterEqual(gaps[0], 2 * AGAIN)
        self.assertEqual(AGAIN_MOST, gaps[-1])
        self.assertEqual("disabled", self.state())
        self.store.why = ""
        for _ in range(61):
            self.clock.advance(0.5)
        self.assertEqual("disabled", self.load().states["web", "a"].state)
        count = len(self.store.changes)
        for _ in range(200):
            self.clock.advance(0.5)
            self.load()
        self.assertEqual((count, "disabled"), (len(self.store.changes), self.state()))

    def test_enabled_elsewhere(self) -> None:
        """What somebody has said during an outage, after it went down here, counts when the store is back."""
        self.store.why = "away"
        self.check("+--++")
        self.clock.advance(10)
        self.store.why = ""
        self.put(PutState("web", "a", State("ready", "", "ops", 1005.0)))
        self.load()
        self.assertEqual({"a", "b"}, self.chosen())
        self.clock.advance(100)
        self.assertEqual("ready", self.load().states["web", "a"].state)

    def test_restart(self) -> None:
        """A process that starts finds it disabled, whatever its checks say."""
        self.check("+--")
        self.clock.advance(0.1)
        self.clusters["web"] = self.cluster("web")
        again = self.make()
        again.use(self.store)
        self.load(again)
        self.check("+++", states=again)
        self.assertEqual({"b"}, self.chosen())

    def test_two_processes(self) -> None:
        """Two that see it go down store it once each at the most, and one enabling is enough."""
        other, theirs = self.make(), self.cluster("web")
        other.use(self.store)
        ours = self.clusters["web"]
        self.check("+--")
        self.clusters["web"] = theirs
        self.check("+--", states=other)
        self.clock.advance(0.1)
        for states, cluster in ((self.states, ours), (other, theirs)):
            self.clusters["web"] = cluster
            self.load(states)
        self.assertLessEqual(len(self.store.changes), 2)
        self.put(PutState("web", "a", State("ready", "", "ops", 1001.0)))
        for states, cluster in ((self.states, ours), (other, theirs)):
            self.clusters["web"] = cluster
            self.load(states)
            self.assertEqual("ready", cluster.backends[0].state)

    def test_another_store(self) -> None:
        """What one store did not take goes to the next one."""
        self.store.why = "away"
        self.check("+--")
        self.clock.advance(0.1)
        second = Store(self.clock)
        self.successResultOf(Deferred.fromCoroutine(second.open(lambda: None, lambda hint: None)))
        self.states.use(second)
        self.clock.advance(0.1)
        (put,) = second.changes[0][1]
        assert isinstance(put, PutState)
        self.assertEqual(("web", "a", STICKY), (put.cluster, put.backend, put.state.by))
        self.clock.advance(1)
        self.successResultOf(Deferred.fromCoroutine(second.close()))

    def test_fault(self) -> None:
        """A store that breaks is told, and it is tried again."""

        async def broken(changes: Sequence[Change]) -> None:
            raise RuntimeError("a plugin's")

        self.store.change = broken  # type: ignore[method-assign]  # this test's own
        self.check("+--")
        self.clock.advance(0.1)
        del self.store.change
        self.assertIn("states of backends could not be stored; they will be tried again", self.lines[-1])
        self.load()
        self.clock.advance(1)
        self.assertEqual(1, len(self.store.changes))

    def test_closed(self) -> None:
        """After the end nothing is tried."""
        self.store.why = "away"
        self.check("+--")
        self.states.close()
        self.clock.advance(1000)
        self.assertEqual([], self.store.changes)


CONFIGURATION = """
vhosts: [{hosts: ["*"], cluster: web}]
clusters: {web: {backends: [{url: "http://a:1", name: web1}, {url: "http://b:1", name: web2}]}}
"""


class DirectoryTests(SynchronousTestCase):
    """Names that people type: L{lemmytx.directory}."""

    def setUp(self) -> None:
        self.configuration = config.read(CONFIGURATION.encode(), "lemmy.yaml")
        members = (Member("10.0.0.1"), Member("10.0.0.2:81", "second"), Member("no port:"))
        self.table = Table({"shop": Entry("shop", members), "web": Entry("web", (Member("other"),))})

    def find(self, cluster: str, backend: str) -> str:
        """Its URL, or why there is none."""
        try:
            return find(self.configuration, self.table, cluster, backend)
        except Unknown as error:
            return str(error)

    def test_found(self) -> None:
        """Backends of the file and of the store are found by what they are called; the file wins."""
        self.assertEqual("http://a:1", self.find("web", "web1"))
        self.assertEqual("http://10.0.0.1:80", self.find("shop", "10.0.0.1:80"))
        self.assertEqual("http://10.0.0.2:81", self.find("shop", "second"))
        self.assertIn("has no backend 'other:80'", self.find("web", "other:80"))

    def test_not_found(self) -> None:
        """Of what there is not the nearest name is told, or those that there are."""
        self.assertEqual("cluster 'web' has no backend 'web3'; did you mean 'web2'?", self.find("web", "web3"))
        self.assertEqual("cluster 'web' has no backend 'x'; there are web1, web2", self.find("web", "x"))
        self.assertEqual("there is no cluster 'wep'; did you mean 'web'?", self.find("wep", "web1"))
        self.assertEqual("there is no cluster 'x'; there are shop, web", self.find("x", "web1"))

    def test_strays(self) -> None:
        """What is wanted of a backend that is not there is kept, and shown."""
        states = States(Clock())
        wanted = {(cluster, name): State("drain") for cluster, name in (("web", "web1"), ("web", "old"), ("x", "y"))}
        states.apply(Table(self.table.vhosts, wanted), {})
        self.assertEqual({("web", "old"), ("x", "y")}, set(strays(self.configuration, states)))

    def test_asleep(self) -> None:
        """A backend that no process has met yet is unknown, in the state that is wanted of it."""
        figures: Any = figures_of(Snapshot(), "shop", "second", "http://10.0.0.2:81", State("drain", "why", "ops", 1.0))
        self.assertEqual(("http://10.0.0.2:81", "drain", "unknown"), (figures.url, figures.state, figures.health))
        self.assertEqual([1.0, "ops", "why"], figures.wanted)
