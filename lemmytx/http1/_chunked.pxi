# The chunked transfer coding; the states are those of _chunked.py, which says what they are about.

cdef enum:
    SIZE_START = 0
    SIZE = 1
    SIZE_SPACE = 2
    NAME_START = 3
    NAME = 4
    NAME_SPACE = 5
    VALUE_START = 6
    VALUE = 7
    QUOTED = 8
    ESCAPED = 9
    VALUE_END = 10
    VALUE_SPACE = 11
    SIZE_LF = 12
    DATA = 13
    DATA_CR = 14
    DATA_LF = 15
    TRAILER = 16
    TRAILER_NAME = 17
    TRAILER_VALUE = 18
    TRAILER_LF = 19
    LAST_LF = 20
    DONE = 21
    WRONG = -1
    LONGEST_LINE = 256
    OVERHEAD = 16384


cdef int _step(int state, unsigned char byte) noexcept nogil:
    """L{lemmytx.http1._chunked._step}."""
    cdef bint space = byte == 32 or byte == 9
    if state == NAME_START or state == NAME or state == NAME_SPACE:
        if LOWER[byte]:
            return NAME if state != NAME_SPACE else WRONG
        if space:
            return NAME_START if state == NAME_START else NAME_SPACE
        if state == NAME_START:
            return WRONG
        if byte == 61:
            return VALUE_START
        if byte == 59:
            return NAME_START
        return SIZE_LF if byte == 13 and state == NAME else WRONG
    if state == VALUE_START or state == VALUE:
        if LOWER[byte]:
            return VALUE
        if state == VALUE_START:
            if byte == 34:
                return QUOTED
            return VALUE_START if space else WRONG
    elif state == QUOTED:
        if byte == 34:
            return VALUE_END
        if byte == 92:
            return ESCAPED
        return QUOTED if TEXT[byte] else WRONG
    elif state == ESCAPED:
        return QUOTED if TEXT[byte] else WRONG
    if byte == 59:
        return NAME_START
    if space:
        return SIZE_SPACE if state == SIZE_SPACE else VALUE_SPACE
    return SIZE_LF if byte == 13 and (state == VALUE or state == VALUE_END) else WRONG


cdef class ChunkedBody:
    """
    As L{lemmytx.http1._chunked.ChunkedBody}.
    """

    cdef readonly bint done
    cdef readonly bytes rest
    cdef readonly bytes trailers
    cdef bytearray _raw
    cdef Py_ssize_t _limit, _length, _line
    cdef int _state
    cdef long long _size, _excess

    def __init__(self, Py_ssize_t limit=8192):
        self.done = False
        self.rest = EMPTY
        self.trailers = EMPTY
        self._raw = None
        self._limit = limit
        self._length = 0
        self._state = SIZE_START
        self._size = 0
        self._line = 0
        self._excess = 0

    def feed(self, bytes data not None):
        """As L{lemmytx.http1._chunked.ChunkedBody.feed}."""
        cdef Bytes s = <Bytes>PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data), p = 0, taken, first = 0, first_end = 0, used = 0
        cdef char* buffer = NULL
        cdef unsigned char byte, digit
        cdef int state = self._state
        if self.done:
            self.rest += data
            return EMPTY
        try:
            while p < n:
                if state == DATA:
                    taken = n - p
                    if taken >= self._size:
                        taken = <Py_ssize_t>self._size
                        state = DATA_CR
                    if first_end == 0:  # the only piece, for all we know
                        first = p
                        first_end = p + taken
                    else:
                        if buffer == NULL:  # there is room for all: payload is never more than the input
                            buffer = <char*>PyMem_Malloc(n)
                            if buffer == NULL:
                                raise MemoryError
                            used = first_end - first
                            memcpy(buffer, s + first, used)
                        memcpy(buffer + used, s + p, taken)
                        used += taken
                    p += taken
                    self._size -= taken
                    continue
                byte = s[p]
                p += 1
                if state <= SIZE:
                    self._line += 1
                    if self._line > LONGEST_LINE:
                        raise ProtocolError(400, rules.CHUNK_LINE)
                    digit = 255
                    if 48 <= byte <= 57:
                        digit = byte - 48
                    elif 97 <= (byte | 32) <= 102:
                        digit = (byte | 32) - 87
                    if digit != 255:
                        if self._line > 16 or self._size > 0x07FFFFFFFFFFFFFF:
                            raise ProtocolError(400, rules.CHUNK_LARGE)
                        self._size = (self._size << 4 if state == SIZE else 0) | digit
                        state = SIZE
                    elif state == SIZE_START:
                        raise ProtocolError(400, rules.CHUNK_SIZE)
                    elif byte == 13:
                        state = SIZE_LF
                    elif byte == 59:
                        self._excess += 1
                        state = NAME_START
                    elif byte == 32 or byte == 9:
                        self._excess += 1
                        state = SIZE_SPACE
                    else:
                        raise ProtocolError(400, rules.CHUNK_SIZE)
                elif state < SIZE_LF:
                    self._line += 1
                    if self._line > LONGEST_LINE:
                        raise ProtocolError(400, rules.CHUNK_LINE)
                    self._excess += 1
                    state = _step(state, byte)
                    if state == WRONG:
                        raise ProtocolError(400, rules.CHUNK_EXTENSION)
                elif state == SIZE_LF:
                    if byte != 10:
                        raise ProtocolError(400, rules.BARE_CR)
                    if self._size > OVERHEAD:  # and so that twice the size cannot overflow
                        self._excess = 0
                    else:
                        self._excess -= 16 + 2 * self._size
                        if self._excess < 0:
                            self._excess = 0
                    if self._excess > OVERHEAD:
                        raise ProtocolError(400, rules.CHUNK_OVERHEAD)
                    self._line = 0
                    state = DATA if self._size else TRAILER
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
                        self.rest = _slice(s, p, n)
                        self.trailers = EMPTY if self._raw is None else rules.trailers(bytes(self._raw))
                        break
            self._state = state
            if buffer != NULL:
                return PyBytes_FromStringAndSize(buffer, used)
            if first == 0 and first_end == n:
                return data
            return _slice(s, first, first_end)
        finally:
            PyMem_Free(buffer)

    cdef int _trailer_byte(self, int state, unsigned char byte) except -2:
        """L{lemmytx.http1._chunked.ChunkedBody._trailer_byte}."""
        if state == LAST_LF:
            if byte != 10:
                raise ProtocolError(400, rules.BARE_CR)
            return DONE
        if state == TRAILER and byte == 13:
            return LAST_LF
        if self._length >= self._limit:
            raise ProtocolError(431, rules.TRAILERS_LONG)
        if self._raw is None:
            self._raw = bytearray()
        self._raw.append(byte)
        self._length += 1
        if state == TRAILER_VALUE:
            if TEXT[byte]:
                return TRAILER_VALUE
            if byte == 13:
                return TRAILER_LF
            raise ProtocolError(400, rules.BARE_LF if byte == 10 else rules.VALUE_BYTE)
        if state == TRAILER_LF:
            if byte != 10:
                raise ProtocolError(400, rules.BARE_CR)
            return TRAILER
        if LOWER[byte]:
            return TRAILER_NAME
        if byte == 58:
            if state == TRAILER:
                raise ProtocolError(400, rules.NAME_EMPTY)
            return TRAILER_VALUE
        if byte == 10:
            raise ProtocolError(400, rules.BARE_LF)
        if byte == 32 or byte == 9:
            raise ProtocolError(400, rules.FOLDED if state == TRAILER else rules.NAME_SPACE)
        raise ProtocolError(400, rules.NAME_BYTE)
