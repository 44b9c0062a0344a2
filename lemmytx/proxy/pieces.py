"""
A L{Snapshot} on its way to another process: JSON, in pieces that are each no longer than a value of AMP may be.

In lists whose places have a meaning, since there are many of them. What has counted nothing is 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from lemmytx.cluster.traffic import Traffic
from lemmytx.proxy.figures import BackendFigures, BucketFigures, ClusterFigures, Figures, Lately, Snapshot

#: Bytes after which a piece ends. With one more entry of all statuses and response times that there can be it still
#: fits into a value of AMP (65,535 bytes).
PIECE = 18_000


def _from_traffic(traffic: Traffic) -> Any:
    if not traffic.count:
        return 0
    return [traffic.count, traffic.statuses, round(traffic.time, 6), traffic.received, traffic.sent]


def _to_traffic(data: Any) -> Traffic:
    traffic = Traffic()
    if data:
        traffic.count, statuses, traffic.time, traffic.received, traffic.sent = data
        traffic.statuses = {int(status): count for status, count in statuses.items()}
    return traffic


def _from_lately(lately: Lately) -> Any:
    if not lately.times:
        return [lately.rates] if any(lately.rates) else 0
    return [lately.rates, *chain.from_iterable(lately.times.items())]


def _to_lately(data: Any) -> Lately:
    lately = Lately()
    if data:
        lately.rates, *pairs = data
        lately.times = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return lately


def _from_figures(figures: Figures) -> Any:
    if not figures.traffic.count:
        return 0
    return [_from_traffic(figures.traffic), figures.count, figures.statuses, _from_lately(figures.lately)]


def _to_figures(data: Any) -> Figures:
    figures = Figures()
    if data:
        traffic, figures.count, statuses, lately = data
        figures.traffic = _to_traffic(traffic)
        figures.lately = _to_lately(lately)
        figures.statuses = {int(status): count for status, count in statuses.items()}
    return figures


_FACTS = ("pid", "uptime", "downstreams", "exchanges")
_PLAIN = (
    "url", "role", "state", "health", "healths", "since", "reason", "checks", "weight", "capacity", "active", "idle",
    "connects", "reused", "ejections", "warmth", "wanted",
)  # fmt: skip

#: Of a cluster, in this order.
_CLUSTER = ("retrying", "scheduler_failures", "panicking", "queued", "breaker", "turned_away", "counts")

#: Of a bucket, in this order.
_BUCKET = ("rate", "ceil", "active", "queued", "total", "full", "timeouts")


def _from_bucket(bucket: BucketFigures) -> Any:
    return [*(getattr(bucket, name) for name in _BUCKET), _from_traffic(bucket.traffic), _from_lately(bucket.lately)]


def _to_bucket(data: Any) -> BucketFigures:
    bucket = BucketFigures()
    *plain, traffic, lately = data
    for name, value in zip(_BUCKET, plain, strict=True):
        setattr(bucket, name, value)
    bucket.traffic = _to_traffic(traffic)
    bucket.lately = _to_lately(lately)
    return bucket


def _from_backend(backend: BackendFigures) -> Any:
    counted = backend.failures, _from_traffic(backend.traffic), _from_lately(backend.lately)
    return [*(getattr(backend, name) for name in _PLAIN), *counted]


def _to_backend(data: Any) -> BackendFigures:
    backend = BackendFigures()
    *plain, backend.failures, traffic, lately = data
    backend.lately = _to_lately(lately)
    for name, value in zip(_PLAIN, plain, strict=True):
        setattr(backend, name, value)
    backend.traffic = _to_traffic(traffic)
    return backend


def _dumps(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


def _entries(snapshot: Snapshot) -> Iterator[str]:
    """Everything, in small parts: facts, vhosts, clusters, and backends each behind its cluster."""
    facts = {name: getattr(snapshot, name) for name in _FACTS}
    facts["removed"] = _from_traffic(snapshot.removed)
    facts["unrouted"] = _from_figures(snapshot.unrouted)
    yield _dumps(["f", facts])
    for endpoint, reasons in snapshot.refusals.items():
        yield _dumps(["r", endpoint, reasons])
    for certificate in snapshot.certificates.values():
        yield _dumps(["t", certificate])
    for name, figures in snapshot.vhosts.items():
        yield _dumps(["v", name, _from_figures(figures)])
    for name, cluster in snapshot.clusters.items():
        yield _dumps(["c", name, *(getattr(cluster, each) for each in _CLUSTER)])
        for bucket_name, bucket in cluster.buckets.items():
            yield _dumps(["k", bucket_name, _from_bucket(bucket)])
        for backend_name, backend in cluster.backends.items():
            yield _dumps(["b", backend_name, _from_backend(backend)])


def pieces(snapshot: Snapshot) -> Iterator[bytes]:
    """
    As bytes, in pieces that are each made when it is asked for, and each fit into a value of AMP. Each knows its place,
    and the last one that it is the last.
    """
    number = size = 0
    gathered: list[str] = []
    for entry in _entries(snapshot):
        if size + len(entry) > PIECE and gathered:
            yield f'{{"piece":{number},"last":false,"of":[{",".join(gathered)}]}}'.encode()
            number, size, gathered = number + 1, 0, []
        gathered.append(entry)
        size += len(entry)
    yield f'{{"piece":{number},"last":true,"of":[{",".join(gathered)}]}}'.encode()


def from_pieces(found: Iterable[bytes]) -> Snapshot:
    """
    What L{pieces} made.

    @param found: in their order.
    @raise ValueError, TypeError, LookupError: for what it did not make, and for anything but all of it.
    """
    snapshot = Snapshot()
    cluster = ClusterFigures()
    last = False
    for number, piece in enumerate(found):
        data = json.loads(piece)
        if last or data["piece"] != number:
            raise ValueError(f"found piece {data['piece']} in the place of {number}")
        last = data["last"]
        for entry in data["of"]:
            kind = entry[0]
            if kind == "v":
                snapshot.vhosts[entry[1]] = _to_figures(entry[2])
            elif kind == "b":
                cluster.backends[entry[1]] = _to_backend(entry[2])
            elif kind == "k":
                cluster.buckets[entry[1]] = _to_bucket(entry[2])
            elif kind == "c":
                cluster = snapshot.clusters[entry[1]] = ClusterFigures()
                for each, value in zip(_CLUSTER, entry[2:], strict=True):
                    setattr(cluster, each, value)
            elif kind == "r":
                snapshot.refusals[entry[1]] = entry[2]
            elif kind == "t":
                snapshot.certificates[entry[1]["file"]] = entry[1]
            else:
                _to_facts(snapshot, entry[1])
    if not last:
        raise ValueError("the last piece is missing")
    return snapshot


def _to_facts(snapshot: Snapshot, facts: Any) -> None:
    for name in _FACTS:
        setattr(snapshot, name, facts[name])
    snapshot.removed = _to_traffic(facts["removed"])
    snapshot.unrouted = _to_figures(facts["unrouted"])


def to_bytes(snapshot: Snapshot) -> bytes:
    """All of L{pieces}, one per line."""
    return b"\n".join(pieces(snapshot))


def from_bytes(data: bytes) -> Snapshot:
    """
    What L{to_bytes} made.

    @raise ValueError, TypeError, LookupError: for what it did not make.
    """
    return from_pieces(data.split(b"\n"))
