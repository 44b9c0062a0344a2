"""
Where the frames of a WebSocket begin and end (RFC 6455 §5.2), so that one of ours can be put between two of them.

A frame is a header and so many bytes::

    byte 0      FIN, three bits for extensions, opcode
    byte 1      MASK, length: 0 to 125, or 126: two bytes of length follow, or 127: eight bytes
    4 bytes     the masking key, from a client alone (§5.3)
    …           the payload

The payload is skipped by counting, and the key with it: what is followed here is never looked into, changed or held
back. Extensions keep to this layout (§5.8: of what they may use, only their three bits are in use), so compressed
messages are followed like any other.

Between any two frames, those of one fragmented message included, a control frame may stand (§5.4); a Close frame is
one, and the last that its sender sends (§5.5.1).
"""

from __future__ import annotations

import os

#: The endpoint is "going away", such as a server that goes down (§7.4.1).
GOING_AWAY = 1001

#: Whoever sends more frames than these at once is followed no further: a frame costs 0.4 µs, so a piece of nothing but
#: the smallest ones would hold everybody else up for longer than it takes to forward it.
FRAMES_A_PIECE = 4096

_DATA, _CONTROL, _CLOSE = 1, 2, 3

#: What a frame's first byte announces, 0 = nothing that there is: by opcode, and control frames are never fragments.
_KINDS = bytes(
    {0: _DATA, 1: _DATA, 2: _DATA}.get(first & 0x0F, 0)
    or (first >> 7 and {8: _CLOSE, 9: _CONTROL, 10: _CONTROL}.get(first & 0x0F, 0))
    for first in range(256)
)

#: The longest payload of a control frame (§5.5).
_CONTROL_SIZE = 125

#: No header is longer, without the key.
_HEADER = 10


def close(code: int, masked: bool) -> bytes:
    """
    A Close frame.

    @param code: the reason (§7.4).
    @param masked: whether it is for a server; each such frame has a key of its own that nobody can foresee (§5.3).
    """
    payload = code.to_bytes(2, "big")
    if not masked:
        return b"\x88\x02" + payload
    key = os.urandom(4)
    return b"\x88\x82" + key + bytes(byte ^ mask for byte, mask in zip(payload, key, strict=False))


class Frames:
    """
    The frames in one direction.

    @ivar closed: the sender's own Close frame has passed as a whole.
    @ivar lost: what passes is not made of frames, so nothing can be said about it any more.
    """

    __slots__ = ("_header", "_kind", "_left", "_mask", "closed", "lost")

    def __init__(self, masked: bool) -> None:
        """
        @param masked: whether the sender is a client: its frames are masked, those of a server are not (§5.1).
        """
        self._mask = 0x80 if masked else 0
        self._kind = 0
        self._left = 0
        self._header = b""
        self.closed = False
        self.lost = False

    @property
    def between(self) -> bool:
        """Whether what has passed so far ended with the end of a frame, or nothing has."""
        return not (self._left or self._header or self.lost)

    def feed(self, data: bytes) -> None:
        """These bytes pass. Called for each piece as it comes, of any size; raises nothing."""
        left = self._left
        size = len(data)
        if left > size:
            self._left = left - size
            return
        at = 0
        for _ in range(FRAMES_A_PIECE):
            if at == size:
                return
            at = self.frame(data, at)
        self.lost = at < size

    def frame(self, data: bytes, at: int) -> int:
        """
        Follow as far as the end of the frame that is under way or begins here.

        @param at: where to begin, below the length of the data.
        @return: where that end is, and L{between} holds; or the length of the data.
        """
        size = len(data)
        if self.closed or self.lost:
            # What comes behind a Close is nobody's.
            return size
        left = self._left
        if not left:
            begun = self._header
            if begun:
                # A header that was cut: go back to where it began, so to speak.
                data = begun + data[at : at + _HEADER - len(begun)]
                at -= len(begun)
                length = self._read(data, 0)
            else:
                length = self._read(data, at)
            if not length:
                self._header = data if begun else data[at:]
                return size
            if length < 0:
                self.lost = True
                self._header = b""
                return size
            self._header = b""
            at += length
            left = self._left
        have = size - at
        if left > have:
            self._left = left - have
            return size
        self._left = 0
        self.closed = self._kind == _CLOSE
        return at + left

    def _read(self, data: bytes, at: int) -> int:
        """
        A header.

        @return: its length, without the key, which counts as payload; 0: it is not whole yet; below 0: it is none.
        """
        have = len(data) - at
        kind = _KINDS[data[at]]
        if not kind:
            return -1
        if have < 2:
            return 0
        second = data[at + 1]
        if second & 0x80 != self._mask:
            return -1
        length = second & 0x7F
        header = 2
        if length > _CONTROL_SIZE:
            if kind != _DATA:
                return -1
            header, least = (4, 126) if length == 126 else (10, 1 << 16)
            if have < header:
                return 0
            length = int.from_bytes(data[at + 2 : at + header], "big")
            if length < least or length >> 63:
                # The shortest form is the only one, and the first bit is 0.
                return -1
        self._kind = kind
        self._left = length + 4 if self._mask else length
        return header


class Direction(Frames):
    """
    One direction that may be brought to an end from outside.

    While nobody wants that, L{feed} is told what passes. From L{end} on, what comes goes through L{passing}.
    """

    __slots__ = ("_close", "_sent")

    def __init__(self, masked: bool) -> None:
        super().__init__(masked)
        self._close = b""
        self._sent = False

    @property
    def ended(self) -> bool:
        """Whether a Close frame has gone out: ours, or the sender's own."""
        return self._sent or self.closed

    def end(self, close: bytes) -> bytes:
        """
        Let a Close frame be the last thing that goes out, as soon as it can stand there. A sender that closes by itself
        until then has done it.

        @param close: the frame; not empty.
        @return: what is to go out now: the frame, or nothing.
        """
        self._close = close
        if self.closed or not self.between:
            return b""
        self._sent = True
        return close

    def passing(self, data: bytes) -> bytes:
        """
        These bytes come.

        @return: what of them is to go out: all, up to where the Close frame is wanted, and that frame; or nothing
            behind it.
        """
        if self._sent or not self._close:
            self.feed(data)
            return b"" if self._sent else data
        at = self.frame(data, 0) if data else 0
        if self.closed or not self.between:
            return data
        self._sent = True
        if at < len(data):
            self.feed(data[at:])
        return data[:at] + self._close
