"""Stores that read and write the table as a whole, and the page that says how to write one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from lemmytx.interfaces import IStorePlace
from lemmytx.plugin import build_store, find_stores
from lemmytx.store.place import Place
from lemmytx.store.whole import Contents, WholeStore
from lemmytx.table import Member, PutMember, PutState, PutVhost, State, StoreUnavailable, Table
from lemmytx.testing.stores import DurableConformance

DOCUMENT = Path(__file__).parents[2] / "docs" / "stores.md"


def blocks() -> list[str]:
    """The Python on the page."""
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def plugin() -> dict[str, Any]:
    """What the plugin on the page defines."""
    names: dict[str, Any] = {}
    exec(compile(blocks()[0], "stores.md", "exec"), names)
    return names


class PageConformance(DurableConformance, TestCase):
    """The store on the page is one."""

    def make(self, place: IStorePlace) -> Any:
        """See L{StoreConformance}."""
        return plugin()["JsonStore"](place, "table.json")


class PageTests(SynchronousTestCase):
    """The page for authors of stores."""

    def test_plugin(self) -> None:
        """The plugin on the page is found and takes its option, and has under 25 lines of code."""
        self.assertLess(len([line for line in blocks()[0].splitlines() if line.strip()]), 25)
        folder = self.mktemp()
        os.makedirs(folder)
        Path(folder, "table.py").write_text(blocks()[0], encoding="utf-8")
        stores = find_stores([folder])
        self.assertLessEqual({"memory", "file", "json"}, set(stores))
        store: Any = build_store(stores, "json", {"path": "x.json"}, Place(None, "/etc/lemmy"))
        self.assertEqual(store.path, "/etc/lemmy/x.json")
        wrong = self.assertRaises(ValueError, build_store, stores, "json", {"pth": "x"}, Place(None, "/"))
        self.assertIn("did you mean 'path'?", str(wrong))

    def test_trying(self) -> None:
        """The tests on the page can be written like that."""
        self.assertIn("from plugins.table import JsonStore", blocks()[1])
        names: dict[str, Any] = {"JsonStore": plugin()["JsonStore"]}
        exec(compile(blocks()[1].replace("from plugins.table import JsonStore", ""), "stores.md", "exec"), names)
        self.assertTrue(issubclass(names["JsonConformance"], DurableConformance))


class Fickle(WholeStore):
    """A store whose every access may fail."""

    def __init__(self, place: IStorePlace) -> None:
        super().__init__(place)
        self.stored = Contents()
        self.wrong: Exception | None = None

    async def fetch(self) -> Contents:
        """What is stored."""
        if self.wrong is not None:
            raise self.wrong
        return self.stored

    async def keep(self, contents: Contents) -> None:
        """Store something else."""
        self.stored = contents


class WholeTests(SynchronousTestCase):
    """L{WholeStore}"""

    def setUp(self) -> None:
        """A store that is open."""
        self.clock = Clock()
        self.told = 0
        self.store = Fickle(Place(self.clock, "/"))

    def tell(self) -> None:
        """Something may have changed."""
        self.told += 1

    def open(self) -> None:
        """Begin."""
        self.successResultOf(self.store.open(self.tell, lambda hint: None))

    def test_problem(self) -> None:
        """What the author's code raises is the store's problem until it goes well again, and both are told."""
        self.store.wrong = OSError("the moon is full")
        self.open()
        self.clock.advance(0)
        self.assertEqual((self.store.problem, self.told), ("the moon is full", 1))
        for wrong in (ValueError("odd"), StoreUnavailable("away")):
            self.store.wrong = wrong
            refused = self.failureResultOf(self.store.load(Table()), StoreUnavailable)
            self.assertEqual((str(refused.value), self.store.problem), (str(wrong), str(wrong)))
            self.failureResultOf(self.store.change([PutVhost("a.example")]), StoreUnavailable)
        self.clock.advance(1)
        self.assertEqual(self.told, 2)
        self.store.wrong = None
        self.assertEqual(self.successResultOf(self.store.load(Table())), Table())
        self.clock.advance(1)
        self.assertEqual((self.store.problem, self.told), ("", 3))

    def test_bug(self) -> None:
        """An error of the author's own is none of the store's problems."""
        self.open()
        self.store.wrong = ZeroDivisionError()
        self.failureResultOf(self.store.load(Table()), ZeroDivisionError)
        self.assertEqual(self.store.problem, "")

    def test_json(self) -> None:
        """What is stored is the same after a way through JSON."""
        before = Contents().changed([
            PutVhost("a.example", '{"max_fails": 1}'),
            PutVhost("empty.example"),
            PutMember("b.example", Member("bücher.example:80", "b", 3, 4, "backup")),
            PutState("web", "one", State("drain", "why", "ops", 1.5)),
        ])  # fmt: skip
        self.assertEqual(Contents.from_json(before.to_json()).table(Table()), before.table(Table()))

    def test_shortJson(self) -> None:
        """By hand it may be written short."""
        found = Contents.from_json('{"vhosts": {"a.example": {"members": [{"text": "b:1"}]}, "c.example": {}}}')
        self.assertEqual(
            {name: entry.members for name, entry in found.table(Table()).vhosts.items()},
            {"a.example": (Member("b:1"),), "c.example": ()},
        )

    def test_noJson(self) -> None:
        """What is no table is refused."""
        for text in (
            "",
            "[]",
            "7",
            '{"vhosts": []}',
            '{"vhosts": {"a": {"members": [{"txt": "b"}]}}}',
            '{"states": [{}]}',
        ):
            self.assertRaises(ValueError, Contents.from_json, text)
