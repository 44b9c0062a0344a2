"""A backend's capacity among several processes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.shares import divide, portion


class ShareTests(SynchronousTestCase):
    """Who may have how many."""

    def test_portions(self) -> None:
        """Before anything is known all have the same, as far as it divides."""
        self.assertEqual([portion(10, number, 3) for number in range(3)], [4, 3, 3])
        self.assertEqual([portion(1, number, 2) for number in range(2)], [1, 0])

    def test_free(self) -> None:
        """What is free goes to all alike, what does not divide to the busiest."""
        self.assertEqual(divide(10, [4, 0, 1]), [6, 1, 3])
        self.assertEqual(divide(1, [0, 0]), [1, 0])

    def test_lowered(self) -> None:
        """Where more are in flight than there is room for, nobody gets any more."""
        self.assertEqual(divide(3, [2, 2]), [2, 2])

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.integers(1, 1000), st.lists(st.integers(0, 50), min_size=1, max_size=9))
    def test_never_more(self, capacity: int, active: list[int]) -> None:
        """All shares together are the capacity, and nobody's is below what is in flight."""
        shares = divide(capacity, active)
        self.assertEqual(sum(shares), max(capacity, sum(active)))
        self.assertTrue(all(share >= now for share, now in zip(shares, active, strict=True)))
        self.assertEqual(sum(portion(capacity, number, len(active)) for number in range(len(active))), capacity)
