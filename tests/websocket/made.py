"""Frames as RFC 6455 §5.2 has them, made by the book and not by what is tested."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10

#: A masking key.
KEY = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", masked: bool = False, last: bool = True, extension: int = 0) -> bytes:
    """
    One frame.

    @param last: whether it is the last of its message (FIN).
    @param extension: the three bits for extensions.
    """
    first = last << 7 | extension << 4 | opcode
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, masked << 7 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, masked << 7 | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked << 7 | 127, size)
    if not masked:
        return head + payload
    return head + KEY + bytes(byte ^ KEY[at % 4] for at, byte in enumerate(payload))


def boundaries(frames: list[bytes]) -> list[int]:
    """Where one may stand between two of them, when they come one after the other."""
    places = [0]
    for one in frames:
        places.append(places[-1] + len(one))
    return places


#: Payloads of which each needs another form of the length, or is at its edge.
PAYLOADS = (b"", b"a", b"b" * 125, b"c" * 126, b"d" * 65535, b"e" * 65536)


def conversation(masked: bool) -> list[bytes]:
    """A message in fragments with control frames between, another one, and short ones with each bit for extensions."""
    return [
        frame(TEXT, b"frag", masked, last=False),
        frame(PING, b"are you there", masked),
        frame(CONTINUATION, b"men", masked, last=False),
        frame(PONG, b"", masked),
        frame(CONTINUATION, b"ts", masked),
        frame(BINARY, bytes(range(200)), masked),
        frame(TEXT, b"", masked, extension=4),
        frame(TEXT, b"\x81\x80", masked, extension=3),
    ]


def messages(masked: bool) -> st.SearchStrategy[list[bytes]]:
    """Any frames but Close."""
    return st.lists(
        st.one_of(
            st.builds(
                lambda opcode, payload, last: frame(opcode, payload, masked, last),
                st.sampled_from((TEXT, BINARY, CONTINUATION)),
                st.one_of(st.binary(max_size=20), st.sampled_from((b"x" * 126, b"y" * 300))),
                st.booleans(),
            ),
            st.builds(
                lambda opcode, payload: frame(opcode, payload, masked),
                st.sampled_from((PING, PONG)),
                st.binary(max_size=125),
            ),
        ),
        max_size=8,
    )
