"""What C{/stats} answers: L{lemmytx.admin.stats}, L{lemmytx.proxy.statistics}."""

from __future__ import annotations

import os
import re
import socket

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import __version__
from lemmytx.balance.buckets import Share
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.breaker import Breaker, BreakerRules
from lemmytx.cluster.health import Checkup
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.traffic import Traffic
from lemmytx.http1 import codec
from lemmytx.proxy.snapshot import SLICE, Snapshot, merge, take
from lemmytx.proxy.statistics import AT_ONCE, KEPT, STEP, Recent
from tests.admin.rig import Answer, Rig

#: What Lemmy's statistics have, for the whole and for each vhost …
COUNTED = {
    "count", "status_code_count", "total_count", "total_status_code_count", "total_response_time",
    "total_response_time_sec", "average_response_time", "average_response_time_sec", "total_response_size",
    "average_response_size",
}  # fmt: skip

#: … and for the process.
PROCESS = {"pid", "hostname", "uptime", "uptime_sec", "time", "unixtime"}


class StatsTests(SynchronousTestCase):
    """The answer."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.shop, self.rest = (vhost.traffic for vhost in self.rig.vhosts)

    def test_names(self) -> None:
        """The names are those of Lemmy, for the whole, for each vhost, and for requests that no vhost is for."""
        stats = self.rig.ask("/stats").json
        self.assertEqual((COUNTED | PROCESS) - set(stats), set())
        self.assertEqual(set(stats["vhosts"]), {"shop.example", "*"})
        for counted in (*stats["vhosts"].values(), stats["unrouted"]):
            self.assertEqual(COUNTED - set(counted), set())

    def test_process(self) -> None:
        """It tells which process this is, how long it has been there, and what it runs."""
        self.rig.clock.advance(86400 + 2 * 3600 + 3 * 60 + 4.5)
        stats = self.rig.ask("/stats").json
        self.assertEqual((stats["pid"], stats["hostname"]), (os.getpid(), socket.gethostname()))
        self.assertEqual((stats["uptime"], stats["uptime_sec"]), ("1 day, 2:03:04", 93784.5))
        self.assertEqual(stats["version"], __version__)
        self.assertEqual(stats["codec"], "compiled" if codec.compiled else "pure")
        self.assertRegex(stats["time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\Z")

    def test_nothing_yet(self) -> None:
        """Before the first request everything is zero, averages too."""
        stats = self.rig.ask("/stats").json
        self.assertEqual({name: stats[name] for name in sorted(COUNTED)}, {
            "average_response_size": 0.0, "average_response_time": "0:00:00", "average_response_time_sec": 0.0,
            "count": 0, "status_code_count": {}, "total_count": 0, "total_response_size": 0,
            "total_response_time": "0:00:00", "total_response_time_sec": 0.0, "total_status_code_count": {},
        })  # fmt: skip

    def test_counted(self) -> None:
        """Each vhost has its own figures, and the whole has their sums, with what no vhost was for."""
        self.shop.ended(200, 1.5, 10, 1000)
        self.shop.ended(503, 0.5, 0, 20)
        self.rest.ended(200, 1.0, 0, 100)
        self.rig.resource.unrouted.ended(404, 0.0, 0, 40)
        stats = self.rig.ask("/stats").json
        shop = stats["vhosts"]["shop.example"]
        self.assertEqual({name: shop[name] for name in sorted(COUNTED)}, {
            "average_response_size": 510.0, "average_response_time": "0:00:01", "average_response_time_sec": 1.0,
            "count": 2, "status_code_count": {"200": 1, "503": 1}, "total_count": 2, "total_response_size": 1020,
            "total_response_time": "0:00:02", "total_response_time_sec": 2.0,
            "total_status_code_count": {"200": 1, "503": 1},
        })  # fmt: skip
        self.assertEqual(stats["total_count"], 4)
        self.assertEqual(stats["total_status_code_count"], {"200": 2, "404": 1, "503": 1})
        self.assertEqual(stats["total_response_size"], 1160)
        self.assertEqual(stats["total_request_size"], 10)
        self.assertEqual(stats["average_response_time_sec"], 0.75)
        self.assertEqual(stats["unrouted"]["total_status_code_count"], {"404": 1})

    def test_last_minute(self) -> None:
        """What is not called total is of the last minute, for the whole as for each vhost; asking changes nothing."""
        self.rig.recent.start()
        self.addCleanup(self.rig.recent.stop)
        self.shop.ended(200, 1.0, 0, 100)
        self.rig.clock.pump([STEP] * (KEPT + 1))
        self.shop.ended(404, 1.0, 0, 100)
        self.rest.ended(200, 1.0, 0, 100)
        for _ in range(2):
            stats = self.rig.ask("/stats").json
            self.assertEqual((stats["count"], stats["status_code_count"]), (2, {"200": 1, "404": 1}))
            self.assertEqual((stats["total_count"], stats["total_status_code_count"]), (3, {"200": 2, "404": 1}))
            self.assertEqual(stats["vhosts"]["shop.example"]["count"], 1)
            self.assertEqual(stats["vhosts"]["shop.example"]["status_code_count"], {"404": 1})
        self.rig.clock.pump([STEP] * (KEPT + 1))
        stats = self.rig.ask("/stats").json
        self.assertEqual((stats["count"], stats["status_code_count"], stats["total_count"]), (0, {}, 3))

    def test_now(self) -> None:
        """It tells how many connections and exchanges there are at this moment."""
        self.rig.connections.count = 3
        self.rig.resource.exchanges = 2
        self.rig.backends[0].active = 2
        self.rig.backends[1].idle.append(object())
        stats = self.rig.ask("/stats").json
        self.assertEqual((stats["downstreams"], stats["exchanges"]), (3, 2))
        self.assertEqual(stats["upstreams"], {"active": 2, "idle": 1})

    def test_backends(self) -> None:
        """Each backend shows how it is and what it did."""
        web1 = self.rig.backends[0]
        web1.moved(("192.0.2.1",))
        web1.full_weight, web1.capacity, web1.role, web1.state = 2, 50, "backup", "drain"
        web1.active, web1.connects, web1.reused = 1, 4, 9
        web1.traffic.ended(200, 0.25, 5, 1000)
        for _ in range(3):
            self.rig.cluster.failed(web1, "refused", "connecting: refused")
        web1.ejection = 1_700_000_000.0, web1.ejection[1]
        backends = self.rig.ask("/stats").json["clusters"]["web"]["backends"]
        self.assertEqual(list(backends), ["web1", "web2"])
        self.assertEqual(
            backends["web1"],
            {
                "url": "http://web1.example",
                "role": "backup",
                "state": "drain",
                "health": "ejected",
                "health_since": "2023-11-14T22:13:20+00:00",
                "health_reason": "connecting: refused",
                "weight": 2,
                "capacity": 50,
                "active": 1,
                "idle": 0,
                "connects": 4,
                "reused": 9,
                "failures": {"refused": 3},
                "ejections": 1,
                "requests_per_sec": {"1s": 0.0, "10s": 0.0, "60s": 0.0},
                "response_time_sec": {"median": 0.25, "p95": 0.25, "p99": 0.25},
                "total_count": 1,
                "total_status_code_count": {"200": 1},
                "total_status_classes": {"1xx": 0, "2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0},
                "total_response_time": "0:00:00.250000",
                "total_response_time_sec": 0.25,
                "average_response_time": "0:00:00.250000",
                "average_response_time_sec": 0.25,
                "total_response_size": 1000,
                "average_response_size": 1000.0,
                "total_request_size": 5,
            },
        )
        self.assertEqual(backends["web2"]["health"], "unknown")

    def test_checks(self) -> None:
        """Of a backend that is checked it tells since when and why it is as it is, and what came of its checks."""
        web1 = self.rig.backends[0]
        web1.moved(("192.0.2.1",))
        web1.check_by(Checkup(None, fall=2))
        checked = web1.checked
        assert checked is not None
        checked.passed("it answered 200")
        checked.failed("it answered 500")
        checked.failed("it answered 503")
        checked.since = 1_700_000_000.0
        cluster = self.rig.ask("/stats").json["clusters"]["web"]
        self.assertIs(False, cluster["panicking"])
        backend = cluster["backends"]["web1"]
        self.assertEqual(
            ("down", "2023-11-14T22:13:20+00:00", "it answered 503"),
            (backend["health"], backend["health_since"], backend["health_reason"]),
        )
        self.assertEqual({"passed": 1, "failed": 2, "going_down": 1, "down": 1}, backend["checks"])
        self.assertNotIn("checks", cluster["backends"]["web2"])

    def test_warming(self) -> None:
        """One that has but a part of its weight tells how much."""
        web1 = self.rig.backends[0]
        web1.warm(0.25)
        backends = self.rig.ask("/stats").json["clusters"]["web"]["backends"]
        self.assertEqual((backends["web1"]["warmth"], backends["web1"]["weight"]), (0.25, 1))
        self.assertNotIn("warmth", backends["web2"])

    def test_clusters(self) -> None:
        """A cluster has what its backends have together, and what it has counted itself."""
        web1, web2 = self.rig.backends
        cluster = self.rig.cluster
        web1.active, web2.active = 3, 4
        for backend, time in ((web1, 0.1), (web2, 0.4), (web2, 0.4)):
            backend.traffic.ended(200, time, 10, 100)
        for backend in (web1, web2):
            cluster.failed(backend, "gone", "x")
        cluster.turned_away = {"overloaded": 2}
        cluster.retries, cluster.hedges, cluster.failovers = 5, 2, 1
        found = self.rig.ask("/stats").json["clusters"]["web"]
        self.assertEqual((found["active"], found["queued"], found["failures"]), (7, 0, {"gone": 2}))
        self.assertEqual(
            (found["total_count"], found["total_response_size"], found["total_request_size"]), (3, 300, 30)
        )
        self.assertEqual((found["turned_away"], found["retries"], found["hedges"]), ({"overloaded": 2}, 5, 2))
        self.assertEqual((found["failovers"], found["hedge_wins"], found["retries_refused"]), (1, 0, 0))
        median, p99 = found["response_time_sec"]["median"], found["response_time_sec"]["p99"]
        self.assertTrue(0.39 <= median == p99 <= 0.41, (median, p99))
        self.assertNotIn("breaker", found)
        self.assertNotIn("buckets", found)

    def test_breaker(self) -> None:
        """A cluster with a circuit breaker tells its state."""
        breaker = Breaker(BreakerRules(errors=0.5, volume=1), lambda before, after, why: None)
        self.rig.cluster.breaker = breaker
        breaker.ended(breaker.enter(1.0), 1.0, True, 0.1)
        self.assertEqual(breaker.enter(1.0), 0)
        found = self.rig.ask("/stats").json["clusters"]["web"]
        self.assertEqual((found["breaker"], found["breaker_opened"], found["breaker_refused"]), ("open", 1, 1))

    def test_buckets(self) -> None:
        """Each bucket has its tokens, its queue, and what was served with it."""
        self.rig.backends[0].capacity = self.rig.backends[0].room = 10
        self.rig.backends[0].moved(("192.0.2.1",))
        rules = Rules(queue=QueueRules(buckets=(Share("vip", 0.2, 0.4), Share("main", 0.8, 1.0))))
        self.rig.cluster.configure(self.rig.backends[:1], LeastConnections(), rules)
        queue = self.rig.cluster.queue
        assert queue is not None
        vip = queue.buckets["vip"]
        vip.take()
        vip.refuse()
        queue.traffics["vip"] = traffic = Traffic()
        traffic.ended(200, 0.1, 1, 5)
        found = self.rig.ask("/stats").json["clusters"]["web"]["buckets"]
        self.assertEqual(list(found), ["vip", "main"])
        vip_found = {name: found["vip"][name] for name in (
            "rate", "ceil", "active", "queued", "queue_full", "queue_timeouts", "total_count", "total_response_size",
        )}  # fmt: skip
        self.assertEqual(vip_found, {
            "rate": 2, "ceil": 4, "active": 1, "queued": 0, "queue_full": 1, "queue_timeouts": 0, "total_count": 1,
            "total_response_size": 5,
        })  # fmt: skip
        self.assertEqual(found["main"]["response_time_sec"], {"median": None, "p95": None, "p99": None})

    def test_documented(self) -> None:
        """Every name in it stands in the documents."""
        self.test_buckets()
        self.rig.cluster.breaker = Breaker(BreakerRules(), lambda before, after, why: None)
        self.rig.backends[0].warm(0.5)
        documents = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "docs")
        text = ""
        for name in ("admin.md", "statistics.md"):
            with open(os.path.join(documents, name), encoding="utf-8") as document:
                text += document.read()
        documented = set(re.findall(r"`([a-z_0-9]+)`", text))
        stats = self.rig.ask("/stats").json
        cluster = stats["clusters"]["web"]
        rows = (stats, *stats["vhosts"].values(), cluster, cluster["backends"]["web1"], cluster["buckets"]["vip"])
        for row in rows:
            self.assertEqual(set(row) - documented, set())
            for each in ("requests_per_sec", "response_time_sec"):
                self.assertEqual(set(row[each]) - {"1s", "10s", "60s", "median", "p95", "p99"}, set())

    def test_rates(self) -> None:
        """Requests per second are told over one, ten and sixty seconds, of all that serve and is served."""
        self.rig.recent.start()
        self.addCleanup(self.rig.recent.stop)
        web1 = self.rig.backends[0].traffic
        for second in range(100):
            for traffic in (self.shop, web1):
                for _ in range(5 if second < 95 else 10):
                    traffic.ended(200, 0.1, 0, 0)
            self.rest.ended(200, 2.0, 0, 0)
            self.rig.clock.advance(1)
        stats = self.rig.ask("/stats").json
        shop = {"1s": 10.0, "10s": 7.5, "60s": round((55 * 5 + 50) / 60, 3)}
        self.assertEqual(stats["vhosts"]["shop.example"]["requests_per_sec"], shop)
        self.assertEqual(stats["clusters"]["web"]["backends"]["web1"]["requests_per_sec"], shop)
        self.assertEqual(stats["clusters"]["web"]["requests_per_sec"], shop)
        self.assertEqual(stats["requests_per_sec"], {"1s": 11.0, "10s": 8.5, "60s": round((55 * 5 + 50) / 60 + 1, 3)})
        whole = stats["response_time_sec"]
        self.assertTrue(0.097 <= whole["median"] <= 0.103 and 1.94 <= whole["p95"] <= 2.06, whole)
        self.rig.clock.pump([1] * 400)
        stats = self.rig.ask("/stats").json
        self.assertEqual(stats["requests_per_sec"], {"1s": 0.0, "10s": 0.0, "60s": 0.0})
        self.assertEqual(stats["response_time_sec"], {"median": None, "p95": None, "p99": None})
        self.assertEqual((self.shop.recent, self.shop.rates, web1.recent), (None, None, None))

    def test_classes(self) -> None:
        """Statuses are counted by their first digit; what no client saw a status of is none of them."""
        for status in (200, 204, 301, 404, 404, 500, 499, 0, 101):
            self.shop.ended(status, 0.1, 0, 0)
        classes = self.rig.ask("/stats").json["total_status_classes"]
        self.assertEqual(classes, {"1xx": 1, "2xx": 2, "3xx": 1, "4xx": 2, "5xx": 1})

    def test_removed(self) -> None:
        """What was served for a vhost that is not there any more stays in the totals of the whole."""
        self.shop.ended(200, 1.0, 1, 100)
        self.rig.instance.removed.ended(404, 0.5, 2, 50)
        stats = self.rig.ask("/stats").json
        self.assertEqual((stats["total_count"], stats["total_response_size"], stats["count"]), (2, 150, 1))
        self.assertEqual(stats["removed"]["total_status_code_count"], {"404": 1})

    def test_workers(self) -> None:
        """With several processes it lists them; with one there is nothing to list."""
        self.assertNotIn("workers", self.rig.ask("/stats").json)
        self.rig.instance.crew = [
            {"id": 1, "pid": 100, "uptime_sec": 1.5, "downstreams": 2, "exchanges": 1, "restarts": 0},
            {"id": 2, "pid": 101, "uptime_sec": 0.5, "downstreams": 0, "exchanges": 0, "restarts": 3},
        ]
        self.assertEqual(self.rig.ask("/stats").json["workers"], self.rig.instance.crew)

    def test_healths(self) -> None:
        """A backend that workers see differently shows the worst, and how many see what."""

        async def snapshot() -> Snapshot:
            ours = await take(self.rig.resource, self.rig.connections, self.rig.recent, self.rig.clock)
            self.rig.backends[0].moved(("192.0.2.1",))
            theirs = await take(self.rig.resource, self.rig.connections, self.rig.recent, self.rig.clock)
            return await merge([ours, theirs], self.rig.clock)

        self.rig.instance.snapshot = snapshot  # type: ignore[method-assign]  # this test's own
        web1 = self.rig.ask("/stats").json["clusters"]["web"]["backends"]["web1"]
        self.assertEqual((web1["health"], web1["healths"]), ("unknown", {"unknown": 1, "up": 1}))

    def test_no_clusters(self) -> None:
        """A proxy that has nothing configured answers as well."""
        rig = Rig(vhosts=())
        rig.resource.clusters.clear()
        stats = rig.ask("/stats").json
        self.assertEqual((stats["vhosts"], stats["clusters"], stats["total_count"]), ({}, {}, 0))

    def test_many(self) -> None:
        """With many vhosts others have their turn in between, and still none is missing."""
        names = [f"v{number}.example" for number in range(SLICE * 3)]
        rig = Rig(vhosts=names)
        for vhost in rig.vhosts:
            vhost.traffic.ended(200, 0.0, 0, 1)
        channel = rig.site.buildProtocol(None)
        channel.makeConnection(rig.transport)
        channel.dataReceived(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        meanwhile: list[bytes] = []
        rig.clock.callLater(0, lambda: meanwhile.append(rig.transport.value()))
        rig.clock.advance(0)
        self.assertEqual(meanwhile, [b""])
        stats = Answer(rig.transport.value()).json
        self.assertEqual(list(stats["vhosts"]), names)
        self.assertEqual(stats["total_count"], len(names))

    def test_client_leaves(self) -> None:
        """A client that leaves while the answer is made leaves nothing behind."""
        rig = Rig(vhosts=[f"v{number}.example" for number in range(SLICE * 3)])
        channel = rig.site.buildProtocol(None)
        channel.makeConnection(rig.transport)
        channel.dataReceived(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        self.assertEqual(rig.transport.value(), b"")


class RecentTests(SynchronousTestCase):
    """The requests of the last minute."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.traffic = {"a": Traffic(), "b": Traffic()}
        self.recent = Recent(lambda: self.traffic.items(), self.clock)

    def of(self, name: str) -> tuple[int, dict[int, int]]:
        """The last minute of one."""
        return self.recent.of(name, self.traffic[name])

    def serve(self, name: str, status: int = 200) -> None:
        """One exchange ends."""
        self.traffic[name].ended(status, 0.0, 0, 0)

    def test_from_the_start(self) -> None:
        """Before the first minute is over it is all that there was, and so it is before it was started."""
        self.serve("a")
        self.assertEqual(self.of("a"), (1, {200: 1}))
        self.recent.start()
        self.addCleanup(self.recent.stop)
        self.serve("a", 404)
        self.clock.advance(STEP)
        self.serve("a")
        self.assertEqual(self.of("a"), (2, {200: 1, 404: 1}))
        self.assertEqual(self.of("b"), (0, {}))

    def test_slides(self) -> None:
        """At a steady pace it is always what came in 50 to 60 seconds."""
        self.recent.start()
        self.addCleanup(self.recent.stop)
        for second in range(300):
            self.serve("a", 200 + second % 2)
            self.clock.advance(1)
            if second > 60:
                count, statuses = self.of("a")
                self.assertTrue(50 <= count <= 60, count)
                self.assertEqual(sum(statuses.values()), count)

    def test_other_counters(self) -> None:
        """When a name stands for new counters, all of theirs is new."""
        for _ in range(5):
            self.serve("a")
        self.recent.note()
        self.traffic["a"] = Traffic()
        self.serve("a", 204)
        self.assertEqual(self.of("a"), (1, {204: 1}))

    def test_gone(self) -> None:
        """What is not there any more is not kept."""
        self.serve("a")
        self.recent.note()
        del self.traffic["a"]
        for _ in range(KEPT):
            self.recent.note()
        self.assertEqual([set(notes) for notes in self.recent._notes], [set()] * KEPT)

    def test_quiet(self) -> None:
        """While nothing comes, one note does for all."""
        self.serve("a")
        for _ in range(KEPT):
            self.recent.note()
        self.assertEqual(len({id(notes["a"]) for notes in self.recent._notes}), 1)


class BeatTests(SynchronousTestCase):
    """Counting the seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.traffics = [Traffic() for _ in range(3)]
        self.recent = Recent(lambda: (), self.clock, lambda: iter(self.traffics))
        self.recent.start()
        self.addCleanup(self.recent.stop)

    def rate(self, traffic: Traffic) -> float:
        """Over the last second."""
        return 0.0 if traffic.rates is None else traffic.rates.over(self.recent.second)[0]

    def test_folded(self) -> None:
        """Each second times get into the histogram."""
        self.traffics[1].ended(200, 0.1, 0, 0)
        self.clock.advance(1)
        self.assertEqual((self.traffics[1].times, self.rate(self.traffics[1])), ([], 1.0))
        self.assertIs(self.traffics[0].recent, None)

    def test_in_slices(self) -> None:
        """Many are gone through in several turns of the reactor, all of them, and in the same second."""
        self.traffics.extend(Traffic() for _ in range(3 * AT_ONCE))
        for traffic in self.traffics:
            traffic.ended(200, 0.1, 0, 0)
        turns: list[int] = []
        self.clock.callLater(1, lambda: self.clock.callLater(0, lambda: turns.append(self.folded())))
        self.clock.advance(1)
        self.assertTrue(0 < turns[0] < len(self.traffics), turns)
        self.assertEqual(self.folded(), len(self.traffics))
        self.assertEqual({self.rate(traffic) for traffic in self.traffics}, {1.0})

    def folded(self) -> int:
        """How many have nothing left in their lists."""
        return sum(not traffic.times for traffic in self.traffics)

    def test_late(self) -> None:
        """A process that stood still for some seconds counts them as seconds in which nothing came."""
        for _ in range(10):
            self.traffics[0].ended(200, 0.1, 0, 0)
            self.clock.advance(1)
        self.clock.advance(5)
        self.assertEqual(self.recent.second, 15)
        assert self.traffics[0].rates is not None
        self.assertEqual(self.traffics[0].rates.over(15), [0.0, 0.5, 10 / 15])

    def test_stopped(self) -> None:
        """Stopped in the middle of a walk it leaves nothing behind."""
        self.traffics.extend(Traffic() for _ in range(3 * AT_ONCE))
        self.clock.callLater(1, lambda: self.clock.callLater(0, self.recent.stop))
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_trouble(self) -> None:
        """When one second cannot be counted, that is logged, and the next one is."""
        self.traffics.insert(1, None)  # type: ignore[arg-type]  # it is the trouble
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        del self.traffics[1]
        self.traffics[2].ended(200, 0.1, 0, 0)
        self.clock.advance(1)
        self.assertEqual(self.rate(self.traffics[2]), 1.0)
