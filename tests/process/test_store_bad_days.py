"""What a Redis may do on a bad day, while requests flow: none of them notices."""

from __future__ import annotations

import signal

from tests.process.case import GET
from tests.process.rig import Lemmy
from tests.process.test_store import StoreCase
from tests.store.redis_server import Server
from tests.wire.sockets import Client


class BadDayTests(StoreCase):
    """
    One proxy, asked all the time.

    @ivar server: the Redis that has the table.
    """

    def setUp(self) -> None:
        super().setUp()
        self.server = Server()
        self.addCleanup(self.server.remove)
        self.server.ask("SADD", "lemmy:vhosts", "a.example")
        self.server.ask("ZADD", "lemmy:backends:a.example", 0, self.member)

    def requests(self, client: Client, count: int = 100) -> None:
        """All of them are answered by the backend."""
        for _ in range(count):
            client.write(GET)
            self.answered(client, 200)

    def problem(self, lemmy: Lemmy) -> str:
        """What C{/ready} says of the store; empty: it is well."""
        return str(self.ready(lemmy).get("problem", ""))

    def scored(self, server: Server) -> float:
        """How much is in flight, as the table has it."""
        return float(server.ask("ZSCORE", "lemmy:backends:a.example", self.member) or 0)

    def well(self, lemmy: Lemmy, server: Server) -> None:
        """The store is known to be well, and the score is what is in flight."""
        self.until(lambda: not self.problem(lemmy), "that it is well again", 20)
        script = self.backend.script
        self.hold()
        waiting = self.client(lemmy, GET)
        self.until(lambda: self.scored(server) == 1, "the score", 20)
        self.held.pop().write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.answered(waiting, 200)
        self.backend.script = script
        self.until(lambda: self.scored(server) == 0, "the score", 20)

    def test_days(self) -> None:
        """Stopped, cut, slow, full, with keys of the wrong type, emptied by mistake: each passes, without a request."""
        ask = self.server.ask
        lemmy = self.brings({"type": "redis", "url": self.server.url, "vhost_refresh_rate": 0.5, "timeout": 0.5})
        self.serves(lemmy)
        client = self.client(lemmy)

        self.server.signal(signal.SIGSTOP)
        self.until(lambda: bool(self.problem(lemmy)), "that it is stopped")
        self.requests(client)
        self.server.signal(signal.SIGCONT)
        self.well(lemmy, self.server)

        for _ in range(5):
            ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            self.requests(client, 20)
        self.well(lemmy, self.server)

        with self.server.begin("DEBUG", "SLEEP", "1.5"):
            self.until(lambda: bool(self.problem(lemmy)), "that it is slow")
            self.requests(client)
        self.well(lemmy, self.server)

        ask("CONFIG", "SET", "maxmemory", "1")
        self.until(lambda: bool(self.problem(lemmy)), "that it is full")
        self.requests(client)
        ask("CONFIG", "SET", "maxmemory", "0")
        self.well(lemmy, self.server)

        ask("RENAME", "lemmy:vhosts", "aside")
        ask("SET", "lemmy:vhosts", "no set")
        self.until(lambda: bool(self.problem(lemmy)), "that the key is another thing")
        self.requests(client)
        ask("RENAME", "aside", "lemmy:vhosts")
        self.well(lemmy, self.server)

        ask("FLUSHALL")
        self.until(lambda: bool(self.problem(lemmy)), "that it is empty")
        self.requests(client)
        ask("SADD", "lemmy:vhosts", "a.example")
        ask("ZADD", "lemmy:backends:a.example", 0, self.member)
        self.well(lemmy, self.server)
        self.assertNotIn("Traceback", lemmy.output())

    def test_failover(self) -> None:
        """When the master is killed the Sentinel's next one has the table, and no request has failed."""
        replica = Server("--replicaof", "127.0.0.1", str(self.server.port))
        self.addCleanup(replica.remove)
        sentinel = Server(sentinel=True)
        self.addCleanup(sentinel.remove)
        self.until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "that the replica follows")
        sentinel.ask("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", self.server.port, 1)
        sentinel.ask("SENTINEL", "SET", "mymaster", "down-after-milliseconds", "500", "failover-timeout", "3000")
        self.until(lambda: bool(sentinel.ask("SENTINEL", "REPLICAS", "mymaster")), "the Sentinel's view", 20)
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster/0"
        lemmy = self.brings({"type": "redis", "url": url, "vhost_refresh_rate": 0.5, "timeout": 0.5})
        self.serves(lemmy)
        client = self.client(lemmy)
        self.server.kill()
        while "role:slave" in replica.ask("INFO", "replication"):
            self.requests(client, 20)
        self.requests(client)
        self.well(lemmy, replica)
        replica.ask("SADD", "lemmy:vhosts", "b.example")
        replica.ask("ZADD", "lemmy:backends:b.example", 0, self.member)
        self.serves(lemmy, "b.example")
        self.assertNotIn("Traceback", lemmy.output())
