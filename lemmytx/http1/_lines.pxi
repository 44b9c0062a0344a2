# Field lines: found, understood by their names, kept. And the small things that both heads are made of.

# What a line turned out to be.
cdef enum:
    LINE_MORE = 0
    LINE_FIELD = 1
    LINE_EMPTY = 2
    LINE_BARE_CR = 3
    LINE_BARE_LF = 4
    LINE_FOLDED = 5
    LINE_NAME_SPACE = 6
    LINE_NAME_BYTE = 7
    LINE_NAME_EMPTY = 8
    LINE_VALUE_BYTE = 9

cdef tuple LINE_REASONS = (
    None, None, None, rules.BARE_CR, rules.BARE_LF, rules.FOLDED, rules.NAME_SPACE, rules.NAME_BYTE, rules.NAME_EMPTY,
    rules.VALUE_BYTE,
)

cdef unsigned char LOWER[256]    # tokens: in lower case; 0: no token
cdef unsigned char DASHED[256]   # the same with - for _
cdef unsigned char TEXT[256]     # field values, reasons: 1
cdef unsigned char TARGET[256]   # targets: 1, or 2 where the path needs a second look
cdef unsigned char NAMED[256]    # lower-case host names
cdef int _i
for _i in range(256):
    LOWER[_i] = ord(chr(_i).lower()) if _i < 128 and (chr(_i).isalnum() or chr(_i) in "!#$%&'*+-.^_`|~") else 0
    DASHED[_i] = 45 if _i == 95 else LOWER[_i]
    TEXT[_i] = 1 if _i == 9 or (_i >= 32 and _i != 127) else 0
    TARGET[_i] = 0 if _i < 33 or _i > 126 or _i == 35 else (2 if chr(_i) in "%/.?\\" else 1)
    NAMED[_i] = 1 if chr(_i) in "abcdefghijklmnopqrstuvwxyz0123456789-_" else 0

cdef inline bint _is(Bytes s, const char* lower, Py_ssize_t n) noexcept nogil:
    """Whether a name is C{lower}, but for case and underscores."""
    cdef Py_ssize_t i
    for i in range(n):
        if DASHED[s[i]] != <unsigned char>lower[i]:
            return False
    return True


cdef int _kind(Bytes s, Py_ssize_t n) noexcept nogil:
    """L{rules.kind}, but or-ed with UNDERSCORED instead of DROP."""
    cdef int kind = 0
    cdef unsigned char first = DASHED[s[0]]
    if n == 2:
        if first == 116 and _is(s, b"te", 2): kind = DROP
    elif n == 4:
        if first == 104 and _is(s, b"host", 4): kind = HOST
    elif n == 5:
        if first == 112 and _is(s, b"proxy", 5): kind = DROP
    elif n == 6:
        if first == 101 and _is(s, b"expect", 6): kind = EXPECT
    elif n == 7:
        if first == 117 and _is(s, b"upgrade", 7): kind = UPGRADE
    elif n == 9:
        if first == 102 and _is(s, b"forwarded", 9): kind = CLAIM
        elif first == 120 and _is(s, b"x-real-ip", 9): kind = CLAIM
    elif n == 10:
        if first == 99 and _is(s, b"connection", 10): kind = CONNECTION
        elif first == 107 and _is(s, b"keep-alive", 10): kind = DROP
    elif n >= 12:
        if first == 120:
            if _is(s, b"x-forwarded-", 12): kind = CLAIM
            elif n == 12 and _is(s, b"x-request-id", 12): kind = CLAIM
        elif n == 14:
            if first == 99 and _is(s, b"content-length", 14): kind = LENGTH
            elif first == 104 and _is(s, b"http2-settings", 14): kind = DROP
        elif n == 16:
            if first == 112 and _is(s, b"proxy-connection", 16): kind = DROP
        elif n == 17:
            if first == 116 and _is(s, b"transfer-encoding", 17): kind = CODING
        elif n == 18:
            if first == 112 and _is(s, b"proxy-authenticate", 18): kind = DROP
        elif n == 19:
            if first == 112 and _is(s, b"proxy-authorization", 19): kind = DROP
    if kind and memchr(s, 95, n) != NULL:
        kind |= UNDERSCORED
    return kind


cdef struct Line:
    Py_ssize_t name      # where it begins
    Py_ssize_t colon
    Py_ssize_t value     # without space around it
    Py_ssize_t value_end
    Py_ssize_t next      # behind its CRLF


cdef inline int _line(Bytes s, Py_ssize_t p, Py_ssize_t end, Line* line) noexcept nogil:
    """
    What begins at C{p}: a field line, the empty line, something wrong, or not enough of it. The caller has looked
    whether a further field is allowed.
    """
    cdef Py_ssize_t start = p, a, b
    cdef unsigned char byte
    if p >= end:
        return LINE_MORE
    if s[p] == 13:
        if p + 1 >= end:
            return LINE_MORE
        line.next = p + 2
        return LINE_EMPTY if s[p + 1] == 10 else LINE_BARE_CR
    while p < end and LOWER[s[p]]:
        p += 1
    if p >= end:
        return LINE_MORE
    byte = s[p]
    if byte != 58:
        if byte == 10:
            return LINE_BARE_LF
        if byte == 32 or byte == 9:
            return LINE_FOLDED if p == start else LINE_NAME_SPACE
        return LINE_NAME_BYTE
    if p == start:
        return LINE_NAME_EMPTY
    line.name = start
    line.colon = p
    p += 1
    while p < end and (s[p] == 32 or s[p] == 9):
        p += 1
    a = p
    while p < end and TEXT[s[p]]:
        p += 1
    if p >= end:
        return LINE_MORE
    if s[p] != 13:
        return LINE_BARE_LF if s[p] == 10 else LINE_VALUE_BYTE
    if p + 1 >= end:
        return LINE_MORE
    if s[p + 1] != 10:
        return LINE_BARE_CR
    b = p
    while b > a and (s[b - 1] == 32 or s[b - 1] == 9):
        b -= 1
    line.value = a
    line.value_end = b
    line.next = p + 2
    return LINE_FIELD


cdef struct Kept:
    char* buffer         # NULL as long as all kept lines are one piece of the input
    Py_ssize_t used
    Py_ssize_t room
    Py_ssize_t span      # the piece that is still to be copied
    Py_ssize_t span_end


cdef inline int _move(Kept* kept, Bytes s) except -1:
    """Copy the open piece into the buffer."""
    cdef Py_ssize_t n = kept.span_end - kept.span
    if kept.buffer == NULL:
        kept.buffer = <char*>PyMem_Malloc(kept.room)
        if kept.buffer == NULL:
            raise MemoryError
    if n > 0:
        assert kept.used + n <= kept.room
        memcpy(kept.buffer + kept.used, s + kept.span, n)
        kept.used += n
    return 0


cdef inline int _keep(Kept* kept, Bytes s, Line* line) except -1:
    """Add a line: usually the open piece grows."""
    cdef Py_ssize_t n
    if line.value == line.colon + 2 and s[line.colon + 1] == 32 and line.value_end + 2 == line.next:
        if kept.span_end == line.name:
            kept.span_end = line.next
        else:
            if kept.span_end > kept.span:
                _move(kept, s)
            kept.span = line.name
            kept.span_end = line.next
        return 0
    _move(kept, s)
    kept.span = kept.span_end = line.next
    assert kept.used + (line.colon - line.name) + (line.value_end - line.value) + 4 <= kept.room
    n = line.colon + 1 - line.name
    memcpy(kept.buffer + kept.used, s + line.name, n)
    kept.used += n
    kept.buffer[kept.used] = 32
    kept.used += 1
    n = line.value_end - line.value
    memcpy(kept.buffer + kept.used, s + line.value, n)
    kept.used += n
    kept.buffer[kept.used] = 13
    kept.buffer[kept.used + 1] = 10
    kept.used += 2
    return 0


cdef inline bytes _block(Kept* kept, Bytes s):
    """All that was kept."""
    if kept.buffer == NULL:
        return _slice(s, kept.span, kept.span_end)
    _move(kept, s)
    return PyBytes_FromStringAndSize(kept.buffer, kept.used)


cdef inline bytes _slice(Bytes s, Py_ssize_t a, Py_ssize_t b):
    return PyBytes_FromStringAndSize(<const char*>s + a, b - a)


cdef inline long long _number(Bytes s, Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """A Content-Length: digits without leading zeros, below 2^63; else -1."""
    cdef unsigned long long value = 0
    if b - a < 1 or b - a > 19 or (s[a] == 48 and b - a > 1):
        return -1
    while a < b:
        if s[a] < 48 or s[a] > 57:
            return -1
        value = value * 10 + (s[a] - 48)
        a += 1
    if value > <unsigned long long>0x7FFFFFFFFFFFFFFF:
        return -1
    return <long long>value


cdef inline int _connection(Bytes s, Py_ssize_t a, Py_ssize_t b) except -1:
    """L{rules.connection}, without it for what nearly everyone sends."""
    cdef Py_ssize_t n = b - a
    if n == 10 and _is(s + a, b"keep-alive", 10) and s[a + 4] == 45:
        return KEEP_ALIVE
    if n == 5 and _is(s + a, b"close", 5):
        return CLOSE
    if n == 7 and _is(s + a, b"upgrade", 7):
        return SWITCH
    return rules.connection(_slice(s, a, b))


cdef inline Py_ssize_t _plain_host(Bytes s, Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """Where the host ends in an authority that needs no folding; -1 for any other."""
    cdef Py_ssize_t p = a, host_end
    if b - a > 253:
        return -1
    while True:
        if p >= b or not NAMED[s[p]]:
            return -1
        while p < b and NAMED[s[p]]:
            p += 1
        if p >= b or s[p] != 46:
            break
        p += 1
    host_end = p
    if p < b:
        if s[p] != 58 or b - p < 2 or b - p > 5:
            return -1
        p += 1
        while p < b:
            if s[p] < 48 or s[p] > 57:
                return -1
            p += 1
    return host_end
