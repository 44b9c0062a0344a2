"""
What a client's certificate says, for the backend: in the fields that Traefik's C{passTLSClientCert} has.

    X-Forwarded-Tls-Client-Cert        the certificate: base64 of its DER
    X-Forwarded-Tls-Client-Cert-Info   Subject="…";Issuer="…";SerialNumber="…";NB="…";NA="…";SAN="…"

Both are percent-encoded as a whole, so nothing in a certificate can end a field or begin another. Inside, names are in
the form of RFC 4514 (the common name first), without quotation marks and semicolons, which are written as C{\\22} and
C{\\3B}: whoever looks for C{Issuer="} finds ours. NB and NA (when it begins and ends to be valid) are Unix times.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

from cryptography import x509

from lemmytx.net.tls.connection import Tls

#: What a name of a host or a person may consist of; the SAN can hold anything.
_SOUND = re.compile(r"[A-Za-z0-9.*_@:+/-]{1,255}\Z")


def client_fields(tls: Tls) -> bytes:
    """
    Called once per connection.

    @return: lines with their CRLF; empty if the client has shown no certificate.
    """
    der = tls.peer_der
    return b"" if der is None else fields(der)


def fields(der: bytes) -> bytes:
    """The lines for a certificate that was verified."""
    lines = b"X-Forwarded-Tls-Client-Cert: %b\r\n" % quote(base64.b64encode(der), safe="").encode()
    try:
        told = _info(x509.load_der_x509_certificate(der))
    except ValueError:
        # Good enough for OpenSSL. The backend has it, and nothing is said of it that may not be so.
        return lines
    return lines + b"X-Forwarded-Tls-Client-Cert-Info: %b\r\n" % quote(told, safe="").encode()


def _info(certificate: x509.Certificate) -> str:
    parts = {
        "Subject": _name(certificate.subject),
        "Issuer": _name(certificate.issuer),
        "SerialNumber": str(certificate.serial_number),
        "NB": str(int(certificate.not_valid_before_utc.timestamp())),
        "NA": str(int(certificate.not_valid_after_utc.timestamp())),
        "SAN": ",".join(name for name in _alternatives(certificate) if _SOUND.match(name)),
    }
    return ";".join(f'{key}="{value}"' for key, value in parts.items() if value)


def _name(name: x509.Name) -> str:
    return name.rfc4514_string().replace('\\"', "\\22").replace("\\;", "\\3B")


def _alternatives(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
    ]
