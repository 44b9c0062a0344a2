"""Clients that stay with a backend, and clients that name one: real servers, reloads, restarts, workers."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.proxy.pins import sign
from tests.process.rig import Lemmy, Nginx, configuration

SECRET = "of the tests, and of nothing else"


class StickyCase(SynchronousTestCase):
    """Three real servers that say their names, in turn."""

    def setUp(self) -> None:
        self.origins = [Nginx(self, name) for name in ("one", "two", "three")]

    def settings(self, sticky: object, backends: slice = slice(None), **settings: Any) -> dict[str, Any]:
        """A configuration."""
        members = [{"url": origin.url, "name": f"b-{origin.port}"} for origin in self.origins[backends]]
        return configuration(members, cluster={"scheduler": "round_robin", "sticky": sticky}, **settings)

    def starts(self, settings: dict[str, Any], **more: Any) -> Lemmy:
        """A proxy that serves."""
        return Lemmy(self, settings, **more).ready()

    def ask(self, lemmy: Lemmy, **fields: str) -> tuple[str, str, str]:
        """
        A new client asks.

        @return: the name of the server, the binding that the answer sets, and its X-Backend.
        """
        connection = HTTPConnection("127.0.0.1", lemmy.port, timeout=30)
        try:
            connection.request("GET", "/", headers={name.replace("_", "-"): value for name, value in fields.items()})
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        name = body.partition(" ")[0] if answer.status == 200 else str(answer.status)
        return name, cookie, answer.getheader("X-Backend") or ""

    def stays(self, lemmy: Lemmy, name: str, cookie: str) -> None:
        """The client is sent to its server each time, and told nothing new."""
        for _ in range(4):
            self.assertEqual((name, "", ""), self.ask(lemmy, Cookie=cookie))


class StickyTests(StickyCase):
    """Bindings."""

    def test_lives_on(self) -> None:
        """With a secret out of the environment a binding outlives a reload and a restart, until its server is gone."""
        settings = self.settings({"cookie": "lemmy", "secret": "${STICKY_SECRET}"})
        environment = {"STICKY_SECRET": SECRET}
        lemmy = self.starts(settings, environment=environment)
        name, cookie, _ = self.ask(lemmy)
        self.assertRegex(cookie, r"\Alemmy=[A-Za-z0-9_-]{36}\Z")
        self.stays(lemmy, name, cookie)
        # Names, weights, order: another configuration of the same servers.
        other = self.settings({"cookie": "lemmy", "secret": "${STICKY_SECRET}"})
        other["clusters"]["c"]["backends"] = [{"url": o.url, "weight": 5} for o in self.origins[::-1]]
        lemmy.reload(other)
        self.stays(lemmy, name, cookie)
        self.assertNotIn(SECRET, lemmy.output())
        self.assertEqual(0, lemmy.stop())
        again = self.starts(settings, environment=environment)
        self.stays(again, name, cookie)
        rest = [o.url for o in self.origins if o.url != self.url(name)]
        again.reload(configuration(rest, cluster=settings["clusters"]["c"] | {"backends": rest}))
        moved, rewritten, _ = self.ask(again, Cookie=cookie)
        self.assertNotEqual(name, moved)
        self.stays(again, moved, rewritten)
        self.assertNotIn("Traceback", again.output())

    def url(self, name: str) -> str:
        """Of the server of this name."""
        return {"one": self.origins[0], "two": self.origins[1], "three": self.origins[2]}[name].url

    def test_workers(self) -> None:
        """Without a secret the workers of an instance have one in common; another instance does not know it."""
        settings = self.settings({"cookie": "lemmy"}, workers=2)
        lemmy = self.starts(settings)
        lemmy.manned(2)
        lemmy.says("has no 'secret', so clients are bound until this program ends")
        name, cookie, _ = self.ask(lemmy)
        for _ in range(4):
            self.stays(lemmy, name, cookie)
        lemmy.reload(settings | {"limits": {"headers": 99}})
        self.stays(lemmy, name, cookie)
        other = self.starts(settings)
        self.assertRegex(self.ask(other, Cookie=cookie)[1], "lemmy=")

    def test_reload_of_secrets(self) -> None:
        """A secret can be changed while clients stay where they are, and no log shows it."""
        lemmy = self.starts(self.settings({"header": "X-Bound", "secrets": [SECRET]}))
        connection = HTTPConnection("127.0.0.1", lemmy.port, timeout=30)
        self.addCleanup(connection.close)

        def bound(value: str = "") -> tuple[str, str]:
            connection.request("GET", "/", headers={"X-Bound": value} if value else {})
            answer = connection.getresponse()
            return answer.read().decode().partition(" ")[0], answer.getheader("X-Bound") or ""

        name, old = bound()
        lemmy.reload(self.settings({"header": "X-Bound", "secrets": [SECRET[::-1], SECRET]}))
        again, new = bound(old)
        self.assertEqual(name, again)
        self.assertNotIn(new, ("", old))
        lemmy.reload(self.settings({"header": "X-Bound", "secret": SECRET[::-1]}))
        self.assertEqual((name, ""), bound(new))
        self.assertNotEqual("", bound(old)[1])
        self.assertNotIn(SECRET, lemmy.output())
        self.assertNotIn(SECRET[::-1], lemmy.output())


class PinTests(StickyCase):
    """Pins."""

    def test_pin(self) -> None:
        """Each server is reached by its name, from a network that may and with a signature; no other name is."""
        settings = self.settings(None)
        routes = [
            {"path": "/", "headers": {"x-signed": True}, "cluster": "c", "pin": {"cookie": "B", "secret": SECRET}},
            {"cluster": "c", "pin": {"header": "X-Backend", "allow": ["127.0.0.0/8"]}},
        ]
        settings["vhosts"] = [{"hosts": ["*"], "routes": routes}]
        lemmy = self.starts(settings)
        for origin, name in zip(self.origins, ("one", "two", "three"), strict=True):
            backend = f"b-{origin.port}"
            for _ in range(2):
                self.assertEqual((name, "", backend), self.ask(lemmy, X_Backend=backend))
                signed = sign(SECRET.encode(), "c", backend)
                self.assertEqual((name, "", backend), self.ask(lemmy, X_Signed="1", Cookie=f"B={signed}"))
                self.assertEqual("", self.ask(lemmy, X_Signed="1", Cookie=f"B={backend}")[2])
        self.assertEqual(("400", "", ""), self.ask(lemmy, X_Backend="b-0"))
        gone = self.origins[1]
        gone.kill()
        self.assertEqual(("502", "", f"b-{gone.port}"), self.ask(lemmy, X_Backend=f"b-{gone.port}"))
