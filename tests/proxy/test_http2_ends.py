"""HTTP/2 from clients: resets, losses, tunnels, and the ends of connections."""

from __future__ import annotations

from lemmytx.http2.errors import CANCEL, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM
from lemmytx.model import Timeouts
from lemmytx.proxy.downstream import LAST_REQUEST, LINGER_BYTES, LINGER_TIME
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.http2_sending import HIGH
from tests.proxy.http2_rig import CONNECT, GET, Answer, Client, Http2Case
from tests.proxy.rig import OK, End, post, split

EVERY = (1 << 31) - 1
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)
GOING = b"\x03\xe9"


class EndOfStreamTests(Http2Case):
    """One stream ends before its time, and no other."""

    def setUp(self) -> None:
        super().setUp()
        self.quiet = self.second()
        self.other = self.quiet.request()
        self.other_backend = self.accept()
        self.other_backend.take()

    def others_live(self) -> None:
        """The stream that has nothing to do with it gets its answer."""
        self.log.clear()
        self.other_backend.send(OK)
        self.assertEqual(self.answer(self.quiet, self.other).body, b"hello")
        self.assertEqual(self.ended, (200, "ok"))
        self.assertEqual(self.quiet.end.fate, "open")

    def test_reset(self) -> None:
        """A client that gives up before the answer is 499, its upstream is closed, and nobody is blamed."""
        stream = self.quiet.request()
        backend = self.accept()
        self.quiet.reset(stream)
        self.assertEqual(self.ended, (499, "client_gone"))
        self.assertIn("reset the stream", self.log[0].why)
        self.assertEqual(backend.fate, "reset")
        self.assertFalse(self.backend.passive.suspect)
        self.others_live()

    def test_reset_while_connecting(self) -> None:
        """A connection that nobody waits for any more is not made."""
        stream = self.quiet.request()
        self.assertEqual(len(self.network.dialled), 1)
        self.quiet.reset(stream)
        self.assertEqual(self.network.dialled, [])
        self.assertEqual(self.ended, (499, "client_gone"))
        self.others_live()

    def test_reset_in_the_answer(self) -> None:
        """A client that gives up in the middle of the answer keeps the status that it has seen."""
        stream = self.quiet.request()
        backend = self.accept()
        backend.send(OK[:-2])
        self.quiet.reset(stream)
        self.assertEqual(self.ended, (200, "client_gone"))
        self.assertEqual(backend.fate, "reset")
        self.others_live()

    def test_reset_at_once(self) -> None:
        """A request and its reset in one read are a request that was given up."""
        stream = self.quiet.ask()
        self.quiet.codec.reset(stream, CANCEL)
        self.quiet.go()
        self.assertEqual(self.ended, (499, "client_gone"))
        self.others_live()

    def test_refused_and_reset_at_once(self) -> None:
        """A request that we answer ourselves, reset in the same read, is over and no harm done."""
        stream = self.quiet.ask(GET[:-2] + b"Expect: miracles\r\n\r\n")
        self.quiet.codec.reset(stream, CANCEL)
        self.quiet.go()
        self.assertEqual([r.status for r in self.rejections], [417])
        self.assertEqual(len(self.quiet.downstream.streams), 1)
        self.log.append(None)  # type: ignore[arg-type]  # no exchange was there
        self.others_live()

    def test_upload_reset(self) -> None:
        """A client that gives up its upload leaves its upstream in the middle of something."""
        stream = self.quiet.request(post(100), ended=False)
        backend = self.accept()
        self.quiet.send(stream, b"x" * 10)
        self.quiet.reset(stream)
        self.assertEqual(self.ended, (499, "client_gone"))
        self.assertEqual(backend.fate, "reset")
        self.others_live()

    def test_backend_dies(self) -> None:
        """A backend that dies in its answer has that stream reset: nobody takes the part for the whole."""
        stream = self.quiet.request()
        backend = self.accept()
        backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        backend.close()
        answer = self.answer(self.quiet, stream)
        self.assertEqual((answer.body, answer.ended, answer.reset), (b"hel", False, INTERNAL_ERROR))
        self.assertEqual(self.ended, (200, "backend_gone"))
        self.others_live()

    def test_backend_dies_unanswered(self) -> None:
        """A backend that dies without an answer is 502."""
        stream = self.quiet.request(post(0))
        self.accept().close()
        answer = self.answer(self.quiet, stream)
        self.assertEqual((answer.status, answer.ended), (502, True))
        self.assertIn(b"request:", answer.body.lower())
        self.others_live()

    def test_error_of_ours(self) -> None:
        """An error of our own costs its stream."""
        stream = self.quiet.request()
        backend = self.accept()
        original = Exchange.respond

        def failing(*args: object) -> bool:
            raise RuntimeError("made up")

        self.patch(Exchange, "respond", failing)
        backend.send(OK)
        self.patch(Exchange, "respond", original)
        answer = self.answer(self.quiet, stream)
        self.assertEqual((answer.status, answer.ended), (500, True))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.others_live()

    def test_error_of_ours_at_a_body(self) -> None:
        """An error of our own at one of the client's frames costs that stream alone."""
        stream = self.quiet.request(post(10), ended=False)
        self.accept()
        original = Exchange.request_body

        def failing(*args: object) -> None:
            raise RuntimeError("made up")

        self.patch(Exchange, "request_body", failing)
        self.quiet.send(stream, b"01234")
        self.patch(Exchange, "request_body", original)
        self.assertEqual(self.answer(self.quiet, stream).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.others_live()

    def test_error_of_ours_without_an_exchange(self) -> None:
        """And so does one before there is an exchange."""

        def failing(*args: object) -> None:
            raise RuntimeError("made up")

        self.patch(self.resource, "rejected", failing)
        stream = self.quiet.request(GET[:-2] + b"Expect: miracles\r\n\r\n")
        self.assertEqual(self.answer(self.quiet, stream).reset, INTERNAL_ERROR)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.others_live()

    def test_repr(self) -> None:
        """What is under way can be read."""
        self.assertEqual(repr(self.quiet.downstream), "<Http2Downstream 192.0.2.1 served=1 streams=1>")
        [stream] = self.quiet.downstream.streams.values()
        self.assertEqual(repr(stream), f"<Stream 1 queued=0 exchange={stream.exchange!r}>")
        self.others_live()

    def test_cut(self) -> None:
        """When a backend is to be left at once, its exchanges are answered 503 or reset; the connection lives on."""
        stream = self.quiet.request()
        backend = self.accept()
        backend.send(OK[:-2])
        self.listener.cut([self.backend])
        self.assertEqual(self.answer(self.quiet, stream).reset, INTERNAL_ERROR)
        self.assertEqual(self.answer(self.quiet, self.other).status, 503)
        self.assertEqual(self.quiet.end.fate, "open")


class EndOfConnectionTests(Http2Case):
    """The whole connection ends."""

    def test_lost(self) -> None:
        """A client that vanishes leaves nothing behind, whatever each of its streams was doing."""
        for how in ("reset", "close"):
            client = self.second()
            client.request()
            waiting = self.accept()
            client.request(post(10), ended=False)
            sending = self.accept()
            client.request()
            answering = self.accept()
            answering.send(OK[:-1])
            client.request()
            getattr(client.end, how)()
            self.assertEqual([e.fate for e in (waiting, sending, answering)], ["reset"] * 3)
            self.assertEqual(self.network.dialled, [])
            self.assertEqual(sorted(exchange.status for exchange in self.log), [200, 499, 499, 499])
            self.assertEqual(client.end.fate, "closed")
            self.log.clear()

    def test_error(self) -> None:
        """Who breaks the rules of the connection is told which, and counted; what was under way is over."""
        client = self.second()
        client.request()
        backend = self.accept()
        client.end.send(b"\0\0\1\x06\0\0\0\0\0x")  # a PING of one byte
        client.go()
        self.assertEqual([(r.status, r.client) for r in self.rejections], [(400, "192.0.2.1")])
        self.assertIn("PING", self.rejections[0].why)
        self.assertEqual([code for _, code in client.gone_away], [6])
        self.assertEqual(client.end.fate, "half")
        self.assertEqual(backend.fate, "reset")
        self.assertEqual(self.ended, (499, "client_gone"))
        client.end.send(b"x" * 1000)
        client.end.close()
        self.assertEqual(client.end.fate, "closed")

    def test_not_http2(self) -> None:
        """What does not begin as HTTP/2 is ended."""
        client = self.second(silent=True)
        client.end.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(client.end.fate, "half")
        self.assertEqual(len(self.rejections), 1)

    def test_lingers(self) -> None:
        """After an error it listens for a while, so that the client can read what was wrong."""
        client = self.second()
        client.end.send(b"\0\0\1\x06\0\0\0\0\0x")
        self.assertEqual(client.end.fate, "half")
        self.loop.wait(LINGER_TIME + 1)
        self.assertEqual(client.end.fate, "reset")

    def test_lingers_not_for_floods(self) -> None:
        """And not for much."""
        client = self.second()
        client.end.send(b"\0\0\1\x06\0\0\0\0\0x")
        piece = b"x" * 65536
        for _ in range(LINGER_BYTES // len(piece) + 2):
            client.end.send(piece)
        self.assertEqual(client.end.fate, "reset")

    def test_client_goes_away(self) -> None:
        """A client that announces its end gets its answers, and then the connection ends."""
        client = self.second()
        stream = client.request()
        client.codec.goaway(0)
        client.go()
        self.assertEqual(client.end.fate, "open")
        self.accept().send(OK)
        self.assertEqual(self.answer(client, stream).body, b"hello")
        self.assertEqual(client.end.fate, "half")

    def test_error_of_ours(self) -> None:
        """An error of our own outside of any stream ends the connection, and is told."""
        client = self.second()
        client.request()
        backend = self.accept()

        def failing(*args: object) -> None:
            raise RuntimeError("made up")

        self.patch(type(client.downstream), "_serve", failing)
        client.codec.ping()
        client.end.send(client.codec.take())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((client.end.fate, backend.fate), ("reset", "reset"))


class DrainTests(Http2Case):
    """The listener takes no more."""

    def test_idle(self) -> None:
        """An idle connection is warned, and ends a moment later with the number of its last stream."""
        client = self.second()
        stream = client.request()
        self.accept().send(OK)
        self.answer(client, stream)
        self.listener.drain()
        client.go()
        self.assertEqual((client.gone_away, client.end.fate), ([(EVERY, NO_ERROR)], "open"))
        self.loop.wait(LAST_REQUEST + 0.5)
        client.go()
        self.assertEqual((client.gone_away[1:], client.end.fate), ([(stream, NO_ERROR)], "half"))
        client.end.close()
        self.assertEqual(self.listener.downstreams, set())

    def test_on_its_way(self) -> None:
        """A request that was on its way when the end was announced is served; one after the last word is not."""
        client = self.second()
        self.listener.drain()
        # The client has not read it yet.
        stream = client.codec.request(GET, True)
        late = client.codec.request(GET, True)
        self.assertEqual((stream, late), (1, 3))
        first, second = client.codec.take(), b""
        second, first = first[-(len(first) // 2) :], first[: -(len(first) // 2)]
        client.end.send(first + second)
        backends = [self.accept(), self.accept()]
        self.loop.wait(LAST_REQUEST + 0.5)
        for backend in backends:
            backend.send(OK)
        self.assertEqual([exchange.status for exchange in self.log], [200, 200])
        self.assertEqual(client.end.fate, "half")

    def test_late(self) -> None:
        """Streams after the last GOAWAY are refused, so that the client can repeat them elsewhere; others finish."""
        client = self.second()
        stream = client.request()
        backend = self.accept()
        self.listener.drain()
        self.loop.wait(LAST_REQUEST + 0.5)
        late = client.ask()
        client.go()
        self.assertEqual(client.gone_away[-1], (stream, NO_ERROR))
        self.assertIn(client.answers[late].reset, (None, REFUSED_STREAM))
        self.assertEqual(self.network.dialled, [])
        backend.send(OK)
        self.assertEqual(self.answer(client, stream).body, b"hello")
        self.assertEqual(client.end.fate, "half")

    def test_new(self) -> None:
        """Who connects to a listener that drains is warned at once, and still served."""
        self.listener.draining = True
        client = self.second()
        self.assertEqual(client.gone_away, [(EVERY, NO_ERROR)])
        # Our client would not ask any more.
        client.codec.draining = False
        stream = client.request()
        self.accept().send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)
        self.loop.wait(LAST_REQUEST + 0.5)
        self.assertEqual(client.end.fate, "half")

    def test_abort(self) -> None:
        """When patience ends, who has no answer yet gets 503, others are reset."""
        client = self.second()
        unanswered = client.request()
        self.accept()
        answered = client.request()
        self.accept().send(OK[:-1])
        self.listener.abort()
        client.go()
        self.assertEqual(client.answers[unanswered].status, 503)
        self.assertEqual(client.answers[answered].reset, INTERNAL_ERROR)
        self.assertEqual(sorted(exchange.termination for exchange in self.log), ["shutdown"] * 2)
        self.assertEqual(client.end.fate, "half")

    def test_abort_idle(self) -> None:
        """A connection on which nobody waits is cut."""
        client = self.second()
        self.listener.abort()
        self.loop.settle()
        self.assertEqual(client.end.fate, "reset")


class TunnelTests(Http2Case):
    """WebSockets in streams (RFC 8441)."""

    def open(self, client: Client, early: bytes = b"") -> tuple[int, End]:
        """A tunnel that stands."""
        stream = client.codec.request(CONNECT, False, b"websocket")
        client.answers[stream] = Answer()
        client.go()
        if early:
            client.send(stream, early)
        backend = self.accept()
        first, fields, _ = split(backend.take())
        self.assertEqual(first, b"GET /chat HTTP/1.1")
        self.assertEqual((fields[b"upgrade"], fields[b"connection"]), (b"websocket", b"upgrade"))
        self.assertEqual(len(fields[b"sec-websocket-key"]), 24)
        backend.send(ACCEPTED)
        client.go()
        return stream, backend

    def test_offered(self) -> None:
        """Extended CONNECT is offered."""
        self.assertTrue(self.second().codec.peer_extended_connect)

    def test_both_ways(self) -> None:
        """Bytes go both ways, and each half ends by itself."""
        client = self.second()
        stream, backend = self.open(client)
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.ended), (200, False))
        self.assertEqual(answer.fields[b"sec-websocket-protocol"], b"chat")
        for name in (b"sec-websocket-accept", b"connection", b"upgrade"):
            self.assertNotIn(name, answer.fields)
        client.send(stream, b"\x81\x82\0\0\0\0hi")
        self.assertEqual(backend.take(), b"\x81\x82\0\0\0\0hi")
        backend.send(b"\x81\x02yo")
        self.assertEqual(self.answer(client, stream).body, b"\x81\x02yo")
        client.send(stream, b"", ended=True)
        self.assertEqual(backend.fate, "half")
        backend.send(b"\x81\x03bye")
        backend.close()
        answer = self.answer(client, stream)
        self.assertEqual((answer.body[4:], answer.ended), (b"\x81\x03bye", True))
        self.assertEqual(self.ended, (101, "ok"))
        self.assertEqual(client.downstream.streams, {})

    def test_backend_first(self) -> None:
        """When the backend ends its half, the client may still speak."""
        client = self.second()
        stream, backend = self.open(client)
        backend.close()
        self.assertTrue(self.answer(client, stream).ended)
        client.send(stream, b"\x88\x80\0\0\0\0")
        self.assertEqual(backend.take(), b"\x88\x80\0\0\0\0")
        client.send(stream, b"", ended=True)
        self.assertEqual(self.ended, (101, "ok"))
        self.assertEqual(client.downstream.streams, {})

    def test_early(self) -> None:
        """What a client sends before the tunnel is open waits for it."""
        client = self.second()
        _, backend = self.open(client, b"\x81\x82\0\0\0\0hi")
        self.assertEqual(backend.take(), b"\x81\x82\0\0\0\0hi")
        client.end.reset()

    def test_early_is_bounded(self) -> None:
        """And there is no more of it than a window."""
        client = self.second()
        stream = client.codec.request(CONNECT, False, b"websocket")
        client.answers[stream] = Answer()
        client.go()
        sent = 0
        while room := client.codec.room(stream):
            client.send(stream, b"x" * room)
            sent += room
        self.assertEqual(sent, 65535)
        backend = self.accept()
        backend.take()
        backend.send(ACCEPTED)
        client.go()
        self.assertEqual(len(backend.take()), 65535)
        self.assertEqual(client.codec.room(stream), 65535)
        client.end.reset()

    def test_early_end(self) -> None:
        """A client that ends its half before the tunnel is open has ended it."""
        client = self.second()
        stream = client.codec.request(CONNECT, False, b"websocket")
        client.answers[stream] = Answer()
        client.send(stream, b"", ended=True)
        backend = self.accept()
        backend.send(ACCEPTED)
        self.assertEqual(backend.fate, "half")
        backend.close()
        self.assertTrue(self.answer(client, stream).ended)
        self.assertEqual(self.ended, (101, "ok"))

    def test_reset(self) -> None:
        """A client that resets the stream leaves the backend with a connection that is reset."""
        client = self.second()
        stream, backend = self.open(client)
        client.reset(stream)
        self.assertEqual(backend.fate, "reset")
        self.assertEqual(self.ended, (101, "client_gone"))
        self.assertEqual(client.end.fate, "open")

    def test_backend_vanishes(self) -> None:
        """A backend that vanishes ends the stream."""
        client = self.second()
        stream, backend = self.open(client)
        backend.reset()
        answer = self.answer(client, stream)
        self.assertTrue(answer.ended or answer.reset is not None)
        self.assertEqual(self.ended, (101, "backend_gone"))
        self.assertEqual(client.downstream.streams, {})

    def test_refused(self) -> None:
        """A backend that does not want to is heard: its answer is the answer."""
        client = self.second()
        stream = client.codec.request(CONNECT, False, b"websocket")
        client.answers[stream] = Answer()
        client.go()
        self.accept().send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.body, answer.ended), (403, b"no", True))
        self.assertEqual(client.downstream.streams, {})

    def test_mistaken(self) -> None:
        """A backend that answers as if it were any request does not open a tunnel: success would say that it has."""
        for response in (OK, OK[:-1]):
            client = self.second()
            stream = client.codec.request(CONNECT, False, b"websocket")
            client.answers[stream] = Answer()
            client.go()
            (self.accept() if self.network.dialled else self.network.ends[-1]).send(response)
            answer = self.answer(client, stream)
            self.assertEqual((answer.status, answer.reset), (0, INTERNAL_ERROR))
            self.assertEqual(client.end.fate, "open")

    def test_slow_client(self) -> None:
        """A client that does not keep up stops its backend."""
        client = self.second()
        client.generous = False
        stream, backend = self.open(client)
        for _ in range(50):
            backend.send(b"\x82\x7e\x27\x10" + b"x" * 10_000)
        self.assertNotIn(backend.wire, self.loop.readers)
        self.assertLess(client.downstream.out.held, HIGH + 20_000)
        client.generous = True
        client.give(stream)
        self.assertEqual(len(self.answer(client, stream).body), 50 * 10_004)
        self.assertIn(backend.wire, self.loop.readers)
        client.end.reset()

    def test_slow_backend(self) -> None:
        """A backend that does not keep up stops its client."""
        client = self.second()
        stream, backend = self.open(client)
        backend.full()
        sent = 0
        while room := client.codec.room(stream):
            client.send(stream, b"x" * room)
            sent += room
        self.assertLess(sent, 4 * HIGH)
        backend.drain()
        client.go()
        self.assertTrue(client.codec.room(stream))
        self.assertEqual(len(backend.take()), sent)
        client.end.reset()

    def test_silence(self) -> None:
        """A tunnel in which nobody speaks ends after `tunnel`."""
        self.compose(timeouts=Timeouts(tunnel=60))
        client = self.second()
        stream, _ = self.open(client)
        self.loop.wait(62)
        self.assertEqual(self.ended, (101, "timeout_tunnel"))
        self.assertEqual(self.answer(client, stream).reset, INTERNAL_ERROR)

    def test_drain(self) -> None:
        """When the listener drains, both sides hear 1001; when both have answered, stream and connection end."""
        client = self.second()
        stream, backend = self.open(client)
        self.listener.drain()
        self.assertEqual(self.answer(client, stream).body[:4], b"\x88\x02" + GOING)
        self.assertEqual(backend.take()[:1], b"\x88")
        client.send(stream, b"\x88\x82\0\0\0\0" + GOING)
        backend.send(b"\x88\x02" + GOING)
        self.assertTrue(self.answer(client, stream).ended)
        self.assertEqual(self.ended, (101, "shutdown"))
        self.loop.wait(LAST_REQUEST + 0.5)
        self.assertEqual(client.end.fate, "half")

    def test_patient(self) -> None:
        """Unless the listener is patient; then they hear it later."""
        client = self.second()
        stream, _ = self.open(client)
        self.listener.drain(patient=True)
        self.loop.wait(LAST_REQUEST + 0.5)
        self.assertEqual(self.answer(client, stream).body, b"")
        self.listener.drain()
        self.assertEqual(self.answer(client, stream).body[:4], b"\x88\x02" + GOING)
        self.assertEqual([last for last, _ in client.gone_away], [EVERY, stream])
        client.end.reset()

    def test_opens_late(self) -> None:
        """A tunnel that opens while the listener drains is told to go at once."""
        client = self.second()
        stream = client.codec.request(CONNECT, False, b"websocket")
        client.answers[stream] = Answer()
        client.go()
        self.listener.drain()
        self.accept().send(ACCEPTED)
        self.assertEqual(self.answer(client, stream).body[:4], b"\x88\x02" + GOING)
        client.end.reset()
