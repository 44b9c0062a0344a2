"""Timeouts for many objects on one clock."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net.ticker import RESOLUTION, Ticker


class Timed:
    """Remembers when it expired."""

    def __init__(self, clock: Clock, then: Callable[[], None] | None = None) -> None:
        self.deadline = inf
        self.check_at = inf
        self.expiries: list[float] = []
        self._clock = clock
        self._then = then

    def expired(self) -> None:
        self.expiries.append(self._clock.seconds())
        if self._then is not None:
            self._then()


class TickerTests(SynchronousTestCase):
    """The wheel."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.1)
        self.ticker = Ticker(self.clock, self.clock.seconds)
        self.ticker.start()

    def watched(self, seconds: float, then: Callable[[], None] | None = None) -> Timed:
        timed = Timed(self.clock, then)
        timed.deadline = self.clock.seconds() + seconds
        self.ticker.watch(timed)
        return timed

    def wait(self, seconds: float) -> None:
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(RESOLUTION / 5, end - self.clock.seconds()))

    def test_neverEarlyNeverLate(self) -> None:
        """A timeout comes not before its time and at most two ticks after it."""
        everything = [(seconds, self.watched(seconds)) for seconds in (0.01, 0.25, 0.26, 0.5, 1.0, 7.77, 60.0)]
        start = self.clock.seconds()
        self.wait(61)
        for seconds, timed in everything:
            self.assertEqual(len(timed.expiries), 1, seconds)
            self.assertGreaterEqual(timed.expiries[0] - start, seconds)
            self.assertLessEqual(timed.expiries[0] - start, seconds + 2 * RESOLUTION + 0.01)
        self.assertEqual(len(self.ticker), 0)

    def test_moved(self) -> None:
        """A deadline that is moved on by setting it alone counts from there; one that is lifted never comes."""
        later, lifted = self.watched(1), self.watched(1)
        later.deadline += 5
        lifted.deadline = inf
        self.wait(5.9)
        self.assertEqual((later.expiries, lifted.expiries), ([], []))
        self.wait(1)
        self.assertEqual((len(later.expiries), lifted.expiries, len(self.ticker)), (1, [], 0))

    def test_sooner(self) -> None:
        """An earlier deadline holds when it is watched anew, and there is one entry for the object still."""
        timed = self.watched(60)
        timed.deadline = self.clock.seconds() + 1
        self.assertLess(timed.deadline, timed.check_at)
        self.ticker.watch(timed)
        self.assertEqual(len(self.ticker), 1)
        self.wait(1.6)
        self.assertEqual(len(timed.expiries), 1)
        self.wait(60)
        self.assertEqual(len(timed.expiries), 1)

    def test_forgotten(self) -> None:
        """What is forgotten is not held and never expires."""
        timed = self.watched(1)
        self.ticker.forget(timed)
        self.assertEqual((len(self.ticker), timed.check_at), (0, inf))
        self.ticker.forget(timed)
        self.wait(3)
        self.assertEqual(timed.expiries, [])

    def test_forgottenByAnother(self) -> None:
        """One that expires may forget others, and itself, of the same tick."""
        pair: list[Timed] = []

        def forget_all() -> None:
            for timed in pair:
                self.ticker.forget(timed)

        pair += [self.watched(1, forget_all), self.watched(1, forget_all)]
        self.wait(3)
        self.assertEqual(sum(len(timed.expiries) for timed in pair), 1)

    def test_again(self) -> None:
        """One that expires may set a new deadline, at once too."""

        def again() -> None:
            if len(timed.expiries) < 4:
                timed.deadline = self.clock.seconds() + (0 if len(timed.expiries) < 2 else 2)
                self.ticker.watch(timed)

        timed = self.watched(1, again)
        self.wait(8)
        self.assertEqual(len(timed.expiries), 4)

    def test_error(self) -> None:
        """An error at one timeout is logged; the others come all the same."""

        def fail() -> None:
            raise RuntimeError("broken")

        first, second, third = self.watched(1, fail), self.watched(1), self.watched(2)
        self.wait(3)
        self.assertEqual([len(timed.expiries) for timed in (first, second, third)], [1, 1, 1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_standstill(self) -> None:
        """After a standstill of an hour everything that was due is served, in the order of its time."""
        order: list[int] = []
        for number, seconds in enumerate((1, 100, 3599)):
            self.watched(seconds, lambda number=number: order.append(number))  # type: ignore[misc]  # bound now
        self.clock.advance(3600.3)
        self.assertEqual(order, [0, 1, 2])
        timed = self.watched(1)
        self.wait(2)
        self.assertEqual(len(timed.expiries), 1)

    def test_past(self) -> None:
        """A deadline that is over already is served at the next tick."""
        timed = self.watched(-100)
        self.wait(0.6)
        self.assertEqual(len(timed.expiries), 1)

    def test_stop(self) -> None:
        """A stopped ticker leaves no call in the clock and can be stopped again."""
        self.ticker.stop()
        self.ticker.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_soon(self) -> None:
        """What is better not done in one go is done in the next turn."""
        done: list[int] = []
        self.ticker.soon(lambda: done.append(1))
        self.assertEqual(done, [])
        self.clock.advance(0)
        self.assertEqual(done, [1])
