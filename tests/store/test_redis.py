"""The table in a real Redis: what operators write there, and what instances tell each other."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from lemmytx.interfaces import IStorePlace
from lemmytx.store.redis.store import RedisStore
from lemmytx.table import (
    DropState,
    DropVhost,
    Entry,
    Fault,
    Hint,
    Member,
    PutMember,
    PutState,
    PutVhost,
    Report,
    State,
    Table,
)
from lemmytx.testing.shared_stores import SharedConformance
from lemmytx.testing.stores import DurableConformance
from tests.store.redis_server import RedisCase, Server


class RedisConformance(SharedConformance, DurableConformance, TestCase):
    """L{RedisStore} is a store, on a real Redis."""

    def make(self, place: IStorePlace) -> RedisStore:
        """See L{StoreConformance}."""
        if not hasattr(self, "server"):
            self.server = Server()
            self.addCleanup(self.server.remove)
        return RedisStore(place, self.server.url)


class OperatorTests(RedisCase):
    """What is written with redis-cli."""

    async def test_two_commands(self) -> None:
        """A vhost is added with two plain commands, and taken away with one."""
        store = (await self.open()).store
        empty = await store.load(Table())
        self.server.ask("SADD", "lemmy:vhosts", "aceofspades")
        self.server.ask("ZADD", "lemmy:backends:aceofspades", 0, "10.0.0.1:8080")
        table = await store.load(empty)
        self.assertEqual(table.vhosts, {"aceofspades": Entry("aceofspades", (Member("10.0.0.1:8080"),))})
        self.server.ask("SREM", "lemmy:vhosts", "aceofspades")
        self.assertEqual(await store.load(table), Table())

    async def test_attributes(self) -> None:
        """Attributes, settings and states stand in keys beside."""
        store = (await self.open(prefix="other")).store
        self.server.ask("SADD", "other:vhosts", "a.example")
        self.server.ask("ZADD", "other:backends:a.example", 0, "https://h:1", 0, "10.0.0.1")
        self.server.ask(
            "HSET", "other:attributes:a.example", "10.0.0.1", '{"weight": 2, "role": "backup", "name": "b"}'
        )
        self.server.ask("SET", "other:settings:a.example", '{"max_fails": 1}')
        self.server.ask("HSET", "other:states", "a.example/b", "drain")
        table = await store.load(Table())
        members = Member("10.0.0.1", "b", 2, 0, "backup"), Member("https://h:1")
        self.assertEqual(table.vhosts, {"a.example": Entry("a.example", members, '{"max_fails": 1}')})
        self.assertEqual(table.states, {("a.example", "b"): State("drain")})
        self.assertEqual(table.faults, ())

    async def test_same_objects(self) -> None:
        """What has not changed are the same objects, whatever the scores are."""
        store = (await self.open()).store
        for name in ("a", "b"):
            self.server.ask("SADD", "lemmy:vhosts", name)
            self.server.ask("ZADD", f"lemmy:backends:{name}", 0, "h:1", 7, "h:2")
        table = await store.load(Table())
        self.server.ask("ZADD", "lemmy:backends:b", 9, "h:1")
        self.assertIs(await store.load(table), table)
        self.server.ask("ZADD", "lemmy:backends:b", 0, "h:3")
        after = await store.load(table)
        self.assertIs(after.vhosts["a"], table.vhosts["a"])
        self.assertEqual([member.text for member in after.vhosts["b"].members], ["h:1", "h:2", "h:3"])
        self.server.ask("HSET", "lemmy:attributes:a", "h:1", '{"weight": 5}')
        self.assertEqual((await store.load(after)).vhosts["a"].members[0].weight, 5)

    async def test_faults(self) -> None:
        """What cannot be used is left out by name, and hurts nothing else."""
        store = (await self.open()).store
        self.server.ask("SADD", "lemmy:vhosts", "good", "Bad.Example", "no host", b"\xff")
        self.server.ask("ZADD", "lemmy:backends:good", 0, "h:1", 0, "h:99999", 0, "a b", 0, b"\xfe", 0, "h:2", 0, "h:3")
        self.server.ask("HSET", "lemmy:attributes:good", "h:2", '{"wieght": 2}', "h:3", "no JSON", "gone:1", "{}")
        self.server.ask(
            "HSET", "lemmy:states", "a/b", "nonsense", "c", "drain", "d/e", '{"state": "disabled", "at": 1}'
        )
        table = await store.load(Table())
        self.assertEqual(table.vhosts, {"good": Entry("good", (Member("h:1"),))})
        self.assertEqual(table.states, {("d", "e"): State("disabled", "", "", 1.0)})
        self.assertEqual(
            [(fault.vhost, fault.member) for fault in table.faults],
            [
                ("", "a/b"), ("", "c"), ("Bad.Example", ""), ("\\xff", ""), ("good", "\\xfe"), ("good", "a b"),
                ("good", "h:2"), ("good", "h:3"), ("good", "h:99999"), ("no host", ""),
            ],
        )  # fmt: skip
        self.assertIs(await store.load(table), table)
        self.server.ask("HSET", "lemmy:attributes:good", "h:2", '{"weight": 2}')
        self.assertEqual((await store.load(table)).vhosts["good"].members, (Member("h:1"), Member("h:2", weight=2)))

    async def test_wrong_types(self) -> None:
        """Keys of another type are named, and what was there before goes on; also after a restart of ours."""
        store = (await self.open()).store
        self.server.ask("SADD", "lemmy:vhosts", "a", "b")
        for name in ("a", "b"):
            self.server.ask("ZADD", f"lemmy:backends:{name}", 0, "h:1")
        self.server.ask("HSET", "lemmy:states", "a/h:1", "drain")
        good = await store.load(Table())
        for key in ("backends:a", "attributes:b", "settings:b", "states", "counts:a"):
            self.server.ask("DEL", f"lemmy:{key}")
            self.server.ask("LPUSH", f"lemmy:{key}", "x")
        await store.publish(Report({("a", "h:1"): 1, ("b", "h:1"): 1}, frozenset("ab")))
        for one in (store, (await self.open()).store):
            table = await one.load(good)
            self.assertEqual(table.vhosts, good.vhosts)
            self.assertEqual(sorted(fault.vhost for fault in table.faults), ["", "a", "b", "b"])
        self.assertEqual((await store.load(good)).states, good.states)
        self.server.ask("DEL", "lemmy:vhosts")
        self.server.ask("SET", "lemmy:vhosts", "x")
        self.assertIn("lemmy:vhosts is of another type than a set", await self.refused(store.load(good)))
        self.assertIn("lemmy:vhosts is of another type", store.problem)
        why = await self.refused(store.change([PutState("a", "b", State("drain")), PutVhost("c")]))
        self.assertTrue(why.startswith("nothing was changed: "), why)
        self.assertIn("lemmy:states is a list instead of a hash", why)
        self.server.ask("DEL", "lemmy:vhosts")
        self.server.ask("SADD", "lemmy:vhosts", "a", "b")
        await store.load(good)
        self.assertEqual(store.problem, "")

    async def test_many_faults(self) -> None:
        """Of very many faults a thousand are named, and the rest is counted."""
        store = (await self.open()).store
        self.server.ask("SADD", "lemmy:vhosts", *(f"Bad{n}" for n in range(1200)), "good")
        faults = (await store.load(Table())).faults
        self.assertEqual(len(faults), 1001)
        self.assertIn(Fault("", "", "there are 200 more of these"), faults)

    async def test_many(self) -> None:
        """Slices grow with the table: one vhost more or less among many is found."""
        store = (await self.open()).store
        names = [f"v{n}.example" for n in range(450)]
        self.server.ask("SADD", "lemmy:vhosts", *names)
        table = await store.load(Table())
        self.assertEqual(set(table.vhosts), set(names))
        self.server.ask("SADD", "lemmy:vhosts", "new.example")
        self.server.ask("SREM", "lemmy:vhosts", names[7])
        self.server.ask("ZADD", f"lemmy:backends:{names[9]}", 0, "h:1")
        after = await store.load(table)
        self.assertEqual(set(after.vhosts), {*names, "new.example"} - {names[7]})
        others = [name for name in names if after.vhosts.get(name) is not table.vhosts[name]]
        self.assertEqual(others, [names[7], names[9]])


class AnnouncementTests(RedisCase):
    """What is told without being asked."""

    async def test_change(self) -> None:
        """A change of another one is told, and the load after it reads what was named and nothing else."""
        ours, other = await self.open(), await self.open()
        table = await ours.store.load(Table())
        told = ours.told
        await other.store.change([PutMember("a", Member("h:1", weight=2))])
        await self.until(lambda: ours.told > told)
        # Nobody has said so, and it is not time for all.
        self.server.ask("ZADD", "lemmy:backends:a", 0, "h:2")
        self.server.ask("SADD", "lemmy:vhosts", "b")
        self.server.ask("SET", "lemmy:settings:b", "{}")
        calls = self._calls("evalsha")
        table = await ours.store.load(table)
        self.assertEqual(self._calls("evalsha"), calls + 1)
        self.assertEqual(set(table.vhosts), {"a", "b"})
        self.assertEqual(len(table.vhosts["a"].members), 2)

    async def test_missed(self) -> None:
        """What was not heard is found by the number of the change."""
        ours, other = await self.open(), await self.open()
        self.server.ask("SADD", "lemmy:vhosts", "a", "b", "c")
        table = await ours.store.load(Table())
        await other.store.change([PutMember("a", Member("h:1"))])
        ours.store._loading._number, ours.store._loading._named = 0, set()
        await other.store.change([PutMember("b", Member("h:1"))])
        await self.until(lambda: ours.store._loading._number == 2)
        table = await ours.store.load(table)
        self.assertEqual([len(table.vhosts[name].members) for name in "abc"], [1, 1, 0])

    async def test_operator(self) -> None:
        """An operator announces by PUBLISH: with names, or without any."""
        ours = await self.open()
        table = await ours.store.load(Table())
        for said, member in (("a", "h:1"), ("", "h:2")):
            table = await ours.store.load(table)
            told = ours.told
            self.server.ask("SADD", "lemmy:vhosts", "a")
            self.server.ask("ZADD", "lemmy:backends:a", 0, member)
            self.server.ask("PUBLISH", "lemmy:changes", said)
            await self.until(lambda told=told: ours.told > told)
            table = await ours.store.load(table)
            self.assertEqual(table.vhosts["a"].members[-1].text, member)

    async def test_one_looks(self) -> None:
        """Of two whose timers are due one looks at all vhosts, and tells the other what it finds."""
        ours, other = await self.open(vhost_refresh_rate=0.2), await self.open(vhost_refresh_rate=0.2)
        self.server.ask("SADD", "lemmy:vhosts", "a")
        mine, his = await ours.store.load(Table()), await other.store.load(Table())
        self.server.ask("ZADD", "lemmy:backends:a", 0, "h:1")
        await self.until(lambda: ours.store._place.reactor.seconds() - other.store._loading._whole_at > 0.2)
        told = other.told
        mine = await ours.store.load(mine)
        self.assertEqual(len(mine.vhosts["a"].members), 1)
        await self.until(lambda: other.told > told)
        calls = self._calls("evalsha")
        his = await other.store.load(his)
        self.assertEqual(his.vhosts, mine.vhosts)
        self.assertEqual(self._calls("evalsha"), calls + 1)

    async def test_hints(self) -> None:
        """Hints reach the others, and nonsense nobody."""
        ours, other = await self.open(), await self.open()
        for said in ("", "[]", "{", '{"cluster": 1, "backend": "b", "outcome": "up"}', '{"outcome": "up"}', b"\xff"):
            self.server.ask("PUBLISH", "lemmy:hints", said)
        await other.store.hint(Hint("c", "b", "down", "x" * 1000))
        await self.until(lambda: ours.hints)
        self.assertEqual((ours.hints, other.hints), ([Hint("c", "b", "down", "x" * 200)], []))

    def _calls(self, name: str) -> int:
        line = next(line for line in self.server.ask("INFO", "commandstats").split() if f"_{name}:" in line)
        return int(line.partition("calls=")[2].partition(",")[0])


class KeyspaceTests(RedisCase):
    """A Redis that tells of its keys."""

    options = ("--notify-keyspace-events", "KA")

    async def test_noticed(self) -> None:
        """What an operator writes is told without an announcement; scores that we write are not."""
        ours = await self.open()
        table = await ours.store.load(Table())
        for words in (
            ("SADD", "lemmy:vhosts", "a"),
            ("ZADD", "lemmy:backends:a", 0, "h:1"),
            ("HSET", "lemmy:attributes:a", "h:1", '{"weight": 3}'),
            ("SET", "lemmy:settings:a", "{}"),
            ("HSET", "lemmy:states", "a/h:1", "drain"),
        ):
            table = await ours.store.load(table)
            told = ours.told
            self.server.ask(*words)
            await self.until(lambda told=told: ours.told > told, str(words))
        table = await ours.store.load(table)
        self.assertEqual(table.vhosts["a"], Entry("a", (Member("h:1", weight=3),), "{}"))
        self.assertEqual(table.states, {("a", "h:1"): State("drain")})
        await ours.store.publish(Report({("a", "h:1"): 5}))
        self.assertEqual(self.server.ask("ZSCORE", "lemmy:backends:a", "h:1"), "5")
        told = ours.told
        self.server.ask("PUBLISH", "lemmy:hints", '{"cluster": "a", "backend": "b", "outcome": "up"}')
        await self.until(lambda: ours.hints)
        self.assertEqual(ours.told, told)


class ChangeTests(RedisCase):
    """What the admin side writes."""

    async def test_written(self) -> None:
        """It stands where an operator would write it, and nothing stays of what is dropped."""
        store = (await self.open()).store
        member = Member("h:1", capacity=4)
        await store.change([PutMember("a", member), PutVhost("a", "{}"), PutState("a", "h:1", State("drain", "x"))])
        self.assertEqual(self.server.ask("SMEMBERS", "lemmy:vhosts"), ["a"])
        self.assertEqual(self.server.ask("ZRANGE", "lemmy:backends:a", 0, -1, "WITHSCORES"), ["h:1", "0"])
        self.assertEqual(self.server.ask("HGETALL", "lemmy:attributes:a"), ["h:1", '{"capacity": 4}'])
        await store.publish(Report({("a", "h:1"): 1}, vhost_stats={"a": {"count": 1}}))
        await store.change([DropVhost("a"), DropState("a", "h:1")])
        self.assertEqual(await store.load(Table()), Table())
        await store.close()
        self.assertEqual(self.server.ask("KEYS", "*"), ["lemmy:table"])

    async def test_score_stays(self) -> None:
        """Attributes of a member that is there are changed without touching its score."""
        store = (await self.open()).store
        self.server.ask("ZADD", "lemmy:backends:a", 3, "h:1")
        await store.change([PutMember("a", Member("h:1", weight=2))])
        self.assertEqual(self.server.ask("ZSCORE", "lemmy:backends:a", "h:1"), "3")

    async def test_refused(self) -> None:
        """A member that makes no sense is refused before anything is asked."""
        store = (await self.open()).store
        with self.assertRaises(ValueError):
            await store.change([PutVhost("a"), PutMember("a", Member("a b"))])
        self.assertEqual(self.server.ask("EXISTS", "lemmy:vhosts"), 0)

    async def test_flushed_scripts(self) -> None:
        """SCRIPT FLUSH costs one more round trip, and nothing else."""
        store = (await self.open()).store
        self.server.ask("SCRIPT", "FLUSH")
        await store.change([PutVhost("a")])
        self.assertEqual(list((await store.load(Table())).vhosts), ["a"])
