"""One stream of a connection, and how the ones before it ended."""

from __future__ import annotations

#: How a stream came to its end, which decides what a late frame for it is (RFC 9113 §5.1): a connection error; an error
#: of that stream; nothing, as it may have been under way when our RST_STREAM was.
ENDED, RESET_BY_PEER, RESET_BY_US = 1, 2, 3

#: How many of them are remembered at least.
_REMEMBERED = 256


class Stream:
    """
    One stream, from its first HEADERS until both sides have ended it or one has reset it. Idle streams and closed ones
    have no object, so the states of RFC 9113 §5.1 are the two booleans.

    @ivar number: its identifier.
    @ivar outflow: how many bytes the peer will take; below 0 when it has made the window smaller.
    @ivar inflow: how many bytes it may send.
    @ivar owed: how many of those that it sent have been taken, and not been given back to it yet.
    @ivar left: what is missing from the body as long as C{content-length} says it is; -1: it does not say.
    @ivar remote_ended: the peer sends nothing any more: half-closed (remote).
    @ivar local_ended: we send nothing any more: half-closed (local).
    @ivar headed: the final response's head has been sent, or has come.
    @ivar bodiless: no DATA may bring anything (clients: HEAD, 204, 304).
    @ivar method: clients: what the request's was.
    @ivar tunnel: it is an extended CONNECT; nothing but DATA comes after the head (§8.5).
    """

    __slots__ = (
        "bodiless", "headed", "inflow", "left", "local_ended", "method", "number", "outflow", "owed", "remote_ended",
        "tunnel",
    )  # fmt: skip

    def __init__(self, number: int, outflow: int, inflow: int) -> None:
        self.number = number
        self.outflow = outflow
        self.inflow = inflow
        self.owed = 0
        self.left = -1
        self.remote_ended = False
        self.local_ended = False
        self.headed = False
        self.bodiless = False
        self.method = b""
        self.tunnel = False


class Past:
    """
    How the last streams ended. Two dictionaries take turns: a stream is forgotten when as many as are remembered, and
    at most twice as many, have ended after it.

    Those that we have reset have two of their own. What was under way for them is no error however late it comes, and
    forgetting one would make it one; of the others only the code of an error depends on it.
    """

    __slots__ = ("_newer", "_older", "_ours", "_ours_older")

    def __init__(self) -> None:
        self._newer: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._ours: dict[int, int] = {}
        self._ours_older: dict[int, int] = {}

    def add(self, number: int, how: int) -> None:
        """A stream has come to its end."""
        if how == RESET_BY_US:
            self._ours[number] = how
            if len(self._ours) >= _REMEMBERED:
                self._ours_older = self._ours
                self._ours = {}
            return
        newer = self._newer
        newer[number] = how
        if len(newer) >= _REMEMBERED:
            self._older = newer
            self._newer = {}

    def how(self, number: int) -> int:
        """L{ENDED}, L{RESET_BY_PEER}, L{RESET_BY_US}; 0: forgotten, or it never was there."""
        for last in (self._ours, self._ours_older, self._newer, self._older):
            if number in last:
                return last[number]
        return 0
