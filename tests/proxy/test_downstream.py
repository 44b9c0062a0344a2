"""The client's side of the data path: order and framing of requests and responses."""

from __future__ import annotations

from lemmytx.model import Limits
from lemmytx.proxy.downstream import LINGER_BYTES, LINGER_TIME
from lemmytx.proxy.intake import CONTINUE_AFTER
from tests.proxy.rig import GET, OK, ProxyCase, post, split


class KeepAliveTests(ProxyCase):
    """One request after the other on a connection."""

    def test_severalRequests(self) -> None:
        """A connection carries many requests, and so does the upstream behind it."""
        client, backend = self.idle()
        for _ in range(3):
            client.send(GET)
            self.assertEqual(split(backend.take())[0], b"GET / HTTP/1.1")
            backend.send(OK)
            self.assertEqual(client.take(), OK)
        self.assertEqual(len(self.network.ends), 1)
        self.assertEqual(client.fate, "open")

    def test_close(self) -> None:
        """`Connection: close` of the client is answered in kind, and the connection ends."""
        client = self.client()
        client.send(GET[:-2] + b"Connection: close\r\n\r\n")
        self.accept().send(OK)
        first, fields, body = split(client.got)
        self.assertEqual((first, fields[b"connection"], body), (b"HTTP/1.1 200 OK", b"close", b"hello"))
        self.assertEqual(client.fate, "closed")

    def test_pipelined(self) -> None:
        """Requests that arrive in one read are served one by one, in their order."""
        client = self.client()
        client.send(b"".join(GET.replace(b"/ ", b"/%d " % number) for number in range(3)))
        backend = self.accept()
        for number in range(3):
            self.assertEqual(split(backend.take())[0], b"GET /%d HTTP/1.1" % number)
            backend.send(OK.replace(b"hello", b"hell%d" % number))
            self.assertEqual(split(client.take())[2], b"hell%d" % number)

    def test_pipelinedWaits(self) -> None:
        """What a client sends ahead beyond a bound stays unread in the kernel, and is read when its turn comes."""
        client = self.client()
        large = GET[:-2] + b"X: " + b"x" * 10_000 + b"\r\n\r\n"
        client.send(*([large] * 20))
        backend = self.accept()
        self.assertGreater(len(client.socket.incoming), 10)
        for number in range(20):
            self.assertEqual(split(backend.take())[0], b"GET / HTTP/1.1", number)
            backend.send(OK)
        self.assertFalse(client.socket.readable)
        self.assertEqual(client.got, OK * 20)

    def test_leavesBehindWhatItSentAhead(self) -> None:
        """A client that leaves although it has sent another request ahead is heard."""
        client = self.client()
        client.send(GET + GET)
        backend = self.accept()
        client.reset()
        self.assertEqual((backend.fate, self.ended), ("reset", (499, "client_gone")))

    def test_pipelinedErrors(self) -> None:
        """Replies of our own keep the order too, however many there are in one read."""
        self.compose(hosts=("shop.example",))
        client = self.client()
        client.send(GET.replace(b"shop", b"other") * 300)
        self.assertEqual(client.got.count(b"HTTP/1.1 404 Not Found\r\n"), 300)
        self.assertEqual(client.fate, "open")

    def test_pipelinedErrorsBehindAnAnswer(self) -> None:
        """The same behind a request that has to wait, in any number; the connection goes on afterwards."""
        self.compose(hosts=("shop.example",))
        client, backend = self.idle()
        for number in (*range(48, 53), 100, 150):
            client.send(GET, GET.replace(b"shop", b"other") * number)
            backend.send(OK)
            self.assertEqual(client.take().count(b"HTTP/1.1 404 Not Found\r\n"), number)
            client.send(GET)
            backend.send(OK)
            self.assertEqual(client.take(), OK)

    def test_pipelinedPart(self) -> None:
        """Part of a second request behind the first is completed by a later read."""
        client, backend = self.idle()
        client.send(GET + GET[:9])
        backend.send(OK)
        client.send(GET[9:])
        backend.send(OK)
        self.assertEqual(client.got, OK * 2)

    def test_pipelinedPartTooLate(self) -> None:
        """The part of a second request has the time of a head, from when it could be looked at."""
        client, backend = self.idle()
        client.send(GET + GET[:9])
        self.loop.wait(9)
        backend.send(OK)
        client.take()
        self.loop.wait(9)
        self.assertEqual(client.got, b"")
        self.loop.wait(2)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 408 Request Timeout")

    def test_pipelinedBodies(self) -> None:
        """A body and the request behind it are told apart, with a length and with chunks."""
        client, backend = self.idle()
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n"
        client.send(post(3) + b"abc" + chunked + GET)
        self.assertEqual(split(backend.take())[2], b"abc")
        backend.send(OK)
        self.assertEqual(split(backend.take())[2], b"3\r\nxyz\r\n0\r\n\r\n")
        backend.send(OK)
        self.assertEqual(split(backend.take())[0], b"GET / HTTP/1.1")
        backend.send(OK)
        self.assertEqual(client.got, OK * 3)

    def test_pipelinedBehindALateBody(self) -> None:
        """The request behind a body that came in pieces waits for the answer to the first."""
        client, backend = self.idle()
        client.send(post(6) + b"ab", b"cdef" + GET)
        self.assertEqual(split(backend.take())[2], b"abcdef")
        backend.send(OK)
        self.assertEqual(split(backend.take())[0], b"GET / HTTP/1.1")
        backend.send(OK)
        self.assertEqual(client.got, OK * 2)

    def test_headByteByByte(self) -> None:
        """A head may come in single bytes."""
        client = self.client()
        client.send(*(GET[at : at + 1] for at in range(len(GET))))
        self.accept().send(OK)
        self.assertEqual(client.got, OK)

    def test_emptyLinesBetween(self) -> None:
        """An empty line before a request is no request (RFC 9112 §2.2)."""
        client, backend = self.idle()
        client.send(b"\r\n" + GET)
        backend.send(OK)
        self.assertEqual(client.got, OK)

    def test_malformed(self) -> None:
        """What is no HTTP is answered with 400 and the end of the connection, counted, and reaches no backend."""
        client, backend = self.idle()
        client.send(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + GET)
        first, fields, _ = split(client.got)
        self.assertEqual((first, fields[b"connection"]), (b"HTTP/1.1 400 Bad Request", b"close"))
        self.assertEqual((client.fate, backend.got), ("half", b""))
        self.assertEqual([(r.status, r.client) for r in self.rejections], [(400, "192.0.2.1")])
        self.assertEqual(self.resource.unrouted.statuses, {400: 1})
        client.close()
        self.assertEqual(client.fate, "closed")

    def test_headTooLong(self) -> None:
        """A head beyond the limit is refused while it comes in, with or without line ends."""
        self.compose(limits=Limits(header_size=1024))
        for piece in (b"x", b"A: b\r\n"):
            client = self.client()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", *([piece * 100] * 20))
            self.assertIn(split(client.got)[0].split()[1], (b"431", b"400"))
            client.reset()


class VersionTests(ProxyCase):
    """Clients of HTTP/1.0."""

    def test_closes(self) -> None:
        """HTTP/1.0 without keep-alive gets its answer and the end of the connection."""
        client = self.client()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        backend = self.accept()
        first, fields, _ = split(backend.take())
        self.assertEqual((first, fields[b"host"]), (b"GET / HTTP/1.1", b"10.0.0.1:8000"))
        backend.send(OK)
        self.assertEqual(split(client.got)[1][b"connection"], b"close")
        self.assertEqual(client.fate, "closed")

    def test_keepAlive(self) -> None:
        """HTTP/1.0 with keep-alive keeps the connection and is told so."""
        client = self.client()
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        self.accept().send(OK)
        self.assertEqual(split(client.got)[1][b"connection"], b"keep-alive")
        self.assertEqual(client.fate, "open")

    def test_chunkedResponse(self) -> None:
        """Chunks of the backend reach an HTTP/1.0 client as plain bytes that end with the connection."""
        for pieces in ([b"3\r\nabc\r\n0\r\n\r\n"], [b"3\r\nab", b"c\r\n0\r\n", b"\r\n"]):
            client = self.client()
            client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            backend = self.accept() if self.network.dialled else self.network.ends[-1]
            backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces[0], *pieces[1:])
            _, fields, body = split(client.got)
            self.assertEqual(body, b"abc")
            self.assertNotIn(b"transfer-encoding", fields)
            self.assertEqual(fields[b"connection"], b"close")
            self.assertEqual(client.fate, "closed")

    def test_noInterim(self) -> None:
        """An HTTP/1.0 client never sees an interim response (RFC 9110 §15.2)."""
        client = self.client()
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        self.accept().send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 200 OK")


class BodyTests(ProxyCase):
    """Bodies of requests."""

    def test_length(self) -> None:
        """A body with a length goes out as it comes in, piece by piece, in one request."""
        client, backend = self.idle()
        client.send(post(6) + b"ab")
        self.assertEqual(split(backend.take())[2], b"ab")
        client.send(b"cd")
        self.assertEqual(backend.take(), b"cd")
        client.send(b"ef")
        self.assertEqual(backend.take(), b"ef")
        backend.send(OK)
        self.assertEqual(client.got, OK)
        self.assertEqual((self.log[0].received, self.log[0].sent), (6, 5))

    def test_chunked(self) -> None:
        """A chunked body is framed anew; trailers are kept, extensions dropped."""
        client, backend = self.idle()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nab", b"c\r\n")
        client.send(b"0\r\nX-Sum: 1\r\n\r\n")
        _, fields, body = split(backend.take())
        self.assertEqual(fields[b"transfer-encoding"], b"chunked")
        self.assertEqual(body, b"2\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 1\r\n\r\n")
        backend.send(OK)
        self.assertEqual(client.got, OK)
        self.assertEqual(self.log[0].received, 3)

    def test_emptyChunked(self) -> None:
        """A chunked body of nothing is that also for the backend."""
        client, backend = self.idle()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        self.assertEqual(split(backend.take())[2], b"0\r\n\r\n")
        backend.send(OK)

    def test_tooLong(self) -> None:
        """A body beyond limits.body_size is refused by its length, and in chunks when it gets there."""
        self.compose(limits=Limits(body_size=10))
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for pieces in ([post(11)], [chunked + b"b\r\nhello world\r\n0\r\n\r\n"]):
            client = self.client()
            client.send(*pieces)
            self.assertEqual(split(client.got)[0], b"HTTP/1.1 413 Content Too Large")
            self.assertEqual(client.fate, "half")
            client.reset()
        self.assertEqual([r.status for r in self.rejections], [413, 413])
        client = self.client()
        client.send(chunked + b"8\r\n12345678\r\n")
        backend = self.accept()
        client.send(b"3\r\nabc\r\n")
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 413 Content Too Large")
        self.assertEqual((backend.fate, self.ended), ("reset", (413, "refused")))
        self.assertEqual(self.backend.failures, {})

    def test_badChunks(self) -> None:
        """A body that stops being chunked ends both connections; the backend is not blamed."""
        client, backend = self.idle()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"nonsense\r\n")
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 400 Bad Request")
        self.assertEqual((client.fate, backend.fate), ("half", "reset"))
        self.assertEqual((self.ended, self.backend.failures), ((400, "refused"), {}))

    def test_badChunksDuringTheResponse(self) -> None:
        """The same when the response has begun: the client is cut, since there is no other answer any more."""
        client, backend = self.idle()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        client.send(b"nonsense\r\n")
        self.assertEqual((client.fate, backend.fate), ("reset", "reset"))
        self.assertEqual(self.ended, (200, "refused"))

    def test_slowBackend(self) -> None:
        """While the backend takes nothing the client is not read; what is held for it is bounded."""
        client, backend = self.idle()
        client.send(post(10_000_000))
        backend.full()
        for _ in range(20):
            client.send(b"x" * 65536)
        self.assertGreater(len(client.socket.incoming), 10)
        self.assertLess(backend.queued, 300_000)
        total = 20 * 65536
        backend.drain()
        self.assertEqual(len(split(backend.got)[2]), total)
        self.assertFalse(client.socket.incoming)
        client.reset()
        self.assertEqual(self.ended, (499, "client_gone"))

    def test_slowBackendAtTheEnd(self) -> None:
        """A backend that was slow to the last byte of a body leaves a connection that goes on with the next request."""
        client, backend = self.idle()
        client.send(post(200_000) + b"x" * 100_000)
        backend.full()
        client.send(b"x" * 100_000)
        backend.drain()
        backend.take()
        backend.send(OK)
        self.assertEqual(client.take(), OK)
        client.send(GET)
        self.assertEqual(split(backend.take())[0], b"GET / HTTP/1.1")
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_backendTakesNothing(self) -> None:
        """A backend that takes nothing of a body for the time to write has failed: 504."""
        client, backend = self.idle()
        client.send(post(10_000_000))
        backend.full()
        client.send(b"x" * 65536, b"x" * 65536)
        self.loop.wait(7)
        self.assertEqual(client.got, b"")
        self.loop.wait(2)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 504 Gateway Timeout")
        self.assertEqual((self.ended, self.backend.failures), ((504, "timeout_read"), {"timeout": 1}))

    def test_backendTakesLittle(self) -> None:
        """A backend that takes a body slowly, but takes it, is given the time it needs."""
        client, backend = self.idle()
        client.send(post(400_000))
        backend.full()
        client.send(*([b"x" * 100_000] * 2))
        for _ in range(10):
            self.loop.wait(6)
            backend.drain(10_000)
        self.assertEqual(client.got, b"")
        backend.drain()
        client.send(*([b"x" * 100_000] * 2))
        backend.send(OK)
        self.assertEqual(client.got, OK)

    def test_longUploadOnAReusedConnection(self) -> None:
        """An upload may take longer than the time that its upstream might still have been idle."""
        client, backend = self.idle()
        client.send(post(60))
        for _ in range(6):
            self.loop.wait(10)
            client.send(b"x" * 10)
        self.assertEqual(client.got, b"")
        backend.send(OK)
        self.assertEqual(client.got, OK)


class ExpectTests(ProxyCase):
    """`Expect: 100-continue` (RFC 9110 §10.1.1)."""

    HEAD = post(4, b"Expect: 100-continue\r\n")

    def test_relayed(self) -> None:
        """The expectation reaches the backend, its 100 the client, the body the backend."""
        client, backend = self.idle()
        client.send(self.HEAD)
        self.assertIn(b"Expect: 100-continue\r\n", backend.take())
        self.assertEqual(client.got, b"")
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"body")
        self.assertEqual(backend.take(), b"body")
        backend.send(OK)
        self.assertEqual(client.got, OK)
        self.assertEqual(client.fate, "open")

    def test_silentBackend(self) -> None:
        """A backend that is silent on it for a second does not stop the client: we ask for the body, once."""
        client, backend = self.idle()
        client.send(self.HEAD)
        self.loop.wait(CONTINUE_AFTER - 0.1)
        self.assertEqual(client.got, b"")
        self.loop.wait(0.7)
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(client.got, b"")
        client.send(b"body")
        backend.send(OK)
        self.assertEqual(client.got, OK)

    def test_newConnection(self) -> None:
        """The second counts from when the backend is connected."""
        client = self.client()
        client.send(self.HEAD)
        self.loop.wait(2)
        self.assertEqual(client.got, b"")
        backend = self.accept()
        self.assertEqual(client.got, b"")
        self.loop.wait(1.7)
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"body")
        backend.send(OK)

    def test_finalAnswer(self) -> None:
        """A final answer instead of the 100 reaches the client, which may not send its body any more: it closes."""
        client, backend = self.idle()
        client.send(self.HEAD)
        backend.send(OK.replace(b"200 OK", b"417 Expectation Failed"))
        first, fields, _ = split(client.got)
        self.assertEqual((first, fields[b"connection"]), (b"HTTP/1.1 417 Expectation Failed", b"close"))
        self.assertEqual((client.fate, backend.fate), ("half", "reset"))
        client.close()
        self.assertEqual(client.fate, "closed")

    def test_impatientClient(self) -> None:
        """A client that does not wait is served as well, and a late 100 is not shown to it."""
        client, backend = self.idle()
        client.send(self.HEAD)
        client.send(b"body")
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n", OK)
        self.assertEqual(client.got, OK)

    def test_neverAsked(self) -> None:
        """A 100 that nobody expects is dropped."""
        client, backend = self.idle()
        client.send(post(4) + b"body")
        backend.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assertEqual(client.got, OK)

    def test_noBodyComes(self) -> None:
        """After our own 100 the body has the time that bodies have."""
        client, backend = self.idle()
        client.send(self.HEAD)
        self.loop.wait(1.7)
        client.take()
        self.loop.wait(28)
        self.assertEqual(client.got, b"")
        self.loop.wait(3)
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 408 Request Timeout")
        self.assertEqual((self.ended, backend.fate), ((408, "timeout_body"), "reset"))


class InterimTests(ProxyCase):
    """Interim responses (RFC 9110 §15.2)."""

    def test_passedThrough(self) -> None:
        """103 and others reach the client before the answer, with their fields."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        backend.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        self.assertEqual(client.take(), b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK)


class EarlyAnswerTests(ProxyCase):
    """Answers before the request is whole."""

    def test_lingers(self) -> None:
        """The answer says close; our half is closed, what still comes is thrown away until the client closes."""
        client, backend = self.idle()
        client.send(post(1_000_000) + b"x" * 1000)
        backend.send(OK)
        self.assertEqual(split(client.got)[1][b"connection"], b"close")
        self.assertEqual((client.fate, backend.fate), ("half", "reset"))
        self.assertEqual(self.ended, (200, "ok"))
        client.send(b"x" * 100_000, GET)
        self.assertEqual(split(client.got)[2], b"hello")
        client.close()
        self.assertEqual(client.fate, "closed")

    def test_notForEver(self) -> None:
        """A client that neither closes nor stops is cut after the time to linger."""
        client, backend = self.idle()
        client.send(post(1_000_000))
        backend.send(OK)
        self.loop.wait(LINGER_TIME - 0.1)
        self.assertEqual(client.fate, "half")
        self.loop.wait(0.7)
        self.assertEqual(client.fate, "reset")

    def test_notForAnySize(self) -> None:
        """Nor does anybody send gigabytes to a request that is over."""
        client, backend = self.idle()
        client.send(post(1 << 40))
        backend.send(OK)
        client.send(*([b"x" * (1 << 20)] * (LINGER_BYTES >> 20)))
        self.assertEqual(client.fate, "half")
        client.send(b"x")
        self.assertEqual(client.fate, "reset")

    def test_streamed(self) -> None:
        """An answer that begins early and goes on while the body still comes works; then the connection ends."""
        client, backend = self.idle()
        client.send(post(8) + b"1234")
        backend.take()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nabcd")
        client.send(b"5678")
        self.assertEqual(backend.take(), b"5678")
        backend.send(b"efgh")
        _, fields, body = split(client.got)
        self.assertEqual((fields[b"connection"], body), (b"close", b"abcdefgh"))
        self.assertEqual(client.fate, "closed")

    def test_notFound(self) -> None:
        """A request that goes nowhere is answered at once, whatever of its body is still to come."""
        self.compose(hosts=("other.example",))
        client = self.client()
        client.send(post(100))
        self.assertEqual(split(client.got)[0], b"HTTP/1.1 404 Not Found")
        self.assertEqual(client.fate, "half")
        self.assertEqual(self.ended, (404, "no_route"))

    def test_slowReaderIsNotCut(self) -> None:
        """A client that is still reading the answer is not cut by the time to linger."""
        client, backend = self.idle()
        client.send(post(100))
        client.full()
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000)
        for _ in range(6):
            self.loop.wait(4)
            client.drain(10_000)
        client.drain()
        self.assertEqual(len(split(client.got)[2]), 60000)
        self.assertNotEqual(client.fate, "reset")


class ShapeTests(ProxyCase):
    """What the proxy keeps of the response."""

    def test_head(self) -> None:
        """An answer to HEAD has a length and no body, and the connection stays in step."""
        client, backend = self.idle()
        client.send(GET.replace(b"GET", b"HEAD") + GET)
        backend.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 1000\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 1000\r\n\r\n")
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_bodiless(self) -> None:
        """204 and 304 have no body, whatever their fields say."""
        client, backend = self.idle()
        for status in (b"204 No Content", b"304 Not Modified"):
            client.send(GET)
            backend.send(b"HTTP/1.1 " + status + b"\r\nDate: x\r\nETag: 1\r\n\r\n")
            self.assertEqual(client.take(), b"HTTP/1.1 " + status + b"\r\nDate: x\r\nETag: 1\r\n\r\n")

    def test_chunkedByPieces(self) -> None:
        """A chunked response is framed anew, its trailers kept."""
        client, backend = self.idle()
        client.send(GET)
        head = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        backend.send(head + b"5\r\nhe", b"llo\r\n0\r\nX-S: 1\r\n\r\n")
        self.assertEqual(split(client.got)[2], b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX-S: 1\r\n\r\n")
        self.assertEqual(self.log[0].sent, 5)
        self.assertEqual(len(self.backend.idle), 1)

    def test_dateAdded(self) -> None:
        """A response without Date gets one (RFC 9110 §6.6.1), one that has it keeps it."""
        client, backend = self.idle()
        client.send(GET)
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"\r\nDate: ", client.take())
        client.send(GET)
        backend.send(OK)
        self.assertEqual(client.take(), OK)

    def test_repliesByAccept(self) -> None:
        """A reply of ours is JSON where the client prefers it, carries the id, and no body for HEAD."""
        self.compose(hosts=("other.example",))
        client = self.client()
        client.send(GET[:-2] + b"Accept: application/json\r\n\r\n")
        _, fields, body = split(client.take())
        self.assertEqual(fields[b"content-type"], b"application/json")
        self.assertIn(self.log[0].request_id, body)
        client.send(GET.replace(b"GET", b"HEAD"))
        self.assertEqual(split(client.take())[2], b"")
        self.assertEqual(client.fate, "open")
