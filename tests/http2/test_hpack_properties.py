"""What holds for every input, and the twins against each other and against the package hpack."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import hpack
import hpack.huffman_constants
import hpack.table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http2._hpack_tables import CODES, LENGTHS, NAMES, NEVER, PLAIN, STATIC
from tests.http2 import hpack_twins as twins
from tests.http2.hpack_twins import Fields, integer, literal

bounded = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
_names = st.one_of(
    st.sampled_from(sorted({*NAMES, *PLAIN, *NEVER})),
    st.sampled_from([b"a", b"x-one", b"x-two"]),
    st.binary(max_size=9),
)
_values = st.one_of(
    st.sampled_from([b"", b"GET", b"200", b"a", b"gzip, deflate", b"x" * 300, b"y" * 1500]),
    st.text("abcdefghijklmnop 0123456789/", max_size=60).map(str.encode),
    st.binary(max_size=40),
)
lists = st.lists(st.tuples(_names, _values), max_size=12)
#: Lists for one connection, and between them the sizes that the other side asks for.
runs = st.lists(st.one_of(lists, st.sampled_from([0, 40, 100, 300, 4095, 4096, 65536])), max_size=8)
_pieces = st.one_of(
    st.binary(max_size=6),
    st.integers(0, 70).map(lambda index: integer(0x80, 7, index)),
    st.sampled_from([0, 33, 34, 70, 4096, 4097]).map(lambda size: integer(0x20, 5, size)),
    st.builds(literal, st.binary(max_size=5), st.binary(max_size=9), st.sampled_from([0, 0x10, 0x40])),
    st.builds(
        lambda form, index, value: integer(form, 6 if form == 0x40 else 4, index) + twins.coded(value),
        st.sampled_from([0, 0x10, 0x40]), st.integers(1, 66), st.binary(max_size=9),
    ),
    lists.map(lambda fields: twins.pure.Encoder().encode(fields)),
)  # fmt: skip
blocks = st.lists(st.lists(_pieces, max_size=6).map(b"".join), max_size=4)


def encoded(twin: ModuleType, run: list[Fields | int]) -> list[bytes]:
    """The blocks of one encoder."""
    encoder = twin.Encoder()
    found = []
    for step in run:
        if isinstance(step, int):
            encoder.resize(step)
        else:
            found.append(encoder.encode(step))
    return found


class TwinTests(SynchronousTestCase):
    """The same from both twins."""

    skip = twins.no_compiled

    @bounded
    @given(blocks, st.sampled_from([4096, 100, 9000]), st.sampled_from([32768, 100]), st.sampled_from([100, 2]))
    def test_decoder(self, data: list[bytes], table_size: int, list_size: int, fields: int) -> None:
        """Any blocks are the same lists, or the same error, to both."""
        assert twins.compiled is not None
        self.assertEqual(
            twins.run(twins.compiled, data, table_size, list_size, fields),
            twins.run(twins.pure, data, table_size, list_size, fields),
        )

    @bounded
    @given(runs)
    def test_encoder(self, run: list[Fields | int]) -> None:
        """Any lists are the same bytes from both."""
        assert twins.compiled is not None
        self.assertEqual(encoded(twins.compiled, run), encoded(twins.pure, run))


class PropertyTests:
    """Run on each twin by the classes below."""

    twin: ModuleType
    if True:  # trial's assertions, which the classes below bring
        assertEqual: Any
        assertIsInstance: Any
        assertTrue: Any

    @bounded
    @given(runs)
    def test_there_and_back(self, run: list[Fields | int]) -> None:
        """What was encoded is decoded to the same lists, by us and by another implementation."""
        data = encoded(self.twin, run)
        lists = [step for step in run if not isinstance(step, int)]
        self.assertEqual(twins.run(self.twin, data, 4096, 1 << 20), lists)
        other = hpack.Decoder(1 << 20)
        self.assertEqual([[tuple(field) for field in other.decode(block, raw=True)] for block in data], lists)

    @bounded
    @given(runs, st.booleans())
    def test_other(self, run: list[Fields | int], huffman: bool) -> None:
        """What another implementation encoded is decoded to the same lists."""
        encoder = hpack.Encoder()
        data = []
        for step in run:
            if isinstance(step, int):
                if encoder.header_table_size != min(step, 4096):  # told the same twice, it forgets to tell
                    encoder.header_table_size = min(step, 4096)
            else:
                data.append(encoder.encode(step, huffman=huffman))
        self.assertEqual(twins.run(self.twin, data, 4096, 1 << 20), [step for step in run if not isinstance(step, int)])

    @bounded
    @given(blocks)
    def test_bounds(self, data: list[bytes]) -> None:
        """No blocks raise anything but the two errors, and no list is over its bounds."""
        for found in twins.run(self.twin, data, 4096, 200, 4):
            if isinstance(found, list):
                self.assertTrue(len(found) <= 4)
                self.assertTrue(sum(len(name) + len(value) + 32 for name, value in found) <= 200)

    @bounded
    @given(lists, st.data())
    def test_damaged(self, fields: Fields, data: st.DataObject) -> None:
        """A block with a byte changed, taken out or put in raises nothing but the two errors."""
        block = bytearray(self.twin.Encoder().encode(fields))
        at = data.draw(st.integers(0, len(block)))
        block[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=1))
        self.assertIsInstance(twins.run(self.twin, [bytes(block)]), list)

    @bounded
    @given(lists)
    def test_never(self, fields: Fields) -> None:
        """What must not be put into a table is a literal each time."""
        secret = [(name, value + b"!") for name, value in fields if name in NEVER]
        encoder = self.twin.Encoder()
        first = encoder.encode(secret)
        self.assertEqual(encoder.encode(secret), first)
        self.assertEqual([field.indexable for field in hpack.Decoder().decode(first, raw=True)], [False] * len(secret))


class PureTests(PropertyTests, SynchronousTestCase):
    """The twin in plain Python."""

    twin = twins.pure


class CompiledTests(PropertyTests, SynchronousTestCase):
    """The compiled twin."""

    skip = twins.no_compiled
    twin = twins.compiled or twins.pure


class TableTests(SynchronousTestCase):
    """The tables themselves."""

    def test_static(self) -> None:
        """The static table is the one of another implementation."""
        self.assertEqual(STATIC[1:], tuple(hpack.table.HeaderTable.STATIC_TABLE))

    def test_codes(self) -> None:
        """The codes that follow from the lengths are those of another implementation."""
        constants = hpack.huffman_constants
        self.assertEqual(CODES, tuple(constants.REQUEST_CODES))
        self.assertEqual(LENGTHS, bytes(constants.REQUEST_CODES_LENGTH))
