"""
The addresses of backends that a store has by name. A name is looked up once for however many backends are there: the
vhosts of an installation often share their machines.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from lemmytx.cluster.backend import Backend
from lemmytx.net.resolve import Resolution

log = Logger(namespace="lemmytx")


class _Name:
    """One name, with those who are there."""

    __slots__ = ("backends", "resolution")

    def __init__(self) -> None:
        self.backends: dict[Backend, None] = {}
        self.resolution: Resolution | None = None


class Addresses:
    """
    Names that are kept resolved as long as a backend has them.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._names: dict[str, _Name] = {}

    def __len__(self) -> int:
        return len(self._names)

    def follow(self, backend: Backend) -> None:
        """Tell it its addresses, now or as soon as they are known, and whenever they are others."""
        host = backend.location.host
        name = self._names.get(host)
        if name is not None:
            name.backends[backend] = None
            assert name.resolution is not None
            if name.resolution.addresses:
                backend.moved(name.resolution.addresses)
            return
        name = self._names[host] = _Name()
        name.backends[backend] = None
        name.resolution = Resolution(
            self._reactor.nameResolver,
            host,
            backend.location.port,
            self._reactor,
            lambda addresses: self._found(host, addresses),
            lambda why: self._failed(host, why),
        )
        name.resolution.start()

    def forget(self, backend: Backend) -> None:
        """It is not wanted any more."""
        host = backend.location.host
        name = self._names.get(host)
        if name is None:
            return
        name.backends.pop(backend, None)
        if not name.backends:
            del self._names[host]
            assert name.resolution is not None
            name.resolution.stop()

    def stop(self) -> None:
        """The end."""
        for name in self._names.values():
            assert name.resolution is not None
            name.resolution.stop()
        self._names.clear()

    def _found(self, host: str, addresses: tuple[str, ...]) -> None:
        log.info("the store's backends on {host} are at {addresses}", host=host, addresses=", ".join(addresses))
        for backend in list(self._names[host].backends):
            backend.moved(addresses)

    def _failed(self, host: str, why: str) -> None:
        known = self._names[host].resolution
        log.error(
            "looking up {host!r}, where the store has {count} backends: {why}{after}",
            host=host,
            count=len(self._names[host].backends),
            why=why,
            after="; its last addresses are used" if known is not None and known.addresses else "",
        )
