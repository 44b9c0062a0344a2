"""
Every row of L{tests.wire.responses}, sent by the backend behind a running proxy, whole and cut at every boundary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.wire.answers import Answer
from tests.wire.reading import Message
from tests.wire.responses import ROWS
from tests.wire.rig import WireCase
from tests.wire.sockets import LIMIT, Side, serve
from tests.wire.talk import TOGETHER, Seen, Talk, hold, positions, read_by_proxy


class ResponseTests(WireCase):
    """One method for each row, and a second one that cuts it."""

    def _converse(self, row: Answer, cuts: Sequence[int | None]) -> list[Seen]:
        """Has the row answered once for each cut, all at one time, and holds what came of it against the table."""
        asked: list[Side] = []

        def began(side: Side, request: Message) -> None:
            if not request.complete and b" /row " in request.start:
                asked.append(side)

        def script(side: Side, request: Message) -> None:
            if b" /row " not in request.start:
                serve(side, request)
            elif side not in asked:
                asked.append(side)

        self.backend.forget()
        self.backend.began = began
        self.backend.script = script
        finals = max(sum(status[0] != "1" for status in one.partition("/")[0].split("+")) for one in row.outcomes)
        heads = (0,) if row.ask.startswith(b"HEAD ") else ()
        talks = [Talk(self.loop, self.proxy.port, row.ask, row.then, max(1, finals), heads) for _ in cuts]
        for talk in talks:
            talk.send(0, None)
        if not self.loop.until(lambda: len(asked) >= len(cuts)):
            said = {bytes(talk.client.received[:80]) for talk in talks}
            self.fail(f"the backend was asked {len(asked)} times, not {len(cuts)}; clients got {said}")
        used = list(asked)
        for side, cut in zip(used, cuts, strict=True):
            side.write(row.data[:cut])
        if cuts != [None]:
            read_by_proxy(self.loop, peer=self.backend.port)
            for side, cut in zip(used, cuts, strict=True):
                side.write(row.data[cut or 0 :])
        # No client goes on before the proxy has read all that was said behind the answers to the ones before.
        read_by_proxy(self.loop, peer=self.backend.port)
        for side in used:
            if row.ending == "close":
                side.finish()
            elif row.ending == "reset":
                side.reset()
        seen = hold(self.loop, talks, LIMIT)
        for one in seen:
            self._check(row, one)
        if row.upstream == "closed" and row.ending != "reset":
            ended = self.loop.until(lambda: all(side.ended for side in used))
            self.assertTrue(ended, "the upstream was not closed")
            if not row.ending:
                self.assertEqual([side.served for side in used if side.served > 1], [], "the upstream was used again")
        if row.upstream == "kept" and cuts == [None]:
            self.assertEqual([side.ended for side in used], [""], "the upstream was not kept")
            if seen[0].outcome.endswith("/open"):
                self.assertEqual([side.served for side in used], [2], "the upstream was not used again")
        self.assertEqual([side.broken for side in self.backend.sides if side.broken], [])
        return seen

    def _check(self, row: Answer, one: Seen) -> None:
        """The outcome is allowed, and what reached the client is what the row says."""
        if one.outcome not in row.outcomes:
            self.fail(f"{one.outcome} {one.detail}; allowed: {sorted(row.outcomes)}")
        if row.got and not one.outcome.startswith("502"):
            self.assertEqual(len(one.answers), len(row.got))
            for must, got in zip(row.got, one.answers, strict=True):
                differences = must.differences(got)
                if differences:
                    self.fail(f"{'; '.join(differences)}: {got!r}")
        for got in one.answers:
            if got.status == 502:
                self.assertNotIn(b"hello", got.body, "a reply of the proxy holds what the backend sent")

    def _whole(self, row: Answer) -> None:
        self._converse(row, [None])
        self.assert_nothing_left()

    def _cut(self, row: Answer) -> None:
        whole = self._converse(row, [None])[0].outcome
        places = positions(len(row.data))
        for start in range(0, len(places), TOGETHER):
            cuts = places[start : start + TOGETHER]
            for cut, one in zip(cuts, self._converse(row, cuts), strict=True):
                if one.outcome != whole and not row.varies:
                    self.fail(f"cut at {cut}: {one.outcome}, and whole: {whole}")
        self.assert_nothing_left()


def _add(row: Answer) -> None:
    name = "test_" + re.sub(r"[^a-z0-9]+", "_", row.name.lower())

    def whole(self: ResponseTests) -> None:
        self._whole(row)

    def cut(self: ResponseTests) -> None:
        self._cut(row)

    for method, suffix in ((whole, ""), (cut, "_cut")):
        method.__name__ = name + suffix
        method.__doc__ = f"A response with {row.name} comes to {' or '.join(sorted(row.outcomes))} (RFC {row.rfc})."
        assert not hasattr(ResponseTests, method.__name__), f"two rows named {row.name!r}"
        setattr(ResponseTests, method.__name__, method)


for _row in ROWS:
    _add(_row)
