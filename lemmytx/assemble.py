"""
Configuration to running services: the one module that knows every class.

Everything is built before anything is started, so that what cannot be built is known while nothing serves yet.
"""

from __future__ import annotations

import os
import resource as rlimit
import time
from collections.abc import Sequence
from math import inf
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet import task
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger

from lemmytx import __version__, model
from lemmytx.admin.site import Door, admin_site, check_admin
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster, Rules
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.traffic import Traffic
from lemmytx.http1 import codec
from lemmytx.net.log_file import LogFile
from lemmytx.net.network import Network
from lemmytx.net.resolve import Resolution
from lemmytx.net.ticker import Ticker
from lemmytx.plugin import PluginError, build_scheduler, find_schedulers
from lemmytx.proxy.access_log import appender, rejection_formatter
from lemmytx.proxy.forward import Forwarding
from lemmytx.proxy.listener import Connections, Listener
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost

log = Logger(namespace="lemmytx")

#: Seconds after which a listener that could not be opened is tried again.
LISTEN_AGAIN = 5.0

CODECS = {True: "compiled", False: "pure Python (slower; there was no C compiler at the installation)"}


class CannotStart(Exception):
    """Something that the configuration asks for cannot be had; the text says what and why, one line each."""


class ListenerService(Service):
    """
    One listening socket.

    @ivar description: the endpoint's, as configured.
    @ivar port: while it listens.
    """

    def __init__(self, network: Network, description: str, factory: IProtocolFactory) -> None:
        self._network = network
        self.description = description
        self._factory = factory
        self.port: IListeningPort | None = None

    @property
    def address(self) -> str:
        """Where it listens, for people: C{127.0.0.1:8080}, C{/run/lemmy.sock}."""
        if self.port is None:
            return self.description
        host: Any = self.port.getHost()
        name = getattr(host, "name", None)
        if name is not None:
            return os.fsdecode(name)
        return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"

    def listen(self) -> Deferred[None]:
        """
        Open the socket.

        @return: fires when it is open; fails with L{CannotStart}.
        """

        def opened(port: IListeningPort) -> None:
            self.port = port
            listening = getattr(self._factory, "listening", None)
            if listening is not None:
                listening(port)

        def refused(failure: Any) -> None:
            error = failure.value
            why = getattr(error, "socketError", None) or error
            text = getattr(why, "strerror", None) or str(why)
            raise CannotStart(f"cannot listen on {self.description!r}: {text}")

        return self._network.listen(self.description).listen(self._factory).addCallbacks(opened, refused)

    def close(self) -> Deferred[None]:
        """Close the socket. The connections that came in by it live on."""
        port, self.port = self.port, None
        if port is None:
            return succeed(None)
        closed = port.stopListening()
        return closed if closed is not None else succeed(None)


class ResolutionService(Service):
    """Keeps the addresses of one backend up to date."""

    def __init__(self, reactor: Any, cluster: str, backend: Backend) -> None:
        self._cluster = cluster
        self._backend = backend
        self._resolution = Resolution(
            reactor.nameResolver,
            backend.location.host,
            backend.location.port,
            reactor,
            self._changed,
            self._failed,
        )

    def _changed(self, addresses: tuple[str, ...]) -> None:
        if addresses != (self._backend.location.host,):
            log.info(
                "cluster {cluster}: backend {backend} is at {addresses}",
                cluster=self._cluster,
                backend=self._backend.name,
                addresses=", ".join(addresses),
            )
        self._backend.moved(addresses)

    def _failed(self, why: str) -> None:
        log.error(
            "cluster {cluster}: backend {backend}: looking up {host!r}: {why}{after}",
            cluster=self._cluster,
            backend=self._backend.name,
            host=self._backend.location.host,
            why=why,
            after="; its last addresses are used" if self._backend.addresses else "",
        )

    def startService(self) -> None:
        """Look the name up, now and from then on."""
        super().startService()
        self._resolution.start()

    def stopService(self) -> None:
        """Look it up no more."""
        super().stopService()
        self._resolution.stop()


class Proxy(MultiService):
    """
    Everything that one process runs.

    Starting opens all listeners. One that cannot be opened is told and tried again while the others serve; when none
    can, there is nothing to run for. Stopping closes them, lets running
    exchanges end for C{timeouts.drain} seconds, and cuts what is left then.

    @ivar resource: what serves.
    """

    def __init__(self, configuration: model.Configuration, folders: Sequence[str], reactor: Any) -> None:
        """
        @param folders: of drop-in plugins, absolute.
        @raise ValueError, lemmytx.plugin.PluginError: when something cannot be built; with a text for the user.
        """
        super().__init__()
        self._reactor = reactor
        self._drain = configuration.timeouts.drain
        self._state = "starting"
        network = Network(reactor)
        self.ticker = Ticker(reactor, time.monotonic)
        schedulers = find_schedulers(folders)
        clusters = {
            name: build_cluster(name, settings, build_scheduler(schedulers, *_named(settings.scheduler)), network)
            for name, settings in configuration.clusters.items()
        }
        for cluster in clusters.values():
            for backend in cluster.backends:
                if not backend.location.path:
                    ResolutionService(reactor, cluster.name, backend).setServiceParent(self)
        rules = configuration.forwarding
        self.resource = ReverseProxyResource(
            Router(build_vhost(vhost, clusters) for vhost in configuration.vhosts),
            clusters.values(),
            self.ticker,
            Forwarding(rules.x_forwarded, rules.forwarded, rules.via.encode() if rules.via else None, rules.request_id),
            configuration.limits,
            configuration.timeouts,
        )
        self.connections = Connections(configuration.limits.connections)
        self.listeners = [
            Listener(self.resource, self.ticker, self.connections, listener.trusted_proxies)
            for listener in configuration.listeners
        ]
        self._doors = [
            ListenerService(network, settings.endpoint, listener)
            for settings, listener in zip(configuration.listeners, self.listeners, strict=True)
        ]
        self._log_file: LogFile | None = None
        if configuration.access_log.format != "off":
            self._log_file = log_file = LogFile(configuration.access_log.path, reactor, reactor.callFromThread)
            rejection = rejection_formatter(configuration.access_log.format)
            self.resource.record = log_file.recorder(appender(configuration.access_log.format))
            self.resource.reject_record = lambda rejected: log_file.append(rejection(rejected))
        admin = configuration.admin
        wrong = check_admin(admin.endpoint, admin.tokens)
        if wrong is not None:
            raise ValueError(f"admin.endpoint: {wrong}")
        self._admin = ListenerService(
            network,
            admin.endpoint,
            Door(admin_site(self.resource, admin.tokens, self.ready, self.connections, reactor)),
        )
        self._again: Any = None
        self._opening: Deferred[list[tuple[bool, None]]] | None = None
        self._hurried = False

    def ready(self) -> str | None:
        """Why it cannot serve now; L{None} when it can."""
        if self._state != "serving":
            return self._state
        closed = [door.description for door in self._doors if door.port is None]
        return f"not listening on {', '.join(closed)}" if closed else None

    def privilegedStartService(self) -> None:
        """Called by twistd while the process still is who started it: C{--uid} gives up what opens ports below 1024."""
        super().privilegedStartService()
        self._opening = self._open()

    def _open(self) -> Deferred[list[tuple[bool, None]]]:
        return DeferredList([door.listen() for door in [*self._doors, self._admin]], consumeErrors=True)

    def startService(self) -> None:
        """
        Called by Twisted when the reactor is about to run.

        @raise SystemExit: there is no socket to serve on.
        """
        super().startService()
        self._fit(raise_descriptor_limit())
        self.ticker.start()
        if self._log_file is not None:
            self._log_file.start()
        (self._opening or self._open()).addCallback(self._opened)
        if self._state == "no listener could be opened":
            # The lines in the log say why. Whoever started us sees it by the exit status.
            raise SystemExit(1)

    def _fit(self, descriptors: float) -> None:
        """Each client may need an upstream too: those whom that leaves nothing wait in the kernel's queue."""
        limit = int(min(self.connections.limit, descriptors // 2))
        if limit < self.connections.limit:
            log.warn(
                "limits.connections is {wanted}, but with {descriptors} file descriptors (ulimit -Hn) only {limit}"
                " clients can be served at one time; more have to wait",
                wanted=self.connections.limit,
                descriptors=descriptors,
                limit=limit,
            )
            self.connections.limit = limit

    def _opened(self, results: list[tuple[bool, Any]]) -> None:
        refused = [result.value for opened, result in results if not opened]
        for error in refused:
            log.critical("{error}", error=error)
        if self._doors and not any(door.port for door in self._doors):
            # Nothing to serve on: whoever started us must see that.
            self._state = "no listener could be opened"
            if self._reactor.running:
                self._reactor.stop()
            return
        if self._doors:
            log.info(
                "lemmytx {version} serves on {endpoints}; codec: {codec}",
                version=__version__,
                endpoints=", ".join(door.address for door in self._doors if door.port is not None),
                codec=CODECS[codec.compiled],
            )
        self._state = "serving"
        if refused:
            # A port that another process is just giving up, an address that comes with an interface: try again.
            self._again = self._reactor.callLater(LISTEN_AGAIN, self._open_rest)

    def _open_rest(self) -> None:
        closed = [door for door in [*self._doors, self._admin] if door.port is None]
        if self._state != "serving" or not closed:
            return

        def tried(results: list[tuple[bool, Any]]) -> None:
            for door in closed:
                if door.port is not None:
                    log.info("now listening on {endpoint} too", endpoint=door.address)
            self._again = self._reactor.callLater(LISTEN_AGAIN, self._open_rest)

        DeferredList([door.listen() for door in closed], consumeErrors=True).addCallback(tried)

    def reopen_logs(self) -> None:
        """Log files were moved away: write to new ones."""
        if self._log_file is not None:
            self._log_file.reopen()

    def stopService(self) -> Deferred[None]:
        """Called by Twisted when the reactor is about to stop; it waits for the result."""
        serving, self._state = self._state == "serving", "draining"
        if self._again is not None and self._again.active():
            self._again.cancel()
        stopped: Deferred[Any] = DeferredList([door.close() for door in self._doors], consumeErrors=True)
        if serving:
            log.info("stopping: {count} exchanges are under way", count=self.resource.exchanges)
            stopped.addCallback(lambda _: self._drained())
        stopped.addCallback(lambda _: self._admin.close())
        stopped.addBoth(lambda _: self._end())
        return stopped

    def hurry(self) -> None:
        """While it stops: wait for running exchanges no longer."""
        self._hurried = True

    def _drained(self) -> Deferred[None]:
        """Wait until the running exchanges have ended, at most for the time that they have."""
        end = time.monotonic() + self._drain

        def over() -> bool:
            return not self.resource.exchanges or self._hurried or time.monotonic() >= end

        for listener in self.listeners:
            listener.drain()
        loop = task.LoopingCall(lambda: loop.stop() if over() else None)
        loop.clock = self._reactor
        return loop.start(0.1).addCallback(lambda _: None)

    def _end(self) -> None:
        for listener in self.listeners:
            listener.abort()
        for cluster in self.resource.clusters.values():
            for backend in cluster.backends:
                backend.close_idle()
        super().stopService()
        self.ticker.stop()
        log.info("stopped")
        if self._log_file is not None:
            self._log_file.close()


def _named(scheduler: model.Scheduler) -> tuple[str, dict[str, Any]]:
    return scheduler.name, dict(scheduler.options)


def build_cluster(name: str, settings: model.Cluster, scheduler: Any, network: Network) -> Cluster:
    """A cluster as the configuration describes it."""
    pool = Pool(settings.pool.idle, settings.pool.idle_time, settings.pool.requests)
    backends = [
        Backend(
            backend.name,
            backend.location.url,
            backend.location,
            network,
            Passive(settings.max_fails, settings.fail_window, settings.backend_retry_interval),
            pool,
            backend.weight,
            backend.capacity,
            backend.role,
        )
        for backend in settings.backends
    ]
    rules = Rules(
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
    return Cluster(name, backends, scheduler, rules, time.monotonic)


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


def raise_descriptor_limit() -> float:
    """
    Ask for as many file descriptors as we may have: each client takes one, and so does each upstream.

    @return: how many that are.
    """
    soft, hard = rlimit.getrlimit(rlimit.RLIMIT_NOFILE)
    if soft != hard:
        rlimit.setrlimit(rlimit.RLIMIT_NOFILE, (hard, hard))
    return inf if hard == rlimit.RLIM_INFINITY else hard


def proxy(configuration: model.Configuration, folders: Sequence[str], reactor: Any) -> Proxy:
    """
    Build everything.

    @param folders: of drop-in plugins, absolute.
    @raise CannotStart: with all that is wrong.
    """
    try:
        return Proxy(configuration, folders, reactor)
    except (ValueError, PluginError) as error:
        raise CannotStart(str(error)) from error
