"""
Every row of L{tests.wire.requests}, sent through a running proxy whole and cut at every boundary.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from tests.wire.requests import ROWS
from tests.wire.requests_framing import BODY_LIMIT
from tests.wire.rig import WireCase
from tests.wire.rows import Row, Sent
from tests.wire.sockets import LIMIT
from tests.wire.talk import FOLLOW, TOGETHER, Seen, Talk, hold, positions, read_by_proxy


class RequestTests(WireCase):
    """One method for each row, and a second one that cuts it."""

    settings: ClassVar[dict[str, object]] = {"limits": {"body_size": BODY_LIMIT, "connections": 10000}}

    def _converse(self, row: Row, cuts: Sequence[int | None]) -> list[Seen]:
        """Sends the row once for each cut, all at one time, and holds what the backend got against the table."""
        self.backend.forget()
        talks = [Talk(self.loop, self.proxy.port, row.data, row.then, row.finals, row.heads, row.finish) for _ in cuts]
        for talk, cut in zip(talks, cuts, strict=True):
            talk.send(0, cut)
        if cuts != [None]:
            read_by_proxy(self.loop, mine=self.proxy.port)
            for talk, cut in zip(talks, cuts, strict=True):
                talk.send(cut or 0, None)
        seen = hold(self.loop, talks, LIMIT)
        for cut, one in zip(cuts, seen, strict=True):
            where = "whole" if cut is None else f"cut at {cut}: {row.data[max(0, cut - 20) : cut]!r}"
            if one.outcome not in row.outcomes:
                self.fail(f"{where}: {one.outcome} {one.detail}; allowed: {sorted(row.outcomes)}")
        self._check_backend(row, seen)
        return seen

    def _check_backend(self, row: Row, seen: Sequence[Seen]) -> None:
        """The backend got what the outcomes say: complete requests as they must be, and nothing else."""
        expected: Counter[Sent] = Counter()
        for one in seen:
            expected.update(row.expects(one.outcome))
        follow = FOLLOW.partition(b"\r\n")[0]
        got = [request for request in self.backend.requests if request.start != follow]
        for request in got:
            best: list[str] | None = None
            for must in expected:
                differences = must.differences(request)
                if not differences:
                    expected[must] -= 1
                    expected += Counter()
                    break
                if best is None or len(differences) < len(best):
                    best = differences
            else:
                self.fail(f"the backend got {request!r}: {best or 'nothing like it was to come'}")
        self.assertEqual(dict(expected), {}, "the backend did not get these")
        for side in self.backend.sides:
            self.assertEqual(side.broken, "", f"the backend cannot read {side.rest[:200]!r}")
            if side.rest and not row.started:
                self.fail(f"the backend got the beginning of a request: {side.rest[:200]!r}")
        if row.started:
            # What was begun cannot be completed any more, so the connection is of no use.
            begun = [side for side in self.backend.sides if side.rest]
            ended = self.loop.until(lambda: all(side.ended for side in begun))
            self.assertTrue(ended, "an upstream with half a request on it was kept")

    def _whole(self, row: Row) -> None:
        self._converse(row, [None])
        self.assert_nothing_left()

    def _cut(self, row: Row) -> None:
        whole = self._converse(row, [None])[0].outcome
        places = positions(len(row.data))
        for start in range(0, len(places), TOGETHER):
            cuts = places[start : start + TOGETHER]
            for cut, one in zip(cuts, self._converse(row, cuts), strict=True):
                if one.outcome != whole and not row.varies:
                    self.fail(f"cut at {cut}: {one.outcome}, and whole: {whole}")
        self.assert_nothing_left()


def _add(row: Row) -> None:
    name = "test_" + re.sub(r"[^a-z0-9]+", "_", row.name.lower())

    def whole(self: RequestTests) -> None:
        self._whole(row)

    def cut(self: RequestTests) -> None:
        self._cut(row)

    for method, suffix in ((whole, ""), (cut, "_cut")):
        method.__name__ = name + suffix
        method.__doc__ = f"A request with {row.name} comes to {' or '.join(sorted(row.outcomes))} (RFC {row.rfc})."
        assert not hasattr(RequestTests, method.__name__), f"two rows named {row.name!r}"
        setattr(RequestTests, method.__name__, method)


for _row in ROWS:
    _add(_row)
