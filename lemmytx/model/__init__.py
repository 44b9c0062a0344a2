"""
The configuration as frozen types: what the file may say, what it means, and what holds where it is silent.

This is the one place where a setting's name, type, bounds, default and meaning stand. L{lemmytx.config} reads files
into these types and makes the JSON Schema and the reference out of them; the admin side uses them for its bodies.

What a type here cannot know — whether a cluster that a route names exists, whether an endpoint can be parsed, whether
there is such a scheduler — L{lemmytx.config.checks} looks at.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lemmytx.model.chances import RESET, Backoff, CircuitBreaker, Hedge, Retry, SlowAnswers
from lemmytx.model.checks import CheckTls, HealthCheck, OwnHealthCheck, own_check
from lemmytx.model.clusters import LARGE, Backend, Cluster, ClusterRules, ClusterTimeouts, Pool, Scheduler
from lemmytx.model.doors import Hsts, Listener, Tls
from lemmytx.model.settings import LONG, Settings
from lemmytx.model.sticky import Pin, Sticky
from lemmytx.model.store import Store
from lemmytx.model.towards import BackendHttp2, BackendTls, FastCgi
from lemmytx.model.vhosts import Route, Vhost
from lemmytx.model.waiting import Bucket, BucketsBy, Queue
from lemmytx.names import HASH, NAME, PSEUDONYM
from lemmytx.units import FLAG, Rule, Substituted, count, duration, resolve, shown, size

#: More processes than this is a slip: no machine has a use for them.
MOST_WORKERS = 64


def _parse_workers(value: object) -> int:
    number = resolve(value) if isinstance(value, Substituted) else value
    if number == "auto":
        return AUTO
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_WORKERS:
        raise ValueError(f"found {shown(value)}; write a whole number from 1 to {MOST_WORKERS}, or auto: one per core")
    return number


#: What C{workers: auto} is read as; how many that are is for the process to find out.
AUTO = 0

WORKERS = Rule(
    "number",
    _parse_workers,
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}, {"const": "auto"}]},
)

__all__ = [
    "AUTO", "LARGE", "MOST_WORKERS", "RESET", "AccessLog", "Admin", "Backend", "BackendHttp2", "BackendTls", "Backoff",
    "Bucket", "BucketsBy", "CheckTls", "CircuitBreaker", "Cluster", "ClusterRules", "ClusterTimeouts", "Configuration",
    "FastCgi", "Forwarding", "HealthCheck", "Hedge", "Hsts", "Limits", "Listener", "OwnHealthCheck", "Pin", "Pool",
    "Queue", "Retry", "Route", "Scheduler", "Settings", "Shutdown", "SlowAnswers", "Sticky", "Store", "Timeouts",
    "Tls", "Token", "Vhost", "own_check",
]  # fmt: skip


class Token(Settings):
    """Who may use the admin side. 'lemmy token new' makes the token and its hash."""

    name: Annotated[str, NAME] = Field(description="Whose it is, for the log.")
    hash: Annotated[str, HASH] = Field(description="'sha256:' and the token's SHA-256; never the token itself.")
    role: Literal["read", "operate", "admin"] = Field(
        description="'read' looks, 'operate' also changes what runs, 'admin' also changes the configuration."
    )


class Admin(Settings):
    """The admin side: health, readiness, statistics."""

    endpoint: str = Field(
        default="tcp:8081:interface=127.0.0.1", description="Where it listens: a Twisted server endpoint description."
    )
    tokens: tuple[Token, ...] = Field(
        default=(), description="Who may use it. Empty: whoever can reach it, which is why it must then be on loopback."
    )


class AccessLog(Settings):
    """One line for each request."""

    path: str = Field(default="-", min_length=1, description="A file, or '-' for standard output.")
    format: Literal["combined", "json", "off"] = Field(
        default="combined", description="'combined' (as Apache and nginx), 'json' (with timers and reasons), or 'off'."
    )


class Limits(Settings):
    """Bounds on what clients may send."""

    header_size: Annotated[int, size(256, 1 << 20)] = Field(
        default=32 << 10,
        description="Longest head of a request, in bytes. Beyond: 431, or 414 for the target. A response's may be "
        "twice as long; beyond: 502.",
    )
    headers: Annotated[int, count(1, 10_000)] = Field(
        default=100, description="Most fields in the head of a request. Beyond: 431. A response may have twice as many."
    )
    body_size: Annotated[int, size(0, 1 << 50)] = Field(
        default=0, description="Longest body of a request, in bytes. Beyond: 413. 0: no limit."
    )
    connections: Annotated[int, count(1, 10_000_000)] = Field(
        default=10_000, description="Most client connections at one time. Beyond, new ones wait to be accepted."
    )


class Timeouts(Settings):
    """How long to wait for clients."""

    header: Annotated[float, duration(0.001, LONG)] = Field(
        default=10.0, description="From the first byte of a head to its end. After that: 408."
    )
    keepalive: Annotated[float, duration(0.001, LONG)] = Field(
        default=60.0, description="How long a connection is kept without a request."
    )
    body: Annotated[float, duration(0.001, LONG)] = Field(
        default=30.0,
        description="Between two parts of a body, in either direction. Long uploads live, stalled ones end.",
    )
    tunnel: Annotated[float, duration(0.001, LONG)] = Field(
        default=3600.0, description="How long a tunnel (WebSocket) may be silent."
    )
    drain: Annotated[float, duration(0, LONG)] = Field(
        default=30.0,
        description="How long running requests have to end after SIGTERM, and after a reload that took their listener"
        " or backend away.",
    )


class Shutdown(Settings):
    """The orderly end."""

    delay: Annotated[float, duration(0, LONG)] = Field(
        default=0.0,
        description="How long clients are still accepted after SIGTERM, while `/ready` says 503 already: the time that"
        " whoever balances over several of us takes to notice.",
    )


class Forwarding(Settings):
    """What a backend is told about the client and the way of the request."""

    x_forwarded: Annotated[bool, FLAG] = Field(
        default=True, description="Whether X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are sent."
    )
    forwarded: Annotated[bool, FLAG] = Field(default=False, description="Whether Forwarded (RFC 7239) is sent.")
    via: Annotated[str | None, PSEUDONYM] = Field(
        default="lemmytx", description="What this proxy calls itself in Via (RFC 9110 §7.6.3); null sends none."
    )
    request_id: Annotated[bool, FLAG] = Field(
        default=True, description="Whether X-Request-ID is sent: a trusted proxy's, else a new one."
    )


class Configuration(Settings):
    """Everything that a file says."""

    workers: Annotated[int, WORKERS] = Field(
        default=1,
        description="Serving processes; `auto`: one per core that this process may run on. With more than one, a parent"
        " process watches them and serves the admin side.",
    )
    plugins: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Folders that are searched for drop-in plugins; a relative one starts at the folder of the file.",
    )
    listeners: tuple[Listener, ...] = Field(default=(), description="The sockets on which clients are accepted.")
    vhosts: tuple[Vhost, ...] = Field(default=(), description="Host names and their routes. No vhost that fits: 404.")
    clusters: dict[Annotated[str, NAME], Cluster] = Field(
        default_factory=dict, description="Name to backends and their rules."
    )
    defaults: ClusterRules = Field(
        default=ClusterRules(),
        description="The same settings as in a cluster, without backends: for clusters that come from the store.",
    )
    store: Store = Field(default=Store(), description="Where the table of vhosts and backends lives.")
    admin: Admin = Field(default=Admin(), description="The admin side.")
    access_log: AccessLog = Field(default=AccessLog(), description="One line for each request.")
    limits: Limits = Field(default=Limits(), description="Bounds on what clients may send.")
    timeouts: Timeouts = Field(default=Timeouts(), description="How long to wait for clients.")
    shutdown: Shutdown = Field(default=Shutdown(), description="The orderly end.")
    forwarding: Forwarding = Field(
        default=Forwarding(), description="What a backend is told about the client and the way of the request."
    )
