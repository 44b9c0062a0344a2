"""Where a backend is, for as long as somebody wants to know."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lemmytx.cluster.backend import Backend
from lemmytx.net.resolve import Resolution

log = Logger(namespace="lemmytx")


class Located:
    """
    Keeps the addresses of one backend up to date.

    @ivar first: fires at the first outcome of a look-up, whatever it is.
    """

    def __init__(self, reactor: Any, cluster: str, backend: Backend) -> None:
        self.first: Deferred[None] = Deferred()
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

    def start(self) -> None:
        """Look the name up, now and from then on."""
        self._resolution.start()

    def stop(self) -> None:
        """Look it up no more."""
        self._resolution.stop()

    def _changed(self, addresses: tuple[str, ...]) -> None:
        if addresses != (self._backend.location.host,):
            log.info(
                "cluster {cluster}: backend {backend} is at {addresses}",
                cluster=self._cluster,
                backend=self._backend.name,
                addresses=", ".join(addresses),
            )
        self._backend.moved(addresses)
        self._tell()

    def _failed(self, why: str) -> None:
        log.error(
            "cluster {cluster}: backend {backend}: looking up {host!r}: {why}{after}",
            cluster=self._cluster,
            backend=self._backend.name,
            host=self._backend.location.host,
            why=why,
            after="; its last addresses are used" if self._backend.addresses else "",
        )
        self._tell()

    def _tell(self) -> None:
        if not self.first.called:
            self.first.callback(None)
