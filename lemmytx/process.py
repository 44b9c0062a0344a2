"""One worker process, as its parent sees it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import InvalidLogLevelError, Logger, LogLevel

from lemmytx import commands

log = Logger(namespace="lemmytx.workers")

#: The longest line that a worker may say.
LONGEST = 64 * 1024


class _Output:
    """What a worker writes to its standard error, line by line, into our log."""

    def __init__(self, who: Callable[[], str]) -> None:
        self._who = who
        self._rest = b""

    def data(self, data: bytes) -> None:
        """Some of it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._line(line)

    def over(self) -> None:
        """There is no more."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    def _line(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            level = LogLevel.levelWithName(said["level"])
            namespace, text = said["namespace"], said["text"]
        except (ValueError, KeyError, TypeError, InvalidLogLevelError):
            # The interpreter's own words: a traceback at the start, a fatal error at the end.
            level, namespace, text = LogLevel.error, log.namespace, line.decode("utf-8", "replace")
        Logger(namespace=namespace).emit(level, "{who}: {text}", who=self._who(), text=text)


class Parent(commands.Control):
    """The parent's end of the control connection of one worker."""

    def __init__(self, seen: Callable[[bytes], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # AMP has few annotations
        self._told_seen = seen

    @commands.Seen.responder
    def seen(self, changes: bytes) -> dict[str, Any]:
        """Its checks see backends otherwise than before."""
        self._told_seen(changes)
        return {}


class Worker(ProcessProtocol):
    """
    One process.

    @ivar number: its row on the board; C{name}: the same, counted from 1, for people.
    @ivar pid: its process id.
    @ivar told: whether it has been told to put a configuration to work; C{serving}: whether it has done that.
    @ivar sharing: whether it may have requests in flight, so that it has its share of capacities.
    @ivar leaving: whether it was told to go.
    @ivar generation: which configuration it has at work.
    @ivar endpoints: whose sockets it has got.
    @ivar configuring: held from the first part of a configuration to its commit, or the end of it.
    @ivar statistics: held while it is asked for them: their parts are of one answer.
    @ivar asked_at: since when it owes an answer; C{stuck}: whether that was told.
    @ivar ended: fires when it is gone.
    """

    pid = 0
    told = False
    serving = False
    sharing = False
    leaving = False
    since = 0.0

    def __init__(
        self,
        number: int,
        left: Callable[[Worker, str], None],
        seen: Callable[[Worker, bytes], None] = lambda worker, changes: None,
    ) -> None:
        """
        @param left: called when it is gone, with how it ended, for people.
        @param seen: called with what it says of itself (L{commands.Seen}).
        """
        self.number = number
        self.name = number + 1
        self.control = Parent(lambda changes: seen(self, changes))
        self.ended: Deferred[None] = Deferred()
        self.generation = -1
        self._left = left
        self._output = _Output(lambda: f"worker {self.name} (pid {self.pid})")
        self.endpoints: set[str] = set()
        self.asked_at: float | None = None
        self.statistics = DeferredLock()
        self.configuring = DeferredLock()
        self.stuck = False

    def __str__(self) -> str:
        return f"worker {self.name} (pid {self.pid})"

    def errReceived(self, data: bytes) -> None:
        """Twisted: it has written to its standard error."""
        self._output.data(data)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted: it has written something."""
        self._output.data(data)

    def processEnded(self, reason: Any) -> None:
        """Twisted: it is gone, and all its output is here."""
        self._output.over()
        self._left(self, _why(reason.value))
        self.ended.callback(None)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        if self.transport is not None and self.transport.pid:
            os.kill(self.transport.pid, number)


def _why(status: Any) -> str:
    """How a process ended, for people."""
    number = getattr(status, "signal", None)
    if number is not None:
        return f"killed by signal {number} ({signal.strsignal(number)})"
    return f"exit status {getattr(status, 'exitCode', None)}"
