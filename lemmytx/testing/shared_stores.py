"""
For authors of stores that several processes share: the tests that every one of these passes.

  >>> class EtcdConformance(SharedConformance, DurableConformance, twisted.trial.unittest.TestCase):
  ...     def make(self, place):
  ...         return EtcdStore(place, url="http://127.0.0.1:2379", prefix=self.id())
"""

from __future__ import annotations

from lemmytx.table import DropMember, DropState, DropVhost, Hint, Member, PutMember, PutState, PutVhost, State
from lemmytx.testing.stores import Opened, StoreConformance, all_of


class SharedConformance(StoreConformance):
    """What every store does whose table other processes may use as well."""

    async def two(self) -> tuple[Opened, Opened]:
        """Two processes that share a table."""
        first = await self.opened()
        self.assertTrue(first.store.shared)
        return first, await self.opened()

    async def test_tellsOthers(self) -> None:
        """Others are told of every kind of change."""
        first, second = await self.two()
        for change in (
            PutVhost("a.example"),
            PutVhost("a.example", "{}"),
            PutMember("a.example", Member("10.0.0.1")),
            PutMember("a.example", Member("10.0.0.1", weight=2)),
            DropMember("a.example", "10.0.0.1"),
            DropVhost("a.example"),
            PutState("web", "one", State("drain")),
            DropState("web", "one"),
        ):
            before = second.told
            now = await first.change(change)
            await second.telling(before, self.within)
            self.assertEqual(await second.load(), now)

    async def test_shared(self) -> None:
        """What one process changes another one loads."""
        first, second = await self.two()
        await first.change(PutMember("a.example", Member("10.0.0.1")))
        await second.load()
        await second.change(PutMember("a.example", Member("10.0.0.2")), PutState("web", "one", State("drain")))
        self.assertEqual(await first.load(), second.table)
        self.assertEqual(len(first.table.vhosts["a.example"].members), 2)
        await first.change(DropVhost("a.example"))
        self.assertEqual((await second.load()).vhosts, {})

    async def test_noneLost(self) -> None:
        """Of changes that two processes make at the same time none is lost."""
        first, second = await self.two()
        await all_of(
            each.store.change([PutMember("a.example", Member(f"10.0.{place}.{number}"))])
            for number in range(10)
            for place, each in enumerate((first, second))
        )
        self.assertEqual(len((await first.load()).vhosts["a.example"].members), 20)

    async def test_counts(self) -> None:
        """Each process hears the sum of what all others do on the vhosts that it asks about."""
        first, second = await self.two()
        third = await self.opened()
        one, two, other = ("a.example", "10.0.0.1"), ("a.example", "10.0.0.2"), ("b.example", "10.0.0.1")
        await first.publish({one: 3, two: 1})
        await second.publish({one: 4, other: 2})
        self.assertEqual(await third.publish({one: 100}, "a.example"), {one: 7, two: 1})
        self.assertEqual(await third.publish({one: 100}, "b.example", "c.example"), {other: 2})
        self.assertEqual(await third.publish({one: 100}), {})
        self.assertEqual(await first.publish({one: 3, two: 1}, "a.example"), {one: 104})

    async def test_countsChange(self) -> None:
        """A report replaces the one before, whatever it leaves out."""
        first, second = await self.two()
        one, two = ("a.example", "10.0.0.1"), ("a.example", "http://[::1]:81")
        for active in ({one: 3}, {one: 5, two: 1}, {two: 2}, {two: 0, one: 1}, {}, {one: 1, two: 1}):
            await first.publish(active)
            expected = {key: requests for key, requests in active.items() if requests}
            self.assertEqual(await second.publish({}, "a.example"), expected)

    async def test_countsWithoutVhost(self) -> None:
        """What is counted need not be in the table any more: a backend that was dropped has requests to its end."""
        first, second = await self.two()
        await first.change(PutMember("a.example", Member("10.0.0.1")))
        await first.publish({("a.example", "10.0.0.1"): 2})
        await second.change(DropVhost("a.example"))
        await second.change(PutMember("a.example", Member("10.0.0.1")))
        await first.publish({("a.example", "10.0.0.1"): 1})
        self.assertEqual(await second.publish({}, "a.example"), {("a.example", "10.0.0.1"): 1})
        self.assertEqual([each.text for each in (await second.load()).vhosts["a.example"].members], ["10.0.0.1"])

    async def test_countsGo(self) -> None:
        """Who closes takes its share along."""
        first, second = await self.two()
        await first.publish({("a.example", "10.0.0.1"): 3})
        await first.store.close()
        self.assertEqual(await second.publish({}, "a.example"), {})
        self.assertEqual([record.identity for record in await second.store.instances()], [self.who(second)])

    async def test_lease(self) -> None:
        """A process that goes on publishing lives; one that does not is gone after its lease, and may come again."""
        first, second = await self.two()
        key = ("a.example", "10.0.0.1")
        end = self.reactor.seconds() + 1.5 * self.lease
        while self.reactor.seconds() < end:
            await first.publish({key: 3})
            self.assertEqual(await second.publish({}, "a.example"), {key: 3})
            await self.pause(self.lease / 4)
        end = self.reactor.seconds() + self.lease + self.within
        while await second.publish({}, "a.example"):
            self.assertLess(self.reactor.seconds(), end, "its share is still there")
            await self.pause(self.lease / 10)
        self.assertEqual([record.identity for record in await second.store.instances()], [self.who(second)])
        await first.publish({key: 3})
        self.assertEqual(await second.publish({}, "a.example"), {key: 3})

    async def test_hints(self) -> None:
        """Hints get to the others, in their order, and not to who gives them."""
        first, second = await self.two()
        hints = [
            Hint("web", "one", "down", "refused – 3 times"),
            Hint("web", "one", "up"),
            Hint("a.example", "x", "up"),
        ]
        for hint in hints:
            await first.store.hint(hint)
        await second.until(lambda: len(second.hints) >= 3, self.within)
        self.assertEqual(second.hints, hints)
        self.assertEqual(first.hints, [])
        # What was said before is no news to who comes later.
        third = await self.opened()
        await second.store.hint(hints[0])
        await third.until(lambda: third.hints, self.within)
        self.assertEqual(third.hints, hints[:1])
