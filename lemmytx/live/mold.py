"""
From a vhost of the store to a cluster.

All clusters with the same settings come out of one mold: rules, TLS, checks and whatever else depends on settings alone
are made once for them, however many there are. Settings of the store are those of C{defaults} with some written over:
a key that is written replaces the one of C{defaults} as a whole.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from lemmytx import model
from lemmytx.addresses import Location, parse_member
from lemmytx.builders import build_checkup, build_pool, build_queue, build_rules, build_sticky, build_way
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import Checkup
from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.cluster.shares import portion
from lemmytx.cluster.way import Way
from lemmytx.finding import PluginError
from lemmytx.interfaces import IHealthCheck
from lemmytx.model.waiting import check_buckets
from lemmytx.net.network import Network
from lemmytx.net.tls.client import ALPN, ClientTls
from lemmytx.plugin import build_check, build_scheduler, find_checks, find_classifiers, find_schedulers, unfit
from lemmytx.table import MOST_SETTINGS, Entry, Member

#: A check that runs programs is for the configuration's file to ask for: who may write to a store must not thereby be
#: able to run what he likes on all instances.
NOT_FROM_STORES = frozenset(("command",))


class Parts:
    """
    What molds are made with, of one configuration.

    @ivar clusters: of the configuration, by name.
    """

    def __init__(
        self,
        configuration: model.Configuration,
        folders: Iterable[str],
        network: Network,
        clusters: Mapping[str, Cluster],
        secret: bytes = b"",
        place: tuple[int, int] | None = None,
    ) -> None:
        """
        @param folders: of drop-in plugins, absolute.
        @param secret: what all processes of the instance have in common.
        @param place: which of how many processes this is that share the capacities of backends; L{None}: it has all.
        @raise PluginError: one of the plugins cannot be used.
        """
        self.defaults = configuration.defaults
        self.folders = tuple(folders)
        self.network = network
        self.clusters = clusters
        self.secret = secret
        self.place = place
        self.schedulers = find_schedulers(self.folders)
        self.checks = find_checks(self.folders)
        self.classifiers = find_classifiers(self.folders)

    def serve_as(self, other: Parts) -> bool:
        """Whether molds of these come out as those of the other's."""
        return (
            self.defaults == other.defaults
            and self.folders == other.folders
            and self.secret == other.secret
            and self.place == other.place
            and self.clusters.keys() == other.clusters.keys()
            and all(cluster is other.clusters[name] for name, cluster in self.clusters.items())
        )

    def settings(self, text: str) -> model.ClusterRules:
        """
        @param text: as in L{Entry.settings}.
        @raise ValueError: they cannot be used; with a text for the user.
        """
        if not text:
            return self.defaults
        if len(text) > MOST_SETTINGS:
            raise ValueError(f"settings: longer than {MOST_SETTINGS:,} characters")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"settings: that is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise ValueError("settings: write a JSON object with the keys of 'defaults'")
        try:
            own = model.ClusterRules.model_validate(found)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"settings: {where or 'all'}: {first['msg']}") from None
        written = {name: getattr(own, name) for name in own.model_fields_set}
        whole = self.defaults.model_copy(update=written)
        check_buckets(whole.buckets, whole.bucket)
        if whole.health_check is not None and "health_check" in written:
            kind = whole.health_check.type
            if kind in NOT_FROM_STORES:
                raise ValueError(f"settings: health_check: {kind!r} checks are for the configuration's file alone")
        return whole


class Built:
    """
    A vhost of the store that has been built.

    @ivar vhost: what the router finds, an L{lemmytx.proxy.router.Vhost}.
    @ivar entry: what it was built of; C{mold}: with which settings.
    @ivar backends: by the texts of the members, in their order.
    @ivar count: how many of its requests had ended when others were last asked about it; C{asked}: whether they were.
    """

    __slots__ = ("asked", "backends", "cluster", "count", "entry", "mold", "vhost")

    def __init__(self, vhost: Any, cluster: Cluster) -> None:
        self.vhost = vhost
        self.cluster = cluster
        self.backends: dict[str, Backend] = {}
        self.entry = Entry("")
        self.mold: Mold | None = None
        self.count = 0
        self.asked = False


class Change(NamedTuple):
    """
    What becomes of a cluster.

    @ivar backends: by the texts of the members, in their order.
    @ivar added: those that were not there before, C{removed}: that are there no more.
    @ivar faults: members that cannot be used: text and reason.
    """

    cluster: Cluster
    backends: dict[str, Backend]
    added: list[Backend]
    removed: list[Backend]
    faults: list[tuple[str, str]]


class Mold:
    """
    What clusters with the same settings have in common.

    @ivar settings: those; C{parts}: what it was made with.
    @ivar checked: whether their backends are checked, without any request.
    """

    __slots__ = (
        "_check", "_checkups", "_failover", "_fallback", "_plain", "_pools", "_rules", "_tls", "_ways", "checked",
        "parts", "settings",
    )  # fmt: skip

    def __init__(self, settings: model.ClusterRules, parts: Parts) -> None:
        """
        @raise ValueError: they name what there is not; with a text for the user.
        @raise PluginError: see L{build_scheduler} and L{build_check}.
        """
        self.settings = settings
        self.parts = parts
        self._rules = build_rules(settings)
        self._tls: ClientTls | None = None
        self._ways: dict[str, Way] = {}
        self._pools: dict[str, Pool] = {}
        self._checkups: dict[str, Checkup] = {}
        self._check: IHealthCheck | None = None
        self.checked = settings.health_check is not None
        if settings.health_check is not None:
            self._check = build_check(parts.checks, settings.health_check.type, settings.health_check.options)
        self._plain = self._unchecked("http")
        self._scheduler(1)
        self._build_rules("")
        breaker = settings.circuit_breaker
        self._failover = self._other(settings.failover)
        self._fallback = self._other(None if breaker is None else breaker.fallback)

    def _other(self, name: str | None) -> Cluster | None:
        """A cluster that stands in. It is one of the configuration: those of the store come and go."""
        if not name:
            return None
        try:
            return self.parts.clusters[name]
        except KeyError:
            raise ValueError(f"settings: there is no cluster {name!r} in the configuration's file") from None

    def _scheduler(self, backends: int) -> Any:
        wanted = self.settings.scheduler_of(backends)
        return build_scheduler(self.parts.schedulers, wanted.name, dict(wanted.options))

    def _build_rules(self, name: str) -> Rules:
        """All share one object, but for what is made with the cluster's name."""
        settings = self.settings
        sticky = build_sticky(name, settings.sticky, self.parts.secret)
        queue = build_queue(name, settings, self.parts.classifiers)
        if sticky is not None or (queue is not None and queue.classify is not None):
            rules = build_rules(settings)
            rules.sticky, rules.queue = sticky, queue
            return rules
        if self._rules.queue is None:
            self._rules.queue = queue
        return self._rules

    def reload(self) -> None:
        """Read files of certificates again."""
        secured = {self._tls, *(checkup.tls for checkup in self._checkups.values())}
        for tls in secured:
            if tls is not None:
                tls.reload()

    # A member

    def refuse(self, member: Member, location: Location) -> str:
        """
        @return: why a member cannot be one with these settings; empty: it can.
        """
        settings, protocol = self.settings, location.protocol
        if settings.buckets and member.role == "active" and not member.capacity:
            return "the cluster has buckets, shares of capacities, and this backend has none"
        if protocol == "http":
            return self._plain
        if protocol == "fcgi" and settings.fastcgi.root is None:
            return "an fcgi backend, and no 'fastcgi: {root: …}' in the cluster's settings"
        if location.scheme == "https+unix" and settings.tls.verify and settings.tls.name is None:
            return "an https+unix backend has no name; write it in 'tls: {name: …}' of the cluster's settings"
        wrong = self._unchecked(protocol)
        if wrong:
            return wrong
        try:
            self._way(protocol)
            self._checkup(protocol)
        except ValueError as error:  # files of certificates
            return str(error)
        return ""

    def _unchecked(self, protocol: str) -> str:
        """Why a backend that speaks so cannot be checked."""
        check, wanted = self._check, self.settings.health_check
        return "" if check is None or wanted is None else unfit(check, wanted.type, protocol) or ""

    @property
    def choosy(self) -> bool:
        """Whether a backend that speaks plain HTTP may not fit."""
        return bool(self.settings.buckets or self._plain)

    def _way(self, protocol: str) -> Way:
        way = self._ways.get(protocol)
        if way is None:
            if protocol in ALPN and self._tls is None:
                self._tls = ClientTls(self.settings.tls, ALPN)
            way = self._ways[protocol] = build_way(self.settings, protocol, self._tls)
        return way

    def _pool(self, protocol: str) -> Pool:
        pool = self._pools.get(protocol)
        if pool is None:
            pool = self._pools[protocol] = build_pool(self.settings, protocol)
        return pool

    def _checkup(self, protocol: str) -> Checkup | None:
        if self._check is None or self.settings.health_check is None:
            return None
        checkup = self._checkups.get(protocol)
        if checkup is None:
            checkup = build_checkup(
                self._check, self.settings.health_check, protocol, self._way(protocol), self.settings.sticky_offline
            )
            # What the store brings is not known to be well until it has been looked at.
            checkup.up = False
            self._checkups[protocol] = checkup
        return checkup

    def _backend(self, member: Member, location: Location) -> Backend:
        settings, parts, protocol = self.settings, self.parts, location.protocol
        name = member.name or location.name
        if name == member.text:
            name = member.text  # which is kept anyway
        arguments: dict[str, Any] = {
            "name": name,
            "url": location.url,
            "location": location,
            "network": parts.network,
            "passive": Passive(settings.max_fails, settings.fail_window, settings.backend_retry_interval),
            "pool": self._pool(protocol),
            "weight": member.weight,
            "capacity": member.capacity,
            "role": member.role,
            "way": self._way(protocol),
        }
        if protocol in ("h2", "h2c"):
            backend: Backend = Multiplexed(**arguments, streams=settings.http2.streams)
        else:
            backend = Backend(**arguments)
        if is_address(location.host):
            backend.addresses = (location.host,)
        if parts.place is not None:
            backend.room = portion(backend.capacity, *parts.place)
        checkup = self._checkup(protocol)
        if checkup is not None:
            backend.check_by(checkup)
        return backend

    # A cluster

    def make(self, entry: Entry, present: Built | None, admit: Callable[[Backend], Any]) -> Change:
        """
        Build the cluster of a vhost, or bring it up to date.

        @param present: what there is of it; backends of the same addresses stay, with all that is known of them.
        @param admit: called with each backend, before its cluster knows of it.
        """
        known: dict[Location, tuple[str, Backend]] = {}
        same: dict[str, Member] = {}
        if present is not None:
            known = {backend.location: (text, backend) for text, backend in present.backends.items()}
            if present.mold is self:
                same = {member.text: member for member in present.entry.members}
        backends: dict[str, Backend] = {}
        added: list[Backend] = []
        faults: list[tuple[str, str]] = []
        seen: dict[Location, str] = {}
        for member in entry.members:
            text = member.text
            location = parse_member(text)
            why = self.refuse(member, location)
            if not why and location in seen:
                why = f"the same backend as {seen[location]!r}"
            if why:
                faults.append((text, why))
                continue
            seen[location] = text
            before, backend = known.pop(location, ("", None))
            if backend is None:
                backend = self._backend(member, location)
                added.append(backend)
            elif same.get(before) != member:
                backend.configure(self._backend(member, location))
            admit(backend)
            backends[text] = backend
        rules = self._build_rules(entry.name)
        members = tuple(backends.values())
        if present is None:
            cluster = Cluster(entry.name, members, self._scheduler(len(members)), rules, time.monotonic)
        else:
            cluster = present.cluster
            former = present.mold
            assert former is not None
            scheduler: Any = cluster.scheduler
            if self.settings.scheduler_of(len(members)) != former.settings.scheduler_of(len(present.backends)):
                scheduler = self._scheduler(len(members))
            cluster.configure(members, scheduler, rules)
        cluster.failover, cluster.fallback = self._failover, self._fallback
        return Change(cluster, backends, added, [backend for _, backend in known.values()], faults)


def is_address(host: str) -> bool:
    """Whether it is an IP address, and no name."""
    if not host or not (host[-1].isdigit() or ":" in host):
        return False
    try:
        # Fifteen times as fast as the module ipaddress; and there may be a hundred thousand.
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return False
    return True


def build_mold(text: str, parts: Parts) -> Mold:
    """
    @param text: as in L{Entry.settings}.
    @raise ValueError: these settings cannot be used; with a text for the user.
    """
    try:
        return Mold(parts.settings(text), parts)
    except PluginError as error:
        raise ValueError(str(error)) from error
