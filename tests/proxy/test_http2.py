"""HTTP/2 from clients: requests, responses and bodies."""

from __future__ import annotations

from lemmytx.http2.bounds import Bounds
from lemmytx.http2.errors import INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM
from lemmytx.model import Limits, Timeouts
from lemmytx.proxy.downstream import LAST_REQUEST
from lemmytx.proxy.http2_sending import FRAME, HELD, HIGH, MUCH
from lemmytx.proxy.intake import CONTINUE_AFTER
from tests.proxy.http2_rig import GET, Client, Http2Case
from tests.proxy.rig import OK, End, post, split

CHUNKED = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 00:34:07 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(path: bytes, host: bytes = b"shop.example") -> bytes:
    """A request."""
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host)


def writes(client: Client) -> list[bytes]:
    """From here on: what was handed to the client's socket, one item for each call."""
    taken: list[bytes] = []
    original = client.end.wire._send

    def send(socket: object, data: bytes) -> int:
        taken.append(bytes(data))
        return original(socket, data)  # type: ignore[arg-type]  # as it was called

    client.end.wire._send = send  # type: ignore[assignment]  # it stands in
    return taken


class RequestTests(Http2Case):
    """Requests without a body, and their answers."""

    def test_one(self) -> None:
        """A request goes to a backend as HTTP/1.1, its answer comes back as it is, and the log knows the version."""
        client = self.second()
        stream = client.request(GET[:-2] + b"X-A: 1\r\n\r\n")
        backend = self.accept()
        first, fields, _ = split(backend.take())
        self.assertEqual(first, b"GET / HTTP/1.1")
        self.assertEqual(
            [fields[name] for name in (b"host", b"x-a", b"via", b"x-forwarded-for", b"x-forwarded-host")],
            [b"shop.example", b"1", b"2.0 lemmytx", b"192.0.2.1", b"shop.example"],
        )
        self.assertNotIn(b"transfer-encoding", fields)
        backend.send(OK)
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.body, answer.ended, answer.reset), (200, b"hello", True, None))
        self.assertEqual(answer.fields[b"content-length"], b"5")
        self.assertEqual(self.ended, (200, "ok"))
        self.assertEqual((self.log[0].head.minor, self.log[0].sent), (2, 5))
        self.assertEqual(client.downstream.streams, {})
        self.assertEqual(self.backend.idle[0].served, 1)

    def test_many(self) -> None:
        """Many run at once, each on an upstream of its own, and are answered in the order of the backends."""
        client = self.second()
        streams = [client.request(get(b"/%d" % number)) for number in range(5)]
        backends = [self.accept() for _ in streams]
        self.assertEqual(len(client.downstream.exchanges()), 5)
        for number in (3, 0, 4, 1, 2):
            self.assertEqual(split(backends[number].got)[0], b"GET /%d HTTP/1.1" % number)
            backends[number].send(OK.replace(b"hello", b"hell%d" % number))
            self.assertEqual(self.answer(client, streams[number]).body, b"hell%d" % number)
        self.assertEqual(len(self.log), 5)

    def test_one_write(self) -> None:
        """What a read brings about goes out in one write, and so does an answer with its end."""
        self.compose(hosts=("shop.example",))
        client = self.second()
        streams = [client.ask(get(b"/", b"other.example")) for _ in range(3)]
        taken = writes(client)
        client.go()
        self.assertEqual([client.answers[stream].status for stream in streams], [404] * 3)
        self.assertEqual(len(taken), 1)
        client.request()
        backend = self.accept()
        del taken[:]
        backend.send(OK)
        self.assertEqual(len(taken), 1)

    def test_one_write_of_many(self) -> None:
        """Answers of several backends that come in one turn of the reactor go out in one write."""
        client = self.second()
        streams = [client.request() for _ in range(5)]
        backends = [self.accept() for _ in streams]
        taken = writes(client)
        for backend in backends:
            backend.socket.incoming.append(OK)
        self.loop.settle()
        self.assertEqual(len(taken), 1)
        client.go()
        self.assertEqual([client.answers[stream].body for stream in streams], [b"hello"] * 5)

    def test_date(self) -> None:
        """A Date is added where the backend has none."""
        client = self.second()
        stream = client.request()
        self.accept().send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        answer = self.answer(client, stream)
        self.assertIn(b"date", answer.fields)
        self.assertTrue(answer.ended)

    def test_hop_by_hop(self) -> None:
        """Nothing of HTTP/1.1's connection reaches the client."""
        client = self.second()
        stream = client.request()
        self.accept().send(CHUNKED[:-2] + b"Connection: x-b\r\nX-B: 1\r\nKeep-Alive: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        answer = self.answer(client, stream)
        self.assertEqual(answer.body, b"hello")
        for name in (b"connection", b"x-b", b"keep-alive"):
            self.assertNotIn(name, answer.fields)

    def test_head(self) -> None:
        """The answer to HEAD has a length and no body."""
        client = self.second()
        stream = client.request(b"HEAD / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        self.accept().send(OK[:-5])
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.fields[b"content-length"], answer.ended), (200, b"5", True))
        self.assertEqual(answer.body, b"")

    def test_head_refused(self) -> None:
        """An answer of our own to HEAD has no body either."""
        self.compose(hosts=("shop.example",))
        client = self.second()
        stream = client.request(b"HEAD / HTTP/1.1\r\nHost: other.example\r\n\r\n")
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.body, answer.ended), (404, b"", True))

    def test_until_close(self) -> None:
        """A response that ends with the backend's connection ends its stream, and nothing else."""
        client = self.second()
        stream = client.request()
        backend = self.accept()
        backend.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
        self.assertFalse(self.answer(client, stream).ended)
        backend.send(b"lo")
        backend.close()
        answer = self.answer(client, stream)
        self.assertEqual((answer.body, answer.ended), (b"hello", True))
        self.assertEqual(client.end.fate, "open")

    def test_interim(self) -> None:
        """Interim responses come before the final one."""
        client = self.second()
        stream = client.request()
        backend = self.accept()
        backend.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", OK)
        answer = self.answer(client, stream)
        self.assertEqual(answer.informed, [(103, {b"link": b"</a.css>; rel=preload"})])
        self.assertEqual((answer.status, answer.body), (200, b"hello"))

    def test_response_trailers(self) -> None:
        """Trailers of a response come as trailers, behind all of the body."""
        client = self.second()
        stream = client.request()
        self.accept().send(CHUNKED + b"5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 1\r\n\r\n")
        answer = self.answer(client, stream)
        self.assertEqual((answer.body, answer.trailers.lower(), answer.ended), (b"hello", b"grpc-status: 0\r\n", True))

    def test_trailers_alone(self) -> None:
        """Trailers come also behind a body of nothing."""
        client = self.second()
        stream = client.request()
        self.accept().send(CHUNKED + b"0\r\nGrpc-Status: 5\r\n\r\n")
        answer = self.answer(client, stream)
        self.assertEqual((answer.body, answer.trailers.lower(), answer.ended), (b"", b"grpc-status: 5\r\n", True))

    def test_oversized(self) -> None:
        """A head beyond the limits is answered 431, and the next request as ever."""
        self.compose(limits=Limits(header_size=4096))
        client = self.second()
        stream = client.request(GET[:-2] + b"X: " + b"x" * 5000 + b"\r\n\r\n")
        self.assertEqual(self.answer(client, stream).status, 431)
        self.assertEqual([rejection.status for rejection in self.rejections], [431])
        stream = client.request()
        self.accept().send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)

    def test_rejected(self) -> None:
        """What the codec of HTTP/1.1 refuses is refused, and counted, with its status."""
        client = self.second()
        stream = client.request(GET[:-2] + b"Expect: miracles\r\n\r\n")
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.ended), (417, True))
        self.assertEqual([(r.status, r.client) for r in self.rejections], [(417, "192.0.2.1")])
        self.assertEqual(self.network.dialled, [])

    def test_claims(self) -> None:
        """What a client that nobody trusts says of other clients is not passed on."""
        client = self.second()
        client.request(GET[:-2] + b"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\r\n")
        backend = self.accept()
        self.assertNotIn(b"1.2.3.4", backend.got)
        backend.send(OK)

    def test_bounded_turn(self) -> None:
        """A read begins no more requests than may be open; those beyond are refused, to be asked elsewhere."""
        self.compose(hosts=("shop.example",))
        client = self.second()
        client.codec.peer_streams = 1000
        streams = [client.ask(get(b"/", b"other.example")) for _ in range(200)]
        client.go()
        answers = [client.answers[stream] for stream in streams]
        self.assertEqual([answer.status for answer in answers], [404] * 128 + [0] * 72)
        self.assertEqual({answer.reset for answer in answers[128:]}, {REFUSED_STREAM})
        self.assertEqual(client.downstream.served, 128)
        again = client.request(get(b"/", b"other.example"))
        self.assertEqual(client.answers[again].status, 404)


class BodyTests(Http2Case):
    """Bodies of requests."""

    def test_counted(self) -> None:
        """A body of known length goes on as such, in the pieces in which it comes."""
        client = self.second()
        stream = client.request(post(10), ended=False)
        backend = self.accept()
        client.send(stream, b"01234")
        self.assertTrue(backend.got.endswith(b"\r\n\r\n01234"))
        client.send(stream, b"56789", ended=True)
        _, fields, body = split(backend.take())
        self.assertEqual((fields[b"content-length"], body), (b"10", b"0123456789"))
        self.assertNotIn(b"transfer-encoding", fields)
        backend.send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)
        self.assertEqual(self.log[0].received, 10)

    def test_chunked(self) -> None:
        """A body of unknown length goes on in chunks, with its trailers."""
        client = self.second()
        stream = client.request(b"POST / HTTP/1.1\r\nHost: shop.example\r\n\r\n", ended=False)
        backend = self.accept()
        client.send(stream, b"hello")
        client.codec.trailers(stream, b"x-sum: 1\r\n")
        client.go()
        _, fields, body = split(backend.take())
        self.assertEqual(fields[b"transfer-encoding"], b"chunked")
        self.assertEqual(body.lower(), b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")
        backend.send(OK)

    def test_small_frames(self) -> None:
        """Frames that come in one read go on in one piece, each stream's by themselves."""
        client = self.second()
        first = client.request(post(200), ended=False)
        backends = [self.accept()]
        second = client.request(b"POST / HTTP/1.1\r\nHost: shop.example\r\n\r\n", ended=False)
        backends.append(self.accept())
        for backend in backends:
            backend.take()
        for stream in (first, second, first):
            for number in range(100):
                client.codec.send(stream, b"%c" % (33 + number), False)
        client.go()
        some = bytes(range(33, 133))
        self.assertEqual(backends[0].take(), some * 2)
        self.assertEqual(backends[1].take(), b"64\r\n" + some + b"\r\n")
        client.codec.send(second, b"a", False)
        client.codec.send(second, b"b", True)
        client.codec.send(first, b"", True)
        client.go()
        self.assertEqual(backends[1].take(), b"2\r\nab\r\n0\r\n\r\n")
        for backend, stream in zip(backends, (first, second), strict=True):
            backend.send(OK)
            self.assertEqual(self.answer(client, stream).status, 200)

    def test_empty_end(self) -> None:
        """A body may end with a frame that has nothing in it."""
        client = self.second()
        stream = client.request(post(5), ended=False)
        backend = self.accept()
        client.send(stream, b"hello")
        client.send(stream, b"", ended=True)
        self.assertEqual(split(backend.take())[2], b"hello")
        backend.send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)
        self.assertEqual(len(self.backend.idle), 1)

    def test_continue(self) -> None:
        """A client that waits for 100 gets the backend's, or ours after a moment; nobody else gets one."""
        asking = post(5, b"Expect: 100-continue\r\n")
        client = self.second()
        stream = client.request(asking, ended=False)
        backend = self.accept()
        self.assertIn(b"100-continue", backend.take())
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(self.answer(client, stream).informed, [(100, {})])
        client.send(stream, b"hello", ended=True)
        backend.send(OK)
        second = client.request(asking, ended=False)
        self.loop.wait(CONTINUE_AFTER / 2)
        self.assertEqual(self.answer(client, second).informed, [])
        self.loop.wait(CONTINUE_AFTER)
        self.assertEqual(self.answer(client, second).informed, [(100, {})])
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(second, b"hello", ended=True)
        backend.send(OK)
        answer = self.answer(client, second)
        self.assertEqual((answer.informed, answer.status), ([(100, {})], 200))

    def test_too_long(self) -> None:
        """A body beyond the limit is 413, whether it says its length or not; the rest is not wanted."""
        self.compose(limits=Limits(body_size=100))
        client = self.second()
        stream = client.request(post(101), ended=False)
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.ended, answer.reset), (413, True, NO_ERROR))
        self.assertEqual([r.status for r in self.rejections], [413])
        stream = client.request(b"POST / HTTP/1.1\r\nHost: shop.example\r\n\r\n", ended=False)
        self.accept()
        client.send(stream, b"x" * 60)
        client.send(stream, b"x" * 60)
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.ended, answer.reset), (413, True, NO_ERROR))
        self.assertEqual(self.ended, (413, "refused"))
        self.assertEqual(client.end.fate, "open")

    def test_answered_early(self) -> None:
        """Who is answered before the end of its request is told that the rest is not needed."""
        client = self.second()
        stream = client.request(post(1000), ended=False)
        backend = self.accept()
        client.send(stream, b"x" * 10)
        backend.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.body, answer.reset), (403, b"no", NO_ERROR))
        self.assertEqual(self.ended, (403, "ok"))
        self.assertEqual(backend.fate, "reset")

    def test_late(self) -> None:
        """A body that does not go on in time is 408; the other streams live on."""
        self.compose(timeouts=Timeouts(body=5))
        client = self.second()
        other = client.request()
        other_backend = self.accept()
        stream = client.request(post(10), ended=False)
        self.accept()
        client.send(stream, b"01234")
        self.loop.wait(self.listener.timeouts.body + 1)
        answer = self.answer(client, stream)
        self.assertEqual((answer.status, answer.reset), (408, NO_ERROR))
        self.assertEqual(self.ended, (408, "timeout_body"))
        other_backend.send(OK)
        self.assertEqual(self.answer(client, other).status, 200)

    def test_malformed(self) -> None:
        """A body that is not as long as it was said to be ends its stream, and is the client's fault."""
        client = self.second()
        stream = client.request(post(10), ended=False)
        backend = self.accept()
        # The client's codec does not count what is sent.
        client.send(stream, b"01234", ended=True)
        self.assertEqual(self.answer(client, stream).reset, PROTOCOL_ERROR)
        self.assertEqual(self.ended, (400, "refused"))
        self.assertEqual(backend.fate, "reset")
        self.assertEqual(client.end.fate, "open")

    def test_slow_backend(self) -> None:
        """A backend that takes nothing stops one upload after a window, and no other stream; then all of it arrives."""
        client = self.second()
        body = bytes(range(256)) * 2048  # half a megabyte
        stream = client.request(post(len(body)), ended=False)
        backend = self.accept()
        backend.full()
        sent = 0
        while client.codec.room(stream):
            piece = body[sent : sent + client.codec.room(stream)]
            sent += len(piece)
            client.send(stream, piece)
        held = backend.queued
        self.assertLess(held, 3 * HIGH)
        self.assertLess(sent, 4 * HIGH)
        other = client.request()
        other_backend = self.accept()
        other_backend.send(OK)
        self.assertEqual(self.answer(client, other).status, 200)
        backend.drain()
        client.go()
        while sent < len(body):
            room = client.codec.room(stream)
            self.assertTrue(room, sent)
            piece = body[sent : sent + room]
            sent += len(piece)
            client.send(stream, piece, ended=sent == len(body))
        self.assertEqual(split(backend.take())[2], body)
        backend.send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)

    def test_stuck_backend(self) -> None:
        """A backend that takes nothing of an upload for `write` seconds is late: 504."""
        client = self.second()
        stream = client.request(post(1 << 20), ended=False)
        self.accept().full()
        while room := client.codec.room(stream):
            client.send(stream, b"x" * room)
        self.loop.wait(self.cluster.rules.write + 1)
        self.assertEqual(self.answer(client, stream).status, 504)

    def test_while_connecting(self) -> None:
        """What comes before there is a connection is held, no more than a window of it, and sent then."""
        client = self.second()
        stream = client.request(post(100_000), ended=False)
        sent = 0
        while room := client.codec.room(stream):
            client.send(stream, b"x" * room)
            sent += room
        self.assertEqual(sent, 65535)
        backend = self.accept()
        client.go()
        client.send(stream, b"x" * (100_000 - sent), ended=True)
        self.assertEqual(len(split(backend.take())[2]), 100_000)
        backend.send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)


class FlowTests(Http2Case):
    """Clients that do not keep up."""

    def large(self, client: Client, size: int) -> tuple[int, End]:
        """A response of so many bytes that begins."""
        stream = client.request()
        backend = self.accept() if self.network.dialled else self.network.ends[-1]
        backend.take()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        return stream, backend

    def feed(self, backend: End, size: int) -> int:
        """Send as much as the proxy reads: how much it has not read."""
        for _ in range(size // 10_000):
            backend.send(b"x" * 10_000)
        return sum(len(piece) for piece in backend.socket.incoming if isinstance(piece, bytes))

    def test_window(self) -> None:
        """A stream whose window is used up pauses its backend; others go on; it goes on when there is room."""
        client = self.second()
        client.generous = False
        stream, backend = self.large(client, 500_000)
        left = self.feed(backend, 500_000)
        client.go()
        self.assertEqual(len(client.answers[stream].body), 65535)
        self.assertGreater(left, 500_000 - 65535 - 2 * HIGH)
        self.assertNotIn(backend.wire, self.loop.readers)
        other = client.request()
        self.accept().send(OK)
        self.assertEqual(self.answer(client, other).body, b"hello")
        client.generous = True
        client.give(stream)
        answer = self.answer(client, stream)
        self.assertEqual((len(answer.body), answer.ended), (500_000, True))
        self.assertEqual(client.downstream.out.held, 0)

    def test_window_used_up_at_the_end(self) -> None:
        """A response whose end waits for room is over for its backend, and reaches the client."""
        client = self.second(bounds=Bounds(window=10))
        client.generous = False
        stream = client.request()
        backend = self.accept()
        backend.send(OK.replace(b": 5", b": 15").replace(b"hello", b"x" * 15))
        self.assertEqual(self.ended, (200, "ok"))
        answer = self.answer(client, stream)
        self.assertEqual((len(answer.body), answer.ended), (10, False))
        client.give(stream)
        answer = self.answer(client, stream)
        self.assertEqual((len(answer.body), answer.ended), (15, True))
        self.assertEqual(client.downstream.streams, {})

    def test_trailers_wait(self) -> None:
        """Trailers wait for the body before them."""
        client = self.second(bounds=Bounds(window=3))
        client.generous = False
        stream = client.request()
        self.accept().send(CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n")
        self.assertEqual(self.answer(client, stream).trailers, b"")
        client.give(stream)
        answer = self.answer(client, stream)
        self.assertEqual((answer.body, answer.trailers.lower()), (b"hello", b"x: 1\r\n"))

    def test_stalled(self) -> None:
        """A stream of which the client takes nothing for `body` seconds is reset; others and the connection live on."""
        client = self.second()
        client.generous = False
        stream, backend = self.large(client, 500_000)
        self.feed(backend, 500_000)
        client.go()
        self.loop.wait(self.listener.timeouts.body / 2)
        self.assertIsNone(self.answer(client, stream).reset)
        self.loop.wait(self.listener.timeouts.body + 1)
        self.assertEqual(self.answer(client, stream).reset, INTERNAL_ERROR)
        self.assertEqual(self.ended, (200, "client_gone"))
        self.assertEqual(backend.fate, "reset")
        other = client.request()
        self.accept().send(OK)
        self.assertEqual(self.answer(client, other).status, 200)

    def test_slow_is_not_stalled(self) -> None:
        """A client that takes a little now and then is served for as long as it does."""
        client = self.second()
        client.generous = False
        stream, backend = self.large(client, 200_000)
        self.feed(backend, 200_000)
        client.go()
        taken = 0
        for _ in range(5):
            self.loop.wait(self.listener.timeouts.body * 0.8)
            client.give(stream)
            client.go()
            taken = len(client.answers[stream].body)
        self.assertEqual((taken, client.answers[stream].ended), (200_000, True))

    def test_slow_connection(self) -> None:
        """When it is the connection that is slow, no stream is given up because others were before it."""
        client = self.second(bounds=Bounds(window=1 << 20, connection_window=65535))
        pairs = [self.large(client, 60_000) for _ in range(10)]
        for _, backend in pairs:
            self.feed(backend, 60_000)
        sent = 0
        for _ in range(10):
            # One window of the connection, four frames, in nearly the time after which a stream is given up.
            self.loop.wait(self.listener.timeouts.body * 0.8)
            got = client.end.take()
            sent += len(got)
            for event in client.codec.receive(got):
                client._happened(event)
            client.end.send(client.codec.take())
        self.assertGreater(sent, 400_000)
        for stream, _ in pairs:
            answer = self.answer(client, stream)
            self.assertEqual((len(answer.body), answer.ended, answer.reset), (60_000, True, None))

    def test_end_is_not_taken(self) -> None:
        """The end of a response that the client does not take is given up in time, though the exchange is over."""
        client = self.second(bounds=Bounds(window=2))
        client.generous = False
        stream = client.request()
        self.accept().send(OK)
        self.assertEqual(self.ended, (200, "ok"))
        self.loop.wait(self.listener.timeouts.body + 1)
        self.assertEqual(self.answer(client, stream).reset, INTERNAL_ERROR)
        self.assertEqual((client.downstream.streams, client.downstream.out.held), ({}, 0))

    def test_connection_window(self) -> None:
        """When the window of the connection opens, every stream that waits goes on."""
        client = self.second()
        streams = []
        for _ in range(3):
            stream, backend = self.large(client, 60_000)
            streams.append(stream)
            self.feed(backend, 60_000)
        client.go()
        for stream in streams:
            answer = self.answer(client, stream)
            self.assertEqual((len(answer.body), answer.ended), (60_000, True))

    def test_turns(self) -> None:
        """Streams that have much to send take turns, a frame each."""
        client = self.second()
        client.go()
        client.end.full()
        first, backend = self.large(client, 10_000)
        streams = [first]
        self.feed(backend, 10_000)
        # The socket is full, and so is the transport's queue before long.
        while not client.downstream.out.blocked:
            stream, backend = self.large(client, 50_000)
            streams.append(stream)
            self.feed(backend, 50_000)
        waiting = []
        for _ in range(2):
            stream, backend = self.large(client, 50_000)
            waiting.append(stream)
            self.feed(backend, 50_000)
        client.end.drain()
        client.go()
        order = [stream for stream in client.order if stream in waiting]
        self.assertEqual(order[:6], waiting * 3)
        for stream in streams + waiting:
            self.assertTrue(client.answers[stream].ended, stream)

    def test_full_socket(self) -> None:
        """A client that does not read has us hold a bound of bytes; when it reads, it gets everything."""
        client = self.second(bounds=Bounds(window=1 << 24, connection_window=1 << 24))
        client.go()
        client.end.full()
        pairs = [self.large(client, 200_000) for _ in range(8)]
        left = sum(self.feed(backend, 200_000) for _, backend in pairs)
        self.assertTrue(client.downstream.out.blocked)
        self.assertLess(client.end.queued, 3 * HIGH)
        self.assertLess(client.downstream.out.held, HELD + 8 * 20_000)
        self.assertGreater(left, 500_000)
        client.end.drain()
        client.go()
        for stream, _ in pairs:
            answer = client.answers[stream]
            self.assertEqual((len(answer.body), answer.ended), (200_000, True))
        self.assertFalse(client.downstream.out.blocked)

    def test_never_reads(self) -> None:
        """A client that reads nothing for `body` seconds is ended."""
        client = self.second()
        client.go()
        client.end.full()
        while not client.downstream.out.blocked:
            _, backend = self.large(client, 50_000)
            self.feed(backend, 50_000)
        _, backend = self.large(client, 500_000)
        self.feed(backend, 500_000)
        self.loop.wait(self.listener.timeouts.body + 1)
        self.assertEqual(client.end.fate, "reset")
        self.assertIn("client_gone", {exchange.termination for exchange in self.log})
        self.assertEqual(self.resource.exchanges, 0)

    def stuck(self) -> Client:
        """A client whose socket takes nothing more."""
        client = self.second()
        client.go()
        client.end.full()
        while not client.downstream.out.blocked:
            _, backend = self.large(client, 50_000)
            self.feed(backend, 50_000)
        return client

    def test_reads_a_little(self) -> None:
        """A client that reads a little now and then is not ended."""
        client = self.stuck()
        for _ in range(4):
            self.loop.wait(self.listener.timeouts.body * 0.8)
            client.end.drain(10_000)
        self.assertEqual(client.end.fate, "open")
        client.end.drain()
        client.go()
        self.assertTrue(all(answer.ended for answer in client.answers.values()))

    def test_drains_while_stuck(self) -> None:
        """The end is announced behind what is queued, and nothing of that is lost."""
        client = self.stuck()
        self.listener.drain()
        self.loop.wait(LAST_REQUEST + 0.5)
        self.assertEqual(client.end.fate, "open")
        client.end.drain()
        client.go()
        self.assertTrue(all(answer.ended for answer in client.answers.values()))
        self.assertEqual([last for last, _ in client.gone_away], [(1 << 31) - 1, max(client.answers)])
        self.assertEqual(client.end.fate, "half")

    def test_drains_and_never_reads(self) -> None:
        """Who never reads is ended then, too."""
        client = self.stuck()
        self.listener.drain()
        self.loop.wait(LAST_REQUEST + self.listener.timeouts.body + 1)
        self.assertEqual(client.end.fate, "reset")

    def test_error_while_stuck(self) -> None:
        """Nor is a client waited for that breaks the rules and does not read."""
        client = self.stuck()
        client.end.send(b"\0\0\1\x06\0\0\0\0\0x")
        self.assertEqual(client.end.fate, "open")
        self.loop.wait(2 * self.listener.timeouts.body + 1)
        self.assertEqual(client.end.fate, "reset")
        self.assertEqual(client.downstream.streams, {})

    def test_lost_while_stuck(self) -> None:
        """A client that vanishes in this state leaves nothing behind."""
        self.stuck().end.reset()
        self.assertEqual(self.listener.downstreams, set())

    def test_asks_and_never_reads(self) -> None:
        """A client that goes on asking for what has no body is not read from any more, once much is queued for it."""
        self.compose(hosts=("shop.example",), limits=Limits(header_size=65536))
        client = self.second()
        client.go()
        client.end.full()
        # Interim responses are not bound by windows, and a slow reader's pile up.
        stream = client.request(get(b"/"))
        backend = self.accept()
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: " + bytes(range(97, 123)) * 600 + b"\r\n\r\n"
        for _ in range(30):
            backend.send(hint)
        for _ in range(3):
            client.request(get(b"/", b"other.example"))
        self.assertLess(client.end.queued, MUCH + 2 * len(hint) + HIGH)
        self.assertNotIn(client.end.wire, self.loop.readers)
        client.end.drain()
        client.go()
        self.assertIn(client.end.wire, self.loop.readers)
        backend.send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)

    def test_frames(self) -> None:
        """No DATA frame is larger than every peer takes, whatever the backend sends at once."""
        client = self.second()
        stream, backend = self.large(client, 60_000)
        backend.send(b"y" * 60_000)
        client.go()
        self.assertEqual(len(client.answers[stream].body), 60_000)
        self.assertEqual(len(client.order), -(-60_000 // FRAME))


class TimeTests(Http2Case):
    """Connections on which nothing happens."""

    def test_silent(self) -> None:
        """Who connects and says nothing is ended after `header`."""
        self.compose(timeouts=Timeouts(header=3, keepalive=20))
        client = self.second(silent=True)
        self.loop.wait(2)
        self.assertEqual(client.end.fate, "open")
        self.loop.wait(2)
        self.assertEqual(client.end.fate, "half")

    def test_preconnected(self) -> None:
        """Who has said that it speaks HTTP/2 may wait for `keepalive` with its first request."""
        self.compose(timeouts=Timeouts(header=3, keepalive=20))
        client = self.second()
        self.loop.wait(15)
        self.assertEqual(client.end.fate, "open")
        self.loop.wait(6)
        client.go()
        self.assertEqual((client.end.fate, client.gone_away), ("half", [(0, NO_ERROR)]))

    def test_keepalive(self) -> None:
        """An idle connection is told that it ends, and ends."""
        self.compose(timeouts=Timeouts(header=3, keepalive=20))
        client = self.second()
        self.loop.wait(10)
        self.assertEqual(client.end.fate, "open")
        stream = client.request()
        self.accept().send(OK)
        self.answer(client, stream)
        self.loop.wait(15)
        client.go()
        self.assertEqual((client.end.fate, client.gone_away), ("open", []))
        self.loop.wait(6)
        client.go()
        self.assertEqual((client.end.fate, client.gone_away), ("half", [(stream, NO_ERROR)]))
        client.end.close()
        self.assertEqual(client.end.fate, "closed")

    def test_busy(self) -> None:
        """A connection with a request under way is not idle."""
        self.compose(timeouts=Timeouts(header=3, keepalive=5))
        client = self.second()
        stream = client.request()
        backend = self.accept()
        self.loop.wait(15)
        backend.send(OK)
        self.assertEqual(self.answer(client, stream).status, 200)
