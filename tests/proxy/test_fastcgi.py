"""A FastCGI backend: what it is asked, what becomes of its answers, and of its faults."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from lemmytx.cluster.backend import Pool
from lemmytx.cluster.rules import Rules
from lemmytx.cluster.way import Way
from lemmytx.fastcgi.parameters import Application
from lemmytx.fastcgi.response import Response
from lemmytx.model import Timeouts
from tests.fastcgi import application
from tests.fastcgi.application import STDERR, STDOUT, Asked, end, output, record
from tests.proxy.rig import End, ProxyCase, post, split

HEAD = b"Content-Type: text/plain\r\nDate: Sat, 21 Nov 2026 00:34:07 GMT\r\n\r\n"
ANSWER = application.answer(HEAD + b"hello")
CHUNKED = b"POST /in.php HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(target: bytes = b"/a.php", fields: bytes = b"", method: bytes = b"GET") -> bytes:
    """A request without a body."""
    return method + b" " + target + b" HTTP/1.1\r\nHost: shop.example\r\n" + fields + b"\r\n"


class FastCgiCase(ProxyCase):
    """A test whose backends speak FastCGI."""

    def compose(self, *arguments: Any, settings: Application | None = None, **options: Any) -> None:
        super().compose(*arguments, **options)
        way = Way("fcgi", fastcgi=settings or Application.build("/srv", "/index.php"))
        for backend in self.backends:
            backend.way = way

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        super().setUp()

    @property
    def told(self) -> list[str]:
        """What was logged of the programs."""
        return [event["text"] + event["ended"] + event["more"] for event in self.events if "ended" in event]

    def asked(self, backend: End) -> Asked:
        """What a backend was asked, and nothing behind it."""
        request, rest = application.asked(backend.take())
        self.assertEqual(rest, b"")
        return request

    def got(self, client: End) -> tuple[bytes, bytes]:
        """Status line and body that a client got."""
        line, _, body = split(client.take())
        return line, body


class RequestTests(FastCgiCase):
    """What goes to the backend."""

    def test_get(self) -> None:
        """A request becomes variables, with what the proxy tells of the client, and an empty body."""
        client = self.client()
        client.send(get(b"/a.php/b?c", b"Accept: d\r\nX-Forwarded-For: 6.6.6.6\r\n"))
        backend = self.accept()
        request = self.asked(backend)
        assert request.variables is not None
        expected = {
            b"SCRIPT_FILENAME": b"/srv/a.php", b"PATH_INFO": b"/b", b"QUERY_STRING": b"c", b"HTTP_ACCEPT": b"d",
            b"REMOTE_ADDR": b"192.0.2.1", b"REMOTE_PORT": b"40000", b"SERVER_ADDR": b"192.0.2.254",
            b"HTTP_HOST": b"shop.example", b"HTTP_X_FORWARDED_FOR": b"192.0.2.1", b"REQUEST_URI": b"/a.php/b?c",
        }  # fmt: skip
        self.assertEqual({name: request.variables[name] for name in expected}, expected)
        self.assertNotIn(b"HTTPS", request.variables)
        self.assertEqual((request.keep, request.body, request.ended), (True, b"", True))
        backend.send(ANSWER)
        self.assertEqual(self.got(client), (b"HTTP/1.1 200 OK", b"hello"))
        self.assertEqual((self.ended, len(self.backend.idle)), ((200, "ok"), 1))

    def test_reused(self) -> None:
        """One connection carries one request after another."""
        client = self.client()
        client.send(get())
        backend = self.accept()
        for number in range(5):
            self.assertTrue(self.asked(backend).ended, number)
            backend.send(ANSWER)
            self.assertEqual(self.got(client), (b"HTTP/1.1 200 OK", b"hello"))
            client.send(get())
        backend.send(ANSWER)
        self.assertEqual((self.backend.connects, self.backend.reused, len(self.log)), (1, 5, 6))

    def test_not_kept(self) -> None:
        """Where no connection is kept, the application is told, and the connection is closed after the answer."""
        for pool, kept in ((Pool(0), 0), (Pool(requests=2), 1), (Pool(requests=1), 0)):
            self.compose(pool=pool)
            client = self.client()
            client.send(get())
            backend = self.accept()
            self.assertEqual(self.asked(backend).keep, bool(kept))
            backend.send(ANSWER)
            if kept:
                client.send(get())
                self.assertFalse(self.asked(backend).keep)
                backend.send(ANSWER)
            self.assertEqual((backend.fate, len(self.backend.idle)), ("closed", 0))

    def test_trusted(self) -> None:
        """Behind a trusted proxy the client and its HTTPS are those that it tells of."""
        import ipaddress

        self.compose(trusted=(ipaddress.ip_network("192.0.2.0/24"),))
        fields = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
        for address, expected in (
            ("192.0.2.1", (b"203.0.113.9", None, b"on", b"443")),
            ("198.51.100.1", (b"198.51.100.1", b"40000", None, b"80")),
        ):
            client = self.client(address)
            client.send(get(fields=fields))
            backend = self.network.ends[0] if self.network.ends else self.accept()
            found = self.asked(backend).variables
            assert found is not None
            names = (b"REMOTE_ADDR", b"REMOTE_PORT", b"HTTPS", b"SERVER_PORT")
            self.assertEqual(tuple(map(found.get, names)), expected)
            backend.send(ANSWER)

    def test_no_script(self) -> None:
        """A path without a script is 404, and the backend hears nothing of it."""
        self.compose(settings=Application.build("/srv"))
        client = self.client()
        client.send(get(b"/picture.jpg"))
        backend = self.accept()
        self.assertEqual((backend.got, backend.fate), (b"", "closed"))
        self.assertEqual(split(client.take())[0], b"HTTP/1.1 404 Not Found")
        self.assertEqual((self.ended, self.backend.failures), ((404, "refused"), {}))
        client.send(get(b"/a/"))
        request = self.asked(self.accept())
        assert request.variables is not None
        self.assertEqual(request.variables[b"SCRIPT_FILENAME"], b"/srv/a/index.php")
        self.network.ends[-1].send(ANSWER)

    def test_unsafe_script(self) -> None:
        """A script that php-fpm would look for in another place than its name says is 400."""
        client = self.client()
        client.send(get(b"/a%5cb.php"))
        self.assertEqual(self.accept().got, b"")
        self.assertEqual((split(client.take())[0], self.ended), (b"HTTP/1.1 400 Bad Request", (400, "refused")))


class BodyTests(FastCgiCase):
    """Bodies of requests."""

    def test_whole(self) -> None:
        """A body that came with its head goes out with it."""
        client = self.client()
        client.send(post(5) + b"12345")
        backend = self.accept()
        request = self.asked(backend)
        assert request.variables is not None
        self.assertEqual((request.variables[b"CONTENT_LENGTH"], request.body, request.ended), (b"5", b"12345", True))
        backend.send(ANSWER)

    def test_streamed(self) -> None:
        """A long body goes on as it comes; its end is the end of the stream."""
        client = self.client()
        client.send(post(300_000))
        backend = self.accept()
        wire = backend.take()
        self.assertFalse(application.asked(wire)[0].ended)
        for _ in range(3):
            client.send(b"x" * 100_000)
            self.assertTrue(backend.got)
            wire += backend.take()
        request, _ = application.asked(wire)
        self.assertEqual((len(request.body), request.ended), (300_000, True))
        backend.send(ANSWER)
        self.assertEqual(self.ended, (200, "ok"))

    def test_slow_backend(self) -> None:
        """A backend that does not take the body has the client wait, and nothing is hoarded."""
        client = self.client()
        client.send(post(10_000_000))
        backend = self.accept()
        wire = backend.take()
        backend.full()
        sent = 0
        for _ in range(50):
            client.send(b"x" * 100_000)
            sent += 100_000
        self.assertLess(backend.queued, 600_000)
        self.assertGreater(len(client.socket.incoming), 40)
        backend.drain()
        client.send(b"x" * (10_000_000 - sent))
        request, _ = application.asked(wire + backend.take())
        self.assertEqual((len(request.body), request.ended), (10_000_000, True))
        backend.send(ANSWER)
        self.assertEqual(self.ended, (200, "ok"))

    def test_stalled_backend(self) -> None:
        """A backend that takes nothing of the body for too long is given up: 504."""
        self.compose(rules=Rules(read=20, write=20))
        client = self.client()
        client.send(post(10_000_000))
        backend = self.accept()
        backend.full()
        for _ in range(10):
            client.send(b"x" * 100_000)
        self.loop.wait(100)
        self.assertEqual(self.ended, (504, "timeout_read"))
        self.assertEqual(backend.fate, "reset")

    def test_slow_but_taking(self) -> None:
        """A backend that takes a little of the body now and then is not late."""
        self.compose(rules=Rules(read=20, write=20))
        client = self.client()
        client.send(post(1_000_000))
        backend = self.accept()
        backend.full()
        for _ in range(4):
            client.send(b"x" * 250_000)
        for _ in range(5):
            self.loop.wait(15)
            backend.drain(1000)
        self.assertEqual(self.log, [])
        backend.drain()
        backend.send(ANSWER)
        self.assertEqual(self.ended, (200, "ok"))

    def test_deaf_at_the_end(self) -> None:
        """A connection that is not kept and whose backend does not read is closed after a while."""
        self.compose(pool=Pool(0))
        client = self.client()
        client.send(post(50_000))
        backend = self.accept()
        backend.full()
        client.send(b"x" * 50_000)
        backend.send(ANSWER)
        self.assertEqual((self.ended, backend.fate), ((200, "ok"), "open"))
        self.loop.wait(11)
        self.assertEqual(backend.fate, "reset")

    def test_chunked(self) -> None:
        """A body in chunks is held until its length is known, and nothing goes out before."""
        client = self.client()
        client.send(CHUNKED + b"3\r\nabc\r\n")
        backend = self.accept()
        client.send(b"2\r\nde\r\n")
        self.assertEqual(backend.got, b"")
        client.send(b"0\r\nX-Trailer: y\r\n\r\n")
        request = self.asked(backend)
        assert request.variables is not None
        self.assertEqual((request.variables[b"CONTENT_LENGTH"], request.body, request.ended), (b"5", b"abcde", True))
        self.assertNotIn(b"HTTP_TRANSFER_ENCODING", request.variables)
        backend.send(ANSWER)
        self.assertEqual((self.got(client), self.ended), ((b"HTTP/1.1 200 OK", b"hello"), (200, "ok")))
        self.assertEqual(len(self.backend.idle), 1)

    def test_chunked_whole(self) -> None:
        """A short body in chunks that is here at once goes out at once."""
        client = self.client()
        client.send(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")
        request = self.asked(self.accept())
        assert request.variables is not None
        self.assertEqual((request.variables[b"CONTENT_LENGTH"], request.body, request.ended), (b"3", b"abc", True))
        self.network.ends[0].send(ANSWER)

    def test_chunked_empty(self) -> None:
        """An empty body in chunks has a length of 0."""
        client = self.client()
        client.send(CHUNKED + b"0\r\n\r\n")
        request = self.asked(self.accept())
        assert request.variables is not None
        self.assertEqual((request.variables[b"CONTENT_LENGTH"], request.body, request.ended), (b"0", b"", True))
        self.network.ends[0].send(ANSWER)

    def test_chunked_too_long(self) -> None:
        """A body in chunks that is longer than what is held is 411, whenever that shows; the backend hears nothing."""
        self.compose(settings=Application.build("/srv", "/index.php", buffer=10))
        for pieces in (
            (CHUNKED + b"b\r\n12345678901\r\n",),
            (CHUNKED + b"b\r\n12345678901\r\n0\r\n\r\n",),
            (CHUNKED + b"a\r\n1234567890\r\n", b"1\r\n1\r\n"),
            (CHUNKED + b"a\r\n1234567890\r\n", b"1\r\n1\r\n0\r\n\r\n"),
            (CHUNKED, b"ff\r\n" + b"x" * 255 + b"\r\n"),
        ):
            client = self.client()
            client.send(pieces[0])
            backend = self.accept()
            client.send(*pieces[1:])
            self.assertEqual(split(client.take())[0][:12], b"HTTP/1.1 411", pieces)
            self.assertEqual((backend.got, backend.fate), (b"", "closed"))
            self.assertEqual((self.ended, self.backend.failures), ((411, "refused"), {}))
            self.log.clear()

    def test_chunked_too_long_in_one_turn(self) -> None:
        """What comes of a body behind the byte that was one too many, before the 411 is out, changes nothing."""
        self.compose(settings=Application.build("/srv", "/index.php", buffer=10))
        client = self.client()
        client.send(CHUNKED)
        backend = self.accept()
        client.socket.incoming.extend((b"b\r\n" + b"x" * 11 + b"\r\n", b"1\r\nx\r\n0\r\n\r\n"))
        client.wire.doRead()
        client.wire.doRead()
        self.loop.settle()
        self.assertEqual((backend.got, self.ended), (b"", (411, "refused")))

    def test_chunked_too_long_and_gone(self) -> None:
        """A client that leaves just as its body shows to be too long is gone, and that is all."""
        self.compose(settings=Application.build("/srv", "/index.php", buffer=10))
        client = self.client()
        client.send(CHUNKED)
        backend = self.accept()
        client.socket.incoming.extend((b"ff\r\n" + b"x" * 255 + b"\r\n", b""))
        client.wire.doRead()
        client.wire.doRead()
        client.wire.readConnectionLost(Failure(ConnectionDone()))
        self.loop.settle()
        self.assertEqual((self.ended, backend.fate), ((499, "client_gone"), "closed"))

    def test_chunked_longest(self) -> None:
        """A body in chunks may have exactly as many bytes as are held."""
        self.compose(settings=Application.build("/srv", "/index.php", buffer=10))
        client = self.client()
        client.send(CHUNKED + b"a\r\n1234567890\r\n", b"0\r\n\r\n")
        request = self.asked(self.accept())
        self.assertEqual(request.body, b"1234567890")
        self.network.ends[0].send(ANSWER)

    def test_chunked_broken(self) -> None:
        """A body in chunks that breaks off leaves nothing behind."""
        for ending in (lambda client: client.reset(), lambda client: client.send(b"zz\r\n")):
            client = self.client()
            client.send(CHUNKED + b"3\r\nabc\r\n")
            backend = self.accept()
            ending(client)
            self.assertEqual((backend.got, backend.fate), (b"", "closed"))
        self.assertEqual([exchange.status for exchange in self.log], [499, 400])

    def test_expectation(self) -> None:
        """A client that waits for 100 before it sends its body is told so at once, since no program would."""
        for head in (post(3, b"Expect: 100-continue\r\n"), CHUNKED[:-2] + b"Expect: 100-continue\r\n\r\n"):
            self.compose()
            client = self.client()
            client.send(head)
            backend = self.accept()
            self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
            client.send(b"abc" if b"Length" in head else b"3\r\nabc\r\n0\r\n\r\n")
            request = self.asked(backend)
            self.assertEqual((request.body, request.ended), (b"abc", True))
            backend.send(ANSWER)
            self.assertEqual(self.got(client), (b"HTTP/1.1 200 OK", b"hello"))

    def test_answered_early(self) -> None:
        """An answer before the request is whole goes to the client; the connection is not used again."""
        client = self.client()
        client.send(post(1000) + b"x")
        backend = self.accept()
        backend.send(ANSWER)
        self.assertEqual(self.got(client), (b"HTTP/1.1 200 OK", b"hello"))
        self.assertEqual((self.ended, backend.fate, len(self.backend.idle)), ((200, "ok"), "closed", 0))


class AnswerTests(FastCgiCase):
    """What becomes of answers."""

    def ask(self, request: bytes = b"") -> tuple[End, End]:
        """A client that has asked, and the backend."""
        client = self.client()
        client.send(request or get())
        backend = self.accept()
        backend.take()
        return client, backend

    def test_bytewise(self) -> None:
        """An answer that comes byte by byte is the same."""
        client, backend = self.ask()
        backend.send(*(ANSWER[at : at + 1] for at in range(len(ANSWER))))
        line, fields, body = split(client.take())
        self.assertEqual((line, fields[b"transfer-encoding"]), (b"HTTP/1.1 200 OK", b"chunked"))
        self.assertEqual(body, b"1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n")
        self.assertEqual((self.ended, len(self.backend.idle)), ((200, "ok"), 1))

    def test_whole(self) -> None:
        """An answer that is here as a whole gets its length."""
        client, backend = self.ask()
        backend.send(ANSWER)
        _, fields, body = split(client.take())
        self.assertEqual((fields[b"content-length"], body), (b"5", b"hello"))
        self.assertNotIn(b"transfer-encoding", fields)

    def test_streamed(self) -> None:
        """An answer of unknown length goes on as it comes, in chunks, or until the end for a client of HTTP/1.0."""
        client, backend = self.ask()
        backend.send(output(HEAD + b"abc"))
        self.assertEqual(split(client.got)[2], b"3\r\nabc\r\n")
        backend.send(output(b"de"), end())
        self.assertEqual(split(client.take())[2], b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        self.compose()
        client, backend = self.ask(b"GET / HTTP/1.0\r\n\r\n")
        backend.send(output(HEAD + b"abc"), output(b"de"), end())
        self.assertEqual((split(client.take())[2], client.fate), (b"abcde", "closed"))

    def test_measured(self) -> None:
        """An answer with a Content-Length keeps it; it is over when the program is."""
        client, backend = self.ask()
        backend.send(output(b"Content-Length: 5\n" + HEAD + b"hel"), output(b"lo"))
        _, fields, body = split(client.take())
        self.assertEqual((fields[b"content-length"], body, self.log), (b"5", b"hello", []))
        backend.send(end())
        self.assertEqual((client.take(), self.ended, len(self.backend.idle)), (b"", (200, "ok"), 1))

    def test_longer_than_announced(self) -> None:
        """More body than was announced is nobody's; the connection is not used again."""
        for pieces in ((output(b"Content-Length: 5\n\nhelloEXTRA") + end(),),
                       (output(b"Content-Length: 5\n\nhel"), output(b"loEX"), output(b"TRA"), end())):  # fmt: skip
            client, backend = self.ask()
            backend.send(*pieces)
            self.assertEqual(self.got(client)[1], b"hello")
            self.assertEqual((self.ended, backend.fate), ((200, "ok"), "closed"))
            self.log.clear()

    def test_shorter_than_announced(self) -> None:
        """Less body than was announced is 502, or cuts the client when it has a part of it."""
        client, backend = self.ask()
        backend.send(output(b"Content-Length: 5\n\nhel") + end())
        self.assertEqual((self.got(client)[0], self.ended), (b"HTTP/1.1 502 Bad Gateway", (502, "backend_malformed")))
        self.log.clear()
        client, backend = self.ask()
        backend.send(output(b"Content-Length: 5\n\nhel"), end())
        self.assertEqual((client.fate, self.ended), ("reset", (200, "backend_malformed")))

    def test_status(self) -> None:
        """Status and Location make the status line."""
        for head, line in (
            (b"Status: 404 Not Found\n\n", b"HTTP/1.1 404 Not Found"),
            (b"Location: /b\n\n", b"HTTP/1.1 302 Found"),
        ):
            client, backend = self.ask()
            backend.send(application.answer(head + b"x"))
            self.assertEqual(self.got(client), (line, b"x"))
            self.compose()

    def test_bodiless(self) -> None:
        """Answers that have no body have none, whatever the program writes."""
        for request, head, fields in (
            (get(method=b"HEAD"), b"A: b\n\n", {b"a": b"b"}),
            (get(method=b"HEAD"), b"Content-Length: 5\n\n", {b"content-length": b"5"}),
            (get(), b"Status: 304\nContent-Length: 5\n\n", {b"content-length": b"5"}),
            (get(), b"Status: 304\nA: b\n\n", {b"a": b"b"}),
            (get(), b"Status: 204\nContent-Length: 5\n\n", {}),
        ):
            for pieces in ((application.answer(head + b"hello"),), (output(head), output(b"hello"), end())):
                client, backend = self.ask(request)
                backend.send(*pieces)
                _, got, body = split(client.take())
                got.pop(b"date")
                self.assertEqual((got, body), (fields, b""), head)
                self.assertEqual((client.fate, len(self.backend.idle)), ("open", 1), head)
                self.compose()

    def test_slow_client(self) -> None:
        """A client that does not read has the backend wait, and nothing is hoarded."""
        client, backend = self.ask()
        backend.send(output(HEAD))
        client.full()
        for _ in range(60):
            backend.send(output(b"~" * 60_000))
        self.assertLess(client.queued, 600_000)
        self.assertGreater(len(backend.socket.incoming), 40)
        client.drain()
        backend.send(end())
        self.assertEqual(client.take().count(b"~"), 3_600_000)
        self.assertEqual((self.ended, len(self.backend.idle)), ((200, "ok"), 1))

    def test_behind_the_end(self) -> None:
        """A connection on which more came than an answer is not used again, in the same read or a later one."""
        client, backend = self.ask()
        backend.send(ANSWER + record(STDOUT, b"x"))
        self.assertEqual((self.got(client)[1], backend.fate), (b"hello", "closed"))
        client, backend = self.ask()
        backend.send(ANSWER)
        self.assertEqual(len(self.backend.idle), 1)
        backend.send(ANSWER)
        self.assertEqual((backend.fate, len(self.backend.idle)), ("reset", 0))

    def test_hop_by_hop(self) -> None:
        """What a program says about connections and framing changes nothing."""
        client, backend = self.ask()
        backend.send(application.answer(b"Connection: close\nTransfer-Encoding: chunked\nUpgrade: x\n\nabc"))
        _, fields, body = split(client.take())
        self.assertEqual((set(fields), body), ({b"content-length", b"date"}, b"abc"))
        self.assertEqual((client.fate, len(self.backend.idle)), ("open", 1))

    def test_malformed(self) -> None:
        """What is no answer is 502, and the connection is closed."""
        for data in (
            b"HTTP/1.1 200 OK\r\n\r\n",
            record(STDOUT, HEAD, request=2),
            application.answer(b"<html>\n\n"),
            application.answer(b"Status: 101 S\n\n"),
            application.answer(b"A: b\rC: d\n\n"),
            application.answer(b"A: b\n"),
            output(b"A: " + b"b" * 60000, b"b" * 6000 + b"\n\n"),
            end(255),
            end(),
            output(b"Content-") + end(0, 2),
            record(STDERR, b"oh") + end(0, 2),
        ):
            client, backend = self.ask()
            backend.send(data)
            self.assertEqual(self.got(client)[0], b"HTTP/1.1 502 Bad Gateway", data[:30])
            over = data[-16:-12] == b"\1\3\0\1"
            self.assertEqual(backend.take(), b"" if over else b"\1\2\0\1\0\0\0\0", data[:30])
            self.assertEqual((self.ended, backend.fate), ((502, "backend_malformed"), "closed"))
            self.compose()

    def test_malformed_later(self) -> None:
        """Rubbish in the middle of an answer cuts the client."""
        client, backend = self.ask()
        backend.send(output(HEAD + b"abc"), b"rubbish, not a record")
        self.assertEqual((client.fate, self.ended), ("reset", (200, "backend_malformed")))


class FaultTests(FastCgiCase):
    """Backends and clients that go away."""

    def ask(self) -> tuple[End, End]:
        """A client that has asked, and the backend."""
        client = self.client()
        client.send(get())
        backend = self.accept()
        backend.take()
        return client, backend

    def idle_upstream(self) -> tuple[End, End]:
        """A client, and a connection that has served it."""
        client, backend = self.ask()
        backend.send(ANSWER)
        client.take()
        self.log.clear()
        return client, backend

    def test_dies_before_the_head(self) -> None:
        """A worker that dies before its head is 502."""
        for how in ("close", "reset"):
            for before in (b"", output(b"Content-Ty"), record(STDERR, b"oh")):
                client, backend = self.ask()
                if before:
                    backend.send(before)
                getattr(backend, how)()
                self.assertEqual(
                    (self.got(client)[0], self.ended), (b"HTTP/1.1 502 Bad Gateway", (502, "backend_gone"))
                )
                self.compose()

    def test_dies_in_the_body(self) -> None:
        """A worker that dies in its answer cuts the client."""
        for data in (output(HEAD + b"abc"), output(b"Content-Length: 4\n\nabc")):
            for how in ("close", "reset"):
                client, backend = self.ask()
                backend.send(data)
                getattr(backend, how)()
                self.assertEqual((client.fate, self.ended), ("reset", (200, "backend_gone")))
                self.compose()

    def test_dies_behind_the_body(self) -> None:
        """A program that dies or stalls when the client has all that was announced does the answer no harm."""
        for request, data, body in (
            (get(), output(b"Content-Length: 3\n\nabc"), b"abc"),
            (get(method=b"HEAD"), output(b"Content-Length: 3\n\n"), b""),
            (get(), output(b"Status: 204\n\n"), b""),
        ):
            for how in ("close", "reset", "stall"):
                self.compose(rules=Rules(read=5))
                client = self.client()
                client.send(request)
                backend = self.accept()
                backend.send(data)
                if how == "stall":
                    self.loop.wait(6)
                else:
                    getattr(backend, how)()
                self.assertEqual((self.got(client)[1], client.fate), (body, "open"))
                self.assertEqual((self.log[0].termination, backend.fate), ("ok", "closed"))
                self.assertEqual((self.backend.failures, len(self.backend.idle)), ({}, 0))

    def test_stalls(self) -> None:
        """A program that is silent for too long is 504, or cut when it has begun; writing to STDERR is silence."""
        self.compose(rules=Rules(read=5))
        for before in (b"", record(STDERR, b"busy"), output(b"Content-")):
            client, backend = self.ask()
            for _ in range(4):
                self.loop.wait(1)
                if before:
                    backend.send(before)
            self.loop.wait(2)
            self.assertEqual(self.got(client)[0], b"HTTP/1.1 504 Gateway Timeout")
            self.assertEqual((self.ended, backend.take()), ((504, "timeout_read"), b"\1\2\0\1\0\0\0\0"))
            self.log.clear()
        client, backend = self.ask()
        backend.send(output(HEAD + b"abc"))
        for _ in range(4):
            self.loop.wait(1)
            backend.send(record(STDERR, b"busy"))
        self.loop.wait(2)
        self.assertEqual((client.fate, self.ended), ("reset", (200, "timeout_read")))

    def test_client_does_not_read(self) -> None:
        """A client that reads nothing for too long is cut; one that reads on is not held to that any more."""
        self.compose(timeouts=Timeouts(body=5), rules=Rules(read=60))
        for patient in (False, True):
            client, backend = self.ask()
            backend.send(output(HEAD))
            client.full()
            for _ in range(4):
                backend.send(output(b"~" * 60_000))
            if patient:
                self.loop.wait(3)
                client.drain()
                self.loop.wait(30)
                backend.send(end())
            else:
                self.loop.wait(8)
            self.assertEqual(client.fate, "open" if patient else "reset")
        self.assertEqual([exchange.termination for exchange in self.log], ["client_gone", "ok"])

    def test_slow_but_alive(self) -> None:
        """A program that writes a little now and then is not late."""
        self.compose(rules=Rules(read=5))
        client, backend = self.ask()
        backend.send(output(HEAD))
        for _ in range(10):
            self.loop.wait(3)
            backend.send(output(b"."))
        backend.send(end())
        self.assertEqual(client.take().count(b"1\r\n.\r\n"), 10)
        self.assertEqual(self.ended, (200, "ok"))

    def test_client_leaves(self) -> None:
        """When the client leaves, the program is told to abort, and the connection is closed."""
        for before in (b"", output(HEAD + b"abc")):
            client, backend = self.ask()
            if before:
                backend.send(before)
            client.reset()
            self.assertEqual((backend.take(), backend.fate), (b"\1\2\0\1\0\0\0\0", "closed"))
        self.assertEqual([exchange.status for exchange in self.log], [499, 200])
        self.assertEqual({exchange.termination for exchange in self.log}, {"client_gone"})
        self.assertEqual(self.backend.failures, {})

    def test_client_leaves_a_deaf_backend(self) -> None:
        """Nothing waits for a backend to read an abort behind a body that it does not read."""
        client = self.client()
        client.send(post(1_000_000))
        backend = self.accept()
        backend.full()
        client.send(b"x" * 50_000)
        self.assertGreater(backend.queued, 0)
        client.reset()
        self.assertEqual(backend.fate, "reset")

    def test_keep_alive_race(self) -> None:
        """A kept connection that dies as a request goes out costs a new connection and nothing else."""
        client, backend = self.idle_upstream()
        client.send(get())
        backend.close()
        second = self.accept()
        self.assertTrue(self.asked(second).ended)
        second.send(ANSWER)
        self.assertEqual((self.got(client)[1], self.ended, self.backend.failures), (b"hello", (200, "ok"), {}))

    def test_closed_while_idle(self) -> None:
        """A kept connection that the backend closes leaves the pool; a POST never meets one that is closed."""
        client, backend = self.idle_upstream()
        backend.close()
        self.assertEqual((len(self.backend.idle), backend.fate), (0, "closed"))
        client, backend = self.idle_upstream()
        backend.socket.incoming.append(b"")
        client.send(post(1) + b"x")
        self.assertEqual(self.asked(self.accept()).body, b"x")
        self.network.ends[-1].send(ANSWER)

    def test_idle_too_long(self) -> None:
        """A kept connection is closed when nobody has needed it for a while."""
        self.compose(pool=Pool(idle_time=5))
        _, backend = self.idle_upstream()
        self.loop.wait(6)
        self.assertEqual((backend.fate, len(self.backend.idle)), ("closed", 0))

    def test_turned_away(self) -> None:
        """An application that has no room on a kept connection is asked once more on a new one, even with a POST."""
        for request in (get(), post(3) + b"abc"):
            for status in (1, 2, 3):
                client, backend = self.idle_upstream()
                client.send(request)
                backend.send(end(0, status))
                self.assertEqual(backend.fate, "closed")
                second = self.accept()
                self.assertTrue(self.asked(second).ended)
                second.send(ANSWER)
                self.assertEqual((self.got(client)[1], self.ended), (b"hello", (200, "ok")))
                self.compose()

    def test_turned_away_twice(self) -> None:
        """An application that has no room on a second connection either is 502."""
        client, backend = self.ask()
        backend.send(end(0, 2))
        backend = self.accept()
        backend.send(end(0, 2))
        self.assertEqual((self.got(client)[0], self.ended), (b"HTTP/1.1 502 Bad Gateway", (502, "backend_gone")))
        self.assertEqual(backend.fate, "closed")

    def test_early_bytes(self) -> None:
        """Bytes that come before the request has gone out cannot be its answer."""
        client = self.client()
        client.send(CHUNKED + b"3\r\nabc\r\n")
        backend = self.accept()
        backend.send(ANSWER)
        self.assertEqual((self.got(client)[0], self.ended), (b"HTTP/1.1 502 Bad Gateway", (502, "backend_malformed")))

    def test_tried_instead(self) -> None:
        """An answer whose status is worth another attempt is dropped, and another backend asked."""
        for pieces in ((application.answer(b"Status: 503\n\nbusy"),), (output(b"Status: 503\n\nbu"),)):
            self.compose(backends=2, rules=Rules(retry_on=frozenset((503,)), attempts=2))
            client, first = self.ask()
            first.send(*pieces)
            second = self.accept()
            second.send(ANSWER)
            self.assertEqual((self.got(client), first.fate), ((b"HTTP/1.1 200 OK", b"hello"), "closed"))

    def test_error_of_our_own(self) -> None:
        """An error of our own ends one exchange, and is logged."""
        client, backend = self.ask()
        self.patch(Response, "feed", lambda response, data: 1 / 0)
        backend.send(output(HEAD))
        self.assertEqual(self.ended, (500, "error"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.got(client)[0], b"HTTP/1.1 500 Internal Server Error")


class LogTests(FastCgiCase):
    """What programs write to STDERR."""

    def serve(self, *pieces: bytes) -> None:
        """One exchange with this answer."""
        client = self.client()
        client.send(get())
        backend = self.accept() if self.network.dialled else self.network.ends[-1]
        backend.send(*pieces)

    def test_line(self) -> None:
        """It is logged in one line, and nothing of it gets to the client."""
        self.serve(
            record(STDERR, b"PHP Warning:  x\nin y"), output(HEAD), record(STDERR, b" on line 3\n\0\x1b[31m"), end()
        )
        self.assertEqual(self.told, ["PHP Warning:  x | in y on line 3 | \\x00\\x1b[31m"])
        self.assertEqual(self.ended, (200, "ok"))
        self.assertNotIn(b"Warning", self.clients[0].got)
        self.assertEqual(
            {name: event[name] for event in self.events if "ended" in event for name in ("backend", "target")},
            {"backend": "b1", "target": "/a.php"},
        )

    def test_silent(self) -> None:
        """A program that has nothing to say and ends well leaves no line."""
        self.serve(ANSWER)
        self.assertEqual(self.told, [])

    def test_exit_status(self) -> None:
        """A program that ends badly leaves a line."""
        self.serve(output(HEAD), end(255))
        self.serve(record(STDERR, b"fatal"), output(HEAD), end(1))
        self.assertEqual(self.told, ["nothing on STDERR; ended with status 255", "fatal; ended with status 1"])

    def test_flood(self) -> None:
        """Of a flood the beginning is logged, and how much it was."""
        self.serve(*[record(STDERR, b"e" * 60_000)] * 10, output(HEAD), end())
        self.assertEqual(self.told, ["e" * 4096 + " (and 595904 bytes more)"])

    def test_many_requests(self) -> None:
        """Only so many lines are logged in a second; the next one says how many were not."""
        for _ in range(15):
            self.serve(record(STDERR, b"oh"), ANSWER)
        self.assertEqual(self.told, ["oh"] * 10)
        self.loop.wait(1.5)
        self.serve(record(STDERR, b"oh"), ANSWER)
        self.assertEqual(self.told[10:], ["oh (and 5 other requests' lines were left out)"])

    def test_last_words(self) -> None:
        """What a program wrote before it died, stalled, wrote rubbish or was not wanted any more is logged, too."""
        self.compose(rules=Rules(read=5))
        for ending in ("die", "stall", "rubbish", "leave"):
            client = self.client()
            client.send(get())
            backend = self.accept()
            backend.send(record(STDERR, ending.encode()))
            if ending == "die":
                backend.reset()
            elif ending == "stall":
                self.loop.wait(6)
            elif ending == "rubbish":
                backend.send(b"rubbish, no record")
            else:
                client.reset()
        self.assertEqual(self.told, ["die", "stall", "rubbish", "leave"])
