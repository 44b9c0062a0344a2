"""
The statistics, with the names that Lemmy gave them.

C{count} and C{status_code_count} are of the last minute (L{lemmytx.proxy.statistics}); all that begins with C{total} or
C{average} is since the start. They are collected when somebody asks (L{lemmytx.proxy.snapshot}). With ten thousand
vhosts that takes two tenths of a second, so it is done in slices with the reactor's other work in between.
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
from twisted.web.http import Request

from lemmytx import __version__
from lemmytx.admin.answers import answer_text
from lemmytx.cluster.traffic import Traffic
from lemmytx.http1 import codec
from lemmytx.interfaces import IInstance
from lemmytx.proxy.snapshot import BackendFigures, Figures, Slices, Snapshot


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


def _counted(figures: Figures) -> dict[str, Any]:
    """The same, and the last minute."""
    return {
        "count": figures.count,
        "status_code_count": _statuses(figures.statuses),
        **_totals(figures.traffic),
    }


def _backend(backend: BackendFigures) -> dict[str, Any]:
    seen = {"healths": backend.healths} if sum(backend.healths.values()) > 1 else {}
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
        **_totals(backend.traffic),
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
            vhosts.append(f"{json.dumps(name)}: {json.dumps(_counted(figures))}")
        clusters = []
        active = idle = 0
        for name, cluster in snapshot.clusters.items():
            backends = []
            for backend_name, backend in cluster.backends.items():
                if slices.full():
                    await slices.turn()
                active += backend.active
                idle += backend.idle
                backends.append(f"{json.dumps(backend_name)}: {json.dumps(_backend(backend))}")
            rest = json.dumps({"retrying": cluster.retrying, "scheduler_failures": cluster.scheduler_failures})
            clusters.append(f'{json.dumps(name)}: {rest[:-1]}, "backends": {{{", ".join(backends)}}}}}')
        facts = self._facts() | {
            "downstreams": snapshot.downstreams,
            "exchanges": snapshot.exchanges,
            "upstreams": {"active": active, "idle": idle},
        }
        if workers:
            facts["workers"] = workers
        if snapshot.refusals:
            facts["refusals"] = snapshot.refusals
        if snapshot.certificates:
            facts["certificates"] = list(snapshot.certificates.values())
        return (
            f'{json.dumps(facts | _counted(whole))[:-1]}, "unrouted": {json.dumps(_counted(snapshot.unrouted))},'
            f' "removed": {json.dumps(_totals(snapshot.removed))},'
            f' "vhosts": {{{", ".join(vhosts)}}}, "clusters": {{{", ".join(clusters)}}}}}'
        )

    def _facts(self) -> dict[str, Any]:
        """What is of the process that answers."""
        uptime = self._clock.seconds() - self._started
        now = self._seconds()
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
