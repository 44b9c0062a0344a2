"""The ways in to a real Redis: databases, users, TLS, sockets, Sentinels."""

from __future__ import annotations

import os

from lemmytx.store.place import Place
from lemmytx.store.redis.store import RedisStore
from lemmytx.table import Hint, Member, PutMember, PutVhost, Report, Table
from tests.certificates import Authority
from tests.store.redis_server import Opened, RedisCase, Server

#: What a user of Redis needs who is ours: docs/redis.md has the same.
RIGHTS = (
    "~lemmy:* &lemmy:* &__keyspace@0__:lemmy:vhosts &__keyspace@0__:lemmy:states &__keyspace@0__:lemmy:backends:* "
    "&__keyspace@0__:lemmy:attributes:* &__keyspace@0__:lemmy:settings:* -@all +select +ping +info +role +subscribe "
    "+psubscribe +publish +script|load +evalsha +time +type +exists +get +set +del +expire +pexpire +sadd +srem "
    "+smembers +scard +spop +zadd +zrem +zincrby +zrange +zrangebyscore +hset +hdel +hlen +hincrby +hmget +hgetall"
)


class DoorCase(RedisCase):
    """What goes in by a door comes out again."""

    async def works(self, opened: Opened) -> None:
        """All that a store does."""
        store = opened.store
        self.assertEqual(store.problem, "")
        await store.change([PutMember("a", Member("h:1", weight=2)), PutVhost("b", "{}")])
        table = await store.load(Table())
        self.assertEqual(list(table.vhosts), ["a", "b"])
        await store.publish(Report({("a", "h:1"): 1}, frozenset("a"), {"x": 1}, "web1", {"n": 1}, {"a": {"n": 1}}))
        self.assertEqual(len(await store.instances()), 1)
        await store.hint(Hint("a", "b", "up"))
        self.assertTrue(store._link.hearing)
        self.assertEqual(store.problem, "")

    async def refuses(self, url: str) -> str:
        """@return: why it does not get in."""
        return (await self.open(url, timeout=0.5)).store.problem


class PlainTests(DoorCase):
    """Database, password, user."""

    async def test_database(self) -> None:
        """Another database holds another table."""
        await self.works(await self.open(self.server.url.replace("/0", "/3")))
        self.assertEqual(self.server.ask("EXISTS", "lemmy:vhosts"), 0)
        self.assertIn("DB index is out of range", await self.refuses(self.server.url.replace("/0", "/99")))

    async def test_password(self) -> None:
        """A password alone is that of the default user; what has a meaning in a URL is written with %."""
        self.server.ask("CONFIG", "SET", "requirepass", "p@ss/#word")
        await self.works(await self.open(f"redis://:p%40ss%2F%23word@127.0.0.1:{self.server.port}"))
        self.server.password = "p@ss/#word"

    async def test_user(self) -> None:
        """A user with the documented rights can do all that there is to do, and gets at no other key."""
        self.server.ask("ACL", "SETUSER", "ops", "on", ">s3cr3t", "resetchannels", *RIGHTS.split())
        self.server.ask("ACL", "LOG", "RESET")
        await self.works(await self.open(self.server.url.replace("//", "//ops:s3cr3t@")))
        self.assertEqual(self.server.ask("ACL", "LOG"), [], "what was refused")
        other = await self.open(self.server.url.replace("//", "//ops:s3cr3t@"), prefix="other")
        text = await self.refused(other.store.load(Table()))
        self.assertIn("permission", text)
        self.assertIn("permission", other.store.problem)
        self.assertNotIn("s3cr3t", text)

    async def test_deaf(self) -> None:
        """A user who may hear of nothing finds changes by the timer."""
        rights = [right for right in RIGHTS.split() if right[0] != "&"]
        self.server.ask("ACL", "SETUSER", "ops", "on", ">s3cr3t", "resetchannels", *rights, "&lemmy:changes")
        opened = await self.open(self.server.url.replace("//", "//ops:s3cr3t@"))
        self.assertEqual((opened.store.problem, opened.store._link.hearing), ("", False))
        self.server.ask("SADD", "lemmy:vhosts", "a")
        self.assertEqual(list((await opened.store.load(Table())).vhosts), ["a"])

    async def test_socket(self) -> None:
        """A unix socket, with a database."""
        path = os.path.join(self.server.folder, "redis.sock")
        server = self.another("--unixsocket", path)
        await self.works(await self.open(f"redis+unix://{path}?db=2"))
        server.ask("FLUSHALL")
        server.remove()
        self.assertIn("Redis " + path, await self.refuses(f"unix://{path}"))


class TlsTests(DoorCase):
    """TLS, with certificates of both sides."""

    def setUp(self) -> None:
        super().setUp()
        folder = self.server.folder
        self.authority = Authority()
        self.ca = self.authority.write(folder)
        self.secure = self.listen("127.0.0.1", "yes")
        self.pem = self.authority.issue(["us"], client=True).write(folder, "us.pem")

    def listen(self, name: str, clients: str) -> int:
        """
        @param name: for which its certificate is.
        @param clients: whether these have to show one.
        @return: the port of a server with TLS.
        """
        crt, key = self.authority.issue([name]).write_pair(self.server.folder, name)
        plain = Server.free()
        self.another(
            *("--tls-port", str(plain), "--tls-cert-file", crt, "--tls-key-file", key),
            *("--tls-ca-cert-file", self.ca, "--tls-auth-clients", clients),
        )
        return plain

    async def test_both(self) -> None:
        """Both sides show a certificate; relative paths begin at the folder of the configuration."""
        url = f"rediss://127.0.0.1:{self.secure}/0?ssl_ca_certs=ca.pem&ssl_certfile=us.pem"
        await self.works(await self.open(url))

    async def test_refused(self) -> None:
        """Whoever cannot be believed, or does not believe us, is told by what is wrong with him."""
        for url, why in (
            (f"rediss://127.0.0.1:{self.secure}", "certificate verify failed"),
            (f"rediss://localhost:{self.secure}?ssl_ca_certs=ca.pem&ssl_certfile=us.pem", "is not for its name"),
            (f"rediss://127.0.0.1:{self.secure}?ssl_ca_certs=ca.pem", "no TLS with it"),
            (f"rediss://127.0.0.1:{self.server.port}", "no answer within"),
        ):
            self.assertIn(why, await self.refuses(url), url)

    async def test_unverified(self) -> None:
        """Who wants to can believe anybody, or any name."""
        port = self.listen("other.example", "no")
        for query in ("ssl_cert_reqs=none", "ssl_ca_certs=ca.pem&ssl_check_hostname=false"):
            opened = await self.open(f"rediss://127.0.0.1:{port}?{query}")
            self.assertEqual(opened.store.problem, "")
        self.assertIn("verify failed", await self.refuses(f"rediss://127.0.0.1:{port}?ssl_check_hostname=false"))

    async def test_files(self) -> None:
        """A file that cannot be used is named when the store is opened."""
        with open(os.path.join(self.server.folder, "empty.pem"), "w") as file:
            file.write("nothing")
        for query, why in (
            ("ssl_ca_certs=none.pem", "ssl_ca_certs: none.pem cannot be read: No such file"),
            ("ssl_ca_certs=empty.pem", "ssl_ca_certs: there is no certificate in empty.pem"),
            ("ssl_certfile=ca.pem", "ssl_certfile: ca.pem and its key cannot be used"),
        ):
            store = RedisStore(Place(None, self.server.folder), f"rediss://h?{query}")
            with self.assertRaises(ValueError) as caught:
                await store.open(lambda: None, lambda hint: None)
            self.assertIn(why, str(caught.exception))


class SentinelTests(DoorCase):
    """Redis by way of a Sentinel."""

    def watch(self) -> None:
        """Have a Sentinel look at Redis. It asks for replicas at once, and then every ten seconds."""
        self.sentinel = self.another(sentinel=True)
        ask = self.sentinel.ask
        ask("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", self.server.port, 1)
        ask("SENTINEL", "SET", "mymaster", "down-after-milliseconds", 200, "failover-timeout", 1000)

    @property
    def url(self) -> str:
        """The first one of its Sentinels is not there."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/mymaster/0"

    async def test_failover(self) -> None:
        """The master dies: what was written is with the next one, counts too, and nothing has to be done for that."""
        replica = self.another("--replicaof", "127.0.0.1", str(self.server.port))
        await self.until(lambda: "state=online" in self.server.ask("INFO", "replication"))
        self.watch()
        opened = await self.open(self.url)
        await self.works(opened)
        table = await opened.store.load(Table())
        await self.until(lambda: self.sentinel.ask("SENTINEL", "REPLICAS", "mymaster"))
        await self.until(lambda: replica.ask("HGET", "lemmy:table", "changes") == "1")
        self.server.kill()
        await self.until(lambda: opened.store.problem)
        self.assertIn("Redis mymaster by Sentinel", await self.refused(opened.store.load(table)))
        await self.until(lambda: not opened.store.problem)
        self.assertEqual(replica.ask("ROLE")[0], "master")
        self.assertIs(await opened.store.load(table), table)
        await opened.store.publish(Report({("a", "h:1"): 2}))
        self.assertEqual(replica.ask("ZSCORE", "lemmy:backends:a", "h:1"), "2")

    async def test_demoted(self) -> None:
        """A master that has become a replica is left when it refuses to be written to."""
        self.watch()
        opened = await self.open(self.url)
        self.server.ask("REPLICAOF", "127.0.0.1", 1)
        self.assertIn("read-only replica", await self.refused(opened.store.publish(Report())))
        await self.until(lambda: "which the Sentinels name, is no master" in opened.store.problem)

    async def test_unknown(self) -> None:
        """A master that no Sentinel knows is told, with who was asked."""
        self.watch()
        why = await self.refuses(self.url.replace("mymaster", "other"))
        self.assertIn("127.0.0.1:1: connection refused", why)
        self.assertIn(f"127.0.0.1:{self.sentinel.port}: it knows no master 'other'", why)

    async def test_passwords(self) -> None:
        """Sentinel and Redis have passwords of their own."""
        self.watch()
        self.server.ask("CONFIG", "SET", "requirepass", "one")
        self.server.password = "one"
        self.sentinel.ask("ACL", "SETUSER", "default", ">two")
        opened = await self.open(self.url.replace("//", "//:one@") + "?sentinel_password=two")
        await self.works(opened)
        self.assertIn("it wants a password", await self.refuses(self.url.replace("//", "//:one@")))
