"""
TLS towards backends: whom a cluster believes, what it shows of itself, and which words a failure gets.

A backend has to show a certificate that an authority vouches for and that is valid for its name, and with C{pin} one
whose key is known, on a resumed session too. Only C{verify: false} takes the first two away; then anybody on the way
can be the backend, so it is told at the start.

Everything is verified by OpenSSL inside of the handshake, before a byte of a request is out; only the pin is looked at
right after it, since there is no other place for it.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from twisted.logger import Logger

from lemmytx.model import BackendTls

log = Logger(namespace="lemmytx.tls")

#: What is offered (ALPN, RFC 7301), by what is spoken.
ALPN = {"https": ["http/1.1"], "h2": ["h2"]}

#: Seconds between two lines about one backend.
TOLD_AGAIN = 10.0

#: How many names of a certificate stand in a message.
_NAMES = 4

#: What C{X509_V_ERR_…} mean to somebody who has to do something about it.
_VERDICTS = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    12: "the revocation list for its certificate has expired",
    3: "there is no revocation list of the authority of its certificate",
    18: "its certificate is self-signed",
    19: "its certificate is from an authority that is not believed",
    20: "its certificate is from an authority that is not believed, or it does not send the ones in between",
    21: "its certificate is from an authority that is not believed, or it does not send the ones in between",
    23: "its certificate has been revoked",
    26: "its certificate is not for a server",
    66: "the key of its certificate is too weak",
    67: "the key of its certificate's authority is too weak",
    68: "its certificate is signed with an algorithm that is too weak",
}

#: What OpenSSL calls the other ways in which a handshake fails.
_REASONS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS (is it plain HTTP?)",
    "HTTP_REQUEST": "it does not speak TLS (is it plain HTTP?)",
    "RECORD_LAYER_FAILURE": "it does not speak TLS (is it plain HTTP?)",
    "PACKET_LENGTH_TOO_LONG": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks no version of TLS that is allowed here (minimum_version)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it refuses the versions of TLS that are allowed here (minimum_version)",
    "NO_PROTOCOLS_AVAILABLE": "it speaks no version of TLS that is allowed here (minimum_version)",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "it does not speak the protocol that it was asked for (ALPN)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the handshake: no cipher in common, or it wants a certificate of ours",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of ours",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not believe the authority of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refused our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that our certificate has been revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refused our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it refused our certificate",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know the name that it was asked for (SNI)",
    "DH_KEY_TOO_SMALL": "its Diffie-Hellman parameters are too weak",
    "BAD_SIGNATURE": "it could not prove that the certificate is its own",
}


class ClientTls:
    """
    How a cluster speaks TLS to its backends. Made once from the settings, and asked for each new connection.

    A session of each backend is kept and offered for the next connections: a resumed handshake needs no signature.
    """

    def __init__(self, settings: BackendTls, protocols: Iterable[str] = ("https",)) -> None:
        """
        @param settings: their paths as they are to be opened.
        @param protocols: what is going to be spoken: C{https}, C{h2}.
        @raise ValueError: when a file cannot be used; with a text for the user.
        """
        self._settings = settings
        self._pins = frozenset(settings.pin)
        self._contexts = {protocol: _context(settings, ALPN[protocol]) for protocol in dict.fromkeys(protocols)}
        self._read = _contents(settings)
        #: By backend, and what is spoken there. A session serves for as long as the backend takes it: asking OpenSSL
        #: for one costs as much as it saves, 160 µs.
        self._sessions: dict[tuple[str, str], ssl.SSLSession] = {}
        #: Connections with sessions that are not known yet. They are only complete after a while (in TLS 1.3 the
        #: tickets come after the handshake), so they are asked for when the next connection is made.
        self._fresh: dict[tuple[str, str], Any] = {}
        self._told: dict[str, tuple[str, float]] = {}

    def context(self, protocol: str) -> ssl.SSLContext:
        """
        What a connection is made with.

        @param protocol: one of those that were named in the beginning.
        """
        return self._contexts[protocol]

    def name(self, host: str) -> str | None:
        """
        Whom the certificate has to be for, and what is asked for by SNI.

        @param host: of the backend's URL; empty for a unix socket.
        @return: L{None}: nobody in particular, which is so only without verification.
        """
        return self._settings.name or host or None

    def session(self, protocol: str, where: str) -> ssl.SSLSession | None:
        """
        What the next connection may resume.

        @param where: the backend, as in L{established}.
        """
        key = protocol, where
        session: ssl.SSLSession | None = self._sessions.get(key)
        if session is not None:
            return session
        fresh = self._fresh.get(key)
        if fresh is None:
            return None
        if fresh.object.context is not self._contexts[protocol]:
            del self._fresh[key]  # from before a reload
            return None
        session = fresh.session
        if session is None or not (session.has_ticket or session.id):
            return None
        self._sessions[key] = session
        del self._fresh[key]
        return session

    def refusal(self, connection: Any, protocol: str) -> str | None:
        """
        Called after each handshake that succeeded.

        @param connection: it has C{peer_der} and C{negotiated}.
        @return: why it must not be used all the same, as half a sentence about the backend.
        """
        if protocol == "h2" and connection.negotiated != b"h2":
            return "it does not speak HTTP/2 (ALPN)"
        if self._pins:
            found = pin_of(connection.peer_der)
            if found not in self._pins:
                return f"its key is none of those that are pinned; its pin is {found}"
        return None

    def established(self, connection: Any, protocol: str, where: str) -> None:
        """
        A connection is in use from now on.

        @param connection: it has C{resumed}, C{object} and C{session}, and goes on to have them when it is closed.
        @param where: the backend, in a form that is another one for each.
        """
        if not connection.resumed:
            self._sessions.pop((protocol, where), None)
            self._fresh[protocol, where] = connection
        self._told.pop(where, None)

    def news(self, where: str, why: str, now: float) -> bool:
        """
        A connection could not be secured.

        @param now: seconds on a clock that never goes back.
        @return: whether that should be told: the first time, and when the reason is another one than was told last,
            though not twice within L{TOLD_AGAIN}: part of the reason is what the other side says of itself.
        """
        told, at = self._told.get(where, ("", -inf))
        if why == told or now - at < TOLD_AGAIN:
            return False
        self._told[where] = why, now
        return True

    def reload(self) -> None:
        """
        Read the files again. The next connections go by them, the present ones are left. When one of the files cannot
        be used, all stays as it was, and the log says so.
        """
        settings = self._settings
        try:
            content = _contents(settings)
            if content == self._read and not (settings.verify and settings.ca is None):
                return  # sessions go on to be resumed
            self._contexts = {protocol: _context(settings, ALPN[protocol]) for protocol in self._contexts}
        except (OSError, ValueError) as error:
            log.error("TLS towards backends: {why}; what was read before stays", why=str(error))
            return
        self._sessions.clear()
        self._read = content

    def warnings(self) -> list[str]:
        """What should be said at the start, about the cluster."""
        if self._settings.verify:
            return []
        if self._pins:
            return ["tls.verify is false: backends' certificates are not verified beyond the pinned keys"]
        return [
            "tls.verify is false: backends' certificates are not verified, so whoever is on the way to them can read"
            " and change everything; write tls.ca or tls.pin instead"
        ]


def _contents(settings: BackendTls) -> list[bytes]:
    """What stands in the files that are used."""
    found = []
    for path in (settings.ca if settings.verify else None, settings.certificate, settings.key):
        if path is not None:
            with open(path, "rb") as file:
                found.append(file.read())
    return found


def _context(settings: BackendTls, offered: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.minimum_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Names in the common name have been out of use for 20 years (RFC 9525 §2).
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(offered)
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _believe(context, settings.ca)
    if settings.certificate is not None:
        _show(context, settings.certificate, settings.key)
    return context


def _believe(context: ssl.SSLContext, path: str) -> None:
    """Whom to believe: the certificates of a file, be they roots or not; and who is revoked, where it says so."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError(f"tls.ca: there is no certificate in {path!r}; it has to be in PEM") from None
    except OSError as error:
        raise ValueError(f"tls.ca: {path!r} cannot be read: {error.strerror or error}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if b"-----BEGIN X509 CRL-----" in content:
        # OpenSSL has read it together with the certificates, but looks at it only when told to.
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


class _Locked(Exception):
    """The key is encrypted. Without this OpenSSL would ask on the terminal."""


def _no_password() -> str:
    raise _Locked


def _show(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    which = f"{certificate!r}" if key is None else f"{certificate!r} with the key {key!r}"
    try:
        context.load_cert_chain(certificate, key, _no_password)
    except _Locked:
        raise ValueError(f"tls.certificate: the key of {which} is encrypted; write it without a password") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"tls.certificate: {which}: the key is another certificate's") from None
        raise ValueError(
            f"tls.certificate: {which}: no certificate and key in PEM ({error.reason or 'one of them is missing'})"
        ) from None
    except OSError as error:
        raise ValueError(f"tls.certificate: {which} cannot be read: {error.strerror or error}") from None


def pin_of(der: bytes | None) -> str:
    """
    The pin of a certificate's public key: base64 of its SHA-256 (RFC 7469 §2.4); empty when there is no certificate.

    @param der: the certificate.
    """
    if der is None:
        return ""
    # Loaded only where there are pins: 10 MB of memory.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(der).public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode("ascii")


def explained(error: Exception, name: str | None = None, connection: Any = None) -> str:
    """
    Why a handshake with a backend failed, as half a sentence about the backend.

    @param error: what OpenSSL raised.
    @param name: whom the certificate had to be for.
    @param connection: the L{ssl.SSLObject}, for what the certificate says.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        shown = _certificate(connection)
        if error.verify_code in (62, 64):
            if not shown:
                return f"its certificate is not for {name}"
            names = ", ".join(kind_and_name[1] for kind_and_name in shown.get("subjectAltName", ())[:_NAMES])
            more = ", …" if len(shown.get("subjectAltName", ())) > _NAMES else ""
            return f"its certificate is for {_printable(names) or 'no name at all'}{more}, not for {name}"
        verdict = _VERDICTS.get(error.verify_code, f"its certificate cannot be verified: {error.verify_message}")
        if error.verify_code == 10 and _ended(shown):
            verdict += f", on {_printable(shown['notAfter'])}"
        elif error.verify_code == 9 and "notBefore" in shown:
            verdict += f", not before {_printable(shown['notBefore'])}"
        return verdict
    if isinstance(error, ssl.SSLError):
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return "it ended the connection in the handshake"
        reason = getattr(error, "reason", None) or "unknown error"
        return _REASONS.get(reason, f"the handshake failed: {reason.lower().replace('_', ' ')}")
    return f"the handshake failed: {error}"


def _ended(shown: Mapping[str, Any]) -> bool:
    """Whether it is this certificate that has expired; it could be one that it was issued with."""
    return "notAfter" in shown and ssl.cert_time_to_seconds(shown["notAfter"]) < time.time()


def _certificate(connection: Any) -> Mapping[str, Any]:
    """
    The certificate that a backend has shown, though it was refused; empty where it cannot be had. Python has a public
    name for this from 3.13 on, and there without the certificate taken apart.
    """
    chain: list[Any] = getattr(getattr(connection, "_sslobj", None), "get_unverified_chain", list)() or []
    if not chain:
        return {}
    try:
        shown: Mapping[str, Any] = chain[0].get_info()
    except (ValueError, ssl.SSLError):  # what is in it is the other side's
        return {}
    return shown


def _printable(text: str) -> str:
    """Fit for a line of the log: what it says comes from somebody who is not believed."""
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in str(text))[:200]
