"""
How a connection to Redis is made: to the server that is named, or to the one that the Sentinels name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from lemmytx.store.redis.address import Address, Login, TlsFiles, authority
from lemmytx.store.redis.said import Lost, Refusal, command

if TYPE_CHECKING:
    # Not before a store is opened: see the package.
    from lemmytx.store.redis.wire import Connection

_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

_Made = TypeVar("_Made", bound="Connection")


class Tls:
    """TLS towards Redis, with the files read."""

    def __init__(self, files: TlsFiles, folder: str) -> None:
        """
        @param folder: where relative paths begin.
        @raise ValueError: when a file cannot be used; with a text for the user.
        """
        self._files = files
        self._ours: ssl.PrivateCertificate | None = None
        self._believed: Any = None
        if files.ca:
            found = _CERTIFICATES.findall(_read(folder, files.ca, "ssl_ca_certs"))
            try:
                self._believed = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(one) for one in found])
            except Exception as error:  # pyOpenSSL and cryptography have many
                raise ValueError(f"ssl_ca_certs: {files.ca} cannot be used ({error!r})") from error
            if not found:
                raise ValueError(f"ssl_ca_certs: there is no certificate in {files.ca}")
        if files.certificate:
            pem = _read(folder, files.certificate, "ssl_certfile")
            if files.key:
                pem += b"\n" + _read(folder, files.key, "ssl_keyfile")
            try:
                self._ours = ssl.PrivateCertificate.loadPEM(pem)
            except Exception as error:  # pyOpenSSL and cryptography have many
                raise ValueError(f"ssl_certfile: {files.certificate} and its key cannot be used") from error

    def options(self, host: str) -> Any:
        """
        @return: what one connection is wrapped with.
        """
        if self._files.verify and self._files.named:
            return ssl.optionsForClientTLS(host, self._believed, self._ours)
        key = certificate = None
        if self._ours is not None:
            key, certificate = self._ours.privateKey.original, self._ours.original
        trust = (self._believed or ssl.platformTrust()) if self._files.verify else None
        return ssl.CertificateOptions(privateKey=key, certificate=certificate, trustRoot=trust)


def _read(folder: str, path: str, option: str) -> bytes:
    try:
        with open(os.path.join(folder, path), "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{option}: {path} cannot be read: {error.strerror}") from error


class Dialler:
    """Makes connections to the Redis of an address, logged in and looked at."""

    def __init__(self, reactor: Any, address: Address, tls: Tls | None, timeout: float) -> None:
        """
        @param timeout: seconds for each step.
        """
        self._reactor = reactor
        self._address = address
        self._tls = tls
        self._timeout = timeout
        self._sentinels: Sequence[tuple[str, int]] = address.hosts

    async def find(self) -> tuple[str, int]:
        """
        @return: where Redis is now; nothing of meaning when it is behind a socket.
        @raise Lost: no Sentinel can be asked, or none knows.
        """
        if self._address.kind == "unix":
            return "", 0
        if self._address.kind == "tcp":
            return self._address.hosts[0]
        from lemmytx.store.redis.wire import Connection

        reasons = []
        for sentinel in self._sentinels:
            name = authority(*sentinel)
            try:
                connection = await self._connect(sentinel, lambda: Connection(self._reactor, _nobody))
            except Lost as error:
                reasons.append(f"{name}: {error}")
                continue
            try:
                asked = [
                    *_logging_in(self._address.sentinel_login),
                    (b"SENTINEL", b"get-master-addr-by-name", self._address.master.encode()),
                ]
                *before, answer = await self._ask(connection, asked)
                for reply in (*before, answer):
                    if isinstance(reply, Refusal):
                        raise Lost(str(reply))
                if answer is None:
                    raise Lost(f"it knows no master {self._address.master!r}")
                where = answer[0].decode("utf-8", "replace"), int(answer[1])
            except Lost as error:
                reasons.append(f"{name}: {error}")
                continue
            finally:
                connection.end("")
            # As Redis' guide for clients wants it: the one that has answered is asked first from now on.
            self._sentinels = [sentinel, *(other for other in self._sentinels if other != sentinel)]
            return where
        raise Lost("no Sentinel names a master (" + "; ".join(reasons) + ")")

    async def connect(self, where: tuple[str, int], make: Callable[[], _Made]) -> _Made:
        """
        @param where: what L{find} has answered.
        @return: a connection that is logged in and has the database chosen.
        @raise Lost: there is none.
        """
        connection = await self._connect(where, make)
        try:
            asked: list[tuple[bytes, ...]] = list(_logging_in(self._address.login))
            if self._address.database:
                asked.append((b"SELECT", b"%d" % self._address.database))
            by_sentinel = self._address.kind == "sentinel"
            if by_sentinel:
                asked.append((b"ROLE",))
            replies = await self._ask(connection, asked) if asked else []
            for reply in replies:
                if isinstance(reply, Refusal):
                    raise Lost(str(reply))
            if by_sentinel and replies[-1][0] != b"master":
                # Sentinels that have not agreed yet name the old one.
                raise Lost(f"{authority(*where)}, which the Sentinels name, is no master")
        except BaseException:
            connection.end("")
            raise
        return connection

    async def _connect(self, where: tuple[str, int], make: Callable[[], _Made]) -> _Made:
        endpoint: IStreamClientEndpoint
        if self._address.kind == "unix":
            endpoint = UNIXClientEndpoint(self._reactor, self._address.path, timeout=self._timeout)
        else:
            endpoint = HostnameEndpoint(self._reactor, *where, timeout=self._timeout)
            if self._tls is not None:
                endpoint = wrapClientTLS(self._tls.options(where[0]), endpoint)
        connecting = cast("Deferred[_Made]", endpoint.connect(_Once(make)))
        # A name that nobody resolves takes longer than the endpoint's timeout, which is for each address.
        connecting.addTimeout(self._timeout, self._reactor, lambda _, __: _too_long(self._timeout))
        try:
            return await connecting
        except Lost:
            raise
        except Exception as error:  # endpoints have no bounds to what they raise
            raise Lost(_reason(error)) from error

    async def _ask(self, connection: Connection, commands: Sequence[tuple[bytes, ...]]) -> list[Any]:
        return await connection.ask(b"".join(command(*one) for one in commands), len(commands), self._timeout)


class _Once(Factory[Any]):
    """Makes one protocol."""

    noisy = False

    def __init__(self, make: Callable[[], Protocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> Protocol:
        return self._make()


def _nobody(connection: Connection, why: str) -> None:
    """Whoever asked hears of it by his question."""


def _logging_in(login: Login) -> list[tuple[bytes, ...]]:
    if not login.password:
        return []
    user = (login.user.encode(),) if login.user else ()
    return [(b"AUTH", *user, login.password.encode())]


def _too_long(timeout: float) -> Failure:
    return Failure(Lost(f"no connection within {timeout:g} s"))


def _reason(error: Exception) -> str:
    """Why there is no connection, on one line."""
    if isinstance(error, DNSLookupError):
        return "its name is not known"
    system = getattr(error, "osError", None)
    if isinstance(error, ConnectError) and isinstance(system, int):
        return os.strerror(system).lower()
    return " ".join(str(error).split()) or type(error).__name__
