"""
Classes of requests: hierarchical token buckets over the capacity of a cluster. Pure: no clock, no requests.

One token is one request in flight. The root's size is what the cluster can take at one time. Each bucket has two
numbers of tokens, made from fractions of its parent's:

  - C{rate}, what it is ensured. The rates of all children of a bucket and of its C{rest} add up to the bucket's own
    (largest remainder), and one with any rate has at least 1, though that be one too many.
  - C{ceil}, the most that it may have. Rounded down, and never below its rate or 1.

Only leaves take tokens. An inner bucket, and so the root, has a leaf of its own, the C{rest}, for requests that are in
none of its children: it is ensured what the children are not, and may use all.

B{Lending.} A token that nobody is ensured, or whose owner has no use for it, goes to whoever asks. Requests cannot be
taken back, so the owner gets its own again as they end: L{Root.next} says who of those that wait has the next token.
With C{lending: false} a bucket's share is kept for it even while it is idle. To that end every bucket is also told what
it I{holds}: what is used in it and, if it does not lend, at least its rate. A token may be taken when on the whole way
up neither use nor hold would exceed a ceil; what was kept for the taker is used without holding more.

B{Who is next.} On each level of the tree, those below their rate come before the others, first whose share of it is the
smallest; of those at or above, the one who has borrowed least; among equals who was served longest ago. So nobody who
is ensured anything starves. A bucket that is ensured nothing gets what nobody else wants.

The root may shrink below what is in use. Nothing can be taken then until enough has been given back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor
from typing import NamedTuple

#: The size of a root that is no bound: of a cluster without buckets, where its backends' capacities are bounds enough.
UNBOUNDED = 1 << 60


class Share(NamedTuple):
    """
    A bucket as configured.

    @ivar name: unique in its tree.
    @ivar rate: the fraction of its parent that it is ensured, 0 to 1.
    @ivar ceil: the fraction of its parent that it may have.
    @ivar lending: whether others may have what it does not use.
    @ivar buckets: those below it.
    """

    name: str
    rate: float = 0.0
    ceil: float = 1.0
    lending: bool = True
    buckets: tuple[Share, ...] = ()


def split(total: int, fractions: Sequence[float]) -> list[int]:
    """
    Whole shares by largest remainder, equal ones in their order. One of any fraction has at least 1, taken from who has
    most; if there is not enough for that, the shares are more than the total.

    @param total: not negative.
    @param fractions: none negative, together not more than 1.
    @return: the shares, and one more: what is left.
    """
    # 0.29 × 100 is 28.999999999999996, and nobody means 28.
    quotas = [round(total * fraction, 9) for fraction in fractions]
    quotas.append(max(0.0, round(total - sum(quotas), 9)))
    shares = [floor(quota) for quota in quotas]
    left = total - sum(shares)
    order = sorted(range(len(quotas)), key=lambda number: (shares[number] - quotas[number], number))
    for number in order[: max(0, left)]:
        shares[number] += 1
    if total:
        last = len(fractions)
        for number, fraction in enumerate(fractions):
            if fraction > 0 and not shares[number]:
                # What nobody is ensured goes first.
                giver = last if shares[last] else max(range(last), key=lambda other: shares[other])
                if giver == last or shares[giver] > 1:
                    shares[giver] -= 1
                shares[number] = 1
    return shares


class Bucket:
    """
    A node of the tree.

    @ivar name: as configured; empty for the root. The C{rest} of a bucket has its name.
    @ivar rate: tokens that it is ensured.
    @ivar ceil: tokens that it may have.
    @ivar used: tokens that are taken, in it and below.
    @ivar queued: requests that wait for one, in it and below. Whoever has them wait counts them.
    @ivar total: tokens ever taken, C{full}: requests that found its queue full, C{timeouts}: that waited in vain.
    @ivar rest: its own leaf; L{None} when it is a leaf itself.
    """

    __slots__ = (
        "_base", "_held", "_lending", "_served", "ceil", "children", "full", "name", "parent", "queued", "rate", "rest",
        "share", "timeouts", "total", "used",
    )  # fmt: skip

    def __init__(self, name: str, parent: Bucket | None) -> None:
        self.name = name
        self.parent = parent
        self.share = Share(name)
        self.children: tuple[Bucket, ...] = ()
        self.rest: Bucket | None = None
        self.rate = 0
        self.ceil = 0
        self.used = 0
        self.queued = 0
        self.total = 0
        self.full = 0
        self.timeouts = 0
        self._lending = True
        self._base = 0  # what its children hold; of a leaf, what it uses
        self._held = 0
        self._served = 0

    @property
    def leaf(self) -> Bucket:
        """Where its own requests are."""
        return self if self.rest is None else self.rest

    def may_take(self) -> bool:
        """Whether there is a token for it. Asked of leaves."""
        more = True
        node: Bucket | None = self
        while node is not None:
            if node.used >= node.ceil:
                return False
            if more:
                if node._base < node._held:
                    more = False  # it was kept for it, so above this nothing changes
                elif node._held >= node.ceil:
                    return False
            node = node.parent
        return True

    def take(self) -> None:
        """Take a token that L{may_take} said there is."""
        self._move(1)

    def release(self) -> None:
        """Give one back."""
        self._move(-1)

    def _move(self, step: int) -> None:
        delta = step
        node: Bucket | None = self
        while node is not None:
            node.used += step
            if step > 0:
                node.total += 1
            if delta:
                node._base += delta
                held = node._base if node._lending else max(node._base, node.rate)
                delta, node._held = held - node._held, held
            node = node.parent
        assert self.used >= 0, self

    def wait(self, step: int) -> None:
        """
        So many requests more wait for a token of this leaf.

        @param step: 1, or -1.
        """
        node: Bucket | None = self
        while node is not None:
            node.queued += step
            node = node.parent

    def refuse(self) -> None:
        """A request found the queue of this leaf full."""
        node: Bucket | None = self
        while node is not None:
            node.full += 1
            node = node.parent

    def expire(self) -> None:
        """A request waited in this leaf in vain."""
        node: Bucket | None = self
        while node is not None:
            node.timeouts += 1
            node = node.parent

    def leaves(self) -> Iterator[Bucket]:
        """All leaves of it."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()

    def _claim(self) -> tuple[int, float, int]:
        """The smaller, the sooner it has the next token."""
        if self.used < self.rate:
            return (0, self.used / self.rate, self._served)
        return (1, self.used - self.rate, self._served)

    def _claims(self) -> list[tuple[int, float, int]]:
        claims = []
        node = self
        while node.parent is not None:
            claims.append(node._claim())
            node = node.parent
        claims.reverse()
        return claims

    def served(self, turn: int) -> None:
        """
        It got a token for one that had waited.

        @param turn: greater than the last time.
        """
        node: Bucket | None = self
        while node is not None:
            node._served = turn
            node = node.parent

    def _resize(self) -> None:
        """Its own numbers are new: those of all below follow."""
        if not self.children:
            self._base = self.used
        else:
            # What stands in for the others (C{extra} of the root) ensures nobody anything, and only the rest has it.
            basis = self.rate if self.parent is None else self.ceil
            named = self.children[: len(self.share.buckets)]
            rates = split(self.rate, [child.share.rate for child in named])
            for child, rate in zip(named, rates, strict=False):
                child.rate = rate
                child.ceil = max(rate, floor(basis * child.share.ceil + 1e-9), 1 if basis else 0)
            if self.rest is not None:
                self.rest.rate, self.rest.ceil = rates[-1], self.ceil
            for child in self.children:
                child._resize()
            self._base = sum(child._held for child in self.children)
        self._held = self._base if self._lending else max(self._base, self.rate)

    def __repr__(self) -> str:
        return f"<Bucket {self.name or '(root)'} {self.used} of {self.rate}..{self.ceil} queued={self.queued}>"


class Root(Bucket):
    """
    The whole: 100 % of a cluster.

    @ivar buckets: all by name, the root itself by the empty one.
    @ivar size: tokens there are.
    """

    __slots__ = ("_gone", "_turn", "buckets", "extra", "size")

    def __init__(self, shares: Sequence[Share] = (), size: int = UNBOUNDED) -> None:
        super().__init__("", None)
        self.buckets: dict[str, Bucket] = {}
        self.size = size
        self.extra = 0
        self._turn = 0
        self._gone: list[Bucket] = []
        self.configure(shares)

    def configure(self, shares: Sequence[Share]) -> list[Bucket]:
        """
        Other buckets, from now on. One of the same name stays the same object, with what it counts.

        @return: leaves that are there no more (a bucket that got children has its rest instead) and that requests may
            wait in. Their tokens are given back as before and count for the root until then.
        """
        before = [leaf for leaf in self.leaves() if leaf not in self._gone]
        old, self.buckets = self.buckets, {"": self}
        self.share = Share("", 1.0, 1.0, True, tuple(shares))
        self._build(self, old)
        present = set(self.leaves())
        gone = [leaf for leaf in before if leaf not in present]
        self._gone = [leaf for leaf in (*self._gone, *gone) if leaf.used or leaf.queued]
        for leaf in self._gone:
            leaf.parent = self
            leaf.share, leaf._lending, leaf.rest, leaf.children = Share(leaf.name), True, None, ()
        self.children = (*self.children, *self._gone)
        self._count()
        self.resize(self.size, self.extra)
        return gone

    def _build(self, node: Bucket, old: dict[str, Bucket]) -> None:
        """Give a bucket the children that its share names."""
        if not node.share.buckets and node is not self:
            node.rest, node.children = None, ()
            return
        children = []
        for share in node.share.buckets:
            child = old.get(share.name)
            if child is None or (child.rest is None) != (not share.buckets):
                # A leaf's tokens are a leaf's: what becomes an inner bucket is another object, and so the reverse.
                child = Bucket(share.name, node)
            child.parent = node
            child.share = share
            child._lending = share.lending
            self.buckets[share.name] = child
            self._build(child, old)
            children.append(child)
        if node.rest is None:
            node.rest = Bucket(node.name, node)
        node.children = (*children, node.rest)

    def _count(self) -> None:
        """Work out what inner buckets have, from the leaves."""

        def count(node: Bucket) -> None:
            if node.children:
                for child in node.children:
                    count(child)
                node.used = sum(child.used for child in node.children)
                node.queued = sum(child.queued for child in node.children)

        count(self)

    def resize(self, size: int, extra: int = 0) -> None:
        """
        The capacity is another one.

        @param size: what shares are fractions of.
        @param extra: tokens beyond that, of what stands in when all else is full. Nobody is ensured any.
        """
        self.size = self.rate = size
        self.extra = extra
        self.ceil = size + extra
        for leaf in self._gone:
            leaf.rate, leaf.ceil = 0, self.ceil
        over = [leaf for leaf in self._gone if not leaf.used and not leaf.queued]
        if over:
            self._gone = [leaf for leaf in self._gone if leaf not in over]
            self.children = tuple(child for child in self.children if child not in over)
        self._resize()

    def next(self, passed: Sequence[Bucket] = ()) -> Bucket | None:
        """
        Whose turn it is.

        @param passed: leaves that are not to be looked at.
        @return: a leaf in which requests wait and that may take a token; L{None} when there is none.
        """
        if not self.queued or self.used >= self.ceil:
            return None
        ready = [leaf for leaf in self.leaves() if leaf.queued and leaf not in passed and leaf.may_take()]
        if not ready:
            return None
        return ready[0] if len(ready) == 1 else min(ready, key=Bucket._claims)

    def admit(self, leaf: Bucket) -> None:
        """The leaf takes a token for one that has waited in it."""
        leaf.wait(-1)
        leaf.take()
        self._turn += 1
        leaf.served(self._turn)

    def uncovered(self, size: int) -> list[str]:
        """
        What would not be ensured any more with another size, though it is in use: why a backend should not go.

        @return: one sentence each; empty when nothing speaks against it.
        """
        named = self.children[: len(self.share.buckets)]
        needed = sum(min(child.used, child.rate) for child in named)
        if needed <= size:
            return []
        return [
            f"bucket {child.name!r} is ensured {child.rate} requests at one time and has {child.used} in flight; of"
            f" {needed} that are ensured and in use, {size} would be left"
            for child in named
            if child.rate and child.used
        ]
