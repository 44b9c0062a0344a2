"""
The objects of the data path, each made of its settings as the configuration describes it.

What is here makes one thing and knows of no other configuration; what of one that is at work goes on in the next is for
L{lemmytx.assemble} to say, and of the store's clusters for L{lemmytx.live.mold}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import ceil, inf
from typing import Any, Literal

from lemmytx import model
from lemmytx.balance.buckets import Share
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.breaker import BreakerRules
from lemmytx.cluster.classes import Classify, by_cookie, by_header, guarded
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import Checkup
from lemmytx.cluster.hedging import HedgeRules
from lemmytx.cluster.multiplexed import Multiplexed
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import QueueRules, Rules
from lemmytx.cluster.sticky import Codec, Cookie, Field, Sticky
from lemmytx.cluster.subsets import labels
from lemmytx.cluster.traffic import Traffic
from lemmytx.cluster.way import PLAIN, Way
from lemmytx.fastcgi.parameters import Application
from lemmytx.interfaces import IClassifierPlugin, IHealthCheck, IHealthCheckPlugin
from lemmytx.net.network import Network
from lemmytx.net.tls.client import ALPN, ClientTls
from lemmytx.net.tls.server import ServerTls
from lemmytx.plugin import build_check, build_classifier, unfit
from lemmytx.proxy.forward import Forwarding
from lemmytx.proxy.pins import Pin
from lemmytx.proxy.router import Route, Vhost
from lemmytx.proxy.terms import Terms


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
    secured = protocols & set(ALPN)
    tls = ClientTls(settings.tls, secured) if secured else None
    return {protocol: build_way(settings, protocol, tls) for protocol in protocols}


def build_way(settings: model.ClusterRules, protocol: str, tls: ClientTls | None) -> Way:
    """
    How the backends of a cluster are spoken to that speak one protocol.

    @param tls: for those protocols that have it.
    """
    proxy, application = settings.proxy_protocol, None
    if protocol == "http" and proxy is None:
        return PLAIN
    if protocol == "fcgi":
        told = settings.fastcgi
        assert told.root is not None  # the model sees to that
        application = Application.build(told.root, told.index, told.split, told.params.items(), told.buffer)
    return Way(protocol, tls if protocol in ALPN else None, application, proxy)


def build_pool(settings: model.ClusterRules, protocol: str) -> Pool:
    """How the idle connections of a backend are kept, as the configuration describes it."""
    # A connection that begins with one client's address is that client's; one of FastCGI occupies a process.
    single = settings.proxy_protocol is not None or (protocol == "fcgi" and not settings.fastcgi.keep_alive)
    return Pool(0 if single else settings.pool.idle, settings.pool.idle_time, settings.pool.requests)


def build_backend(backend: model.Backend, settings: model.Cluster, network: Network, way: Way = PLAIN) -> Backend:
    """A backend as the configuration describes it."""
    location = backend.location
    arguments: dict[str, Any] = {
        "name": backend.name,
        "url": location.url,
        "location": location,
        "network": network,
        "passive": Passive(settings.max_fails, settings.fail_window, settings.backend_retry_interval),
        "pool": build_pool(settings, location.protocol),
        "weight": backend.weight,
        "capacity": backend.capacity,
        "role": backend.role,
        "way": way,
        "state": backend.state,
    }
    if location.protocol in ("h2", "h2c"):
        built: Backend = Multiplexed(**arguments, streams=settings.http2.streams)
    else:
        built = Backend(**arguments)
    built.labels = labels(backend.labels)
    return built


def build_checkups(
    settings: model.Cluster, ways: Mapping[str, Way], plugins: Mapping[str, IHealthCheckPlugin]
) -> list[Checkup | None]:
    """
    How the backends of a cluster are checked, in their order; L{None}: one is not.

    @raise ValueError: there is no such check, it does not take its options, or it does not fit a backend; or there are
        files that cannot be used. With a text for the user.
    @raise PluginError: see L{build_check}.
    """
    # Backends with the same settings share the check; and TLS, with its sessions.
    known: list[tuple[tuple[model.HealthCheck, str, bool], Checkup]] = []
    checkups: list[Checkup | None] = []
    for backend in settings.backends:
        wanted = backend.health_check or settings.health_check
        if wanted is None:
            checkups.append(None)
            continue
        protocol = backend.location.protocol
        sticky_offline = settings.sticky_offline if backend.sticky_offline is None else backend.sticky_offline
        same = [checkup for key, checkup in known if key == (wanted, protocol, sticky_offline)]
        if not same:
            check = build_check(plugins, wanted.type, wanted.options)
            wrong = unfit(check, wanted.type, protocol)
            if wrong is not None:
                raise ValueError(f"backend {backend.name!r}: {wrong}")
            same.append(build_checkup(check, wanted, protocol, ways[protocol], sticky_offline))
            known.append(((wanted, protocol, sticky_offline), same[0]))
        checkups.append(same[0])
    return checkups


def build_checkup(
    check: IHealthCheck, wanted: model.HealthCheck, protocol: str, way: Way, sticky_offline: bool = False
) -> Checkup:
    """
    How backends are checked that speak one protocol.

    @raise ValueError: there are files that cannot be used.
    """
    tls = way.tls
    if tls is not None and wanted.tls is not None:
        tls = ClientTls(wanted.tls, {protocol}) if wanted.tls.enabled else None
    return Checkup(
        check,
        wanted.interval,
        wanted.fast_interval,
        wanted.jitter,
        wanted.timeout,
        wanted.rise,
        wanted.fall,
        wanted.initial == "up",
        wanted.mode,
        wanted.idle,
        wanted.port,
        tls,
        sticky_offline,
    )


def build_rules(settings: model.ClusterRules) -> Rules:
    """The rules of a cluster as the configuration describes them."""
    return Rules(
        settings.retry.attempts,
        settings.retry.buffer,
        frozenset(status for status in settings.retry.on if isinstance(status, int)),
        settings.retry.non_idempotent,
        frozenset(settings.fail_on),
        settings.timeouts.connect,
        settings.timeouts.read,
        settings.timeouts.write,
        settings.host == "backend",
        settings.max_ejected,
        settings.panic_threshold,
        settings.slow_start,
        budget=settings.retry.budget,
        budget_at_least=settings.retry.budget_at_least,
        try_timeout=settings.retry.try_timeout or 0.0,
        backoff=None if settings.retry.backoff is None else (settings.retry.backoff.first, settings.retry.backoff.most),
        hedge=build_hedge(settings.hedge),
        breaker=build_breaker(settings.circuit_breaker),
        retry_reset=model.RESET in settings.retry.on,
    )


def build_hedge(settings: model.Hedge | None) -> HedgeRules | None:
    """When second requests are sent, as the configuration describes it."""
    if settings is None:
        return None
    return HedgeRules(settings.quantile or None, settings.at_least, settings.most)


def build_breaker(settings: model.CircuitBreaker | None) -> BreakerRules | None:
    """When a cluster is left alone, as the configuration describes it."""
    if settings is None:
        return None
    latency = settings.latency
    return BreakerRules(
        settings.errors or None,
        0.0 if latency is None else 1 - latency.quantile,
        inf if latency is None else latency.above,
        settings.volume,
        settings.window,
        settings.open_for,
        settings.half_open,
        settings.reply,
    )


def build_sticky(cluster: str, settings: model.Sticky | None, secret: bytes = b"") -> Sticky | None:
    """
    What binds the clients of a cluster, as the configuration describes it.

    @param secret: the instance's, for the case that none is configured; empty: one that nobody else has.
    """
    if settings is None:
        return None
    secrets = [text.encode() for text in settings.all_secrets] or [secret or os.urandom(32)]
    if settings.header is not None:
        return Sticky(Codec(secrets, cluster), Field(settings.header.encode(), not settings.nocache))
    assert settings.cookie is not None  # the model sees to that
    secure = {"auto": None, "always": True, "never": False}[settings.secure]
    if settings.same_site == "none":
        secure = True  # without that, browsers do not take it; the model refuses "never"
    cookie = Cookie(
        settings.cookie.encode(),
        settings.path.encode(),
        (settings.domain or "").encode(),
        int(settings.max_age),
        settings.same_site.capitalize().encode(),
        settings.http_only,
        secure,
        not settings.nocache,
    )
    return Sticky(Codec(secrets, cluster), cookie)


def build_pin(settings: model.Pin | None) -> Pin | None:
    """How the clients of a route name a backend, as the configuration describes it."""
    if settings is None:
        return None
    if settings.cookie is not None:
        where: tuple[Literal["cookie", "header", "query"], str] = "cookie", settings.cookie
    elif settings.header is not None:
        where = "header", settings.header
    else:
        assert settings.query is not None  # the model sees to that
        where = "query", settings.query
    return Pin(*where, settings.allow, (settings.secret or "").encode(), settings.capacity)


def build_queue(
    cluster: str, settings: model.ClusterRules, classifiers: Mapping[str, IClassifierPlugin]
) -> QueueRules | None:
    """
    How requests wait for a cluster, as the configuration describes it; L{None}: they do not.

    @raise ValueError: there is no such classifier, or its options do not fit.
    """
    queue, by = settings.queue, settings.buckets_by
    if not queue.limit and not settings.buckets:
        return None
    classify: Classify | None = None
    if by is not None:
        if by.header is not None:
            classify = by_header(by.header)
        elif by.cookie is not None:
            classify = by_cookie(by.cookie)
        else:
            assert by.plugin is not None  # the model sees to that
            classify = guarded(build_classifier(classifiers, by.plugin, by.options), cluster)
    return QueueRules(
        queue.limit,
        queue.timeout,
        ceil(queue.retry_after),
        queue.on_unavailable,
        build_shares(settings.buckets),
        settings.bucket,
        classify,
    )


def build_shares(buckets: Mapping[str, model.Bucket]) -> tuple[Share, ...]:
    """Buckets as the configuration describes them."""
    return tuple(
        Share(name, bucket.rate, bucket.ceil, bucket.lending, build_shares(bucket.buckets))
        for name, bucket in buckets.items()
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
                pin=build_pin(route.pin),
                subset=route.subset,
                bucket=settings.bucket if route.bucket is None else route.bucket,
            )
            for route in settings.all_routes
        ],
    )
    vhost.traffic = Traffic()
    return vhost
