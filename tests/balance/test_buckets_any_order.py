"""Buckets under schedules of arrivals, ends, failures, retries and changes that nobody thought of."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.buckets import Bucket, Root, Share, split

PROFILE = settings(max_examples=400, deadline=None, derandomize=True)

#: Seconds that a request waits in the model before it gives up, and that it runs at the most.
PATIENCE = 7


@st.composite
def trees(draw: st.DrawFn, depth: int = 2, prefix: str = "") -> tuple[Share, ...]:
    """Buckets beside each other, and some within them; rates in whole percents."""
    shares = []
    left = 100
    for number in range(draw(st.integers(1, 3))):
        name = f"{prefix}{'abc'[number]}"
        rate = draw(st.integers(0, left))
        left -= rate
        ceil = draw(st.integers(max(1, rate), 100))
        below = draw(trees(depth - 1, name)) if depth > 1 and draw(st.booleans()) else ()
        shares.append(Share(name, rate / 100, ceil / 100, draw(st.booleans()), below))
    return tuple(shares)


def walk(bucket: Bucket) -> list[Bucket]:
    """A bucket and all below it."""
    return [bucket, *(below for child in bucket.children for below in walk(child))]


class Request:
    """A request of the model."""

    def __init__(self, leaf: Bucket, now: int) -> None:
        self.leaf = leaf
        self.since = now
        self.running = False


class Model:
    """
    A cluster on a virtual clock: one queue for each leaf, first in first out. It knows each request by itself, so that
    tokens can be counted anew by asking who has one.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self.now = 0
        self.running: list[Request] = []
        self.queues: dict[Bucket, deque[Request]] = {}
        self.admitted: list[Request] = []

    def arrive(self, leaf: Bucket) -> None:
        """A request comes."""
        request = Request(leaf, self.now)
        queue = self.queues.setdefault(leaf, deque())
        if not queue and leaf.may_take():
            leaf.take()
            request.running = True
            self.running.append(request)
        else:
            queue.append(request)
            leaf.wait(1)

    def serve(self) -> None:
        """Who waits gets on, as far as there are tokens."""
        while (leaf := self.root.next()) is not None:
            request = self.queues[leaf].popleft()
            self.root.admit(leaf)
            request.running = True
            self.running.append(request)

    def end(self, number: int) -> None:
        """One that runs ends: by an answer, an error, or because its client has gone."""
        self.running.pop(number % len(self.running)).leaf.release()

    def leave(self, number: int) -> None:
        """One that waits goes away, from the middle of its queue."""
        waiting = [(queue, request) for queue in self.queues.values() for request in queue]
        queue, request = waiting[number % len(waiting)]
        queue.remove(request)
        request.leaf.wait(-1)

    def expire(self) -> None:
        """Those that have waited for too long give up."""
        for queue in self.queues.values():
            while queue and queue[0].since + PATIENCE <= self.now:
                queue.popleft().leaf.wait(-1)

    def move(self, gone: list[Bucket]) -> None:
        """Those that wait in what is there no more wait elsewhere."""
        for leaf in gone:
            for request in self.queues.pop(leaf, ()):
                leaf.wait(-1)
                request.leaf = self.root.leaf
                self.root.leaf.wait(1)
                self.queues.setdefault(self.root.leaf, deque()).append(request)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive"] * 5 + ["end"] * 3 + ["retry", "leave", "resize", "configure", "pass"]),
        st.integers(0, 10_000),
        st.booleans(),
    ),
    max_size=120,
)


class ScheduleTests(SynchronousTestCase):
    """Whatever comes in whatever order."""

    def check(self, model: Model, before: dict[Bucket, int], shrunk: bool) -> None:
        """No token is lost or doubled, no bound is broken, and nobody waits who need not."""
        root = model.root
        for bucket in walk(root):
            below = set(bucket.leaves())
            running = sum(request.leaf in below for request in model.running)
            waiting = sum(len(model.queues.get(leaf, ())) for leaf in below)
            self.assertEqual((bucket.used, bucket.queued), (running, waiting), bucket)
            self.assertGreaterEqual(bucket.ceil, bucket.rate if root.size else 0)
            if not shrunk:
                self.assertLessEqual(bucket.used, max(bucket.ceil, before.get(bucket, 0)), bucket)
        if not shrunk:
            self.assertLessEqual(root.used, max(root.size, before.get(root, 0)))
        for leaf, queue in model.queues.items():
            self.assertFalse(queue and leaf.may_take(), f"{leaf} waits for a token that it may take")

    @PROFILE
    @given(trees(), trees(), st.integers(0, 30), STEPS)
    def test_anyOrder(
        self, shares: tuple[Share, ...], others: tuple[Share, ...], size: int, steps: list[tuple[str, int, bool]]
    ) -> None:
        """Arrivals, ends, retries, clients that leave, timeouts, changes of capacity and of the tree itself."""
        root = Root(shares, size)
        model = Model(root)
        for step, number, other in steps:
            before = {bucket: bucket.used for bucket in walk(root)}
            model.now += 1
            model.expire()
            if step == "arrive":
                leaves = list(root.leaves())
                model.arrive(leaves[number % len(leaves)])
            elif step == "end" and model.running:
                model.end(number)
            elif step == "leave" and root.queued:
                model.leave(number)
            elif step == "resize":
                root.resize(number % 31, number % 5 if other else 0)
            elif step == "configure":
                model.move(root.configure(others if other else shares))
            # A retry keeps its token, and time may pass: nothing happens to the tree.
            model.serve()
            self.check(model, before, step in ("resize", "configure"))
        for queue in model.queues.values():
            for request in queue:
                request.leaf.wait(-1)
            queue.clear()
        while model.running:
            model.end(0)
        for bucket in walk(root):
            self.assertEqual((bucket.used, bucket.queued), (0, 0))

    @PROFILE
    @given(trees(), st.integers(1, 60), st.lists(st.integers(0, 10_000), max_size=80), st.data())
    def test_demand(self, shares: tuple[Share, ...], size: int, ends: list[int], data: st.DataObject) -> None:
        """
        With demand in every bucket each has at least its rate as soon as everyone who had borrowed has ended once, and
        keeps it; all that may be used is used.
        """
        root = Root(shares, size)
        model = Model(root)
        leaves = list(root.leaves())
        # Somebody has been alone for a while.
        first = data.draw(st.sampled_from(leaves))
        for _ in range(size):
            model.arrive(first)
        for leaf in leaves:
            for _ in range(3 * size + len(ends) + 3):
                model.arrive(leaf)
        for request in list(model.running):
            model.running.remove(request)
            request.leaf.release()
            model.serve()
        ensured = sum(leaf.rate for leaf in leaves) <= size
        for number in [0, *ends]:
            model.end(number)
            model.serve()
            self.check(model, {}, False)
            for bucket in walk(root):
                if ensured and bucket.queued:
                    self.assertGreaterEqual(bucket.used, min(bucket.rate, bucket.ceil), repr(walk(root)))

    @PROFILE
    @given(trees(), st.integers(1, 20))
    def test_nobodyStarves(self, shares: tuple[Share, ...], size: int) -> None:
        """With demand in every bucket, each that is ensured anything is served again and again."""
        root = Root(shares, size)
        model = Model(root)
        leaves = list(root.leaves())
        for leaf in leaves:
            for _ in range(5 * size + 4 * len(leaves) + 1):
                model.arrive(leaf)
        # In the order in which they came, as requests that take equally long do.
        for _ in range(4 * size + 4 * len(leaves)):
            model.end(0)
            model.serve()
        # With fewer tokens than shares, what one keeps for itself may be all there is.
        if sum(leaf.rate for leaf in leaves) <= size or all(bucket.share.lending for bucket in walk(root)):
            for leaf in leaves:
                if leaf.rate and all(above.rate for above in self.above(leaf)):
                    self.assertGreater(leaf.total, 0, repr(walk(root)))

    @PROFILE
    @given(trees(), st.integers(0, 40), STEPS)
    def test_kept(self, shares: tuple[Share, ...], size: int, steps: list[tuple[str, int, bool]]) -> None:
        """What a bucket does not lend is free for it at any time, whoever else asks for more."""
        root = Root(shares, size)
        model = Model(root)
        leaves = list(root.leaves())
        if sum(leaf.rate for leaf in leaves) > size:
            return
        for step, number, _ in steps:
            if step == "end" and model.running:
                model.end(number)
            else:
                model.arrive(leaves[number % len(leaves)])
            model.serve()
            for leaf in leaves:
                if not leaf.share.lending and leaf.used < leaf.rate:
                    self.assertTrue(leaf.may_take(), repr(walk(root)))

    @staticmethod
    def above(bucket: Bucket) -> list[Bucket]:
        """All that a bucket is in."""
        return [] if bucket.parent is None else [bucket.parent, *ScheduleTests.above(bucket.parent)]

    @PROFILE
    @given(st.integers(0, 1000), st.lists(st.integers(0, 50), min_size=1, max_size=12))
    def test_split(self, total: int, parts: list[int]) -> None:
        """Shares add up, differ from what is due by less than one where there are enough, and are never nothing."""
        whole = max(100, sum(parts))
        fractions = [part / whole for part in parts]
        shares = split(total, fractions)
        wanted = sum(1 for part in parts if part)
        self.assertEqual(len(shares), len(parts) + 1)
        if total >= wanted:
            self.assertEqual(sum(shares), total)
        if total:
            for part, share in zip(parts, shares, strict=False):
                self.assertEqual(bool(part), bool(share))
        if total and all(total * fraction >= 1 for fraction in fractions if fraction):
            for fraction, share in zip(fractions, shares, strict=False):
                self.assertLess(abs(share - total * fraction), 1 + 1e-6)
