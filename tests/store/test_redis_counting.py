"""Scores in Redis are the sums over the living instances."""

from __future__ import annotations

import json
import random
from datetime import timedelta

from twisted.internet import reactor
from twisted.internet.task import deferLater

from lemmytx.table import DropVhost, Member, PutMember, Report, Table
from tests.store.redis_server import RedisCase

H1, H2 = ("a", "h:1"), ("a", "h:2")


class CountingTests(RedisCase):
    """What is in flight."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("a", "b"):
            self.server.ask("SADD", "lemmy:vhosts", name)
            self.server.ask("ZADD", f"lemmy:backends:{name}", 0, "h:1", 0, "h:2")

    def scores(self, name: str = "a") -> dict[str, str]:
        """What stands in Redis."""
        flat = self.server.ask("ZRANGE", f"lemmy:backends:{name}", 0, -1, "WITHSCORES")
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def test_sum(self) -> None:
        """A score is the sum; each is told what the others have, of the vhosts that it asks about."""
        one, two = (await self.open()).store, (await self.open()).store
        await one.publish(Report({H1: 3, ("b", "h:1"): 1}))
        self.assertEqual(await two.publish(Report({H1: 4, H2: 1}, frozenset({"a", "gone"}))), {H1: 3})
        self.assertEqual(self.scores(), {"h:1": "7", "h:2": "1"})
        self.assertEqual(await one.publish(Report({H1: 1}, frozenset("ab"))), {H1: 4, H2: 1})
        self.assertEqual((self.scores(), self.scores("b")), ({"h:1": "5", "h:2": "1"}, {"h:1": "0", "h:2": "0"}))
        await two.close()
        self.assertEqual(self.scores(), {"h:1": "1", "h:2": "0"})

    async def test_unknown_members(self) -> None:
        """Counting adds no member to a vhost, and no vhost."""
        store = (await self.open()).store
        await store.publish(Report({("a", "h:9"): 2, ("c", "h:1"): 2}))
        self.assertEqual(self.scores(), {"h:1": "0", "h:2": "0"})
        self.assertEqual(self.server.ask("EXISTS", "lemmy:backends:c"), 0)

    async def test_lease(self) -> None:
        """Whoever is not heard of for a lease is dead: his share is gone, and no key of his stays."""
        first, two = await self.open(lease=0.5), (await self.open()).store
        one = first.store
        await one.publish(Report({H1: 3, ("b", "h:2"): 3}, record={"address": "x"}))
        self.assertEqual([record.about for record in await two.instances()], [{"address": "x"}])
        first.vanish()
        await deferLater(reactor, 0.55)
        self.assertEqual(await two.publish(Report({H1: 1}, frozenset("ab"))), {})
        self.assertEqual((self.scores(), self.scores("b")["h:2"]), ({"h:1": "1", "h:2": "0"}, "0"))
        self.assertEqual([record.identity for record in await two.instances()], [two._place.identity])
        await two.close()
        self.assertEqual(sorted(self.server.ask("KEYS", "*")), ["lemmy:backends:a", "lemmy:backends:b", "lemmy:vhosts"])

    async def test_operator(self) -> None:
        """A score that somebody has written is put right by the next look at the table."""
        store = (await self.open()).store
        await store.publish(Report({H1: 3}))
        self.server.ask("ZADD", "lemmy:backends:a", 0, "h:1", 12.5, "h:2", "inf", "h:3")
        table = await store.load(Table())
        self.assertEqual(self.scores(), {"h:1": "3", "h:2": "0", "h:3": "0"})
        self.server.ask("DEL", "lemmy:backends:a")
        table = await store.load(table)
        self.server.ask("ZADD", "lemmy:backends:a", 0, "h:1")
        await store.load(table)
        self.assertEqual(self.scores(), {"h:1": "3"})

    async def test_forgotten(self) -> None:
        """A Redis that has forgotten us is told everything again, without being asked about it."""
        store = (await self.open()).store
        await store.publish(Report({H1: 3, H2: 1}))
        self.server.ask("DEL", "lemmy:instances", "lemmy:counts:a")
        await store.publish(Report({H1: 3, H2: 1}))
        self.assertEqual(self.scores(), {"h:1": "3", "h:2": "1"})

    async def test_again(self) -> None:
        """Counts of a vhost that was dropped and came back are there again within a lease."""
        store = (await self.open(lease=0.1)).store
        await store.publish(Report({H1: 3}))
        await store.change([DropVhost("a"), PutMember("a", Member("h:1"))])
        self.assertEqual(self.scores(), {"h:1": "0"})
        await deferLater(reactor, 0.1)
        await store.publish(Report({H1: 3}))
        self.assertEqual(self.scores(), {"h:1": "3"})

    async def test_only_changes(self) -> None:
        """What has not changed is not said again, and many vhosts go in few calls."""
        store = (await self.open()).store
        active = {(f"v{n}", "h:1"): 1 for n in range(250)}
        await store.publish(Report(active))
        before = self._calls()
        await store.publish(Report(active, frozenset(f"v{n}" for n in range(250))))
        self.assertEqual(self._calls() - before, 2)
        await store.publish(Report(active | {("v7", "h:1"): 2}))
        self.assertEqual(self._calls() - before, 3)

    async def test_statistics(self) -> None:
        """Statistics are hashes, which go when nobody writes them any more; a key of another type hurts nobody."""
        store = (await self.open()).store
        self.server.ask("LPUSH", "lemmy:stats:b", "x")
        await store.publish(
            Report(
                hostname="web1",
                stats={"count": 3, "load": 0.25, "time": "now"},
                vhost_stats={"b": {"x": 1}, "a": {"n": 1}},
            )
        )
        self.assertEqual(self.server.ask("HGETALL", "lemmy:stats:web1"), ["count", "3", "load", "0.25", "time", "now"])
        self.assertEqual(self.server.ask("HGETALL", "lemmy:stats:a"), ["n", "1"])
        self.assertEqual(self.server.ask("TTL", "lemmy:stats:web1"), 60)

    async def test_statistics_together(self) -> None:
        """Statistics of a vhost are those of all living instances together."""
        first, two = await self.open(lease=0.5), (await self.open()).store

        def stats(count: int, seconds: float, **statuses: int) -> dict[str, str | int | float]:
            return {
                "total_count": count,
                "total_response_time_sec": seconds,
                "total_response_time": str(timedelta(seconds=seconds)),
                "average_response_time": str(timedelta(seconds=seconds / count)),
                "average_response_time_sec": seconds / count,
                "total_status_code_count": json.dumps(statuses),
                "response_time_sec": json.dumps({"median": seconds}),
            }

        await first.store.publish(Report(vhost_stats={"a": stats(3, 90000.5, s200=2, s404=1)}))
        self.assertEqual(self.statistics()["total_response_time"], "1 day, 1:00:00.500000")
        await two.publish(Report(vhost_stats={"a": stats(1, 86400.25, s200=1)}))
        found = self.statistics()
        self.assertEqual(json.loads(found.pop("total_status_code_count")), {"s200": 3, "s404": 1})
        self.assertEqual(
            found,
            {
                "total_count": "4",
                "total_response_time_sec": "176400.75",
                "total_response_time": str(timedelta(seconds=176400.75)),
                "average_response_time": str(timedelta(seconds=44100.1875)),
                "average_response_time_sec": "44100.1875",
                "response_time_sec": '{"median": 86400.25}',
            },
        )
        first.vanish()
        await deferLater(reactor, 0.55)
        await two.publish(Report(vhost_stats={"a": stats(2, 1, s200=2)}))
        self.assertEqual(self.statistics()["total_count"], "2")
        self.assertEqual(len(self.server.ask("HGETALL", "lemmy:shares:a")), 2)

    def statistics(self) -> dict[str, str]:
        """Of a vhost."""
        flat = self.server.ask("HGETALL", "lemmy:stats:a")
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def test_many_dead(self) -> None:
        """Of what dead ones leave a part is taken away at each turn, until nothing is left."""
        first, two = await self.open(lease=0.1), (await self.open()).store
        one = first.store
        names = [f"v{n}" for n in range(250)]
        for name in names:
            self.server.ask("ZADD", f"lemmy:backends:{name}", 0, "h:1")
        await one.publish(Report({(name, "h:1"): 1 for name in names}))
        first.vanish()
        await deferLater(reactor, 0.12)
        for _ in range(3):
            await two.publish(Report())
        self.assertEqual({self.server.ask("ZSCORE", f"lemmy:backends:{name}", "h:1") for name in names}, {"0"})
        self.assertEqual(len(await two.instances()), 1)

    async def test_random_deaths(self) -> None:
        """Instances start, count, die and leave at random; in the end scores are what the last one has."""
        chance = random.Random(6)
        last = (await self.open()).store
        living = []
        for _ in range(60):
            act = chance.random()
            if act < 0.4 or not living:
                living.append(await self.open(lease=0.05))
            elif act < 0.6:
                one = living.pop(chance.randrange(len(living)))
                if chance.random() < 0.5:
                    await one.store.close()
                else:
                    one.vanish()
            for store in (*(one.store for one in living), last):
                active = {(name, f"h:{n}"): chance.randrange(3) for name in "ab" for n in (1, 2)}
                await store.publish(Report(active))
        for one in living:
            one.vanish()
        await deferLater(reactor, 0.1)
        for _ in range(30):
            await last.publish(Report({H1: 2}))
        self.assertEqual((self.scores(), self.scores("b")), ({"h:1": "2", "h:2": "0"}, {"h:1": "0", "h:2": "0"}))
        self.assertEqual(self.server.ask("ZCARD", "lemmy:instances"), 1)
        self.assertEqual(
            [key for key in self.server.ask("KEYS", "*") if ":count" in key and last._place.identity not in key],
            ["lemmy:counts:a"],
        )

    def _calls(self) -> int:
        line = next(line for line in self.server.ask("INFO", "commandstats").split() if "_evalsha:" in line)
        return int(line.partition("calls=")[2].partition(",")[0])
