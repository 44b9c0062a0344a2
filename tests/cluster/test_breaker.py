"""The circuit breaker: each row of the table in L{lemmytx.cluster.breaker}, and the whole against a simple model."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.breaker import PARTS, Breaker, BreakerRules

RULES = BreakerRules(errors=0.5, slow=0.1, above=2.0, volume=10, window=10.0, open_for=5.0, half_open=2)


class BreakerTests(SynchronousTestCase):
    """A breaker with a limit of half of ten requests."""

    def setUp(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.breaker = Breaker(RULES, lambda *change: self.told.append(change))

    def request(self, now: float, failed: bool = False, seconds: float = 0.1) -> bool:
        """One goes, and ends at once; whether it went."""
        number = self.breaker.enter(now)
        if number:
            self.breaker.ended(number, now, failed, seconds)
        return bool(number)

    def open(self) -> None:
        """Make it open at the time 1."""
        for _ in range(10):
            self.request(1.0, failed=True)
        self.assertEqual(self.breaker.state, "open")

    def test_errors(self) -> None:
        """It opens with the request that makes the share of errors what it may not be."""
        for _ in range(5):
            self.request(0.0)
        for number in range(4):
            self.request(0.0, failed=True)
            self.assertEqual(self.breaker.state, "closed", number)
        self.request(0.0, failed=True)
        self.assertEqual(self.breaker.state, "open")
        self.assertEqual(self.told, [("closed", "open", "5 of 10 requests failed")])

    def test_volume(self) -> None:
        """A few errors without other requests open nothing."""
        for _ in range(9):
            self.request(0.0, failed=True)
        self.assertEqual(self.breaker.state, "closed")

    def test_fewer(self) -> None:
        """A share of errors below the limit opens nothing, however many there are."""
        for _ in range(1000):
            self.request(0.0)
            self.request(0.0)
            self.request(0.0, failed=True)
        self.assertEqual(self.breaker.state, "closed")

    def test_window(self) -> None:
        """What is older than the window does not count."""
        for _ in range(9):
            self.request(0.0, failed=True)
        self.request(RULES.window, failed=True)
        self.assertEqual(self.breaker.state, "closed")
        for _ in range(8):
            self.request(RULES.window, failed=True)
        self.assertEqual(self.breaker.state, "closed")
        self.request(RULES.window, failed=True)
        self.assertEqual(self.breaker.state, "open")

    def test_latency(self) -> None:
        """It opens when the quantile of the times is above the limit: with more slow ones than the rest of it."""
        for _ in range(18):
            self.request(0.0)
        self.request(0.0, seconds=2.1)
        self.request(0.0, seconds=2.0)
        self.assertEqual(self.breaker.state, "closed")
        self.request(0.0, seconds=2.1)
        self.assertEqual(self.breaker.state, "closed", "2 of 21 are less than a tenth")
        self.request(0.0, seconds=2.1)
        self.assertEqual(self.breaker.state, "open")
        self.assertEqual(self.told[-1][2], "3 of 22 requests took more than 2 s")

    def test_onlyLatency(self) -> None:
        """Errors open nothing where they do not matter."""
        self.breaker.configure(RULES._replace(errors=None))
        for _ in range(100):
            self.request(0.0, failed=True)
        self.assertEqual(self.breaker.state, "closed")

    def test_open(self) -> None:
        """While it is open nobody goes, until the time is over."""
        self.open()
        self.assertFalse(self.request(1.0))
        self.assertFalse(self.request(5.9))
        self.assertEqual(self.breaker.refused, 2)
        self.assertEqual(self.breaker.retry_after(1.0), 5)
        self.assertEqual(self.breaker.retry_after(5.9), 1)
        self.assertTrue(self.request(6.0))

    def test_trials(self) -> None:
        """Half open it lets as many go as are to go well, and closes when they have."""
        self.open()
        numbers = [self.breaker.enter(6.0) for _ in range(4)]
        self.assertEqual([bool(number) for number in numbers], [True, True, False, False])
        self.assertEqual(self.breaker.state, "half_open")
        self.breaker.ended(numbers[0], 6.1, False, 0.1)
        self.assertEqual(self.breaker.enter(6.1), 0)
        self.breaker.ended(numbers[1], 6.2, False, 0.1)
        self.assertEqual(self.breaker.state, "closed")
        self.assertEqual([change[:2] for change in self.told][1:], [("open", "half_open"), ("half_open", "closed")])

    def test_trialFails(self) -> None:
        """One that fails, or is too slow, opens it again for as long, and what the others do is no matter then."""
        for bad in ({"failed": True, "seconds": 0.1}, {"failed": False, "seconds": 3.0}):
            self.setUp()
            self.open()
            first, second = self.breaker.enter(6.0), self.breaker.enter(6.0)
            self.breaker.ended(first, 7.0, **bad)
            self.assertEqual(self.breaker.state, "open")
            self.breaker.ended(second, 7.0, False, 0.1)
            self.assertEqual(self.breaker.enter(11.9), 0)
            self.assertTrue(self.breaker.enter(12.0))
            self.assertEqual(self.breaker.opened, 2)

    def test_trialLeaves(self) -> None:
        """One that says nothing makes room for another."""
        self.open()
        first = self.breaker.enter(6.0)
        self.breaker.enter(6.0)
        self.assertEqual(self.breaker.enter(6.0), 0)
        self.breaker.left(first)
        self.assertTrue(self.breaker.enter(6.0))

    def test_late(self) -> None:
        """A request that began before the change counts no more."""
        numbers = [self.breaker.enter(0.0) for _ in range(3)]
        self.open()
        self.breaker.ended(numbers[0], 2.0, True, 0.1)
        self.breaker.left(numbers[1])
        self.request(6.0)
        self.breaker.ended(numbers[2], 6.0, True, 0.1)
        self.assertEqual(self.breaker.state, "half_open")
        self.assertEqual(self.breaker.opened, 1)

    def test_forgets(self) -> None:
        """After it has closed, what was before does not count."""
        self.open()
        self.request(6.0)
        self.request(6.0)
        self.assertEqual(self.breaker.state, "closed")
        for _ in range(9):
            self.request(6.0, failed=True)
        self.assertEqual(self.breaker.state, "closed")

    def test_configure(self) -> None:
        """Other rules hold at once, and an open one stays open for its time."""
        self.open()
        self.breaker.configure(RULES._replace(open_for=1.0, half_open=1))
        self.assertFalse(self.request(3.0))
        self.assertTrue(self.request(6.0))
        self.assertEqual(self.breaker.state, "closed")

    def test_fewerTrials(self) -> None:
        """When as many trials have gone well as are wanted from now on, it closes: there will be no other one."""
        self.open()
        self.assertTrue(self.request(6.0))
        self.breaker.configure(RULES._replace(half_open=1))
        self.assertEqual(self.breaker.state, "closed")
        self.assertTrue(self.request(6.0))


class Model:
    """The same, the slow way: every request is kept."""

    def __init__(self) -> None:
        self.state = "closed"
        self.until = 0.0
        self.seen: list[tuple[int, bool, bool]] = []
        self.period = 0
        self.going = self.good = 0

    def change(self, state: str) -> None:
        self.state = state
        self.period += 1
        self.seen = []
        self.going = self.good = 0

    def enter(self, now: float) -> int | None:
        if self.state == "open" and now >= self.until:
            self.change("half_open")
        if self.state == "open":
            return None
        if self.state == "half_open":
            if self.going + self.good >= RULES.half_open:
                return None
            self.going += 1
        return self.period

    def ended(self, period: int, now: float, failed: bool, slow: bool) -> None:
        if period != self.period:
            return
        if self.state == "half_open":
            self.going -= 1
            if failed or slow:
                self.until = now + RULES.open_for
                self.change("open")
                return
            self.good += 1
            if self.good == RULES.half_open:
                self.change("closed")
            return
        part = int(now / RULES.window * PARTS)
        self.seen.append((part, failed, slow))
        self.seen = [entry for entry in self.seen if entry[0] > part - PARTS]
        if not (failed or slow) or len(self.seen) < RULES.volume:
            return
        errors, slows = sum(entry[1] for entry in self.seen), sum(entry[2] for entry in self.seen)
        if errors * 2 >= len(self.seen) or slows * 10 > len(self.seen):
            self.until = now + RULES.open_for
            self.change("open")

    def left(self, period: int) -> None:
        if period == self.period and self.state == "half_open":
            self.going -= 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter")),
        st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from(["good", "bad", "slow"])),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 1.0, 5.0, 11.0])),
        st.tuples(st.just("burst"), st.integers(1, 12), st.sampled_from(["good", "bad", "slow"])),
    ),
    max_size=60,
)


class PropertyTests(SynchronousTestCase):
    """Any requests in any order."""

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(STEPS)
    def test_model(self, steps: list[tuple[Any, ...]]) -> None:
        """It does what the model does, and its counts of trials are never off."""
        breaker, model = Breaker(RULES, lambda *_: None), Model()
        going: list[tuple[int, int]] = []
        now = 0.0

        def enter() -> None:
            number, period = breaker.enter(now), model.enter(now)
            self.assertEqual(number == 0, period is None)
            if period is not None:
                going.append((number, period))

        def end(place: int, how: str) -> None:
            if going:
                number, period = going.pop(place % len(going))
                breaker.ended(number, now, how == "bad", 3.0 if how == "slow" else 0.1)
                model.ended(period, now, how == "bad", how == "slow")

        for step in steps:
            if step[0] == "enter":
                enter()
            elif step[0] == "end":
                end(step[1], step[2])
            elif step[0] == "leave" and going:
                number, period = going.pop(step[1] % len(going))
                breaker.left(number)
                model.left(period)
            elif step[0] == "wait":
                now += step[1]
            elif step[0] == "burst":
                for _ in range(step[1]):
                    enter()
                    end(-1, step[2])
            self.assertEqual(breaker.state, model.state)
