"""
One connection to a backend that speaks HTTP/2 (RFC 9113), and the exchanges on it.

Each exchange has a stream, and a L{Http2Carrier} that knows what it needs. The connection hands the codec's events to
them, sends what comes of it, once for all that one read has brought about, and keeps itself in or out of its backend's
list (L{lemmytx.cluster.multiplexed}). Its states, by its attributes::

    C{_opening}   C{leaving}   C{carriers}
    set           no           none         the transport stands; the backend's SETTINGS are awaited
    None          no           some         at work
    None          no           none         idle, for C{pool.idle_time}
    None          yes          some         takes no more: GOAWAY was received, or it is to be left
    None          yes          none         GOAWAY is sent; ends when what is queued is out

What the end of a stream, or of the connection, means to an exchange::

    RST_STREAM, REFUSED_STREAM               nothing was done with it: it may be sent again, whatever its method
    GOAWAY, and the stream is above its last the same
    RST_STREAM, PROTOCOL_ERROR               malformed: said by the backend of us, or by our codec of the backend
    RST_STREAM, any other                    the backend is gone, for this exchange
    the connection is closed or reset        the same, for all
    a connection error                       malformed, for all: nobody can say where the next frame begins

Memory: of each response there is at most one window (L{WINDOW}) that the client has not taken yet; of each request what
one read from the client has brought, since the source is paused when its stream, the connection, or the socket has no
room. So one slow stream, in either direction, holds up nobody but itself.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPullProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.http2 import codec
from lemmytx.message import ProtocolError
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.http2_carrier import Http2Carrier
from lemmytx.proxy.single import CLOSE_TIME

if TYPE_CHECKING:
    from lemmytx.proxy.http2_dial import Gathering

log = Logger(namespace="lemmytx.proxy")

#: How much of a response a backend may send before the client has taken it, for each stream. What the client does not
#: take is held, so this times the number of streams is what a connection costs at the worst.
WINDOW = 128 * 1024

#: Heads are bounded by the limits of the instance, as those of HTTP/1.1 are; here is only what one of them may cost.
BOUNDS = codec.Bounds(window=WINDOW, header_list=1 << 18, fields=1000)

#: Seconds in which a backend may say so much that brings nothing forward as L{codec.Bounds} has it.
RELAX = 30.0

#: Seconds in which a backend that did not answer on one stream has to answer a PING.
SIGN_OF_LIFE = 5.0

#: Streams have numbers up to 2^31, every other one ours (RFC 9113 §5.1.1).
MOST_STREAMS = 1 << 29

#: What one stream may send before the next one has its turn, where several wait for room on the connection.
TURN = 16384


@implementer(IProtocol, IHalfCloseableProtocol)
class Http2Upstream:
    """
    @ivar carriers: the exchanges, by the numbers of their streams.
    @ivar served: how many exchanges it has carried, those under way included.
    @ivar leaving: whether it takes no more of them.
    @ivar behind: whether the socket has to take what is queued before more is sent.
    @ivar deadline: see L{lemmytx.net.ticker.Timed}; C{check_at} too.
    """

    __slots__ = (
        "_doubted", "_limit", "_opening", "_resting", "_turning", "backend", "behind", "carriers", "check_at", "codec",
        "deadline", "leaving", "served", "ticker", "transport",
    )  # fmt: skip

    transport: Any

    def __init__(self, backend: Multiplexed, ticker: Ticker) -> None:
        self.backend = backend
        self.ticker = ticker
        self.transport = None
        scheme = b"https" if backend.way.tls is not None else b"http"
        self.codec = codec.Connection(True, BOUNDS, scheme=scheme)
        self.carriers: dict[int, Http2Carrier] = {}
        self.served = 0
        self.leaving = False
        self.behind = False
        self.deadline = inf
        self.check_at = inf
        self._opening: Gathering | None = None
        self._doubted = False  # it may be dead: nothing has come of it since it was asked for a sign of life
        self._resting = False
        self._turning = False  # what is to be sent goes out at the end of the turn
        self._limit = inf  # streams that the backend takes at this time, where it has refused one

    # Its backend, and who makes it

    def open_for(self, gathering: Gathering, seconds: float) -> None:
        """
        Called once, when the transport stands.

        @param gathering: who wants it; told when the backend's SETTINGS have come, or that they do not come.
        @param seconds: for them to come.
        """
        self._opening = gathering
        self._await(seconds)

    def has_room(self) -> bool:
        """Whether one more exchange may begin on it."""
        backend, count = self.backend, len(self.carriers)
        if self.leaving or self._doubted or (self.served and not backend.shares):
            return False
        return count < backend.streams and count < self.codec.peer_streams and count < self._limit

    def carrier(self) -> Http2Carrier:
        """What carries one more exchange, which begins at once."""
        return Http2Carrier(self)

    def begins(self, stream: int, carrier: Http2Carrier) -> None:
        """An exchange has begun."""
        self.carriers[stream] = carrier
        self.served += 1
        backend = self.backend
        if self._resting:
            self._resting = False
            backend.at_work(self)
            self._await(RELAX)
        if not backend.shares or self.served in (backend.pool.requests, MOST_STREAMS):
            self.leaving = True
            backend.dismiss(self)

    def ended(self, stream: int) -> None:
        """An exchange has ended, or its stream has."""
        del self.carriers[stream]

    def leave(self) -> None:
        """See L{lemmytx.cluster.multiplexed.Shared}."""
        if not self.leaving:
            self.leaving = True
            self._resting = False
            self.backend.dismiss(self)
            self.flush()

    def close(self) -> None:
        """The same: what a pool says to any connection."""
        self.leave()

    def doubt(self) -> None:
        """
        A stream was not answered in time. If that is since the backend is dead, or cannot be reached any more, all
        others would wait for their own timeouts, and new ones too: so it is asked, and gets nothing new until it has
        said a word.
        """
        if not (self._doubted or self.transport.disconnecting):
            self._doubted = True
            self.codec.ping()
            self._await(SIGN_OF_LIFE)
            self.flush()

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self._opening = None
        self.leaving = True
        self.deadline = inf
        self.transport.abortConnection()

    # Sending

    def flush(self) -> None:
        """Send what there is to send, now or at the end of this turn; and rest, or end, if that was all."""
        if self._turning:
            return
        if not (self.carriers or self._resting or self._opening):
            self._no_streams()
        if self.behind:
            return
        data = self.codec.take()
        if data:
            transport = self.transport
            transport.write(data)
            if getattr(transport, "behind", False):
                self._look_behind()

    def _look_behind(self) -> None:
        """The socket did not take everything."""
        transport = self.transport
        queued = transport.queued
        transport.behind = queued > 0
        if queued > transport.bufferSize and not transport.disconnecting:
            # From here on frames wait in the codec, which bounds them.
            self.behind = True
            transport.registerProducer(_Emptied(self), False)

    def caught_up(self) -> None:
        """The socket has taken everything."""
        self.behind = False
        self.transport.behind = False
        self.transport.unregisterProducer()
        self.everybody()

    def everybody(self) -> None:
        """There is room again: whoever waits sends on, in turns."""
        waiting = [carrier for carrier in self.carriers.values() if carrier.waits()]
        turning, self._turning = self._turning, True
        try:
            while waiting:
                waiting = [carrier for carrier in waiting if carrier.take_turn(TURN)]
        finally:
            self._turning = turning
        self.flush()

    def _no_streams(self) -> None:
        self._limit = inf
        if not self.leaving:
            self._resting = True
            self.backend.at_rest(self, self.ticker.seconds())
        elif not self.transport.disconnecting:
            self._end()

    def _end(self) -> None:
        """It has no streams and is to have none: say so, and close."""
        if not self.codec.terminated:
            self.codec.goaway()
        self.transport.write(self.codec.take())
        self._await(CLOSE_TIME)
        self.transport.loseConnection()

    def _await(self, seconds: float) -> None:
        self.deadline = self.ticker.seconds() + seconds
        if self.deadline < self.check_at:
            self.ticker.watch(self)

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:
        """The transport stands."""
        self.transport = transport
        transport.setTcpNoDelay(True)
        self.codec.start()
        transport.write(self.codec.take())

    def connectionMade(self) -> None:
        """See L{makeConnection}."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came from the backend."""
        if self._doubted:
            self._doubted = False
            self._await(self.backend.pool.idle_time if self._resting else RELAX)
        self._turning = True
        try:
            self._take(self.codec.receive(data))
        finally:
            self._turning = False
        if self.transport.connected:
            self.flush()

    def _take(self, received: list[Any]) -> None:
        carriers = self.carriers
        at, count = 0, len(received)
        while at < count:
            event = received[at]
            at += 1
            kind = event.__class__
            if kind is codec.Data:
                carrier = carriers.get(event.stream)
                if carrier is not None:
                    carrier.more(event.data, event.flow, event.ended)
            elif kind is codec.Response:
                carrier = carriers.get(event.stream)
                body, flow, ended = b"", 0, event.ended
                if at < count and not ended:
                    # Head and body in one read are one call to the client.
                    following = received[at]
                    if following.__class__ is codec.Data and following.stream == event.stream:
                        at += 1
                        body, flow, ended = following.data, following.flow, following.ended
                if carrier is not None:
                    carrier.came(event.head, body, flow, ended)
            elif kind is codec.Trailers:
                carrier = carriers.get(event.stream)
                if carrier is not None:
                    carrier.trailers(event.lines)
            elif kind is codec.Room:
                if not event.stream:
                    self.everybody()
                elif (carrier := carriers.get(event.stream)) is not None:
                    carrier.take_turn()
            elif kind is codec.Reset:
                carrier = carriers.get(event.stream)
                if carrier is not None:
                    self._reset(carrier, event)
            elif kind is codec.GoneAway:
                self._gone_away(event.last, event.code)
            elif kind is codec.Settings:
                self._settings()
            elif kind is codec.Terminated:
                self._terminated(event.reason)
                return

    def _settings(self) -> None:
        """The backend says what it takes."""
        gathering, self._opening = self._opening, None
        if gathering is None:
            return
        self._await(RELAX)
        if self.codec.peer_streams < 1:
            self._refuse_to_open(gathering, False, "takes no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0)")
            return
        self.backend.stands(self, self.codec.peer_streams)
        gathering.stands(self)

    def _refuse_to_open(self, gathering: Gathering, timed_out: bool, why: str) -> None:
        self.drop()
        gathering.connect_failed(timed_out, why)

    def _reset(self, carrier: Http2Carrier, event: codec.Reset) -> None:
        """One stream is over before its time."""
        if event.ours:
            carrier.broke(ProtocolError(502, f"what HTTP/2 does not allow (error code {event.code})"))
            return
        refused = event.code == codec.REFUSED_STREAM
        carrier.over()
        if not refused:
            # That is an answer: it was not the connection that was lost.
            carrier.answered = True
        elif self.carriers:
            # It has less room than it said.
            self._limit = len(self.carriers)
        else:
            # It will soon go away.
            self.leave()
        carrier.lost(True, refused)

    def _gone_away(self, last: int, code: int) -> None:
        """The backend will take no more, and has not touched what is above C{last}."""
        if code:
            log.warn(
                "{backend}: ends an HTTP/2 connection with error code {code}", backend=self.backend.name, code=code
            )
        gathering, self._opening = self._opening, None
        self.leave()
        for stream, carrier in list(self.carriers.items()):
            if stream > last and carrier.open:
                carrier.over()
                carrier.lost(True, True)
        if gathering is not None:
            self._refuse_to_open(gathering, False, "went away before any request (GOAWAY)")

    def _terminated(self, reason: str) -> None:
        """What came is not HTTP/2, or not any more."""
        gathering, self._opening = self._opening, None
        self.leaving = True
        self._resting = False  # else the end of this turn would take it for one that has ended already
        self.backend.dismiss(self)
        error = ProtocolError(502, reason)
        for carrier in list(self.carriers.values()):
            if carrier.open:
                carrier.broke(error)
        if gathering is not None:
            self._refuse_to_open(gathering, False, f"does not speak HTTP/2: {reason}")

    def readConnectionLost(self) -> None:
        """The backend has closed its half: HTTP/2 knows no halves."""
        self._gone(True)
        if self.transport.connected:
            self._await(CLOSE_TIME)
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half is closed; nobody does that."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""
        self._gone(reason.check(ConnectionDone) is not None)
        self.deadline = inf
        self.ticker.forget(self)

    def _gone(self, orderly: bool) -> None:
        self.leaving = True
        self._resting = True
        self.backend.dismiss(self)
        gathering, self._opening = self._opening, None
        if gathering is not None:
            how = "closed" if orderly else "reset"
            gathering.connect_failed(False, f"{how} the connection before it said anything of HTTP/2")
        for carrier in list(self.carriers.values()):
            if carrier.open:
                carrier.over()
                carrier.lost(orderly, False)

    def broke_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own that is not one exchange's alone."""
        log.failure("{upstream!r} was ended by an error of our own", upstream=self)
        self.transport.abortConnection()

    def expired(self) -> None:
        """The deadline has passed."""
        gathering = self._opening
        if gathering is not None:
            self._refuse_to_open(gathering, True, "said nothing of HTTP/2 in time")
        elif self._doubted or self.transport.disconnecting:
            self.transport.abortConnection()
        elif self.carriers:
            self.codec.relax()
            self._await(RELAX)
        else:
            self.leave()

    def __repr__(self) -> str:
        state = "leaving" if self.leaving else "idle" if not self.carriers else "busy"
        return f"<Http2Upstream {self.backend.name} served={self.served} streams={len(self.carriers)} {state}>"


@implementer(IPullProducer)
class _Emptied:
    """Hears when a transport has sent everything."""

    __slots__ = ("_registered", "_upstream")

    def __init__(self, upstream: Http2Upstream) -> None:
        self._upstream = upstream
        self._registered = False

    def resumeProducing(self) -> None:
        """Twisted: there is room; first on registering, whether there is or not."""
        if self._registered:
            self._upstream.caught_up()
        self._registered = True

    def stopProducing(self) -> None:
        """The connection is lost; its protocol is told the same."""
