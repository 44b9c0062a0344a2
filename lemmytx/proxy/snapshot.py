"""
The state and the counters of what serves, taken, sent and added up.

A process that serves takes one (L{take}), and sends it in pieces (L{lemmytx.proxy.pieces}); the parent adds up those of
all workers (L{Totals}). Nothing here is done at one go where there can be ten thousand vhosts: L{SLICE} entries
are about a millisecond, and between slices the reactor does its other work. So the figures of each vhost are of one
moment, those of all of them are not.

Counts since the start do not fall when a worker dies: what was last known of it stays (L{Totals.gone}). What it
counted after that is lost.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from lemmytx.cluster.traffic import Traffic
from lemmytx.proxy.figures import BackendFigures, BucketFigures, ClusterFigures, Figures, Snapshot, add_up
from lemmytx.proxy.listener import Connections
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.statistics import UNROUTED, Recent

__all__ = [
    "BackendFigures", "BucketFigures", "ClusterFigures", "Figures", "Slices", "Snapshot", "Totals", "counters",
    "figures_of", "merge", "take", "traffics",
]  # fmt: skip

#: Vhosts or backends per slice.
SLICE = 50

#: So many vhosts of the store are shown one by one, with their clusters; what more there are in use is one sum.
MOST_STORED = 1000

#: The name of that. No vhost can be called so.
OTHERS = "*others"


class Slices:
    """
    Turns for others, in the middle of something long.
    """

    __slots__ = ("_clock", "_count")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._count = 0

    def full(self) -> bool:
        """Called for each entry: whether it is time for L{turn}."""
        self._count += 1
        return self._count % SLICE == 0

    async def turn(self) -> None:
        """Let the reactor do what else there is."""
        await deferLater(self._clock, 0)


def counters(resource: ReverseProxyResource) -> list[tuple[str, Traffic]]:
    """All that the L{Recent} of a process is to keep an eye on."""
    found = [(vhost.name, vhost.traffic) for vhost in resource.vhosts]
    found.append((UNROUTED, resource.unrouted))
    return found


def traffics(resource: ReverseProxyResource | None) -> Iterator[Traffic]:
    """All counters of a process whose seconds are to be counted."""
    if resource is not None:
        for vhost in resource.vhosts:
            yield vhost.traffic
        yield resource.unrouted
        for cluster in list(resource.clusters.values()):
            for backend in cluster.backends:
                yield backend.traffic
            if cluster.queue is not None:
                yield from list(cluster.queue.traffics.values())


async def take(
    resource: ReverseProxyResource,
    connections: Connections,
    recent: Recent,
    clock: IReactorTime,
    removed: Traffic | None = None,
    refusals: Mapping[str, Mapping[str, int]] | None = None,
    certificates: Iterable[Mapping[str, Any]] = (),
) -> Snapshot:
    """
    Of what this process serves.

    @param removed: what was counted for vhosts that a reload has taken away. Whoever takes one away adds its counters
        to these and sets them in the place of its own, so that what still runs there counts here when it ends.
    """
    slices = Slices(clock)
    snapshot = Snapshot(os.getpid())
    second, seconds = recent.second, resource.ticker.seconds
    stored = {} if resource.stored is None else resource.stored.vhosts
    unnamed = set(islice(stored, MOST_STORED, None))
    for vhost in resource.vhosts:
        if slices.full():
            await slices.turn()
        figures = figures_of(recent, vhost.name, vhost.traffic, seconds())
        if vhost.name not in unnamed:
            snapshot.vhosts[vhost.name] = figures
        elif figures.traffic.count:
            snapshot.vhosts.setdefault(OTHERS, Figures()).add(figures)
    snapshot.unrouted = figures_of(recent, UNROUTED, resource.unrouted, seconds())
    if removed is not None:
        snapshot.removed.add(removed)
    for cluster in list(resource.clusters.values()):
        if cluster.name in unnamed:
            continue
        found = ClusterFigures.of(cluster, second, seconds())
        for backend in cluster.backends:
            if slices.full():
                await slices.turn()
            found.backends[backend.name] = BackendFigures.of(backend, second, seconds())
        snapshot.clusters[cluster.name] = found
    for endpoint, reasons in (refusals or {}).items():
        snapshot.refusals[endpoint] = dict(reasons)
    for certificate in certificates:
        snapshot.certificates[certificate["file"]] = dict(certificate)
    snapshot.uptime = recent.uptime
    snapshot.downstreams = connections.count
    snapshot.exchanges = resource.exchanges
    return snapshot


def figures_of(recent: Recent, name: str, traffic: Traffic, now: float) -> Figures:
    """A copy of what a vhost has counted."""
    figures = Figures()
    if traffic.count:
        figures.traffic.add(traffic)
        figures.count, figures.statuses = recent.of(name, traffic)
        figures.lately.take(traffic, recent.second, now)
    return figures


def _adding(whole: Snapshot, other: Snapshot, past: bool = False) -> Iterator[None]:
    """
    Add a snapshot to another, an entry per step.

    @param past: only what has been counted, of a process that is gone.
    """
    for endpoint, reasons in other.refusals.items():
        add_up(whole.refusals.setdefault(endpoint, {}), reasons)
    if not past:
        for file, certificate in other.certificates.items():
            # All workers read the same files; one that could not shows its trouble.
            if file not in whole.certificates or certificate.get("problem"):
                whole.certificates[file] = certificate
        whole.uptime = max(whole.uptime, other.uptime)
        whole.downstreams += other.downstreams
        whole.exchanges += other.exchanges
    whole.removed.add(other.removed)
    whole.unrouted.add(other.unrouted, past)
    for name, figures in other.vhosts.items():
        whole.vhosts.setdefault(name, Figures()).add(figures, past)
        yield
    for name, cluster in other.clusters.items():
        into = whole.clusters.setdefault(name, ClusterFigures())
        into.add(cluster, past)
        for backend_name, backend in cluster.backends.items():
            known = into.backends.get(backend_name)
            if known is None:
                into.backends[backend_name] = backend.counts() if past else backend.copy()
            elif past:
                known.add_counts(backend)
            else:
                known.add(backend)
            yield


async def merge(snapshots: Iterable[Snapshot], clock: IReactorTime, past: Snapshot | None = None) -> Snapshot:
    """
    The sum of several processes. They themselves are left as they are, and must be left so meanwhile.

    @param snapshots: the order of the first decides on that of vhosts and backends.
    @param past: of processes that are gone: its counts are added, its present state is not.
    """
    whole = Snapshot()
    slices = Slices(clock)
    parts = [_adding(whole, snapshot) for snapshot in snapshots]
    if past is not None:
        parts.append(_adding(whole, past, True))
    for part in parts:
        for _ in part:
            if slices.full():
                await slices.turn()
    return whole


class Totals:
    """
    What all workers of an instance have counted since its start, also those that are gone.
    """

    __slots__ = ("_heard", "_past")

    def __init__(self) -> None:
        # Never changed, but replaced: a sum may be in the making.
        self._past = Snapshot()
        self._heard: dict[Hashable, Snapshot] = {}

    def heard(self, worker: Hashable, snapshot: Snapshot) -> None:
        """The newest from a worker that lives. It is taken for its present state until the next one."""
        self._heard[worker] = snapshot

    def of(self, worker: Hashable) -> Snapshot | None:
        """The newest from a worker that lives; L{None} when there was none yet."""
        return self._heard.get(worker)

    def gone(self, worker: Hashable) -> None:
        """A worker is gone: what is known to have been counted by it stays. Its name may come again."""
        last = self._heard.pop(worker, None)
        if last is not None:
            past = Snapshot()
            deque(chain(_adding(past, self._past, True), _adding(past, last, True)), maxlen=0)
            self._past = past

    def keep(
        self,
        vhosts: Collection[str],
        clusters: Mapping[str, Collection[str]],
        buckets: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """
        The configuration has changed: of what workers that are gone counted for names that are not in it, only the
        whole's totals are kept.

        @param vhosts: the names that there are now.
        @param clusters: for the name of each cluster those of its backends.
        @param buckets: the same for buckets, where there are any.
        """
        past = Snapshot()
        deque(_adding(past, self._past, True), maxlen=0)
        for name in [name for name in past.vhosts if name not in vhosts]:
            past.removed.add(past.vhosts.pop(name).traffic)
        for name in [name for name in past.clusters if name not in clusters]:
            del past.clusters[name]
        for name, cluster in past.clusters.items():
            for backend in [backend for backend in cluster.backends if backend not in clusters[name]]:
                del cluster.backends[backend]
            known = (buckets or {}).get(name, ())
            for bucket in [bucket for bucket in cluster.buckets if bucket not in known]:
                del cluster.buckets[bucket]
        self._past = past

    async def merged(self, clock: IReactorTime) -> Snapshot:
        """
        The sum of what lives, with the counts of what does not. When no worker lives there are only these.
        """
        return await merge(list(self._heard.values()), clock, self._past)
