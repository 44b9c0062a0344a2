"""
What there is beside the retries of L{tests.proxy.test_retry}: the time of an attempt, passes over the cluster,
Retry-After, clusters that stand in, and the circuit breaker.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.addresses import parse_url
from lemmytx.balance.buckets import Share
from lemmytx.balance.first import First
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.breaker import BreakerRules
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.http1 import codec
from lemmytx.model import Timeouts
from lemmytx.proxy import retry
from lemmytx.proxy.pins import Pin
from lemmytx.proxy.retry import retry_after
from tests.proxy import test_any_order, test_pins
from tests.proxy.rig import GET, OK, End, ProxyCase, post

RETRIED = frozenset((503,))


def busy(fields: bytes = b"", status: int = 503) -> bytes:
    """A backend's answer that it cannot."""
    return b"HTTP/1.1 %d No\r\n%bContent-Length: 0\r\n\r\n" % (status, fields)


class ChanceCase(ProxyCase):
    """Backends are asked in the order of their names; and there may be another cluster."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(retry, "uniform", lambda least, most: most)

    def chances(self, backends: int, **rules: Any) -> None:
        """Compose a proxy with these rules."""
        self.compose(backends=backends, rules=Rules(**rules), scheduler=First())

    def another(self, **rules: Any) -> Cluster:
        """Another cluster, with one backend: 10.0.9.1."""
        location = parse_url("http://10.0.9.1:8000")
        network: Any = self.network
        backend = Backend("other", location.url, location, network, Passive(), Pool())
        backend.addresses = (location.host,)
        self.addCleanup(self.assertEqual, backend.active, 0)
        return Cluster("other", [backend], LeastConnections(), Rules(**rules), self.loop.seconds)

    def next(self, number: int) -> End:
        """The backend of that number is connected to, and gets the request."""
        self.assertEqual([dialled.address for dialled in self.network.dialled], [f"10.0.0.{number}"])
        return self.accept()

    def end(self) -> None:
        """Nothing is to be left of timers either."""
        super().end()
        self.assertEqual(len(self.loop.getDelayedCalls()), 1, "only the ticker's")


class TryTimeoutTests(ChanceCase):
    """Each attempt has a second."""

    def test_another(self) -> None:
        """A backend that does not answer in it is left for another one, and has failed."""
        self.chances(2, try_timeout=1.0)
        client = self.client()
        client.send(GET)
        first = self.next(1)
        self.loop.wait(0.9)
        self.assertEqual(self.network.dialled, [])
        self.loop.wait(0.2)
        self.assertEqual(first.fate, "reset")
        self.next(2).send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.backends[0].failures, {"timeout": 1})
        self.assertEqual(self.cluster.retries, 1)

    def test_connecting(self) -> None:
        """So is one that cannot be connected to in it, by any method, since nothing was sent."""
        self.chances(2, try_timeout=1.0)
        client = self.client()
        client.send(post(2) + b"hi")
        self.loop.wait(1.1)
        self.next(2).send(OK)
        self.assertEqual(client.take(), OK)

    def test_last(self) -> None:
        """Where no other may be asked, it is waited for as long as C{read} says."""
        for backends, request in ((1, GET), (2, post(2) + b"hi")):
            self.chances(backends, try_timeout=1.0, read=10.0)
            client = self.client()
            client.send(request)
            backend = self.next(1)
            self.loop.wait(9)
            self.assertEqual(self.network.dialled, [])
            backend.send(OK)
            self.assertEqual(client.take(), OK)
            self.assertEqual(self.backends[0].failures, {})

    def test_answered(self) -> None:
        """It ends with the head of the response: the rest may take its time."""
        self.chances(2, try_timeout=1.0)
        client = self.client()
        client.send(GET)
        backend = self.next(1)
        backend.send(OK[:-2])
        self.loop.wait(5)
        backend.send(OK[-2:])
        self.assertEqual(client.take(), OK)

    def test_interim(self) -> None:
        """An interim response is none."""
        self.chances(2, try_timeout=1.0)
        client = self.client()
        client.send(GET)
        backend = self.next(1)
        self.loop.wait(0.6)
        backend.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        client.take()
        self.loop.wait(0.6)
        self.next(2).send(OK)
        self.assertEqual(client.take(), OK)

    def test_slowClient(self) -> None:
        """A client that takes long to send its body is not the backend's fault."""
        self.chances(2, try_timeout=1.0)
        client = self.client()
        client.send(post(4, method=b"PUT"), b"ab")
        backend = self.next(1)
        self.loop.wait(5)
        client.send(b"cd")
        self.assertEqual(self.network.dialled, [])
        self.loop.wait(1.1)
        self.assertEqual(backend.fate, "reset")
        other = self.next(2)
        self.assertTrue(other.got.endswith(b"abcd"))
        other.send(OK)
        self.assertEqual(client.take(), OK)

    def test_eachAttempt(self) -> None:
        """Every attempt has its own."""
        self.chances(3, try_timeout=1.0, attempts=3)
        client = self.client()
        client.send(GET)
        for number in (1, 2):
            self.next(number)
            self.loop.wait(1.1)
        self.next(3).send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.log[0].attempts, 3)

    def test_hedged(self) -> None:
        """A hedge that is under way then goes on in its place."""
        self.chances(3, try_timeout=1.0, hedge=HedgeRules(None, 0.5))
        client = self.client()
        client.send(GET)
        first = self.next(1)
        self.loop.wait(0.6)
        second = self.next(2)
        self.loop.wait(0.6)
        self.assertEqual(first.fate, "reset")
        self.assertEqual(self.network.dialled, [])
        second.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.backends[0].failures, {"timeout": 1})


class PassTests(ChanceCase):
    """All backends are tried anew after a pause; here the longest that it may be."""

    def test_pauses(self) -> None:
        """The pauses double, up to the longest, until the attempts are used up."""
        self.chances(1, attempts=5, backoff=(0.25, 0.9), max_ejected=0.0)
        client = self.client()
        client.send(GET)
        self.refuse()
        for seconds in (0.25, 0.5, 0.9, 0.9):
            self.loop.wait(seconds - 0.02)
            self.assertEqual(self.network.dialled, [])
            self.loop.wait(0.04)
            self.refuse()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))
        self.assertEqual(self.log[0].attempts, 5)
        self.assertEqual(self.cluster.retries, 4)

    def test_othersFirst(self) -> None:
        """Before that, each is tried once, without a pause."""
        self.chances(2, attempts=4, backoff=(0.25, 0.9), max_ejected=0.0)
        client = self.client()
        client.send(GET)
        for number in (1, 2):
            self.assertEqual([dialled.address for dialled in self.network.dialled], [f"10.0.0.{number}"])
            self.refuse()
        self.assertEqual(self.network.dialled, [])
        self.loop.wait(0.3)
        self.next(1).send(OK)
        self.assertEqual(client.take(), OK)

    def test_random(self) -> None:
        """A pause is a random part of the longest."""
        asked: list[tuple[float, float]] = []
        self.patch(retry, "uniform", lambda *bounds: asked.append(bounds) or 0.1)
        self.chances(1, attempts=2, backoff=(0.5, 2.0))
        client = self.client()
        client.send(GET)
        self.refuse()
        self.loop.wait(0.12)
        self.next(1).send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(asked, [(0.0, 0.5)])

    def test_notByDefault(self) -> None:
        """Without it no backend is tried twice, whatever attempts are left."""
        self.chances(1, attempts=5)
        client = self.client()
        client.send(GET)
        self.refuse()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))

    def test_clientGone(self) -> None:
        """A client that leaves during the pause ends it."""
        self.chances(1, attempts=5, backoff=(0.5, 2.0))
        client = self.client()
        client.send(GET)
        self.refuse()
        self.assertEqual(self.cluster.retrying, 1)
        client.reset()
        self.loop.wait(1)
        self.assertEqual(self.network.dialled, [])
        self.assertEqual(self.ended, (499, "client_gone"))

    def test_body(self) -> None:
        """What comes of the body meanwhile is held, and sent whole."""
        self.chances(1, attempts=3, backoff=(0.5, 2.0))
        client = self.client()
        client.send(post(6), b"ab")
        self.refuse()
        client.send(b"cd")
        self.loop.wait(0.6)
        backend = self.next(1)
        client.send(b"ef")
        self.assertTrue(backend.got.endswith(b"abcdef"), backend.got)
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_nobodyLeft(self) -> None:
        """When there is nobody after the pause, the client is told so."""
        self.chances(1, attempts=3, backoff=(0.5, 2.0))
        client = self.client()
        client.send(GET)
        self.refuse()
        self.backends[0].state = "disabled"
        self.cluster.changed()
        self.loop.wait(0.6)
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))
        self.assertEqual(self.ended, (502, "no_backend"))

    def test_deadline(self) -> None:
        """No pause reaches beyond C{read}."""
        self.chances(1, attempts=9, backoff=(1.0, 60.0), read=4.0, max_ejected=0.0)
        client = self.client()
        client.send(GET)
        for seconds in (0.0, 1.01, 2.01):
            self.loop.wait(seconds)
            self.refuse()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))

    def test_budget(self) -> None:
        """A pause is a retry in the budget."""
        self.chances(1, attempts=3, backoff=(0.5, 2.0), budget=0.0, budget_at_least=0)
        client = self.client()
        client.send(GET)
        self.refuse()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))
        self.assertEqual(self.cluster.retries_refused, 1)


class RetryAfterTests(ChanceCase):
    """Backends that say when they want to be asked again."""

    def answers(self, fields: bytes, most: float = 2.0, **rules: Any) -> End:
        """The client of a request to the one backend, that answered 503 with these fields."""
        self.chances(1, attempts=3, retry_on=RETRIED, backoff=(0.1, most), fail_on=frozenset(), **rules)
        client = self.client()
        client.send(GET)
        self.next(1).send(busy(fields))
        return client

    def test_waits(self) -> None:
        """It is asked when it wants to be, not before."""
        client = self.answers(b"Retry-After: 2\r\n")
        self.loop.wait(1.9)
        self.assertEqual(self.network.dialled, [])
        self.loop.wait(0.2)
        self.next(1).send(OK)
        self.assertEqual(client.take(), OK)

    def test_tooLong(self) -> None:
        """When that is later than the longest pause, or than C{read}, the answer stands."""
        for rules in ({"most": 1.0}, {"most": 30.0, "read": 1.5}):
            client = self.answers(b"Retry-After: 2\r\n", **rules)
            self.assertTrue(client.take().startswith(busy(b"Retry-After: 2\r\n")[:-2]))

    def test_others(self) -> None:
        """Another backend is asked at once; and the one that wants to rest is left out of the next pass."""
        self.chances(2, attempts=5, retry_on=RETRIED, backoff=(0.1, 2.0), fail_on=frozenset())
        client = self.client()
        client.send(GET)
        self.next(1).send(busy(b"Retry-After: 2\r\n"))
        self.next(2).send(busy())
        self.loop.wait(0.12)
        self.next(2).send(OK)
        self.assertEqual(client.take(), OK)


class RetryAfterValueTests(SynchronousTestCase):
    """The field itself."""

    def seconds(self, value: str) -> float:
        head = codec.response(busy(b"Retry-After: " + value.encode() + b"\r\n"), False, 1000, 10)
        assert head is not None
        return retry_after(head)

    def test_values(self) -> None:
        """Seconds or a date; whatever else is as good as nothing."""
        self.assertEqual(self.seconds("120"), 120.0)
        self.assertEqual(self.seconds("9" * 40), 999999999.0)
        soon = self.seconds(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
        self.assertApproximates(soon, 3600, 60)
        for value in ("Sat, 21 Nov 2020 00:34:07 GMT", "-1", "1.5", "soon", "", "Sat, 99 Nov 2020 00:34:07 GMT"):
            self.assertEqual(self.seconds(value), 0.0, value)

    def test_none(self) -> None:
        """No field, no time."""
        head = codec.response(OK, False, 1000, 10)
        assert head is not None
        self.assertEqual(retry_after(head), 0.0)


class FailoverTests(ChanceCase):
    """A cluster with another one that stands in."""

    def test_nothingUp(self) -> None:
        """While no backend is up, requests go to the other cluster."""
        self.chances(2, queue=QueueRules())
        self.cluster.failover = self.another()
        for backend in self.backends:
            backend.state = "disabled"
        self.cluster.changed()
        client = self.client()
        client.send(GET)
        self.assertEqual(self.network.dialled[0].address, "10.0.9.1")
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.cluster.failovers, 1)
        self.cluster.failover.backends[0].close_idle()

    def test_full(self) -> None:
        """A cluster that is at capacity is up: requests wait for it."""
        self.compose(rules=Rules(queue=QueueRules()), capacity=1)
        self.cluster.failover = self.another()
        first, second = self.client(), self.client()
        first.send(GET)
        backend = self.accept()
        second.send(GET)
        self.assertEqual(self.network.dialled, [])
        backend.send(OK)
        backend.send(OK)
        self.assertEqual([first.take(), second.take()], [OK, OK])
        self.assertEqual(self.cluster.failovers, 0)

    def test_waiting(self) -> None:
        """Those who wait go there when the last backend is gone."""
        self.compose(rules=Rules(queue=QueueRules()), capacity=1)
        self.cluster.failover = other = self.another()
        first, second, third = self.client(), self.client(), self.client()
        first.send(GET)
        backend = self.accept()
        second.send(GET)
        third.send(post(4), b"ab")
        self.backend.state = "drain"
        self.cluster.changed()
        ends = [self.accept(), self.accept()]
        third.send(b"cd")
        self.assertTrue(ends[1].got.endswith(b"abcd"))
        for end in (backend, *ends):
            end.send(OK)
        self.assertEqual([client.take() for client in (first, second, third)], [OK, OK, OK])
        self.assertEqual(self.cluster.failovers, 2)
        other.backends[0].close_idle()

    def test_trial(self) -> None:
        """Beside the trial of its only backend, requests go to the other cluster."""
        self.chances(1, max_ejected=1.0, queue=QueueRules())
        self.cluster.failover = other = self.another()
        for _ in range(3):
            self.cluster.failed(self.backend, "gone", "a test")
        self.loop.wait(11)
        trial, client = self.client(), self.client()
        trial.send(GET)
        backend = self.accept()
        client.send(GET)
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        backend.send(OK)
        self.assertEqual(trial.take(), OK)
        self.assertEqual(other.backends[0].traffic.count, 1)
        other.backends[0].close_idle()

    def test_allRefuse(self) -> None:
        """A request that could not be connected anywhere goes there too, with all its attempts and its whole body."""
        self.chances(3, queue=QueueRules(), budget=0.0, budget_at_least=1)
        self.cluster.failover = other = self.another(attempts=1)
        client = self.client()
        client.send(post(2) + b"hi")
        self.refuse()
        self.refuse()
        self.assertEqual(self.network.dialled[0].address, "10.0.9.1")
        backend = self.accept()
        self.assertTrue(backend.got.endswith(b"hi"))
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual((self.log[0].attempts, self.log[0].cluster), (3, other))
        other.backends[0].close_idle()

    def test_alsoDown(self) -> None:
        """When that cannot be reached either, the client is told so."""
        self.chances(1)
        self.cluster.failover = self.another()
        client = self.client()
        client.send(GET)
        self.refuse()
        self.refuse()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))
        self.assertEqual(self.ended, (502, "backend_refused"))

    def test_judged(self) -> None:
        """For the first cluster's breaker that is a failure; and its hedge is none of the other cluster's."""
        self.chances(1, breaker=BreakerRules(volume=1), hedge=HedgeRules(None, 0.5))
        self.cluster.failover = other = self.another()
        client = self.client()
        client.send(GET)
        self.refuse()
        self.loop.wait(1)
        self.assertEqual(len(self.network.dialled), 1)
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        assert self.cluster.breaker is not None
        self.assertEqual(self.cluster.breaker.state, "open")
        other.backends[0].close_idle()

    def test_afterAPause(self) -> None:
        """When a pause is over and nobody is left, the request goes there too."""
        self.chances(1, attempts=3, backoff=(0.5, 2.0))
        self.cluster.failover = other = self.another()
        client = self.client()
        client.send(GET)
        self.refuse()
        self.backends[0].state = "disabled"
        self.cluster.changed()
        self.loop.wait(0.6)
        self.assertEqual(self.network.dialled[0].address, "10.0.9.1")
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        other.backends[0].close_idle()

    def test_token(self) -> None:
        """A request that goes elsewhere gives its token of a bucket back."""
        shares = (Share("all", 1.0, 1.0),)
        self.compose(rules=Rules(queue=QueueRules(buckets=shares, usual="all")), capacity=1)
        self.cluster.failover = other = self.another()
        client = self.client()
        client.send(GET)
        queue = self.cluster.queue
        assert queue is not None
        self.assertEqual(queue.buckets["all"].used, 1)
        self.refuse()
        self.assertEqual(queue.buckets["all"].used, 0)
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        other.backends[0].close_idle()

    def test_ownHost(self) -> None:
        """The request is put into words anew: each cluster may want its own Host."""
        self.chances(1)
        self.cluster.failover = other = self.another(own_host=True)
        client = self.client()
        client.send(GET)
        self.refuse()
        backend = self.accept()
        self.assertIn(b"Host: 10.0.9.1:8000\r\n", backend.got)
        backend.send(OK)
        client.take()
        other.backends[0].close_idle()

    def test_notSent(self) -> None:
        """A request of which a backend may have got something does not go there."""
        self.chances(1)
        self.cluster.failover = self.another()
        client = self.client()
        client.send(GET)
        self.next(1).close()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))


class BreakerTests(ChanceCase):
    """A cluster whose breaker opens with the second failure."""

    RULES = BreakerRules(volume=2, half_open=1)

    def ask(self, answer: bytes | None = None) -> bytes:
        """What a client gets for a request, of whose connection the backend answers so; or refuses it."""
        client = self.client()
        client.send(GET)
        if self.network.dialled:
            if answer is None:
                self.refuse()
            else:
                self.accept().send(answer)
        self.backend.close_idle()
        self.loop.settle()
        return client.take()

    def open(self, **rules: Any) -> None:
        """Make it open."""
        arguments: dict[str, Any] = {"breaker": self.RULES, **rules}
        self.compose(rules=Rules(**arguments), max_fails=0)
        for _ in range(2):
            self.ask()
        assert self.cluster.breaker is not None
        self.assertEqual(self.cluster.breaker.state, "open")
        self.log.clear()

    def test_turnsAway(self) -> None:
        """While it is open, requests are answered at once, with the time after which it makes sense to come again."""
        self.open()
        answer = self.ask()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503"))
        self.assertIn(b"Retry-After: 5\r\n", answer)
        self.assertEqual(self.ended, (503, "breaker_open"))
        assert self.cluster.breaker is not None
        self.assertEqual(self.cluster.breaker.refused, 1)

    def test_reply(self) -> None:
        """The status is what the configuration says."""
        self.open(breaker=self.RULES._replace(reply=429))
        self.assertTrue(self.ask().startswith(b"HTTP/1.1 429"))

    def test_closes(self) -> None:
        """After its time requests go again, and when they are answered it closes."""
        self.open()
        self.loop.wait(5.1)
        self.assertEqual(self.ask(OK), OK)
        assert self.cluster.breaker is not None
        self.assertEqual(self.cluster.breaker.state, "closed")

    def test_opensAgain(self) -> None:
        """Or not."""
        self.open()
        self.loop.wait(5.1)
        self.assertTrue(self.ask().startswith(b"HTTP/1.1 502"))
        self.assertEqual(self.ask()[9:12], b"503")

    def test_fallback(self) -> None:
        """With another cluster to fall back to, requests go there."""
        self.open()
        self.cluster.fallback = other = self.another()
        self.assertEqual(self.ask(OK), OK)
        self.assertEqual(self.log[0].cluster, other)
        other.backends[0].close_idle()

    def test_fallbackOpen(self) -> None:
        """That one's breaker is asked as well."""
        self.open()
        self.cluster.fallback = other = self.another(breaker=self.RULES)
        for _ in range(2):
            self.ask()
        self.assertEqual(self.network.dialled, [])
        self.assertEqual(self.ask()[9:12], b"503")
        assert other.breaker is not None
        self.assertEqual((other.breaker.state, other.breaker.refused), ("open", 1))

    def test_whatCounts(self) -> None:
        """What counts as an error: faults of the backends and the statuses of C{fail_on}; other statuses do not."""
        for answer, counted in ((None, True), (busy(), True), (b"nonsense\r\n\r\n", True), (busy(status=500), False)):
            self.compose(rules=Rules(breaker=self.RULES), max_fails=0)
            for _ in range(2):
                self.ask(answer)
            assert self.cluster.breaker is not None
            self.assertEqual(self.cluster.breaker.state, "open" if counted else "closed", answer)

    def test_retried(self) -> None:
        """A failure that another backend made good is none."""
        self.compose(backends=2, rules=Rules(breaker=self.RULES), max_fails=0)
        for _ in range(4):
            client = self.client()
            client.send(GET)
            self.refuse()
            self.accept().send(OK)
            self.assertEqual(client.take(), OK)
            for backend in self.backends:
                backend.close_idle()
            self.loop.settle()
        assert self.cluster.breaker is not None
        self.assertEqual(self.cluster.breaker.state, "closed")

    def test_slow(self) -> None:
        """Answers that take long count, and so do clients that leave after as long; those that leave earlier do not."""
        rules = BreakerRules(errors=None, slow=0.0, above=2.0, volume=2, half_open=1)
        for seconds, leaves, opens in ((2.5, False, True), (2.5, True, True), (1.0, False, False), (1.0, True, False)):
            self.compose(rules=Rules(breaker=rules), max_fails=0)
            for _ in range(2):
                client = self.client()
                client.send(GET)
                backend = self.accept()
                self.loop.wait(seconds)
                if leaves:
                    client.reset()
                else:
                    backend.send(OK)
                self.backend.close_idle()
                self.loop.settle()
            assert self.cluster.breaker is not None
            self.assertEqual(self.cluster.breaker.state, "open" if opens else "closed", (seconds, leaves))

    def test_headDecides(self) -> None:
        """A trial is over with the head of its response, however long that lasts."""
        self.open()
        self.loop.wait(5.1)
        client = self.client()
        client.send(GET)
        backend = self.accept()
        backend.send(OK[:-2])
        assert self.cluster.breaker is not None
        self.assertEqual(self.cluster.breaker.state, "closed")
        backend.send(OK[-2:])
        self.assertEqual(client.take(), OK)

    def test_trialLeaves(self) -> None:
        """A client that leaves during its trial makes room for another."""
        self.open()
        self.loop.wait(5.1)
        client = self.client()
        client.send(GET)
        self.assertEqual(len(self.network.dialled), 1)
        other = self.client()
        other.send(GET)
        self.assertEqual(other.take()[9:12], b"503")
        client.reset()
        self.assertEqual(self.ask(OK), OK)

    def test_reload(self) -> None:
        """It keeps its state when the rules change, and goes when there are none."""
        self.open()
        breaker = self.cluster.breaker
        rules = Rules(breaker=self.RULES._replace(reply=500))
        self.cluster.configure(self.backends, self.cluster.scheduler, rules)
        self.assertIs(self.cluster.breaker, breaker)
        self.assertEqual(self.ask()[9:12], b"500")
        self.cluster.configure(self.backends, self.cluster.scheduler, Rules())
        self.assertEqual(self.ask(OK), OK)


class TrialTests(ChanceCase):
    """A backend that was out, and is on trial with a request."""

    def test_failsUnanswered(self) -> None:
        """When it dies without an answer it has failed the trial: it is out again, for longer."""
        self.chances(2)
        for _ in range(3):
            self.cluster.failed(self.backend, "gone", "a test")
        self.loop.wait(10.1)
        client = self.client()
        client.send(GET)
        self.next(1).close()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))
        self.assertApproximates(self.backend.passive.until - self.loop.seconds(), 20, 0.5)

    def test_failsSilent(self) -> None:
        """And so when it says nothing, or nothing that makes sense."""
        for silent in (True, False):
            self.chances(2, read=5.0)
            for _ in range(3):
                self.cluster.failed(self.backend, "gone", "a test")
            self.loop.wait(10.1)
            client = self.client()
            client.send(GET)
            backend = self.next(1)
            if silent:
                self.loop.wait(5.6)
            else:
                backend.send(b"nonsense\r\n\r\n")
            self.assertEqual(client.got[9:12], b"504" if silent else b"502")
            self.assertApproximates(self.backend.passive.until - self.loop.seconds(), 20, 1)


class PinnedTests(test_pins.PinCase):
    """Clients that name the backend have asked for that one."""

    def test_nothing(self) -> None:
        """They get no hedge, no other attempt, no other cluster, and the circuit breaker does not mind them."""
        rules = Rules(
            try_timeout=0.5,
            backoff=(0.1, 0.1),
            attempts=5,
            hedge=HedgeRules(None, 0.05),
            breaker=BreakerRules(volume=1),
            retry_reset=True,
        )
        self.pin(Pin("header", "X-Backend", test_pins.NEAR), rules=rules)
        self.cluster.failover = self.cluster.fallback = self.cluster
        assert self.cluster.breaker is not None
        self.cluster.breaker.ended(self.cluster.breaker.enter(0.0), 0.0, True, 0.0)
        self.assertEqual(self.cluster.breaker.state, "open")
        client = self.send(b"X-Backend: b2")
        backend = self.accept()
        self.loop.wait(2)
        self.assertEqual(self.network.dialled, [])
        backend.send(OK)
        self.assertEqual((200, "ok", b"b2"), self.refused(client))
        self.backends[1].close_idle()
        client = self.send(b"X-Backend: b2")
        self.refuse()
        self.assertEqual((502, "backend_refused", b"b2"), self.refused(client))
        client = self.send(b"X-Backend: b2")
        self.accept().close()
        self.assertEqual((502, "backend_gone", b"b2"), self.refused(client))
        self.assertEqual((self.cluster.failovers, self.network.dialled), (0, []))


class AllAtOnceTests(test_any_order.AnyOrderTests):
    """The conversations of L{test_any_order.AnyOrderTests}, where everything of this comes together."""

    @given(st.lists(test_any_order._steps, max_size=25))
    @settings(
        max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )  # fmt: skip
    def test_nothingLeft(self, steps: list[tuple[str, int, bytes]]) -> None:
        """After any conversation, time alone brings everything back to zero."""
        ProxyCase.setUp(self)
        rules = Rules(
            attempts=4,
            retry_on=RETRIED,
            read=20.0,
            try_timeout=2.0,
            backoff=(0.4, 2.0),
            hedge=HedgeRules(None, 1.0, 2),
            breaker=BreakerRules(volume=3),
        )
        self.compose(backends=3, rules=rules, timeouts=Timeouts(tunnel=40.0), max_fails=2)
        self.client()
        for step in steps:
            self.step(*step)
            self.assertLessEqual(sum(b.active for b in self.backends), 3 * self.resource.exchanges)
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
