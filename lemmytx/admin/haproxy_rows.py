"""
What is known of vhosts, clusters and backends, as rows with HAProxy's fields. docs/haproxy.md says what each means.

  ==============================  =========================================================
  HAProxy                         here
  ==============================  =========================================================
  C{FRONTEND}                     a vhost; and L{LISTENERS}, for what came to none of them
  a server                        a backend
  C{BACKEND}                      a cluster
  a session of server or backend  an exchange
  ==============================  =========================================================

What nobody counts here has no value, rather than one that is only nearly right.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from lemmytx.addresses import parse_url
from lemmytx.admin.haproxy_checks import DESCRIPTIONS, Downtimes, verdict
from lemmytx.admin.haproxy_fields import BACKEND, FRONTEND, SERVER
from lemmytx.cluster.histogram import VALUES
from lemmytx.cluster.traffic import Traffic
from lemmytx.proxy.figures import BackendFigures, ClusterFigures, Figures, Snapshot

#: The frontend of all that no vhost had: connections, those that never came to HTTP, requests that were none and
#: those for unknown hosts. No vhost can be called so. Thus the sum over all frontends is the whole.
LISTENERS = "*listeners"

#: A client that left before its answer; no status of HTTP.
LEFT = 499

#: Statuses that say nothing against a request but that there is no vhost for it.
_UNKNOWN = (404, 421)


def usable(backend: BackendFigures) -> bool:
    """Whether it gets requests, if anybody does."""
    return backend.state == "ready" and backend.health in ("up", "going_down")


def status_of(backend: BackendFigures) -> str:
    """A server's status, as HAProxy calls it."""
    if backend.state == "disabled":
        return "MAINT"
    if backend.health == "unknown":
        return "MAINT (resolution)"
    if backend.health not in ("up", "going_down"):
        return "DOWN"
    if backend.state == "drain":
        return "DRAIN"
    return "UP" if backend.checks else "no check"


def _served(traffic: Traffic) -> dict[str, int | str]:
    """Bytes and statuses."""
    classes = [0] * 6
    for status, count in traffic.statuses.items():
        classes[status // 100 if 100 <= status < 600 and status != LEFT else 0] += count
    received, sent = traffic.received, traffic.sent
    return {
        "bin": received, "bout": sent, "reqbin": received, "resbout": sent,
        "hrsp_1xx": classes[1], "hrsp_2xx": classes[2], "hrsp_3xx": classes[3], "hrsp_4xx": classes[4],
        "hrsp_5xx": classes[5], "hrsp_other": classes[0],
    }  # fmt: skip


def _frontend(name: str, figures: Figures, iid: int) -> dict[str, int | str]:
    traffic, rate = figures.traffic, round(figures.lately.rates[0])
    return {
        "pxname": name, "svname": "FRONTEND", "stot": traffic.count, **_served(traffic), "status": "OPEN", "pid": 1,
        "iid": iid, "sid": 0, "type": FRONTEND, "rate": rate, "rate_lim": 0, "req_rate": rate,
        "req_tot": traffic.count, "mode": "http",
    }  # fmt: skip


def _listeners(snapshot: Snapshot, iid: int) -> dict[str, int | str]:
    """What came to no vhost."""
    row = _frontend(LISTENERS, snapshot.unrouted, iid)
    statuses = snapshot.unrouted.traffic.statuses
    row["scur"] = snapshot.downstreams
    row["ereq"] = sum(count for status, count in statuses.items() if not 100 <= status < 400 and status not in _UNKNOWN)
    row["dcon"] = sum(sum(reasons.values()) for reasons in snapshot.refusals.values())
    return row


class _Times:
    """Response times of the last five minutes: how many, and their sum in seconds."""

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0

    def add(self, times: dict[int, int]) -> None:
        """So many of each bucket."""
        for bucket, count in times.items():
            self.count += count
            self.sum += VALUES[bucket] * count

    def mean(self) -> int:
        """In ms; 0: there were none."""
        return round(1000 * self.sum / self.count) if self.count else 0


def _errors(backend: BackendFigures) -> dict[str, int]:
    """By HAProxy's names."""
    failures = backend.failures
    gone = failures.get("gone", 0)
    return {
        "econ": failures.get("refused", 0) + failures.get("tls", 0),
        "eresp": gone + failures.get("malformed", 0) + failures.get("timeout", 0),
        "cli_abrt": backend.traffic.statuses.get(LEFT, 0),
        "srv_abrt": gone,
        "connect": backend.connects,
        "reuse": backend.reused,
    }


def changed_at(backend: BackendFigures) -> float:
    """When a backend came into its state or health, whichever was later (seconds since 1970; 0: it always was so)."""
    wanted = backend.wanted[0] if backend.wanted else 0.0
    return max(backend.since, wanted)


def _mean(traffic: Traffic) -> int:
    return round(1000 * traffic.time / traffic.count) if traffic.count else 0


class Rows:
    """
    Makes rows. It remembers, from one time to the next, what was down.
    """

    def __init__(self) -> None:
        self._downtimes = Downtimes()

    def of(self, snapshot: Snapshot, now: float) -> Iterator[dict[str, int | str]]:
        """
        All rows, each made when it is asked for: frontends, then for each cluster its servers and itself.

        @param now: seconds since 1970.
        """
        iid = 1
        yield _listeners(snapshot, iid)
        for name, figures in snapshot.vhosts.items():
            iid += 1
            yield _frontend(name, figures, iid)
        keys: set[tuple[str, str]] = set()
        for name, cluster in snapshot.clusters.items():
            iid += 1
            yield from self._cluster(name, cluster, iid, snapshot, now, keys)
        self._downtimes.keep(keys)

    def _cluster(
        self,
        name: str,
        cluster: ClusterFigures,
        iid: int,
        snapshot: Snapshot,
        now: float,
        keys: set[tuple[str, str]],
    ) -> Iterator[dict[str, int | str]]:
        """The servers, and what they are together."""
        traffic, times, rate = Traffic(), _Times(), 0.0
        errors = dict.fromkeys(("econ", "eresp", "cli_abrt", "srv_abrt", "connect", "reuse"), 0)
        active, weights, user, counts = 0, [0, 0], [0, 0], [0, 0]
        good: list[float] = []
        last = 0.0
        for sid, (backend_name, backend) in enumerate(cluster.backends.items(), 1):
            traffic.add(backend.traffic)
            times.add(backend.lately.times)
            rate += backend.lately.rates[0]
            active += backend.active
            for field, number in _errors(backend).items():
                errors[field] += number
            changed = changed_at(backend)
            last = max(last, changed)
            weight = ceil(backend.weight * backend.warmth)
            if usable(backend):
                good.append(changed)
                if weight:
                    spare = backend.role != "active"
                    counts[spare] += 1
                    weights[spare] += weight
                    user[spare] += ceil(backend.weight)
            keys.add((name, backend_name))
            yield self._server(name, backend_name, backend, iid, sid, snapshot, now)
        turned_away = sum(cluster.turned_away.values())
        total = traffic.count + active + cluster.queued + turned_away
        # One that is up has been so at least since the eldest of its servers came up; one that is down, since the last
        # went.
        since = min(good) if good else last
        spare = not counts[0]
        retries = cluster.counts.get("retries", 0)
        alone = len(cluster.backends) == 1
        key = (name, "")
        keys.add(key)
        yield {
            "pxname": name, "svname": "BACKEND", "qcur": cluster.queued, "scur": active + cluster.queued,
            "stot": total, **_served(traffic), **errors, "econ": errors["econ"] + turned_away,
            "wretr": retries if alone else 0, "wredis": 0 if alone else retries,
            "status": "UP" if sum(counts) else "DOWN", "weight": weights[spare], "act": counts[0], "bck": counts[1],
            "lastchg": _age(since, snapshot, now),
            "downtime": self._downtimes.seen(key, not sum(counts), since, now),
            "pid": 1, "iid": iid, "sid": 0, "lbtot": traffic.count + active, "type": BACKEND, "rate": round(rate),
            "req_tot": total, "rtime": times.mean(), "ttime": _mean(traffic), "mode": "http", "uweight": user[spare],
        }  # fmt: skip

    def _server(
        self, cluster: str, name: str, backend: BackendFigures, iid: int, sid: int, snapshot: Snapshot, now: float
    ) -> dict[str, int | str]:
        traffic, times = backend.traffic, _Times()
        times.add(backend.lately.times)
        total = traffic.count + backend.active
        spare = int(backend.role != "active")
        changed = changed_at(backend)
        row: dict[str, int | str] = {
            "pxname": cluster, "svname": name, "qcur": 0, "scur": backend.active, "stot": total, **_served(traffic),
            **_errors(backend), "status": status_of(backend),
            "weight": 0 if backend.state == "drain" else ceil(backend.weight * backend.warmth),
            "act": 1 - spare, "bck": spare, "lastchg": _age(changed, snapshot, now),
            "downtime": self._downtimes.seen(
                (cluster, name), backend.state == "disabled" or backend.health not in ("up", "going_down"), changed, now
            ),
            "pid": 1, "iid": iid, "sid": sid, "lbtot": total, "type": SERVER, "rate": round(backend.lately.rates[0]),
            "rtime": times.mean(), "ttime": _mean(traffic), "mode": "http", "srv_icur": backend.idle,
            "uweight": ceil(backend.weight), "srid": 0,
        }  # fmt: skip
        address = _address(backend.url)
        if address:
            row["addr"] = address
        if backend.capacity:
            row["slim"] = backend.capacity
        if backend.warmth < 1:
            row["throttle"] = int(100 * backend.warmth)
        code, number, said = verdict(backend)
        if code:
            row |= {"check_status": code, "check_desc": DESCRIPTIONS[code], "last_chk": said}
            row |= {"chkfail": backend.checks["failed"], "chkdown": backend.checks.get("down", 0)}
            if number is not None:
                row["check_code"] = number
        return row


def _age(since: float, snapshot: Snapshot, now: float) -> int:
    """Seconds; of what has never changed, those that we know it."""
    return int(max(0.0, now - since) if since else snapshot.uptime)


def _address(url: str) -> str:
    """Address and port; C{unix} for a socket."""
    try:
        location = parse_url(url)
    except ValueError:
        return ""  # from a process of another version
    return "unix" if location.path else str(location.authority)
