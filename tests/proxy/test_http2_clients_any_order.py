"""HTTP/2: whatever clients and backends do, in whatever order, nothing raises, and nothing is left behind."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lemmytx.cluster.rules import Rules
from lemmytx.http2.bounds import Bounds
from lemmytx.http2.errors import StreamGone
from lemmytx.model import Limits, Timeouts
from lemmytx.proxy.http2_sending import HELD, HIGH, MUCH
from tests.proxy.http2_rig import CONNECT, GET, Answer, Client, Http2Case
from tests.proxy.rig import ProxyCase, post
from tests.proxy.test_any_order import OPEN, RESPONSES

#: What a client may ask for: head, whether that is all, protocol.
REQUESTS = (
    (GET, True, None), (GET, True, None), (GET.replace(b"GET", b"HEAD"), True, None), (post(5), False, None),
    (post(5, b"Expect: 100-continue\r\n"), False, None), (post(200_000, method=b"PUT"), False, None),
    (post(0), True, None), (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", False, None), (GET, False, None),
    (GET[:-2] + b"Expect: wonders\r\n\r\n", True, None), (GET[:-2] + b"X: " + b"x" * 40_000 + b"\r\n\r\n", True, None),
    (post(400_000), False, None), (CONNECT, False, b"websocket"), (CONNECT, False, b"websocket"),
)  # fmt: skip

#: Frames by hand, right or wrong.
RAW = (
    b"\0\0\1\x06\0\0\0\0\0x", b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff", b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\1",
    b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff", b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"\0\0\x08\x06\0\0\0\0\0abcdefgh",
    b"\0\0\x04\x03\0\0\0\0\1\0\0\0\x08", b"\0\0\x00\x00\1\0\0\0\1", b"nonsense, and much of it",
)  # fmt: skip

_which = st.integers(0, 3)
_steps = st.one_of(
    st.tuples(st.just("ask"), _which, st.sampled_from(REQUESTS)),
    st.tuples(st.just("data"), _which, st.tuples(st.sampled_from((0, 1, 5, 20_000, 70_000)), st.booleans())),
    st.tuples(st.sampled_from(("trailers", "give_up", "give", "stingy", "generous")), _which, st.none()),
    st.tuples(st.just("answer"), _which, st.sampled_from((*RESPONSES, OPEN))),
    st.tuples(st.just("raw"), _which, st.sampled_from(RAW)),
    st.tuples(st.sampled_from(("accept", "accept", "refuse", "client")), _which, st.none()),
    st.tuples(st.sampled_from(("client_close", "client_reset", "backend_close", "backend_reset")), _which, st.none()),
    st.tuples(st.sampled_from(("client_full", "client_drain", "backend_full", "backend_drain")), _which, st.none()),
    st.tuples(st.sampled_from(("second", "tick", "half_minute", "drain", "part", "cut")), _which, st.none()),
)
_times = {"tick": 0.3, "second": 1.5, "half_minute": 31.0}


class AnyOrderTests(Http2Case):
    """Random conversations, several at a time, several on each connection."""

    def step(self, what: str, which: int, data: Any) -> None:
        """Do one thing, if there is somebody to do it."""
        if what in _times:
            self.loop.wait(_times[what])
        elif what == "client":
            self.peers.append(self.second(bounds=Bounds(window=(10, 65535, 1 << 20, 65535)[which])))
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
        elif what == "answer" or what.startswith("backend"):
            ends = [end for end in self.network.ends if end.wire.connected]
            if ends:
                end = ends[-1 - which % len(ends)]
                if data:
                    end.send(data)
                else:
                    getattr(end, what.partition("_")[2])()
        else:
            peers = [peer for peer in self.peers if peer.end.wire.connected]
            if peers:
                self.client_step(peers[-1 - which % len(peers)], what, which, data)
        for peer in self.peers:
            if peer.end.wire.connected and peer.terminated is None:
                peer.go()

    def client_step(self, peer: Client, what: str, which: int, data: Any) -> None:
        """One thing that a client does."""
        if what.startswith("client"):
            getattr(peer.end, what.partition("_")[2])()
        elif what == "raw":
            peer.end.send(data)
        elif what in ("stingy", "generous"):
            peer.generous = what == "generous"
        elif what == "ask":
            head, ended, protocol = data
            try:
                stream = peer.codec.request(head, ended, protocol)
            except StreamGone:
                return
            peer.answers[stream] = Answer()
        elif peer.answers:
            stream = list(peer.answers)[-1 - which % len(peer.answers)]
            try:
                if what == "data":
                    size, ended = data
                    size = min(size, peer.codec.room(stream))
                    peer.codec.send(stream, b"x" * size, ended)
                elif what == "trailers":
                    peer.codec.trailers(stream, b"x-sum: 1\r\n")
                elif what == "give_up":
                    peer.codec.reset(stream, 8)
                else:
                    peer.give(stream)
            except StreamGone:
                pass

    def check(self) -> None:
        """What must hold at any time."""
        self.assertLessEqual(sum(backend.active for backend in self.backends), self.resource.exchanges)
        for end in self.network.ends:
            self.assertLess(end.queued, 500_000)
        for peer in self.peers:
            out, streams = peer.downstream.out, peer.downstream.streams.values()
            self.assertEqual(out.held, sum(stream.size for stream in streams))
            self.assertLess(out.held, HELD + 4 * HIGH)
            self.assertLess(peer.end.queued, MUCH + 4 * HIGH)
            self.assertEqual([stream for stream in out.ready if not stream.waiting], [])
            self.assertLessEqual({*out.ready, *out.starved}, set(streams))

    @given(st.lists(_steps, max_size=30))
    @example(
        [("ask", 0, (post(5), False, None)), ("accept", 0, None), ("answer", 0, RESPONSES[0]), ("data", 0, (5, True))]
    )
    @example([("stingy", 0, None), ("ask", 0, (GET, True, None)), ("accept", 0, None)]
             + [("answer", 0, response) for response in (RESPONSES[13], RESPONSES[14], RESPONSES[14], RESPONSES[14])]
             + [("half_minute", 0, None)] * 2)  # fmt: skip
    @settings(
        max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )  # fmt: skip
    def test_nothingLeft(self, steps: list[tuple[str, int, Any]]) -> None:
        """After any conversation, time alone brings everything back to zero."""
        ProxyCase.setUp(self)
        self.compose(
            backends=2,
            rules=Rules(attempts=2, retry_on=frozenset((503,)), read=20.0),
            timeouts=Timeouts(tunnel=40.0),
            limits=Limits(body_size=300_000),
        )
        self.peers = [self.second()]
        for step in steps:
            self.step(*step)
            self.check()
        self.let_time_pass()
        self.assertEqual([peer.downstream.streams for peer in self.peers], [{}] * len(self.peers))
        self.end()
        self.clients.clear()
        self.network.ends.clear()
