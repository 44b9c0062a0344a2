"""
Frames as bytes (RFC 9113 §4.1)::

    3 bytes     length of the payload
    1 byte      type
    1 byte      flags
    4 bytes     one reserved bit, stream identifier
    …           the payload
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION) = range(10)

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

(
    HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE,
) = range(1, 7)  # fmt: skip
ENABLE_CONNECT_PROTOCOL = 8  # RFC 8441 §3

#: What a window is before anybody says otherwise (RFC 9113 §6.9.2), and the largest that there is (§6.9.1).
DEFAULT_WINDOW = 65535
LARGEST_WINDOW = (1 << 31) - 1

#: Sizes of frames: what everybody must take, and the largest that there is (§4.2).
SMALLEST_FRAME_SIZE = 16384
LARGEST_FRAME_SIZE = (1 << 24) - 1

HEADER_SIZE = 9

#: Two bytes and one of the length, type, flags, stream.
HEADER = struct.Struct(">HBBBI")
read_header = HEADER.unpack_from

_WORD = struct.Struct(">HBBBII")
_GOAWAY = struct.Struct(">HBBBIII")
_SETTING = struct.Struct(">HI")
read_settings = _SETTING.iter_unpack


def header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """A frame's header."""
    return HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join([_SETTING.pack(*item) for item in values.items()])
    return header(len(payload), SETTINGS, 0, 0) + payload


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return _WORD.pack(0, 4, WINDOW_UPDATE, 0, stream, increment)


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return _WORD.pack(0, 4, RST_STREAM, 0, stream, code)


def goaway(last: int, code: int) -> bytes:
    """A GOAWAY frame."""
    return _GOAWAY.pack(0, 8, GOAWAY, 0, 0, last, code)


def ping(payload: bytes, flags: int) -> bytes:
    """
    A PING frame.

    @param payload: eight bytes.
    """
    return header(8, PING, flags, 0) + payload


SETTINGS_ACK = header(0, SETTINGS, ACK, 0)
