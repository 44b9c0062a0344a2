"""
A configuration file, verified with everything that can be known before something is started: what L{lemmytx.config}
sees, and what takes Twisted and the plugins to tell. Errors of both kinds come together, each with its line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from lemmytx import config
from lemmytx.admin.access import check_admin
from lemmytx.config.problems import Path
from lemmytx.finding import PluginError
from lemmytx.interfaces import IHealthCheckPlugin, ISchedulerPlugin, IStorePlugin
from lemmytx.model import Configuration
from lemmytx.net import activation
from lemmytx.net.tls.client import ALPN, ClientTls
from lemmytx.net.tls.server import check as check_certificates
from lemmytx.plugin import (
    build_check,
    build_classifier,
    build_scheduler,
    build_store,
    find_checks,
    find_classifiers,
    find_schedulers,
    find_stores,
    unfit,
)
from lemmytx.store.place import Place

# A parser is anyone's plugin, and Twisted's own raise whatever the missing or odd part led to.
_ODD = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)

# Twisted takes any integer here, and says what is wrong with it only when it is to listen.
_TCP = re.compile(r"tcp6?(?::(?:port=)?(?P<port>[^:]{0,20}).*)\Z", re.DOTALL)


def check_endpoint(description: str) -> str | None:
    """
    @param description: of a server endpoint.
    @return: what is wrong with it, for the user; L{None} when Twisted can parse it.
    """
    tcp = _TCP.match(description)
    if tcp is not None and not (tcp["port"].isdecimal() and int(tcp["port"]) <= 65535):
        return f"found {description!r}; a port is a number from 0 (the system chooses) to 65535, as in 'tcp:8080'"
    try:
        activation.parse(description)
    except _ODD as error:
        return f"found {description!r}; that is not an endpoint description as in 'tcp:8080': {_reason(error)}"
    return None


def _reason(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


class PluginChecks:
    """
    The checks that belong together: what the folders bring decides which schedulers, health checks and stores there
    are.

    @ivar schedulers: by name; filled by L{check_plugins}, C{health_checks} and C{stores} too.
    """

    def __init__(self) -> None:
        self.schedulers: dict[str, ISchedulerPlugin] = {}
        self.health_checks: dict[str, IHealthCheckPlugin] = {}
        self.stores: dict[str, IStorePlugin] = {}

    def check_plugins(self, folders: Sequence[str]) -> Sequence[str]:
        """
        @param folders: those that the file names, absolute.
        @return: which plugins cannot be used and why; empty when all can.
        """
        try:
            self.schedulers = find_schedulers(folders)
            self.health_checks = find_checks(folders)
            self.stores = find_stores(folders)
        except PluginError as error:
            return [f"{file}: {reason}" for file, reason in error.problems]
        return ()

    def check_scheduler(self, name: str, options: Mapping[str, object]) -> str | None:
        """
        @return: what is wrong with a scheduler's name or options; L{None} when it can be built.
        """
        try:
            build_scheduler(self.schedulers, name, dict(options))
        except (PluginError, ValueError) as error:
            return str(error)
        return None

    def check_health(self, name: str, options: Mapping[str, object], protocol: str | None) -> str | None:
        """
        @param protocol: of the backends; L{None}: whatever.
        @return: what is wrong with a health check's type or options; L{None} when it can be built.
        """
        try:
            check = build_check(self.health_checks, name, dict(options))
        except (PluginError, ValueError) as error:
            return str(error)
        return None if protocol is None else unfit(check, name, protocol)

    def check_store(self, name: str, options: Mapping[str, object]) -> str | None:
        """
        @return: what is wrong with a store's type or options; L{None} when it can be built. It is not opened.
        """
        try:
            build_store(self.stores, name, dict(options), Place(None, ""))
        except (PluginError, ValueError) as error:
            return str(error)
        return None


def check_files(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    """Certificates, keys and authorities: whether they are there and belong together."""
    for number, listener in enumerate(configuration.listeners):
        if listener.tls is not None:
            for wrong in check_certificates(listener.tls):
                yield ("listeners", number, "tls"), wrong
    for name, cluster in configuration.clusters.items():
        if any(backend.location.protocol in ALPN for backend in cluster.backends):
            try:
                ClientTls(cluster.tls)
            except ValueError as error:
                yield ("clusters", name, "tls"), str(error)
        by = cluster.buckets_by
        if by is not None and by.plugin is not None:
            try:
                build_classifier(find_classifiers(configuration.plugins), by.plugin, by.options)
            except (PluginError, ValueError) as error:
                yield ("clusters", name, "buckets_by"), str(error)


def load(path: str | os.PathLike[str]) -> Configuration:
    """
    Reads and verifies a configuration file.

    @raise lemmytx.config.ConfigurationError: with everything that is wrong.
    """
    plugins = PluginChecks()
    return config.load(
        path,
        check_endpoint,
        plugins.check_scheduler,
        plugins.check_plugins,
        check_admin,
        check_files=check_files,
        check_health=plugins.check_health,
        check_store=plugins.check_store,
    )
