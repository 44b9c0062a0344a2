"""
Whether a request is sent once more, and where to (semantics of a retry: RFC 9110 §9.2.2, RFC 9112 §9.3.1).

In all cases everything that was sent of it must still be held. Beyond that::

    failure                              once more                  if
    no connection could be made          on another backend (*)     -: nothing was sent
    no response within C{try_timeout}    on another backend (*)     the method is idempotent, or C{non_idempotent}, or
                                                                    nothing was sent; else it is waited for
    a reused connection died unanswered  on the same backend, on    the method is idempotent or nothing was sent;
                                         a new connection           once for an exchange
    a status of C{retry.on}              on another backend (*)     the method is idempotent, or C{non_idempotent}
    a connection ended before any byte   on another backend (*)     C{retry.on} has C{reset}, and the method is
    of a response, and there was no                                 idempotent, or C{non_idempotent}, or nothing was
    chance as above                                                 sent
    any other                            no                         -

(*) when C{attempts} leaves one, the cluster's budget has room, and there is a backend that has not failed it yet. Is
that one at capacity, a request that would fail otherwise waits for it, where the cluster has a queue; one that has an
answer, or may still get one, does not. Where
C{backoff} says so, and there is none left that has not, all of them may be tried anew after a pause: a random time up
to C{first}, twice as long before each further pass, and never longer than C{most} ("full jitter": those that failed
together do not come back together). A backend whose answer had a Retry-After is not asked again before then; if all
have, the pause lasts until the first of them may be, and when that is more than C{most} away the answer stands. No
pause reaches beyond C{read} seconds after the exchange's start.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from random import uniform
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IDelayedCall

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.queue import Queue
from lemmytx.message import IDEMPOTENT, ResponseHead
from lemmytx.proxy.carrier import Carrier

if TYPE_CHECKING:
    from lemmytx.proxy.attempts import Attempts


class Pending(Protocol):
    """What an exchange waits for before it has somebody to send its request to."""

    def cancel(self) -> None:
        """It does not any more."""


class Pause:
    """
    The time before a new pass over all backends.

    @ivar seconds: how long.
    """

    __slots__ = ("_call", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._call: IDelayedCall | None = None

    def start(self, exchange: Attempts) -> None:
        """Begin; C{exchange.try_anew} is called when it is over, unless L{cancel} comes first."""

        def over() -> None:
            self._call = None
            exchange.try_anew()

        self._call = exchange.resource.ticker.later(self.seconds, over)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None


class Retry:
    """
    What an exchange has used up of its chances. Made at its first failure, so most exchanges never have one. It
    decides, and takes from the cluster's budget; sending is the exchange's.
    """

    __slots__ = ("_before", "_cluster", "_passes", "_redialled", "_resting", "_retrying")

    def __init__(self, cluster: Cluster, before: int = 0) -> None:
        """
        @param before: how often the exchange was sent to backends of other clusters.
        """
        self._before = before
        self._cluster = cluster
        self._passes = 0
        self._redialled = False
        self._resting: dict[Backend, float] = {}  # until when each wants not to be asked
        self._retrying = False  # counted in the cluster's budget

    def elsewhere(self, exchange: Any, replayable: bool, patient: bool = False) -> Backend | Pause | Queue | None:
        """
        Another backend than those that the exchange has tried, the last of which has got nothing of it.

        @param replayable: whether the whole request can be sent again.
        @param patient: whether it may wait for one that is at capacity, since else it would fail.
        @return: the one to send it to, now; or what comes before that, to be started; or the queue to wait in;
            L{None}: it may not be sent, or there is nobody.
        """
        rules = self._cluster.rules
        if not replayable or exchange.attempts - self._before >= rules.attempts:
            return None
        return self._begin(exchange, patient)

    def instead(
        self, exchange: Any, replayable: bool, rest: float = 0.0, patient: bool = False
    ) -> Backend | Pause | Queue | None:
        """
        Another backend than those that the exchange has tried, the last of which gave an answer that is worth another
        attempt, or none at all, or none in time. Parameters and result as for L{elsewhere}; with L{None} the answer
        stands, or is waited for.

        @param rest: for how many seconds that backend wants not to be asked again.
        """
        rules = self._cluster.rules
        if exchange.head.method not in IDEMPOTENT and not rules.non_idempotent:
            return None
        if rest > 0.0 and rules.backoff is not None:
            self._resting[exchange.tried[-1]] = exchange.resource.ticker.seconds() + rest
        return self.elsewhere(exchange, replayable, patient)

    def redial(self, method: bytes, upstream: Carrier, replayable: bool) -> bool:
        """
        Whether a request whose reused connection has died goes to the same backend again. That is the price of keeping
        connections open, so it is neither an attempt nor a failure of the backend, and takes nothing from the budget.

        @return: the chance is used up if so.
        """
        if self._redialled or upstream.answered or not replayable:
            return False
        if method not in IDEMPOTENT and not upstream.refused:
            return False
        self._redialled = True
        return True

    def resting(self, now: float) -> tuple[Backend, ...]:
        """Those that want not to be asked yet."""
        return tuple(backend for backend, until in self._resting.items() if until > now)

    def _begin(self, exchange: Any, patient: bool) -> Backend | Pause | Queue | None:
        cluster = self._cluster
        other: Backend | Pause | Queue | None = cluster.choose(exchange)
        if other is None and patient and cluster.queue is not None and cluster.queue.may_wait_again(exchange):
            other = cluster.queue
        if other is None:
            other = self._pause(exchange)
        if other is None or not (self._retrying or cluster.may_retry()):
            return None
        cluster.retries += 1
        if not self._retrying:
            self._retrying = True
            cluster.retrying += 1
        if isinstance(other, Pause):
            self._passes += 1
        return other

    def _pause(self, exchange: Any) -> Pause | None:
        """What comes before a new pass over the backends, if there may be one."""
        rules = self._cluster.rules
        if rules.backoff is None:
            return None
        first, most = rules.backoff
        now = exchange.resource.ticker.seconds()
        rest = min((self._resting.get(backend, now) - now for backend in exchange.tried), default=0.0)
        if rest > most:
            return None
        seconds = max(uniform(0.0, min(most, first * 2.0**self._passes)), rest)
        return Pause(seconds) if now + seconds < exchange.started + rules.read else None

    def answered(self) -> None:
        """
        The retry is over, by an answer or without one. A long download or a tunnel that followed from it is an exchange
        like any other and takes nothing from the budget: else three tunnels would use it up for hours.
        """
        if self._retrying:
            self._retrying = False
            self._cluster.retrying -= 1


def retry_after(head: ResponseHead) -> float:
    """
    @return: in how many seconds its Retry-After (RFC 9110 §10.2.3) wants the next request; 0 where it has none that can
        be read.
    """
    value = head.field(b"retry-after")
    if value is None:
        return 0.0
    if value.isdigit():
        return float(value[:9])
    try:
        at = parsedate_to_datetime(value.decode("ascii"))
        return max(0.0, at.timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
