"""What C{/stats} answers: L{lemmytx.admin.stats}, L{lemmytx.proxy.statistics}."""

from __future__ import annotations

import os
import socket

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import __version__
from lemmytx.cluster.traffic import Traffic
from lemmytx.http1 import codec
from lemmytx.proxy.snapshot import SLICE, Snapshot, merge, take
from lemmytx.proxy.statistics import KEPT, STEP, Recent
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
        web1.weight, web1.capacity, web1.role, web1.state = 2, 50, "backup", "drain"
        web1.active, web1.connects, web1.reused = 1, 4, 9
        web1.traffic.ended(200, 0.25, 5, 1000)
        for _ in range(3):
            self.rig.cluster.failed(web1, "refused", "connecting: refused")
        backends = self.rig.ask("/stats").json["clusters"]["web"]["backends"]
        self.assertEqual(list(backends), ["web1", "web2"])
        self.assertEqual(
            backends["web1"],
            {
                "url": "http://web1.example",
                "role": "backup",
                "state": "drain",
                "health": "ejected",
                "weight": 2,
                "capacity": 50,
                "active": 1,
                "idle": 0,
                "connects": 4,
                "reused": 9,
                "failures": {"refused": 3},
                "total_count": 1,
                "total_status_code_count": {"200": 1},
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
