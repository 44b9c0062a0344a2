"""
The whole in this process: L{lemmytx.instance}, alone and with workers, from the start to the end.

What clients see of it is tested with processes of its own, in C{tests.process}.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site

from lemmytx import config
from lemmytx.assemble import CannotStart
from lemmytx.crew import Crew
from lemmytx.instance import Instance, build
from lemmytx.interfaces import Busy, Refused
from lemmytx.net.sockets import Sockets
from lemmytx.upgrade import Inheritance


class Hello(Resource):
    """A backend."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """One answer for all."""
        return b"hello"


class Watched:
    """The reactor, but that it cannot be stopped."""

    def __init__(self) -> None:
        self.stops = 0

    def stop(self) -> None:
        """Count."""
        self.stops += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(installed, name)


class InstanceTests(TestCase):
    """One process."""

    workers = 1

    def setUp(self) -> None:
        self.reactor = Watched()
        self.backend: Any = installed.listenTCP(0, Site(Hello()), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.backend.stopListening)
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.file = os.path.join(self.folder, "lemmy.json")
        self.settings: dict[str, Any] = {
            "workers": self.workers,
            "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
            "vhosts": [{"hosts": ["*"], "cluster": "web"}],
            "clusters": {"web": {"backends": [self.url()]}},
            "admin": {"endpoint": f"unix:{self.folder}/admin"},
            "access_log": {"format": "json", "path": f"{self.folder}/access"},
            "timeouts": {"drain": 2},
        }
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        """What is logged."""
        if event.get("log_namespace", "").startswith("lemmytx"):
            self.said.append(event["log_format"].format(**event))

    def url(self, host: str = "127.0.0.1") -> str:
        """The backend's, by one of its names."""
        return f"http://{host}:{self.backend.getHost().port}"

    def write(self, **settings: Any) -> None:
        """The configuration file, with these settings instead."""
        self.settings.update(settings)
        with open(self.file, "w") as file:
            json.dump(self.settings, file)

    async def start(self, **more: Any) -> Instance:
        """One that serves."""
        self.write()
        instance = build(config.load(self.file), self.file, self.reactor, "epoll", **more)
        instance.privilegedStartService()
        instance.startService()
        self.addCleanup(self.stop, instance)
        await self.until(lambda: instance.ready() is None)
        return instance

    async def stop(self, instance: Instance) -> None:
        """Its end, if that has not come."""
        if instance.running:
            await instance.stopService()

    async def until(self, condition: Any, seconds: float = 20.0) -> None:
        """Wait for what must happen."""
        end = self.reactor.seconds() + seconds
        while not condition():
            self.assertLess(self.reactor.seconds(), end, self.said)
            await deferLater(self.reactor, 0.02)  # type: ignore[arg-type]  # as far as it is needed

    def port(self, instance: Instance, number: int = 0) -> int:
        """Where a listener listens."""
        opened = instance._sockets._opened[instance.configuration.listeners[number].endpoint]
        return int(opened.sockets[0].getsockname()[1])

    async def get(self, port: int) -> tuple[int, bytes]:
        """Ask a listener."""
        response: Any = await Agent(installed).request(b"GET", b"http://127.0.0.1:%d/" % port)  # type: ignore[arg-type]
        return response.code, await readBody(response)

    async def refused(self, asked: Any, kind: type[Exception]) -> str:
        """That it is, and why."""
        try:
            await asked
        except kind as error:
            return str(error)
        raise AssertionError("it was not refused")

    async def test_life(self) -> None:
        """It serves, takes another configuration, counts on, and ends; nothing is left of it."""
        instance = await self.start()
        self.assertEqual(await self.get(self.port(instance)), (200, b"hello"))
        first = self.port(instance)
        self.write(
            listeners=[*self.settings["listeners"], {"endpoint": "tcp:0:interface=localhost"}],
            clusters={
                "web": {"backends": [self.url(), {"url": self.url("127.0.0.2"), "capacity": 3, "role": "backup"}]}
            },
        )
        changed = await instance.reload()
        self.assertEqual(
            changed,
            ["listeners[tcp:0:interface=localhost]: added", f"clusters.web.backends[{self.url('127.0.0.2')}]: added"],
        )
        self.assertIn("reloaded: 2 changes", self.said)
        self.assertEqual(await self.get(first), (200, b"hello"))
        self.assertEqual(await self.get(self.port(instance, 1)), (200, b"hello"))
        snapshot = await instance.snapshot()
        self.assertEqual(sum(figures.traffic.count for figures in snapshot.vhosts.values()), 3)
        self.assertEqual(len(instance.workers()), self.workers if self.workers > 1 else 0)
        self.assertEqual(await instance.reload(), [])
        self.write(listeners=self.settings["listeners"][:1], access_log={"format": "off"})
        second = self.port(instance, 1)
        await instance.reload()
        await self.refused(self.get(second), Exception)
        instance.reopen_logs()
        await instance.stopService()
        await self.refused(self.get(first), Exception)
        self.assertEqual(instance.ready(), "draining")
        self.assertFalse(os.path.exists(f"{self.folder}/admin"))

    async def test_new_listener(self) -> None:
        """A listener that comes with a reload goes by the limits that come with it."""
        instance = await self.start()
        more = [*self.settings["listeners"], {"endpoint": "tcp:0:interface=localhost"}]
        self.write(listeners=more, limits={"headers": 1})
        await instance.reload()
        for number in (0, 1):
            self.assertEqual((await self.get(self.port(instance, number)))[0], 431, number)

    async def test_stopped_meanwhile(self) -> None:
        """A reload that is under way when the end comes is refused, and opens nothing any more."""
        instance = await self.start()
        before = instance.configuration
        self.write(listeners=[*self.settings["listeners"], {"endpoint": "tcp:0:interface=localhost"}])
        reloading = Deferred.fromCoroutine(instance.reload())
        ending = instance.stopService()
        await self.refused(reloading, Refused)
        await ending
        self.assertIs(instance.configuration, before)

    async def test_refused(self) -> None:
        """What is wrong with a configuration is told, and nothing has changed."""
        instance = await self.start()
        before = instance.configuration
        self.write(nonsense=1)
        self.assertIn("nonsense: no such setting", await self.refused(instance.reload(), config.ConfigurationError))
        del self.settings["nonsense"]
        good = self.settings["listeners"]
        self.write(listeners=[*good, {"endpoint": "tcp:9:interface=192.0.2.1"}])
        self.assertIn("cannot listen on 'tcp:9:interface=192.0.2.1'", await self.refused(instance.reload(), Refused))
        self.write(listeners=good, workers=3 - self.workers)
        self.assertIn("lemmy upgrade", await self.refused(instance.reload(), Refused))
        self.assertIs(instance.configuration, before)
        self.assertEqual(await self.get(self.port(instance)), (200, b"hello"))
        self.assertEqual(len([line for line in self.said if line.startswith("reload refused")]), 3)

    async def test_pipe(self) -> None:
        """A configuration from a pipe is not read again: nobody may ever write to it."""
        instance = await self.start()
        os.unlink(self.file)
        os.mkfifo(self.file)
        self.assertIn("is a pipe", await self.refused(instance.reload(), Refused))

    async def test_one_at_a_time(self) -> None:
        """A second reload is refused while the first runs; one by a signal is not lost."""
        instance = await self.start()
        self.write(limits={"headers": 50})
        first = Deferred.fromCoroutine(instance.reload())
        await self.refused(instance.reload(), Busy)
        await self.refused(instance.upgrade(), Busy)
        instance.asked_to_reload()
        self.assertEqual(await first, ["limits.headers: 100 → 50"])
        await self.until(lambda: "reloaded: nothing has changed" in self.said)

    async def test_admin(self) -> None:
        """The admin side moves to another endpoint, and its tokens are replaced."""
        instance = await self.start()
        self.write(admin={"endpoint": f"unix:{self.folder}/other"})
        await instance.reload()
        self.assertEqual(sorted(os.listdir(self.folder)), ["access", "lemmy.json", "other"])

    async def test_upgrade(self) -> None:
        """With a successor at work this one ends; its sockets and their files are the other's."""
        asked = []

        async def successor(sockets: Sockets) -> int:
            asked.append(sockets)
            if len(asked) == 1:
                raise Refused("not today")
            return 4711

        instance = await self.start(successor=successor)
        self.assertEqual(await self.refused(instance.upgrade(), Refused), "not today")
        self.assertEqual(await self.get(self.port(instance)), (200, b"hello"))
        self.assertEqual(await instance.upgrade(), 4711)
        await self.until(lambda: self.reactor.stops)
        await instance.stopService()
        self.assertTrue(os.path.exists(f"{self.folder}/admin"))

    async def test_no_successor(self) -> None:
        """Where nobody knows how the program was started there is no upgrade."""
        instance = await self.start()
        await self.refused(instance.upgrade(), Refused)
        instance.asked_to_upgrade()

    async def test_delay(self) -> None:
        """Clients are accepted for a while after the end was asked for, unless somebody is in a hurry."""
        self.settings["shutdown"] = {"delay": 600}
        instance = await self.start()
        ending = instance.stopService()
        self.assertEqual(instance.ready(), "draining")
        self.assertEqual(await self.get(self.port(instance)), (200, b"hello"))
        instance.hurry()
        await ending
        await self.refused(self.get(1), Exception)


class NothingTests(TestCase):
    """An instance that cannot begin."""

    def test_no_file(self) -> None:
        """Without a file there is nothing to read again, which is said once it serves."""
        instance = build(config.read(b"admin: {endpoint: 'tcp:0:interface=127.0.0.1'}", "x"), "", installed)
        self.failureResultOf(Deferred.fromCoroutine(instance.reload()), Refused)

    def test_inherited_rubbish(self) -> None:
        """Sockets that are none end the start with a clear text."""
        inheritance = Inheritance({})
        inheritance.sockets = {"sockets": {"tcp:1": [[0]]}, "systemd": []}
        error = self.assertRaises(
            CannotStart, build, config.read(b"admin: {}", "x"), "", installed, inheritance=inheritance
        )
        self.assertIn("cannot be taken over", str(error))


class WorkersTests(InstanceTests):
    """A parent and two workers."""

    workers = 2

    async def test_killed(self) -> None:
        """A worker that dies is replaced, the log says why, and what it had counted is not lost."""
        instance = await self.start()
        await self.get(self.port(instance))
        await instance.snapshot()
        victim = instance.workers()[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        await self.until(lambda: any("killed by signal 9" in line for line in self.said))
        await self.until(lambda: sum("serves" in line for line in self.said if line.startswith("worker")) >= 3)
        snapshot = await instance.snapshot()
        self.assertEqual(sum(figures.traffic.count for figures in snapshot.vhosts.values()), 1)
        self.assertEqual([entry["restarts"] for entry in instance.workers()], [1, 0])

    async def test_more_and_fewer(self) -> None:
        """A reload changes how many there are."""
        instance = await self.start()
        self.write(workers=3)
        self.assertEqual(await instance.reload(), ["workers: 2 → 3"])
        await self.until(lambda: len(instance.workers()) == 3)
        self.write(workers=2)
        await instance.reload()
        await self.until(lambda: len(instance.workers()) == 2)
        self.assertEqual(await self.get(self.port(instance)), (200, b"hello"))

    async def test_shares(self) -> None:
        """
        The parts of a capacity are given out anew, and never add up to more than it is; nor when a worker has died and
        comes back to what others have taken.
        """
        self.settings["clusters"]["web"]["backends"] = [{"url": self.url(), "capacity": 5}]
        instance = await self.start()
        crew = instance._members
        assert isinstance(crew, Crew)
        await self.until(lambda: all(worker.serving for worker in crew._workers.values()))
        for _ in range(2):
            await crew._division.divide()
        name = self.url().removeprefix("http://")

        async def rooms() -> list[int]:
            loads = [await crew._division._load(worker) for worker in crew._workers.values()]
            return sorted(load["web"].rooms[name].room for load in loads)

        self.assertEqual(await rooms(), [2, 3])
        os.kill(crew._workers[0].pid, signal.SIGKILL)
        await self.until(lambda: 0 not in crew._workers)
        await crew._division.divide()
        self.assertEqual(await rooms(), [5])
        await self.until(lambda: 0 in crew._workers and crew._workers[0].serving)
        self.assertEqual(await rooms(), [2, 3])

    async def test_stuck(self) -> None:
        """A worker that does not answer is told once, and killed at last."""
        instance = await self.start()
        crew = instance._members
        assert isinstance(crew, Crew)
        await self.until(lambda: all(worker.serving for worker in crew._workers.values()))
        worker = crew._workers[0]
        os.kill(worker.pid, signal.SIGSTOP)
        now = self.reactor.seconds()
        worker.asked_at = now - 11
        crew._watch.look()
        self.assertIn(f"{worker} has not answered for 11 s", [line.replace("11.0", "11") for line in self.said])
        worker.asked_at = now - 61
        crew._watch.look()
        await self.until(lambda: any("killed by signal 9" in line for line in self.said))
