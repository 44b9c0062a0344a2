"""A backend, as a check sees it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from lemmytx import proxy_protocol
from lemmytx.checks.connection import Connection
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.health import Checkup
from lemmytx.interfaces import ICheckTarget, Unhealthy
from lemmytx.proxy.dial import in_turn

#: What the PROXY protocol has for connections that are nobody's but the proxy's own.
_HEADERS = {
    None: b"",
    "v1": proxy_protocol.compose_v1("", 0, "", 0),
    "v2": proxy_protocol.compose_v2("", 0, "", 0),
}


@implementer(ICheckTarget)
class Target:
    """
    See L{ICheckTarget}. Made for one check, closed behind it.
    """

    __slots__ = (
        "_backend", "_checkup", "_connections", "_seconds", "_until", "address", "authority", "cluster", "name", "port",
        "protocol", "reactor", "timeout", "url",
    )  # fmt: skip

    def __init__(self, cluster: str, backend: Backend, checkup: Checkup, seconds: Callable[[], float]) -> None:
        """
        @param seconds: a clock that never goes back.
        """
        location = backend.location
        self.cluster = cluster
        self.name = backend.name
        self.url = backend.url
        self.protocol = location.protocol
        self.port = location.port if checkup.port is None or location.path else checkup.port
        self.address = location.path or backend.addresses[0]
        self.authority = backend.authority.decode("ascii")
        if self.port != location.port:
            host = f"[{location.host}]" if ":" in location.host else location.host
            self.authority = f"{host}:{self.port}"
        self.timeout = checkup.timeout
        self.reactor = backend.network.reactor
        self._backend = backend
        self._checkup = checkup
        self._connections: list[Connection] = []
        self._seconds = seconds
        self._until = seconds() + checkup.timeout

    async def connect(self) -> Connection:
        """See L{ICheckTarget}."""
        backend = self._backend
        if backend.location.path:
            return await self._connect(backend.location.path, self._until - self._seconds())
        addresses = in_turn(backend.addresses)
        last: Unhealthy | None = None
        while addresses:
            left = self._until - self._seconds()
            try:
                return await self._connect(addresses.pop(0), left / (len(addresses) + 1))
            except Unhealthy as error:
                last = error
            except OSError as error:
                # It is also what a machine without IPv6 says of an IPv6 address.
                if error.errno != errno.EADDRNOTAVAIL or not addresses:
                    raise
        raise last or Unhealthy("no address of it is known")

    def _connect(self, address: str, timeout: float) -> Deferred[Connection]:
        backend, checkup = self._backend, self._checkup
        protocol = self.protocol if self.protocol == "h2" else "https"
        # Another port is not the one that expects a header.
        header = _HEADERS[backend.way.proxy] if self.port == backend.location.port else b""
        where = self.url if self.port == backend.location.port else f"{self.url} {self.port}"
        connection = Connection(header, checkup.tls, protocol, backend.location.host, where)
        self._connections.append(connection)
        network, path = backend.network, backend.location.path

        def connect(factory: Connection) -> Any:
            if path:
                return network.connectUNIX(path, factory, timeout)
            return network.connectTCP(address, self.port, factory, timeout)

        connection.connect(connect)
        return connection.opened

    def close(self, patient: bool) -> None:
        """
        The check is over.

        @param patient: whether its connections come to an orderly end.
        """
        for connection in self._connections:
            connection.close(patient)
