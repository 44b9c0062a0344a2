"""What becomes of a request when something fails: attempts, blame, ends, tunnels."""

from __future__ import annotations

from twisted.internet.error import TimeoutError

from lemmytx.cluster.backend import Pool
from lemmytx.cluster.cluster import Rules
from lemmytx.model import Timeouts
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


class ResponseTests(ProxyCase):
    """Responses that go wrong."""

    def test_malformed(self) -> None:
        """What is no response is 502; that upstream is closed."""
        for junk in (b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            backend.send(junk)
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
            self.assertEqual((backend.fate, self.ended), ("reset", (502, "backend_malformed")))
            self.log.clear()
        self.assertEqual(self.backend.failures, {"malformed": 2})

    def test_malformedBody(self) -> None:
        """Chunks that break after the response has begun: the client is cut; in the first read: 502."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        client, backend = self.idle()
        client.send(GET)
        backend.send(head + b"3\r\nabc\r\n", b"zz\r\n")
        self.assertEqual((client.fate, backend.fate), ("reset", "reset"))
        self.assertEqual(self.ended, (200, "backend_malformed"))
        client = self.client()
        client.send(GET)
        self.accept().send(head + b"zz\r\n")
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")

    def test_cutShort(self) -> None:
        """A response that ends before its end: the client is cut so that it cannot take the part for the whole."""
        for head in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            for how in ("close", "reset"):
                client = self.client()
                client.send(GET)
                backend = self.accept()
                backend.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + b"2\r\nab\r\n"[: 8])
                getattr(backend, how)()
                self.assertEqual((client.fate, self.ended), ("reset", (200, "backend_gone")))
                self.log.clear()
        self.assertEqual(self.backend.failures, {"gone": 4})

    def test_untilClose(self) -> None:
        """A response without a length ends with an orderly close, and only with that."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
        backend.close()
        self.assertEqual(split(client.got)[2], b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")
        self.assertEqual((client.fate, backend.fate, self.ended), ("open", "closed", (200, "ok")))
        client.send(GET)
        backend = self.accept()
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nab")
        backend.reset()
        self.assertEqual((client.fate, self.log[1].termination), ("reset", "backend_gone"))

    def test_untilCloseAtOnce(self) -> None:
        """The same when the close comes before the request has ended."""
        client, backend = self.idle()
        client.send(post(10) + b"x")
        backend.send(b"HTTP/1.0 200 OK\r\n\r\nab")
        backend.close()
        self.assertEqual(split(client.got)[2], b"2\r\nab\r\n0\r\n\r\n")
        self.assertEqual((client.fate, self.ended), ("half", (200, "ok")))

    def test_extraBytes(self) -> None:
        """Bytes behind a response are nobody's: the client does not see them, the upstream is not used again."""
        chunked = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        for pieces in ([OK + b"x"], [OK[:-2], b"lox"], [chunked + b"0\r\n\r\nx"], [chunked, b"0\r\n\r\nx"]):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            backend.send(*pieces)
            self.assertNotIn(b"x", split(client.got)[2])
            self.assertEqual((backend.fate, client.fate), ("closed", "open"))
            self.assertEqual(len(self.backend.idle), 0)

    def test_unsolicited(self) -> None:
        """Bytes on an idle upstream are never an answer: it is closed, the next request gets a new one."""
        client, backend = self.idle()
        backend.send(OK.replace(b"hello", b"trick"))
        self.assertEqual((backend.fate, len(self.backend.idle)), ("reset", 0))
        client.send(GET)
        self.accept().send(OK)
        self.assertEqual(client.got, OK)

    def test_splitEverywhere(self) -> None:
        """A response may be cut at any place."""
        message = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        client, backend = self.idle()
        for at in range(1, len(message)):
            client.send(GET)
            backend.send(message[:at], message[at:])
            head, _, body = client.take().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertIn(body, (b"5\r\nhello\r\n0\r\n\r\n", *_cuts(b"hello")))

    def test_silent(self) -> None:
        """A backend that is silent for the time to read: 504, and it is blamed."""
        client = self.client()
        client.send(GET)
        backend = self.accept()
        self.loop.wait(29.9)
        self.assertEqual(client.got, b"")
        self.loop.wait(0.7)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 504 Gateway Timeout")
        self.assertEqual((backend.fate, self.ended), ("reset", (504, "timeout_read")))
        self.assertEqual(self.backend.failures, {"timeout": 1})

    def test_silentInTheMiddle(self) -> None:
        """The same between two parts of a response, which counts anew after each: the client is cut."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(5):
            self.loop.wait(29)
            backend.send(b"x")
        self.loop.wait(31)
        self.assertEqual((client.fate, backend.fate, self.ended), ("reset", "reset", (200, "timeout_read")))

    def test_processing(self) -> None:
        """A backend that says that it is still at work (102) is not silent."""
        client, backend = self.idle()
        client.send(GET)
        for _ in range(3):
            self.loop.wait(20)
            backend.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        backend.send(OK)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 102 Processing")
        self.assertEqual(self.ended, (200, "ok"))

    def test_interimWithoutEnd(self) -> None:
        """Interim responses without end are an error of the backend."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 33)
        self.assertEqual(client.got.count(b"HTTP/1.1 102"), 32)
        self.assertIn(b"HTTP/1.1 502 Bad Gateway", client.got)
        self.assertEqual(self.ended, (502, "backend_malformed"))

    def test_longHead(self) -> None:
        """A response head beyond the limit is 502, without any line end too."""
        for piece in (b"x" * 1000, b"X-A: b\r\n" * 100):
            client = self.client()
            client.send(GET)
            self.accept().send(b"HTTP/1.1 200 OK\r\n", *([piece] * 50))
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")

    def test_lateAndPaused(self) -> None:
        """An upstream that ends its response while it is paused is not kept: nobody would listen to it."""
        client, backend = self.idle()
        client.send(GET)
        client.full()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 80001\r\n\r\n" + b"x" * 40_000, b"x" * 40_000)
        self.assertNotIn(backend.wire, self.loop.readers)
        upstream = backend.wire.protocol
        upstream.dataReceived(b"y")  # a reactor may deliver what it had seen before the pause
        client.drain()
        self.assertTrue(client.got.endswith(b"xy"))
        self.assertEqual((backend.fate, self.ended), ("closed", (200, "ok")))


def _cuts(body: bytes) -> list[bytes]:
    """The ways in which two reads can bring a short body."""
    return [
        b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (at, body[:at], len(body) - at, body[at:]) for at in range(1, len(body))
    ]


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


class TunnelTests(ProxyCase):
    """Upgrades."""

    ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    YES = b"HTTP/1.1 101 Switching Protocols\r\nDate: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    def tunnel(self) -> tuple[End, End]:
        """A tunnel that stands."""
        client, backend = self.idle()
        client.send(self.ASK)
        backend.take()
        backend.send(self.YES)
        client.take()
        return client, backend

    def test_opens(self) -> None:
        """Upgrade is asked for and granted through us, and then bytes go both ways, whatever they look like."""
        client, backend = self.idle()
        client.send(self.ASK)
        _, fields, _ = split(backend.take())
        self.assertEqual((fields[b"connection"], fields[b"upgrade"]), (b"upgrade", b"websocket"))
        backend.send(self.YES)
        first, fields, _ = split(client.take())
        self.assertEqual((first, fields[b"upgrade"]), (b"HTTP/1.1 101 Switching Protocols", b"websocket"))
        client.send(GET)
        self.assertEqual(backend.take(), GET)
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual((self.resource.exchanges, self.backend.active), (1, 1))
        backend.close()
        client.close()
        self.assertEqual((self.ended, self.log[0].sent, self.log[0].received), ((101, "ok"), len(OK), len(GET)))
        self.assertEqual((client.fate, backend.fate), ("closed", "closed"))

    def test_earlyBytes(self) -> None:
        """Bytes right behind the 101, and bytes that the client sent before it, are not lost."""
        client, backend = self.idle()
        client.send(self.ASK + b"early")
        backend.take()
        client.send(b"more")
        backend.send(self.YES + b"hello")
        self.assertEqual(client.take().partition(b"\r\n\r\n")[2], b"hello")
        self.assertEqual(backend.take(), b"earlymore")
        client.reset()

    def test_declined(self) -> None:
        """A backend that does not want to answers in the ordinary way, and the connection goes on."""
        client, backend = self.idle()
        client.send(self.ASK + GET)
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_notAsked(self) -> None:
        """A 101 that nobody asked for is no response."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(self.YES)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(self.ended, (502, "backend_malformed"))

    def test_beforeTheBody(self) -> None:
        """Nor is one that comes before the request has ended."""
        client, backend = self.idle()
        client.send(self.ASK.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"1")
        backend.send(self.YES)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(self.ended, (502, "backend_malformed"))

    def test_halfClosedByTheClient(self) -> None:
        """The client's half ends and the other goes on."""
        client, backend = self.tunnel()
        client.send(b"last")
        client.close()
        self.assertEqual((backend.got, backend.fate), (b"last", "half"))
        backend.send(b"answer")
        self.assertEqual((client.got, self.log), (b"answer", []))
        backend.close()
        self.assertEqual((client.fate, backend.fate, self.ended), ("closed", "closed", (101, "ok")))

    def test_halfClosedByTheBackend(self) -> None:
        """The backend's half ends and the other goes on."""
        client, backend = self.tunnel()
        backend.send(b"last")
        backend.close()
        self.assertEqual((client.got, client.fate), (b"last", "half"))
        client.send(b"answer")
        self.assertEqual((backend.got, self.log), (b"answer", []))
        client.close()
        self.assertEqual((client.fate, backend.fate, self.ended), ("closed", "closed", (101, "ok")))

    def test_halfClosedWhileSlow(self) -> None:
        """What was queued for the slow side gets out before its half is closed."""
        client, backend = self.tunnel()
        client.full()
        backend.send(b"x" * 50_000)
        backend.close()
        client.close()
        self.assertEqual(client.fate, "open")
        client.drain()
        self.assertEqual((len(client.got), client.fate), (50_000, "closed"))

    def test_clientVanishes(self) -> None:
        """A client that vanishes takes the upstream along; the backend is not blamed."""
        client, backend = self.tunnel()
        client.reset()
        self.assertEqual((backend.fate, self.ended, self.backend.failures), ("reset", (101, "client_gone"), {}))

    def test_backendVanishes(self) -> None:
        """A backend that vanishes ends the client's connection."""
        client, backend = self.tunnel()
        backend.send(b"part")
        backend.reset()
        self.assertEqual((client.got, client.fate, self.ended), (b"part", "closed", (101, "backend_gone")))

    def test_silence(self) -> None:
        """A tunnel that is silent both ways for its time is cut; any byte counts anew."""
        self.compose(timeouts=Timeouts(tunnel=100))
        for speaker in (0, 1):
            ends = self.tunnel()
            self.loop.wait(90)
            ends[speaker].send(b"ping")
            self.loop.wait(90)
            self.assertEqual(self.log, [])
            self.loop.wait(11)
            self.assertEqual((ends[0].fate, ends[1].fate, self.ended), ("reset", "reset", (101, "timeout_tunnel")))

    def test_silenceAfterASlowTime(self) -> None:
        """The same after a time in which one side was slow."""
        self.compose(timeouts=Timeouts(tunnel=100))
        client, backend = self.tunnel()
        client.full()
        backend.send(b"x" * 100_000)
        self.loop.wait(50)
        client.drain()
        self.loop.wait(101)
        self.assertEqual((client.fate, self.ended), ("reset", (101, "timeout_tunnel")))

    def test_pressure(self) -> None:
        """A slow side stops the other one, in both directions."""
        for slow, fast in ((0, 1), (1, 0)):
            ends = self.tunnel()
            ends[slow].full()
            ends[fast].send(*([b"x" * 65536] * 20))
            self.assertGreater(len(ends[fast].socket.incoming), 10)
            self.assertLess(ends[slow].queued, 300_000)
            ends[slow].drain()
            self.assertEqual(len(ends[slow].got), 20 * 65536)
            ends[fast].reset()
            ends[slow].close()


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


class PoolTests(ProxyCase):
    """Upstreams between two exchanges."""

    def several(self, number: int) -> list[End]:
        """So many idle upstreams, oldest first."""
        clients = [self.client() for _ in range(number)]
        for client in clients:
            client.send(GET)
        backends = [self.accept() for _ in range(number)]
        for backend in backends:
            backend.send(OK)
            backend.take()
        return backends

    def test_newestFirst(self) -> None:
        """The one that was used last is used next."""
        backends = self.several(3)
        self.client().send(GET)
        self.assertEqual([bool(backend.got) for backend in backends], [False, False, True])
        backends[2].send(OK)

    def test_limit(self) -> None:
        """No more idle ones are kept than the pool's limit."""
        self.compose(pool=Pool(limit=2))
        self.assertEqual([backend.fate for backend in self.several(3)], ["open", "open", "closed"])

    def test_none(self) -> None:
        """With a limit of 0 each connection carries one request."""
        self.compose(pool=Pool(limit=0))
        self.assertEqual([backend.fate for backend in self.several(2)], ["closed", "closed"])

    def test_requests(self) -> None:
        """An upstream is closed after the requests it may carry."""
        self.compose(pool=Pool(requests=2))
        client, backend = self.idle()
        self.assertEqual(backend.fate, "open")
        client.send(GET)
        backend.send(OK)
        self.assertEqual(backend.fate, "closed")

    def test_idleTime(self) -> None:
        """An idle one is closed after its time; use counts anew."""
        client, backend = self.idle()
        self.loop.wait(20)
        client.send(GET)
        self.loop.wait(20)
        backend.send(OK)
        self.loop.wait(29)
        self.assertEqual(backend.fate, "open")
        self.loop.wait(2)
        self.assertEqual((backend.fate, len(self.backend.idle)), ("closed", 0))

    def test_closedByTheBackend(self) -> None:
        """One that the backend closes leaves the pool."""
        for how in ("close", "reset"):
            _, backend = self.idle()
            getattr(backend, how)()
            self.assertEqual((backend.fate, len(self.backend.idle)), ("closed", 0))

    def test_notKeptAlive(self) -> None:
        """One whose backend says close, or speaks HTTP/1.0, is not kept."""
        for head in (b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"):
            client = self.client()
            client.send(GET)
            backend = self.accept()
            backend.send(head + b"\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual((backend.fate, client.fate), ("closed", "open"))
            self.assertNotIn(b"Connection", client.got)
