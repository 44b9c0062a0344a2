"""
Certificates for tests: an authority of one's own, and what it issues, good and bad.

    authority = Authority()
    good = authority.issue(["shop.example", "*.shop.example", "127.0.0.1"])
    good.cert_pem, good.key_pem, good.chain_pem     # bytes; chain_pem: the certificate, then those of the issuers
    path = good.write(folder)                       # one file with chain and key
    crt, key = good.write_pair(folder)              # NAME.crt and NAME.key
    ca = authority.write(folder)                    # the file that a client trusts

Keys take time, those of RSA most: each kind is made once per process and used for all of them, unless C{fresh_key}.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_keys: dict[tuple[str, int], PrivateKey] = {}


def make_key(kind: str) -> PrivateKey:
    """
    A new key.

    @param kind: C{ecdsa} (P-256), C{ecdsa384}, C{rsa} (2048 bits), or C{weak} (RSA of 1024 bits, refused by OpenSSL's
        default security level).
    """
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ecdsa384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(public_exponent=65537, key_size={"rsa": 2048, "weak": 1024}[kind])


def _shared_key(kind: str, which: int) -> PrivateKey:
    """The authorities' (0) and the leaves' (1) keys differ."""
    if (kind, which) not in _keys:
        _keys[kind, which] = make_key(kind)
    return _keys[kind, which]


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: str, data: bytes) -> str:
    """@return: C{path}."""
    with open(path, "wb") as file:
        file.write(data)
    return path


@dataclass(frozen=True)
class Issued:
    """
    A certificate and its key.

    @ivar issuers: of the chain, the nearest first, without the root.
    """

    certificate: x509.Certificate
    key: PrivateKey
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def cert_pem(self) -> bytes:
        return _pem(self.certificate)

    @property
    def chain_pem(self) -> bytes:
        """The certificate and those between it and the root."""
        return b"".join(map(_pem, (self.certificate, *self.issuers)))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo: what a pin is the SHA-256 of."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def write(self, folder: str, name: str = "site.pem") -> str:
        """One file with chain and key. @return: its path."""
        return _write(os.path.join(folder, name), self.chain_pem + self.key_pem)

    def write_pair(self, folder: str, name: str = "site") -> tuple[str, str]:
        """C{NAME.crt} and C{NAME.key}. @return: their paths."""
        base = os.path.join(folder, name)
        return _write(base + ".crt", self.chain_pem), _write(base + ".key", self.key_pem)


class Authority:
    """A certificate authority, self-signed, or (C{parent}) an intermediate one."""

    def __init__(self, name: str = "Test Authority", key: str = "ecdsa", parent: Authority | None = None) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        # Names are what tells authorities apart in a chain; one key for all of a name and kind would hide mistakes.
        self.key = make_key(key)
        self.parent = parent
        now = datetime.now(UTC)
        signer = parent or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=365))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def cert_pem(self) -> bytes:
        return _pem(self.certificate)

    def write(self, folder: str, name: str = "ca.pem") -> str:
        """What a peer trusts. @return: its path."""
        return _write(os.path.join(folder, name), self.cert_pem)

    def issue(
        self,
        names: Sequence[str],
        key: str = "ecdsa",
        *,
        days: float = 90,
        started: float = 1,
        subject: str | x509.Name | None = None,
        client: bool = False,
        fresh_key: bool = False,
        must_staple: bool = False,
        digest: hashes.HashAlgorithm | None = None,
    ) -> Issued:
        """
        @param names: DNS names and addresses, for the SAN; may be empty.
        @param key: see L{make_key}.
        @param days: how long it is valid from now; negative: expired.
        @param started: how many days ago it became valid; negative: not yet valid.
        @param subject: common name or whole name; the first of C{names} else.
        @param client: for a client.
        """
        private = make_key(key) if fresh_key else _shared_key(key, 1)
        if not isinstance(subject, x509.Name):
            common = subject or (names[0] if names else "nameless")
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        now = datetime.now(UTC)
        begin = now - timedelta(days=max(started, 1 - days) if days <= 0 else started)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_general, names)), critical=False)
        if must_staple:
            builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        certificate = builder.sign(self.key, digest or hashes.SHA256())
        issuers = []
        authority = self
        while authority.parent is not None:
            issuers.append(authority.certificate)
            authority = authority.parent
        return Issued(certificate, private, tuple(issuers))

    def expired(self, names: Sequence[str], key: str = "ecdsa", client: bool = False) -> Issued:
        """One that ended yesterday."""
        return self.issue(names, key, days=-1, started=30, client=client)

    def revocations(self, revoked: Iterable[Issued] = (), days: float = 30) -> bytes:
        """A CRL in PEM."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now - timedelta(days=max(1, 1 - days)))
            .next_update(now + timedelta(days=days))
        )
        for issued in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(issued.serial)
                .revocation_date(now - timedelta(hours=1))
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def write_revocations(self, folder: str, revoked: Iterable[Issued] = (), name: str = "crl.pem") -> str:
        """@return: the path of the CRL."""
        return _write(os.path.join(folder, name), self.revocations(revoked))

    def staple(self, issued: Issued, days: float = 7, revoked: bool = False) -> bytes:
        """
        An OCSP response about C{issued}, in DER.

        @param days: until its next update; negative: it is stale.
        """
        now = datetime.now(UTC)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=issued.certificate,
                issuer=self.certificate,
                algorithm=hashes.SHA1(),
                cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
                this_update=now - timedelta(days=max(1, 1 - days)),
                next_update=now + timedelta(days=days),
                revocation_time=now - timedelta(hours=1) if revoked else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def self_signed(names: Sequence[str], key: str = "ecdsa", days: float = 90) -> Issued:
    """A leaf that no authority vouches for."""
    private = _shared_key(key, 1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(map(_general, names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    return Issued(certificate, private)
