"""
The state and the counters of what serves, as plain data: of one process, or of several added up.

What the sum of several processes means:

  - Counts and gauges are added. What is configured, like C{capacity}, is the same in all: a worker's share of it is
    its own matter.
  - A backend's C{state} is the one that is most out of service in any of them, and its C{health} the worst, so that
    trouble shows when the first worker has it; C{healths} tells how many of them see it how.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.traffic import Traffic

#: From the best to the worst.
_STATES = ("ready", "drain", "disabled")
_HEALTHS = ("up", "going_up", "unknown", "going_down", "down", "ejected")


def add_up(counts: dict[Any, int], others: Mapping[Any, int]) -> None:
    """Add the others to these, name by name."""
    for name, number in others.items():
        counts[name] = counts.get(name, 0) + number


class Figures:
    """
    What was served, in all and of late.

    @ivar traffic: since the start.
    @ivar count: exchanges that ended in the last minute, C{statuses}: those by status.
    """

    __slots__ = ("count", "statuses", "traffic")

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.count = 0
        self.statuses: dict[int, int] = {}

    def add(self, other: Figures, past: bool = False) -> None:
        """
        Add another's to these.

        @param past: only those since the start.
        """
        if other.traffic.count:
            self.traffic.add(other.traffic)
        if other.count and not past:
            self.count += other.count
            add_up(self.statuses, other.statuses)


class BackendFigures:
    """
    A backend; the names are those of L{lemmytx.cluster.backend.Backend}.

    @ivar idle: how many upstreams are.
    @ivar healths: how many workers see it in which health.
    """

    __slots__ = (
        "active", "capacity", "connects", "failures", "health", "healths", "idle", "reused", "role", "state", "traffic",
        "url", "weight",
    )  # fmt: skip

    def __init__(self, url: str = "", role: str = "active", state: str = "ready", health: str = "up") -> None:
        self.url = url
        self.role = role
        self.state = state
        self.health = health
        self.healths = {health: 1}
        self.weight = 1
        self.capacity = 0
        self.active = 0
        self.idle = 0
        self.connects = 0
        self.reused = 0
        self.failures: dict[str, int] = {}
        self.traffic = Traffic()

    @classmethod
    def of(cls, backend: Backend) -> BackendFigures:
        """Those of a backend of this process."""
        figures = cls(backend.url, backend.role, backend.state, backend.health)
        figures.weight = backend.weight
        figures.capacity = backend.capacity
        figures.active = backend.active
        figures.idle = len(backend.idle)
        figures.connects = backend.connects
        figures.reused = backend.reused
        figures.failures = dict(backend.failures)
        figures.traffic.add(backend.traffic)
        return figures

    def add(self, other: BackendFigures) -> None:
        """Add those of the same backend in another process."""
        self.state = max(self.state, other.state, key=_STATES.index)
        self.health = max(self.health, other.health, key=_HEALTHS.index)
        add_up(self.healths, other.healths)
        self.capacity = other.capacity
        self.active += other.active
        self.idle += other.idle
        self.add_counts(other)

    def add_counts(self, other: BackendFigures) -> None:
        """Add only what the other has counted since its start."""
        self.connects += other.connects
        self.reused += other.reused
        add_up(self.failures, other.failures)
        self.traffic.add(other.traffic)

    def copy(self) -> BackendFigures:
        """The same, to add to."""
        figures = self.counts()
        figures.health = self.health
        figures.healths = dict(self.healths)
        figures.capacity = self.capacity
        figures.active = self.active
        figures.idle = self.idle
        return figures

    def counts(self) -> BackendFigures:
        """What it has counted alone, in the place of one that is not there any more."""
        figures = BackendFigures(self.url, self.role, self.state, "unknown")
        figures.healths = {}
        figures.weight = self.weight
        figures.add_counts(self)
        return figures


class ClusterFigures:
    """
    A cluster.

    @ivar retrying: retries under way.
    @ivar scheduler_failures: how often the scheduler failed, since the start.
    @ivar backends: by name, in the order of the configuration.
    """

    __slots__ = ("backends", "retrying", "scheduler_failures")

    def __init__(self, retrying: int = 0, scheduler_failures: int = 0) -> None:
        self.retrying = retrying
        self.scheduler_failures = scheduler_failures
        self.backends: dict[str, BackendFigures] = {}


class Snapshot:
    """
    All of it.

    @ivar pid: the process; 0: it is a sum.
    @ivar uptime: seconds since the process began to take statistics; of a sum the longest.
    @ivar downstreams: connections of clients, C{exchanges}: requests under way.
    @ivar removed: what was counted for vhosts that are not there any more.
    @ivar unrouted: requests that no vhost is for, and those that were no HTTP.
    @ivar vhosts: by name, in the order of the configuration.
    @ivar clusters: the same.
    @ivar refusals: by endpoint description: connections that ended before HTTP began, by the reason.
    @ivar certificates: by file: what there is to know of each that listeners show (names, expiry, problems).
    """

    __slots__ = (
        "certificates", "clusters", "downstreams", "exchanges", "pid", "refusals", "removed", "unrouted", "uptime",
        "vhosts",
    )  # fmt: skip

    def __init__(self, pid: int = 0) -> None:
        self.pid = pid
        self.uptime = 0.0
        self.downstreams = 0
        self.exchanges = 0
        self.removed = Traffic()
        self.unrouted = Figures()
        self.vhosts: dict[str, Figures] = {}
        self.clusters: dict[str, ClusterFigures] = {}
        self.refusals: dict[str, dict[str, int]] = {}
        self.certificates: dict[str, dict[str, Any]] = {}
