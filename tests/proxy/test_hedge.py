"""Hedged requests: each row of the table in L{lemmytx.proxy.hedge}."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.error import ConnectError
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.buckets import Share
from lemmytx.balance.first import First
from lemmytx.cluster.hedging import ENOUGH, Delay, HedgeRules
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.proxy import hedge, retry
from tests.proxy.rig import GET, OK, End, ProxyCase, post

#: After 50 ms, whatever the times are.
FIXED = HedgeRules(None, 0.05)

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class DelayTests(SynchronousTestCase):
    """After how long a request is hedged."""

    def test_little(self) -> None:
        """Nothing is hedged before enough is known."""
        delay = Delay(HedgeRules())
        for _ in range(ENOUGH - 1):
            delay.note(0.2, 1.0)
        self.assertEqual(delay.seconds(1.0), float("inf"))
        delay.note(0.2, 1.0)
        self.assertEqual(delay.seconds(1.5), float("inf"), "what was worked out is good for a second")
        self.assertApproximates(delay.seconds(2.0), 0.2, 0.01)

    def test_quantile(self) -> None:
        """It is the quantile of the times, and follows them."""
        delay = Delay(HedgeRules(0.9, 0.01))
        for number in range(1, 10_001):
            delay.note(number / 1000, 5.0)
        self.assertApproximates(delay.seconds(5.0), 9.0, 0.25)
        self.assertEqual(delay.seconds(1000.0), float("inf"), "it is long since anything was known")

    def test_atLeast(self) -> None:
        """However quick the others are, it is no less than wanted; and just that where there is no quantile."""
        delay = Delay(HedgeRules(0.5, 0.05))
        for _ in range(100):
            delay.note(0.001, 0.0)
        self.assertEqual(delay.seconds(0.0), 0.05)
        self.assertEqual(Delay(FIXED).seconds(0.0), 0.05)

    def test_configure(self) -> None:
        """Other rules hold at once."""
        delay = Delay(HedgeRules(0.5, 0.05))
        for _ in range(100):
            delay.note(0.2, 0.0)
        self.assertApproximates(delay.seconds(0.0), 0.2, 0.01)
        delay.configure(HedgeRules(0.5, 0.5))
        self.assertEqual(delay.seconds(0.0), 0.5)


class HedgeTests(ProxyCase):
    """A cluster of two backends, where a second request is sent after 50 ms."""

    def setUp(self) -> None:
        super().setUp()
        self.hedged()

    def hedged(self, rules: Rules | None = None, **more: Any) -> None:
        """Compose a proxy that does."""
        arguments: dict[str, Any] = {"backends": 2, **more}
        self.compose(rules=rules or Rules(hedge=FIXED), **arguments)

    def end(self) -> None:
        """Nothing is to be left of timers either."""
        super().end()
        self.assertEqual(len(self.loop.getDelayedCalls()), 1, "only the ticker's")

    def two(self, request: bytes = GET) -> tuple[End, End, End]:
        """A client, the backend that it waits for, and the one with the hedge."""
        client = self.client()
        client.send(request)
        first = self.accept()
        self.assertEqual(self.network.dialled, [])
        self.loop.wait(0.06)
        second = self.accept()
        return client, first, second

    def test_loses(self) -> None:
        """When the first one answers, the hedge is cancelled, and nobody is blamed."""
        client, first, second = self.two()
        self.assertEqual(second.got, first.got)
        first.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(second.fate, "reset")
        self.assertEqual(first.fate, "open")
        self.assertEqual((self.cluster.hedges, self.cluster.hedge_wins), (1, 0))
        self.assertEqual([backend.failures for backend in self.backends], [{}, {}])
        self.assertEqual(self.ended, (200, "ok"))

    def test_wins(self) -> None:
        """When the hedge answers first, the first attempt is cancelled; it is counted where the answer comes from."""
        client, first, second = self.two()
        second.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(first.fate, "reset")
        self.assertEqual(second.fate, "open")
        self.assertEqual((self.cluster.hedges, self.cluster.hedge_wins), (1, 1))
        self.assertEqual([backend.failures for backend in self.backends], [{}, {}])
        self.assertEqual(sorted(backend.traffic.count for backend in self.backends), [0, 1])
        self.assertEqual(self.log[0].attempts, 2)
        self.assertGreater(self.log[0].delay, 0.04, "what the winner had to wait for is not its own time")
        winner = self.log[0].backend
        assert winner is not None
        self.assertEqual([len(backend.idle) for backend in self.backends], [int(b is winner) for b in self.backends])

    def test_winsInParts(self) -> None:
        """The hedge's response may come in any pieces, and is paused while the client is slow."""
        client, first, second = self.two()
        client.full()
        second.send(OK[:40], OK[40:-3])
        self.assertEqual(first.fate, "reset")
        client.drain()
        second.send(OK[-3:])
        self.assertEqual(client.take(), OK)

    def test_stillDialled(self) -> None:
        """A hedge wins as well while the first attempt has no connection yet, and the other way round."""
        client = self.client()
        client.send(GET)
        self.loop.wait(0.06)
        self.assertEqual(len({dialled.address for dialled in self.network.dialled}), 2)
        second = self.network.dialled[1].accept()
        second.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.network.dialled, [])
        self.hedged()
        client = self.client()
        client.send(GET)
        first = self.accept()
        self.loop.wait(0.06)
        first.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.network.dialled, [])

    def test_inTime(self) -> None:
        """A request that is answered before the time is over is sent once."""
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.loop.wait(0.04)
        backend.send(OK)
        self.loop.wait(1)
        self.assertEqual(self.network.dialled, [])
        self.assertEqual(self.cluster.hedges, 0)

    def test_notSafe(self) -> None:
        """A request with a body, of another method, or for another protocol is sent once."""
        for request in (
            post(2) + b"hi",
            GET.replace(b"GET", b"DELETE"),
            GET.replace(b"GET", b"PUT"),
            GET[:-2] + b"Content-Length: 2\r\n\r\nhi",
            GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ):
            self.hedged()
            client = self.client()
            client.send(request)
            backend = self.accept()
            self.loop.wait(1)
            self.assertEqual(self.network.dialled, [], request)
            backend.send(OK)
            self.assertEqual(client.take(), OK)

    def test_badAnswer(self) -> None:
        """A hedge that answers with a failure counts for nothing: the first attempt goes on."""
        for rules in (Rules(hedge=FIXED), Rules(hedge=FIXED, fail_on=frozenset(), retry_on=frozenset((503,)))):
            self.hedged(rules)
            client, first, second = self.two()
            second.send(BUSY)
            self.assertEqual(client.got, b"")
            self.assertEqual(second.fate, "reset")
            first.send(OK)
            self.assertEqual(client.take(), OK)
            self.assertEqual(self.cluster.hedge_wins, 0)
            failures = [backend.failures for backend in self.backends if backend.failures]
            self.assertEqual(failures, [{"status": 1}] if rules.fail_on else [])

    def test_hedgeFails(self) -> None:
        """A hedge that fails in any way is its backend's failure; the first attempt goes on."""
        ways = {
            "refused": lambda: self.refuse(),
            "gone": lambda: self.accept().close(),
            "malformed": lambda: self.accept().send(b"no http at all\r\n\r\n"),
        }
        for kind, fail in ways.items():
            self.hedged()
            client = self.client()
            client.send(GET)
            first = self.accept()
            self.loop.wait(0.06)
            fail()
            self.assertEqual(client.got, b"")
            first.send(OK)
            self.assertEqual(client.take(), OK)
            self.assertEqual([backend.failures for backend in self.backends if backend.failures], [{kind: 1}])

    def test_firstFails(self) -> None:
        """When the first attempt fails in any way, its backend is told so, and the hedge goes on."""
        for fail in ("close", "reset", "malformed"):
            self.hedged()
            client, first, second = self.two()
            if fail == "malformed":
                first.send(b"no http at all\r\n\r\n")
            else:
                getattr(first, fail)()
            self.assertEqual(client.got, b"")
            self.assertEqual(self.cluster.retrying, 0)
            second.send(OK)
            self.assertEqual(client.take(), OK)
            kind = "malformed" if fail == "malformed" else "gone"
            self.assertEqual([backend.failures for backend in self.backends if backend.failures], [{kind: 1}])
            self.assertEqual(self.log[0].status, 200)

    def test_firstRefused(self) -> None:
        """The same when it is refused while the hedge is being connected; whose connection then is the exchange's."""
        client = self.client()
        client.send(GET)
        self.loop.wait(0.06)
        self.refuse()
        self.assertEqual(len(self.network.dialled), 1)
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        self.hedged()
        client = self.client()
        client.send(GET)
        self.loop.wait(0.06)
        self.refuse()
        self.refuse()
        self.assertTrue(client.got.startswith(b"HTTP/1.1 502"))
        self.assertEqual([backend.failures for backend in self.backends], [{"refused": 1}, {"refused": 1}])

    def test_firstAnswersBadly(self) -> None:
        """A first answer that would be retried gives way to the hedge that is under way."""
        self.hedged(Rules(hedge=FIXED, retry_on=frozenset((503,))))
        client, first, second = self.two()
        first.send(BUSY)
        self.assertEqual(client.got, b"")
        self.assertEqual(self.network.dialled, [])
        second.send(OK)
        self.assertEqual(client.take(), OK)

    def test_bothSilent(self) -> None:
        """When neither answers in time, both are blamed, and the client is told once."""
        self.hedged(Rules(hedge=FIXED, read=5.0))
        client, first, second = self.two()
        self.loop.wait(6)
        self.assertTrue(client.got.startswith(b"HTTP/1.1 504"))
        self.assertEqual([first.fate, second.fate], ["reset", "reset"])
        self.assertEqual([backend.failures for backend in self.backends], [{"timeout": 1}, {"timeout": 1}])
        self.assertEqual(self.ended, (504, "timeout_read"))

    def test_clientGone(self) -> None:
        """A client that leaves ends both, and nobody is blamed."""
        for step in ("dialled", "sent"):
            self.hedged()
            client = self.client()
            client.send(GET)
            first = self.accept()
            self.loop.wait(0.06)
            if step == "sent":
                self.accept()
            client.reset()
            self.assertEqual(first.fate, "reset")
            self.assertEqual(self.network.dialled, [])
            self.assertEqual(self.cluster.retrying, 0)
            self.assertEqual([backend.failures for backend in self.backends], [{}, {}])
            self.clients.clear()

    def test_budget(self) -> None:
        """A hedge is a retry in the budget: without room there is none."""
        self.hedged(Rules(hedge=FIXED, budget=0.0, budget_at_least=1))
        one, first, second = self.two()
        self.assertEqual(self.cluster.retrying, 1)
        other = self.client()
        other.send(GET)
        third = self.accept()
        self.loop.wait(0.06)
        self.assertEqual(self.network.dialled, [])
        self.assertEqual(self.cluster.retries_refused, 1)
        for backend in (first, third):
            backend.send(OK)
        self.assertEqual([one.take(), other.take()], [OK, OK])
        self.assertEqual(second.fate, "reset")

    def test_most(self) -> None:
        """As many are sent as may be, each after the same time again, and each to another backend."""
        self.hedged(Rules(hedge=HedgeRules(None, 0.05, 2)), backends=4)
        client, first, second = self.two()
        self.loop.wait(0.06)
        third = self.accept()
        self.loop.wait(0.5)
        self.assertEqual(self.network.dialled, [])
        self.assertEqual(sorted(backend.active for backend in self.backends), [0, 1, 1, 1])
        second.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual([first.fate, second.fate, third.fate], ["reset", "open", "reset"])

    def test_nobodyElse(self) -> None:
        """With one backend, or with no room on the others, nothing is sent twice."""
        self.hedged(backends=1)
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.loop.wait(0.2)
        self.assertEqual(self.network.dialled, [])
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_othersWait(self) -> None:
        """A backend that is free is for those who wait, not for a second request."""
        self.hedged(Rules(hedge=FIXED, queue=QueueRules(limit=5)), capacity=1)
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        first, second = self.accept(), self.accept()
        self.loop.wait(0.2)
        self.assertEqual(self.cluster.hedges, 0)
        first.send(OK)
        second.send(OK)
        (self.network.ends[0] if self.network.ends[0].got.count(b"GET") == 2 else second).send(OK)
        self.loop.settle()
        self.assertEqual([client.take() for client in clients], [OK, OK, OK])

    def test_trial(self) -> None:
        """A hedge to a backend that is on trial is its trial: another may begin when the hedge was cancelled."""
        self.hedged(max_fails=1, scheduler=First())
        suspect = self.backends[1]
        self.cluster.failed(suspect, "gone", "a test")
        self.loop.wait(11)
        client, first, _ = self.two()
        self.assertTrue(suspect.passive.trying)
        first.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertTrue(suspect.passive.ejected)
        self.assertFalse(suspect.passive.trying)
        client, _, second = self.two_more()
        second.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertFalse(suspect.passive.ejected)

    def test_trialTakesOver(self) -> None:
        """A hedge that takes the place of a failed attempt takes its trial along, and that has an outcome."""
        for well in (True, False):
            self.hedged(max_fails=1, scheduler=First(), backends=3)
            suspect = self.backends[1]
            self.cluster.failed(suspect, "gone", "a test")
            self.loop.wait(11)
            client, first, second = self.two()
            first.close()
            self.assertTrue(suspect.passive.trying)
            if well:
                second.send(OK)
            else:
                second.close()
            self.assertEqual(client.take()[9:12], b"200" if well else b"502")
            self.assertEqual((suspect.passive.ejected, suspect.passive.trying), (not well, False))

    def test_starved(self) -> None:
        """When there is no descriptor for the hedge, the first attempt goes on; and the other way round."""
        for place in (1, 0):
            self.hedged()
            client = self.client()
            client.send(GET)
            self.loop.wait(0.06)
            starving = self.network.dialled[place]
            starving.fail(ConnectError(errno.EMFILE))
            self.assertEqual(len(self.network.dialled), 1)
            self.accept().send(OK)
            self.assertEqual(client.take(), OK)
            self.assertEqual([backend.failures for backend in self.backends], [{}, {}])

    def test_starvedTwice(self) -> None:
        """Without a descriptor for either, the client is told so."""
        client = self.client()
        client.send(GET)
        self.loop.wait(0.06)
        for _ in range(2):
            self.refuse(ConnectError(errno.EMFILE))
        self.assertEqual(client.take()[9:12], b"503")
        self.assertEqual([backend.failures for backend in self.backends], [{}, {}])

    def test_staleConnection(self) -> None:
        """A kept connection that dies under a hedge is no failure of its backend."""
        self.hedged(scheduler=First())
        client, first, second = self.two()
        second.send(OK)
        client.take()
        second.take()
        client.send(GET)
        other = self.accept()
        self.loop.wait(0.06)
        self.assertIn(b"GET", second.got)
        second.close()
        self.assertEqual([backend.failures for backend in self.backends], [{}, {}])
        other.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(first.fate, "reset")

    def test_betweenAttempts(self) -> None:
        """While a request waits for its next attempt it is not sent."""
        self.hedged(Rules(hedge=FIXED, backoff=(1.0, 1.0), attempts=3), backends=1)
        self.patch(retry, "uniform", lambda least, most: most)
        client = self.client()
        client.send(GET)
        self.refuse()
        self.loop.wait(0.5)
        self.assertEqual(self.network.dialled, [])
        self.loop.wait(0.6)
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)

    def test_ownHost(self) -> None:
        """Each backend gets its own Host where that is wanted."""
        self.hedged(Rules(hedge=FIXED, own_host=True), scheduler=First())
        client, first, second = self.two()
        self.assertIn(b"Host: 10.0.0.1:8000\r\n", first.got)
        self.assertIn(b"Host: 10.0.0.2:8000\r\n", second.got)
        second.send(OK)
        self.assertEqual(client.take(), OK)

    def test_ourError(self) -> None:
        """An error of our own while a hedge is sent ends the exchange, and nothing is left of it."""
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.patch(hedge, "dial", lambda *_: 1 / 0)
        self.loop.wait(0.06)
        self.assertEqual(client.take()[9:12], b"500")
        self.assertEqual(backend.fate, "reset")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reloaded(self) -> None:
        """When hedging is switched off meanwhile, none is sent any more."""
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.cluster.configure(self.backends, self.cluster.scheduler, Rules())
        self.loop.wait(0.2)
        self.assertEqual(self.network.dialled, [])
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def two_more(self) -> tuple[End, End, End]:
        """As L{two}, where the first connection stands already."""
        client = self.client()
        client.send(GET)
        first = self.network.ends[0]
        self.loop.wait(0.06)
        return client, first, self.accept()


class TokenTests(HedgeTests):
    """With buckets, a hedge has a token as well; what holds for hedges otherwise holds here too."""

    #: Of ten tokens, C{vip} has two at the least and four at the most.
    SHOP = QueueRules(buckets=(Share("vip", 0.2, 0.4), Share("main", 0.8, 1.0)), usual="vip")

    def hedged(self, rules: Rules | None = None, **more: Any) -> None:
        rules = rules or Rules(hedge=FIXED)
        rules.queue = rules.queue or self.SHOP
        super().hedged(rules, **{"capacity": 5, **more})

    def end(self) -> None:
        """All tokens are back."""
        super().end()
        if self.cluster.queue is not None:
            self.assertEqual(self.cluster.queue.root.used, 0)

    @property
    def used(self) -> tuple[int, int]:
        """Tokens that are out: of the bucket, and of all."""
        queue = self.cluster.queue
        assert queue is not None
        return queue.buckets["vip"].used, queue.root.used

    def test_token(self) -> None:
        """It has one while it is under way, however it ends; the request has its own until its own end."""
        for end in ("answers", "is answered", "fails", "answers badly", "takes over", "leaves"):
            self.hedged(scheduler=First())
            client, first, second = self.two()
            self.assertEqual(self.used, (2, 2))
            self.assertEqual([backend.active for backend in self.backends], [1, 1])
            if end == "answers":
                second.send(OK[:-2])
                self.assertEqual(self.used, (1, 1))
                second.send(OK[-2:])
            elif end == "is answered":
                first.send(OK[:-2])
                self.assertEqual(self.used, (1, 1))
                first.send(OK[-2:])
            elif end in ("fails", "answers badly"):
                second.send(b"no http at all\r\n\r\n" if end == "fails" else BUSY)
                self.assertEqual(self.used, (1, 1))
                first.send(OK)
            elif end == "takes over":
                first.close()
                self.assertEqual(self.used, (1, 1))
                second.send(OK)
            else:
                client.reset()
            self.assertEqual(self.used, (0, 0), end)

    def test_none(self) -> None:
        """Without a token left for its bucket it is not sent, though a backend has room and others have tokens."""
        self.hedged()
        clients = [self.client() for _ in range(4)]
        for client in clients:
            client.send(GET)
        ends = [self.accept() for _ in clients]
        self.loop.wait(0.5)
        self.assertEqual((self.used, self.cluster.hedges, self.network.dialled), ((4, 4), 0, []))
        self.assertEqual(self.cluster.retries_refused, 0)
        for end in ends:
            end.send(OK)
        self.assertEqual([client.take() for client in clients], [OK] * 4)

    def test_wakes(self) -> None:
        """The token that it gives back is for whoever waits."""
        self.hedged()
        client, first, second = self.two()
        others = [self.client() for _ in range(3)]
        for other in others:
            other.send(GET)
        queue = self.cluster.queue
        assert queue is not None
        self.assertEqual((self.used, queue.waiting), ((4, 4), 1))
        first.send(OK)
        self.loop.settle()
        self.assertEqual((self.used, queue.waiting), ((3, 3), 0))
        while self.network.dialled:
            self.accept().send(OK)
        if first.got.count(b"GET") == 2:
            first.send(OK)
        self.assertEqual([each.take() for each in (client, *others)], [OK] * 4)
        self.assertEqual(second.fate, "reset")

    def test_bucketsCome(self) -> None:
        """A hedge of a request that began before there were buckets has a token, and gives it back; so the reverse."""
        for before, after in ((None, self.SHOP), (self.SHOP, QueueRules())):
            self.hedged(Rules(hedge=FIXED, queue=before or QueueRules()))
            client = self.client()
            client.send(GET)
            first = self.accept()
            rules = Rules(hedge=FIXED, queue=after)
            self.cluster.configure(self.backends, self.cluster.scheduler, rules)
            self.loop.wait(0.06)
            second = self.accept()
            queue = self.cluster.queue
            assert queue is not None
            self.assertEqual(queue.root.used, 1)
            first.close()
            second.send(OK)
            self.assertEqual(client.take(), OK)
            self.assertEqual(queue.root.used, 0)
