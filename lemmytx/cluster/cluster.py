"""
A cluster: backends that can stand in for each other, and the rules by which one is chosen.

The scheduler is offered candidates that are left after everything else was looked at: administrative state, a known
address, passive health, role, capacity, what this exchange has tried. But for the last, and while somebody is on trial,
these are one tuple (C{_open}), which is worked out anew by the next choice after something has changed: a state, or
that a backend has become full or has room again, which it tells (C{Backend.watch}). So a choice is one call of the
scheduler. Where there are many backends, and a scheduler that can, it is that in any case
(L{lemmytx.cluster.followed}).

Roles decide in this order:

  1. active backends with room;
  2. when every active one is full or none is available: standby ones with room;
  3. when no active one is available at all, whether full or not: backup ones with room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from twisted.logger import Logger

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.breaker import CLOSED, OPEN, Breaker
from lemmytx.cluster.explain import Explanation, explain
from lemmytx.cluster.followed import FEW, Followed
from lemmytx.cluster.health import printable, shown
from lemmytx.cluster.hedging import Delay
from lemmytx.cluster.passive import most_ejected
from lemmytx.cluster.queue import Queue
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.subsets import Labels, outside, subset_of
from lemmytx.cluster.warming import Warming
from lemmytx.interfaces import IFollowingScheduler, IObservingScheduler, IScheduler
from lemmytx.message import ResponseHead


class Cluster:
    """
    Interchangeable backends.

    @ivar candidates: the active backends that are available, whether full or not; in the order of the configuration.
    @ivar queue: where requests wait that nobody can take now, and the buckets; L{None} where none ever did.
    @ivar gate: the queue while it is to be asked for a backend instead of us; L{None} while nobody waits and there are
        no buckets.
    @ivar panicking: whether so few backends are up that their health is ignored.
    @ivar observer: takes the answers of backends, for a scheduler that learns from them: backend, seconds, head and
        time, as L{IObservingScheduler.answered} has them; L{None} where nobody wants to know.
    @ivar breaker: the circuit breaker, C{fallback}: where requests go that it turns away; L{None}: there is none.
    @ivar failover: where requests go while no backend is up; L{None}: nowhere.
    @ivar hedge: when a second request is sent beside one that takes long; L{None}: never.
    @ivar ejected: called with its name and a backend that failures have put out; L{None}: nobody wants to know.
    @ivar labelled: whether a member has labels, so that there may be requests for some of them alone.
    @ivar retrying: retries under way, hedges included.
    @ivar retries: how many there were, C{retries_refused}: for how many the budget had no room, C{hedges}: requests
        that were sent beside others, C{hedge_wins}: those that were answered first, C{failovers}: requests that went to
        C{failover}; all since the start.
    @ivar scheduler_failures: how often the scheduler raised or returned what was not offered.
    @ivar turned_away: requests that no backend could take, by the reason: C{overloaded}, C{no_backend}, C{queue_full},
        C{timeout_queue}.
    """

    __slots__ = (
        "_begun", "_followed", "_known", "_log", "_open", "_recheck_at", "_seconds", "_steady", "_subsets", "_turn",
        "_warming", "_warned", "backends", "breaker", "candidates", "ejected", "failover", "failovers", "fallback",
        "gate", "hedge", "hedge_wins", "hedges", "labelled", "name", "observer", "panicking", "queue", "retries",
        "retries_refused", "retrying", "rules", "scheduler", "scheduler_failures", "turned_away",
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
        self.gate: Queue | None = None
        self.queue: Queue | None = None
        self.panicking = False
        self.observer: Callable[[Backend, float, ResponseHead, float], None] | None = None
        self.breaker: Breaker | None = None
        self.ejected: Callable[[str, Backend], None] | None = None
        self.failover: Cluster | None = None
        self.fallback: Cluster | None = None
        self.hedge: Delay | None = None
        self.failovers = self.hedges = self.hedge_wins = self.retries = self.retries_refused = 0
        self.retrying = 0
        self.scheduler_failures = 0
        self.turned_away: dict[str, int] = {}
        self._seconds = seconds
        self._log = log or Logger(namespace="lemmytx.cluster")
        self._begun = False
        self._followed: Followed | None = None
        #: Who can take a request that has been nowhere yet; L{None}: it is to be worked out anew. C{_known}: the same.
        self._open: tuple[Backend, ...] | None = None
        self._known: frozenset[Backend] = frozenset()
        #: C{candidates} of each subset that was asked for.
        self._subsets: dict[Labels, tuple[Backend, ...]] = {}
        self.labelled = False
        #: Whether that stays so until something is told.
        self._steady = True
        self._recheck_at = inf
        self._turn = 0
        self._warming = Warming()
        self._warned = False
        self.backends: tuple[Backend, ...] = ()
        self.scheduler = scheduler
        self.configure(backends, scheduler, rules)

    def configure(self, backends: Sequence[Backend], scheduler: IScheduler, rules: Rules) -> None:
        """
        Other members, another scheduler, other rules, from the next choice on. Exchanges that are under way, and the
        budget of retries, are not touched; a backend that is no member any more gets nothing new.

        @param backends: those that stay are the same objects, with all that is known of them.
        @param scheduler: the present one, or another.
        """
        present, members = set(self.backends), set(backends)
        for backend in present - members:
            backend.retire()
        if self._begun:
            for backend in members - present:
                self._warming.added(backend)
        self._begun = True
        self._warming.keep(members)
        self.backends = tuple(backends)
        self.rules = rules
        if scheduler is not self.scheduler:
            self.scheduler = scheduler
            self._warned = False
        self.observer = self._observe if IObservingScheduler.providedBy(scheduler) else None
        self.labelled = any(backend.labels for backend in members)
        # One that follows many admits them for every request alike, which labels do not let it.
        many = len(members) > FEW and not self.labelled
        following: Any = scheduler if many and IFollowingScheduler.providedBy(scheduler) else None
        self._followed = None if following is None else Followed(following, self._seconds, self._failed)
        if self.queue is not None:
            self.queue.configure(rules.queue or QueueRules(limit=0, on_unavailable=False))
        elif rules.queue is not None:
            self.queue = Queue(self, rules.queue)
        self._configure_second_chances(rules)
        changed, moved = self.changed, self._moved  # one of each for all
        for backend in self.backends:
            backend.changed = changed
            backend.watch = moved if backend.capacity else None
        self._update()
        self.changed()

    def _configure_second_chances(self, rules: Rules) -> None:
        """What stays the same object keeps what it knows."""
        if rules.breaker is None:
            self.breaker = None
        elif self.breaker is None:
            self.breaker = Breaker(rules.breaker, self._breaker_changed)
        else:
            self.breaker.configure(rules.breaker)
        if rules.hedge is None:
            self.hedge = None
        elif self.hedge is None:
            self.hedge = Delay(rules.hedge)
        else:
            self.hedge.configure(rules.hedge)

    def _breaker_changed(self, before: str, state: str, why: str) -> None:
        # Trials that fail come again with each `open_for`: that the breaker is still open is no news.
        known = before != CLOSED and state != CLOSED
        tell = self._log.debug if known else self._log.warn if state == OPEN else self._log.info
        tell("cluster {cluster}: the circuit breaker is {state}: {why}", cluster=self.name, state=state, why=why)

    def _update(self) -> None:
        """The scheduler is to know: other members, or other weights."""
        try:
            self.scheduler.update(self.backends)
        except BaseException as error:  # a plugin's, in the middle of a change that must come to its end
            self._told(f"raised {shown(error)} when told of the members")
        if self._followed is not None:
            self._followed.begin(self.backends)

    def dissolve(self) -> None:
        """It is not wanted any more. What is under way may end, and may still be retried on its backends."""
        for backend in self.backends:
            watch = backend.watch
            backend.retire()
            backend.watch = watch  # whoever still waits here needs to know who has room
        if self.queue is not None:
            self.queue.dissolve()

    @property
    def active(self) -> int:
        """Exchanges on all backends now."""
        return sum(backend.active for backend in self.backends)

    def changed(self) -> None:
        """The state of a backend changed: work out anew who can be chosen, and until when that holds."""
        now = self._seconds()
        self._look_for_panic()
        if self._warming.look(self.backends, self.rules.slow_start, now):
            self._update()
        candidates = tuple(b for b in self.backends if b.role == "active" and self._available(b, now))
        if candidates != self.candidates:
            self.candidates = candidates
        suspects = [b for b in self.backends if b.passive.suspect]
        # Whether the one request that a backend on trial gets has begun, and has ended, is not told.
        self._steady = not any(b.passive.ejected and b.passive.until <= now for b in suspects)
        self._open = None
        self._subsets.clear()
        out = [b.passive.until for b in suspects if b.passive.ejected and b.passive.until > now]
        self._recheck_at = min([*out, self._warming.next])
        if self._followed is not None:
            self._followed.offer(self.candidates, self.panicking)
        if self.queue is not None:
            self.queue.changed()

    def standing_in(self, role: str) -> list[Backend]:
        """The available ones that are not active, of one role."""
        now = self._seconds()
        return [b for b in self.backends if b.role == role and self._available(b, now)]

    def back_at(self) -> float:
        """When the next of those that are out for a time may be tried; L{math.inf} when none is."""
        now = self._seconds()
        return min((b.passive.until for b in self.backends if b.passive.ejected and b.passive.until > now), default=inf)

    def _look_for_panic(self) -> None:
        """
        When most backends seem to be down it is more likely that they are overloaded, or that we see things: the few
        that are left would be down next.
        """
        threshold = self.rules.panic
        panicking = False
        if threshold:
            # One without an address could not be used in any case; at the start that is each of them for a moment.
            wanted = [b for b in self.backends if b.state == "ready" and b.located]
            up = sum(b.health in ("up", "going_down") for b in wanted)
            panicking = up < threshold * len(wanted) - 1e-9
            if panicking is not self.panicking:
                (self._log.warn if panicking else self._log.info)(
                    "cluster {cluster}: {up} of {count} backends are up, and {threshold:.4g} % are to be: {what}",
                    cluster=self.name,
                    up=up,
                    count=len(wanted),
                    threshold=threshold * 100,
                    what="health is ignored until more are" if panicking else "health counts again",
                )
        self.panicking = panicking

    def _available(self, backend: Backend, now: float) -> bool:
        return backend.state == "ready" and backend.located and (self.panicking or backend.well(now))

    def choose(self, exchange: Any) -> Backend | None:
        """
        Called once per attempt, on the way of a request.

        @param exchange: an L{lemmytx.interfaces.IRequest} with the attribute C{tried}, the backends it has been to.
        @return: a backend; L{None} when there is none that can take the request now.
        """
        subset = subset_of(self, exchange) if self.labelled else None
        if self.rules.sticky is not None and not exchange.tried:
            bound = self.rules.sticky.bound(self, exchange)
            if subset and exchange.binding.backend is not None and outside(exchange.binding.backend, subset):
                exchange.binding.spilled = False  # as one that is gone: whoever answers binds the client anew
            elif bound is not None:
                return bound
        if self._recheck_at < inf and self._seconds() >= self._recheck_at:
            self.changed()
        if self._followed is not None:
            return self._follow(exchange)
        if exchange.tried or subset:
            candidates = self._offered(exchange.tried, subset)
        else:
            offered = self._open
            candidates = self._look() if offered is None else offered
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        try:
            backend = self.scheduler.choose(candidates, exchange)
            if isinstance(backend, Backend) and backend in (self._known if candidates is self._open else candidates):
                return backend
        except BaseException as error:  # a plugin's sys.exit() must not end the proxy, and signals do not raise here
            return self._in_turn(candidates, f"raised {shown(error)}")
        return self._in_turn(candidates, f"returned {shown(backend)}, which was not offered")

    def _look(self) -> tuple[Backend, ...]:
        """Who can take a request that has been nowhere yet."""
        found = self._offered(())
        if self._steady:
            self._open = found
            self._known = frozenset(found)
        return found

    def _moved(self, backend: Backend) -> None:
        """C{active} of a backend with a capacity has changed: it may have become full, or have room again."""
        if -1 <= backend.active - backend.room <= 0:
            self._open = None

    def _follow(self, exchange: Any) -> Backend | None:
        """The same, out of many."""
        followed = self._followed
        assert followed is not None
        tried = exchange.tried
        others: tuple[Backend, ...] = ()
        if not followed.can_take(tried):
            if not followed.stand_ins:
                return None
            others = self._offered(tried)
            if not others:
                return None
        try:
            backend = followed.choose(exchange, tried, others)
            if isinstance(backend, Backend) and backend in (others or followed.open) and backend not in tried:
                followed.picked(backend)
                return backend
        except BaseException as error:  # as above
            return self._in_turn(others or self._offered(tried), f"raised {shown(error)}")
        return self._in_turn(others or self._offered(tried), f"returned {shown(backend)}, which was not offered")

    def explain(self, request: Any) -> Explanation:
        """
        Where a request would go now, and why. Nothing changes by it. It takes its time.

        @param request: an L{lemmytx.interfaces.IRequest}; where it has C{tried}, these are left out.
        """
        return explain(self, request)

    def now(self) -> float:
        """The time on the clock of ejections."""
        return self._seconds()

    def obstacle(self, backend: Backend, states: tuple[str, ...] = ("ready",)) -> str:
        """
        Why a member cannot take a request that is for it alone.

        @param states: those of the administrative states in which it may.
        @return: C{state}, C{health} or C{full}; empty when it can.
        """
        if backend.state not in states:
            return "state"
        now = self._seconds()
        if not backend.located or not (self.panicking or (backend.well(now) and backend.passive.may_try(now))):
            return "health"
        return "full" if backend.capacity and backend.active >= backend.room else ""

    def _offered(self, tried: tuple[Backend, ...], subset: Labels | None = None) -> tuple[Backend, ...]:
        """
        The candidates for one request, where each has to be looked at.

        @param subset: the labels that they must have.
        """
        now = self._seconds()
        available = self.candidates
        if subset:
            known = self._subsets.get(subset)
            if known is None:
                known = self._subsets[subset] = tuple(b for b in available if subset <= b.labels)
            available = known
        offered = self._with_room(available, tried, now)
        if offered:
            return offered
        for role in ("standby", "backup"):
            if role == "backup" and available:
                break
            others = tuple(b for b in self.backends if b.role == role and self._available(b, now))
            if subset:
                others = tuple(b for b in others if subset <= b.labels)
            offered = self._with_room(others, tried, now)
            if offered:
                return offered
        return ()

    def _with_room(self, backends: tuple[Backend, ...], tried: tuple[Backend, ...], now: float) -> tuple[Backend, ...]:
        left = [
            b
            for b in backends
            if (b.active < b.room or not b.capacity)
            and b not in tried
            and (not b.passive.suspect or b.passive.may_try(now) or self.panicking)
        ]
        # The same tuple spares the scheduler a comparison.
        return backends if len(left) == len(backends) else tuple(left)

    def _in_turn(self, candidates: tuple[Backend, ...], what: str) -> Backend:
        """The scheduler failed this request: plain round robin serves it."""
        self._failed(what)
        self._turn += 1
        candidates = tuple(b for b in candidates if b.weight) or candidates  # weight 0: only when no other can
        return candidates[self._turn % len(candidates)]

    def _failed(self, what: str) -> None:
        self.scheduler_failures += 1
        self._told(what)

    def _observe(self, backend: Backend, seconds: float, head: ResponseHead, now: float) -> None:
        """See C{observer}."""
        scheduler: Any = self.scheduler
        try:
            scheduler.answered(backend, seconds, head, now)
        except BaseException as error:  # a plugin's, and the answer is good
            self._failed(f"raised {shown(error)} when told of an answer")

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

    def full(self, request: Any = None) -> bool:
        """
        Whether the reason for having nobody to choose is that all who are available are at capacity.

        @param request: for which, where there are labels; L{None}: for one that asks for none.
        """
        now, subset = self._seconds(), subset_of(self, request)
        return any(
            b.capacity and b.active >= b.room and subset <= b.labels and self._available(b, now) for b in self.backends
        )

    def may_retry(self) -> bool:
        """Whether the budget has room for one more retry. Asked when there is one to be made."""
        if self.has_budget():
            return True
        self.retries_refused += 1
        return False

    def has_budget(self) -> bool:
        """The same, without asking for one."""
        rules = self.rules
        return self.retrying < max(rules.budget_at_least, rules.budget * self.active)

    def up(self, request: Any = None) -> bool:
        """
        Whether there is a backend that takes requests, were it not for its capacity. One on trial takes but that.

        @param request: which, where there are labels; L{None}: one that asks for none.
        """
        now, subset = self._seconds(), subset_of(self, request)
        return any(
            subset <= b.labels
            and self._available(b, now)
            and (self.panicking or not b.passive.suspect or b.passive.may_try(now))
            for b in self.backends
        )

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
            backend.ejections += 1
            backend.ejection = time.time(), printable(why)
            backend.close_idle()
            self._log.warn(
                "cluster {cluster}: backend {backend} is out for {seconds:g} s: {why}",
                cluster=self.name,
                backend=backend.name,
                seconds=passive.until - now,
                why=why,
            )
            self.changed()
            if self.ejected is not None:
                self.ejected(self.name, backend)
        if backend.suspected is not None:
            backend.suspected(why)

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
