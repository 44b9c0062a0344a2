"""
What an endpoint gets for a network when its sockets are to be opened, and nothing is to be accepted yet: the workings
of L{lemmytx.net.sockets}, where their purpose is explained.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.python.lockfile import FilesystemLock
from zope.interface import implementer

from lemmytx.net import transports
from lemmytx.net.activation import passing
from lemmytx.net.network import BACKLOG, Network


@dataclass(frozen=True, slots=True)
class SocketFile:
    """
    The file of a unix socket that we made.

    @ivar mode: its permissions.
    """

    path: str
    device: int
    inode: int
    mode: int

    @classmethod
    def at(cls, path: str) -> SocketFile:
        """@raise OSError: when there is none."""
        found = os.lstat(path)
        return cls(path, found.st_dev, found.st_ino, stat.S_IMODE(found.st_mode))

    def same(self, other: SocketFile) -> bool:
        """Whether both are one file."""
        return (self.device, self.inode) == (other.device, other.inode)

    def there(self) -> bool:
        """Whether it still stands under its name."""
        try:
            return self.same(self.at(self.path))
        except OSError:
            return False


class Unshared(AttributeError):
    """An endpoint wants something of the reactor by which no socket comes that could be shared."""

    def __init__(self, asked: str) -> None:
        super().__init__(
            f"its endpoint asks the reactor for {asked}; here it has listenTCP, listenUNIX and adoptStreamPort, whose"
            " sockets several processes can share"
        )


class Nothing(Factory[Any]):
    """Stands for the protocols while nobody accepts."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> NoReturn:
        raise Unshared("a connection at once")


class Surrogate(Network):
    """A network with which an endpoint listens, but not as it believes."""

    def __getattr__(self, name: str) -> NoReturn:
        raise Unshared(name)


class Binding(Surrogate):
    """
    Binds sockets, and accepts on none.

    @ivar ports: what was bound.
    @ivar tried: the last TCP port that was asked for.
    """

    def __init__(self, going: Sequence[tuple[socket.socket, SocketFile | None]]) -> None:
        """
        @param going: sockets that may be used again, each with its file.
        """
        super().__init__(None)
        self._going = going
        self.ports: list[Bound] = []
        self.tried: int | None = None

    def _bound(self, listening: socket.socket, file: SocketFile | None = None, again: bool = False) -> IListeningPort:
        port = Bound(self, listening, file, again)
        self.ports.append(port)
        return port

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """Bind."""
        # It knows the options of the socket; it never gets as far as to need a reactor.
        model: Any = transports.Port(port, factory, backlog, interface, object())
        self.tried = model.port
        address: Any = (model.interface, model.port)
        if model.addressFamily == socket.AF_INET6:
            # With the number of the interface in a link-local address (RFC 4007 §11).
            numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            found = socket.getaddrinfo(model.interface, model.port, socket.AF_INET6, socket.SOCK_STREAM, 0, numeric)
            address = found[0][4]
        for held, _ in self._going:
            if held.family == model.addressFamily and _same(held.getsockname(), address):
                return self._bound(held.dup())
        created: socket.socket = model.createInternetSocket()
        try:
            created.bind(address)
            created.listen(max(backlog, BACKLOG))
        except BaseException:
            created.close()
            raise
        return self._bound(created)

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort:
        """Bind."""
        path = os.fsdecode(address)
        for held, file in self._going:
            if file is not None and file.path == path and file.there():
                return self._bound(held.dup(), replace(file, mode=mode), True)
        created = socket.socket(socket.AF_UNIX)
        created.setblocking(False)
        try:
            if path.startswith("\0"):
                # An abstract name, which is no file (unix(7)).
                created.bind(path)
                created.listen(max(backlog, BACKLOG))
                return self._bound(created)
            lock = FilesystemLock(f"{path}.lock") if wantPID else None
            if lock is not None and not lock.lock():
                raise OSError(f"process {os.readlink(lock.name)} holds the lock {lock.name!r}")
            try:
                _remove_stale(path)
                created.bind(path)
                try:
                    # Nobody can have connected yet, whatever the mode was until now.
                    os.chmod(path, mode)
                    created.listen(max(backlog, BACKLOG))
                    return self._bound(created, SocketFile.at(path))
                except BaseException:
                    os.unlink(path)
                    raise
            finally:
                if lock is not None:
                    lock.unlock()
        except BaseException:
            created.close()
            raise

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """Take a duplicate of what somebody else has bound."""
        given = listening_socket(fileDescriptor)
        if given.family != socket.AF_UNIX:
            given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return self._bound(given)


@implementer(IListeningPort)
class Bound:
    """
    What an endpoint gets for a port on which nobody accepts.

    @ivar again: there was such a socket already, so the file is not this one's alone.
    """

    def __init__(self, binding: Binding, listening: socket.socket, file: SocketFile | None, again: bool) -> None:
        self._binding = binding
        self.socket = listening
        self.file = file
        self.again = again

    def startListening(self) -> None:
        """It listens."""

    def stopListening(self) -> None:
        """The endpoint does not want it after all, or something else of it could not be had."""
        if self in self._binding.ports:
            self._binding.ports.remove(self)
            if self.file is not None and not self.again and self.file.there():
                os.unlink(self.file.path)
            self.socket.close()

    def getHost(self) -> IAddress:
        """Its address."""
        return address_of(self.socket)


def listen(
    network: Network, description: str, factory: IProtocolFactory, answer: Callable[[int | str], int]
) -> Deferred[IListeningPort]:
    """
    Have an endpoint listen.

    @param answer: gives a descriptor for C{systemd:}, which is the endpoint's then.
    """
    passed: list[int] = []

    def passes(which: int | str) -> int:
        passed.append(answer(which))
        return passed[-1]

    with passing(passes):
        try:
            endpoint = serverFromString(network, description)
        except BaseException:
            # Otherwise they are the endpoint's.
            for descriptor in passed:
                os.close(descriptor)
            raise
        listening: Deferred[IListeningPort] = endpoint.listen(factory)
        return listening


def listening_socket(descriptor: int) -> socket.socket:
    """
    @return: a duplicate.
    @raise OSError: it is none that listens; with a text for the user.
    """
    copy = os.dup(descriptor)
    try:
        given = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    try:
        if given.type != socket.SOCK_STREAM or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(f"descriptor {descriptor} is not a listening stream socket")
        given.setblocking(False)
    except BaseException:
        given.close()
        raise
    return given


def _remove_stale(path: str) -> None:
    """
    Remove the file of a unix socket on which nobody listens.

    @raise OSError: it is something else; with a text for the user.
    """
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError("there is something of that name that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # its queue is full
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _same(there: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    """Whether a socket's address is the one that is asked for. Port 0 never is."""
    return (wanted[0] or "0.0.0.0", *wanted[1:]) == there


def address_of(listening: socket.socket) -> IAddress:
    """Where a socket listens."""
    name: Any = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return UNIXAddress(os.fsencode(name))
    return IPv6Address("TCP", *name) if listening.family == socket.AF_INET6 else IPv4Address("TCP", *name)


def shown(address: Any) -> str:
    """For people."""
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"").replace("\0", "@")
    return f"[{address.host}]:{address.port}" if isinstance(address, IPv6Address) else f"{address.host}:{address.port}"


def cause_of(error: BaseException | None) -> BaseException | None:
    """What the system has said, where Twisted has wrapped it."""
    return error.socketError if isinstance(error, CannotListenError) else error


def reason_of(error: BaseException | None) -> str:
    """An error on one line. Endpoints are anyone's plugins: it can be of any kind."""
    cause = cause_of(error)
    text = getattr(cause, "strerror", None) or " ".join(str(cause).split())
    expected = isinstance(cause, (OSError, ValueError, Unshared))
    return text if text and expected else f"{type(cause).__name__}: {text}"
