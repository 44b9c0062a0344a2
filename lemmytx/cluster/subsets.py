"""
Labels of backends, and the subsets that routes choose by them.

A route may ask for labels. Its requests are offered the members of its cluster that have all of them and nobody else,
as if these were a cluster of their own: when they are full its requests wait, when all of them are away that is as when
no backend is available. No other member stands in (what Envoy calls NO_FALLBACK): who asks for version 2 is not to get
version 1 because version 2 has failed. A cluster that stands in for the route's own, as failover or fallback, knows
nothing of the route's labels.

A cluster none of whose members has labels never looks at a route.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemmytx.balance.buckets import Bucket
    from lemmytx.cluster.backend import Backend
    from lemmytx.cluster.cluster import Cluster
    from lemmytx.cluster.place import Place

#: Names with their values.
Labels = frozenset[tuple[str, str]]

UNLABELLED: Labels = frozenset()


def labels(found: Mapping[str, str]) -> Labels:
    """Out of what the configuration says."""
    return frozenset(found.items()) or UNLABELLED


def subset_of(cluster: Cluster, request: Any) -> Labels:
    """
    @param request: an L{lemmytx.interfaces.IRequest} with the attribute C{route}; or L{None}.
    @return: the labels that a backend of the cluster must have to be offered to it.
    """
    if not cluster.labelled or request is None:
        return UNLABELLED
    route = request.route
    subset: Labels = route.subset if route.cluster is cluster else UNLABELLED
    return subset


def outside(backend: Backend, subset: Labels) -> str:
    """Why a backend is not of a subset, in a few words; empty: it is."""
    has = dict(backend.labels)
    for name, value in sorted(subset):
        if name not in has:
            return f"the route wants {name}={value}, and it has no label {name}"
        if has[name] != value:
            return f"the route wants {name}={value}, and it has {name}={has[name]}"
    return ""


class Turns:
    """
    Whose turn it is in the lines of a queue, for the length of one look at all of them: the first of a line for whom
    there is a backend, where that depends on what his route asks for.

    Nobody gets room meanwhile, so a subset that has nobody free has nobody free for all who want it.
    """

    __slots__ = ("_cluster", "_lines", "_left", "_stuck")

    def __init__(self, cluster: Cluster, lines: Mapping[Bucket, OrderedDict[Place, None]]) -> None:
        self._cluster = cluster
        self._lines = lines
        self._left: dict[Bucket, Iterator[Place]] = {}
        self._stuck: set[Labels] = set()

    def next(self, leaf: Bucket) -> tuple[Place, Backend] | None:
        """
        @param leaf: one with somebody in its line.
        @return: who goes on, and where; L{None}: nobody in this line.
        """
        left = self._left.get(leaf)
        if left is None:
            left = self._left[leaf] = iter(list(self._lines[leaf]))
        for place in left:
            if not place.waiting:
                continue
            subset = subset_of(self._cluster, place.exchange)
            if subset in self._stuck:
                continue
            backend = self._cluster.choose(place.exchange)
            if backend is not None:
                return place, backend
            self._stuck.add(subset)
        return None
