"""
By which clients come in: listeners, their ports, and the end of those that a reload takes away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort

from lemmytx.cluster.backend import Backend
from lemmytx.net.network import Network
from lemmytx.net.sockets import adopt
from lemmytx.net.ticker import Ticker
from lemmytx.net.tls.server import ServerTls, Shown
from lemmytx.proxy.listener import Connections, Listener
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.terms import Terms

#: Seconds that the two sides of a WebSocket have to say goodbye, and a little more.
CLOSING = 6.0

#: Listening descriptors by endpoint description.
Descriptors = Mapping[str, Sequence[int]]


class Door:
    """A listener and the port by which its clients come."""

    def __init__(self, listener: Listener, port: IListeningPort) -> None:
        self.listener = listener
        self._port: IListeningPort | None = port

    def close(self) -> Deferred[Any]:
        """Accept nobody any more. The connections that came in by it live on."""
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        closed: Any = port.stopListening()
        return closed if closed is not None else succeed(None)


class Doors:
    """
    All doors of a process.

    @ivar drain: seconds that what runs on what a reload took away has to end.
    """

    def __init__(self, reactor: Any, network: Network, ticker: Ticker, connections: Connections) -> None:
        """
        @param connections: of the clients.
        """
        self._reactor = reactor
        self._network = network
        self._ticker = ticker
        self._connections = connections
        self._doors: dict[str, Door] = {}
        self._leaving: set[Listener] = set()
        self._partings: list[Any] = []
        self.drain = 0.0

    def __contains__(self, description: str) -> bool:
        return description in self._doors

    def terms(self) -> dict[str, Terms]:
        """On what terms clients come in, by the endpoint descriptions of the listeners."""
        return {description: door.listener.terms for description, door in self._doors.items()}

    async def prepare(
        self, description: str, descriptors: Sequence[int], resource: ReverseProxyResource, terms: Terms
    ) -> Door:
        """
        Adopt the sockets of a new listener. Nobody is accepted before the commit.

        @raise CannotListen: they cannot be listened on.
        """
        listener = Listener(resource, self._ticker, self._connections, terms)
        port = await adopt(self._network, description, descriptors, listener)
        listener.listening(port)
        listener.pause()
        return Door(listener, port)

    def commit(self, prepared: Mapping[str, Door], terms: Mapping[str, Terms]) -> list[Door]:
        """
        Have these beside those that are there.

        @param terms: of all that are wanted.
        @return: those that are not any more. They accept until L{take_away}.
        """
        gone = [self._doors.pop(description) for description in list(self._doors) if description not in terms]
        self._doors.update(prepared)
        for description, door in self._doors.items():
            door.listener.configure(terms[description])
        return gone

    def take_away(self, gone: Iterable[Door]) -> None:
        """Accept nobody by these any more."""
        for door in gone:
            door.close()
            self._connections.remove(door.listener)
            door.listener.drain(patient=True)
            self._leaving.add(door.listener)

    def end_on(self, removed: Iterable[Backend], gone: Sequence[Door] = ()) -> None:
        """What runs on backends and listeners that are there no more has its time to end."""
        doors, backends = list(gone), frozenset(removed)
        drain, later = self.drain, self._reactor.callLater
        self._partings = [call for call in self._partings if call.active()]
        self._partings += (
            later(drain, self._part, doors, backends),
            later(drain + CLOSING, self._cut, doors, backends),
        )

    def _part(self, doors: list[Door], backends: frozenset[Backend]) -> None:
        """What runs on what a reload took away has had its time to end. WebSockets are told so."""
        for door in doors:
            door.listener.drain()
        for listener in self.listeners():
            listener.part_from(backends)

    def _cut(self, doors: list[Door], backends: frozenset[Backend]) -> None:
        """And now it ends."""
        for door in doors:
            self._leaving.discard(door.listener)
            door.listener.abort()
        for listener in self.listeners():
            listener.cut(backends)

    def listeners(self) -> list[Listener]:
        """All of them, those too that only have clients left."""
        return [*(door.listener for door in self._doors.values()), *self._leaving]

    def refusals(self) -> dict[str, Any]:
        """Of those listeners that have refused somebody."""
        return {
            description: door.listener.refusals for description, door in self._doors.items() if door.listener.refusals
        }

    def _tls(self) -> list[ServerTls]:
        """Of all listeners that have one."""
        return [door.listener.terms.tls for door in self._doors.values() if door.listener.terms.tls is not None]

    def look_at_files(self) -> None:
        """Certificates that were renewed are used from the next handshake on."""
        for tls in self._tls():
            tls.look()

    def certificates(self) -> list[dict[str, Any]]:
        """What there is to say of each."""
        return [_as_data(shown) for tls in self._tls() for shown in tls.certificates()]

    def close(self) -> None:
        """Accept nobody any more."""
        for door in self._doors.values():
            door.close()

    def end(self) -> None:
        """Cut what is left."""
        self.close()
        for listener in self.listeners():
            listener.abort()
        for call in self._partings:
            if call.active():
                call.cancel()


def _as_data(certificate: Shown) -> dict[str, Any]:
    """A certificate, for the statistics."""
    return {
        "file": certificate.file,
        "names": list(certificate.names),
        "expires": datetime.fromtimestamp(certificate.not_after, UTC).isoformat(timespec="seconds"),
        "days_left": round(certificate.days_left, 1),
        "problem": "; ".join(certificate.problems),
    }
