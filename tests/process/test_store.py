"""Vhosts out of a store, of running proxies: they come, they change, the store goes away, and so does the proxy."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
from typing import Any

from tests.process.case import GET, ScriptedCase
from tests.process.rig import Lemmy, configuration, folder
from tests.store.redis_server import Server
from tests.wire.rig import START, free_port
from tests.wire.sockets import serve

#: Nothing is served but what the store brings.
EMPTY = {"vhosts": [], "clusters": {}, "defaults": {"max_fails": 0}}


def settings(store: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A configuration with that store."""
    return configuration([]) | EMPTY | {"store": store} | more


class StoreCase(ScriptedCase):
    """A proxy that knows of the backend by its store alone."""

    def setUp(self) -> None:
        super().setUp()
        self.where = folder(self)

    def brings(self, store: dict[str, Any], **more: Any) -> Lemmy:
        """A proxy with that store."""
        return Lemmy(self, settings(store, **more), where=self.where).ready()

    def serves(self, lemmy: Lemmy, host: str = "a.example", status: int = 200) -> None:
        """Waits until that host is served; or until it is not."""
        lemmy.wait(lambda: self.get(lemmy, host) == status, f"{host}: {status}")

    def get(self, lemmy: Lemmy, host: str = "a.example") -> int:
        """The status of a request."""
        client = self.client(lemmy, GET.replace(b"a.example", host.encode()))
        self.until(lambda: bool(client.answers or client.ended), client.received)
        status = client.answers[0].status if client.answers else 0
        client.close()
        return int(status)

    @property
    def member(self) -> str:
        """The backend's."""
        return f"127.0.0.1:{self.backend.port}"

    def ready(self, lemmy: Lemmy) -> dict[str, Any]:
        """What C{/ready} says of the store."""
        status, body = lemmy.ask("/ready")
        self.assertEqual(200, status, body)
        return dict(json.loads(body)["store"])


class FileTests(StoreCase):
    """The store is a file."""

    def test_restart(self) -> None:
        """
        What another process puts into the file is served without a restart, and still is after a kill -9; a reload that
        names another file serves what is in that.
        """
        lemmy = self.brings({"type": "file", "path": "table.db"})
        self.assertEqual(404, self.get(lemmy))
        put(os.path.join(self.where, "table.db"), "a.example", self.member)
        self.serves(lemmy)
        self.assertEqual({"type": "file", "status": "OK"}, self.ready(lemmy))
        stats = lemmy.stats()
        self.assertEqual(1, stats["store"]["vhosts"])
        cluster = stats["clusters"]["a.example"]
        self.assertGreater(cluster["total_count"], 0)
        self.assertEqual("http://" + self.member, cluster["backends"][self.member]["url"])
        lemmy.kill()
        lemmy = self.brings({"type": "file", "path": "table.db"})
        self.assertEqual(200, self.get(lemmy))
        lemmy.reload(settings({"type": "file", "path": "other.db"}))
        self.assertEqual(404, self.get(lemmy))
        put(os.path.join(self.where, "other.db"), "b.example", self.member)
        self.serves(lemmy, "b.example")
        lemmy.reload(settings({"type": "file", "path": "table.db"}, defaults={"timeouts": {"read": 5}}))
        self.assertEqual((200, 404), (self.get(lemmy), self.get(lemmy, "b.example")))
        self.assertNotIn("Traceback", lemmy.output())


def put(path: str, vhost: str, member: str) -> None:
    """As a script of the operator's may do it."""
    with sqlite3.connect(path, timeout=5) as database:
        database.execute("INSERT OR IGNORE INTO vhosts (name) VALUES (?)", (vhost,))
        database.execute("INSERT OR REPLACE INTO members (vhost, text) VALUES (?, ?)", (vhost, member))
    database.close()


class RedisTests(StoreCase):
    """The store is a Redis."""

    def setUp(self) -> None:
        super().setUp()
        self.server = Server()
        self.addCleanup(self.server.remove)
        self.store = {"type": "redis", "url": self.server.url, "vhost_refresh_rate": 1}

    def test_operator(self) -> None:
        """Two commands of an operator's, and traffic flows; its score says how much; two others, and it ends."""
        lemmy = self.brings(self.store)
        self.assertEqual(404, self.get(lemmy))
        self.server.ask("SADD", "lemmy:vhosts", "a.example")
        self.server.ask("ZADD", "lemmy:backends:a.example", 0, self.member)
        self.serves(lemmy)
        self.hold()
        client = self.client(lemmy, GET)
        self.until(lambda: len(self.held) == 1, "the request")
        score = ("ZSCORE", "lemmy:backends:a.example", self.member)
        self.until(lambda: float(self.server.ask(*score)) == 1, "its score")
        self.held[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.answered(client, 200)
        self.backend.script = serve
        self.until(lambda: float(self.server.ask(*score)) == 0, "its score")
        self.until(lambda: bool(self.server.ask("HGETALL", "lemmy:stats:a.example")), "its statistics")
        self.server.ask("SREM", "lemmy:vhosts", "a.example")
        self.serves(lemmy, status=404)
        self.assertNotIn("Traceback", lemmy.output())

    def test_killed(self) -> None:
        """
        While Redis is away not one request is lost, also of a proxy that starts meanwhile; it is seen on the admin
        side; and when Redis is back, empty, that is seen as well, until it has a table again.
        """
        self.server.ask("SADD", "lemmy:vhosts", "a.example")
        self.server.ask("ZADD", "lemmy:backends:a.example", 0, self.member)
        lemmy = self.brings(self.store)
        self.serves(lemmy)
        copy = os.path.join(self.where, "lemmytx")
        lemmy.wait(lambda: os.path.isdir(copy) and bool(os.listdir(copy)), "the copy")
        client = self.client(lemmy)
        self.server.kill()
        for _ in range(300):
            client.write(GET)
            self.answered(client, 200)
        lemmy.wait(lambda: "problem" in self.ready(lemmy), "that it is seen")
        self.assertEqual("unavailable", lemmy.stats()["store"]["status"])
        lemmy.kill()
        lemmy = self.brings(self.store)
        self.assertEqual(200, self.get(lemmy))
        self.assertEqual("the last one before the start", self.ready(lemmy)["table"])
        self.server.start()
        self.until(lambda: "lost the table" in self.ready(lemmy)["problem"], "that it is empty")
        self.assertEqual(200, self.get(lemmy))
        self.server.ask("SADD", "lemmy:vhosts", "b.example")
        self.server.ask("ZADD", "lemmy:backends:b.example", 0, self.member)
        self.serves(lemmy, "b.example")
        self.assertEqual(({"type": "redis", "status": "OK"}, 404), (self.ready(lemmy), self.get(lemmy)))
        self.assertEqual(2, lemmy.count("the redis store is not available"))
        self.assertEqual(1, lemmy.count("available again"))
        self.assertNotIn("Traceback", lemmy.output())

    def test_lost(self) -> None:
        """
        A Redis that has lost everything is not believed by a proxy that starts after that, and a reload to one that
        cannot be reached is refused: what was there goes on.
        """
        self.server.ask("SADD", "lemmy:vhosts", "a.example")
        self.server.ask("ZADD", "lemmy:backends:a.example", 0, self.member)
        lemmy = self.brings(self.store)
        self.serves(lemmy)
        copy = os.path.join(self.where, "lemmytx")
        lemmy.wait(lambda: os.path.isdir(copy) and bool(os.listdir(copy)), "the copy")
        lemmy.kill()
        self.server.ask("FLUSHALL")
        lemmy = self.brings(self.store)
        self.assertEqual(200, self.get(lemmy))
        self.assertIn("lost the table", self.ready(lemmy)["problem"])
        elsewhere = self.store | {"url": f"redis://127.0.0.1:{free_port()}/0"}
        lemmy.refuses(settings(elsewhere), "store: not available: ")
        self.assertEqual(200, self.get(lemmy))
        self.assertNotIn("Traceback", lemmy.output())

    def test_workers(self) -> None:
        """Two workers serve what it brings, the score is the sum, and the parent tells of both; it goes with a kill."""
        self.server.ask("SADD", "lemmy:vhosts", "a.example")
        self.server.ask("ZADD", "lemmy:backends:a.example", 0, self.member)
        lemmy = self.brings(self.store | {"lease": 1.5}, workers=2)
        lemmy.manned(2)
        self.serves(lemmy)
        self.hold()
        for _ in range(6):
            self.client(lemmy, GET)
        self.until(lambda: len(self.held) == 6, "six requests")
        score = ("ZSCORE", "lemmy:backends:a.example", self.member)
        self.until(lambda: float(self.server.ask(*score)) == 6, "the score")
        processes = [each["process"] for each in lemmy.stats()["store"]["processes"]]
        self.until(lambda: len(lemmy.stats()["store"]["processes"]) == 3, processes, START)
        for pid in lemmy.family():
            os.kill(pid, signal.SIGKILL)
        other = self.brings(self.store | {"lease": 1.5})
        self.until(lambda: float(self.server.ask(*score)) == 0, "the score of the dead")
        self.assertNotIn("Traceback", other.output())

    def test_hints(self) -> None:
        """What one instance finds out has another one look at once; and it looks for itself."""
        backend = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(backend.close)
        member = f"127.0.0.1:{backend.getsockname()[1]}"
        self.server.ask("SADD", "lemmy:vhosts", "a.example")
        self.server.ask("ZADD", "lemmy:backends:a.example", 0, member)
        check = {"type": "tcp", "rise": 1, "fall": 1, "timeout": 1}

        def looking(interval: float) -> Lemmy:
            checked = {"health_check": check | {"interval": interval}}
            return Lemmy(self, settings(self.store, defaults=checked), where=folder(self)).ready()

        def health(lemmy: Lemmy) -> str:
            return str(lemmy.stats()["clusters"]["a.example"]["backends"][member]["health"])

        often, seldom = looking(0.2), looking(3600)
        for lemmy in (often, seldom):
            self.until(lambda lemmy=lemmy: health(lemmy) == "up", "the first check")
        backend.close()
        self.until(lambda: health(seldom) == "down", "the hint")
        self.assertEqual("down", health(often))
