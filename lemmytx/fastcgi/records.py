"""
Records of FastCGI 1.0 (the specification's §3.3 and §8), as the web server's side of a connection speaks them.

A connection is a sequence of records each way, and a record is a header of eight bytes and its content::

    version 1   type   request id (2 bytes)   length of the content (2 bytes)   length of the padding   reserved

One request goes out as BEGIN_REQUEST, PARAMS… (an empty one ends them), STDIN… (an empty one ends it), and comes back
as STDOUT… and STDERR…, each ended by an empty one or not at all, and END_REQUEST. The protocol could carry several at
once; php-fpm does not, and hardly anything else does, so ours have the id 1 and a connection carries one after another.

Whatever comes that is not one of these three for that id is an error: nothing was asked that it could answer (§4), and
a connection whose records are not understood cannot be trusted with where the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterable

from lemmytx.message import ProtocolError

BEGIN_REQUEST = 1
ABORT_REQUEST = 2
END_REQUEST = 3
PARAMS = 4
STDIN = 5
STDOUT = 6
STDERR = 7

#: What an END_REQUEST says of the protocol (§5.5): the application has run; it does not take several requests on one
#: connection; it has no room; it does not play the role. In all but the first nothing was done.
COMPLETE = 0
CANNOT_MULTIPLEX = 1
OVERLOADED = 2
UNKNOWN_ROLE = 3

#: The longest content of a record.
LONGEST = 65535

#: Bytes of STDERR that one request may have us keep; what is beyond is counted.
ERRORS_KEPT = 4096

VERSION = "a FastCGI record of another version than 1"
KIND = "a FastCGI record of a type that answers no request (section 5)"
REQUEST_ID = "a FastCGI record for a request that was not made"
END_LENGTH = "an END_REQUEST record that is not 8 bytes long (section 5.5)"
END_STATUS = "an END_REQUEST record with an unknown protocol status (section 5.5)"
ENDED_STREAM = "a FastCGI record for a stream that has ended (section 3.3)"

_ID = 1
_RESPONDER = 1
_KEEP = 1


def _record(kind: int, content: bytes) -> bytes:
    size = len(content)
    return bytes((1, kind, 0, _ID, size >> 8, size & 0xFF, 0, 0)) + content


def begin(keep: bool) -> bytes:
    """
    The begin of a request for a responder.

    @param keep: whether the application is to leave the connection open behind it.
    """
    return _record(BEGIN_REQUEST, bytes((0, _RESPONDER, _KEEP if keep else 0, 0, 0, 0, 0, 0)))


def params(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The variables of a request, all of them: name-value pairs (§3.4) and the end of the stream."""
    content = b"".join(b"%b%b%b%b" % (_length(len(name)), _length(len(value)), name, value) for name, value in pairs)
    return _stream(PARAMS, content) + _record(PARAMS, b"")


def stdin(body: bytes, ended: bool) -> bytes:
    """
    A piece of a request's body.

    @param ended: whether it is the last.
    """
    wire = _stream(STDIN, body)
    return wire + _record(STDIN, b"") if ended else wire


def abort() -> bytes:
    """Nobody wants the answer any more (§5.4)."""
    return _record(ABORT_REQUEST, b"")


def _length(size: int) -> bytes:
    return bytes((size,)) if size < 128 else (size | 1 << 31).to_bytes(4, "big")


def _stream(kind: int, content: bytes) -> bytes:
    if not content:
        return b""
    if len(content) <= LONGEST:
        return _record(kind, content)
    view = memoryview(content)
    return b"".join(_record(kind, bytes(view[at : at + LONGEST])) for at in range(0, len(content), LONGEST))


class Answer:
    """
    What comes back for one request, as far as records go: what they hold is not looked into.

    @ivar done: whether its END_REQUEST has come.
    @ivar rest: once it is done, what came behind it. Nobody asked for that.
    @ivar protocol_status: once it is done, one of the constants above.
    @ivar application_status: once it is done, what the program ended with; 0 = all went well.
    @ivar errors: what it has written to STDERR, up to L{ERRORS_KEPT} bytes; whoever reads it may empty it.
    @ivar errors_size: how much that was altogether.
    """

    __slots__ = (
        "_ended", "_header", "_kept", "_kind", "_left", "_padding", "_tail", "application_status", "done", "errors",
        "errors_size", "protocol_status", "rest",
    )  # fmt: skip

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.protocol_status = COMPLETE
        self.application_status = 0
        self.errors = b""
        self.errors_size = 0
        self._header = b""  # of a record, while it is not whole
        self._kind = 0  # of the record that is under way
        self._left = 0  # bytes of its content that are still to come
        self._padding = 0  # and of its padding
        self._tail = b""  # of an END_REQUEST, while it is not whole
        self._kept = 0
        self._ended = 0  # streams that have ended, as bits by their kinds

    def feed(self, data: bytes) -> bytes:
        """
        @param data: what has come, of any size. Nothing may follow once it is C{done}.
        @return: what of it is output. A record is passed on as it comes.
        @raise ProtocolError: 502, what came is no answer. Nothing may follow then either.
        """
        output = []
        at = 0
        size = len(data)
        while at < size:
            if self._left:
                end = at + self._left
                piece = data[at:end] if at or end < size else data
                self._left -= len(piece)
                at += len(piece)
                if self._kind == STDOUT:
                    output.append(piece)
                elif self._kind == STDERR:
                    self._complain(piece)
                else:
                    self._tail += piece
                    if not self._left:
                        self._judge()
                continue
            if self._padding:
                skipped = min(self._padding, size - at)
                self._padding -= skipped
                at += skipped
                continue
            if self.done:
                break
            if self._header or size - at < 8:
                missing = 8 - len(self._header)
                self._header += data[at : at + missing]
                at += missing
                if len(self._header) < 8:
                    break
                self._begin(self._header, 0)
                self._header = b""
            else:
                self._begin(data, at)
                at += 8
        if self.done and not self._padding:
            self.rest = data[at:]
        return output[0] if len(output) == 1 else b"".join(output)

    @property
    def clean(self) -> bool:
        """Whether the connection stands at the end of a record, with nothing behind the answer."""
        return self.done and not self._padding and not self.rest

    def _begin(self, data: bytes, at: int) -> None:
        """The header of a record."""
        if data[at] != 1:
            raise ProtocolError(502, VERSION)
        kind = data[at + 1]
        if kind not in (STDOUT, STDERR, END_REQUEST):
            raise ProtocolError(502, KIND)
        if data[at + 2] or data[at + 3] != _ID:
            raise ProtocolError(502, REQUEST_ID)
        length = data[at + 4] << 8 | data[at + 5]
        if kind == END_REQUEST:
            if length != 8:
                raise ProtocolError(502, END_LENGTH)
        elif self._ended >> kind & 1:
            raise ProtocolError(502, ENDED_STREAM)
        elif not length:
            self._ended |= 1 << kind
        self._kind = kind
        self._left = length
        self._padding = data[at + 6]

    def _judge(self) -> None:
        """An END_REQUEST is whole, but for its padding."""
        tail = self._tail
        if tail[4] > UNKNOWN_ROLE:
            raise ProtocolError(502, END_STATUS)
        self.protocol_status = tail[4]
        self.application_status = int.from_bytes(tail[:4], "big")
        self.done = True

    def _complain(self, piece: bytes) -> None:
        self.errors_size += len(piece)
        room = ERRORS_KEPT - self._kept
        if room > 0:
            self.errors += piece[:room]
            self._kept += len(piece[:room])
