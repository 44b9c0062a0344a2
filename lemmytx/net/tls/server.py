"""
TLS of a listener: which certificate for which name, and what changes while it serves.

A client gets, by the name it asks for (SNI, RFC 6066 §3): the certificate for that very name, else one with a wildcard
for its first label, else, unless C{strict_sni}, the first of all. Certificates with keys of different kinds for a name
go together: OpenSSL takes the one that the client can use. Of two of one kind the one that is valid counts, then the
one that comes first.

All contexts of a listener differ in nothing but the certificates, so what was checked before the name was known holds
after it.

B{Tickets.} Sessions live in tickets at the client, under keys that all processes make out of one secret and the time:
so any of them, and any successor, resumes what another began. One key counts at a time; at the turn of
C{ticket_rotation} older tickets cost a whole handshake. The keys are also made out of the rules for client
certificates: nobody who resumes a session gets around rules that did not hold when it began.

B{Files.} L{ServerTls.look}, to be called every ten seconds or so, reads again what has changed. What cannot be used
then leaves everything about it as it was, is logged, and stands in L{ServerTls.problems} until it is good.
"""

from __future__ import annotations

import hmac
import os
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from lemmytx.model import Tls as TlsSettings
from lemmytx.net.tls import _openssl, contexts, staples
from lemmytx.net.tls import certificates as files
from lemmytx.net.tls.certificates import Certificate, Unusable
from lemmytx.net.tls.connection import Inside, Tls
from lemmytx.net.tls.material import Clients, Material, gather

log = Logger(namespace="lemmytx.tls")

#: When a certificate's end is near, seconds; and how often that is said.
NEAR = 14 * 86400
_DAY = 86400


class BadTls(Exception):
    """
    The settings cannot be served with what lies on the disk.

    @ivar problems: one line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class Shown:
    """
    A certificate, for people and statistics.

    @ivar not_after: Unix time.
    @ivar days_left: negative when it has expired.
    """

    names: tuple[str, ...]
    file: str
    kind: str
    not_after: float
    days_left: float
    problems: tuple[str, ...]


def check(settings: TlsSettings) -> list[str]:
    """
    For the check of a configuration: everything that would keep this from serving, one line each.
    """
    _, problems = gather(settings, None)
    return problems


def warnings(settings: TlsSettings, now: float | None = None) -> list[str]:
    """
    What is not as it should be but keeps nothing from serving: expired certificates and the like, one line each.
    """
    try:
        served = ServerTls(settings)
    except BadTls:
        return []
    return served.warnings(now)


class ServerTls:
    """
    One per listener and process.

    @ivar problems: what was wrong with the files when they were last read, one line each; what it is about serves on
        with what was there before.
    """

    def __init__(
        self,
        settings: TlsSettings,
        protocols: Sequence[str] = (),
        secret: bytes = b"",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        @param protocols: for ALPN, the best first: C{("h2", "http/1.1")}.
        @param secret: what all processes of an instance, and its successors, have in common for the keys of tickets;
            at least 32 random bytes. Empty: this object's tickets are its own.
        @param clock: Unix time.
        @raise BadTls: with all that is wrong.
        """
        self._settings = settings
        self._protocols = tuple(protocols)
        self._secret = secret or os.urandom(32)
        self._clock = clock
        self._epoch = 0
        self._warned = clock()
        self._made: dict[object, contexts.ServerContext] = {}
        self._seen = self._look()
        material, problems = gather(settings, None)
        if problems:
            raise BadTls(problems)
        self.problems: list[str] = []
        self._take(material)

    # Connections

    def connection(self, inside: Inside) -> Tls:
        """TLS for a new connection."""
        return Tls(self.context, inside, True)

    def _choose(self, secured: Any, name: str | None, base: ssl.SSLContext) -> int | None:
        """Called by OpenSSL in each handshake."""
        if name is None:
            chosen = None
        else:
            name = name.lower()
            secured.asked = name
            chosen = self._exact.get(name)
            if chosen is None:
                chosen = self._exact.get(f"*.{name.partition('.')[2]}") or self._exact.get(name.removesuffix("."))
        if chosen is None:
            if self._settings.strict_sni:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        elif chosen is not base:
            secured.context = chosen
        return None

    # What is there

    def _take(self, material: Material) -> None:
        """
        Make contexts of it.

        @raise Unusable, ssl.SSLError: this cannot be done; nothing has changed.
        """
        now = self._clock()
        by_name: dict[str, list[Certificate]] = {}
        for certificate in material.certificates:
            for name in certificate.names:
                by_name.setdefault(name, []).append(certificate)
        made: dict[object, contexts.ServerContext] = {}

        def context(candidates: list[Certificate]) -> contexts.ServerContext:
            group = _best(candidates, now)
            serials = {certificate.serial for certificate in group}
            stapled = tuple(staple for staple in material.staples if staple.serial in serials)
            key = (tuple(certificate.pem for certificate in group), stapled, material.clients)
            if key not in made:
                # Of a thousand certificates one has changed: to make all contexts anew would take two seconds.
                made[key] = self._made.get(key) or self._context(group, stapled, material.clients)
            return made[key]

        names = set(material.certificates[0].names)
        base = context([one for one in material.certificates if names <= set(one.names)])
        self._exact = {name: context(candidates) for name, candidates in by_name.items()}
        contexts.choose_by_name(base, self._choose)
        self._material = material
        self._made = made
        self._epoch = 0
        #: What new connections begin with.
        self.context = base
        self._rotate(now)

    def _context(
        self, group: list[Certificate], responses: Sequence[staples.Staple], clients: Clients | None
    ) -> contexts.ServerContext:
        if clients is None:
            context = contexts.make(self._settings, self._protocols, None)
        else:
            context = contexts.make(self._settings, self._protocols, clients.authorities, clients.revoked)
        stapled: dict[int, staples.Staple] = {}
        for certificate in group:
            files.give(context, certificate)
            for staple in responses:
                if staple.serial == certificate.serial:
                    stapled[_openssl.certificate(context)] = staple
        if stapled:
            clock = self._clock

            def find(number: int) -> bytes | None:
                staple = stapled.get(number)
                return staple.response if staple is not None and clock() < staple.until else None

            context.staples = _openssl.staple(context, find)
        return context

    def _rotate(self, now: float) -> None:
        """See to it that tickets are made with the key of this time."""
        epoch = int(now // self._settings.ticket_rotation)
        if epoch == self._epoch or not (self._settings.session_tickets and _openssl.available):
            return
        self._epoch = epoch
        clients = self._material.clients
        what = b"lemmytx session tickets %d %d " % (int(self._settings.ticket_rotation), epoch)
        if clients is not None:
            what += clients.rules
        keys = b"".join(hmac.digest(self._secret, what + part, "sha512") for part in (b" 1", b" 2"))
        for context in self._made.values():
            _openssl.set_ticket_keys(context, keys[: _openssl.TICKET_KEYS])

    def certificates(self, now: float | None = None) -> list[Shown]:
        """All that are served, in their order."""
        if now is None:
            now = self._clock()
        shown = []
        for certificate in self._material.certificates:
            about = [*filter(None, [_validity(certificate, now)])]
            about += [problem for problem in self.problems if problem.startswith(f"{certificate.path}:")]
            about += [
                said
                for staple in self._material.staples
                if staple.serial == certificate.serial
                for said in _staleness(staple, now)
            ]
            left = (certificate.not_after - now) / _DAY
            shown.append(
                Shown(certificate.names, certificate.path, certificate.kind, certificate.not_after, left, tuple(about))
            )
        return shown

    def warnings(self, now: float | None = None) -> list[str]:
        """What is not as it should be, one line each: to be logged at the start; L{look} repeats it once a day."""
        if now is None:
            now = self._clock()
        found = list(self.problems)
        if self._settings.session_tickets and not _openssl.available:
            found.append(
                "sessions cannot be resumed in another process or after a restart, since the keys of tickets cannot "
                f"be set: {_openssl.why_not}"
            )
        clients = self._material.clients
        if clients is not None and now >= clients.until:
            found.append(
                f"{self._settings.client_crl}: the revocation list is out of date since {_date(clients.until)}; "
                "the clients of its authority are refused"
            )
        for shown in self.certificates(now):
            found += [problem for problem in shown.problems if problem not in found]
        return found

    # Time

    def look(self) -> None:
        """
        Called every ten seconds or so: new keys for tickets when their time has come, files that have changed, and once
        a day what there is to warn about.
        """
        now = self._clock()
        if self.changed():
            self.reload()
        self._rotate(now)
        if now - self._warned >= _DAY:
            self._warned = now
            self._take(self._material)  # of two certificates for a name, one may have expired
            for warning in self.warnings(now):
                log.warn("{about}", about=warning)

    def changed(self) -> bool:
        """Whether any file is another than when it was last read."""
        return self._look() != self._seen

    def _look(self) -> files.State:
        settings = self._settings
        others = (path for path in (settings.client_ca, settings.client_crl) if path is not None)
        return files.state((*settings.certificates, *settings.ocsp, *others))

    def reload(self) -> list[str]:
        """
        Read all files again. New handshakes get what they hold; connections that exist are left alone.

        @return: the problems, which have been logged.
        """
        self._seen = self._look()
        material, problems = gather(self._settings, self._material)
        try:
            self._take(material)
        except (Unusable, ssl.SSLError, IndexError) as error:
            problems.append(f"the certificates that were there before serve on: {error}")
        else:
            if not problems:
                log.info("certificates read again: {count}", count=len(material.certificates))
        self.problems = problems
        for problem in problems:
            log.error("what was there before serves on: {problem}", problem=problem)
        return problems


def _best(candidates: list[Certificate], now: float) -> list[Certificate]:
    """One of each kind of key: the first that is valid, else the first."""
    best: dict[str, Certificate] = {}
    for certificate in candidates:
        held = best.get(certificate.kind)
        if held is None or (certificate.valid(now) and not held.valid(now)):
            best[certificate.kind] = certificate
    return list(best.values())


def _validity(certificate: Certificate, now: float) -> str | None:
    name = certificate.names[0] if certificate.names else "no name"
    if now >= certificate.not_after:
        return f"{certificate.path}: the certificate for {name} has expired on {_date(certificate.not_after)}"
    if now < certificate.not_before:
        return f"{certificate.path}: the certificate for {name} is not valid before {_date(certificate.not_before)}"
    if certificate.not_after - now < NEAR:
        return (
            f"{certificate.path}: the certificate for {name} expires on {_date(certificate.not_after)}, "
            f"in {int((certificate.not_after - now) // _DAY)} days"
        )
    return None


def _staleness(staple: staples.Staple, now: float) -> list[str]:
    if now >= staple.until:
        return [f"{staple.path}: the OCSP response is stale since {_date(staple.until)}, and is not sent"]
    return [] if staple.good else [f"{staple.path}: the OCSP response says that the certificate is not good"]


def _date(when: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(when))
