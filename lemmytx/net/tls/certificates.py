"""
Certificates as they lie on the disk.

A path of the configuration is a PEM file or a folder. In a file: the certificate, those of its issuers, and, there or
in a file beside it, the key. Beside C{NAME.pem}, C{NAME.crt} and the like that is C{NAME.key} or C{NAME-key.pem}. In a
folder all such files count, and in the folders right below it too; where there are C{fullchain.pem} and C{privkey.pem},
as certbot has them, only these. Authorities' certificates without a key may lie about.

What was read is held as a whole, key and all: so OpenSSL gets the very bytes that were looked at, and what was good
can be used on when the file has changed to something that is not.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import NamedTemporaryFile

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from lemmytx.net.tls.reasons import explain

#: Ends of the names of files that may hold certificates, in folders.
_ENDS = (".pem", ".crt", ".cer", ".cert")

#: No certificate and no key is as large as this, bytes.
_LARGEST = 1 << 20


#: By path: time, size and number of a file; L{None} where there is none.
State = dict[str, tuple[int, int, int] | None]


class Unusable(Exception):
    """A file cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    One certificate with its key.

    @ivar path: the file it stands in.
    @ivar names: for which names it is, in lower case; C{*.} at the beginning of some; addresses among them.
    @ivar kind: of its key: C{ecdsa}, C{rsa}, C{ed25519} …
    @ivar not_before: when it begins to be valid, Unix time; C{not_after}: when it ends.
    @ivar pem: chain and key.
    @ivar seen: L{state} of its files when they were read.
    """

    path: str
    names: tuple[str, ...]
    kind: str
    serial: int
    not_before: float
    not_after: float
    fingerprint: bytes
    pem: bytes = field(repr=False)
    seen: State = field(repr=False, compare=False)

    def valid(self, now: float) -> bool:
        """Whether it is neither expired nor of the future."""
        return self.not_before <= now < self.not_after


def read(path: str) -> bytes:
    """@raise Unusable: it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise Unusable(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise Unusable(f"{path}: is larger than any certificate")
    return data


def _has_key(data: bytes) -> bool:
    return b"PRIVATE KEY-----" in data


def _has_certificate(data: bytes) -> bool:
    return b"-----BEGIN CERTIFICATE-----" in data or b"-----BEGIN TRUSTED CERTIFICATE-----" in data


def _keys_beside(path: str) -> list[str]:
    """Where the key of a certificate may be, if it is not in the same file."""
    folder, name = os.path.split(path)
    stem, _ = os.path.splitext(name)
    names = [f"{stem}.key", f"{name}.key", f"{stem}-key.pem"]
    if stem == "fullchain":
        names.insert(0, "privkey.pem")
    return [os.path.join(folder, name) for name in names]


def load(path: str) -> Certificate:
    """
    Read one certificate and its key.

    @param path: of the file with the certificate.
    @raise Unusable: it is not one that can be used.
    """
    seen = state([path])  # before it is read: what changes meanwhile is seen as a change next time
    data = read(path)
    if not _has_certificate(data):
        if _has_key(data):
            raise Unusable(f"{path}: holds a key alone; name the certificate, and its key is found beside it")
        raise Unusable(f"{path}: holds no certificate in PEM")
    try:
        leaf = x509.load_pem_x509_certificates(data)[0]
        found = _names(leaf)
    except ValueError as error:
        raise Unusable(f"{path}: holds something that is no certificate: {error}") from error
    if not _has_key(data):
        beside = _keys_beside(path)
        key = next((candidate for candidate in beside if os.path.exists(candidate)), None)
        if key is None:
            raise Unusable(f"{path}: there is no key, neither in it nor in {os.path.basename(beside[0])}")
        more = read(key)
        if not _has_key(more):
            raise Unusable(f"{key}: holds no private key in PEM")
        data = data.rstrip() + b"\n" + more
    if b"ENCRYPTED" in data:
        raise Unusable(f"{path}: its key is encrypted; there is nobody who could be asked for the password")
    public = leaf.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        kind = "rsa"
    elif isinstance(public, ec.EllipticCurvePublicKey):
        kind = "ecdsa"
    else:
        kind = type(public).__name__.removesuffix("PublicKey").lower()
    certificate = Certificate(
        path,
        found,
        kind,
        leaf.serial_number,
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        leaf.fingerprint(SHA256()),
        data,
        seen,
    )
    give(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate)
    return certificate


def give(context: ssl.SSLContext, certificate: Certificate) -> None:
    """
    Load it into a context.

    @raise Unusable: OpenSSL does not take it.
    """
    try:
        with as_file(certificate.pem) as path:
            context.load_cert_chain(path, password=lambda: b"")
    except ssl.SSLError as error:
        raise Unusable(f"{certificate.path}: {explain(error)}") from error
    except OSError as error:
        raise Unusable(f"{certificate.path}: cannot be given to OpenSSL: {error.strerror}") from error


@contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """C{ssl} reads some things from nothing but files. This one is in memory, where there is such a thing."""
    try:
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        descriptor = -1
    if descriptor >= 0:
        with open(descriptor, "wb") as file:
            path = f"/proc/self/fd/{descriptor}"
            if os.path.exists(path):
                file.write(data)
                file.flush()
                yield path
                return
    with NamedTemporaryFile(prefix="lemmytx-") as file:  # for us alone (0600)
        file.write(data)
        file.flush()
        yield file.name


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """Without a SAN the common name counts, as in old certificates of one's own."""
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common[:1])
    names = [name.lower().removesuffix(".") for name in alternative.get_values_for_type(x509.DNSName)]
    return (*names, *map(str, alternative.get_values_for_type(x509.IPAddress)))


def _is_authority(path: str) -> bool:
    """Whether the first certificate in a file is that of an authority."""
    try:
        leaf = x509.load_pem_x509_certificates(read(path))[0]
        return leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (Unusable, ValueError, x509.ExtensionNotFound):
        return False


def find(path: str) -> list[str]:
    """
    The files with certificates that a path of the configuration means, in the order of their names.

    @raise Unusable: there is nothing, or it cannot be looked at.
    """
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise Unusable(f"{path}: there is no such file or folder")
        return [path]
    found = [*_in_folder(path)]
    try:
        below = sorted(entry.path for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise Unusable(f"{path}: cannot be read: {error.strerror}") from error
    for folder in below:
        found.extend(_in_folder(folder))
    if not found:
        raise Unusable(f"{path}: holds no certificate (files {', '.join(_ENDS)}, here or one folder below)")
    return found


def _in_folder(folder: str) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_ENDS) and not name.startswith("."))
    except OSError as error:
        raise Unusable(f"{folder}: cannot be read: {error.strerror}") from error
    if "fullchain.pem" in names and "privkey.pem" in names:
        return [os.path.join(folder, "fullchain.pem")]
    found = []
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            continue
        data = read(path)
        if not _has_certificate(data):
            continue  # a key, or parameters
        if not _has_key(data) and not any(map(os.path.exists, _keys_beside(path))) and _is_authority(path):
            continue
        found.append(path)
    return found


def state(paths: Iterable[str]) -> State:
    """
    What tells whether files have changed: for each path, and for all in and one below those that are folders, its time,
    size and number; L{None} if it is not there.
    """
    seen: State = {}

    def look(path: str, deeper: int) -> None:
        try:
            status = os.stat(path)
            seen[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
            if deeper and os.path.isdir(path):
                for name in os.listdir(path):
                    if not name.startswith("."):
                        look(os.path.join(path, name), deeper - 1)
        except OSError:
            seen[path] = None

    for path in paths:
        look(path, 2)
        if not os.path.isdir(path):
            for beside in _keys_beside(path):
                look(beside, 0)
    return seen


def load_all(paths: Sequence[str], old: Sequence[Certificate] = ()) -> tuple[list[Certificate], list[str]]:
    """
    Read everything that the configuration names.

    @param old: what was there before: it stays where what is there now cannot be used.
    @return: the certificates in the order of the paths, and what is wrong, one line each.
    """
    loaded: dict[str, Certificate] = {}
    problems: list[str] = []
    before = {certificate.path: certificate for certificate in old}
    for path in paths:
        try:
            files = find(path)
        except Unusable as error:
            problems.append(str(error))
            # A folder that cannot be read is no reason to forget what was in it.
            files = [name for name in before if name == path or name.startswith(os.path.join(path, ""))]
            loaded.update((name, before[name]) for name in files)
            continue
        for file in files:
            if file in loaded:
                continue
            known = before.get(file)
            if known is not None and known.seen == state([file]):
                loaded[file] = known
                continue
            try:
                loaded[file] = load(file)
            except Unusable as error:
                problems.append(str(error))
                if file in before:
                    loaded[file] = before[file]
    return list(loaded.values()), problems
