"""
What is wanted of single backends, whatever their health: an operator takes one out and brings it back, and so does
C{sticky_offline} with one that went down.

What is wanted stands in the store (L{lemmytx.table.State}), by the names of cluster and backend, and each process has
its backends do it (L{Backend.state}). Where the store says nothing the configuration's file does
(L{Backend.configured}, C{ready} unless it is written). Nobody waits for the store: what begins here, as
C{sticky_offline} does, holds here at once, as a I{mark}, and then goes to the store. A mark is given up

  - when a table shows it, or something newer that an operator has said meanwhile;
  - when it has been stored and the second table since does not show it: the load of that one began after it was
    stored, so somebody has said otherwise.

One that the store did not take is tried again, less and less often, and not before a table has come since the failure:
what others did during an outage counts more than what we wanted at its beginning.

States of backends that are not there are kept and do nothing: a backend may come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import printable
from lemmytx.interfaces import IBackendStore
from lemmytx.table import PutState, State, StoreUnavailable, Table

#: Who has set a state that C{sticky_offline} has set.
STICKY = "sticky_offline"

#: Seconds until a mark that the store did not take is tried again: at first, and at most; each time twice as long.
AGAIN = 0.5
AGAIN_MOST = 30.0

#: How many changes of one table are told; of more only their number.
MOST_TOLD = 20

#: The names of a cluster and of a backend.
Key = tuple[str, str]


class _Mark:
    """
    What is wanted as of here.

    @ivar stored: whether the store has it.
    @ivar tables: how many have come since it was stored.
    """

    __slots__ = ("state", "stored", "tables")

    def __init__(self, state: State, stored: bool) -> None:
        self.state = state
        self.stored = stored
        self.tables = 0


class States:
    """
    The states of the backends of one process; or of none, in a parent of workers, which only tells the store.

    @ivar table: the last one that was applied.
    """

    def __init__(
        self,
        clock: IReactorTime,
        quiet: bool = False,
        now: Callable[[], float] = time.time,
        log: Logger | None = None,
    ) -> None:
        """
        @param quiet: another process tells what comes out of the store.
        @param now: the time of day, in seconds since 1970.
        """
        self.table = Table()
        self._clock = clock
        self._quiet = quiet
        self._now = now
        self._log = log or Logger(namespace="lemmytx.states")
        self._store: IBackendStore | None = None
        self._marks: dict[Key, _Mark] = {}
        #: Names of clusters with backends that were told what is wanted of them.
        self._held: set[str] = set()
        self._call: IDelayedCall | None = None
        self._asking = False
        self._delay = AGAIN
        self._stale = False

    def use(self, store: IBackendStore | None) -> None:
        """
        Where marks go from now on. L{None}: nowhere for the time being; they wait.
        """
        self._stop()
        self._store = store
        self._delay = AGAIN
        self._stale = False
        self._store_soon(0)

    # What is wanted

    def wanted(self, cluster: str, backend: str) -> State | None:
        """
        @return: what is wanted of a backend; L{None}: nobody has said anything since the file was written.
        """
        mark = self._marks.get((cluster, backend))
        return self.table.states.get((cluster, backend)) if mark is None else mark.state

    def all(self) -> dict[Key, State]:
        """All that is wanted, also of backends that are not there."""
        return {**self.table.states, **{key: mark.state for key, mark in self._marks.items()}}

    def mark(self, cluster: str, backend: Backend) -> bool:
        """
        Have one backend do what is wanted of it. Its cluster is not told; so this can be done before it is a member. It
        is to be done with each that becomes one or gets another name.

        @param cluster: the name.
        @return: whether that is something else than before.
        """
        state = self.wanted(cluster, backend.name)
        before = backend.state
        backend.wanted = state
        backend.state = backend.configured if state is None else state.state
        if state is not None:
            self._held.add(cluster)
        return backend.state != before

    def admit(self, clusters: Mapping[str, Cluster]) -> None:
        """
        These are at work now, some of them with other members than before.

        @param clusters: all of them, by name: those of the file and those of the store.
        """
        held, self._held = {*self._held, *(name for name, _ in self.all())}, set()
        for name in held & clusters.keys():
            if sum(self.mark(name, backend) for backend in clusters[name].backends):
                clusters[name].changed()

    def apply(self, table: Table, clusters: Mapping[str, Cluster]) -> None:
        """
        That is what a store knows. To be called after each load, also when nothing has changed: that one has worked is
        what marks wait for.

        @param clusters: all that are at work, by name: those of the file and those of the store.
        """
        before, self.table = self.table.states, table
        now = table.states
        stale, self._stale = self._stale, False
        other = {key for key, mark in self._marks.items() if self._settled(key, mark)}
        for key in other:
            del self._marks[key]
        if now is not before:
            other.update(key for key, state in now.items() if before.get(key) != state)
            other.update(key for key in before if key not in now)
        if other:
            changed = self._mark(other, clusters)
            if not self._quiet:
                self._tell(changed)
        if stale:
            self._store_soon(0)

    def _settled(self, key: Key, mark: _Mark) -> bool:
        """Whether a table has come that makes a mark needless."""
        found = self.table.states.get(key)
        if found is not None and (found.state == mark.state.state or found.at > mark.state.at):
            return True
        mark.tables += mark.stored
        return mark.tables >= 2

    def _mark(self, keys: Iterable[Key], clusters: Mapping[str, Cluster]) -> list[tuple[str, Backend]]:
        """
        Have these backends do what is wanted of them, as far as they are there.

        @return: those of which that is something else than before, with the names of their clusters.
        """
        wanted: dict[str, set[str]] = {}
        for name, backend_name in keys:
            if name in clusters:
                wanted.setdefault(name, set()).add(backend_name)
        changed: list[tuple[str, Backend]] = []
        for name, names in sorted(wanted.items()):
            cluster = clusters[name]
            found = [each for each in cluster.backends if each.name in names and self.mark(name, each)]
            if found:
                changed.extend((name, each) for each in found)
                cluster.changed()
        return changed

    def _tell(self, changed: list[tuple[str, Backend]]) -> None:
        """The log is to say what others have had done. What began here was told, and has changed nothing now."""
        for cluster, backend in changed[:MOST_TOLD]:
            state = backend.wanted
            self._log.info(
                "cluster {cluster}: backend {backend} is set to {state}{by}{why}",
                cluster=cluster,
                backend=backend.name,
                state=backend.state,
                by=_by(state),
                why=f": {printable(state.why)}" if state is not None and state.why else "",
            )
        if len(changed) > MOST_TOLD:
            self._log.info("and {count} backends more are set to another state", count=len(changed) - MOST_TOLD)

    # What an operator wants

    async def want(
        self, cluster: str, backend: str, state: str, why: str, by: str, clusters: Mapping[str, Cluster]
    ) -> State:
        """
        @param state: C{ready}, C{drain} or C{disabled}.
        @param clusters: those of this process; they do it as soon as it is durable.
        @return: what is stored.
        @raise StoreUnavailable: nothing has changed, or it is not known whether it has; the text says which.
        """
        if self._store is None:
            raise StoreUnavailable("the store has not been opened yet; nothing has changed")
        wanted = State(state, why, by, self._now())
        await self._store.change([PutState(cluster, backend, wanted)])
        self._marks[cluster, backend] = _Mark(wanted, True)
        self._mark([(cluster, backend)], clusters)
        return wanted

    # Sticky offline

    def checked(self, cluster: str, backend: Backend) -> None:
        """
        What checks say of a backend has changed. Called before its cluster is told.

        @param cluster: the name.
        """
        checkup, health = backend.checkup, backend.checked
        if checkup is None or health is None or not (checkup.sticky_offline and health.lost):
            return
        if backend.state == "disabled":
            return
        state = State("disabled", health.reason, STICKY, self._now())
        self._marks[cluster, backend.name] = _Mark(state, False)
        self.mark(cluster, backend)
        self._log.warn(
            "cluster {cluster}: backend {backend} went down and is disabled until somebody enables it"
            " (sticky_offline): {why}",
            cluster=cluster,
            backend=backend.name,
            why=health.reason,
        )
        self._store_soon(0)

    def _store_soon(self, delay: float) -> None:
        if self._call is None and not self._asking and self._store is not None and self._pending():
            self._call = self._clock.callLater(delay, self._store_marks)

    def _pending(self) -> list[tuple[Key, _Mark]]:
        return [(key, mark) for key, mark in self._marks.items() if not mark.stored]

    def _store_marks(self) -> None:
        self._call = None
        pending, store = self._pending(), self._store
        if store is None or not pending or self._stale:
            return
        self._asking = True

        async def put() -> None:
            await store.change([PutState(*key, mark.state) for key, mark in pending])

        def stored(_: Any) -> None:
            self._asking = False
            self._delay = AGAIN
            for _key, mark in pending:
                mark.stored = True
            self._store_soon(0)

        def failed(failure: Any) -> None:
            self._asking = False
            # It may have failed because it was closed, and another one is in its place.
            same = store is self._store
            if same:
                self._stale = True
                delay, self._delay = self._delay, min(2 * self._delay, AGAIN_MOST)
            self._store_soon(delay if same else 0)
            if not failure.check(StoreUnavailable):
                self._log.failure("states of backends could not be stored; they will be tried again", failure)

        Deferred.fromCoroutine(put()).addCallbacks(stored, failed)

    def close(self) -> None:
        """The end. What has not been stored is not."""
        self._store = None
        self._stop()

    def _stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None


def _by(state: State | None) -> str:
    if state is None:
        return ", as the configuration has it"
    return f" by {printable(state.by)}" if state.by else ""
