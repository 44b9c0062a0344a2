"""Retries that wait for a backend which they have not tried: what the queue promises them and the others."""

from __future__ import annotations

from lemmytx.cluster.rules import QueueRules, Rules
from tests.cluster.test_queue import SHOP, Exchange, QueueCase


class AgainTests(QueueCase):
    """Backends that take one request each."""

    def failed(self, exchange: Exchange) -> Exchange:
        """Its backend has failed it."""
        assert exchange.backend is not None
        exchange.backend.leave()
        exchange.tried = (*exchange.tried, exchange.backend)
        exchange.backend = None
        return exchange

    def test_may(self) -> None:
        """A retry may wait while a backend that it has not tried is up and full, and the queue has places and time."""
        queue = self.queued("aa", timeout=5.0)
        first, second = self.ask(), self.ask()
        self.failed(first)
        self.assertTrue(queue.may_wait_again(first))
        first.queue_time = 5.0
        self.assertFalse(queue.may_wait_again(first), "it has waited for long enough")
        first.queue_time = 4.0
        self.assertTrue(queue.may_wait_again(first))
        self.members.configure(self.members.backends, self.members.scheduler, Rules(queue=QueueRules(limit=0)))
        self.assertFalse(queue.may_wait_again(first), "there are no places")
        self.members.configure(self.members.backends, self.members.scheduler, Rules(queue=QueueRules()))
        assert second.backend is not None
        second.backend.state = "drain"
        second.backend.changed()
        self.assertFalse(queue.may_wait_again(first), "the other one takes nothing more")
        second.backend.state = "ready"
        second.backend.changed()
        self.failed(second)
        self.assertFalse(queue.may_wait_again(second), "it has tried one, and the other has room")

    def test_roles(self) -> None:
        """It waits for one on standby too, and for a backup only while no active one is up."""
        for roles, down, may in (("as", False, True), ("ab", False, False), ("ab", True, True)):
            queue = self.queued(roles)
            first = self.failed(self.ask())
            active, other = self.members.backends
            other.active += 1
            if down:
                active.state = "disabled"
                active.changed()
            self.assertEqual(queue.may_wait_again(first), may, roles)
            other.leave()
            first.backend = None
            self.exchanges.clear()

    def test_place(self) -> None:
        """Without buckets it has no place any more once it is served; with buckets its token, all the time."""
        for shares in ((), SHOP):
            queue = self.queued("aa", buckets=shares)
            first, second = self.ask(), self.ask()
            self.failed(first)
            token = first.place
            queue.wait_again(first)
            self.assertEqual((queue.waiting, queue.root.queued, queue.root.used), (1, 0, 2 if shares else 0))
            second.end()
            self.exchanges.remove(second)
            self.wait()
            self.assertIs(first.backend, second.backend)
            self.assertIs(first.place, token)
            self.assertEqual((queue.waiting, queue.root.used), (0, 1 if shares else 0))
            first.end()
            self.exchanges.clear()

    def test_first(self) -> None:
        """It is served before those in line, who have what it has been to already."""
        self.queued("aa")
        queue = self.members.queue
        assert queue is not None
        first, second = self.ask(), self.ask()
        failed = first.backend
        self.failed(first)
        queue.wait_again(first)
        third, fourth = self.ask(), self.ask()
        self.assertIs(third.backend, failed)
        self.assertIsNone(fourth.backend)
        second.end()
        self.exchanges.remove(second)
        fifth = self.ask()
        self.wait()
        self.assertIs(first.backend, second.backend)
        self.assertEqual([each.backend for each in (fourth, fifth)], [None, None])

    def test_noHedges(self) -> None:
        """While one waits, what is free is its own: nothing is sent beside others."""
        queue = self.queued("aaa")
        first, second, _ = self.ask(), self.ask(), self.ask()
        self.assertIsNotNone(queue.spare(second))
        self.failed(first)
        queue.wait_again(first)
        self.assertIsNone(queue.spare(second))

    def test_everybody(self) -> None:
        """When the queue is emptied it goes too, and gives its token back."""
        queue = self.queued("aa", buckets=SHOP)
        first, _ = self.ask(), self.ask()
        self.failed(first)
        queue.wait_again(first)
        queue.turn_away()
        self.assertEqual((first.fate, queue.waiting, queue.root.used), ("no_backend", 0, 1))
