"""What the tests of the header compression share: both twins, and blocks made by hand."""

from __future__ import annotations

from types import ModuleType

from lemmytx.http2 import _hpack
from lemmytx.http2._hpack_tables import HpackError, TooLarge

compiled: ModuleType | None
try:
    from lemmytx.http2 import _hpack_compiled as compiled
except ImportError:  # a build without a compiler: its tests are skipped, and say so
    compiled = None

#: Why tests of the compiled twin are not run; None: they are.
no_compiled = None if compiled is not None else "header compression is not compiled here"

pure: ModuleType = _hpack

Fields = list[tuple[bytes, bytes]]
#: A list, or what was raised and its reason.
Outcome = Fields | tuple[str, str]


def run(twin: ModuleType, blocks: list[bytes], *bounds: int) -> list[Outcome]:
    """What one decoder makes of C{blocks}, as far as the first one that ends it; other errors go through."""
    decoder = twin.Decoder(*bounds)
    found: list[Outcome] = []
    for block in blocks:
        try:
            found.append(decoder.decode(block))
        except TooLarge as error:
            found.append(("TooLarge", str(error)))
        except HpackError as error:
            found.append(("HpackError", str(error)))
            break
    return found


def integer(form: int, bits: int, value: int) -> bytes:
    """RFC 7541 §5.1, step by step as it says."""
    mask = (1 << bits) - 1
    if value < mask:
        return bytes([form | value])
    out = [form | mask]
    value -= mask
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def plain(data: bytes) -> bytes:
    """A string as it is."""
    return integer(0, 7, len(data)) + data


def coded(data: bytes) -> bytes:
    """A string whose bytes are said to be a Huffman code."""
    return integer(0x80, 7, len(data)) + data


def literal(name: bytes, value: bytes, form: int = 0) -> bytes:
    """
    A literal with a literal name.

    @param form: 0: without indexing; 0x10: never indexed; 0x40: with it.
    """
    return bytes([form]) + plain(name) + plain(value)
