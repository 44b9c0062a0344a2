"""
Clients and backends that vanish at every stage of an exchange, under a modest load: nothing of them is left behind,
nobody else notices, and nothing that must not be repeated is.
"""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.reading import Message
from tests.wire.rig import Proxy, WireCase, free_port
from tests.wire.rows import post, request
from tests.wire.sockets import PLAIN, Backend, Client, Loop, Side, serve
from tests.wire.talk import Talk, hold

#: How many clients there are at one time, and how often all of them are replaced.
CLIENTS, ROUNDS = 48, 100

_HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
_SOCKET = request(b"Connection: upgrade", b"Upgrade: websocket", start=b"GET /socket HTTP/1.1")


def _get(path: bytes) -> bytes:
    return request(start=b"GET " + path + b" HTTP/1.1")


class Leaving:
    """
    A client that goes as far as its stage and can then be made to vanish.

    @ivar stage: one of L{STAGES}.
    """

    #: What the client sends, by stage.
    STAGES: ClassVar[dict[str, bytes]] = {
        "connected": b"",
        "within its head": b"GET / HTTP/1.1\r\nHost: a.exa",
        "before its body": post(b"Content-Length: 10", body=b""),
        "within its body": post(b"Content-Length: 10", body=b"hello"),
        "within a chunk": post(b"Transfer-Encoding: chunked", body=b"a\r\nhello"),
        "while the backend is silent": _get(b"/silent"),
        "within the response": _get(b"/half"),
        "between two chunks of the response": _get(b"/chunk"),
        "idle": _get(b"/"),
        "in a tunnel": _SOCKET,
        "with a request waiting": _get(b"/silent") + _get(b"/never"),
        "behind the last request": request(b"Connection: close"),
    }

    def __init__(self, loop: Loop, port: int, stage: str) -> None:
        self.stage = stage
        self.client = Client(loop, port)
        self.client.write(self.STAGES[stage])

    def there(self) -> bool:
        """Whether it has seen what its stage lets it see."""
        client = self.client
        if self.stage in ("within the response", "between two chunks of the response"):
            return client.open is not None and client.open.body == b"hello"
        if self.stage == "in a tunnel":
            return client.tunnel
        if self.stage in ("idle", "behind the last request"):
            return client.finals == 1
        return True

    def vanish(self, hard: bool) -> None:
        """Goes, with a reset or in order."""
        if hard:
            self.client.reset()
        else:
            self.client.close()


#: How many requests the backend gets to see begin, by stage.
_BEGUN = {stage: int(stage not in ("connected", "within its head")) for stage in Leaving.STAGES}


class VanishingClientTests(WireCase):
    """Clients that go away."""

    def _script(self, side: Side, message: Message) -> None:
        path = message.start.split(b" ")[1]
        if path == b"/half":
            side.write(_HALF)
        elif path == b"/chunk":
            side.write(_CHUNK)
        elif path != b"/silent":
            serve(side, message)

    def test_clients_vanish_at_every_stage(self) -> None:
        """Clients that vanish at every stage leave no connection, exchange or count behind, and no upstream open."""
        begun: list[Side] = []
        self.backend.script = self._script
        self.backend.began = lambda side, _message: begun.append(side)
        stages = list(Leaving.STAGES)
        for turn in range(ROUNDS):
            begun.clear()
            clients = [
                Leaving(self.loop, self.proxy.port, stages[(turn + number) % len(stages)]) for number in range(CLIENTS)
            ]
            expected = sum(_BEGUN[client.stage] for client in clients)
            come = self.loop.until(
                lambda clients=clients, expected=expected: (  # type: ignore[misc]  # bound at once, called at once
                    len(begun) == expected and all(client.there() for client in clients)
                )
            )
            if not come:
                waiting = Counter(client.stage for client in clients if not client.there())
                self.fail(f"round {turn}: {len(begun)} of {expected} requests began; not there: {waiting}")
            for number, client in enumerate(clients):
                client.vanish(hard=(turn + number // len(stages)) % 2 == 0)
        self.assert_nothing_left()
        busy = [side for side in self.backend.sides if side.head is not None or side.tunnel]
        self.assertTrue(self.loop.until(lambda: all(side.ended for side in busy)), "an upstream was left open")
        lines = Counter(message.start for message in self.backend.requests)
        self.assertEqual(lines[b"GET /never HTTP/1.1"], 0, "a request of a client that was gone was passed on")
        self.assertEqual(self._blamed(), {}, "the backend was blamed for what its clients did")
        talk = Talk(self.loop, self.proxy.port, _get(b"/"))
        talk.send(0, None)
        self.assertEqual(hold(self.loop, [talk], 5.0)[0].outcome, "200/open")

    def test_a_client_that_vanished_is_logged_as_499(self) -> None:
        """A client that goes away before its answer is a 499 in the access log, not the backend's failure."""
        self.backend.script = self._script
        before = self._logged()[499]
        leaving = Leaving(self.loop, self.proxy.port, "while the backend is silent")
        self.assertTrue(self.loop.until(lambda: len(self.backend.requests) == 1))
        leaving.vanish(hard=True)
        logged = self.loop.until(lambda: self._logged()[499] == before + 1, step=0.02)
        self.assertTrue(logged, "no line in the access log says 499")
        self.assertEqual(self._blamed(), {})
        self.assert_nothing_left()

    def _blamed(self) -> dict[str, int]:
        """The backend's failures, by kind."""
        (backend,) = self.proxy.stats()["clusters"]["c"]["backends"].values()
        failures: dict[str, int] = backend["failures"]
        return failures

    def _logged(self) -> Counter[int]:
        """How often each status stands in the access log."""
        with open(self.proxy.access_log, encoding="utf-8") as file:
            return Counter(json.loads(line)["status"] for line in file if line.endswith("\n"))

    def test_clients_that_do_not_read_vanish(self) -> None:
        """Clients that stop reading in the middle of a large response and vanish leave nothing behind."""
        size = 8_000_000
        large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
        self.backend.script = lambda side, _message: side.write(large)
        clients = [socket.create_connection(("127.0.0.1", self.proxy.port)) for _ in range(8)]
        for client in clients:
            client.sendall(_get(b"/large"))
        self.assertTrue(self.loop.until(lambda: len(self.backend.requests) == len(clients)))
        for number, client in enumerate(clients):
            self.assertTrue(client.recv(100 * number + 1))
            client.close()  # with unread bytes: a reset
        sides = list(self.backend.sides)
        self.assert_nothing_left()
        self.assertTrue(self.loop.until(lambda: all(side.ended for side in sides)), "an upstream was left open")


class VanishingBackendTests(WireCase):
    """Backends that go away."""

    #: How the backend goes, and what its client may see.
    WAYS: ClassVar[dict[bytes, frozenset[str]]] = {
        b"/nothing": frozenset(("502/open", "502/closed")),
        b"/part-of-head": frozenset(("502/open", "502/closed")),
        b"/half": frozenset(("200/cut", "502/open", "502/closed")),
        b"/chunk": frozenset(("200/cut", "502/open", "502/closed")),
        b"/last": frozenset(("200/open",)),
        b"/body": frozenset(("502/open", "502/closed")),
        b"/socket": frozenset(("101/garbage", "101/tunnel")),
    }

    def _vanish(self, side: Side, data: bytes, hard: bool) -> None:
        side.write(data)
        if hard:
            side.reset()
        else:
            side.close()

    def test_backends_vanish_at_every_stage(self) -> None:
        """Connections of a backend that vanish at every stage leave nothing behind, and each client learns of it."""
        hard = [False]
        switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        said = {
            b"/nothing": b"",
            b"/part-of-head": _HALF[:20],
            b"/half": _HALF,
            b"/chunk": _CHUNK,
            b"/last": PLAIN,
            b"/socket": switched,
        }

        def script(side: Side, message: Message) -> None:
            path = message.start.split(b" ")[1]
            if path in said:
                # A reset may overtake what was said before it; where that matters the end is an orderly one.
                self._vanish(side, said[path], hard[0] and path not in (b"/last", b"/socket"))
            else:
                serve(side, message)

        def began(side: Side, message: Message) -> None:
            if message.start.startswith(b"POST /body "):
                self._vanish(side, b"", hard[0])

        self.backend.script = script
        self.backend.began = began
        ways = list(self.WAYS)
        for turn in range(ROUNDS // 4):
            hard[0] = turn % 2 == 0
            paths = [ways[number % len(ways)] for number in range(CLIENTS)]
            talks = [Talk(self.loop, self.proxy.port, self._request(path)) for path in paths]
            for talk in talks:
                talk.send(0, None)
            for path, one in zip(paths, hold(self.loop, talks, 5.0), strict=True):
                allowed = self.WAYS[path]
                if one.outcome not in allowed:
                    self.fail(f"round {turn}, {path!r}: {one.outcome} {one.detail}; allowed: {sorted(allowed)}")
        self.assert_nothing_left()

    def _request(self, path: bytes) -> bytes:
        if path == b"/socket":
            return _SOCKET
        if path == b"/body":
            return request(b"Content-Length: 10", start=b"POST /body HTTP/1.1", body=b"hello")
        return _get(path)

    def _answer_then_die(self, deaths: int) -> Callable[[Side, Message], None]:
        """A script that closes in place of answering C{/die}, a number of times, and answers everything else."""
        left = [deaths]

        def script(side: Side, message: Message) -> None:
            if b" /die " in message.start and left[0]:
                left[0] -= 1
                side.reset()
            else:
                serve(side, message)

        return script

    def _prime_then(self, data: bytes) -> str:
        """Leaves one idle upstream, then sends a request that will be put on it; how that went."""
        for text in (_get(b"/"), data):
            talk = Talk(self.loop, self.proxy.port, text)
            talk.send(0, None)
            outcome = hold(self.loop, [talk], 5.0)[0].outcome
        return outcome

    def test_a_dead_idle_upstream_is_redialled(self) -> None:
        """A GET whose reused upstream dies before it answers is sent again, once, and its client sees nothing of it."""
        self.backend.script = self._answer_then_die(1)
        outcome = self._prime_then(_get(b"/die"))
        self.assertEqual(outcome, "200/open")
        lines = Counter(message.start for message in self.backend.requests)
        self.assertEqual(lines[b"GET /die HTTP/1.1"], 2)
        self.assert_nothing_left()

    def test_a_post_is_not_sent_twice(self) -> None:
        """A POST that a backend has got whole is not sent again when the upstream dies: it may have been done."""
        self.backend.script = self._answer_then_die(1)
        outcome = self._prime_then(request(b"Content-Length: 5", start=b"POST /die HTTP/1.1", body=b"hello"))
        self.assertIn(outcome, ("502/open", "502/closed"))
        lines = Counter(message.start for message in self.backend.requests)
        self.assertEqual(lines[b"POST /die HTTP/1.1"], 1)
        self.assert_nothing_left()

    def test_idle_upstreams_that_close_are_not_used(self) -> None:
        """Upstreams that the backend closes while they are idle are dropped, and requests go on as before."""
        talks = [Talk(self.loop, self.proxy.port, _get(b"/")) for _ in range(8)]
        for talk in talks:
            talk.send(0, None)
        hold(self.loop, talks, 5.0)
        for side in self.backend.sides:
            side.close()
        talks = [Talk(self.loop, self.proxy.port, _get(b"/after")) for _ in range(8)]
        for talk in talks:
            talk.send(0, None)
        self.assertEqual({one.outcome for one in hold(self.loop, talks, 5.0)}, {"200/open"})
        self.assert_nothing_left()


class LifeTests(SynchronousTestCase):
    """What needs a process of its own."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.backend = Backend(self.loop)
        self.addCleanup(self.backend.close)

    def _start(self, backend: int, **settings: object) -> Proxy:
        proxy = Proxy(backend, **settings)
        self.addCleanup(proxy.stop)
        return proxy.ready()

    def test_a_backend_that_refuses(self) -> None:
        """A backend on whose port nobody listens is a plain 502 or 503 to the client, and nothing is left of it."""
        proxy = self._start(free_port())
        talks = [Talk(self.loop, proxy.port, _get(b"/")) for _ in range(16)]
        for talk in talks:
            talk.send(0, None)
        outcomes = {one.outcome.partition("/")[0] for one in hold(self.loop, talks, 5.0)}
        self.assertTrue(outcomes <= {"502", "503"}, outcomes)
        self.assertTrue(self.loop.until(lambda: not proxy.left(), step=0.02), "something was left behind")
        self.assertEqual(proxy.trouble(), b"")

    def test_a_slow_head(self) -> None:
        """A head that does not come to its end in time is answered with 408, and the connection closed."""
        proxy = self._start(self.backend.port, timeouts={"header": 1})
        talk = Talk(self.loop, proxy.port, b"GET / HTTP/1.1\r\nHost: a.exa")
        talk.send(0, None)
        self.assertEqual(hold(self.loop, [talk], 10.0)[0].outcome, "408/closed")
        self.assertEqual(proxy.trouble(), b"")

    def test_the_end(self) -> None:
        """Told to end, it lets a running exchange end, closes idle connections, and ends well."""
        loop = self.loop
        waiting: list[Side] = []
        self.backend.script = lambda side, _message: waiting.append(side)
        proxy = self._start(self.backend.port)
        idle = Client(loop, proxy.port)
        talk = Talk(loop, proxy.port, _get(b"/"))
        talk.send(0, None)
        self.assertTrue(loop.until(lambda: bool(waiting)))
        proxy.process.terminate()
        self.assertTrue(loop.until(lambda: bool(idle.ended)), "an idle connection was not closed")
        waiting[0].write(PLAIN)
        self.assertEqual(hold(loop, [talk], 5.0)[0].outcome, "200/closed")
        # twistd passes the signal that ended it on to whoever started it.
        self.assertIn(proxy.process.wait(10), (0, -signal.SIGTERM))
        self.assertEqual(proxy.trouble(), b"")
