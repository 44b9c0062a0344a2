"""
Limits, and those who try them: too much, too many, too slow.
"""

from __future__ import annotations

import socket

from tests.process.case import GET, ScriptedCase
from tests.process.rig import Lemmy, rest
from tests.wire.reading import Message
from tests.wire.sockets import Client, Side

POST = b"POST / HTTP/1.1\r\nHost: a.example\r\n"

#: So many attackers at one time.
MANY = 50


class LimitTests(ScriptedCase):
    """C{limits}."""

    def test_sizes(self) -> None:
        """A body beyond body_size is 413 before the backend has it, a head beyond header_size 431; both at it pass."""
        lemmy = self.starts(limits={"body_size": 1000, "header_size": "1k"})
        ten = b"a\r\n" + b"x" * 10 + b"\r\n"
        for status, data in (
            (200, POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000),
            (413, POST + b"Content-Length: 1001\r\n\r\n"),
            (200, POST + b"Transfer-Encoding: chunked\r\n\r\n" + ten * 100 + b"0\r\n\r\n"),
            (413, POST + b"Transfer-Encoding: chunked\r\n\r\n" + ten * 101),
            (200, POST + b"X-Long: " + b"x" * 900 + b"\r\nContent-Length: 0\r\n\r\n"),
            (431, POST + b"X-Long: " + b"x" * 1100 + b"\r\nContent-Length: 0\r\n\r\n"),
            (431, POST + b"X-Long: " + b"x" * 1100),
        ):
            client = self.client(lemmy, data)
            self.answered(client, status)
            client.close()
        self.assertEqual(3, len([request for request in self.backend.requests if request.complete]))
        self.nothing_left(lemmy)

    def test_late_excess(self) -> None:
        """A chunked body that becomes too long on its way is 413, and the backend gets no whole request out of it."""
        lemmy = self.starts(limits={"body_size": 1000})
        client = self.client(lemmy, POST + b"Transfer-Encoding: chunked\r\n\r\n384\r\n" + b"x" * 900 + b"\r\n")
        self.until(lambda: bool(self.backend.sides) and self.backend.sides[0].received.count(b"x" * 900) == 1)
        client.write(b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
        self.answered(client, 413)
        self.until(lambda: bool(self.backend.sides[0].ended))
        self.assertEqual([], self.backend.requests)
        client.close()
        self.nothing_left(lemmy)

    def test_connections(self) -> None:
        """With limits.connections clients there the next ones wait, unanswered and not refused, until others leave."""
        lemmy = self.starts(limits={"connections": 3})
        inside = [self.client(lemmy, GET) for _ in range(3)]
        for client in inside:
            self.answered(client, 200)
        waiting = [self.client(lemmy, GET) for _ in range(2)]
        # Everyone inside gets another answer while those outside get none: that they wait is no matter of time.
        for client in inside:
            client.write(GET)
            self.answered(client, 200)
        self.assertEqual([b"", b""], [bytes(client.received) for client in waiting])
        self.assertEqual(3, lemmy.stats()["downstreams"])
        inside[0].close()
        self.answered(waiting[0], 200)
        self.assertEqual(b"", bytes(waiting[1].received))
        inside[1].reset()
        self.answered(waiting[1], 200)
        self.assertEqual(1, lemmy.count("3 clients are connected"))

    def test_burst(self) -> None:
        """The limit holds for a burst that comes at one time, too."""
        lemmy = self.starts(limits={"connections": 3})
        self.hold()
        clients = [self.client(lemmy, GET) for _ in range(30)]
        self.until(lambda: len(self.held) == 3)
        self.assertEqual(3, lemmy.stats()["downstreams"])
        for client in clients:
            client.close()
        self.nothing_left(lemmy)


class SlowTests(ScriptedCase):
    """Attacks by slowness: C{MANY} connections, short timeouts, and a client that wants to be served meanwhile."""

    def attacked(self, **timeouts: object) -> Lemmy:
        """A proxy with these timeouts."""
        return self.starts(timeouts=timeouts)

    def serves(self, lemmy: Lemmy) -> None:
        """Whoever is not slow is answered."""
        client = self.client(lemmy, GET)
        self.answered(client, 200)
        client.close()

    def test_heads(self) -> None:
        """Heads that come a byte at a time are 408 when their time is over, however regularly the bytes come."""
        lemmy = self.attacked(header="500ms")
        slow = [self.client(lemmy, b"GET / HTTP/1.1\r\nHost: a.example\r\nX: ") for _ in range(MANY)]
        self.serves(lemmy)

        def ended() -> bool:
            for client in slow:
                if not client.ended:
                    client.write(b"x")
            return all(client.ended for client in slow)

        self.until(ended)
        self.assertEqual({(408,)}, {tuple(answer.status for answer in client.answers) for client in slow})
        self.serves(lemmy)
        self.assertEqual(2, len(self.backend.requests))
        for client in slow:
            client.close()
        self.nothing_left(lemmy)

    def test_silence(self) -> None:
        """Connections on which nothing is said at all are closed."""
        lemmy = self.attacked(header="300ms", keepalive="300ms")
        silent = [self.client(lemmy) for _ in range(MANY)]
        idle = self.client(lemmy, GET)
        self.answered(idle, 200)
        self.until(lambda: all(client.ended for client in [*silent, idle]))
        self.assertEqual({b""}, {bytes(client.received) for client in silent})
        self.nothing_left(lemmy)

    def test_bodies(self) -> None:
        """Bodies that do not go on are 408, and their upstreams are closed: no backend takes the part for the whole."""
        lemmy = self.attacked(body="500ms")
        slow = [self.client(lemmy, POST + b"Content-Length: 1000\r\n\r\nx") for _ in range(MANY)]
        self.until(lambda: len(self.backend.sides) == MANY)
        self.serves(lemmy)
        self.until(lambda: all(client.ended or client.answers for client in slow))
        self.assertEqual({(408,)}, {tuple(answer.status for answer in client.answers) for client in slow})
        self.until(lambda: all(side.ended for side in self.backend.sides if not side.served))
        self.assertEqual(1, len(self.backend.requests))
        for client in slow:
            client.close()
        self.nothing_left(lemmy)

    def test_readers(self) -> None:
        """Clients that ask for much and read nothing are cut, and their upstreams closed."""
        lemmy = self.attacked(body="500ms")
        size = 8 * 1024 * 1024
        block = b"x" * size

        def script(side: Side, request: Message) -> None:
            if b"/large" in request.start:
                side.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + block)
            else:
                side.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        self.backend.script = script
        slow = []
        for _ in range(MANY):
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", lemmy.port))
            sock.sendall(GET.replace(b"/ ", b"/large ", 1))
            slow.append(sock)
        self.until(lambda: len(self.backend.requests) == MANY)
        self.serves(lemmy)
        self.nothing_left(lemmy)
        self.until(lambda: sum(bool(side.ended) for side in self.backend.sides) >= MANY)
        for sock in slow:
            received = rest(sock)
            self.assertTrue(received.startswith(b"HTTP/1.1 200 ") and len(received) < size)

    def test_trickle_of_a_backend(self) -> None:
        """A backend that is silent costs its client 504 after timeouts.read, and nobody else anything."""
        self.hold()
        lemmy = self.starts(cluster={"timeouts": {"read": "500ms"}})
        slow: list[Client] = [self.client(lemmy, GET) for _ in range(MANY)]
        self.until(lambda: len(self.held) == MANY)
        for client in slow:
            self.answered(client, 504)
        for client in slow:
            client.close()
        self.nothing_left(lemmy)
