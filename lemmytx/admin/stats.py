"""
The statistics, with the names that Lemmy gave them.

C{count} and C{status_code_count} are of the last minute (L{lemmytx.proxy.statistics}); all that begins with C{total} or
C{average} is since the start. They are collected when somebody asks. With ten thousand vhosts that takes a tenth of a
second, so it is done in slices with the reactor's other work in between; each vhost's figures are of one moment.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.http import Request

from lemmytx import __version__
from lemmytx.admin.answers import answer_text
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.traffic import Traffic
from lemmytx.http1 import codec
from lemmytx.proxy.listener import Connections
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.statistics import Recent

#: Vhosts or backends per slice: about a millisecond.
SLICE = 100

#: The name under which L{Recent} keeps what no vhost was for. No vhost can be called that.
UNROUTED = ""


def counters(resource: ReverseProxyResource) -> list[tuple[str, Traffic]]:
    """All that L{Recent} is to keep an eye on."""
    found = [(vhost.name, vhost.traffic) for vhost in resource.vhosts]
    found.append((UNROUTED, resource.unrouted))
    return found


class Lately:
    """Counts of the last minute, of one vhost or added up."""

    __slots__ = ("count", "statuses")

    def __init__(self) -> None:
        self.count = 0
        self.statuses: dict[int, int] = {}

    def add(self, count: int, statuses: dict[int, int]) -> None:
        """Add others."""
        self.count += count
        for status, number in statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + number


def _statuses(statuses: dict[int, int]) -> dict[str, int]:
    return {str(status): statuses[status] for status in sorted(statuses)}


def _totals(traffic: Traffic) -> dict[str, Any]:
    """Counters since the start, under their names."""
    count = traffic.count or 1
    average = traffic.time / count
    return {
        "total_count": traffic.count,
        "total_status_code_count": _statuses(traffic.statuses),
        "total_response_time": str(timedelta(seconds=traffic.time)),
        "total_response_time_sec": round(traffic.time, 6),
        "average_response_time": str(timedelta(seconds=average)),
        "average_response_time_sec": round(average, 6),
        "total_response_size": traffic.sent,
        "average_response_size": round(traffic.sent / count, 1),
        "total_request_size": traffic.received,
    }


def _counted(traffic: Traffic, lately: Lately) -> dict[str, Any]:
    """The same, and the last minute."""
    return {"count": lately.count, "status_code_count": _statuses(lately.statuses), **_totals(traffic)}


def _backend(backend: Backend) -> dict[str, Any]:
    return {
        "url": backend.url,
        "role": backend.role,
        "state": backend.state,
        "health": backend.health,
        "weight": backend.weight,
        "capacity": backend.capacity,
        "active": backend.active,
        "idle": len(backend.idle),
        "connects": backend.connects,
        "reused": backend.reused,
        "failures": dict(backend.failures),
        **_totals(backend.traffic),
    }


class Statistics:
    """
    Collects what C{/stats} answers.
    """

    def __init__(
        self,
        resource: ReverseProxyResource,
        connections: Connections,
        recent: Recent,
        clock: IReactorTime,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        """
        @param clock: measures the time since now, which is taken for the start; and lets others work between slices.
        @param seconds: the time of day.
        """
        self._resource = resource
        self._connections = connections
        self._recent = recent
        self._clock = clock
        self._seconds = seconds
        self._started = clock.seconds()

    async def collect(self) -> str:
        """
        @return: all of it, as JSON.
        """
        whole, lately = Traffic(), Lately()
        vhosts = []
        for number, vhost in enumerate(self._resource.vhosts):
            if number % SLICE == SLICE - 1:
                await deferLater(self._clock, 0)
            vhosts.append(f"{json.dumps(vhost.name)}: {self._add(vhost.name, vhost.traffic, whole, lately)}")
        unrouted = self._add(UNROUTED, self._resource.unrouted, whole, lately)
        clusters = [
            f"{json.dumps(cluster.name)}: {await self._cluster(cluster)}"
            for cluster in list(self._resource.clusters.values())
        ]
        facts = json.dumps(self._facts() | _counted(whole, lately))
        return (
            f'{facts[:-1]}, "unrouted": {unrouted}, "vhosts": {{{", ".join(vhosts)}}},'
            f' "clusters": {{{", ".join(clusters)}}}}}'
        )

    def _add(self, name: str, traffic: Traffic, whole: Traffic, all_lately: Lately) -> str:
        """One vhost, as JSON, and added to the whole."""
        lately = Lately()
        lately.add(*self._recent.of(name, traffic))
        all_lately.add(lately.count, lately.statuses)
        whole.add(traffic)
        return json.dumps(_counted(traffic, lately))

    async def _cluster(self, cluster: Cluster) -> str:
        backends = []
        for number, backend in enumerate(cluster.backends):
            if number % SLICE == SLICE - 1:
                await deferLater(self._clock, 0)
            backends.append(f"{json.dumps(backend.name)}: {json.dumps(_backend(backend))}")
        facts = json.dumps({"retrying": cluster.retrying, "scheduler_failures": cluster.scheduler_failures})
        return f'{facts[:-1]}, "backends": {{{", ".join(backends)}}}}}'

    def _facts(self) -> dict[str, Any]:
        """What is of the process."""
        uptime = self._clock.seconds() - self._started
        now = self._seconds()
        backends = [backend for cluster in self._resource.clusters.values() for backend in cluster.backends]
        return {
            "version": __version__,
            "codec": "compiled" if codec.compiled else "pure",
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "uptime": str(timedelta(seconds=int(uptime))),
            "uptime_sec": round(uptime, 3),
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            "unixtime": int(now),
            "downstreams": self._connections.count,
            "exchanges": self._resource.exchanges,
            "upstreams": {
                "active": sum(backend.active for backend in backends),
                "idle": sum(len(backend.idle) for backend in backends),
            },
        }


def add_routes(app: Klein, statistics: Statistics) -> None:
    """The route of C{/stats}."""

    @app.route("/stats", methods=["GET"])
    async def stats(request: Request) -> bytes:
        """All statistics."""
        return answer_text(request, await statistics.collect())
