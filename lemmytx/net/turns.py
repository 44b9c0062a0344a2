"""
Who accepts the next connection, where several processes listen on one socket.

One queue for all has what is wanted when a process is busy: whoever has time takes what waits. But among processes that
have time the kernel wakes all, the first one there takes the connection, and that is nearly always the same one. A
socket for each (SO_REUSEPORT) is even over many clients and leaves a busy process's share of them waiting. So here
they share the queue, and those who are ahead let the others go first (C{python -m benchmarks.accepting} compares).

The L{Board} is memory that all of them see, with a row for each. A process writes its own row and reads the others',
but for what says that a process was missed: words of 8 bytes, aligned, so that none is ever seen half written.
Nothing is locked, and nothing is wrong for longer than a wait when two look at the same time.

Before each accept a process compares itself with the others that accept:

    1. Connections now. It must not have more than the one with the fewest, but for one and a L{PART} of them.
    2. Turns, among those whose connections are as few. Each accept is one; it must not have had more than the one with
       the fewest, but for L{SLACK}. Who was away makes up for L{ARREARS} of them and for no more.

The process with the fewest turns among those with the fewest connections is never ahead of anybody, so one can always
go. A process that is ahead stops looking at the socket for L{WAIT}, and takes one of what is there then, whoever's turn
it is: no connection waits for a rule. That there was something, while none of those it had waited for has accepted
anything, means that they are busy, and is written into their rows for everybody to read: nobody waits for them until
they accept, or for L{BUSY} seconds, or until he has accepted L{IN_VAIN} connections without them; twice as long and as
many each time, up to L{MOST} times. (Whoever only loses every race must not look busy for ever, and whoever was late
because others had its core must not lose a whole burst for that.)
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: By which part of the connections one may be ahead of the others: the more there are, the less each one matters, and
#: the more come at once, the fewer are to wait.
PART = 16

#: By how many turns one may be ahead, so that not every short connection has to wait for whose turn it is.
SLACK = 2

#: How many turns somebody who could not take them gets back.
ARREARS = 64

#: Seconds for which the others go first: the shortest time that epoll can wait. Whoever is idle needs 0.1 ms.
WAIT = 0.001

#: For how many seconds nobody waits for those who did not come, and while how many connections are accepted without
#: them; and how many times as much it is at most.
BUSY = 0.001
IN_VAIN = 2
MOST = 64

# A row, in words. It has a cache line for itself. Whether it accepts is in front of all rows, in one piece.
_PROCESS, _CONNECTIONS, _ACCEPTED, _TURN = range(4)
# Anyone may write these: how many it had accepted (and one) when it was missed, how many times as long as at first
# nobody waits for it, and until when, in µs.
_MISSED, _TIMES, _UNTIL = range(4, 7)
_ROW = 8
_WORD = 8


@dataclass(frozen=True)
class Row:
    """
    What a process has written about itself.

    @ivar row: its number.
    @ivar process: its process id.
    @ivar accepting: whether it wants connections now.
    @ivar connections: how many clients it has.
    @ivar accepted: how many connections it has accepted since it started.
    """

    row: int
    process: int
    accepting: bool
    connections: int
    accepted: int


class Board:
    """
    The memory that all processes see: made by one, which hands its descriptor on.

    @ivar fd: the descriptor. It is not inheritable until somebody makes it so.
    @ivar size: how many rows there are.
    """

    def __init__(self, rows: int = 64, fd: int | None = None) -> None:
        """
        @param rows: how many processes there can be at one time. Not looked at when there is a descriptor.
        @param fd: of a board that there is; it belongs to this object from now on.
        @raise ValueError: the descriptor is not one of a board.
        @raise OSError: there is no memory, or no such descriptor.
        """
        if fd is None:
            if rows < 1:
                raise ValueError(f"a board of {rows} rows has room for nobody")
            fd = os.memfd_create("lemmytx-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, rows * (1 + _ROW) * _WORD)
            # Memory that somebody cuts off ends all who look at it with SIGBUS.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        length = os.fstat(fd).st_size
        self.fd = fd
        self.size, rest = divmod(length, (1 + _ROW) * _WORD)
        if rest or not self.size:
            raise ValueError(f"descriptor {fd} is not a board: it has {length} bytes")
        self._map = mmap.mmap(fd, length)
        self._bytes = memoryview(self._map)
        self.words = self._bytes.cast("q")
        self._connections = self.words[self.size + _CONNECTIONS :: _ROW]
        self._flags = self.size * _WORD

    def start(self, row: int) -> int:
        """
        The place of a row's first word.

        @raise ValueError: there is no such row.
        """
        if not 0 <= row < self.size:
            raise ValueError(f"there is no row {row} on a board of {self.size}")
        return self.size + row * _ROW

    def clear(self, row: int) -> None:
        """
        The process of this row is gone, and all its connections with it. To be called before another one gets the row.
        """
        start = self.start(row)
        self.words[row] = 0
        for word in range(start, start + _ROW):
            self.words[word] = 0

    def connections(self) -> int:
        """How many clients are connected, over all processes."""
        return sum(self._connections.tolist())

    def accepting(self) -> bytes:
        """Who accepts: the same bytes for as long as it is the same ones."""
        return self._map[: self._flags]

    def rows(self) -> list[Row]:
        """What there is to know of those who are there."""
        found = []
        for row in range(self.size):
            start = self.start(row)
            process, connections, accepted = self.words[start : start + 3].tolist()
            if process:
                found.append(Row(row, process, bool(self.words[row]), connections, accepted))
        return found

    def close(self) -> None:
        """Give the memory and the descriptor back. Those of other processes stay."""
        self._connections.release()
        self.words.release()
        self._bytes.release()
        self._map.close()
        os.close(self.fd)


class _Other:
    """
    Another process that accepts, as this one sees it: where its words are.

    @ivar seen: until when nobody waits for it, as this process has read it last.
    @ivar enough: how many this process has accepted when it waits for it all the same.
    """

    __slots__ = ("accepted", "connections", "enough", "missed", "seen", "times", "turn", "until")

    def __init__(self, start: int) -> None:
        self.connections = start + _CONNECTIONS
        self.accepted = start + _ACCEPTED
        self.turn = start + _TURN
        self.missed = start + _MISSED
        self.times = start + _TIMES
        self.until = start + _UNTIL
        self.seen = self.enough = 0


#: Those who should go first, and how many connections each has accepted so far.
Waited = list[tuple[_Other, int]]


class Turns:
    """
    What one process writes on a board, and what it concludes from the others' rows. All its ports share it.

    @ivar reactor: an L{IReactorTime}.
    @ivar room: whether there is room for one more connection at all; whoever counts them puts itself here. It is asked
        before each accept, and when there is none it has stopped the ports.
    """

    def __init__(self, board: Board, row: int, reactor: Any) -> None:
        """
        Begin: no connections, no ports; with the first port, as many turns as the one with the fewest.

        @param row: one that no other living process has.
        @raise ValueError: there is no such row.
        """
        self._start = start = board.start(row)
        self._row = row
        self._words = words = board.words
        self._open: set[Any] = set()
        self._accepting = b""
        self._others: list[_Other] = []
        self.board = board
        self.reactor = reactor
        self.room: Callable[[], bool] = _room
        board.clear(row)
        words[start + _PROCESS] = os.getpid()

    # What ports call

    def opened(self, port: Any) -> None:
        """This port accepts from now on."""
        if not self._open:
            words = self._words
            self._look_round(self.board.accepting())
            least = min((words[other.turn] for other in self._others), default=0)
            if words[self._start + _TURN] < least:
                words[self._start + _TURN] = least
            words[self._row] = 1
        self._open.add(port)

    def closed(self, port: Any) -> None:
        """This port does not accept, for now or for ever. Nobody is to wait for a process where none does."""
        self._open.discard(port)
        if not self._open:
            self._words[self._row] = 0

    def alone(self) -> bool:
        """Whether nobody else accepts now."""
        accepting = self.board.accepting()
        if accepting != self._accepting:
            self._look_round(accepting)
        return not self._others

    def before(self) -> Waited:
        """Asked before each accept: who should take the next connection rather than this process? Nobody: it may."""
        if self.alone():
            return []
        words = self._words
        others = [other for other in self._others if not self._busy(other)]
        connections = words[self._start + _CONNECTIONS]
        least = connections
        for other in others:
            if words[other.connections] < least:
                least = words[other.connections]
        few = least + 1 + least // PART
        turn = words[self._start + _TURN] - SLACK
        return [
            (other, words[other.accepted])
            for other in others
            if words[other.connections] <= few and (connections > few or words[other.turn] < turn)
        ]

    def came_back(self, waited: Waited) -> None:
        """
        Called when there was something to accept after a wait. When nobody has accepted meanwhile, they are busy.

        @param waited: what L{before} said when the wait began.
        """
        words = self._words
        if any(words[other.accepted] != accepted for other, accepted in waited):
            return
        now = self.reactor.seconds()
        for other, accepted in waited:
            again = words[other.missed] == accepted + 1
            words[other.times] = times = min(words[other.times] * 2, MOST) if again else 1
            words[other.until] = int((now + times * BUSY) * 1e6)
            words[other.missed] = accepted + 1

    def accepted(self) -> None:
        """Called with each connection that was accepted."""
        words = self._words
        words[self._start + _ACCEPTED] += 1
        turn = words[self._start + _TURN] + 1
        for other in self._others:
            if words[other.turn] - ARREARS > turn:
                turn = words[other.turn] - ARREARS
        words[self._start + _TURN] = turn

    # What whoever counts the connections calls

    def connected(self, connections: int) -> None:
        """So many clients are connected to this process now."""
        self._words[self._start + _CONNECTIONS] = connections

    def _busy(self, other: _Other) -> bool:
        words = self._words
        if words[other.missed] != words[other.accepted] + 1:
            return False
        until = words[other.until]
        own = words[self._start + _ACCEPTED]
        if until != other.seen:
            other.seen = until
            other.enough = own + words[other.times] * IN_VAIN
        # The clock may have been set back since: that must not last.
        left = until / 1e6 - self.reactor.seconds()
        return own < other.enough and 0 < left <= MOST * BUSY

    def _look_round(self, accepting: bytes) -> None:
        self._accepting = accepting
        before = {other.turn: other for other in self._others}
        flags = memoryview(accepting).cast("q").tolist()
        others = []
        for row, flag in enumerate(flags):
            if flag and row != self._row:
                other = _Other(self.board.start(row))
                others.append(before.get(other.turn, other))
        self._others = others


def _room() -> bool:
    return True
