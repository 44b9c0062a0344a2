"""
Every row of L{tests.wire.blocks}, sent to a running proxy by prior knowledge: each field in every form that HPACK has
for it, and the block and the bytes cut at many places. What came of it is judged by what the backend got.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import hpack

from tests.wire import blocks_bodies, blocks_fields, blocks_heads
from tests.wire.blocks import Block, block_of, get, unique
from tests.wire.blocks_bodies import BODY_LIMIT
from tests.wire.frames import (
    CODES,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Frames,
    frame,
    headers,
    literals,
    settings,
)
from tests.wire.rig import WireCase
from tests.wire.sockets import LIMIT, Loop
from tests.wire.talk import FOLLOW, PING, TOGETHER, read_by_proxy

ROWS = unique((*blocks_heads.ROWS, *blocks_fields.ROWS, *blocks_bodies.ROWS))

#: At how many places blocks and bytes are cut, but for the shortest.
_CUTS = 12

_FRAME = 16384
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_FOLLOW = literals(get(path=b"/follow", authority=b"follow.example"))


def head_frames(block: bytes, ended: bool, cut: int) -> bytes:
    """
    A block as HEADERS and CONTINUATIONs.

    @param cut: how much of it is in the first one; 0: as much as goes.
    """
    first = cut or min(_FRAME, len(block))
    pieces = [block[:first]] + [block[at : at + _FRAME] for at in range(first, len(block), _FRAME)]
    out = headers(1, pieces[0], ended, END_HEADERS if len(pieces) == 1 else 0)
    for number, piece in enumerate(pieces[1:], 2):
        out += frame(CONTINUATION, END_HEADERS if number == len(pieces) else 0, 1, piece)
    return out


def indexed(row: Block) -> bytes:
    """A row's block by another encoder, with Huffman codes, and as many entries in tables as can be."""
    encoder = hpack.Encoder()
    return encoder.encode([hpack.HeaderTuple(name, value) for name, value in row.fields], huffman=True)


def places(length: int) -> list[int]:
    """Where to cut so many bytes."""
    return sorted({1 + at * (length - 1) // _CUTS for at in range(_CUTS)} - {length})


class Conversation:
    """One client's part of a row, and of the further request behind it, which shows what became of the connection."""

    def __init__(self, loop: Loop, port: int, row: Block, block: bytes, cut: int = 0) -> None:
        """
        @param block: the row's, in the form that is to be tried.
        @param cut: where to cut it.
        """
        self.row = row
        self.client = Frames(loop, port, greet=False)
        body = b"".join(
            frame(DATA, END_STREAM if row.ended and row.trailers is None and at == len(row.data) else 0, 1, data)
            for at, data in enumerate(row.data, 1)
        )
        if row.trailers is not None:
            body += headers(1, literals(row.trailers), row.ended)
        ended = row.ended and not row.data and row.trailers is None
        self.data = PREFACE + settings() + head_frames(block, ended, cut) + (b"" if row.waits else body)
        self.body = body if row.waits else b""
        self.following = False
        self.tunnelled = 0

    def send(self, start: int, end: int | None) -> None:
        """Sends a part of it all."""
        self.client.send(self.data[start:end], end is not None)

    def done(self) -> bool:
        """Takes the next step, if it is due. Whether there is none left."""
        client = self.client
        if client.ended or client.broken:
            return True
        answer = client.answer(1)
        if self.body and answer.statuses:
            client.write(self.body)
            self.body = b""
        if self.row.outcome.startswith("tunnel") and not answer.over:
            if self.tunnelled == 0 and answer.statuses:
                self.tunnelled = 1
                client.write(frame(DATA, 0, 1, PING))
            elif self.tunnelled == 1 and answer.body == PING:
                self.tunnelled = 2
                client.write(frame(DATA, END_STREAM, 1))
            return False
        if answer.over and not self.following:
            self.following = True
            client.write(headers(3, _FOLLOW, True))
        return client.answer(3).over

    def outcome(self) -> str:
        """How it went; closes the connection."""
        client = self.client
        client.close()
        answer = client.answer(1)
        parts = [str(status) for status in answer.statuses]
        if parts and not answer.ended:
            parts.append("cut")
        elif self.row.outcome.startswith("tunnel") and parts == ["200"] and answer.body == PING:
            parts = ["tunnel"]
        if answer.reset is not None:
            parts.append(CODES[answer.reset])
        parts += [CODES[code] for _, code in client.goaways if code]
        if client.broken:
            end = client.broken
        elif client.ended:
            end = client.ended
        else:
            end = "open" if client.answer(3).statuses == [200] and client.answer(3).ended else "silent"
        return "+".join(parts or ["none"]) + "/" + end


class BlockTests(WireCase):
    """One method for each row, and a second one that cuts it."""

    settings: ClassVar[dict[str, object]] = {
        "listener": {"http2": True},
        "limits": {"body_size": BODY_LIMIT, "connections": 10000},
    }

    def _converse(self, row: Block, tries: Sequence[tuple[str, bytes, int, int]]) -> None:
        """
        Sends the row many times at once.

        @param tries: for each: what it is, the block, where that is cut, and where the bytes are cut; 0: nowhere.
        """
        self.backend.forget()
        talks = [Conversation(self.loop, self.proxy.port, row, block, cut) for _, block, cut, _ in tries]
        for talk, (_, _, _, at) in zip(talks, tries, strict=True):
            talk.send(0, at or None)
        if any(at for _, _, _, at in tries):
            read_by_proxy(self.loop, mine=self.proxy.port)
            for talk, (_, _, _, at) in zip(talks, tries, strict=True):
                if at:
                    talk.send(at, None)
        open_talks = list(talks)

        def all_done() -> bool:
            open_talks[:] = [talk for talk in open_talks if not talk.done()]
            return not open_talks

        self.loop.until(all_done, LIMIT)
        for talk, (what, *_) in zip(talks, tries, strict=True):
            outcome = talk.outcome()
            if outcome != row.also:
                self.assertEqual(outcome, row.outcome, what)
        self._check_backend(row, len(tries))

    def _check_backend(self, row: Block, count: int) -> None:
        """The backend got the row's request as often as it was sent, and nothing else."""
        follow = FOLLOW.partition(b"\r\n")[0]
        got = [request for request in self.backend.requests if request.start != follow]
        for request in got:
            if row.sent is None:
                self.fail(f"the backend got {request!r}")
            if row.outcome.startswith("tunnel"):
                keys = request.values(b"sec-websocket-key")
                self.assertEqual([bool(_KEY.fullmatch(key)) for key in keys], [True], keys)
                request.fields = [pair for pair in request.fields if pair[0] != b"sec-websocket-key"]
            self.assertEqual(row.sent.differences(request), [], request)
        if row.sent is None or row.outcome.startswith(("200", "100", "tunnel")):
            self.assertEqual(len(got), count if row.sent is not None else 0, "requests at the backend")
        for side in self.backend.sides:
            self.assertEqual(side.broken, "", f"the backend cannot read {side.rest[:200]!r}")
            if side.rest and not row.started:
                self.fail(f"the backend got the beginning of a request: {side.rest[:200]!r}")
        if row.started:
            # What was begun cannot be completed any more, so the connection is of no use.
            begun = [side for side in self.backend.sides if side.rest]
            ended = self.loop.until(lambda: all(side.ended for side in begun))
            self.assertTrue(ended, "an upstream with half a request on it was kept")

    def _forms(self, row: Block) -> None:
        tries = [(f"literals of form {form:#x}", block_of(row, form), 0, 0) for form in (0, 0x10, 0x40)]
        self._converse(row, tries[:1] if row.raw else [*tries, ("by another encoder", indexed(row), 0, 0)])
        self.assert_nothing_left()

    def _cut(self, row: Block) -> None:
        block = block_of(row)
        tries = [(f"block cut at {at}", block, at, 0) for at in places(min(_FRAME, len(block)))]
        length = len(PREFACE) + 9 + len(head_frames(block, False, 0)) + sum(9 + len(data) for data in row.data)
        tries += [(f"bytes cut at {at}", block, 0, at) for at in places(length)]
        for start in range(0, len(tries), TOGETHER):
            self._converse(row, tries[start : start + TOGETHER])
        self.assert_nothing_left()


def _add(row: Block) -> None:
    name = "test_" + re.sub(r"[^a-z0-9]+", "_", row.name.lower())

    def forms(self: BlockTests) -> None:
        self._forms(row)

    def cut(self: BlockTests) -> None:
        self._cut(row)

    for method, suffix in ((forms, ""), (cut, "_cut")):
        method.__name__ = name + suffix
        method.__doc__ = f"A block with {row.name} comes to {row.outcome} (RFC {row.rfc})."
        assert not hasattr(BlockTests, method.__name__), f"two rows named {row.name!r}"
        setattr(BlockTests, method.__name__, method)


for _row in ROWS:
    _add(_row)
