"""What holds for every input: pieces, rubbish, whole conversations; and the h2 library as the other side."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec as http1
from lemmytx.http2 import codec, frames, heads
from lemmytx.http2.errors import Declined, Malformed
from lemmytx.message import ProtocolError
from tests.http2.rig import GET, POST, Fields, Player, block, described, frame, headers, parsed

bounded = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_OK: Fields = [(b":status", b"200"), (b"x", b"y")]
_blocks = st.sampled_from(
    [block(GET), block(POST), block(_OK), block([(b"x", b"y")]), b"", b"\x82", b"\xbe", b"\x3f\xff"]
)
_payloads = st.one_of(
    st.binary(max_size=20),
    _blocks,
    st.builds(
        lambda number, rest: number.to_bytes(4, "big") + rest, st.integers(0, (1 << 32) - 1), st.binary(max_size=6)
    ),
    st.builds(lambda pad, rest: bytes([pad]) + rest, st.integers(0, 9), _blocks),
)
_flags = st.one_of(st.sampled_from([0, 1, 4, 5, 0x0D, 0x25]), st.integers(0, 255))
_any_frames = st.builds(frame, st.integers(0, 11), _flags, st.sampled_from([0, 1, 1, 2, 3, 5, 99]), _payloads)
_good_frames = st.one_of(
    st.builds(headers, st.sampled_from([1, 3, 5, 7, 9]), st.sampled_from([GET, POST, _OK, [(b"x", b"y")]]),
              st.sampled_from([4, 5])),
    st.builds(lambda stream, size, flags: frame(0, flags, stream, bytes(size)), st.sampled_from([1, 3, 5]),
              st.integers(0, 99), st.sampled_from([0, 0, 1])),
    st.builds(frames.window_update, st.sampled_from([0, 1, 3, 5]), st.integers(1, 1 << 20)),
    st.builds(frames.rst_stream, st.sampled_from([1, 3]), st.integers(0, 14)),
    st.builds(lambda size: frames.settings({frames.INITIAL_WINDOW_SIZE: size}), st.integers(0, 1 << 20)),
)  # fmt: skip
_scripts = st.lists(st.one_of(_good_frames, _good_frames, _any_frames), max_size=14)

_names = st.one_of(
    st.sampled_from(
        [b":method", b":path", b":scheme", b":authority", b":protocol", b"host", b"cookie", b"content-length", b"te",
         b"connection", b"x", b"x-forwarded-for", b"transfer-encoding", b"expect", b"upgrade"]
    ),
    st.binary(max_size=4),
)  # fmt: skip
_values = st.one_of(
    st.sampled_from(
        [b"", b"a", b"5", b"/", b"*", b"http", b"a.example", b"b", b"chunked", b"trailers", b"CONNECT", b" "]
    ),
    st.binary(max_size=6),
    st.text("/.%2e\\:@#?&,; \t\r\n\0aA", max_size=6).map(str.encode),
)
_fronts = st.one_of(st.sampled_from([GET, POST, GET[:3], GET[1:], []]), st.permutations([*GET, (b"x", b"y")]))
_lists = st.builds(list.__add__, _fronts, st.lists(st.tuples(_names, _values), max_size=5))


def _opened(client: bool) -> Player:
    """A client with three streams open, or a server with none."""
    player = Player(client=client)
    if client:
        for _ in range(3):
            player.connection.request(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", False)
        player.connection.take()
    return player


class InputTests(SynchronousTestCase):
    """Any bytes."""

    @bounded
    @given(_scripts, st.booleans(), st.integers(1, 40))
    def test_pieces(self, script: list[bytes], client: bool, size: int) -> None:
        """It makes no difference in which pieces bytes come."""
        sent = b"".join(script)
        whole = _opened(client)
        whole.feed(sent)
        cut = _opened(client)
        for at in range(0, len(sent), size):
            cut.feed(sent[at : at + size])
        self.assertEqual(cut.happened(), whole.happened())
        self.assertEqual(cut.out, whole.out)
        self.assertEqual(repr(cut.connection), repr(whole.connection))

    @bounded
    @given(_scripts, st.booleans(), st.randoms(use_true_random=False))
    def test_rubbish(self, script: list[bytes], client: bool, choice: random.Random) -> None:
        """
        Frames that make no sense raise nothing; what is sent meanwhile raises nothing but StreamGone; what comes out is
        frames, GOAWAY the last of them; and a stream that is told of nothing more is gone.
        """
        player = _opened(client)
        connection = player.connection
        acts: list[Callable[[int], object]] = [
            lambda stream: connection.send(stream, bytes(min(connection.room(stream), 30)), choice.random() < 0.3),
            lambda stream: connection.trailers(stream, b"x: y\r\n"),
            lambda stream: connection.reset(stream, codec.CANCEL),
            lambda stream: connection.taken(stream, 5),
            lambda stream: connection.ping(),
        ]
        if not client:
            acts.append(lambda stream: connection.respond(stream, b"HTTP/1.1 200 OK\r\n\r\n", choice.random() < 0.3))
        for piece in script:
            player.feed(piece)
            try:
                choice.choice(acts)(choice.choice([1, 3, 5, 7]))
            except codec.StreamGone:
                continue
        out = parsed(player.out + connection.take())
        ends = [place for place, (kind, _, _, _) in enumerate(out) if kind == frames.GOAWAY]
        self.assertEqual(len(ends), int(connection.terminated))
        names = [type(event).__name__ for event in player.events]
        self.assertEqual(names.count("Terminated"), int(connection.terminated))
        if connection.terminated:
            self.assertEqual(names[-1], "Terminated")
        gone: set[int] = set()
        for event in player.events:
            stream = getattr(event, "stream", 0)
            if stream:
                self.assertNotIn(stream, gone)
            if isinstance(event, codec.Reset):
                gone.add(event.stream)

    @bounded
    @given(_lists, st.booleans(), st.booleans())
    def test_heads(self, fields: Fields, ended: bool, extended: bool) -> None:
        """
        Whatever a client's fields are, what comes out is one HTTP/1.1 head that ends where it should, and says nothing
        that was not among them.
        """
        try:
            head, length, protocol = heads.request(fields, ended, extended)
        except (Malformed, Declined):
            return
        self.assertTrue(head.endswith(b"\r\n\r\n"))
        self.assertEqual(head.count(b"\r\n\r\n"), 1)
        try:
            parsed_head = http1.request(head)
        except ProtocolError:
            return  # 400, 417 and the like: refused by that codec, as from anybody
        assert parsed_head is not None
        self.assertEqual(parsed_head.size, len(head))
        given_names = {name for name, _ in fields} | {b"host"}
        if protocol is not None:
            given_names |= {b"connection", b"upgrade", b"sec-websocket-key"}
        elif length < 0:
            given_names.add(b"transfer-encoding")
        for name, value in parsed_head.fields():
            self.assertIn(name, given_names)
            self.assertNotIn(b"\n", value)
        self.assertEqual(parsed_head.length, 0 if protocol else length)

    @bounded
    @given(st.lists(st.tuples(_names, _values), max_size=5), st.booleans())
    def test_response_heads(self, fields: Fields, ended: bool) -> None:
        """Whatever a server's fields are, what comes out is one head that the HTTP/1.1 codec takes, or refuses."""
        try:
            head, status, _ = heads.response([(b":status", b"200"), *fields], ended, b"GET")
        except Malformed:
            return
        parsed_head = http1.response(head)
        assert parsed_head is not None
        self.assertEqual((parsed_head.status, parsed_head.size), (status, len(head)))
        self.assertTrue({name for name, _ in parsed_head.fields()} <= {name for name, _ in fields} | {
            b"content-length", b"transfer-encoding",
        })  # fmt: skip


class Talk:
    """
    A client and a server with bodies to send to each other, on any number of streams; every choice is drawn.

    @ivar came: what has come, by side and stream.
    """

    def __init__(self, choice: random.Random, bodies: list[tuple[bytes, bytes]]) -> None:
        self.choice = choice
        bounds = [
            codec.Bounds(
                window=choice.choice([40, 500, 65535, 200_000]),
                connection_window=choice.choice([65535, 70_000, 1 << 20]),
                frame_size=choice.choice([16384, 20_000]),
                streams=choice.choice([1, 3, 100]),
                chatter=1 << 30,  # small windows need many updates
            )
            for _ in range(2)
        ]
        self.sides = [codec.Connection(True, bounds[0]), codec.Connection(False, bounds[1])]
        self.pipes = [b"", b""]  # towards the server, towards the client
        self.bodies = bodies
        self.begun = 0
        self.greeted = False
        self.left: list[dict[int, bytes]] = [{}, {}]
        self.came: list[dict[int, bytes]] = [{}, {}]
        self.done: list[set[int]] = [set(), set()]
        for side in self.sides:
            side.start()

    def run(self) -> None:
        """Until nothing is left to be said."""
        for _ in range(5000):
            self.begin()
            for side in (0, 1):
                self.send(side)
                self.pipes[side] += self.sides[side].take()
            if not any(self.pipes):
                return
            for side in (0, 1):
                pipe = self.pipes[side]
                size = self.choice.choice([7, 100, 5000, 1 << 20])
                self.pipes[side] = pipe[size:]
                self.hear(1 - side, self.sides[1 - side].receive(pipe[:size]))
        raise AssertionError("they go on for ever")

    def begin(self) -> None:
        client = self.sides[0]
        if not self.greeted and self.sides[1].bounds.streams < 100:
            return  # who does not wait to hear of the bound may be refused
        while self.begun < len(self.bodies) and client.streams < client.peer_streams and self.choice.random() < 0.5:
            body = self.bodies[self.begun][0]
            stream = client.request(b"POST / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % self.begun, False)
            assert stream == 1 + 2 * self.begun
            self.begun += 1
            self.left[0][stream] = body

    def send(self, side: int) -> None:
        left = self.left[side]
        for stream, body in list(left.items()):
            piece = body[: min(self.sides[side].room(stream), self.choice.choice([10, 1000, 1 << 20]))]
            body = body[len(piece) :]
            trailing = not body and stream % 3 == 0
            self.sides[side].send(stream, piece, not body and not trailing)
            if trailing:
                self.sides[side].trailers(stream, b"x: y\r\n")
            if body:
                left[stream] = body
            else:
                del left[stream]

    def hear(self, side: int, happened: list[codec.Event]) -> None:
        for event in happened:
            if isinstance(event, codec.Request | codec.Response):
                self.came[side][event.stream] = b""
                if side == 1:
                    self.sides[1].respond(event.stream, b"HTTP/1.1 200 OK\r\n\r\n", False)
                    self.left[1][event.stream] = self.bodies[event.stream // 2][1]
            elif isinstance(event, codec.Data):
                self.came[side][event.stream] += event.data
                self.sides[side].taken(event.stream, event.flow)
                if event.ended:
                    self.done[side].add(event.stream)
            elif isinstance(event, codec.Trailers):
                self.done[side].add(event.stream)
            else:
                assert isinstance(event, codec.Settings | codec.Room), described([event])
                self.greeted |= side == 0


class TalkTests(SynchronousTestCase):
    """Whole conversations between two of ours."""

    @settings(bounded, max_examples=40)
    @given(
        st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=6), st.randoms(use_true_random=False)
    )
    def test_bodies(self, sizes: list[tuple[int, int]], choice: random.Random) -> None:
        """Whatever the windows, sizes and pieces are: what goes in comes out, and all streams end."""
        bodies = [(choice.randbytes(one), choice.randbytes(other)) for one, other in sizes]
        talk = Talk(choice, bodies)
        talk.run()
        while talk.begun < len(bodies):
            talk.run()
        for number, (asked, answered) in enumerate(bodies):
            self.assertEqual(talk.came[1][1 + 2 * number], asked)
            self.assertEqual(talk.came[0][1 + 2 * number], answered)
        everything = set(range(1, 2 * len(bodies), 2))
        self.assertEqual(talk.done, [everything, everything])
        self.assertEqual([side.streams for side in talk.sides], [0, 0])


_exchanges = st.lists(
    st.tuples(st.integers(0, 70_000), st.integers(0, 70_000), st.booleans(), st.booleans()), min_size=1, max_size=4
)


def pour_ours(ours: codec.Connection, left: dict[int, bytes], trailers: list[bool]) -> None:
    """
    Send as much as the windows let through.

    @param left: of bodies, by stream. Those that have been sent whole are taken out.
    @param trailers: whether they end with some, in the order of the exchanges.
    """
    for stream, body in list(left.items()):
        room = ours.room(stream)
        last = room >= len(body)
        ours.send(stream, body[:room], last and not trailers[stream // 2])
        left[stream] = body[room:]
        if last:
            del left[stream]
            if trailers[stream // 2]:
                ours.trailers(stream, b"x: y\r\n")


def pour_theirs(other: Any, left: dict[int, bytes], trailers: list[bool]) -> None:
    """The same for h2, which takes one frame at a time."""
    for stream, body in list(left.items()):
        size = min(other.local_flow_control_window(stream), other.max_outbound_frame_size, len(body))
        last = size == len(body)
        other.send_data(stream, body[:size], end_stream=last and not trailers[stream // 2])
        left[stream] = body[size:]
        if last:
            del left[stream]
            if trailers[stream // 2]:
                other.send_headers(stream, [(b"x", b"y")], end_stream=True)


class OtherTests(SynchronousTestCase):
    """Conversations with the h2 library, which checks all that it gets."""

    @settings(bounded, max_examples=40)
    @given(_exchanges, st.randoms(use_true_random=False))
    def test_client(self, exchanges: list[tuple[int, int, bool, bool]], choice: random.Random) -> None:
        """h2 as the client: each of its requests comes with its body, and each answer arrives."""
        ours = codec.Connection(False)
        ours.start()
        other: Any = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        other.initiate_connection()
        left: dict[int, bytes] = {}
        for asked, _, trailers, _ in exchanges:
            stream = other.get_next_available_stream_id()
            fields = [*POST, (b"x-number", b"%d" % stream)]
            other.send_headers(stream, fields if trailers else [*fields, (b"content-length", b"%d" % asked)])
            left[stream] = choice.randbytes(asked)
        whole = dict(left)
        answers = {1 + 2 * number: choice.randbytes(row[1]) for number, row in enumerate(exchanges)}
        answering: dict[int, bytes] = {}
        came: dict[int, bytes] = {}
        got: dict[int, bytes] = {}
        ended: set[int] = set()
        for _ in range(2000):
            pour_theirs(other, left, [row[2] for row in exchanges])
            sent = other.data_to_send()
            for event in ours.receive(sent):
                if isinstance(event, codec.Request):
                    came[event.stream] = b""
                    ours.respond(event.stream, b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n", False)
                    ours.respond(event.stream, b"HTTP/1.1 200 OK\r\nx: %d\r\n\r\n" % event.stream, False)
                    answering[event.stream] = answers[event.stream]
                elif isinstance(event, codec.Data):
                    came[event.stream] += event.data
                    ours.taken(event.stream, event.flow)
            pour_ours(ours, answering, [row[3] for row in exchanges])
            heard = ours.take()
            for event in other.receive_data(heard):
                if isinstance(event, h2.events.DataReceived):
                    got[event.stream_id] = got.get(event.stream_id, b"") + event.data
                    other.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
            if not sent and not heard:
                break
        self.assertEqual(came, whole)
        self.assertEqual({stream: got.get(stream, b"") for stream in answers}, answers)
        self.assertEqual(ended, set(answers))
        self.assertEqual(ours.streams, 0)

    @settings(bounded, max_examples=40)
    @given(_exchanges, st.randoms(use_true_random=False))
    def test_server(self, exchanges: list[tuple[int, int, bool, bool]], choice: random.Random) -> None:
        """h2 as the server: each of our requests arrives with its body, and each of its answers comes."""
        ours = codec.Connection(True)
        ours.start()
        other: Any = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        other.initiate_connection()
        ours.receive(other.data_to_send())
        left: dict[int, bytes] = {}
        for asked, _, _, _ in exchanges:
            stream = ours.request(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", False)
            left[stream] = choice.randbytes(asked)
        whole = dict(left)
        answers = {1 + 2 * number: choice.randbytes(row[1]) for number, row in enumerate(exchanges)}
        answering: dict[int, bytes] = {}
        came: dict[int, bytes] = {}
        got: dict[int, bytes] = {}
        ended: set[int] = set()
        for _ in range(2000):
            pour_ours(ours, left, [row[2] for row in exchanges])
            sent = ours.take()
            for event in other.receive_data(sent):
                if isinstance(event, h2.events.RequestReceived):
                    came[event.stream_id] = b""
                    other.send_headers(event.stream_id, _OK)
                    answering[event.stream_id] = answers[event.stream_id]
                elif isinstance(event, h2.events.DataReceived):
                    came[event.stream_id] += event.data
                    other.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            pour_theirs(other, answering, [row[3] for row in exchanges])
            heard = other.data_to_send()
            for event in ours.receive(heard):
                if isinstance(event, codec.Response):
                    self.assertEqual(event.head, b"HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n")
                elif isinstance(event, codec.Data):
                    got[event.stream] = got.get(event.stream, b"") + event.data
                    ours.taken(event.stream, event.flow)
                    if event.ended:
                        ended.add(event.stream)
                elif isinstance(event, codec.Trailers):
                    ended.add(event.stream)
            if not sent and not heard:
                break
        self.assertEqual(came, whole)
        self.assertEqual({stream: got.get(stream, b"") for stream in answers}, answers)
        self.assertEqual(ended, set(answers))
        self.assertEqual(ours.streams, 0)
