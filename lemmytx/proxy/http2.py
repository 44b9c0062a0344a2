"""
One connection from a client, HTTP/2 (RFC 9113): many exchanges at once.

The codec (L{lemmytx.http2}) knows frames, windows and all that a peer may not do. Here its events become exchanges
(L{lemmytx.proxy.http2_stream.Stream}: one stream, one exchange), and their answers become what it sends. Three rules
hold it together:

  - B{A slow client stops its own streams, nobody else}; how, and whose turn it is, is L{lemmytx.proxy.http2_sending}'s.
  - B{No client takes the reactor for itself}: what one read can begin is bounded by how many streams may be open, and
    how many may come to nothing.
  - B{The end is announced}: GOAWAY with the highest number first, so that no request which is on its way is lost, and
    L{LAST_REQUEST} later with the number of the last stream that was served (RFC 9113 §6.8).

The connection's own time, by its state, beside that of each stream::

    closing                     the client reads the last bytes and closes: timeouts.body between two looks
    last call (first GOAWAY)    L{LAST_REQUEST}
    blocked                     the socket takes nothing: timeouts.body
    no streams                  timeouts.header before the client has said anything, then timeouts.keepalive
    streams                     none: they have their own
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.http2 import codec, events
from lemmytx.http2.bounds import Bounds
from lemmytx.proxy.downstream import LAST_REQUEST, LINGER_BYTES, LINGER_TIME
from lemmytx.proxy.http2_sending import Outlet
from lemmytx.proxy.http2_stream import Stream

if TYPE_CHECKING:
    from lemmytx.proxy.entrance import Entrance
    from lemmytx.proxy.exchange import Exchange
    from lemmytx.proxy.forward import Peer
    from lemmytx.proxy.listener import Listener

log = Logger(namespace="lemmytx.proxy")

#: Seconds after which the codec forgets what it has counted of a client's oddities, and begins anew.
RELAX = 30.0

#: Fields of HTTP/2 that are in the request line in HTTP/1.1 (RFC 9113 §8.3.1): they are not among those that count.
_MORE_FIELDS = 3

#: The first GOAWAY: "no more, please", and every stream that comes all the same is still served (RFC 9113 §6.8).
_EVERY_STREAM = (1 << 31) - 1


@implementer(IProtocol, IHalfCloseableProtocol)
class Http2Downstream:
    """
    @ivar entrance: what the connection came through, if it did.
    @ivar peer: who the client is, for its next requests.
    @ivar codec: the connection as the codec sees it.
    @ivar streams: by their numbers, until both the exchange is over and its answer has been handed to the codec.
    @ivar out: its sending side.
    @ivar served: how many requests there were.
    """

    __slots__ = (
        "_closing", "_drained", "_greeted", "_last_call", "_queued", "_relax_at", "_taken", "check_at",
        "codec", "deadline", "draining", "entrance", "listener", "out", "peer", "served", "streams", "transport",
    )  # fmt: skip

    transport: Any

    def __init__(self, listener: Listener, entrance: Entrance | None = None) -> None:
        """
        @param entrance: what the connection came through, if it did.
        """
        self.listener = listener
        self.entrance = entrance
        self.transport = None
        self.peer: Peer = listener.nobody
        limits = listener.limits
        self.codec = codec.Connection(
            False, Bounds(header_list=limits.header_size, fields=limits.headers + _MORE_FIELDS), extended_connect=True
        )
        self.streams: dict[int, Stream] = {}
        self.out = Outlet(self, self.codec)
        self.served = 0
        self.draining = False
        self.deadline = inf
        self.check_at = inf
        self._closing = False  # the last byte has been written
        self._greeted = False  # the client has said that it speaks HTTP/2
        self._drained = False  # the last GOAWAY has gone out, or the client has sent one with streams under way
        self._last_call = False  # the first GOAWAY has gone out
        self._queued = 0  # when we last looked whether the client reads
        self._relax_at = inf
        self._taken = 0  # bytes that came while closing

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        """A client has connected."""
        self.transport = self.out.transport = transport
        self.peer = self.listener.connected(self, transport, self.entrance)
        self._set_deadline(self.listener.timeouts.header)
        self._relax_at = self.listener.ticker.seconds() + RELAX
        self.codec.start()
        self.out.write()
        if self.listener.draining:
            self.drain()

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came from the client."""
        if self._closing:
            self._taken += len(data)
            if self._taken > LINGER_BYTES:
                self.transport.abortConnection()
            return
        now = self.listener.ticker.seconds()
        if now >= self._relax_at:
            self._relax_at = now + RELAX
            self.codec.relax()
        self._serve(self.codec.receive(data))

    def _serve(self, happened: Sequence[Any]) -> None:
        """What has happened, in its order; and then one write."""
        out, streams = self.out, self.streams
        out.batching = True
        pieces: list[bytes] = []
        flow = 0
        last = len(happened) - 1
        for at, event in enumerate(happened):
            kind = event.__class__
            stream = streams.get(event.stream) if kind in _OF_STREAMS else None
            try:
                if kind is events.Request:
                    self._add(event.stream, event.ended).start(event.head, event.protocol)
                elif stream is not None:
                    if kind is events.Data:
                        pieces.append(event.data)
                        flow += event.flow
                        if at < last:
                            following = happened[at + 1]
                            if following.__class__ is events.Data and following.stream == event.stream:
                                continue  # small frames need not be small writes to the backend
                        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                        credit, pieces, flow = flow, [], 0
                        stream.body(data, credit, event.ended)
                    elif kind is events.Room:
                        stream.enqueue()
                    elif kind is events.Reset:
                        stream.gone(f"the client reset the stream (error {event.code})", event.ours)
                    elif kind is events.Trailers:
                        stream.trailers(event.lines)
                elif kind is events.Oversized:
                    self._add(event.stream, event.ended).reject(431, "a head that is too long")
                elif kind is events.Terminated:
                    self._terminated(event.code, event.reason)
                    return
                elif kind is events.GoneAway:
                    if self.streams:
                        self._drained = True
                    else:
                        # Whoever has said farewell mostly closes by himself.
                        self._set_deadline(LAST_REQUEST)
                elif kind is events.Room or kind is events.Settings:
                    # Of the connection, or of all streams.
                    out.give_turns()
                    if not self._greeted:
                        self._greeted = True
                        self._idle()
            except Exception:
                self._broke_down(streams.get(getattr(event, "stream", 0)))
        out.write()

    def _add(self, number: int, ended: bool) -> Stream:
        """A stream was opened."""
        self.served += 1
        if not (self._last_call or self.out.blocked):
            self.deadline = inf
        stream = self.streams[number] = Stream(self, number, ended)
        return stream

    def _terminated(self, code: int, reason: str) -> None:
        """The client has broken the rules of the connection: nothing that follows has a meaning."""
        self.listener.resource.rejected(400, f"HTTP/2 connection error {code}: {reason}", self.peer.client, None)
        self._lost(f"the connection was ended by error {code}: {reason}")
        self._end()

    def readConnectionLost(self) -> None:
        """The client has closed its half: with HTTP/2, nobody does that and waits for answers."""
        self._lost("the client closed the connection")
        if self.transport.connected:
            self._closing = True
            self.out.unblock()
            self._await_end()
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half is closed: L{_end} did that."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""
        self.listener.disconnected(self)
        self._closing = True
        self._lost("the client closed the connection")
        self.listener.ticker.forget(self)
        self.deadline = inf

    def _lost(self, why: str) -> None:
        """Nobody is there for any answer."""
        for stream in list(self.streams.values()):
            stream.gone(why)

    # What streams need

    def written(self) -> None:
        """Everything that could be sent has been, or a stream is over: perhaps it was the last thing to do."""
        if not self.streams and (self._drained or self.deadline == inf):
            self._idle()

    def stuck(self) -> bool:
        """
        The socket does not take what there is.

        @return: whether it is to be waited for.
        """
        if self._closing:
            return False
        self._queued = self.transport.queued
        if not self._last_call:
            self._set_deadline(self.listener.timeouts.body)
        return True

    def unstuck(self) -> None:
        """It has taken all of it."""
        if not self._last_call:
            self.deadline = inf

    def remove(self, stream: Stream) -> None:
        """A stream is over."""
        del self.streams[stream.number]
        self.out.forget(stream)
        if not self.streams and not self.out.batching:
            self.written()

    def has_room(self) -> bool:
        """Whether the client takes anything, on whichever stream: if so, who has no room has used up its own window."""
        room = self.codec.room
        return any(map(room, self.streams))

    def _idle(self) -> None:
        """Nothing is under way, since this moment."""
        if self._closing:
            return
        if self._drained:
            self._end()
        elif not (self._last_call or self.out.blocked or self.streams):
            timeouts = self.listener.timeouts
            self._set_deadline(timeouts.keepalive if self._greeted else timeouts.header)

    # Time

    def _set_deadline(self, seconds: float) -> None:
        ticker = self.listener.ticker
        self.deadline = ticker.seconds() + seconds
        if self.deadline < self.check_at:
            ticker.watch(self)

    def expired(self) -> None:
        """The deadline has passed: see the table at the top."""
        if self._closing:
            if self._progressed():
                self._set_deadline(self.listener.timeouts.body)
            else:
                self.transport.abortConnection()
        elif self._last_call and not self._drained:
            self._drained = True
            self.deadline = inf
            self.codec.drain()
            if self.out.blocked:
                self._set_deadline(self.listener.timeouts.body)
            self.out.write()
        elif self.out.blocked:
            if self._progressed():
                self._set_deadline(self.listener.timeouts.body)
            else:
                self._lost("the client did not read its responses in time")
                self.transport.abortConnection()
        elif not self.streams:
            self.codec.drain()
            self._end()

    def _progressed(self) -> bool:
        """Whether the client has read anything since we last looked."""
        before, self._queued = self._queued, getattr(self.transport, "queued", 0)
        return self._queued < before

    # What the listener asks and says

    def exchanges(self) -> list[Exchange]:
        """Those under way."""
        return [stream.exchange for stream in self.streams.values() if stream.exchange is not None]

    def drain(self) -> None:
        """
        Take no more requests but those that are on their way, and end when all are answered. WebSockets are told to go,
        unless the listener is patient.
        """
        if self._closing:
            return
        if not self.draining:
            self.draining = self._last_call = True
            self.codec.goaway(0, _EVERY_STREAM)
            if not self.out.blocked or self.deadline > self.listener.ticker.seconds() + LAST_REQUEST:
                self._set_deadline(LAST_REQUEST)
        if not self.listener.patient:
            for exchange in self.exchanges():
                if exchange.tunnel is not None:
                    exchange.tunnel.leave()
        self.out.write()

    def abort(self) -> None:
        """The process ends: whatever is under way is over."""
        exchanges = self.exchanges()
        answers = not all(exchange.responded for exchange in exchanges)
        self.out.batching = True
        for exchange in exchanges:
            exchange.request_broke(503, "shutdown", "still running when timeouts.drain was over")
        if self._closing or not self.transport.connected:
            return
        self.codec.drain()
        if answers:
            # The end of the process sends this and closes; a reset could take it away.
            self._end()
        else:
            self.out.write()
            self.transport.abortConnection()

    # Ends

    def _end(self) -> None:
        """Everything is said: close our half, and the rest when the client has done the same or has had its time."""
        self._closing = True
        self.out.unblock()
        self.out.write()
        self.out.listen_again()
        self._await_end()
        self.transport.loseWriteConnection()

    def _await_end(self) -> None:
        self._queued = getattr(self.transport, "queued", 0)
        self._set_deadline(self.listener.timeouts.body if self._queued else LINGER_TIME)

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own came out of what we do with the client's bytes."""
        log.failure("{downstream!r} was ended by an error of our own", downstream=self)
        self._lost("an error of our own; the log has it")
        self.transport.abortConnection()

    def _broke_down(self, stream: Stream | None) -> None:
        """The same, of what we do with one of its events: the others live on."""
        if stream is not None:
            stream.broke_down()
        else:
            log.failure("an error of our own at {downstream!r}", downstream=self)

    def __repr__(self) -> str:
        return f"<Http2Downstream {self.peer.client or 'unix'} served={self.served} streams={len(self.streams)}>"


#: Events of a stream that is there.
_OF_STREAMS = frozenset((events.Data, events.Room, events.Reset, events.Trailers))
