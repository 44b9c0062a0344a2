"""
Passive health of one backend: what exchanges that fail say about it.

C{max_fails} failures within C{fail_window} eject it for C{retry_interval}. Then one exchange at a time is let through
as a trial: when one succeeds the backend is back, when one fails it is out again, for twice as long as the time before,
up to ten times C{retry_interval}. A success between failures does not forget them: a backend that fails every second
exchange has to go.

In panic (L{lemmytx.cluster.cluster}) one that is out gets exchanges before its time is over. Those are no trials that
it could fail: it is out already, and each of them would make that longer. One that succeeds brings it back all the
same.

How many backends of a cluster may be out is not known here, so the caller says whether there is room
(L{most_ejected}). Times are what the caller's clock says, in seconds; nothing here reads a clock.

  ========  =======================  ============================================  ==========================
  state     C{failed}                C{succeeded}                                  C{left} (without a verdict)
  ========  =======================  ============================================  ==========================
  fine      suspect, or out          -                                             -
  suspect   suspect, or out          fine when the last failure is out of window   -
  out       - (it was under way)     - (it was under way)                          -
  in panic  -                        fine                                          -
  on trial  out, for longer          fine                                          out, free for another trial
  ========  =======================  ============================================  ==========================
"""

from __future__ import annotations

from collections import deque
from math import floor

#: The longest time out, in multiples of C{retry_interval}.
LONGEST = 10


def most_ejected(backends: int, share: float) -> int:
    """
    How many backends of a cluster may be out passively at one time. A lone backend never is, at the usual half.

    @param backends: how many it has.
    @param share: from 0 to 1.
    """
    # 0.29 × 100 is 28.999999999999996, and nobody means 28.
    return floor(backends * share + 1e-9)


class Passive:
    """
    The state machine.

    @ivar max_fails: failures that eject; 0 = never.
    @ivar fail_window: seconds within which they must come.
    @ivar retry_interval: seconds out after the first ejection in a row.
    @ivar suspect: whether there is anything to tell it at all; while L{False}, C{succeeded}, C{began} and C{left} need
        not be called.
    @ivar ejected: whether it is out. True during trials too.
    @ivar until: from when on trials are let through; means nothing while not ejected.
    @ivar trying: whether a trial is under way.
    """

    __slots__ = (
        "_fails", "_in_a_row", "_trial", "ejected", "fail_window", "max_fails", "retry_interval", "suspect", "trying",
        "until",
    )  # fmt: skip

    def __init__(self, max_fails: int = 3, fail_window: float = 10.0, retry_interval: float = 10.0) -> None:
        self.max_fails = max_fails
        self.fail_window = fail_window
        self.retry_interval = retry_interval
        self.suspect = False
        self.ejected = False
        self.until = 0.0
        self.trying = False
        self._trial: object = None
        self._in_a_row = 0
        # Made at the first failure: most backends have none, and it is as large as all the rest.
        self._fails: deque[float] | None = None

    def configure(self, max_fails: int, fail_window: float, retry_interval: float) -> None:
        """Other settings from now on. What is known of the backend stays; one that is out stays out for its time."""
        self.max_fails = max_fails
        self.fail_window = fail_window
        self.retry_interval = retry_interval
        if self._fails is not None:
            self._fails = deque(self._fails, maxlen=max_fails)
        if not max_fails:
            self._end_trial()
            self.ejected = self.suspect = False
            self._in_a_row = 0

    def may_try(self, now: float) -> bool:
        """Whether an exchange may go to it: always, unless it is out; then one at a time once the time is over."""
        return not self.ejected or (now >= self.until and not self.trying)

    def began(self, exchange: object = None) -> None:
        """
        An exchange that L{may_try} let through goes to it. While it is out this is a trial.

        @param exchange: whatever C{left} is called with; so exchanges that were under way before the ejection are not
            taken for the trial.
        """
        if self.ejected:
            self.trying = True
            self._trial = exchange

    def left(self, exchange: object = None) -> None:
        """An exchange is over, with or without a verdict. After C{failed} or C{succeeded} this changes nothing."""
        if self.trying and self._trial is exchange:
            self._end_trial()

    def failed(self, now: float, room: bool = True) -> bool:
        """
        An exchange failed by the backend's fault.

        @param room: whether the cluster can do without it. When not, it stays, and the next failure asks again.
        @return: whether that ejects it, for the first time or anew after a trial.
        """
        if not self.max_fails:
            return False
        if self.ejected:
            if not self.trying or now < self.until:
                return False
            self._eject(now)
            return True
        fails = self._fails
        if fails is None:
            # No more than max_fails are ever needed, however many exchanges fail at once.
            fails = self._fails = deque(maxlen=self.max_fails)
        fails.append(now)
        self._forget(now)
        self.suspect = True
        if len(fails) < self.max_fails or not room:
            return False
        self._eject(now)
        return True

    def succeeded(self, now: float) -> bool:
        """
        An exchange went well. Need not be called while C{suspect} is L{False}.

        @return: whether that brings it back.
        """
        if self.ejected:
            if not self.trying:
                return False
            self._end_trial()
            self.ejected = self.suspect = False
            self._in_a_row = 0
            return True
        self._forget(now)
        self.suspect = bool(self._fails)
        return False

    def _forget(self, now: float) -> None:
        """Drop the failures that are out of the window."""
        fails = self._fails
        while fails and fails[0] <= now - self.fail_window:
            fails.popleft()

    def _eject(self, now: float) -> None:
        self._end_trial()
        self._fails = None
        self.ejected = self.suspect = True
        # min() first: after a night of trials the power alone would not fit into a float.
        self.until = now + self.retry_interval * min(LONGEST, 2 ** min(self._in_a_row, LONGEST))
        self._in_a_row += 1

    def _end_trial(self) -> None:
        self.trying = False
        self._trial = None

    def __repr__(self) -> str:
        if self.ejected:
            return f"<Passive {'on trial' if self.trying else 'ejected'} until={self.until:g}>"
        return f"<Passive {'suspect' if self.suspect else 'fine'} fails={len(self._fails or ())}>"
