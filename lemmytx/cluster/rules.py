"""
The rules of a cluster, and of the queue before it: what the configuration says, in the words of the data path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lemmytx.balance.buckets import Share
from lemmytx.cluster.breaker import BreakerRules
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.sticky import Sticky

#: At least so many retries may run at one time in a cluster, and at most this share of its active exchanges
#: (Envoy's retry budget): retries must not turn a slow backend into a flood on the others.
RETRIES_AT_LEAST = 3
RETRY_SHARE = 0.2

#: The bucket of requests for which nobody names one, where there is a bucket of that name.
USUAL = "main"


class QueueRules(NamedTuple):
    """
    How requests wait.

    @ivar limit: how many in each bucket; 0 = none.
    @ivar timeout: seconds, at the most.
    @ivar retry_after: seconds after which a client should come again that found the queue full.
    @ivar on_unavailable: whether they wait also while there is no backend that could take any.
    @ivar buckets: those below the root. With them, every active backend has a capacity.
    @ivar usual: the name of the bucket for requests that name none; L{None}: C{USUAL} if there is one, else the root.
    @ivar classify: names the bucket of an L{lemmytx.interfaces.IRequest}, or says L{None}.
    """

    limit: int = 1000
    timeout: float = 30.0
    retry_after: int = 30
    on_unavailable: bool = True
    buckets: tuple[Share, ...] = ()
    usual: str | None = None
    classify: Callable[[Any], object] | None = None


class Rules:
    """
    What holds for every exchange with a cluster.

    @ivar attempts: how many backends an exchange tries at the most.
    @ivar replay: how many bytes of a request body are held for another attempt.
    @ivar retry_on: statuses of a response that lead to another attempt.
    @ivar retry_reset: whether a new connection that ends before any byte of a response does so as well.
    @ivar non_idempotent: whether that holds for POST and PATCH too.
    @ivar fail_on: statuses of a response that count as a failure of the backend.
    @ivar connect: seconds for a connection to be made.
    @ivar read: seconds between two reads from a backend that has the whole request.
    @ivar write: seconds that a backend may refuse to take more of a request.
    @ivar own_host: whether the backend gets its own name as Host instead of the client's.
    @ivar max_ejected: the share of the backends that may be out passively at one time, 0 to 1.
    @ivar queue: how requests wait that nobody can take now; L{None}: they do not.
    @ivar sticky: what binds clients to backends; L{None}: they are not bound.
    @ivar slow_start: seconds until a backend that comes back has all of its weight; 0 = at once.
    @ivar panic: when less than this share of the backends is up, their health is ignored; 0 to 1, 0: never.
    @ivar budget: the share of the active exchanges that may be retries, 0 to 1; C{budget_at_least}: so many always may.
    @ivar try_timeout: seconds until the head of a response after which another backend is tried; 0 = that is C{read}'s.
    @ivar backoff: seconds, of the first pause before all backends are tried anew, and of the longest; L{None}: none is
        tried twice.
    @ivar hedge: when a second request is sent beside one that takes long; L{None}: never.
    @ivar breaker: when the whole cluster is left alone for a while; L{None}: never.
    """

    __slots__ = (
        "attempts", "backoff", "breaker", "budget", "budget_at_least", "connect", "fail_on", "hedge", "max_ejected",
        "non_idempotent", "own_host", "panic", "queue", "read", "replay", "retry_on", "retry_reset", "slow_start",
        "sticky", "try_timeout", "write",
    )  # fmt: skip

    def __init__(
        self,
        attempts: int = 2,
        replay: int = 64 * 1024,
        retry_on: frozenset[int] = frozenset(),
        non_idempotent: bool = False,
        fail_on: frozenset[int] = frozenset((502, 503, 504)),
        connect: float = 4.0,
        read: float = 30.0,
        write: float = 8.0,
        own_host: bool = False,
        max_ejected: float = 0.5,
        panic: float = 0.0,
        slow_start: float = 0.0,
        queue: QueueRules | None = None,
        sticky: Sticky | None = None,
        budget: float = RETRY_SHARE,
        budget_at_least: int = RETRIES_AT_LEAST,
        try_timeout: float = 0.0,
        backoff: tuple[float, float] | None = None,
        hedge: HedgeRules | None = None,
        breaker: BreakerRules | None = None,
        retry_reset: bool = False,
    ) -> None:
        self.attempts = attempts
        self.replay = replay
        self.retry_on = retry_on
        self.retry_reset = retry_reset
        self.non_idempotent = non_idempotent
        self.fail_on = fail_on
        self.connect = connect
        self.read = read
        self.write = write
        self.own_host = own_host
        self.max_ejected = max_ejected
        self.panic = panic
        self.slow_start = slow_start
        self.queue = queue
        self.sticky = sticky
        self.budget = budget
        self.budget_at_least = budget_at_least
        self.try_timeout = try_timeout
        self.backoff = backoff
        self.hedge = hedge
        self.breaker = breaker
