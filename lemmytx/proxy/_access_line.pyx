# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""
The lines of exchanges in C: what L{lemmytx.proxy.access_log} makes in Python, with a call for each field, in one go.

Its twins are the formats in there. They make the same, byte for byte, and they make whatever is rare from the start: a
text with something to escape, an exchange without a backend, a number beyond 64 bits. A differential test holds them
together.

Memory: each text is a L{Piece}, a pointer into an object that is kept until the line is done. A line is written at the
end of the buffer that gathers them, after that has grown by room for its pieces and for L{FRAME} bytes of what stands
around them, so nothing has to be checked on the way; what it did not need is given back.
Attributes are read out of their slots only where an object is of the very class that the slot is of; of any other
object, and where the slot is empty, they are looked up as ever.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_GET_LENGTH
from libc.string cimport memchr, memcpy, strlen

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.message import RequestHead
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.forward import Peer
from lemmytx.proxy.router import Vhost

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(object)
    bint PyUnicode_IS_COMPACT_ASCII(object)
    void* PyUnicode_DATA(object)
    long long PyLong_AsLongLongAndOverflow(object, int*) except? -1

cdef extern from *:
    """
    #include <structmember.h>

    /* Where a class with __slots__ keeps an attribute; -1 when it is not such a slot. */
    static Py_ssize_t lemmytx_slot(PyObject *cls, PyObject *name) {
        Py_ssize_t offset = -1;
        PyObject *descriptor = PyObject_GetAttr(cls, name);
        if (descriptor == NULL) { PyErr_Clear(); return -1; }
        if (Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) {
            PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
            if (member->type == T_OBJECT_EX) offset = member->offset;
        }
        Py_DECREF(descriptor);
        return offset;
    }

    typedef struct { PyObject *cls; PyObject *name; Py_ssize_t offset; } lemmytx_attribute;

    /* The attribute of an object: out of its slot when it is of the class that the slot is of, else as ever. */
    static inline PyObject *lemmytx_get(PyObject *owner, const lemmytx_attribute *attribute) {
        if ((PyObject *)Py_TYPE(owner) == attribute->cls && attribute->offset > 0) {
            PyObject *value = *(PyObject **)((char *)owner + attribute->offset);
            if (value != NULL) { Py_INCREF(value); return value; }
        }
        return PyObject_GetAttr(owner, attribute->name);
    }
    """
    ctypedef struct Attribute "lemmytx_attribute":
        void* cls
        void* name
        Py_ssize_t offset
    Py_ssize_t lemmytx_slot(object cls, object name)
    object _get "lemmytx_get"(object owner, const Attribute* attribute)

cdef enum:
    # What stands around the pieces: in JSON the names of the members and punctuation (some 350 bytes), the quotes of 13
    # pieces (26), four numbers of at most 19 digits, four times of at most 13, three digits of milliseconds.
    FRAME = 640

#: The same, for a test.
ROOM = FRAME

ctypedef const unsigned char* Bytes

cdef struct Piece:
    Bytes at
    Py_ssize_t size


# Looking an attribute up goes by way of tables that have left the processor's caches by the time an exchange ends.
# Reading them out of their slots halves what a line costs.
cdef list _kept = []

cdef int _known(Attribute* attribute, object cls, str name) except -1:
    """Fill in C{attribute}, for good: C{_kept} holds on to what it points at."""
    _kept.append((cls, name))
    attribute.cls = <void*>cls
    attribute.name = <void*>name
    attribute.offset = lemmytx_slot(cls, name)
    return 0

cdef Attribute _BACKEND
cdef Attribute _HEAD
cdef Attribute _PEER
cdef Attribute _PEER_TOLD
cdef Attribute _CLIENT
cdef Attribute _REQUEST_ID
cdef Attribute _VHOST
cdef Attribute _CLUSTER
cdef Attribute _TERMINATION
cdef Attribute _WHY
cdef Attribute _TUNNEL
cdef Attribute _STATUS
cdef Attribute _SENT
cdef Attribute _RECEIVED
cdef Attribute _ATTEMPTS
cdef Attribute _QUEUE_TIME
cdef Attribute _CONNECT_TIME
cdef Attribute _FIRST_BYTE
cdef Attribute _TOTAL
cdef Attribute _HEAD_RAW
cdef Attribute _HEAD_METHOD
cdef Attribute _HEAD_AUTHORITY
cdef Attribute _HEAD_TARGET
cdef Attribute _HEAD_MINOR
cdef Attribute _VHOST_NAME
cdef Attribute _CLUSTER_NAME
cdef Attribute _BACKEND_NAME

_known(&_BACKEND, Exchange, "backend")
_known(&_HEAD, Exchange, "head")
_known(&_PEER, Exchange, "peer")
_known(&_PEER_TOLD, Peer, "told")
_known(&_CLIENT, Exchange, "client")
_known(&_REQUEST_ID, Exchange, "request_id")
_known(&_VHOST, Exchange, "vhost")
_known(&_CLUSTER, Exchange, "cluster")
_known(&_TERMINATION, Exchange, "termination")
_known(&_WHY, Exchange, "why")
_known(&_TUNNEL, Exchange, "tunnel")
_known(&_STATUS, Exchange, "status")
_known(&_SENT, Exchange, "sent")
_known(&_RECEIVED, Exchange, "received")
_known(&_ATTEMPTS, Exchange, "attempts")
_known(&_QUEUE_TIME, Exchange, "queue_time")
_known(&_CONNECT_TIME, Exchange, "connect_time")
_known(&_FIRST_BYTE, Exchange, "first_byte")
_known(&_TOTAL, Exchange, "total")
_known(&_HEAD_RAW, RequestHead, "raw")
_known(&_HEAD_METHOD, RequestHead, "method")
_known(&_HEAD_AUTHORITY, RequestHead, "authority")
_known(&_HEAD_TARGET, RequestHead, "target")
_known(&_HEAD_MINOR, RequestHead, "minor")
_known(&_VHOST_NAME, Vhost, "name")
_known(&_CLUSTER_NAME, Cluster, "name")
_known(&_BACKEND_NAME, Backend, "name")


cdef bint _plain(Bytes at, Py_ssize_t size) noexcept nogil:
    """Whether these bytes stand for themselves in both formats. Without a way out, the loop takes 16 at a time."""
    cdef unsigned char bad = 0
    cdef unsigned char byte
    cdef Py_ssize_t i
    for i in range(size):
        byte = at[i]
        bad |= (byte < 0x20) | (byte > 0x7E) | (byte == 0x22) | (byte == 0x5C)
    return bad == 0


cdef bint _read(Piece* piece, object value) noexcept:
    """
    @param value: bytes or text; who calls keeps it for as long as the piece.
    @return: whether it is one that can be written as it is.
    """
    if PyBytes_CheckExact(value):
        piece.at = <Bytes>PyBytes_AS_STRING(value)
        piece.size = PyBytes_GET_SIZE(value)
    elif PyUnicode_CheckExact(value) and PyUnicode_IS_COMPACT_ASCII(value):
        piece.at = <Bytes>PyUnicode_DATA(value)
        piece.size = PyUnicode_GET_LENGTH(value)
    else:
        return False
    return _plain(piece.at, piece.size)


cdef bint _count(unsigned long long* count, object value) except -1:
    """
    @return: whether it is a count that can be written here.
    """
    cdef int over = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &over)
    count[0] = <unsigned long long>number
    return over == 0 and number >= 0


# Times that are no number of microseconds.
cdef enum:
    NEVER = -1
    NONE = -2


cdef bint _time(long long* micros, double seconds) noexcept nogil:
    """
    To microseconds, as C{%.6f} does it, which looks at the exact value. Below 10^12 the product is off by less than
    0.0001 (half a unit in the last of 53 bits), so that only near a half it could come out on the wrong side.

    @return: whether it can be written here: it is not near a half and not longer than eleven days.
    """
    cdef double scaled, rest
    cdef long long whole
    if seconds <= 0.0:
        micros[0] = NONE if seconds == 0.0 else NEVER
        return True
    scaled = seconds * 1e6
    if not scaled < 1e12:
        return False
    whole = <long long>scaled
    rest = scaled - <double>whole
    micros[0] = whole + (rest > 0.5)
    return rest < 0.499 or rest > 0.501


cdef inline bint _begins(Bytes at, const char* lower, const char* upper, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if at[i] != <unsigned char>lower[i] and at[i] != <unsigned char>upper[i]:
            return False
    return True


cdef bint _value(Piece* piece, Bytes at, Bytes end) noexcept nogil:
    """
    What stands up to the carriage return, without the white space around it.

    @return: whether it can be written as it is.
    """
    cdef Bytes stop = <Bytes>memchr(at, 0x0D, end - at)
    if stop == NULL:
        return False
    while at < stop and (at[0] == 0x20 or at[0] == 0x09):
        at += 1
    while at < stop and ((stop - 1)[0] == 0x20 or (stop - 1)[0] == 0x09):
        stop -= 1
    piece.at = at
    piece.size = stop - at
    return _plain(at, stop - at)


cdef bint _told(Piece* agent, Piece* referer, object raw) noexcept:
    """
    What a client says of itself, as the twin has it: each from the first line with its name, empty where there is none.

    @return: whether it can be written as it is.
    """
    cdef Bytes at
    cdef Bytes end
    cdef bint agent_found = False
    cdef bint referer_found = False
    if not PyBytes_CheckExact(raw):
        return False
    at = <Bytes>PyBytes_AS_STRING(raw)
    end = at + PyBytes_GET_SIZE(raw)
    agent.at = referer.at = at
    agent.size = referer.size = 0
    while at < end:
        if at[0] == 0x75 or at[0] == 0x55:
            if not agent_found and end - at >= 11 and _begins(at, b"user-agent:", b"USER-AGENT:", 11):
                agent_found = True
                if not _value(agent, at + 11, end):
                    return False
        elif at[0] == 0x72 or at[0] == 0x52:
            if not referer_found and end - at >= 8 and _begins(at, b"referer:", b"REFERER:", 8):
                referer_found = True
                if not _value(referer, at + 8, end):
                    return False
        if agent_found and referer_found:
            break
        at = <Bytes>memchr(at, 0x0A, end - at)
        if at == NULL:
            break
        at += 1
    return True


cdef inline unsigned char* _put(unsigned char* to, const char* what) noexcept nogil:
    """For what stands in the source: the C compiler knows its length."""
    cdef size_t size = strlen(what)
    memcpy(to, what, size)
    return to + size


cdef inline unsigned char* _put_piece(unsigned char* to, Piece* piece) noexcept nogil:
    memcpy(to, piece.at, piece.size)
    return to + piece.size


cdef inline unsigned char* _put_quoted(unsigned char* to, Piece* piece) noexcept nogil:
    """As a JSON string; null where it is empty."""
    if piece.size == 0:
        return _put(to, b"null")
    to[0] = 0x22
    to = _put_piece(to + 1, piece)
    to[0] = 0x22
    return to + 1


cdef inline unsigned char* _put_digits(unsigned char* to, unsigned int number, int count) noexcept nogil:
    """So many, with leading zeros."""
    cdef int i
    for i in range(count - 1, -1, -1):
        to[i] = <unsigned char>(0x30 + number % 10)
        number //= 10
    return to + count


cdef inline unsigned char* _put_protocol(unsigned char* to, int minor) noexcept nogil:
    """See C{PROTOCOLS} of the twin."""
    if minor == 2:
        return _put(to, b"HTTP/2.0")
    return _put(to, b"HTTP/1.1") if minor else _put(to, b"HTTP/1.0")


cdef unsigned char* _put_count(unsigned char* to, unsigned long long number) noexcept nogil:
    cdef unsigned char digits[20]
    cdef int at = 20
    while number >= 10:
        at -= 1
        digits[at] = <unsigned char>(0x30 + number % 10)
        number //= 10
    at -= 1
    digits[at] = <unsigned char>(0x30 + number)
    memcpy(to, digits + at, 20 - at)
    return to + (20 - at)


cdef unsigned char* _put_time(unsigned char* to, long long micros) noexcept nogil:
    """With six digits; 0 and null as they are."""
    if micros == NEVER:
        return _put(to, b"null")
    if micros == NONE:
        return _put(to, b"0")
    to = _put_count(to, micros // 1000000)
    to[0] = 0x2E
    return _put_digits(to + 1, <unsigned int>(micros % 1000000), 6)


cdef unsigned char* _grown(bytearray lines, Py_ssize_t room) except NULL:
    """
    @return: where the next line begins; so many bytes can be written there, and then L{_shrunk} is to be called.
    """
    cdef Py_ssize_t before = PyByteArray_GET_SIZE(lines)
    PyByteArray_Resize(lines, before + room)
    return <unsigned char*>PyByteArray_AS_STRING(lines) + before


cdef int _shrunk(bytearray lines, unsigned char* end) except -1:
    """The last line has become no longer than to C{end}."""
    PyByteArray_Resize(lines, end - <unsigned char*>PyByteArray_AS_STRING(lines))
    return 0


cdef class _Format:
    """
    What both formats share.

    @ivar twin: who makes what is not made here.
    @ivar second: the one that C{stamp} is of.
    """

    cdef object twin, seconds
    cdef double second
    cdef object stamp

    def __init__(self, twin):
        """
        @param twin: the same format in Python, for C{exchange}, C{seconds} and C{stamp}.
        """
        self.twin = twin
        self.seconds = twin.seconds
        self.second = -1.0
        self.stamp = b""

    cdef int _tick(self, double second) except -1:
        """Another second has begun."""
        self.stamp = self.twin.stamp(int(second))
        self.second = second
        return 0


cdef class JSON(_Format):
    """The JSON format."""

    def append(self, exchange, bytearray lines not None):
        """See L{lemmytx.proxy.access_log.appender}."""
        cdef double now = self.seconds()
        cdef double second = <double><long long>now if 0.0 <= now < 1e15 else -2.0
        cdef object head, raw, client, method, authority, target, request_id, vhost, cluster, backend, termination, why
        cdef object stamp, more
        cdef Piece agent, referer, of_stamp, of_client, of_method, of_authority, of_target, of_request_id
        cdef Piece of_vhost, of_cluster, of_backend, of_termination, of_why, of_more
        cdef unsigned long long status, sent, received, attempts
        cdef long long queue_time, connect_time, first_byte, total
        cdef unsigned char* to
        cdef Py_ssize_t room
        cdef bint tunnel, well
        cdef int minor

        if second != self.second:
            if second < 0.0:
                return self.twin.append(exchange, lines)
            self._tick(second)
        backend = _get(exchange, &_BACKEND)
        if backend is None:
            return self.twin.append(exchange, lines)
        head = _get(exchange, &_HEAD)
        raw = _get(head, &_HEAD_RAW)
        stamp = self.stamp
        client = _get(exchange, &_CLIENT)
        method = _get(head, &_HEAD_METHOD)
        authority = _get(head, &_HEAD_AUTHORITY)
        target = _get(head, &_HEAD_TARGET)
        request_id = _get(exchange, &_REQUEST_ID)
        vhost = _get(_get(exchange, &_VHOST), &_VHOST_NAME)
        cluster = _get(_get(exchange, &_CLUSTER), &_CLUSTER_NAME)
        backend = _get(backend, &_BACKEND_NAME)
        termination = _get(exchange, &_TERMINATION)
        why = ""
        more = _get(_get(exchange, &_PEER), &_PEER_TOLD)
        minor = _get(head, &_HEAD_MINOR)
        tunnel = _get(exchange, &_TUNNEL)
        if not (
            _read(&of_client, client) and _read(&of_method, method) and _read(&of_authority, authority)
            and _read(&of_target, target) and _read(&of_request_id, request_id) and _read(&of_vhost, vhost)
            and _read(&of_cluster, cluster) and _read(&of_backend, backend) and _read(&of_termination, termination)
            and _read(&of_stamp, stamp) and _told(&agent, &referer, raw)
            and of_client.size and of_termination.size
            and _count(&status, _get(exchange, &_STATUS)) and _count(&sent, _get(exchange, &_SENT))
            and _count(&received, _get(exchange, &_RECEIVED)) and _count(&attempts, _get(exchange, &_ATTEMPTS))
            and _time(&queue_time, _get(exchange, &_QUEUE_TIME))
            and _time(&connect_time, _get(exchange, &_CONNECT_TIME))
            and _time(&first_byte, _get(exchange, &_FIRST_BYTE)) and _time(&total, _get(exchange, &_TOTAL))
        ):
            return self.twin.append(exchange, lines)
        well = of_termination.size == 2 and of_termination.at[0] == 0x6F and of_termination.at[1] == 0x6B
        if not well:
            why = _get(exchange, &_WHY)
        if not (_read(&of_why, why) and PyBytes_CheckExact(more)):
            return self.twin.append(exchange, lines)
        # JSON already.
        of_more.at = <Bytes>PyBytes_AS_STRING(more)
        of_more.size = PyBytes_GET_SIZE(more)

        room = (
            FRAME + of_stamp.size + of_client.size + of_method.size + of_authority.size + of_target.size
            + of_request_id.size + of_vhost.size + of_cluster.size + of_backend.size + of_termination.size + of_why.size
            + agent.size + referer.size + of_more.size
        )
        to = _grown(lines, room)
        to = _put_piece(_put(to, b'{"time":"'), &of_stamp)
        to = _put_digits(to, <unsigned int>((now - second) * 1000), 3)
        to = _put_quoted(_put(to, b'Z","client":'), &of_client)
        to = _put_quoted(_put(to, b',"method":'), &of_method)
        to = _put_quoted(_put(to, b',"host":'), &of_authority)
        to = _put_quoted(_put(to, b',"target":'), &of_target)
        to = _put_quoted(_put(to, b',"request_id":'), &of_request_id)
        to = _put_protocol(_put(to, b',"protocol":"'), minor)
        to = _put_count(_put(to, b'","status":'), status)
        to = _put_count(_put(to, b',"sent":'), sent)
        to = _put_count(_put(to, b',"received":'), received)
        to = _put_time(_put(to, b',"queue_time":'), queue_time)
        to = _put_time(_put(to, b',"connect_time":'), connect_time)
        to = _put_time(_put(to, b',"first_byte":'), first_byte)
        to = _put_time(_put(to, b',"total":'), total)
        to = _put_count(_put(to, b',"attempts":'), attempts)
        to = _put_quoted(_put(to, b',"vhost":'), &of_vhost)
        to = _put_quoted(_put(to, b',"cluster":'), &of_cluster)
        to = _put_quoted(_put(to, b',"backend":'), &of_backend)
        to = _put_quoted(_put(to, b',"termination":'), &of_termination)
        if not well:
            to = _put_quoted(_put(to, b',"why":'), &of_why)
        to = _put(to, b',"tunnel":true') if tunnel else _put(to, b',"tunnel":false')
        to = _put_quoted(_put(to, b',"user_agent":'), &agent)
        to = _put_piece(_put_quoted(_put(to, b',"referer":'), &referer), &of_more)
        to = _put(to, b"}\n")
        _shrunk(lines, to)


cdef class Combined(_Format):
    """The combined format."""

    def append(self, exchange, bytearray lines not None):
        """See L{lemmytx.proxy.access_log.appender}."""
        cdef double now = self.seconds()
        cdef double second = <double><long long>now if 0.0 <= now < 1e15 else -2.0
        cdef object head, raw, client, method, target, stamp
        cdef Piece agent, referer, of_stamp, of_client, of_method, of_target
        cdef unsigned long long status, sent
        cdef unsigned char* to
        cdef Py_ssize_t room
        cdef int minor

        if second != self.second:
            if second < 0.0:
                return self.twin.append(exchange, lines)
            self._tick(second)
        head = _get(exchange, &_HEAD)
        raw = _get(head, &_HEAD_RAW)
        stamp = self.stamp
        client = _get(exchange, &_CLIENT)
        method = _get(head, &_HEAD_METHOD)
        target = _get(head, &_HEAD_TARGET)
        minor = _get(head, &_HEAD_MINOR)
        if not (
            _read(&of_client, client) and _read(&of_method, method) and _read(&of_target, target)
            and _read(&of_stamp, stamp) and _told(&agent, &referer, raw) and of_client.size
            and _count(&status, _get(exchange, &_STATUS)) and _count(&sent, _get(exchange, &_SENT))
        ):
            return self.twin.append(exchange, lines)

        room = FRAME + of_stamp.size + of_client.size + of_method.size + of_target.size + agent.size + referer.size
        to = _put_piece(_grown(lines, room), &of_client)
        to = _put_piece(_put(to, b" - - "), &of_stamp)
        to = _put_piece(_put(to, b' "'), &of_method)
        to = _put_piece(_put(to, b" "), &of_target)
        to = _put(_put_protocol(_put(to, b" "), minor), b'" ')
        to = _put_count(to, status) if status >= 100 else _put_digits(to, <unsigned int>status, 3)
        to = _put_count(_put(to, b" "), sent)
        to = _put(to, b' "')
        to = _put_piece(to, &referer) if referer.size else _put(to, b"-")
        to = _put(to, b'" "')
        to = _put_piece(to, &agent) if agent.size else _put(to, b"-")
        to = _put(to, b'"\n')
        _shrunk(lines, to)
