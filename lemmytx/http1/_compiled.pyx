# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""
The codec in C: goes through a head once, byte by byte, and understands and rewrites it on the way.

Its twin, L{lemmytx.http1._pure}, says the same in Python, and what is rare both ask L{lemmytx.http1.rules} and
L{lemmytx.http1.target}; a differential test holds them together, down to the reasons of errors.

Memory: nothing is read at or beyond C{end}, which is never beyond the bytes that were given (checked before each access; the
zero byte behind every bytes object is not relied upon). The lines to forward are a slice of the input as long as
they stand there side by side in the form in which we write them; the first one for which that is not so moves them to a buffer that
has room for all input from the first field on, and one more byte (the space after the colon) for each four: no line is shorter.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memchr, memcpy

from lemmytx.http1 import rules
from lemmytx.http1.target import absolute, authority as fold_authority, normalise, same_authority
from lemmytx.message import ProtocolError, RequestHead, ResponseHead

cdef extern from *:
    """
    #include <structmember.h>

    /* Where a class with __slots__ keeps an attribute; -1 when it is not such a slot. Writing there, into an object that
       was made a moment ago, costs a tenth of setattr, and a head has fourteen of them. */
    static Py_ssize_t lemmytx_slot(PyObject *cls, const char *name) {
        Py_ssize_t offset = -1;
        PyObject *descriptor = PyObject_GetAttrString(cls, name);
        if (descriptor == NULL) { PyErr_Clear(); return -1; }
        if (Py_TYPE(descriptor) == &PyMemberDescr_Type) {
            PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
            if (member->type == T_OBJECT_EX) offset = member->offset;
        }
        Py_DECREF(descriptor);
        return offset;
    }
    static inline void lemmytx_put(PyObject *fresh, Py_ssize_t offset, PyObject *value) {
        Py_INCREF(value);
        *(PyObject **)((char *)fresh + offset) = value;
    }
    static inline PyObject *lemmytx_fresh(PyObject *cls) {
        return ((PyTypeObject *)cls)->tp_alloc((PyTypeObject *)cls, 0);
    }
    """
    Py_ssize_t lemmytx_slot(object cls, const char *name)
    void lemmytx_put(object fresh, Py_ssize_t offset, object value)
    object lemmytx_fresh(object cls)

ctypedef const unsigned char* Bytes

cdef enum:
    DROP = 1
    HOST = 2
    LENGTH = 3
    CODING = 4
    CONNECTION = 5
    UPGRADE = 6
    EXPECT = 7
    CLAIM = 8
    UNDERSCORED = 64
    CLOSE = 1
    KEEP_ALIVE = 2
    SWITCH = 4
    OTHER = 8

include "_lines.pxi"

cdef object METHODS = rules.METHODS
cdef bytes GET = b"GET"
cdef bytes POST = b"POST"
cdef bytes EMPTY = b""
cdef bytes STAR = b"*"
cdef bytes ROOT = b"/"
cdef Py_ssize_t REQUEST_LINE = rules.REQUEST_LINE
cdef Py_ssize_t CONNECTION_SIZE = rules.CONNECTION_SIZE
cdef object CHUNKED = -1
cdef object UNTIL_CLOSE = -2
cdef object NO_BODY = 0
cdef object MINOR_0 = 0
cdef object MINOR_1 = 1

cdef Py_ssize_t _slot(object cls, bytes name) except -1:
    cdef Py_ssize_t offset = lemmytx_slot(cls, name)
    if offset < 0:
        raise ImportError(f"{cls.__name__}.{name.decode()} is not a slot")
    return offset

cdef Py_ssize_t AT_METHOD = _slot(RequestHead, b"method")
cdef Py_ssize_t AT_TARGET = _slot(RequestHead, b"target")
cdef Py_ssize_t AT_PATH = _slot(RequestHead, b"path")
cdef Py_ssize_t AT_AUTHORITY = _slot(RequestHead, b"authority")
cdef Py_ssize_t AT_HOST = _slot(RequestHead, b"host")
cdef Py_ssize_t AT_MINOR = _slot(RequestHead, b"minor")
cdef Py_ssize_t AT_LENGTH = _slot(RequestHead, b"length")
cdef Py_ssize_t AT_KEEP_ALIVE = _slot(RequestHead, b"keep_alive")
cdef Py_ssize_t AT_EXPECTS = _slot(RequestHead, b"expects_continue")
cdef Py_ssize_t AT_UPGRADE = _slot(RequestHead, b"upgrade")
cdef Py_ssize_t AT_BLOCK = _slot(RequestHead, b"block")
cdef Py_ssize_t AT_CLAIMS = _slot(RequestHead, b"claims")
cdef Py_ssize_t AT_RAW = _slot(RequestHead, b"raw")
cdef Py_ssize_t AT_SIZE = _slot(RequestHead, b"size")
cdef Py_ssize_t OF_STATUS = _slot(ResponseHead, b"status")
cdef Py_ssize_t OF_MINOR = _slot(ResponseHead, b"minor")
cdef Py_ssize_t OF_LENGTH = _slot(ResponseHead, b"length")
cdef Py_ssize_t OF_KEEP_ALIVE = _slot(ResponseHead, b"keep_alive")
cdef Py_ssize_t OF_UPGRADE = _slot(ResponseHead, b"upgrade")
cdef Py_ssize_t OF_DATED = _slot(ResponseHead, b"dated")
cdef Py_ssize_t OF_BLOCK = _slot(ResponseHead, b"block")
cdef Py_ssize_t OF_RAW = _slot(ResponseHead, b"raw")
cdef Py_ssize_t OF_SIZE = _slot(ResponseHead, b"size")
cdef object REQUEST_HEAD = RequestHead
cdef object RESPONSE_HEAD = ResponseHead


cdef object _more(Py_ssize_t n, Py_ssize_t end, int status, object reason):
    if n > end:
        raise ProtocolError(status, reason)
    return None


def request(bytes data not None, bint trusted=False, Py_ssize_t header_size=32768, Py_ssize_t headers=100):
    """
    As L{lemmytx.http1._pure.request}.
    """
    cdef Bytes s = <Bytes>PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data), end, line_end, p = 0, start, a, b, i, query = -1, count = 0, connection_size = 0, fields_start
    cdef int minor, kind, said = 0, state
    cdef bint uneven = False, coding = False, expects = False, has_host = False
    cdef unsigned char byte, class_
    cdef long long length = -1
    cdef Line line
    cdef Kept kept
    cdef bytes method, target, path, raw, block, authority = EMPTY, host = EMPTY, host_field = EMPTY
    cdef object named = None, default_port = None, upgrade = None, body
    cdef list nominating = None, upgrades = None
    cdef dict claims = None

    # The request line: its bytes, before what they mean.
    end = n if n < header_size else header_size
    if n > 0 and s[0] == 13:
        if n < 2 or header_size < 2:
            return _more(n, end, 414, rules.LINE_LONG)
        if s[1] != 10:
            raise ProtocolError(400, rules.BARE_CR)
        p = 2
    line_end = p + REQUEST_LINE if end > p + REQUEST_LINE else end
    start = p
    while p < line_end and LOWER[s[p]]:
        p += 1
        if p - start > 32:
            raise ProtocolError(400, rules.METHOD_LONG)
    if p >= line_end:
        return _more(n, line_end, 414, rules.LINE_LONG)
    if s[p] != 32:
        raise ProtocolError(400, rules.METHOD_BYTE)
    if p == start:
        raise ProtocolError(400, rules.METHOD_EMPTY)
    i = p - start
    b = p
    a = p = p + 1
    while p < line_end:
        class_ = TARGET[s[p]]
        if class_ != 1:
            if class_ == 0:
                break
            if query < 0:
                byte = s[p]
                if byte == 63:
                    query = p
                elif byte == 47 or byte == 46:
                    if p > a and s[p - 1] == 47:
                        uneven = True
                else:
                    uneven = True
        p += 1
    if p >= line_end:
        return _more(n, line_end, 414, rules.LINE_LONG)
    if s[p] != 32:
        raise ProtocolError(400, rules.TARGET_BYTE)
    if p == a:
        raise ProtocolError(400, rules.TARGET_EMPTY)
    fields_start = p + 11
    for kind in range(10):
        p += 1
        if p >= line_end:
            return _more(n, line_end, 414, rules.LINE_LONG)
        byte = s[p]
        if kind == 5 or kind == 7:
            if byte < 48 or byte > 57:
                raise ProtocolError(400, rules.VERSION)
            if kind == 7 and (s[p - 2] != 49 or byte > 49):
                raise ProtocolError(505, rules.VERSION_OTHER)
        elif byte != <unsigned char>(b"HTTP/1.1\r\n"[kind]):
            raise ProtocolError(400, rules.VERSION)
    minor = s[p - 2] - 48
    p = fields_start

    # What it means.
    if i == 3 and s[start] == 71 and s[start + 1] == 69 and s[start + 2] == 84:
        method = GET
    elif i == 4 and s[start] == 80 and s[start + 1] == 79 and s[start + 2] == 83 and s[start + 3] == 84:
        method = POST
    else:
        method = _slice(s, start, b)
        if method not in METHODS:
            if method.upper() in METHODS:
                raise ProtocolError(400, rules.METHOD_CASE)
        elif method == b"CONNECT":
            raise ProtocolError(501, rules.METHOD_CONNECT)
    b = fields_start - 11
    target = _slice(s, a, b)
    if s[a] == 47:
        path = target if query < 0 else _slice(s, a, query)
        if uneven:
            path = normalise(path)
    elif b - a == 1 and s[a] == 42:
        if method != b"OPTIONS":
            raise ProtocolError(400, rules.TARGET_STAR)
        path = target
    else:
        target, path, authority, named, default_port = absolute(target, method)
        if path != STAR:
            path = normalise(path)

    # The fields.
    kept.buffer = NULL
    kept.used = 0
    kept.room = (end - p) + (end - p) // 4 + 16
    kept.span = kept.span_end = p
    try:
        while True:
            # The number of fields first: a line too many is not looked at.
            if count >= headers and p < end and s[p] != 13:
                raise ProtocolError(431, rules.FIELDS_MANY)
            state = _line(s, p, end, &line)
            if state != LINE_FIELD:
                if state == LINE_EMPTY:
                    break
                if state == LINE_MORE:
                    return _more(n, end, 431, rules.HEAD_LONG)
                raise ProtocolError(400, LINE_REASONS[state])
            count += 1
            p = line.next
            kind = _kind(s + line.name, line.colon - line.name)
            if kind == 0:
                _keep(&kept, s, &line)
            elif kind == HOST:
                if has_host:
                    raise ProtocolError(400, rules.HOST_TWICE)
                has_host = True
                a = line.value
                b = line.value_end
                host_field = _slice(s, a, b)
                i = _plain_host(s, a, b)
                if i >= 0:
                    host = host_field if i == b else _slice(s, a, i)
                elif b > a or minor:
                    host = fold_authority(host_field)
            elif kind == CONNECTION:
                connection_size += line.value_end - line.value
                if connection_size > CONNECTION_SIZE:
                    raise ProtocolError(400, rules.CONNECTION_LONG)
                state = _connection(s, line.value, line.value_end)
                said |= state
                if state & OTHER:
                    if nominating is None:
                        nominating = []
                    nominating.append(_slice(s, line.value, line.value_end))
            elif kind == LENGTH:
                if length >= 0:
                    raise ProtocolError(400, rules.LENGTH_TWICE)
                if coding:
                    raise ProtocolError(400, rules.LENGTH_CODING)
                length = _number(s, line.value, line.value_end)
                if length < 0:
                    raise ProtocolError(400, rules.LENGTH_BAD)
                _keep(&kept, s, &line)
            elif kind == CODING:
                if minor == 0:
                    raise ProtocolError(400, rules.CODING_10)
                if coding:
                    raise ProtocolError(400, rules.CODING_TWICE)
                if length >= 0:
                    raise ProtocolError(400, rules.LENGTH_CODING)
                if line.value_end - line.value != 7 or not _is(s + line.value, b"chunked", 7):
                    raise rules.refuse_coding(_slice(s, line.value, line.value_end))
                coding = True
            elif kind == CLAIM:
                if trusted:
                    if claims is None:
                        claims = {}
                    claims.setdefault(_slice(s, line.name, line.colon).lower(), []).append(
                        _slice(s, line.value, line.value_end)
                    )
            elif kind == EXPECT:
                if minor:
                    if _slice(s, line.value, line.value_end).lower() != b"100-continue":
                        raise ProtocolError(417, rules.EXPECTATION)
                    expects = True
                    _keep(&kept, s, &line)
            elif kind == UPGRADE:
                if upgrades is None:
                    upgrades = []
                upgrades.append(_slice(s, line.value, line.value_end))
        if not has_host:
            if minor:
                raise ProtocolError(400, rules.HOST_MISSING)
        elif named is not None and PyBytes_GET_SIZE(host_field) and not same_authority(authority, host_field, default_port):
            raise ProtocolError(400, rules.HOST_OTHER)
        block = _block(&kept, s)
    finally:
        PyMem_Free(kept.buffer)
    if nominating is not None:
        block = rules.without(block, nominating)
    if named is not None:
        host = named
    elif has_host:
        authority = host_field
    body = CHUNKED if coding else (NO_BODY if length <= 0 else length)
    if upgrades is not None and said & SWITCH and minor and not coding and length <= 0 and method == GET:
        upgrade = rules.upgrade(upgrades)

    head = lemmytx_fresh(REQUEST_HEAD)
    lemmytx_put(head, AT_METHOD, method)
    lemmytx_put(head, AT_TARGET, target)
    lemmytx_put(head, AT_PATH, path)
    lemmytx_put(head, AT_AUTHORITY, authority)
    lemmytx_put(head, AT_HOST, host)
    lemmytx_put(head, AT_MINOR, MINOR_1 if minor else MINOR_0)
    lemmytx_put(head, AT_LENGTH, body)
    lemmytx_put(head, AT_KEEP_ALIVE, True if not said & CLOSE and (minor or said & KEEP_ALIVE) else False)
    lemmytx_put(head, AT_EXPECTS, True if expects else False)
    lemmytx_put(head, AT_UPGRADE, upgrade)
    lemmytx_put(head, AT_BLOCK, block)
    lemmytx_put(head, AT_CLAIMS, claims)
    lemmytx_put(head, AT_RAW, _slice(s, fields_start, p))
    lemmytx_put(head, AT_SIZE, p + 2)
    return head


def response(bytes data not None, bint head_request=False, Py_ssize_t header_size=65536, Py_ssize_t headers=200):
    """
    As L{lemmytx.http1._pure.response}.
    """
    cdef Bytes s = <Bytes>PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data), end, p, i, count = 0, connection_size = 0, fields_start
    cdef int minor, kind, said = 0, state, status
    cdef bint coding = False, bodiless, keep_alive, dated = False
    cdef unsigned char byte
    cdef long long length = -1
    cdef Line line
    cdef Kept kept
    cdef bytes block
    cdef object upgrade = None, body
    cdef list nominating = None, upgrades = None

    end = n if n < header_size else header_size
    for i in range(12):
        if i >= end:
            return _more(n, end, 502, rules.HEAD_LONG)
        byte = s[i]
        if i == 7 or i > 8:
            if byte < 48 or byte > 57:
                raise ProtocolError(502, rules.STATUS_LINE)
        elif byte != <unsigned char>(b"HTTP/1.1 "[i]):
            raise ProtocolError(502, rules.STATUS_LINE)
    p = 12
    if p >= end:
        return _more(n, end, 502, rules.HEAD_LONG)
    if s[12] == 32:
        p = 13
        while p < end and TEXT[s[p]]:
            p += 1
        if p >= end:
            return _more(n, end, 502, rules.HEAD_LONG)
        if s[p] != 13:
            raise ProtocolError(502, rules.BARE_LF if s[p] == 10 else rules.REASON_BYTE)
    elif s[12] != 13:
        raise ProtocolError(502, rules.STATUS_LINE)
    if p + 1 >= end:
        return _more(n, end, 502, rules.HEAD_LONG)
    if s[p + 1] != 10:
        raise ProtocolError(502, rules.BARE_CR)
    minor = 0 if s[7] == 48 else 1
    status = (s[9] - 48) * 100 + (s[10] - 48) * 10 + (s[11] - 48)
    if status < 100 or status > 599:
        raise ProtocolError(502, rules.STATUS_RANGE)
    bodiless = status < 200 or status == 204
    fields_start = p + 2

    kept.buffer = NULL
    kept.used = 0
    kept.room = end + (end - fields_start) // 4 + 16
    kept.span = 0
    kept.span_end = fields_start
    try:
        if s[7] != 49 or s[12] != 32:  # the status line as we write it is another one
            kept.span_end = 0
            _move(&kept, s)
            memcpy(kept.buffer, b"HTTP/1.1", 8)
            memcpy(kept.buffer + 8, s + 8, 4)
            kept.buffer[12] = 32
            kept.used = 13
            kept.span = 13 if s[12] == 32 else 12
            kept.span_end = fields_start
        p = fields_start
        while True:
            if count >= headers and p < end and s[p] != 13:
                raise ProtocolError(502, rules.FIELDS_MANY)
            state = _line(s, p, end, &line)
            if state != LINE_FIELD:
                if state == LINE_EMPTY:
                    break
                if state == LINE_MORE:
                    return _more(n, end, 502, rules.HEAD_LONG)
                raise ProtocolError(502, LINE_REASONS[state])
            count += 1
            p = line.next
            kind = _kind(s + line.name, line.colon - line.name)
            if kind == 0:
                if line.colon - line.name == 4 and _is(s + line.name, b"date", 4):
                    dated = True
                _keep(&kept, s, &line)
            elif kind & UNDERSCORED or kind == HOST or kind == EXPECT or kind == CLAIM:
                _keep(&kept, s, &line)
            elif kind == LENGTH:
                if length >= 0:
                    raise ProtocolError(502, rules.LENGTH_TWICE)
                if coding:
                    raise ProtocolError(502, rules.LENGTH_CODING)
                length = _number(s, line.value, line.value_end)
                if length < 0:
                    raise ProtocolError(502, rules.LENGTH_BAD)
                if not bodiless:
                    _keep(&kept, s, &line)
            elif kind == CONNECTION:
                connection_size += line.value_end - line.value
                if connection_size > CONNECTION_SIZE:
                    raise ProtocolError(502, rules.CONNECTION_LONG)
                state = _connection(s, line.value, line.value_end)
                said |= state
                if state & OTHER:
                    if nominating is None:
                        nominating = []
                    nominating.append(_slice(s, line.value, line.value_end))
            elif kind == CODING:
                if minor == 0:
                    raise ProtocolError(502, rules.CODING_10)
                if coding:
                    raise ProtocolError(502, rules.CODING_TWICE)
                if length >= 0:
                    raise ProtocolError(502, rules.LENGTH_CODING)
                if line.value_end - line.value != 7 or not _is(s + line.value, b"chunked", 7):
                    raise ProtocolError(502, rules.CODING_OTHER)
                if bodiless:
                    raise ProtocolError(502, rules.CODING_BODILESS)
                coding = True
            elif kind == UPGRADE:
                if upgrades is None:
                    upgrades = []
                upgrades.append(_slice(s, line.value, line.value_end))
        block = _block(&kept, s)
    finally:
        PyMem_Free(kept.buffer)
    if nominating is not None:
        block = rules.without(block, nominating)
    keep_alive = not said & CLOSE and (minor or said & KEEP_ALIVE)
    if bodiless:
        body = NO_BODY
        if length > 0:
            keep_alive = False
    elif head_request or status == 304:
        body = NO_BODY
    elif coding:
        body = CHUNKED
    elif length >= 0:
        body = length
    else:
        body = UNTIL_CLOSE
        keep_alive = False
    if upgrades is not None and status == 101 and said & SWITCH:
        upgrade = rules.upgrade(upgrades)

    head = lemmytx_fresh(RESPONSE_HEAD)
    lemmytx_put(head, OF_STATUS, status)
    lemmytx_put(head, OF_MINOR, MINOR_1 if minor else MINOR_0)
    lemmytx_put(head, OF_LENGTH, body)
    lemmytx_put(head, OF_KEEP_ALIVE, True if keep_alive else False)
    lemmytx_put(head, OF_UPGRADE, upgrade)
    lemmytx_put(head, OF_DATED, True if dated else False)
    lemmytx_put(head, OF_BLOCK, block)
    lemmytx_put(head, OF_RAW, _slice(s, fields_start, p))
    lemmytx_put(head, OF_SIZE, p + 2)
    return head


include "_chunked.pxi"
