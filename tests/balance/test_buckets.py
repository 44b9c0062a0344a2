"""The tree of buckets: shares, lending, who is next; in examples."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.buckets import Bucket, Root, Share, split


def tree(size: int, *shares: Share) -> Root:
    """A tree of a size."""
    return Root(shares, size)


def fill(bucket: Bucket, most: int = 1000) -> int:
    """Take what may be taken, and say how many that was."""
    taken = 0
    while taken < most and bucket.may_take():
        bucket.take()
        taken += 1
    return taken


SHOP = (Share("vip", 0.2, 0.4), Share("main", 0.8, 1.0))
STRICT = (Share("vip", 0.2, 0.4, lending=False), Share("main", 0.8, 1.0))


class SplitTests(SynchronousTestCase):
    """Whole shares out of fractions."""

    def test_exact(self) -> None:
        """Fractions that come out even are what they are, rounding of floating point or not."""
        self.assertEqual(split(10, [0.2, 0.8]), [2, 8, 0])
        self.assertEqual(split(100, [0.29, 0.57, 0.14]), [29, 57, 14, 0])

    def test_largestRemainder(self) -> None:
        """What is left goes to the largest remainders, so that all add up to the total."""
        self.assertEqual(split(10, [0.26, 0.37, 0.37]), [2, 4, 4, 0])
        self.assertEqual(split(10, [1 / 3, 1 / 3, 1 / 3]), [4, 3, 3, 0])

    def test_rest(self) -> None:
        """What is in none of the fractions is told too, and takes part."""
        self.assertEqual(split(10, [0.2]), [2, 8])
        self.assertEqual(split(10, []), [10])

    def test_one(self) -> None:
        """Any share is at least one, taken from the rest and then from the largest."""
        self.assertEqual(split(10, [0.01, 0.01]), [1, 1, 8])
        self.assertEqual(split(4, [0.05, 0.95]), [1, 3, 0])
        self.assertEqual(split(3, [0.01, 0.01, 0.98]), [1, 1, 1, 0])

    def test_tooFew(self) -> None:
        """With fewer tokens than shares each share is still one."""
        self.assertEqual(split(1, [0.5, 0.5]), [1, 1, 0])

    def test_nothing(self) -> None:
        """Of nothing everyone has nothing, and a share of nothing is nothing."""
        self.assertEqual(split(0, [0.5, 0.5]), [0, 0, 0])
        self.assertEqual(split(5, [0.0, 1.0]), [0, 5, 0])


class ShareTests(SynchronousTestCase):
    """How much each bucket has."""

    def shares(self, root: Root) -> dict[str, tuple[int, int]]:
        """Rate and ceil of all buckets."""
        return {name: (bucket.rate, bucket.ceil) for name, bucket in root.buckets.items()}

    def test_shop(self) -> None:
        """Rates are shares of the size, and so are ceilings."""
        self.assertEqual(self.shares(tree(40, *SHOP)), {"": (40, 40), "vip": (8, 16), "main": (32, 40)})

    def test_nested(self) -> None:
        """A bucket in a bucket has its share of that one: of what that is ensured, and of what that may have."""
        root = tree(100, Share("a", 0.5, 0.8, True, (Share("b", 0.5, 0.5), Share("c", 0.2, 1.0))), Share("d", 0.5))
        self.assertEqual(
            self.shares(root), {"": (100, 100), "a": (50, 80), "b": (25, 40), "c": (10, 80), "d": (50, 100)}
        )
        assert root.buckets["a"].rest is not None
        self.assertEqual(root.buckets["a"].rest.rate, 15)

    def test_resize(self) -> None:
        """Shares follow the size at once."""
        root = tree(40, *SHOP)
        root.resize(10)
        self.assertEqual(self.shares(root), {"": (10, 10), "vip": (2, 4), "main": (8, 10)})
        root.resize(0)
        self.assertEqual(self.shares(root), {"": (0, 0), "vip": (0, 0), "main": (0, 0)})

    def test_configure(self) -> None:
        """So they do when they are configured anew; what is in flight stays counted."""
        root = tree(40, *SHOP)
        vip = root.buckets["vip"]
        fill(vip, 10)
        main = root.buckets["main"]
        self.assertEqual(root.configure([Share("vip", 0.5, 0.5), Share("other", 0.5)]), [main])
        self.assertIs(root.buckets["vip"], vip)
        self.assertEqual((vip.rate, vip.ceil, vip.used, root.used), (20, 20, 10, 10))
        self.assertEqual(fill(vip), 10)

    def test_gone(self) -> None:
        """Tokens of a bucket that is there no more count for the whole until they are given back."""
        root = tree(10, *SHOP)
        main = root.buckets["main"]
        fill(main, 7)
        root.configure([Share("vip", 0.2, 1.0)])
        self.assertNotIn("main", root.buckets)
        vip = root.buckets["vip"]
        self.assertEqual(fill(vip), 3)
        for _ in range(7):
            main.release()
        self.assertEqual(root.used, 3)
        self.assertEqual(fill(vip), 7)

    def test_inner(self) -> None:
        """A bucket that gets children keeps what it has in flight counted, and so it does when it loses them."""
        root = tree(10, Share("a", 0.5))
        leaf = root.buckets["a"].leaf
        fill(leaf, 4)
        root.configure([Share("a", 0.5, 1.0, True, (Share("b", 0.5),))])
        self.assertEqual(root.used, 4)
        inner = root.buckets["a"].leaf
        self.assertIsNot(inner, leaf)
        fill(inner, 2)
        root.configure([Share("a", 0.5)])
        self.assertEqual(root.used, 6)
        for _ in range(4):
            leaf.release()
        for _ in range(2):
            inner.release()
        self.assertEqual(root.used, 0)
        self.assertEqual(fill(root.buckets["a"].leaf), 10)

    def test_standby(self) -> None:
        """What stands in for others raises what may be used, and nobody's share."""
        root = tree(10, *SHOP)
        root.resize(10, 5)
        self.assertEqual(self.shares(root), {"": (10, 15), "vip": (2, 4), "main": (8, 10)})
        self.assertEqual(fill(root.buckets["main"]), 10)
        self.assertEqual(fill(root.buckets["vip"]), 4)
        self.assertEqual(fill(root.leaf), 1)


class TakingTests(SynchronousTestCase):
    """Who may take a token."""

    def test_lend(self) -> None:
        """An idle share is lent, up to the borrower's ceiling."""
        root = tree(40, *SHOP)
        self.assertEqual(fill(root.buckets["main"]), 40)
        root = tree(40, *SHOP)
        self.assertEqual(fill(root.buckets["vip"]), 16)

    def test_strict(self) -> None:
        """A share that is not lent stays free, and its owner finds it."""
        root = tree(40, *STRICT)
        self.assertEqual(fill(root.buckets["main"]), 32)
        self.assertEqual(fill(root.buckets["vip"]), 8)

    def test_strictBorrows(self) -> None:
        """Who lends nothing may borrow."""
        root = tree(40, *STRICT)
        self.assertEqual(fill(root.buckets["vip"]), 16)
        self.assertEqual(fill(root.buckets["main"]), 24)
        root.buckets["vip"].release()
        self.assertEqual(fill(root.buckets["main"]), 1)

    def test_strictNested(self) -> None:
        """A share that is kept within a bucket is not used up by its brother's borrowing from outside."""
        kept = Share("kept", 0.5, 1.0, lending=False)
        root = tree(20, Share("a", 0.5, 1.0, True, (kept, Share("greedy", 0.5))), Share("b", 0.5))
        self.assertEqual(fill(root.buckets["greedy"]), 15)
        self.assertEqual(fill(root.buckets["b"]), 0)
        self.assertEqual(fill(root.buckets["kept"]), 5)

    def test_shrunk(self) -> None:
        """Nothing can be taken while more is in use than there is."""
        root = tree(40, *STRICT)
        fill(root.buckets["main"])
        root.resize(20)
        self.assertFalse(root.buckets["vip"].may_take())
        for _ in range(13):
            root.buckets["main"].release()
        self.assertTrue(root.buckets["vip"].may_take())

    def test_unnamed(self) -> None:
        """Requests in no bucket have what nobody is ensured, and may borrow the rest."""
        root = tree(10, Share("vip", 0.2, 0.4, lending=False))
        self.assertEqual(fill(root.leaf), 8)
        root = tree(10, Share("vip", 0.2, 0.4))
        self.assertEqual(fill(root.leaf), 10)


class NextTests(SynchronousTestCase):
    """Whose turn it is."""

    def order(self, root: Root, owner: str, times: int, *names: str) -> str:
        """Requests end in one bucket, and others wait in some: who gets on."""
        for name in names:
            root.buckets[name].leaf.wait(times)
        got = []
        for _ in range(times):
            root.buckets[owner].leaf.release()
            leaf = root.next()
            assert leaf is not None
            root.admit(leaf)
            got.append(leaf.name)
        return " ".join(got)

    def test_ensuredFirst(self) -> None:
        """Who is below its share comes first, until it has that."""
        root = tree(10, Share("a", 0.3), Share("b", 0.7))
        fill(root.buckets["b"])
        self.assertEqual(self.order(root, "b", 5, "a", "b"), "a a a b b")

    def test_leastUsed(self) -> None:
        """Of several below their shares the one with the smallest part of its own comes first."""
        root = tree(20, Share("a", 0.2), Share("b", 0.4), Share("c", 0.4))
        fill(root.buckets["c"])
        self.assertEqual(self.order(root, "c", 6, "a", "b"), "a b b a b b")

    def test_borrowers(self) -> None:
        """Of those that borrow, the one that has borrowed least; so one that is ensured nothing does not starve."""
        root = tree(10, Share("a", 0.4), Share("b", 0.4), Share("c", 0.0))
        fill(root.buckets["a"], 4)
        fill(root.buckets["b"], 4)
        fill(root.leaf, 2)
        root.buckets["c"].wait(2)
        root.buckets["a"].wait(2)
        root.leaf.release()
        first = root.next()
        assert first is not None
        root.admit(first)
        root.leaf.release()
        second = root.next()
        assert second is not None
        self.assertEqual({first.name, second.name}, {"a", "c"})

    def test_turns(self) -> None:
        """Equal ones take turns, also where one token is all there is."""
        root = tree(1, Share("a", 0.5), Share("b", 0.5))
        self.assertTrue(root.buckets["a"].may_take())
        root.buckets["a"].take()
        root.buckets["a"].wait(4)
        root.buckets["b"].wait(4)
        got = []
        owner = root.buckets["a"]
        for _ in range(6):
            owner.release()
            leaf = root.next()
            assert leaf is not None
            root.admit(leaf)
            got.append(leaf.name)
            owner = leaf
        self.assertEqual(got.count("a"), 3)

    def test_nobody(self) -> None:
        """Nobody is next when none waits, when there is no token, or when those that wait are at their ceilings."""
        root = tree(10, *SHOP)
        self.assertIsNone(root.next())
        vip = root.buckets["vip"]
        fill(vip)
        vip.wait(1)
        self.assertIsNone(root.next())
        vip.wait(-1)
        main = root.buckets["main"]
        fill(main)
        main.wait(1)
        self.assertIsNone(root.next())

    def test_passed(self) -> None:
        """Who is to be passed over is."""
        root = tree(10, *SHOP)
        vip, main = root.buckets["vip"], root.buckets["main"]
        vip.wait(1)
        main.wait(1)
        first = root.next()
        assert first is not None
        second = root.next([first])
        self.assertEqual({first, second}, {vip, main})
        self.assertIsNone(root.next([vip, main]))


class CountTests(SynchronousTestCase):
    """What is counted."""

    def test_counts(self) -> None:
        """What happens in a bucket counts for those above it too."""
        root = tree(10, Share("a", 0.5, 1.0, True, (Share("b", 0.5),)))
        b = root.buckets["b"]
        b.wait(2)
        b.refuse()
        b.expire()
        root.admit(b)
        for bucket in (b, root.buckets["a"], root):
            self.assertEqual((bucket.used, bucket.queued, bucket.total, bucket.full, bucket.timeouts), (1, 1, 1, 1, 1))
        self.assertEqual(root.leaf.total, 0)

    def test_repr(self) -> None:
        """It says how it is."""
        root = tree(10, *SHOP)
        fill(root.buckets["vip"], 3)
        root.buckets["vip"].wait(1)
        self.assertEqual(repr(root.buckets["vip"]), "<Bucket vip 3 of 2..4 queued=1>")


class CoverTests(SynchronousTestCase):
    """Whether a backend can go."""

    def test_covered(self) -> None:
        """It can when what is ensured and in use fits into what is left; borrowed tokens do not count."""
        root = tree(40, *SHOP)
        fill(root.buckets["main"])
        self.assertEqual(root.uncovered(32), [])

    def test_uncovered(self) -> None:
        """It cannot when that does not fit, and the reason says who uses what."""
        root = tree(40, *SHOP)
        fill(root.buckets["main"], 20)
        self.assertEqual(
            root.uncovered(10),
            [
                "bucket 'main' is ensured 32 requests at one time and has 20 in flight; of 20 that are ensured and in"
                " use, 10 would be left"
            ],
        )
