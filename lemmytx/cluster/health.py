"""
What checks say about one backend, as a state machine. Pure: whoever checks tells it the outcomes, and the time.

  ==========  ======================================  =======================================
  state       C{passed}                               C{failed}
  ==========  ======================================  =======================================
  up          up                                      going_down, or down when C{fall} is 1
  going_down  up                                      down after C{fall} in a row
  down        going_up, or up when C{rise} is 1       down
  going_up    up after C{rise} in a row               down
  ==========  ======================================  =======================================

A backend begins as it is told to, C{up} or C{down}. That is a guess, so the first outcome may overrule it: one that
begins C{down} is C{up} after a single check that passes. The state C{unknown} is none of these: it is a backend's whose
address nobody knows (L{lemmytx.cluster.backend.Backend.health}), and which cannot be checked therefore.

Traffic goes to backends that are C{up} or C{going_down}: a single check that fails says less than the requests that do
well meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: How long a reason may be that others have a part in.
LONGEST = 200


def printable(text: str) -> str:
    """A reason on one line, fit for a log: parts of it are the backend's own words."""
    line = "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def shown(found: object) -> str:
    """What a plugin has raised or returned, fit for a log."""
    try:
        return printable(repr(found))
    except BaseException:  # even this is the plugin's
        return f"a {type(found).__name__} that cannot be shown"


class Health:
    """
    The state machine.

    @ivar rise: how many checks in a row bring it up.
    @ivar fall: how many in a row take it down.
    @ivar state: C{up}, C{going_down}, C{down} or C{going_up}.
    @ivar available: whether requests may go to it.
    @ivar since: when it came into its state, by the clock it was given.
    @ivar reason: why it did, as half a sentence.
    @ivar last: what the last check said; empty before the first.
    @ivar passes: checks that passed, C{failures}: that failed, since the start.
    @ivar changes: how often it came into each state.
    @ivar lost: whether it is down and had been found to be up before that; what it was taken for before the first check
        does not count, nor does a single check that passed while it was going up.
    """

    __slots__ = (
        "_found_up", "_now", "_row", "_unchecked", "available", "changes", "fall", "failures", "last", "lost", "passes",
        "reason", "rise", "since", "state",
    )  # fmt: skip

    def __init__(self, rise: int = 2, fall: int = 3, up: bool = True, now: Callable[[], float] = lambda: 0.0) -> None:
        """
        @param up: what it is taken for before the first check.
        @param now: a clock for people: seconds since 1970.
        """
        self.rise = rise
        self.fall = fall
        self.state = "up" if up else "down"
        self.available = up
        self.since = now()
        self.reason = "not checked yet"
        self.last = ""
        self.passes = 0
        self.failures = 0
        self.changes: dict[str, int] = {}
        self.lost = False
        self._found_up = False
        self._now = now
        self._row = 0
        self._unchecked = True

    @property
    def moving(self) -> bool:
        """Whether it is on its way from one to the other: the time to look more often."""
        return self.state in ("going_up", "going_down")

    def configure(self, rise: int, fall: int) -> None:
        """Other settings, from the next check on. What is known stays."""
        self.rise = rise
        self.fall = fall

    def passed(self, reason: str = "the check passed") -> bool:
        """
        A check went well.

        @return: whether that has changed the state.
        """
        self.passes += 1
        self.last = reason
        unchecked, self._unchecked = self._unchecked, False
        if self.state == "up":
            self._found_up = True
            return False
        if self.state == "going_down":
            return self._become("up", reason)
        row = self._row = self._row + 1 if self.state == "going_up" else 1
        if row >= self.rise or unchecked:
            return self._become("up", reason)
        return self.state == "down" and self._become("going_up", reason)

    def failed(self, reason: str) -> bool:
        """
        A check failed.

        @return: whether that has changed the state.
        """
        self.failures += 1
        self.last = reason = printable(reason)
        self._unchecked = False
        if self.state == "down":
            return False
        if self.state == "going_up":
            return self._become("down", reason)
        row = self._row = self._row + 1 if self.state == "going_down" else 1
        if row >= self.fall:
            return self._become("down", reason)
        return self.state == "up" and self._become("going_down", reason)

    def fell(self, reason: str, served: bool = False) -> bool:
        """
        It is down without any check, because of how it treated a request.

        @param served: whether it has treated others well: that has found it up, too.
        @return: whether that has changed the state.
        """
        self._unchecked = False
        self._found_up |= served and self.available
        return self.state != "down" and self._become("down", printable(reason))

    def _become(self, state: str, reason: str) -> bool:
        self.state = state
        self.available = state in ("up", "going_down")
        self.since = self._now()
        self.reason = reason
        self.changes[state] = self.changes.get(state, 0) + 1
        if state in ("up", "down"):
            self._row = 0
        self.lost = state == "down" and self._found_up
        if state in ("up", "down"):
            self._found_up = state == "up"
        return True

    def __repr__(self) -> str:
        return f"<Health {self.state}, {self.reason}>"


class Checkup:
    """
    How a backend is checked: what is done, and when. The settings, with what they mean for this backend.

    @ivar check: the L{lemmytx.interfaces.IHealthCheck}.
    @ivar interval: seconds from the beginning of a check to that of the next, C{fast_interval}: the same while the
        backend is on its way up or down.
    @ivar jitter: how much of that it may be more or less, from 0 to 1.
    @ivar timeout: seconds that a check may take.
    @ivar rise: see L{Health}; C{fall} too.
    @ivar up: what the backend is taken for before the first check.
    @ivar mode: C{paranoid}, C{opportunistic} or C{lazy}.
    @ivar idle: seconds without a request after which an opportunistic check looks at a backend that is up.
    @ivar port: what is connected to; L{None}: the same as for requests.
    @ivar tls: the L{lemmytx.net.tls.client.ClientTls} for it; L{None}: no TLS.
    @ivar sticky_offline: whether a backend that goes from up to down is disabled, too.
    """

    __slots__ = (
        "check", "fall", "fast_interval", "idle", "interval", "jitter", "mode", "port", "rise", "sticky_offline",
        "timeout", "tls", "up",
    )  # fmt: skip

    def __init__(
        self,
        check: Any,
        interval: float = 2.0,
        fast_interval: float | None = None,
        jitter: float = 0.1,
        timeout: float = 1.0,
        rise: int = 2,
        fall: int = 3,
        up: bool = True,
        mode: str = "paranoid",
        idle: float = 10.0,
        port: int | None = None,
        tls: Any = None,
        sticky_offline: bool = False,
    ) -> None:
        self.check = check
        self.interval = interval
        self.fast_interval = interval if fast_interval is None else fast_interval
        self.jitter = jitter
        self.timeout = timeout
        self.rise = rise
        self.fall = fall
        self.up = up
        self.mode = mode
        self.idle = idle
        self.port = port
        self.tls = tls
        self.sticky_offline = sticky_offline
