"""
Listening sockets, opened apart from accepting on them.

An instance opens each endpoint description once (L{Sockets.open}); whoever serves accepts on duplicates of its
descriptors (L{adopt}): this process, its workers, the successor in an upgrade. A duplicate is the same socket: there is
one queue of new connections, which outlives each of them, so nothing that waits in it is lost when one goes.

B{How an endpoint is made to do half of its work.} It is given a L{Network} that is none. To open, its listenTCP and the
like bind a socket, note it and never accept (L{Binding}). To adopt, the same endpoint listens again in the process that
serves, and its calls get what was noted, in the same order (L{_Adopting}). So whatever an endpoint wraps around its
protocols (PROXY protocol, TLS) works, and C{tcp:0} keeps the port that the system chose.

B{What is shared must not be ended by one of those who share it.} Ports on adopted sockets neither shut them down nor
touch their files. The file of a unix socket belongs to the L{Sockets} that bound it, then to its successor's; it is
removed only if it is the very file that we made, which its device and inode tell as long as the socket is open.

B{Unix sockets} need no lock file that lives as long as they do, which is why C{lockfile=1} only guards the moments of
opening here: a file is stale if nobody answers there.

What a successor gets is written down by L{Sockets.hand_over} and read by L{Sockets}, possibly those of another version
of this program: additions to it must be optional.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from lemmytx.net.activation import Activation
from lemmytx.net.network import Network
from lemmytx.net.opening import (
    Binding,
    Nothing,
    SocketFile,
    Surrogate,
    Unshared,
    address_of,
    cause_of,
    listen,
    listening_socket,
    reason_of,
    shown,
)

log = Logger(namespace="lemmytx.net")


class CannotListen(Exception):
    """A listener cannot be opened; the text is for the user: C{cannot listen on 'tcp:80': Permission denied}."""

    def __init__(self, description: str, why: str) -> None:
        super().__init__(f"cannot listen on {description!r}: {why}")


@dataclass(frozen=True, slots=True)
class Opened:
    """
    What one endpoint description has opened: bound and listening; nobody accepts by this.

    @ivar description: the endpoint's, as configured.
    @ivar sockets: one, unless an endpoint plugin opens several.
    @ivar files: one for each; L{None} where there is none, or where it is not ours, as with systemd.
    """

    description: str
    sockets: tuple[socket.socket, ...]
    files: tuple[SocketFile | None, ...]

    def descriptors(self) -> list[int]:
        """For L{adopt}, here or in a process that inherits them."""
        return [listening.fileno() for listening in self.sockets]

    @property
    def address(self) -> str:
        """Where it listens, for people: C{127.0.0.1:8080}, C{[::1]:80}, C{/run/lemmy.sock}."""
        return ", ".join(shown(address_of(listening)) for listening in self.sockets)


class Sockets:
    """The listening sockets of an instance, by endpoint description."""

    def __init__(self, inherited: Mapping[str, Any] | None = None) -> None:
        """
        @param inherited: what the predecessor's L{hand_over} gave, where there is one. Its descriptors belong to this
            object now.
        @raise ValueError: when these are not that; with a text for the user.
        """
        self._opened: dict[str, Opened] = {}
        if inherited is None:
            self._activation = Activation.of_process()
        else:
            try:
                self._inherit(inherited)
            except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
                raise ValueError(f"the sockets of the predecessor cannot be taken over: {error}") from error
        self._unclaimed = set(self._opened)

    def _inherit(self, inherited: Mapping[str, Any]) -> None:
        self._activation = Activation([(int(descriptor), str(name)) for descriptor, name in inherited["systemd"]])
        for description, entries in inherited["sockets"].items():
            sockets: list[socket.socket] = []
            files: list[SocketFile | None] = []
            for descriptor, *file in entries:
                given = listening_socket(descriptor)
                os.close(descriptor)
                sockets.append(given)
                files.append(SocketFile(os.fsdecode(given.getsockname()), *map(int, file[:3])) if file else None)
            self._opened[description] = Opened(description, tuple(sockets), tuple(files))

    def open(self, description: str, instead_of: Collection[str] = ()) -> Deferred[Opened]:
        """
        Give what is open already, or bind anew. One at a time: before the next is opened, this one has fired.

        @param instead_of: descriptions that go if this one comes (or else stay: it is not known yet). Where one of them
            has the same address, its socket serves on, under both descriptions until one of them is closed. So how a
            port is served can be changed without giving it up.
        @return: fails with L{CannotListen}, and leaves nothing behind then.
        """
        opened = self._opened.get(description)
        if opened is not None:
            self._unclaimed.discard(description)
            return succeed(opened)
        going = [self._opened[name] for name in {*instead_of, *self._unclaimed} if name in self._opened]
        binding = Binding([pair for entry in going for pair in zip(entry.sockets, entry.files, strict=True)])

        def listening(_: object) -> Opened:
            if not binding.ports:
                raise Unshared("none of listenTCP, listenUNIX and adoptStreamPort")
            made = Opened(
                description,
                tuple(port.socket for port in binding.ports),
                tuple(port.file for port in binding.ports),
            )
            for port in binding.ports:
                if port.again and port.file is not None:
                    os.chmod(port.file.path, port.file.mode)
            self._opened[description] = made
            return made

        def refused(failure: Failure) -> NoReturn:
            for port in list(binding.ports):
                port.stopListening()
            why = reason_of(failure.value)
            if getattr(cause_of(failure.value), "errno", None) == errno.EADDRINUSE:
                why += self._by_whom(binding.tried)
            raise CannotListen(description, why) from failure.value

        return (
            maybeDeferred(listen, binding, description, Nothing(), self._passed)
            .addCallback(listening)
            .addErrback(refused)
        )

    def _passed(self, which: int | str) -> int:
        """A duplicate: the endpoint closes what it gets."""
        with listening_socket(self._activation.descriptor(which)) as given:
            return given.detach()

    def _by_whom(self, port: int | None) -> str:
        """Half of such errors are two listeners of one configuration."""
        for entry in self._opened.values():
            for listening in entry.sockets:
                if listening.family != socket.AF_UNIX and listening.getsockname()[1] == port:
                    return f"; {entry.description!r} listens there"
        return ""

    def close(self, description: str) -> None:
        """
        Close it, and remove the file of a unix socket if it still is ours. Nothing happens if it is not open. Whoever
        has adopted it goes on accepting until its port stops.
        """
        opened = self._opened.pop(description, None)
        if opened is None:
            return
        self._unclaimed.discard(description)
        for listening, file in zip(opened.sockets, opened.files, strict=True):
            if file is not None:
                self._let_go(file)
            listening.close()

    def _let_go(self, file: SocketFile) -> None:
        """One description less has it. Before its socket is closed: after that the inode could be another's."""
        if not file.there():
            return
        others = [other for entry in self._opened.values() for other in entry.files if other and other.same(file)]
        try:
            if not others:
                os.unlink(file.path)
            elif others[0].mode != file.mode:
                os.chmod(file.path, others[0].mode)
        except OSError as error:
            # Bound as root, closed as somebody else: whoever binds there next finds nobody listening, and replaces it.
            log.warn("{path} stays as it is: {why}", path=file.path, why=reason_of(error))

    def close_unclaimed(self) -> list[str]:
        """
        Close what was inherited and has not been opened here. To be called by a successor when the predecessor
        does not need it any more.

        @return: their descriptions.
        """
        unclaimed = sorted(self._unclaimed)
        for description in unclaimed:
            self.close(description)
        return unclaimed

    def descriptors(self) -> list[int]:
        """
        What a successor must be started with, under the same numbers. They are closed on exec: C{childFDs} of
        spawnProcess and C{pass_fds} of L{subprocess} see to that.
        """
        opened = [descriptor for entry in self._opened.values() for descriptor in entry.descriptors()]
        return [*opened, *(descriptor for descriptor, _ in self._activation.passed)]

    def hand_over(self) -> dict[str, Any]:
        """
        What there is, for the L{Sockets} of a successor that inherits L{descriptors}. JSON can carry it.
        """
        return {
            "sockets": {
                description: [
                    [listening.fileno()] if file is None else [listening.fileno(), file.device, file.inode, file.mode]
                    for listening, file in zip(opened.sockets, opened.files, strict=True)
                ]
                for description, opened in self._opened.items()
            },
            "systemd": [list(entry) for entry in self._activation.passed],
        }

    def leave(self) -> None:
        """Close all, for a successor has them: files of unix sockets stay, and are its own now."""
        for opened in self._opened.values():
            for listening in opened.sockets:
                listening.close()
        self._opened.clear()
        self._unclaimed.clear()


def adopt(
    network: Network, description: str, descriptors: Sequence[int], factory: IProtocolFactory
) -> Deferred[IListeningPort]:
    """
    Begin to accept on sockets that are open, in whatever wrapping the endpoint description asks for.

    @param network: makes the ports.
    @param descriptors: L{Opened.descriptors}, or what they have become on their way here. They are duplicated: the
        caller closes its own when it likes.
    @return: fails with L{CannotListen}. Stopping the port ends neither the socket for others nor its file.
    """
    adopting = _Adopting(network, descriptors)

    def listening(port: IListeningPort) -> IListeningPort:
        if adopting.left:
            adopting.stop()
            raise Unshared(f"{len(adopting.left)} sockets less than when it was opened")
        return port

    def refused(failure: Failure) -> NoReturn:
        adopting.stop()
        raise CannotListen(description, reason_of(failure.value)) from failure.value

    return (
        maybeDeferred(listen, adopting, description, factory, lambda which: os.dup(adopting.next()))
        .addCallback(listening)
        .addErrback(refused)
    )


class _Adopting(Surrogate):
    """
    Gives what is open already, in the order in which it was opened.

    @ivar left: what has not been asked for yet.
    """

    def __init__(self, network: Network, descriptors: Sequence[int]) -> None:
        super().__init__(network.reactor)
        self._network = network
        self._ports: list[IListeningPort] = []
        self.left = list(descriptors)

    def next(self) -> int:
        """The descriptor whose turn it is."""
        if not self.left:
            raise Unshared("more sockets than when it was opened")
        return self.left[0]

    def _adopted(self, factory: IProtocolFactory) -> IListeningPort:
        with listening_socket(self.next()) as given:
            port = self._network.adoptStreamPort(given.fileno(), given.family, factory)
        del self.left[0]
        self._ports.append(port)
        return port

    def stop(self) -> None:
        """It has failed: what has begun ends."""
        for port in self._ports:
            port.stopListening()
        self._ports.clear()

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """Accept on the next one."""
        return self._adopted(factory)

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort:
        """Accept on the next one."""
        return self._adopted(factory)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """Accept on the next one."""
        return self._adopted(factory)
