"""What Redis does on bad days, and that what was known goes on meanwhile."""

from __future__ import annotations

import os
import signal
import time

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from lemmytx.table import Member, PutMember, PutState, PutVhost, Report, State, Table
from tests.store.redis_server import Opened, RedisCase

H1 = ("a", "h:1")


class BadDayCase(RedisCase):
    """A table with two vhosts that has been loaded, and requests in flight."""

    async def good(self, **options: object) -> tuple[Opened, Table]:
        """@return: a store, and the table."""
        self.fill()
        opened = await self.open(**options)
        table = await opened.store.load(Table())
        self.assertEqual(list(table.vhosts), ["a", "b"])
        await opened.store.publish(Report({H1: 3}, frozenset("a")))
        return opened, table

    def fill(self) -> None:
        """As a deploy script does."""
        for name in ("a", "b"):
            self.server.ask("SADD", "lemmy:vhosts", name)
            self.server.ask("ZADD", f"lemmy:backends:{name}", 0, "h:1")

    def score(self) -> str:
        """Of the one with requests."""
        return str(self.server.ask("ZSCORE", "lemmy:backends:a", "h:1"))

    async def well_again(self, opened: Opened, table: Table) -> None:
        """Table and counts are right at the next look, and nothing is left of the problem."""
        await self.until(lambda: not opened.store.problem, opened.store.problem)
        self.assertIs(await opened.store.load(table), table)
        await opened.store.publish(Report({H1: 2}))
        self.assertEqual(self.score(), "2")
        self.assertEqual(opened.store.problem, "")


class OutageTests(BadDayCase):
    """Redis is not there, or not to be talked to."""

    options = ("--appendonly", "yes", "--appendfsync", "always")

    async def test_restarted(self) -> None:
        """Killed and started again with its data: it says so, and goes on where it was."""
        opened, table = await self.good()
        self.server.kill()
        await self.until(lambda: "refused" in opened.store.problem)
        for asked in (opened.store.load(table), opened.store.publish(Report()), opened.store.instances()):
            self.assertIn("connection refused", await self.refused(asked))
        why = await self.refused(opened.store.change([PutVhost("c")]))
        self.assertTrue(why.startswith(f"nothing was changed: Redis 127.0.0.1:{self.server.port}: "), why)
        self.server.start()
        await self.well_again(opened, table)
        await self.until(lambda: opened.problems[-1] == "")
        self.assertEqual(len(opened.problems), 2, opened.problems)

    async def test_absent(self) -> None:
        """Opening does not fail while there is no Redis, and begins when there is one."""
        self.fill()
        self.server.kill()
        opened = await self.open()
        self.assertIn("connection refused", opened.store.problem)
        self.server.start()
        await self.until(lambda: not opened.store.problem)
        await self.until(lambda: opened.told)
        self.assertEqual(list((await opened.store.load(Table())).vhosts), ["a", "b"])

    async def test_stopped(self) -> None:
        """Stopped and continued: questions fail when their time is over, and all is right again."""
        opened, table = await self.good(timeout=0.25)
        self.server.signal(signal.SIGSTOP)
        self.assertIn("no answer within 0.25 s", await self.refused(opened.store.load(table)))
        why = await self.refused(opened.store.change([PutVhost("c")]))
        self.assertIn("changed: Redis", why)
        await self.until(lambda: "no answer within" in opened.store.problem)
        began = time.monotonic()
        await self.refused(opened.store.publish(Report()))
        await self.refused(opened.store.load(table))
        self.assertLess(time.monotonic() - began, 5)
        self.server.signal(signal.SIGCONT)
        await self.well_again(opened, table)

    async def test_unsure(self) -> None:
        """A change that was sent and not answered may have been made, and that is said."""
        opened, _ = await self.good(timeout=0.25)
        self.server.signal(signal.SIGSTOP)
        why = await self.refused(opened.store.change([PutVhost("c")]))
        self.assertTrue(why.startswith("it is not known whether it was changed: "), why)

    async def test_close_while_stopped(self) -> None:
        """Closing takes no longer than two seconds whatever Redis does."""
        opened, _ = await self.good(timeout=30)
        self.server.signal(signal.SIGSTOP)
        began = time.monotonic()
        await opened.store.close()
        self.assertLess(time.monotonic() - began, 2)

    async def test_cut(self) -> None:
        """Connections that are cut come back, and what was changed meanwhile is told."""
        opened, table = await self.good()
        told = opened.told
        self.server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await self.until(lambda: not opened.store._link.hearing)
        self.server.ask("ZADD", "lemmy:backends:a", 0, "h:2")
        await self.until(lambda: opened.told > told)
        table = await opened.store.load(table)
        self.assertEqual(len(table.vhosts["a"].members), 2)
        self.assertEqual(opened.problems, [])
        self.server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await self.until(lambda: opened.store.problem)
        self.assertIn("it closed the connection", opened.store.problem)
        await self.well_again(opened, table)
        # It was only for a moment.
        self.assertEqual(opened.problems, [])

    async def test_slow(self) -> None:
        """A Redis that sleeps longer than it has time is as good as away, until it wakes up."""
        opened, table = await self.good(timeout=0.25)
        sleeping = self.server.begin("DEBUG", "SLEEP", "0.6")
        await deferLater(reactor, 0.05)
        self.assertIn("no answer within 0.25 s", await self.refused(opened.store.load(table)))
        await self.well_again(opened, table)
        sleeping.close()

    async def test_loading(self) -> None:
        """While it loads its data it shows no vhosts, and nobody believes that."""
        opened, table = await self.good()
        for n in range(5):
            self.server.ask("SET", f"filling{n}", os.urandom(5000))
        self.server.ask("SAVE")
        self.server.kill()
        loading = ("--appendonly", "no", "--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024")
        self.server.start(*loading)
        await self.until(lambda: "it is loading its data" in opened.store.problem)
        await self.refused(opened.store.load(table))
        await self.well_again(opened, table)


class LossTests(BadDayCase):
    """Redis is there, and the table is not."""

    async def test_restarted_empty(self) -> None:
        """Killed and started again without its data: the table goes on, until there are vhosts again."""
        opened, table = await self.good()
        self.server.kill()
        await self.until(lambda: opened.store.problem)
        self.server.start()
        await self.until(lambda: not opened.store.problem)
        for _ in range(2):
            self.assertIn("it has lost the table, with 2 vhosts", await self.refused(opened.store.load(table)))
        self.assertIn("HSET lemmy:table empty 1", opened.store.problem)
        self.assertIn("nothing was changed", await self.refused(opened.store.change([PutVhost("c")])))
        await opened.store.change([PutState("a", "h:1", State("drain"))])
        await opened.store.publish(Report({H1: 3}))
        self.assertIn("it has lost the table", await self.refused(opened.store.load(table)))
        self.fill()
        table = await opened.store.load(table)
        self.assertEqual((opened.store.problem, self.score()), ("", "3"))
        self.assertEqual((list(table.vhosts), len(table.states)), (["a", "b"], 1))
        # So it is for one that knows the table from its disk.
        self.server.ask("FLUSHALL")
        self.assertIn("lost the table", await self.refused((await self.open()).store.load(table)))
        self.server.ask("HSET", "lemmy:table", "empty", 1)
        self.assertEqual((await opened.store.load(table)).vhosts, {})

    async def test_deleted_by_mistake(self) -> None:
        """The list of many vhosts that is suddenly gone while their backends are there is not believed."""
        opened, table = await self.good()
        self.server.ask("SADD", "lemmy:vhosts", *(f"v{n}" for n in range(20)))
        for n in range(20):
            self.server.ask("ZADD", f"lemmy:backends:v{n}", 0, "h:1")
        table = await opened.store.load(table)
        self.server.ask("DEL", "lemmy:vhosts")
        self.assertIn("the set lemmy:vhosts with 22 vhosts is gone", await self.refused(opened.store.load(table)))
        self.assertIn("their backends are not", opened.store.problem)
        self.server.ask("SADD", "lemmy:vhosts", "a")
        self.assertEqual(list((await opened.store.load(table)).vhosts), ["a"])
        self.assertEqual(opened.store.problem, "")

    async def test_emptied(self) -> None:
        """Whoever takes vhosts away with their backends is believed."""
        opened, table = await self.good()
        self.server.ask("DEL", "lemmy:vhosts", "lemmy:backends:a", "lemmy:backends:b")
        self.assertEqual((await opened.store.load(table)).vhosts, {})

    async def test_full(self) -> None:
        """Without memory the table is loaded, counts and changes are refused, and that is said."""
        opened, table = await self.good()
        self.server.ask("CONFIG", "SET", "maxmemory", 1)
        self.assertIs(await opened.store.load(table), table)
        for _ in range(2):
            self.assertIn("out of memory", await self.refused(opened.store.publish(Report({H1: 7}))))
        self.assertIs(await opened.store.load(table), table)
        why = await self.refused(opened.store.change([PutMember("a", Member("h:9")), PutVhost("c")]))
        self.assertTrue(why.startswith("nothing was changed"), why)
        await self.until(lambda: opened.problems)
        self.assertEqual(len(opened.problems), 1)
        self.server.ask("CONFIG", "SET", "maxmemory", 0)
        await opened.store.publish(Report({H1: 7}))
        self.assertEqual(self.score(), "7")
        await self.well_again(opened, table)

    async def test_replica(self) -> None:
        """A read-only replica shows the table and takes nothing; out of step and empty it is not believed."""
        replica = self.another("--replicaof", "127.0.0.1", str(self.server.port), "--repl-diskless-load", "swapdb")
        self.fill()
        await self.until(lambda: replica.ask("SCARD", "lemmy:vhosts") == 2)
        opened = await self.open(replica.url)
        table = await opened.store.load(Table())
        self.assertEqual(list(table.vhosts), ["a", "b"])
        self.assertIn("it is a read-only replica", await self.refused(opened.store.publish(Report({H1: 1}))))
        self.assertIn("read-only replica", opened.store.problem)
        why = await self.refused(opened.store.change([PutVhost("c")]))
        self.assertTrue(why.startswith("nothing was changed"), why)
        self.server.ask("ZADD", "lemmy:backends:a", 0, "h:2")
        await self.until(lambda: replica.ask("ZCARD", "lemmy:backends:a") == 2)
        table = await opened.store.load(table)
        self.assertEqual(len(table.vhosts["a"].members), 2)
        self.server.kill()
        replica.ask("CONFIG", "SET", "replica-read-only", "no")
        replica.ask("DEL", "lemmy:vhosts", "lemmy:backends:a", "lemmy:backends:b")
        await self.until(lambda: "master_link_status:down" in replica.ask("INFO", "replication"))
        self.assertIn("it is a replica out of step", await self.refused(opened.store.load(table)))

    async def test_wrong_password(self) -> None:
        """A wrong password is named, not shown, and tried again until it is right."""
        self.fill()
        self.server.ask("CONFIG", "SET", "requirepass", "right")
        self.server.password = "right"
        for login, why in ((":s3cr3t@", "it refuses the user or the password"), ("", "it wants a password")):
            opened = await self.open(self.server.url.replace("//", f"//{login}"))
            self.assertTrue(opened.store.problem.endswith(f":{self.server.port}: {why}"), opened.store.problem)
            text = await self.refused(opened.store.load(Table()))
            self.assertIn(why, text)
            self.assertNotIn("s3cr3t", text + repr(opened.store))
            if login:
                self.server.ask("CONFIG", "SET", "requirepass", "s3cr3t")
                await self.until(lambda opened=opened: not opened.store.problem)
                self.server.password = "s3cr3t"

    async def test_no_redis(self) -> None:
        """Somebody else at the port is told from a Redis."""

        class Http(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = reactor.listenTCP(0, Factory.forProtocol(Http), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        opened = await self.open(f"redis://127.0.0.1:{port.getHost().port}")
        self.assertIn("it does not speak Redis' protocol", opened.store.problem)
        await opened.store.close()
        await deferLater(reactor, 0)
