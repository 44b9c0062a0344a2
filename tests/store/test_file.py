"""The store in a file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from lemmytx.interfaces import IStorePlace
from lemmytx.store import file
from lemmytx.store.file import FileStore
from lemmytx.store.place import Place
from lemmytx.store.thread import Thread
from lemmytx.table import Hint, PutVhost, StoreUnavailable
from lemmytx.testing.shared_stores import SharedConformance
from lemmytx.testing.stores import DurableConformance, Opened

reactor: Any = installed


class FileConformance(SharedConformance, DurableConformance, TestCase):
    """L{FileStore} is a store."""

    def make(self, place: IStorePlace) -> FileStore:
        """See L{StoreConformance}."""
        return FileStore(place, "table.db")


class FileCase(TestCase):
    """A file that is the test's own."""

    def setUp(self) -> None:
        """A folder."""
        self.folder = os.path.abspath(self.mktemp())
        os.makedirs(self.folder)
        self.path = os.path.join(self.folder, "table.db")

    def store(self, path: str = "table.db") -> FileStore:
        """One that is closed when the test ends."""
        store = FileStore(Place(reactor, self.folder), path)
        self.addCleanup(lambda: Deferred.fromCoroutine(store.close()))
        return store

    async def opened(self) -> Opened:
        """One that is open."""
        opened = Opened(self.store(), reactor)
        await opened.open()
        return opened

    async def refused(self, asked: Awaitable[Any]) -> str:
        """Why something could not be done."""
        try:
            await asked
        except StoreUnavailable as error:
            return str(error)
        raise AssertionError("it was not refused")


class TroubleTests(FileCase):
    """What a store says of a file on bad days."""

    async def test_comesRight(self) -> None:
        """One that cannot be used says why, and tries again by itself until it can."""
        os.rmdir(self.folder)
        opened = await self.opened()
        wrong = f"{self.path} cannot be made: No such file or directory"
        self.assertEqual(opened.store.problem, wrong)
        self.assertEqual(await self.refused(opened.load()), wrong)
        self.assertEqual(await self.refused(opened.change(PutVhost("a.example"))), wrong)
        self.assertEqual(await self.refused(opened.publish()), wrong)
        await opened.store.hint(Hint("web", "one", "up"))
        os.mkdir(self.folder)
        await opened.change(PutVhost("a.example"))
        await opened.publish()
        await opened.store.hint(Hint("web", "one", "up"))
        await opened.until(lambda: not opened.store.problem, 5)
        self.assertEqual(set(opened.table.vhosts), {"a.example"})

    async def test_noticed(self) -> None:
        """What goes wrong while nobody asks is told, and so is that it is right again."""
        opened = await self.opened()
        await opened.change(PutVhost("a.example"))
        aside = self.path + ".aside"
        os.rename(self.path, aside)
        await opened.until(lambda: opened.store.problem, 5)
        self.assertIn("is gone; put it back", opened.store.problem)
        before = opened.told
        os.rename(aside, self.path)
        await opened.until(lambda: not opened.store.problem, 5)
        await opened.telling(before, 5)
        self.assertEqual(set((await opened.load()).vhosts), {"a.example"})

    async def test_partly(self) -> None:
        """That reading works does not hide that writing does not."""
        opened = await self.opened()
        opened.store._database.change = self.full
        self.assertEqual(await self.refused(opened.change(PutVhost("a.example"))), "the disk is full")
        await opened.load()
        await opened.publish()
        self.assertEqual(opened.store.problem, "the disk is full")
        del opened.store._database.change
        before = opened.told
        await opened.change(PutVhost("a.example"))
        self.assertEqual(opened.store.problem, "")
        await opened.telling(before, 5)

    def full(self, changes: object) -> None:
        """A disk."""
        raise StoreUnavailable("the disk is full")

    async def test_never(self) -> None:
        """What can never be used is refused at once, and the store is closed."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TABLE bookmarks (url)")
        opened = Opened(self.store(), reactor)
        try:
            await opened.open()
        except ValueError as error:
            self.assertIn("of another program; choose another path", str(error))
        else:
            self.fail("it was not refused")
        self.assertIn("is not open", await self.refused(opened.load()))

    async def test_stuck(self) -> None:
        """A disk that does not answer keeps nobody from ending."""
        self.patch(file, "CLOSING", 0.05)
        opened = await self.opened()
        over = threading.Event()
        self.addCleanup(over.set)
        stuck = Deferred.fromCoroutine(opened.store._ask("read", over.wait))
        stuck.addErrback(lambda failure: None)
        await opened.store.close()
        self.assertIn("is not open", await self.refused(opened.load()))


class OptionTests(FileCase):
    """The path."""

    def test_relative(self) -> None:
        """A relative path begins at the folder of the configuration, and ~ is the user's."""
        self.assertEqual(self.store("a/../b/table.db").path, os.path.join(self.folder, "b", "table.db"))
        self.assertEqual(self.store("/x/table.db").path, "/x/table.db")
        self.assertEqual(self.store("~/table.db").path, os.path.expanduser("~/table.db"))

    def test_none(self) -> None:
        """What can be no file is refused."""
        for path in ("", "table/", "a\0b"):
            self.assertIn("write the path of a file", str(self.assertRaises(ValueError, self.store, path)))


class ThreadTests(TestCase):
    """L{Thread}"""

    def made(self, regularly: Callable[[], None], interval: float = 60.0) -> Thread:
        """One that ends with the test."""
        thread = Thread(reactor, "a test", interval, regularly)
        self.addCleanup(thread.end)
        return thread

    async def test_inOrder(self) -> None:
        """What it is asked is done in that order, and who asked gets what it returns or raises."""
        seen: list[int] = []

        def job(number: int) -> int:
            seen.append(number)
            return number // (number - 3)

        thread = self.made(lambda: None)
        answers: Any = await DeferredList([thread.ask(lambda n=n: job(n)) for n in range(5)], consumeErrors=True)
        self.assertEqual(seen, [0, 1, 2, 3, 4])
        self.assertEqual([well for well, _ in answers], [True, True, True, False, True])
        answers[3][1].trap(ZeroDivisionError)

    async def test_regularly(self) -> None:
        """What is to be done again and again is, whatever it raises and whatever else is asked."""
        times: list[float] = []
        enough: Deferred[None] = Deferred()

        def regularly() -> None:
            times.append(time.monotonic())
            if len(times) < 5:
                raise RuntimeError("boom")
            if len(times) == 5:
                reactor.callFromThread(enough.callback, None)

        thread = self.made(regularly, 0.01)
        await thread.ask(lambda: time.sleep(0.05))
        await enough
        self.assertGreaterEqual(times[4] - times[0], 0.035)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)
