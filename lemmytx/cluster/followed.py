"""
A cluster of many backends, and a scheduler that follows what changes in it (L{IFollowingScheduler}).

With a few backends the cheapest is to look at all of them for each request. With a thousand that would take longer than
the rest of the exchange, so here it is known beforehand who can take a request: C{open}. Three things change that:

  - a state (an operator, health, an address): the cluster works out anew who is available, and L{Followed.offer}
    compares;
  - a request that begins or ends: the backend says so (C{Backend.watch}), and is looked at if it has a capacity or is
    out of service;
  - a trial. One backend that is out gets one request at a time, and whether that has begun is known a moment after the
    choice. So the one that was picked for a trial is looked at again at the next choice.

What a request has tried is withdrawn for the length of its choice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.health import shown
from lemmytx.interfaces import IFollowingScheduler, IRequest

#: A cluster of more members than this is followed. Below, looking at each one is as cheap and has less to go wrong.
FEW = 16


class Followed:
    """
    Who can take a request now, kept up to date.

    @ivar open: these can; the scheduler has admitted exactly them.
    @ivar stand_ins: whether there are members that are not active. Those come later, and are not followed.
    """

    __slots__ = (
        "_available",
        "_counts",
        "_panicking",
        "_scheduler",
        "_seconds",
        "_told",
        "_trial",
        "open",
        "stand_ins",
    )

    def __init__(
        self, scheduler: IFollowingScheduler, seconds: Callable[[], float], told: Callable[[str], None]
    ) -> None:
        """
        @param seconds: the cluster's clock.
        @param told: takes what the scheduler did that it must not, where there is no request to fall back for.
        """
        self._scheduler = scheduler
        self._seconds = seconds
        self._told = told
        self._counts = bool(scheduler.counts)
        self._available: frozenset[Backend] = frozenset()
        self._panicking = False
        self._trial: Backend | None = None
        self.open: dict[Backend, None] = {}
        self.stand_ins = False

    def begin(self, backends: Collection[Backend]) -> None:
        """The scheduler was told of its members, or of other weights, and has nobody admitted."""
        self._available = frozenset()
        self._trial = None
        self.open = {}
        self.stand_ins = any(backend.role != "active" for backend in backends)
        for backend in backends:
            backend.watch = self.moved if self._counts or backend.capacity else self._left

    def offer(self, available: Iterable[Backend], panicking: bool) -> None:
        """
        @param available: these are, whether full or not.
        @param panicking: whether health is ignored, so that nobody is on trial.
        """
        self._panicking = panicking
        before = self._available
        self._available = frozenset(available)
        for backend in before - self._available:
            self._look(backend)
        for backend in available:
            self._look(backend)

    def moved(self, backend: Backend) -> None:
        """C{active} of a backend has changed."""
        if backend.capacity or backend.passive.ejected:
            self._look(backend)
        if self._counts:
            try:
                self._scheduler.moved(backend)
            except BaseException as error:  # a plugin's, in the middle of an exchange that can do without it
                self._told(f"raised {shown(error)} when told that a request began or ended")

    def _left(self, backend: Backend) -> None:
        """C{active} has changed, which matters only for trials."""
        if backend.passive.ejected:
            self._look(backend)

    def _look(self, backend: Backend) -> None:
        """Whether it can take a request, compared to what is known of it."""
        passive = backend.passive
        fits = (
            backend in self._available
            and (not backend.capacity or backend.active < backend.room)
            and (not passive.ejected or self._panicking or passive.may_try(self._seconds()))
        )
        if fits:
            if backend not in self.open:
                self.open[backend] = None
                self._admit(backend)
        elif backend in self.open:
            del self.open[backend]
            self._withdraw(backend)

    def _admit(self, backend: Backend) -> None:
        try:
            self._scheduler.admit(backend)
        except BaseException as error:  # as above
            self._told(f"raised {shown(error)} when it was to admit {backend.name}")

    def _withdraw(self, backend: Backend) -> None:
        try:
            self._scheduler.withdraw(backend)
        except BaseException as error:  # as above
            self._told(f"raised {shown(error)} when it was to withdraw {backend.name}")

    def can_take(self, tried: tuple[Backend, ...]) -> bool:
        """Whether anybody is open beside these."""
        if self._trial is not None:
            # The choice before was for its trial. By now that has begun, or has not.
            backend, self._trial = self._trial, None
            self._look(backend)
        if not tried:
            return bool(self.open)
        return len(self.open) > sum(backend in self.open for backend in tried)

    def choose(self, request: IRequest, tried: tuple[Backend, ...], others: tuple[Backend, ...] = ()) -> object:
        """
        @param tried: not these.
        @param others: stand-ins that can take it; without any, somebody else than C{tried} is open.
        @return: what the scheduler picks, whatever that is.
        """
        if not tried and not others:
            return self._scheduler.pick(request)
        away = [backend for backend in tried if backend in self.open]
        for backend in away:
            self._withdraw(backend)
        for backend in others:
            self._admit(backend)
        try:
            return self._scheduler.pick(request)
        finally:
            for backend in others:
                self._withdraw(backend)
            for backend in away:
                self._admit(backend)

    def picked(self, backend: Backend) -> None:
        """The answer of C{choose} is good, and a request goes there."""
        if backend.passive.ejected:
            self._trial = backend
