"""Consistent hashing: who gets which key, and how many keys move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance import keys, maglev
from lemmytx.balance.hashing import Hash, IpHash
from lemmytx.testing import Candidate, Request, check_scheduler
from tests.balance.rig import following, many

CLIENTS = tuple(Request(client=f"10.{number >> 8}.{number & 255}.{number % 7}") for number in range(4000))


def owners(scheduler: Any, candidates: Sequence[Candidate]) -> list[str]:
    """Whom each client goes to."""
    offer = tuple(candidates)
    return [scheduler.choose(offer, request).name for request in CLIENTS]


def moved(before: Sequence[str], after: Sequence[str]) -> float:
    """The share of the keys that go elsewhere."""
    return sum(one != other for one, other in zip(before, after, strict=True)) / len(before)


class MaglevTests(SynchronousTestCase):
    """L{maglev.build}"""

    def test_even(self) -> None:
        """Each has its share to within one place."""
        table = maglev.build([(f"b{number}", 1) for number in range(10)])
        self.assertEqual(len(table), maglev.SIZE)
        self.assertEqual(set(Counter(table).values()), {6553, 6554})

    def test_weights(self) -> None:
        """Shares are by weight."""
        counted = Counter(maglev.build([("a", 5), ("b", 1), ("c", 4)]))
        for owner, weight in enumerate((5, 1, 4)):
            self.assertAlmostEqual(counted[owner] / maglev.SIZE, weight / 10, places=3)

    def test_order(self) -> None:
        """The order of the owners changes nothing."""
        one = maglev.build([("a", 1), ("b", 2), ("c", 1)])
        other = maglev.build([("c", 1), ("a", 1), ("b", 2)])
        self.assertEqual(["abc"[owner] for owner in one], ["cab"[owner] for owner in other])

    def test_pinned(self) -> None:
        """The table is the same in every process and every version: keys must not move by an upgrade."""
        self.assertEqual(maglev.build([("a", 1), ("b", 1), ("c", 1)])[:16], PINNED)

    def test_nobody(self) -> None:
        """Without owners there is no table."""
        self.assertEqual(maglev.build([]), [])

    def test_moves(self) -> None:
        """When one of n goes for good, no more than 1/n and 2 % of the places change hands."""
        for count in (2, 3, 10, 100):
            names = [f"10.0.0.{number}:8080" for number in range(count)]
            before = [names[owner] for owner in maglev.build([(name, 1) for name in names])]
            left = names[: count // 2] + names[count // 2 + 1 :]
            after = [left[owner] for owner in maglev.build([(name, 1) for name in left])]
            self.assertLessEqual(moved(before, after), 1 / count + 0.02, count)


#: The first places of the table for three owners.
PINNED = [2, 2, 2, 1, 0, 0, 1, 2, 1, 2, 0, 1, 1, 0, 1, 2]


class HashTests(SynchronousTestCase):
    """L{IpHash} and L{Hash}"""

    def test_contract(self) -> None:
        """Each keeps the contract of its interface in the situations that the public check knows."""
        for build in (IpHash, lambda: IpHash(balance_factor=120), lambda: Hash(by="path"), lambda: Hash(query="id")):
            check_scheduler(build)

    def test_same(self) -> None:
        """A client goes to the same backend each time, whoever asks, among many, in another order."""
        members = many(20, 1, 2)
        one, other = IpHash(), following(IpHash(), members)
        one.update(members)
        first = owners(one, members)
        self.assertEqual(first, owners(one, members))
        self.assertEqual(first, [other.pick(request).name for request in CLIENTS])
        backwards = IpHash()
        backwards.update(members[::-1])
        self.assertEqual(first, owners(backwards, members[::-1]))

    def test_weights(self) -> None:
        """Keys are spread by weight."""
        members = many(5, 1, 2, 3, 4, 0)
        scheduler = IpHash()
        scheduler.update(members)
        counted = Counter(owners(scheduler, members))
        for number, weight in enumerate((1, 2, 3, 4, 0)):
            self.assertApproximates(counted[f"b{number}"] / len(CLIENTS), weight / 10, 0.02)

    def test_away(self) -> None:
        """While one is away only its keys move, to all others alike, and then they move back."""
        members = many(10)
        scheduler = IpHash()
        scheduler.update(members)
        before = owners(scheduler, members)
        after = owners(scheduler, members[1:])
        stayed = [two for one, two in zip(before, after, strict=True) if one != "b0"]
        self.assertEqual(stayed, [one for one in before if one != "b0"])
        heirs = Counter(two for one, two in zip(before, after, strict=True) if one == "b0")
        self.assertEqual(len(heirs), 9)
        self.assertLess(max(heirs.values()), 2 * min(heirs.values()))
        self.assertEqual(before, owners(scheduler, members))

    def test_gone(self) -> None:
        """When one of n goes for good no more than 1/n and 2 % of the keys move; as few when one comes."""
        for count in (3, 10, 50):
            members = many(count)
            scheduler = IpHash()
            scheduler.update(members)
            before = owners(scheduler, members)
            scheduler.update(members[1:])
            after = owners(scheduler, members[1:])
            self.assertLessEqual(moved(before, after), 1 / count + 0.02)

    def test_nearlyAllAway(self) -> None:
        """With two of 200 left all keys go to these, each to the same one again."""
        members = many(200)
        scheduler = IpHash()
        scheduler.update(members)
        left = (members[3], members[150])
        first = owners(scheduler, left)
        self.assertEqual(first, owners(scheduler, left))
        self.assertGreater(min(Counter(first).values()), len(CLIENTS) // 3)

    def test_nearlyAllAwayByWeight(self) -> None:
        """Of these two the one of three times the weight has three times the keys."""
        members = many(200)
        left = (members[3], members[150])
        left[1].weight = 3
        scheduler = IpHash()
        scheduler.update(members)
        share = Counter(owners(scheduler, left))[left[1].name] / len(CLIENTS)
        self.assertTrue(0.72 < share < 0.78, share)

    def test_bounded(self) -> None:
        """A key that everyone asks for spills over: nobody has more than the factor times its share, rounded up."""
        members = many(10, 1, 1, 2)
        total = sum(member.weight for member in members)
        scheduler = IpHash(balance_factor=150)
        scheduler.update(members)
        for sent in range(1, 300):
            chosen: Any = scheduler.choose(members, CLIENTS[0])
            chosen.active += 1
            self.assertLessEqual(chosen.active, int(1.5 * sent * chosen.weight / total) + 1)
        self.assertGreater(sum(member.active > 0 for member in members), 5)

    def test_boundedOutOfMany(self) -> None:
        """Among many the requests in flight are counted as they begin and end, and the bound is the same."""
        members = many(40, 1, 3)
        few, scheduler = IpHash(balance_factor=125), following(IpHash(balance_factor=125), members)
        few.update(members)
        flying = []
        for number in range(2000):
            request = CLIENTS[number % 5]
            expected = few.choose(members, request)
            chosen = scheduler.pick(request)
            self.assertIs(expected, chosen)
            chosen.active += 1
            scheduler.moved(chosen)
            flying.append(chosen)
            if number > 100:
                ended = flying.pop(number * 7919 % len(flying))
                ended.active -= 1
                scheduler.moved(ended)

    def test_unboundedWhenIdle(self) -> None:
        """While nothing is going on the bound moves nobody."""
        members = many(10)
        free, bounded = IpHash(), IpHash(balance_factor=101)
        free.update(members)
        bounded.update(members)
        self.assertEqual(owners(free, members), owners(bounded, members))

    def test_slowStart(self) -> None:
        """A cold backend takes a part of its keys, always the same ones and ever more; the others keep theirs."""
        members = many(5, 3)
        scheduler = IpHash()
        scheduler.update(members)
        warm = owners(scheduler, members)
        before: set[int] = set()
        for tenths in range(1, 11):
            members[2].warmth = tenths / 10
            members[2].weight = 3 * tenths / 10
            scheduler.update(members)
            found = owners(scheduler, members)
            his = {number for number, name in enumerate(found) if name == "b2"}
            self.assertLessEqual(before, his)
            self.assertApproximates(len(his) / warm.count("b2"), tenths / 10, 0.06)
            self.assertTrue(all(one == two for one, two in zip(warm, found, strict=True) if one != "b2"))
            before = his
        self.assertEqual(warm, owners(scheduler, members))

    def test_noTableForNothing(self) -> None:
        """The table is made anew for other members and other weights, and for nothing else."""
        members = many(5)
        scheduler = IpHash()
        scheduler.update(members)
        table = scheduler._table
        members[1].weight, members[1].warmth = 0.1, 0.1
        scheduler.update(members)
        self.assertIs(scheduler._table, table)
        members[1].weight, members[1].warmth = 2, 1.0
        scheduler.update(members)
        self.assertIsNot(scheduler._table, table)

    def test_keys(self) -> None:
        """Requests with the same header, cookie, query or path go together, whoever sends them."""
        for number, scheduler in enumerate(
            (Hash(header="X-User"), Hash(cookie="sid"), Hash(query="id"), Hash(by="path"))
        ):
            scheduler.update(members := many(50))
            chosen = set()
            for client in range(20):
                fields = [("x-uSER", "7"), ("Cookie", f"a={client}; sid=7")]
                path = f"/same?n={client}&id=7" if number != 2 else f"/{client}?id=7"
                chosen.add(scheduler.choose(members, Request(path, client=f"10.0.0.{client}", fields=fields)))
            self.assertEqual(len(chosen), 1, number)

    def test_without(self) -> None:
        """A request that has nothing of the kind goes by its client."""
        members = many(50)
        scheduler, by_client = Hash(cookie="sid"), IpHash()
        scheduler.update(members)
        by_client.update(members)
        self.assertEqual(owners(scheduler, members), owners(by_client, members))

    def test_options(self) -> None:
        """What does not fit is refused with the option, what was found, and what to write."""
        for build, said in (
            (lambda: IpHash(balance_factor=100), "balance_factor: found 100; write a percentage above 100, as in 150"),
            (lambda: Hash(balance_factor=-5), "balance_factor: found -5"),
            (lambda: Hash(by="path", header="x"), "found by and header; write one of by, header, cookie and query"),
            (lambda: Hash(header="a b"), "header: found 'a b'; write a name"),
            (lambda: Hash(cookie=""), "cookie: found ''; write a name"),
            (lambda: Hash(query=""), "query: found ''"),
            (lambda: Hash(by="moon"), "by: found 'moon'; write client or path"),  # type: ignore[arg-type]  # tested
        ):
            self.assertIn(said, str(self.assertRaises(ValueError, build)))


class KeyTests(SynchronousTestCase):
    """L{lemmytx.balance.keys}"""

    def test_clients(self) -> None:
        """IPv4 as it is, also when written as IPv6; of IPv6 the first 64 bits; anything else as text."""
        found = [keys.client(Request(client=client)) for client in (
            "192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1:2:3::4", "2001:db8:1:2::", "fe80::1%eth0", "", "a:b",
        )]  # fmt: skip
        self.assertEqual(found[0], b"192.0.2.1")
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[2], found[3])
        self.assertEqual(found[4:], [b"\xfe\x80" + bytes(6), b"", b"a:b"])

    def test_headers(self) -> None:
        """A field is found whatever case its name is in, the first one counts, and a part of a name is none."""
        request = Request(fields=[("My-X-User", "no"), ("X-USER", " a b "), ("X-User", "second")])
        self.assertEqual(keys.header("x-User")(request), b"a b")
        self.assertEqual(keys.header("User")(request), b"")
        self.assertEqual(keys.header("host")(request), b"shop.example")

    def test_cookies(self) -> None:
        """A cookie is found in any field and place, and neither in another's name nor in another's value."""
        request = Request(fields=[("Cookie", "xsid=1; a=sid=2"), ("cookie", "b=; sid=3 ;sid=4"), ("X-C", "sid=5")])
        self.assertEqual(keys.cookie("sid")(request), b"3")
        self.assertEqual(keys.cookie("a")(request), b"sid=2")
        self.assertEqual(keys.cookie("b")(request), b"")
        self.assertEqual(keys.cookie("id")(request), b"")

    def test_queries(self) -> None:
        """A parameter is found by its whole name, and without a query there is none."""
        value = keys.query("id")
        self.assertEqual(value(Request("/?xid=1&id=2&id=3")), b"2")
        self.assertEqual(value(Request("/id=4")), b"")
        self.assertEqual(value(Request("/?id")), b"")

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.text(st.sampled_from("sid=; \tx"), max_size=30))
    def test_anyCookie(self, line: str) -> None:
        """Whatever a client sends, what is found is what splitting the line finds."""
        pairs = (pair.partition("=") for pair in line.strip(" \t").split(";"))
        expected = next((value.strip(" \t") for name, _, value in pairs if name.lstrip(" \t") == "sid"), "")
        self.assertEqual(keys.cookie("sid")(Request(fields=[("Cookie", line)])).decode(), expected)
