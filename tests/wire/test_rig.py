"""
The tools of the wire tests themselves: what they must notice, they notice.
"""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.wire import requests, responses
from tests.wire.reading import Malformed, Message, read_request, read_response
from tests.wire.rig import counters
from tests.wire.rows import HOST, Sent
from tests.wire.sockets import Backend, Client, Loop, unread
from tests.wire.talk import FOLLOW, Talk, hold, positions

_ADDED = (
    b"Via: 1.1 x\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
    b"X-Forwarded-Host: a.example\r\nX-Request-ID: 0123456789\r\n"
)


def _request(data: bytes) -> Message:
    message = read_request(data)
    assert message is not None
    return message


class ReadingTests(SynchronousTestCase):
    """The strict reader."""

    def test_ambiguous_requests_are_refused(self) -> None:
        """What two readers could read in two ways is no request to the backend of these tests."""
        for lines in (
            b"Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
            b"Host: a\r\nContent-Length: +5\r\n",
            b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            b"Host: a\r\nX : y\r\n",
            b"Host: a\r\nX: y\r\n z\r\n",
            b"Host: a\r\nX: y\rz\r\n",
            b"Host: a\r\nX: y\nz\r\n",
            b"Host: a\r\nHost: a\r\n",
            b"",
        ):
            self.assertRaises(Malformed, read_request, b"GET / HTTP/1.1\r\n" + lines + b"\r\n")

    def test_bad_chunks_are_refused(self) -> None:
        """A chunk size that is not plain, and a chunk that does not end where it must, are refused."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for body in (b"0x5\r\nhello", b" 5\r\nhello", b"5;a\r\nhello", b"5\r\nhello!\r\n", b"\r\n"):
            self.assertRaises(Malformed, read_request, head + body)

    def test_a_body_is_read_to_its_end(self) -> None:
        """A chunked body is complete with its last chunk and trailers, and not one byte earlier."""
        data = (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n"
        )
        message = _request(data + b"GET")
        self.assertEqual(message.body, b"hello")
        self.assertEqual(message.trailers, [(b"X-Sum", b"1")])
        self.assertEqual(message.size, len(data))
        for end in range(data.index(b"\r\n\r\n") + 4, len(data)):
            self.assertFalse(_request(data[:end]).complete, end)

    def test_a_cut_response_is_not_complete(self) -> None:
        """A response that the end of the connection cuts is not taken for a whole one."""
        for head in (b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n"):
            message = read_response(b"HTTP/1.1 200 OK\r\n" + head + b"hello", False, True)
            assert message is not None
            self.assertFalse(message.complete)


class SentTests(SynchronousTestCase):
    """What is held against what the backend got."""

    must = Sent(b"GET / HTTP/1.1", (b"A: b",))

    def _differences(self, lines: bytes) -> list[str]:
        return self.must.differences(_request(b"GET / HTTP/1.1\r\nHost: " + HOST + b"\r\n" + lines + b"\r\n"))

    def test_a_request_as_it_must_be(self) -> None:
        """There is nothing to say about a request that is as it must be."""
        self.assertEqual(self._differences(b"A: b\r\n" + _ADDED), [])

    def test_differences_are_told(self) -> None:
        """Every field that is missing, too much or wrong is told."""
        for lines in (
            _ADDED,
            b"A: b\r\nC: d\r\n" + _ADDED,
            b"A: b\r\nX-Forwarded-For: 192.0.2.1\r\n" + _ADDED,
            b"A: b\r\nForwarded: for=192.0.2.1\r\n" + _ADDED,
            b"A: b\r\nUpgrade: h2c\r\n" + _ADDED,
            b"A: b\r\nConnection: x-hop\r\n" + _ADDED,
            b"A: b\r\nX-Request-ID: spoofed-1\r\n" + _ADDED,
            b"A: b\r\n" + _ADDED.replace(b"Via: 1.1 x\r\n", b""),
        ):
            self.assertEqual(len(self._differences(lines)), 1, lines)


class SocketTests(SynchronousTestCase):
    """Sockets, and what the kernel says of them."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.backend = Backend(self.loop)
        self.addCleanup(self.backend.close)

    def test_unread_bytes_are_seen(self) -> None:
        """Bytes that nobody has read are counted, also those of a connection not accepted yet, until somebody has."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"hello")
                self.assertEqual(unread(mine=port), 5)
                with server.accept()[0] as accepted:
                    self.assertEqual(unread(mine=port), 5)
                    self.assertEqual(unread(peer=port), 0)
                    accepted.recv(2)
                    self.assertEqual(unread(mine=port), 3)
                    accepted.recv(3)
                    self.assertEqual(unread(mine=port), 0)

    def _ending_of(self, data: bytes, finals: int = 1) -> str:
        talk = Talk(self.loop, self.backend.port, data, finals=finals)
        talk.send(0, None)
        return hold(self.loop, [talk], 0.5)[0].outcome

    def test_outcomes(self) -> None:
        """An answer, a cut answer, a reset, silence and nonsense are told from one another."""
        head = b"GET %b HTTP/1.1\r\nHost: a.example\r\n\r\n"
        says = {
            b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            b"/closed": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
            b"/nonsense": b"nonsense\r\n\r\n",
            b"/none": b"",
        }
        silent: list[Message] = []
        serve = self.backend.script

        def script(side: object, message: Message) -> None:
            path = message.start.split(b" ")[1]
            (one,) = [one for one in self.backend.sides if one is side]
            if path == b"/silent":
                silent.append(message)
            elif path in says:
                one.write(says[path])
                one.finish()
            elif path == b"/reset":
                one.reset()
            else:
                serve(one, message)
                if path == b"/follow":
                    one.finish()

        self.backend.script = script
        self.assertEqual(self._ending_of(head % b"/"), "200/open")
        self.assertEqual(self._ending_of(head % b"/cut"), "200/cut")
        self.assertEqual(self._ending_of(head % b"/closed"), "200/closed")
        self.assertEqual(self._ending_of(head % b"/none"), "none/closed")
        self.assertEqual(self._ending_of(head % b"/reset"), "none/reset")
        self.assertEqual(self._ending_of(head % b"/nonsense"), "none/garbage")
        self.assertEqual(self._ending_of(head % b"/silent"), "none/silent")
        self.assertEqual(len(silent), 1)

    def test_a_cut_reaches_the_reader_as_two(self) -> None:
        """A message that is cut arrives in two pieces when the first is waited for."""
        client = Client(self.loop, self.backend.port)
        client.write(FOLLOW[:20])
        self.assertTrue(self.loop.until(lambda: bool(self.backend.sides) and len(self.backend.sides[0].received) == 20))
        self.assertEqual(self.backend.requests, [])
        client.write(FOLLOW[20:])
        self.assertTrue(self.loop.until(lambda: client.finals == 1))
        client.close()


class TableTests(SynchronousTestCase):
    """The tables as such."""

    def test_sizes(self) -> None:
        """There are as many rows as were asked for, and no two of a table have one name."""
        for rows, least in ((requests.ROWS, 150), (responses.ROWS, 60)):
            names = [row.name for row in rows]
            self.assertGreaterEqual(len(names), least)
            self.assertEqual(len(set(names)), len(names))

    def test_cuts(self) -> None:
        """A short message is cut everywhere; a long one at both of its ends and at places between."""
        self.assertEqual(positions(5), [1, 2, 3, 4])
        places = positions(70000)
        self.assertLess(len(places), 110)
        self.assertEqual((places[0], places[-1]), (1, 69999))

    def test_counters(self) -> None:
        """Counters are found wherever they stand in the statistics."""
        stats = {
            "exchanges": 1,
            "clusters": {"c": {"backends": [{"active": 2, "idle": 5}]}},
            "upstreams": {"active": 3},
        }
        self.assertEqual(counters(stats), {"exchanges": [1], "active": [2, 3]})
