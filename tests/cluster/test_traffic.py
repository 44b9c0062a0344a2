"""Counters of what was served."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.traffic import Traffic


class TrafficTests(SynchronousTestCase):
    """Counting and adding up."""

    def test_ended(self) -> None:
        """Each exchange counts once, under its status."""
        traffic = Traffic()
        for status, time in ((200, 0.5), (200, 0.25), (499, 1.0)):
            traffic.ended(status, time, 10, 100)
        self.assertEqual((traffic.count, traffic.statuses), (3, {200: 2, 499: 1}))
        self.assertEqual((traffic.time, traffic.received, traffic.sent), (1.75, 30, 300))

    def test_add(self) -> None:
        """Sums have all parts and change none of them."""
        total, one, other = Traffic(), Traffic(), Traffic()
        one.ended(200, 1.0, 1, 2)
        other.ended(200, 2.0, 3, 4)
        other.ended(404, 4.0, 5, 6)
        total.add(one)
        total.add(other)
        self.assertEqual((total.count, total.statuses), (3, {200: 2, 404: 1}))
        self.assertEqual((total.time, total.received, total.sent), (7.0, 9, 12))
        self.assertEqual((one.count, one.statuses), (1, {200: 1}))
