"""Labels of backends, and requests that are for some of them alone."""

from __future__ import annotations

from lemmytx.balance.hashing import Hash
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.subsets import labels
from lemmytx.proxy.router import Route
from tests.cluster.test_cluster import ClusterCase, Request
from tests.cluster.test_followed import ManyCase
from tests.cluster.test_queue import Exchange, QueueCase


class Wanting(Request):
    """A request of a route that asks for a version, and maybe for a zone."""

    def __init__(self, cluster: Cluster, version: str = "", zone: str = "", tried: tuple[Backend, ...] = ()) -> None:
        super().__init__(*tried)
        wanted = {name: value for name, value in (("version", version), ("zone", zone)) if value}
        self.route = Route("/*", cluster, subset=wanted)


def label(cluster: Cluster, versions: str, zones: str = "") -> None:
    """Give the members these versions, and zones; a dash: none."""
    for number, backend in enumerate(cluster.backends):
        found = {"version": versions[number], "zone": zones[number] if zones else "-"}
        backend.labels = labels({name: value for name, value in found.items() if value != "-"})
    cluster.configure(cluster.backends, cluster.scheduler, cluster.rules)


class SubsetTests(ClusterCase):
    """Whom a request is offered."""

    def names(self, request: Request, times: int = 1) -> str:
        """Those chosen for it; a dash for nobody."""
        cluster = request.route.cluster  # type: ignore[attr-defined]  # a Wanting has one
        found = [cluster.choose(request) for _ in range(times)]
        return " ".join(backend.name if backend else "-" for backend in found)

    def test_offered(self) -> None:
        """Only backends with all labels of the route are; a route that asks for none has all of them."""
        cluster = self.cluster("aaaa")
        label(cluster, "122-", "aab-")
        self.assertEqual(self.names(Wanting(cluster, "2"), 4), "a1 a2 a1 a2")
        self.assertEqual(self.names(Wanting(cluster, "2", "b"), 2), "a2 a2")
        self.assertEqual(self.names(Wanting(cluster, "1", "b")), "-")
        self.assertEqual(set(self.names(Wanting(cluster), 4).split()), {"a0", "a1", "a2", "a3"})

    def test_unlabelled(self) -> None:
        """Where nobody has labels no route is looked at, and each takes whatever comes."""
        cluster = self.cluster("aa")
        self.assertFalse(cluster.labelled)
        self.assertEqual(self.chosen(cluster, 2), "a0 a1", "a request without any route")
        self.assertEqual(self.names(Wanting(cluster, "2"), 2), "a0 a1")

    def test_away(self) -> None:
        """Nobody else stands in for a subset that is away; it is back with the first of its backends."""
        cluster = self.cluster("aaa")
        label(cluster, "122")
        wanting = Wanting(cluster, "2")
        for backend in cluster.backends[1:]:
            backend.state = "disabled"
        cluster.changed()
        self.assertEqual((self.names(wanting), self.names(Wanting(cluster))), ("-", "a0"))
        self.assertEqual((cluster.up(wanting), cluster.up(Wanting(cluster)), cluster.up()), (False, True, True))
        cluster.backends[2].state = "ready"
        cluster.changed()
        self.assertEqual((self.names(wanting), cluster.up(wanting)), ("a2", True))

    def test_full(self) -> None:
        """A subset is full when its own backends are."""
        cluster = self.cluster("aa", capacity=1)
        label(cluster, "12")
        self.occupy(cluster.backends[1], 1)
        self.assertEqual(self.names(Wanting(cluster, "2")), "-")
        self.assertEqual((cluster.full(Wanting(cluster, "2")), cluster.full(Wanting(cluster, "1"))), (True, False))

    def test_roles(self) -> None:
        """Roles count inside of a subset: its backup is used when none of its own active ones is available."""
        cluster = self.cluster("aab")
        label(cluster, "122")
        self.assertEqual(self.names(Wanting(cluster, "2"), 2), "a1 a1")
        cluster.backends[1].state = "drain"
        cluster.changed()
        self.assertEqual((self.names(Wanting(cluster, "2")), self.names(Wanting(cluster))), ("b2", "a0"))

    def test_tried(self) -> None:
        """A retry stays in the subset."""
        cluster = self.cluster("aaa")
        label(cluster, "122")
        _, second, third = cluster.backends
        self.assertEqual(self.names(Wanting(cluster, "2", tried=(second,))), "a2")
        self.assertEqual(self.names(Wanting(cluster, "2", tried=(second, third))), "-")

    def test_panic(self) -> None:
        """Panic ignores health, and not labels."""
        cluster = self.cluster("aa")
        label(cluster, "12")
        cluster.rules.panic = 1.0
        for _ in range(3):
            cluster.failed(cluster.backends[1], "refused", "no")
        self.assertTrue(cluster.panicking)
        self.assertEqual(self.names(Wanting(cluster, "2"), 2), "a1 a1")

    def test_elsewhere(self) -> None:
        """A cluster that stands in for the route's own does not care for the labels that are asked for."""
        cluster = self.cluster("aa")
        label(cluster, "11")
        self.assertIsNotNone(cluster.choose(Wanting(self.cluster("a"), "2")))

    def test_changed(self) -> None:
        """Labels that a reload changes count from the next request on."""
        cluster = self.cluster("aa")
        label(cluster, "12")
        self.assertEqual(self.names(Wanting(cluster, "2")), "a1")
        other = self.cluster("aa").backends[0]
        other.labels = labels({"version": "2"})
        cluster.backends[0].configure(other)
        cluster.configure(cluster.backends[:1], cluster.scheduler, cluster.rules)
        self.assertEqual(self.names(Wanting(cluster, "2")), "a0")

    def test_explained(self) -> None:
        """Who is not of the subset is told with what is missing, and roles are told as inside of it."""
        cluster = self.cluster("aaab")
        label(cluster, "1-22")
        found = cluster.explain(Wanting(cluster, "2"))
        self.assertEqual(
            [(why.filter, why.backend.name, why.reason) for why in found.dropped],
            [
                ("labels", "a0", "the route wants version=2, and it has version=1"),
                ("labels", "a1", "the route wants version=2, and it has no label version"),
                ("role", "b3", "backup: an active one can take it"),
            ],
        )
        self.assertEqual(found.pick, cluster.backends[2])


class LineTests(QueueCase):
    """What the queue does while it serves."""

    def test_meanwhile(self) -> None:
        """One that comes while the line is being looked at, and for whom there is a backend, does not wait for more."""
        queue = self.queued("aa", 2)
        label(self.members, "12")
        first, second = self.members.backends
        second.state = "disabled"
        late = Waiting(self, "1")

        class Leading(Waiting):
            """As it goes on, another one comes."""

            def admitted(self, backend: Backend, since: float) -> None:
                super().admitted(backend, since)
                queue.wait(late)

        self.occupy(first, 2)
        self.members.changed()
        for exchange in (Waiting(self, "2"), Leading(self, "1")):
            queue.wait(exchange)
        first.leave()
        first.leave()
        self.clock.advance(0)
        self.assertIs(late.backend, first)
        self.assertEqual(queue.waiting, 1)


class Waiting(Exchange):
    """One that asks for a version."""

    def __init__(self, case: QueueCase, version: str) -> None:
        super().__init__(case, None)
        case.exchanges.append(self)
        self.route = Route("/*", case.members, subset={"version": version})  # type: ignore[assignment]  # a real one


class ManyTests(ManyCase):
    """The same among many."""

    def test_many(self) -> None:
        """A large cluster with labels serves those who want them and those who do not, by its scheduler."""
        for scheduler in (LeastConnections(), Hash(by="client", balance_factor=150)):
            cluster = self.cluster(40, scheduler=scheduler)
            label(cluster, "1122" * 10)
            for _ in range(2):
                second = {cluster.choose(Wanting(cluster, "2")) for _ in range(3)}
                self.assertLessEqual(second, {b for b in cluster.backends if ("version", "2") in b.labels})
                self.assertIsNotNone(cluster.choose(Wanting(cluster)))
            self.assertEqual(cluster.scheduler_failures, 0)

    def test_no_more(self) -> None:
        """Without its labels it goes on as any other; and gets them back."""
        cluster = self.cluster(40)
        for versions in ("12" * 20, "-" * 40, "21" * 20):
            label(cluster, versions)
            found = {self.begin(cluster, *cluster.backends[2:]) for _ in range(4)} if versions[0] == "-" else set()
            self.assertLessEqual(found, set(cluster.backends[:2]))
        self.assertIs(cluster.choose(Wanting(cluster, "2", tried=cluster.backends[1:])), cluster.backends[0])
        self.assertEqual(cluster.scheduler_failures, 0)
