"""
Which clusters and backends there are, by what the configuration and the store say: to look a name up that a person has
typed. What the file names wins, as it does where requests are served.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import nsmallest
from itertools import islice

from lemmytx import model
from lemmytx.addresses import parse_member
from lemmytx.cluster.health import printable
from lemmytx.config.problems import nearest
from lemmytx.interfaces import Unknown
from lemmytx.proxy.figures import BackendFigures
from lemmytx.proxy.snapshot import Snapshot
from lemmytx.states import States
from lemmytx.table import Entry, State, Table

#: How many names are told that there are instead.
MOST_NAMES = 10

#: With how many names one is compared; that takes some 20 µs for each, and requests wait meanwhile.
MOST_COMPARED = 500


def find(configuration: model.Configuration, table: Table, cluster: str, backend: str) -> str:
    """
    @return: the backend's URL.
    @raise Unknown: there is no such cluster or backend; with the names that may have been meant.
    """
    known = backends(configuration, table, cluster)
    if known is None:
        clusters = {**table.vhosts, **configuration.clusters}
        raise Unknown(f"there is no cluster {cluster[:100]!r}{_instead(cluster, clusters)}")
    if backend not in known:
        raise Unknown(f"cluster {cluster!r} has no backend {backend[:100]!r}{_instead(backend, known)}")
    return known[backend]


def backends(configuration: model.Configuration, table: Table, cluster: str) -> dict[str, str] | None:
    """
    @return: the names of a cluster's backends and their URLs; L{None}: there is no such cluster.
    """
    settings = configuration.clusters.get(cluster)
    if settings is not None:
        return {backend.name: backend.location.url for backend in settings.backends}
    entry = table.vhosts.get(cluster)
    return None if entry is None else dict(_members(entry))


def _members(entry: Entry) -> Iterator[tuple[str, str]]:
    for member in entry.members:
        try:
            location = parse_member(member.text)
        except ValueError:
            continue  # stores leave such ones out
        yield member.name or location.name, location.url


def _instead(name: str, names: Collection[str]) -> str:
    near = nearest(name, islice(names, MOST_COMPARED))
    if near:
        return near
    present = nsmallest(MOST_NAMES + 1, names)
    more = ", …" if len(present) > MOST_NAMES else ""
    return f"; there {'are' if len(present) > 1 else 'is'} {', '.join(present[:MOST_NAMES]) or 'none'}{more}"


def strays(configuration: model.Configuration, states: States) -> dict[tuple[str, str], State]:
    """
    @return: what is wanted of backends that there are not.
    """
    found = {}
    known: dict[str, dict[str, str] | None] = {}
    for (cluster, backend), state in states.all().items():
        if cluster not in known:
            known[cluster] = backends(configuration, states.table, cluster)
        if backend not in (known[cluster] or ()):
            found[cluster, backend] = state
    return found


def figures_of(snapshot: Snapshot, cluster: str, backend: str, url: str, wanted: State | None) -> BackendFigures:
    """
    @param snapshot: of all processes. In none of them the cluster may have been asked for yet; then nobody knows how
        the backend is.
    @param url: of the backend.
    @param wanted: of it.
    """
    known = snapshot.clusters.get(cluster)
    figures = None if known is None else known.backends.get(backend)
    if figures is None:
        figures = BackendFigures(url, health="unknown")
        if wanted is not None:
            figures.state = wanted.state
            figures.wanted = [wanted.at, printable(wanted.by), printable(wanted.why)]
    return figures
