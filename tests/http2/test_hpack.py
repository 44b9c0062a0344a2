"""Header compression, on both twins: the examples of RFC 7541, what is no block, the bounds, what is compressed how."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http2 import hpack as chosen
from tests.http2 import hpack_twins as twins
from tests.http2.hpack_twins import Fields, coded, integer, literal, plain

_DATES = b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT"
_REQUESTS: list[Fields] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]  # fmt: skip
_RESPONSES: list[Fields] = [
    [
        (b":status", b"302"), (b"cache-control", b"private"), (b"date", _DATES[0]),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"307"), (b"cache-control", b"private"), (b"date", _DATES[0]),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"200"), (b"cache-control", b"private"), (b"date", _DATES[1]),
        (b"location", b"https://www.example.com"), (b"content-encoding", b"gzip"),
        (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
]  # fmt: skip

# Appendix C: the example; the size of the table; the blocks; what they say.
EXAMPLES: list[tuple[str, int, list[str], list[Fields]]] = [
    (
        "C.2.1",
        4096,
        ["400a637573746f6d2d6b65790d637573746f6d2d686561646572"],
        [[(b"custom-key", b"custom-header")]],
    ),
    ("C.2.2", 4096, ["040c2f73616d706c652f70617468"], [[(b":path", b"/sample/path")]]),
    ("C.2.3", 4096, ["100870617373776f726406736563726574"], [[(b"password", b"secret")]]),
    ("C.2.4", 4096, ["82"], [[(b":method", b"GET")]]),
    (
        "C.3",
        4096,
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        _REQUESTS,
    ),
    (
        "C.4",
        4096,
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        _REQUESTS,
    ),
    (
        "C.5",
        256,
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a"
            "2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b4851"
            "4b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
        ],
        _RESPONSES,
    ),
    (
        "C.6",
        256,
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43"
            "d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27"
            "087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        _RESPONSES,
    ),
]

_A = literal(b"a", b"b")
_ADD = literal(b"a", b"b", 0x40)

# What it is; the blocks; what comes out of the last one.
TAKEN: list[tuple[str, list[bytes], Fields]] = [
    ("nothing", [b""], []),
    ("empty strings", [literal(b"", b"")], [(b"", b"")]),
    ("an empty string as a Huffman code", [b"\x00" + coded(b"") + coded(b"")], [(b"", b"")]),
    ("any bytes", [literal(b"\r\n", bytes(range(256)))], [(b"\r\n", bytes(range(256)))]),
    ("seven bits of padding", [b"\x00" + plain(b"a") + coded(b"\x1f\xfd\x7f")], [(b"a", b"a#")]),
    ("no padding", [b"\x00" + plain(b"a") + coded(b"\xf8")], [(b"a", b"&")]),
    ("the last index of the static table", [b"\xbd"], [(b"www-authenticate", b"")]),
    ("the first index of the dynamic table", [_ADD, b"\xbe"], [(b"a", b"b")]),
    ("the name of an entry", [_ADD, b"\x7e" + plain(b"c"), b"\xbe\xbf"], [(b"a", b"c"), (b"a", b"b")]),
    ("a name by a long index", [_ADD, integer(0, 4, 62) + plain(b"c")], [(b"a", b"c")]),
    ("a name never indexed by a long index", [_ADD, integer(0x10, 4, 62) + plain(b"c")], [(b"a", b"c")]),
    ("zeros behind an integer", [b"\x00" + plain(b"a") + b"\x7f\x80\x80\x80\x00" + b"x" * 127], [(b"a", b"x" * 127)]),
    ("two sizes of the table", [b"\x20\x3f\xe1\x1f" + _ADD + b"\xbe"], [(b"a", b"b")] * 2),
    ("three of them", [b"\x20\x21\x20" + _A], [(b"a", b"b")]),
    ("a size, and no field", [_ADD, b"\x20"], []),
    ("a size that leaves what is there", [_ADD, integer(0x20, 5, 34) + b"\xbe"], [(b"a", b"b")]),
    (
        "an entry that is evicted while its name is used",
        [integer(0x20, 5, 34) + _ADD, b"\x7e" + plain(b"c") + b"\xbe"],
        [(b"a", b"c")] * 2,
    ),
    (
        "a table that was cleared and grows again",
        [_ADD + _ADD, b"\x20\x3f\xe1\x1f" + literal(b"c", b"d", 0x40) + b"\xbe"],
        [(b"c", b"d")] * 2,
    ),
    (
        "the oldest goes first",
        [integer(0x20, 5, 70) + _ADD + literal(b"c", b"d", 0x40) + literal(b"e", b"f", 0x40) + b"\xbe\xbf"],
        [(b"a", b"b"), (b"c", b"d"), (b"e", b"f"), (b"e", b"f"), (b"c", b"d")],
    ),
]

_NOWHERE = "an index that is in no table"
_CUT = "the block ends within a field"
_SHORT = "the block ends within a string"
_LONG = "an integer of more than five bytes"
_CODE = "a Huffman code that ends with EOS or within a symbol"
_LATE = "a size of the table in the middle of a block"
_ABOVE = "a size of the table above what was allowed"

# What is wrong; the blocks, of which the last one is wrong; the reason.
REFUSED: list[tuple[str, list[bytes], str]] = [
    ("index 0", [b"\x80"], _NOWHERE),
    ("an index above the static table, the dynamic one being empty", [b"\xbe"], _NOWHERE),
    ("an index above the dynamic table", [_ADD, b"\xbf"], _NOWHERE),
    ("an index far above", [b"\xff\xff\xff\xff\x7f"], _NOWHERE),
    ("a name's index above the table, to be indexed", [b"\x7e\x01a"], _NOWHERE),
    ("a name's index above the table", [integer(0, 4, 62) + b"\x01a"], _NOWHERE),
    ("a name's index above the table, never to be indexed", [integer(0x10, 4, 70) + b"\x01a"], _NOWHERE),
    ("the index of what was evicted by a size", [_ADD, b"\x20\xbe"], _NOWHERE),
    ("the index of what was evicted by another", [integer(0x20, 5, 40) + _ADD + _ADD, b"\xbf"], _NOWHERE),
    ("the index of what never fit", [integer(0x20, 5, 33) + _ADD, b"\xbe"], _NOWHERE),
    ("an entry too large empties the table", [_ADD, literal(b"a", b"b" * 4064, 0x40), b"\xbe"], _NOWHERE),
    ("an index that never ends", [b"\xff"], _CUT),
    ("an index that goes on nowhere", [b"\xff\x80\x80"], _CUT),
    ("an index of six bytes", [b"\xff\x80\x80\x80\x80\x00"], _LONG),
    ("an index of ten bytes", [b"\xff" + b"\xff" * 9 + b"\x01"], _LONG),
    ("a length of six bytes", [b"\x00\x01a\x7f\xff\xff\xff\xff\x0f"], _LONG),
    ("a length of very many bytes", [b"\x00\x7f" + b"\x80" * 1000 + b"\x00"], _LONG),
    ("a size of six bytes", [b"\x3f\x80\x80\x80\x80\x00"], _LONG),
    ("a name's index of six bytes", [b"\x0f\x80\x80\x80\x80\x00\x01a"], _LONG),
    ("a literal without a name", [b"\x00"], _CUT),
    ("a literal without a value", [b"\x00\x01a"], _CUT),
    ("a literal with an indexed name, without a value", [b"\x44"], _CUT),
    ("a name that ends early", [b"\x00\x02a"], _SHORT),
    ("a value that ends early", [b"\x00\x01a\x02b"], _SHORT),
    ("a length far beyond", [b"\x00\x01a\x7f\xff\xff\xff\x7fb"], _SHORT),
    ("a Huffman code that ends early", [b"\x00\x01a\x85\xf1\xe3"], _SHORT),
    ("a length that never ends", [b"\x00\x01a\x7f"], _CUT),
    ("eight bits of padding", [b"\x00\x01a" + coded(b"\xf8\xff")], _CODE),
    ("nothing but padding", [b"\x00\x01a" + coded(b"\xff")], _CODE),
    ("padding of zeros", [b"\x00\x01a" + coded(b"\x18")], _CODE),
    ("padding of ones and a zero", [b"\x00\x01a" + coded(b"\x1e")], _CODE),
    ("EOS", [b"\x00\x01a" + coded(b"\xff\xff\xff\xff")], _CODE),
    ("EOS between symbols", [b"\x00\x01a" + coded(b"\x1f\xff\xff\xff\xe0\xff")], _CODE),
    ("EOS, and no padding", [b"\x00\x01a" + coded(b"\xff\xff\xff\xfc")], _CODE),
    ("a code that is cut", [b"\x00\x01a" + coded(b"\xff\xc0")], _CODE),
    ("a wrong Huffman code in a name", [b"\x00" + coded(b"\x00") + b"\x01a"], _CODE),
    ("a size above 4096", [integer(0x20, 5, 4097)], _ABOVE),
    ("a size far above", [b"\x3f\xff\xff\xff\x7f"], _ABOVE),
    ("a size behind an index", [b"\x82\x20"], _LATE),
    ("a size behind a literal", [_A + b"\x3f\xe1\x1f"], _LATE),
    ("a size between fields", [b"\x82\x20\x84"], _LATE),
    ("a size that is cut", [b"\x3f"], _CUT),
]  # fmt: skip

# What it is; the fields; the block.
ENCODED: list[tuple[str, Fields, bytes]] = [
    ("nothing", [], b""),
    ("a field of the static table", [(b":status", b"404")], b"\x8d"),
    ("a name of the static table", [(b"server", b"x!")], b"\x76\x02x!"),
    ("neither", [(b"a!", b"b!")], b"\x40\x02a!\x02b!"),
    ("what comes again", [(b"a!", b"b!"), (b"a!", b"b!")], b"\x40\x02a!\x02b!\xbe"),
    ("a name that comes again", [(b"a!", b"b!"), (b"a!", b"c!")], b"\x40\x02a!\x02b!\x7e\x02c!"),
    ("what is another each time", [(b"content-length", b"7!"), (b"content-length", b"7!")], b"\x0f\x0d\x027!" * 2),
    ("a path", [(b":path", b"/!")], b"\x04\x02/!"),
    ("credentials", [(b"authorization", b"b!")], b"\x1f\x08\x02b!"),
    ("credentials for us", [(b"proxy-authorization", b"b!")], b"\x1f\x22\x02b!"),
    ("a cookie", [(b"cookie", b"b!")], b"\x1f\x11\x02b!"),
    ("a cookie that is set", [(b"set-cookie", b"b!")], b"\x1f\x28\x02b!"),
    ("a Huffman code where it is shorter", [(b"accept", b"aaaaaaaa")], b"\x53\x85\x18\xc6\x31\x8c\x63"),
    ("the bytes where it is not", [(b"accept", b"!!!!!!!!")], b"\x53\x08!!!!!!!!"),
    ("an empty value", [(b"a!", b"")], b"\x40\x02a!\x00"),
    ("an empty value in the static table", [(b"server", b"")], b"\xb6"),
    ("an entry of half the table", [(b"a!", b"\0" * 2014)], b"\x40\x02a!" + plain(b"\0" * 2014)),
    ("an entry of more than that", [(b"a!", b"\0" * 2015)], b"\x00\x02a!" + plain(b"\0" * 2015)),
]


class HpackTests:
    """Run on each twin by the classes below."""

    twin: ModuleType
    if True:  # trial's assertions, which the classes below bring
        assertEqual: Any
        assertIn: Any
        assertRaises: Any

    def test_examples(self) -> None:
        """The examples of RFC 7541 are what it says they are."""
        for name, size, blocks, expected in EXAMPLES:
            self.assertEqual(twins.run(self.twin, [bytes.fromhex(block) for block in blocks], size), expected, name)

    def test_taken(self) -> None:
        """What is unusual, but a block, is understood."""
        for name, blocks, expected in TAKEN:
            self.assertEqual(twins.run(self.twin, blocks)[-1], expected, name)

    def test_refused(self) -> None:
        """What is no block is refused, for the right reason, and what came before it is not."""
        for name, blocks, reason in REFUSED:
            found = twins.run(self.twin, blocks)
            self.assertEqual(len(found), len(blocks), name)
            self.assertEqual(found[-1], ("HpackError", reason), name)

    def test_cut(self) -> None:
        """The examples end within a field wherever they are cut inside one."""
        for name, size, blocks, _ in EXAMPLES[:3]:
            block = bytes.fromhex(blocks[0])
            for place in range(1, len(block)):
                found = twins.run(self.twin, [block[:place]], size)
                self.assertIn(found, ([("HpackError", _CUT)], [("HpackError", _SHORT)]), (name, place))

    def test_every_symbol(self) -> None:
        """Each byte, of a long code or a short one, comes through the Huffman code between others."""
        for byte in range(256):
            value = b"aaaaaaaaaaaaaaaaaaaa" + bytes([byte]) + b"eeeeeeeeeeeeeeeeeee"
            block = self.twin.Encoder().encode([(b"accept", value)])
            self.assertEqual(block[1] & 0x80, 0x80, byte)
            self.assertEqual(self.twin.Decoder().decode(block), [(b"accept", value)])

    def test_long(self) -> None:
        """A string of 100,000 bytes comes through, as it is and as a Huffman code."""
        for value in (b"a" * 100_000, b"\x00" * 100_000):
            block = self.twin.Encoder().encode([(b"long", value)])
            self.assertEqual(self.twin.Decoder(4096, 1 << 20).decode(block), [(b"long", value)])

    def test_smaller_limit(self) -> None:
        """A peer that knows of a smaller table may not ask for the usual one."""
        self.assertEqual(twins.run(self.twin, [integer(0x20, 5, 101)], 100), [("HpackError", _ABOVE)])
        self.assertEqual(
            twins.run(self.twin, [literal(b"a", b"b" * 70, 0x40), b"\xbe"], 100)[1], ("HpackError", _NOWHERE)
        )

    def test_larger_limit(self) -> None:
        """Of a larger table the peer makes use by a size, not before."""
        large = literal(b"a", b"b" * 5000, 0x40)
        self.assertEqual(twins.run(self.twin, [large, b"\xbe"], 8192)[1], ("HpackError", _NOWHERE))
        self.assertEqual(
            twins.run(self.twin, [integer(0x20, 5, 8192) + large, b"\xbe"], 8192)[1], [(b"a", b"b" * 5000)]
        )

    def test_list_size(self) -> None:
        """A list at its bound is given, one byte above it not, and the table is right afterwards."""
        fields = literal(b"a", b"b" * 10, 0x40) + literal(b"c", b"d", 0x40)  # 43 and 34
        expected = [(b"c", b"d"), (b"a", b"b" * 10)]
        self.assertEqual(
            twins.run(self.twin, [fields, b"\xbe\xbf"], 4096, 77), [[(b"a", b"b" * 10), (b"c", b"d")], expected]
        )
        self.assertEqual(
            twins.run(self.twin, [fields, b"\xbe", b"\xbf\x80"], 4096, 76),
            [("TooLarge", "the list of fields is too large"), [(b"c", b"d")], ("HpackError", _NOWHERE)],
        )

    def test_fields(self) -> None:
        """As many fields as are allowed are given, one more not."""
        self.assertEqual(
            twins.run(self.twin, [b"\x82" * 4, b"\x82" * 3], 4096, 32768, 3),
            [("TooLarge", "too many fields"), [(b":method", b"GET")] * 3],
        )

    def test_too_large_and_wrong(self) -> None:
        """An error behind the bound of a list is the error: the tables differ."""
        self.assertEqual(twins.run(self.twin, [b"\x82" * 5 + b"\x80"], 4096, 60), [("HpackError", _NOWHERE)])

    def test_bomb(self) -> None:
        """A large entry that is referred to very often does not become a large list."""
        blocks = [literal(b"a", b"b" * 4000, 0x40), b"\xbe" * 16384]
        self.assertEqual(twins.run(self.twin, blocks)[1], ("TooLarge", "the list of fields is too large"))

    def test_encoded(self) -> None:
        """Each field takes the form that is best for it."""
        for name, fields, expected in ENCODED:
            self.assertEqual(self.twin.Encoder().encode(fields), expected, name)

    def test_evicting(self) -> None:
        """What was evicted from the table is a literal again; its name too, unless a newer entry has it."""
        encoder = self.twin.Encoder()
        encoder.resize(140)
        self.assertEqual(
            encoder.encode([(b"a!", b"1!"), (b"b!", b"1!"), (b"b!", b"2!"), (b"c!", b"1!")]),
            b"\x3f\x6d\x40\x02a!\x021!\x40\x02b!\x021!\x7e\x022!\x40\x02c!\x021!",
        )
        # There: c 1, b 2, b 1 (108 of 140 bytes). Two more evict b 1, then b 2.
        self.assertEqual(encoder.encode([(b"a!", b"1!"), (b"b!", b"1!")]), b"\x40\x02a!\x021!\x7f\x01\x021!")
        self.assertEqual(encoder.encode([(b"b!", b"2!"), (b"c!", b"1!")]), b"\x7e\x022!\x40\x02c!\x021!")

    def test_resize(self) -> None:
        """The peer is told of each smaller size by the next block, and of the last one."""
        encoder = self.twin.Encoder()
        encoder.resize(4096)
        self.assertEqual(encoder.encode([]), b"")
        encoder.encode([(b"a!", b"b!")])
        encoder.resize(65536)
        self.assertEqual(encoder.encode([(b"a!", b"b!")]), b"\xbe")
        encoder.resize(100)
        self.assertEqual(encoder.encode([(b"a!", b"b!")]), b"\x3f\x45\xbe")
        encoder.resize(0)
        encoder.resize(50)
        encoder.resize(1 << 32)
        self.assertEqual(encoder.encode([(b"a!", b"b!")]), b"\x20\x3f\xe1\x1f\x40\x02a!\x02b!")
        self.assertEqual(encoder.encode([(b"a!", b"b!")]), b"\xbe")
        encoder.resize(0)
        self.assertEqual(encoder.encode([(b"a!", b"b!")]), b"\x20\x00\x02a!\x02b!")


class PureTests(HpackTests, SynchronousTestCase):
    """The twin in plain Python."""

    twin = twins.pure


class CompiledTests(HpackTests, SynchronousTestCase):
    """The compiled twin."""

    skip = twins.no_compiled
    twin = twins.compiled or twins.pure

    def test_types(self) -> None:
        """What is no list of pairs of bytes is a TypeError, and nothing worse."""
        for fields in (
            [(b"a",)],
            [[b"a", b"b"]],
            [(b"a", None)],
            [("a", b"b")],
            [None],
            None,
            [(b"a", bytearray(b"b"))],
        ):
            self.assertRaises(TypeError, self.twin.Encoder().encode, fields)
        for block in (None, "82", bytearray(b"\x82"), memoryview(b"\x82")):
            self.assertRaises(TypeError, self.twin.Decoder().decode, block)


class ChosenTests(SynchronousTestCase):
    """Which twin is at work."""

    def test_chosen(self) -> None:
        """The module says which twin it chose."""
        twin = twins.compiled if chosen.compiled else twins.pure
        assert twin is not None
        self.assertIs(chosen.Decoder, twin.Decoder)
        self.assertIs(chosen.Encoder, twin.Encoder)
