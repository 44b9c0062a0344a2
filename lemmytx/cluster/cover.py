"""Whether what classes are ensured, and use, still has cover without some of the backends."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster


def uncovered(cluster: Cluster, leaving: Collection[Backend], coming: Iterable[Backend] = ()) -> list[str]:
    """
    What speaks against taking backends out of a cluster now. What is in flight on them is not in danger: it may end.
    But until as much has ended, the classes that it belongs to have less than they are ensured.

    @param leaving: some of its members.
    @param coming: those that come in their place. One that is to be found up by a check first does not count.
    @return: one sentence each; empty when nothing does.
    """
    queue = cluster.queue
    if queue is None or not queue.counted:
        return []
    gone = [backend for backend in cluster.candidates if backend in leaving]
    if not gone:
        return []
    new = sum(b.room for b in coming if b.role == "active" and (b.checkup is None or b.checkup.up))
    names = ", ".join(backend.name for backend in gone)
    return [
        f"without {names}: {sentence}"
        for sentence in queue.root.uncovered(queue.root.size - sum(backend.room for backend in gone) + new)
    ]
