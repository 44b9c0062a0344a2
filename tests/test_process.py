"""What a worker says, on its way from its standard error into the parent's log."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.process import LONGEST, Worker
from lemmytx.worker import Lines


class LinesTests(SynchronousTestCase):
    """A worker's side."""

    def setUp(self) -> None:
        self.here, self.there = os.pipe()
        self.addCleanup(os.close, self.here)
        self.addCleanup(os.close, self.there)
        os.set_blocking(self.here, False)
        self.lines = Lines(self.there)

    def say(self, text: str, **more: Any) -> None:
        """Something happens."""
        self.lines({"log_format": "{text}", "text": text, "log_level": LogLevel.warn, "log_namespace": "x.y", **more})

    def read(self) -> list[dict[str, str]]:
        """What the parent gets."""
        data = b""
        while True:
            try:
                data += os.read(self.here, 1 << 20)
            except BlockingIOError:
                return [json.loads(line) for line in data.splitlines()]

    def test_line(self) -> None:
        """An event is a line of JSON with its level and namespace, whatever its text."""
        self.say('one\n"two" é')
        self.assertEqual(self.read(), [{"level": "warn", "namespace": "x.y", "text": 'one\n"two" é'}])

    def test_failure(self) -> None:
        """A failure comes with its traceback."""
        try:
            raise RuntimeError("sabotage")
        except RuntimeError:
            self.say("it broke", log_failure=Failure())
        self.assertIn("RuntimeError: sabotage", self.read()[0]["text"])

    def test_nobody_reads(self) -> None:
        """While the parent does not read, nothing waits: lines are dropped, and the next one says how many."""
        for number in range(2000):
            self.say(f"{number} {'x' * 100}")
        kept = self.read()
        self.assertLess(len(kept), 2000)
        self.say("again")
        rest = self.read()
        self.assertEqual(len(kept) + len(rest) + self.dropped(rest[-1]), 2001)
        self.say("and again")
        self.assertEqual([line["text"] for line in self.read()], ["and again"])

    def dropped(self, line: dict[str, str]) -> int:
        """How many a line says were dropped before it."""
        self.assertTrue(line["text"].startswith("again ("), line)
        return int(line["text"].removeprefix("again (").split()[0])


class OutputTests(SynchronousTestCase):
    """The parent's side."""

    def setUp(self) -> None:
        self.ends: list[str] = []
        self.worker = Worker(1, lambda worker, why: self.ends.append(why))
        self.worker.pid = 77
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        """What is logged."""
        self.events.append(dict(event))

    def said(self) -> list[tuple[str, str, str]]:
        """Level, namespace and text of each."""
        return [(e["log_level"].name, e["log_namespace"], f"{e['who']}: {e['text']}") for e in self.events]

    def test_line(self) -> None:
        """A line, however it is cut, is logged as it was meant, with the worker's name."""
        line = json.dumps({"level": "warn", "namespace": "x.y", "text": "{hello}"}).encode() + b"\n"
        for byte in line:
            self.worker.errReceived(bytes((byte,)))
        self.assertEqual(self.said(), [("warn", "x.y", "worker 2 (pid 77): {hello}")])

    def test_no_json(self) -> None:
        """What the interpreter itself says is an error."""
        self.worker.errReceived(b'Fatal Python error\n{"level": 3}\n[]\n\xff\n')
        self.assertEqual({level for level, _, _ in self.said()}, {"error"})
        self.assertEqual(len(self.events), 4)

    def test_long(self) -> None:
        """A line without end is not kept for ever, and the last one needs no line feed."""
        self.worker.errReceived(b"x" * (LONGEST + 1))
        self.assertEqual(len(self.events), 1)
        self.worker.errReceived(b"the end")
        self.worker.processEnded(Failure(ProcessTerminated(signal=9)))
        self.assertEqual(self.said()[-1][2], "worker 2 (pid 77): the end")

    def test_ends(self) -> None:
        """How it ended is said in words, and once it has, those who wait for it go on."""
        self.worker.processEnded(Failure(ProcessTerminated(signal=9)))
        self.successResultOf(self.worker.ended)
        Worker(1, lambda worker, why: self.ends.append(why)).processEnded(Failure(ProcessTerminated(exitCode=7)))
        Worker(1, lambda worker, why: self.ends.append(why)).processEnded(Failure(ProcessDone(None)))
        self.assertEqual(self.ends, ["killed by signal 9 (Killed)", "exit status 7", "exit status 0"])
