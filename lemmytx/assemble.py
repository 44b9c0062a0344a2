"""
Configuration to objects: here in the large, in L{lemmytx.builders} one by one. No other modules know every class of the
data path.

A L{Plan} is a configuration, built beside what is at work. Building is where things can fail; L{Plan.commit} only puts
what was built into its place and cannot. What both configurations have stays the same object, with all that is known
of it: clusters go by their names, backends by their addresses, vhosts by their names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lemmytx import model
from lemmytx.builders import (
    build_backend,
    build_checkups,
    build_forwarding,
    build_queue,
    build_rules,
    build_sticky,
    build_terms,
    build_vhost,
    build_ways,
)
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.traffic import Traffic
from lemmytx.finding import PluginError
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
from lemmytx.net.tls.server import BadTls, ServerTls
from lemmytx.plugin import build_scheduler, find_checks, find_classifiers, find_schedulers
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Router
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
        self._before = () if before is None else before[1].router.vhosts
        self._changes: list[Callable[[], None]] = []
        try:
            self._schedulers = find_schedulers(folders)
            self._checks = find_checks(folders)
            self._classifiers = find_classifiers(folders)
            self._build(configuration, before)
        except (ValueError, PluginError) as error:
            raise CannotStart(str(error)) from error

    def _build(
        self, configuration: model.Configuration, before: tuple[model.Configuration, ReverseProxyResource] | None
    ) -> None:
        old = model.Configuration() if before is None else before[0]
        present = {} if before is None else before[1].configured
        self.clusters = {
            name: self._cluster(name, settings, old.clusters.get(name), present.get(name))
            for name, settings in configuration.clusters.items()
        }
        for name, settings in configuration.clusters.items():
            link = self._linking(self.clusters[name], settings)
            if name in present:
                self._changes.append(link)
            else:
                link()
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

    def _linking(self, cluster: Cluster, settings: model.Cluster) -> Callable[[], None]:
        """What tells a cluster who stands in for it. Those may be other objects although its settings are the same."""
        breaker = settings.circuit_breaker
        failover = self.clusters[settings.failover] if settings.failover else None
        fallback = self.clusters[breaker.fallback] if breaker is not None and breaker.fallback else None

        def link() -> None:
            cluster.failover = failover
            cluster.fallback = fallback

        return link

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
            secured = {backend.way.tls for backend in present.backends}
            secured.update(backend.checkup.tls for backend in present.backends if backend.checkup is not None)
            self._changes.extend(tls.reload for tls in secured if tls is not None)
            return present
        wanted = settings.scheduler_of(len(settings.backends))
        if present is None or before is None or wanted != before.scheduler_of(len(before.backends)):
            scheduler: Any = build_scheduler(self._schedulers, wanted.name, dict(wanted.options))
        else:
            scheduler = present.scheduler
        ways = build_ways(settings)
        backends = [
            build_backend(backend, settings, self._network, ways[backend.location.protocol])
            for backend in settings.backends
        ]
        for backend, checkup in zip(backends, build_checkups(settings, ways, self._checks), strict=True):
            if checkup is not None:
                backend.check_by(checkup)
        if self._portion is not None:
            for backend in backends:
                backend.room = self._portion(backend.capacity)
        rules = build_rules(settings)
        rules.sticky = build_sticky(name, settings.sticky, self._secret)
        rules.queue = build_queue(name, settings, self._classifiers)
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
