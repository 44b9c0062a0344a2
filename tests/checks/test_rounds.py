"""Checks that begin, change and end with the configuration."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.addresses import parse_url
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.checks.checker import AT_ONCE
from lemmytx.checks.rounds import SOON, Rounds
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import Checkup
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.net.network import Network


class Noted:
    """A check that is well at once, and notes who was checked when."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seen: list[tuple[float, str]] = []

    def check(self, target: Any) -> Deferred[None]:
        """See L{lemmytx.interfaces.IHealthCheck}."""
        self.seen.append((self.clock.seconds(), target.name))
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done


class RoundsTests(SynchronousTestCase):
    """L{Rounds}"""

    def setUp(self) -> None:
        self.clock = Clock()
        self.check = Noted(self.clock)

    def backend(self, name: str, checkup: Checkup | None) -> Backend:
        """One that is checked, or not."""
        location = parse_url("http://10.0.0.1")
        backend = Backend(name, location.url, location, Network(self.clock), Passive(), Pool())
        backend.addresses = ("10.0.0.1",)
        if checkup is not None:
            backend.check_by(checkup)
        return backend

    def cluster(self, count: int, checkup: Checkup | None, name: str = "c") -> Cluster:
        """So many backends."""
        backends = [self.backend(f"{name}{number}", checkup) for number in range(count)]
        return Cluster(name, backends, RoundRobin(), Rules(), self.clock.seconds)

    def test_told(self) -> None:
        """Whoever wants to know hears of each change of a backend's health, before its cluster does."""
        heard: list[tuple[str, str, bool]] = []

        def told(name: str, backend: Backend) -> None:
            heard.append((name, backend.name, backend in cluster.candidates))

        cluster = self.cluster(1, Checkup(self.check, up=False))
        rounds = Rounds(self.clock, seed=1, told=told)
        self.addCleanup(rounds.stop)
        rounds.follow([cluster])
        self.clock.advance(5)
        self.assertEqual([("c", "c0", False)], heard)
        self.assertEqual(tuple(cluster.backends), cluster.candidates)

    def rounds(self, place: tuple[int, int] = (0, 1)) -> Rounds:
        """At work until the end of the test."""
        rounds = Rounds(self.clock, place, seed=1)
        self.addCleanup(rounds.stop)
        return rounds

    def test_spread(self) -> None:
        """The first checks of a cluster are spread evenly over the interval, or over five seconds of a longer one."""
        for interval, over in ((2.0, 2.0), (60.0, SOON)):
            self.check.seen.clear()
            rounds = self.rounds()
            began = self.clock.seconds()
            rounds.follow([self.cluster(10, Checkup(self.check, interval=interval, jitter=0.0))])
            self.clock.pump([over / 100] * 99)
            times = [round((at - began) / over, 2) for at, _ in self.check.seen]
            self.assertEqual([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], [round(at, 1) for at in times])
            rounds.stop()

    def test_processes(self) -> None:
        """Processes with the same configuration do not check one backend at the same time."""
        firsts = []
        for number in range(3):
            self.check.seen.clear()
            began = self.clock.seconds()
            rounds = self.rounds((number, 3))
            rounds.follow([self.cluster(1, Checkup(self.check, interval=3.0, jitter=0.0))])
            self.clock.pump([0.01] * 299)
            firsts.append(round(self.check.seen[0][0] - began, 1))
            rounds.stop()
        self.assertEqual([0.0, 1.0, 2.0], firsts)

    def test_stop(self) -> None:
        """After the end nobody is checked."""
        rounds = self.rounds()
        rounds.follow([self.cluster(5, Checkup(self.check))])
        rounds.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], list(rounds.checkers))

    def test_follows(self) -> None:
        """Backends that come are checked and those that go are not; of those that stay nothing is begun anew."""
        one = self.cluster(2, Checkup(self.check, interval=1.0), "one")
        two = self.cluster(1, Checkup(self.check, interval=1.0), "two")
        plain = self.cluster(3, None, "plain")
        rounds = self.rounds()
        rounds.follow([one, plain])
        stays = {checker.backend: checker for checker in rounds.checkers}
        self.assertEqual(set(one.backends), set(stays))
        one.configure(one.backends[:1], one.scheduler, one.rules)
        rounds.follow([one, two, plain])
        now = {checker.backend: checker for checker in rounds.checkers}
        self.assertEqual({one.backends[0], *two.backends}, set(now))
        self.assertIs(stays[one.backends[0]], now[one.backends[0]])
        self.clock.pump([0.1] * 20)
        self.assertEqual({"one0", "two0"}, {name for _, name in self.check.seen})

    def test_otherSettings(self) -> None:
        """Other settings hold from the next check on, and what is known of the backend stays."""
        cluster = self.cluster(1, Checkup(self.check, interval=1.0, fall=2))
        rounds = self.rounds()
        rounds.follow([cluster])
        backend = cluster.backends[0]
        health = backend.checked
        assert health is not None
        health.failed("x")
        other = Noted(self.clock)
        backend.configure(self.backend("c0", Checkup(other, interval=1.0, fall=5)))
        rounds.follow([cluster])
        self.assertIs(health, backend.checked)
        self.assertEqual(("going_down", 5), (health.state, health.fall))
        self.clock.pump([0.1] * 12)
        self.assertEqual(0, len(self.check.seen))
        self.assertGreaterEqual(len(other.seen), 1)

    def test_noMore(self) -> None:
        """Without a check in the configuration a backend is up, and a check that comes back finds it so."""
        cluster = self.cluster(1, Checkup(self.check, fall=1, up=False))
        rounds = self.rounds()
        rounds.follow([cluster])
        backend = cluster.backends[0]
        self.assertEqual("down", backend.health)
        backend.configure(self.backend("c0", None))
        rounds.follow([cluster])
        self.assertEqual(("up", []), (backend.health, list(rounds.checkers)))
        backend.configure(self.backend("c0", Checkup(self.check, up=False)))
        rounds.follow([cluster])
        self.assertEqual(("up", 1), (backend.health, len(rounds.checkers)))

    def test_gates(self) -> None:
        """Each cluster has a limit of its own, which is that of the most expensive check in it."""
        dear = Noted(self.clock)
        dear.at_once = 3  # type: ignore[attr-defined]  # it may be there
        rounds = self.rounds()
        both = self.cluster(2, Checkup(self.check), "both")
        both.backends[1].check_by(Checkup(dear))
        rounds.follow([both, self.cluster(1, Checkup(self.check), "cheap")])
        limits = {checker.backend.name: checker._gate.limit for checker in rounds.checkers}
        self.assertEqual({"both0": 3, "both1": 3, "cheap0": AT_ONCE}, limits)

    def test_look(self) -> None:
        """What somebody else sees is looked at at once, where it looked otherwise until now; the rest goes on."""
        cluster = self.cluster(3, Checkup(self.check, interval=100.0, jitter=0.0))
        rounds = self.rounds()
        rounds.follow([cluster])
        self.clock.advance(5)
        self.check.seen.clear()
        rounds.look("c", "c1", False)
        self.assertEqual([(5.0, "c1")], self.check.seen)
        rounds.look("c", "c1", True)
        rounds.look("c", "gone", False)
        rounds.look("gone", "c1", False)
        self.assertEqual(1, len(self.check.seen))
        self.clock.advance(99)
        self.assertNotIn("c1", [name for _, name in self.check.seen[1:]])
        self.clock.advance(1)
        self.assertEqual((105.0, "c1"), self.check.seen[-1])
        renamed = self.cluster(1, Checkup(self.check, interval=100.0), "d")
        rounds.follow([renamed])
        self.check.seen.clear()
        rounds.look("c", "c1", False)
        rounds.look("d", "d0", False)
        self.assertEqual(["d0"], [name for _, name in self.check.seen])
