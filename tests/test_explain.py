"""What would become of a request, between a parent and its workers: L{lemmytx.worker} and L{lemmytx.crew}."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.asking import STATISTICS
from lemmytx.commands import PART
from lemmytx.crew import Crew
from lemmytx.interfaces import Busy, Refused
from lemmytx.proxy.explain import MOST, BadQuestion
from lemmytx.worker import Worker

ASKED = json.dumps(["http://a/", "GET", [["A", "b"]], "::1"]).encode()


class Serving:
    """
    Says much.

    @ivar size: bytes for each backend, which nothing makes shorter.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.sightings = self
        self.tell: Any = None
        self.asked: list[Any] = []

    def explain(self, url: str, method: str, fields: list[list[str]], client: str, most: int) -> dict[str, Any]:
        """So much for so many."""
        self.asked = [url, method, fields, client]
        chance = random.Random(1)
        return {"backends": [chance.randbytes(self.size).hex() for _ in range(most)]}


class WorkerTests(SynchronousTestCase):
    """The answer has to fit into a box."""

    def told(self, size: int) -> int:
        """Of how many backends is told with so much to say of each."""
        serving: Any = Serving(size)
        answer = Worker(serving, Clock()).explain(ASKED)["answer"]
        self.assertEqual(serving.asked, json.loads(ASKED))
        self.assertLessEqual(len(answer), PART)
        return len(json.loads(zlib.decompress(answer))["backends"])

    def test_fits(self) -> None:
        """As many backends as fit are told one by one; if not even ten do, nothing is."""
        self.assertEqual([self.told(size) for size in (10, 200, 2000)], [MOST, MOST // 10, MOST // 100])
        with self.assertRaises(BadQuestion):
            self.told(7000)


class Control:
    """A worker's control connection."""

    def __init__(self, outcome: Any) -> None:
        self.transport = self
        self.outcome = outcome
        self.asked: list[bytes] = []

    def callRemote(self, command: Any, asked: bytes) -> Deferred[Any]:
        """What it was told to answer; L{None}: nothing."""
        self.asked.append(asked)
        answer: Deferred[Any] = Deferred()
        if isinstance(self.outcome, Exception):
            answer.errback(self.outcome)
        elif self.outcome is not None:
            answer.callback({"answer": zlib.compress(json.dumps(self.outcome).encode())})
        return answer


class Process:
    """As much of a worker as its parent looks at."""

    pid = 1

    def __init__(self, number: int, outcome: Any, serving: bool = True, leaving: bool = False) -> None:
        self.name = number + 1
        self.serving = serving
        self.leaving = leaving
        self.control = Control(outcome)


class CrewTests(SynchronousTestCase):
    """Who is asked."""

    def ask(self, *processes: Process, url: str = "http://a/") -> Any:
        """What comes of it."""
        self.clock = Clock()
        crew = Crew(self.clock, "lemmy", 0)
        members: Any = dict(enumerate(processes))
        crew._workers = members
        asked = Deferred.fromCoroutine(crew.explain(url, "GET", [("A", "b")], "::1"))
        for _ in processes:
            self.clock.advance(STATISTICS)
        return asked

    def test_first(self) -> None:
        """The first that serves and is to stay is asked, and alone."""
        processes = (
            Process(0, {"a": 0}, serving=False),
            Process(1, {"a": 1}, leaving=True),
            Process(2, {"a": 2}),
            Process(3, {"a": 3}),
        )
        self.assertEqual(self.successResultOf(self.ask(*processes)), {"worker": 3, "a": 2})
        self.assertEqual([process.control.asked for process in processes], [[], [], [ASKED], []])

    def test_next(self) -> None:
        """When it is gone, or says nothing, the next one is."""
        processes = Process(0, None), Process(1, ConnectionLost()), Process(2, {"a": 2})
        self.assertEqual(self.successResultOf(self.ask(*processes)), {"worker": 3, "a": 2})

    def test_nobody(self) -> None:
        """If nobody answers, that is said."""
        for processes in ((), (Process(0, None),)):
            self.assertEqual(str(self.failureResultOf(self.ask(*processes), Busy).value), "no worker answers")

    def test_bad(self) -> None:
        """What can be no request is refused by the first."""
        first, second = Process(0, BadQuestion("url: no")), Process(1, {})
        self.assertEqual(str(self.failureResultOf(self.ask(first, second), Refused).value), "url: no")
        self.assertEqual(second.control.asked, [])
        self.failureResultOf(self.ask(first, url="http://a/" + "x" * PART), Refused)
