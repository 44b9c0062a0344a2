"""Whatever clients and backends do, in whatever order: nothing raises, and nothing is left behind."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lemmytx.cluster.rules import Rules
from lemmytx.model import Timeouts
from tests.proxy.rig import GET, OK, End, ProxyCase, post
from tests.websocket.made import CLOSE, TEXT, frame

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SOCKET = UPGRADE.replace(b"Upgrade: x", b"Upgrade: websocket")
OPEN = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

#: What a client may say, right or wrong at that place.
REQUESTS = (
    GET, GET * 3, GET[:20], GET[20:], GET.replace(b"1.1", b"1.0"), GET[:-2] + b"Connection: close\r\n\r\n",
    GET.replace(b"GET", b"HEAD"), post(5) + b"hello", post(5), b"hello", post(5, b"Expect: 100-continue\r\n"),
    post(200_000, method=b"PUT"), b"x" * 70_000, CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n", UPGRADE, b"bytes", b"\r\n",
    b"nonsense\r\n\r\n", GET.replace(b"shop", b"\x00"), SOCKET, SOCKET, frame(TEXT, b"words", True),
    frame(TEXT, b"words", True)[:7], frame(CLOSE, b"", True),
)  # fmt: skip

#: What a backend may say.
RESPONSES = (
    OK, OK[:30], OK[30:], OK[:-2], OK[-2:], OK + OK, OK.replace(b"200", b"503"), b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n",
    b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", b"x" * 70_000,
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nold",
    b"HTTP/1.1 304 Not Modified\r\n\r\n", b"nonsense\r\n\r\n", OPEN, OPEN, frame(TEXT, b"words"),
    frame(TEXT, b"words")[:5], frame(CLOSE),
)  # fmt: skip

_which = st.integers(0, 3)
_steps = st.one_of(
    st.tuples(st.just("ask"), _which, st.sampled_from(REQUESTS)),
    st.tuples(st.just("answer"), _which, st.sampled_from(RESPONSES)),
    st.tuples(st.sampled_from(("accept", "accept", "refuse", "client")), _which, st.just(b"")),
    st.tuples(
        st.sampled_from(("client_close", "client_reset", "backend_close", "backend_reset")), _which, st.just(b"")
    ),
    st.tuples(st.sampled_from(("client_full", "client_drain", "backend_full", "backend_drain")), _which, st.just(b"")),
    st.tuples(st.sampled_from(("second", "tick", "half_minute", "drain", "part", "cut")), _which, st.just(b"")),
)
_times = {"tick": 0.3, "second": 1.5, "half_minute": 31.0}


class AnyOrderTests(ProxyCase):
    """Random conversations, several at a time."""

    def step(self, what: str, which: int, data: bytes) -> None:
        """Do one thing, if there is somebody to do it."""
        if what in _times:
            self.loop.wait(_times[what])
        elif what == "client":
            self.client()
        elif what == "drain":
            if which == 3:
                self.listener.drain()
        elif what == "part":
            self.listener.part_from(self.backends[which:])
        elif what == "cut":
            self.listener.cut(self.backends[which:])
        elif what in ("accept", "refuse"):
            if self.network.dialled:
                getattr(self, what)()
        else:
            backends = what == "answer" or what.startswith("backend")
            ends = [end for end in (self.network.ends if backends else self.clients) if end.wire.connected]
            if ends:
                end: End = ends[-1 - which % len(ends)]
                if data:
                    end.send(data)
                else:
                    getattr(end, what.partition("_")[2])()

    @given(st.lists(_steps, max_size=25))
    @example([("ask", 0, GET), ("accept", 0, b""), ("backend_full", 0, b""), ("ask", 0, b"x" * 70_000)])
    @example([("ask", 0, SOCKET), ("accept", 0, b""), ("answer", 0, OPEN), ("part", 0, b""), ("client_reset", 0, b"")])
    @settings(
        max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )  # fmt: skip
    def test_nothingLeft(self, steps: list[tuple[str, int, bytes]]) -> None:
        """After any conversation, time alone brings everything back to zero."""
        ProxyCase.setUp(self)
        self.compose(
            backends=2,
            rules=Rules(attempts=2, retry_on=frozenset((503,)), read=20.0),
            timeouts=Timeouts(tunnel=40.0),
        )
        self.client()
        for step in steps:
            self.step(*step)
            self.assertLessEqual(sum(b.active for b in self.backends), self.resource.exchanges)
            for end in (*self.clients, *self.network.ends):
                self.assertLess(end.queued, 500_000)
        self.let_time_pass()
        self.end()
        self.clients.clear()
        self.network.ends.clear()
