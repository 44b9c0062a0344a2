"""The queue of a cluster under schedules that nobody thought of, on a virtual clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lemmytx.balance.buckets import Share
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.place import Place
from lemmytx.cluster.rules import QueueRules, Rules
from tests.cluster.test_queue import Exchange, QueueCase

PROFILE = settings(max_examples=250, deadline=None, derandomize=True)

TREES: tuple[tuple[Share, ...], ...] = (
    (),
    (Share("vip", 0.2, 0.4), Share("main", 0.8, 1.0)),
    (Share("vip", 0.3, 1.0, lending=False), Share("low", 0.0, 0.5)),
    (Share("vip", 0.5, 0.8, True, (Share("gold", 0.5), Share("silver", 0.2, 0.5))), Share("main", 0.5)),
)

CLASSES = (None, "vip", "main", "low", "gold")

WHAT = ["ask"] * 6 + ["end"] * 4 + ["hedge"] * 3 + ["retry"] * 2 + [
    "leave", "unhedge", "promote", "state", "room", "fail", "wait", "turn", "turn", "configure",
]  # fmt: skip


class Beside:
    """As much of a hedge as a queue knows."""

    client = "192.0.2.1"
    head: Any = None
    total = -1.0

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        assert exchange.backend is not None
        self.tried = (*exchange.tried, exchange.backend)
        self.place: Place | None = None
        self.backend: Backend | None = None


class ScheduleTests(QueueCase):
    """
    Arrivals, ends, hedges, retries, clients that leave, failures, backends and rules that change, time that passes.
    """

    hedges: list[Beside]

    def check(self, settled: bool) -> None:
        """No token is lost or doubled, no backend has more than it takes, and nobody waits who need not."""
        queue = self.members.queue
        assert queue is not None
        waiting = [each for each in self.exchanges if each.place is not None and each.place.waiting]
        line = [each for each in waiting if not each.tried]
        holders = (*self.exchanges, *self.hedges)
        tokens = [each for each in holders if each.place is not None and each.place.token]
        self.assertEqual((queue.waiting, queue.root.queued, queue.root.used), (len(waiting), len(line), len(tokens)))
        for bucket in queue.root.leaves():
            self.assertEqual(bucket.used, sum(each.place.bucket is bucket for each in tokens if each.place))
            self.assertLessEqual(bucket.queued, queue.rules.limit * 5)  # those of a class that went are added
        running = [each for each in self.exchanges if each.backend is not None and not each.fate]
        for backend in self.members.backends:
            self.assertEqual(backend.active, sum(each.backend is backend for each in (*running, *self.hedges)))
        self.assertEqual(self.members.gate is queue, bool(queue.counted or queue.waiting))
        if settled:
            for bucket in queue.root.leaves():
                if bucket.queued and (not queue.counted or bucket.may_take()):
                    self.assertIsNone(self.members.choose(Exchange(self, None)), "somebody waits who need not")
            for each in waiting:
                if each.tried:
                    self.assertIsNone(self.members.choose(each), "a retry waits that need not")

    def over(self, exchange: Exchange) -> None:
        """It ends, and is forgotten."""
        for hedge in [each for each in self.hedges if each.exchange is exchange]:
            self.unhedge(hedge)
        exchange.end()
        self.exchanges.remove(exchange)

    def do(self, what: str, number: int) -> None:
        """One thing happens."""
        running = [each for each in self.exchanges if each.backend is not None and not each.fate]
        backend = self.members.backends[number % 3]
        if what == "ask":
            self.ask(CLASSES[number % len(CLASSES)])
        elif what == "end" and running:
            self.over(running[number % len(running)])
        elif what == "leave":
            waiting = [each for each in self.exchanges if each.place is not None and each.place.waiting]
            if waiting:
                self.over(waiting[number % len(waiting)])
        elif what == "retry" and running:
            self.retry(running[number % len(running)])
        elif what == "hedge" and running:
            self.hedge(running[number % len(running)])
        elif what == "unhedge" and self.hedges:
            self.unhedge(self.hedges[number % len(self.hedges)])
        elif what == "promote" and self.hedges:
            self.promote(self.hedges[number % len(self.hedges)])
        elif what == "state":
            backend.state = ("ready", "ready", "drain", "disabled")[number % 4]
            backend.changed()
        elif what == "room":
            backend.room = number % (backend.capacity + 1)
            self.members.changed()
        elif what == "fail":
            self.members.failed(backend, "refused", "refused")
        elif what == "wait":
            self.wait(number % 8)
        elif what == "turn":
            self.wait()
        elif what == "configure":
            rules = QueueRules(5, 6.0, 1, bool(number % 3), TREES[number % len(TREES)])
            self.members.configure(self.members.backends, self.members.scheduler, Rules(queue=rules, max_ejected=1.0))

    def retry(self, exchange: Exchange) -> None:
        """Its backend has failed it: a hedge of it goes on, or it goes elsewhere, or waits for that, or ends."""
        for hedge in self.hedges:
            if hedge.exchange is exchange:
                self.promote(hedge)
                return
        queue = self.members.queue
        assert exchange.backend is not None
        assert queue is not None
        exchange.backend.leave()
        exchange.tried = (*exchange.tried, exchange.backend)
        other = self.members.choose(exchange)
        exchange.backend = None
        if other is not None:
            other.acquire()
            exchange.backend = other
        elif queue.may_wait_again(exchange):
            queue.wait_again(exchange)
        else:
            self.over(exchange)

    def hedge(self, exchange: Exchange) -> None:
        """A second request is sent beside it, as in L{lemmytx.proxy.hedge}."""
        queue = self.members.queue
        assert queue is not None
        bucket = queue.spare(exchange)
        if bucket is None or any(each.exchange is exchange for each in self.hedges):
            return
        hedge = Beside(exchange)
        backend = self.members.choose(hedge)
        if backend is None:
            return
        queue.take(bucket, hedge)
        backend.acquire()
        hedge.backend = backend
        self.hedges.append(hedge)

    def unhedge(self, hedge: Beside) -> None:
        """It is cancelled, or has failed."""
        assert hedge.backend is not None
        self.hedges.remove(hedge)
        if hedge.place is not None:
            hedge.place.leave()
        hedge.backend.leave()

    def promote(self, hedge: Beside) -> None:
        """It takes the place of the first attempt."""
        exchange = hedge.exchange
        assert exchange.backend is not None
        exchange.backend.leave()
        self.hedges.remove(hedge)
        if hedge.place is not None:
            hedge.place.leave()
        exchange.backend = hedge.backend

    @PROFILE
    @given(
        st.sampled_from(TREES),
        st.integers(1, 4),
        st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 10_000)), min_size=40, max_size=100),
    )
    def test_anyOrder(self, shares: tuple[Share, ...], capacity: int, steps: list[tuple[str, int]]) -> None:
        """Whatever happens in whatever order."""
        self.exchanges = []
        self.hedges = []
        self.queued("aas", capacity, limit=5, timeout=6.0, buckets=shares)
        for what, number in steps:
            self.do(what, number)
            for exchange in [each for each in self.exchanges if each.fate]:
                self.exchanges.remove(exchange)
            self.check(what in ("turn", "wait"))
        while self.exchanges:
            self.over(self.exchanges[0])
        self.wait()
        self.check(True)
        self.assertEqual(len(self.ticker), 0)
