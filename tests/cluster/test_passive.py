"""Passive ejection of a backend by its failures."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.passive import Passive, most_ejected


def ejected(passive: Passive, now: float) -> Passive:
    """The backend, ejected by as many failures as it takes."""
    while not passive.failed(now):
        pass
    return passive


class EjectionTests(SynchronousTestCase):
    """From fine to out."""

    def test_enoughFailures(self) -> None:
        """The last of as many failures as allowed within the window ejects, for the time configured."""
        passive = Passive(max_fails=3, fail_window=10, retry_interval=7)
        self.assertEqual([passive.failed(now) for now in (100.0, 105.0, 109.0)], [False, False, True])
        self.assertTrue(passive.ejected)
        self.assertEqual(passive.until, 116.0)

    def test_outOfTheWindow(self) -> None:
        """Failures older than the window do not count."""
        passive = Passive(max_fails=3, fail_window=10)
        self.assertEqual([passive.failed(now) for now in (100.0, 101.0, 110.5)], [False, False, False])
        self.assertFalse(passive.failed(111.0))
        self.assertTrue(passive.failed(112.0))

    def test_successDoesNotForget(self) -> None:
        """A backend that fails every second exchange is ejected all the same."""
        passive = Passive(max_fails=2)
        passive.failed(1.0)
        self.assertFalse(passive.succeeded(2.0))
        self.assertTrue(passive.failed(3.0))

    def test_never(self) -> None:
        """With max_fails 0 nothing ejects, and nothing is remembered."""
        passive = Passive(max_fails=0)
        self.assertEqual([passive.failed(1.0) for _ in range(9)], [False] * 9)
        self.assertFalse(passive.suspect)

    def test_first(self) -> None:
        """With max_fails 1 the first failure ejects."""
        self.assertTrue(Passive(max_fails=1).failed(1.0))

    def test_noRoom(self) -> None:
        """A backend that the cluster cannot do without stays, until a failure when it can."""
        passive = Passive(max_fails=2)
        self.assertEqual([passive.failed(1.0, room=False) for _ in range(5)], [False] * 5)
        self.assertFalse(passive.ejected)
        self.assertTrue(passive.may_try(1.0))
        self.assertTrue(passive.failed(2.0, room=True))

    def test_suspect(self) -> None:
        """Only a backend with failures in the window is suspect, so the others need not be told of successes."""
        passive = Passive(max_fails=3, fail_window=10)
        self.assertFalse(passive.suspect)
        passive.failed(100.0)
        passive.succeeded(105.0)
        self.assertTrue(passive.suspect)
        passive.succeeded(110.0)
        self.assertFalse(passive.suspect)


class TrialTests(SynchronousTestCase):
    """From out to fine."""

    def test_nobodyBefore(self) -> None:
        """Nobody goes to an ejected backend before its time is over."""
        passive = ejected(Passive(retry_interval=10), 100.0)
        self.assertFalse(passive.may_try(109.9))
        self.assertTrue(passive.may_try(110.0))

    def test_oneAtATime(self) -> None:
        """While a trial is under way nobody else goes there."""
        passive = ejected(Passive(retry_interval=10), 100.0)
        passive.began("trial")
        self.assertFalse(passive.may_try(110.0))

    def test_success(self) -> None:
        """A trial that succeeds brings the backend back as if nothing had been."""
        passive = ejected(Passive(max_fails=3, fail_window=60, retry_interval=10), 100.0)
        passive.began("trial")
        self.assertTrue(passive.succeeded(110.5))
        self.assertEqual((passive.ejected, passive.suspect, passive.trying), (False, False, False))
        self.assertEqual([passive.failed(now) for now in (111.0, 112.0, 113.0)], [False, False, True])
        self.assertEqual(passive.until, 123.0)

    def test_doubling(self) -> None:
        """Each trial that fails doubles the time out, up to ten times the first."""
        passive = ejected(Passive(retry_interval=10), 0.0)
        times = []
        for _ in range(6):
            now = passive.until
            passive.began("trial")
            self.assertTrue(passive.failed(now))
            times.append(passive.until - now)
        self.assertEqual(times, [20, 40, 80, 100, 100, 100])

    def test_manyNights(self) -> None:
        """A backend that is down for very long stays at the longest time."""
        passive = ejected(Passive(retry_interval=10), 0.0)
        now = 0.0
        for _ in range(3000):
            now = passive.until
            passive.began("trial")
            passive.failed(now)
        self.assertEqual(passive.until, now + 100.0)

    def test_underWay(self) -> None:
        """Exchanges that were under way before the ejection neither prolong it nor end it."""
        passive = ejected(Passive(retry_interval=10), 100.0)
        self.assertFalse(passive.failed(101.0))
        self.assertFalse(passive.succeeded(102.0))
        self.assertTrue(passive.ejected)
        self.assertEqual(passive.until, 110.0)

    def test_withoutVerdict(self) -> None:
        """A trial whose client goes away makes room for the next one; the end of another exchange does not."""
        passive = ejected(Passive(retry_interval=10), 100.0)
        passive.began("trial")
        passive.left("one that was under way")
        self.assertFalse(passive.may_try(110.0))
        passive.left("trial")
        self.assertTrue(passive.may_try(110.0))
        self.assertTrue(passive.ejected)

    def test_beginningsBesideTrials(self) -> None:
        """An exchange with a backend that is merely suspect is no trial."""
        passive = Passive(max_fails=3)
        passive.failed(1.0)
        passive.began("exchange")
        self.assertFalse(passive.trying)

    def test_repr(self) -> None:
        """The representation is a status line."""
        passive = Passive(max_fails=2)
        self.assertEqual(repr(passive), "<Passive fine fails=0>")
        passive.failed(1.0)
        self.assertEqual(repr(passive), "<Passive suspect fails=1>")
        passive.failed(1.0)
        self.assertEqual(repr(passive), "<Passive ejected until=11>")
        passive.began()
        self.assertEqual(repr(passive), "<Passive on trial until=11>")


class MostEjectedTests(SynchronousTestCase):
    """L{most_ejected}"""

    def test_half(self) -> None:
        """At the usual half, a lone backend never goes, and of three only one."""
        self.assertEqual([most_ejected(number, 0.5) for number in range(6)], [0, 0, 1, 1, 2, 2])

    def test_roundNumbers(self) -> None:
        """A share that a float cannot hold exactly does not cost a backend."""
        self.assertEqual(most_ejected(100, 0.29), 29)
        self.assertEqual((most_ejected(4, 0.0), most_ejected(4, 1.0)), (0, 4))


class ConfigureTests(SynchronousTestCase):
    """Other settings while it is at work."""

    def test_failures_stay(self) -> None:
        """Failures that are known count by the new settings."""
        passive = Passive(max_fails=5, fail_window=10, retry_interval=7)
        passive.failed(100.0)
        passive.failed(101.0)
        passive.configure(3, 10.0, 2.0)
        self.assertTrue(passive.failed(102.0))
        self.assertEqual(passive.until, 104.0)

    def test_out_stays_out(self) -> None:
        """One that is out comes back when it was to come back."""
        passive = ejected(Passive(retry_interval=7), 100.0)
        passive.configure(1, 1.0, 1.0)
        self.assertEqual((passive.ejected, passive.until), (True, 107.0))

    def test_never(self) -> None:
        """Where failures do not count any more, what they did is undone."""
        passive = ejected(Passive(), 100.0)
        passive.configure(0, 10.0, 10.0)
        self.assertEqual((passive.ejected, passive.suspect, passive.may_try(100.0)), (False, False, True))
        self.assertFalse(passive.failed(101.0))
