"""Which backend a request goes to: state, health, roles, capacity, and schedulers that fail."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.addresses import parse_url
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.followed import FEW
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from tests.proxy.rig import GET, OK, ProxyCase, split


class Request:
    """As much of one as a cluster asks for."""

    client = "192.0.2.1"
    head: Any = None

    def __init__(self, *tried: Backend) -> None:
        self.tried = tried


class ClusterCase(SynchronousTestCase):
    """A cluster of its own."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.events: list[dict[str, Any]] = []

    def cluster(
        self, roles: str = "aaa", capacity: int = 0, rules: Rules | None = None, scheduler: Any = None
    ) -> Cluster:
        """Backends by the first letters of their roles: active, standby, backup."""
        names = {"a": "active", "s": "standby", "b": "backup"}
        backends = []
        for number, role in enumerate(roles):
            location = parse_url(f"http://10.0.0.{number + 1}")
            backend = Backend(
                f"{role}{number}", location.url, location, None, Passive(), Pool(),  # type: ignore[arg-type]
                capacity=capacity, role=names[role],
            )  # fmt: skip
            backend.addresses = (location.host,)
            backends.append(backend)
        log = Logger(observer=lambda event: self.events.append(dict(event)))
        return Cluster("c", backends, scheduler or RoundRobin(), rules or Rules(), lambda: self.now, log)

    def occupy(self, backend: Backend, times: int) -> None:
        """So many more requests are in flight on it."""
        for _ in range(times):
            backend.acquire()

    def chosen(self, cluster: Cluster, times: int = 1, *tried: Backend) -> str:
        """The names of those chosen, in turn; a dash for nobody."""
        found = [cluster.choose(Request(*tried)) for _ in range(times)]
        return " ".join(backend.name if backend else "-" for backend in found)


class RoleTests(ClusterCase):
    """Active, standby, backup."""

    def test_active(self) -> None:
        """As long as an active one can take it, nobody else is asked."""
        self.assertEqual(self.chosen(self.cluster("asb"), 3), "a0 a0 a0")

    def test_full(self) -> None:
        """Standby stands in when all active ones are at capacity, backup does not; then the cluster is full."""
        cluster = self.cluster("aasb", capacity=2)
        a0, a1, s2, _ = cluster.backends
        a0.active = a1.active = 2
        self.assertEqual(self.chosen(cluster), "s2")
        self.occupy(s2, 2)
        self.assertEqual((self.chosen(cluster), cluster.full()), ("-", True))
        a1.leave()
        self.assertEqual(self.chosen(cluster), "a1")

    def test_away(self) -> None:
        """With no active one available: standby, and when that is full or away too, backup."""
        cluster = self.cluster("asb", capacity=1)
        a0, s1, b2 = cluster.backends
        a0.state = "disabled"
        cluster.changed()
        self.assertEqual(self.chosen(cluster), "s1")
        self.occupy(s1, 1)
        self.assertEqual(self.chosen(cluster), "b2")
        b2.state = "drain"
        cluster.changed()
        self.assertEqual(self.chosen(cluster), "-")
        s1.leave()
        s1.moved(())
        self.assertEqual((self.chosen(cluster), cluster.full()), ("-", False))

    def test_tried(self) -> None:
        """A backend that has failed the request is not offered to it again."""
        cluster = self.cluster("aas")
        a0, a1, s2 = cluster.backends
        self.assertEqual(self.chosen(cluster, 3, a0), "a1 a1 a1")
        self.assertEqual(self.chosen(cluster, 1, a0, a1), "s2")
        self.assertEqual(self.chosen(cluster, 1, a0, a1, s2), "-")

    def test_sameTuple(self) -> None:
        """As long as nothing has changed the scheduler is offered the very same tuple."""
        offered = []

        class Watching:
            def update(self, backends: object) -> None:
                pass

            def choose(self, candidates: tuple[Any, ...], request: object) -> Any:
                offered.append(candidates)
                return candidates[0]

        cluster = self.cluster(scheduler=Watching())
        self.chosen(cluster, 3)
        self.assertEqual(len({id(candidates) for candidates in offered}), 1)
        offered.clear()
        cluster = self.cluster("aaaaas", 5, scheduler=Watching())
        self.occupy(cluster.backends[0], 5)
        for _ in range(3):
            cluster.failed(cluster.backends[1], "refused", "no")
        for _ in range(3):
            chosen = cluster.choose(Request())
            assert chosen is not None
            chosen.acquire()
            self.occupy(cluster.backends[4], 1)
        self.assertEqual([[backend.name for backend in candidates] for candidates in offered], [["a2", "a3", "a4"]] * 3)
        self.assertEqual(len({id(candidates) for candidates in offered}), 1)


class EjectionTests(ClusterCase):
    """Passive health."""

    def test_room(self) -> None:
        """No more than max_ejected of a cluster are out at one time; a lone backend stays."""
        cluster = self.cluster("aaaa")
        for backend in cluster.backends:
            for _ in range(3):
                cluster.failed(backend, "refused", "no")
        self.assertEqual([b.passive.ejected for b in cluster.backends], [True, True, False, False])
        self.assertEqual(self.chosen(cluster, 2), "a2 a3")
        alone = self.cluster("a")
        for _ in range(10):
            alone.failed(alone.backends[0], "refused", "no")
        self.assertEqual(self.chosen(alone), "a0")

    def test_told(self) -> None:
        """Going out and coming back are logged once each, with the reason; failures are counted by kind."""
        cluster = self.cluster("aa")
        backend = cluster.backends[0]
        for kind in ("refused", "status", "refused"):
            cluster.failed(backend, kind, "connection refused")
        self.assertEqual(backend.failures, {"refused": 2, "status": 1})
        self.assertEqual([event["why"] for event in self.events], ["connection refused"])
        self.now += 10
        self.assertIn("a0", self.chosen(cluster, 2))
        backend.passive.began(None)
        cluster.succeeded(backend)
        self.assertEqual(len(self.events), 2)
        self.assertEqual(sorted(self.chosen(cluster, 2).split()), ["a0", "a1"])

    def test_trial(self) -> None:
        """When its time is over one request at a time is let through, until one succeeds."""
        cluster = self.cluster("aa")
        backend = cluster.backends[0]
        for _ in range(3):
            cluster.failed(backend, "refused", "no")
        self.now += 9.9
        self.assertEqual(self.chosen(cluster, 2), "a1 a1")
        self.now += 0.2
        self.assertIn("a0", self.chosen(cluster, 2))
        backend.passive.began(self)
        self.assertEqual(self.chosen(cluster, 3), "a1 a1 a1")
        backend.passive.left(self)
        self.assertIn("a0", self.chosen(cluster, 2))


class SchedulerTests(ClusterCase):
    """Schedulers that do what they must not."""

    def test_failing(self) -> None:
        """One that raises or answers rubbish costs no request: such go in turn; told once, counted always."""

        class Rubbish:
            answers: list[Any] = [None, "a0", 7, RuntimeError]

            def update(self, backends: object) -> None:
                pass

            def choose(self, candidates: tuple[Any, ...], request: object) -> Any:
                answer = self.answers.pop(0)
                if answer is RuntimeError:
                    raise RuntimeError("broken")
                return answer

        cluster = self.cluster("aaa", scheduler=Rubbish())
        self.assertEqual(len(set(self.chosen(cluster, 3).split())), 3)
        self.assertNotEqual(self.chosen(cluster), "-")
        self.assertEqual((cluster.scheduler_failures, len(self.events)), (4, 1))

    def test_unspeakable(self) -> None:
        """What it raises or returns may be such that it cannot even be told; nor does a backend of weight 0 pay for it,
        among few or many."""

        class Unspeakable(Exception):
            def __repr__(self) -> str:
                raise SystemExit("no")

            @property
            def __class__(self) -> Any:
                raise RuntimeError("neither")

        class Rubbish(RoundRobin):
            def choose(self, candidates: tuple[Any, ...], request: object) -> Any:
                return Unspeakable()

            def pick(self, request: object) -> Any:
                raise Unspeakable

        for roles in ("aaa", "a" * (FEW + 1)):
            cluster = self.cluster(roles, scheduler=Rubbish())
            for backend in cluster.backends[2:]:
                backend.weight = 0
            self.assertEqual({"a0", "a1"}, set(self.chosen(cluster, 6).split()))
            self.assertEqual((cluster.scheduler_failures, len(self.events)), (6, 1))
            self.assertTrue(self.events.pop()["what"].startswith("raised "))

    def test_membership(self) -> None:
        """It hears of all backends before the first choice."""
        heard = []

        class Listening:
            def update(self, backends: tuple[Any, ...]) -> None:
                heard.append([backend.name for backend in backends])

            def choose(self, candidates: tuple[Any, ...], request: object) -> Any:
                return candidates[0]

        self.cluster("asb", scheduler=Listening())
        self.assertEqual(heard, [["a0", "s1", "b2"]])


class BudgetTests(ClusterCase):
    """How many retries may run."""

    def test_budget(self) -> None:
        """Three at least, a fifth of the active requests above that."""
        cluster = self.cluster("aa")
        for active, retrying, allowed in ((0, 2, True), (0, 3, False), (20, 3, True), (20, 4, False), (100, 19, True)):
            cluster.backends[1].active = active
            cluster.retrying = retrying
            self.assertEqual(cluster.may_retry(), allowed, (active, retrying))


class ExchangeTests(ProxyCase):
    """The same through real exchanges."""

    def refused(self, times: int) -> None:
        """So many requests that find the backend refusing."""
        for _ in range(times):
            client = self.client()
            client.send(GET)
            self.refuse()

    def test_overloaded(self) -> None:
        """At capacity the answer is 503 with Retry-After, and when a request ends there is room again."""
        self.compose(capacity=2)
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        first, fields, _ = split(clients[2].take())
        self.assertEqual((first, fields[b"retry-after"]), (b"HTTP/1.1 503 Service Unavailable", b"5"))
        self.assertEqual(self.ended, (503, "overloaded"))
        for _ in range(2):
            self.accept().send(OK)
        clients[2].send(GET)
        next(end for end in reversed(self.network.ends) if end.got.count(b"GET") == 2).send(OK)
        self.assertEqual(clients[2].got, OK)

    def test_nobody(self) -> None:
        """With no backend available at all: 503, and nothing was tried."""
        self.backend.state = "disabled"
        self.cluster.changed()
        client = self.client()
        client.send(GET)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 503 Service Unavailable")
        self.assertEqual((self.ended, self.log[0].attempts, self.network.dialled), ((503, "no_backend"), 0, []))

    def test_ejectedAndBack(self) -> None:
        """A backend that fails is left out for its time, tried by one request, left out longer, tried, and back."""
        self.compose(backends=2, rules=Rules(attempts=1))
        bad = self.backends[0]
        for _ in range(20):
            if bad.passive.ejected:
                break
            client = self.client()
            client.send(GET)
            if self.network.dialled and self.network.dialled[0].address == "10.0.0.1":
                self.refuse()
            elif self.network.dialled:
                self.accept().send(OK)
            else:
                self.network.ends[-1].send(OK)
        self.assertEqual((bad.health, len(bad.idle)), ("ejected", 0))
        self.loop.wait(10.1)
        self.backends[1].state = "drain"
        self.cluster.changed()
        trial, other = self.client(), self.client()
        trial.send(GET)
        self.assertEqual(self.network.dialled[0].address, "10.0.0.1")
        other.send(GET)
        self.assertEqual(split(other.take())[0], b"HTTP/1.1 503 Service Unavailable")
        self.refuse()
        self.loop.wait(19)
        other.send(GET)
        self.assertEqual(split(other.take())[0], b"HTTP/1.1 503 Service Unavailable")
        self.loop.wait(2)
        trial.take()
        trial.send(GET)
        self.accept().send(OK)
        self.assertEqual((trial.got, bad.health), (OK, "up"))

    def test_trialWithoutVerdict(self) -> None:
        """A trial whose client leaves says nothing: the next request is the trial."""
        self.compose(backends=2, max_fails=1, rules=Rules(attempts=1))
        self.backends[1].state = "disabled"
        self.cluster.changed()
        self.refused(1)
        self.assertEqual(self.backend.health, "ejected")
        self.loop.wait(11)
        trial = self.client()
        trial.send(GET)
        self.accept()
        trial.reset()
        self.assertEqual(self.backend.health, "ejected")
        after = self.client()
        after.send(GET)
        self.accept().send(OK)
        self.assertEqual((after.got, self.backend.health), (OK, "up"))

    def test_statuses(self) -> None:
        """Answers of fail_on count as failures, and reach the client as they are."""
        self.compose(backends=2, max_fails=2)
        bad = OK.replace(b"200 OK", b"503 Service Unavailable")
        client = self.client()
        while not any(backend.passive.ejected for backend in self.backends):
            client.send(GET)
            (self.accept() if self.network.dialled else next(e for e in self.network.ends if e.got)).send(bad)
            for end in self.network.ends:
                end.take()
            self.assertEqual(client.take(), bad)
        self.assertLessEqual(len(self.log), 4)

    def test_clientsAreNoFailures(self) -> None:
        """However many clients leave, no backend is ejected for it."""
        for _ in range(10):
            client = self.client()
            client.send(GET)
            self.accept()
            client.reset()
        self.assertEqual((self.backend.health, self.backend.failures), ("up", {}))

    def test_ownHost(self) -> None:
        """`host: backend` names the backend in Host, each its own on a retry, and tells the client's as forwarded."""
        self.compose(backends=2, rules=Rules(own_host=True))
        client = self.client()
        client.send(GET)
        self.refuse()
        backend = self.accept()
        fields = split(backend.got)[1]
        self.assertEqual((fields[b"host"], fields[b"x-forwarded-host"]), (b"10.0.0.2:8000", b"shop.example"))
        backend.send(OK)

    def test_schedulerThatRaises(self) -> None:
        """A scheduler that raises costs no request."""

        class Raising:
            def update(self, backends: object) -> None:
                pass

            def choose(self, candidates: tuple[object, ...], request: object) -> object:
                raise RuntimeError("broken")

        self.compose(backends=2, scheduler=Raising())
        client = self.client()
        client.send(GET)
        self.accept().send(OK)
        self.assertEqual(client.got, OK)
        self.assertEqual(self.cluster.scheduler_failures, 1)


class ConfigureTests(ClusterCase):
    """Other members while requests are under way."""

    def other(self, number: int) -> Backend:
        """A backend that is not in the cluster yet."""
        location = parse_url(f"http://10.0.1.{number}")
        backend = Backend(f"n{number}", location.url, location, None, Passive(), Pool())  # type: ignore[arg-type]
        backend.addresses = (location.host,)
        return backend

    def test_members(self) -> None:
        """Requests go to the new members from the next choice on; who stays keeps what is known of it."""
        cluster = self.cluster("aa")
        stays, goes = cluster.backends
        stays.acquire()
        cluster.failed(stays, "refused", "no")
        cluster.configure([stays, self.other(1)], cluster.scheduler, cluster.rules)
        self.assertEqual(set(self.chosen(cluster, 6).split()), {"a0", "n1"})
        self.assertEqual((stays.active, stays.failures), (1, {"refused": 1}))
        self.assertNotIn(goes, cluster.candidates)

    def test_gone(self) -> None:
        """A member that goes closes its idle connections, keeps no more, and no longer speaks to the cluster."""
        cluster = self.cluster("aa")
        goes = cluster.backends[1]
        closed = []

        class Idle:
            served = 1

            def close(self) -> None:
                closed.append(self)

        upstream: Any = Idle()
        goes.acquire()
        goes.idle.append(upstream)
        cluster.configure(cluster.backends[:1], cluster.scheduler, cluster.rules)
        goes.release(upstream, self.now)
        self.assertEqual((closed, len(goes.idle), goes.active), ([upstream, upstream], 0, 0))
        before = cluster.candidates
        goes.changed()
        self.assertIs(cluster.candidates, before)

    def test_settings(self) -> None:
        """What is configured is taken over; a share of a capacity that stays as it is, is kept."""
        cluster = self.cluster("aa", capacity=10)
        backend, settings = cluster.backends[0], self.other(1)
        backend.room = 3
        settings.capacity = settings.room = 10
        settings.weight, settings.role = 7, "backup"
        backend.configure(settings)
        self.assertEqual((backend.name, backend.weight, backend.role, backend.room), ("n1", 7, "backup", 3))
        settings.capacity, settings.room = 4, 2
        backend.configure(settings)
        self.assertEqual((backend.capacity, backend.room), (4, 2))

    def test_scheduler(self) -> None:
        """A scheduler that fails when told of the members is told once, and requests are served."""

        class Failing(RoundRobin):
            def update(self, backends: Any) -> None:
                raise RuntimeError("no")

        cluster = self.cluster("a")
        cluster.configure([*cluster.backends, self.other(1)], Failing(), cluster.rules)
        self.assertEqual(len(self.events), 1)
        self.assertNotIn("-", self.chosen(cluster, 4))

    def test_share(self) -> None:
        """A process takes no more of a backend than its share of the capacity."""
        cluster = self.cluster("a", capacity=10)
        backend = cluster.backends[0]
        backend.room = 1
        self.assertEqual(self.chosen(cluster), "a0")
        backend.acquire()
        self.assertEqual(self.chosen(cluster), "-")
        self.assertTrue(cluster.full())
