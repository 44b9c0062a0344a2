"""
Exchanges over HTTP/2 to a backend: what goes out, what comes back, and how every part of it can end.
"""

from __future__ import annotations

from lemmytx.cluster.backend import Pool
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from tests.proxy.http2_backends import H2C, Http2Case
from tests.proxy.rig import GET, post, split

CANCEL = 8
REFUSED_STREAM = 7
INTERNAL_ERROR = 2


def chunked(body: bytes) -> bytes:
    """The beginning of a request with a body in chunks."""
    return b"POST /in HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n" + body


class MessageTests(Http2Case):
    """One exchange at a time."""

    def test_request(self) -> None:
        """The backend gets the request as HTTP/2 has it: pseudo fields, no field of a connection."""
        client = self.client()
        fields = b"Host: Shop.example:81\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n"
        client.send(b"GET /a?b=c HTTP/1.1\r\n" + fields + b"\r\n")
        peer = self.peer()
        asked = peer.asked
        self.assertEqual(
            [asked.field(name) for name in (b":method", b":scheme", b":path", b":authority", b"x-kept", b"te")],
            [b"GET", b"http", b"/a?b=c", b"Shop.example:81", b"2", b"trailers"],
        )
        self.assertEqual(asked.field(b"x-forwarded-for"), b"192.0.2.1")
        for name in (b"host", b"connection", b"x-hop", b"transfer-encoding"):
            self.assertIsNone(asked.field(name))
        self.assertTrue(asked.ended)
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")
        self.assertEqual((self.ended, self.backend.reused), ((200, "ok"), 0))

    def test_again(self) -> None:
        """The next request goes over the same connection."""
        client, peer = self.warm()
        for _ in range(3):
            client.send(GET)
            peer.ok()
            self.assertEqual(split(client.take())[2], b"hello")
        self.assertEqual((len(peer.streams), self.backend.connects, self.backend.reused), (4, 1, 3))

    def test_head(self) -> None:
        """An answer to HEAD has a length and no body."""
        client, peer = self.warm()
        client.send(GET.replace(b"GET", b"HEAD"))
        peer.head(peer.last, 200, ("content-length", "5"), ended=True)
        first, fields, body = split(client.got)
        self.assertEqual((first, fields[b"content-length"], body), (b"HTTP/1.1 200 OK", b"5", b""))
        self.assertEqual((client.fate, self.ended), ("open", (200, "ok")))

    def test_headWithAnEmptyBody(self) -> None:
        """The same when the end comes in a frame of its own."""
        client, peer = self.warm()
        client.send(GET.replace(b"GET", b"HEAD"))
        peer.head(peer.last, 200, ("content-length", "5"))
        peer.data(peer.last, b"", ended=True)
        self.assertEqual((split(client.got)[2], client.fate, self.ended), (b"", "open", (200, "ok")))

    def test_noContent(self) -> None:
        """204 and 304 have no body, however their end comes."""
        client, peer = self.warm()
        for status in (204, 304):
            for ended in (True, False):
                client.send(GET)
                peer.head(peer.last, status, ended=ended)
                if not ended:
                    peer.data(peer.last, b"", ended=True)
                first, fields, body = split(client.take())
                self.assertTrue(first.startswith(b"HTTP/1.1 %d" % status), first)
                self.assertEqual((b"transfer-encoding" in fields, body), (False, b""))
        self.assertEqual([exchange.termination for exchange in self.log], ["ok"] * 4)

    def test_emptyWithoutLength(self) -> None:
        """A response that is nothing but a head is whole."""
        client, peer = self.warm()
        client.send(GET)
        peer.head(peer.last, 200, ended=True)
        self.assertEqual((split(client.take())[0], self.ended), (b"HTTP/1.1 200 OK", (200, "ok")))
        client.send(GET)
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")

    def test_withoutLength(self) -> None:
        """A response without a length is chunked for the client."""
        client, peer = self.warm()
        client.send(GET)
        peer.head(peer.last, 200)
        peer.data(peer.last, b"ab")
        peer.data(peer.last, b"cd", ended=True)
        self.assertEqual(split(client.got)[2], b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")

    def test_trailers(self) -> None:
        """Trailers reach the client, those that mean something to a connection do not."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        peer.head(stream, 200)
        peer.data(stream, b"ab")
        peer.trailers(stream, ("grpc-status", "0"), ("content-type", "text/evil"))
        self.assertEqual(split(client.got)[2], b"2\r\nab\r\n0\r\ngrpc-status: 0\r\n\r\n")
        self.assertEqual(self.ended, (200, "ok"))

    def test_informational(self) -> None:
        """103 is passed on; the response is the one after it."""
        client, peer = self.warm()
        client.send(GET)
        peer.head(peer.last, 103, ("link", "</a.css>; rel=preload"))
        self.assertTrue(client.take().startswith(b"HTTP/1.1 103 "))
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")

    def test_informationalWithoutEnd(self) -> None:
        """A backend that says 103 for ever is one that sends no answer."""
        client, peer = self.warm()
        client.send(GET)
        for _ in range(33):
            peer.h2.send_headers(peer.last, [(":status", "103")])
        peer.send()
        self.assertIn(b"HTTP/1.1 502 Bad Gateway", client.got)
        self.assertEqual(self.ended, (502, "backend_malformed"))
        peer.read()
        self.assertEqual(peer.asked.reset, CANCEL)

    def test_body(self) -> None:
        """A body of known length, in pieces."""
        client, peer = self.warm()
        client.send(post(10) + b"01234", b"56789")
        asked = peer.asked
        self.assertEqual((asked.field(b"content-length"), asked.body, asked.ended), (b"10", b"0123456789", True))
        peer.ok()
        self.assertEqual((split(client.got)[2], self.log[0].received), (b"hello", 10))

    def test_bodyAtOnce(self) -> None:
        """A body that comes with its head, on a connection that is made for it."""
        client = self.client()
        client.send(post(5) + b"01234")
        peer = self.peer()
        self.assertEqual((peer.asked.body, peer.asked.ended), (b"01234", True))
        peer.ok()

    def test_emptyBody(self) -> None:
        """A body of no bytes, counted or chunked, is the end of the stream."""
        client, peer = self.warm()
        for request in (post(0), chunked(b"0\r\n\r\n")):
            client.send(request)
            self.assertEqual((peer.asked.body, peer.asked.ended), (b"", True))
            peer.ok()

    def test_chunkedBody(self) -> None:
        """A body in chunks, with trailers, which are fields of the stream's end."""
        client, peer = self.warm()
        client.send(chunked(b"3\r\nabc\r\n"), b"3\r\ndef\r\n0\r\nX-Sum: 7\r\n\r\n")
        asked = peer.asked
        self.assertEqual((asked.body, asked.trailers, asked.ended), (b"abcdef", [(b"x-sum", b"7")], True))
        self.assertIsNone(asked.field(b"transfer-encoding"))
        peer.ok()

    def test_trailersAlone(self) -> None:
        """Trailers after a body of no bytes."""
        client, peer = self.warm()
        client.send(chunked(b"0\r\nX-Sum: 7\r\n\r\n"))
        self.assertEqual((peer.asked.trailers, peer.asked.ended), ([(b"x-sum", b"7")], True))
        peer.ok()

    def test_retriedStatus(self) -> None:
        """A status that is worth another attempt leads to one; the first stream is cancelled."""
        self.compose(2, rules=Rules(retry_on=frozenset((503,))))
        self.multiplex()
        client = self.client()
        client.send(GET)
        first = self.peer()
        first.head(first.last, 503)
        first.read()
        self.assertEqual(first.asked.reset, CANCEL)
        second = self.peer()
        second.ok()
        self.assertEqual((split(client.got)[2], self.ended), (b"hello", (200, "ok")))

    def test_hedged(self) -> None:
        """A hedge goes over HTTP/2 as well; the loser's stream is cancelled, whichever that is, and nothing else."""
        for winner in (0, 1):
            self.compose(2, rules=Rules(hedge=HedgeRules(None, 0.05)))
            self.multiplex()
            client = self.client()
            client.send(GET)
            first = self.peer()
            self.loop.wait(0.06)
            second = self.peer()
            peers = [first, second]
            peers[winner].ok()
            loser = peers[1 - winner]
            self.assertEqual(loser.asked.reset, CANCEL)
            self.assertIsNone(loser.gone_away)
            self.assertEqual(split(client.got)[2], b"hello")
            self.assertEqual([backend.failures for backend in self.backends], [{}, {}])

    def test_upgradeOfAnotherKind(self) -> None:
        """A wish for a protocol that is no WebSocket is not passed on: the request is, without it."""
        client, peer = self.warm()
        client.send(GET[:-2] + b"Connection: upgrade\r\nUpgrade: chat/2\r\n\r\n")
        self.assertEqual((peer.asked.field(b"upgrade"), peer.asked.ended), (None, True))
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")


class ManyTests(Http2Case):
    """Several exchanges on one connection."""

    def test_together(self) -> None:
        """Requests of several clients go over one connection, and are answered in any order."""
        _, peer = self.warm()
        clients = [self.client() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(GET.replace(b"/ ", b"/%d " % number))
        streams = {peer.streams[stream].field(b":path"): stream for stream in peer.open()}
        self.assertEqual((len(streams), self.backend.active), (5, 5))
        for number in (3, 0, 4, 1, 2):
            peer.ok(streams[b"/%d" % number], b"answer %d" % number)
        for number, client in enumerate(clients):
            self.assertEqual(split(client.got)[2], b"answer %d" % number)
        self.assertEqual((self.backend.connects, self.backend.active), (1, 0))

    def test_oneWrite(self) -> None:
        """Requests that one read brings about go out in one write."""
        client, peer = self.warm()
        client.send(GET + GET + GET)
        for _ in range(3):
            peer.ok()
        self.assertEqual(client.got.count(b"hello"), 3)

    def test_gather(self) -> None:
        """Who comes while the connection is made waits for it, and nobody else is dialled."""
        clients = [self.client() for _ in range(4)]
        for client in clients:
            client.send(GET)
        self.assertEqual(len(self.network.dialled), 1)
        peer = self.peer()
        self.assertEqual(len(peer.open()), 4)
        for stream in peer.open():
            peer.ok(stream)
        self.assertEqual([split(client.got)[2] for client in clients], [b"hello"] * 4)

    def test_fewerThanExpected(self) -> None:
        """A backend that takes fewer streams gets more connections; from then on, that is known."""
        clients = [self.client() for _ in range(5)]
        for client in clients:
            client.send(GET)
        first = self.peer(MAX_CONCURRENT_STREAMS=2)
        self.assertEqual((len(first.open()), len(self.network.dialled)), (2, 2))
        second = self.peer(MAX_CONCURRENT_STREAMS=2)
        third = self.peer(MAX_CONCURRENT_STREAMS=2)
        self.assertEqual((len(second.open()), len(third.open())), (2, 1))
        for peer in (first, second, third):
            for stream in peer.open():
                peer.ok(stream)
        self.assertEqual([split(client.got)[2] for client in clients], [b"hello"] * 5)
        self.assertEqual(len(self.backend.idle), 3)

    def test_limit(self) -> None:
        """No more streams than the configuration says; one that ends makes room."""
        self.multiplex(streams=2)
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        first = self.peer()
        second = self.peer()
        self.assertEqual((len(first.open()), len(second.open())), (2, 1))
        first.ok(first.open()[0])
        late = self.client()
        late.send(GET)
        self.assertEqual(len(first.open()), 2)
        for peer in (first, second):
            for stream in peer.open():
                peer.ok(stream)
        self.assertEqual(split(late.got)[2], b"hello")

    def test_fewerFromNowOn(self) -> None:
        """A backend may lower its limit at any time: streams that there are go on, new ones go elsewhere."""
        client, peer = self.warm()
        client.send(GET)
        peer.h2.update_settings({3: 1})
        peer.send()
        other = self.client()
        other.send(GET)
        second = self.peer()
        second.ok()
        peer.ok()
        self.assertEqual((split(client.got)[2], split(other.got)[2]), (b"hello", b"hello"))

    def test_oldestFirst(self) -> None:
        """New streams go to the oldest connection with room, so that the others run out."""
        clients, first, second = self.two()
        for client in clients:
            client.take()
            client.send(GET)
            first.ok()
            self.assertEqual(split(client.got)[2], b"hello")
        self.loop.wait(20)
        clients[0].send(GET)
        first.ok()
        self.loop.wait(11)
        self.assertEqual((first.end.fate, second.end.fate), ("open", "closed"))


class OpeningTests(Http2Case):
    """Connections that do not come to stand."""

    def waiting(self, count: int = 3, backends: int = 1) -> list[object]:
        """So many clients that wait for one connection."""
        clients = [self.client() for _ in range(count)]
        for client in clients:
            client.send(GET)
        return list(clients)

    def firsts(self) -> list[bytes]:
        """The first lines of what the clients got."""
        return [split(client.got)[0] for client in self.clients]

    def test_refused(self) -> None:
        """A backend that refuses the connection fails all that wait for it."""
        self.waiting()
        self.refuse()
        self.assertEqual(self.firsts(), [b"HTTP/1.1 502 Bad Gateway"] * 3)
        self.assertEqual([exchange.termination for exchange in self.log], ["backend_refused"] * 3)

    def test_elsewhere(self) -> None:
        """… and they go to another one, again together."""
        self.compose(2)
        self.multiplex()
        self.backends[1].state = "disabled"
        self.cluster.changed()
        self.waiting()
        self.backends[1].state = "ready"
        self.cluster.changed()
        self.refuse()
        self.assertEqual(len(self.network.dialled), 1)
        peer = self.peer()
        for stream in peer.open():
            peer.ok(stream)
        self.assertEqual(self.firsts(), [b"HTTP/1.1 200 OK"] * 3)

    def test_silence(self) -> None:
        """A backend that says nothing of HTTP/2 in the time to connect: 504."""
        self.waiting()
        end = self.accept()
        self.loop.wait(4.6)
        self.assertEqual(self.firsts(), [b"HTTP/1.1 504 Gateway Timeout"] * 3)
        self.assertEqual((end.fate, self.log[0].termination), ("reset", "timeout_connect"))

    def test_anotherProtocol(self) -> None:
        """A backend that speaks HTTP/1.1 gets no request, and the log says why."""
        self.waiting()
        end = self.accept()
        end.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.firsts(), [b"HTTP/1.1 502 Bad Gateway"] * 3)
        self.assertIn("HTTP/2", self.log[0].why)
        self.assertNotEqual(end.fate, "open")

    def test_closedAtOnce(self) -> None:
        """A backend that closes, or resets, before it has said a word."""
        for how in ("close", "reset"):
            self.compose()
            self.multiplex()
            self.waiting()
            end = self.accept()
            getattr(end, how)()
            self.assertEqual(self.firsts(), [b"HTTP/1.1 502 Bad Gateway"] * 3)

    def test_noStreams(self) -> None:
        """A backend that allows no stream at all cannot be used."""
        self.waiting()
        self.peer(MAX_CONCURRENT_STREAMS=0)
        self.assertEqual(self.firsts(), [b"HTTP/1.1 502 Bad Gateway"] * 3)

    def test_someLeave(self) -> None:
        """A client that leaves takes nobody's place; when all have left, nothing is dialled any more."""
        self.waiting()
        self.clients[1].reset()
        peer = self.peer()
        self.assertEqual(len(peer.open()), 2)
        for stream in peer.open():
            peer.ok(stream)
        peer.end.close()
        late = [self.client(), self.client()]
        for client in late:
            client.send(GET)
        self.assertEqual(len(self.network.dialled), 1)
        for client in late:
            client.reset()
        self.assertEqual(self.network.dialled, [])

    def test_allLeaveBeforeItSpeaks(self) -> None:
        """The same when the connection stands, but the backend has not greeted yet."""
        self.waiting(2)
        end = self.accept()
        for client in self.clients:
            client.reset()
        self.assertEqual(end.fate, "reset")
        self.assertEqual([exchange.status for exchange in self.log], [499, 499])

    def test_laterBody(self) -> None:
        """A body that comes while the connection is made waits with its client, and goes out whole."""
        client = self.client()
        client.send(post(10) + b"01234", b"56789")
        peer = self.peer()
        self.assertEqual((peer.asked.body, peer.asked.ended), (b"0123456789", True))
        peer.ok()


class EndTests(Http2Case):
    """Streams and connections that end before their time."""

    def test_goAway(self) -> None:
        """After GOAWAY a connection gets nothing new; what is on it comes to its end, and so does it."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        peer.go_away(2**31 - 1)
        other = self.client()
        other.send(GET)
        second = self.peer()
        second.ok()
        self.assertEqual((split(other.got)[2], peer.end.fate), (b"hello", "open"))
        peer.ok(stream)
        self.assertEqual((split(client.got)[2], peer.end.fate), (b"hello", "closed"))

    def test_goAwayWhileIdle(self) -> None:
        """An idle connection ends at once."""
        _, peer = self.warm()
        peer.go_away(2**31 - 1)
        self.assertEqual((peer.end.fate, len(self.backend.idle)), ("closed", 0))

    def test_goAwayAbove(self) -> None:
        """A request that the backend has not looked at is sent again, whatever its method; the others go on."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        other = self.client()
        other.send(post(3) + b"abc")
        peer.read()
        peer.go_away(stream)
        second = self.peer()
        self.assertEqual((second.asked.field(b":method"), second.asked.body), (b"POST", b"abc"))
        second.ok()
        peer.ok(stream)
        self.assertEqual((split(client.got)[2], split(other.got)[2]), (b"hello", b"hello"))
        self.assertEqual(self.backend.failures, {})

    def test_refusedStream(self) -> None:
        """The same after REFUSED_STREAM."""
        client, peer = self.warm()
        client.send(post(3) + b"abc")
        peer.reset(peer.last, REFUSED_STREAM)
        second = self.peer()
        self.assertEqual(second.asked.body, b"abc")
        second.ok()
        self.assertEqual((split(client.got)[2], self.ended), (b"hello", (200, "ok")))

    def test_refusedOnANewConnection(self) -> None:
        """… also when the connection was made for it."""
        client = self.client()
        client.send(post(3) + b"abc")
        peer = self.peer()
        peer.reset(peer.last, REFUSED_STREAM)
        second = self.peer()
        second.ok()
        self.assertEqual((split(client.got)[2], self.ended), (b"hello", (200, "ok")))

    def test_refusedTwice(self) -> None:
        """Once more, and not for ever."""
        client, peer = self.warm()
        client.send(GET)
        peer.reset(peer.last, REFUSED_STREAM)
        second = self.peer()
        second.reset(second.last, REFUSED_STREAM)
        self.assertEqual((split(client.got)[0], self.ended), (b"HTTP/1.1 502 Bad Gateway", (502, "backend_gone")))

    def test_refusedBesideOthers(self) -> None:
        """A connection that has refused a stream gets none while it has as many as it had then."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        other = self.client()
        other.send(GET)
        peer.reset(peer.last, REFUSED_STREAM)
        self.peer().ok()
        self.assertEqual(split(other.got)[2], b"hello")
        peer.ok(stream)
        client.take()
        client.send(GET)
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")

    def test_reset(self) -> None:
        """A stream that the backend resets is that one request's failure: 502."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        other = self.client()
        other.send(GET)
        peer.reset(stream, INTERNAL_ERROR)
        self.assertEqual((split(client.got)[0], self.ended), (b"HTTP/1.1 502 Bad Gateway", (502, "backend_gone")))
        peer.ok()
        self.assertEqual((split(other.got)[2], peer.end.fate), (b"hello", "open"))

    def test_resetInTheMiddle(self) -> None:
        """… and in the middle of a response the client is cut."""
        client, peer = self.warm()
        client.send(GET)
        peer.head(peer.last, 200)
        peer.data(peer.last, b"ab")
        peer.reset(peer.last, INTERNAL_ERROR)
        self.assertEqual((client.fate, self.ended), ("reset", (200, "backend_gone")))

    def test_resetAfterTheAnswer(self) -> None:
        """A backend that has answered and wants no more of the request says so with NO_ERROR: the answer stands."""
        client, peer = self.warm()
        client.send(post(100) + b"abc")
        stream = peer.last
        peer.ok(stream)
        self.assertEqual(split(client.got)[2], b"hello")
        self.assertEqual((self.ended, peer.end.fate), ((200, "ok"), "open"))

    def test_earlyAnswer(self) -> None:
        """An answer before the end of the request: the stream is cancelled, the connection goes on."""
        client, peer = self.warm()
        client.send(post(100) + b"abc")
        peer.ok()
        peer.read()
        self.assertEqual(peer.asked.reset, CANCEL)
        other = self.client()
        other.send(GET)
        peer.ok()
        self.assertEqual(split(other.got)[2], b"hello")

    def test_clientGone(self) -> None:
        """A client that leaves has its stream cancelled; nobody is blamed and the connection goes on."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        client.reset()
        peer.read()
        self.assertEqual((peer.streams[stream].reset, self.ended), (CANCEL, (499, "client_gone")))
        other = self.client()
        other.send(GET)
        peer.ok()
        self.assertEqual((split(other.got)[2], self.backend.failures), (b"hello", {}))

    def test_lost(self) -> None:
        """A connection that is lost: who may be sent again is, together; who may not gets 502; the begun are cut."""
        _, peer = self.warm()
        gets = [self.client(), self.client()]
        for client in gets:
            client.send(GET)
        begun = self.client()
        begun.send(GET)
        stream = peer.last
        peer.head(stream, 200)
        peer.data(stream, b"ab")
        posted = self.client()
        posted.send(post(3) + b"abc")
        peer.end.reset()
        self.assertEqual(split(posted.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(begun.fate, "reset")
        self.assertEqual(len(self.network.dialled), 1)
        second = self.peer()
        for stream in second.open():
            second.ok(stream)
        self.assertEqual([split(client.got)[2] for client in gets], [b"hello", b"hello"])

    def test_lostBesideAnother(self) -> None:
        """Who may be sent again after its connection was lost goes over another one that stands."""
        clients, first, second = self.two()
        clients[0].take()
        clients[0].send(GET)
        first.read()
        first.end.reset()
        self.assertEqual(self.network.dialled, [])
        second.ok()
        self.assertEqual(split(clients[0].got)[2], b"hello")

    def test_closedWhileIdle(self) -> None:
        """A backend that closes an idle connection: the next request makes one."""
        client, peer = self.warm()
        peer.end.close()
        self.assertEqual((peer.end.fate, len(self.backend.idle)), ("closed", 0))
        client.send(GET)
        self.peer().ok()
        self.assertEqual(split(client.got)[2], b"hello")

    def test_closedUnseen(self) -> None:
        """A request that cannot be repeated is not sent to a connection whose end has come without being seen."""
        client, peer = self.warm()
        peer.end.socket.incoming.append(b"")
        client.socket.incoming.append(post(3) + b"abc")
        client.wire.doRead()
        self.loop.settle()
        second = self.peer()
        self.assertEqual(second.asked.body, b"abc")
        second.ok()
        self.assertEqual((split(client.got)[2], self.ended), (b"hello", (200, "ok")))

    def test_silent(self) -> None:
        """A backend that is silent on one stream: 504, the stream is cancelled, the others go on."""
        client, peer = self.warm()
        client.send(GET)
        stream = peer.last
        self.loop.wait(20)
        other = self.client()
        other.send(GET)
        self.loop.wait(10.6)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 504 Gateway Timeout")
        peer.read()
        self.assertEqual(peer.streams[stream].reset, CANCEL)
        peer.ok()
        self.assertEqual((split(other.got)[2], self.backend.failures), (b"hello", {"timeout": 1}))

    def test_silentInTheMiddle(self) -> None:
        """The same between two parts of a response, which counts anew after each: the client is cut."""
        client, peer = self.warm()
        client.send(GET)
        peer.head(peer.last, 200)
        for _ in range(3):
            self.loop.wait(29)
            peer.data(peer.last, b"x")
        self.loop.wait(31)
        self.assertEqual((client.fate, self.ended), ("reset", (200, "timeout_read")))
        peer.read()
        self.assertEqual((peer.asked.reset, peer.end.fate), (CANCEL, "open"))

    def test_dead(self) -> None:
        """A backend that does not even answer a PING is left: who waits for it does not wait for ever, nobody joins."""
        self.compose(rules=Rules(read=30, write=5))
        self.multiplex()
        client, peer = self.warm()
        client.send(GET)
        self.loop.wait(20)
        other = self.client()
        other.send(post(3) + b"abc")
        self.loop.wait(10.6)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 504 Gateway Timeout")
        late = self.client()
        late.send(GET)
        self.peer().ok()
        self.assertEqual(split(late.got)[2], b"hello")
        self.loop.wait(5.6)
        self.assertEqual((split(other.got)[0], peer.end.fate), (b"HTTP/1.1 502 Bad Gateway", "reset"))

    def test_onlySlow(self) -> None:
        """One that answers a PING is slow with that one request, and goes on to be used."""
        client, peer = self.warm()
        client.send(GET)
        self.loop.wait(30.6)
        peer.read()
        client.take()
        client.send(GET)
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")
        self.loop.wait(29)
        self.assertEqual((peer.end.fate, len(self.backend.idle)), ("open", 1))

    def test_malformed(self) -> None:
        """A response that HTTP/2 does not allow is that one request's failure."""
        client, peer = self.warm()
        other = self.client()
        other.send(GET)
        good = peer.last
        for fields in (
            [(b":status", b"200"), (b"connection", b"close")],
            [(b":status", b"200"), (b"x-a", b"b\r\nx-c: d")],
            [(b"x-a", b"b")],
            [(b":status", b"99")],
            [(b":status", b"101")],
        ):
            client = self.client()
            client.send(GET)
            stream = peer.last
            block = peer.h2.encoder.encode(fields)
            peer.frame(1, 4, stream, block)
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway", fields)
            self.assertEqual(self.log[-1].termination, "backend_malformed")
        peer.ok(good)
        self.assertEqual(split(other.got)[2], b"hello")

    def test_largeHead(self) -> None:
        """A head of more fields or bytes than is allowed is that one request's failure: 502, and the others go on."""
        client, peer = self.warm()
        many = [(f"x-{number}", "b") for number in range(1200)]
        for fields in ([("x-a", "b" * 16_000)] * 6, [("x-a", "b" * 16_000)] * 20, many[:300], many):
            client.send(GET)
            peer.head(peer.last, 200, *fields)
            self.assertEqual(split(client.take())[0], b"HTTP/1.1 502 Bad Gateway")
            self.assertEqual(self.log[-1].termination, "backend_malformed")
            peer.read()
            self.assertIsNotNone(peer.asked.reset)
        client.send(GET)
        peer.ok()
        self.assertEqual(split(client.got)[2], b"hello")

    def test_wrongLength(self) -> None:
        """A body that is longer or shorter than its Content-Length is not taken for whole."""
        for body in (b"abcdef", b"abcd"):
            client, peer = self.warm()
            client.send(GET)
            stream = peer.last
            peer.head(stream, 200, ("content-length", "5"))
            peer.frame(0, 1, stream, body)
            self.assertEqual((client.fate, self.ended), ("reset", (200, "backend_malformed")))
            peer.end.reset()
            self.log.clear()

    def test_connectionError(self) -> None:
        """What is no HTTP/2 ends the connection and all that is on it: nobody knows where the next frame begins."""
        client, peer = self.warm()
        client.send(GET)
        begun = self.client()
        begun.send(GET)
        peer.head(peer.last, 200)
        peer.end.send(b"\0\0\x05\x06\0\0\0\0\0hello")
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual((begun.fate, peer.end.fate), ("reset", "closed"))
        self.assertEqual([exchange.termination for exchange in self.log], ["backend_malformed"] * 2)
        peer.read()
        self.assertEqual(peer.gone_away, 6)


class PoolTests(Http2Case):
    """How long a connection is kept."""

    def test_idleTime(self) -> None:
        """A connection without streams is closed after C{pool.idle_time}, with GOAWAY."""
        client, peer = self.warm()
        self.loop.wait(29)
        client.send(GET)
        peer.ok()
        self.loop.wait(29)
        self.assertEqual(peer.end.fate, "open")
        self.loop.wait(2)
        peer.read()
        self.assertEqual((peer.end.fate, peer.gone_away, len(self.backend.idle)), ("closed", 0, 0))

    def test_busyIsNotIdle(self) -> None:
        """A connection with a stream is not idle, however long that takes."""
        self.compose(rules=Rules(read=100))
        self.multiplex()
        client, peer = self.warm()
        client.send(GET)
        self.loop.wait(60)
        peer.ok()
        self.assertEqual((split(client.got)[2], peer.end.fate), (b"hello", "open"))

    def test_requests(self) -> None:
        """A connection carries no more requests than the pool allows."""
        self.compose(pool=Pool(requests=2))
        self.multiplex()
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.send(GET)
        first = self.peer()
        second = self.peer()
        self.assertEqual((len(first.open()), len(second.open())), (2, 1))
        for peer in (first, second):
            for stream in peer.open():
                peer.ok(stream)
        self.assertEqual((first.end.fate, second.end.fate), ("closed", "open"))

    def test_idleLimit(self) -> None:
        """No more idle connections are kept than the pool allows."""
        self.compose(pool=Pool(1))
        _, first, second = self.two()
        self.assertEqual((first.end.fate, second.end.fate, len(self.backend.idle)), ("open", "closed", 1))

    def test_noPool(self) -> None:
        """With a pool of none each connection carries one request."""
        self.compose(pool=Pool(0))
        self.multiplex()
        clients = [self.client(), self.client()]
        for client in clients:
            client.send(GET)
        self.assertEqual(len(self.network.dialled), 2)
        for _ in clients:
            peer = self.peer()
            self.assertEqual(len(peer.open()), 1)
            peer.ok()
            self.assertEqual(peer.end.fate, "closed")

    def test_retired(self) -> None:
        """A backend that is removed: what runs comes to its end, the connection with it."""
        client, peer = self.warm()
        client.send(GET)
        self.backend.retire()
        self.assertEqual(peer.end.fate, "open")
        peer.ok()
        self.assertEqual((split(client.got)[2], peer.end.fate), (b"hello", "closed"))

    def test_moved(self) -> None:
        """A name that means another address: the connection to the old one ends with its last stream."""
        client, peer = self.warm()
        client.send(GET)
        self.backend.moved(("10.9.9.9",))
        other = self.client()
        other.send(GET)
        self.assertEqual(self.network.dialled[0].address, "10.9.9.9")
        self.peer().ok()
        peer.ok()
        self.assertEqual((split(client.got)[2], split(other.got)[2]), (b"hello", b"hello"))
        self.assertEqual(peer.end.fate, "closed")

    def test_slowFarewell(self) -> None:
        """A backend that does not take the farewell is left all the same."""
        _, peer = self.warm()
        peer.end.full()
        self.backend.close_idle()
        self.assertEqual(peer.end.fate, "open")
        self.loop.wait(11)
        self.assertEqual(peer.end.fate, "reset")

    def test_configure(self) -> None:
        """Another limit holds from the next stream on."""
        client, peer = self.warm()
        backend = self.backend
        backend.configure(
            Multiplexed("b1", backend.url, backend.location, backend.network, Passive(), Pool(), way=H2C, streams=1)
        )
        client.send(GET)
        late = self.client()
        late.send(GET)
        second = self.peer()
        second.ok()
        peer.ok()
        self.assertEqual((split(client.got)[2], split(late.got)[2]), (b"hello", b"hello"))
