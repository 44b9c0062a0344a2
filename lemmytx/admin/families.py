"""
What C{/metrics} has: the table of all metrics, each with how it is read from the figures.

A L{Group} is what has the same labels: the instance, vhosts, clusters, backends and so on. Each of its L{Row}s is a
metric. Nothing is kept here: the series of what is gone go with it, and there are as many as the snapshot has entries.

Names follow Prometheus' conventions: base units, C{_total} for what only grows. Response times of late are a gauge
histogram: its counts are those of the last five minutes, so C{histogram_quantile} takes them as they are, without
C{rate}. docs/metrics.md has all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from platform import python_version
from typing import Any, NamedTuple

from lemmytx import __version__
from lemmytx.admin.lag import Lag
from lemmytx.admin.readings import SUM, Labels, Reading, Row, by, classes, counter, gauge, served, times_of
from lemmytx.cluster.traffic import Traffic
from lemmytx.http1 import codec
from lemmytx.proxy.figures import BackendFigures, BucketFigures, ClusterFigures, Figures, Snapshot

#: Kinds of failures that a cluster always has, and reasons for which it turns requests away.
KINDS = ("refused", "tls", "timeout", "gone", "malformed", "status")
REASONS = ("overloaded", "no_backend", "queue_full", "timeout_queue")

#: What is available: its health, and what an operator wants.
_UP = ("up", "going_down")


class Facts(NamedTuple):
    """
    What all rows read.

    @ivar whole: what was served in all.
    @ivar workers: as L{lemmytx.interfaces.IInstance.workers}, C{store}: as its C{store}, C{ready}: as its C{ready}.
    @ivar processes: what the system says of each, by name, as L{lemmytx.admin.processes.look}.
    @ivar lag: of this process.
    """

    snapshot: Snapshot
    whole: Traffic
    ready: bool
    workers: Sequence[Mapping[str, Any]]
    store: Mapping[str, Any]
    processes: Mapping[str, Mapping[str, float]]
    lag: Lag


class Group(NamedTuple):
    """
    Metrics with the same labels.

    @ivar entries: gives the values of the labels, and what rows read.
    """

    labels: Labels
    entries: Callable[[Facts], Iterable[tuple[Labels, Any]]]
    rows: tuple[Row, ...]


# How things are read


def _lag(facts: Facts) -> Iterator[Reading]:
    for end, count in facts.lag.reached():
        yield (end,), count
    yield SUM, facts.lag.total


def _up(backend: BackendFigures) -> float:
    return float(backend.state == "ready" and backend.health in _UP)


def _failures(cluster: ClusterFigures) -> dict[str, float]:
    found: dict[str, float] = dict.fromkeys(KINDS, 0)
    for backend in cluster.backends.values():
        for kind, count in backend.failures.items():
            found[kind] = found.get(kind, 0) + count
    return found


def _expiry(certificate: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(certificate["expires"]).timestamp()


def _count(name: str) -> Callable[[ClusterFigures], float]:
    return lambda cluster: cluster.counts.get(name, 0)


def _breaker(cluster: ClusterFigures) -> dict[str, float]:
    return {cluster.breaker: 1} if cluster.breaker else {}


def _breaker_count(name: str) -> Callable[[Any], Iterable[Reading]]:
    """Only where there is one."""
    return lambda cluster: (((), cluster.counts[name]),) if name in cluster.counts else ()


def _checks(backend: BackendFigures) -> dict[str, float]:
    return {name: backend.checks[name] for name in ("passed", "failed") if name in backend.checks}


def _changes(backend: BackendFigures) -> dict[str, float]:
    return {name: count for name, count in backend.checks.items() if name not in ("passed", "failed")}


def _process(name: str) -> Callable[[Mapping[str, float]], float | None]:
    return lambda process: process.get(name)


def _of(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    """What a store says, where it does."""
    return lambda said: said.get(name)


# What entries there are


def _instance(facts: Facts) -> Iterable[tuple[Labels, Any]]:
    return (((), facts),)


def _build(facts: Facts) -> Iterable[tuple[Labels, Any]]:
    return (((__version__, "compiled" if codec.compiled else "pure", python_version()), None),)


def _vhosts(facts: Facts) -> Iterable[tuple[Labels, Figures]]:
    return (((name,), figures) for name, figures in facts.snapshot.vhosts.items())


def _clusters(facts: Facts) -> Iterable[tuple[Labels, ClusterFigures]]:
    return (((name,), cluster) for name, cluster in facts.snapshot.clusters.items())


def _backends(facts: Facts) -> Iterable[tuple[Labels, BackendFigures]]:
    for cluster_name, cluster in facts.snapshot.clusters.items():
        for name, backend in cluster.backends.items():
            yield (cluster_name, name), backend


def _buckets(facts: Facts) -> Iterable[tuple[Labels, BucketFigures]]:
    for cluster_name, cluster in facts.snapshot.clusters.items():
        for name, bucket in cluster.buckets.items():
            yield (cluster_name, name), bucket


def _store(facts: Facts) -> Iterable[tuple[Labels, Mapping[str, Any]]]:
    # Before it is open there may be some of it already.
    return (((str(facts.store["type"]),), facts.store),) if "type" in facts.store else ()


def _certificates(facts: Facts) -> Iterable[tuple[Labels, Mapping[str, Any]]]:
    for file, certificate in facts.snapshot.certificates.items():
        names = certificate["names"]
        yield (file, names[0] if names else ""), certificate


GROUPS = (
    Group(("version", "codec", "python"), _build, (
        gauge("lemmytx_build_info", "What runs; always 1.", lambda _: 1),
    )),
    Group((), _instance, (
        gauge("lemmytx_ready", "Whether it can serve: 1 or 0, as /ready says.", lambda facts: facts.ready),
        gauge("lemmytx_uptime_seconds", "Since it began to serve; of several processes the longest.",
              lambda facts: facts.snapshot.uptime),
        gauge("lemmytx_connections", "Connections of clients, over all listeners.",
              lambda facts: facts.snapshot.downstreams),
        gauge("lemmytx_exchanges", "Requests under way.", lambda facts: facts.snapshot.exchanges),
        *served("lemmytx", "in all", lambda facts: facts.whole),
        by("code", "lemmytx_unrouted_requests_total", "counter",
           "Requests that no vhost is for, and those that were no HTTP, by the class of status.",
           lambda facts: classes(facts.snapshot.unrouted.traffic.statuses)),
        Row("lemmytx_event_loop_lag_seconds", "histogram",
            "How much later than wanted the process that answers was called, once a second.", ("le",), _lag),
    )),
    Group(("worker",), lambda facts: [((str(each["id"]),), each) for each in facts.workers], (
        gauge("lemmytx_worker_uptime_seconds", "Since this process began.", lambda worker: worker["uptime_sec"]),
        gauge("lemmytx_worker_connections", "Connections of clients, of one worker.",
              lambda worker: worker["downstreams"]),
        gauge("lemmytx_worker_exchanges", "Requests under way, of one worker.", lambda worker: worker["exchanges"]),
        counter("lemmytx_worker_restarts_total", "How often it was started again.",
                lambda worker: worker["restarts"]),
    )),
    Group(("process",), lambda facts: [((name,), each) for name, each in facts.processes.items()], (
        counter("lemmytx_process_cpu_seconds_total", "Processor time, of user and system.",
                lambda process: process["cpu_seconds"]),
        gauge("lemmytx_process_resident_memory_bytes", "Memory in use.", _process("resident_memory_bytes")),
        gauge("lemmytx_process_virtual_memory_bytes", "Memory that is mapped.", _process("virtual_memory_bytes")),
        gauge("lemmytx_process_start_time_seconds", "When it started, since 1970.", _process("start_time_seconds")),
        gauge("lemmytx_process_open_fds", "File descriptors that are open.", _process("open_fds")),
        gauge("lemmytx_process_max_fds", "How many may be open.", _process("max_fds")),
    )),
    Group(("listener",), lambda facts: [((name,), each) for name, each in facts.snapshot.refusals.items()], (
        by("reason", "lemmytx_listener_refusals_total", "counter",
           "Connections that ended before HTTP began, by the reason; only where there were any.", lambda each: each),
    )),
    Group(("vhost",), _vhosts, (
        *served("lemmytx_vhost", "of a vhost", lambda figures: figures.traffic),
        times_of("lemmytx_vhost", "a vhost, as clients have them,"),
    )),
    Group(("cluster",), _clusters, (
        gauge("lemmytx_cluster_queued", "Requests that wait for a backend.", lambda cluster: cluster.queued),
        gauge("lemmytx_cluster_retrying", "Retries under way, hedges included.", lambda cluster: cluster.retrying),
        gauge("lemmytx_cluster_panicking", "Whether so few backends are up that health is ignored.",
              lambda cluster: cluster.panicking),
        by("reason", "lemmytx_cluster_turned_away_total", "counter", "Requests that nobody took, by the reason.",
           lambda cluster: {**dict.fromkeys(REASONS, 0), **cluster.turned_away}),
        by("kind", "lemmytx_cluster_failures_total", "counter",
           "Failures of backends that it has now, by kind.", _failures),
        counter("lemmytx_cluster_retries_total", "Retries, hedges included.", _count("retries")),
        counter("lemmytx_cluster_retries_refused_total", "Retries that the budget had no room for.",
                _count("retries_refused")),
        counter("lemmytx_cluster_hedges_total", "Second requests beside slow ones.", _count("hedges")),
        counter("lemmytx_cluster_hedge_wins_total", "Those that were answered first.", _count("hedge_wins")),
        counter("lemmytx_cluster_failovers_total", "Requests that went to the failover cluster.",
                _count("failovers")),
        counter("lemmytx_cluster_scheduler_failures_total", "Choices that the scheduler failed to make.",
                lambda cluster: cluster.scheduler_failures),
        by("state", "lemmytx_cluster_breaker", "gauge",
           "The state of the circuit breaker, where there is one; always 1.", _breaker),
        Row("lemmytx_cluster_breaker_opened_total", "counter", "How often it opened.", (),
            _breaker_count("breaker_opened")),
        Row("lemmytx_cluster_breaker_refused_total", "counter", "Requests that it turned away.", (),
            _breaker_count("breaker_refused")),
    )),
    Group(("cluster", "backend"), _backends, (
        gauge("lemmytx_backend_up", "Whether it has requests: its health is up or going_down, its state ready.", _up),
        by("state", "lemmytx_backend_state", "gauge",
           "What an operator wants of it: ready, drain or disabled; always 1.", lambda backend: {backend.state: 1}),
        by("health", "lemmytx_backend_health", "gauge", "How many processes see it in this health.",
           lambda backend: backend.healths),
        gauge("lemmytx_backend_weight", "As configured.", lambda backend: backend.weight),
        gauge("lemmytx_backend_warmth", "Which part of the weight counts (slow_start).",
              lambda backend: backend.warmth),
        gauge("lemmytx_backend_capacity", "Requests that it takes at one time; 0: any number.",
              lambda backend: backend.capacity),
        gauge("lemmytx_backend_active", "Exchanges on it.", lambda backend: backend.active),
        gauge("lemmytx_backend_idle_connections", "Connections to it that wait for a request.",
              lambda backend: backend.idle),
        *served("lemmytx_backend", "of a backend", lambda backend: backend.traffic),
        counter("lemmytx_backend_connects_total", "Connections made.", lambda backend: backend.connects),
        counter("lemmytx_backend_reused_total", "Exchanges that found a connection standing.",
                lambda backend: backend.reused),
        by("kind", "lemmytx_backend_failures_total", "counter", "Failures by kind; only where there were any.",
           lambda backend: backend.failures),
        counter("lemmytx_backend_ejections_total", "How often failures have put it out.",
                lambda backend: backend.ejections),
        by("result", "lemmytx_backend_checks_total", "counter", "Health checks, where there are any.", _checks),
        by("health", "lemmytx_backend_health_changes_total", "counter",
           "How often checks brought it into this health.", _changes),
        times_of("lemmytx_backend", "a backend, to the head of its response,"),
    )),
    Group(("cluster", "bucket"), _buckets, (
        gauge("lemmytx_bucket_ensured_requests", "How many at one time are ensured to it (rate).",
              lambda bucket: bucket.rate),
        gauge("lemmytx_bucket_most_requests", "How many it may have at one time (ceil).", lambda bucket: bucket.ceil),
        gauge("lemmytx_bucket_active", "Tokens that it has.", lambda bucket: bucket.active),
        gauge("lemmytx_bucket_queued", "Requests that wait in it.", lambda bucket: bucket.queued),
        counter("lemmytx_bucket_tokens_total", "Requests that had a token.", lambda bucket: bucket.total),
        counter("lemmytx_bucket_queue_full_total", "Requests that found its queue full.", lambda bucket: bucket.full),
        counter("lemmytx_bucket_queue_timeouts_total", "Requests that waited in vain.",
                lambda bucket: bucket.timeouts),
        *served("lemmytx_bucket", "of a bucket", lambda bucket: bucket.traffic),
        times_of("lemmytx_bucket", "a bucket, as clients have them,"),
    )),
    Group(("type",), _store, (
        gauge("lemmytx_store_up", "Whether the store can be had; 0: the last table serves.",
              lambda store: store["status"] == "OK"),
        gauge("lemmytx_store_vhosts", "Vhosts in the table.", _of("vhosts")),
        gauge("lemmytx_store_backends", "Backends in the table.", _of("backends")),
        gauge("lemmytx_store_built", "Vhosts of it that have been asked for; not with workers.", _of("built")),
        gauge("lemmytx_store_faults", "What of it cannot be used.", _of("faults")),
        gauge("lemmytx_store_processes", "Processes that share it, as far as they are shown.",
              lambda store: len(store["processes"]) if "processes" in store else None),
    )),
    Group(("file", "name"), _certificates, (
        gauge("lemmytx_certificate_expiry_timestamp_seconds", "When it ends, since 1970.", _expiry),
        gauge("lemmytx_certificate_problem", "Whether something is wrong with it: 1 or 0.",
              lambda certificate: bool(certificate["problem"])),
    )),
)  # fmt: skip
