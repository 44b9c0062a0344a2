"""What a process says of the rooms of its backends, and takes."""

from __future__ import annotations

from lemmytx.cluster import rooms
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.rules import QueueRules
from lemmytx.cluster.shares import Load, Room
from tests.cluster.test_queue import SHOP, QueueCase


class RoomTests(QueueCase):
    """L{rooms}"""

    def test_loads(self) -> None:
        """It says what is in flight, what may be, and how many wait; of backends that have a capacity."""
        self.queued("aa", 2)
        for _ in range(7):
            self.ask()
        one = self.members.backends[1]
        one.state = "drain"
        one.changed()
        self.members.backends[0].room = 1
        free = self.cluster("aaa", 0)
        self.assertEqual(
            {"c": Load(3, {"a0": Room(2, 1, 2, True), "a1": Room(2, 2, 2, False)})}, rooms.loads([self.members, free])
        )

    def test_share(self) -> None:
        """More room is there at once for those who wait; with less, it says what is in flight all the same."""
        self.queued("aa", 2)
        for backend in self.members.backends:
            backend.room = 0
        asked = [self.ask() for _ in range(4)]
        clusters: dict[str, Cluster] = {"c": self.members}
        self.assertEqual({"c": {"a0": 2}}, rooms.share(clusters, {"c": {"a0": 2, "gone": 1}, "gone": {"a0": 1}}))
        self.wait()
        self.assertEqual([True, True, False, False], [each.backend is not None for each in asked])
        self.assertEqual({"c": {"a0": 2, "a1": 1}}, rooms.share(clusters, {"c": {"a0": 0, "a1": 1}}))
        self.wait()
        asked[0].end()
        self.wait()
        self.assertIsNone(asked[3].backend)

    def test_classes(self) -> None:
        """What there is for all classes together is as large as the room."""
        queue = self.queued("a", 100, buckets=SHOP)
        rooms.share({"c": self.members}, {"c": {"a0": 20}})
        self.assertEqual((20, 4, 8), (queue.root.size, queue.buckets["vip"].rate, queue.buckets["vip"].ceil))

    def test_capacity(self) -> None:
        """Another capacity: less is less at once, and more is given out by who divides it; alone, it is there."""
        self.members = self.cluster("a", 10)
        backend = self.members.backends[0]

        def configured(capacity: int, room: int) -> int:
            other = self.cluster("a", capacity).backends[0]
            other.room = room
            backend.configure(other)
            return backend.room

        self.assertEqual(20, configured(20, 20))
        self.assertEqual(20, configured(30, 15))
        self.assertEqual(3, configured(6, 3))
        backend.room = 1
        self.assertEqual(1, configured(4, 2))
        self.assertEqual(0, configured(0, 0))
        self.assertEqual(4, configured(8, 4))
        self.members.configure(self.members.backends, self.members.scheduler, self.members.rules)

    def test_noQueue(self) -> None:
        """Where requests do not wait nobody does."""
        self.members = self.cluster("a", 10)
        self.assertEqual(0, rooms.loads([self.members])["c"].waiting)
        self.queued("a", 1, limit=0)
        self.assertEqual(QueueRules(limit=0), self.members.rules.queue)
        self.ask()
        self.ask()
        self.assertEqual(0, rooms.loads([self.members])["c"].waiting)
