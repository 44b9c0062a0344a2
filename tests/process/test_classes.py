"""Queues and classes, by a process: waiting, shares, reloads, several workers, the end."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from heapq import heappop, heappush
from typing import Any

from tests.process.case import GET, ScriptedCase
from tests.process.rig import ANY, Lemmy, configuration, read
from tests.wire.reading import Message
from tests.wire.sockets import PLAIN, Backend, Client, Loop, Side

VIP = GET.replace(b"GET / ", b"GET /vip ")

BUCKETS = {"vip": {"rate": "20%", "ceil": "40%"}, "main": {"rate": "80%"}}


class ClassesTests(ScriptedCase):
    """A backend that answers when it is told to."""

    def setUp(self) -> None:
        super().setUp()
        self.clients: list[Client] = []

    def client(self, lemmy: Lemmy, data: bytes = b"") -> Client:
        """A client that has sent something."""
        self.clients.append(super().client(lemmy, data))
        return self.clients[-1]

    def nothing_left(self, lemmy: Lemmy) -> None:
        """All clients go, and every counter is back at zero."""
        for client in self.clients:
            client.close()
        super().nothing_left(lemmy)

    def settings(self, capacity: int, buckets: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
        """What is configured beside the usual."""
        cluster: dict[str, Any] = {
            "backends": [{"url": f"http://127.0.0.1:{self.backend.port}", "capacity": capacity}],
            "buckets": buckets or {},
            **settings.pop("cluster", {}),
        }
        routes: list[dict[str, Any]] = [{"cluster": "c"}]
        if buckets:
            routes.insert(0, {"path": "/vip", "cluster": "c", "bucket": "vip"})
        return {
            "vhosts": [{"hosts": ["*"], "routes": routes}],
            "access_log": {"path": "access", "format": "json"},
            "cluster": cluster,
            **settings,
        }

    def queued(self, capacity: int, buckets: dict[str, Any] | None = None, **settings: Any) -> Lemmy:
        """A proxy with these."""
        self.hold()
        return self.starts(**self.settings(capacity, buckets, **settings))

    def ask(self, lemmy: Lemmy, *requests: bytes) -> list[Client]:
        """Clients that ask, each for itself, in this order; there is an answer to none."""
        clients = []
        for request in requests:
            before = lemmy.stats()["exchanges"]
            clients.append(self.client(lemmy, request))
            self.until(lambda before=before: lemmy.stats()["exchanges"] == before + 1)  # type: ignore[misc]
        return clients

    def log(self, lemmy: Lemmy) -> list[dict[str, Any]]:
        """The access log."""
        return [json.loads(line) for line in read(os.path.join(lemmy.folder, "access")).splitlines()]

    def test_waits(self) -> None:
        """With the settings that are usual a request waits for a backend at capacity; the log has the time of it."""
        lemmy = self.queued(1)
        first, second = self.ask(lemmy, GET, GET)
        self.until(lambda: len(self.held) == 1)
        self.held.pop().write(PLAIN)
        self.answered(first, 200)
        self.until(lambda: len(self.held) == 1)
        self.held.pop().write(PLAIN)
        self.answered(second, 200)
        self.until(lambda: len(self.log(lemmy)) == 2)
        times = [line["queue_time"] for line in self.log(lemmy)]
        self.assertIsNone(times[0])
        self.assertGreater(times[1], 0)
        self.nothing_left(lemmy)

    def test_refusals(self) -> None:
        """The queue is as long, and waits as long, as configured."""
        lemmy = self.queued(1, cluster={"queue": {"limit": 1, "timeout": "300ms", "retry_after": 9}})
        first, second = self.ask(lemmy, GET, GET)
        third = self.client(lemmy, GET)
        self.until(lambda: bool(third.answers))
        self.assertIn(b"Retry-After: 9\r\n", third.received)
        self.answered(third, 503)
        self.answered(second, 504)
        self.until(lambda: len(self.log(lemmy)) == 2)
        self.assertEqual({line["termination"] for line in self.log(lemmy)}, {"queue_full", "timeout_queue"})
        self.held.pop().write(PLAIN)
        self.answered(first, 200)
        self.nothing_left(lemmy)

    def test_ensured(self) -> None:
        """A class that has less than it is ensured is served before those that came earlier."""
        lemmy = self.queued(5, BUCKETS)
        clients = self.ask(lemmy, *[GET] * 7, VIP)
        self.until(lambda: len(self.held) == 5)
        self.held.pop(0).write(PLAIN)
        self.until(lambda: len(self.held) == 5)
        self.held.pop().write(PLAIN)
        self.answered(clients[7], 200)
        while not all(client.answers for client in clients[:7]):
            self.until(lambda: bool(self.held) or all(client.answers for client in clients[:7]))
            for side in self.held:
                side.write(PLAIN)
            self.held.clear()
        self.nothing_left(lemmy)

    def test_reload(self) -> None:
        """Another capacity and other shares hold at once, for those who wait too."""
        lemmy = self.queued(5, BUCKETS)
        clients = self.ask(lemmy, *[VIP] * 4)
        self.until(lambda: len(self.held) == 2)
        settings = self.settings(5, {"vip": {"rate": "20%", "ceil": "60%"}, "main": {"rate": "80%"}})
        self.reloads(lemmy, settings)
        self.until(lambda: len(self.held) == 3)
        settings = self.settings(10, {"vip": {"rate": "20%", "ceil": "60%"}, "main": {"rate": "80%"}})
        self.reloads(lemmy, settings)
        self.until(lambda: len(self.held) == 4)
        for side in self.held:
            side.write(PLAIN)
        for client in clients:
            self.answered(client, 200)
        self.nothing_left(lemmy)

    def test_uncovered(self) -> None:
        """Who takes a backend away that classes need for what they are ensured and use is told so, and it is done."""
        ports = [f"http://{name}:{self.backend.port}" for name in ("127.0.0.1", "localhost")]
        both = {"backends": [{"url": url, "capacity": 5} for url in ports]}
        lemmy = self.queued(5, BUCKETS, cluster=both)
        clients = self.ask(lemmy, *[GET] * 7)
        self.until(lambda: len(self.held) == 7)
        lemmy.write(configuration(ports, **self.settings(5, BUCKETS, cluster={"backends": both["backends"][:1]})))
        status, said = lemmy.post("/api/v1/config/reload")
        doubt = (
            f"clusters.c: without localhost:{self.backend.port}: bucket 'main' is ensured 8 requests at one time and"
            " has 7 in flight; of 7 that are ensured and in use, 5 would be left"
        )
        self.assertEqual((200, doubt), (status, json.loads(said)["changed"][-1]))
        lemmy.says(f"reload: {doubt}")
        for side in self.held:
            side.write(PLAIN)
        for client in clients:
            self.answered(client, 200)
        self.nothing_left(lemmy)

    def reloads(self, lemmy: Lemmy, settings: dict[str, Any]) -> None:
        """The same proxy with other settings."""
        lemmy.reload(configuration(f"http://127.0.0.1:{self.backend.port}", **settings))

    def test_removed(self) -> None:
        """A reload that takes the cluster away leaves those who wait for it to be served."""
        lemmy = self.queued(1)
        first, second = self.ask(lemmy, GET, GET)
        self.until(lambda: len(self.held) == 1)
        settings: dict[str, Any] = {
            "listeners": [{"endpoint": door} for door in (ANY,)],
            "access_log": {"path": "access", "format": "json"},
        }
        lemmy.reload(settings)
        self.held.pop().write(PLAIN)
        self.answered(first, 200)
        self.until(lambda: len(self.held) == 1)
        self.held.pop().write(PLAIN)
        self.answered(second, 200)
        self.nothing_left(lemmy)

    def test_stop(self) -> None:
        """Who waits when the time to drain is over gets 503; the process ends as it should."""
        lemmy = self.queued(1, timeouts={"drain": "300ms"})
        first, second = self.ask(lemmy, GET, GET)
        lemmy.signal(signal.SIGTERM)
        self.answered(second, 503)
        self.answered(first, 503)
        self.assertEqual(0, lemmy.ended())
        self.assertNotIn("Traceback", lemmy.output())

    def test_drains(self) -> None:
        """Who waits when a process begins to drain is served, as long as there is time."""
        lemmy = self.queued(1, timeouts={"drain": 60})
        first, second = self.ask(lemmy, GET, GET)
        lemmy.signal(signal.SIGTERM)
        lemmy.says("stopping: 2 exchanges")
        self.until(lambda: len(self.held) == 1)
        self.held.pop().write(PLAIN)
        self.answered(first, 200)
        self.until(lambda: len(self.held) == 1)
        self.held.pop().write(PLAIN)
        self.answered(second, 200)
        self.assertEqual(0, lemmy.ended())

    def test_workers(self) -> None:
        """Requests wait in each of several workers, and all get through."""
        lemmy = self.queued(3, workers=2)
        clients = [self.client(lemmy, GET) for _ in range(12)]
        answered = 0
        while answered < 12:
            self.until(lambda: bool(self.held))
            self.assertLessEqual(len(self.held), 3)
            self.held.pop(0).write(PLAIN)
            answered += 1
        for client in clients:
            self.answered(client, 200)
        self.nothing_left(lemmy)

    def test_workersUnderLoad(self) -> None:
        """With several workers, and more in both classes than there is room for, no backend ever has more at one time
        than it takes, all of them are put to use, and each class has its share of them."""
        rush = Rush(self, self.loop)
        cluster = {"backends": [{"url": f"http://127.0.0.1:{each.port}", "capacity": 5} for each in rush.backends]}
        settings = {**self.settings(5, BUCKETS, cluster=cluster), "workers": 2}
        lemmy = Lemmy(self, configuration(cluster["backends"], **settings)).ready()
        lemmy.manned(2)
        # By what they take there are 100 answers in a second. Of the first 100 nothing is said.
        self.until(lambda: rush.goes_on(lemmy.port, 100, 250), rush, seconds=60)
        self.assertEqual([5] * 4, rush.most)
        self.assertGreater(rush.use, 0.8)
        share = rush.answers[100:].count(b"vip") / 250
        self.assertTrue(0.13 < share < 0.27, share)
        rush.close()
        self.nothing_left(lemmy)


class Rush:
    """
    Four backends that take a fifth of a second for a request, one more and the other less, and clients that come on
    time whether there are answers or not: 125 a second for each of two classes, as long as fewer than L{LINE} of one
    class wait.

    How many answers there are in a second is up to the machine, and to what else it does. What is not: while requests
    wait, places do not stay free. On a slow machine requests take longer, and so they have their places for longer.

    @ivar most: how many requests each backend has had at one time, at the most.
    @ivar answers: the classes of those that were answered, in the order of the answers.
    """

    LINE = 150

    def __init__(self, case: ScriptedCase, loop: Loop) -> None:
        self._case = case
        self._loop = loop
        self._due: list[tuple[float, int, int, Side]] = []
        self._busy = [0] * 4
        self._clients: list[tuple[bytes, Client]] = []
        self._begun = self._before = 0.0
        self._asked = 0
        self._seconds = self._used = 0.0
        self.most = [0] * 4
        self.answers: list[bytes] = []
        self.backends = [Backend(loop) for _ in range(4)]
        for number, backend in enumerate(self.backends):
            case.addCleanup(backend.close)
            backend.script = partial(self._take, number)

    @property
    def use(self) -> float:
        """The part of the 20 places that was in use, on the average, since what goes first was over."""
        return self._used / self._seconds / 20

    def _take(self, number: int, side: Side, _request: Message) -> None:
        self._busy[number] += 1
        self.most[number] = max(self.most[number], self._busy[number])
        seconds = 0.1 + 0.2 * (len(side.backend.requests) * 7 % 10) / 9
        heappush(self._due, (time.monotonic() + seconds, len(side.backend.requests), number, side))

    def goes_on(self, port: int, first: int, then: int) -> bool:
        """What is due now; says whether there have been so many answers, and then so many."""
        now = time.monotonic()
        self._begun = self._begun or now
        if len(self.answers) >= first:
            self._seconds += now - self._before
            self._used += (now - self._before) * sum(self._busy)
        self._before = now
        while self._due and self._due[0][0] <= now:
            _, _, number, side = heappop(self._due)
            self._busy[number] -= 1
            side.write(PLAIN)
        for name, client in self._clients:
            if client.answers or client.ended:
                self._case.assertEqual([200], [answer.status for answer in client.answers])
                self.answers.append(name)
                client.close()
        self._clients = [(name, client) for name, client in self._clients if not client.gone]
        while self._asked < 250 * (now - self._begun):
            name = b"vip" if self._asked % 2 else b""
            self._asked += 1
            if sum(name == other for other, _ in self._clients) < self.LINE:
                client = Client(self._loop, port)
                client.write(GET.replace(b"GET / ", b"GET /%b " % name))
                self._clients.append((name, client))
        if len(self.answers) < first + then:
            return False
        del self.answers[first + then :]
        return True

    def __repr__(self) -> str:
        return f"<Rush answers={len(self.answers)} busy={self._busy} most={self.most} waiting={len(self._clients)}>"

    def close(self) -> None:
        """All clients go, and the backends answer no more."""
        for _, client in self._clients:
            client.close()
