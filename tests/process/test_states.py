"""Backends that are taken out and brought back, of running proxies."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from tests.process.rig import Lemmy, end
from tests.process.test_commands import lemmy as command
from tests.process.test_health import HealthCase
from tests.store.redis_server import Server


class StatesTests(HealthCase):
    """With a store in a file."""

    def starts(self, **cluster: Any) -> Lemmy:
        """A proxy that knows what was said before."""
        settings = self.settings(**cluster) | {"store": {"type": "file", "path": "table.db"}}
        settings.update(self.more)
        return Lemmy(self, settings, where=self.where).ready()

    def setUp(self) -> None:
        super().setUp()
        self.where = self.one.folder
        self.more: dict[str, Any] = {}

    def says(self, proxy: Lemmy, act: str, backend: str, *options: str) -> None:
        """An operator has it done."""
        done = command(act, "c", backend, *options, "--admin", f"http+unix://{proxy.admin}")
        self.assertEqual((0, ""), (done.returncode, done.stderr), proxy.output())

    def backend(self, proxy: Lemmy, name: str) -> dict[str, Any]:
        """What the admin side says of it."""
        status, body = proxy.ask(f"/api/v1/clusters/c/backends/{name}")
        self.assertEqual(200, status, body)
        found: dict[str, Any] = json.loads(body)
        return found

    def goes_to(self, proxy: Lemmy, names: set[str]) -> bool:
        """Whether these and no others answer."""
        return self.names(proxy, 10) == names

    def is_in(self, proxy: Lemmy, state: str) -> bool:
        """Whether C{one} is in this state, as the workers have it together."""
        return bool(self.backend(proxy, "one")["state"] == state)

    def test_restart(self) -> None:
        """One that went down stays out when it is back, also after a restart of the proxy, until it is enabled."""
        proxy = self.starts(sticky_offline=True)
        self.assertEqual({"one", "two"}, self.names(proxy))
        proxy.wait(lambda: proxy.stats()["clusters"]["c"]["backends"]["one"]["checks"]["passed"] > 0, "a check")
        self.one.says_health("503")
        proxy.wait(lambda: self.backend(proxy, "one")["state"] == "disabled", "disabled")
        self.one.says_health("200")
        self.becomes(proxy, "one", "up")
        self.assertEqual({"two"}, self.names(proxy))
        self.assertEqual(1, proxy.count("backend one went down and is disabled until somebody enables it"))
        self.assertEqual(0, proxy.stop())
        proxy = self.starts(sticky_offline=True)
        self.assertEqual({"two"}, self.names(proxy))
        found = self.backend(proxy, "one")
        self.assertEqual(("disabled", "sticky_offline"), (found["state"], found["state_by"]))
        self.assertIn("503", found["state_reason"])
        self.says(proxy, "enable", "one")
        self.assertEqual({"one", "two"}, self.names(proxy))
        self.assertNotIn("Traceback", proxy.output())

    def test_instances(self) -> None:
        """What is said to one instance holds on the other that shares a Redis, and after a restart of both; while Redis
        is away it is refused, and what was said before holds."""
        redis = Server()
        self.addCleanup(redis.remove)
        settings = self.settings(health_check=None) | {"store": {"type": "redis", "url": redis.url}}
        wheres = [self.one.folder, self.two.folder]
        both = [Lemmy(self, settings, where=where) for where in wheres]
        for proxy in both:
            proxy.ready()
            self.assertEqual({"one", "two"}, self.names(proxy))
        self.says(both[0], "disable", "one", "--reason", "new disk")
        both[1].wait(partial(self.goes_to, both[1], {"two"}), "the other one")
        redis.kill()
        both[1].wait(lambda: "unavailable" in both[1].ask("/ready")[1].decode(), "Redis away")
        status, body = both[1].post("/api/v1/clusters/c/backends/one/enable")
        self.assertEqual(503, status, body)
        self.assertTrue(self.goes_to(both[1], {"two"}))
        redis.start()
        both[1].wait(lambda: "unavailable" not in both[1].ask("/ready")[1].decode(), "Redis back, and empty")
        both[1].wait(partial(self.goes_to, both[1], {"one", "two"}), "nothing is wanted any more")
        self.says(both[1], "drain", "two")
        for proxy in both:
            proxy.stop()
        both = [Lemmy(self, settings, where=where) for where in wheres]
        for proxy in both:
            proxy.ready()
            self.assertTrue(self.goes_to(proxy, {"one"}))
            self.assertNotIn("Traceback", proxy.output())

    def test_workers(self) -> None:
        """What an operator says holds in all workers, without one failed request; also in one that starts later."""
        self.more = {"workers": 2}
        proxy = self.starts(health_check=None)
        proxy.manned(2)
        self.assertEqual({"one", "two"}, self.names(proxy, 10))
        for act, left, state in (("disable", {"two"}, "disabled"), ("enable", {"one", "two"}, "ready"),
                                 ("drain", {"two"}, "drain")):  # fmt: skip
            self.says(proxy, act, "one", "--reason", "new disk")
            # It shows the worker that is most behind when it is enabled, and requests do when it is taken out.
            proxy.wait(partial(self.is_in, proxy, state), act)
            proxy.wait(partial(self.goes_to, proxy, left), act)
            self.assertEqual("new disk", self.backend(proxy, "one")["state_reason"])
        before = proxy.manned(2)
        end(before[1])
        proxy.wait(lambda: proxy.workers().get(1, before[1]) != before[1], "another worker")
        self.assertEqual({"two"}, self.names(proxy, 10))
        status, _ = proxy.post("/api/v1/clusters/c/backends/three/enable")
        self.assertEqual(404, status)
        self.assertNotIn("Traceback", proxy.output())
