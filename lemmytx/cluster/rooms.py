"""What a process says of the rooms of its backends, and takes: its side of what divides capacities among several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.shares import Load, Room


def loads(clusters: Iterable[Cluster]) -> dict[str, Load]:
    """
    How busy the clusters are, by their names: those that have backends with a capacity.
    """
    found = {}
    for cluster in clusters:
        # There may be a hundred thousand of them, and few that have any.
        for backend in cluster.backends:
            if backend.capacity:
                found[cluster.name] = _load(cluster)
                break
    return found


def _load(cluster: Cluster) -> Load:
    rooms = {
        backend.name: Room(backend.active, backend.room, backend.capacity, cluster.obstacle(backend) in ("", "full"))
        for backend in cluster.backends
        if backend.capacity
    }
    return Load(0 if cluster.queue is None else cluster.queue.waiting, rooms)


def share(clusters: Mapping[str, Cluster], rooms: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """
    So many requests may be in flight on backends from now on, by cluster and name. Those that are gone are passed over.

    @return: how many may be in flight all the same, for a while: those that are already.
    """
    held: dict[str, dict[str, int]] = {}
    for name, wanted in rooms.items():
        cluster = clusters.get(name)
        if cluster is None:
            continue
        changed = False
        for backend in cluster.backends:
            room = wanted.get(backend.name)
            if room is None or not backend.capacity:
                continue
            changed = changed or backend.room != room
            backend.room = room
            held.setdefault(name, {})[backend.name] = max(room, backend.active)
        if changed:
            cluster.changed()
    return held
