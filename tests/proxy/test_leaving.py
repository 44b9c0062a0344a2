"""What has to go: WebSockets that are told so, listeners that drain, backends that a reload removed."""

from __future__ import annotations

from ipaddress import ip_network

from lemmytx.cluster.backend import Backend
from lemmytx.model import Limits, Timeouts
from lemmytx.proxy.downstream import LAST_REQUEST
from lemmytx.proxy.forward import Forwarding
from lemmytx.proxy.listener import Listener
from lemmytx.proxy.terms import Terms
from lemmytx.proxy.tunnel import FAREWELL
from tests.proxy.rig import GET, OK, Door, End, ProxyCase, Wire, post, split
from tests.websocket.made import CLOSE, TEXT, frame

ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
YES = b"HTTP/1.1 101 Switching Protocols\r\nDate: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

#: What both sides are told, unmasked; and what they answer.
TOLD = frame(CLOSE, b"\x03\xe9")
ANSWER = frame(CLOSE, b"\x03\xe9", masked=True)

SAID = frame(TEXT, b"some words")
ASKED = frame(TEXT, b"some question", masked=True)


def unmasked(data: bytes) -> bytes:
    """A short masked frame without its mask."""
    return bytes((data[0], data[1] & 0x7F)) + bytes(byte ^ data[2 + at % 4] for at, byte in enumerate(data[6:]))


class LeavingCase(ProxyCase):
    """Tunnels in memory."""

    def tunnel(self, yes: bytes = YES, ask: bytes = ASK) -> tuple[End, End]:
        """One that stands."""
        client, backend = self.idle()
        client.send(ask)
        backend.take()
        backend.send(yes)
        client.take()
        return client, backend

    def drain(self) -> None:
        """The listener drains."""
        self.listener.drain()
        self.loop.settle()

    def told(self, client: End, backend: End) -> None:
        """Both have just been told."""
        self.assertEqual(client.take(), TOLD)
        heard = backend.take()
        self.assertEqual((len(heard), unmasked(heard)), (8, TOLD))

    def gone(self, client: End, backend: End, how: str = "shutdown") -> None:
        """The tunnel is over, in the orderly way."""
        self.assertEqual((client.fate, backend.fate, self.ended), ("closed", "closed", (101, how)))


class WebSocketTests(LeavingCase):
    """How a WebSocket is told to go."""

    def test_betweenFrames(self) -> None:
        """Between frames both sides are told at once; when both have answered it ends."""
        for order in (0, 1):
            client, backend = self.tunnel()
            client.send(ASKED)
            backend.send(SAID)
            self.assertEqual((client.take(), backend.take()), (SAID, ASKED))
            self.drain()
            self.told(client, backend)
            if order:
                client.send(ANSWER)
                self.assertEqual(self.log, [])
                backend.send(TOLD)
            else:
                backend.send(TOLD)
                self.assertEqual(self.log, [])
                client.send(ANSWER)
            self.gone(client, backend)
            self.assertEqual((client.got, backend.got), (b"", b""))
            self.assertEqual(self.log[0].why, "going away: both sides were sent 1001")
            self.compose()

    def test_everywhere(self) -> None:
        """Wherever in its frame each side is, the frame passes to its end, then it is told, and that was all."""
        for cut in range(1, len(ASKED)):
            client, backend = self.tunnel()
            client.send(ASKED + ASKED[:cut])
            backend.send(SAID[: min(cut, len(SAID) - 1)])
            self.drain()
            self.assertEqual((client.take(), backend.take()), (SAID[: min(cut, len(SAID) - 1)], ASKED + ASKED[:cut]))
            client.send(ASKED[cut:] + ASKED)
            heard = backend.take()
            self.assertEqual((heard[: len(ASKED) - cut], unmasked(heard[len(ASKED) - cut :])), (ASKED[cut:], TOLD))
            backend.send(SAID[min(cut, len(SAID) - 1) :] + SAID)
            self.assertEqual(client.take(), SAID[min(cut, len(SAID) - 1) :] + TOLD)
            client.send(ASKED + ANSWER)
            backend.send(SAID, TOLD)
            self.gone(client, backend)
            self.assertEqual((client.got, backend.got), (b"", b""))
            self.compose()

    def test_oneInTheMiddle(self) -> None:
        """Each side is told as soon as it can be; the other one has to wait for its own."""
        client, backend = self.tunnel()
        backend.send(SAID[:5])
        client.take()
        self.drain()
        self.assertEqual((client.take(), unmasked(backend.take())), (b"", TOLD))
        self.loop.wait(FAREWELL * 3)
        self.assertEqual((client.fate, self.log), ("open", []))
        backend.send(SAID[5:] + TOLD)
        self.assertEqual(client.take(), SAID[5:] + TOLD)
        client.send(ANSWER)
        self.gone(client, backend)

    def test_noAnswer(self) -> None:
        """Who does not answer is waited for, but not for ever; what he says instead goes nowhere."""
        for answers in (0, 1):
            client, backend = self.tunnel()
            self.drain()
            self.told(client, backend)
            if answers:
                backend.send(TOLD)
            client.send(ASKED)
            self.loop.wait(FAREWELL - 0.5)
            client.send(ASKED)
            self.assertEqual(self.log, [])
            self.loop.wait(1.0)
            self.gone(client, backend)
            self.assertEqual(backend.got, b"")
            self.compose()

    def test_ends(self) -> None:
        """The end of a side that was told is as good as its answer; its peer still has its time to answer."""
        for first, second in ((0, 1), (1, 0)):
            ends = self.tunnel()
            self.drain()
            self.told(*ends)
            ends[first].close()
            self.assertEqual((ends[second].fate, self.log), ("open", []))
            ends[second].send((ANSWER, TOLD)[second])
            self.gone(*ends)
            self.compose()

    def test_endsInTheMiddle(self) -> None:
        """Who ends in the middle of a frame leaves nothing to wait for."""
        for which in (0, 1):
            ends = self.tunnel()
            ends[which].send((ASKED, SAID)[which][:5])
            self.drain()
            ends[which].close()
            self.gone(*ends)
            self.compose()

    def test_vanishes(self) -> None:
        """Who vanishes does not take from the other one what it was told."""
        for which in (0, 1):
            ends = self.tunnel()
            ends[1 - which].full()
            self.drain()
            ends[which].reset()
            self.assertEqual(self.ended, (101, "shutdown"))
            ends[1 - which].drain()
            heard = ends[1 - which].take()
            self.assertEqual(unmasked(heard) if which == 0 else heard, TOLD)
            self.assertEqual(ends[1 - which].fate, "closed")
            self.assertEqual(self.backend.failures, {})
            self.compose()

    def test_closesItself(self) -> None:
        """When one side has said that it closes, that and the answer to it pass, and nothing of ours."""
        for first, last in ((0, 1), (1, 0)):
            bye = (frame(CLOSE, b"\x03\xe8", masked=True), frame(CLOSE, b"\x03\xe8"))
            ends = self.tunnel()
            ends[first].send(bye[first])
            self.drain()
            self.assertEqual((ends[first].take(), ends[last].take()), (b"", bye[first]))
            ends[last].send(bye[last])
            self.assertEqual(ends[first].take(), bye[last])
            self.gone(*ends, how="ok")
            self.compose()

    def test_closesItselfInTheMiddle(self) -> None:
        """The same of a side whose Close is under way: its peer gets that one alone."""
        bye = frame(CLOSE, b"\x03\xe8", masked=True)
        client, backend = self.tunnel()
        client.send(bye[:3])
        self.drain()
        client.send(bye[3:])
        self.assertEqual((client.take(), backend.take()), (TOLD, bye))
        backend.send(TOLD)
        self.gone(client, backend)
        self.assertEqual(client.got, b"")

    def test_closesItselfUnanswered(self) -> None:
        """A Close that the other side does not answer is waited for as long as ours."""
        client, backend = self.tunnel()
        client.send(frame(CLOSE, b"", masked=True))
        self.drain()
        self.loop.wait(FAREWELL + 1)
        self.gone(client, backend)
        self.assertEqual(client.got, b"")

    def test_once(self) -> None:
        """Nobody is told twice."""
        client, backend = self.tunnel()
        self.drain()
        self.told(client, backend)
        self.drain()
        self.listener.part_from(self.backends)
        self.assertEqual((client.got, backend.got), (b"", b""))
        client.send(ANSWER)
        backend.send(TOLD)

    def test_slow(self) -> None:
        """A side that does not keep up is told behind what is queued for it."""
        client, backend = self.tunnel()
        client.full()
        long = frame(TEXT, b"x" * 50_000)
        backend.send(long)
        self.drain()
        self.assertEqual(client.got, b"")
        client.drain()
        self.assertEqual(client.take(), long + TOLD)
        client.send(ANSWER)
        backend.send(TOLD)
        self.gone(client, backend)

    def test_halfClosed(self) -> None:
        """When one half has ended before, the other one is told, and the rest is a matter of seconds."""
        for which in (0, 1):
            ends = self.tunnel()
            ends[which].close()
            self.drain()
            self.assertEqual(ends[1 - which].fate, "half")
            self.loop.wait(FAREWELL + 1)
            self.gone(*ends)
            self.assertEqual([len(end.got) for end in ends], ([4, 0], [0, 8])[which])
            self.compose()

    def test_opensLate(self) -> None:
        """One that opens while the listener drains is told at once."""
        client, backend = self.idle()
        client.send(ASK)
        self.drain()
        backend.take()
        backend.send(YES + SAID)
        self.assertEqual(split(client.take())[2], TOLD)
        self.assertEqual(unmasked(backend.take()), TOLD)
        client.send(ANSWER)
        backend.send(TOLD)
        self.gone(client, backend)

    def test_cut(self) -> None:
        """In the middle of a frame it lives until the process loses its patience."""
        client, backend = self.tunnel()
        client.send(ASKED[:5])
        backend.send(SAID[:5])
        self.drain()
        self.loop.wait(FAREWELL * 3)
        self.assertEqual(self.log, [])
        self.listener.abort()
        self.loop.settle()
        self.assertEqual((client.fate, backend.fate, self.ended), ("reset", "reset", (101, "shutdown")))
        self.assertEqual((client.got, backend.got), (SAID[:5], ASKED[:5]))

    def test_noWebSocket(self) -> None:
        """Any other tunnel, and one that only says that it is a WebSocket, lives until then too, and lacks nothing."""
        other = (YES.replace(b"websocket", b"x"), ASK.replace(b"WebSocket", b"x"))
        for yes, ask, words in ((*other, SAID), (YES, ASK, b"HTTP"), (YES, ASK, ASKED)):
            client, backend = self.tunnel(yes, ask)
            backend.send(words)
            self.drain()
            client.send(ASKED)
            backend.send(SAID)
            self.assertEqual((client.take(), backend.take()), (words + SAID, ASKED))
            self.loop.wait(FAREWELL * 3)
            self.assertEqual(self.log, [])
            self.listener.abort()
            self.loop.settle()
            self.assertEqual(self.ended, (101, "shutdown"))
            self.compose()

    def test_lostLate(self) -> None:
        """What turns out not to be frames, after that, is passed on too."""
        client, backend = self.tunnel()
        backend.send(SAID[:5])
        self.drain()
        backend.send(SAID[5:6], b"x" * 100)
        client.send(ANSWER)
        self.loop.wait(FAREWELL + 1)
        self.assertEqual(client.got[:6], SAID[:6])
        self.listener.abort()
        self.loop.settle()
        self.assertEqual(self.ended, (101, "shutdown"))


class DrainTests(LeavingCase):
    """A listener that takes no more."""

    def test_oneOfTwo(self) -> None:
        """One listener drains while another one serves on, with the same backends."""
        other = Listener(self.resource, self.ticker, self.connections)
        other.listening(Door())  # type: ignore[arg-type]  # a double
        wire = Wire(self.loop, other.buildProtocol(None))
        wire.startReading()
        wire.protocol.makeConnection(wire)  # type: ignore[union-attr,arg-type]  # as a port does
        stays = End(self.loop, wire)
        self.clients.append(stays)
        goes, backend = self.idle()
        busy = self.client()
        busy.send(GET)
        backend.take()
        self.drain()
        self.loop.wait(LAST_REQUEST + 0.6)
        self.assertEqual((goes.fate, busy.fate, stays.fate), ("closed", "open", "open"))
        backend.send(OK)
        _, fields, body = split(busy.take())
        self.assertEqual((fields[b"connection"], body, busy.fate), (b"close", b"hello", "closed"))
        self.assertEqual(self.listener.downstreams, set())
        for _ in range(2):
            stays.send(GET)
            backend.take()
            backend.send(OK)
            self.assertEqual(stays.take(), OK)
        stays.reset()
        self.loop.settle()
        self.assertEqual(other.downstreams, set())

    def test_onItsWay(self) -> None:
        """A request that comes a moment later is served, with a word that it was the last."""
        client, backend = self.idle()
        self.drain()
        self.loop.wait(LAST_REQUEST / 2)
        client.send(post(5) + b"hello" + GET)
        backend.take()
        backend.send(OK)
        _, fields, body = split(client.take())
        self.assertEqual((fields[b"connection"], body, backend.got), (b"close", b"hello", b""))
        client.close()
        self.assertEqual((client.fate, len(self.log)), ("closed", 1))

    def test_again(self) -> None:
        """Draining again does not give more time."""
        client, _ = self.idle()
        for _ in range(4):
            self.drain()
            self.loop.wait(LAST_REQUEST / 2)
        self.assertEqual(client.fate, "closed")

    def test_partly(self) -> None:
        """So is one that has begun, if it goes on; else its client gets the usual 408 in the usual time."""
        for whole in (True, False):
            self.compose(timeouts=Timeouts(header=10, keepalive=60))
            client, backend = self.idle()
            client.send(GET[:20])
            self.drain()
            self.assertEqual(client.fate, "open")
            if whole:
                client.send(GET[20:])
                backend.take()
                backend.send(OK)
                self.assertEqual(split(client.got)[1][b"connection"], b"close")
            else:
                self.loop.wait(11)
                self.assertEqual(split(client.got)[0], b"HTTP/1.1 408 Request Timeout")
                client.close()
            self.assertEqual(client.fate, "closed")

    def test_first(self) -> None:
        """A client that has only just connected gets a moment for its first request."""
        asks, waits = self.client(), self.client()
        self.drain()
        self.assertEqual((asks.fate, waits.fate), ("open", "open"))
        asks.send(GET[:20])
        self.loop.wait(LAST_REQUEST + 0.6)
        self.assertEqual((asks.fate, waits.fate, waits.got), ("open", "closed", b""))
        asks.send(GET[20:])
        self.accept().send(OK)
        self.assertEqual((split(asks.got)[1][b"connection"], asks.fate), (b"close", "closed"))

    def test_comesLate(self) -> None:
        """So does one that connects only then."""
        self.drain()
        asks, waits = self.client(), self.client()
        asks.send(GET)
        self.accept().send(OK)
        self.assertEqual((split(asks.got)[1][b"connection"], asks.fate), (b"close", "closed"))
        self.loop.wait(LAST_REQUEST + 0.6)
        self.assertEqual((waits.fate, self.listener.downstreams), ("closed", set()))

    def test_patient(self) -> None:
        """With patience WebSockets live on, one that opens late as well, until it is over."""
        tunnels = [self.tunnel()]
        opening = self.client()
        opening.send(ASK)
        accepted = self.accept()
        idle = self.client()
        self.listener.drain(patient=True)
        accepted.take()
        accepted.send(YES)
        opening.take()
        tunnels.append((opening, accepted))
        self.loop.wait(FAREWELL * 2)
        self.assertEqual((idle.fate, self.log), ("closed", []))
        for client, backend in tunnels:
            client.send(ASKED)
            self.assertEqual((client.got, backend.take()), (b"", ASKED))
        self.drain()
        for client, backend in tunnels:
            self.told(client, backend)
            client.send(ANSWER)
            backend.send(TOLD)
        self.assertEqual(self.listener.downstreams, set())

    def test_queued(self) -> None:
        """A connection counts until its client has the whole answer, when the exchange has long been over."""
        client, backend = self.idle()
        client.full()
        client.send(GET)
        backend.send(OK)
        self.assertEqual(self.resource.exchanges, 0)
        self.drain()
        self.loop.wait(LAST_REQUEST * 3)
        self.assertEqual((client.got, client.fate, len(self.listener.downstreams)), (b"", "open", 1))
        client.drain()
        self.assertEqual((client.got, client.fate, self.listener.downstreams), (OK, "closed", set()))


class RemovedTests(LeavingCase):
    """Backends that a reload has removed."""

    def setUp(self) -> None:
        super().setUp()
        self.compose(backends=2)

    def two(self, ask: bytes, answer: bytes) -> tuple[End, End, End, End]:
        """The same exchange on each of the backends: client, backend, client, backend."""
        ends: list[End] = []
        for _ in range(2):
            client = self.client()
            client.send(ask)
            backend = self.accept()
            backend.take()
            if answer:
                backend.send(answer)
            client.take()
            ends += [client, backend]
        first, second = (self.upstream(ends[1]), self.upstream(ends[3]))
        self.assertEqual({first, second}, {self.backends[0], self.backends[1]})
        return (ends[0], ends[1], ends[2], ends[3]) if first is self.backend else (ends[2], ends[3], ends[0], ends[1])

    def upstream(self, end: End) -> object:
        """Whose connection that is."""
        return end.wire.protocol.backend  # type: ignore[union-attr]  # an Upstream

    def cut(self, *backends: Backend) -> None:
        """What runs on these is ended."""
        self.listener.cut(backends)
        self.loop.settle()

    def finish(self, client: End, backend: End) -> None:
        """End a tunnel."""
        client.close()
        backend.close()

    def test_partFrom(self) -> None:
        """WebSockets on them are told to go; those on others go on."""
        client, backend, other, serving = self.two(ASK, YES)
        self.listener.part_from([self.backend])
        self.told(client, backend)
        self.assertEqual((other.got, serving.got), (b"", b""))
        client.send(ANSWER)
        backend.send(TOLD)
        self.gone(client, backend)
        other.send(ASKED)
        self.assertEqual(serving.take(), ASKED)
        self.finish(other, serving)

    def test_partFromOthers(self) -> None:
        """Other exchanges on them run on, and so do their clients' connections, and idle ones."""
        client, backend, *_ = self.two(GET, OK)
        client.send(GET)
        answering = backend if backend.take() else next(end for end in self.network.ends if end.take())
        self.listener.part_from(self.backends)
        answering.send(OK)
        self.assertEqual((client.take(), client.fate), (OK, "open"))

    def test_cutTunnel(self) -> None:
        """What has not gone by then is cut: tunnels of any kind, on these backends alone."""
        client, backend, other, serving = self.two(ASK.replace(b"WebSocket", b"x"), YES.replace(b"websocket", b"x"))
        self.listener.part_from([self.backend])
        self.assertEqual((client.got, client.fate), (b"", "open"))
        self.cut(self.backend)
        self.assertEqual((client.fate, backend.fate, self.ended), ("reset", "reset", (101, "shutdown")))
        self.assertEqual((other.fate, serving.fate), ("open", "open"))
        self.finish(other, serving)

    def test_cutResponse(self) -> None:
        """A response that has begun is cut so that nobody takes it for a whole one."""
        client, backend, other, serving = self.two(GET, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        self.cut(self.backend)
        self.assertEqual((client.fate, backend.fate, self.ended), ("reset", "reset", (200, "shutdown")))
        self.assertEqual(self.backend.failures, {})
        serving.send(b" whole")
        self.assertEqual((other.got, other.fate), (b" whole", "open"))

    def test_cutWaiting(self) -> None:
        """What is not answered yet is answered with 503, and the client may go on."""
        client, backend, other, serving = self.two(GET, b"")
        self.cut(self.backend)
        self.assertEqual(split(client.take())[0], b"HTTP/1.1 503 Service Unavailable")
        self.assertEqual((client.fate, backend.fate, self.ended), ("open", "reset", (503, "shutdown")))
        serving.send(OK)
        self.assertEqual(other.take(), OK)
        client.send(GET)
        serving.take()
        (self.accept() if self.network.dialled else serving).send(OK)
        self.assertEqual(client.take(), OK)

    def test_cutUpload(self) -> None:
        """The same in the middle of an upload, but then nobody knows what would come next."""
        client, backend, other, serving = self.two(post(10) + b"half", b"")
        self.cut(self.backend)
        _, fields, _ = split(client.take())
        self.assertEqual((fields[b"connection"], client.fate, backend.fate), (b"close", "half", "reset"))
        client.close()
        other.send(b" whole")
        serving.send(OK)
        self.assertEqual(other.take(), OK)

    def test_cutConnecting(self) -> None:
        """One that waits for the connection to such a backend is answered, too."""
        client = self.client()
        client.send(GET)
        self.cut(*self.backends)
        self.assertEqual(split(client.take())[0], b"HTTP/1.1 503 Service Unavailable")
        self.assertEqual(self.network.dialled, [])


class ConfigureTests(LeavingCase):
    """Other settings while connections stand."""

    def configure(
        self,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        forwarding: Forwarding | None = None,
        trusted: tuple[object, ...] = (),
    ) -> None:
        """As a reload does it."""
        resource = self.resource
        resource.configure(
            resource.router,
            resource.clusters.values(),
            forwarding or resource.forwarding,
            limits or resource.limits,
            timeouts or resource.timeouts,
        )
        self.listener.configure(Terms(trusted))  # type: ignore[arg-type]  # networks

    def asks(self, client: End, backend: End, request: bytes = GET) -> dict[bytes, bytes]:
        """
        An exchange.

        @return: what the backend has heard.
        """
        client.send(request)
        heard = split(backend.take())[1]
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        return heard

    def test_limits(self) -> None:
        """The next request on a connection that stands has the new limits; the one under way has the old ones."""
        client, backend = self.idle()
        long = GET[:-2] + b"A: %b\r\n\r\n" % (b"x" * 500)
        client.send(long)
        self.configure(limits=Limits(header_size=400, headers=2, body_size=5))
        backend.take()
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        for request, status in (
            (long, b"431"),
            (GET[:-2] + b"A: 1\r\nB: 2\r\n\r\n", b"431"),
            (post(6) + b"123456", b"413"),
        ):
            other = self.client()
            self.configure(limits=Limits())
            self.asks(other, backend)
            self.configure(limits=Limits(header_size=400, headers=2, body_size=5))
            other.send(request)
            self.assertEqual(split(other.got)[0].split()[1], status)
            other.close()
        self.configure(limits=Limits())
        self.asks(client, backend, long)

    def test_responses(self) -> None:
        """So has the response to it."""
        client, backend = self.idle()
        self.configure(limits=Limits(header_size=256))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        backend.take()
        backend.send(OK[:-9] + b"A: %b\r\n\r\nhello" % (b"x" * 600))
        self.assertEqual(split(client.take())[0], b"HTTP/1.1 502 Bad Gateway")

    def test_timeouts(self) -> None:
        """A connection has the new patience after its next request; a new one from its start."""
        self.compose(timeouts=Timeouts(keepalive=60, header=30))
        client, backend = self.idle()
        self.configure(timeouts=Timeouts(keepalive=20, header=5))
        self.asks(client, backend)
        fresh = self.client()
        self.loop.wait(6)
        self.assertEqual((fresh.fate, client.fate), ("closed", "open"))
        self.loop.wait(15)
        self.assertEqual(client.fate, "closed")

    def test_tunnel(self) -> None:
        """A tunnel keeps what it was opened with."""
        self.compose(timeouts=Timeouts(tunnel=100))
        client, backend = self.tunnel()
        self.configure(timeouts=Timeouts(tunnel=10))
        client.send(ASKED)
        self.loop.wait(90)
        self.assertEqual((client.fate, self.log), ("open", []))
        self.finish_tunnel(client, backend)

    def finish_tunnel(self, client: End, backend: End) -> None:
        """End it."""
        client.close()
        backend.close()

    def test_trusted(self) -> None:
        """Who is trusted now is believed from its next request on, and who is not any more is not."""
        claims = GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
        network = (ip_network("192.0.2.0/24"),)
        client, backend = self.idle()
        self.assertEqual(self.asks(client, backend, claims)[b"x-forwarded-for"], b"192.0.2.1")
        self.configure(trusted=network)
        self.assertEqual(self.asks(client, backend, claims)[b"x-forwarded-for"], b"203.0.113.9, 192.0.2.1")
        self.configure(trusted=network)
        self.assertEqual(self.asks(client, backend, claims)[b"x-forwarded-for"], b"203.0.113.9, 192.0.2.1")
        self.configure(trusted=())
        self.assertEqual(self.asks(client, backend, claims)[b"x-forwarded-for"], b"192.0.2.1")
        self.assertEqual([e.client for e in self.log], ["192.0.2.1", "203.0.113.9", "203.0.113.9", "192.0.2.1"])

    def test_forwarding(self) -> None:
        """Backends hear of clients by the new rules, whoever they are."""
        client, backend = self.idle()
        other = self.client("198.51.100.7")
        self.configure(forwarding=Forwarding(x_forwarded=False, forwarded=True))
        heard = self.asks(client, backend)
        self.assertNotIn(b"x-forwarded-for", heard)
        self.assertTrue(heard[b"forwarded"].startswith(b"for=192.0.2.1;"))
        self.assertTrue(self.asks(other, backend)[b"forwarded"].startswith(b"for=198.51.100.7;"))
        self.configure(forwarding=Forwarding())
        self.assertEqual(self.asks(other, backend)[b"x-forwarded-for"], b"198.51.100.7")
