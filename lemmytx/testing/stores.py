"""
For authors of stores: the tests that every store passes.

  >>> class EtcdConformance(StoreConformance, twisted.trial.unittest.TestCase):
  ...     def make(self, place):
  ...         return EtcdStore(place, url="http://127.0.0.1:2379", prefix=self.id())
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from lemmytx.interfaces import IBackendStore, IStorePlace
from lemmytx.store.place import Place
from lemmytx.table import (
    DropMember,
    DropState,
    DropVhost,
    Entry,
    Hint,
    Member,
    PutMember,
    PutState,
    PutVhost,
    Record,
    Report,
    State,
    StoreUnavailable,
    Table,
)

if TYPE_CHECKING:
    _Test = TestCase
else:
    # A test case itself it must not be: it would be run wherever it is imported.
    _Test = object

#: Most times in a second that a store may say that something has changed.
OFTEN = 10


class Opened:
    """
    A store under test, and who it serves.

    @ivar table: as it was loaded last.
    @ivar told: how many times something may have changed.
    @ivar hints: what others said.
    """

    def __init__(self, store: Any, reactor: Any) -> None:
        self.store = store
        self.table = Table()
        self.told = 0
        self.hints: list[Hint] = []
        self._reactor = reactor
        self._waiting: list[Deferred[None]] = []

    async def open(self) -> None:
        """Begin."""
        await self.store.open(self._tell, self._hint)

    async def load(self) -> Table:
        """See L{IBackendStore}; what is known is what was loaded last."""
        self.table = await self.store.load(self.table)
        return self.table

    async def change(self, *changes: Any) -> Table:
        """
        Change the table.

        @return: how it is then.
        """
        await self.store.change(changes)
        return await self.load()

    async def publish(
        self, active: Mapping[tuple[str, str], int] | None = None, *asked: str, **record: object
    ) -> dict[tuple[str, str], int]:
        """
        Live on.

        @param asked: vhosts.
        @return: what others do.
        """
        found = await self.store.publish(Report(active=active or {}, asked=frozenset(asked), record=record))
        return {key: requests for key, requests in found.items() if requests}

    def _tell(self) -> None:
        self.told += 1
        self._wake()

    def _hint(self, hint: Hint) -> None:
        self.hints.append(hint)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def telling(self, before: int, seconds: float) -> None:
        """
        Wait until something has been told.

        @param before: what C{told} was before.
        """
        await self.until(lambda: self.told > before, seconds)

    async def until(self, true: Callable[[], object], seconds: float) -> None:
        """
        Wait until something is true, looking each time when the store tells something.

        @raise AssertionError: it does not tell in time.
        """
        end = self._reactor.seconds() + seconds
        while not true():
            called: Deferred[None] = Deferred()
            self._waiting.append(called)
            try:
                await called.addTimeout(max(0.001, end - self._reactor.seconds()), self._reactor)
            except TimeoutError:
                raise AssertionError(f"{self.store!r} has told nothing of it for {seconds:g} s") from None


class StoreConformance(_Test):
    """
    What every store does. Mix it into a L{twisted.trial.unittest.TestCase} and say L{make}. For more that a store
    does there are L{DurableConformance} and L{lemmytx.testing.shared_stores.SharedConformance}.

    @cvar lease: seconds; as short as the store can do.
    @cvar within: seconds in which others are told of a change. It is one second in the contract; the rest is for a
        machine that has other things to do.
    """

    lease = 0.6
    within = 3.0

    def make(self, place: IStorePlace) -> Any:
        """
        @param place: all places of one test have the same C{folder}, and those of another test another one.
        @return: a new store. All that are made in one test have one table, and are shared by those who share anything.
        """
        raise NotImplementedError("say how a store is made: def make(self, place): return YourStore(place, …)")

    # What the tests are made with

    def setUp(self) -> None:
        """A folder, and time as it is."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.folder = self.mktemp()
        os.makedirs(self.folder)
        self._identities: dict[int, str] = {}

    def made(self) -> Opened:
        """A store that is not open."""
        place = Place(self.reactor, self.folder, self.lease)
        opened = Opened(self.make(place), self.reactor)
        self._identities[id(opened.store)] = place.identity
        return opened

    async def opened(self) -> Opened:
        """A store that is open until the test ends."""
        opened = self.made()
        self.addCleanup(_closing(opened.store))
        await opened.open()
        return opened

    def who(self, opened: Opened) -> str:
        """The identity that a store was made for."""
        return self._identities[id(opened.store)]

    def pause(self, seconds: float) -> Deferred[None]:
        """Let time pass."""
        over: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, over.callback, None)
        return over

    async def refused(self, asked: Callable[[], Awaitable[Any]], *kinds: type[Exception]) -> str:
        """
        @param kinds: what it may be refused with.
        @return: the text.
        """
        try:
            await asked()
        except kinds as error:
            return str(error)
        raise AssertionError("it was not refused")

    # Loading

    async def test_interface(self) -> None:
        """It is a store, and well."""
        opened = await self.opened()
        verifyObject(IBackendStore, opened.store)
        self.assertEqual(opened.store.problem, "")
        self.assertGreater(opened.store.refresh, 0)

    async def test_empty(self) -> None:
        """In the beginning there is nothing."""
        opened = await self.opened()
        self.assertEqual(await opened.load(), Table())

    async def test_unchanged(self) -> None:
        """Nothing has changed: it is the very table that is known."""
        opened = await self.opened()
        known = await opened.change(
            PutMember("a.example", Member("10.0.0.1")), PutState("web", "one", State("drain")), PutVhost("not a host")
        )
        self.assertIs(await opened.store.load(known), known)
        self.assertIs(await opened.store.load(known), known)

    async def test_sameObjects(self) -> None:
        """What has not changed are the same objects."""
        opened = await self.opened()
        before = await opened.change(*(PutMember(f"{each}.example", Member("10.0.0.1")) for each in "abc"))
        after = await opened.change(PutMember("b.example", Member("10.0.0.2")))
        self.assertIsNot(after, before)
        for name in ("a.example", "c.example"):
            self.assertIs(after.vhosts[name], before.vhosts[name])
        self.assertEqual([each.text for each in after.vhosts["b.example"].members], ["10.0.0.1", "10.0.0.2"])
        self.assertEqual(len(before.vhosts["b.example"].members), 1, "a table that was loaded never changes")
        self.assertIs((await opened.change(PutState("web", "x", State("drain")))).vhosts["a.example"],
                      before.vhosts["a.example"])  # fmt: skip

    async def test_another(self) -> None:
        """A table from elsewhere may be known, and what it says rightly are the same objects."""
        opened = await self.opened()
        await opened.change(PutMember("a.example", Member("10.0.0.1")), PutMember("b.example", Member("10.0.0.1")))
        right = Entry("a.example", (Member("10.0.0.1"),))
        known = Table({"a.example": right, "b.example": Entry("b.example"), "gone.example": Entry("gone.example")})
        table = await opened.store.load(known)
        self.assertIs(table.vhosts["a.example"], right)
        self.assertEqual([each.text for each in table.vhosts["b.example"].members], ["10.0.0.1"])
        self.assertEqual(set(table.vhosts), {"a.example", "b.example"})
        self.assertEqual(await opened.store.load(Table()), table)
        self.assertIs(await opened.store.load(table), table)

    async def test_older(self) -> None:
        """A table that was loaded long ago may be known as well."""
        opened = await self.opened()
        first = await opened.change(PutMember("a.example", Member("10.0.0.1")), PutVhost("b.example"))
        await opened.change(DropVhost("b.example"), PutVhost("c.example"))
        now = await opened.change(PutMember("a.example", Member("10.0.0.2")), PutVhost("d.example"))
        older = await opened.store.load(first)
        self.assertEqual(older, now)
        self.assertEqual(set(older.vhosts), {"a.example", "c.example", "d.example"})

    async def test_atOnce(self) -> None:
        """Two who load at the same time both get all of it."""
        opened = await self.opened()
        await opened.store.change([PutMember("a.example", Member("10.0.0.1"))])
        tables = await all_of(opened.store.load(Table()) for _ in range(5))
        for table in tables:
            self.assertEqual(table.vhosts, {"a.example": Entry("a.example", (Member("10.0.0.1"),))})

    async def test_order(self) -> None:
        """Members are in the order of their texts, in whichever they came."""
        opened = await self.opened()
        texts = ["b:81", "a:80", "http://c", "10.0.0.9", "10.0.0.10", "a:8"]
        for text in texts:
            await opened.store.change([PutMember("a.example", Member(text))])
        table = await opened.load()
        self.assertEqual([each.text for each in table.vhosts["a.example"].members], sorted(texts))

    # What comes back

    async def test_members(self) -> None:
        """Every form of a member comes back as it was, with all that was said of it."""
        opened = await self.opened()
        members = (
            Member("10.0.0.1"),
            Member("10.0.0.2:8080", "two", 7, 100, "backup"),
            Member("[2001:db8::1]:81", weight=0, role="standby"),
            Member("app.internal:1", weight=1000, capacity=1_000_000),
            Member("fcgi://10.0.0.3:9000", "php"),
            Member("h2c://10.0.0.4", "grpc"),
            Member("http+unix:///run/some where/a.sock", "socket"),
            Member("https://bücher.example:8443", "books", 2),
        )
        table = await opened.change(*(PutMember("a.example", each) for each in members))
        self.assertEqual(set(table.vhosts["a.example"].members), set(members))
        self.assertEqual(table.faults, ())
        weight, capacity = table.vhosts["a.example"].members[0][2:4]
        self.assertEqual((type(weight), type(capacity)), (int, int))

    async def test_names(self) -> None:
        """Every form of a host is one."""
        opened = await self.opened()
        names = ("*", "*.a.example", "10.0.0.1", "[::1]", "a.example", "my_app.internal", "xn--bcher-kva.example")
        table = await opened.change(*map(PutVhost, names))
        self.assertEqual(table, Table({name: Entry(name) for name in names}))

    async def test_settings(self) -> None:
        """Settings come back as the text that they are, also a long one in any language."""
        opened = await self.opened()
        for settings in ('{"max_fails": 7}', '{ "sticky":{"cookie":"ä€😀\\n"} }', '{"a": "' + "x" * 100_000 + '"}'):
            table = await opened.change(PutVhost("a.example", settings))
            self.assertEqual(table.vhosts["a.example"].settings, settings)

    async def test_states(self) -> None:
        """States come back with who wanted them, why and when, whatever the backends are called and wherever from."""
        opened = await self.opened()
        states = {
            ("web", "10.0.0.1:80"): State("disabled", "stale code – since 3 o'clock", "sticky_offline", 1700000000.25),
            ("web", "10.0.0.2:80"): State("drain", "", "ops", 1700000001.0),
            ("*.a.example", "[::1]:81"): State("ready"),
        }
        table = await opened.change(*(PutState(*key, state) for key, state in states.items()))
        self.assertEqual(table, Table(states=states))

    # Changes

    async def test_putVhost(self) -> None:
        """A vhost may have no members; to put it again changes its settings alone."""
        opened = await self.opened()
        await opened.change(PutVhost("a.example"), PutMember("a.example", Member("10.0.0.1")))
        table = await opened.change(PutVhost("a.example", '{"max_fails": 1}'), PutVhost("b.example"))
        self.assertEqual(
            table.vhosts,
            {
                "a.example": Entry("a.example", (Member("10.0.0.1"),), '{"max_fails": 1}'),
                "b.example": Entry("b.example"),
            },
        )
        table = await opened.change(PutVhost("a.example"))
        self.assertEqual(table.vhosts["a.example"].settings, "")

    async def test_dropVhost(self) -> None:
        """A vhost goes with its members and settings: when it comes again it has none."""
        opened = await self.opened()
        await opened.change(
            PutVhost("a.example", '{"max_fails": 1}'),
            PutMember("a.example", Member("10.0.0.1")),
            PutMember("b.example", Member("10.0.0.1")),
        )
        table = await opened.change(DropVhost("a.example"))
        self.assertEqual(set(table.vhosts), {"b.example"})
        table = await opened.change(PutVhost("a.example"))
        self.assertEqual(table.vhosts["a.example"], Entry("a.example"))

    async def test_putMember(self) -> None:
        """With a member its vhost is there; one that is put again has the new attributes alone."""
        opened = await self.opened()
        await opened.change(PutVhost("a.example", '{"max_fails": 1}'))
        await opened.change(PutMember("a.example", Member("10.0.0.1", "one", 5, 50, "backup")))
        table = await opened.change(
            PutMember("a.example", Member("10.0.0.1", weight=3)), PutMember("b.example", Member("10.0.0.1", "one"))
        )
        self.assertEqual(
            table.vhosts,
            {
                "a.example": Entry("a.example", (Member("10.0.0.1", weight=3),), '{"max_fails": 1}'),
                "b.example": Entry("b.example", (Member("10.0.0.1", "one"),)),
            },
        )

    async def test_dropMember(self) -> None:
        """A member goes, and its vhost stays. When it comes again it has no attributes from before."""
        opened = await self.opened()
        await opened.change(
            PutMember("a.example", Member("10.0.0.1", "one", 5)), PutMember("a.example", Member("10.0.0.2"))
        )
        table = await opened.change(DropMember("a.example", "10.0.0.1"))
        self.assertEqual(table.vhosts["a.example"].members, (Member("10.0.0.2"),))
        table = await opened.change(DropMember("a.example", "10.0.0.2"))
        self.assertEqual(table.vhosts, {"a.example": Entry("a.example")})
        table = await opened.change(PutMember("a.example", Member("10.0.0.1")))
        self.assertEqual(table.vhosts["a.example"].members, (Member("10.0.0.1"),))

    async def test_putState(self) -> None:
        """A state replaces the one before, and goes when it is dropped."""
        opened = await self.opened()
        await opened.change(PutState("web", "one", State("disabled", "why", "ops", 5.0)))
        await opened.change(PutState("web", "two", State("disabled")))
        table = await opened.change(PutState("web", "one", State("ready", by="ops")))
        self.assertEqual(table.states, {("web", "one"): State("ready", by="ops"), ("web", "two"): State("disabled")})
        table = await opened.change(DropState("web", "one"))
        self.assertEqual(table.states, {("web", "two"): State("disabled")})

    async def test_dropNothing(self) -> None:
        """To drop what is not there is no error, and makes nothing."""
        opened = await self.opened()
        table = await opened.change(
            DropVhost("a.example"), DropMember("b.example", "10.0.0.1"), DropState("web", "one"), PutVhost("c.example")
        )
        self.assertEqual(table, Table({"c.example": Entry("c.example")}))

    async def test_inOrder(self) -> None:
        """Several changes are made in their order."""
        opened = await self.opened()
        table = await opened.change(
            PutMember("a.example", Member("10.0.0.1")),
            DropVhost("a.example"),
            PutMember("a.example", Member("10.0.0.2")),
            PutMember("a.example", Member("10.0.0.3")),
            DropMember("a.example", "10.0.0.2"),
            PutState("web", "one", State("drain")),
            DropState("web", "one"),
            PutState("web", "one", State("disabled")),
            PutVhost("b.example"),
            DropVhost("b.example"),
        )
        self.assertEqual(table.vhosts, {"a.example": Entry("a.example", (Member("10.0.0.3"),))})
        self.assertEqual(table.states, {("web", "one"): State("disabled")})

    async def test_allOrNothing(self) -> None:
        """When one of several changes is none, nothing changes."""
        opened = await self.opened()
        before = await opened.change(PutMember("a.example", Member("10.0.0.1")), PutState("w", "x", State("drain")))
        wrong: list[Any] = [
            PutMember("a.example", Member("10.0.0.2")),
            DropState("w", "x"),
            DropMember("a.example", "10.0.0.1"),
            object(),
            PutVhost("b.example"),
        ]
        await self.refused(lambda: opened.store.change(wrong), Exception)
        self.assertEqual(await opened.load(), before)
        self.assertEqual(await opened.store.load(Table()), before)
        self.assertEqual(set((await opened.change(PutVhost("c.example"))).vhosts), {"a.example", "c.example"})

    async def test_nothing(self) -> None:
        """No changes are no change."""
        opened = await self.opened()
        before = await opened.change(PutVhost("a.example"))
        self.assertIs(await opened.change(), before)

    async def test_again(self) -> None:
        """What is there already may be put again: the table is the very same."""
        opened = await self.opened()
        changes = (
            PutVhost("a.example", '{"max_fails": 1}'),
            PutMember("a.example", Member("10.0.0.1", "one", 5, 50, "backup")),
            PutState("web", "one", State("drain", "why", "ops", 5.0)),
        )
        before = await opened.change(*changes)
        self.assertIs(await opened.change(*changes), before)

    async def test_many(self) -> None:
        """Thousands of changes are one."""
        opened = await self.opened()
        table = await opened.change(
            *(PutMember(f"{vhost}.example", Member(f"10.0.{vhost}.{each}:80")) for vhost in range(50)
              for each in range(50))
        )  # fmt: skip
        self.assertEqual([len(entry.members) for entry in table.vhosts.values()], [50] * 50)
        table = await opened.change(*(DropVhost(f"{vhost}.example") for vhost in range(49)))
        self.assertEqual(set(table.vhosts), {"49.example"})

    async def test_quickly(self) -> None:
        """Changes that were asked for before others were done are all made, in their order."""
        opened = await self.opened()
        await all_of(opened.store.change([PutVhost("a.example", f'{{"max_fails": {number}}}')]) for number in range(20))
        self.assertEqual((await opened.load()).vhosts["a.example"].settings, '{"max_fails": 19}')

    # What cannot be used

    async def faulty(self, opened: Opened, *changes: Any) -> bool:
        """
        Bring something into the table that cannot be used.

        @return: whether the store lets it in; one that refuses it, with a text, is right as well.
        """
        try:
            await opened.store.change(changes)
        except ValueError as error:
            self.assertTrue(str(error))
            return False
        return True

    async def test_badMember(self) -> None:
        """A member that is none is left out and named, and nothing else suffers."""
        opened = await self.opened()
        good = await opened.change(PutMember("a.example", Member("10.0.0.1")), PutVhost("b.example"))
        for bad in (
            Member("not a host"),
            Member("ftp://10.0.0.2"),
            Member("10.0.0.2:99999"),
            Member("http://10.0.0.2/path"),
            Member("10.0.0.2", weight=-1),
            Member("10.0.0.2", role="boss"),
            Member("10.0.0.2", "with space"),
        ):
            if not await self.faulty(opened, PutMember("a.example", bad)):
                continue
            table = await opened.load()
            self.assertEqual(table.vhosts, good.vhosts)
            self.assertEqual([fault[:2] for fault in table.faults], [("a.example", bad.text)])
            self.assertTrue(table.faults[0].why)
            self.assertIs(await opened.load(), table)
            self.assertEqual(await opened.change(DropMember("a.example", bad.text)), good)

    async def test_badVhost(self) -> None:
        """A vhost whose name is none is left out with all its members, and named."""
        opened = await self.opened()
        good = await opened.change(PutMember("a.example", Member("10.0.0.1")))
        if await self.faulty(opened, PutMember("a..example", Member("10.0.0.1")), PutVhost("http://b.example/")):
            table = await opened.load()
            self.assertEqual(table.vhosts, good.vhosts)
            self.assertEqual({fault.vhost for fault in table.faults}, {"a..example", "http://b.example/"})
            self.assertEqual(await opened.change(DropVhost("a..example"), DropVhost("http://b.example/")), good)

    async def test_sameName(self) -> None:
        """Of two members that are called the same, the first by its text counts, and the other is named."""
        opened = await self.opened()
        if await self.faulty(
            opened,
            PutMember("a.example", Member("10.0.0.1:80")),
            PutMember("a.example", Member("http://10.0.0.1")),
            PutMember("a.example", Member("10.0.0.2", "10.0.0.1:80")),
        ):
            table = await opened.load()
            self.assertEqual([each.text for each in table.vhosts["a.example"].members], ["10.0.0.1:80"])
            self.assertEqual({fault.member for fault in table.faults}, {"http://10.0.0.1", "10.0.0.2"})
            table = await opened.change(DropMember("a.example", "10.0.0.1:80"))
            self.assertEqual([each.text for each in table.vhosts["a.example"].members], ["10.0.0.2"])

    async def test_badState(self) -> None:
        """A state that is none is left out and named."""
        opened = await self.opened()
        if await self.faulty(opened, PutState("web", "one", State("away")), PutState("web", "two", State("drain"))):
            table = await opened.load()
            self.assertEqual(set(table.states), {("web", "two")})
            self.assertEqual(len(table.faults), 1)
            self.assertEqual(await opened.change(DropState("web", "one")), Table(states=table.states))

    # Telling

    async def test_tellsOwn(self) -> None:
        """Who changes something is told of it as well: whoever asked for it need not be who serves."""
        opened = await self.opened()
        before = opened.told
        await opened.store.change([PutVhost("a.example")])
        await opened.telling(before, self.within)

    async def test_notTooOften(self) -> None:
        """However much changes, nobody is told more often than ten times a second, and after the last change once."""
        opened = await self.opened()
        began, told = time.monotonic(), opened.told
        number, before = 0, told
        while time.monotonic() - began < 0.35:
            number += 1
            before = opened.told
            await opened.store.change([PutVhost("a.example", f'{{"max_fails": {number}}}')])
        self.assertLessEqual(opened.told - told, (time.monotonic() - began) * OFTEN + 1)
        await opened.telling(before, self.within)
        self.assertEqual((await opened.load()).vhosts["a.example"].settings, f'{{"max_fails": {number}}}')

    async def test_instances(self) -> None:
        """Every process sees all that live, itself as well, with what they say of themselves."""
        opened = await self.opened()
        self.assertEqual(list(await opened.store.instances()), [])
        await opened.publish({}, address="10.0.0.1", load={"ä": 1})
        (record,) = await opened.store.instances()
        self.assertIsInstance(record, Record)
        self.assertEqual((record.identity, record.about), (self.who(opened), {"address": "10.0.0.1", "load": {"ä": 1}}))
        self.assertGreater(record.lease, 0)
        self.assertLessEqual(record.lease, self.lease)
        if opened.store.shared:
            other = await self.opened()
            await other.publish({}, address="10.0.0.2")
            seen = {record.identity: record.about["address"] for record in await opened.store.instances()}
            self.assertEqual(seen, {self.who(opened): "10.0.0.1", self.who(other): "10.0.0.2"})

    # The end

    async def test_closed(self) -> None:
        """Once closed it answers nothing, and tells nothing."""
        opened = await self.opened()
        await opened.change(PutVhost("a.example"))
        closing = _started(opened.store.close())
        told = opened.told
        await closing
        for asked in (
            lambda: opened.store.load(Table()),
            lambda: opened.store.change([PutVhost("a.example")]),
            lambda: opened.store.publish(Report()),
            lambda: opened.store.instances(),
        ):
            await self.refused(asked, StoreUnavailable)
        await opened.store.hint(Hint("web", "one", "up"))
        await opened.store.close()
        await self.pause(0.15)
        self.assertEqual(opened.told, told)

    async def test_neverOpened(self) -> None:
        """One that was never opened can be closed, and answers nothing."""
        opened = self.made()
        await self.refused(lambda: opened.store.load(Table()), StoreUnavailable)
        await opened.store.close()


class DurableConformance(StoreConformance):
    """What every store does that is there after a restart."""

    async def test_durable(self) -> None:
        """What was changed is there after a restart."""
        first = self.made()
        await first.open()
        before = await first.change(
            PutVhost("a.example", '{"max_fails": 1}'),
            PutMember("a.example", Member("10.0.0.1", "one", 5, 50, "backup")),
            PutVhost("b.example"),
            PutState("web", "one", State("disabled", "why", "ops", 1700000000.5)),
        )
        await first.store.close()
        second = await self.opened()
        self.assertEqual(await second.load(), before)
        self.assertIs(await second.store.load(before), before)


def _started(asked: Awaitable[Any]) -> Deferred[Any]:
    """Something that has begun: a coroutine begins only when somebody waits for it."""
    return asked if isinstance(asked, Deferred) else Deferred.fromCoroutine(_awaited(asked))


async def _awaited(asked: Awaitable[Any]) -> Any:
    return await asked


def all_of(asked: Iterable[Awaitable[Any]]) -> Deferred[list[Any]]:
    """All at the same time."""
    every: Any = gatherResults([_started(each) for each in asked], consumeErrors=True)
    every.addErrback(lambda failure: failure.value.subFailure)
    return every  # type: ignore[no-any-return]  # Twisted says what is in it in words alone


def _closing(store: Any) -> Callable[[], Deferred[Any]]:
    return lambda: _started(store.close())
