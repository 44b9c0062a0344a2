"""What classes are ensured and use, when backends go."""

from __future__ import annotations

from lemmytx.cluster.cover import uncovered
from lemmytx.cluster.health import Checkup
from tests.cluster.test_queue import SHOP, QueueCase


class CoverTests(QueueCase):
    """L{uncovered}"""

    def test_several(self) -> None:
        """Backends that go together are looked at together, and those that come in their place count."""
        self.queued("aaaa", 5, buckets=SHOP)
        cluster = self.members
        one, two, three = cluster.backends[:3]
        for _ in range(10):
            self.ask("main")
        self.assertEqual([], uncovered(cluster, [one, two]))
        self.assertEqual(
            [
                f"without {one.name}, {two.name}, {three.name}: bucket 'main' is ensured 16 requests at one time and"
                " has 10 in flight; of 10 that are ensured and in use, 5 would be left"
            ],
            uncovered(cluster, [one, two, three]),
        )
        new = self.cluster("a", 5).backends[0]
        self.assertEqual([], uncovered(cluster, [one, two, three], [new]))
        new.check_by(Checkup(None, up=False))
        self.assertEqual(1, len(uncovered(cluster, [one, two, three], [new])))

    def test_useless(self) -> None:
        """One that takes nothing may go, and so may all where nobody is ensured anything."""
        self.queued("aa", 5, buckets=SHOP)
        one, two = self.members.backends
        for _ in range(5):
            self.ask("main")
        one.state = "disabled"
        one.changed()
        self.assertEqual([], uncovered(self.members, [one]))
        self.assertEqual(1, len(uncovered(self.members, [two])))
        for exchange in self.exchanges:
            exchange.end()
        self.queued("aa", 5)
        self.assertEqual([], uncovered(self.members, self.members.backends))
