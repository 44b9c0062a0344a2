"""Counters of what was served."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.histogram import SLOT, SLOTS
from lemmytx.cluster.traffic import PERIODS, RING, Traffic


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

    def test_add_is_not_of_late(self) -> None:
        """Sums that are kept for ever have no times: those pass."""
        total, one = Traffic(), Traffic()
        one.ended(200, 1.0, 1, 2)
        one.fold(5.0)
        one.ended(200, 1.0, 1, 2)
        total.add(one)
        self.assertEqual((total.times, total.recent, total.rates), ([], None, None))


class FoldTests(SynchronousTestCase):
    """From the list of times into the histogram."""

    def test_fold(self) -> None:
        """All times get into the histogram, once."""
        traffic = Traffic()
        for time in (0.1, 0.2, 0.2):
            traffic.ended(200, time, 0, 0)
        traffic.fold(10.0)
        traffic.fold(11.0)
        self.assertEqual(traffic.times, [])
        assert traffic.recent is not None
        self.assertEqual(sorted(traffic.recent.counts.values()), [1, 2])

    def test_no_time(self) -> None:
        """What took no time worth telling, like a head that could not be read, is no response time."""
        traffic = Traffic()
        traffic.ended(400, 0.0, 0, 0)
        traffic.fold(10.0)
        self.assertEqual((traffic.count, traffic.recent), (1, None))

    def test_quiet(self) -> None:
        """Five minutes after the last exchange nothing is kept of it."""
        traffic = Traffic()
        traffic.ended(200, 0.1, 0, 0)
        traffic.fold(10.0)
        traffic.fold(10.0 + SLOT * (SLOTS - 1))
        self.assertIsNot(traffic.recent, None)
        traffic.fold(10.0 + SLOT * SLOTS)
        self.assertIs(traffic.recent, None)


class RatesTests(SynchronousTestCase):
    """Requests per second."""

    def setUp(self) -> None:
        self.traffic = Traffic()
        self.second = 0

    def pass_second(self, count: int = 0) -> None:
        """A second in which so many exchanges end."""
        for _ in range(count):
            self.traffic.ended(200, 0.1, 0, 0)
        self.second += 1
        self.traffic.note(self.second)

    def rates(self) -> list[float]:
        """Over 1, 10 and 60 seconds."""
        assert self.traffic.rates is not None
        return self.traffic.rates.over(self.second)

    def test_periods(self) -> None:
        """Each is what came in so many seconds, by their number."""
        self.assertEqual(PERIODS, (1, 10, 60))
        for second in range(200):
            self.pass_second(second % 7)
        self.assertEqual(self.rates(), [
            199 % 7,
            sum(second % 7 for second in range(190, 200)) / 10,
            sum(second % 7 for second in range(140, 200)) / 60,
        ])  # fmt: skip

    def test_from_the_start(self) -> None:
        """Before there were so many seconds, it is over those that there were."""
        self.pass_second(4)
        self.pass_second(8)
        self.assertEqual(self.rates(), [8.0, 6.0, 6.0])

    def test_pauses(self) -> None:
        """Seconds in which nothing came count, also when nobody noted them."""
        for _ in range(100):
            self.pass_second(10)
        for _ in range(5):
            self.pass_second()
        self.assertEqual(self.rates(), [0.0, 5.0, 10 * 55 / 60])
        self.second += 20
        self.assertEqual(self.rates(), [0.0, 0.0, 10 * 35 / 60])
        self.pass_second(6)
        self.assertEqual(self.rates(), [6.0, 0.6, (10 * 34 + 6) / 60])

    def test_long_pause(self) -> None:
        """After a pause longer than what is kept only the new counts."""
        for _ in range(70):
            self.pass_second(10)
        self.second += 1000
        self.pass_second(3)
        self.assertEqual(self.rates(), [3.0, 0.3, 0.05])

    def test_quiet(self) -> None:
        """A minute after the last exchange nothing is kept."""
        self.pass_second(1)
        for _ in range(RING - 1):
            self.pass_second()
        self.assertEqual(self.rates(), [0.0, 0.0, 1 / 60])
        self.pass_second()
        self.assertIs(self.traffic.rates, None)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(1, 80), st.integers(0, 50)), max_size=30), st.integers(0, 100))
    def test_any(self, notes: list[tuple[int, int]], later: int) -> None:
        """Whatever is noted when, rates are those of the seconds that they are over."""
        traffic, second, came = Traffic(), 0, {}
        for step, count in notes:
            second += step
            came[second] = count
            for _ in range(count):
                traffic.ended(200, 0.1, 0, 0)
            traffic.note(second)
        second += later
        for position, period in enumerate(PERIODS):
            true = sum(count for number, count in came.items() if number > second - period)
            found = traffic.rates.over(second)[position] if traffic.rates is not None else 0.0
            self.assertAlmostEqual(found, true / max(1, min(period, second)))
