"""What a listener's TLS is made of, read from its files as a whole."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from dataclasses import dataclass
from math import inf

from cryptography import x509

from lemmytx.model import Tls as TlsSettings
from lemmytx.net.tls import _openssl, contexts, staples
from lemmytx.net.tls import certificates as files
from lemmytx.net.tls.certificates import Certificate, Unusable
from lemmytx.net.tls.reasons import explain

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Material:
    """
    All that is read from files.

    @ivar clients: where clients are asked for certificates.
    """

    certificates: list[Certificate]
    staples: list[staples.Staple]
    clients: Clients | None


@dataclass(frozen=True, slots=True)
class Clients:
    """
    Whose certificates of clients count.

    @ivar authorities: PEM.
    @ivar revoked: PEM; may be empty.
    @ivar until: when the first of the revocation lists is to be replaced, Unix time.
    @ivar rules: tells these from others: the keys of tickets depend on it.
    """

    authorities: str
    revoked: bytes
    until: float
    rules: bytes


def gather(settings: TlsSettings, old: Material | None) -> tuple[Material, list[str]]:
    """
    Read everything.

    @param old: what there was before, which stays where what is there now cannot be used.
    """
    found, problems = files.load_all(settings.certificates, old.certificates if old else ())
    stapled, wrong = staples.load_all(settings.ocsp)
    problems += wrong
    if old is not None:
        # A response that is being written at this moment is no reason to go without.
        paths = {staple.path for staple in stapled}
        stapled += [staple for staple in old.staples if staple.path not in paths and os.path.exists(staple.path)]
    if settings.ocsp and not _openssl.available:
        problems.append(f"ocsp: nothing can be stapled here: {_openssl.why_not}; leave it out")
    serials = {certificate.serial for certificate in found}
    for staple in stapled:
        if old is None and found and staple.serial not in serials:
            problems.append(f"{staple.path}: is about none of the certificates")
    clients = old.clients if old else None
    if settings.client_ca is not None:
        try:
            clients = _clients(settings, settings.client_ca)
        except Unusable as error:
            problems.append(str(error))
    return Material(found, stapled, clients), problems


def _clients(settings: TlsSettings, path: str) -> Clients:
    """@raise Unusable: the files cannot be used."""
    data = files.read(path)
    try:
        x509.load_pem_x509_certificates(data)
        authorities = data.decode("ascii")
    except ValueError as error:
        raise Unusable(f"{path}: holds no certificate of an authority in PEM") from error
    revoked = b""
    until = inf
    if settings.client_crl is not None:
        revoked = files.read(settings.client_crl)
        lists = _LIST.findall(revoked)
        try:
            ends = [x509.load_pem_x509_crl(one).next_update_utc for one in lists]
        except ValueError:
            lists = []
        if not lists:
            raise Unusable(f"{settings.client_crl}: holds no revocation list in PEM")
        until = min((end.timestamp() for end in ends if end is not None), default=inf)
    try:
        contexts.make(settings, (), authorities, revoked)
    except ssl.SSLError as error:
        raise Unusable(f"{path}: cannot be used: {explain(error)}") from error
    rules = hashlib.sha256(settings.client_auth.encode() + b"\0" + data + b"\0" + revoked).digest()
    return Clients(authorities, revoked, until, rules)
