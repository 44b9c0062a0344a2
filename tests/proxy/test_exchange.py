"""What becomes of a request when something fails: attempts, redials, retries, blame."""

from __future__ import annotations

from twisted.internet.error import TimeoutError

from lemmytx.cluster.rules import Rules
from tests.proxy.rig import GET, OK, End, ProxyCase, post, split

BAD = OK.replace(b"200 OK", b"503 Service Unavailable")


class ConnectTests(ProxyCase):
    """Connections that do not come about."""

    def test_refused(self) -> None:
        """The only backend refuses: 502, its failure, and nothing of the inside in the answer."""
        client = self.client()
        client.send(GET)
        self.refuse()
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertNotIn(b"10.0.0.1", client.got)
        self.assertEqual((self.ended, self.backend.failures), ((502, "backend_refused"), {"refused": 1}))
        self.assertIn("b1", self.log[0].why)
        self.assertEqual(client.fate, "open")

    def test_timedOut(self) -> None:
        """The only backend cannot be reached in time: 504."""
        client = self.client()
        client.send(GET)
        self.assertEqual(self.network.dialled[0].timeout, 4.0)
        self.refuse(TimeoutError())
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 504 Gateway Timeout")
        self.assertEqual((self.ended, self.backend.failures), ((504, "timeout_connect"), {"timeout": 1}))

    def test_another(self) -> None:
        """A second backend serves what the first refused, body and all, whatever the method."""
        self.compose(backends=2)
        client = self.client()
        client.send(post(4) + b"body")
        self.refuse()
        self.assertEqual(self.network.dialled[0].address, "10.0.0.2")
        backend = self.accept()
        self.assertEqual(split(backend.got)[2], b"body")
        backend.send(OK)
        self.assertEqual(client.got, OK)
        self.assertEqual((self.log[0].attempts, [b.name for b in self.log[0].tried]), (2, ["b1"]))

    def test_attempts(self) -> None:
        """No more backends are tried than retry.attempts says, and none twice."""
        self.compose(backends=4, rules=Rules(attempts=3))
        client = self.client()
        client.send(GET)
        addresses = []
        while self.network.dialled:
            addresses.append(self.network.dialled[0].address)
            self.refuse()
        self.assertEqual(len(set(addresses)), 3)
        self.assertEqual((len(addresses), self.ended), (3, (502, "backend_refused")))

    def test_budget(self) -> None:
        """Not every request is retried when all of them fail: at most three at a time, or a fifth."""
        self.compose(backends=2, max_fails=0)
        clients = [self.client() for _ in range(10)]
        for client in clients:
            client.send(GET)
        first = list(self.network.dialled)
        for dialled in first:
            dialled.fail()
        self.assertEqual((self.cluster.retrying, len(self.network.dialled)), (3, 3))
        for _ in range(3):
            self.accept().send(OK)
        self.assertEqual(sorted(exchange.status for exchange in self.log), [200] * 3 + [502] * 7)

    def test_addresses(self) -> None:
        """A name with several addresses is one backend: they are tried in turn, and the one that works is kept."""
        self.backend.addresses = ("10.0.0.8", "10.0.0.9")
        client = self.client()
        client.send(GET)
        self.assertEqual(self.network.dialled[0].address, "10.0.0.8")
        self.refuse()
        self.assertEqual(self.network.dialled[0].address, "10.0.0.9")
        self.accept().send(OK)
        self.assertEqual((self.log[0].attempts, self.backend.failures), (1, {}))
        self.assertEqual(self.backend.addresses, ("10.0.0.9", "10.0.0.8"))

    def test_bodyWaits(self) -> None:
        """While there is no connection, no more than one read of a body is taken from the client."""
        client = self.client()
        client.send(post(1_000_000) + b"x" * 100, *([b"x" * 60_000] * 5))
        self.assertEqual(len(client.socket.incoming), 5)
        backend = self.accept()
        self.assertFalse(client.socket.incoming)
        self.assertEqual(len(split(backend.got)[2]), 300_100)
        client.reset()

    def test_bodyBeyondTheBuffer(self) -> None:
        """A body of which too much was sent to be held is not sent again."""
        self.compose(backends=2, rules=Rules(replay=10, retry_on=frozenset((503,))))
        client = self.client()
        client.send(post(20, method=b"PUT") + b"x" * 20)
        backend = self.accept()
        backend.send(BAD)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 503 Service Unavailable")
        self.assertEqual(self.network.dialled, [])

    def test_choosesOnce(self) -> None:
        """The scheduler is asked once per attempt, so that what it counts is right."""
        asked = []

        class Counting:
            def update(self, backends: object) -> None:
                pass

            def choose(self, candidates: tuple[object, ...], request: object) -> object:
                asked.append(len(candidates))
                return candidates[0]

        self.compose(backends=4, scheduler=Counting(), rules=Rules(attempts=3, retry_on=frozenset((503,))))
        client = self.client()
        client.send(GET)
        self.refuse()
        self.accept().send(BAD)
        self.accept().send(OK)
        self.assertEqual((client.got, asked), (OK, [4, 3, 2]))


class ReusedTests(ProxyCase):
    """Upstreams that have died while they were idle: the race that keep-alive brings."""

    def die(self, backend: End, how: str) -> None:
        """Three faces of the same thing."""
        if how == "write":
            backend.socket.broken = True
        else:
            getattr(backend, how)()

    def test_redialled(self) -> None:
        """A reused connection that dies unanswered is dialled once more, and is nobody's failure."""
        for how in ("close", "reset", "write"):
            client, backend = self.idle()
            if how == "write":
                self.die(backend, how)
                client.send(GET)
            else:
                client.send(GET)
                self.die(backend, how)
            self.assertEqual(self.backend.active, 1)
            self.accept().send(OK)
            self.assertEqual(client.got, OK, how)
            self.assertEqual((self.log[-1].attempts, self.backend.failures), (1, {}))
            self.assertEqual(self.backend.active, 0)
            self.backend.close_idle()
            self.loop.settle()

    def test_onlyOnce(self) -> None:
        """When the fresh one dies as well, that is an answer of a kind: 502."""
        client, backend = self.idle()
        client.send(GET)
        backend.close()
        self.accept().close()
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual((self.ended, self.backend.failures), ((502, "backend_gone"), {"gone": 1}))

    def test_refusedThen(self) -> None:
        """When the redial is refused, another backend may serve."""
        self.compose(backends=2, roles=("active", "standby"))
        client, backend = self.idle()
        client.send(GET)
        backend.close()
        self.refuse()
        self.assertEqual(self.network.dialled[0].address, "10.0.0.2")
        self.accept().send(OK)
        self.assertEqual(client.got, OK)

    def test_withItsBody(self) -> None:
        """An idempotent request goes again with its body, even one that still comes in."""
        client, backend = self.idle()
        client.send(post(8, method=b"PUT") + b"1234")
        backend.reset()
        fresh = self.accept()
        self.assertEqual(split(fresh.got)[2], b"1234")
        client.send(b"5678")
        self.assertEqual(split(fresh.got)[2], b"12345678")
        fresh.send(OK)
        self.assertEqual(client.got, OK)

    def test_notPost(self) -> None:
        """POST is not repeated: nobody knows what the backend has done with it."""
        for how in ("close", "reset"):
            client, backend = self.idle()
            client.send(post(4) + b"body")
            self.die(backend, how)
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
            self.assertEqual((self.network.dialled, self.ended), ([], (502, "backend_gone")))

    def test_postThatWasNotSent(self) -> None:
        """POST goes again when the socket took no byte of it."""
        client, backend = self.idle()
        backend.socket.broken = True
        client.send(post(4) + b"body")
        fresh = self.accept()
        self.assertEqual(split(fresh.got)[2], b"body")
        fresh.send(OK)
        self.assertEqual(client.got, OK)

    def test_postLooksFirst(self) -> None:
        """Before POST the connection is looked at: one that the backend has closed meanwhile is not used."""
        client, backend = self.idle()
        backend.socket.incoming.append(b"")
        client.socket.incoming.append(post(4) + b"body")
        downstream = next(iter(self.listener.downstreams))
        client.socket.incoming.clear()
        downstream.dataReceived(post(4) + b"body")
        self.assertEqual(len(self.network.dialled), 1)
        self.loop.settle()
        self.accept().send(OK)
        self.assertEqual((client.got, backend.got), (OK, b""))

    def test_answeredInPart(self) -> None:
        """Once a byte of an answer has come there is no repetition."""
        for part in (b"H", b"HTTP/1.1 100 Continue\r\n\r\n"):
            client, backend = self.idle()
            client.send(GET)
            backend.send(part)
            backend.close()
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
            self.assertEqual(self.network.dialled, [])

    def test_fresh(self) -> None:
        """A fresh connection that dies unanswered has failed, and the request is not sent anywhere else."""
        self.compose(backends=2)
        client = self.client()
        client.send(GET)
        self.accept().close()
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual((self.network.dialled, self.ended), ([], (502, "backend_gone")))

    def test_clientGoneDuringTheRedial(self) -> None:
        """A client that goes while its request is sent again takes all of it along."""
        client, backend = self.idle()
        client.send(GET)
        backend.close()
        client.reset()
        self.assertEqual((self.network.dialled, self.ended), ([], (499, "client_gone")))


class RetryOnStatusTests(ProxyCase):
    """`retry.on`: answers that are worth another attempt."""

    def setUp(self) -> None:
        super().setUp()
        self.compose(backends=2, rules=Rules(retry_on=frozenset((503,))))

    def test_another(self) -> None:
        """The client sees the answer of the second backend alone."""
        client = self.client()
        client.send(GET)
        first = self.accept()
        first.send(BAD)
        self.accept().send(OK)
        self.assertEqual((client.got, self.log[0].attempts), (OK, 2))
        self.assertEqual(self.backend.failures, {"status": 1})

    def test_inPieces(self) -> None:
        """What still comes of the first answer is not waited for."""
        client = self.client()
        client.send(GET)
        first = self.accept()
        first.send(BAD[:-2])
        self.assertEqual(first.fate, "reset")
        self.accept().send(OK)
        self.assertEqual(client.got, OK)

    def test_last(self) -> None:
        """When the attempts are used up the client gets the answer that there is."""
        client = self.client()
        client.send(GET)
        self.accept().send(BAD)
        self.accept().send(BAD)
        self.assertEqual(client.got, BAD)

    def test_notPost(self) -> None:
        """POST is not repeated for a status."""
        client = self.client()
        client.send(post(2) + b"ab")
        self.accept().send(BAD)
        self.assertEqual(client.got, BAD)

    def test_postWhereAllowed(self) -> None:
        """Where it is allowed POST is repeated, with its body."""
        self.compose(backends=2, rules=Rules(retry_on=frozenset((503,)), non_idempotent=True))
        client = self.client()
        client.send(post(2) + b"ab")
        self.accept().send(BAD)
        fresh = self.accept()
        self.assertEqual(split(fresh.got)[2], b"ab")
        fresh.send(OK)
        self.assertEqual(client.got, OK)

    def test_budgetAtItsEdge(self) -> None:
        """A budget that has room for exactly this one serves it; one that has none passes the answer on."""
        client = self.client()
        client.send(GET)
        first = self.accept()
        self.backends[0].active += 15
        self.cluster.retrying += 3
        first.send(BAD)
        self.accept().send(OK)
        self.assertEqual(client.take(), OK)
        client.send(GET)
        self.backends[0].active -= 5
        answering = next(end for end in self.network.ends if end.wire.connected and end.take())
        answering.send(BAD)
        self.assertEqual(client.got, BAD)
        self.backends[0].active -= 10
        self.cluster.retrying -= 3


class HopsTests(ProxyCase):
    """Max-Forwards (RFC 9110 §7.6.2)."""

    def ask(self, method: bytes, hops: bytes) -> End:
        client = self.client()
        client.send(b"%b / HTTP/1.1\r\nHost: a\r\nMax-Forwards: %b\r\n\r\n" % (method, hops))
        return client

    def test_zero(self) -> None:
        """At zero the proxy is meant: OPTIONS is answered, TRACE is not reflected."""
        first, fields, _ = split(self.ask(b"OPTIONS", b"0").got)
        self.assertEqual(first, b"HTTP/1.1 200 OK")
        self.assertIn(b"GET", fields[b"allow"])
        self.assertEqual(split(self.ask(b"TRACE", b"00").got)[0], b"HTTP/1.1 405 Method Not Allowed")
        self.assertEqual(self.network.dialled, [])

    def test_oneLess(self) -> None:
        """Above zero it is forwarded one lower, however large; what is no number is left alone."""
        huge = b"9" * 5000
        for hops, forwarded in ((b"1", b"0"), (b"10", b"9"), (b"007", b"6"), (huge, b"2147483647"), (b"x", b"x")):
            client = self.ask(b"OPTIONS", hops)
            backend = self.accept()
            self.assertEqual(split(backend.take())[1][b"max-forwards"], forwarded)
            backend.send(OK[:-5].replace(b"5\r\n", b"0\r\n"))
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 200 OK")
            self.backend.close_idle()

    def test_otherMethods(self) -> None:
        """Other methods are not concerned."""
        self.ask(b"GET", b"0")
        backend = self.accept()
        self.assertEqual(split(backend.take())[1][b"max-forwards"], b"0")
        backend.send(OK)
