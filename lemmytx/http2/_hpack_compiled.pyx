# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""
Header compression in C (RFC 7541). Its twin, L{lemmytx.http2._hpack}, says the same in Python and explains it; a
differential test holds them together, down to the reasons of errors.

Memory: nothing is read at or beyond C{end}, which is never beyond the bytes that were given (checked before each
access). What is written goes to buffers that were given room for all of a field before its first byte: no form of a string
is longer than itself as it is, with five bytes for its length.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.string cimport memcpy

from lemmytx.http2 import _hpack_tables as tables
from lemmytx.http2._hpack_tables import HpackError, TooLarge

cdef enum:
    ENTRY = 32
    STATIC_SIZE = 61
    STATES = 257
    SMALL = 2048
    INDEXED = 0
    PLAIN = 1
    NEVER = 2

ctypedef const unsigned char* Bytes

cdef struct Step:
    unsigned short state
    short symbol

cdef Step STEPS[STATES * 16]
cdef unsigned char ACCEPTING[STATES]
cdef unsigned int CODES[256]
cdef unsigned char LENGTHS[256]
cdef Py_ssize_t TABLE_SIZE = tables.TABLE_SIZE
cdef tuple STATIC = tables.STATIC
cdef dict INDEXES = {tables.STATIC[i]: i for i in range(1, STATIC_SIZE + 1)}
cdef dict KINDS = {}  # of a name: its index in the static table, with how it is compressed in front


cdef int _fill() except -1:
    cdef Py_ssize_t place
    if tables.ENTRY != ENTRY or tables.STATIC_SIZE != STATIC_SIZE or len(tables.NIBBLES) != STATES * 16:
        raise ImportError("compiled for other tables")
    for place in range(STATES * 16):
        STEPS[place].state = tables.NIBBLES[place][0]
        STEPS[place].symbol = tables.NIBBLES[place][1]
    for place in range(STATES):
        ACCEPTING[place] = tables.ACCEPTING[place]
    for place in range(256):
        CODES[place] = tables.CODES[place]
        LENGTHS[place] = tables.LENGTHS[place]
    for name in {*tables.NAMES, *tables.PLAIN, *tables.NEVER}:
        kind = NEVER if name in tables.NEVER else PLAIN if name in tables.PLAIN else INDEXED
        KINDS[name] = kind << 8 | tables.NAMES.get(name, 0)
    return 0


_fill()


cdef bytes _expand(Bytes data, Py_ssize_t size):
    """Undo the Huffman code: no code has fewer than five bits."""
    cdef unsigned char small[SMALL]
    cdef unsigned char *room = small
    cdef unsigned char *to
    cdef Py_ssize_t place
    cdef unsigned int state = 0
    cdef Step step
    cdef bytes found
    if size > SMALL // 8 * 5 - 1:
        room = <unsigned char *>PyMem_Malloc(size // 5 * 8 + 16)
        if room == NULL:
            raise MemoryError
    to = room
    for place in range(size):
        step = STEPS[state << 4 | data[place] >> 4]
        if step.symbol >= 0:
            to[0] = <unsigned char>step.symbol
            to += 1
        step = STEPS[<unsigned int>step.state << 4 | data[place] & 15]
        if step.symbol >= 0:
            to[0] = <unsigned char>step.symbol
            to += 1
        state = step.state
    try:
        if not ACCEPTING[state]:
            raise HpackError("a Huffman code that ends with EOS or within a symbol")
        found = PyBytes_FromStringAndSize(<char *>room, to - room)
    finally:
        if room != small:
            PyMem_Free(room)
    return found


cdef Py_ssize_t _integer(Bytes *at, Bytes end, Py_ssize_t value) except -1:
    """The rest of an integer whose prefix is all ones; C{at} moves on."""
    cdef Bytes here = at[0]
    cdef int shift = 0
    cdef unsigned char byte
    while shift <= 21:
        if here == end:
            raise HpackError("the block ends within a field")
        byte = here[0]
        here += 1
        value += <Py_ssize_t>(byte & 0x7F) << shift
        if byte < 0x80:
            at[0] = here
            return value
        shift += 7
    raise HpackError("an integer of more than five bytes")


cdef bytes _string(Bytes *at, Bytes end):
    """A string literal; C{at} moves on."""
    cdef Bytes here = at[0]
    cdef Py_ssize_t size
    cdef bint coded
    if here == end:
        raise HpackError("the block ends within a field")
    coded = here[0] & 0x80
    size = here[0] & 0x7F
    at[0] = here + 1
    if size == 0x7F:
        size = _integer(at, end, size)
    here = at[0]
    if size > end - here:
        raise HpackError("the block ends within a string")
    at[0] = here + size
    if coded:
        return _expand(here, size)
    return PyBytes_FromStringAndSize(<char *>here, size)


cdef inline Py_ssize_t _counted(tuple field):
    """What an entry takes in a table."""
    return PyBytes_GET_SIZE(<bytes>field[0]) + PyBytes_GET_SIZE(<bytes>field[1]) + ENTRY


cdef class Decoder:
    """See L{lemmytx.http2._hpack.Decoder}."""

    cdef Py_ssize_t limit, capacity, list_size, fields, size
    cdef list table

    def __init__(self, Py_ssize_t table_size=4096, Py_ssize_t list_size=32768, Py_ssize_t fields=100):
        self.limit = table_size
        self.capacity = min(table_size, TABLE_SIZE)
        self.list_size = list_size
        self.fields = fields
        self.size = 0
        self.table = []

    def decode(self, bytes block not None):
        """See L{lemmytx.http2._hpack.Decoder.decode}."""
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(block)
        cdef Bytes end = at + PyBytes_GET_SIZE(block)
        cdef Py_ssize_t left = self.list_size, count = self.fields, index, mask, size
        cdef bint begun = False
        cdef unsigned char first
        cdef list found = []
        cdef tuple field
        cdef bytes name, value
        while at < end:
            first = at[0]
            at += 1
            if first >= 0x80:
                index = first & 0x7F
                if index == 0x7F:
                    index = _integer(&at, end, index)
                field = <tuple>STATIC[index] if 0 < index <= STATIC_SIZE else self.entry(index)
                size = _counted(field)
            elif first < 0x20 or first >= 0x40:
                mask = 0x3F if first >= 0x40 else 0x0F
                index = first & mask
                if index == mask:
                    index = _integer(&at, end, index)
                if not index:
                    name = _string(&at, end)
                elif index <= STATIC_SIZE:
                    name = <bytes>(<tuple>STATIC[index])[0]
                else:
                    name = <bytes>self.entry(index)[0]
                value = _string(&at, end)
                field = (name, value)
                size = PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + ENTRY
                if mask == 0x3F:
                    if self.size + size > self.capacity:
                        self.make_room(size)
                    if size <= self.capacity:
                        self.table.append(field)
                        self.size += size
            else:
                size = first & 0x1F
                if size == 0x1F:
                    size = _integer(&at, end, size)
                if begun:
                    raise HpackError("a size of the table in the middle of a block")
                if size > self.limit:
                    raise HpackError("a size of the table above what was allowed")
                self.capacity = size
                if self.size > size:
                    self.make_room(0)
                continue
            begun = True
            left -= size
            count -= 1
            if left >= 0 and count >= 0:
                found.append(field)
        if left < 0:
            raise TooLarge("the list of fields is too large")
        if count < 0:
            raise TooLarge("too many fields")
        return found

    cdef tuple entry(self, Py_ssize_t index):
        """What is at an index that is not of the static table."""
        cdef Py_ssize_t there = len(self.table)
        if not index or index - STATIC_SIZE > there:
            raise HpackError("an index that is in no table")
        return <tuple>self.table[there + STATIC_SIZE - index]

    cdef int make_room(self, Py_ssize_t size) except -1:
        """Evict from the oldest on, until there is room for C{size} bytes, or nothing is left."""
        cdef Py_ssize_t gone = 0, there = len(self.table)
        while gone < there and self.size + size > self.capacity:
            self.size -= _counted(<tuple>self.table[gone])
            gone += 1
        del self.table[:gone]
        return 0


cdef struct Out:
    unsigned char *start
    Py_ssize_t size
    Py_ssize_t room


cdef int _reserve(Out *out, Py_ssize_t size) except -1:
    """Room for that many bytes more."""
    cdef unsigned char *moved
    cdef Py_ssize_t room
    if out.room - out.size >= size:
        return 0
    room = (out.size + size) * 2
    moved = <unsigned char *>PyMem_Realloc(out.start, room)
    if moved == NULL:
        raise MemoryError
    out.start = moved
    out.room = room
    return 0


cdef inline void _put(Out *out, unsigned char form, Py_ssize_t mask, Py_ssize_t value) noexcept:
    """An integer; of those that occur none has more than ten bytes."""
    cdef unsigned char *to = out.start + out.size
    if value < mask:
        to[0] = <unsigned char>(form | value)
        out.size += 1
        return
    to[0] = <unsigned char>(form | mask)
    to += 1
    value -= mask
    while value >= 0x80:
        to[0] = <unsigned char>(value & 0x7F | 0x80)
        to += 1
        value >>= 7
    to[0] = <unsigned char>value
    out.size = to + 1 - out.start


cdef void _put_string(Out *out, bytes string) noexcept:
    """A string literal, in the shorter form."""
    cdef Bytes data = <Bytes>PyBytes_AS_STRING(string)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(string), bits = 0, place, coded
    cdef unsigned char *to
    cdef unsigned long long pending = 0
    cdef int waiting = 0
    for place in range(size):
        bits += LENGTHS[data[place]]
    coded = (bits + 7) >> 3
    if coded >= size:
        _put(out, 0, 0x7F, size)
        memcpy(out.start + out.size, data, size)
        out.size += size
        return
    _put(out, 0x80, 0x7F, coded)
    to = out.start + out.size
    for place in range(size):
        # At most 7 bits wait, and a code has at most 28 here: EOS is none of them.
        pending = pending << LENGTHS[data[place]] | CODES[data[place]]
        waiting += LENGTHS[data[place]]
        while waiting >= 8:
            waiting -= 8
            to[0] = <unsigned char>(pending >> waiting)
            to += 1
    if waiting:
        to[0] = <unsigned char>(pending << (8 - waiting) | (0xFF >> waiting))
    out.size += coded


cdef class Encoder:
    """See L{lemmytx.http2._hpack.Encoder}."""

    cdef Py_ssize_t capacity, least, size, count
    cdef list entries
    cdef dict known, named

    def __init__(self):
        self.capacity = TABLE_SIZE
        self.least = -1
        self.size = 0
        self.count = 0
        self.entries = []
        self.known = {}
        self.named = {}

    def resize(self, size):
        """See L{lemmytx.http2._hpack.Encoder.resize}."""
        cdef Py_ssize_t wanted = min(size, TABLE_SIZE)
        if wanted == self.capacity:
            return
        self.least = wanted if self.least < 0 else min(wanted, self.least)
        self.capacity = wanted
        self.make_room(0)

    def encode(self, list fields not None):
        """See L{lemmytx.http2._hpack.Encoder.encode}."""
        cdef Out out
        out.start = NULL
        out.size = out.room = 0
        try:
            _reserve(&out, 1024)
            if self.least >= 0:
                if self.least < self.capacity:
                    _put(&out, 0x20, 0x1F, self.least)
                _put(&out, 0x20, 0x1F, self.capacity)
                self.least = -1
            for field in fields:
                if type(field) is not tuple or len(<tuple>field) != 2:
                    raise TypeError(f"a field is a tuple of two, not {field!r}")
                self.put(&out, <tuple>field)
            return PyBytes_FromStringAndSize(<char *>out.start, out.size)
        finally:
            PyMem_Free(out.start)

    cdef int put(self, Out *out, tuple field) except -1:
        """One field."""
        cdef PyObject *there
        cdef Py_ssize_t index, size
        cdef int kind = INDEXED
        cdef object name = field[0], value = field[1], number
        if not PyBytes_CheckExact(name) or not PyBytes_CheckExact(value):
            raise TypeError(f"a name and a value are bytes, not {field!r}")
        size = PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + ENTRY
        _reserve(out, size + 64)
        there = PyDict_GetItemWithError(INDEXES, field)
        if there != NULL:
            out.start[out.size] = <unsigned char>(0x80 | <int>(<object>there))
            out.size += 1
            return 0
        there = PyDict_GetItemWithError(self.known, field)
        if there != NULL:
            _put(out, 0x80, 0x7F, STATIC_SIZE + self.count - <Py_ssize_t>(<object>there))
            return 0
        index = 0
        there = PyDict_GetItemWithError(KINDS, name)
        if there != NULL:
            index = <object>there
            kind = <int>(index >> 8)
            index &= 0xFF
        if not index:
            there = PyDict_GetItemWithError(self.named, name)
            if there != NULL:
                index = STATIC_SIZE + self.count - <Py_ssize_t>(<object>there)
        if kind == NEVER:
            _put(out, 0x10, 0x0F, index)
        elif kind == PLAIN or size * 2 > self.capacity:
            _put(out, 0, 0x0F, index)
        else:
            _put(out, 0x40, 0x3F, index)
            self.make_room(size)
            number = self.count
            self.count += 1
            self.size += size
            self.entries.append(field)
            self.known[field] = number
            self.named[name] = number
        if not index:
            _put_string(out, <bytes>name)
        _put_string(out, <bytes>value)
        return 0

    cdef int make_room(self, Py_ssize_t size) except -1:
        """Evict from the oldest on, until there is room for C{size} bytes."""
        cdef Py_ssize_t room = self.capacity - size, gone = 0, oldest = self.count - len(self.entries)
        cdef tuple field
        while self.size > room:
            field = <tuple>self.entries[gone]
            self.size -= _counted(field)
            del self.known[field]
            if <Py_ssize_t>self.named[field[0]] == oldest + gone:
                del self.named[field[0]]
            gone += 1
        if gone:
            del self.entries[:gone]
        return 0
