"""
Header compression in plain Python (RFC 7541): the twin that runs where nothing could be compiled, and the one to read
first.

A block is a run of fields, each in one of these forms, told apart by its first bits::

    1xxxxxxx    an entry of a table, by its index
    01xxxxxx    a literal, that becomes the newest entry of the dynamic table
    001xxxxx    no field: the dynamic table gets another size; at the start of a block only
    0001xxxx    a literal, that must not be put into a table by anybody
    0000xxxx    a literal

What x stands for, the name's index (0: the name is a literal as well) or the size, goes on in the bytes behind when
all of x are ones (§5.1).

The dynamic table is a list, oldest first: an index counts from its end, and what is evicted goes from its start. The
encoder numbers its entries as they come, and finds them by two dictionaries.
"""

from __future__ import annotations

from collections import deque

from lemmytx.http2._hpack_tables import (
    ACCEPTING,
    CODES,
    DEAD,
    ENTRY,
    LENGTHS,
    NAMES,
    NEVER,
    NIBBLES,
    PLAIN,
    STATIC,
    STATIC_SIZE,
    TABLE_SIZE,
    HpackError,
    TooLarge,
)

__all__ = ["Decoder", "Encoder"]

_Field = tuple[bytes, bytes]

#: The Huffman decoder, eight bits at a time: for a state and a byte, the next state and the symbols. A row is made when
#: it is needed first: all of them would take 30 ms and 5 MB, and text needs a few.
_rows: list[list[tuple[int, bytes]] | None] = [None] * (DEAD + 1)

_BITS = tuple(format(code, f"0{length}b") for code, length in zip(CODES, LENGTHS, strict=True))
_BYTE_LENGTHS = LENGTHS[:256]
_INDEXES = {STATIC[index]: index for index in range(1, STATIC_SIZE + 1)}


def _row(state: int) -> list[tuple[int, bytes]]:
    """Make and keep the row of C{state}."""
    row = []
    for byte in range(256):
        between, first = NIBBLES[state * 16 + (byte >> 4)]
        after, second = NIBBLES[between * 16 + (byte & 15)]
        row.append((after, bytes([symbol for symbol in (first, second) if symbol >= 0])))
    _rows[state] = row
    return row


def _expand(data: bytes) -> bytes:
    """
    Undo the Huffman code.

    @raise HpackError: it ends with something else than up to seven ones, or EOS is in it (§5.2).
    """
    state = 0
    pieces = []
    for byte in data:
        state, piece = (_rows[state] or _row(state))[byte]
        pieces.append(piece)
    if not ACCEPTING[state]:
        raise HpackError("a Huffman code that ends with EOS or within a symbol")
    return b"".join(pieces)


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """
    The rest of an integer whose prefix is all ones.

    @param value: that prefix.
    @return: the integer, below 2**28 + 127, and where what follows begins.
    @raise HpackError: there is a fifth byte. None of the integers that can occur needs one, and leading zeros would
        never have to end.
    @raise IndexError: the block ends here.
    """
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("an integer of more than five bytes")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """
    A string literal (§5.2).

    @return: the string, and where what follows begins.
    @raise HpackError: it is none.
    @raise IndexError: the block ends here.
    """
    first = block[at]
    at += 1
    size = first & 0x7F
    if size == 0x7F:
        size, at = _integer(block, at, size)
    end = at + size
    if end > len(block):
        raise HpackError("the block ends within a string")
    return (_expand(block[at:end]) if first & 0x80 else block[at:end]), end


class Decoder:
    """What one side of a connection sends, in the order in which it comes."""

    __slots__ = ("_capacity", "_fields", "_limit", "_list_size", "_size", "_table")

    def __init__(self, table_size: int = TABLE_SIZE, list_size: int = 32768, fields: int = 100) -> None:
        """
        @param table_size: what we tell the peer in SETTINGS_HEADER_TABLE_SIZE. Less than the default is for a peer
            that knows it already; of more it makes use by a size update.
        @param list_size: how large a list may be, with 32 bytes for each field (RFC 9113 §6.5.2).
        @param fields: how many fields may be in it, those with a colon included.
        """
        self._limit = table_size
        self._capacity = min(table_size, TABLE_SIZE)
        self._list_size = list_size
        self._fields = fields
        self._size = 0
        self._table: list[_Field] = []

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """
        A whole block: that of a HEADERS frame with all its CONTINUATIONs. Names and values can be any bytes.

        The time it takes is bounded by the size of the block, the memory by that and C{list_size}.

        @raise HpackError: it is none; this decoder cannot be used any more.
        @raise TooLarge: the list is over a bound; what comes next can be decoded.
        """
        table = self._table
        left = self._list_size
        count = self._fields
        found: list[_Field] = []
        at = 0
        end = len(block)
        begun = False
        try:
            while at < end:
                first = block[at]
                at += 1
                if first >= 0x80:
                    index = first & 0x7F
                    if index == 0x7F:
                        index, at = _integer(block, at, index)
                    field = STATIC[index] if 0 < index <= STATIC_SIZE else self._entry(index)
                elif first < 0x20 or first >= 0x40:
                    mask = 0x3F if first >= 0x40 else 0x0F
                    index = first & mask
                    if index == mask:
                        index, at = _integer(block, at, index)
                    if not index:
                        name, at = _string(block, at)
                    elif index <= STATIC_SIZE:
                        name = STATIC[index][0]
                    else:
                        name = self._entry(index)[0]
                    value, at = _string(block, at)
                    field = (name, value)
                    if mask == 0x3F:
                        size = self._size + len(name) + len(value) + ENTRY
                        if size > self._capacity:
                            size = self._make_room(size)
                        # An entry that is larger than the table empties it, and is not there (§4.4).
                        if size <= self._capacity:
                            table.append(field)
                            self._size = size
                else:
                    size = first & 0x1F
                    if size == 0x1F:
                        size, at = _integer(block, at, size)
                    if begun:
                        raise HpackError("a size of the table in the middle of a block")
                    if size > self._limit:
                        raise HpackError("a size of the table above what was allowed")
                    self._capacity = size
                    if self._size > size:
                        self._size = self._make_room(self._size)
                    continue
                begun = True
                left -= len(field[0]) + len(field[1]) + ENTRY
                count -= 1
                if left >= 0 and count >= 0:
                    found.append(field)
        except IndexError:
            raise HpackError("the block ends within a field") from None
        if left < 0:
            raise TooLarge("the list of fields is too large")
        if count < 0:
            raise TooLarge("too many fields")
        return found

    def _entry(self, index: int) -> _Field:
        """
        What is at an index that is not of the static table.

        @raise HpackError: nothing.
        """
        if not index or index - STATIC_SIZE > len(self._table):
            raise HpackError("an index that is in no table")
        return self._table[STATIC_SIZE - index]

    def _make_room(self, size: int) -> int:
        """
        Evict from the oldest on (§4.3, §4.4).

        @param size: of the table with what is to be in it.
        @return: that, with what was evicted taken off.
        """
        gone = 0
        for name, value in self._table:
            if size <= self._capacity:
                break
            freed = len(name) + len(value) + ENTRY
            size -= freed
            self._size -= freed
            gone += 1
        del self._table[:gone]
        return size


class Encoder:
    """What we send on a connection, in the order in which it is sent."""

    __slots__ = ("_capacity", "_count", "_entries", "_known", "_least", "_named", "_size")

    def __init__(self) -> None:
        self._capacity = TABLE_SIZE
        self._least = -1  # the smallest size since the last block, that the peer has to be told of; -1: none
        self._size = 0
        self._count = 0  # entries that ever were: the next one's number
        self._entries: deque[_Field] = deque()
        self._known: dict[_Field, int] = {}
        self._named: dict[bytes, int] = {}

    def resize(self, size: int) -> None:
        """
        The peer's SETTINGS_HEADER_TABLE_SIZE. The next block tells the peer what we make of it (§4.2).

        @param size: any; of more than 4096 bytes we make no use.
        """
        size = min(size, TABLE_SIZE)
        if size == self._capacity:
            return
        self._least = size if self._least < 0 else min(size, self._least)
        self._capacity = size
        self._make_room(0)

    def encode(self, fields: list[tuple[bytes, bytes]]) -> bytes:
        """
        A whole block, that is sent before the next one is made.

        @param fields: with names in lower case. Which names are kept out of the tables: L{NEVER}, L{PLAIN}.
        """
        out = bytearray()
        if self._least >= 0:
            if self._least < self._capacity:
                _put(out, 0x20, 0x1F, self._least)
            _put(out, 0x20, 0x1F, self._capacity)
            self._least = -1
        known = self._known
        for field in fields:
            index = _INDEXES.get(field)
            if index is not None:
                out.append(0x80 | index)
                continue
            number = known.get(field)
            if number is not None:
                _put(out, 0x80, 0x7F, STATIC_SIZE + self._count - number)
                continue
            name, value = field
            index = NAMES.get(name)
            if index is None:
                number = self._named.get(name)
                index = 0 if number is None else STATIC_SIZE + self._count - number
            size = len(name) + len(value) + ENTRY
            if name in NEVER:
                _put(out, 0x10, 0x0F, index)
            elif name in PLAIN or size * 2 > self._capacity:
                _put(out, 0, 0x0F, index)
            else:
                _put(out, 0x40, 0x3F, index)
                self._make_room(size)
                number = self._count
                self._count = number + 1
                self._size += size
                self._entries.append(field)
                known[field] = self._named[name] = number
            if not index:
                _put_string(out, name)
            _put_string(out, value)
        return bytes(out)

    def _make_room(self, size: int) -> None:
        """Evict from the oldest on, until there is room for C{size} bytes."""
        room = self._capacity - size
        while self._size > room:
            number = self._count - len(self._entries)
            field = self._entries.popleft()
            name, value = field
            self._size -= len(name) + len(value) + ENTRY
            del self._known[field]
            if self._named[name] == number:
                del self._named[name]


def _put(out: bytearray, form: int, mask: int, value: int) -> None:
    """
    An integer (§5.1).

    @param form: the first bits, that say what it is.
    @param mask: the largest value of the bits that are left of the first byte.
    """
    if value < mask:
        out.append(form | value)
        return
    out.append(form | mask)
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_string(out: bytearray, data: bytes) -> None:
    """A string literal (§5.2), in the shorter form."""
    bits = sum(data.translate(_BYTE_LENGTHS))
    size = (bits + 7) >> 3
    if size >= len(data):
        _put(out, 0, 0x7F, len(data))
        out += data
        return
    _put(out, 0x80, 0x7F, size)
    padding = size * 8 - bits
    # Through text: the time for it grows with the length alone, and it is one call.
    code = int("".join([_BITS[byte] for byte in data]) + "1" * padding, 2)
    out += code.to_bytes(size, "big")
