"""Exchanges and schedulers that learn from their answers."""

from __future__ import annotations

from lemmytx.balance.reported_load import ReportedLoad
from lemmytx.balance.response_time import ResponseTime
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.rules import Rules
from tests.proxy.rig import GET, OK, ProxyCase

REPORTING = OK.replace(b"\r\n\r\n", b"\r\nX-Backend-Load: 0.73\r\n\r\n")


class LearningTests(ProxyCase):
    """Through real exchanges."""

    def test_stripped(self) -> None:
        """A report reaches the scheduler and not the client."""
        scheduler = ReportedLoad()
        self.compose(backends=2, scheduler=scheduler)
        client = self.client()
        client.send(GET)
        self.accept().send(REPORTING)
        self.assertEqual(client.got, OK)
        self.assertEqual([cost.cost for cost in scheduler.known.values()], [0.73])

    def test_notAsked(self) -> None:
        """Other schedulers leave such fields to the client."""
        self.compose(backends=2, scheduler=RoundRobin())
        client = self.client()
        client.send(GET)
        self.accept().send(REPORTING)
        self.assertEqual(client.got, REPORTING)
        self.assertIsNone(self.cluster.observer)

    def test_time(self) -> None:
        """The time to first byte is what passes between the request and the answer's head."""
        scheduler = ResponseTime()
        self.compose(backends=2, scheduler=scheduler)
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.loop.wait(2)
        backend.send(OK)
        (cost,) = scheduler.known.values()
        self.assertApproximates(cost.cost, 2.0, 0.3)

    def test_retried(self) -> None:
        """A second backend is not blamed for the time that the first one took."""
        scheduler = ResponseTime()
        self.compose(backends=2, scheduler=scheduler, rules=Rules(retry_on=frozenset((502,))))
        client = self.client()
        client.send(GET)
        first = self.accept()
        self.loop.wait(3)
        first.send(OK.replace(b"200 OK", b"502 Bad Gateway"))
        second = self.accept()
        self.loop.wait(1)
        second.send(OK)
        self.assertEqual(client.got, OK)
        (cost,) = scheduler.known.values()
        self.assertApproximates(cost.cost, 1.0, 0.3)

    def test_raising(self) -> None:
        """A scheduler that raises when it is told of an answer costs no request; told once, counted always."""

        class Raising(ResponseTime):
            def answered(self, *arguments: object) -> None:
                raise RuntimeError("broken")

        self.compose(backends=2, scheduler=Raising())
        client = self.client()
        client.send(GET)
        self.accept().send(OK)
        self.assertEqual(client.got, OK)
        self.assertEqual(self.cluster.scheduler_failures, 1)
