"""
Configuration to objects: the one module that knows every class of the data path.

A L{Plan} is a configuration, built beside what is at work. Building is where things can fail; L{Plan.commit} only puts
what was built into its place and cannot. What both configurations have stays the same object, with all that is known
of it: clusters go by their names, backends by their addresses, vhosts by their names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lemmytx import model
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster, Rules
from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.traffic import Traffic
from lemmytx.cluster.way import PLAIN, Way
from lemmytx.fastcgi.parameters import Application
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
from lemmytx.net.tls.client import ALPN, ClientTls
from lemmytx.net.tls.server import BadTls, ServerTls
from lemmytx.plugin import PluginError, build_scheduler, find_schedulers
from lemmytx.proxy.forward import Forwarding
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost
from lemmytx.proxy.terms import Terms


class CannotStart(Exception):
    """Something that the configuration asks for cannot be had; the text says what and why, one line each."""


class Plan:
    """
    A configuration, built.

    @ivar added: backends that were not there before, with the names of their clusters. They are at work from the
        commit on, and had better know their addresses by then.
    @ivar removed: backends that are there no more from then on.
    @ivar terms: of the listeners, by their endpoint descriptions.
    """

    def __init__(
        self,
        configuration: model.Configuration,
        folders: Sequence[str],
        network: Network,
        before: tuple[model.Configuration, ReverseProxyResource] | None = None,
        portion: Callable[[int], int] | None = None,
        terms: Mapping[str, Terms] | None = None,
        secret: bytes = b"",
    ) -> None:
        """
        @param folders: of drop-in plugins, absolute.
        @param before: what is at work.
        @param portion: how much of a backend's capacity is this process's; L{None}: all of it.
        @param terms: of the listeners that are at work, by their endpoint descriptions.
        @param secret: what all processes of the instance have in common; session tickets are made with it.
        @raise CannotStart: with all that is wrong.
        """
        self.configuration = configuration
        self.added: list[tuple[str, Backend]] = []
        self.removed: list[Backend] = []
        self._network = network
        self._portion = portion
        self._present_terms = terms or {}
        self._secret = secret
        self._before = () if before is None else before[1].vhosts
        self._changes: list[Callable[[], None]] = []
        try:
            self._schedulers = find_schedulers(folders)
            self._build(configuration, before)
        except (ValueError, PluginError) as error:
            raise CannotStart(str(error)) from error

    def _build(
        self, configuration: model.Configuration, before: tuple[model.Configuration, ReverseProxyResource] | None
    ) -> None:
        old = model.Configuration() if before is None else before[0]
        present = {} if before is None else before[1].clusters
        self.clusters = {
            name: self._cluster(name, settings, old.clusters.get(name), present.get(name))
            for name, settings in configuration.clusters.items()
        }
        for name, cluster in present.items():
            if name not in self.clusters:
                self.removed.extend(cluster.backends)
                self._changes.append(cluster.dissolve)
        self.router = Router(build_vhost(vhost, self.clusters) for vhost in configuration.vhosts)
        known = {listener.endpoint: listener for listener in old.listeners}
        self.terms = {}
        wrong: list[str] = []
        for listener in configuration.listeners:
            present_terms, former = self._present_terms.get(listener.endpoint), known.get(listener.endpoint)
            try:
                self.terms[listener.endpoint] = self._listener(listener, former, present_terms)
            except BadTls as error:
                wrong.extend(f"{listener.endpoint}: {problem}" for problem in error.problems)
        if wrong:
            raise ValueError("\n".join(wrong))

    def _listener(self, settings: model.Listener, before: model.Listener | None, present: Terms | None) -> Terms:
        """On what terms clients come in. What has certificates stays the same if its settings do, and reads anew."""
        if settings.tls is None:
            return build_terms(settings, None)
        http2 = settings.speaks_http2
        if (
            present is not None
            and present.tls is not None
            and before is not None
            and (before.tls, before.speaks_http2) == (settings.tls, http2)
        ):
            self._changes.append(present.tls.reload)
            return build_terms(settings, present.tls)
        protocols = ("h2", "http/1.1") if http2 else ("http/1.1",)
        return build_terms(settings, ServerTls(settings.tls, protocols, self._secret))

    def _cluster(
        self, name: str, settings: model.Cluster, before: model.Cluster | None, present: Cluster | None
    ) -> Cluster:
        if present is not None and settings == before:
            self._changes.extend({backend.way.tls.reload for backend in present.backends if backend.way.tls})
            return present
        if present is None or before is None or settings.scheduler != before.scheduler:
            scheduler: Any = build_scheduler(
                self._schedulers, settings.scheduler.name, dict(settings.scheduler.options)
            )
        else:
            scheduler = present.scheduler
        ways = build_ways(settings)
        backends = [
            build_backend(backend, settings, self._network, ways[backend.location.protocol])
            for backend in settings.backends
        ]
        if self._portion is not None:
            for backend in backends:
                backend.room = self._portion(backend.capacity)
        rules = build_rules(settings)
        if present is None:
            self.added.extend((name, backend) for backend in backends)
            return Cluster(name, backends, scheduler, rules, time.monotonic)
        known = {backend.location: backend for backend in present.backends}
        members = []
        for backend in backends:
            same = known.pop(backend.location, None)
            if same is None:
                self.added.append((name, backend))
                members.append(backend)
            else:
                self._changes.append(_taking(same, backend))
                members.append(same)
        self.removed.extend(known.values())
        self._changes.append(lambda: present.configure(members, scheduler, rules))
        return present

    def resource(self, ticker: Ticker) -> ReverseProxyResource:
        """What serves by this configuration: for the first one. Later ones are committed to it."""
        configuration = self.configuration
        return ReverseProxyResource(
            self.router,
            self.clusters.values(),
            ticker,
            build_forwarding(configuration.forwarding),
            configuration.limits,
            configuration.timeouts,
        )

    def commit(self, resource: ReverseProxyResource, removed: Traffic) -> None:
        """
        From the next request on, this is what holds.

        @param removed: takes the counts of vhosts that are there no more, so that none are lost.
        """
        for change in self._changes:
            change()
        present = {vhost.name: vhost for vhost in self.router.vhosts}
        for vhost in self._before:
            same = present.get(vhost.name)
            if same is not None:
                same.traffic = vhost.traffic
            else:
                removed.add(vhost.traffic)
                vhost.traffic = removed  # for what still runs on it
        configuration = self.configuration
        resource.configure(
            self.router,
            self.clusters.values(),
            build_forwarding(configuration.forwarding),
            configuration.limits,
            configuration.timeouts,
        )


def _taking(backend: Backend, settings: Backend) -> Callable[[], None]:
    return lambda: backend.configure(settings)


def build_forwarding(rules: model.Forwarding) -> Forwarding:
    """What backends are told about clients, as the configuration describes it."""
    return Forwarding(rules.x_forwarded, rules.forwarded, rules.via.encode() if rules.via else None, rules.request_id)


def build_terms(listener: model.Listener, tls: ServerTls | None) -> Terms:
    """On what terms clients come in, as the configuration describes it."""
    terms = Terms(listener.trusted_proxies, tls, listener.speaks_http2, listener.proxy_protocol)
    terms.wrapped = listener.endpoint.partition(":")[0] not in ("tcp", "tcp6", "unix", "systemd")
    terms.redirect = 443 if listener.redirect_https is True else int(listener.redirect_https)
    if listener.tls is not None:
        terms.handshakes = listener.tls.handshakes
        terms.handshake_timeout = listener.tls.handshake_timeout
        terms.hsts = build_hsts(listener.tls.hsts)
    return terms


def build_hsts(settings: model.Hsts | None) -> bytes:
    """The line for responses (RFC 6797 §6.1)."""
    if settings is None:
        return b""
    parts = [b"max-age=%d" % settings.max_age]
    if settings.include_subdomains:
        parts.append(b"includeSubDomains")
    if settings.preload:
        parts.append(b"preload")
    return b"Strict-Transport-Security: %b\r\n" % b"; ".join(parts)


def build_ways(settings: model.Cluster) -> dict[str, Way]:
    """
    How the backends of a cluster are spoken to, by their protocols, as the configuration describes it.

    @raise ValueError: there are files that cannot be used, with a text for the user.
    """
    protocols = {backend.location.protocol for backend in settings.backends}
    proxy = settings.proxy_protocol
    ways = {}
    secured = protocols & set(ALPN)
    tls = ClientTls(settings.tls, secured) if secured else None
    for protocol in protocols:
        application = None
        if protocol == "fcgi":
            told = settings.fastcgi
            assert told.root is not None  # the model sees to that
            application = Application.build(told.root, told.index, told.split, told.params.items(), told.buffer)
        usual = protocol == "http" and proxy is None
        ways[protocol] = PLAIN if usual else Way(protocol, tls if protocol in secured else None, application, proxy)
    return ways


def build_backend(backend: model.Backend, settings: model.Cluster, network: Network, way: Way = PLAIN) -> Backend:
    """A backend as the configuration describes it."""
    location = backend.location
    # A connection that begins with one client's address is that client's; one of FastCGI occupies a process.
    single = settings.proxy_protocol is not None or (location.protocol == "fcgi" and not settings.fastcgi.keep_alive)
    idle = 0 if single else settings.pool.idle
    arguments: dict[str, Any] = {
        "name": backend.name,
        "url": location.url,
        "location": location,
        "network": network,
        "passive": Passive(settings.max_fails, settings.fail_window, settings.backend_retry_interval),
        "pool": Pool(idle, settings.pool.idle_time, settings.pool.requests),
        "weight": backend.weight,
        "capacity": backend.capacity,
        "role": backend.role,
        "way": way,
    }
    if location.protocol in ("h2", "h2c"):
        return Multiplexed(**arguments, streams=settings.http2.streams)
    return Backend(**arguments)


def build_rules(settings: model.Cluster) -> Rules:
    """The rules of a cluster as the configuration describes them."""
    return Rules(
        settings.retry.attempts,
        settings.retry.buffer,
        frozenset(settings.retry.on),
        settings.retry.non_idempotent,
        frozenset(settings.fail_on),
        settings.timeouts.connect,
        settings.timeouts.read,
        settings.timeouts.write,
        settings.host == "backend",
        settings.max_ejected,
    )


def build_vhost(settings: model.Vhost, clusters: dict[str, Cluster]) -> Vhost:
    """A vhost as the configuration describes it."""
    vhost = Vhost(
        settings.name,
        settings.hosts,
        [
            Route(
                route.path,
                clusters[route.cluster],
                route.methods,
                route.headers,
                route.query,
                route.cookies,
                route.client,
            )
            for route in settings.all_routes
        ],
    )
    vhost.traffic = Traffic()
    return vhost
