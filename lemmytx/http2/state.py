"""
What a connection knows, and the few things that everything in it does: put a frame out, end a stream, count.

Everything is here at once, as plain attributes, because each small exchange touches most of it.
"""

from __future__ import annotations

from lemmytx.http2 import frames
from lemmytx.http2.bounds import Bounds
from lemmytx.http2.errors import ENHANCE_YOUR_CALM, Broken
from lemmytx.http2.events import Event, Reset
from lemmytx.http2.hpack import Decoder, Encoder
from lemmytx.http2.streams import ENDED, RESET_BY_US, Past, Stream

#: What an act is worth when floods are judged: this many frames of chatter.
WORTH = 8
#: And a DATA frame with less than this in it.
SMALL = 128
SMALL_WORTH = 4


class State:
    """
    What L{Incoming<lemmytx.http2.incoming.Incoming>} and L{Connection<lemmytx.http2.connection.Connection>} share.

    @ivar bounds: what this connection may cost.
    @ivar terminated: it has come to its end.
    @ivar draining: no new stream is begun: we do not take them, or the peer does not.
    @ivar peer_streams: how many streams we may have open at once.
    @ivar peer_extended_connect: the peer takes extended CONNECT (RFC 8441).
    """

    __slots__ = (
        "_acknowledged", "_block_flags", "_block_parts", "_block_size", "_block_stream", "_chatter", "_client",
        "_decoder", "_encoder", "_events", "_extended_connect", "_finished", "_inflow", "_last", "_next", "_out",
        "_outflow", "_owed", "_past", "_peer_frame_size", "_peer_window", "_pings", "_replies", "_resets", "_rest",
        "_self_dependent", "_streams", "_window", "_work", "bounds", "draining", "peer_extended_connect",
        "peer_streams", "terminated",
    )  # fmt: skip

    def __init__(self, client: bool, bounds: Bounds, extended_connect: bool) -> None:
        self.bounds = bounds
        self.terminated = False
        self.draining = False
        self.peer_streams = 100  # until its SETTINGS come: what §6.5.2 says that it should be at least
        self.peer_extended_connect = False
        self._client = client
        self._extended_connect = extended_connect
        self._streams: dict[int, Stream] = {}
        self._past = Past()
        self._next = 1  # clients: the next stream of ours
        self._last = 0  # servers: the last stream of the peer's
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._rest = b""
        self._decoder = Decoder(list_size=bounds.header_list, fields=bounds.fields)
        self._encoder = Encoder()
        # flow control: of the connection, and what a new stream begins with
        self._outflow = frames.DEFAULT_WINDOW
        self._inflow = max(bounds.connection_window, frames.DEFAULT_WINDOW)
        self._owed = 0
        self._peer_window = frames.DEFAULT_WINDOW
        self._window = frames.DEFAULT_WINDOW
        self._peer_frame_size = frames.SMALLEST_FRAME_SIZE
        self._acknowledged = False
        # a header block of which CONTINUATIONs are to come
        self._block_stream = 0
        self._block_flags = 0
        self._block_size = 0
        self._block_parts: list[bytes] = []
        self._self_dependent = False
        # floods
        self._pings = 0
        self._replies = 0
        self._chatter = 0
        self._work = 0
        self._resets = 0
        self._finished = 0

    def _reply(self, frame: bytes) -> None:
        """
        Put out what the peer makes us say.

        @raise Broken: it does not read what we say.
        """
        if self._replies >= self.bounds.replies:
            raise Broken(ENHANCE_YOUR_CALM, "a peer that makes us answer and does not read")
        self._out.append(frame)
        self._replies += 1

    def _idle_talk(self, weight: int = 1) -> None:
        """
        A frame has come that brings nothing forward.

        @raise Broken: there are too many of them.
        """
        chatter = self._chatter = self._chatter + weight
        if chatter > self.bounds.chatter:
            if self._work < chatter:
                raise Broken(ENHANCE_YOUR_CALM, "a flood of frames that bring nothing forward")
            self._chatter = self._work = 0

    def _in_vain(self) -> None:
        """
        The peer has made a stream of its own come to nothing.

        @raise Broken: there are too many of them.
        """
        resets = self._resets = self._resets + 1
        if resets > self.bounds.resets:
            if self._finished < self.bounds.resets:
                raise Broken(ENHANCE_YOUR_CALM, "a flood of streams that come to nothing")
            self._resets = self._finished = 0

    def _finish(self, stream: Stream) -> None:
        """Both sides have ended it."""
        del self._streams[stream.number]
        self._past.add(stream.number, ENDED)
        self._finished += 1

    def _refuse(self, number: int, code: int) -> None:
        """
        What the peer has sent is an error of that stream (RFC 9113 §5.4.2).

        @raise Broken: there are too many of them.
        """
        if self._streams.pop(number, None) is not None:
            self._events.append(Reset(number, code, True))
        self._past.add(number, RESET_BY_US)
        self._reply(frames.rst_stream(number, code))
        if not self._client:
            self._in_vain()
