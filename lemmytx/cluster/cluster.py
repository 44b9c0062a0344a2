"""
A cluster: backends that can stand in for each other, and the rules by which one is chosen.

The scheduler is offered candidates that are left after everything else was looked at: administrative state, a known
address, passive health, role, capacity, what this exchange has tried. As long as nothing of that depends on the single
request (no capacities, nobody ejected, no retry) the candidates are one tuple that changes only when a state does, and
a choice is one call of the scheduler.

Roles decide in this order:

  1. active backends with room;
  2. when every active one is full or none is available: standby ones with room;
  3. when no active one is available at all, whether full or not: backup ones with room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from twisted.logger import Logger

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.passive import most_ejected
from lemmytx.interfaces import IScheduler


class Rules:
    """
    What holds for every exchange with a cluster.

    @ivar attempts: how many backends an exchange tries at the most.
    @ivar replay: how many bytes of a request body are held for another attempt.
    @ivar retry_on: statuses of a response that lead to another attempt.
    @ivar non_idempotent: whether such a status does so for POST and PATCH too.
    @ivar fail_on: statuses of a response that count as a failure of the backend.
    @ivar connect: seconds for a connection to be made.
    @ivar read: seconds between two reads from a backend that has the whole request.
    @ivar write: seconds that a backend may refuse to take more of a request.
    @ivar own_host: whether the backend gets its own name as Host instead of the client's.
    @ivar max_ejected: the share of the backends that may be out passively at one time, 0 to 1.
    """

    __slots__ = (
        "attempts", "connect", "fail_on", "max_ejected", "non_idempotent", "own_host", "read", "replay", "retry_on",
        "write",
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
    ) -> None:
        self.attempts = attempts
        self.replay = replay
        self.retry_on = retry_on
        self.non_idempotent = non_idempotent
        self.fail_on = fail_on
        self.connect = connect
        self.read = read
        self.write = write
        self.own_host = own_host
        self.max_ejected = max_ejected


#: At least so many retries may run at one time in a cluster, and at most this share of its active exchanges
#: (Envoy's retry budget): retries must not turn a slow backend into a flood on the others.
RETRIES_AT_LEAST = 3
RETRY_SHARE = 0.2


class Cluster:
    """
    Interchangeable backends.

    @ivar candidates: the active backends that are available, whether full or not; in the order of the configuration.
    @ivar retrying: retries under way.
    @ivar scheduler_failures: how often the scheduler raised or returned what was not offered.
    """

    __slots__ = (
        "_guarded", "_log", "_recheck_at", "_seconds", "_turn", "_warned", "backends", "candidates", "name",
        "retrying", "rules", "scheduler", "scheduler_failures",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        backends: Sequence[Backend],
        scheduler: IScheduler,
        rules: Rules,
        seconds: Callable[[], float],
        log: Logger | None = None,
    ) -> None:
        """
        @param seconds: the clock by which backends are ejected and come back; the one that C{started} of an
            exchange is read from.
        """
        self.name = name
        self.candidates: tuple[Backend, ...] = ()
        self.retrying = 0
        self.scheduler_failures = 0
        self._seconds = seconds
        self._log = log or Logger(namespace="lemmytx.cluster")
        self._guarded = False
        self._recheck_at = inf
        self._turn = 0
        self._warned = False
        self.backends: tuple[Backend, ...] = ()
        self.configure(backends, scheduler, rules)

    def configure(self, backends: Sequence[Backend], scheduler: IScheduler, rules: Rules) -> None:
        """
        Other members, another scheduler, other rules, from the next choice on. Exchanges that are under way, and the
        budget of retries, are not touched; a backend that is no member any more gets nothing new.

        @param backends: those that stay are the same objects, with all that is known of them.
        @param scheduler: the present one, or another.
        """
        for backend in self.backends:
            if backend not in backends:
                backend.retire()
        self.backends = tuple(backends)
        self.rules = rules
        if scheduler is not getattr(self, "scheduler", None):
            self.scheduler = scheduler
            self._warned = False
        for backend in self.backends:
            backend.changed = self.changed
        try:
            scheduler.update(self.backends)
        except BaseException as error:  # a plugin's, in the middle of a change that must come to its end
            self._told(f"raised {error!r} when told of the members")
        self.changed()

    def dissolve(self) -> None:
        """It is not wanted any more. What is under way may end, and may still be retried on its backends."""
        for backend in self.backends:
            backend.retire()

    @property
    def active(self) -> int:
        """Exchanges on all backends now."""
        return sum(backend.active for backend in self.backends)

    def changed(self) -> None:
        """The state of a backend changed: work out anew who can be chosen, and until when that holds."""
        now = self._seconds()
        self.candidates = tuple(b for b in self.backends if b.role == "active" and self._available(b, now))
        suspects = [b for b in self.backends if b.passive.suspect]
        # A single request matters where a capacity can run out, where a backend is on trial (one request at a time),
        # and where the stand-ins have to do.
        ejected = any(b.passive.ejected for b in suspects)
        self._guarded = ejected or not self.candidates or any(b.capacity for b in self.backends)
        self._recheck_at = min(
            (b.passive.until for b in suspects if b.passive.ejected and b.passive.until > now), default=inf
        )

    @staticmethod
    def _available(backend: Backend, now: float) -> bool:
        return (
            backend.state == "ready"
            and backend.located
            and (not backend.passive.ejected or backend.passive.until <= now)
        )

    def choose(self, exchange: Any) -> Backend | None:
        """
        Called once per attempt, on the way of a request.

        @param exchange: an L{lemmytx.interfaces.IRequest} with the attribute C{tried}, the backends it has been to.
        @return: a backend; L{None} when there is none that can take the request now.
        """
        if self._guarded or exchange.tried:
            candidates = self._offered(exchange.tried)
            if not candidates:
                return None
        else:
            candidates = self.candidates
        if len(candidates) == 1:
            return candidates[0]
        try:
            backend = self.scheduler.choose(candidates, exchange)
        except BaseException as error:  # a plugin's sys.exit() must not end the proxy, and signals do not raise here
            return self._in_turn(candidates, f"raised {error!r}")
        if isinstance(backend, Backend) and backend in candidates:
            return backend
        return self._in_turn(candidates, f"returned {backend!r}, which was not offered")

    def _offered(self, tried: tuple[Backend, ...]) -> tuple[Backend, ...]:
        """The candidates for one request, where each has to be looked at."""
        now = self._seconds()
        if now >= self._recheck_at:
            self.changed()
        available = self.candidates
        offered = self._with_room(available, tried, now)
        if offered:
            return offered
        for role in ("standby", "backup"):
            if role == "backup" and available:
                break
            others = [b for b in self.backends if b.role == role and self._available(b, now)]
            offered = self._with_room(others, tried, now)
            if offered:
                return offered
        return ()

    @staticmethod
    def _with_room(backends: Sequence[Backend], tried: tuple[Backend, ...], now: float) -> tuple[Backend, ...]:
        return tuple(
            b
            for b in backends
            if b not in tried
            and (not b.capacity or b.active < b.room)
            and (not b.passive.suspect or b.passive.may_try(now))
        )

    def _in_turn(self, candidates: tuple[Backend, ...], what: str) -> Backend:
        """The scheduler failed this request: plain round robin serves it."""
        self.scheduler_failures += 1
        self._told(what)
        self._turn += 1
        return candidates[self._turn % len(candidates)]

    def _told(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            self._log.error(
                "cluster {cluster}: the scheduler {scheduler!r} {what}; such requests go round robin"
                " (told once, counted always)",
                cluster=self.name,
                scheduler=self.scheduler,
                what=what,
            )

    def full(self) -> bool:
        """Whether the reason for having nobody to choose is that all who are available are at capacity."""
        now = self._seconds()
        return any(b.capacity and b.active >= b.room and self._available(b, now) for b in self.backends)

    def may_retry(self) -> bool:
        """Whether the budget has room for one more retry."""
        return self.retrying < max(RETRIES_AT_LEAST, RETRY_SHARE * self.active)

    def failed(self, backend: Backend, kind: str, why: str) -> None:
        """
        A backend failed an exchange.

        @param kind: a short word for the counters: C{refused}, C{tls}, C{timeout}, C{gone}, C{malformed},
            C{status}.
        @param why: one sentence for the log.
        """
        backend.failures[kind] = backend.failures.get(kind, 0) + 1
        now = self._seconds()
        passive = backend.passive
        if passive.failed(now, self._room_for_ejection(backend)):
            backend.close_idle()
            self._log.warn(
                "cluster {cluster}: backend {backend} is out for {seconds:g} s: {why}",
                cluster=self.name,
                backend=backend.name,
                seconds=passive.until - now,
                why=why,
            )
        self.changed()

    def _room_for_ejection(self, backend: Backend) -> bool:
        out = sum(b.passive.ejected for b in self.backends if b is not backend)
        return out + 1 <= most_ejected(len(self.backends), self.rules.max_ejected)

    def succeeded(self, backend: Backend) -> None:
        """A backend that was suspect (C{backend.passive.suspect}) served an exchange."""
        if backend.passive.succeeded(self._seconds()):
            self._log.info("cluster {cluster}: backend {backend} is back", cluster=self.name, backend=backend.name)
        if not backend.passive.suspect:
            self.changed()

    def __repr__(self) -> str:
        return f"<Cluster {self.name} candidates={len(self.candidates)}/{len(self.backends)} active={self.active}>"
