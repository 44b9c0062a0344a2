"""
TLS as an endpoint description, for any Twisted program::

    lemmytls:tcp\\:8443:certificates=certs/
    lemmytls:tcp\\:8443\\:interface\\=127.0.0.1:certificates=a.pem,b.pem:preset=modern:alpn=h2,http/1.1

The first part is the endpoint to listen on, its colons and equals signs with a backslash. The other ones are the
settings that C{tls:} of a listener has, by the same names; lists have commas. C{alpn}: what is spoken, the best first;
without it, what the factory says (L{IProtocolNegotiationFactory}). L{lemmytx.net.tls.parser} is what C{twisted.plugin}
finds.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from lemmytx.model import Tls as TlsSettings
from lemmytx.net.tls.connection import Tls
from lemmytx.net.tls.server import ServerTls
from lemmytx.units import Substituted

log = Logger(namespace="lemmytx.tls")

#: Seconds between two looks at the files.
INTERVAL = 10.0

_LISTS = ("certificates", "ocsp")


def read(arguments: dict[str, str]) -> TlsSettings:
    """
    Settings as they stand in an endpoint description.

    @raise ValueError: with a text for the user.
    """
    values: dict[str, Any] = {}
    for name, text in arguments.items():
        if name not in TlsSettings.model_fields or name == "hsts":
            raise ValueError(f"{name}: there is no such setting of a TLS endpoint")
        if name in _LISTS:
            values[name] = tuple(text.split(","))
        elif TlsSettings.model_fields[name].annotation in (bool, float, int):
            values[name] = Substituted(text)  # to be read as a number, or as true and false
        else:
            values[name] = text
    try:
        return TlsSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ValueError(f"{where}: {first['msg']}") from error


@implementer(IStreamServerEndpoint)
class Endpoint:
    """TLS around another endpoint."""

    def __init__(
        self, reactor: Any, inner: IStreamServerEndpoint, settings: TlsSettings, protocols: tuple[str, ...]
    ) -> None:
        """
        @param reactor: who looks at the files from time to time; one that is no L{IReactorTime} may have such a one as
            C{reactor}.
        @param protocols: for ALPN; empty: ask the factory.
        """
        clock = reactor if IReactorTime.providedBy(reactor) else getattr(reactor, "reactor", None)
        self._clock: Any = clock
        self._inner = inner
        self._settings = settings
        self._protocols = protocols

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See L{IStreamServerEndpoint}. Fails with L{lemmytx.net.tls.server.BadTls}, too."""
        protocols = self._protocols
        if not protocols and IProtocolNegotiationFactory.providedBy(protocolFactory):
            protocols = tuple(name.decode("ascii") for name in protocolFactory.acceptableProtocols())
        try:
            tls = ServerTls(self._settings, protocols)
        except Exception:
            return fail()
        for warning in tls.warnings():
            log.warn("{about}", about=warning)
        listening: Deferred[IListeningPort] = self._inner.listen(
            Securing(protocolFactory, tls, self._settings, self._clock)
        )
        return listening


class Securing(Factory[Any]):
    """Protocols in TLS. Theirs is asked for one when the handshake is over."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, tls: ServerTls, settings: TlsSettings, clock: Any) -> None:
        self.factory: Any = factory
        self.tls = tls
        self.handshake_timeout = settings.handshake_timeout
        #: How many handshakes are under way, and may be.
        self.handshakes = 0
        self.most = settings.handshakes
        self._looking: LoopingCall | None = None
        self._clock = clock

    def doStart(self) -> None:
        """The port listens."""
        self.factory.doStart()
        if self._looking is None and self._clock is not None:
            self._looking = LoopingCall(self.tls.look)
            self._looking.clock = self._clock
            self._looking.start(INTERVAL, now=False)

    def doStop(self) -> None:
        """The port has stopped."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.stop()
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Tls | None:
        """A client has connected. Too many at once are turned away."""
        if self.handshakes >= self.most:
            return None
        self.handshakes += 1
        return _Timed(self, addr).tls


class _Timed:
    """One handshake. See L{lemmytx.net.tls.connection.Inside}."""

    __slots__ = ("_address", "_securing", "_timeout", "tls")

    def __init__(self, securing: Securing, address: IAddress | None) -> None:
        self._securing = securing
        self._address = address
        self.tls = securing.tls.connection(self)
        clock = securing._clock
        self._timeout: Any = None if clock is None else clock.callLater(securing.handshake_timeout, self._too_late)

    def _too_late(self) -> None:
        self._timeout = None
        self.tls.abortConnection()

    def _over(self) -> None:
        self._securing.handshakes -= 1
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            timeout.cancel()

    def secured(self, tls: Tls) -> None:
        """The handshake is over."""
        self._over()
        protocol = self._securing.factory.buildProtocol(self._address)
        if protocol is None:
            tls.abortConnection()
            return
        tls.protocol = protocol
        protocol.makeConnection(tls)

    def insecure(self, reason: str) -> None:
        """A peer that is no good costs this one connection, and no line in the log."""
        self._over()
