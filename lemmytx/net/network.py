"""
Listening and connecting with transports that send at once, on whatever reactor there is.

L{Network} is the reactor as endpoint strings and outgoing connections see it. Where the reactor watches descriptors
(all of Twisted's on Unix do), stream sockets get the transports of L{lemmytx.net.transports}; everything else is the
reactor's own.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IConnector,
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
    IReactorSocket,
    IReactorTCP,
    IReactorUNIX,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ClientFactory
from zope.interface import implementer

from lemmytx.net import transports

#: How many connections the kernel holds for us while we are busy. Twisted's 50 overflows in a burst, and each one
#: that does not fit costs its client a second. The kernel cuts it to net.core.somaxconn (4096).
BACKLOG = 4096


class _BoundElsewhere(unix.Port):
    """A listening unix socket that somebody else has opened."""

    def startListening(self) -> None:
        """Accept. Twisted's would set the mode of the file to 666, whatever it is, and cut the queue to 50."""
        given: Any = self._preexistingSocket
        self._preexistingSocket = None
        self.socket = given
        self.fileno = given.fileno  # type: ignore[method-assign]  # as Twisted's ports do
        # That would end it for every process that has it.
        self._shouldShutdown = False
        factory: Any = self.factory
        factory.doStart()
        self.connected = True
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        """It is closed here; elsewhere it goes on. Twisted's would remove the file."""
        tcp.Port.connectionLost(self, reason)


class AdoptedUnixPort(transports.UnixPort, _BoundElsewhere):
    """Accepts on a unix socket that is not of our making, or not ours alone: its file is left as it is."""


@implementer(IReactorTCP, IReactorUNIX, IReactorSocket)
class Network:
    """The stream sockets of a reactor."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._own = IReactorFDSet.providedBy(reactor)

    def listen(self, description: str) -> IStreamServerEndpoint:
        """
        @param description: a Twisted server endpoint description.
        @raise ValueError: when it is none; with a text for the user.
        """
        try:
            endpoint: IStreamServerEndpoint = serverFromString(self, description)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"{description!r} is not a server endpoint description: {error}") from error
        return endpoint

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """See L{IReactorTCP}."""
        if not self._own:
            listening: IListeningPort = self.reactor.listenTCP(port, factory, backlog, interface)
            return listening
        created = transports.Port(port, factory, max(backlog, BACKLOG), interface, self.reactor)
        created.startListening()
        return created

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30.0,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """See L{IReactorTCP}."""
        if not self._own:
            made: IConnector = self.reactor.connectTCP(host, port, factory, timeout, bindAddress)
            return made
        connector = transports.Connector(host, port, factory, timeout, bindAddress, self.reactor)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort:
        """See L{IReactorUNIX}."""
        if not self._own:
            listening: IListeningPort = self.reactor.listenUNIX(address, factory, backlog, mode, wantPID)
            return listening
        created = transports.UnixPort(os.fsencode(address), factory, max(backlog, BACKLOG), mode, self.reactor, wantPID)
        created.startListening()
        return created

    def connectUNIX(
        self, address: str, factory: ClientFactory[Any], timeout: float = 30, checkPID: bool = False
    ) -> IConnector:
        """See L{IReactorUNIX}."""
        if not self._own:
            made: IConnector = self.reactor.connectUNIX(address, factory, timeout, checkPID)
            return made
        connector = transports.UnixConnector(address, factory, timeout, self.reactor, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """See L{IReactorSocket}."""
        if not self._own:
            adopted: IListeningPort = self.reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
            return adopted
        if addressFamily == socket.AF_UNIX:
            created: IListeningPort = AdoptedUnixPort._fromListeningDescriptor(self.reactor, fileDescriptor, factory)
        else:
            created = transports.Port._fromListeningDescriptor(self.reactor, fileDescriptor, addressFamily, factory)
        created.startListening()
        return created

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> Any:
        """See L{IReactorSocket}."""
        return self.reactor.adoptStreamConnection(fileDescriptor, addressFamily, factory)

    def adoptDatagramPort(self, fileDescriptor: int, addressFamily: int, protocol: Any, maxPacketSize: int) -> Any:
        """See L{IReactorSocket}."""
        return self.reactor.adoptDatagramPort(fileDescriptor, addressFamily, protocol, maxPacketSize)
