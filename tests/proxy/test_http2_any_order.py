"""Whatever clients, of HTTP/1.1 and HTTP/2, and backends of HTTP/2 do, in whatever order: nothing is left behind."""

from __future__ import annotations

from h2.exceptions import H2Error
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lemmytx.cluster.backend import Pool
from lemmytx.cluster.rules import Rules
from lemmytx.http2.codec import StreamGone
from lemmytx.model import Timeouts
from tests.proxy.http2_backends import H2C, Http2Case, Peer
from tests.proxy.http2_rig import CONNECT, Client
from tests.proxy.rig import GET, End, post
from tests.proxy.test_http2_upstream_tunnel import WEBSOCKET
from tests.websocket.made import CLOSE, TEXT, frame

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

#: What a client of HTTP/1.1 may say, right or wrong at that place.
REQUESTS = (
    GET, GET * 3, GET.replace(b"GET", b"HEAD"), post(5) + b"hello", post(5), b"hello", post(200_000, method=b"PUT"),
    b"x" * 70_000, CHUNKED, b"5\r\nhello\r\n", b"0\r\nx-a: b\r\n\r\n", b"nonsense\r\n\r\n", WEBSOCKET, WEBSOCKET,
    frame(TEXT, b"words", True), frame(CLOSE, b"", True),
)  # fmt: skip

#: What one of HTTP/2 may begin, and whether it ends with its head.
HEADS = ((GET, True), (post(5), False), (post(200_000), False), (CHUNKED, False), (CONNECT, False), (CHUNKED, True))

#: What a backend may begin: fields, and whether it ends with them.
ANSWERS = (
    ([(":status", "200"), ("content-length", "5")], False),
    ([(":status", "200")], False),
    ([(":status", "200")], True),
    ([(":status", "503"), ("content-length", "0")], True),
    ([(":status", "103")], False),
    ([(":status", "304")], True),
    ([("grpc-status", "0")], True),
)

#: Frames that a backend may send where they do not belong: the stream is one that is open.
WRONG = ((0, 0, b"x" * 100), (1, 4, b"\x88"), (1, 5, b"\xff\xff\xff"), (3, 0, b"123"), (9, 4, b""), (99, 0, b"x"))

_which = st.integers(0, 3)


def _one(*names: str) -> st.SearchStrategy[tuple[str, int, object]]:
    return st.tuples(st.sampled_from(names), _which, st.none())


_steps = st.one_of(
    st.tuples(st.just("say"), _which, st.sampled_from(REQUESTS)),
    st.tuples(st.just("ask"), _which, st.sampled_from(HEADS)),
    st.tuples(st.just("body"), _which, st.sampled_from((5, 60_000, 200_000))),
    st.tuples(st.just("answer"), _which, st.sampled_from(ANSWERS)),
    st.tuples(st.just("answer"), _which, st.sampled_from(ANSWERS[:2])),
    st.tuples(st.just("data"), _which, st.sampled_from((0, 5, 16_000))),
    st.tuples(st.just("reset"), _which, st.sampled_from((0, 2, 7, 8))),
    st.tuples(st.just("wrong"), _which, st.sampled_from(WRONG)),
    st.tuples(st.just("limit"), _which, st.sampled_from((0, 1, 100))),
    _one("accept", "accept_mute", "refuse", "first", "second", "hold"),
    _one("give_up", "go_away", "go_away_soon", "acknowledge", "sulk", "ping", "end_data"),
    _one("client_close", "client_reset", "client_full", "client_drain"),
    _one("backend_close", "backend_reset", "backend_full", "backend_drain"),
    _one("wait", "tick", "half_minute", "drain", "part", "retire", "close_idle"),
)


class AnyOrderTests(Http2Case):
    """Random conversations, several at a time."""

    def begin(self) -> None:
        """A proxy that nothing has happened to."""
        Http2Case.setUp(self)
        self.compose(
            backends=2,
            rules=Rules(attempts=2, retry_on=frozenset((503,)), read=20.0),
            timeouts=Timeouts(tunnel=40.0),
            pool=Pool(requests=20),
        )
        self.multiplex(streams=3, way=H2C)
        self.firsts: list[End] = []
        self.seconds: list[Client] = []
        self.peers: list[Peer] = []
        self.held = False  # connections are made when a step says so; else at once
        self.do_first(0, None)
        self.do_second(0, None)

    def step(self, what: str, which: int, value: object) -> None:
        """Do one thing, if there is somebody to do it."""
        try:
            getattr(self, f"do_{what}")(which, value)
        except (H2Error, StreamGone, KeyError):
            pass  # the other implementation would not do it at this place
        if not self.held:
            self.do_accept(which, None)

    def do_hold(self, which: int, value: object) -> None:
        self.held = not self.held

    def do_first(self, which: int, value: object) -> None:
        self.firsts.append(self.client())

    def do_second(self, which: int, value: object) -> None:
        self.seconds.append(Client(self, "192.0.2.1", None, False))

    def do_say(self, which: int, data: bytes) -> None:
        alive = [end for end in self.firsts if end.wire.connected]
        if alive:
            alive[-1 - which % len(alive)].send(data)

    def a_client(self, which: int) -> Client:
        alive = [client for client in self.seconds if client.end.wire.connected and client.terminated is None]
        if not alive:
            raise KeyError
        return alive[-1 - which % len(alive)]

    def do_ask(self, which: int, value: tuple[bytes, bool]) -> None:
        self.a_client(which).request(*value)

    def do_body(self, which: int, size: int) -> None:
        client = self.a_client(which)
        for stream in list(client.answers):
            room = client.codec.room(stream)
            if room:
                client.send(stream, b"x" * min(room, size), which == 3)
                return

    def do_give_up(self, which: int, value: object) -> None:
        client = self.a_client(which)
        client.reset(max(client.answers, default=1))

    def a_peer(self, which: int) -> Peer:
        alive = [peer for peer in self.peers if peer.end.wire.connected]
        if not alive:
            raise KeyError
        peer = alive[-1 - which % len(alive)]
        peer.read()
        return peer

    def a_stream(self, which: int) -> tuple[Peer, int]:
        peer = self.a_peer(which)
        streams = peer.open()
        if not streams:
            raise KeyError
        return peer, streams[which % len(streams)]

    def do_accept(self, which: int, value: object) -> None:
        if self.network.dialled:
            limits = {} if which else {"MAX_CONCURRENT_STREAMS": 2}
            self.peers.append(Peer(self.accept(), ENABLE_CONNECT_PROTOCOL=int(which != 1), **limits))

    def do_accept_mute(self, which: int, value: object) -> None:
        if self.network.dialled:
            self.peers.append(Peer(self.accept(), greet=False))

    def do_refuse(self, which: int, value: object) -> None:
        if self.network.dialled:
            self.refuse()

    def do_answer(self, which: int, value: tuple[list[tuple[str, str]], bool]) -> None:
        peer, stream = self.a_stream(which)
        peer.h2.send_headers(stream, value[0], end_stream=value[1])
        if which == 2 and not value[1]:
            peer.h2.send_data(stream, b"hello", end_stream=True)
        peer.send()

    def do_data(self, which: int, size: int) -> None:
        peer, stream = self.a_stream(which)
        peer.data(stream, b"x" * size, size == 0)

    def do_end_data(self, which: int, value: object) -> None:
        peer, stream = self.a_stream(which)
        peer.data(stream, b"hello", True)

    def do_reset(self, which: int, code: int) -> None:
        peer, stream = self.a_stream(which)
        peer.reset(stream, code)

    def do_wrong(self, which: int, value: tuple[int, int, bytes]) -> None:
        peer, stream = self.a_stream(which)
        kind, flags, payload = value
        peer.frame(kind, flags, 0 if which == 3 else stream, payload)

    def do_limit(self, which: int, value: int) -> None:
        peer = self.a_peer(which)
        peer.h2.update_settings({3: value})
        peer.send()

    def do_ping(self, which: int, value: object) -> None:
        peer = self.a_peer(which)
        peer.h2.ping(b"01234567")
        peer.send()

    def do_go_away(self, which: int, value: object) -> None:
        peer = self.a_peer(which)
        peer.go_away(max(0, max(peer.streams, default=0) - 2 * (which % 2)), which % 3)

    def do_go_away_soon(self, which: int, value: object) -> None:
        self.a_peer(which).go_away(2**31 - 1)

    def do_acknowledge(self, which: int, value: object) -> None:
        peer, stream = self.a_stream(which)
        peer.acknowledge(stream)

    def do_sulk(self, which: int, value: object) -> None:
        self.a_peer(which).greedy = False

    def an_end(self, which: int, what: str) -> None:
        backends = what.startswith("backend")
        ends = [end for end in (self.network.ends if backends else self.clients) if end.wire.connected]
        if ends:
            getattr(ends[-1 - which % len(ends)], what.partition("_")[2])()

    def __getattr__(self, name: str) -> object:
        what = name.removeprefix("do_")
        if what.startswith(("client_", "backend_")) and what != name:
            return lambda which, value: self.an_end(which, what)
        raise AttributeError(name)

    def do_wait(self, which: int, value: object) -> None:
        self.loop.wait(1.5)

    def do_tick(self, which: int, value: object) -> None:
        self.loop.wait(0.3)

    def do_half_minute(self, which: int, value: object) -> None:
        self.loop.wait(31)

    def do_drain(self, which: int, value: object) -> None:
        if which == 3:
            self.listener.drain()

    def do_part(self, which: int, value: object) -> None:
        self.listener.part_from(self.backends[which:])

    def do_retire(self, which: int, value: object) -> None:
        if which == 3:
            self.backends[0].retire()

    def do_close_idle(self, which: int, value: object) -> None:
        self.backends[which % 2].close_idle()

    @given(st.lists(_steps, max_size=30))
    @example([("say", 0, post(200_000)), ("accept", 2, None), ("say", 0, b"x" * 70_000), ("reset", 0, 7)])
    @example([("ask", 0, HEADS[4]), ("accept", 2, None), ("answer", 0, ANSWERS[1]), ("part", 0, None)])
    @settings(
        max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )  # fmt: skip
    def test_nothingLeft(self, steps: list[tuple[str, int, object]]) -> None:
        """After any conversation, time alone brings everything back to zero."""
        self.begin()
        for step in steps:
            self.step(*step)
            self.assertLessEqual(sum(b.active for b in self.backends), self.resource.exchanges)
            for end in (*self.clients, *self.network.ends):
                self.assertLess(end.queued, 700_000)
        self.let_time_pass()
        self.end()
        self.assertEqual([(b.connections, b.gatherings, list(b.idle)) for b in self.backends], [([], [], [])] * 2)
        self.clients.clear()
        self.network.ends.clear()
        self.assertEqual(self.flushLoggedErrors(), [])
