"""Response times of late: L{lemmytx.cluster.histogram}."""

from __future__ import annotations

from math import ceil
from random import Random
from sys import getsizeof

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.histogram import (
    BOUNDS,
    ERROR,
    HIGHEST,
    LOWEST,
    SLOT,
    SLOTS,
    VALUES,
    Histogram,
    add_counts,
    quantiles,
    tally,
)

TIMES = st.floats(LOWEST, HIGHEST)
PARTS = (0.0, 0.5, 0.95, 0.99, 1.0)

#: What was asked for.
ALLOWED = 0.03


def exact(times: list[float], part: float) -> float:
    """The shortest time that at least so many do not exceed."""
    ordered = sorted(times)
    return ordered[min(max(1, ceil(part * len(ordered) - 1e-9)), len(ordered)) - 1]


class QuantileTests(SynchronousTestCase):
    """What counts say about times."""

    def check(self, times: list[float]) -> None:
        """All quantiles against the exact ones."""
        found = quantiles(tally(list(times)), PARTS)
        for part, value in zip(PARTS, found, strict=True):
            true = exact(times, part)
            assert value is not None
            self.assertLessEqual(abs(value - true) / true, ERROR + 1e-9, (part, value, true))

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.lists(TIMES, min_size=1, max_size=300))
    def test_error(self, times: list[float]) -> None:
        """Every quantile is within the promised error of a time that was measured, however times are spread."""
        self.check(times)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(st.sampled_from([*BOUNDS, *(bound * (1 + 1e-12) for bound in BOUNDS)]), min_size=1, max_size=200))
    def test_at_the_bounds(self, times: list[float]) -> None:
        """Times that lie just on the bounds of buckets are no worse."""
        self.check(times)

    def test_many(self) -> None:
        """A million times of two kinds of requests: median, p95 and p99 are within the error."""
        random = Random(5)
        times = [
            random.lognormvariate(-6, 0.5) if random.random() < 0.9 else random.uniform(1, 9) for _ in range(10**6)
        ]
        self.check(times)

    def test_promise(self) -> None:
        """What is promised is less than what was asked for, and the buckets that it takes are bounded."""
        self.assertLess(ERROR, ALLOWED)
        self.assertLess(len(VALUES), 400)
        self.assertEqual(len(VALUES), len(BOUNDS) + 1)

    def test_sorted_or_not(self) -> None:
        """Few times and many are counted in two ways, with one outcome."""
        random = Random(3)
        times = [random.expovariate(20) for _ in range(5000)]
        singly: dict[int, int] = {}
        for time in times:
            add_counts(singly, tally([time]))
        self.assertEqual(tally(times), singly)

    def test_out_of_range(self) -> None:
        """Times beyond the range count as its ends."""
        self.assertEqual(quantiles(tally([0.0]), (0.5,)), [LOWEST])
        self.assertEqual(quantiles(tally([-1.0]), (0.5,)), [LOWEST])
        for longest in ([1e9], [1e9] * 500, [float("inf")]):
            (found,) = quantiles(tally(longest), (0.5,))
            assert found is not None
            self.assertLess(abs(found - HIGHEST) / HIGHEST, 2 * ERROR)

    def test_nothing(self) -> None:
        """Of nothing there is no quantile."""
        self.assertEqual(quantiles({}, (0.5, 0.99)), [None, None])

    def test_ranks(self) -> None:
        """A part that is a whole number of times means that one, not the next."""
        times = [0.001] * 95 + [1.0] * 5
        (p95,) = quantiles(tally(times), (0.95,))
        (p96,) = quantiles(tally(times), (0.96,))
        assert p95 is not None and p96 is not None
        self.assertLess(p95, 0.002)
        self.assertGreater(p96, 0.9)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(st.lists(TIMES, max_size=50), max_size=5))
    def test_adds_up(self, parts: list[list[float]]) -> None:
        """The sum of the counts of several processes is what one of them would have counted."""
        together: dict[int, int] = {}
        for part in parts:
            add_counts(together, tally(list(part)))
        self.assertEqual(together, tally([time for part in parts for time in part]))


class Model:
    """What a L{Histogram} is to have: all times, with the slots in which they came."""

    def __init__(self) -> None:
        self.came: list[tuple[int, float]] = []
        self.newest = 0

    def add(self, times: list[float], now: float) -> None:
        self.newest = max(self.newest, int(now // SLOT))
        self.came.extend((self.newest, time) for time in times)

    def counts(self, now: float) -> dict[int, int]:
        newest = max(self.newest, int(now // SLOT))
        return tally([time for slot, time in self.came if slot > newest - SLOTS])


class HistogramTests(SynchronousTestCase):
    """The one that slides."""

    def test_expires(self) -> None:
        """A time is there for five minutes, give or take a slot, and not after that."""
        histogram = Histogram()
        histogram.add(tally([0.5]), 1000.0)
        histogram.advance(1000.0 + SLOT * SLOTS - SLOT)
        self.assertEqual(sum(histogram.counts.values()), 1)
        histogram.advance(1000.0 + SLOT * SLOTS)
        self.assertEqual(histogram.counts, {})

    def test_slot_by_slot(self) -> None:
        """What came later stays longer."""
        histogram = Histogram()
        for number in range(2 * SLOTS):
            histogram.add(tally([0.1] * (number + 1)), float(number * SLOT))
        self.assertEqual(sum(histogram.counts.values()), sum(range(SLOTS + 1, 2 * SLOTS + 1)))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.tuples(
                # It stands still, goes on, jumps by more than there are slots; and a clock that should not goes back.
                st.sampled_from([0.0, 0.0, 0.3, 3.0, 9.99, 10.0, 25.0, 290.0, 299.9, 300.0, 5000.0, -1.0, -60.0]),
                st.lists(st.sampled_from([0.001, 0.0011, 0.2, 3.0]), max_size=4),
            ),
            max_size=60,
        )
    )
    def test_any_clock(self, steps: list[tuple[float, list[float]]]) -> None:
        """Whatever the clock does, it has what came in the last thirty slots, and nothing else."""
        histogram, model, now = Histogram(), Model(), 100_000.0
        for step, times in steps:
            now += step
            histogram.add(tally(list(times)), now)
            model.add(times, now)
            self.assertEqual(histogram.counts, model.counts(now))
        now += SLOT * SLOTS
        histogram.advance(max(now, 1_000_000.0))
        self.assertEqual(histogram.counts, {})

    def test_memory(self) -> None:
        """However much comes, and however spread, it takes no more than so many bytes."""
        histogram = Histogram()
        every = tally([*VALUES])
        for number in range(3 * SLOTS):
            for _ in range(20):
                histogram.add(every, float(number * SLOT))
        size = getsizeof(histogram.counts) + getsizeof(histogram._current)
        size += sum(getsizeof(packed) for packed in histogram._full)
        self.assertLess(size, 140_000)

    def test_repr(self) -> None:
        """It tells how much it has, and over how many slots."""
        histogram = Histogram()
        histogram.add(tally([0.1, 0.2]), 5.0)
        histogram.add(tally([0.1]), 15.0)
        self.assertEqual(repr(histogram), "<Histogram count=3 slots=2>")
