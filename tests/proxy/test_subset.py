"""Routes that ask for labels, with real exchanges: waiting, failing over, trying again, being bound."""

from __future__ import annotations

from typing import Any

from lemmytx.addresses import parse_network
from lemmytx.balance.buckets import Share
from lemmytx.balance.first import First
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.subsets import labels
from lemmytx.proxy.explain import ask, explain
from lemmytx.proxy.pins import Pin
from lemmytx.proxy.router import Route, Router, Vhost
from tests.proxy.rig import GET, OK, End, split
from tests.proxy.test_second_chances import ChanceCase
from tests.proxy.test_sticky import sticky

NEW = GET.replace(b"GET / ", b"GET /new ")


class SubsetCase(ChanceCase):
    """Three backends, C{b1} of version 1, the others of version 2, which the path /new asks for."""

    def setUp(self) -> None:
        super().setUp()
        self.label()

    def label(self, versions: str = "122", pin: Pin | None = None, **more: Any) -> None:
        """Compose it anew."""
        self.compose(**{"backends": len(versions), "scheduler": First(), **more})
        for backend, version in zip(self.backends, versions, strict=True):
            backend.labels = labels({"version": version})
        cluster = self.cluster
        cluster.configure(self.backends, cluster.scheduler, cluster.rules)
        new = Route("/new", cluster, subset={"version": "2"}, pin=pin)
        self.vhost = Vhost("all", ("*",), [new, Route("/*", cluster)])
        self.resource.configure(
            Router([self.vhost]), [cluster], self.resource.forwarding, self.resource.limits, self.resource.timeouts
        )

    def send(self, request: bytes = NEW, *lines: bytes) -> End:
        """A client asks."""
        client = self.client()
        client.send(request[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        return client

    def serve(self, address: str) -> None:
        """The connection that is wanted is to there, and the request on it is answered."""
        self.assertEqual(self.network.dialled[0].address, address)
        self.accept().send(OK)

    def set(self, state: str, *numbers: int) -> None:
        """These backends are set to a state."""
        for number in numbers:
            self.backends[number - 1].state = state
        self.cluster.changed()


class SubsetTests(SubsetCase):
    """Where requests of the route go."""

    def test_retry(self) -> None:
        """A retry goes to another one with the labels; when there is none left the request has failed."""
        client = self.send()
        self.assertEqual(self.network.dialled[0].address, "10.0.0.2")
        self.refuse()
        self.serve("10.0.0.3")
        self.assertEqual(client.take(), OK)
        self.label("121")
        client = self.send()
        self.refuse()
        self.assertEqual((self.network.dialled, split(client.take())[0][9:12]), ([], b"502"))

    def test_hedge(self) -> None:
        """So does a second request that is sent beside a slow one."""
        self.label("1212", rules=Rules(hedge=HedgeRules(None, 0.05)))
        client = self.send()
        slow = self.accept()
        self.loop.wait(0.1)
        self.serve("10.0.0.4")
        self.assertEqual(client.take(), OK)
        self.assertFalse(slow.wire.connected)

    def test_pin(self) -> None:
        """A client that names its backend gets it, whatever its labels."""
        self.label(pin=Pin("header", "X-Backend", (parse_network("192.0.2.0/24"),)))
        client = self.send(NEW, b"X-Backend: b1")
        self.serve("10.0.0.1")
        self.assertEqual(split(client.take())[0][9:12], b"200")

    def test_sticky(self) -> None:
        """A binding to one without the labels falls back, and whoever answers binds the client anew."""
        self.label(rules=Rules(sticky=sticky()))
        client = self.send(GET)
        self.serve("10.0.0.1")
        cookie = split(client.take())[1][b"set-cookie"].partition(b";")[0]
        self.assertIn("which the route does not want", self.told(b"/new", cookie))
        client = self.send(NEW, b"Cookie: " + cookie)
        self.serve("10.0.0.2")
        cookie = split(client.take())[1][b"set-cookie"].partition(b";")[0]
        client = self.send(GET, b"Cookie: " + cookie)
        self.network.ends[-1].send(OK)
        self.assertEqual(client.take(), OK, "it is bound to b2 now, which is right for both routes")
        self.assertEqual(self.log[-1].backend, self.backends[1])

    def told(self, path: bytes, cookie: bytes) -> str:
        """What is explained of the binding."""
        question = ask(f"http://a{path.decode()}", fields=[("Cookie", cookie.decode())])
        explanation = explain(self.resource, question).stages[0].explanation
        assert explanation is not None
        return explanation.binding

    def test_failover(self) -> None:
        """When no backend of the subset is up its requests go where the cluster's go when none is; others do not."""
        for queue in (None, QueueRules()):
            self.label(rules=Rules(queue=queue))
            self.cluster.failover = other = self.another()
            self.set("disabled", 2, 3)
            self.assertEqual(explain(self.resource, ask("http://a/new")).stages[-1].cluster, other)
            client = self.send()
            self.serve("10.0.9.1")
            self.assertEqual(client.take(), OK)
            client = self.send(GET)
            self.serve("10.0.0.1")
            self.assertEqual(client.take(), OK)
            other.backends[0].close_idle()

    def test_refused(self) -> None:
        """Without a queue, or with one that is not for that, the answer is 503."""
        for queue in (None, QueueRules(on_unavailable=False)):
            self.label(rules=Rules(queue=queue))
            self.set("disabled", 2, 3)
            self.assertEqual(explain(self.resource, ask("http://a/new")).status, 503)
            client = self.send()
            self.assertEqual(split(client.take())[0][9:12], b"503")
            self.assertEqual(self.ended, (503, "no_backend"))


class WaitingTests(SubsetCase):
    """One line, with requests in it that want different backends."""

    def setUp(self) -> None:
        super().setUp()
        self.label("12", rules=Rules(queue=QueueRules()), capacity=1)

    def test_past(self) -> None:
        """Who waits for a subset that is away stands in nobody's way, and goes on when it is back."""
        self.set("disabled", 2)
        stuck = self.send()
        self.assertEqual(explain(self.resource, ask("http://a/new")).kind, "waits")
        self.assertEqual(explain(self.resource, ask("http://a/")).backend, self.backends[0])
        first, second = self.send(GET), self.send(GET)
        end = self.accept()
        end.send(OK)
        self.assertEqual((first.take(), second.got), (OK, b""))
        end.send(OK)
        self.assertEqual((second.take(), stuck.got), (OK, b""))
        self.set("ready", 2)
        self.loop.settle()
        self.serve("10.0.0.2")
        self.assertEqual(stuck.take(), OK)

    def test_away(self) -> None:
        """That others wait, for what is full, lets nobody wait for what is away, where that is not wanted."""
        self.label("12", rules=Rules(queue=QueueRules(on_unavailable=False)), capacity=1)
        self.set("disabled", 2)
        first, second = self.send(GET), self.send(GET)
        self.assertEqual(split(self.send().take())[0][9:12], b"503")
        end = self.accept()
        end.send(OK)
        end.send(OK)
        self.assertEqual((first.take(), second.take()), (OK, OK))

    def test_limit(self) -> None:
        """However many wait for what is away, who wants something else is served."""
        self.label("12", rules=Rules(queue=QueueRules(limit=2)), capacity=1)
        self.set("disabled", 2)
        stuck = [self.send(), self.send()]
        self.assertEqual(split(self.send().take())[0][9:12], b"503", "there is no place for it")
        client = self.send(GET)
        self.serve("10.0.0.1")
        self.assertEqual(client.take(), OK)
        for each in stuck:
            each.reset()

    def test_classes(self) -> None:
        """So it is with classes: no token is lost, whoever is passed."""
        self.label("12", rules=Rules(queue=QueueRules(buckets=(Share("main", 1.0, 1.0),))), capacity=1)
        self.set("disabled", 2)
        stuck = self.send()
        first, second = self.send(GET), self.send(GET)
        end = self.accept()
        end.send(OK)
        end.send(OK)
        self.assertEqual((first.take(), second.take(), stuck.got), (OK, OK, b""))
        self.set("ready", 2)
        self.loop.settle()
        self.serve("10.0.0.2")
        self.assertEqual(stuck.take(), OK)
        queue = self.cluster.queue
        assert queue is not None
        self.assertEqual((queue.waiting, queue.root.used, queue.root.queued), (0, 0, 0))

    def test_order(self) -> None:
        """Among those who want the same it is first in, first out."""
        clients = [self.send(NEW), self.send(NEW), self.send(GET), self.send(NEW)]
        new, old = self.accept(), self.accept()
        for waiting in (clients[1], clients[3]):
            new.send(OK)
            self.assertEqual(waiting.got, b"")
        new.send(OK)
        old.send(OK)
        self.assertEqual([client.take() for client in clients], [OK] * 4)

    def test_gone(self) -> None:
        """When the last of the subset goes, those who wait for it fail over, and the others keep their places."""
        self.cluster.failover = other = self.another()
        first, second = self.send(NEW), self.send(GET)
        new, old = self.accept(), self.accept()
        third, fourth = self.send(NEW), self.send(GET)
        self.set("drain", 2)
        self.loop.settle()
        self.serve("10.0.9.1")
        self.assertEqual((third.take(), fourth.got), (OK, b""))
        for end in (new, old, old):
            end.send(OK)
        self.assertEqual([client.take() for client in (first, second, fourth)], [OK] * 3)
        other.backends[0].close_idle()
