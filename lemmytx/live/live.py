"""
The vhosts of a store, served by this process.

A table is compared with the one at work (L{lemmytx.live.view}) beside everything else, in slices. Then all that has
changed is put to sleep (L{lemmytx.proxy.stored}), one step that takes a millisecond: from there on every request
sees the new table. A vhost is built when the first request for it comes; in slices where it had been built before,
and where there are checks, which do not wait for requests.

Clusters and backends stay the same objects as long as they have their names and addresses, with all that is known of
them. What is taken away ends as it does at a reload.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lemmytx.checks.rounds import Rounds
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.traffic import Traffic
from lemmytx.live.addresses import Addresses
from lemmytx.live.mold import Built, Parts
from lemmytx.live.view import Difference, View, compare
from lemmytx.net.slices import Slices
from lemmytx.patterns import EVERYTHING
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost
from lemmytx.proxy.stored import Stored
from lemmytx.states import States
from lemmytx.table import Fault, Table

log = Logger(namespace="lemmytx.store")

#: How many faults are told at one time, and how many are shown.
MOST_TOLD = 20
MOST_SHOWN = 100

#: After so many vhosts that have been built, or taken away, the collector of garbage is told.
MANY = 500


class Live:
    """
    @ivar stored: what the router and the statistics see.
    @ivar built: vhosts that have been built, by name.
    @ivar view: the table at work; L{None} before the first.
    """

    def __init__(
        self,
        reactor: Any,
        states: States,
        rounds: Rounds,
        leaving: Callable[[Iterable[Backend]], None],
        ejected: Callable[[str, Backend], None] | None = None,
        quiet: bool = False,
    ) -> None:
        """
        @param states: what is wanted of backends.
        @param rounds: looks after the checks of the store's clusters, and of no others.
        @param leaving: called with backends that are in no cluster any more.
        @param ejected: called with the cluster's name and a backend that its failures have put out.
        @param quiet: another process tells of faults.
        """
        self.stored = Stored(self._wake)
        self.built: dict[str, Built] = {}
        self.view: View | None = None
        self._reactor = reactor
        self._states = states
        self._rounds = rounds
        self._leaving = leaving
        self._ejected = ejected
        self._quiet = quiet
        self._addresses = Addresses(reactor)
        self._resource: ReverseProxyResource | None = None
        self._removed = Traffic()
        self._stale: dict[str, None] = {}
        self._settling: Deferred[None] | None = None
        self._told: set[Fault] = set()
        self._twice: dict[str, list[Fault]] = {}
        self._grown = self._shrunk = 0
        #: How many full collections there had been when one became necessary; -1: none is.
        self._awaited = -1
        self._stopped = False

    # Another table, another configuration

    async def prepare(self, parts: Parts, router: Router, table: Table) -> Difference:
        """
        What would have to be done to serve a table by a configuration. Nothing has changed yet.

        @raise ValueError: C{defaults} cannot be used; with a text for the user.
        """
        if self.view is not None and parts.serve_as(self.view.parts):
            parts = self.view.parts
        return await compare(self.view, parts, router.names, table, Slices(self._reactor))

    def commit(self, difference: Difference, table: Table, resource: ReverseProxyResource, removed: Traffic) -> None:
        """
        Put it to work: it holds from the next request on. Called when the configuration that it was prepared with has
        just been put to work.

        @param table: the newest.
        @param removed: takes the counts of vhosts that are there no more.
        """
        if self._resource is None:
            resource.hold(self.stored)
        self._resource, self._removed = resource, removed
        if difference.before is not self.view:
            # The table has changed since that was prepared, which is rare.
            parts, named = difference.view.parts, difference.view.named
            difference = _at_once(compare(self.view, parts, named, table, None))
        if self.view is not None and difference.view.parts is self.view.parts:
            for mold in difference.view.molds.values():
                mold.reload()
        self._put(difference)

    async def take(self, table: Table, wanted: Callable[[], bool] = lambda: True) -> None:
        """
        Serve another table. To be called when the one before is served.

        @param wanted: whether that still is the one.
        """
        while self._resource is not None and not self._stopped and wanted():
            before = self.view
            assert before is not None
            if before.table is table:
                break
            difference = await compare(before, before.parts, before.named, table, Slices(self._reactor))
            if before is self.view and not self._stopped and wanted():
                self._put(difference)
                break
            # There was a reload in between: what was found out does not hold any more.

    def _put(self, difference: Difference) -> None:
        _, view, changed, gone = difference
        self.view = view
        self.stored.change([name.encode("ascii") for name in changed], [name.encode("ascii") for name in gone])
        built = self.built
        for name in gone:
            if name in built:
                self._stale[name] = None
        entries = view.table.vhosts
        for name in changed:
            if name in built or view.mold(entries[name], None).checked:
                self._stale[name] = None
        self._tell()
        if self._stale and self._settling is None:
            self._settling = Deferred.fromCoroutine(self._settle())
            self._settling.addErrback(lambda failure: log.failure("the store's vhosts could not be built", failure))
            self._settling.addBoth(self._settled)

    # In slices, beside the requests

    async def _settle(self) -> None:
        slices = Slices(self._reactor)
        while self._stale and not self._stopped:
            name = next(iter(self._stale))
            del self._stale[name]
            view = self.view
            assert view is not None
            if name not in view.table.vhosts or name in view.refused:
                self._drop(name)
            else:
                self.stored.find(name.encode("ascii"))
            if slices.full():
                await slices.turn()

    def _settled(self, _: Any) -> None:
        self._settling = None

    @property
    def settling(self) -> int:
        """How many vhosts are still to be built, or taken away."""
        return len(self._stale)

    def _wake(self, name: str) -> Vhost | None:
        """See L{Stored}."""
        view, resource = self.view, self._resource
        entry = None if view is None else view.table.vhosts.get(name)
        if view is None or entry is None or resource is None:
            return None
        present = self.built.get(name)
        try:
            mold = view.mold(entry, None if present is None else present.mold)
            change = mold.make(entry, present, lambda backend: self._states.mark(name, backend))
        except Exception:
            # A plugin's. Whoever asks for the vhost finds none, or what it was.
            log.failure("vhost {name} of the store could not be built", name=name)
            return None if present is None else present.vhost
        cluster = change.cluster
        self._stale.pop(name, None)
        if present is None:
            vhost = Vhost(name, (name,), (Route(EVERYTHING, cluster),))
            vhost.traffic = Traffic()
            present = self.built[name] = Built(vhost, cluster)
            cluster.ejected = self._ejected
            self.stored.vhosts[name] = vhost
            self.stored.clusters[name] = cluster
            resource.clusters[name] = cluster
            self._grow()
        checked = mold.checked or (present.mold is not None and present.mold.checked)
        present.entry, present.mold, present.backends = entry, mold, change.backends
        self._tell_twice(name, change.faults)
        for backend in change.added:
            if not backend.located:
                self._addresses.follow(backend)
        self._left(change.removed)
        if checked:
            self._rounds.take(cluster, change.removed)
        return present.vhost  # type: ignore[no-any-return]  # a Vhost

    def _drop(self, name: str) -> None:
        """It is not served any more."""
        built = self.built.pop(name, None)
        resource = self._resource
        if built is None or resource is None:
            return
        del self.stored.vhosts[name], self.stored.clusters[name]
        self._twice.pop(name, None)
        cluster = built.cluster
        if resource.clusters.get(name) is cluster:
            del resource.clusters[name]
        vhost = built.vhost
        self._removed.add(vhost.traffic)
        vhost.traffic = self._removed  # for what still runs on it
        backends = list(built.backends.values())
        self._shrink()
        self._rounds.drop(cluster, backends)
        cluster.dissolve()
        self._left(backends)

    def _grow(self) -> None:
        """
        What has been built lives long. Python's collector of garbage need not look through it each time, which would
        hold the reactor for half a second where there are 10,000 vhosts.
        """
        self._grown += 1
        if self._grown >= MANY:
            self._grown = 0
            if self._awaited != _collections():
                self._awaited = -1
                gc.freeze()

    def _shrink(self) -> None:
        """Once in a while it has to: what is taken away hangs together in circles."""
        self._shrunk += 1
        if self._shrunk >= MANY:
            self._shrunk = 0
            gc.unfreeze()
            # To freeze before it has looked through everything once would keep what is gone for ever.
            self._awaited = _collections()

    def _left(self, backends: list[Backend]) -> None:
        for backend in backends:
            if backend.location.host:
                self._addresses.forget(backend)
        busy = [backend for backend in backends if backend.active]
        if busy:
            self._leaving(busy)

    # What is wrong

    def faults(self) -> list[Fault]:
        """What is wrong in the table."""
        found = [] if self.view is None else list(self.view.faults())
        for faults in self._twice.values():
            found.extend(faults)
        return found

    def _tell_twice(self, name: str, wrong: list[tuple[str, str]]) -> None:
        view = self.view
        known = set() if view is None else {fault.member for fault in view.unfit.get(name, ())}
        faults = [Fault(name, text, why) for text, why in wrong if text not in known]
        before = self._twice.pop(name, None)
        if faults:
            self._twice[name] = faults
        if faults or before:
            self._tell()

    def _tell(self) -> None:
        """What is wrong is told once, as long as it is."""
        found = dict.fromkeys(self.faults())
        fresh = [fault for fault in found if fault not in self._told]
        self._told = set(found)
        if self._quiet:
            return
        for vhost, member, why in islice(fresh, MOST_TOLD):
            what = f"member {member!r} of vhost {vhost!r}" if member else f"vhost {vhost!r}"
            if not vhost:
                what = f"state {member!r}" if member else "state of backends"
            log.warn("the store's {what} is left out: {why}", what=what, why=why)
        if len(fresh) > MOST_TOLD:
            log.warn("{count} more in the store are left out", count=len(fresh) - MOST_TOLD)

    def facts(self) -> dict[str, Any]:
        """What the admin side says of it."""
        return {**table_facts(self.view, self.faults()), "built": len(self.built)}

    @property
    def clusters(self) -> Mapping[str, Cluster]:
        """Those that have been built."""
        return self.stored.clusters

    def stop(self) -> None:
        """The end."""
        self._stopped = True
        self._stale.clear()
        self._addresses.stop()


def _collections() -> int:
    """How often Python's collector of garbage has looked through everything that is not frozen."""
    return int(gc.get_stats()[2]["collections"])


def _at_once(comparing: Coroutine[Any, Any, Difference]) -> Difference:
    """The outcome of what waits for nothing."""
    try:
        comparing.send(None)
    except StopIteration as end:
        found: Difference = end.value
        return found
    raise AssertionError("it waited")


def table_facts(view: View | None, faults: list[Fault]) -> dict[str, Any]:
    """How much is in a table."""
    return {
        "vhosts": 0 if view is None else len(view.table.vhosts),
        "backends": 0 if view is None else view.backends,
        "faults": len(faults),
        "left_out": [fault._asdict() for fault in faults[:MOST_SHOWN]],
    }
