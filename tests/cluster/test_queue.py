"""Waiting for a backend, and classes of requests: the queue of a cluster with requests that do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from lemmytx.addresses import parse_url
from lemmytx.balance.buckets import Share
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.place import Place
from lemmytx.cluster.queue import Queue
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.net.ticker import Ticker
from tests.cluster.test_cluster import ClusterCase

SHOP = (Share("vip", 0.2, 0.4), Share("main", 0.8, 1.0))


class Plain:
    """A route of no class."""

    bucket: str | None = None


class Named(Plain):
    """A route of a class."""

    def __init__(self, bucket: str | None) -> None:
        self.bucket = bucket


class Exchange:
    """As much of an exchange as a queue knows."""

    client = "192.0.2.1"
    head: Any = None
    total = -1.0
    queue_time = -1.0

    def __init__(self, case: QueueCase, bucket: str | None) -> None:
        self.resource = case
        self.route = Named(bucket)
        self.case = case
        self.place: Place | None = None
        self.backend: Backend | None = None
        self.attempts = 0
        self.tried: tuple[Backend, ...] = ()
        self.fate = ""

    def __repr__(self) -> str:
        return f"<{self.fate or self.backend}>"

    def admitted(self, backend: Backend, since: float) -> None:
        """It goes to a backend."""
        assert not self.fate
        self.attempts += 1
        self.backend = backend
        backend.acquire()

    def turned_away(self, termination: str, since: float | None = None) -> None:
        """It ends without one."""
        assert not self.fate and self.place is None
        self.fate = termination

    def end(self) -> None:
        """It ends after an answer, or because its client has gone."""
        if self.backend is not None:
            self.backend.leave()
        self.fate = "over"
        if self.place is not None:
            self.place.leave()


class QueueCase(ClusterCase):
    """A cluster with a queue, on a virtual clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        super().setUp()
        self.ticker = Ticker(self.clock, self.clock.seconds)
        self.ticker.start()
        self.exchanges: list[Exchange] = []

    @property
    def now(self) -> float:
        """The time, on the clock that also calls."""
        return self.clock.seconds()

    @now.setter
    def now(self, now: float) -> None:
        self.clock.rightNow = now

    def queued(self, roles: str = "a", capacity: int = 1, **rules: Any) -> Queue:
        """A cluster with a queue."""
        self.members = self.cluster(roles, capacity, Rules(queue=QueueRules(**rules)))
        queue = self.members.queue
        assert queue is not None
        return queue

    def ask(self, bucket: str | None = None) -> Exchange:
        """A request comes, as in L{lemmytx.proxy.attempts}."""
        exchange = Exchange(self, bucket)
        self.exchanges.append(exchange)
        gate = self.members.gate
        backend = self.members.choose(exchange) if gate is None else gate.choose(exchange)
        if backend is not None:
            exchange.admitted(backend, 0.0)
            return exchange
        assert self.members.queue is not None
        why = self.members.queue.wait(exchange)
        if why:
            exchange.turned_away(why)
        return exchange

    def wait(self, seconds: float = 0.0) -> None:
        """Time passes, and so does one turn of the reactor."""
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)
        self.clock.advance(0)

    def tearDown(self) -> None:
        """Everything ends, and nothing is left."""
        cluster: Cluster | None = getattr(self, "members", None)
        for exchange in self.exchanges:
            if not exchange.fate and (exchange.backend is not None or exchange.place is not None):
                exchange.end()
        self.wait()
        for exchange in self.exchanges:
            if not exchange.fate and exchange.backend is not None:
                exchange.end()
        if cluster is not None and cluster.queue is not None:
            queue = cluster.queue
            self.assertEqual(queue.waiting, 0)
            self.assertEqual((queue.root.used, queue.root.queued), (0, 0))
            self.assertEqual([backend.active for backend in cluster.backends], [0] * len(cluster.backends))
        self.assertEqual(len(self.ticker), 0, "timeouts of what is gone are left")
        self.ticker.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LineTests(QueueCase):
    """First in, first out."""

    def test_waits(self) -> None:
        """A request that nobody can take goes on as soon as the backend has room."""
        self.queued()
        first = self.ask()
        second = self.ask()
        self.assertIsNone(second.backend)
        first.end()
        self.assertIsNone(second.backend, "in the middle of the end of another")
        self.wait()
        self.assertIs(second.backend, self.members.backends[0])
        self.assertIsNone(second.place)

    def test_order(self) -> None:
        """Those that came first go first, and one at a time."""
        self.queued()
        running = self.ask()
        waiting = [self.ask() for _ in range(3)]
        for number, exchange in enumerate(waiting):
            running.end()
            self.wait()
            self.assertEqual([bool(each.backend) for each in waiting], [at <= number for at in range(3)])
            running = exchange

    def test_together(self) -> None:
        """Room for several serves several in one turn."""
        self.queued(capacity=3)
        running = [self.ask() for _ in range(3)]
        waiting = [self.ask() for _ in range(4)]
        for exchange in running:
            exchange.end()
        self.wait()
        self.assertEqual([bool(each.backend) for each in waiting], [True, True, True, False])

    def test_nobodyOvertakes(self) -> None:
        """A request that comes when there is room, and before who waits has it, gets in line."""
        self.queued()
        first = self.ask()
        second = self.ask()
        first.end()
        third = self.ask()
        self.wait()
        self.assertIsNotNone(second.backend)
        self.assertIsNone(third.backend)

    def test_leaves(self) -> None:
        """A client that goes away leaves the queue at once, and does not hold up those behind it."""
        queue = self.queued()
        first = self.ask()
        gone, third = self.ask(), self.ask()
        gone.end()
        self.assertEqual(queue.waiting, 1)
        first.end()
        self.wait()
        self.assertIsNotNone(third.backend)

    def test_leavesCheaply(self) -> None:
        """Whoever leaves from a long queue does so without a look at the others."""
        queue = self.queued(limit=20_000)
        self.ask()
        waiting = [self.ask() for _ in range(10_000)]
        looks = 0

        class Counting(Exchange):
            def __getattribute__(self, name: str) -> Any:
                nonlocal looks
                looks += 1
                return super().__getattribute__(name)

        for exchange in waiting:
            exchange.__class__ = Counting
        for exchange in waiting[::2]:
            place = exchange.place
            assert place is not None
            place.leave()
        self.assertEqual(queue.waiting, 5_000)
        self.assertLess(looks, 5_000 * 5)
        for exchange in waiting:
            exchange.__class__ = Exchange

    def test_full(self) -> None:
        """Beyond the limit a request is turned away at once, and counted."""
        queue = self.queued(limit=2)
        self.ask()
        fates = [self.ask().fate for _ in range(3)]
        self.assertEqual(fates, ["", "", "queue_full"])
        self.assertEqual(queue.root.full, 1)

    def test_timeout(self) -> None:
        """Who has waited for long enough is turned away; those who came later are not yet."""
        queue = self.queued(timeout=5.0)
        self.ask()
        second = self.ask()
        self.wait(3)
        third = self.ask()
        self.wait(3)
        self.assertEqual((second.fate, third.fate), ("timeout_queue", ""))
        self.assertEqual(queue.root.timeouts, 1)

    def test_free(self) -> None:
        """While nobody waits the cluster has no gate, and its backends tell nobody of anything."""
        queue = self.queued()
        first = self.ask()
        self.assertIsNone(self.members.gate)
        second = self.ask()
        self.assertIs(self.members.gate, queue)
        first.end()
        self.wait()
        self.assertIsNone(self.members.gate)
        second.end()
        self.assertIsNone(self.members.backends[0].freed)

    def test_noPlaces(self) -> None:
        """A cluster whose queue has no places, or that has none, turns away."""
        self.queued(limit=0, buckets=SHOP, roles="a", capacity=1)
        self.ask()
        self.assertEqual(self.ask().fate, "overloaded")


class ChangeTests(QueueCase):
    """Backends that go and come."""

    def test_comesBack(self) -> None:
        """When nobody is up a request waits, and goes on the moment one comes back."""
        self.queued("aa", 0)
        for backend in self.members.backends:
            backend.state = "disabled"
            backend.changed()
        exchange = self.ask()
        self.assertEqual(exchange.fate, "")
        self.members.backends[1].state = "ready"
        self.members.backends[1].changed()
        self.wait()
        self.assertIs(exchange.backend, self.members.backends[1])

    def test_unavailable(self) -> None:
        """Where that is not wanted it is turned away at once; when all are only full it waits."""
        self.queued("aa", 1, on_unavailable=False)
        self.ask()
        self.ask()
        waiting = self.ask()
        self.assertEqual(waiting.fate, "")
        for backend in self.members.backends:
            backend.state = "disabled"
            backend.changed()
        self.assertEqual(waiting.fate, "no_backend")
        self.assertEqual(self.ask().fate, "no_backend")

    def test_nobody(self) -> None:
        """In a cluster without backends there is nothing to wait for."""
        self.queued("")
        self.assertEqual(self.ask().fate, "no_backend")

    def test_ejected(self) -> None:
        """A backend that was ejected is tried as soon as its time is over, though nothing else happens."""
        self.queued("aa", 0)
        self.members.rules.max_ejected = 1.0
        for backend in self.members.backends:
            for _ in range(3):
                self.members.failed(backend, "refused", "refused")
        exchange = self.ask()
        self.wait(9.75)
        self.assertIsNone(exchange.backend)
        self.wait(0.25)
        self.assertIsNotNone(exchange.backend)

    def test_room(self) -> None:
        """More room for this process serves those who wait."""
        self.queued()
        self.ask()
        second = self.ask()
        self.members.backends[0].room = 2
        self.members.changed()
        self.wait()
        self.assertIsNotNone(second.backend)

    def test_added(self) -> None:
        """So does another backend, which then wakes like the others."""
        self.queued()
        self.ask()
        second, third = self.ask(), self.ask()
        other = self.cluster("aa", 1).backends[1]
        self.members.configure([*self.members.backends, other], self.members.scheduler, self.members.rules)
        self.wait()
        self.assertIs(second.backend, other)
        second.end()
        self.wait()
        self.assertIs(third.backend, other)

    def test_addedBetween(self) -> None:
        """A backend that is added between two times of waiting wakes those of the second."""
        self.queued()
        first, second = self.ask(), self.ask()
        first.end()
        self.wait()
        other = self.cluster("aa", 1).backends[1]
        self.members.configure([*self.members.backends, other], self.members.scheduler, self.members.rules)
        third, fourth = self.ask(), self.ask()
        self.assertIs(third.backend, other)
        third.end()
        self.wait()
        self.assertIs(fourth.backend, other)
        self.assertEqual(second.fate, "")

    def test_removed(self) -> None:
        """A backend that is removed serves none of those who wait; another does."""
        self.queued("aa")
        first, second = self.ask(), self.ask()
        third = self.ask()
        gone = first.backend
        assert gone is not None
        rest = [backend for backend in self.members.backends if backend is not gone]
        self.members.configure(rest, self.members.scheduler, self.members.rules)
        first.end()
        self.wait()
        self.assertIsNone(third.backend)
        second.end()
        self.wait()
        self.assertIs(third.backend, rest[0])

    def test_dissolved(self) -> None:
        """Who waits for a cluster that is removed is still served where there is somebody to do it."""
        self.queued()
        first, second = self.ask(), self.ask()
        self.members.dissolve()
        first.end()
        self.wait()
        self.assertIsNotNone(second.backend)

    def test_dissolvedUnavailable(self) -> None:
        """… and turned away where there is not."""
        self.queued()
        self.members.backends[0].state = "disabled"
        self.members.changed()
        exchange = self.ask()
        self.assertEqual(exchange.fate, "")
        self.members.dissolve()
        self.assertEqual(exchange.fate, "no_backend")

    def test_withoutQueue(self) -> None:
        """A reload that takes the queue away leaves those in it where they are, and lets nobody in."""
        self.queued()
        first, second = self.ask(), self.ask()
        self.members.configure(self.members.backends, self.members.scheduler, Rules())
        self.assertEqual(self.ask().fate, "overloaded")
        first.end()
        self.wait()
        self.assertIsNotNone(second.backend)

    def test_everybody(self) -> None:
        """At the end everybody can be turned away."""
        queue = self.queued("a", 2, buckets=SHOP)
        for name in ("vip", "main", None, "vip", "main"):
            self.ask(name)
        queue.turn_away()
        self.assertEqual([exchange.fate for exchange in self.exchanges], ["", "", *["no_backend"] * 3])


class BucketTests(QueueCase):
    """Classes."""

    def test_token(self) -> None:
        """A request has its token from the first attempt to its end."""
        queue = self.queued("aa", 5, buckets=SHOP)
        vip = queue.buckets["vip"]
        exchange = self.ask("vip")
        self.assertEqual((vip.used, queue.root.used), (1, 1))
        place = exchange.place
        assert place is not None
        # Another attempt keeps it.
        assert exchange.backend is not None
        exchange.backend.leave()
        exchange.tried = (exchange.backend,)
        again = queue.choose(exchange)
        assert again is not None
        self.assertIsNot(again, exchange.backend)
        exchange.backend = again
        again.acquire()
        self.assertEqual((vip.used, exchange.place), (1, place))
        exchange.end()
        self.assertEqual((vip.used, vip.total), (0, 1))

    def test_ceiling(self) -> None:
        """A class that has all it may waits though backends have room, and others do not."""
        self.queued("a", 10, buckets=SHOP)
        fates = [bool(self.ask("vip").backend) for _ in range(5)]
        self.assertEqual(fates, [True] * 4 + [False])
        self.assertIsNotNone(self.ask("main").backend)
        self.exchanges[0].end()
        self.wait()
        self.assertIsNotNone(self.exchanges[4].backend)

    def test_ensuredFirst(self) -> None:
        """A class that is below its share goes before those that came earlier."""
        self.queued("a", 10, buckets=SHOP)
        running = [self.ask("main") for _ in range(10)]
        earlier = [self.ask("main") for _ in range(3)]
        later = [self.ask("vip") for _ in range(3)]
        for exchange in running[:3]:
            exchange.end()
            self.wait()
        self.assertEqual([bool(each.backend) for each in later], [True, True, False])
        self.assertEqual([bool(each.backend) for each in earlier], [True, False, False])

    def test_ownLimit(self) -> None:
        """Each class has its own queue, with its own limit."""
        queue = self.queued("a", 1, limit=1, buckets=SHOP)
        self.ask("main")
        fates = [self.ask(name).fate for name in ("main", "main", "vip", "vip")]
        self.assertEqual(fates, ["", "queue_full", "", "queue_full"])
        self.assertEqual((queue.buckets["main"].full, queue.buckets["vip"].full, queue.root.full), (1, 1, 2))

    def test_size(self) -> None:
        """The size is what ready active backends can take, and follows them at once."""
        queue = self.queued("aab", 10, buckets=SHOP)
        vip = queue.buckets["vip"]
        self.assertEqual((queue.root.size, vip.rate, vip.ceil), (20, 4, 8))
        self.members.backends[0].state = "drain"
        self.members.backends[0].changed()
        self.assertEqual((queue.root.size, vip.rate, vip.ceil), (10, 2, 4))
        self.members.backends[1].room = 5
        self.members.changed()
        self.assertEqual((queue.root.size, vip.rate, vip.ceil), (5, 1, 2))

    def test_backup(self) -> None:
        """When no active one is left those that stand in are what is shared; without a capacity, all there was."""
        queue = self.queued("aab", 10, buckets=SHOP)
        self.members.backends[2].capacity = self.members.backends[2].room = 0
        for backend in self.members.backends[:2]:
            backend.state = "disabled"
            backend.changed()
        self.assertEqual(queue.root.size, 20)
        self.assertIs(self.ask("vip").backend, self.members.backends[2])

    def test_standby(self) -> None:
        """Those on standby are used beyond what is shared."""
        queue = self.queued("as", 5, buckets=SHOP)
        self.assertEqual((queue.root.size, queue.root.ceil), (5, 10))
        taken = [self.ask("main") for _ in range(6)]
        self.assertIsNone(taken[-1].backend)
        self.assertIs(self.ask("vip").backend, self.members.backends[1])

    def test_nothing(self) -> None:
        """Without any backend everybody waits, or nobody."""
        self.queued("a", 10, buckets=SHOP)
        self.members.backends[0].state = "disabled"
        self.members.changed()
        self.assertEqual(self.ask("vip").fate, "")
        rules = Rules(queue=QueueRules(buckets=SHOP, on_unavailable=False))
        self.members.configure(self.members.backends, self.members.scheduler, rules)
        self.assertEqual([exchange.fate for exchange in self.exchanges], ["no_backend"])
        self.assertEqual(self.ask("vip").fate, "no_backend")

    def test_shares(self) -> None:
        """Other shares hold at once, for those who wait too."""
        self.queued("a", 10, buckets=SHOP)
        for _ in range(6):
            self.ask("vip")
        rules = Rules(queue=QueueRules(buckets=(Share("vip", 0.2, 0.5), Share("main", 0.8))))
        self.members.configure(self.members.backends, self.members.scheduler, rules)
        self.wait()
        self.assertEqual([bool(each.backend) for each in self.exchanges], [True] * 5 + [False])

    def test_bucketGone(self) -> None:
        """Who waits in a class that is removed waits among the usual ones, in the order of arrival."""
        queue = self.queued("a", 1, buckets=SHOP)
        running = self.ask("main")
        first, second, third = self.ask("vip"), self.ask("main"), self.ask("vip")
        first.place.since, second.place.since, third.place.since = 1.0, 2.0, 3.0  # type: ignore[union-attr]
        rules = Rules(queue=QueueRules(buckets=(Share("main", 1.0),)))
        self.members.configure(self.members.backends, self.members.scheduler, rules)
        self.assertEqual(queue.buckets["main"].queued, 3)
        for exchange in (first, second, third):
            running.end()
            self.wait()
            self.assertIsNotNone(exchange.backend)
            running = exchange

    def test_bucketsCome(self) -> None:
        """Classes can come while requests run and wait; those that run hold no token and give none back."""
        queue = self.queued("a", 2)
        running = [self.ask() for _ in range(2)]
        waiting = self.ask("vip")
        rules = Rules(queue=QueueRules(buckets=SHOP))
        self.members.configure(self.members.backends, self.members.scheduler, rules)
        for exchange in running:
            exchange.end()
        self.wait()
        self.assertIsNotNone(waiting.backend)
        self.assertEqual(queue.root.used, 1)

    def test_bucketsGo(self) -> None:
        """They can go, too: a token that is given back then hurts nobody."""
        queue = self.queued("a", 2, buckets=SHOP)
        running = [self.ask("vip"), self.ask("main")]
        self.ask("vip")
        self.members.configure(self.members.backends, self.members.scheduler, Rules(queue=QueueRules()))
        self.assertFalse(queue.counted)
        for exchange in running:
            exchange.end()
        self.wait()
        self.assertIsNotNone(self.exchanges[2].backend)

    def test_which(self) -> None:
        """The route names the class; else the classifier; else it is the one called main; else the root."""
        said: dict[str, object] = {"name": None}
        classify: Callable[[Any], object] = lambda exchange: said["name"]  # noqa: E731
        queue = self.queued("a", 10, buckets=SHOP, classify=classify)
        for route, name, expected in (
            ("vip", "main", "vip"), (None, "vip", "vip"), (None, None, "main"), (None, "no such", "main"),
            (None, 7, "main"), ("no such", None, "main"), (None, "", "main"),
        ):  # fmt: skip
            said["name"] = name
            self.assertEqual(queue.bucket_of(Exchange(self, route)).name, expected, (route, name))
        queue = self.queued("a", 10, buckets=SHOP, usual="vip")
        self.assertEqual(queue.bucket_of(Exchange(self, None)).name, "vip")
        queue = self.queued("a", 10, buckets=SHOP[:1])
        self.assertIs(queue.bucket_of(Exchange(self, None)), queue.root.leaf)

    def test_multiplexed(self) -> None:
        """Who waits goes on as well when a backend is done with an exchange whose connection carries many."""
        location = parse_url("h2c://10.0.0.1")
        network: Any = None
        backend = Multiplexed("a", location.url, location, network, Passive(), Pool(), capacity=1)
        backend.addresses = (location.host,)
        self.members = Cluster("c", [backend], RoundRobin(), Rules(queue=QueueRules()), lambda: self.now)
        first, waits = self.ask(), self.ask()
        self.assertIsNone(waits.backend)
        first.backend = None
        backend.release(None, self.now)
        self.wait()
        self.assertIs(waits.backend, backend)

    def test_uncovered(self) -> None:
        """A backend had better stay while the others could not take what is ensured and in use; else it may go."""
        queue = self.queued("aa", 5, buckets=SHOP)
        backend = self.members.backends[0]
        for _ in range(5):
            self.ask("main")
        self.assertEqual(queue.uncovered(backend), [])
        self.ask("main")
        self.assertEqual(len(queue.uncovered(backend)), 1)
        backend.state = "disabled"
        backend.changed()
        self.assertEqual(queue.uncovered(backend), [])
        self.assertEqual(self.queued("aa", 5).uncovered(self.members.backends[0]), [])

    def test_repr(self) -> None:
        """Queue and place say how they are."""
        queue = self.queued("a", 10, buckets=SHOP)
        exchange = self.ask("vip")
        self.assertEqual(repr(exchange.place), "<Place token bucket=vip>")
        self.assertEqual(repr(queue), "<Queue of c waiting=0 <Bucket (root) 1 of 10..10 queued=0>>")
