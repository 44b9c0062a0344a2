"""HTTP/2 through a proxy process, as clients that have nothing of ours speak it."""

from __future__ import annotations

import hashlib
import os
import re
import selectors
import signal
import subprocess

from tests.process.case import ScriptedCase
from tests.process.http2_peer import (
    BLOCK,
    CALM,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    POST_BLOCK,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2Peer,
    Stream,
    frame,
)
from tests.process.rig import Lemmy, Nginx, configuration, program, read
from tests.wire.reading import Message
from tests.wire.sockets import PLAIN, Side

#: Frames in a flood.
MANY = 5_000

#: What each of them is made of: the beginning, and the frame that is repeated. None: see L{resets}.
FLOODS = {
    "rapid reset": (b"", None),
    "CONTINUATION": (frame(HEADERS, END_STREAM, 1, BLOCK), frame(CONTINUATION, 0, 1, b"")),
    "CONTINUATION with bytes": (frame(HEADERS, END_STREAM, 1, BLOCK), frame(CONTINUATION, 0, 1, b"\0\1a\1b")),
    "PING": (b"", frame(PING, 0, 0, bytes(8))),
    "SETTINGS": (b"", frame(SETTINGS, 0, 0)),
    "empty DATA": (frame(HEADERS, END_HEADERS, 1, POST_BLOCK), frame(DATA, 0, 1)),
    "PRIORITY": (b"", frame(PRIORITY, 0, 1, b"\0\0\0\0\7")),
    "WINDOW_UPDATE": (b"", frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
}


def resets() -> bytes:
    """As many requests that are given up at once."""
    return b"".join(
        frame(HEADERS, END_STREAM | END_HEADERS, number, BLOCK) + frame(RST_STREAM, 0, number, b"\0\0\0\x08")
        for number in range(1, 2 * MANY, 2)
    )


def resident(lemmy: Lemmy) -> int:
    """Bytes of memory that the process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", read(f"/proc/{lemmy.process.pid}/status"))
    assert found is not None
    return int(found[1]) * 1024


class Http2Case(ScriptedCase):
    """A proxy whose listener takes HTTP/2 from whoever begins with it."""

    def starts(self, **settings: object) -> Lemmy:
        whole = configuration(f"http://127.0.0.1:{self.backend.port}", **settings)
        whole["listeners"][0]["http2"] = True
        return Lemmy(self, whole).ready()

    def second(self, lemmy: Lemmy, window: int = 65535) -> Http2Peer:
        """A client of HTTP/2."""
        client = Http2Peer(self.loop, lemmy.port, window)
        self.addCleanup(client.close)
        return client

    def ended(self, *streams: Stream) -> None:
        """Waits until they are whole."""
        self.until(lambda: all(stream.ended for stream in streams), streams)
        self.assertEqual({"closed"}, {stream.ended for stream in streams}, streams)


class ToolsTests(Http2Case):
    """The tools that everybody has."""

    def test_curl(self) -> None:
        """curl gets a page, and the listener still speaks HTTP/1.1 with who begins with that."""
        lemmy = self.nginx()
        url = f"http://127.0.0.1:{lemmy.port}/page"
        for option, version in (("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")):
            done = subprocess.run(
                [program("curl"), "-s", option, "-w", " %{http_code} %{http_version}", url],
                capture_output=True, timeout=20, check=False,
            )  # fmt: skip
            self.assertEqual(f"nginx 127.0.0.1 /page 200 {version}", done.stdout.decode())

    def test_h2load(self) -> None:
        """A hundred streams at a time on each of a few connections: every request is answered."""
        lemmy = self.nginx()
        done = subprocess.run(
            [program("h2load"), "-n", "3000", "-c", "3", "-m", "100", f"http://127.0.0.1:{lemmy.port}/"],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        self.assertIn("3000 succeeded, 0 failed, 0 errored", done.stdout.decode(), done.stdout)
        self.nothing_left(lemmy)

    def nginx(self) -> Lemmy:
        """A proxy in front of nginx."""
        whole = configuration(Nginx(self).url)
        whole["listeners"][0]["http2"] = True
        return Lemmy(self, whole).ready()


class StreamTests(Http2Case):
    """Many at once."""

    def test_hundred(self) -> None:
        """A hundred requests are at the backend at one time, on one connection of the client."""
        lemmy = self.starts()
        self.hold()
        client = self.second(lemmy)
        streams = [client.ask(f"/{number}") for number in range(100)]
        self.until(lambda: len(self.held) == 100, len(self.held))
        for side in self.held:
            side.write(PLAIN)
        self.ended(*streams)
        self.assertEqual([(200, b"OK")] * 100, [(stream.status, bytes(stream.body)) for stream in streams])
        client.close()
        self.nothing_left(lemmy)

    def test_slow_beside_fast(self) -> None:
        """A stream that nobody reads does not stop the others, and costs a bound of memory; then it goes on."""
        lemmy = self.starts()
        size = 20_000_000

        def script(side: Side, request: Message) -> None:
            if b"/large" in request.start:
                side.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
            else:
                side.write(PLAIN)

        self.backend.script = script
        client = self.second(lemmy)
        self.ended(client.ask())
        before = resident(lemmy)
        client.reading = False
        slow = client.ask("/large")
        self.until(lambda: len(slow.body) == 65535, slow)
        for _ in range(20):
            self.ended(client.ask())
        self.assertEqual(65535, len(slow.body))
        self.assertLess(resident(lemmy) - before, 5_000_000)
        client.reading = True
        client.confirm(client.number(slow))
        client.flush()
        self.ended(slow)
        self.assertEqual(size, len(slow.body))

    def test_given_up(self) -> None:
        """A stream that is given up in the middle leaves its backend, and no other does."""
        lemmy = self.starts()
        sides: list[Side] = []

        def script(side: Side, request: Message) -> None:
            sides.append(side)
            side.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")

        self.backend.script = script
        client = self.second(lemmy)
        first, second = client.ask("/first"), client.ask("/second")
        self.until(lambda: bool(first.body and second.body))
        by_path = {b"/first" in side.received: side for side in sides}
        client.reset_stream(first)
        self.until(lambda: bool(by_path[True].ended))
        by_path[False].write(b"x" * 95)
        self.ended(second)
        self.assertEqual(b"begin" + b"x" * 95, bytes(second.body))

    def test_backend_dies(self) -> None:
        """A backend that dies in its answer has that stream reset."""
        lemmy = self.starts()

        def script(side: Side, request: Message) -> None:
            side.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
            side.finish()

        self.backend.script = script
        client = self.second(lemmy)
        stream = client.ask()
        self.until(lambda: bool(stream.ended))
        self.assertEqual(("reset", 2, b"begin"), (stream.ended, stream.code, bytes(stream.body)))
        self.backend.forget()
        self.ended(client.ask())


class MessageTests(Http2Case):
    """What messages are made of."""

    def test_parts(self) -> None:
        """Interim responses, fields, body and trailers arrive, both ways."""
        lemmy = self.starts()

        def script(side: Side, request: Message) -> None:
            side.write(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
                b"5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"
            )

        self.backend.script = script
        client = self.second(lemmy)
        stream = client.ask("/in", "POST", [("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2")], ended=False)
        client.send(stream, b"question")
        client.h2.send_headers(client.number(stream), [("x-end", "7")], end_stream=True)
        client.flush()
        self.ended(stream)
        request = self.backend.requests[0]
        self.assertEqual(b"question", request.body)
        self.assertEqual([[b"1"], [b"a=1; b=2"], [b"a.example"], [b"2.0 lemmytx"]],
                         [request.values(name) for name in (b"x-a", b"cookie", b"host", b"via")])  # fmt: skip
        self.assertIn(b"x-end: 7", bytes(self.backend.sides[0].received).lower())
        self.assertEqual([(103, {"link": "</a.css>"})], stream.informed)
        self.assertEqual((200, b"hello", {"x-sum": "5"}), (stream.status, bytes(stream.body), stream.trailers))

    def test_head(self) -> None:
        """The answer to HEAD ends with its head, and has the length."""
        lemmy = self.starts()
        stream = self.second(lemmy).ask(method="HEAD")
        self.ended(stream)
        self.assertEqual((200, "2", b""), (stream.status, stream.fields["content-length"], bytes(stream.body)))

    def test_connect(self) -> None:
        """A plain CONNECT is refused."""
        lemmy = self.starts()
        client = self.second(lemmy)
        block = b"\x02\x07CONNECT\x01\x0ba.example:1"
        client.raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
        self.until(lambda: any(kind == HEADERS for kind, *_ in client.frames()))
        self.assertEqual([], self.backend.requests)
        client.close()
        self.nothing_left(lemmy)

    def test_upload(self) -> None:
        """An upload to a backend that reads slowly costs a bound of memory, and arrives whole."""
        lemmy = self.starts()
        client = self.second(lemmy)
        self.ended(client.ask())
        before = resident(lemmy)
        body = os.urandom(1 << 20) * 20
        sent = 0
        stream = client.ask("/in", "POST", [("content-length", str(len(body)))], ended=False)
        self.until(lambda: any(b"/in" in side.received for side in self.backend.sides))
        side = next(side for side in self.backend.sides if b"/in" in side.received)
        whole = side.received.rindex(b"\r\n\r\n") + 4 + len(body)

        def came() -> None:
            if len(side.received) == whole:
                side.write(PLAIN)

        side.came = came  # type: ignore[method-assign]  # it would look at all of it again with each piece
        # From here on the backend does not read.
        self.loop.selector.unregister(side.sock)

        def send() -> bool:
            nonlocal sent
            taken = client.send(stream, body[sent : sent + 1_000_000], sent + 1_000_000 >= len(body))
            sent += taken
            return sent == len(body)

        self.loop.until(send, 2.0, 0.02)
        self.assertLess(sent, len(body))
        self.assertLess(resident(lemmy) - before, 5_000_000)
        self.ended(client.ask())
        self.loop.selector.register(side.sock, selectors.EVENT_READ, side._ready)
        self.until(send, sent)
        self.ended(stream)
        self.assertLess(resident(lemmy) - before, 8_000_000)
        self.assertEqual(hashlib.sha256(body).digest(), hashlib.sha256(side.received[-len(body) :]).digest())


class FloodTests(Http2Case):
    """Floods cost the sender its connection, and nobody else anything."""

    def test_floods(self) -> None:
        """Each kind ends with ENHANCE_YOUR_CALM, and the next client is served."""
        lemmy = self.starts()
        before = resident(lemmy)
        for name, (begin, each) in FLOODS.items():
            client = self.second(lemmy)
            client.raw(begin + (resets() if each is None else each * MANY))
            self.until(lambda client=client: bool(client.ended), name, 30.0)  # type: ignore[misc]  # of this turn
            code = client.told()
            # A reset that follows may take the last word away before it is read.
            self.assertTrue(code == CALM or (code is None and client.ended == "reset"), (name, code))
            client.close()
            fresh = self.second(lemmy)
            self.ended(fresh.ask())
            fresh.close()
        self.backend.forget()
        self.nothing_left(lemmy)
        self.assertLess(resident(lemmy) - before, 30_000_000)

    def test_not_http2(self) -> None:
        """What only begins like HTTP/2 costs its connection."""
        lemmy = self.starts()
        client = self.client(lemmy, PREFACE + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.until(lambda: bool(client.ended), client.received)
        client.close()
        self.nothing_left(lemmy)


class DrainTests(Http2Case):
    """The process ends."""

    def test_no_stream_is_lost(self) -> None:
        """SIGTERM: what runs is finished, what was on its way is served, and the last GOAWAY says what was."""
        lemmy = self.starts(timeouts={"drain": 30})
        self.hold()
        client = self.second(lemmy)
        streams = [client.ask(f"/{number}") for number in range(20)]
        self.until(lambda: len(self.held) == 20)
        lemmy.signal(signal.SIGTERM)
        self.until(lambda: bool(client.gone_away))
        self.assertEqual([((1 << 31) - 1, 0)], client.gone_away)
        # As if it had not heard it yet.
        streams += [client.ask(f"/late/{number}") for number in range(5)]
        self.until(lambda: len(self.held) == 25)
        self.until(lambda: len(client.gone_away) == 2)
        self.assertEqual((49, 0), client.gone_away[1])
        for side in self.held:
            side.write(PLAIN)
        self.ended(*streams)
        self.until(lambda: bool(client.ended))
        self.assertEqual("closed", client.ended)
        client.close()
        self.assertEqual(0, lemmy.ended())
        self.assertNotIn("Traceback", lemmy.output())
