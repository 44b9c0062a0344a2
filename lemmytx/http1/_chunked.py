"""
The chunked transfer coding (RFC 9112 §7.1) in plain Python, as a table of what may follow what.

The state says what the next byte belongs to. Bytes of data are taken in runs; a plain size line is taken in one look;
every other byte goes through the table one by one, so a body that arrives in single bytes costs no more per byte than
one that arrives whole. The compiled twin has the same states.
"""

from __future__ import annotations

import re

from lemmytx.http1 import rules
from lemmytx.message import ProtocolError

#: States. Those up to BEFORE_SIZE_LF are in a size line, those from TRAILER on in the trailer section.
(
    SIZE_START, SIZE, SIZE_SPACE, NAME_START, NAME, NAME_SPACE, VALUE_START, VALUE, QUOTED, ESCAPED, VALUE_END,
    VALUE_SPACE, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_NAME, TRAILER_VALUE, TRAILER_LF, LAST_LF, DONE,
) = range(22)  # fmt: skip

LINE = 256
OVERHEAD = 16384

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_TEXT = frozenset((9, *range(32, 127), *range(128, 256)))
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_SPACE = (32, 9)


def _step(state: int, byte: int) -> int:
    """
    The state after C{byte} in a chunk extension (C{*( BWS ";" BWS name [ BWS "=" BWS value ] )}, RFC 9112 §7.1.1).
    Space is taken where more must follow, and nowhere before a CRLF: C{5 } and a CRLF is read in two ways out there.

    @return: -1 when it does not fit.
    """
    if state in (NAME_START, NAME, NAME_SPACE):
        if byte in _TOKEN:
            return NAME if state != NAME_SPACE else -1
        if byte in _SPACE:
            return NAME_START if state == NAME_START else NAME_SPACE
        if state == NAME_START:
            return -1
        if byte == 61:
            return VALUE_START
        if byte == 59:
            return NAME_START
        return SIZE_LF if byte == 13 and state == NAME else -1
    if state in (VALUE_START, VALUE):
        if byte in _TOKEN:
            return VALUE
        if state == VALUE_START:
            if byte == 34:
                return QUOTED
            return VALUE_START if byte in _SPACE else -1
    elif state == QUOTED:
        if byte == 34:
            return VALUE_END
        if byte == 92:
            return ESCAPED
        return QUOTED if byte in _TEXT else -1
    elif state == ESCAPED:
        return QUOTED if byte in _TEXT else -1
    # after a value, or after a size and space
    if byte == 59:
        return NAME_START
    if byte in _SPACE:
        return SIZE_SPACE if state == SIZE_SPACE else VALUE_SPACE
    return SIZE_LF if byte == 13 and state in (VALUE, VALUE_END) else -1


class ChunkedBody:
    """
    A chunked body on its way: bytes in, payload out.

    @ivar done: whether its last byte has been seen.
    @ivar rest: what came after it, once done.
    @ivar trailers: the trailer fields that may be forwarded, each line with its CRLF, once done.
    """

    __slots__ = ("_excess", "_limit", "_line", "_raw", "_size", "_state", "done", "rest", "trailers")

    def __init__(self, limit: int = 8192) -> None:
        """
        @param limit: bytes that the trailer section may have.
        """
        self.done = False
        self.rest = b""
        self.trailers = b""
        self._limit = limit
        self._state = SIZE_START
        self._size = 0  # of the chunk: being read, then what is left of it
        self._line = 0  # bytes of the size line so far
        self._excess = 0  # extension bytes beyond what the data is worth
        self._raw = bytearray()  # the trailer section

    def feed(self, data: bytes) -> bytes:
        """
        Called with every piece that arrives.

        @return: the payload in it, maybe none.
        @raise ProtocolError: 400, or 431 for a trailer section beyond the limit. The payload before it is lost with
            it, and the body must not be fed again.
        """
        if self.done:
            self.rest += data
            return b""
        state = self._state
        size = self._size
        n = len(data)
        p = 0
        parts = []
        while p < n:
            if state == DATA:
                taken = n - p
                if taken >= size:
                    taken = size
                    state = DATA_CR
                parts.append(data[p : p + taken])
                p += taken
                size -= taken
                continue
            if state == SIZE_START:
                found = _PLAIN_SIZE.match(data, p)
                if found is not None:
                    size = int(found[1], 16)
                    self._excess = max(0, self._excess - 16 - 2 * size)
                    p = found.end()
                    state = DATA if size else TRAILER
                    continue
            byte = data[p]
            p += 1
            if state < SIZE_LF:
                state, size = self._size_line(state, size, byte)
            elif state == SIZE_LF:
                if byte != 10:
                    raise ProtocolError(400, rules.BARE_CR)
                self._excess = max(0, self._excess - 16 - 2 * size)
                if self._excess > OVERHEAD:
                    raise ProtocolError(400, rules.CHUNK_OVERHEAD)
                self._line = 0
                state = DATA if size else TRAILER
            elif state == DATA_CR:
                if byte != 13:
                    raise ProtocolError(400, rules.CHUNK_END)
                state = DATA_LF
            elif state == DATA_LF:
                if byte != 10:
                    raise ProtocolError(400, rules.CHUNK_END)
                state = SIZE_START
            else:
                state = self._trailer_byte(state, byte)
                if state == DONE:
                    self.done = True
                    self.rest = data[p:]
                    self.trailers = rules.trailers(bytes(self._raw))
                    break
        self._state = state
        self._size = size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _size_line(self, state: int, size: int, byte: int) -> tuple[int, int]:
        """The state and the size after one more byte of a size line."""
        self._line += 1
        if self._line > LINE:
            raise ProtocolError(400, rules.CHUNK_LINE)
        if state <= SIZE:
            digit = b"0123456789abcdef".find(byte | 32 if byte > 64 else byte)
            if digit >= 0:
                if self._line > 16 or size > 0x07FFFFFFFFFFFFFF:
                    raise ProtocolError(400, rules.CHUNK_LARGE)
                return SIZE, (size << 4 if state == SIZE else 0) | digit
            if state == SIZE_START:
                raise ProtocolError(400, rules.CHUNK_SIZE)
            if byte == 13:
                return SIZE_LF, size
            if byte == 59:
                self._excess += 1
                return NAME_START, size
            if byte in _SPACE:
                self._excess += 1
                return SIZE_SPACE, size
            raise ProtocolError(400, rules.CHUNK_SIZE)
        self._excess += 1
        state = _step(state, byte)
        if state < 0:
            raise ProtocolError(400, rules.CHUNK_EXTENSION)
        return state, size

    def _trailer_byte(self, state: int, byte: int) -> int:
        """The state after one more byte of the trailer section."""
        raw = self._raw
        if state == LAST_LF:
            if byte != 10:
                raise ProtocolError(400, rules.BARE_CR)
            return DONE
        if state == TRAILER and byte == 13:
            return LAST_LF
        if len(raw) >= self._limit:
            raise ProtocolError(431, rules.TRAILERS_LONG)
        raw.append(byte)
        if state == TRAILER_VALUE:
            if byte in _TEXT:
                return TRAILER_VALUE
            if byte == 13:
                return TRAILER_LF
            raise ProtocolError(400, rules.BARE_LF if byte == 10 else rules.VALUE_BYTE)
        if state == TRAILER_LF:
            if byte != 10:
                raise ProtocolError(400, rules.BARE_CR)
            return TRAILER
        if byte in _TOKEN:
            return TRAILER_NAME
        if byte == 58:
            if state == TRAILER:
                raise ProtocolError(400, rules.NAME_EMPTY)
            return TRAILER_VALUE
        if byte == 10:
            raise ProtocolError(400, rules.BARE_LF)
        if byte in _SPACE:
            raise ProtocolError(400, rules.FOLDED if state == TRAILER else rules.NAME_SPACE)
        raise ProtocolError(400, rules.NAME_BYTE)
