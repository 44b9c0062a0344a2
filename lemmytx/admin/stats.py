"""
The statistics, with the names that Lemmy gave them.

C{count} and C{status_code_count} are of the last minute (L{lemmytx.proxy.statistics}), C{requests_per_sec} of what its
names say, C{response_time_sec} of the last five minutes; all that begins with C{total} or C{average} is since the
start. What each of them means stands in docs/statistics.md.

They are collected when somebody asks (L{lemmytx.proxy.snapshot}). With ten thousand vhosts that takes two tenths of a
second, so it is done in slices with the reactor's other work in between.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from lemmytx import __version__
from lemmytx.admin.answers import answer_text
from lemmytx.cluster.histogram import quantiles
from lemmytx.cluster.traffic import PERIODS, Traffic
from lemmytx.http1 import codec
from lemmytx.interfaces import IInstance
from lemmytx.proxy.figures import (
    CONFIGURATION,
    BackendFigures,
    BucketFigures,
    ClusterFigures,
    Figures,
    Lately,
    add_up,
)
from lemmytx.proxy.snapshot import Slices, Snapshot
from lemmytx.table import State

if TYPE_CHECKING:
    from klein import Klein  # which installs a reactor; workers choose theirs after they have imported this

#: Which response times are told.
_QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}

#: Of so many backends that are not there is told what is wanted of them.
MOST_STRAYS = 100

#: What the log says of a client that left; no status of HTTP.
LEFT = 499


def _statuses(statuses: dict[int, int]) -> dict[str, int]:
    return {str(status): statuses[status] for status in sorted(statuses)}


def _classes(statuses: dict[int, int]) -> dict[str, int]:
    """By their first digit. What ended without a status, or with one that is ours alone, is not among them: 0, 499."""
    classes = {f"{digit}xx": 0 for digit in range(1, 6)}
    for status, count in statuses.items():
        name = f"{status // 100}xx"
        if name in classes and status != LEFT:
            classes[name] += count
    return classes


def _lately(lately: Lately) -> dict[str, Any]:
    """How fast it was, and how much."""
    times = quantiles(lately.times, _QUANTILES.values())
    return {
        "requests_per_sec": {f"{period}s": round(rate, 3) for period, rate in zip(PERIODS, lately.rates, strict=True)},
        "response_time_sec": {
            name: None if time is None else float(f"{time:.4g}") for name, time in zip(_QUANTILES, times, strict=True)
        },
    }


def _totals(traffic: Traffic) -> dict[str, Any]:
    """Counters since the start, under their names."""
    count = traffic.count or 1
    average = traffic.time / count
    return {
        "total_count": traffic.count,
        "total_status_code_count": _statuses(traffic.statuses),
        "total_status_classes": _classes(traffic.statuses),
        "total_response_time": str(timedelta(seconds=traffic.time)),
        "total_response_time_sec": round(traffic.time, 6),
        "average_response_time": str(timedelta(seconds=average)),
        "average_response_time_sec": round(average, 6),
        "total_response_size": traffic.sent,
        "average_response_size": round(traffic.sent / count, 1),
        "total_request_size": traffic.received,
    }


def counted(figures: Figures) -> dict[str, Any]:
    """What was served, since the start and in the last minute."""
    return {
        "count": figures.count,
        "status_code_count": _statuses(figures.statuses),
        **_lately(figures.lately),
        **_totals(figures.traffic),
    }


def state_facts(state: State) -> dict[str, Any]:
    """When a backend's state was set, by whom and why."""
    try:
        since = datetime.fromtimestamp(state.at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # what stands in a store may be any number
        since = None
    return {"state_since": since, "state_by": state.by, "state_reason": state.why}


def backend_facts(backend: BackendFigures) -> dict[str, Any]:
    """All that is told of a backend."""
    seen: dict[str, Any] = {"healths": backend.healths} if sum(backend.healths.values()) > 1 else {}
    if backend.wanted:
        at, by, why = backend.wanted
        seen |= state_facts(State(backend.state, why, by, at))
        if by == CONFIGURATION and not at:
            seen["state_since"] = None  # nobody knows when the file was written
    if backend.since:
        since = datetime.fromtimestamp(backend.since, UTC).isoformat(timespec="seconds")
        seen |= {"health_since": since, "health_reason": backend.reason}
    if backend.warmth < 1:
        seen["warmth"] = round(backend.warmth, 3)
    if backend.checks:
        seen["checks"] = backend.checks
    return {
        "url": backend.url,
        "role": backend.role,
        "state": backend.state,
        "health": backend.health,
        **seen,
        "weight": backend.weight,
        "capacity": backend.capacity,
        "active": backend.active,
        "idle": backend.idle,
        "connects": backend.connects,
        "reused": backend.reused,
        "failures": backend.failures,
        "ejections": backend.ejections,
        **_lately(backend.lately),
        **_totals(backend.traffic),
    }


class _Sum:
    """
    What the backends of a cluster have together, so far.
    """

    def __init__(self) -> None:
        self.active = self.idle = self.connects = self.reused = self.ejections = 0
        self.failures: dict[str, int] = {}
        self.traffic = Traffic()
        self.lately = Lately()

    def add(self, backend: BackendFigures) -> None:
        """One more."""
        self.active += backend.active
        self.idle += backend.idle
        self.connects += backend.connects
        self.reused += backend.reused
        self.ejections += backend.ejections
        add_up(self.failures, backend.failures)
        self.traffic.add(backend.traffic)
        self.lately.add(backend.lately)


def _bucket(bucket: BucketFigures) -> dict[str, Any]:
    return {
        "rate": bucket.rate,
        "ceil": bucket.ceil,
        "active": bucket.active,
        "queued": bucket.queued,
        "queue_full": bucket.full,
        "queue_timeouts": bucket.timeouts,
        **_lately(bucket.lately),
        **_totals(bucket.traffic),
    }


def _cluster(cluster: ClusterFigures, whole: _Sum) -> dict[str, Any]:
    some: dict[str, Any] = {"breaker": cluster.breaker} if cluster.breaker else {}
    if cluster.buckets:
        some["buckets"] = {name: _bucket(bucket) for name, bucket in cluster.buckets.items()}
    return {
        "panicking": cluster.panicking,
        **some,
        "active": whole.active,
        "queued": cluster.queued,
        "retrying": cluster.retrying,
        "idle": whole.idle,
        "connects": whole.connects,
        "reused": whole.reused,
        "failures": whole.failures,
        "ejections": whole.ejections,
        "turned_away": cluster.turned_away,
        "scheduler_failures": cluster.scheduler_failures,
        **cluster.counts,
        **_lately(whole.lately),
        **_totals(whole.traffic),
    }


class Statistics:
    """
    What C{/stats} answers.
    """

    def __init__(self, instance: IInstance, clock: IReactorTime, seconds: Callable[[], float] = time.time) -> None:
        """
        @param clock: measures the time since now, which is taken for the start; and lets others work between slices.
        @param seconds: the time of day.
        """
        self._instance = instance
        self._clock = clock
        self._seconds = seconds
        self._started = clock.seconds()

    async def collect(self) -> str:
        """
        @return: all of it, as JSON.
        """
        snapshot: Snapshot = await self._instance.snapshot()
        workers = self._instance.workers()
        slices = Slices(self._clock)
        whole = Figures()
        whole.traffic.add(snapshot.removed)
        whole.add(snapshot.unrouted)
        vhosts = []
        for name, figures in snapshot.vhosts.items():
            if slices.full():
                await slices.turn()
            whole.add(figures)
            vhosts.append(f"{json.dumps(name)}: {json.dumps(counted(figures))}")
        clusters = []
        active = idle = 0
        for name, cluster in snapshot.clusters.items():
            backends = []
            together = _Sum()
            for backend_name, backend in cluster.backends.items():
                if slices.full():
                    await slices.turn()
                together.add(backend)
                backends.append(f"{json.dumps(backend_name)}: {json.dumps(backend_facts(backend))}")
            active += together.active
            idle += together.idle
            rest = json.dumps(_cluster(cluster, together))
            clusters.append(f'{json.dumps(name)}: {rest[:-1]}, "backends": {{{", ".join(backends)}}}}}')
        facts = self._facts() | {
            "downstreams": snapshot.downstreams,
            "exchanges": snapshot.exchanges,
            "upstreams": {"active": active, "idle": idle},
        }
        if workers:
            facts["workers"] = workers
        store = self._instance.store()
        if store:
            facts["store"] = store
        strays = self._instance.strays()
        if strays:
            facts["strays"] = [
                {"cluster": cluster, "backend": backend, "state": state.state, **state_facts(state)}
                for (cluster, backend), state in sorted(strays.items())[:MOST_STRAYS]
            ]
        if snapshot.refusals:
            facts["refusals"] = snapshot.refusals
        if snapshot.certificates:
            facts["certificates"] = list(snapshot.certificates.values())
        return (
            f'{json.dumps(facts | counted(whole))[:-1]}, "unrouted": {json.dumps(counted(snapshot.unrouted))},'
            f' "removed": {json.dumps(_totals(snapshot.removed))},'
            f' "vhosts": {{{", ".join(vhosts)}}}, "clusters": {{{", ".join(clusters)}}}}}'
        )

    def _facts(self) -> dict[str, Any]:
        """What is of the process that answers."""
        return process_facts(self._clock.seconds() - self._started, self._seconds())


def process_facts(uptime: float, now: float | None = None) -> dict[str, Any]:
    """
    What there is to know of this process.

    @param uptime: seconds that it has been serving.
    @param now: the time of day.
    """
    now = time.time() if now is None else now
    return {
        "version": __version__,
        "codec": "compiled" if codec.compiled else "pure",
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        "uptime": str(timedelta(seconds=int(uptime))),
        "uptime_sec": round(uptime, 3),
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "unixtime": int(now),
    }


def add_routes(app: Klein, statistics: Statistics) -> None:
    """The route of C{/stats}."""

    @app.route("/stats", methods=["GET"])
    async def stats(request: Request) -> bytes:
        """All statistics."""
        return answer_text(request, await statistics.collect())
