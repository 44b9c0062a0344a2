"""
The state and the counters of what serves, as plain data: of one process, or of several added up.

What the sum of several processes means:

  - Counts and gauges are added. What is configured, like C{capacity}, is the same in all: a worker's share of it is
    its own matter.
  - What is of late, of a process that is gone, is gone with it. Histograms add up exactly, and so do rates.
  - A backend's C{state} is the one that is most out of service in any of them, and its C{health} the worst, so that
    trouble shows when the first worker has it; C{healths} tells how many of them see it how.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lemmytx.balance.buckets import Bucket
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import printable
from lemmytx.cluster.histogram import add_counts
from lemmytx.cluster.traffic import PERIODS, Traffic

#: Who has set a state that the configuration's file says.
CONFIGURATION = "configuration"

#: From the best to the worst.
_STATES = ("ready", "drain", "disabled")
_HEALTHS = ("up", "going_up", "unknown", "going_down", "down", "ejected")
_BREAKERS = ("", "closed", "half_open", "open")

#: What a cluster counts since the start, for itself.
_COUNTS = ("retries", "retries_refused", "hedges", "hedge_wins", "failovers")


def add_up(counts: dict[Any, int], others: Mapping[Any, int]) -> None:
    """Add the others to these, name by name."""
    for name, number in others.items():
        counts[name] = counts.get(name, 0) + number


class Lately:
    """
    Of the last five minutes, and of the last one.

    @ivar times: how many response times there were, by the bucket of L{lemmytx.cluster.histogram}; in five minutes.
    @ivar rates: requests per second over each of L{PERIODS}.
    """

    __slots__ = ("rates", "times")

    def __init__(self) -> None:
        self.times: dict[int, int] = {}
        self.rates = [0.0] * len(PERIODS)

    def take(self, traffic: Traffic, second: int, now: float) -> None:
        """
        Those of counters that are at work.

        @param second: the one that was over last.
        @param now: on the clock by which they are folded.
        """
        traffic.fold(now)
        if traffic.recent is not None:
            self.times = dict(traffic.recent.counts)
        if traffic.rates is not None:
            self.rates = traffic.rates.over(second)

    def add(self, other: Lately) -> None:
        """Add another's to these."""
        if other.times:
            add_counts(self.times, other.times)
        self.rates = [ours + theirs for ours, theirs in zip(self.rates, other.rates, strict=True)]


class Figures:
    """
    What was served, in all and of late.

    @ivar traffic: since the start.
    @ivar count: exchanges that ended in the last minute, C{statuses}: those by status.
    """

    __slots__ = ("count", "lately", "statuses", "traffic")

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.lately = Lately()
        self.count = 0
        self.statuses: dict[int, int] = {}

    def add(self, other: Figures, past: bool = False) -> None:
        """
        Add another's to these.

        @param past: only those since the start.
        """
        if other.traffic.count:
            self.traffic.add(other.traffic)
        if past:
            return
        if other.count:
            self.count += other.count
            add_up(self.statuses, other.statuses)
        self.lately.add(other.lately)


class BackendFigures:
    """
    A backend; the names are those of L{lemmytx.cluster.backend.Backend}.

    @ivar idle: how many upstreams are.
    @ivar since: since when its health is as it is (seconds since 1970; 0: since it is there), C{reason}: why.
    @ivar checks: what came of its health checks, since the start: how many C{passed} and C{failed}, and how often it
        came into each state by that; empty where there are none.
    @ivar healths: how many workers see it in which health.
    @ivar ejections: how often failures have put it out, since the start.
    @ivar wanted: when its state was set (seconds since 1970), by whom and why; empty where nobody has. Where the file
        says it: 0, L{CONFIGURATION} and nothing.
    @ivar weight: as configured, C{warmth}: how much of it it has, where that is not all in every process; 1.0: it is.
    """

    __slots__ = (
        "active", "capacity", "checks", "connects", "ejections", "failures", "health", "healths", "idle", "lately",
        "reason", "reused", "role", "since", "state", "traffic", "url", "wanted", "warmth", "weight",
    )  # fmt: skip

    def __init__(self, url: str = "", role: str = "active", state: str = "ready", health: str = "up") -> None:
        self.url = url
        self.role = role
        self.state = state
        self.health = health
        self.healths = {health: 1}
        self.since = 0.0
        self.reason = ""
        self.wanted: list[Any] = []
        self.checks: dict[str, int] = {}
        self.weight: float = 1
        self.warmth = 1.0
        self.capacity = 0
        self.active = 0
        self.idle = 0
        self.connects = 0
        self.reused = 0
        self.failures: dict[str, int] = {}
        self.ejections = 0
        self.lately = Lately()
        self.traffic = Traffic()

    @classmethod
    def of(cls, backend: Backend, second: int, now: float) -> BackendFigures:
        """
        Those of a backend of this process. C{second} and C{now} are as for L{Lately.take}.
        """
        figures = cls(backend.url, backend.role, backend.state, backend.health)
        figures.weight, figures.warmth = backend.full_weight, backend.warmth
        figures.capacity = backend.capacity
        figures.active = backend.active
        figures.idle = len(backend.idle)
        figures.connects = backend.connects
        figures.reused = backend.reused
        figures.failures = dict(backend.failures)
        figures.since, figures.reason = backend.told
        wanted = backend.wanted
        if wanted is not None:
            figures.wanted = [wanted.at, printable(wanted.by), printable(wanted.why)]
        elif backend.state == backend.configured != "ready":
            figures.wanted = [0.0, CONFIGURATION, ""]
        checked = backend.checked
        if checked is not None:
            figures.checks = {"passed": checked.passes, "failed": checked.failures, **checked.changes}
        figures.ejections = backend.ejections
        figures.traffic.add(backend.traffic)
        figures.lately.take(backend.traffic, second, now)
        return figures

    def add(self, other: BackendFigures) -> None:
        """Add those of the same backend in another process."""
        more = _STATES.index(other.state) - _STATES.index(self.state)
        if more > 0 or (more == 0 and other.wanted > self.wanted):
            self.state, self.wanted = other.state, other.wanted
        worse = _HEALTHS.index(other.health) - _HEALTHS.index(self.health)
        if worse > 0 or (worse == 0 and other.since > self.since):
            self.health, self.since, self.reason = other.health, other.since, other.reason
        add_up(self.healths, other.healths)
        self.capacity = other.capacity
        self.active += other.active
        self.idle += other.idle
        self.warmth = min(self.warmth, other.warmth)
        self.lately.add(other.lately)
        self.add_counts(other)

    def add_counts(self, other: BackendFigures) -> None:
        """Add only what the other has counted since its start."""
        self.connects += other.connects
        self.reused += other.reused
        self.ejections += other.ejections
        add_up(self.failures, other.failures)
        add_up(self.checks, other.checks)
        self.traffic.add(other.traffic)

    def copy(self) -> BackendFigures:
        """The same, to add to."""
        figures = self.counts()
        figures.health, figures.since, figures.reason = self.health, self.since, self.reason
        figures.wanted = self.wanted
        figures.healths = dict(self.healths)
        figures.capacity = self.capacity
        figures.active = self.active
        figures.idle = self.idle
        figures.warmth = self.warmth
        figures.lately.add(self.lately)
        return figures

    def counts(self) -> BackendFigures:
        """What it has counted alone, in the place of one that is not there any more."""
        figures = BackendFigures(self.url, self.role, self.state, "unknown")
        figures.healths = {}
        figures.weight = self.weight
        figures.add_counts(self)
        return figures


class BucketFigures:
    """
    A bucket, with what is below it.

    @ivar rate: tokens that are ensured to it, C{ceil}: that it may have, C{active}: that it has.
    @ivar queued: requests that wait in it.
    @ivar total: since the start, those that had a token; C{full}: that found its queue full; C{timeouts}: that waited
        in vain.
    @ivar traffic: of those that had a token and have ended.
    """

    __slots__ = ("active", "ceil", "full", "lately", "queued", "rate", "timeouts", "total", "traffic")

    def __init__(self) -> None:
        self.rate = self.ceil = self.active = self.queued = 0
        self.total = self.full = self.timeouts = 0
        self.traffic = Traffic()
        self.lately = Lately()

    @classmethod
    def of(cls, bucket: Bucket, traffic: Traffic | None, second: int, now: float) -> BucketFigures:
        """
        Those of a bucket of this process. C{second} and C{now} are as for L{Lately.take}.
        """
        figures = cls()
        figures.rate, figures.ceil, figures.active = bucket.rate, bucket.ceil, bucket.used
        figures.queued, figures.total = bucket.queued, bucket.total
        figures.full, figures.timeouts = bucket.full, bucket.timeouts
        if traffic is not None:
            figures.traffic.add(traffic)
            figures.lately.take(traffic, second, now)
        return figures

    def add(self, other: BucketFigures, past: bool = False) -> None:
        """
        Add those of the same bucket in another process.

        @param past: only what it has counted since its start.
        """
        self.total += other.total
        self.full += other.full
        self.timeouts += other.timeouts
        self.traffic.add(other.traffic)
        if not past:
            self.rate += other.rate
            self.ceil += other.ceil
            self.active += other.active
            self.queued += other.queued
            self.lately.add(other.lately)


class ClusterFigures:
    """
    A cluster.

    @ivar retrying: retries under way, C{queued}: requests that wait for a backend.
    @ivar scheduler_failures: how often the scheduler failed, since the start.
    @ivar panicking: whether so few of its backends are up, in any process, that their health is ignored.
    @ivar breaker: the state of its circuit breaker, the worst of all processes; empty where there is none.
    @ivar turned_away: requests that no backend could take, by the reason, since the start.
    @ivar counts: what else it has counted since the start, by name.
    @ivar buckets: by name, where there are any.
    @ivar backends: by name, in the order of the configuration.
    """

    __slots__ = (
        "backends", "breaker", "buckets", "counts", "panicking", "queued", "retrying", "scheduler_failures",
        "turned_away",
    )  # fmt: skip

    def __init__(self, retrying: int = 0, scheduler_failures: int = 0, panicking: bool = False) -> None:
        self.retrying = retrying
        self.scheduler_failures = scheduler_failures
        self.panicking = panicking
        self.queued = 0
        self.breaker = ""
        self.turned_away: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.buckets: dict[str, BucketFigures] = {}
        self.backends: dict[str, BackendFigures] = {}

    @classmethod
    def of(cls, cluster: Cluster, second: int, now: float) -> ClusterFigures:
        """
        Those of a cluster of this process, without its backends: there may be many. C{second} and C{now} are as for
        L{Lately.take}.
        """
        figures = cls(cluster.retrying, cluster.scheduler_failures, cluster.panicking)
        figures.turned_away = dict(cluster.turned_away)
        figures.counts = {name: getattr(cluster, name) for name in _COUNTS}
        breaker = cluster.breaker
        if breaker is not None:
            figures.breaker = breaker.state
            figures.counts |= {"breaker_opened": breaker.opened, "breaker_refused": breaker.refused}
        queue = cluster.queue
        if queue is not None:
            figures.queued = queue.waiting
            if queue.counted:
                for name, bucket in queue.buckets.items():
                    if name:  # the root is the cluster
                        figures.buckets[name] = BucketFigures.of(bucket, queue.traffics.get(name), second, now)
        return figures

    def add(self, other: ClusterFigures, past: bool = False) -> None:
        """
        Add those of the same cluster in another process, but for the backends.

        @param past: only what it has counted since its start.
        """
        self.scheduler_failures += other.scheduler_failures
        add_up(self.turned_away, other.turned_away)
        add_up(self.counts, other.counts)
        for name, bucket in other.buckets.items():
            self.buckets.setdefault(name, BucketFigures()).add(bucket, past)
        if not past:
            self.retrying += other.retrying
            self.queued += other.queued
            self.panicking |= other.panicking
            self.breaker = max(self.breaker, other.breaker, key=_BREAKERS.index)


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
