"""The file that takes one line per request: L{lemmytx.net.log_file}."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net.log_file import BATCH, INTERVAL, LogFile


class LogFileTests(SynchronousTestCase):
    """
    With the real thread. What it has to tell comes through a queue, on which the tests wait.
    """

    def setUp(self) -> None:
        self.folder = self.mktemp()
        os.mkdir(self.folder)
        self.path = os.path.join(self.folder, "access.log")
        self.clock = Clock()
        self.told: Queue[Callable[[], None]] = Queue()
        self.events: list[dict[str, Any]] = []

    def open(self, path: str | None = None, **options: Any) -> LogFile:
        """A log file at work."""
        log = LogFile(
            path or self.path,
            self.clock,
            lambda function, *arguments: self.told.put(lambda: function(*arguments)),
            retry=0.005,
            log=Logger(observer=self.events.append, namespace="test"),
            **options,
        )
        log.start()
        self.addCleanup(log.close, 0.1)
        return log

    def hear(self) -> None:
        """Wait until the thread tells something, and let the reactor's side know."""
        self.told.get(timeout=30)()

    def drain(self, log: LogFile) -> None:
        """Wait until the thread is through with everything that it has been given."""
        log.flush()
        through = threading.Event()

        def nothing() -> Iterator[bytes]:
            """A batch without a line, which notices when it is its turn."""
            through.set()
            yield from ()

        log._writer.work.put(nothing())  # type: ignore[arg-type]  # any iterable does
        self.assertTrue(through.wait(30))

    def lines(self, path: str | None = None) -> list[bytes]:
        """What stands in the file."""
        with open(path or self.path, "rb") as file:
            return file.read().splitlines()

    def said(self) -> list[str]:
        """The log's messages, by their formats."""
        return [event["log_format"].format(**event) for event in self.events]

    def test_recorder(self) -> None:
        """A recorder's lines come between the others, in order, and a full buffer is handed on without the timer."""
        log = self.open()
        record = log.recorder(lambda entry, lines: lines.extend(b"%d\n" % entry))
        log.append(b"0\n")
        for entry in range(1, BATCH):
            record(entry)
        through = log._handed
        self.assertGreater(through, BATCH)
        self.drain(log)
        with open(self.path, "rb") as file:
            self.assertEqual([int(line) for line in file], list(range(BATCH)))

    def test_lines_in_order(self) -> None:
        """Lines stand in the file in the order in which they came, all of them, once it is closed."""
        log = self.open()
        expected = [b"line %d" % number for number in range(20_000)]
        for line in expected:
            log.append(line + b"\n")
        log.close()
        self.assertEqual(self.lines(), expected)
        self.assertEqual(self.said(), [])

    def test_timer(self) -> None:
        """A single line is written when the timer comes, without any more."""
        os.mkfifo(self.path)
        log = self.open()
        log.append(b"one\n")
        self.clock.advance(INTERVAL)
        with open(self.path, "rb") as file:
            self.assertEqual(file.readline(), b"one\n")

    def test_batch(self) -> None:
        """Much at a time is written without the timer."""
        os.mkfifo(self.path)
        log = self.open()
        line = b"x" * 999 + b"\n"
        for _ in range(BATCH // len(line) + 1):
            log.append(line)
        with open(self.path, "rb") as file:
            self.assertEqual(file.readline(), line)
            self.assertEqual(len(file.read(BATCH - len(line))), BATCH - len(line))

    def test_append_only_gathers(self) -> None:
        """A line by itself reaches the writer only through the timer: the request that it is of does no more for it."""
        log = self.open()
        log.append(b"one\n")
        self.assertTrue(log._writer.work.empty())
        self.clock.advance(INTERVAL)
        log.close()
        self.assertEqual(self.lines(), [b"one"])

    def test_appended_to(self) -> None:
        """What is in the file stays."""
        with open(self.path, "wb") as file:
            file.write(b"old\n")
        log = self.open()
        log.append(b"new\n")
        log.close()
        self.assertEqual(self.lines(), [b"old", b"new"])

    def test_not_for_everyone(self) -> None:
        """A new file cannot be read by others: addresses are personal data."""
        self.open().close()
        self.assertEqual(os.stat(self.path).st_mode & 0o007, 0)

    def test_rotation(self) -> None:
        """After the file was moved and C{reopen}, earlier lines are in the old one and later ones in a new one."""
        log = self.open()
        log.append(b"before\n")
        self.drain(log)
        os.rename(self.path, self.path + ".1")
        log.append(b"still before\n")
        log.reopen()
        log.append(b"after\n")
        log.close()
        self.assertEqual(self.lines(self.path + ".1"), [b"before", b"still before"])
        self.assertEqual(self.lines(), [b"after"])

    def test_missing_folder(self) -> None:
        """Without the folder it says so once, keeps the lines, and writes them when the folder has come."""
        path = os.path.join(self.folder, "later", "access.log")
        log = self.open(path)
        self.hear()
        log.append(b"one\n")
        log.flush()
        log.append(b"two\n")
        log.flush()
        os.mkdir(os.path.dirname(path))
        self.hear()
        log.close()
        self.assertEqual(self.lines(path), [b"one", b"two"])
        self.assertEqual(len(self.events), 2, self.said())
        self.assertIn("No such file or directory", self.said()[0])
        self.assertIn("can be written again", self.said()[1])
        self.assertEqual(log.dropped, 0)

    def test_disk_full(self) -> None:
        """A full disk is said once; when there is room again the lines are written, none twice."""
        os.symlink("/dev/full", self.path)
        log = self.open()
        log.append(b"one\n")
        log.flush()
        self.hear()
        log.append(b"two\n")
        log.flush()
        os.unlink(self.path)
        self.hear()
        log.close()
        self.assertEqual(self.lines(), [b"one", b"two"])
        self.assertEqual(len(self.events), 2, self.said())
        self.assertIn("No space left on device", self.said()[0])

    def test_bounded(self) -> None:
        """While nothing can be written, no more than the limit waits; the rest is dropped, counted and told once."""
        os.symlink("/dev/full", self.path)
        log = self.open(limit=100)
        log.append(b"first\n")
        log.flush()
        self.hear()
        for _ in range(50):
            log.append(b"123456789\n")
            log.flush()
        self.assertEqual(log.dropped, 41)
        self.assertEqual(len(self.events), 2, self.said())
        self.assertIn("lines are dropped", self.said()[1])
        self.assertIn("No space left on device", self.said()[1])

    def test_dropping_ends(self) -> None:
        """When half of what waits is out, lines are taken again, and it says how many were lost."""
        os.mkfifo(self.path)
        log = self.open(limit=100)
        for _ in range(20):
            log.append(b"123456789\n")
            log.flush()
        self.assertEqual(log.dropped, 10)
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(100), b"123456789\n" * 10)
            self.drain(log)
            log.append(b"after\n")
            log.flush()
            self.assertEqual(file.readline(), b"after\n")
        self.assertEqual(log.dropped, 10)
        self.assertEqual(len(self.events), 2, self.said())
        self.assertIn("10 lines were dropped", self.said()[1])

    def test_removed(self) -> None:
        """A file that was removed, not moved, is made anew: nobody could read the old one."""
        log = self.open()
        log.append(b"one\n")
        self.drain(log)
        os.unlink(self.path)
        log.append(b"two\n")
        log.close()
        self.assertEqual(self.lines(), [b"two"])

    def test_end_in_trouble(self) -> None:
        """With a full disk the process can end at once, and the loss is told."""
        os.symlink("/dev/full", self.path)
        log = self.open()
        log.append(b"one\n")
        log.flush()
        self.hear()
        log.close()
        self.assertIn("the last 4 bytes could not be written", self.said()[-1])

    def test_end_when_blocked(self) -> None:
        """A pipe that nobody reads does not keep the process from ending."""
        os.mkfifo(self.path)
        log = self.open()
        log.append(b"one\n")
        log.close(patience=0.01)
        self.assertIn("the last 4 bytes could not be written", self.said()[-1])

    def test_nothing_more_after_the_end(self) -> None:
        """A closed log leaves no timer behind."""
        log = self.open()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        log.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_impossible_path(self) -> None:
        """A path that can be none is told like one that does not exist."""
        self.open("a\0b")
        self.hear()
        self.assertIn("null byte", self.said()[0])

    def test_slow_reader(self) -> None:
        """A full pipe that does not block is waited for: nothing is lost, and that is no trouble."""
        program = (
            "import os, sys\n"
            "from twisted.internet.task import Clock\n"
            "from lemmytx.net.log_file import LogFile\n"
            "os.set_blocking(1, False)\n"
            "log = LogFile('-', Clock(), lambda *trouble: print(trouble, file=sys.stderr))\n"
            "log.start()\n"
            "for number in range(20000):\n"
            "    log.append(b'line %05d\\n' % number)\n"
            "while log._writer.written < 65536: pass\n"  # as much as a pipe holds
            "print('full', file=sys.stderr)\n"
            "log.close(30)\n"
        )
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stderr is not None
        first = child.stderr.readline()
        out, told = child.communicate(timeout=60)
        self.assertEqual((first, told), (b"full\n", b""))
        self.assertEqual(out, b"".join(b"line %05d\n" % number for number in range(20_000)))

    def test_standard_output(self) -> None:
        """C{-} is standard output, also when that is a pipe; reopening does not close it."""
        program = (
            "from twisted.internet.task import Clock\n"
            "from lemmytx.net.log_file import LogFile\n"
            "log = LogFile('-', Clock(), print)\n"
            "log.start()\n"
            "log.append(b'one\\n')\n"
            "log.reopen()\n"
            "log.append(b'two\\n')\n"
            "log.close()\n"
            "print('three')\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
        self.assertEqual(done.stdout, b"one\ntwo\nthree\n")

    def test_processes(self) -> None:
        """Processes that write to one pipe and share a lock do so one after the other: each batch comes whole."""
        program = (
            "import sys\n"
            "from twisted.internet.task import Clock\n"
            "from lemmytx.net.log_file import LogFile\n"
            "log = LogFile('-', Clock(), print, lock=int(sys.argv[2]))\n"
            "log.start()\n"
            "for _ in range(10):\n"
            "    log.append(sys.argv[1].encode() * 300_000 + b'\\n')\n"
            "    log.flush()\n"
            "print('begun', file=sys.stderr)\n"
            "log.close(30)\n"
        )
        lock = os.memfd_create("lock")
        self.addCleanup(os.close, lock)
        there, here = os.pipe()
        children = [
            subprocess.Popen(
                [sys.executable, "-c", program, letter, str(lock)],
                stdout=here,
                stderr=subprocess.PIPE,
                pass_fds=[lock],
            )
            for letter in "ab"
        ]
        os.close(here)
        for child in children:
            # More than a pipe holds: both are at it now.
            assert child.stderr is not None
            self.assertEqual(child.stderr.readline(), b"begun\n")
        with open(there, "rb") as pipe:
            lines = pipe.read().splitlines()
        for child in children:
            self.assertEqual(child.communicate(timeout=60)[1], b"")
        torn = [line for line in lines if line not in (b"a" * 300_000, b"b" * 300_000)]
        self.assertEqual((len(lines), len(torn)), (20, 0))

    def test_no_lock_for_files(self) -> None:
        """A regular file is written without asking for the lock: appending needs none."""
        log = self.open(lock=self.no_lock())
        log.append(b"one\n")
        log.reopen()
        log.append(b"two\n")
        log.close()
        self.assertEqual((self.lines(), self.said()), ([b"one", b"two"], []))

    def test_lock_in_trouble(self) -> None:
        """A lock that cannot be had is trouble like any other: it is told, and the lines wait."""
        os.mkfifo(self.path)
        with open(self.path, "r+b", buffering=0):
            log = self.open(lock=self.no_lock())
            log.append(b"one\n")
            log.flush()
            self.hear()
            log.close()
        self.assertIn("Bad file descriptor", self.said()[0])
        self.assertIn("the last 4 bytes could not be written", self.said()[-1])

    def no_lock(self) -> int:
        """A descriptor that cannot be locked: it is not open for writing."""
        descriptor = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        return descriptor
