"""
Every row of L{tests.wire.blocks_answers}, said by a backend of HTTP/2 behind a running proxy to a client of HTTP/1.1
and to one of HTTP/2: nothing in an answer becomes another field, another body or another answer.
"""

from __future__ import annotations

import re
from typing import ClassVar

from tests.wire.answers import HEAD
from tests.wire.blocks import get
from tests.wire.blocks_answers import BAD, ROWS, Framed
from tests.wire.frames import FramedBackend, FramedSide, Frames, answer_ok, headers, literals
from tests.wire.reading import Message
from tests.wire.rig import WireCase
from tests.wire.sockets import LIMIT, Backend, Loop
from tests.wire.talk import Talk, hold

#: Fields that an answer over HTTP/2 may have beside those that it must have.
_OWN = frozenset((b"content-length", b"date", b"server", b"via", b"x-request-id"))


class AnswerTests(WireCase):
    """One method for each row and kind of client."""

    settings: ClassVar[dict[str, object]] = {"listener": {"http2": True}, "scheme": "h2c"}
    backend: FramedBackend

    def make_backend(self, loop: Loop) -> Backend:
        """One of HTTP/2."""
        return FramedBackend(loop)

    def _answering(self, row: Framed) -> None:
        """The backend answers requests for C{/row} so."""

        def script(side: FramedSide, stream: int) -> None:
            if (b":path", b"/row") in side.answer(stream).heads[0]:
                side.write(row.frames(stream))
            else:
                answer_ok(side, stream)

        self.backend.script = script

    def _over_http1(self, row: Framed) -> None:
        self._answering(row)
        heads = (0,) if row.ask == HEAD else ()
        talk = Talk(self.loop, self.proxy.port, row.ask, heads=heads)
        talk.send(0, None)
        seen = hold(self.loop, [talk], LIMIT)[0]
        if seen.outcome not in row.outcomes:
            self.fail(f"{seen.outcome} {seen.detail}; allowed: {sorted(row.outcomes)}")
        for must, got in zip(row.got, seen.answers, strict=bool(row.got)):
            self.assertEqual(must.differences(got), [], got)
        self._check_own(row, [answer for answer in seen.answers if answer.status == 502])
        self.assert_nothing_left()

    def _check_own(self, row: Framed, replies: list[Message]) -> None:
        for reply in replies:
            self.assertNotIn(b"hello", reply.body, "a reply of the proxy holds what the backend sent")
            self.assertEqual(reply.values(b"set-cookie"), [])

    def _over_http2(self, row: Framed) -> None:
        self._answering(row)
        client = Frames(self.loop, self.proxy.port)
        method = b"HEAD" if row.ask == HEAD else b"GET"
        client.write(headers(1, literals(get(method=method, path=b"/row")), True))
        self.assertTrue(client.until(1))
        client.write(headers(3, literals(get(path=b"/follow")), True))
        self.assertTrue(client.until(3))
        self.assertEqual((client.answer(3).statuses, client.answer(3).body), ([200], b"OK"))
        answer = client.answer(1)
        if row.got:
            self.assertEqual(answer.statuses, [int(must.status[:3]) for must in row.got])
            self.assertTrue(answer.ended)
            for must, head in zip(row.got, answer.heads, strict=False):
                lines = tuple(name + b": " + value for name, value in head[1:] if name not in _OWN)
                self.assertEqual(lines, must.fields)
            self.assertEqual(answer.body, row.got[-1].body)
            trailers = [tuple(b"%b: %b" % field for field in head) for head in answer.heads[len(row.got) :]]
            wanted = [lines for lines in row.got[-1].trailers if lines]
            self.assertEqual(trailers, wanted)
        elif answer.statuses != [502] or not answer.ended:
            self.assertNotEqual(row.outcomes, BAD, f"{answer}")
            self.assertEqual((answer.statuses, answer.ended), ([200], False), "an answer that is wrong seems whole")
            self.assertIsNotNone(answer.reset)
        client.close()
        self.assert_nothing_left()


def _add(row: Framed) -> None:
    name = "test_" + re.sub(r"[^a-z0-9]+", "_", row.name.lower())

    def over_http1(self: AnswerTests) -> None:
        self._over_http1(row)

    def over_http2(self: AnswerTests) -> None:
        self._over_http2(row)

    for method, suffix in ((over_http1, "_over_http1"), (over_http2, "_over_http2")):
        method.__name__ = name + suffix
        method.__doc__ = f"An answer with {row.name} comes to {' or '.join(sorted(row.outcomes))} (RFC {row.rfc})."
        assert not hasattr(AnswerTests, method.__name__), f"two rows named {row.name!r}"
        setattr(AnswerTests, method.__name__, method)


for _row in ROWS:
    _add(_row)
