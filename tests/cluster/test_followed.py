"""Clusters of many backends: the same choices as among a few, without a look at each backend for each request."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.addresses import parse_url
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.interfaces import IFollowingScheduler
from tests.cluster.test_cluster import Request
from tests.profiling import calls


class ManyCase(SynchronousTestCase):
    """A cluster of many."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.events: list[dict[str, Any]] = []

    def backend(self, number: int, capacity: int = 0, role: str = "active") -> Backend:
        location = parse_url(f"http://10.0.{number // 250}.{number % 250 + 1}")
        made = Backend(
            f"{role[0]}{number}", location.url, location, None, Passive(), Pool(),  # type: ignore[arg-type]
            capacity=capacity, role=role,
        )  # fmt: skip
        made.addresses = (location.host,)
        return made

    def cluster(
        self, count: int = 20, capacity: int = 0, scheduler: Any = None, others: tuple[str, ...] = ()
    ) -> Cluster:
        """
        @param others: the roles of more members.
        """
        backends = [self.backend(number, capacity) for number in range(count)]
        backends += [self.backend(count + number, capacity, role) for number, role in enumerate(others)]
        log = Logger(observer=lambda event: self.events.append(dict(event)))
        return Cluster("c", backends, scheduler or LeastConnections(), Rules(), lambda: self.now, log)

    def begin(self, cluster: Cluster, *tried: Backend) -> Backend | None:
        """A request comes, and goes to a backend."""
        chosen = cluster.choose(Request(*tried))
        if chosen is not None:
            chosen.acquire()
            if chosen.passive.suspect:
                chosen.passive.began(chosen)
        return chosen

    def eject(self, cluster: Cluster, backend: Backend) -> None:
        for _ in range(3):
            cluster.failed(backend, "refused", "no")


class ChoiceTests(ManyCase):
    """Who can be chosen."""

    def test_capacity(self) -> None:
        """A full one gets nothing more; as soon as a request ends it does."""
        cluster = self.cluster(capacity=2)
        served = Counter(self.begin(cluster) for _ in range(40))
        self.assertEqual(set(served.values()), {2})
        self.assertIsNone(self.begin(cluster))
        self.assertTrue(cluster.full())
        some = cluster.backends[11]
        some.leave()
        self.assertIs(self.begin(cluster), some)
        self.assertIsNone(self.begin(cluster))

    def test_room(self) -> None:
        """Another share of a capacity counts once the cluster is told."""
        cluster = self.cluster(capacity=2)
        for backend in cluster.backends[1:]:
            backend.state = "disabled"
        cluster.backends[0].room = 0
        cluster.changed()
        self.assertIsNone(self.begin(cluster))
        cluster.backends[0].room = 1
        cluster.changed()
        self.assertIs(self.begin(cluster), cluster.backends[0])
        self.assertIsNone(self.begin(cluster))

    def test_tried(self) -> None:
        """What a request has tried is not offered to it, and is to the next one."""
        cluster = self.cluster(capacity=5)
        tried = cluster.backends[3:]
        self.assertEqual({self.begin(cluster, *tried) for _ in range(15)}, set(cluster.backends[:3]))
        self.assertIsNone(self.begin(cluster, *tried))
        self.assertIsNone(self.begin(cluster, *cluster.backends))
        self.assertIn(self.begin(cluster), tried)

    def test_states(self) -> None:
        """One that an operator takes out gets nothing more, and something again afterwards."""
        cluster = self.cluster()
        gone = cluster.backends[4]
        gone.state = "drain"
        gone.changed()
        self.assertNotIn(gone, [self.begin(cluster) for _ in range(60)])
        gone.state = "ready"
        gone.changed()
        self.assertIs(self.begin(cluster), gone)

    def test_ejected(self) -> None:
        """One that is ejected is out for its time, then gets one request at a time until one succeeds."""
        cluster = self.cluster()
        bad = cluster.backends[0]
        self.eject(cluster, bad)
        self.assertNotIn(bad, [self.begin(cluster) for _ in range(60)])
        self.now += 10.1
        served = [self.begin(cluster) for _ in range(60)]
        self.assertEqual(served.count(bad), 1)
        bad.passive.left(bad)  # without a verdict
        bad.leave()
        self.assertEqual([self.begin(cluster) for _ in range(60)].count(bad), 1)
        cluster.succeeded(bad)
        self.assertGreater([self.begin(cluster) for _ in range(60)].count(bad), 1)

    def test_trialsInTurn(self) -> None:
        """With a scheduler that does not count, and without capacities, a trial's end makes room for the next, too."""
        cluster = self.cluster(scheduler=RoundRobin())
        bad = cluster.backends[0]
        self.eject(cluster, bad)
        self.now += 10.1
        for _ in range(3):
            self.assertEqual([self.begin(cluster) for _ in range(60)].count(bad), 1)
            bad.passive.left(bad)
            bad.leave()

    def test_panic(self) -> None:
        """When so few are up that health is ignored, those that are out take part like all others."""
        cluster = self.cluster()
        cluster.configure(cluster.backends, cluster.scheduler, Rules(max_ejected=1.0, panic=0.5))
        for backend in cluster.backends[:12]:
            self.eject(cluster, backend)
        self.assertTrue(cluster.panicking)
        self.assertEqual(set(Counter(self.begin(cluster) for _ in range(60)).values()), {3})

    def test_trialThatNobodyBegins(self) -> None:
        """Who was chosen for a trial that then did not take place can be chosen again."""
        cluster = self.cluster()
        bad = cluster.backends[0]
        self.eject(cluster, bad)
        self.now += 10.1
        others = cluster.backends[1:]
        self.assertIs(cluster.choose(Request(*others)), bad)
        self.assertIs(cluster.choose(Request(*others)), bad)
        self.assertIs(self.begin(cluster, *others), bad)
        self.assertIsNone(cluster.choose(Request(*others)))

    def test_failedTrial(self) -> None:
        """A trial that fails puts it out again, for longer."""
        cluster = self.cluster()
        bad = cluster.backends[0]
        self.eject(cluster, bad)
        self.now += 10.1
        self.assertIn(bad, [self.begin(cluster) for _ in range(30)])
        cluster.failed(bad, "refused", "no")
        bad.leave()
        self.now += 10.1
        self.assertNotIn(bad, [self.begin(cluster) for _ in range(60)])
        self.now += 10
        self.assertIn(bad, [self.begin(cluster) for _ in range(60)])

    def test_roles(self) -> None:
        """Standby ones stand in when all active ones are full or away, backup ones when none is available."""
        cluster = self.cluster(capacity=1, others=("standby", "standby", "backup"))
        active, standby, backup = cluster.backends[:20], cluster.backends[20:22], cluster.backends[22]
        self.assertEqual({self.begin(cluster) for _ in range(20)}, set(active))
        self.assertEqual({self.begin(cluster) for _ in range(2)}, set(standby))
        self.assertIsNone(self.begin(cluster))
        for backend in active:
            backend.state = "disabled"
        cluster.changed()
        self.assertIs(self.begin(cluster), backup)
        self.assertIsNone(self.begin(cluster))
        active[7].state = "ready"
        active[7].leave()
        cluster.changed()
        self.assertIs(self.begin(cluster), active[7])

    def test_fewAgain(self) -> None:
        """A cluster that shrinks to a few and grows again goes on with the same scheduler."""
        cluster = self.cluster()
        backends = cluster.backends
        cluster.configure(backends[:3], cluster.scheduler, cluster.rules)
        self.assertEqual({self.begin(cluster) for _ in range(6)}, set(backends[:3]))
        self.assertIsNone(backends[0].watch)
        cluster.configure(
            [*backends[:3], *(self.backend(number) for number in range(30, 50))], RoundRobin(), cluster.rules
        )
        self.assertEqual(len({self.begin(cluster) for _ in range(23)}), 23)

    def test_retired(self) -> None:
        """A member that goes no longer speaks to the cluster when its last requests end."""
        cluster = self.cluster(capacity=1)
        gone = cluster.backends[0]
        gone.acquire()
        cluster.configure(cluster.backends[1:], cluster.scheduler, cluster.rules)
        gone.leave()
        self.assertNotIn(gone, [self.begin(cluster) for _ in range(19)])
        self.assertIsNone(self.begin(cluster))

    def test_dissolved(self) -> None:
        """A cluster that is dissolved still sees who has room: some may wait for that."""
        for count in (2, 20):
            cluster = self.cluster(count, capacity=1)
            for _ in range(count):
                self.begin(cluster)
            cluster.dissolve()
            self.assertIsNone(self.begin(cluster))
            cluster.backends[1].leave()
            self.assertIs(self.begin(cluster), cluster.backends[1])

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(
        st.sampled_from((17, 3)),
        st.lists(st.tuples(st.sampled_from("bbbbelfstdrnk"), st.integers(0, 19), st.integers(0, 3)), max_size=80),
    )
    def test_theSameAsLooking(self, count: int, steps: list[tuple[str, int, int]]) -> None:
        """Whatever happens, a backend is chosen that a look at each of them would have left, and if there is any."""
        self.setUp()
        cluster = self.cluster(count, capacity=2, others=("standby", "standby", "backup"))
        flying: list[Backend] = []
        for step, number, more in steps:
            number %= len(cluster.backends)
            backend = cluster.backends[number]
            if step == "b":
                tried = cluster.backends[number : number + more]
                cluster.choose(Request())  # somebody who then does not go there
                offered = cluster._offered(tried)
                chosen = self.begin(cluster, *tried)
                self.assertEqual(chosen is None, not offered)
                if chosen is not None:
                    self.assertIn(chosen, offered)
                    flying.append(chosen)
            elif step in "el" and flying:
                ended = flying.pop(number % len(flying))
                if step == "l":
                    ended.passive.left(ended)
                elif ended.passive.suspect:
                    cluster.succeeded(ended)
                ended.leave()
            elif step == "f":
                cluster.failed(backend, "refused", "no")
            elif step == "s":
                backend.state = ("ready", "drain", "disabled", "ready")[more]
                cluster.changed()
            elif step == "t":
                self.now += more * 5
            elif step == "r":
                backend.room = more % 3
                cluster.changed()
            elif step == "n":
                backend.moved(() if more else ("10.0.0.1",))


class CostTests(ManyCase):
    """What does not happen."""

    def test_nobodyIsLookedAt(self) -> None:
        """With 1,000 backends, capacities, one ejected and some full, a request calls a score of functions."""
        cluster = self.cluster(1000, capacity=2)
        self.eject(cluster, cluster.backends[5])
        for backend in cluster.backends[10:20]:
            backend.acquire()
            backend.acquire()
        self.begin(cluster)

        def act() -> None:
            for _ in range(100):
                chosen = self.begin(cluster)
                assert chosen is not None
                chosen.leave()

        self.assertLess(calls(act), 100 * 25)

    def test_fewAreNotLookedAtEither(self) -> None:
        """With ten, capacities, one ejected and one full, a choice is that of the scheduler and a look at the clock."""
        cluster = self.cluster(10, capacity=20)
        self.eject(cluster, cluster.backends[5])
        for _ in range(20):
            cluster.backends[7].acquire()
        request = Request()
        cluster.choose(request)
        counted = []
        for _ in range(50):
            chosen: list[Backend | None] = []
            counted.append(calls(lambda seen=chosen: seen.append(cluster.choose(request))))  # type: ignore[misc]
            assert chosen[0] is not None
            chosen[0].acquire()
        # Choose of both, the clock, and what least connections does.
        self.assertEqual(set(counted), {5})

    def test_overloaded(self) -> None:
        """Nor does turning one away when all are full look at each of them."""
        cluster = self.cluster(1000, capacity=1)
        for _ in range(1000):
            self.begin(cluster)
        self.assertLess(calls(lambda: self.begin(cluster)), 9)

    def test_failures(self) -> None:
        """A failure that does not eject changes nothing for the others, so they are not looked at."""
        cluster = self.cluster(1000)
        before = cluster.candidates
        cluster.failed(cluster.backends[5], "refused", "no")
        self.assertIs(cluster.candidates, before)

    def test_nobodyListens(self) -> None:
        """Without capacities, and with a scheduler that does not count, backends do not report to the scheduler."""
        told = []

        class Listening(RoundRobin):
            def moved(self, backend: object) -> None:
                told.append(backend)

        cluster = self.cluster(scheduler=Listening())
        self.begin(cluster)
        self.assertEqual(told, [])


class SchedulerTests(ManyCase):
    """Schedulers that do what they must not."""

    def test_failing(self) -> None:
        """One that raises or picks rubbish costs no request: such go in turn; told once, counted always."""
        answers: list[Any] = [RuntimeError, None, 7, [], "foreign", SystemExit]
        foreign = self.backend(99)

        class Rubbish(LeastConnections):
            def pick(self, request: object) -> Any:
                answer = answers.pop(0)
                if answer is RuntimeError or answer is SystemExit:
                    raise answer("broken")
                return foreign if answer == "foreign" else answer

        cluster = self.cluster(scheduler=Rubbish())
        count = len(answers)
        chosen = [cluster.choose(Request()) for _ in range(count)]
        self.assertEqual(len(set(chosen)), count)
        self.assertNotIn(None, chosen)
        self.assertEqual((cluster.scheduler_failures, len(self.events)), (count, 1))

    def test_picksTheTried(self) -> None:
        """One that picks what a request has tried does not get its way."""

        class Stubborn(LeastConnections):
            def pick(self, request: object) -> Any:
                return stubborn

        cluster = self.cluster(scheduler=Stubborn())
        stubborn = cluster.backends[2]
        self.assertIsNot(cluster.choose(Request(stubborn)), stubborn)
        self.assertIs(cluster.choose(Request()), stubborn)

    def test_failingToFollow(self) -> None:
        """One that raises when it is told of something costs no request either."""

        class Deaf(LeastConnections):
            def moved(self, backend: object) -> None:
                raise RuntimeError("moved")

            def withdraw(self, backend: object) -> None:
                raise RuntimeError("withdraw")

        cluster = self.cluster(capacity=1, scheduler=Deaf())
        chosen = [self.begin(cluster) for _ in range(20)]
        self.assertEqual(len(set(chosen)), 20)
        self.assertEqual(len(self.events), 1)
        self.assertGreater(cluster.scheduler_failures, 20)

    def test_asked(self) -> None:
        """A scheduler that does not follow is asked with a tuple, however many there are."""
        offered = []

        class Plain:
            def update(self, backends: object) -> None:
                pass

            def choose(self, candidates: tuple[Any, ...], request: object) -> Any:
                offered.append(candidates)
                return candidates[-1]

        cluster = self.cluster(scheduler=Plain())
        self.assertFalse(IFollowingScheduler.providedBy(cluster.scheduler))
        self.assertIs(self.begin(cluster), cluster.backends[-1])
        self.assertEqual(len(offered[0]), 20)
