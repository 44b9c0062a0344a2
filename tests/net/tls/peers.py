"""Both ends of a TLS connection in memory, and what goes between them."""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from lemmytx.model import Tls as TlsSettings
from lemmytx.net.tls.connection import Tls
from lemmytx.net.tls.server import ServerTls
from tests.certificates import Authority


class Inner(Protocol):
    """
    Keeps what comes.

    @ivar pieces: the data, call by call.
    @ivar reasons: of C{connectionLost}: to be one at the most.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.reasons: list[Failure] = []
        self.then: Any = None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        if self.then is not None:
            self.then(data)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008  # Twisted's signature
        self.reasons.append(reason)


@implementer(IHalfCloseableProtocol)
class Half(Inner):
    """One that knows half-closed connections."""

    def __init__(self) -> None:
        super().__init__()
        self.read_ends = self.write_ends = 0

    def readConnectionLost(self) -> None:
        self.read_ends += 1

    def writeConnectionLost(self) -> None:
        self.write_ends += 1


class Turn:
    """A reactor of which only C{callLater(0)} is wanted."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def callLater(self, seconds: float, call: Any, *arguments: Any) -> None:
        assert seconds == 0
        self.calls.append((call, arguments))

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for call, arguments in calls:
            call(*arguments)


class Raw(StringTransport):
    """A transport with what ours have besides."""

    def __init__(self) -> None:
        super().__init__()
        self.connected = True
        self.aborted = False
        self.write_closed = False
        self.writes = 0
        self.queued = 0
        self.behind = self.failed_write = False
        self.bufferSize = 65536
        self.reactor = Turn()
        self.delay: bool | None = None

    @property
    def quiet(self) -> bool:
        return not self.queued

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.write_closed = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.delay = not enabled

    def take(self) -> bytes:
        """What was written since the last time."""
        data = self.value()
        self.clear()
        return data


class End:
    """
    One end: what is inside of its TLS.

    @ivar reasons: of L{insecure}; to be one at the most, and then not C{opened}.
    """

    def __init__(self, protocol: Inner) -> None:
        self.protocol = protocol
        self.raw = Raw()
        self.opened = 0
        self.reasons: list[str] = []
        self.tls: Tls

    def secured(self, tls: Tls) -> None:
        assert tls is self.tls
        self.opened += 1
        tls.protocol = self.protocol
        self.protocol.makeConnection(tls)  # type: ignore[arg-type]  # an ITransport as Twisted's protocols need it

    def insecure(self, reason: str) -> None:
        self.reasons.append(reason)


class Pair:
    """A client and a server. What they say is carried by L{pump}."""

    def __init__(
        self,
        context: ssl.SSLContext,
        served: ServerTls | ssl.SSLContext,
        name: str | None = "a.example",
        session: ssl.SSLSession | None = None,
        inner: type[Inner] = Half,
    ) -> None:
        self.client = End(inner())
        self.server = End(inner())
        if isinstance(served, ServerTls):
            self.server.tls = served.connection(self.server)
        else:
            self.server.tls = Tls(served, self.server, True)
        self.client.tls = Tls(context, self.client, False, name, session)
        self.server.tls.makeConnection(self.server.raw)
        self.client.tls.makeConnection(self.client.raw)

    def pump(self, size: int = 0) -> None:
        """
        Carry until nobody says anything.

        @param size: how many bytes at once; 0: all.
        """
        while True:
            there = self.client.raw.take()
            back = self.server.raw.take()
            if not there and not back:
                return
            _feed(self.server.tls, there, size)
            _feed(self.client.tls, back, size)

    def shaken(self) -> Pair:
        """@return: itself, with the handshake over."""
        self.pump()
        assert self.client.opened == self.server.opened == 1, (self.client.reasons, self.server.reasons)
        return self


def _feed(tls: Tls, data: bytes, size: int) -> None:
    if size:
        for at in range(0, len(data), size):
            tls.dataReceived(data[at : at + size])
    elif data:
        tls.dataReceived(data)


class TlsCase(SynchronousTestCase):
    """A test with a folder of its own and an authority."""

    authority = Authority()

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, *parts: str) -> str:
        """In the folder."""
        return os.path.join(self.folder, *parts)

    def settings(self, certificates: Sequence[str] = (), **more: Any) -> TlsSettings:
        """Of a listener. Without certificates: one for C{a.example}."""
        if not certificates:
            certificates = [self.authority.issue(["a.example"]).write(self.folder, "a.pem")]
        return TlsSettings(certificates=tuple(certificates), **more)

    def served(self, certificates: Sequence[str] = (), **more: Any) -> ServerTls:
        """A listener's TLS."""
        return ServerTls(self.settings(certificates, **more))

    def trusting(self, authority: Authority | None = None) -> ssl.SSLContext:
        """A client that trusts the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=(authority or self.authority).cert_pem.decode())
        return context
