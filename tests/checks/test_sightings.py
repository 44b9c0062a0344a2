"""What one process says of its checks to the others."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.checks.sightings import AT_ONCE, MOST, PAUSE, Sighting, Sightings


class SightingsTests(SynchronousTestCase):
    """L{Sightings}"""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[list[Sighting]] = []
        self.sightings = Sightings(self.clock)
        self.sightings.tell = self.told.append

    def test_together(self) -> None:
        """What changes together is told together, and of each backend the last."""
        self.sightings.saw("c", "a", False)
        self.sightings.saw("c", "b", False)
        self.sightings.saw("c", "a", True)
        self.assertEqual([], self.told)
        self.clock.advance(0)
        self.assertEqual([[("c", "a", True), ("c", "b", False)]], self.told)

    def test_bounds(self) -> None:
        """However many there are, so many are told in a time; what is too many for that is not told at all."""
        for number in range(MOST + 100):
            self.sightings.saw("c", str(number), False)
        self.clock.advance(0)
        self.assertEqual([AT_ONCE], [len(some) for some in self.told])
        self.clock.advance(PAUSE / 2)
        self.assertEqual(1, len(self.told))
        self.clock.pump([PAUSE / 2] * 1000)
        self.assertEqual({AT_ONCE}, {len(some) for some in self.told})
        self.assertEqual(MOST, sum(len(some) for some in self.told))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nobody(self) -> None:
        """Where nobody wants to know nothing is kept."""
        self.sightings.tell = None
        self.sightings.saw("c", "a", False)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop(self) -> None:
        """After the end nothing is told."""
        self.sightings.saw("c", "a", False)
        self.sightings.stop()
        self.clock.advance(1)
        self.assertEqual([], self.told)
