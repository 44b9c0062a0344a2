"""
Checks one backend, again and again, and tells what comes of it.

A check is over when it says so, or at its timeout: then it is cancelled, its connections are closed, and whatever it
does after that is of no interest. The next one begins an interval after the beginning of the last, so slow answers do
not make checks rarer, and never beside it. One that does not end although it was cancelled (a plugin that swallows
that) is not started again before it has; that counts as failed.

What becomes of an outcome::

    the check returns                             passed
    L{Unhealthy}, a connection that failed        failed
    the timeout                                   failed
    we ran out of descriptors, memory, ports      nothing: it says nothing about the backend; logged
    any other exception                           nothing, for the same reason; logged, once for each kind

When which backend is checked is its mode's business (L{Checker._wanted}).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from lemmytx.checks.target import Target
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.health import Checkup, printable
from lemmytx.interfaces import Unhealthy
from lemmytx.proxy.dial import OURS

#: How many checks of a cluster run at one time, unless they say otherwise (C{at_once}).
AT_ONCE = 250

#: Hears of changes of health: the cluster's name and the backend.
Told = Callable[[str, Backend], None]

#: Reasons of our own that are told, for each backend; the rest is counted.
MOST_TOLD = 20


class Gate:
    """
    Lets so many through at a time; the others wait in line.
    """

    __slots__ = ("_busy", "_line", "limit")

    def __init__(self, limit: int = AT_ONCE) -> None:
        self.limit = limit
        self._busy = 0
        self._line: deque[Callable[[], None]] = deque()

    def enter(self, go: Callable[[], None]) -> None:
        """
        @param go: called when there is room, maybe at once. It calls L{leave} later.
        """
        if self._busy < self.limit:
            self._busy += 1
            go()
        else:
            self._line.append(go)

    def forget(self, go: Callable[[], None]) -> bool:
        """
        @return: whether it stood in line, and does so no more.
        """
        try:
            self._line.remove(go)
        except ValueError:
            return False
        return True

    def leave(self) -> None:
        """One is done: the next one goes."""
        if self._line and self._busy <= self.limit:
            self._line.popleft()()
        else:
            self._busy -= 1


class Checker:
    """
    @ivar cluster: its name.
    @ivar backend: the one.
    @ivar checkup: how it is checked.
    @ivar errors: how many checks ended without a verdict, by an error of ours.
    """

    __slots__ = (
        "_began", "_call", "_chance", "_clock", "_gate", "_going", "_log", "_seen", "_stopped", "_told",
        "_used_at", "_waits", "backend", "checkup", "cluster", "errors",
    )  # fmt: skip

    def __init__(
        self,
        cluster: str,
        backend: Backend,
        clock: IReactorTime,
        gate: Gate,
        chance: Callable[[], float],
        log: Logger | None = None,
        told: Told | None = None,
    ) -> None:
        """
        @param clock: what calls us.
        @param gate: of the cluster.
        @param chance: a number from 0 to 1, another one each time.
        @param told: called when its health has changed, before its cluster is told.
        """
        assert backend.checkup is not None
        self.backend = backend
        self.checkup: Checkup = backend.checkup
        self.errors: dict[str, int] = {}
        self._chance = chance
        self._began = 0.0
        self.cluster = cluster
        self._clock = clock
        self._gate = gate
        self._log = log or Logger(namespace="lemmytx.checks")
        self._call: IDelayedCall | None = None
        self._going: _Run | None = None
        self._waits = False
        self._stopped = False
        self._told = told
        self._used_at = clock.seconds()
        self._seen = backend.traffic.count

    def start(self, delay: float) -> None:
        """
        Begin.

        @param delay: seconds until the first check.
        """
        backend = self.backend
        backend.suspected = self._suspected if self.checkup.mode == "lazy" else None
        if self.checkup.mode != "lazy" or not self._up:
            self._call = self._clock.callLater(delay, self._due)

    def stop(self) -> None:
        """Check no more. What is under way ends without a verdict. It may be told in the middle of one."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._waits and self._gate.forget(self._begin):
            self._waits = False
        if self._going is not None and self._going.drop():
            self._gate.leave()
        self.backend.suspected = None

    @property
    def _up(self) -> bool:
        checked = self.backend.checked
        return checked is not None and checked.state == "up"

    # When

    def _wanted(self) -> bool:
        """Whether it is to be looked at now, by the mode."""
        mode, backend = self.checkup.mode, self.backend
        if mode == "opportunistic" and self._up:
            now = self._clock.seconds()
            if backend.active or backend.traffic.count != self._seen:
                self._seen = backend.traffic.count
                self._used_at = now
            # That of a backend without room is busy, whatever we have counted.
            return now - self._used_at >= self.checkup.idle and not (backend.capacity and backend.room <= 0)
        return mode != "lazy" or not self._up

    def _suspected(self, why: str) -> None:
        """Lazy: a request has failed by the backend's fault."""
        checked = self.backend.checked
        served = any(200 <= status < 400 for status in self.backend.traffic.statuses)
        if checked is not None and checked.fell(why, served):
            self._tell()
            if self._call is None and self._going is None and not self._waits:
                self._again(self._clock.seconds())

    def look(self, better: bool) -> None:
        """
        Somebody else sees it otherwise than before: check it at once, unless that is just what is known here, or it is
        being checked. The next check is an interval after this one.

        @param better: than before.
        """
        backend, checked = self.backend, self.backend.checked
        if self._stopped or self._going is not None or self._waits or not backend.located:
            return
        if checked is None or checked.state != ("down" if better else "up"):
            return
        if self.checkup.mode == "opportunistic" and backend.capacity and backend.active >= backend.room:
            return  # there is no place for it
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._waits = True
        self._gate.enter(self._begin)

    def _again(self, began: float) -> None:
        checkup, checked = self.checkup, self.backend.checked
        if self._stopped or (checkup.mode == "lazy" and self._up):
            return
        quick = checked is not None and checked.moving
        interval = checkup.fast_interval if quick else checkup.interval
        interval *= 1 + checkup.jitter * (2 * self._chance() - 1)
        self._call = self._clock.callLater(max(0.0, began + interval - self._clock.seconds()), self._due)

    def _due(self) -> None:
        self._call = None
        backend = self.backend
        # Where its name has no address there is nobody to ask.
        if not backend.located or not self._wanted():
            self._again(self._clock.seconds())
        elif self._going is not None:
            # The last one was cancelled at its timeout and has not ended.
            self._judge(False, "its last check still hangs, which is the check's fault")
            self._again(self._clock.seconds())
        else:
            self._waits = True
            self._gate.enter(self._begin)

    # A check

    def _begin(self) -> None:
        self._waits = False
        self._began = self._clock.seconds()
        self._going = _Run(self, self.backend, self.checkup, self.cluster, self._clock)
        self._going.start()

    def decided(self, passed: bool | None, why: str) -> None:
        """
        A check is over, or has had its time.

        @param passed: what it says; L{None}: nothing.
        """
        self._gate.leave()
        if passed is None:
            self._confess(why)
        else:
            self._judge(passed, why)
        self._again(self._began)

    def ended(self) -> None:
        """Nothing of the last check is under way any more."""
        self._going = None

    def _judge(self, passed: bool, why: str) -> None:
        checked = self.backend.checked
        if checked is not None and (checked.passed(why) if passed else checked.failed(why)):
            self._tell()

    def _tell(self) -> None:
        """Its health has changed."""
        backend, checked = self.backend, self.backend.checked
        assert checked is not None
        say = self._log.warn if checked.state == "down" else self._log.info
        say(
            "cluster {cluster}: backend {backend} is {state}: {reason}",
            cluster=self.cluster,
            backend=backend.name,
            state=checked.state.replace("_", " "),
            reason=checked.reason,
        )
        if checked.state == "down":
            backend.close_idle()
        if self._told is not None:
            self._told(self.cluster, backend)
        backend.changed()

    def _confess(self, why: str) -> None:
        """Our own error. Those that come each time are told once."""
        if why not in self.errors and len(self.errors) >= MOST_TOLD:
            why = "something else"
        told = self.errors.get(why, 0)
        self.errors[why] = told + 1
        if not told:
            self._log.error(
                "cluster {cluster}: backend {backend} cannot be checked, which is not its fault: {why} (told once)",
                cluster=self.cluster,
                backend=self.backend.name,
                why=why,
            )


class _Run:
    """One check."""

    __slots__ = ("_backend", "_checker", "_decided", "_deferred", "_place", "_target", "_timer", "_timeout")

    def __init__(self, checker: Checker, backend: Backend, checkup: Checkup, cluster: str, clock: IReactorTime) -> None:
        self._checker: Checker | None = checker
        self._backend = backend
        self._decided = False
        self._timeout = checkup.timeout
        self._target = Target(cluster, backend, checkup, clock.seconds)
        self._place = checkup.mode == "opportunistic"
        self._timer: IDelayedCall | None = clock.callLater(checkup.timeout, self._late)
        self._deferred: Deferred[Any] | None = None
        if self._place:
            backend.occupy()

    def start(self) -> None:
        """Begin."""
        checker = self._checker
        assert checker is not None
        try:
            waited = checker.checkup.check.check(self._target)
            deferred = waited if isinstance(waited, Deferred) else Deferred.fromCoroutine(waited)
        except BaseException:  # a plugin's, and not even its sys.exit() may end the proxy
            self._broke(Failure())
            self._over()
            return
        self._deferred = deferred
        deferred.addCallbacks(self._passed, self._broke)
        deferred.addCallback(self._over)

    def _passed(self, said: Any) -> None:
        self._decide(True, printable(said) if isinstance(said, str) and said else "the check passed")

    def _broke(self, failure: Failure) -> None:
        error = failure.value
        if self._decided:
            return
        if isinstance(error, Unhealthy):
            self._decide(False, str(error) or "unhealthy, it says")
        elif isinstance(error, (ConnectError, ConnectionClosed, ConnectionError)):
            self._decide(False, str(error) or type(error).__name__)
        elif isinstance(error, OSError) and error.errno in OURS:
            self._decide(None, error.strerror or str(error))
        else:
            self._decide(None, printable(f"{_where(failure)}: {type(error).__name__}: {error}"))

    def _late(self) -> None:
        self._timer = None
        self._decide(False, f"no outcome within {self._timeout:g} s", False)
        if self._deferred is not None:
            self._deferred.cancel()

    def _decide(self, passed: bool | None, why: str, patient: bool = True) -> None:
        if self._decided:
            return
        self._decided = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._target.close(patient)
        if self._place:
            self._backend.leave()
        checker = self._checker
        if checker is not None:
            checker.decided(passed, why)

    def _over(self, _: Any = None) -> None:
        checker, self._checker = self._checker, None
        if checker is not None:
            checker.ended()

    def drop(self) -> bool:
        """
        Nobody wants to know any more.

        @return: whether there was no outcome yet.
        """
        self._checker = None
        if self._decided:
            return False
        self._decide(None, "", False)
        if self._deferred is not None:
            self._deferred.cancel()
        return True


def _where(failure: Failure) -> str:
    """Where an error comes from: the last file and line."""
    frames = failure.frames
    return f"{frames[-1][1]}:{frames[-1][2]}" if frames else "?"
