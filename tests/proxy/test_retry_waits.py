"""Requests that wait for another chance: a retry whose other backends are full, and whoever goes to another cluster."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lemmytx.addresses import parse_url
from lemmytx.balance.buckets import Share
from lemmytx.balance.first import First
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.breaker import BreakerRules
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.queue import Queue
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.model import Timeouts
from tests.proxy import test_any_order
from tests.proxy.rig import GET, OK, End, ProxyCase, post, split

SHOP = (Share("vip", 0.2, 0.4), Share("main", 0.8, 1.0))
CLOSING = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


class TwoClustersCase(ProxyCase):
    """Backends that take one request each, asked in the order of their names; and another cluster with one."""

    clusters: list[Cluster]

    def setUp(self) -> None:
        self.clusters = []
        super().setUp()

    def rules(
        self, backends: int = 2, capacity: int = 1, queue: QueueRules | None = None, max_fails: int = 3, **rules: Any
    ) -> None:
        """Compose a proxy with these rules, and without another cluster."""
        known = Rules(**{"replay": 1000, "max_ejected": 1.0, "queue": queue or QueueRules(), **rules})
        self.compose(backends, known, scheduler=First(), capacity=capacity, max_fails=max_fails)
        self.clusters = [self.cluster]

    def another(self, queue: QueueRules | None = None, capacity: int = 1, **rules: Any) -> Cluster:
        """The other cluster, to which the first one fails over. Its backend is 10.0.9.1."""
        location = parse_url("http://10.0.9.1:8000")
        network: Any = self.network
        backend = Backend("other", location.url, location, network, Passive(), Pool(), capacity=capacity)
        backend.addresses = (location.host,)
        other = Cluster("other", [backend], LeastConnections(), Rules(queue=queue, **rules), self.loop.seconds)
        self.clusters.append(other)
        self.cluster.failover = other
        return other

    def queue(self, cluster: Cluster | None = None) -> Queue:
        """The queue of the first cluster, or of another one."""
        queue = (cluster or self.cluster).queue
        assert queue is not None
        return queue

    def asks(self, request: bytes = GET) -> End:
        """A client asks."""
        client = self.client()
        client.send(request)
        return client

    def dialled(self, number: int, net: int = 0) -> Any:
        """The connection that is wanted to the backend of that number."""
        found = [each for each in self.network.dialled if each.address == f"10.0.{net}.{number}"]
        self.assertEqual(len(found), 1, self.network.dialled)
        return found[0]

    def answered(self, client: End, status: int) -> None:
        """The client has an answer of that status."""
        self.assertEqual(split(client.take())[0].split()[1], b"%d" % status)

    def end(self) -> None:
        """Nothing is left in any cluster."""
        for cluster in self.clusters:
            for backend in cluster.backends:
                backend.close_idle()
        super().end()
        for cluster in self.clusters:
            self.assertEqual([backend.active for backend in cluster.backends], [0] * len(cluster.backends))
            self.assertEqual(cluster.retrying, 0)
            if cluster.queue is not None:
                self.assertEqual(cluster.queue.waiting, 0)
                self.assertEqual((cluster.queue.root.used, cluster.queue.root.queued), (0, 0))


class RetryWaitsTests(TwoClustersCase):
    """The first backend refuses while the second one is busy with another request."""

    def busy(self, request: bytes = GET, **rules: Any) -> tuple[End, End, End]:
        """The client whose request fails at the first, and the client and the connection of the other request."""
        self.rules(**rules)
        self.backends[0].state = "disabled"
        self.cluster.changed()
        other = self.asks()
        second = self.dialled(2).accept()
        self.backends[0].state = "ready"
        self.cluster.changed()
        client = self.asks(request)
        self.dialled(1).fail()
        return client, other, second

    def test_waits(self) -> None:
        """It waits for the second one, and goes there as soon as that has room, before those who come later."""
        client, other, second = self.busy()
        self.assertEqual((client.got, self.queue().waiting, self.cluster.retrying), (b"", 1, 1))
        self.backends[0].state = "disabled"
        self.cluster.changed()
        late = self.asks()
        self.loop.wait(2)
        self.assertEqual(self.queue().waiting, 2)
        for each in (other, client, late):
            second.send(OK)
            self.loop.settle()
            self.assertEqual(each.take(), OK)
        self.assertEqual([exchange.attempts for exchange in self.log], [1, 2, 1])
        self.assertApproximates(self.log[1].queue_time, 2.0, 0.1)

    def test_inNobodysWay(self) -> None:
        """Those who come later go to the backend that it can not go to any more."""
        client, other, second = self.busy()
        late = self.asks()
        self.dialled(1).accept().send(OK)
        self.assertEqual((late.take(), client.got), (OK, b""))
        second.send(OK)
        self.loop.settle()
        second.send(OK)
        self.assertEqual([other.take(), client.take()], [OK, OK])

    def test_reset(self) -> None:
        """So does one whose new connection died, where that is tried again, by its rules."""
        for reset, status in ((True, 200), (False, 502)):
            self.rules(retry_reset=reset)
            clients = [self.asks(), self.asks()]
            first, second = self.dialled(1).accept(), self.dialled(2).accept()
            first.close()
            self.assertEqual(self.queue().waiting, int(reset))
            second.send(OK)
            self.loop.settle()
            if reset:
                second.send(OK)
            self.answered(clients[0], status)
            self.answered(clients[1], 200)

    def test_answered(self) -> None:
        """One that has an answer, or may still get one, does not wait: that is what the client gets."""
        for rules in ({"retry_on": frozenset((503,))}, {"try_timeout": 1.0}):
            self.rules(**rules)
            clients = [self.asks(), self.asks()]
            first, second = self.dialled(1).accept(), self.dialled(2).accept()
            if "try_timeout" in rules:
                self.loop.wait(2)
                self.assertEqual((first.fate, self.queue().waiting), ("open", 0))
            first.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
            second.send(OK)
            self.answered(clients[0], 503)
            self.answered(clients[1], 200)

    def test_notAllowed(self) -> None:
        """Without attempts, budget, or places in the queue it fails as it has."""
        for rules in ({"attempts": 1}, {"budget": 0.0, "budget_at_least": 0}, {"queue": QueueRules(limit=0)}):
            client, other, second = self.busy(**rules)
            self.assertEqual(self.queue().waiting, 0)
            self.answered(client, 502)
            second.send(OK)
            self.assertEqual(other.take(), OK)
            self.assertEqual([exchange.termination for exchange in self.log], ["backend_refused", "ok"])

    def test_noQueue(self) -> None:
        """And so where there is no queue at all."""
        self.compose(2, Rules(), scheduler=First(), capacity=1)
        clients = [self.asks(), self.asks()]
        self.dialled(1).fail()
        self.answered(clients[0], 502)
        self.dialled(2).accept().send(OK)
        self.assertEqual(clients[1].take(), OK)

    def test_timeout(self) -> None:
        """It waits for no longer than the queue lets it, in all, and gets 504 then."""
        self.rules(queue=QueueRules(timeout=5.0))
        others = [self.asks(), self.asks()]
        first, second = self.dialled(1).accept(), self.dialled(2).accept()
        client = self.asks()
        self.loop.wait(3)
        first.send(CLOSING)
        first.close()
        self.loop.settle()
        self.dialled(1).fail()
        self.assertEqual(self.queue().waiting, 1)
        self.loop.wait(1.5)
        self.assertEqual(client.got, b"")
        self.loop.wait(1.5)
        self.answered(client, 504)
        self.assertEqual([exchange.termination for exchange in self.log], ["ok", "timeout_queue"])
        self.assertApproximates(self.log[1].queue_time, 5.5, 0.6)
        second.send(OK)
        self.answered(others[0], 200)
        self.answered(others[1], 200)

    def test_nobodyLeft(self) -> None:
        """When the one that it waits for goes, it has nobody, though the first one is up."""
        client, other, second = self.busy()
        self.backends[1].state = "drain"
        self.cluster.changed()
        self.answered(client, 503)
        self.assertEqual(self.ended, (503, "no_backend"))
        self.assertIs(self.log[0].backend, self.backends[0])
        second.send(OK)
        self.assertEqual(other.take(), OK)

    def test_clientGone(self) -> None:
        """A client that leaves meanwhile leaves the queue at once, with a body that is still coming too."""
        for request in (GET, post(600), post(600) + b"a" * 300):
            client, other, second = self.busy(request)
            self.assertEqual(self.queue().waiting, 1)
            client.close()
            self.assertEqual((self.queue().waiting, self.cluster.retrying), (0, 0))
            self.assertEqual(self.ended, (499, "client_gone"))
            second.send(OK)
            self.assertEqual(other.take(), OK)

    def test_body(self) -> None:
        """The body that comes meanwhile is sent whole, and a long one is not read beyond what is held."""
        client, other, second = self.busy(post(3000))
        client.send(b"a" * 600)
        self.assertIn(client.wire, self.loop.readers)
        client.send(b"b" * 600)
        self.assertNotIn(client.wire, self.loop.readers)
        second.send(OK)
        self.loop.settle()
        client.send(b"c" * 1800)
        self.assertTrue(second.got.endswith(b"a" * 600 + b"b" * 600 + b"c" * 1800))
        second.send(OK)
        self.assertEqual([other.take(), client.take()], [OK, OK])

    def test_token(self) -> None:
        """Its token of a bucket it keeps; and gives back once, however it ends."""
        for end in ("answer", "leave", "timeout"):
            client, other, second = self.busy(queue=QueueRules(buckets=SHOP, timeout=5.0))
            main = self.queue().buckets["main"]
            self.assertEqual((main.used, main.queued, self.queue().waiting), (2, 0, 1))
            if end == "leave":
                client.reset()
                self.clients.remove(client)
            elif end == "timeout":
                self.loop.wait(6)
                self.answered(client, 504)
            second.send(OK)
            self.loop.settle()
            if end == "answer":
                self.assertEqual(main.used, 1)
                second.send(OK)
                self.assertEqual(client.take(), OK)
            self.assertEqual((main.used, main.total), (0, 2))
            self.assertEqual(other.take(), OK)

    def test_failover(self) -> None:
        """Another cluster does not get it while it can wait here; when nobody is up any more it goes there."""
        client, _, second = self.busy()
        other = self.another()
        self.assertEqual(self.network.dialled, [])
        for backend in self.backends:
            backend.state = "drain"
        self.cluster.changed()
        self.dialled(1, 9).accept().send(OK)
        self.assertEqual(client.take(), OK)
        self.assertIs(self.log[0].cluster, other)
        second.send(OK)


class MovedTests(TwoClustersCase):
    """A request that no backend of its cluster could be connected for goes to another cluster, by the rules there."""

    def moved(self, request: bytes = GET, other: QueueRules | None = None, **rules: Any) -> tuple[End, End, End]:
        """The client whose request is moved; and the client and the connection that the other cluster is busy with."""
        self.rules(1, **rules)
        cluster = self.another(other, read=100.0)
        self.backend.state = "disabled"
        self.cluster.changed()
        before = self.asks()
        backend = self.dialled(1, 9).accept()
        self.backend.state = "ready"
        self.cluster.changed()
        client = self.asks(request)
        self.dialled(1).fail()
        self.assertEqual((cluster.backends[0].active, self.network.dialled), (1, []))
        return client, before, backend

    def test_waits(self) -> None:
        """It waits in that one's queue for room there."""
        client, before, backend = self.moved(other=QueueRules())
        self.assertEqual(self.queue(self.clusters[1]).waiting, 1)
        self.loop.wait(2)
        backend.send(OK)
        self.loop.settle()
        self.assertEqual((before.take(), client.got), (OK, b""))
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertApproximates(self.log[1].queue_time, 2.0, 0.1)
        self.assertEqual(self.log[1].attempts, 2)

    def test_inTurn(self) -> None:
        """It overtakes nobody who waits there already."""
        client, before, backend = self.moved(other=QueueRules())
        self.backend.state = "disabled"
        self.cluster.changed()
        late = self.asks()
        for each in (before, client, late):
            backend.send(OK)
            self.loop.settle()
            self.assertEqual(each.take(), OK)

    def test_refusals(self) -> None:
        """It gets 503 or 504 as that one's rules say, and no backend of the first one is to blame in the log."""
        for rules, status, termination in (
            (None, 503, "overloaded"),
            (QueueRules(limit=0), 503, "overloaded"),
            (QueueRules(timeout=3.0), 504, "timeout_queue"),
        ):
            client, before, backend = self.moved(other=rules)
            self.loop.wait(4)
            self.answered(client, status)
            self.assertEqual(self.ended, (status, termination))
            self.assertEqual((self.log[0].backend, self.log[0].cluster), (None, self.clusters[1]))
            self.assertEqual(self.clusters[1].turned_away, {termination: 1})
            self.assertEqual(self.cluster.turned_away, {})
            self.assertEqual((self.backend.traffic.count, self.backend.failures), (0, {"refused": 1}))
            backend.send(OK)
            self.assertEqual(before.take(), OK)

    def test_full(self) -> None:
        """503 with that one's Retry-After where its queue is full."""
        client, before, backend = self.moved(other=QueueRules(limit=1, retry_after=7))
        second = self.asks()
        self.dialled(1).fail()
        status, fields, _ = split(second.take())
        self.assertEqual((status.split()[1], fields[b"retry-after"]), (b"503", b"7"))
        for each in (before, client):
            backend.send(OK)
            self.loop.settle()
            self.assertEqual(each.take(), OK)

    def test_clientGone(self) -> None:
        """A client that goes away while it waits there leaves that queue at once; so with a body on its way."""
        for request in (GET, post(600), post(600) + b"a" * 300):
            client, before, backend = self.moved(request, QueueRules(buckets=SHOP))
            queue = self.queue(self.clusters[1])
            self.assertEqual((queue.waiting, queue.root.used), (1, 1))
            self.loop.wait(2)
            client.close()
            self.assertEqual((queue.waiting, queue.root.used), (0, 1))
            self.assertEqual(self.ended, (499, "client_gone"))
            self.assertApproximates(self.log[0].queue_time, 2.0, 0.1)
            backend.send(OK)
            self.assertEqual(before.take(), OK)

    def test_tokens(self) -> None:
        """It gives the token of the first cluster back before it has one of the other."""
        buckets = QueueRules(buckets=SHOP)
        client, before, backend = self.moved(other=buckets, queue=buckets)
        here, there = (self.queue(cluster).buckets["main"] for cluster in self.clusters)
        self.assertEqual((here.used, here.total, there.used, there.queued), (0, 1, 1, 1))
        backend.send(OK)
        self.loop.settle()
        self.assertEqual((there.used, there.queued, there.total), (1, 0, 2))
        backend.send(OK)
        self.assertEqual([before.take(), client.take(), there.used], [OK, OK, 0])

    def test_body(self) -> None:
        """What comes of its body while it waits there goes to whoever takes it."""
        client, before, backend = self.moved(post(900), QueueRules())
        client.send(b"a" * 400)
        backend.send(OK)
        self.loop.settle()
        client.send(b"b" * 500)
        self.assertTrue(backend.got.endswith(b"a" * 400 + b"b" * 500))
        backend.send(OK)
        self.assertEqual([before.take(), client.take()], [OK, OK])

    def test_bodyLate(self) -> None:
        """A client that stops in the middle of its body is told so there too."""
        client, before, backend = self.moved(post(900), QueueRules(timeout=100.0))
        self.loop.wait(31)
        self.answered(client, 408)
        self.assertEqual(self.ended, (408, "timeout_body"))
        backend.send(OK)
        self.assertEqual(before.take(), OK)

    def test_waitsTwice(self) -> None:
        """What it has waited in both queues is its time in queues; none of it is the second breaker's latency."""
        self.rules(1)
        slow = BreakerRules(errors=None, slow=0.0, above=1.0, volume=1)
        other = self.another(QueueRules(), breaker=slow)
        first, second = self.asks(), self.asks()
        backend = self.dialled(1).accept()
        self.loop.wait(2)
        other.backends[0].active += 1
        self.backend.state = "drain"
        self.cluster.changed()
        self.assertEqual(self.queue(other).waiting, 1)
        self.loop.wait(3)
        other.backends[0].leave()
        self.loop.settle()
        self.dialled(1, 9).accept().send(OK)
        self.assertEqual(second.take(), OK)
        self.assertApproximates(self.log[0].queue_time, 5.0, 0.2)
        assert other.breaker is not None
        self.assertEqual(other.breaker.state, "closed")
        backend.send(OK)
        self.assertEqual(first.take(), OK)

    def test_impatient(self) -> None:
        """Nor is it when the client leaves after waiting for long: that is not the backends' time."""
        slow = BreakerRules(errors=None, slow=0.0, above=1.0, volume=1)
        self.rules(1, breaker=slow)
        first, client = self.asks(), self.asks()
        backend = self.dialled(1).accept()
        self.loop.wait(0.5)
        backend.send(OK[:-2])
        self.loop.wait(3)
        client.close()
        self.assertEqual(self.ended, (499, "client_gone"))
        assert self.cluster.breaker is not None
        self.assertEqual(self.cluster.breaker.state, "closed")
        backend.send(OK[-2:])
        self.assertEqual(first.take(), OK)

    def test_fallback(self) -> None:
        """A request that an open breaker sends to another cluster waits there like any other."""
        self.rules(1, breaker=BreakerRules(volume=1))
        other = self.another(QueueRules(buckets=SHOP))
        self.cluster.failover, self.cluster.fallback = None, other
        failing = self.asks()
        self.dialled(1).fail()
        self.answered(failing, 502)
        first, second, third = self.asks(), self.asks(), self.asks()
        self.assertEqual((self.queue(other).waiting, self.queue(other).root.used), (2, 1))
        third.close()
        self.assertEqual(self.queue(other).waiting, 1)
        backend = self.dialled(1, 9).accept()
        for each in (first, second):
            backend.send(OK)
            self.loop.settle()
            self.assertEqual(each.take(), OK)


_which = st.integers(0, 4)

#: More of what fills and empties backends and queues.
_steps = st.one_of(
    test_any_order._steps,
    st.tuples(st.just("ask"), _which, st.just(GET)),
    st.tuples(st.just("answer"), _which, st.just(OK)),
    st.tuples(st.sampled_from(("accept", "accept", "refuse", "client", "backend_close")), _which, st.just(b"")),
)


class AnyOrderTests(TwoClustersCase, test_any_order.AnyOrderTests):
    """The conversations of L{test_any_order.AnyOrderTests}, with tokens, hedges, retries that wait, and a failover."""

    def balance(self, cluster: Cluster) -> None:
        """Every request on a backend has one token, and every retry that waits; no backend has more than it takes."""
        queue = cluster.queue
        assert queue is not None
        places = [place for place in queue._again if place.token]
        self.assertEqual(queue.root.used, sum(backend.active for backend in cluster.backends) + len(places))
        self.assertLessEqual(max(backend.active - backend.room for backend in cluster.backends), 0)

    @given(st.lists(_steps, min_size=5, max_size=35))
    @settings(
        max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )  # fmt: skip
    def test_nothingLeft(self, steps: list[tuple[str, int, bytes]]) -> None:
        """After each step as many tokens are out as there are requests; after any conversation all are back."""
        TwoClustersCase.setUp(self)
        rules = {"attempts": 3, "retry_on": frozenset((503,)), "retry_reset": True, "read": 20.0, "try_timeout": 8.0}
        queue = QueueRules(limit=3, timeout=6.0, buckets=SHOP)
        self.rules(3, 1, queue, hedge=HedgeRules(None, 1.0), max_fails=4, **rules)
        self.another(queue, hedge=HedgeRules(None, 1.0), **rules)
        self.resource.timeouts = Timeouts(tunnel=40.0)
        for _ in range(3):
            self.asks()
        for _ in range(2):
            self.client()
        for step in steps:
            self.step(*step)
            for cluster in self.clusters:
                self.balance(cluster)
        for _ in range(30):
            while self.network.dialled:
                self.refuse()
            self.loop.wait(35)
            if not self.resource.exchanges and not self.network.dialled:
                break
        self.loop.wait(100)
        self.end()
        self.assertEqual(len(self.loop.getDelayedCalls()), 1, "only the ticker's")
        self.clients.clear()
        self.network.ends.clear()
        self.clusters = []
