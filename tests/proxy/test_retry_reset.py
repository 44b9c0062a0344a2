"""C{retry.on} with C{reset}: a new connection that ends before any byte of a response."""

from __future__ import annotations

import errno
from typing import Any

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.balance.first import First
from lemmytx.builders import build_rules
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.rules import Rules
from lemmytx.model import ClusterRules
from tests.proxy import rig
from tests.proxy.rig import GET, OK, End, ProxyCase, post

BUSY = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"


class Broken(rig.Wire):
    """A transport whose connection has been reset before anything was sent on it."""

    @staticmethod
    def _send(_socket: Any, _data: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, "gone")


class ResetTests(ProxyCase):
    """Backends are asked in the order of their names."""

    def setUp(self) -> None:
        super().setUp()
        self.retrying()

    def retrying(self, backends: int = 2, **rules: Any) -> None:
        """Compose a proxy that tries such requests again."""
        self.compose(backends, Rules(**{"retry_reset": True, **rules}), scheduler=First())

    def asks(self, request: bytes = GET) -> End:
        """A client asks."""
        client = self.client()
        client.send(request)
        return client

    def next(self, number: int) -> End:
        """The backend of that number is connected to, and gets the request."""
        self.assertEqual([dialled.address for dialled in self.network.dialled], [f"10.0.0.{number}"])
        return self.accept()

    def gives_up(self, client: End) -> None:
        """Nobody else is asked, and the client is told."""
        self.assertEqual(self.network.dialled, [])
        self.assertEqual(client.take()[9:12], b"502")
        self.assertEqual(self.ended, (502, "backend_gone"))
        self.log.clear()

    def test_elsewhere(self) -> None:
        """The request is sent to another backend, however the connection ended; that is the first one's failure."""
        for end in ("close", "reset"):
            self.retrying()
            client = self.asks()
            getattr(self.next(1), end)()
            self.assertEqual(self.cluster.retrying, 1)
            self.next(2).send(OK)
            self.assertEqual(client.take(), OK)
            self.assertEqual([backend.failures for backend in self.backends], [{"gone": 1}, {}])
            self.assertEqual((self.cluster.retries, self.log[0].attempts), (1, 2))

    def test_offByDefault(self) -> None:
        """Unless it is written, it is not, and a status does not make it so."""
        for rules in (Rules(), Rules(retry_on=frozenset((502, 503)))):
            self.compose(2, rules, scheduler=First())
            client = self.asks()
            self.next(1).close()
            self.gives_up(client)

    def test_methods(self) -> None:
        """Only idempotent methods, unless others may be repeated too."""
        client = self.asks(post(2) + b"hi")
        self.next(1).close()
        self.gives_up(client)
        self.retrying(non_idempotent=True)
        for request in (post(2) + b"hi", post(2, method=b"PUT") + b"hi"):
            client = self.asks(request)
            self.next(1).close()
            backend = self.next(2)
            self.assertTrue(backend.got.endswith(b"\r\n\r\nhi"))
            backend.send(OK)
            self.assertEqual(client.take(), OK)
            for backend in self.backends:
                backend.close_idle()
            self.loop.settle()

    def test_nothingSent(self) -> None:
        """Any method, where the connection is known to have taken nothing of the request."""
        client = self.asks(post(2) + b"hi")
        patch = self.patch(rig, "Wire", Broken)
        for _ in range(2):
            self.next(1).reset()
        patch.restore()
        self.next(2).send(OK)
        self.assertEqual(client.take(), OK)

    def test_begun(self) -> None:
        """Not when anything of a response has come, if only an interim one, or a part of its head."""
        for begun in (b"H", OK[:40], b"HTTP/1.1 103 Early Hints\r\n\r\n"):
            self.retrying()
            client = self.asks()
            backend = self.next(1)
            backend.send(begun)
            client.take()
            backend.close()
            self.gives_up(client)

    def test_body(self) -> None:
        """A body that is still coming is sent whole to the second one; one that is not held any more, to nobody."""
        client = self.asks(post(6, method=b"PUT") + b"ab")
        self.next(1).close()
        client.send(b"cd")
        backend = self.next(2)
        client.send(b"ef")
        self.assertTrue(backend.got.endswith(b"\r\n\r\nabcdef"))
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        self.retrying(replay=3)
        client = self.asks(post(6, method=b"PUT") + b"abcd")
        self.next(1).close()
        self.gives_up(client)

    def test_bounds(self) -> None:
        """Attempts and budget hold as for every retry."""
        client = self.asks()
        self.next(1).close()
        self.next(2).close()
        self.gives_up(client)
        self.retrying(budget=0.0, budget_at_least=0)
        client = self.asks()
        self.next(1).close()
        self.gives_up(client)
        self.assertEqual(self.cluster.retries_refused, 1)

    def test_redialled(self) -> None:
        """A kept connection that dies is made anew at the same backend first; when that dies too, it is the other's."""
        client, backend = self.idle()
        client.send(GET)
        backend.close()
        self.next(1).close()
        self.assertEqual(self.backends[0].failures, {"gone": 1})
        self.next(2).send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(self.log[0].attempts, 2)

    def test_withStatuses(self) -> None:
        """With statuses beside it either is tried again, in any order."""
        self.retrying(3, attempts=3, retry_on=frozenset((503,)))
        for first, second in ((BUSY, b""), (b"", BUSY)):
            client = self.asks()
            for number, answer in ((1, first), (2, second)):
                backend = self.next(number)
                if answer:
                    backend.send(answer)
                else:
                    backend.reset()
            self.next(3).send(OK)
            self.assertEqual(client.take(), OK)
            self.backends[2].close_idle()
            self.loop.settle()

    def test_hedged(self) -> None:
        """A hedge goes on in its place; when that fails too, neither of the two is asked again."""
        self.retrying(3, attempts=3, hedge=HedgeRules(None, 0.05))
        client = self.asks()
        first = self.next(1)
        self.loop.wait(0.06)
        second = self.next(2)
        first.close()
        self.assertEqual(self.network.dialled, [])
        second.close()
        self.next(3).send(OK)
        self.assertEqual(client.take(), OK)

    def test_hedgeFirst(self) -> None:
        """And so when it is the hedge that fails first."""
        self.retrying(3, attempts=3, hedge=HedgeRules(None, 0.05))
        client = self.asks()
        first = self.next(1)
        self.loop.wait(0.06)
        self.refuse()
        first.close()
        self.next(3).send(OK)
        self.assertEqual(client.take(), OK)

    def test_clientGone(self) -> None:
        """A client that leaves during the second attempt ends that."""
        client = self.asks()
        self.next(1).close()
        second = self.next(2)
        client.reset()
        self.assertEqual(second.fate, "reset")
        self.assertEqual(self.ended, (499, "client_gone"))
        self.assertEqual(self.cluster.retrying, 0)


class WrittenTests(SynchronousTestCase):
    """What a file may say."""

    def test_mixed(self) -> None:
        """The word stands beside statuses, in any order."""
        for on, statuses, reset in (
            (["reset", 502], {502}, True),
            ([503, "reset"], {503}, True),
            (["reset"], set(), True),
            ([504], {504}, False),
            ([], set(), False),
        ):
            rules = build_rules(ClusterRules.model_validate({"retry": {"on": on}}))
            self.assertEqual((rules.retry_on, rules.retry_reset), (frozenset(statuses), reset))

    def test_schema(self) -> None:
        """An editor that knows the schema takes the word, and no other."""
        validator = Draft202012Validator(config.json_schema())
        for word, known in (("reset", True), ("empty-response", False)):
            file = {"clusters": {"web": {"backends": ["http://a"], "retry": {"on": [502, word]}}}}
            self.assertEqual(validator.is_valid(file), known, word)
