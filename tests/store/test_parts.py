"""What stores have in common: reading, telling, and the settings that name one."""

from __future__ import annotations

import os
import stat
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import checking, config
from lemmytx.addresses import parse_url
from lemmytx.config.advice import advice
from lemmytx.config.changes import changes
from lemmytx.finding import PluginError
from lemmytx.interfaces import IStorePlace
from lemmytx.model import Configuration
from lemmytx.plugin import Store, build_store, find_stores
from lemmytx.store import reading
from lemmytx.store.file import FileStore
from lemmytx.store.memory import MemoryStore
from lemmytx.store.place import Place
from lemmytx.store.private import PrivateFolder, effective
from lemmytx.store.telling import PAUSE, Telling
from lemmytx.table import Entry, Fault, Member, State, Table


def read(text: str) -> Configuration:
    """A configuration out of a file's text."""
    return config.read(text.encode(), "x.yaml", environment={"NAME": "t.db"})


class ReadingTests(SynchronousTestCase):
    """L{reading}"""

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(some.one_of(some.text("abz019.-:[]", max_size=70), some.from_regex(r"[a-z0-9.-]{1,20}:[0-9]{1,6}")))
    def test_short(self, text: str) -> None:
        """The short way for what most members look like gives what the long way does."""
        try:
            expected = parse_url(f"http://{text}").name
        except ValueError:
            expected = ""
        try:
            found = reading.name_of(Member(text))
        except ValueError:
            found = ""
        self.assertEqual(found, expected)

    def test_names(self) -> None:
        """A member without a name is called as its URL says."""
        for text, name in (("10.0.0.1", "10.0.0.1:80"), ("a:65535", "a:65535"), ("https://b", "b:443"), ("A:1", "a:1")):
            self.assertEqual(reading.name_of(Member(text)), name)
        self.assertEqual(reading.name_of(Member("a:1", "one")), "one")
        for text in ("", "a:0", "a:65536", "a:99999", "::1", "a b", "a" * 64 + ":1"):
            self.assertRaises(ValueError, reading.name_of, Member(text))

    def test_faults(self) -> None:
        """What is wrong with a member is said with what to write instead."""
        members: list[Any] = [
            Member("a:1", weight=1001),
            Member("b:1", weight=True),
            Member("c:1", capacity=-1),
            Member("d:1", role=""),
            Member("e:1", name="x y"),
            Member("f:1", name="g:1"),
            Member("g:1"),
        ]
        entry, faults = reading.entry("a.example", "", members)
        self.assertEqual(entry, Entry("a.example", (members[5],)))
        self.assertEqual(
            [(fault.member, fault.why) for fault in faults],
            [
                ("a:1", "weight: found 1001; write a whole number from 0 to 1000"),
                ("b:1", "weight: found true; write a whole number from 0 to 1000"),
                ("c:1", "capacity: found -1; write a whole number from 0 to 1000000"),
                ("d:1", "role: found ''; write active, backup, standby"),
                ("e:1", "name: found 'x y'; write a name of up to 100 letters, digits and _ . : @ [ ] -"),
                ("g:1", "is called 'g:1', as 'f:1' is; give it a name of its own"),
            ],
        )

    def test_vhosts(self) -> None:
        """A vhost has to be written as hosts are compared: otherwise it could be there twice."""
        for name, why in (
            ("Shop.example", "found 'Shop.example'; write it as 'shop.example'"),
            ("shop.example.", "found 'shop.example.'; write it as 'shop.example'"),
        ):
            self.assertEqual(reading.entry(name, "", [Member("a")]), (None, (Fault(name, "", why),)))

    def test_faults_are_shown(self) -> None:
        """Whatever stands in a store, a fault is no longer than it has to be, and has no password in it."""
        faults = (
            Fault("a.example", "http://ops:Pa55@word@10.0.0.1", "why"),
            Fault("b.example", "x" * 201, "why"),
            Fault("c" * 100_000, "", "why"),
        )
        expected = (
            Fault("a.example", "http://…@10.0.0.1", "why"),
            Fault("b.example", "x" * 200 + "…", "why"),
            Fault("c" * 200 + "…", "", "why"),
        )
        known = reading.again(Table(), {}, {}, faults)
        self.assertEqual(known.faults, expected)
        self.assertIs(reading.again(known, {}, {}, faults), known)

    def test_again(self) -> None:
        """What says the same is the same: single entries and states, all of them, the whole table."""
        one, two, state = Entry("a", (Member("x"),)), Entry("b"), State("drain")
        known = Table({"a": one, "b": two}, {("c", "d"): state}, (Fault("z", "", "why"),))

        def copy() -> tuple[Any, Any, Any]:
            return (
                {"b": Entry("b"), "a": Entry("a", (Member("x"),))},
                {("c", "d"): State("drain")},
                [Fault("z", "", "why")],
            )

        self.assertIs(reading.again(known, *copy()), known)
        vhosts, states, faults = copy()
        vhosts["b"] = Entry("b", settings="{}")
        other = reading.again(known, vhosts, states, faults)
        self.assertIs(other.vhosts["a"], one)
        self.assertIs(other.states, known.states)
        vhosts, states, faults = copy()
        states["c", "e"] = State("ready")
        other = reading.again(known, vhosts, states, faults)
        self.assertIs(other.vhosts, known.vhosts)
        self.assertIs(other.states["c", "d"], state)
        self.assertEqual(reading.again(known, *copy()[:2], []).faults, ())


class TellingTests(SynchronousTestCase):
    """L{Telling}"""

    def setUp(self) -> None:
        """Somebody who is told, and when."""
        self.clock = Clock()
        self.times: list[float] = []
        self.telling = Telling(self.clock, lambda: self.times.append(self.clock.seconds()))

    def test_soon(self) -> None:
        """Who was not told for a while is told at once, but not from within."""
        self.telling.tell()
        self.assertEqual(self.times, [])
        self.clock.advance(0)
        self.assertEqual(self.times, [0])

    def test_notTooOften(self) -> None:
        """However often something happens: not more than ten times a second, and once after the last time."""
        for _ in range(100):
            self.telling.tell()
            self.clock.advance(0.005)
        last = self.clock.seconds()
        self.clock.advance(10)
        self.assertLessEqual(len(self.times), 6)
        self.assertGreaterEqual(self.times[-1], last - 0.005)
        for before, after in zip(self.times, self.times[1:], strict=False):
            self.assertGreaterEqual(after - before, PAUSE - 0.001)

    def test_clockSetBack(self) -> None:
        """A clock that is set back does not silence it."""
        self.clock.advance(1_000_000)
        self.telling.tell()
        self.clock.advance(0)
        self.clock.rightNow -= 500_000
        self.telling.tell()
        self.clock.advance(PAUSE)
        self.assertEqual(len(self.times), 2)

    def test_stop(self) -> None:
        """Nobody is told any more, not even of what was under way."""
        self.telling.tell()
        self.telling.stop()
        self.telling.tell()
        self.clock.advance(1)
        self.assertEqual(self.times, [])


class SettingsTests(SynchronousTestCase):
    """The store in the configuration."""

    def test_written(self) -> None:
        """Options stand beside the type, also such as come from the environment; the store is in memory otherwise."""
        self.assertEqual(
            (read("{}").store.type, read("{}").store.lease, read("{}").store.options), ("memory", 10.0, {})
        )
        store = read('store: {type: file, path: "${NAME}", lease: 30s, odd: null}').store
        self.assertEqual((store.type, store.lease, store.options), ("file", 30.0, {"path": "t.db"}))

    def errors(self, text: str) -> list[str]:
        """What is wrong with a file, all checks made."""
        file = os.path.abspath(self.mktemp())
        with open(file, "w") as opened:
            opened.write(text)
        error = self.assertRaises(config.ConfigurationError, checking.load, file)
        return [line.replace(file, "x") for line in str(error).splitlines()]

    def test_errors(self) -> None:
        """A type that there is not, and options that do not fit, are refused with the line."""
        for text, expected in (
            ("store: {type: fil}", "x:1: store: no store 'fil'; did you mean 'file'?"),
            ("\nstore: {type: file}", "x:2: store: path: must be given"),
            ("store: {type: file, pth: x}",
             "x:1: store: 'pth': no such option of store 'file'; did you mean 'path'?; path: must be given"),
            ("store: {type: file, path: 7}", "x:1: store: path: found 7; input should be a valid string"),
            ("store: {type: file, path: x/}",
             "x:1: store: path: found 'x/'; write the path of a file, as in table.db"),
        ):  # fmt: skip
            self.assertEqual(self.errors(text), [expected])

    def test_notOpened(self) -> None:
        """A check makes no file."""
        folder = self.mktemp()
        os.makedirs(folder)
        path = os.path.join(folder, "x.yaml")
        with open(path, "w") as opened:
            opened.write("store: {type: file, path: table.db}")
        checking.load(path)
        self.assertEqual(os.listdir(folder), ["x.yaml"])

    def test_advice(self) -> None:
        """That sticky_offline is forgotten is said for each place where it is asked for, unless the store lasts."""
        text = """
clusters:
  a: {sticky_offline: true, health_check: {type: tcp}, backends: ["http://x"]}
  b: {health_check: {type: tcp}, backends: [{url: "http://x", sticky_offline: true}]}
  c: {health_check: {type: tcp}, backends: ["http://x"]}
defaults: {sticky_offline: true}
"""
        told = {place for place, said in advice(read(text)) if "forgotten at a restart" in said}
        self.assertEqual(told, {"defaults.sticky_offline", "clusters.a.sticky_offline", "clusters.b.sticky_offline"})
        self.assertEqual(advice(read(text + "store: {type: file, path: t.db}\n")), [])

    def test_changes(self) -> None:
        """What a reload changes does not show a store's options: there may be a password in a URL."""
        before, after = (read(f"store: {{type: x, url: 'redis://:{each}@h'}}") for each in ("secret1", "secret2"))
        self.assertEqual(changes(before, after), ["store.options.url: changed"])


class PluginTests(SynchronousTestCase):
    """L{Store}, L{find_stores} and L{build_store}"""

    def test_found(self) -> None:
        """Those that come with lemmytx are found and can be built."""
        found = find_stores()
        self.assertIsInstance(build_store(found, "memory", {}, Place(None, "/")), MemoryStore)
        store = build_store(found, "file", {"path": "x.db"}, Place(None, "/etc/lemmy"))
        assert isinstance(store, FileStore)
        self.assertEqual(store.path, "/etc/lemmy/x.db")

    def test_unfit(self) -> None:
        """A factory that takes no place, and one that makes no store, are refused."""

        def nowhere(path: str) -> object:
            return path

        def nothing(place: IStorePlace) -> object:
            return object()

        self.assertIn("no parameter 'place'", str(self.assertRaises(TypeError, Store, "x", nowhere)))
        self.assertRaises(PluginError, Store("x", nothing).build, {}, Place(None, "/"))

    def test_reserved(self) -> None:
        """An option cannot be called as a setting of every store."""

        def taken(place: IStorePlace, lease: float) -> object:
            return place

        self.assertIn("every store has it", str(self.assertRaises(TypeError, Store, "x", taken)))


class PrivateTests(SynchronousTestCase):
    """What workers share where the store is in memory."""

    def test_memory(self) -> None:
        """They have a file in a folder that nobody else may enter, and that goes in the end."""
        self.patch(os, "environ", {**os.environ, "RUNTIME_DIRECTORY": os.path.abspath(self.mktemp())})
        os.makedirs(os.environ["RUNTIME_DIRECTORY"])
        folder, memory = PrivateFolder(), read("store: {lease: 7}").store
        path = folder.wanted(memory)
        self.assertEqual(os.path.dirname(path), os.environ["RUNTIME_DIRECTORY"])
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
        self.assertEqual(folder.wanted(memory), path)
        shared = effective(memory, path)
        self.assertEqual((shared.type, shared.lease, shared.options), ("file", 7.0, {"path": f"{path}/table.db"}))
        with open(f"{path}/table.db", "w"):
            pass
        folder.end()
        self.assertFalse(os.path.exists(path))
        folder.end()

    def test_others(self) -> None:
        """Other stores, and a single process, need no folder."""
        folder = PrivateFolder()
        lasting, memory = read("store: {type: file, path: t.db}").store, read("{}").store
        self.assertEqual(folder.wanted(lasting), "")
        self.assertIs(effective(lasting, "/run/x"), lasting)
        self.assertIs(effective(memory, ""), memory)

    def test_noFolder(self) -> None:
        """Without a place for it the workers have a memory each, and the log says so."""
        self.patch(os, "environ", {**os.environ, "RUNTIME_DIRECTORY": "/nowhere/at/all"})
        folder = PrivateFolder()
        from twisted.logger import capturedLogs

        with capturedLogs() as logged:
            self.assertEqual(folder.wanted(read("{}").store), "")
        self.assertEqual(len(logged), 1)
        self.assertEqual(effective(read("{}").store, folder.path).type, "memory")
