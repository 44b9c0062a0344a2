"""
A connection: what is sent. What comes is L{Incoming}'s.

Heads go in as HTTP/1.1 in bytes. Frames are put into a list, and come out of it as one piece: nothing is sent by
itself, so everything that a turn has brought is one write.
"""

from __future__ import annotations

from lemmytx.http2 import frames, heads
from lemmytx.http2.bounds import Bounds
from lemmytx.http2.errors import StreamGone
from lemmytx.http2.frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADER, HEADERS, LARGEST_WINDOW
from lemmytx.http2.incoming import Incoming
from lemmytx.http2.state import SMALL, SMALL_WORTH, WORTH
from lemmytx.http2.streams import RESET_BY_US, Stream

_DEFAULT = Bounds()
_pack = HEADER.pack


class Connection(Incoming):
    """
    One side of an HTTP/2 connection (RFC 9113), sans I/O: bytes in, events and bytes out. For one peer at a time, used
    by one thread.
    """

    __slots__ = ("_scheme",)

    def __init__(
        self, client: bool, bounds: Bounds = _DEFAULT, extended_connect: bool = False, scheme: bytes = b"http"
    ) -> None:
        """
        @param client: whether we are the client.
        @param extended_connect: servers: whether extended CONNECT is offered (RFC 8441).
        @param scheme: clients: what all requests are for, C{http} or C{https}.
        """
        super().__init__(client, bounds, extended_connect)
        self._scheme = scheme

    def __repr__(self) -> str:
        state = "terminated" if self.terminated else "draining" if self.draining else "open"
        return f"<{'client' if self._client else 'server'} Connection {state}, {len(self._streams)} streams>"

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def start(self) -> None:
        """Say what is said first (§3.4). Called once, before anything else."""
        bounds = self.bounds
        values = {frames.MAX_HEADER_LIST_SIZE: bounds.header_list}
        if self._client:
            values[frames.ENABLE_PUSH] = 0
            self._out.append(frames.PREFACE)
        else:
            values[frames.MAX_CONCURRENT_STREAMS] = bounds.streams
            if self._extended_connect:
                values[frames.ENABLE_CONNECT_PROTOCOL] = 1
        if bounds.window != frames.DEFAULT_WINDOW:
            values[frames.INITIAL_WINDOW_SIZE] = bounds.window
        if bounds.frame_size != frames.SMALLEST_FRAME_SIZE:
            values[frames.MAX_FRAME_SIZE] = bounds.frame_size
        self._out.append(frames.settings(values))
        if bounds.connection_window > frames.DEFAULT_WINDOW:
            self._out.append(frames.window_update(0, bounds.connection_window - frames.DEFAULT_WINDOW))

    def take(self) -> bytes:
        """
        What is to be sent now. It may be left here while the transport is backed up: that is how a peer that floods
        and does not read is found out.
        """
        out = self._out
        if not out:
            return b""
        self._replies = 0
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def relax(self) -> None:
        """Forget what was counted of floods. For whoever has a clock, about every half minute."""
        self._chatter = self._work = self._resets = self._finished = 0

    # sending messages

    def request(self, head: bytes, ended: bool, protocol: bytes | None = None) -> int:
        """
        Clients: begin a request.

        @param head: as HTTP/1.1: request line, field lines, perhaps the empty line. What speaks of the connection is
            left out, Host becomes C{:authority}, C{te: trailers} is added.
        @param ended: there is no body.
        @param protocol: C{b"websocket"}: send it as extended CONNECT (RFC 8441), which the peer must have offered; the
            head is the GET with the wish to upgrade, and the body is the tunnel.
        @return: the stream.
        @raise StreamGone: there are as many streams as the peer takes, or it takes no more.
        """
        number = self._next
        if self.draining or self.terminated or len(self._streams) >= self.peer_streams or number > LARGEST_WINDOW:
            raise StreamGone(number)
        method, fields = heads.request_fields(head, self._scheme, protocol)
        self._next = number + 2
        stream = Stream(number, self._peer_window, self._window)
        stream.method = method
        stream.tunnel = protocol is not None
        stream.local_ended = ended
        self._streams[number] = stream
        self._put_block(number, self._encoder.encode(fields), ended)
        return number

    def respond(self, stream: int, head: bytes, ended: bool) -> None:
        """
        Servers: send a response's head, or an informational one.

        @param head: as HTTP/1.1: status line, field lines, perhaps the empty line. What speaks of the connection is
            left out.
        @param ended: there is no body. Means nothing for an informational one.
        @raise StreamGone: the stream takes nothing any more.
        """
        found = self._streams.get(stream)
        if found is None or found.local_ended:
            raise StreamGone(stream)
        status, fields = heads.response_fields(head)
        if status[0] == 49:  # 1xx
            self._put_block(stream, self._encoder.encode(fields), False)
            return
        self._put_block(stream, self._encoder.encode(fields), ended)
        found.headed = True
        if ended:
            found.local_ended = True
            if found.remote_ended:
                self._finish(found)

    def send(self, stream: int, data: bytes, ended: bool) -> None:
        """
        Send a piece of a body.

        @param data: not more than L{room} says.
        @param ended: it is the last, and there are no trailers.
        @raise StreamGone: the stream takes nothing any more.
        """
        found = self._streams.get(stream)
        if found is None or found.local_ended:
            raise StreamGone(stream)
        size = len(data)
        if size:
            assert size <= found.outflow and size <= self._outflow, "more than there is room for"
            found.outflow -= size
            self._outflow -= size
        largest = self._peer_frame_size
        out = self._out
        if size > largest:
            for at in range(0, size - largest, largest):
                out += (_pack(largest >> 8, largest & 0xFF, DATA, 0, stream), data[at : at + largest])
                self._work += WORTH
            data = data[(size - 1) // largest * largest :]
            size = len(data)
        if ended:
            out += (_pack(size >> 8, size & 0xFF, DATA, END_STREAM, stream), data)
            found.local_ended = True
            if found.remote_ended:
                self._finish(found)
        elif size:
            out += (_pack(size >> 8, size & 0xFF, DATA, 0, stream), data)
            self._work += WORTH if size >= SMALL else SMALL_WORTH

    def trailers(self, stream: int, lines: bytes) -> None:
        """
        End a body with trailers.

        @param lines: each with its CRLF; may be empty.
        @raise StreamGone: the stream takes nothing any more.
        """
        fields = heads.trailer_fields(lines)
        if not fields:
            self.send(stream, b"", True)
            return
        found = self._streams.get(stream)
        if found is None or found.local_ended:
            raise StreamGone(stream)
        self._put_block(stream, self._encoder.encode(fields), True)
        found.local_ended = True
        if found.remote_ended:
            self._finish(found)

    def _put_block(self, number: int, block: bytes, ended: bool) -> None:
        """A header block as HEADERS and, where it is too large for one, CONTINUATION."""
        size = len(block)
        flags = END_STREAM if ended else 0
        largest = self._peer_frame_size
        if size <= largest:
            self._out += (_pack(size >> 8, size & 0xFF, HEADERS, flags | END_HEADERS, number), block)
            return
        kind = HEADERS
        for at in range(0, size, largest):
            part = block[at : at + largest]
            if at + largest >= size:
                flags |= END_HEADERS
            self._out += (frames.header(len(part), kind, flags, number), part)
            kind = CONTINUATION
            flags = 0

    # flow control

    def room(self, stream: int) -> int:
        """How many bytes can be sent on this stream now. 0: none; L{Room<lemmytx.http2.events.Room>} says when."""
        found = self._streams.get(stream)
        if found is None or found.local_ended:
            return 0
        room = found.outflow
        if room > self._outflow:
            room = self._outflow
        return room if room > 0 else 0

    def taken(self, stream: int, count: int) -> None:
        """
        Of what has come on this stream, so much has been taken: the peer may send as much more. Nothing happens for a
        stream that is gone. The peer is told when it is half of the window.

        @param count: the C{flow} of L{Data<lemmytx.http2.events.Data>}, or a part of it.
        """
        found = self._streams.get(stream)
        if found is not None:
            self._give_back(found, count)

    # the end of streams, and of the connection

    def reset(self, stream: int, code: int) -> None:
        """
        End a stream at once. What still comes on it is ignored. Nothing happens if it is gone already.

        @param code: NO_ERROR: all has been said, and the rest of the request is of no interest (§8.1).
        """
        if self._streams.pop(stream, None) is not None:
            self._past.add(stream, RESET_BY_US)
            self._out.append(frames.rst_stream(stream, code))

    def goaway(self, code: int = 0, last: int | None = None) -> None:
        """
        Announce the end (§6.8). By itself that refuses nothing: for a graceful end say it first with
        C{last=2**31 - 1}, and call L{drain} when what was under way has come.

        @param last: of the peer's streams, the last that is looked at; L{None}: the last so far.
        """
        self._out.append(frames.goaway(self._last if last is None else last, code))

    def drain(self) -> None:
        """Announce that no more streams are taken, and refuse those that come. What there is goes on."""
        if not self.draining:
            self.draining = True
            self.goaway()

    def ping(self) -> None:
        """Ask for a sign of life: L{Ponged<lemmytx.http2.events.Ponged>}."""
        self._pings += 1
        self._out.append(frames.ping(bytes(8), 0))
