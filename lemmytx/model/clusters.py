"""
Who takes requests: backends, and the clusters that they make up, with the rules of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema

from lemmytx.addresses import URL, Location, parse_url
from lemmytx.model.chances import STATUS, CircuitBreaker, Hedge, Retry
from lemmytx.model.checks import HealthCheck, OwnHealthCheck, own_check
from lemmytx.model.settings import LONG, Settings, or_short
from lemmytx.model.sticky import Sticky
from lemmytx.model.towards import BackendHttp2, BackendTls, FastCgi
from lemmytx.model.waiting import Bucket, BucketsBy, Queue, check_buckets
from lemmytx.names import LABELS, NAME
from lemmytx.units import FLAG, SHARE, Substituted, count, duration, or_none, resolve

#: Clusters with more backends than this have C{two_choices} where they name no scheduler, others C{least_connections}:
#: several proxies, or workers, that know only part of each other's requests must not all rush to the same idle one.
LARGE = 256


class Backend(Settings):
    """A server that takes requests. Can be written short, as its URL alone."""

    url: Annotated[str, URL] = Field(
        description="'SCHEME://HOST[:PORT]' (a name, an IPv4 or a bracketed IPv6 address) or 'SCHEME+unix:///PATH'. "
        "The scheme is 'http' (port 80 unless written), 'https' (443), 'fcgi' (9000), or without '+unix' also 'h2' "
        "(443) and 'h2c' (80). Names are looked up again every 30 seconds."
    )
    name: Annotated[str, NAME] = Field(
        default="", description="What logs, statistics and the admin side call it; from the URL unless written."
    )
    weight: Annotated[int, count(0, 1000)] = Field(
        default=1, description="Its share relative to the others. 0: gets requests only when no other can."
    )
    capacity: Annotated[int, count(0, 1_000_000)] = Field(
        default=0, description="How many requests it takes at one time. 0: no limit."
    )
    role: Literal["active", "backup", "standby"] = Field(
        default="active",
        description="'backup' is used only when no active backend is available, 'standby' also when all active ones "
        "are at capacity.",
    )
    state: Literal["ready", "drain", "disabled"] = Field(
        default="ready",
        description="'drain' keeps the clients that are bound to it and gets nothing new, 'disabled' gets nothing. "
        "What an operator says ('lemmy enable', 'drain', 'disable') counts more.",
    )
    labels: Annotated[dict[str, str], LABELS] = Field(
        default_factory=dict,
        description='Names with values, as in {version: "2"}, by which a route\'s subset finds it; up to 16.',
    )
    health_check: OwnHealthCheck | None = Field(
        default=None, description="What is checked otherwise than in the rest of the cluster."
    )
    sticky_offline: Annotated[bool | None, or_none(FLAG)] = Field(
        default=None, description="As in the cluster, where that is not to hold for this one."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, found: object) -> object:
        """Called by pydantic first: the short form written out, and the name made where it is missing."""
        if isinstance(found, str):
            found = {"url": found}
        if isinstance(found, Mapping) and found.get("name") is None and "url" in found:
            try:
                return {**found, "name": parse_url(found["url"]).name}
            except ValueError:
                pass  # the URL's own rule says so, with the setting's name
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic: the JSON Schema with the short form in it."""
        return or_short(handler.resolve_ref_schema(handler(schema)), dict(URL.schema))

    @property
    def location(self) -> Location:
        """The URL taken apart."""
        return parse_url(self.url)


class Scheduler(Settings):
    """What chooses a backend. Can be written short, as its name alone."""

    name: str = Field(min_length=1, description="The scheduler plugin's name.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Its options, written beside the name: {name: lemmy, round_robin_after: 100}."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, found: object) -> object:
        """Called by pydantic first: the short form, or name and options gathered."""
        if isinstance(found, str):
            return {"name": found}
        if isinstance(found, Mapping) and not isinstance(found.get("options"), Mapping):
            # No rule waits for an option, so what comes from the environment is taken as it looks.
            options = {
                key: resolve(value) if isinstance(value, Substituted) else value
                for key, value in found.items()
                if key != "name"
            }
            gathered: dict[str, object] = {"options": options}
            if "name" in found:
                gathered["name"] = found["name"]
            return gathered
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic: the JSON Schema as the file has it, options beside the name."""
        name = {"type": "string", "minLength": 1}
        return {
            "description": cls.__doc__,
            "anyOf": [name, {"type": "object", "properties": {"name": name}, "required": ["name"]}],
        }


class ClusterTimeouts(Settings):
    """How long to wait for a backend."""

    connect: Annotated[float, duration(0.001, LONG)] = Field(
        default=4.0, description="Until a connection stands. After that another backend is tried, or 504."
    )
    read: Annotated[float, duration(0.001, LONG)] = Field(
        default=30.0, description="Until its answer begins, and between two parts of it."
    )
    write: Annotated[float, duration(0.001, LONG)] = Field(
        default=8.0, description="How long a backend may take nothing of what there is to send."
    )


class Pool(Settings):
    """The idle connections that are kept towards each backend."""

    idle: Annotated[int, count(0, 100_000)] = Field(
        default=1024, description="How many at most, per backend. 0: a new connection for each request."
    )
    idle_time: Annotated[float, duration(0.001, LONG)] = Field(
        default=4.0,
        description="How long each is kept. Below the 5 seconds after which Apache, Node.js and uvicorn close theirs, "
        "so that a request seldom meets a closing one; raise it for backends that keep theirs longer (nginx: 75).",
    )
    requests: Annotated[int, count(0, 1_000_000_000)] = Field(
        default=0, description="How many requests go over one before it is closed. 0: no limit."
    )


class ClusterRules(Settings):
    """What a cluster says beside its backends."""

    scheduler: Scheduler | None = Field(
        default=None,
        description="What chooses a backend: 'round_robin', 'least_connections', 'least_load', 'first', 'random', "
        "'two_choices', 'ip_hash', 'hash', 'response_time', 'reported_load', 'lemmy', or a plugin's name; with "
        "options: {name: lemmy, round_robin_after: 100}. null: 'least_connections', or 'two_choices' in a cluster of "
        "more than 256 backends.",
    )
    max_fails: Annotated[int, count(0, 1000)] = Field(
        default=3, description="This many failures within fail_window take a backend out. 0: none do."
    )
    fail_window: Annotated[float, duration(0.001, LONG)] = Field(default=10.0, description="How long a failure counts.")
    fail_on: tuple[Annotated[int, STATUS], ...] = Field(
        default=(502, 503, 504),
        description="Statuses that count as failures, beside refused, broken and timed-out connections.",
    )
    backend_retry_interval: Annotated[float, duration(0.001, LONG)] = Field(
        default=10.0,
        description="After how long a backend that was taken out gets a trial request; doubled each time in a row, up "
        "to ten times this.",
    )
    max_ejected: Annotated[float, SHARE] = Field(
        default=0.5, description="How much of the cluster may be out because of failures at one time."
    )
    slow_start: Annotated[float, duration(0, LONG)] = Field(
        default=0.0,
        description="How long a backend that comes back, or is added by a reload, takes to have all of its weight; it "
        "begins with a tenth. 0: at once. When the process starts all have all of theirs.",
    )
    health_check: HealthCheck | None = Field(
        default=None, description="Whether backends are looked after without requests, and how."
    )
    sticky_offline: Annotated[bool, FLAG] = Field(
        default=False,
        description="Whether a backend that goes from up to down, by its health_check, is also disabled until somebody "
        "enables it, since it may come back with stale code. Never at the start; it survives a restart where the store "
        "does.",
    )
    panic_threshold: Annotated[float, SHARE] = Field(
        default=0.0,
        description="When fewer of the backends than this are well, their health is ignored, and every one gets "
        "requests; that is in the log and in the statistics. 0%: never.",
    )
    retry: Retry = Field(default=Retry(), description="When a request is tried again on another backend.")
    sticky: Sticky | None = Field(default=None, description="Whether clients stay with a backend, and by what.")
    hedge: Hedge | None = Field(
        default=None, description="Whether requests that take long are sent to another backend as well, and when."
    )
    circuit_breaker: CircuitBreaker | None = Field(
        default=None, description="Whether the whole cluster is left alone when too much fails, and when."
    )
    failover: str | None = Field(
        default=None, description="The cluster that gets the requests while no backend of this one is up."
    )
    timeouts: ClusterTimeouts = Field(default=ClusterTimeouts(), description="How long to wait for a backend.")
    pool: Pool = Field(default=Pool(), description="The idle connections that are kept towards each backend.")
    host: Literal["client", "backend"] = Field(
        default="client",
        description="The Host field that a backend gets: the client's, or host and port out of the backend's URL.",
    )
    tls: BackendTls = Field(default=BackendTls(), description="TLS towards https and h2 backends.")
    http2: BackendHttp2 = Field(default=BackendHttp2(), description="HTTP/2 towards h2 and h2c backends.")
    fastcgi: FastCgi = Field(default=FastCgi(), description="What fcgi backends are told.")
    queue: Queue = Field(default=Queue(), description="Waiting for a backend that has room.")
    buckets: dict[Annotated[str, NAME], Bucket] = Field(
        default_factory=dict,
        description="Classes of requests and their shares, as in {vip: {rate: 20%, ceil: 40%}, main: {rate: 80%}}. All "
        "active backends need a capacity then.",
    )
    bucket: str | None = Field(
        default=None,
        description="The bucket of requests for which nobody names one: 'main' unless written, where there is one, "
        "else they share what the buckets are not ensured.",
    )
    buckets_by: BucketsBy | None = Field(
        default=None, description="What names the bucket of a request for which neither route nor vhost does."
    )
    proxy_protocol: Literal["v1", "v2"] | None = Field(
        default=None,
        description="Whether each connection to a backend begins with a PROXY protocol header that names the client, "
        "and in which version. Connections are not kept then, since each is one client's.",
    )

    @model_validator(mode="after")
    def _shares(self) -> ClusterRules:
        """Called by pydantic when the settings themselves are right."""
        check_buckets(self.buckets, self.bucket)
        return self

    def scheduler_of(self, backends: int) -> Scheduler:
        """
        The scheduler that is to be used.

        @param backends: how many members the cluster has, whatever their roles.
        """
        if self.scheduler is not None:
            return self.scheduler
        return Scheduler(name="two_choices" if backends > LARGE else "least_connections")


def _own(shared: Mapping[str, object] | None, backend: object) -> object:
    """A backend as the file has it, with the whole of its own health check, or without it where nothing is shared."""
    if not isinstance(backend, Mapping) or not isinstance(backend.get("health_check"), Mapping):
        return backend
    return {**backend, "health_check": shared and own_check(shared, backend["health_check"])}


class Cluster(ClusterRules):
    """Interchangeable backends and their rules."""

    backends: tuple[Backend, ...] = Field(
        description="The servers: URLs, or {url, name, weight, capacity, role}. May be an empty list."
    )

    @model_validator(mode="before")
    @classmethod
    def _share_check(cls, found: object) -> object:
        """Called by pydantic first: what a backend's own health_check leaves out is as in the cluster's."""
        if not isinstance(found, Mapping):
            return found
        shared, backends = found.get("health_check"), found.get("backends")
        if not isinstance(shared, Mapping) or not isinstance(backends, list | tuple):
            return found
        try:
            HealthCheck.model_validate(shared)
        except ValidationError:
            shared = None  # what is wrong there is not to be told for each of the backends again
        return {**found, "backends": [_own(shared, backend) for backend in backends]}

    @model_validator(mode="after")
    def _complete(self) -> Cluster:
        """Called by pydantic when the settings themselves are right."""
        if self.fastcgi.root is None and any(backend.location.protocol == "fcgi" for backend in self.backends):
            raise ValueError("has fcgi backends and no 'fastcgi: {root: …}'; write the folder of the scripts there")
        if self.tls.verify and self.tls.name is None and any(b.location.scheme == "https+unix" for b in self.backends):
            raise ValueError("has https+unix backends, whose URL has no name; write it in 'tls: {name: …}'")
        if self.buckets:
            boundless = [b.name for b in self.backends if b.role == "active" and not b.capacity]
            if boundless:
                listed = ", ".join(boundless)
                raise ValueError(f"has buckets, shares of capacities, and active backends without one: {listed}")
        return self
