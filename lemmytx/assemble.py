"""
Configuration to objects: the one module that knows every class of the data path.

A L{Plan} is a configuration, built beside what is at work. Building is where things can fail; L{Plan.commit} only puts
what was built into its place and cannot. What both configurations have stays the same object, with all that is known
of it: clusters go by their names, backends by their addresses, vhosts by their names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from lemmytx import model
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster, Rules
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.traffic import Traffic
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
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
    ) -> None:
        """
        @param folders: of drop-in plugins, absolute.
        @param before: what is at work.
        @param portion: how much of a backend's capacity is this process's; L{None}: all of it.
        @raise CannotStart: with all that is wrong.
        """
        self.configuration = configuration
        self.added: list[tuple[str, Backend]] = []
        self.removed: list[Backend] = []
        self._network = network
        self._portion = portion
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
        self.terms = {listener.endpoint: build_terms(listener) for listener in configuration.listeners}

    def _cluster(
        self, name: str, settings: model.Cluster, before: model.Cluster | None, present: Cluster | None
    ) -> Cluster:
        if present is not None and settings == before:
            return present
        if present is None or before is None or settings.scheduler != before.scheduler:
            scheduler: Any = build_scheduler(
                self._schedulers, settings.scheduler.name, dict(settings.scheduler.options)
            )
        else:
            scheduler = present.scheduler
        backends = [build_backend(backend, settings, self._network) for backend in settings.backends]
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


def build_terms(listener: model.Listener) -> Terms:
    """On what terms clients come in, as the configuration describes it."""
    redirect = 443 if listener.redirect_https is True else int(listener.redirect_https)
    return Terms(
        listener.trusted_proxies,
        None,
        listener.speaks_http2,
        listener.proxy_protocol,
        redirect,
    )


def build_backend(backend: model.Backend, settings: model.Cluster, network: Network) -> Backend:
    """A backend as the configuration describes it."""
    return Backend(
        backend.name,
        backend.location.url,
        backend.location,
        network,
        Passive(settings.max_fails, settings.fail_window, settings.backend_retry_interval),
        Pool(settings.pool.idle, settings.pool.idle_time, settings.pool.requests),
        backend.weight,
        backend.capacity,
        backend.role,
    )


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
